"""Card of nan_to_num."""

from __future__ import annotations

from typing import Any

from ..aval import Aval
from ..errors import DTypeError
from ..registry import register
from ..samples import Bad, Perf, Sample, t
from .pointwise import INF, NAN, masked, plain_number

_LARGEST = {
    "float16": 65504.0,
    "bfloat16": float.fromhex("0x1.fep127"),
    "float32": float.fromhex("0x1.fffffep127"),
    "float64": float.fromhex("0x1.fffffffffffffp1023"),
}


def _canon(input: Aval, *, nan: Any = 0.0, posinf: Any = None, neginf: Any = None) -> dict[str, Any]:
    top = _LARGEST.get(input.dtype, 0.0)
    given = {"nan": (nan, 0.0), "posinf": (posinf, top), "neginf": (neginf, -top)}
    return {k: float(plain_number("nan_to_num", k, usual if v is None else v)) for k, (v, usual) in given.items()}


register(
    name="nan_to_num",
    doc="input with NaN replaced by `nan`, inf by `posinf` (default: the largest number of the dtype) and -inf by "
    "`neginf` (default: the lowest), which get no gradient. Integers stay what they are. As torch.nan_to_num.",
    signature="input, nan=0.0, posinf=None, neginf=None",
    inputs=("input",),
    canon=_canon,
    rule=lambda input, **attrs: input,
    vjp=lambda F, at, dy, input: masked(F, dy, F.isfinite(input)),
    saves=("input",),
    batch="pointwise",
    samples=(
        Sample(t(5, 3)),
        Sample(t(4, 6, layout="transposed"), nan=1.0),
        Sample(t(0)),
        Sample(t()),
        Sample(t(7, dtype="float64")),
        Sample(t(3, fill=(NAN, -0.0, 1.0)), grad_=False),
        Sample(t(5, dtype="float64", fill=(NAN, INF, -INF, -0.0, 1.0)), grad_=False),
        Sample(t(5, fill=(NAN, INF, -INF, -0.0, 1.0)), nan=2.0, posinf=3.5, neginf=-1, grad_=False),
        Sample(t(5, dtype="int64", fill="ints", low=-9, high=9)),
        Sample(t(5, dtype="bool", fill="bool")),
    ),
    errors=(Bad(DTypeError, "posinf must be a plain number", t(3), posinf="1"),),
    perf=(Perf(t(1024, 512)),),
    torch="torch.nan_to_num",
)
