"""Frames out of videos: exactly those that a data set needs, found by number, written once.

A picture `.../VIDEO/frame_0000000140.jpg` is frame 140 of the video file `VIDEO.*` (EPIC-KITCHENS: `P01_01.MP4`; Ego4D:
`CLIP_UID.mp4`). What "frame 140" means differs by source and is stated by a `Counting`:

- Ego4D counts the pictures of the clip from 0.
- EPIC-KITCHENS numbers the pictures that `ffmpeg -r RATE` wrote, from 1: 60 a second for the videos of EPIC-KITCHENS-55
  (`P01_01`), 50 for those added in EPIC-KITCHENS-100 (`P01_101`), whatever the video's own rate. (README of
  epic-kitchens-100-annotations; `EPIC_100_frame_counts.csv` over `EPIC_100_video_info.csv` gives 60.0 and 50.0 throughout.)
"""

import os
import re
import shutil
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from egohoi.errors import BadData, need
from egohoi.scenes import raw

SUFFIXES = (".mp4", ".mov", ".mkv", ".avi", ".webm", ".m4v")
_PICTURE = re.compile(r"(?:frame_)?(\d{1,12})(?:\.(?:jpe?g|png))?", re.IGNORECASE)
_EPIC = re.compile(r"P\d\d_(\d{2,3})")


@dataclass(frozen=True)
class Counting:
    """How pictures are numbered. first: number of the first one. rate: pictures a second if they were written at a constant
    rate (as `ffmpeg -r` does), None: every picture of the video counts once."""

    first: int = 0
    rate: float | None = None


@dataclass(frozen=True)
class Plan:
    """The frames that are needed. videos: {video: {frame number: path of the picture below the output folder}}; unknown: pictures
    whose path names no video and frame; again: {path: the path in `videos` that is the same frame}, where the files that need
    frames name one in two ways."""

    videos: dict[str, dict[int, str]] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()
    again: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Extracted:
    """What became of the frames of one video. missing: paths whose frame the video does not hold."""

    video: str
    written: int = 0
    kept: int = 0
    missing: tuple[str, ...] = ()


def counting(video: str) -> Counting:
    """The published numbering of a video, by its name: EPIC-KITCHENS, else as Ego4D."""
    found = _EPIC.fullmatch(video)
    return Counting(1, 60.0 if len(found[1]) == 2 else 50.0) if found else Counting()


def plan(images: Iterable[str]) -> Plan:
    """The frames that pictures stand for: `.../VIDEO/frame_140.jpg`, each once. Raises BadData for a path that leaves its folder.

    VISOR's own pictures (`P01_01_frame_0000000140.jpg`) are numbered by an extraction of their own and are published as pictures:
    they count as unknown.
    """
    videos: dict[str, dict[int, str]] = {}
    unknown: dict[str, None] = {}
    again: dict[str, str] = {}
    for image in images:
        path = PurePosixPath(image.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts:
            raise BadData(f"picture {raw.short(image)}: a path below the output folder is needed, without '..'")
        found = _PICTURE.fullmatch(path.name)
        if found is None or len(path.parts) < 2:
            unknown[image] = None
        else:
            place = str(path if path.suffix else path.with_suffix(".jpg"))
            first = videos.setdefault(path.parts[-2], {}).setdefault(int(found[1]), place)
            if first != place:
                again[place] = first
    return Plan(videos, tuple(unknown), again)


def find_videos(folder) -> dict[str, Path]:
    """{name without suffix: path} of the video files below a folder. Raises BadData if there is none, or two of one name."""
    found: dict[str, Path] = {}
    for path in raw.files(folder, *SUFFIXES):
        if path.stem in found:
            raise BadData(f"{folder}: two videos are named {path.stem}: {found[path.stem]} and {path}")
        found[path.stem] = path
    return found


def extract(
    video, wanted: Mapping[int, str], out, *, counted: Counting | None = None, size: tuple[int, int] | None = None, quality: int = 95
) -> Extracted:
    """Write the wanted frames {number: path below `out`} of a video file that are not there yet.

    counted: numbering; None: `counting` of the file's name. size: (width, height) to scale to, None: as in the video. quality: of
    JPEG. Each picture appears under its name only when it is whole, so a run that was stopped goes on where it was. Frames are
    found by their time stamps, which a first pass reads without decoding; then only what lies between the key frame before a wanted
    frame and that frame is decoded. Raises BadData (file that is no video).
    """
    path, out = Path(video), Path(out)
    todo = {n: out / p for n, p in wanted.items() if not _there(out / p)}
    kept = len(wanted) - len(todo)
    _sweep(todo.values())
    if not todo:
        return Extracted(path.stem, 0, kept)
    av = need("av", "data")
    try:
        stamps, keys, base = _stamps(av, path)
        times = _times(todo, stamps, base, counted or counting(path.stem))
        written = 0
        for stamp, picture in _decode(av, path, sorted(times), keys):
            for target in times[stamp]:
                _write(picture, todo[target], size, quality)
                written += 1
    except (av.FFmpegError, OSError, ValueError, IndexError) as error:
        raise BadData(f"{path}: cannot be read as a video ({raw.short(error)})") from error
    return Extracted(path.stem, written, kept, tuple(wanted[n] for n in sorted(todo) if not _there(todo[n])))


def repeat(again: Mapping[str, str], out) -> tuple[int, tuple[str, ...]]:
    """Copy frames to their second names, where those are not there yet: (number of copies, second names whose frame is missing)."""
    out, count, lost = Path(out), 0, []
    for name, first in again.items():
        if _there(out / name):
            continue
        if not _there(out / first):
            lost.append(name)
            continue
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        part = out / f"{name}.{os.getpid()}.part"
        shutil.copyfile(out / first, part)
        os.replace(part, out / name)
        count += 1
    return count, tuple(lost)


def _there(path: Path) -> bool:
    try:
        return path.stat().st_size > 0
    except OSError:
        return False


def _stamps(av, path: Path) -> tuple[list[int], list[int], float]:
    """Presentation stamps of all pictures, of the key frames (both sorted), and seconds a unit; read without decoding."""
    with av.open(str(path)) as container:
        if not container.streams.video:
            raise BadData(f"{path}: holds no video stream")
        stream = container.streams.video[0]
        stamps, keys = [], []
        for packet in container.demux(stream):
            if packet.size and not packet.is_discard and packet.pts is not None:
                stamps.append(packet.pts)
                if packet.is_keyframe:
                    keys.append(packet.pts)
        if not stamps:
            raise BadData(f"{path}: holds no pictures with time stamps")
        return sorted(stamps), sorted(keys), float(stream.time_base)


def _times(numbers: Iterable[int], stamps: list[int], base: float, counted: Counting) -> dict[int, list[int]]:
    """{presentation stamp: frame numbers that show it}; numbers that the video does not reach are left out."""
    found: dict[int, list[int]] = {}
    for number in numbers:
        k = number - counted.first
        if counted.rate is not None and k >= 0:
            # Picture k shows the last one whose time, rounded to the rate, is not after it; one picture ends the video.
            until = stamps[0] + (k + 0.5) / counted.rate / base
            last = stamps[-1] + 0.5 / counted.rate / base
            k = bisect_left(stamps, until) - 1 if until <= last + 1 / counted.rate / base else len(stamps)
        if 0 <= k < len(stamps):
            found.setdefault(stamps[k], []).append(number)
    return found


def _decode(av, path: Path, stamps: list[int], keys: list[int]) -> Iterator[tuple[int, object]]:
    """(stamp, PIL image) of the pictures at the given sorted stamps that can be decoded."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        at, frames = None, iter(())
        for stamp in stamps:
            key = keys[max(0, bisect_right(keys, stamp) - 1)] if keys else None
            if at is None or (key is not None and key > at):
                if key is not None and key > 0:
                    container.seek(key, stream=stream, backward=True)
                else:
                    container.seek(0)
                frames = container.decode(stream)
                first = next(frames, None)
                if first is not None and first.pts is not None and first.pts > stamp:  # a container that seeks too far
                    container.seek(0)
                    frames = container.decode(stream)
                    first = next(frames, None)
                if first is None:
                    continue
                at = first.pts
                if at == stamp:
                    yield stamp, upright(first)
                    continue
            for frame in frames:
                at = frame.pts if frame.pts is not None else at
                if frame.pts is not None and frame.pts >= stamp:
                    if frame.pts == stamp:
                        yield stamp, upright(frame)
                    break


def upright(frame):
    """The PIL image that a player shows: turned by the quarter turns of the file's display matrix, as `ffmpeg` turns it."""
    picture = frame.to_image()
    turns = round(getattr(frame, "rotation", 0) / 90) % 4  # counterclockwise, as PIL counts
    return picture if turns == 0 else picture.rotate(90 * turns, expand=True)


def _write(picture, path: Path, size: tuple[int, int] | None, quality: int) -> None:
    """Write a PIL image atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        (picture if size is None else picture.resize(size)).save(part, **_format(path.suffix, quality))
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _sweep(paths: Iterable[Path]) -> None:
    """Remove what runs that were killed left of pictures that are there now. A run that is still writing one loses nothing: its
    own half is spared while it lives."""
    by_folder: dict[Path, set[str]] = {}
    for path in paths:
        by_folder.setdefault(path.parent, set()).add(path.name)
    for folder, names in by_folder.items():
        if not folder.is_dir():
            continue
        for part in folder.glob("*.part"):
            name, _, process = part.name.removesuffix(".part").rpartition(".")
            if name in names and process.isdecimal() and not _alive(int(process)):
                part.unlink(missing_ok=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _format(suffix: str, quality: int) -> dict:
    return {"format": "PNG"} if suffix.lower() == ".png" else {"format": "JPEG", "quality": quality}
