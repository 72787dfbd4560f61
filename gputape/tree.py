"""Nests of tuples, lists and dicts: take the leaves out, put others back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any


def flatten(tree: Any) -> tuple[list[Any], Callable[[Sequence[Any]], Any]]:
    """The leaves of a nest from left to right, and the function that builds the same nest around others."""
    make: Callable[[list[Any]], Any]
    if isinstance(tree, dict):
        parts = [flatten(x) for x in tree.values()]
        keys = list(tree)
        make = lambda items: dict(zip(keys, items, strict=True))  # noqa: E731
    elif isinstance(tree, tuple) and hasattr(tree, "_fields"):
        parts = [flatten(x) for x in tree]
        make = lambda items: type(tree)(*items)  # noqa: E731
    elif isinstance(tree, tuple | list):
        parts = [flatten(x) for x in tree]
        make = type(tree)
    else:
        return [tree], lambda leaves: leaves[0]
    sizes = [len(leaves) for leaves, _ in parts]

    def build(leaves: Sequence[Any]) -> Any:
        out, at = [], 0
        for (_, rebuild), n in zip(parts, sizes, strict=True):
            out.append(rebuild(leaves[at : at + n]))
            at += n
        return make(out)

    return [x for leaves, _ in parts for x in leaves], build


def map_leaves(f: Callable[[Any], Any], tree: Any) -> Any:
    """The nest with `f` applied to every leaf."""
    leaves, build = flatten(tree)
    return build([f(x) for x in leaves])
