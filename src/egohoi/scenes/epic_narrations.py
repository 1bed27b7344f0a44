"""EPIC-KITCHENS-100 narrations (EPIC_100_train.csv, EPIC_100_validation.csv): what is done, from which to which frame.

Source: repository epic-kitchens/epic-kitchens-100-annotations. Frames count from 1 (`frame_0000000001.jpg`), first and last
frame of a segment included. Nouns are written "head:attribute" ("spoon:wooden"), verbs with hyphens ("put-down").
"""

import csv
import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from egohoi.errors import BadData, BadRecord
from egohoi.records import Scene
from egohoi.scenes import raw

#: Where HOI-QA expects the frames of EPIC-KITCHENS; fields: video ("P01_01"), participant ("P01"), frame.
IMAGE = "EPIC_Kitchens/frames/{video}/frame_{frame:010d}.jpg"
#: Width and height of the released RGB frames.
SIZE = (456, 256)
#: Longest segment that is believed, in frames: over two hours at 60 a second.
MAX_SEGMENT = 500_000
_NEEDED = ("narration_id", "video_id", "start_frame", "stop_frame", "narration", "verb", "noun")


@dataclass(frozen=True)
class Narration:
    """One narrated action segment. start, stop: first and last frame, from 1. verb, noun, nouns: plain words."""

    id: str
    video: str
    start: int
    stop: int
    text: str
    verb: str
    noun: str
    nouns: tuple[str, ...] = ()
    verb_class: int | None = None
    noun_class: int | None = None


@dataclass(frozen=True)
class Narrations:
    """Narrations by video, for questions about a frame; build with `index`."""

    videos: dict[str, list[Narration]] = field(default_factory=dict)
    longest: dict[str, int] = field(default_factory=dict)

    def at(self, video: str, frame: int) -> list[Narration]:
        """Narrations whose segment covers `frame` of `video`: the shortest (most specific) first, then by id."""
        rows = self.videos.get(video, [])
        found, k = [], bisect_right(rows, frame, key=lambda n: n.start) - 1
        while k >= 0 and rows[k].start + self.longest[video] >= frame:
            if rows[k].stop >= frame:
                found.append(rows[k])
            k -= 1
        return sorted(found, key=lambda n: (n.stop - n.start, n.id))


def index(path, *, on_error: raw.OnError = None) -> Narrations:
    """All narrations of a CSV file or of the CSV files of a folder, ready for `Narrations.at`. Raises BadData, BadRecord."""
    videos: dict[str, list[Narration]] = {}
    for narration in rows(path, on_error=on_error):
        videos.setdefault(narration.video, []).append(narration)
    for found in videos.values():
        found.sort(key=lambda n: (n.start, n.stop, n.id))
    return Narrations(videos, {v: max(n.stop - n.start for n in found) for v, found in videos.items()})


def as_index(narrations) -> Narrations | None:
    """Narrations as they are, or the index of a path; None stays None."""
    return narrations if narrations is None or isinstance(narrations, Narrations) else index(narrations)


def rows(path, *, on_error: raw.OnError = None) -> Iterator[Narration]:
    """Narrations in the order of the file, streaming. Raises BadData (no such file, no labels), BadRecord (file and line)."""
    for file in raw.files(path, ".csv"):
        try:
            yield from _rows(file, on_error)
        except OSError as error:
            raw.report(BadData(f"{file}: cannot be read ({error.strerror or error})"), on_error)
        except csv.Error as error:
            raw.report(BadRecord(f"{file}: not CSV ({raw.short(error)}): download it again"), on_error)


def _rows(file: Path, on_error: raw.OnError) -> Iterator[Narration]:
    with open(file, encoding="utf-8", errors="replace", newline="") as lines:
        table = csv.DictReader(lines)
        missing = [name for name in _NEEDED if name not in (table.fieldnames or ())]
        if missing:
            hint = "the test split is published without labels" if "narration" in missing else "is it an EPIC-KITCHENS-100 file?"
            return raw.report(BadData(f"{file}: lacks the columns {', '.join(missing)}: {hint}"), on_error)
        for row in table:
            narration = raw.attempt(lambda row=row: _narration(row), f"{file}:{table.line_num}", on_error)
            if narration is not None:
                yield narration


def _narration(row: dict) -> Narration:
    start = raw.integer(row["start_frame"], "start_frame", 1)
    stop = raw.integer(row["stop_frame"], "stop_frame", 1)
    if not start <= stop <= start + MAX_SEGMENT:
        raise BadRecord(f"frames {start} to {stop} are no segment")
    nouns = re.findall(r"'([^']*)'|\"([^\"]*)\"", row.get("all_nouns") or "")
    return Narration(
        id=raw.text(row["narration_id"], "narration_id"), video=raw.text(row["video_id"], "video_id"), start=start, stop=stop,
        text=raw.text(row["narration"], "narration"), verb=plain_verb(raw.text(row["verb"], "verb")),
        noun=plain_noun(raw.text(row["noun"], "noun")), nouns=tuple(plain_noun(a or b) for a, b in nouns),
        verb_class=_class(row, "verb_class"), noun_class=_class(row, "noun_class"),
    )


def _class(row: dict, name: str) -> int | None:
    return raw.integer(row[name], name) if row.get(name) else None


def plain_noun(noun: str) -> str:
    """ "spoon:wooden" -> "wooden spoon", "knife:teaspoon:fork" -> "teaspoon fork knife" (rule of epic-kitchens/VISOR-HOS)."""
    head, *attributes = [part.strip() for part in noun.split(":")]
    return " ".join(" ".join([*attributes, head]).split())


def plain_verb(verb: str) -> str:
    """ "put-down" -> "put down"."""
    return " ".join(verb.replace("-", " ").split())


def labels(found: list[Narration]) -> dict:
    """The fields of a Scene (action, narration, verb, noun) that the covering narrations fill: those of the first one."""
    if not found:
        return {}
    best = found[0]
    return {"action": f"{best.verb} {best.noun}", "narration": best.text, "verb": best.verb, "noun": best.noun}


def read(
    path, *, every: int | None = None, image: str = IMAGE, size: tuple[int, int] = SIZE, on_error: raw.OnError = None
) -> Iterator[Scene]:
    """Scenes of the frames that narrations cover: no boxes, but action, narration, verb and noun.

    every: one scene for each `every`-th frame of a segment from its first; None: one, its middle frame. image: path template
    with the fields video, participant, frame. size: (width, height) of the pictures. Ids: "epic-narration/P01_11_0/57".
    Raises BadData, BadRecord (file and line); on_error collects broken lines instead.
    """
    if every is not None and every < 1:
        raise BadData(f"every must be a number of frames from 1, got {every}")
    raw.template(image, video="", participant="", frame=1)
    for narration in rows(path, on_error=on_error):
        middle = (narration.start + narration.stop) // 2
        frames = (middle,) if every is None else range(narration.start, narration.stop + 1, every)
        for frame in frames:
            yield Scene(
                id=f"epic-narration/{narration.id}/{frame}",
                image=image.format(video=narration.video, participant=narration.video.split("_")[0], frame=frame),
                size=size, source="epic-narrations", **labels([narration]),
                extra={"video": narration.video, "frame": frame, "narration_id": narration.id, "nouns": list(narration.nouns)},
            )
