"""Recordings: leaves, parameters, release, versions, no_grad, nested transforms."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest

import gputape as gt
from gputape.variable import Cell, Var


def test_outside_a_recording_ops_give_plain_arrays():
    y = gt.add(np.float32([1, 2]), 1.0)
    assert type(y) is np.ndarray and y.dtype == np.float32
    assert type(gt.sum(y)) is np.ndarray


def test_inside_arrays_are_constants_and_leaves_get_gradients():
    with gt.record() as tape:
        x = gt.leaf([1.0, 2.0])
        y = x * np.float32([3, 4]) + 1
        loss = gt.sum(y)
    assert isinstance(loss, Var) and float(loss) == 13.0
    grads = tape.backward(loss)
    assert list(grads) == [x]
    np.testing.assert_array_equal(grads[x], [3, 4])


def test_parameters_are_leaves_by_themselves():
    w = Cell([1.0, 2.0], requires_grad=True, name="w")
    buffer = Cell([5.0, 5.0], name="buffer")
    with gt.record() as tape:
        loss = (w * w * buffer).sum()
    grads = tape.backward(loss)
    assert list(grads) == [w]
    np.testing.assert_array_equal(grads[w], [10, 20])


def test_backward_consumes_the_recording_unless_retained():
    with gt.record() as tape:
        x = gt.leaf(3.0)
        y = x * x
    assert tape.backward(y)[x] == 6.0
    assert tape.nbytes == 0
    with pytest.raises(gt.TapeError, match="retain=True"):
        tape.backward(y)
    with gt.record(retain=True) as tape:
        x = gt.leaf(3.0)
        y = x * x
    assert tape.backward(y)[x] == tape.backward(y)[x] == 6.0


def test_a_recording_keeps_only_what_gradients_need():
    big = np.ones(1000, np.float32)
    with gt.record() as tape:
        x = gt.leaf(big)
        y = x + 1.0  # needs nothing saved
        z = y + 1.0
        alive = weakref.ref(y._value)
        del y
        assert alive() is None
        t = gt.tanh(z)  # keeps its result
        del z
        loss = gt.sum(t)
    assert tape.nbytes == 4000
    tape.backward(loss)
    assert tape.nbytes == 0


def test_recordings_are_freed_without_the_cycle_collector():
    gc.disable()
    try:
        with gt.record() as tape:
            x = gt.leaf(np.ones(10, np.float32))
            loss = gt.sum(gt.tanh(x) * x)
        tape.backward(loss)
        watched = weakref.ref(loss)
        del tape, x, loss
        assert watched() is None
    finally:
        gc.enable()


def test_a_parameter_updated_in_between_is_refused_not_wrong():
    w = Cell([1.0, 2.0], requires_grad=True, name="w")
    with gt.record() as tape:
        wt = w.reshape((2, 1))
        loss = (wt * wt).sum()
    w.assign([5.0, 5.0])
    with pytest.raises(gt.TapeError, match="w was updated after this tape read it"):
        tape.backward(loss)
    with pytest.raises(gt.TapeError, match="was updated"):
        _ = wt.value
    other = Cell([1.0], name="other", requires_grad=True)
    with gt.record() as tape:
        a = (w * 2.0).sum()
        b = (other * 3.0).sum()
    w.assign([0.0, 0.0])
    assert tape.backward(b)[other] == 3.0  # does not depend on w
    assert a.id >= 0


def test_wrt_asks_for_any_value_and_gives_zeros_where_nothing_flows():
    w = Cell([2.0], requires_grad=True)
    unused = Cell([7.0, 7.0], requires_grad=True)
    with gt.record(retain=True) as tape:
        x = gt.leaf([3.0])
        y = w * x
        loss = (y * y).sum()
    grads = tape.backward(loss, wrt=[y, unused])
    assert grads[y] == 12.0
    np.testing.assert_array_equal(grads[unused], [0, 0])
    with pytest.raises(gt.TapeError, match="wrt"):
        tape.backward(loss, wrt=[np.ones(3)])


def test_gradients_can_be_written_into():
    with gt.record() as tape:
        a, b = gt.leaf([1.0, 2.0]), gt.leaf([3.0, 4.0])
        loss = gt.sum(a + b)
    grads = tape.backward(loss)
    grads[a] *= 10
    np.testing.assert_array_equal(grads[b], [1, 1])


def test_values_of_another_recording_are_refused_by_backward_and_constants_elsewhere():
    with gt.record():
        x = gt.leaf(2.0)
    with gt.record() as tape:
        y = gt.leaf(3.0)
        z = x * y
    assert tape.backward(z) == {y: 2.0}
    with pytest.raises(gt.TapeError, match="another recording"):
        tape.backward(x)
    with pytest.raises(gt.TapeError, match="ndarray"):
        tape.backward(np.ones(()))
    assert type(x * 2.0) is np.ndarray
    with pytest.raises(gt.TapeError, match="no recording is active"):
        gt.leaf(1.0)


def test_no_grad_and_detach_stop_gradients():
    with gt.record() as tape:
        x = gt.leaf(3.0)
        with gt.no_grad():
            y = x * x
        z = gt.detach(x) * x + y
    assert not y.requires_grad
    assert tape.backward(z)[x] == 3.0


def test_backward_inside_the_recording_can_be_differentiated_again():
    with gt.record() as tape:
        x = gt.leaf(2.0)
        y = x * x * x
        g = tape.backward(y)[x]
        penalty = g * g
    assert isinstance(g, Var) and float(g) == 12.0
    assert tape.backward(penalty)[x] == 2 * 12 * 12


def test_transforms_nest():
    cube = lambda x: x * x * x  # noqa: E731
    assert gt.grad(cube)(2.0) == 12.0
    assert gt.grad(gt.grad(cube))(2.0) == 12.0
    assert gt.grad(gt.grad(gt.grad(cube)))(2.0) == 6.0
    value, grad = gt.value_and_grad(lambda p, k: (p["a"] * p["b"] * k).sum())({"a": np.float32([1, 2]), "b": 3.0}, 2.0)
    assert value == 18.0 and grad["b"] == 6.0
    np.testing.assert_array_equal(grad["a"], [6, 6])
    # the inner variable is not confused with the outer one that it equals
    outer = gt.grad(lambda x: x * gt.grad(lambda y: x * y)(x))
    assert outer(3.0) == 6.0
    (ga, gb), aux = gt.grad(lambda a, b: (a * b, a + b), argnums=(0, 1), has_aux=True)(2.0, 5.0)
    assert (ga, gb, aux) == (5.0, 2.0, 7.0)
    with pytest.raises(gt.ArgumentError, match="argnums"):
        gt.grad(cube, argnums=2)(1.0)
    with pytest.raises(gt.ShapeError, match="scalar"):
        gt.grad(cube)(np.ones(3))


def test_products_with_jacobians():
    f = lambda x: gt.tanh(x) * x  # noqa: E731
    x, v = np.linspace(-1, 1, 5), np.arange(5.0)
    y, tangent = gt.jvp(f, [x], [v])
    d = np.tanh(x) + x * (1 - np.tanh(x) ** 2)
    np.testing.assert_allclose(tangent, d * v)
    y2, pull = gt.vjp(f, x)
    np.testing.assert_allclose(y, y2)
    np.testing.assert_allclose(pull(v)[0], d * v)
    np.testing.assert_allclose(pull(2 * v)[0], 2 * d * v)
    (h,) = gt.hvp(lambda x: (x * x * x).sum(), [x], [v])
    np.testing.assert_allclose(h, 6 * x * v)


def test_arrays_on_the_left_and_numbers_keep_the_dtype():
    with gt.record():
        x = gt.leaf(np.float32([1, 2]))
        for y in (np.float32([1, 1]) + x, 2 * x, 1 - x, x + np.float64(3), x * True):
            assert isinstance(y, Var) and y.dtype == np.float32
        assert (x + np.ones(2)).dtype == np.float64
        assert (gt.leaf([1, 2]) + 1.5).dtype == np.float32


def test_what_is_no_array_is_refused():
    for bad in ("abc", object(), [[1.0], [1.0, 2.0]], {"a": 1}):
        with pytest.raises(gt.DTypeError):
            gt.add(bad, 1.0)
    with pytest.raises(gt.DTypeError, match="complex"):
        gt.add(np.ones(2, complex), 1.0)


def test_user_lines_are_known():
    with gt.record() as tape:
        x = gt.leaf(1.0)
        y = gt.tanh(x)
    assert tape.node(y).line.split(":")[0].endswith("test_record.py")
    assert tape.node(x).line.split(":")[0].endswith("test_record.py")


def test_a_refused_backward_consumes_nothing():
    with gt.record() as tape:
        x = gt.leaf(np.ones(2, "f"))
        y = x * 3
    for seed in (np.ones(3), "text", np.ones(2) * 1j):
        with pytest.raises(gt.GputapeError):
            tape.backward(y, seed=seed)
    with pytest.raises(gt.TapeError, match="wrt holds 3"):
        tape.backward(y, wrt=3, seed=np.ones(2))
    np.testing.assert_array_equal(tape.backward(y, seed=np.ones(2))[x], [3, 3])


def test_a_loss_without_gradients_is_refused():
    w = gt.Cell(np.ones(2, "f"), requires_grad=True, name="w")
    with gt.record() as tape:
        with gt.no_grad():
            loss = gt.sum(w * w)
        other = gt.sum(gt.detach(w))
    for out in (loss, other):
        with pytest.raises(gt.TapeError, match=r"backward: .* requires a gradient .*test_record\.py"):
            tape.backward(out)
    assert tape.backward(loss, wrt=[w])[w].tolist() == [0, 0]


def test_views_of_parameters_outside_recordings_cannot_be_written():
    w = gt.Cell(np.ones((2, 3), "f"), requires_grad=True)
    with gt.record():
        v = gt.leaf(np.ones(6, "f"))
    for view in (gt.reshape(w, (6,)), w.T, w[0], gt.reshape(v, (2, 3))):
        with pytest.raises(ValueError, match="read-only"):
            view[0] = 5.0


def test_a_quotient_of_integers_takes_any_number():
    pixels = np.uint8([0, 128, 255])
    for result in (gt.div(pixels, 256), gt.div(pixels, np.int32(256)), recorded(lambda: gt.leaf(pixels) / 256)):
        np.testing.assert_array_equal(result, np.float32([0, 0.5, 255 / 256]))
    np.testing.assert_array_equal(gt.div(300, np.int8([1, -2])), np.float32([300, -150]))
    assert gt.pow(np.uint8([1, 2]), 300).tolist() == [1, 0]


def recorded(f):
    with gt.record():
        return f().value


def test_tangents_have_the_shapes_of_the_primals():
    x = np.ones((2, 3), "f")
    with pytest.raises(gt.ShapeError, match=r"jvp: primals of shape \[\(2, 3\)\], tangents of \[\(3,\)\]"):
        gt.jvp(gt.exp, (x,), (np.ones(3, "f"),))
    with pytest.raises(gt.ArgumentError, match="hvp: 1 primals but 0 tangents"):
        gt.hvp(lambda a: gt.sum(a * a), (x,), ())


def test_a_scalar_formats_as_a_number():
    with gt.record():
        loss = gt.leaf(1.25)
    assert f"{loss:.3f} {gt.Cell(2.0):>4.1f}" == "1.250  2.0"
    assert f"{loss}" == str(loss)
    with pytest.raises(TypeError):
        f"{gt.Cell([1.0, 2.0]):.3f}"
