"""Device functions of the circular and hyperbolic functions and their inverses: float32 in, float32 out, a few ulp.

Triton has them in libdevice only, which the interpreter cannot run. NaN passes through all of them. The polynomials of
the inverse circular functions are those of Cephes (S. L. Moshier, 1992): asinf, atanf.
"""

import triton
import triton.language as tl

import gputape.kernels.triton.pointwise as fn


@triton.jit
def signed(y, x):
    """y ≥ 0 with the sign of x; x itself where that is 0 or NaN."""
    return tl.where(x > 0.0, y, tl.where(x < 0.0, y * -1.0, x))


# --- inverse circular -------------------------------------------------------------------------------------------------


@triton.jit
def small_asin(x):
    """asin(x) for 0 ≤ x ≤ ½."""
    z = x * x
    p = z * 4.2163199048e-2 + 2.4181311049e-2
    p = p * z + 4.5470025998e-2
    p = p * z + 7.4953002686e-2
    p = p * z + 1.6666752422e-1
    return p * z * x + x


@triton.jit
def asin(x):
    """asin(a) = π/2 - 2·asin(√((1 - a)/2)) above ½."""
    a = tl.abs(x)
    far = a > 0.5
    y = small_asin(tl.where(far, tl.sqrt_rn((1.0 - a) * 0.5), a))
    return signed(tl.where(far, 1.5707963267948966 - y * 2.0, y), x)


@triton.jit
def acos(x):
    a = tl.abs(x)
    y = small_asin(tl.where(a > 0.5, tl.sqrt_rn((1.0 - a) * 0.5), a))
    outer = tl.where(x > 0.0, y * 2.0, 3.141592653589793 - y * 2.0)
    inner = 1.5707963267948966 - tl.where(x < 0.0, y * -1.0, y)
    return tl.where(a > 0.5, outer, inner)


@triton.jit
def positive_atan(a):
    """atan(a) for a ≥ 0, by its values at 0, π/4 and π/2."""
    far, middle = a > 2.414213562373095, a > 0.4142135623730950
    x = tl.where(middle, tl.div_rn(a - 1.0, a + 1.0), a)
    x = tl.where(far, tl.div_rn(-1.0, a), x)
    z = x * x
    p = z * 8.05374449538e-2 - 1.38776856032e-1
    p = p * z + 1.99777106478e-1
    p = p * z - 3.33329491539e-1
    base = tl.where(far, 1.5707963267948966, tl.where(middle, 0.7853981633974483, 0.0))
    return p * z * x + x + base


@triton.jit
def atan(x):
    return signed(positive_atan(tl.abs(x)), x)


@triton.jit
def atan2(y, x):
    """Mirrored at the axes; the signs of zeros count."""
    a, b = tl.abs(y), tl.abs(x)
    both = (a == b) & ((a == 0.0) | (a == float("inf")))
    ratio = tl.where(both, tl.where(a == 0.0, 0.0, 1.0), tl.div_rn(a, b))
    angle = positive_atan(ratio)
    left = x.to(tl.int32, bitcast=True) < 0
    angle = tl.where(left, 3.141592653589793 - angle, angle)
    angle = tl.where(y.to(tl.int32, bitcast=True) < 0, angle * -1.0, angle)
    return tl.where((x != x) | (y != y), x + y, angle)


# --- hyperbolic -------------------------------------------------------------------------------------------------------


@triton.jit
def sinh(x):
    """½·(t + t/(t + 1)), t = exp(a) - 1; far out ½·exp(a/2)², since exp(a) overflows first."""
    a = tl.abs(x)
    t = fn.expm1(a)
    half = fn.exp(a * 0.5)
    return signed(tl.where(a < 80.0, (t + tl.div_rn(t, t + 1.0)) * 0.5, half * 0.5 * half), x)


@triton.jit
def cosh(x):
    a = tl.abs(x)
    e, half = fn.exp(a), fn.exp(a * 0.5)
    return tl.where(a > 80.0, half * 0.5 * half, (e + tl.div_rn(1.0, e)) * 0.5)


@triton.jit
def asinh(x):
    """log(a + √(a² + 1)) by log1p; log(2·a) where a² is too large."""
    a = tl.abs(x)
    near = tl.where(a > 1e9, 1.0, a)
    y = fn.log1p(near + tl.div_rn(near * near, tl.sqrt_rn(near * near + 1.0) + 1.0))
    return signed(tl.where(a > 1e9, tl.log(a) + 0.6931471805599453, y), x)


@triton.jit
def acosh(x):
    near = tl.where(x > 1e9, 1.0, x) - 1.0
    y = fn.log1p(near + tl.sqrt_rn(near * 2.0 + near * near))
    y = tl.where(x > 1e9, tl.log(x) + 0.6931471805599453, y)
    return tl.where(x < 1.0, float("nan"), y)


@triton.jit
def atanh(x):
    a = tl.abs(x)
    return signed(fn.log1p(tl.div_rn(a * 2.0, 1.0 - a)) * 0.5, x)
