"""Max pooling around the edges of its blocks, and over one to three axes."""

from gputape.samples import Sample, t

_WINDOW = {"kernel_size": (2, 3), "stride": (1, 2), "padding": (1, 1), "dilation": (1, 1)}
_SOLID = {"kernel_size": (2, 1, 3), "stride": (1, 2, 2), "padding": (1, 0, 1), "dilation": (2, 1, 1)}

EDGES = {
    "max_pool_nd": [
        *(Sample(t(1, 1, n, 129, fill="distinct"), **_WINDOW, ceil_mode=n == 2) for n in (1, 2, 7)),
        Sample(t(2, 3, 5, 4, 7, fill="distinct"), **_SOLID, ceil_mode=False),
        Sample(t(1, 2, 3, 3, 43, fill="distinct"), **_SOLID, ceil_mode=True),
    ]
}
