"""The three perf models: an MLP, a CNN and a GPT, each with what it is trained on, and one step of training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import gputape as gt
from gputape import nn, optim
from gputape.registry import At

BATCH, CLASSES = 64, 10
VOCABULARY, TOKENS, WIDTH, HEADS, BLOCKS, TEXTS = 96, 64, 128, 4, 4, 16


def mlp() -> nn.Module:
    """64 → 128 → 128 → 10."""
    return nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, CLASSES))


def cnn() -> nn.Module:
    """Two 3×3 convolutions with pooling and two linear layers, for (N, 1, 28, 28) images."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * 7 * 7, 64),
        nn.ReLU(),
        nn.Linear(64, CLASSES),
    )


class Block(nn.Module):
    """x + attention(norm(x)), then x + MLP(norm(x))."""

    def __init__(self) -> None:
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH))

    def forward(self, x: Any) -> Any:
        n, length, width = x.shape
        heads = self.qkv(self.norm1(x)).reshape(n, length, 3, HEADS, width // HEADS).permute(2, 0, 3, 1, 4)
        y = gt.scaled_dot_product_attention(heads[0], heads[1], heads[2], is_causal=True)
        x = x + self.out(y.permute(0, 2, 1, 3).reshape(n, length, width))
        return x + self.mlp(self.norm2(x))


class GPT(nn.Module):
    """Pre-norm blocks over token and position embeddings, for (N, length) tokens."""

    def __init__(self) -> None:
        self.tokens, self.positions = nn.Embedding(VOCABULARY, WIDTH), nn.Embedding(TOKENS, WIDTH)
        self.blocks = nn.Sequential(*(Block() for _ in range(BLOCKS)))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, VOCABULARY, bias=False)

    def forward(self, tokens: Any) -> Any:
        x = self.tokens(tokens) + self.positions(np.arange(tokens.shape[1]))
        return self.head(self.norm(self.blocks(x)))


@dataclass(frozen=True)
class Example:
    """A model and what it is trained on.

    Attributes:
        build: makes the model.
        batch: `(generator) -> (inputs, labels)`.
    """

    build: Callable[[], nn.Module]
    batch: Callable[[np.random.Generator], tuple[np.ndarray, np.ndarray]]


MODELS = {
    "mlp": Example(mlp, lambda rng: (rng.random((BATCH, 64), np.float32), rng.integers(0, CLASSES, BATCH))),
    "cnn": Example(cnn, lambda rng: (rng.random((BATCH, 1, 28, 28), np.float32), rng.integers(0, CLASSES, BATCH))),
    "gpt": Example(GPT, lambda rng: tuple(rng.integers(0, VOCABULARY, (2, TEXTS, TOKENS)))),  # type: ignore[arg-type]
}


def trainer(model: nn.Module) -> Callable[[Any, Any], Any]:
    """One step of training with Adam: `(inputs, labels) -> loss`."""
    opt = optim.Adam(model.parameters())

    def step(x: Any, labels: Any) -> Any:
        with gt.record() as tape:
            logits = model(x)
            loss = gt.cross_entropy(logits.reshape(-1, logits.shape[-1]), labels.reshape(-1))
        opt.step(tape.backward(loss))
        return loss

    return step


def primitives(name: str) -> list[At]:
    """Each different op that one step of that model runs with arrays, forward, backward and update.

    Views, which move nothing, and ops on scalars alone are left out.
    """
    example = MODELS[name]
    step = gt.compile(trainer(example.build()), rewrite=False)
    with gt.device("cpu"):
        step(*example.batch(np.random.default_rng(0)))
    ran = dict.fromkeys(node.at for node in step.plan.record if node.inputs and node.op != "output")
    return [at for at in ran if at.op.view is None and any(a is not None and a.shape for a in at.ins)]
