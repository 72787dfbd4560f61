"""Products around the edges of their tiles and groups, and what their kernels refuse."""

from gputape.samples import Sample, t

from .reduce import _any_number, _floats, _running

_NEAR_1 = {"fill": "uniform", "low": 0.9, "high": 1.1}
_SHAPES = (((17, 65), 1), ((3, 257), 1), ((1, 8209), 1), ((129, 16), 0), ((33, 17), 0), ((3, 5, 131), (0, 2)))

EDGES = {
    "prod": [
        *(Sample(t(*shape, **_NEAR_1), dim=dim, grad_=False) for shape, dim in _SHAPES),
        Sample(t(2, 2100, dtype="bool", fill="bool"), dim=1),
        Sample(t(5, 21, **_NEAR_1, dtype="bfloat16"), dim=1, dtype="float32", grad_=False),
    ],
    "cumprod": [Sample(t(n, 2, **_NEAR_1), dim=0) for n in (1, 31, 65)]
    + [Sample(t(131, 3), dim=1), Sample(t(2, 5, 2, dtype="int8", fill="ints", low=-9, high=9), dim=1)],
    "recurrence": [Sample(t(131, 3), t(131, 3), dim=1), Sample(t(2, 5, 129), t(2, 5, 129), dim=1, reverse=True)],
}


def _summed(refusal):
    """What a sum refuses, a product does."""
    return lambda sample, inputs: (refusal(sample, inputs) or "").replace("summed", "multiplied") or None


EXEMPT = {"prod": _summed(_any_number), "cumprod": _summed(_running), "recurrence": _floats}
