"""Cards of the optimizer updates. Learning rate and step count are arrays, so that a recorded step can be replayed.

Each optimizer has two: a schedule, run once per group, that turns the step count and the learning rate into the few
scalars an update needs, and the update of one parameter. Updates read each element before they write it, so their
outputs may be the memory of their inputs. Both take a flag `skip`, () bool or None: where it is True, step count,
parameter and state keep their bits, whatever the gradient holds.
"""

from __future__ import annotations

from itertools import accumulate
from typing import Any

from ..aval import Aval, contiguous_strides, need_float
from ..errors import ArgumentError, DTypeError, ShapeError
from ..registry import register
from ..samples import Bad, Perf, Sample, t

SKIP, GO = t(dtype="bool", fill="ones"), t(dtype="bool", fill="zeros")
LOST = t(3, 5, fill=float("nan"))


def _need_like(op: str, param: Aval, **others: Aval | None) -> None:
    """Everything beside a parameter has its dtype, and its shape or none."""
    need_float(op, param=param)
    for name, a in others.items():
        if a is None:
            continue
        if name == "skip":
            _need_flag(op, a)
            continue
        scalar = name in ("rate", "fresh", "step_size", "eps", "keep")
        if a.shape != (() if scalar else param.shape):
            want = "()" if scalar else f"{param.shape}, the parameter's"
            raise ShapeError(f"{op}: {name} has shape {a.shape}, but must have shape {want}. Check what is passed.")
        if a.dtype != param.dtype:
            raise DTypeError(
                f"{op}: {name} is {a.dtype}, but the parameter is {param.dtype}. Cast {name} with gt.cast first."
            )


def _need_flag(op: str, skip: Aval | None) -> None:
    if skip is not None and (skip.shape or skip.dtype != "bool"):
        raise ShapeError(f"{op}: skip is {skip}, but a bool of shape () is needed. Reduce it, for example with gt.any.")


def _need_clock(op: str, step: Aval, lr: Aval, skip: Aval | None) -> None:
    _need_flag(op, skip)
    if step.shape or lr.shape:
        raise ShapeError(f"{op}: step has shape {step.shape} and lr {lr.shape}, but both must be scalars of shape ().")
    if step.dtype != "int64" or lr.dtype != "float64":
        raise DTypeError(f"{op}: step is {step.dtype} and lr {lr.dtype}, but they must be int64 and float64.")


def _sgd_schedule_rule(
    step: Aval, lr: Aval, skip: Aval | None, *, dampening: float, dtype: str
) -> tuple[Aval, Aval, Aval]:
    _need_clock("sgd_schedule", step, lr, skip)
    return step, Aval((), dtype), Aval((), dtype)


register(
    name="sgd_schedule",
    doc="""step + 1, the learning rate in `dtype`, and the factor of the gradient in the momentum buffer: 1 at the first
step, then 1 - dampening (as torch.optim.SGD, which starts the buffer as the gradient).""",
    signature="step, lr, skip=None, dampening=0.0, dtype='float32'",
    inputs=("step", "lr", "skip"),
    outputs=("next_step", "rate", "fresh"),
    returns=3,
    rule=_sgd_schedule_rule,
    samples=(
        Sample(t(dtype="int64", fill="zeros"), t(dtype="float64", fill=(0.1)), dampening=0.25, grad_=False),
        Sample(t(dtype="int64", fill="ones"), t(dtype="float64", fill=(0.1)), dampening=0.25, grad_=False),
        Sample(t(dtype="int64", fill="ones"), t(dtype="float64", fill=(0.1)), dtype="float64", grad_=False),
        Sample(
            t(dtype="int64", fill="ones"), t(dtype="float64", fill=(0.1)), SKIP, grad_=False, why_="the count stays"
        ),
        Sample(t(dtype="int64", fill="ones"), t(dtype="float64", fill=(0.1)), GO, grad_=False),
    ),
    errors=(
        Bad(ShapeError, "a bool of shape", t(dtype="int64"), t(dtype="float64"), t(dtype="int64")),
        Bad(ShapeError, "scalars", t(2, dtype="int64", fill="ones"), t(dtype="float64")),
        Bad(DTypeError, "int64 and float64", t(), t(dtype="float64")),
    ),
    public=False,
    exempt={"sgd_schedule": "one number"},
)


def _sgd_update_rule(param: Aval, grad: Aval, rate: Aval, skip: Aval | None, **attrs: Any) -> Aval:
    _need_like("sgd_update", param, grad=grad, rate=rate, skip=skip)
    return param


register(
    name="sgd_update",
    doc="""One step of stochastic gradient descent on one parameter; as torch.optim.SGD without momentum.

param' = param - rate · (grad + weight_decay · param).""",
    signature="param, grad, rate, skip=None, weight_decay=0.0",
    inputs=("param", "grad", "rate", "skip"),
    outputs=("new_param",),
    rule=_sgd_update_rule,
    inplace=True,
    batch="pointwise",
    samples=(
        Sample(t(3, 5), t(3, 5), t(fill=(0.1)), grad_=False),
        Sample(t(3, 5), t(3, 5), t(fill=(0.1)), weight_decay=0.01, grad_=False),
        Sample(t(4, 6, layout="transposed"), t(4, 6, layout="strided"), t(fill=(0.1)), grad_=False),
        Sample(t(0, 3), t(0, 3), t(fill=(0.1)), grad_=False, why_="no elements"),
        Sample(t(7, dtype="float64"), t(7, dtype="float64"), t(dtype="float64"), grad_=False),
        Sample(t(3, 5), LOST, t(fill=(0.1)), SKIP, grad_=False, why_="nothing changes"),
        Sample(t(3, 5), t(3, 5), t(fill=(0.1)), GO, weight_decay=0.01, grad_=False),
    ),
    errors=(
        Bad(ShapeError, r"grad has shape \(5, 3\)", t(3, 5), t(5, 3), t()),
        Bad(ShapeError, r"rate has shape \(3,\)", t(3), t(3), t(3)),
        Bad(DTypeError, "grad is float64", t(3), t(3, dtype="float64"), t()),
    ),
    perf=(Perf(t(784, 128), t(784, 128), t(), name_="mlp"),),
    public=False,
)


def _sgd_momentum_update_rule(
    param: Aval, grad: Aval, buffer: Aval, rate: Aval, fresh: Aval, skip: Aval | None, **attrs: Any
) -> tuple[Aval, Aval]:
    _need_like("sgd_momentum_update", param, grad=grad, buffer=buffer, rate=rate, fresh=fresh, skip=skip)
    return param, param


_MOMENTUM = (t(3, 5), t(3, 5), t(3, 5), t(fill=(0.1)))
register(
    name="sgd_momentum_update",
    doc="""One step of stochastic gradient descent with momentum on one parameter; as torch.optim.SGD.

d = grad + weight_decay · param; buffer' = momentum · buffer + fresh · d; param' = param - rate · buffer', with nesterov
param - rate · (d + momentum · buffer'). The scalars rate and fresh come from `sgd_schedule`.""",
    signature="param, grad, buffer, rate, fresh, skip=None, momentum=0.9, weight_decay=0.0, nesterov=False",
    inputs=("param", "grad", "buffer", "rate", "fresh", "skip"),
    outputs=("new_param", "new_buffer"),
    returns=2,
    rule=_sgd_momentum_update_rule,
    inplace=True,
    batch="pointwise",
    samples=(
        Sample(*_MOMENTUM, t(fill=(0.75)), grad_=False),
        Sample(*_MOMENTUM, t(fill=(1.0)), momentum=0.5, weight_decay=0.1, nesterov=True, grad_=False),
        Sample(t(4, 6, layout="transposed"), t(4, 6, layout="strided"), t(4, 6), t(), t(), grad_=False),
        Sample(t(0, 3), t(0, 3), t(0, 3), t(), t(), grad_=False, why_="no elements"),
        Sample(*[t(7, dtype="float64")] * 3, *[t(dtype="float64")] * 2, grad_=False),
        Sample(t(3, 5), LOST, t(3, 5), t(), t(), SKIP, nesterov=True, grad_=False, why_="nothing changes"),
        Sample(*_MOMENTUM, t(fill=(0.75)), GO, grad_=False),
    ),
    errors=(
        Bad(ShapeError, r"buffer has shape \(5, 3\)", t(3, 5), t(3, 5), t(5, 3), t(), t()),
        Bad(DTypeError, "buffer is float64", t(3), t(3), t(3, dtype="float64"), t(), t()),
    ),
    perf=(Perf(t(784, 128), t(784, 128), t(784, 128), t(), t(), name_="mlp"),),
    public=False,
)


def _adam_schedule_rule(
    step: Aval, lr: Aval, skip: Aval | None, *, dtype: str, **attrs: Any
) -> tuple[Aval, Aval, Aval, Aval]:
    _need_clock("adam_schedule", step, lr, skip)
    scalar = Aval((), dtype)
    return step, scalar, scalar, scalar


register(
    name="adam_schedule",
    doc="""The scalars of an Adam step, bias corrections included, computed in float64 and rounded once.

With n = step + 1 and r = √(1 - beta2ⁿ): n, lr · r / (1 - beta1ⁿ), eps · r, and 1 - lr · weight_decay.""",
    signature="step, lr, skip=None, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.0, dtype='float32'",
    inputs=("step", "lr", "skip"),
    outputs=("next_step", "step_size", "small", "keep"),
    returns=4,
    rule=_adam_schedule_rule,
    samples=(
        Sample(t(dtype="int64", fill="zeros"), t(dtype="float64", fill=(1e-3)), grad_=False),
        Sample(t(dtype="int64", fill=(1000)), t(dtype="float64", fill=(1e-3)), weight_decay=0.1, grad_=False),
        Sample(t(dtype="int64", fill="ones"), t(dtype="float64", fill=(0.1)), dtype="float64", grad_=False),
        Sample(
            t(dtype="int64", fill="ones"), t(dtype="float64", fill=(0.1)), SKIP, grad_=False, why_="the count stays"
        ),
        Sample(t(dtype="int64", fill="ones"), t(dtype="float64", fill=(0.1)), GO, grad_=False),
    ),
    errors=(
        Bad(ShapeError, "a bool of shape", t(dtype="int64"), t(dtype="float64"), t(dtype="int64")),
        Bad(ShapeError, "scalars", t(2, dtype="int64", fill="ones"), t(dtype="float64")),
        Bad(DTypeError, "int64 and float64", t(), t(dtype="float64")),
    ),
    public=False,
    exempt={"adam_schedule": "one number"},
)


_MOMENTS = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq")


def _adam_rule(name: str, moments: tuple[str, ...]) -> Any:
    names = ("grad", *moments, "step_size", "eps", "keep", "skip")

    def rule(param: Aval, *others: Aval | None, **attrs: Any) -> tuple[Aval, ...]:
        _need_like(name, param, **dict(zip(names, others, strict=True)))
        return (param,) * (1 + len(moments))

    return rule


def _adam_samples(squares: int) -> tuple[Sample, ...]:
    def sample(*shape: int, dtype: str = "float32", layout: str = "c", **attrs: Any) -> Sample:
        own = [t(*shape, dtype=dtype, layout=layout) for _ in range(3)]
        positive = [t(*shape, dtype=dtype, fill="uniform", low=0.1, high=2.0)] * squares
        scalars = [t(dtype=dtype, fill=(v)) for v in (1e-2, 1e-8, 0.99)]
        return Sample(*own, *positive, *scalars, grad_=False, **attrs)

    lost = (t(3, 5), LOST, t(3, 5), *[t(3, 5)] * squares)
    ones = [t(3, 5, fill="ones")] * squares
    return (
        sample(3, 5),
        sample(3, 5, decoupled=True),
        sample(3, 5, weight_decay=0.1, beta1=0.5, beta2=0.9),
        sample(4, 6, layout="transposed"),
        sample(0, 3),
        sample(7, dtype="float64", decoupled=True),
        Sample(*lost, *_SCALARS, SKIP, decoupled=True, grad_=False, why_="nothing changes"),
        Sample(*[t(3, 5)] * 3, *ones, *_SCALARS, GO, weight_decay=0.1, grad_=False),
    )


_SCALARS = (t(), t(), t())
PACK = 16  # elements: where an array of a packed vector may begin; 64 bytes in float32


def packed_size(a: Aval) -> int:
    """Elements that an array takes in a packed vector."""
    return -(-a.size // PACK) * PACK


_BLOCK = (*[(128,)] * 4, (384, 128), (384,), (128, 128), (128,), (512, 128), (512,), (128, 512), (128,))
_PARAMETERS: dict[str, tuple[tuple[int, ...], ...]] = {
    "mlp": ((128, 64), (128,), (128, 128), (128,), (10, 128), (10,)),
    "cnn": ((16, 1, 3, 3), (16,), (32, 16, 3, 3), (32,), (64, 1568), (64,), (10, 64), (10,)),
    "gpt": ((96, 128), (64, 128), *_BLOCK * 4, (128,), (128,), (96, 128)),
}
for _name, _moments, _doc in (
    (
        "adam_update",
        _MOMENTS[:2],
        """One step of Adam or AdamW on one parameter; as torch.optim.

g = grad (+ weight_decay · param, which is Adam's kind of decay); exp_avg' = beta1 · exp_avg + (1 - beta1) · g;
exp_avg_sq' = beta2 · exp_avg_sq + (1 - beta2) · g²;
param' = keep · param - step_size · exp_avg' / (√exp_avg_sq' + eps).
The scalars step_size, eps and keep come from `adam_schedule`; keep is AdamW's decay and used if `decoupled`.""",
    ),
    (
        "amsgrad_update",
        _MOMENTS,
        """`adam_update` as AMSGrad (Reddi et al., 2018), torch.optim's amsgrad=True: in the step
max_exp_avg_sq' = max(max_exp_avg_sq, exp_avg_sq') takes the place of exp_avg_sq'.""",
    ),
):
    _beside = [t(3)] * len(_moments)
    register(
        name=_name,
        doc=_doc,
        signature=f"param, grad, {', '.join(_moments)}, step_size, eps, keep, skip=None, beta1=0.9, beta2=0.999, "
        "weight_decay=0.0, decoupled=False",
        inputs=("param", "grad", *_moments, "step_size", "eps", "keep", "skip"),
        outputs=("new_param", *(f"new_{m}" for m in _moments)),
        returns=1 + len(_moments),
        rule=_adam_rule(_name, _moments),
        inplace=True,
        batch="pointwise",
        samples=_adam_samples(len(_moments) - 1),
        errors=(
            Bad(ShapeError, r"grad has shape \(5, 3\)", t(3, 5), t(5, 3), *[t(3, 5)] * len(_moments), *_SCALARS),
            Bad(ShapeError, r"keep has shape \(3,\)", t(3), t(3), *_beside, t(), t(), t(3)),
            Bad(DTypeError, "grad is float64", t(3), t(3, dtype="float64"), *_beside, *_SCALARS),
            Bad(DTypeError, "floating-point", t(3, dtype="int64", fill="ones"), t(3), *_beside, *_SCALARS),
        ),
        perf=(
            *(
                Perf(
                    *[t(sum(packed_size(Aval(s, "float32")) for s in shapes))] * (2 + len(_moments)),
                    *_SCALARS,
                    name_=name,
                )
                for name, shapes in _PARAMETERS.items()
            ),
            Perf(*[t(784, 128)] * (2 + len(_moments)), *_SCALARS, decoupled=True),
        ),
        public=False,
    )


# --- vectors of all parameters ----------------------------------------------------------------------------------------


def _pack_rule(*arrays: Aval) -> Aval:
    if not arrays:
        raise ArgumentError("pack: the list of arrays is empty. Pass at least one array.")
    if any(a.dtype != arrays[0].dtype for a in arrays):
        raise DTypeError(f"pack: dtypes {', '.join(a.dtype for a in arrays)} differ. Pack one dtype at a time.")
    return Aval((sum(map(packed_size, arrays)),), arrays[0].dtype)


def _pack_places(strides: Any, *arrays: Aval) -> Any:
    if strides != (1,):
        return None
    starts = accumulate((packed_size(a) for a in arrays[:-1]), initial=0)
    return tuple((start, contiguous_strides(a.shape)) for start, a in zip(starts, arrays, strict=True))


register(
    name="pack",
    doc="""The elements of all arrays as one vector, each array in C order and followed by zeros up to a multiple of 16
elements.""",
    signature="arrays",
    inputs=("*arrays",),
    rule=_pack_rule,
    places=_pack_places,
    samples=(
        Sample(t(3, 5), t(7), grad_=False),
        Sample(t(16), t(), t(4, 4), grad_=False),
        Sample(t(0), t(2, 0, 3), t(1), grad_=False, why_="arrays without elements"),
        Sample(t(4, 6, layout="transposed"), t(4, 6, layout="strided"), t(3, layout="flipped"), grad_=False),
        Sample(*[t(17)] * 19, grad_=False, why_="more than one launch"),
        Sample(t(3, dtype="float64"), t(2, dtype="float64"), grad_=False),
        Sample(t(3, dtype="int64", fill="ints"), t(2, dtype="int64", fill="ints"), grad_=False),
    ),
    errors=(
        Bad(DTypeError, "float32, float64 differ", t(3), t(3, dtype="float64")),
        Bad(ArgumentError, "the list of arrays is empty"),
    ),
    perf=tuple(Perf(*(t(*s) for s in shapes), name_=name) for name, shapes in _PARAMETERS.items()),
    public=False,
)
