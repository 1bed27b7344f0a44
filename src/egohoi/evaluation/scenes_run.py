"""Asking a model, or reading its saved answers, about every scene of a data set."""

import dataclasses
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from egohoi import images
from egohoi.errors import BadData, BadPredictions, BadQuery, EgohoiError
from egohoi.evaluation import scene_questions, scenes
from egohoi.evaluation.journal import Journal
from egohoi.evaluation.scene_questions import SceneQuestion
from egohoi.evaluation.tally import Tally
from egohoi.records import Entity, Query, Response, Scene

#: What a description is asked with where masks are wanted too.
DESCRIBE = "What is happening?"


@dataclass(frozen=True)
class Plan:
    """Scenes and the questions about them. balanced: ids of the questions that the no-target balance is taken over,
    id -> reason of absence that the question stands for or against."""

    scenes: tuple[Scene, ...]
    questions: dict[str, tuple[SceneQuestion, ...]]
    balanced: dict[str, str]

    @property
    def masked(self) -> bool:
        """Whether any scene has masks."""
        return any(t.mask is not None for s in self.scenes for t in (*s.hands, *s.objects))


def plan(source: Iterable[Scene], limit: int | None = None, seed: int = 0, where: str = "data") -> Plan:
    """Read the scenes and make their questions. Raises BadData (no scene, doubled ids) and what the reader raises."""
    found: list[Scene] = []
    for scene in source:
        found.append(scene)
        if limit is not None and len(found) >= limit:
            break
    if not found:
        raise BadData(f"{where}: holds no scene")
    doubled = [i for i, n in Counter(s.id for s in found).items() if n > 1]
    if doubled:
        raise BadData(f"{where}: ids that stand more than once: {names(doubled)}")
    vocabulary = scene_questions.vocabulary(found)
    asked = {s.id: tuple(scene_questions.questions(s, vocabulary, seed)) for s in found}
    return Plan(tuple(found), asked, _balance(asked, seed))


def _balance(asked: dict[str, Sequence[SceneQuestion]], seed: int) -> dict[str, str]:
    """For each reason of absence: its questions and as many present ones of the same kinds (id -> reason)."""
    flat = [q for group in asked.values() for q in group if q.kind in scenes.TARGETED]
    chosen: dict[str, str] = {}
    for reason in ("absent_hand", "empty_hand", "absent_object"):
        pool = [q for q in flat if q.absent == reason or (q.found and q.id not in chosen)]
        chosen.update({q.id: reason for q in scene_questions.balanced(pool, seed)})
    return chosen


def names(items: Sequence[str], most: int = 5) -> str:
    """`a, b, c and 7 more`, for messages."""
    items = [str(i) for i in items]
    return ", ".join(items[:most]) + (f" and {len(items) - most} more" if len(items) > most else "")


#: scene, its questions -> the description and one response a question (None: not answered, where that is allowed).
Answers = Callable[[Scene, Sequence[SceneQuestion]], tuple[Response | None, list[Response | None]]]


def from_model(model, masked: bool = False) -> Answers:
    """Answers of a model; a question that it refuses (BadQuery) is an answer without target and text.

    masked: ask for the masks of every scene; otherwise of those that have some.
    """

    def answers(scene: Scene, asked: Sequence[SceneQuestion]):
        picture = images.load(scene.image)
        if picture.size != scene.size:
            raise BadData(
                f"scene '{scene.id}': its labels are for {scene.size[0]}x{scene.size[1]} pixels, {scene.image} has "
                f"{picture.size[0]}x{picture.size[1]}: the canvas is wrong"
            )
        wanted = masked or any(t.mask is not None for t in (*scene.hands, *scene.objects))
        whole = model.ask(picture, DESCRIBE, task="analyze", mask=True) if wanted else model.describe(picture)
        try:
            replies = list(model.ask_many([(picture, q.query) for q in asked])) if asked else []
        except BadQuery:
            replies = [_ask(model, picture, q.query) for q in asked]
        if len(replies) != len(asked):
            raise BadData(f"scene '{scene.id}': the model gave {len(replies)} answers to {len(asked)} questions")
        return whole, replies

    return answers


def _ask(model, picture, query: Query) -> Response:
    try:
        return model.ask_many([(picture, query)])[0]
    except BadQuery as refusal:
        return Response(picture.name, picture.size, query.text, query.task or "answer", f"[refused: {refusal}]", target_found=False)


def run(
    todo: Plan, answers: Answers, journal: Journal, *, same=None, shard: tuple[int, int] = (0, 1), progress: Callable[[int, int], None] = lambda done, of: None,
) -> Iterator[dict]:
    """Score every scene of one shard; yields one record an item, those of earlier runs from the journal.

    shard: (k, n) takes the scenes k, k + n, k + 2n, ... A record holds the question, truth, response and what it counts.
    """
    mine, masked = todo.scenes[shard[0] :: shard[1]], todo.masked
    for number, scene in enumerate(mine, 1):
        records = journal.done.get(scene.id)
        if records is None:
            whole, replies = answers(scene, todo.questions[scene.id])
            records = journal.add(scene.id, _records(scene, todo, whole, replies, same, masked))
        progress(number, len(mine))
        yield from records


def _records(scene: Scene, todo: Plan, whole: Response | None, replies: Sequence[Response | None], same, masked: bool) -> list[dict]:
    made = []
    base = {"scene": scene.id, "image": scene.image}
    if whole is not None:
        truth = {"hands": [_hand(h) for h in scene.hands], "objects": [_object(o) for o in scene.objects]}
        made.append({"id": f"{scene.id}/describe", **base, "kind": "describe", "question": whole.query, "truth": truth,
                     "response": whole.to_json(), "score": _pairs(scenes.detection(scene, whole, masked))})
    for question, reply in zip(todo.questions[scene.id], replies):
        if reply is None:
            continue
        score = scenes.answer(question, reply, same)
        reason = todo.balanced.get(question.id)
        if reason:
            side = "present" if question.found else "absent"
            right = float(bool(reply.target_found) is question.found)
            score |= {f"balanced.{side}/right": (right, 1.0), f"balanced.{side}.{reason}/right": (right, 1.0)}
        made.append({"id": question.id, **base, "kind": question.kind, "question": question.query.text, "box": question.query.box,
                     "truth": _truth(question), "response": reply.to_json(), "score": _pairs(score)})
    return made


def _hand(hand) -> dict:
    return {k: v for k, v in dataclasses.asdict(hand).items() if k != "mask" and v is not None}


def _object(item) -> dict:
    return {"name": item.name, "box": item.box, "hands": item.hands}


def _truth(question: SceneQuestion) -> dict:
    row = {"found": question.found, "absent": question.absent, "boxes": question.boxes, "nouns": question.nouns, "sides": question.sides}
    return {k: v for k, v in row.items() if v not in ("", ())} | ({"yes": question.yes} if question.yes is not None else {})


def _pairs(score) -> dict:
    return {k: [round(n, 6), d] for k, (n, d) in score.items()}


def tally(records: Iterable[dict]) -> Tally:
    """Sum what the records count, by image."""
    sums = Tally()
    for record in records:
        sums.add(record["scene"], record["score"])
    return sums


def from_predictions(paths: Sequence, todo: Plan) -> Answers:
    """Answers saved earlier: lines of `predict`, of `describe --json`, or the records of an earlier run.

    A line belongs to the item of its `id`, else to picture, question text and box. Raises BadPredictions for lines that belong
    to no item, for two lines of one item, and for items without a line: all descriptions, or all questions, may be missing
    together, but not some.
    """
    known = {q.id: q.id for group in todo.questions.values() for q in group} | {f"{s.id}/describe": f"{s.id}/describe" for s in todo.scenes}
    by_text = _texts(todo)
    kept, unknown, doubled = {}, [], []
    for where, row in _lines(paths):
        response = response_from_json(row.get("response", row), where)
        item = known.get(row.get("id")) or by_text.get(_text_key(response, row.get("box")))
        if item is None and response.task == "analyze":
            item = by_text.get((Path(response.image).name, None, None))
        if item is None:
            unknown.append(f"{where} ({Path(response.image).name}: {response.query[:40]!r})")
        elif item in kept:
            doubled.append(item)
        kept[item] = response
    if unknown:
        raise BadPredictions(f"{len(unknown)} predictions belong to no question of this data set: {names(unknown)}")
    if doubled:
        raise BadPredictions(f"{len(doubled)} items have more than one prediction: {names(doubled)}")
    whole = [f"{s.id}/describe" for s in todo.scenes]
    asked = [q.id for group in todo.questions.values() for q in group]
    for kind, wanted in (("scenes", whole), ("questions", asked)):
        missing = [i for i in wanted if i not in kept]
        if missing and len(missing) < len(wanted):
            raise BadPredictions(f"{len(missing)} {kind} of {len(wanted)} have no prediction: {names(missing)}")
    if not kept:
        raise BadPredictions(f"{names([str(p) for p in paths])}: holds no prediction")

    def answers(scene: Scene, questions: Sequence[SceneQuestion]):
        responses = [kept.get(f"{scene.id}/describe"), *(kept.get(q.id) for q in questions)]
        for response in responses:
            if response is not None and response.size != scene.size:
                raise BadPredictions(f"scene '{scene.id}': predicted on a canvas of {response.size}, the picture has {scene.size}")
        return responses[0], responses[1:]

    return answers


def _lines(paths: Sequence) -> Iterator[tuple[str, dict]]:
    for path in paths:
        if not Path(path).is_file():
            raise BadPredictions(f"{path}: no such file of predictions")
        with open(path, encoding="utf-8", errors="replace") as lines:
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                try:
                    row = json.loads(line)
                except (ValueError, RecursionError) as error:
                    raise BadPredictions(f"{path}:{number}: is not JSON ({str(error)[:60]})") from error
                if not isinstance(row, dict):
                    raise BadPredictions(f"{path}:{number}: a prediction is a JSON object, got {type(row).__name__}")
                if "run" not in row:
                    yield f"{path}:{number}", row


def _texts(todo: Plan) -> dict:
    """(picture, question, box) -> item; texts that stand for two items of a picture are left out."""
    out, twice = {}, set()
    pictures = Counter(Path(s.image).name for s in todo.scenes)
    for scene in todo.scenes:
        name = Path(scene.image).name
        if pictures[name] > 1:
            continue
        out[(name, None, None)] = f"{scene.id}/describe"
        for question in todo.questions[scene.id]:
            key = (name, question.query.text, _box_key(question.query.box))
            if key in out:
                twice.add(key)
            out[key] = question.id
    return {k: v for k, v in out.items() if k not in twice}


def _box_key(box):
    return tuple(round(float(v)) for v in box) if box else None


def _text_key(response: Response, box):
    return (Path(response.image).name, response.query, _box_key(box))


def response_from_json(row: dict, where: str) -> Response:
    """The JSON form of a response -> Response. Raises BadPredictions."""
    try:
        entities = [
            Entity(str(e["name"]), e["kind"], e.get("side"), tuple(float(v) for v in e["box"]), float(e.get("score", 1.0)), e.get("mask"),
                   None if e.get("holds") is None else tuple(int(k) for k in e["holds"]))
            for e in row.get("entities") or ()
        ]
        if any(len(e.box) != 4 for e in entities):
            raise ValueError("a box has four numbers")
        return Response(
            image=str(row["image"]), size=tuple(int(v) for v in row["size"]), query=str(row.get("query", "")), task=str(row.get("task", "")),
            text=str(row.get("text", "")), target_found=bool(row["target_found"]), entities=tuple(entities), analysis=row.get("analysis"),
            model=str(row.get("model", "")), milliseconds=row.get("milliseconds") or {},
        )
    except EgohoiError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadPredictions(f"{where}: is not the JSON of a response ({type(error).__name__}: {str(error)[:80]})") from error
