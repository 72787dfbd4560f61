"""A stand-in for CuPy whose device is the host: arrays that are no NumPy arrays and refuse to be taken for them.

With it everything of `cuda` runs without a GPU but cubins: what would mix host and device memory raises here as it
would there, and what a captured stream must not hold. Kernels go to the emulator.
"""

from __future__ import annotations

import sys
import types
import weakref

import fake_streams
import numpy as np
import pytest
from fake_streams import LOG, Log, current, here, need_here, refuse

from gputape import arrays, backend
from gputape.kernels import launch, runtime
from gputape.kernels.machine import cubin
from gputape.kernels.machine.compile import Cubin

ALIGNMENT = 512  # of CuPy's allocations


class Memory:
    """A block of device memory."""

    def __init__(self, block):
        self.block, self.size, self.device = block, block.nbytes, here()

    @property
    def ptr(self):
        return self.block.__array_interface__["data"][0]


class MemoryPointer:
    def __init__(self, mem, ptr):
        self.mem, self.ptr = mem, ptr

    def __add__(self, n):
        return MemoryPointer(self.mem, self.ptr + n)


class ndarray:
    """The part of cupy.ndarray that gputape uses, and the refusals that protect it."""

    def __init__(self, shape, dtype=float, memptr=None, strides=None):
        dtype, shape = np.dtype(dtype), (shape,) if isinstance(shape, int) else tuple(shape)
        if memptr is None:
            refuse("memory is allocated")
            block = np.full(int(np.prod(shape)) * dtype.itemsize + ALIGNMENT, 0xFF, np.uint8)  # NaN
            start = block.__array_interface__["data"][0]
            memptr = MemoryPointer(Memory(block), start + -start % ALIGNMENT)
        self.data = memptr
        block = memptr.mem.block
        start = memptr.ptr - block.__array_interface__["data"][0]
        self.a = np.ndarray(shape, dtype, block, start, strides) if 0 not in shape else np.empty(shape, dtype)
        self.base = None

    def _of(self, view):
        """Another array over the same memory."""
        made = object.__new__(ndarray)
        made.a, made.base = view, self if self.base is None else self.base
        made.data = MemoryPointer(self.data.mem, view.__array_interface__["data"][0])
        return made

    shape = property(lambda self: self.a.shape)
    dtype = property(lambda self: self.a.dtype)
    strides = property(lambda self: self.a.strides)
    itemsize = property(lambda self: self.a.itemsize)
    size = property(lambda self: self.a.size)
    ndim = property(lambda self: self.a.ndim)
    nbytes = property(lambda self: self.a.nbytes)
    T = property(lambda self: self._of(self.a.T))
    device = property(lambda self: Device(self.data.mem.device))

    @property
    def flags(self):
        return types.SimpleNamespace(c_contiguous=self.a.flags.c_contiguous, owndata=self.base is None)

    @property
    def __cuda_array_interface__(self):
        return self.a.__array_interface__ | {"version": 3, "stream": 1}

    def view(self, dtype=None):
        return self._of(self.a if dtype is None else self.a.view(dtype))

    def reshape(self, *shape):
        return self._of(self.a.reshape(*shape)) if self.a.flags.c_contiguous else copied(self.a.reshape(*shape))

    def transpose(self, *axes):
        return self._of(self.a.transpose(*axes))

    def astype(self, dtype, order="K"):
        need_here(self.device.id, "an array")
        return copied(self.a, dtype, order)

    def copy(self):
        need_here(self.device.id, "an array")
        return copied(self.a)

    def _now(self):
        """The contents, when the current stream has come so far."""
        refuse("an array is read")
        current().drain()
        return self.a

    def _write(self, index, value):
        refuse("an array is written by CuPy")
        need_here(self.device.id, "an array")

        def work():
            with np.errstate(all="ignore"):
                self.a[index] = value

        current().add(work)

    def get(self):
        return self._now().copy()

    def set(self, x):
        self._write(..., np.array(x))

    def fill(self, value):
        self._write(..., value)

    def nonzero(self):
        return tuple(put(x) for x in self._now().nonzero())

    def __len__(self):
        return len(self.a)

    def __getitem__(self, index):
        return self._of(self.a[index])

    def __setitem__(self, index, value):
        if isinstance(value, np.ndarray):
            raise TypeError(f"Unsupported type {type(value)}")
        self._write(index, value.a if isinstance(value, ndarray) else value)

    def __float__(self):
        return float(self._now())

    def __int__(self):
        return int(self._now())

    def __bool__(self):
        return bool(self._now())

    def __repr__(self):
        return repr(self._now())

    def __array__(self, *args, **kwargs):
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()` to construct one.")

    def __array_function__(self, function, *args):
        raise TypeError(f"{function.__name__} was called on a device array")

    def __array_ufunc__(self, ufunc, *args, **kwargs):
        raise TypeError(f"{ufunc.__name__} was called on a device array")

    def __dlpack__(self, **options):
        raise NotImplementedError

    def __dlpack_device__(self):
        return 2, self.device.id


def copied(a, dtype=None, order="C"):
    """A copy, on the current device, of what is on it; as CuPy makes it: "K" keeps the order of the axes."""
    like = np.empty_like(a, dtype, order)
    made = ndarray(a.shape, like.dtype)
    made = ndarray(a.shape, like.dtype, made.data, like.strides)
    made._write(..., a)
    return made


def put(x, order="C"):
    """A copy, on the current device, of an array of the host."""
    return copied(np.array(x), order=order)


def asarray(x):
    """The array itself if it is on the current device; else a copy, which like CuPy's keeps Fortran's order."""
    if isinstance(x, ndarray):
        return x if x.device.id == here() else put(x.get())
    return put(x, "K")


class Device:
    compute_capability = "90"

    def __init__(self, number=0):
        self.id, self.before = number, []

    def __enter__(self):
        self.before.append(here())
        fake_streams.enter(self.id)
        return self

    def __exit__(self, *exc):
        fake_streams.enter(self.before.pop())

    def synchronize(self):
        fake_streams.synchronize()


def module():
    """The module `cupy`."""
    cupy = types.ModuleType("cupy")
    cupy.ndarray = ndarray
    cupy.empty = ndarray
    cupy.full = lambda shape, value, dtype: put(np.full(shape, value, dtype))
    cupy.asarray, cupy.array = asarray, lambda x, order: put(x, order)
    cupy.broadcast_to = lambda x, shape: x._of(np.broadcast_to(x.a, shape))
    runtime_api = types.SimpleNamespace(getDeviceCount=lambda: 1, driverGetVersion=lambda: 13000)
    cupy.cuda = types.SimpleNamespace(
        Device=Device,
        runtime=runtime_api,
        Stream=fake_streams.Stream,
        Event=fake_streams.Event,
        get_current_stream=current,
    )
    return cupy


def loaded(kernel, args):
    """What tells apart what is loaded for a launch: the types, and which pointers and integers are multiples of 16."""
    kinds = [str(getattr(x, "dtype", type(x).__name__)) for x in args]
    return kernel, *kinds, *((x if np.isscalar(x) else x.data.ptr) % 16 == 0 for x in args)


def _now(x):
    return lambda: x.a


def _later(x):
    """What a graph knows of an array: its address. That somebody keeps the memory is none of its business."""
    mem, start, like = weakref.ref(x.data.mem), x.data.ptr, (x.shape, x.dtype)
    strides = x.strides

    def found():
        if mem() is None:
            raise RuntimeError("a graph uses memory that was freed")
        return np.ndarray(*like, mem().block, start - mem().ptr, strides)

    return found


@pytest.fixture
def fake_cuda(monkeypatch):
    """Inside a test: "cuda" is a device."""
    stream = runtime.EmulatedStream()
    LOG.__dict__.update(vars(Log()))

    def load(kernel, args, _):
        """What `cubin.load` gives: a function that runs the kernel on these arguments, in the emulator."""
        fake_streams.load(loaded(kernel, args))

        def function(grid, block, values, shared_mem):
            assert block == (kernel.threads, 1, 1) and len(values) == len(args)
            for x in args:
                if isinstance(x, ndarray):
                    need_here(x.device.id, "an array")
            read = _later if current().held is not None else _now
            given = [read(x) if isinstance(x, ndarray) else lambda x=x: x for x in args]
            run = launch._runner("emulated", kernel.route)

            def work():
                with np.errstate(all="ignore"):
                    run(kernel, grid, [x() for x in given], stream)

            fake_streams.launch(work)

        return (function, Cubin("", kernel.name, 0, kernel.threads, 0)), args

    monkeypatch.setitem(sys.modules, "cupy", module())
    monkeypatch.setattr(cubin, "load", load)
    monkeypatch.setattr(backend, "_backends", {k: v for k, v in backend._backends.items() if k != "cuda"})
    monkeypatch.setattr(arrays, "_memories", dict(arrays._memories))
    monkeypatch.setattr(runtime.Cuda, "_opened", {})
    return backend.backend("cuda")
