"""Cases of the index kernels: around the edges of their tiles, and many indices for one place."""

from gputape.aval import FLOATS, INTS
from gputape.ops.index import ids
from gputape.samples import Sample, t

EDGES = {
    "index_select": [
        Sample(t(5, cols), ids(n, high=5), dim=0)
        for n, cols in ((1025, 1), (65, 16), (63, 17), (5, 256), (3, 257), (1, 1025))
    ],
    "index_add": [
        Sample(t(3, cols), ids(n, high=3), t(n, cols), dim=0)
        for n, cols in ((129, 1), (385, 1), (33, 16), (31, 17), (17, 64), (16, 65))
    ]
    + [
        Sample(t(2, 4, 3), ids(5, high=2), t(2, 5, 3), dim=1, why_="rows that nothing goes to"),
        Sample(t(5, 3, layout="repeated"), ids(7, high=5), t(7, 3), dim=0, why_="one element that repeats"),
        Sample(t(5, 3), t(7, dtype="int32", fill="ints", low=0, high=5), t(7, 3), dim=0, why_="narrow indices"),
    ],
    "wrap_index": [Sample(ids(513, low=-5, high=5), ids(1, low=-7, high=7), sizes=(5, 7), op="index")],
}


def _no_sum(sample, inputs):
    kind = str(inputs[0].dtype)
    return None if kind in (*INTS, *FLOATS) and kind != "float64" else f"no kernel for {kind}"


EXEMPT = {"index_select": lambda *_: None, "index_add": _no_sum, "wrap_index": lambda *_: None}
