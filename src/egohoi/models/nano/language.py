"""The language half of nano: a small decoder that reads proposals and a question, and writes a task, a decision about the
target, and text in which boxes and names are pointers to proposals.

Sequence: [scene][proposal 1]..[proposal K][question] | <task> <yes or no> words and pointers <eos>. Proposals and question see
each other (prefix language model); the answer is causal. The words' embeddings are SmolLM2-135M's, reduced by principal
components and kept fixed, so that words which never occurred in training lie near those that did.
"""

from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from egohoi.models.nano.detector import LOOK, WIDTH
from egohoi.models.nano.propose import HANDS, OBJECTS
from egohoi.models.nano.relate import TOLD
from egohoi.models.nano.text import QUESTION_TOKENS, SPECIAL

SLOTS = HANDS + OBJECTS
#: Ways to point at a proposal: write its box, mean it silently, write its name, its name with the article. Pointer `way` at slot k is
#: output SLOTS * way + k behind the words.
POINTERS = ("box", "ref", "name", "a")
ANSWER_TOKENS = 80


@dataclass(frozen=True)
class LanguageConfig:
    """Sizes. words: rows of the fixed embedding; word_size: its width; nouns: of the naming head; outputs: word ids that an
    answer may hold (offset by the special tokens)."""

    words: int
    word_size: int
    nouns: int
    outputs: tuple[int, ...]
    width: int = 256
    layers: int = 5
    heads: int = 8

    def to_json(self) -> dict:
        return asdict(self)


class Layer(nn.Module):
    """Pre-norm attention and gated MLP. x [N, T, D], mask bool [N, 1, T, S] (True: may look)."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.RMSNorm(width, eps=1e-6), nn.RMSNorm(width, eps=1e-6)
        self.qkv, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
        self.up, self.down = nn.Linear(width, 6 * width, bias=False), nn.Linear(3 * width, width, bias=False)

    def forward(self, x: Tensor, mask: Tensor, past: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        n, t, d = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(n, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        if past is not None:
            k, v = torch.cat([past[0], k], 2), torch.cat([past[1], v], 2)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        x = x + self.out(y.transpose(1, 2).reshape(n, t, d))
        gate, value = self.up(self.norm2(x)).chunk(2, -1)
        return x + self.down(F.silu(gate) * value), (k, v)


class Language(nn.Module):
    """See the module's head. Output positions: specials, then `outputs` words, then every way to point (POINTERS) at the 20 slots."""

    def __init__(self, config: LanguageConfig):
        super().__init__()
        self.config, d = config, config.width
        self.register_buffer("words", torch.zeros(config.words, config.word_size))
        self.register_buffer("outputs", torch.tensor(config.outputs, dtype=torch.long), persistent=False)
        self.word_in = nn.Linear(config.word_size, d, bias=False)
        self.word_out = nn.Linear(d, config.word_size, bias=False)
        self.special_in = nn.Embedding(len(SPECIAL), d)
        self.special_out = nn.Linear(d, len(SPECIAL))
        self.output_bias = nn.Parameter(torch.zeros(len(config.outputs)))
        self.fact = nn.Sequential(nn.Linear(TOLD, d), nn.SiLU(), nn.Linear(d, d))
        self.seen = nn.Linear(WIDTH + LOOK, d)
        self.noun = nn.Linear(config.nouns, d, bias=False)
        self.kind = nn.Embedding(2 + len(POINTERS), d)  # scene, proposal, pointers
        self.question_place = nn.Embedding(QUESTION_TOKENS, d)
        self.answer_place = nn.Embedding(ANSWER_TOKENS, d)
        self.layers = nn.ModuleList([Layer(d, config.heads) for _ in range(config.layers)])
        self.norm = nn.RMSNorm(d, eps=1e-6)
        ways = len(POINTERS)
        self.point_query, self.point_key = nn.Linear(d, ways * d, bias=False), nn.Linear(d, ways * d, bias=False)
        for name, p in self.named_parameters():
            if p.dim() > 1:
                nn.init.normal_(p, std=0.02 if "down" not in name and ".out." not in name else 0.02 / (2 * config.layers) ** 0.5)

    @property
    def size_out(self) -> int:
        return len(SPECIAL) + len(self.config.outputs) + len(POINTERS) * SLOTS

    def embed_words(self, ids: Tensor) -> Tensor:
        """Input embedding of special and word ids [...] -> [..., D]."""
        special = ids < len(SPECIAL)
        word = self.word_in(self.words[(ids - len(SPECIAL)).clamp(min=0)])
        return torch.where(special[..., None], self.special_in(ids.clamp(max=len(SPECIAL) - 1)), word)

    def embed_proposals(self, facts: Tensor, seen: Tensor, nouns: Tensor) -> Tensor:
        """facts [N, K, 38], seen [N, K, 96 + 128], nouns [N, K, nouns] probabilities -> [N, K, D]."""
        return self.fact(facts) + self.seen(seen) + self.noun(nouns) + self.kind.weight[1]

    def prefix(self, proposals: Tensor, question: Tensor) -> Tensor:
        """[scene] + proposals [N, K, D] + question ids [N, Q] -> [N, 1 + K + Q, D]."""
        n = len(proposals)
        scene = (self.special_in.weight[SPECIAL.index("<image>")] + self.kind.weight[0]).expand(n, 1, -1)
        text = self.embed_words(question) + self.question_place.weight[: question.shape[1]]
        return torch.cat([scene, proposals, text], 1)

    def embed_answer(self, ids: Tensor, proposals: Tensor) -> Tensor:
        """Output ids [N, A] (see `size_out`) as inputs [N, A, D], without their places."""
        words_at, box_at = len(SPECIAL), len(SPECIAL) + len(self.config.outputs)
        special = self.special_in(ids.clamp(max=words_at - 1))
        if len(self.config.outputs):
            chosen = self.outputs[(ids - words_at).clamp(0, len(self.config.outputs) - 1)]
            word = self.word_in(self.words[chosen - len(SPECIAL)])
        else:
            word = special
        slot = (ids - box_at).clamp(min=0)
        mark = 2 + (slot // SLOTS).clamp(max=len(POINTERS) - 1)
        at = (slot % SLOTS).clamp(max=max(proposals.shape[1] - 1, 0))
        if proposals.shape[1]:
            pointer = torch.gather(proposals, 1, at[..., None].expand(-1, -1, proposals.shape[2])) + self.kind(mark)
        else:
            pointer = self.kind(mark)
        out = torch.where((ids >= words_at)[..., None], word, special)
        return torch.where((ids >= box_at)[..., None], pointer, out)

    def logits(self, hidden: Tensor, states: Tensor, present: Tensor) -> Tensor:
        """hidden [N, A, D], proposals' last states [N, K, D], present bool [N, K] -> [N, A, size_out]."""
        words = self.word_out(hidden) @ self.words[self.outputs - len(SPECIAL)].T * self.config.word_size**-0.5 + self.output_bias
        n, k, d = states.shape
        query = self.point_query(hidden).view(n, -1, len(POINTERS), d)
        key = self.point_key(states).view(n, k, len(POINTERS), d)
        point = torch.einsum("nawd,nkwd->nawk", query, key) * d**-0.5
        point = point.masked_fill(~present[:, None, None, :], -1e9)
        point = F.pad(point, (0, SLOTS - k), value=-1e9)
        return torch.cat([self.special_out(hidden), words, point.flatten(2)], -1)

    def forward(self, proposals: Tensor, present: Tensor, question: Tensor, question_mask: Tensor, answer: Tensor) -> Tensor:
        """Teacher forcing. proposals [N, K, D] embedded; present [N, K], question_mask [N, Q] bool; answer [N, A] output ids that
        begin with BOS. Returns logits [N, A, size_out] of what follows each."""
        n, a = answer.shape
        head = self.prefix(proposals, question)
        tail = self.embed_answer(answer, proposals) + self.answer_place.weight[:a]
        x = torch.cat([head, tail], 1)
        p = head.shape[1]
        known = torch.cat([torch.ones(n, 1, dtype=torch.bool), present, question_mask], 1)
        mask = torch.zeros(n, 1, p + a, p + a, dtype=torch.bool)
        mask[:, 0, :, :p] = known[:, None, :]
        mask[:, 0, p:, p:] = torch.ones(a, a, dtype=torch.bool).tril()
        for layer in self.layers:
            x, _ = layer(x, mask)
        x = self.norm(x)
        return self.logits(x[:, p:], x[:, 1 : 1 + proposals.shape[1]], present)

    @torch.no_grad()
    def start(self, proposals: Tensor, question: Tensor):
        """Read one picture's proposals [1, K, D] and a question [1, Q]. Returns a state for `step`."""
        x, cache = self.prefix(proposals, question), []
        for layer in self.layers:
            x, pair = layer(x, None)
            cache.append(pair)
        return {"cache": cache, "states": self.norm(x)[:, 1 : 1 + proposals.shape[1]], "proposals": proposals, "at": 0}

    @torch.no_grad()
    def step(self, state, token: int) -> Tensor:
        """Feed one output id; returns logits [size_out] of the next."""
        proposals = state["proposals"]
        x = self.embed_answer(torch.tensor([[token]]), proposals) + self.answer_place.weight[state["at"]]
        for k, layer in enumerate(self.layers):
            x, state["cache"][k] = layer(x, None, state["cache"][k])
        state["at"] += 1
        present = torch.ones(1, proposals.shape[1], dtype=torch.bool)
        return self.logits(self.norm(x), state["states"], present)[0, 0]
