"""What the cards of convolution and pooling share: the shapes that go with windows, as integers."""

from __future__ import annotations

from typing import Any

from ..aval import Aval, need_float_yet, per_axis, window
from ..errors import ArgumentError, ShapeError

Ints = tuple[int, ...]
Pairs = tuple[tuple[int, int], ...]


def one_per_axis(op: str, name: str, value: Any, n: int, low: int) -> Ints:
    """`per_axis`, with the hint that belongs to windows."""
    try:
        return per_axis(op, name, value, n, low)
    except ArgumentError as e:
        raise ArgumentError(f"{e} Pass an integer, or {n} of them.") from None


def pairs(op: str, padding: Any, kernel: Ints, stride: Ints, dilation: Ints) -> Pairs:
    """Padding as (before, after) per axis: from an integer, one per axis, "valid", "same", or such pairs themselves.

    "same" keeps the size (stride 1 only); where the total is odd, the extra element goes after, as in PyTorch.
    """
    n = len(kernel)
    if padding == "valid":
        return ((0, 0),) * n
    if padding == "same":
        if any(s != 1 for s in stride):
            raise ArgumentError(f"{op}: padding='same' with stride {stride} has no defined size. Use stride 1.")
        totals = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
        return tuple((t // 2, t - t // 2) for t in totals)
    if isinstance(padding, str):
        raise ArgumentError(f"{op}: padding {padding!r} is unknown. Use 'same', 'valid' or integers.")
    if isinstance(padding, (tuple, list)) and padding and all(isinstance(p, (tuple, list)) for p in padding):
        if len(padding) != n or any(len(p) != 2 for p in padding):
            raise ArgumentError(f"{op}: padding={padding!r} must hold one (before, after) pair for each of {n} axes.")
        flat = [v for p in padding for v in p]
        if any(isinstance(v, bool) or not isinstance(v, int) or v < 0 for v in flat):
            raise ArgumentError(f"{op}: padding={padding!r} must hold integers of at least 0. Crop with slice instead.")
        return tuple((p[0], p[1]) for p in padding)
    return tuple((p, p) for p in one_per_axis(op, "padding", padding, n, 0))


def count(size: int, kernel: int, stride: int, pad: tuple[int, int], dilation: int) -> int:
    """Window positions along one padded axis: ⌊(size + before + after - dilation·(kernel-1) - 1) / stride⌋ + 1."""
    return (size + sum(pad) - dilation * (kernel - 1) - 1) // stride + 1


def transposed(size: int, kernel: int, stride: int, pad: tuple[int, int], dilation: int) -> int:
    """Output size of a transposed convolution: (size-1)·stride + dilation·(kernel-1) + 1 - before - after."""
    return (size - 1) * stride + dilation * (kernel - 1) + 1 - sum(pad)


def spatial(op: str, input: Aval, n: int) -> Ints:
    """The last `n` sizes of (C, *spatial) or (N, C, *spatial); `ShapeError` for another number of axes."""
    if input.ndim not in (n + 1, n + 2):
        raise ShapeError(
            f"{op}: input has shape {input.shape}, but (N, C, {n} spatial) or (C, {n} spatial) sizes are needed. "
            f"Give {n + 2} or {n + 1} axes."
        )
    return input.shape[input.ndim - n :]


def batched(F: Any, x: Any, n: int) -> tuple[Any, bool]:
    """`x` with a batch axis in front, and whether it had none."""
    shape = F.aval(x).shape
    return (F.reshape(x, (1, *shape)), True) if len(shape) == n + 1 else (x, False)


def unbatched(F: Any, y: Any, lone: bool) -> Any:
    """`y` without the batch axis that `batched` had added."""
    return F.reshape(y, F.aval(y).shape[1:]) if lone else y


def pool_options(
    op: str, n: int, kernel_size: Any, stride: Any, padding: Any = 0, dilation: Any = 1
) -> dict[str, Ints]:
    """The window of a pool as one integer per axis; stride None means the kernel size. Padding is at most half of the
    kernel size, as in PyTorch."""
    kernel = one_per_axis(op, "kernel_size", kernel_size, n, 1)
    given = kernel if stride is None or stride == () or stride == [] else stride
    options = {
        "kernel_size": kernel,
        "stride": one_per_axis(op, "stride", given, n, 1),
        "padding": one_per_axis(op, "padding", padding, n, 0),
        "dilation": one_per_axis(op, "dilation", dilation, n, 1),
    }
    if any(p > k // 2 for p, k in zip(options["padding"], kernel, strict=True)):
        raise ArgumentError(
            f"{op}: padding {options['padding']} is more than half of the window of {kernel}. "
            f"Use at most {tuple(k // 2 for k in kernel)}."
        )
    return options


def pooled(
    op: str,
    input: Aval,
    *,
    kernel_size: Ints,
    stride: Ints,
    padding: Ints,
    dilation: Ints,
    ceil_mode: bool = False,
    integers: bool = False,
) -> Aval:
    """The aval of a pool's result. `integers`: whether it takes them."""
    if not integers or input.dtype == "bool":
        need_float_yet(op, input=input)
    n = len(kernel_size)
    sizes = spatial(op, input, n)
    windows = zip(sizes, kernel_size, stride, padding, dilation, strict=True)
    out = tuple(window(*w, ceil_mode) for w in windows)
    if not input.shape[-n - 1]:
        raise ShapeError(f"{op}: input {input.shape} has no channels. Only the batch axis may be empty.")
    if min(out) < 1 or min(sizes) < 1:
        raise ShapeError(
            f"{op}: a window of {kernel_size} with dilation {dilation} does not fit the input of {sizes} with padding "
            f"{padding}. Use a smaller window."
        )
    return input.with_shape((*input.shape[: input.ndim - n], *out))
