"""Elementary functions without branches or calls, so that LLVM turns the loops that call them into vector code.

Numba has no vector math library: `math.exp` and the like in a loop are one scalar call an element. The functions
here are polynomials and selects. Each takes float32 or float64, compiled or called from Python (where any other
number is taken as float64). Each states its largest error in ulp, the spacing of floats at the exact value, as
(float32, float64); where results are below the normal numbers, ulp is the spacing there. NaN gives NaN.
The tests measure these bounds and derive the polynomials, which interpolate at Chebyshev nodes, again.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from stabsim.kernels.precision import (
    Scalar,
    by_precision,
    elementary,
    leading_half,
    mantissa,
    nearest,
    polynomial,
    power_of_two,
    quadrant,
)

# exp is 0 below the first and inf above the second.
_exp_range = by_precision(lambda _x: (np.float32(-104), np.float32(89)), lambda _x: (-746.0, 710.0))

# fmt: off
_exp_polynomial = polynomial(  # (exp(r) - 1 - r) / r^2 on |r| <= 0.35
    (0.00139269268, 0.00836377405, 0.0416665487, 0.166665733, 0.5),
    (2.510134692835034e-08, 2.7621338669142925e-07, 2.75572664186123e-06, 2.4801518641395993e-05,
     0.00019841269864380513, 0.0013888888918939168, 0.008333333333329793, 0.04166666666662064,
     0.16666666666666669, 0.5000000000000001),
)
_log_single = polynomial(  # (log(1 + f) - f + f^2 / 2) / f^3 on sqrt(1/2) <= 1 + f <= sqrt(2)
    (0.0697161183, -0.114797339, 0.116854198, -0.124256872, 0.142490581, -0.166678026, 0.200007156, -0.24999997,
     0.333333313), (),
)
_log_double = polynomial(  # (2 artanh(s) - 2 s) / s^3 in s^2, on |s| <= 3 - sqrt(8)
    (), (0.14616449685043406, 0.15331721600556042, 0.18182889125261723, 0.2222221113479508, 0.28571428625975487,
         0.39999999999899505, 0.666666666666667),
)
_sin_polynomial = polynomial(  # (sin(t) - t) / t^3 in t^2, on |t| <= pi / 4
    (-0.000195878907, 0.00833274797, -0.166666642),
    (1.5918129294866608e-10, -2.5051131845003624e-08, 2.755731610255244e-06, -0.00019841269836758574,
     0.008333333333330948, -0.16666666666666666),
)
_cos_polynomial = polynomial(  # (cos(t) - 1 + t^2 / 2) / t^4 in t^2, on |t| <= pi / 4
    (2.45479423e-05, -0.00138883025, 0.0416666642),
    (-1.1382632425521717e-11, 2.08761462684032e-09, -2.7557317271729793e-07, 2.480158729876569e-05,
     -0.0013888888888887398, 0.041666666666666664),
)
_tanh_polynomial = polynomial(  # (tanh(x) - x) / x^3 in x^2, on |x| <= 0.625
    (-0.00609671418, 0.0209971797, -0.0538509078, 0.133327693, -0.333333284),
    (-1.724487449484433e-05, 7.959955735264808e-05, -0.00023077616269519857, 0.0005874372860094381,
     -0.001455309297534642, 0.0035920589774734554, -0.008863229830925709, 0.021869488260559115,
     -0.05396825396139557, 0.13333333333326658, -0.3333333333333332),
)
_erf_polynomial = polynomial(  # erf(x) / x - 1 in x^2, on |x| <= 1
    (7.87587487e-05, -0.00080168643, 0.00518908724, -0.0268542115, 0.112835944, -0.37612626, 0.128379166),
    (-7.795898827002142e-10, 1.3720064546777686e-08, -1.6208483801871705e-07, 1.6447424703317362e-06,
     -1.492473690741966e-05, 0.00012055294904839707, -0.0008548325975389692, 0.0052239776071164225,
     -0.02686617064323777, 0.11283791670945006, -0.37612638903183543, 0.12837916709551256),
)
_scaled_erfc_polynomial = polynomial(  # (x + c) exp(x^2) erfc(x) in (x - c) / (x + c), on 0 <= x <= 10.2 (27.5)
    (-0.000333824515, -0.000499071262, 0.00307808351, -0.00121696445, -0.0268366765, 0.119527221, -0.310466617,
     0.590228438, -0.88339448, 1.07400692),
    (3.293682463397327e-09, 9.031017983964218e-09, -2.1774410583489834e-08, -8.349318749998197e-08,
     1.1621592025478326e-07, 5.505253540897674e-07, -7.964822404914152e-07, -3.3920367839087342e-06,
     7.244222809393519e-06, 1.8647198808567475e-05, -7.477710555963672e-05, -4.2062167567124515e-05,
     0.0007145316870789162, -0.0013053546913654316, -0.0031770503425422435, 0.026518619881630366,
     -0.09231870663851531, 0.22573862164741204, -0.4352560267168871, 0.6941136466346444,
     -0.937799724567112, 1.08705558926226),
)
_inverse_erf_polynomial = polynomial(  # inverse_erf(x) / x in -log(1 - x^2), up to 2.5
    (-3.1526821e-07, -1.90563082e-06, 5.57951171e-05, -0.000139280834, -0.00232779561, 0.0115470337, 0.232013941,
     0.886226892),
    (1.7835742357331338e-13, -3.986239173760436e-12, 3.3231344431618506e-11, -8.283183700397564e-11,
     -3.7376890529077257e-10, 5.045649711973316e-10, 2.310201787139448e-08, -3.7578524308348364e-08,
     -1.012362822579771e-06, 2.019895406776847e-06, 4.6611472203413406e-05, -0.00012804330143077047,
     -0.002335101640623898, 0.011549342038198938, 0.23201366653465658, 0.886226925452758),
)
# fmt: on


@elementary
def _exp_parts(x: Scalar, correction: Scalar) -> Any:
    """Write exp(x + correction) as (1 + p) 2^n: p, n; the correction is small."""
    T = type(x)
    lowest, highest = _exp_range(x)
    x = lowest if x < lowest else (highest if x > highest else x)
    n = nearest((x + correction) * T(1.4426950408889634))
    r = ((x - n * T(0.693359375)) + correction) + n * T(0.00021219444005469057)
    return r + r * r * _exp_polynomial(r), n


@elementary
def _exp_sum(x: Scalar, correction: Scalar) -> Any:
    """exp(x + correction), scaled in two steps since 2^n alone may be no normal number."""
    p, n = _exp_parts(x, correction)
    half = nearest(n * type(x)(0.5))
    return ((p + type(x)(1)) * power_of_two(half)) * power_of_two(n - half)


@elementary
def exp(x: Scalar) -> Any:
    """exp(x). Error: 1.1, 1.2 ulp."""
    return _exp_sum(x, type(x)(0))


@elementary
def expm1(x: Scalar) -> Any:
    """exp(x) - 1. Error: 2.0, 2.0 ulp."""
    T = type(x)
    p, n = _exp_parts(x, T(0))
    half = nearest(n * T(0.5))
    first = power_of_two(half)
    return (p * first + (first - power_of_two(half - n))) * power_of_two(n - half)


@elementary
def _exp_of_square(x: Scalar, factor: Scalar) -> Any:
    """exp(-factor x^2) for a factor of 1/2 or 1, where rounding x^2 would cost x^2 / 2 ulp."""
    T = type(x)
    a = T(40) if abs(x) > T(40) else abs(x)
    leading = leading_half(a)
    return _exp_sum(-factor * (leading * leading), -factor * ((a - leading) * (a + leading)))


@elementary
def gaussian(x: Scalar) -> Any:
    """exp(-x^2 / 2). Error: 1.3, 1.3 ulp."""
    return _exp_of_square(x, type(x)(0.5))


@elementary
def exp_minus_square(x: Scalar) -> Any:
    """exp(-x^2). Error: 1.3, 1.3 ulp."""
    return _exp_of_square(x, type(x)(1))


def _log_sum_single(f: Scalar, k: Scalar) -> Any:
    low = f * f * f * _log_single(f) - k * np.float32(0.00021219444)
    return f + (low - np.float32(0.5) * f * f) + k * np.float32(0.693359375)


def _log_sum_double(f: Scalar, k: Scalar) -> Any:
    # fdlibm's form (Sun Microsystems 1993, e_log.c), which needs fewer terms but a division.
    s = f / (f + 2.0)
    half_square = 0.5 * f * f
    low = s * (half_square + s * s * _log_double(s * s)) - k * 0.00021219444005469057
    return k * 0.693359375 - ((half_square - low) - f)


_log_sum = by_precision(_log_sum_single, _log_sum_double)  # log(1 + f) + k log(2)


@elementary
def log(x: Scalar) -> Any:
    """log(x) of a positive normal number; anything else gives nonsense. Error: 0.8, 0.8 ulp."""
    m, k = mantissa(x)
    return _log_sum(m - type(x)(1), k)


@elementary
def log1p(x: Scalar) -> Any:
    """log(1 + x) for 0 <= x <= 1. Error: 1.4, 1.4 ulp."""
    T = type(x)
    large = x > T(0.41421356)
    return _log_sum((x - T(1)) * T(0.5) if large else x, T(1) if large else T(0))


@elementary
def tanh(x: Scalar) -> Any:
    """tanh(x). Error: 1.5, 1.6 ulp."""
    T = type(x)
    e = exp(T(-2) * abs(x))
    large = T(1) - T(2) * (e * (T(1) / (T(1) + e)))
    small = x + x * (x * x) * _tanh_polynomial(x * x)
    return small if abs(x) < T(0.625) else (-large if x < T(0) else large)


@elementary
def sigmoids(x: Scalar) -> Any:
    """sigmoid(x) = 1 / (1 + exp(-x)) and sigmoid(-x) = 1 - sigmoid(x), accurate in both tails. Error: 2.9, 2.9 ulp."""
    T = type(x)
    e = exp(-abs(x))
    near_one = T(1) / (T(1) + e)
    near_zero = e * near_one
    return (near_zero, near_one) if x < T(0) else (near_one, near_zero)


@elementary
def _rotate(n: Scalar, t: Scalar) -> Any:
    """Sine and cosine of n pi / 2 + t, |t| <= pi / 4."""
    T = type(t)
    square = t * t
    s = t + t * square * _sin_polynomial(square)
    c = (T(1) - T(0.5) * square) + square * square * _cos_polynomial(square)
    odd, sine_negative, cosine_negative = quadrant(n)
    sine = c if odd else s
    cosine = s if odd else c
    return -sine if sine_negative else sine, -cosine if cosine_negative else cosine


# x - n pi / 2 with pi / 2 in parts (Cody and Waite), of which n times all but the last is exact in the ranges below.
def _reduce_single(x: Scalar, n: Scalar) -> Any:
    t = (x - n * np.float32(1.5703125)) - n * np.float32(0.0004837512969970703)
    return (t - n * np.float32(7.549533620476723e-08)) - n * np.float32(2.5633440682570896e-12)


def _reduce_double(x: Scalar, n: Scalar) -> Any:
    return ((x - n * 1.570796325802803) - n * 9.920935774287987e-10) - n * 2.2517417741562176e-18


_reduce = by_precision(_reduce_single, _reduce_double)


@elementary
def _sincos(x: Scalar) -> Any:
    T = type(x)
    n = nearest(x * T(0.6366197723675814))
    t = _reduce(x, n)
    limit = T(0.79)  # no effect where n is right; keeps the results in [-1, 1] where it is not
    return _rotate(n, -limit if t < -limit else (limit if t > limit else t))


@elementary
def sin(x: Scalar) -> Any:
    """sin(x) for |x| <= 8192 (float32), 1e7 (float64); beyond, something in [-1, 1]. Error: 2.4, 2.4 ulp."""
    return _sincos(x)[0]


@elementary
def cos(x: Scalar) -> Any:
    """cos(x) for |x| <= 8192 (float32), 1e7 (float64); beyond, something in [-1, 1]. Error: 2.4, 2.4 ulp."""
    return _sincos(x)[1]


@elementary
def sincos_turn(u: Scalar) -> Any:
    """Sine and cosine of 2 pi u, 0 <= u <= 1. Error: 2.0, 2.0 ulp."""
    T = type(u)
    n = nearest(u * T(4))
    return _rotate(n, (u - n * T(0.25)) * T(6.283185307179586))


_scaled_erfc_center = by_precision(lambda _x: np.float32(3), lambda _x: 3.5)


@elementary
def _scaled_erfc(x: Scalar) -> Any:
    """exp(x^2) erfc(x), 0 <= x, after Shepherd and Laframboise 1981 (doi:10.1090/S0025-5718-1981-0595058-X)."""
    T = type(x)
    center = _scaled_erfc_center(x)
    reciprocal = T(1) / (x + center)
    return reciprocal * _scaled_erfc_polynomial(T(1) - (center + center) * reciprocal)


@elementary
def erf(x: Scalar) -> Any:
    """erf(x). Error: 1.5, 1.5 ulp."""
    T = type(x)
    a = abs(x)
    small = x + x * _erf_polynomial(x * x)
    large = T(1) - exp(-(x * x)) * _scaled_erfc(a)
    return small if a < T(1) else (-large if x < T(0) else large)


@elementary
def normal_cdf(x: Scalar) -> Any:
    """Probability that a standard normal is below x, accurate in both tails. Error: 7.0, 8.0 ulp."""
    T = type(x)
    a = abs(x)
    tail = (T(0.5) * _scaled_erfc(a * T(0.7071067811865476))) * gaussian(a)
    return tail if x < T(0) else T(1) - tail


@elementary
def inverse_erf(x: Scalar) -> Any:
    """The y with erf(y) = x, for |x| <= 0.955. Error: 2.4, 2.4 ulp."""
    T = type(x)
    return x * _inverse_erf_polynomial(-log((T(1) - x) * (T(1) + x)))


@elementary
def truncated_normal_quantile(v: Scalar) -> Any:
    """Quantile at (1 + v) / 2, -1 <= v <= 1, of a normal cut at two standard deviations, rescaled to variance 1.

    Error: 4.6, 4.6 ulp.
    """
    T = type(v)
    return T(1.6077447771479307) * inverse_erf(T(0.9544997361036416) * v)
