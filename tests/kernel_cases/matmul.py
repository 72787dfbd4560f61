"""Matrix products around the edges of their tiles."""

from gputape.samples import Sample, t

_SIZES = ((31, 64, 32), (32, 63, 33), (33, 65, 31), (128, 17, 128), (129, 16, 127), (131, 67, 137))

EDGES = {
    "mm_nd": [
        *(Sample(t(m, k), t(k, n)) for m, k, n in _SIZES),
        Sample(t(130, 40, layout="transposed"), t(40, 129, layout="transposed")),
        Sample(t(3, 1, 33, 5), t(2, 5, 34)),
        *(Sample(t(5, k), t(k, 7), why_="the sums are split") for k in (1023, 1024, 1025, 1300)),
        Sample(t(2, 17, 1027, layout="transposed"), t(1027, 3), why_="a batch of split sums"),
    ]
}
