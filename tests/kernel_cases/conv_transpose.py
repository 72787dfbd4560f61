"""Transposed convolutions around the edges of their tiles, and every relation of stride, dilation and kernel."""

from gputape.samples import Sample, t

_PLAIN = {"stride": (1, 1), "padding": ((0, 0), (0, 0)), "dilation": (1, 1), "groups": 1}
_LINE = {"stride": (1,), "padding": ((0, 0),), "dilation": (1,), "groups": 1}


def _line(stride: int, kernel: int, dilation: int, before: int, after: int) -> Sample:
    attrs = {"stride": (stride,), "padding": ((before, after),), "dilation": (dilation,), "groups": 1}
    return Sample(t(2, 3, 5), t(3, 2, kernel), t(2), **attrs)


EDGES = {
    "conv_transpose_nd": [
        _line(2, 3, 1, 1, 0),
        _line(3, 2, 2, 0, 1),
        _line(4, 3, 2, 1, -1),
        _line(4, 5, 6, 3, 2),
        _line(2, 3, 4, 0, 0),
        _line(5, 1, 1, 2, -2),
        *(Sample(t(1, 1, n), t(1, 1, 2), t(1), **_LINE) for n in (62, 63, 64)),
        Sample(t(2, 16, 5, 4), t(16, 31, 3, 3), t(31), **_PLAIN, why_="all channels of a tap"),
        Sample(t(2, 17, 3, 4), t(17, 33, 2, 2), None, **_PLAIN | {"stride": (2, 2)}),
        Sample(t(2, 32, 4, 4), t(32, 5, 2, 2), t(10), **_PLAIN | {"groups": 2, "stride": (2, 1)}),
        Sample(
            t(1, 4, 2, 3, 3),
            t(4, 3, 2, 3, 2),
            t(3),
            stride=(2, 1, 3),
            padding=((0, 1), (1, 0), (2, -1)),
            dilation=(1, 2, 1),
            groups=1,
        ),
        Sample(t(2, 6, 7, 5), t(6, 1, 3, 3), t(6), **_PLAIN | {"groups": 6, "stride": (2, 2)}, why_="depthwise"),
        Sample(t(2, 6, 7, 5), t(6, 1, 3, 3), t(3), **_PLAIN | {"groups": 3}, why_="two channels to one output"),
        Sample(t(2, 3, 4), t(3, 0, 2), t(0), **_LINE, why_="no outputs"),
        Sample(
            *(t(1, 32, 5, 13, dtype="bfloat16"), t(32, 64, 2, 2, dtype="bfloat16"), t(64, dtype="bfloat16")),
            **_PLAIN | {"stride": (2, 2)},
            grad_=False,
        ),
    ],
}
