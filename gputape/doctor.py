"""`gputape doctor`: what is installed, which devices can be used, and how to mend what is missing."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
from pathlib import Path

import numpy as np

from . import __version__
from . import backend as _backend
from .arrays import asnumpy
from .dispatch import FUNCTIONS

NEEDED = ("numpy", "ml_dtypes", "safetensors", "threadpoolctl")
OPTIONAL = {
    "scikit-learn": "pip install 'gputape[train]'  (example data)",
    "matplotlib": "pip install 'gputape[train]'  (figures)",
    "tqdm": "pip install 'gputape[train]'  (progress bar)",
    "triton": "pip install 'gputape[gpu]'  (kernels, also on the emulated device)",
}
CUPY = {"cupy-cuda12x": "gpu", "cupy-cuda13x": "gpu-cuda13"}  # package → the extra that installs it


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def report() -> tuple[list[str], bool]:
    """The lines to print, and whether the default device can be used."""
    lines = [f"gputape {__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}"]
    for name in NEEDED:
        lines.append(f"  {name:14} {_version(name) or 'MISSING: pip install gputape'}")
    for name, fix in OPTIONAL.items():
        lines.append(f"  {name:14} {_version(name) or 'missing: ' + fix}")
    lines += _cupy()
    compiler = shutil.which("g++") or shutil.which("c++")
    missing = "missing: apt install g++  (CUDA C kernels on the emulated device)"
    lines.append(f"  {'C++ compiler':14} {compiler or missing}")
    for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):
        if name in os.environ:
            lines.append(f"  {name} is set; unset it unless you must: it can halve the speed of matrix products")
    lines.append(f"devices (GPUTAPE_DEVICE={os.environ.get('GPUTAPE_DEVICE', 'not set')})")
    lines.append(f"  NVIDIA driver  {_driver() or 'none visible'}")
    for name in ("cpu", "emulated", "cuda"):
        lines.append(f"  {name:14} {_usable(name)}")
    try:
        lines.append(f"default device: {_backend.current().name}")
    except Exception as e:
        lines.append(f"default device: unusable: {e}")
        return lines, False
    return lines, True


def _cupy() -> list[str]:
    """Of CuPy's packages one may be there: they are one module, and each overwrites the other's files."""
    found = {name: version for name in CUPY if (version := _version(name))}
    lines = [f"  {name:14} {version}" for name, version in found.items()]
    if len(found) > 1:
        lines.append(f"  {'':14} broken by each other: pip uninstall {' '.join(found)}, then install one of them")
    extras = " or ".join(f"'gputape[{extra}]'" for extra in CUPY.values())
    return lines or [f"  {'cupy':14} missing: pip install {extras}  (NVIDIA GPUs; the one for the CUDA you have)"]


def _usable(name: str) -> str:
    """Whether a sum comes out right on that device."""
    try:
        with _backend.device(name) as device:
            (three,) = asnumpy(FUNCTIONS["add"](np.ones(1, np.float32), 2.0)).tolist()
        if three != 3:
            return f"not usable: 1 + 2 is {three} there"
        return f"usable, bodies of {len(device.backend.bodies)} ops"
    except Exception as e:  # whatever a broken installation raises belongs into the report
        return f"not usable: {e}".splitlines()[0]


def _driver() -> str | None:
    path = Path("/proc/driver/nvidia/version")
    if path.exists():
        return path.read_text().splitlines()[0]
    return "visible" if os.path.exists("/dev/nvidiactl") else None
