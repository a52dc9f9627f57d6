"""Gaussian means of an activation in closed form: rays from the origin, straight lines, erf and sine.

Two variables u, v are jointly normal with mean 0, variances p and q and correlation c.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stabsim import checks
from stabsim.activations import Activation

Floats = NDArray[np.float64]


def arc_cosine(order: int, correlation: ArrayLike) -> Floats:
    """Return the arc-cosine kernel of an order, normalized to 1 at correlation 1.

    kappa_0 is twice the probability that two ReLU units are both on, kappa_1 the correlation map of a ReLU net at its
    critical point, kappa_2 that of max(x, 0)^2.

    Parameters
    ----------
    order : int
        0, 1 or 2.
    correlation : array
        From -1 to 1, any shape.

    Raises
    ------
    TypeError, ValueError
        If the order is another one, or a correlation lies outside.

    Notes
    -----
    Cho & Saul, NeurIPS 2009, equations 4 to 7: kappa_n(cos t) = J_n(t) / J_n(0).

    Examples
    --------
    >>> arc_cosine(1, [0.0, 0.5, 1.0]).round(8)
    array([0.31830989, 0.60899778, 1.        ])
    """
    c = checks.array("correlation", correlation, -1.0, 1.0)
    if isinstance(order, bool) or not isinstance(order, int) or order not in (0, 1, 2):
        raise ValueError(f"order of the arc-cosine kernel must be 0, 1 or 2, not {order!r}")
    rest, sine = math.pi - np.arccos(c), np.sqrt((1.0 - c) * (1.0 + c))
    if order == 0:
        return np.asarray(rest / math.pi)
    if order == 1:
        return np.asarray((sine + rest * c) / math.pi)
    return np.asarray((3.0 * sine * c + rest * (1.0 + 2.0 * c * c)) / (3.0 * math.pi))


Pair = Callable[[Floats, Floats, Floats], Floats]  # of p, q and c
Single = Callable[[Floats], Floats]  # of q


@dataclass(frozen=True)
class ClosedForm:
    """Means over u and v: E f(u) f(v), E f'(u) f'(v), E f(u), E f'(u), and d/dq E f(v)^2."""

    product: Pair
    derivative_product: Pair
    mean: Single
    derivative_mean: Single
    slope: Single
    largest_variance: float = 1e12


def closed_form(activation: Activation) -> ClosedForm | None:
    """Return the closed forms of an activation, if it is one that has them.

    Examples
    --------
    >>> from stabsim.activations import activation
    >>> one = np.ones(1)
    >>> closed_form(activation("relu")).product(one, one, one), closed_form(activation("tanh"))
    (array([0.5]), None)
    """
    if activation.positively_homogeneous and activation.asymptotes is not None:
        (below, _), (above, _) = activation.asymptotes
        return _rays(below, above)
    if not activation.registered:
        return None
    if activation.name == "linear":
        return _line(activation.parameters["alpha"], activation.parameters["beta"])
    return {"erf": _ERF, "sine": _SINE}.get(activation.name)


def _constant(value: float) -> Single:
    return lambda q: np.full_like(q, value)


def _rays(below: float, above: float) -> ClosedForm:
    """Take f as (above + below) / 2 x + (above - below) / 2 |x| (Cho & Saul 2009, order 1, and its mirror image)."""
    even, odd = 0.5 * (above - below), 0.5 * (above + below)

    def product(p: Floats, q: Floats, c: Floats) -> Floats:
        absolute = 2.0 / math.pi * (np.sqrt((1.0 - c) * (1.0 + c)) + c * np.arcsin(c))
        return np.asarray(np.sqrt(p) * np.sqrt(q) * (odd**2 * c + even**2 * absolute))

    def derivative_product(p: Floats, q: Floats, c: Floats) -> Floats:
        return np.asarray(odd**2 + even**2 * 2.0 / math.pi * np.arcsin(c) + 0.0 * (p + q))

    slope, mean_slope = 0.5 * (above**2 + below**2), 2.0 * even / math.sqrt(2.0 * math.pi)
    return ClosedForm(
        product, derivative_product, lambda q: mean_slope * np.sqrt(q), _constant(odd), _constant(slope), 1e300
    )


def _line(alpha: float, beta: float) -> ClosedForm:
    return ClosedForm(
        lambda p, q, c: alpha**2 * np.sqrt(p) * np.sqrt(q) * c + beta**2,
        lambda p, q, c: alpha**2 + 0.0 * (p + q + c),
        _constant(beta),
        _constant(alpha),
        _constant(alpha**2),
        1e300,
    )


def _erf_product(p: Floats, q: Floats, c: Floats) -> Floats:
    """Williams, NIPS 1996, equation 11: the arcsine of 2 c sqrt(p q) / sqrt((1 + 2 p) (1 + 2 q)), as an arctangent."""
    return np.asarray(2.0 / math.pi * np.arctan2(2.0 * np.sqrt(p) * np.sqrt(q) * c, _erf_root(p, q, c)))


def _erf_derivative_product(p: Floats, q: Floats, c: Floats) -> Floats:
    return np.asarray(4.0 / math.pi / _erf_root(p, q, c))


def _erf_root(p: Floats, q: Floats, c: Floats) -> Floats:
    """Return sqrt((1 + 2 p) (1 + 2 q) - 4 p q c^2) without the difference of large numbers."""
    return np.sqrt(1.0 + 2.0 * (p + q) + 4.0 * p * q * (1.0 - c) * (1.0 + c))


_ERF = ClosedForm(
    _erf_product,
    _erf_derivative_product,
    _constant(0.0),
    lambda q: 2.0 / math.sqrt(math.pi) / np.sqrt(1.0 + 2.0 * q),
    lambda q: 4.0 / math.pi / ((1.0 + 2.0 * q) * np.sqrt(1.0 + 4.0 * q)),
)


def _sine_products(p: Floats, q: Floats, c: Floats) -> tuple[Floats, Floats]:
    """Return E cos(u - v) / 2 and E cos(u + v) / 2: u - v is normal of variance p + q - 2 c sqrt(p q)."""
    root = np.sqrt(p) * np.sqrt(q)
    apart, unequal = 2.0 * root * (1.0 - c), (np.sqrt(p) - np.sqrt(q)) ** 2
    together = 2.0 * root * (1.0 + c)
    return 0.5 * np.exp(-0.5 * (unequal + apart)), 0.5 * np.exp(-0.5 * (unequal + together))


def _sine_product(p: Floats, q: Floats, c: Floats) -> Floats:
    """Return (exp(-D / 2) - exp(-S / 2)) / 2, D and S the variances of u - v and u + v; exact for small ones too."""
    root = np.sqrt(p) * np.sqrt(q)
    minus, _ = _sine_products(p, q, np.abs(c))
    return np.asarray(-np.sign(c) * minus * np.expm1(-2.0 * root * np.abs(c)))


_SINE = ClosedForm(
    _sine_product,
    lambda p, q, c: np.add(*_sine_products(p, q, c)),
    _constant(0.0),
    lambda q: np.exp(-0.5 * q),
    lambda q: np.exp(-2.0 * q),
)
