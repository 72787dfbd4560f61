"""Element-wise kernels around the edges of their tiles, in every way to walk arrays, and what they refuse."""

from gputape.kernels import optim, pointwise
from gputape.samples import Sample, t

_BOOL = {"dtype": "bool", "fill": "bool"}
_INT = {"fill": "ints", "low": -9, "high": 9}
_SOME = {"fill": "uniform", "low": 0.5, "high": 2.0}
_FLAT = [Sample(t(n)) for n in (1, 1023, 1024, 1025, 2053)]
_LAYOUTS = [  # transposes, steps and repeats: tiles of each shape, and their edges
    Sample(t(33, 31, layout="transposed")),
    Sample(t(65, 1)),
    Sample(t(7, 1025, layout="strided")),
    Sample(t(255, 3, layout="flipped")),
    Sample(t(3, 5, 7, 11, layout="transposed")),
    Sample(t(17, 63, layout="expanded")),
]
_PAIRS = [
    Sample(t(1025), t()),
    Sample(t(1), t(1025)),
    Sample(t(5, 257), t(257), why_="a bias"),
    Sample(t(67, 63), t(67, 1), why_="one number per row"),
    Sample(t(15, 1), t(65), why_="an outer product"),
    Sample(t(3, 1, 17), t(5, 1), why_="both repeat"),
    Sample(t(2, 1, 3, 1, 2, 1, 3), t(1, 3, 1, 2, 1, 2, 1), why_="more axes than a kernel takes"),
    Sample(t(33, 32, layout="transposed"), t(33, 32)),
    Sample(t(2, 32, 33, layout="transposed"), t(32, 33, layout="transposed")),
]

EDGES = {
    "relu": _FLAT,
    "relu_bwd": [Sample(t(1025), t(1025)), Sample(t(5, 257, layout="expanded"), t(5, 257))],
    "copy": [
        *_FLAT,
        *_LAYOUTS,
        Sample(t(5, 67, dtype="int16", **_INT)),
        Sample(t(5, 67, **_BOOL, layout="transposed")),
    ],
    "add": [
        *_PAIRS,
        Sample(t(9, **_BOOL), t(9, **_BOOL)),
        Sample(t(9, dtype="uint8", **_INT), t(dtype="uint8", **_INT)),
    ],
    "gelu": _LAYOUTS,
    "where": [
        Sample(t(5, 257, **_BOOL), t(257), t()),
        Sample(t(2053, **_BOOL), t(2053), t(2053)),
        Sample(t(33, 1, **_BOOL), t(33, 35, layout="transposed"), t(1, 35)),
        Sample(t(1025, **_BOOL), t(1025, dtype="int32", **_INT), t(dtype="int32", **_INT)),
    ],
    "masked_fill": [Sample(t(3, 4, 17, 17), t(17, 17, **_BOOL), value=-1.5)],
    "tril": [Sample(t(65, 67), diagonal=3), Sample(t(3, 2, 17, 5, layout="transposed"), diagonal=-4)],
    "triu": [Sample(t(67, 65), diagonal=-3), Sample(t(3, 2, 17, 5, layout="strided"), diagonal=1)],
    "pow": [Sample(t(67, 1, **_SOME), t(63)), Sample(t(5, 1, dtype="int32", **_INT), t(4, dtype="int32", **_INT))],
    "cast": [
        Sample(t(1025, fill="uniform", low=-9, high=9), dtype=name, grad_=False)
        for name in ("int32", "int8", "bool", "float16")
    ],
    "adam_update": [Sample(*[t(2053, **_SOME)] * 4, *[t(**_SOME)] * 3, weight_decay=0.1, grad_=False)],
    "amsgrad_update": [Sample(*[t(2053, **_SOME)] * 5, *[t(**_SOME)] * 3, weight_decay=0.1, grad_=False)],
}

_FLOAT64 = ("cast", "copy", "where")  # they move values; there is no arithmetic in float64


def _refusal(sample, inputs):
    return "no kernel for float64" if "float64" in [str(x.dtype) for x in inputs if x is not None] else None


def _none(sample, inputs):
    return None


_OPS = [
    name.rstrip("_")
    for module in (pointwise, optim)
    for name, host in vars(module).items()
    if callable(host) and host.__module__ == module.__name__ and not name.startswith("_")
]
EXEMPT = dict.fromkeys(_OPS, _refusal) | dict.fromkeys((*_FLOAT64, "sgd_schedule", "adam_schedule", "pack"), _none)
