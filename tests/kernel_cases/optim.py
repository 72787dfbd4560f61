"""Packing around the edges of its blocks and of the arrays that one launch takes. It moves elements of any type."""

from gputape.samples import Sample, t

EDGES = {
    "pack": [
        Sample(*(t(n) for n in (15, 16, 17, 1023, 1024, 1025))),
        Sample(*(t(n) for n in (1, 2, 3, 4, 5, 6, 7, 8)), why_="all of one launch"),
        Sample(*(t(16 * n) for n in range(1, 10)), why_="one more, all aligned"),
    ]
}
