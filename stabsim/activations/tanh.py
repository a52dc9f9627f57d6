"""The hyperbolic tangent, scaled, and cut from straight lines."""

from __future__ import annotations

from typing import Any

from stabsim.activations.base import Activation, between, zero
from stabsim.kernels import elementary as el
from stabsim.kernels.precision import Scalar, elementary

LECUN_GAIN = 1.7159  # LeCun et al. 1998, section 4.4
LECUN_SLOPE = 2 / 3


@elementary
def tanh_derivative(x: Scalar) -> Any:
    T = type(x)
    e = el.exp(T(-2) * abs(x))
    reciprocal = T(1) / (T(1) + e)
    return T(4) * (e * reciprocal) * reciprocal


@elementary
def tanh_second_derivative(x: Scalar) -> Any:
    return type(x)(-2) * el.tanh(x) * tanh_derivative(x)


def tanh() -> Activation:
    """Return tanh(x)."""
    functions = el.tanh, tanh_derivative, tanh_second_derivative
    source = "LeCun, Bottou, Orr and Mueller 1998, Efficient BackProp"
    return Activation("tanh", *functions, asymptotes=between(-1.0, 1.0), source=source)


@elementary
def lecun_tanh_f(x: Scalar) -> Any:
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


def lecun_tanh() -> Activation:
    """Return 1.7159 tanh(2 x / 3), which maps 1 to 1."""
    functions = lecun_tanh_f, lecun_tanh_derivative, lecun_tanh_second_derivative
    lines, source = between(-LECUN_GAIN, LECUN_GAIN), "LeCun et al. 1998, Efficient BackProp, section 4.4"
    return Activation("lecun_tanh", *functions, asymptotes=lines, source=source)


@elementary
def hard_tanh_f(x: Scalar) -> Any:
    T = type(x)
    return T(-1) if x < T(-1) else (T(1) if x > T(1) else x)


@elementary
def hard_tanh_derivative(x: Scalar) -> Any:
    return type(x)(1) if abs(x) < type(x)(1) else type(x)(0)


def hard_tanh() -> Activation:
    """Return x cut at -1 and 1."""
    functions = hard_tanh_f, hard_tanh_derivative, zero
    return Activation("hard_tanh", *functions, {}, (-1.0, 1.0), between(-1.0, 1.0), source="Collobert 2004")
