"""Recurrent layers and cells: RNN, LSTM, GRU. Parameter names, gates and their order are those of torch.nn."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..arrays import as_array
from ..dispatch import call
from ..errors import ArgumentError, ShapeError
from . import init
from .module import Module, Parameter, whole, zeros

State = tuple[Any, ...]  # (h,) or, of an LSTM, (h, c)


class _Recurrent(Module):
    """What layers and cells share: the step, its number of gates, and the drawing of weights.

    Attributes:
        gates: how many rows of weights there are per hidden element.
        states: how many arrays a state has.
    """

    gates, states = 1, 1
    hidden_size = proj_size = 0

    @property
    def sizes(self) -> tuple[int, ...]:
        """Elements of each array of a state."""
        return (self.proj_size or self.hidden_size, self.hidden_size)[: self.states]

    def step(self, gates: Any, state: State, weight: Any, bias: Any) -> State:
        """The next state, from the input's part of the gates."""
        raise NotImplementedError

    def reset_parameters(self) -> None:
        """Draw all weights and biases anew, uniform within 1/√hidden_size."""
        bound = 1 / math.sqrt(self.hidden_size)
        for p in self.parameters():
            init.uniform_(p, -bound, bound)

    def _parameters_of(self, suffix: str, inputs: int, bias: bool) -> None:
        rows = self.gates * self.hidden_size
        shapes: dict[str, tuple[int, ...]] = {"weight_ih": (rows, inputs), "weight_hh": (rows, self.sizes[0])}
        shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)} if bias else {}
        shapes |= {"weight_hr": (self.proj_size, self.hidden_size)} if self.proj_size else {}
        for name, shape in shapes.items():
            setattr(self, name + suffix, Parameter(zeros(*shape)))

    def _weights(self, suffix: str) -> tuple[Any, ...]:
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")
        return tuple(getattr(self, name + suffix, None) for name in names)

    def _state(self, given: Any, lead: tuple[int, ...], dtype: Any) -> State:
        """The state to begin with, of shapes (*lead, elements), zeros if none is given."""
        wanted = [(*lead, size) for size in self.sizes]
        if given is None:
            return tuple(np.zeros(shape, dtype) for shape in wanted)
        state = (given,) if self.states == 1 else tuple(given)
        shapes = [tuple(s.shape) for s in state]
        if shapes != wanted:
            raise ShapeError(f"{type(self).__name__}: the state has shapes {shapes}. Give {wanted}.")
        return state


class _Plain(_Recurrent):
    """h' = tanh(W·x + b + U·h + b'), or relu of it."""

    nonlinearity = "tanh"

    def _choose(self, nonlinearity: str) -> None:
        if nonlinearity not in ("tanh", "relu"):
            raise ArgumentError(
                f"{type(self).__name__}: nonlinearity={nonlinearity!r} is unknown. Use 'tanh' or 'relu'."
            )
        self.nonlinearity = nonlinearity

    def step(self, gates: Any, state: State, weight: Any, bias: Any) -> State:
        return (call(self.nonlinearity, call("add", gates, call("linear", state[0], weight, bias))),)


class _LongShort(_Recurrent):
    """c' = σ(f)·c + σ(i)·tanh(g) and h' = σ(o)·tanh(c'), the gates i, f, g, o stacked in the weights in this order."""

    gates, states = 4, 2

    def step(self, gates: Any, state: State, weight: Any, bias: Any) -> State:
        h, c = state
        i, f, g, o = call("chunk", call("add", gates, call("linear", h, weight, bias)), 4, -1)
        kept, new = call("mul", call("sigmoid", f), c), call("mul", call("sigmoid", i), call("tanh", g))
        c = call("add", kept, new)
        return call("mul", call("sigmoid", o), call("tanh", c)), c


class _Gated(_Recurrent):
    """h' = (1 - σ(z))·n + σ(z)·h with n = tanh(n_x + σ(r)·n_h), the gates r, z, n stacked in the weights in this
    order."""

    gates = 3

    def step(self, gates: Any, state: State, weight: Any, bias: Any) -> State:
        (h,) = state
        reset_x, keep_x, new_x = call("chunk", gates, 3, -1)
        reset_h, keep_h, new_h = call("chunk", call("linear", h, weight, bias), 3, -1)
        reset = call("sigmoid", call("add", reset_x, reset_h))
        new = call("tanh", call("add", new_x, call("mul", reset, new_h)))
        keep = call("sigmoid", call("add", keep_x, keep_h))
        return (call("add", new, call("mul", keep, call("sub", h, new))),)


# --- layers -----------------------------------------------------------------------------------------------------------


class _Layers(_Recurrent):
    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
    ) -> None:
        kind = type(self).__name__
        self.input_size = whole(kind, "input_size", input_size, 0)
        self.hidden_size = whole(kind, "hidden_size", hidden_size, 1)
        self.num_layers = whole(kind, "num_layers", num_layers, 1)
        if not 0.0 <= dropout <= 1.0:
            raise ArgumentError(f"{kind}: dropout={dropout!r} is not a probability. Use 0 to 1.")
        self.proj_size = whole(kind, "proj_size", proj_size, 0)
        if proj_size and (self.states == 1 or proj_size >= hidden_size):
            raise ArgumentError(
                f"{kind}: proj_size={proj_size} is for an LSTM, and below hidden_size={hidden_size}. Leave it out."
            )
        self.batch_first, self.dropout, self.bidirectional = batch_first, dropout, bidirectional
        self.directions = ("", "_reverse") if bidirectional else ("",)
        for k in range(num_layers):
            for direction in self.directions:
                inputs = input_size if k == 0 else self.sizes[0] * len(self.directions)
                self._parameters_of(f"_l{k}{direction}", inputs, bias)
        self.reset_parameters()

    def forward(self, input: Any, hx: Any = None) -> tuple[Any, Any]:
        """(output, last state).

        Args:
            input: (L, N, input_size), with batch_first (N, L, input_size), without a batch (L, input_size).
            hx: the state to begin with, (num_layers · directions, N, hidden_size), of an LSTM a pair (h, c), h with
                proj_size elements if that is given; zeros if left out.

        Returns:
            The hidden states of the last layer, of the input's axes, the directions side by side; and the state after
            the last step, as `hx`.

        Raises:
            ShapeError: the input or the state does not have these shapes.
        """
        x = input if hasattr(input, "shape") else as_array(input)
        if len(x.shape) not in (2, 3) or x.shape[-1] != self.input_size:
            raise ShapeError(
                f"{type(self).__name__}: the input has shape {x.shape}. Give it (length, batch, {self.input_size}), or "
                f"without a batch (length, {self.input_size})."
            )
        lone, turned = len(x.shape) == 2, len(x.shape) == 3 and self.batch_first
        x = call("unsqueeze", x, 1) if lone else call("transpose", x, 0, 1) if turned else x
        length, n, _ = x.shape
        if not length:
            raise ShapeError(f"{type(self).__name__}: the input {input.shape} has no steps. Give it at least one.")
        lead = (self.num_layers * len(self.directions), n)
        if hx is not None and lone:
            hx = call("unsqueeze", hx, 1) if self.states == 1 else tuple(call("unsqueeze", s, 1) for s in hx)
        first = [call("unbind", s, 0) for s in self._state(hx, lead, x.dtype)]
        last: list[State] = []
        for k in range(self.num_layers):
            if k and self.dropout:
                x = call("dropout", x, self.dropout, self.training)
            found = [self._run(x, tuple(s[len(last) + i] for s in first), k, d) for i, d in enumerate(self.directions)]
            last += [state for _, state in found]
            outs = [y for y, _ in found]
            x = call("cat", outs, -1) if len(outs) > 1 else outs[0]
        states = tuple(call("stack", [s[i] for s in last], 0) for i in range(self.states))
        if lone:
            states = tuple(call("squeeze", s, 1) for s in states)
        x = call("squeeze", x, 1) if lone else call("transpose", x, 0, 1) if turned else x
        return x, states[0] if self.states == 1 else states

    def _run(self, x: Any, state: State, layer: int, direction: str) -> tuple[Any, State]:
        """One layer in one direction over all steps; the input's part of the gates is one product."""
        weight_x, weight_h, bias_x, bias_h, projection = self._weights(f"_l{layer}{direction}")
        steps = list(call("unbind", call("linear", x, weight_x, bias_x), 0))
        outs = []
        for gates in reversed(steps) if direction else steps:
            state = self.step(gates, state, weight_h, bias_h)
            if projection is not None:
                state = (call("linear", state[0], projection), *state[1:])
            outs.append(state[0])
        return call("stack", outs[::-1] if direction else outs, 0), state

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}, num_layers={self.num_layers}"


class RNN(_Layers, _Plain):
    """h' = tanh(W·x + b + U·h + b') over the steps of a sequence; `nonlinearity="relu"` for relu. As torch.nn.RNN."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
    ) -> None:
        self._choose(nonlinearity)
        super().__init__(input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional)


class LSTM(_Layers, _LongShort):
    __doc__ = f"""A long short-term memory over the steps of a sequence. As torch.nn.LSTM; with proj_size, h' is
    weight_hr times that.

    {_LongShort.__doc__}"""


class GRU(_Layers, _Gated):
    __doc__ = f"""A gated recurrent unit over the steps of a sequence. As torch.nn.GRU.

    {_Gated.__doc__}"""


# --- cells ------------------------------------------------------------------------------------------------------------


class _Cell(_Recurrent):
    def __init__(self, input_size: int, hidden_size: int, bias: bool = True) -> None:
        kind = type(self).__name__
        self.input_size = whole(kind, "input_size", input_size, 0)
        self.hidden_size = whole(kind, "hidden_size", hidden_size, 1)
        self._parameters_of("", input_size, bias)
        self.reset_parameters()

    def forward(self, input: Any, hx: Any = None) -> Any:
        """The next state, (N, hidden_size) or without a batch (hidden_size), of an LSTM a pair (h, c).

        Args:
            input: (N, input_size), or (input_size).
            hx: the state before; zeros if left out.

        Raises:
            ShapeError: the input or the state does not have these shapes.
        """
        x = input if hasattr(input, "shape") else as_array(input)
        if len(x.shape) not in (1, 2) or x.shape[-1] != self.input_size:
            raise ShapeError(
                f"{type(self).__name__}: the input has shape {x.shape}. Give it (batch, {self.input_size}), or "
                f"({self.input_size},)."
            )
        weight_x, weight_h, bias_x, bias_h, _ = self._weights("")
        state = self._state(hx, tuple(x.shape[:-1]), x.dtype)
        state = self.step(call("linear", x, weight_x, bias_x), state, weight_h, bias_h)
        return state[0] if self.states == 1 else state

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}"


class RNNCell(_Cell, _Plain):
    """One step of `RNN`."""

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, nonlinearity: str = "tanh") -> None:
        self._choose(nonlinearity)
        super().__init__(input_size, hidden_size, bias)


class LSTMCell(_Cell, _LongShort):
    """One step of `LSTM`."""


class GRUCell(_Cell, _Gated):
    """One step of `GRU`."""
