"""Straight lines."""

from __future__ import annotations

from typing import Any

import numpy as np

from stabsim.activations.base import Activation, ClosedForm, zero
from stabsim.kernels.precision import Scalar, elementary


@elementary
def linear_f(x: Scalar, alpha: Scalar, beta: Scalar) -> Any:
    return alpha * x + beta


@elementary
def linear_derivative(x: Scalar, alpha: Scalar, _beta: Scalar) -> Any:
    return type(x)(alpha)


def linear(alpha: float = 1.0, beta: float = 0.0) -> Activation:
    """Return alpha x + beta."""
    functions, line = (linear_f, linear_derivative, zero), (alpha, beta)
    return Activation(
        "linear",
        *functions,
        {"alpha": alpha, "beta": beta},
        asymptotes=(line, line),
        positively_homogeneous=beta == 0,
        affine=True,
        source="Saxe, McClelland and Ganguli, ICLR 2014, arXiv:1312.6120",
        gaussian_means=_means,
    )


def _means(alpha: float, beta: float) -> ClosedForm:
    return ClosedForm(
        lambda p, q, c: alpha**2 * np.sqrt(p) * np.sqrt(q) * c + beta**2,
        lambda p, q, c: alpha**2 + 0.0 * (p + q + c),
        lambda q: np.full_like(q, beta),
        lambda q: np.full_like(q, alpha),
        lambda q: np.full_like(q, alpha**2),
        largest_variance=1e300,
    )
