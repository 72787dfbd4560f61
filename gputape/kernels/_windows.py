"""Host side that the convolutions share: axes as the device code wants them, tiles, and the launch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Any

from ..errors import BackendError
from . import tiles
from ._products import INPUT_PRECISION, KINDS, kind_of
from .launch import Kernel, Variant, covering, launch, triton

AXES = 3
LONGEST = 2**31 - 1  # offsets inside a tile are 32-bit


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


def conv_tile(outs: int, channels: int, kind: str) -> tuple[bool, int, int, int, int]:
    """(TAPWISE, outputs, positions, depth, warps) of the tile of a convolution."""
    tapwise = channels % 16 == 0 and channels > 0
    deep = 32 if tapwise and channels % 32 == 0 and kind == "16-bit" else 16
    wide = block(outs, (128, 64, 32, 16) if deep == 32 else (64, 32, 16))
    return tapwise, *CONV[kind][wide, deep]


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

DEPTHWISE = triton("conv", "conv_depthwise", divisible=None, BLOCK=256)


@cache
def kernel(tapwise: bool, block_m: int, block_n: int, block_k: int, warps: int, precision: str) -> Kernel:
    return triton(
        "conv",
        "conv",
        divisible=None,
        warps=warps,
        stages=3,
        TAPWISE=tapwise,
        BLOCK_M=block_m,
        BLOCK_N=block_n,
        BLOCK_K=block_k,
        INPUT_PRECISION=precision,
    )


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
) -> None:
    """One launch: all outputs of `axes` for all images; `x`, `w` and `bias` contiguous, `outs`, `channels` per group.

    Args:
        w_strides: elements of the weight from one output to the next, and from one channel to the next.
        out_from: offset of the first output in its plane of `y`.
        w_from: offset of the first tap in the weight's kernel.
    """
    full = three(op, axes)
    images = x.shape[0]
    positions, plane, out_plane = math.prod(a.count for a in full), math.prod(x.shape[2:]), math.prod(y.shape[2:])
    numbers = [
        *(int(bias is not None), images, groups, outs, channels, out_plane, out_from, w_from),
        *(w.size // groups, *w_strides),
        *columns(full, "count", "taps", "size", "start", "step", "tap", "out", "w"),
    ]
    arrays = (y, x, w, y if bias is None else bias)
    total = images * positions
    if is_depthwise(groups, outs, channels):
        programs = tiles.cdiv(total * groups * outs, dict(DEPTHWISE.constants)["BLOCK"])
        check_reach(op, 1, positions, max(channels * plane, out_plane), 0)
        launch(DEPTHWISE, (programs,), (*arrays, *numbers), rt.stream)
        return
    kind = kind_of(rt, str(y.dtype))
    tile = conv_tile(outs, channels, kind)
    _, block_m, block_n, _, _ = tile
    check_reach(op, images, positions, groups * max(channels * plane, outs * out_plane), block_n)
    programs = groups * tiles.cdiv(outs, block_m) * tiles.cdiv(total, block_n)
    launch(kernel(*tile, INPUT_PRECISION[kind]), (programs,), (*arrays, *numbers), rt.stream)


def _variants() -> list[Variant]:
    found = []
    ints = ("int32",) * (11 + 8 * AXES)
    for dtype, kind in KINDS:
        types = (f"*{dtype}",) * 4 + ints
        if kind != "tf32":
            found.append(Variant(DEPTHWISE, types))
        for tapwise, tile in product((True, False), CONV[kind].values()):
            if tapwise or tile[2] == 16:
                code = kernel(tapwise, *tile, INPUT_PRECISION[kind])
                found.append(Variant(code, types))
    return found


VARIANTS = covering(_variants())
