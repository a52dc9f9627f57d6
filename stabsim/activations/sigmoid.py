"""The logistic sigmoid, plain and through the origin."""

from __future__ import annotations

from typing import Any

from stabsim.activations.base import Activation, between
from stabsim.activations.tanh import tanh_derivative, tanh_second_derivative
from stabsim.kernels import elementary as el
from stabsim.kernels.precision import Scalar, elementary


@elementary
def sigmoid_f(x: Scalar) -> Any:
    return el.sigmoids(x)[0]


@elementary
def sigmoid_derivative(x: Scalar) -> Any:
    s, complement = el.sigmoids(x)
    return s * complement


@elementary
def sigmoid_second_derivative(x: Scalar) -> Any:
    return -sigmoid_derivative(x) * el.tanh(type(x)(0.5) * x)


def sigmoid() -> Activation:
    """Return 1 / (1 + exp(-x))."""
    functions = sigmoid_f, sigmoid_derivative, sigmoid_second_derivative
    source = "Rumelhart, Hinton and Williams, Nature 323, 1986"
    return Activation("sigmoid", *functions, asymptotes=between(0.0, 1.0), source=source)


@elementary
def scaled_sigmoid_f(x: Scalar) -> Any:
    return type(x)(2) * el.tanh(type(x)(0.5) * x)  # 4 sigmoid(x) - 2 without the cancellation at 0


@elementary
def scaled_sigmoid_derivative(x: Scalar) -> Any:
    return tanh_derivative(type(x)(0.5) * x)


@elementary
def scaled_sigmoid_second_derivative(x: Scalar) -> Any:
    return type(x)(0.5) * tanh_second_derivative(type(x)(0.5) * x)


def scaled_sigmoid() -> Activation:
    """Return 4 sigmoid(x) - 2, which is x near 0."""
    functions = scaled_sigmoid_f, scaled_sigmoid_derivative, scaled_sigmoid_second_derivative
    source = "Xu, Huang and Li 2016, arXiv:1602.05980"
    return Activation("scaled_sigmoid", *functions, asymptotes=between(-2.0, 2.0), source=source)
