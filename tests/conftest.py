"""Two workers on two cores: each gets one thread of NumPy's BLAS, whose threads otherwise wait for each other. And
fixtures of several modules."""

import importlib
import itertools
import os
from pathlib import Path

import pytest

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # read when NumPy is imported
pytest.register_assert_rewrite("rewriting")

_numbers = itertools.count()


@pytest.fixture
def rt():
    from gputape.kernels import runtime

    return runtime.Emulated()


@pytest.fixture
def mutant(tmp_path, monkeypatch):
    """`mutant(path or text, old, new, …)`: device code with each `old` replaced, as a module name or a .cu path."""
    from gputape import kernels

    sources = Path(kernels.__file__).parent
    monkeypatch.syspath_prepend(str(tmp_path))

    def make(path, *changes):
        text = path if "\n" in path else (sources / path).read_text()
        for old, new in zip(changes[::2], changes[1::2], strict=True):
            assert old in text, f"{old!r} is not in {path}"
            text = text.replace(old, new)
        suffix = ".cu" if "__global__" in text else ".py"
        file = tmp_path / f"mutant_{next(_numbers)}{suffix}"
        file.write_text(text)
        importlib.invalidate_caches()
        return str(file) if suffix == ".cu" else file.stem

    return make


@pytest.fixture
def split(monkeypatch):
    """Sets the number of threads; steps of any size are split."""
    import gputape as gt
    from gputape import parts, threads

    monkeypatch.setattr(threads, "_chosen", None)
    monkeypatch.setattr(parts, "LOCKED", 1e-12)
    monkeypatch.setattr(parts, "SMALL", 0.0)
    with gt.device("cpu"):
        yield gt.set_num_threads


@pytest.fixture
def registering():
    """Ops that the test registers, and their bodies, are gone after it."""
    import gputape
    from gputape import backend, registry
    from gputape.dispatch import FUNCTIONS
    from gputape.functions import Functions

    before = set(registry._ops)
    yield
    bodies = [*backend._registered.values(), *(b.bodies for b in backend._backends.values())]
    for name in set(registry._ops) - before:
        for table in (registry._ops, FUNCTIONS, vars(gputape), *bodies):
            table.pop(name, None)
        if name in vars(Functions):
            delattr(Functions, name)


@pytest.fixture
def forget(monkeypatch):
    """`forget()`: no memory of dead arrays is left to be used again, which tracemalloc would not count."""
    from gputape import recycle

    def drop():
        monkeypatch.setattr(recycle, "_recycled", recycle._Recycled())

    drop()
    return drop
