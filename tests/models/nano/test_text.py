import numpy as np

from egohoi.models.nano import text

NOUNS = ["bottle", "cup", "glass", "spray bottle", "brush"]


def named(question, synonyms=None):
    found = text.mentioned(question, NOUNS, synonyms or {})
    return {noun: float(v) for noun, v in zip(NOUNS, found) if v}


def test_a_noun_its_plural_and_its_synonym_are_mentioned():
    assert named("Where is the cup?") == {"cup": 1.0}
    assert named("both glasses and the brushes") == {"glass": 1.0, "brush": 1.0}
    assert named("where is my mug", {"cup": ["mug"]}) == {"cup": 0.5}


def test_the_longest_name_counts_and_only_whole_words():
    assert named("the spray bottle") == {"spray bottle": 1.0}
    assert named("a cupboard") == {} and named("") == {}


def test_a_question_is_cut_in_the_middle_and_the_box_keeps_its_place():
    tokenizer = text.build(sorted(text.pre_tokenizers.ByteLevel.alphabet()), [])
    ids = text.encode_question(tokenizer, "a" * 200 + " <box> z")
    assert len(ids) == text.QUESTION_TOKENS and text.BOX in ids


def test_reduction_to_the_full_size_only_turns_and_scales():
    table = np.random.default_rng(0).normal(size=(50, 8)).astype(np.float32)
    out, centred = text.reduce(table, 8), table - table.mean(0)
    scale = np.sqrt((centred**2).mean())
    assert np.allclose(out @ out.T * scale**2, centred @ centred.T, atol=1e-3)
