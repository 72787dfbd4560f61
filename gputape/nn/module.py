"""Parameters, buffers, and the modules that hold them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from ..arrays import NP_DTYPE, as_array, asnumpy, memory_of
from ..aval import DTYPES, FLOATS, dtype_name
from ..backend import backend
from ..backend import device as _device
from ..errors import ArgumentError, CheckpointError, DTypeError, UnsupportedError
from ..variable import ACTIVE, Cell, refuse_while_compiling, unwrap


class Parameter(Cell):
    """An array that training changes. Recordings take gradients to it; optimizers write it.

    Args:
        value: the initial contents, floating point; copied.
        requires_grad: False freezes it.

    Raises:
        DTypeError: the value is not floating point.
    """

    __slots__ = ()

    def __init__(self, value: Any, requires_grad: bool = True, name: str | None = None) -> None:
        super().__init__(value, requires_grad, name)
        if not self.aval.is_float:
            raise DTypeError(
                f"Parameter: the value is {self.aval.dtype}, which has no gradients. "
                "Pass a floating-point array, or use Buffer."
            )


class Buffer(Cell):
    """An array that belongs to a module's state but gets no gradient (running statistics, masks).

    Args:
        persistent: whether `state_dict` contains it.
    """

    __slots__ = ("persistent",)

    def __init__(self, value: Any, persistent: bool = True, name: str | None = None) -> None:
        super().__init__(value, False, name)
        self.persistent = persistent


class KeyMismatch(NamedTuple):
    """What `load_state_dict(strict=False)` left out."""

    missing_keys: list[str]
    unexpected_keys: list[str]


class Module:
    """Base of all layers and models. As torch.nn.Module.

    Parameters, buffers and modules that are set as attributes belong to the module, in the order they were set; nothing
    else has to be declared. Subclasses define `forward`.
    """

    training = True

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The result for one input; subclasses define it."""
        kind = type(self).__name__
        near = [n for n in ("call", "__call__", "froward", "foward", "apply_fn") if n in vars(type(self))]
        hint = f" It has {near[0]!r}: rename that to forward." if near else ""
        raise UnsupportedError(f"{kind}: forward is missing. Define `def forward(self, x): …` in the class.{hint}")

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(vars(self).get(name), Cell) and not (value is None or isinstance(value, Cell)):
            raise ArgumentError(
                f"{type(self).__name__}: {name} is a {type(vars(self)[name]).__name__}, and a {type(value).__name__} "
                f"would take its place untrained. Write into it with {name}.assign(array), or set an nn.Parameter."
            )
        object.__setattr__(self, name, value)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        rec = ACTIVE.get()
        if rec is not None and rec.tracing:
            rec.depends(self._mode, self)
        return self.forward(*args, **kwargs)

    # --- what it holds

    def register_buffer(self, name: str, tensor: Any, persistent: bool = True) -> None:
        """Set a buffer; the attribute `nn.Buffer(tensor, persistent)` is the same."""
        self._register(name, None if tensor is None else Buffer(tensor, persistent))

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """Set a parameter, as setting the attribute does."""
        self._register(name, param)

    def add_module(self, name: str, module: Module | None) -> None:
        """Set a module, as setting the attribute does."""
        self._register(name, module)

    register_module = add_module

    def _register(self, name: str, value: Any) -> None:
        if not isinstance(name, str) or not name or "." in name:
            raise ArgumentError(f"{type(self).__name__}: {name!r} is no name for what it holds. Use one without dots.")
        if hasattr(self, name) and name not in vars(self):
            raise ArgumentError(f"{type(self).__name__}: {name!r} is an attribute of its class. Use another name.")
        setattr(self, name, value)

    def get_submodule(self, target: str) -> Module:
        """The module at a path as in `named_modules`; "" is this one."""
        return self._found(target, Module)

    def get_parameter(self, target: str) -> Parameter:
        """The parameter at a path as in `named_parameters`."""
        return self._found(target, Parameter)

    def get_buffer(self, target: str) -> Buffer:
        """The buffer at a path as in `named_buffers`."""
        return self._found(target, Buffer)

    def _found(self, target: str, kind: type) -> Any:
        found: Any = self
        for name in target.split(".") if target else ():
            found = vars(found).get(name) if isinstance(found, Module) else None
        if not isinstance(found, kind):
            raise ArgumentError(f"{type(self).__name__}: there is no {kind.__name__.lower()} {target!r} in it.")
        return found

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """(attribute name, module) of the modules held directly, each once."""
        seen: set[int] = set()
        for name, value in vars(self).items():
            if isinstance(value, Module) and id(value) not in seen:
                seen.add(id(value))
                yield name, value

    def children(self) -> Iterator[Module]:
        """The modules held directly."""
        return (m for _, m in self.named_children())

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """(path, module) of this module (path `prefix`) and all below, each once."""
        seen: set[int] = set()
        for path, module in self._walk(prefix):
            if id(module) not in seen:
                seen.add(id(module))
                yield path, module

    def modules(self) -> Iterator[Module]:
        """This module and all below, each once."""
        return (m for _, m in self.named_modules())

    def named_parameters(self, prefix: str = "", recurse: bool = True) -> Iterator[tuple[str, Parameter]]:
        """(path, parameter) of all parameters, a shared one once, under its first path. Labels them with that path."""
        for path, cell in self._named_cells(Parameter, prefix, recurse):
            if cell.name is None or len(path) > len(cell.name):
                cell.name = path
            yield path, cell

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """All parameters, a shared one once."""
        return (p for _, p in self.named_parameters(recurse=recurse))

    def named_buffers(self, prefix: str = "", recurse: bool = True) -> Iterator[tuple[str, Buffer]]:
        """(path, buffer) of all buffers, a shared one once."""
        return self._named_cells(Buffer, prefix, recurse)

    def buffers(self, recurse: bool = True) -> Iterator[Buffer]:
        """All buffers, a shared one once."""
        return (b for _, b in self.named_buffers(recurse=recurse))

    def _walk(self, prefix: str) -> Iterator[tuple[str, Module]]:
        """(path, module) in depth-first order; a shared module at each of its paths."""
        yield prefix, self
        for name, value in vars(self).items():
            if isinstance(value, Module):
                yield from value._walk(f"{prefix}.{name}" if prefix else name)

    def _named_cells(self, kind: type, prefix: str, recurse: bool) -> Iterator[tuple[str, Any]]:
        seen: set[int] = set()
        for path, module in self._walk(prefix) if recurse else [(prefix, self)]:
            for name, value in vars(module).items():
                if isinstance(value, kind) and id(value) not in seen:
                    seen.add(id(value))
                    yield f"{path}.{name}" if path else name, value

    # --- modes

    def _mode(self) -> list[Any]:
        """What decides which ops `forward` runs: `training`, plain attributes, and which parts the module has."""
        own = [(k, v) for k, v in vars(self).items() if isinstance(v, _DECISIVE)]
        return [self.training, *(k for k, _ in own), *(v for _, v in own)]

    def train(self, mode: bool = True) -> Module:
        """Switch dropout, batch norm and the like to training (or, with False, to inference)."""
        if any(module.training != bool(mode) for module in self.modules()):
            refuse_while_compiling(
                f"{type(self).__name__}: train({mode}) changes the mode", "Call it before the compiled function."
            )
        for module in self.modules():
            module.training = bool(mode)
        return self

    def eval(self) -> Module:
        """Switch to inference."""
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Module:
        """Freeze (False) or unfreeze all parameters."""
        for p in self.parameters():
            p.requires_grad = bool(requires_grad)
        return self

    def to(self, device: Any = None, dtype: Any = None) -> Module:
        """Move all parameters and buffers to a device, and cast the floating-point ones to a dtype. As
        torch.nn.Module.to.

        Args:
            device: "cuda", "cuda:1", "cpu", or a `gt.device`; a dtype is understood here too. None: they stay.
            dtype: "float32", "float64", "float16" or "bfloat16", or NumPy's. None: as they are.

        Raises:
            ArgumentError: an optimizer holds a parameter already. Move the model before it is made.
            DTypeError: a dtype that is not floating point.
            CompileError: a compiled function is recorded, whose replay would not repeat this.
        """
        if dtype is None and dtype_name(device) in DTYPES:
            device, dtype = None, device
        floats = dtype_name(dtype)
        if dtype is not None and floats not in FLOATS:
            raise DTypeError(f"to: parameters cannot be {dtype!r}. Use one of {', '.join(FLOATS)}.")
        place = None if device is None else (device.backend if isinstance(device, _device) else backend(device)).memory
        cells = [*self.parameters(), *self.buffers()]
        refuse_while_compiling(
            f"{type(self).__name__}: to() changes parameters", "Call it before the compiled function."
        )
        for cell in cells:
            if cell.pinned:
                raise ArgumentError(
                    f"to: {cell.name or 'a parameter'} belongs to an optimizer, whose state would stay behind. "
                    "Move the model first."
                )
        for cell in cells:
            memory = place or memory_of(cell.array)
            cell.array = memory.array(asnumpy(cell), floats if cell.aval.is_float else None, copy=True)
            cell.version += 1
        return self

    def float(self) -> Module:
        """Cast all floating-point parameters and buffers to float32."""
        return self.to(dtype="float32")

    def double(self) -> Module:
        """Cast all floating-point parameters and buffers to float64, for example to check gradients."""
        return self.to(dtype="float64")

    def apply(self, fn: Callable[[Module], Any]) -> Module:
        """Call `fn` on every module, children first."""
        for child in self.children():
            child.apply(fn)
        fn(self)
        return self

    # --- state

    def _state_cells(self) -> dict[str, Cell]:
        """Name → parameter or persistent buffer, in PyTorch's order: of each module parameters, then buffers."""
        found: dict[str, Cell] = {}
        for path, module in self._walk(""):
            own = vars(module).items()
            cells: list[tuple[str, Cell]] = [(n, v) for n, v in own if isinstance(v, Parameter)]
            cells += [(n, v) for n, v in own if isinstance(v, Buffer) and v.persistent]
            found |= {f"{path}.{n}" if path else n: v for n, v in cells}
        return found

    def state_dict(self) -> dict[str, np.ndarray]:
        """A copy of all parameters and persistent buffers, under PyTorch's names."""
        return {name: cell.numpy() for name, cell in self._state_cells().items()}

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> KeyMismatch:
        """Copy arrays into the parameters and buffers. Either all are written or, on an error, none.

        Args:
            state_dict: name → array, as `state_dict` gives it (PyTorch tensors do too). Cast to the module's dtypes.
            strict: whether names that are missing or unknown are an error.

        Raises:
            CheckpointError: names are missing or unknown (with `strict`), or a shape differs; lists all of them.
        """
        if not isinstance(state_dict, Mapping):
            raise CheckpointError(
                f"load_state_dict: expected a mapping from names to arrays, got {type(state_dict).__name__}. "
                "Pass the result of state_dict()."
            )
        cells = self._state_cells()
        missing = [n for n in cells if n not in state_dict]
        unexpected = [str(n) for n in state_dict if n not in cells]
        arrays = {n: _entry(n, state_dict[n]) for n in cells if n in state_dict}
        wrong = [
            f"{n} has shape {cells[n].shape} in the model and {a.shape} in the checkpoint"
            for n, a in arrays.items()
            if a.shape != cells[n].shape
        ]
        problems = [f"missing: {', '.join(missing)}"] if strict and missing else []
        problems += [f"unexpected: {', '.join(unexpected)}"] if strict and unexpected else []
        if problems or wrong:
            raise CheckpointError(
                f"load_state_dict: the checkpoint does not fit {type(self).__name__}: {'; '.join(problems + wrong)}. "
                "Build the model it was saved from, or pass strict=False to skip missing and unexpected names."
            )
        for name, array in arrays.items():
            cells[name].assign(array)
        return KeyMismatch(missing, unexpected)

    # --- printing

    def extra_repr(self) -> str:
        """The options of a layer, for printing."""
        return ""

    def __repr__(self) -> str:
        count = sum(p.size for p in self.parameters())
        tail = f"  # {count:,} parameters" if count else ""
        children = [(n, v) for n, v in vars(self).items() if isinstance(v, Module)]
        head = f"{type(self).__name__}({self.extra_repr()}"
        if not children:
            return f"{head}){tail}"
        lines = [f"  ({n}): " + repr(m).replace("\n", "\n  ") for n, m in children]
        return "\n".join([head + tail, *lines, ")"])


def _entry(name: str, value: Any) -> np.ndarray:
    """The array of one entry of a state dict."""
    try:
        return as_array(unwrap(value))
    except DTypeError as e:
        raise CheckpointError(f"load_state_dict: {name} cannot be read. {e}") from e


_DECISIVE = (bool, int, float, str, tuple, type(None), Cell, Module)


def whole(kind: str, name: str, value: Any, low: int) -> int:
    """A size as an int (NumPy's integers count); `ArgumentError` naming the layer if it is none or below `low`."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | np.integer) or value < low:
        raise ArgumentError(f"{kind}: {name}={value!r} must be an integer of at least {low}.")
    return int(value)


def not_in_place(module: Module, inplace: bool) -> None:
    """Raise `UnsupportedError` for the option that overwrites the input."""
    if inplace:
        raise UnsupportedError(
            f"{type(module).__name__}: inplace=True is not available; values on a tape never change. Leave it out, and "
            "use the result."
        )


def zeros(*shape: int) -> np.ndarray:
    """Float32 zeros, the usual contents of a parameter before it is initialised."""
    return np.zeros(shape, NP_DTYPE["float32"])
