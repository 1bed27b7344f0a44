"""Any image-text-to-text model of `transformers` in a local folder (Qwen2.5-VL and the like): `hf:FOLDER`.

Such models write boxes each in its own convention; `CONVENTIONS` says which, by the model type of config.json.
"""

import json
import re
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image

from egohoi.boxes import CODECS
from egohoi.engine.reading import asked_name, guess_task, kind_of, read_entities
from egohoi.errors import BadConfig, BadQuery, BadWeights, need
from egohoi.images import Picture
from egohoi.models.base import Generation, Model
from egohoi.models.vlm4hoi_folder import PRECISIONS, device_of, precision_of
from egohoi.models.weights import read_json
from egohoi.records import Entity, Query, Response

#: model_type -> name in `boxes.CODECS`, as the model cards state it; other types are told to write 0-1000.
CONVENTIONS = {
    "qwen2_vl": "thousand", "qwen2_5_vl": "absolute", "qwen3_vl": "thousand", "qwen3_vl_moe": "thousand", "internvl": "thousand",
    "paligemma": "loc",
}
_HINTS = {
    "thousand": "Write each box as [x1, y1, x2, y2], whole numbers from 0 to 1000 over the width and height of the image.",
    "absolute": "Write each box as [x1, y1, x2, y2] in pixels of the image.",
    "loc": "",
}
#: Longest answer where the settings do not say.
NEW_TOKENS = 256


class Generalist(Model):
    """A general vision-language model. Questions that ask for boxes get one sentence on how to write them.

    Entities have score 1: such models state none.
    """

    def __init__(self, model, processor, codec: str, name: str):
        self.model = model.eval()
        self.processor = processor
        self.codec = CODECS[codec]
        self.name = name
        self._lock = threading.Lock()

    @classmethod
    def from_pretrained(cls, folder: str | None, *, device: str | None = None, precision: str | None = None) -> "Generalist":
        """Load a local model folder; code inside it is never run. Raises BadWeights, BadConfig, MissingExtra.

        precision: float32, bfloat16, float16; None: float16 on a GPU, float32 on a CPU.
        """
        path = Path(folder or "")
        if not folder or not path.is_dir():
            raise BadWeights(f"hf:{folder}: no such folder: download the model first and name its folder")
        kind = str(read_json(path / "config.json").get("model_type", ""))
        if kind in ("vlm4hoi", "annexe"):
            raise BadWeights(f"{path}: holds a model of this package's own kind: load it as {kind}:{folder}")
        place = device_of(device)
        precision = precision_of(precision, place)
        if precision in ("int8", "int4"):
            raise BadConfig(f"hf models load in float32, bfloat16 or float16, not in {precision}")
        transformers = need("transformers", "vlm")
        try:
            model, info = transformers.AutoModelForImageTextToText.from_pretrained(
                str(path), dtype=PRECISIONS[precision][0], local_files_only=True, output_loading_info=True, trust_remote_code=False,
            )
            processor = transformers.AutoProcessor.from_pretrained(str(path), local_files_only=True, trust_remote_code=False)
        except Exception as error:  # the library raises many kinds for wrong and damaged folders
            reason = " ".join(str(error).split())[:160]
            raise BadWeights(f"{path}: cannot be loaded as an image-text-to-text model ({reason})") from error
        if info["missing_keys"] or info["mismatched_keys"]:
            names = sorted(map(str, [*info["missing_keys"], *info["mismatched_keys"]]))
            raise BadWeights(f"{path}: {len(names)} weights are missing or of another shape ({', '.join(names[:3])})")
        return cls(model.to(place), processor, CONVENTIONS.get(kind, "thousand"), f"hf:{path.name}")

    def respond(self, pictures: Sequence[Picture], queries: Sequence[Query], settings: Generation) -> list[Response]:
        """Answer one after another: padding of such models differs too much to promise that a batch changes nothing."""
        return [self._one(picture, query, settings) for picture, query in zip(pictures, queries, strict=True)]

    def prompt(self, query: Query, size: tuple[int, int]) -> str:
        """The user's text: the question, the box to identify in the model's convention, and how to write boxes."""
        if query.point is not None and query.box is None:
            raise BadQuery("this model identifies boxes, not points: draw a box around the thing")
        task = guess_task(query, self.codec)
        parts = [query.text.strip()]
        if query.box is not None:
            box = self.codec.encode(query.box, size)
            parts.append(box if parts[0] else f"What is in the box {box}?")
        if task in ("refer", "analyze") or query.box is not None:
            parts.append(_HINTS[self.codec.name])
        return " ".join(part for part in parts if part)

    @torch.inference_mode()
    def _one(self, picture: Picture, query: Query, settings: Generation) -> Response:
        if settings.temperature > 0 and settings.beams > 1:
            raise BadConfig("beams search, temperature samples: choose one (temperature 0 with beams)")
        start = time.perf_counter()
        seen = picture.size
        for _ in range(2 if query.box is not None and self.codec.grid is None else 1):
            # A box in pixels of the resized picture can be written only once that size is known.
            box = query.box and tuple(v * seen[k % 2] / picture.size[k % 2] for k, v in enumerate(query.box))
            asked = Query(text=query.text, box=box, task=query.task) if box else query
            inputs = self._inputs(picture, self.prompt(asked, seen))
            seen = self._seen(inputs, picture.size)
        middle = time.perf_counter()
        options = {"max_new_tokens": settings.max_new_tokens or NEW_TOKENS, "num_beams": settings.beams, "do_sample": False}
        if settings.temperature > 0:
            options |= {"do_sample": True, "temperature": settings.temperature, "top_p": settings.top_p}
        device = self.model.device
        with self._lock, torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(settings.seed)
            ids = self.model.generate(**inputs, **options)[0, inputs["input_ids"].shape[1] :]
        text = self.processor.tokenizer.decode(ids, skip_special_tokens=True).strip()
        end = time.perf_counter()
        milliseconds = {"image": (middle - start) * 1000, "text": (end - middle) * 1000, "mask": 0}
        return self.response(picture, query, text, seen, milliseconds)

    def _inputs(self, picture: Picture, text: str):
        message = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": text}]}]
        prompt = self.processor.apply_chat_template(message, add_generation_prompt=True, tokenize=False)
        inputs = self.processor(images=[Image.fromarray(picture.pixels)], text=[prompt], return_tensors="pt")
        return inputs.to(self.model.device, self.model.dtype)

    def _seen(self, inputs, size: tuple[int, int]) -> tuple[int, int]:
        """(width, height) of the picture that the model saw, where its processor says so."""
        grid = inputs.get("image_grid_thw")
        if grid is None:
            return size
        patch = int(self.model.config.vision_config.patch_size)
        _, rows, columns = grid[0].tolist()
        return columns * patch, rows * patch

    def response(self, picture: Picture, query: Query, text: str, seen: tuple[int, int], milliseconds: dict) -> Response:
        """What a text means. seen: (width, height) of the picture that boxes in pixels refer to."""
        task = guess_task(query, self.codec)
        entities = read_entities(
            labelled(text), picture.size, self.codec, default_name=asked_name(query.text), score=1.0, seen_size=seen
        )
        if task == "identify" and not entities and text and query.box is not None:
            kind, side = kind_of(text)
            entities = (Entity(name=text, kind=kind, side=side, box=query.box, score=1.0),)
        return Response(
            image=picture.name, size=picture.size, query=query.text, task=task, text=text,
            analysis=text if task == "analyze" else None,
            target_found=bool(entities) if task in ("refer", "ground") else bool(text), entities=entities, model=self.name,
            milliseconds=milliseconds, picture=picture.pixels,
        )


def labelled(text: str) -> str:
    """JSON answers (`[{"bbox_2d": [x1, y1, x2, y2], "label": "cup"}]`, fenced or not) as `<p>cup</p> [x1, y1, x2, y2]`.

    Other texts come back as they are.
    """
    inner = re.sub(r"^```\w*\s*|\s*```$", "", text.strip())
    try:
        items = json.loads(inner)
    except ValueError:
        return text
    lines = []
    for item in items if isinstance(items, list) else [items]:
        box = (item.get("bbox_2d") or item.get("box_2d") or item.get("bbox")) if isinstance(item, dict) else None
        if isinstance(box, list) and len(box) == 4:
            label = item.get("label")
            lines.append((f"<p>{label}</p> " if isinstance(label, str) and label else "") + str(box))
    return "\n".join(lines) or text
