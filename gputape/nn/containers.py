"""Modules and parameters under numbers or names: sequences, lists and dicts of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ..errors import ArgumentError
from .module import Module, Parameter


class _Indexed(Module):
    """Modules under the names "0", "1", …"""

    def __init__(self, modules: Iterable[Module] = ()) -> None:
        for module in modules:
            self.append(module)

    def _items(self) -> list[Module]:
        return [v for v in vars(self).values() if isinstance(v, Module)]

    def append(self, module: Module) -> Any:
        """Add a module at the end."""
        if not isinstance(module, Module):
            raise ArgumentError(
                f"{type(self).__name__}: {module!r:.60} is not a module. Pass nn modules, for example nn.ReLU()."
            )
        setattr(self, str(len(self)), module)
        return self

    def extend(self, modules: Iterable[Module]) -> Any:
        """Add modules at the end."""
        for module in modules:
            self.append(module)
        return self

    def __len__(self) -> int:
        return len(self._items())

    def __iter__(self) -> Iterator[Module]:
        return iter(self._items())

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return (
                type(self)(*self._items()[index]) if isinstance(self, Sequential) else type(self)(self._items()[index])
            )
        return self._items()[index]


class Sequential(_Indexed):
    """Modules applied one after another. As torch.nn.Sequential; a dict gives them names."""

    def __init__(self, *modules: Any) -> None:
        if len(modules) == 1 and isinstance(modules[0], Mapping):
            for name, module in modules[0].items():
                if not isinstance(module, Module):
                    raise ArgumentError(f"Sequential: {name} is {module!r:.60}, not a module. Pass nn modules.")
                setattr(self, name, module)
            return
        super().__init__(modules)

    def forward(self, input: Any) -> Any:
        for module in self._items():
            input = module(input)
        return input


class ModuleList(_Indexed):
    """A list of modules whose parameters belong to the model. As torch.nn.ModuleList."""


# --- lists and dicts --------------------------------------------------------------------------------------------------


class ModuleDict(Module):
    """Modules under names of their own, which belong to the model. As torch.nn.ModuleDict."""

    def __init__(self, modules: Any = ()) -> None:
        self.update(modules)

    def update(self, modules: Any) -> None:
        """Set the modules of a mapping, or of (name, module) pairs."""
        for name, module in modules.items() if hasattr(modules, "items") else modules:
            self[name] = module

    def __setitem__(self, name: str, module: Module) -> None:
        if not isinstance(module, Module):
            raise ArgumentError(f"ModuleDict: {name} is {module!r:.60}, not a module. Pass nn modules.")
        self._register(name, module)

    def __getitem__(self, name: str) -> Any:
        return _held(self, Module)[name]

    def __delitem__(self, name: str) -> None:
        _held(self, Module)[name]
        delattr(self, name)

    def __len__(self) -> int:
        return len(_held(self, Module))

    def __iter__(self) -> Iterator[str]:
        return iter(_held(self, Module))

    def __contains__(self, name: object) -> bool:
        return name in _held(self, Module)

    def keys(self) -> Iterable[str]:
        return _held(self, Module).keys()

    def values(self) -> Iterable[Any]:
        return _held(self, Module).values()

    def items(self) -> Iterable[tuple[str, Any]]:
        return _held(self, Module).items()


class ParameterList(Module):
    """Parameters under the names "0", "1", …; arrays become parameters. As torch.nn.ParameterList."""

    def __init__(self, values: Iterable[Any] = ()) -> None:
        self.extend(values)

    def append(self, value: Any) -> ParameterList:
        """Add a parameter at the end."""
        setattr(self, str(len(self)), _parameter(value))
        return self

    def extend(self, values: Iterable[Any]) -> ParameterList:
        """Add parameters at the end."""
        for value in values:
            self.append(value)
        return self

    def __len__(self) -> int:
        return len(_held(self, Parameter))

    def __iter__(self) -> Iterator[Parameter]:
        return iter(_held(self, Parameter).values())

    def __getitem__(self, index: int | slice) -> Any:
        found = list(self)[index]
        return ParameterList(found) if isinstance(found, list) else found


class ParameterDict(Module):
    """Parameters under names of their own; arrays become parameters. As torch.nn.ParameterDict."""

    def __init__(self, parameters: Any = ()) -> None:
        self.update(parameters)

    def update(self, parameters: Any) -> None:
        """Set the parameters of a mapping, or of (name, parameter) pairs."""
        for name, value in parameters.items() if hasattr(parameters, "items") else parameters:
            self[name] = value

    def __setitem__(self, name: str, value: Any) -> None:
        self._register(name, _parameter(value))

    def __getitem__(self, name: str) -> Parameter:
        return _held(self, Parameter)[name]

    def __len__(self) -> int:
        return len(_held(self, Parameter))

    def __iter__(self) -> Iterator[str]:
        return iter(_held(self, Parameter))

    def __contains__(self, name: object) -> bool:
        return name in _held(self, Parameter)

    def keys(self) -> Iterable[str]:
        return _held(self, Parameter).keys()

    def values(self) -> Iterable[Parameter]:
        return _held(self, Parameter).values()

    def items(self) -> Iterable[tuple[str, Parameter]]:
        return _held(self, Parameter).items()


def _held(module: Module, kind: type) -> dict[str, Any]:
    """What a module holds of one kind, by name, in the order it was set."""
    return {name: value for name, value in vars(module).items() if isinstance(value, kind)}


def _parameter(value: Any) -> Parameter:
    return value if isinstance(value, Parameter) else Parameter(value)
