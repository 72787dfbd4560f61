"""A tape as a file, as a picture, and run again: all from its nodes, which are data."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from . import backend as _backend
from .aval import Aval
from .errors import CheckpointError, ShapeError, TapeError
from .node import Node, leaf_at, next_uid, output_at
from .registry import get
from .tape import Append, Tape

FORMAT = "gputape-tape-1"


def save(tape: Tape, path: str | Path) -> None:
    """Write every node and value to a safetensors file, with the nodes as JSON in its metadata.

    16-bit floats that NumPy lacks are stored by their bits. Cells are not followed: their values are stored.

    Raises:
        CheckpointError: the file cannot be written.
    """
    tensors, rows = {}, []
    for i, node in enumerate(tape):
        for k, array in enumerate(node.values):
            if array is not None:
                stored = array.view(np.uint16) if array.dtype == _backend.NP_DTYPE["bfloat16"] else array
                tensors[f"{i}.{k}"] = np.ascontiguousarray(stored).reshape(array.shape)
        rows.append(
            {
                "op": node.op,
                "inputs": node.inputs,
                "attrs": node.attrs["index"] if node.op == "output" else node.at.values,
                "outs": [None if a is None else (a.shape, a.dtype) for a in node.avals],
                "name": node.name,
                "requires_grad": node.requires_grad,
                "line": node.line,
            }
        )
    try:
        save_file(tensors, path, metadata={"format": FORMAT, "nodes": json.dumps(rows)})
    except (SafetensorError, OSError) as e:
        raise CheckpointError(f"save: cannot write {path} ({e}). Choose another folder.") from e


def load(path: str | Path) -> Tape:
    """The tape that `save` wrote.

    Raises:
        CheckpointError: the file is missing, damaged, no tape, or names an op that is not registered.
    """
    try:
        with safe_open(path, "numpy") as file:
            meta = file.metadata() or {}
            if meta.get("format") != FORMAT:
                raise CheckpointError(f"load: {path} is not a saved tape. Pass a file written by Tape.save.")
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
        nodes: list[Node] = []
        for i, row in enumerate(json.loads(meta["nodes"])):
            nodes.append(_node(i, row, nodes, tensors))
    except (SafetensorError, OSError, KeyError, ValueError, TypeError) as e:
        if isinstance(e, CheckpointError):
            raise
        raise CheckpointError(f"load: {path} cannot be read as a tape ({e}). Save it again with Tape.save.") from e
    tape = object.__new__(Tape)
    tape.__setstate__(nodes)
    return tape


def _node(i: int, row: dict[str, Any], before: list[Node], tensors: dict[str, np.ndarray]) -> Node:
    inputs = tuple(row["inputs"])
    outs = [None if a is None else Aval(a[0], a[1]) for a in row["outs"]]
    if row["op"] == "leaf":
        at = leaf_at(outs[0])  # type: ignore[arg-type]
    elif row["op"] == "output":
        at = output_at(before[inputs[0]].at, row["attrs"])
    else:
        at = get(row["op"]).at(tuple(None if j is None else before[j].aval for j in inputs), tuple(row["attrs"]))
    if list(at.outs) != outs:
        raise CheckpointError(f"load: node {i} ({row['op']}) is stored as {outs}, but the op gives {list(at.outs)}.")
    values = []
    for k, a in enumerate(outs):
        array = None if a is None else tensors[f"{i}.{k}"]
        if array is not None and a is not None and a.dtype == "bfloat16":
            array = array.view(_backend.NP_DTYPE["bfloat16"])
        values.append(array)
    where, _, line = row["line"].rpartition(":")
    node = Node(at, inputs, tuple(values), row["requires_grad"], (where, int(line)) if where else None, next_uid())
    node.name = row["name"]
    return node


def replay(tape: Tape, values: Mapping[int, Any]) -> Tape:
    """The same program on other leaf values: a new tape with the same ids.

    Args:
        values: {id of a leaf: its new value, of the same shape and dtype}.

    Raises:
        TapeError: an id is not that of a leaf.
        ShapeError: a value has another shape.
    """
    if not isinstance(values, Mapping):
        raise TapeError(f"replay: {values!r:.60} is not a mapping. Pass {{leaf id: new value}}.")
    for i in values:
        if tape.node(i).op != "leaf":
            raise TapeError(f"replay: node {i} is {tape.node(i).op}, not a leaf. Give new values for leaves only.")
    out = Tape()
    for i, node in enumerate(tape):
        if node.op == "leaf":
            value = node.values[0]
            if i in values:
                value = _backend.as_array(values[i], node.aval.dtype)
                if value.shape != node.aval.shape:
                    raise ShapeError(
                        f"replay: leaf {i} is {node.aval}, the value has shape {value.shape}. Keep the shape."
                    )
            out, _ = out.leaf(value, node.name, node.requires_grad)
            continue
        F = Append(out, "replay")
        inputs: tuple[Any, ...] = tuple(None if j is None else int(j) for j in node.inputs)
        if node.op == "output":
            F.output(inputs[0], node.attrs["index"])
        else:
            F.extend(node.at.op, inputs, node.at.values, depth=3)
        out = F.tape
    for new, old in zip(out, tape, strict=True):
        new.uid, new.source = old.uid, old.source  # the same program: its ids name the same nodes
    return out


def dot(tape: Tape) -> str:
    """The tape as a Graphviz graph, from leaves at the top to results."""
    lines = ["digraph tape {", "  rankdir=TB; node [shape=box, fontname=monospace];"]
    for i, node in enumerate(tape):
        label = node.name or node.op
        attrs = ", ".join(f"{k}={v}" for k, v in node.attrs.items())
        text = "\\n".join(filter(None, [f"%{i} {label}", attrs, str(node.aval)])).replace('"', "'")
        style = "style=filled, fillcolor=" + ("lightblue" if node.requires_grad else "lightgrey")
        lines.append(f'  n{i} [label="{text}"{", " + style if node.op == "leaf" else ""}];')
        lines += [f"  n{j} -> n{i};" for j in node.inputs if j is not None]
    return "\n".join([*lines, "}"]) + "\n"
