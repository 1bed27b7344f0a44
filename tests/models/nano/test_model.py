"""The embedded model as a whole: what it must do whatever its weights."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import egohoi
from egohoi import images
from egohoi.models.handnets import HandProposal
from egohoi.records import TASKS

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
PHOTOS = [EXAMPLES / n for n in ("kitchen.jpg", "workbench.jpg", "mug.jpg")]


@pytest.fixture(scope="module")
def model():
    return egohoi.load("nano")


@pytest.mark.parametrize("photo", PHOTOS, ids=lambda p: p.stem)
def test_an_analysis_is_the_description_in_the_same_words(model, photo):
    asked, described = model.ask(photo, "What is happening?"), model.describe(photo)
    assert (asked.task, asked.text, asked.entities) == ("analyze", described.text, described.entities)
    assert asked.analysis == asked.text and asked.query == "What is happening?"
    for entity in asked.entities:
        if entity.kind == "hand" and entity.holds:
            assert f"holds {' and '.join(_article(asked.entities[j].name) for j in entity.holds)}." in asked.text


def _article(name):
    from egohoi.questions.free import article

    return article(name)


@pytest.mark.parametrize("task", TASKS)
def test_a_task_that_is_asked_for_is_answered(model, task):
    response = model.ask(PHOTOS[0], "the left hand", task=task)
    assert response.task == task
    if task == "ground":
        assert "{" not in response.text and all(e.mask is not None for e in response.entities)


def test_no_target_has_neither_boxes_nor_masks(model):
    response = model.ask(PHOTOS[1], "segment the elephant")
    assert not response.target_found and response.entities == ()


def test_eight_at_once_are_as_one_by_one(model):
    items = [(p, q) for p in PHOTOS for q in ("where are my hands", "what is in my left hand", "segment what i hold")][:8]
    alone = []
    for photo, question in items:
        model._cache.clear()
        alone.append(model.ask(photo, question))
    model._cache.clear()
    for together, one in zip(model.ask_many(items), alone, strict=True):
        assert (together.text, together.entities, together.target_found) == (one.text, one.entities, one.target_found)


def test_masks_have_the_size_of_the_picture(model):
    pixels = images.load(PHOTOS[0]).pixels
    for size in ((90, 120), (1100, 1467)):
        picture = images.load(np.asarray(Image.fromarray(pixels).resize(size[::-1])), name="resized")
        for entity in model.describe(picture).entities:
            assert entity.mask is None or tuple(entity.mask["size"]) == size


def test_the_hand_networks_are_asked_about_a_box_that_the_user_draws(model, monkeypatch):
    class Sure:
        def find(self, pixels, **_):
            return []

        def confirm(self, pixels, boxes):
            return [HandProposal(tuple(b), self.presence, 0.0, 0.9, None) for b in boxes]

    picture = images.load(PHOTOS[1])
    nets = Sure()
    monkeypatch.setattr(model, "hand_networks", nets)
    box = torch.tensor([5.0, 5.0, 30.0, 33.0])
    found = {}
    for nets.presence in (0.2, 0.9):
        model._cache.clear()
        seen = model.encode(picture)
        found[nets.presence] = model._given(seen, picture, box).proposals
    assert found[0.9].kind[-1] == 0 and found[0.9].extra[-1].tolist() == pytest.approx([0.9, 0.9])
    assert found[0.2].extra[-1].tolist() == pytest.approx([0.0, 0.5])
    model._cache.clear()


def test_a_decision_can_be_moved(model, monkeypatch):
    question = "segment the left hand"
    monkeypatch.setattr(model, "decision", {"ground": -100.0})
    refused = model.ask(PHOTOS[0], question)
    monkeypatch.setattr(model, "decision", {"ground": 100.0})
    assert refused.task == "ground" and not refused.target_found and refused.entities == () and model.ask(PHOTOS[0], question).target_found


def test_without_the_hand_networks_it_still_answers(model, monkeypatch):
    monkeypatch.setattr(model, "hand_networks", None)
    monkeypatch.setattr(model, "_cache", type(model._cache)())
    assert model.describe(PHOTOS[0]).task == "analyze" and model.ask(PHOTOS[0], "what is this", box=(10, 10, 60, 60)).task == "identify"
