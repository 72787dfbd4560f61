"""What all optimizers share: parameter groups, learning rate, step counts, state, and the writing of updates."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from .. import backend as _backend
from ..arrays import asnumpy, memory_of
from ..dispatch import EAGER, updates
from ..errors import ArgumentError, CheckpointError, DTypeError, ShapeError
from ..registry import get
from ..variable import ACTIVE, Cell, Var, check_place, unwrap
from .arena import Arena, arenas

RATES = ("lr", "initial_lr")  # options that recorded steps do not depend on; the second is what schedulers start from


def check_number(name: str, option: str, value: Any, low: float = 0.0, below: float = math.inf) -> float:
    """`value` as a float; `ArgumentError` unless it is finite and in [low, below)."""
    if isinstance(value, Var | Cell | np.ndarray | np.generic) and np.size(value) == 1:
        value = np.asarray(value).item()
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ArgumentError(f"{name}: {option}={value!r:.60} is not a number. Pass a float.")
    if not math.isfinite(value) or not low <= value < below:
        upper = "" if below == math.inf else f" and less than {below:g}"
        raise ArgumentError(
            f"{name}: {option}={value!r} is out of range. Use a finite number of at least {low:g}{upper}."
        )
    return float(value)


def check_betas(name: str, betas: Any) -> tuple[float, float]:
    """Both coefficients, each in [0, 1)."""
    if not isinstance(betas, tuple | list) or len(betas) != 2:
        raise ArgumentError(f"{name}: betas={betas!r:.60} must be two numbers, such as (0.9, 0.999).")
    first, second = (check_number(name, f"betas[{i}]", b, below=1.0) for i, b in enumerate(betas))
    return first, second


class ParamGroup(dict):
    """Parameters with their options, as in PyTorch; setting "lr" writes the group's device scalar. A scheduler adds
    "initial_lr".

    Attributes:
        rate: the learning rate, a cell that recorded steps read.
        clocks: (step count, parameters that share it). One, until a step leaves some of the parameters out.
        arenas: where the parameters and their state live.
    """

    def __init__(self, optimizer: Optimizer, options: dict[str, Any]) -> None:
        self.memory = memory_of(options["params"][0].array) if options["params"] else _backend.current().memory
        self.rate = Cell(np.zeros((), np.float64), name="lr", memory=self.memory)
        self.clocks: list[tuple[Cell, list[Cell]]] = []
        self.arenas: list[Arena] = []
        self.optimizer = optimizer
        super().__init__(options)
        self.update(options)
        if self["params"]:
            self.clocks.append((self.clock(np.int64(0)), list(self["params"])))

    def clock(self, steps: Any) -> Cell:
        """A new step count."""
        return Cell(steps, name="step", memory=self.memory)

    def __setitem__(self, key: str, value: Any) -> None:
        self.update({key: value})

    def update(self, *args: Any, **options: Any) -> None:
        """Set options, all or none. (dict's own would pass the checks by.)"""
        given = dict(*args, **options)
        if unknown := set(given) - set(self) - set(RATES):
            raise ArgumentError(
                f"{self.optimizer._name}: unknown option {sorted(unknown)} in a group. It has {', '.join(self)}."
            )
        checked = self.checked(given)
        super().update({key: checked[key] for key in given})
        if "lr" in given:
            self.rate.assign(np.float64(checked["lr"]))

    def checked(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The options with those given, each within its range; `ArgumentError` for one that needs state beyond what is
        kept since the group was added."""
        rates = {key: check_number(self.optimizer._name, key, given[key]) for key in RATES if key in given}
        options = self.optimizer._checked({**self, **given, **rates})
        kept = self.optimizer.state.get(self["params"][0]) if self["params"] else None
        lacking = [] if kept is None else [key for key in self.optimizer._state_keys(options) if key not in kept]
        if lacking:
            raise ArgumentError(
                f"{self.optimizer._name}: {given} needs {lacking}, which this group does not keep. Build the optimizer "
                "with that option."
            )
        return options

    def __ior__(self, options: Any) -> ParamGroup:  # type: ignore[override,misc]
        self.update(options)
        return self

    def __reduce__(self) -> Any:  # dict's own would fill a copy through the checks, before it has options to check
        return _group, (dict(self),), vars(self)


def _group(options: dict[str, Any]) -> ParamGroup:
    group = ParamGroup.__new__(ParamGroup)
    dict.update(group, options)
    return group


class Optimizer:
    """Base of the optimizers.

    Args:
        params: parameters, or dicts with "params" and options of their own (a learning rate per group).
        defaults: options of the groups that do not give them.

    Raises:
        ArgumentError: no parameters, one given twice, something that is no parameter, or an option out of its range.
    """

    def __init__(self, params: Iterable[Any], defaults: dict[str, Any]) -> None:
        self.defaults = defaults
        self.param_groups: list[ParamGroup] = []
        self.state: dict[Cell, dict[str, Cell]] = {}
        if isinstance(params, Cell | Var | np.ndarray | Mapping):
            raise ArgumentError(
                f"{self._name}: params is a single {type(params).__name__}. Pass model.parameters() or a list."
            )
        listed = list(params)
        if not listed:
            raise ArgumentError(
                f"{self._name}: got no parameters. Pass model.parameters() of a model that has some (modules in a "
                "plain list do not count; nn.ModuleList holds them)."
            )
        for group in listed if isinstance(listed[0], Mapping) else [{"params": listed}]:
            self.add_param_group(group)

    @property
    def _name(self) -> str:
        return type(self).__name__

    def add_param_group(self, group: Mapping[str, Any]) -> None:
        """Add parameters, with options that differ from the defaults: `{"params": [...], "lr": 1e-4}`."""
        if not isinstance(group, Mapping) or "params" not in group:
            raise ArgumentError(f'{self._name}: {group!r:.60} is not a parameter group. Pass a dict with "params".')
        unknown = set(group) - {"params", *RATES} - set(self.defaults)
        if unknown:
            raise ArgumentError(
                f"{self._name}: unknown option {sorted(unknown)} in a group. It takes {', '.join(self.defaults)}."
            )
        given = group["params"]
        params = [given] if isinstance(given, Cell) else list(given)
        seen = set(map(id, self.state))
        for k, p in enumerate(params):
            if not isinstance(p, Cell) or not p.aval.is_float:
                raise ArgumentError(f"{self._name}: parameter {k} is {p!r:.60}. Pass nn.Parameter objects.")
            if id(p) in seen:
                raise ArgumentError(f"{self._name}: {p!r:.80} is given twice. List each parameter once.")
            seen.add(id(p))
        options = self._checked({**self.defaults, **group, "params": params})
        made = ParamGroup(self, options)
        for p in params:
            p.pinned = True
            self.state[p] = {
                key: Cell(np.zeros(p.shape, p.dtype), name=key, memory=memory_of(p.array))
                for key in self._state_keys(options)
            }
        made.arenas += arenas(params, self.state)
        self.param_groups.append(made)

    def _checked(self, options: dict[str, Any]) -> dict[str, Any]:
        """The options of a group, each within its range."""
        raise NotImplementedError

    def _state_keys(self, options: Mapping[str, Any]) -> tuple[str, ...]:
        """Names of the arrays kept per parameter."""
        return ()

    # --- stepping

    @property
    def lr(self) -> float:
        """The learning rate of the first group. Setting it sets that of all groups."""
        return self.param_groups[0]["lr"]

    @lr.setter
    def lr(self, value: float) -> None:
        for group in self.param_groups:
            group["lr"] = value

    def step(self, grads: Mapping[Any, Any], skip: Any = None) -> None:
        """Update the parameters once.

        Args:
            grads: {parameter: gradient}, as `tape.backward` gives it. Parameters without one stay as they are.
            skip: a bool, or a bool array of shape (): where it is True, parameters, state and step counts keep their
                bits. It is read where the update runs, never by the host. On a GPU they keep them too once an index was
                out of range, until that has been raised.

        Raises:
            ArgumentError: no key is a parameter of this optimizer.
            ShapeError, DTypeError: a gradient does not fit its parameter. Nothing has been updated then.
        """
        self._check_grads(grads)
        if isinstance(skip, bool):
            skip = np.bool_(skip)  # an array; a Python number would take the dtype of those beside it
        rec = ACTIVE.get()
        if rec is not None and rec.tracing:
            rec.depends(self._mode)
        for group in self.param_groups:
            for clock, params in self._due(group, grads):
                self._update(group, clock, params, grads, _or_fault(skip, group.memory.fault))

    def _mode(self) -> list[Any]:
        """What decides which ops `step` runs: the options but the learning rates, and which step count is whose."""
        out: list[Any] = []
        for group in self.param_groups:
            out += [v for k, v in group.items() if k not in ("params", *RATES)]
            for clock, members in group.clocks:
                out += [clock, *members]
        return out

    def _update(self, group: ParamGroup, clock: Cell, params: list[Cell], grads: Mapping[Any, Any], skip: Any) -> None:
        """Update parameters that share a step count."""
        raise NotImplementedError

    def _check_grads(self, grads: Mapping[Any, Any]) -> None:
        if not isinstance(grads, Mapping):
            raise ArgumentError(
                f"{self._name}.step: grads is a {type(grads).__name__}. Pass the result of tape.backward(loss)."
            )
        foreign = [p for p in grads if not isinstance(p, Cell | Var)]
        if foreign or (grads and not any(p in self.state for p in grads)):
            label = f"a {type(foreign[0]).__name__}" if foreign else f"{next(iter(grads))!r:.80}"
            raise ArgumentError(
                f"{self._name}.step: a gradient is given for {label}, which is not one of its parameters. "
                "Pass the result of tape.backward(loss) where loss depends on them."
            )
        for p, g in grads.items():
            if g is None or p not in self.state:  # other leaves, and what another optimizer updates
                continue
            aval = g.aval if type(g) is Var else _backend.aval_of(_backend.as_array(unwrap(g)))
            if aval is not p.aval:
                error, what = (DTypeError, "dtype") if aval.shape == p.shape else (ShapeError, "shape")
                raise error(
                    f"{self._name}.step: the gradient of {p.name or 'a parameter'} is {aval}, the parameter {p.aval}. "
                    f"Its {what} must be the parameter's."
                )

    def _due(self, group: ParamGroup, grads: Mapping[Any, Any]) -> Iterator[tuple[Cell, list[Cell]]]:
        """The parameters that have a gradient, by step count; a count is split when only some of its parameters do."""
        for k, (clock, members) in enumerate(list(group.clocks)):
            hit = [p for p in members if grads.get(p) is not None]
            if 0 < len(hit) < len(members):
                group.clocks[k] = (clock, [p for p in members if grads.get(p) is None])
                clock = group.clock(clock.array)
                group.clocks.append((clock, hit))
            if hit:
                yield clock, hit

    def _units(
        self, group: ParamGroup, params: list[Cell], grads: Mapping[Any, Any]
    ) -> Iterator[tuple[Cell, Any, dict[str, Cell]]]:
        """(parameter, gradient, state) of what one op updates each: whole arenas where all their parameters are due,
        else single parameters. To maximize, the gradients are negated here, before any decay is added to them."""
        single, F = dict.fromkeys(params), updates()
        for arena in group.arenas:
            if all(p in single for p in arena.params) and arena.holds:
                packed = F.run(get("pack"), tuple([grads[p] for p in arena.params]), ())
                yield arena.param, F.neg(packed) if group.get("maximize") else packed, arena.state
                for p in arena.params:
                    del single[p]
        for p in single:
            yield p, F.neg(grads[p]) if group.get("maximize") else grads[p], self.state[p]

    # --- state

    def state_dict(self) -> dict[str, Any]:
        """A copy of state and options: {"state": {index: {name: array}}, "param_groups": [...]}, as in PyTorch."""
        index = {p: i for i, p in enumerate(self.state)}
        steps = {p: clock for group in self.param_groups for clock, members in group.clocks for p in members}
        return {
            "state": {
                i: {"step": steps[p].numpy(), **{k: c.numpy() for k, c in self.state[p].items()}}
                for p, i in index.items()
            },
            "param_groups": [
                {k: [index[p] for p in v] if k == "params" else v for k, v in group.items()}
                for group in self.param_groups
            ],
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave. Everything is checked before anything is written.

        Raises:
            CheckpointError: it was saved from an optimizer with other parameters, groups or state.
        """
        try:
            groups = [dict(g) for g in state_dict["param_groups"]]
            state = {int(i): dict(s) for i, s in state_dict["state"].items()}
        except (KeyError, TypeError, ValueError, AttributeError) as e:
            raise CheckpointError(
                f"{self._name}: this is not an optimizer's state ({type(e).__name__}: {e}). Pass state_dict()."
            ) from e
        sizes = [len(g.get("params", ())) for g in groups]
        own = [len(g["params"]) for g in self.param_groups]
        if sizes != own:
            raise CheckpointError(
                f"{self._name}: the saved groups hold {sizes} parameters, this optimizer's {own}. "
                "Build it over the model that it was saved with."
            )
        params = list(self.state)
        for i, p in enumerate(params):
            saved = {k: asnumpy(v) for k, v in state.get(i, {}).items()}
            expected = {"step": ()} | {k: p.shape for k in self.state[p]}
            found = {k: a.shape for k, a in saved.items()}
            if saved and found != expected:
                raise CheckpointError(
                    f"{self._name}: the state of parameter {i} holds {found}, expected {expected}. "
                    f"Load the state of an {self._name} over the same model."
                )
            state[i] = saved
        try:
            options = [
                own.checked({k: v for k, v in saved.items() if k in self.defaults or k in RATES})
                for own, saved in zip(self.param_groups, groups, strict=True)
            ]
        except ArgumentError as e:
            raise CheckpointError(
                f"{self._name}: the saved options do not fit ({e}). Build it with other options."
            ) from e
        for group, saved_options in zip(self.param_groups, options, strict=True):
            group.update(saved_options)
        for i, p in enumerate(params):
            for key, cell in self.state[p].items():
                cell.assign(state[i].get(key, np.zeros(cell.shape, cell.dtype)))
        for group in self.param_groups:
            self._load_clocks(group, {p: int(state[i].get("step", 0)) for i, p in enumerate(params)})

    def _load_clocks(self, group: ParamGroup, steps: dict[Cell, int]) -> None:
        """Set the step counts in place; parameters that share one but were saved with several get their own."""
        clocks = []
        for clock, members in group.clocks:
            counts = sorted({steps[p] for p in members})
            for k, n in enumerate(counts):
                target = clock if k == 0 else group.clock(np.int64(n))
                target.assign(np.int64(n))
                clocks.append((target, [p for p in members if steps[p] == n]))
        group.clocks = clocks

    def __repr__(self) -> str:
        lines = [
            f"  {len(g['params'])} parameters: " + ", ".join(f"{k}={v}" for k, v in g.items() if k != "params")
            for g in self.param_groups
        ]
        return "\n".join([f"{self._name}(", *lines, ")"])


def _or_fault(skip: Any, fault: Any) -> Any:
    """`skip`, or whether the device has met an index out of range: what comes of that must not reach a parameter."""
    if fault is None:
        return skip
    F = updates()
    faulty = F.cast(F.const(fault, "int64"), "bool")
    return faulty if skip is None else F.logical_or(skip, faulty)


def write(name: str, cells: tuple[Cell, ...], inputs: tuple[Any, ...], values: tuple[Any, ...]) -> None:
    """Run the update op `name` and store its outputs in `cells`.

    Computing, it writes into the cells' memory at once; while `gt.compile` records, op and assignments become nodes.
    """
    F, op = updates(), get(name)
    if F is not EAGER:
        made = F.run(op, inputs, values)
        for cell, y in zip(cells, made if op.returns > 1 else (made,), strict=True):
            cell.assign(y)
        return
    backend = _backend.current()
    for cell in cells:
        check_place(cell, backend)
    arrays = [None if x is None else backend.memory.array(unwrap(x)) for x in inputs]
    at = op.at(tuple([None if x is None else _backend.aval_of(x) for x in arrays]), values)
    backend.run_into(at, [c.array for c in cells], arrays)
    for cell in cells:
        cell.written()
