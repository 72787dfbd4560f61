"""The three perf models in PyTorch, layer by layer as in `models.py`, with its Adam."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from models import BLOCKS, CLASSES, HEADS, TOKENS, VOCABULARY, WIDTH
from torch import nn
from torch.nn import functional as F


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH))

    def forward(self, x: Any) -> Any:
        n, length, width = x.shape
        q, k, v = self.qkv(self.norm1(x)).reshape(n, length, 3, HEADS, width // HEADS).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.permute(0, 2, 1, 3).reshape(n, length, width))
        return x + self.mlp(self.norm2(x))


class GPT(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(VOCABULARY, WIDTH), nn.Embedding(TOKENS, WIDTH)
        self.blocks = nn.Sequential(*(Block() for _ in range(BLOCKS)))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, VOCABULARY, bias=False)

    def forward(self, tokens: Any) -> Any:
        x = self.tokens(tokens) + self.positions(torch.arange(tokens.shape[1]))
        return self.head(self.norm(self.blocks(x)))


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, CLASSES))


def cnn() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(32 * 7 * 7, 64), nn.ReLU(), nn.Linear(64, CLASSES)),
    )


MODELS = {"mlp": mlp, "cnn": cnn, "gpt": GPT}


def trainer(model: nn.Module, compiled: bool = False) -> Callable[[Any, Any], Any]:
    """One step of training with Adam: `(inputs, labels) -> loss`. If `compiled`, forward, backward and update are."""
    opt = torch.optim.Adam(model.parameters())

    def loss_of(x: Any, labels: Any) -> Any:
        logits = model(x)
        return F.cross_entropy(logits.reshape(-1, logits.shape[-1]), labels.reshape(-1))

    update: Callable[[], Any] = opt.step
    if compiled:
        loss_of, update = torch.compile(loss_of), torch.compile(opt.step)

    def step(x: Any, labels: Any) -> Any:
        opt.zero_grad()
        loss = loss_of(x, labels)
        loss.backward()
        update()
        return loss.detach()

    return step


def copy_weights(source: Any, target: nn.Module) -> None:
    """The parameters of our model in PyTorch's, which has them under the same names."""
    target.load_state_dict({name: torch.from_numpy(np.array(a)) for name, a in source.state_dict().items()})
