"""Cards of unfold and fold: the windows of an image as columns, and columns summed into an image."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from math import prod
from typing import Any

from ..aval import Aval, need_float, window
from ..errors import ArgumentError, DTypeError, ShapeError
from ..registry import register
from ..samples import Bad, Sample, t
from ._window import Ints, batched, one_per_axis, spatial, unbatched


def _options(op: str, kernel_size: Any, dilation: Any, padding: Any, stride: Any) -> dict[str, Ints]:
    return {
        "kernel_size": one_per_axis(op, "kernel_size", kernel_size, 2, 1),
        "dilation": one_per_axis(op, "dilation", dilation, 2, 1),
        "padding": one_per_axis(op, "padding", padding, 2, 0),
        "stride": one_per_axis(op, "stride", stride, 2, 1),
    }


def _places(op: str, sizes: Ints, *, kernel_size: Ints, dilation: Ints, padding: Ints, stride: Ints) -> Ints:
    """How many windows there are along each axis."""
    found = tuple(window(*of) for of in zip(sizes, kernel_size, stride, padding, dilation, strict=True))
    if min(found) < 1:
        raise ShapeError(
            f"{op}: a window of {kernel_size} with dilation {dilation} does not fit an image of {sizes} with padding "
            f"{padding}. Use a smaller window."
        )
    return found


def _taps(places: Ints, kernel_size: Ints, dilation: Ints, stride: Ints) -> Iterator[tuple[Ints, Ints, Ints]]:
    """For each position in the window: start, stop and step over (N, C, H, W) of the elements that the windows have
    there."""
    for tap in product(*map(range, kernel_size)):
        starts = tuple(u * d for u, d in zip(tap, dilation, strict=True))
        stops = tuple(a + s * (n - 1) + 1 for a, s, n in zip(starts, stride, places, strict=True))
        yield (0, 0, *starts), stops, (1, 1, *stride)


def _unfold_canon(input: Aval, *, kernel_size: Any, dilation: Any, padding: Any, stride: Any) -> dict[str, Any]:
    return _options("unfold", kernel_size, dilation, padding, stride)


def _unfold_rule(input: Aval, **options: Ints) -> Aval:
    sizes = spatial("unfold", input, 2)
    if 0 in (*sizes, input.shape[-3]):
        raise ShapeError(f"unfold: input {input.shape} has an empty axis. Only the batch axis may be empty.")
    _places("unfold", sizes, **options)
    return input


def _unfold(F: Any, input: Any, *, kernel_size: Ints, dilation: Ints, padding: Ints, stride: Ints) -> Any:
    x, lone = batched(F, input, 2)
    options: dict[str, Ints] = dict(kernel_size=kernel_size, dilation=dilation, stride=stride)
    places = _places("unfold", F.aval(x).shape[2:], padding=padding, **options)
    if any(padding):
        x = F.constant_pad_nd(x, (padding[1], padding[1], padding[0], padding[0]))
    n, c = F.aval(x).shape[:2]
    taps = [F.slice(x, start, (n, c, *stop), step) for start, stop, step in _taps(places, **options)]
    return unbatched(F, F.reshape(F.stack(taps, 2), (n, c * len(taps), prod(places))), lone)


_IMAGE = t(2, 3, 5, 6)
register(
    name="unfold",
    doc="""The windows of an image as columns: (N, C, H, W) to (N, C·kernel, windows), in row-major order of the
channels, the places in the window, and the windows. As torch.nn.functional.unfold.

Without a batch axis (C, H, W). kernel_size, dilation, padding (zeros) and stride: an integer, or one per axis.""",
    signature="input, kernel_size, dilation=1, padding=0, stride=1",
    inputs=("input",),
    canon=_unfold_canon,
    rule=_unfold_rule,
    compose=_unfold,
    samples=(
        Sample(_IMAGE, kernel_size=2),
        Sample(_IMAGE, kernel_size=(2, 3), dilation=(2, 1), padding=(1, 0), stride=(1, 2)),
        Sample(t(3, 4, 4), kernel_size=3, padding=1, stride=2, why_="no batch axis"),
        Sample(t(0, 3, 4, 4), kernel_size=2, why_="no samples"),
        Sample(t(2, 2, 4, 6, layout="transposed"), kernel_size=2, stride=2),
        Sample(t(1, 1, 3, 3, dtype="float64"), kernel_size=2),
        Sample(t(1, 2, 3, 3, dtype="bool", fill="bool"), kernel_size=2, padding=1),
    ),
    errors=(
        Bad(ShapeError, "does not fit", _IMAGE, kernel_size=7),
        Bad(ShapeError, "axes", t(5, 5), kernel_size=2),
        Bad(ShapeError, "batch axis", t(2, 0, 5, 5), kernel_size=2),
        Bad(ArgumentError, "kernel_size=0", _IMAGE, kernel_size=0),
    ),
    torch="torch.nn.functional.unfold",
)


def _fold_canon(
    input: Aval, *, output_size: Any, kernel_size: Any, dilation: Any, padding: Any, stride: Any
) -> dict[str, Any]:
    return {
        "output_size": one_per_axis("fold", "output_size", output_size, 2, 1),
        **_options("fold", kernel_size, dilation, padding, stride),
    }


def _fold_rule(input: Aval, *, output_size: Ints, **options: Ints) -> Aval:
    need_float("fold", input=input)
    if input.ndim not in (2, 3):
        raise ShapeError(f"fold: input has shape {input.shape}, but (N, C·kernel, windows) or without N is needed.")
    places, taps = _places("fold", output_size, **options), prod(options["kernel_size"])
    columns, windows = input.shape[-2:]
    if not columns or columns % taps or windows != prod(places):
        raise ShapeError(
            f"fold: input has shape {input.shape}. For an image of {output_size} give a multiple of {taps} rows and "
            f"{prod(places)} columns."
        )
    return input.with_shape((*input.shape[:-2], columns // taps, *output_size))


def _fold(
    F: Any, input: Any, *, output_size: Ints, kernel_size: Ints, dilation: Ints, padding: Ints, stride: Ints
) -> Any:
    lone = F.aval(input).ndim == 2
    options: dict[str, Ints] = dict(kernel_size=kernel_size, dilation=dilation, stride=stride)
    places = _places("fold", output_size, padding=padding, **options)
    x = F.unsqueeze(input, 0) if lone else input
    n, columns, _ = F.aval(x).shape
    count = prod(kernel_size)
    c, sizes = columns // count, tuple(s + 2 * p for s, p in zip(output_size, padding, strict=True))
    x = F.reshape(x, (n, c, count, *places))
    y = None
    for k, (start, stop, step) in enumerate(_taps(places, **options)):
        tap = F.reshape(F.slice(x, (0, 0, k), (n, c, k + 1)), (n, c, *places))
        spread = F.slice_bwd(tap, (n, c, *sizes), start, (n, c, *stop), step)
        y = spread if y is None else F.add(y, spread)
    inner = tuple(p + s for s, p in zip(output_size, padding, strict=True))
    return unbatched(F, F.slice(y, (0, 0, *padding), (n, c, *inner)), lone)


register(
    name="fold",
    doc="""Columns summed into an image: the transpose of `unfold`, (N, C·kernel, windows) to (N, C, *output_size). As
torch.nn.functional.fold.

Without a batch axis (C·kernel, windows). The options are those of the unfold that it turns round.""",
    signature="input, output_size, kernel_size, dilation=1, padding=0, stride=1",
    inputs=("input",),
    canon=_fold_canon,
    rule=_fold_rule,
    compose=_fold,
    samples=(
        Sample(t(2, 12, 20), output_size=(5, 6), kernel_size=2),
        Sample(t(2, 6, 10), output_size=(5, 6), kernel_size=(2, 3), dilation=(2, 1), padding=(1, 0), stride=(1, 2),
               torch_=True),
        Sample(t(9, 4), output_size=(4, 4), kernel_size=3, padding=1, stride=2, why_="no batch axis"),
        Sample(t(0, 4, 9), output_size=(4, 4), kernel_size=2, why_="no samples"),
        Sample(t(2, 4, 6, layout="transposed"), output_size=(4, 6), kernel_size=2, stride=2),
        Sample(t(1, 4, 4, dtype="float64"), output_size=3, kernel_size=2),
    ),
    errors=(
        Bad(ShapeError, "9 columns", t(1, 4, 8), output_size=(4, 4), kernel_size=2),
        Bad(ShapeError, "multiple of 4", t(1, 5, 9), output_size=(4, 4), kernel_size=2),
        Bad(ShapeError, "does not fit", t(1, 4, 9), output_size=(1, 4), kernel_size=2),
        Bad(ShapeError, r"\(N, C·kernel", t(1, 1, 4, 9), output_size=(4, 4), kernel_size=2),
        Bad(ArgumentError, "stride=0", t(1, 4, 9), output_size=(4, 4), kernel_size=2, stride=0),
        Bad(DTypeError, "floating-point", t(1, 4, 9, dtype="int64", fill="ones"), output_size=(4, 4), kernel_size=2),
    ),
    torch="torch.nn.functional.fold",
)  # fmt: skip
