"""The network of VLM4HOI (arXiv 2404.09933): EVA-CLIP-g -> four patches per token -> linear -> Llama-2 with LoRA.

Built from `transformers`' Blip2VisionModel and LlamaForCausalLM and `peft`; what stands here is how they are joined.
`VLM4HOIConfig()` describes the published 7B model, `VLM4HOIConfig.tiny()` a network of some 50,000 weights for tests.
"""

import inspect
import logging
import math
from dataclasses import asdict, dataclass, field, fields, replace

import torch
import torch.nn.functional as F
from torch import nn

from egohoi.boxes import CODECS
from egohoi.errors import BadConfig, BadWeights, need

#: Stands in `input_ids` wherever a token of the image belongs (no vocabulary has it); LLaVA uses the same number.
IMAGE_TOKEN = -200
#: Label of a token that no loss is computed on (the `ignore_index` of torch's cross entropy).
IGNORE = -100


def _llama_7b() -> dict:
    return {
        "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32,
        "num_key_value_heads": 32, "max_position_embeddings": 4096, "rms_norm_eps": 1e-5, "tie_word_embeddings": False,
        "bos_token_id": 1, "eos_token_id": 2,
    }


@dataclass(frozen=True)
class VLM4HOIConfig:
    """Sizes of the network; the defaults are the published ones.

    image_size, patch_size: pixels. vision_*: the image encoder; vision_eps of its LayerNorms, ln_vision_eps of the last
    one. patches_per_token: neighbouring patches that become one language token. llama: what `LlamaConfig` takes.
    lora_rank 0 builds no LoRA. codec: how boxes are written (a name in `boxes.CODECS`).
    inference_bos: how many `<s>` the inference prompt starts with; the reference writes one and its tokenizer adds another.
    Raises BadConfig.
    """

    image_size: int = 448
    patch_size: int = 14
    vision_width: int = 1408
    vision_blocks: int = 39
    vision_heads: int = 16
    vision_mlp: int = 6144
    vision_eps: float = 1e-6
    ln_vision_eps: float = 1e-5
    patches_per_token: int = 4
    llama: dict = field(default_factory=_llama_7b)
    lora_rank: int = 64
    lora_alpha: float = 16
    lora_dropout: float = 0.05
    lora_targets: tuple[str, ...] = ("q_proj", "v_proj")
    inference_bos: int = 2
    max_new_tokens: int = 50
    codec: str = "braces"

    def __post_init__(self):
        object.__setattr__(self, "lora_targets", tuple(self.lora_targets))
        sizes = ("image_size", "patch_size", "vision_width", "vision_blocks", "vision_heads", "vision_mlp", "patches_per_token")
        for name in (*sizes, "inference_bos", "max_new_tokens"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise BadConfig(f"{name} must be a positive whole number, got {value!r}")
        if self.image_size % self.patch_size:
            raise BadConfig(f"image_size {self.image_size} is not a multiple of patch_size {self.patch_size}")
        if self.vision_width % self.vision_heads:
            raise BadConfig(f"vision_width {self.vision_width} is not a multiple of vision_heads {self.vision_heads}")
        if self.patches % self.patches_per_token:
            raise BadConfig(f"{self.patches} patches cannot be joined by {self.patches_per_token}: choose another image_size")
        if not isinstance(self.lora_rank, int) or isinstance(self.lora_rank, bool) or self.lora_rank < 0:
            raise BadConfig(f"lora_rank must be 0 (no LoRA) or a positive whole number, got {self.lora_rank!r}")
        alpha = self.lora_alpha
        if not isinstance(alpha, (int, float)) or isinstance(alpha, bool) or not 0 < alpha < math.inf:
            raise BadConfig(f"lora_alpha must be a number above 0, got {alpha!r}")
        if self.codec not in CODECS:
            raise BadConfig(f"codec must be one of {', '.join(CODECS)}, got {self.codec!r}")
        if not isinstance(self.llama, dict) or "hidden_size" not in self.llama or "vocab_size" not in self.llama:
            raise BadConfig("llama needs hidden_size and vocab_size (the config.json of a Llama folder)")

    @property
    def patches(self) -> int:
        """Patches of one image, the class token not counted."""
        return (self.image_size // self.patch_size) ** 2

    @property
    def image_tokens(self) -> int:
        """Language tokens that one image becomes (256 as published)."""
        return self.patches // self.patches_per_token

    @property
    def hidden_size(self) -> int:
        """Width of the language model."""
        return int(self.llama["hidden_size"])

    @classmethod
    def tiny(cls, vocab_size: int = 384, **changes) -> "VLM4HOIConfig":
        """A network small enough to be trained in a test: 4x4 patches -> 4 image tokens, two blocks each."""
        llama = {
            "vocab_size": vocab_size, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
            "num_key_value_heads": 4, "max_position_embeddings": 512, "rms_norm_eps": 1e-5, "tie_word_embeddings": False,
            "bos_token_id": 1, "eos_token_id": 2,
        }
        sizes = {
            "image_size": 56, "patch_size": 14, "vision_width": 24, "vision_blocks": 2, "vision_heads": 3, "vision_mlp": 104,
            "llama": llama, "lora_rank": 4, "lora_alpha": 16,
        }
        return cls(**{**sizes, **changes})

    def to_dict(self) -> dict:
        """Plain JSON values; `from_dict` reads them back."""
        return {**asdict(self), "lora_targets": list(self.lora_targets)}

    @classmethod
    def from_dict(cls, values: dict, where: str = "config.json") -> "VLM4HOIConfig":
        """Read `to_dict`'s output. Raises BadConfig for unknown keys; `model_type` and the like of the file are the caller's."""
        known = {f.name for f in fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise BadConfig(f"{where}: unknown key '{unknown[0]}'")
        try:
            return cls(**values)
        except (BadConfig, TypeError) as error:
            raise BadConfig(f"{where}: {error}") from error

    def without_lora(self) -> "VLM4HOIConfig":
        """The same sizes, no LoRA."""
        return replace(self, lora_rank=0)


class Float32LayerNorm(nn.LayerNorm):
    """LayerNorm that computes in float32 whatever it is given (as `ln_vision` of the reference) and returns the input's dtype."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.autocast(x.device.type, enabled=False):
            y = F.layer_norm(x.float(), self.normalized_shape, self.weight.float(), self.bias.float(), self.eps)
        return y.to(x.dtype)


@dataclass
class VLM4HOIOutput:
    """What `VLM4HOIModule.forward` returns.

    loss: scalar float32, or None without labels ("none": [B]). logits: float32 [B, L, V]. hidden_states: only on
    request; embeddings and every layer, each [B, L, D], the last one after the final norm. image_features: [B, T, D].
    """

    loss: torch.Tensor | None
    logits: torch.Tensor
    hidden_states: tuple[torch.Tensor, ...] | None = None
    image_features: torch.Tensor | None = None
    past_key_values: object = None


class VLM4HOIModule(nn.Module):
    """The network. Only LoRA and the projector (`trainable_names`) require gradients; the rest is frozen.

    Raises MissingExtra without the extra `vlm`.
    """

    def __init__(self, config: VLM4HOIConfig):
        super().__init__()
        transformers = need("transformers", "vlm")
        self.config = config
        self.vision = transformers.Blip2VisionModel(vision_config(config))
        # The reference has no norm of its own at the end of the encoder and applies `ln_vision` there, with another epsilon.
        self.vision.post_layernorm = Float32LayerNorm(config.vision_width, eps=config.ln_vision_eps)
        self.llama_proj = nn.Linear(config.vision_width * config.patches_per_token, config.hidden_size)
        self.llama_model = transformers.LlamaForCausalLM(llama_config(config))
        if config.lora_rank:
            # peft imports bitsandbytes where it is installed, which then logs what a CPU build of it lacks.
            logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
            peft = need("peft", "vlm")
            settings = peft.LoraConfig(
                r=config.lora_rank, lora_alpha=config.lora_alpha, lora_dropout=config.lora_dropout, bias="none",
                target_modules=list(config.lora_targets), task_type="CAUSAL_LM",
            )
            peft.inject_adapter_in_model(settings, self.llama_model)
        self.freeze()
        self.eval()

    # ------------------------------------------------------------------ training

    def freeze(self) -> None:
        """Let only the projector and LoRA require gradients."""
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(is_trained(name) and parameter.is_floating_point())

    def train(self, mode: bool = True) -> "VLM4HOIModule":
        """Training mode for the language model (LoRA dropout) and the projector; the frozen encoder stays in eval mode."""
        super().train(mode)
        self.vision.eval()
        return self

    def prepare_training(self, gradient_checkpointing: bool = True) -> "VLM4HOIModule":
        """Freeze what is frozen, keep trained weights in float32, and recompute activations if asked. Returns self."""
        self.freeze()
        for parameter in self.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.float()
        if gradient_checkpointing:
            # Not re-entrant: the re-entrant kind drops gradients where the block's input needs none, and breaks DDP.
            if hasattr(self.llama_model, "activation_checkpointing_enable"):
                self.llama_model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
            else:  # transformers before the method got its new name
                self.llama_model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        self.llama_model.config.use_cache = False
        return self.train()

    def trainable_names(self) -> list[str]:
        """Names of the parameters that are trained, in order."""
        return [name for name, parameter in self.named_parameters() if parameter.requires_grad]

    def trainable_state_dict(self) -> dict[str, torch.Tensor]:
        """The trained weights only, detached, on the CPU: projector and LoRA."""
        return {n: p.detach().cpu().contiguous() for n, p in self.named_parameters() if p.requires_grad}

    def load_trainable_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Copy in what `trainable_state_dict` gave. Raises BadWeights for a missing, unexpected or mis-shaped key."""
        own = {n: p for n, p in self.named_parameters() if p.requires_grad}
        for name in sorted(set(own) ^ set(state)):
            raise BadWeights(f"trained weights: '{name}' is {'missing' if name in own else 'unexpected'}")
        for name, parameter in own.items():
            if parameter.shape != state[name].shape:
                raise BadWeights(
                    f"trained weights: '{name}' has shape {list(state[name].shape)}, this model needs {list(parameter.shape)}: "
                    "another LoRA rank or model size"
                )
            with torch.no_grad():
                parameter.copy_(state[name])

    # ------------------------------------------------------------------ forward

    @property
    def device(self) -> torch.device:
        return self.llama_proj.weight.device

    def encode_vision(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Normalized images float [B, 3, S, S] -> patch tokens after `ln_vision` [B, 1 + patches, width], class token first.

        Raises BadWeights if S is not the model's image size.
        """
        size = self.config.image_size
        if tuple(pixel_values.shape[1:]) != (3, size, size):
            raise BadWeights(f"this model reads images [B, 3, {size}, {size}], got {list(pixel_values.shape)}")
        first = self.vision.embeddings.patch_embedding.weight
        return self.vision(pixel_values.to(first.device, first.dtype)).last_hidden_state

    def encode_image(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Normalized images float [B, 3, S, S] -> language tokens [B, T, D]; T = config.image_tokens."""
        # The encoder is frozen: no graph is kept for it.
        with torch.no_grad():
            patches = self.encode_vision(pixel_values)[:, 1:]
        batch, count, width = patches.shape
        join = self.config.patches_per_token
        # Four tokens in reading order, not a 2x2 block: the reference reshapes the sequence.
        joined = patches.reshape(batch, count // join, width * join)
        return self.llama_proj(joined.to(self.llama_proj.weight.dtype))

    def embed(self, input_ids: torch.Tensor, image_features: torch.Tensor | None) -> torch.Tensor:
        """Token ids [B, L] with IMAGE_TOKEN places and image tokens [B, T, D] -> embeddings [B, L, D]."""
        places = input_ids == IMAGE_TOKEN
        embeddings = self.llama_model.get_input_embeddings()(input_ids.masked_fill(places, 0))
        if image_features is None:
            if bool(places.any()):
                raise BadConfig("the text has a place for an image and no image was given")
            return embeddings
        wanted = image_features.shape[0] * image_features.shape[1]
        if int(places.sum()) != wanted:
            raise BadConfig(f"the text has {int(places.sum())} places for image tokens, the images have {wanted}")
        return embeddings.masked_scatter(places.unsqueeze(-1), image_features.to(embeddings.dtype))

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None, pixel_values: torch.Tensor | None = None,
        labels: torch.Tensor | None = None, *, image_features: torch.Tensor | None = None, reduction: str = "mean",
        output_hidden_states: bool = False,
    ) -> VLM4HOIOutput:
        """One pass over whole sequences.

        input_ids: int64 [B, L], IMAGE_TOKEN where image tokens go. attention_mask: [B, L], 0 on padding (either side).
        pixel_values: float [B, 3, S, S], or image_features: [B, T, D] computed before. labels: int64 [B, L] aligned with
        input_ids (shifted here), IGNORE where no loss is wanted. reduction: "mean" over the batch's answer tokens
        (as the reference), "sum", or "none" (one mean per sequence, over its own answer tokens).
        """
        if image_features is None and pixel_values is not None:
            image_features = self.encode_image(pixel_values)
        embeddings = self.embed(input_ids, image_features)
        if attention_mask is None:
            attention_mask = torch.ones(input_ids.shape, dtype=torch.long, device=input_ids.device)
        positions = (attention_mask.long().cumsum(-1) - 1).clamp(min=0)
        output = self.llama_model(
            inputs_embeds=embeddings, attention_mask=attention_mask, position_ids=positions, use_cache=False,
            output_hidden_states=output_hidden_states,
        )
        logits = output.logits.float()
        loss = None if labels is None else answer_loss(logits, labels, reduction)
        return VLM4HOIOutput(loss, logits, output.hidden_states, image_features)

    # ------------------------------------------------------------------ generation

    @property
    def cache_argument(self) -> str:
        """What the installed transformers call the cache of keys and values: "cache", or "past_key_values" before 5.2x."""
        names = inspect.signature(type(self.llama_model).forward).parameters
        return "cache" if "cache" in names else "past_key_values"

    @torch.inference_mode()
    def generate(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, *, pixel_values: torch.Tensor | None = None,
        image_features: torch.Tensor | None = None, max_new_tokens: int | None = None, **options,
    ):
        """New token ids [B, N] by `transformers`' generate; greedy unless `options` say otherwise.

        input_ids, attention_mask: as in `forward`, padded on the left. options: anything `generate` takes
        (num_beams, do_sample, temperature, top_p, streamer, output_hidden_states, the cache by the name `cache_argument`, ...).
        """
        if image_features is None and pixel_values is not None:
            image_features = self.encode_image(pixel_values)
        return self.generate_from(self.embed(input_ids, image_features), attention_mask, max_new_tokens=max_new_tokens, **options)

    @torch.inference_mode()
    def generate_from(
        self, embeddings: torch.Tensor, attention_mask: torch.Tensor, *, max_new_tokens: int | None = None, **options
    ):
        """`generate` for embeddings [B, L, D] that are made already; with a cache, it holds those of the first tokens."""
        eos = self.config.llama.get("eos_token_id", 2)
        settings = {
            "max_new_tokens": max_new_tokens or self.config.max_new_tokens, "do_sample": False, "num_beams": 1,
            # The reference asks for min_length=1 on an empty prefix: the first new token is never the end symbol.
            "min_new_tokens": 1, "eos_token_id": eos, "pad_token_id": eos[0] if isinstance(eos, list) else eos, "use_cache": True,
        }
        return self.llama_model.generate(inputs_embeds=embeddings, attention_mask=attention_mask, **{**settings, **options})


def answer_loss(logits: torch.Tensor, labels: torch.Tensor, reduction: str = "mean") -> torch.Tensor:
    """Cross entropy of each next token. logits: float32 [B, L, V], labels: [B, L] with IGNORE; see `forward` for reduction."""
    wanted = labels[:, 1:].reshape(-1)
    flat = F.cross_entropy(logits[:, :-1].reshape(-1, logits.shape[-1]), wanted, ignore_index=IGNORE, reduction="none")
    count = (labels[:, 1:] != IGNORE).sum(1)
    sums = flat.view(labels.shape[0], -1).sum(1)
    if reduction == "none":
        return sums / count.clamp(min=1)
    if reduction == "sum":
        return sums.sum()
    if reduction == "mean":
        return sums.sum() / count.sum().clamp(min=1)
    raise BadConfig(f"reduction must be mean, sum or none, got {reduction!r}")


def is_trained(name: str) -> bool:
    """Whether the parameter of that name is one that VLM4HOI trains (projector, LoRA)."""
    return name.startswith("llama_proj.") or ".lora_" in name


def vision_config(config: VLM4HOIConfig):
    """The `Blip2VisionConfig` of the image encoder."""
    return need("transformers", "vlm").Blip2VisionConfig(
        hidden_size=config.vision_width, intermediate_size=config.vision_mlp, num_hidden_layers=config.vision_blocks,
        num_attention_heads=config.vision_heads, image_size=config.image_size, patch_size=config.patch_size, hidden_act="gelu",
        layer_norm_eps=config.vision_eps, qkv_bias=True, attention_dropout=0.0,
    )


def llama_config(config: VLM4HOIConfig):
    """The `LlamaConfig` of the language model."""
    return need("transformers", "vlm").LlamaConfig(**config.llama)


def tiny_model(seed: int = 0, **changes) -> VLM4HOIModule:
    """A tiny network with random weights of the given seed, LoRA's B matrices not zero so that LoRA shows in the output."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = VLM4HOIModule(VLM4HOIConfig.tiny(**changes))
        for name, parameter in model.named_parameters():
            if ".lora_B." in name:
                nn.init.normal_(parameter, std=0.05)
    return model
