"""Both ends of the spectrum of a Hessian that is too large to be formed, by Lanczos."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stabsim import checks
from stabsim.landscape.lanczos import PROBE, lanczos, normals, one_point
from stabsim.landscape.surface import Surface
from stabsim.task import LARGEST_SEED
from stabsim.threads import single_threaded_blas

Floats = NDArray[np.float64]

_STEPS_FOR_NORM = 10


class Extremes(NamedTuple):
    """Eigenvalues at both ends of a spectrum.

    Attributes
    ----------
    lowest, highest : array (number,)
        The lowest first, the highest first; NaN in place of those that did not converge.
    lowest_vectors, highest_vectors : array (number, parameters)
        Eigenvectors of length 1.
    lowest_residuals, highest_residuals : array (number,)
        abs(H v - lambda v): there is an eigenvalue of H within this distance of lambda.
    products : int
        How many products of the Hessian with a vector that took.
    """

    lowest: Floats
    highest: Floats
    lowest_vectors: Floats
    highest_vectors: Floats
    lowest_residuals: Floats
    highest_residuals: Floats
    products: int


def extreme_eigenvalues(
    surface: Surface,
    point: ArrayLike,
    lowest: int = 1,
    highest: int = 1,
    *,
    tolerance: float = 1e-8,
    restarts: int | None = None,
    seed: int = 0,
) -> Extremes:
    """Return the lowest and the highest eigenvalues of the Hessian at a point, from products with vectors alone.

    Parameters
    ----------
    surface : Surface
        What has a Hessian, such as a `Landscape`.
    point : array (parameters,)
        Where.
    lowest, highest : int
        How many of each end, from 0 to parameters - 1; 1 unless told.
    tolerance : float
        Of the residuals, relative to about twice the spectral norm; 1e-8 unless told.
    restarts : int, optional
        Most restarts of Lanczos at each end, ten times the number of parameters unless told.
    seed : int
        Of the starting vector; 0 unless told.

    Returns
    -------
    Extremes
        Eigenvalues and eigenvectors with residuals, which are computed anew from them.

    Raises
    ------
    TypeError, ValueError
        If an argument is not allowed, or the Hessian is not finite.

    Warns
    -----
    RuntimeWarning
        If not all have converged: how many have, which keep their values; the others are NaN.

    Notes
    -----
    ARPACK's implicitly restarted Lanczos (`scipy.sparse.linalg.eigsh`) of c + H and c - H with c near the
    spectral norm: the lowest eigenvalues, which may be 0, then converge relative to the norm, not to themselves.
    A residual says that an eigenvalue is near, not that none is further out: a starting vector without a share of
    an eigenvector does not find it. By chance, that does not happen.

    Examples
    --------
    >>> class Saddle:
    ...     parameters = 3
    ...
    ...     def hessian_vector(self, points, vectors):
    ...         return vectors * [2.0, 0.5, -2.0]
    >>> found = extreme_eigenvalues(Saddle(), [0.0, 0.0, 0.0], lowest=2)
    >>> found.lowest.round(6), found.highest.round(6), bool(found.lowest_residuals.max() < 1e-7)
    (array([-2. ,  0.5]), array([2.]), True)
    """
    point = one_point(surface, "point", point)
    numbers = {
        name: checks.whole_number(name, value, 0, surface.parameters - 1)
        for name, value in (("lowest", lowest), ("highest", highest))
    }
    tolerance = checks.number("tolerance", tolerance, float(np.finfo(np.float64).eps))
    limit = 10 * surface.parameters if restarts is None else checks.whole_number("restarts", restarts)
    start = normals(1, surface.parameters, checks.whole_number("seed", seed, 0, LARGEST_SEED), PROBE)
    count = _Counted(surface, point)
    diagonal, beside = lanczos(count.product, start, min(_STEPS_FOR_NORM, surface.parameters))
    shift = 1.1 * float(np.abs(diagonal).max() + 2 * beside.max()) or 1.0  # no less than what is seen of that norm
    low, high = (
        _end(count, start[0], number, sign * shift, tolerance, limit, name)
        for (name, number), sign in zip(numbers.items(), (-1.0, 1.0), strict=True)
    )
    return Extremes(low[0], high[0], low[1], high[1], low[2], high[2], count.products)


@dataclass
class _Counted:
    """A surface at one point that counts products."""

    surface: Surface
    point: Floats
    products: int = 0

    def product(self, vectors: Floats) -> Floats:
        self.products += int(np.prod(vectors.shape[:-1]))
        return np.asarray(self.surface.hessian_vector(self.point, vectors))

    def shifted(self, shift: float, vector: Floats) -> Floats:
        """Return abs(shift) v + sign(shift) H v."""
        product = self.product(vector.ravel())
        return abs(shift) * vector.ravel() + math.copysign(1.0, shift) * product


def _end(
    count: _Counted, start: Floats, number: int, shift: float, tolerance: float, restarts: int, name: str
) -> tuple[Floats, Floats, Floats]:
    from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh

    parameters = len(start)
    values, vectors = np.full(number, np.nan), np.full((number, parameters), np.nan)
    if number == 0:
        return values, vectors, values.copy()
    operator: Any = LinearOperator(
        (parameters, parameters), matvec=lambda vector: count.shifted(shift, vector), dtype=np.float64
    )
    with single_threaded_blas():
        try:
            found, columns = eigsh(operator, number, which="LA", v0=start, tol=tolerance, maxiter=restarts)
        except ArpackNoConvergence as error:
            found, columns = error.eigenvalues, error.eigenvectors
            warnings.warn(
                f"{len(found)} of {number} {name} eigenvalues converged to tolerance={tolerance:g} within "
                f"restarts={restarts}: allow more of either",
                RuntimeWarning,
                stacklevel=3,
            )
    order = np.argsort(-found)
    kept = len(order)
    vectors[:kept] = columns.T[order]
    values[:kept] = math.copysign(1.0, shift) * (found[order] - abs(shift))
    residuals = np.full(number, np.nan)
    if kept:
        errors = count.product(vectors[:kept]) - values[:kept, np.newaxis] * vectors[:kept]
        residuals[:kept] = np.linalg.norm(errors, axis=1)
    return values, vectors, residuals
