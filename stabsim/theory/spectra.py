"""Spectra of large random matrices: the semicircle law and the Marchenko-Pastur law."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stabsim.checks import array, number, whole_number

Floats = NDArray[np.float64]


def semicircle(x: ArrayLike, radius: float) -> Floats:
    """Return the density of Wigner's semicircle law.

    Parameters
    ----------
    x : array
        Where, of any shape.
    radius : float
        Positive: see `semicircle_radius`.

    Returns
    -------
    array
        Of the shape of x; 0 beyond the radius.

    Raises
    ------
    TypeError, ValueError
        If an argument is not finite, or the radius not positive.

    Notes
    -----
    The limit of matrices with independent centered entries of one variance and finite higher moments (Wigner 1958).

    Examples
    --------
    >>> semicircle([0.0, 3.0], 2.0)
    array([0.31830989, 0.        ])
    """
    reach = number("radius", radius, 0.0, open_ends=True)
    scaled = array("x", x) / reach
    return np.asarray(2 / (math.pi * reach) * np.sqrt(np.maximum((1 - scaled) * (1 + scaled), 0.0)))


def semicircle_radius(n: int, offdiagonal_variance: float) -> float:
    """Return where the semicircle of a large symmetric matrix ends, 2 sqrt(n Var).

    Parameters
    ----------
    n : int
        Rows of the matrix.
    offdiagonal_variance : float
        Variance of an entry off the diagonal, >= 0: 1/2 for (A + A^T) / 2 with independent entries of variance 1.

    Returns
    -------
    float

    Raises
    ------
    TypeError, ValueError
        If an argument is outside its range.

    Notes
    -----
    To leading order in n; the variance on the diagonal does not count (Wigner 1958).

    Examples
    --------
    >>> semicircle_radius(100, 1.0)
    20.0
    """
    return 2 * math.sqrt(whole_number("n", n) * number("offdiagonal_variance", offdiagonal_variance, 0.0))


def marchenko_pastur(x: ArrayLike, ratio: float) -> Floats:
    """Return the density of the positive eigenvalues of X X^T / m, X of n rows and m columns.

    Parameters
    ----------
    x : array
        Where, of any shape.
    ratio : float
        n / m, positive.

    Returns
    -------
    array
        Of the shape of x; 0 outside the edges, infinite at x = 0 with the ratio 1. Its integral is 1 minus the
        `marchenko_pastur_zero_mass`.

    Raises
    ------
    TypeError, ValueError
        If an argument is not finite, or the ratio not positive.

    Notes
    -----
    The limit of large n at that ratio, with independent centered entries of variance 1 (Marchenko & Pastur 1967).

    Examples
    --------
    >>> marchenko_pastur([0.1, 1.0], 0.25)
    array([0.        , 0.61640444])
    """
    where = array("x", x)
    low, high = marchenko_pastur_edges(ratio)
    with np.errstate(divide="ignore", invalid="ignore"):
        density = np.sqrt((high - where) * (where - low)) / (2 * math.pi * ratio * where)
    density = np.where((low < where) & (where < high), density, 0.0)
    return np.where((where == 0) & (low == 0), np.inf, density)


def marchenko_pastur_edges(ratio: float) -> tuple[float, float]:
    """Return the smallest and the largest positive eigenvalue, (1 -+ sqrt(ratio))^2.

    Parameters
    ----------
    ratio : float
        Rows by columns, positive.

    Returns
    -------
    tuple of float

    Raises
    ------
    TypeError, ValueError
        If the ratio is not finite and positive.

    Notes
    -----
    As for `marchenko_pastur`.

    Examples
    --------
    >>> marchenko_pastur_edges(0.25)
    (0.25, 2.25)
    """
    root = math.sqrt(number("ratio", ratio, 0.0, open_ends=True))
    return (1 - root) ** 2, (1 + root) ** 2


def marchenko_pastur_zero_mass(ratio: float) -> float:
    """Return the share of eigenvalues that are 0: those that n rows have beyond m columns.

    Parameters
    ----------
    ratio : float
        Rows by columns, positive.

    Returns
    -------
    float
        1 - 1 / ratio, and 0 at ratios up to 1.

    Raises
    ------
    TypeError, ValueError
        If the ratio is not finite and positive.

    Notes
    -----
    As for `marchenko_pastur`.

    Examples
    --------
    >>> marchenko_pastur_zero_mass(2.0), marchenko_pastur_zero_mass(0.5)
    (0.5, 0.0)
    """
    checked = number("ratio", ratio, 0.0, open_ends=True)
    return (checked - 1) / checked if checked > 1 else 0.0
