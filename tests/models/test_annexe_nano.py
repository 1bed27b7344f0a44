"""The embedded encoder as ANNEXE's tower, and the configurations that name it."""

from pathlib import Path

import numpy as np
import torch

from egohoi import images
from egohoi.models.annexe_nano import MEAN, STD, NanoTower
from egohoi.models.nano.model import Nano
from egohoi.training import annexe
from egohoi.training.config import build, read

CONFIGS = Path(__file__).parents[2] / "configs"


def test_the_tower_sees_what_the_detector_of_nano_sees():
    torch.set_num_threads(1)
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 255, (1, 3, 64, 64)).astype(np.float32))
    normal = (pixels / 255 - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    with torch.no_grad():
        state = NanoTower().eval()(normal).last_hidden_state
        wanted = Nano.from_pretrained().detector(pixels).feature
    assert state.shape == (1, 96, 8, 8)
    torch.testing.assert_close(state, wanted, atol=1e-3, rtol=1e-3)


def test_the_configurations_are_whole():
    full = build(annexe.Config, read(CONFIGS / "annexe.yaml"))
    small = build(annexe.Config, read(CONFIGS / "annexe_small.yaml"))
    assert (full.model.pixels, full.model.conditioning, full.losses.mask) == ("depth_anything", "hidden", 3.0)
    assert small.model.small["tower"] == {"model_type": "nano"} and not small.model.train_tower
    lines = [line for line in (CONFIGS / "annexe.yaml").read_text().splitlines() if ":" in line]
    assert all("#" in line or line.rstrip().endswith(":") for line in lines)


def test_a_small_model_with_the_tower_answers_at_the_pictures_size():
    from egohoi.models.annexe import Annexe
    from egohoi.models.annexe_module import AnnexeConfig, AnnexeModule
    from egohoi.models.annexe_processor import AnnexeProcessor, small_tokenizer

    tokenizer = small_tokenizer(["left hand and mug"], 290)
    sizes = build(annexe.Config, read(CONFIGS / "annexe_small.yaml")).model.small
    config = AnnexeConfig.small(len(tokenizer), **{**sizes, "side": 64, "layers": 1}, pixels="tower")
    model = Annexe(AnnexeModule(config), AnnexeProcessor(tokenizer, config))
    assert model.depth(images.load(np.zeros((30, 50, 3), np.uint8))).shape == (30, 50)
    assert model.ask(np.zeros((30, 50, 3), np.uint8), "the mug").size == (50, 30)
