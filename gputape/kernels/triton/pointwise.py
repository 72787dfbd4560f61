"""Device functions that the formulas of the element-wise ops call: float32 in, float32 out, a few ulp.

Triton's own `exp` loses digits as the argument grows, and hyperbolic functions exist in libdevice only, which the
interpreter cannot run. NaN passes through all of them. Signs change by a product: Triton 3.6 makes -y of y = 0 a 0.
"""

import triton
import triton.language as tl

# --- exponentials -----------------------------------------------------------------------------------------------------
# exp(x) = 2ⁿ·(1 + p) with n = round(x / ln 2), r = x - n·ln 2 in two parts, p = exp(r) - 1 as its Taylor polynomial:
# |r| ≤ 0.35, so that degree 7 leaves 2e-8. Adding 1.5·2²³ rounds to an integer and shows it in the low bits.


@triton.jit
def power_of_2(n):
    return ((n + 127) << 23).to(tl.float32, bitcast=True)


@triton.jit
def exponent(x):
    """round(x / ln 2), shifted by 1.5·2²³."""
    return x * 1.4426950408889634 + 12582912.0


@triton.jit
def remainder(x, shifted):
    n = shifted - 12582912.0
    return x - n * 0.693145751953125 - n * 1.428606820309417e-06


@triton.jit
def polynomial(r):
    """exp(r) - 1."""
    p = r * 1.984126984e-4 + 1.388888889e-3
    p = p * r + 8.333333333e-3
    p = p * r + 4.166666667e-2
    p = p * r + 0.1666666667
    p = p * r + 0.5
    return p * r * r + r


@triton.jit
def exp(x):
    x = tl.where(x > 89.0, 89.0, x)
    x = tl.where(x < -104.0, -104.0, x)
    shifted = exponent(x)
    n = shifted.to(tl.int32, bitcast=True) - 0x4B400000
    half = n >> 1  # 2ⁿ itself may overflow where the product does not
    return (polynomial(remainder(x, shifted)) + 1.0) * power_of_2(half) * power_of_2(n - half)


@triton.jit
def expm1(x):
    x = tl.where(x > 89.0, 89.0, x)
    x = tl.where(x < -25.0, -25.0, x)
    shifted = exponent(x)
    half = power_of_2(shifted.to(tl.int32, bitcast=True) - 0x4B400001)  # 2ⁿ⁻¹, as 2¹²⁸ overflows
    y = (polynomial(remainder(x, shifted)) * half + (half - 0.5)) * 2.0
    return tl.where(x == 0.0, x, y)


@triton.jit
def log1p(x):
    """log(u) plus what 1 + x lost when it was rounded to u."""
    u = x + 1.0
    lost = (x - (u - 1.0)) / u
    y = tl.log(u) + tl.where((u > 0.0) & (u < float("inf")), lost, 0.0)
    return tl.where(x == 0.0, x, y)


# --- sigmoid and its relatives ----------------------------------------------------------------------------------------


@triton.jit
def sigmoid(x):
    """Where exp overflows the quotient is 0, and no tail cancels."""
    return tl.div_rn(1.0, exp(-x) + 1.0)


@triton.jit
def tanh(x):
    t = expm1(tl.abs(x) * -2.0)
    y = tl.div_rn(-t, t + 2.0)
    return tl.where(x > 0.0, y, tl.where(x < 0.0, y * -1.0, x))


@triton.jit
def log1p_exp(x):
    """log(1 + exp(-|x|))."""
    return log1p(exp(-tl.abs(x)))


@triton.jit
def softplus(x):
    """log(1 + exp(x))."""
    return tl.where(x < 0.0, 0.0, x) + log1p_exp(x)


@triton.jit
def silu_slope(x):
    s = sigmoid(x)
    return s * (x * (1.0 - s) + 1.0)


# --- gelu -------------------------------------------------------------------------------------------------------------


@triton.jit
def normal_cdf(x):
    return tl.erf(x * 0.7071067811865476) * 0.5 + 0.5


@triton.jit
def gelu_slope(x):
    """Φ(x) + x·φ(x)."""
    return normal_cdf(x) + x * (exp(x * -0.5 * x) * 0.3989422804014327)


@triton.jit
def gelu_gate(x):
    """½·(1 + tanh(u)) = sigmoid(2·u), u = √(2/π)·(x + 0.044715·x³)."""
    return sigmoid(x * (x * x * 0.07135481282 + 1.5957691216))


@triton.jit
def gelu_tanh_slope(x):
    """s + x·s·(1 - s)·2·u'."""
    s = gelu_gate(x)
    return s * (x * (1.0 - s) * (x * x * 0.21406443845 + 1.5957691216) + 1.0)


# --- the complement of the error function -----------------------------------------------------------------------------
# W. H. Press et al., "Numerical Recipes": erfc(z) = t·exp(-z² + P(t)), t = 1/(1 + z/2), to 1.2e-7 of it. z² is taken in
# two parts, the square of z's leading 12 bits being exact.


@triton.jit
def erfc(x):
    z = tl.abs(x)
    z = tl.where(z > 12.0, 12.0, z)
    t = tl.div_rn(1.0, z * 0.5 + 1.0)
    p = t * 0.17087277 - 0.82215223
    p = p * t + 1.48851587
    p = p * t - 1.13520398
    p = p * t + 0.27886807
    p = p * t - 0.18628806
    p = p * t + 0.09678418
    p = p * t + 0.37409196
    p = p * t + 1.00002368
    p = p * t - 1.26551223
    head = (z.to(tl.int32, bitcast=True) & -4096).to(tl.float32, bitcast=True)
    tail = t * exp(head * -1.0 * head) * exp((head - z) * (head + z) + p)
    return tl.where(z < 0.5, 1.0 - tl.erf(x), tl.where(x < 0.0, 2.0 - tail, tail))


# --- powers and rounding ----------------------------------------------------------------------------------------------


@triton.jit
def power(a, b):
    """As C's pow. float64 in between: b·log(a) must be right to 2⁻³⁰ beside 1, not beside itself."""
    y = tl.exp(tl.log(tl.abs(a).to(tl.float64)) * b.to(tl.float64)).to(tl.float32)
    infinite = float("inf")
    fraction = tl.floor(b) != b
    odd = b - 2.0 * tl.floor(b * 0.5) == 1.0
    y = tl.where(odd & (a.to(tl.int32, bitcast=True) < 0), y * -1.0, y)
    y = tl.where(fraction & (a < 0.0) & (a != -infinite), float("nan"), y)
    return tl.where((b == 0.0) | (a == 1.0) | ((a == -1.0) & (tl.abs(b) == infinite)), 1.0, y)


@triton.jit
def int_power(a, b):
    """Modulo the integers' range; a negative power is 1, -1 or 0."""
    left = tl.where(b > 0, b, 0) + a * 0
    square = a + left * 0
    y = square * 0 + 1
    for _ in range(63):
        y = tl.where((left & 1) == 1, y * square, y)
        square = square * square
        left = left >> 1
    unit = tl.where(a == 1, 1, tl.where(a == -1, 1 - 2 * (b & 1), 0))
    return tl.where(b < 0, unit, y)


@triton.jit
def round_even(x):
    """To the nearest integer, ties to even; from 2²³ on every float32 is one."""
    y = (tl.abs(x) + 8388608.0) - 8388608.0
    y = tl.where(tl.abs(x) < 8388608.0, y, tl.abs(x))
    return tl.where(x < 0.0, y * -1.0, tl.where(x > 0.0, y, x))


@triton.jit
def trunc(x):
    return tl.where(x < 0.0, tl.ceil(x), tl.floor(x))


# --- quotients and remainders -----------------------------------------------------------------------------------------


@triton.jit
def fmod(a, b):
    """Exact while |a/b| < 2⁴⁸: each step takes off a multiple of b that float64 holds."""
    x, y = tl.abs(a).to(tl.float64), tl.abs(b).to(tl.float64)
    for _ in tl.static_range(3):
        x -= tl.floor(x / y).to(tl.float32).to(tl.float64) * y
    x = tl.where(x < 0.0, x + y, x).to(tl.float32)
    infinite = float("inf")
    x = tl.where((tl.abs(b) == infinite) & (tl.abs(a) < infinite), tl.abs(a), x)
    return tl.where(a < 0.0, x * -1.0, x)


@triton.jit
def remainder_of(a, b):
    left = fmod(a, b)
    return tl.where((left != 0.0) & ((left < 0.0) != (b < 0.0)), left + b, left)


@triton.jit
def floor_divide(a, b):
    """As Python's: the quotient of a without its remainder, which is a whole number but for rounding."""
    left = fmod(a, b)
    y = tl.div_rn(a - left, b)
    y = tl.where((left != 0.0) & ((left < 0.0) != (b < 0.0)), y - 1.0, y)
    whole = tl.floor(y)
    whole = tl.where(y - whole > 0.5, whole + 1.0, whole)
    ratio = tl.div_rn(a, b)
    whole = tl.where(y == 0.0, ratio * 0.0, whole)
    return tl.where(b == 0.0, ratio, whole)


@triton.jit
def int_divide(a, b):
    """Rounded toward zero; 0 where b is 0."""
    return tl.where(b == 0, 0, a // tl.where(b == 0, 1, b)).to(a.dtype)


@triton.jit
def int_floor_divide(a, b):
    y = int_divide(a, b)
    left = a - y * b
    return tl.where((b != 0) & (left != 0) & ((left < 0) != (b < 0)), y - 1, y)


@triton.jit
def int_fmod(a, b):
    return tl.where(b == 0, 0, a - int_divide(a, b) * b).to(a.dtype)


@triton.jit
def int_remainder(a, b):
    left = int_fmod(a, b)
    return tl.where((left != 0) & ((left < 0) != (b < 0)), left + b, left)


# --- of two numbers, and of pieces ------------------------------------------------------------------------------------


@triton.jit
def logaddexp(a, b):
    top = tl.where(a > b, a, b)
    y = top + log1p_exp(a - b)
    return tl.where(a == b, a + 0.6931471805599453, y)  # also where both are the same infinity


@triton.jit
def hypot(a, b):
    """In float64, where no square of a float32 overflows."""
    x, y = a.to(tl.float64), b.to(tl.float64)
    infinite = float("inf")
    length = tl.sqrt(x * x + y * y).to(tl.float32)
    return tl.where((tl.abs(a) == infinite) | (tl.abs(b) == infinite), infinite, length)


@triton.jit
def nan_to_num(x, nan, posinf, neginf):
    y = tl.where(x != x, nan, x)
    y = tl.where(x == float("inf"), posinf, y)
    return tl.where(x == float("-inf"), neginf, y)


@triton.jit
def hard_gate(x):
    y = x + 3.0
    y = tl.where(y < 0.0, 0.0, tl.where(y > 6.0, 6.0, y))
    return tl.div_rn(y, 6.0)


@triton.jit
def mish_gate(x):
    """tanh(softplus(x)) = n/(n + 2), n = e·(e + 2), e = exp(x); 1 from x = 20 on."""
    e = exp(tl.where(x > 20.0, 20.0, x))
    n = e * (e + 2.0)
    return tl.div_rn(n, n + 2.0)


@triton.jit
def mish_slope(x):
    """t + x·(1 - t²)·sigmoid(x) = n/(n + 2) + x·4·e·(e + 1)/(n + 2)²."""
    x = tl.where(x > 20.0, 20.0, x)
    e = exp(x)
    m = e * (e + 2.0) + 2.0
    return tl.div_rn(m - 2.0, m) + tl.div_rn(tl.div_rn(e * (e + 1.0), m), m) * (x * 4.0)
