"""Loss scaling around the edges of its blocks, and what its kernels refuse."""

from gputape.samples import Sample, t

_INF, _NO = float("inf"), t(dtype="bool", fill="zeros")

EDGES = {
    "unscale": [
        *(Sample(t(n), t(fill=(4.0)), _NO, grad_=False) for n in (4096, 4097, 4096 * 1025)),
        Sample(t(9001, fill=(1.0,) * 9000 + (_INF,)), t(fill=(4.0)), _NO, grad_=False),
        Sample(t(9001), t(fill=(3.0)), t(dtype="bool", fill="ones"), grad_=False),
    ],
}


def _refused(sample, inputs):
    """Gradients may be of 16 bit, the scale is float32."""
    floats = [kind for kind in (str(x.dtype) for x in inputs) if kind not in ("bool", "int32")]
    if floats[0] == "float64":
        return "no kernel for float64"
    return None if floats[-1] == "float32" else f"no kernel for {floats[-1]}"


EXEMPT = dict.fromkeys(("unscale", "update_scale"), _refused)
