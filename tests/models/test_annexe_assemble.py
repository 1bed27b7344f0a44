"""ANNEXE of other parts: tiny folders of transformers, through `egohoi train` to an answer."""

import json

import numpy as np
import pytest
import torch
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    DepthAnythingConfig,
    DepthAnythingForDepthEstimation,
    Dinov2Config,
    GPT2Config,
    Qwen2Config,
    SiglipVisionConfig,
)

import egohoi
from egohoi.errors import BadConfig, BadWeights
from egohoi.models import annexe_assemble
from egohoi.models.annexe_module import AnnexeModule
from egohoi.models.annexe_processor import AnnexeProcessor, small_tokenizer
from egohoi.training.annexe import ModelConfig
from egohoi.training.config import build

SHARED = {"num_hidden_layers": 1, "num_attention_heads": 4}
LLMS = {
    "qwen2": (Qwen2Config, {"hidden_size": 32, "intermediate_size": 48, "num_key_value_heads": 2, "tie_word_embeddings": True, **SHARED}, ("q_proj", "v_proj")),
    "gpt2": (GPT2Config, {"n_embd": 32, "n_layer": 1, "n_head": 4, "n_positions": 512}, ("c_attn",)),
}
TOWERS = {
    "siglip": (SiglipVisionConfig, {"hidden_size": 24, "intermediate_size": 32, "image_size": 32, "patch_size": 8, **SHARED}),
    "dinov2": (Dinov2Config, {"hidden_size": 24, "image_size": 56, "patch_size": 8, "mlp_ratio": 2, **SHARED}),
}


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """Folders by name: two language models with their tokenizer, two towers, a Depth-Anything."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    home, tokenizer = tmp_path_factory.mktemp("parts"), small_tokenizer(["the left hand holds the mug"] * 3, 300)
    for name, (kind, sizes, _) in LLMS.items():
        config = kind(vocab_size=len(tokenizer), bos_token_id=1, eos_token_id=2, **sizes)
        AutoModelForCausalLM.from_config(config).to(torch.bfloat16).save_pretrained(home / name)
        tokenizer.save_pretrained(home / name)
    for name, (kind, sizes) in TOWERS.items():
        AutoModel.from_config(kind(**sizes)).save_pretrained(home / name)
    (home / "siglip" / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.5, 0.5, 0.5], "image_std": [0.4, 0.4, 0.4]}))
    depth = DepthAnythingConfig(
        backbone_config={"model_type": "dinov2", "hidden_size": 16, "image_size": 56, "patch_size": 14, "out_indices": [1, 2, 3, 4],
                         "num_hidden_layers": 4, "num_attention_heads": 2, "reshape_hidden_states": False, "apply_layernorm": True},
        patch_size=14, reassemble_hidden_size=16, neck_hidden_sizes=[4, 6, 8, 10], fusion_hidden_size=8, head_hidden_size=6,
    )
    DepthAnythingForDepthEstimation(depth).save_pretrained(home / "depth")
    return home


@pytest.mark.parametrize(("llm", "tower", "depth"), [("qwen2", "siglip", True), ("gpt2", "dinov2", False)])
def test_every_weight_of_the_folders_arrives(parts, tmp_path, llm, tower, depth):
    folders = (str(parts / llm), str(parts / tower), str(parts / "depth") if depth else None)
    config, tokenizer = annexe_assemble.plan(*folders, image_size=32, lora_rank=4, lora_targets=LLMS[llm][2])
    module = AnnexeModule(config)
    annexe_assemble.fill(module, *folders)
    assert config.pixels == ("depth_anything" if depth else "tower") and config.language.image_tokens == 4
    assert config.mean == ((0.5, 0.5, 0.5) if tower == "siglip" else (0.55, 0.55, 0.53))
    sight = AutoModel.from_pretrained(parts / tower)
    assert all(torch.equal(module.language.vision.state_dict()[n], t) for n, t in sight.state_dict().items())
    donor = AutoModelForCausalLM.from_pretrained(parts / llm, dtype=torch.float32).eval()
    ids = torch.tensor([[1, 5, 9, 30, 8]])
    with torch.no_grad():  # a fresh LoRA adds nothing: the words are the donor's
        ours, theirs = module.language.llama_model(input_ids=ids).logits, donor(input_ids=ids).logits
        torch.testing.assert_close(ours[..., : theirs.shape[-1]], theirs, rtol=1e-5, atol=1e-5)
    if depth:
        net = DepthAnythingForDepthEstimation.from_pretrained(parts / "depth").state_dict()
        assert all(torch.equal(module.pixels.state_dict()[f"net.{n}"], t) for n, t in net.items())
    model = egohoi.models.annexe.Annexe(module, AnnexeProcessor(tokenizer, config))
    model.save_pretrained(tmp_path)
    back = egohoi.load(f"annexe:{tmp_path}", device="cpu")
    picture = np.full((20, 30, 3), 90, np.uint8)
    assert back.config == config and back.ask(picture, "the mug").text == model.ask(picture, "the mug").text


def test_training_starts_from_folders(parts, tmp_path, monkeypatch):
    from pathlib import Path

    monkeypatch.syspath_prepend(str(Path(__file__).parents[1]))
    import annexe_drawn

    from egohoi.training import annexe

    settings = {
        "recipe": "annexe", "out": str(tmp_path / "run"), "data": [{"folder": str(annexe_drawn.data_set(tmp_path / "data", 3, side=32))}],
        "model": {"llm": str(parts / "qwen2"), "tower": str(parts / "siglip"), "depth_anything": str(parts / "depth"), "lora_rank": 4,
                  "frozen": "bfloat16"},
        "loop": {"steps": 2, "batch": 2, "micro_batch": 2, "lr": 1e-3, "warmup_steps": 0, "save_every": 1, "workers": 0, "trackers": [],
                 "precision": "bfloat16"},
    }
    result = annexe.run(settings)
    assert result.finished and np.isfinite(result.loss)
    model = egohoi.load(f"annexe:{tmp_path}/run/model", device="cpu")
    assert model.ask(np.full((20, 30, 3), 90, np.uint8), "the mug").size == (30, 20)
    frozen, trained = "language.llama_model.model.layers.0.mlp.up_proj.weight", "language.llama_model.model.layers.0.self_attn.q_proj.lora_B.default.weight"
    state = model.module.state_dict()
    donor = AutoModelForCausalLM.from_pretrained(parts / "qwen2", dtype=torch.float32).state_dict()
    assert torch.equal(state[frozen], donor["model.layers.0.mlp.up_proj.weight"]) and state[trained].abs().sum() > 0


def test_parts_that_are_none_are_one_line(parts, tmp_path):
    with pytest.raises(BadWeights, match="no config.json there"):
        annexe_assemble.plan(str(tmp_path), str(parts / "siglip"))
    with pytest.raises(BadConfig, match="says no image_size"):
        annexe_assemble.plan(str(parts / "qwen2"), str(parts / "gpt2"))
    with pytest.raises(BadWeights, match="not 'depth_anything'"):
        annexe_assemble.plan(str(parts / "qwen2"), str(parts / "siglip"), str(parts / "dinov2"))
    config, _ = annexe_assemble.plan(str(parts / "qwen2"), str(parts / "siglip"), lora_rank=0)
    with pytest.raises(BadWeights, match="gpt2"):
        annexe_assemble.fill(AnnexeModule(config), str(parts / "gpt2"), str(parts / "siglip"))
    for wrong, message in (({"llm": "a"}, "come together"), ({"llm": "a", "tower": "b", "start": "c"}, "whole model")):
        with pytest.raises(BadConfig, match=message):
            build(ModelConfig, wrong)
