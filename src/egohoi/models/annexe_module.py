"""The network of ANNEXE (arXiv 2504.01472): a language side that writes, and a mask side that is driven by what it wrote.

Language side: vision tower -> patches joined -> linear -> language model with LoRA (the parts of VLM4HOI, or any vision
tower and causal language model of `transformers`), with five tokens more, `<MSK>` and `<MSK_0>`...`<MSK_3>`. Mask side: the
language model's *output* state at each of those tokens becomes a query; a grounding decoder turns it and depth-aware pixel
features into a mask; a head decides from the state before the answer whether there is a target at all.
"""

import math
from dataclasses import asdict, dataclass, field, fields, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from egohoi.errors import BadConfig, need
from egohoi.models import annexe_heads as heads
from egohoi.models.annexe_text import TOKENS
from egohoi.models.vlm4hoi_module import IGNORE, IMAGE_TOKEN, VLM4HOIConfig, VLM4HOIModule, vision_config
from egohoi.models.vlm4hoi_module import Float32LayerNorm as _Norm

#: Mean and standard deviation that Depth-Anything (and DINOv2) expect, RGB in 0..1.
DEPTH_MEAN, DEPTH_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
#: Losses in the order of the paper, with their factors; the trained sum is their mean, so each is divided by five.
WEIGHTS = {"analysis": 1.0, "answer": 1.0, "target": 1.0, "depth": 0.5, "mask": 3.0}


def _depth_anything_v2_base() -> dict:
    return {
        "backbone_config": {
            "model_type": "dinov2", "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "image_size": 518,
            "patch_size": 14, "out_indices": [3, 6, 9, 12], "reshape_hidden_states": False, "apply_layernorm": True,
        },
        "patch_size": 14, "reassemble_hidden_size": 768, "neck_hidden_sizes": [96, 192, 384, 768], "fusion_hidden_size": 128,
        "head_hidden_size": 32,
    }


@dataclass(frozen=True)
class AnnexeConfig:
    """Sizes and choices; the defaults are the paper's model.

    language: sizes of vision tower, projector, language model and LoRA. tower: another vision tower, the `to_dict` of a
    transformers vision configuration with its `model_type` (null: EVA; {model_type: nano}: the encoder that the package
    carries). llm: another causal language model, likewise
    (null: Llama). mean, std: of the tower's pictures, RGB in 0..1.
    pixels: where the pixel features come from, "depth_anything" or "tower". depth_anything: DepthAnythingConfig.
    pixel_size: side of the square picture that Depth-Anything sees. depth: whether a depth decoder makes them depth-aware.
    decoder: "light" or "sam2"; channels, decoder_layers, decoder_heads: its size. sam2: sizes of a SAM 2 that it was taken from
    (values of a Sam2MaskDecoderConfig; null: from channels, layers and heads).
    conditioning: what drives the masks: "hidden", the language model's output states at the mask tokens, or "input", the
    mean of its input embeddings as in the released code (for comparison: the answer is in them in training only).
    analysis: "context", the analysis is written first and read by the answer step, or "apart".
    answer_style: "names" or "published", see `questions.irg.answer_text`. threshold: chance of a target from which masks stay.
    train_tower, train_language ("lora" or "full"), train_pixels ("none", "head", "all"): what is trained beside the parts
    that are always trained (projector, mask tokens, queries, decoder, target head).
    """

    language: VLM4HOIConfig = field(default_factory=lambda: VLM4HOIConfig(inference_bos=1, max_new_tokens=64))
    tower: dict | None = None
    llm: dict | None = None
    mean: tuple[float, ...] = (0.55, 0.55, 0.53)
    std: tuple[float, ...] = (0.22, 0.23, 0.25)
    pixels: str = "depth_anything"
    depth_anything: dict = field(default_factory=_depth_anything_v2_base)
    pixel_size: int = 448
    depth: bool = True
    decoder: str = "light"
    channels: int = 256
    decoder_layers: int = 2
    decoder_heads: int = 8
    sam2: dict | None = None
    conditioning: str = "hidden"
    analysis: str = "context"
    answer_style: str = "names"
    threshold: float = 0.5
    train_tower: bool = False
    train_language: str = "lora"
    train_pixels: str = "head"

    def __post_init__(self):
        for name, choices in (
            ("pixels", ("depth_anything", "tower")), ("decoder", ("light", "sam2")), ("conditioning", ("hidden", "input")),
            ("analysis", ("context", "apart")), ("answer_style", ("names", "published")), ("train_language", ("lora", "full")),
            ("train_pixels", ("none", "head", "all")),
        ):
            if getattr(self, name) not in choices:
                raise BadConfig(f"{name} must be one of {', '.join(choices)}, got {getattr(self, name)!r:.40}")
        for name, none in (("tower", True), ("llm", True), ("sam2", True), ("depth_anything", False)):
            value = getattr(self, name)
            if not (isinstance(value, dict) or (none and value is None)):
                raise BadConfig(f"{name} must hold the values of a transformers configuration, got {value!r:.40}")
        if not isinstance(self.language, VLM4HOIConfig):
            raise BadConfig(f"language must hold the sizes of the language side, got {self.language!r:.40}")
        for name in ("mean", "std"):
            values = getattr(self, name)
            if not isinstance(values, (list, tuple)) or len(values) != 3 or not all(map(_number, values)) or (name == "std" and min(values) <= 0):
                raise BadConfig(f"{name} must be three numbers{' above 0' if name == 'std' else ''} (RGB), got {values!r:.40}")
            object.__setattr__(self, name, tuple(values))
        patch = self.depth_anything.get("patch_size", 14)
        sizes = {k: getattr(self, k) for k in ("pixel_size", "channels", "decoder_layers", "decoder_heads")}
        for name, value in {**sizes, "depth_anything: patch_size": patch}.items():
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise BadConfig(f"{name} must be a positive whole number, got {value!r:.40}")
        for name in ("depth", "train_tower"):
            if not isinstance(getattr(self, name), bool):
                raise BadConfig(f"{name} must be true or false, got {getattr(self, name)!r:.40}")
        if self.channels % 8 or self.channels % self.decoder_heads:
            raise BadConfig(f"channels must be a multiple of 8 and of decoder_heads ({self.decoder_heads}), got {self.channels}")
        if self.pixels == "depth_anything" and self.pixel_size % patch:
            raise BadConfig(f"pixel_size {self.pixel_size} is not a multiple of Depth-Anything's patch size")
        if not _number(self.threshold) or not 0 < self.threshold < 1:
            raise BadConfig(f"threshold must lie between 0 and 1, got {self.threshold}")

    @property
    def mask_side(self) -> int:
        """Rows (and columns) of the masks that the decoder makes, before they are brought to the picture's size."""
        if self.pixels == "tower":
            return 4 * (self.language.image_size // self.language.patch_size)
        return 4 * (self.pixel_size // self.depth_anything.get("patch_size", 14))

    def to_dict(self) -> dict:
        """Plain JSON values; `from_dict` reads them back."""
        return {**asdict(self), "language": self.language.to_dict(), "mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def from_dict(cls, values: dict, where: str = "config.json") -> "AnnexeConfig":
        """Read `to_dict`'s output. Raises BadConfig."""
        if not isinstance(values, dict):
            raise BadConfig(f"{where}: 'annexe' must hold the values of the model, got {values!r:.40}")
        unknown = sorted(set(values) - {f.name for f in fields(cls)})
        if unknown:
            raise BadConfig(f"{where}: unknown key '{unknown[0]}'")
        given = dict(values)
        if isinstance(given.get("language"), dict):
            given["language"] = VLM4HOIConfig.from_dict(given["language"], where)
        try:
            return cls(**given)
        except TypeError as error:
            raise BadConfig(f"{where}: {error}") from error

    @classmethod
    def small(cls, vocab_size: int, *, side: int = 64, patch: int = 8, width: int = 96, layers: int = 3, **changes) -> "AnnexeConfig":
        """A network of about a million weights that a CPU trains from nothing; side: pixels of its pictures."""
        language = VLM4HOIConfig(
            image_size=side, patch_size=patch, vision_width=width, vision_blocks=layers, vision_heads=4, vision_mlp=2 * width,
            patches_per_token=4, lora_rank=0, inference_bos=1, max_new_tokens=48,
            llama={
                "vocab_size": vocab_size, "hidden_size": width, "intermediate_size": 2 * width, "num_hidden_layers": layers,
                "num_attention_heads": 4, "num_key_value_heads": 4, "max_position_embeddings": 1024, "rms_norm_eps": 1e-5,
                "tie_word_embeddings": False, "bos_token_id": 1, "eos_token_id": 2,
            },
        )
        depth = {
            "backbone_config": {
                "model_type": "dinov2", "hidden_size": width, "num_hidden_layers": 4, "num_attention_heads": 4, "mlp_ratio": 2,
                "image_size": side, "patch_size": patch, "out_indices": [1, 2, 3, 4], "reshape_hidden_states": False,
                "apply_layernorm": True,
            },
            "patch_size": patch, "reassemble_hidden_size": width, "neck_hidden_sizes": [24, 32, 48, 64], "fusion_hidden_size": 32,
            "head_hidden_size": 16,
        }
        sizes = {
            "language": language, "pixel_size": side, "depth_anything": depth, "channels": 64, "decoder_heads": 4,
            "train_tower": True, "train_language": "full", "train_pixels": "all",
        }
        return cls(**{**sizes, **changes})


def _number(value) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


class MoreTokens(nn.Module):
    """A language model's embedding with rows for tokens that it did not have; the rows alone are trained under LoRA."""

    def __init__(self, base: nn.Embedding, count: int):
        super().__init__()
        self.base = base
        self.extra = nn.Parameter(torch.empty(count, base.embedding_dim))
        nn.init.normal_(self.extra, std=0.02)

    def forward(self, ids: Tensor) -> Tensor:
        first = self.base.num_embeddings
        new = ids >= first
        known = self.base(ids.masked_fill(new, 0))
        extra = functional.embedding((ids - first).clamp(min=0), self.extra).to(known.dtype)
        return torch.where(new[..., None], extra, known)


class MoreWords(nn.Module):
    """A language model's output layer with rows for the same tokens."""

    def __init__(self, base: nn.Linear, count: int):
        super().__init__()
        self.base = base
        self.extra = nn.Parameter(torch.empty(count, base.in_features))
        nn.init.normal_(self.extra, std=0.02)

    def forward(self, hidden: Tensor) -> Tensor:
        known = self.base(hidden)
        return torch.cat([known, functional.linear(hidden.to(self.extra.dtype), self.extra).to(known.dtype)], dim=-1)


class Language(VLM4HOIModule):
    """Vision tower, projector and language model: VLM4HOI's own, or others of `transformers`, plus the mask tokens."""

    def __init__(self, config: AnnexeConfig):
        nn.Module.__init__(self)
        transformers = need("transformers", "vlm")
        self.config = config.language
        self.choices = config
        if config.tower is None:
            self.vision = transformers.Blip2VisionModel(vision_config(config.language))
            self.vision.post_layernorm = _Norm(config.language.vision_width, eps=config.language.ln_vision_eps)
        elif config.tower.get("model_type") == "nano":
            from egohoi.models.annexe_nano import NanoTower

            self.vision = NanoTower()
        else:
            self.vision = transformers.AutoModel.from_config(_auto(config.tower, "tower"))
        self.llama_proj = nn.Linear(config.language.vision_width * config.language.patches_per_token, config.language.hidden_size)
        if config.llm is None:
            self.llama_model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**config.language.llama))
        else:
            self.llama_model = transformers.AutoModelForCausalLM.from_config(_auto(config.llm, "llm"))
        words = self.llama_model.get_input_embeddings()
        if (words.num_embeddings, words.embedding_dim) != (config.language.llama["vocab_size"], config.language.hidden_size):
            raise BadConfig(
                f"llm has {words.num_embeddings} tokens of width {words.embedding_dim}, language.llama says "
                f"{config.language.llama['vocab_size']} of width {config.language.hidden_size}: both must say the same"
            )
        self.llama_model.set_input_embeddings(MoreTokens(words, len(TOKENS)))
        self.llama_model.set_output_embeddings(MoreWords(self.llama_model.get_output_embeddings(), len(TOKENS)))
        if config.language.lora_rank:
            peft = need("peft", "vlm")
            peft.inject_adapter_in_model(
                peft.LoraConfig(
                    r=config.language.lora_rank, lora_alpha=config.language.lora_alpha, lora_dropout=config.language.lora_dropout,
                    bias="none", target_modules=list(config.language.lora_targets), task_type="CAUSAL_LM",
                ),
                self.llama_model,
            )
        self.freeze()
        self.eval()

    def freeze(self) -> None:
        """Projector, mask tokens and LoRA are trained; tower and language model as the configuration says."""
        for name, parameter in self.named_parameters():
            part = name.partition(".")[0]
            wanted = (
                part == "llama_proj" or ".lora_" in name or name.endswith(".extra")
                or (part == "vision" and self.choices.train_tower) or (part == "llama_model" and self.choices.train_language == "full")
            )
            parameter.requires_grad_(wanted and parameter.is_floating_point())

    def train(self, mode: bool = True) -> "Language":
        nn.Module.train(self, mode)
        if not self.choices.train_tower:
            self.vision.eval()
        return self

    def patches(self, pixel_values: Tensor) -> Tensor:
        """Normalised pictures float [B, 3, S, S] -> patch tokens [B, N, width], without class and register tokens."""
        first = next(self.vision.parameters())
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.choices.train_tower):
            states = self.vision(pixel_values.to(first.device, first.dtype)).last_hidden_state
        if states.ndim == 4:  # a convolutional tower: [B, width, h, w]
            states = states.flatten(2).transpose(1, 2)
        count = self.config.patches
        if states.shape[1] < count or states.shape[2] != self.config.vision_width:
            raise BadConfig(
                f"the vision tower gives {states.shape[1]} tokens of width {states.shape[2]}, language says {count} "
                f"(image_size, patch_size) of width {self.config.vision_width}"
            )
        return states[:, -count:]

    def tokens(self, patches: Tensor) -> Tensor:
        """Patch tokens [B, N, width] -> language tokens [B, N / patches_per_token, D]."""
        join = self.config.patches_per_token
        joined = patches.reshape(len(patches), -1, patches.shape[2] * join)
        return self.llama_proj(joined.to(self.llama_proj.weight.dtype))

    def encode_image(self, pixel_values: Tensor) -> Tensor:
        """Normalised pictures float [B, 3, S, S] -> language tokens [B, T, D]."""
        return self.tokens(self.patches(pixel_values))

    def read(self, input_ids: Tensor, attention_mask: Tensor, image_tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Whole sequences -> (input embeddings [B, L, D], output states after the final norm [B, L, D])."""
        embeddings = self.embed(input_ids, image_tokens)
        positions = (attention_mask.long().cumsum(-1) - 1).clamp(min=0)
        decoder = self.llama_model.get_decoder() if hasattr(self.llama_model, "get_decoder") else self.llama_model.model
        states = decoder(inputs_embeds=embeddings, attention_mask=attention_mask, position_ids=positions, use_cache=False)
        return embeddings, states.last_hidden_state


def _auto(values: dict, what: str):
    from transformers import AutoConfig

    given = dict(values)
    try:
        return AutoConfig.for_model(given.pop("model_type"), **given)
    except (KeyError, ValueError, TypeError) as error:
        raise BadConfig(f"{what}: needs the model_type and the values of a transformers configuration ({str(error)[:80]})") from error


@dataclass(frozen=True)
class Read:
    """Sequences as read by the language model. embeddings, states: [B, L, D]; mask: [B, L]; image tokens' patches [B, N, W]."""

    embeddings: Tensor
    states: Tensor
    mask: Tensor
    patches: Tensor


class AnnexeModule(nn.Module):
    """The whole network. `forward` gives the losses of a batch; inference goes through the named steps."""

    def __init__(self, config: AnnexeConfig):
        super().__init__()
        self.config = config
        self.language = Language(config)
        self.slots = None
        for name, part in mask_side(config).items():
            setattr(self, name, part)
        self.freeze()

    def freeze(self) -> None:
        """Set `requires_grad` as the configuration says."""
        self.language.freeze()
        choice = self.config.train_pixels
        # parts of Depth-Anything that no output of ours depends on: they would never get a gradient
        idle = ["mask_token", "fusion_stage.layers.0.residual_layer1."]
        if not self.config.depth:
            idle += ["reassemble_stage.layers.0.", "neck.convs.0.", "fusion_stage.layers.3."]
        for name, parameter in self.pixels.named_parameters():
            foreign = name.startswith("net.")
            frozen = foreign and (choice == "none" or (choice == "head" and name.startswith("net.backbone.")))
            parameter.requires_grad_(not frozen and not (foreign and any(part in name for part in idle)))
        if isinstance(self.decoder, heads.Sam2Decoder):
            for name, parameter in self.decoder.named_parameters():
                # SAM's own scores and its three spare masks play no part here
                if any(part in name for part in ("iou_prediction_head", "pred_obj_score_head", *(f"mlps.{k}." for k in (1, 2, 3)))):
                    parameter.requires_grad_(False)

    @property
    def device(self) -> torch.device:
        return self.language.device

    def read(self, batch: dict) -> Read:
        """batch: pixel_values, input_ids, attention_mask -> Read. Sequence b belongs to picture `picture[b]` of pixel_values.

        patches float [P, N, W], if there: what a frozen tower gave for the pictures before, so that it is not run again.
        """
        patches = batch["patches"] if "patches" in batch else self.language.patches(batch["pixel_values"])
        picture = batch["picture"]
        tokens = self.language.tokens(patches)[picture]
        embeddings, states = self.language.read(batch["input_ids"], batch["attention_mask"], tokens)
        return Read(embeddings, states, batch["attention_mask"], patches)

    def read_one(self, input_ids: Tensor, image_tokens: Tensor, patches: Tensor) -> Read:
        """One unpadded sequence [1, L] about one encoded picture (image_tokens [1, T, D], patches [1, N, W]) -> Read."""
        mask = torch.ones_like(input_ids)
        embeddings, states = self.language.read(input_ids, mask, image_tokens)
        return Read(embeddings, states, mask, patches)

    def features(self, batch: dict, patches: Tensor) -> heads.Features:
        """Pixel features of the batch's pictures."""
        pictures = batch["pixel_values"] if self.config.pixels == "tower" else batch["depth_pixels"]
        first = next(self.pixels.parameters())
        return self.pixels(pictures.to(first.device, first.dtype), patches.to(first.dtype))

    def conditions(self, read: Read, rows: Tensor, places: Tensor, prompt_ends: Tensor, order: Tensor) -> tuple[Tensor, Tensor]:
        """(queries [T, C], target logits [B]).

        rows, places [T]: sequence and position of every mask token; prompt_ends [B]: last position before each answer;
        order [T]: which mask token it is, 0 for `<MSK>`, 1 + k for `<MSK_k>`.
        """
        if self.config.conditioning == "input":
            # the released design: what went into the language model, the answer included where there is one
            weights = read.mask[..., None].to(read.embeddings.dtype)
            pooled = (read.embeddings * weights).sum(1) / weights.sum(1)
            return self.to_query(pooled[rows].float()) + self.slots[order], self.target(pooled.float())
        ends = read.states[torch.arange(len(prompt_ends), device=prompt_ends.device), prompt_ends]
        return self.to_query(read.states[rows, places].float()), self.target(ends.float())

    def forward(self, batch: dict) -> dict[str, Tensor]:
        """Losses of a batch, each a mean (over tokens, items, pictures, masks): analysis, answer, target, depth, mask.

        batch: pixel_values float [P, 3, S, S]; depth_pixels float [P, 3, Z, Z] or absent; input_ids, attention_mask [B, L];
        picture [B]; analysis_labels, answer_labels [B, L] (IGNORE elsewhere); answer_rows [Q] (sequences that hold an
        answer), prompt_ends [B], has_target float [Q]; mask_rows, mask_places, mask_order [T], masks float [T, m, m];
        depth, depth_valid float [P, m, m], m = config.mask_side.
        """
        read = self.read(batch)
        losses = {}
        wanted = {name: batch[f"{name}_labels"][:, 1:] for name in ("analysis", "answer")}
        # words are scored only where one is wanted: elsewhere each place would cost a whole vocabulary of float32
        where = (wanted["analysis"] != IGNORE) | (wanted["answer"] != IGNORE)
        logits = self.language.llama_model.get_output_embeddings()(read.states[:, :-1][where]).float()
        for name, labels in wanted.items():
            losses[name] = _token_loss(logits, labels[where])
        queries, target = self.conditions(read, batch["mask_rows"], batch["mask_places"], batch["prompt_ends"], batch["mask_order"])
        losses["target"] = functional.binary_cross_entropy_with_logits(target[batch["answer_rows"]], batch["has_target"])
        features = self.features(batch, read.patches)
        if features.depth is not None:
            known = (batch["depth_valid"].flatten(1).sum(1) > 0).float()
            each = heads.depth_loss(features.depth.float(), batch["depth"], batch["depth_valid"])
            losses["depth"] = (each * known).sum() / known.sum().clamp(min=1)
        else:
            losses["depth"] = features.fine.sum() * 0.0
        if len(queries):
            # pictures without a mask need no decoding
            shown, of = batch["picture"][batch["mask_rows"]].unique(return_inverse=True)
            features = heads.Features(features.coarse[shown], features.fine[shown], None)
            losses["mask"] = heads.mask_loss(self.decoder(queries, features, of).float(), batch["masks"]).mean()
        else:
            # no mask in this pass: still connected to the graph, so that every process has the same gradients to exchange
            empty = sum(p.sum() for p in (*self.decoder.parameters(), *self.to_query.parameters()) if p.requires_grad)
            losses["mask"] = (empty + features.coarse.sum() + features.fine.sum()) * 0.0
        return losses


def mask_side(config: AnnexeConfig) -> dict[str, nn.Module | nn.Parameter]:
    """The parts beside the language side, freshly initialised, by their names in `AnnexeModule`. Needs no language model."""
    width, parts = config.language.hidden_size, {}
    if config.pixels == "depth_anything":
        from transformers import DepthAnythingConfig

        parts["pixels"] = heads.DepthAnythingPixels(DepthAnythingConfig(**config.depth_anything), config.channels, config.depth)
    else:
        parts["pixels"] = heads.TowerPixels(config.language.vision_width, config.channels, config.depth)
    parts["to_query"] = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, config.channels))
    if config.conditioning == "input":
        # only the released design needs them: without the tokens' own states nothing tells the first mask from the second
        parts["slots"] = nn.Parameter(torch.randn(len(TOKENS), config.channels) * 0.5)
    if config.decoder == "light":
        parts["decoder"] = heads.LightDecoder(config.channels, config.decoder_layers, config.decoder_heads)
    else:
        parts["decoder"] = heads.Sam2Decoder(config.channels, config.decoder_layers, config.decoder_heads, config.sam2)
    parts["target"] = heads.TargetHead(width)
    return parts


def _token_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean over the labels [N] that are not IGNORE of the cross entropy of logits [N, V]."""
    return functional.cross_entropy(logits, labels, ignore_index=IGNORE, reduction="sum") / (labels != IGNORE).sum().clamp(min=1)


def changed(config: AnnexeConfig, **choices) -> AnnexeConfig:
    """`config` with other choices (decoder, depth, analysis, ...)."""
    return replace(config, **choices)


__all__ = ["IGNORE", "IMAGE_TOKEN", "WEIGHTS", "AnnexeConfig", "AnnexeModule", "Language", "changed", "mask_side"]
