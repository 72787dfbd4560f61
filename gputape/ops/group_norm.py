"""Cards of the norms over groups of channels, or single ones, of each sample and the space behind them."""

from __future__ import annotations

import math
from typing import Any

from ..aval import Aval
from ..errors import ArgumentError, ShapeError
from ..registry import register
from ..samples import Bad, Sample, t
from .batch_norm import affine, check_channels


def _group_norm_rule(input: Aval, weight: Aval | None, bias: Aval | None, *, num_groups: int, eps: float) -> Aval:
    channels = check_channels("group_norm", input, weight=weight, bias=bias)
    if isinstance(num_groups, bool) or not isinstance(num_groups, int) or num_groups < 1:
        raise ArgumentError(f"group_norm: num_groups={num_groups!r} must be an integer of 1 or more.")
    if channels % num_groups:
        raise ShapeError(
            f"group_norm: {channels} channels (input {input.shape}) do not split into num_groups={num_groups}. "
            "Choose a divisor."
        )
    if input.size and input.size == num_groups:  # as PyTorch: a batch of single values passes, and gives 0
        raise ShapeError(
            f"group_norm: more than 1 value per group is needed, got an input of shape {input.shape} and "
            f"num_groups={num_groups}. Use fewer groups."
        )
    return input


def _group_norm(F: Any, input: Any, weight: Any, bias: Any, *, num_groups: int, eps: float) -> Any:
    x = F.aval(input)
    size = x.shape[1] // num_groups * math.prod(x.shape[2:])
    rows = F.reshape(input, (x.shape[0], num_groups, size))
    return affine(F, F.reshape(F.layer_norm(rows, size, None, None, eps), x.shape), weight, bias)


register(
    name="group_norm",
    doc="""Each sample's channels in `num_groups` groups, each normalised with its space; weight and bias per channel.

    Wu and He 2018; as torch.nn.functional.group_norm.
    """,
    signature="input, num_groups, weight=None, bias=None, eps=1e-05",
    precision="wide",
    inputs=("input", "weight", "bias"),
    rule=_group_norm_rule,
    compose=_group_norm,
    samples=(
        Sample(t(2, 6, 5), t(6), t(6), num_groups=3),
        Sample(t(2, 4), num_groups=1),
        Sample(t(3, 4, 2, 3), t(4), num_groups=2, eps=1e-3),
        Sample(t(2, 4, 4, 6, layout="transposed"), t(4), t(4), num_groups=4),
        Sample(t(2, 4, 3, dtype="float64"), num_groups=2),
        Sample(t(0, 4, 3), t(4), num_groups=2, why_="no samples"),
        Sample(t(3, 4, 1), t(4), t(4), num_groups=4, why_="one value per group"),
    ),
    errors=(
        Bad(ShapeError, "do not split", t(2, 6, 5), num_groups=4),
        Bad(ShapeError, "more than 1 value per group", t(1, 6), num_groups=6),
        Bad(ArgumentError, "num_groups=0", t(2, 6, 5), num_groups=0),
        Bad(ShapeError, r"weight has shape \(3,\)", t(2, 6, 5), t(3), num_groups=3),
    ),
    torch="torch.nn.functional.group_norm",
)


def _instance_norm_rule(
    input: Aval,
    running_mean: Aval | None,
    running_var: Aval | None,
    weight: Aval | None,
    bias: Aval | None,
    *,
    use_input_stats: bool,
    momentum: float,
    eps: float,
) -> Aval:
    stats = {"running_mean": running_mean, "running_var": running_var}
    check_channels("instance_norm", input, **stats, weight=weight, bias=bias)
    given = [a is not None for a in stats.values()]
    if not all(given) and (any(given) or not use_input_stats):
        raise ArgumentError(
            "instance_norm: running_mean and running_var go together, and use_input_stats=False needs them. Give both."
        )
    if use_input_stats and math.prod(input.shape[2:]) == 1:
        raise ShapeError(
            f"instance_norm: more than 1 spatial element is needed, got an input of shape {input.shape}. "
            "Use a larger image, or use_input_stats=False."
        )
    return input


def _instance_norm(
    F: Any,
    input: Any,
    running_mean: Any,
    running_var: Any,
    weight: Any,
    bias: Any,
    *,
    use_input_stats: bool,
    momentum: float,
    eps: float,
) -> Any:
    if use_input_stats:
        return F.group_norm(input, F.aval(input).shape[1], weight, bias, eps)
    return F.batch_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)


_POSITIVE = {"fill": "uniform", "low": 0.5, "high": 2.0}
register(
    name="instance_norm",
    doc="""Each channel of each sample normalised over its own space (or by running statistics, use_input_stats=False).

    Ulyanov et al. 2016; as torch.nn.functional.instance_norm. The op itself only reads running statistics, and only
    without use_input_stats; `gt.instance_norm` updates them with it.
    """,
    signature="input, running_mean=None, running_var=None, weight=None, bias=None, use_input_stats=True, momentum=0.1, "
    "eps=1e-05",
    precision="wide",
    inputs=("input", "running_mean", "running_var", "weight", "bias"),
    rule=_instance_norm_rule,
    compose=_instance_norm,
    samples=(
        Sample(t(2, 3, 5), None, None, t(3), t(3)),
        Sample(t(2, 3, 5, 2), eps=1e-3),
        Sample(t(2, 3, 5), t(3), t(3, **_POSITIVE), t(3), t(3), use_input_stats=False),
        Sample(t(0, 3, 5), None, None, t(3), torch_=False, why_="no samples: PyTorch fails"),
        Sample(t(2, 3, 4, 6, layout="transposed"), None, None, t(3, layout="strided")),
        Sample(t(2, 3, 5, dtype="float64")),
    ),
    errors=(
        Bad(ShapeError, "more than 1 spatial element", t(2, 3, 1)),
        Bad(ArgumentError, "Give both", t(2, 3, 5), use_input_stats=False),
        Bad(ArgumentError, "Give both", t(2, 3, 5), t(3)),
        Bad(ShapeError, r"running_var has shape \(2,\)", t(2, 3, 5), t(3), t(2)),
    ),
    torch="torch.nn.functional.instance_norm",
)
