"""`egohoi build frames`: the frames that questions or scenes need, out of the videos."""

from pathlib import Path
from typing import Annotated

import typer

from egohoi.errors import BadConfig, BadData


def frames(
    needed: Annotated[list[str], typer.Argument(help="What needs frames: a build, files of HOI-QA, scenes.jsonl, or text files with one picture a line.")],
    videos: Annotated[str, typer.Option(help="Folder of the videos: EPIC-KITCHENS' P01_01.MP4, Ego4D's CLIP_UID.mp4.")],
    out: Annotated[str, typer.Option(help="Folder of the pictures; paths below it are those of the questions.")],
    first: Annotated[int | None, typer.Option(help="Number of a video's first picture; by default 1 for EPIC-KITCHENS, else 0.")] = None,
    rate: Annotated[float | None, typer.Option(help="Pictures a second that numbers count; by default 60 or 50 for EPIC-KITCHENS, else all.")] = None,
    size: Annotated[str | None, typer.Option(help="Scale to WIDTHxHEIGHT, such as 456x256; by default as in the video.")] = None,
    quality: Annotated[int, typer.Option(help="Quality of the JPEG files.", min=1, max=100)] = 95,
    jobs: Annotated[int, typer.Option(help="Videos at a time.", min=1)] = 2,
    missing: Annotated[str | None, typer.Option(help="File for the pictures that could not be made, one a line.")] = None,
):
    """Extract exactly the frames that are needed from videos: found by number, resumable, each written whole."""
    from concurrent.futures import ThreadPoolExecutor

    from rich.console import Console
    from rich.progress import Progress

    from egohoi.questions import pictures
    from egohoi.scenes import frames as extraction

    shape = _size(size)
    if rate is not None and rate <= 0:
        raise BadConfig(f"--rate must be above 0, got {rate:g}")
    images = (image for source in needed for image, _ in pictures.named(source))
    # Pictures of one's own, which records name as their annotations were opened, come out of no video.
    own: dict[str, None] = {}
    plan = extraction.plan(image for image in images if not Path(image).is_absolute() or own.setdefault(image))
    found = extraction.find_videos(videos)
    absent = [image for video, wanted in plan.videos.items() if video not in found for image in wanted.values()]
    unknown = [image for image in (*plan.unknown, *own) if not Path(image).is_file()]
    lost = [*unknown, *absent]

    def work(video: str) -> extraction.Extracted:
        usual = extraction.counting(video)
        counted = extraction.Counting(usual.first if first is None else first, usual.rate if rate is None else rate)
        return extraction.extract(found[video], plan.videos[video], out, counted=counted, size=shape, quality=quality)

    names = sorted(v for v in plan.videos if v in found)
    written = kept = 0
    problems = []
    console = Console(stderr=True)
    with Progress(console=console, transient=True) as progress, ThreadPoolExecutor(jobs) as pool:
        task = progress.add_task("frames", total=sum(len(plan.videos[v]) for v in names))
        for video, future in [(v, pool.submit(work, v)) for v in names]:
            try:
                done = future.result()
                written, kept = written + done.written, kept + done.kept
                lost += done.missing
            except BadData as error:  # one damaged video does not cost the frames of the others
                problems.append(str(error))
                lost += plan.videos[video].values()
            progress.advance(task, len(plan.videos[video]))
    copied, uncopied = extraction.repeat(plan.again, out)
    written += copied
    lost += uncopied
    console.print(f"{written:,} frames written, {kept:,} were there, of {len(names):,} videos below {videos}", highlight=False)
    if missing is not None:
        Path(missing).write_text("".join(f"{p}\n" for p in lost), encoding="utf-8")
    for problem in problems:
        console.print(problem, highlight=False, markup=False)
    if lost:
        reasons = [
            f"{count:,} {why}" for count, why in (
                (len(unknown), "name no video and frame"), (len(absent), "are of videos that are not there"),
                (len(uncopied), "are second names of missing ones"),
                (len(lost) - len(absent) - len(unknown) - len(uncopied), "could not be found in their video"),
            ) if count
        ]
        listed = f": {missing} lists them" if missing else f", such as {lost[0]}: --missing FILE lists them"
        raise BadData(f"{len(lost):,} frames are missing ({', '.join(reasons)}){listed}")


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    sides = text.lower().split("x")
    if len(sides) != 2 or not all(s.isdecimal() and 0 < int(s) <= 32768 for s in sides):
        raise BadConfig(f"--size must be WIDTHxHEIGHT, such as 456x256, got {text!r}")
    return int(sides[0]), int(sides[1])
