"""`egohoi ask` and `egohoi describe`."""

import json
import sys
from typing import Annotated

import typer

ModelOption = Annotated[str, typer.Option("--model", help="nano, or KIND:FOLDER (vlm4hoi, annexe, hf)")]
DeviceOption = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, ...; the best there is by default")]
PrecisionOption = Annotated[str | None, typer.Option(help="float32, bfloat16, float16, int8 or int4")]


def ask(
    image: Annotated[str, typer.Argument(help="a JPEG, PNG, ... file")],
    question: Annotated[str, typer.Argument(help="what you want to know, in words")] = "",
    model: ModelOption = "nano",
    box: Annotated[str | None, typer.Option(help="identify what is in this box: x1,y1,x2,y2 in pixels")] = None,
    point: Annotated[str | None, typer.Option(help="identify what is at this point: x,y in pixels")] = None,
    task: Annotated[str | None, typer.Option(help="refer, identify, answer, analyze or ground; the wording decides by default")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the whole response as JSON")] = False,
    streamed: Annotated[bool, typer.Option("--stream", help="print the answer as it is written")] = False,
    overlay: Annotated[str | None, typer.Option(help="write the picture with boxes, names and masks here")] = None,
    max_new_tokens: Annotated[int | None, typer.Option(help="longest answer")] = None,
    temperature: Annotated[float, typer.Option(help="0 is greedy")] = 0.0,
    top_p: Annotated[float, typer.Option(help="counts above temperature 0")] = 1.0,
    beams: Annotated[int, typer.Option(help="beam search of this width")] = 1,
    seed: Annotated[int, typer.Option(help="of sampling")] = 0,
    device: DeviceOption = None,
    precision: PrecisionOption = None,
) -> None:
    """Answer a question about a picture: boxes, names, who holds what, masks."""
    from egohoi import images
    from egohoi.errors import BadQuery
    from egohoi.models.base import Generation
    from egohoi.records import Query

    # Everything that can be wrong with the request is checked before a model is loaded.
    query = Query(text=question, box=_numbers(box, 4, "--box"), point=_numbers(point, 2, "--point"), task=task)
    settings = Generation(max_new_tokens, temperature, top_p, beams, seed)
    if streamed and as_json:
        raise BadQuery("--stream prints words and --json one record: choose one")
    picture = images.load(image)
    loaded = _load(model, device, precision, picture, query)
    if not streamed:
        _show(loaded.ask_many([(picture, query)], settings)[0], as_json, overlay)
        return
    for piece in loaded.stream(picture, query, settings):
        if isinstance(piece, str):
            print(piece, end="", flush=True)
        else:
            print()
            _show(piece, as_json, overlay, written=True)


def describe(
    image: Annotated[str, typer.Argument(help="a JPEG, PNG, ... file")],
    model: ModelOption = "nano",
    as_json: Annotated[bool, typer.Option("--json", help="print the whole response as JSON")] = False,
    overlay: Annotated[str | None, typer.Option(help="write the picture with boxes, names and masks here")] = None,
    device: DeviceOption = None,
    precision: PrecisionOption = None,
) -> None:
    """Every hand, active object and contact of a picture, and what is happening."""
    from egohoi import images

    picture = images.load(image)
    _show(_load(model, device, precision).describe(picture), as_json, overlay)


def _load(model: str, device, precision, picture=None, query=None):
    import egohoi
    from egohoi.models.base import Model

    if query is not None:
        Model.check(picture, query)
    return egohoi.load(model, device=device, precision=precision)


def _numbers(text: str | None, count: int, option: str) -> tuple[float, ...] | None:
    from egohoi.errors import BadBox

    if text is None:
        return None
    try:
        values = tuple(float(v) for v in text.replace(",", " ").split())
    except ValueError as error:
        raise BadBox(f"{option}: expected {count} numbers with commas, got '{text}'") from error
    if len(values) != count:
        raise BadBox(f"{option}: expected {count} numbers with commas, got '{text}'")
    return values


def _show(response, as_json: bool, overlay: str | None, written: bool = False) -> None:
    """Print a response and draw it. written: its text stands there already."""
    from pathlib import Path

    from egohoi.errors import EgohoiError

    if overlay is not None:
        path = Path(overlay)
        if not path.parent.is_dir():
            raise EgohoiError(f"--overlay {overlay}: the folder {path.parent} does not exist")
        try:
            response.draw().save(path)
        except (OSError, ValueError, KeyError) as error:
            raise EgohoiError(f"--overlay {overlay}: cannot be written ({error}): name a .png or .jpg file") from error
    if as_json:
        print(json.dumps(response.to_json(), ensure_ascii=False))
        return
    if not written:
        print(response.text)
    for entity in response.entities:
        box = ", ".join(f"{v:.0f}" for v in entity.box)
        held = ", ".join(response.entities[k].name for k in entity.holds or ())
        print(f"  {entity.name}: [{box}] score {entity.score:.2f}" + (f", holds {held}" if held else ""))
    if response.analysis and response.analysis != response.text:
        print(response.analysis)
    sys.stdout.flush()
