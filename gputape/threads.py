"""A replay on several threads of the CPU.

A thread waits for another only where it reads what that one writes, or writes what that one reads: a chain of ops along
the batch runs without.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .arrays import Quiet
from .backend import Steps
from .blas import libraries as _libraries
from .errors import ArgumentError

Call = Callable[[], Any]

# --- how many threads -------------------------------------------------------------------------------------------------

_chosen: int | None = None


def set_num_threads(n: int) -> None:
    """How many threads compiled steps on the CPU may use from now on; as torch.set_num_threads.

    Without it they use as many as NumPy's BLAS has when a step is recorded, fewer where the ops are so short that they
    would wait for Python's lock. With more than one, large steps are split along the batch: each thread takes a part,
    BLAS keeps to one thread in the meantime, and gradients of parameters are sums of the parts' gradients, in a fixed
    order. Results depend on the number (as rounding does on the order of sums), and on nothing else.
    `gt.compile(rewrite=False)` and eager ops are not split.

    Args:
        n: 1 or more. A plan that is recorded already keeps its number.

    Raises:
        ArgumentError: n is not a positive integer.
    """
    global _chosen
    if not isinstance(n, int) or isinstance(n, bool) or n < 1:
        raise ArgumentError(f"set_num_threads: n={n!r} is not a positive integer. Give the number of cores to use.")
    _chosen = n


def get_num_threads() -> int:
    """How many threads a step that is recorded now may use; see `set_num_threads`."""
    return _chosen or max((blas.num_threads for blas in _libraries()), default=1)


# --- which thread runs what, and what it waits for --------------------------------------------------------------------


@dataclass
class Task:
    """Calls that one thread makes, one after the other.

    Attributes:
        reads, writes: the arrays that they touch.
        last: whether everything before must have ended well: it changes what outlives the replay.
    """

    thread: int
    calls: Sequence[Call]
    reads: Sequence[Any]
    writes: Sequence[Any]
    last: bool = False


class _Stopped(Exception):
    """Another thread has failed."""


class Threads(Steps):
    """The calls of a plan on several threads. The caller's is the first of them."""

    def __init__(self, tasks: Sequence[Task]) -> None:
        super().__init__([call for task in tasks for call in task.calls])
        self.count = 1 + max(task.thread for task in tasks)
        self._signals: list[list[Call]] = [[] for _ in range(self.count)]
        self._lists: list[list[Call]] = [[] for _ in range(self.count)]
        self._locks: list[Any] = []
        self._failed: BaseException | None = None
        self._clean = True  # whether the run before came to its end
        self._schedule(tasks)

    def _schedule(self, tasks: Sequence[Task]) -> None:
        done: list[list[_Span]] = [[] for _ in range(self.count)]  # what each thread runs, in order
        seen = [[-1] * self.count for _ in range(self.count)]  # [w][v]: the last task of v that w knows to be over
        knew: list[list[list[int]]] = [[] for _ in range(self.count)]  # what each thread had seen when it ended a task
        after: dict[tuple[int, int], list[Call]] = {}  # (thread, its task) → signals to send then
        before: dict[tuple[int, int], list[Call]] = {}
        for task in tasks:
            span, w = _Span(task), task.thread
            for v in range(self.count):
                if v == w:
                    continue
                for j in range(len(done[v]) - 1, seen[w][v], -1):
                    if task.last or span.meets(done[v][j]):
                        lock = threading.Lock()
                        lock.acquire()
                        self._locks.append(lock)
                        after.setdefault((v, j), []).append(lock.release)
                        before.setdefault((w, len(done[w])), []).append(functools.partial(self._wait, lock))
                        seen[w] = [max(known) for known in zip(seen[w], knew[v][j], strict=True)]
                        break
            seen[w][w] = len(done[w])
            done[w].append(span)
            knew[w].append(list(seen[w]))
        for w, spans in enumerate(done):
            for k, span in enumerate(spans):
                signals = after.get((w, k), [])
                self._lists[w] += [*before.get((w, k), ()), *span.calls, *signals]
                self._signals[w] += signals

    @property
    def waits(self) -> int:
        """How often one thread waits for another in a replay."""
        return len(self._locks)

    def _wait(self, lock: Any) -> None:
        lock.acquire()
        if self._failed is not None:
            raise _Stopped

    def run(self) -> None:
        with _alone:
            if not self._clean:
                self._failed = None
                for lock in self._locks:  # signals that nobody waited for
                    lock.acquire(blocking=False)
            self._clean = False
            with _blas_alone(), _apart(self.count) as cores, _workers(self.count - 1) as workers:
                for k, worker in enumerate(workers):
                    worker.start(functools.partial(self._work, k + 1), cores)
                self._work(0)
            if self._failed is not None:
                raise self._failed
            self._clean = True

    def _work(self, w: int) -> None:
        """The calls of one thread. After an error the signals that are left are sent, so that nobody waits for ever."""
        calls = iter(self._lists[w])
        try:
            for call in calls:
                call()
        except BaseException as e:
            if self._failed is None:
                self._failed = e
            signals = set(self._signals[w])
            for call in calls:
                if call in signals:
                    call()


class _Span:
    """The memory that a task touches, as ranges of addresses."""

    def __init__(self, task: Task) -> None:
        self.calls, self.writes = task.calls, _ranges(task.writes)
        self.touches = self.writes + _ranges(task.reads)

    def meets(self, other: _Span) -> bool:
        """Whether one of the two writes what the other touches."""
        return _meet(self.writes, other.touches) or _meet(self.touches, other.writes)


def _ranges(arrays: Iterable[Any]) -> list[tuple[int, int]]:
    return [np.lib.array_utils.byte_bounds(a) for a in arrays if a is not None and a.size]


def _meet(one: Sequence[tuple[int, int]], other: Sequence[tuple[int, int]]) -> bool:
    return any(a < d and c < b for a, b in one for c, d in other)


# --- the threads ------------------------------------------------------------------------------------------------------

_alone = threading.RLock()  # one replay has the threads at a time
_pool: list[_Worker] = []


class _Worker:
    """A thread that waits for work."""

    def __init__(self) -> None:
        self._go, self._over = threading.Lock(), threading.Lock()
        self._go.acquire()
        self._over.acquire()
        self._work: Call | None = None
        self._cores: set[int] = set()
        self._thread = threading.Thread(target=lambda: Quiet().run(self._loop), name="gputape", daemon=True)
        self._thread.start()

    def start(self, work: Call, cores: set[int]) -> None:
        """Begin `work` on one of these cores; wherever the system likes if there are none."""
        if cores and cores != self._cores:
            assert self._thread.native_id is not None
            os.sched_setaffinity(self._thread.native_id, cores)
            self._cores = cores
        self._work = work
        self._go.release()

    def join(self) -> None:
        self._over.acquire()

    def _loop(self) -> None:
        while True:
            self._go.acquire()
            assert self._work is not None
            self._work()
            self._over.release()


@functools.cache
def _libc() -> Any:
    return ctypes.CDLL(None)


@contextlib.contextmanager
def _apart(count: int) -> Iterator[set[int]]:
    """Cores for all of so many threads but the caller, which stays on its own core in the meantime. Left alone, Linux
    often runs a thread where the one that woke it runs, and both take turns."""
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
    if len(allowed) < count:
        yield allowed
        return
    own = _libc().sched_getcpu()
    os.sched_setaffinity(0, {own})
    try:
        yield allowed - {own}
    finally:
        os.sched_setaffinity(0, allowed)


@contextlib.contextmanager
def _workers(n: int) -> Iterator[list[_Worker]]:
    """So many threads; at the end they have done what they were given."""
    while len(_pool) < n:
        _pool.append(_Worker())
    found = _pool[:n]
    try:
        yield found
    finally:
        try:
            for worker in found:
                worker.join()
        except BaseException:  # interrupted: whether they are done is not known any more
            _pool.clear()
            raise


@contextlib.contextmanager
def _blas_alone() -> Iterator[None]:
    """BLAS with one thread for each of ours."""
    before = [(blas, n) for blas in _libraries() if (n := blas.num_threads) != 1]
    for blas, _ in before:
        blas.set_num_threads(1)
    try:
        yield
    finally:
        for blas, n in before:
            blas.set_num_threads(n)


def _forked() -> None:
    """A new process has none of its parent's threads."""
    global _alone
    _alone = threading.RLock()
    _pool.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
