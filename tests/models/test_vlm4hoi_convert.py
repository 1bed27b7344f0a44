import json
import os
import pickle
import shutil
import subprocess
import sys
import warnings

import pytest
import torch
from PIL import Image

from egohoi.apps.cli import main
from egohoi.errors import BadWeights
from egohoi.models import weights
from egohoi.models.vlm4hoi_convert import convert, export_checkpoint, plan, resize_positions
from egohoi.models.vlm4hoi_folder import load_module, read_config, save_pretrained, shapes_of
from egohoi.models.vlm4hoi_module import VLM4HOIConfig, tiny_model
from egohoi.models.vlm4hoi_names import official as official_name
from egohoi.models.vlm4hoi_names import place
from egohoi.models.vlm4hoi_processor import tiny_processor

torch.set_num_threads(1)


def arguments(folder):
    paths = {"llama": folder / "llama", "eva": folder / "eva.pth", "checkpoint": folder / "checkpoint.pth"}
    return {**paths, "vit_heads": 3, "image_size": 56}


def command(folder, out, *more):
    return main([
        "convert", "vlm4hoi", "--llama", str(folder / "llama"), "--eva", str(folder / "eva.pth"), "--checkpoint",
        str(folder / "checkpoint.pth"), "--out", str(out), "--vit-heads", "3", "--image-size", "56", *more,
    ])


@pytest.fixture(scope="module")
def files(official, tmp_path_factory):
    folder = tmp_path_factory.mktemp("official")
    return folder, official(folder)


@pytest.mark.parametrize(("suffix", "shards"), [("", 1), (".default", 3)])
def test_every_tensor_arrives(official, tmp_path, capsys, suffix, shards):
    states = official(tmp_path / "in", suffix=suffix, shards=shards)
    assert command(tmp_path / "in", tmp_path / "out", "--shard-gb", "0.00005") == 0
    printed = capsys.readouterr().out
    assert "wrote" in printed and "LoRA rank 4" in printed
    assert len(list((tmp_path / "out").glob("model-*.safetensors"))) > 1
    module = load_module(tmp_path / "out", device="cpu")
    state = dict(module.named_parameters())
    eva, llama, checkpoint = states["eva"], states["llama"], states["checkpoint"]
    assert torch.equal(state["llama_proj.weight"], checkpoint["llama_proj.weight"])
    name = f"llama_model.base_model.model.model.layers.1.self_attn.v_proj.lora_B{suffix}.weight"
    assert torch.equal(state["llama_model.model.layers.1.self_attn.v_proj.lora_B.default.weight"], checkpoint[name])
    wrapped, bare = "model.layers.1.self_attn.v_proj", "model.layers.0.self_attn.k_proj.weight"
    assert torch.equal(state[f"llama_model.{wrapped}.base_layer.weight"], llama[f"{wrapped}.weight"])
    assert torch.equal(state[f"llama_model.{bare}"], llama[bare])
    assert torch.equal(state["llama_model.lm_head.weight"], llama["lm_head.weight"])
    bias = torch.cat([eva["blocks.1.attn.q_bias"], torch.zeros(24), eva["blocks.1.attn.v_bias"]])
    assert torch.equal(state["vision.encoder.layers.1.self_attn.qkv.bias"], bias)
    assert torch.equal(state["vision.encoder.layers.0.mlp.fc2.weight"], eva["blocks.0.mlp.fc2.weight"])
    assert state["vision.embeddings.position_embedding"].shape == (1, 17, 24)
    assert torch.equal(state["vision.post_layernorm.weight"], torch.ones(24))
    report = json.loads((tmp_path / "out" / "conversion.json").read_text())
    assert report["missing"] == [] and report["unexpected"] == []
    assert [r[1] for r in report["dropped"]] == [f"model.layers.{k}.self_attn.rotary_emb.inv_freq" for k in (0, 1)]


def test_what_is_left_out_on_purpose_is_listed(official, tmp_path):
    """The forty-first block and the head of the EVA file, buffers of the checkpoint; ln_vision is used where it is present."""
    extra = {"ln_vision.weight": torch.full((24,), 2.0), "ln_vision.bias": torch.ones(24)}
    extra["llama_model.base_model.model.model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(4)
    states = official(tmp_path, checkpoint_extra=extra)
    torch.save({**states["eva"], "norm.weight": torch.ones(24), "head.weight": torch.ones(5, 24)}, tmp_path / "eva.pth")
    made = plan(**arguments(tmp_path), vit_blocks=1)
    assert made.report.clean and made.config.vision_blocks == 1
    dropped = {name for _, name, _ in made.report.dropped}
    assert {"norm.weight", "head.weight", "blocks.1.attn.q_bias"} <= dropped
    assert "blocks.0.attn.q_bias" not in dropped
    convert(made, tmp_path / "out")
    module = load_module(tmp_path / "out")
    assert float(module.vision.post_layernorm.weight[0]) == 2 and float(module.vision.post_layernorm.bias[0]) == 1
    assert place("eva", "blocks.39.norm1.weight", VLM4HOIConfig()).target is None
    assert place("eva", "blocks.38.norm1.weight", VLM4HOIConfig()).target == "vision.encoder.layers.38.layer_norm1.weight"


def test_missing_and_unexpected_keys_stop_it(official, tmp_path, capsys):
    states = official(tmp_path)
    bad = dict(states["checkpoint"])
    bad.pop("llama_proj.bias")
    torch.save({"model": {**bad, "surprise.weight": torch.ones(1)}}, tmp_path / "checkpoint.pth")
    assert command(tmp_path, tmp_path / "out", "--report") == 2
    shown = capsys.readouterr()
    assert "1 tensors are missing (llama_proj.bias)" in shown.err and "surprise.weight of the checkpoint" in shown.err
    assert len(shown.err.strip().splitlines()) == 1
    assert "missing     llama_proj.bias" in shown.out
    assert not (tmp_path / "out").exists() and not (tmp_path / "out.part").exists()


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.system, (f"touch {self.path}",))


@pytest.mark.parametrize("old_format", [False, True])
def test_a_hostile_pickle_is_refused_and_not_run(files, tmp_path, capsys, old_format):
    folder, _ = files
    mark = tmp_path / "was-run"
    bomb = tmp_path / "bomb.pth"
    torch.save({"model": {"llama_proj.weight": Bomb(mark)}}, bomb, _use_new_zipfile_serialization=not old_format)
    status = main([
        "convert", "vlm4hoi", "--llama", str(folder / "llama"), "--eva", str(folder / "eva.pth"), "--checkpoint", str(bomb),
        "--out", str(tmp_path / "out"),
    ])
    error = capsys.readouterr().err
    assert status == 2 and "refused" in error and "system" in error and len(error.strip().splitlines()) == 1
    assert not mark.exists()
    with open(tmp_path / "raw.pth", "wb") as file:
        pickle.dump(Bomb(mark), file)
    with warnings.catch_warnings(), pytest.raises(BadWeights, match=r"refused: not a plain file of tensors.*; nothing was run"):
        warnings.simplefilter("error")
        weights.load_pickle(tmp_path / "raw.pth")
    assert not mark.exists()
    # The same bytes do run where they are trusted, so the test would notice.
    pickle.loads((tmp_path / "raw.pth").read_bytes())
    assert mark.exists()


def test_truncated_files_are_one_line(files, tmp_path):
    folder, _ = files
    for name, source in (("eva.pth", folder / "eva.pth"), ("x.safetensors", folder / "llama" / "model.safetensors")):
        data = source.read_bytes()
        for cut in (10, len(data) // 2, len(data) - 10):
            (tmp_path / name).write_bytes(data[:cut])
            with pytest.raises(BadWeights, match="damaged|refused"):
                weights.WeightFile(tmp_path / name)
    (tmp_path / "empty.pth").write_bytes(b"")
    with pytest.raises(BadWeights, match="empty"):
        weights.WeightFile(tmp_path / "empty.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(BadWeights, match="not named tensors"):
        weights.WeightFile(tmp_path / "list.pth")


def test_wrong_files_are_one_clear_line(official, files, tmp_path):
    folder, states = files
    good = arguments(folder)
    with pytest.raises(BadWeights, match="no such folder"):
        plan(**{**good, "llama": tmp_path / "nowhere"})
    with pytest.raises(BadWeights, match="is a folder"):
        plan(**{**good, "eva": folder / "llama"})
    with pytest.raises(BadWeights, match="no EVA-CLIP encoder"):
        plan(**{**good, "eva": folder / "checkpoint.pth"})
    with pytest.raises(BadWeights, match="no checkpoint of VLM4HOI"):
        plan(**{**good, "checkpoint": folder / "eva.pth"})
    with pytest.raises(BadWeights, match="vit-heads"):
        plan(**{**good, "vit_heads": 5})
    with pytest.raises(BadWeights, match="not a multiple of patch_size.*--image-size"):
        plan(**{**good, "image_size": 57})
    with pytest.raises(BadWeights, match="has 2 blocks, 9"):
        plan(**good, vit_blocks=9)
    mixed = dict(states["checkpoint"])
    mixed["llama_model.base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"] = torch.ones(8, 32)
    torch.save({"model": mixed}, tmp_path / "mixed.pth")
    with pytest.raises(BadWeights, match=r"LoRA has several ranks: 4 \(.*8 \("):
        plan(**{**good, "checkpoint": tmp_path / "mixed.pth"})
    official(tmp_path / "wide", hidden=64)
    with pytest.raises(BadWeights, match="belong to different models"):
        plan(**{**good, "llama": tmp_path / "wide" / "llama"})
    convert(plan(**good), tmp_path / "out")
    with pytest.raises(BadWeights, match="exists already"):
        convert(plan(**good), tmp_path / "out")


def without_pad(folder):
    """Take `$$` out of the tokenizer of a folder."""
    table = json.loads((folder / "tokenizer.json").read_text())
    table["model"]["vocab"].pop("$$")
    table["added_tokens"] = [t for t in table["added_tokens"] if t["content"] != "$$"]
    (folder / "tokenizer.json").write_text(json.dumps(table))
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config.pop("pad_token", None)
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def rank_of_one_layer(path):
    state = torch.load(path, weights_only=True)
    state["model"]["llama_model.base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"] = torch.ones(8, 32)
    torch.save(state, path)


@pytest.mark.parametrize(("spoil", "more", "message"), [
    (lambda f: (f / "llama" / "model.safetensors").unlink(), [], "llama: no model.safetensors and no pytorch_model.bin"),
    (lambda f: (f / "llama" / "config.json").unlink(), [], "config.json: no such file"),
    (lambda f: (f / "llama").rename(f / "else"), [], "llama: no such folder"),
    (lambda f: (f / "eva.pth").unlink(), [], "eva.pth: no such file"),
    (lambda f: cut(f / "checkpoint.pth"), [], "checkpoint.pth: "), (lambda f: cut(f / "eva.pth"), [], "eva.pth: "),
    (lambda f: cut(f / "llama" / "model.safetensors"), [], "model.safetensors: is damaged"),
    (lambda f: rank_of_one_layer(f / "checkpoint.pth"), [], "LoRA has several ranks: 4"),
    (lambda f: None, ["--image-size", "57"], "image_size 57 is not a multiple of patch_size 14"),
    (lambda f: None, ["--vit-heads", "5"], "--vit-heads and --image-size say"),
    (lambda f: None, ["--lora-alpha", "-1"], "lora_alpha must be a number above 0, got -1"),
    (lambda f: (f / "eva.pth").write_text("hello"), [], "eva.pth: is damaged, cut short, or no weight file: copy it again"),
    (lambda f: without_pad(f / "llama"), [], "llama: the tokenizer lacks '$$', the pad token of VLM4HOI"),
])
def test_what_cannot_be_converted_is_one_line(files, tmp_path, capsys, spoil, more, message):
    shutil.copytree(files[0], tmp_path / "in")
    spoil(tmp_path / "in")
    assert command(tmp_path / "in", tmp_path / "out", *more) == 2
    error = capsys.readouterr().err
    assert message in error and len(error.strip().splitlines()) == 1, error
    assert not (tmp_path / "out").exists() and not (tmp_path / "out.part").exists()


@pytest.fixture(scope="module")
def converted(files, tmp_path_factory):
    folder = tmp_path_factory.mktemp("converted") / "m"
    convert(plan(**arguments(files[0])), folder)
    return folder


def setting(**values):
    def change(folder):
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, **values}))

    return change


def llama_setting(**values):
    def change(folder):
        setting(llama={**json.loads((folder / "config.json").read_text())["llama"], **values})(folder)

    return change


@pytest.mark.parametrize(("spoil", "message"), [
    (shutil.rmtree, "m: no such folder"), (lambda f: (f / "config.json").unlink(), "no config.json: this is no model folder"),
    (setting(model_type="llava"), "holds a model of type 'llava'"), (setting(lora_rank=8), "LoRA of another rank"),
    (setting(image_size=112), "another image size"), (setting(image_size=57), "not a multiple of patch_size"),
    (without_pad, "the tokenizer lacks '$$'"), (lambda f: cut(f / "model.safetensors"), "model.safetensors: is damaged"),
    (lambda f: (f / "model.safetensors").unlink(), "no model.safetensors"),
    (setting(lora_rank="x"), "config.json: lora_rank must be"), (setting(lora_alpha="x"), "config.json: lora_alpha must be"),
    (setting(codec="nope"), "config.json: codec must be one of"),
    (setting(max_new_tokens=-3), "config.json: max_new_tokens must be"), (setting(lora_targets=["zzz"]), "its sizes make no network"),
    (llama_setting(num_attention_heads=0), "its sizes make no network"), (llama_setting(hidden_size="64"), "its sizes make no network"),
    (setting(llama=3), "llama needs hidden_size"),
])
def test_a_model_folder_that_does_not_fit_is_one_line(converted, tmp_path, capsys, spoil, message):
    shutil.copytree(converted, tmp_path / "m")
    spoil(tmp_path / "m")
    Image.new("RGB", (40, 30)).save(tmp_path / "x.png")
    assert main(["ask", str(tmp_path / "x.png"), "Where is the left hand?", "--model", f"vlm4hoi:{tmp_path / 'm'}"]) == 2
    error = capsys.readouterr().err
    assert message in error and len(error.strip().splitlines()) == 1, error


def test_a_stock_minigpt_v2_checkpoint(files, tmp_path, capsys):
    """As the runner of MiniGPT-v2 and VLM4HOI saves: optimizer, configuration, scaler, epoch, and buffers beside the weights."""
    folder, states = files
    shutil.copytree(folder, tmp_path / "in")
    stock = dict(states["checkpoint"])
    for k in (0, 1):
        stock[f"llama_model.base_model.model.model.layers.{k}.self_attn.rotary_emb.inv_freq"] = torch.ones(4)
    trained = torch.nn.Parameter(torch.zeros(2))
    trained.grad = torch.ones(2)
    optimizer = torch.optim.AdamW([trained])
    optimizer.step()
    saved = {"model": stock, "optimizer": optimizer.state_dict(), "config": {"run": {"init_lr": 1e-5, "amp": True}}, "scaler": None, "epoch": 49}
    torch.save(saved, tmp_path / "in" / "checkpoint.pth")
    assert command(tmp_path / "in", tmp_path / "out", "--report") == 0
    assert capsys.readouterr().out.count("rotary_emb.inv_freq: computed, not learnt") == 4  # two of the Llama folder, two of these
    ours, plain = load_module(tmp_path / "out"), tmp_path / "plain"
    assert command(folder, plain) == 0
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), load_module(plain).parameters()))


def test_a_folder_is_loaded_strictly(files, tmp_path):
    folder, _ = files
    convert(plan(**arguments(folder)), tmp_path / "m")
    config = json.loads((tmp_path / "m" / "config.json").read_text())

    def changed(**values):
        (tmp_path / "m" / "config.json").write_text(json.dumps({**config, **values}))

    for values, message in (
        ({"lora_rank": 8}, "LoRA of another rank"), ({"image_size": 112}, "another image size"), ({"vision_blocks": 3}, "missing"),
        ({"vision_blocks": 1}, "unexpected"), ({"model_type": "llava"}, "type 'llava'"),
    ):
        changed(**values)
        with pytest.raises(BadWeights, match=message) as caught:
            load_module(tmp_path / "m")
        assert len(str(caught.value).splitlines()) == 1
    changed()
    load_module(tmp_path / "m")
    with pytest.raises(BadWeights, match="no such folder"):
        load_module(tmp_path / "nowhere")
    with pytest.raises(BadWeights, match="no config.json"):
        load_module(tmp_path)


def test_saved_and_loaded_is_the_same(tmp_path):
    module = tiny_model(seed=3)
    save_pretrained(module, tiny_processor(module.config), tmp_path / "m")
    again = load_module(tmp_path / "m")
    assert read_config(tmp_path / "m") == module.config
    for (name, a), (other, b) in zip(module.named_parameters(), again.named_parameters()):
        assert name == other and torch.equal(a, b) and a.requires_grad == b.requires_grad
    for (name, a), (_, b) in zip(module.named_buffers(), again.named_buffers()):
        assert torch.equal(a, b), name
    card = (tmp_path / "m" / "README.md").read_text()
    assert "rank 4, alpha 16" in card and "4 tokens" in card
    assert (tmp_path / "m" / "preprocessor_config.json").exists() and (tmp_path / "m" / "tokenizer.json").exists()


@pytest.mark.parametrize("default", [False, True])
def test_export_has_the_official_layout_and_comes_back(files, tmp_path, default):
    folder, states = files
    module = tiny_model(seed=4)
    export_checkpoint(module.trainable_state_dict(), module.config, tmp_path / "checkpoint.pth", lora_default=default)
    written = torch.load(tmp_path / "checkpoint.pth", weights_only=True)
    assert set(written) == {"model"}
    if not default:
        assert written["model"].keys() == states["checkpoint"].keys()
        assert all(t.shape == states["checkpoint"][n].shape for n, t in written["model"].items())
    made = plan(**{**arguments(folder), "checkpoint": tmp_path / "checkpoint.pth"})
    convert(made, tmp_path / "m")
    back = load_module(tmp_path / "m").trainable_state_dict()
    assert all(torch.equal(back[n], t) for n, t in module.trainable_state_dict().items())
    with pytest.raises(BadWeights, match="no trained weight"):
        export_checkpoint({"vision.embeddings.class_embedding": torch.ones(1)}, module.config, tmp_path / "x.pth")


def test_names_go_both_ways():
    config = VLM4HOIConfig.tiny()
    for name in shapes_of(config):
        source, names = official_name(name, config)
        for one in names:
            assert place(source, one, config).target == name


def test_position_embedding_keeps_the_class_token_and_a_constant_grid():
    grid = torch.cat([torch.full((1, 1, 2), 7.0), torch.full((1, 256, 2), 3.0)], dim=1)
    bigger = resize_positions(grid, 32)
    assert bigger.shape == (1, 1025, 2) and torch.allclose(bigger[:, 1:], torch.tensor(3.0)) and float(bigger[0, 0, 0]) == 7
    assert resize_positions(grid, 16) is grid


MEASURE = """
import sys
from pathlib import Path
from egohoi.models import vlm4hoi_convert as c

def memory(key):
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith(key))

folder, shard_bytes = Path(sys.argv[1]), int(sys.argv[2]) or None
made = c.plan(folder / "llama", folder / "eva.pth", folder / "checkpoint.pth", vit_heads=3, image_size=56)
c.load_tokenizer(folder / "llama")  # brings in libraries, which weigh the same for a 7B model
open("/proc/self/clear_refs", "w").write("5")  # forget the peak of the imports
before = memory("VmRSS")
c.convert(made, folder / f"out{shard_bytes}", shard_bytes=shard_bytes)
print(memory("VmHWM") - before)
"""


def test_conversion_streams(official, tmp_path):
    """140 MB of weights in three files: the process grows by less than 1.2 times the largest file, also if it is left to choose
    how much it holds, and by more where it is told to hold everything."""
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
    except OSError:
        pytest.skip("the peak of memory can be reset on Linux only")
    official(tmp_path, shards=3, vocab=2048, hidden=1024, llama_mlp=2048, llama_blocks=3, llama_heads=8, rank=4)
    largest = max(f.stat().st_size for f in (tmp_path / "llama").glob("*.safetensors"))

    def growth(shard_bytes):
        command = [sys.executable, "-c", MEASURE, str(tmp_path), str(shard_bytes)]
        # Tensors of a real model are so large that malloc gives their memory back at once; here it is told to.
        environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "1000000"}
        return int(subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout)

    assert growth(4_000_000) < 1.2 * largest < growth(10**9)
    assert growth(0) < 1.2 * largest
    assert max(f.stat().st_size for f in (tmp_path / "outNone").glob("*.safetensors")) < 0.51 * largest
