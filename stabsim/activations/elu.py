"""Exponential linear units."""

from __future__ import annotations

from typing import Any

from stabsim.activations.base import Activation
from stabsim.kernels import elementary as el
from stabsim.kernels.precision import Scalar, elementary

SELU_SCALE = 1.0507009873554805  # Klambauer et al. 2017, eq. 14
SELU_ALPHA = 1.6732632423543772


@elementary
def elu_f(x: Scalar, alpha: Scalar) -> Any:
    return x if x > type(x)(0) else alpha * el.expm1(x)


@elementary
def elu_derivative(x: Scalar, alpha: Scalar) -> Any:
    return type(x)(1) if x > type(x)(0) else alpha * el.exp(x)


@elementary
def elu_second_derivative(x: Scalar, alpha: Scalar) -> Any:
    return type(x)(0) if x > type(x)(0) else alpha * el.exp(x)


def elu(alpha: float = 1.0) -> Activation:
    """Return x where x > 0, alpha (exp(x) - 1) elsewhere."""
    functions = elu_f, elu_derivative, elu_second_derivative
    lines, source = ((0.0, -alpha), (1.0, 0.0)), "Clevert, Unterthiner and Hochreiter, ICLR 2016, arXiv:1511.07289"
    return Activation("elu", *functions, {"alpha": alpha}, (0.0,), lines, source=source)


@elementary
def selu_f(x: Scalar) -> Any:
    T = type(x)
    return T(SELU_SCALE) * elu_f(x, T(SELU_ALPHA))


@elementary
def selu_derivative(x: Scalar) -> Any:
    T = type(x)
    return T(SELU_SCALE) * elu_derivative(x, T(SELU_ALPHA))


@elementary
def selu_second_derivative(x: Scalar) -> Any:
    T = type(x)
    return T(SELU_SCALE) * elu_second_derivative(x, T(SELU_ALPHA))


def selu() -> Activation:
    """Return elu(alpha=1.67326) times 1.05070, which keeps mean 0 and variance 1."""
    functions = selu_f, selu_derivative, selu_second_derivative
    lines = ((0.0, -SELU_SCALE * SELU_ALPHA), (SELU_SCALE, 0.0))
    return Activation("selu", *functions, {}, (0.0,), lines, source="Klambauer et al., NeurIPS 2017, arXiv:1706.02515")
