"""Both ends of the spectrum of a Hessian that is too large to be formed, by Lanczos."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stabsim import checks
from stabsim.landscape.lanczos import PROBE, lanczos, normals, one_point, products_at
from stabsim.landscape.surface import Surface, check_surface
from stabsim.task import LARGEST_SEED
from stabsim.threads import check_memory, single_threaded_blas

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
        How many of each end, from 0 to parameters, repeated ones as often as they are; 1 unless told.
    tolerance : float
        Of the residuals, relative to about twice the spectral norm; 1e-8 unless told.
    restarts : int, optional
        Most restarts of Lanczos, each time it is called; ten times the number of parameters unless told.
    seed : int
        Of the starting vectors; 0 unless told.

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
        If not all have converged: how many have, which keep their values; the others are NaN. If what is orthogonal to
        all of them has not: that further ones may be as far out.

    Notes
    -----
    ARPACK's implicitly restarted Lanczos (`scipy.sparse.linalg.eigsh`) of c + H and c - H with c near the
    spectral norm: the lowest eigenvalues, which may be 0, then converge relative to the norm, not to themselves.
    From one starting vector it sees one eigenvector of an eigenvalue, however often that is repeated (Parlett 1998, The
    Symmetric Eigenvalue Problem, 13): where several are asked for, it goes on orthogonal to those found, from another
    vector each time, until nothing lies further out than the last of them. H of up to 20, or of twice as many
    parameters as eigenvalues are asked for, is formed by products with unit vectors.

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
    check_surface(surface, ("hessian_vector",))
    point = one_point(surface, "point", point)
    numbers = {
        name: checks.whole_number(name, value, 0, surface.parameters)
        for name, value in (("lowest", lowest), ("highest", highest))
    }
    tolerance = checks.number("tolerance", tolerance, float(np.finfo(np.float64).eps))
    limit = 10 * surface.parameters if restarts is None else checks.whole_number("restarts", restarts)
    seed = checks.whole_number("seed", seed, 0, LARGEST_SEED)
    count = _Counted(products_at(surface, point))
    if surface.parameters <= _least_basis(max(numbers.values())):
        low, high = _ends_of_all(count, surface.parameters, *numbers.values())
        return Extremes(low[0], high[0], low[1], high[1], low[2], high[2], count.products)
    start = normals(1, surface.parameters, seed, PROBE)
    diagonal, beside = lanczos(count.product, start, min(_STEPS_FOR_NORM, surface.parameters))
    shift = 1.1 * float(np.abs(diagonal).max() + 2 * beside.max()) or 1.0  # no less than what is seen of that norm
    low, high = (
        _End(count, surface.parameters, seed, sign * shift, tolerance, limit, name).find(number)
        for (name, number), sign in zip(numbers.items(), (-1.0, 1.0), strict=True)
    )
    return Extremes(low[0], high[0], low[1], high[1], low[2], high[2], count.products)


def _least_basis(number: int) -> int:
    """Return how many vectors ARPACK keeps for so many eigenvalues: no Hessian of fewer parameters needs it."""
    return max(2 * number + 1, 20)


@dataclass
class _Counted:
    """Products of a Hessian with vectors, counted."""

    multiply: Callable[[Floats], Floats]
    products: int = 0

    def product(self, vectors: Floats) -> Floats:
        self.products += int(np.prod(vectors.shape[:-1]))
        return self.multiply(vectors)

    def residuals(self, values: Floats, vectors: Floats) -> Floats:
        if not len(values):
            return np.empty(0)
        return np.asarray(np.linalg.norm(self.product(vectors) - values[:, np.newaxis] * vectors, axis=1))


def _ends_of_all(count: _Counted, parameters: int, lowest: int, highest: int) -> list[tuple[Floats, Floats, Floats]]:
    whole = count.product(np.eye(parameters))
    with single_threaded_blas():
        values, columns = np.linalg.eigh(0.5 * whole + 0.5 * whole.T)
    found = []
    for chosen in (slice(None, lowest), slice(None, -1 - highest, -1)):
        vectors = np.ascontiguousarray(columns.T[chosen])
        found.append((values[chosen].copy(), vectors, count.residuals(values[chosen], vectors)))
    return found


@dataclass
class _End:
    """The search at one end: the largest eigenvalues of abs(shift) + sign(shift) H."""

    count: _Counted
    parameters: int
    seed: int
    shift: float
    tolerance: float
    restarts: int
    name: str

    def find(self, number: int) -> tuple[Floats, Floats, Floats]:
        """Return eigenvalues of H from the end on, eigenvectors and residuals; NaN where they did not converge."""
        shifted, vectors = np.empty(0), np.empty((0, self.parameters))
        if number:
            shifted, vectors = self._largest(number, vectors)
            if len(shifted) == number > 1:  # of one, a copy is the same
                shifted, vectors = self._with_copies(shifted, vectors)
            elif len(shifted) < number:
                self._warn(f"{len(shifted)} of {number} {self.name} eigenvalues")
        order = np.argsort(-shifted, kind="stable")[:number]
        values = math.copysign(1.0, self.shift) * (shifted[order] - abs(self.shift))
        vectors, missing = vectors[order], number - len(order)
        gap = np.full(missing, np.nan)
        return (
            np.concatenate([values, gap]),
            np.concatenate([vectors, np.full((missing, self.parameters), np.nan)]),
            np.concatenate([self.count.residuals(values, vectors), gap]),
        )

    def _with_copies(self, shifted: Floats, vectors: Floats) -> tuple[Floats, Floats]:
        """Add eigenvalues, largest first, of what is orthogonal to those known, while they are among the largest."""
        number, least = len(shifted), self.tolerance * abs(self.shift)
        while len(shifted) < self.parameters:
            further, vector = self._largest(1, vectors)
            if not len(further):
                self._warn(
                    f"{number} {self.name} eigenvalues converged and are the outermost if none is repeated: no other"
                )
                break
            if further[0] <= np.sort(shifted)[-number] + least:
                break
            shifted, vectors = np.concatenate([shifted, further]), np.concatenate([vectors, vector])
        return shifted, vectors

    def _largest(self, number: int, known: Floats) -> tuple[Floats, Floats]:
        """Return those that converge of the largest eigenvalues of what is orthogonal to known eigenvectors."""
        from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh

        def outside(vector: Floats) -> Floats:
            return vector - known.T @ (known @ vector)

        def product(vector: Floats) -> Floats:
            vector = outside(vector.ravel())
            bent = self.count.product(vector)
            return outside(abs(self.shift) * vector + math.copysign(1.0, self.shift) * bent)

        parameters, size = self.parameters, _least_basis(number)
        check_memory("vectors of Lanczos", 8 * parameters * (size + 2 * len(known)), "lowest or highest")
        start = outside(normals(1, parameters, self.seed, PROBE, first=len(known))[0])
        operator: Any = LinearOperator((parameters, parameters), matvec=product, dtype=np.float64)
        with single_threaded_blas():
            try:
                values, columns = eigsh(
                    operator, number, which="LA", v0=start, ncv=size, tol=self.tolerance, maxiter=self.restarts
                )
            except ArpackNoConvergence as error:
                values, columns = error.eigenvalues, error.eigenvectors
        return values, np.ascontiguousarray(columns.T)

    def _warn(self, what: str) -> None:
        warnings.warn(
            f"{what} converged to tolerance={self.tolerance:g} within restarts={self.restarts}: allow more of either",
            RuntimeWarning,
            stacklevel=5,
        )
