"""The pure tape: values, forks, threads, errors, gradients of gradients."""

from __future__ import annotations

import copy
import pickle
import threading

import numpy as np
import pytest

import gputape as gt
from gputape import Tape
from gputape.dispatch import call
from gputape.functions import Execute
from gputape.registry import register
from gputape.samples import Sample, t


def simple():
    tape, x = Tape().leaf([1.0, 2.0, 3.0], name="x")
    tape, y = tape.mul(x, x)
    tape, s = tape.sum(y)
    return tape, x, y, s


def test_every_op_returns_a_longer_tape_and_leaves_the_old_one():
    tape, x = Tape().leaf([1.0, 2.0])
    longer, y = tape.tanh(x)
    assert (len(tape), len(longer), x, y) == (1, 2, 0, 1)
    with pytest.raises(gt.TapeError, match="not on this tape"):
        tape.value(y)


def test_backward_reaches_intermediates_and_the_output_and_repeats():
    tape, x, y, s = simple()
    grads = tape.backward(s)
    assert set(grads) == {x, y, s}
    np.testing.assert_array_equal(grads[x], [2, 4, 6])
    np.testing.assert_array_equal(tape.backward(s)[x], grads[x])
    np.testing.assert_array_equal(tape.backward(y, seed=[1.0, 0.0, 0.0])[x], [2, 0, 0])


def test_a_repeated_operand_gets_both_contributions():
    tape, x = Tape().leaf(3.0)
    tape, y = tape.add(x, x)
    tape, z = tape.mul(y, y)
    assert tape.backward(z)[x] == 24.0


def test_forks_do_not_see_each_other():
    tape, x = Tape().leaf([1.0, 2.0])
    left, a = tape.mul(x, x)
    right, b = tape.tanh(x)
    assert a == b == 1
    np.testing.assert_array_equal(left.value(a), [1, 4])
    np.testing.assert_allclose(right.value(b), np.tanh([1, 2]), rtol=1e-6)
    with pytest.raises(gt.TapeError, match="another tape"):
        right.value(a)
    assert len(tape) == 1


def test_ids_of_another_tape_and_unknown_ids_are_refused():
    one, a = Tape().leaf(1.0)
    two, b = Tape().leaf(2.0)
    with pytest.raises(gt.TapeError, match="add: node 0 was recorded on another tape"):
        two.add(a, b)
    for bad in (5, -1):
        with pytest.raises(gt.TapeError, match=f"add: node {bad} is not on this tape"):
            one.add(a, bad)
    for bad in ("a", 1.5, None, True):
        with pytest.raises(gt.GputapeError):
            one.add(a, bad)
    two, c = two.add(b, 0)  # a plain integer names a node too
    assert two.value(c) == 4.0


def test_values_cannot_be_changed_through_the_tape():
    source = np.ones(3, np.float32)
    tape, x = Tape().leaf(source)
    source[:] = 7
    np.testing.assert_array_equal(tape.value(x), [1, 1, 1])
    with pytest.raises(ValueError, match="read-only"):
        tape.value(x)[0] = 5
    tape, s = tape.sum(x)
    with pytest.raises(ValueError, match="read-only"):
        tape.backward(s)[x][0] = 5
    shared = np.ones(3, np.float32)
    tape, y = tape.leaf(shared, copy=False)
    shared[:] = 2
    np.testing.assert_array_equal(tape.value(y), [2, 2, 2])


def test_a_gradient_that_nobody_needs_has_no_value():
    tape, x = Tape().leaf(np.ones((2, 2), "f"), requires_grad=False)
    tape, w = tape.leaf(np.ones((2, 2), "f"))
    tape, y = tape.op("linear", x, w)
    tape, s = tape.sum(y)
    tape, grads = tape.backward_nodes(s)
    backward = next(i for i, node in enumerate(tape) if node.op == "linear_bwd")
    with pytest.raises(gt.TapeError, match=f"value: the first output of node {backward}, linear_bwd, is a gradient"):
        tape.value(backward)
    assert tape.value(grads[w]).tolist() == [[2.0, 2.0]] * 2


def test_requires_grad_propagates_and_constants_get_none():
    tape, x = Tape().leaf([1.0, 2.0])
    tape, c = tape.leaf([3.0, 4.0], requires_grad=False)
    tape, i = tape.leaf([1, 2])
    tape, y = tape.mul(x, c)
    tape, z = tape.mul(c, c)
    tape, s = tape.sum(y)
    assert [tape.node(k).requires_grad for k in (x, c, i, y, z)] == [True, False, False, True, False]
    assert c not in tape.backward(s)
    tape, s2 = tape.sum(z)
    assert set(tape.backward(s2)) == {s2}


def test_backward_asks_for_a_scalar_or_a_fitting_seed():
    tape, _, y, _ = simple()
    with pytest.raises(gt.ShapeError, match=r"backward: the output has shape \(3,\)"):
        tape.backward(y)
    with pytest.raises(gt.ShapeError, match="seed"):
        tape.backward(y, seed=[1.0, 2.0])
    tape, one = tape.op("reshape", y, (3, 1))
    with pytest.raises(gt.ShapeError):
        tape.backward(one)
    tape, i = tape.leaf([1, 2])
    with pytest.raises(gt.TapeError, match="no gradient"):
        tape.backward(i, seed=[1, 1])
    with pytest.raises(gt.TapeError, match="not on this tape"):
        tape.backward(99)


def test_gradients_of_gradients_through_backward_nodes():
    tape, x = Tape().leaf(2.0)
    tape, y = tape.mul(x, x)
    tape, z = tape.mul(y, x)  # x³
    first, ids = tape.backward_nodes(z)
    assert first.value(ids[x]) == 12.0
    second, ids2 = first.backward_nodes(ids[x])
    assert second.value(ids2[x]) == 12.0
    third, ids3 = second.backward_nodes(ids2[x])
    assert third.value(ids3[x]) == 6.0
    assert len(tape) == 3
    seeded, seed = tape.leaf(2.0)
    seeded, ids = seeded.backward_nodes(z, seed)
    assert seeded.value(ids[x]) == 24.0


def test_long_chains_and_wide_fans_do_not_recurse():
    tape, x = Tape().leaf(1.0)
    y = x
    for _ in range(5000):
        tape, y = tape.add(y, x)
    assert tape.backward(y)[x] == 5001.0


def test_threads_may_extend_one_tape():
    base, x = Tape().leaf(np.arange(4.0))
    results: dict[int, list[np.ndarray]] = {}

    def work(k: int) -> None:
        out = []
        for j in range(200):
            tape, y = base.scale(x, float(k * 1000 + j))
            tape, s = tape.sum(y)
            out.append((tape.value(s), tape.backward(s)[x]))
        results[k] = out

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for k, out in results.items():
        for j, (value, grad) in enumerate(out):
            assert value == 6.0 * (k * 1000 + j)
            assert (grad == k * 1000 + j).all()
    assert len(base) == 1


def test_a_tape_prints_pickles_and_tells_its_size():
    tape, x, y, s = simple()
    assert str(tape).splitlines()[1] == "%1 = mul(%0, %0): (3,) float32"
    assert tape.nbytes == 12 + 12 + 4
    again = pickle.loads(pickle.dumps(tape))
    np.testing.assert_array_equal(again.backward(2)[0], tape.backward(s)[x])
    assert tape.node(x).name == "x"
    assert tape.node(y).line.rpartition(":")[0].endswith("test_tape.py")
    assert again.node(1).line == tape.node(y).line


def test_views_share_memory_and_count_once():
    tape, x = Tape().leaf(np.zeros((4, 6), np.float32))
    tape, y = tape.op("permute", x, (1, 0))
    assert tape.nbytes == 96
    tape, _ = tape.op("reshape", y, (24,))  # no view expresses it: a copy
    assert tape.nbytes == 192
    assert tape.node(2).op == "copy"


def test_a_wrong_gradient_shape_from_a_vjp_is_caught(registering):
    name = "test_wrong_shape"
    register(
        name=name, doc="A wrong card.", signature="input", inputs=("input",), rule=lambda input: input,
        view=lambda shape, strides: (0, strides), vjp=lambda F, at, dy: F.sum(dy), samples=(Sample(t(2)),),
        public=False,
    )  # fmt: skip
    gt.backend.current().bodies[name] = lambda xp, x: x[...]
    tape, x = Tape().leaf([1.0, 2.0])
    tape, y = tape.op(name, x)
    with pytest.raises(gt.TapeError, match="the vjp of test_wrong_shape gave"):
        tape.backward(y, seed=[1.0, 1.0])


@pytest.mark.parametrize("error", [0.0, 5e-4])
def test_the_checker_catches_a_vjp_that_is_slightly_wrong(registering, error):
    name = f"test_cubed_{error}".replace(".", "_").replace("-", "_")
    register(
        name=name, doc="x³, its vjp perhaps wrong.", signature="input", inputs=("input",), rule=lambda input: input,
        vjp=lambda F, at, dy, x: F.scale(F.mul(dy, F.square(x)), 3.0 * (1 + error)), saves=("input",),
        samples=(Sample(t(2)),), public=False,
    )  # fmt: skip
    gt.backend.current().bodies[name] = lambda xp, y, x: xp.multiply(x * x, x, out=y)
    f = lambda x: call(name, x)  # noqa: E731
    args = [np.linspace(0.5, 2, 7)]
    if error:
        with pytest.raises(gt.GradientError, match="order 1"):
            gt.check_grads(f, args)
    else:
        gt.check_grads(f, args, order=3)


def test_op_reaches_the_registry_with_its_own_signature():
    tape, a = Tape().leaf(np.ones((2, 3), np.float32))
    tape, b = tape.leaf(np.ones(3, np.float32))
    with pytest.raises(gt.ShapeError, match="do not broadcast"):
        tape.add(a, b)
    tape, c = tape.op("add", a, b)
    assert tape.value(c).shape == (2, 3)
    with pytest.raises(gt.GputapeError, match="did you mean|Did you mean"):
        tape.op("ad", a, b)
    tape, d = tape.op("sum", a, dim=0, keepdim=True)
    assert tape.value(d).shape == (1, 3)


def test_execute_is_the_living_definition():
    F = Execute(gt.backend.backend("cpu"))
    np.testing.assert_array_equal(F.add(np.float32([1]), np.float32([2])), [3])


BAD_ARRAYS = {
    "another byte order": (np.ones(2, ">f4"), "another byte order|byte order"),
    "complex": (np.ones(2, "c8"), "complex64 are not supported"),
    "objects": (np.array([1, None]), "object are not supported"),
    "masked": (np.ma.masked_array([1.0, 2.0], [True, False]), "mask would be lost"),
    "too large": (2**63, "9223372036854775808 does not fit int64"),
    "ragged": ([[1], [2, 3]], "not rectangular"),
    "text": ("abc", "not numeric"),
    "None": (None, "None"),
}


@pytest.mark.parametrize("kind", BAD_ARRAYS)
def test_what_is_no_array_is_refused_by_the_name_of_the_op(kind):
    value, match = BAD_ARRAYS[kind]
    with pytest.raises((gt.DTypeError, gt.ArgumentError), match=rf"^exp: .*({match})"):
        gt.exp(value)
    with gt.record(), pytest.raises((gt.DTypeError, gt.ArgumentError), match=rf"^mul: .*({match})"):
        gt.mul(gt.leaf(np.ones(2, "f")), value)
    with pytest.raises(gt.DTypeError, match=match):
        Tape().leaf(value)


def test_a_leaf_owns_its_memory_whatever_it_was_made_of():
    cell, base = gt.Cell(np.ones(3, "f")), np.ones(3, "f")

    class Exporter:  # such as a torch tensor
        def __array__(self, dtype=None, copy=None):
            return base

    for source, change in ((cell, lambda: cell.assign(cell + 1)), (Exporter(), lambda: base.fill(7))):
        tape, x = Tape().leaf(source)
        change()
        np.testing.assert_array_equal(tape.value(x), np.ones(3))


def test_seeds_of_the_wrong_kind_are_refused():
    tape, x = Tape().leaf(np.ones(2, "f"))
    with pytest.raises(gt.DTypeError, match="complex"):
        tape.backward(x, np.ones(2) * 1j)
    with pytest.raises(gt.TapeError, match="^backward_nodes: 'x' is not a node id"):
        tape.backward_nodes(x, "x")
    with pytest.raises(gt.TapeError, match="replay: None is not a mapping"):
        tape.replay(None)
    with pytest.raises(ValueError, match="no op 'expp'. Did you mean exp"):
        tape.op("expp", x)


def test_options_may_be_numbers_of_numpy():
    x = np.arange(6, dtype="f").reshape(2, 3)
    np.testing.assert_array_equal(gt.sum(x, dim=np.int64(0)), x.sum(0))
    np.testing.assert_array_equal(gt.reshape(x, (np.int64(3), -1)), x.reshape(3, 2))
    np.testing.assert_array_equal(gt.clamp(x, np.float32(1), np.int32(2)), x.clip(1, 2))
    tape, a = Tape().leaf(x)
    tape, y = tape.op("sum", a, dim=np.int64(1))
    assert type(tape.node(y).attrs["dim"][0]) is int


def test_ids_name_the_nodes_of_a_deep_copy():
    tape, x = Tape().leaf(3.0)
    assert copy.deepcopy({"tape": tape})["tape"].value(x) == 3
