"""perf/gpu is imported as the package `gpu`."""

import sys
from pathlib import Path

PERF = str(Path(__file__).resolve().parents[2] / "perf")
if PERF not in sys.path:
    sys.path.insert(0, PERF)
