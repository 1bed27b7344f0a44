"""VLM4HOI as a model of this package: pictures and questions in, text, boxes and names out (arXiv 2404.09933)."""

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from egohoi import images
from egohoi.boxes import CODECS
from egohoi.engine.batching import Recent, batches, digest
from egohoi.engine.reading import asked_name, guess_task, kind_of, read_entities
from egohoi.engine.streaming import TextStreamer, stream
from egohoi.errors import BadConfig, BadQuery, BadWeights, need
from egohoi.images import Picture
from egohoi.models import vlm4hoi_folder
from egohoi.models.base import Generation, Model
from egohoi.models.vlm4hoi_module import VLM4HOIModule
from egohoi.models.vlm4hoi_processor import VLM4HOIProcessor
from egohoi.records import Entity, Query, Response

#: Question that the training data answers with a grounded description (HOI-QA, type Q7).
DESCRIBE = "Describe the ongoing action in this image."
#: Pictures whose encoded prefix is kept: 141 MB each for the 7B model in 16 bits.
KEPT_PICTURES = 4
#: Queries that run at once.
BATCH = 16


@dataclass(frozen=True)
class _Prefix:
    """The part of a prompt that all questions about a picture share. embeddings: [1, P, D]; keys: per layer (k, v) [1, H, P, d]."""

    embeddings: torch.Tensor
    keys: tuple[tuple[torch.Tensor, torch.Tensor], ...]


@dataclass(frozen=True)
class _Answer:
    text: str
    score: float
    image_ms: float
    text_ms: float


class VLM4HOI(Model):
    """The published model or one like it. A question goes in exactly as typed, in the model's own prompt.

    A picture is encoded once, and the keys and values of the prompt up to its end are kept, so that further questions
    about it cost only their own tokens. Entities have one score: the geometric mean of the probabilities of the answer's tokens.
    """

    name = "vlm4hoi"

    def __init__(self, module: VLM4HOIModule, processor: VLM4HOIProcessor, name: str = "vlm4hoi"):
        self.module = module.eval()
        self.processor = processor
        self.codec = CODECS[module.config.codec]
        self.name = name
        self._prefixes = Recent(KEPT_PICTURES)
        # Generation shares the table above and the global random state.
        self._lock = threading.Lock()

    @classmethod
    def from_pretrained(cls, folder: str | None, *, device: str | None = None, precision: str | None = None) -> "VLM4HOI":
        """Load a folder that `egohoi convert vlm4hoi` or `save_pretrained` wrote. Raises BadWeights, BadConfig, MissingExtra.

        device: None: the first GPU, else the CPU. precision: float32, bfloat16, float16, int8, int4; None: float16 on a
        GPU, float32 on a CPU.
        """
        if folder is None:
            raise BadWeights("vlm4hoi has no embedded weights: name a folder, as in vlm4hoi:FOLDER")
        config = vlm4hoi_folder.read_config(folder)
        processor = VLM4HOIProcessor.from_pretrained(folder, config)
        return cls(vlm4hoi_folder.load_module(folder, device, precision), processor)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write weights, configuration, tokenizer and model card into a new folder. Raises BadWeights."""
        vlm4hoi_folder.save_pretrained(self.module, self.processor, folder)

    # ------------------------------------------------------------------ the interface

    def respond(self, pictures: Sequence[Picture], queries: Sequence[Query], settings: Generation) -> list[Response]:
        """Answer queries[i] about pictures[i]; batches share the encoding of equal pictures and do not change answers."""
        prompts = [self.prompt(query, picture) for picture, query in zip(pictures, queries, strict=True)]
        keys = [digest(picture) for picture in pictures]
        # Sampling draws for a whole batch at once: one by one, so that an answer depends on its own seed alone.
        size = 1 if settings.temperature > 0 else BATCH
        answers: dict[int, _Answer] = {}
        for group in batches(keys, size):
            made = self._answer([pictures[i] for i in group], [keys[i] for i in group], [prompts[i] for i in group], settings)
            answers.update(zip(group, made, strict=True))
        return [self._response(pictures[i], queries[i], answers[i]) for i in range(len(queries))]

    def describe(self, image, settings: Generation | None = None) -> Response:
        """The ongoing action, with the boxes of what takes part in it where the model writes them."""
        return self.ask(image, DESCRIBE, task="analyze", settings=settings)

    def stream(self, image, query: Query, settings: Generation | None = None) -> Iterator[str | Response]:
        """Pieces of the text as they are written, then the Response. With beams the text comes in one piece."""
        settings = settings or Generation()
        picture = images.load(image)
        self.check(picture, query)
        ids = self.prompt(query, picture)
        return self._stream(picture, query, ids, settings)

    def chat(self, image, question: str, history: Sequence[tuple[str, str]] = (), settings: Generation | None = None) -> Response:
        """Answer a question after earlier (question, answer) turns about the same picture."""
        picture = images.load(image)
        return self.respond([picture], [Query(text=question, history=tuple(history))], settings or Generation())[0]

    def prompt(self, query: Query, picture: Picture) -> list[int]:
        """Token ids of the prompt after the image: earlier turns, then the question as typed; a box is written behind its question.

        Raises BadQuery for a point, and for a conversation that does not fit the model's context.
        """
        if query.point is not None and query.box is None:
            raise BadQuery("this model identifies boxes, not points: draw a box around the thing")
        history = [(self._asked(turn.question, turn.box, picture), turn.answer) for turn in query.history]
        ids = self.processor.question(self._asked(query.text, query.box, picture), history)
        config = self.module.config
        most = int(config.llama.get("max_position_embeddings", 4096)) - config.image_tokens - config.max_new_tokens - 16
        if len(ids) > most:
            with_turns = f" with its {len(history)} earlier turns" if history else ""
            raise BadQuery(f"the question{with_turns} has {len(ids)} tokens, this model reads at most {most}: shorten it")
        return ids

    def _asked(self, text: str, box, picture: Picture) -> str:
        return text if box is None else f"{text} {self.codec.encode(box, picture.size)}".strip()

    # ------------------------------------------------------------------ the work

    def _stream(self, picture: Picture, query: Query, ids: list[int], settings: Generation) -> Iterator[str | Response]:
        def work(emit, stopped):
            streamer = TextStreamer(self._visible, emit, self.processor.is_byte) if settings.beams == 1 else None
            answer = self._answer([picture], [digest(picture)], [ids], settings, streamer, stopped)[0]
            if streamer is None:
                emit(answer.text)
            return self._response(picture, query, answer)

        yield from stream(work)

    def _visible(self, ids: Sequence[int]) -> str:
        # No stripping at the end: the next token may continue after a space.
        return self.processor.decode(ids).lstrip()

    @torch.inference_mode()
    def _answer(self, pictures, keys, prompts, settings: Generation, streamer=None, stopped=None) -> list[_Answer]:
        if settings.temperature > 0 and settings.beams > 1:
            raise BadConfig("beams search, temperature samples: choose one (temperature 0 with beams)")
        with self._lock:
            start = time.perf_counter()
            by_key = dict(zip(keys, pictures))
            prefixes = self._prefixes.get_many(keys, lambda missing: self._encode([by_key[key] for key in missing]))
            middle = time.perf_counter()
            output = self._generate(prefixes, prompts, settings, streamer, stopped)
            texts = [self.processor.answer(row) for row in output.sequences]
            scores = self._scores(output)
            end = time.perf_counter()
        count = len(pictures)
        image_ms, text_ms = (middle - start) * 1000 / count, (end - middle) * 1000 / count
        return [_Answer(text, score, image_ms, text_ms) for text, score in zip(texts, scores, strict=True)]

    def _encode(self, pictures: Sequence[Picture]) -> list[_Prefix]:
        module, processor = self.module, self.processor
        features = module.encode_image(torch.stack([processor.pixels(p) for p in pictures]))
        ids = torch.tensor([processor.prefix()] * len(pictures), device=module.device)
        embeddings = module.embed(ids, features)
        cache = need("transformers", "vlm").DynamicCache()
        module.llama_model.model(inputs_embeds=embeddings, use_cache=True, **{module.cache_argument: cache})
        layers = [(layer.keys, layer.values) for layer in cache.layers]
        return [
            _Prefix(embeddings[k : k + 1].clone(), tuple((a[k : k + 1].clone(), b[k : k + 1].clone()) for a, b in layers))
            for k in range(len(pictures))
        ]

    def _generate(self, prefixes: Sequence[_Prefix], prompts, settings: Generation, streamer, stopped):
        transformers = need("transformers", "vlm")
        module = self.module
        ids, mask = self.processor.pad_batch(prompts, "left")
        ids, mask = ids.to(module.device), mask.to(module.device)
        start = torch.cat([p.embeddings for p in prefixes])
        cache = transformers.DynamicCache()
        for layer in range(len(prefixes[0].keys)):
            keys, values = (torch.cat([p.keys[layer][k] for p in prefixes]) for k in (0, 1))
            # generate expands its inputs for beams, but not a cache that it is given.
            cache.update(keys.repeat_interleave(settings.beams, 0), values.repeat_interleave(settings.beams, 0), layer)
        options = {"num_beams": settings.beams, module.cache_argument: cache, "streamer": streamer}
        if settings.temperature > 0:
            options |= {"do_sample": True, "temperature": settings.temperature, "top_p": settings.top_p, "top_k": 0}
        if stopped is not None:
            options["stopping_criteria"] = transformers.StoppingCriteriaList([_Gone(stopped)])
        with torch.random.fork_rng(devices=[module.device] if module.device.type == "cuda" else []):
            torch.manual_seed(settings.seed)
            return module.generate_from(
                torch.cat([start, module.embed(ids, None)], dim=1), torch.cat([mask.new_ones(start.shape[:2]), mask], dim=1),
                max_new_tokens=settings.max_new_tokens, return_dict_in_generate=True, output_scores=True, **options,
            )

    def _scores(self, output) -> list[float]:
        logs = self.module.llama_model.compute_transition_scores(
            output.sequences, output.scores, getattr(output, "beam_indices", None), normalize_logits=True
        ).float()
        scores = []
        for row, values in zip(output.sequences.tolist(), logs):
            length = row.index(self.processor.eos) + 1 if self.processor.eos in row else len(row)
            # Tokens that a processor forbids have a log of minus infinity; none of them is chosen.
            scores.append(float(values[:length].mean().exp()) if length else 0.0)
        return scores

    def _response(self, picture: Picture, query: Query, answer: _Answer) -> Response:
        task = guess_task(query, self.codec)
        score = min(1.0, max(0.0, answer.score))
        entities = read_entities(answer.text, picture.size, self.codec, default_name=asked_name(query.text), score=score)
        box = query.box or next(iter(self.codec.decode(query.text, picture.size)), None)
        if task == "identify" and not entities and answer.text and box is not None:
            kind, side = kind_of(answer.text)
            entities = (Entity(name=answer.text, kind=kind, side=side, box=box, score=score),)
        return Response(
            image=picture.name, size=picture.size, query=query.text, task=task, text=answer.text,
            analysis=answer.text if task == "analyze" else None,
            target_found=bool(entities) if task in ("refer", "ground") else bool(answer.text), entities=entities,
            model=self.name, milliseconds={"image": answer.image_ms, "text": answer.text_ms, "mask": 0}, picture=picture.pixels,
        )


class _Gone:
    """A stopping criterion: the reader of a stream has gone away."""

    def __init__(self, stopped):
        self._stopped = stopped

    def __call__(self, input_ids: torch.Tensor, scores, **_) -> torch.Tensor:
        return torch.full((input_ids.shape[0],), self._stopped(), dtype=torch.bool, device=input_ids.device)
