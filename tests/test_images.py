import numpy as np
import pytest
from PIL import Image

from egohoi import images
from egohoi.errors import BadImage


@pytest.fixture
def photo():
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8))


@pytest.mark.parametrize("mode", ["L", "CMYK", "RGBA", "LA", "P", "1", "I;16"])
def test_unusual_modes_become_rgb(tmp_path, photo, mode):
    path = tmp_path / ("a.tif" if mode in ("CMYK", "I;16") else "a.png")
    image = Image.fromarray(np.asarray(photo.convert("L")).astype(np.uint16) * 256) if mode == "I;16" else photo.convert(mode)
    image.save(path)
    pixels = images.load(path).pixels
    assert pixels.shape == (40, 60, 3) and pixels.dtype == np.uint8 and pixels.std() > 5


def test_exif_rotation_is_applied(tmp_path, photo):
    exif = Image.Exif()
    exif[274] = 6
    photo.save(tmp_path / "a.jpg", exif=exif)
    assert images.load(tmp_path / "a.jpg").size == (40, 60)


def test_bad_files_have_one_clear_line(tmp_path, photo):
    photo.save(tmp_path / "whole.jpg")
    data = (tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(data[: len(data) // 2])
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "text.jpg").write_text("this is not a picture")
    Image.new("RGB", (1, 1)).save(tmp_path / "one.png")
    Image.new("1", (30000, 30000)).save(tmp_path / "huge.png")
    for name, says in (
        ("none.jpg", "no such file"), (".", "folder"), ("empty.jpg", "empty"), ("text.jpg", "not a picture"), ("cut.jpg", "cut short"),
        ("one.png", "too few"), ("huge.png", "too many"),
    ):  # fmt: skip
        with pytest.raises(BadImage, match=says) as caught:
            images.load(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_arrays():
    assert images.load(np.zeros((4, 5), np.uint8)).size == (5, 4)
    with pytest.raises(BadImage):
        images.load(np.zeros((4, 5, 3), np.float32))
