"""What all timings run under: NumPy's BLAS at its best, and one core, or two with `--two-cores`."""

from __future__ import annotations

import os

import pytest

SLOWING = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--two-cores", action="store_true", help="time training steps with two threads, on two cores")


def pytest_configure(config: pytest.Config) -> None:
    if found := [name for name in SLOWING if name in os.environ]:
        raise pytest.UsageError(f"{', '.join(found)} is set, which slows NumPy's BLAS. Run: make perf, or unset it.")
    cores = 2 if config.getoption("--two-cores") else 1
    if hasattr(os, "sched_setaffinity"):  # JAX and compilers start as many threads as they see cores
        free = sorted(os.sched_getaffinity(0))
        if len(free) < cores:
            raise pytest.UsageError(f"--two-cores: this process may run on core {free[0]} only. Leave the option out.")
        os.sched_setaffinity(0, free[-cores:])


@pytest.fixture(scope="session")
def threads(request: pytest.FixtureRequest) -> int:
    """Threads that each library gets."""
    return 2 if request.config.getoption("--two-cores") else 1
