"""Names of the official files and of ours, in one table: where every tensor of VLM4HOI and MiniGPT-v2 goes, or why it is dropped.

Official are three files: EVA-CLIP-g (`blocks.0.attn.qkv.weight`), a Hugging Face Llama folder (`model.layers.0...`), and the
checkpoint of VLM4HOI or MiniGPT-v2 (`llama_proj.weight`, `llama_model.base_model.model.model.layers.0...lora_A.weight`).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from egohoi.models.vlm4hoi_module import VLM4HOIConfig

#: Blocks of EVA-CLIP-g that the reference runs; the file has one more, whose output BLIP-2 found less useful.
PUBLISHED_BLOCKS = 39

_EVA = (
    (r"cls_token", "vision.embeddings.class_embedding"),
    (r"pos_embed", "vision.embeddings.position_embedding"),
    (r"patch_embed\.proj\.(weight|bias)", r"vision.embeddings.patch_embedding.\1"),
    (r"blocks\.(\d+)\.norm([12])\.(weight|bias)", r"vision.encoder.layers.\1.layer_norm\2.\3"),
    (r"blocks\.(\d+)\.attn\.qkv\.weight", r"vision.encoder.layers.\1.self_attn.qkv.weight"),
    (r"blocks\.(\d+)\.attn\.[qv]_bias", r"vision.encoder.layers.\1.self_attn.qkv.bias"),
    (r"blocks\.(\d+)\.attn\.proj\.(weight|bias)", r"vision.encoder.layers.\1.self_attn.projection.\2"),
    (r"blocks\.(\d+)\.mlp\.(fc[12])\.(weight|bias)", r"vision.encoder.layers.\1.mlp.\2.\3"),
)
_LORA = re.compile(r"llama_model\.base_model\.model\.(model\.layers\.\d+\.[\w.]+?\.\w+)\.lora_([AB])(?:\.default)?\.weight")

#: source -> (pattern, why): tensors that are left out on purpose.
_DROPPED = {
    "eva": (
        (r"(norm|fc_norm)\.(weight|bias)", "the encoder of BLIP-2 and MiniGPT-v2 has no final norm"),
        (r"head\.(weight|bias)", "classification head"),
        (r"(mask_token|rel_pos_bias\..*)", "of EVA's pre-training"),
    ),
    "llama": ((r"model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq", "computed, not learnt"),),
    "checkpoint": ((r"llama_model\..*\.rotary_emb\.inv_freq", "computed, not learnt"),),
}


@dataclass(frozen=True)
class Place:
    """Where a tensor of an official file goes. target: our name, None if dropped; reason: why dropped."""

    target: str | None
    reason: str = ""


def place(source: str, name: str, config: VLM4HOIConfig) -> Place | None:
    """Where the tensor `name` of `source` ("eva", "llama", "checkpoint") goes; None if the table does not know it."""
    for pattern, reason in _DROPPED[source]:
        if re.fullmatch(pattern, name):
            return Place(None, reason)
    if source == "eva":
        return _eva(name, config)
    if source == "llama":
        known = re.match(r"(model\.(embed_tokens|layers|norm)|lm_head)\b", name)
        return Place("llama_model." + _wrapped(name, config)) if known else None
    if re.fullmatch(r"llama_proj\.(weight|bias)", name):
        return Place(name)
    if found := re.fullmatch(r"ln_vision\.(weight|bias)", name):
        return Place(f"vision.post_layernorm.{found.group(1)}")
    if name.startswith("visual_encoder."):
        return _eva(name.removeprefix("visual_encoder."), config)
    if found := _LORA.fullmatch(name):
        return Place(f"llama_model.{found.group(1)}.lora_{found.group(2)}.default.weight")
    return None


def _eva(name: str, config: VLM4HOIConfig) -> Place | None:
    block = re.match(r"blocks\.(\d+)\.", name)
    if block and int(block.group(1)) >= config.vision_blocks:
        return Place(None, f"only the first {config.vision_blocks} blocks are run")
    for pattern, target in _EVA:
        if found := re.fullmatch(pattern, name):
            return Place(found.expand(target))
    return None


def _wrapped(name: str, config: VLM4HOIConfig) -> str:
    # peft keeps the original layer inside the one that adds LoRA.
    stem, _, kind = name.rpartition(".")
    return f"{stem}.base_layer.{kind}" if config.lora_rank and stem.rpartition(".")[2] in config.lora_targets else name


def lora_module(name: str) -> str | None:
    """`q_proj` of a checkpoint's LoRA name, None for other names."""
    found = _LORA.fullmatch(name)
    return found.group(1).rpartition(".")[2] if found else None


def official(name: str, config: VLM4HOIConfig, lora_default: bool = False) -> tuple[str, tuple[str, ...]]:
    """The official source and name(s) of our tensor `name`; the bias of qkv has two. The inverse of `place`.

    lora_default: LoRA names with `.default`, as peft writes since 0.3; without, as the released checkpoint (peft 0.2).
    """
    if name.startswith("llama_proj."):
        return "checkpoint", (name,)
    if name.startswith("vision.post_layernorm."):
        return "checkpoint", ("ln_vision." + name.rpartition(".")[2],)
    if found := re.fullmatch(r"llama_model\.(.+)\.lora_([AB])\.default\.weight", name):
        dot = ".default" if lora_default else ""
        return "checkpoint", (f"llama_model.base_model.model.{found.group(1)}.lora_{found.group(2)}{dot}.weight",)
    if name.startswith("llama_model."):
        return "llama", (name.removeprefix("llama_model.").replace(".base_layer.", "."),)
    inner = re.fullmatch(r"vision\.encoder\.layers\.(\d+)\.(.+)", name)
    if inner is None:
        stem = {
            "vision.embeddings.class_embedding": "cls_token", "vision.embeddings.position_embedding": "pos_embed",
            "vision.embeddings.patch_embedding.weight": "patch_embed.proj.weight",
            "vision.embeddings.patch_embedding.bias": "patch_embed.proj.bias",
        }
        return "eva", (stem[name],)
    block, rest = inner.groups()
    if rest == "self_attn.qkv.bias":
        return "eva", (f"blocks.{block}.attn.q_bias", f"blocks.{block}.attn.v_bias")
    rest = rest.replace("layer_norm", "norm").replace("self_attn.projection", "attn.proj").replace("self_attn.qkv", "attn.qkv")
    return "eva", (f"blocks.{block}.{rest}",)


def official_shapes(config: VLM4HOIConfig, shapes: dict[str, tuple[int, ...]]) -> Iterator[tuple[str, str, tuple[int, ...]]]:
    """(source, official name, shape) of every tensor of a model with our `shapes`, as the official code holds them.

    The position embedding has the model's own grid; `eva_vit_g.pth` holds that of 224 pixels.
    """
    for name, shape in shapes.items():
        source, names = official(name, config)
        for one in names:
            yield source, one, (shape[0] // 3,) if len(names) == 2 else tuple(shape)
