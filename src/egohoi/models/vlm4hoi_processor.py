"""What goes into VLM4HOI and what comes out: pixels, prompts, conversations with their loss mask, and text.

Text is cut into pieces at special tokens and each piece is tokenized alone, special ids are put between by hand. That
is what the slow Llama tokenizer of the reference does (each piece gets its own leading space), and it holds for every
version of `transformers`.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from egohoi.errors import BadRecord, BadWeights, need
from egohoi.images import Picture
from egohoi.models.vlm4hoi_module import IGNORE, IMAGE_TOKEN, VLM4HOIConfig

#: Mean and standard deviation of CLIP's training images, RGB in [0, 1].
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
#: What joins the turns of a conversation in the files of the reference; a turn cannot contain it.
JOIN = "!@#"
PAD = "$$"


@dataclass(frozen=True)
class TokenizedConversation:
    """One training sequence. ids: with IMAGE_TOKEN places; labels: IGNORE except on answers and their end symbols."""

    ids: tuple[int, ...]
    labels: tuple[int, ...]


class VLM4HOIProcessor:
    """Images to tensors, text to ids and back. tokenizer: a Llama tokenizer whose pad token is `$$`."""

    def __init__(self, tokenizer, config: VLM4HOIConfig):
        self.tokenizer = tokenizer
        self.image_size = config.image_size
        self.image_tokens = config.image_tokens
        self.inference_bos = config.inference_bos
        self.bos, self.eos = _token_id(tokenizer, "<s>"), _token_id(tokenizer, "</s>")
        self.pad = _token_id(tokenizer, PAD)
        vocabulary = int(config.llama["vocab_size"])
        if max(self.bos, self.eos, self.pad) >= vocabulary:
            raise BadWeights(f"the tokenizer has ids beyond the model's vocabulary of {vocabulary}: it belongs to another model")

    # ------------------------------------------------------------------ images

    def pixels(self, picture: Picture | np.ndarray) -> torch.Tensor:
        """uint8 [H, W, 3] RGB -> float32 [3, S, S]: whole picture squeezed to a square (bicubic), normalized."""
        array = picture.pixels if isinstance(picture, Picture) else picture
        side = self.image_size
        small = np.asarray(Image.fromarray(array).resize((side, side), Image.Resampling.BICUBIC), dtype=np.float32) / 255.0
        values = (small - np.asarray(MEAN, np.float32)) / np.asarray(STD, np.float32)
        return torch.from_numpy(np.ascontiguousarray(values.transpose(2, 0, 1)))

    # ------------------------------------------------------------------ prompts

    def text(self, piece: str) -> list[int]:
        """Ids of one piece of text, no special tokens added."""
        return list(self.tokenizer(piece, add_special_tokens=False)["input_ids"])

    def prefix(self) -> list[int]:
        """Ids of an inference prompt up to and with the image; the same for every question about an image."""
        return [self.bos] * self.inference_bos + self.text("[INST] <Img>") + [IMAGE_TOKEN] * self.image_tokens

    def question(self, question: str, history: Sequence[tuple[str, str]] = ()) -> list[int]:
        """Ids of an inference prompt after the image. history: earlier (question, answer) turns about the same image."""
        ids: list[int] = []
        turns = [*history, (question, None)]
        for k, (asked, answer) in enumerate(turns):
            if k:
                ids += [self.bos] + self.text(f"[INST] {asked} [/INST]")
            else:
                ids += self.text(f"</Img> {asked} [/INST]")
            if answer is not None:
                # As trained: an answer ends with the end symbol, and the next question starts with a new <s>.
                ids += self.text(answer) + [self.eos]
        return ids

    def prompt(self, question: str, history: Sequence[tuple[str, str]] = ()) -> list[int]:
        """Ids of `<s>[INST] <Img>IMAGE</Img> {question} [/INST]`, the question exactly as typed."""
        return self.prefix() + self.question(question, history)

    def is_byte(self, number: int) -> bool:
        """Whether a token is one raw byte (`<0x0A>`), a part of a character that the vocabulary lacks."""
        token = self.tokenizer.convert_ids_to_tokens(int(number))
        return isinstance(token, str) and len(token) == 6 and token.startswith("<0x")

    def decode(self, ids: Sequence[int]) -> str:
        """Text of token ids without special tokens, as the slow tokenizer of the reference writes it.

        The fast tokenizer shows every byte of a run of byte tokens as a replacement character where the run is no UTF-8
        as a whole; SentencePiece keeps the characters of the run that are whole.
        """
        special = set(self.tokenizer.all_special_ids)
        kept = [int(i) for i in ids if int(i) not in special]
        pieces: list[str] = []
        for byte, run in itertools.groupby(kept, self.is_byte):
            # a vocabulary may be larger than its tokenizer: such ids have no text
            tokens = [token for token in self.tokenizer.convert_ids_to_tokens(list(run)) if token is not None]
            pieces += list(_utf8(bytes(int(token[3:5], 16) for token in tokens))) if byte else tokens
        return self.tokenizer.convert_tokens_to_string(pieces)

    def answer(self, ids: Sequence[int] | torch.Tensor) -> str:
        """Text of new token ids: up to the end symbol, after the last `[/INST]`, stripped."""
        ids = [int(i) for i in ids]
        text = self.decode(ids[: ids.index(self.eos)] if self.eos in ids else ids)
        return text.split("</s>")[0].replace("<s>", "").split("[/INST]")[-1].strip()

    # ------------------------------------------------------------------ training

    def conversation(
        self, turns: Sequence[tuple[str, str]], *, max_text: int = 1024, max_question_chars: int | None = None,
        max_answer_chars: int | None = None,
    ) -> TokenizedConversation:
        """One sequence of a conversation about one image, as the reference trains.

        turns: ((question, answer), ...). `<s>[INST] <Img>IMAGE</Img> q1  [/INST]` a1 `</s><s>[INST] q2  [/INST]` a2 `</s>`
        (the two spaces are the reference's). Loss on answers and end symbols only. max_text: tokens kept after the first
        question. max_*_chars: cut the joined questions or answers at that many characters (256 each in the reference's
        data configuration; None here: cutting a box in the middle teaches a broken box). Raises BadRecord.
        """
        if not turns:
            raise BadRecord("a conversation needs at least one question and its answer")
        first = turns[0][0].replace("<image>", "").replace("\n", "").strip()
        questions = _cut([f"</Img> {first} ", *(f"{q} " for q, _ in turns[1:])], max_question_chars, len("<Img><ImageHere>"))
        answers = _cut([a for _, a in turns], max_answer_chars)
        if not questions or not answers:
            raise BadRecord("a conversation has no text left after it was cut: raise the character limits")
        head = [self.bos] + self.text("[INST] <Img>") + [IMAGE_TOKEN] * self.image_tokens + self.text(f"{questions[0]} [/INST]")
        ids, labels = [], []
        for k in range(min(len(questions), len(answers))):
            if k:
                asked = [self.bos] + self.text(f"[INST] {questions[k]} [/INST]")
                ids += asked
                labels += [IGNORE] * len(asked)
            said = self.text(answers[k]) + [self.eos]
            ids += said
            labels += said
        return TokenizedConversation(tuple(head + ids[:max_text]), tuple([IGNORE] * len(head) + labels[:max_text]))

    # ------------------------------------------------------------------ batches

    def pad_batch(
        self, sequences: Sequence[Sequence[int]], side: str, fill: int | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Sequences of ids -> (int64 [B, L], int64 mask [B, L]), padded on `side` ("left" for generation, "right" to train)."""
        length = max(map(len, sequences))
        batch = torch.full((len(sequences), length), self.pad if fill is None else fill, dtype=torch.long)
        mask = torch.zeros((len(sequences), length), dtype=torch.long)
        for row, ids in enumerate(sequences):
            where = slice(length - len(ids), length) if side == "left" else slice(0, len(ids))
            batch[row, where] = torch.tensor(list(ids), dtype=torch.long)
            mask[row, where] = 1
        return batch, mask

    def collate(self, items: Sequence[tuple[torch.Tensor, TokenizedConversation]]) -> dict[str, torch.Tensor]:
        """[(pixels [3, S, S], conversation), ...] -> keyword arguments of `VLM4HOIModule.forward`, padded on the right."""
        ids, mask = self.pad_batch([c.ids for _, c in items], "right")
        labels, _ = self.pad_batch([c.labels for _, c in items], "right", fill=IGNORE)
        return {
            "input_ids": ids, "attention_mask": mask, "labels": labels, "pixel_values": torch.stack([p for p, _ in items]),
        }

    # ------------------------------------------------------------------ files

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the tokenizer's files into `folder`."""
        self.tokenizer.save_pretrained(str(folder))

    @classmethod
    def from_pretrained(cls, folder: str | Path, config: VLM4HOIConfig) -> "VLM4HOIProcessor":
        """Read the tokenizer of `folder`. Raises BadWeights if it has none, or none with the pad token `$$`."""
        return cls(load_tokenizer(folder), config)


def load_tokenizer(folder: str | Path):
    """The tokenizer in a Llama or VLM4HOI folder, with `$$` as its pad token. Raises BadWeights."""
    folder = Path(folder)
    if not any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model")):
        raise BadWeights(f"{folder}: no tokenizer.json or tokenizer.model: this is no Hugging Face Llama folder")
    transformers = need("transformers", "vlm")
    logger = transformers.utils.logging
    level = logger.get_verbosity()
    try:
        logger.set_verbosity_error()  # it warns that it knows no model of our type, and a tokenizer needs none
        tokenizer = transformers.AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    except Exception as error:  # the library raises many kinds for damaged files
        raise BadWeights(f"{folder}: the tokenizer cannot be read ({type(error).__name__}: {str(error)[:120]})") from error
    finally:
        logger.set_verbosity(level)
    try:
        _token_id(tokenizer, PAD)
    except BadWeights as error:
        raise BadWeights(f"{folder}: {error}") from error
    tokenizer.pad_token = PAD
    return tokenizer


def tiny_tokenizer():
    """A Llama tokenizer of single characters (some 380 ids) that needs no download; for tests and tiny models."""
    transformers = need("transformers", "vlm")
    words = ["<unk>", "<s>", "</s>", *(f"<0x{b:02X}>" for b in range(256)), "▁", PAD]
    words += [c for c in map(chr, range(33, 127)) if c not in words]
    tokenizer = transformers.LlamaTokenizer(vocab={word: k for k, word in enumerate(words)}, merges=[])
    tokenizer.pad_token = PAD
    return tokenizer


def tiny_processor(config: VLM4HOIConfig | None = None) -> VLM4HOIProcessor:
    """The processor of `VLM4HOIConfig.tiny()`."""
    return VLM4HOIProcessor(tiny_tokenizer(), config or VLM4HOIConfig.tiny())


def turns_of(record: dict) -> tuple[tuple[str, str], ...]:
    """((question, answer), ...) of a record of the official training files: `conversations` of {from, value}, human first.

    Raises BadRecord.
    """
    name = record.get("id", "?")
    said = record.get("conversations")
    if not isinstance(said, list) or len(said) < 2 or len(said) % 2:
        raise BadRecord(f"record '{name}': conversations must hold pairs of a question and an answer")
    values = [item.get("value") if isinstance(item, dict) else None for item in said]
    if not all(isinstance(v, str) for v in values):
        raise BadRecord(f"record '{name}': every turn needs a text under 'value'")
    if any(JOIN in v for v in values):
        raise BadRecord(f"record '{name}': a turn contains '{JOIN}', which joins turns in the reference's format")
    return tuple(zip(values[0::2], values[1::2]))


def _cut(texts: Sequence[str], limit: int | None, before: int = 0) -> list[str]:
    """The texts of `JOIN.join(texts)` cut at `limit` characters; `before` characters in front count as used."""
    if limit is None:
        return list(texts)
    return JOIN.join(texts)[: max(0, limit - before)].split(JOIN)


def _utf8(data: bytes) -> str:
    """The characters of `data`; a replacement character for each byte that belongs to none."""
    text, place = "", 0
    while place < len(data):
        for length in (1, 2, 3, 4):
            try:
                text += data[place : place + length].decode("utf-8")
                break
            except UnicodeDecodeError:
                continue
        else:
            text, length = text + "\ufffd", 1
        place += length
    return text


def _token_id(tokenizer, token: str) -> int:
    number = tokenizer.convert_tokens_to_ids(token)
    if number is None or (number == tokenizer.unk_token_id and token != tokenizer.unk_token):
        role = ", the pad token of VLM4HOI" if token == PAD else ""
        raise BadWeights(f"the tokenizer lacks '{token}'{role}: use a Llama-2 tokenizer")
    return int(number)
