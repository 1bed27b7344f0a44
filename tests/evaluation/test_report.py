"""The HTML page: self-contained, its texts harmless, its items the ends of each kind."""

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from egohoi import masks
from egohoi.evaluation import report, report_compare, report_svg
from egohoi.evaluation.report import Item, Section
from egohoi.evaluation.tables import Cell, Table
from egohoi.evaluation.tally import Measure, Tally

TABLE = Table("Boxes", ("accuracy",), (("all", (Cell(Measure(0.5, 0.25, 0.75, 2, 4)),)),), "Of every box.")


class Checker(HTMLParser):
    """Collects tags and what they load."""

    def __init__(self):
        super().__init__()
        self.tags, self.loaded = [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.loaded += [v for k, v in attributes if k in ("src", "href") and v]


def page(tmp_path, *arguments, **keywords):
    report.write(tmp_path / "out.html", "A title", *arguments, **keywords)
    text = (tmp_path / "out.html").read_text()
    checker = Checker()
    checker.feed(text)
    return text, checker


def test_the_page_stands_alone_and_holds_everything(tmp_path):
    Image.fromarray(np.full((30, 40, 3), 200, np.uint8)).save(tmp_path / "a.png")
    mask = np.zeros((30, 40), np.uint8)
    mask[5:20, 5:20] = 1
    items = [
        Item("one", "box", 0.1, "Where is the cup?", "cup", "{<1><2><3><4>}", str(tmp_path / "a.png"), (40, 30), [(5, 5, 20, 20)], [(9, 9, 3, 3)],
             [masks.encode(mask)]),
        Item("two", "noun", 1.0, "What is it?", "cup", "cup"),
    ]  # fmt: skip
    text, checker = page(tmp_path, [TABLE], items, plots=[report_svg.histogram("IoU", [0.1, 0.9])], sections=[Section("Differences", "First.\n\nSecond.")])
    assert all(link.startswith("data:") for link in checker.loaded) and "http" not in re.sub(r"<!doctype.*?>", "", text)
    assert text.count("<article ") == 2 and "50.0" in text and "(25–75)" in text and "<p>Second.</p>" in text
    pictures = json.loads(re.search(r'id="pictures">(.*?)</script>', text, re.DOTALL).group(1))
    assert [uri[:23] for uri in pictures.values()] == ["data:image/jpeg;base64,"]
    # The reversed box is drawn where it lies; the mask is a picture of its own.
    assert '<rect x="3.0" y="3.0" width="6.0" height="6.0"' in text and "data:image/png;base64," in text
    assert not (tmp_path / "out.html.part").exists()


def test_texts_of_items_cannot_break_the_page(tmp_path):
    evil = '</script><script>alert(1)</script>"\'{{TITLE}}'
    text, checker = page(tmp_path, [TABLE], [Item(evil, evil, 0.0, evil, evil, evil, evil, (10, 10), note=evil)], facts={evil: evil})
    assert "<script>alert" not in text and checker.tags.count("script") == 2
    assert text.count("{{TITLE}}") > 3, "a place of the template inside an item's text is only text"


def test_a_picture_that_is_not_there_is_said(tmp_path):
    text, _ = page(tmp_path, [TABLE], [Item("one", "box", 0.5, image="gone.jpg", size=(10, 10), boxes=[(1, 1, 5, 5)])])
    assert "picture not found: gone.jpg" in text


def test_only_the_ends_of_each_kind_are_kept():
    items = (Item(f"{k}", "ab"[k % 2], k / 1000) for k in range(1000))
    chosen, counts = report.ends(items, 3)
    assert counts == {"a": 500, "b": 500} and len(chosen) == 12
    assert [i.id for i, end in chosen if i.kind == "a" and end == "worst"] == ["0", "2", "4"]
    assert [i.id for i, end in chosen if i.kind == "b" and end == "best"] == ["995", "997", "999"]


def test_items_of_equal_value_are_not_the_first_ones_and_stay_the_same():
    items = [Item(f"{k:03d}", "a", 0.0) for k in range(100)]
    chosen = [i.id for i, _ in report.ends(items, 5)[0]]
    assert chosen == [i.id for i, _ in report.ends(items[::-1], 5)[0]] != [f"{k:03d}" for k in range(5)]
    assert len(set(chosen)) == 10


def test_bars_and_histogram_say_their_numbers():
    bars = report_svg.bars("Accuracy", [("<one>", Measure(0.5, 0.4, 0.6, 1, 2)), ("two", None)])
    assert "50.0" in bars and "&lt;one&gt;" in bars and "two" not in bars
    assert "0.95–1.00: 2" in report_svg.histogram("IoU", [1.0, 0.97, 0.2])


def scored(values):
    tally = Tally()
    for k, value in enumerate(values):
        tally.add(f"image{k}", {"box/right": (value, 1.0)})
    return tally


def test_two_models_on_the_same_items():
    table = report_compare.comparison(scored([0] * 40), scored([1] * 30 + [0] * 10), [("boxes", "box/right", "%"), ("none", "no/key", "%")])
    assert [name for name, _ in table.rows] == ["boxes"]
    first, second, difference, bounds, p, images = (c.value for c in table.rows[0][1])
    assert (first, second, difference, p, images) == (0.0, 0.75, "+75.00", "< 0.001", 40) and bounds.startswith("+")


def test_models_on_other_items_are_not_compared():
    table = report_compare.comparison(scored([0] * 4), scored([0] * 5), [("boxes", "box/right", "%")])
    assert table.rows == () and "count different items: boxes" in table.note


@pytest.mark.parametrize("value", [None, 0.25])
def test_a_value_without_bounds(value):
    assert report_svg.bars("x", [("a", Measure(value, None, None, 1, 4))]).count('class="bar"') == (value is not None)
