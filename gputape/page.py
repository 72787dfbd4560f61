"""The names of the original API page (TorchLean's `TapeM`), with that page's argument order and exact shapes.

Each function takes the interpreter `F` and handles, checks the shapes the page asks for, and calls the registry. `Tape`
and `TapeM` carry them as methods; docs/page.md maps page name → `TapeM` → `gt.*` → PyTorch from this table.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .arrays import as_array, aval_of
from .aval import Aval
from .errors import DTypeError, ShapeError
from .functions import Functions


@dataclass(frozen=True)
class PageName:
    """One name of the page: what it was called there, our function, what it becomes, and PyTorch's comparison."""

    original: str
    function: Callable[..., Any]
    gt: str
    torch: str


PAGE: dict[str, PageName] = {}


def _page(original: str, gt: str, torch: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def add(function: Callable[..., Any]) -> Callable[..., Any]:
        PAGE[function.__name__.rstrip("_")] = PageName(original, function, gt, torch)
        return function

    return add


def _same(op: str, F: Functions, a: Any, b: Any) -> None:
    x, y = F.aval(a), F.aval(b)
    if x is y:
        return
    if x.shape != y.shape:
        raise ShapeError(
            f"{op}: the shapes {x.shape} and {y.shape} differ; the page's ops do not broadcast. "
            f'Use tape.op("{op}", a, b) for PyTorch\'s broadcasting, or give equal shapes.'
        )
    if x.dtype != y.dtype:
        raise DTypeError(f"{op}: the dtypes {x.dtype} and {y.dtype} differ. Cast one with tape.cast(x, dtype).")


def _shape(op: str, name: str, aval: Aval, want: tuple[Any, ...]) -> None:
    """Raise `ShapeError` unless the shape matches `want`: integers exactly, letters for any size."""
    fits = len(aval.shape) == len(want) and all(isinstance(w, str) or n == w for n, w in zip(aval.shape, want))
    if not fits:
        wanted = f"({', '.join(map(str, want))}{',' if len(want) == 1 else ''})"
        raise ShapeError(f"{op}: {name} has shape {aval.shape}, but {wanted} is needed. Reshape it, or use tape.op(…).")


# --- element-wise -----------------------------------------------------------------------------------------------------


@_page("add", "add", "torch.add(a, b)")
def add(F: Functions, a: Any, b: Any) -> Any:
    """a + b, of equal shapes."""
    _same("add", F, a, b)
    return F.add(a, b)


@_page("sub", "sub", "torch.sub(a, b)")
def sub(F: Functions, a: Any, b: Any) -> Any:
    """a - b, of equal shapes."""
    _same("sub", F, a, b)
    return F.sub(a, b)


@_page("mul", "mul", "torch.mul(a, b)")
def mul(F: Functions, a: Any, b: Any) -> Any:
    """a · b element by element, of equal shapes."""
    _same("mul", F, a, b)
    return F.mul(a, b)


@_page("scale", "scale", "torch.mul(x, c)")
def scale(F: Functions, x: Any, c: float) -> Any:
    """c · x for a plain number c."""
    return F.scale(x, c)


@_page("abs", "abs", "torch.abs(x)")
def abs_(F: Functions, x: Any) -> Any:
    """|x|; the gradient at 0 is 0."""
    return F.abs(x)


@_page("sqrt", "sqrt", "torch.sqrt(x)")
def sqrt(F: Functions, x: Any) -> Any:
    """√x; NaN below 0."""
    return F.sqrt(x)


@_page("clamp", "clamp", "torch.clamp(x, min, max)")
def clamp(F: Functions, x: Any, min: float, max: float) -> Any:
    """x limited to [min, max]; the gradient is 1 from bound to bound, both included."""
    return F.clamp(x, min, max)


@_page("max", "maximum", "torch.maximum(a, b)")
def max_(F: Functions, a: Any, b: Any) -> Any:
    """The larger of a and b, of equal shapes; half the gradient to each at a tie."""
    _same("max", F, a, b)
    return F.maximum(a, b)


@_page("min", "minimum", "torch.minimum(a, b)")
def min_(F: Functions, a: Any, b: Any) -> Any:
    """The smaller of a and b, of equal shapes; half the gradient to each at a tie."""
    _same("min", F, a, b)
    return F.minimum(a, b)


@_page("relu", "relu", "torch.nn.functional.relu(x)")
def relu(F: Functions, x: Any) -> Any:
    """max(x, 0); the gradient at 0 is 0."""
    return F.relu(x)


@_page("sigmoid", "sigmoid", "torch.sigmoid(x)")
def sigmoid(F: Functions, x: Any) -> Any:
    """1 / (1 + exp(-x))."""
    return F.sigmoid(x)


@_page("tanh", "tanh", "torch.tanh(x)")
def tanh(F: Functions, x: Any) -> Any:
    """tanh x."""
    return F.tanh(x)


@_page("softplus", "softplus", "torch.nn.functional.softplus(x)")
def softplus(F: Functions, x: Any) -> Any:
    """log(1 + exp x), computed stably."""
    return F.softplus(x)


@_page("exp", "exp", "torch.exp(x)")
def exp(F: Functions, x: Any) -> Any:
    """exp x."""
    return F.exp(x)


@_page("log", "log", "torch.log(x)")
def log(F: Functions, x: Any) -> Any:
    """ln x; -inf at 0, NaN below."""
    return F.log(x)


@_page("inv", "inv", "torch.reciprocal(x)")
def inv(F: Functions, x: Any) -> Any:
    """1 / x."""
    return F.inv(x)


@_page("safe_log", "safe_log", "–")
def safe_log(F: Functions, x: Any, eps: float = 1e-6) -> Any:
    """log(softplus(x) + eps)."""
    return F.safe_log(x, eps)


# --- reductions and losses --------------------------------------------------------------------------------------------


@_page("softmax", "softmax", "torch.softmax(x, dim=-1)")
def softmax(F: Functions, x: Any) -> Any:
    """Softmax over the last axis."""
    return F.softmax(x, -1)


@_page("sum", "sum", "torch.sum(x)")
def sum_(F: Functions, x: Any) -> Any:
    """The sum of all elements, of shape ()."""
    return F.sum(x)


@_page("mseLoss", "mse_loss", "torch.nn.functional.mse_loss")
def mse_loss(F: Functions, yhat: Any, target: Any) -> Any:
    """Mean of (yhat - target)², of equal shapes; both get a gradient if they require one."""
    _same("mse_loss", F, yhat, target)
    return F.mse_loss(yhat, target)


# --- linear algebra ---------------------------------------------------------------------------------------------------


@_page("linear", "linear", "torch.nn.functional.linear(x, w, b)")
def linear(F: Functions, w: Any, b: Any, x: Any) -> Any:
    """w · x + b for w (out, in), b (out,) and one vector x (in,)."""
    aval = F.aval(w)
    _shape("linear", "w", aval, ("out", "in"))
    _shape("linear", "b", F.aval(b), (aval.shape[0],))
    _shape("linear", "x", F.aval(x), (aval.shape[1],))
    return F.linear(x, w, b)


@_page("matmul", "matmul", "torch.matmul(a, b)")
def matmul(F: Functions, a: Any, b: Any) -> Any:
    """a · b for a (m, n) and b (n, p)."""
    aval = F.aval(a)
    _shape("matmul", "a", aval, ("m", "n"))
    _shape("matmul", "b", F.aval(b), (aval.shape[1], "p"))
    return F.matmul(a, b)


@_page("concatVectors", "cat", "torch.cat([a, b], dim=0)")
def concat_vectors(F: Functions, a: Any, b: Any) -> Any:
    """The vector b (m,) after the vector a (n,): (n + m,)."""
    _shape("concat_vectors", "a", F.aval(a), ("n",))
    _shape("concat_vectors", "b", F.aval(b), ("m",))
    return F.cat((a, b), 0)


# --- convolution and pooling ------------------------------------------------------------------------------------------


def _one_image(op: str, F: Functions, x: Any) -> None:
    _shape(op, "the input", F.aval(x), ("C", "H", "W"))


@_page("conv2d", "conv2d", "torch.nn.functional.conv2d(input, kernel, bias)")
def conv2d(F: Functions, kernel: Any, bias: Any, input: Any, stride: int = 1, padding: int = 0) -> Any:
    """Cross-correlation of one image (C, H, W) with kernel (out, C, kH, kW), plus bias (out,)."""
    _shape("conv2d", "kernel", F.aval(kernel), ("out", "C", "kH", "kW"))
    _shape("conv2d", "bias", F.aval(bias), (F.aval(kernel).shape[0],))
    _one_image("conv2d", F, input)
    return F.conv2d(input, kernel, bias, stride, padding)


@_page("convTranspose", "conv_transpose", "torch.nn.functional.conv_transpose{1,2,3}d(input, kernel, bias)")
def conv_transpose(
    F: Functions,
    kernel: Any,
    bias: Any,
    input: Any,
    name: str = "conv_transpose",
    stride: int | tuple[int, ...] = 1,
    padding: int | tuple[int, ...] = 0,
) -> Any:
    """Transposed convolution of one sample (C, *spatial), any number of spatial axes, with kernel (C, out, *k)."""
    k = F.aval(kernel)
    if k.ndim < 2:
        raise ShapeError(
            f"conv_transpose: kernel has shape {k.shape}, but (C, out, k…) is needed. Add the missing axes."
        )
    _shape("conv_transpose", "bias", F.aval(bias), (k.shape[1],))
    _shape("conv_transpose", "the input", F.aval(input), (k.shape[0], *(f"s{i}" for i in range(k.ndim - 2))))
    return F.named(F.conv_transpose(input, kernel, bias, stride, padding), name)


@_page("convTranspose2d", "conv_transpose2d", "torch.nn.functional.conv_transpose2d(input, kernel, bias)")
def conv_transpose2d(F: Functions, kernel: Any, bias: Any, input: Any, stride: int = 1, padding: int = 0) -> Any:
    """Transposed convolution of one image (C, H, W) with kernel (C, out, kH, kW), plus bias (out,)."""
    _shape("conv_transpose2d", "kernel", F.aval(kernel), ("C", "out", "kH", "kW"))
    _shape("conv_transpose2d", "bias", F.aval(bias), (F.aval(kernel).shape[1],))
    _one_image("conv_transpose2d", F, input)
    return F.conv_transpose2d(input, kernel, bias, stride, padding)


Size = int | tuple[int, int]


@_page("maxPool2d", "max_pool2d", "torch.nn.functional.max_pool2d")
def max_pool2d(F: Functions, x: Any, kernel_size: Size, stride: Size | None = None) -> Any:
    """The largest value of each window of one image (C, H, W); the first in row-major order takes the gradient."""
    _one_image("max_pool2d", F, x)
    return F.max_pool2d(x, kernel_size, stride)


@_page("maxPool2dPad", "max_pool2d", "torch.nn.functional.max_pool2d(padding=…)")
def max_pool2d_pad(F: Functions, x: Any, kernel_size: Size, stride: Size | None = None, padding: Size = 0) -> Any:
    """`max_pool2d` with padding that never wins."""
    _one_image("max_pool2d_pad", F, x)
    return F.max_pool2d(x, kernel_size, stride, padding)


@_page("smoothMaxPool2d", "smooth_max_pool2d", "–")
def smooth_max_pool2d(F: Functions, x: Any, beta: float, kernel_size: Size, stride: Size | None = None) -> Any:
    """(1/beta) · log Σ exp(beta · x) over each window of one image (C, H, W)."""
    _one_image("smooth_max_pool2d", F, x)
    return F.smooth_max_pool2d(x, kernel_size, beta, stride)


@_page("avgPool2d", "avg_pool2d", "torch.nn.functional.avg_pool2d")
def avg_pool2d(F: Functions, x: Any, kernel_size: Size, stride: Size | None = None) -> Any:
    """The mean of each window of one image (C, H, W)."""
    _one_image("avg_pool2d", F, x)
    return F.avg_pool2d(x, kernel_size, stride)


@_page("avgPool2dPad", "avg_pool2d", "torch.nn.functional.avg_pool2d(padding=…)")
def avg_pool2d_pad(F: Functions, x: Any, kernel_size: Size, stride: Size | None = None, padding: Size = 0) -> Any:
    """`avg_pool2d` with padding that counts: the divisor is always kH·kW."""
    _one_image("avg_pool2d_pad", F, x)
    return F.avg_pool2d(x, kernel_size, stride, padding)


# --- normalisation and attention --------------------------------------------------------------------------------------


@_page("layerNorm", "layer_norm", "torch.nn.LayerNorm")
def layer_norm(F: Functions, x: Any, gamma: Any, beta: Any, eps: float = 1e-5) -> Any:
    """Each row of x (rows, features) normalised, times gamma (features,), plus beta (features,)."""
    aval = F.aval(x)
    _shape("layer_norm", "x", aval, ("rows", "features"))
    _shape("layer_norm", "gamma", F.aval(gamma), aval.shape[1:])
    _shape("layer_norm", "beta", F.aval(beta), aval.shape[1:])
    return F.layer_norm(x, aval.shape[1:], gamma, beta, eps)


@_page("batchnormChannelFirst", "batchnorm_channel_first", "torch.nn.BatchNorm2d, training, one image")
def batchnorm_channel_first(F: Functions, x: Any, gamma: Any, beta: Any, eps: float = 1e-5) -> Any:
    """Each channel of one image (C, H, W) normalised over H·W, times gamma (C,), plus beta (C,)."""
    aval = F.aval(x)
    _one_image("batchnorm_channel_first", F, x)
    _shape("batchnorm_channel_first", "gamma", F.aval(gamma), aval.shape[:1])
    _shape("batchnorm_channel_first", "beta", F.aval(beta), aval.shape[:1])
    return F.batchnorm_channel_first(x, gamma, beta, eps)


@_page("multiHeadAttention", "multi_head_attention", "torch.nn.functional.scaled_dot_product_attention per head")
def multi_head_attention(
    F: Functions, wq: Any, wk: Any, wv: Any, wo: Any, x: Any, mask: Any = None, num_heads: int = 1
) -> Any:
    """Self-attention of one sequence x (n, d_model).

    wq, wk, wv are (d_model, heads·head_dim), wo (heads·head_dim, d_model).
    `mask` is an (n, n) array of booleans, rows are queries, True = may attend; a fully masked query gives zeros.
    """
    n, d = F.aval(x).shape if F.aval(x).ndim == 2 else (None, None)
    if n is None:
        _shape("multi_head_attention", "x", F.aval(x), ("n", "d_model"))
    width = F.aval(wq).shape[-1] if F.aval(wq).ndim == 2 else "heads·head_dim"
    for name, w in (("wq", wq), ("wk", wk), ("wv", wv)):
        _shape("multi_head_attention", name, F.aval(w), (d, width))
    _shape("multi_head_attention", "wo", F.aval(wo), (width, d))
    if mask is not None:
        given = aval_of(as_array(mask)).dtype
        if given != "bool":  # a mask of floats to add would mean the opposite
            raise DTypeError(
                f"multi_head_attention: mask is {given}, but bools are needed, True = may attend. Compare, for example "
                "mask == 0 for one that is added to scores."
            )
        mask = F.const(mask, "bool")
        _shape("multi_head_attention", "mask", F.aval(mask), (n, n))
    return F.multi_head_attention(wq, wk, wv, wo, x, mask, num_heads)
