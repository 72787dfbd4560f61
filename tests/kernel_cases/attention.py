"""Cases of attention around the edges of its tiles: lengths, head sizes, groups, masks."""

from gputape.samples import Sample, t

INF = float("inf")
STATE = t(2, dtype="int64", fill=(-5, 2**34 + 2))


def _heads(b, h, g, n, s, e, v, *mask, **options):
    return Sample(t(b, h, n, e), t(b, g, s, e), t(b, g, s, v), *mask, **options)


EDGES = {
    "attention": [
        _heads(1, 1, 1, 65, 63, 17, 16, is_causal=True),
        _heads(1, 2, 1, 33, 65, 33, 64),
        _heads(1, 1, 1, 31, 33, 65, 128, is_causal=True),
        _heads(1, 2, 1, 18, 34, 256, 200),
        _heads(1, 1, 1, 35, 70, 16, 16, t(1, 1, 35, 70, dtype="bool", fill="bool"), is_causal=True),
        _heads(2, 2, 1, 35, 34, 16, 8, t(1, 2, 1, 34)),
        _heads(2, 2, 2, 35, 34, 16, 8, t(2, 1, 35, 1)),
        _heads(1, 2, 1, 35, 70, 16, 16, None, STATE, is_causal=True, dropout_p=0.3, offset=1),
        _heads(2, 2, 2, 18, 34, 64, 40, t(2, 1, 18, 34), STATE, dropout_p=0.3),
        _heads(1, 1, 1, 3, 40, 8, 8, t(1, 1, 3, 40, fill=((-INF,), (0.0,), (-INF,))), grad_=False),
    ],
}


def _refused(sample, inputs):
    kind = str(inputs[0].dtype)
    return f"no kernel for {kind}" if kind == "float64" else None


EXEMPT = {"attention": _refused, "attention_bwd": _refused}
