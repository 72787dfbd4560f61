"""Bodies from outside the package. docs/adding-an-op.md holds whole ops, which test_docs.py runs."""

from __future__ import annotations

import numpy as np
import pytest

import gputape as gt
from gputape import backend
from gputape.samples import Sample, t


@pytest.fixture
def op(registering):
    return gt.register(
        name="test_half",
        doc="x / 2",
        signature="input",
        inputs=("input",),
        rule=lambda input: input,
        vjp=lambda F, at, dy: F.scale(dy, 0.5),
        samples=(Sample(t(3)),),
    )


def test_half(xp, y, input):
    xp.multiply(input, 0.5, out=y)


test_half.__test__ = False


def test_a_function_a_decorator_and_a_name(op):
    with pytest.raises(gt.BackendError, match=r"test_half: no body on 'cpu' .* gt.register_body\('cpu', …\)"):
        gt.test_half(1.0)
    assert gt.register_body("cpu")(test_half) is test_half
    assert gt.test_half(3.0) == 1.5
    gt.check_grads(gt.test_half, [np.ones(3)], order=2)


def test_a_body_is_imported_when_it_first_runs(op):
    gt.register_body("cpu", "no_such_module:test_half")
    with pytest.raises(gt.BackendError, match="'no_such_module:test_half' cannot be imported"):
        gt.test_half(1.0)


def test_a_backend_that_is_loaded_later_has_it_too(op):
    gt.register_body("cpu", lambda xp, y, x: test_half(xp, y, x), "test_half")
    assert "test_half" in backend.Backend("cpu", np, ".cpu_fallback", widens=True).bodies


def test_what_does_not_fit_is_refused(op):
    for args, pattern in (
        (("cuda", test_half), "'cuda' is not a family of bodies"),
        (("cpu", 3), "3 is no function"),
        (("cpu", "some.module"), "'some.module' is no function"),
        (("cpu", test_half, "test_hal"), "Did you mean test_half"),
        (("cpu", test_half, "exp"), "exp has a body on 'cpu' already"),
    ):
        with pytest.raises(gt.ArgumentError, match=pattern):
            gt.register_body(*args)
    gt.register_body("cpu", test_half)
    with pytest.raises(gt.ArgumentError, match="already"):
        gt.register_body("cpu", test_half)
