"""Values and gradients against PyTorch: recorded (tests/reference/data), and live where PyTorch is installed."""

from __future__ import annotations

import numpy as np
import pytest
from reference import record

import gputape as gt
from gputape import registry
from gputape.dispatch import call
from gputape.testing import apply, inputs_of

OPS = [op for op in registry.ops() if op.torch]
EPS = {"float64": 2.0**-52, "float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}


def by_gputape(op, sample):
    """The sample's results and gradients, by gputape."""
    inputs = inputs_of(op, sample)
    with gt.record() as tape:
        xs = [gt.leaf(x, copy=False) if isinstance(x, np.ndarray) else x for x in inputs]
        result = apply(lambda *a, **k: call(op.name, *a, **k), op, xs, sample.attrs)
        outs = result if isinstance(result, tuple) else (result,)
        arrays = tuple(np.asarray(y.value) for y in outs)
        seeds = record.cotangents(op, sample, arrays)
        pairs = [(y, c) for y, c in zip(outs, seeds, strict=True) if c is not None]
        if len(pairs) > 1:  # one pass for all results
            total = 0.0
            for y, c in pairs:
                total = total + gt.sum(y * c)
            pairs = [(total, None)]
    leaves = {k: xs[k] for k, x in enumerate(inputs) if record.is_float(x)}
    if not pairs:
        return record.Reference(arrays, {k: np.zeros_like(inputs[k]) for k in leaves}, {})
    ((out, seed),) = pairs
    grads = tape.backward(out, wrt=list(leaves.values()), seed=seed)
    return record.Reference(arrays, {k: grads[x] for k, x in leaves.items()}, {})


def assert_agrees(what, got, want, inputs, error):
    """Same shape, dtype, NaNs and infinities; numbers within the rounding of the longest sum behind one of them, and a
    few times the `error` of PyTorch's own result."""
    assert got.shape == want.shape, f"{what}: shape {got.shape}, PyTorch {want.shape}"
    assert got.dtype == want.dtype, f"{what}: dtype {got.dtype}, PyTorch {want.dtype}"
    if not record.is_float(want):
        np.testing.assert_array_equal(got, want, err_msg=what)
        return
    arrays = [x for x in inputs if isinstance(x, np.ndarray)]
    eps = max(EPS[x.dtype.name] for x in (want, *arrays) if x.dtype.name in EPS)
    tol = 4 * eps * (1 + np.sqrt(max([x.size for x in arrays], default=1)))
    want = want.astype(np.float64)
    scale = np.max(np.abs(want), where=np.isfinite(want), initial=0.0)
    np.testing.assert_allclose(got.astype(np.float64), want, rtol=tol, atol=tol * scale + 4 * error, err_msg=what)


def assert_same_reference(op, sample, want):
    inputs = inputs_of(op, sample)
    with gt.device("cpu"):
        got = by_gputape(op, sample)
    assert len(got.outs) == len(want.outs), f"{len(got.outs)} results, PyTorch has {len(want.outs)}"
    arrays = got.arrays()
    assert arrays.keys() == want.arrays().keys()
    for role, b in want.arrays().items():
        k, kind = int(role[1:]), role[0]
        name = "result" if kind == "y" else f"gradient of {op.inputs[0] if op.variadic else op.inputs[k]}"
        what = f"{op.name}, {name} ({k}) of {sample!r}"
        assert_agrees(what, arrays[role], b, inputs, want.errors.get(role, 0.0))


CASES = [pytest.param(op, s, id=f"{op.name}-{k}") for op in OPS for k, s in enumerate(op.samples) if s.torch]
RECORDED = {op.name: record.load(op.name) for op in OPS}


@pytest.mark.parametrize("op, sample", CASES)
def test_agrees_with_recorded_pytorch(op, sample):
    recorded = RECORDED[op.name].get(repr(sample))
    run = f"Run `python tests/reference/record.py` with torch {record.TORCH}."
    assert recorded is not None, f"{op.name}: {sample!r} is not recorded. {run}"
    mark, want = recorded
    assert mark == record.fingerprint(inputs_of(op, sample)), f"{op.name}: the inputs of {sample!r} changed. {run}"
    assert_same_reference(op, sample, want)


@pytest.mark.parametrize("op", [pytest.param(op, id=op.name) for op in OPS])
def test_agrees_with_the_installed_pytorch(op):
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    for sample in record.cases_of(op):
        assert_same_reference(op, sample, record.evaluate(op, sample))


def test_every_recorded_case_has_a_sample():
    known = {op.name: {repr(s) for s in record.cases_of(op)} for op in OPS}
    stale = [path.stem for path in record.DATA.glob("*.npz") if path.stem not in known]
    stale += [f"{name}: {case}" for name, cases in RECORDED.items() for case in cases if case not in known[name]]
    assert not stale, f"{stale}: recorded, but no longer sampled. Run `python tests/reference/record.py`."


def test_every_case_left_out_says_why():
    silent = [f"{op.name}: {s!r}" for op in OPS for s in op.samples if not s.torch and not s.why]
    assert not silent, f"{silent}: torch_=False without why_. Say how the result differs from PyTorch."


@pytest.mark.parametrize("op", [pytest.param(op, id=op.name) for op in OPS if not all(s.torch for s in op.samples)])
def test_what_is_left_out_differs(op):
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    for sample in op.samples:
        if not sample.torch:
            with pytest.raises((AssertionError, TypeError, RuntimeError)):
                assert_same_reference(op, sample, record.evaluate(op, sample))


def test_the_comparison_sees_a_wrong_value_a_wrong_gradient_and_a_wrong_dtype():
    op = registry.get("tanh")
    sample = op.samples[0]
    _, want = RECORDED["tanh"][repr(sample)]
    (y,), dx, errors = want
    for wrong in (
        record.Reference((y + np.float32(1e-4),), dx, errors),
        record.Reference((y,), {0: -dx[0]}, errors),
        record.Reference((y.astype(np.float64),), dx, errors),
        record.Reference((np.where(y > 0, np.nan, y),), dx, errors),
    ):
        with pytest.raises(AssertionError):
            assert_same_reference(op, sample, wrong)
