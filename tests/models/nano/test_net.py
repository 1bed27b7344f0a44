import numpy as np
import torch

from egohoi.models.nano import data, losses, propose
from egohoi.models.nano.detector import HEAT, Detector, decode_boxes, look_twice
from egohoi.models.nano.encoder import Encoder


def test_encoder_strides_and_channels():
    maps = Encoder()(torch.zeros(1, 3, 64, 96))
    assert [tuple(m.shape[1:]) for m in maps] == [(24, 16, 24), (40, 8, 12), (112, 4, 6), (320, 2, 3)]


def test_boxes_decode_by_hand():
    box = decode_boxes(torch.log(torch.tensor([[1.0, 2.0, 3.0, 4.0]])), torch.tensor([[2, 3]]))
    assert torch.allclose(box, torch.tensor([[20.0 - 8, 28 - 16, 20 + 24, 28 + 32]]))


def test_targets_peak_at_the_centre_and_small_things_keep_their_cells():
    things = [{"kind": 0, "box": np.array([0, 0, 160, 160.0])}, {"kind": 1, "box": np.array([72, 72, 88, 88.0])}]
    t = losses.targets(32, 40, things)
    assert t["heat"].shape == (len(HEAT), 32, 40) and t["heat"][0, 10, 10] == 1 and t["heat"][1, 10, 10] == 1
    assert t["owner"][0, 10, 10] == 1 and t["owner"][0, 12, 12] == 0


def test_giou_by_hand():
    a, b = torch.tensor([[0.0, 0, 2, 2]]), torch.tensor([[1.0, 0, 3, 2]])
    assert torch.allclose(losses.giou(a, b), torch.tensor([2 / 6]))
    assert torch.allclose(losses.giou(a, torch.tensor([[4.0, 0, 6, 2]])), torch.tensor([-4 / 12]))


def test_canvas_keeps_the_aspect_and_pads_to_32():
    c = propose.canvas(np.zeros((1080, 1920, 3), np.uint8))
    assert tuple(c.pixels.shape) == (1, 3, 192, 320) and c.step == 6.0


def test_masks_come_at_the_size_of_the_picture():
    torch.manual_seed(0)
    net = Detector(2).eval()
    with torch.no_grad():
        net.heat[-1].bias.fill_(0.5)
        for size in ((90, 120), (302, 403)):
            c = propose.canvas(np.full((*size, 3), 90, np.uint8))
            maps = net(c.pixels)
            p = propose.propose(net, maps, 320, 240)
            assert len(p) and all(m.shape == size for m in propose.masks(maps, p, [0, len(p) - 1], c.step, c.size))


def test_flip_swaps_left_and_right(tmp_path):
    from PIL import Image

    from egohoi.records import Hand, Object, Scene

    Image.new("RGB", (320, 256)).save(tmp_path / "a.png")
    scene = Scene("a", str(tmp_path / "a.png"), (320, 256), [Hand("left", (20, 100, 60, 140), True, 0)], [Object("mug", (30, 80, 70, 120), ("left",))])
    kinds = set()
    for seed in range(30):
        item = data.sample(scene, np.random.default_rng(seed), {"mug": 0})
        hand = [row for row in item["things"] if row[10] < 3 and row[2] > 0]
        held = [row for row in item["things"] if row[10] == 3]
        if hand and held:
            kinds.add((int(hand[0][10]), bool(held[0][7]), bool(held[0][8])))
    assert kinds == {(0, True, False), (1, False, True)}


def test_looking_twice_sees_a_picture_and_its_mirror_image_alike():
    torch.manual_seed(0)
    net, pixels = Detector(2).eval(), torch.rand(1, 3, 64, 96) * 255
    with torch.no_grad():
        own, mirror = look_twice(net, pixels)
    assert torch.allclose(own.heat.flip(-1)[:, [1, 0, 2, 3, 4]], mirror.heat, atol=1e-4)
    assert torch.allclose(own.hand_box.flip(-1)[:, [2, 1, 0, 3]], mirror.hand_box, atol=1e-4)
    assert torch.allclose(own.link.flip(-1)[:, 0], -mirror.link[:, 0], atol=1e-4) and torch.allclose(own.held.flip(-1)[:, 0], mirror.held[:, 1], atol=1e-4)


def drawn(folder, name, colour, box, **changes):
    from PIL import Image

    from egohoi import masks
    from egohoi.records import Hand, Object, Scene

    image = Image.new("RGB", (200, 160), (20, 20, 20))
    image.paste(colour, box)
    image.save(folder / f"{name}.png")
    mask = np.zeros((160, 200), bool)
    mask[box[1] : box[3], box[0] : box[2]] = True
    thing = Object("mug", box, changes.get("hands", ()), masks.encode(mask))
    return Scene(name, str(folder / f"{name}.png"), (200, 160), [Hand("left", (0, 120, 40, 160), True)], [thing])


def test_clutter_shows_the_donor_where_its_mask_says_and_covers_neither_hands_nor_held_things(tmp_path):
    from PIL import Image

    from egohoi import masks

    scene, donor = drawn(tmp_path, "a", (0, 200, 0), (90, 60, 150, 120), hands=("left",)), drawn(tmp_path, "b", (250, 0, 0), (30, 30, 60, 50))
    things, number = data.things_of(scene), 0
    for seed in range(25):
        image, added, covered = data.clutter(Image.open(scene.image), things, donor, np.random.default_rng(seed))
        pixels = np.asarray(image)
        assert (covered == (pixels[:, :, 0] > 128)).mean() > 0.999  # resizing blurs the edge by a pixel
        assert (pixels[60:120, 90:150, 1] == 200).mean() > 0.95 and (pixels[120:, :40, 0] == 20).mean() > 0.95
        for one in added:
            number += 1
            assert one["kind"] == 4 and one["name"] == "mug" and masks.decode(one["mask"])[~covered].sum() == 0
            x1, y1, x2, y2 = one["box"]
            assert 0 <= x1 < x2 <= 200 and 0 <= y1 < y2 <= 160
    assert number > 25


def test_a_donor_without_masks_lends_nothing(tmp_path):
    from dataclasses import replace

    from PIL import Image

    scene = drawn(tmp_path, "a", (0, 200, 0), (90, 60, 150, 120))
    bare = replace(scene, objects=tuple(replace(o, mask=None) for o in scene.objects))
    image, added, covered = data.clutter(Image.open(scene.image), [], bare, np.random.default_rng(0))
    assert not added and not covered.any()


def test_an_item_with_donors_depends_on_its_seed_only(tmp_path):
    scenes = [drawn(tmp_path, "a", (0, 200, 0), (90, 60, 150, 120)), drawn(tmp_path, "b", (250, 0, 0), (30, 30, 60, 50))]
    first, again = (data.SceneSet(scenes, {"mug": 0}, 7)[(3, 0)] for _ in range(2))
    assert all(np.array_equal(first[k], again[k]) for k in first)
