"""Which device is chosen, and what a wrong choice says."""

from __future__ import annotations

import pytest

import gputape as gt
from gputape import backend


@pytest.fixture
def undecided(monkeypatch):
    """A process that has not chosen its default device yet."""
    monkeypatch.setattr(backend, "_default", None)
    monkeypatch.delenv("GPUTAPE_DEVICE", raising=False)
    return monkeypatch


def test_without_an_nvidia_device_the_default_is_the_cpu(undecided):
    undecided.setattr(backend, "nvidia_visible", lambda: False)
    assert backend.current().name == "cpu"


def test_a_visible_but_unusable_device_is_an_error_that_names_the_doctor(undecided):
    undecided.setattr(backend, "nvidia_visible", lambda: True)

    def broken(name):
        raise gt.BackendError("device: the driver is too old. Update it.")

    undecided.setattr(backend, "backend", broken)
    with pytest.raises(gt.BackendError, match=r"visible but cannot be used .*driver is too old.*gputape doctor"):
        backend.current()


def test_the_environment_chooses_and_unknown_names_are_refused(undecided):
    undecided.setenv("GPUTAPE_DEVICE", "cpu")
    assert backend.current().name == "cpu"
    undecided.setattr(backend, "_default", None)
    undecided.setenv("GPUTAPE_DEVICE", "tpu")
    with pytest.raises(gt.BackendError, match="'tpu' is not a device"):
        backend.current()


def test_a_device_block_is_left_again():
    before = backend.current()
    with gt.device("cpu") as chosen:
        assert backend.current() is chosen.backend
    assert backend.current() is before
    with pytest.raises(gt.BackendError, match="not a device"):
        gt.device("gpu")
