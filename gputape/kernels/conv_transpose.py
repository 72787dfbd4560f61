"""Host side of the transposed convolution, which is also the input gradient of a convolution.

Every output gathers the products that reach it. With a stride s, output z is reached by tap u only if z + before - u·d
is a multiple of s; so the outputs of each residue of z modulo s form a plain convolution with part of the taps.
"""

from __future__ import annotations

import math
from itertools import product
from typing import Any

from . import _windows
from ._windows import Axis
from .launch import need_kernel
from .tiles import cdiv


def conv_transpose_nd(
    rt: Any,
    y: Any,
    input: Any,
    weight: Any,
    bias: Any,
    *,
    stride: tuple[int, ...],
    padding: tuple[tuple[int, int], ...],
    dilation: tuple[int, ...],
    groups: int,
) -> None:
    need_kernel("conv_transpose_nd", y)
    x, w, b = rt.packed(input), rt.packed(weight), None if bias is None else rt.packed(bias)
    outs, channels = w.shape[1], w.shape[0] // groups
    taps = math.prod(w.shape[2:])
    out_strides, w_strides = _windows.strides(y.shape[2:]), _windows.strides(w.shape[2:])
    befores = [before for before, _ in padding]
    numbers = zip(x.shape[2:], y.shape[2:], w.shape[2:], stride, befores, dilation, out_strides, w_strides, strict=True)
    for parts in product(*(_parts(*n) for n in numbers)):
        _windows.convolve(
            rt,
            "conv_transpose_nd",
            y,
            x,
            w,
            b,
            [axis for axis, _, _ in parts],
            groups=groups,
            outs=outs,
            channels=channels,
            w_strides=(taps, outs * taps),
            out_from=sum(out for _, out, _ in parts),
            w_from=sum(tap for _, _, tap in parts),
        )


def _parts(
    size: int, out: int, kernel: int, stride: int, before: int, dilation: int, out_stride: int, w_stride: int
) -> list[tuple[Axis, int, int]]:
    """One axis taken apart by residues: (axis, offset of its first output, offset of its first tap) of each.

    Output z = residue + stride·j and tap u = first + every·v meet at (z + before - u·dilation) / stride.
    """
    every = stride // math.gcd(stride, dilation)
    found = []
    for residue in range(min(stride, out)):
        hits = [u for u in range(min(every, kernel)) if (residue + before - u * dilation) % stride == 0]
        first = hits[0] if hits else 0
        axis = Axis(
            count=cdiv(out - residue, stride),
            taps=cdiv(kernel - first, every) if hits else 0,
            size=size,
            start=(residue + before - first * dilation) // stride,
            step=1,
            tap=-(every * dilation // stride),
            out=stride * out_stride,
            w=every * w_stride,
        )
        found.append((axis, residue * out_stride, first * w_stride))
    return found
