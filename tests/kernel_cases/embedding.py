"""Cases of table look-up around the edges of its tiles."""

from gputape.ops.index import ids
from gputape.samples import Sample, t

EDGES = {
    "embedding": [Sample(ids(n, high=7), t(7, cols)) for n, cols in ((1025, 1), (4, 255), (5, 257), (65, 15))],
    "one_hot_of": [Sample(ids(n, high=3), num_classes=3) for n in (170, 171, 172)],
}
EXEMPT = dict.fromkeys(EDGES, lambda *_: None)
