"""Heavy ball on a quadratic, from rest: when it crosses the minimum and by how much, and when momentum outweighs.

Of one direction of curvature lambda, at learning rate eta: p = eta lambda, velocity v' = a v - p x, x' = x + v', with a
for the momentum. With S_t of `stabsim.theory.quadratic`, v_t = -p S_t x_0 and x_t = (S_(t+1) - a S_t) x_0. So the
momentum term a v outweighs the gradient term p x after t steps if 0 < S_(t+1) / S_t < 2 a, and x turns where S changes
its sign. All follows from that, for the *first swing*: until x first turns, or for ever where it never does.

- x crosses 0 if and only if p > (1 - sqrt(a))^2; without momentum: if p > 1. Where p reaches (1 + sqrt(a))^2, in the
  first step.
- Momentum outweighs without a crossing if and only if a > 1/4 and 1/2 - a < p <= (1 - sqrt(a))^2.
- For a > 1/4, momentum outweighs within the first swing if and only if 1/2 - a < p < 1 + a; for smaller a, only where x
  crosses, and there on bands below those p at which pi / theta is whole; for a = 0 never.
- x still shrinks where p < 2 (1 + a).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stabsim.checks import array

Floats = NDArray[np.float64]


def largest_rate_without_crossing(curvature: ArrayLike, momentum: ArrayLike = 0.0) -> Floats:
    """Return the largest learning rate at which x comes to the minimum from one side: (1 - sqrt(momentum))^2 / lambda.

    Parameters
    ----------
    curvature : float or array
        lambda, > 0.
    momentum : float or array, default 0
        From 0, below 1.

    Returns
    -------
    array
        Of the common shape.

    Raises
    ------
    TypeError, ValueError
        If an argument is outside its range.

    Examples
    --------
    >>> largest_rate_without_crossing([0.1, 2.0]).tolist(), float(largest_rate_without_crossing(2.0, 0.81).round(12))
    ([10.0, 0.5], 0.005)
    """
    root = 1.0 - np.sqrt(_momenta(momentum))
    return np.asarray(root**2 / array("curvature", curvature, 0.0, open_ends=True))


def turning_steps(product: ArrayLike, momentum: ArrayLike = 0.0) -> Floats:
    """Return after how many steps x first turns, which is behind the minimum: inf where it never does.

    Parameters
    ----------
    product : float or array
        p, learning rate times curvature, > 0.
    momentum : float or array, default 0
        From 0, below 1.

    Returns
    -------
    array
        Of the common shape: ceil(pi / theta) - 1 for roots of angle theta, and 1 where they are negative.

    Raises
    ------
    TypeError, ValueError
        If an argument is outside its range.

    Examples
    --------
    >>> turning_steps([0.01, 0.2, 1.9], [0.9, 0.9, 0.0]).tolist()  # the notes' bowl: momentum in x and y, SGD in y
    [35.0, 6.0, 1.0]
    """
    return _turn(*_given(product, momentum))


def first_overshoot(product: ArrayLike, momentum: ArrayLike = 0.0) -> Floats:
    """Return how far x goes beyond the minimum before it first turns, by its distance at the start: 0 if it never does.

    Parameters
    ----------
    product : float or array
        p, learning rate times curvature, > 0.
    momentum : float or array, default 0
        From 0, below 1.

    Returns
    -------
    array
        Of the common shape.

    Raises
    ------
    TypeError, ValueError
        If an argument is outside its range.

    Notes
    -----
    With r = sqrt(momentum), n for the steps until it turns and w = pi - n theta, below theta: r^n (r sin(w) +
    sin(theta - w)) / sin(theta). That is at least r^(pi / theta), and equal where pi / theta is whole. Where it turns
    after one step: p - 1. Of large p later swings may be wider, even where x shrinks in the long run.

    Examples
    --------
    >>> first_overshoot([0.01, 0.2, 1.9], [0.9, 0.9, 0.0]).round(4).tolist()
    [0.1532, 0.709, 0.9]
    """
    p, a = _given(product, momentum)
    turn, angle = _turn(p, a), _angles(p, a)
    late = np.isfinite(turn) & (turn > 1)
    n, theta, r = np.where(late, turn, 1.0), np.where(late, angle, 1.0), np.sqrt(a)
    w = np.pi - n * theta
    swung = r**n * (r * np.sin(w) + np.sin(theta - w)) / np.sin(theta)
    return np.where(late, swung, np.where(turn == 1.0, p - 1.0, 0.0))


def outweighing_steps(product: ArrayLike, momentum: ArrayLike = 0.0) -> Floats:
    """Return after how many steps the momentum term first exceeds the gradient term: inf if not before x first turns.

    Parameters
    ----------
    product : float or array
        p, learning rate times curvature, > 0.
    momentum : float or array, default 0
        From 0, below 1.

    Returns
    -------
    array
        Of the common shape: t, where abs(a v_t) > p abs(x_t).

    Raises
    ------
    TypeError, ValueError
        If an argument is outside its range.

    Notes
    -----
    Where x never turns, a v / (p x) rises to a / (r - a), r being the larger root: nearly a / (1 - a) for small p.

    Examples
    --------
    >>> outweighing_steps([0.01, 0.2, 1.9], [0.9, 0.9, 0.9]).tolist()
    [2.0, 1.0, inf]
    """
    p, a = _given(product, momentum)
    double, discriminant = _double(p, a), _discriminant(p, a)
    with np.errstate(divide="ignore", invalid="ignore"):
        root = np.sqrt(np.abs(discriminant))
        larger = 0.5 * (double + root)
        ratio = np.where(larger > 0.0, a / larger**2, 0.0)  # of the roots
        near = (2.0 * a - larger) / (2.0 * a - ratio * larger)
        real = np.where(ratio < 1.0, np.log(near) / np.log(ratio), larger / (2.0 * a - larger))
        steps = np.floor(real) + 1.0
        monotone = np.where((discriminant >= 0.0) & (double > 0.0) & (larger < 2.0 * a), steps, np.inf)
        angle = _angles(p, a)
        swung = np.floor(np.arctan2(np.sin(angle), 2.0 * np.sqrt(a) - np.cos(angle)) / angle) + 1.0
    swinging = np.where(swung < _turn(p, a), swung, np.inf)
    return np.where(discriminant < 0.0, swinging, monotone)


def _given(product: ArrayLike, momentum: ArrayLike) -> tuple[Floats, Floats]:
    p, a = np.broadcast_arrays(array("product", product, 0.0, open_ends=True), _momenta(momentum))
    return p, a


def _momenta(momentum: ArrayLike) -> Floats:
    return array("momentum", momentum, 0.0, 1.0, open_high=True)


def _double(p: Floats, a: Floats) -> Floats:
    return 1.0 + a - p


def _discriminant(p: Floats, a: Floats) -> Floats:
    """Return that of the roots, without cancellation where it is 0."""
    low, high = 1.0 - np.sqrt(a), 1.0 + np.sqrt(a)
    return np.asarray((p - low**2) * (p - high**2))


def _angles(p: Floats, a: Floats) -> Floats:
    """Return the angle of complex roots; pi where they are real and negative, 0 where they are real and positive."""
    discriminant, double = _discriminant(p, a), _double(p, a)
    return np.arctan2(np.sqrt(np.maximum(-discriminant, 0.0)), double)


def _turn(p: Floats, a: Floats) -> Floats:
    angle = _angles(p, a)
    with np.errstate(divide="ignore"):
        complex_ones = np.maximum(np.ceil(np.pi / angle) - 1.0, 1.0)
    crossing = p > (1.0 - np.sqrt(a)) ** 2
    return np.where(crossing, complex_ones, np.inf)
