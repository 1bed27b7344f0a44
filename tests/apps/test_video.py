import json
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest

from egohoi.apps import video
from egohoi.errors import BadConfig, BadData
from egohoi.records import Query

av = pytest.importorskip("av", reason="the extra 'video' is not installed")


@pytest.fixture
def clip(tmp_path, make_blocks):
    """Twenty frames of 10 a second, 161 x 121 (odd sides become even); the left hand moves right by 2 pixels a frame; with sound."""
    path = tmp_path / "in.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=10, options={"crf": "1"})
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        tone = out.add_stream("aac", rate=8000, layout="mono")
        for k in range(20):
            pixels = make_blocks((160, 120), left_hand=(20 + 2 * k, 40, 60 + 2 * k, 80))
            for packet in stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")):
                out.mux(packet)
            sound = av.AudioFrame.from_ndarray((np.sin(np.arange(800) / 5)[None] * 9000).astype(np.int16), format="s16", layout="mono")
            sound.sample_rate, sound.pts, sound.time_base = 8000, 800 * k, Fraction(1, 8000)
            for packet in tone.encode(sound):
                out.mux(packet)
        for stream in (stream, tone):
            for packet in stream.encode():
                out.mux(packet)
    return path


def frames(path):
    with av.open(str(path)) as container:
        return [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_frame_is_drawn_and_the_looked_at_ones_are_told(clip, tmp_path, color_model):
    seen = []
    done = video.annotate(clip, tmp_path / "out.mp4", color_model, every=5, progress=lambda n, total: seen.append((n, total)))
    assert (done.frames, done.looked, done.problem) == (20, 4, "") and seen[-1] == (20, 20)
    told = rows(tmp_path / "out.jsonl")
    assert [(r["frame"], r["seconds"]) for r in told] == [(0, 0.0), (5, 0.5), (10, 1.0), (15, 1.5)]
    for row in told:
        assert row["entities"][0]["name"] == "left hand" and row["entities"][0]["box"][0] == pytest.approx(20 + 2 * row["frame"], abs=1)
    out = frames(tmp_path / "out.mp4")
    assert len(out) == 20 and out[0].shape == (120, 160, 3)
    assert not np.allclose(out[0][36:84, 16:64].astype(int), frames(clip)[0][36:84, 16:64].astype(int), atol=30)  # a box is there
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert container.streams.video[0].average_rate == 10 and len(list(container.decode(audio=0))) > 10
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.mp4", "out.jsonl", "out.mp4"]


def test_a_question_is_asked_of_about_five_frames_a_second(clip, tmp_path, color_model):
    done = video.annotate(clip, tmp_path / "out.mkv", color_model, query=Query("the cup"))
    assert done.looked == 10 and not any(r["target_found"] for r in rows(tmp_path / "out.jsonl"))


def test_odd_sides_become_even(tmp_path, color_model, make_blocks):
    with av.open(str(tmp_path / "odd.mkv"), "w") as out:
        stream = out.add_stream("ffv1", rate=5)
        stream.width, stream.height, stream.pix_fmt = 81, 61, "bgr0"
        for packet in (*stream.encode(av.VideoFrame.from_ndarray(make_blocks((81, 61), cup=(10, 10, 40, 40)), format="rgb24")), *stream.encode()):
            out.mux(packet)
    assert video.annotate(tmp_path / "odd.mkv", tmp_path / "out.mp4", color_model).frames == 1
    assert frames(tmp_path / "out.mp4")[0].shape == (62, 82, 3) and rows(tmp_path / "out.jsonl")[0]["size"] == [81, 61]


def test_a_video_that_breaks_off_is_written_as_far_as_it_goes(tmp_path, color_model, make_blocks):
    with av.open(str(tmp_path / "whole.mkv"), "w") as out:
        stream = out.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        rng = np.random.default_rng(0)
        for _ in range(30):
            for packet in stream.encode(av.VideoFrame.from_ndarray(rng.integers(0, 255, (120, 160, 3), dtype=np.uint8), format="rgb24")):
                out.mux(packet)
        for packet in stream.encode():
            out.mux(packet)
    data = (tmp_path / "whole.mkv").read_bytes()
    (tmp_path / "cut.mkv").write_bytes(data[: len(data) // 2])
    done = video.annotate(tmp_path / "cut.mkv", tmp_path / "out.mp4", color_model)
    assert 5 < done.frames < 25 and done.problem and len(frames(tmp_path / "out.mp4")) == done.frames


def test_an_error_of_the_model_leaves_no_files(clip, tmp_path, color_model, monkeypatch):
    monkeypatch.setattr(color_model, "describe", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        video.annotate(clip, tmp_path / "out.mp4", color_model)
    assert [p.name for p in tmp_path.iterdir()] == ["in.mp4"]


def test_an_interrupted_run_goes_on_and_ends_the_same(clip, tmp_path, color_model, monkeypatch):
    """Stopped at the sixth look, and a line cut short by a kill: kept rows are not asked again, the results are equal."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    whole, parted = tmp_path / "a" / "out.mp4", tmp_path / "b" / "out.mp4"
    video.annotate(clip, whole, color_model, every=2)
    describe, asked = color_model.describe, []

    def interrupted(picture, settings):
        asked.append(picture.name)
        if len(asked) == 6:
            raise KeyboardInterrupt
        return describe(picture, settings)

    monkeypatch.setattr(color_model, "describe", interrupted)
    with pytest.raises(KeyboardInterrupt):
        video.annotate(clip, parted, color_model, every=2)
    left = tmp_path / "b" / "out.jsonl.part"
    assert [p.name for p in left.parent.iterdir()] == [left.name] and len(rows(left)) == 1 + 5
    left.write_bytes(left.read_bytes() + b'{"frame": 10, "sec')
    asked[:] = ["", "", "", "", "", ""]
    done = video.annotate(clip, parted, color_model, every=2)
    assert (done.looked, done.kept) == (10, 5) and asked[6:] == [f"in.mp4#{k}" for k in (10, 12, 14, 16, 18)]
    assert rows(whole.with_suffix(".jsonl")) == rows(parted.with_suffix(".jsonl"))
    assert all(np.array_equal(a, b) for a, b in zip(frames(whole), frames(parted), strict=True))
    assert sorted(p.name for p in left.parent.iterdir()) == ["out.jsonl", "out.mp4"]


def test_another_request_does_not_take_what_was_kept(clip, tmp_path, color_model):
    left = tmp_path / "out.jsonl.part"
    for first in (b"{}\n{}\n", b"", b"\xff\x00"):
        left.write_bytes(first)
        done = video.annotate(clip, tmp_path / "out.mp4", color_model, every=5)
        assert (done.looked, done.kept) == (4, 0) and len(rows(tmp_path / "out.jsonl")) == 4 and not left.exists()


def test_wrong_requests(clip, tmp_path, color_model, make_png, make_blocks):
    (tmp_path / "text.mp4").write_text("this is a letter, not a video\n" * 40)
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "picture.png").write_bytes(make_png(make_blocks()))
    for name, words in (("none.mp4", "no such file"), ("text.mp4", "cannot be read|no video"), ("empty.mp4", "cannot be read"), ("picture.png", "no video"), (".", "folder")):
        with pytest.raises(BadData, match=words):
            video.annotate(tmp_path / name, tmp_path / "out.mp4", color_model)
    (tmp_path / "taken.jsonl.part").mkdir()
    with pytest.raises(BadConfig, match="taken.mp4: cannot be written"):
        video.annotate(clip, tmp_path / "taken.mp4", color_model)
    for out, more, words in (("out.gif", {}, "ends in"), ("no/out.mp4", {}, "does not exist"), ("in.mp4", {}, "different names"), ("out.mp4", {"every": 0}, "--every")):
        with pytest.raises(BadConfig, match=words):
            video.annotate(clip, tmp_path / out, color_model, **more)


def test_the_command_with_the_embedded_model(clip, tmp_path):
    command = [sys.executable, "-m", "egohoi", "video", str(clip), str(tmp_path / "out.mp4"), "--every", "19"]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert len(rows(tmp_path / "out.jsonl")) == 2 and len(frames(tmp_path / "out.mp4")) == 20
    ran = subprocess.run([*command[:4], str(tmp_path / "none.mp4"), str(tmp_path / "o.mp4")], capture_output=True, text=True)
    assert ran.returncode == 2 and ran.stderr.count("\n") == 1 and "no such file" in ran.stderr
