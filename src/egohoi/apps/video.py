"""An annotated video and JSON lines from a video, one frame at a time: memory does not grow with the length."""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from egohoi.apps.draw import paint
from egohoi.errors import BadConfig, BadData, need
from egohoi.images import Picture
from egohoi.models.base import Generation, Model
from egohoi.records import Entity, Query
from egohoi.scenes.frames import upright

#: Frames that are looked at in a second of video, if nothing else is asked for.
LOOKS_A_SECOND = 5
#: Encoders in order of preference; the first that this build of FFmpeg has is used.
ENCODERS = ("libx264", "h264", "mpeg4")


@dataclass(frozen=True)
class Annotated:
    """What was written. frames: of the video; looked: frames that the model saw; problem: why the video ended early, or ""."""

    frames: int
    looked: int
    problem: str


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
    when they are whole. A video that breaks off is written as far as it can be read. Raises BadData, BadConfig.
    """
    av = need("av", "video")
    source, out = Path(source), Path(out)
    lines = check(source, out, lines, every)
    part, lines_part = out.with_name(f"{out.stem}.part{out.suffix}"), lines.with_name(lines.name + ".part")
    try:
        with _open(av, source) as container, open(lines_part, "w", encoding="utf-8") as said:
            done = _run(av, container, part, said, model, query, settings, every, progress, source)
        os.replace(part, out)
        os.replace(lines_part, lines)
        return done
    finally:
        part.unlink(missing_ok=True)
        lines_part.unlink(missing_ok=True)


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
    return lines


def _open(av, source: Path):
    try:
        container = av.open(str(source))
    except (av.FFmpegError, OSError, ValueError) as error:
        raise BadData(f"{source}: cannot be read as a video ({str(error)[:80]})") from error
    # A single picture is a video of one frame to FFmpeg, and a text file may be subtitles: neither is meant.
    if not container.streams.video or container.format.name.endswith("_pipe") or container.format.name in ("image2", "tty"):
        container.close()
        raise BadData(f"{source}: has no video in it (for a single picture there is `egohoi describe`)")
    return container


def _run(av, container, part: Path, said, model, query, settings, every, progress, source) -> Annotated:
    video = container.streams.video[0]
    video.thread_type = "AUTO"
    rate = video.average_rate or video.guessed_rate or Fraction(25)
    every = every or max(1, round(rate / LOOKS_A_SECOND))
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
                            response = _look(model, Picture(f"{source.name}#{count}", pixels), query, settings)
                            entities, looked = response.entities, looked + 1
                            seconds = float(frame.time) if frame.time is not None else float(count / rate)
                            said.write(json.dumps({"frame": count, "seconds": round(seconds, 3), **response.to_json()}, ensure_ascii=False) + "\n")
                        if writer is None:
                            writer, size = _writer(av, written, rate, pixels), pixels.shape
                        elif pixels.shape != size:
                            raise BadData(f"frame {count} has another size than the first")
                        writer_frame = av.VideoFrame.from_ndarray(_even(np.asarray(paint(pixels, entities))), format="rgb24")
                        writer_frame.pts, writer_frame.time_base = count, 1 / rate
                        for out_packet in writer.encode(writer_frame):
                            written.mux(out_packet)
                        count += 1
                        if progress:
                            progress(count, total)
                if writer is not None:
                    for held in waiting:
                        held.stream = audio
                        written.mux(held)
                    waiting.clear()
        except (av.FFmpegError, BadData) as error:
            problem = " ".join(str(error).split())[:120]
        if writer is None:
            raise BadData(f"{source}: no frame of it can be read{f' ({problem})' if problem else ''}")
        for out_packet in writer.encode():
            written.mux(out_packet)
    if not problem and total and count < 0.9 * total:
        problem = f"{count} of {total} frames could be read"
    return Annotated(count, looked, problem)


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
