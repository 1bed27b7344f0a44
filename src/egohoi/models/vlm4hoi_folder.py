"""VLM4HOI as one Hugging Face style folder: config.json, safetensors, tokenizer, preprocessor_config.json, README.md.

`load_module` builds the network without memory, checks every name and shape against the folder, and then moves tensor
after tensor to its device in its precision (int8 and int4 by bitsandbytes), so that no second copy of the weights exists.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from egohoi.errors import BadConfig, BadWeights, EgohoiError, need
from egohoi.models import weights
from egohoi.models.vlm4hoi_module import VLM4HOIConfig, VLM4HOIModule
from egohoi.models.vlm4hoi_processor import MEAN, STD, VLM4HOIProcessor

MODEL_TYPE = "vlm4hoi"
FORMAT = 1
#: precision -> (dtype on a GPU, dtype on a CPU): of the weights, or of the computation for int8 and int4.
PRECISIONS = {
    "float32": (torch.float32, torch.float32),
    "bfloat16": (torch.bfloat16, torch.bfloat16),
    "float16": (torch.float16, torch.float16),
    "int8": (torch.float16, torch.float32),
    "int4": (torch.float16, torch.float32),
}


def device_of(device: str | None) -> torch.device:
    """The torch device of that name, or the best there is. Raises BadConfig for one that this machine lacks."""
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
    except RuntimeError as error:
        raise BadConfig(f"device '{device}' is unknown: write cpu, cuda or cuda:1") from error
    if found.type == "cuda" and (not torch.cuda.is_available() or (found.index or 0) >= torch.cuda.device_count()):
        raise BadConfig(f"device '{device}': this machine has {torch.cuda.device_count()} usable GPUs: use --device cpu")
    return found


def precision_of(precision: str | None, device: torch.device) -> str:
    """The precision asked for, or float16 on a GPU (as the reference) and float32 on a CPU. Raises BadConfig."""
    if precision is None:
        return "float16" if device.type == "cuda" else "float32"
    if precision not in PRECISIONS:
        raise BadConfig(f"precision must be one of {', '.join(PRECISIONS)}, got '{precision}'")
    return precision


def empty_module(config: VLM4HOIConfig, where: str = "config.json") -> VLM4HOIModule:
    """The network with parameters on the `meta` device: names and shapes, no memory. Buffers are real.

    where: the configuration's file, for the message. Raises BadConfig for sizes that make no network.
    """
    accelerate = need("accelerate", "vlm")
    try:
        with accelerate.init_empty_weights(include_buffers=False):
            return VLM4HOIModule(config)
    except EgohoiError:
        raise
    except Exception as error:  # the libraries raise many kinds for sizes and names that do not go together
        reason = " ".join(str(error).split())[:160]
        raise BadConfig(f"{where}: its sizes make no network ({type(error).__name__}: {reason})") from error


def shapes_of(config: VLM4HOIConfig) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every parameter of the model of that configuration."""
    return {name: tuple(parameter.shape) for name, parameter in empty_module(config).named_parameters()}


def read_config(folder: str | Path) -> VLM4HOIConfig:
    """The configuration of a VLM4HOI folder. Raises BadWeights for a missing folder or one of another model."""
    folder = Path(folder)
    if not folder.is_dir():
        raise BadWeights(f"{folder}: no such folder: convert one with egohoi convert vlm4hoi")
    if not (folder / "config.json").is_file():
        raise BadWeights(f"{folder}: no config.json: this is no model folder; convert one with egohoi convert vlm4hoi")
    values = weights.read_json(folder / "config.json")
    if values.get("model_type") != MODEL_TYPE:
        raise BadWeights(
            f"{folder}: holds a model of type '{values.get('model_type')}', not '{MODEL_TYPE}': convert official files with "
            "egohoi convert vlm4hoi"
        )
    own = {k: v for k, v in values.items() if k not in ("model_type", "architectures", "format", "torch_dtype", "dtype")}
    return VLM4HOIConfig.from_dict(own, where=str(folder / "config.json"))


def write_sidecars(folder: Path, config: VLM4HOIConfig, processor: VLM4HOIProcessor, origin: str) -> None:
    """Everything of the folder but the weights. origin: one sentence of the model card: where the weights come from."""
    head = {"model_type": MODEL_TYPE, "architectures": ["VLM4HOI"], "format": FORMAT}
    weights.write_json(folder / "config.json", {**head, **config.to_dict()})
    weights.write_json(folder / "preprocessor_config.json", {
        "image_processor_type": "VLM4HOIProcessor", "do_resize": True, "do_center_crop": False, "do_rescale": True,
        "do_normalize": True, "size": {"height": config.image_size, "width": config.image_size}, "resample": 3,
        "rescale_factor": 1 / 255, "image_mean": list(MEAN), "image_std": list(STD),
    })
    processor.save_pretrained(folder)
    (folder / "README.md").write_text(model_card(config, origin), encoding="utf-8")


def save_pretrained(
    module: VLM4HOIModule, processor: VLM4HOIProcessor, folder: str | Path, *, origin: str = "Trained with egohoi.",
    shard_bytes: int = weights.SHARD,
) -> None:
    """Write the whole model into a new folder. Raises BadWeights if it exists or the weights are quantized."""
    if any(not p.is_floating_point() for p in module.parameters()):
        raise BadWeights("int8 and int4 weights cannot be saved: load the model in float16, bfloat16 or float32 to save it")
    with weights.NewFolder(folder) as part:
        writer = weights.ShardWriter(part, shard_bytes)
        for name, parameter in module.named_parameters():
            writer.add(name, parameter)
        writer.close()
        write_sidecars(part, module.config, processor, origin)


def load_module(folder: str | Path, device: str | None = None, precision: str | None = None) -> VLM4HOIModule:
    """The network of a folder, in eval mode.

    precision: float32, bfloat16, float16 (all weights), int8 (LLM.int8) or int4 (nf4): the language model's linear
    layers, the rest in float16 on a GPU and float32 on a CPU. Raises BadWeights, BadConfig, MissingExtra.
    """
    place = device_of(device)
    precision = precision_of(precision, place)
    config = read_config(folder)
    source = weights.WeightFolder(folder)
    module = empty_module(config, str(Path(folder) / "config.json"))
    weights.compare(source.shapes, {n: tuple(p.shape) for n, p in module.named_parameters()}, str(folder))
    quantized = _swap_linears(module, precision, place) if precision in ("int8", "int4") else set()
    dtype = PRECISIONS[precision][0 if place.type == "cuda" else 1]
    trained = {n for n, p in module.named_parameters() if p.requires_grad}
    for name, tensor in weights.tensors_of(source):
        _assign(module, name, tensor, place, dtype, precision if name in quantized else None, name in trained)
    for buffer_owner in module.modules():
        for key, buffer in buffer_owner._buffers.items():
            if buffer is not None:
                buffer_owner._buffers[key] = buffer.to(place)
    return module.eval()


def _swap_linears(module: VLM4HOIModule, precision: str, device: torch.device) -> set[str]:
    """Put bitsandbytes' layers where the language model's big linear layers are. Returns the names of their weights."""
    bnb = need("bitsandbytes", "quant")
    compute = PRECISIONS[precision][0 if device.type == "cuda" else 1]
    names = set()
    for name, layer in list(module.llama_model.model.layers.named_modules(prefix="llama_model.model.layers")):
        if type(layer) is not nn.Linear or ".lora_" in name:
            continue
        if precision == "int4" and layer.in_features % 64:
            continue  # nf4 scales blocks of 64 weights of a row; layers of tiny models have no such rows
        sizes = (layer.in_features, layer.out_features)
        if precision == "int8":
            # Threshold of LLM.int8 (arXiv 2208.07339): columns with larger activations are multiplied in 16 bits.
            new = bnb.nn.Linear8bitLt(*sizes, bias=False, has_fp16_weights=False, threshold=6.0, device="meta")
        else:
            new = bnb.nn.Linear4bit(*sizes, bias=False, compute_dtype=compute, quant_type="nf4", device="meta")
        new.weight.requires_grad_(False)
        parent, _, leaf = name.rpartition(".")
        setattr(module.get_submodule(parent), leaf, new)
        names.add(f"{name}.weight")
    return names


def _assign(module, name: str, tensor, device, dtype, precision: str | None, trained: bool) -> None:
    parent, _, leaf = name.rpartition(".")
    owner = module.get_submodule(parent)
    if precision is None:
        owner._parameters[leaf] = nn.Parameter(tensor.to(device=device, dtype=dtype), requires_grad=trained)
        return
    bnb = need("bitsandbytes", "quant")
    tensor = tensor.to(dtype)
    if precision == "int8":
        weight = bnb.nn.Int8Params(tensor, requires_grad=False, has_fp16_weights=False)
    else:
        weight = bnb.nn.Params4bit(tensor, requires_grad=False, quant_type="nf4", module=owner)
    owner._parameters[leaf] = weight.to(device)  # moving is what quantizes


def weight_bytes(shapes: Mapping[str, tuple[int, ...]], precision: str) -> int:
    """Bytes that weights of those shapes (`shapes_of`) take in memory in that precision: no activations, no key-value cache.

    int8: one byte a weight and a float32 scale a row; int4 (nf4): half a byte and a float32 scale for 64 weights.
    """
    wide = {"float32": 4, "bfloat16": 2, "float16": 2, "int8": 2, "int4": 2}[precision]
    total = 0
    for name, shape in shapes.items():
        count = 1
        for side in shape:
            count *= side
        if is_quantized(name) and (precision == "int8" or (precision == "int4" and shape[1] % 64 == 0)):
            total += count + 4 * shape[0] if precision == "int8" else count // 2 + 4 * -(-count // 64)
        else:
            total += count * wide
    return total


def is_quantized(name: str) -> bool:
    """Whether int8 and int4 apply to the parameter of that name: the language model's linear layers, not LoRA, not the head."""
    return name.startswith("llama_model.model.layers.") and name.endswith("_proj.weight") or name.endswith(".base_layer.weight")


def cache_bytes(config: VLM4HOIConfig, tokens: int) -> int:
    """Bytes of the key-value cache of one sequence of that many tokens, in 16 bits."""
    llama = config.llama
    heads = llama.get("num_key_value_heads") or llama["num_attention_heads"]
    head = llama.get("head_dim") or llama["hidden_size"] // llama["num_attention_heads"]
    return 2 * 2 * llama["num_hidden_layers"] * heads * head * tokens


def model_card(config: VLM4HOIConfig, origin: str) -> str:
    """The text of the folder's README.md."""
    lora, llama = "none", config.llama
    if config.lora_rank:
        lora = f"rank {config.lora_rank}, alpha {config.lora_alpha:g} on {', '.join(config.lora_targets)}"
    return f"""---
library_name: egohoi
pipeline_tag: image-text-to-text
license: other
---
# VLM4HOI

{origin}

A vision-language model that refers to hands and objects in first-person images (HOI-Ref, arXiv 2404.09933): EVA-CLIP-g,
four patches to one token, a linear projection, Llama-2 with LoRA.

| part | size |
| --- | --- |
| image | {config.image_size}x{config.image_size} pixels, whole picture squeezed, {config.image_tokens} tokens |
| encoder | {config.vision_blocks} blocks of width {config.vision_width}, {config.vision_heads} heads |
| language model | {llama.get("num_hidden_layers")} blocks of width {config.hidden_size}, vocabulary {llama["vocab_size"]} |
| LoRA | {lora} |

Boxes are written `{{<x1><y1><x2><y2>}}`, whole numbers on a grid of 0-100 over width and height.

    import egohoi
    model = egohoi.load("vlm4hoi:FOLDER")
    print(model.ask("kitchen.jpg", "Where is the left hand?").text)

The weights keep the licences of their sources: Llama 2 (Meta's community licence), EVA-CLIP (MIT), VLM4HOI and MiniGPT-v2
(see there).
"""
