import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from egohoi.models.nano import text
from egohoi.training import nano_language as data


class Scores:
    """A language model whose only word is the score of "target" that stands in the facts."""

    def embed_proposals(self, facts, seen, nouns):
        return facts

    def __call__(self, embedded, present, question, question_mask, answer):
        logits = torch.zeros(*answer.shape, 20)
        logits[:, 1, text.YES] = embedded
        return logits


class Questions:
    """Batches of one task: targets score 2 higher than their absence, all of them `shift` too low; a third has no target."""

    def __init__(self, shift: float):
        self.shift = shift

    def batch(self, step, size, decision):
        assert decision and step < 0
        rng = np.random.default_rng(-step)
        there = rng.random(size) < 2 / 3
        score = rng.normal(size=size) + np.where(there, 1.0, -1.0) - self.shift
        answer = torch.tensor([[text.BOS, text.TASK_TOKENS["refer"], text.YES if t else text.NO] for t in there])
        return {"facts": torch.tensor(score), "seen": None, "nouns": None, "present": None, "question": None, "question_mask": None, "answer": answer}


@pytest.mark.parametrize("shift", [-1.5, 0.0, 3.0])
def test_the_decision_is_moved_to_where_both_kinds_are_right_equally_often(shift):
    out = data.decisions(Scores(), Questions(shift), count=4000)
    assert list(out) == ["refer"] and out["refer"] == pytest.approx(shift, abs=0.12)


def test_a_box_drawn_around_a_thing_is_off_by_an_eighth_at_most():
    box = data.around((40.0, 20.0, 80.0, 120.0), 2.0, random.Random(0))
    assert (box - torch.tensor([20.0, 10.0, 40.0, 60.0])).abs().le(torch.tensor([2.4, 6.0, 2.4, 6.0]) + 1e-6).all()


def scene(contact):
    hand = SimpleNamespace(side="left", contact=contact)
    return SimpleNamespace(scene=SimpleNamespace(hands=[hand]))


def test_scenes_with_an_empty_hand_are_drawn_more_often():
    maker = data.Maker([scene(True), scene(False)], None, [], [], 0)
    drawn = random.Random(0).choices(maker.views, cum_weights=maker._weights, k=4000)
    assert sum(v.scene.hands[0].contact is False for v in drawn) / 4000 == pytest.approx(2.5 / 3.5, abs=0.03)
