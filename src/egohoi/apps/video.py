"""An annotated video and JSON lines from a video, one frame at a time: memory does not grow with the length."""

import contextlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from egohoi import __version__
from egohoi.apps.draw import paint
from egohoi.errors import BadConfig, BadData, need
from egohoi.images import Picture
from egohoi.models.base import Generation, Model
from egohoi.records import Entity, Query, Response, to_dict
from egohoi.scenes.frames import upright

#: Frames that are looked at in a second of video, if nothing else is asked for.
LOOKS_A_SECOND = 5
#: Encoders in order of preference; the first that this build of FFmpeg has is used.
ENCODERS = ("libx264", "h264", "mpeg4")


@dataclass(frozen=True)
class Annotated:
    """What was written. frames: of the video; looked: frames that the model saw; problem: why the video ended early, or "".
    kept: how many of `looked` an interrupted run before this one had seen already."""

    frames: int
    looked: int
    problem: str
    kept: int = 0


def annotate(
    source, out, model: Model, *, lines=None, query: Query | None = None, settings: Generation | None = None, every: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Annotated:
    """Draw what `model` says of a video onto it.

    source, out: paths; out's ending names the container (.mp4, .mkv, .mov). lines: path of the JSON lines (default: `out` with
    .jsonl), one for each frame that was looked at: {"frame": number from 0, "seconds": its time, ...the response}. query: asked of
    each of these frames; None: they are described. every: look at every so manieth frame; None: at about five a second.
    What was seen is drawn on the frames until the next look. progress: called with (frames so far, frames in all or 0).

    Frames stand upright as players show them, sound is copied where the container takes it. Files appear under their names
    when they are whole. What was seen is kept as it comes: after an interruption (or a kill) the same request draws again
    from the start but asks the model only of frames that it has not seen. A video that breaks off is written as far as it
    can be read. Raises BadData, BadConfig.
    """
    av = need("av", "video")
    source, out = Path(source), Path(out)
    lines = check(source, out, lines, every)
    part, lines_part = out.with_name(f"{out.stem}.part{out.suffix}"), lines.with_name(lines.name + ".part")
    try:
        with _open(av, source) as container:
            rate = container.streams.video[0].average_rate or container.streams.video[0].guessed_rate or Fraction(25)
            every = every or max(1, round(rate / LOOKS_A_SECOND))
            with Seen(lines_part, _request(source, model, query, settings, every)) as seen:
                done = _run(av, container, part, seen, rate, model, query, settings, every, progress, source)
        os.replace(part, out)
        seen.finish(lines)
        return done
    except (OSError, av.FFmpegError) as error:  # what goes wrong with the source is caught where it is read
        raise BadConfig(f"{out}: cannot be written ({error.strerror or error}): free the disk or name another folder") from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def _request(source: Path, model: Model, query: Query | None, settings: Generation | None, every: int) -> dict:
    """What two runs must have in common for one to go on where the other stopped."""
    about, asked = source.stat(), None if query is None else to_dict(query)
    return {
        "video": str(source.resolve()), "bytes": about.st_size, "changed": about.st_mtime_ns, "model": model.name, "every": every,
        "query": asked, "settings": asdict(settings or Generation()), "version": __version__,
    }


class Seen:
    """The JSON lines of a run in progress: a first line that says what was requested, then one row for each look.

    Opened again with the same request it gives the rows that are there, in order, before new ones are added; with another
    request it starts over. A line that was cut short by a kill is dropped. Closed without a row, it leaves no file.
    """

    def __init__(self, path: Path, request: dict):
        self.path, self.kept = path, 0
        self._head = (json.dumps(request, ensure_ascii=False, sort_keys=True) + "\n").encode()
        self._file = open(path, "a+b")  # noqa: SIM115 closed by __exit__
        self._file.seek(0)
        if self._file.readline() != self._head:
            self._file.truncate(0)
            self._add(self._head)
        self._end = self._file.seek(0, os.SEEK_END)
        self._at = len(self._head)
        self._rows = 0

    def next(self) -> dict | None:
        """The next row of an earlier run, or None if there is no more."""
        if self._at >= self._end:
            return None
        self._file.seek(self._at)
        line = self._file.readline()
        try:
            row = json.loads(line)
            if not line.endswith(b"\n") or not isinstance(row, dict):
                raise ValueError
        except ValueError:
            self._file.truncate(self._at)
            self._end = self._at
            return None
        self._at += len(line)
        self.kept, self._rows = self.kept + 1, self._rows + 1
        return row

    def add(self, row: dict) -> None:
        """Add a row; it is in the file when this returns."""
        self._add((json.dumps(row, ensure_ascii=False) + "\n").encode())
        self._rows += 1

    def _add(self, line: bytes) -> None:
        self._file.write(line)
        self._file.flush()

    def __enter__(self) -> "Seen":
        return self

    def __exit__(self, *_) -> None:
        self._file.close()
        if not self._rows:
            self.path.unlink(missing_ok=True)

    def finish(self, path: Path) -> None:
        """Give the rows their name, without the first line, atomically."""
        whole = self.path.with_name(self.path.name + ".whole")
        try:
            with open(self.path, "rb") as rows, open(whole, "wb") as out:
                rows.readline()
                shutil.copyfileobj(rows, out)
            os.replace(whole, path)
        finally:
            whole.unlink(missing_ok=True)
        self.path.unlink()


def check(source, out, lines=None, every: int | None = None) -> Path:
    """The path of the JSON lines. Raises BadData, BadConfig if the request cannot be done, before any work."""
    source, out = Path(source), Path(out)
    lines = out.with_suffix(".jsonl") if lines is None else Path(lines)
    if source.is_dir() or not source.exists():
        raise BadData(f"{source}: {'is a folder, a video file is needed' if source.is_dir() else 'no such file'}")
    if out.suffix.lower() not in (".mp4", ".mkv", ".mov"):
        raise BadConfig(f"{out}: name an output that ends in .mp4, .mkv or .mov")
    for path in (out, lines):
        if not path.parent.is_dir():
            raise BadConfig(f"{path}: the folder {path.parent} does not exist")
    if len({p.resolve() for p in (source, out, lines)}) < 3:
        raise BadConfig(f"{out}: the video, the annotated video and the JSON lines need three different names")
    if every is not None and every < 1:
        raise BadConfig(f"--every {every}: must be 1 or more")
    _open(need("av", "video"), source).close()
    return lines


def _open(av, source: Path):
    try:
        container = av.open(str(source))
    except (av.FFmpegError, OSError, ValueError) as error:
        raise BadData(f"{source}: cannot be read as a video ({getattr(error, 'strerror', None) or str(error)[:80]})") from error
    # A single picture is a video of one frame to FFmpeg, and a text file may be subtitles: neither is meant.
    if not container.streams.video or container.format.name.endswith("_pipe") or container.format.name in ("image2", "tty"):
        container.close()
        raise BadData(f"{source}: has no video in it (for a single picture there is `egohoi describe`)")
    return container


def _run(av, container, part: Path, seen: Seen, rate, model, query, settings, every, progress, source) -> Annotated:
    video = container.streams.video[0]
    video.thread_type = "AUTO"
    total = video.frames or (int(container.duration / 1e6 * rate) if container.duration else 0)
    count = looked = 0
    problem, writer = "", None
    entities: tuple[Entity, ...] = ()
    with av.open(str(part), "w") as written:
        audio = _audio(av, container, written)
        packets = container.demux([s for s in (video, container.streams.audio[0] if audio else None) if s is not None])
        waiting = []  # sound that comes before the first picture: its stream opens with the picture's
        try:
            for packet in packets:
                if audio and packet.stream.type == "audio":
                    if packet.dts is not None:
                        waiting.append(packet)
                else:
                    for frame in packet.decode():
                        pixels = np.asarray(upright(frame))
                        if count % every == 0:
                            row = seen.next()
                            if row is None:
                                response = _look(model, Picture(f"{source.name}#{count}", pixels), query, settings)
                                seconds = float(frame.time) if frame.time is not None else float(count / rate)
                                row = {"frame": count, "seconds": round(seconds, 3), **response.to_json()}
                                seen.add(row)
                            # Drawn from the row, new or kept, so that an interrupted run ends with the same picture.
                            entities, looked = Response.from_json(row).entities, looked + 1
                        if writer is None:
                            writer, size = _writer(av, written, rate, pixels), pixels.shape
                        elif pixels.shape != size:
                            raise BadData(f"frame {count} has another size than the first")
                        writer_frame = av.VideoFrame.from_ndarray(_even(np.asarray(paint(pixels, entities))), format="rgb24")
                        writer_frame.pts, writer_frame.time_base = count, 1 / rate
                        _mux(av, written, writer.encode(writer_frame), part)
                        count += 1
                        if progress:
                            progress(count, total)
                if writer is not None:
                    for held in waiting:
                        held.stream = audio
                    _mux(av, written, waiting, part)
                    waiting.clear()
        except (av.FFmpegError, BadData) as error:
            problem = " ".join(str(error).split())[:120]
        if writer is None:
            raise BadData(f"{source}: no frame of it can be read{f' ({problem})' if problem else ''}")
        for out_packet in writer.encode():
            written.mux(out_packet)
    if not problem and total and count < 0.9 * total:
        problem = f"{count} of {total} frames could be read"
    return Annotated(count, looked, problem, seen.kept)


def _mux(av, written, packets, part: Path) -> None:
    """Write packets. Raises BadConfig, so that a full disk is not taken for a video that breaks off."""
    try:
        for packet in packets:
            written.mux(packet)
    except av.FFmpegError as error:
        raise BadConfig(f"{part}: cannot be written ({error.strerror or error}): free the disk or name another folder") from error


def _look(model: Model, picture: Picture, query: Query | None, settings: Generation | None):
    if query is None:
        return model.describe(picture, settings)
    return model.ask_many([(picture, query)], settings or Generation())[0]


def _writer(av, written, rate, pixels: np.ndarray):
    name = next((n for n in ENCODERS if n in av.codecs_available), ENCODERS[-1])
    stream = written.add_stream(name, rate=Fraction(rate).limit_denominator(65535))
    height, width = _even(pixels).shape[:2]
    stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
    if name == "libx264":
        stream.options = {"crf": "20", "preset": "veryfast"}
    return stream


def _audio(av, container, written):
    """A copy of the first sound track in the new file, or None if there is none or the container does not take it."""
    if not container.streams.audio:
        return None
    try:
        return written.add_stream_from_template(container.streams.audio[0])
    except (av.FFmpegError, ValueError, AttributeError):
        return None


def _even(pixels: np.ndarray) -> np.ndarray:
    """The last row and column doubled where a side is odd, which video cannot be."""
    height, width = pixels.shape[:2]
    return np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
