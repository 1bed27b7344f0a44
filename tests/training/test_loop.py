"""The loop on a small recipe: accumulation, schedule, clipping, precision, interruption, curve, trackers, broken data."""

import json
import signal
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml

from egohoi.apps.cli import main
from egohoi.errors import BadConfig
from egohoi.training import checkpoints, loop, progress
from egohoi.training.config import LoopConfig
from egohoi.training.recipe import decay_groups

torch.set_num_threads(1)
LOOP = {"steps": 6, "batch": 8, "micro_batch": 2, "lr": 1e-2, "warmup_lr": 1e-3, "warmup_steps": 2, "save_every": 2, "workers": 0,
        "trackers": [], "log_every": 100}


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """toy(out, *words) -> exit status of `egohoi train` on the toy recipe, in this process."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    rows = [{"id": f"e{k}", "image": "x.jpg", "size": [4, 4], "conversation": [[f"where is {k}", "abcd"[: 1 + k % 4]]]} for k in range(21)]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = {"recipe": "toy_recipe", "out": "unused", "data": [{"path": str(tmp_path / "data.jsonl")}], "loop": LOOP}
    (tmp_path / "toy.yaml").write_text(yaml.safe_dump(config))

    def train(out, *words):
        return main(["train", str(tmp_path / "toy.yaml"), f"out={tmp_path / out}", *words])

    train.folder = tmp_path
    return train


def curve(folder):
    return [row["loss"] for row in progress.read_curve(folder)]


def weights(folder):
    return checkpoints.trained_weights(folder)


def same(a, b, tolerance=0.0):
    return a.keys() == b.keys() and all(torch.allclose(a[k], b[k], rtol=0, atol=tolerance) for k in a)


def test_schedule():
    config = LoopConfig(steps=11, warmup_steps=4, warmup_lr=1.0, lr=5.0, min_lr=1.0)
    rates = [loop.learning_rate(step, config) for step in range(11)]
    # six steps of cosine: 1 + 4 (1 + cos(k pi / 6)) / 2
    expected = [1, 2, 3, 4, 5, 4.732051, 4, 3, 2, 1.267949, 1]
    assert rates == pytest.approx(expected, abs=1e-6)


def test_biases_and_norms_do_not_decay():
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.LayerNorm(2), torch.nn.Linear(2, 2))
    model[2].requires_grad_(False)
    groups = decay_groups(model.named_parameters(), 0.05, lr=3)
    assert [(len(g["params"]), g["weight_decay"], g["lr"]) for g in groups] == [(1, 0.05, 3), (3, 0.0, 3)]


def test_accumulation_is_the_large_batch(toy):
    """Two losses over different counts: the mean over the whole batch, however it is cut; dropout is off, it is drawn by pass."""
    for micro in (8, 4, 1):
        assert toy(f"m{micro}", "dropout=0", f"loop.micro_batch={micro}", "loop.steps=4") == 0
    whole = curve(toy.folder / "m8")
    for micro in (4, 1):
        assert curve(toy.folder / f"m{micro}") == pytest.approx(whole, abs=1e-5)
        assert same(weights(toy.folder / f"m{micro}"), weights(toy.folder / "m8"), 1e-5)
    assert max(whole) - min(whole) > 0.1


def test_the_gradient_is_clipped_after_it_is_measured(toy):
    """AdamW hides a constant factor, so the gradients themselves are looked at."""
    from egohoi.training import distribution

    place = distribution.start(LoopConfig(device="cpu"))
    try:
        parameters = [torch.nn.Parameter(torch.zeros(2)), torch.nn.Parameter(torch.zeros(1))]
        parameters[0].grad, parameters[1].grad = torch.tensor([3.0, 0.0]), torch.tensor([4.0])
        assert place.clip(parameters, None) == pytest.approx(5) and float(parameters[1].grad) == 4
        assert place.clip(parameters, 1.0) == pytest.approx(5)
        assert parameters[0].grad.tolist() == pytest.approx([0.6, 0], abs=1e-5) and float(parameters[1].grad) == pytest.approx(0.8, abs=1e-5)
    finally:
        place.close()
    assert toy("a", "loop.steps=2", "loop.clip=1e-6") == 0
    assert all(row["norm"] > 0.1 for row in progress.read_curve(toy.folder / "a"))


def test_bfloat16_computes_in_16_bits_and_keeps_weights_in_32(toy):
    assert toy("a", "loop.precision=float32") == 0 and toy("b", "loop.precision=bfloat16") == 0
    exact, rough = curve(toy.folder / "a"), curve(toy.folder / "b")
    assert rough != exact and rough == pytest.approx(exact, rel=0.05)
    assert all(t.dtype == torch.float32 for t in weights(toy.folder / "b").values())
    if not torch.cuda.is_available():
        assert toy("c", "loop.precision=float16") == 2


def test_a_run_in_two_parts_is_the_run_in_one(toy):
    assert toy("whole", "loop.deterministic=true") == 0
    assert toy("parts", "loop.deterministic=true", "loop.save_every=1", "loop.keep=9") == 0
    for step in (5, 6):
        import shutil

        shutil.rmtree(checkpoints.folder(toy.folder / "parts", step))
    assert toy("parts", "loop.deterministic=true") == 0
    assert curve(toy.folder / "parts") == curve(toy.folder / "whole")
    assert same(weights(toy.folder / "parts"), weights(toy.folder / "whole"))
    torch.use_deterministic_algorithms(False)


def test_checkpoints_hold_only_what_is_trained(toy, capsys):
    assert toy("a") == 0
    assert capsys.readouterr().out.endswith(f"wrote {toy.folder / 'a' / 'exported.pt'}\n")
    names = {f"blocks.{k}.tuned.{n}" for k in (0, 1) for n in ("weight", "bias")} | {f"{m}.{n}" for m in ("words", "length") for n in ("weight", "bias")}
    assert set(weights(toy.folder / "a")) == names
    saved = checkpoints.load(checkpoints.folder(toy.folder / "a", 6))
    assert set(saved.optimizer) == names and saved.config["loop"]["lr"] == 1e-2
    assert checkpoints.steps(toy.folder / "a") == [4, 6]
    assert set(torch.load(toy.folder / "a" / "exported.pt", weights_only=True)) == names
    assert yaml.safe_load((toy.folder / "a" / "config.yaml").read_text())["loop"]["steps"] == 6


def test_a_finished_run_does_nothing_and_another_configuration_is_refused(toy, capsys):
    assert toy("a", "loop.steps=2") == 0
    before = curve(toy.folder / "a")
    assert toy("a", "loop.steps=2", "loop.save_every=1", "loop.log_every=3") == 0
    assert curve(toy.folder / "a") == before
    capsys.readouterr()
    for words, message in ((["loop.lr=1"], "loop.lr: 0.01 -> 1.0"), (["dropout=0.2"], "dropout: 0.1 -> 0.2"), (["loop.resume=false"], "resume")):
        assert toy("a", "loop.steps=2", *words) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
    assert toy("b", "loop.steps=1", f"loop.init={toy.folder / 'a'}", "loop.lr=0", "loop.warmup_lr=0") == 0
    assert same(weights(toy.folder / "b"), weights(toy.folder / "a"))


def test_a_loss_that_is_not_finite_stops_with_one_line(toy, capsys):
    assert toy("a", "loop.steps=2") == 0
    broken = {name: torch.full_like(t, float("nan")) for name, t in weights(toy.folder / "a").items()}
    from safetensors.torch import save_file

    save_file(broken, toy.folder / "nan.safetensors")
    capsys.readouterr()
    assert toy("b", f"loop.init={toy.folder / 'nan.safetensors'}") == 2
    error = capsys.readouterr().err
    assert "step 1: the loss is not finite" in error and error.count("\n") == 1
    assert checkpoints.steps(toy.folder / "b") == []


def test_an_item_that_cannot_be_read_stops_the_run_or_is_replaced(toy, capsys):
    assert toy("a", "broken_id=e7", "loop.steps=3") == 2
    assert "item 7: x.jpg" in (error := capsys.readouterr().err).replace(str(toy.folder) + "/", "") and error.count("\n") == 1
    assert toy("b", "broken_id=e7", "loop.steps=3", "loop.broken=replace") == 0
    assert "replaced: " in (said := capsys.readouterr().out) and "item 7" in said
    assert len(curve(toy.folder / "b")) == 3


def test_the_curve_and_tensorboard_say_the_same(toy, monkeypatch):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert toy("a", "loop.trackers=null", "loop.steps=3") == 0
    board = EventAccumulator(str(toy.folder / "a" / "tensorboard"))
    board.Reload()
    assert set(board.Tags()["scalars"]) == {"loss", "loss/answer", "loss/length", "lr", "gradient norm", "samples per second"}
    rows = progress.read_curve(toy.folder / "a")
    assert [e.value for e in board.Scalars("loss")] == pytest.approx([r["loss"] for r in rows])
    assert [e.step for e in board.Scalars("lr")] == [1, 2, 3]
    assert [r["lr"] for r in rows] == pytest.approx([1e-3, 5.5e-3, 1e-2])
    assert all(r["loss"] == pytest.approx(r["losses"]["answer"] + 0.5 * r["losses"]["length"]) for r in rows)


def test_wandb_if_it_is_there(toy, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "wandb", None)
    assert toy("a", "loop.trackers=[wandb]") == 2
    assert "pip install wandb" in capsys.readouterr().err
    logged = []

    class Run:
        id = "abc"
        log = staticmethod(lambda values, step: logged.append((step, values)))
        finish = staticmethod(lambda: logged.append("end"))

    fake = type(sys)("wandb")
    fake.init = lambda **options: logged.append(options) or Run
    monkeypatch.setitem(sys.modules, "wandb", fake)
    assert toy("b", "loop.trackers=[wandb]", "loop.steps=2") == 0
    assert logged[0]["id"] is None and logged[0]["config"]["loop"]["lr"] == 1e-2 and logged[-1] == "end"
    assert [entry[0] for entry in logged[1:-1]] == [1, 2] and {"loss", "lr"} <= set(logged[1][1])
    assert toy("b", "loop.trackers=[wandb]", "loop.steps=2") == 0
    assert logged[4]["id"] == "abc"  # the same run goes on


def test_progress_says_loss_rate_speed_and_time_left():
    row = progress.Row(step=10, loss=1.5, losses={"a": 1.0, "b": 0.5}, lr=1e-4, norm=2.0, items=8, seconds=2.0)
    assert progress.line(row, 100, 4.0) == "step 10/100  loss 1.5000 (a 1.0000, b 0.5000)  lr 1.00e-04  4.0 samples/s  left 0:03:00"
    assert progress.clock(3723.4) == "1:02:03"
    import io

    import rich.console

    shown = io.StringIO()
    live = progress.Progress("toy", 0, 3, 10, rich.console.Console(file=shown, force_terminal=True, width=140))
    for step in (1, 2, 3):
        live.step(progress.Row(step, 1.0 / step, {"a": 1.0 / step}, 1e-3, 1.0, 8, 1.0))
    live.close()
    assert "loss 0.3333" in shown.getvalue() and "8.0 samples/s" in shown.getvalue() and "left 0:00:00" in shown.getvalue()


def test_a_half_written_line_of_the_curve_is_dropped(tmp_path):
    whole = progress.Curve(tmp_path, 0)
    for step in (1, 2, 3):
        whole.step(progress.Row(step, 1.0, {"a": 1.0}, 1e-3, 1.0, 8, 1.0))
    whole.close()
    with open(tmp_path / "log.jsonl", "a") as file:
        file.write('{"step": 4, "lo')
    assert [row["step"] for row in progress.read_curve(tmp_path)] == [1, 2, 3]
    progress.Curve(tmp_path, 2).close()
    assert [row["step"] for row in progress.read_curve(tmp_path)] == [1, 2]


def test_recipes_are_named_or_one_is_suggested(tmp_path, capsys):
    for text, message in (("recipe: vlm4hio", "did you mean 'vlm4hoi'"), ("a: 1", "recipe: missing"), ("recipe: no.such.module", "no recipe")):
        (tmp_path / "c.yaml").write_text(text)
        assert main(["train", str(tmp_path / "c.yaml")]) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1


def test_sigterm_ends_after_the_step_with_a_checkpoint(toy, processes):
    words = ["train", toy.folder / "toy.yaml", f"out={toy.folder / 'a'}", "loop.steps=100000", "loop.save_every=100000"]
    here = {"PYTHONPATH": str(Path(__file__).parent)}
    (process,) = processes.start(words, toy.folder, **here)
    while not curve(toy.folder / "a") and process.is_alive():
        time.sleep(0.05)
    import os

    os.kill(process.pid, signal.SIGTERM)
    assert processes.wait([process]) == [130], processes.output(toy.folder)
    done = checkpoints.steps(toy.folder / "a")
    assert f"stopped after step {done[-1]}: the same command goes on" in processes.output(toy.folder)
    assert len(done) == 1 and len(curve(toy.folder / "a")) == done[0]


def test_batches_that_do_not_divide_are_refused(monkeypatch):
    from egohoi.training import distribution

    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(BadConfig, match=r"multiple of micro_batch x processes \(2 x 3\): try batch=6"):
        distribution.start(LoopConfig(batch=8, micro_batch=2, device="cpu"))
    monkeypatch.setenv("WORLD_SIZE", "1")
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    with pytest.raises(BadConfig, match="start it with torchrun"):
        distribution.start(LoopConfig(distribution="fsdp", device="cpu"), shard=("Block",))
