"""The text side of nano: a byte-level tokenizer cut from SmolLM2's, and answers as tokens that point at proposals."""

import re
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

#: Special tokens of the language model, before the words: task, decision about the target, ends, the place of a box in a question.
SPECIAL = ("<pad>", "<bos>", "<eos>", "<refer>", "<identify>", "<answer>", "<analyze>", "<ground>", "<yes>", "<no>", "<box>", "<image>")
TASK_TOKENS = {"refer": 3, "identify": 4, "answer": 5, "analyze": 6, "ground": 7}
YES, NO, BOX, BOS, EOS = 8, 9, 10, 1, 2
#: Longest question in words' pieces; what is longer keeps its beginning and its end (where people put what they want).
QUESTION_TOKENS = 64


def from_gguf(path, merges: int) -> tuple[Tokenizer, np.ndarray]:
    """Tokenizer and embedding of a GGUF file of a byte-pair model, cut to the first `merges` merges.

    Merges are in order of frequency and build only on earlier ones, so the cut tokenizer is the same one with fewer words.
    Returns the tokenizer and float32 [V, D], one row a token.
    """
    import gguf

    reader = gguf.GGUFReader(str(path))

    def strings(key: str) -> list[str]:
        field = reader.fields[key]
        return [bytes(field.parts[i]).decode("utf-8") for i in field.data]

    tokens, pairs = strings("tokenizer.ggml.tokens"), strings("tokenizer.ggml.merges")[:merges]
    index = {t: k for k, t in enumerate(tokens)}
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    kept = [t for t in alphabet if t in index] + list(dict.fromkeys("".join(p.split(" ")) for p in pairs))
    tensor = next(t for t in reader.tensors if t.name == "token_embd.weight")
    table = gguf.dequantize(tensor.data, tensor.tensor_type)[[index[t] for t in kept]]
    return build([*kept], [tuple(p.split(" ")) for p in pairs]), np.ascontiguousarray(table, dtype=np.float32)


def build(tokens: list[str], pairs: list[tuple[str, str]]) -> Tokenizer:
    """A byte-level BPE tokenizer of these tokens and merges."""
    tokenizer = Tokenizer(models.BPE(vocab={t: k for k, t in enumerate(tokens)}, merges=pairs))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def load(path) -> Tokenizer:
    """The tokenizer of a nano folder."""
    return Tokenizer.from_file(str(Path(path)))


def reduce(table: np.ndarray, size: int) -> np.ndarray:
    """Principal components of an embedding: float32 [V, D] -> [V, size], rows scaled to unit mean square."""
    centred = table - table.mean(0)
    _, vectors = np.linalg.eigh(centred.T @ centred)
    out = centred @ vectors[:, ::-1][:, :size]
    return (out / np.sqrt((out**2).mean() + 1e-9)).astype(np.float32)


def normalise(text: str) -> str:
    """Lower case, single spaces, a leading space (as the tokenizer's words have)."""
    return " " + re.sub(r"\s+", " ", text).strip().lower()


def encode_question(tokenizer: Tokenizer, text: str) -> list[int]:
    """Token ids of a question, words offset by the special tokens; `<box>` becomes BOX. At most QUESTION_TOKENS."""
    ids: list[int] = []
    for k, part in enumerate(re.split(r"<box>", normalise(text))):
        if k:
            ids.append(BOX)
        if part.strip():
            ids += [i + len(SPECIAL) for i in tokenizer.encode(" " + part.strip()).ids]
    if len(ids) > QUESTION_TOKENS:
        half = QUESTION_TOKENS // 2
        ids = ids[:half] + ids[-half:]
    return ids


def encode_words(tokenizer: Tokenizer, text: str) -> list[int]:
    """Token ids of a piece of an answer (kept as written), offset by the special tokens."""
    return [i + len(SPECIAL) for i in tokenizer.encode(text).ids] if text else []


def mentioned(question: str, nouns: list[str], synonyms: dict[str, list[str]]) -> np.ndarray:
    """Which nouns a question names: float32 [len(nouns)], 1 for a noun itself (or its plural), 0.5 for one whose synonym is named.

    Whole words only; of overlapping nouns the longest counts ("spray bottle" does not name a bottle).
    """
    words = re.findall(r"[a-z0-9']+", question.lower())
    said: dict[str, list[tuple[int, float]]] = {}
    for k, noun in enumerate(nouns):
        said.setdefault(noun, []).append((k, 1.0))
        for other in synonyms.get(noun, ()):
            said.setdefault(other, []).append((k, 0.5))
    out, at = np.zeros(len(nouns), np.float32), 0
    while at < len(words):
        for length in range(min(5, len(words) - at), 0, -1):
            phrase = " ".join(words[at : at + length])
            hits = said.get(phrase) or said.get(re.sub(r"(?<=[^s])s$", "", phrase)) or said.get(re.sub(r"es$", "", phrase))
            if hits:
                for k, weight in hits:
                    out[k] = max(out[k], weight)
                break
        else:
            length = 1
        at += length
    return out
