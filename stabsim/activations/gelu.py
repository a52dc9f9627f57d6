"""The Gaussian error linear unit and its usual approximation."""

from __future__ import annotations

from typing import Any

from stabsim.activations.base import RISING, Activation
from stabsim.kernels import elementary as el
from stabsim.kernels.precision import Scalar, elementary


@elementary
def _normal_density(x: Scalar) -> Any:
    return type(x)(0.3989422804014327) * el.gaussian(abs(x))


@elementary
def gelu_f(x: Scalar) -> Any:
    return x * el.normal_cdf(x)


@elementary
def gelu_derivative(x: Scalar) -> Any:
    return el.normal_cdf(x) + x * _normal_density(x)


@elementary
def gelu_second_derivative(x: Scalar) -> Any:
    return (type(x)(2) - x * x) * _normal_density(x)


def gelu() -> Activation:
    """Return x Phi(x), Phi being the distribution function of a standard normal."""
    functions = gelu_f, gelu_derivative, gelu_second_derivative
    return Activation("gelu", *functions, asymptotes=RISING, source="Hendrycks and Gimpel 2016, arXiv:1606.08415")


@elementary
def _gelu_tanh_parts(x: Scalar) -> Any:
    """Return s = sigmoid_f(v) = (1 + tanh(v / 2)) / 2, 1 - s, v' and v'' for v = sqrt(8 / pi) (x + 0.044715 x^3)."""
    T = type(x)
    # Beyond 25, s is 0 or 1 in both precisions, and x^3 may overflow.
    x = T(-25) if x < T(-25) else (T(25) if x > T(25) else x)
    cubic = T(1.5957691216057308 * 0.044715)
    square = x * x
    s, complement = el.sigmoids(x * (T(1.5957691216057308) + cubic * square))
    return s, complement, T(1.5957691216057308) + T(3) * cubic * square, T(6) * cubic * x


@elementary
def gelu_tanh_f(x: Scalar) -> Any:
    return x * _gelu_tanh_parts(x)[0]


@elementary
def gelu_tanh_derivative(x: Scalar) -> Any:
    s, complement, slope, _ = _gelu_tanh_parts(x)
    return s + x * (s * complement * slope)  # 0 far on the left, where x times the slope may overflow


@elementary
def gelu_tanh_second_derivative(x: Scalar) -> Any:
    s, complement, slope, curvature = _gelu_tanh_parts(x)
    return s * complement * (type(x)(2) * slope + x * ((complement - s) * (slope * slope) + curvature))


def gelu_tanh() -> Activation:
    """Return x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2, which is close to gelu."""
    functions = gelu_tanh_f, gelu_tanh_derivative, gelu_tanh_second_derivative
    source = "Hendrycks and Gimpel 2016, arXiv:1606.08415, section 2"
    return Activation("gelu_tanh", *functions, asymptotes=RISING, source=source)
