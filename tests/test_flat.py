"""Bodies as flat lists of NumPy calls: the same bits as the body, whatever the arrays hold; else left as they are."""

from __future__ import annotations

import numpy as np
import pytest

import gputape as gt
from gputape import backend as _backend
from gputape import flat, nn, optim, registry
from gputape.arrays import QUIET, owner_of
from gputape.testing import inputs_of

CPU = _backend.backend("cpu")
CASES = [
    pytest.param(op, s, id=f"{op.name}-{k}")
    for op in registry.ops()
    if op.name in CPU.bodies and op.view is None
    for k, s in enumerate(op.samples)
]


def bound(op, sample):
    """(body, outputs, scratch, inputs, attributes) of a sample; None where casts or 16 bit come between."""
    inputs = [None if x is None else np.asarray(x) for x in inputs_of(op, sample)]
    at = op.at(tuple(None if x is None else _backend.aval_of(x) for x in inputs), op.values(sample.attrs))
    if at.casts is not None or any(a is not None and a.dtype in _backend.NARROW for a in (*at.ins, *at.outs)):
        return None
    body = CPU.body(at)
    empty = lambda a: None if a is None else np.full(a.shape, 113, _backend.NP_DTYPE[a.dtype])  # noqa: E731
    return body, [*map(empty, at.outs)], [*map(empty, _backend._scratch(body, at))], inputs, at.attrs


def same_bits(a, b):
    return all((x is None) == (y is None) and (x is None or x.tobytes() == y.tobytes()) for x, y in zip(a, b))


@pytest.mark.parametrize("op, sample", CASES)
def test_the_calls_do_what_the_body_does(op, sample):
    made = bound(op, sample)
    if made is None:
        return
    body, outs, scratch, inputs, attrs = made
    options = {**attrs, **({"scratch": scratch} if scratch else {})}
    expected = [None if y is None else y.copy() for y in outs]
    QUIET.run(body, np, *expected, *inputs, **options)
    # The calls are noted while the inputs hold zeros, and replayed on their numbers.
    owners = [owner_of(x) for x in inputs if x is not None]
    held = [owner.copy() for owner in owners]
    for owner in owners:
        owner[...] = 0
    calls = flat.calls_of(body, [*outs, *inputs], **options)
    for owner, numbers in zip(owners, held, strict=True):
        owner[...] = numbers
    if calls is None:
        return
    for _ in range(2):
        for call in calls:
            QUIET.run(call)
        assert same_bits(outs, expected)


# Bodies that look at numbers for some sample, or sort. One that joins them for another reason should be mended.
AS_THEY_ARE = {
    *("adam_update", "attention", "binary_cross_entropy", "cat", "ctc", "gather", "lerp", "logsumexp", "masked_fill"),
    *("max_pool_nd_gather", "pick_class", "pow", "put_class", "random_permutation", "resample_nd", "resample_nd_bwd"),
    *(
        "scatter",
        "scatter_add",
        "sgd_momentum_update",
        "sgd_schedule",
        "sgd_update",
        "smooth_max_pool_nd",
        "sorted_order",
        "sum",
    ),
    *("amsgrad_update", "unscale", "wrap_index"),
}


def test_bodies_are_flat_but_for_those_that_look_at_numbers():
    left = set()
    for op, sample in (case.values for case in CASES):
        body, outs, scratch, inputs, attrs = bound(op, sample) or (None,) * 5
        if body is None or not all(x is None or x.flags.c_contiguous for x in inputs):
            continue
        if flat.calls_of(body, [*outs, *inputs], **{**attrs, **({"scratch": scratch} if scratch else {})}) is None:
            left.add(op.name)
    assert left <= AS_THEY_ARE, left - AS_THEY_ARE


def note(body, *shapes):
    return flat.calls_of(body, [np.ones(shape, "f") for shape in shapes])


LEAKS = {
    "a choice by a number": lambda xp, y, x: xp.add(x, x, out=y) if x[0, 0] > 0 else None,
    "a choice by a sum": lambda xp, y, x: xp.add(x, x, out=y) if x.sum() > 0 else None,
    "a number": lambda xp, y, x: xp.add(x, float(x[0, 0]), out=y),
    "a result without out": lambda xp, y, x: xp.copyto(y, xp.add(x, x)),
    "an operator": lambda xp, y, x: xp.copyto(y, x * 2),
    "a copy by reshape": lambda xp, y, x: xp.copyto(y, x.T.reshape(2, 3)),
    "a copy by index": lambda xp, y, x: xp.copyto(y, x[[1, 0]]),
    "a mask": lambda xp, y, x: xp.copyto(y.reshape(-1)[:0], x[x.view("bool")[:, :3]]),
    "a copy by ravel": lambda xp, y, x: xp.copyto(y.ravel(), x.T.ravel()),
    "a copy in C order": lambda xp, y, x: xp.copyto(y, xp.ascontiguousarray(x.T).T),
    "a method that copies": lambda xp, y, x: xp.copyto(y, x.copy()),
    "an iteration": lambda xp, y, x: [xp.copyto(y[0], row) for row in x],
    "an array of its own": lambda xp, y, x: xp.add(x, x, out=xp.empty((2, 3), "f")),
    "an output that is a constant": lambda xp, y, x: xp.multiply(x[0], 2, out=xp.arange(3, dtype="f")),
}


@pytest.mark.parametrize("name", LEAKS)
def test_what_cannot_be_noted_is_left_as_it_is(name):
    assert note(LEAKS[name], (2, 3), (2, 3)) is None


def test_views_constants_and_writes_are_noted():
    y, x = np.zeros((2, 3), "f"), np.arange(6, dtype="f").reshape(2, 3)

    def body(xp, y, x):
        xp.multiply(x.T.reshape(3, 2), 2, out=y.T)
        y[0] = x[1]
        y += xp.arange(3)
        y[1, :2].fill(9)
        xp.clip(y, 0, 8, out=y)
        xp.add.at(y.reshape(-1), xp.arange(2), 10)
        xp.take(x.reshape(6), xp.arange(3), out=y[1], mode="clip")

    calls = flat.calls_of(body, [y, x])
    assert len(calls) == 7 and not y.any()
    for call in calls:
        call()
    assert y.tolist() == [[13, 15, 7], [0, 1, 2]]


def test_errors_of_the_body_itself_are_raised():
    def body(xp, y, x):
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        note(body, (2,), (2,))


def test_a_replay_of_a_training_step_makes_no_array():
    """All that it calls are functions of C that write into what is there; of Python only what looks at labels."""
    gt.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.LayerNorm(36), nn.Linear(36, 3)
    )
    opt = optim.Adam(model.parameters())

    @gt.compile
    def step(x, t):
        with gt.record() as tape:
            loss = gt.cross_entropy(model(x), t)
        opt.step(tape.backward(loss))
        return loss

    with gt.device("cpu"):
        step(np.ones((2, 1, 8, 8), "f"), np.array([0, 2]))
    calls = step.plan.steps.calls
    python = {call.func.__name__ for call in calls if isinstance(call.func, type(note))}
    assert len(calls) > 60 and python <= {"_place", "_zero_ignored", "_adam_numbers"}
    for call in calls:
        if isinstance(call.func, np.ufunc):
            assert len(call.args) == call.func.nargs or "out" in call.keywords
