"""Critical points of a surface: searches from given starts, each end judged for what it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stabsim.checks import rows, whole_number
from stabsim.landscape.ends import Ends, Tolerances, judged, length, reach, tolerances_of
from stabsim.landscape.gradient_norm import Settings, levenberg_marquardt, newton_mr
from stabsim.landscape.minimizers import gradient_descent, l_bfgs, newton_cg
from stabsim.landscape.surface import Surface, check_surface, check_values
from stabsim.names import unknown
from stabsim.threads import count_threads, single_threaded_blas

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

POLISHING_STEPS = 30
POLISHING_RADIUS = 1e-3  # of 1 + |point|: of the first step
POLISHING_REACH = 1e-2  # of 1 + |point|: further off it is another point


class Method(NamedTuple):
    """A search, and what it minimizes: "loss" or "gradient_norm"."""

    search: Callable[[Surface, Floats, Settings], tuple[Floats, Counts]]
    minimizes: str


METHODS = {
    "gradient_descent": Method(gradient_descent, "loss"),
    "l_bfgs": Method(l_bfgs, "loss"),
    "newton_cg": Method(newton_cg, "loss"),
    "levenberg_marquardt": Method(levenberg_marquardt, "gradient_norm"),
    "newton_mr": Method(newton_mr, "gradient_norm"),
}


def find(
    surface: Surface,
    starts: Any,
    *,
    method: str = "levenberg_marquardt",
    max_steps: int = 500,
    gradient_tolerance: float = Tolerances().gradient,
    step_tolerance: float = Tolerances().step,
    flat_tolerance: float = Tolerances().flat,
    threads: int | None = None,
) -> Ends:
    """Search for critical points from each start, and say of each end what it is.

    Parameters
    ----------
    surface : Surface
        The function.
    starts : array (points, parameters)
        Where searches begin.
    method : str
        "gradient_descent", "l_bfgs" or "newton_cg" minimize the loss, "levenberg_marquardt" (unless told) or
        "newton_mr" the norm of the gradient.
    max_steps : int
        Of each search; 500 unless told.
    gradient_tolerance, step_tolerance, flat_tolerance : float
        See `classify`.
    threads : int, optional
        As many as there are processors, unless told; they change nothing.

    Returns
    -------
    Ends
        In the order of the starts.

    Raises
    ------
    TypeError, ValueError
        If an argument is not allowed.

    Notes
    -----
    What a minimizer leaves is polished: up to 30 steps of `levenberg_marquardt` from there, which stand only if they
    end within 0.01 (1 + |point|), lower the gradient and do not raise the loss, so that a saddle that the minimizer was
    about to leave is not taken for its end.

    Which critical points are found, and how often, is a matter of the starts and the method, not of how many there are.

    Examples
    --------
    >>> class MonkeySaddle:  # x^3 - 3 x y^2, and a parabola
    ...     parameters = 3
    ...     def loss(self, p): return p[..., 0] ** 3 - 3 * p[..., 0] * p[..., 1] ** 2 + p[..., 2] ** 2
    ...     def gradient(self, p):
    ...         x, y, z = np.moveaxis(p, -1, 0)
    ...         return np.stack([3 * x**2 - 3 * y**2, -6 * x * y, 2 * z], axis=-1)
    ...     def hessian(self, p):
    ...         x, y, z = np.moveaxis(p, -1, 0)
    ...         rows = [[6 * x, -6 * y, 0 * x], [-6 * y, -6 * x, 0 * x], [0 * x, 0 * x, 2 + 0 * x]]
    ...         return np.moveaxis(np.array(rows), (0, 1), (-2, -1))
    ...     def hessian_vector(self, p, v): return (self.hessian(p) @ v[..., None])[..., 0]
    >>> ends = find(MonkeySaddle(), [[0.3, -0.2, 1.0]])
    >>> ends, int(ends.zero[0]), int(ends.positive[0])
    (1 end points of 3 parameters: 1 critical; index 0 to 0, 2, 1)
    """
    if method not in METHODS:
        raise unknown("method", method, METHODS)
    check_surface(surface)
    places = rows("starts", starts, "(points, parameters)", (surface.parameters,))
    tolerances = tolerances_of(gradient_tolerance, step_tolerance, flat_tolerance)
    settings = Settings(tolerances, whole_number("max_steps", max_steps), count_threads(threads))
    search, minimizes = METHODS[method]
    # BLAS is set for all steps: for each it takes as long as a small net. What they try may overflow.
    with single_threaded_blas(), np.errstate(all="ignore"):
        check_values("loss", surface.loss(places), places.shape[:1])
        check_values("gradient", surface.gradient(places), places.shape)
        ends, steps = search(surface, places, settings)
        if minimizes == "loss":
            ends = _polished(surface, ends, settings)
        return judged(surface, ends, steps, tolerances, settings.threads)


def _polished(surface: Surface, points: Floats, settings: Settings) -> Floats:
    """Return where a few steps that lower the gradient lead, if that is next to where the minimizer has stopped."""
    brief = settings._replace(max_steps=POLISHING_STEPS)
    ends, _ = levenberg_marquardt(surface, points, brief, POLISHING_RADIUS)
    losses, before = surface.loss(ends), surface.loss(points)
    near = length(ends - points) <= POLISHING_REACH * reach(points)
    stands = near & (losses <= before + 1e-12 * np.abs(before))
    return np.where(stands[:, None], ends, points)
