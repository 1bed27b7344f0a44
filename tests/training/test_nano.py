import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from tokenizers import pre_tokenizers

from egohoi.errors import BadConfig, BadData
from egohoi.models.nano.model import Nano
from egohoi.records import Hand, Object, Scene
from egohoi.scenes import jsonl
from egohoi.training import nano


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Four drawn scenes, and a GGUF file of a byte-pair model with a few words."""
    import gguf

    root = tmp_path_factory.mktemp("nano")
    rng, scenes = np.random.default_rng(0), []
    for k in range(4):
        pixels = rng.integers(0, 60, (256, 320, 3), dtype=np.uint8)
        x = 30 + 10 * k
        pixels[100:160, x : x + 60], pixels[90:150, 200:260], pixels[60:110, x + 10 : x + 50] = (220, 170, 140), (220, 170, 140), (200, 30, 30)
        Image.fromarray(pixels).save(root / f"{k}.png")
        hands = [Hand("left", (x, 100, x + 60, 160), True, 0), Hand("right", (200, 90, 260, 150), False)]
        scenes.append(Scene(f"s{k}", str(root / f"{k}.png"), (320, 256), hands, [Object("mug", (x + 10, 60, x + 50, 110), ("left",))]))
    (root / "scenes.jsonl").write_text("".join(json.dumps(jsonl.to_json(s)) + "\n" for s in scenes))

    tokens = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = ["h a", "n d", "ha nd", "l e", "f t", "le ft", "m u", "mu g"]
    tokens += ["".join(m.split()) for m in merges]
    writer = gguf.GGUFWriter(str(root / "words.gguf"), "llama")
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_merges(merges)
    writer.add_tensor("token_embd.weight", rng.normal(size=(len(tokens), 32)).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return root


def config(folder, out, **stages) -> dict:
    sizes = {
        "vision": {"train": [str(folder)], "steps": 3, "batch": 2, "warmup": 1, "nouns": 1, "save_every": 1, "log_every": 1, "workers": 0},
        "language": {"train": [str(folder)], "gguf": str(folder / "words.gguf"), "word_size": 16, "width": 32, "layers": 1, "heads": 2, "steps": 3,
                     "batch": 4, "save_every": 1, "log_every": 1},
    }  # fmt: skip
    return {"recipe": "nano", "out": str(out), "threads": 1, **{k: {**sizes[k], **v} for k, v in stages.items()}}


def test_both_stages_give_a_folder_that_loads_and_answers(folder, tmp_path):
    nano.run(config(folder, tmp_path, vision={}, language={}))
    model = Nano.from_pretrained(str(tmp_path / "model"))
    response = model.ask(str(folder / "0.png"), "Where is the left hand?")
    assert response.task in ("refer", "identify", "answer", "analyze", "ground") and response.size == (320, 256)
    lines = [json.loads(line) for line in (tmp_path / "vision.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3] and all(np.isfinite(line["total"]) for line in lines)


def test_a_stopped_run_goes_on_to_the_same_weights(folder, tmp_path, monkeypatch):
    nano.run(config(folder, tmp_path / "whole", vision={}, language={}))
    save = nano.save

    def stop_after_the_first(path, state):
        save(path, state)
        if state["step"] == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(nano, "save", stop_after_the_first)
    for _ in range(2):  # once in each stage
        with pytest.raises(KeyboardInterrupt):
            nano.run(config(folder, tmp_path / "cut", vision={}, language={}))
    monkeypatch.setattr(nano, "save", save)
    nano.run(config(folder, tmp_path / "cut", vision={}, language={}))
    for name in ("detector", "language"):
        whole, cut = (load_file(tmp_path / run / "model" / f"{name}.safetensors") for run in ("whole", "cut"))
        assert all(torch.equal(whole[k], cut[k]) for k in whole), name


def test_training_goes_on_from_a_nano_folder_with_its_nouns(folder, tmp_path):
    nano.run(config(folder, tmp_path / "first", vision={}, language={}))
    start = tmp_path / "first" / "model"
    nano.run(config(folder, tmp_path / "second", vision={"start": str(start), "steps": 1, "rate": 0.0, "decay": 0.0}))
    before, after = load_file(start / "detector.safetensors"), load_file(tmp_path / "second" / "detector.safetensors")
    assert all(torch.allclose(before[k].float(), after[k].float()) for k in before)
    assert json.loads((tmp_path / "second" / "nouns.json").read_text()) == json.loads((start / "config.json").read_text())["nouns"]
    nano.run(config(folder, tmp_path / "blended", vision={"start": str(start), "steps": 2, "rate": 0.05, "blend": 0.75}))
    nano.run(config(folder, tmp_path / "trained", vision={"start": str(start), "steps": 2, "rate": 0.05}))
    blended, trained = (load_file(tmp_path / run / "detector.safetensors")["heat.1.weight"] for run in ("blended", "trained"))
    first = before["heat.1.weight"].float()
    assert not torch.allclose(trained, first, atol=1e-4) and torch.allclose(blended, 0.25 * trained + 0.75 * first, atol=1e-6)
    nano.run(config(folder, tmp_path / "second", language={"start": str(start), "gguf": None, "steps": 1, "rate": 0.0}))
    before, after = (load_file(f / "language.safetensors") for f in (start, tmp_path / "second" / "model"))
    assert all(torch.allclose(before[k].float(), after[k].float(), atol=1e-3) for k in before)
    for stage in ("vision", "language"):
        with pytest.raises(BadConfig, match=f"{stage}.start: .* is not a nano folder"):
            nano.run(config(folder, tmp_path / "second", **{stage: {"start": str(folder)}}))


def test_wrong_configurations_and_empty_data(folder, tmp_path):
    with pytest.raises(BadConfig, match="vision.stepz"):
        nano.run({"vision": {"stepz": 3}})
    (tmp_path / "scenes.jsonl").write_text("")
    with pytest.raises(BadData, match="no scenes"):
        nano.run(config(tmp_path, tmp_path / "out", vision={}))
