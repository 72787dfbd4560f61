"""Cases of the strided copies: tiles and their edges, turned and short axes, more axes than a kernel walks."""

from gputape.samples import Sample, t

EDGES = {
    "cat": [
        Sample(t(3, 1023), t(3, 2), dim=1),
        Sample(t(17, 63), t(17, 66), dim=1),
        Sample(t(255, 3), t(2, 3)),
        Sample(t(33, 1), t(33, 1), dim=1, why_="no axis of the output is contiguous"),
        Sample(t(31, 33, layout="transposed"), t(31, 33, layout="transposed"), dim=0),
    ],
    "flip": [
        Sample(t(3, 1025), dims=1),
        Sample(t(2, 3, 2, 3, 2), dims=(0, 2, 4)),
        Sample(t(2, 2, 2, 3, 2, 2), dims=(0, 2, 4), why_="six axes"),
        Sample(t(9, dtype="float64"), dims=0),
        Sample(t(5, 3, dtype="bool", fill="bool"), dims=1),
    ],
}
EXEMPT = dict.fromkeys(EDGES, lambda *_: None)
