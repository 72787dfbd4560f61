"""Cards of max pooling."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import prod
from typing import Any

from ..aval import Aval
from ..errors import ArgumentError, DTypeError, ShapeError, UnsupportedError
from ..registry import At, register
from ..samples import Bad, Perf, Sample, t
from ._window import Ints, batched, pool_options, pooled, unbatched

NAN, INF = float("nan"), float("inf")
WINDOW = ("kernel_size", "stride", "padding", "dilation")


def _window_of(at: At) -> list[Ints]:
    return [at.attrs[name] for name in WINDOW]


# --- the primitives ---------------------------------------------------------------------------------------------------


def _nd_rule(input: Aval, *, ceil_mode: bool, **window: Ints) -> tuple[Aval, Aval]:
    y = pooled("max_pool_nd", input, ceil_mode=ceil_mode, integers=True, **window)
    return y, y.with_dtype("int32")


def _nd_vjp(F: Any, at: At, cotangents: tuple[Any, Any], index: Any) -> Any:
    return F.max_pool_nd_bwd(cotangents[0], index, at.ins[0].shape[2:], *_window_of(at))


def _bwd_rule(dy: Aval, index: Aval, *, spatial: Ints, **window: Ints) -> Aval:
    if dy.shape != index.shape:
        raise ShapeError(f"max_pool_nd_bwd: dy {dy.shape} and index {index.shape} differ. Give the index of that pool.")
    return dy.with_shape((*dy.shape[:2], *spatial))


_2X2: dict[str, Any] = dict(kernel_size=(2, 2), stride=(2, 2), padding=(0, 0), dilation=(1, 1))
_3X3: dict[str, Any] = dict(kernel_size=(3, 3), stride=(2, 2), padding=(1, 1), dilation=(1, 1))
# name, images and channels, rows and columns before and after, window
_LAYERS: tuple[Any, ...] = (
    ("digits pool", (64, 16), (8, 8), (4, 4), _2X2),
    ("cnn pool 1", (64, 16), (28, 28), (14, 14), _2X2),
    ("cnn pool 2", (64, 32), (14, 14), (7, 7), _2X2),
    ("", (64, 64), (56, 56), (28, 28), _3X3),
)
_INDEX = t(1, 2, 2, 2, dtype="int32", fill=((5, 6), (9, 10)))
_TIES = ((1.0, 2.0, 2.0, 1.0), (2.0, 2.0, 2.0, 0.0), (-0.0, 0.0, NAN, 1.0), (0.0, -1.0, 2.0, NAN))

register(
    name="max_pool_nd",
    doc="""The largest element of each window, and where it is: its flat index in the input's spatial plane.

input (N, C, *spatial); y and index (int32) (N, C, *positions). The first position in row-major order wins a tie, the
last NaN wins over all, padding never wins; a window without any element has -inf (of integers the least) and index
-1.""",
    signature="input, kernel_size, stride, padding, dilation, ceil_mode",
    inputs=("input",),
    outputs=("y", "index"),
    returns=2,
    rule=_nd_rule,
    vjp=_nd_vjp,
    saves=("index",),
    batch=(0, 0, 0),
    samples=(
        Sample(t(2, 3, 4, 6, fill="distinct"), **_2X2, ceil_mode=False),
        Sample(t(2, 3, 5, 7, fill="distinct"), **_3X3, ceil_mode=True),
        Sample(t(2, 2, 4, 4, fill=_TIES), **_2X2, ceil_mode=False, grad_=False, why_="ties and NaN"),
        Sample(t(1, 1, 4, 4, fill=((-INF,),)), **_3X3, ceil_mode=False, grad_=False, why_="padding never wins"),
        Sample(t(0, 2, 4, 4), **_2X2, ceil_mode=False),
        Sample(t(2, 3, 4, 6, fill="distinct", layout="transposed"), **_3X3, ceil_mode=False),
        Sample(t(2, 2, 4, 4, fill="distinct", dtype="float64"), **_2X2, ceil_mode=False),
    ),
    perf=tuple(
        Perf(t(*lead, *inner), **window, ceil_mode=False, name_=name) for name, lead, inner, _, window in _LAYERS
    ),
    public=False,
    exempt={"max_pool": "one thread per element: windows begin at odd addresses"},
)

register(
    name="max_pool_nd_bwd",
    doc="""The gradient of `max_pool_nd`: each dy is added at the element of its window that `index` names.

dy and index (N, C, *positions), result (N, C, *spatial).""",
    signature="dy, index, spatial, kernel_size, stride, padding, dilation",
    inputs=("dy", "index"),
    outputs=("dx",),
    rule=_bwd_rule,
    vjp=lambda F, at, g, index: (F.max_pool_nd_gather(g, index, *_window_of(at)), None),
    saves=("index",),
    batch=(0, 0, 0),
    samples=(
        Sample(t(1, 2, 2, 2), _INDEX, spatial=(4, 4), **_2X2),
        Sample(t(1, 2, 2, 2), _INDEX, spatial=(4, 4), **_3X3 | dict(padding=(0, 0), stride=(1, 1)), why_="overlaps"),
        Sample(t(1, 2, 2, 2, layout="transposed"), replace(_INDEX, layout="strided"), spatial=(4, 4), **_2X2),
        Sample(t(0, 2, 2, 2), replace(_INDEX, shape=(0, 2, 2, 2)), spatial=(4, 4), **_2X2),
        Sample(t(1, 2, 2, 2, dtype="float64"), _INDEX, spatial=(4, 4), **_2X2),
    ),
    errors=(Bad(ShapeError, "differ", t(1, 2, 3, 2), _INDEX, spatial=(4, 4), **_2X2),),
    perf=tuple(
        Perf(
            *(t(*lead, *outer), t(*lead, *outer, dtype="int32", fill="ints", low=0, high=prod(inner))),
            **(window | dict(spatial=inner)),
            name_=name,
        )
        for name, lead, inner, outer, window in _LAYERS
    ),
    public=False,
    exempt={"max_pool_bwd": "one thread per element: windows begin at odd addresses"},
)

register(
    name="max_pool_nd_gather",
    doc="""The elements (N, C, *positions) of (N, C, *spatial) that a pool's `index` names; 0 where it is -1.""",
    signature="input, index, kernel_size, stride, padding, dilation",
    inputs=("input", "index"),
    rule=lambda input, index, **window: input.with_shape(index.shape),
    vjp=lambda F, at, dy, index: (F.max_pool_nd_bwd(dy, index, at.ins[0].shape[2:], *_window_of(at)), None),
    saves=("index",),
    batch=(0, 0, 0),
    samples=(
        Sample(t(1, 2, 4, 4), _INDEX, **_2X2),
        Sample(t(1, 2, 4, 4, layout="transposed"), replace(_INDEX, layout="strided"), **_2X2),
        Sample(t(0, 2, 4, 4), replace(_INDEX, shape=(0, 2, 2, 2)), **_2X2),
        Sample(t(1, 2, 4, 4, dtype="float64"), _INDEX, **_2X2),
    ),
    public=False,
    exempt={"pool_gather": "gathers elements"},
)


# --- PyTorch's names --------------------------------------------------------------------------------------------------


def flag(op: str, name: str, value: Any) -> bool:
    """A boolean option."""
    if not isinstance(value, bool):
        raise ArgumentError(f"{op}: {name}={value!r} must be True or False. Pass a bool.")
    return value


def _canon(op: str, n: int) -> Callable[..., dict[str, Any]]:
    def canon(
        input: Aval,
        *,
        kernel_size: Any,
        stride: Any,
        padding: Any,
        dilation: Any,
        ceil_mode: Any,
        return_indices: Any,
    ) -> dict[str, Any]:
        return pool_options(op, n, kernel_size, stride, padding, dilation) | {
            "ceil_mode": flag(op, "ceil_mode", ceil_mode),
            "return_indices": flag(op, "return_indices", return_indices),
        }

    return canon


def _compose(F: Any, input: Any, *, return_indices: bool, **options: Any) -> Any:
    n = len(options["kernel_size"])
    x, lone = batched(F, input, n)
    y, index = F.max_pool_nd(x, **options)
    if not return_indices:
        return unbatched(F, y, lone)
    return unbatched(F, y, lone), unbatched(F, F.cast(index, "int64"), lone)


def pool_errors(n: int, integers: bool = False) -> tuple[Bad, ...]:
    """What every pool refuses; a pool of `integers` takes all numbers."""
    wrong = (DTypeError, "bool") if integers else (UnsupportedError, "int64")
    x = t(2, 3, *(4,) * n)
    return (
        Bad(ShapeError, "does not fit", x, kernel_size=5),
        Bad(ShapeError, "axes", t(4), kernel_size=2),
        Bad(ArgumentError, "more than half", x, kernel_size=2, padding=2),
        Bad(ArgumentError, "padding=-1", x, kernel_size=2, padding=-1),
        Bad(ArgumentError, "stride=0", x, kernel_size=2, stride=0),
        Bad(ArgumentError, "kernel_size=0", x, kernel_size=0),
        Bad(ArgumentError, "one per spatial axis", x, kernel_size=(2,) * (n + 1)),
        Bad(ArgumentError, "True or False", x, kernel_size=2, ceil_mode=2),
        Bad(wrong[0], wrong[1], t(2, 3, *(4,) * n, dtype=wrong[1], fill="ones"), kernel_size=2),
    )


def _register(n: int, samples: tuple[Sample, ...]) -> None:
    name = f"max_pool{n}d"

    def rule(input: Aval, *, return_indices: bool, **options: Any) -> Aval:
        return pooled(name, input, integers=True, **options)

    register(
        name=name,
        doc=f"""The largest element of each window. As torch.nn.functional.{name}.

input (N, C, *spatial) or (C, *spatial) with {n} spatial sizes. kernel_size, stride (None: the kernel size), padding (at
most half of the kernel) and dilation: an integer, or one per axis. `ceil_mode` also takes windows that leave the
input at its end. With `return_indices` the result is (y, index): int64 flat indices in the spatial plane.
The first position in row-major order wins a tie, the last NaN wins over all, padding never wins. On the CPU integers
are taken, too.""",
        signature="input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False",
        inputs=("input",),
        canon=_canon(name, n),
        rule=rule,
        compose=_compose,
        samples=samples,
        errors=(
            *pool_errors(n, integers=True),
            Bad(ArgumentError, "dilation=0", t(1, 1, *(4,) * n), kernel_size=2, dilation=0),
        ),
        torch=f"torch.nn.functional.{name}",
    )


_register(
    1,
    (
        Sample(t(2, 3, 8, fill="distinct"), kernel_size=2),
        Sample(t(3, 7, fill="distinct"), kernel_size=3, stride=2, padding=1, ceil_mode=True, why_="unbatched"),
        Sample(t(2, 2, 9, fill="distinct"), kernel_size=3, stride=1, dilation=2, return_indices=True),
        Sample(t(2, 2, 1, fill="distinct"), kernel_size=3, stride=1, padding=1, why_="size 1"),
        Sample(t(0, 2, 4), kernel_size=2, why_="no samples"),
        Sample(t(2, 3, 8, fill="distinct", layout="strided"), kernel_size=3, padding=1),
        Sample(t(2, 2, 7, fill="distinct", dtype="float64"), kernel_size=2, ceil_mode=True),
        Sample(t(1, 1, 600, fill="distinct"), kernel_size=300, stride=150, return_indices=True, why_="many taps"),
    ),
)
_register(
    2,
    (
        Sample(t(2, 3, 4, 6, fill="distinct"), kernel_size=2),
        Sample(t(2, 3, 5, 7, fill="distinct"), kernel_size=3, stride=2, padding=1),
        Sample(t(2, 3, 5, 7, fill="distinct"), kernel_size=(2, 3), stride=(3, 1), padding=(0, 1), return_indices=True),
        Sample(t(2, 2, 6, 6, fill="distinct"), kernel_size=2, stride=3, why_="gaps between windows"),
        Sample(t(2, 2, 7, 7, fill="distinct"), kernel_size=2, stride=2, dilation=(3, 2), padding=1),
        Sample(t(2, 5, 5, fill="distinct"), kernel_size=2, ceil_mode=True, return_indices=True, why_="unbatched"),
        Sample(t(2, 2, 3, 1, fill="distinct"), kernel_size=3, stride=1, padding=1, return_indices=True, why_="width 1"),
        Sample(t(2, 2, 4, 4, fill=_TIES), kernel_size=2, return_indices=True, grad_=False, why_="ties and NaN"),
        Sample(t(1, 1, 4, 4, fill=((-INF,),)), kernel_size=3, padding=1, return_indices=True, grad_=False),
        Sample(t(2, 3, 4, 6, fill="distinct", layout="transposed"), kernel_size=2),
        Sample(t(3, 2, 5, 4, fill="distinct", layout="flipped"), kernel_size=3, stride=1, padding=1),
        Sample(t(0, 2, 4, 4), kernel_size=2, why_="no samples"),
        Sample(t(2, 2, 4, 4, fill="distinct", dtype="float64"), kernel_size=2),
        Sample(
            t(2, 2, 5, 4, dtype="int64", fill="ints", low=-9, high=-5), kernel_size=3, padding=1, return_indices=True
        ),
        Sample(t(2, 2, 4, 4, dtype="uint8", fill="ints", low=0, high=2), kernel_size=2, return_indices=True),
    ),
)
_register(
    3,
    (
        Sample(t(2, 2, 4, 4, 4, fill="distinct"), kernel_size=2),
        Sample(t(2, 3, 5, 4, fill="distinct"), kernel_size=(2, 3, 2), stride=(1, 2, 1), padding=(0, 1, 1)),
        Sample(t(1, 2, 3, 5, 3, fill="distinct"), kernel_size=2, ceil_mode=True, return_indices=True),
        Sample(t(0, 2, 4, 4, 4), kernel_size=2, why_="no samples"),
        Sample(t(2, 2, 3, 4, 4, fill="distinct", layout="transposed"), kernel_size=2),
        Sample(t(2, 2, 4, 4, 4, fill="distinct", dtype="float64"), kernel_size=2),
    ),
)
