import json

import numpy as np
import pytest

from egohoi import masks
from egohoi.errors import BadConfig, EgohoiError
from egohoi.scenes import jsonl
from egohoi.scenes.synthetic import catalogue, develop, generate, objects
from egohoi.scenes.synthetic.compose import Library, compose
from egohoi.scenes.synthetic.generate import Maker, Settings, block_file, run
from egohoi.scenes.synthetic.labels import MIN_PIXELS, label, visible
from egohoi.scenes.synthetic.scene import Camera, Labelled, Look


@pytest.fixture(scope="module")
def library(tiny):
    return Library(tiny, "train")  # keeps what it has built, which is most of the work


@pytest.fixture
def maker(tiny, points, library):
    def build(seed=3, split="train", **more):
        made = Maker(Settings(seed, split, size=(160, 120), **more), tiny, points)
        made.library = library
        return made

    return build


def test_objects_are_placed_by_rotations_only(maker):
    made = maker()
    for index in range(6):
        for part in made.describe(index).parts:
            assert np.linalg.det(part.matrix[:3, :3]) > 0.3, "mirrored or flattened"


def test_clutter_keeps_clear_of_hands_and_held_things(maker):
    made, checked = maker(), 0
    for index in range(7):
        scene = made.describe(index)
        lying = [t for t in scene.things if t.kind == "object" and not t.hands]
        active = {t.label for t in scene.things if t.kind == "hand" or t.hands}
        hands = [p.mesh.vertices @ p.matrix[:3, :3].T + p.matrix[:3, 3] for p in scene.parts if p.label in active]
        if not hands:
            continue
        cloud = np.concatenate(hands)
        for thing in lying:
            parts = [p for p in scene.parts if p.label == thing.label]
            whole = np.concatenate([p.mesh.vertices for p in parts])
            local = (cloud - parts[0].matrix[:3, 3]) @ parts[0].matrix[:3, :3]
            inside = ((local > whole.min(0)) & (local < whole.max(0))).all(1)
            assert inside.mean() < 0.02
            checked += 1
    assert checked > 5


def test_same_number_same_scene_whatever_was_made_before(maker):
    first, second = maker(), maker()
    second.library = Library(second.assets, "train")
    first.describe(0)
    a, b = first.describe(7), second.describe(7)
    assert [t.instance for t in a.things] == [t.instance for t in b.things]
    assert all(np.array_equal(p.mesh.vertices, q.mesh.vertices) for p, q in zip(a.parts, b.parts, strict=True))


def test_splits_share_no_instance(tiny):
    train, test = Library(tiny, "train"), Library(tiny, "test")
    assert not set(train.variants) & set(test.variants)
    assert set(train.variants) | set(test.variants) == set(range(objects.VARIANTS))
    nouns = {f"a/{k}": "mug" for k in range(9)} | {"b/0": "lamp", "b/1": "lamp"}
    split = catalogue.split_models(nouns)
    for noun in ("mug", "lamp"):
        assert {split[m] for m, n in nouns.items() if n == noun} == {"train", "test"}
    assert split == catalogue.split_models(dict(reversed(nouns.items())))


def test_nouns_are_clean():
    assert catalogue.noun("Apple iMac 2004") == "computer"
    assert catalogue.noun("TV 16:9") == "television"
    assert all(e.noun == e.noun.lower().strip() for e in catalogue.HELD.values())


def test_labels_are_exact_boxes_and_masks_of_the_instance_image():
    image = np.zeros((60, 80), np.uint8)
    image[10:30, 20:50] = 1
    image[12:20, 25:40] = 2
    image[50:52, 0:3] = 3  # too small to be labelled
    camera = Camera(np.zeros(3), np.eye(3), 1.0, 1.0, (80, 60))
    from egohoi.scenes.synthetic.scene import SceneDescription

    things = (Labelled(1, "hand", "hand", "", "left", True, 2), Labelled(2, "object", "mug", "x/mug", hands=("left",)),
              Labelled(3, "object", "pen", "x/pen"), Labelled(4, "hand", "hand", "", "right", True, 2))
    scene = label(SceneDescription((), things, camera, None, Look(), "hold mug", "The person holds the mug in both hands.", "hold", "mug"),
                  image, "s0", "images/0.jpg", None)
    assert [h.side for h in scene.hands] == ["left"] and scene.hands[0].box == (20, 10, 50, 30)
    assert masks.decode(scene.hands[0].mask).sum() == 20 * 30 - 8 * 15
    assert [o.name for o in scene.objects] == ["mug"] and scene.objects[0].hands == ("left",)
    assert scene.hands[0].object == 0 and scene.narration == "The person holds the mug in the left hand."
    assert scene.extra["instances"] == ["x/mug"]
    assert visible(image, 4).keys() == {1, 2, 3} and visible(image, 4)[3][0] < MIN_PIXELS


def test_fisheye_and_pinhole_agree_in_the_middle_and_labels_follow_the_lens():
    for bend in (1.0, 0.4):
        camera = Camera(np.zeros(3), np.eye(3), 1.0, bend, (100, 100))
        assert camera.project(np.array([[0.0, 0, -1]]))[0] == pytest.approx([50, 50])
        assert camera.project(np.array([[1.0, 0, -1]]))[0] == pytest.approx([100, 50])
    wide, plain = (Camera(np.zeros(3), np.eye(3), 1.0, b, (100, 100)).project(np.array([[0.5, 0, -1.0]]))[0, 0] for b in (0.4, 1.0))
    assert wide > plain


def test_run_writes_the_documented_folder(maker, tmp_path):
    assert run(tmp_path, 30, Settings(3, "train", size=(160, 120)), maker=maker()) == 30
    scenes = list(jsonl.read(tmp_path))
    assert [s.id for s in scenes] == [f"s3-{i:06d}" for i in range(30)]
    from PIL import Image

    hands = 0
    for scene in scenes:
        with Image.open(scene.image) as picture, Image.open(scene.depth) as depth:
            assert picture.size == depth.size == scene.size == (160, 120)
        for thing in (*scene.hands, *scene.objects):
            assert thing.box[2] > thing.box[0] and masks.decode(thing.mask).sum() >= 24
        hands += len(scene.hands)
    assert hands > 5


def test_a_killed_run_goes_on_and_ends_the_same(maker, tmp_path, monkeypatch):
    block = 5
    monkeypatch.setattr(generate, "BLOCK", block)
    settings = Settings(4, "train", size=(160, 120), depth=False)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    run(whole, 2 * block, settings, maker=maker(4, depth=False))
    made = maker(4, depth=False)
    real, calls = made.make, []

    def dying(index, folder):
        if index == block + 3 and not calls:
            calls.append(index)
            raise KeyboardInterrupt
        return real(index, folder)

    made.make = dying
    with pytest.raises(KeyboardInterrupt):
        run(broken, 2 * block, settings, maker=made)
    assert block_file(broken, 0).exists() and not block_file(broken, 1).exists()
    run(broken, 2 * block, settings, maker=made)
    assert (broken / "scenes.jsonl").read_bytes() == (whole / "scenes.jsonl").read_bytes()
    name = f"images/{block + 4:06d}.jpg"
    assert (broken / name).read_bytes() == (whole / name).read_bytes()


def test_a_folder_grows_and_refuses_other_settings(maker, tmp_path):
    settings = Settings(5, "train", size=(160, 120), depth=False)
    made = maker(5, depth=False)
    run(tmp_path, 3, settings, maker=made)
    before = (tmp_path / "scenes.jsonl").read_text()
    run(tmp_path, 6, settings, maker=made)
    after = (tmp_path / "scenes.jsonl").read_text()
    assert after.startswith(before) and len(after.splitlines()) == 6
    with pytest.raises(BadConfig, match="other settings"):
        run(tmp_path, 6, Settings(6, "train", size=(160, 120), depth=False), maker=made)


def test_bad_settings_are_told():
    for bad in ({"split": "dev"}, {"renderer": "vulkan"}, {"size": (5, 5)}):
        with pytest.raises(BadConfig):
            Settings(**bad)


def test_missing_assets_are_told(tmp_path):
    from egohoi.scenes.synthetic.assets import AssetError, load

    with pytest.raises(AssetError, match="install-assets"):
        load(tmp_path)
    assert issubclass(AssetError, EgohoiError)


def test_development_keeps_the_picture_in_range():
    rng = np.random.default_rng(0)
    light = rng.random((40, 60, 3), np.float32) * 20
    light[3, 3] = np.inf
    picture = develop.develop(light, light[..., 0] > 5, light[..., 1] + 0.5, Look(noise=0.03, motion=(4.0, 2.0), hand_motion=(3.0, 0.0), vignette=0.4))
    assert picture.dtype == np.uint8 and 40 < picture.mean() < 215
    again = develop.develop(light, light[..., 0] > 5, light[..., 1] + 0.5, Look(noise=0.03, motion=(4.0, 2.0), hand_motion=(3.0, 0.0), vignette=0.4))
    assert np.array_equal(picture, again)


def test_opengl_agrees_with_the_camera_model(tiny):
    pytest.importorskip("moderngl")
    from egohoi.scenes.synthetic.gl import NoOpenGL, Renderer
    from egohoi.scenes.synthetic.meshes import box, rigid
    from egohoi.scenes.synthetic.scene import Part, SceneDescription
    from egohoi.scenes.synthetic.things import Material

    try:
        renderer = Renderer(tiny.textures)
    except NoOpenGL as error:
        pytest.skip(str(error))
    scene = compose(tiny, Library(tiny, "train"), np.random.default_rng([3, 5]), (160, 120))
    camera = Camera(np.zeros(3), np.eye(3), 1.0, 0.6, (160, 120))
    cube = Part(box((0.1, 0.1, 0.1)), Material(), rigid(np.eye(3), (0.3, 0.2, -1.0)), 9)
    drawn = renderer.render(SceneDescription((cube,), (), camera, scene.light, Look()))
    rows, columns = np.nonzero(drawn.labels == 9)
    expected = camera.project(cube.mesh.vertices + cube.matrix[:3, 3])
    assert [columns.min(), rows.min()] == pytest.approx(expected.min(0), abs=1.5)
    assert [columns.max() + 1, rows.max() + 1] == pytest.approx(expected.max(0), abs=1.5)
    assert drawn.depth[drawn.labels == 9].min() == pytest.approx(0.95, abs=0.01)


def test_command_line_tells_mistakes(capsys):
    from egohoi.apps.cli import main

    assert main(["synth"]) == 2
    assert main(["synth", "--out", "x", "--size", "big"]) == 2
    assert "WIDTHxHEIGHT" in capsys.readouterr().err


def test_settings_file_is_plain(maker, tmp_path):
    run(tmp_path, 1, Settings(5, "train", size=(160, 120)), maker=maker(5))
    assert json.loads((tmp_path / "synth.json").read_text())["seed"] == 5
