"""Frames out of videos: small videos whose every picture shows its own number in grey levels."""

import struct
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from egohoi.errors import BadData
from egohoi.scenes import frames

av = pytest.importorskip("av")


def level(k: int) -> int:
    return 20 + 5 * k


def video(path, count=40, stamps=None, codec="libx264", rate=30):
    """A 64x48 video; picture k is grey `level(k)`; stamps: time of each picture in 1/1000 s."""
    options = {"g": "8", "bf": "2", "crf": "1", "preset": "ultrafast"} if codec == "libx264" else {"g": "8", "qmin": "1", "qmax": "1"}
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, options=options)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        if stamps is not None:
            stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        for k in range(count):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), level(k), np.uint8), format="rgb24")
            if stamps is not None:
                frame.pts, frame.time_base = stamps[k], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def shown(path) -> int:
    """Number of the picture that a file shows."""
    return round((float(np.asarray(Image.open(path)).mean()) - 20) / 5)


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_exact_pictures_by_number(tmp_path, codec):
    numbers = [0, 1, 7, 8, 9, 15, 16, 31, 39]
    wanted = {n: f"a/clip/frame_{n}.png" for n in numbers}
    done = frames.extract(video(tmp_path / "clip.mp4", codec=codec), wanted, tmp_path / "out")
    assert (done.written, done.kept, done.missing) == (9, 0, ())
    assert [shown(tmp_path / "out" / wanted[n]) for n in numbers] == numbers
    assert Image.open(tmp_path / "out" / wanted[0]).size == (64, 48)


def test_resumes_and_leaves_nothing_half_done(tmp_path):
    path = video(tmp_path / "clip.mp4")
    wanted = {n: f"clip/frame_{n}.jpg" for n in (3, 4, 30)}
    out = tmp_path / "out"
    frames.extract(path, {3: wanted[3]}, out)
    stamp = (out / wanted[3]).stat().st_mtime_ns
    (out / wanted[4]).touch()  # an empty file is no picture
    done = frames.extract(path, wanted, out)
    assert (done.written, done.kept) == (2, 1)
    assert (out / wanted[3]).stat().st_mtime_ns == stamp
    assert sorted(p.name for p in (out / "clip").iterdir()) == ["frame_3.jpg", "frame_30.jpg", "frame_4.jpg"]
    # nothing left to do: the video is not even opened
    path.unlink()
    assert frames.extract(path, wanted, out).kept == 3


def test_epic_numbers_count_a_constant_rate_from_one(tmp_path):
    # 10 pictures a second, numbers at 60 a second from 1: number n shows picture floor((n - 1 + 0.5) / 6), as ffmpeg rounds
    path = video(tmp_path / "P01_01.mp4", count=10, rate=10)
    wanted = {n: f"P01_01/frame_{n:010d}.png" for n in (1, 5, 6, 7, 8, 13, 55)}
    frames.extract(path, wanted, tmp_path)
    assert [shown(tmp_path / wanted[n]) for n in wanted] == [0, 0, 0, 1, 1, 2, 9]
    assert frames.counting("P01_01") == frames.Counting(1, 60.0)
    assert frames.counting("P01_101") == frames.Counting(1, 50.0)
    assert frames.counting("c1c1c1c1-0000-0000-0000-000000000001") == frames.Counting(0, None)


def test_variable_rate_and_late_start(tmp_path):
    # pictures at 0, 100, 500, 520 and 1000 ms
    path = video(tmp_path / "v.mkv", count=5, stamps=[0, 100, 500, 520, 1000])
    frames.extract(path, {n: f"all/{n}.png" for n in range(5)}, tmp_path)
    assert [shown(tmp_path / f"all/{n}.png") for n in range(5)] == [0, 1, 2, 3, 4]
    frames.extract(path, {n: f"ten/{n}.png" for n in (0, 1, 4, 5, 9, 10)}, tmp_path, counted=frames.Counting(0, 10.0))
    assert [shown(tmp_path / f"ten/{n}.png") for n in (0, 1, 4, 5, 9, 10)] == [0, 1, 1, 3, 3, 4]


def test_numbers_outside_the_video_are_reported(tmp_path):
    path = video(tmp_path / "clip.mp4", count=10)
    done = frames.extract(path, {-1: "clip/m.jpg", 9: "clip/9.jpg", 10: "clip/10.jpg", 10**9: "clip/b.jpg"}, tmp_path)
    assert done.written == 1 and done.missing == ("clip/m.jpg", "clip/10.jpg", "clip/b.jpg")
    done = frames.extract(path, {100: "clip/100.jpg"}, tmp_path, counted=frames.Counting(1, 50.0))
    assert done.missing == ("clip/100.jpg",)


def test_scaling(tmp_path):
    frames.extract(video(tmp_path / "clip.mp4"), {2: "clip/2.jpg"}, tmp_path, size=(32, 24))
    assert Image.open(tmp_path / "clip/2.jpg").size == (32, 24)


def test_plan():
    found = frames.plan([
        "EPIC_Kitchens/frames/P01_01/frame_0000000140.jpg", "EPIC_Kitchens/frames/P01_01/frame_0000000140.jpg", "x/P01_01/frame_7",
        "Ego4D/v2/frames/uid/frame_12.png", "P01/P01_01/P01_01_frame_0000000140.jpg", "frame_1.jpg",
    ])
    assert found.videos == {
        "P01_01": {140: "EPIC_Kitchens/frames/P01_01/frame_0000000140.jpg", 7: "x/P01_01/frame_7.jpg"},
        "uid": {12: "Ego4D/v2/frames/uid/frame_12.png"},
    }
    assert found.again == {}
    assert found.unknown == ("P01/P01_01/P01_01_frame_0000000140.jpg", "frame_1.jpg")
    for bad in ("/etc/v/frame_1.jpg", "a/../../v/frame_1.jpg"):
        with pytest.raises(BadData, match="below the output folder"):
            frames.plan([bad])


def test_what_is_no_video(tmp_path):
    (tmp_path / "clip.mp4").write_bytes(b"not a video" * 100)
    with pytest.raises(BadData, match=r"clip\.mp4: cannot be read as a video"):
        frames.extract(tmp_path / "clip.mp4", {0: "clip/0.jpg"}, tmp_path)
    with pytest.raises(BadData, match="no such file or folder"):
        frames.find_videos(tmp_path / "none")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "clip.MP4").touch()
    with pytest.raises(BadData, match="two videos are named clip"):
        frames.find_videos(tmp_path)


def test_one_frame_with_two_names(tmp_path):
    found = frames.plan(["EPIC_Kitchens/frames/clip/frame_3.jpg", "clip/frame_0000000003.jpg", "clip/frame_99.jpg", "b/clip/frame_99.jpg"])
    assert found.again == {"clip/frame_0000000003.jpg": "EPIC_Kitchens/frames/clip/frame_3.jpg", "b/clip/frame_99.jpg": "clip/frame_99.jpg"}
    frames.extract(video(tmp_path / "clip.mp4"), found.videos["clip"], tmp_path)
    assert frames.repeat(found.again, tmp_path) == (1, ("b/clip/frame_99.jpg",))
    assert frames.repeat(found.again, tmp_path) == (0, ("b/clip/frame_99.jpg",))
    assert (tmp_path / "clip/frame_0000000003.jpg").read_bytes() == (tmp_path / "EPIC_Kitchens/frames/clip/frame_3.jpg").read_bytes()


def turned(path, matrix):
    """Write a display matrix (9 numbers) into the track header of an mp4 file, as a phone that was held upright does."""
    data = path.read_bytes()
    at = data.index(b"tkhd") + 44
    assert data[at : at + 36] == struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30)
    path.write_bytes(data[:at] + struct.pack(">9i", *matrix) + data[at + 36 :])


@pytest.mark.parametrize("matrix, size, corner", [
    ((0, 65536, 0, -65536, 0, 0, 48 << 16, 0, 1 << 30), (48, 64), "right"),  # a quarter turn clockwise: what was left is up
    ((-65536, 0, 0, 0, -65536, 0, 64 << 16, 48 << 16, 1 << 30), (64, 48), "right below"),
    ((0, -65536, 0, 65536, 0, 0, 0, 64 << 16, 1 << 30), (48, 64), "below"),
    ((65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30), (64, 48), "left"),
])
def test_pictures_stand_upright(tmp_path, matrix, size, corner):
    """A bright left upper corner goes where the display matrix turns it."""
    path = tmp_path / "clip.mp4"
    pixels = np.full((48, 64, 3), 20, np.uint8)
    pixels[:16, :16] = 230
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=30)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(4):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    turned(path, matrix)
    frames.extract(path, {2: "clip/2.png"}, tmp_path)
    picture = np.asarray(Image.open(tmp_path / "clip/2.png")).mean(axis=2)
    assert (picture.shape[1], picture.shape[0]) == size
    bright = {"left": (5, 5), "right": (5, size[0] - 6), "below": (size[1] - 6, 5), "right below": (size[1] - 6, size[0] - 6)}
    assert {name for name, at in bright.items() if picture[at] > 150} == {corner}


def test_halves_of_killed_runs_are_removed(tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    (tmp_path / "clip").mkdir()
    mine, others = tmp_path / f"clip/3.jpg.{gone.pid}.part", tmp_path / "clip/my notes.part"
    for path in (mine, others):
        path.touch()
    frames.extract(video(tmp_path / "clip.mp4"), {3: "clip/3.jpg"}, tmp_path)
    assert not mine.exists() and others.exists()


def test_killed_at_any_picture_it_ends_with_the_same_bytes(tmp_path, monkeypatch):
    path, wanted = video(tmp_path / "clip.mp4"), {n: f"clip/{n}.jpg" for n in (0, 3, 9, 30)}
    frames.extract(path, wanted, tmp_path / "whole")
    replace = frames.os.replace

    class Killed(BaseException):
        pass

    for survived in range(len(wanted)):
        left = survived

        def dying(part, place):
            nonlocal left
            if left == 0:
                raise Killed
            left -= 1
            replace(part, place)

        monkeypatch.setattr(frames.os, "replace", dying)
        with pytest.raises(Killed):
            frames.extract(path, wanted, tmp_path / f"cut{survived}")
        monkeypatch.setattr(frames.os, "replace", replace)
        done = frames.extract(path, wanted, tmp_path / f"cut{survived}")
        assert (done.kept, done.written) == (survived, len(wanted) - survived)
        for name in wanted.values():
            assert (tmp_path / f"cut{survived}" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
