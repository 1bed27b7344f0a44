"""One self-contained HTML page of an evaluation: tables with intervals, plots, worst and best items with pictures, filters.

Nothing is fetched from anywhere: styles, script, plots (SVG) and pictures (JPEG, boxes and masks on top) lie in the file. A
benchmark gives its tables (`tables.Table`), its plots (`report_svg.bars`, `report_svg.histogram`) and its items (`Item`); the
items may be a stream of any length, because only the ends of each kind are kept.

    report.write("out.html", "nano on kitchen", tables, items, plots=[report_svg.bars("Accuracy", rows)], find=frames.find)
"""

import base64
import hashlib
import heapq
import html
import io
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

from egohoi.errors import BadImage, BadMask
from egohoi.evaluation.tables import Cell, Table
from egohoi.evaluation.tally import Measure

#: Longer side of an embedded picture in pixels, and how many pictures a page carries at most.
SIDE = 480
PICTURES = 240


@dataclass(frozen=True)
class Item:
    """One question with its truth and answer, as a card of the page.

    kind: what the filter groups by (a subset). value: how good the answer is, 0..1 (an IoU, or 1 and 0); None: not ranked.
    truth, answer: texts. image: path or name of the picture, "" for none. size: (width, height) that boxes and masks refer to.
    true_boxes, boxes: xyxy pixels. true_masks, masks: COCO RLEs of `size`. note: a line below (a fault, a parse failure).
    """

    id: str
    kind: str
    value: float | None
    question: str = ""
    truth: str = ""
    answer: str = ""
    image: str = ""
    size: tuple[int, int] | None = None
    true_boxes: Sequence = ()
    boxes: Sequence = ()
    true_masks: Sequence[dict] = ()
    masks: Sequence[dict] = ()
    note: str = ""


@dataclass(frozen=True)
class Section:
    """A heading with a text (plain, paragraphs by blank lines) and tables below it."""

    title: str
    text: str = ""
    tables: Sequence[Table] = field(default_factory=tuple)


def write(
    path, title: str, tables: Sequence[Table], items: Iterable[Item] = (), *, plots: Sequence[str] = (), facts: Mapping[str, object] | None = None,
    sections: Sequence[Section] = (), find: Callable[[str], Path | None] | None = None, most: int = 8,
    chosen: list[tuple[Item, str]] | None = None, counts: Mapping[str, int] | None = None,
) -> None:
    """Write the page, atomically.

    plots: SVG texts of `report_svg`. facts: what was measured (model, data, date), shown below the title. sections: further
    headings, such as the differences between protocols or the comparison of two models. find: path of a picture that an item
    names, or None if it is not there (then the card shows boxes on an empty canvas); without `find`, item.image is the path.
    most: how many of the worst and of the best items of every kind are shown. chosen, counts: what `ends` gave, in place of items.
    """
    if chosen is None or counts is None:
        chosen, counts = ends(items, most)
    pictures = _Pictures(find or (lambda name: Path(name) if name and Path(name).is_file() else None))
    cards = "\n".join(_card(item, end, pictures) for item, end in chosen)
    parts = {
        "TITLE": html.escape(title), "FACTS": _facts(facts or {}), "TABLES": "\n".join(map(_table, tables)),
        "SECTIONS": "\n".join(map(_section, sections)), "PLOTS": "\n".join(f"<figure>{p}</figure>" for p in plots), "CARDS": cards,
        "KINDS": "".join(f'<option value="{html.escape(k)}">{html.escape(k)} ({n})</option>' for k, n in sorted(counts.items())),
        "SHOWN": f"{len(chosen)} of {sum(counts.values())} items: the {most} worst and the {most} best of every kind",
        "PICTURES": json.dumps(pictures.data).replace("</", "<\\/"),
    }
    page = resources.files("egohoi.evaluation").joinpath("report.html").read_text(encoding="utf-8")
    head, *rest = page.split("{{")
    for piece in rest:  # one pass, so that no text of an item is ever taken for a place of the template
        name, _, tail = piece.partition("}}")
        head += parts[name] + tail
    part = Path(f"{path}.part")
    part.parent.mkdir(parents=True, exist_ok=True)
    part.write_text(head, encoding="utf-8")
    os.replace(part, path)


def ends(items: Iterable[Item], most: int) -> tuple[list[tuple[Item, str]], dict[str, int]]:
    """The `most` worst and best items of every kind, worst first, each once, with "worst" or "best"; and kind -> number.

    Equal values are drawn by a hash of their ids, not by their order. Memory holds 2 x most items a kind.
    """
    heaps: dict[str, tuple[list, list]] = {}
    counts: dict[str, int] = {}
    for item in items:
        counts[item.kind] = counts.get(item.kind, 0) + 1
        if item.value is None:
            continue
        draw = int.from_bytes(hashlib.blake2b(item.id.encode(), digest_size=8).digest(), "big")
        low, high = heaps.setdefault(item.kind, ([], []))
        for heap, key in ((low, (-item.value, draw)), (high, (item.value, -draw))):
            entry = (key, counts[item.kind], item)
            if len(heap) < most:
                heapq.heappush(heap, entry)
            elif entry > heap[0]:
                heapq.heapreplace(heap, entry)
    chosen = []
    for kind in sorted(heaps):
        low, high = heaps[kind]
        worst = [e[2] for e in sorted(low, reverse=True)]
        seen = {item.id for item in worst}
        best = [e[2] for e in sorted(high, reverse=True) if e[2].id not in seen]
        chosen += [(item, "worst") for item in worst] + [(item, "best") for item in reversed(best)]
    return chosen, counts


class _Pictures:
    """Embedded pictures, each once: name -> data URI."""

    def __init__(self, find):
        self.find, self.data, self.sizes = find, {}, {}

    def add(self, name: str) -> str | None:
        """Key of the picture in `data`, or None if it cannot be had."""
        if not name:
            return None
        if name not in self.sizes:
            self.sizes[name] = None
            path = self.find(name)
            if path is not None and len(self.data) < PICTURES:
                try:
                    self._embed(name, path)
                except BadImage:
                    pass  # a card without its picture says so; the numbers do not depend on it
        return name if name in self.data else None

    def _embed(self, name: str, path) -> None:
        from PIL import Image

        from egohoi import images

        picture = images.load(path)
        small = Image.fromarray(picture.pixels)
        small.thumbnail((SIDE, SIDE))
        buffer = io.BytesIO()
        small.save(buffer, "JPEG", quality=80)
        self.sizes[name] = picture.size
        self.data[name] = "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def _card(item: Item, end: str, pictures: _Pictures) -> str:
    value = "" if item.value is None else f"{item.value:.2f}"
    search = html.escape(f"{item.id} {item.question} {item.truth} {item.answer} {item.note}".lower(), quote=True)
    rows = [("question", item.question), ("truth", item.truth), ("answer", item.answer or "(empty)"), ("note", item.note)]
    text = "".join(f"<dt>{k}</dt><dd>{html.escape(_short(v))}</dd>" for k, v in rows if v)
    return (
        f'<article data-kind="{html.escape(item.kind, quote=True)}" data-end="{end}" data-value="{value}" data-search="{search}">'
        f'{_drawing(item, pictures)}<h4><span class="value">{value}</span> {html.escape(item.kind)}</h4><dl>{text}</dl>'
        f'<p class="id">{html.escape(item.id)}</p></article>'
    )


def _short(text: str, most: int = 400) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _drawing(item: Item, pictures: _Pictures) -> str:
    """The picture with boxes and masks as layers that the page can switch off, or "" if the item has none of them."""
    key = pictures.add(item.image)
    marks = item.true_boxes or item.boxes or item.true_masks or item.masks
    if key is None and not marks:
        return ""
    width, height = item.size or pictures.sizes.get(item.image) or (100, 100)
    layers = []
    for name, found, rles in (("truth", item.true_boxes, item.true_masks), ("answer", item.boxes, item.masks)):
        inside = "".join(f'<image href="{uri}" width="{width}" height="{height}" preserveAspectRatio="none"/>' for uri in _masks(rles, name))
        for box in found:
            x1, y1, x2, y2 = (float(v) for v in box)
            x, y, w, h = min(x1, x2), min(y1, y2), abs(x2 - x1), abs(y2 - y1)
            inside += f'<rect x="{x:.1f}" y="{y:.1f}" width="{w:.1f}" height="{h:.1f}" vector-effect="non-scaling-stroke"/>'
        layers.append(f'<g class="{name}">{inside}</g>')
    source = f' data-picture="{html.escape(item.image, quote=True)}"' if key else ""
    missing = "" if key or not item.image else f'<figcaption>picture not found: {html.escape(item.image)}</figcaption>'
    return (
        f'<figure class="drawing"><svg viewBox="0 0 {width} {height}" role="img"><rect class="canvas" width="{width}" height="{height}"/>'
        f'<image{source} width="{width}" height="{height}" preserveAspectRatio="none"/>{"".join(layers)}</svg>{missing}</figure>'
    )


def _masks(rles: Sequence[dict], layer: str) -> list[str]:
    """Half-transparent PNGs of COCO RLEs, small."""
    from PIL import Image

    from egohoi import masks

    colour = (46, 160, 67, 110) if layer == "truth" else (255, 120, 30, 110)
    out = []
    for rle in rles:
        try:
            pixels = masks.decode(rle)
        except BadMask:
            continue
        mask = Image.fromarray((pixels > 0).astype("uint8") * colour[3])
        mask.thumbnail((SIDE, SIDE))
        picture = Image.new("RGBA", mask.size, colour[:3] + (0,))
        picture.putalpha(mask)
        buffer = io.BytesIO()
        picture.save(buffer, "PNG", optimize=True)
        out.append("data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode())
    return out


def _facts(facts: Mapping[str, object]) -> str:
    return "".join(f"<dt>{html.escape(str(k))}</dt><dd>{html.escape(str(v))}</dd>" for k, v in facts.items() if v is not None)


def _section(section: Section) -> str:
    text = "".join(f"<p>{html.escape(p)}</p>" for p in section.text.split("\n\n") if p.strip())
    return f"<section><h2>{html.escape(section.title)}</h2>{text}{''.join(map(_table, section.tables))}</section>"


_TEXT = ' class="text"'


def _is_text(cell: Cell) -> bool:
    """Whether a cell holds words, not a number that was formatted or nothing."""
    return isinstance(cell.value, str) and bool(cell.value) and not re.match(r"[-+–<\d]", cell.value)


def _table(table: Table) -> str:
    texts = {k for _, cells in table.rows for k, cell in enumerate(cells) if _is_text(cell)}
    head = "".join(f"<th{_TEXT if k in texts else ''}>{html.escape(c)}</th>" for k, c in enumerate(table.columns))
    body = "".join(f"<tr><th>{html.escape(name)}</th>{''.join(map(_cell, cells))}</tr>" for name, cells in table.rows)
    note = f'<p class="note">{html.escape(table.note)}</p>' if table.note else ""
    return (
        f'<section class="table"><h3>{html.escape(table.title)}</h3><div class="wide"><table><thead><tr><th></th>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>{note}</section>"
    )


def _cell(cell: Cell) -> str:
    kind = _TEXT if _is_text(cell) else ""
    if isinstance(cell.value, Measure) and cell.value.low is not None:
        value, _, bounds = cell.text().partition(" ")
        counts = f"{cell.value.numerator:.10g} of {cell.value.denominator:.10g}"
        return f'<td title="{counts}">{html.escape(value)} <small>{html.escape(bounds)}</small></td>'
    return f"<td{kind}>{html.escape(cell.text())}</td>"
