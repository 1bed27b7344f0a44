"""Recipe: fine-tune VLM4HOI. LoRA and the projector are trained on conversations about pictures, answers only."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from egohoi import images
from egohoi.errors import BadConfig, BadData
from egohoi.training import config as configuration
from egohoi.training import data, loop
from egohoi.training.config import LoopConfig
from egohoi.training.recipe import Recipe


@dataclass(frozen=True)
class VLM4HOITraining:
    """What stands in the YAML file.

    model: a VLM4HOI folder (from `egohoi convert vlm4hoi`, also of a MiniGPT-v2 checkpoint). frozen: type of the weights
    that are not trained. lora_rank, lora_alpha: a fresh LoRA for a folder that has none. gradient_checkpointing:
    recompute activations in the language model. max_text: tokens kept after the first question.
    max_question_chars, max_answer_chars: cut a conversation's joined questions or answers, as the reference does at 256.
    export: what is written at the end, besides the checkpoints: `official` (for the released code) and `folder` (`out`/model).
    """

    recipe: str
    model: str
    out: str
    data: tuple[data.SourceConfig, ...]
    frozen: Literal["float32", "bfloat16", "float16"] = "bfloat16"
    lora_rank: int | None = None
    lora_alpha: float = 16
    gradient_checkpointing: bool = True
    max_text: int = 1024
    max_question_chars: int | None = None
    max_answer_chars: int | None = None
    export: tuple[Literal["official", "folder"], ...] = ("official", "folder")
    loop: LoopConfig = field(default_factory=LoopConfig)

    def __post_init__(self):
        for key in ("lora_rank", "max_text", "max_question_chars", "max_answer_chars"):
            value = getattr(self, key)
            if value is not None and value < 1:
                raise BadConfig(f"{key} must be at least 1, got {value}")


class VLM4HOIRecipe(Recipe):
    """See `Recipe`. One loss: the cross entropy of the answers' tokens and end symbols, mean over the global batch."""

    name = "vlm4hoi"
    shard = ("LlamaDecoderLayer", "Blip2EncoderLayer")

    def __init__(self, config: VLM4HOITraining):
        from egohoi.models.vlm4hoi_folder import read_config
        from egohoi.models.vlm4hoi_processor import VLM4HOIProcessor

        self.config = config
        self.network = read_config(config.model)
        if config.lora_rank is not None:
            if self.network.lora_rank not in (0, config.lora_rank):
                raise BadConfig(
                    f"lora_rank: {config.model} has a LoRA of rank {self.network.lora_rank}, which goes on being trained: "
                    "leave the key out"
                )
            if self.network.lora_rank == 0:
                self.network = replace(self.network, lora_rank=config.lora_rank, lora_alpha=config.lora_alpha)
        self.processor = VLM4HOIProcessor.from_pretrained(config.model, self.network)

    def model(self):
        return self._load(self.config.frozen).prepare_training(self.config.gradient_checkpointing)

    def _load(self, precision: str):
        """The folder's network on the CPU, with a fresh LoRA if it has none and one is asked for."""
        from egohoi.models.vlm4hoi_folder import load_module, read_config

        module = load_module(self.config.model, "cpu", precision)
        if read_config(self.config.model).lora_rank == 0 and self.network.lora_rank:
            import peft

            settings = peft.LoraConfig(
                r=self.network.lora_rank, lora_alpha=self.network.lora_alpha, lora_dropout=self.network.lora_dropout, bias="none",
                target_modules=list(self.network.lora_targets), task_type="CAUSAL_LM",
            )
            peft.inject_adapter_in_model(settings, module.llama_model)
            module.config = self.network
        return module

    def data(self):
        return data.mixture(self.config.data, self.config.loop.seed)

    def item(self, example, rng):
        # no augmentation: a flip would swap left and right, a crop would move the boxes that the text speaks of
        if example.codec != self.network.codec:
            raise BadData(f"example '{example.id}': boxes are written as '{example.codec}', the model writes '{self.network.codec}'")
        sequence = self.processor.conversation(
            example.conversation, max_text=self.config.max_text, max_question_chars=self.config.max_question_chars,
            max_answer_chars=self.config.max_answer_chars,
        )
        return self.processor.pixels(images.load(example.image)), sequence

    def collate(self, items):
        return self.processor.collate(items)

    def counts(self, batch):
        from egohoi.models.vlm4hoi_module import IGNORE

        return {"answer": float((batch["labels"][:, 1:] != IGNORE).sum())}

    def losses(self, model, batch):
        return {"answer": model(**batch).loss}

    def export(self, trained, folder):
        from egohoi.models.vlm4hoi_convert import export_checkpoint
        from egohoi.models.vlm4hoi_folder import save_pretrained

        written = []
        if "official" in self.config.export:
            path = folder / f"checkpoint_{self.config.loop.steps}.pth"
            export_checkpoint(trained, self.network, path)
            written.append(path)
        if "folder" in self.config.export and not _whole(folder / "model"):
            module = self._load(self.config.frozen)
            for parameter in module.parameters():
                if parameter.requires_grad:
                    parameter.data = parameter.data.float()
            module.load_trainable_state_dict(trained)
            save_pretrained(module, self.processor, folder / "model", origin="Fine-tuned with `egohoi train`.")
        if "folder" in self.config.export:
            written.append(folder / "model")
        return written


def _whole(folder: Path) -> bool:
    # it appears under its name only when it is complete
    return (folder / "config.json").is_file()


def run(config: dict) -> loop.Result:
    """Train by a configuration (see configs/vlm4hoi_finetune.yaml). Raises BadConfig, BadWeights, BadData, MissingExtra."""
    typed = configuration.build(VLM4HOITraining, config)
    return loop.fit(VLM4HOIRecipe(typed), typed.loop, typed.out, configuration.plain(typed))
