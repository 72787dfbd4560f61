"""The three perf models in JAX: functions of parameters that have the names they have in `models.py`, with its Adam."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from models import BLOCKS, HEADS, WIDTH

Params = Mapping[str, Any]


def linear(p: Params, name: str, x: Any) -> Any:
    return x @ p[f"{name}.weight"].T + p[f"{name}.bias"]


def norm(p: Params, name: str, x: Any) -> Any:
    centred = x - x.mean(-1, keepdims=True)
    rstd = lax.rsqrt((centred * centred).mean(-1, keepdims=True) + 1e-5)
    return centred * rstd * p[f"{name}.weight"] + p[f"{name}.bias"]


def mlp(p: Params, x: Any) -> Any:
    for name in ("0", "2"):
        x = jax.nn.relu(linear(p, name, x))
    return linear(p, "4", x)


def cnn(p: Params, x: Any) -> Any:
    for name in ("0", "3"):
        y = lax.conv_general_dilated(x, p[f"{name}.weight"], (1, 1), ((1, 1), (1, 1)))
        y = jax.nn.relu(y + p[f"{name}.bias"][:, None, None])
        x = lax.reduce_window(y, -jnp.inf, lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID")
    return linear(p, "9", jax.nn.relu(linear(p, "7", x.reshape(len(x), -1))))


def gpt(p: Params, tokens: Any) -> Any:
    n, length = tokens.shape
    seen = jnp.tril(jnp.ones((length, length), bool))
    x = p["tokens.weight"][tokens] + p["positions.weight"]
    for k in range(BLOCKS):
        name = f"blocks.{k}"
        qkv = linear(p, f"{name}.qkv", norm(p, f"{name}.norm1", x))
        q, key, v = qkv.reshape(n, length, 3, HEADS, WIDTH // HEADS).transpose(2, 0, 3, 1, 4)
        scores = q @ key.swapaxes(-1, -2) / np.float32(np.sqrt(WIDTH // HEADS))
        y = jax.nn.softmax(jnp.where(seen, scores, -jnp.inf)) @ v
        x = x + linear(p, f"{name}.out", y.transpose(0, 2, 1, 3).reshape(x.shape))
        wide = jax.nn.gelu(linear(p, f"{name}.mlp.0", norm(p, f"{name}.norm2", x)), approximate=False)
        x = x + linear(p, f"{name}.mlp.2", wide)
    return norm(p, "norm", x) @ p["head.weight"].T


MODELS = {"mlp": mlp, "cnn": cnn, "gpt": gpt}


def trainer(name: str, weights: Mapping[str, Any]) -> Callable[[Any, Any], Any]:
    """One jitted step of training with Adam, from these weights: `(inputs, labels) -> loss`."""
    forward, (b1, b2) = MODELS[name], (0.9, 0.999)

    def loss_of(params: Params, x: Any, labels: Any) -> Any:
        logits = forward(params, x)
        logits, labels = logits.reshape(-1, logits.shape[-1]), labels.reshape(-1)
        return -jax.nn.log_softmax(logits)[jnp.arange(len(labels)), labels].mean()

    def update(state: Any, x: Any, labels: Any) -> Any:
        params, mean, square, t = state
        loss, grads = jax.value_and_grad(loss_of)(params, x, labels)
        t = t + 1
        mean = {k: b1 * mean[k] + (1 - b1) * g for k, g in grads.items()}
        square = {k: b2 * square[k] + (1 - b2) * g * g for k, g in grads.items()}
        rate, root = 1e-3 / (1 - b1**t), jnp.sqrt(1 - b2**t)
        params = {k: p - rate * mean[k] / (jnp.sqrt(square[k]) / root + 1e-8) for k, p in params.items()}
        return (params, mean, square, t), loss

    jitted = jax.jit(update, donate_argnums=0)
    zeros = [{k: jnp.zeros(np.shape(a), jnp.float32) for k, a in weights.items()} for _ in range(2)]
    state = ({k: jnp.array(np.array(a)) for k, a in weights.items()}, *zeros, jnp.float32(0))

    def step(x: Any, labels: Any) -> Any:
        nonlocal state
        state, loss = jitted(state, x, labels)
        return loss.block_until_ready()

    return step


def arrays(*given: Any) -> list[Any]:
    """NumPy's arrays as JAX's; integers become 32 bit, as they do there."""
    return [jnp.asarray(a.astype(np.int32) if a.dtype == np.int64 else a) for a in given]
