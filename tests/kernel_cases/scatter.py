"""Cases of scatter: around the edges of its block, and runs of equal places across one."""

from gputape.ops.index import ids
from gputape.samples import Sample, t

EDGES = {
    "scatter": [
        *(Sample(t(n), ids(n, high=7), t(n), dim=0) for n in (511, 512, 513)),
        Sample(t(2, 3, 4), ids(2, 2, 3, high=3), t(2, 3, 4), dim=1),
    ],
}

EXEMPT = {"scatter": lambda *_: None}
