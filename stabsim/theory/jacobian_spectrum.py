"""Laws of the squared singular values of J = dz_L/dz_0 in infinitely wide nets of equal widths, by free probability.

At the critical point, where their mean is 1. J J^T is a product of free factors, so its S-transform is that of W W^T,
1/(1 + z) (normal) or 1 (orthogonal), times that of f'^2, p (1 + z)/(p + z) where a share p of units pass, 1 (linear) or
1/2 (ReLU), all to the power L (Pennington, Schoenholz & Ganguli 2017, arXiv:1711.04735, equations 8 to 16). Solved for
x, with z = x G(x) - 1 and G the resolvent: x = (1 + z)^a (p + z)^L / (p^L z), a = 1 (normal) or 1 - L (orthogonal). On
the ray of angle t above the real axis one z makes x real, and x falls from the edge to 0 as t rises from 0 to pi. The
density is Im z / (pi x); what lies above x is the integral of (1 + z) d log x, which is elementary.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stabsim import checks
from stabsim.checks import whole_number
from stabsim.names import unknown

Floats = NDArray[np.float64]

_PASSED = {"linear": 1.0, "relu": 0.5}
_WEIGHTS = ("normal", "orthogonal")
_HALVINGS = 64
_TINY = 1e-10  # of x^(1/L): below it rounding hides how far z is from its limit, and there is no mass to speak of
_FARTHEST = 1e4  # of |z|: at the edge it is 1 or less


@dataclass(frozen=True)
class _Law:
    depth: int
    passed: float
    normal: bool

    @property
    def power(self) -> int:
        """Return the power of 1 + z."""
        return 1 if self.normal else 1 - self.depth

    @property
    def edge(self) -> float:
        """Return the x at which z is double: of orthogonal W and few layers, that of z to infinity."""
        p, depth = self.passed, self.depth
        if self.normal:
            half = 0.5 * (depth - 1)
            z = p / (half + math.sqrt(half * half + depth * p))
        elif depth * (1.0 - p) <= 1.0:
            return p**-depth
        else:
            z = p / (depth * (1.0 - p) - 1.0)
        return math.exp(self.power * math.log1p(z) + depth * math.log1p(z / p) - math.log(z))

    def at_angle(self, angle: Floats) -> Floats:
        """Return the z of each angle, by halving: what its argument lacks grows with |z| up to 0, and is never less."""
        low, high = np.zeros_like(angle), np.full_like(angle, _FARTHEST)
        turn = np.exp(1j * angle)
        for _ in range(_HALVINGS):
            middle = 0.5 * (low + high)
            z = middle * turn
            above = self.power * np.angle(1.0 + z) + self.depth * np.angle(self.passed + z) > angle
            low, high = np.where(above, low, middle), np.where(above, middle, high)
        return np.asarray(high * turn)

    def log_x(self, z: Floats) -> Floats:
        """Return log |x|."""
        p = self.passed
        return np.asarray(
            self.power * np.log(np.abs(1.0 + z)) + self.depth * np.log(np.abs(1.0 + z / p)) - np.log(np.abs(z))
        )

    def solve(self, x: Floats) -> Floats:
        """Return z above the real axis for each x inside."""
        if not self.normal and self.depth == 2:  # two projections: closed, and its z is infinite at the edge
            return np.asarray(-0.5 + 1j * np.sqrt(1.0 / (4.0 - x) - 0.25))
        x = np.maximum(x, self.edge * _TINY**self.depth)
        low, high = np.zeros_like(x), np.full_like(x, math.pi)
        for _ in range(_HALVINGS):
            angle = 0.5 * (low + high)
            above = self.log_x(self.at_angle(angle)) > np.log(x)
            low, high = np.where(above, angle, low), np.where(above, high, angle)
        return self.at_angle(0.5 * (low + high))


def _law(depth: int, activation: str, weights: str) -> _Law:
    if activation not in _PASSED:
        raise unknown("activation of a spectrum", activation, _PASSED)
    if weights not in _WEIGHTS:
        raise unknown("weights of a spectrum", weights, _WEIGHTS)
    return _Law(whole_number("depth", depth), _PASSED[activation], weights == "normal")


def _continuous(depth: int, activation: str, weights: str) -> _Law:
    law = _law(depth, activation, weights)
    least = math.inf if activation == "linear" else 2
    if not law.normal and depth < least:
        values = "1" if activation == "linear" else "0 or 2"
        raise ValueError(
            f"depth={depth} with weights={weights!r}, activation={activation!r}: "
            f"all squared singular values are {values}"
        )
    return law


def squared_singular_value_density(
    x: ArrayLike, depth: int, activation: str = "linear", weights: str = "normal"
) -> Floats:
    """Return the density of the squared singular values of J at x, without those that are 0.

    Parameters
    ----------
    x : array_like
        Squared singular values; the density is 0 outside the support.
    depth : int
        L, layers, from 1; from 2 for ReLU and orthogonal weights.
    activation : {"linear", "relu"}, default "linear"
    weights : {"normal", "orthogonal"}, default "normal"
        With linear nets, normal: of orthogonal ones all singular values are 1.

    Returns
    -------
    array of float
        As x. It integrates to 1, or to 1/2 with ReLU: half of the singular values are 0.

    Raises
    ------
    TypeError, ValueError
        If an argument is outside.

    Notes
    -----
    Of linear nets and normal weights it is the Fuss-Catalan law, for L = 1 that of Marchenko and Pastur; of ReLU,
    orthogonal weights and L = 2, half of an arcsine law on 0 .. 4.

    Examples
    --------
    >>> squared_singular_value_density([1.0, 2.0, 4.5], depth=1).round(6)
    array([0.275664, 0.159155, 0.      ])
    >>> float(squared_singular_value_density(2.0, 2, "relu", "orthogonal").round(6))
    0.079577
    """
    law, x = _continuous(depth, activation, weights), checks.array("x", x)
    inside = (x > 0.0) & (x < law.edge)
    found = np.zeros_like(x)
    found[inside] = law.solve(x[inside]).imag / (math.pi * x[inside])
    return found


def squared_singular_value_distribution(
    x: ArrayLike, depth: int, activation: str = "linear", weights: str = "normal"
) -> Floats:
    """Return the share of squared singular values of J that are x or less, those that are 0 included.

    Parameters
    ----------
    x, depth, activation, weights
        As of `squared_singular_value_density`.

    Returns
    -------
    array of float
        As x.

    Raises
    ------
    TypeError, ValueError
        If an argument is outside.

    Examples
    --------
    >>> squared_singular_value_distribution([0.0, 2.0, 4.0], 2, "relu", "orthogonal").round(6)
    array([0.5 , 0.75, 1.  ])
    """
    law, x = _continuous(depth, activation, weights), checks.array("x", x)
    inside = (x > 0.0) & (x < law.edge)
    found = np.where(x < 0.0, 0.0, np.where(x >= law.edge, 1.0, 1.0 - law.passed))
    z = law.solve(x[inside])
    angles = law.passed * np.angle(z) + (1.0 - law.passed) * law.power * np.angle(1.0 + z)
    above = angles - depth * law.normal * z.imag
    found[inside] = 1.0 - above / math.pi
    return found


def squared_singular_value_edge(depth: int, activation: str = "linear", weights: str = "normal") -> float:
    """Return the largest squared singular value of J.

    Parameters
    ----------
    depth, activation, weights
        As of `squared_singular_value_density`, every one of them.

    Returns
    -------
    float

    Raises
    ------
    TypeError, ValueError
        If an argument is outside.

    Notes
    -----
    It grows as e L (linear; ReLU and orthogonal weights) or 2 e L (ReLU and normal weights).

    Examples
    --------
    >>> squared_singular_value_edge(1), squared_singular_value_edge(2, "relu", "orthogonal")
    (4.0, 4.0)
    """
    return _law(depth, activation, weights).edge
