"""The three perf models in tinygrad: functions of parameters that have the names they have in `models.py`, with its
Adam."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from models import BLOCKS, HEADS, WIDTH
from tinygrad import Context, Tensor, TinyJit
from tinygrad.nn.optim import Adam

Params = Mapping[str, Any]


def linear(p: Params, name: str, x: Any) -> Any:
    return x.linear(p[f"{name}.weight"].T, p[f"{name}.bias"])


def norm(p: Params, name: str, x: Any) -> Any:
    return x.layernorm(eps=1e-5) * p[f"{name}.weight"] + p[f"{name}.bias"]


def mlp(p: Params, x: Any) -> Any:
    for name in ("0", "2"):
        x = linear(p, name, x).relu()
    return linear(p, "4", x)


def cnn(p: Params, x: Any) -> Any:
    for name in ("0", "3"):
        x = x.conv2d(p[f"{name}.weight"], p[f"{name}.bias"], padding=1).relu().max_pool2d()
    return linear(p, "9", linear(p, "7", x.flatten(1)).relu())


def gpt(p: Params, tokens: Any) -> Any:
    n, length = tokens.shape
    x = p["tokens.weight"][tokens] + p["positions.weight"]
    for k in range(BLOCKS):
        name = f"blocks.{k}"
        qkv = linear(p, f"{name}.qkv", norm(p, f"{name}.norm1", x)).reshape(n, length, 3, HEADS, WIDTH // HEADS)
        q, key, v = (qkv[:, :, i].transpose(1, 2) for i in range(3))
        y = q.scaled_dot_product_attention(key, v, is_causal=True)
        x = x + linear(p, f"{name}.out", y.transpose(1, 2).reshape(x.shape))
        wide = linear(p, f"{name}.mlp.0", norm(p, f"{name}.norm2", x))
        x = x + linear(p, f"{name}.mlp.2", wide * ((wide * 0.5**0.5).erf() + 1) * 0.5)
    return norm(p, "norm", x) @ p["head.weight"].T


MODELS = {"mlp": mlp, "cnn": cnn, "gpt": gpt}


def trainer(name: str, weights: Mapping[str, Any]) -> Callable[[Any, Any], Any]:
    """One step of training with Adam, which runs to its end: `(inputs, labels) -> loss`."""
    params = {key: Tensor(value).realize() for key, value in weights.items()}
    opt = Adam(list(params.values()))

    @TinyJit
    def step(x: Any, labels: Any) -> Any:
        with Context(TRAINING=1):
            logits = MODELS[name](params, x)
            loss = logits.reshape(-1, logits.shape[-1]).sparse_categorical_crossentropy(labels.reshape(-1))
            opt.zero_grad()
            loss.backward()
            return loss.realize(*opt.schedule_step())

    return lambda x, labels: step(x, labels).item()


def arrays(*values: Any) -> tuple[Any, ...]:
    """NumPy arrays as tinygrad's."""
    return tuple(Tensor(v).realize() for v in values)
