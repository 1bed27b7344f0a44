"""The training loop: any recipe, on one process or many, exact under interruption.

One optimizer step takes a global batch of `batch` items, cut into passes of `micro_batch` items; pass m of the batch runs
on process m mod processes. Order of the data, learning rate and random numbers of a pass are functions of the seed and of
(step, m), and each loss is a mean over the terms of the whole global batch, so the curve depends neither on the number of
processes nor on interruptions, up to the rounding of sums.
"""

import json
import math
import os
import signal
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from egohoi.errors import BadConfig, EgohoiError
from egohoi.training import checkpoints, data
from egohoi.training import config as configuration
from egohoi.training.config import LoopConfig
from egohoi.training.recipe import Recipe


@dataclass(frozen=True)
class Result:
    """What a run ended with. step: optimizer steps done; finished: all of them (else it was asked to stop).
    loss: of the last step, None if none was taken now. files: written by the recipe's export."""

    step: int
    finished: bool
    loss: float | None
    out: Path
    files: tuple[Path, ...] = ()


def learning_rate(step: int, config: LoopConfig) -> float:
    """Learning rate of optimizer step `step` (from 0): linear from warmup_lr to lr over warmup_steps, then a half cosine to
    min_lr at the last step."""
    if step < config.warmup_steps:
        return config.warmup_lr + (config.lr - config.warmup_lr) * step / config.warmup_steps
    span = max(1, config.steps - 1 - config.warmup_steps)
    share = min(1.0, (step - config.warmup_steps) / span)
    return config.min_lr + (config.lr - config.min_lr) * 0.5 * (1 + math.cos(math.pi * share))


def pass_seed(seed: int, step: int, cut: int) -> int:
    """Seed of the random numbers (dropout) in pass `cut` of the global batch of `step`."""
    import numpy as np

    return int(np.random.SeedSequence((seed, 3, step, cut)).generate_state(1, np.uint64)[0] >> 1)


def fit(recipe: Recipe, config: LoopConfig, out, facts: Mapping) -> Result:
    """Train `recipe` and write into the folder `out`: `config.yaml`, `log.jsonl`, checkpoints, `tensorboard/`, exports.

    facts: the whole configuration as plain values, kept in each checkpoint; a run is resumed only under the same one
    (config.HARMLESS keys of its section `loop` and `out` apart). All processes must see the same folder. SIGTERM or Ctrl-C
    ends the run after the current step, with a checkpoint. Raises EgohoiError.
    """
    import torch

    from egohoi.training import distribution, progress

    out = Path(out)
    before = _resumable(out, config, facts)
    place = distribution.start(config, shard=recipe.shard, unused_parameters=recipe.unused_parameters)
    try:
        if config.deterministic:
            torch.use_deterministic_algorithms(True, warn_only=True)
        torch.manual_seed(config.seed)
        model = recipe.model()
        names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
        if not names:
            raise BadConfig(f"{recipe.name}: no parameter of the model is trained")
        names += list(recipe.trained_buffers())
        saved = checkpoints.load(before) if before is not None else None
        if saved is not None:
            checkpoints.put(model, saved.trained, names, str(before))
        elif config.init is not None:
            checkpoints.put(model, checkpoints.trained_weights(config.init), names, config.init)
        start = saved.step if saved is not None else 0

        groups = [{"lr": config.lr, **group} for group in recipe.groups(model, config)]
        peaks = [group["lr"] / config.lr if config.lr else 1.0 for group in groups]
        optimizer = torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, eps=config.eps)
        size = sum(group_parameter.numel() for group in groups for group_parameter in group["params"])
        mixture = recipe.data()
        model, optimizer = place.wrap(model, optimizer)
        if saved is not None:
            place.load_optimizer_state(model, optimizer, saved.optimizer)
            place.load_scaler_state(saved.scaler)
            del saved

        reporters = []
        if place.main:
            _prepare(out, facts)
            line = progress.Progress(recipe.name, start, config.steps, config.log_every)
            tracked, notes = progress.trackers(config.trackers, out, start, facts)
            reporters = [line, progress.Curve(out, start), *tracked]
            for note in (*notes, f"{recipe.name}: {size:,} trained numbers, {place.processes} process(es) ({place.kind}), "
                         f"{config.precision}, steps {start} to {config.steps}, batch {config.batch}, into {out}"):
                line.say(note)

        def save(step: int) -> None:
            trained, state = place.trained(model, names), place.optimizer_state(model, optimizer)
            if place.main:
                checkpoints.save(out, checkpoints.Checkpoint(step, dict(facts), trained, state, place.scaler_state()), config.keep)
            place.wait()

        order = data.Passes(range(start, config.steps), config.batch, config.micro_batch, place.process, place.processes)
        passes = iter(data.loader(recipe, mixture, order, seed=config.seed, broken=config.broken, workers=config.workers))
        step, loss, stopped = start, None, False
        watch = progress.Stopwatch()
        try:
            with _StopSignals() as signals:
                while step < config.steps and not stopped:
                    for group, peak in zip(optimizer.param_groups, peaks):
                        group["lr"] = learning_rate(step, config) * peak
                    batches = [next(passes) for _ in range(config.batch // config.micro_batch // place.processes)]
                    stopped = _agree(batches, signals.asked, place, reporters)
                    losses, loss, norm = _update(recipe, config, place, model, optimizer, batches, step)
                    step += 1
                    row = progress.Row(step, loss, losses, learning_rate(step - 1, config), norm, config.batch, watch.lap())
                    for reporter in reporters:
                        reporter.step(row)
                    if stopped or step % config.save_every == 0 or step == config.steps:
                        save(step)
        finally:
            for reporter in reporters:
                reporter.close()

        files: tuple[Path, ...] = ()
        if step == config.steps and place.main:
            files = tuple(recipe.export(checkpoints.trained_weights(checkpoints.folder(out, step)), out))
        place.wait()
        return Result(step, step == config.steps, loss, out, files)
    finally:
        place.close()


def _resumable(out: Path, config: LoopConfig, facts: Mapping) -> Path | None:
    """The checkpoint that this run goes on from, or None. Raises BadConfig if `out` holds another run's."""
    steps = checkpoints.steps(out)
    if not steps:
        return None
    folder = checkpoints.folder(out, steps[-1])
    if not config.resume:
        raise BadConfig(f"{out}: holds a run of {steps[-1]} steps: name another folder (out=...), or go on with loop.resume=true")
    known = json.loads((folder / checkpoints.STATE).read_text(encoding="utf-8")).get("config", {})
    changed = configuration.differences(known, facts)
    if changed:
        raise BadConfig(
            f"{out}: was trained under another configuration ({'; '.join(changed[:3])}{'; ...' if len(changed) > 3 else ''}): "
            "take the old values to go on, or another folder (out=...), there with loop.init to start from these weights"
        )
    return folder


def _prepare(out: Path, facts: Mapping) -> None:
    """The run's folder, with its configuration. Raises BadConfig if it cannot be written."""
    import yaml

    try:
        out.mkdir(parents=True, exist_ok=True)
        part = out / "config.yaml.part"
        part.write_text(yaml.safe_dump(dict(facts), sort_keys=False, allow_unicode=True), encoding="utf-8")
        os.replace(part, out / "config.yaml")
    except OSError as error:
        raise BadConfig(f"out: {out} cannot be written ({error.strerror}): name another folder") from error


def _agree(batches: list[data.Batch], asked: bool, place, reporters) -> bool:
    """Tell all processes whether one of them cannot go on or was asked to stop. Returns whether this step is the last."""
    error = next((batch.error for batch in batches if batch.error is not None), None)
    failed, stop = place.sum([error is not None, asked])
    if error is not None:
        raise error
    if failed:
        raise EgohoiError("another process met data that cannot be read, and says which")
    for batch in batches:
        for problem in batch.problems:
            if reporters:
                reporters[0].say(f"replaced: {problem}")
            elif not place.main:
                print(f"replaced: {problem}")
    return stop > 0


def _update(recipe: Recipe, config: LoopConfig, place, model, optimizer, batches, step: int) -> tuple[dict, float, float]:
    """One optimizer step. Returns the losses (means over the global batch), their weighted sum, and the gradient's norm."""
    import torch

    optimizer.zero_grad(set_to_none=True)
    counts = [recipe.counts(batch.content) for batch in batches]
    names = sorted(counts[0])
    totals = place.sum([sum(count[name] for count in counts) for name in names])
    terms = dict(zip(names, totals))
    means: dict[str, torch.Tensor] = {}
    for number, (batch, count) in enumerate(zip(batches, counts)):
        torch.manual_seed(pass_seed(config.seed, step, number * place.processes + place.process))
        with place.pending(model, more=number < len(batches) - 1):
            losses = recipe.losses(model, _to(batch.content, place.device))
            shares = {
                name: (count[name] / terms[name] if terms[name] else 0.0) if name in terms else batch.items / config.batch
                for name in losses
            }
            # processes average their gradients, the shares already add up to one over all of them
            total = sum(recipe.weights.get(name, 1.0) * shares[name] * value for name, value in losses.items()) * place.processes
            place.backward(total)
        for name, value in losses.items():
            means[name] = means.get(name, 0.0) + value.detach().double() * shares[name]
    order = list(means)
    values = dict(zip(order, place.sum(torch.stack([means[name] for name in order]).tolist())))
    loss = sum(recipe.weights.get(name, 1.0) * value for name, value in values.items())
    norm = place.clip([parameter for group in optimizer.param_groups for parameter in group["params"]], config.clip)
    scaled = bool(place.scaler_state())  # float16: the scaler leaves out steps with overflowing gradients
    if not math.isfinite(loss) or not (math.isfinite(norm) or scaled):
        raise EgohoiError(
            f"step {step + 1}: the {'loss' if not math.isfinite(loss) else 'gradient'} is not finite "
            f"({', '.join(f'{name} {value:g}' for name, value in values.items())}): lower loop.lr or mend the data; nothing was updated"
        )
    optimizer.step()
    return values, loss, norm


def _to(batch, device):
    """Tensors in dicts, lists and tuples moved to the device; the rest as it is."""
    import torch

    if isinstance(batch, torch.Tensor):
        return batch.to(device, non_blocking=True)
    if isinstance(batch, Mapping):
        return {key: _to(value, device) for key, value in batch.items()}
    if isinstance(batch, (list, tuple)) and not hasattr(batch, "_fields"):
        return type(batch)(_to(value, device) for value in batch)
    return batch


class _StopSignals:
    """SIGTERM and the first Ctrl-C set `asked`; a second Ctrl-C interrupts at once. Only in the main thread."""

    def __init__(self):
        self.asked = False
        self._before: dict = {}

    def __enter__(self) -> "_StopSignals":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._ask)
        return self

    def _ask(self, number, frame) -> None:
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.asked = True

    def __exit__(self, *error) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
