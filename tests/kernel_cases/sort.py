"""Sorting around the edges of its tiles, and what its kernel refuses."""

from gputape.samples import Sample, t

_TIED = {"fill": "ints", "low": -3, "high": 3}

EDGES = {
    "sorted_order": [Sample(t(n, **_TIED), dim=0, descending=n % 2 == 0) for n in (1, 63, 64, 65, 130)]
    + [Sample(t(2, 67, 3, **_TIED), dim=1, descending=True), Sample(t(2, 67, 3, **_TIED), dim=1, descending=False)]
}


def _refusal(sample, inputs):
    return "no kernel for float64" if inputs[0].dtype == "float64" else None


EXEMPT = {"sorted_order": _refusal}
