"""Drawing: what stands where in the pixels, for thumbnails and for photos, and the errors."""

import numpy as np
import pytest
from PIL import Image

from egohoi import masks
from egohoi.apps import draw
from egohoi.errors import BadImage, BadMask
from egohoi.records import Entity, Response

SIZES = [(120, 90), (90, 120), (640, 480), (1920, 1080), (4032, 3024)]


def response(size=(640, 480), entities=(), text="The left hand holds a cup.", grey=90, **more):
    pixels = np.full((size[1], size[0], 3), grey, dtype=np.uint8)
    return Response(image="a.jpg", size=size, query="What is it?", task="analyze", text=text, target_found=True,
                    entities=entities, **{"picture": pixels, **more})


def entity(name="cup", kind="object", side=None, box=(200, 200, 400, 400), **more):
    return Entity(name, kind, side, box, more.pop("score", 0.9), **more)


@pytest.mark.parametrize("size", SIZES)
def test_picture_keeps_its_scale_and_the_caption_goes_underneath(size):
    w, h = size
    hand = entity("left hand", "hand", "left", (w * 0.1, h * 0.4, w * 0.5, h), holds=(1,))
    image = draw.overlay(response(size, [hand, entity(box=(w * 0.4, h * 0.3, w * 0.8, h * 0.7))]))
    assert image.mode == "RGB" and image.width == w and image.height > h
    assert draw.overlay(response(size, [hand]), caption=False).size == size
    # Bottom left corner of the hand's box: a corner without a label (label above), in the left hand's colour.
    assert image.getpixel((int(w * 0.1), h - 1)) == draw.HAND_COLORS["left"]
    strip = np.asarray(image)[h:]
    assert (strip > 200).any(), "no letters on the caption strip"


def test_box_lines_lie_on_the_box_and_nowhere_else():
    image = np.asarray(draw.paint(np.zeros((480, 640, 3), np.uint8), [entity(box=(200, 200, 400, 400))]))
    ink = (image == draw.OBJECT_COLORS[0]).all(axis=2)
    width = draw.line_width((640, 480))
    assert ink[300, 200 : 200 + width].all() and not ink[300, 200 + width : 400 - width].any() and ink[300, 400 - width : 400].all()
    assert not ink[300, :200].any() and not ink[300, 400:].any()
    assert ink[399, 200:400].all() and not ink[400:, :].any()


def test_hands_have_fixed_colours_and_objects_others():
    entities = [entity("cup"), entity("right hand", "hand", "right"), entity("left hand", "hand", "left"), entity("knife")]
    found = draw.colors(entities)
    assert found[1] == draw.HAND_COLORS["right"] and found[2] == draw.HAND_COLORS["left"]
    assert found[0] == draw.OBJECT_COLORS[0] and found[3] == draw.OBJECT_COLORS[1]
    assert not set(draw.OBJECT_COLORS) & set(draw.HAND_COLORS.values())
    assert len(draw.colors([entity()] * 30)) == 30
    palette = np.array([*draw.OBJECT_COLORS, *draw.HAND_COLORS.values()], dtype=float)
    gaps = np.linalg.norm(palette[:, None] - palette[None], axis=2) + np.eye(len(palette)) * 1e3
    assert gaps.min() > 45, "two colours are too much alike"


def test_mask_is_tinted_and_outlined_and_the_input_stays():
    mask = np.zeros((480, 640), bool)
    mask[250:350, 250:350] = True
    pixels = np.full((480, 640, 3), 100, np.uint8)
    image = np.asarray(draw.paint(pixels, [entity(mask=masks.encode(mask))]))
    ink = np.array(draw.OBJECT_COLORS[0])
    expected = 100 * (1 - draw.MASK_OPACITY) + ink * draw.MASK_OPACITY
    assert np.abs(image[300, 300] - expected).max() <= 1
    assert (image[250, 300] == ink).all() and (image[300, 349] == ink).all()
    assert (image[240, 240] == 100).all()
    assert (pixels == 100).all()


def test_link_runs_from_hand_to_held_object():
    hand = entity("right hand", "hand", "right", (400, 300, 500, 400), holds=(1,))
    thing = entity(box=(100, 100, 200, 200))
    free = entity("right hand", "hand", "right", (400, 300, 500, 400))
    black = np.zeros((480, 640, 3), np.uint8)
    between = (300, 250)  # half way between the centres (450, 350) and (150, 150)
    assert draw.paint(black, [hand, thing]).getpixel(between) == draw.HAND_COLORS["right"]
    assert draw.paint(black, [free, thing]).getpixel(between) == (0, 0, 0)
    # An index that points nowhere or to itself draws nothing and is no crash.
    draw.paint(black, [entity("left hand", "hand", "left", holds=(0, 7))])


@pytest.mark.parametrize("size", SIZES)
def test_labels_stay_inside_and_apart(size):
    w, h = size
    taken, image = [], Image.new("RGB", size)
    letters = draw.load_font(draw.letter_size(size))
    from PIL import ImageDraw

    for k in range(3):
        box = (w * 0.3, h * 0.3, w * 0.6, h * 0.6)
        draw._label(ImageDraw.Draw(image), box, entity(f"thing {k}"), (255, 0, 0), letters, 1, size, taken)
    assert len(taken) == 3
    for spot in taken:
        assert 0 <= spot[0] < spot[2] <= w and 0 <= spot[1] < spot[3] <= h
    for a in range(3):
        for b in range(a):
            x1, y1, x2, y2 = draw._overlap(taken[a], taken[b])
            assert x1 >= x2 or y1 >= y2, "labels of equal boxes lie on each other"


@pytest.mark.parametrize("box", [(-50, -50, 60, 60), (600, 400, 900, 900), (0, 0, 640, 480), (639.2, 479.1, 640, 480), (10, 10, 10.4, 10.2)])
def test_boxes_at_the_border_are_drawn(box):
    assert draw.overlay(response(entities=[entity(box=box)])).width == 640


def test_long_names_long_answers_and_strange_text():
    image = draw.overlay(response((90, 120), [entity("a very long name of an object " * 4, box=(5, 5, 80, 100))], text="word " * 500))
    letters = draw.letter_size((90, 120))
    assert image.height - 120 <= (draw.MAX_CAPTION_LINES + 2) * letters * 1.5
    draw.overlay(response(text="Sch\u00fcssel \u5305\u4e01 \U0001f52a\n\nsecond line\t" + "x" * 900))
    assert draw.overlay(response(text="")).height > 480  # the question stays


def test_no_text_gives_no_strip():
    silent = Response("a.jpg", (64, 48), "", "ground", "", False, picture=np.zeros((48, 64, 3), np.uint8))
    assert draw.overlay(silent).size == (64, 48)
    assert silent.draw().size == (64, 48)


def test_wrapping_keeps_every_letter():
    letters = draw.load_font(12)
    text = "cuts the cucumber on thecuttingboardwithaverylongname today"
    lines = draw._wrap(text, letters, 100)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    assert all(letters.getlength(line) <= 100 for line in lines)


def test_caption_of_exact_height():
    assert draw.caption_strip(300, "word " * 200, question="why?", letter=12, height=60).size == (300, 60)


def test_errors_are_one_line():
    with pytest.raises(BadImage, match="not kept"):
        draw.overlay(response(picture=None))
    with pytest.raises(BadMask, match="mask of 'cup'"):
        draw.overlay(response(entities=[entity(mask=masks.encode(np.ones((10, 10))))]))
    with pytest.raises(BadImage, match="font"):
        draw.overlay(response(), font="no-such.ttf")
