"""Cards of average pooling."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..aval import Aval
from ..errors import ArgumentError, ShapeError
from ..registry import register
from ..samples import Bad, Perf, Sample, t
from ._window import Ints, batched, pool_options, pooled, unbatched
from .pool import flag, pool_errors

# --- the primitives ---------------------------------------------------------------------------------------------------


def _nd_rule(
    input: Aval,
    *,
    kernel_size: Ints,
    stride: Ints,
    padding: Ints,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
) -> Aval:
    window: dict[str, Any] = dict(
        kernel_size=kernel_size, stride=stride, padding=padding, dilation=(1,) * len(kernel_size)
    )
    return pooled("avg_pool_nd", input, **window, ceil_mode=ceil_mode)


def _bwd_rule(dy: Aval, *, spatial: Ints, **options: Any) -> Aval:
    dx = dy.with_shape((*dy.shape[:2], *spatial))
    if _nd_rule(dx, **options) is not dy:
        raise ShapeError(
            f"avg_pool_nd_bwd: dy {dy.shape} is not of a pool of {spatial} with {options}. Give the cotangent of it."
        )
    return dx


OPTIONS = "kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override"
_3X2: dict[str, Any] = dict(kernel_size=(3, 2), stride=(2, 1), padding=(1, 0), divisor_override=None)

register(
    name="avg_pool_nd",
    doc="""The mean of each window: its sum divided by its number of elements, those in the padding included if
`count_include_pad`, or by `divisor_override`. input (N, C, *spatial), y (N, C, *positions).""",
    signature=f"input, {OPTIONS}",
    inputs=("input",),
    rule=_nd_rule,
    vjp=lambda F, at, dy: F.avg_pool_nd_bwd(dy, at.ins[0].shape[2:], **at.attrs),
    batch=(0, 0),
    samples=(
        Sample(t(2, 3, 5, 4), **_3X2, ceil_mode=True, count_include_pad=False),
        Sample(t(0, 3, 5, 4), **_3X2, ceil_mode=False, count_include_pad=True),
        Sample(t(2, 3, 5, 4, layout="transposed"), **_3X2, ceil_mode=False, count_include_pad=True),
        Sample(t(2, 3, 5, 4, dtype="float64"), **_3X2, ceil_mode=True, count_include_pad=True),
    ),
    public=False,
    exempt={"avg_pool": "one thread per element: windows begin at odd addresses"},
)

register(
    name="avg_pool_nd_bwd",
    doc="""The gradient of `avg_pool_nd`: each dy (N, C, *positions), divided as there, is added to its window.""",
    signature=f"dy, spatial, {OPTIONS}",
    inputs=("dy",),
    outputs=("dx",),
    rule=_bwd_rule,
    vjp=lambda F, at, g: F.avg_pool_nd(g, **{k: v for k, v in at.attrs.items() if k != "spatial"}),
    batch=(0, 0),
    samples=tuple(
        Sample(dy, spatial=(5, 4), **_3X2, ceil_mode=True, count_include_pad=False)
        for dy in (t(2, 3, 3, 3), t(0, 3, 3, 3), t(2, 3, 3, 3, layout="transposed"), t(2, 3, 3, 3, dtype="float64"))
    ),
    errors=(
        Bad(
            ShapeError,
            "not of a pool",
            t(2, 3, 3, 3),
            spatial=(9, 4),
            **_3X2,
            ceil_mode=True,
            count_include_pad=False,
        ),
    ),
    public=False,
    exempt={"avg_pool_bwd": "one thread per element: windows begin at odd addresses"},
)


# --- PyTorch's names --------------------------------------------------------------------------------------------------


def _canon(op: str, n: int) -> Callable[..., dict[str, Any]]:
    def canon(
        input: Aval,
        *,
        kernel_size: Any,
        stride: Any,
        padding: Any,
        ceil_mode: Any,
        count_include_pad: Any,
        divisor_override: Any = None,
    ) -> dict[str, Any]:
        options: dict[str, Any] = pool_options(op, n, kernel_size, stride, padding)
        del options["dilation"]
        if isinstance(divisor_override, bool) or not (divisor_override is None or isinstance(divisor_override, int)):
            raise ArgumentError(f"{op}: divisor_override={divisor_override!r} must be an integer. Leave it out.")
        if divisor_override == 0:
            raise ArgumentError(f"{op}: divisor_override=0 would divide by zero. Use another integer.")
        options["ceil_mode"] = flag(op, "ceil_mode", ceil_mode)
        options["count_include_pad"] = flag(op, "count_include_pad", count_include_pad)
        return options | ({"divisor_override": divisor_override} if n > 1 else {})

    return canon


def _compose(F: Any, input: Any, *, divisor_override: int | None = None, **options: Any) -> Any:
    x, lone = batched(F, input, len(options["kernel_size"]))
    return unbatched(F, F.avg_pool_nd(x, **options, divisor_override=divisor_override), lone)


def _register(n: int, samples: tuple[Sample, ...], perf: tuple[Perf, ...] = ()) -> None:
    name = f"avg_pool{n}d"
    override = ", divisor_override=None" if n > 1 else ""
    divisor = ", or by `divisor_override`" if n > 1 else ""

    def rule(input: Aval, *, kernel_size: Ints, stride: Ints, padding: Ints, ceil_mode: bool, **rest: Any) -> Aval:
        window: dict[str, Any] = dict(kernel_size=kernel_size, stride=stride, padding=padding, dilation=(1,) * n)
        return pooled(name, input, **window, ceil_mode=ceil_mode)

    register(
        name=name,
        doc=f"""The mean of each window. As torch.nn.functional.{name}.

input (N, C, *spatial) or (C, *spatial) with {n} spatial sizes. kernel_size, stride (None: the kernel size) and padding
(zeros, at most half of the kernel): an integer, or one per axis. `ceil_mode` also takes windows that leave the input at
its end. The sum is divided by the size of the window, without its padding unless `count_include_pad`{divisor}.""",
        signature=f"input, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True{override}",
        inputs=("input",),
        canon=_canon(name, n),
        rule=rule,
        compose=_compose,
        samples=samples,
        errors=pool_errors(n)
        + ((Bad(ArgumentError, "divide by zero", t(1, 4, 4), kernel_size=2, divisor_override=0),) if n == 2 else ()),
        perf=perf,
        torch=f"torch.nn.functional.{name}",
    )


_register(
    1,
    (
        Sample(t(2, 3, 8), kernel_size=2),
        Sample(t(3, 7), kernel_size=3, stride=2, padding=1, ceil_mode=True, why_="unbatched"),
        Sample(t(2, 2, 7), kernel_size=4, stride=3, padding=2, count_include_pad=False, ceil_mode=True),
        Sample(t(2, 2, 1), kernel_size=1, why_="size 1"),
        Sample(t(0, 2, 4), kernel_size=2, why_="no samples"),
        Sample(t(2, 3, 8, layout="strided"), kernel_size=3, padding=1),
        Sample(t(2, 2, 7, dtype="float64"), kernel_size=2, ceil_mode=True),
    ),
)
_register(
    2,
    (
        Sample(t(2, 3, 4, 6), kernel_size=2),
        Sample(t(2, 3, 5, 7), kernel_size=3, stride=2, padding=1),
        Sample(t(2, 3, 5, 7), kernel_size=(2, 3), stride=(3, 1), padding=(0, 1), count_include_pad=False),
        Sample(t(2, 2, 5, 5), kernel_size=2, stride=3, padding=1, ceil_mode=True, why_="windows beyond the padding"),
        Sample(t(2, 5, 5), kernel_size=3, stride=1, divisor_override=-4, why_="unbatched"),
        Sample(t(2, 3, 4, 6, layout="transposed"), kernel_size=(1, 2)),
        Sample(t(2, 3, 4, 6, layout="strided"), kernel_size=(3, 1), padding=(1, 0)),
        Sample(t(0, 2, 4, 4), kernel_size=2, why_="no samples"),
        Sample(t(2, 2, 4, 4, dtype="float64"), kernel_size=2),
    ),
    (
        Perf(t(64, 16, 8, 8), kernel_size=2, name_="digits pool"),
        Perf(t(64, 16, 28, 28), kernel_size=2, name_="cnn pool 1"),
        Perf(t(64, 64, 56, 56), kernel_size=3, stride=2, padding=1),
    ),
)
_register(
    3,
    (
        Sample(t(2, 2, 4, 4, 4), kernel_size=2),
        Sample(t(2, 3, 5, 4), kernel_size=(2, 3, 2), stride=(1, 2, 1), padding=(0, 1, 1), count_include_pad=False),
        Sample(t(1, 2, 3, 5, 3), kernel_size=2, ceil_mode=True, divisor_override=3),
        Sample(t(0, 2, 4, 4, 4), kernel_size=2, why_="no samples"),
        Sample(t(2, 2, 3, 4, 4, layout="transposed"), kernel_size=2),
        Sample(t(2, 2, 4, 4, 4, dtype="float64"), kernel_size=2),
    ),
)
