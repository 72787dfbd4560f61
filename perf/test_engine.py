"""What the eager engine adds to NumPy: a chain of 50 adds on (8,) float32, forward and with backward."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
from timing import interleaved, report

import gputape as gt

OPS = 50
X = np.ones(8, np.float32)
SEED = np.ones(8, np.float32)


def numpy_out():
    y = X
    for _ in range(OPS):
        out = np.empty(8, np.float32)
        np.add(y, X, out=out)
        y = out
    return y


def recorded():
    with gt.record() as tape:
        x = gt.leaf(X)
        y = x
        for _ in range(OPS):
            y = y + x
    return tape, x, y


def recorded_backward():
    tape, x, y = recorded()
    return tape.backward(y, seed=SEED)[x]


def pure():
    tape, x = gt.Tape().leaf(X)
    y = x
    for _ in range(OPS):
        tape, y = tape.add(y, x)
    return tape, x, y


def pure_backward():
    tape, x, y = pure()
    return tape.backward(y, SEED)[x]


@gt.compile
def chain(x):
    y = x
    for _ in range(OPS):
        y = y + x
    return y


def replayed_calls():
    """A replay without what surrounds it: arguments copied in, results out."""
    for call in CALLS:
        call()


with gt.device("cpu"):
    chain(X)
CALLS = chain.plan.steps.calls


CONTENDERS = {
    "np.add(out=)": numpy_out,
    "gt.compile": lambda: chain(X),
    "gt.compile, its calls alone": replayed_calls,
    "gt.record forward": recorded,
    "gt.record forward + backward": recorded_backward,
    "Tape forward": pure,
    "Tape forward + backward": pure_backward,
}

if importlib.util.find_spec("torch"):
    import torch

    torch.set_num_threads(1)
    TX, TSEED = torch.ones(8, requires_grad=True), torch.ones(8)

    def torch_forward():
        y = TX
        for _ in range(OPS):
            y = y + TX
        return y

    def torch_backward():
        torch_forward().backward(TSEED)

    CONTENDERS |= {"PyTorch forward": torch_forward, "PyTorch forward + backward": torch_backward}


@pytest.mark.parametrize("name", CONTENDERS)
def test_chain_of_adds(benchmark, name):
    benchmark.group = "50 adds on (8,) float32"
    benchmark(CONTENDERS[name])


def test_ratios_in_one_interleaved_run(capsys):
    assert recorded_backward()[0] == pure_backward()[0] == OPS + 1
    medians = interleaved(CONTENDERS)
    base = medians["np.add(out=)"]
    rows = []
    for name, seconds in medians.items():
        peer = medians.get(f"PyTorch {name.partition(chr(32))[2]}") if "forward" in name else None
        ratio = f"{seconds / peer:.2f}" if peer else "–"
        rows.append([name, f"{seconds / OPS * 1e6:.2f}", f"{seconds / base:.1f}", ratio])
    head = ["chain of 50 adds, (8,) float32", "µs per op", "× np.add(out=)", "× PyTorch"]
    with capsys.disabled():
        print("\n" + report("engine", "Cost of the eager engine", rows, head))
