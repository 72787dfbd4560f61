"""Arrays and their description in one safetensors file, written whole or not at all."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .backend import as_array
from .errors import CheckpointError
from .variable import unwrap

FORMAT = 1  # of the description; a reader refuses versions it does not know


def save(path: str | os.PathLike[str], arrays: Mapping[str, Any], **about: Any) -> None:
    """Write arrays (name → array) and what they are (anything JSON can hold) to a safetensors file.

    Raises:
        CheckpointError: the file cannot be written.
    """
    from safetensors.numpy import save as pack

    path = Path(path)
    packed = {name: np.ascontiguousarray(as_array(unwrap(a))) for name, a in arrays.items()}
    packed = {n: a.reshape(np.shape(unwrap(arrays[n]))) for n, a in packed.items()}  # 0-d arrays keep their shape
    text = json.dumps({"format": FORMAT, **about}, sort_keys=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(pack(packed, metadata={"gputape": text}))
        os.replace(part, path)
    except Exception as e:
        with contextlib.suppress(OSError):
            part.unlink()
        raise CheckpointError(f"checkpoint: cannot write {path} ({e}). Choose another folder.") from e


def load(path: str | os.PathLike[str]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays and the description in a file that `save` wrote.

    Raises:
        CheckpointError: there is no such file, it is damaged, or gputape did not write it.
    """
    from safetensors import safe_open

    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"checkpoint: {path} is not a file. Pass the path of a saved model.")
    try:
        with safe_open(path, framework="numpy") as file:
            text = (file.metadata() or {}).get("gputape")
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except Exception as e:
        raise CheckpointError(f"checkpoint: {path} is damaged or no safetensors file ({e}). Use another copy.") from e
    if text is None:
        raise CheckpointError(
            f"checkpoint: {path} was not written by gputape (its metadata lacks the key 'gputape'). "
            "Read it with safetensors and pass its arrays to model.load_state_dict."
        )
    try:
        about = json.loads(text)
        version = about.pop("format")
    except (ValueError, AttributeError, KeyError, TypeError) as e:
        raise CheckpointError(f"checkpoint: the description in {path} is damaged ({e!r}). Use another copy.") from e
    if version != FORMAT:
        raise CheckpointError(
            f"checkpoint: {path} has format {version!r}, this version reads format {FORMAT}. Update gputape."
        )
    return arrays, about
