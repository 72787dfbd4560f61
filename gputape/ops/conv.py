"""Cards of convolution: the N-dimensional op, its weight gradient, and PyTorch's names for both.

`conv_nd`, `conv_transpose_nd` and `conv_weight_nd` are bilinear, and each is the gradient of the others: the input
gradient of a convolution is a transposed convolution and the other way round, and both have the weight gradient
`conv_weight_nd`. So gradients of every order stay within the three.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

from ..aval import Aval, need_same_dtype
from ..errors import ArgumentError, DTypeError, ShapeError
from ..registry import At, register
from ..samples import Bad, Perf, Sample, t
from ._window import Ints, Pairs, batched, count, one_per_axis, pairs, spatial, unbatched
from .pointwise import not_bool

# --- shapes -----------------------------------------------------------------------------------------------------------


def weight_axes(op: str, weight: Aval | None, n: int | None) -> Ints:
    """Kernel sizes of a weight (out, in/groups, *kernel); `n` None takes any number of them."""
    wanted = "at least one axis" if n is None else f"{n} axes"
    if weight is None:
        raise ArgumentError(f"{op}: weight is missing. Pass an array with {wanted} after the two of channels.")
    if weight.ndim < 3 if n is None else weight.ndim != n + 2:
        raise ShapeError(
            f"{op}: weight has shape {weight.shape}, but two axes of channels and {wanted} of the kernel are needed. "
            "Reshape it."
        )
    if min(weight.shape[2:]) < 1:
        raise ShapeError(f"{op}: weight {weight.shape} has an empty kernel. Kernel sizes must be at least 1.")
    return weight.shape[2:]


def positive(op: str, name: str, value: Any) -> int:
    """A positive integer option."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ArgumentError(f"{op}: {name}={value!r} must be a positive integer. Use 1 for the plain convolution.")
    return value


def check_arrays(op: str, input: Aval, weight: Aval, bias: Aval | None, out_channels: int) -> None:
    """Dtypes, and the length of the bias."""
    need_same_dtype(op, input=input, weight=weight, bias=bias)
    not_bool(op, input)
    if bias is not None and bias.shape != (out_channels,):
        raise ShapeError(
            f"{op}: bias has shape {bias.shape}, but weight {weight.shape} gives {out_channels} output channels. "
            f"Give bias shape ({out_channels},)."
        )


def _conv_canon(op: str, n: int | None) -> Callable[..., dict[str, Any]]:
    def canon(
        input: Aval, weight: Aval, bias: Aval | None, *, stride: Any, padding: Any, dilation: Any, groups: Any
    ) -> dict[str, Any]:
        kernel = weight_axes(op, weight, n)
        stride = one_per_axis(op, "stride", stride, len(kernel), 1)
        dilation = one_per_axis(op, "dilation", dilation, len(kernel), 1)
        padding = pairs(op, padding, kernel, stride, dilation)
        return {"stride": stride, "padding": padding, "dilation": dilation, "groups": positive(op, "groups", groups)}

    return canon


def conv_rule(op: str) -> Callable[..., Aval]:
    def rule(
        input: Aval, weight: Aval, bias: Aval | None, *, stride: Ints, padding: Pairs, dilation: Ints, groups: int
    ) -> Aval:
        kernel = weight.shape[2:]
        sizes = spatial(op, input, len(kernel))
        check_arrays(op, input, weight, bias, weight.shape[0])
        channels = input.shape[-len(kernel) - 1]
        if weight.shape[0] % groups or channels != weight.shape[1] * groups:
            raise ShapeError(
                f"{op}: input {input.shape} has {channels} channels, but weight {weight.shape} with groups={groups} "
                f"needs {weight.shape[1] * groups}, and its {weight.shape[0]} output channels must divide by groups. "
                "Give weight shape (out, channels/groups, *kernel)."
            )
        out = tuple(map(count, sizes, kernel, stride, padding, dilation))
        if min(out) < 1:
            raise ShapeError(
                f"{op}: a kernel of {kernel} with dilation {dilation} does not fit the input of {sizes} with padding "
                f"{padding}. Pad more, or use a smaller kernel."
            )
        return input.with_shape((*input.shape[: input.ndim - len(kernel) - 1], weight.shape[0], *out))

    return rule


# --- the primitives ---------------------------------------------------------------------------------------------------


def sum_to_channels(F: Any, dy: Any) -> Any:
    """The gradient of a bias: the sum over all axes of (N, C, *spatial) but C."""
    return F.sum(dy, (0, *range(2, F.aval(dy).ndim)))


def weight_grad(F: Any, input: Any, dy: Any, kernel: Ints, attrs: dict[str, Any]) -> tuple[Any, Any]:
    """(dweight, dbias) of the convolution of `input` with cotangent `dy`."""
    return F.conv_weight_nd(input, dy, kernel, attrs["stride"], attrs["padding"], attrs["dilation"], attrs["groups"])


def input_grad(F: Any, dy: Any, weight: Any, sizes: Ints, attrs: dict[str, Any]) -> Any:
    """The gradient of a convolution's input of spatial `sizes`: a transposed convolution cropped to them."""
    outs = F.aval(dy).shape[2:]
    kernel = F.aval(weight).shape[2:]
    crop = tuple(
        (lo, (o - 1) * s + d * (k - 1) + 1 - lo - size)  # negative where rows were left over that no window touched
        for o, k, s, (lo, _), d, size in zip(
            outs, kernel, attrs["stride"], attrs["padding"], attrs["dilation"], sizes, strict=True
        )
    )
    return F.conv_transpose_nd(dy, weight, None, attrs["stride"], crop, attrs["dilation"], attrs["groups"])


def conv_vjp(F: Any, at: At, dy: Any, input: Any, weight: Any) -> tuple[Any, Any, Any]:
    """Gradients of input, weight and bias, `at` being a convolution with its attributes among others."""
    x, w, *_ = at.ins
    need_x, need_w, need_b = at.needs
    dx = input_grad(F, dy, weight, x.shape[2:], at.attrs) if need_x else None
    if not need_w:
        return dx, None, sum_to_channels(F, dy) if need_b else None
    return dx, *weight_grad(F, input, dy, w.shape[2:], at.attrs)


CONV_ND = """Each output is the sum over a window of the input times the kernel, plus the bias of its channel:

    y[n, o, i…] = bias[o] + Σ_{c, u…} weight[o, c, u…] · input[n, c, i·stride + u·dilation - before …]

input (N, C, *spatial), weight (out, C/groups, *kernel), bias (out,) or None, y (N, out, *positions), one float dtype.
`padding` is one (before, after) pair per axis; outside the input there are zeros; `after` may be negative (a crop).
Output channel o sees the channels of its group only."""

_ND: dict[str, Any] = dict(batch=(0, None, None, 0), public=False)
_1: dict[str, Any] = dict(stride=(1,), padding=((0, 0),), dilation=(1,), groups=1)
_2: dict[str, Any] = dict(stride=(1, 1), padding=((1, 1), (1, 1)), dilation=(1, 1), groups=1)
# name, images, channels in and out, rows and columns of 3×3 convolutions that keep the size
LAYERS = (
    ("digits conv", 64, 1, 16, 8),
    ("cnn conv 1", 64, 1, 16, 28),
    ("cnn conv 2", 64, 16, 32, 14),
    ("", 32, 64, 64, 28),
)

register(
    name="conv_nd",
    doc=CONV_ND,
    signature="input, weight, bias, stride, padding, dilation, groups",
    precision="narrow",
    inputs=("input", "weight", "bias"),
    rule=conv_rule("conv_nd"),
    vjp=conv_vjp,
    saves=("input", "weight"),
    flops=lambda at: 2 * at.out.size * prod(at.ins[1].shape[1:]),
    samples=(
        Sample(t(2, 3, 5, 4), t(4, 3, 3, 3), t(4), **_2),
        Sample(t(2, 3, 7), t(2, 3, 2), None, **_1 | dict(stride=(2,), padding=((2, -1),)), why_="after crops"),
        Sample(t(2, 4, 5), t(6, 2, 1), t(6), **_1 | dict(groups=2), why_="no window"),
        Sample(t(0, 3, 5, 4), t(4, 3, 3, 3), t(4), **_2),
        Sample(t(2, 3, 5, 4, layout="transposed"), t(4, 3, 3, 3, layout="flipped"), t(4, layout="strided"), **_2),
        Sample(t(2, 2, 5, dtype="float64"), t(3, 2, 2, dtype="float64"), t(3, dtype="float64"), **_1),
    ),
    perf=tuple(
        Perf(t(n, c, side, side), t(o, c, 3, 3), t(o), gemms_=((1, o, n * side**2, 9 * c),), name_=name, **_2)
        for name, n, c, o, side in LAYERS
    ),
    **_ND,
    exempt={"conv_depthwise": "depthwise: no matrix product, one thread per element"},
)


def _weight_rule(
    input: Aval, dy: Aval, *, kernel: Ints, stride: Ints, padding: Pairs, dilation: Ints, groups: int
) -> tuple[Aval, Aval]:
    need_same_dtype("conv_weight_nd", input=input, dy=dy)
    out = tuple(map(count, input.shape[2:], kernel, stride, padding, dilation))
    if dy.shape[:1] + dy.shape[2:] != input.shape[:1] + out or input.shape[1] % groups or dy.shape[1] % groups:
        raise ShapeError(
            f"conv_weight_nd: dy {dy.shape} is not of the convolution of input {input.shape} with kernel {kernel}, "
            f"whose positions are {out} in {groups} groups. Give the cotangent of that convolution."
        )
    return (
        input.with_shape((dy.shape[1], input.shape[1] // groups, *kernel)),
        input.with_shape((dy.shape[1],)),
    )


def _weight_vjp(F: Any, at: At, cotangents: tuple[Any, Any], input: Any, dy: Any) -> tuple[Any, Any]:
    dweight, dbias = cotangents
    need_input, need_dy = at.needs
    if dweight is None:
        spread = F.reshape(dbias, (1, -1, *(1,) * len(at.attrs["kernel"])))
        return None, F.expand(spread, at.ins[1].shape) if need_dy else None
    rest = [at.attrs[k] for k in ("stride", "padding", "dilation", "groups")]
    return (
        input_grad(F, dy, dweight, at.ins[0].shape[2:], at.attrs) if need_input else None,
        F.conv_nd(input, dweight, dbias, *rest) if need_dy else None,
    )


register(
    name="conv_weight_nd",
    doc="""The gradients of `conv_nd`'s weight and bias from its input and the cotangent `dy` of its output:

    dweight[o, c, u…] = Σ_{n, i…} dy[n, o, i…] · input[n, c, i·stride + u·dilation - before …]
    dbias[o] = Σ_{n, i…} dy[n, o, i…]

input (N, C, *spatial), dy (N, out, *positions), dweight (out, C/groups, *kernel), dbias (out,).""",
    signature="input, dy, kernel, stride, padding, dilation, groups",
    precision="narrow",
    inputs=("input", "dy"),
    outputs=("dweight", "dbias"),
    returns=2,
    rule=_weight_rule,
    vjp=_weight_vjp,
    saves=("input", "dy"),
    batch=(0, 0, "sum", "sum"),
    flops=lambda at: 2 * at.ins[1].size * prod(at.outs[0].shape[1:]),
    samples=(
        Sample(t(2, 3, 5, 4), t(2, 4, 5, 4), kernel=(3, 3), **_2),
        Sample(t(3, 2, 8), t(3, 4, 3), kernel=(2,), **_1 | dict(stride=(3,), groups=2), why_="a row is left over"),
        Sample(t(0, 2, 4), t(0, 4, 3), kernel=(2,), **_1),
        Sample(t(2, 3, 5, 4, layout="transposed"), t(2, 4, 5, 4, layout="expanded"), kernel=(3, 3), **_2),
        Sample(t(2, 3, 5, dtype="float64"), t(2, 4, 4, dtype="float64"), kernel=(2,), **_1),
    ),
    errors=(Bad(ShapeError, "is not of the convolution", t(2, 3, 5), t(2, 4, 5), kernel=(2,), **_1),),
    perf=tuple(
        Perf(
            *(t(n, c, side, side), t(n, o, side, side)),
            kernel=(3, 3),
            gemms_=((1, o, 9 * c, n * side**2),),
            name_=name,
            **_2,
        )
        for name, n, c, o, side in LAYERS
    ),
    public=False,
    exempt={"conv_weight_depthwise": "depthwise: no matrix product, taps at odd addresses"},
)


# --- PyTorch's names --------------------------------------------------------------------------------------------------


def _compose(
    F: Any, input: Any, weight: Any, bias: Any, *, stride: Ints, padding: Pairs, dilation: Ints, groups: int
) -> Any:
    x, lone = batched(F, input, len(stride))
    return unbatched(F, F.conv_nd(x, weight, bias, stride, padding, dilation, groups), lone)


def _errors(n: int) -> tuple[Bad, ...]:
    w = t(4, 3, *(3,) * n)
    x = t(2, 3, *(5,) * n)
    return (
        Bad(ShapeError, r"input .* has 2 channels", t(1, 2, *(5,) * n), w),
        Bad(ShapeError, "groups=2", x, w, groups=2),
        Bad(ShapeError, "does not fit", t(2, 3, *(2,) * n), w),
        Bad(ShapeError, r"bias has shape \(3,\)", x, w, t(3)),
        Bad(ShapeError, "axes", t(5), w),
        Bad(ShapeError, "empty kernel", x, t(4, 3, *(0,) * n)),
        Bad(ArgumentError, "stride=0", x, w, stride=0),
        Bad(ArgumentError, "dilation=0", x, w, dilation=0),
        Bad(ArgumentError, "padding=-1", x, w, padding=-1),
        Bad(ArgumentError, "'full' is unknown", x, w, padding="full"),
        Bad(ArgumentError, "Use stride 1", x, w, padding="same", stride=2),
        Bad(ArgumentError, "groups=0", x, w, groups=0),
        Bad(DTypeError, "different dtypes", x, t(4, 3, *(3,) * n, dtype="float64")),
        Bad(DTypeError, "different dtypes", t(2, 3, *(5,) * n, dtype="int64", fill="ones"), w),
        Bad(DTypeError, "bool", *(t(*a.shape, dtype="bool", fill="bool") for a in (x, w))),
    )


def _register_conv(n: int | None, samples: tuple[Sample, ...]) -> None:
    name = f"conv{n}d" if n else "conv"
    axes = f"{n} spatial axes" if n else "any number of spatial axes, as many as the weight has"
    register(
        name=name,
        doc=f"""Convolution (cross-correlation) over {axes}. As torch.nn.functional.{name}{"" if n else "1d/2d/3d"}.

y[o, i…] = bias[o] + Σ weight[o, c, u…] · input[c, i·stride + u·dilation - padding …], channels within their group.
input (N, C, *spatial) or (C, *spatial); weight (out, C/groups, *kernel); bias (out,) or None. One dtype,
on the CPU also of integers.
stride, padding and dilation: an integer, or one per axis. padding may also be "valid", "same" (stride 1), or one
(before, after) pair per axis.""",
        signature="input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1",
        precision="narrow",
        inputs=("input", "weight", "bias"),
        canon=_conv_canon(name, n),
        rule=conv_rule(name),
        compose=_compose,
        samples=samples,
        errors=(*_errors(n or 2), Bad(ShapeError, "weight has shape", t(2, 3, 5), t(4, 3))),
        torch=f"torch.nn.functional.{name}" if n else None,
    )


_register_conv(
    None,
    (
        Sample(t(2, 3, 5, 4), t(4, 3, 3, 3), t(4), padding=((0, 1), (2, 0)), why_="another padding on each side"),
        Sample(t(1, 2, 3, 2, 3, 2), t(2, 2, 2, 1, 2, 2), padding=(0, 1, 0, 1), why_="four spatial axes"),
        Sample(t(3, 7), t(2, 3, 3)),
        Sample(t(0, 3, 7), t(2, 3, 3), why_="no samples"),
        Sample(t(2, 3, 7, layout="strided"), t(2, 3, 3, layout="transposed"), padding="same"),
        Sample(t(2, 3, 7, dtype="float64"), t(2, 3, 3, dtype="float64"), stride=2),
    ),
)
_register_conv(
    1,
    (
        Sample(t(2, 3, 11), t(4, 3, 3), t(4)),
        Sample(t(2, 4, 11), t(6, 2, 3), t(6), stride=2, padding=1, dilation=2, groups=2),
        Sample(t(3, 7), t(2, 3, 4), t(2), padding="same", why_="unbatched, an odd total"),
        Sample(t(2, 3, 1), t(2, 3, 1), why_="size 1"),
        Sample(t(0, 3, 5), t(2, 3, 2), why_="no samples"),
        Sample(t(2, 3, 7, layout="strided"), t(2, 3, 3, layout="transposed"), padding="valid"),
        Sample(t(2, 1, 70), t(2, 1, 3), t(2), padding=1, why_="long rows"),
        Sample(t(2, 3, 7, dtype="float64"), t(2, 3, 3, dtype="float64"), t(2, dtype="float64")),
    ),
)
_INTS: dict[str, Any] = dict(dtype="int32", fill="ints", low=-9, high=9)
_register_conv(
    2,
    (
        Sample(t(2, 3, 5, 7), t(4, 3, 3, 3), t(4)),
        Sample(t(2, 3, 5, 7), t(4, 3, 3, 2), t(4), stride=(2, 3), padding=(1, 0)),
        Sample(t(2, 3, 7, 6), t(2, 3, 2, 3), dilation=(3, 2), padding=(2, 1)),
        Sample(t(2, 4, 5, 5), t(4, 1, 3, 3), t(4), padding=1, groups=4, why_="depthwise"),
        Sample(t(2, 4, 5, 5), t(6, 2, 1, 1), t(6), groups=2, why_="pointwise"),
        Sample(t(2, 4, 5, 5), t(3, 4, 1, 1), t(3), stride=2, why_="pointwise, rows are skipped"),
        Sample(t(3, 5, 6), t(2, 3, 2, 4), t(2), padding="same", dilation=2, why_="unbatched"),
        Sample(t(1, 2, 3, 3), t(2, 2, 3, 3), t(2), padding=3, why_="windows wholly in the padding"),
        Sample(t(2, 3, 8, 8), t(2, 3, 3, 3), stride=3, why_="rows that no window touches"),
        Sample(t(0, 3, 5, 5), t(2, 3, 3, 3), t(2), why_="no samples"),
        Sample(t(2, 3, 4, 6, layout="transposed"), t(2, 3, 3, 3, layout="flipped"), t(2, layout="strided")),
        Sample(t(2, 1, 8, 8), t(2, 1, 3, 3), t(2), padding=1, why_="the digits' first layer"),
        Sample(t(2, 2, 4, 4, dtype="float64"), t(2, 2, 2, 2, dtype="float64")),
        Sample(*(t(*s, **_INTS) for s in ((2, 4, 5, 5), (6, 2, 3, 3), (6,))), padding=1, groups=2, why_="integers"),
        Sample(t(2, 3, 4, 4, **_INTS), t(2, 3, 1, 1, **_INTS), why_="pointwise"),
    ),
)
_register_conv(
    3,
    (
        Sample(t(2, 2, 3, 4, 3), t(3, 2, 2, 3, 2), t(3), padding=(0, 1, 1)),
        Sample(t(2, 4, 3, 3), t(2, 2, 2, 2, 2), stride=(1, 2, 1), padding="valid", why_="unbatched"),
        Sample(t(1, 4, 3, 3, 4), t(4, 2, 2, 1, 2), t(4), groups=2, dilation=(1, 2, 2), stride=2, padding=1),
        Sample(t(0, 2, 3, 3, 3), t(2, 2, 2, 2, 2), t(2), why_="no samples"),
        Sample(t(2, 2, 3, 3, 4, layout="transposed"), t(2, 2, 2, 2, 2, layout="flipped"), padding=1),
        Sample(t(1, 2, 3, 3, 3, dtype="float64"), t(2, 2, 2, 2, 2, dtype="float64")),
    ),
)
