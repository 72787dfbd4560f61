"""Mixed precision: which casts `gt.precision` inserts, and that training in 16 bit works."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import gputape as gt
from gputape import registry
from gputape.aval import FLOATS, ITEMSIZE
from gputape.backend import NP_DTYPE
from gputape.samples import T
from gputape.testing import apply, inputs_of

NARROW = {"bf16": "bfloat16", "fp16": "float16"}
OPS = [op for op in registry.ops() if op.public]


def sample(op, float_dtype="float32"):
    """(inputs, options) of the card's first sample with a float32 array; None if there is none."""
    for s in op.samples:
        arrays = [x for x in s.inputs if isinstance(x, T)]
        floats = [x for x in arrays if x.dtype in FLOATS]
        if floats and all(x.dtype == "float32" for x in floats) and s.attrs.get("dtype") is None and s.grad:
            return inputs_of(op, s, float_dtype), s.attrs
    return None


def is_float(x):
    return x is not None and str(x.dtype) in FLOATS


def outs(y):
    return y if isinstance(y, tuple | list) else (y,)


def same_bits(a, b):
    a, b = np.asarray(a), np.asarray(b)
    assert a.dtype == b.dtype and a.shape == b.shape
    assert a.tobytes() == b.tobytes()


def called(op, inputs, attrs):
    gt.manual_seed(0)
    return [np.asarray(y) for y in outs(apply(getattr(gt, op.name), op, inputs, attrs))]


CARDS = [op for op in OPS if sample(op) is not None]


@pytest.mark.parametrize("name", NARROW)
@pytest.mark.parametrize("op", [op for op in CARDS if op.precision == "narrow"], ids=lambda op: op.name)
def test_products_run_in_16_bit_and_their_gradients_come_back_in_float32(op, name):
    inputs, attrs = sample(op)
    dtype = NP_DTYPE[NARROW[name]]
    by_hand = [x.astype(dtype) if is_float(x) else x for x in inputs]
    with gt.precision(name):
        found = called(op, inputs, attrs)  # computed at once
        with gt.record() as tape:
            leaves = [gt.leaf(x) if is_float(x) else x for x in inputs]
            (y, *_) = outs(apply(getattr(gt, op.name), op, leaves, attrs))
            loss = gt.sum(y)
    for a, b in zip(found, called(op, by_hand, attrs), strict=True):
        same_bits(a, b)
    assert y.dtype == dtype and loss.dtype == np.float32
    computed = [n for n in tape.nodes if n.at.op.precision == "narrow"]
    assert computed and all(a.dtype == NARROW[name] for n in computed for a in n.at.ins if a and a.is_float)
    for key, g in tape.backward(loss).items():  # outside of the block
        assert g.dtype == key.dtype == np.float32


@pytest.mark.parametrize("op", [op for op in CARDS if op.precision == "wide"], ids=lambda op: op.name)
def test_sums_norms_and_losses_run_in_float32(op):
    inputs, attrs = sample(op, "bfloat16")
    with gt.precision("fp16"):
        found = called(op, inputs, attrs)
    for a, b in zip(found, called(op, [x.astype("f4") if is_float(x) else x for x in inputs], attrs), strict=True):
        same_bits(a, b)
        assert not is_float(a) or a.dtype == np.float32


@pytest.mark.parametrize("op", [op for op in CARDS if op.precision is None], ids=lambda op: op.name)
def test_everything_else_follows_its_inputs(op):
    for dtype in ("float32", "bfloat16"):
        inputs, attrs = sample(op, dtype)
        plain = called(op, inputs, attrs)
        with gt.precision("bf16"):
            for a, b in zip(called(op, inputs, attrs), plain, strict=True):
                same_bits(a, b)


@pytest.mark.parametrize("op", [op for op in CARDS if op.precision is None], ids=lambda op: op.name)
def test_a_16_bit_array_beside_a_float32_one_gives_float32(op):
    inputs, attrs = sample(op)
    if sum(map(is_float, inputs)) < 2:
        return
    first = next(k for k, x in enumerate(inputs) if is_float(x))
    inputs[first] = inputs[first].astype(NP_DTYPE["bfloat16"])
    with gt.precision("bf16"):
        assert all(a.dtype == np.float32 for a in called(op, inputs, attrs) if is_float(a))


@pytest.mark.parametrize("op", [op for op in CARDS if op.compose and op.precision != "narrow"], ids=lambda op: op.name)
def test_an_op_made_of_products_says_so_on_its_card(op):
    """The casts are made where users call: what a composed op calls inside gets none."""
    inputs, attrs = sample(op)
    with gt.record() as tape:
        apply(getattr(gt, op.name), op, inputs, attrs)
    assert not [n.op for n in tape.nodes if n.at.op.precision == "narrow"]


def test_every_norm_softmax_and_loss_is_wide():
    families = tuple(f"gputape.ops.{stem}" for stem in ("norm", "batch_norm", "softmax", "loss", "cross_entropy"))
    assert not [op.name for op in OPS if op.rule is not None and op.rule.__module__ in families and not op.precision]


@pytest.mark.parametrize("op", [op for op in CARDS if op.precision], ids=lambda op: op.name)
def test_float64_is_left_alone(op):
    inputs, attrs = sample(op, "float64")
    with gt.precision("bf16"):
        assert all(a.dtype == np.float64 for a in called(op, inputs, attrs) if is_float(a))


def test_what_the_user_asks_for_wins():
    x = np.array([1, 2, 3], np.float32).astype(NP_DTYPE["bfloat16"])
    with gt.precision("fp16"):
        assert gt.sum(x, dtype="bfloat16").dtype == x.dtype
        assert gt.softmax(x, 0, dtype="float16").dtype == np.float16
        assert gt.cast(x, "float32").dtype == np.float32
        assert gt.matmul(np.ones((2, 2), int), np.ones((2, 2), int)).dtype == np.int64
    with pytest.raises(gt.DTypeError, match="different dtypes"), gt.precision("bf16"):
        gt.matmul(np.ones((2, 2)), np.ones((2, 2), "f"))


def product_dtype():
    return gt.matmul(np.ones((2, 2), "f"), np.ones((2, 2), "f")).dtype.name


def test_blocks_nest_and_may_be_entered_again():
    bf16 = gt.precision("bf16")
    with bf16:
        assert product_dtype() == "bfloat16"
        with gt.precision("fp32"):
            assert product_dtype() == "float32"
            with bf16, bf16:
                assert product_dtype() == "bfloat16"
            assert product_dtype() == "float32"
        with pytest.raises(ZeroDivisionError), gt.precision("fp16"):
            raise ZeroDivisionError
        assert product_dtype() == "bfloat16"
    assert product_dtype() == "float32"
    assert repr(bf16) == "gt.precision('bf16')"


def test_as_a_decorator():
    @gt.precision("fp16")
    def f(depth):
        return product_dtype() if depth == 0 else f(depth - 1)

    assert f(2) == "float16"
    assert product_dtype() == "float32"


def test_each_thread_has_its_own():
    seen, shared, inside = [], gt.precision("bf16"), threading.Barrier(2)

    def other():
        seen.append(product_dtype())
        with shared:
            inside.wait()
            seen.append(product_dtype())
            inside.wait()

    with shared:
        thread = threading.Thread(target=other)
        thread.start()
        inside.wait()
    assert product_dtype() == "float32"
    inside.wait()
    thread.join()
    assert seen == ["float32", "bfloat16"]


@pytest.mark.parametrize("name", ["half", "", None, 16, ["bf16"]])
def test_unknown_names_are_refused(name):
    with pytest.raises(gt.ArgumentError, match=r'^precision: .* is not known\. Use one of "bf16", "fp16", "fp32"'):
        gt.precision(name)


def test_a_pure_tape_does_not_read_it():
    with gt.precision("bf16"):
        tape = gt.Tape()
        tape, a = tape.leaf(np.ones((2, 2), "f"))
        tape, y = tape.matmul(a, a)
        tape, c = tape.cast(a, "bfloat16")
        tape, z = tape.op("matmul", c, c)
    assert tape.node(y).aval.dtype == "float32" and tape.node(z).aval.dtype == "bfloat16"
    assert ITEMSIZE[tape.node(z).aval.dtype] == 2
