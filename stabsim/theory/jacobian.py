"""Singular values of J = dh_L / dh_0 in infinitely wide nets (Pennington, Schoenholz & Ganguli 2017, arXiv:1711.04735).

The exact moments at finite width are `stabsim.theory.finite_width.jacobian_moments`.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.special import erf, erfc

from stabsim import activations
from stabsim.activations import Activation
from stabsim.checks import number, whole_number
from stabsim.names import unknown
from stabsim.theory import quadrature

_WEIGHTS = {"normal": 1.0, "orthogonal": 0.0}  # what W adds to the variance a layer: -s_1 in the paper


def slope_variation(activation: str | Activation, variance: float = 1.0) -> float:
    """Return Var(f'(s)^2) / (E f'(s)^2)^2 over s ~ N(0, variance): mu_2 / mu_1^2 - 1 with mu_k = E f'^(2 k).

    Parameters
    ----------
    activation : str or Activation
        A name of the registry, with or without parameters, or the user's own.
    variance : float, default 1
        q* of the paper, > 0 and up to 1e12.

    Returns
    -------
    float

    Raises
    ------
    TypeError, ValueError
        If the activation is unknown or the variance is outside.

    Notes
    -----
    Closed for two rays from the origin (ReLU: 1), hard_tanh and erf; quadrature to 12 digits for the others. The
    paper's erf(sqrt(pi) x / 2) at q* is erf(x) at pi q* / 4.

    Examples
    --------
    >>> slope_variation("relu"), slope_variation("linear")
    (1.0, 0.0)
    """
    chosen = activations.activation(activation)
    q = number("variance", variance, 0.0, quadrature.LARGEST_VARIANCE, open_ends=True)
    if chosen.positively_homogeneous and chosen.asymptotes is not None:
        below, above = (slope**2 for slope, _ in chosen.asymptotes)
        return ((above - below) / (above + below)) ** 2
    registered = activations.is_registered(chosen)
    if registered and chosen.name == "hard_tanh":  # (1 - p) / p, p = P(|s| < 1)
        return float(erfc(1.0 / math.sqrt(2.0 * q)) / erf(1.0 / math.sqrt(2.0 * q)))
    if registered and chosen.name == "erf":  # (1 + 4 q) / sqrt(1 + 8 q) - 1
        return math.expm1(0.5 * math.log1p(16.0 * q * q / (1.0 + 8.0 * q)))
    return _by_quadrature(chosen, math.sqrt(q))


def _by_quadrature(activation: Activation, std: float) -> float:
    at = quadrature.normal(activation, np.array([std]))
    squares = np.square(quadrature.evaluate(activation, at.x)[1])
    mean = at.mean(squares, 1)
    return float(at.mean(np.square(squares / mean - 1.0), 1)[0])


def squared_singular_value_variance(
    activation: str | Activation, depth: int, *, variance: float = 1.0, weights: str = "normal"
) -> float:
    """Return the variance of the squared singular values of J at the critical point, where their mean is 1.

    Parameters
    ----------
    activation : str or Activation
        A name of the registry, with or without parameters, or the user's own.
    depth : int
        L, layers, from 1.
    variance : float, default 1
        Of the pre-activations, the same at every layer: q* of the paper.
    weights : {"normal", "orthogonal"}, default "normal"

    Returns
    -------
    float

    Raises
    ------
    TypeError, ValueError
        If an argument is outside.

    Notes
    -----
    L (mu_2 / mu_1^2 - 1 - s_1), s_1 = -1 (normal) or 0 (orthogonal), for width -> infinity and chi = sigma_w^2 E f'^2 =
    1 (equations 11 to 19 of the paper). Off that point the mean is chi^L, and the variance has the factor chi^(2 L).

    Examples
    --------
    >>> squared_singular_value_variance("relu", 10), squared_singular_value_variance("relu", 10, weights="orthogonal")
    (20.0, 10.0)
    >>> round(squared_singular_value_variance("hard_tanh", 10, variance=0.1, weights="orthogonal"), 15)
    0.015678565842397
    """
    if weights not in _WEIGHTS:
        raise unknown("weights of a closed form at infinite width", weights, _WEIGHTS)
    return whole_number("depth", depth) * (slope_variation(activation, variance) + _WEIGHTS[weights])


def largest_squared_singular_value(factors: int) -> float:
    """Return the largest eigenvalue of J J^T, J being a product of square normal matrices of variance 1 / width.

    Parameters
    ----------
    factors : int
        How many, from 1: the depth of a linear net.

    Returns
    -------
    float

    Raises
    ------
    TypeError, ValueError
        If it is not a whole number >= 1.

    Notes
    -----
    (t + 1)^(t + 1) / t^t, the edge of the Fuss-Catalan law, for width -> infinity, with independent factors or one
    matrix to the power t (Alexeev, Götze & Tikhomirov 2010, arXiv:1012.2743).

    Examples
    --------
    >>> largest_squared_singular_value(1), round(largest_squared_singular_value(10), 10)
    (4.0, 28.5311670611)
    """
    t = whole_number("factors", factors)
    return (t + 1) * math.exp(t * math.log1p(1.0 / t))


def mean_singular_value(gain: float = 1.0) -> float:
    """Return the mean singular value of a square matrix of independent weights of variance gain^2 / width.

    Parameters
    ----------
    gain : float, default 1
        > 0.

    Returns
    -------
    float

    Raises
    ------
    TypeError, ValueError
        If the gain is outside.

    Notes
    -----
    8 / (3 pi) gain, the mean of the quarter-circle law, for width -> infinity. Glorot & Bengio 2010, after equation 17,
    print 0.8 and 0.5 for tanh nets at gains 1 and 1 / sqrt(3).

    Examples
    --------
    >>> round(mean_singular_value(), 14), round(mean_singular_value(3**-0.5), 14)
    (0.84882636315678, 0.49007012926382)
    """
    return 8.0 / (3.0 * math.pi) * number("gain", gain, 0.0, open_ends=True)
