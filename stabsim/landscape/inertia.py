"""Inertia: how many eigenvalues of symmetric matrices are negative, zero and positive, with an undecided band."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stabsim.checks import array, brief
from stabsim.kernels.inertia import solver
from stabsim.threads import count_threads, spread

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

EPSILON = float(np.finfo(float).eps)
ASYMMETRY = 1e-8  # of the largest entry: rounding makes less, a mistake more


class Inertia(NamedTuple):
    """Numbers of negative, zero and positive eigenvalues, and up to which size one counts as zero."""

    negative: Counts
    zero: Counts
    positive: Counts
    band: Floats


def inertia(matrices: Any, band: Any = None, *, threads: int | None = None) -> Inertia:
    """Return how many eigenvalues are negative, zero and positive.

    Parameters
    ----------
    matrices : array (..., n, n)
        Symmetric, finite.
    band : array (...), optional
        Eigenvalues up to that size count as zero; n eps ||H|| unless told, where ||H|| is the largest in size. That is
        what rounding may make of a zero: no sign is read off it.
    threads : int, optional
        As many as there are processors, unless told; they change nothing.

    Returns
    -------
    Inertia
        Arrays of the shape (...).

    Raises
    ------
    TypeError, ValueError
        If the matrices are not square, not symmetric or not finite, or the band is negative.

    Notes
    -----
    Eigenvalues are LAPACK's (syevd), with errors of a few eps ||H||. By Sylvester's law signs survive every congruence
    A^T H A with invertible A, so they do not depend on the units of the parameters; the band does.

    Examples
    --------
    >>> signs = inertia([[[2.0, 0.0], [0.0, -1.0]], [[1.0, 1.0], [1.0, 1.0]]])
    >>> signs.negative, signs.zero, signs.positive
    (array([1, 0]), array([0, 1]), array([1, 1]))
    """
    values = eigenvalues(matrices, threads=threads)
    n = values.shape[-1]
    limit = n * EPSILON * np.max(np.abs(values), axis=-1) if band is None else array("band", band, 0.0)
    if limit.shape not in ((), values.shape[:-1]):
        raise ValueError(f"band must have the shape {values.shape[:-1]} of the matrices before their sides, or (), "
                         f"not {limit.shape}")  # fmt: skip
    return signs(values, np.broadcast_to(limit, values.shape[:-1]))


def signs(values: Floats, band: Floats) -> Inertia:
    """Return the same of eigenvalues (..., n) and bands (...)."""
    negative = np.sum(values < -band[..., None], axis=-1)
    positive = np.sum(values > band[..., None], axis=-1)
    return Inertia(negative, values.shape[-1] - negative - positive, positive, band)


def eigenvalues(matrices: Any, *, threads: int | None = None) -> Floats:
    """Return the eigenvalues (..., n) of symmetric matrices (..., n, n), ascending; see `inertia`.

    Examples
    --------
    >>> eigenvalues([[0.0, 1.0], [1.0, 0.0]])
    array([-1.,  1.])
    """
    try:
        given = np.asarray(matrices)
    except ValueError:  # of several sizes
        given = np.empty(0, object)
    if given.dtype.kind not in "iuf" or given.ndim < 2 or given.shape[-1] != given.shape[-2] or given.size == 0:
        shape = f"an array of shape {given.shape}" if given.dtype.kind in "iuf" else brief(matrices)
        raise ValueError(f"matrices must be an array of numbers (..., n, n) with n >= 1, not {shape}")
    copies = np.array(given, np.float64, order="C").reshape(-1, *given.shape[-2:])
    count, n = copies.shape[:2]
    values, differences = np.empty((count, n)), np.empty(count)
    run = solver()

    def piece(first: int, last: int) -> None:
        run(copies[first:last], values[first:last], differences[first:last])

    spread(piece, count, count_threads(threads))
    _check(given, values, differences)
    return values.reshape(given.shape[:-1])


def eigensystems(matrices: Floats, threads: int) -> tuple[Floats, Floats]:
    """Return eigenvalues (m, n), ascending, and eigenvectors (m, n, n), as columns, of finite symmetric matrices."""
    values, vectors = np.empty(matrices.shape[:-1]), np.empty(matrices.shape)

    def piece(first: int, last: int) -> None:
        values[first:last], vectors[first:last] = np.linalg.eigh(matrices[first:last])

    spread(piece, len(matrices), threads)
    return values, vectors


def _check(given: NDArray[Any], values: Floats, differences: Floats) -> None:
    wrong = np.flatnonzero(~np.isfinite(values).all(axis=-1))
    leading = given.shape[:-2]
    if len(wrong):
        place = [int(i) for i in np.unravel_index(wrong[0], leading)] if leading else []
        fault = "has eigenvalues beyond every float" if np.isfinite(given[tuple(place)]).all() else "is not"
        raise ValueError(f"matrices must be finite, but matrices{place or ''} {fault}")
    wrong = np.flatnonzero(differences > ASYMMETRY)
    if len(wrong):
        place = [int(i) for i in np.unravel_index(wrong[0], leading)] if leading else []
        raise ValueError(
            f"matrices must be symmetric to {ASYMMETRY:g} of their largest entry, but matrices{place or ''} differs "
            f"from its transpose by {differences[wrong[0]]:.3g} of it"
        )
