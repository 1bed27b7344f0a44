"""Names of the files of the released ANNEXE code and of ours: where every tensor goes, or why it is left out.

The released checkpoint holds what its training changed: the projector and LoRA, a part of Depth-Anything's head, and heads of
its own that compute something else than the paper's model. Depth-Anything-V2 comes as its authors' file
(`pretrained.blocks.0...`, `depth_head...`) or as a folder of `transformers` (`backbone.encoder.layer.0...`).
"""

import re
from dataclasses import dataclass

#: Parts of ours that no released file can fill: name for people -> beginnings of our names.
OWN = {
    "mask tokens": (
        "language.llama_model.model.embed_tokens.extra", "language.llama_model.lm_head.extra",
    ),
    "pixel projections": ("pixels.to_coarse.", "pixels.to_fine."),
    "depth scale": ("pixels.scale.",),
    "queries": ("to_query.",),
    "decoder": ("decoder.",),
    "target head": ("target.",),
}

#: Parts of the released checkpoint that the paper's model does not have, and why they are left out.
_DROPPED = (
    (
        r"with_mask_classfier\.(conv[12]|fc[12])\.(weight|bias)",
        "released classifier: reads 256 randomly drawn tokens of the input",
    ),
    (
        r"linear_layer\.(weight|bias)",
        "reshaped where it had to be transposed: mixes channels and places",
    ),
    (
        r"mask_decoder\.deconv[1-4]\.(weight|bias)",
        "released mask decoder: of the same random tokens, for 1080x1920 only",
    ),
    (
        r"depth_decoder\.(conv[AB]|decoder\.[024])\.(weight|bias)",
        "released depth decoder: built and never called",
    ),
    (r"llama_model\..*\.rotary_emb\.inv_freq", "computed, not learnt"),
)

_BLOCK = {
    "norm1": "norm1", "norm2": "norm2", "attn.proj": "attention.o_proj", "mlp.fc1": "mlp.fc1", "mlp.fc2": "mlp.fc2",
}
_RESIDUAL = r"(?:\.resConfUnit([12])\.conv([12])|\.out_conv)\.(weight|bias)"


@dataclass(frozen=True)
class Place:
    """Where an official tensor goes. target: our name, None if left out; reason: why; part: which third of a joined query,
    key and value tensor this target takes (0, 1, 2), None for the whole."""

    target: str | None
    reason: str = ""
    part: int | None = None


def checkpoint_place(name: str) -> tuple[Place, ...]:
    """Where a tensor of the released checkpoint goes that is none of the language side; () if no table knows it."""
    for pattern, reason in _DROPPED:
        if re.fullmatch(pattern, name):
            return (Place(None, reason),)
    head = name.removeprefix("depth_estimation_model.")
    return depth_place(head) if head != name else ()


def depth_place(name: str) -> tuple[Place, ...]:
    """Where a tensor of Depth-Anything-V2 goes, in either spelling; () if no table knows it."""
    found = _authors(name) or _transformers(name)
    return tuple(Place(f"pixels.net.{target}", part=part) for target, part in found)


def _authors(name: str) -> list[tuple[str, int | None]]:
    fixed = {
        "pretrained.cls_token": "backbone.embeddings.cls_token", "pretrained.pos_embed": "backbone.embeddings.position_embeddings",
        "pretrained.mask_token": "backbone.embeddings.mask_token",
        "pretrained.patch_embed.proj.weight": "backbone.embeddings.patch_embeddings.projection.weight",
        "pretrained.patch_embed.proj.bias": "backbone.embeddings.patch_embeddings.projection.bias",
        "pretrained.norm.weight": "backbone.layernorm.weight", "pretrained.norm.bias": "backbone.layernorm.bias",
    }
    if name in fixed:
        return [(fixed[name], None)]
    if found := re.fullmatch(r"pretrained\.blocks\.(\d+)\.(.+)", name):
        return _block(*found.groups())
    if not name.startswith("depth_head."):
        return []
    name = name.removeprefix("depth_head.")
    stage = "neck.reassemble_stage.layers."
    if found := re.fullmatch(r"projects\.([0-3])\.(weight|bias)", name):
        return [(f"{stage}{found[1]}.projection.{found[2]}", None)]
    if found := re.fullmatch(r"resize_layers\.([013])\.(weight|bias)", name):
        return [(f"{stage}{found[1]}.resize.{found[2]}", None)]
    if found := re.fullmatch(r"scratch\.layer([1-4])_rn\.weight", name):
        return [(f"neck.convs.{int(found[1]) - 1}.weight", None)]
    if found := re.fullmatch(r"scratch\.refinenet([1-4])" + _RESIDUAL, name):
        # the authors count from the finest map, transformers from the coarsest
        layer, unit, conv, kind = 4 - int(found[1]), found[2], found[3], found[4]
        inner = f"residual_layer{unit}.convolution{conv}" if unit else "projection"
        return [(f"neck.fusion_stage.layers.{layer}.{inner}.{kind}", None)]
    if found := re.fullmatch(r"scratch\.(output_conv1|output_conv2\.0|output_conv2\.2)\.(weight|bias)", name):
        conv = {"output_conv1": 1, "output_conv2.0": 2, "output_conv2.2": 3}[found[1]]
        return [(f"head.conv{conv}.{found[2]}", None)]
    return []


def _block(number: str, rest: str) -> list[tuple[str, int | None]]:
    layer = f"backbone.encoder.layer.{number}."
    if found := re.fullmatch(r"attn\.qkv\.(weight|bias)", rest):
        return [(f"{layer}attention.{n}_proj.{found[1]}", k) for k, n in enumerate("qkv")]
    if found := re.fullmatch(r"ls([12])\.gamma", rest):
        return [(f"{layer}layer_scale{found[1]}.lambda1", None)]
    stem, _, kind = rest.rpartition(".")
    return [(f"{layer}{_BLOCK[stem]}.{kind}", None)] if stem in _BLOCK and kind in ("weight", "bias") else []


def _transformers(name: str) -> list[tuple[str, int | None]]:
    """Names of a folder; its attention is spelled in two ways, by version."""
    if not re.match(r"(backbone|neck|head)\.", name):
        return []
    for old, new in (
        ("attention.attention.query", "q_proj"), ("attention.attention.key", "k_proj"), ("attention.attention.value", "v_proj"),
        ("attention.output.dense", "o_proj"),
    ):
        name = name.replace(f".{old}.", f".attention.{new}.")
    return [(name, None)]


def own_part(name: str) -> str | None:
    """The part of ours in `OWN` that a name belongs to."""
    return next((part for part, starts in OWN.items() if name.startswith(starts)), None)
