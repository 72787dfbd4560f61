"""Bodies on the CPU that take a way of their own to what a plainer one gives."""

from __future__ import annotations

import numpy as np
import pytest

import gputape as gt
from gputape import blas
from gputape.aval import Aval
from gputape.cpu_fallback import _product, prod, rounding, sort

COUNT = 1 << 16


def run(body, inputs, out, **options):
    """What a body makes, on scratch as it asks for; the arrays it asked for, too."""
    scratch = [
        np.empty(a.shape, a.dtype) for a in body.scratch(*[Aval(x.shape, x.dtype.name) for x in inputs], **options)
    ]
    with np.errstate(all="ignore"):
        body(np, out, *inputs, **options, **({"scratch": scratch} if scratch else {}))
    return out, scratch


# --- remainders and rounded quotients, by way of float64 --------------------------------------------------------------


def bits(rng, mask=0xFFFFFFFF):
    return (rng.integers(0, 2**32, COUNT, dtype=np.uint32) & np.uint32(mask)).view("f")


def multiples(rng):
    """Numbers, and what is an ulp or two from a multiple of them."""
    b = bits(rng)
    with np.errstate(all="ignore"):
        a = (b.astype("d") * np.floor(2.0 ** (rng.random(COUNT) * 30)) * rng.choice([-1, 1], COUNT)).astype("f")
    return (a.view("i4") + rng.integers(-2, 3, COUNT, dtype="i4")).view("f"), b


def edges(rng):
    whole = [0.0, 1.0, 2.0, 3.0, 7.0, 2.0**21, 2.0**21 + 1, 2.0**24, 2.0**28, 2.0**28 + 32, 1e10]
    values = np.array([*whole, 0.5, 1e-45, 1.1754944e-38, 3.4028235e38, np.inf, np.nan], "f")
    values = np.concatenate((values, -values))
    return np.repeat(values, len(values)), np.tile(values, len(values))


PAIRS = {
    "any bits": lambda rng: (bits(rng), bits(rng)),
    "of like size": lambda rng: (bits(rng, 0x8FFFFFFF), bits(rng, 0x8FFFFFFF)),
    "denormal": lambda rng: (bits(rng, 0x81FFFFFF), bits(rng, 0x80FFFFFF)),
    "near multiples": multiples,
    "edges": edges,
    "ordinary": lambda rng: (rng.standard_normal(COUNT, "f"), rng.standard_normal(COUNT, "f")),
}


@pytest.mark.parametrize("kind", PAIRS)
@pytest.mark.parametrize("name", ["remainder", "fmod", "floor_divide"])
def test_remainders_are_numpys_to_the_bit(name, kind):
    a, b = PAIRS[kind](np.random.default_rng(0))
    got, scratch = run(getattr(rounding, name), (a, b), np.empty_like(a))
    assert scratch
    with np.errstate(all="ignore"):
        want = getattr(np, name)(a, b)
    nan = np.isnan(want)
    np.testing.assert_array_equal(np.isnan(got), nan)
    np.testing.assert_array_equal(got.view("u4")[~nan], want.view("u4")[~nan])


@pytest.mark.parametrize(
    "function", [gt.floor_divide, gt.remainder, gt.fmod, lambda a, b: gt.add(gt.remainder(a, b), a)]
)
def test_a_replay_refuses_integers_divided_by_zero(function):
    a, b = np.arange(5), np.arange(1, 6)
    with gt.device("cpu"):
        step = gt.compile(function)
        np.testing.assert_array_equal(step(a, b), function(a, b))
        with pytest.raises(ZeroDivisionError, match="integers are divided by 0"):
            step(a, b - 1)


# --- the first of an order --------------------------------------------------------------------------------------------

ROWS = {
    "distinct": lambda rng, shape: rng.standard_normal(shape, "f"),
    "ties": lambda rng, shape: rng.integers(-3, 4, shape).astype("f"),
    "zeros of both signs": lambda rng, shape: rng.choice(np.array([0.0, -0.0, 1.0], "f"), shape),
    "NaN": lambda rng, shape: np.where(rng.random(shape) < 0.3, np.float32(np.nan), rng.standard_normal(shape, "f")),
    "infinities": lambda rng, shape: rng.choice(np.array([np.inf, -np.inf, 1.0, 2.0], "f"), shape),
    "bytes": lambda rng, shape: rng.integers(0, 256, shape, dtype="u1"),
    "bools": lambda rng, shape: rng.random(shape) < 0.1,
}


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("kind", ROWS)
def test_the_first_of_an_order_are_the_front_of_all(kind, descending):
    for shape, dim, first in (((200,), 0, 7), ((5, 64), 1, 4), ((5, 64), 1, 5), ((96, 3, 2), 0, 3), ((4, 33), 1, 1)):
        x = ROWS[kind](np.random.default_rng(first), shape)
        whole, some = (np.empty((*shape[:dim], n, *shape[dim + 1 :]), np.int64) for n in (shape[dim], first))
        sort.sorted_order(np, whole, x, dim=dim, descending=descending, first=None)
        sort.sorted_order(np, some, x, dim=dim, descending=descending, first=first)
        np.testing.assert_array_equal(some, np.take(whole, range(first), dim))


# --- running products in pairs ----------------------------------------------------------------------------------------


CYCLES = {
    "overflows": (1.0, 1e-30, 1e30, 1e30, 1e-30, 1.0),
    "vanishes": (1.0, 1e30, 1e-30, 1e-30, 1e30, 1.0),
    "loses digits": (1.0, 1e30, 1e-21, 1.1e-21, 1e12, 1.0),
    "overflows after 0": (0.0, 1e30, 1e30),
    "none of these": (-2.0, 0.5),
}


@pytest.mark.parametrize("cycle", CYCLES.values(), ids=CYCLES)
def test_products_of_pairs_spoil_no_running_product(cycle):
    """A pair may overflow, vanish or lose digits where what comes before it keeps the running product in range."""
    x = np.resize(np.array(cycle, "f"), (12, 200))
    got, scratch = run(prod.cumprod, (x,), np.empty_like(x), dim=1, dtype=None)
    assert scratch
    with np.errstate(all="ignore"):
        want = np.cumprod(x, axis=1)
    np.testing.assert_allclose(got, want, rtol=1e-5)


# --- matrix products in parts -----------------------------------------------------------------------------------------


class Noting:
    """NumPy that notes how many axes the factors have."""

    copyto = staticmethod(np.copyto)

    def __init__(self):
        self.axes = []

    def matmul(self, a, b, out):
        self.axes.append(max(a.ndim, b.ndim))
        return np.matmul(a, b, out=out)


@pytest.fixture
def unpacked(monkeypatch):
    """As if BLAS had such kernels, whatever it has, and one thread."""
    monkeypatch.setattr(blas, "leaves_small_unpacked", lambda: True)
    monkeypatch.setattr(_product, "leaves_small_unpacked", lambda: True)
    monkeypatch.setattr(blas, "libraries", list)


@pytest.mark.parametrize("kind", ["A·B", "Aᵀ·B", "A·Bᵀ"])
@pytest.mark.parametrize(
    "m, k, n, parts",
    [
        (64, 128, 128, ("A·B", "Aᵀ·B", "A·Bᵀ")),
        *((1024, 128, 512, ("A·B", "A·Bᵀ")), (64, 1568, 64, ("A·B", "A·Bᵀ"))),
        *((101, 103, 107, ()), (8, 8, 8, ()), (0, 5, 4, ()), (4, 0, 5, ())),
    ],
)
def test_products_in_parts_are_the_product(unpacked, kind, m, k, n, parts):
    rng, xp = np.random.default_rng(0), Noting()
    a = rng.standard_normal((m, k), "f") if kind != "Aᵀ·B" else rng.standard_normal((k, m), "f").T
    b = rng.standard_normal((k, n), "f") if kind != "A·Bᵀ" else rng.standard_normal((n, k), "f").T
    y, spare = np.full((m, n), np.nan, "f"), [np.empty(s.shape, "f") for s in _product.spare_for(m, k, n, "float32")]
    _product.product(xp, y, a, b, *spare)
    np.testing.assert_allclose(y, a.astype("d") @ b.astype("d"), rtol=0, atol=2.0**-21 * max(k, 1))
    assert (xp.axes[-1] > 2) == (kind in parts)


def test_large_products_are_left_to_several_threads(unpacked, monkeypatch):
    monkeypatch.setattr(blas, "libraries", lambda: [type("Two", (), {"num_threads": 2, "internal_api": "openblas"})])
    assert blas.better_in_parts(2 * blas.UNPACKED) and not blas.better_in_parts(3 * blas.UNPACKED)
    with blas.with_one_thread(True):
        assert blas.better_in_parts(3 * blas.UNPACKED)
        with blas.with_one_thread(False):
            assert not blas.better_in_parts(3 * blas.UNPACKED)
