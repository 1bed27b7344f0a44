"""BLEU, ROUGE-L, METEOR and CIDEr: by hand, and equal to the libraries called as their users call them."""

import math
import random

import pytest

from egohoi.errors import BadData
from egohoi.evaluation import text_metrics, text_tokens, wordnet

pytest.importorskip("pycocoevalcap")
pytest.importorskip("punkt")
needs_words = pytest.mark.skipif(not wordnet.available(), reason="the word data is not installed: egohoi assets")

WORDS = (
    "the a left right hand hands holds holding held is cup mug cups knife knives cutting board picks takes up person's bottle opens opening"
    " closes drawer with and on table . , (maybe) Mr. isn't no object 2 The trash toy car"
).split()  # fmt: skip


def corpus(seed: int, count: int = 60):
    r = random.Random(seed)

    def sentence(low):
        return " ".join(r.choice(WORDS) for _ in range(r.randint(low, 14)))

    return [sentence(0) for _ in range(count)], [[sentence(1) for _ in range(r.randint(1, 3))] for _ in range(count)]


def test_bleu_by_hand():
    # Words in both: the, hand, the, cup of 5 said; pairs: "the left"... only "left hand", "the cup" and "the left" of 4.
    one, two, three, four = text_metrics.bleu(["The left hand takes the cup."], [["the left hand holds the cup"]])
    assert one.corpus == pytest.approx(5 / 6)
    assert two.corpus == pytest.approx(math.sqrt(5 / 6 * 3 / 5))  # the left, left hand, the cup of 5 pairs
    assert three.corpus == pytest.approx((5 / 6 * 3 / 5 * 1 / 4) ** (1 / 3))  # the left hand of 4 triples
    assert four.corpus < 1e-3 and four.items == pytest.approx((four.corpus,))


def test_bleu_counts_over_the_set_with_a_brevity_penalty():
    one = text_metrics.bleu(["a cup", "x"], [["a cup of tea"], ["a b"]])[0]
    assert one.corpus == pytest.approx(2 / 3 * math.exp(1 - 6 / 3))
    assert one.items == pytest.approx((math.exp(1 - 4 / 2), 0.0))


def test_rouge_l_by_hand():
    # The longest common subsequence, "the left hand the cup", has 5 of the 6 words said and 5 of 7 wanted.
    p, r = 5 / 6, 5 / 7
    expected = (1 + 1.2**2) * p * r / (r + 1.2**2 * p)
    score = text_metrics.rouge_l(["the left hand takes the cup", "mug"], [["the left hand now holds the cup"], ["cup"]])
    assert score.items == pytest.approx((expected, 0.0)) and score.corpus == pytest.approx(expected / 2)


def test_cider_by_hand():
    # Each word and pair stands in the references of one of two items, so all weigh log 2 alike. Item 1 is right in the words and the
    # pair and has no longer n-grams: (1 + 1 + 0 + 0) / 4 * 10. Item 2 has one of two words: 1 / 2; no pair. Lengths (counted in
    # pairs by the library) are equal, so there is no penalty.
    score = text_metrics.cider(["red cup", "old pan"], [["red cup"], ["old knife"]])
    assert score.items == pytest.approx((5.0, 0.5 / 4 * 10)) and score.corpus == pytest.approx((5 + 1.25) / 2)


def test_cider_of_one_item_or_of_no_words_is_zero():
    assert text_metrics.cider(["red cup"], [["red cup"]]) == text_metrics.TextScore(0.0, (0.0,))
    assert text_metrics.cider(["cup", ""], [[""], ["."]]).items == (0.0, 0.0)


@needs_words
def test_meteor_by_hand():
    # "cup" and "mug" are no synonyms in WordNet; "car" and "auto" are; "opens" and "opening" have one stem.
    score = text_metrics.meteor(
        ["the left hand", "the cup", "an auto", "opens it", ""], [["the left hand"], ["the mug"], ["an car"], ["opening it"], ["cup"]]
    )
    whole = 1 - 0.5 * (1 / 3) ** 3
    pair = 1 - 0.5 * (1 / 2) ** 3
    half = 0.5 * (1 - 0.5 * 1**3)
    assert score.items == pytest.approx((whole, half, pair, pair, 0.0))
    assert score.corpus == pytest.approx((whole + half + pair + pair) / 5)


@needs_words
def test_meteor_favours_recall():
    # One of one word said, one of two wanted: P 1, R 1/2, F = PR / (0.9 P + 0.1 R); and the other way round.
    short, long = text_metrics.meteor(["cup", "red cup"], [["red cup"], ["cup"]]).items
    assert short == pytest.approx(0.5 / 0.95 * 0.5) and long == pytest.approx(0.5 / 0.55 * (1 - 0.5))


@pytest.mark.parametrize("seed", range(4))
def test_equal_to_pycocoevalcap(seed):
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    said, wanted = corpus(seed)
    for words in (text_tokens.ptb, text_tokens.whitespace):
        res = {str(k): [" ".join(words(c))] for k, c in enumerate(said)}
        gts = {str(k): [" ".join(words(r)) for r in rs] for k, rs in enumerate(wanted)}
        for ours, theirs in ((text_metrics.cider, Cider), (text_metrics.rouge_l, Rouge)):
            mean, items = theirs().compute_score(gts, res)
            got = ours(said, wanted, words=words)
            assert got.corpus == pytest.approx(mean, abs=1e-9) and got.items == pytest.approx(list(items), abs=1e-9)
        means, lists = Bleu(4).compute_score(gts, res, verbose=0)
        got = text_metrics.bleu(said, wanted, words=words)
        assert [g.corpus for g in got] == pytest.approx(means, abs=1e-9)
        assert [x for g in got for x in g.items] == pytest.approx([x for i in lists for x in i], abs=1e-9)


def test_whitespace_words_equal_cider_of_raw_text():
    from pycocoevalcap.cider.cider import Cider

    said, wanted = corpus(9)
    _, items = Cider().compute_score({str(k): r for k, r in enumerate(wanted)}, {str(k): [c] for k, c in enumerate(said)})
    assert text_metrics.cider(said, wanted, words=text_tokens.whitespace).items == pytest.approx(list(items), abs=1e-9)


@needs_words
@pytest.mark.parametrize("seed", range(4))
def test_equal_to_nltk(seed):
    from nltk.translate.meteor_score import meteor_score

    said, wanted = corpus(seed)
    for words in (text_tokens.treebank, text_tokens.ptb):
        expected = [meteor_score([words(r) for r in rs], words(c), wordnet=wordnet.corpus()) for c, rs in zip(said, wanted)]
        got = text_metrics.meteor(said, wanted, words=words)
        assert got.items == pytest.approx(expected, abs=1e-9) and got.corpus == pytest.approx(sum(expected) / len(expected), abs=1e-9)


@pytest.mark.parametrize("said, wanted", [([], []), (["a"], []), (["a"], [[]]), (["a"], ["a"]), ("a", [["a"]])])
def test_shapes_that_do_not_fit_are_refused(said, wanted):
    with pytest.raises(ValueError, match="expected"):
        text_metrics.bleu(said, wanted)


def test_meteor_without_the_word_data_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("EGOHOI_HOME", str(tmp_path))
    with pytest.raises(BadData, match="egohoi assets"):
        text_metrics.meteor(["a"], [["a"]])
