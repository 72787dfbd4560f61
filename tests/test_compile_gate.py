"""The compile gate: every variant of every kernel for every architecture, and the gate itself.

What was compiled once is taken from the disk cache: a first run takes minutes, others one.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from dataclasses import replace

import pytest

from gputape.kernels import gate
from gputape.kernels.launch import Variant, covering, cuda, triton
from gputape.kernels.machine.report import Row, line, summary, table, unneeded
from gputape.kernels.machine.sass import Counts

for module in ("triton", "cupy"):
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed: no kernel is compiled", allow_module_level=True)


# The other test modules emulate; what compiles needs processes of its own, in Triton's other mode.
COMPILED = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}


def run_gate(*options):
    return subprocess.run(
        [sys.executable, "-m", "gputape.kernels.gate", *options], env=COMPILED, capture_output=True, text=True
    )


def nvrtc_works():
    code = "from gputape.kernels.machine import compile; compile._nvrtc(); assert compile._cuda_headers()"
    return subprocess.run([sys.executable, "-c", code], env=COMPILED, capture_output=True).returncode == 0


need_nvrtc = pytest.mark.skipif(not nvrtc_works(), reason="NVRTC or cuda_fp16.h is missing: no CUDA C is compiled")
PARTS = 8  # of one or two minutes each


@need_nvrtc
@pytest.mark.parametrize("part", range(1, PARTS + 1))
def test_every_variant_compiles_for_every_architecture(part):
    """Without spills, with matrix instructions and 16-byte accesses wherever no card says that there are none."""
    made = run_gate("--part", f"{part}/{PARTS}", "--jobs", "1")
    *rows, verdict = made.stdout.splitlines() or [""]
    assert made.returncode == 0, "\n".join([*(row for row in rows if "FAIL" in row), verdict, made.stderr])
    assert verdict == f"{len(rows)} compiled, 0 failed" and len(rows) % len(gate.ARCHS) == 0 < len(rows)


@need_nvrtc
def test_no_card_exempts_what_lacks_nothing():
    made = run_gate("--exempt", "--arch", "80", "--jobs", "1")
    assert made.returncode == 0 and re.search(r"\n[1-9]\d* compiled, 0 failed$", made.stdout.strip()), made.stdout


def test_products_are_made_of_the_matrix_instructions_of_their_architecture():
    made = run_gate("--arch", "80,90", "--kernel", "mm_nd", "--part", "1/8", "--jobs", "1")
    rows = [row for row in made.stdout.splitlines() if "float32" not in row and "regs" in row]
    assert made.returncode == 0 and rows, made.stdout + made.stderr
    for row in rows:
        assert re.search(r"matrix HMMAx\d" if row.startswith("sm_80") else r"matrix HG?MMAx\d", row), row


def test_a_list_has_every_kernel_and_every_type():
    kernels = [triton("x", "f", BLOCK=b) for b in (2, 4)]
    types = [(f"*{t}", "int32") for t in ("float32", "float16", "bfloat16")]
    listed = covering(Variant(k, t, wide) for k in kernels for t in types for wide in (True, False))
    assert {(v.kernel, v.wide, v.in_16_bit) for v in listed} == {
        (k, wide, small) for k in kernels for wide in (True, False) for small in (True, False)
    }
    assert {v.types for v in listed} == set(types) and len(listed) == 9
    assert [v.types for v in listed].count(("*float16", "int32")) == 1


def test_every_host_module_lists_its_variants():
    listed = {v.kernel.name for v in gate.variants()}
    assert {
        "relu__vv",
        "add__n1_n1_01",
        "layer_norm",
        "norm_bwd",
        "mm_nd",
        "max_pool",
        "max_pool_bwd",
    } <= listed
    assert len(set(gate.variants())) == len(list(gate.variants()))


def test_the_verdict_names_what_is_wrong():
    wide = Counts(widths=((128, 4),))
    plain = Row(90, Variant(triton("x", "f", BLOCK=4), ("*float32",)), code=wide)
    assert plain.complaints() == []
    assert replace(plain, code=replace(wide, spilled=3)).complaints() == ["spills registers (3 accesses)"]
    assert "shared memory" in replace(plain, arch=86, shared=100 * 1024).complaints()[0]
    crowded = replace(plain, registers=255, variant=replace(plain.variant, kernel=triton("x", "f", warps=16)))
    assert crowded.complaints() == ["has 512 threads of 255 registers"]
    tf32, ieee = (
        replace(plain, variant=Variant(triton("x", "f", PRECISION=p), ("*float32",))) for p in ("tf32", "ieee")
    )
    wanting = replace(ieee, variant=replace(ieee.variant, types=("*float32", "*float16")))
    assert tf32.complaints() == wanting.complaints() == ["has no matrix instructions"] and not ieee.complaints()
    assert replace(wanting, code=Counts(matrix=(("HMMA", 8),))).complaints() == []
    assert "FAIL" in line(wanting, ()) and "FAIL" not in line(plain, ())


def test_memory_bound_kernels_need_16_byte_accesses_unless_a_card_exempts_them():
    narrow = Row(90, Variant(triton("x", "f", UNIT=0, BLOCK=4), ("*float32",)), code=Counts(widths=((32, 4),)))
    assert narrow.complaints() == ["has no 16-byte accesses"]
    assert replace(narrow, variant=replace(narrow.variant, wide=False)).complaints() == []
    assert replace(narrow, variant=Variant(triton("x", "f", PRECISION="ieee"), ())).complaints() == []
    for key, covered in (("f", True), ("f[UNIT=0]", True), ("f[BLOCK=4, UNIT=0]", True), ("f[UNIT=1]", False)):
        assert bool(narrow.complaints({key: "strided"})) != covered
        assert unneeded({key: "strided"}, [narrow]) == ([] if covered else [key])
    assert unneeded({"f": "strided"}, [replace(narrow, code=Counts(widths=((128, 4),)))]) == ["f"]


@pytest.mark.parametrize(
    "arch, registers, shared, warps, expected",
    [(80, 32, 0, 4, 64), (86, 32, 0, 4, 48), (90, 255, 0, 8, 8), (90, 128, 0, 4, 16), (89, 32, 48 << 10, 4, 8)],
)
def test_occupancy_as_the_programming_guide_counts_it(arch, registers, shared, warps, expected):
    row = Row(arch, Variant(triton("x", "f", warps=warps), ()), registers=registers, shared=shared)
    assert row.warps() == expected


def test_tables_name_kernels_and_their_extremes():
    few, many = (Row(90, Variant(triton("x", "f", BLOCK=b), ("*float32",)), registers=16 * b) for b in (2, 8))
    assert table([few], {}).splitlines()[2].startswith("| f[BLOCK=2] | float32 | wide | sm_90 | 32 | 0 | 0 | 64 |")
    assert "| f | 2 | 128 / 16 | 0 | 0 | - | strided |" in summary([few, many], {"f": "strided"})


def test_a_kernel_that_does_not_compile_fails_the_gate(tmp_path):
    source = tmp_path / "broken.cu"
    source.write_text('extern "C" __global__ void f(float* x) { x[0] = nothing; }\n')
    (row,) = gate.inspect([(Variant(cuda(str(source), "f"), ("*float32",)), 80)])
    assert row.complaints() and "does not compile" in line(row, ())


@need_nvrtc
@pytest.mark.parametrize("declared", ["int n, int more", "long long n"])
def test_a_kernel_that_takes_other_than_what_a_launch_passes_fails_the_gate(tmp_path, declared):
    source = tmp_path / "other.cu"
    source.write_text(f'extern "C" __global__ void f(float* x, {declared}) {{ x[0] = n; }}\n')
    (row,) = gate.inspect([(Variant(cuda(str(source), "f"), ("*float32", "int32")), 90)])
    assert "a launch passes ((8, 4), 128)" in line(row, ())


def test_gate_refuses_an_unknown_architecture():
    made = run_gate("--arch", "70")
    assert made.returncode == 2 and "70" in made.stderr


def test_a_second_run_takes_the_cubins_from_the_cache(tmp_path):
    env = COMPILED | {"GPUTAPE_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "gputape.kernels.gate", "--arch", "80", "--kernel", "add__vvv", "--jobs", "1"]
    first, second = (subprocess.run(command, env=env, capture_output=True, text=True) for _ in range(2))
    assert first.returncode == 0, first.stdout + first.stderr
    files = sorted(p.stat().st_mtime_ns for p in tmp_path.rglob("*.cubin"))
    assert len(files) == first.stdout.count(": regs ") > 4 and second.stdout == first.stdout
    assert sorted(p.stat().st_mtime_ns for p in tmp_path.rglob("*.cubin")) == files


SEPARATELY = """
import re
import subprocess
from gputape.kernels import gate, pool
from gputape.kernels.machine import assembler, compile, mode, sass
mode.triton(interpreted=False)
tools = assembler.bundled()

def said(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout

listed = [v for v in gate.variants() if v.kernel.name in ("mm_nd", "attention", "layer_norm")]
chosen = [*listed[:: len(listed) // 3], *pool.VARIANTS[:2]]
cubins = {(arch, v): compile.compiled(v, arch) for arch in gate.ARCHS for v in chosen}
codes = {key: sass.read(c) for key, c in cubins.items()}
counts = sass.counts([(arch, code) for (arch, _), code in codes.items()])
for arch in gate.ARCHS:
    for cubin, code in ((cubins[arch, v], codes[arch, v]) for v in chosen):
        counted = counts[arch, code]
        usage = said(tools / "cuobjdump", "--dump-resource-usage", cubin.path)
        usage = usage.partition(f" Function {cubin.name}:")[2].partition(" Function ")[0]
        assert code.threads == (cubin.threads if cubin.scratch_pointers else 0)  # CUDA C leaves it open
        assert (str(code.registers), str(code.shared)) == re.search(r"REG:(\\d+).* SHARED:(\\d+)", usage).groups()
        alone = said(tools / "nvdisasm", "-c", cubin.path).partition(f"\\n.text.{cubin.name}:")[2]
        lines = [line for line in alone.partition("\\n.text.")[0].splitlines() if line.lstrip().startswith("/*")]
        assert sass._count(lines) == counted and counted.widths, (arch, cubin.name)
print("ok")
"""


@need_nvrtc
def test_kernels_disassembled_together_count_as_each_alone():
    made = subprocess.run([sys.executable, "-c", SEPARATELY], env=COMPILED, capture_output=True, text=True)
    assert made.stdout == "ok\n", made.stderr


FAKE_LAUNCH = """
import numpy as np
from gputape.kernels import generated, layout, pool, runtime
from gputape.kernels.expression import Chain, Step
from gputape.kernels.launch import launch
from gputape.kernels.machine import cubin

class Pointer:
    def __init__(self, ptr): self.ptr = ptr
class Array:
    def __init__(self, ptr, dtype): self.data, self.dtype = Pointer(ptr), np.dtype(dtype)

RELU = generated.kernel(Chain("relu", ("f",), (Step("relu", (0,)),), ((1, "f"),)), layout.plan((8,), [(1,), (1,)]))
calls = []
def load(found):
    return (lambda *args, **options: calls.append((found, args, options))), found
cubin._load = load
stream = runtime.CudaStream(90)
y, x = Array(256, "float32"), Array(512, "float32")
for n, arrays in ((4096, (y, x)), (4097, (y, x)), (4096, (y, Array(516, "float32"))), (4096, (y, x))):
    launch(RELU, (n // 1024 + 1,), (*arrays, np.int64(n)), stream)
launch(pool.kernel("pool", "max_pool", "float32"), (3,), (y, Array(64, "int32"), x, np.int64(9), *range(18)), stream)
launch(RELU, (0,), (), stream)

wide, narrow, odd, again, pooled = calls
assert len(stream.functions) == 3 and again[0] is wide[0] and narrow[0] is odd[0] is not wide[0]
(size, block, values), options = wide[1], wide[2]
assert size == (5, 1, 1) and block == (128, 1, 1) and options == {"shared_mem": wide[0].shared}
assert values[:2] == (y.data, x.data) and type(values[2]) is np.int64 and values[3:] == (None, None)
assert [type(v) for v in pooled[1][2][3:]] == [np.int64] + [np.int32] * 18 and pooled[0].name == "max_pool"
try:
    launch(RELU, (1,), (y, x, 2**31), stream)
except Exception as e:
    assert "does not fit in int32" in str(e), e
else:
    raise AssertionError
print("ok")
"""


@need_nvrtc
def test_a_launch_on_a_gpu_passes_what_the_cubin_expects():
    """All of the cuda route but the driver: variants by promise, typed scalars, Triton's two scratch pointers."""
    made = subprocess.run([sys.executable, "-c", FAKE_LAUNCH], env=COMPILED, capture_output=True, text=True)
    assert made.stdout == "ok\n", made.stderr
