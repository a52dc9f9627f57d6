"""The sine, whose Gaussian means are closed."""

from __future__ import annotations

from typing import Any

import numpy as np

from stabsim.activations.base import Activation, ClosedForm, Floats
from stabsim.kernels import elementary as el
from stabsim.kernels.precision import Scalar, elementary


@elementary
def negative_sine(x: Scalar) -> Any:
    return -el.sin(x)


def sine() -> Activation:
    """Return sin(x)."""
    functions, source = (el.sin, el.cos, negative_sine), "Sitzmann et al., NeurIPS 2020, arXiv:2006.09661"
    return Activation("sine", *functions, source=source, gaussian_means=_means)


def _means() -> ClosedForm:
    return ClosedForm(
        _product,
        lambda p, q, c: np.add(*_cosines(p, q, c)),
        np.zeros_like,
        lambda q: np.exp(-0.5 * q),
        lambda q: np.exp(-2.0 * q),
    )


def _cosines(p: Floats, q: Floats, c: Floats) -> tuple[Floats, Floats]:
    """Return E cos(u - v) / 2 and E cos(u + v) / 2: u - v is normal of variance p + q - 2 c sqrt(p q)."""
    root = np.sqrt(p) * np.sqrt(q)
    apart, unequal = 2.0 * root * (1.0 - c), (np.sqrt(p) - np.sqrt(q)) ** 2
    together = 2.0 * root * (1.0 + c)
    return 0.5 * np.exp(-0.5 * (unequal + apart)), 0.5 * np.exp(-0.5 * (unequal + together))


def _product(p: Floats, q: Floats, c: Floats) -> Floats:
    """Return (exp(-D / 2) - exp(-S / 2)) / 2, D and S the variances of u - v and u + v; exact for small ones too."""
    root = np.sqrt(p) * np.sqrt(q)
    minus, _ = _cosines(p, q, np.abs(c))
    return np.asarray(-np.sign(c) * minus * np.expm1(-2.0 * root * np.abs(c)))
