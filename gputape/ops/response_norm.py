"""Card of local_response_norm."""

from __future__ import annotations

import math
from typing import Any

from ..aval import Aval, need_float_yet
from ..errors import ArgumentError, ShapeError, UnsupportedError
from ..registry import register
from ..samples import Bad, Sample, t
from .loss import check_number

NAME = "local_response_norm"


def _rule(input: Aval, *, size: int, alpha: float, beta: float, k: float) -> Aval:
    need_float_yet(NAME, input=input)
    for option, value in (("alpha", alpha), ("beta", beta), ("k", k)):
        check_number(NAME, option, value)
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise ArgumentError(f"{NAME}: size={size!r} must be an integer of 1 or more. Give the number of channels.")
    if input.ndim < 3:
        raise ShapeError(f"{NAME}: the input has shape {input.shape}, but (N, C, …) with a spatial axis is needed.")
    return input


def _local_response_norm(F: Any, input: Any, *, size: int, alpha: float, beta: float, k: float) -> Any:
    x = F.aval(input)
    if not x.size:
        return input
    n, channels, rest = x.shape[0], x.shape[1], math.prod(x.shape[2:])
    squares = F.reshape(F.square(input), (n, 1, channels, rest))
    squares = F.constant_pad_nd(squares, (0, 0, size // 2, (size - 1) // 2))
    mean = F.reshape(F.avg_pool2d(squares, (size, 1), 1), x.shape)
    return F.div(input, F.pow_scalar(F.add(F.scale(mean, alpha), F.const(k, x.dtype)), beta))


register(
    name=NAME,
    doc="""input / (k + alpha · mean of input² over `size` neighbouring channels)^beta, for (N, C, …).

    The channels are size // 2 before to (size - 1) // 2 after, zeros outside. Krizhevsky et al. 2012; as
    torch.nn.functional.local_response_norm.
    """,
    signature="input, size, alpha=0.0001, beta=0.75, k=1.0",
    inputs=("input",),
    rule=_rule,
    compose=_local_response_norm,
    precision="wide",
    samples=(
        Sample(t(2, 5, 3), size=2),
        Sample(t(2, 5, 3, 2), size=3, alpha=0.5, beta=0.6, k=2.0),
        Sample(t(2, 3, 2, 1, 2), size=7, alpha=1.0, why_="wider than the channels"),
        Sample(t(2, 5, 3), size=1, alpha=1.0),
        Sample(t(0, 5, 3), size=2, why_="no samples"),
        Sample(t(2, 5, 4, 6, layout="transposed"), size=4),
        Sample(t(2, 5, 3, dtype="float64"), size=2, alpha=0.1),
    ),
    errors=(
        Bad(ShapeError, r"\(N, C, …\)", t(5, 3), size=2),
        Bad(ArgumentError, "size=0", t(2, 5, 3), size=0),
        Bad(ArgumentError, "alpha=None", t(2, 5, 3), size=2, alpha=None),
        Bad(UnsupportedError, "floating-point", t(2, 5, 3, dtype="int64", fill="ones"), size=2),
    ),
    torch="torch.nn.functional.local_response_norm",
)
