"""`gt.compile`: replay equals eager bit for bit; memory, effects, refusals."""

from __future__ import annotations

import threading

import ml_dtypes
import numpy as np
import pytest

import gputape as gt
from gputape import nn, optim
from gputape.backend import backend
from gputape.dispatch import updates
from gputape.placement import pack
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
    ops = [node.op for node in compiled.plan.record]
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
    offsets, total = pack(blocks)
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


def test_one_value_may_be_assigned_to_several_cells():
    a, b, c = Cell([1.0, 2.0]), Cell([0.0, 0.0]), Cell([[0.0], [0.0]])

    @gt.compile
    def step():
        y = a * 2.0
        a.assign(y)  # computed there, in the memory of `a`
        b.assign(y)
        c.assign(y.reshape(2, 1))

    step()
    step()
    assert a.tolist() == b.tolist() == [4.0, 8.0] and c.tolist() == [[4.0], [8.0]]


def test_a_cell_read_after_its_write_shows_the_new_value():
    a = Cell([1.0])

    @gt.compile
    def step():
        a.assign(a + 1.0)
        return a * 10.0

    assert step() == 20.0 and step() == 30.0 and a.item() == 3.0


def test_a_parameter_may_be_read_several_times_after_its_update():
    p = nn.Parameter([1.0, 2.0])

    @gt.compile
    def step():
        p.assign(p * 2.0)
        with gt.record() as tape:
            loss = gt.sum(p) + gt.sum(p) + gt.checkpoint(gt.sum, p) + gt.sum(p)
        return tape.backward(loss)[p]

    assert step().tolist() == step().tolist() == [4.0, 4.0] and p.tolist() == [4.0, 8.0]


def test_gradients_of_gradients_compile():
    f = lambda x: gt.grad(lambda y: gt.sum(gt.tanh(y) * y * y))(x) * x  # noqa: E731
    x = np.linspace(-1, 1, 7, dtype="f")
    assert gt.compile(f)(x).tobytes() == f(x).tobytes()


def test_gradients_of_gradients_through_checkpoints_compile():
    block = lambda a, b: gt.exp(gt.sin(a)) * gt.sigmoid(b)  # noqa: E731
    inner = lambda y: gt.sum(gt.checkpoint(block, y, y) ** 2)  # noqa: E731
    f = gt.grad(lambda x: gt.sum(gt.grad(inner)(x) ** 2))
    x = np.linspace(-2, 2, 99, dtype="f")
    assert gt.compile(f, rewrite=False)(x).tobytes() == f(x).tobytes()


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
    kinds = {node.op for node in step.plan.record}
    assert {"linear", "linear_bwd", "cross_entropy_index", "adam_update"} & kinds >= {"linear", "adam_update"}


def test_recording_computes_nothing_on_the_cpu(monkeypatch):
    ran, cpu = [], backend("cpu")
    body = cpu.bodies["tanh"]
    monkeypatch.setitem(cpu.bodies, "tanh", lambda xp, y, x: (ran.append(xp is np), body(xp, y, x)))
    with gt.device("cpu"):
        assert gt.compile(gt.tanh)(np.float32([0.5, -7])).tolist() == np.tanh(np.float32([0.5, -7])).tolist()
    assert ran == [False]  # noted once, and replayed by its calls


def test_compile_is_a_decorator_with_options():
    @gt.compile(rewrite=False)
    def f(x):
        return gt.tanh(x)

    assert f(np.ones(3, np.float32)).shape == (3,) and not f.rewrite


# --- what a plan depends on beside its arguments


def small_step():
    gt.manual_seed(1)
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 3))
    opt = optim.AdamW(model.parameters(), lr=1e-2)

    def step(x, y):
        with gt.record() as tape:
            loss = gt.cross_entropy(model(x), y)
        opt.step(tape.backward(loss))
        return loss

    return model, opt, step


CHANGES = {
    "train and eval": lambda k, model, opt: model.train(k % 2 == 0),
    "dropout probability": lambda k, model, opt: setattr(model[3], "p", 0.1 * k),
    "weight decay": lambda k, model, opt: opt.param_groups[0].update(weight_decay=0.1 * k),
    "frozen parameters": lambda k, model, opt: model[0].requires_grad_(k % 2 == 0),
    "a layer replaced": lambda k, model, opt: k == 2 and setattr(model, "2", nn.Tanh()),
    "seed": lambda k, model, opt: k == 2 and gt.manual_seed(7),
}


@pytest.mark.parametrize("change", CHANGES)
def test_no_plan_is_stale(change):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((6, 4)).astype("f"), np.arange(6) % 3
    runs = []
    for transform in (lambda f: f, gt.compile):
        model, opt, step = small_step()
        step = transform(step)
        losses = []
        for k in range(5):
            CHANGES[change](k, model, opt)
            losses.append(float(step(x, y)))
        runs.append((losses, [p.array.tobytes() for p in model.parameters()]))
    assert runs[0] == runs[1]


def test_a_mode_that_returns_finds_its_plan_again():
    model, _, step = small_step()
    step = gt.compile(step)
    for k in range(6):
        model.train(k % 2 == 0)
        step(np.ones((6, 4), "f"), np.arange(6) % 3)
    assert len(step.plans) == 2


def test_effects_on_the_host_are_refused():
    x, (model, _, _) = np.ones((6, 4), "f"), small_step()
    name = "0.weight"
    refused(lambda x: gt.sum(model.eval()(x)), r"train\(False\) changes the mode .*test_compile\.py", x)
    refused(lambda x: x * float(model[0].bias[0]), "read on the host", x)
    refused(lambda x: x * model[0].weight.value.sum(), rf"{name} is read on the host .*test_compile\.py", x)
    refused(lambda x: x * model.state_dict()[name].sum(), f"{name} is read on the host", x)
    refused(lambda x: gt.dropout(x) if gt.manual_seed(0) else x, "Generator: .* changed on the host .*test_compile", x)
    refused(lambda x: np.ones(3), "returned an array", x)


def test_arguments_that_are_parameters_are_refused():
    model, opt, _ = small_step()
    w = model[0].weight
    x, m = np.ones((6, 4), "f"), opt.state[w]["exp_avg"]
    refused(lambda w, x: gt.linear(x, w), "an argument is Parameter", w, x)
    refused(
        lambda a, x: gt.sum(model(x)) + gt.sum(a), "array 0 of the arguments shares the memory of 0.weight", w.value, x
    )
    refused(lambda x, a: gt.sum(m) + gt.sum(a), "array 1 of the arguments shares the memory of exp_avg", x, m.array[:2])
    twice = gt.compile(lambda a, b: gt.sum(a * b))
    assert twice(x, x) == 24
    step = gt.compile(lambda a: gt.sum(w * a))
    step(np.ones((8, 4), "f"))
    with pytest.raises(gt.CompileError, match="shares the memory"):  # also once the plan exists
        step(w.value)


def test_plain_arguments_of_different_types_are_different_signatures():
    compiled = gt.compile(lambda x, k: gt.mul(x, {bool: 2.0, int: 3.0, float: 5.0}[type(k)]))
    assert [float(compiled(np.float32(1), k)) for k in (True, 1, 1.0)] == [2, 3, 5]


def test_a_leaf_made_of_an_argument_gets_its_gradient():
    w = Cell(np.float32([2.0, 3.0]), requires_grad=True)

    def step(x):
        with gt.record() as tape:
            v, u = gt.leaf(x), gt.leaf(w)
            out = gt.sum(v * v * u) + gt.sum(gt.leaf(v * 2))
        grads = tape.backward(out, wrt=[v, u, w])
        return grads[v], grads[u], grads[w]

    x = np.float32([1.0, 4.0])
    for _ in range(2):
        for a, b in zip(gt.compile(step)(x), step(x), strict=True):
            np.testing.assert_array_equal(a, b)
        w.assign(w + 1)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_16_bit_steps_replay(dtype):
    f = lambda x: gt.softmax(gt.matmul(gt.exp(x), x), -1)  # noqa: E731
    x = np.linspace(-1, 1, 9).reshape(3, 3).astype(dtype)
    assert gt.compile(f)(x).tobytes() == f(x).tobytes()


def test_threads_may_share_a_compiled_function():
    compiled, wrong = gt.compile(lambda x: gt.sum(gt.exp(x @ x))), []

    def work(k):
        x = np.full((32, 32), 0.01 * k, "f")
        want = float(gt.sum(gt.exp(gt.matmul(x, x))))
        wrong.extend(k for _ in range(50) if float(compiled(x)) != want)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong
