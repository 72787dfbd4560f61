"""Rewrites of compiled programs: what is put together around products, pools and norms, and that values stay."""

from __future__ import annotations

import functools
import math
import os

os.environ.setdefault("TRITON_INTERPRET", "1")  # read when Triton is imported, by whichever test comes first

import numpy as np
import pytest
from rewriting import EPS, B, R, W, X, both, normal, ops_of

import gputape as gt

# --- affine maps and what follows -------------------------------------------------------------------------------------


def grads_of(f):
    """One vector of the gradients of sum(f(x, w, b, r)²) to all four."""

    def run(*arrays):
        with gt.record() as tape:
            leaves = [gt.leaf(a) for a in arrays]
            loss = gt.sum(gt.square(f(*leaves)))
        grads = tape.backward(loss, wrt=leaves)
        return gt.cat([gt.reshape(grads[x], (-1,)) for x in leaves])

    return run


ENDINGS = {
    "gelu": lambda x, w, b, r: gt.gelu(gt.linear(x, w, b)) + 0 * gt.sum(r),
    "relu, residual": lambda x, w, b, r: r + gt.relu(gt.linear(x, w, b)),
    "residual": lambda x, w, b, r: gt.linear(x, w, b) + r,
    "gelu, residual": lambda x, w, b, r: gt.gelu(gt.linear(x, w, b), approximate="tanh") + r,
    "leaky": lambda x, w, b, r: gt.leaky_relu(gt.linear(x, w), 0.2) * r + gt.sum(b),
    "silu twice": lambda x, w, b, r: gt.silu(gt.linear(gt.silu(gt.linear(x, w, b)), gt.permute(w, (1, 0)))) + gt.sum(r),
}


@pytest.mark.parametrize("device", ["cpu", "emulated"])
@pytest.mark.parametrize("ending", ENDINGS)
def test_an_affine_map_takes_what_follows_it(ending, device):
    with gt.device(device):
        compiled, found, eager = both(grads_of(ENDINGS[ending]), X, W, B, R)
        forward, value, exact = both(ENDINGS[ending], X, W, B, R)
    assert "linear_act" in ops_of(compiled)
    assert not {"gelu_bwd", "leaky_relu_bwd", "silu_bwd"} & set(ops_of(compiled))
    scale = np.abs(eager).max()
    np.testing.assert_allclose(found, eager, rtol=32 * EPS, atol=32 * EPS * scale)
    np.testing.assert_allclose(value, exact, rtol=8 * EPS, atol=8 * EPS * np.abs(exact).max())
    assert "linear_act" in ops_of(forward) and "linear" not in ops_of(forward)


COLUMNS = normal(5, 7, seed=1)
PRODUCTS = {
    "activation": (lambda x, w, b, r: gt.relu(gt.matmul(x, w) + b), "linear_act"),
    "bias first, residual": (lambda x, w, b, r: b + gt.matmul(x, w) + r, "linear_act"),
    "alone": (lambda x, w, b, r: gt.matmul(gt.reshape(x, (2, 3, 5)), w) + b, "linear"),
    "a transposed weight": (
        lambda x, w, b, r: gt.matmul(x, gt.permute(gt.permute(w, (1, 0)) * 2, (1, 0))) + b,
        "linear",
    ),
    "read twice": (lambda x, w, b, r: (y := gt.matmul(x, w)) + b + gt.sum(y), None),
    "a row for each row": (lambda x, w, b, r: gt.matmul(x, w) + r, None),
    "a batch of matrices": (lambda x, w, b, r: gt.matmul(gt.reshape(x, (2, 3, 5)), gt.stack([w, w])) + b, None),
}


@pytest.mark.parametrize("device", ["cpu", "emulated"])
@pytest.mark.parametrize("product", PRODUCTS)
def test_a_product_and_its_bias_are_an_affine_map(product, device):
    f, op = PRODUCTS[product]
    with gt.device(device):
        _, found, eager = both(grads_of(f), X, COLUMNS, B, R)
        forward, value, exact = both(f, X, COLUMNS, B, R)
    np.testing.assert_allclose(found, eager, rtol=32 * EPS, atol=32 * EPS * np.abs(eager).max())
    np.testing.assert_allclose(value, exact, rtol=8 * EPS, atol=8 * EPS * np.abs(exact).max())
    if op is None:
        assert not {"linear", "linear_act"} & set(ops_of(forward)) and "mm_nd" in ops_of(forward)
    else:
        assert op in ops_of(forward) and not {"mm_nd", "add"} & set(ops_of(forward))


IMAGES, KERNEL, PER_CHANNEL = normal(2, 4, 7, 6), normal(6, 2, 3, 3, seed=1), normal(6, seed=2)
CONVOLUTIONS = {
    "relu": lambda x, w, b: gt.relu(gt.conv2d(x, w, b, padding=1, groups=2)),
    "gelu": lambda x, w, b: gt.gelu(gt.conv2d(x, w, b, stride=2, groups=2), approximate="tanh"),
    "tanh twice": lambda x, w, b: gt.tanh(
        gt.conv2d(gt.tanh(gt.conv2d(x, w, b, groups=2)), gt.reshape(w, (2, 6, 3, 3)) + gt.sum(b))
    ),
}


@pytest.mark.parametrize("device", ["cpu", "emulated"])
@pytest.mark.parametrize("ending", CONVOLUTIONS)
def test_a_convolution_takes_the_activation_that_follows_it(ending, device):
    def grads(*arrays):
        with gt.record() as tape:
            leaves = [gt.leaf(a) for a in arrays]
            loss = gt.sum(gt.square(CONVOLUTIONS[ending](*leaves)))
        return gt.cat([gt.reshape(g, (-1,)) for g in tape.backward(loss, wrt=leaves).values()])

    with gt.device(device):
        compiled, found, eager = both(grads, IMAGES, KERNEL, PER_CHANNEL)
        forward, value, exact = both(CONVOLUTIONS[ending], IMAGES, KERNEL, PER_CHANNEL)
    np.testing.assert_allclose(found, eager, rtol=32 * EPS, atol=32 * EPS * np.abs(eager).max())
    np.testing.assert_allclose(value, exact, rtol=8 * EPS, atol=8 * EPS * np.abs(exact).max())
    for made in (compiled, forward):
        assert "conv_act" in ops_of(made)
        assert not {"conv_nd", "relu", "gelu", "gelu_bwd", "tanh", "sigmoid"} & set(ops_of(made))


def test_on_the_cpu_a_convolution_takes_only_what_it_can_do_as_fast():
    f = lambda x, w, b: gt.silu(gt.conv2d(x, w, b, groups=2))  # noqa: E731
    assert ops_of(both(f, IMAGES, KERNEL, PER_CHANNEL)[0]) == ["conv_nd", "silu"]
    with gt.device("emulated"):
        assert ops_of(both(f, IMAGES, KERNEL, PER_CHANNEL)[0]) == ["conv_act"]


@pytest.mark.parametrize("device", ["cpu", "emulated"])
def test_relu_stays_with_its_convolution_before_a_pool_where_no_gradient_is_taken(device):
    f = lambda x, w, b: gt.max_pool2d(gt.relu(gt.conv2d(x, w, b, groups=2)), 2)  # noqa: E731
    with gt.device(device):
        compiled, found, eager = both(f, IMAGES, KERNEL, PER_CHANNEL)
    ran = ops_of(compiled)
    assert ran == (["conv_act", "max_pool_nd"] if device == "emulated" else ["conv_nd", "max_pool_nd", "relu"])
    np.testing.assert_allclose(found, eager, rtol=8 * EPS, atol=8 * EPS)


def test_what_is_read_elsewhere_stays():
    def f(x, w, b):
        z = gt.linear(x, w, b)
        return gt.gelu(z) + gt.exp(z)

    assert "linear_act" not in ops_of(both(f, X, W, B)[0])
    two = lambda x, w, b: gt.gelu(gt.linear(x, w, b)) * gt.tanh(gt.linear(x, w, b))  # noqa: E731
    assert "linear_act" not in ops_of(both(two, X, W, B)[0])

    def twice(x, w, b, r):
        z = gt.linear(x, w, b)
        return z + z + r

    compiled, found, eager = both(twice, X, W, B, R)
    assert "linear_act" not in ops_of(compiled) and found.tobytes() == eager.tobytes()
    spread = lambda x, w, b: gt.linear(x, w) + b  # noqa: E731
    assert ops_of(both(spread, X, W, B)[0]) == ["linear", "add"]  # a bias is no residual


def test_a_residual_that_depends_on_the_slope_stays_an_addition():
    def f(x, w, b):
        with gt.record() as tape:
            leaf = gt.leaf(x)
            y = gt.gelu(gt.linear(leaf, w, b))
            (dx,) = tape.backward(gt.sum(y), wrt=[leaf]).values()
            return gt.sum(y + gt.linear(dx, w))

    _, found, eager = both(f, X, W, B)
    np.testing.assert_allclose(found, eager, rtol=64 * EPS)


def test_gradients_of_gradients_of_a_rewritten_program():
    f = lambda x, w: gt.grad(lambda x: gt.sum(gt.grad(lambda x: gt.sum(gt.gelu(gt.linear(x, w))))(x) ** 2))(x)  # noqa: E731
    _, found, eager = both(f, X, W)
    np.testing.assert_allclose(found, eager, rtol=64 * EPS, atol=64 * EPS * np.abs(eager).max())


def test_16_bit_rounds_once_and_says_so():
    x, w, r = (a.astype(np.float16) for a in (X, W, R))
    compiled, found, eager = both(lambda x, w, r: gt.linear(x, w) + r, x, w, r)
    exact = X.astype("d") @ W.T.astype("d") + R
    assert np.abs(found - exact).max() <= np.abs(eager - exact).max() * 1.5
    assert "linear, add, rounded once" in compiled.explain()


@pytest.mark.parametrize("ending", [gt.relu, lambda y: gt.add(y, y), gt.sigmoid, lambda y: y])
@pytest.mark.parametrize("dtype, outs", [("int64", (2,)), ("float32", ())])
def test_products_of_integers_and_with_vectors_are_left_as_they_are(ending, dtype, outs):
    x = np.arange(-6, 6, dtype=dtype).reshape(3, 4)
    w = np.arange(math.prod(outs) * 4, dtype=dtype).reshape(*outs, 4) - 3
    step = gt.compile(lambda x: ending(gt.linear(x, w)))
    want = ending(x @ w.T)
    for _ in range(2):
        got = step(x)
        assert got.dtype == want.dtype
        np.testing.assert_array_equal(got, want)


# --- before a pool ----------------------------------------------------------------------------------------------------


EYE = 2 * np.eye(8, dtype=np.float32)


def pooled(x, **window):
    """(the loss, what is pooled, the gradient to x) of relu and max pooling."""
    with gt.record() as tape:
        leaf = gt.leaf(x)
        y = gt.max_pool2d(gt.relu(gt.matmul(leaf, EYE)), **window)
        loss = gt.sum(0.5 * gt.square(y) + y)
    return loss, y, tape.backward(loss, wrt=[leaf])[leaf]


@pytest.mark.parametrize("device", ["cpu", "emulated"])
@pytest.mark.parametrize(
    "window",
    [
        {"kernel_size": 2},
        {"kernel_size": 3, "stride": 2, "ceil_mode": True},
        {"kernel_size": 3, "stride": 1},
        {"kernel_size": 2, "stride": 3, "dilation": 2},
    ],
)
def test_relu_runs_after_a_max_pool_bit_for_bit(window, device):
    x = normal(2, 3, 7, 8)
    x[0, 0, 1, 2], x[0, 1], x[1, 2] = np.nan, 0.0, -np.abs(x[1, 2])  # a NaN, ties at the kink, nothing positive
    x[1, 0] = np.float32(0.5)  # ties
    step = functools.partial(pooled, **window)
    with gt.device(device):
        compiled = gt.compile(step)
        for eager, found in zip(step(x), compiled(x), strict=True):
            np.testing.assert_array_equal(np.asarray(found), np.asarray(eager))
    order = ops_of(compiled)
    assert order[:2] == ["mm_nd", "max_pool_nd"] and order[-2:] == ["max_pool_nd_bwd", "mm_nd"]


def test_relu_runs_after_a_max_pool_of_which_only_the_places_are_read():
    gradient = gt.grad(lambda x: gt.sum(gt.max_pool2d(gt.relu(gt.matmul(x, EYE)), 2)))
    compiled, found, eager = both(gradient, normal(2, 3, 7, 8))
    assert found.tobytes() == eager.tobytes()
    order = ops_of(compiled)
    assert order.index("max_pool_nd") < order.index("relu_bwd") < order.index("max_pool_nd_bwd")


def test_relu_stays_in_a_chain_of_one_launch():
    run = lambda x: gt.max_pool2d(gt.relu(gt.mul(x, 2.0)), 2)  # noqa: E731
    with gt.device("emulated"):
        assert ops_of(both(run, normal(2, 3, 6, 6))[0]) == ["fused", "max_pool_nd"]
    assert ops_of(both(run, normal(2, 3, 6, 6))[0]) == ["mul", "max_pool_nd", "relu"]


def test_relu_stays_before_a_pool_with_padding_and_where_it_is_read_elsewhere():
    x = normal(2, 3, 7, 8)

    def read(x):
        y = gt.relu(gt.mul(x, 2.0))
        return gt.max_pool2d(y, 2), gt.sum(y)

    def indexed(x):
        return gt.max_pool2d(gt.relu(gt.mul(x, 2.0)), 2, return_indices=True)

    for f in (functools.partial(pooled, kernel_size=3, padding=1), read, indexed):
        compiled = gt.compile(f)
        for eager, found in zip(f(x), compiled(x), strict=True):
            assert np.asarray(found).tobytes() == np.asarray(eager).tobytes()
        order = ops_of(compiled)
        assert order.index("relu") < order.index("max_pool_nd")


# --- what follows a gradient ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("device", ["cpu", "emulated"])
@pytest.mark.parametrize("norm", [gt.layer_norm, gt.rms_norm])
def test_gradients_take_the_residual_and_the_slope(norm, device):
    """Of x + W·gelu(V·norm(x)): no pass of its own for the sum of both gradients of x, nor for the slope."""

    def f(x, v, w):
        with gt.record() as tape:
            leaves = [gt.leaf(a) for a in (x, v, w)]
            x, v, w = leaves
            y = x + gt.linear(gt.gelu(gt.linear(norm(x, (5,)), v)), w)
            loss = gt.sum(gt.square(y))
        return gt.cat([gt.reshape(g, (-1,)) for g in tape.backward(loss, wrt=leaves).values()])

    with gt.device(device):
        compiled, found, eager = both(f, X, W, normal(5, 7, seed=4))
    assert not {"add", "gelu_bwd"} & set(ops_of(compiled))
    (bwd,) = [n for n in compiled.plan.record if n.op == f"{norm.__name__}_bwd"]
    assert bwd.at.ins[-1] is bwd.aval
    factors = [n.at.ins[3] is not None for n in compiled.plan.record if n.op == "linear_bwd"]
    assert sorted(factors) == [False, True]
    np.testing.assert_allclose(found, eager, rtol=64 * EPS, atol=64 * EPS * np.abs(eager).max())
