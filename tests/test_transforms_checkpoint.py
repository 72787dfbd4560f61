"""`gt.checkpoint`: the same gradients from less memory."""

from __future__ import annotations

import tracemalloc
from functools import partial

import numpy as np
import pytest

import gputape as gt
from gputape import nn, registry
from gputape.backward import sweep
from gputape.dispatch import call
from gputape.testing import apply, inputs_of

RNG = np.random.default_rng(0)
X, W = (RNG.standard_normal(shape).astype("f") for shape in ((5, 7), (7, 7)))


def layer(a, w, p=0.3):
    return gt.layer_norm(gt.dropout(gt.tanh(gt.matmul(a, w)), p, True), (7,)) * a


def plain(fn, *args, **kwargs):
    return fn(*args, **kwargs)


def nested(fn, *args, **kwargs):
    return gt.checkpoint(lambda *xs: gt.checkpoint(fn, *xs, **kwargs), *args)


def deep(ck, retain=False):
    """A recording of a small deep net, each layer called through `ck`: (recording, leaves, loss)."""
    gt.manual_seed(3)
    with gt.record(retain=retain) as tape:
        x, w = gt.leaf(X), gt.leaf(W)
        y = x
        for _ in range(3):
            y = ck(lambda a: ck(layer, a, w) + layer(a, w, p=0.5), y)
        loss = gt.sum(y * y)
    return tape, [x, w], loss


@pytest.mark.parametrize("ck", (gt.checkpoint, nested))
def test_gradients_are_the_same_to_the_bit_and_less_is_held(ck):
    tape, leaves, loss = deep(plain)
    much = tape.nbytes
    want = tape.backward(loss)
    tape, again, loss = deep(ck)
    assert tape.nbytes < much / 4
    got = tape.backward(loss)
    for a, b in zip(leaves, again, strict=True):
        np.testing.assert_array_equal(want[a], got[b])
    assert tape.nbytes == 0


def test_a_retained_recording_drops_the_values_again():
    tape, leaves, loss = deep(nested, retain=True)
    held = tape.nbytes
    first, second = tape.backward(loss), tape.backward(loss)
    for x in leaves:
        np.testing.assert_array_equal(first[x], second[x])
    assert tape.nbytes == held


def test_gradients_of_gradients():
    results = []
    for ck in (plain, gt.checkpoint, nested):
        gt.manual_seed(0)

        def f(x, w, ck=ck):
            return gt.sum(ck(layer, x, w) ** 2)

        first = gt.grad(f, (0, 1))(X.astype("d"), W.astype("d"))
        gt.manual_seed(0)
        second = gt.grad(lambda x, w: sum(gt.sum(g * g) for g in gt.grad(f, (0, 1))(x, w)), (0, 1))
        results.append((*first, *second(X.astype("d"), W.astype("d"))))
    for other in results[1:]:
        for k, (a, b) in enumerate(zip(results[0], other, strict=True)):
            # a gradient of a gradient adds its parts in another order: the second computation has its own path to x
            np.testing.assert_allclose(a, b, rtol=0 if k < 2 else 1e-10, atol=0 if k < 2 else 1e-10 * np.abs(a).max())


def test_a_second_backward_may_be_recorded_and_then_executed():
    for ck in (plain, gt.checkpoint):
        with gt.record() as tape:
            x = gt.leaf(X)
            loss = gt.sum(ck(lambda a: gt.exp(gt.sin(a)), x))
            g = tape.backward(loss)[x]
            penalty = gt.sum(g * g)
        got = tape.backward(penalty)[x]
        s, c = np.sin(X), np.cos(X)
        want = 2 * np.exp(s) * c * (np.exp(s) * c * c - np.exp(s) * s)
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


def test_several_results_keywords_and_parameters_from_outside():
    w = nn.Parameter(W)

    def f(a, *, scale):
        y, mean = gt.max(gt.matmul(a, w) * scale, 1)
        return {"y": gt.exp(y), "index": mean, "x": (a, gt.var(a, 1))}

    grads = []
    for ck in (plain, gt.checkpoint):
        with gt.record() as tape:
            x = gt.leaf(X)
            out = ck(f, x, scale=0.5)
            loss = gt.sum(out["y"] * out["x"][1]) + gt.sum(out["x"][0])
        assert not out["index"].requires_grad
        found = tape.backward(loss)
        grads.append((found[x], found[w]))
    for a, b in zip(*grads, strict=True):
        np.testing.assert_array_equal(a, b)


class CountedNorm(nn.BatchNorm1d):
    calls = 0

    def forward(self, x):
        type(self).calls += 1
        return super().forward(x)


def test_effects_happen_once():
    models = [nn.Sequential(nn.Linear(7, 7), CountedNorm(7), nn.Dropout(0.5)) for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    grads = []
    for ck, model in zip((plain, gt.checkpoint), models, strict=True):
        gt.manual_seed(5)
        with gt.record() as tape:
            loss = gt.sum(ck(model, X) ** 2)
        after = gt.random.generator().state
        found = tape.backward(loss)
        assert gt.random.generator().state == after
        grads.append([found[p] for p in model.parameters()])
    for a, b in zip(*grads, strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(models[0].state_dict().values(), models[1].state_dict().values(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert CountedNorm.calls == 2


def test_what_escapes_from_the_function_is_held_where_it_is_used():
    grads = []
    for ck in (plain, gt.checkpoint):
        seen = []

        def f(a, seen=seen):
            seen.append(gt.tanh(a))
            return gt.exp(seen[0]) * 2

        with gt.record(retain=True) as tape:
            x = gt.leaf(X)
            loss = gt.sum(ck(f, x)) + gt.sum(seen[0] * seen[0])
        grads += [tape.backward(loss)[x], tape.backward(loss)[x]]
    for g in grads[1:]:
        np.testing.assert_array_equal(grads[0], g)


@pytest.mark.parametrize("compiled", (False, True))
def test_a_backward_inside_of_what_is_outside(compiled):
    def f(ck, x):
        with gt.record() as tape:
            x = gt.leaf(x)
            y = gt.sum(gt.layer_norm(x, (7,)) ** 3)
            z = gt.sum(ck(lambda: gt.sum(gt.exp(tape.backward(y)[x]))))
        return tape.backward(z)[x]

    decorate = gt.compile if compiled else lambda f: f
    want, got = (decorate(partial(f, ck))(X) for ck in (plain, gt.checkpoint))
    np.testing.assert_allclose(want, got, rtol=1e-4, atol=1e-4 * np.abs(want).max())
    assert np.abs(want).max() > 0.1


def test_outside_recordings_and_without_gradients_it_only_calls():
    np.testing.assert_array_equal(gt.checkpoint(gt.exp, X), gt.exp(X))
    with gt.record() as tape:
        x = gt.leaf(X)
        with gt.no_grad():
            gt.checkpoint(layer, x, W)
        gt.checkpoint(lambda: gt.exp(gt.detach(x)))
        with pytest.raises(gt.ShapeError, match="matmul"):
            gt.checkpoint(layer, x, X)
        loss = gt.sum(x * 2)
    assert not tape.segments
    assert (tape.backward(loss)[x] == 2).all()


def test_the_second_computation_has_the_precision_of_the_first():
    w = W[:, :3]  # so that no product of the vjps has the shape of these
    with gt.record() as tape:
        x = gt.leaf(X)
        with gt.precision("bf16"), gt.matmul_precision("high"):
            a = gt.checkpoint(lambda x: gt.exp(gt.matmul(x, w)), x)
        with gt.matmul_precision("high"):
            b = gt.checkpoint(lambda x: gt.exp(gt.matmul(x, w)), x)
        first = len(tape)
        with gt.precision("fp16"):
            tape.backward(gt.sum(a) + gt.sum(b))
    forward, again = (
        [n.at for n in nodes if n.op == "mm_nd" and n.aval.shape == (5, 3)]
        for nodes in (tape.nodes[:first], tape.nodes[first:])
    )
    assert again == forward[::-1] and [at.tf32 for at in again] == [True, False]


CASES = [
    pytest.param(op, s, id=f"{op.name}-{k}")
    for op in registry.ops()
    if op.public and (op.vjp is not None or op.compose is not None)
    for k, s in enumerate(op.samples)
]


@pytest.mark.parametrize("op, sample", CASES)
def test_every_op_has_the_same_gradients_in_a_checkpoint(op, sample):
    """Executed, and as part of a compiled function."""
    inputs = inputs_of(op, sample)
    moving = [k for k, x in enumerate(inputs) if isinstance(x, np.ndarray) and x.dtype.kind in "fV"]

    def gradients(ck, arrays):
        full = list(inputs)

        def f(*leaves):
            for k, x in zip(moving, leaves, strict=True):
                full[k] = x
            out = apply(lambda *a, **k: call(op.name, *a, **k), op, full, sample.attrs)
            out = out if isinstance(out, tuple) else (out,)
            return [gt.tanh(y) for y in out if y.requires_grad]  # which saves its result

        with gt.record() as tape:
            leaves = [gt.leaf(x) for x in arrays]
            terms = [gt.sum(y) for y in ck(f, *leaves)]
            loss = sum(terms[1:], start=terms[0]) if terms else None
        return list(tape.backward(loss, wrt=leaves).values()) if terms else []

    arrays = [inputs[k] for k in moving]
    results = []
    for run, ck in (
        (gradients, plain),
        (gradients, gt.checkpoint),
        (gt.compile(gradients, rewrite=False), gt.checkpoint),
    ):
        gt.manual_seed(0)
        try:
            results.append(run(ck, arrays))
        except gt.CompileError:  # it reads a value on the host
            with pytest.raises(gt.CompileError, match="read on the host"):
                gt.compile(gradients)(plain, arrays)
    for got in results[1:]:
        for a, b in zip(results[0], got, strict=True):
            np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


def test_a_parameter_that_moved_on_is_refused():
    w = nn.Parameter(W)
    with gt.record() as tape:
        loss = gt.sum(gt.checkpoint(lambda: gt.exp(gt.matmul(X, w))))
    w.assign(W + 1)
    with pytest.raises(gt.TapeError, match="updated after"):
        tape.backward(loss)


def mlp(ck, layers=32, width=64, batch=256):
    """A deep MLP of blocks of 4 layers, each block called through `ck`."""
    weights = [nn.Parameter(RNG.standard_normal((width, width)).astype("f") / 8) for _ in range(layers)]
    x = RNG.standard_normal((batch, width)).astype("f")

    def block(a, k):
        for w in weights[k : k + 4]:
            a = gt.tanh(gt.matmul(a, w))
        return a

    def loss():
        a = x
        for k in range(0, layers, 4):
            a = ck(block, a, k)
        return gt.sum(a * a)

    return loss, weights, batch * width * 4


def test_peak_memory_of_a_deep_mlp_falls(forget):
    peaks, held = [], []
    for ck in (plain, gt.checkpoint):
        forget()
        loss_of, weights, layer_bytes = mlp(ck)
        tracemalloc.start()
        with gt.record() as tape:
            loss = loss_of()
        held.append(tape.nbytes)
        grads = tape.backward(loss)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        del grads, loss, tape
    # plain: each layer's result (tanh saves it, and matmul its input), and the input, which is a constant of the tape
    assert held[0] == pytest.approx(33 * layer_bytes, rel=0.05)
    # of blocks: what each starts from, and the last result
    assert held[1] == pytest.approx(9 * layer_bytes, rel=0.05)
    gradients = sum(w.array.nbytes for w in weights)
    assert peaks[0] > 33 * layer_bytes
    assert peaks[1] < 9 * layer_bytes + 8 * layer_bytes + gradients  # and one block's values, and the sweep's own


def step(ck, compiled):
    gt.manual_seed(1)
    loss_of, weights, _ = mlp(lambda f, a, k: ck(lambda b: gt.dropout(f(b, k), 0.2, True), a), layers=16, batch=512)
    for k, w in enumerate(weights):
        w.assign(np.random.default_rng(k).standard_normal(w.shape) / 8)

    def one():
        with gt.record() as tape:
            loss = loss_of()
        grads = tape.backward(loss)
        return loss, [grads[w] for w in weights]

    return gt.compile(one) if compiled else one


def test_in_a_compiled_function_the_arena_is_smaller_and_nothing_else_changes():
    global RNG
    results, arenas = [], []
    for ck in (plain, gt.checkpoint):
        for compiled in (False, True):
            RNG = np.random.default_rng(9)
            f = step(ck, compiled)
            out = [f() for _ in range(2)]
            results.append([np.asarray(g) for loss, grads in out for g in (loss, *grads)])
            if compiled:
                arenas.append(f.plan.arena_bytes)
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(a, b)
    assert arenas[1] < 0.6 * arenas[0]


def test_compiled_running_statistics_move_once():
    model = nn.Sequential(nn.Linear(7, 7), nn.BatchNorm1d(7))

    @gt.compile
    def f(x):
        with gt.record() as tape:
            loss = gt.sum(gt.checkpoint(model, x) ** 2)
        return loss, tape.backward(loss)[model[0].weight]

    f(X)
    mean = (X @ model[0].weight.numpy().T + model[0].bias.numpy()).mean(0)
    np.testing.assert_allclose(model[1].running_mean.numpy(), 0.1 * mean, rtol=1e-5, atol=1e-6)


def test_hooks_inside_a_checkpoint_are_called_once_per_backward():
    seen = []

    def f(a):
        y = gt.exp(a)
        y.register_hook(lambda dy: seen.append(np.array(dy)))
        return y * 3

    with gt.record() as tape:
        x = gt.leaf(X)
        loss = gt.sum(gt.checkpoint(f, x))
    tape.backward(loss)
    assert len(seen) == 1 and (seen[0] == 3).all()


def test_values_are_there_only_while_the_sweep_is_in_the_segment(monkeypatch):
    """At each vjp, at most one block of the deep net holds more than the result that the next one starts from."""
    most = 0

    def counted(F, nodes, out, seed, saved, *rest):
        def watching(i, node):
            nonlocal most
            found = saved(i, node)
            most = max(most, sum(sum(nodes[j].values is not None for j in s.keep) > 1 for s in tape.segments))
            return found

        return sweep(F, nodes, out, seed, watching, *rest)

    loss_of, _, _ = mlp(gt.checkpoint)
    with gt.record(retain=True) as tape:
        loss = loss_of()
    monkeypatch.setattr("gputape.recording.sweep", counted)
    tape.backward(loss)
    assert len(tape.segments) == 8 and most == 1


def test_a_module_form():
    inner = nn.Sequential(nn.Linear(7, 7), nn.Tanh())
    model = nn.Sequential(nn.Checkpoint(inner), nn.Linear(7, 1))
    assert list(model.state_dict()) == ["0.module.0.weight", "0.module.0.bias", "1.weight", "1.bias"]
    with gt.record() as tape:
        loss = gt.sum(model(X))
    assert len(tape.segments) == 1
    got = tape.backward(loss)
    with gt.record() as tape:
        loss = gt.sum(model[1](inner(X)))
    want = tape.backward(loss)
    for p in model.parameters():
        np.testing.assert_array_equal(got[p], want[p])
