"""Two workers on two cores: each gets one thread of NumPy's BLAS, whose threads otherwise wait for each other. And the
fixtures of the tests of the emulator."""

import importlib
import itertools
import os
from pathlib import Path

import pytest

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # read when NumPy is imported

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
