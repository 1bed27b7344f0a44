"""Two frames in the layout of Ego-IRGBench, small enough to count their pixels by hand, and answers to their five queries.

Frame `a`, 10x10: the left hand (20 pixels, rows 0 to 3 of the left half) and the mug (20 pixels beside it). Frame `b`: a jar (10 pixels, the
last row), whose entry leaves the first of its four places free.
"""

import json

import numpy as np
from PIL import Image

from egohoi import masks

SIZE = (10, 10)
PLACES = {"hand": np.s_[0:4, 0:5], "upper half of the hand": np.s_[0:2, 0:5], "mug": np.s_[0:4, 5:10], "jar": np.s_[9:10, 0:10], "half of the jar": np.s_[8:10, 0:5]}
ENTRIES = {
    "a": (
        ([1, 0, 0, 0], ["left hand", "", "", ""], "The left hand holds the mug.", "The <p>left hand</p>.", ("the left hand", "Where is the left hand?")),
        ([1, 2, 0, 0], ["left hand", "mug", "", ""], "The left hand holds the mug.", "The <p>left hand</p> holds the <p>mug</p>.", ("the hand and the mug",)),
        ([0, 0, 0, 0], ["", "", "", ""], "The left hand holds the mug.", "There is no such target.", ("the knife",)),
    ),
    "b": (([0, 7, 0, 0], ["", "jar", "", ""], "A jar.", "The <p>jar</p>.", ("the jar",)),),
}  # fmt: skip
#: Item -> (text, what is named, and its pixels). The mug of a/1/0 is not seen, one mask is half of the truth, one is beside it.
SAID = {
    "a/0/0": ("left hand", (("left hand", "hand"),)),
    "a/0/1": ("left hand", (("left hand", "upper half of the hand"),)),
    "a/1/0": ("left hand", (("left hand", "hand"),)),
    "a/2/0": ("There is no such target.", ()),
    "b/0/0": ("the jar", (("jar", "half of the jar"),)),
}


def mask(name: str) -> dict:
    """COCO RLE of a named place."""
    pixels = np.zeros(SIZE[::-1], np.uint8)
    pixels[PLACES[name]] = 1
    return masks.encode(pixels)


def write(folder):
    """Write the data set; returns its folder."""
    for part in ("RGB", "mask", "depth", "dataset_split/test"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for frame, entries in ENTRIES.items():
        index = np.zeros(SIZE[::-1], np.uint8)
        for value, name in ((1, "hand"), (2, "mug")) if frame == "a" else ((7, "jar"),):
            index[PLACES[name]] = value
        Image.fromarray(np.full((*SIZE[::-1], 3), 90, np.uint8)).save(folder / "RGB" / f"{frame}.jpg")
        Image.fromarray(index).save(folder / "mask" / f"{frame}.png")
        Image.fromarray(np.arange(100, dtype=np.uint16).reshape(SIZE[::-1]) * 10).save(folder / "depth" / f"{frame}.png")
        rows = [
            {"masks_idx": m, "with_mask": int(any(m)), "caption": c, "answer": a, "tokens": t, "questions": [{"id": k, "query": q, "is_sentence": 0} for k, q in enumerate(qs)]}
            for m, t, c, a, qs in entries
        ]  # fmt: skip
        (folder / "dataset_split/test" / f"{frame}.json").write_text(json.dumps(rows))
    return folder


def queries() -> dict[str, str]:
    """Item -> query, in the order of the data."""
    return {f"{f}/{e}/{k}": q for f, entries in ENTRIES.items() for e, entry in enumerate(entries) for k, q in enumerate(entry[4])}


def lines() -> list[dict]:
    """The answers as lines of `egohoi predict`, in the order of the data."""
    rows = []
    for name, query in queries().items():
        text, things = SAID[name]
        entities = [{"name": n, "kind": "object", "side": None, "box": list(masks.box(mask(p))), "mask": mask(p)} for n, p in things]
        caption = ENTRIES[name[0]][int(name[2])][2]
        rows.append({"id": name, "image": f"RGB/{name[0]}.jpg", "size": list(SIZE), "query": query, "text": text, "analysis": caption, "target_found": bool(things), "entities": entities})
    return rows


def annexe() -> list[dict]:
    """The same answers as the published script saves them, every item once."""
    rows = []
    for row in lines():
        tokens, caption = ENTRIES[row["id"][0]][int(row["id"][2])][1:3]
        rows.append({
            "vqa_ans_pred": row["text"], "cap_ans_pred": row["analysis"],
            "vqa_que": "<s>[INST] <Img><ImageHere></Img> [vqa] Based on the image, describe the things need to be segmented accorting to this prompt: "
            f"{row['query']} [/INST]",
            "cap_que": "", "vqa_ans_gt": " and ".join([tokens[0], *(t for t in tokens[1:] if t)]), "cap_ans_gt": caption.lower().replace(".", ""), "img_path": f"/data/RGB/{row['id'][0]}.jpg",
        })  # fmt: skip
    return rows


def earl() -> list[dict]:
    """The same answers in the form of EARL's results."""
    rows = []
    for row in lines():
        names = [e["name"] for e in row["entities"]]
        boxes = "\n".join(f'"{e["name"]}": {[int(v) for v in e["box"]]}' for e in row["entities"]) or "None"
        rows.append({
            "image_path": f"/data/RGB/{row['id'][0]}.jpg", "query": f"<image>Find this: {row['query']}", "ground_truth": "",
            "prediction": f"<analyzing>{row['analysis']}</analyzing><answer>{names or 'None'}</answer><bbox>{boxes}</bbox>",
        })  # fmt: skip
    return rows
