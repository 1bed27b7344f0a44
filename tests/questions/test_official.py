import json
import random
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from egohoi.errors import BadData, BadRecord, EgohoiError
from egohoi.questions import hoiqa, official
from egohoi.records import Example, Hand, Object, Scene

TRAIN = [
    {"id": "P01_01_1", "image": "P01_01/frame_0000000140", "conversations": [
        {"from": "human", "value": "<image>\n{<0><24><25><100>}"}, {"from": "gpt", "value": "Left hand of the person"},
        {"from": "human", "value": "Where is the cupboard?"}, {"from": "gpt", "value": "{<0><0><100><36>}"}]},
    {"id": 7, "image": "P01_01/frame_0000000150", "conversations": [
        {"from": "human", "value": "<image>\ncupboard"}, {"from": "gpt", "value": "<p>cupboard</p> {<0><0><100><36>}"}]},
]
TRAIN_EGO4D = [{"id": "e1", "image_path": "Ego4D/v2/frames/ab-12/frame_10.jpg", "conversations": [
    {"from": "human", "value": "<image>\nWhat is happening in the photo?"}, {"from": "gpt", "value": "The person cuts the carrot."}]}]
TEST = {"k1": {"noun": "right hand", "bbox": [960, 540.0, "1920", 1080], "image_path": "EPIC_Kitchens/frames/P02_03/frame_0000000001.jpg"},
        "k2": {"noun": "board", "bbox": [0, 0, 192, 108], "image_path": "x/P02_03/frame_0000000002.jpg"}}
HOI = [
    {"id": "h1", "image_path": "a.jpg", "question": "[refer] Where is the right hand of the person?", "answer": [0, 0, 192, 108]},
    {"id": "h2", "image_path": "a.jpg", "question": "[refer] Locate the object being manipulated by the left hand",
     "answer": "{<0><0><192><108>} and {<960.5><540><1920><1080>}"},
    {"id": "h3", "image_path": "b.jpg", "question": "[vqa] What hand is holding the cup?", "answer": "left hand"},
]


def put(folder, name, data):
    (folder / name).write_text(json.dumps(data), encoding="utf-8")
    return folder / name


def test_train_files(tmp_path):
    first, second = official.read(put(tmp_path, "epic-kitchens-train.json", TRAIN))
    assert first.conversation == (("{<0><24><25><100>}", "Left hand of the person"), ("Where is the cupboard?", "{<0><0><100><36>}"))
    assert (first.type, first.image, first.size, first.source) == ("Q1+Q6", "P01_01/frame_0000000140.jpg", (1920, 1080), "epic")
    assert (second.id, second.type) == ("7", "Q8")
    (third,) = official.read(put(tmp_path, "ego4d-train.json", TRAIN_EGO4D))
    assert (third.type, third.image, third.size, third.source) == ("Q2", TRAIN_EGO4D[0]["image_path"], (1440, 1080), "ego4d")


def test_test_files_are_asked_both_ways(tmp_path):
    made = {e.id: e for e in official.read(put(tmp_path, "epic-test.json", TEST))}
    assert made["k1:ref"].conversation == (("Where is the right hand", "{<50><50><100><100>}"),)
    assert made["k1:iden"].conversation == (("{<50><50><100><100>}", "right hand"),)
    assert [made[k].type for k in made] == ["handN2handBB", "handBB2handN", "objN2objBB", "objBB2objN"]
    assert made["k2:ref"].targets == ({"name": "board", "box": [0.0, 0.0, 192.0, 108.0]},)
    ego4d = next(iter(official.read(put(tmp_path, "ego4d-test.json", TEST))))
    assert ego4d.size == (1440, 1080) and ego4d.conversation[0][1] == "{<66><50><100><100>}"


def test_interaction_file(tmp_path):
    one, two, three = official.read(put(tmp_path, "epic-visor-test.json", HOI))
    assert one.conversation == (("Where is the right hand of the person?", "{<0><0><10><10>}"),)
    assert (one.type, one.extra["tag"]) == ("handN2handBB", "[refer] ")
    assert two.conversation[0][1] == "{<0><0><10><10>}<delim>{<50><50><100><100>}"
    assert [t["box"] for t in two.targets] == [[0, 0, 192, 108], [960.5, 540, 1920, 1080]]
    assert (three.type, three.conversation[0][1], three.targets) == ("objN2handN", "left hand", ())


def scene(source, image, **more):
    return Scene(
        id=f"{source}/1", image=image, size=(960, 540), source=source, narration="open cupboard", noun="cupboard",
        hands=[Hand("left", (0, 130, 245, 540), contact=True, object=1), Hand("right", (652, 160, 835, 540), contact=True, object=0)],
        objects=[Object("cupboard", (0, 0, 960, 195), hands=("right",)), Object("cup", (10, 10, 100, 100), hands=("left", "right"))], **more,
    )


def write(folder, examples):
    """The files as a build writes them."""
    parts = {}
    for example in examples:
        if (text := official.member(example)) is not None:
            parts.setdefault(official.name_of(example.source, official.role_of(example)), []).append(text)
    for name, texts in parts.items():
        opening, closing = official.brackets(name)
        (folder / name).write_text(opening + ",\n".join(texts) + closing, encoding="utf-8")
    return sorted(parts)


def test_what_is_written_is_read_again(tmp_path):
    sources = [
        scene("visor", "EPIC_Kitchens/frames/P01_01/frame_0000000140.jpg"), scene("ego4d", "Ego4D/v2/frames/ab/frame_10.jpg"),
        scene("coco", "mine/1.png"),
    ]
    made = [e for s in sources for e in hoiqa.train_examples(s, hoiqa.Settings()) + hoiqa.test_examples(s, hoiqa.Settings())]
    names = write(tmp_path, made)
    assert set(official.FILES.values()) < set(names) and {"other-train.json", "other-test.json", "other-hoi-test.json"} < set(names)
    read = {e.id: e for n in names for e in official.read(tmp_path / n)}
    for example in made:
        kind = official.family(example.source)
        again = read[example.id]
        assert again.conversation == example.conversation and again.type == example.type, example.id
        canvas = official.CANVAS.get(kind, example.size)
        assert again.size == canvas
        if again.targets:
            scaled = [[v * canvas[k % 2] / example.size[k % 2] for k, v in enumerate(t["box"])] for t in example.targets]
            assert [t["box"] for t in again.targets] == [pytest.approx(b, abs=0.01) for b in scaled]
    record = json.loads((tmp_path / "epic-kitchens-train.json").read_text())[0]
    assert record == {"id": "visor/1:q1:h0", "image": "P01_01/frame_0000000140", "conversations": [
        {"from": "human", "value": "<image>\n{<0><24><25><100>}"}, {"from": "gpt", "value": "Left hand of the person"}]}
    hoi = json.loads((tmp_path / "epic-visor-test.json").read_text())
    by_id = {r["id"].split(":", 1)[1]: r for r in hoi}
    assert by_id["hoi:left"]["answer"] == [0.0, 260.0, 490.0, 1080.0]
    assert by_id["hoi:hands"]["answer"] == "{<0><260><490><1080>}<delim>{<1304><320><1670><1080>}"
    assert by_id["hoi:name:left"] == {
        "id": "visor/1:hoi:name:left", "image_path": "EPIC_Kitchens/frames/P01_01/frame_0000000140.jpg",
        "question": "[vqa] What is the object in the left hand of the person?", "answer": "cup",
    }
    assert json.loads((tmp_path / "epic-test.json").read_text())["visor/1:hleft"]["bbox"] == [0.0, 260.0, 490.0, 1080.0]


@pytest.mark.parametrize("text, message", [
    ("", "expected a JSON list or object"), ("12", "expected a JSON list"), ("[1", "record 1"), ("[{}]", "record 1.*no conversations"),
    ("[1]", "record 1: expected an object"), ('{"a" 1}', "record 1"), ('[{"noun": 3}]', "noun"),
    ('[{"conversations": []}]', "questions and answers"), ('[{"conversations": [{"from":"gpt","value":"a"},{"from":"human","value":"b"}]}]', "turn 1"),
    ('[{"image": "x", "conversations": [{"from":"human","value":"a"},{"from":"gpt"}]}]', "'value' must be a text"),
    ('[{"noun": "cup", "bbox": [1, 2], "image_path": "x"}]', "bbox"), ('[{"noun": "cup", "bbox": [5, 5, 1, 1], "image_path": "x"}]', "bbox"),
    ('[{"question": "q", "answer": {}, "image_path": "x"}]', "answer"), ("[" * 3000, "record 1"), ('[{"noun": "cup"} 5', "record 1"),
    ('[{"noun":"c","image_path":"x","bbox":[1,2,3,4],"size":[0,1]}]', "size"),
])
def test_broken_files_name_file_and_record(tmp_path, text, message):
    path = tmp_path / "f.json"
    path.write_text(text)
    with pytest.raises((BadData, BadRecord), match=message) as caught:
        list(official.read(path))
    assert "f.json" in str(caught.value)
    with pytest.raises(BadData, match="cannot be read"):
        list(official.read(tmp_path / "none.json"))


def test_reading_streams(tmp_path, monkeypatch):
    monkeypatch.setattr(official, "_CHUNK", 1 << 16)
    path = tmp_path / "big.json"
    with open(path, "w") as out:
        out.write("[" + ",\n".join(json.dumps({**TRAIN[0], "id": k}) for k in range(8000)) + "]")
    tracemalloc.start()
    count = sum(1 for _ in official.read(path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 8000 and path.stat().st_size > 2e6 and peak < 6e5


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10**9))
def test_mutated_files_raise_our_errors_only(tmp_path_factory, seed):
    rng = random.Random(seed)
    text = list(json.dumps(rng.choice([TRAIN, TEST, HOI, TRAIN_EGO4D])))
    for _ in range(rng.randrange(1, 6)):
        place = rng.randrange(len(text))
        text[place] = rng.choice(["", "0", '"', "{", "}", "[", "]", "null", ",", "\\", "-1e999", "é", ":", "x"])
    path = tmp_path_factory.getbasetemp() / "mutated.json"
    path.write_text("".join(text), encoding="utf-8")
    try:
        for example in official.read(path):
            assert isinstance(example, Example)
    except EgohoiError as error:
        assert "mutated.json" in str(error)


def test_frames_are_found_in_every_layout(tmp_path, monkeypatch):
    for place in ("EPIC_Kitchens/frames/P01_01/frame_0000000001.jpg", "Ego4D/v2/frames/ab/frame_3.jpg", "P09_01/frame_0000000009.jpg"):
        (tmp_path / place).parent.mkdir(parents=True)
        (tmp_path / place).touch()
    frames = official.Frames(tmp_path)
    assert frames.find("P01_01/frame_0000000001.jpg") == tmp_path / "EPIC_Kitchens/frames/P01_01/frame_0000000001.jpg"
    assert frames.find("/elsewhere/Ego4D/v2/frames/ab/frame_3.jpg") == tmp_path / "Ego4D/v2/frames/ab/frame_3.jpg"
    assert frames.find("EPIC_Kitchens/frames/P09_01/frame_0000000009.jpg") == tmp_path / "P09_01/frame_0000000009.jpg"
    assert frames.find("Ego4D/v2/frames/ab/frame_0000000003.jpg") == tmp_path / "Ego4D/v2/frames/ab/frame_3.jpg"
    assert frames.find("P01_01/frame_1.jpg") == tmp_path / "EPIC_Kitchens/frames/P01_01/frame_0000000001.jpg"
    monkeypatch.chdir(tmp_path / "P09_01")  # pictures of one's own are named as their annotations were opened
    assert frames.find("../P09_01/frame_0000000009.jpg").is_file() and frames.find("frame_0000000009.jpg").is_file()
    assert frames.find(str(tmp_path / "P09_01/frame_0000000009.jpg")) is not None
    wanted = ["P01_01/frame_0000000001.jpg", "P01_01/frame_0000000002.jpg", "nowhere.jpg", "P01_01/frame_0000000002.jpg"]
    assert list(official.missing(wanted, frames)) == ["P01_01/frame_0000000002.jpg", "nowhere.jpg"]
    with pytest.raises(BadData, match="no such folder"):
        official.Frames(tmp_path / "none")
