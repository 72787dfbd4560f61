"""The generator of element-wise kernels: ways to walk, fused chains, accuracy, and what its text may depend on."""

from __future__ import annotations

import itertools
import math
import os
import pickle
import subprocess
import sys
import traceback

os.environ.setdefault("TRITON_INTERPRET", "1")  # read when Triton is imported, by whichever test comes first

import numpy as np
import pytest

pytest.importorskip("triton", reason="triton is not installed: no kernel is emulated")

import gputape as gt
from gputape import backend as backends
from gputape import registry
from gputape.backend import NP_DTYPE
from gputape.functions import Execute
from gputape.kernels import expression, formulas, generated, layout, optim, pointwise
from gputape.kernels.expression import Chain, Step

RT = backends.backend("emulated").xp
F = Execute(backends.backend("emulated"))


@pytest.fixture
def launches(monkeypatch):
    """The names of the kernels launched during a test."""
    names, plain = [], generated.launch

    def counted(kernel, *rest):
        names.append(kernel.name)
        plain(kernel, *rest)

    monkeypatch.setattr(generated, "launch", counted)
    return names


# --- ways to walk -----------------------------------------------------------------------------------------------------


def addresses(way, k):
    """Which element of array k each step of the walk visits, as an array of `way.sizes` with its axes sorted inward."""
    places = np.zeros(way.sizes, np.int64)
    for axis, stride in enumerate(way.strides[k]):
        places += np.arange(way.sizes[axis]).reshape([-1 if a == axis else 1 for a in range(len(way.sizes))]) * stride
    return places


def test_every_walk_visits_each_element_once_and_keeps_arrays_in_step():
    rng = np.random.default_rng(0)
    for _ in range(300):
        shape = tuple(rng.choice([1, 2, 3, 4], rng.integers(0, 6)))
        memory = np.arange(math.prod(shape) * 4).reshape(*shape, 4)[..., rng.integers(0, 4)]
        own = tuple(s // 8 for s in np.empty(shape).strides)
        seen = memory.transpose(rng.permutation(len(shape))) if rng.random() < 0.5 and len(set(shape)) == 1 else memory
        seen = np.broadcast_to(seen[tuple(slice(0, n if rng.random() < 0.7 else 1) for n in shape)], shape)
        strides = tuple(s // 8 for s in seen.strides)
        way = layout.plan(shape, [own, layout.broadcast(shape, strides, shape)])
        assert way is not None and way.programs >= 1
        if way.flat:
            (n,) = way.sizes
            assert way.codes[0] == "v" and n == math.prod(shape)
            assert way.codes[1] == "s" or list(seen.reshape(-1) - seen.reshape(-1)[0]) == list(range(n))
            continue
        mine, other = addresses(way, 0).reshape(-1), addresses(way, 1).reshape(-1)
        order = np.argsort(mine)
        assert list(mine[order]) == list(range(seen.size))
        assert np.array_equal(other[order], seen.reshape(-1) - seen.reshape(-1)[0] if seen.size else [])


@pytest.mark.parametrize(
    "shapes, codes, outer",
    [
        ([(64, 128), (64, 128)], ("v", "v", "v"), 0),
        ([(3, 5, 7), (1,)], ("v", "v", "s"), 0),
        ([(64, 128), (128,)], ("n1", "n1", "01"), 0),
        ([(8, 16, 32), (8, 1, 1)], ("n1", "n1", "10"), 0),
        ([(8, 16, 32), (16, 1)], ("n1", "n1", "10"), 1),
    ],
)
def test_axes_merge_as_far_as_they_can(shapes, codes, outer):
    shape = np.broadcast_shapes(*shapes)
    strides = [tuple(s // 4 for s in np.empty(x, "f").strides) for x in (shape, *shapes)]
    way = layout.plan(shape, [layout.broadcast(x, s, shape) for x, s in zip((shape, *shapes), strides, strict=True)])
    assert (way.codes, way.outer) == (codes, outer)


def test_tiles_fit_the_array():
    turned = layout.plan((100, 200), [(200, 1), (1, 100)])
    assert turned.block == layout.TURNED and turned.programs == 4 * 7
    for shape, block in (((7, 5000), (1, 1024)), ((5000, 3), (256, 4)), ((64, 128), (4, 256)), ((640, 60), (16, 64))):
        assert layout.plan(shape, [(shape[1], 1), (0, 1)]).programs <= math.prod(shape) / 1024 * 2.01 + 1
        assert layout.plan(shape, [(shape[1], 1), (0, 1)]).block in (block, *layout.TILES)


def test_every_way_gives_the_same_numbers():
    rng = np.random.default_rng(1)
    x = rng.standard_normal((6, 5, 4, 3)).astype("f")
    views = [x, x.transpose(3, 2, 1, 0), x[::-1, :, ::2], x.swapaxes(1, 2), x[:, 1:2], x[..., :1], x[0], x[0, 0, 0, :1]]
    for a, b in itertools.combinations(views, 2):
        try:
            expected = a - b
        except ValueError:  # they do not broadcast
            continue
        assert np.array_equal(F.sub(a, b), expected)


def test_windows_may_overlap():
    x = np.arange(40, dtype="f")
    windows = np.lib.stride_tricks.sliding_window_view(x, 7)
    assert np.array_equal(F.neg(windows), -windows)


def test_outputs_may_be_inputs():
    x, y = np.random.default_rng(2).standard_normal((2, 33, 70)).astype("f")
    expected = x + y
    pointwise.add(RT, x, x, y)
    assert np.array_equal(x, expected)
    turned = y.T
    expected = turned * 2
    pointwise.scale(RT, turned, turned, c=2.0)
    assert np.array_equal(turned, expected)


def test_nothing_is_launched_for_no_elements(launches):
    assert F.add(np.empty((0, 3), "f"), np.empty((1, 3), "f")).shape == (0, 3)
    assert launches == []


# --- chains -----------------------------------------------------------------------------------------------------------

BIAS_GELU_SCALE = Chain(
    "bias_gelu_scale",
    ("f", "f"),
    (Step("add", (0, 1)), Step("gelu.none", (2,)), Step("scale", (3,))),
    ((4, "f"), (2, "f")),
)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_fused_chain_is_one_launch_and_rounds_once(launches, dtype):
    rng = np.random.default_rng(3)
    x = rng.standard_normal((37, 67)).astype(NP_DTYPE[dtype])
    b = rng.standard_normal(67).astype(NP_DTYPE[dtype])
    y, kept = RT.empty(x.shape, x.dtype), RT.empty(x.shape, x.dtype)
    generated.run(RT, BIAS_GELU_SCALE, (y, kept), (x, b), (0.5,))
    assert launches == ["bias_gelu_scale__n1_n1_n1_01"]
    wide = [a.astype("f") for a in (x, b)]
    total = F.add(*wide)
    assert np.array_equal(y, F.scale(F.gelu(total), 0.5).astype(x.dtype))
    assert np.array_equal(kept, total.astype(x.dtype))


def test_a_cast_inside_a_chain_rounds():
    steps = (Step("add", (0, 1)), Step("cast.bfloat16", (2,)), Step("mul", (3, 0)))
    x, b = np.random.default_rng(4).standard_normal((2, 100)).astype("f")
    y = RT.empty(x.shape, x.dtype)
    generated.run(RT, Chain("rounded", ("f", "f"), steps, ((4, "f"),)), (y,), (x, b))
    assert np.array_equal(y, (x + b).astype(NP_DTYPE["bfloat16"]).astype("f") * x)


def test_a_chain_mixes_kinds():
    steps = (Step("gt", (0, 1)), Step("where", (3, 0, 1)), Step("cast.int32", (4,)), Step("add", (5, 2)))
    chain = Chain("largest", ("f", "f", "i"), steps, ((6, "i"), (3, "b")))
    x, b = np.random.default_rng(5).uniform(-9, 9, (2, 100)).astype("f")
    n = np.arange(100, dtype=np.int32)
    y, larger = RT.empty(x.shape, np.int32), RT.empty(x.shape, bool)
    generated.run(RT, chain, (y, larger), (x, b, n))
    assert np.array_equal(y, np.maximum(x, b).astype(np.int32) + n) and np.array_equal(larger, x > b)


def test_a_chain_without_a_formula_for_its_operands_is_refused():
    chain = Chain("wrong", ("b",), (Step("sub", (0, 0)),), ((1, "b"),))
    with pytest.raises(gt.BackendError, match="wrong: sub has no formula for operands of kind 'b'"):
        generated.run(RT, chain, (np.ones(3, bool),), (np.ones(3, bool),))


# --- text -------------------------------------------------------------------------------------------------------------


def test_the_text_depends_on_chain_and_layout_only():
    def way(rows, cols):
        return layout.plan((rows, cols), [(cols, 1), (cols, 1), (cols, 1), (0, 1)])

    code = "from gputape.kernels.pointwise import VARIANTS; print(sorted(v.kernel.source for v in VARIANTS))"
    runs = [
        subprocess.run(
            [sys.executable, "-c", code], env=os.environ | {"PYTHONHASHSEED": seed}, capture_output=True, text=True
        ).stdout
        for seed in ("1", "2")
    ]
    assert runs[0] == runs[1] and "made_" in runs[0]
    chain = BIAS_GELU_SCALE
    assert expression.text(chain, way(64, 128)) == expression.text(chain, way(31, 257))
    assert expression.text(chain, way(64, 128)) != expression.text(chain, layout.plan((8,), [(1,)] * 4))


def test_a_generated_kernel_travels_to_another_process():
    made = generated.kernel(BIAS_GELU_SCALE, layout.plan((8,), [(1,)] * 4))
    code = (
        "import pickle, sys; from importlib import import_module; k = pickle.load(sys.stdin.buffer); "
        "print(getattr(import_module(k.source), k.name).__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], input=pickle.dumps(made), capture_output=True)
    assert done.stdout.decode().strip() == made.name, done.stderr
    assert pickle.loads(pickle.dumps(made)) == made


def test_tracebacks_show_generated_lines(monkeypatch):
    broken = formulas.Formula("fn.no_such_function({0})")
    monkeypatch.setitem(formulas.FORMULAS, "broken", broken)
    with pytest.raises(Exception) as raised:
        generated.run(
            RT, Chain("b", ("f",), (Step("broken", (0,)),), ((1, "f"),)), (np.ones(3, "f"),), (np.ones(3, "f"),)
        )
    shown = "".join(traceback.format_exception(raised.value))
    assert "v1 = fn.no_such_function(v0)" in shown and "kernels/triton/made_" in shown


def test_formulas_are_ops_or_parts_of_one():
    known = {op.name for op in registry.ops()} | set(formulas.POWERS) | set(formulas.UPDATES)
    unknown = {name.partition(".")[0] for name in formulas.FORMULAS if name not in known} - known
    assert not unknown


# --- values -----------------------------------------------------------------------------------------------------------

RNG = np.random.default_rng(6)
WIDE = np.concatenate([RNG.uniform(-87, 88, 1500), RNG.uniform(-1, 1, 1000), RNG.normal(0, 1e-4, 500)]).astype("f")
erf = np.vectorize(math.erf)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize(
    "name, exact, x",
    [
        ("exp", np.exp, WIDE),
        ("expm1", np.expm1, WIDE),
        ("log", np.log, np.abs(WIDE)),
        ("log1p", np.log1p, np.abs(WIDE)),
        ("log1p", np.log1p, RNG.uniform(-1, 1, 2000).astype("f")),
        ("tanh", np.tanh, WIDE),
        ("sigmoid", sigmoid, WIDE),
        ("erf", erf, WIDE),
        ("gelu", lambda x: x * (0.5 + 0.5 * erf(x * 0.5**0.5)), np.abs(WIDE)),
        ("silu", lambda x: x * sigmoid(x), WIDE),
        ("softplus", lambda x: np.logaddexp(x, 0), WIDE),
        ("logsigmoid", lambda x: -np.logaddexp(-x, 0), WIDE),
        ("sin", np.sin, WIDE),
        ("cos", np.cos, WIDE),
        ("rsqrt", lambda x: x**-0.5, np.abs(WIDE)),
        ("tan", np.tan, RNG.uniform(-9, 9, 2000).astype("f")),
        ("asin", np.arcsin, RNG.uniform(-1, 1, 2000).astype("f")),
        ("acos", np.arccos, RNG.uniform(-1, 0.999, 2000).astype("f")),
        ("atan", np.arctan, WIDE),
        ("sinh", np.sinh, WIDE),
        ("cosh", np.cosh, WIDE),
        ("asinh", np.arcsinh, WIDE),
        ("asinh", np.arcsinh, np.exp(WIDE)),
        ("acosh", np.arccosh, np.float32(1) + np.abs(WIDE)),
        ("acosh", np.arccosh, np.float32(1) + np.exp(np.abs(WIDE))),
        ("atanh", np.arctanh, RNG.uniform(-1, 1, 2000).astype("f")),
        ("log2", np.log2, np.abs(WIDE)),
        ("log10", np.log10, np.abs(WIDE)),
        ("exp2", np.exp2, WIDE),
        ("mish", lambda x: x * np.tanh(np.logaddexp(x, 0)), WIDE),
    ],
)
def test_functions_are_right_within_four_ulp(name, exact, x):
    found, expected = getattr(F, name)(x).astype(np.float64), exact(x.astype(np.float64))
    ulp = np.maximum(np.spacing(np.abs(expected).astype("f")), np.finfo("f").smallest_normal * 2.0**-23)
    assert np.max(np.abs(found - expected) / ulp) <= 4


def test_exponentials_at_the_ends_of_their_range():
    x = np.float32([-np.inf, -1000, -104, -103, -90, 88.72, 88.73, 1000, np.inf, np.nan, 0.0])
    with np.errstate(all="ignore"):
        for name in ("exp", "expm1"):
            np.testing.assert_allclose(getattr(F, name)(x), getattr(np, name)(x), rtol=3e-7, atol=2e-45)


def test_powers_follow_c():
    ends = np.float32([0.0, -0.0, 1, -1, 2, -2, 0.5, -0.5, 3, -3, np.inf, -np.inf, np.nan, 2.5, -2.5, 1e38, -1e-38])
    with np.errstate(all="ignore"):
        expected = ends[:, None] ** ends
    found = F.pow(ends[:, None], ends)
    np.testing.assert_allclose(found, expected, rtol=3e-7)
    assert np.array_equal(np.signbit(found) & ~np.isnan(expected), np.signbit(expected) & ~np.isnan(expected))


def test_integers_wrap_and_bools_are_no_integers():
    big = np.int32([2**31 - 1, -(2**31), -7])
    assert np.array_equal(F.add(big, big), np.int32([-2, 0, -14]))
    assert np.array_equal(F.square(big), np.int32([1, 0, 49]))
    assert np.array_equal(F.sub(np.uint8([3]), np.uint8([5])), np.uint8([254]))
    assert np.array_equal(F.pow(np.int64([3, -2, -1, 0]), np.int64([39, 63, -5, 0])), [3**39, -(2**63), -1, 1])
    a, b = np.bool_([False, False, True, True]), np.bool_([False, True, False, True])
    for name, expected in (
        ("lt", ~a & b),
        ("ge", a | ~b),
        ("add", a | b),
        ("mul", a & b),
        ("ne", a ^ b),
        ("eq", a == b),
    ):
        found = getattr(F, name)(a, b)
        assert found.dtype == bool and np.array_equal(found, expected), name


def test_integers_divided_by_zero_give_zero():
    a, b = np.int64([7, -7, 0]), np.int64([0, 0, 0])
    for divide in (F.floor_divide, F.trunc_divide, F.remainder, F.fmod):
        np.testing.assert_array_equal(divide(a, b), 0)


def test_rounding_is_to_even_and_keeps_large_numbers():
    x = np.float32(
        [0.5, 1.5, 2.5, -0.5, -1.5, 8388607.5, 8388609, 4194304.5, -4194305.5, 1e30, np.inf, -0.0, 0.49999997]
    )
    assert F.round(x).tobytes() == np.rint(x).tobytes()


def test_zeros_keep_their_sign():
    x = np.float32([0.0, -0.0])
    for name in ("neg", "sqrt", "tanh", "floor", "copy", "expm1", "log1p", "sin"):
        expected = {"neg": -x, "copy": x}.get(name)
        expected = getattr(np, name)(x) if expected is None else expected
        assert getattr(F, name)(x).tobytes() == expected.tobytes(), name


def test_masks_keep_out_what_they_hide():
    x = np.float32([np.nan, np.inf, 1.0])
    assert np.array_equal(F.masked_fill(x, np.bool_([True, True, False]), -np.inf), np.float32([-np.inf, -np.inf, 1]))
    assert np.array_equal(F.relu_bwd(x, np.float32([0, 0, 0])), np.zeros(3, "f"))
    assert np.array_equal(F.tril(np.full((3, 3), np.nan, "f"), -3), np.zeros((3, 3), "f"))


@pytest.mark.parametrize("name", ["add", "clamp", "sigmoid", "adam_update"])
def test_float64_stays_on_the_cpu(name):
    x = np.ones(3)
    args = {"clamp": (x, 0.0), "sigmoid": (x,), "add": (x, x), "adam_update": (*[x] * 4, *[np.array(1.0)] * 3)}
    with pytest.raises(gt.BackendError, match=rf"{name}: no kernel for float64 \(has: float32.*gt\.device"):
        F.op(name, *args[name])


# --- optimizers -------------------------------------------------------------------------------------------------------


@np.errstate(all="ignore")  # as dispatch does: lanes without an element divide 0 by 0
@pytest.mark.parametrize("update, squares", [(optim.adam_update, 1), (optim.amsgrad_update, 2)])
def test_one_launch_updates_a_whole_arena(launches, update, squares):
    """Parameters that share an arena are one flat array to the update: the same bits as one update each."""
    sizes = (31, 1024, 7, 1)
    arena = [a.astype("f") for a in np.random.default_rng(7).uniform(0.1, 1, (3 + squares, sum(sizes)))]
    scalars = [np.array(v, "f") for v in (1e-2, 1e-8, 0.99)]
    options = {"beta1": 0.9, "beta2": 0.999, "weight_decay": 0.0, "decoupled": True}
    apart = [a.copy() for a in arena]
    for piece in np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:-1]):
        mine = [a[piece[0] : piece[-1] + 1] for a in apart]
        update(RT, mine[0], *mine[2:], *mine, *scalars, None, **options)
    assert len(launches) == len(sizes)
    update(RT, arena[0], *arena[2:], *arena, *scalars, None, **options)
    assert len(launches) == len(sizes) + 1
    assert all(a.tobytes() == b.tobytes() for a, b in zip(arena, apart, strict=True))


def test_schedules_keep_float64_options():
    step, lr = np.array(0), np.array(1e-3)
    n, step_size, small, keep = F.op("adam_schedule", step, lr, beta2=0.9999, weight_decay=0.1, dtype="float64")
    root = math.sqrt(1 - 0.9999)
    assert n == 1
    np.testing.assert_allclose([step_size, small, keep], [1e-3 * root / (1 - 0.9), 1e-8 * root, 1 - 1e-4], rtol=1e-11)
