"""nano as a `Model`: loads its folder, encodes a picture once, and answers queries about it."""

import hashlib
import json
import re
import sys
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import load_file

from egohoi import boxes as box_text
from egohoi import masks as rle
from egohoi.errors import BadConfig, BadWeights
from egohoi.images import Picture
from egohoi.models import assets
from egohoi.models.base import Generation, Model
from egohoi.models.nano import given, propose, relate, text
from egohoi.models.nano.detector import Detector, Maps, look_twice
from egohoi.models.nano.language import ANSWER_TOKENS, POINTERS, SLOTS, Language, LanguageConfig
from egohoi.models.nano.propose import Canvas, Proposals
from egohoi.records import Entity, Query, Response

EMBEDDED = Path(__file__).parent / "weights"
TASKS = {v: k for k, v in text.TASK_TOKENS.items()}


@dataclass
class Encoded:
    """One picture as nano keeps it between questions."""

    canvas: Canvas
    maps: Maps
    proposals: Proposals
    sides: dict[int, str]
    holds: dict[int, list[int]]
    milliseconds: float


class Nano(Model):
    """See docs/nano.md. Deterministic at temperature 0; every picture is encoded by itself, so a batch changes nothing."""

    name = "nano"

    def __init__(
        self, detector: Detector, language: Language, tokenizer, nouns: list[str], synonyms: dict[str, list[str]], hand_networks=None,
        decision: dict[str, float] | None = None,
    ):  # fmt: skip
        """nouns: of the naming head. synonyms: noun -> other words for it, understood in questions. decision: task -> what is added to the
        score of "there is a target"."""
        self.decision = decision or {}
        self.detector, self.language, self.tokenizer, self.nouns = detector.eval(), language.eval(), tokenizer, nouns
        self.synonyms = synonyms
        self.hand_networks = hand_networks
        self._cache: OrderedDict[bytes, Encoded] = OrderedDict()

    @classmethod
    def from_pretrained(cls, folder: str | None = None, *, device: str | None = None, precision: str | None = None) -> "Nano":
        """Load a nano folder (the embedded one by default). Runs on the CPU in float32. Raises BadWeights, BadConfig."""
        if precision not in (None, "float32"):
            raise BadConfig(f"nano runs in float32, not in {precision}")
        root = Path(folder) if folder else EMBEDDED
        for name in ("config.json", "detector.safetensors", "language.safetensors", "tokenizer.json"):
            if not (root / name).is_file():
                raise BadWeights(f"{root}: no {name} there, so this is not a nano folder")
        try:
            config = json.loads((root / "config.json").read_text())
            sizes = LanguageConfig(**{**config["language"], "outputs": tuple(config["language"]["outputs"])})
            detector, language = Detector(len(config["nouns"])), Language(sizes)
            for module, name in ((detector, "detector"), (language, "language")):
                state = load_file(root / f"{name}.safetensors")
                module.load_state_dict({k: v.float() for k, v in state.items()}, strict=True)
            tokenizer = text.load(root / "tokenizer.json")
        except (KeyError, ValueError, TypeError, RuntimeError) as error:
            raise BadWeights(f"{root}: is not a nano folder of this version ({str(error).splitlines()[0][:160]})") from error
        except Exception as error:  # safetensors and tokenizers raise their own plain exceptions
            raise BadWeights(f"{root}: cannot be read ({str(error).splitlines()[0][:160]})") from error
        return cls(detector, language, tokenizer, config["nouns"], config["synonyms"], _hand_networks(), config.get("decision"))

    @torch.no_grad()
    def encode(self, picture: Picture) -> Encoded:
        """Everything that does not depend on the question; the last pictures are kept."""
        key = hashlib.blake2b(picture.pixels.data, digest_size=16, key=repr(picture.size).encode()).digest()
        if key in self._cache:
            self._cache.move_to_end(key)
            return self._cache[key]
        began = time.perf_counter()
        canvas = propose.canvas(picture.pixels)
        maps, _ = look_twice(self.detector, canvas.pixels)
        found = ()
        if self.hand_networks is not None:
            seen = self.hand_networks.find(picture.pixels, palm=0.2)
            found = [(tuple(v / canvas.step for v in p.box), p.presence, p.right) for p in seen]
        width, height = round(canvas.size[0] / canvas.step), round(canvas.size[1] / canvas.step)
        proposals = propose.propose(self.detector, maps, max(1, width), max(1, height), found)
        if self.hand_networks is not None:
            unsure = [k for k in range(len(proposals)) if int(proposals.kind[k]) == 0 and float(proposals.extra[k, 0]) == 0]
            looks = self.hand_networks.confirm(picture.pixels, [[v * canvas.step for v in proposals.boxes[k].tolist()] for k in unsure])
            proposals = propose.confirmed(proposals, {k: (p.presence, tuple(v / canvas.step for v in p.box)) for k, p in zip(unsure, looks)})
        sides = relate.hands(proposals)
        out = Encoded(canvas, maps, proposals, sides, relate.holding(proposals, sides), (time.perf_counter() - began) * 1000)
        self._cache[key] = out
        while len(self._cache) > 4:
            self._cache.popitem(last=False)
        return out

    def respond(self, pictures: Sequence[Picture], queries: Sequence[Query], settings: Generation) -> list[Response]:
        return [self._answer(p, q, settings) for p, q in zip(pictures, queries)]

    def describe(self, image, settings: Generation | None = None) -> Response:
        """Every hand, what it holds, the masks, and one sentence a hand."""
        from egohoi import images

        picture = images.load(image)
        return self._described(self.encode(picture), picture, "", True)

    def _described(self, seen: Encoded, picture: Picture, query: str, masks: bool, text_ms: float = 0.0) -> Response:
        """The analysis: hands and held objects by the rules of `relate`, in the same words whether it was asked for or not."""
        began = time.perf_counter()
        order = [*seen.sides, *sorted({j for held in seen.holds.values() for j in held})]
        entities, spent = self._entities(seen, picture, order, masks)
        sentence = self._sentence(seen)
        text_ms += (time.perf_counter() - began) * 1000 - spent
        return Response(
            image=picture.name, size=picture.size, query=query, task="analyze", text=sentence, analysis=sentence, target_found=bool(seen.sides),
            entities=entities, model=self.name, picture=picture.pixels, milliseconds={"image": seen.milliseconds, "text": text_ms, "mask": spent},
        )  # fmt: skip

    def _sentence(self, seen: Encoded) -> str:
        parts = []
        for k, side in sorted(seen.sides.items(), key=lambda item: relate.SIDES.index(item[1])):
            who = "Another person's hand" if side == "other" else f"The {side} hand"
            held = [self.noun(seen.proposals, j) for j in seen.holds[k]]
            touching = float(seen.proposals.contact[k]) >= relate.CONTACT
            parts.append(f"{who} holds {' and '.join(map(_article, held))}." if held else f"{who} touches {'something' if touching else 'nothing'}.")
        return " ".join(parts) or "There are no hands in the picture."

    def noun(self, proposals: Proposals, j: int) -> str:
        """The likeliest noun of object proposal j."""
        return self.nouns[int(proposals.nouns[j].argmax())] if self.nouns else "object"

    def stream(self, image, query: Query, settings: Generation | None = None) -> Iterator[str | Response]:
        from egohoi import images

        picture = images.load(image)
        self.check(picture, query)
        response = self._answer(picture, query, settings or Generation())
        yield from re.findall(r"\S+\s*", response.text)
        yield response

    # ---- one question

    def _answer(self, picture: Picture, query: Query, settings: Generation) -> Response:
        seen = self.encode(picture)
        began = time.perf_counter()
        words, box = self._place(seen, picture, query)
        if box is not None:
            seen = self._given(seen, picture, box)
        question = torch.tensor([text.encode_question(self.tokenizer, words)], dtype=torch.long)
        proposals = seen.proposals
        facts = relate.told(proposals, box, torch.from_numpy(text.mentioned(words, self.nouns, self.synonyms)))[None]
        embedded = self.language.embed_proposals(facts, torch.cat([proposals.feature, proposals.look], 1)[None], proposals.nouns[None])
        ids = self._generate(embedded, question, query, settings)
        task, found, segments = self._read(ids)
        if task == "analyze":
            return self._described(seen, picture, query.text, query.mask is not False, (time.perf_counter() - began) * 1000)
        pointed = list(dict.fromkeys(k for kind, k in segments if kind != "text" and k < len(proposals)))
        if not found and task != "answer":
            pointed = []
        if task == "ground":  # its places are masks, so that a box is meant and not written
            segments = [("ref" if kind == "box" else kind, k) for kind, k in segments]
        spoken = self._text(segments, seen, picture)
        text_ms = (time.perf_counter() - began) * 1000
        entities, mask_ms = self._entities(seen, picture, pointed, masks=query.mask is not False)
        return Response(
            image=picture.name, size=picture.size, query=query.text, task=task, text=spoken, target_found=bool(found), entities=entities,
            model=self.name, picture=picture.pixels,
            milliseconds={"image": seen.milliseconds, "text": text_ms, "mask": mask_ms},
        )  # fmt: skip

    def _place(self, seen: Encoded, picture: Picture, query: Query) -> tuple[str, torch.Tensor | None]:
        """The question with `<box>` where a box is meant, and that box in canvas pixels."""
        words, box = query.text, query.box
        written = box_text.BRACES.decode(words, picture.size)
        if written and box is None:
            first = written[0]
            if first[0] < first[2] and first[1] < first[3]:
                box = first
            words = re.sub(box_text.BRACES.pattern, " <box> ", words, count=1)
        words = box_text.BRACES.strip(words)
        words = re.sub(r"^\s*\[(vqa|refer|identify|caption|grounding|detection)\]", "", words)
        if query.point is not None and box is None:
            box = self._around(seen, query.point)
        if box is not None and "<box>" not in words:
            words = f"{words} <box>"
        if box is None:
            return words, None
        return words, torch.tensor(box_text.clip(box, picture.size), dtype=torch.float32) / seen.canvas.step

    def _given(self, seen: Encoded, picture: Picture, box: torch.Tensor) -> Encoded:
        """The picture with a proposal at a given box (canvas pixels), if there was none. The hand networks look at it too: a hand that
        holds something is mostly covered, and the dense maps then speak of the thing."""
        if given.known(seen.proposals, box):
            return seen
        one = given.at(self.detector, seen.maps, box, seen.proposals.width, seen.proposals.height)
        if self.hand_networks is not None:
            look = self.hand_networks.confirm(picture.pixels, [[v * seen.canvas.step for v in box.tolist()]])[0]
            if look.presence >= 0.5:
                one = replace(one, kind=torch.tensor([0]), extra=torch.tensor([[look.presence, look.right]]))
        proposals = given.join(seen.proposals, one)
        return replace(seen, proposals=proposals, holds=relate.holding(proposals, seen.sides))

    def _around(self, seen: Encoded, point: tuple[float, float]) -> tuple[float, float, float, float]:
        """The smallest proposal that covers a point (pixels), as a pixel box; without one, a box about the point."""
        step, (x, y) = seen.canvas.step, point
        cover = []
        for b in seen.proposals.boxes.tolist():
            x1, y1, x2, y2 = (v * step for v in b)
            if x1 <= x < x2 and y1 <= y < y2:
                cover.append(((x2 - x1) * (y2 - y1), (x1, y1, x2, y2)))
        if cover:
            return min(cover)[1]
        half = 0.05 * max(seen.canvas.size)
        return (x - half, y - half, x + half, y + half)

    def _generate(self, embedded: torch.Tensor, question: torch.Tensor, query: Query, settings: Generation) -> list[int]:
        """Output ids of the answer without BOS and EOS: task, decision, words and pointers. An analysis is the task alone: its words
        come from `_described`."""
        state = self.language.start(embedded, question)
        limit = min(settings.max_new_tokens or ANSWER_TOKENS - 4, ANSWER_TOKENS - 4)
        chance = torch.Generator().manual_seed(settings.seed)
        ids: list[int] = []
        logits = self.language.step(state, text.BOS)
        for position in range(limit + 2):
            if position == 0:
                allowed = [text.TASK_TOKENS[query.task]] if query.task else list(text.TASK_TOKENS.values())
                token = max(allowed, key=lambda k: float(logits[k]))
                if token == text.TASK_TOKENS["analyze"]:
                    return [token]
            elif position == 1:
                token = text.YES if float(logits[text.YES] - logits[text.NO]) + self.decision.get(TASKS[ids[0]], 0.0) >= 0 else text.NO
            else:
                logits = logits.clone()
                logits[: len(text.SPECIAL)][[k for k in range(len(text.SPECIAL)) if k != text.EOS]] = -1e9
                if settings.temperature > 0:
                    token = _sample(logits, settings, chance)
                else:
                    token = int(logits.argmax())
            if token == text.EOS:
                break
            ids.append(token)
            logits = self.language.step(state, token)
        return ids

    def _read(self, ids: list[int]) -> tuple[str, bool, list[tuple[str, object]]]:
        """Task, decision, and segments: ("text", str) and (way to point, proposal), see `language.POINTERS`."""
        base = len(text.SPECIAL) + len(self.language.config.outputs)
        segments: list[tuple[str, object]] = []
        run: list[int] = []

        def flush() -> None:
            if run:
                segments.append(("text", self.tokenizer.decode(run)))
                run.clear()

        for token in ids[2:]:
            if token >= base:
                flush()
                slot = token - base
                segments.append((POINTERS[slot // SLOTS], slot % SLOTS))
            elif token >= len(text.SPECIAL):
                run.append(self.language.config.outputs[token - len(text.SPECIAL)] - len(text.SPECIAL))
        flush()
        return TASKS[ids[0]], text.YES in ids[1:2], segments

    def _text(self, segments, seen: Encoded, picture: Picture) -> str:
        out = ""
        for kind, value in segments:
            if kind == "text":
                out += str(value)
            elif kind != "ref" and value < len(seen.proposals):
                words = box_text.BRACES.encode(self._box(seen, picture, value), picture.size) if kind == "box" else self._called(seen, value)
                if kind == "a" and int(seen.proposals.kind[value]) == 1:
                    words = _article(words)
                out += (" " if out and not out.endswith(" ") else "") + words
        out = re.sub(r"\s+", " ", out).strip()
        return re.sub(r"(^|[.] )([a-z])", lambda m: m[1] + m[2].upper(), out) if out.endswith(".") else out

    def _called(self, seen: Encoded, k: int) -> str:
        """Name of proposal k: its noun, or whose hand it is."""
        if int(seen.proposals.kind[k]) == 1:
            return self.noun(seen.proposals, k)
        evidence = relate.side_scores(seen.proposals, k)
        side = seen.sides.get(k) or relate.SIDES[max(range(3), key=lambda s: evidence[s])]
        return "other person's hand" if side == "other" else f"{side} hand"

    @staticmethod
    def _box(seen: Encoded, picture: Picture, k: int) -> box_text.Box:
        step = seen.canvas.step
        return box_text.clip([v * step for v in seen.proposals.boxes[k].tolist()], picture.size)

    def _entities(self, seen: Encoded, picture: Picture, order: list[int], masks: bool):
        """Entities of the proposals in `order`, and the milliseconds that their masks took."""
        began = time.perf_counter()
        pixel_masks = propose.masks(seen.maps, seen.proposals, order, seen.canvas.step, picture.size) if masks else [None] * len(order)
        encoded = [rle.encode(m) if m is not None and m.any() else None for m in pixel_masks]
        spent = (time.perf_counter() - began) * 1000
        score, out = seen.proposals.score(), []
        for k, mask in zip(order, encoded):
            hand, name = int(seen.proposals.kind[k]) == 0, self._called(seen, k)
            holds = tuple(order.index(j) for j in seen.holds.get(k, ()) if j in order) if hand else None
            side = name.split()[0] if hand and name != "other person's hand" else None
            out.append(Entity(name, "hand" if hand else "object", side, self._box(seen, picture, k), float(score[k]), mask, holds))
        return tuple(out), spent


def _article(noun: str) -> str:
    from egohoi.questions.free import article

    return article(noun)


def _sample(logits: torch.Tensor, settings: Generation, chance: torch.Generator) -> int:
    """One token by temperature and nucleus."""
    p = torch.softmax(logits / settings.temperature, 0)
    order = torch.argsort(-p)
    keep = torch.cumsum(p[order], 0) - p[order] < settings.top_p
    order = order[keep]
    return int(order[torch.multinomial(p[order], 1, generator=chance)])


def _hand_networks():
    """The hand networks if they are installed (one try to install them), else None with one line on stderr."""
    from egohoi.models.handnets import HandNets

    folder = assets.hand_networks()
    if folder is None:
        print("egohoi: the hand networks are not installed, so fewer hands are found: run `egohoi assets`", file=sys.stderr)
        return None
    return HandNets(folder)
