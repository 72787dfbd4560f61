"""grad, vjp, jvp, hvp, jacobian, hessian and check_grads: nesting, nests of arguments, and refusals."""

from __future__ import annotations

import numpy as np
import pytest

import gputape as gt
from gputape import nn, registry
from gputape.dispatch import call
from gputape.samples import Sample, t

RNG = np.random.default_rng(0)
X = RNG.standard_normal(4)
M = RNG.standard_normal((3, 4))


def affine(x, m=M):
    return gt.tanh(gt.matmul(m, x))


def slope(x, m=M):
    return (1 - np.tanh(m @ x) ** 2)[:, None] * m


# --- jacobian and hessian


@pytest.mark.parametrize("rows", (3, 9), ids=("by rows", "by columns"))
def test_a_jacobian_has_the_results_axes_then_the_arguments(rows):
    m = RNG.standard_normal((rows, 4))
    np.testing.assert_allclose(gt.jacobian(lambda x: affine(x, m))(X), slope(X, m), rtol=1e-12)
    wide = gt.jacobian(lambda x: gt.outer(x, x))(X.reshape(4))  # (4, 4, 4)
    eye = np.eye(4)
    np.testing.assert_allclose(wide, X[None, :, None] * eye[:, None] + X[:, None, None] * eye[None], rtol=1e-12)
    assert gt.jacobian(lambda x: gt.sum(x))(X).tolist() == [1, 1, 1, 1]
    assert gt.jacobian(lambda x: gt.expand(x, (5, 2)))(np.float64(3)).tolist() == np.ones((5, 2)).tolist()


def test_results_and_arguments_nest_as_in_jax():
    def f(p, x, k=2.0):
        return {"y": gt.matmul(p["m"], x) * k, "both": (gt.sum(x * x), p["b"])}

    params = {"m": M, "b": np.ones(2)}
    j = gt.jacobian(f, argnums=(0, 1))(params, X, k=3.0)
    assert set(j) == {"y", "both"} and isinstance(j["both"], tuple)
    by_p, by_x = j["y"]
    assert by_p["m"].shape == (3, 3, 4) and by_p["b"].shape == (3, 2) and not by_p["b"].any()
    np.testing.assert_allclose(by_x, 3 * M)
    np.testing.assert_allclose(j["both"][0][1], 2 * X)
    np.testing.assert_array_equal(j["both"][1][0]["b"], np.eye(2))
    one, aux = gt.jacobian(lambda x: (x * x, {"n": gt.sum(x)}), has_aux=True)(X)
    np.testing.assert_allclose(one, np.diag(2 * X))
    assert aux["n"] == X.sum()
    np.testing.assert_allclose(gt.jacobian(affine, -1)(X), slope(X))


def test_a_function_is_called_once():
    calls = []

    def f(x):
        calls.append(1)
        return gt.dropout(x, 0.5, True) * x

    for transform in (
        lambda: gt.jacobian(f)(X),
        lambda: gt.vjp(f, X)[1](X),
        lambda: gt.jvp(f, (X,), (X,)),
        lambda: gt.grad(lambda x: gt.sum(f(x)))(X),
        lambda: gt.hessian(lambda x: gt.sum(f(x) * x))(X),
    ):
        calls.clear()
        transform()
        assert len(calls) == 1
    for _ in range(20):  # so the value and its derivative see the same mask
        y, pull = gt.vjp(f, X)
        np.testing.assert_allclose(pull(np.ones(4))[0], 2 * y / X)
        y, dy = gt.jvp(f, (X,), (X,))
        np.testing.assert_allclose(dy, 2 * y)


def test_sizes_of_zero_and_one():
    empty = np.zeros((0, 2))
    assert gt.jacobian(lambda x: x * 2)(empty).shape == (0, 2, 0, 2)
    assert gt.jacobian(lambda x: gt.sum(x))(empty).shape == (0, 2)
    assert gt.jacobian(lambda x: gt.expand(gt.sum(x), (3,)))(empty).shape == (3, 0, 2)
    assert gt.hessian(lambda x: x * x * x)(2.0) == 12.0


@pytest.mark.parametrize("rows", (3, 9))
def test_both_ways_agree_in_float32_and_are_repeatable(rows):
    m, x = RNG.standard_normal((rows, 4)).astype("f"), X.astype("f")
    f = lambda x: affine(x, m)  # noqa: E731
    j = gt.jacobian(f)(x)
    assert j.dtype == np.float32
    np.testing.assert_array_equal(j, gt.jacobian(f)(x))
    np.testing.assert_allclose(j, slope(x, m), rtol=1e-5)
    with gt.record():
        inside = gt.jacobian(f)(gt.leaf(x))
    np.testing.assert_allclose(inside.value, j, rtol=1e-6)


def test_hessians():
    f = lambda x: gt.sum(gt.sin(x) * x[0])  # noqa: E731
    want = np.diag(-np.sin(X) * X[0])
    want[0] += np.cos(X)
    want[:, 0] += np.cos(X)
    np.testing.assert_allclose(gt.hessian(f)(X), want, rtol=1e-12)
    v = np.arange(4.0)
    np.testing.assert_allclose(gt.hvp(f, [X], [v])[0], want @ v, rtol=1e-12)
    h = gt.hessian(lambda a, b: gt.sum(a * a * b), argnums=(0, 1))(X, 2 * X)
    np.testing.assert_allclose(h[0][0], np.diag(4 * X))
    np.testing.assert_allclose(h[0][1], np.diag(2 * X))
    np.testing.assert_allclose(h[1][0], np.diag(2 * X))
    assert not h[1][1].any()
    value, aux = gt.hessian(lambda x: (gt.sum(x**3), x), has_aux=True)(X)
    np.testing.assert_allclose(value, np.diag(6 * X))
    np.testing.assert_array_equal(aux, X)
    np.testing.assert_allclose(gt.hessian(lambda x: gt.expand(x * x, (2,)))(np.float64(3)), [2, 2])


def test_kinks_have_the_second_derivatives_of_the_pieces():
    """As torch: relu, abs and max are linear on each side, and no ridge is seen."""
    x = np.array([-1.0, 0.0, 2.0])
    assert not gt.hessian(lambda x: gt.sum(gt.relu(x) + gt.abs(x)) + gt.amax(x))(x).any()
    np.testing.assert_array_equal(gt.hessian(lambda x: gt.sum(gt.relu(x) ** 2))(x), np.diag([0.0, 0.0, 2.0]))


@pytest.fixture
def kink(registering):
    """An op of order 1."""
    registry.register(
        name="test_kink",
        doc="|x|, whose gradient has none.",
        signature="input",
        inputs=("input",),
        rule=lambda input: input,
        vjp=lambda F, at, dy, input: F.op("test_kink_bwd", dy, input),
        saves=("input",),
        order=1,
        samples=(Sample(t(3)),),
    )
    registry.register(
        name="test_kink_bwd",
        doc="dy · sign(x)",
        signature="dy, input",
        inputs=("dy", "input"),
        rule=lambda dy, input: dy,
        vjp=registry.no_second_order("test_kink"),
        order=1,
        public=False,
    )
    bodies = gt.backend.backend("cpu").bodies
    bodies["test_kink"] = lambda xp, y, input: xp.abs(input, out=y)
    bodies["test_kink_bwd"] = lambda xp, dx, dy, input: xp.multiply(dy, xp.sign(input), out=dx)


def test_ops_of_order_one_have_jacobians_and_refuse_hessians(kink):
    f = lambda x: gt.cat([gt.test_kink(x)] * 3)  # noqa: E731
    np.testing.assert_array_equal(gt.jacobian(f)(X), np.tile(np.diag(np.sign(X)), (3, 1)))
    for refused in (lambda: gt.hessian(f)(X), lambda: gt.jvp(f, (X,), (X,))):
        with pytest.raises(gt.UnsupportedError, match="test_kink: gradients of its gradients"):
            refused()


# --- nesting


def test_transforms_of_transforms():
    f = lambda x: gt.sum(gt.sin(x) * x)  # noqa: E731
    d = np.cos(X) * X + np.sin(X)
    dd = -np.sin(X) * X + 2 * np.cos(X)
    v = np.arange(4.0)
    np.testing.assert_allclose(gt.jvp(gt.grad(f), (X,), (v,))[1], dd * v)
    np.testing.assert_allclose(gt.vjp(gt.grad(f), X)[1](v)[0], dd * v)
    np.testing.assert_allclose(gt.jacobian(gt.grad(f))(X), np.diag(dd))
    np.testing.assert_allclose(gt.grad(lambda x: gt.jvp(f, (x,), (v,))[1])(X), dd * v)
    np.testing.assert_allclose(gt.grad(lambda x: gt.sum(gt.jacobian(lambda y: gt.sin(y) * y)(x)))(X), dd)
    np.testing.assert_allclose(gt.grad(lambda x: gt.sum(gt.vjp(gt.sin, x)[1](x)[0]))(X), np.cos(X) - X * np.sin(X))
    np.testing.assert_allclose(gt.grad(lambda x: gt.sum(gt.hvp(f, (x,), (v,))[0]))(X) / v[1], third(X) * v / v[1])
    assert gt.grad(lambda x: gt.jacobian(lambda y: x * y)(x))(3.0) == 1.0  # the inner variable is not the outer one
    np.testing.assert_allclose(d, gt.grad(f)(X))


def third(x):
    return -np.cos(x) * x - 3 * np.sin(x)


def test_a_pulled_cotangent_can_be_differentiated_after_the_recording():
    """vjp outside, its function inside: linear in the cotangent."""
    y, pull = gt.vjp(affine, X)
    g = gt.grad(lambda ct: gt.sum(pull(ct)[0] ** 2))(y)
    j = slope(X)
    np.testing.assert_allclose(g, 2 * j @ (j.T @ y), rtol=1e-12)
    np.testing.assert_allclose(pull(y)[0], j.T @ y, rtol=1e-12)


def test_results_of_several_arrays():
    f = lambda a, b: {"p": a * b, "s": (gt.sum(a), gt.exp(b))}  # noqa: E731
    y, pull = gt.vjp(f, X, 2 * X)
    assert isinstance(y["p"], np.ndarray)
    da, db = pull({"p": np.ones(4), "s": (np.float64(3), X)})
    np.testing.assert_allclose(da, 2 * X + 3)
    np.testing.assert_allclose(db, X + X * np.exp(2 * X))
    y, dy = gt.jvp(f, (X, 2 * X), (X, X))
    np.testing.assert_allclose(dy["p"], 3 * X * X)
    np.testing.assert_allclose(dy["s"][0], X.sum())
    np.testing.assert_allclose(dy["s"][1], np.exp(2 * X) * X)
    *_, aux = gt.vjp(lambda x: (x * 2, "label"), X, has_aux=True)
    assert aux == "label"
    assert gt.jvp(lambda x: (x * 2, x), (X,), (X,), has_aux=True)[2].tolist() == X.tolist()
    with pytest.raises(gt.ArgumentError, match="returned 3 arrays, the cotangent holds 1"):
        pull(np.ones(4))


def test_no_grad_and_detach_are_honoured():
    inside = lambda x: gt.sum(x * x) + gt.sum(gt.detach(x) * x)  # noqa: E731
    np.testing.assert_allclose(gt.grad(inside)(X), 3 * X)
    np.testing.assert_allclose(gt.jacobian(lambda x: x * gt.detach(x))(X), np.diag(X))

    def constant(x):
        with gt.no_grad():
            y = gt.exp(x)
        return gt.sum(x * y)

    np.testing.assert_allclose(gt.grad(constant)(X), np.exp(X))
    np.testing.assert_allclose(gt.jvp(constant, (X,), (X,))[1], (np.exp(X) * X).sum())
    # around a transform it cuts off what surrounds, and leaves the transform's own derivative alone
    with gt.record() as tape:
        x = gt.leaf(X)
        with gt.no_grad():
            value, g = gt.value_and_grad(lambda x: gt.sum(x**3))(x)
            y, dy = gt.jvp(lambda x: x**3, (x,), (X,))
            j = gt.jacobian(lambda x: x**3)(x)
        assert not any(v.requires_grad for v in (value, g, y, dy, j))
        loss = gt.sum(x * g) + value
    np.testing.assert_allclose(dy.value, 3 * X**3)
    np.testing.assert_allclose(np.diag(j.value), 3 * X**2)
    np.testing.assert_allclose(tape.backward(loss)[x], 3 * X**2)


@pytest.mark.parametrize("recorded", (False, True))
def test_in_recordings_and_compiled_functions(recorded):
    w = nn.Parameter(M)

    def f(x):
        g = lambda x: gt.tanh(gt.matmul(w, x))  # noqa: E731
        h = gt.hessian(lambda x: gt.sum(g(x) ** 2))(x)
        return gt.jacobian(g)(x), h, gt.jvp(g, (x,), (x,))[1], gt.vjp(g, x)[1](g(x))[0], gt.hvp(g2, (x,), (x,))[0]

    g2 = lambda x: gt.sum(gt.tanh(gt.matmul(w, x)))  # noqa: E731

    def both(x):
        if not recorded:
            return f(x)
        with gt.record():
            return f(gt.leaf(x))

    want = f(X)
    compiled = gt.compile(both)
    for run in (both, compiled, compiled):
        for a, b in zip(want, run(X), strict=True):
            np.testing.assert_allclose(np.asarray(b), a, rtol=1e-12, atol=1e-12)
    for a, b in zip(f(2 * X), compiled(2 * X), strict=True):
        np.testing.assert_allclose(np.asarray(b), a, rtol=1e-12, atol=1e-12)


def test_gradients_flow_through_a_jacobian_to_parameters():
    w = nn.Parameter(M)
    with gt.record() as tape:
        loss = gt.sum(gt.jacobian(lambda x: gt.matmul(w, x))(X) ** 2)
    np.testing.assert_allclose(tape.backward(loss)[w], 2 * M)


def test_what_has_no_gradient_is_refused():
    for refused in (gt.grad(lambda x: gt.sum(x)), gt.jacobian(lambda x: x), gt.hessian(lambda x: x)):
        with pytest.raises(gt.DTypeError, match=r"argument 0 is \(\) int64, which has no gradient"):
            refused(3)
    with pytest.raises(gt.DTypeError, match="argument 1"):
        gt.grad(lambda x, i: gt.sum(x[i]), (0, 1))(X, np.array([0, 1]))
    with pytest.raises(gt.ArgumentError, match=r"jacobian: argnums \(2,\)"):
        gt.jacobian(affine, 2)(X)
    with pytest.raises(gt.ArgumentError, match="jacobian: the function returned float"):
        gt.jacobian(lambda x: 3.0)(X)
    with pytest.raises(gt.ArgumentError, match="grad: has_aux is set"):
        gt.grad(lambda x: gt.sum(x), has_aux=True)(X)
    with pytest.raises(gt.TapeError, match="no gradient"):
        gt.jacobian(lambda x: gt.argmax(x))(X)
    # an index that is passed along is none of its business
    np.testing.assert_array_equal(gt.grad(lambda x, i: gt.sum(x[i]))(X, np.array([0, 0])), [2, 0, 0, 0])


# --- check_grads


@pytest.fixture
def wrong(registering):
    """An op whose vjp is wrong at one element, and one whose vjp uses that."""
    registry.register(
        name="test_wrong",
        doc="2 x, with a gradient that is 0.1 % off in element 1.",
        signature="input",
        inputs=("input",),
        rule=lambda input: input,
        vjp=lambda F, at, dy: F.mul(dy, F.const(2 + 0.002 * (np.arange(at.out.size) == 1), at.out.dtype)),
        samples=(Sample(t(3)),),
    )
    registry.register(
        name="test_bent",
        doc="x²",
        signature="input",
        inputs=("input",),
        rule=lambda input: input,
        vjp=lambda F, at, dy, input: F.mul(dy, F.op("test_wrong", input)),
        saves=("input",),
        samples=(Sample(t(3)),),
    )
    bodies = gt.backend.backend("cpu").bodies
    bodies["test_wrong"] = lambda xp, y, input: xp.multiply(input, 2, out=y)
    bodies["test_bent"] = lambda xp, y, input: xp.multiply(input, input, out=y)


def test_check_grads_says_which_argument_and_where(wrong):
    f = lambda a, b: gt.exp(a["x"]) * gt.test_wrong(b)  # noqa: E731
    pattern = r"order 1: the gradient of argument 1 \(4,\), most at \(1,\) .*random direction \(seed=0, all arguments\)"
    with pytest.raises(gt.GradientError, match=pattern):
        gt.check_grads(f, [{"x": X}, X])
    with pytest.raises(gt.GradientError, match=r"order 1, forward mode: the gradient of argument 1 \(4,\) is wrong"):
        gt.check_grads(f, [{"x": X}, X], modes=("fwd",))
    gt.check_grads(f, [{"x": X}, X], rtol=0.1)
    with pytest.raises(gt.GradientError, match=r"order 2: the gradient of argument 0 \(array 1 in it\)"):
        gt.check_grads(lambda a: gt.sum(a[0] * a[0]) + gt.sum(gt.test_bent(a[1])), [(X, X)], order=2)


def test_check_grads_refuses_what_it_cannot_check():
    with pytest.raises(gt.DTypeError, match="arguments are int64, bool"):
        gt.check_grads(lambda i, m: i, [np.arange(3), np.ones(2, bool)])
    with pytest.raises(gt.DTypeError, match="results are int64"):
        gt.check_grads(lambda x: gt.argmax(x), [X])
    for options in ({"order": 0}, {"order": True}, {"modes": ("forward",)}, {"modes": ()}):
        with pytest.raises(gt.ArgumentError, match="check_grads: order="):
            gt.check_grads(gt.exp, [X], **options)


def test_check_grads_takes_nests_modes_and_halves():
    f = lambda p, i: {"y": gt.exp(p["a"]) * p["b"][0], "i": i}  # noqa: E731
    args = [{"a": X.astype("f"), "b": [np.float16(2)]}, np.arange(3)]
    gt.check_grads(f, args, 3, ("rev", "fwd"))
    gt.check_grads(f, args, modes="fwd", seed=7)


@pytest.mark.parametrize("name, statistics", [("layer_norm_bwd", 2), ("rms_norm_bwd", 1)])
def test_what_a_norms_gradient_adds_goes_back_as_it_comes(name, statistics):
    needs = (True,) * (1 + statistics)

    def plain(dy, w):
        return call(name, dy, M, w, *[np.ones(3)] * statistics, (4,), needs)[0]

    def added(dy, w, r):
        return call(name, dy, M, w, *[np.ones(3)] * statistics, (4,), needs, r)[0]

    y, pull = gt.vjp(plain, M, X)
    more, pull_more = gt.vjp(added, M, X, 2 * M)
    np.testing.assert_allclose(more, y + 2 * M, rtol=1e-15)
    *found, residual = pull_more(M)
    assert residual.tolist() == M.tolist()
    for a, b in zip(found, pull(M), strict=True):
        assert a.tolist() == b.tolist()
