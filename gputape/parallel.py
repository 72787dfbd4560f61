"""A replay on several threads of the CPU: each takes its part of the batch.

Where an op's card names the axis of the batch, its body runs once for each part, on views of the arrays. What the parts
sum up (gradients of parameters) is added in their order at the end. A thread waits for another only where it reads what
that one writes, or writes what that one reads: a chain of ops along the batch runs without.
"""

from __future__ import annotations

import collections
import contextlib
import ctypes
import functools
import itertools
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .aval import Aval
from .backend import Steps
from .errors import ArgumentError, GputapeError
from .node import Node
from .predict import bytes_of, flops_of
from .registry import At

Call = Callable[[], Any]
Cut = tuple[int, int, int]  # axis, start, stop

SUM = "sum"  # in the place of an output's axis: the parts add up to it
WORTH = 0.5e-3  # seconds of work that a thread must have for a step to be split
SMALL = 5e-6  # seconds of work below which an op is not split

# --- how many threads -------------------------------------------------------------------------------------------------

_chosen: int | None = None


def set_num_threads(n: int) -> None:
    """How many threads compiled steps on the CPU may use from now on; as torch.set_num_threads.

    Without it they use as many as NumPy's BLAS has when a step is recorded. With more than one, large steps are split
    along the batch: each thread takes a part, BLAS keeps to one thread in the meantime, and gradients of parameters are
    sums of the parts' gradients, in a fixed order. Results depend on the number (as rounding does on the order of
    sums), and on nothing else. `gt.compile(rewrite=False)` and eager ops are not split.

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
    return _chosen or max((blas.num_threads for blas in _blas()), default=1)


@functools.cache
def _blas() -> list[Any]:
    """What sets the threads of each BLAS library that is loaded."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController().select(user_api="blas").lib_controllers


# --- parts of an op ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Part:
    """A stretch of the batch of one op.

    Attributes:
        at: the op on it.
        ins, outs: what of each array is the part's: a cut, None for all of it, or `SUM`.
    """

    at: At
    ins: tuple[Cut | None, ...]
    outs: tuple[Cut | str | None, ...]


def divided(nodes: Mapping[int, Node], most: int) -> tuple[int, dict[int, list[Part]]]:
    """How many threads, of `most`, a program of these nodes is for; id → the parts of those that run in parts."""
    seconds = {i: _seconds(node) for i, node in nodes.items()}
    sizes: collections.Counter[int] = collections.Counter()  # of the batch → seconds of what has it
    for i, node in nodes.items():
        sizes[_batch(node.at)[0]] += seconds[i]  # type: ignore[assignment]
    sizes[0] = 0
    ((size, total),) = sizes.most_common(1)
    count = min(most, size, int(total / WORTH))
    if count < 2 or total < sum(seconds.values()) / 2:  # what cannot be split is better left to BLAS's threads
        return 1, {}
    found = {i: parts(node.at, count) for i, node in nodes.items() if seconds[i] > SMALL}
    return count, {i: made for i, made in found.items() if made is not None}


def _seconds(node: Node) -> float:
    """About what a node takes on a core."""
    return flops_of(node) / 1e11 + bytes_of(node) / 2e10


def parts(at: At, count: int) -> list[Part] | None:
    """The op in so many parts of nearly equal size, or None where its card does not allow it."""
    n, axes = _batch(at)
    if n < count:
        return None
    found = []
    for start, stop in itertools.pairwise(n * k // count for k in range(count + 1)):
        cuts: list[Any] = [(k, start, stop) if isinstance(k, int) else k for k in axes]
        ins, outs = tuple(cuts[: len(at.ins)]), tuple(cuts[len(at.ins) :])
        try:
            made = at.op.at(tuple(map(_cut_aval, at.ins, ins)), at.values)
        except GputapeError:  # along this axis the op cannot be cut, whatever the card says of most shapes
            return None
        if made.attrs != at.attrs or made.outs != tuple(map(_cut_aval, at.outs, outs)):
            return None
        found.append(Part(made, ins, outs))
    return found


def _batch(at: At) -> tuple[int, tuple[int | str | None, ...]]:
    """The size of the batch, and its axis in each input, then output; 0 where the op is not separable."""
    batch, arrays = at.op.batch, (*at.ins, *at.outs)
    if callable(batch):
        batch = batch(*at.ins, **at.attrs)
    if batch == "pointwise":
        shape = at.out.shape
        same = shape != () and all(a is None or a.shape == shape for a in at.outs)
        batch = [0 if a is not None and a.shape[:1] == shape[:1] and a.ndim == len(shape) else None for a in arrays]
        batch = batch if same else "none"
    if batch == "none":
        return 0, ()
    axes = [None if a is None else k for a, k in zip(arrays, batch, strict=True)]
    if any(isinstance(k, int) and k >= a.ndim for a, k in zip(arrays, axes, strict=True)):
        return 0, ()
    sizes = [a.shape[k] if isinstance(k, int) else 0 for a, k in zip(arrays, axes, strict=True)]
    n = max(sizes)
    for k in range(len(at.ins)):
        if sizes[k] == 1:  # the same for the whole batch
            axes[k], sizes[k] = None, 0
    return (n, tuple(axes)) if set(sizes) <= {0, n} else (0, ())


def _cut_aval(a: Aval | None, cut: Any) -> Aval | None:
    if a is None or not isinstance(cut, tuple):
        return a
    axis, start, stop = cut
    return a.with_shape((*a.shape[:axis], stop - start, *a.shape[axis + 1 :]))


def cut(array: Any, where: Any) -> Any:
    """The part of an array, as a view."""
    if array is None or not isinstance(where, tuple):
        return array
    axis, start, stop = where
    return array[(*(slice(None),) * axis, slice(start, stop))]


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
        self._thread = threading.Thread(target=self._loop, name="gputape", daemon=True)
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
        with np.errstate(all="ignore"):
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
    before = [(blas, n) for blas in _blas() if (n := blas.num_threads) != 1]
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
