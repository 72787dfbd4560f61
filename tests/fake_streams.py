"""Streams, events and graphs of the stand-in for CuPy (`fake_cupy.py`).

A stream is a queue. Hardware may run what two streams hold in any order that their events allow: `hold` chooses the one
in which a stream's work waits until somebody waits for it, so that an event that is missing shows as a wrong result.
"""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections import deque


class Log:
    """What happened on the device."""

    def __init__(self):
        self.loaded = set()
        self.launches = self.captured = self.graphs = 0


LOG = Log()
HELD = []  # what decides that a stream's work waits
_streams = weakref.WeakSet()
_local = threading.local()


def current():
    """The stream that work goes to."""
    stack = getattr(_local, "stack", [])
    return stack[-1] if stack else NULL


def here():
    """The number of the current device."""
    return getattr(_local, "device", 0)


def enter(device):
    """Make that device the current one."""
    _local.device = device


def need_here(device, what):
    """Raise unless that device is the current one. (CuPy would copy to the current one, or reach over to the other.)"""
    if device != here():
        raise RuntimeError(f"{what} of device {device} is used on device {here()}")


def refuse(what):
    """Raise if the current stream is being captured, in which gputape allows launches only."""
    if current().held is not None:
        raise RuntimeError(f"{what} while a stream is captured")


class Stream:
    def __init__(self, null=False, non_blocking=False):
        self.null, self.non_blocking, self.device = null, non_blocking, here()
        self.queue, self.count, self.done = deque(), 0, 0
        self.held = None  # the launches of a capture
        _streams.add(self)

    def add(self, work):
        self.queue.append(work)
        self.count += 1
        if not any(held(self) for held in HELD):
            self.drain()

    def drain(self, until=None):
        while self.queue and (until is None or self.done < until):
            self.done += 1
            self.queue.popleft()()

    synchronize = drain

    def record(self, event=None):
        event = Event() if event is None else event
        event.stream, event.at = self, self.count
        return event

    def wait_event(self, event):
        if event.stream is not None:
            self.add(lambda stream=event.stream, at=event.at: stream.drain(at))

    def begin_capture(self):
        if self.null or self.held is not None:
            raise RuntimeError("cannot capture on this stream")
        self.held = []

    def end_capture(self):
        held, self.held = self.held, None
        return Graph(held)

    def __enter__(self):
        need_here(self.device, "a stream")
        _local.stack = [*getattr(_local, "stack", []), self]
        return self

    def __exit__(self, *exc):
        _local.stack.pop()


class Event:
    def __init__(self, disable_timing=False):
        self.stream, self.at = None, 0


class Graph:
    def __init__(self, launches):
        self.launches = launches

    def launch(self, stream):
        LOG.graphs += 1
        for work in self.launches:
            stream.add(work)


NULL = Stream(null=True)


def load(key):
    """What a launch needs, told by `key`, is loaded unless it is there."""
    if key not in LOG.loaded:
        refuse(f"{key} is loaded")
        LOG.loaded.add(key)


def launch(work):
    """A launch on the current stream."""
    stream = current()
    if stream.held is None:
        LOG.launches += 1
        stream.add(work)
        return
    LOG.captured += 1
    stream.held.append(work)


def synchronize():
    refuse("the device is waited for")
    for stream in _streams:
        stream.drain()


@contextlib.contextmanager
def hold(held):
    """Inside, the work of streams for which `held(stream)` waits until somebody waits for it."""
    HELD.append(held)
    try:
        yield
    finally:
        HELD.remove(held)
        synchronize()
