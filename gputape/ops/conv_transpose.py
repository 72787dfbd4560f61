"""Cards of the transposed convolution: the gradient of a convolution with respect to its input, as an op."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

from ..aval import Aval
from ..errors import ArgumentError, DTypeError, ShapeError
from ..registry import At, register
from ..samples import Bad, Perf, Sample, t
from ._window import Ints, Pairs, batched, one_per_axis, spatial, transposed, unbatched
from .conv import check_arrays, positive, sum_to_channels, weight_axes, weight_grad


def _shape(
    op: str,
    input: Aval,
    weight: Aval,
    bias: Aval | None,
    stride: Ints,
    padding: Pairs,
    dilation: Ints,
    groups: int,
) -> Aval:
    kernel = weight.shape[2:]
    sizes = spatial(op, input, len(kernel))
    check_arrays(op, input, weight, bias, weight.shape[1] * groups)
    channels = input.shape[-len(kernel) - 1]
    if channels != weight.shape[0] or channels % groups:
        raise ShapeError(
            f"{op}: input {input.shape} has {channels} channels, but weight {weight.shape} takes {weight.shape[0]}, "
            f"which must divide by groups={groups}. Give weight shape (channels, out/groups, *kernel)."
        )
    out = tuple(map(transposed, sizes, kernel, stride, padding, dilation))
    if min(sizes) < 1 or min(out) < 1:
        raise ShapeError(
            f"{op}: input of {sizes} with a kernel of {kernel}, stride {stride} and padding {padding} gives an output "
            f"of {out}. Use less padding or a larger input."
        )
    return input.with_shape((*input.shape[: input.ndim - len(kernel) - 1], weight.shape[1] * groups, *out))


def _vjp(F: Any, at: At, dy: Any, input: Any, weight: Any) -> tuple[Any, Any, Any]:
    need_x, need_w, need_b = at.needs
    rest = [at.attrs[k] for k in ("stride", "padding", "dilation", "groups")]
    return (
        F.conv_nd(dy, weight, None, *rest) if need_x else None,
        weight_grad(F, dy, input, at.ins[1].shape[2:], at.attrs)[0] if need_w else None,
        sum_to_channels(F, dy) if need_b else None,
    )


_PLAIN: dict[str, Any] = dict(stride=(1,), padding=((0, 0),), dilation=(1,), groups=1)

register(
    name="conv_transpose_nd",
    doc="""Each input adds its multiple of the kernel to a window of the output, plus the bias of the channel:

    y[n, o, z…] = bias[o] + Σ_{c, u…} weight[c, o, u…] · input[n, c, i…]  over all i·stride + u·dilation = z + before

input (N, C, *spatial), weight (C, out/groups, *kernel), bias (out,) or None, one float dtype. `padding` is one
(before, after) pair per axis that is cropped off the output; `after` may be negative, which appends positions.""",
    signature="input, weight, bias, stride, padding, dilation, groups",
    precision="narrow",
    inputs=("input", "weight", "bias"),
    rule=lambda input, weight, bias, **attrs: _shape("conv_transpose_nd", input, weight, bias, **attrs),
    vjp=_vjp,
    saves=("input", "weight"),
    batch=(0, None, None, 0),
    flops=lambda at: 2 * at.ins[0].size * prod(at.ins[1].shape[1:]),
    samples=(
        Sample(t(2, 3, 4, 3), t(3, 2, 3, 2), t(2), stride=(2, 1), padding=((1, 0), (0, 1)), dilation=(1, 2), groups=1),
        Sample(t(2, 4, 3), t(4, 3, 2), None, stride=(3,), padding=((1, -2),), dilation=(1,), groups=2),
        Sample(t(0, 2, 3), t(2, 3, 2), t(3), **_PLAIN),
        Sample(t(2, 3, 4, layout="strided"), t(3, 2, 3, layout="transposed"), t(2, layout="flipped"), **_PLAIN),
        Sample(t(2, 3, 4, dtype="float64"), t(3, 2, 3, dtype="float64"), t(2, dtype="float64"), **_PLAIN),
    ),
    perf=(
        Perf(
            *(t(64, 32, 14, 14), t(32, 16, 3, 3), None),
            stride=(1, 1),
            padding=((1, 1), (1, 1)),
            dilation=(1, 1),
            groups=1,
            gemms_=((1, 16, 64 * 14**2, 9 * 32),),
            name_="cnn conv 2, input gradient",
        ),
        Perf(
            *(t(32, 64, 14, 14), t(64, 32, 2, 2), t(32)),
            stride=(2, 2),
            padding=((0, 0), (0, 0)),
            dilation=(1, 1),
            groups=1,
            gemms_=((4, 32, 32 * 14**2, 64),),
            name_="U-Net up",
        ),
    ),
    public=False,
)


# --- PyTorch's names --------------------------------------------------------------------------------------------------


def _canon(op: str, n: int | None) -> Callable[..., dict[str, Any]]:
    def canon(
        input: Aval,
        weight: Aval,
        bias: Aval | None,
        *,
        stride: Any,
        padding: Any,
        output_padding: Any,
        groups: Any,
        dilation: Any,
    ) -> dict[str, Any]:
        n_axes = len(weight_axes(op, weight, n))
        options: dict[str, Any] = {
            "stride": one_per_axis(op, "stride", stride, n_axes, 1),
            "padding": one_per_axis(op, "padding", padding, n_axes, 0),
            "output_padding": one_per_axis(op, "output_padding", output_padding, n_axes, 0),
            "groups": positive(op, "groups", groups),
            "dilation": one_per_axis(op, "dilation", dilation, n_axes, 1),
        }
        limits = tuple(map(max, options["stride"], options["dilation"]))
        if any(p >= limit for p, limit in zip(options["output_padding"], limits, strict=True)):
            raise ArgumentError(
                f"{op}: output_padding {options['output_padding']} must be smaller than stride or dilation "
                f"({options['stride']}, {options['dilation']}). Use at most {tuple(limit - 1 for limit in limits)}."
            )
        return options

    return canon


def _crop(padding: Ints, output_padding: Ints) -> Pairs:
    return tuple((p, p - extra) for p, extra in zip(padding, output_padding, strict=True))


def _rule(op: str) -> Callable[..., Aval]:
    def rule(
        input: Aval,
        weight: Aval,
        bias: Aval | None,
        *,
        stride: Ints,
        padding: Ints,
        output_padding: Ints,
        groups: int,
        dilation: Ints,
    ) -> Aval:
        return _shape(op, input, weight, bias, stride, _crop(padding, output_padding), dilation, groups)

    return rule


def _compose(
    F: Any,
    input: Any,
    weight: Any,
    bias: Any,
    *,
    stride: Ints,
    padding: Ints,
    output_padding: Ints,
    groups: int,
    dilation: Ints,
) -> Any:
    x, lone = batched(F, input, len(stride))
    return unbatched(
        F, F.conv_transpose_nd(x, weight, bias, stride, _crop(padding, output_padding), dilation, groups), lone
    )


def _errors(n: int) -> tuple[Bad, ...]:
    x, w = t(2, 3, *(5,) * n), t(3, 4, *(3,) * n)
    return (
        Bad(ShapeError, "has 2 channels", t(1, 2, *(5,) * n), w),
        Bad(ShapeError, "groups=2", x, w, groups=2),
        Bad(ShapeError, r"bias has shape \(3,\)", x, w, t(3)),
        Bad(ShapeError, "gives an output", t(2, 3, *(1,) * n), w, padding=2),
        Bad(ShapeError, "axes", t(5), w),
        Bad(ShapeError, "weight has shape", x, t(3, 4)),
        Bad(ArgumentError, "stride=0", x, w, stride=0),
        Bad(ArgumentError, "padding='same'", x, w, padding="same"),
        Bad(ArgumentError, "output_padding", x, w, stride=2, output_padding=2),
        Bad(DTypeError, "different dtypes", x, w, t(4, dtype="float64")),
        Bad(DTypeError, "different dtypes", t(2, 3, *(5,) * n, dtype="int32", fill="ones"), w),
        Bad(DTypeError, "bool", *(t(*a.shape, dtype="bool", fill="bool") for a in (x, w))),
    )


def _register(n: int | None, samples: tuple[Sample, ...]) -> None:
    name = f"conv_transpose{n}d" if n else "conv_transpose"
    axes = f"{n} spatial axes" if n else "any number of spatial axes, as many as the weight has"
    register(
        name=name,
        doc=f"""Transposed convolution over {axes}. As torch.nn.functional.{name}{"" if n else "1d/2d/3d"}.

It is the gradient of a convolution with respect to its input: every element adds its multiple of the kernel.
input (N, C, *spatial) or (C, *spatial); weight (C, out/groups, *kernel); bias (out,) or None. One floating dtype. Size
along an axis: (size-1)·stride - 2·padding + dilation·(kernel-1) + output_padding + 1.""",
        signature="input, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1",
        precision="narrow",
        inputs=("input", "weight", "bias"),
        canon=_canon(name, n),
        rule=_rule(name),
        compose=_compose,
        samples=samples,
        errors=_errors(n or 2),
        torch=f"torch.nn.functional.{name}" if n else None,
    )


_register(
    None,
    (
        Sample(
            t(1, 2, 2, 2, 3, 2), t(2, 2, 2, 1, 2, 2), t(2), stride=2, padding=(0, 0, 1, 0), why_="four spatial axes"
        ),
        Sample(t(3, 5), t(3, 2, 3)),
        Sample(t(0, 3, 5), t(3, 2, 3), why_="no samples"),
        Sample(t(2, 3, 5, layout="strided"), t(3, 2, 3, layout="transposed"), padding=1),
        Sample(t(2, 3, 5, dtype="float64"), t(3, 2, 3, dtype="float64"), stride=2),
    ),
)
_register(
    1,
    (
        Sample(t(2, 3, 5), t(3, 2, 3), t(2)),
        Sample(t(2, 4, 5), t(4, 3, 3), t(6), stride=3, padding=2, output_padding=1, groups=2, dilation=2),
        Sample(t(2, 3, 4), t(3, 2, 3), padding=1, output_padding=1, dilation=2, why_="output_padding at stride 1"),
        Sample(t(3, 5), t(3, 2, 4), t(2), why_="unbatched"),
        Sample(t(0, 3, 5), t(3, 2, 2), why_="no samples"),
        Sample(t(2, 3, 5, dtype="float64"), t(3, 2, 3, dtype="float64"), t(2, dtype="float64")),
        Sample(t(2, 3, 5, layout="strided"), t(3, 2, 3, layout="transposed"), stride=2),
    ),
)
_register(
    2,
    (
        Sample(t(2, 3, 4, 3), t(3, 4, 3, 3), t(4)),
        Sample(t(2, 3, 4, 3), t(3, 2, 3, 2), t(2), stride=(2, 3), padding=(1, 0), output_padding=(1, 2)),
        Sample(t(2, 4, 3, 3), t(4, 1, 3, 3), t(4), groups=4, stride=2, padding=1, why_="depthwise"),
        Sample(t(2, 3, 4, 4), t(3, 2, 2, 2), t(2), stride=2, why_="windows side by side"),
        Sample(t(2, 3, 3, 3), t(3, 2, 1, 1), t(2), stride=2, why_="positions that nothing reaches"),
        Sample(t(2, 3, 3, 3), t(3, 2, 1, 1), t(2), why_="pointwise"),
        Sample(t(3, 4, 3), t(3, 2, 2, 3), dilation=(2, 1), why_="unbatched"),
        Sample(t(2, 3, 4, 6, layout="transposed"), t(3, 2, 3, 3, layout="flipped"), t(2, layout="strided")),
        Sample(t(1, 1, 8, 9), t(1, 2, 3, 3), t(2), padding=1, why_="a large image"),
        Sample(t(0, 3, 4, 4), t(3, 2, 2, 2), t(2), why_="no samples"),
        Sample(t(2, 3, 3, 3, dtype="float64"), t(3, 2, 2, 2, dtype="float64"), t(2, dtype="float64")),
    ),
)
_register(
    3,
    (
        Sample(t(2, 2, 2, 3, 2), t(2, 3, 2, 2, 3), t(3), stride=(1, 2, 1), padding=(0, 1, 1), output_padding=(0, 1, 0)),
        Sample(t(4, 2, 2, 2), t(4, 1, 2, 2, 2), t(2), groups=2, dilation=2, why_="unbatched"),
        Sample(t(0, 2, 2, 2, 2), t(2, 3, 2, 2, 2), why_="no samples"),
        Sample(t(2, 2, 2, 3, 2, layout="transposed"), t(2, 3, 2, 2, 2, layout="flipped"), padding=1),
        Sample(t(1, 2, 2, 2, 2, dtype="float64"), t(2, 3, 2, 2, 2, dtype="float64"), stride=2),
    ),
)
