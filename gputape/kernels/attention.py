"""Host side of attention and its gradient. Memory beside the results: one number per query."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Any

import numpy as np

from ..aval import Aval
from ..backend import scratch
from ..errors import BackendError
from ..ops.random import keep_factor, threshold
from ._copy import copy_into, window_into
from ._integers import narrowed, widened
from ._products import KINDS, kind_of
from .launch import Kernel, Variant, covering, launch, need_kernel, triton
from .tiles import ALIGNED, cdiv, power_of_2

LONGEST_STEP = 2**24 - 1  # offsets inside a tile are 32-bit
LOG2E = 1 / math.log(2)

# (queries, keys, warps, stages) of a tile by head size. float32 is three products of tf32 parts, which loses no more
# than the last two bits and keeps the tensor cores busy; its long rows are read in parts. A mask takes registers, which
# makes for smaller tiles, and so do the words that say what is dropped.
TILES: dict[tuple[str, bool], dict[int, tuple[int, int, int, int]]] = {
    ("attention", False): {32: (128, 64, 4, 3), 64: (128, 32, 8, 3), 128: (128, 32, 8, 2), 256: (64, 32, 8, 2)},
    ("attention", True): {32: (64, 32, 4, 2), 64: (64, 32, 4, 1), 128: (32, 32, 8, 1), 256: (32, 32, 8, 1)},
    ("attention_bwd_query", False): {32: (64, 32, 4, 2), 64: (64, 32, 8, 2), 128: (64, 32, 8, 2), 256: (32, 32, 8, 2)},
    ("attention_bwd_query", True): {32: (32, 16, 4, 1), 64: (32, 16, 4, 1), 128: (32, 32, 8, 1), 256: (16, 32, 8, 1)},
    ("attention_bwd_key", False): {32: (32, 64, 4, 2), 64: (32, 32, 4, 2), 128: (32, 32, 8, 2), 256: (32, 32, 8, 1)},
    ("attention_bwd_key", True): {32: (16, 32, 8, 1), 64: (16, 32, 8, 1), 128: (16, 32, 8, 1), 256: (16, 16, 8, 1)},
}
MASKED = {
    ("attention", False): {32: (64, 32, 4, 3), 64: (64, 32, 4, 3), 128: (64, 32, 8, 2)},
    ("attention", True): {256: (16, 32, 8, 1)},
    ("attention_bwd_query", False): {64: (64, 32, 8, 1), 128: (32, 32, 8, 2)},
    ("attention_bwd_key", False): {32: (16, 64, 8, 2)},
}
DROPPED = {
    ("attention", False): {256: (32, 32, 8, 2)},
    ("attention", True): {32: (64, 32, 4, 1)},
    ("attention_bwd_query", False): {128: (16, 32, 8, 2)},
    ("attention_bwd_key", True): {128: (16, 16, 8, 1)},
    ("attention_bwd_key", False): {64: (16, 32, 4, 2), 128: (16, 32, 8, 2), 256: (16, 32, 8, 1)},
}
MASK_TILE = {False: (64, 32, 4, 2), True: (32, 32, 4, 1)}
CHUNK = 32  # columns that a product reads at a time where whole rows do not fit in registers
SIZES = (32, 64, 128, 256)
PRECISION = {"16-bit": "ieee", "ieee": "tf32x3", "tf32": "tf32"}
NO_MASK, BLOCKING, ADDED = 0, 1, 2
USUAL = 64  # the head size of most models
SUM_ROWS = 32  # queries per program of the kernel that sums dy · y


@dataclass
class _Rows:
    """An array (batch, heads, length, size) whose rows begin at multiples of 16 elements and end in zeros up to one."""

    array: Any
    outer: tuple[Any, Any]  # 64-bit strides of batch and heads
    step: int

    @classmethod
    def of(cls, rt: Any, op: str, x: Any) -> _Rows:
        if not _fits(x):
            y = _like(rt, x)
            window_into(op, rt, y, x, (0, 0, 0, 0), (1, 1, 1, 1), 0)
            x = y
        return cls.at(op, x)

    @classmethod
    def at(cls, op: str, x: Any) -> _Rows:
        """An array that has such rows."""
        batch, head, step, _ = (s // x.itemsize for s in x.strides)
        if abs(step) > LONGEST_STEP:
            raise BackendError(
                f"{op}: rows that lie {step} elements apart are beyond the kernel's {LONGEST_STEP}. Make a copy first."
            )
        return cls(x, (np.int64(batch), np.int64(head)), step)


def _fits(x: Any) -> bool:
    """Whether an array has rows as `_Rows` has them."""
    step = ALIGNED * x.itemsize
    return x.strides[3] == x.itemsize and not x.shape[3] % ALIGNED and not any(s % step for s in x.strides[:3])


def _like(rt: Any, x: Any) -> Any:
    """A new array like `x` with rows as `_Rows` has them."""
    return rt.empty((*x.shape[:3], cdiv(x.shape[3], ALIGNED) * ALIGNED), x.dtype)


def _room(rt: Any, op: str, y: Any) -> _Rows:
    """What the kernels write in the place of `y`: itself if it has such rows. `_settle` copies it."""
    return _Rows.at(op, y if _fits(y) else _like(rt, y))


def _settle(rt: Any, y: Any, written: _Rows) -> None:
    if written.array is not y:
        copy_into(rt, y, written.array[..., : y.shape[3]])


@dataclass
class _Mask:
    """The mask as the kernels take it: its kind, and strides that are 0 along the axes that broadcast."""

    kind: int
    array: Any
    outer: tuple[Any, Any]
    steps: tuple[int, int]

    @classmethod
    def of(cls, rt: Any, op: str, mask: Any, spare: Any) -> _Mask:
        if mask is None:
            return cls(NO_MASK, spare, (np.int64(0), np.int64(0)), (0, 0))
        kind = BLOCKING if mask.dtype == bool else ADDED
        batch, head, row, col = (0 if n == 1 else s // mask.itemsize for n, s in zip(mask.shape, mask.strides))
        if max(abs(row), abs(col)) > LONGEST_STEP:
            raise BackendError(f"{op}: a mask with strides {row}, {col} is beyond {LONGEST_STEP}. Copy it.")
        mask = mask.view("int8") if kind == BLOCKING else widened(rt, mask, "float32")
        return cls(kind, mask, (np.int64(batch), np.int64(head)), (row, col))


def attention(
    rt: Any,
    y: Any,
    lse: Any,
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any,
    state: Any,
    *,
    is_causal: bool,
    scale: float,
    dropout_p: float,
    offset: int,
) -> None:
    q, k, v = (_Rows.of(rt, "attention", x) for x in (query, key, value))
    mask = _Mask.of(rt, "attention", attn_mask, q.array)
    kernel = _kernel("attention", mask.kind, dropout_p > 0, *_tile(rt, "attention", query, value))
    batch, heads, length, _ = query.shape
    room = _room(rt, "attention", y)
    launch(
        kernel,
        (batch * heads * cdiv(length, _block(kernel, "BLOCK_M")),),
        (
            *(room.array, lse, q.array, k.array, v.array, mask.array, _state(rt, state, dropout_p, q.array)),
            *_sizes(q.array, k.array, v.array),
            *(*room.outer, *q.outer, *k.outer, *v.outer, *mask.outer),
            *(room.step, q.step, k.step, v.step, *mask.steps),
            *(scale * LOG2E, int(is_causal), *_dropout(dropout_p, offset)),
        ),
        rt.stream,
    )
    _settle(rt, y, room)


def _sizes(query: Any, key: Any, value: Any) -> tuple[int, ...]:
    """Query heads, query heads per key head, and the lengths and sizes L, S, E, V."""
    return query.shape[1], query.shape[1] // max(key.shape[1], 1), *query.shape[2:3], *key.shape[2:], value.shape[3]


def _state(rt: Any, state: Any, p: float, spare: Any) -> Any:
    """The generator's state, or any array where nothing is dropped."""
    return rt.packed(state) if p > 0 else spare


def _dropout(p: float, offset: int) -> tuple[Any, int, float]:
    """(offset, threshold, factor) as the kernels take them."""
    return np.int64(offset), threshold(p), keep_factor(p)


def _tile(rt: Any, name: str, query: Any, value: Any) -> tuple[str, int]:
    """How products are computed (see `kind_of`), and the head size that the tiles are padded to."""
    kind = kind_of(rt, need_kernel(name, query))
    size = max(query.shape[3], value.shape[3], SIZES[0])
    if size > SIZES[-1]:
        raise BackendError(f'{name}: no kernel for head size {size} (up to {SIZES[-1]}). Use gt.device("cpu").')
    return kind, power_of_2(size)


def _block(kernel: Kernel, name: str) -> int:
    return dict(kernel.constants)[name]


def _bwd_scratch(
    dy: Aval,
    query: Aval,
    key: Aval,
    value: Aval,
    attn_mask: Any,
    y: Aval,
    lse: Aval,
    state: Any,
    *,
    needs: tuple[bool, ...],
    **attrs: Any,
) -> list[Aval]:
    """Σ dy · y per query, and whichever of dkey and dvalue nobody else wants."""
    return [lse, *(a for a, need in ((key, needs[1]), (value, needs[2])) if not need and needs[1] + needs[2])]


@scratch(_bwd_scratch)
def attention_bwd(
    rt: Any,
    dquery: Any,
    dkey: Any,
    dvalue: Any,
    dmask: Any,
    dy: Any,
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any,
    y: Any,
    lse: Any,
    state: Any,
    *,
    is_causal: bool,
    scale: float,
    dropout_p: float,
    offset: int,
    needs: tuple[bool, ...],
    scratch: list[Any],
) -> None:
    """The weights come from `lse`, so scores of size s lose log₂ s bits of their last place."""
    delta, *spare = scratch
    g, q, k, v, result = (_Rows.of(rt, "attention_bwd", x) for x in (dy, query, key, value, y))
    mask = _Mask.of(rt, "attention_bwd", attn_mask, q.array)
    kind, block_d = _tile(rt, "attention_bwd", query, value)
    sizes, (batch, heads, length, width) = _sizes(q.array, k.array, v.array), g.array.shape
    saved = (rt.packed(lse), delta)
    inputs = (g.array, q.array, k.array, v.array, mask.array, *saved, _state(rt, state, dropout_p, q.array))
    strides = (*g.outer, *q.outer, *k.outer, *v.outer, *mask.outer, g.step, q.step, k.step, v.step, *mask.steps)
    tail = (*strides, scale * LOG2E, int(is_causal), *_dropout(dropout_p, offset))
    if dquery is not None:
        kernel = _kernel("attention_bwd_query", mask.kind, dropout_p > 0, kind, block_d)
        programs = batch * heads * cdiv(length, _block(kernel, "BLOCK_M"))
        room = _room(rt, "attention_bwd", dquery)
        two = (*room.outer, room.step, *result.outer, result.step)
        launch(kernel, (programs,), (room.array, result.array, *inputs, *sizes, *two, *tail), rt.stream)
        _settle(rt, dquery, room)
    else:  # then a kernel of its own writes `delta`
        rows = batch * heads * length
        shape = (np.int64(rows), heads, length, width, *g.outer, *result.outer, g.step, result.step)
        launch(_row_sums(block_d), (cdiv(rows, SUM_ROWS),), (delta, g.array, result.array, *shape), rt.stream)
    if dkey is not None or dvalue is not None:
        dkey, dvalue = (spare.pop() if out is None else out for out in (dkey, dvalue))
        kernel = _kernel("attention_bwd_key", mask.kind, dropout_p > 0, kind, block_d)
        programs = batch * key.shape[1] * cdiv(key.shape[2], _block(kernel, "BLOCK_N"))
        rooms = [_room(rt, "attention_bwd", out) for out in (dkey, dvalue)]
        places = [stride for room in rooms for stride in (*room.outer, room.step)]
        launch(kernel, (programs,), (*(room.array for room in rooms), *inputs, *sizes, *places, *tail), rt.stream)
        for out, room in zip((dkey, dvalue), rooms, strict=True):
            _settle(rt, out, room)
    if dmask is not None:
        kernel = _mask_kernel(kind, dropout_p > 0)
        down, across = (cdiv(n, _block(kernel, b)) for n, b in zip(dmask.shape[2:], ("BLOCK_M", "BLOCK_N")))
        programs = math.prod(dmask.shape[:2]) * down * across
        scores = dmask if dmask.dtype == np.float32 else rt.empty(dmask.shape, "float32")
        launch(kernel, (programs,), (scores, *inputs, batch, *dmask.shape, *sizes, *tail), rt.stream)
        narrowed(rt, dmask, scores)


def _strides(*names: str) -> tuple[str, ...]:
    return tuple(f"{x}_{stride}" for x in names for stride in ("batch", "head", "step"))


WIDE = ("E", "V", *_strides("q", "k", "v"))


@cache
def _kernel(name: str, mask: int, dropout: bool, kind: str, block_d: int) -> Kernel:
    single = kind != "16-bit"
    tiles = TILES[name, single]
    for table, applies in ((MASKED, mask or dropout), (DROPPED, dropout)):
        tiles = tiles | (table.get((name, single), {}) if applies else {})
    block_m, block_n, warps, stages = tiles[block_d]
    if name == "attention" and mask and dropout:
        block_m //= 2
    longest = 128 if mask or dropout else 256  # rows up to this size are read whole
    if single:
        longest = 0 if name == "attention_bwd_key" else 32
    elif dropout and name == "attention_bwd_key":
        longest = 64
    strided = {"attention": ("y",), "attention_bwd_query": ("dq", "y", "dy"), "attention_bwd_key": ("dk", "dv", "dy")}
    return triton(
        name.removesuffix("_query").removesuffix("_key"),
        name,
        divisible=(*WIDE, *_strides(*strided[name])),
        warps=warps,
        stages=stages,
        MASK=mask,
        DROPOUT=dropout,
        PRECISION=PRECISION[kind],
        BLOCK_M=block_m,
        BLOCK_N=block_n,
        BLOCK_D=block_d,
        CHUNK=CHUNK if block_d > longest else 0,
    )


@cache
def _mask_kernel(kind: str, dropout: bool) -> Kernel:
    block_m, block_n, warps, stages = MASK_TILE[kind != "16-bit"]
    return triton(
        "attention_bwd_mask",
        "attention_bwd_mask",
        divisible=(*WIDE, *_strides("dy")),
        warps=warps,
        stages=stages,
        DROPOUT=dropout,
        PRECISION=PRECISION[kind],
        BLOCK_M=block_m,
        BLOCK_N=block_n,
        CHUNK=CHUNK,
    )


@cache
def _row_sums(block_d: int) -> Kernel:
    divisible = ("V", *_strides("dy", "y"))
    return triton("attention_bwd", "attention_bwd_rows", divisible=divisible, BLOCK_M=SUM_ROWS, BLOCK_D=block_d)


def _variants() -> list[Variant]:
    found = []
    stat, ints, longs = "*float32", ("int32",) * 6, ("int64",) * 8
    dropout = ("float32", "int32", "int64", "int32", "float32")
    tail = (*longs, "int64", "int64", *("int32",) * 6, *dropout)
    for dtype, kind in KINDS:
        x = f"*{dtype}"
        masks = ((NO_MASK, x), (BLOCKING, "*int8"), (ADDED, stat))
        for block_d, (masking, mask), drops in product(SIZES, masks, (False, True)):
            if not _listed(kind, block_d, masking, drops):
                continue
            state = "*int64" if drops else x
            arrays = (x, stat, x, x, x, mask, state)
            types: tuple[str, ...] = (*arrays, *ints, *longs, "int64", "int64", *("int32",) * 6, *dropout)
            found.append(Variant(_kernel("attention", masking, drops, kind, block_d), types))
            inputs = (x, x, x, x, mask, stat, stat, state)
            for name, outs in (("attention_bwd_query", (x, x)), ("attention_bwd_key", (x, x))):
                if name == "attention_bwd_key" and kind == "ieee" and block_d == SIZES[-1] and drops:
                    continue  # every tile of it spills some registers: compiled when it is met
                places = ("int64", "int64", "int32") * len(outs)
                types = (*outs, *inputs, *ints, *places, *tail)
                found.append(Variant(_kernel(name, masking, drops, kind, block_d), types))
        sums = (stat, x, x, "int64", *("int32",) * 3, *("int64",) * 4, "int32", "int32")
        found += [Variant(_row_sums(block_d), sums) for block_d in SIZES]
        for drops in (False, True):
            scores = (stat, x, x, x, x, stat, stat, stat, "*int64" if drops else x, *("int32",) * 5, *ints, *tail)
            found.append(Variant(_mask_kernel(kind, drops), scores))
    return found


def _listed(kind: str, block_d: int, mask: int, drops: bool) -> bool:
    """Whether the list has it: without a mask, with a boolean one, and dropping weights in every size; all else in the
    usual size. TF32 needs less room than its threefold: what masks change is not listed for it."""
    usual = block_d == USUAL
    if kind == "tf32":
        return not mask and (usual or not drops)
    return usual or (mask != ADDED and not (mask and drops))


VARIANTS = covering(_variants())
