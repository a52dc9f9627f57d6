"""Searches that minimize the loss, as training does."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stabsim.landscape.gradient_norm import Settings
from stabsim.landscape.inertia import EPSILON
from stabsim.landscape.surface import Surface

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

SUFFICIENT = 1e-4  # of what the slope says, that a step must lower the loss by (Armijo 1966)


def gradient_descent(surface: Surface, starts: Floats, settings: Settings) -> tuple[Floats, Counts]:
    """Return where steps along -g end; each is half as long after a failure, and 1.5 times as long after a success.

    A step succeeds if it lowers the loss by 1e-4 of what the slope says. All starts go side by side.
    """
    points, steps = starts.copy(), np.zeros(len(starts), np.int64)
    losses, gradients = surface.loss(points), surface.gradient(points)
    squares = np.sum(gradients**2, axis=-1)
    goals, rates = settings.tolerances.gradient**2 * squares, np.ones(len(points))
    active = np.flatnonzero(np.isfinite(losses + squares) & (squares > 0))
    for _ in range(settings.max_steps):
        if not len(active):
            break
        steps[active] += 1
        tried = points[active] - rates[active, None] * gradients[active]
        with np.errstate(over="ignore", invalid="ignore"):
            found = surface.loss(tried)
            taken = found <= losses[active] - SUFFICIENT * rates[active] * squares[active]
        rates[active] *= np.where(taken, 1.5, 0.5)
        at = active[taken]
        if len(at):
            points[at], losses[at], gradients[at] = tried[taken], found[taken], surface.gradient(tried[taken])
        squares[at] = np.sum(gradients[at] ** 2, axis=-1)
        still = rates[active] ** 2 * squares[active] <= (EPSILON * (1 + np.abs(points[active]).max(axis=-1))) ** 2
        active = active[~still & (squares[active] > goals[active]) & np.isfinite(squares[active])]
    return points, steps


def l_bfgs(surface: Surface, starts: Floats, settings: Settings) -> tuple[Floats, Counts]:
    """Return where SciPy's L-BFGS ends (Liu & Nocedal 1989, Mathematical Programming 45), from one start after another.

    It goes on to a gradient of the tolerance times that at the start, or to where no step along its line lowers the
    loss.
    """

    def options(gradient: Floats) -> dict[str, Any]:
        goal = settings.tolerances.gradient * float(np.max(np.abs(gradient)))
        most = settings.max_steps
        return {"gtol": goal, "ftol": 0.0, "maxiter": most, "maxfun": 20 * most, "maxcor": 20}

    return _by_scipy(surface, starts, "L-BFGS-B", options)


def newton_cg(surface: Surface, starts: Floats, settings: Settings) -> tuple[Floats, Counts]:
    """Return where SciPy's Newton-CG ends (Nocedal & Wright 2006, section 7.1), from one start after another.

    Conjugate gradients on Hessian-vector products, cut off where the curvature is negative, or below 3 eps along a
    gradient, whatever the unit of the loss: it ends early where losses are small.
    """

    def options(_: Floats) -> dict[str, Any]:
        return {"xtol": 1e-12, "maxiter": settings.max_steps}

    return _by_scipy(surface, starts, "Newton-CG", options, hessp=surface.hessian_vector)


def _by_scipy(surface: Surface, starts: Floats, name: str, options: Any, **more: Any) -> tuple[Floats, Counts]:
    """Run one start after another: what SciPy does to warnings while it searches is not safe in threads."""
    from scipy.optimize import minimize

    ends, steps = starts.copy(), np.zeros(len(starts), np.int64)
    for i, start in enumerate(starts):
        gradient = surface.gradient(start)
        if np.isfinite(gradient).all() and gradient.any():
            with np.errstate(all="ignore"):  # what it tries may overflow
                found = minimize(
                    lambda x: float(surface.loss(x)), start, jac=surface.gradient, method=name,
                    options=options(gradient), **more,
                )  # fmt: skip
            ends[i], steps[i] = found.x, found.nit
    return ends, steps
