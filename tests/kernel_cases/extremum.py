"""Maxima and minima around the edges of their tiles and groups, and what their kernels refuse."""

from gputape.samples import Sample, t

from . import FLOATS

_INTEGERS = ("bool", "uint8", "int8", "int16", "int32", "int64")
_NAN, _INF = float("nan"), float("inf")
_SHAPES = (
    ((15, 63), 1),
    ((17, 65), 1),
    ((3, 257), 1),
    ((2, 4097), 1),
    ((16385,), 0),
    ((129, 16), 0),
    ((33, 17), 0),
    ((2, 31, 67), 1),
    ((1500, 3), 0),
)
_ONE_AXIS = [Sample(t(*shape, fill="distinct"), dim=dim, grad_=False) for shape, dim in _SHAPES]
_AXES = [
    *_ONE_AXIS,
    Sample(t(3, 5, 131), dim=(0, 2), grad_=False),
    Sample(t(2, 3, 4, 5, 6), dim=(0, 2, 4), grad_=False),
    Sample(t(300, fill=(-_INF,) * 300), dim=0, grad_=False),
    Sample(t(300, fill=(_INF,) * 300), dim=0, grad_=False),
    Sample(t(20000, fill=(0.0,) * 19999 + (_NAN,)), dim=0, grad_=False),
    Sample(t(20000, fill=(_NAN,) + (1.0,) * 19999), dim=0, grad_=False),
    Sample(t(2, 3, dtype="int64", fill=((-(2.0**62), 0, 2.0**62),)), dim=0),
    *(Sample(t(70, 33, dtype=d, fill="ints", low=-100, high=100), dim=0) for d in ("int8", "int16", "int64")),
    Sample(t(3, 300, dtype="uint8", fill="ints", low=0, high=255), dim=1),
    Sample(t(2100, dtype="int32", fill="ints", low=-(2**31), high=2**31 - 1), dim=0),
]
_TOTAL = [
    *(Sample(t(n, fill="distinct"), grad_=n < 99) for n in (1, 63, 65, 4097, 16385)),
    Sample(t(3, 5, fill=((_NAN, 1.0, _INF, 0.0, -_INF),)), grad_=False),
    Sample(t(5, 3, layout="transposed", fill="distinct")),
    Sample(t(2, 3, dtype="int16", fill="ints", low=-9, high=9)),
]
_WHERE = [
    *_ONE_AXIS,
    Sample(t(40000, fill="distinct")),
    Sample(t(20000, fill="zeros"), why_="the first of equal ones"),
    Sample(t(20000, fill=(0.0,) * 9999 + (_NAN,) + (1.0,) * 5000 + (_NAN,) * 5000), why_="the first NaN"),
    Sample(t(300, fill=(-_INF,) * 300)),
    Sample(t(300, fill=(_INF,) * 300)),
    Sample(t(300, fill=(_NAN,) * 7 + (-_INF,) * 293)),
    Sample(t(300, fill=(-_INF,) * 299 + (_NAN,))),
    Sample(t(140, 3, fill=(-5.0, 7.0, _NAN)), dim=0),
    Sample(t(2100, dtype="int32", fill="ints", low=-(2**31), high=2**31 - 1)),
    *(Sample(t(70, 33, dtype=d, fill="ints", low=-100, high=100), dim=0) for d in ("int8", "int16", "int64")),
]
_ANY = [
    *(Sample(t(*shape, dtype="bool", fill="bool"), dim=dim) for shape, dim in _SHAPES if shape != (16385,)),
    Sample(t(2100, dtype="bool", fill="ones")),
    Sample(t(3, 300, dtype="bool", fill="zeros"), dim=1),
    Sample(t(3, 300, dtype="bool", fill="ones"), dim=1),
    Sample(t(20000, fill="zeros")),
    Sample(t(20000, fill="ones")),
    Sample(t(20000, fill=(0.0,) * 19999 + (_NAN,))),
    Sample(t(20000, fill=(1.0,) * 19999 + (0.0,))),
    Sample(t(70, 33, dtype="int8", fill="ints", low=-1, high=2), dim=0),
    Sample(t(2, 4, 300, dtype="int64", fill="ints", low=0, high=2), dim=(0, 2)),
    Sample(t(4, 0, 3), dim=(1, 2)),
]

EDGES = {
    "amax": _AXES,
    "amin": _AXES,
    "max_total": _TOTAL,
    "min_total": _TOTAL,
    "argmax": _WHERE,
    "argmin": _WHERE,
    "any": _ANY,
    "all": _ANY,
}


def _exempt(sample, inputs):
    kind = str(inputs[0].dtype)
    return None if kind in FLOATS + _INTEGERS else f"no kernel for {kind}"


EXEMPT = dict.fromkeys(EDGES, _exempt)
