"""Root-mean-square norms around the edges of their tiles."""

from gputape.samples import Sample, t

from .norm import GRADIENTS, gradient

_ROWS = ((15, 63), (16, 64), (17, 65), (5, 256), (3, 257), (2, 1024), (2, 1025), (1, 4097), (67, 3), (530, 2))

EDGES = {
    "rms_norm": [Sample(t(rows, cols), t(cols), normalized_shape=cols, eps=1e-5) for rows, cols in _ROWS],
    "rms_norm_bwd": [
        *(gradient(*case, means=False) for case in GRADIENTS),
        gradient(3, 257, False, False, needs=(False, True)),
        gradient(3, 257, True, False, weight=False, needs=(True, False)),
    ],
}
EXEMPT = {}
