"""Resampling around the edges of its blocks, over one to three axes, in all modes."""

from itertools import product

from gputape.samples import Sample, t

_WAYS = [  # mode, align_corners
    *(("nearest", False), ("nearest-exact", False), ("area", False)),
    *product(("linear", "cubic"), (False, True)),
]
_SIZES = [  # input, result, scales
    ((1, 43, 3), (1, 43, 2), (None,)),
    ((1, 2, 5), (1, 2, 17), (3.5,)),
    ((1, 2, 13, 3), (1, 2, 4, 3), (0.35, None)),
    ((2, 1, 3, 2), (2, 1, 1, 9), (None, None)),
    ((1, 1, 1, 2, 3), (1, 1, 4, 3, 2), (None, 1.5, None)),
    ((1, 1, 4), (1, 1, 4), (1.05,)),
]


def _options(way, scales):
    mode, align = way
    return {"mode": mode, "align_corners": align, "scales": (None,) * len(scales) if mode == "area" else scales}


EDGES = {
    "resample_nd": [
        Sample(t(*x), size=y[2:], **_options(way, scales)) for way, (x, y, scales) in product(_WAYS, _SIZES)
    ],
    "resample_nd_bwd": [
        Sample(t(*y), spatial=x[2:], **_options(way, scales)) for way, (x, y, scales) in product(_WAYS, _SIZES)
    ],
}
