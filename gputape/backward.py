"""Reverse accumulation: the one loop that runs any tape backward, and the checks around it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from . import backend as _backend
from .arrays import is_view, memory_of, owner_of
from .aval import Aval
from .errors import ShapeError, TapeError
from .functions import Functions
from .hooks import Hooks, apply
from .node import OUTPUT, Node


def sweep(
    F: Functions,
    nodes: Sequence[Node],
    out: int,
    seed: Any,
    saved: Callable[[int, Node], tuple[Any, ...]],
    keep: Collection[int] | None = None,
    hooks: Mapping[int, Hooks] | None = None,
) -> dict[int, Any]:
    """Reverse accumulation from node `out` with cotangent `seed`: {id of each reached node: gradient handle}.

    `F` executes or records; `saved` gives the handles a vjp asked for. With `keep`, each node that is done gives up its
    values, and its gradient unless it is listed. Contributions are only ever added out of place: a vjp may hand out one
    array twice. `hooks` see the gradients of their nodes when they are complete.
    """
    grads: list[Any] = [None] * (out + 1)
    grads[out] = seed
    further: dict[int, dict[int, Any]] = {}  # id → {output index: gradient}, for outputs after the first
    aval, accumulate = F.aval, F.accumulate
    watch = _backend.WATCH.get()
    if watch is not None:
        watch = watch.sweep(F)
        accumulate = watch.accumulate
    for i in range(out, -1, -1):
        dy = grads[i]
        if dy is None and i not in further:
            continue
        node = nodes[i]
        if hooks and dy is not None and i in hooks:
            dy = grads[i] = apply(F, hooks[i], i, node, dy)
        inputs = node.inputs
        if not inputs or not node.requires_grad:
            continue
        at = node.at
        op = at.op
        if op is OUTPUT:
            slot, index = further.setdefault(inputs[0], {}), at.attrs["index"]
            slot[index] = accumulate(slot[index], dy, at.out) if index in slot else dy
            continue
        needs = []
        for j in inputs:
            needs.append(j is not None and nodes[j].requires_grad)
        wanted = tuple(needs)
        at_needs = at.by_needs.get(wanted) or at.with_needs(wanted)
        if op.several:
            rest = further.pop(i, {})
            cotangents = (dy, *[rest.get(k) for k in range(1, len(op.outputs))])
            args = (cotangents, *saved(i, node))
        elif op.saves:
            args = (dy, *saved(i, node))
        else:
            args = (dy,)
        given = op.vjp(F, at_needs, *args) if watch is None else watch.vjp(i, node, at_needs, args)
        if type(given) is not tuple:
            given = (given,)
        for j, need, g in zip(inputs, needs, given, strict=True):
            if g is None or not need:
                continue
            want = nodes[j].at.out
            if (g is not dy or want is not at.out) and aval(g) is not want:
                raise TapeError(
                    f"backward: the vjp of {op.name} gave {aval(g)} for an input of {want} (node {i}, {node.line}). "
                    "Correct the op's vjp."
                )
            before = grads[j]
            grads[j] = g if before is None else accumulate(before, g, want)
        if keep is not None:
            node.values = None  # all that need them come later on the tape and are done
            if i not in keep:
                grads[i] = None
    return {i: g for i, g in enumerate(grads) if g is not None}


def check_out(op: str, nodes: Sequence[Node], out: int, seed: Any) -> Aval:
    """The aval of node `out`; without a seed it must be a floating-point scalar."""
    aval = nodes[out].aval
    if not aval.is_float:
        raise TapeError(f"{op}: node {out} is {aval}, which has no gradient. Start from a floating-point node.")
    if seed is None and aval.shape != ():
        raise ShapeError(
            f"{op}: the output has shape {aval.shape}, but without a seed it must be a scalar of shape (). "
            "Reduce it with sum or mean, or pass seed=… of its shape."
        )
    return aval


def check_stale(op: str, nodes: Sequence[Node], out: int, cells: Sequence[int]) -> None:
    """Raise `TapeError` if `out` depends on a parameter that was updated after it was read."""
    stale = [
        i for i in cells if i <= out and nodes[i].cell is not None and nodes[i].cell[0].version != nodes[i].cell[1]
    ]
    if not stale:
        return
    reaches = {out}
    for i in range(out, -1, -1):
        if i in reaches:
            reaches.update(j for j in nodes[i].inputs if j is not None)
    for i in stale:
        if i in reaches:
            cell, version = nodes[i].cell
            raise TapeError(
                f"{op}: {cell.name or 'a parameter'} was updated after this tape read it (version {version} was read, "
                f"it is at {cell.version} now; {nodes[i].line}). Take the gradient before the update, or record again."
            )


def seed_array(F: Functions, op: str, aval: Aval, seed: Any) -> Any:
    """The cotangent to start from: ones for a scalar, else the checked seed."""
    if seed is None:
        return F.const(1, aval.dtype)
    array = F.const(seed, aval.dtype)
    if array.shape != aval.shape:
        raise seed_error(op, _backend.aval_of(array), aval)
    return memory_of(array).array(array, copy=True)


def seed_error(op: str, seed: Aval, out: Aval) -> ShapeError:
    return ShapeError(f"{op}: the seed is {seed}, the output {out}. Give a seed of the output's shape and dtype.")


def own_arrays(grads: dict[Any, Any]) -> dict[Any, Any]:
    """The same gradients, none sharing memory with another or with a node, so that the caller may write into them."""
    seen: set[int] = set()
    out = {}
    for key, g in grads.items():
        if is_view(g) or id(owner_of(g)) in seen or not g.flags.c_contiguous:
            g = memory_of(g).array(g, copy=True)
        seen.add(id(owner_of(g)))
        out[key] = g
    return out
