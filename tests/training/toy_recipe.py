"""A recipe of a few hundred numbers with what real ones have: a frozen part, dropout, augmentation, two losses with
different counts, biases. Run as `egohoi train toy.yaml` with this folder on PYTHONPATH."""

from dataclasses import dataclass, field

import torch
from torch import nn

from egohoi.errors import BadData
from egohoi.training import config as configuration
from egohoi.training import data, loop
from egohoi.training.config import LoopConfig
from egohoi.training.recipe import Recipe

SIZE, WORDS = 8, 12


@dataclass(frozen=True)
class ToyConfig:
    recipe: str
    out: str
    data: tuple[data.SourceConfig, ...]
    loop: LoopConfig = field(default_factory=LoopConfig)
    dropout: float = 0.1
    broken_id: str | None = None


class Block(nn.Module):
    def __init__(self, dropout: float):
        super().__init__()
        self.frozen, self.tuned, self.dropout = nn.Linear(SIZE, SIZE), nn.Linear(SIZE, SIZE), nn.Dropout(dropout)
        self.frozen.requires_grad_(False)

    def forward(self, x):
        return x + self.dropout(self.tuned(torch.tanh(self.frozen(x))))


class Net(nn.Module):
    def __init__(self, dropout: float):
        super().__init__()
        self.blocks = nn.ModuleList(Block(dropout) for _ in range(2))
        self.words, self.length = nn.Linear(SIZE, WORDS), nn.Linear(SIZE, 1)

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return self.words(x), self.length(x)[:, 0]


class Toy(Recipe):
    name, weights, shard = "toy", {"length": 0.5}, ("Block",)

    def __init__(self, config: ToyConfig):
        self.config = config

    def model(self):
        return Net(self.config.dropout)

    def data(self):
        return data.mixture(self.config.data, self.config.loop.seed)

    def item(self, example, rng):
        if example.id == self.config.broken_id:
            raise BadData(f"{example.image}: cannot be read")
        question, answer = example.conversation[0]
        codes = torch.tensor([ord(c) % 7 for c in question.ljust(SIZE)[:SIZE]], dtype=torch.float32)
        target = torch.full((4,), -100)
        letters = [ord(c) % WORDS for c in answer][:4]
        target[: len(letters)] = torch.tensor(letters, dtype=torch.long)
        return codes + 0.01 * torch.from_numpy(rng.standard_normal(SIZE).astype("float32")), target

    def collate(self, items):
        return {"x": torch.stack([x for x, _ in items]), "y": torch.stack([y for _, y in items])}

    def counts(self, batch):
        return {"answer": float((batch["y"] != -100).sum())}

    def losses(self, model, batch):
        words, length = model(batch["x"])
        y = batch["y"]
        logits = words[:, None, :].expand(-1, y.shape[1], -1).flatten(0, 1)
        answer = nn.functional.cross_entropy(logits, y.flatten(), ignore_index=-100, reduction="sum")
        answer = answer / (y != -100).sum().clamp(min=1)
        return {"answer": answer, "length": nn.functional.mse_loss(length, (y != -100).sum(1).float())}

    def export(self, trained, folder):
        path = folder / "exported.pt"
        torch.save(trained, path)
        return [path]


def run(config: dict):
    typed = configuration.build(ToyConfig, config)
    return loop.fit(Toy(typed), typed.loop, typed.out, configuration.plain(typed))
