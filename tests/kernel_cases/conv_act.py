"""The convolution and its activation around the edges of its tiles, over groups, and one channel at a time."""

from gputape.samples import Sample, t

_SAME = {"stride": (1, 1), "padding": ((1, 1), (1, 1)), "dilation": (1, 1), "groups": 1}
_SKEW = {"stride": (2, 3), "padding": ((0, 2), (3, 1)), "dilation": (2, 1), "groups": 1}


def _case(x, w, activation, window, dtype="float32", **options):
    arrays = (t(*shape, dtype=dtype) for shape in (x, w, w[:1]))
    return Sample(*arrays, **window, activation=activation, **options)


EDGES = {
    "conv_act": [
        _case((3, 1, 9, 7), (16, 1, 3, 3), "relu", _SAME),
        _case((2, 16, 5, 4), (31, 16, 3, 3), "gelu", _SAME),
        _case((2, 3, 11, 13), (5, 3, 3, 3), "silu", _SKEW),
        _case((2, 6, 7, 5), (34, 3, 2, 2), "gelu", _SAME | {"groups": 2}),
        _case((2, 3, 9, 8), (6, 1, 3, 3), "mish", _SAME | {"groups": 3}),
        _case((2, 3, 5, 5), (3, 3, 2, 2), "hardtanh", _SAME, options=(("min_val", -0.5), ("max_val", 0.25))),
        _case((2, 3, 5, 5), (3, 3, 2, 2), "gelu", _SAME, keep=False, grad_=False),
        _case((2, 3, 9, 8), (7, 3, 3, 3), "gelu", _SAME, dtype="bfloat16", grad_=False),
        _case((1, 32, 3, 43), (64, 32, 2, 2), "relu", _SAME, dtype="float16", grad_=False),
    ]
}
