"""Gradient descent and heavy ball on quadratic bowls, one direction of curvature lambda at a time (Polyak 1964).

f = lambda x^2 / 2, velocity v' = momentum v - rate lambda x, x' = x + v', from v = 0; momentum 0 is gradient descent.
So x_(t+1) = (1 + momentum - rate lambda) x_t - momentum x_(t-1), and x_t is made of powers of the roots of
z^2 - (1 + momentum - rate lambda) z + momentum.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stabsim.checks import array, number

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Optimum:
    """The learning rate and momentum under which the slowest direction shrinks fastest, and its factor a step."""

    rate: float
    momentum: float
    contraction: float


def trajectory(
    start: float, curvature: float, rate: float, steps: ArrayLike, *, momentum: float = 0.0
) -> float | Floats:
    """Return x after numbers of steps, in closed form.

    Parameters
    ----------
    start : float
        x_0, at rest.
    curvature : float
        lambda, the second derivative, > 0.
    rate : float
        The learning rate, > 0.
    steps : int or array of int
        t, from 0.
    momentum : float, default 0
        From 0, below 1.

    Returns
    -------
    float or array
        Of the shape of ``steps``.

    Raises
    ------
    TypeError, ValueError
        If an argument is outside.
    OverflowError
        If x is outside float64: steps too long diverge.

    Notes
    -----
    x_t = x_1 S_t - momentum x_0 S_(t-1), S_t = (r^t - q^t) / (r - q) for roots r and q: t r^(t-1) if they are one, and
    momentum^((t-1)/2) sin(t theta) / sin(theta) if they are complex, of angle theta.

    Examples
    --------
    >>> round(trajectory(-7.0, 0.1, 0.95, 5), 12), round(trajectory(-7.0, 0.1, 0.1, 10, momentum=0.9), 12)
    (-4.249530357209, -4.347553787294)
    """
    x = number("start", start)
    product, momentum = _step(curvature, rate, momentum)
    t = array("steps", steps, 0.0)
    if np.any(t != np.floor(t)):
        raise ValueError(f"steps must be whole numbers, not {steps!r}")
    with np.errstate(over="ignore", invalid="ignore"):
        found = x * ((1.0 - product) * _sums(product, momentum, t) - momentum * _sums(product, momentum, t - 1.0))
    found = np.where(t == 0.0, x, found)
    if not np.all(np.isfinite(found)):
        raise OverflowError(f"x is outside float64 after {int(t.max())} steps with rate={rate!r}")
    return float(found) if t.ndim == 0 else found


def _step(curvature: float, rate: float, momentum: float) -> tuple[float, float]:
    """Return rate times curvature, and the momentum."""
    eta, steepness = (
        number(key, each, 0.0, open_ends=True) for key, each in (("rate", rate), ("curvature", curvature))
    )
    if number("momentum", momentum, 0.0, 1.0) == 1.0:
        raise ValueError(f"momentum must be < 1, not {momentum!r}")
    return eta * steepness, float(momentum)


def _discriminant(product: float, momentum: float) -> float:
    """Return that of the roots, (1 - product - momentum)^2 - 4 product momentum, as a product without cancellation."""
    root = math.sqrt(product)
    return ((1.0 - root) ** 2 - momentum) * ((1.0 + root) ** 2 - momentum)


def _sums(product: float, momentum: float, t: Floats) -> Floats:
    """Return S_t = (r^t - q^t) / (r - q)."""
    double, discriminant = 1.0 + momentum - product, _discriminant(product, momentum)
    if discriminant < 0.0:
        angle = math.atan2(
            math.sqrt(-discriminant), abs(double)
        )  # that to the nearer half-axis: sin(pi - a) would cancel
        signed = np.where(double < 0.0, 1.0 - 2.0 * (t % 2.0 == 0.0), 1.0)
        return np.asarray(signed * momentum ** (0.5 * (t - 1.0)) * np.sin(t * angle) / math.sin(angle))
    larger = 0.5 * (double + math.copysign(math.sqrt(discriminant), double))
    if momentum == 0.0:
        return np.where(t == 0.0, 0.0, larger ** np.maximum(t - 1.0, 0.0))
    ratio = math.log(momentum / larger**2)  # of the roots, <= 0
    geometric = t if ratio == 0.0 else np.expm1(t * ratio) / math.expm1(ratio)
    return np.asarray(larger ** (t - 1.0) * geometric)


def contraction(curvature: float, rate: float, momentum: float = 0.0) -> float:
    """Return the factor a step by which x shrinks in the long run: the larger modulus of the two roots.

    Parameters
    ----------
    curvature, rate : float
        > 0.
    momentum : float, default 0
        From 0, below 1.

    Returns
    -------
    float
        sqrt(momentum) where the roots are a complex pair; > 1 if x diverges.

    Raises
    ------
    TypeError, ValueError
        If an argument is outside.

    Examples
    --------
    >>> round(contraction(0.1, 0.1, 0.9), 14), contraction(2.0, 0.75, 0.5)
    (0.94868329805051, 0.7071067811865476)
    """
    product, momentum = _step(curvature, rate, momentum)
    discriminant = _discriminant(product, momentum)
    if discriminant < 0.0:
        return math.sqrt(momentum)
    return 0.5 * (abs(1.0 + momentum - product) + math.sqrt(discriminant))


def largest_stable_rate(curvature: float, momentum: float = 0.0) -> float:
    """Return the learning rate from which on x no longer shrinks: 2 (1 + momentum) / curvature.

    Parameters
    ----------
    curvature : float
        The largest of all directions, > 0.
    momentum : float, default 0
        From 0, below 1.

    Returns
    -------
    float

    Raises
    ------
    TypeError, ValueError
        If an argument is outside.

    Examples
    --------
    >>> largest_stable_rate(2.0), largest_stable_rate(2.0, 0.9)
    (1.0, 1.9)
    """
    _, momentum = _step(curvature, 1.0, momentum)
    return 2.0 * (1.0 + momentum) / curvature


def optimal_gradient_descent(smallest: float, largest: float) -> Optimum:
    """Return the best learning rate without momentum, for curvatures from the smallest to the largest.

    Parameters
    ----------
    smallest, largest : float
        > 0.

    Returns
    -------
    Optimum
        Rate 2 / (largest + smallest), contraction (k - 1) / (k + 1) with k = largest / smallest.

    Raises
    ------
    TypeError, ValueError
        If they are outside.

    Examples
    --------
    >>> round(optimal_gradient_descent(0.1, 2.0).contraction, 13)
    0.9047619047619
    """
    low, high = _curvatures(smallest, largest)
    return Optimum(2.0 / (high + low), 0.0, (high - low) / (high + low))


def optimal_heavy_ball(smallest: float, largest: float) -> Optimum:
    """Return the best learning rate and momentum, for curvatures from the smallest to the largest.

    Parameters
    ----------
    smallest, largest : float
        > 0.

    Returns
    -------
    Optimum
        Rate (2 / (sqrt(largest) + sqrt(smallest)))^2, contraction (sqrt(k) - 1) / (sqrt(k) + 1) with
        k = largest / smallest, momentum its square.

    Raises
    ------
    TypeError, ValueError
        If they are outside.

    Examples
    --------
    >>> best = optimal_heavy_ball(0.1, 2.0)
    >>> round(best.rate, 13), round(best.momentum, 14), round(best.contraction, 14)
    (1.3358147468145, 0.40260548415522, 0.63451200473689)
    """
    low, high = (math.sqrt(each) for each in _curvatures(smallest, largest))
    factor = (high - low) / (high + low)
    return Optimum((2.0 / (high + low)) ** 2, factor**2, factor)


def _curvatures(smallest: float, largest: float) -> tuple[float, float]:
    low = number("smallest", smallest, 0.0, open_ends=True)
    return low, number("largest", largest, low)
