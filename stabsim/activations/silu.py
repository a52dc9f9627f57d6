"""The sigmoid linear unit."""

from __future__ import annotations

from typing import Any

from stabsim.activations.base import RISING, Activation
from stabsim.kernels import elementary as el
from stabsim.kernels.precision import Scalar, elementary


@elementary
def silu_f(x: Scalar) -> Any:
    return x * el.sigmoids(x)[0]


@elementary
def silu_derivative(x: Scalar) -> Any:
    s, complement = el.sigmoids(x)
    return s * (type(x)(1) + x * complement)


@elementary
def silu_second_derivative(x: Scalar) -> Any:
    s, complement = el.sigmoids(x)
    return s * complement * (type(x)(2) + x * (complement - s))


def silu() -> Activation:
    """Return x sigmoid(x), also called swish."""
    functions = silu_f, silu_derivative, silu_second_derivative
    source = "Elfwing, Uchibe and Doya, Neural Networks 107, 2018, arXiv:1702.03118"
    return Activation("silu", *functions, asymptotes=RISING, source=source)
