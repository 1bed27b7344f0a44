"""Which proposals count, whose hand is whose, and what each hand holds: pure functions over `Proposals`."""

import math

from egohoi.models.nano.propose import Proposals

SIDES = ("left", "right", "other")
#: Least score of a hand and of an active object in a description; least probability that a side holds an object, and of contact.
HAND, ACTIVE, HELD, CONTACT = 0.34, 0.25, 0.35, 0.5
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
    the free side if that is not much less likely, else it is another person's."""
    score = proposals.score()
    chosen = [k for k in range(len(proposals)) if proposals.kind[k] == 0 and float(score[k]) >= least]
    out: dict[int, str] = {}
    for k in sorted(chosen, key=lambda k: -float(score[k])):
        evidence = side_scores(proposals, k)
        order = sorted(range(3), key=lambda s: -evidence[s])
        free = [s for s in order if s == 2 or SIDES[s] not in out.values()]
        out[k] = SIDES[free[0]]
    return dict(sorted(out.items()))


def holding(proposals: Proposals, sides: dict[int, str]) -> dict[int, list[int]]:
    """Hand -> objects that it holds or touches. The object must say so itself (`held`), or lie where the hand's link points."""
    boxes = proposals.boxes
    things = [j for j in range(len(proposals)) if proposals.kind[j] == 1]
    out: dict[int, list[int]] = {}
    for k, side in sides.items():
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
