"""Dynamic loss scaling, as torch.amp.GradScaler: what keeps small gradients from vanishing in float16."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby
from typing import Any

import numpy as np

from ..arrays import asnumpy
from ..dispatch import call, updates
from ..errors import ArgumentError, CheckpointError, TapeError
from ..ops.optim import packed_size
from ..registry import get
from ..variable import ACTIVE, Cell
from .optimizer import Optimizer, check_number

OPTIONS = ("growth_factor", "backoff_factor", "growth_interval")


class GradScaler:
    """Scales the loss up, gradients down, and leaves out the updates whose gradients are not finite.

        with gt.precision("fp16"), gt.record() as tape:
            loss = gt.cross_entropy(model(x), y)
            scaled = scaler.scale(loss)
        grads = tape.backward(scaled)
        scaler.step(opt, grads)
        scaler.update()

    Scale, count and flags live on the device: no step waits for the host, and a compiled step may hold all of it. To
    clip gradients, scale them down first: `grads = scaler.unscale_(opt, grads)`.

    Args:
        init_scale: the first scale.
        growth_factor: what the scale is multiplied by after `growth_interval` steps in a row with finite gradients.
        backoff_factor: what it is multiplied by after a step without.
        enabled: False makes every method pass its arguments on.

    Raises:
        ArgumentError: a number out of its range.
    """

    def __init__(
        self,
        init_scale: float = 2.0**16,
        growth_factor: float = 2.0,
        backoff_factor: float = 0.5,
        growth_interval: int = 2000,
        enabled: bool = True,
    ) -> None:
        self.enabled = bool(enabled)
        self._set_options(growth_factor, backoff_factor, growth_interval)
        self._scale = Cell(np.float32(check_number("GradScaler", "init_scale", init_scale)), name="loss scale")
        self._tracker = Cell(np.int32(0), name="steps since the loss scale moved")
        self._nothing = Cell(np.bool_(False), name="no infinite gradient")
        self._found: dict[Optimizer, Cell] = {}  # whether a gradient of its last step was not finite
        self._stage: dict[Optimizer, str] = {}  # "unscaled" or "stepped" since the last update

    def _set_options(self, growth_factor: Any, backoff_factor: Any, growth_interval: Any) -> None:
        growth = check_number("GradScaler", "growth_factor", growth_factor)
        backoff = check_number("GradScaler", "backoff_factor", backoff_factor, below=1.0)
        if growth <= 1:
            raise ArgumentError(f"GradScaler: growth_factor={growth_factor!r} is out of range. Use more than 1.")
        if isinstance(growth_interval, bool) or not isinstance(growth_interval, int) or growth_interval < 1:
            raise ArgumentError(
                f"GradScaler: growth_interval={growth_interval!r:.60} must be an integer of at least 1."
            )
        self.growth_factor, self.backoff_factor, self.growth_interval = growth, backoff, growth_interval

    # --- a step

    def scale(self, outputs: Any) -> Any:
        """The loss, or each of a tuple or list of losses, times the scale."""
        if not self.enabled:
            return outputs
        if isinstance(outputs, tuple | list):
            return type(outputs)([self.scale(y) for y in outputs])
        return call("mul", outputs, self._scale)

    def unscale_(self, optimizer: Optimizer, grads: Mapping[Any, Any]) -> dict[Any, Any]:
        """The gradients with those of the optimizer's parameters scaled back; and notes whether all are finite.

        Only needed to do something with them before `step`, which does it otherwise.

        Raises:
            TapeError: they were scaled back already since the last `update`.
        """
        optimizer._check_grads(grads)
        if not self.enabled:
            return dict(grads)
        self._advance("unscale_", optimizer, "unscaled")
        own = [p for p, g in grads.items() if g is not None and p in optimizer.state]
        out, found = dict(grads), self._nothing
        for _, same in groupby(sorted(own, key=lambda p: p.aval.dtype), key=lambda p: p.aval.dtype):
            bucket, found = self._unscaled({p: grads[p] for p in same}, found)
            out |= bucket
        if optimizer not in self._found:
            self._found[optimizer] = Cell(np.bool_(False), name="infinite gradient")
        self._found[optimizer].assign(found)
        return out

    def _unscaled(self, grads: dict[Any, Any], found: Any) -> tuple[dict[Any, Any], Any]:
        """Gradients of one dtype scaled back by one op, and whether one of them, or `found`, is not finite."""
        F = updates()
        if len(grads) == 1:
            ((p, g),) = grads.items()
            y, found = F.run(get("unscale"), (g, self._scale, found), ())
            return {p: y}, found
        packed, found = F.run(get("unscale"), (F.run(get("pack"), tuple(grads.values()), ()), self._scale, found), ())
        out, start = {}, 0
        for p in grads:
            out[p] = F.reshape(F.narrow(packed, 0, start, p.aval.size), p.aval.shape)
            start += packed_size(p.aval)
        return out, found

    def step(self, optimizer: Optimizer, grads: Mapping[Any, Any]) -> None:
        """`optimizer.step` with the gradients scaled back; it changes nothing if one of them is not finite.

        Raises:
            TapeError: it was called already since the last `update`.
        """
        if not self.enabled:
            optimizer.step(grads)
            return
        if self._stage.get(optimizer) != "unscaled":
            grads = self.unscale_(optimizer, grads)
        self._advance("step", optimizer, "stepped")
        optimizer.step(grads, skip=self._found[optimizer])

    def _advance(self, method: str, optimizer: Optimizer, stage: str) -> None:
        was = self._stage.get(optimizer)
        if was in (stage, "stepped"):
            raise TapeError(
                f"GradScaler.{method}: the gradients of this {type(optimizer).__name__} were {was} already since the "
                "last update(). Call scaler.update() once per step, after all optimizers."
            )
        rec = ACTIVE.get()
        if rec is not None and rec.tracing:
            rec.depends(self._mode)
        self._stage[optimizer] = stage

    def _mode(self) -> list[Any]:
        """What decides which ops the methods run: the options, and whose gradients are scaled back already."""
        out: list[Any] = [getattr(self, name) for name in OPTIONS]
        for optimizer in self._found:
            out += [optimizer, self._stage.get(optimizer) == "unscaled"]
        return out

    def update(self, new_scale: Any = None) -> None:
        """Move the scale by what the steps since the last `update` found; or set it."""
        if not self.enabled:
            return
        rec = ACTIVE.get()
        if rec is not None and rec.tracing:
            rec.depends(self._mode)
        self._stage.clear()
        if new_scale is not None:
            if isinstance(new_scale, int | float):
                new_scale = np.float32(check_number("GradScaler.update", "new_scale", new_scale))
            self._scale.assign(new_scale)
            return
        F = updates()
        found: Any = self._nothing
        for cell in self._found.values():
            found = F.logical_or(found, cell)
        options = tuple(getattr(self, name) for name in OPTIONS)
        scale, tracker = F.run(get("update_scale"), (self._scale, self._tracker, found), options)
        self._scale.assign(scale)
        self._tracker.assign(tracker)
        for cell in self._found.values():  # an optimizer that does not step until the next update has no say in it
            cell.assign(self._nothing)

    # --- state

    def is_enabled(self) -> bool:
        return self.enabled

    def get_scale(self) -> float:
        """The scale; waits for the device."""
        return float(self._scale.value) if self.enabled else 1.0

    def state_dict(self) -> dict[str, Any]:
        """Scale, options and count as plain numbers, as in PyTorch; nothing if it is not enabled."""
        if not self.enabled:
            return {}
        options = {name: getattr(self, name) for name in OPTIONS}
        return {"scale": self.get_scale(), **options, "_growth_tracker": int(asnumpy(self._tracker.value))}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave. Everything is checked before anything is written.

        Raises:
            CheckpointError: it is not the state of a scaler that was enabled.
        """
        if not self.enabled:
            return
        try:
            scale = check_number("GradScaler", "scale", state_dict["scale"])
            tracker = int(state_dict["_growth_tracker"])
            self._set_options(*[state_dict[name] for name in OPTIONS])
        except (KeyError, TypeError, ValueError) as e:
            raise CheckpointError(
                f"GradScaler: this is not the state of an enabled scaler ({type(e).__name__}: {e}). Pass state_dict()."
            ) from e
        self._scale.assign(np.float32(scale))
        self._tracker.assign(np.int32(tracker))
        self._stage.clear()

    def __repr__(self) -> str:
        options = ", ".join(f"{name}={getattr(self, name)}" for name in OPTIONS)
        return f"GradScaler({options}, enabled={self.enabled})"
