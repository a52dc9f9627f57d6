"""The error function, whose Gaussian means are closed."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from stabsim.activations.base import Activation, ClosedForm, Floats, between
from stabsim.kernels import elementary as el
from stabsim.kernels.precision import Scalar, elementary


@elementary
def erf_derivative(x: Scalar) -> Any:
    return type(x)(1.1283791670955126) * el.exp_minus_square(x)


@elementary
def erf_second_derivative(x: Scalar) -> Any:
    return type(x)(-2) * x * erf_derivative(x)


def erf() -> Activation:
    """Return the error function."""
    functions = el.erf, erf_derivative, erf_second_derivative
    return Activation(
        "erf", *functions, asymptotes=between(-1.0, 1.0), source="Williams, NIPS 1996", gaussian_means=_means
    )


def _means() -> ClosedForm:
    return ClosedForm(
        _product,
        lambda p, q, c: np.asarray(4.0 / math.pi / _root(p, q, c)),
        np.zeros_like,
        lambda q: 2.0 / math.sqrt(math.pi) / np.sqrt(1.0 + 2.0 * q),
        lambda q: 4.0 / math.pi / ((1.0 + 2.0 * q) * np.sqrt(1.0 + 4.0 * q)),
    )


def _product(p: Floats, q: Floats, c: Floats) -> Floats:
    """Williams, NIPS 1996, equation 11: the arcsine of 2 c sqrt(p q) / sqrt((1 + 2 p) (1 + 2 q)), as an arctangent."""
    return np.asarray(2.0 / math.pi * np.arctan2(2.0 * np.sqrt(p) * np.sqrt(q) * c, _root(p, q, c)))


def _root(p: Floats, q: Floats, c: Floats) -> Floats:
    """Return sqrt((1 + 2 p) (1 + 2 q) - 4 p q c^2) without the difference of large numbers."""
    return np.sqrt(1.0 + 2.0 * (p + q) + 4.0 * p * q * (1.0 - c) * (1.0 + c))
