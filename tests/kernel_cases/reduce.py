"""Reductions around the edges of their tiles and groups, and what their kernels refuse."""

from gputape.samples import Sample, t

from . import FLOATS

_INF = float("inf")
_SHAPES = (
    ((15, 63), 1),
    ((17, 65), 1),
    ((5, 256), 1),
    ((3, 257), 1),
    ((3, 1025), 1),
    ((2, 4097), 1),
    ((1, 40961), 1),
    ((16385,), 0),
    ((127, 3), 0),
    ((129, 16), 0),
    ((33, 17), 0),
    ((2, 31, 67), 1),
    ((1500, 3), 0),
    ((513, 65), 0),
    ((3, 5, 131), (0, 2)),
    ((140, 2, 3), (0, 2)),
    ((2, 3, 4, 5, 6), (0, 2, 4)),
    ((3, 1, 7, 1, 5), (0, 1, 3, 4)),
    ((0, 3, 5), (0, 2)),
    ((3, 3, 0), (0, 2)),
    ((2, 2, 16400), (0, 2)),
)
# Gradients of these are made of other ops: the small samples of the cards do for them.
_PLAIN = [Sample(t(*shape), dim=dim, grad_=False) for shape, dim in _SHAPES]
_MANY = [s for s in _PLAIN if 0 not in s.inputs[0].shape]
_FAR = {"fill": "uniform", "low": 1e4, "high": 1e4 + 2}
_VAR = [
    *_MANY,
    Sample(t(2, 3, 0), dim=(0, 2), grad_=False),
    Sample(t(3, 257, **_FAR), dim=1, grad_=False, why_="the squares of the mean would cancel"),
    Sample(t(17000, **_FAR), dim=0, grad_=False, why_="means of groups are merged"),
    Sample(t(1, 16385, fill=(0.0,) * 16384 + (1000.0,)), dim=1, grad_=False, why_="the last group is one value"),
]
_INTS = {"fill": "ints", "low": -100, "high": 100}

EDGES = {
    "sum": [
        *_PLAIN,
        *(Sample(t(3, 257, dtype=d, **_INTS), dim=1) for d in ("int8", "int16", "int32", "int64")),
        Sample(t(131, 5, dtype="uint8", fill="ints", low=0, high=255), dim=0),
        Sample(t(1500, 2, dtype="int32", fill="ints", low=-(2**31), high=2**31 - 1), dim=0),
        Sample(t(2100, dtype="bool", fill="bool"), dim=0),
        Sample(t(5, 70, dtype="bfloat16"), dim=1, dtype="float32"),
        Sample(t(5, 70, dtype="int16", **_INTS), dim=1, dtype="float32"),
        Sample(t(70, 5), dim=0, dtype="float16"),
    ],
    "mean": [
        *_MANY,
        Sample(t(0, 3, 5), dim=(0, 2), grad_=False),
        Sample(t(5, 2100, dtype="int8", **_INTS), dtype="float32"),
    ],
    "sum_to": [
        Sample(t(5, 3, 67), shape=(3, 1)),
        Sample(t(300, 64), shape=(64,)),
        Sample(t(7, 2, 5, 3), shape=(2, 1, 3)),
        Sample(t(2, 3), shape=(2, 3), why_="nothing to sum"),
    ],
    "var": _VAR,
    "std": _VAR,
    "logsumexp": [
        *_MANY,
        Sample(t(0, 3, 5), dim=(0, 2), grad_=False),
        Sample(t(300, fill=(-_INF,) * 299 + (0.0,)), dim=0, grad_=False),
        Sample(t(300, fill=(-1000.0,) * 299 + (900.0,)), dim=0, grad_=False),
        Sample(t(300, fill=(0.0, _INF) * 150), dim=0, grad_=False),
        Sample(t(300, fill=(0.0,) * 299 + (float("nan"),)), dim=0, grad_=False),
        Sample(t(20000, fill=(-_INF,) * 10000 + (5.0,) * 10000), dim=0, grad_=False),
    ],
    "cumsum": [
        *(Sample(t(n), dim=0) for n in (1, 255, 256, 257, 1031)),
        *(Sample(t(n, 3), dim=0) for n in (31, 32, 33, 101)),
        Sample(t(5, 67), dim=0),
        Sample(t(300, dtype="int32", fill="ints", low=2**30, high=2**31 - 1), dim=0),
        Sample(t(2, 35, 2, dtype="int8", **_INTS), dim=1),
    ],
    "cumsum_bwd": [Sample(t(n), dim=0) for n in (1, 255, 256, 257, 1031)]
    + [Sample(t(n, 3), dim=0) for n in (31, 32, 33, 101)],
}


def _any_number(sample, inputs):
    """Sums take integers too, but never float64, and floats do not become integers on the way."""
    came = str(inputs[0].dtype)
    goes = sample.attrs.get("dtype") or came
    if "float64" in (came, goes):
        return "no kernel for float64"
    return f"no kernel for {came} summed as {goes}" if came in FLOATS and goes not in FLOATS else None


def _running(sample, inputs):
    came = str(inputs[0].dtype)
    goes = sample.attrs.get("dtype") or came
    if "float64" in (came, goes):
        return "no kernel for float64"
    return f"no kernel for {came} summed as {goes}" if came in FLOATS and goes != came else None


def _floats(sample, inputs):
    came = str(inputs[0].dtype)
    return None if came in FLOATS else f"no kernel for {came}"


EXEMPT = {
    "sum": _any_number,
    "mean": _any_number,
    "sum_to": _any_number,
    "cumsum": _running,
    "cumsum_bwd": _floats,
    "var": _floats,
    "std": _floats,
    "logsumexp": _floats,
}
