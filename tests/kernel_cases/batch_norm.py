"""Batch norm around the edges of its tiles and groups, and of what a block can keep."""

from gputape.samples import Sample, t

_SHAPES = (
    (2, 3, 63),
    (3, 7, 65),
    (2, 2, 257),
    (1, 3, 1025),
    (2, 1, 17001),
    # a block that keeps a channel, with little; with 5 packs a thread and a row too much for them; with 25 likewise
    (3, 2, 16),
    (5, 3, 28, 28),
    (5, 2, 2048),
    (5, 2, 2056),
    (25, 1, 2048),
    (25, 1, 2056),
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
        Sample(t(4, 3, 501, **_FAR), t(3), t(3)),
        Sample(t(4, 3, 16, layout="transposed"), t(3, layout="strided"), None),
        Sample(t(100, 3, **_FAR), t(3), None, why_="nor those of few samples"),
        Sample(t(0, 3, 5), t(3), t(3), grad_=False, why_="no samples: statistics are NaN"),
        Sample(t(3, 3, 0), t(3), t(3), grad_=False),
    ]
}
EXEMPT = {}
