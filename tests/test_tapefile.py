"""A tape saves, loads, replays and is drawn from its nodes alone."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

import gputape as gt
from gputape import Tape


@pytest.fixture
def made():
    tape, x = Tape().leaf(np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4), name="x")
    tape, k = tape.leaf([1, 2, 3], requires_grad=False)
    tape, (m, _) = tape.op("max", x, dim=1)
    tape, y = tape.op("mul", m, k)
    tape, _ = tape.op("cast", y, "bfloat16")
    tape, _ = tape.op("permute", x, (1, 0))
    tape, s = tape.sum(y)
    return tape, x, s


def test_saved_and_loaded_it_is_the_same_tape(made, tmp_path):
    tape, x, s = made
    tape.save(tmp_path / "t.safetensors")
    again = Tape.load(tmp_path / "t.safetensors")
    assert str(again) == str(tape)
    for a, b in zip(again, tape, strict=True):
        assert all(u.tobytes() == v.tobytes() and u.dtype == v.dtype for u, v in zip(a.values, b.values, strict=True))
        assert a.line == b.line
    np.testing.assert_array_equal(again.backward(int(s))[x], tape.backward(s)[x])
    with pytest.raises(gt.TapeError, match="another tape"):
        again.backward(s)


def test_replayed_on_other_leaves_it_computes_anew(made):
    tape, x, s = made
    other = np.flip(tape.value(x)) * 2
    again = tape.replay({x: other})
    assert str(again) == str(tape) and [n.line for n in again] == [n.line for n in tape]
    np.testing.assert_allclose(again.value(s), (other.max(1) * [1, 2, 3]).sum(), rtol=1e-6)
    assert tape.value(s) != again.value(s)
    with pytest.raises(gt.TapeError, match="not a leaf"):
        tape.replay({s: 1.0})
    with pytest.raises(gt.ShapeError, match="replay: leaf 0"):
        tape.replay({x: [1.0]})


def test_a_script_may_replay_at_its_top_level():
    script = "from gputape import Tape; t, x = Tape().leaf(4.0); t, y = t.sqrt(x); print(t.replay({x: 9.0}).value(y))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout == "3.0\n", done.stderr


def test_drawn_it_shows_every_node_and_edge(made):
    tape, _, _ = made
    text = tape.dot()
    assert text.count("[label=") == len(tape)
    assert text.count("->") == sum(len(n.inputs) for n in tape)


def test_damaged_and_foreign_files_are_refused(made, tmp_path):
    tape, _, _ = made
    path = tmp_path / "t.safetensors"
    tape.save(path)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(gt.CheckpointError, match="cannot be read as a tape"):
        Tape.load(path)
    path.write_bytes(b"hello")
    with pytest.raises(gt.CheckpointError):
        Tape.load(path)
    with pytest.raises(gt.CheckpointError):
        Tape.load(tmp_path / "missing")
    from safetensors.numpy import save_file

    save_file({"w": np.ones(3)}, path)
    with pytest.raises(gt.CheckpointError, match="not a saved tape"):
        Tape.load(path)


def test_a_file_that_cannot_be_written_is_an_error_of_ours(tmp_path):
    tape, _ = Tape().leaf(1.0)
    with pytest.raises(gt.CheckpointError, match="save: cannot write"):
        tape.save(tmp_path / "no" / "folder")
