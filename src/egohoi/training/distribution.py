"""One process, DDP or FSDP through accelerate, behind what the loop needs: wrap, reduce, collect, load."""

import contextlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from egohoi.errors import BadConfig, need
from egohoi.training.config import LoopConfig

_MIXED = {"float32": "no", "bfloat16": "bf16", "float16": "fp16"}


@dataclass(frozen=True)
class Distribution:
    """The processes of a run, as accelerate sees them. Made by `start`."""

    accelerator: Any
    kind: str

    @property
    def processes(self) -> int:
        return self.accelerator.num_processes

    @property
    def process(self) -> int:
        return self.accelerator.process_index

    @property
    def main(self) -> bool:
        """Whether this is the process that writes files and prints."""
        return self.accelerator.is_main_process

    @property
    def device(self):
        return self.accelerator.device

    def wrap(self, model, optimizer):
        """Model and optimizer made ready for these processes, the model on its device."""
        return self.accelerator.prepare(model, optimizer)

    def sum(self, values: Sequence[float]) -> list[float]:
        """Element-wise sum over the processes; float64 where the device has it."""
        import torch

        kind = torch.float32 if self.device.type == "mps" else torch.float64
        tensor = torch.tensor(list(values), dtype=kind, device=self.device)
        return self.accelerator.reduce(tensor, "sum").tolist()

    def pending(self, model, more: bool):
        """Context of a pass after which more passes of the same step follow: gradients are not exchanged yet."""
        return self.accelerator.no_sync(model) if more else contextlib.nullcontext()

    def backward(self, loss) -> None:
        self.accelerator.backward(loss)

    def clip(self, parameters: Sequence, limit: float | None) -> float:
        """Norm of the whole gradient, before it is cut to `limit` (None: only measured)."""
        norm = self.accelerator.clip_grad_norm_(list(parameters), float("inf") if limit is None else limit)
        return float(norm.full_tensor() if hasattr(norm, "full_tensor") else norm)

    def wait(self) -> None:
        self.accelerator.wait_for_everyone()

    def trained(self, model, names: Sequence[str]) -> dict:
        """Whole CPU tensors of the parameters and buffers `names`, in every process that `main` is true for; others
        get an empty dict, but must call this as well."""
        from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

        options = StateDictOptions(full_state_dict=True, cpu_offload=True)
        if self.kind == "fsdp":
            # only what is trained is gathered: a frozen 7B would not fit one process
            options = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=True)
        state = get_model_state_dict(model, options=options) if self.kind == "fsdp" else _plain_state(model)
        if not self.main:
            return {}
        return {name: state[name].detach().to("cpu", copy=True).contiguous() for name in names}

    def optimizer_state(self, model, optimizer) -> dict[str, dict]:
        """AdamW's state by parameter name, whole CPU tensors; empty in processes that are not `main`."""
        from torch.distributed.checkpoint.state_dict import StateDictOptions, get_optimizer_state_dict

        options = StateDictOptions(full_state_dict=True, cpu_offload=True)
        state = get_optimizer_state_dict(model, _inner(optimizer), options=options).get("state", {})
        return {name: dict(values) for name, values in state.items()} if self.main else {}

    def load_optimizer_state(self, model, optimizer, state: Mapping[str, Mapping]) -> None:
        """Put back what `optimizer_state` gave; every process passes the same whole tensors."""
        from torch.distributed.checkpoint.state_dict import StateDictOptions, get_optimizer_state_dict, set_optimizer_state_dict

        inner = _inner(optimizer)
        # the groups as they are (the schedule sets the learning rate); the state by name, whatever the number of processes was
        options = StateDictOptions(full_state_dict=True, cpu_offload=True)
        groups = get_optimizer_state_dict(model, inner, options=StateDictOptions(full_state_dict=False))["param_groups"]
        set_optimizer_state_dict(
            model, inner, {"state": {name: dict(values) for name, values in state.items()}, "param_groups": groups}, options=options
        )

    def scaler_state(self) -> dict:
        """State of the float16 loss scaler; empty with other precisions."""
        return dict(self.accelerator.scaler.state_dict()) if self.accelerator.scaler is not None else {}

    def load_scaler_state(self, state: Mapping) -> None:
        if state and self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(dict(state))

    def close(self) -> None:
        """Leave the process group, if this run made one, and let the next run in this process choose anew."""
        from accelerate.state import AcceleratorState

        self.accelerator.end_training()
        AcceleratorState._reset_state(reset_partial_state=True)


def _inner(optimizer):
    """The torch optimizer inside accelerate's wrapper."""
    return getattr(optimizer, "optimizer", optimizer)


def _plain_state(model) -> dict:
    from torch.nn.parallel import DistributedDataParallel

    return (model.module if isinstance(model, DistributedDataParallel) else model).state_dict()


def start(config: LoopConfig, *, shard: Sequence[str] = (), unused_parameters: bool = False) -> Distribution:
    """Join the processes of this run (torchrun's or accelerate's environment; none: one process).

    shard: names of the module classes that FSDP splits one by one. Raises BadConfig (a split that does not come out
    even, float16 without a GPU), MissingExtra.
    """
    accelerate = need("accelerate", "train")
    import torch

    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if config.batch % (config.micro_batch * processes):
        raise BadConfig(
            f"loop.batch ({config.batch}) must be a multiple of micro_batch x processes ({config.micro_batch} x {processes}): "
            f"try batch={max(1, round(config.batch / (config.micro_batch * processes))) * config.micro_batch * processes}"
        )
    cpu = config.device == "cpu" or not torch.cuda.is_available() and not _other_accelerator(torch)
    if cpu and config.precision == "float16":
        raise BadConfig("loop.precision: float16 needs a GPU: use bfloat16 or float32 on a CPU")
    plugin = None
    if config.distribution == "fsdp" and "LOCAL_RANK" in os.environ:
        if not shard:
            raise BadConfig("loop.distribution: this recipe does not say how to split its model: use ddp")
        plugin = accelerate.FullyShardedDataParallelPlugin(
            fsdp_version=2, auto_wrap_policy="transformer_based_wrap", transformer_cls_names_to_wrap=list(shard),
            reshard_after_forward=True, cpu_ram_efficient_loading=False,
        )
    elif config.distribution == "fsdp":
        raise BadConfig("loop.distribution: fsdp splits a model over processes: start it with torchrun or accelerate launch")
    keywords = accelerate.DistributedDataParallelKwargs(find_unused_parameters=unused_parameters)
    accelerator = accelerate.Accelerator(
        cpu=cpu, mixed_precision=_MIXED[config.precision], fsdp_plugin=plugin, kwargs_handlers=[keywords],
        gradient_accumulation_steps=1, dynamo_backend="no",
    )
    if plugin is not None and not accelerator.is_fsdp2:
        # accelerate switches FSDP on for accelerators only; torch splits over gloo as well, which makes a rehearsal
        # of a big run possible without a GPU
        state = accelerator.state
        state.distributed_type = accelerate.utils.DistributedType.FSDP
        if config.precision != "float32":
            plugin.set_mixed_precision(_MIXED[config.precision])
        state.fsdp_plugin = plugin
    kind = "fsdp" if plugin is not None else "ddp" if accelerator.num_processes > 1 else "one"
    return Distribution(accelerator, kind)


def _other_accelerator(torch) -> bool:
    return bool(getattr(torch.backends, "mps", None) and torch.backends.mps.is_available())
