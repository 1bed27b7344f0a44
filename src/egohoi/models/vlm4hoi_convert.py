"""Official files of VLM4HOI or MiniGPT-v2 -> one folder, and a trained model -> the official layout.

First a plan is made from names and shapes alone (`plan`); it says where each tensor goes, and fails before anything is
read or written. Then tensors are copied one by one into shards.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F

from egohoi.errors import BadConfig, BadWeights
from egohoi.models import weights
from egohoi.models.vlm4hoi_folder import PRECISIONS, shapes_of, write_sidecars
from egohoi.models.vlm4hoi_module import VLM4HOIConfig
from egohoi.models.vlm4hoi_names import PUBLISHED_BLOCKS, lora_module, official, place
from egohoi.models.vlm4hoi_processor import VLM4HOIProcessor, load_tokenizer

#: What is kept of a Llama folder's config.json: what changes the computation or the prompt.
_LLAMA_KEYS = (
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
    "max_position_embeddings", "rms_norm_eps", "rope_theta", "rope_scaling", "rope_parameters", "hidden_act", "head_dim",
    "attention_bias", "mlp_bias", "bos_token_id", "eos_token_id",
)


@dataclass
class Report:
    """What a conversion does with every tensor. used: (source, official name, our name); dropped: (source, name, why);
    filled: (our name, with what); missing: our names that no file has; unexpected: (source, name) that no table knows.
    """

    used: list[tuple[str, str, str]] = field(default_factory=list)
    dropped: list[tuple[str, str, str]] = field(default_factory=list)
    filled: list[tuple[str, str]] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unexpected: list[tuple[str, str]] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        return not self.missing and not self.unexpected

    def to_json(self) -> dict:
        return {k: [list(v) if isinstance(v, tuple) else v for v in getattr(self, k)] for k in self.__dataclass_fields__}


@dataclass
class Plan:
    """config: of the new model; steps: our name -> the (source, official names) it is made of; shapes: our names' shapes."""

    config: VLM4HOIConfig
    sources: dict[str, weights.WeightFile | weights.WeightFolder]
    steps: dict[str, tuple[str, tuple[str, ...]]]
    shapes: dict[str, tuple[int, ...]]
    report: Report


def plan(
    llama: str | Path, eva: str | Path, checkpoint: str | Path, *, vit_heads: int = 16, vit_blocks: int | None = None,
    image_size: int = 448, lora_alpha: float = 16,
) -> Plan:
    """Read names and shapes of the three sources and decide where everything goes.

    Raises BadWeights for files that are no such files or whose sizes contradict each other; tensors that are missing
    or unknown are in the report, for the caller to refuse.
    """
    sources = {
        "llama": weights.WeightFolder(llama), "eva": weights.WeightFile(eva), "checkpoint": weights.WeightFile(checkpoint),
    }
    config = _config(sources, Path(llama), vit_heads, vit_blocks, image_size, lora_alpha)
    shapes = shapes_of(config)
    report = Report()
    steps: dict[str, tuple[str, tuple[str, ...]]] = {}
    # The checkpoint comes last: what it holds of the encoder was trained and replaces EVA's.
    for source in ("llama", "eva", "checkpoint"):
        for name in sources[source].names():
            found = place(source, name, config)
            if found is None or (found.target is not None and found.target not in shapes):
                report.unexpected.append((source, name))
            elif found.target is None:
                report.dropped.append((source, name, found.reason))
            else:
                before = steps.get(found.target)
                same = before is not None and before[0] == source
                if before is not None and not same:
                    report.dropped += [(before[0], n, f"the {source} has its own") for n in before[1]]
                    report.used = [u for u in report.used if u[2] != found.target]
                steps[found.target] = (source, (*before[1], name) if same else (name,))
                report.used.append((source, name, found.target))
    _fill(steps, shapes, report, bool(_llama_json(Path(llama)).get("tie_word_embeddings", False)))
    report.missing = [name for name in shapes if name not in steps or _half_bias(name, steps[name])]
    result = Plan(config, sources, steps, shapes, report)
    _check_shapes(result)
    return result


def convert(
    made: Plan, out: str | Path, *, precision: str | None = None, shard_bytes: int | None = None,
    progress: Callable[[str, int], None] | None = None,
) -> None:
    """Carry out a plan: write the folder `out`. Raises BadWeights if the report is not clean or `out` exists.

    precision: float32, bfloat16 or float16 for all weights; None keeps each tensor as stored (position embedding: float32).
    shard_bytes: largest file to write, which is held in memory; None: see `shard_size`. progress: called with (our name,
    bytes) after each tensor.
    """
    if not made.report.clean:
        raise BadWeights(refusal(made.report))
    if precision is not None and precision not in ("float32", "bfloat16", "float16"):
        raise BadConfig(f"precision of stored weights must be float32, bfloat16 or float16, got '{precision}'")
    tokenizer = load_tokenizer(made.sources["llama"].path)
    processor = VLM4HOIProcessor(tokenizer, made.config)
    with weights.NewFolder(out) as part:
        writer = weights.ShardWriter(part, shard_bytes or shard_size(made))
        # In the order of the files, so that each is read front to back.
        ranks = {k: {n: r for r, n in enumerate(s.names())} for k, s in made.sources.items()}
        for target in sorted(made.steps, key=lambda t: _reading_order(made.steps[t], ranks)):
            tensor = make_tensor(made, target)
            if precision is not None:
                tensor = tensor.to(PRECISIONS[precision][0])
            writer.add(target, tensor)
            if progress is not None:
                progress(target, tensor.nbytes)
        writer.close()
        weights.write_json(part / "conversion.json", made.report.to_json())
        names = {k: Path(s.path).name for k, s in made.sources.items()}
        origin = f"Converted by egohoi from {names['checkpoint']}, {names['eva']} and the Llama folder {names['llama']}."
        write_sidecars(part, made.config, processor, origin)


def shard_size(made: Plan) -> int:
    """Bytes of a file that is written: half of the largest file that is read, so that holding it costs less memory than
    reading would, but between 16 MB (tiny models) and 2 GB."""
    files = (file for source in made.sources.values() for file in source.files())
    return min(weights.SHARD, max(16 * 10**6, max(file.stat().st_size for file in files) // 2))


def refusal(report: Report) -> str:
    """One line: what is missing and unexpected."""
    parts = []
    for word, names in (("missing", report.missing), ("unexpected", [f"{n} of the {s}" for s, n in report.unexpected])):
        if names:
            parts.append(f"{len(names)} tensors are {word} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})")
    return "nothing was converted: " + "; ".join(parts) + ": are these the files of one model?"


# ---------------------------------------------------------------------- sizes


def _llama_json(folder: Path) -> dict:
    values = weights.read_json(folder / "config.json")
    if values.get("model_type", "llama") != "llama":
        raise BadWeights(f"{folder}: holds a model of type '{values['model_type']}', VLM4HOI needs a Llama")
    for key in ("hidden_size", "vocab_size", "num_hidden_layers", "num_attention_heads"):
        if key not in values:
            raise BadWeights(f"{folder / 'config.json'}: lacks '{key}': this is no Llama configuration")
    return values


def _config(sources, llama: Path, heads: int, blocks: int | None, image_size: int, alpha: float) -> VLM4HOIConfig:
    eva, checkpoint = sources["eva"].shapes, sources["checkpoint"].shapes
    for name in ("patch_embed.proj.weight", "pos_embed", "blocks.0.mlp.fc1.weight"):
        if name not in eva:
            raise BadWeights(f"{sources['eva'].path}: lacks '{name}': this is no EVA-CLIP encoder (eva_vit_g.pth)")
    if "llama_proj.weight" not in checkpoint:
        raise BadWeights(f"{sources['checkpoint'].path}: lacks 'llama_proj.weight': no checkpoint of VLM4HOI or MiniGPT-v2")
    width, _, patch, _ = eva["patch_embed.proj.weight"]
    hidden, joined = checkpoint["llama_proj.weight"]
    values = {k: v for k, v in _llama_json(llama).items() if k in _LLAMA_KEYS and v is not None}
    if hidden != values["hidden_size"] or joined % width:
        raise BadWeights(
            f"{sources['checkpoint'].path}: its projector maps {joined} to {hidden}, the encoder has width {width} and the "
            f"language model {values['hidden_size']}: these files belong to different models"
        )
    count = 1 + max(int(n.split(".")[1]) for n in eva if n.startswith("blocks."))
    ranks = {}
    for name, shape in checkpoint.items():
        if lora_module(name):
            ranks.setdefault(shape[0] if ".lora_A." in name else shape[1], name)
    if len(ranks) > 1:
        listed = ", ".join(f"{rank} ({name})" for rank, name in sorted(ranks.items()))
        raise BadWeights(f"{sources['checkpoint'].path}: LoRA has several ranks: {listed}: one model has one")
    targets = tuple(sorted({m for n in checkpoint if (m := lora_module(n))}))
    try:
        return VLM4HOIConfig(
            image_size=image_size, patch_size=patch, vision_width=width, vision_heads=heads,
            vision_blocks=_blocks(blocks, count, sources["eva"].path), vision_mlp=eva["blocks.0.mlp.fc1.weight"][0],
            patches_per_token=joined // width, llama={**values, "tie_word_embeddings": False}, lora_alpha=alpha,
            lora_rank=next(iter(ranks), 0), lora_targets=targets or ("q_proj", "v_proj"),
        )
    except BadConfig as error:
        raise BadWeights(f"{error} (encoder of width {width}: --vit-heads and --image-size say what the file cannot)") from error


def _blocks(asked: int | None, count: int, path) -> int:
    """Blocks of the encoder to run: as asked, or the published 39 of a file that has more. Raises BadWeights."""
    if asked is None:
        return min(count, PUBLISHED_BLOCKS)
    if not 1 <= asked <= count:
        raise BadWeights(f"{path}: has {count} blocks, {asked} were asked for")
    return asked


def _fill(steps: dict, shapes: dict, report: Report, tied: bool) -> None:
    for kind, value in (("weight", "1"), ("bias", "0")):
        name = f"vision.post_layernorm.{kind}"
        if name not in steps:
            steps[name] = ("", (value,))
            report.filled.append((name, f"{value} (the files hold no ln_vision; the reference runs it so)"))
    if "llama_model.lm_head.weight" not in steps and tied:
        steps["llama_model.lm_head.weight"] = ("llama", ("model.embed_tokens.weight",))
        report.filled.append(("llama_model.lm_head.weight", "the token embedding, which this Llama shares with its head"))


def _half_bias(target: str, step: tuple[str, tuple[str, ...]]) -> bool:
    return target.endswith("self_attn.qkv.bias") and len(step[1]) != 2


def _check_shapes(made: Plan) -> None:
    for target, (source, names) in made.steps.items():
        if not source or target in made.report.missing:
            continue
        found = made.sources[source].shapes[names[0]]
        wanted = made.shapes[target]
        if target.endswith("qkv.bias"):
            wanted = (wanted[0] // 3,)
        elif target.endswith("position_embedding"):
            side = int((found[1] - 1) ** 0.5) if len(found) == 3 else 0
            if len(found) != 3 or side * side != found[1] - 1 or found[2] != wanted[2]:
                raise BadWeights(f"{made.sources[source].path}: 'pos_embed' has shape {list(found)}, not [1, 1 + n*n, {wanted[2]}]")
            continue
        if tuple(found) != tuple(wanted):
            raise BadWeights(
                f"{made.sources[source].path}: '{names[0]}' has shape {list(found)}, the model needs {list(wanted)}: "
                "the files belong to different models"
            )


# ---------------------------------------------------------------------- tensors


def _reading_order(step: tuple[str, tuple[str, ...]], ranks: dict[str, dict[str, int]]) -> tuple[str, int]:
    source, names = step
    return source, ranks[source][names[0]] if source else 0


def make_tensor(made: Plan, target: str) -> torch.Tensor:
    """The tensor of ours that a plan calls `target`, made of the official ones."""
    source, names = made.steps[target]
    shape = made.shapes[target]
    if not source:
        return torch.full(shape, float(names[0]))
    file = made.sources[source]
    if target.endswith("self_attn.qkv.bias"):
        by_kind = {n.rpartition(".")[2]: file.tensor(n) for n in names}
        query, value = by_kind["q_bias"], by_kind["v_bias"]
        return torch.cat([query, torch.zeros_like(query), value])
    tensor = file.tensor(names[0])
    if target.endswith("position_embedding"):
        return resize_positions(tensor.float(), made.config.image_size // made.config.patch_size)
    return tensor


def resize_positions(positions: torch.Tensor, side: int) -> torch.Tensor:
    """Position embedding [1, 1 + n*n, W] -> [1, 1 + side*side, W]: class token kept, grid interpolated (bicubic)."""
    width = positions.shape[-1]
    old = int((positions.shape[1] - 1) ** 0.5)
    if old == side:
        return positions
    grid = positions[:, 1:].reshape(1, old, old, width).permute(0, 3, 1, 2)
    grid = F.interpolate(grid, size=(side, side), mode="bicubic", align_corners=False)
    return torch.cat([positions[:, :1], grid.permute(0, 2, 3, 1).reshape(1, side * side, width)], dim=1)


# ---------------------------------------------------------------------- export


def export_checkpoint(
    state: dict[str, torch.Tensor], config: VLM4HOIConfig, path: str | Path, *, lora_default: bool = False
) -> None:
    """Write trained weights as the reference does: `{"model": {...}}` with official names, for its code to load.

    state: `VLM4HOIModule.trainable_state_dict()`. lora_default: names of peft 0.3 and later; without, those of peft 0.2,
    which the reference pins. Raises BadWeights for a tensor that the official checkpoint does not hold.
    """
    model = {}
    for name, tensor in state.items():
        source, names = official(name, config, lora_default)
        if source != "checkpoint":
            raise BadWeights(f"'{name}' is no trained weight of VLM4HOI: the official checkpoint has no place for it")
        model[names[0]] = tensor.detach().cpu().contiguous()
    path = Path(path)
    part = path.with_name(path.name + ".part")
    torch.save({"model": model}, part)
    os.replace(part, path)
