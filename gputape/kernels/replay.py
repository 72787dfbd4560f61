"""How the steps of a plan run on kernels: launch by launch, and on a GPU from the second time on as one CUDA graph."""

from __future__ import annotations

import contextlib
import copy
import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..backend import Steps
from ..node import Node
from ..placement import aligned
from .rehearsal import Step, rehearse


class Workspace:
    """The memory that host functions ask for beside their results and scratch: one block, used by each step anew."""

    def __init__(self, rt: Any, size: int) -> None:
        self.block, self.renewed = rt.empty((size,), np.uint8), getattr(rt, "renewed", None)
        self.at = 0

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Any:
        nbytes = math.prod(shape) * np.dtype(dtype).itemsize
        start, self.at = self.at, self.at + aligned(nbytes)
        assert self.at <= self.block.nbytes, "a step asks for more memory than in the rehearsal"
        y = self.block[start : start + nbytes].view(dtype).reshape(shape)
        return y if self.renewed is None else self.renewed(y)


class KernelSteps(Steps):
    """The steps of a plan on kernels. All memory is there before the first of them runs.

    Raises:
        CompileError, BackendError: as `rehearse`.
    """

    def __init__(self, backend: Any, steps: Sequence[tuple[Node, Step]]) -> None:
        self.launches, most = rehearse(backend, steps)
        self.workspace = Workspace(backend.xp, most)
        self.rt = copy.copy(backend.xp)
        self.rt.empty = self.workspace.empty
        super().__init__([functools.partial(s.func, self.rt, *s.args[1:], **s.keywords) for _, s in steps])
        self.lines = [node.line for node, _ in steps]

    def run(self) -> None:
        for line, call in zip(self.lines, self.calls, strict=True):
            self.workspace.at, self.rt.line = 0, line
            call()


class GraphSteps(KernelSteps):
    """The steps of a plan on a GPU.

    The first run launches them one by one, on the caller's stream: it is what warms up the device, and a step like any
    other. The second captures them into a graph, which is launched from then on, on gputape's own stream. Events order
    it behind what the caller's stream holds by then, and what comes there later behind it.

    A graph stores addresses. The arrays behind them live as long as `calls`, which hold them.
    """

    def __init__(self, backend: Any, steps: Sequence[tuple[Node, Step]]) -> None:
        self.cuda, self.own = backend.xp.cupy.cuda, backend.xp.own
        self.capturing = backend.xp.capturing
        self.graph: Any = None
        self._runs = 0
        super().__init__(backend, steps)
        self._ready, self._done, self._idle = (self.cuda.Event(disable_timing=True) for _ in range(3))

    def begin(self) -> None:
        """The last run may have been on another stream: wait for it before its buffers are written."""
        if self._runs:
            self.cuda.get_current_stream().wait_event(self._idle)

    def run(self) -> None:
        if not self._runs:
            super().run()
        else:
            self._launch()
        self._runs += 1

    def end(self) -> None:
        self.cuda.get_current_stream().record(self._idle)

    def _launch(self) -> None:
        caller = self.cuda.get_current_stream()
        with self.capturing:
            if self.graph is None:
                self.graph = self._captured()
            self.own.wait_event(caller.record(self._ready))
            self.graph.launch(self.own)
            caller.wait_event(self.own.record(self._done))

    def _captured(self) -> Any:
        with self.own:
            self.own.begin_capture()
            try:
                super().run()
            except BaseException:
                with contextlib.suppress(RuntimeError):  # what broke the capture is worth telling, not that it broke
                    self.own.end_capture()  # else nothing could run on the stream again
                raise
            return self.own.end_capture()
