"""Lanczos tridiagonalization of a Hessian from many starting vectors at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stabsim.checks import brief
from stabsim.kernels import laws
from stabsim.landscape.surface import Surface, check_points, check_values
from stabsim.threads import check_memory, single_threaded_blas

Floats = NDArray[np.float64]

PROBE, DIRECTION = np.uint32(17), np.uint32(18)  # purposes of random numbers


def one_point(surface: Surface, argument: str, value: Any) -> Floats:
    """Return a point (or a direction) of a surface, checked: finite numbers of shape (parameters,)."""
    try:
        shape = np.shape(value)
    except ValueError:  # lists of different lengths
        raise TypeError(f"{argument} must be an array of numbers (parameters,), not {brief(value)}") from None
    if shape != (surface.parameters,):
        raise ValueError(f"{argument} must have shape (parameters,) = ({surface.parameters},), not {shape}")
    return check_points(value, surface.parameters, argument)


def products_at(surface: Surface, point: Floats) -> Callable[[Floats], Floats]:
    """Return the function that takes vectors (..., parameters) and returns H v of each, checked."""

    def product(vectors: Floats) -> Floats:
        found = check_values("hessian_vector", surface.hessian_vector(point, vectors), vectors.shape)
        if not np.isfinite(found).all():
            raise ValueError("hessian_vector must be finite at point, and is not")
        return found

    return product


def normals(number: int, parameters: int, seed: int, purpose: np.uint32, first: int = 0) -> Floats:
    """Return standard normal vectors (number, parameters); each is a function of the seed and its number.

    Raises
    ------
    MemoryError
        If they do not fit into memory.
    """
    check_memory("random vectors", 8 * number * parameters, "number or probes")
    out = np.empty((number, parameters))
    draw = laws.law("normal", np.dtype(np.float64))
    for net, row in enumerate(out, first):
        draw(row[np.newaxis], np.uint64(0), np.uint64(seed), purpose, np.uint32(0), np.uint32(net), 1.0)
    return out


def lanczos(product: Callable[[Floats], Floats], starts: Floats, steps: int) -> tuple[Floats, Floats]:
    """Return diagonals and off-diagonals, each (starts, steps), of the tridiagonal matrices of H.

    ``product`` takes vectors (starts, parameters) and returns H v of each.

    The last off-diagonal number is what the next step would begin with: 0 once a Krylov space is exhausted, from
    where on the others are 0 too.

    Notes
    -----
    Each new vector is made orthogonal to all before it, twice (Giraud, Langou, Rozloznik & van den Eshof 2005,
    Numerische Mathematik 101): without it, copies of the outer eigenvalues come back.
    """
    probes, parameters = starts.shape
    check_memory("vectors of Lanczos", 8 * probes * parameters * (steps + 4), "steps or probes")
    basis = np.zeros((probes, steps, parameters))
    diagonal, beside = np.zeros((probes, steps)), np.zeros((probes, steps))
    vectors = starts / np.linalg.norm(starts, axis=1, keepdims=True)
    scale = np.zeros(probes)
    with single_threaded_blas():
        for step in range(steps):
            basis[:, step] = vectors
            products = product(vectors)
            diagonal[:, step] = np.einsum("kp,kp->k", vectors, products)
            scale = np.maximum(scale, np.linalg.norm(products, axis=1))
            known = basis[:, : step + 1]
            for _ in range(2):
                overlaps = known @ products[:, :, np.newaxis]
                products = products - np.einsum("ksp,ks->kp", known, overlaps[:, :, 0])
            length = np.linalg.norm(products, axis=1)
            beside[:, step] = np.where(length > parameters * np.finfo(np.float64).eps * scale, length, 0.0)
            more = beside[:, step, np.newaxis] > 0
            vectors = np.divide(products, length[:, np.newaxis], out=np.zeros_like(products), where=more)
    return diagonal, beside
