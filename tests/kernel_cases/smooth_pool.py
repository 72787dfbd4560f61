"""Smooth max pooling and windows side by side around the edges of their blocks, and over one to three axes."""

from gputape.samples import Sample, t

_POOLS = [  # input, result, options
    ((1, 1, 1, 129), (1, 1, 1, 128), {"kernel_size": (1, 2), "stride": (1, 1), "beta": 2.0}),
    ((1, 2, 7, 64), (1, 2, 3, 21), {"kernel_size": (3, 2), "stride": (2, 3), "beta": -0.5}),
    ((1, 2, 4, 5, 3), (1, 2, 3, 2, 1), {"kernel_size": (2, 3, 2), "stride": (1, 2, 2), "beta": 1.0}),
]
_LARGE = Sample(t(1, 1, 4, 4, fill="distinct", low=-300, high=300), kernel_size=(2, 2), stride=(2, 2), beta=7.0)
_ENDLESS = t(1, 1, 2, 6, fill=((1.0, float("nan"), float("inf"), 2.0, -float("inf"), -float("inf")),))
_WINDOWS = [
    ((1, 1, 129), (1, 1, 3, 129), {"kernel_size": (3,), "stride": (1,), "padding": (1,), "dilation": (1,)}),
    ((1, 2, 6, 7), (1, 2, 6, 2, 5), {"kernel_size": (2, 3), "stride": (3, 1), "padding": (1, 1), "dilation": (2, 2)}),
    (
        (1, 2, 3, 4, 5),
        (1, 2, 8, 2, 2, 5),
        {"kernel_size": (2, 2, 2), "stride": (2, 3, 1), "padding": (1, 1, 1), "dilation": (1, 1, 2)},
    ),
]

EDGES = {
    "smooth_max_pool_nd": [
        *(Sample(t(*x), **options) for x, _, options in _POOLS),
        _LARGE,
        Sample(_ENDLESS, kernel_size=(2, 2), stride=(2, 2), beta=1.5, grad_=False),
    ],
    "smooth_max_pool_nd_bwd": [Sample(t(*y), t(*x), t(*y), **options) for x, y, options in _POOLS],
    "unfold_nd": [Sample(t(*x), **options) for x, _, options in _WINDOWS],
    "fold_nd": [Sample(t(*y), spatial=x[2:], **options) for x, y, options in _WINDOWS],
}
