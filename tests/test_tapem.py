"""`TapeM`: the monad laws, do-notation, depth, errors."""

from __future__ import annotations

import numpy as np
import pytest

import gputape as gt
from gputape import Err, Ok, Tape, TapeM, do
from gputape.utils import const, mean_loss, param, read_grad, read_scalar, read_value, sgd


def same(a: TapeM, b: TapeM, tape: Tape | None = None) -> None:
    """Equal programs: equal values and equal tapes."""
    start = Tape() if tape is None else tape
    (x, left), (y, right) = a.run(start), b.run(start)
    assert x == y
    assert str(left) == str(right)
    assert [n.values[0].tobytes() for n in left] == [n.values[0].tobytes() for n in right]


def leaf(value: float) -> TapeM:
    return TapeM.leaf(value)


def double(i: int) -> TapeM:
    return TapeM.add(i, i)


def test_monad_laws():
    for k in (0.5, 2.0):
        same(TapeM.pure(k).bind(leaf), leaf(k))  # left identity
        same(leaf(k).bind(TapeM.pure), leaf(k))  # right identity
        m = leaf(k)
        same(m.bind(double).bind(TapeM.tanh), m.bind(lambda i: double(i).bind(TapeM.tanh)))  # associativity


def test_functor_and_state_laws():
    m = leaf(1.0)
    same(m.map(lambda i: i), m)
    same(m.map(lambda i: i + 1).map(lambda i: i * 2), m.map(lambda i: (i + 1) * 2))
    tape = m.exec()
    assert TapeM.set(tape).bind(lambda _: TapeM.get()).eval() is tape
    assert TapeM.get().bind(TapeM.set).run(tape) == (None, tape)
    assert TapeM.pure(3).run(tape) == (3, tape)


def test_100_000_binds_in_either_direction():
    n = 100_000
    left = TapeM.pure(0)
    for _ in range(n):
        left = left.bind(lambda v: TapeM.pure(v + 1))
    assert left.eval() == n

    def right(v: int) -> TapeM:
        return TapeM.pure(v + 1).bind(right) if v < n else TapeM.pure(v)

    assert right(0).eval() == n


def test_100_000_steps_of_do_and_deep_nesting():
    @do
    def long(n):
        total = 0
        for _ in range(n):
            total += yield TapeM.pure(1)
        return total

    @do
    def deep(n):
        return 0 if n == 0 else 1 + (yield deep(n - 1))

    assert long(100_000).eval() == 100_000
    assert deep(20_000).eval() == 20_000


@do
def program(x_value, w_value, b_value, t_value):
    x = yield TapeM.leaf(x_value, name="x", requires_grad=False)
    w = yield TapeM.leaf(w_value, name="w")
    b = yield TapeM.leaf(b_value)
    target = yield TapeM.leaf(t_value, requires_grad=False)
    y = yield TapeM.relu((yield TapeM.linear(w, b, x)))
    loss = yield TapeM.mse_loss(y, target)
    return (yield TapeM.backward(loss))


def test_the_page_of_the_design_runs_and_runs_again():
    w = np.array([[1.0, 2.0], [-3.0, 1.0]], np.float32)
    m = program([1.0, 1.0], w, [0.0, 0.5], [1.0, 1.0])
    grads, tape = m.run(Tape())
    # y = relu([3, -1.5]) = [3, 0]; d loss / d y = 2 (y - t) / 2 = [2, -1]; relu stops the second
    np.testing.assert_array_equal(grads[1], [[2, 2], [0, 0]])
    np.testing.assert_array_equal(grads[2], [2, 0])
    assert 0 not in grads and 3 not in grads
    again, tape2 = m.run(Tape())
    np.testing.assert_array_equal(again[1], grads[1])
    assert str(tape) == str(tape2)
    assert m.exec(Tape()).node(0).name == "x"


def test_a_failing_op_raises_and_the_callers_tape_goes_on():
    tape, a = Tape().leaf([1.0, 2.0])
    tape, b = tape.leaf([1.0, 2.0, 3.0])

    @do
    def fails():
        c = yield TapeM.tanh(a)
        yield TapeM.add(c, b)
        raise AssertionError("not reached")

    with pytest.raises(gt.ShapeError, match=r"add: the shapes \(2,\) and \(3,\) differ"):
        fails().run(tape)
    assert len(tape) == 2
    tape, s = tape.sum(a)
    assert tape.value(s) == 3.0


def test_attempt_gives_errors_as_values_and_the_tape_from_before():
    tape, a = Tape().leaf([1.0, 2.0])
    tape, b = tape.leaf([1.0, 2.0, 3.0])

    @do
    def tries():
        bad = yield TapeM.tanh(a).bind(lambda c: TapeM.add(c, b)).attempt()
        here = yield TapeM.get()
        good = yield TapeM.tanh(a).attempt()
        return bad, len(here), good

    bad, n, good = tries().eval(tape)
    assert isinstance(bad, Err) and isinstance(bad.error, gt.ShapeError)
    assert n == 2
    assert good == Ok(2)


def test_try_inside_do_goes_on_with_the_tape_before_the_failing_op():
    @do
    def recovers():
        a = yield TapeM.leaf([1.0, 2.0])
        b = yield TapeM.leaf([1.0])
        try:
            yield TapeM.add(a, b)
        except gt.ShapeError:
            tape = yield TapeM.get()
            return len(tape)

    assert recovers().eval() == 2


def test_other_exceptions_pass_through_attempt():
    def boom(_):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        TapeM.pure(1).bind(boom).attempt().eval()


def test_what_is_no_program_is_refused():
    @do
    def wrong():
        yield 3

    with pytest.raises(gt.TapeError, match="yield: got 3"):
        wrong().eval()
    with pytest.raises(gt.TapeError, match="bind: got 4"):
        TapeM.pure(1).bind(lambda v: 4).eval()
    with pytest.raises(gt.TapeError, match="not a Tape"):
        TapeM.set(3)
    with pytest.raises(TypeError):
        program(1)


def test_ids_of_a_rolled_back_attempt_are_refused():
    @do
    def stale():
        x = yield TapeM.leaf(1.0)
        before = yield TapeM.get()
        y = yield TapeM.tanh(x)
        yield TapeM.set(before)
        yield TapeM.exp(x)
        return (yield TapeM.value(y))

    with pytest.raises(gt.TapeError, match="another tape"):
        stale().eval()


def test_helpers_for_short_scripts():
    @do
    def loss_of(ids, sample):
        (w,) = ids
        x, y = sample
        xi, yi = (yield const(x)), (yield const(y))
        return (yield TapeM.mse_loss((yield TapeM.mul(w, xi)), yi))

    losses = []
    (w,) = sgd([[0.0, 0.0]], loss_of, [([1.0, 2.0], [3.0, 4.0])], 0.1, 200, lambda k, loss: losses.append(loss))
    np.testing.assert_allclose(w, [3, 2], rtol=1e-3)
    assert losses[0] == pytest.approx(12.5) and losses[-1] < 1e-5

    m = param([2.0], "p").bind(lambda p: mean_loss([1.0, 3.0], lambda c: TapeM.scale(p, c).bind(TapeM.sum)))
    loss, tape = m.run()
    assert read_scalar(tape, loss) == 4.0
    assert read_grad(tape.backward(loss), 0)[0] == 2.0
    np.testing.assert_array_equal(read_value(tape, 0), [2.0])
    with pytest.raises(gt.TapeError, match="here: missing gradient for node id 9"):
        read_grad({}, 9, "here")
    with pytest.raises(gt.TapeError, match="here: missing value for node id 99"):
        read_value(tape, 99, "here")
    with pytest.raises(gt.ShapeError, match="not"):
        read_scalar(tape, 0)
    with pytest.raises(gt.DataError, match="empty data set"):
        mean_loss([], lambda c: TapeM.pure(0)).eval()
    with pytest.raises(gt.DataError):
        sgd([1.0], loss_of, [], 0.1, 1)
    with pytest.raises(gt.ArgumentError, match="lr is nan"):
        sgd([1.0], loss_of, [([1.0], [1.0])], float("nan"), 1)


def test_a_yield_of_no_program_can_be_caught_where_it_stands():
    @do
    def program():
        try:
            yield 3
        except gt.TapeError as e:
            return str(e)

    assert "got 3, which is not a TapeM" in program().eval(Tape())


def test_only_a_tape_can_be_run_on():
    with gt.record() as recording:
        pass
    for wrong in (recording, "tape", 3):
        with pytest.raises(gt.TapeError, match=f"run: a {type(wrong).__name__} is not a Tape"):
            TapeM.pure(1).run(wrong)
