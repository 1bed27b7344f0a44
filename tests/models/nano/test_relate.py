import torch

from egohoi.models.nano import relate
from egohoi.models.nano.propose import FACTS, Proposals


def proposals(heat, boxes, kind, contact=None, held=None, link=None, extra=None, nouns=None):
    k = len(kind)
    return Proposals(
        kind=torch.tensor(kind), heat=torch.tensor(heat), boxes=torch.tensor(boxes, dtype=torch.float32),
        contact=torch.tensor(contact or [0.0] * k), held=torch.tensor(held or [[0.0] * 3] * k), link=torch.tensor(link or [[0.0, 0.0]] * k),
        cells=torch.zeros(k, 2, dtype=torch.long), feature=torch.zeros(k, 96), look=torch.zeros(k, 128), nouns=torch.tensor(nouns) if nouns else torch.ones(k, 1),
        extra=torch.tensor(extra or [[0.0, 0.5]] * k), width=320, height=240,
    )  # fmt: skip


def test_two_hands_that_look_left_become_one_of_each_side():
    p = proposals([[0.9, 0.1, 0, 0, 0], [0.8, 0.3, 0, 0, 0]], [[0, 0, 40, 40], [100, 0, 140, 40]], [0, 0])
    assert relate.hands(p) == {0: "left", 1: "right"}


def test_the_hand_networks_overrule_a_weak_heat_map():
    p = proposals([[0.5, 0.45, 0, 0, 0]], [[0, 0, 40, 40]], [0], extra=[[0.95, 0.97]])
    assert relate.hands(p) == {0: "right"}


def test_a_hand_holds_the_object_that_says_so_and_nothing_else():
    p = proposals(
        [[0.9, 0.1, 0, 0, 0], [0, 0, 0, 0.9, 0], [0, 0, 0, 0.1, 0.9]], [[0, 0, 40, 40], [10, 10, 60, 60], [200, 100, 240, 140]], [0, 1, 1],
        contact=[0.9, 0.0, 0.0], held=[[0, 0, 0], [0.9, 0, 0], [0.1, 0, 0]], link=[[35.0, 35.0], [0.0, 0.0], [0.0, 0.0]],
    )
    assert relate.holding(p, relate.hands(p)) == {0: [1]}


def test_a_hand_without_contact_holds_nothing_whatever_the_object_says():
    heat, boxes = [[0.9, 0.1, 0, 0, 0], [0, 0, 0, 0.9, 0]], [[0, 0, 40, 40], [10, 10, 60, 60]]
    p = proposals(heat, boxes, [0, 1], contact=[0.2, 0.0], held=[[0, 0, 0], [0.9, 0, 0]], link=[[35.0, 35.0], [0.0, 0.0]])
    assert relate.holding(p, {0: "left"}) == {0: []} and relate.holding(p, {0: "left"}, touching=0.0) == {0: [1]}


def test_weak_hands_do_not_count_and_facts_have_their_length():
    p = proposals([[0.2, 0.1, 0, 0, 0]], [[0, 0, 40, 40]], [0])
    assert relate.hands(p) == {}
    assert p.facts().shape == (1, FACTS) and p.facts(torch.tensor([0.0, 0, 40, 40]))[0, -5] == 1.0


def test_told_says_whose_hand_what_it_holds_and_what_the_question_names():
    p = proposals(
        [[0.9, 0.1, 0, 0, 0], [0, 0, 0, 0.9, 0], [0, 0, 0, 0.1, 0.9]], [[0, 0, 40, 40], [10, 10, 60, 60], [200, 100, 240, 140]], [0, 1, 1],
        contact=[0.9, 0.0, 0.0], held=[[0, 0, 0], [0.9, 0, 0], [0.1, 0, 0]], link=[[35.0, 35.0], [0.0, 0.0], [0.0, 0.0]],
        nouns=[[0.5, 0.5], [0.8, 0.2], [0.1, 0.9]],
    )
    told = relate.told(p, None, torch.tensor([1.0, 0.0]))
    assert told.shape == (3, relate.TOLD)
    assert told[:, FACTS : FACTS + 6].tolist() == [[1, 0, 0, 0, 0, 0], [0, 0, 0, 1, 0, 0], [0] * 6]
    assert torch.allclose(told[:, FACTS + 6 :], torch.tensor([[0.5, 1.0, 1.0], [0.8, 1.0, 1.0], [0.1, 1 / 9, 1.0]]))
    assert relate.told(p, None, torch.zeros(2))[:, -3:].tolist() == [[0, 0, 0]] * 3


def test_a_closer_look_lowers_what_it_does_not_confirm_and_moves_the_box_of_what_it_does():
    from egohoi.models.nano import propose

    p = proposals([[0.4, 0.1, 0, 0, 0], [0.6, 0.1, 0, 0, 0], [0.5, 0.1, 0, 0.2, 0]], [[0, 0, 40, 40], [100, 0, 140, 40], [200, 0, 240, 40]], [0, 0, 0])
    out = propose.confirmed(p, {0: (1.0, (10.0, 10.0, 50.0, 50.0)), 1: (0.0, (90.0, 0.0, 120.0, 40.0))})
    assert torch.allclose(out.heat[:, 0], torch.tensor([0.6, 0.42, 0.5])) and float(out.heat[2, 3]) == torch.tensor(0.2)
    assert out.boxes.tolist() == [[5, 5, 45, 45], [100, 0, 140, 40], [200, 0, 240, 40]] and torch.equal(p.boxes[0], torch.tensor([0.0, 0, 40, 40]))


def test_the_box_of_an_object_is_the_mean_of_what_was_told_and_the_extent_of_its_mask(monkeypatch):
    from egohoi.models.nano import propose

    p = proposals([[0, 0, 0, 0.9, 0], [0.9, 0, 0, 0, 0]], [[8, 8, 40, 40], [8, 8, 40, 40]], [1, 0])
    logits = -torch.ones(1, 60, 80)
    logits[0, 2:8, 1:13] = 1.0  # of columns 1..12 only those up to 10 lie in the box, grown by a tenth
    monkeypatch.setattr(propose, "_logits", lambda maps, found, chosen, image: logits[: len(chosen)])
    assert propose._refined(None, p, 0).tolist() == [[6, 8, 42, 36], [8, 8, 40, 40]]
    monkeypatch.setattr(propose, "_logits", lambda maps, found, chosen, image: -logits.abs()[: len(chosen)])
    assert propose._refined(None, p, 0).tolist() == p.boxes.tolist()
