"""Integrals of log-concave functions of one variable, to 13 digits, however small or narrow they are."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from stabsim.theory.quadrature import on_panels

Floats = NDArray[np.float64]

_NEGLIGIBLE = 45.0  # what a function's logarithm falls by until it no longer counts


def log_integral(log_density: Callable[[Floats], Floats], low: float, high: float) -> float:
    """Return ln of the integral over the real line of a log-concave function, given as its logarithm.

    Parameters
    ----------
    log_density : callable
        ln of the function at an array; smooth, with one largest value.
    low, high : float
        Between which that lies.

    Returns
    -------
    float

    Examples
    --------
    >>> round(log_integral(lambda x: -1000.0 - 0.5 * x * x, -5.0, 7.0) + 1000.0 - 0.5 * math.log(2 * math.pi), 12)
    0.0
    """
    from scipy.optimize import brentq, minimize_scalar

    def log_at(x: float) -> float:
        return float(log_density(np.array(x)))

    peak = float(minimize_scalar(lambda x: -log_at(x), bounds=(low, high), method="bounded", options={"xatol": 1e-9}).x)
    top = log_at(peak)
    ends = []
    for step in (-1e-6, 1e-6):
        while log_at(peak + step) > top - _NEGLIGIBLE:
            step *= 2.0
        ends.append(float(brentq(lambda x: log_at(x) - top + _NEGLIGIBLE, peak, peak + step)))
    # Panels that widen away from the peak, where the function changes fastest in units of its width.
    width = ends[1] - ends[0]
    parts = np.concatenate([(end - peak) / width * np.linspace(0.0, 1.0, 33) ** 2 for end in ends])
    at = on_panels(parts[None])
    return top + math.log(width * float(np.sum(at.weights * np.exp(log_density(peak + width * at.x) - top))))
