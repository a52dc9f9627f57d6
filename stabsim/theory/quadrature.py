"""Gauss-Legendre quadrature on panels, and Gaussian means of any activation by it.

f is cut once into panels on which it is smooth: where f and f' are polynomials of low degree to rounding. Kinks are
ends of panels, so nothing is lost there: 12 digits for every activation of the registry, at any variance up to 1e12
(`tests/test_theory_gaussian.py` holds them against mpmath). A user's activation does as well, if it has no feature that
is narrower than about a twentieth near 0, or than a twentieth of its distance from 0 beyond 16; kinks that it does not
tell are found.
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import numpy as np
from numpy.polynomial import legendre
from numpy.typing import NDArray

from stabsim.activations import Activation
from stabsim.activations.compiled import block

Floats = NDArray[np.float64]

NODES = 20  # of a panel: enough for the square of f and a normal density over three standard deviations
DEGREE = 16  # as which f and f' are resolved
TAIL = 9.0  # standard deviations: beyond lie 2e-19 of a normal law
STEP = 3.0  # standard deviations that a panel spans at most
MIDDLE = 16  # where f is looked at unit by unit; further out, octave by octave
MOST_PANELS = 2000
STEEPEST = 1e4  # times the largest f' that was seen: beyond, f' has a pole, and E f'^2 may be infinite
LARGEST_VARIANCE = 1e12

_NODES, _WEIGHTS = legendre.leggauss(NODES)
_TEST_NODES, _TEST_WEIGHTS = legendre.leggauss(DEGREE + 1)
# From values at the test nodes to Legendre coefficients.
_COEFFICIENTS = np.asarray(legendre.legvander(_TEST_NODES, DEGREE).T) * _TEST_WEIGHTS
_COEFFICIENTS *= np.arange(0.5, DEGREE + 1.0)[:, None]
_TEST_POINTS = np.concatenate([[-1.0 + 1e-12], _TEST_NODES, [1.0 - 1e-12]])
_AT_ENDS = legendre.legvander(np.array([-1.0, 1.0]), DEGREE).T


class QuadratureError(ValueError):
    """An activation is not finite, or too rough for quadrature, where its mean is asked for."""


class Nodes(NamedTuple):
    """Nodes x and weights of several integrals: row p belongs to integral ``owner[p]``."""

    owner: NDArray[np.int64]
    x: Floats
    weights: Floats

    def mean(self, values: Floats, laws: int) -> Floats:
        """Return the integrals of values at the nodes, one a law: means, if the weights of a law add up to 1."""
        return np.asarray(np.bincount(self.owner, np.einsum("pk,pk->p", values, self.weights), laws), np.float64)


def on_panels(cuts: Floats) -> Nodes:
    """Return nodes between the cuts of each integral, (laws, cuts), in any order; empty panels have none.

    Examples
    --------
    >>> found = on_panels(np.array([[0.0, 2.0, 1.0]]))
    >>> round(float(found.mean(found.x**2, 1)[0]), 12)  # 8 / 3
    2.666666666667
    """
    cut = np.sort(cuts, axis=1)
    width = np.diff(cut, axis=1)
    owner, place = np.nonzero(width > 1e-14)
    half = 0.5 * width[owner, place, None]
    return Nodes(owner, cut[owner, place, None] + half * (1.0 + _NODES), half * _WEIGHTS)


def evaluate(activation: Activation, s: Floats) -> tuple[Floats, Floats]:
    """Return f(s) and f'(s).

    Raises
    ------
    QuadratureError
        If one is not finite.
    """
    flat = np.ascontiguousarray(s).reshape(-1)
    z, d = np.empty_like(flat), np.empty_like(flat)
    block(activation, "float64")(flat, z, d)
    finite = np.isfinite(z) & np.isfinite(d)
    if not finite.all():
        where = flat[~finite][0]
        raise QuadratureError(f"activation {str(activation)!r} or its derivative is not finite at {where:.6g}")
    return z.reshape(s.shape), d.reshape(s.shape)


@functools.lru_cache(maxsize=256)
def panels(activation: Activation, reach: int) -> Floats:
    """Return the ends of panels from -2^reach to 2^reach on which f and f' are smooth, sorted.

    Raises
    ------
    QuadratureError
        If f needs more than `MOST_PANELS` of them (it oscillates), or is not finite.
    """
    outside = 2.0 ** np.arange(math.log2(MIDDLE), reach + 1)
    kinks = [kink for kink in activation.kinks if abs(kink) < outside[-1]]
    first = np.unique(np.concatenate([-outside, np.arange(-MIDDLE, MIDDLE + 1.0), outside, kinks]))
    todo, done = np.column_stack([first[:-1], first[1:]]), [first[-1:]]
    scale, steepest = np.zeros(2), math.inf  # of f and f', as far as they have been seen near 0
    while len(todo):
        values = _at_nodes(activation, todo)
        near = np.abs(todo).max(axis=1) <= MIDDLE
        scale = np.maximum(scale, np.abs(values[:, near]).max(axis=(1, 2), initial=0.0))
        steepest = min(steepest, STEEPEST * max(scale[1], 1.0))  # that of the first look, as scales only grow
        tiny = todo[:, 1] - todo[:, 0] < 1e-12 * np.maximum(1.0, np.abs(todo[:, 0]))
        smooth = _smooth(values, todo, scale) | tiny
        if np.abs(values[1, tiny]).max(initial=0.0) > steepest:
            raise QuadratureError(
                f"derivative of activation {str(activation)!r} has no bound near {todo[tiny][0, 0]:.6g}"
            )
        done.append(todo[smooth, 0])
        rough, middle = todo[~smooth], todo[~smooth].mean(axis=1)
        todo = np.concatenate([np.column_stack([rough[:, 0], middle]), np.column_stack([middle, rough[:, 1]])])
        if len(todo) + sum(map(len, done)) > MOST_PANELS:
            raise QuadratureError(
                f"activation {str(activation)!r} is too rough between {-outside[-1]:g} and {outside[-1]:g} for "
                "quadrature: a smaller variance is allowed, or an activation with its kinks given"
            )
    ends = _merged(activation, np.sort(np.concatenate(done)), scale, kinks)
    ends.setflags(write=False)  # it is kept for further calls
    return ends


def _merged(activation: Activation, ends: Floats, scale: Floats, kinks: list[float]) -> Floats:
    """Join neighbors of similar size, not across kinks, as long as they are smooth together: panels cost time."""
    while True:
        left, middle, right = ends[:-2], ends[1:-1], ends[2:]
        alike = np.minimum(middle - left, right - middle) > 0.3 * (right - left)
        joined = alike & ~np.isin(middle, kinks)
        both = np.column_stack([left, right])[joined]
        joined[joined] = _smooth(_at_nodes(activation, both), both, scale)
        for place in np.flatnonzero(joined):  # a panel is joined to one neighbor at a time
            joined[place + 1 : place + 2] = False
        if not joined.any():
            return ends
        ends = np.delete(ends, np.flatnonzero(joined) + 1)


def _at_nodes(activation: Activation, ends: Floats) -> Floats:
    """Return f and f' at the test points of panels, (2, panels, points)."""
    middle, half = ends.mean(axis=1), 0.5 * (ends[:, 1] - ends[:, 0])
    return np.array(evaluate(activation, middle[:, None] + half[:, None] * _TEST_POINTS))


def _smooth(values: Floats, ends: Floats, scale: Floats) -> NDArray[np.bool_]:
    """Return on which panels the last three Legendre coefficients of f and f' are rounding.

    Between the last node and the end there is room for a kink: the series has to be right at both ends as well.
    """
    largest = np.maximum(scale[:, None], np.abs(values).max(axis=2))
    # Far out f cannot be smoother than the rounding of s lets it, 1e-16 |s| times its slope.
    blur = np.array([2e-15 * np.abs(ends).max(axis=1) * np.abs(values[1]).max(axis=1), np.zeros(len(ends))])
    last = np.abs(values[:, :, 1:-1] @ _COEFFICIENTS[-3:].T).max(axis=2)
    missed = np.abs(values[:, :, 1:-1] @ (_COEFFICIENTS.T @ _AT_ENDS) - values[:, :, [0, -1]]).max(axis=2)
    smooth = (last <= 1e-13 * largest + blur) & (missed <= 1e-10 * largest + 1e3 * blur)
    return np.asarray(smooth.all(axis=0))


def normal(activation: Activation, std: Floats, center: Floats | None = None, extra: Floats | None = None) -> Nodes:
    """Return nodes of normal laws of those standard deviations > 0 and centers (0 unless given), both (laws,).

    The panels of the activation cut every law, ``extra`` (laws, more) each its own besides.
    """
    laws = len(std)
    middle = np.zeros(laws) if center is None else center
    ends = panels(activation, reach_of(float((np.abs(middle) + TAIL * std).max())))
    inside = ends[(ends > (middle - TAIL * std).min()) & (ends < (middle + TAIL * std).max())]
    own = [np.broadcast_to(inside, (laws, len(inside))), *([] if extra is None else [extra])]
    cut = np.clip((np.concatenate(own, axis=1) - middle[:, None]) / std[:, None], -TAIL, TAIL)
    steps = np.arange(-TAIL, TAIL + STEP / 2, STEP)
    z = on_panels(np.concatenate([cut, np.broadcast_to(steps, (laws, len(steps)))], axis=1))
    density = np.exp(-0.5 * z.x * z.x) / math.sqrt(2.0 * math.pi)
    return Nodes(z.owner, middle[z.owner, None] + std[z.owner, None] * z.x, density * z.weights)


def reach_of(largest: float) -> int:
    """Return the exponent of the power of two, at least `MIDDLE`, that a signal of that size stays below."""
    return max(int(math.log2(MIDDLE)), math.ceil(math.log2(max(largest, 1.0))))
