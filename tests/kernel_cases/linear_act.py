"""The affine map and what follows it, around the edges of its tiles and where its sums are split."""

from gputape.samples import Sample, t


def _case(rows, k, n, activation, residual=False, dtype="float32", **options):
    x, w, b, r = (t(*shape, dtype=dtype) for shape in ((rows, k), (n, k), (n,), (rows, n)))
    return Sample(x, w, b, r if residual else None, activation=activation, **options)


EDGES = {
    "linear_act": [
        _case(33, 17, 65, "gelu", residual=True),
        _case(63, 16, 31, "relu", residual=True),
        _case(3, 1100, 5, "gelu", residual=True),
        _case(5, 1025, 7, "relu"),
        _case(2, 1030, 3, "none", residual=True),
        _case(65, 33, 64, "gelu", residual=True, dtype="bfloat16", grad_=False),
        _case(5, 1300, 7, "silu", dtype="float16", grad_=False),
        _case(5, 3, 7, "hardtanh", options=(("min_val", -0.5), ("max_val", 0.25))),
        _case(5, 3, 7, "mish"),
    ]
}
