"""Gaussian means of any activation: f is cut once into panels on which it is smooth, and every mean is a sum over them.

A panel is smooth where f and f' are polynomials of low degree to rounding. Kinks are ends of panels, so nothing is lost
there: 13 digits for every activation of the registry (`tests/test_theory_gaussian.py` holds them against mpmath).
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import numpy as np
from numpy.polynomial import legendre
from numpy.typing import NDArray

from stabsim.activations import Activation, block

Floats = NDArray[np.float64]

NODES = 20  # of a panel: enough for the square of f and a normal density over three standard deviations
DEGREE = 16  # as which f and f' are resolved
TAIL = 9.0  # standard deviations: beyond lie 2e-19 of a normal law
STEP = 3.0  # standard deviations that a panel spans at most
MOST_PANELS = 2000
LARGEST_VARIANCE = 1e12

_NODES, _WEIGHTS = legendre.leggauss(NODES)
_TEST_NODES, _TEST_WEIGHTS = legendre.leggauss(DEGREE + 1)
# From values at the test nodes to Legendre coefficients.
_COEFFICIENTS = np.asarray(legendre.legvander(_TEST_NODES, DEGREE).T) * _TEST_WEIGHTS
_COEFFICIENTS *= np.arange(0.5, DEGREE + 1.0)[:, None]


class Nodes(NamedTuple):
    """Nodes s and weights of normal laws: row p belongs to law ``owner[p]``, and weights of one law add up to 1."""

    owner: NDArray[np.int64]
    s: Floats
    weights: Floats

    def mean(self, values: Floats, laws: int) -> Floats:
        """Return the means of values at the nodes, one a law."""
        return np.asarray(np.bincount(self.owner, np.einsum("pk,pk->p", values, self.weights), laws), np.float64)


def evaluate(activation: Activation, s: Floats) -> tuple[Floats, Floats]:
    """Return f(s) and f'(s).

    Raises
    ------
    ValueError
        If one is not finite.
    """
    flat = np.ascontiguousarray(s).reshape(-1)
    z, d = np.empty_like(flat), np.empty_like(flat)
    block(activation, "float64")(flat, z, d)
    finite = np.isfinite(z) & np.isfinite(d)
    if not finite.all():
        raise ValueError(f"activation {str(activation)!r} or its derivative is not finite at {flat[~finite][0]:.6g}")
    return z.reshape(s.shape), d.reshape(s.shape)


@functools.lru_cache(maxsize=256)
def panels(activation: Activation, reach: int) -> Floats:
    """Return the ends of panels from -2^reach to 2^reach on which f and f' are smooth, sorted.

    Raises
    ------
    ValueError
        If f needs more than `MOST_PANELS` of them (it oscillates), or is not finite.
    """
    end = 2.0**reach
    kinks = [kink for kink in activation.kinks if abs(kink) < end]
    todo = np.unique(np.array([-end, *kinks, 0.0, end]))
    todo = np.column_stack([todo[:-1], todo[1:]])
    scale = np.max(np.abs(evaluate(activation, np.linspace(-8.0, 8.0, 64))), axis=1)
    done = [np.array([end])]
    while len(todo):
        smooth = _smooth(activation, todo, scale) | (
            todo[:, 1] - todo[:, 0] < 1e-12 * np.maximum(1.0, np.abs(todo[:, 0]))
        )
        done.append(todo[smooth, 0])
        rough = todo[~smooth]
        middle = rough.mean(axis=1)
        todo = np.concatenate([np.column_stack([rough[:, 0], middle]), np.column_stack([middle, rough[:, 1]])])
        if len(todo) + sum(map(len, done)) > MOST_PANELS:
            raise ValueError(
                f"activation {str(activation)!r} is too rough between {-end:g} and {end:g} for quadrature: a smaller "
                "variance is allowed, or an activation with its kinks given"
            )
    return np.sort(np.concatenate(done))


def _smooth(activation: Activation, ends: Floats, scale: Floats) -> NDArray[np.bool_]:
    """Return on which panels the last three Legendre coefficients of f and f' are rounding."""
    middle, half = ends.mean(axis=1), 0.5 * (ends[:, 1] - ends[:, 0])
    values = evaluate(activation, middle[:, None] + half[:, None] * _TEST_NODES)
    smooth = np.ones(len(ends), bool)
    for each, size in zip(values, scale, strict=True):
        last = np.abs(each @ _COEFFICIENTS[-3:].T).max(axis=1)
        smooth &= last <= 1e-13 * np.maximum(size, np.abs(each).max(axis=1))
    return smooth


def reach_of(largest: float) -> int:
    """Return the exponent of the power of two that a signal of that size stays below."""
    return max(4, math.ceil(math.log2(max(largest, 1.0))))


def nodes(ends: Floats, center: Floats, std: Floats, extra: Floats | None = None) -> Nodes:
    """Return nodes of the normal laws of those centers and standard deviations > 0, both (laws,).

    ``ends`` (ends,) cut every law, ``extra`` (laws, more) each its own.
    """
    steps = np.arange(-TAIL, TAIL + STEP / 2, STEP)
    inside = ends[(ends > (center - TAIL * std).min()) & (ends < (center + TAIL * std).max())]
    laws = len(center)
    own = [np.broadcast_to(inside, (laws, len(inside))), *([] if extra is None else [extra])]
    cut = np.clip((np.concatenate(own, axis=1) - center[:, None]) / std[:, None], -TAIL, TAIL)
    cut = np.sort(np.concatenate([cut, np.broadcast_to(steps, (laws, len(steps)))], axis=1), axis=1)
    width = np.diff(cut, axis=1)
    owner, place = np.nonzero(width > 1e-14)
    half = 0.5 * width[owner, place]
    z = (cut[owner, place] + half)[:, None] + half[:, None] * _NODES
    density = np.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi)
    return Nodes(owner, center[owner, None] + std[owner, None] * z, density * half[:, None] * _WEIGHTS)
