"""The affine map around the edges of its tiles, and its gradients over one and several splits of the rows."""

from gputape.samples import Sample, t

_SIZES = ((1, 1, 1), (15, 17, 16), (17, 15, 33), (31, 16, 32), (32, 17, 31), (63, 65, 64), (127, 16, 63), (67, 33, 71))


def _three(rows: int, k: int, n: int, dtype: str = "float32") -> tuple[object, ...]:
    return t(rows, k, dtype=dtype), t(n, k, dtype=dtype), t(n, dtype=dtype)


def _gradient(rows: int, k: int, n: int, dtype: str = "float32") -> tuple[object, ...]:
    return t(rows, n, dtype=dtype), t(rows, k, dtype=dtype), t(n, k, dtype=dtype)


EDGES = {
    "linear": [
        *(Sample(*_three(*sizes)) for sizes in _SIZES),
        Sample(*_three(64, 33, 10, "bfloat16"), grad_=False),
        Sample(*_three(63, 31, 64, "bfloat16"), grad_=False),
        Sample(*_three(31, 97, 32, "bfloat16"), grad_=False),
        Sample(*_three(1535, 3, 1023, "bfloat16"), grad_=False, why_="the largest tile"),
        Sample(*_three(3, 1100, 5), why_="the sums are split; the bias comes after"),
        Sample(*_three(33, 1290, 17, "bfloat16"), grad_=False),
        Sample(t(4, 5, 33, layout="strided"), t(17, 33, layout="transposed"), t(17)),
    ],
    "linear_bwd": [
        *(Sample(*_gradient(*sizes)) for sizes in _SIZES),
        *(Sample(*_gradient(rows, 3, 5)) for rows in (257, 1023, 1281)),
        Sample(*_gradient(6, 5, 1100), why_="the sums for dinput are split"),
        Sample(*_gradient(6, 5, 1100), t(6, 5), why_="and multiplied when they are whole"),
        Sample(*_gradient(65, 33, 17), t(65, 33)),
        Sample(*_gradient(1090, 61, 64), t(1090, 61), why_="both products in one launch, one of them split"),
        Sample(*_gradient(1090, 64, 62), needs=(True, True, False)),
        Sample(*_gradient(1031, 31, 63, "bfloat16"), grad_=False),
        Sample(*_gradient(300, 33, 31), needs=(False, True, False), grad_=False),
        Sample(*_gradient(300, 33, 31), needs=(False, False, True), grad_=False),
        Sample(*_gradient(33, 17, 5), needs=(True, False, False)),
        Sample(*_gradient(1300, 64, 63, "bfloat16"), grad_=False),
        Sample(*_gradient(65, 10, 64, "bfloat16"), grad_=False),
        Sample(t(2, 150, 17, layout="strided"), t(2, 150, 16, layout="transposed"), t(17, 16, layout="flipped")),
    ],
}
