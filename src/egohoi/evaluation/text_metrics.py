"""BLEU, ROUGE-L, METEOR and CIDEr of sentences, over a corpus and for each item, computed by NLTK and `pycocoevalcap`.

A candidate is a text, its references are one or more texts. How a text becomes words decides the number, so every function takes
`words`, one of `text_tokens`; the defaults are the usual ones: the tokens of COCO captions, and NLTK's own for METEOR, whose
synonyms come from WordNet (`wordnet.install`). Nothing here runs Java.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from egohoi.errors import need
from egohoi.evaluation import text_tokens, wordnet

#: Cuts a text into words.
Words = Callable[[str], list[str]]


@dataclass(frozen=True)
class TextScore:
    """corpus: the score of the whole set, as published ones are given. items: the score of each candidate, in their order.

    All in 0..1, except CIDEr, whose scale ends at 10. `corpus` is the mean of `items`, except for BLEU, which counts over the set.
    """

    corpus: float
    items: tuple[float, ...]


def bleu(
    candidates: Sequence[str], references: Sequence[Sequence[str]], *, words: Words = text_tokens.ptb, counts: Sequence[int] | None = None
) -> tuple[TextScore, ...]:
    """BLEU-1, -2, -3 and -4 (Papineni et al. 2002) with the closest reference length, as COCO captions are scored.

    counts: how many items of the set each candidate with its references stands for (default: one). Raises ValueError if there is no candidate, or none or another number of references; MissingExtra without the extra `eval`.
    """
    said, wanted = _joined(candidates, references, words)
    scorer = need("pycocoevalcap.bleu.bleu_scorer", "eval").BleuScorer(n=4)
    for k, (text,) in said.items():
        scorer += (text, wanted[k])
    corpus, items = scorer.compute_score(option="closest")
    if counts is not None:  # the score of a set is made of sums over it
        scorer.ctest = [{key: [c * v for v in value] if isinstance(value, list) else c * value for key, value in one.items()} for one, c in zip(scorer.ctest, counts)]
        corpus, _ = scorer.recompute_score(option="closest")
    return tuple(TextScore(float(c), tuple(map(float, i))) for c, i in zip(corpus, items))


def rouge_l(candidates: Sequence[str], references: Sequence[Sequence[str]], *, words: Words = text_tokens.ptb) -> TextScore:
    """ROUGE-L (Lin 2004) with beta 1.2. An empty text counts as one word that only another empty text shares. Raises as `bleu`."""
    said, wanted = _joined(candidates, references, words)
    corpus, items = need("pycocoevalcap.rouge.rouge", "eval").Rouge().compute_score(wanted, said)
    return TextScore(float(corpus), tuple(map(float, items)))


def cider(
    candidates: Sequence[str], references: Sequence[Sequence[str]], *, words: Words = text_tokens.ptb, counts: Sequence[int] | None = None
) -> TextScore:
    """CIDEr-D (Vedantam et al. 2015), sigma 6, n-grams of 1 to 4 words weighted by how many items' references hold them.

    The weights come from the given references: the score of an item depends on the others, and one item alone, or one whose
    references hold no word, scores 0. counts: as in `bleu`. Raises as `bleu`.
    """
    said, wanted = _joined(candidates, references, words)
    cider = need("pycocoevalcap.cider.cider_scorer", "eval")
    if not any(r for group in wanted.values() for r in group):  # no n-gram to weigh, at which the library stops
        return TextScore(0.0, (0.0,) * len(said))
    scorer = cider.CiderScorer() if counts is None else _counted(cider, counts)
    for k, (text,) in said.items():
        scorer += (text, wanted[k])
    corpus, items = scorer.compute_score()
    return TextScore(float(corpus) if counts is None else float(np.average(items, weights=counts)), tuple(map(float, items)))


def _counted(cider, counts: Sequence[int]):
    """The library's scorer for items that stand for several: words are weighed as if each came that often."""

    total = np.log(float(sum(counts)))

    class Counted(cider.CiderScorer):
        ref_len = property(lambda self: total, lambda self, _: None)  # the library sets it to the number of different items

        def compute_doc_freq(self):
            for refs, count in zip(self.crefs, counts):
                for ngram in {ngram for ref in refs for ngram in ref}:
                    self.document_frequency[ngram] += int(count)

        def compute_score(self):
            self.compute_doc_freq()
            return None, np.array(self.compute_cider())

    return Counted()


def meteor(candidates: Sequence[str], references: Sequence[Sequence[str]], *, words: Words = text_tokens.treebank) -> TextScore:
    """METEOR (Lavie & Agarwal 2007: alpha 0.9, beta 3, gamma 0.5) as NLTK computes it, the best of the references; corpus: the mean.

    Words are compared in lower case: equal, then of one Porter stem, then synonyms in WordNet 3.0. This is not the Java program
    METEOR 1.5, whose paraphrases and weights give other numbers. Raises as `bleu`, and BadData without the word data.
    """
    _check(candidates, references)
    score = need("nltk.translate.meteor_score", "eval").meteor_score
    stemmer, cut = _Stems(), functools.lru_cache(maxsize=100_000)(words)
    known = {stemmer.stem(w.lower()) for rs in references for r in rs for w in cut(r)}
    synonyms = _Synonyms(wordnet.corpus(), known)
    found = [score([cut(r) for r in rs], cut(c), stemmer=stemmer, wordnet=synonyms) for c, rs in zip(candidates, references)]
    return TextScore(sum(found) / len(found), tuple(map(float, found)))


class _Stems:
    """Porter's stemmer, which remembers words: a data set repeats few of them."""

    def __init__(self):
        self.stem = functools.lru_cache(maxsize=100_000)(need("nltk.stem.porter", "eval").PorterStemmer().stem)


class _Synonyms:
    """WordNet as NLTK's METEOR asks it, which remembers words: all names of all their meanings, each once, as one synset.

    known: the stems of the references. Only names among them can match, because NLTK compares them with what stemming left over.
    """

    def __init__(self, corpus, known: set[str]):
        def synsets(word: str) -> list[_Meanings]:
            names = dict.fromkeys(lemma.name() for synset in corpus.synsets(word) for lemma in synset.lemmas())
            return [_Meanings([_Name(name) for name in names if name in known and "_" not in name])]  # METEOR skips names of several words

        self.synsets = functools.lru_cache(maxsize=100_000)(synsets)


class _Meanings:
    def __init__(self, names):
        self._names = names

    def lemmas(self):
        return self._names


class _Name:
    def __init__(self, name: str):
        self._name = name

    def name(self) -> str:
        return self._name


def _check(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> None:
    if isinstance(candidates, str) or not len(candidates) or len(candidates) != len(references):
        raise ValueError(f"expected at least one candidate and as many lists of references, got {len(candidates)} and {len(references)}")
    for k, group in enumerate(references):
        if isinstance(group, str) or not len(group):
            raise ValueError(f"references of candidate {k}: expected a list of at least one text, got {group!r:.60}")


def _joined(candidates, references, words: Words) -> tuple[dict[int, list[str]], dict[int, list[str]]]:
    """Both sides as the library wants them: index -> texts whose words are joined by one space."""
    _check(candidates, references)
    said = {k: [" ".join(words(c))] for k, c in enumerate(candidates)}
    return said, {k: [" ".join(words(r)) for r in group] for k, group in enumerate(references)}
