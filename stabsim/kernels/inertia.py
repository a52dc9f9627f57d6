"""Eigenvalues of symmetric matrices, by LAPACK.

Numba's ``np.linalg.eigvalsh`` checks and copies each matrix and calls the same routine, syevd without eigenvectors.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from numba import types

from stabsim.kernels import blocks
from stabsim.kernels.compile import kernel
from stabsim.kernels.views import flat

_DOUBLES: Any = types.CPointer(types.float64)
_syevd: Any = types.ExternalFunction(
    "numba_ez_xxxevd",
    types.intc(
        types.char,  # type of the numbers
        types.char,  # whether eigenvectors
        types.char,  # which triangle is read
        types.intp,  # rows
        _DOUBLES,  # matrix
        types.intp,  # from one column to the next
        _DOUBLES,  # eigenvalues
    ),
)
_DOUBLE, _NO_VECTORS, _LOWER = np.int8(ord("d")), np.int8(ord("N")), np.int8(ord("L"))


@kernel(apart=True)
def eigenvalues(matrix, out):
    """Write the eigenvalues of a symmetric float64 matrix, which is overwritten, from the smallest on.

    They are NaN where any number is not finite, or LAPACK's iteration has not converged.
    """
    n = matrix.shape[0]
    if n == 0:
        return
    values = flat(matrix)
    for i in range(values.size):
        if not math.isfinite(values[i]):
            blocks.fill(out, math.nan)
            return
    if _syevd(_DOUBLE, _NO_VECTORS, _LOWER, n, matrix.ctypes, n, out.ctypes) != 0:
        blocks.fill(out, math.nan)


@kernel()
def asymmetry(matrix):
    """Return the largest difference across the diagonal, as a share of the largest number; not finite ones are none."""
    largest = apart = 0.0
    for i in range(matrix.shape[0]):
        for j in range(i + 1):
            largest = max(largest, abs(matrix[i, j]), abs(matrix[j, i]))
            apart = max(apart, abs(matrix[i, j] - matrix[j, i]))
    return apart / largest if largest > 0 else 0.0


@functools.cache
def solver() -> Any:
    """Return the compiled loop over matrices (m, n, n), overwritten: eigenvalues (m, n) and asymmetries (m,)."""

    def symmetric_eigenvalues(matrices, values, differences):
        for i in range(matrices.shape[0]):
            differences[i] = asymmetry(matrices[i])
            eigenvalues(matrices[i], values[i])

    return kernel("void(float64[:, :, ::1], float64[:, ::1], float64[::1])", cache="symmetric eigenvalues")(
        symmetric_eigenvalues
    )
