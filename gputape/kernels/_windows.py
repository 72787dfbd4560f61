"""Host side that the convolutions share: axes as the device code wants them, tiles, and the launch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Any

from ..errors import BackendError
from . import tiles
from ._products import INPUT_PRECISION, KINDS, NOTHING, Ending, kind_of
from .launch import Kernel, Variant, covering, launch, triton

AXES = 3
LONGEST = 2**31 - 1  # offsets inside a tile are 32-bit
DEPTHWISE = 256  # outputs of a program that has no matrix product


@dataclass(frozen=True)
class Axis:
    """One axis: `count` outputs; output j and tap v of `taps` meet at input position start + j·step + v·tap."""

    count: int = 1
    taps: int = 1
    size: int = 1
    start: int = 0
    step: int = 1
    tap: int = 1
    out: int = 0  # elements of y from one output to the next
    w: int = 0  # elements of the weight from one tap to the next


def three(op: str, axes: list[Axis]) -> tuple[Axis, ...]:
    """The axes with those of size 1 in front that make them three."""
    if len(axes) > AXES:
        raise BackendError(f'{op}: no kernel for {len(axes)} spatial axes (has: 1 to {AXES}). Use gt.device("cpu").')
    return (Axis(),) * (AXES - len(axes)) + tuple(axes)


def columns(axes: tuple[Axis, ...], *names: str) -> list[int]:
    """The named numbers of all axes, as the device functions take them: all counts, then all taps, …"""
    return [int(getattr(axis, name)) for name in names for axis in axes]


def strides(sizes: tuple[int, ...]) -> tuple[int, ...]:
    """Elements from one index to the next, per axis of a contiguous array."""
    return tuple(math.prod(sizes[k + 1 :]) for k in range(len(sizes)))


def check_reach(op: str, images: int, positions: int, per_image: int, block: int) -> None:
    """`BackendError` where the 32-bit numbers of a tile do not reach: it spans `block` positions of some images."""
    if images * positions > LONGEST // 2 or (block // max(positions, 1) + 2) * per_image > LONGEST:
        raise BackendError(
            f"{op}: {images} images of {positions} positions, {per_image} elements each, are beyond the kernel's "
            "32-bit offsets. Split the batch or the image."
        )


# --- tiles ------------------------------------------------------------------------------------------------------------


def block(size: int, blocks: tuple[int, ...]) -> int:
    """The largest block that fits `size`, else the smallest."""
    return next((b for b in blocks if tiles.fits(size, b)), blocks[-1])


def conv_tile(outs: int, channels: int, kind: str, saved: bool = False) -> tuple[bool, int, int, int, int]:
    """(TAPWISE, outputs, positions, depth, warps) of the tile of a convolution. One that makes a slope to be `saved`,
    too, needs more registers: half as many of its results are a thread's."""
    tapwise = channels % 16 == 0 and channels > 0
    deep = 32 if tapwise and channels % 32 == 0 and kind == "16-bit" else 16
    wide = block(outs, (128, 64, 32, 16) if deep == 32 and not saved else (64, 32, 16))
    rows, columns, depth, warps = CONV[kind][wide, deep]
    return tapwise, rows, columns, depth, 8 if saved and wide == 64 else warps


# Without matrix instructions a thread holds its part of the operands in registers: smaller tiles.
_TILES = {
    "16-bit": (
        (16, 128, 16, 4),
        (32, 128, 16, 4),
        (64, 128, 16, 4),
        (16, 128, 32, 4),
        (32, 128, 32, 4),
        (64, 128, 32, 4),
        (128, 128, 32, 8),
    ),
    "tf32": ((16, 128, 16, 4), (32, 128, 16, 4), (64, 128, 16, 8)),
    "ieee": ((16, 64, 16, 4), (32, 64, 16, 4), (64, 64, 16, 8)),
}
# kind → (outputs, depth) → (outputs, positions, depth, warps)
CONV = {kind: {(tile[0], tile[2]): tile for tile in found} for kind, found in _TILES.items()}


@cache
def depthwise(ending: Ending = NOTHING) -> Kernel:
    return triton("conv", "conv_depthwise", divisible=None, **_constants(ending), BLOCK=DEPTHWISE)


@cache
def kernel(
    tapwise: bool, block_m: int, block_n: int, block_k: int, warps: int, kind: str, ending: Ending = NOTHING
) -> Kernel:
    return triton(
        "conv",
        "conv",
        divisible=None,
        warps=warps,
        stages=3,
        **_constants(ending),
        TAPWISE=tapwise,
        BLOCK_M=block_m,
        BLOCK_N=block_n,
        BLOCK_K=block_k,
        INPUT_PRECISION=INPUT_PRECISION[kind],
    )


def _constants(ending: Ending) -> dict[str, Any]:
    return {name: ending.constants()[name] for name in ("ACTIVATION", "SAVED")}


# --- the launch -------------------------------------------------------------------------------------------------------


def is_depthwise(groups: int, outs: int, channels: int) -> bool:
    """Whether a group is too narrow for a matrix product."""
    return groups > 1 and min(outs, channels) <= 1


def convolve(
    rt: Any,
    op: str,
    y: Any,
    x: Any,
    w: Any,
    bias: Any,
    axes: list[Axis],
    *,
    groups: int,
    outs: int,
    channels: int,
    w_strides: tuple[int, int],
    out_from: int = 0,
    w_from: int = 0,
    ending: Ending = NOTHING,
    numbers: tuple[float, float] = (0.0, 0.0),
    saved: Any = None,
) -> None:
    """One launch: all outputs of `axes` for all images; `x`, `w` and `bias` contiguous, `outs`, `channels` per group.

    Args:
        w_strides: elements of the weight from one output to the next, and from one channel to the next.
        out_from: offset of the first output in its plane of `y`.
        w_from: offset of the first tap in the weight's kernel.
        ending: the activation, and what of it is written to `saved`; `numbers` are its plain numbers.
    """
    full = three(op, axes)
    images = x.shape[0]
    positions, plane, out_plane = math.prod(a.count for a in full), math.prod(x.shape[2:]), math.prod(y.shape[2:])
    integers = [
        *(int(bias is not None), images, groups, outs, channels, out_plane, out_from, w_from),
        *(w.size // groups, *w_strides),
        *columns(full, "count", "taps", "size", "start", "step", "tap", "out", "w"),
    ]
    arguments = (y, x, w, *(y if array is None else array for array in (bias, saved)), *integers, *numbers)
    total = images * positions
    if is_depthwise(groups, outs, channels):
        programs = tiles.cdiv(total * groups * outs, DEPTHWISE)
        check_reach(op, 1, positions, max(channels * plane, out_plane), 0)
        launch(depthwise(ending), (programs,), arguments, rt.stream)
        return
    kind = kind_of(rt, str(y.dtype))
    tile = conv_tile(outs, channels, kind, ending.saved is not None)
    _, block_m, block_n, _, _ = tile
    check_reach(op, images, positions, groups * max(channels * plane, outs * out_plane), block_n)
    programs = groups * tiles.cdiv(outs, block_m) * tiles.cdiv(total, block_n)
    launch(kernel(*tile, kind, ending), (programs,), arguments, rt.stream)


def types(dtype: str) -> tuple[str, ...]:
    """The argument types of both kernels."""
    return (*(f"*{dtype}",) * 5, *("int32",) * (11 + 8 * AXES), "float32", "float32")


def _variants() -> list[Variant]:
    found = []
    for dtype, kind in KINDS:
        if kind != "tf32":
            found.append(Variant(depthwise(), types(dtype)))
        for tapwise, tile in product((True, False), CONV[kind].values()):
            if tapwise or tile[2] == 16:
                found.append(Variant(kernel(tapwise, *tile, kind), types(dtype)))
    return found


VARIANTS = covering(_variants())
