"""Noun accuracy, as three measures with names of their own, from strict to lenient.

exact      the answer is the name: the same words after lower case, without articles, possessives and punctuation
phrase     the words of the name stand in the answer, side by side and in order ("a cutting board on the table")
lemma      like phrase with words reduced to the singular, or one of the two ends in the other ("wooden planks", "plank")
synonym    lemma, or the two are synonyms in WordNet (needs the word data, see evaluation/wordnet.py)
"""

import re
from collections.abc import Callable, Sequence

_WORD = re.compile(r"[a-z0-9]+(?:'[a-z]+)?")
_SKIPPED = frozenset(("a", "an", "the", "some", "my", "your", "his", "her", "their", "its", "this", "that"))
#: English plurals that the rules below would get wrong, among names of things that hands hold.
_IRREGULAR = {
    "knives": "knife", "leaves": "leaf", "loaves": "loaf", "shelves": "shelf", "halves": "half", "scarves": "scarf",
    "children": "child", "people": "person", "men": "man", "women": "woman", "teeth": "tooth", "feet": "foot", "mice": "mouse",
    "dice": "die", "potatoes": "potato", "tomatoes": "tomato", "mangoes": "mango", "shoes": "shoe", "hoes": "hoe",
}
#: Words in -s that are no plurals, or that name one thing.
_SINGULAR = frozenset(("scissors", "pliers", "tweezers", "tongs", "glasses", "gas", "bus", "lens", "canvas", "asparagus", "octopus",
                       "hummus", "this", "chess", "series", "cactus", "citrus", "chopsticks", "trousers", "pants", "jeans"))


def words(text: str) -> list[str]:
    """Lower-case words of a text without articles and possessives."""
    return [w for w in _WORD.findall(text.lower().replace("_", " ").replace("-", " ")) if w not in _SKIPPED]


def singular(word: str) -> str:
    """The singular of a lower-case English noun, by rule; a word that is no plural comes back as it is."""
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if word in _SINGULAR or len(word) <= 3 or not word.endswith("s") or word.endswith(("ss", "us", "is")):
        return word
    if word.endswith("ies"):
        return word[:-3] + "y"
    if word.endswith(("ches", "shes", "xes", "sses", "zzes")):
        return word[:-2]
    return word[:-1]


def lemmas(text: str) -> list[str]:
    """Words of a text in the singular."""
    return [singular(w) for w in words(text)]


def contains(sentence: Sequence[str], phrase: Sequence[str]) -> bool:
    """Whether `phrase` stands in `sentence` side by side and in order; the empty phrase does not."""
    n = len(phrase)
    return n > 0 and any(list(sentence[i : i + n]) == list(phrase) for i in range(len(sentence) - n + 1))


def exact(answer: str, name: str) -> bool:
    """Whether the answer is the name and nothing else (articles and punctuation aside)."""
    wanted = words(name)
    return bool(wanted) and words(answer) == wanted


def phrase(answer: str, name: str) -> bool:
    """Whether the name stands in the answer, whole words only."""
    return contains(words(answer), words(name))


def lemma(answer: str, name: str) -> bool:
    """Whether name and answer agree in the singular: contained, or one ends in the other (its head noun with fewer words)."""
    said, wanted = lemmas(answer), lemmas(name)
    if not said or not wanted:
        return False
    return contains(said, wanted) or wanted[-len(said):] == said


def synonym(answer: str, name: str, same: Callable[[str, str], bool]) -> bool:
    """Whether `lemma` holds, or the whole phrases or their words after the first shared modifier are synonyms.

    same: whether two lower-case nouns (words joined by a space) share a meaning (`wordnet.same_noun`).
    """
    if lemma(answer, name):
        return True
    said, wanted = lemmas(answer), lemmas(name)
    if not said or not wanted:
        return False
    if same(" ".join(said), " ".join(wanted)):
        return True
    if len(said) > 1 and len(said) == len(wanted) and said[:-1] == wanted[:-1]:
        return same(said[-1], wanted[-1])
    # "silver phone" for "mobile phone's synonym": a modifier may be extra on either side.
    return any(same(" ".join(said[k:]), " ".join(wanted)) for k in range(1, len(said))) or any(
        same(" ".join(said), " ".join(wanted[k:])) for k in range(1, len(wanted))
    )


def any_of(measure: Callable[[str, str], bool], answers: Sequence[str], names: Sequence[str]) -> bool:
    """Whether any of the answers passes `measure` for any of the names."""
    return any(measure(a, n) for a in answers for n in names)
