"""Convolutions around the edges of their tiles: outputs, positions over several images, channels, taps, splits."""

from gputape.samples import Sample, t

_PLAIN = {"stride": (1, 1), "padding": ((0, 0), (0, 0)), "dilation": (1, 1), "groups": 1}
_SAME = _PLAIN | {"padding": ((1, 1), (1, 1))}
_SKEW = {"stride": (2, 3), "padding": ((0, 2), (3, 1)), "dilation": (2, 1), "groups": 1}
_LINE = {"stride": (1,), "padding": ((0, 0),), "dilation": (1,), "groups": 1}
_SOLID = {"stride": (2, 1, 1), "padding": ((1, 0), (0, 1), (2, 2)), "dilation": (1, 2, 1), "groups": 1}


def _bf16(*shape: int) -> object:
    return t(*shape, dtype="bfloat16")


EDGES = {
    "conv_nd": [
        *(Sample(t(1, 1, n), t(1, 1, 1), t(1), **_LINE) for n in (63, 64, 65)),
        Sample(t(5, 2, 13), t(17, 2, 1), t(17), **_LINE, why_="a tile ends inside an image"),
        Sample(t(3, 1, 9, 7), t(16, 1, 3, 3), t(16), **_SAME),
        Sample(t(2, 16, 5, 4), t(31, 16, 3, 3), t(31), **_SAME, why_="all channels of a tap"),
        Sample(t(2, 32, 4, 5), t(65, 32, 1, 2), None, **_PLAIN),
        Sample(t(2, 17, 3, 5), t(64, 17, 2, 2), t(64), **_SKEW | {"stride": (1, 1)}),
        Sample(t(2, 32, 5, 5), t(10, 16, 2, 2), t(10), **_PLAIN | {"groups": 2}),
        Sample(t(2, 6, 7, 5), t(34, 3, 2, 2), t(34), **_PLAIN | {"groups": 2, "stride": (2, 1)}),
        Sample(t(2, 3, 11, 13), t(5, 3, 3, 3), t(5), **_SKEW),
        Sample(t(1, 3, 4, 5, 4), t(5, 3, 2, 3, 2), t(5), **_SOLID),
        Sample(t(2, 3, 9, 8), t(6, 1, 3, 3), t(6), **_SAME | {"groups": 3}, why_="depthwise, two outputs each"),
        Sample(t(1, 5, 103), t(5, 1, 4), None, **_LINE | {"groups": 5, "stride": (2,), "padding": ((1, 2),)}),
        Sample(t(2, 0, 4), t(3, 0, 2), t(3), **_LINE, why_="no channels: the bias"),
        Sample(_bf16(2, 3, 9, 8), _bf16(7, 3, 3, 3), _bf16(7), **_SAME, grad_=False),
        Sample(_bf16(1, 32, 3, 43), _bf16(128, 32, 2, 2), _bf16(128), **_PLAIN, grad_=False),
        Sample(_bf16(1, 64, 5, 7), _bf16(48, 64, 1, 3), _bf16(48), **_SAME, grad_=False),
        Sample(_bf16(1, 16, 5, 7), _bf16(32, 16, 3, 1), _bf16(32), **_SKEW, grad_=False),
    ],
    "conv_weight_nd": [
        *(Sample(t(1, 1, n), t(1, 1, n), kernel=(1,), **_LINE) for n in (31, 32, 33, 255, 256, 257)),
        Sample(t(5, 3, 9, 9), t(5, 4, 9, 9), kernel=(3, 3), **_SAME, why_="two splits"),
        Sample(t(2, 7, 6, 6), t(2, 64, 6, 6), kernel=(3, 3), **_SAME),
        Sample(t(1, 5, 4, 4), t(1, 65, 3, 3), kernel=(2, 2), **_PLAIN),
        Sample(t(2, 32, 3, 4), t(2, 31, 2, 4), kernel=(2, 1), **_PLAIN),
        Sample(t(2, 4, 6, 5), t(2, 34, 5, 4), kernel=(2, 2), **_PLAIN | {"groups": 2}),
        Sample(t(2, 3, 11, 13), t(2, 5, 5, 5), kernel=(3, 3), **_SKEW),
        Sample(t(1, 2, 4, 5, 4), t(1, 5, 2, 2, 7), kernel=(2, 3, 2), **_SOLID),
        Sample(t(2, 3, 9, 8), t(2, 6, 9, 8), kernel=(3, 3), **_SAME | {"groups": 3}, why_="depthwise"),
        Sample(t(3, 5, 103), t(3, 5, 100), kernel=(4,), **_LINE | {"groups": 5}, why_="depthwise, two splits"),
        Sample(t(1, 2, 20), t(1, 2, 4), kernel=(17,), **_LINE | {"groups": 2}, why_="more taps than a tile has"),
        Sample(t(2, 0, 5), t(2, 3, 4), kernel=(2,), **_LINE, why_="no channels: the bias"),
        Sample(t(2, 0, 5), t(2, 4, 4), kernel=(2,), **_LINE | {"groups": 2}, why_="no channels in two groups"),
        Sample(_bf16(2, 7, 6, 6), _bf16(2, 64, 6, 6), kernel=(3, 3), **_SAME, grad_=False),
        Sample(_bf16(2, 3, 9, 8), _bf16(2, 33, 9, 8), kernel=(3, 3), **_SAME, grad_=False),
    ],
}
