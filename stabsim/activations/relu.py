"""ReLU and its kin: pieces of straight lines."""

from __future__ import annotations

from typing import Any

from stabsim.activations.base import RISING, Activation, between, zero
from stabsim.kernels.precision import Scalar, elementary


@elementary
def relu_f(x: Scalar) -> Any:
    return type(x)(0) if x < type(x)(0) else x


@elementary
def relu_derivative(x: Scalar) -> Any:
    return type(x)(1) if x > type(x)(0) else type(x)(0)


def relu() -> Activation:
    """Return max(x, 0)."""
    functions = relu_f, relu_derivative, zero
    source = "Nair and Hinton, ICML 2010"
    return Activation("relu", *functions, {}, (0.0,), RISING, positively_homogeneous=True, source=source)


@elementary
def relu6_f(x: Scalar) -> Any:
    T = type(x)
    return T(0) if x < T(0) else (T(6) if x > T(6) else x)


@elementary
def relu6_derivative(x: Scalar) -> Any:
    T = type(x)
    return T(1) if x > T(0) and x < T(6) else T(0)


def relu6() -> Activation:
    """Return min(max(x, 0), 6)."""
    functions = relu6_f, relu6_derivative, zero
    return Activation("relu6", *functions, {}, (0.0, 6.0), between(0.0, 6.0), source="Krizhevsky 2010")


@elementary
def leaky_relu_f(x: Scalar, slope: Scalar) -> Any:
    return x if x > type(x)(0) else slope * x


@elementary
def leaky_relu_derivative(x: Scalar, slope: Scalar) -> Any:
    return type(x)(1) if x > type(x)(0) else type(x)(slope)


def leaky_relu(slope: float = 0.01) -> Activation:
    """Return x where x > 0, slope x elsewhere."""
    functions = leaky_relu_f, leaky_relu_derivative, zero
    lines, source = ((slope, 0.0), (1.0, 0.0)), "Maas, Hannun and Ng, ICML 2013"
    return Activation(
        "leaky_relu", *functions, {"slope": slope}, (0.0,), lines, positively_homogeneous=True, source=source
    )
