"""Losses around the edges of their blocks and groups, and what their kernels refuse."""

from gputape.samples import Sample, t

from . import FLOATS

_REDUCTIONS = ("none", "mean", "sum")
_SIZES = (1, 1023, 1025, 2047, 2048, 2049, 8193, 16385)
_UNIT = {"fill": "uniform", "low": 0.01, "high": 0.99}


def _pairs(**fills):
    return [Sample(t(n, **fills), t(n, **fills), reduction=_REDUCTIONS[n % 3], grad_=False) for n in _SIZES]


_DISTANCE = [
    *_pairs(),
    Sample(t(8193, fill=(0.0,) * 8192 + (float("nan"),)), t(8193), grad_=False),
]

EDGES = {
    "mse_loss": _DISTANCE,
    "l1_loss": _DISTANCE,
    "smooth_l1_loss": _DISTANCE,
    "huber_loss": _DISTANCE,
    "binary_cross_entropy": [
        *_pairs(**_UNIT),
        Sample(t(3, 700, **_UNIT), t(3, 700, **_UNIT), t(700), reduction="sum", grad_=False),
    ],
    "binary_cross_entropy_with_logits": [
        *_pairs(fill="uniform", low=-30.0, high=30.0),
        Sample(t(3, 700), t(3, 700, **_UNIT), t(3, 1), t(700), grad_=False),
        Sample(t(41, fill=tuple(range(-20, 21))), t(41, fill=(0.0,) * 20 + (1.0,) * 21), reduction="none"),
    ],
}


def _exempt(sample, inputs):
    kinds = [str(x.dtype) for x in inputs if x is not None]
    return None if set(kinds) <= set(FLOATS) else f"no kernel for {next(k for k in kinds if k not in FLOATS)}"


EXEMPT = dict.fromkeys(EDGES, _exempt)
