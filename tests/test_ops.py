"""Registry × checks: every op, every sample, every promise on the card."""

from __future__ import annotations

import numpy as np
import pytest

import gputape as gt
from gputape import registry
from gputape.backend import NP_DTYPE, Backend, aval_of, backend
from gputape.dispatch import call
from gputape.functions import Execute
from gputape.samples import Sample, t
from gputape.testing import apply, inputs_of

OPS = [op for op in registry.ops() if op.samples]
CASES = [pytest.param(op, s, id=f"{op.name}-{k}") for op in OPS for k, s in enumerate(op.samples)]
EPS = {"float64": 2.0**-52, "float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}


class Poisoned:
    """NumPy whose fresh arrays hold NaN (integers: their maximum), so that a body that forgets to write is seen."""

    def __getattr__(self, name):
        return getattr(np, name)

    @staticmethod
    def empty(shape, dtype=np.float64, order="C"):
        dtype = np.dtype(dtype)
        poison = (
            np.nan
            if dtype.kind == "f" or dtype == NP_DTYPE["bfloat16"]
            else True
            if dtype.kind == "b"
            else np.iinfo(dtype).max
        )
        return np.full(shape, poison, dtype)


HOSTILE = Backend("cpu", Poisoned(), ".cpu_fallback", widens=True)


def run(op, inputs, attrs):
    """All outputs of an op (of a composed one: its result), on a backend whose fresh memory is poisoned."""
    F = Execute(HOSTILE)
    gt.manual_seed(0)  # dropout draws the same mask each time
    out = apply(getattr(F, op.name), op, F.lift(op, tuple(inputs)), attrs)
    return out if isinstance(out, tuple) else (out,)


def assert_same(a, b):
    assert a.shape == b.shape and a.dtype == b.dtype
    assert a.tobytes() == b.tobytes() or np.array_equal(a, b, equal_nan=a.dtype.kind == "f")


def tolerance(y, inputs):
    """Rounding of the output dtype times the longest sum that can stand behind one element, with a small factor."""
    longest = max([x.size for x in inputs if isinstance(x, np.ndarray)] + [1])
    eps = max([EPS[x.dtype.name] for x in (y, *inputs) if isinstance(x, np.ndarray) and x.dtype.name in EPS], default=0)
    return 4 * eps * (1 + np.sqrt(longest))


@pytest.mark.parametrize("op, sample", CASES)
def test_rule_tells_what_the_body_makes_and_inputs_stay(op, sample):
    inputs = inputs_of(op, sample)
    before = [None if x is None else np.array(x) for x in inputs]
    outs = run(op, inputs, sample.attrs)
    if op.compose is None:
        values = op.values(sample.attrs)
        lifted = Execute(HOSTILE).lift(op, tuple(inputs))
        at = op.at(tuple(None if x is None else aval_of(x) for x in lifted), values)
        if at.casts is None:
            assert [aval_of(y) for y in outs] == list(at.outs[: op.returns])
    for y in outs:
        if y.dtype.kind == "f" and all(np.isfinite(np.asarray(x, np.float64)).all() for x in inputs if x is not None):
            # NaN may come out of finite inputs (log of a negative), but then the float64 run has it too
            assert np.array_equal(np.isnan(y), np.isnan(run(op, inputs, sample.attrs)[0])) or len(outs) > 1
    for x, b in zip(inputs, before, strict=True):
        if x is not None:
            assert_same(np.asarray(x), b)


@pytest.mark.parametrize("op, sample", CASES)
def test_value_agrees_with_float64_and_reruns_bit_for_bit(op, sample):
    inputs = inputs_of(op, sample)
    outs = run(op, inputs, sample.attrs)
    wide_inputs = [
        x if x is None or np.dtype(getattr(x, "dtype", "O")).kind not in "fV" else x.astype(np.float64) for x in inputs
    ]
    wide = run(op, wide_inputs, sample.attrs)
    for y, again, exact in zip(outs, run(op, inputs, sample.attrs), wide, strict=True):
        assert_same(y, again)
        tol = tolerance(y, inputs)
        if y.dtype.kind in "fV":
            scale = np.nanmax(np.abs(np.where(np.isfinite(exact), exact, 0.0)), initial=1.0)
            np.testing.assert_allclose(y.astype(np.float64), exact.astype(np.float64), rtol=tol, atol=tol * scale)
        else:
            assert_same(y, exact)


@pytest.mark.parametrize("op, sample", CASES)
def test_strided_inputs_give_what_contiguous_ones_give(op, sample):
    inputs = inputs_of(op, sample)
    packed = [None if x is None else np.array(x, order="C") for x in inputs]
    for a, b in zip(run(op, inputs, sample.attrs), run(op, packed, sample.attrs), strict=True):
        if a.dtype.kind == "f":
            tol = tolerance(a, inputs)
            scale = np.nanmax(np.abs(np.where(np.isfinite(b), b, 0.0)), initial=1.0)
            np.testing.assert_allclose(a, b, rtol=tol, atol=tol * scale)
        else:
            assert_same(a, b)


def differentiable(op, sample):
    if not sample.grad or (op.vjp is None and op.compose is None):
        return False
    return any(isinstance(x, np.ndarray) and x.dtype.kind in "fV" for x in inputs_of(op, sample))


GRAD_CASES = [
    pytest.param(op, s, id=f"{op.name}-{k}") for op in OPS for k, s in enumerate(op.samples) if differentiable(op, s)
]


def as_function(op, sample, inputs):
    """The op as a function of the inputs that are there."""
    present = [i for i, x in enumerate(inputs) if x is not None]

    def f(*xs):
        full = [None] * len(inputs)
        for i, x in zip(present, xs, strict=True):
            full[i] = x
        gt.manual_seed(0)
        return apply(lambda *a, **k: call(op.name, *a, **k), op, full, sample.attrs)

    return f, [inputs[i] for i in present]


@pytest.mark.parametrize("op, sample", GRAD_CASES)
def test_gradients_match_difference_quotients(op, sample):
    inputs = inputs_of(op, sample, "float64")
    f, args = as_function(op, sample, inputs)
    gt.check_grads(f, args, order=1 if op.order == 1 else 3)


def assert_refuses_order_two(op):
    """Every differentiable sample of an order-1 op refuses gradients of gradients by name; there is at least one."""
    refused = 0
    for sample in op.samples:
        if differentiable(op, sample):
            f, args = as_function(op, sample, inputs_of(op, sample, "float64"))
            gt.check_grads(f, args, order=1)
            with pytest.raises(gt.UnsupportedError, match="order 1"):
                gt.check_grads(f, args, order=2)
            refused += 1
    assert refused, f"{op.name}: no sample shows that order 1 is refused"


def test_cards_of_order_one_refuse_gradients_of_gradients_by_name():
    for op in OPS:
        if op.order == 1 and op.vjp is not None:
            assert_refuses_order_two(op)


@pytest.fixture
def order_one(registering):
    """A registered op of order 1: input², with a backward op that has no gradient of its own."""

    def squared(xp, y, x):
        xp.multiply(x, x, out=y)

    def squared_bwd(xp, dx, dy, x):
        xp.multiply(dy, x, out=dx)
        xp.add(dx, dx, out=dx)

    for table in (HOSTILE.bodies, backend("cpu").bodies):
        table.update(squared=squared, squared_bwd=squared_bwd)
    return registry.register(
        name="squared",
        doc="input²",
        signature="input",
        inputs=("input",),
        rule=lambda x: x,
        vjp=lambda F, at, dy, x: F.squared_bwd(dy, x),
        saves=("input",),
        order=1,
        samples=[Sample(t(3, 2)), Sample(t(3, dtype="int64", fill="ones"))],
    )


def test_an_op_of_order_one_refuses_gradients_of_gradients_by_name(order_one):
    registry.register(
        name="squared_bwd",
        doc="2 · dy · input",
        signature="dy, input",
        inputs=("dy", "input"),
        outputs=("dx",),
        rule=lambda dy, x: x,
        vjp=registry.no_second_order("squared_bwd"),
        public=False,
    )
    assert_refuses_order_two(order_one)
    f = lambda x: gt.sum(call("squared", x))  # noqa: E731
    np.testing.assert_array_equal(gt.grad(f)(np.array([1.5, -2.0])), [3.0, -4.0])
    with pytest.raises(gt.UnsupportedError, match="squared_bwd: .*order 1"):
        gt.grad(lambda x: gt.sum(gt.grad(f)(x)))(np.ones(3))


@pytest.mark.parametrize("op", [pytest.param(op, id=op.name) for op in OPS if op.public])
def test_an_array_that_is_none_is_refused_by_name(op):
    """Where the signature has no default and the card does not allow None."""
    required = {p.name for p in op.params if p.default is p.empty} - set(op.nullable)
    sample = op.samples[0]
    given = inputs_of(op, sample)
    for k, name in enumerate([f"array {k}" for k in range(len(given))] if op.variadic else op.inputs):
        if op.variadic or name in required:
            inputs = [*given[:k], None, *given[k + 1 :]]
            with pytest.raises(gt.ArgumentError, match=f"{op.name}: {name} is (None|missing)"):
                apply(lambda *a, **k: call(op.name, *a, **k), op, inputs, sample.attrs)


def test_options_that_are_equal_but_of_other_types_are_not_taken_for_each_other():
    x = np.arange(2.0)
    for spell in (tuple, list):
        np.testing.assert_array_equal(gt.flip(x, spell((0,))), [1.0, 0.0])
        for wrong in (0.0, False):
            with pytest.raises(gt.ArgumentError, match=f"flip: dim must be an integer, got {wrong}"):
                gt.flip(x, spell((wrong,)))


BAD = [pytest.param(op, bad, id=f"{op.name}-{k}") for op in OPS for k, bad in enumerate(op.errors)]


@pytest.mark.parametrize("op, bad", BAD)
def test_bad_input_is_refused_and_nothing_is_lost(op, bad):
    inputs = inputs_of(op, bad)
    with pytest.raises(bad.error, match=bad.match) as caught:
        apply(lambda *a, **k: call(op.name, *a, **k), op, inputs, bad.attrs)
    assert isinstance(caught.value, gt.GputapeError)
    message = str(caught.value)
    assert message.startswith(op.name) or ":" in message.split(" ")[0], message
    tape, ids = gt.Tape(), []
    for x in inputs:
        i = None
        if x is not None and not isinstance(x, (int, float)):
            tape, i = tape.leaf(x)
        ids.append(i)
    before = len(tape)
    with pytest.raises(bad.error):
        apply(lambda *a, **k: tape.op(op.name, *a, **k), op, ids, bad.attrs)
    assert len(tape) == before
    tape, one = tape.leaf(1.0)
    tape, two = tape.op("add", one, one)
    assert tape.value(two) == 2.0


@pytest.mark.parametrize("op", [pytest.param(op, id=op.name) for op in registry.ops() if op.view is not None])
def test_a_view_card_tells_the_strides_of_the_view(op):
    for sample in op.samples:
        (x, *_) = inputs_of(op, sample)
        at = op.at((aval_of(x),), op.values(sample.attrs))
        found = op.view(x.shape, tuple(s // x.itemsize for s in x.strides), **at.attrs)
        if found is None:
            continue
        y = HOSTILE.bodies[op.name](np, x, **at.attrs)
        offset, strides = found
        base = x.__array_interface__["data"][0]
        if y.size:
            assert y.__array_interface__["data"][0] - base == offset * x.itemsize
            assert all(n == 1 or a == b * x.itemsize for n, a, b in zip(y.shape, y.strides, strides, strict=True))
