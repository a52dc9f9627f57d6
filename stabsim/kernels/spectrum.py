"""Singular values, by LAPACK.

Numba's ``np.linalg.svd`` makes singular vectors too, which takes 2 to 3 times as long (width 128: 1650 us against 674;
512: 58 ms against 25), so its binding of LAPACK's gesdd is called, which need not.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba.core import types

from stabsim.kernels import blocks
from stabsim.kernels.compile import kernel
from stabsim.kernels.views import flat

_DOUBLES = types.CPointer(types.float64)  # type: ignore[attr-defined]
_gesdd: Any = types.ExternalFunction(
    "numba_ez_gesdd",
    types.intc(
        types.char,  # type of the numbers
        types.char,  # which singular vectors
        types.intp,  # rows
        types.intp,  # columns
        _DOUBLES,  # matrix, column after column
        types.intp,  # from one column to the next
        _DOUBLES,  # singular values
        _DOUBLES,  # left singular vectors
        types.intp,
        _DOUBLES,  # right singular vectors
        types.intp,
    ),
)
_DOUBLE, _NO_VECTORS = np.int8(ord("d")), np.int8(ord("N"))


@kernel(apart=True)
def singular_values(matrix, out):
    """Write the min(m, n) singular values of a float64 matrix (m, n), which is overwritten, from the largest on.

    They are NaN where any number is not finite. To LAPACK rows are columns; the singular values are the same.
    """
    rows, columns = matrix.shape
    if matrix.size == 0:
        return
    if not math.isfinite(_size(flat(matrix))):
        blocks.fill(out, math.nan)
        return
    numbers, one = matrix.ctypes, np.int64(1)  # in the place of vectors, which are not looked at
    failed = _gesdd(_DOUBLE, _NO_VECTORS, columns, rows, numbers, columns, out.ctypes, numbers, one, numbers, one)
    if failed != 0:  # LAPACK's iteration has not converged
        blocks.fill(out, math.nan)


@kernel()
def _size(values):
    """Return the largest value in size, or infinity or NaN if there is one."""
    largest = 0.0
    for i in range(values.size):
        size = abs(values[i])
        if not size <= largest:
            largest = size
            if not math.isfinite(size):
                break
    return largest
