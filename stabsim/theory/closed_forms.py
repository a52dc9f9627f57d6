"""Gaussian means of an activation in closed form: those of rays from the origin, or the activation's own.

Two variables u, v are jointly normal with mean 0, variances p and q and correlation c.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stabsim import activations, checks
from stabsim.activations import Activation, ClosedForm
from stabsim.theory import quadrature

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


def closed_form(activation: Activation) -> ClosedForm | None:
    """Return the closed forms of an activation: those of two rays from the origin, else its own, None without any.

    Raises
    ------
    TypeError, ValueError
        If those that a user gives with an activation are not what quadrature finds.

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
    # Activations are equal whatever their means.
    return None if activation.gaussian_means is None else _own(activation, activation.gaussian_means)


def _constant(value: float) -> Callable[[Floats], Floats]:
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


@functools.lru_cache(maxsize=256)
def _own(activation: Activation, means: Callable[..., ClosedForm]) -> ClosedForm:
    form = means(*activation.parameters.values())
    if activations.is_registered(activation) and means is activations.activation(str(activation)).gaussian_means:
        return form  # the tests hold it
    if not isinstance(form, ClosedForm):
        raise TypeError(f"gaussian_means of activation {str(activation)!r} must return a ClosedForm, not {form!r}")
    _hold(activation, form)
    return form


# Where a user's closed form is held against quadrature.
HELD = {"p": np.array([0.3, 1.0, 2.5]), "q": np.array([2.5, 1.0, 0.3]), "c": np.array([-0.6, 0.0, 0.4])}
TOLERANCE = 1e-6


def _hold(activation: Activation, form: ClosedForm) -> None:
    """Refuse a closed form of which a mean is not that of quadrature, with the point and both values."""
    p, q = (np.minimum(HELD[name], form.largest_variance) for name in "pq")
    c = HELD["c"]
    u, v = (quadrature.normal(activation, np.sqrt(variance)) for variance in (p, q))
    # Given u, v is normal about c sqrt(q / p) u.
    center = (c * np.sqrt(q / p))[u.owner, None] * u.x
    spread = np.repeat(np.sqrt(q * (1.0 - c * c))[u.owner], u.x.shape[1])
    given = quadrature.normal(activation, spread, center.reshape(-1))
    at_u, at_v, at_given = (np.array(quadrature.evaluate(activation, at.x)) for at in (u, v, given))
    sizes = [np.sqrt(u.mean(at_u[k] ** 2, len(p)) * v.mean(at_v[k] ** 2, len(q))) for k in (0, 1)]
    pairs = [u.mean(at_u[k] * given.mean(at_given[k], center.size).reshape(center.shape), len(p)) for k in (0, 1)]
    means, norms = ([v.mean(at_v[k] ** power, len(q)) for k in (0, 1)] for power in (1, 2))
    slope = v.mean(at_v[0] * at_v[1] * v.x, len(q)) / q
    pair, one = {"p": p, "q": q, "c": c}, {"q": q}
    for role, arguments, expected, size in (
        ("product", pair, pairs[0], sizes[0]),
        ("derivative_product", pair, pairs[1], sizes[1]),
        ("mean", one, means[0], np.sqrt(norms[0])),
        ("derivative_mean", one, means[1], np.sqrt(norms[1])),
        ("slope", one, slope, np.abs(slope)),
    ):
        what = f"{role} of the closed form of activation {str(activation)!r}"
        try:
            found = np.array(getattr(form, role)(*arguments.values()), np.float64)
        except Exception as error:
            raise ValueError(f"{what} fails: {error}") from error
        if found.shape != q.shape:
            raise ValueError(f"{what} must return an array of the shape {q.shape} of its arguments, not {found.shape}")
        wrong = ~(np.abs(found - expected) <= TOLERANCE * size)
        if wrong.any():
            first = int(np.argmax(wrong))
            point = ", ".join(f"{name} = {values[first]:g}" for name, values in arguments.items())
            raise ValueError(f"{what} is {found[first]:.6g} at {point}, but quadrature finds {expected[first]:.6g}")
