"""Training of ANNEXE: true augmentation, named losses with their counts, balance, resumption, broken data."""

import importlib.util
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

import egohoi
from egohoi.errors import BadConfig, BadData
from egohoi.models import annexe_text
from egohoi.scenes import irgbench
from egohoi.training import annexe
from egohoi.training.annexe_data import Augment, Sample, augmented, coloured, cropped, flipped, load
from egohoi.training.config import build
from egohoi.training.data import BLOCK

_spec = importlib.util.spec_from_file_location("annexe_drawn", Path(__file__).parents[1] / "annexe_drawn.py")
drawn = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(drawn)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.set_num_threads(1)
    return drawn.data_set(tmp_path_factory.mktemp("irg"), 9, side=32)


def settings(folder, out, steps=2, **more):
    return {
        "recipe": "annexe", "out": str(out), "data": [{"folder": str(folder)}],
        "model": {"vocabulary": 330, "small": {"side": 32, "width": 32, "layers": 1}},
        "loop": {"steps": steps, "batch": 4, "micro_batch": 2, "lr": 1e-3, "warmup_steps": 0, "save_every": 1, "keep": 9, "workers": 0,
                 "trackers": [], "log_every": 100}, **more,
    }


def sample():
    pixels = np.zeros((10, 20, 3), np.uint8)
    pixels[2:5, 3:6] = 200
    mask = pixels[..., 0] > 0
    depth = np.where(mask, 500.0, 900.0).astype(np.float32)
    return Sample(pixels, (mask,), mask, depth, ("left hand",), "the left hand", "The left hand is free.", "left hand")


def test_a_flip_keeps_pixels_masks_depth_and_words_together():
    turned = flipped(sample())
    assert (turned.masks[0] == (turned.pixels[..., 0] > 0)).all() and turned.masks[0][2, 16] and not turned.masks[0][2, 3]
    assert (turned.depth == np.where(turned.masks[0], 500, 900)).all()
    assert (turned.names, turned.query, turned.caption) == (("right hand",), "the right hand", "The right hand is free.")


def test_a_crop_never_cuts_a_labelled_thing():
    cut = cropped(sample(), 0.4, 0.4, 0.3, 0.3)
    assert cut.masks[0].sum() == 9 and cut.pixels.shape[:2] == cut.masks[0].shape == cut.depth.shape and cut.pixels.shape[1] < 20


def test_colour_is_a_gain_and_a_contrast_around_the_mean():
    pixels = np.random.default_rng(0).integers(0, 256, (9, 14, 3), dtype=np.uint8)
    before = Sample(pixels[:, 2:], (), np.zeros((9, 12), bool), None, (), "", "", "")  # a window, as a crop leaves it
    after, gain = coloured(before, (1.1, 0.9, 1.0), 1.2), np.array((1.1, 0.9, 1.0), np.float32)
    values = before.pixels.astype(np.float32)
    wanted = np.clip(((values - values.mean()) * 1.2 + values.mean()) * gain, 0, 255).astype(np.uint8)
    assert np.abs(after.pixels.astype(int) - wanted).max() <= 1 and (after.pixels == wanted).mean() > 0.99
    assert (coloured(before, (1, 1, 1), 1).pixels == before.pixels).all()


def test_random_variants_keep_masks_depth_sides_and_words_true(tmp_path):
    """Drawn hands have a depth of their own and stay on their side of the picture: that must hold of every variant."""
    folder = drawn.data_set(tmp_path / "irg", 12, side=48, one_each=False)
    seen, turned = 0, 0
    for item in irgbench.read(folder, "train"):
        for k, question in enumerate(item.questions):
            rng = np.random.default_rng([item.entry, k])
            before = load(item, question.query, "names", True)
            after = augmented(before, Augment(flip=0.5, crop=0.3, colour=0.3), rng)
            again = augmented(before, Augment(flip=0.5, crop=0.3, colour=0.3), np.random.default_rng([item.entry, k]))
            assert (after.pixels == again.pixels).all() and after.query == again.query
            assert after.pixels.shape[:2] == after.depth.shape == after.others.shape and len(after.masks) == len(before.masks)
            for name, mask, old in zip(after.names, after.masks, before.masks):
                assert mask.sum() == old.sum() and mask.shape == after.depth.shape  # nothing labelled is cut
                if name.endswith(" hand"):
                    columns = np.flatnonzero(mask.any(0)) / mask.shape[1]
                    assert (after.depth[mask] == drawn.NEAR).all()
                    assert name.startswith("left" if columns.mean() < 0.5 else "right"), (name, columns.mean())
                    seen += 1
            flipped_words = after.query != before.query
            turned += flipped_words
            for side in ("left", "right"):
                if re.fullmatch(f"(the )?{side} hand", after.query):
                    assert after.names in ((f"{side} hand",), ())
            assert after.caption == (annexe_text.mirror(before.caption) if after.names != before.names or flipped_words else after.caption)
    assert seen > 20 and turned > 10


def test_no_variant_is_made_when_none_is_wanted(folder):
    item = next(i for i in irgbench.read(folder, "train") if i.targets)
    before = load(item, item.questions[0].query, "names", True)
    after = augmented(before, Augment(flip=0, crop=0, colour=0), np.random.default_rng(0))
    assert (after.pixels == before.pixels).all() and after.names == before.names and (after.depth == before.depth).all()
    with pytest.raises(BadConfig, match="augment: flip in 0..1"):
        Augment(flip=2)


@pytest.mark.parametrize(("shares", "wanted"), [
    ({}, {"single": 1 / 3, "multi": 1 / 3, "none": 1 / 3}), ({"single": 2, "none": 1, "multi": 1}, {"single": 0.5, "multi": 0.25, "none": 0.25}),
    ({"multi": 0}, {"single": 0.5, "none": 0.5}),
])
def test_kinds_are_drawn_in_their_shares(folder, tmp_path, shares, wanted):
    mixture = annexe.Annexe(build(annexe.Config, {**settings(folder, tmp_path), "data": [{"folder": str(folder), **shares}]})).data()
    places = [mixture.place(k) for k in range(2 * BLOCK)]
    kinds = Counter(mixture.names[source].rpartition("/")[2] for source, _ in places)
    assert set(kinds) == set(wanted) and all(abs(kinds[k] - share * 2 * BLOCK) <= 1 for k, share in wanted.items())
    assert {mixture[k].kind for k in range(40)} == set(wanted)
    for source, items in enumerate(mixture.sources):  # none again before all of its kind
        used = Counter(index for s, index in places if s == source)
        assert len(used) == len(items) and max(used.values()) - min(used.values()) <= 1


def test_two_data_sets_keep_their_ratio(folder, tmp_path):
    other = drawn.data_set(tmp_path / "other", 6, side=32)
    data = [{"folder": str(folder), "ratio": 3}, {"folder": str(other), "ratio": 1, "single": 0}]
    mixture = annexe.Annexe(build(annexe.Config, {**settings(folder, tmp_path), "data": data})).data()
    found = Counter(mixture.names[mixture.place(k)[0]] for k in range(BLOCK))
    second = {name.rpartition("/")[2]: n for name, n in found.items() if name.startswith(str(other))}
    assert abs(sum(second.values()) - BLOCK / 4) <= 1 and "single" not in second


def test_losses_are_named_counted_and_reach_every_trained_weight(folder, tmp_path):
    recipe = annexe.Annexe(build(annexe.Config, settings(folder, tmp_path)))
    torch.manual_seed(0)
    module, mixture = recipe.model(), recipe.data()
    assert mixture.names and {n.rsplit("/", 1)[1] for n in mixture.names} == set(irgbench.KINDS)
    batch = recipe.collate([recipe.item(mixture[k], np.random.default_rng(k)) for k in range(6)])
    losses, counted = recipe.losses(module, batch), recipe.counts(batch)
    assert set(losses) == set(counted) == {"analysis", "answer", "target", "depth", "mask"}
    assert counted["mask"] == len(batch["masks"]) and counted["target"] == 6
    sum(recipe.weights[k] * v for k, v in losses.items()).backward()
    assert [n for n, p in module.named_parameters() if p.requires_grad and p.grad is None] == []


def test_a_stopped_run_goes_on_to_the_same_weights(folder, tmp_path):
    annexe.run(settings(folder, tmp_path / "a", steps=2))
    annexe.run(settings(folder, tmp_path / "b", steps=2))
    import shutil

    shutil.rmtree(tmp_path / "b" / "checkpoints" / "step-0000002")
    annexe.run(settings(folder, tmp_path / "b", steps=2))
    a, b = (egohoi.load(f"annexe:{tmp_path}/{x}/model", device="cpu").module.state_dict() for x in "ab")
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert egohoi.load(f"annexe:{tmp_path}/a/model", device="cpu").ask(next(irgbench.read(folder, "train")).image, "the mug").model


def test_broken_frames_stop_or_are_left_out_and_listed(tmp_path, capsys):
    folder = drawn.data_set(tmp_path / "irg", 4, side=32)
    (folder / "depth" / "d001.png").unlink()
    with pytest.raises(BadData, match="depth/d001.png: missing"):
        annexe.run(settings(folder, tmp_path / "run", steps=1))
    annexe.run(settings(folder, tmp_path / "run", steps=1, skip_broken=True))
    assert "left out: " in (said := capsys.readouterr().out) and "d001.png" in said
    with pytest.raises(BadConfig, match="none"):
        annexe.run({**settings(folder, tmp_path / "c"), "data": [{"folder": str(folder), "single": 0, "multi": 0, "none": 0}]})


def test_a_model_trained_on_sam2s_decoder_is_saved_and_opens(folder, tmp_path):
    drawn.sam2(tmp_path / "sam2", 64)
    choices = {**settings(folder, "")["model"], "decoder": "sam2", "sam2": str(tmp_path / "sam2")}
    assert annexe.run(settings(folder, tmp_path / "run", steps=1, model=choices)).finished
    model = egohoi.load(f"annexe:{tmp_path / 'run' / 'model'}", device="cpu")
    assert model.config.sam2["mlp_dim"] == 32 and model.ask(np.zeros((40, 30, 3), np.uint8), "the mug").size == (30, 40)
    again = {"start": str(tmp_path / "run" / "model")}
    assert annexe.run(settings(folder, tmp_path / "more", steps=1, model=again)).finished
    with pytest.raises(BadConfig, match="model.decoder is not sam2"):
        annexe.run(settings(folder, tmp_path / "x", model={**choices, "decoder": "light"}))
    with pytest.raises(BadConfig, match="has 64 channels, the model 32"):
        annexe.run(settings(folder, tmp_path / "y", model={**choices, "small": {**choices["small"], "channels": 32}}))
