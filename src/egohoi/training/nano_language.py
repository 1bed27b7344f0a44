"""Data of nano's language stage: proposals of scenes and their mirror images, and batches of freely worded questions."""

import itertools
import os
import random
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from egohoi import images
from egohoi.boxes import iou_matrix
from egohoi.models.nano import given, propose, relate, text
from egohoi.models.nano.detector import look_twice
from egohoi.models.nano.language import ANSWER_TOKENS, POINTERS, SLOTS, Language
from egohoi.models.nano.propose import Proposals
from egohoi.questions.free import SYNONYMS, FreeQuestions
from egohoi.records import Scene


@dataclass
class View:
    """A scene as the detector saw it. match: thing (hands first, then objects) -> proposal, for those that were found.
    given: thing -> what the detector says at a box that a user would draw around it (one proposal, its box that box)."""

    scene: Scene
    proposals: Proposals
    match: dict[int, int]
    step: float
    given: dict[int, Proposals]


def mirrored(scene: Scene) -> Scene:
    """The labels of the mirror image: boxes flipped, left and right swapped; masks are dropped."""
    swap = {"left": "right", "right": "left", "other": "other"}
    width = scene.size[0]

    def flip(box):
        return (width - box[2], box[1], width - box[0], box[3])

    hands = tuple(replace(h, side=swap[h.side], box=flip(h.box), mask=None) for h in scene.hands)
    objects = tuple(replace(o, box=flip(o.box), hands=tuple(swap[s] for s in o.hands), mask=None) for o in scene.objects)
    return replace(scene, id=scene.id + "-mirrored", hands=hands, objects=objects)


def matched(scene: Scene, proposals: Proposals, step: float) -> dict[int, int]:
    """Things -> proposals of their kind with the best IoU above 0.5, one to one."""
    out: dict[int, int] = {}
    groups = ((0, 0, [h.box for h in scene.hands]), (1, len(scene.hands), [o.box for o in scene.objects]))
    for kind, offset, boxes in groups:
        index = torch.nonzero(proposals.kind == kind)[:, 0].tolist()
        if not index or not boxes:
            continue
        overlap = iou_matrix(np.array(boxes) / step, proposals.boxes[index].numpy())
        while overlap.max() > 0.5:
            thing, at = np.unravel_index(overlap.argmax(), overlap.shape)
            out[offset + int(thing)] = index[int(at)]
            overlap[thing], overlap[:, at] = 0, 0
    return out


def around(box, step: float, rng: random.Random) -> torch.Tensor:
    """A box as a user draws it around a true one (xyxy pixels): each side off by up to an eighth; [4] canvas pixels."""
    x1, y1, x2, y2 = (v / step for v in box)
    return torch.tensor([v + side * rng.uniform(-0.12, 0.12) for v, side in zip((x1, y1, x2, y2), (x2 - x1, y2 - y1) * 2)], dtype=torch.float32)


@torch.no_grad()
def views(scenes: list[Scene], detector, cache: Path) -> list[View]:
    """Both views of every scene; kept in `cache`, so that a resumed run does not compute them again."""
    if cache.exists():
        return torch.load(cache, weights_only=False)  # written by this function a moment ago, in the run's own folder
    out = []
    for scene in scenes:
        pixels = images.load(scene.image).pixels
        canvas = propose.canvas(pixels)
        size = [max(1, round(v / canvas.step)) for v in canvas.size]
        own, mirror = look_twice(detector, canvas.pixels)
        if size[0] < canvas.pixels.shape[3]:  # the mirror image of a padded canvas is padded on the other side
            mirror, _ = look_twice(detector, propose.canvas(np.ascontiguousarray(pixels[:, ::-1])).pixels)
        for view, maps in ((scene, own), (mirrored(scene), mirror)):
            proposals = propose.propose(detector, maps, *size)
            slim = replace(view, hands=tuple(replace(h, mask=None) for h in view.hands), objects=tuple(replace(o, mask=None) for o in view.objects))
            rng = random.Random(view.id)
            drawn = {k: given.at(detector, maps, around(t.box, canvas.step, rng), *size) for k, t in enumerate((*view.hands, *view.objects))}
            out.append(View(slim, proposals, matched(view, proposals, canvas.step), canvas.step, drawn))
    part = cache.with_name(cache.name + ".part")
    torch.save(out, part)
    os.replace(part, cache)
    return out


def answer_words(tokenizer, scenes: list[Scene], nouns: list[str], seed: int) -> list[int]:
    """Ids of all words that answers use, sorted: of 20,000 drawn ones. Names are not among them: they are pointed at."""
    rng, found = random.Random(seed), set()
    for _ in range(20000):
        for segment in FreeQuestions(rng.choice(scenes), nouns, rng).draw().answer:
            if isinstance(segment, str):
                found.update(text.encode_words(tokenizer, segment))
    return sorted(found)


class Maker:
    """Batches of questions; batch number `step` depends on the seed only."""

    def __init__(self, views: list[View], tokenizer, nouns: list[str], words: list[int], seed: int):
        self.views, self.tokenizer, self.nouns, self.seed = views, tokenizer, nouns, seed
        # Most hands hold something, and a model that has hardly seen an empty one says so of every hand.
        self._weights = list(itertools.accumulate(2.5 if any(h.side != "other" and h.contact is False for h in v.scene.hands) else 1.0 for v in views))
        self.word_at = {w: len(text.SPECIAL) + k for k, w in enumerate(words)}
        self.base = len(text.SPECIAL) + len(words)
        self._known: dict[str, list[int] | None] = {}

    def _words(self, piece: str) -> list[int] | None:
        """Output ids of a piece of text, None if it has a word that answers cannot hold."""
        if piece not in self._known:
            ids = [self.word_at.get(i) for i in text.encode_words(self.tokenizer, piece)]
            self._known[piece] = None if None in ids else ids
        return self._known[piece]

    def item(self, rng: random.Random, decision: bool = False):
        """(proposals, question, answer ids, query box in canvas pixels or None).

        decision: the answer ends with task and decision, whatever the detector missed of what follows."""
        while True:
            view = rng.choices(self.views, cum_weights=self._weights)[0]
            q = FreeQuestions(view.scene, self.nouns, rng).draw()
            proposals, match, box = self.with_networks(view, rng), view.match, None
            if q.box is not None:
                one = view.given[q.box]
                box = one.boxes[0]
                if not given.known(proposals, box):
                    proposals = given.join(proposals, one)
                    last, kind = len(proposals) - 1, int(q.box >= len(view.scene.hands))
                    match = {thing: k for thing, k in match.items() if k < last}
                    if int(one.kind[0]) == kind:
                        match.setdefault(q.box, last)
            ids = [text.BOS, text.TASK_TOKENS[q.task], text.YES if q.found else text.NO]
            if decision:
                return proposals, q.question, ids, box
            for segment in q.answer:
                if isinstance(segment, str):
                    piece = self._words(segment)
                elif segment[1] in match:
                    piece = [self.base + SLOTS * POINTERS.index(segment[0]) + match[segment[1]]]
                else:
                    piece = None  # the detector missed what the answer points at: nothing true can be said
                if piece is None:
                    break
                ids += piece
            else:
                ids.append(text.EOS)
                if len(ids) <= ANSWER_TOKENS:
                    return proposals, q.question, ids, box

    def batch(self, step: int, size: int, decision: bool = False) -> dict[str, torch.Tensor]:
        """Tensors of `size` items, padded. decision: see `item`."""
        rng = random.Random(f"{self.seed}/{step}")
        items = [self.item(rng, decision) for _ in range(size)]
        k = max(1, max(len(i[0]) for i in items))
        questions = [text.encode_question(self.tokenizer, i[1]) for i in items]
        q, a = max(map(len, questions)), max(len(i[2]) for i in items)
        out = {
            "present": torch.zeros(size, k, dtype=torch.bool), "question": torch.zeros(size, q, dtype=torch.long),
            "question_mask": torch.zeros(size, q, dtype=torch.bool), "answer": torch.zeros(size, a, dtype=torch.long),
        }  # fmt: skip
        facts, seen, nouns = [], [], []
        for n, ((p, said, answer, box), question) in enumerate(zip(items, questions, strict=True)):
            pad = k - len(p)
            facts.append(torch.nn.functional.pad(relate.told(p, box, torch.from_numpy(text.mentioned(said, self.nouns, SYNONYMS))), (0, 0, 0, pad)))
            seen.append(torch.nn.functional.pad(torch.cat([p.feature, p.look], 1), (0, 0, 0, pad)))
            nouns.append(torch.nn.functional.pad(p.nouns, (0, 0, 0, pad)))
            out["present"][n, : len(p)] = True
            out["question"][n, : len(question)] = torch.tensor(question)
            out["question_mask"][n, : len(question)] = True
            out["answer"][n, : len(answer)] = torch.tensor(answer)
        return {**out, "facts": torch.stack(facts), "seen": torch.stack(seen), "nouns": torch.stack(nouns)}

    @staticmethod
    def with_networks(view: View, rng: random.Random) -> Proposals:
        """The view's proposals, half of the time with what the hand networks would say of its hands (true side nine times in ten)."""
        if rng.random() < 0.5:
            return view.proposals
        extra = view.proposals.extra.clone()
        for thing, k in view.match.items():
            if thing < len(view.scene.hands) and rng.random() < 0.7:
                right = view.scene.hands[thing].side == "right" if view.scene.hands[thing].side != "other" else rng.random() < 0.5
                sure = rng.uniform(0.6, 1.0)
                extra[k, 0] = rng.uniform(0.5, 1.0)
                extra[k, 1] = sure if right == (rng.random() < 0.92) else 1 - sure
        return replace(view.proposals, extra=extra)


@torch.no_grad()
def decisions(model: Language, maker: Maker, count: int = 3000, size: int = 50) -> dict[str, float]:
    """Task -> what is added to the score of "target" so that "target" and "no target" are right equally often on questions of `maker`,
    the detector's misses included: in training, where what it misses is not asked, targets look surer than they are."""
    found: dict[int, list[tuple[float, bool]]] = {}
    for k in range(count // size):
        batch = maker.batch(-1 - k, size, decision=True)
        embedded = model.embed_proposals(batch["facts"], batch["seen"], batch["nouns"])
        logits = model(embedded, batch["present"], batch["question"], batch["question_mask"], batch["answer"][:, :2])[:, 1]
        for task, truth, score in zip(batch["answer"][:, 1].tolist(), batch["answer"][:, 2].tolist(), (logits[:, text.YES] - logits[:, text.NO]).tolist()):
            found.setdefault(task, []).append((score, truth == text.YES))
    out = {}
    for name, token in text.TASK_TOKENS.items():
        there, none = (np.sort([s for s, t in found.get(token, ()) if t is want]) for want in (True, False))
        if len(there) >= 20 and len(none) >= 20:
            tried = np.concatenate([there, none])
            right = 1 - np.searchsorted(there, tried, "left") / len(there)
            refused = np.searchsorted(none, tried, "left") / len(none)
            out[name] = -float(tried[np.abs(right - refused).argmin()])
    return out
