"""Max pooling around the edges of its blocks. Its kernels take one or two spatial axes."""

from gputape.samples import Sample, t

_FLOATS = ("float32", "float16", "bfloat16")
_WINDOW = {"kernel_size": (2, 3), "stride": (1, 2), "padding": (1, 1), "dilation": (1, 1)}

EDGES = {"max_pool_nd": [Sample(t(1, 1, n, 129, fill="distinct"), **_WINDOW, ceil_mode=n == 2) for n in (1, 2, 7)]}


def _refusal(sample, inputs):
    kind = str(inputs[0].dtype)
    if kind not in _FLOATS:
        return f"no kernel for {kind}"
    return "no kernel for 3 spatial axes" if len(sample.attrs["kernel_size"]) == 3 else None


EXEMPT = {name: _refusal for name in ("max_pool_nd", "max_pool_nd_bwd")}
