"""Average pooling around the edges of its blocks, and over one to three axes."""

from gputape.samples import Sample, t


def _options(kernel_size, stride, padding, *, ceil_mode=False, count_include_pad=False, divisor_override=None):
    window = {"kernel_size": kernel_size, "stride": stride, "padding": padding, "ceil_mode": ceil_mode}
    return window | {"count_include_pad": count_include_pad, "divisor_override": divisor_override}


_POOLS = [  # input, result, options
    ((1, 1, 1, 129), (1, 1, 1, 129), _options((1, 3), (1, 1), (0, 1))),
    ((1, 2, 7, 65), (1, 2, 4, 65), _options((3, 3), (2, 1), (1, 1), count_include_pad=True)),
    ((2, 3, 128), (2, 3, 43), _options((2,), (3,), (0,))),
    ((2, 2, 7), (2, 2, 5), _options((4,), (2,), (2,), ceil_mode=True, count_include_pad=True)),
    ((1, 2, 5, 4, 7), (1, 2, 3, 3, 3), _options((3, 2, 3), (2, 1, 3), (1, 0, 1), ceil_mode=True)),
    ((1, 1, 6, 6), (1, 1, 3, 3), _options((3, 3), (2, 2), (1, 1), divisor_override=-5)),
]

EDGES = {
    "avg_pool_nd": [Sample(t(*x), **options) for x, _, options in _POOLS],
    "avg_pool_nd_bwd": [Sample(t(*y), spatial=x[2:], **options) for x, y, options in _POOLS],
}
