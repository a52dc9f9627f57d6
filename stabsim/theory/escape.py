"""How long gradient descent with noise stays at a saddle: the exact law of the linear recursion next to it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stabsim.checks import array, number, whole_number

Floats = NDArray[np.float64]


class Variances(NamedTuple):
    """Variances of the two coordinates of `saddle_variances`."""

    ascent: Floats
    descent: Floats


def saddle_variances(steps: ArrayLike, learning_rate: float, noise: float, curvature: float = 2.0) -> Variances:
    """Return how far gradient descent with normal noise has gone from a saddle of two parameters where it started.

    Parameters
    ----------
    steps : array
        Numbers of steps, from 0.
    learning_rate : float
        eta, above 0.
    noise : float
        Standard deviation of what is added to both parts of the gradient, at every step anew.
    curvature : float
        c, above 0, of the loss c (x_1^2 - x_2^2) / 2; 2 unless told, as of x_1^2 - x_2^2.

    Returns
    -------
    Variances
        Of x_1 and x_2, which are normal of mean 0 and independent, in the shape of ``steps``.

    Raises
    ------
    TypeError, ValueError
        If an argument is outside its range.

    Notes
    -----
    x' = (1 -+ eta c) x - eta noise xi, so each variance is eta^2 noise^2 (r^(2 t) - 1) / (r^2 - 1), r = 1 -+ eta c.

    Examples
    --------
    >>> saddle_variances([0, 1, 2], learning_rate=0.1, noise=1.0).descent.round(6)
    array([0.    , 0.01  , 0.0244])
    """
    times = array("steps", steps, 0.0)
    rate = number("learning_rate", learning_rate, 0.0, open_ends=True)
    unit = (rate * number("noise", noise, 0.0)) ** 2
    bend = rate * number("curvature", curvature, 0.0, open_ends=True)
    return Variances(*(unit * _sums(np.array((1 + sign * bend) ** 2), times) for sign in (-1.0, 1.0)))


def escape_probability(
    steps: ArrayLike, learning_rate: float, noise: float, *, drop: float = 1.0, curvature: float = 2.0
) -> Floats:
    """Return the probability that the loss is below that of the saddle by more than ``drop`` after some steps.

    Parameters
    ----------
    steps, learning_rate, noise, curvature
        As of `saddle_variances`.
    drop : float
        Above 0.

    Returns
    -------
    array
        In the shape of ``steps``, to 1e-10; NaN where the variance along x_1 is beyond every float. It is 1/2 after
        about ln(R / (0.6745 eta noise) sqrt(r^2 - 1)) / ln r steps, with R^2 = 2 drop / curvature and r = 1 + eta c:
        logarithmic in 1 / noise.

    Raises
    ------
    TypeError, ValueError
        If an argument is outside its range.

    Notes
    -----
    P(x_2^2 > R^2 + x_1^2) in polar coordinates: the mean of exp(-R^2 / 2 q) over angles t, q = s_2^2 sin(t)^2 - s_1^2
    cos(t)^2 > 0, by double exponential quadrature (Takahasi & Mori 1974, Publ. RIMS 9), since it rises within a layer
    where noise is large. Of continuous time and small noise see Kifer 1981, Israel Journal of Mathematics 40.

    Examples
    --------
    >>> escape_probability([0, 100, 149, 300], learning_rate=0.05, noise=1e-5).round(4)
    array([0.    , 0.    , 0.5332, 1.    ])
    """
    drop = number("drop", drop, 0.0, open_ends=True)
    ascent, descent = saddle_variances(steps, learning_rate, noise, curvature)
    at = np.linspace(-4.0, 4.0, 401)
    parts = 1 / (1 + np.exp(-np.pi * np.sinh(at)))  # of the way from where q is 0 to pi / 2
    weights = np.pi * np.cosh(at) * parts * parts[::-1]
    first, way = np.arctan2(np.sqrt([ascent, descent]), np.sqrt([descent, ascent]))
    beyond = np.multiply.outer(way, parts)
    with np.errstate(divide="ignore", over="ignore"):
        both = (ascent + descent)[..., np.newaxis]
        q = both * np.sin(beyond) * np.sin(2 * first[..., np.newaxis] + beyond)
        shares = np.exp(-drop / curvature / q) @ (weights / weights.sum())
    return np.asarray(np.where(np.isinf(ascent), np.nan, way / (0.5 * np.pi) * shares))


def linear_covariance(steps: int, learning_rate: float, eigenvalues: ArrayLike, noise: ArrayLike) -> Floats:
    """Return the covariance of gradient descent with noise after some steps from a critical point.

    Parameters
    ----------
    steps : int
        How many, from 0.
    learning_rate : float
        eta, above 0.
    eigenvalues : array (n,)
        Of the Hessian.
    noise : array (n, n)
        Covariance of the noise of one gradient, in the basis of the eigenvectors.

    Returns
    -------
    array (n, n)
        In the same basis.

    Raises
    ------
    TypeError, ValueError
        If an argument is outside its range, or shapes do not fit.

    Notes
    -----
    The sum over s < t of R^s eta^2 S R^s, R = 1 - eta H: eta^2 S_ij (q^t - 1) / (q - 1), q = r_i r_j. It holds while
    the Hessian and the noise are what they are at the point.

    Examples
    --------
    >>> linear_covariance(2, 0.1, [2.0, -2.0], [[1.0, 0.0], [0.0, 1.0]]).round(6)
    array([[0.0164, 0.    ],
           [0.    , 0.0244]])
    """
    times = whole_number("steps", steps, 0)
    rate = number("learning_rate", learning_rate, 0.0, open_ends=True)
    values, spread = array("eigenvalues", eigenvalues), array("noise", noise)
    if values.ndim != 1 or spread.shape != (len(values), len(values)):
        raise ValueError(f"noise must have shape (n, n) with eigenvalues (n,), not {spread.shape} and {values.shape}")
    kept = 1 - rate * values
    return rate**2 * spread * _sums(np.multiply.outer(kept, kept), np.array(times))


def _sums(factor: Floats, times: NDArray[Any]) -> Floats:
    """Return sums of factor^s over s < times: where it is 1, as of a flat direction, that is ``times``."""
    apart = factor != 1.0
    with np.errstate(over="ignore"):
        return np.asarray(np.where(apart, (factor**times - 1) / np.where(apart, factor - 1, 1.0), times))
