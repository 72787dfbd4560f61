"""What `gt.compile` makes of a recorded program: the same values with fewer passes over memory.

A rule looks for a pattern in the `Graph` and puts other ops in its place. Each says in a note what it did, and whether
that changes how results are rounded.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .arrays import NARROW, asnumpy
from .backend import backend as _backend
from .fusion import fuse, fuse_sums
from .graph import Graph
from .ops.linear_act import saved_of
from .registry import find, get


def rewrite(graph: Graph, backend: Any) -> None:
    """Apply all rules, each to the whole graph, in order."""
    for rule in RULES:
        rule(graph, backend)


# --- sums of the gradients of slices ----------------------------------------------------------------------------------


def joined_slices(graph: Graph, backend: Any) -> None:
    """A sum of `slice_bwd` of slices that do not meet and leave nothing out → `slices_bwd`, which adds no zeros."""
    for i in reversed(graph.named("add")):
        terms = _terms(graph, i) if i in graph.nodes else []
        if len(terms) < 2 or any(graph.nodes[k].op != "slice_bwd" for k in terms):
            continue
        attrs = [graph.nodes[k].attrs for k in terms]
        boxes = [(a["start"], a["stop"], a["step"]) for a in attrs]
        inputs = [graph.first(k) for k in terms]
        whole = sum(graph.nodes[j].aval.size for j in inputs if j is not None) == graph.nodes[i].aval.size
        if not whole or not all(_apart(a, b) for n, a in enumerate(boxes) for b in boxes[:n]):
            continue
        new = graph.op(i, "slices_bwd", inputs, shape=attrs[0]["shape"], slices=tuple(boxes))
        graph.replace(i, new)
        graph.notes[new] = f"{len(terms)} slice_bwd, {len(terms) - 1} add"


def _terms(graph: Graph, i: int) -> list[int]:
    """What is added up to node `i`, in order; sums that are read elsewhere too, or broadcast, are terms themselves."""
    found: list[int] = []
    for j in graph.inputs[i]:
        assert j is not None
        node = graph.nodes[j]
        inner = node.op == "add" and graph.alone(j) and node.aval is graph.nodes[i].aval
        found += _terms(graph, j) if inner else [j]
    return found


def _apart(a: Any, b: Any) -> bool:
    """Whether two slices (start, stop, step) have no element in common."""
    ranges = ((range(*p), range(*q)) for p, q in zip(zip(*a, strict=True), zip(*b, strict=True), strict=True))
    return any(not any(k in q for k in p) for p, q in ranges)


# --- before a pool ----------------------------------------------------------------------------------------------------


def pooled_relus(graph: Graph, backend: Any) -> None:
    """`relu`, then max pooling → max pooling, then `relu`, of fewer elements; its gradient likewise. Both orders give
    the same numbers: the largest element stays the largest, and where it is not positive no gradient passes."""
    for i in graph.named("relu"):
        x = graph.first(i)
        assert x is not None
        # In the launch of a chain it costs nothing, nor does it behind a product, if no gradient goes back through it.
        in_a_chain = graph.nodes[x].at.op.batch == "pointwise" and graph.alone(x)
        at_an_end = graph.nodes[x].op in _ENDED and graph.alone(x) and graph.alone(i)
        if backend.family == "cpu" or not (in_a_chain or at_an_end):
            _after_pool(graph, i)


def _after_pool(graph: Graph, r: int) -> None:
    pools = [k for k in graph.users[r] if graph.nodes[k].op == "max_pool_nd"]
    if len(pools) != 1 or r in graph.wanted():
        return
    (p,) = pools
    window = graph.nodes[p].attrs
    if any(window["padding"]):  # a window of padding alone would have -inf
        return
    indices = [k for k in graph.users[p] if graph.nodes[k].op == "output"]
    unpooled = [b for k in indices for b in graph.users[k]]
    masked = [g for b in unpooled for g in graph.users[b]]
    known = all(graph.nodes[b].op == "max_pool_nd_bwd" and graph.alone(b) for b in unpooled)
    if not known or any(graph.nodes[g].op != "relu_bwd" or graph.inputs[g][1] != r for g in masked):
        return
    if len(graph.users[r]) != 1 + len(masked) or any(k in graph.wanted() for k in indices):
        return
    first = graph.op(p, "max_pool_nd", (graph.first(r),), **window)
    last = graph.op(p, "relu", (first,))
    graph.notes[last] = "relu, after max_pool_nd"
    for b, g in zip(unpooled, masked, strict=True):
        mask = graph.op(b, "relu_bwd", (graph.first(b), last))
        graph.notes[mask] = "relu_bwd, before max_pool_nd_bwd"
        spread = graph.op(b, "max_pool_nd_bwd", (mask, graph.output(first, 1)), **graph.nodes[b].attrs)
        graph.replace(g, spread)
    if p in graph.nodes:  # its maxima are read, not only their places
        graph.replace(p, last)


# --- what follows an affine map ---------------------------------------------------------------------------------------


def affine_products(graph: Graph, backend: Any) -> None:
    """A product with a matrix, then the addition of a vector to each row → `linear`."""
    for k in graph.named("add"):
        for m, bias in (graph.inputs[k], graph.inputs[k][::-1]):
            if m is not None and bias is not None and _is_affine(graph, m, bias):
                node = graph.nodes[m]
                x, weight = graph.inputs[m]
                turned = graph.op(k, "permute", (weight,), dims=(1, 0))
                new = graph.op(k, "linear", (x, turned, bias), node.at.tf32)
                graph.notes[new] = "mm_nd, add" + (", rounded once" if node.aval.dtype in NARROW else "")
                graph.replace(k, new)
                break


def _is_affine(graph: Graph, m: int, bias: int) -> bool:
    node, added = graph.nodes[m], graph.nodes[bias].aval
    product = node.op == "mm_nd" and node.aval.is_float and node.at.ins[1].ndim == 2
    return product and graph.alone(m) and (added.shape, added.dtype) == (node.aval.shape[-1:], node.aval.dtype)


def affine_endings(graph: Graph, backend: Any) -> None:
    """`linear` or `conv_nd`, then an activation → `linear_act` or `conv_act`; `linear`, then an addition, too. Where
    the gradient of the activation is taken from its input, its slope is computed with it: backward is one product."""
    for i in graph.named(*_ENDED):
        if _of_matrices(graph.nodes[i]):
            _activated(graph, i, backend)
    for i in graph.named("linear", "linear_act"):
        if _of_matrices(graph.nodes[i]):
            _added(graph, i, backend)


def _of_matrices(node: Any) -> bool:
    """Whether the ops with an ending take it: floating point, and no vector as the weight."""
    return node.aval.is_float and node.at.ins[1].ndim > 1


_ENDED = {"linear": "linear_act", "conv_nd": "conv_act"}


def _activated(graph: Graph, z: int, backend: Any) -> None:
    readers = dict.fromkeys(graph.users[z])
    acts = [k for k in readers if _activation(graph.nodes[k].op) and graph.first(k) == z]
    if len(acts) != 1 or z in graph.wanted():
        return
    (h,) = acts
    act, affine = graph.nodes[h], graph.nodes[z]
    gradient = get(f"{act.op}_bwd")
    slopes = [k for k in readers if graph.nodes[k].at.op is gradient and graph.inputs[k][1] == z]
    if len(slopes) + 1 != len(graph.users[z]) or any(graph.nodes[k].attrs != act.attrs for k in slopes):
        return
    op = _ENDED[affine.op]
    if not _takes(backend, op, act.op, act.attrs):
        return
    options: dict[str, Any] = {"activation": act.op, "options": tuple(act.attrs.items()), "keep": bool(slopes)}
    inputs = (*graph.inputs[z], *(None,) * (len(get(op).inputs) - len(graph.inputs[z])))
    new = graph.op(h, op, inputs, affine.at.tf32, **affine.attrs, **options)
    graph.replace(h, new)
    note = f"{affine.op}, {act.op}"
    if slopes:
        slope = graph.output(new, 1)
        for k in slopes:
            product = graph.op(k, "mul", (graph.first(k), slope))
            graph.notes[product] = f"{gradient.name}, with the slope of the forward pass (rounds otherwise)"
            graph.replace(k, product)
        note += " and its slope"
    graph.notes[new] = note


def _activation(name: str) -> str | None:
    """`saved_of` an activation that these ops take; None of other ops."""
    op, backward = find(name), find(f"{name}_bwd")
    fits = op is not None and backward is not None and op.inputs == ("input",) and op.batch == "pointwise"
    return saved_of(name) if fits else None


def _takes(backend: Any, op: str, activation: str, options: dict[str, Any]) -> bool:
    """Whether the backend computes that op with that activation."""
    body = backend.bodies.get(op)
    return body is not None and getattr(body, "takes", lambda *_: True)(activation, options)


def _added(graph: Graph, i: int, backend: Any) -> None:
    """The residual: what one addition adds to the result, and nothing else reads."""
    node = graph.nodes[i]
    found = _read_by_one(graph, i, "add") if graph.inputs[i][3:] in ((), (None,)) else None
    if found is None or not _takes(backend, "linear_act", "none", {}):
        return
    k, other = found
    new = graph.op(k, "linear_act", (*graph.inputs[i][:3], other), node.at.tf32, **node.attrs)
    once = ", rounded once" if node.aval.dtype in NARROW else ""
    graph.notes[new] = graph.notes.get(i, "linear") + f", add{once}"
    graph.replace_all(i, k, new)


def _read_by_one(graph: Graph, i: int, op: str) -> tuple[int, int] | None:
    """(the one node of that op that reads the first output of node `i`, its other operand), if that is of the same
    kind and does not wait for node `i`; else None."""
    readers = [k for k in graph.users[i] if graph.nodes[k].op != "output"]
    if len(readers) != 1 or i in graph.wanted() or graph.nodes[readers[0]].op != op:
        return None
    (k,) = readers
    a, b = graph.inputs[k]
    other, aval = b if a == i else a, graph.nodes[i].aval
    if other is None or not aval is graph.nodes[other].aval is graph.nodes[k].aval or graph.depends(other, i):
        return None
    return k, other


# --- what follows a gradient ------------------------------------------------------------------------------------------

_TAKEN = {"layer_norm_bwd": ("add", "residual"), "rms_norm_bwd": ("add", "residual"), "linear_bwd": ("mul", "factor")}


def gradient_endings(graph: Graph, backend: Any) -> None:
    """The gradient of a norm and the residual's; that of an affine map's input and the slope before it → one op."""
    for i in graph.named(*_TAKEN):
        node = graph.nodes[i]
        op, name = _TAKEN[node.op]
        place = node.at.op.inputs.index(name)
        inputs = [*graph.inputs[i], *(None,) * (place + 1 - len(graph.inputs[i]))]
        found = _read_by_one(graph, i, op) if node.aval is not None and inputs[place] is None else None
        if found is None:
            continue
        k, inputs[place] = found
        new = graph.op(k, node.op, inputs, node.at.tf32, **node.attrs)
        graph.notes[new] = f"{node.op}, {graph.notes.get(k, op)}"
        graph.replace_all(i, k, new)


# --- gathers at constant indices --------------------------------------------------------------------------------------


def constant_gathers(graph: Graph, backend: Any) -> None:
    """A gather at the constant indices a, a + s, a + 2s, … → a slice, and its gradient one of a slice."""
    for i in graph.named("embedding", "index_select", "index_add"):
        _as_slice(graph, i)


def _as_slice(graph: Graph, i: int) -> None:
    node = graph.nodes[i]
    indices, x = {"embedding": (0, 1), "index_select": (1, 0), "index_add": (1, 0)}[node.op]
    table, dim = graph.inputs[i][x], node.attrs.get("dim", 0)
    index = _constant(graph, graph.inputs[i][indices])
    if index is None or not index.size or table is None or not graph.nodes[table].aval.ndim:
        return
    shape = graph.nodes[table].aval.shape
    steps = np.unique(np.diff(index.reshape(-1)))
    step = int(steps[0]) if steps.size else 1
    first, last = int(index.flat[0]), int(index.flat[-1])
    if steps.size > 1 or step < 1 or first < 0 or last >= shape[dim]:
        return
    start = tuple(first if k == dim else 0 for k in range(len(shape)))
    stop = tuple(last + 1 if k == dim else n for k, n in enumerate(shape))
    at: dict[str, Any] = {
        "start": start,
        "stop": stop,
        "step": tuple(step if k == dim else 1 for k in range(len(shape))),
    }
    if node.op != "index_add":
        new = graph.op(i, "slice", (table,), **at)
        if graph.nodes[new].aval is not node.aval:
            new = graph.op(i, "reshape", (new,), shape=node.aval.shape)
    else:
        source, zeros = graph.inputs[i][2], _constant(graph, table)
        if node.attrs["alpha"] != 1 or source is None or zeros is None or zeros.any():
            return
        whole = graph.nodes[source].aval is node.aval
        new = source if whole else graph.op(i, "slice_bwd", (source,), shape=shape, **at)
    graph.notes[new] = f"{node.op} at constant indices"
    graph.replace(i, new)


def _constant(graph: Graph, i: int | None) -> Any:
    """The value of a node that is a constant, or a view of one; else None."""
    node = graph.nodes[i] if i is not None else None
    if node is None or (not node.inputs and node.values is None):
        return None
    if not node.inputs:
        return asnumpy(node.values[0])
    inner = _constant(graph, node.inputs[0]) if node.at.op.view is not None else None
    return None if inner is None else _backend("cpu").call(node.at)((inner,))[0]


RULES: tuple[Callable[[Graph, Any], None], ...] = (
    constant_gathers,
    joined_slices,
    pooled_relus,
    affine_products,
    affine_endings,
    gradient_endings,
    fuse,
    fuse_sums,
)
