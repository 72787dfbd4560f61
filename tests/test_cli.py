"""The command line, as its users run it."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

import gputape
from gputape import doctor, modelfile, registry
from gputape.backend import backend
from gputape.checks import NOT_ASKED, checks
from gputape.cli import main
from gputape.samples import Sample, t

QUICK = ["--epochs", "1", "--no-progress"]


def run(capsys, *args):
    """(exit code, stdout, stderr) of one command."""
    code = main([str(a) for a in args])
    out, err = capsys.readouterr()
    return code, out, err


def test_version_and_help(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--version"])
    assert stopped.value.code == 0 and gputape.__version__ in capsys.readouterr().out
    with pytest.raises(SystemExit) as stopped:
        main([])
    assert stopped.value.code == 2


def test_train_then_eval(capsys, tmp_path):
    code, out, _ = run(capsys, "train", "digits-mlp", *QUICK, "--out", tmp_path / "r")
    assert code == 0
    assert re.search(r"epoch 1/1  loss \d\.\d+  accuracy +\d+\.\d\d %  [\d,]+ images/s", out)
    accuracy = re.search(r"test accuracy \d+\.\d\d % \(\d+ of 450 images\)", out)
    assert accuracy and str(tmp_path / "r") in out
    code, out, _ = run(capsys, "eval", tmp_path / "r")
    assert code == 0 and accuracy[0] in out and "the same as saved" in out


def test_several_seeds_print_all_accuracies_and_the_mean(capsys, tmp_path):
    code, out, _ = run(capsys, "train", "digits-mlp", *QUICK, "--steps", "3", "--seeds", "0-1,4", "--out", tmp_path)
    assert code == 0
    found = [float(x) for x in re.findall(r"^seed \d: test accuracy (\S+) %$", out, re.M)]
    mean = re.search(r"mean of 3 seeds: test accuracy (\S+) %", out)
    assert len(found) == 3 and abs(float(mean[1]) - sum(found) / 3) < 0.01
    assert (tmp_path / "seed-4" / "model.safetensors").exists()


def test_the_default_folder_is_new_each_time(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        assert run(capsys, "train", "digits-mlp", *QUICK, "--steps", "1")[0] == 0
    assert sorted(p.name for p in Path("runs").iterdir()) == ["digits-mlp", "digits-mlp-2"]


def bad_runs(folder):
    """Folders that are no runs, with what is said of them."""
    (folder / "empty").mkdir()
    yield folder / "missing", "is not a folder"
    yield folder / "empty", "is not a file"
    (folder / "damaged").mkdir()
    (folder / "damaged" / "model.safetensors").write_bytes(b"garbage")
    yield folder / "damaged", "damaged"
    (folder / "foreign").mkdir()
    modelfile.save(folder / "foreign" / "model.safetensors", {"w": [1.0]}, model="other")
    yield folder / "foreign", "not a model of `gputape train`"


def test_errors_are_one_line_without_a_traceback(capsys, tmp_path):
    (tmp_path / "file").touch()
    cases = [
        (["train", "digits-mpl"], "Did you mean digits-mlp?"),
        (["train", "--lr", "nan"], "lr must be finite"),
        (["train", "--epochs", "0"], "epochs must be at least 1"),
        (["train", "--out", tmp_path / "file" / "x"], "cannot write to"),
        (["train", "--device", "tpu"], "'tpu' is not a device"),
        (["train", "--resume", tmp_path, "--lr", "1"], "Leave --lr out"),
        *((["eval", folder], message) for folder, message in bad_runs(tmp_path)),
        (["train", "--resume", tmp_path / "empty"], "is not a file"),
    ]
    for args, message in cases:
        code, _, err = run(capsys, *args)
        assert code == 1, args
        assert message in err and err.startswith("gputape: ") and err.count("\n") == 1, err
    with pytest.raises(SystemExit):
        main(["train", "--seeds", "x"])
    assert "not a list of seeds" in capsys.readouterr().err


def test_training_in_16_bit(capsys, tmp_path):
    for precision in ("bf16", "fp16"):
        out = tmp_path / precision
        args = ["train", "digits-mlp", *QUICK, "--precision", precision, "--steps", "2", "--out", out]
        assert run(capsys, *args)[0] == 0
        assert json.loads((out / "config.json").read_text())["options"]["precision"] == precision
        assert run(capsys, "eval", out)[0] == 0
    code, _, err = run(capsys, "train", "--precision", "half", "--out", tmp_path / "x")
    assert code == 1 and err.startswith("gputape: precision: 'half' is not known. Use one of") and err.count("\n") == 1
    assert "Leave --precision out" in run(capsys, "train", "--resume", out, "--precision", "bf16")[2]


def test_a_run_is_not_overwritten(capsys, tmp_path):
    args = ["train", "digits-mlp", *QUICK, "--steps", "1", "--out", tmp_path]
    assert run(capsys, *args)[0] == 0
    code, _, err = run(capsys, *args)
    assert code == 1 and "holds a run already" in err


def test_a_missing_extra_is_named(capsys, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "tqdm" else found(name, *a))
    code, _, err = run(capsys, "train")
    assert code == 1 and "tqdm is missing" in err and "pip install 'gputape[train]'" in err


def test_ctrl_c_stops_with_a_checkpoint_that_can_be_used(tmp_path):
    folder = tmp_path / "r"
    command = [sys.executable, "-m", "gputape", "train", "digits-mlp", "--epochs", "100000", "--out", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not (folder / "config.json").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert f"gputape train --resume {folder}" in out and f"gputape eval {folder}" in out
    assert "Traceback" not in err
    env = os.environ | {"PYTHONWARNINGS": "error"}
    ended = subprocess.run([*command[:3], "eval", str(folder)], capture_output=True, text=True, env=env)
    assert ended.returncode == 0 and "the same as saved" in ended.stdout, ended.stderr


def test_ops_lists_every_op_and_its_gaps(capsys):
    code, out, _ = run(capsys, "ops")
    rows = {line.split()[0]: line for line in out.splitlines()[1:-1]}
    assert code == 0 and set(rows) == {op.name for op in registry.ops()}
    assert f"{len(rows)} ops, 0 gaps" in out


def test_no_op_lacks_a_check(capsys):
    code, out, _ = run(capsys, "ops", "--missing")
    assert code == 0 and out == f"{len(list(registry.ops()))} ops, 0 gaps (-)\n"


def test_a_card_that_lacks_checks_is_listed(capsys, monkeypatch):
    sparse = replace(registry.get("exp"), samples=[Sample(t(3))], errors=(), perf=())
    monkeypatch.setitem(registry._ops, "exp", sparse)
    code, out, _ = run(capsys, "ops", "--missing")
    head, row, total = out.splitlines()
    found = dict(zip(re.split("  +", head), row.split(), strict=True))
    assert code == 1 and total.endswith(" 5 gaps (-)")
    assert found["op"] == "exp" and found["samples"] == "1"
    assert [found[k] for k in ("errors", "size 0", "strided", "float64", "perf")] == ["-"] * 5


def test_checks_that_cannot_apply_are_told_from_the_card():
    for name, check in {
        "one_hot": "float64",  # integers only
        "adam_schedule": "size 0",  # scalars only
        "sgd_schedule": "strided",
        "random_bits": "float64",
        "expand": "perf",  # a view
        "mm": "perf",  # composed
        "relu_bwd": "errors",  # called by gradients only
        "safe_log": "torch",  # not in PyTorch
    }.items():
        assert checks(registry.get(name))[check] == NOT_ASKED


def test_doctor_reports_devices_and_remedies(capsys):
    code, out, _ = run(capsys, "doctor")
    assert code == 0
    for part in ("numpy", "safetensors", "default device: ", "emulated", "cuda"):
        assert part in out
    assert re.search(r"\n  cpu +usable, bodies of \d+ ops\n", out)


@pytest.mark.parametrize(
    "there, told",
    [
        ({}, r"\n  cupy +missing: pip install 'gputape\[gpu\]' or 'gputape\[gpu-cuda13\]'"),
        ({"cupy-cuda13x": "14.2.0"}, r"\n  cupy-cuda13x +14\.2\.0\n(?!.*broken)"),
        (
            {"cupy-cuda12x": "14.2.0", "cupy-cuda13x": "14.1.0"},
            r"broken by each other: pip uninstall cupy-cuda12x cupy-",
        ),
    ],
)
def test_doctor_names_the_package_of_cupy_that_is_there(capsys, monkeypatch, there, told):
    """Telling who has the one for CUDA 13 to install that for CUDA 12 would break both."""
    monkeypatch.setattr(doctor, "_version", lambda name: there.get(name, "1.0" if "cupy" not in name else None))
    assert re.search(told, run(capsys, "doctor")[1])


def test_doctor_tries_each_device(capsys, monkeypatch):
    def broken(*args):
        raise gputape.BackendError("add: it is broken.\nAnd more.")

    monkeypatch.setitem(backend("cpu").bodies, "add", broken)
    backend("cpu").calls.clear()
    out = run(capsys, "doctor")[1]
    backend("cpu").calls.clear()
    assert re.search(r"\n  cpu +not usable: add: it is broken\.\n", out)


README = Path(__file__).parent.parent / "README.md"


@pytest.mark.parametrize("source", re.findall(r"```python\n(.*?)```", README.read_text(), re.S), ids=["gt", "tape"])
def test_the_readme_runs_as_shown(source):
    scope: dict[str, object] = {}
    exec(source, scope)
