"""What goes into ANNEXE and what comes out: pixels, one form of sequence for training and inference, and text.

    <s>[INST] <Img>IMAGE</Img> q1 [/INST] a1 </s><s>[INST] q2 [/INST] a2 </s>

The same function writes the sequences that are trained on and the prompts that are answered, so they cannot differ.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from egohoi.errors import BadConfig, BadWeights, need
from egohoi.images import Picture
from egohoi.models.annexe_module import DEPTH_MEAN, DEPTH_STD, AnnexeConfig
from egohoi.models.annexe_text import TOKENS
from egohoi.models.vlm4hoi_module import IMAGE_TOKEN

#: Folder of the tokenizer inside a model folder: transformers would take the model's own config.json for the tokenizer's.
TOKENIZER = "tokenizer"
_SPLIT = re.compile(rf"({'|'.join(map(re.escape, TOKENS))})")


@dataclass(frozen=True)
class Turns:
    """One sequence. ids: with IMAGE_TOKEN places. spans: (start, stop) of each turn's answer with its end symbol; the
    state that decides on a target stands at start - 1."""

    ids: tuple[int, ...]
    spans: tuple[tuple[int, int], ...]


class AnnexeProcessor:
    """Pictures to tensors, text to ids and back. tokenizer: any tokenizer of `transformers` with an end symbol."""

    def __init__(self, tokenizer, config: AnnexeConfig):
        self.tokenizer = tokenizer
        self.config = config
        self.first = config.language.llama["vocab_size"]
        ends = config.language.llama.get("eos_token_id", tokenizer.eos_token_id)
        self.eos = ends[0] if isinstance(ends, list) and ends else ends
        if self.eos is None:
            raise BadWeights("the tokenizer has no end symbol (eos_token)")
        for name, value in (("vocab_size", self.first), ("eos_token_id", self.eos)):
            if not isinstance(value, int) or isinstance(value, bool) or value < 0:
                raise BadConfig(f"language.llama: {name} must be a whole number, got {value!r:.40}")
        self.bos = tokenizer.bos_token_id
        self.pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else self.eos
        if max(self.eos, self.bos or 0, self.pad) >= self.first:
            raise BadWeights(f"the tokenizer has ids beyond the model's vocabulary of {self.first}: it belongs to another model")

    def pixels(self, picture: Picture | np.ndarray) -> dict[str, torch.Tensor]:
        """uint8 [H, W, 3] of any size -> {"pixel_values": float32 [3, S, S]} and, for Depth-Anything, "depth_pixels".

        The whole picture is squeezed to a square (bicubic), as in the paper; masks go back the same way.
        """
        array = picture.pixels if isinstance(picture, Picture) else picture
        image = Image.fromarray(array)
        made = {"pixel_values": _square(image, self.config.language.image_size, self.config.mean, self.config.std)}
        if self.config.pixels == "depth_anything":
            made["depth_pixels"] = _square(image, self.config.pixel_size, DEPTH_MEAN, DEPTH_STD)
        return made

    def text(self, piece: str) -> list[int]:
        """Ids of one piece of text; mask tokens have the ids after the vocabulary."""
        ids: list[int] = []
        for part in _SPLIT.split(piece):
            if part in TOKENS:
                ids.append(self.first + TOKENS.index(part))
            elif part.strip():
                ids += self.tokenizer(part.strip(), add_special_tokens=False)["input_ids"]
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """Text of answer ids up to the end symbol, with the mask tokens written out."""
        ids = [int(i) for i in ids]
        ids = ids[: ids.index(self.eos)] if self.eos in ids else ids
        parts, run = [], []
        for i in [*ids, None]:
            if i is None or i >= self.first:
                parts.append(self.tokenizer.decode(run, skip_special_tokens=True).strip())
                run = []
                if i is not None:
                    parts.append(TOKENS[i - self.first])
            else:
                run.append(i)
        return " ".join(p for p in parts if p)

    def sequence(self, turns: Sequence[tuple[str, str | Sequence[int] | None]]) -> Turns:
        """One sequence of (question, answer) turns. An answer may be ids as generated; None leaves the last turn open."""
        start = [] if self.bos is None else [self.bos]
        ids, spans = [*start, *self.text("[INST] <Img>"), *[IMAGE_TOKEN] * self.config.language.image_tokens], []
        for k, (question, answer) in enumerate(turns):
            ids += self.text(f"</Img> {question} [/INST]") if k == 0 else [*start, *self.text(f"[INST] {question} [/INST]")]
            if answer is not None:
                said = self.text(answer) if isinstance(answer, str) else [int(i) for i in answer]
                spans.append((len(ids), len(ids) + len(said) + 1))
                ids += [*said, self.eos]
        return Turns(tuple(ids), tuple(spans))

    def pad_batch(self, sequences: Sequence[Sequence[int]], side: str, fill: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Ids -> (int64 [B, L], int64 mask [B, L]), padded on `side` ("left" for generation, "right" to train)."""
        length = max(map(len, sequences))
        batch = torch.full((len(sequences), length), self.pad if fill is None else fill, dtype=torch.long)
        mask = torch.zeros((len(sequences), length), dtype=torch.long)
        for row, ids in enumerate(sequences):
            where = slice(length - len(ids), length) if side == "left" else slice(0, len(ids))
            batch[row, where] = torch.tensor(list(ids), dtype=torch.long)
            mask[row, where] = 1
        return batch, mask

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the tokenizer's files into `folder/tokenizer`."""
        self.tokenizer.save_pretrained(str(Path(folder) / TOKENIZER))

    @classmethod
    def from_pretrained(cls, folder: str | Path, config: AnnexeConfig) -> "AnnexeProcessor":
        """Read the tokenizer of `folder/tokenizer`. Raises BadWeights."""
        folder = Path(folder) / TOKENIZER
        if not any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model")):
            raise BadWeights(f"{folder}: no tokenizer.json or tokenizer.model: this is no ANNEXE folder")
        try:
            tokenizer = need("transformers", "vlm").AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
        except Exception as error:  # the library raises many kinds for damaged files
            raise BadWeights(f"{folder}: the tokenizer cannot be read ({type(error).__name__}: {str(error)[:120]})") from error
        return cls(tokenizer, config)


def _square(image: Image.Image, side: int, mean: Sequence[float], std: Sequence[float]) -> torch.Tensor:
    values = np.asarray(image.resize((side, side), Image.Resampling.BICUBIC), dtype=np.float32) / 255.0
    values = (values - np.asarray(mean, np.float32)) / np.asarray(std, np.float32)
    return torch.from_numpy(np.ascontiguousarray(values.transpose(2, 0, 1)))


def small_tokenizer(texts: Sequence[str], size: int = 1000):
    """A byte-level BPE tokenizer learned from `texts`, at most `size` ids: every text can be written with it.

    Ids 0, 1, 2 are padding, begin, end. For models that start from nothing.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    raw.decoder = decoders.ByteLevel()
    special = ["<pad>", "<s>", "</s>"]
    raw.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=size, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    )
    fast = need("transformers", "vlm").PreTrainedTokenizerFast
    return fast(tokenizer_object=raw, pad_token="<pad>", bos_token="<s>", eos_token="</s>")
