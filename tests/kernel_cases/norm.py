"""Layer norm around the edges of its tiles."""

from gputape.samples import Sample, t

_SHAPES = ((15, 63), (16, 64), (17, 65), (5, 256), (3, 257), (2, 1024), (2, 1025), (1, 4097), (67, 3))


def gradient(rows: int, cols: int, residual: bool, means: bool, weight: bool = True, **attrs: object) -> Sample:
    """A sample of the gradient of a norm, with means or without."""
    x, stat = t(rows, cols), t(rows, fill="uniform", low=0.5, high=2.0)
    attrs = {"normalized_shape": (cols,), "needs": (True,) * (2 + means)} | attrs
    arrays = (x, x, t(cols) if weight else None, *(stat,) * (1 + means), x if residual else None)
    return Sample(*arrays, grad_=False, **attrs)


GRADIENTS = ((17, 64, True), (5, 65, True), (3, 257, True), (2, 257, False), (2, 4112, True), (33, 3, False))

EDGES = {
    "layer_norm": [Sample(t(rows, cols), t(cols), t(cols), normalized_shape=cols) for rows, cols in _SHAPES],
    "layer_norm_bwd": [
        *(gradient(*case, means=True) for case in GRADIENTS),
        gradient(3, 257, True, True, needs=(False, True, False)),
        gradient(3, 17, True, True, needs=(False, False, True)),
        gradient(3, 257, True, True, weight=False, needs=(True, False, True)),
        gradient(5, 7, False, True, weight=False, needs=(True, False, False)),
    ],
}
