"""Which of Triton's two assemblers makes cubins: the newer one, unless the driver is older than it.

Triton bundles `ptxas` and, for newer architectures, `ptxas-blackwell`. A driver refuses the cubins of an assembler of a
later CUDA version ("device kernel image is invalid"); the older assembler serves every architecture too.
"""

from __future__ import annotations

import os
import re
import subprocess
from functools import cache
from importlib.util import find_spec
from pathlib import Path

NEWER = "TRITON_PTXAS_BLACKWELL_PATH"  # what Triton runs where it would run ptxas-blackwell


def bundled() -> Path | None:
    """The folder of Triton's own assemblers; None without Triton."""
    spec = find_spec("triton")
    return Path(spec.origin).parent / "backends" / "nvidia" / "bin" if spec is not None and spec.origin else None


@cache
def version(tool: Path) -> tuple[int, int] | None:
    """(major, minor) of the CUDA version of an assembler; None if it cannot be run."""
    try:
        said = subprocess.run([str(tool), "--version"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    found = re.search(r"release (\d+)\.(\d+)", said)
    return (int(found[1]), int(found[2])) if found else None


def suit(driver: int) -> None:
    """Have Triton use the older assembler if the driver is older than the newer one. What the user set stays.

    Args:
        driver: CUDA version of the driver as it reports it: 12080 is 12.8.
    """
    tools = bundled()
    if tools is None or os.environ.get(NEWER):
        return
    newer = version(tools / "ptxas-blackwell")
    if newer is not None and newer > (driver // 1000, driver % 1000 // 10):
        os.environ[NEWER] = str(tools / "ptxas")
