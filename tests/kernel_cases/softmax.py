"""Softmax around the edges of its tiles, and what its kernels refuse."""

from gputape.samples import Sample, t

from . import FLOATS

_INF = float("inf")
_SHAPES = (
    ((17, 63), 1),
    ((16, 64), 1),
    ((5, 65), 1),
    ((3, 257), 1),
    ((2, 1025), 1),
    ((2, 4096), 1),
    ((2, 4097), 1),
    ((1, 8195), 1),
    ((3, 31, 29), 1),
    ((32, 64), 0),
    ((33, 65), 0),
    ((129, 5), 0),
    ((128, 3), 0),
)
_FORWARD = [Sample(t(*shape), dim=dim) for shape, dim in _SHAPES] + [
    Sample(t(5000, fill=(-_INF,) * 4500 + (0.0, 1.0) * 250), dim=0, grad_=False, why_="a whole block of -inf"),
    Sample(t(5000, fill=(-1000.0,) * 4500 + (900.0, 901.0) * 250), dim=0, grad_=False, why_="a late maximum"),
    Sample(t(5000, fill=(0.0,) * 4999 + (_INF,)), dim=0, grad_=False),
    Sample(t(5000, fill=(0.0,) * 4999 + (float("nan"),)), dim=0, grad_=False),
    Sample(t(130, 2, fill=((-_INF, 0.0),)), dim=0, grad_=False),
]
_BACKWARD = [Sample(t(*shape), t(*shape, fill="uniform", low=-0.2, high=0.0), dim=dim) for shape, dim in _SHAPES]

EDGES = {
    "softmax": _FORWARD,
    "log_softmax": _FORWARD,
    "softmax_bwd": _BACKWARD,
    "log_softmax_bwd": _BACKWARD,
}


def _exempt(sample, inputs):
    came = str(inputs[0].dtype)
    goes = sample.attrs.get("dtype") or came
    for kind in (came, goes):
        if kind not in FLOATS:
            return f"no kernel for {kind}"
    return None if came == goes else f"no kernel for {came} to {goes}"


EXEMPT = dict.fromkeys(EDGES, _exempt)
