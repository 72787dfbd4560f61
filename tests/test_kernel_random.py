"""Random kernels, bit for bit: the same stream as on the cpu, whatever the tile, the start or the dtype."""

from __future__ import annotations

import os

os.environ.setdefault("TRITON_INTERPRET", "1")

import numpy as np
import pytest

pytest.importorskip("triton", reason="triton is not installed: no kernel is emulated")

from gputape import backend as backends
from gputape import registry
from gputape.backend import aval_of

STATES = ((7, 0, 0), (7, 1, 0), (-5, 2**34 + 2, 2), (123456789012345, 2**34 - 3, 3), (3, 5, 2))


def draw(device, name, state, **attrs):
    op, backend = registry.get(name), backends.backend(device)
    return backend.call(op.at((aval_of(state),), op.values(attrs)))((state,))[0]


@pytest.mark.parametrize("seed, counter, offset", STATES)
@pytest.mark.parametrize(
    "name, attrs",
    [
        ("random_bits", {}),
        *(("random_uniform", {"dtype": dtype}) for dtype in ("float32", "float16", "bfloat16")),
        *(("dropout_mask", {"p": 0.1, "dtype": dtype}) for dtype in ("float32", "float16", "bfloat16")),
        ("random_bernoulli", {"p": 0.3}),
    ],
)
def test_words_and_what_is_made_of_them_are_those_of_the_cpu(name, attrs, seed, counter, offset):
    state = np.array([seed, counter])
    for n in (1, 6, 1025):
        made, expected = (draw(d, name, state, shape=n, offset=offset, **attrs) for d in ("emulated", "cpu"))
        assert made.dtype == expected.dtype and made.tobytes() == expected.tobytes()


@pytest.mark.parametrize("seed, counter, offset", STATES)
def test_normals_are_within_their_bound(seed, counter, offset):
    state, n = np.array([seed, counter]), 4001
    words = draw("cpu", "random_bits", state, shape=n + 1, offset=offset)
    u = (words[::2].astype(np.float32) * np.float32(2**-32) + np.float32(2**-33)).astype(np.float64)
    radius, angle = np.sqrt(-2 * np.log(u)), 2 * np.pi * (words[1::2] >> 8) * 2.0**-24
    exact = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).reshape(-1)[:n]
    made = draw("emulated", "random_normal", state, shape=n, offset=offset)
    assert np.abs(made - exact).max() < 2.0**-19


@pytest.mark.parametrize("word", [0, 1, 2**8, 2**31, 2**32 - 1])
def test_the_extreme_words_give_finite_normals(word, monkeypatch):
    """u = 2⁻³³ is the smallest, u = 1 the largest: the radius is √(66 ln 2) and 0."""
    from gputape.kernels.machine.mode import triton

    triton(interpreted=True)
    import triton.language as tl

    def words(block):
        full = tl.full(block.shape, word, tl.uint32)
        return full, full, full, full

    state = np.array([7, 0])
    monkeypatch.setattr(tl, "philox", lambda seed, low, *rest: words(low))
    made = draw("emulated", "random_normal", state, shape=4)
    u = float(np.float32(np.float32(word) * np.float32(2**-32) + np.float32(2**-33)))
    radius, angle = np.sqrt(-2 * np.log(u)), 2 * np.pi * (word >> 8) * 2.0**-24
    exact = [radius * np.cos(angle), radius * np.sin(angle)] * 2
    np.testing.assert_allclose(made, exact, rtol=0, atol=2.0**-19)


@pytest.mark.parametrize("n", [0, 1, 513])
def test_permutations_are_those_of_the_cpu(n):
    state = np.array([7, 3])
    made, expected = (draw(d, "random_permutation", state, n=n, offset=1) for d in ("emulated", "cpu"))
    np.testing.assert_array_equal(made, expected)
