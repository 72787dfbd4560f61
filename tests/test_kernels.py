"""The GPU kernels, run on `emulated` against the float64 bodies of `cpu`."""

from __future__ import annotations

import ast
import os
from pathlib import Path

os.environ.setdefault("TRITON_INTERPRET", "1")  # read when Triton is imported, by whichever test comes first

import numpy as np
import pytest

pytest.importorskip("triton", reason="triton is not installed: no kernel is emulated")

from closeness import assert_close
from kernel_cases import EDGES, FLOATS, exempt

import gputape as gt
from gputape import backend as backends
from gputape import kernels, registry
from gputape.backend import NP_DTYPE, Backend, aval_of
from gputape.dispatch import call
from gputape.functions import Execute
from gputape.kernels import pool, tiles
from gputape.testing import apply, inputs_of

EMULATED, CPU = backends.backend("emulated"), backends.backend("cpu")
OPS = [
    op
    for op in registry.ops()
    if op.name in EMULATED.bodies and (op.samples or op.name in EDGES) and op.compose is None
]
CASES = [
    pytest.param(op, s, dtype, id=f"{op.name}-{k}-{dtype}")
    for op in OPS
    for k, s in enumerate((*op.samples, *EDGES.get(op.name, ())))
    for dtype in FLOATS
    if dtype == "float32" or k < len(op.samples)
]


def inputs_in(op, sample, dtype):
    """The sample's arrays with float32 replaced by `dtype`; other dtypes stay what they are."""
    declared = {getattr(x, "dtype", None) for x in sample.inputs} - {None}
    with np.errstate(over="ignore"):  # float16 ends at 65504
        return inputs_of(op, sample, None if declared & {"float64", "bfloat16", "float16"} else dtype)


def outputs(backend, op, inputs, attrs):
    """All outputs of a primitive op on a backend."""
    at = op.at(tuple(None if x is None else aval_of(x) for x in inputs), op.values(attrs))
    if at.casts is not None:  # promotion, which is a node of its own
        joined = [x if c is None else x.astype(NP_DTYPE[c]) for x, c in zip(inputs, at.casts, strict=True)]
        return outputs(backend, op, joined, attrs)
    return backend.call(at)(tuple(inputs))


def widened(x):
    return x if x is None or x.dtype.kind in "iub" else x.astype(np.float64)


@pytest.mark.parametrize("op, sample, dtype", CASES)
def test_kernel_agrees_with_the_float64_body_and_reruns_bit_for_bit(op, sample, dtype):
    inputs = inputs_in(op, sample, dtype)
    reason = exempt(op, sample, inputs)
    if reason:
        with pytest.raises(gt.BackendError, match=reason):
            outputs(EMULATED, op, inputs, sample.attrs)
        return
    before = [None if x is None else x.copy() for x in inputs]
    found = outputs(EMULATED, op, inputs, sample.attrs)
    again = outputs(EMULATED, op, inputs, sample.attrs)  # the programs run in another order
    # Options that follow the dtype (the eps of rms_norm) are those of the kernel's run.
    attrs = op.at(tuple(None if x is None else aval_of(x) for x in inputs), op.values(sample.attrs)).attrs
    exact = outputs(CPU, op, [widened(x) for x in inputs], attrs)
    for y, twin, e in zip(found, again, exact, strict=True):
        if e is None:
            assert y is None and twin is None
            continue
        assert y.tobytes() == twin.tobytes()
        assert_close(y, e, inputs)
    for x, b in zip(inputs, before, strict=True):
        assert x is None or x.tobytes() == b.tobytes()


class Mixed(Backend):
    """The kernels, and the cpu bodies of the ops around them that have no kernel yet (float32 only)."""

    def __init__(self):
        self.name, self.xp, self.widens, self.calls = "mixed", EMULATED.xp, False, {}
        on_numpy = {n: self._numpy(b) for n, b in CPU.bodies.items()}
        self.bodies = on_numpy | EMULATED.bodies

    @staticmethod
    def _numpy(body):
        def run(rt, *arrays, **attrs):
            return body(np, *arrays, **attrs)

        run.__dict__.update(body.__dict__)
        return run


backends._backends["mixed"] = Mixed()


def differentiable(op, sample):
    """Whether the kernels can be asked for a gradient at this sample: float32 in, and floats out."""
    inputs = inputs_of(op, sample)
    if not sample.grad or op.vjp is None or exempt(op, sample, inputs):
        return False
    at = op.at(tuple(None if x is None else aval_of(x) for x in inputs), op.values(sample.attrs))
    if at.casts is None and (at.out is None or not at.out.is_float):
        return False  # an index, or a gradient that nobody asked for
    kinds = {str(x.dtype) for x in inputs if x is not None}
    return "float32" in kinds and not kinds & {"float16", "bfloat16", "float64"}


GRADIENTS = [
    pytest.param(op, s, id=f"{op.name}-{k}")
    for op in OPS
    for k, s in enumerate((*op.samples, *EDGES.get(op.name, ())))
    if differentiable(op, s)
]


@pytest.mark.parametrize("op, sample", GRADIENTS)
def test_gradients_through_kernels_agree_with_float64(op, sample):
    inputs = inputs_of(op, sample)
    present = [k for k, x in enumerate(inputs) if x is not None]

    def f(*xs):
        full = [None] * len(inputs)
        for k, x in zip(present, xs, strict=True):
            full[k] = x
        y = apply(lambda *a, **k: call(op.name, *a, **k), op, full, sample.attrs)
        return next(v for v in y if v is not None) if isinstance(y, tuple) else y

    def gradients(device, arrays):
        with gt.device(device):
            y, pull = gt.vjp(f, *arrays)
            cotangent = np.random.default_rng(7).standard_normal(np.shape(y)).astype(np.float32)
            return pull(cotangent.astype(y.dtype))

    args = [inputs[k] for k in present]
    for dx, exact in zip(gradients("mixed", args), gradients("cpu", [widened(x) for x in args]), strict=True):
        assert dx.dtype != np.float64
        assert_close(np.asarray(dx), np.asarray(exact), args, factor=16)


def pooled(x, kernel_size, stride, padding, dilation, shape):
    """Max pooling over two axes by its definition, one window at a time."""
    y, index = np.empty(shape, x.dtype), np.empty(shape, np.int32)
    for at in np.ndindex(*shape):
        taps = [
            (row, col)
            for i in range(kernel_size[0])
            for j in range(kernel_size[1])
            for row in [at[-2] * stride[0] - padding[0] + i * dilation[0]]
            for col in [at[-1] * stride[1] - padding[1] + j * dilation[1]]
            if 0 <= row < x.shape[-2] and 0 <= col < x.shape[-1]
        ]
        values = [x[(*at[:-2], *tap)] for tap in taps]
        nan = [k for k, v in enumerate(values) if np.isnan(v)]
        best = nan[-1] if nan else int(np.argmax(values))
        y[at], index[at] = values[best], taps[best][0] * x.shape[-1] + taps[best][1]
    return y, index


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(
    "shape, kernel_size, stride, padding, dilation, out",
    [
        ((2, 3, 7, 9), (2, 2), (2, 2), (0, 0), (1, 1), (3, 4)),
        ((3, 11, 13), (3, 3), (1, 2), (1, 1), (1, 1), (11, 7)),
        ((1, 2, 8, 5), (3, 2), (2, 1), (1, 1), (1, 2), (4, 5)),
        ((1, 6, 5), (2, 3), (3, 3), (0, 0), (1, 1), (2, 2)),  # ceil_mode: the last window is cut off
        ((0, 4, 4), (2, 2), (2, 2), (0, 0), (1, 1), (2, 2)),
        ((1, 1, 1), (1, 1), (1, 1), (0, 0), (1, 1), (1, 1)),
        ((1, 1, 257), (1, 2), (1, 1), (0, 0), (1, 1), (1, 256)),
    ],
)
def test_max_pooling_by_its_definition(shape, kernel_size, stride, padding, dilation, out, dtype):
    x = np.random.default_rng(0).integers(-4, 5, shape).astype(NP_DTYPE[dtype])  # full of ties
    if x.size > 9:
        x.reshape(-1)[[3, 4]] = np.nan
    shape_out = (*shape[:-2], *out)
    window = {"kernel_size": kernel_size, "stride": stride, "padding": padding, "dilation": dilation}
    rt = EMULATED.xp
    y, index, dx = rt.empty(shape_out, x.dtype), rt.empty(shape_out, np.int32), rt.empty(shape, x.dtype)
    pool.max_pool_nd(rt, y, index, x, ceil_mode=True, **window)
    expected, where = pooled(x, kernel_size, stride, padding, dilation, shape_out)
    np.testing.assert_array_equal(y.astype(np.float32), expected.astype(np.float32))
    np.testing.assert_array_equal(index, where)
    dy = np.random.default_rng(1).integers(-9, 10, shape_out).astype(x.dtype)  # small integers: sums are exact
    pool.max_pool_nd_bwd(rt, dx, dy, index, spatial=shape[-2:], **window)
    scattered = np.zeros((int(np.prod(shape[:-2])), shape[-2] * shape[-1]), np.float32)
    planes = np.arange(len(scattered)).reshape(*shape[:-2], 1, 1)
    np.add.at(scattered, (planes, index), dy.astype(np.float32))
    np.testing.assert_array_equal(dx.astype(np.float32), scattered.reshape(shape))


def test_only_needed_gradients_are_computed():
    op = registry.get("layer_norm_bwd")
    x, w = np.float32([[1, 2, 4], [0, -1, 5]]), np.float32([1, 2, 3])
    _, mean, rstd = outputs(EMULATED, registry.get("layer_norm"), (x, w, w), {"normalized_shape": (3,)})
    dy = np.float32([[1, 0, 2], [3, 1, 1]])
    full = outputs(EMULATED, op, (dy, x, w, mean, rstd, None), {"normalized_shape": (3,), "needs": (True, True, True)})
    for k in range(3):
        needs = tuple(i == k for i in range(3))
        part = outputs(EMULATED, op, (dy, x, w, mean, rstd, None), {"normalized_shape": (3,), "needs": needs})
        assert [p is not None for p in part] == list(needs)
        assert part[k].tobytes() == full[k].tobytes()


def test_a_gradient_of_attention_is_the_same_alone():
    q, k, dy = (np.random.default_rng(n).standard_normal((1, 2, 35, 9)).astype(np.float32) for n in range(3))
    attrs = dict(is_causal=True, scale=None, dropout_p=0.0, offset=0)
    y, lse = outputs(EMULATED, registry.get("attention"), (q, k, k, None, None), attrs)
    attrs["scale"] = 1 / 3
    arrays = (dy, q, k, k, None, y, lse, None)
    full = outputs(EMULATED, registry.get("attention_bwd"), arrays, attrs | {"needs": (True, True, True, False)})
    for n in range(3):
        needs = tuple(i == n for i in range(4))
        part = outputs(EMULATED, registry.get("attention_bwd"), arrays, attrs | {"needs": needs})
        assert [p is not None for p in part] == list(needs)
        np.testing.assert_allclose(part[n], full[n], rtol=1e-5, atol=1e-6)


def test_views_need_no_kernel():
    F = Execute(EMULATED)
    x = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    y = F.permute(x, (2, 0, 1))
    assert np.shares_memory(x, y) and np.array_equal(y, x.transpose(2, 0, 1))
    assert F.expand(np.empty((0, 1), NP_DTYPE["bfloat16"]), (0, 5)).shape == (0, 5)


def test_a_missing_kernel_is_named(monkeypatch):
    monkeypatch.delitem(EMULATED.bodies, "add")
    monkeypatch.setattr(EMULATED, "calls", {})
    with pytest.raises(gt.BackendError, match=r"add: no body on 'emulated'.*gputape/kernels"):
        Execute(EMULATED).add(np.float32([1]), np.float32([2]))


def test_every_host_function_is_an_op():
    assert set(EMULATED.bodies) <= {op.name for op in registry.ops()}


# --- tiles ------------------------------------------------------------------------------------------------------------


def test_tiles_are_powers_of_two_and_cover_every_shape():
    assert [tiles.power_of_2(n) for n in (0, 1, 2, 3, 1024, 1025)] == [1, 1, 2, 4, 1024, 2048]
    for cols in (*range(1, 5000, 7), *range(16, 5000, 48)):
        rows, block, warps = tiles.rows(cols)
        assert rows * block <= 4096 and warps in (4, 8)
        assert block >= min(cols, 4096) if cols % 16 == 0 else (rows, block, warps) == tiles.ROWS[0]
    for n in (0, 1, 31, 32, 33, 2047, 2048, 2049, 10**6):
        groups, per_group = tiles.row_groups(n)
        assert 1 <= groups <= 64 and groups * per_group >= n and per_group % 16 == 0


def test_split_sums_cover_all_products_in_whole_blocks():
    for programs in (0, 1, 2, 7, 64, 128, 5000):
        for k in (0, 1, 31, 1023, 1024, 1025, 4097, 10**6):
            splits, each = tiles.split_sums(programs, k, 32)
            assert each % 32 == 0 and splits * each >= k and (splits - 1) * each < max(k, 1)
            assert splits == 1 or (k >= tiles.LONG and each >= tiles.SHORTEST and splits * programs <= tiles.PROGRAMS)
    assert tiles.split_sums(4, 4096, 32)[0] == 16


# --- the device code --------------------------------------------------------------------------------------------------

DEVICE_FILES = sorted((Path(kernels.__file__).parent / "triton").glob("*.py"))


def slips(tree):
    """What a device file must not do: block masks joined by Python's and/or/not, a masked load without `other`, a dot
    without its input precision, a floating-point atomic."""
    for node in ast.walk(tree):
        where = f"line {getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.BoolOp) or (isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not)):
            yield f"{where}: and/or/not on blocks"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            given = {k.arg for k in node.keywords}
            if node.func.attr == "load" and (len(node.args) > 1 or ("mask" in given and "other" not in given)):
                yield f"{where}: masked load without other="
            if node.func.attr == "dot" and "input_precision" not in given:
                yield f"{where}: dot without input_precision="
            if node.func.attr.startswith("atomic_") and node.func.attr != "atomic_min":
                yield f"{where}: {node.func.attr}"
        if isinstance(node, ast.Compare) and len(node.ops) > 1:
            yield f"{where}: chained comparison"


@pytest.mark.parametrize("path", DEVICE_FILES, ids=lambda p: p.stem)
def test_device_code_keeps_the_grammar(path):
    assert list(slips(ast.parse(path.read_text()))) == []


@pytest.mark.parametrize(
    "source",
    [
        "a = m and n",
        "a = not m",
        "x = tl.load(p, mask=m)",
        "x = tl.load(p, m)",
        "y = tl.dot(a, b)",
        "tl.atomic_add(p, x)",
        "a = 0 <= i < n",
    ],
)
def test_the_grammar_check_sees(source):
    assert list(slips(ast.parse(source)))


def test_device_folders_hold_device_code_only():
    names = {p.name for p in (Path(kernels.__file__).parent / "cuda").iterdir() if not p.name.startswith("__")}
    assert {Path(n).suffix for n in names} <= {".cu", ".h"}
    for path in DEVICE_FILES:
        tree = ast.parse(path.read_text())
        kinds = {type(node) for node in tree.body} - {ast.Expr, ast.Import, ast.FunctionDef}
        assert not kinds, f"{path.name}: {kinds}"
