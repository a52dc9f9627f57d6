"""Signs of the eigenvalues of small random symmetric matrices, as models of the Hessian at a critical point.

Exact laws of the Gaussian orthogonal ensemble (GOE) come from Pfaffians, beyond 60 rows from a series in 1/n; those of
other ensembles from a closed form and from quadrature.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.polynomial import legendre
from numpy.typing import NDArray
from scipy.special import erfcx, ive

from stabsim import names
from stabsim.checks import whole_number
from stabsim.theory import pfaffians

Floats = NDArray[np.float64]

ENSEMBLES = ("goe", "independent_signs", "equal_variance")
_LARGEST_EXACT = 60  # there the first term left out of the series is 1e-13
_ZETA_PRIME = -0.16542114370045092  # derivative of the Riemann zeta function at -1
_ROOT_3 = math.sqrt(3.0)


class PositiveDefiniteSeries(NamedTuple):
    """Coefficients of n^2, n, ln n, 1 and of 1/n, 1/n^2, ... in ln P(GOE matrix is positive definite).

    The coefficient of n^2 is that of Dean & Majumdar 2006 (cond-mat/0609651), the form of the series that of Borot,
    Eynard, Majumdar & Nadal 2011 (arXiv:1009.1945). All other coefficients were identified for this package: fitted
    to the exact probabilities up to n = 400 at 700 digits, which gave 40 digits of the first ones, and found once as
    combinations of ln 2, ln 3, ln(2 + sqrt 3) and zeta'(-1), or as a + b sqrt 3 with rational a and b, by PSLQ.
    """

    square: float
    linear: float
    logarithm: float
    constant: float
    inverse: tuple[float, ...]


GOE_SERIES = PositiveDefiniteSeries(
    square=-math.log(3.0) / 4,
    linear=-math.log1p(2 / _ROOT_3) / 2,
    logarithm=-1 / 24,
    constant=_ZETA_PRIME / 2 - math.log(2.0) / 12 - 3 * math.log(3.0) / 16 + math.log(2 + _ROOT_3) / 4,
    inverse=(
        (1 - _ROOT_3) / 48,
        (23 - 24 * _ROOT_3) / 2304,
        (15 + _ROOT_3) / 2304,
        (1944 * _ROOT_3 - 1487) / 331776,
        -(12259 + 54 * _ROOT_3) / 829440,
    ),
)


def positive_definite_probability(n: int, ensemble: str = "goe") -> float:
    """Return the probability that a random symmetric matrix has positive eigenvalues only.

    Parameters
    ----------
    n : int
        Rows of the matrix.
    ensemble : str
        ``"goe"``, (A + A^T) / 2 with independent Gaussian A of equal variance (diagonal entries have twice the
        variance of others); ``"independent_signs"``, eigenvalues whose signs are fair coins; ``"equal_variance"``,
        independent standard Gaussian entries, on the diagonal as elsewhere, n up to 3.

    Returns
    -------
    float
        Of the GOE it is below the least float from n = 52 on: see `log_positive_definite_probability`.

    Raises
    ------
    TypeError, ValueError
        If n is not a whole number >= 1, or above 3 with ``"equal_variance"``; if the ensemble is unknown.

    Notes
    -----
    The scale of the entries does not matter. GOE: Dedieu & Malajovich 2008, Chiani 2014 (arXiv:1209.3394). Equal
    variances: a quadrature derived here, to about 13 digits.

    Examples
    --------
    >>> round(positive_definite_probability(4), 15), positive_definite_probability(4, "independent_signs")
    (0.002456709259786, 0.0625)
    >>> round(positive_definite_probability(2, "equal_variance"), 12)
    0.115852249106
    """
    if ensemble == "goe":
        return math.exp(log_positive_definite_probability(n))
    if ensemble == "independent_signs":
        return 0.5 ** whole_number("n", n)
    if ensemble == "equal_variance":
        if whole_number("n", n) > 3:
            raise ValueError(f"n must be an integer from 1 to 3 with equal_variance, not {n}: simulate larger matrices")
        return (0.5, _equal_variance_2(), _equal_variance_3())[n - 1]
    raise names.unknown("ensemble", ensemble, ENSEMBLES)


def log_positive_definite_probability(n: int, ensemble: str = "goe") -> float:
    """Return the natural logarithm of `positive_definite_probability`, which does not underflow.

    Parameters
    ----------
    n : int
        Rows of the matrix.
    ensemble : str
        As there.

    Returns
    -------
    float
        GOE: to all digits of float64 up to n = 60, and to about 1e-13 (and its own rounding) beyond, by the series.

    Raises
    ------
    TypeError, ValueError
        As there.

    Examples
    --------
    >>> round(log_positive_definite_probability(60), 9), round(log_positive_definite_probability(1000), 6)
    (-1011.968689625, -275037.203105)
    """
    if ensemble == "goe":
        if whole_number("n", n) <= _LARGEST_EXACT:
            return pfaffians.log_positive_definite_probabilities(_LARGEST_EXACT)[n - 1]
        return positive_definite_series(n, len(GOE_SERIES.inverse))
    if ensemble == "independent_signs":
        return -whole_number("n", n) * math.log(2.0)
    return math.log(positive_definite_probability(n, ensemble))


def positive_definite_series(n: int, inverse_powers: int = 1) -> float:
    """Return the asymptotic series of ln P(GOE matrix is positive definite).

    Parameters
    ----------
    n : int
        Rows of the matrix.
    inverse_powers : int
        Powers of 1/n that are kept, 0 to 5: the series is asymptotic, so more are better only if n is large.

    Returns
    -------
    float

    Raises
    ------
    TypeError, ValueError
        If an argument is not a whole number in its range.

    Notes
    -----
    The error is of the order of the next term; for the coefficients and their sources see `PositiveDefiniteSeries`.

    Examples
    --------
    >>> round(positive_definite_series(10), 6), round(log_positive_definite_probability(10), 6)
    (-31.418255, -31.418328)
    """
    rows, kept = whole_number("n", n), whole_number("inverse_powers", inverse_powers, 0, len(GOE_SERIES.inverse))
    tail = sum((inverse / rows**power for power, inverse in enumerate(GOE_SERIES.inverse[:kept], start=1)), 0.0)
    leading = GOE_SERIES.square * rows**2 + GOE_SERIES.linear * rows
    return leading + GOE_SERIES.logarithm * math.log(rows) + GOE_SERIES.constant + tail


def index_distribution(n: int) -> Floats:
    """Return the probabilities that a GOE matrix has 0, 1, ..., n negative eigenvalues.

    Parameters
    ----------
    n : int
        Rows of the matrix, 1 to 60.

    Returns
    -------
    array (n + 1,)
        Each to all digits that a float64 of its size has; symmetric, since H and -H have one law.

    Raises
    ------
    TypeError, ValueError
        If n is not a whole number from 1 to 60.

    Notes
    -----
    The generating function, whose coefficients these are, is a Pfaffian (de Bruijn 1955). 20 rows take 0.02 s, 60
    rows 8 s.

    Examples
    --------
    >>> index_distribution(3).round(6)
    array([0.024921, 0.475079, 0.475079, 0.024921])
    """
    return np.array(pfaffians.index_distribution(whole_number("n", n, 1, _LARGEST_EXACT)))


def index_variance(n: int) -> float:
    """Return the variance of the number of negative eigenvalues of a GOE matrix, whose mean is n / 2.

    Parameters
    ----------
    n : int
        Rows of the matrix, 1 to 60.

    Returns
    -------
    float
        It grows as ln(n) / pi^2 (Majumdar, Nadal, Scardicchio & Vivo 2009, arXiv:0910.0775).

    Raises
    ------
    TypeError, ValueError
        If n is not a whole number from 1 to 60.

    Examples
    --------
    >>> round(index_variance(10), 12)
    0.473571961327
    """
    return float(index_distribution(n) @ (np.arange(n + 1) - n / 2) ** 2)


def _equal_variance_2() -> float:
    """Return the share of the sphere that the elliptical cone u^2 > v^2 + 2 z^2, u > 0, takes.

    The entries are (u + v) / sqrt 2, (u - v) / sqrt 2 and z. The integrand has the period pi: equal steps converge
    geometrically.
    """
    squares = np.sin(np.pi * np.arange(64) / 64) ** 2
    return float(0.5 * (1 - np.mean(np.sqrt((1 + squares) / (2 + squares)))))


def _equal_variance_3() -> float:
    """Return P([[d, b], [b, C]] > 0) = E Q(b C^-1 b) over positive C: Q(x) = P(d > x), b is isotropic.

    C has the eigenvalues u (1 +- t) / sqrt 2 with Gaussian u, and r = t u has the density
    r exp(-3 r^2 / 8) I_0(r^2 / 8) / sqrt 2. Over the length of b, Q has the mean 1/2 - erfcx(k) / 2 with
    k = u (1 - t^2) / (4 - 4 t cos angle): u, t = 1 - s^2 and the angle are left, which is stretched where k varies.
    """
    nodes, weights = legendre.leggauss(40)
    u, u_weights = 4.5 * (nodes + 1), 4.5 * weights  # beyond 9 the density is below 1e-18
    s, s_weights = 0.5 * (nodes[:, None] + 1), 0.5 * weights[:, None]
    t = 1 - s * s
    half = np.pi * (np.arange(400) + 0.5) / 800  # of the stretched angle
    stretch = s / np.sqrt(1 + t)  # its square root is the factor between the tangents of the half angles
    share = stretch * np.sin(half) ** 2 + np.cos(half) ** 2
    stretched = np.sqrt(stretch) / share
    gap = (s * s * np.cos(half) ** 2 + stretch * np.sin(half) ** 2 * (1 + t)) / share  # 1 - t cos(angle)
    k = u[:, None, None] * (1 - t * t) / (4 * gap)
    tail = np.mean((0.5 - 0.5 * erfcx(k)) * stretched, axis=2).T  # (s, u)
    r = t * u
    density = r * np.exp(-r * r / 4 - u * u / 2) * ive(0, r * r / 8) * u / (2 * math.sqrt(math.pi))
    return float(np.sum(2 * s * s_weights * u_weights * density * tail))
