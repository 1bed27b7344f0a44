"""Words of a sentence. The expected words of `ptb` are what Stanford's PTBTokenizer 3.4.1 printed, less what pycocoevalcap drops."""

import random
import shutil
import subprocess
import sys
from importlib import util
from pathlib import Path

import pytest

from egohoi.errors import MissingExtra
from egohoi.evaluation import text_tokens


@pytest.mark.parametrize(
    "text, words",
    [
        ("The colour of the mug's handle isn't grey.", "the colour of the mug 's handle is n't grey"),
        ("it's I'm you'd they're we've he'll shouldn't can't won't", "it 's i 'm you 'd they 're we 've he 'll should n't ca n't wo n't"),
        ("cannot gonna lemme 'tis 'twas", "can not gon na lem me 't is 't was"),
        ("o'clock dogs' toys left-hand two-handed jack-in-the-box", "o'clock dogs toys left-hand two-handed jack-in-the-box"),
        ("It is (maybe) [a] {b} <c> <MSK_0> <p>cup</p>", "it is -lrb- maybe -rrb- -lsb- a -rsb- -lcb- b -rcb- <c> <msk_0> <p> cup </p>"),
        ("\"quoted\" 'single' ``latex'' “curly” ‘single’ it’s", "quoted single latex curly single it 's"),
        ("5cm 3.5 1,000.50 1/2 10% $5 12:30 1st 1920x1080 RGB-D", "5cm 3.5 1,000.50 1/2 10 % $ 5 12:30 1st 1920x1080 rgb-d"),
        ("Mr. Smith etc. e.g. vs. no. 5 No. U.S. p.m.", "mr. smith etc. e.g. vs. no. 5 no u.s. p.m."),
        ("a/b and/or x & y AT&T a+b a*b a@b.com www.x.com", "a/b and/or x & y at&t a + b a * b a@b.com www.x.com"),
        ("-- --- - — – ... .. … wait...what", "wait what"),
        ("the left hand,the right hand.The cup ??? ?!", "the left hand the right hand.the cup ??? ?!"),
        ("café naïve 日本語 ½ 20°C ×", "café naïve 日本語 1/2 20 ° c ×"),
        ("  leading  and\ttrailing \n", "leading and trailing"),
        ("", ""),
        (" . ", ""),
    ],
)
def test_ptb_gives_the_words_of_the_java_program(text, words):
    assert text_tokens.ptb(text) == words.split()


def test_whitespace_keeps_letters_and_punctuation():
    assert text_tokens.whitespace(" The  cup.\n") == ["The", "cup."]


def test_treebank_cuts_sentences_as_nltk_does():
    pytest.importorskip("nltk")
    pytest.importorskip("punkt")
    # Only a full stop that ends a sentence is cut off; "Mr." is an abbreviation in NLTK's model of English.
    said = text_tokens.treebank("Mr. Smith doesn't hold it. He left. The U.S. \"mug\" (red).")
    assert said == "Mr. Smith does n't hold it . He left . The U.S. `` mug '' ( red ) .".split()
    assert text_tokens.treebank("") == []


def test_without_the_model_the_extra_is_named(monkeypatch):
    pytest.importorskip("nltk")
    import nltk

    monkeypatch.setitem(sys.modules, "punkt.data.english", None)  # as if it were not installed
    monkeypatch.setattr(nltk.data, "path", [])
    text_tokens._treebank.cache_clear()
    with pytest.raises(MissingExtra, match=r"egohoi\[eval\]"):
        text_tokens.treebank("a cup")
    text_tokens._treebank.cache_clear()


VOCABULARY = """the a an person person's left right hand hands holds is holding cup cutting board knife isn't doesn't can't cannot don't
    it's they're with of on table in order to Left The Hand bottle's two 2 3.5 10% left-hand two-handed pot and/or RGB-D pen, drawer,
    (maybe) [x] "quoted" 'single' <MSK> <MSK_0> <p>cup</p> {<1><2><3><4>} Mr. etc. e.g. U.S. vs. 1920x1080 1/2 5cm object_1 ; : -- -
    ... while, however, dogs' I'm we've he'd you'll won't N/A n/a None yes, What? AT&T o'clock 12:30 1,000 2021-03-04 1st gonna — $5
    & / ~ @ “curly” it’s jack-in-the-box S.A."""


@pytest.mark.skipif(shutil.which("java") is None or util.find_spec("pycocoevalcap") is None, reason="needs Java, and pycocoevalcap")
def test_ptb_equals_the_java_program_on_generated_sentences(tmp_path):
    r, parts = random.Random(0), VOCABULARY.split()
    lines = [" ".join(r.choice(parts) for _ in range(r.randint(1, 14))) + r.choice(("", ".", "?", " .")) for _ in range(3000)]
    jar = Path(next(iter(util.find_spec("pycocoevalcap").submodule_search_locations))) / "tokenizer/stanford-corenlp-3.4.1.jar"
    (tmp_path / "lines.txt").write_text("\n".join(lines), encoding="utf-8")
    command = ["java", "-Dfile.encoding=UTF-8", "-cp", jar, "edu.stanford.nlp.process.PTBTokenizer", "-preserveLines", "-lowerCase"]
    done = subprocess.run([*command, tmp_path / "lines.txt"], capture_output=True, check=True)
    said = done.stdout.decode().split("\n")[: len(lines)]
    dropped = "'' ' `` ` -LRB- -RRB- -LCB- -RCB- . ? ! , : - -- ... ;".split()  # PTBTokenizer.PUNCTUATIONS of pycocoevalcap
    different = [x for x, y in zip(lines, said, strict=True) if text_tokens.ptb(x) != [w for w in y.rstrip().split(" ") if w and w not in dropped]]
    assert different == []
