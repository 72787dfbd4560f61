"""Device code of the random ops: four words of the stream per lane, so that a lane stores four elements in a row."""

import triton
import triton.language as tl


@triton.jit
def _words(state_ptr, offset, quad):
    """Words 4·quad to 4·quad + 3 of the stream that begins at counter + offset, for a block of quads.

    Where the stream begins inside a Philox block, a quad spans two of them.
    """
    first = tl.load(state_ptr + 1) + offset
    block = (first >> 2) + quad
    skip = (first & 3).to(tl.int32)
    w0, w1, w2, w3 = _philox(state_ptr, block)
    if skip > 0:
        n0, n1, n2, _ = _philox(state_ptr, block + 1)
        a0 = tl.where(skip == 1, w1, tl.where(skip == 2, w2, w3))
        a1 = tl.where(skip == 1, w2, tl.where(skip == 2, w3, n0))
        a2 = tl.where(skip == 1, w3, tl.where(skip == 2, n0, n1))
        a3 = tl.where(skip == 1, n0, tl.where(skip == 2, n1, n2))
        w0, w1, w2, w3 = a0, a1, a2, a3
    return w0, w1, w2, w3


@triton.jit
def _philox(state_ptr, block):
    """The four output words of Philox-4x32-10 for the counter (block, 0), the key being the seed."""
    low = block.to(tl.uint32)
    high = (block >> 32).to(tl.uint32)
    zero = low & 0
    return tl.philox(tl.load(state_ptr), low, high, zero, zero)


@triton.jit
def _in_a_row(a, b, c, d):
    """The elements a[0], b[0], c[0], d[0], a[1], …"""
    return tl.reshape(tl.join(tl.join(a, c), tl.join(b, d)), (4 * a.shape[0],))


@triton.jit
def _quads(BLOCK: tl.constexpr):
    return tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)


@triton.jit
def _elements(BLOCK: tl.constexpr):
    return tl.program_id(0).to(tl.int64) * (4 * BLOCK) + tl.arange(0, 4 * BLOCK)


@triton.jit
def random_bits(
    y_ptr,  # out (n) int64
    state_ptr,  # in (2) int64: seed, counter
    offset,  # 64-bit
    n,  # 64-bit
    BLOCK: tl.constexpr,  # lanes, four elements each
):
    a, b, c, d = _words(state_ptr, offset, _quads(BLOCK))
    at = _elements(BLOCK)
    tl.store(y_ptr + at, _in_a_row(a, b, c, d).to(tl.int64), mask=at < n)


@triton.jit
def random_uniform(
    y_ptr,  # out (n) float
    state_ptr,  # in (2) int64: seed, counter
    offset,  # 64-bit
    n,  # 64-bit
    unit,  # 2^-BITS
    BITS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    a, b, c, d = _words(state_ptr, offset, _quads(BLOCK))
    at = _elements(BLOCK)
    y = (_in_a_row(a, b, c, d) >> (32 - BITS)).to(tl.float32) * unit
    tl.store(y_ptr + at, y.to(y_ptr.dtype.element_ty), mask=at < n)


@triton.jit
def random_choice(
    y_ptr,  # out (n) float: `below` where the top 24 bits of the word are below `threshold`, else `above`
    state_ptr,  # in (2) int64: seed, counter
    offset,  # 64-bit
    n,  # 64-bit
    threshold,
    below,
    above,
    BLOCK: tl.constexpr,
):
    a, b, c, d = _words(state_ptr, offset, _quads(BLOCK))
    at = _elements(BLOCK)
    y = tl.where((_in_a_row(a, b, c, d) >> 8).to(tl.int32) < threshold, below, above)
    tl.store(y_ptr + at, y.to(y_ptr.dtype.element_ty), mask=at < n)


@triton.jit
def random_normal(
    y_ptr,  # out (n) float
    state_ptr,  # in (2) int64: seed, counter
    offset,  # 64-bit
    n,  # 64-bit
    BLOCK: tl.constexpr,
):
    a, b, c, d = _words(state_ptr, offset, _quads(BLOCK))
    at = _elements(BLOCK)
    cos0, sin0 = _box_muller(a, b)
    cos1, sin1 = _box_muller(c, d)
    tl.store(y_ptr + at, _in_a_row(cos0, sin0, cos1, sin1).to(y_ptr.dtype.element_ty), mask=at < n)


@triton.jit
def _box_muller(first, second):
    """r·cos θ and r·sin θ, with r² = -2 ln u and θ = 2π·v.

    The GPU's own logarithm and sine are too coarse where r or the result is near 0, and interpreters have others.
    """
    u = first.to(tl.float32) * 2.3283064365386963e-10 + 1.1641532182693481e-10
    r = tl.sqrt_rn(-2.0 * _log(u))
    turn = (second >> 8).to(tl.int32)  # v · 2^24
    quadrant = (turn + 0x200000) >> 22
    # The angle from the nearest quarter turn, in [-π/4, π/4]: exact up to the product.
    x = (turn - (quadrant << 22)).to(tl.float32) * 3.7450702829239286e-07
    z = x * x
    sin = x + x * z * (-1.6666654611e-1 + z * (8.3321608736e-3 + z * -1.9515295891e-4))
    cos = 1.0 - 0.5 * z + z * z * (4.166664568298827e-2 + z * (-1.388731625493765e-3 + z * 2.443315711809948e-5))
    swapped = (quadrant & 1) == 1
    first_sign = tl.where(((quadrant + 1) & 2) == 0, r, -r)
    second_sign = tl.where((quadrant & 2) == 0, r, -r)
    return tl.where(swapped, sin, cos) * first_sign, tl.where(swapped, cos, sin) * second_sign


@triton.jit
def _log(x):
    """ln x of a normal number: x = m · 2^e with m in [√½, √2), then the polynomial of Cephes' logf."""
    bits = x.to(tl.int32, bitcast=True) - 0x3F3504F3
    e = (bits >> 23).to(tl.float32)
    f = ((bits & 0x7FFFFF) + 0x3F3504F3).to(tl.float32, bitcast=True) - 1.0
    p = 7.0376836292e-2
    p = p * f - 1.1514610310e-1
    p = p * f + 1.1676998740e-1
    p = p * f - 1.2420140846e-1
    p = p * f + 1.4249322787e-1
    p = p * f - 1.6668057665e-1
    p = p * f + 2.0000714765e-1
    p = p * f - 2.4999993993e-1
    p = p * f + 3.3333331174e-1
    z = f * f
    tail = f * z * p + e * -2.12194440e-4 - 0.5 * z
    return f + tail + e * 0.693359375


@triton.jit
def random_keys(
    y_ptr,  # out (n) int64: word 2i · 2^32 + word 2i+1, less 2^63, which keeps the order
    state_ptr,  # in (2) int64: seed, counter
    offset,  # 64-bit
    n,  # 64-bit
    BLOCK: tl.constexpr,  # lanes, two elements each
):
    a, b, c, d = _words(state_ptr, offset, _quads(BLOCK))
    at = tl.program_id(0).to(tl.int64) * (2 * BLOCK) + tl.arange(0, 2 * BLOCK)
    even = _key(a, b)
    odd = _key(c, d)
    tl.store(y_ptr + at, tl.reshape(tl.join(even, odd), (2 * BLOCK,)), mask=at < n)


@triton.jit
def _key(upper, lower):
    return ((upper ^ 0x80000000).to(tl.int64) << 32) | lower.to(tl.int64)
