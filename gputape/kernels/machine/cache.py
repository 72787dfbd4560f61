"""The disk cache of compiled kernels: files named by a digest of all that went into them, written atomically."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path


def folder() -> Path:
    """$GPUTAPE_CACHE_DIR, else the user's cache folder."""
    base = os.environ.get("GPUTAPE_CACHE_DIR")
    if base:
        return Path(base)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gputape"


def digest(*parts: object) -> str:
    """One name for all parts, told apart by their lengths."""
    joined = hashlib.sha256()
    for part in parts:
        text = str(part).encode()
        joined.update(len(text).to_bytes(8, "little") + text)
    return joined.hexdigest()[:40]


def stored(name: str, make: Callable[[Path], object]) -> Path:
    """The cached file `name`; if it is absent `make` writes it, under a name that nobody else uses meanwhile."""
    path = folder() / name
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as place:
        fresh = Path(place) / path.name
        make(fresh)
        os.replace(fresh, path)
    return path
