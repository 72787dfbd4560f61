"""Cards of sums, means and variances."""

from __future__ import annotations

from typing import Any

from ..aval import DTYPES, Aval, axes, axis, category, need_float, reduced
from ..errors import ArgumentError, DTypeError, ShapeError
from ..registry import At, register
from ..samples import Bad, Perf, Sample, t
from .pointwise import INF, as_float, masked, plain_number


def restore(F: Any, at: At, dy: Any) -> Any:
    """`dy` of a reduction with its axes put back as size 1, so that it broadcasts against the input."""
    x, dims = at.ins[0], at.attrs["dim"]
    kept = reduced(x.shape, dims, True)
    return dy if F.aval(dy).shape == kept else F.reshape(dy, kept)


def dims_canon(name: str) -> Any:
    """`dim` as a sorted tuple of axes counted from the front."""

    def canon(input: Aval, *, dim: Any = None, **attrs: Any) -> dict[str, Any]:
        if isinstance(dim, tuple) and not dim:
            dim = None  # torch reduces over everything for an empty tuple
        return {"dim": axes(name, dim, input.ndim), **attrs}

    return canon


def count(at: At) -> int:
    """How many elements each result of a reduction is made of."""
    n = 1
    for d in at.attrs["dim"]:
        n *= at.ins[0].shape[d]
    return n


def to_dtype(F: Any, dy: Any, of: Aval) -> Any:
    return dy if F.aval(dy).dtype == of.dtype else F.cast(dy, of.dtype)


REDUCE_SAMPLES = (
    Sample(t(5, 3)),
    Sample(t(5, 3), dim=0),
    Sample(t(5, 3), dim=-1, keepdim=True),
    Sample(t(2, 3, 5), dim=(0, 2)),
    Sample(t(2, 3, 5), dim=(1,)),
    Sample(t(), why_="a scalar"),
    Sample(t(4, 6, layout="transposed"), dim=1),
    Sample(t(3, 7, layout="strided"), dim=(0, 1)),
    Sample(t(3, 7, layout="flipped"), dim=0),
    Sample(t(7, 3, layout="expanded"), dim=0),
    Sample(t(37, 41, dtype="float64"), dim=0),
)
LARGE_SAMPLES = tuple(
    Sample(t(*shape), dim=dim, why_="summed by matrix product")
    for shape, dim in (((37, 41), 0), ((37, 41), 1), ((37, 41), None), ((3001, 2), 0), ((5, 7, 31), (0, 1)))
)
REDUCE_ERRORS = (
    Bad(ShapeError, "dim=2 is out of range", t(5, 3), dim=2),
    Bad(ShapeError, "twice", t(5, 3), dim=(0, -2)),
    Bad(ArgumentError, "must be an integer", t(5, 3), dim=1.5),
)


# --- sum --------------------------------------------------------------------------------------------------------------


def _check_dtype(name: str, dtype: str | None) -> None:
    if dtype is not None and dtype not in DTYPES:
        raise DTypeError(f"{name}: dtype {dtype!r} is not supported. Use one of {', '.join(DTYPES)}.")


def sum_dtype(name: str, input: Aval, dtype: str | None) -> str:
    """The dtype of a sum: `dtype` if given, else the input's, int64 for integers and bools."""
    _check_dtype(name, dtype)
    return dtype or (input.dtype if category(input.dtype) == 2 else "int64")


def _sum_rule(input: Aval, *, dim: tuple[int, ...], keepdim: bool, dtype: str | None) -> Aval:
    return Aval(reduced(input.shape, dim, keepdim), sum_dtype("sum", input, dtype))


register(
    name="sum",
    doc="Sum over the axes `dim` (default all), of the input cast to `dtype`; by default integers and bools sum in "
    "int64. No elements give 0. As torch.sum.",
    signature="input, dim=None, keepdim=False, *, dtype=None",
    precision="wide",
    inputs=("input",),
    canon=dims_canon("sum"),
    rule=_sum_rule,
    vjp=lambda F, at, dy: F.expand(restore(F, at, to_dtype(F, dy, at.ins[0])), at.ins[0].shape),
    samples=(
        *REDUCE_SAMPLES,
        *LARGE_SAMPLES,
        Sample(t(0, 3), dim=0),
        Sample(t(0)),
        Sample(t(4, dtype="bool", fill="bool"), grad_=False),
        Sample(t(4, 3, dtype="int8", fill="ints", low=100, high=127), dim=0, why_="would overflow in int8"),
        Sample(t(5, 3), dim=1, dtype="float64"),
        Sample(t(5, 3, fill="uniform", high=9), dim=1, dtype="int64", grad_=False),
    ),
    errors=(*REDUCE_ERRORS, Bad(DTypeError, "complex64", t(3), dtype="complex64")),
    perf=(Perf(t(1024, 128), dim=0, name_="gpt bias gradient"), Perf(t(1024, 128), dim=1), Perf(t(1024, 512))),
    torch="torch.sum",
)


def _sum_to_rule(input: Aval, *, shape: tuple[int, ...]) -> Aval:
    lead = input.ndim - len(shape)
    fits = lead >= 0 and all(n in (1, m) for n, m in zip(shape, input.shape[lead:], strict=True))
    if not fits:
        raise ShapeError(f"sum_to: {input.shape} does not reduce to {shape}. Give a shape that broadcasts to it.")
    return Aval(shape, input.dtype)


register(
    name="sum_to",
    doc="Sum over the axes that broadcasting from `shape` to the input's shape had expanded.",
    signature="input, shape",
    precision="wide",
    inputs=("input",),
    rule=_sum_to_rule,
    vjp=lambda F, at, dy: F.expand(dy, at.ins[0].shape),
    samples=(
        Sample(t(5, 3), shape=(3,)),
        Sample(t(2, 5, 3), shape=(5, 1)),
        Sample(t(5, 3), shape=()),
        Sample(t(5, 0), shape=(5, 1)),
        Sample(t(4, 6, layout="transposed"), shape=(1, 6)),
        Sample(t(5, 37, 41), shape=(41,), why_="summed by matrix product"),
        Sample(t(37, 41), shape=(37, 1), why_="summed by matrix product"),
        Sample(t(5, 3, dtype="float64"), shape=(3,)),
    ),
    errors=(Bad(ShapeError, "does not reduce", t(5, 3), shape=(5,)),),
    perf=(
        Perf(t(1024, 128), shape=(128,)),
        Perf(t(16, 64, 128), shape=(64, 128), name_="gpt gradient of positions"),
    ),
)


# --- mean, variance ---------------------------------------------------------------------------------------------------


def _mean_rule(input: Aval, *, dim: tuple[int, ...], keepdim: bool, dtype: str | None) -> Aval:
    _check_dtype("mean", dtype)
    out = Aval(reduced(input.shape, dim, keepdim), dtype or input.dtype)
    if not out.is_float:
        raise DTypeError(
            f"mean: the mean of {out.dtype} values (shape {input.shape}) is not an integer. Cast the input with "
            'gt.cast, or pass dtype="float32".'
        )
    return out


def _mean_vjp(F: Any, at: At, dy: Any) -> Any:
    x = at.ins[0]
    dy = F.scale(restore(F, at, dy), 1 / max(count(at), 1))
    return F.expand(to_dtype(F, dy, x), x.shape)


register(
    name="mean",
    doc="Mean over the axes `dim` (default all), of the input cast to `dtype`. No elements give NaN. As torch.mean.",
    signature="input, dim=None, keepdim=False, *, dtype=None",
    precision="wide",
    inputs=("input",),
    canon=dims_canon("mean"),
    rule=_mean_rule,
    vjp=_mean_vjp,
    samples=(
        *REDUCE_SAMPLES,
        *LARGE_SAMPLES,
        Sample(t(0, 3), dim=0, grad_=False, why_="no elements: NaN"),
        Sample(t(0, 3), dim=1),
        Sample(t(5, 3), dim=1, dtype="float64"),
        Sample(t(5, 3, dtype="int64", fill="ints", high=9), dim=1, dtype="float32"),
    ),
    errors=(*REDUCE_ERRORS, Bad(DTypeError, "mean of int64", t(3, dtype="int64", fill="ones"))),
    perf=(Perf(t(1024, 512)),),
    torch="torch.mean",
)


def var_canon(name: str) -> Any:
    def canon(
        input: Aval, *, dim: Any = None, correction: Any = 1, keepdim: Any = False, unbiased: Any = None
    ) -> dict[str, Any]:
        if isinstance(dim, bool):  # torch.var(x, False): the second argument there is `unbiased`
            dim, unbiased = None, dim
        if unbiased is not None:
            correction = int(bool(unbiased))
        elif correction is None:
            correction = 1
        elif isinstance(correction, bool):  # torch.var(x, 1, False): the third argument there is `unbiased`
            correction = int(correction)
        correction = plain_number(name, "correction", correction)
        return dims_canon(name)(input, dim=dim, correction=correction, keepdim=keepdim)

    return canon


def var_rule(name: str) -> Any:
    def rule(input: Aval, *, dim: tuple[int, ...], correction: float, keepdim: bool) -> Aval:
        need_float(name, input=input)
        return Aval(reduced(input.shape, dim, keepdim), input.dtype)

    return rule


def _var_grad(F: Any, at: At, dy: Any, input: Any) -> Any:
    """dy · 2·(x - mean)/(n - correction)."""
    free = count(at) - at.attrs["correction"]
    centred = F.sub(input, F.mean(input, at.attrs["dim"], True))
    return F.mul(F.scale(restore(F, at, dy), 2 / free if free else INF), centred)


def _std_vjp(F: Any, at: At, dy: Any, input: Any, y: Any) -> Any:
    half = F.div(dy, F.scale(y, 2.0))
    return _var_grad(F, at, masked(F, half, F.ne(y, F.const(0, at.out.dtype))), input)


VAR_SAMPLES = (
    *(s for s in REDUCE_SAMPLES if s.inputs[0].shape and s.inputs[0].layout != "expanded"),
    Sample(t(7, 3, layout="expanded"), dim=1),
    Sample(t(37, 41), dim=1),
    Sample(t(37, 41), dim=0, correction=0),
    Sample(t(5, 3), dim=1, unbiased=False),
    Sample(t(5, 3), dim=None, correction=None),
    Sample(t(5, 3), dim=0, correction=2.5, keepdim=True),
    Sample(t(5, 1), dim=1, grad_=False, why_="one element: NaN"),
    Sample(t(), grad_=False, why_="one element: NaN"),
    Sample(t(0, 3), dim=0, grad_=False),
    Sample(t(4, 3, fill=1000.0), dim=0, grad_=False, why_="all equal"),
    Sample(t(37, 41, fill="uniform", low=1e6, high=1e6 + 4), dim=0, grad_=False, why_="far from 0"),
)
for _name, _formula, _vjp, _saves in (
    ("var", "Variance Σ(x - mean)²/(n - correction)", lambda F, at, dy, x: _var_grad(F, at, dy, x), ("input",)),
    ("std", "Standard deviation √(Σ(x - mean)²/(n - correction))", _std_vjp, ("input", "y")),
):
    register(
        name=_name,
        doc=f"""{_formula} over the axes `dim` (default all); n - correction below 0 counts as 0.

        `unbiased=True` is correction 1, `unbiased=False` correction 0. The gradient of std is 0 where it is 0. As
        torch.{_name}.""",
        signature="input, dim=None, correction=1, keepdim=False, *, unbiased=None",
        precision="wide",
        inputs=("input",),
        canon=var_canon(_name),
        rule=var_rule(_name),
        vjp=_vjp,
        saves=_saves,
        samples=VAR_SAMPLES,
        errors=(
            *REDUCE_ERRORS,
            Bad(DTypeError, "floating-point", t(3, dtype="int64", fill="ones")),
            Bad(DTypeError, "correction must be a plain number", t(3), correction="1"),
        ),
        perf=(Perf(t(1024, 128), dim=1),),
        torch=f"torch.{_name}",
    )


# --- logarithms of sums, running sums ---------------------------------------------------------------------------------


def _logsumexp_rule(input: Aval, *, dim: tuple[int, ...], keepdim: bool) -> Aval:
    return as_float(Aval(reduced(input.shape, dim, keepdim), input.dtype))


register(
    name="logsumexp",
    doc="log Σ exp(input) over the axes `dim`, the maximum taken out first. No elements give -inf. As torch.logsumexp.",
    signature="input, dim, keepdim=False",
    precision="wide",
    inputs=("input",),
    canon=dims_canon("logsumexp"),
    rule=_logsumexp_rule,
    vjp=lambda F, at, dy, input, y: F.mul(restore(F, at, dy), F.exp(F.sub(input, restore(F, at, y)))),
    saves=("input", "y"),
    samples=(
        *(s for s in REDUCE_SAMPLES if "dim" in s.attrs),
        Sample(t(5, 3), dim=(0, 1)),
        Sample(t(37, 41), dim=(-1,)),
        Sample(t(), dim=0, why_="a scalar"),
        Sample(t(2, 3, fill=((1000.0, 1000.0, -1000.0), (-1000.0, -1000.0, 0.0))), dim=1, grad_=False),
        Sample(t(3, 2, fill=((-INF, 0.0), (-INF, -INF), (INF, 0.0))), dim=1, grad_=False, why_="infinities"),
        Sample(t(0, 3), dim=0, grad_=False),
        Sample(t(4, dtype="int64", fill="ints", high=4), dim=0),
    ),
    errors=REDUCE_ERRORS[:2],
    perf=(Perf(t(1024, 128), dim=1),),
    torch="torch.logsumexp",
)


def _cumsum_canon(input: Aval, *, dim: Any, dtype: Any = None) -> dict[str, Any]:
    return {"dim": axis("cumsum", dim, input.ndim), "dtype": dtype}


def _cumsum_rule(input: Aval, *, dim: int, dtype: str | None) -> Aval:
    return input.with_dtype(sum_dtype("cumsum", input, dtype))


register(
    name="cumsum",
    doc="Running sums along the axis `dim`, of the input cast to `dtype`; integers and bools sum in int64. As "
    "torch.cumsum.",
    signature="input, dim, *, dtype=None",
    precision="wide",
    inputs=("input",),
    canon=_cumsum_canon,
    rule=_cumsum_rule,
    vjp=lambda F, at, dy: F.cumsum_bwd(to_dtype(F, dy, at.ins[0]), at.attrs["dim"]),
    samples=(
        Sample(t(5, 3), dim=0),
        Sample(t(5, 3), dim=-1),
        Sample(t(2, 3, 4, layout="transposed"), dim=1),
        Sample(t(4, 11, 5, layout="flipped"), dim=1, why_="columns side by side, strided"),
        Sample(t(17, 131, layout="strided"), dim=1, why_="long rows"),
        Sample(t(8, 17, dtype="float64"), dim=0),
        Sample(t(0, 3), dim=0),
        Sample(t(), dim=0),
        Sample(t(7, dtype="float64", layout="strided"), dim=0),
        Sample(t(7, dtype="bool", fill="bool"), dim=0),
        Sample(t(7), dim=0, dtype="float64"),
    ),
    errors=(
        Bad(ShapeError, "out of range", t(5, 3), dim=2),
        Bad(DTypeError, "complex64", t(3), dim=0, dtype="complex64"),
    ),
    perf=(Perf(t(1024, 512), dim=1), Perf(t(1024, 512), dim=0)),
    torch="torch.cumsum",
)

register(
    name="cumsum_bwd",
    doc="Running sums along the axis `dim` from its end.",
    signature="dy, dim",
    inputs=("dy",),
    outputs=("dx",),
    rule=lambda dy, *, dim: dy,
    vjp=lambda F, at, g: F.cumsum(g, at.attrs["dim"]),
    public=False,
    samples=(
        Sample(t(5, 3, layout="expanded"), dim=0),
        Sample(t(2, 3, 4), dim=1),
        Sample(t(0, 3), dim=0),
        Sample(t(7, 2, dtype="float64"), dim=0),
    ),
)
