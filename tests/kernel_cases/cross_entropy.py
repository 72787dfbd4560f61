"""Losses against labels around the edges of their tiles, and what their kernels refuse."""

from gputape.samples import Sample, t

from . import FLOATS

_INF = float("inf")


def _labels(classes, *shape):
    return t(*shape, dtype="int64", fill="ints", low=0, high=classes)


_ROWS = [(17, 63), (16, 64), (5, 65), (3, 257), (2, 1025), (2, 4096), (2, 4097), (1, 8195), (35, 1)]
_IMAGES = [((2, 31, 67), 31), ((2, 33, 8), 33), ((1, 129, 3), 129), ((3, 2, 5, 7), 2)]
_ALL = [(shape, classes, shape[:1] + shape[2:]) for shape, classes in [*((s, s[1]) for s in _ROWS), *_IMAGES]]
_SOME_IGNORED = t(1, 16500, dtype="int64", fill=(0, 1, 1, -100) * 4125)

EDGES = {
    "cross_entropy_labels": [
        *(Sample(t(*shape), _labels(classes, *rows)) for shape, classes, rows in _ALL),
        *(Sample(t(*shape), _labels(c, *rows), reduction="none", label_smoothing=0.1) for shape, c, rows in _ALL[::2]),
        *(Sample(t(*shape), _labels(c, *rows), ignore_index=1, label_smoothing=1.0) for shape, c, rows in _ALL[1::2]),
        *(Sample(t(n, c), _labels(c, n), ignore_index=1) for n, c in ((63, 10), (65, 16), (64, 17), (256, 3))),
        Sample(t(130, 10), _labels(10, 130), reduction="sum", label_smoothing=0.1),
        Sample(t(1, 2, 16500), _SOME_IGNORED, grad_=False, why_="losses of groups are added up"),
        Sample(t(4, 3), t(4, dtype="int64", fill=-100), grad_=False, why_="the mean of nothing is NaN"),
        Sample(t(0, 3), _labels(3, 0), reduction="sum"),
        Sample(t(0, 3), _labels(3, 0), grad_=False, why_="the mean of nothing is NaN"),
        Sample(t(2, 5000, fill=(-_INF,) * 4500 + (0.0,) * 500), _labels(4990, 2), reduction="none", grad_=False),
        Sample(t(2, 3, fill=((1.0, -_INF, 0.0),)), t(2, dtype="int64", fill=(0, 1)), reduction="none", grad_=False),
    ],
    "pick_class": [Sample(t(n, 7), _labels(7, n)) for n in (1023, 1024, 1025)]
    + [Sample(t(3, 5, 700), t(3, 700, dtype="int8", fill="ints", low=0, high=5), ignore_index=2)],
    "put_class": [
        Sample(t(*rows), _labels(classes, *rows), shape=shape, ignore_index=1) for shape, classes, rows in _ALL
    ],
}


def _floats(sample, inputs):
    kind = str(inputs[0].dtype)
    return None if kind in FLOATS else f"no kernel for {kind}"


EXEMPT = dict.fromkeys(EDGES, _floats)
