"""Times on the device: events around one call, with a cold L2 cache and the host out of the way.

Before each call a buffer larger than the L2 cache is cleared, and a kernel waits until the host has queued the call's
launches; so the time between the two events is the device's alone. What the host needs is measured apart.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

WAIT = r"""
extern "C" __global__ void wait(long long nanoseconds) {
    unsigned long long start, now;
    asm volatile("mov.u64 %0, %globaltimer;" : "=l"(start));
    do {
        asm volatile("mov.u64 %0, %globaltimer;" : "=l"(now));
    } while (now - start < nanoseconds);
}
"""
ROUNDS, WARM_UP = 30, 3
SECONDS = 1.0  # per case; long calls get fewer rounds
LONGEST_WAIT = 5_000_000  # nanoseconds


@dataclass(frozen=True)
class Times:
    """Seconds on the device: median, 20 % and 80 % quantiles of `rounds` calls; and of the host per call."""

    median: float
    low: float
    high: float
    rounds: int
    host: float = 0.0


def quantile(values: Sequence[float], q: float) -> float:
    """The q-quantile, linear between neighbours."""
    ordered = sorted(values)
    if not ordered:
        raise ValueError("no values")
    place = q * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def summary(seconds: Sequence[float], host: float = 0.0) -> Times:
    return Times(quantile(seconds, 0.5), quantile(seconds, 0.2), quantile(seconds, 0.8), len(seconds), host)


def rounds(host: float, device: float) -> int:
    """How many rounds fit into `SECONDS`, at least 5 and at most `ROUNDS`."""
    return max(5, min(ROUNDS, int(SECONDS / max(host + device, 1e-9))))


def waiting(host: float) -> int:
    """Nanoseconds that the device waits while the host queues a call that takes it `host` seconds."""
    return min(int(2e9 * host) + 20_000, LONGEST_WAIT)


class Timer:
    """Times calls on CuPy's current stream."""

    def __init__(self, cupy: Any) -> None:
        self.cupy = cupy
        size = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id).get("l2CacheSize", 0)
        self.dirty = cupy.empty(max(2 * size, 64 << 20), cupy.uint8)
        self.wait = cupy.RawKernel(WAIT, "wait")

    def host(self, call: Callable[[], Any], calls: int = 20) -> float:
        """Seconds that the host needs to queue one call."""
        self.cupy.cuda.Device().synchronize()
        start = time.perf_counter()
        for _ in range(calls):
            call()
        taken = (time.perf_counter() - start) / calls
        self.cupy.cuda.Device().synchronize()
        return taken

    def once(self, call: Callable[[], Any], wait: int) -> float:
        """Seconds that the device needs for one call."""
        event = self.cupy.cuda.Event
        start, stop = event(), event()
        self.dirty.fill(0)
        if wait:
            self.wait((1,), (1,), (self.cupy.int64(wait),))
        start.record()
        call()
        stop.record()
        stop.synchronize()
        return self.cupy.cuda.get_elapsed_time(start, stop) / 1e3

    def measure(self, call: Callable[[], Any]) -> Times:
        for _ in range(WARM_UP):
            call()
        first = self.once(call, 0)
        host = self.host(call, 20 if first < 0.01 else 3)
        wait = waiting(host)
        return summary([self.once(call, wait) for _ in range(rounds(host, first))], host)
