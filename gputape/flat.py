"""A body on fixed arrays as the flat list of NumPy calls that it makes.

The body runs once on arrays that compute nothing: they note which function would have run on which of them. What it
does in Python (views, loops, choices by shape) is thereby done once and for all. A body that looks at numbers, or makes
arrays of them, cannot be noted: a replay would repeat what it saw. It is left as it is.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Call = Callable[[], Any]


class NotFlat(Exception):
    """The body does something that its arrays cannot note."""


def calls_of(body: Callable[..., Any], arrays: Sequence[Any], **options: Any) -> list[Call] | None:
    """The NumPy calls that `body(numpy, *arrays, **options)` makes; None if it depends on what the arrays hold.

    `options` may hold further arrays, as the list `scratch`. Nothing is computed.
    """
    calls: list[Call] = []
    if "scratch" in options:
        options = options | {"scratch": [_noted(a, calls) for a in options["scratch"]]}
    try:
        with np.errstate(all="ignore"):
            body(_XP, *[None if a is None else _noted(a, calls) for a in arrays], **options)
    except NotFlat:
        return None
    return calls


def as_one(f: Callable[..., None]) -> Callable[..., None]:
    """Mark a function of arrays whose call is noted as a whole, whatever it looks at. It returns nothing."""

    @functools.wraps(f)
    def marked(*args: Any) -> None:
        for x in args:
            if type(x) is _Noted:
                x.calls.append(functools.partial(f, *[np if a is _XP else _plain(a) for a in args]))
                return
        f(*args)

    return marked


def constant(f: Callable[..., Any]) -> Callable[..., Any]:
    """Mark a function `(xp, *args)` that reads no array: what it returns is made once and for all."""

    @functools.wraps(f)
    def marked(xp: Any, *args: Any) -> Any:
        return f(np if xp is _XP else xp, *args)

    return marked


class _Noted(np.ndarray):
    """An array that notes what is asked of it.

    Attributes:
        calls: where it notes.
        plain: the same memory as an ordinary array.
    """

    calls: list[Call]
    plain: np.ndarray

    def __array_finalize__(self, of: Any) -> None:
        if type(of) is _Noted:
            self.calls = of.calls

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, out: Any = None, **kwargs: Any) -> Any:
        if method == "at":
            self.calls.append(functools.partial(ufunc.at, *map(_plain, inputs)))
            return None
        if out is None or any(type(y) is not _Noted for y in out):
            raise NotFlat(f"{ufunc.__name__} without out=")
        kwargs = {k: _plain(v) for k, v in kwargs.items()}
        if method == "__call__":
            args, to = _numbers(inputs, kwargs), [_plain(y) for y in out]
            if ufunc in _EXTREMA:
                self.calls.append(functools.partial(ufunc, *args, out=to[0], **kwargs))
            else:
                self.calls.append(functools.partial(ufunc, *args, *to, **kwargs))
        else:
            given = out[0] if len(out) == 1 else out
            call = functools.partial(getattr(ufunc, method), *map(_plain, inputs), out=_plain(given), **kwargs)
            self.calls.append(call)
        return out[0] if len(out) == 1 else out

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if func is np.clip:  # written in Python: it calls the ufunc
            return super().__array_function__(func, types, args, kwargs)
        if func in _VIEWS:
            made = super().__array_function__(func, types, args, kwargs).view(_Noted)
            made.calls = self.calls
            return _checked(self, made)
        into = kwargs.get("out")
        if type(into) is _Noted or (func in _IN_PLACE and type(args[0]) is _Noted):
            args, kwargs = [_plain(a) for a in args], {k: _plain(v) for k, v in kwargs.items()}
            if func in _METHODS and isinstance(args[0], np.ndarray):  # without the dispatch of the function
                func, args = getattr(args[0], func.__name__), args[1:]
            self.calls.append(functools.partial(func, *args, **kwargs))
            return into
        raise NotFlat(func.__name__)

    def __getitem__(self, index: Any) -> Any:
        if any(isinstance(k, np.ndarray | list) for k in (index if type(index) is tuple else (index,))):
            raise NotFlat("an index array")
        return _checked(self, super().__getitem__(index))

    def __setitem__(self, index: Any, value: Any) -> None:
        part = self[index]
        self.calls.append(functools.partial(_plain(part).__setitem__, Ellipsis, _plain(value)))

    def reshape(self, *shape: Any, **options: Any) -> Any:  # type: ignore[override]
        return _checked(self, super().reshape(*shape, **options))

    def ravel(self, *order: Any) -> Any:
        return _checked(self, super().ravel(*order))

    def fill(self, value: Any) -> None:
        self.calls.append(functools.partial(_plain(self).fill, _plain(value)))


def _refusing(name: str) -> Any:
    def refuse(self: Any, *args: Any, **kwargs: Any) -> Any:
        raise NotFlat(name)

    return refuse


# What reads or copies numbers without asking `__array_ufunc__` or `__array_function__`.
for _name in (
    *("all", "any", "argmax", "argmin", "argpartition", "argsort", "astype", "byteswap", "choose", "compress"),
    *("copy", "cumprod", "cumsum", "diagonal", "dot", "flatten", "item", "max", "mean", "min", "nonzero", "partition"),
    *("prod", "put", "repeat", "round", "searchsorted", "sort", "std", "sum", "take", "tobytes", "tolist", "trace"),
    *("var", "__array__", "__bool__", "__complex__", "__contains__", "__float__", "__index__", "__int__", "__iter__"),
):
    setattr(_Noted, _name, _refusing(_name))

_EXTREMA = (np.maximum, np.minimum)  # which deprecate outputs by position, the faster way
_VIEWS = frozenset((np.broadcast_to, np.flip, np.moveaxis, np.swapaxes, np.atleast_1d, np.squeeze, np.expand_dims))
_METHODS = frozenset((np.take, np.put))
_IN_PLACE = frozenset((np.copyto, np.put))
_KNOWN = frozenset(f.__name__ for f in (*_VIEWS, *_METHODS, *_IN_PLACE, np.argmax, np.argmin, np.clip, np.cumsum)) | {
    *("inf", "nan", "pi", "finfo", "iinfo", "dtype", "arange", "uint32", "uint64", "int64"),
}


class _Functions:
    """NumPy as a body sees it while its calls are noted: what asks the arrays first, and what makes none of them."""

    def __getattr__(self, name: str) -> Any:
        found = getattr(np, name)
        if not (isinstance(found, np.ufunc) or name in _KNOWN):
            raise NotFlat(name)
        setattr(self, name, found)
        return found

    def ascontiguousarray(self, x: Any) -> Any:
        if type(x) is _Noted and not x.flags.c_contiguous:
            raise NotFlat("ascontiguousarray")
        return x if type(x) is _Noted else np.ascontiguousarray(x)

    def asarray(self, x: Any, dtype: Any = None) -> Any:
        if type(x) is _Noted:
            raise NotFlat("asarray")
        return np.asarray(x, dtype)


_XP = _Functions()


def _noted(array: Any, calls: list[Call]) -> Any:
    made = array.view(_Noted)
    made.calls, made.plain = calls, array
    return made


def _plain(x: Any) -> Any:
    """`x` as the replay gets it: ordinary arrays, made once."""
    if type(x) is _Noted:
        try:
            return x.plain
        except AttributeError:
            x.plain = x.view(np.ndarray)
            return x.plain
    return tuple(map(_plain, x)) if type(x) is tuple else [_plain(y) for y in x] if type(x) is list else x


def _checked(of: Any, view: Any) -> Any:
    """`view`, if it is one."""
    if type(view) is _Noted and (not view.size or np.may_share_memory(_plain(of), _plain(view))):
        return view
    raise NotFlat("a copy")


def _numbers(inputs: Sequence[Any], kwargs: dict[str, Any]) -> list[Any]:
    """The inputs of a ufunc, with Python's numbers as arrays of the dtype that they take beside the arrays: NumPy would
    convert them in every call."""
    given = [_plain(x) for x in inputs]
    dtypes = {x.dtype for x in given if isinstance(x, np.ndarray | np.generic)}
    if kwargs or len(dtypes) != 1 or (dtype := dtypes.pop()).kind != "f":
        return given
    return [np.array(x, dtype) if type(x) in (int, float) else x for x in given]
