"""`gt.matmul_precision`: which kernels round to TF32, and when that is decided."""

from __future__ import annotations

import os
import threading

os.environ.setdefault("TRITON_INTERPRET", "1")  # read when Triton is imported, by whichever test comes first

import numpy as np
import pytest

pytest.importorskip("triton", reason="triton is not installed: no kernel is emulated")

import gputape as gt
from gputape.kernels.machine.interpreter import _tf32
from gputape.numerics import in_force

K = 16
RNG = np.random.default_rng(0)
A, B = (RNG.standard_normal((K, K)).astype(np.float32) for _ in range(2))
IMAGES, FILTERS = (RNG.standard_normal(s).astype(np.float32) for s in ((2, 3, 5, 5), (4, 3, 3, 3)))
HEADS = tuple(RNG.standard_normal((1, 2, 9, K)).astype(np.float32) for _ in range(3))
PRODUCTS = {
    "matmul": (gt.matmul, (A, B)),
    "linear": (gt.linear, (A, B)),
    "conv2d": (gt.conv2d, (IMAGES, FILTERS)),
    "conv_transpose2d": (gt.conv_transpose2d, (np.moveaxis(FILTERS, 0, 1), FILTERS)),
    "attention": (gt.scaled_dot_product_attention, HEADS),
}


def computed(name, forward, backward):
    """The result and the gradients of a product, forward and backward under these settings."""
    f, arrays = PRODUCTS[name]
    with gt.device("emulated"):
        with gt.matmul_precision(forward), gt.record() as tape:
            leaves = [gt.leaf(x) for x in arrays]
            y = f(*leaves)
            loss = gt.sum(gt.square(y))
        with gt.matmul_precision(backward):
            grads = tape.backward(loss)
        return [np.asarray(y), *(np.asarray(grads[x]) for x in leaves)]


def error(found, exact):
    return max(np.abs(a - b).max() / np.abs(b).max() for a, b in zip(found, exact, strict=True))


@pytest.mark.parametrize("name", PRODUCTS)
def test_products_and_their_gradients_round_to_tf32_only_when_asked(name):
    highest, high = computed(name, "highest", "highest"), computed(name, "high", "tf32")
    # factors rounded to 11 significant bits against 24: of sums that do not cancel
    for a, b in zip(high, highest, strict=True):
        assert 2.0**-16 < error([a], [b]) < 2.0**-8


def test_an_op_follows_the_setting_of_when_it_runs():
    with_high, mixed = computed("matmul", "high", "high"), computed("matmul", "high", "highest")
    assert with_high[0].tobytes() == mixed[0].tobytes()
    assert with_high[1].tobytes() != mixed[1].tobytes()


def test_tf32_is_what_the_hardware_rounds_to():
    with gt.device("emulated"), gt.matmul_precision("high"):
        found = gt.matmul(A, B)
    np.testing.assert_allclose(found, _tf32(A).astype(np.float64) @ _tf32(B), rtol=0, atol=K * 2.0**-22)


def test_it_changes_nothing_on_the_cpu_and_in_16_bit():
    with gt.device("cpu"):
        plain = gt.matmul(A, B)
        with gt.matmul_precision("high"):
            assert gt.matmul(A, B).tobytes() == plain.tobytes()
    half = A.astype(np.float16)
    with gt.device("emulated"):
        plain = gt.matmul(half, half)
        with gt.matmul_precision("high"):
            assert gt.matmul(half, half).tobytes() == plain.tobytes()


def test_a_compiled_step_repeats_what_it_was_recorded_with():
    @gt.compile
    def product(a, b):
        with gt.matmul_precision("high"):
            inner = gt.matmul(a, b)
        return inner, gt.matmul(a, b)

    with gt.device("emulated"):
        exact = gt.matmul(A, B)
        with gt.matmul_precision("high"):
            rounded = gt.matmul(A, B)
        for _ in range(2):  # recorded, replayed
            inner, outer = product(A, B)
            assert inner.tobytes() == rounded.tobytes() and outer.tobytes() == exact.tobytes()
        with gt.matmul_precision("high"):  # another setting is another plan
            assert product(A, B)[1].tobytes() == rounded.tobytes()
        assert product(A, B)[1].tobytes() == exact.tobytes()
        assert len(product.plans) == 2


def test_each_thread_has_its_own_setting():
    found = []

    def other():
        with gt.device("emulated"):
            found.append(gt.matmul(A, B))

    with gt.device("emulated"), gt.matmul_precision("high"):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        assert gt.matmul(A, B).tobytes() != found[0].tobytes()


@pytest.mark.parametrize("name", ["fast", "fp32", None, 19])
def test_unknown_names_are_refused(name):
    with pytest.raises(
        gt.ArgumentError, match=r"^matmul_precision: .* is not known\. Use one of \"highest\", \"high\""
    ):
        gt.matmul_precision(name)


def test_the_default_is_ieee():
    assert list(in_force()) == [None, False]
