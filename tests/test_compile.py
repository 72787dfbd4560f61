"""`gt.compile`: replay equals eager bit for bit; memory, effects, refusals."""

from __future__ import annotations

import numpy as np
import pytest

import gputape as gt
from gputape import optim
from gputape.dispatch import updates
from gputape.plan import _pack
from gputape.random import generator
from gputape.train.models import recipe
from gputape.variable import Cell, Var


def make_step():
    w = Cell(np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3), requires_grad=True, name="w")

    def step(x, t):
        with gt.record() as tape:
            d = gt.tanh((x.reshape((-1, 4, 1)) * w).sum(1)) - t
            loss = (d * d).sum()
        grads = tape.backward(loss)
        w.assign(updates().sub(w, grads[w] * np.float32(0.05)))
        return loss, grads[w]

    return w, step


def batches(n):
    rng = np.random.default_rng(0)
    return [(rng.standard_normal((5, 4)).astype("f"), rng.standard_normal((5, 3)).astype("f")) for _ in range(n)]


def test_replay_equals_eager_bit_for_bit_with_updates():
    w1, eager = make_step()
    w2, step = make_step()
    compiled = gt.compile(step)
    for x, t in batches(20):
        (loss1, g1), (loss2, g2) = eager(x, t), compiled(x, t)
        assert loss1.value.tobytes() == loss2.value.tobytes()
        assert g1.tobytes() == g2.tobytes()
        assert w1.array.tobytes() == w2.array.tobytes()
        assert type(loss1) is type(loss2) is Var and type(g1) is type(g2) is np.ndarray
    assert w2.version == 20
    assert len(compiled.plans) == 1


def test_results_are_fresh_copies():
    _, step = make_step()
    compiled = gt.compile(step)
    losses = [compiled(x, t)[0] for x, t in batches(4)]
    assert len({float(v) for v in losses}) == 4


def test_new_shapes_record_new_plans_and_warn_when_they_pile_up():
    compiled = gt.compile(lambda x: gt.tanh(x) * 2.0)
    for n in range(1, 9):
        np.testing.assert_array_equal(compiled(np.ones(n, "f")), np.tanh(np.ones(n, "f")) * np.float32(2))
    assert len(compiled.plans) == 8
    with pytest.warns(UserWarning, match="9 signatures are recorded; the last change was argument 0"):
        compiled(np.ones(9, "f"))


def test_inference_needs_no_record_and_statics_are_part_of_the_signature():
    compiled = gt.compile(lambda x, k: {"y": x * k, "k": k})
    out = compiled(np.float32([1, 2]), 3.0)
    assert type(out["y"]) is np.ndarray and out["k"] == 3.0
    np.testing.assert_array_equal(compiled(np.float32([1, 2]), 4.0)["y"], [4, 8])
    assert len(compiled.plans) == 2


def test_dead_code_goes_and_equal_computations_merge():
    def f(x):
        gt.tanh(x + 5.0)
        return gt.tanh(x) + gt.tanh(x)

    compiled = gt.compile(f)
    compiled(np.ones(3, "f"))
    ops = [compiled.plan.record[i].op for i in compiled.plan.live]
    assert ops == ["leaf", "tanh", "add"]
    assert "2 calls" in compiled.explain()


def test_buffers_are_reused_along_a_chain():
    def f(x):
        for _ in range(20):
            x = gt.tanh(x)
        return x

    compiled = gt.compile(f)
    x = np.linspace(-1, 1, 256, dtype="f")
    np.testing.assert_array_equal(compiled(x), f(x))
    assert compiled.plan.arena_bytes == 2 * 1024


def test_packing_never_overlaps_what_lives_at_once():
    rng = np.random.default_rng(1)
    blocks = []
    for k in range(200):
        first = int(rng.integers(0, 100))
        blocks.append((k, int(rng.integers(0, 50)) * 64, first, first + int(rng.integers(0, 20))))
    offsets, total = _pack(blocks)
    for a, size_a, f_a, l_a in blocks:
        assert offsets[a] + size_a <= total
        for b, size_b, f_b, l_b in blocks:
            if a < b and f_a <= l_b and f_b <= l_a and size_a and size_b:
                assert offsets[a] + size_a <= offsets[b] or offsets[b] + size_b <= offsets[a]


def test_cells_can_be_swapped():
    a, b = Cell([1.0]), Cell([2.0])

    @gt.compile
    def swap():
        x, y = gt.alias(a), gt.alias(b)
        a.assign(y)
        b.assign(x)
        return x

    swap()
    assert (a.item(), b.item()) == (2.0, 1.0)
    swap()
    assert (a.item(), b.item()) == (1.0, 2.0)


def test_a_cell_read_after_its_write_shows_the_new_value():
    a = Cell([1.0])

    @gt.compile
    def step():
        a.assign(a + 1.0)
        return a * 10.0

    assert step() == 20.0 and step() == 30.0 and a.item() == 3.0


def test_gradients_of_gradients_compile():
    f = lambda x: gt.grad(lambda y: gt.sum(gt.tanh(y) * y * y))(x) * x  # noqa: E731
    x = np.linspace(-1, 1, 7, dtype="f")
    assert gt.compile(f)(x).tobytes() == f(x).tobytes()


def refused(f, match, *args):
    compiled = gt.compile(f)
    with pytest.raises(gt.CompileError, match=match):
        compiled(*args)
    assert not compiled.plans


def test_refusals_name_the_function_and_the_line():
    x = np.ones(3, "f")

    def reads(x):
        return 2.0 if float(gt.sum(x)) > 1 else x

    refused(reads, r"reads: a value is read on the host .*test_compile\.py:\d+", x)
    refused(lambda x: np.asarray(gt.tanh(x)), "read on the host", x)
    refused(lambda x: object(), "returned a object", x)
    inner = gt.compile(gt.tanh)
    refused(lambda x: inner(x), "inside another compiled function", x)
    with gt.record(), pytest.raises(gt.CompileError, match=r"inside gt\.record"):
        inner(x)
    with pytest.raises(gt.CompileError, match="nothing is recorded yet"):
        inner.explain()
    refused(lambda x, s: x, "neither an array nor hashable", x, {1, 2})


def test_a_failing_step_changes_nothing():
    a = Cell([1.0])

    @gt.compile
    def step(x):
        a.assign(a + 1.0)
        return gt.add(x, np.ones(7, "f"))

    with pytest.raises(gt.ShapeError):
        step(np.ones(3, "f"))
    assert a.item() == 1.0 and a.version == 0


def training_step():
    """The digits-mlp step: forward with dropout, cross entropy, backward, AdamW."""
    gt.manual_seed(0)
    model = recipe("digits-mlp").build()
    opt = optim.AdamW(model.parameters(), lr=3e-3)

    def step(x, y):
        with gt.record() as tape:
            loss = gt.cross_entropy(model(x), y)
        opt.step(tape.backward(loss))
        return loss

    return model, opt, step


@pytest.mark.parametrize("steps", [25])
def test_the_digits_mlp_step_is_one_flat_program_that_trains_like_eager_bit_for_bit(steps):
    rng = np.random.default_rng(0)
    data = [(rng.uniform(size=(32, 1, 8, 8)).astype("f"), rng.integers(0, 10, 32)) for _ in range(steps)]
    runs = []
    for transform in (lambda f: f, gt.compile):
        model, opt, step = training_step()
        step = transform(step)
        losses = []
        for k, (x, y) in enumerate(data):
            opt.lr = 3e-3 / (1 + k)
            losses.append(float(step(x, y)))
        state = [p.array.tobytes() for p in model.parameters()] + [repr(opt.state_dict())]
        runs.append((losses, state, generator().state))
    assert runs[0] == runs[1]
    assert len(set(runs[0][0])) == steps
    assert len(step.plans) == 1
    kinds = {step.plan.record[i].op for i in step.plan.live}
    assert {"linear", "linear_bwd", "cross_entropy_index", "adam_update"} & kinds >= {"linear", "adam_update"}
