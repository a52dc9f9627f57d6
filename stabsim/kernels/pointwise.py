"""Activations as scalar functions: f, f' and f'' of x and of the activation's parameters.

Derivatives are written so that their *relative* error stays small in the tails (tanh' = 4 e / (1 + e)^2, not
1 - tanh^2), since products of many of them are what a deep net computes. At a kink, f' takes the one-sided value
in common use (ReLU'(0) = 0). f and f' share their exponentials where both stand in one loop.

Errors, in both precisions, of f and f' above 1e-36 (float32) or 1e-306 (float64): 8 ulp. Two exceptions: where the
tails of gelu_tanh and lecun_tanh are exp(-v), they have 8 + 2 v ulp, since exp amplifies the rounding of v; and where
f' of gelu, gelu_tanh and silu goes through 0 (-3 < x < 0), ulp is that of 1/4.
"""
# ruff: noqa: D103 - names and formulas say it all; `stabsim/activations.py` describes each activation

from __future__ import annotations

from typing import Any

from stabsim.kernels import elementary as el
from stabsim.kernels.precision import Scalar, elementary

SELU_SCALE = 1.0507009873554805  # Klambauer et al. 2017, eq. 14
SELU_ALPHA = 1.6732632423543772
LECUN_GAIN = 1.7159  # LeCun et al. 1998, section 4.4
LECUN_SLOPE = 2 / 3


@elementary
def zero(x: Scalar, *_parameters: Scalar) -> Any:
    return type(x)(0)


@elementary
def linear(x: Scalar, alpha: Scalar, beta: Scalar) -> Any:
    return alpha * x + beta


@elementary
def linear_derivative(x: Scalar, alpha: Scalar, _beta: Scalar) -> Any:
    return type(x)(alpha)


@elementary
def relu(x: Scalar) -> Any:
    return type(x)(0) if x < type(x)(0) else x


@elementary
def relu_derivative(x: Scalar) -> Any:
    return type(x)(1) if x > type(x)(0) else type(x)(0)


@elementary
def relu6(x: Scalar) -> Any:
    T = type(x)
    return T(0) if x < T(0) else (T(6) if x > T(6) else x)


@elementary
def relu6_derivative(x: Scalar) -> Any:
    T = type(x)
    return T(1) if x > T(0) and x < T(6) else T(0)


@elementary
def leaky_relu(x: Scalar, slope: Scalar) -> Any:
    return x if x > type(x)(0) else slope * x


@elementary
def leaky_relu_derivative(x: Scalar, slope: Scalar) -> Any:
    return type(x)(1) if x > type(x)(0) else type(x)(slope)


@elementary
def elu(x: Scalar, alpha: Scalar) -> Any:
    return x if x > type(x)(0) else alpha * el.expm1(x)


@elementary
def elu_derivative(x: Scalar, alpha: Scalar) -> Any:
    return type(x)(1) if x > type(x)(0) else alpha * el.exp(x)


@elementary
def elu_second_derivative(x: Scalar, alpha: Scalar) -> Any:
    return type(x)(0) if x > type(x)(0) else alpha * el.exp(x)


@elementary
def selu(x: Scalar) -> Any:
    T = type(x)
    return T(SELU_SCALE) * elu(x, T(SELU_ALPHA))


@elementary
def selu_derivative(x: Scalar) -> Any:
    T = type(x)
    return T(SELU_SCALE) * elu_derivative(x, T(SELU_ALPHA))


@elementary
def selu_second_derivative(x: Scalar) -> Any:
    T = type(x)
    return T(SELU_SCALE) * elu_second_derivative(x, T(SELU_ALPHA))


@elementary
def _normal_density(x: Scalar) -> Any:
    return type(x)(0.3989422804014327) * el.gaussian(abs(x))


@elementary
def gelu(x: Scalar) -> Any:
    return x * el.normal_cdf(x)


@elementary
def gelu_derivative(x: Scalar) -> Any:
    return el.normal_cdf(x) + x * _normal_density(x)


@elementary
def gelu_second_derivative(x: Scalar) -> Any:
    return (type(x)(2) - x * x) * _normal_density(x)


@elementary
def _gelu_tanh_parts(x: Scalar) -> Any:
    """Return s = sigmoid(v) = (1 + tanh(v / 2)) / 2, 1 - s, v' and v'' for v = sqrt(8 / pi) (x + 0.044715 x^3)."""
    T = type(x)
    # Beyond 25, s is 0 or 1 in both precisions, and x^3 may overflow.
    x = T(-25) if x < T(-25) else (T(25) if x > T(25) else x)
    cubic = T(1.5957691216057308 * 0.044715)
    square = x * x
    s, complement = el.sigmoids(x * (T(1.5957691216057308) + cubic * square))
    return s, complement, T(1.5957691216057308) + T(3) * cubic * square, T(6) * cubic * x


@elementary
def gelu_tanh(x: Scalar) -> Any:
    return x * _gelu_tanh_parts(x)[0]


@elementary
def gelu_tanh_derivative(x: Scalar) -> Any:
    s, complement, slope, _ = _gelu_tanh_parts(x)
    return s + x * (s * complement * slope)  # 0 far on the left, where x times the slope may overflow


@elementary
def gelu_tanh_second_derivative(x: Scalar) -> Any:
    s, complement, slope, curvature = _gelu_tanh_parts(x)
    return s * complement * (type(x)(2) * slope + x * ((complement - s) * (slope * slope) + curvature))


@elementary
def silu(x: Scalar) -> Any:
    return x * el.sigmoids(x)[0]


@elementary
def silu_derivative(x: Scalar) -> Any:
    s, complement = el.sigmoids(x)
    return s * (type(x)(1) + x * complement)


@elementary
def silu_second_derivative(x: Scalar) -> Any:
    s, complement = el.sigmoids(x)
    return s * complement * (type(x)(2) + x * (complement - s))


@elementary
def softplus(x: Scalar) -> Any:
    return relu(x) + el.log1p(el.exp(-abs(x)))


@elementary
def sigmoid(x: Scalar) -> Any:
    return el.sigmoids(x)[0]


@elementary
def sigmoid_derivative(x: Scalar) -> Any:
    s, complement = el.sigmoids(x)
    return s * complement


@elementary
def sigmoid_second_derivative(x: Scalar) -> Any:
    return -sigmoid_derivative(x) * el.tanh(type(x)(0.5) * x)


@elementary
def scaled_sigmoid(x: Scalar) -> Any:
    return type(x)(2) * el.tanh(type(x)(0.5) * x)  # 4 sigmoid(x) - 2 without the cancellation at 0


@elementary
def scaled_sigmoid_derivative(x: Scalar) -> Any:
    return tanh_derivative(type(x)(0.5) * x)


@elementary
def scaled_sigmoid_second_derivative(x: Scalar) -> Any:
    return type(x)(0.5) * tanh_second_derivative(type(x)(0.5) * x)


@elementary
def tanh_derivative(x: Scalar) -> Any:
    T = type(x)
    e = el.exp(T(-2) * abs(x))
    reciprocal = T(1) / (T(1) + e)
    return T(4) * (e * reciprocal) * reciprocal


@elementary
def tanh_second_derivative(x: Scalar) -> Any:
    return type(x)(-2) * el.tanh(x) * tanh_derivative(x)


@elementary
def lecun_tanh(x: Scalar) -> Any:
    T = type(x)
    return T(LECUN_GAIN) * el.tanh(T(LECUN_SLOPE) * x)


@elementary
def lecun_tanh_derivative(x: Scalar) -> Any:
    T = type(x)
    return T(LECUN_GAIN * LECUN_SLOPE) * tanh_derivative(T(LECUN_SLOPE) * x)


@elementary
def lecun_tanh_second_derivative(x: Scalar) -> Any:
    T = type(x)
    return T(LECUN_GAIN * LECUN_SLOPE**2) * tanh_second_derivative(T(LECUN_SLOPE) * x)


@elementary
def hard_tanh(x: Scalar) -> Any:
    T = type(x)
    return T(-1) if x < T(-1) else (T(1) if x > T(1) else x)


@elementary
def hard_tanh_derivative(x: Scalar) -> Any:
    return type(x)(1) if abs(x) < type(x)(1) else type(x)(0)


@elementary
def softsign(x: Scalar) -> Any:
    return x / (type(x)(1) + abs(x))


@elementary
def softsign_derivative(x: Scalar) -> Any:
    reciprocal = type(x)(1) / (type(x)(1) + abs(x))
    return reciprocal * reciprocal


@elementary
def softsign_second_derivative(x: Scalar) -> Any:
    T = type(x)
    reciprocal = T(1) / (T(1) + abs(x))
    return (T(-2) if x > T(0) else T(2)) * reciprocal * reciprocal * reciprocal


@elementary
def erf_derivative(x: Scalar) -> Any:
    return type(x)(1.1283791670955126) * el.exp_minus_square(x)


@elementary
def erf_second_derivative(x: Scalar) -> Any:
    return type(x)(-2) * x * erf_derivative(x)


@elementary
def negative_sine(x: Scalar) -> Any:
    return -el.sin(x)
