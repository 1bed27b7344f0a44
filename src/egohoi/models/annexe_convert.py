"""Files of the released ANNEXE code -> one folder for `annexe:FOLDER`.

The language side (EVA, Llama, projector, LoRA) is planned as VLM4HOI's; what the checkpoint holds beside it goes by the table
in `annexe_names`. The paper's mask side has no counterpart in the released code, so its parts are made fresh, by a fixed
seed, and the folder's `config.json` names them as untrained: such a folder describes and answers in words at once, and is
where training starts (`egohoi train configs/annexe.yaml model.start=FOLDER`).

Sizes are read from the files. As with VLM4HOI there is a plan first, from names and shapes alone; then tensors are copied one
by one into shards.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from egohoi.errors import BadConfig, BadWeights, need
from egohoi.models import annexe_names, vlm4hoi_convert, weights
from egohoi.models.annexe_module import AnnexeConfig, AnnexeModule, mask_side
from egohoi.models.annexe_text import TOKENS
from egohoi.models.vlm4hoi_convert import Report
from egohoi.models.vlm4hoi_folder import PRECISIONS

_EMBED, _HEAD = "language.llama_model.model.embed_tokens", "language.llama_model.lm_head"


@dataclass
class Plan:
    """config: of the new model. language: the plan of its language side. steps: our name -> (source, official name, third of
    a joined tensor or None), of the rest. own: our names that are made fresh. shapes: of all our names. report: of all files.
    """

    config: AnnexeConfig
    language: vlm4hoi_convert.Plan
    depth: weights.WeightFile | weights.WeightFolder
    steps: dict[str, tuple[str, str, int | None]]
    own: tuple[str, ...]
    shapes: dict[str, tuple[int, ...]]
    report: Report

    @property
    def untrained(self) -> tuple[str, ...]:
        """Parts without trained weights, as `config.json` names them."""
        parts = [annexe_names.own_part(name) for name in self.own]
        return tuple(p for p in annexe_names.OWN if p in parts)

    @property
    def targets(self) -> list[str]:
        """All our names, in the order in which they are made: language side, Depth-Anything, our own parts."""
        return [*(language_name(n) for n in self.language.steps), *self.steps, *self.own]


def language_name(name: str) -> str:
    """VLM4HOI's name of a tensor -> ANNEXE's: the embedding and the output layer gain rows and so stand one level deeper."""
    for owner in ("llama_model.model.embed_tokens", "llama_model.lm_head"):
        if name == f"{owner}.weight":
            return f"language.{owner}.base.weight"
    return f"language.{name}"


def plan(
    llama: str | Path, eva: str | Path, checkpoint: str | Path, depth: str | Path, *, vit_heads: int = 16,
    vit_blocks: int | None = None, image_size: int = 448, lora_alpha: float = 16, depth_heads: int | None = None,
) -> Plan:
    """Read names and shapes of the four sources and decide where everything goes.

    depth: the authors' file of Depth-Anything-V2 (`depth_anything_v2_vitb.pth`) or a folder of `transformers`.
    depth_heads: attention heads of its encoder, which the authors' file does not say (None: one for 64 channels, as published).
    Raises BadWeights for files that are no such files or whose sizes contradict each other; tensors that are missing or
    unknown are in the report, for the caller to refuse.
    """
    made = vlm4hoi_convert.plan(
        llama, eva, checkpoint, vit_heads=vit_heads, vit_blocks=vit_blocks, image_size=image_size, lora_alpha=lora_alpha
    )
    source = weights.WeightFolder(depth) if Path(depth).is_dir() else weights.WeightFile(depth)
    found = depth_config(source, Path(depth), depth_heads)
    if image_size % found["patch_size"]:
        raise BadWeights(f"--image-size {image_size} is not a multiple of {found['patch_size']}, the patch size of {depth}")
    config = AnnexeConfig(
        language=replace(made.config, inference_bos=1, max_new_tokens=64), depth_anything=found, pixel_size=image_size,
        analysis="apart",  # the released code describes and answers in two passes of their own
    )
    shapes = shapes_of(config)
    report, steps = _rest(made, source, shapes)
    filled = {language_name(n) for n in made.steps} | set(steps)
    own = tuple(n for n in shapes if n not in filled and annexe_names.own_part(n) is not None)
    report.filled += [(part, "fresh, untrained") for part in annexe_names.OWN]
    report.missing += [n for n in shapes if n not in filled and n not in own and n not in report.missing]
    return Plan(config, made, source, steps, own, shapes, report)


def _rest(made, source, shapes) -> tuple[Report, dict[str, tuple[str, str, int | None]]]:
    """The report of all files, and where everything beside the language side goes."""
    known = made.report
    report = Report(
        used=[(s, official, language_name(ours)) for s, official, ours in known.used], dropped=list(known.dropped),
        filled=[(language_name(ours), what) for ours, what in known.filled], missing=[language_name(n) for n in known.missing],
    )
    steps: dict[str, tuple[str, str, int | None]] = {}
    files = {"depth": source, **made.sources}
    # The checkpoint comes last: what it holds of Depth-Anything was trained on and replaces the published weights.
    offered = [("depth", name, annexe_names.depth_place(name)) for name in source.names()]
    offered += [
        (kind, name, annexe_names.checkpoint_place(name) if kind == "checkpoint" else ()) for kind, name in known.unexpected
    ]
    for kind, name, places in offered:
        if not places or any(p.target is not None and p.target not in shapes for p in places):
            report.unexpected.append((kind, name))
            continue
        for place in places:
            if place.target is None:
                report.dropped.append((kind, name, place.reason))
                continue
            before = steps.get(place.target)
            if before is not None:
                report.dropped.append((before[0], before[1], f"the {kind} has its own"))
                report.used = [u for u in report.used if u[2] != place.target]
            _check_shape(files[kind], name, place.part, shapes[place.target])
            steps[place.target] = (kind, name, place.part)
            report.used.append((kind, name, place.target))
    return report, steps


def _check_shape(file, name: str, part: int | None, wanted: tuple[int, ...]) -> None:
    found = tuple(file.shapes[name])
    whole = tuple(wanted) if part is None else (3 * wanted[0], *wanted[1:])
    if found != whole:
        raise BadWeights(
            f"{file.path}: '{name}' has shape {list(found)}, the model needs {list(whole)}: the files belong to different models"
        )


def depth_config(source, path: Path, heads: int | None) -> dict:
    """Values of a DepthAnythingConfig, from the folder's config.json or from the shapes of the authors' file."""
    if isinstance(source, weights.WeightFolder):
        return _folder_config(path)
    shapes = source.shapes
    needed = (
        "pretrained.patch_embed.proj.weight", "pretrained.pos_embed", "pretrained.blocks.0.mlp.fc1.weight",
        "depth_head.scratch.layer1_rn.weight", "depth_head.scratch.output_conv2.0.weight",
        *(f"depth_head.projects.{k}.weight" for k in range(4)),
    )
    for name in needed:
        if name not in shapes:
            raise BadWeights(f"{path}: lacks '{name}': this is no Depth-Anything-V2 (depth_anything_v2_vitb.pth)")
    width, _, patch, _ = shapes["pretrained.patch_embed.proj.weight"]
    side = round((shapes["pretrained.pos_embed"][1] - 1) ** 0.5)
    if 1 + side * side != shapes["pretrained.pos_embed"][1]:
        raise BadWeights(f"{path}: 'pretrained.pos_embed' has shape {list(shapes['pretrained.pos_embed'])}, not [1, 1 + n*n, width]")
    count = 1 + max(int(n.split(".")[2]) for n in shapes if n.startswith("pretrained.blocks."))
    heads = heads or max(1, width // 64)
    if width % heads:
        raise BadWeights(f"{path}: an encoder of width {width} cannot have {heads} heads: --depth-heads says what the file cannot")
    if count < 4:
        raise BadWeights(f"{path}: the encoder has {count} blocks, Depth-Anything reads four of them")
    # the blocks that the published head reads: of 24 they are not evenly spaced
    read = [5, 12, 18, 24] if count == 24 else [count * k // 4 for k in (1, 2, 3, 4)]
    return {
        "backbone_config": {
            "model_type": "dinov2", "hidden_size": width, "num_hidden_layers": count, "num_attention_heads": heads,
            "mlp_ratio": shapes["pretrained.blocks.0.mlp.fc1.weight"][0] // width, "image_size": side * patch, "patch_size": patch,
            "out_indices": read, "reshape_hidden_states": False, "apply_layernorm": True,
        },
        "patch_size": patch, "reassemble_hidden_size": width,
        "neck_hidden_sizes": [shapes[f"depth_head.projects.{k}.weight"][0] for k in range(4)],
        "fusion_hidden_size": shapes["depth_head.scratch.layer1_rn.weight"][0],
        "head_hidden_size": shapes["depth_head.scratch.output_conv2.0.weight"][0],
    }


def _folder_config(folder: Path) -> dict:
    values = weights.read_json(folder / "config.json")
    if values.get("model_type") != "depth_anything":
        raise BadWeights(f"{folder}: holds a model of type '{values.get('model_type')}', not 'depth_anything'")
    # through the library, so that its defaults of then are written out
    try:
        read = need("transformers", "vlm").DepthAnythingConfig(**{k: v for k, v in values.items() if k != "model_type"}).to_dict()
    except Exception as error:  # the library raises many kinds for values that do not fit
        raise BadWeights(f"{folder / 'config.json'}: no Depth-Anything can be built from it ({str(error)[:100]})") from error
    keys = (
        "backbone_config", "patch_size", "reassemble_hidden_size", "neck_hidden_sizes", "fusion_hidden_size", "head_hidden_size",
        "reassemble_factors", "head_in_index",
    )
    # as JSON gives it back, so that what is saved equals what is read
    return json.loads(json.dumps({k: read[k] for k in keys if read.get(k) is not None}))


def shapes_of(config: AnnexeConfig) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every parameter of the model of that configuration, without memory for them. Raises BadWeights."""
    accelerate = need("accelerate", "vlm")
    try:
        with accelerate.init_empty_weights(include_buffers=False):
            module = AnnexeModule(config)
    except BadConfig as error:
        raise BadWeights(str(error)) from error
    return {name: tuple(parameter.shape) for name, parameter in module.named_parameters()}


def convert(
    made: Plan, out: str | Path, *, precision: str | None = None, shard_bytes: int = weights.SHARD, seed: int = 0,
    progress: Callable[[str, int], None] | None = None,
) -> None:
    """Carry out a plan: write the folder `out`. Raises BadWeights if the report is not clean or `out` exists.

    precision: of the language side's weights, float32, bfloat16 or float16 (None: as stored); the mask side is float32.
    seed: of the parts that are made fresh. progress: called with (our name, bytes) after each tensor.
    """
    from egohoi.models.annexe import write_config
    from egohoi.models.annexe_processor import AnnexeProcessor
    from egohoi.models.vlm4hoi_processor import load_tokenizer

    if not made.report.clean:
        raise BadWeights(vlm4hoi_convert.refusal(made.report))
    if precision is not None and precision not in ("float32", "bfloat16", "float16"):
        raise BadConfig(f"precision of stored weights must be float32, bfloat16 or float16, got '{precision}'")
    processor = AnnexeProcessor(load_tokenizer(made.language.sources["llama"].path), made.config)
    fresh = _fresh(made, seed)
    with weights.NewFolder(out) as part:
        writer = weights.ShardWriter(part, shard_bytes)

        def add(name: str, tensor: torch.Tensor) -> None:
            writer.add(name, tensor)
            if progress is not None:
                progress(name, tensor.nbytes)

        dtype = None if precision is None else PRECISIONS[precision][0]
        for name in made.language.steps:
            tensor = vlm4hoi_convert.make_tensor(made.language, name)
            tensor = tensor if dtype is None else tensor.to(dtype)
            add(language_name(name), tensor)
            if language_name(name) in (f"{_EMBED}.base.weight", f"{_HEAD}.base.weight"):
                # the mean of all rows: a new token's chance starts as that of any other, so it is not written by accident
                mean = tensor.float().mean(0, keepdim=True).repeat(len(TOKENS), 1)
                add(language_name(name).removesuffix("base.weight") + "extra", mean)
        for name, (kind, official, third) in made.steps.items():
            tensor = (made.depth if kind == "depth" else made.language.sources[kind]).tensor(official)
            add(name, (tensor if third is None else tensor.chunk(3)[third].clone()).float())
        for name in made.own:
            if not name.endswith(".extra"):
                add(name, fresh[name])
        writer.close()
        weights.write_json(part / "conversion.json", made.report.to_json())
        write_config(part, made.config, made.untrained)
        processor.save_pretrained(part)
        (part / "README.md").write_text(_card(made), encoding="utf-8")


def _fresh(made: Plan, seed: int) -> dict[str, torch.Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        parts = mask_side(made.config)
    own = set(made.own)
    state = {f"{name}.{key}": t for name, part in parts.items() for key, t in part.state_dict().items()}
    return {name: tensor.clone() for name, tensor in state.items() if name in own}


def _card(made: Plan) -> str:
    names = {k: Path(s.path).name for k, s in {**made.language.sources, "depth": made.depth}.items()}
    return f"""---
library_name: egohoi
pipeline_tag: image-text-to-text
license: other
---
# ANNEXE

Converted by egohoi from {names["checkpoint"]}, {names["eva"]}, {names["depth"]} and the Llama folder {names["llama"]}.

It describes and answers in words. Without trained weights are: {", ".join(made.untrained)}. The released checkpoint has
nothing that could stand there; `conversion.json` says of every tensor whether it was used, and if not, why.

    egohoi ask IMAGE "the left hand" --model annexe:FOLDER
    egohoi train configs/annexe.yaml model.start=FOLDER data.0.folder=Ego-IRGBench

The weights keep the licences of their sources: Llama 2 (Meta's community licence), EVA-CLIP (MIT), Depth-Anything-V2 (ViT-S
Apache 2.0, the others CC BY-NC 4.0), ANNEXE (see there).
"""
