"""Means of f and f' over normal pre-activations, one and two at a time: what every law of wide nets is made of."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar, overload

import numpy as np
from numpy.polynomial import chebyshev, polynomial
from numpy.typing import NDArray
from scipy.fft import dct

from stabsim import activations, checks
from stabsim.activations import Activation, ClosedForm
from stabsim.theory import quadrature
from stabsim.theory.closed_forms import closed_form

Floats = NDArray[np.float64]
Value = TypeVar("Value", float, Floats)

SMALLEST_SLOPE_STD = 1e-5
SMALLEST_STD = 1e-100  # what the limit of variance 0 is taken at, where f and f' may jump


@dataclass(frozen=True)
class GaussianMoments(Generic[Value]):
    """Means over s ~ N(0, variance): floats, or arrays of the shape of the variances.

    Attributes
    ----------
    mean, mean_square : float or array
        E f(s) and E f(s)^2.
    derivative_mean, derivative_mean_square : float or array
        E f'(s) and E f'(s)^2.
    slope : float or array
        d E f(s)^2 / d variance = E f'(s)^2 + E f(s) f''(s) (Schoenholz et al. 2017, arXiv:1611.01232, equation 9), for
        f without jumps; below a variance of 1e-10 its value there, if f(0) is not 0.
    """

    mean: Value
    mean_square: Value
    derivative_mean: Value
    derivative_mean_square: Value
    slope: Value

    @property
    def variance(self) -> Value:
        """Return Var f(s)."""
        return self.mean_square - self.mean * self.mean


@overload
def moments(activation: str | Activation, variance: float = 1.0, *, closed: bool = True) -> GaussianMoments[float]: ...


@overload
def moments(
    activation: str | Activation, variance: NDArray[Any] | Sequence[Any], *, closed: bool = True
) -> GaussianMoments[Floats]: ...


def moments(activation: str | Activation, variance: Any = 1.0, *, closed: bool = True) -> GaussianMoments[Any]:
    """Return means of an activation and its derivative over normal pre-activations of mean 0.

    Parameters
    ----------
    activation : str or Activation
        A name of the registry, with or without parameters, or the user's own.
    variance : float or array
        Of the pre-activations, from 0 to 1e12 (1e300 for rays and lines); 1 unless told. At 0, E f'^2 is the limit
        from above.
    closed : bool
        Whether closed forms are used where there are some; quadrature, unless. They agree to 12 digits.

    Returns
    -------
    GaussianMoments

    Raises
    ------
    TypeError, ValueError
        If the activation is unknown, not finite, or too rough for quadrature, or the variance is not allowed.

    Notes
    -----
    The definitions of Poole et al. 2016 (arXiv:1606.05340), equations 3 and 6. Quadrature is Gauss-Legendre on panels
    between kinks on which f and f' are smooth.

    Examples
    --------
    >>> found = moments("tanh")
    >>> round(found.mean_square, 12), round(found.derivative_mean_square, 12)
    (0.394294490398, 0.464402902448)
    >>> moments("relu", [1.0, 4.0]).mean_square
    array([0.5, 2. ])
    """
    chosen = activations.activation(activation)
    form = closed_form(chosen) if closed else None
    q = checks.array("variance", variance, 0.0, form.largest_variance if form else quadrature.LARGEST_VARIANCE)
    flat = np.atleast_1d(q).reshape(-1)
    found = _by_quadrature(chosen, flat) if form is None else _by_closed_form(form, flat)
    return GaussianMoments(*(_shaped(values, q) for values in found))


def signal_moments(activation: Activation, variance: Floats) -> GaussianMoments[Floats]:
    """Return the moments over s ~ N(0, variance) as a net has them: where the variance is 0, f' is f'(0), no limit."""
    found = moments(activation, variance)
    at_zero = activation.evaluate("derivative", 0.0)
    return replace(
        found,
        derivative_mean=np.where(variance == 0.0, at_zero, found.derivative_mean),
        derivative_mean_square=np.where(variance == 0.0, at_zero**2, found.derivative_mean_square),
    )


def _shaped(values: Floats, like: Floats) -> Any:
    return float(values[0]) if like.ndim == 0 else values.reshape(like.shape)


def _by_closed_form(form: ClosedForm, q: Floats) -> tuple[Floats, ...]:
    one = np.ones_like(q)
    squares = form.product(q, q, one), form.derivative_product(q, q, one)
    return form.mean(q), squares[0], form.derivative_mean(q), squares[1], form.slope(q)


@np.errstate(over="ignore", invalid="ignore")  # what grows beyond float64 is refused below
def _by_quadrature(activation: Activation, q: Floats) -> tuple[Floats, ...]:
    std = np.maximum(np.sqrt(q), SMALLEST_STD)
    at = quadrature.normal(activation, std)
    z, d = quadrature.evaluate(activation, at.x)
    at_zero = quadrature.evaluate(activation, np.zeros(1))[0]

    def mean(values: Floats) -> Floats:
        return at.mean(values, len(std))

    # E f f' s / variance is the slope (Stein's lemma); f(0) is taken off, or rounding would stay where s is small.
    ratio = at.x / std[at.owner, None]
    slope = (mean((z - at_zero) * d * ratio) + at_zero * mean(d * ratio)) / std
    small = (std < SMALLEST_SLOPE_STD) & (at_zero != 0.0)  # rounding over std is left of E f' s, where f(0) is not 0
    if small.any():
        slope[small] = _by_quadrature(activation, np.array([SMALLEST_SLOPE_STD**2]))[-1]
    first, second, passed = mean(z), mean(z**2), mean(d**2)
    outer = np.abs(ratio) > quadrature.TAIL - 0.5
    # What lies far out must not count, unless all of f^2 does not: a kink at eight standard deviations is no growth.
    parts = ((mean(z**2 * outer), second, q + at_zero**2), (mean(d**2 * outer), passed, 1.0))
    grows = np.any([(far > 1e-9 * whole) & (far > 1e-13 * size) for far, whole, size in parts], axis=0)
    if grows.any():
        raise quadrature.QuadratureError(
            f"activation {str(activation)!r} grows too fast for its mean square to be found within {quadrature.TAIL:g} "
            f"standard deviations, at a variance of {q[grows][0]:g}"
        )
    zero = q == 0.0
    first, second = np.where(zero, at_zero, first), np.where(zero, at_zero**2, second)
    # What is as small as the standard deviation that stands for 0 is 0: f' of x^2, say.
    rest = (np.where(zero & (np.abs(each) < math.sqrt(SMALLEST_STD)), 0.0, each) for each in (mean(d), passed, slope))
    return first, second, *rest


@dataclass(frozen=True)
class PairMoments:
    """E f(u) f(v) and E f'(u) f'(v) as functions of the correlation of two normal pre-activations of mean 0.

    In the angle between the samples both are smooth, even for kinked f, so they are kept as Chebyshev series in it.
    """

    _series: tuple[Floats, Floats] | None
    _closed: tuple[ClosedForm, float, float] | None

    def product(self, correlation: Floats) -> Floats:
        """Return E f(u) f(v) at correlations from -1 to 1."""
        return self._evaluate(0, correlation)

    def derivative_product(self, correlation: Floats) -> Floats:
        """Return E f'(u) f'(v) at correlations from -1 to 1."""
        return self._evaluate(1, correlation)

    def _evaluate(self, which: int, correlation: Floats) -> Floats:
        c = np.asarray(correlation, np.float64)
        if self._closed is not None:
            form, p, q = self._closed
            function = (form.product, form.derivative_product)[which]
            return function(np.full_like(c, p), np.full_like(c, q), c)
        assert self._series is not None
        return np.asarray(chebyshev.chebval(2.0 / math.pi * np.arccos(c) - 1.0, self._series[which]))


def pair_moments(activation: Activation, p: float, q: float, *, closed: bool = True) -> PairMoments:
    """Return the means of two pre-activations of variances p and q, both > 0."""
    form = closed_form(activation) if closed else None
    if form is not None:
        return PairMoments(None, (form, p, q))
    return PairMoments(_series(activation, p, q), None)


def at_correlation(activation: Activation, p: float, q: float, correlation: float) -> tuple[float, float]:
    """Return E f(u) f(v) and E f'(u) f'(v) at one correlation: what `PairMoments` is too much for."""
    c = np.array(correlation)
    if closed_form(activation) is not None:
        pair = pair_moments(activation, p, q)
        return float(pair.product(c)), float(pair.derivative_product(c))
    product, derivative_product = _at_angles(activation, p, q, np.arccos(c)[None])[:, 0]
    return float(product), float(derivative_product)


SMALLEST_ORDER, LARGEST_ORDER = 16, 1024
ANGLES = 8  # at a time, which bounds the memory of nested panels


@functools.lru_cache(maxsize=64)
def _series(activation: Activation, p: float, q: float) -> tuple[Floats, Floats]:
    """Return Chebyshev coefficients in the angle, of an order that is doubled until the last ones are rounding."""
    order = SMALLEST_ORDER
    values = _at_angles(activation, p, q, _angles(order))
    while True:
        series = np.array([_coefficients(each) for each in values])
        last = np.abs(series[:, -order // 8 :]).max(axis=1)
        if np.all(last <= 1e-13 * np.abs(series).max(axis=1)):
            return series[0], series[1]
        order *= 2
        if order > LARGEST_ORDER:
            raise quadrature.QuadratureError(
                f"the correlation map of {str(activation)!r} is not smooth enough at variances {p:g} and {q:g}"
            )
        doubled = np.empty((2, order + 1))
        doubled[:, ::2] = values
        doubled[:, 1::2] = _at_angles(activation, p, q, _angles(order)[1::2])
        values = doubled


def _angles(order: int) -> Floats:
    """Return Chebyshev points of the second kind on [0, pi]: those of an order are among those of twice the order."""
    return np.asarray(0.5 * math.pi * (1.0 + np.cos(math.pi / order * np.arange(order + 1))))


def _coefficients(values: Floats) -> Floats:
    series = dct(values, type=1) / (len(values) - 1)
    series[[0, -1]] *= 0.5
    return np.asarray(series)


def _at_angles(activation: Activation, p: float, q: float, angles: Floats) -> Floats:
    """Return both means at angles, (2, angles).

    Where f is analytic, by Mehler's formula: E f(u) f(v) is the sum of a_k b_k c^k, a and b being the Hermite
    coefficients of f. At a kink these fall too slowly; there, by quadrature.
    """
    products = None if activation.kinks else _hermite_products(activation, p, q)
    if products is None:
        parts = [angles[i : i + ANGLES] for i in range(0, len(angles), ANGLES)]
        return np.concatenate([_quadrature(activation, p, q, part) for part in parts], axis=1)
    return np.array([polynomial.polyval(np.cos(angles), each) for each in products])


_GRID = np.linspace(-13.0, 13.0, 1025)  # beyond, a Hermite polynomial times the normal density is below 1e-18
MOST_TERMS = 4096  # which the grid resolves: the last ones oscillate 10 times a unit


@functools.lru_cache(maxsize=64)
def _hermite_products(activation: Activation, p: float, q: float) -> Floats | None:
    """Return a_k b_k of f and of f', (2, terms), in orthonormal Hermite polynomials; None if they fall too slowly.

    The trapezoidal rule is exact to rounding for analytic functions (Trefethen & Weideman, SIAM Review 56, 2014). The
    series is whole once the squares of a and of b add up to E f^2 (Parseval), not when some terms in a row are small.
    """
    values = [np.array(quadrature.evaluate(activation, math.sqrt(variance) * _GRID)) for variance in (p, q)]
    before = np.zeros_like(_GRID)
    now = np.exp(-0.5 * _GRID**2) / math.sqrt(2.0 * math.pi) * (_GRID[1] - _GRID[0])
    squares = np.array([each**2 @ now for each in values])
    products, rest = np.empty((MOST_TERMS, 2)), squares.copy()
    for k in range(MOST_TERMS):
        terms = np.array([each @ now for each in values])
        products[k] = terms[0] * terms[1]
        rest -= terms**2
        small = np.abs(products[k - 15 : k + 1]) <= 1e-17 * np.sqrt(squares[0] * squares[1])
        if k % 32 == 31 and np.all(small) and np.all(rest <= 1e-12 * squares):
            return products[: k + 1].T
        before, now = now, (_GRID * now - math.sqrt(k) * before) / math.sqrt(k + 1)
    return None


def _quadrature(activation: Activation, p: float, q: float, angles: Floats) -> Floats:
    """Integrate over u, then over v given u, which is normal about c sqrt(q / p) u with standard deviation sin sqrt(q).

    The inner mean is f smoothed: as a function of u it has f's panels, stretched, and where f has a kink a rounded
    one, whose width falls with the angle.
    """
    cosine, sine = np.cos(angles), np.maximum(np.sin(angles), 1e-12)
    std = np.full(len(angles), math.sqrt(p))
    slope = cosine * math.sqrt(q / p)
    with np.errstate(divide="ignore", invalid="ignore"):
        kinks = np.array(activation.kinks) / slope[:, None]
        width = (sine * math.sqrt(q) / np.abs(slope))[:, None, None]
        rounded = (kinks[..., None] + width * np.arange(-9.0, 9.1, 3.0)).reshape(len(angles), -1)
    outer = quadrature.normal(activation, std, extra=np.nan_to_num(rounded, posinf=0.0, neginf=0.0))
    center = (slope[outer.owner, None] * outer.x).reshape(-1)
    spread = np.repeat(sine[outer.owner] * math.sqrt(q), quadrature.NODES)
    inner = quadrature.normal(activation, spread, center)
    shape = outer.x.shape
    return np.array(
        [
            outer.mean(one * inner.mean(other, center.size).reshape(shape), len(angles))
            for one, other in zip(
                quadrature.evaluate(activation, outer.x), quadrature.evaluate(activation, inner.x), strict=True
            )
        ]
    )
