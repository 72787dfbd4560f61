"""`gputape warmup`: what it compiles is what launches on a GPU look up; which assembler is taken for which driver."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import gputape as gt
from gputape import cli, warmup
from gputape.kernels.machine import assembler

HAVE = all(importlib.util.find_spec(name) for name in ("triton", "cupy"))
need_compilers = pytest.mark.skipif(not HAVE, reason="triton or cupy is not installed: no kernel is compiled")

# This process may emulate; what compiles needs processes of its own, in Triton's other mode.
COMPILED = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}


def run(*command, **env):
    return subprocess.run([sys.executable, *command], env=COMPILED | env, capture_output=True, text=True)


def counts(made):
    """(compiled, were there, failed, cache folder) of a warm-up."""
    found = re.search(r"^(\d+) compiled, (\d+) were there, (\d+) failed; cache: (.*)$", made.stdout, re.M)
    assert found, made.stdout + made.stderr
    return (*map(int, found.groups()[:3]), found[4])


@need_compilers
def test_warmup_fills_the_cache_once(tmp_path):
    command = ("-m", "gputape", "warmup", "--arch", "sm_80", "sm_90", "--kernel", "sum_groups")
    first = run(*command, GPUTAPE_CACHE_DIR=str(tmp_path), TRITON_INTERPRET="1")
    assert first.returncode == 0, first.stdout + first.stderr
    compiled, there, failed, cache = counts(first)
    assert compiled == len(list(tmp_path.glob("cubin/*.cubin"))) > 0 == there == failed and cache == str(tmp_path)
    second = run(*command, GPUTAPE_CACHE_DIR=str(tmp_path))
    assert counts(second) == (0, compiled, 0, str(tmp_path))


LAUNCH = """
import numpy as np
from gputape.kernels import norm, runtime
from gputape.kernels.machine import cubin

class Pointer:
    def __init__(self, ptr): self.ptr = ptr
class Array:
    def __init__(self, shape, dtype="float32"):
        self.data, self.dtype, self.shape, self.ndim = Pointer(256), np.dtype(dtype), shape, len(shape)
        self.size = int(np.prod(shape))
        self.flags = np.empty(0).flags

cubin._load = lambda found: (lambda *a, **k: print(found.path), found)
rt = runtime.Emulated()
rt.stream = runtime.CudaStream(90)
x, w, rows = Array((64, 256)), Array((256,)), Array((64,))
norm.layer_norm(rt, x, rows, rows, x, w, w, normalized_shape=(256,), eps=1e-5)
"""


@need_compilers
def test_a_launch_on_a_gpu_finds_what_warmup_compiled(tmp_path):
    command = ("-m", "gputape", "warmup", "--arch", "90", "--kernel", "layer_norm")
    made = run(*command, GPUTAPE_CACHE_DIR=str(tmp_path))
    assert made.returncode == 0, made.stdout + made.stderr
    before = set(tmp_path.glob("cubin/*.cubin"))
    launched = run("-c", LAUNCH, GPUTAPE_CACHE_DIR=str(tmp_path))
    assert launched.returncode == 0, launched.stderr
    assert {Path(line) for line in launched.stdout.split()} <= before
    assert set(tmp_path.glob("cubin/*.cubin")) == before


DRY_RUN = """
from gputape import warmup
from gputape.kernels import gate
kernels = {v.kernel for v in gate.variants()}
types = {(v.kernel.source, v.kernel.name, v.types) for v in gate.variants()}
samples = list(warmup.launched("samples"))
def listed(v):
    return v.kernel in kernels and (v.kernel.source, v.kernel.name, v.types) in types
def on_demand(kernel):
    constants = dict(kernel.constants)
    lazy = ("MASK", "DROPOUT", "ACTIVATION", "OTHER", "MAP")
    return ".made_" in kernel.source or any(constants.get(c) for c in lazy)
foreign = [v for v in samples if not listed(v) and not on_demand(v.kernel)]
print(len(samples), len(warmup.needed()), len({v.kernel.name for v in samples}))
for v in foreign:
    print("not listed:", v.kernel, *v.types, v.wide)
assert set(warmup.launched("perf")) <= set(warmup.needed())
"""


@need_compilers
def test_the_lists_hold_every_kernel_that_the_cards_launch():
    """A dry run of all samples: each kernel is listed, and each of its argument types with one kernel of its name. Not
    listed one by one are generated element-wise kernels, products that end in any activation, sums of any chain, and
    attention that masks or drops weights: they are compiled when they are met."""
    made = run("-c", DRY_RUN)
    assert made.returncode == 0, made.stderr
    (launched, wanted, names), *complaints = (line.split() for line in made.stdout.splitlines())
    assert int(launched) > 200 and int(wanted) > 500 and int(names) > 30
    assert not complaints, made.stdout


@need_compilers
def test_a_kernel_that_does_not_exist_is_refused():
    made = run("-m", "gputape", "warmup", "--arch", "sm_80", "--kernel", "layr_norm")
    assert made.returncode == 1 and "no kernel's name contains 'layr_norm'" in made.stderr


def test_unknown_architectures_are_refused(capsys):
    for arch in ("sm_70", "hopper", "9.0"):
        assert cli.main(["warmup", "--arch", arch]) == 1
        assert f"warmup: '{arch}' is not supported. Use sm_80, sm_86" in capsys.readouterr().err


def test_a_missing_toolchain_is_named(tmp_path):
    (tmp_path / "triton.py").write_text("raise ImportError('not here')\n")
    made = run("-m", "gputape", "warmup", "--arch", "sm_80", PYTHONPATH=str(tmp_path))
    assert made.returncode == 1
    assert re.search(r"gputape: triton: cannot be imported \(not here\)\. Install gputape\[gpu\]", made.stderr)


def test_the_default_is_the_visible_device_else_everything(monkeypatch):
    commands = []

    def started(command, env):
        commands.append(command)
        assert "TRITON_INTERPRET" not in env
        return subprocess.CompletedProcess(command, 3)

    monkeypatch.setattr(warmup.subprocess, "run", started)
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    for device, archs in ((90, ["90"]), (None, ["80", "86", "89", "90", "100", "120"])):
        monkeypatch.setattr(warmup, "visible", lambda device=device: device)
        assert warmup.warm([]) == 3
        assert commands[-1][3 : 3 + len(archs) + 1] == [*archs, "--kernel"]


def test_failures_are_named_and_counted(monkeypatch, capsys):
    class Here:
        """A pool that works in this process."""

        def __init__(self, jobs): ...
        def __enter__(self):
            return self

        def __exit__(self, *error): ...
        def map(self, f, tasks, chunksize):
            return map(f, tasks)

    from gputape.kernels.launch import Variant, triton
    from gputape.kernels.machine import compile

    def warmed(variant, arch):
        if arch == 80:
            raise gt.BackendError("too many\nregisters")
        return arch == 90

    monkeypatch.setattr(warmup, "ProcessPoolExecutor", Here)
    monkeypatch.setattr(compile, "warmed", warmed)
    monkeypatch.setattr(warmup, "TELL", -1.0)
    variant = Variant(triton("norm", "f", BLOCK=4), ("*float32",))
    assert warmup._compile_all([(variant, a) for a in (80, 90, 100)], (80, 90, 100), 1) == 1
    out, err = capsys.readouterr()
    assert "1 compiled, 1 were there, 1 failed; cache: " in out and "2/3, " in out
    assert err == "failed: sm_80 f[BLOCK=4]: BackendError: too many\n"


# --- the assembler ----------------------------------------------------------------------------------------------------


@pytest.fixture
def tools(tmp_path, monkeypatch):
    """Stand-ins for Triton's assemblers: ptxas of CUDA 12.9, ptxas-blackwell of 13.4."""
    for name, release in (("ptxas", "12.9"), ("ptxas-blackwell", "13.4")):
        (tmp_path / name).write_text(f"#!/bin/sh\necho 'Cuda compilation tools, release {release}, V{release}.1'\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setattr(assembler, "bundled", lambda: tmp_path)
    monkeypatch.setenv(assembler.NEWER, "")  # so that it is put back
    return tmp_path


@pytest.mark.parametrize("driver, older", [(12080, True), (13000, True), (13030, True), (13040, False), (14000, False)])
def test_a_driver_gets_an_assembler_that_is_no_newer(tools, driver, older):
    assembler.suit(driver)
    assert os.environ[assembler.NEWER] == (str(tools / "ptxas") if older else "")


def test_the_users_assembler_stays(tools, monkeypatch):
    monkeypatch.setenv(assembler.NEWER, "/my/ptxas")
    assembler.suit(12000)
    assert os.environ[assembler.NEWER] == "/my/ptxas"


def test_assemblers_that_cannot_be_run_change_nothing(tools, monkeypatch):
    (tools / "ptxas-blackwell").unlink()
    assembler.suit(12000)
    monkeypatch.setattr(assembler, "bundled", lambda: None)
    assembler.suit(12000)
    assert os.environ[assembler.NEWER] == ""


CHOSEN = """
import os
from gputape.kernels import gate
from gputape.kernels.machine import assembler, compile, mode
mode.triton(interpreted=False)
variant = next(v for v in gate.variants() if v.kernel.name == "layer_norm")
os.environ.pop(assembler.NEWER, None)
assembler.suit(12080)
found = compile.compiled(variant, 90)
print(assembler.version(assembler.bundled() / "ptxas"), open(found.path, "rb").read()[8])
"""


@need_compilers
def test_the_older_assembler_makes_cubins_that_older_drivers_take(tmp_path):
    made = run("-c", CHOSEN, GPUTAPE_CACHE_DIR=str(tmp_path), TRITON_CACHE_DIR=str(tmp_path / "triton"))
    assert made.returncode == 0, made.stderr
    version, abi = made.stdout.rsplit(maxsplit=1)
    assert version.startswith("(12, ") and int(abi) <= 7  # the cubin's ABI, byte 8 of its ELF header
