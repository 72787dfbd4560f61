"""Cases of padding around the edges of its tiles."""

from gputape.samples import Sample, t

EDGES = {
    "constant_pad_nd": [
        Sample(t(1, 1020), pad=(2, 3)),
        Sample(t(15, 62), pad=(1, 2, 1, 1), value=-2.0),
        Sample(t(255, 2), pad=(1, 1, 1, -2)),
        Sample(t(2, 1, 3, 1, 2), pad=(1, 0, 0, 1, -1, 1, 1, 1), value=3.0),
        Sample(t(3, 5, dtype="float64"), pad=(1, 1), value=float("nan"), grad_=False),
        Sample(t(4, 16, 32), pad=(16, 16), why_="whole tiles on either side"),
    ],
}
EXEMPT = {"constant_pad_nd": lambda *_: None}
