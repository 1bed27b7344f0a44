import pytest

from egohoi.evaluation import nouns


@pytest.mark.parametrize("answer, name, exact, phrase, lemma", [
    ("cutting board", "cutting board", True, True, True),
    ("The cutting board.", "cutting board", True, True, True),
    ("a cutting board on the table", "cutting board", False, True, True),
    ("board", "cutting board", False, False, True),
    ("circuit board", "cutting board", False, False, False),
    ("knives", "knife", False, False, True),
    ("plank", "wooden planks", False, False, True),
    ("glass", "glasses", False, False, False),
    ("dishwasher", "dish", False, False, False),
    ("", "knife", False, False, False),
    ("knife", "", False, False, False),
    ("T-Shirt", "t shirt", True, True, True),
])
def test_measures_from_strict_to_lenient(answer, name, exact, phrase, lemma):
    assert (nouns.exact(answer, name), nouns.phrase(answer, name), nouns.lemma(answer, name)) == (exact, phrase, lemma)


@pytest.mark.parametrize("plural, word", [("knives", "knife"), ("branches", "branch"), ("berries", "berry"), ("tissues", "tissue"),
                                          ("boxes", "box"), ("scissors", "scissors"), ("glass", "glass"), ("gas", "gas"), ("cups", "cup")])
def test_singular(plural, word):
    assert nouns.singular(plural) == word


def test_synonyms_of_the_whole_and_of_the_head():
    same = {frozenset(("fridge", "refrigerator")), frozenset(("phone", "telephone"))}.__contains__
    agree = lambda a, b: same(frozenset((a, b)))  # noqa: E731
    assert nouns.synonym("a refrigerator", "fridge", agree)
    assert nouns.synonym("mobile telephones", "mobile phone", agree)
    assert not nouns.synonym("fridge door", "refrigerator magnet", agree)
