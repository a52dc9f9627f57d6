"""Softplus, the integral of the sigmoid."""

from __future__ import annotations

from typing import Any

from stabsim.activations.base import RISING, Activation
from stabsim.activations.relu import relu_f
from stabsim.activations.sigmoid import sigmoid_derivative, sigmoid_f
from stabsim.kernels import elementary as el
from stabsim.kernels.precision import Scalar, elementary


@elementary
def softplus_f(x: Scalar) -> Any:
    return relu_f(x) + el.log1p(el.exp(-abs(x)))


def softplus() -> Activation:
    """Return log(1 + exp(x))."""
    functions = softplus_f, sigmoid_f, sigmoid_derivative
    return Activation("softplus", *functions, asymptotes=RISING, source="Dugas et al., NIPS 2000")
