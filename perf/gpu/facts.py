"""What could not be known without a GPU: five questions about cubins, CuPy and drivers, each answered by trying.

Each function returns a sentence for the report, and raises where the answer is one that gputape cannot live with.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import numpy as np

PROGRAM = "import sys; from gpu import facts; print(getattr(facts, sys.argv[1])())"


def apart(name: str, **env: str) -> str:
    """Answer one question in a process of its own; what it printed, or why it failed."""
    kept = {k: v for k, v in os.environ.items() if k not in ("TRITON_INTERPRET", "TRITON_PTXAS_BLACKWELL_PATH")}
    kept["PYTHONPATH"] = os.pathsep.join(p for p in sys.path if p)
    made = subprocess.run(
        [sys.executable, "-c", PROGRAM, name], env=kept | env, capture_output=True, text=True, timeout=120
    )
    if made.returncode == 0:
        return made.stdout.strip()
    return f"refused: {(made.stderr.strip().splitlines() or ['no message'])[-1][:300]}"


def _norm() -> tuple[Callable[[], None], Any, Any]:
    """(a launch of layer_norm into memory that stays, its input, its output) on the device."""
    from gputape import registry
    from gputape.backend import aval_of, backend

    from .device import put

    op, device = registry.get("layer_norm"), backend("cuda")
    x, gain, shift = np.random.default_rng(0).standard_normal((64, 256)), np.ones(256), np.zeros(256)
    there = tuple(put(a.astype(np.float32), device) for a in (x, gain, shift))
    at = op.at(tuple(map(aval_of, there)), op.values({"normalized_shape": (256,)}))
    outs = [device.xp.empty(a.shape, a.dtype) for a in at.outs]
    return lambda: device.run_into(at, outs, there), there[0], outs[0]


def _exact(x: np.ndarray) -> np.ndarray:
    wide = x.astype(np.float64)
    return (wide - wide.mean(1, keepdims=True)) / np.sqrt(wide.var(1, keepdims=True) + 1e-5)


def launches() -> str:
    """Is a cubin of this Triton loaded and launched through CuPy?"""
    import cupy

    go, x, y = _norm()
    go()
    np.testing.assert_allclose(y.get(), _exact(x.get()), atol=1e-5)
    return f"yes: Triton {version('triton')}, CuPy {cupy.__version__}, sm_{cupy.cuda.Device().compute_capability}"


def captures() -> str:
    """Can such launches be captured in a graph, and replayed on new contents of the same memory?"""
    import cupy

    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        go, x, y = _norm()
        go()  # loads the function: that is not allowed in a capture
        stream.synchronize()
        stream.begin_capture()
        for _ in range(4):
            go()
        graph = stream.end_capture()
        x *= 3
        x += 1
        graph.launch(stream)
        stream.synchronize()
    np.testing.assert_allclose(y.get(), _exact(x.get()), atol=1e-5)
    return "yes: four launches in a graph, replayed on new contents"


def launch_cost() -> str:
    """What does one launch cost the host?"""
    import cupy

    go, *_ = _norm()
    go()
    nothing = cupy.RawKernel('extern "C" __global__ void nothing() {}', "nothing")
    nothing((1,), (1,), ())
    bare = _per_call(cupy, lambda: nothing((1,), (1,), ()))
    whole = _per_call(cupy, go)
    return (
        f"{bare * 1e6:.1f} µs for CuPy's launch of an empty kernel, {whole * 1e6:.1f} µs for layer_norm's host function"
    )


def _per_call(cupy: Any, call: Callable[[], Any], calls: int = 200, times: int = 25) -> float:
    """Median seconds of the host per call, in groups small enough not to fill the launch queue."""
    taken = []
    for _ in range(times):
        cupy.cuda.Device().synchronize()
        start = time.perf_counter()
        for _ in range(calls):
            call()
        taken.append((time.perf_counter() - start) / calls)
    return float(np.median(taken))


def newest_assembler() -> str:
    """Does this driver take the cubins of the newest assembler that Triton bundles?"""
    with tempfile.TemporaryDirectory() as fresh:
        return apart("_newest_assembler", TRITON_CACHE_DIR=fresh, GPUTAPE_CACHE_DIR=fresh)


def _newest_assembler() -> str:
    from gputape.kernels.machine import assembler

    assembler.suit = lambda driver: None  # type: ignore[assignment]
    import cupy

    go, x, y = _norm()
    go()
    np.testing.assert_allclose(y.get(), _exact(x.get()), atol=1e-5)
    tools, driver = assembler.bundled(), cupy.cuda.runtime.driverGetVersion()
    versions = [assembler.version(tools / name) for name in ("ptxas", "ptxas-blackwell")] if tools else []
    found = " and ".join(f"{v[0]}.{v[1]}" for v in versions if v)
    arch = cupy.cuda.Device().compute_capability
    return f"yes: driver of CUDA {driver // 1000}.{driver % 1000 // 10}, assemblers {found}, sm_{arch}"


def own_driver() -> str:
    """Does Triton's own launcher work with a driver object made of CuPy calls? (gputape does not need it.)"""
    return apart("_own_driver")


def _own_driver() -> str:
    import cupy
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.backends.nvidia import driver as nvidia

    class Driver(nvidia.CudaDriver):
        def __init__(self) -> None:  # the parent's would import torch in Triton 3.6 and 3.7
            self.utils, self.launcher_cls = nvidia.CudaUtils(), nvidia.CudaLauncher

        def get_device_capability(self, device: int | None = None) -> tuple[int, int]:
            text = cupy.cuda.Device(device).compute_capability
            return int(text[:-1]), int(text[-1])

        def get_current_stream(self, device: int | None = None) -> int:
            return cupy.cuda.get_current_stream().ptr

        def get_current_device(self) -> int:
            return cupy.cuda.Device().id

        def set_current_device(self, device: int) -> None:
            cupy.cuda.Device(device).use()

        def get_current_target(self) -> Any:
            major, minor = self.get_device_capability(self.get_current_device())
            return GPUTarget("cuda", 10 * major + minor, 32)

    class Pointer:
        def __init__(self, array: Any) -> None:
            self.array, self.dtype = array, array.dtype

        def data_ptr(self) -> int:
            return self.array.data.ptr

    triton.runtime.driver.set_active(Driver())
    from .jit import double

    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        x = cupy.arange(1000, dtype=np.float32)
        y = cupy.zeros_like(x)
        double[(4,)](Pointer(y), Pointer(x), 1000, BLOCK=256)
        stream.synchronize()
    np.testing.assert_array_equal(y.get(), 2 * np.arange(1000, dtype=np.float32))
    return f"yes: Triton {triton.__version__} on CuPy's stream"


QUESTIONS: dict[str, Callable[[], str]] = {
    "cubins through CuPy": launches,
    "graph capture": captures,
    "cost of a launch": launch_cost,
    "the newest assembler on this driver": newest_assembler,
    "Triton's launcher over CuPy": own_driver,
}
