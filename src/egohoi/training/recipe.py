"""What a model brings to the training loop. The loop knows no model, a recipe knows no loop.

A recipe module is `egohoi.training.NAME` (or any importable module) with `run(config: dict)`: it builds its typed
configuration, makes a `Recipe`, and hands it to `egohoi.training.loop.fit`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from egohoi.records import Example
    from egohoi.training.data import Mixture


class Recipe:
    """Base of all recipes: `model`, `data`, `item`, `collate` and `losses` are written, the rest may be replaced.

    Rules that make a run exact (same curve on 1 and N processes, same curve after any interruption):
    - `item` draws from its `rng` alone; `losses` may use torch's random numbers (dropout), which the loop seeds anew for
      each pass from (seed, step, place of the pass in the global batch);
    - `losses` calls `model(...)`, the wrapped model, exactly once, and no sub-module of it: DDP and FSDP work in that call;
    - state that lives in the model and changes while training is either trained (`requires_grad`) or a buffer named by
      `trained_buffers`; nothing else is saved.
    """

    #: short name, for the progress line and the messages
    name: str = ""
    #: factor of each loss in the trained sum; a name that is missing here counts 1, 0 is logged but not trained
    weights: Mapping[str, float] = {}
    #: names of the module classes whose instances FSDP splits one by one (transformer blocks)
    shard: Sequence[str] = ()
    #: whether a pass may leave trained parameters without a gradient (DDP then looks for them, which costs time)
    unused_parameters: bool = False

    def model(self) -> "torch.nn.Module":
        """The model on the CPU with `requires_grad` set on exactly the trained parameters (kept in float32).

        Called once in each process, after torch's random numbers are seeded with the run's seed, so that fresh trained
        weights are the same everywhere. It comes in the mode that it is to be trained in (frozen parts without dropout),
        with gradient checkpointing switched on if wanted: the loop calls neither `train` nor `eval`. Raises BadWeights, BadConfig.
        """
        raise NotImplementedError

    def data(self) -> "Mixture":
        """The data sets and their shares. Balanced sampling is a mixture of subsets (`data.Subset`). Raises BadData."""
        raise NotImplementedError

    def item(self, example: "Example", rng) -> Any:
        """One example -> what `collate` takes, on the CPU, in a data process.

        rng: numpy Generator that depends on the seed and the item's place in the run only; use it for augmentation.
        Raises EgohoiError for an item that cannot be used (`broken` in LoopConfig says what then happens).
        """
        raise NotImplementedError

    def collate(self, items: list) -> Any:
        """Items of one pass -> batch: tensors in dicts, lists or tuples, which the loop moves to the device."""
        raise NotImplementedError

    def losses(self, model, batch) -> "dict[str, torch.Tensor]":
        """One forward pass -> scalar means by name, always the same names. Σ weights[name] · value is trained.

        A value is the mean over `counts(batch)[name]` terms; a mean over no terms is 0, still connected to the graph.
        """
        raise NotImplementedError

    def counts(self, batch) -> dict[str, float]:
        """Over how many terms each loss of `batch` is a mean (answer tokens, masks, pixels): read from the batch on the
        CPU, before the forward pass. A name that is missing counts the items.

        With them the loss of an optimizer step is the mean over the terms of the whole global batch, whatever the number
        of processes and passes that it was cut into.
        """
        return {}

    def groups(self, model, config) -> list[dict]:
        """Parameter groups for AdamW; default: weight decay on matrices, none on biases and norms. lr is config.lr unless
        a group says otherwise; the schedule scales all alike. model: not wrapped yet; config: LoopConfig."""
        return decay_groups(model.named_parameters(), config.weight_decay)

    def trained_buffers(self) -> Sequence[str]:
        """Names of buffers that training changes and that must be saved (running statistics). Not with FSDP."""
        return ()

    def export(self, trained: "dict[str, torch.Tensor]", folder: Path) -> list[Path]:
        """Write the final files into `folder` (the run's folder) and return their paths; called at the end, in one process.

        trained: CPU tensors by parameter name, those of `trained.safetensors`. Default: nothing beside the checkpoint.
        """
        return []


def decay_groups(named: "Any", weight_decay: float, **shared) -> list[dict]:
    """Two parameter groups of the trained ones among `named` (name, parameter) pairs: tensors of two or more dimensions
    decay, biases and norms do not. shared: further keys of both groups (lr, betas)."""
    trained = [(name, parameter) for name, parameter in named if parameter.requires_grad]
    decaying = [parameter for _, parameter in trained if parameter.ndim >= 2]
    others = [parameter for _, parameter in trained if parameter.ndim < 2]
    groups = [{"params": decaying, "weight_decay": weight_decay, **shared}, {"params": others, "weight_decay": 0.0, **shared}]
    return [group for group in groups if group["params"]]
