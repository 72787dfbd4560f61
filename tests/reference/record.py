"""Records what PyTorch computes for the samples on the cards: `python tests/reference/record.py [op …]`.

Needs the PyTorch release named in `TORCH`. For every card with a `torch` name it writes `data/<op>.npz`: the value of
each sample and the gradients of its floating-point inputs for a fixed random cotangent. The same PyTorch on the same
machine writes the same bytes. `tests/test_reference.py` compares.
"""

from __future__ import annotations

import hashlib
import importlib
import sys
import warnings
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gputape import registry
from gputape.backend import NP_DTYPE
from gputape.registry import Op
from gputape.samples import Sample
from gputape.testing import apply, inputs_of

TORCH = "2.13"
DATA = Path(__file__).parent / "data"
BFLOAT16 = NP_DTYPE["bfloat16"]


class Reference(NamedTuple):
    """What a sample gives: the results, and one gradient per floating-point input, by the input's position; and for
    each the largest difference from the same computed in float64 (`y0`, …, `d0`, …), which tells how well conditioned
    it is."""

    outs: tuple[np.ndarray, ...]
    grads: dict[int, np.ndarray]
    errors: dict[str, float]

    def arrays(self) -> dict[str, np.ndarray]:
        return {f"y{k}": y for k, y in enumerate(self.outs)} | {f"d{k}": g for k, g in self.grads.items()}


# --- cases ------------------------------------------------------------------------------------------------------------


def cases_of(op: Op) -> list[Sample]:
    """The samples of a card on which PyTorch and gputape must agree."""
    return [s for s in op.samples if s.torch] if op.torch else []


def is_float(x: Any) -> bool:
    return isinstance(x, np.ndarray) and (x.dtype.kind == "f" or x.dtype == BFLOAT16)


def cotangents(op: Op, sample: Sample, outs: Iterable[np.ndarray]) -> list[np.ndarray | None]:
    """A random cotangent for each result, None for results that are not floating-point."""
    rng = np.random.default_rng(zlib.crc32(f"cotangent {op.name}{sample!r}".encode()))
    return [rng.standard_normal(y.shape).astype(y.dtype) if is_float(y) else None for y in outs]


def fingerprint(inputs: Iterable[Any]) -> str:
    """Changes when a sample's numbers, shapes or dtypes do."""
    digest = hashlib.sha256()
    for x in inputs:
        head = (x.shape, x.dtype.name) if isinstance(x, np.ndarray) else x
        digest.update(f"{head};".encode())
        if isinstance(x, np.ndarray):
            digest.update(np.ascontiguousarray(x).tobytes())
    return digest.hexdigest()[:16]


# --- calling PyTorch --------------------------------------------------------------------------------------------------


def counterpart(op: Op) -> Callable[..., Any]:
    """PyTorch's function, called with the card's argument names."""
    import torch

    beside = importlib.import_module(f"{__package__}.adapters" if __package__ else "adapters")  # needs torch
    if op.name in beside.ADAPTERS:
        return beside.ADAPTERS[op.name][1]
    found: Any = torch
    for part in op.torch.split(".")[1:]:  # type: ignore[union-attr]
        found = getattr(found, part)
    return found


def to_torch(x: np.ndarray) -> Any:
    import torch

    packed = np.array(x, order="C")
    if packed.dtype == BFLOAT16:
        return torch.from_numpy(packed.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(packed)


def to_numpy(x: Any) -> np.ndarray:
    import torch

    x = x.detach().contiguous()
    if x.dtype == torch.bfloat16:
        return x.view(torch.int16).numpy().view(BFLOAT16)
    return x.numpy()


def evaluate(op: Op, sample: Sample) -> Reference:
    """The sample's results and gradients, by PyTorch."""
    inputs = inputs_of(op, sample)
    outs, grads = _evaluate(op, sample, inputs, None)
    seeds = cotangents(op, sample, outs)
    exact = Reference(*_evaluate(op, sample, inputs_of(op, sample, "float64"), seeds), {}).arrays()
    found = Reference(outs, grads, {})
    found.errors.update({role: _difference(x, exact[role]) for role, x in found.arrays().items() if is_float(x)})
    return found


def _difference(x: np.ndarray, exact: np.ndarray) -> float:
    with np.errstate(invalid="ignore"):  # inf - inf
        gap = np.abs(x.astype(np.float64) - exact)
    return float(np.max(gap, where=np.isfinite(gap), initial=0.0))


def _evaluate(op: Op, sample: Sample, inputs: list[Any], seeds: list[Any] | None) -> tuple[Any, Any]:
    import torch

    tensors = [to_torch(x) if isinstance(x, np.ndarray) else x for x in inputs]
    leaves = {k: tensors[k].requires_grad_() for k, x in enumerate(inputs) if is_float(x)}
    attrs = {k: getattr(torch, v) if k == "dtype" and v is not None else v for k, v in sample.attrs.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            result = apply(counterpart(op), op, tensors, attrs)
        except Exception as e:
            raise TypeError(f"{sample!r}: {e}") from e
    outs = tuple(result) if isinstance(result, (tuple, list)) else (result,)
    arrays = tuple(to_numpy(y) for y in outs)
    if seeds is None:
        seeds = cotangents(op, sample, arrays)
    pairs = [
        (y, to_torch(c).to(y.dtype)) for y, c in zip(outs, seeds, strict=True) if c is not None and y.requires_grad
    ]
    if not pairs:
        return arrays, {k: np.zeros_like(inputs[k], order="C", subok=False) for k in leaves}
    ys, cs = zip(*pairs, strict=True)
    grads = torch.autograd.grad(ys, list(leaves.values()), cs, allow_unused=True, materialize_grads=True)
    return arrays, {k: to_numpy(g) for k, g in zip(leaves, grads, strict=True)}


# --- files ------------------------------------------------------------------------------------------------------------


def save(op: Op) -> int:
    """Write the op's file; the number of its cases."""
    import torch

    cases = cases_of(op)
    arrays: dict[str, np.ndarray] = {
        "torch": np.array(torch.__version__.partition("+")[0]),
        "cases": np.array([repr(s) for s in cases]),
        "inputs": np.array([fingerprint(inputs_of(op, s)) for s in cases]),
    }
    for i, sample in enumerate(cases):
        reference = evaluate(op, sample)
        for role, x in reference.arrays().items():
            bits = x.dtype == BFLOAT16
            arrays[f"{i}.{role}.bfloat16" if bits else f"{i}.{role}"] = x.view(np.uint16) if bits else x
        arrays[f"{i}.errors"] = np.array([reference.errors.get(role, 0.0) for role in reference.arrays()], np.float32)
    np.savez_compressed(DATA / f"{op.name}.npz", **arrays)  # type: ignore[arg-type]
    return len(cases)


def load(name: str) -> dict[str, tuple[str, Reference]]:
    """{sample: (fingerprint of its inputs, what PyTorch gave)} of an op; empty if nothing is recorded."""
    path = DATA / f"{name}.npz"
    if not path.exists():
        return {}
    with np.load(path) as file:
        cases: list[dict[str, np.ndarray]] = [{} for _ in file["cases"]]
        for key in file.files:
            case, _, role = key.partition(".")
            if role:
                name, _, bits = role.partition(".")
                cases[int(case)][name] = file[key].view(BFLOAT16) if bits else file[key]
        marks = zip(file["cases"], file["inputs"], cases, strict=True)
        return {str(sample): (str(mark), _reference(roles)) for sample, mark, roles in marks}


def _reference(roles: dict[str, np.ndarray]) -> Reference:
    errors = roles.pop("errors")
    outs = tuple(x for role, x in roles.items() if role[0] == "y")
    grads = {int(role[1:]): x for role, x in roles.items() if role[0] == "d"}
    return Reference(outs, grads, dict(zip(roles, map(float, errors), strict=True)))


def main(names: list[str]) -> None:
    import torch

    if not torch.__version__.startswith(TORCH):
        sys.exit(f"record: torch {torch.__version__} is installed, the references are of torch {TORCH}. Install that.")
    torch.set_num_threads(1)
    DATA.mkdir(exist_ok=True)
    chosen = [registry.get(name) for name in names] or [op for op in registry.ops() if op.torch]
    counts, failed = {}, []
    for op in chosen:
        try:
            counts[op.name] = save(op)
        except Exception as e:
            failed.append(f"{op.name}: {type(e).__name__}: {e}")
    if failed:
        sys.exit("\n".join(["record: PyTorch refuses samples of these ops.", *failed]))
    if not names:
        for path in DATA.glob("*.npz"):
            if path.stem not in counts:
                path.unlink()
    size = sum(path.stat().st_size for path in DATA.glob("*.npz"))
    print(f"{sum(counts.values())} cases of {len(counts)} ops recorded; {size / 2**20:.2f} MiB in {DATA}")


if __name__ == "__main__":
    main(sys.argv[1:])
