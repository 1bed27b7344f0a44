"""The recipe of ANNEXE: one joint loss over description, answer, target decision, depth and masks.

    egohoi train configs/annexe.yaml model.start=FOLDER data.0.folder=Ego-IRGBench
"""

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from egohoi.errors import BadConfig, BadData, EgohoiError
from egohoi.training.annexe_data import Augment, Items, augmented, collate, counts, load, prepared
from egohoi.training.config import LoopConfig, build, plain
from egohoi.training.data import Mixture
from egohoi.training.recipe import Recipe


@dataclass(frozen=True)
class SplitConfig:
    """One data set in the layout of Ego-IRGBench. single, multi, none: shares of the draws with one, several and no targets;
    a kind that does not occur is left out. ratio: share of this data set among several. limit: the first so many items."""

    folder: str
    split: str = "train"
    ratio: float = 1.0
    single: float = 1.0
    multi: float = 1.0
    none: float = 1.0
    limit: int | None = None

    def __post_init__(self):
        shares = (self.single, self.multi, self.none)
        if self.ratio <= 0 or min(shares) < 0 or sum(shares) == 0:
            raise BadConfig("ratio must be above 0, and single, multi, none 0 or more, not all 0")


@dataclass(frozen=True)
class ModelConfig:
    """start: an ANNEXE folder to go on from (converted or trained); null: a small model from nothing, or one of other parts:
    llm, tower, depth_anything: folders of transformers with the language model, the vision tower and (null: none, the
    tower's own features) Depth-Anything; image_size: pixels of a side that the tower reads, null for its own; lora_rank,
    lora_targets: of the language model. llm and tower come together.

    small: sizes of that small model (side, patch, width, layers: see `AnnexeConfig.small`); vocabulary: ids of its tokenizer,
    which is learned from the texts of the data. sam2: a Sam2Model folder whose decoder is taken over. frozen: precision of the
    language side's weights that are not trained. checkpointing: recompute activations. The rest changes the folder's or the
    small model's own choices; null keeps.
    """

    start: str | None = None
    llm: str | None = None
    tower: str | None = None
    depth_anything: str | None = None
    image_size: int | None = None
    lora_rank: int = 64
    lora_targets: tuple[str, ...] = ("q_proj", "v_proj")
    small: dict[str, Any] = field(default_factory=dict)
    vocabulary: int = 800
    pixels: Literal["depth_anything", "tower"] | None = None
    depth: bool | None = None
    decoder: Literal["light", "sam2"] | None = None
    conditioning: Literal["hidden", "input"] | None = None
    analysis: Literal["context", "apart"] | None = None
    answer_style: Literal["names", "published"] | None = None
    train_tower: bool | None = None
    train_language: Literal["lora", "full"] | None = None
    train_pixels: Literal["none", "head", "all"] | None = None
    sam2: str | None = None
    frozen: Literal["float32", "bfloat16", "float16"] = "float32"
    checkpointing: bool = False

    def __post_init__(self):
        parts = (self.llm, self.tower)
        if any(parts) != all(parts) or (self.depth_anything and not all(parts)):
            raise BadConfig("model.llm and model.tower come together (and model.depth_anything with them)")
        if all(parts) and self.start is not None:
            raise BadConfig("model.start names a whole model: leave out model.llm and model.tower, or model.start")

    def choices(self) -> dict:
        """What differs from the folder's own configuration."""
        names = (
            "pixels", "depth", "decoder", "conditioning", "analysis", "answer_style", "train_tower", "train_language", "train_pixels",
        )
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}


@dataclass(frozen=True)
class LossConfig:
    """Factors of the losses. The trained sum is divided by five, so the defaults are the paper's mean."""

    analysis: float = 1.0
    answer: float = 1.0
    target: float = 1.0
    depth: float = 0.5
    mask: float = 3.0


@dataclass(frozen=True)
class Config:
    """The whole configuration; configs/annexe.yaml says each key in one line."""

    data: tuple[SplitConfig, ...]
    recipe: str = "annexe"
    out: str = "runs/annexe"
    skip_broken: bool = False
    model: ModelConfig = field(default_factory=ModelConfig)
    augment: Augment = field(default_factory=Augment)
    losses: LossConfig = field(default_factory=LossConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)


class Annexe(Recipe):
    """See `Recipe`. broken: one line for each frame that was left out when the data were opened."""

    name = "annexe"
    shard = ("LlamaDecoderLayer", "Blip2EncoderLayer", "Dinov2Layer")

    def __init__(self, config: Config):
        self.config = config
        self.broken: list[str] = []
        self.weights = {k: v / 5.0 for k, v in dataclasses.asdict(config.losses).items()}
        self._places = self._open()
        self.choices, self.processor, self.untrained = self._start()

    # ------------------------------------------------------------------ data

    def _open(self) -> list[tuple[SplitConfig, dict[str, list[tuple[str, int]]]]]:
        """Of every data set: the places (frame, entry) of its single, multi and no-target items."""
        from egohoi.scenes import irgbench

        opened = []
        for given in self.config.data:
            kinds: dict[str, list] = {k: [] for k in irgbench.KINDS}
            # frames are left out at once and for good: whatever is wrong with their pixels is found before training
            skip = self.config.skip_broken
            items = irgbench.read(given.folder, given.split, depth=self._depth_needed, broken=self.broken if skip else None, pixels=skip)
            for k, item in enumerate(items):
                if given.limit is not None and k >= given.limit:
                    break
                kinds[item.kind].append((item.frame, item.entry))
            if not any(kinds.values()):
                raise BadData(f"{given.folder}: split '{given.split}' holds no item that can be used")
            opened.append((given, kinds))
        return opened

    @property
    def _depth_needed(self) -> bool:
        return self.config.model.depth is not False

    def data(self) -> Mixture:
        """One source for each kind of each data set, so that the shares are exact."""
        sources, ratios, names = [], [], []
        for given, kinds in self._places:
            present = {k: getattr(given, k) for k, places in kinds.items() if places and getattr(given, k) > 0}
            if not present:
                raise BadData(f"{given.folder}: the shares of single, multi and none leave no item of split '{given.split}'")
            for kind, share in present.items():
                sources.append(Items(given.folder, given.split, kinds[kind], self._depth_needed))
                ratios.append(given.ratio * share / sum(present.values()))
                names.append(f"{given.folder}/{given.split}/{kind}")
        return Mixture(sources, ratios, self.config.loop.seed, names)

    def item(self, example, rng) -> dict:
        """example: an `irgbench.Item`; one of its queries and one augmentation are drawn."""
        question = example.questions[int(rng.integers(len(example.questions)))]
        sample = load(example, question.query, self.choices.answer_style, self.choices.depth)
        return prepared(augmented(sample, self.config.augment, rng), self.processor)

    def collate(self, items: list) -> dict:
        return collate(items, self.processor)

    def counts(self, batch) -> dict[str, float]:
        return counts(batch)

    # ------------------------------------------------------------------ model

    def _start(self):
        """(AnnexeConfig, processor, untrained parts) that training starts with."""
        choices, processor, untrained = self._parts()
        if self.config.model.sam2 is not None:
            from egohoi.models.annexe_heads import sam2_sizes

            if choices.decoder != "sam2":
                raise BadConfig("model.sam2 names SAM 2's weights, but model.decoder is not sam2")
            choices = dataclasses.replace(choices, sam2=sam2_sizes(self.config.model.sam2))
            if choices.sam2["hidden_size"] != choices.channels:
                raise BadConfig(
                    f"model.sam2: {self.config.model.sam2} has {choices.sam2['hidden_size']} channels, the model {choices.channels}: "
                    "both must have the same (model.small.channels, or another start)"
                )
        return choices, processor, untrained

    def _parts(self):
        from egohoi.models.annexe import read_config
        from egohoi.models.annexe_module import AnnexeConfig, changed
        from egohoi.models.annexe_processor import AnnexeProcessor, small_tokenizer

        given = self.config.model
        if given.start is not None:
            kept, untrained = read_config(given.start)
            choices = changed(kept, **given.choices())
            return choices, AnnexeProcessor.from_pretrained(given.start, choices), untrained
        if given.llm is not None:
            from egohoi.models import annexe_assemble

            choices, tokenizer = annexe_assemble.plan(
                given.llm, given.tower, given.depth_anything, image_size=given.image_size, lora_rank=given.lora_rank,
                lora_targets=given.lora_targets,
            )
            choices = changed(choices, **given.choices())
            return choices, AnnexeProcessor(tokenizer, choices), ()
        tokenizer = small_tokenizer(self._texts(), given.vocabulary)
        try:
            choices = AnnexeConfig.small(len(tokenizer), **given.small)
        except TypeError as error:
            raise BadConfig(f"model.small: {error}") from error
        choices = changed(choices, **given.choices())
        return choices, AnnexeProcessor(tokenizer, choices), ()

    def _texts(self) -> list[str]:
        """Every text of the data, mirrored ones too, so that augmentation meets no unknown word."""
        from egohoi.models import annexe_text
        from egohoi.questions import irg
        from egohoi.scenes import irgbench

        texts = {annexe_text.ANALYSIS_PROMPT, annexe_text.QUERY_PROMPT.format(query=""), irg.NO_TARGET, "[INST] <Img> </Img> [/INST] and"}
        for given, kinds in self._places:
            for frame in sorted({frame for places in kinds.values() for frame, _ in places}):
                for item in irgbench.read_frame(given.folder, given.split, frame, depth=False):
                    texts.update((item.caption, item.answer, *item.names, *(q.query for q in item.questions)))
        return sorted(texts | {annexe_text.mirror(t) for t in texts})

    def model(self):
        import torch

        from egohoi.models.annexe import load_module
        from egohoi.models.annexe_module import AnnexeModule

        given = self.config.model
        dtype = getattr(torch, given.frozen)
        if given.start is not None and self._same_parts():
            module = load_module(given.start, self.choices, dtype)
        else:
            module = AnnexeModule(self.choices)
            if given.start is not None:
                self._put(module, given.start)
            if given.llm is not None:
                from egohoi.models import annexe_assemble

                depth = given.depth_anything if self.choices.pixels == "depth_anything" else None
                annexe_assemble.fill(module, given.llm, given.tower, depth)
            module.language.to(dtype)
        if given.sam2 is not None:
            module.decoder.take(given.sam2)
        module.language.prepare_training(given.checkpointing)
        module.freeze()
        for parameter in module.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.float()
        module.train()
        return module

    def _same_parts(self) -> bool:
        """Whether the network that is trained has the very tensors of the folder that it starts from."""
        from egohoi.models.annexe import read_config

        kept, _ = read_config(self.config.model.start)
        return all(getattr(kept, name) == getattr(self.choices, name) for name in ("pixels", "depth", "decoder", "sam2", "conditioning"))

    def _put(self, module, folder: str) -> None:
        """Weights of a folder whose parts differ from the wished ones: what fits by name and shape; the language side must."""
        import torch

        from egohoi.errors import BadWeights
        from egohoi.models import weights

        source, own = weights.WeightFolder(folder), module.state_dict()
        fitting = {n for n, shape in source.shapes.items() if n in own and tuple(own[n].shape) == shape}
        given = {own[n].data_ptr() for n in fitting}
        lacking = [n for n in own if n.startswith("language.") and own[n].data_ptr() not in given]
        if lacking:
            raise BadWeights(f"{folder}: '{lacking[0]}' is missing or has another shape: the language side must be whole")
        with torch.no_grad():
            for name in sorted(fitting):
                own[name].copy_(source.tensor(name))

    def losses(self, model, batch) -> dict:
        return model(batch)

    def export(self, trained, folder: Path) -> list[Path]:
        """The whole model as a folder that `egohoi.load("annexe:OUT/model")` opens."""
        import torch

        from egohoi.models.annexe import Annexe as Answering

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.config.loop.seed)
            module = self.model()
        own = module.state_dict()
        for name, value in trained.items():
            own[name].copy_(value)
        target = Answering(module, self.processor).save_pretrained(folder / "model")
        return sorted(target.iterdir())


def run(config: dict):
    """Train by a configuration (decoded YAML). Returns the loop's Result. Raises EgohoiError."""
    from egohoi.training.loop import fit

    given = build(Config, config)
    if given.skip_broken and given.loop.broken == "stop":
        given = dataclasses.replace(given, loop=dataclasses.replace(given.loop, broken="replace"))
    recipe = Annexe(given)
    try:
        return fit(recipe, given.loop, given.out, plain(given))
    finally:
        if os.environ.get("RANK", "0") == "0":  # all processes left out the same
            for line in recipe.broken:
                print(f"left out: {line}")


__all__: Sequence[str] = ("Annexe", "Config", "EgohoiError", "run")
