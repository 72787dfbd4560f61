"""Cards of padding."""

from __future__ import annotations

from numbers import Real
from operator import index as to_int
from typing import Any

from ..aval import Aval, fits
from ..errors import ArgumentError, ShapeError, UnsupportedError
from ..registry import register
from ..samples import Bad, Perf, Sample, t

Pairs = tuple[int, ...]


def _pairs(op: str, pad: Any, ndim: int) -> Pairs:
    """(left, right) of the last axis, then of the one before it, and so on, in one flat tuple."""
    try:
        listed = tuple(map(to_int, pad))
    except TypeError:
        raise ArgumentError(f"{op}: pad={pad!r:.60} must be a tuple of integers. Pass (left, right, …).") from None
    if len(listed) % 2 or len(listed) > 2 * ndim:
        raise ShapeError(f"{op}: pad={listed} must hold two numbers per axis, for at most {ndim} axes.")
    return listed


def per_axis(pad: Pairs, ndim: int) -> list[tuple[int, int]]:
    """(left, right) of each axis, from the first."""
    return [(0, 0)] * (ndim - len(pad) // 2) + [(pad[i], pad[i + 1]) for i in range(len(pad) - 2, -1, -2)]


def _padded(op: str, input: Aval, pad: Pairs) -> Aval:
    shape = [n + a + b for n, (a, b) in zip(input.shape, per_axis(pad, input.ndim), strict=True)]
    if any(n < 0 or n < max(a, b) for n, (a, b) in zip(shape, per_axis(pad, input.ndim), strict=True)):
        raise ShapeError(f"{op}: pad={pad} takes more from {input.shape} than there is. Take less.")
    return input.with_shape(shape)


def _constant_rule(input: Aval, *, pad: Pairs, value: Any) -> Aval:
    if not isinstance(value, Real) or not fits(float(value), input.dtype):
        raise ArgumentError(f"pad: value={value!r:.40} is no number that {input.dtype} holds. Cast the input.")
    return _padded("constant_pad_nd", input, pad)


register(
    name="constant_pad_nd",
    doc="`value` before and after the elements of an axis: pad holds (left, right) of the last axis, then of the one "
    "before it, … A negative number takes elements away. As torch.constant_pad_nd.",
    signature="input, pad, value=0",
    inputs=("input",),
    canon=lambda input, *, pad, value=0: {"pad": _pairs("constant_pad_nd", pad, input.ndim), "value": value},
    rule=_constant_rule,
    vjp=lambda F, at, dy: F.constant_pad_nd(dy, tuple(-n for n in at.attrs["pad"])),
    samples=(
        Sample(t(5, 3), pad=(1, 2)),
        Sample(t(2, 3), pad=(0, 1, 2, 0), value=-1.5),
        Sample(t(7, 5), pad=(-1, 2, 1, -3), value=3.0),
        Sample(t(5), pad=(-5, 2)),
        Sample(t(), pad=()),
        Sample(t(0, 3), pad=(1, 1, 0, 2)),
        Sample(t(3, dtype="int64", fill="ints", high=9), pad=(1, 1), value=7),
        Sample(t(4, 6, layout="transposed"), pad=(1, 0), value=float("inf"), grad_=False),
        Sample(t(3, 2, dtype="float64"), pad=(1, 2), value=1 / 3),
    ),
    errors=(
        Bad(ShapeError, "two numbers per axis", t(5), pad=(1,)),
        Bad(ShapeError, "at most 1 axes", t(5), pad=(1, 1, 1, 1)),
        Bad(ShapeError, "takes more", t(5), pad=(-3, -3)),
        Bad(ShapeError, "takes more", t(5), pad=(-6, 2)),
        Bad(ArgumentError, "tuple of integers", t(5), pad=(0.5, 1)),
        Bad(ArgumentError, "-1 is no number that uint8 holds", t(5, dtype="uint8"), pad=(1, 1), value=-1),
        Bad(ArgumentError, "inf is no number", t(5, dtype="int64", fill="ones"), pad=(1, 1), value=float("inf")),
        Bad(ArgumentError, "None is no number", t(5), pad=(1, 1), value=None),
    ),
    perf=(Perf(t(64, 16, 14, 14), pad=(1, 1, 1, 1), name_="cnn border"),),
    torch="torch.constant_pad_nd",
    exempt={"window[X_UNIT=0]": "strided accesses"},
)

# --- pad: from other elements -----------------------------------------------------------------------------------------

_MODES = ("constant", "reflect", "replicate", "circular")


def _pad_canon(input: Aval, *, pad: Any, mode: str = "constant", value: float | None = None) -> dict[str, Any]:
    pad = _pairs("pad", pad, input.ndim)
    if mode not in _MODES:
        raise ArgumentError(f"pad: mode={mode!r} is unknown. Use one of {', '.join(_MODES)}.")
    if mode != "constant":
        _check_mode(input, pad, mode, value)
    _padded("pad", input, pad)
    return {"pad": pad, "mode": mode, "value": value}


def _check_mode(input: Aval, pad: Pairs, mode: str, value: float | None) -> None:
    if value:
        raise ArgumentError(f'pad: value={value} has no meaning with mode={mode!r}. Leave it out, or use "constant".')
    axes = len(pad) // 2
    if axes not in (1, 2, 3) or input.ndim - axes not in (1, 2):
        raise UnsupportedError(
            f"pad: mode={mode!r} with {len(pad)} numbers does not take {input.shape}. Pad the last 1, 2 or 3 axes of "
            "an array with one or two axes before them (channels, or batch and channels)."
        )
    for n, (a, b) in zip(input.shape, per_axis(pad, input.ndim), strict=True):
        kept = n + min(a, 0) + min(b, 0)
        asked = max(a, b, 0)
        room = max(0, {"reflect": n - 1, "circular": kept, "replicate": asked if n else 0}[mode])
        if asked > room:
            raise ShapeError(f"pad: mode={mode!r} can add at most {room} to size {n}, pad={pad} asks for {asked}.")


def _source(mode: str, n: int, left: int, right: int) -> list[int]:
    """Which element of an axis of size `n` comes at each position of the padded axis."""
    positions = range(-left, n + right)
    if mode == "replicate":
        return [min(max(i, 0), n - 1) for i in positions]
    if mode == "reflect":
        return [i if 0 <= i < n else -i if i < 0 else 2 * (n - 1) - i for i in positions]
    low, kept = max(-left, 0), n + min(left, 0) + min(right, 0)
    return [low + (i - low) % kept for i in positions]


def _pad(F: Any, input: Any, *, pad: Pairs, mode: str, value: float | None) -> Any:
    if mode == "constant":
        return F.constant_pad_nd(input, pad, value or 0)
    y, shape = F.alias(input), F.aval(input).shape
    for dim, (n, (a, b)) in enumerate(zip(shape, per_axis(pad, len(shape)), strict=True)):
        if a or b:
            y = F.index_select(y, dim, F.const(_source(mode, n, a, b), "int64"))
    return y


register(
    name="pad",
    doc="More elements at the ends of the last axes: pad holds (left, right) of the last axis, then of the one before "
    'it, … mode "constant" adds `value` (default 0) on any axes; "reflect" (without the edge), "replicate" and '
    '"circular" take from the array, on its last 1 to 3 axes. Negative numbers take away. As torch.nn.functional.pad.',
    signature='input, pad, mode="constant", value=None',
    inputs=("input",),
    canon=_pad_canon,
    rule=lambda input, **attrs: input,
    compose=_pad,
    samples=(
        Sample(t(5, 3), pad=(1, 2)),
        Sample(t(2, 3), pad=(0, 1, -1, 2), value=2.5),
        Sample(t(2, 3, 5), pad=(4, 2), mode="reflect"),
        Sample(t(2, 3, 5), pad=(-1, 2), mode="reflect"),
        Sample(t(2, 3, 5), pad=(7, 0, 1, 2), mode="replicate"),
        Sample(t(2, 5), pad=(5, 3), mode="circular"),
        Sample(t(2, 5), pad=(-2, 3), mode="circular"),
        Sample(t(1, 1, 2, 3, 2), pad=(1, 1, 2, 1, 0, 1), mode="reflect"),
        Sample(t(0, 2, 3), pad=(1, 1), mode="replicate"),
        Sample(t(4, 6, layout="transposed"), pad=(1, 2), mode="reflect"),
        Sample(t(2, 5, dtype="float64", layout="strided"), pad=(2, 1), mode="circular"),
    ),
    errors=(
        Bad(ShapeError, "at most 4", t(2, 5), pad=(5, 0), mode="reflect"),
        Bad(ShapeError, "at most 5", t(2, 5), pad=(6, 0), mode="circular"),
        Bad(ShapeError, "at most 0", t(2, 0), pad=(1, 0), mode="replicate"),
        Bad(UnsupportedError, "does not take", t(5), pad=(1, 1), mode="reflect"),
        Bad(UnsupportedError, "does not take", t(5, 5), pad=(1, 1, 1, 1), mode="circular"),
        Bad(ArgumentError, "no meaning", t(2, 5), pad=(1, 1), mode="reflect", value=1.0),
        Bad(ArgumentError, "unknown", t(5), pad=(1, 1), mode="mirror"),
    ),
    torch="torch.nn.functional.pad",
)
