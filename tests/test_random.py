"""The stream of random words, the numbers made from it, and the generators."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import gputape as gt
from gputape.backend import backend
from gputape.cpu_fallback import random as bodies
from gputape.functions import Execute
from gputape.random import generator

F = Execute(backend("cpu"))
LOW = 0xFFFFFFFF


def philox(counter, key):
    """One block of Philox-4x32-10, as the paper writes it."""
    x, k = list(counter), list(key)
    for _ in range(10):
        p, q = 0xD2511F53 * x[0], 0xCD9E8D57 * x[2]
        x = [(q >> 32) ^ x[1] ^ k[0], q & LOW, (p >> 32) ^ x[3] ^ k[1], p & LOW]
        k = [(k[0] + 0x9E3779B9) & LOW, (k[1] + 0xBB67AE85) & LOW]
    return x


def word(seed, w):
    """Word w of a seed's stream, by the definition on the card."""
    seed, block = seed % 2**64, w // 4
    return philox((block & LOW, block >> 32, 0, 0), (seed & LOW, seed >> 32))[w % 4]


def state(seed, counter=0):
    return np.array([seed, counter], np.int64)


def vectorised(counter, key):
    """One block by the body's rounds, with all four counter words given."""
    lanes, high, low = (np.zeros((2, 1), np.uint64) for _ in range(3))
    keys, words = np.zeros((2, 10), np.uint64), np.zeros((1, 4), np.uint32)
    bodies._round_keys(np, keys, np.array([key[0] | key[1] << 32], np.uint64))
    lanes[:, 0], low[:, 0] = (counter[0], counter[2]), (counter[1], counter[3])
    bodies._rounds(np, words, lanes, high, low, keys)
    return words[0].tolist()


# Random123's kat_vectors: philox4x32, 10 rounds.
KNOWN = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((LOW,) * 4, (LOW,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.mark.parametrize("counter, key, expected", KNOWN)
def test_philox_gives_the_published_words(counter, key, expected):
    assert tuple(philox(counter, key)) == expected
    assert tuple(vectorised(counter, key)) == expected


@pytest.mark.parametrize(
    "seed, counter, offset",
    [(0, 0, 0), (7, 3, 0), (-5, 2**34 + 1, 2), (2**62 + 12345, 4 * LOW - 7, 5), (2**63 - 1, 2**60 + 1, 2**40)],
)
def test_element_i_is_word_i(seed, counter, offset):
    n = 2 * bodies.PIECE + 5  # several pieces, the last one short
    y = F.random_bits(state(seed, counter), (n,), offset)
    edges = [k * bodies.PIECE + d for k in (1, 2) for d in (-1, 0, 1)]
    for i in (0, 1, 2, 3, 4, 5, 1000, *edges, n - 1):
        assert y[i] == word(seed, counter + offset + i)


@pytest.mark.parametrize("offset", range(6))
def test_a_stream_does_not_depend_on_where_a_call_begins(offset):
    whole = F.random_bits(state(11), (40,))
    assert np.array_equal(F.random_bits(state(11), (30,), offset), whole[offset : offset + 30])
    assert np.array_equal(F.random_bits(state(11, offset), (30,)), whole[offset : offset + 30])


def test_uniform_takes_the_top_bits():
    bits = F.random_bits(state(5), (2000,))
    assert np.array_equal(F.random_uniform(state(5), (2000,)), (bits >> 8) * 2.0**-24)
    assert np.array_equal(F.random_uniform(state(5), (2000,), "float16"), (bits >> 21) * 2.0**-11)
    assert np.array_equal(F.random_uniform(state(5), (2000,), "bfloat16").astype("f8"), (bits >> 24) * 2.0**-8)
    pairs = (bits[::2].astype(object) * 2**32 + bits[1::2]) // 2**11
    assert np.array_equal(F.random_uniform(state(5), (1000,), "float64"), [float(p) * 2.0**-53 for p in pairs])


@pytest.mark.parametrize("n", [1, 2, 7, 100_001])
def test_normal_is_box_muller_within_the_stated_bound(n):
    even = n + n % 2
    bits = F.random_bits(state(9, 1), (even,))
    u = (bits[::2].astype(np.float32) * np.float32(2.0**-32) + np.float32(2.0**-33)).astype(np.float64)
    v = (bits[1::2] >> 8) * 2.0**-24
    radius = np.sqrt(-2 * np.log(u))
    z = np.stack([radius * np.cos(2 * np.pi * v), radius * np.sin(2 * np.pi * v)], 1).reshape(-1)[:n]
    assert np.abs(F.random_normal(state(9, 1), (n,)) - z).max() <= 2.0**-19
    bits = F.random_bits(state(9, 1), (2 * even,)).astype(object)
    k = [(a * 2**32 + b) // 2**11 for a, b in zip(bits[::2], bits[1::2], strict=True)]
    u, v = np.array([float(x) * 2.0**-53 + 2.0**-54 for x in k[::2]]), np.array([float(x) * 2.0**-53 for x in k[1::2]])
    radius = np.sqrt(-2 * np.log(u))
    z = np.stack([radius * np.cos(2 * np.pi * v), radius * np.sin(2 * np.pi * v)], 1).reshape(-1)[:n]
    assert np.abs(F.random_normal(state(9, 1), (n,), "float64") - z).max() <= 2.0**-48


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_moments_are_those_of_the_distributions(dtype):
    n = 1_000_000
    u, z = F.random_uniform(state(1), (n,), dtype), F.random_normal(state(2), (n,), dtype)
    assert u.min() >= 0 and u.max() < 1
    within = 5 / np.sqrt(n)  # five standard errors, times the standard deviation of what is averaged
    for average, expected, deviation in (
        (u.mean(dtype="f8"), 1 / 2, np.sqrt(1 / 12)),
        ((u.astype("f8") ** 2).mean(), 1 / 3, np.sqrt(4 / 45)),
        (z.mean(dtype="f8"), 0, 1),
        ((z.astype("f8") ** 2).mean(), 1, np.sqrt(2)),
        ((z.astype("f8") ** 4).mean(), 3, np.sqrt(96)),
        ((z[::2].astype("f8") * z[1::2]).mean(), 0, np.sqrt(2)),
    ):
        assert abs(average - expected) < within * deviation


@pytest.mark.parametrize("p", [0.0, 0.1, 1 / 3, 0.5, 1 - 2.0**-24, 1 - 2.0**-26, 1.0])
def test_masks_compare_the_float32_uniform_with_p(p):
    u = F.random_uniform(state(3), (5000,)).astype(np.float64)
    assert np.array_equal(F.random_bernoulli(state(3), (5000,), p), (u < p).astype(np.float32))
    keep = np.float32(1 / (1 - p)) if p < 1 else np.float32(0)
    assert np.array_equal(F.dropout_mask(state(3), (5000,), p), np.where(u < p, np.float32(0), keep))
    narrow = F.dropout_mask(state(3), (5000,), p, 0, "bfloat16")
    assert np.array_equal(narrow != 0, (u >= p) & (p < 1))


def test_permutation_holds_every_index_once_and_mixes():
    found = F.random_permutation(state(4), 5000)
    assert np.array_equal(np.sort(found), np.arange(5000))
    assert abs(np.corrcoef(found, np.arange(5000))[0, 1]) < 5 / np.sqrt(5000)
    firsts = [F.random_permutation(state(4, 8 * k), 4)[0] for k in range(2000)]
    assert np.abs(np.bincount(firsts) - 500).max() < 5 * np.sqrt(2000 * 3 / 16)


# --- generators -------------------------------------------------------------------------------------------------------


def test_two_integers_restore_everything():
    g = gt.Generator(42)
    g.normal((3,))
    g.uniform(())
    kept = g.state
    assert kept == (42, 5)
    draws = lambda g: (  # noqa: E731 - three ways to draw
        gt.rand(3, generator=g),
        gt.randn(2, 3, dtype="float64", generator=g),
        gt.randperm(9, generator=g),
    )
    first = draws(g)
    g.uniform(100)
    other = gt.Generator()
    other.state = kept
    again = draws(other)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert other.state == (42, 5 + 3 + 12 + 18)


def test_consecutive_draws_do_not_overlap():
    g = gt.Generator(1)
    pieces = np.concatenate([gt.rand(n, generator=g) for n in (3, 1, 5, 8)])
    assert np.array_equal(pieces, gt.Generator(1).uniform(17))


def test_seeds_of_64_bits():
    assert gt.Generator(2**64 - 1).state == gt.Generator(-1).state == (-1, 0)
    assert not np.array_equal(gt.Generator(1).uniform(4), gt.Generator(1 + 2**32).uniform(4))
    for bad in (2**64, -(2**63) - 1):
        with pytest.raises(gt.ArgumentError, match="64 bits"):
            gt.Generator(bad)
    for bad in ((1,), (1, -1), (1.5, 0), None):
        with pytest.raises(gt.ArgumentError):
            gt.Generator().state = bad
    with pytest.raises(gt.ArgumentError, match="take -1"):
        gt.Generator().take(-1)


def test_manual_seed_seeds_everything_without_a_generator():
    gt.manual_seed(3)
    first = gt.rand(2, 2), gt.dropout(np.ones((8, 8), np.float32))
    assert gt.manual_seed(3) is generator()
    assert all(np.array_equal(a, b) for a, b in zip(first, (gt.rand(2, 2), gt.dropout(np.ones((8, 8), np.float32)))))
    assert repr(generator()) == "gt.Generator(seed=3, counter=68)"


def test_threads_never_get_the_same_words():
    g, taken = gt.Generator(0), []
    threads = [threading.Thread(target=lambda: taken.extend(g.take(3)[1] for _ in range(500))) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert sorted(taken) == list(range(0, 6000, 3))


def test_functions_give_torchs_shapes_and_refuse_nonsense():
    assert gt.rand().shape == () and gt.rand((2, 3)).shape == (2, 3) and gt.randn([4]).shape == (4,)
    assert gt.rand(0, 3).shape == (0, 3) and gt.rand(2, dtype=np.float64).dtype == np.float64
    assert gt.randperm(0).shape == (0,) and gt.randperm(5).dtype == np.int64
    for call in (lambda: gt.rand(-1), lambda: gt.randn(2.0), lambda: gt.randperm(-1), lambda: gt.randperm(True)):
        with pytest.raises(gt.ArgumentError):
            call()
    with pytest.raises(gt.DTypeError, match="int64"):
        gt.rand(2, dtype="int64")


def test_bernoulli_follows_its_probabilities():
    p = np.broadcast_to(np.array([0.0, 0.25, 1.0], np.float32), (20000, 3))
    y = gt.bernoulli(p)
    assert y.dtype == np.float32 and set(np.unique(y)) == {0, 1}
    assert y[:, 0].max() == 0 and y[:, 2].min() == 1
    assert abs(y[:, 1].mean() - 0.25) < 5 * np.sqrt(0.25 * 0.75 / 20000)
    with pytest.raises(gt.DTypeError, match="floating-point"):
        gt.bernoulli(np.ones(3, np.int64))


def test_multinomial_draws_with_the_probabilities_it_is_given():
    p = np.array([[0, 1, 2, 0, 5], [3, 0, 0, 1, 1]], np.float32)
    q, n = p / p.sum(1, keepdims=True), 20000
    drawn = gt.multinomial(p, n, replacement=True)
    assert drawn.shape == (2, n) and drawn.dtype == np.int64
    found = np.stack([np.bincount(row, minlength=5) / n for row in drawn])
    assert (found[p == 0] == 0).all() and (np.abs(found - q) < 5 * np.sqrt(q * (1 - q) / n + 1e-12)).all()

    drawn = gt.multinomial(np.tile(p[0], (n, 1)), 3)  # each class once, the heavy ones sooner
    np.testing.assert_array_equal(np.sort(drawn, 1), np.tile([1, 2, 4], (n, 1)))
    second = sum(q[0, k] * np.where(np.arange(5) == k, 0, q[0]) / (1 - q[0, k]) for k in (1, 2, 4))
    for place, want in ((0, q[0]), (1, second)):
        found = np.bincount(drawn[:, place], minlength=5) / n
        assert (np.abs(found - want) < 5 * np.sqrt(want * (1 - want) / n + 1e-12)).all()
    assert gt.multinomial(p[1], 2).shape == (2,)


def test_multinomial_in_a_compiled_function_draws_anew():
    f = gt.compile(lambda p: gt.multinomial(p, 4, True))
    drawn = [f(np.ones(1000, np.float32)) for _ in range(3)]
    assert len({tuple(d) for d in drawn}) == 3 and all((d >= 0).all() and (d < 1000).all() for d in drawn)


@pytest.mark.parametrize(
    "p, n, error, match",
    [
        ([1, 2], 1, gt.DTypeError, "floating-point"),
        ([[[1.0]]], 1, gt.ShapeError, "shape \\(1, 1, 1\\)"),
        ([1.0, -1.0], 1, gt.ArgumentError, "negative"),
        ([1.0, np.inf], 1, gt.ArgumentError, "finite"),
        ([[1.0, 0.0], [0.0, 0.0]], 1, gt.ArgumentError, "0 classes above 0"),
        ([1.0, 0.0], 2, gt.ArgumentError, "1 classes above 0, but 2 are needed"),
        ([1.0, 1.0], 3, gt.ArgumentError, "3 of 2 classes"),
        ([1.0, 1.0], 0, gt.ArgumentError, "num_samples=0"),
    ],
)
def test_multinomial_refuses(p, n, error, match):
    with pytest.raises(error, match=match):
        gt.multinomial(np.array(p), n)


def test_rrelu_draws_slopes_in_training():
    x = np.full((40, 50), -1.0, np.float32)
    y = gt.rrelu(x, 0.25, 0.75, training=True)
    assert y.min() > -0.75 and y.max() <= -0.25 and abs(y.mean() + 0.5) < 0.02 and len(np.unique(y)) > 1900
    np.testing.assert_array_equal(gt.rrelu(x, 0.25, 0.75), -0.5)
    layer = gt.nn.RReLU()
    assert len(np.unique(layer(x))) > 1900
    layer.eval()
    np.testing.assert_allclose(layer(x), -11 / 48, rtol=1e-6)


# --- dropout ----------------------------------------------------------------------------------------------------------


def test_dropout_keeps_the_mean_and_backward_uses_the_same_mask():
    x = np.ones((400, 500), np.float32)
    with gt.record() as tape:
        a = gt.leaf(x)
        y = gt.dropout(a, 0.2)
        loss = gt.sum(y)
    grads = tape.backward(loss)
    assert np.array_equal(grads[a], y.value)
    assert set(np.unique(y.value)) == {np.float32(0), np.float32(1 / 0.8)}
    assert abs(y.value.mean() - 1) < 5 * np.sqrt(0.25 / x.size)


def test_dropout_is_the_identity_in_evaluation_and_takes_no_words():
    x = gt.rand(5)
    before = generator().state
    assert np.array_equal(gt.dropout(x, 0.5, training=False), x)
    assert np.array_equal(gt.dropout(x, 0), x)
    assert generator().state == before
    gt.dropout(x)
    assert generator().state[1] == before[1] + 5


def test_dropout_of_everything():
    with gt.record() as tape:
        a = gt.leaf(np.ones(7, np.float32))
        y = gt.dropout(a, 1.0)
    assert not y.value.any()
    assert not tape.backward(y, seed=np.ones(7, np.float32))[a].any()


def test_each_call_of_a_compiled_function_draws_anew_and_as_eager_does():
    def draws(x):
        return gt.dropout(x, 0.5), gt.randn(3)

    x = np.ones(32, np.float32)
    gt.manual_seed(8)
    eager = [draws(x) for _ in range(3)]
    after = generator().state
    gt.manual_seed(8)
    compiled = gt.compile(draws)
    for pair in eager:
        for a, b in zip(pair, compiled(x), strict=True):
            assert np.array_equal(a, b)
    assert generator().state == after
    g = gt.Generator(0)
    with pytest.raises(gt.CompileError, match="generator of your own"):
        gt.compile(lambda x: x + gt.rand(32, generator=g))(x)


# --- torch's other names ----------------------------------------------------------------------------------------------


def test_randint_is_the_word_modulo_the_range():
    gt.manual_seed(5)
    drawn = gt.randint(-3, 4, (50, 20))
    gt.manual_seed(5)
    bits = Execute(backend("cpu")).random_bits(generator().take(1000), (50, 20))
    np.testing.assert_array_equal(drawn, bits % 7 - 3)
    assert drawn.dtype == np.int64 and set(np.unique(drawn)) == set(range(-3, 4))
    assert gt.randint(2, size=5).shape == (5,) and gt.randint(2, (5,)).max() <= 1
    assert gt.randint(high=2, low=1, size=()) == 1
    assert gt.randint(0, 9, (3,), dtype="uint8").dtype == np.uint8
    assert gt.randint(2**32, (3,)).min() >= 0
    mine = gt.Generator(3)
    a = gt.randint(10, (4,), generator=mine)
    assert mine.state == (3, 4)
    np.testing.assert_array_equal(a, gt.randint(10, (4,), generator=gt.Generator(3)))


@pytest.mark.parametrize("bad", [(3, 3, (2,)), (0, 2**33, (2,)), (1.5, (2,)), (3, (-1,)), (3, (2.0,)), (True, (2,))])
def test_randint_refuses(bad):
    with pytest.raises(gt.ArgumentError, match="randint: "):
        gt.randint(*bad)


def test_draws_like_an_array():
    x = np.zeros((3, 4), np.float64)
    for draw in (gt.rand_like, gt.randn_like):
        assert draw(x).dtype == np.float64 and draw(x).shape == (3, 4)
        assert draw(x, dtype="float32").dtype == np.float32
        assert draw(gt.Cell(x.astype(np.float32))).dtype == np.float32
    assert gt.randint_like(np.zeros(5, np.int32), 3).dtype == np.int32
    assert gt.randint_like(x, 2, 3).max() == 2
    with pytest.raises(gt.DTypeError, match="rand_like: .*not floating point"):
        gt.rand_like(np.zeros(3, np.int64))


def test_normal_has_the_given_mean_and_deviation():
    gt.manual_seed(1)
    z = gt.randn(4, 5)
    gt.manual_seed(1)
    np.testing.assert_allclose(gt.normal(2.0, 0.5, (4, 5)), z * 0.5 + 2, rtol=1e-6)
    gt.manual_seed(1)
    mean, std = np.arange(5, dtype=np.float32), np.full((4, 1), 2, np.float32)
    np.testing.assert_allclose(gt.normal(mean, std), z * std + mean, rtol=1e-6)
    assert gt.normal(np.zeros(3), 1).dtype == np.float64
    with pytest.raises(gt.ArgumentError, match="normal: size is missing"):
        gt.normal(0.0, 1.0)
    with pytest.raises(gt.DTypeError, match="normal: .*floating-point"):
        gt.normal(np.zeros(3, np.int64))


def test_gumbel_softmax_chooses_as_often_as_the_probabilities_say():
    gt.manual_seed(2)
    p = np.array([0.5, 0.3, 0.2], np.float32)
    chosen = gt.gumbel_softmax(np.broadcast_to(np.log(p), (20_000, 3)), tau=0.5, hard=True)
    assert set(np.unique(chosen)) == {0, 1} and (chosen.sum(1) == 1).all()
    assert (np.abs(chosen.mean(0) - p) < 5 * np.sqrt(p * (1 - p) / 20_000)).all()


def test_a_compiled_function_draws_anew_in_every_call():
    step = gt.compile(lambda x: (gt.randint(100, (50,)) + gt.normal(x, 1.0), gt.gumbel_softmax(x)))
    x = np.zeros(50, np.float32)
    first, second = step(x), step(x)
    assert not np.array_equal(first[0], second[0]) and not np.array_equal(first[1], second[1])
