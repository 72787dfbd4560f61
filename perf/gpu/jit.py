"""A kernel for Triton's own launcher; see `facts.own_driver`."""

import triton
import triton.language as tl


@triton.jit
def double(y_ptr, x_ptr, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(y_ptr + at, 2 * tl.load(x_ptr + at, mask=at < n, other=0.0), mask=at < n)
