"""How long a replay may take on a GPU that is not there: an estimate from bytes, FLOPs and launches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .errors import ArgumentError
from .node import Node


@dataclass(frozen=True)
class GPU:
    """A card by its data sheet.

    Attributes:
        bandwidth: bytes per second of its memory.
        half, tf32, single: FLOP per second of dense matrix products of 16-bit numbers summed in float32, of float32
            rounded to TF32, and of float32 arithmetic outside the tensor cores.
    """

    name: str
    bandwidth: float
    half: float
    tf32: float
    single: float


GPUS = {
    gpu.name: gpu
    for gpu in (
        GPU("A100", 2.04e12, 312e12, 156e12, 19.5e12),  # SXM, 80 GB
        GPU("H100", 3.35e12, 989e12, 494e12, 67e12),  # SXM
        GPU("H200", 4.8e12, 989e12, 494e12, 67e12),  # SXM
        GPU("L4", 0.3e12, 121e12, 60e12, 30e12),
        GPU("L40S", 0.864e12, 362e12, 183e12, 91.6e12),
        GPU("RTX 4090", 1.008e12, 165e12, 82.6e12, 82.6e12),
        GPU("RTX 5090", 1.792e12, 209e12, 105e12, 105e12),
    )
}

# What a copy and a product of 8192³ reached of that on an H100: 3.0 TB/s and 798 TFLOP/s.
OF_BANDWIDTH, OF_FLOPS = 0.9, 0.8
# Reported for an RTX 5070 Ti (github.com/ahrefs/ocannl/issues/488): seconds per launch in a chain of launches, per
# launch of a graph, and per graph.
LAUNCH, NODE, GRAPH = 6.4e-6, 0.58e-6, 15e-6


def flops_of(node: Node) -> int:
    """Those of the matrix products that the op is, else one for each element of its results."""
    at = node.at
    if at.op.flops is not None:
        return at.op.flops(at)
    return sum(a.size for a in at.outs if a is not None)


def bytes_of(node: Node) -> int:
    """Those of its inputs and results."""
    return sum(a.nbytes for a in (*node.at.ins, *node.at.outs) if a is not None)


def _speed(node: Node, gpu: GPU) -> float:
    """FLOP per second of the arithmetic that a node is made of."""
    if node.at.op.flops is None:
        return gpu.single
    if node.at.ins[0].dtype in ("float16", "bfloat16"):
        return gpu.half
    return gpu.tf32 if node.at.tf32 else gpu.single


@dataclass(frozen=True)
class Step:
    """One op of a plan.

    Attributes:
        seconds: what memory or arithmetic takes, whichever is the longer, which `bound` names.
    """

    op: str
    launches: int
    bytes: int
    flops: int
    seconds: float
    bound: str

    @classmethod
    def of(cls, node: Node, launches: int, gpu: GPU) -> Step:
        moved, flops = bytes_of(node), flops_of(node)
        memory, arithmetic = moved / (gpu.bandwidth * OF_BANDWIDTH), flops / (_speed(node, gpu) * OF_FLOPS)
        return cls(
            node.op, launches, moved, flops, max(memory, arithmetic), "memory" if memory >= arithmetic else "arithmetic"
        )

    def takes(self, launch: float) -> float:
        """Seconds where one launch takes that long at least."""
        return max(self.seconds, self.launches * launch)


@dataclass(frozen=True)
class Prediction:
    """An estimate of one replay. Prints as a table.

    Attributes:
        roof: seconds that memory and arithmetic take.
        graph, launched: seconds as one CUDA graph, and launch by launch.
        counted: whether the launches of each step were counted; else there is one per step.
    """

    plan: str
    gpu: GPU
    steps: Sequence[Step]
    counted: bool

    @property
    def roof(self) -> float:
        return sum(s.seconds for s in self.steps)

    @property
    def graph(self) -> float:
        return GRAPH + sum(s.takes(NODE) for s in self.steps)

    @property
    def launched(self) -> float:
        return sum(s.takes(LAUNCH) for s in self.steps)

    def __str__(self) -> str:
        head = (
            f"{self.plan} on {self.gpu.name}: an estimate from data sheets and reported launch costs, nothing was run"
        )
        lines = [head, f"  {'op':<24}{'launches':>8}{'bytes':>14}{'FLOPs':>16}{'µs':>10}  held up by"]
        lines += [
            f"  {s.op:<24}{s.launches:>8}{s.bytes:>14,}{s.flops:>16,}{1e6 * s.seconds:>10.2f}  {s.bound}"
            for s in self.steps
        ]
        launches, moved, flops = (sum(n) for n in zip(*((s.launches, s.bytes, s.flops) for s in self.steps)))
        guess = "" if self.counted else " (one per op; kernels may take more)"
        lines += [
            f"{len(self.steps)} ops, {launches} launches{guess}, {moved:,} bytes, {flops:,} FLOPs",
            f"memory and arithmetic: {1e6 * self.roof:.1f} µs",
            f"as one CUDA graph: {1e6 * self.graph:.1f} µs",
            f"launch by launch: {1e6 * self.launched:.1f} µs",
        ]
        return "\n".join(lines)


def predict(plan: str, nodes: Sequence[Node], counts: Sequence[int] | None, gpu: str) -> Prediction:
    """An estimate for these steps, `counts` being the launches of each, if they are known.

    Raises:
        ArgumentError: there are no figures for that GPU.
    """
    found = GPUS.get(gpu)
    if found is None:
        raise ArgumentError(f"predict: there are no figures for {gpu!r}. Use one of {', '.join(GPUS)}.")
    steps = [Step.of(node, n, found) for node, n in zip(nodes, counts or [1] * len(nodes), strict=True)]
    return Prediction(plan, found, steps, counts is not None)
