"""Device code of the activations: one program per BLOCK elements of contiguous arrays."""

import triton
import triton.language as tl


@triton.jit
def relu(
    y_ptr,  # out (n) float
    x_ptr,  # in (n) float
    n,
    BLOCK: tl.constexpr,
):
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < n
    x = tl.load(x_ptr + at, mask=inside, other=0.0)
    y = tl.where(x <= 0, 0.0, x)  # in this direction NaN stays NaN
    tl.store(y_ptr + at, y.to(x.dtype), mask=inside)


@triton.jit
def relu_bwd(
    dx_ptr,  # out (n) float
    dy_ptr,  # in (n) float
    y_ptr,  # in (n) float: result of the forward pass
    n,
    BLOCK: tl.constexpr,
):
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < n
    dy = tl.load(dy_ptr + at, mask=inside, other=0.0)
    y = tl.load(y_ptr + at, mask=inside, other=0.0)
    dx = tl.where(y == 0, 0.0, dy)
    tl.store(dx_ptr + at, dx.to(dy.dtype), mask=inside)
