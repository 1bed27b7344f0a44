"""`egohoi build frames`, as a person runs it."""

import json

import numpy as np
import pytest
from PIL import Image

from egohoi.apps import cli

av = pytest.importorskip("av")


def make(path):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=30)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for k in range(12):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((48, 64, 3), 20 + 10 * k, np.uint8), format="rgb24")))
        container.mux(stream.encode())


def test_frames_of_questions_scenes_and_lists(tmp_path, capsys):
    (tmp_path / "videos").mkdir()
    make(tmp_path / "videos" / "uid-1.mp4")
    make(tmp_path / "videos" / "P01_01.MP4")
    turn = [{"from": "human", "value": "<image>\nknife"}, {"from": "gpt", "value": "<p>knife</p> {<1><2><3><4>}"}]
    (tmp_path / "epic-kitchens-train.json").write_text(
        json.dumps([{"id": "1", "image": "EPIC_Kitchens/frames/P01_01/frame_0000000001", "conversations": turn}])
    )
    (tmp_path / "scenes.jsonl").write_text('{"id": "a", "image": "Ego4D/v2/frames/uid-1/frame_4.jpg", "size": [64, 48]}\n')
    (tmp_path / "list.txt").write_text("Ego4D/v2/frames/uid-1/frame_5.jpg\nEgo4D/v2/frames/uid-1/frame_99.jpg\nx/gone/frame_1.jpg\n")
    arguments = ["build", "frames", *(str(tmp_path / n) for n in ("epic-kitchens-train.json", "scenes.jsonl"))]
    arguments += ["--videos", str(tmp_path / "videos"), "--out", str(tmp_path / "out")]
    assert cli.main(arguments) == 0
    assert "2 frames written, 0 were there, of 2 videos" in capsys.readouterr().err
    assert cli.main([*arguments, str(tmp_path / "list.txt"), "--missing", str(tmp_path / "missing.txt")]) == 2
    said = capsys.readouterr().err
    assert "1 frames written, 2 were there" in said
    assert "2 frames are missing (1 are of videos that are not there, 1 could not be found in their video)" in " ".join(said.split())
    assert (tmp_path / "missing.txt").read_text().split() == ["x/gone/frame_1.jpg", "Ego4D/v2/frames/uid-1/frame_99.jpg"]
    found = sorted(str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*.*"))
    assert [f for f in found if f.endswith(".jpg")] == [
        "EPIC_Kitchens/frames/P01_01/frame_0000000001.jpg", "Ego4D/v2/frames/uid-1/frame_4.jpg", "Ego4D/v2/frames/uid-1/frame_5.jpg",
    ]
    assert round(float(np.asarray(Image.open(tmp_path / "out" / "Ego4D/v2/frames/uid-1/frame_4.jpg")).mean()), -1) == 60


def test_pictures_of_ones_own_come_out_of_no_video(tmp_path, capsys, monkeypatch):
    (tmp_path / "videos").mkdir()
    make(tmp_path / "videos" / "uid-1.mp4")
    (tmp_path / "mine.jpg").touch()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "list.txt").write_text(f"uid-1/frame_4.jpg\n{tmp_path / 'mine.jpg'}\nmine.jpg\n")
    base = ["build", "frames", "list.txt", "--videos", "videos", "--out", "out"]
    assert cli.main(base) == 0
    assert "1 frames written" in capsys.readouterr().err
    (tmp_path / "list.txt").write_text(f"uid-1/frame_5.jpg\n{tmp_path / 'gone.jpg'}\ngone.jpg\n")
    assert cli.main(base) == 2 and "2 frames are missing (2 name no video and frame)" in capsys.readouterr().err
    assert (tmp_path / "out/uid-1/frame_5.jpg").is_file()


def test_wrong_options(tmp_path, capsys):
    (tmp_path / "a.mp4").touch()
    (tmp_path / "list.txt").write_text("x/a/frame_1.jpg\n")
    base = ["build", "frames", str(tmp_path / "list.txt"), "--videos", str(tmp_path), "--out", str(tmp_path / "o")]
    for extra, message in ((["--size", "big"], "--size must be WIDTHxHEIGHT"), (["--rate", "0"], "--rate must be above 0")):
        assert cli.main([*base, *extra]) == 2
        assert message in capsys.readouterr().err
    assert cli.main(base) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "a.mp4: cannot be read as a video" in said and "1 frames are missing" in said
