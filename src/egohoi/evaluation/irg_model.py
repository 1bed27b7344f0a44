"""A model's answers on Ego-IRGBench, frame by frame."""

from collections.abc import Iterator

from egohoi import images
from egohoi.errors import BadConfig, BadQuery
from egohoi.evaluation import irg_answers, irg_depth
from egohoi.evaluation.irg_answers import Answer
from egohoi.evaluation.irg_items import Truth
from egohoi.records import Query


def answers(model, truths: list[Truth], analysis: str | None = None) -> Iterator[Answer]:
    """Answers to the queries of one frame, in order; one by one, so that a stopped run loses no more than one.

    analysis: of the frame, if it is known from a run before; else the model is asked for it once, where it does not give one with its
    answer. A question that the model refuses is an answer without words and target. Raises BadImage.
    """
    if not truths:
        return
    picture = images.load(truths[0].item.image)
    for truth in truths:
        try:
            response = model.ask_many([(picture, Query(text=truth.query, task="ground"))])[0]
        except BadQuery:
            yield Answer("", analysis, False, faults={"refused queries": 1})
            continue
        if response.analysis is None and analysis is None:
            analysis = model.describe(picture).text
        row = response.to_json()
        row["analysis"] = response.analysis if response.analysis is not None else analysis
        yield irg_answers.of_row(row)


def save_depth(model, truth: Truth, folder) -> bool:
    """Write the model's depth of a frame, unless it is there from a run before; False if the model has no depth."""
    if not hasattr(model, "depth"):
        return False
    if (folder / f"{truth.item.frame}.png").is_file():
        return True
    try:
        depth = model.depth(images.load(truth.item.image))
    except BadConfig:
        return False
    irg_depth.write(folder, truth.item.frame, depth)
    return True
