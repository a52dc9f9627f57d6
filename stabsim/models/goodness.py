"""How well numbers fit a law of mean 0 whose scale is estimated from themselves, and matrices their independence.

Values: the Cramér-von Mises statistic. With an estimated scale its limit is a sum of squared normals, weighted by the
eigenvalues of a kernel (Durbin 1973, Annals of Statistics 1, 279), which is another one for each law; the kernel is
that of the scale sqrt(mean square). The tail of the sum is a saddlepoint approximation (Kuonen 1999, Biometrika 86,
929).

Independence: the largest singular value of a matrix of independent values of one variance follows the Tracy-Widom law
(Johnstone 2001, Annals of Statistics 29, 295), here as a shifted gamma law (Chiani 2014, Journal of Multivariate
Analysis 129, 69). What training has added stands out of it, and an orthogonal matrix stays below. Mean squares of
rows, and of columns, of such a matrix differ by chance alone: their variance is held to a multiple of chi-squared with
the mean and the variance that it has for sums of independent squares.

Which of two laws: the ratio of their likelihoods, integrated over the scale. At the most likely scale instead, laws
with ends would win by it, which is then at an end. The ratio is that of values up to a factor (Lehmann and Romano
2005, Testing Statistical Hypotheses, section 6.3), so that under one law it favors another one by 1000 in at most
0.1% of cases, however few values there are.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import gammainc, gammaincc, gammaln, ndtr, ndtri

Floats = NDArray[np.float64]

NODES = 400  # of the kernel
FEWEST = 5  # values that are tested, and rows or columns of a matrix whose largest singular value is
CUT = 2.0  # parent standard deviations at which a truncated normal ends
INSIDE = math.erf(CUT / math.sqrt(2))
PARENT_DENSITY = math.exp(-CUT * CUT / 2) / math.sqrt(2 * math.pi)
TRUNCATED_STD = math.sqrt(1 - 2 * CUT * PARENT_DENSITY / INSIDE)  # 0.8796, of a parent's 1


@dataclass(frozen=True)
class Family:
    """A law of mean 0 and variance 1, and all its multiples.

    Attributes
    ----------
    distribution, quantile, density : callable
        Of an array.
    partial_square : callable
        E[y^2; y <= x] of x.
    kurtosis : float
        E y^4.
    evidence : callable
        Of values: the logarithm of their likelihood, integrated over the scale by its invariant measure, d log(scale).
    """

    distribution: Callable[[Floats], Floats]
    quantile: Callable[[Floats], Floats]
    density: Callable[[Floats], Floats]
    partial_square: Callable[[Floats], Floats]
    kurtosis: float
    evidence: Callable[[Floats], float]

    @functools.cached_property
    def excess(self) -> float:
        """Return the excess kurtosis of y^2."""
        squares = self.quantile((np.arange(10 * NODES) + 0.5) / (10 * NODES)) ** 2
        centered = squares - squares.mean()
        return float(np.mean(centered**4) / np.mean(centered**2) ** 2) - 3


def _phi(x: Floats) -> Floats:
    return np.exp(-x * x / 2) / math.sqrt(2 * math.pi)


def _normal_evidence(v: Floats) -> float:
    return float(gammaln(v.size / 2)) - math.log(2) - v.size / 2 * math.log(math.pi * float(np.sum(v * v)))


def _log_gammainc(a: float, x: float) -> float:
    """Return the logarithm of the lower incomplete gamma function, where that is too small for a float, too."""
    found = float(gammainc(a, x))
    if found > 1e-290:
        return math.log(found)
    terms = np.arange(1, 40 + int(40 * a / (a + 1 - x)))  # of its series; each is x / (a + 1) of the one before or less
    series = 1 + float(np.sum(np.exp(np.cumsum(np.log(x / (a + terms))))))
    return a * math.log(x) - x - float(gammaln(a + 1)) + math.log(series)


def _normal() -> Family:
    return Family(
        ndtr,
        ndtri,
        _phi,
        lambda x: ndtr(x) - x * _phi(x),
        3.0,
        _normal_evidence,
    )


def _uniform() -> Family:
    end = math.sqrt(3)
    return Family(
        lambda x: np.clip((x / end + 1) / 2, 0, 1),
        lambda t: end * (2 * t - 1),
        lambda x: np.full_like(x, 1 / (2 * end)),
        lambda x: (x**3 + end**3) / (6 * end),
        1.8,
        lambda v: -v.size * math.log(2 * float(np.max(np.abs(v)))) - math.log(v.size),
    )


def _truncated_normal() -> Family:
    c = TRUNCATED_STD
    start = float(ndtr(-CUT))
    # E a^4 of a standard normal within the cut, by parts.
    fourth = 3 * c**2 - 2 * CUT**3 * PARENT_DENSITY / INSIDE

    def evidence(v: Floats) -> float:
        within = 2 * float(np.sum((v / np.max(np.abs(v))) ** 2))
        return _normal_evidence(v) - v.size * math.log(INSIDE) + _log_gammainc(v.size / 2, within)

    return Family(
        lambda x: np.clip((ndtr(np.clip(c * x, -CUT, CUT)) - start) / INSIDE, 0, 1),
        lambda t: ndtri(start + INSIDE * t) / c,
        lambda x: c * _phi(c * x) / INSIDE,
        lambda x: (ndtr(c * x) - c * x * _phi(c * x) - start - CUT * PARENT_DENSITY) / INSIDE / c**2,
        fourth / c**4,
        evidence,
    )


FAMILIES: dict[str, Family] = {"normal": _normal(), "uniform": _uniform(), "truncated_normal": _truncated_normal()}


@functools.cache
def weights(law: str) -> Floats:
    """Return the eigenvalues of the kernel of the Cramér-von Mises statistic with an estimated scale."""
    family = FAMILIES[law]
    t = (np.arange(NODES) + 0.5) / NODES
    x = family.quantile(t)
    by_scale = -x * family.density(x)  # of the distribution function, by the logarithm of the scale
    with_scale = (family.partial_square(x) - t) / 2  # covariance with that of its estimate
    spread = (family.kurtosis - 1) / 4
    cross = np.outer(with_scale, by_scale)
    kernel = np.minimum.outer(t, t) - np.outer(t, t) - cross - cross.T + spread * np.outer(by_scale, by_scale)
    found = np.linalg.eigvalsh(kernel / NODES)
    return np.asarray(found[found > 1e-6])


def tail(eigenvalues: Floats, x: float) -> float:
    """Return P(sum of eigenvalues times squared normals > x).

    Examples
    --------
    >>> round(tail(np.array([1.0]), 3.841458820694124), 2)
    0.05
    """
    eigenvalues = np.asarray(eigenvalues, np.float64)
    if x <= 0:
        return 1.0

    def slope(z: float) -> float:
        return float(np.sum(eigenvalues / (1 - 2 * z * eigenvalues))) - x

    high = 0.5 / float(eigenvalues.max())
    low = -1.0
    while slope(low) > 0:
        low *= 4
    near = high * (1 - 1e-12)
    z = float(brentq(slope, low, near)) if slope(near) > 0 else near
    parts = 1 - 2 * z * eigenvalues
    curvature = 2 * float(np.sum((eigenvalues / parts) ** 2))
    if abs(z) * math.sqrt(curvature) < 1e-4:  # at the mean
        third = 8 * float(np.sum(eigenvalues**3))
        return 0.5 - third / (6 * math.sqrt(2 * math.pi) * math.pow(curvature, 1.5))
    w = math.copysign(math.sqrt(2 * (z * x + 0.5 * float(np.sum(np.log(parts))))), z)
    v = z * math.sqrt(curvature)
    return float(np.clip(ndtr(-(w + math.log(v / w) / w)), 0, 1))


def p_value(law: str, values: Floats) -> float:
    """Return the p-value of a law of any scale, NaN of fewer than `FEWEST` values or zeros only.

    Examples
    --------
    >>> values = np.random.default_rng(0).uniform(-3, 3, 2000)
    >>> p_value("uniform", values) > 0.01, p_value("normal", values) < 1e-6
    (True, True)
    """
    number = values.size
    scale = math.sqrt(float(np.mean(values * values))) if number else 0.0
    if number < FEWEST or scale == 0:
        return math.nan
    t = FAMILIES[law].distribution(np.sort(values, axis=None) / scale)
    ranks = (2 * np.arange(1, number + 1) - 1) / (2 * number)
    return tail(weights(law), 1 / (12 * number) + float(np.sum((t - ranks) ** 2)))


def p_spectrum(law: str, matrix: Floats, squared: float | None = None) -> float:
    """Return the two-sided p-value of the largest singular value, NaN of matrices that are too small.

    Its square is ``squared``, where that is known already.

    Examples
    --------
    >>> matrix = np.random.default_rng(0).normal(size=(60, 40))
    >>> p_spectrum("normal", matrix) > 0.01, p_spectrum("normal", matrix + 0.5) < 1e-6
    (True, True)
    """
    short, long = sorted(matrix.shape)
    square = float(np.mean(matrix * matrix))
    if short < 2 * FEWEST or square == 0:
        return math.nan
    largest = (float(np.linalg.norm(matrix, 2)) ** 2 if squared is None else squared) / square
    a, b = math.sqrt(long - 1), math.sqrt(short)
    center, width = (a + b) ** 2, (a + b) * (1 / a + 1 / b) ** (1 / 3)
    shape, unit, shift = 46.446, 0.186054, 9.84801
    # The variance is estimated from the matrix itself, which takes its part of the spread away.
    mean, spread = shape * unit - shift, shape * unit**2
    taken = (center / width) ** 2 * (FAMILIES[law].kurtosis - 1) / matrix.size
    x = mean + ((largest - center) / width - mean) / math.sqrt(max(1 - taken / spread, 0.25))
    above = float(gammaincc(shape, max(x + shift, 0) / unit))
    below = float(gammainc(shape, max(x + shift, 0) / unit))
    return min(2 * min(above, below), 1.0)


def p_scale(law: str, matrix: Floats) -> float:
    """Return the p-value of one variance in all rows, and in all columns; NaN of matrices that are too small.

    Examples
    --------
    >>> matrix = np.random.default_rng(0).normal(size=(60, 40))
    >>> p_scale("normal", matrix) > 0.01, p_scale("normal", matrix * np.linspace(0.6, 1.4, 40)) < 1e-6
    (True, True)
    """
    square = float(np.mean(matrix * matrix))
    if min(matrix.shape) < 2 * FEWEST or square == 0:
        return math.nan
    family = FAMILIES[law]
    found = []
    for each in (matrix, matrix.T):
        rows, values = each.shape
        sums = np.sum(each * each, axis=1) / square
        spread = float(np.sum((sums - values) ** 2)) / (values * (family.kurtosis - 1))
        mean = rows - 1
        variance = 2 * mean + rows * family.excess / values
        found.append(float(gammaincc(mean * mean / variance, spread * mean / variance)))
    return -math.expm1(2 * math.log1p(-min(*found, 1 - 1e-16)))  # of the smaller of two
