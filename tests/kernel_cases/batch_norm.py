"""Batch norm around the edges of its tiles and groups."""

from gputape.samples import Sample, t

_SHAPES = (
    (2, 3, 63),
    (3, 7, 65),
    (2, 2, 257),
    (1, 3, 1025),
    (2, 1, 17000),
    (127, 3),
    (129, 16),
    (33, 17),
    (256, 15),
    (257, 16),
    (300, 70),
    (200, 2, 3),
    (7, 5, 3, 3),
    (1, 1, 2),
)
_FAR = {"fill": "uniform", "low": 1e4, "high": 1e4 + 2}

EDGES = {
    "batch_norm_train": [
        *(Sample(t(*shape), t(shape[1]), t(shape[1])) for shape in _SHAPES),
        Sample(t(4, 3, 500, **_FAR), t(3), t(3), why_="the squares of the mean would cancel"),
        Sample(t(100, 3, **_FAR), t(3), None, why_="nor those of few samples"),
        Sample(t(0, 3, 5), t(3), t(3), grad_=False, why_="no samples: statistics are NaN"),
        Sample(t(3, 3, 0), t(3), t(3), grad_=False),
    ]
}
EXEMPT = {}
