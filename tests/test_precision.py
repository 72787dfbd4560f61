"""Mixed precision: which casts `gt.precision` inserts, and that training in 16 bit works."""

from __future__ import annotations

import os
import threading

os.environ.setdefault("TRITON_INTERPRET", "1")  # read when Triton is imported, by whichever test comes first

import numpy as np
import pytest

import gputape as gt
from gputape import nn, optim, registry
from gputape.aval import FLOATS
from gputape.backend import NP_DTYPE
from gputape.samples import T
from gputape.testing import apply, inputs_of
from gputape.train.models import recipe

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
    families = tuple(
        f"gputape.ops.{stem}" for stem in ("norm", "batch_norm", "group_norm", "softmax", "loss", "cross_entropy")
    )
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


# --- training ---------------------------------------------------------------------------------------------------------


def small_cnn():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 6, 3),
        nn.GELU(),
        nn.Flatten(),
        nn.Linear(24, 10),
    )


MODELS = {"digits-mlp": recipe("digits-mlp").build, "small-cnn": small_cnn}
LAYERS = 3  # with a product, in both


class Run:
    """A few steps of AdamW on one batch: losses, logits, and what they leave behind."""

    def __init__(self, model, precision, device="cpu", steps=4, compiled=False, scale=2.0**10):
        rng = np.random.default_rng(0)
        x, y = rng.uniform(size=(8, 1, 8, 8)).astype(np.float32), rng.integers(0, 10, 8)
        with gt.device(device):
            gt.manual_seed(0)
            self.model = MODELS[model]()
            self.opt = optim.AdamW(self.model.parameters(), lr=2e-3)
            self.scaler = optim.GradScaler(scale, enabled=precision == "fp16")

            def step(x, y):
                with gt.precision(precision), gt.record() as tape:
                    logits = self.model(x)
                    loss = gt.cross_entropy(logits, y)
                    scaled = self.scaler.scale(loss)
                grads = tape.backward(scaled)
                self.scaler.step(self.opt, grads)
                self.scaler.update()
                return loss, logits, grads

            step = gt.compile(step, rewrite=False) if compiled else step
            self.losses, self.scales, self.largest = [], [], 0.0
            for _ in range(steps):
                loss, logits, self.grads = step(x, y)
                self.losses.append(float(loss))
                self.scales.append(self.scaler.get_scale())
                self.largest = max(self.largest, float(np.abs(np.asarray(logits, np.float32)).max()))

    def bits(self):
        state = self.opt.state_dict()["state"]
        arrays = [*self.model.state_dict().values(), *(a for s in state.values() for a in s.values())]
        return [np.asarray(a).tobytes() for a in arrays] + [np.asarray(g).tobytes() for g in self.grads.values()]


UNIT = {"bf16": 2.0**-8, "fp16": 2.0**-11}  # of rounding


def tolerance(precision, exact):
    """Each product rounds its two factors and its result; the loss moves by at most twice what a logit does."""
    return 2 * 3 * LAYERS * UNIT[precision] * max(exact.largest, 1.0)


@pytest.mark.parametrize("device", ["cpu", "emulated"])
@pytest.mark.parametrize("precision", UNIT)
@pytest.mark.parametrize("model", MODELS)
def test_training_in_16_bit_follows_float32(model, precision, device):
    if device == "emulated":
        pytest.importorskip("triton", reason="triton is not installed: no kernel is emulated")
    steps = 4 if device == "cpu" else 2
    exact, found = Run(model, "fp32", steps=steps), Run(model, precision, device, steps)
    np.testing.assert_allclose(found.losses, exact.losses, rtol=0, atol=tolerance(precision, exact))
    assert found.losses != exact.losses
    stored = [*found.model.state_dict().values(), *found.grads.values()]
    stored += [a for s in found.opt.state_dict()["state"].values() for a in s.values()]
    assert {str(np.asarray(a).dtype) for a in stored} <= {"float32", "int64"}


@pytest.mark.parametrize("precision", UNIT)
@pytest.mark.parametrize("model", MODELS)
def test_a_compiled_step_gives_the_same_bits(model, precision):
    eager, replayed = Run(model, precision), Run(model, precision, compiled=True)
    assert eager.losses == replayed.losses and eager.bits() == replayed.bits()


def test_a_run_whose_gradients_overflow_backs_off_and_recovers():
    first = 2.0**30
    run = Run("small-cnn", "fp16", steps=24, scale=first)
    skipped = sum(after < before for before, after in zip([first, *run.scales], run.scales))
    assert skipped >= 8 and run.scales[-1] == first / 2**skipped
    assert {int(s["step"]) for s in run.opt.state_dict()["state"].values()} == {24 - skipped}
    exact = Run("small-cnn", "fp32", steps=24 - skipped)  # the steps that were left out have left no trace
    assert len(set(run.losses[: skipped + 1])) == 1
    np.testing.assert_allclose(run.losses[skipped:], exact.losses, rtol=0, atol=tolerance("fp16", exact))
    assert run.losses[-1] < run.losses[0]


def test_changing_the_precision_records_another_plan():
    @gt.compile
    def product(a):
        return gt.matmul(a, a)

    a = np.full((3, 3), 1.001, np.float32)
    plain = product(a)
    with gt.precision("bf16"):
        assert product(a).dtype.name == "bfloat16"
    with gt.precision("fp16"):
        assert product(a).dtype.name == "float16"
    same_bits(product(a), plain)
    assert len(product.plans) == 3
    assert "cast" in [n.op for plan, *_ in product.plans.values() for n in plan.record]
