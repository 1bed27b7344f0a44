"""Fine-tuning a tiny VLM4HOI from stores, as `egohoi train configs/vlm4hoi_finetune.yaml` does."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import egohoi
from egohoi.apps.cli import main
from egohoi.models.vlm4hoi_folder import load_module, read_config, save_pretrained
from egohoi.models.vlm4hoi_module import IGNORE, VLM4HOIConfig, VLM4HOIModule, tiny_model
from egohoi.models.vlm4hoi_processor import tiny_processor
from egohoi.records import Example
from egohoi.training import checkpoints, config, progress
from egohoi.training.vlm4hoi import VLM4HOIRecipe, VLM4HOITraining

pytest.importorskip("pyarrow")
torch.set_num_threads(1)
FILE = Path(__file__).parents[2] / "configs" / "vlm4hoi_finetune.yaml"
STEPS = 12


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a tiny model, pictures, and two stores of one- and two-turn conversations."""
    from egohoi import store

    folder = tmp_path_factory.mktemp("tuning")
    module = tiny_model(seed=1)
    save_pretrained(module, tiny_processor(module.config), folder / "model")
    (folder / "frames").mkdir()
    rng = np.random.default_rng(0)
    for k in range(4):
        Image.fromarray(rng.integers(0, 255, (60, 80, 3), dtype=np.uint8)).save(folder / "frames" / f"{k}.jpg")
    for name, count in (("epic", 9), ("ego4d", 5)):
        items = []
        for k in range(count):
            turns = [("Where is the cup?", f"{{<{k}><1><50><60>}}")] + [("What is it?", "a cup")] * (k % 2)
            items.append(Example(f"{name}/{k}", f"{k % 4}.jpg", (80, 60), tuple(turns), type=f"Q{k % 2 + 1}", source=name))
        store.write(folder / name, items)
    return folder


def words(place, out, steps=STEPS, **more):
    """`key=value` words that make the published file fit the tiny model and a CPU."""
    values = {
        "model": place / "model", "out": out, "data.0.path": place / "epic", "data.1.path": place / "ego4d",
        "data.0.images": place / "frames", "data.1.images": place / "frames", "frozen": "float32", "loop.steps": steps, "loop.batch": 4,
        "loop.precision": "float32", "loop.device": "cpu", "loop.lr": 5e-3, "loop.warmup_lr": 1e-3, "loop.warmup_steps": 3,
        "loop.save_every": 3, "loop.workers": 0, "loop.trackers": "[]", "loop.log_every": 100,
    }
    return ["train", str(FILE), *(f"{key}={value}" for key, value in {**values, **more}.items())]


def recipe(place, out="unused", **more):
    settings = config.override(yaml.safe_load(FILE.read_text()), words(place, out, **more)[2:])
    return VLM4HOIRecipe(config.build(VLM4HOITraining, settings))


def losses(folder):
    return [row["loss"] for row in progress.read_curve(folder)]


@pytest.fixture(scope="module")
def run(place, tmp_path_factory):
    """An undisturbed run on one process, with what it wrote."""
    out = tmp_path_factory.mktemp("run") / "one"
    assert main(words(place, out)) == 0
    return out


def test_the_loss_falls_and_only_projector_and_lora_are_kept(place, run):
    curve = losses(run)
    assert len(curve) == STEPS and np.mean(curve[-3:]) < np.mean(curve[:3]) - 0.1
    names = set(tiny_model(seed=1).trainable_names())
    saved = checkpoints.load(checkpoints.folder(run, STEPS))
    assert set(saved.trained) == set(saved.optimizer) == names
    assert all(t.dtype == torch.float32 for t in saved.trained.values())
    before, after = (dict(load_module(f, "cpu").named_parameters()) for f in (place / "model", run / "model"))
    for name in before:
        assert torch.equal(before[name], after[name]) == (name not in names), name


def test_the_exports_load(place, run):
    """The folder answers; the official file holds the trained weights under the names of peft 0.2, and nothing else."""
    assert egohoi.load(f"vlm4hoi:{run / 'model'}", device="cpu").ask(str(place / "frames" / "0.jpg"), "Where is the cup?").model == "vlm4hoi"
    official = torch.load(run / f"checkpoint_{STEPS}.pth", weights_only=True)
    assert set(official) == {"model"}
    trained = checkpoints.trained_weights(run)
    renamed = {
        name.replace("llama_model.", "llama_model.base_model.model.").replace(".default.", ".") if ".lora_" in name else name: tensor
        for name, tensor in trained.items()
    }
    assert official["model"].keys() == renamed.keys() and len(renamed) == 2 + 2 * 2 * 2
    assert all(torch.equal(official["model"][name], tensor) for name, tensor in renamed.items())


@pytest.mark.parametrize("distribution", ["ddp", "fsdp"])
def test_two_processes_have_the_curve_of_one(place, run, processes, tmp_path, distribution):
    more = {"loop.distribution": distribution, **({"loop.steps": 6, "export": "[official]"} if distribution == "fsdp" else {})}
    if distribution == "fsdp":
        assert main(words(place, tmp_path / "one", **{**more, "loop.distribution": "ddp"})) == 0
    whole = tmp_path / "one" if distribution == "fsdp" else run
    assert processes.run(words(place, tmp_path / "two", **more), tmp_path, 2) == [0, 0], processes.output(tmp_path)
    assert f"2 process(es) ({distribution})" in processes.output(tmp_path)
    assert losses(tmp_path / "two") == pytest.approx(losses(whole), abs=1e-4)
    one, two = checkpoints.trained_weights(whole), checkpoints.trained_weights(tmp_path / "two")
    assert one.keys() == two.keys() and all(torch.allclose(one[k], two[k], atol=1e-4) for k in one)


def test_killed_ten_times_it_ends_with_the_same_curve_and_weights(place, run, processes, tmp_path):
    """SIGKILL after a random backward pass (four a step), or between the files of a checkpoint; then the same command again."""
    rng = random.Random(7)
    command = words(place, tmp_path / "run")
    for k in range(10):
        # mostly in the middle of a step, sometimes far enough for a checkpoint to be made or half made
        when = f"save:{rng.randint(1, 4)}" if k % 3 == 2 else f"pass:{rng.randint(1, 14)}"
        assert processes.run(command, tmp_path, DIE=when) == [-9], (when, processes.output(tmp_path))
        assert len(losses(tmp_path / "run")) < STEPS
    assert processes.run(command, tmp_path) == [0]
    assert losses(tmp_path / "run") == losses(run)
    ours, theirs = checkpoints.load(checkpoints.folder(tmp_path / "run", STEPS)), checkpoints.load(checkpoints.folder(run, STEPS))
    assert all(torch.equal(ours.trained[name], theirs.trained[name]) for name in theirs.trained)
    assert all(torch.equal(a, ours.optimizer[name][key]) for name, state in theirs.optimizer.items() for key, a in state.items())
    official = [torch.load(folder / f"checkpoint_{STEPS}.pth", weights_only=True)["model"] for folder in (tmp_path / "run", run)]
    assert all(torch.equal(official[0][name], tensor) for name, tensor in official[1].items())


def test_a_run_goes_on_with_another_number_of_processes(place, run, processes, tmp_path):
    """Two processes, one of them killed (torchrun then ends the other); resumed alone."""
    command = words(place, tmp_path / "run")
    first, second = processes.start(command, tmp_path, 2, DIE="pass:11")
    first.join(900)
    second.kill()
    assert processes.wait([first, second]) == [-9, -9]
    assert checkpoints.steps(tmp_path / "run") == [3]
    assert main(command) == 0
    assert losses(tmp_path / "run") == pytest.approx(losses(run), abs=1e-4)


def test_recomputed_activations_give_the_same_curve(place, run, tmp_path):
    """Dropout too: it is drawn again from the same numbers."""
    assert main(words(place, tmp_path / "run", steps=3, gradient_checkpointing="false", **{"loop.save_every": 3})) == 0
    assert main(words(place, tmp_path / "other", steps=3, **{"loop.save_every": 3})) == 0
    assert losses(tmp_path / "run") == pytest.approx(losses(tmp_path / "other"), abs=1e-6)


def test_bfloat16_on_frozen_bfloat16_weights(place, tmp_path):
    assert main(words(place, tmp_path / "run", steps=3, frozen="bfloat16", **{"loop.precision": "bfloat16", "loop.micro_batch": 2})) == 0
    assert main(words(place, tmp_path / "exact", steps=3, **{"loop.micro_batch": 2})) == 0
    assert losses(tmp_path / "run") == pytest.approx(losses(tmp_path / "exact"), rel=0.02)
    assert all(t.dtype == torch.float32 for t in checkpoints.trained_weights(tmp_path / "run").values())


def test_bfloat16_split_over_two_processes(place, processes, tmp_path):
    """As the 7B is meant to be trained: frozen weights in 16 bits, trained ones in 32, both split."""
    more = {"loop.steps": 3, "frozen": "bfloat16", "loop.precision": "bfloat16", "export": "[]"}
    assert main(words(place, tmp_path / "one", **more)) == 0
    assert processes.run(words(place, tmp_path / "two", **more, **{"loop.distribution": "fsdp"}), tmp_path, 2) == [0, 0]
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=0.02)
    assert all(t.dtype == torch.float32 for t in checkpoints.trained_weights(tmp_path / "two").values())


def test_several_turns_in_one_sequence_and_loss_on_answers_only(place):
    made = recipe(place)
    example = next(e for e in made.data().sources[0] if len(e.conversation) == 2)
    pixels, sequence = made.item(example, None)
    said = [i for i, label in zip(sequence.ids, sequence.labels) if label != IGNORE]
    assert made.processor.tokenizer.decode(said).replace("</s>", "|").replace(" ", "") == "{<1><1><50><60>}|acup|"
    batch = made.collate([(pixels, sequence), made.item(made.data().sources[0][0], None)])
    assert made.counts(batch) == {"answer": float((batch["labels"] != IGNORE).sum())} and pixels.shape == (3, 56, 56)
    # the loss is the mean over those tokens: other labels, even impossible ones, do not enter it
    module = made.model().eval()
    with torch.no_grad():
        logits = module(**{**batch, "labels": None}).logits
        loss = made.losses(module, batch)["answer"]
    wanted = batch["labels"] != IGNORE
    logs = logits.log_softmax(-1)[:, :-1].gather(-1, batch["labels"][:, 1:].clamp(min=0)[..., None])[..., 0]
    assert float(loss) == pytest.approx(float(-logs[wanted[:, 1:]].mean()), abs=1e-5)


def test_data_sets_are_mixed_by_ratio(place):
    mixture = recipe(place, **{"data.0.ratio": 3, "data.1.ratio": 1}).data()
    drawn = [mixture[p].source for p in range(256)]
    assert drawn.count("epic") == 192 and drawn.count("ego4d") == 64


def test_a_folder_without_lora_gets_a_fresh_one(place, tmp_path):
    """As for a plain language model behind the projector; rank and alpha are in the folder that is written."""
    bare = VLM4HOIModule(VLM4HOIConfig.tiny(lora_rank=0))
    save_pretrained(bare, tiny_processor(bare.config), tmp_path / "bare")
    assert main(words(place, tmp_path / "run", steps=2, model=tmp_path / "bare", lora_rank=2, lora_alpha=8)) == 0
    written = read_config(tmp_path / "run" / "model")
    assert (written.lora_rank, written.lora_alpha) == (2, 8)
    names = set(checkpoints.trained_weights(tmp_path / "run"))
    assert sum(".lora_" in name for name in names) == 2 * 2 * 2


@pytest.mark.parametrize(("change", "message"), [
    ({"model": "nowhere"}, "nowhere: no such folder"), ({"lora_rank": 8}, "has a LoRA of rank 4"), ({"max_text": 0}, "max_text must be"),
    ({"data.0.path": "nowhere"}, "no such file or folder"), ({"data.0.images": "nowhere"}, "jpg: no such file"), ({"data": "[]"}, "at least one"),
    ({"loop.batch": 3, "loop.micro_batch": 2}, "multiple of micro_batch"), ({"frozen": "int8"}, "must be one of float32"),
    ({"loop.rate": 1}, "loop.rate: unknown key"), ({"loop.distribution": "fsdp"}, "start it with torchrun"),
])
def test_mistakes_are_one_line(place, tmp_path, capsys, change, message):
    assert main(words(place, tmp_path / "run", **change)) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_boxes_of_another_convention_are_refused(place, tmp_path, capsys):
    row = {"id": "a", "image": "0.jpg", "size": [80, 60], "conversation": [["q", "[1, 2, 3, 4]"]], "codec": "thousand"}
    (tmp_path / "x.jsonl").write_text(json.dumps(row) + "\n")
    command = [word for word in words(place, tmp_path / "run") if not word.startswith("data.")]
    assert main([*command, f"data=[{{path: {tmp_path / 'x.jsonl'}, images: {place / 'frames'}}}]"]) == 2
    assert "boxes are written as 'thousand', the model writes 'braces'" in capsys.readouterr().err
