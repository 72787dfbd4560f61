"""The node tests that come with ONNX, for every operator in `onnx_backend.OPERATORS`: data that we did not write."""

from __future__ import annotations

import warnings
from collections import Counter
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import numpy as np
import onnx_backend
import onnx_elements  # noqa: F401 - enters its operators
import onnx_layers  # noqa: F401 - enters its operators
import onnx_places  # noqa: F401 - enters its operators
import onnx_windows  # noqa: F401 - enters its operators
import pytest

import gputape as gt

# Test name (a pattern where several share the reason) → why gputape does not pass it.
EXCLUDED = {
    "test_training_dropout*default*": "the expected mask is drawn by NumPy's generator",
    "test_training_dropout": "the expected mask is drawn by NumPy's generator",
    "test_training_dropout_mask": "the expected mask is drawn by NumPy's generator",
    "test_scatter_elements_with_reduction_m*": "scatter takes sums only",
    "test_scatternd_m*": "scatter takes sums only",
    "test_unique_not_sorted_without_axis": "unique sorts, as PyTorch's does",
    "test_reduce_m??_empty_set*": "the maximum of nothing is an error, as in PyTorch",
}

# Expected values that are printed with four decimals.
ROUNDED = ("test_averagepool_2d_ceil_last_window_starts_on_pad",)

EPS = {"float64": 2.0**-52, "float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}


class Case(NamedTuple):
    name: str
    op_type: str
    attributes: dict[str, Any]
    inputs: list[Any]
    expected: list[Any]
    outputs: list[str]
    rtol: float


def collect() -> list[Case]:
    """Every node test that is one node of an operator we translate; others are functions expanded into many nodes."""
    onnx = pytest.importorskip("onnx")
    state = np.random.get_state()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the generators divide by zero and use what newer NumPys deprecate
        from onnx.backend.test.case.node import collect_testcases

        tests = collect_testcases(None)
    np.random.set_state(state)
    cases = []
    for test in tests:
        graph = test.model.graph
        node = graph.node[0]
        if len(graph.node) > 1 or node.op_type not in onnx_backend.OPERATORS or "_expanded" in test.name:
            continue
        ((given, expected),) = test.data_sets
        arrays = iter([onnx.numpy_helper.to_array(x) if isinstance(x, onnx.TensorProto) else x for x in given])
        cases.append(
            Case(
                test.name,
                node.op_type,
                {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute},
                [next(arrays) if name else None for name in node.input],
                [onnx.numpy_helper.to_array(x) if isinstance(x, onnx.TensorProto) else x for x in expected],
                list(node.output),
                test.rtol,
            )
        )
    return cases


CASES = collect()


def exclusion(case: Case) -> str | None:
    """Why a case is not run, or None."""
    name = onnx_backend.unsupported_type([x for x in (*case.inputs, *case.expected) if x is not None])
    if name is not None:
        return f"there is no {name} in gputape"
    return next((why for pattern, why in EXCLUDED.items() if fnmatchcase(case.name, pattern)), None)


def check(case: Case) -> None:
    with gt.device("cpu"):
        outs = onnx_backend.run_node(case.op_type, case.inputs, case.attributes, len(case.outputs))
    wanted = [k for k, name in enumerate(case.outputs) if name]
    assert len(outs) > max(wanted), f"{len(outs)} outputs, {case.outputs} asked for"
    for k, want in zip(wanted, case.expected, strict=True):
        got, want = outs[k], np.asarray(want)
        assert got.shape == want.shape and got.dtype == want.dtype, (
            f"{got.dtype}{got.shape}, not {want.dtype}{want.shape}"
        )
        if want.dtype.name not in EPS:
            np.testing.assert_array_equal(got, want)
            continue
        arrays = [x for x in case.inputs if x is not None]
        eps = max(EPS[x.dtype.name] for x in (want, *arrays) if x.dtype.name in EPS)
        tol = case.rtol if case.name in ROUNDED else 4 * eps * (1 + np.sqrt(max(x.size for x in arrays)))
        want = want.astype(np.float64)
        scale = np.max(np.abs(want), where=np.isfinite(want), initial=0.0)
        np.testing.assert_allclose(got.astype(np.float64), want, rtol=tol, atol=tol * scale)


@pytest.mark.parametrize("case", [pytest.param(c, id=c.name) for c in CASES if exclusion(c) is None])
def test_node(case):
    check(case)


def test_a_wrong_operator_is_seen(monkeypatch):
    case = next(c for c in CASES if c.name == "test_relu")
    for wrong in (lambda x: gt.abs(x), lambda x: gt.cast(gt.relu(x), "float64"), lambda x: gt.add(gt.relu(x), 1e-4)):
        monkeypatch.setitem(onnx_backend.OPERATORS, "Relu", wrong)
        with pytest.raises(AssertionError):
            check(case)


def test_every_exclusion_is_needed():
    idle = []
    for pattern in EXCLUDED:
        for case in CASES:
            if fnmatchcase(case.name, pattern):
                try:
                    check(case)
                except Exception:
                    continue
                idle.append(case.name)
    assert not idle, f"{idle}: excluded, but they pass. Take them out of EXCLUDED."


def test_counts(capsys):
    run, left = Counter(), Counter()
    for case in CASES:
        (run if exclusion(case) is None else left)[case.op_type] += 1
    idle = sorted(set(onnx_backend.OPERATORS) - set(run))
    with capsys.disabled():
        print(f"\nONNX node tests: {run.total()} run, {left.total()} excluded. Operator: run/excluded")
        print(", ".join(f"{op} {run[op]}/{left[op]}" for op in sorted(run | left)))
        for why, n in Counter(w for c in CASES if (w := exclusion(c))).most_common():
            print(f"  {n} × {why}")
    assert not idle, f"{idle}: translated, but no node test runs"
