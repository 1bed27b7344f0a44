"""`egohoi bench`: time a model on this machine."""

from pathlib import Path
from typing import Annotated

import typer


def rate(times: list[float]) -> float | None:
    """Pieces a second behind the first, of the seconds at which they came; None if they came at once, as those of a finished answer do."""
    spent = times[-1] - times[0] if times else 0.0
    return (len(times) - 1) / spent if spent > 1e-5 * len(times) else None


def bench(
    image: Annotated[list[Path] | None, typer.Argument(help="Pictures; default: one of noise, 1280x720.")] = None,
    model: Annotated[str, typer.Option(help="nano, or KIND:FOLDER.")] = "nano",
    question: Annotated[str, typer.Option(help="What to ask.")] = "Where is the left hand?",
    device: Annotated[str | None, typer.Option(help="cpu, cuda, ...; default: the best.")] = None,
    precision: Annotated[str | None, typer.Option(help="float32, bfloat16, float16, int8, int4.")] = None,
    repeat: Annotated[int, typer.Option(help="Timed rounds, after one that is not counted.", min=1)] = 5,
    max_new_tokens: Annotated[int | None, typer.Option(help="Longest answer.")] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Time a model: loading, seconds a question on new and on known pictures, pieces of text (tokens) a second, peak memory."""
    import json
    import resource
    import statistics
    import time

    import numpy as np
    import torch

    from egohoi import images
    from egohoi import models as kinds
    from egohoi.models.base import Generation
    from egohoi.records import Query

    settings = Generation(max_new_tokens=max_new_tokens)
    pictures = [images.load(path) for path in image or ()]
    if not pictures:
        noise = np.random.default_rng(0).integers(0, 255, (720, 1280, 3), dtype=np.uint8)
        pictures = [images.load(noise, name="noise")]
    start = time.perf_counter()
    loaded = kinds.load(model, device=device, precision=precision)
    loading = time.perf_counter() - start

    def round_of(shift: int) -> float:
        begin = time.perf_counter()
        for picture in pictures:
            # Another pixel in a corner makes another picture, so that nothing kept of the last one helps.
            pixels = picture.pixels.copy()
            pixels[0, 0] = shift % 256
            loaded.ask(images.Picture(picture.name, pixels), question, settings=settings)
        return (time.perf_counter() - begin) / len(pictures)

    round_of(0)
    fresh = [round_of(k + 1) for k in range(repeat)]
    known = [round_of(repeat) for _ in range(repeat)]
    times = [time.perf_counter() for piece in loaded.stream(pictures[0], Query(question), settings) if isinstance(piece, str)]
    result = {
        "model": model, "question": question, "pictures": len(pictures), "rounds": repeat, "threads": torch.get_num_threads(),
        "seconds": {
            "loading": loading, "new picture": statistics.median(fresh), "known picture": statistics.median(known),
            "slowest": max(fresh),
        },
        # A piece is a token in language models, but for characters that several tokens make.
        "pieces_per_second": rate(times),
        # ru_maxrss is in KiB on Linux and in bytes on macOS.
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if _mac() else 1024),
        "gpu_peak_bytes": torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None,
    }
    if json_output:
        typer.echo(json.dumps(result))
        return
    for name, value in result["seconds"].items():
        typer.echo(f"{name:<14} {value:8.3f} s")
    if result["pieces_per_second"] is not None:
        typer.echo(f"{'text':<14} {result['pieces_per_second']:8.1f} pieces a second")
    typer.echo(f"{'peak memory':<14} {result['peak_bytes'] / 1e9:8.2f} GB, {result['threads']} threads")
    if result["gpu_peak_bytes"] is not None:
        typer.echo(f"{'peak GPU':<14} {result['gpu_peak_bytes'] / 1e9:8.2f} GB")


def _mac() -> bool:
    import sys

    return sys.platform == "darwin"
