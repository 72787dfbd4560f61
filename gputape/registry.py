"""Op cards, and the one table that holds them.

A card says everything about an op but how its numbers are computed: names, signature, shape and dtype rule, gradient,
test samples. Bodies live in `cpu_fallback/` and `kernels/` under the op's name. The functions `gt.*`, the methods of
`Var`, `Tape` and `TapeM`, the tests, the perf rows and the docs tables are generated from this table.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from .aval import FLOATS, Aval, promote
from .errors import ArgumentError, UnsupportedError
from .numerics import tf32_allowed
from .samples import Bad, Perf, Sample


@dataclass(frozen=True, kw_only=True, eq=False)
class Op:
    """One op.

    Attributes:
        name: the op's only name; bodies, kernels, functions and methods carry it.
        doc: formula, shapes, dtypes, edge rules, source.
        signature: parameters as in Python source, in PyTorch's order and with its defaults where it has the function.
        inputs: which of the parameters are arrays, in the order bodies take them. A leading `*` marks a parameter that
            holds a sequence of arrays; it must be the only input. (If the signature has the `*`, too, they are given
            one by one, or as one list.)
        outputs: names of the arrays the body writes, in order.
        returns: how many of the outputs the user gets; the rest are kept for backward (mean, argmax, logsumexp).
        nullable: names of the inputs without a default that may still be None.
        promotes: names of the inputs that are brought to their common dtype first, by visible `cast` nodes.
        inexact: whether that common dtype is float32 where all are integers (a quotient).
        canon: `(*avals, **attrs) -> attrs`; negative axes, None and integers standing for tuples resolved.
            Must be idempotent. It sees inputs before and after they are brought to their common dtype.
        rule: `(*avals, **attrs) -> Aval | tuple of (Aval | None)`, one per output. Pure; the only author of output
            shapes and of shape and dtype errors. Runs after `canon`. Of a composed op the result is ignored.
        vjp: `(F, at, dy, *saved) -> gradient or tuple with one gradient (or None) per input`, written in ops through
            `F` (`F.mul(dy, b)`), so that it can be run, recorded and differentiated. `at` has `ins`, `outs` (avals),
            `attrs` and `needs` (one bool per input). With several outputs `dy` is a tuple with None where no gradient
            arrived. None if the op has no derivative (integer results, comparisons).
        saves: names of the inputs and outputs that `vjp` takes as `saved`.
        order: "any" if the vjp uses only ops of any order, 1 if gradients of gradients are refused.
        compose: `(F, *inputs, **attrs) -> result`; a composed op has no body and no vjp: it is the ops it calls.
        view: `(shape, strides, **attrs) -> (offset, strides) | None`, in elements; the output shares the input's memory
            unless None is returned. The body of a view op returns the view instead of writing an output.
        unview: `(strides, *avals, **attrs) -> strides | None`: the strides of an input whose view has these, where the
            view is of all elements.
        inplace: whether outputs may be the memory of inputs of their aval: bodies and kernels read each element before
            they write it.
        strided: names of the outputs that bodies and kernels also write where they are not in C order.
        places: `(strides, *avals, **attrs) -> ((offset, strides), …) | None`: the output only holds the inputs, each at
            this place of an output with those strides, and zeros between them. An input that is computed there needs
            no copy.
        infinite: whether results may be infinite for finite inputs, so that `gt.detect_anomaly` finds nothing in it.
        batch: the axis of each input, then of each output, along which the op works on samples independently; None for
            an array without one, "sum" for an output that adds them up. "pointwise" if the op is element-wise, "none"
            if it is not separable (as what names the place of an index that is out of range); a function
            `(*avals, **attrs)` of these if that depends.
        number: `(input, op)`: where a plain number is given for that input of `gt.<name>` or the method, `op` runs in
            its place, with the number as its attribute of that name beside others that it has. (`x ** 2` is a square,
            not a general power.)
        precision: what becomes of its floating-point inputs inside `gt.precision`, when users call it: "narrow" casts
            them to 16 bit (products, which sum in float32), "wide" to float32 (sums, norms, losses). None leaves them,
            but for 16-bit ones beside float32 ones, which become float32 too.
        variants: `(option, op)` for each option that another op takes: where it is given to `gt.<name>` or the method
            (and is not its default), `op` runs in the place of this one, with the same inputs, that option and others
            that it has. (`add` with alpha; what costs nothing where it is left out.)
        spellings: other keywords that PyTorch has for parameters. (`dim` and `keepdim` may always be `axis` and
            `keepdims`.)
        arrays: `(options, op)`: options that may be arrays, too: where `gt.<name>` or the method gets an array for one,
            `op` runs in the place of this one, with these options behind the other inputs, under the names it has for
            them. (`clamp` with a bound for each element, `max` of two arrays.)
        alone: `(op, options)`: the op that runs in the place of this one where it is given its first input alone.
            (`where(condition)` is `nonzero`.)
        flops: `(at) -> FLOPs` of the matrix products that the op is. None if it is none.
        samples, errors, perf: see `samples.py`.
        torch: dotted name of PyTorch's counterpart, whose recorded results the tests compare with.
        exempt: `{kernel: reason}`: device functions of the op that may lack matrix instructions or 16-byte accesses; as
            `name[CONSTANT=value]` only those with that constant. The compile gate refuses what nothing needs.
        public: False for the ops that only gradients and optimizers use.
    """

    name: str
    doc: str
    signature: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...] = ("y",)
    returns: int = 1
    promotes: tuple[str, ...] = ()
    inexact: bool = False
    nullable: tuple[str, ...] = ()
    canon: Callable[..., dict[str, Any]] | None = None
    rule: Callable[..., Any] | None = None
    vjp: Any = None
    saves: tuple[str, ...] = ()
    order: Any = "any"
    compose: Callable[..., Any] | None = None
    view: Callable[..., Any] | None = None
    unview: Callable[..., Any] | None = None
    inplace: bool = False
    infinite: bool = False
    strided: tuple[str, ...] = ()
    places: Callable[..., Any] | None = None
    batch: Any = "none"
    number: tuple[str, str] | None = None
    precision: str | None = None
    variants: tuple[tuple[str, str], ...] = ()
    spellings: dict[str, tuple[str, ...]] = field(default_factory=dict)
    arrays: tuple[tuple[str, ...], str] | None = None
    alone: tuple[str, dict[str, Any]] | None = None
    flops: Callable[[At], int] | None = None
    samples: Sequence[Sample] = ()
    errors: Sequence[Bad] = ()
    perf: Sequence[Perf] = ()
    torch: str | None = None
    exempt: dict[str, str] = field(default_factory=dict)
    public: bool = True
    # Derived from the fields above.
    names: tuple[str, ...] = field(init=False, repr=False)
    attrs: tuple[str, ...] = field(init=False, repr=False)
    variadic: bool = field(init=False, repr=False)
    several: bool = field(init=False, repr=False)
    heeds_precision: bool = field(init=False, repr=False)
    plain: bool = field(init=False, repr=False)
    saved_at: tuple[tuple[bool, int], ...] = field(init=False, repr=False)
    saved_inputs: tuple[int, ...] = field(init=False, repr=False)
    saved_outputs: tuple[int, ...] = field(init=False, repr=False)
    memo: dict[Any, At] = field(init=False, repr=False, default_factory=dict)

    def __post_init__(self) -> None:
        names = _names(self.signature)
        plain = tuple(name.lstrip("*") for name in self.inputs)
        derive = lambda name, value: object.__setattr__(self, name, value)  # noqa: E731 - the dataclass is frozen
        derive("names", names)
        derive("attrs", tuple(n for n in names if n not in plain and n not in dict(self.variants)))
        derive("variadic", self.inputs != plain)
        derive("several", len(self.outputs) > 1)
        several_inputs = self.variadic or len(plain) > 1
        derive("heeds_precision", self.precision is not None or (several_inputs and not self.promotes))
        derive("plain", self.compose is None and self.returns == 1)
        where = {name: (False, k) for k, name in enumerate(self.outputs)}
        where |= {name: (True, k) for k, name in enumerate(plain)}
        self._check(plain, where)
        if self.variadic and self.saves:  # a variadic op saves all its inputs or none
            derive("saved_at", ())
            derive("saved_inputs", (-1,))
            derive("saved_outputs", ())
            return
        derive("saved_at", tuple(where[name] for name in self.saves))
        derive("saved_inputs", tuple(k for is_input, k in self.saved_at if is_input))
        derive("saved_outputs", tuple(k for is_input, k in self.saved_at if not is_input))

    def _check(self, plain: tuple[str, ...], where: dict[str, Any]) -> None:
        gaps = [
            ("a docstring", bool(self.doc.strip())),
            ("inputs that are parameters of its signature", set(plain) <= set(self.names)),
            ("a rule or compose", self.rule is not None or self.compose is not None),
            ("no vjp beside compose", self.compose is None or self.vjp is None),
            ("saves that name inputs or outputs", set(self.saves) <= set(where)),
            ("distinct input and output names", len(where) == len(plain) + len(self.outputs)),
            ("order 1 or 'any'", self.order in (1, "any")),
            ("precision 'narrow', 'wide' or None", self.precision in ("narrow", "wide", None)),
            ("samples", bool(self.samples) or not self.public),
        ]
        missing = [what for what, fine in gaps if not fine]
        if missing:
            raise ArgumentError(f"register: the card of {self.name!r} lacks {'; '.join(missing)}. Complete the card.")

    def at(self, avals: tuple[Any, ...], values: tuple[Any, ...]) -> At:
        """The op at these input avals and attribute values: canonical attributes and output avals, memoised."""
        # The text tells apart what is equal: (2,), (2.0,) and (True,); 0.0 and -0.0
        key = (avals, values, repr(values)) if values else avals
        try:
            found = self.memo.get(key)
        except TypeError:  # a list among the attributes, or an array
            self._refuse_arrays(values)
            values = tuple(map(_hashable, values))
            key = (avals, values, repr(values))
            found = self.memo.get(key)
        if found is None:
            found = self._resolve(avals, values)
            if len(self.memo) >= 4096:  # shapes that never repeat must not pile up
                self.memo.clear()
            self.memo[key] = found
        return found.in_tf32() if self.precision == "narrow" and tf32_allowed() else found

    def _refuse_arrays(self, values: tuple[Any, ...]) -> None:
        """Raise `ArgumentError` for an option with axes, or one on a recording, where it would be a constant."""
        for name, value in zip(self.attrs, values, strict=True):
            if getattr(value, "shape", ()) != () or hasattr(value, "aval"):
                raise ArgumentError(
                    f"{self.name}: {name} is an array of shape {value.shape}, but an option is a plain Python value. "
                    f"Pass a number, for example {name}=float(value)."
                )

    def _resolve(self, avals: tuple[Any, ...], values: tuple[Any, ...]) -> At:
        if None in avals:
            self._refuse_none(avals)
        self._refuse_arrays(values)
        values = tuple(map(_plain, values))
        attrs = dict(zip(self.attrs, values, strict=True))
        if self.canon is not None:
            attrs = self.canon(*avals, **attrs)
        casts = self._casts(avals)
        if casts is not None:
            return At(self, avals, (), attrs, values, casts=casts)
        outs = self.rule(*avals, **attrs) if self.rule is not None else ()
        return At(self, avals, (outs,) if isinstance(outs, Aval) else tuple(outs or ()), attrs, values)

    def _refuse_none(self, avals: tuple[Any, ...]) -> None:
        """Raise `ArgumentError` for an array that is left out where one is needed."""
        if self.variadic:
            raise ArgumentError(f"{self.name}: array {avals.index(None)} is None. Pass arrays only.")
        needed = self.inputs if self.public else self.promotes
        required = {p.name for p in self.params if p.default is inspect.Parameter.empty}.difference(self.nullable)
        for name, a in zip(self.inputs, avals):
            if a is None and name in needed and name in required:
                raise ArgumentError(f"{self.name}: {name} is None. Pass an array.")

    @cached_property
    def params(self) -> tuple[inspect.Parameter, ...]:
        """The parameters of the signature."""
        scope: dict[str, Any] = {}
        exec(f"def stub({self.signature}): ...", scope)
        return tuple(inspect.signature(scope["stub"]).parameters.values())

    def _casts(self, avals: tuple[Any, ...]) -> tuple[str | None, ...] | None:
        """The dtype to cast each input to before the op, or None if nothing is to be cast."""
        if not self.promotes:
            return None
        joined = [a is not None and (self.variadic or p in self.promotes) for a, p in zip(avals, self._names(avals))]
        mixed = [a for a, j in zip(avals, joined, strict=True) if j]
        common = promote(*mixed) if mixed else ""
        if self.inexact and common not in FLOATS:
            common = "float32"
        if all(a.dtype == common for a in mixed):
            return None
        return tuple(common if j and a.dtype != common else None for a, j in zip(avals, joined, strict=True))

    def _names(self, avals: tuple[Any, ...]) -> tuple[str, ...]:
        return self.inputs * len(avals) if self.variadic else self.inputs

    def values(self, attrs: dict[str, Any]) -> tuple[Any, ...]:
        """Attribute values in signature order, with the defaults filled in; `ArgumentError` for unknown names."""
        unknown = set(attrs) - set(self.attrs)
        if unknown:
            raise ArgumentError(f"{self.name}: unknown option {sorted(unknown)}. It takes {', '.join(self.attrs)}.")
        defaults = {p.name: p.default for p in self.params}
        lacking = [a for a in self.attrs if a not in attrs and defaults[a] is inspect.Parameter.empty]
        if lacking:
            raise ArgumentError(f"{self.name}: option {lacking[0]} is missing. Pass {lacking[0]}=….")
        return tuple(attrs.get(a, defaults[a]) for a in self.attrs)

    def __repr__(self) -> str:
        return f"<op {self.name}({self.signature})>"


class At:
    """An op at given input avals and attributes. One object per combination, shared by all nodes that repeat it."""

    out: Any  # the first output's aval; only a card under construction has none

    __slots__ = (
        *("op", "ins", "outs", "attrs", "values", "needs", "casts", "out", "differentiable", "by_needs"),
        *("tf32", "_in_tf32"),
    )

    def __init__(
        self,
        op: Op,
        ins: tuple,
        outs: tuple,
        attrs: dict[str, Any],
        values: tuple,
        needs: tuple = (),
        casts: tuple[str | None, ...] | None = None,
    ) -> None:
        self.op, self.ins, self.outs, self.attrs, self.values = op, ins, outs, attrs, values
        self.needs, self.casts = needs, casts
        self.out = outs[0] if outs else None
        self.differentiable = op.vjp is not None and any(a is not None and a.is_float for a in outs)
        self.by_needs: dict[tuple[bool, ...], At] = {}
        self.tf32 = False
        self._in_tf32: At | None = None

    def with_needs(self, needs: tuple[bool, ...]) -> At:
        """The same with `needs` set: one bool per input, whether its gradient is wanted."""
        found = self.by_needs.get(needs)
        if found is None:
            found = self.by_needs[needs] = At(self.op, self.ins, self.outs, self.attrs, self.values, needs)
        return found

    def in_tf32(self) -> At:
        """The same, run under `gt.matmul_precision("high")`; itself if no input is float32."""
        found = self._in_tf32
        if found is None:
            found = self
            if any(a is not None and a.dtype == "float32" for a in self.ins):
                found = At(self.op, self.ins, self.outs, self.attrs, self.values, self.needs, self.casts)
                found.tf32 = True
            self._in_tf32 = found
        return found

    def __repr__(self) -> str:
        inside = [repr(a) for a in self.ins] + [f"{k}={v!r}" for k, v in self.attrs.items()]
        return f"{self.op.name}({', '.join(inside)}) -> {', '.join(map(repr, self.outs))}"

    def __reduce__(self):
        return _rebuild, (self.op.name, self.ins, self.outs, self.attrs, self.values)


def _rebuild(name: str, ins: tuple, outs: tuple, attrs: dict[str, Any], values: tuple) -> At:
    if name in STRUCTURAL:
        return At(STRUCTURAL[name], ins, outs, attrs, values)
    return get(name).at(ins, values)


def _plain(value: Any) -> Any:
    """An option with the numbers in it as Python's own (np.int64(2) → 2)."""
    if isinstance(value, (list, tuple)):
        return tuple(map(_plain, value))
    return value.item() if getattr(value, "shape", None) == () and hasattr(value, "item") else value


def _hashable(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return tuple(map(_hashable, value))
    return value.item() if hasattr(value, "shape") else value  # an array without axes


def _names(signature: str) -> tuple[str, ...]:
    """Parameter names of a signature, without building it."""
    args = ast.parse(f"lambda {signature}: 0", mode="eval").body.args  # type: ignore[attr-defined]
    rest = (args.vararg,) if args.vararg else ()
    return tuple(a.arg for a in (*args.posonlyargs, *args.args, *rest, *args.kwonlyargs))


# Nodes that no body computes: a value from outside, and output `index` of a node with several outputs.
STRUCTURAL = {
    name: Op(name=name, doc=doc, signature="", inputs=(), rule=tuple, vjp=tuple, public=False)
    for name, doc in (("leaf", "A value from outside the tape."), ("output", "A further output of a node."))
}

_ops: dict[str, Op] = {}
_listeners: list[Callable[[Op], None]] = []


def register(**fields: Any) -> Op:
    """Add a card (the fields of `Op`). Its functions and methods exist from here on, made when first asked for.

    Raises:
        ArgumentError: the name is taken, or the card is half filled.
    """
    op = Op(**fields)
    if op.name in _ops or op.name in STRUCTURAL:
        raise ArgumentError(f"register: an op named {op.name!r} exists already. Choose another name.")
    _ops[op.name] = op
    for listener in _listeners:
        listener(op)
    return op


def get(name: str) -> Op:
    """The card of that name; `ArgumentError` with the nearest names if there is none."""
    try:
        return _ops[name]
    except KeyError:
        import difflib

        near = difflib.get_close_matches(str(name), _ops, 3)
        hint = f"Did you mean {' or '.join(near)}?" if near else "`gputape ops` lists them."
        raise ArgumentError(f"registry: there is no op {name!r}. {hint}") from None


def ops() -> Iterator[Op]:
    """All cards, in order of registration."""
    return iter(tuple(_ops.values()))


def on_register(listener: Callable[[Op], None]) -> None:
    """Call `listener` with every card, those registered so far and those to come."""
    _listeners.append(listener)
    for op in ops():
        listener(op)


def find(name: str) -> Op | None:
    """The card of that name, or None."""
    return _ops.get(name)


def no_second_order(name: str) -> Callable[..., Any]:
    """The vjp of a backward op whose card claims order 1: refuses by name instead of giving a wrong zero."""

    def vjp(F: Any, at: At, *args: Any) -> Any:
        raise UnsupportedError(
            f"{name}: gradients of its gradients are not available (its card says order 1). "
            "Detach its result where you differentiate twice, or use an op of any order."
        )

    return vjp
