"""Every card's perf shapes on the CPU, beside PyTorch's function where it is installed: forward, and backward by the
card's vjp.

    env -u OPENBLAS_CORETYPE -u OPENBLAS_L2_SIZE python -m pytest perf/test_ops.py --benchmark-enable -k ratios

One core: each library gets one thread. Each pair is timed in turn; the ratio is that of the medians. A row that takes
more than three times as long as PyTorch's needs a reason in `SLOW`.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from gpu.cards import label, torch_calls
from gpu.device import one_backward, one_call
from threadpoolctl import threadpool_limits
from timing import interleaved, report

import gputape as gt
from gputape import registry
from gputape.backend import backend
from gputape.dispatch import FUNCTIONS
from gputape.registry import Op
from gputape.samples import Perf
from gputape.testing import apply, inputs_of

BAR = 3.0
BUDGET = 0.05  # seconds that a row may take, but for three rounds

# What is slower than BAR times PyTorch: (op, how the case begins, reason).
_PASSES = "a pass over memory for each step of the formula, where PyTorch's loop stays in registers"
_HALVES = "passes over halves of the rows, which are short runs for NumPy"
_PHILOX = "Philox in passes of 64-bit products, so that every device draws the same numbers"
SLOW: tuple[tuple[str, str, str], ...] = (
    ("gelu", "", "erf is a polynomial and a tanh: " + _PASSES),
    *((name, "", _PASSES) for name in ("gelu backward", "erf", "erfc", "hardswish", "hardswish backward", "prelu")),
    *((name, "", _PASSES) for name in ("norm", "atanh", "batch_norm_train backward")),
    ("index_add", "gpt gradient of positions", "few rows, which a dozen NumPy calls put in order"),
    ("prod", "", _HALVES),
    ("prod backward", "", "two running products, and copies that turn rows round for the one from the end"),
    ("cumprod backward", "", "a recurrence, of which NumPy takes a step for all rows in each of its calls"),
    *((name, "", _PHILOX) for name in ("random_normal", "random_uniform")),
)


def peers() -> dict[str, Callable[..., Any]]:
    """PyTorch's functions for ops that are no function of it by name, with the signatures of the cards."""
    import torch
    from torch.nn import functional as F

    def conv(input: Any, weight: Any, bias: Any, stride: Any, padding: Any, dilation: Any, groups: Any) -> Any:
        convolve = (F.conv1d, F.conv2d, F.conv3d)[input.ndim - 3]
        return convolve(input, weight, bias, stride, tuple(p for p, _ in padding), dilation, groups)

    def pool(input: Any, **options: Any) -> Any:
        return (F.max_pool1d, F.max_pool2d, F.max_pool3d)[input.ndim - 3](input, return_indices=True, **options)

    def attention(query: Any, key: Any, value: Any, attn_mask: Any = None, is_causal: bool = False, **rest: Any) -> Any:
        return F.scaled_dot_product_attention(query, key, value, attn_mask, is_causal=is_causal)

    return {
        "conv_nd": conv,
        "max_pool_nd": pool,
        "attention": attention,
        "mm_nd": torch.matmul,
        "cross_entropy_labels": lambda input, target, **k: F.cross_entropy(input, target, **k),
        "batch_norm_train": lambda input, weight=None, bias=None, eps=1e-5: F.batch_norm(
            input, None, None, weight, bias, True, 0.1, eps
        ),
        "scale": lambda input, c: input * c,
        "copy": lambda input: torch.clone(input, memory_format=torch.contiguous_format),
        "safe_log": lambda input, eps=1e-6: torch.log(F.softplus(input) + eps),
        "sum_to": lambda input, shape: input.sum_to_size(shape),
        "dropout": lambda input, **k: F.dropout(input, **k),
        "random_uniform": lambda state, shape, **k: torch.rand(shape),
        "random_normal": lambda state, shape, **k: torch.randn(shape),
        "random_bernoulli": lambda state, shape, p, **k: torch.empty(shape).bernoulli_(1 - p),
        "trunc_divide": lambda input, other: torch.div(input, other, rounding_mode="trunc"),
    }


def cases() -> Iterator[tuple[Op, Perf]]:
    """(card, perf shape). Gradients are timed as the backward of their op, where it is public."""
    for op in registry.ops():
        for case in op.perf:
            yield op, case


def rows_of(op: Op, case: Perf, functions: dict[str, Any]) -> Iterator[tuple[str, dict[str, Callable[[], Any]]]]:
    """(name of the row, contenders): the op, and its backward."""
    cpu, inputs = backend("cpu"), inputs_of(op, case)
    pair, _ = torch_calls(op, inputs, case.attrs, "cpu", functions.get(op.name)) if functions else ([None, None], "")
    composed = op.compose is not None
    ours = (
        (lambda: apply(FUNCTIONS[op.name], op, inputs, case.attrs))
        if composed
        else one_call(cpu, op, inputs, case.attrs)
    )
    yield op.name, {"gputape": ours, **({"PyTorch": pair[0]} if pair[0] else {})}
    if pair[1] and op.vjp is not None and not composed:
        try:
            pair[1]()
        except RuntimeError:  # PyTorch has no gradient of it
            return
        yield f"{op.name} backward", {"gputape": one_backward(cpu, op, inputs, case.attrs), "PyTorch": pair[1]}


def medians_of(contenders: dict[str, Callable[[], Any]]) -> dict[str, float]:
    """Seconds of one call of each, in as many rounds as the budget allows."""
    took = 0.0
    for f in contenders.values():
        f()
        start = time.thread_time()
        f()
        took += time.thread_time() - start
    return interleaved(contenders, max(3, min(200, int(BUDGET / max(took, 1e-6)))), warm=0)


def reason_of(name: str, case: Perf) -> str:
    return next((why for op, begins, why in SLOW if op == name and label(case).startswith(begins)), "")


@pytest.fixture(autouse=True)
def one_thread():
    with threadpool_limits(1, "blas"), gt.device("cpu"):
        yield


@pytest.mark.parametrize("op, case", [pytest.param(*c, id=f"{c[0].name}-{label(c[1])}") for c in cases()])
def test_op(benchmark, op, case):
    name, contenders = next(rows_of(op, case, {}))
    benchmark.group = f"{name} {label(case)}, one core"
    benchmark(contenders["gputape"])


def test_every_reason_names_a_row():
    rows = [(op.name, label(case)) for op, case in cases()]
    stale = [
        (name, begins)
        for name, begins, _ in SLOW
        if not any(op == name.removesuffix(" backward") and case.startswith(begins) for op, case in rows)
    ]
    assert not stale


def test_ratios_in_one_interleaved_run(capsys):
    functions = {}
    if importlib.util.find_spec("torch"):
        import torch

        torch.set_num_threads(1)
        functions = peers()
    rows, unexplained = [], []
    for op, case in cases():
        for name, contenders in rows_of(op, case, functions):
            medians = medians_of(contenders)
            ours, theirs = medians["gputape"], medians.get("PyTorch")
            ratio, why = (ours / theirs if theirs else None), reason_of(name, case)
            if ratio and ratio > BAR and not why:
                unexplained.append(f"{name} {label(case)}: {ratio:.1f}")
            cells = (f"{theirs * 1e6:.1f}", f"{ratio:.2f}") if theirs else ("–", "–")
            rows.append([name, label(case), f"{ours * 1e6:.1f}", *cells, why])
    head = ["op", "case", "µs", "PyTorch µs", "× PyTorch", f"why above {BAR:g}"]
    text = report("ops", "Ops at their perf shapes, one core", rows, head)
    with capsys.disabled():
        print("\n" + text)
    assert not unexplained
