"""Where searches end: which end points are critical, which only look so, and what may be said of their index."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stabsim.checks import number, rows
from stabsim.landscape.inertia import ASYMMETRY, EPSILON, eigensystems, signs
from stabsim.landscape.surface import Surface, check_surface, check_values
from stabsim.threads import count_threads

if TYPE_CHECKING:
    import pandas

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

PIECE_BYTES = 2**27  # of Hessians that are held at a time
ROUNDING = 8  # times n eps: what gradients may lose by rounding


class Kind(enum.IntEnum):
    """What an end point is; only critical points have an index."""

    CRITICAL = 0  # a critical point lies next to it
    RECEDING = 1  # the gradient is small, and no critical point is near: towards infinity, or not yet there
    GRADIENT_FLAT = 2  # the gradient lies in the kernel of the Hessian: no step of Newton's takes it away
    UNFINISHED = 3  # none of these


class Tolerances(NamedTuple):
    """Up to where gradients, Newton's steps and H g count as small; `classify` says relative to what."""

    gradient: float = 1e-10
    step: float = 1e-4
    flat: float = 1e-5


def tolerances_of(gradient: float, step: float, flat: float) -> Tolerances:
    """Return three tolerances, checked."""
    return Tolerances(
        number("gradient_tolerance", gradient, 0.0, 1.0),
        number("step_tolerance", step, 0.0, 1.0),
        number("flat_tolerance", flat, 0.0, 1.0),
    )


@dataclass(frozen=True, repr=False)
class Ends:
    """End points of searches, one after another, and what each is.

    Parameters
    ----------
    points : array (points, parameters)
        Where.
    losses, gradient_norms, hessian_norms : array (points,)
        There; the norm of a Hessian is its largest eigenvalue in size.
    newton_steps : array (points,)
        Length of H^+ g, the way to the critical point if the gradient were linear.
    newton_residuals : array (points,)
        The share |g - H H^+ g| / |g| of the gradient that is left if eigenvalues that are as flat as that are not
        used: near 0 Newton's equations have a solution, near 1 they have none; 0 where g = 0.
    flatness : array (points,)
        |H g| / |g| as a share of ||H||, or of |g| / (1 + |point|) where that is more; NaN where g = 0.
    kinds : array of int (points,)
        `Kind` of each.
    negative, zero, positive : array of int (points,)
        Numbers of eigenvalues of the Hessian, -1 where the point is not critical.
    bands : array (points,)
        Up to which size eigenvalues count as zero.
    steps : array of int (points,)
        Of the search.
    """

    points: Floats
    losses: Floats
    gradient_norms: Floats
    hessian_norms: Floats
    newton_steps: Floats
    newton_residuals: Floats
    flatness: Floats
    kinds: Counts
    negative: Counts
    zero: Counts
    positive: Counts
    bands: Floats
    steps: Counts

    def __repr__(self) -> str:
        """Return how many points are of which kind, and the range of the index of the critical ones."""
        counts = ", ".join(f"{count} {name}" for name, count in self.counts.items() if count)
        index = self.negative[self.critical]
        told = f"; index {index.min()} to {index.max()}" if len(index) else ""
        return f"{len(self.points)} end points of {self.points.shape[1]} parameters: {counts}{told}"

    @property
    def critical(self) -> NDArray[np.bool_]:
        """Return which points are critical."""
        return np.asarray(self.kinds == Kind.CRITICAL)

    @property
    def counts(self) -> dict[str, int]:
        """Return how many points are of each kind."""
        return {kind.name.lower(): int(np.sum(self.kinds == kind)) for kind in Kind}

    @property
    def index(self) -> Floats:
        """Return the share of negative eigenvalues, NaN where a point is not critical."""
        return np.where(self.critical, self.negative / self.points.shape[1], np.nan)

    @cached_property
    def table(self) -> pandas.DataFrame:
        """Return a row a point: kind, loss, norms, flatness, steps, and, of critical points, signs of eigenvalues."""
        import pandas

        signs = {
            name: np.where(self.critical, getattr(self, name), np.nan) for name in ("negative", "zero", "positive")
        }
        return pandas.DataFrame({
            "kind": [Kind(kind).name.lower() for kind in self.kinds], "loss": self.losses,
            "gradient_norm": self.gradient_norms, "hessian_norm": self.hessian_norms, "newton_step": self.newton_steps,
            "newton_residual": self.newton_residuals, "flatness": self.flatness, "index": self.index, **signs,
            "band": self.bands, "steps": self.steps,
        })  # fmt: skip


def classify(
    surface: Surface,
    points: Any,
    *,
    gradient_tolerance: float = Tolerances().gradient,
    step_tolerance: float = Tolerances().step,
    flat_tolerance: float = Tolerances().flat,
    steps: Any = None,
    threads: int | None = None,
) -> Ends:
    """Say of each point whether it is critical, and of critical points how many eigenvalues are negative.

    Parameters
    ----------
    surface : Surface
        The function.
    points : array (points, parameters)
        Where.
    gradient_tolerance : float
        The gradient is small up to that share of ||H||; 1e-10 unless told.
    step_tolerance : float
        Newton's step is small up to that length; 1e-4 unless told.
    flat_tolerance : float
        H g is small up to that share of ||H|| |g|, or of |g|^2 / (1 + |point|) where that is more: a single parameter
        has no other eigenvalue to compare with; 1e-5 unless told.
    steps : array of int (points,), optional
        Of the search that ended there; 0 unless told.
    threads : int, optional
        As many as there are processors, unless told; they change nothing.

    Returns
    -------
    Ends

    Raises
    ------
    TypeError, ValueError
        If an argument is not allowed.

    Notes
    -----
    A point is *critical* if three things hold. The gradient is small. Newton's step H^+ g is small, over eigenvalues
    above n eps ||H||: a minimum at infinity, such as that of the cross-entropy of separable data, has gradients and
    Hessians that fall alike, and its steps stay about 1 / (23 depth) of the weights when |g| has fallen to 1e-10; no
    length of the point excuses it, since that is what grows. And the part of g in the kernel of H, which no step
    removes, is rounding: below 8 n eps ||H|| (1 + |point|). Where the step is not small but the gradient is, relative
    to the larger of ||H|| and 1, the point is *receding*. Else, where H g is small, it is *gradient-flat*: |g|^2 is
    stationary there, which ends methods that minimize it and has been mistaken for a critical point (Frye, Simon,
    Wadia, Ligeralde, DeWeese & Bouchard 2021, Neural Computation 33). All else is *unfinished*, also what is not
    finite. Which points are critical does not depend on the unit of the loss; the unit of a parameter is 1. What falls
    to infinity with slopes below rounding, such as weights of units that are saturated to the last bit, cannot be told
    from a zero eigenvalue.

    The band of zero eigenvalues is n eps ||H|| plus twice the change of the Hessian (its Frobenius norm) by Newton's
    step, which bounds, to first order, how far eigenvalues are from those at the critical point itself (Weyl); twice
    covers degenerate points of any order, where the step goes a share of the way.

    Examples
    --------
    >>> class Saddle:
    ...     parameters = 2
    ...     loss = staticmethod(lambda x: x[..., 0] ** 2 - x[..., 1] ** 2)
    ...     gradient = staticmethod(lambda x: x * [2.0, -2.0])
    ...     hessian = staticmethod(lambda x: np.broadcast_to(np.diag([2.0, -2.0]), (*x.shape, 2)))
    ...     hessian_vector = staticmethod(lambda x, v: v * [2.0, -2.0])
    >>> classify(Saddle(), [[0.0, 0.0], [1.0, 0.0]])
    2 end points of 2 parameters: 1 critical, 1 unfinished; index 1 to 1
    """
    check_surface(surface)
    places = rows("points", points, "(points, parameters)", (surface.parameters,))
    tolerances = tolerances_of(gradient_tolerance, step_tolerance, flat_tolerance)
    taken = np.zeros(len(places), np.int64) if steps is None else np.asarray(steps)
    if taken.shape != (len(places),) or taken.dtype.kind not in "iu":
        raise ValueError(f"steps must be integers ({len(places)},), one a point, not {taken.dtype} {taken.shape}")
    if taken.min() < 0:
        raise ValueError(f"steps must be integers >= 0, not {taken.min()}")
    return judged(surface, places, taken, tolerances, count_threads(threads))


def judged(surface: Surface, places: Floats, steps: Counts, tolerances: Tolerances, threads: int) -> Ends:
    """Return the same of checked arguments; points may be not finite, and are then unfinished."""
    parts = [_look(surface, places[piece], tolerances, threads) for piece in pieces(places)]
    found = [np.concatenate(each) for each in zip(*parts, strict=True)]
    return Ends(*[places, *found, steps])


def pieces(points: Floats) -> Iterator[slice]:
    """Cut points into pieces whose Hessians fit into memory."""
    size = max(1, PIECE_BYTES // (8 * points.shape[1] ** 2))
    return (slice(first, first + size) for first in range(0, len(points), size))


def length(vectors: Floats) -> Floats:
    """Return Euclidean lengths (...), without overflow and underflow; infinite or NaN where a number is not finite."""
    largest = np.max(np.abs(vectors), axis=-1)
    safe = np.where((largest > 0) & np.isfinite(largest), largest, 1.0)
    return np.asarray(safe * np.sqrt(np.sum((vectors / safe[..., None]) ** 2, axis=-1)))


def reach(points: Floats) -> Floats:
    """Return 1 + |point|: what lengths are compared with."""
    return 1 + length(points)


def _look(surface: Surface, points: Floats, tolerances: Tolerances, threads: int) -> tuple[NDArray[Any], ...]:
    """Return what `Ends` has of a piece, between points and steps."""
    n = points.shape[1]
    losses, gradients = surface.loss(points), surface.gradient(points)
    losses, gradients = (
        check_values("loss", losses, points.shape[:1]),
        check_values("gradient", gradients, points.shape),
    )
    hessians = _symmetric(check_values("hessian", surface.hessian(points), (*points.shape, n)))
    finite = np.isfinite(losses) & np.isfinite(gradients).all(-1) & np.isfinite(hessians).all((-2, -1))
    gradients, hessians = np.where(finite[:, None], gradients, 0.0), np.where(finite[:, None, None], hessians, 0.0)
    values, vectors = eigensystems(hessians, threads)
    size, far = np.max(np.abs(values), axis=-1), reach(points)
    parts = (gradients[:, None, :] @ vectors)[:, 0, :]
    kernel = np.abs(values) <= (n * EPSILON * size)[:, None]
    safe = np.where(kernel, 1.0, values)
    way = np.where(kernel, 0.0, -parts / safe)
    norm, step, left = (length(each) for each in (gradients, way, np.where(kernel, parts, 0.0)))
    scale = np.maximum(size, norm / far)
    with np.errstate(divide="ignore", invalid="ignore"):
        flatness = length(values / scale[:, None] * (parts / norm[:, None]))
        flattest = np.abs(values) <= (tolerances.flat * scale)[:, None]
        residual = np.where(norm > 0, length(np.where(flattest, parts, 0.0)) / norm, 0.0)
    near, solved = step <= tolerances.step, left <= ROUNDING * n * EPSILON * size * far
    small = norm <= tolerances.gradient * size
    receding = (norm <= tolerances.gradient * np.maximum(size, 1.0)) & ~near
    kinds = np.select(
        [~finite, small & near & solved, receding, flatness <= tolerances.flat],
        [Kind.UNFINISHED, Kind.CRITICAL, Kind.RECEDING, Kind.GRADIENT_FLAT], Kind.UNFINISHED,
    ).astype(np.int64)  # fmt: skip
    bands = n * EPSILON * size + 2 * _change(surface, points, hessians, vectors, way, kinds == Kind.CRITICAL)
    counts = [np.where(kinds == Kind.CRITICAL, each, -1) for each in signs(values, bands)[:3]]
    unknown = np.where(finite, 0.0, np.nan)
    found = (losses, norm, size, step, residual, flatness)
    return *(np.asarray(each + unknown) for each in found), kinds, *counts, bands + unknown


def _symmetric(hessians: Floats) -> Floats:
    """Return Hessians that are symmetric but for rounding.

    Raises
    ------
    ValueError
        If they are not: eigenvalues are read off one half alone.
    """
    with np.errstate(invalid="ignore"):  # infinite ones are unfinished, whatever they are
        apart = np.abs(hessians - np.swapaxes(hessians, -1, -2)).max(axis=(-2, -1))
        limit = ASYMMETRY * np.abs(hessians).max(axis=(-2, -1))
    if (apart > limit).any():
        raise ValueError(
            f"hessian of the surface must be symmetric to {ASYMMETRY:g} of its largest entry, but differs from its "
            f"transpose by {apart[apart > limit][0]:.3g}"
        )
    return hessians


def _change(
    surface: Surface, points: Floats, hessians: Floats, vectors: Floats, way: Floats, where: NDArray[np.bool_]
) -> Floats:
    """Return how much the Hessian changes by Newton's step, in its Frobenius norm, 0 where nobody asks."""
    change = np.zeros(len(points))
    if where.any():
        moved = points[where] + (vectors[where] @ way[where][:, :, None])[:, :, 0]
        change[where] = np.sqrt(np.sum((surface.hessian(moved) - hessians[where]) ** 2, axis=(-2, -1)))
    return change
