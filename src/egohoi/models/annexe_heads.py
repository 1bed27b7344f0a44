"""The mask side of ANNEXE: depth-aware pixel features, the grounding decoders, and the target / no-target head.

Pixel features come from Depth-Anything-V2 (transformers) or from the vision tower itself; with a depth decoder they are
depth-aware, because the same features have to tell the depth. A decoder turns one embedding for each mask token plus the
features into one mask. Paper: arXiv 2504.01472, section 4; every shape below is [batch, channels, height, width].
"""

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from egohoi.errors import BadConfig, BadWeights

#: Values of SAM 2's configuration that decide the shapes of its mask decoder.
_SAM2_SIZES = (
    "hidden_size", "hidden_act", "mlp_dim", "num_hidden_layers", "num_attention_heads", "attention_downsample_rate",
    "num_multimask_outputs", "iou_head_depth", "iou_head_hidden_dim",
)


@dataclass(frozen=True)
class Features:
    """coarse: [B, C, h, w]; fine: [B, C, 4h, 4w]; depth: float [B, 4h, 4w], 0 (near) to 1 (far), or None."""

    coarse: Tensor
    fine: Tensor
    depth: Tensor | None


class DepthScale(nn.Module):
    """Brings a depth network's own unit to the picture's 0..1 scale: one learned factor and one learned shift."""

    def __init__(self):
        super().__init__()
        self.factor = nn.Parameter(torch.ones(1))
        self.shift = nn.Parameter(torch.zeros(1))

    def forward(self, depth: Tensor) -> Tensor:
        return depth * self.factor + self.shift


class DepthAnythingPixels(nn.Module):
    """Pixel features of Depth-Anything-V2, with its depth decoder if `depth`.

    config: transformers' DepthAnythingConfig. channels: C of the features. The picture's sides must be multiples of the
    patch size; h and w count patches.
    """

    def __init__(self, config, channels: int, depth: bool):
        super().__init__()
        from transformers import DepthAnythingForDepthEstimation

        self.net = DepthAnythingForDepthEstimation(config)
        # the relative head ends in a ReLU, which a fresh head may never leave; the scale below takes its place
        self.net.head.activation2 = nn.Identity()
        if not depth:
            self.net.head = None
        width = config.fusion_hidden_size
        self.to_coarse = nn.Conv2d(width + config.backbone_config.hidden_size, channels, 1)
        self.to_fine = nn.Conv2d(width, channels, 1)
        self.scale = DepthScale() if depth else None
        self.patch = config.patch_size

    def forward(self, pixels: Tensor, patches: Tensor | None = None) -> Features:
        """pixels: float [B, 3, H, W], normalised as Depth-Anything wants it. patches: not used."""
        height, width = pixels.shape[2] // self.patch, pixels.shape[3] // self.patch
        maps = self.net.backbone(pixels).feature_maps
        # for the four fusion stages transformers returns h, 2h, 4h and 8h rows
        fused = self.net.neck(list(maps), height, width)
        tokens = maps[-1][:, 1:].transpose(1, 2).unflatten(2, (height, width))
        # fused[k] is the output of stage k, twice the size of its input
        small = functional.interpolate(fused[0], (height, width), mode="bilinear", align_corners=False)
        large = functional.interpolate(fused[2], (4 * height, 4 * width), mode="bilinear", align_corners=False)
        depth = None
        if self.scale is not None:
            full = self.scale(self.net.head(fused, height, width))
            depth = functional.interpolate(full[:, None], (4 * height, 4 * width), mode="area")[:, 0]
        return Features(self.to_coarse(torch.cat([small, tokens], dim=1)), self.to_fine(large), depth)


class TowerPixels(nn.Module):
    """Pixel features of the language side's own vision tower, sharpened by a few convolutions of the picture.

    width: channels of the tower's patch tokens. channels: C of the features.
    """

    def __init__(self, width: int, channels: int, depth: bool):
        super().__init__()
        half = max(8, channels // 2)
        self.to_coarse = nn.Sequential(nn.Conv2d(width, channels, 1), nn.GELU(), nn.Conv2d(channels, channels, 3, padding=1))
        self.stem = nn.Sequential(
            nn.Conv2d(3, half, 3, stride=2, padding=1), nn.GELU(), nn.Conv2d(half, half, 3, stride=2, padding=1), nn.GELU()
        )
        self.mix = nn.Sequential(
            nn.Conv2d(channels + half, channels, 3, padding=1), nn.GELU(), nn.Conv2d(channels, channels, 3, padding=1), nn.GELU()
        )
        self.head = nn.Conv2d(channels, 1, 3, padding=1) if depth else None
        self.scale = DepthScale() if depth else None

    def forward(self, pixels: Tensor, patches: Tensor) -> Features:
        """pixels: float [B, 3, H, W]; patches: the tower's tokens of a square grid, [B, h*w, width], without class token."""
        side = math.isqrt(patches.shape[1])
        if side * side != patches.shape[1]:
            raise BadConfig(f"the vision tower gives {patches.shape[1]} patches, which is no square grid")
        coarse = self.to_coarse(patches.transpose(1, 2).unflatten(2, (side, side)))
        size = (4 * side, 4 * side)
        edges = functional.interpolate(self.stem(pixels), size, mode="bilinear", align_corners=False)
        wide = functional.interpolate(coarse, size, mode="bilinear", align_corners=False)
        fine = self.mix(torch.cat([wide, edges], dim=1))
        depth = self.scale(self.head(fine)[:, 0]) if self.scale is not None else None
        return Features(coarse, fine, depth)


def places(height: int, width: int, channels: int, device=None, dtype=None) -> Tensor:
    """Sine and cosine of the positions of a grid, [channels, height, width]; channels: a multiple of 4."""
    count = channels // 4
    rates = 1.0 / (100.0 ** (torch.arange(count, device=device, dtype=torch.float32) / count))
    grids = []
    for size, shape in ((height, (1, height, 1)), (width, (1, 1, width))):
        # positions are parts of the picture, so that the same place means the same at another resolution
        at = ((torch.arange(size, device=device, dtype=torch.float32) + 0.5) / size * 64.0)[None, :] * rates[:, None]
        for wave in (at.sin(), at.cos()):
            grids.append(wave.reshape(count, *shape[1:]).expand(count, height, width))
    return torch.cat(grids).to(dtype or torch.float32)


class _Block(nn.Module):
    """A mask query looks at the features: cross attention and a small network, both with residuals."""

    def __init__(self, channels: int, heads: int):
        super().__init__()
        self.look = nn.MultiheadAttention(channels, heads, batch_first=True)
        self.think = nn.Sequential(nn.Linear(channels, 2 * channels), nn.GELU(), nn.Linear(2 * channels, channels))
        self.norm_query, self.norm_keys, self.norm_think = nn.LayerNorm(channels), nn.LayerNorm(channels), nn.LayerNorm(channels)

    def forward(self, query: Tensor, keys: Tensor, where: Tensor) -> Tensor:
        """query [T, 1, C], keys [T, N, C], where [N, C] -> [T, 1, C]"""
        keys = self.norm_keys(keys)
        query = query + self.look(self.norm_query(query), keys + where, keys, need_weights=False)[0]
        return query + self.think(self.norm_think(query))


class LightDecoder(nn.Module):
    """Our own decoder: each query attends to the coarse features, then picks its pixels by a dot product with the fine ones."""

    def __init__(self, channels: int, layers: int = 2, heads: int = 8):
        super().__init__()
        self.blocks = nn.ModuleList(_Block(channels, heads) for _ in range(layers))
        self.pixels = nn.Sequential(
            nn.Conv2d(2 * channels, channels, 3, padding=1), nn.GELU(), nn.Conv2d(channels, channels, 3, padding=1)
        )
        self.kernel = nn.Sequential(nn.Linear(channels, channels), nn.GELU(), nn.Linear(channels, channels))
        self.bias = nn.Linear(channels, 1)

    def forward(self, queries: Tensor, features: Features, of: Tensor) -> Tensor:
        """queries [T, C], of [T] (index of each query's picture) -> mask logits [T, 4h, 4w]."""
        channels, height, width = features.coarse.shape[1:]
        where = places(height, width, channels, queries.device, queries.dtype).flatten(1).T
        keys = features.coarse.flatten(2).transpose(1, 2)[of]
        query = queries[:, None]
        for block in self.blocks:
            query = block(query, keys, where)
        query = query[:, 0]
        wide = functional.interpolate(features.coarse, features.fine.shape[2:], mode="bilinear", align_corners=False)
        pixels = self.pixels(torch.cat([features.fine, wide], dim=1))[of]
        logits = torch.einsum("tc,tchw->thw", self.kernel(query), pixels) / math.sqrt(channels)
        return logits + self.bias(query)[:, :, None]


def sam2_sizes(folder: str) -> dict:
    """Sizes of the mask decoder in a Sam2Model folder, the values of a Sam2MaskDecoderConfig. Raises BadWeights."""
    from transformers import AutoConfig

    if not (Path(folder) / "config.json").is_file():
        raise BadWeights(f"{folder}: no config.json there: name a folder of SAM 2 (facebook/sam2.1-hiera-tiny, downloaded)")
    try:
        values = AutoConfig.from_pretrained(folder, local_files_only=True).mask_decoder_config.to_dict()
    except Exception as error:  # the library raises many kinds
        raise BadWeights(f"{folder}: holds no SAM 2 ({type(error).__name__}: {str(error).splitlines()[0][:100]})") from error
    return {k: values[k] for k in _SAM2_SIZES}


class Sam2Decoder(nn.Module):
    """SAM 2's mask decoder (transformers): the query stands where SAM has its prompt tokens.

    sizes: what `sam2_sizes` gives, None: a decoder of `layers` and `heads`. Raises BadConfig if its width is not `channels`.
    """

    def __init__(self, channels: int, layers: int = 2, heads: int = 8, sizes: dict | None = None):
        super().__init__()
        from transformers.models.sam2.configuration_sam2 import Sam2MaskDecoderConfig
        from transformers.models.sam2.modeling_sam2 import Sam2MaskDecoder

        if sizes is None:
            sizes = {
                "hidden_size": channels, "mlp_dim": 4 * channels, "num_hidden_layers": layers, "num_attention_heads": heads,
                "iou_head_hidden_dim": channels,
            }
        if sizes.get("hidden_size") != channels:
            raise BadConfig(f"SAM 2's decoder has {sizes.get('hidden_size')} channels: set channels to that, not {channels}")
        config = Sam2MaskDecoderConfig(**sizes)
        config._attn_implementation = "sdpa"
        self.net = Sam2MaskDecoder(config)
        # mask token 0 is used alone: one query asks for one mask, so there is nothing to choose from
        self.net.dynamic_multimask_via_stability = False

    def take(self, folder: str) -> None:
        """Put in the weights of a Sam2Model folder, strictly. Raises BadWeights."""
        from transformers import Sam2Model

        try:
            model, info = Sam2Model.from_pretrained(folder, local_files_only=True, dtype=torch.float32, output_loading_info=True)
        except Exception as error:  # the library raises many kinds
            raise BadWeights(f"{folder}: its weights cannot be read ({str(error).splitlines()[0][:100]})") from error
        missing = sorted(name for name in info["missing_keys"] if name.startswith("mask_decoder."))
        if missing:
            raise BadWeights(f"{folder}: '{missing[0]}' is missing ({len(missing)} weights): it is damaged or no SAM 2")
        self.net.load_state_dict(model.mask_decoder.state_dict())

    def forward(self, queries: Tensor, features: Features, of: Tensor) -> Tensor:
        """queries [T, C], of [T] (index of each query's picture) -> mask logits [T, 4h, 4w]."""
        channels, height, width = features.coarse.shape[1:]
        where = places(height, width, channels, queries.device, queries.dtype)[None]
        half = functional.avg_pool2d(features.fine, 2)
        sharp = [self.net.conv_s0(features.fine)[of], self.net.conv_s1(half)[of]]
        logits = self.net(
            image_embeddings=features.coarse[of], image_positional_embeddings=where.expand(len(queries), -1, -1, -1),
            sparse_prompt_embeddings=queries[:, None, None], dense_prompt_embeddings=torch.zeros_like(features.coarse[of]),
            multimask_output=False, high_resolution_features=sharp,
        )[0]
        return logits[:, 0, 0]


class TargetHead(nn.Module):
    """Target or no target (the paper's mask indicator R_c), from one hidden state of the language model."""

    def __init__(self, width: int, hidden: int = 256):
        super().__init__()
        self.net = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, 1))

    def forward(self, hidden: Tensor) -> Tensor:
        """hidden [B, width] -> logits [B]; above 0 there is a target."""
        return self.net(hidden)[:, 0]


def mask_loss(logits: Tensor, truth: Tensor) -> Tensor:
    """Binary cross entropy plus Dice loss of each mask. logits, truth: [T, h, w], truth in 0..1 -> [T]."""
    cross = functional.binary_cross_entropy_with_logits(logits, truth, reduction="none").mean(dim=(1, 2))
    chance = logits.sigmoid()
    overlap = (chance * truth).sum(dim=(1, 2))
    dice = 1 - (2 * overlap + 1) / (chance.sum(dim=(1, 2)) + truth.sum(dim=(1, 2)) + 1)
    return cross + dice


def depth_loss(depth: Tensor, truth: Tensor, valid: Tensor) -> Tensor:
    """Mean absolute error over the measured pixels of each picture. depth, truth, valid: [B, h, w] -> [B]; 0 without any."""
    return ((depth - truth).abs() * valid).sum(dim=(1, 2)) / valid.sum(dim=(1, 2)).clamp(min=1)
