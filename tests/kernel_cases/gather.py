"""Cases of gather and scatter_add: around the edges of their tiles, strided inputs, and runs of equal places."""

from gputape.aval import FLOATS, INTS
from gputape.ops.index import ids
from gputape.samples import Sample, t

EDGES = {
    "gather": [
        Sample(t(513, 3), ids(513, 1, high=3), dim=1),
        Sample(t(2, 3, 4, 5, 6), ids(2, 2, 3, 4, 5, high=4), dim=2, why_="no two axes of which are one run"),
        Sample(t(4, 6, layout="strided"), ids(3, 5, high=4), dim=0),
    ],
    "scatter_add": [
        *(Sample(t(3), t(n, dtype="int64", fill="ones"), t(n), dim=0) for n in (127, 128, 129, 257)),
        Sample(t(2, 3, 4), ids(2, 2, 3, high=3), t(2, 3, 4), dim=1),
    ],
}


def _no_sum(sample, inputs):
    kind = str(inputs[0].dtype)
    return None if kind in (*INTS, *FLOATS) and kind != "float64" else f"no kernel for {kind}"


EXEMPT = {"gather": lambda *_: None, "scatter_add": _no_sum}
