"""Searches that minimize |g|^2, the square of the gradient: they go to critical points of any index, and elsewhere."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stabsim.landscape.ends import Tolerances, length, pieces, reach
from stabsim.landscape.inertia import EPSILON, eigensystems
from stabsim.landscape.surface import Surface

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

SMALLEST_GAIN = 1e-13  # of |g|^2, that a step must promise: with less it is stationary
SLOWEST = 1e-6  # share of |g|^2 that a step of Newton-MR must take away: halved steps would go on for ever
VANISHED = 1e-14  # times 1 + |point|: a gradient below it, with steps that are not small, goes to 0 at infinity


class Settings(NamedTuple):
    """What all searches are told: tolerances as for `classify`, steps at most, threads."""

    tolerances: Tolerances
    max_steps: int
    threads: int


def levenberg_marquardt(
    surface: Surface, starts: Floats, settings: Settings, radius: float = 0.1
) -> tuple[Floats, Counts]:
    """Return where steps d = -sum of l (v g) v / (l^2 + mu) end, over eigenvalues l and eigenvectors v of H.

    They minimize |g + H d|^2 + mu |d|^2 (Levenberg 1944, Marquardt 1963); one decomposition serves every mu. With
    mu = (|g| / 2 r)^2 no step is longer than r, and they become Newton's as g vanishes, so that convergence is
    quadratic where there is an error bound, next to degenerate families of critical points too (Yamashita & Fukushima
    2001, Computing Supplementum 15). r starts as ``radius`` (1 + |point|), is doubled where |g|^2 falls as predicted,
    and divided by 4 where it does not fall. A search ends where steps no longer change the point, promise nothing, or
    where, the gradient being small, they no longer halve it.
    """
    ends, steps = starts.copy(), np.zeros(len(starts), np.int64)
    for piece in pieces(starts):
        ends[piece], steps[piece] = _descend(surface, ends[piece], settings, radius)
    return ends, steps


def _descend(surface: Surface, points: Floats, settings: Settings, radius: float) -> tuple[Floats, Counts]:
    points = points.copy()
    gradients = surface.gradient(points)
    radii, steps = radius * reach(points), np.zeros(len(points), np.int64)
    values, vectors = np.zeros_like(points), np.zeros((*points.shape, points.shape[1]))
    stale = np.isfinite(gradients).all(axis=-1)
    active = np.flatnonzero(stale & (length(gradients) > 0))
    for _ in range(settings.max_steps):
        moved = active[stale[active]]
        if len(moved):
            hessians = surface.hessian(points[moved])
            sound = np.isfinite(hessians).all(axis=(-2, -1))
            active = np.setdiff1d(active, moved[~sound], assume_unique=True)
            if sound.any():
                values[moved[sound]], vectors[moved[sound]] = eigensystems(hessians[sound], settings.threads)
        if not len(active):
            break
        steps[active] += 1
        before, size = length(gradients[active]), np.max(np.abs(values[active]), axis=-1)
        way, promised = _step(gradients[active], values[active], vectors[active], radii[active])
        tried = points[active] + way
        with np.errstate(over="ignore", invalid="ignore"):
            found = surface.gradient(tried)
            after = length(found)
            gain = 1 - (after / before) ** 2
            ratio = np.where(np.isfinite(gain) & (promised > 0), gain / np.where(promised > 0, promised, 1.0), -1.0)
        taken = ratio > 1e-3
        radii[active] *= np.where(ratio > 0.75, 2.0, np.where(ratio < 0.25, 0.25, 1.0))
        far, step = reach(points[active]), length(way)
        small = before <= settings.tolerances.gradient * size
        done = (np.minimum(step, radii[active]) <= EPSILON * far) | (promised < SMALLEST_GAIN) | (taken & (after == 0))
        done |= small & (~taken | (after > 0.5 * before))
        done |= (before <= VANISHED * far) & (step > settings.tolerances.step)
        stale[active] = taken
        points[active[taken]], gradients[active[taken]] = tried[taken], found[taken]
        active = active[~done]
    return points, steps


def _step(gradients: Floats, values: Floats, vectors: Floats, radii: Floats) -> tuple[Floats, Floats]:
    """Return steps, and the share of |g|^2 that each would take away if the gradient were linear."""
    parts = (gradients[:, None, :] @ vectors)[:, 0, :]
    size = length(gradients)
    mu = ((0.5 * size / radii) ** 2)[:, None]
    squares = values**2 + mu
    way = (vectors @ (-values * parts / squares)[:, :, None])[:, :, 0]
    shares = (parts / size[:, None]) ** 2
    return way, np.sum(shares * (1 - (mu / squares) ** 2), axis=-1)


def newton_mr(surface: Surface, starts: Floats, settings: Settings) -> tuple[Floats, Counts]:
    """Return where steps that minimize |H d + g|, by MINRES on Hessian-vector products, end.

    Each is halved until |g|^2 falls by 1e-4 of what its slope says (Roosta, Liu, Xu & Mahoney 2022, Numerical
    Algorithms 90: Newton-MR). Equations are solved to 0.01, and the more exactly the further |g| has fallen.
    """
    found = [_newton_mr(surface, start, settings) for start in starts]
    return np.array([point for point, _ in found]), np.array([steps for _, steps in found])


def _newton_mr(surface: Surface, start: Floats, settings: Settings) -> tuple[Floats, int]:
    from scipy.sparse.linalg import LinearOperator, minres

    n, point, gradient = len(start), start, surface.gradient(start)
    first = float(length(gradient))
    for step in range(settings.max_steps):
        square = float(gradient @ gradient)
        if not 0 < square < np.inf:
            return point, step
        operator = LinearOperator((n, n), matvec=lambda v, at=point: surface.hessian_vector(at, v.ravel()), dtype=float)
        way = minres(operator, -gradient, rtol=min(0.01, max(np.sqrt(square) / first, 1e-12)), maxiter=5 * n)[0]
        if square <= (VANISHED * reach(point)) ** 2 and length(way) > settings.tolerances.step:
            return point, step
        slope = float(way @ surface.hessian_vector(point, gradient))
        taken = _search(surface, point, way, slope, square) if slope < 0 else None
        if taken is None or taken[1] @ taken[1] > (1 - SLOWEST) * square:
            return point, step
        point, gradient = taken
    return point, settings.max_steps


def _search(surface: Surface, point: Floats, way: Floats, slope: float, square: float) -> tuple[Any, Any] | None:
    """Return the first of halved steps that lowers |g|^2 enough, with its gradient; None: none is left."""
    share = 1.0
    while share * length(way) > EPSILON * reach(point):
        tried = point + share * way
        with np.errstate(over="ignore", invalid="ignore"):
            gradient = surface.gradient(tried)
            if gradient @ gradient <= square + 2e-4 * share * slope:
                return tried, gradient
        share *= 0.5
    return None
