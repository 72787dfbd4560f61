"""Host side of the convolution and of its weight gradient."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

from ..aval import Aval
from ..backend import scratch
from . import _windows, tiles
from ._products import INPUT_PRECISION, KINDS, NOTHING, Ending, kind_of
from ._windows import Axis
from .launch import Kernel, Variant, covering, launch, need_kernel, triton
from .norm import _sum_groups

PROGRAMS = 512  # at most so many share a sum over positions: a few for each multiprocessor of a large GPU
SHORTEST = 256  # positions that a program sums up at least
DEEP = 32  # positions of a tile, half of it in float32
WEIGHT_TILES = ((64, 64), (64, 16), (32, 16), (16, 16))  # (outputs, weights of an output)


def conv_nd(rt: Any, y: Any, input: Any, weight: Any, bias: Any, **window: Any) -> None:
    need_kernel("conv_nd", y)
    _convolve(rt, "conv_nd", y, input, weight, bias, **window)


def _convolve(
    rt: Any,
    op: str,
    y: Any,
    input: Any,
    weight: Any,
    bias: Any,
    ending: Ending = NOTHING,
    numbers: tuple[float, float] = (0.0, 0.0),
    saved: Any = None,
    *,
    groups: int,
    **window: Any,
) -> None:
    x, w, b = rt.packed(input), rt.packed(weight), None if bias is None else rt.packed(bias)
    outs, channels = w.shape[0] // groups, w.shape[1]
    taps = math.prod(w.shape[2:])
    axes = _axes(x.shape[2:], y.shape[2:], w.shape[2:], **window)
    places = {"groups": groups, "outs": outs, "channels": channels, "w_strides": (channels * taps, taps)}
    _windows.convolve(rt, op, y, x, w, b, axes, **places, ending=ending, numbers=numbers, saved=saved)


def _axes(
    spatial: tuple[int, ...],
    positions: tuple[int, ...],
    kernel: tuple[int, ...],
    *,
    stride: tuple[int, ...],
    padding: tuple[tuple[int, int], ...],
    dilation: tuple[int, ...],
) -> list[Axis]:
    outs, ws = _windows.strides(positions), _windows.strides(kernel)
    numbers = zip(
        positions, kernel, spatial, (-before for before, _ in padding), stride, dilation, outs, ws, strict=True
    )
    return [Axis(*n) for n in numbers]


# --- the weight gradient ----------------------------------------------------------------------------------------------


def _splits(programs: int, positions: int, deep: int) -> tuple[int, int]:
    """(splits, positions per split) of a sum that `programs` tiles need over all positions.

    Depends on the shape alone, never on the device, so that the order of the sum is the same everywhere.
    """
    wanted = max(PROGRAMS // max(programs, 1), 1)
    depth = tiles.cdiv(max(tiles.cdiv(positions, wanted), min(positions, SHORTEST), 1), deep) * deep
    return max(tiles.cdiv(positions, depth), 1), depth


def _weight_plan(kind: str, x: Any, dy: Any, kernel: tuple[int, ...], groups: int) -> tuple[Kernel, int, int, int]:
    """(kernel, programs of one split, splits, positions per split); `x` and `dy` are avals or arrays."""
    outs, channels = dy.shape[1] // groups, x.shape[1] // groups
    weights = channels * math.prod(kernel)
    positions = dy.shape[0] * math.prod(dy.shape[2:])
    if _windows.is_depthwise(groups, outs, channels):
        block_n, block_k = (dict(DEPTHWISE.constants)[name] for name in ("BLOCK_N", "BLOCK_K"))
        programs = groups * outs * max(tiles.cdiv(weights, block_n), 1)  # without channels the bias is still summed
        return DEPTHWISE, programs, *_splits(programs, positions, block_k)
    block_m = _windows.block(outs, (64, 32, 16))
    block_n = _windows.block(weights, (64, 16)) if block_m == 64 else 16
    programs = groups * tiles.cdiv(outs, block_m) * max(tiles.cdiv(weights, block_n), 1)
    return _weight_kernel(kind, block_m, block_n), programs, *_splits(programs, positions, DEEP)


def _partial_sums(input: Aval, dy: Aval, *, kernel: tuple[int, ...], groups: int, **window: Any) -> list[Aval]:
    """The gradients of weight and bias, one sum per split of the positions."""
    splits = _weight_plan("ieee", input, dy, kernel, groups)[2]
    outs = dy.shape[1]
    weights = outs * input.shape[1] // groups * math.prod(kernel)
    return [Aval((splits, weights), "float32"), Aval((splits, outs), "float32")]


@scratch(_partial_sums)
def conv_weight_nd(
    rt: Any,
    dweight: Any,
    dbias: Any,
    input: Any,
    dy: Any,
    *,
    kernel: tuple[int, ...],
    groups: int,
    scratch: list[Any],
    **window: Any,
) -> None:
    need_kernel("conv_weight_nd", dy)
    x, dy = rt.packed(input), rt.packed(dy)
    part, part_bias = scratch
    axes = _windows.three("conv_weight_nd", _axes(x.shape[2:], dy.shape[2:], kernel, **window))
    kind = kind_of(rt, str(dy.dtype))
    code, programs, splits, depth = _weight_plan(kind, x, dy, kernel, groups)
    outs, channels = dy.shape[1] // groups, x.shape[1] // groups
    positions, plane = math.prod(dy.shape[2:]), math.prod(x.shape[2:])
    per_image = groups * max(channels * plane, outs * positions)
    _windows.check_reach("conv_weight_nd", dy.shape[0], positions, per_image, dict(code.constants)["BLOCK_K"])
    numbers = _windows.columns(axes, "count", "taps", "size", "start", "step", "tap")
    sizes = (dy.shape[0], groups, outs, channels, depth)
    launch(code, (programs, splits), (part, part_bias, x, dy, *sizes, *numbers), rt.stream)
    _sum_groups(rt, (dweight, dbias), (part, part_bias), splits)


DEPTHWISE = triton("conv", "conv_weight_depthwise", divisible=None, BLOCK_N=16, BLOCK_K=128)


@cache
def _weight_kernel(kind: str, block_m: int, block_n: int) -> Kernel:
    return triton(
        "conv",
        "conv_weight",
        divisible=None,
        warps=8 if kind == "ieee" and block_n == 64 else 4,
        stages=3,
        BLOCK_M=block_m,
        BLOCK_N=block_n,
        BLOCK_K=DEEP if kind == "16-bit" else DEEP // 2,
        INPUT_PRECISION=INPUT_PRECISION[kind],
    )


def _variants() -> list[Variant]:
    found = []
    for dtype, kind in KINDS:
        types = ("*float32",) * 2 + (f"*{dtype}",) * 2 + ("int32",) * (5 + 6 * _windows.AXES)
        if kind != "tf32":
            found.append(Variant(DEPTHWISE, types))
        for tile in WEIGHT_TILES:
            found.append(Variant(_weight_kernel(kind, *tile), types))
    return found


VARIANTS = covering(_variants())
