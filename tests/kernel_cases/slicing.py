"""Cases of the gradient of `slice` around the edges of its tiles."""

from gputape.samples import Sample, t

EDGES = {
    "slice_bwd": [
        Sample(t(2, 341), shape=(2, 1024), start=(0, 1), stop=(2, 1024), step=(1, 3)),
        Sample(t(2, 3, 32), shape=(2, 3, 96), start=(0, 0, 32), stop=(2, 3, 64), step=(1, 1, 1)),
        Sample(t(5, 3), shape=(17, 7), start=(1, 2), stop=(16, 7), step=(3, 2)),
    ],
}
EXEMPT = {"slice_bwd": lambda *_: None, "slices_bwd": lambda *_: None}
