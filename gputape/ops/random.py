"""Cards of the random ops: counter-based, Philox-4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3",
SC 2011).

The generator state is an int64 array (seed, counter). Word w of the stream of a seed is word `w mod 4` of the Philox
block with counter words (b mod 2³², b div 2³², 0, 0), where b = w div 4, and key words (seed mod 2³², seed div 2³²). An
op with the static `offset` reads the words from counter + offset on; every card says which word feeds which element. So
the same (seed, counter, offset) gives the same numbers on every device, whatever the shape of the launch.
"""

from __future__ import annotations

import math
from typing import Any

from ..aval import FLOATS, Aval, need_float
from ..errors import ArgumentError, DTypeError, ShapeError
from ..registry import register
from ..samples import Bad, Perf, Sample, t

BITS = {"float16": 11, "bfloat16": 8, "float32": 24}  # random bits of a uniform that is made from one word


def words(size: int, dtype: str) -> int:
    """How many words `random_uniform` reads; also `random_normal`, for which an odd `size` counts as one more."""
    return size * (2 if dtype == "float64" else 1)


def _canon(name: str) -> Any:
    def canon(state: Aval, *, shape: Any, **attrs: Any) -> dict[str, Any]:
        listed = tuple(shape) if isinstance(shape, tuple | list) else (shape,)
        if any(isinstance(n, bool) or not isinstance(n, int) for n in listed):
            raise ArgumentError(f"{name}: shape {shape!r} must hold integers. Pass a tuple such as (2, 3).")
        if any(n < 0 for n in listed):
            raise ShapeError(f"{name}: shape {listed} has a negative size. Use sizes of 0 or more.")
        return {"shape": listed, **attrs}

    return canon


def check_state(name: str, state: Aval, offset: int, dtype: str = "float32") -> None:
    """Raise an error unless `state` is a generator's state and `offset` a number of words."""
    if state.dtype != "int64" or state.shape != (2,):
        raise DTypeError(f"{name}: the state is {state}, not int64 (seed, counter). Take it from a gt.Generator.")
    if isinstance(offset, bool) or not isinstance(offset, int) or offset < 0:
        raise ArgumentError(f"{name}: offset={offset!r} must be an integer of 0 or more. Count words from the state.")
    if dtype not in FLOATS:
        raise DTypeError(f"{name}: dtype {dtype!r} is not floating point. Use one of {', '.join(FLOATS)}.")


def check_p(name: str, p: float) -> None:
    """Raise `ArgumentError` unless `p` is a probability."""
    if isinstance(p, bool) or not isinstance(p, int | float) or not 0 <= p <= 1:
        raise ArgumentError(f"{name}: p={p!r} is not a probability. Use a number from 0 to 1.")


STATE = t(2, dtype="int64", fill=(7, 3))
_STRIDED = t(2, dtype="int64", fill=(7, 3), layout="strided")
SAMPLES = (
    Sample(STATE, shape=(3, 7)),
    Sample(STATE, shape=5, offset=1, why_="starts inside a block"),
    Sample(STATE, shape=()),
    Sample(STATE, shape=(0, 3)),
    Sample(
        t(2, dtype="int64", fill=(-5, 2**34 + 2)), shape=(11,), offset=2, why_="the second word of seed and counter"
    ),
    Sample(_STRIDED, shape=(1,)),
)
ERRORS = (
    Bad(DTypeError, "seed, counter", t(3, dtype="int64", fill="ones"), shape=(2,)),
    Bad(DTypeError, "seed, counter", t(2), shape=(2,)),
    Bad(ShapeError, "negative", STATE, shape=(2, -1)),
    Bad(ArgumentError, "integers", STATE, shape=(2.0,)),
    Bad(ArgumentError, "offset=-1", STATE, shape=(2,), offset=-1),
)
DTYPE_SAMPLES = tuple(Sample(STATE, shape=(5, 3), dtype=d, offset=3) for d in ("float64", "float16", "bfloat16"))
DTYPE_ERRORS = (Bad(DTypeError, "not floating point", STATE, shape=(2,), dtype="int64"),)


def _bits_rule(state: Aval, *, shape: tuple[int, ...], offset: int) -> Aval:
    check_state("random_bits", state, offset)
    return Aval(shape, "int64")


register(
    name="random_bits",
    doc="Random integers in [0, 2³²). Element i is word i.",
    signature="state, shape, offset=0",
    inputs=("state",),
    canon=_canon("random_bits"),
    rule=_bits_rule,
    samples=SAMPLES,
    errors=ERRORS,
    perf=(Perf(STATE, shape=(1024, 512)),),
    public=False,
)


def _float_rule(name: str) -> Any:
    def rule(state: Aval, *, shape: tuple[int, ...], dtype: str, offset: int) -> Aval:
        check_state(name, state, offset, dtype)
        return Aval(shape, dtype)

    return rule


register(
    name="random_uniform",
    doc="""Uniform numbers in [0, 1), exact multiples of 2⁻²⁴ (float16: 2⁻¹¹, bfloat16: 2⁻⁸, float64: 2⁻⁵³).

    Element i is the top 24 (11, 8) bits of word i, times 2⁻²⁴ (2⁻¹¹, 2⁻⁸). float64: the top 53 bits of
    word 2i · 2³² + word 2i+1, times 2⁻⁵³.""",
    signature='state, shape, dtype="float32", offset=0',
    inputs=("state",),
    canon=_canon("random_uniform"),
    rule=_float_rule("random_uniform"),
    samples=(*SAMPLES, *DTYPE_SAMPLES),
    errors=(*ERRORS, *DTYPE_ERRORS),
    perf=(Perf(STATE, shape=(1024, 512)),),
    public=False,
)

register(
    name="random_normal",
    doc="""Normal numbers of mean 0 and variance 1, by Box and Muller.

    Elements 2j and 2j+1 are r·cos θ and r·sin θ with r = √(-2 ln u), θ = 2π·v. u = word 2j · 2⁻³² + 2⁻³³, the word
    converted to float32 and the sum rounded to it; v = the top 24 bits of word 2j+1, times 2⁻²⁴. Computed in float32,
    within 2⁻¹⁹ of the exact value for that u and v (16-bit dtypes: then rounded).
    float64: u = (k + ½)·2⁻⁵³ and v = m·2⁻⁵³, k and m the top 53 bits of words (4j, 4j+1) and (4j+2, 4j+3); within
    2⁻⁴⁸.""",
    signature='state, shape, dtype="float32", offset=0',
    inputs=("state",),
    canon=_canon("random_normal"),
    rule=_float_rule("random_normal"),
    samples=(*SAMPLES, *DTYPE_SAMPLES),
    errors=(*ERRORS, *DTYPE_ERRORS),
    perf=(Perf(STATE, shape=(1024, 512)),),
    public=False,
)


def _mask_rule(name: str) -> Any:
    def rule(state: Aval, *, shape: tuple[int, ...], p: float, offset: int, dtype: str) -> Aval:
        check_state(name, state, offset, dtype)
        check_p(name, p)
        return Aval(shape, dtype)

    return rule


def threshold(p: float) -> int:
    """The number k for which `uniform < p` says `top 24 bits of the word < k`."""
    return math.ceil(p * 2**24)


def keep_factor(p: float) -> float:
    """What dropout multiplies the elements it keeps by: 1/(1-p), and 0 where it keeps none."""
    return 1 / (1 - p) if p < 1 else 0.0


for _name, _formula in (
    ("random_bernoulli", "1 where uniform < p, else 0"),
    ("dropout_mask", "0 where uniform < p, else 1/(1-p); p = 1 gives zeros"),
):
    register(
        name=_name,
        doc=f"{_formula}. `uniform` is float32's `random_uniform` whatever the dtype: element i reads word i.",
        signature='state, shape, p, offset=0, dtype="float32"',
        inputs=("state",),
        canon=_canon(_name),
        rule=_mask_rule(_name),
        samples=(
            *(Sample(s_.inputs[0], p=0.3, **s_.attrs) for s_ in SAMPLES),
            *(Sample(s_.inputs[0], p=0.5, **s_.attrs) for s_ in DTYPE_SAMPLES),
            Sample(STATE, shape=(9,), p=0.0),
            Sample(STATE, shape=(9,), p=1),
        ),
        errors=(
            *(Bad(b_.error, b_.match, b_.inputs[0], p=0.3, **b_.attrs) for b_ in (*ERRORS, *DTYPE_ERRORS)),
            Bad(ArgumentError, "not a probability", STATE, shape=(2,), p=1.5),
            Bad(ArgumentError, "not a probability", STATE, shape=(2,), p=float("nan")),
        ),
        perf=(Perf(STATE, shape=(1024, 512), p=0.1),),
        public=False,
    )


def _permutation_rule(state: Aval, *, n: int, offset: int) -> Aval:
    if isinstance(n, bool) or not isinstance(n, int) or n < 0:
        raise ArgumentError(f"random_permutation: n={n!r} must be an integer of 0 or more. Pass how many to permute.")
    check_state("random_permutation", state, offset)
    return Aval((n,), "int64")


register(
    name="random_permutation",
    doc="The integers 0 to n-1 in random order: a stable sort of the keys word 2i · 2³² + word 2i+1.",
    signature="state, n, offset=0",
    inputs=("state",),
    rule=_permutation_rule,
    samples=(Sample(STATE, n=11), Sample(STATE, n=1, offset=3), Sample(STATE, n=0), Sample(_STRIDED, n=5)),
    errors=(
        Bad(ArgumentError, "n=-1", STATE, n=-1),
        Bad(DTypeError, "seed, counter", t(2), n=3),
    ),
    public=False,
)


def _dropout_rule(input: Aval, *, p: float, training: bool) -> Aval:
    check_p("dropout", p)
    need_float("dropout", input=input)
    return input


def _dropout(F: Any, input: Any, *, p: float, training: bool) -> Any:
    if not training or p == 0:
        return input
    a = F.aval(input)
    state, offset = F.rng(a.size)
    return F.mul(input, F.dropout_mask(state, a.shape, p, offset, a.dtype))


register(
    name="dropout",
    doc="""Each element becomes 0 with probability p and is multiplied by 1/(1-p) otherwise. As torch's dropout.

    The identity unless `training`, and for p = 0. Takes one word of the generator per element.""",
    signature="input, p=0.5, training=True",
    inputs=("input",),
    rule=_dropout_rule,
    compose=_dropout,
    samples=(
        Sample(t(5, 7)),
        Sample(t(5, 7), p=0.1, training=False),
        Sample(t(5, 7), p=0),
        Sample(t(5, 7), p=1.0),
        Sample(t(), p=0.3),
        Sample(t(0, 3)),
        Sample(t(4, 6, layout="transposed"), p=0.7),
        Sample(t(7, dtype="float64")),
    ),
    errors=(
        Bad(ArgumentError, "p=1.5", t(3), p=1.5),
        Bad(ArgumentError, "p=-0.1", t(3), p=-0.1),
        Bad(DTypeError, "floating-point", t(3, dtype="int64", fill="ones")),
    ),
    perf=(Perf(t(1024, 512), p=0.1, name_="gpt hidden"),),
)
