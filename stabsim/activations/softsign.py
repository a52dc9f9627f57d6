"""Softsign."""

from __future__ import annotations

from typing import Any

from stabsim.activations.base import Activation
from stabsim.kernels.precision import Scalar, elementary


@elementary
def softsign_f(x: Scalar) -> Any:
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


def softsign() -> Activation:
    """Return x / (1 + |x|), which comes as slowly as 1 / x to its limits, so it has no asymptotes to rounding."""
    functions = softsign_f, softsign_derivative, softsign_second_derivative
    return Activation("softsign", *functions, kinks=(0.0,), source="Bergstra et al. 2009; Glorot and Bengio 2010")
