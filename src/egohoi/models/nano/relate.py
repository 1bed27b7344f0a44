"""Which proposals count, whose hand is whose, and what each hand holds: pure functions over `Proposals`."""

import math

import torch
from torch import Tensor

from egohoi.models.nano.propose import FACTS, Proposals

SIDES = ("left", "right", "other")
#: Least score of a hand and of an active object in a description; least probability that a side holds an object, and of contact.
HAND, ACTIVE, HELD, CONTACT = 0.28, 0.2, 0.35, 0.5
#: Least score of another person's hand, and of a hand whose likeliest side is taken: false hands are most often one of these.
OTHER, MOVED = 0.55, 0.6
#: Least probability of contact of a hand that holds something in a description.
TOUCHING = 0.35
#: Weight of the hand networks' side against the heat map's: on renders they are often wrong.
NETWORKS = 0.4


def side_scores(proposals: Proposals, k: int) -> list[float]:
    """Log evidence that hand k is the wearer's left, right, or another person's: the heat map's and the hand networks'."""
    heat = [math.log(max(float(v), 1e-3)) for v in proposals.heat[k, :3]]
    presence, right = float(proposals.extra[k, 0]), min(max(float(proposals.extra[k, 1]), 0.02), 0.98)
    if presence > 0:
        heat[0] += NETWORKS * math.log(1 - right)
        heat[1] += NETWORKS * math.log(right)
        heat[2] += NETWORKS * math.log(0.5) - 1.0
    return heat


def hands(proposals: Proposals, least: float = HAND) -> dict[int, str]:
    """Hands that count -> side. The wearer has one hand of each side: of two that look alike the surer keeps it, the other takes
    the free side if that is likelier than another person, else it is another person's."""
    score = proposals.score()
    chosen = [k for k in range(len(proposals)) if proposals.kind[k] == 0 and float(score[k]) >= least]
    out: dict[int, str] = {}
    for k in sorted(chosen, key=lambda k: -float(score[k])):
        evidence = side_scores(proposals, k)
        order = sorted(range(3), key=lambda s: -evidence[s])
        free = [s for s in order if s == 2 or SIDES[s] not in out.values()]
        least_here = max(OTHER if free[0] == 2 else 0.0, MOVED if free[0] != order[0] else 0.0)
        if float(score[k]) >= least_here:
            out[k] = SIDES[free[0]]
    return dict(sorted(out.items()))


def holding(proposals: Proposals, sides: dict[int, str], touching: float = TOUCHING) -> dict[int, list[int]]:
    """Hand -> objects that it holds or touches. The object must say so itself (`held`), or lie where the hand's link points; a hand
    whose probability of contact is below `touching` holds nothing."""
    boxes = proposals.boxes
    things = [j for j in range(len(proposals)) if proposals.kind[j] == 1]
    out: dict[int, list[int]] = {}
    for k, side in sides.items():
        out[k] = []
        if float(proposals.contact[k]) < touching:
            continue
        s = SIDES.index(side)
        near = {}
        for j in things:
            x1, y1, x2, y2 = boxes[j].tolist()
            size = max(16.0, math.sqrt(max(0.0, (x2 - x1) * (y2 - y1))))
            dx, dy = float(proposals.link[k, 0]) - (x1 + x2) / 2, float(proposals.link[k, 1]) - (y1 + y2) / 2
            near[j] = math.hypot(dx, dy) / size
        active = [j for j in things if float(proposals.heat[j, 3]) >= ACTIVE]
        claimed = [j for j in active if float(proposals.held[j, s]) >= HELD and near[j] < 2.0]
        if claimed:
            claimed = sorted(claimed, key=lambda j: near[j] - 2 * float(proposals.held[j, s]))[:1]
        elif float(proposals.contact[k]) >= CONTACT and active:
            best = min(active, key=lambda j: near[j])
            claimed = [best] if near[best] < 0.8 else []
        out[k] = claimed
    return out


#: Length of what `told` says of a proposal.
TOLD = FACTS + 9


def told(proposals: Proposals, query: Tensor | None, mentioned: Tensor) -> Tensor:
    """float32 [K, 38]: what the language model is told of each proposal in numbers.

    `Proposals.facts` (29); whether it counts as the wearer's left, right, or another's hand (3); whether a left, right, other
    hand holds it (3); how well its nouns fit those that the question names, as probability and relative to its likeliest noun,
    and whether the question names any (3). query: [4] canvas pixels or None; mentioned: [nouns] of `text.mentioned`.
    """
    sides = hands(proposals)
    known = torch.zeros(len(proposals), 6)
    for k, things in holding(proposals, sides, touching=0.0).items():  # as in training; contact itself is among the facts
        known[k, SIDES.index(sides[k])] = 1.0
        for j in things:
            known[j, 3 + SIDES.index(sides[k])] = 1.0
    fit = proposals.nouns @ mentioned if len(mentioned) else torch.zeros(len(proposals))
    best = proposals.nouns.max(1).values.clamp(min=1e-6) if len(mentioned) else torch.ones(len(proposals))
    named = torch.full_like(fit, float(mentioned.max()) if len(mentioned) else 0.0)
    return torch.cat([proposals.facts(query), known, fit[:, None], (fit / best)[:, None], named[:, None]], 1)
