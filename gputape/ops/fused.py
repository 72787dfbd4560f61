"""Cards of several element-wise ops in one, and of their sum: what `gt.compile` makes of chains of them."""

from __future__ import annotations

from typing import Any

from ..aval import Aval
from ..errors import ArgumentError, ShapeError
from ..registry import At, get, register
from ..samples import Bad, Perf, Sample, t

MOST_OUTPUTS = 4


def members(arrays: Any, steps: Any) -> list[At]:
    """The op of each step, at the avals that it gets."""
    values, found = list(arrays), []
    for name, attrs, operands in steps:
        card = get(name)
        at = card.at(tuple([values[k] for k in operands]), card.values(dict(attrs)))
        found.append(at)
        values.append(at.out)
    return found


def _rule(*arrays: Aval, steps: Any, keep: Any) -> tuple[Aval | None, ...]:
    if not steps or not 0 < len(keep) <= MOST_OUTPUTS:
        raise ArgumentError(f"fused: {len(steps)} steps and {len(keep)} outputs. Give steps, and 1 to {MOST_OUTPUTS}.")
    outs = [members(arrays, steps)[k - len(arrays)].out for k in keep]
    if any(a.shape != outs[0].shape for a in outs):
        raise ShapeError(f"fused: outputs of shapes {[a.shape for a in outs]}. Keep values of one shape.")
    return (*outs, *(None,) * (MOST_OUTPUTS - len(outs)))


_GATE = (("sigmoid", (), (0,)), ("mul", (), (2, 1)), ("add", (), (3, 0)))  # σ(a)·b + a
_BOUNDED = (("clamp", (("min", -0.5), ("max", 0.5)), (0,)), ("gt", (), (1, 0)), ("where", (), (2, 1, 0)))
_POWERS = (("pow_scalar", (("exponent", 3),), (0,)), ("gelu", (("approximate", "tanh"),), (1,)), ("neg", (), (2,)))
_HALVES = (("cast", (("dtype", "float32"),), (0,)), ("exp", (), (1,)), ("cast", (("dtype", "bfloat16"),), (2,)))

register(
    name="fused",
    doc="""Several element-wise ops in one pass.

    Values are numbered: the arrays first, then what each step makes. A step is (op, its options as pairs, the numbers
    of its operands); `keep` names the values that are outputs, all of one shape. Between steps a kernel holds values in
    float32, whatever they would be stored in.""",
    signature="arrays, steps, keep",
    inputs=("*arrays",),
    outputs=tuple(f"y{k}" for k in range(MOST_OUTPUTS)),
    strided=tuple(f"y{k}" for k in range(MOST_OUTPUTS)),
    inplace=True,
    batch="pointwise",
    rule=_rule,
    samples=(
        Sample(t(5, 3), t(5, 3), steps=_GATE, keep=(4,), grad_=False),
        Sample(t(5, 3), t(3), steps=_GATE, keep=(2, 4), grad_=False, why_="two outputs, one operand broadcast"),
        Sample(t(7), steps=_BOUNDED, keep=(1, 2, 3), grad_=False, why_="a bool between floats"),
        Sample(t(4, 6, layout="transposed"), steps=_POWERS, keep=(3,), grad_=False),
        Sample(t(4, 6, layout="flipped"), t(), steps=_GATE, keep=(4,), grad_=False),
        Sample(t(), t(), steps=_GATE, keep=(4,), grad_=False),
        Sample(t(0, 3), t(3), steps=_GATE, keep=(4,), grad_=False),
        Sample(t(5, 3, dtype="float64"), t(3, dtype="float64"), steps=_GATE, keep=(4,), grad_=False),
        Sample(t(5, 3, dtype="bfloat16"), steps=_HALVES, keep=(3,), grad_=False),
    ),
    errors=(
        Bad(ArgumentError, "0 steps and 1 outputs", t(3), steps=(), keep=(0,)),
        Bad(ArgumentError, "3 steps and 5 outputs", t(3), t(3), steps=_GATE, keep=(2, 3, 4, 3, 2)),
        Bad(ShapeError, "outputs of shapes", t(3), t(5, 3), steps=_GATE, keep=(2, 4)),
    ),
    perf=(Perf(t(1024, 512), t(1024, 512), steps=_GATE, keep=(4,), name_="a gate"),),
    public=False,
)


# --- sums of them -----------------------------------------------------------------------------------------------------

MOST_SUMMED = 3  # arrays whose chain can be summed
MOST_NUMBERS = 4


def _sum_rule(*arrays: Aval, steps: Any, dim: Any, keepdim: bool, mean: bool) -> Aval:
    if not steps or len(arrays) > MOST_SUMMED:
        raise ArgumentError(
            f"fused_sum: {len(steps)} steps on {len(arrays)} arrays. Give steps, on 1 to {MOST_SUMMED}."
        )
    total = members(arrays, steps)[-1].out
    if any(a.shape not in ((), total.shape) for a in arrays):
        raise ShapeError(
            f"fused_sum: arrays of shapes {[a.shape for a in arrays]} for {total.shape}. Only scalars repeat."
        )
    card = get("mean" if mean else "sum")
    return card.at((total,), card.values({"dim": dim, "keepdim": keepdim})).out


_ERROR = (("sub", (), (0, 1)), ("square", (), (2,)))  # (a - b)²
_WEIGHTED = (("mul", (), (0, 1)), ("leaky_relu", (("negative_slope", 0.1),), (3,)), ("mul", (), (4, 2)))
TABLE = t(1024, 512)

register(
    name="fused_sum",
    doc="""Sum (or mean) over the axes `dim` of what several element-wise ops make, as `fused` has them, without that
    ever being in memory. The arrays have the shape that is summed, or are scalars.""",
    signature="arrays, steps, dim, keepdim=False, mean=False",
    inputs=("*arrays",),
    canon=lambda *arrays, dim, keepdim, mean, **rest: {"dim": tuple(dim), "keepdim": keepdim, "mean": mean, **rest},
    rule=_sum_rule,
    samples=(
        Sample(t(5, 3), t(5, 3), steps=_ERROR, dim=(0, 1), grad_=False),
        Sample(t(5, 3), t(5, 3), steps=_ERROR, dim=(1,), keepdim=True, mean=True, grad_=False),
        Sample(t(5, 3, 7), t(5, 3, 7), t(), steps=_WEIGHTED, dim=(0, 2), grad_=False, why_="a scalar factor"),
        Sample(t(2, 3000), t(2, 3000), t(2, 3000), steps=_WEIGHTED, dim=(1,), grad_=False, why_="several groups"),
        Sample(t(4, 6, layout="transposed"), t(), steps=_ERROR, dim=(0,), grad_=False),
        Sample(t(), t(), steps=_ERROR, dim=(), grad_=False),
        Sample(t(0, 3), t(0, 3), steps=_ERROR, dim=(0,), grad_=False, why_="an empty sum is 0"),
        Sample(t(5, 3, dtype="float64"), t(5, 3, dtype="float64"), steps=_ERROR, dim=(0, 1), grad_=False),
        Sample(t(5, 3, dtype="bfloat16"), t(5, 3, dtype="bfloat16"), steps=_ERROR, dim=(1,), grad_=False),
    ),
    errors=(
        Bad(ArgumentError, "2 steps on 4 arrays", t(3), t(3), t(3), t(3), steps=_ERROR, dim=(0,)),
        Bad(ShapeError, "Only scalars repeat", t(5, 3), t(3), steps=_ERROR, dim=(0,)),
    ),
    perf=(
        Perf(TABLE, TABLE, steps=_ERROR, dim=(0, 1), name_="squared error"),
        Perf(TABLE, TABLE, steps=_ERROR, dim=(1,), mean=True, name_="of each row"),
        Perf(TABLE, TABLE, steps=_ERROR, dim=(0,), name_="of each column"),
    ),
    public=False,
)
