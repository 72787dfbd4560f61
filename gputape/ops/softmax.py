"""Cards of softmax, log-softmax and their gradients."""

from __future__ import annotations

from typing import Any

from ..aval import FLOATS, Aval, axis, need_float
from ..errors import DTypeError, ShapeError
from ..registry import At, register
from ..samples import Bad, Perf, Sample, t

NAN, INF = float("nan"), float("inf")


def _canon(name: str) -> Any:
    def canon(input: Aval, *, dim: int, dtype: str | None) -> dict[str, Any]:
        return {"dim": axis(name, dim, input.ndim), "dtype": input.dtype if dtype is None else dtype}

    return canon


def _rule(name: str) -> Any:
    def rule(input: Aval, *, dim: int, dtype: str) -> Aval:
        if dtype == input.dtype:
            need_float(name, input=input)
        if dtype not in FLOATS:
            raise DTypeError(f"{name}: dtype must be one of {', '.join(FLOATS)}, got {dtype!r}. Pass one of them.")
        return input.with_dtype(dtype)

    return rule


def _bwd_rule(name: str) -> Any:
    def rule(dy: Aval, y: Aval, *, dim: int) -> Aval:
        if dy is not y:
            raise ShapeError(f"{name}: dy is {dy}, y is {y}. Give both the same shape and dtype.")
        return y

    return rule


def _bwd_canon(name: str) -> Any:
    return lambda dy, y, *, dim: {"dim": axis(name, dim, y.ndim)}


SAMPLES = (
    Sample(t(5, 3), dim=1),
    Sample(t(5, 3), dim=0),
    Sample(t(2, 3, 5), dim=1),
    Sample(t(2, 3, 5), dim=-1),
    Sample(t(7), dim=0),
    Sample(t(), dim=0, why_="a scalar is a row of one"),
    Sample(t(5, 1), dim=1),
    Sample(t(0, 3), dim=1, why_="no rows"),
    Sample(t(3, 0), dim=1, why_="no columns"),
    Sample(t(3, 0), dim=0),
    Sample(t(4, 6, layout="transposed"), dim=1),
    Sample(t(4, 6, layout="strided"), dim=-1),
    Sample(t(2, 4, 6, layout="flipped"), dim=1),
    Sample(t(3, 4, layout="expanded"), dim=0),
    Sample(t(2, 3, fill=((1e4, -1e4, 0.0), (1e38, -1e38, 0.5))), dim=1, grad_=False, why_="no overflow"),
    Sample(t(2, 3, fill=((0.0, -INF, 1.0), (-INF, -INF, -INF))), dim=1, grad_=False, why_="a row of -inf gives NaN"),
    Sample(t(3, 2, fill=((0.0, NAN), (1.0, 0.0), (INF, 1.0))), dim=1, grad_=False),
    Sample(t(3, 2, fill=((0.0, NAN), (1.0, 0.0), (INF, 1.0))), dim=0, grad_=False),
    Sample(t(5, 3, dtype="float64"), dim=1),
    Sample(t(5, 3), dim=1, dtype="float64"),
    Sample(t(5, 3, dtype="int64", fill="ints", low=-9, high=9), dim=1, dtype="float32"),
    Sample(t(5, 37, dtype="bfloat16"), dim=1, grad_=False),
)
BWD_SAMPLES = (
    Sample(t(5, 3), t(5, 3), dim=1),
    Sample(t(5, 3), t(5, 3), dim=0),
    Sample(t(2, 3, 5), t(2, 3, 5), dim=1),
    Sample(t(), t(), dim=0),
    Sample(t(0, 3), t(0, 3), dim=1),
    Sample(t(3, 0), t(3, 0), dim=1),
    Sample(t(4, 6, layout="strided"), t(4, 6, layout="transposed"), dim=1),
    Sample(t(4, 6, layout="expanded"), t(4, 6), dim=0, why_="dy of a sum"),
    Sample(t(5, 3, dtype="float64"), t(5, 3, dtype="float64"), dim=1),
)
PERF = (
    Perf(t(16, 4, 64, 64), dim=-1, name_="gpt scores"),
    Perf(t(1024, 96), dim=-1, name_="gpt logits"),
    Perf(t(64, 10), dim=1, name_="mlp logits"),
    Perf(t(8192, 4096), dim=-1, name_="large"),
)
BWD_PERF = tuple(Perf(*p.inputs, *p.inputs, name_=p.name, **p.attrs) for p in PERF)


def _batch(*arrays: Aval, dim: int, **attrs: Any) -> Any:
    return "none" if dim == 0 else (0,) * (len(arrays) + 1)


def _over(F: Any, x: Any, dim: int) -> Any:
    """Sum over `dim`, kept as size 1."""
    return F.sum(x, dim=dim, keepdim=True)


def _forward(name: str, formula: str) -> None:
    def vjp(F: Any, at: At, dy: Any, y: Any) -> Any:
        dx = F.op(f"{name}_bwd", dy, y, dim=at.attrs["dim"])
        return dx if at.ins[0].dtype == at.out.dtype else F.cast(dx, at.ins[0].dtype)

    register(
        name=name,
        doc=f"""{formula} over the axis `dim`, the maximum taken out first.

        Integers need `dtype`, a floating-point dtype that the input is cast to first. A row that is all -inf, or holds
        NaN or +inf, gives NaN. As torch.nn.functional.{name}; the original API page's softmax takes the last axis.
        """,
        signature="input, dim, dtype=None",
        precision="wide",
        inputs=("input",),
        canon=_canon(name),
        rule=_rule(name),
        vjp=vjp,
        batch=_batch,
        saves=("y",),
        samples=SAMPLES,
        errors=(
            Bad(ShapeError, "dim=2 is out of range", t(5, 3), dim=2),
            Bad(DTypeError, "floating-point", t(3, dtype="int64", fill="ones"), dim=0),
            Bad(DTypeError, "must be one of", t(3), dim=0, dtype="int64"),
        ),
        perf=PERF,
        torch=f"torch.nn.functional.{name}",
    )


def _backward(name: str, formula: str, vjp: Any) -> None:
    register(
        name=f"{name}_bwd",
        doc=f"Gradient of {name} from its result y: {formula}, Σ over the axis `dim`.",
        signature="dy, y, dim",
        inputs=("dy", "y"),
        outputs=("dx",),
        canon=_bwd_canon(f"{name}_bwd"),
        rule=_bwd_rule(f"{name}_bwd"),
        vjp=vjp,
        batch=_batch,
        saves=("dy", "y"),
        samples=BWD_SAMPLES,
        errors=(Bad(ShapeError, "same shape", t(5, 3), t(5, 1), dim=1),),
        perf=BWD_PERF,
        public=False,
    )


def _softmax_bwd_vjp(F: Any, at: At, g: Any, dy: Any, y: Any) -> Any:
    dim = at.attrs["dim"]
    ddy = F.softmax_bwd(g, y, dim=dim) if at.needs[0] else None
    if not at.needs[1]:
        return ddy, None
    inner = F.sub(dy, _over(F, F.mul(dy, y), dim))
    return ddy, F.sub(F.mul(g, inner), F.mul(dy, _over(F, F.mul(g, y), dim)))


def _log_softmax_bwd_vjp(F: Any, at: At, g: Any, dy: Any, y: Any) -> Any:
    dim = at.attrs["dim"]
    weighted = F.mul(g, F.exp(y))
    ddy = F.sub(g, _over(F, weighted, dim)) if at.needs[0] else None
    return ddy, F.neg(F.mul(weighted, _over(F, dy, dim))) if at.needs[1] else None


_forward("softmax", "exp(x - max) / Σ exp(x - max)")
_forward("log_softmax", "x - max - log Σ exp(x - max)")
_backward("softmax", "y · (dy - Σ dy·y)", _softmax_bwd_vjp)
_backward("log_softmax", "dy - exp(y) · Σ dy", _log_softmax_bwd_vjp)
