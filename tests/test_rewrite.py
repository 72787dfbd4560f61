"""Rewrites of compiled programs: what they put together, that they leave values alone, and what they save."""

from __future__ import annotations

import functools
import gc
import math
import os
import sys
import tracemalloc
from pathlib import Path

os.environ.setdefault("TRITON_INTERPRET", "1")  # read when Triton is imported, by whichever test comes first

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "perf"))

import models
from kernel_cases import exempt
from training import trainer

import gputape as gt
from gputape import backend, nn, optim, recycle, registry
from gputape.backend import aval_of
from gputape.testing import inputs_of, lay_out
from gputape.variable import Cell

EPS = np.finfo(np.float32).eps


def ops_of(compiled):
    return [node.op for i, node in enumerate(compiled.plan.record) if node.inputs and node.at.op.view is None
            and node.op != "output" and i not in compiled.plan.placement.joins]  # fmt: skip


def both(f, *args):
    """(what rewrites make of `f`, its result, the result without them), which is that of eager, bit for bit."""
    plain, compiled = gt.compile(f, rewrite=False), gt.compile(f)
    for _ in range(2):  # the second is a replay
        eager, same, found = (np.asarray(run(*args)) for run in (f, plain, compiled))
        assert same.tobytes() == eager.tobytes()
        assert found.shape == eager.shape and found.dtype == eager.dtype
    return compiled, found, eager


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype("f")


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


X, W, B, R = normal(6, 5), normal(7, 5, seed=1), normal(7, seed=2), normal(6, 7, seed=3)
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


# --- slices and copies ------------------------------------------------------------------------------------------------


def heads(x, w):
    """Queries, keys and values from one product, and their sum of products."""
    n, length, _ = x.shape
    qkv = gt.linear(x, w).reshape((n, length, 3, 2, 4)).permute((2, 0, 3, 1, 4))
    y = gt.scaled_dot_product_attention(qkv[0], qkv[1], qkv[2], is_causal=True)
    return y.permute((0, 2, 1, 3)).reshape((n, length, 8))


def heads_gradient(x, w):
    with gt.record() as tape:
        leaves = gt.leaf(x), gt.leaf(w)
        loss = gt.sum(gt.square(heads(*leaves)))
    return gt.cat([g.reshape((-1,)) for g in tape.backward(loss, wrt=leaves).values()])


@pytest.mark.parametrize("device", ["cpu", "emulated"])
def test_gradients_of_slices_are_computed_where_they_belong(device):
    x, w = normal(2, 5, 8), normal(24, 8, seed=1)
    with gt.device(device):
        compiled, found, eager = both(heads_gradient, x, w)
    ran = ops_of(compiled)
    assert not {"slice_bwd", "slices_bwd", "copy", "add"} & set(ran)  # attention writes where the product reads
    assert found.tobytes() == eager.tobytes()


def test_slices_that_overlap_or_leave_something_out_are_added():
    def parts(*bounds):
        def f(x):
            with gt.record() as tape:
                leaf = gt.leaf(x)
                loss = sum((gt.sum(gt.exp(leaf[a:b]) * (a + 1)) for a, b in bounds), start=0.0)
            return tape.backward(loss, wrt=[leaf])[leaf]

        return f

    x = normal(7)
    for bounds, joined in (
        (((0, 3), (3, 7)), True),
        (((3, 7), (0, 1), (1, 3)), True),
        (((0, 4), (3, 7)), False),
        (((0, 3), (4, 7)), False),
    ):
        compiled, found, eager = both(parts(*bounds), x)
        assert found.tobytes() == eager.tobytes()
        assert ("slice_bwd" not in ops_of(compiled)) == joined


def test_every_second_element_is_a_slice_too():
    def f(x):
        with gt.record() as tape:
            leaf = gt.leaf(x)
            loss = gt.sum(gt.exp(leaf[::2])) + gt.sum(gt.tanh(leaf[1::2]))
        return tape.backward(loss, wrt=[leaf])[leaf]

    compiled, found, eager = both(f, normal(8))
    assert "slice_bwd" not in ops_of(compiled) and found.tobytes() == eager.tobytes()


def test_what_is_read_by_two_copies_is_in_one_place_only():
    def f(q):
        y = gt.scaled_dot_product_attention(q, q, q)
        a = gt.reshape(gt.permute(y, (0, 2, 1, 3)), (2, 3, 8))
        b = gt.reshape(gt.permute(y, (0, 3, 1, 2)), (2, 4, 6))
        return gt.sum(a) * b + gt.sum(y)

    compiled, found, eager = both(f, normal(2, 2, 3, 4))
    np.testing.assert_allclose(found, eager, rtol=8 * EPS)  # what sums y reads it in another order
    assert ops_of(compiled).count("copy") == 1


def test_a_joined_value_that_is_a_result_or_written_to_a_cell():
    cell = Cell(np.zeros((2, 3, 8), "f"))

    def f(q):
        y = gt.scaled_dot_product_attention(q, q, q)
        side_by_side = gt.reshape(gt.permute(y, (0, 2, 1, 3)), (2, 3, 8))
        cell.assign(side_by_side)
        return y, side_by_side

    q = normal(2, 2, 3, 4)
    compiled = gt.compile(f)
    for k in range(3):
        y, rows = compiled(q + k)
        exact, eager_rows = f(q + k)
        assert y.tobytes() == exact.tobytes() and rows.tobytes() == eager_rows.tobytes()
        assert cell.array.tobytes() == rows.tobytes()


STRIDED = [pytest.param(op, s, id=f"{op.name}-{k}") for op in registry.ops() if op.strided
           for k, s in enumerate(op.samples)]  # fmt: skip


@pytest.mark.parametrize("device", ["cpu", "emulated"])
@pytest.mark.parametrize("layout", ["reversed", "strided"])
@pytest.mark.parametrize("op, sample", STRIDED)
def test_bodies_that_claim_it_write_outputs_in_any_order(op, sample, layout, device):
    be, inputs = backend.backend(device), inputs_of(op, sample)
    at = op.at(tuple(None if x is None else aval_of(x) for x in inputs), op.values(sample.attrs))
    if device == "emulated" and (reason := exempt(op, sample, inputs)):
        pytest.skip(reason)
    exact = be.call(at)(tuple(inputs))
    outs = []
    for name, y in zip(op.outputs, exact, strict=True):
        fresh = None if y is None else np.full(y.shape, np.nan, y.dtype)
        if y is not None and y.ndim and name in op.strided:
            fresh = np.full(y.shape[::-1], np.nan, y.dtype).T if layout == "reversed" else lay_out(fresh, "strided")
        outs.append(fresh)
    be.run_into(at, outs, inputs)
    for y, e in zip(outs, exact, strict=True):
        if e is not None:
            np.testing.assert_allclose(y.astype("d"), e.astype("d"), rtol=16 * EPS, atol=16 * EPS)


# --- whole models -----------------------------------------------------------------------------------------------------


def close_gradients(found, exact):
    """Rounding, times the square root of the longest sum of products behind an element (4096 rows, say), relative to
    the largest gradient of the same parameter."""
    for a, b in zip(found, exact, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=256 * EPS * np.abs(b).max())


@pytest.mark.parametrize("name, samples", [("mlp", 64), ("cnn", 8), ("gpt", 2)])
def test_training_without_rewrites_is_eager_and_with_them_within_rounding(name, samples):
    """Three twins on the same batches: eager and `rewrite=False` must stay equal bit for bit. The third, rewritten, is
    set to their weights before each tenth step, so that its gradients can be compared with theirs."""
    example, rng = models.MODELS[name], np.random.default_rng(0)
    batches = [[x[:samples] for x in example.batch(rng)] for _ in range(4)]
    twins = []
    for _ in range(3):
        gt.manual_seed(0)
        twins.append(example.build())
    eager, plain, rewritten = (trainer(model) for model in twins)
    plain, rewritten = gt.compile(plain, rewrite=False), gt.compile(rewritten)
    first = []
    for k in range(200):
        if k % 10 == 0:
            for p, q in zip(twins[0].parameters(), twins[2].parameters(), strict=True):
                q.assign(p.array)
            near, close = rewritten(*batches[k % 4])
        (loss, grads), (same, twin) = (f(*batches[k % 4]) for f in (eager, plain))
        first.append(float(loss))
        assert loss.value.tobytes() == same.value.tobytes()
        assert all(a.tobytes() == b.tobytes() for a, b in zip(grads, twin, strict=True))
        if k % 10 == 0:
            np.testing.assert_allclose(float(near), float(loss), rtol=32 * EPS)
            close_gradients(close, grads)
    assert all(p.array.tobytes() == q.array.tobytes()
               for p, q in zip(twins[0].parameters(), twins[1].parameters(), strict=True))  # fmt: skip
    assert first[-1] < first[0] / 2
    assert rewritten.plan.totals()["calls"] < plain.plan.totals()["calls"]


def test_two_rewritten_runs_are_bit_identical():
    example, runs = models.MODELS["mlp"], []
    for _ in range(2):
        gt.manual_seed(0)
        model = example.build()
        step, rng = gt.compile(trainer(model)), np.random.default_rng(0)
        runs.append([float(step(*example.batch(rng))[0]) for _ in range(20)])
        runs[-1] += [p.array.tobytes() for p in model.parameters()]
    assert runs[0] == runs[1]


class TinyBlock(nn.Module):
    """A block of the perf model, small enough for the emulator."""

    def __init__(self, width=16, n_heads=2):
        self.norm1, self.norm2, self.heads = nn.LayerNorm(width), nn.LayerNorm(width), n_heads
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 32), nn.GELU(), nn.Linear(32, width))

    def forward(self, x):
        n, length, width = x.shape
        qkv = self.qkv(self.norm1(x)).reshape(n, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        y = gt.scaled_dot_product_attention(qkv[0], qkv[1], qkv[2], is_causal=True)
        x = x + self.out(y.permute(0, 2, 1, 3).reshape(n, length, width))
        return x + self.mlp(self.norm2(x))


def test_a_block_trains_the_same_through_emulated_kernels():
    x, t = normal(2, 5, 16), normal(2, 5, 16, seed=1)
    runs = {}
    for rewrite in (False, True):
        with gt.device("emulated"):
            gt.manual_seed(0)
            model = TinyBlock()
            opt = optim.SGD(model.parameters(), lr=0.1)

            def step(x, t, model=model, opt=opt):
                with gt.record() as tape:
                    loss = gt.mse_loss(model(x), t)
                grads = tape.backward(loss)
                opt.step(grads)
                return loss, [grads[p] for p in model.parameters()]

            compiled = gt.compile(step, rewrite=rewrite)
            runs[rewrite] = [compiled(x, t) for _ in range(3)]
    for (a, grads), (b, exact) in zip(runs[True], runs[False], strict=True):
        np.testing.assert_allclose(float(a), float(b), rtol=64 * EPS)
        close_gradients(grads, exact)


def test_explain_tells_what_was_rewritten_and_what_it_saved():
    example = models.MODELS["gpt"]
    step = gt.compile(trainer(example.build()))
    step(*example.batch(np.random.default_rng(0)))
    text = step.explain()
    assert "(linear, gelu and its slope)" in text and "(3 slice_bwd, 2 add)" in text
    assert "gelu_bwd, with the slope of the forward pass (rounds otherwise)" in text
    now, before = step.plan.totals(), step.plan.totals(rewritten=False)
    assert now["calls"] < 0.75 * before["calls"] and now["bytes"] < 0.75 * before["bytes"]
    assert now["arena"] <= before["arena"]
    assert f"{now['calls']} calls, {now['bytes']} bytes moved" in text


def test_compile_is_a_decorator_with_options():
    @gt.compile(rewrite=False)
    def f(x):
        return gt.tanh(x)

    assert f(normal(3)).shape == (3,) and not f.rewrite


# --- chains of element-wise ops ---------------------------------------------------------------------------------------


def fused_on_emulated(f, *args):
    with gt.device("emulated"):
        return both(f, *args)


def test_a_chain_is_one_launch_on_the_kernels_and_stays_apart_on_the_cpu():
    f = lambda x, b: gt.tanh(gt.exp(x) * 0.5 + b) - gt.sigmoid(x)  # noqa: E731
    compiled, found, eager = fused_on_emulated(f, X, B[:5])
    assert ops_of(compiled) == ["fused"]
    np.testing.assert_allclose(found, eager, rtol=16 * EPS, atol=16 * EPS)
    assert "fused" not in ops_of(both(f, X, B[:5])[0])
    assert "(exp, mul, add, tanh, sigmoid, sub)" in compiled.explain()


def test_a_sum_of_a_chain_is_one_pass():
    def f(x, y):
        error = gt.square(gt.sub(x, y)) * 0.5
        rows = gt.mean(gt.exp(x) - y, -1, keepdim=True)
        return gt.sum(error) + rows * gt.sum(gt.square(x), 0) + gt.sum(x)

    compiled, found, eager = fused_on_emulated(f, X, normal(6, 5, seed=5))
    ran = ops_of(compiled)
    assert ran.count("fused_sum") == 3 and ran.count("sum") == 1 and "mean" not in ran and "exp" not in ran
    np.testing.assert_allclose(found, eager, rtol=32 * EPS, atol=32 * EPS * np.abs(eager).max())
    assert "(sub, square, mul, sum)" in compiled.explain()


def test_a_chain_that_is_read_elsewhere_or_repeats_a_row_is_summed_from_memory():
    def f(x, row):
        a = gt.tanh(gt.exp(x))
        return gt.sum(a, 0) + a + gt.sum(gt.square(x - row))

    compiled, found, eager = fused_on_emulated(f, X, X[0])
    assert "fused_sum" not in ops_of(compiled)
    np.testing.assert_allclose(found, eager, rtol=32 * EPS, atol=32 * EPS * np.abs(eager).max())


def test_a_group_never_waits_for_itself():
    """What a chain reads may depend on its own first part: then that part runs before."""

    def f(x):
        a = gt.exp(x)
        total = gt.sum(a, -1, keepdim=True)
        b = a / total
        c = gt.sum(b * a)
        return gt.tanh(a) + b * c + a

    compiled, found, eager = fused_on_emulated(f, X)
    np.testing.assert_allclose(found, eager, rtol=32 * EPS, atol=32 * EPS)
    assert 3 <= ops_of(compiled).count("fused") + ops_of(compiled).count("exp") <= 4


def test_values_read_outside_a_chain_are_outputs_of_it():
    def f(x):
        a = gt.exp(x)
        b = gt.relu(a - 1.0)
        return gt.sum(b) * gt.sum(a) + gt.sum(a * b, 0)

    compiled, found, eager = fused_on_emulated(f, X)
    np.testing.assert_allclose(found, eager, rtol=32 * EPS)
    (node,) = [n for n in compiled.plan.record if n.op == "fused" and n.aval.shape == X.shape]
    assert sum(a is not None for a in node.avals) == 3


def test_bools_and_options_are_part_of_a_chain():
    def f(x, y):
        m = (x > y) & ~gt.isnan(x)
        return gt.clamp(gt.where(m, gt.pow(gt.clamp(x, -0.5, None), 3), gt.leaky_relu(y, 0.3)), max=2.0)

    compiled, found, eager = fused_on_emulated(f, X, normal(6, 5, seed=4))
    assert ops_of(compiled) == ["fused"]
    np.testing.assert_allclose(found, eager, rtol=16 * EPS, atol=16 * EPS)


def test_16_bit_chains_keep_float32_between_their_steps():
    x = X.astype(np.float16)
    f = lambda x: gt.exp(gt.tanh(x * 3.0) * 2.0) - 1.0  # noqa: E731
    compiled, found, eager = fused_on_emulated(f, x)
    exact = np.exp(np.tanh(x.astype("d") * 3) * 2) - 1
    assert np.abs(found - exact).max() <= np.abs(eager - exact).max()
    assert "in float32 between them" in compiled.explain()


def test_an_update_that_reads_its_own_parameter_turned_round():
    """w + wᵀ may not be written into w element by element."""
    runs = []
    for transform in (lambda f: f, gt.compile):
        w = Cell(normal(4, 4))

        def f(w=w):
            w.assign(gt.exp(gt.permute(w, (1, 0))) * w)

        with gt.device("emulated"):
            step = transform(f)
            for _ in range(2):
                step()
        runs.append(w.array.copy())
    np.testing.assert_allclose(runs[1], runs[0], rtol=64 * EPS)


@pytest.mark.parametrize("seed", range(12))
def test_random_programs_agree_with_eager(seed):
    """Element-wise ops, sums and permutations in any order, some values read many times."""
    rng = np.random.default_rng(seed)
    unary, binary = (gt.tanh, gt.sigmoid, gt.relu, gt.neg, gt.square, gt.cos), (gt.add, gt.mul, gt.sub, gt.maximum)
    script = [(int(rng.integers(0, 5)), *map(int, rng.integers(0, 10**6, 3))) for _ in range(18)]

    def f(x, y):
        values = [x, y]
        for kind, a, b, c in script:
            p, q = values[a % len(values)], values[b % len(values)]
            if kind < 2:
                values.append(unary[c % len(unary)](p))
            elif kind < 4:
                values.append(binary[c % len(binary)](p, q) * 0.7)
            elif c % 2:
                values.append(gt.tanh(gt.sum(p, c % 2, keepdim=True)) * q)
            else:
                values.append(gt.permute(p, (1, 0)))
        return gt.cat([gt.reshape(v, (-1,)) for v in values[-4:]])

    _, found, eager = fused_on_emulated(f, normal(4, 4), normal(4, 4, seed=1))
    np.testing.assert_allclose(found, eager, rtol=256 * EPS, atol=256 * EPS * max(1, np.abs(eager).max()))


# --- gathers ----------------------------------------------------------------------------------------------------------


def gathered(index):
    def f(w):
        with gt.record() as tape:
            leaf = gt.leaf(w)
            y = gt.embedding(index, leaf)
            loss = gt.sum(gt.square(y))
        return tape.backward(loss, wrt=[leaf])[leaf], y

    return f


@pytest.mark.parametrize("device", ["cpu", "emulated"])
@pytest.mark.parametrize(
    "index, becomes",
    [
        (np.arange(6), set()),
        (np.arange(1, 5), {"slice_bwd"}),
        (np.arange(6).reshape(2, 3)[:, ::2][:, :1], {"slice_bwd"}),
        (np.array([[0, 1], [2, 3]]), {"slice_bwd"}),
        (np.array([2, 1, 0]), {"embedding", "index_add"}),
        (np.array([1, 1, 1]), {"embedding", "index_add"}),
        (np.array([], np.int64), {"embedding", "index_add"}),
    ],
)
def test_gathers_at_consecutive_constant_indices_are_slices(index, becomes, device):
    w = normal(6, 3)
    with gt.device(device):
        compiled = gt.compile(gathered(index))
        for k in range(2):
            grad, y = compiled(w + k)
            exact, eager = gathered(index)(w + k)
            np.testing.assert_array_equal(grad, exact)
            np.testing.assert_array_equal(y.value, eager.value)
    left = {"embedding", "index_add", "slice_bwd"} & set(ops_of(compiled))
    assert left == becomes


def test_gathers_at_given_indices_stay_gathers():
    compiled = gt.compile(lambda i, w: gt.embedding(i, w))
    w = normal(6, 3)
    np.testing.assert_array_equal(compiled(np.arange(4), w), w[:4])
    np.testing.assert_array_equal(compiled(np.arange(4)[::-1], w), w[3::-1])
    assert "embedding" in ops_of(compiled)


# --- memory -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", models.MODELS)
def test_the_arena_is_close_to_what_is_alive_at_once(name):
    step, batch = models.trainer(models.MODELS[name].build()), models.MODELS[name].batch(np.random.default_rng(0))
    compiled = gt.compile(step)
    compiled(*batch)
    placement = compiled.plan.placement
    alive = np.zeros(len(compiled.plan.record) + 1, np.int64)
    for (i, k), (first, last) in placement._spans().items():
        a = compiled.plan.record[i].avals[k]
        if a is not None and (i, k) not in placement.in_cell:
            alive[max(first, 0) : last + 1] += a.nbytes
    for i, avals in placement.program.scratch.items():
        alive[i] += sum(a.nbytes for a in avals) if i not in placement.joins else 0
    assert 0 < placement.size <= 1.15 * alive.max()


@pytest.mark.parametrize("name", ["cnn", "gpt"])
def test_a_compiled_step_needs_no_more_memory_than_an_eager_one(name, monkeypatch):
    """At its peak, with the arena; counted by tracemalloc, to which NumPy tells its allocations."""

    def peak(transform):
        monkeypatch.setattr(recycle, "_recycled", recycle._Recycled())
        gt.manual_seed(0)
        step = transform(models.trainer(models.MODELS[name].build()))
        batch = models.MODELS[name].batch(np.random.default_rng(0))
        tracemalloc.start()
        try:
            step(*batch)
            gc.collect()
            tracemalloc.reset_peak()
            step(*batch)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(gt.compile) <= peak(lambda f: f)


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
