"""ANNEXE as a model that answers: description, answer, and one mask per target or none (arXiv 2504.01472).

    model = egohoi.load("annexe:FOLDER")
    model.ask("kitchen.jpg", "the left hand and the mug")             # analysis, answer, masks
    model.ask("kitchen.jpg", "What am I holding?", mask=False)         # text only
    model.describe("kitchen.jpg")                                       # the analysis

An answer does not depend on what else is in the batch: pictures are encoded one by one, and after the batched writing each
item's mask tokens are read again alone, so that masks and decisions are the same bits for any batch.
"""

import hashlib
import json
import os
import re
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from egohoi import masks
from egohoi.errors import BadConfig, BadQuery, BadWeights, EgohoiError, need
from egohoi.images import Picture
from egohoi.models import annexe_text, weights
from egohoi.models.annexe_module import AnnexeConfig, AnnexeModule
from egohoi.models.annexe_processor import AnnexeProcessor, Turns
from egohoi.models.annexe_text import ANALYSIS_PROMPT, QUERY_PROMPT
from egohoi.models.base import Generation, Model
from egohoi.models.vlm4hoi_module import IMAGE_TOKEN
from egohoi.records import Entity, Query, Response

WEIGHTS_FILE = "model.safetensors"
CONFIG_FILE = "config.json"
#: Pictures whose encoding and analysis are kept: many queries are about one picture.
KEPT = 4
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Grounded:
    """What the mask side says about one answer. found: chance of a target, 0..1. masks: bool [H, W] for each mask token
    (empty list if the head says that there is no target), scores: mean chance inside each mask. depth: see `Annexe.depth`."""

    found: float
    masks: list[np.ndarray]
    scores: list[float]


class Annexe(Model):
    """See the module. untrained: names of parts without trained weights (a folder converted from the released code)."""

    def __init__(self, module: AnnexeModule, processor: AnnexeProcessor, name: str = "annexe", untrained: Sequence[str] = ()):
        self.module = module.eval()
        self.processor = processor
        self.name = name
        self.untrained = tuple(untrained)
        self._kept: OrderedDict[bytes, tuple[tuple, dict]] = OrderedDict()

    @property
    def config(self) -> AnnexeConfig:
        return self.module.config

    # ------------------------------------------------------------------ files

    @classmethod
    def from_pretrained(cls, folder: str | None, *, device: str | None = None, precision: str | None = None) -> "Annexe":
        """Load what `save_pretrained` wrote. precision: of the language side; the mask side computes in float32.

        Raises BadWeights (no such folder, damaged, missing or unexpected keys, another shape), BadConfig.
        """
        if folder is None or not Path(folder).is_dir():
            raise BadWeights(f"annexe:{folder}: no such folder: train one (egohoi train configs/annexe.yaml) or convert one")
        if precision is not None and precision not in PRECISIONS:
            raise BadConfig(f"annexe computes in {', '.join(PRECISIONS)}, not in '{precision}'")
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        config, untrained = read_config(folder)
        processor = AnnexeProcessor.from_pretrained(folder, config)
        module = load_module(folder, config, PRECISIONS[precision or ("float32" if device == "cpu" else "bfloat16")])
        return cls(module.to(device), processor, f"annexe:{folder}", untrained)

    def save_pretrained(self, folder) -> Path:
        """Write configuration, weights and tokenizer into `folder`, each file whole or not at all."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        save_module(self.module, folder)
        self.processor.save_pretrained(folder)
        write_config(folder, self.config, self.untrained)
        return folder

    # ------------------------------------------------------------------ answering

    def respond(self, pictures: Sequence[Picture], queries: Sequence[Query], settings: Generation) -> list[Response]:
        """See `Model.respond`. Raises BadQuery for a box or point (ANNEXE reads words only) and for masks of untrained parts."""
        for query in queries:
            self._understand(query)
        begin = time.perf_counter()
        with torch.inference_mode():
            kept = [self._see(picture) for picture in pictures]
            images = [image for image, _ in kept]
            encoded = time.perf_counter()
            analyses = self._analyse(kept, queries, settings)
            asked = [k for k, q in enumerate(queries) if q.task != "analyze"]
            turns = [
                [(ANALYSIS_PROMPT, analyses[k]), (QUERY_PROMPT.format(query=queries[k].text.strip()), None)]
                if analyses[k] is not None and self.config.analysis == "context"
                else [(QUERY_PROMPT.format(query=queries[k].text.strip()), None)]
                for k in asked
            ]
            answers = dict(zip(asked, self._write([images[k] for k in asked], turns, settings)))
            written = time.perf_counter()
            responses = []
            for k, (picture, query) in enumerate(zip(pictures, queries)):
                if k not in answers:
                    responses.append(self._response(picture, query, analyses[k] or "", None, True, (), "analyze"))
                    continue
                head = turns[asked.index(k)]
                whole = self.processor.sequence([*head[:-1], (head[-1][0], answers[k])])
                responses.append(self._ground(picture, query, images[k], whole, answers[k], analyses[k]))
        done = time.perf_counter()
        shares = [("image", encoded - begin), ("text", written - encoded), ("mask", done - written)]
        spent = {name: 1000 * seconds / len(pictures) for name, seconds in shares} if pictures else {}
        for response in responses:
            response.milliseconds.update(spent)
        return responses

    def _understand(self, query: Query) -> None:
        if not query.text.strip():
            raise BadQuery("annexe reads questions in words: say what is meant instead of giving a box or a point")
        if query.box is not None or query.point is not None:
            raise BadQuery("annexe reads questions in words and cannot look at a box or a point: use nano or vlm4hoi for that")
        if query.mask and query.task != "analyze" and self.untrained:
            raise BadQuery(
                f"the mask side of {self.name} is not trained ({', '.join(self.untrained)}): train it with configs/annexe.yaml, or ask with mask off"
            )

    def _wants_masks(self, query: Query) -> bool:
        if query.mask is not None:
            return query.mask
        return query.task in (None, "ground", "refer", "identify") and not self.untrained

    def _see(self, picture: Picture) -> tuple[tuple, dict]:
        """((inputs, patches, tokens), analyses by settings) of a picture; the last few pictures are kept."""
        key = hashlib.blake2b(np.ascontiguousarray(picture.pixels).data, digest_size=16, key=repr(picture.size).encode()).digest()
        if key not in self._kept:
            inputs = {k: v[None].to(self.module.device) for k, v in self.processor.pixels(picture).items()}
            patches = self.module.language.patches(inputs["pixel_values"])
            self._kept[key] = ((inputs, patches, self.module.language.tokens(patches)), {})
        self._kept.move_to_end(key)
        found = self._kept[key]
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return found

    def _analyse(self, kept, queries, settings) -> list[str | None]:
        """The analysis of each item: needed by the answer step, or asked for. One picture is analysed once."""
        wanted = [k for k, q in enumerate(queries) if self.config.analysis == "context" or q.task in ("analyze", None, "ground")]
        first = {id(kept[k][1]): k for k in reversed(wanted) if settings not in kept[k][1]}
        chosen = sorted(first.values())
        ids = self._write([kept[k][0] for k in chosen], [[(ANALYSIS_PROMPT, None)] for _ in chosen], settings)
        for k, written in zip(chosen, ids):
            kept[k][1][settings] = annexe_text.parse(self.processor.decode(written)).text
        return [kept[k][1][settings] if k in wanted else None for k in range(len(queries))]

    def _write(self, images, turns, settings: Generation) -> list[list[int]]:
        """Ids that the language model writes after each open conversation, without the end symbol."""
        if not turns:
            return []
        prompts = [self.processor.sequence(t).ids for t in turns]
        options: dict = {"num_beams": settings.beams, "use_cache": True}
        limit = settings.max_new_tokens or self.config.language.max_new_tokens
        longest, room = max(map(len, prompts)), getattr(self.module.language.llama_model.config, "max_position_embeddings", None)
        if room is not None and longest + limit > room:
            raise BadQuery(
                f"picture, question and answer need {longest + limit} tokens, the language model of {self.name} reads {room}: "
                "ask a shorter question or for a shorter answer (max_new_tokens)"
            )
        if settings.temperature == 0:
            return self._generate(prompts, images, limit, options)
        options |= {"do_sample": True, "temperature": settings.temperature, "top_p": settings.top_p}
        written = []
        for prompt, image in zip(prompts, images):  # one by one, so that what is drawn does not depend on the batch
            with torch.random.fork_rng(devices=[self.module.device] if self.module.device.type == "cuda" else []):
                torch.manual_seed(settings.seed)
                written += self._generate([prompt], [image], limit, options)
        return written

    def _generate(self, prompts, images, limit: int, options: dict) -> list[list[int]]:
        ids, attend = self.processor.pad_batch(prompts, "left")
        tokens = torch.cat([image[2] for image in images])
        device = self.module.device
        made = self.module.language.generate(
            ids.to(device), attend.to(device), image_features=tokens, max_new_tokens=limit, pad_token_id=self.processor.pad, **options
        )
        return [self._until_end(row.tolist()) for row in made]

    def _until_end(self, ids: list[int]) -> list[int]:
        return ids[: ids.index(self.processor.eos)] if self.processor.eos in ids else ids

    # ------------------------------------------------------------------ masks

    def _ground(self, picture, query, image, whole: Turns, answer: list[int], analysis: str | None) -> Response:
        parsed = annexe_text.parse(self.processor.decode(answer))
        task = query.task or "ground"
        if not self._wants_masks(query):
            # weights of the released code never write a mask token: with them only the words say what was found
            found = bool(parsed.text if self.untrained else parsed.names)
            return self._response(picture, query, parsed.text, analysis, found, (), task)
        grounded = self.ground(picture, image, whole)
        entities = []
        for name, mask, score in zip(parsed.names, grounded.masks, grounded.scores):
            rle = masks.encode(mask)
            box = masks.box(rle)
            if box is not None:  # a mask without pixels shows nothing
                side = hand_side(name)
                kind = "hand" if annexe_text.is_hand(name) else "object"
                entities.append(Entity(name, kind, side if kind == "hand" else None, box, score * grounded.found, rle))
        return self._response(picture, query, parsed.text, analysis, bool(entities), tuple(entities), task)

    def ground(self, picture: Picture, image: tuple, whole: Turns) -> Grounded:
        """Decision and masks for one written answer, computed for this item alone. image: (inputs, patches, tokens)."""
        inputs, patches, tokens = image
        device = self.module.device
        start, stop = whole.spans[-1]
        # an answer has at most SLOTS targets: one that runs on is not followed, or it would cost memory without end
        places = [p for p in range(start, stop) if whole.ids[p] >= self.processor.first][: annexe_text.SLOTS]
        ids = torch.tensor([whole.ids], device=device)
        seen = ids
        if self.config.conditioning == "input":  # at inference the released design sees the question only
            seen = ids[:, :start]
        read = self.module.read_one(seen, tokens, patches)
        order = torch.tensor([whole.ids[p] - self.processor.first for p in places], device=device, dtype=torch.long)
        rows = torch.zeros(len(places), device=device, dtype=torch.long)
        where = torch.tensor([0] * len(places) if self.config.conditioning == "input" else places, device=device, dtype=torch.long)
        queries, target = self.module.conditions(read, rows, where, torch.tensor([start - 1], device=device), order)
        found = float(target.detach().sigmoid()[0])
        if found < self.config.threshold or not places:
            return Grounded(found, [], [])
        features = self.module.features(inputs, patches)
        logits = self.module.decoder(queries, features, rows).float()
        made, scores = [], []
        for one in logits:
            made.append((resized(one, picture.size) > 0).cpu().numpy())
            inside = one > 0
            scores.append(float(one.sigmoid()[inside].mean()) if bool(inside.any()) else 0.0)
        return Grounded(found, made, scores)

    @torch.inference_mode()
    def depth(self, picture: Picture) -> np.ndarray:
        """Depth of a picture, float32 [H, W], 0 (nearest) to 1 (farthest point of the picture). Raises BadConfig."""
        if not self.config.depth:
            raise BadConfig(f"{self.name} has no depth decoder")
        if self.untrained:
            raise BadConfig(f"the depth decoder of {self.name} is not trained: train it with configs/annexe.yaml")
        inputs = {k: v[None].to(self.module.device) for k, v in self.processor.pixels(picture).items()}
        features = self.module.features(inputs, self.module.language.patches(inputs["pixel_values"]))
        return resized(features.depth[0].float(), picture.size).clamp(0, 1).cpu().numpy()

    def _response(self, picture, query, text, analysis, found, entities, task) -> Response:
        return Response(
            image=picture.name, size=picture.size, query=query.text, task=task, text=text, target_found=found, entities=entities,
            analysis=analysis, model=self.name, milliseconds={"image": 0, "text": 0, "mask": 0}, picture=picture.pixels,
        )


def resized(plane: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """A plane [h, w] at a picture's size (width, height): bilinear, averaged where it shrinks. float [H, W]."""
    shrinks = size[1] < plane.shape[0] or size[0] < plane.shape[1]
    return functional.interpolate(plane[None, None], (size[1], size[0]), mode="bilinear", align_corners=False, antialias=shrinks)[0, 0]


def hand_side(name: str) -> str | None:
    """"left" or "right" if a name says so."""
    words = re.findall(r"[a-z]+", name.lower())
    return next((w for w in words if w in ("left", "right")), None)


# ---------------------------------------------------------------------- files


def read_config(folder) -> tuple[AnnexeConfig, tuple[str, ...]]:
    """(configuration, untrained parts) of a model folder. Raises BadWeights, BadConfig."""
    path = Path(folder) / CONFIG_FILE
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BadWeights(f"{folder}: no {CONFIG_FILE} there: this is no ANNEXE folder") from error
    except (OSError, ValueError) as error:
        raise BadWeights(f"{path}: not JSON ({str(error)[:80]})") from error
    if not isinstance(values, dict) or values.get("model_type") != "annexe":
        kind = values.get("model_type") if isinstance(values, dict) else None
        raise BadWeights(f"{path}: model_type is {kind!r}, not 'annexe': load it as the kind that it is")
    untrained = values.get("untrained", [])
    if not isinstance(untrained, list) or not all(isinstance(part, str) for part in untrained):
        raise BadConfig(f"{path}: 'untrained' must be a list of parts, got {untrained!r:.40}")
    return AnnexeConfig.from_dict(values.get("annexe", {}), str(path)), tuple(untrained)


def write_config(folder, config: AnnexeConfig, untrained: Sequence[str] = ()) -> None:
    """Write config.json, atomically."""
    path = Path(folder) / CONFIG_FILE
    part = path.with_name(path.name + ".part")
    values = {"model_type": "annexe", "annexe": config.to_dict(), "untrained": list(untrained)}
    part.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    os.replace(part, path)


def save_module(module: AnnexeModule, folder) -> None:
    """Write model.safetensors, atomically; weights that two names share are written once."""
    from safetensors.torch import save_file

    state, kept = {}, set()
    for name, tensor in module.state_dict().items():
        key = (tensor.data_ptr(), tensor.shape)
        if tensor.numel() and key in kept:
            continue
        kept.add(key)
        state[name] = tensor.detach().cpu().contiguous()
    path = Path(folder) / WEIGHTS_FILE
    part = path.with_name(path.name + ".part")
    save_file(state, part, metadata={"format": "pt"})
    os.replace(part, path)


def load_module(folder, config: AnnexeConfig, dtype: torch.dtype | None = None) -> AnnexeModule:
    """The network of a folder with its weights, strictly, on the CPU; the folder may hold one file or shards.

    dtype: of the language side (None: float32); the mask side is float32. With the paper's parts the network is built
    without memory and filled tensor by tensor, so there is never a second copy. Raises BadWeights.
    """
    source = weights.WeightFolder(folder)
    try:
        module = _built(config)
    except EgohoiError:
        raise
    except Exception as error:  # transformers raises many kinds for configurations that do not fit
        said = " ".join(str(error).split())[:120]
        raise BadWeights(f"{folder}/{CONFIG_FILE}: no network can be built from it ({type(error).__name__}: {said})") from error
    own = module.state_dict()
    # weights that two names share are stored under one of them
    shared = {n: t.data_ptr() for n, t in own.items() if not t.is_meta}
    stored = {shared[n] for n in source.names() if n in shared}
    wanted = {n: tuple(t.shape) for n, t in own.items() if n in source.shapes or shared.get(n) not in stored}
    weights.compare(source.shapes, wanted, str(folder))
    for name, tensor in weights.tensors_of(source):
        if not own[name].is_meta:
            own[name].copy_(tensor)
            continue
        owner, _, leaf = name.rpartition(".")
        kind = (dtype or torch.float32) if name.startswith("language.") else torch.float32
        parameters = module.get_submodule(owner)._parameters
        parameters[leaf] = nn.Parameter(tensor.to(kind), requires_grad=parameters[leaf].requires_grad)
    if dtype is not None:
        module.language.to(dtype)
    return module.eval()


def _built(config: AnnexeConfig) -> AnnexeModule:
    """The network with random weights, or with none where no two names share one, which is known of the paper's parts."""
    if config.tower is not None or config.llm is not None or config.language.llama.get("tie_word_embeddings"):
        return AnnexeModule(config)
    with need("accelerate", "vlm").init_empty_weights(include_buffers=False):
        return AnnexeModule(config)


__all__ = ["IMAGE_TOKEN", "Annexe", "Grounded", "load_module", "read_config", "resized", "save_module", "write_config"]
