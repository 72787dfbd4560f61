"""Gradient hooks: functions that see, and may replace, the gradient of one node or parameter when it is complete."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from .errors import ArgumentError, TapeError
from .node import Node, read_only
from .registry import get
from .variable import Cell, Operators, Var, unwrap

if TYPE_CHECKING:
    from .functions import Functions

Hook = Callable[[Any], Any]


class Hooks:
    """The hooks of one node or cell, in the order in which they were registered."""

    def __init__(self) -> None:
        self.functions: list[Hook] = []


class HookHandle(AbstractContextManager["HookHandle"]):
    """What registering a hook gives. As a context manager it removes the hook at the end of the block."""

    def __init__(self, hooks: Hooks, hook: Hook) -> None:
        self._hooks, self._hook = hooks, hook

    def remove(self) -> None:
        """Take the hook away; once is enough, and more does no harm."""
        self._hooks.functions = [f for f in self._hooks.functions if f is not self._hook]

    def __exit__(self, *exc: object) -> None:
        self.remove()


def register_hook(x: Var | Cell, hook: Hook) -> HookHandle:
    """Call `hook(gradient)` in every backward that reaches this value, when its gradient is complete. As
    torch.Tensor.register_hook.

    The hook returns None, or a gradient of the same shape and dtype that takes its place: in the result, and in what
    flows on to the inputs. Hooks of one value run in the order in which they were registered. After the recording the
    gradient is a read-only array; where the backward is itself recorded (inside `with gt.record()`, in a compiled
    function) it is a `Var`. A hook of a parameter acts in every recording from here on.

    Args:
        hook: a function of one array.

    Returns:
        A handle; `handle.remove()` takes the hook away.

    Raises:
        TapeError: the value requires no gradient, or (in backward) the replacement does not fit.
    """
    if not callable(hook):
        raise ArgumentError(f"register_hook: {hook!r:.60} cannot be called. Pass a function of the gradient.")
    if not x.requires_grad:
        what = f"{x.name or 'the cell'}" if isinstance(x, Cell) else f"the result of {x.node.op} ({x.node.line})"
        raise TapeError(
            f"register_hook: {what} requires no gradient, so that the hook would never be called. Register it on a "
            "parameter, on gt.leaf(array), or on what is computed from them."
        )
    if isinstance(x, Cell):
        x.hooks = hooks = x.hooks or Hooks()
    else:
        hooks = x.rec.hooks.setdefault(x.id, Hooks())
    own = hook if hook not in hooks.functions else lambda dy: hook(dy)  # so that each handle removes its own
    hooks.functions = [*hooks.functions, own]
    return HookHandle(hooks, own)


def apply(F: Functions, hooks: Hooks, i: int, node: Node, dy: Any) -> Any:
    """The gradient of node `i` after its hooks."""
    for hook in hooks.functions:
        try:
            given = hook(dy if type(dy) is Var else read_only(dy))
            if given is None:
                continue
            (new,) = F.lift(get("alias"), (given if type(dy) is Var else unwrap(given),))
            if F.aval(new) is not node.aval:
                raise TapeError(
                    f"register_hook: the hook returned {F.aval(new)} for a gradient of {node.aval}. Return None, or a "
                    "gradient of the same shape and dtype."
                )
        except Exception as e:
            e.add_note(f"in a gradient hook of node {i}, {node!r} ({node.line})")
            raise
        dy = new
    return dy


Operators.register_hook = register_hook  # type: ignore[attr-defined]
