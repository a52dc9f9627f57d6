"""How many eigenvalues of random symmetric matrices are negative, matrix after matrix.

A GOE matrix has the eigenvalues of a tridiagonal one with independent entries (Dumitriu & Edelman 2002, J. Math. Phys.
43), whose negative ones a Sturm sequence counts: n steps instead of n^3. Other matrices are filled and go to LAPACK.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from numba import float64, int64, uint64, void

from stabsim.kernels.compile import kernel
from stabsim.kernels.positive_definite import LAYERS, chi_square, draw_wishart_row, fill_normals

ENTRY = np.uint32(15)  # purpose of random numbers, beside those of the other file
EPSILON = 2.0**-52


@kernel()
def _tridiagonal_index(n, variance, diagonal, net, seed):
    """Return the number of negative pivots of a tridiagonal matrix, whose diagonal is given."""
    negative, pivot = 0, 1.0
    for k in range(n):
        square = 0.0
        if k > 0 and variance > 0:
            layer = n * LAYERS + k
            square = variance * chi_square(k, 0, layer, net, ENTRY, seed)
        pivot = diagonal[k] - (square / pivot if k > 0 else 0.0)
        if pivot == 0.0:
            pivot = EPSILON * math.sqrt(square) + 1e-300
        negative += 1 if pivot < 0 else 0
    return negative


@kernel()
def _fill(matrix, wishart, columns, scale, diagonal, row, net, seed):
    """Draw all entries."""
    for k in range(diagonal.size):
        layer = diagonal.size * LAYERS + k
        fill_normals(row, k, layer, net, ENTRY, seed)
        for j in range(k):
            row[j] *= scale
        row[k] = diagonal[k]
        for j in range(k + 1):
            matrix[k, j] = row[j]
        if columns > 0:
            draw_wishart_row(wishart, k, columns, layer, net, seed, row)
            for j in range(k + 1):
                matrix[k, j] += row[j]
        for j in range(k):
            matrix[j, k] = matrix[k, j]


def _count(first, last, columns, variance, diagonal_variance, tridiagonal, seed, counts):
    n = counts.size - 1
    diagonal, row = np.empty(n), np.empty(n + 1)
    side = 0 if tridiagonal else n
    matrix, wishart = np.empty((side, side)), np.empty((side, min(side, columns)))
    scale, root = math.sqrt(variance), math.sqrt(diagonal_variance)
    for net in range(first, last):
        fill_normals(diagonal, n, n * LAYERS + n, net, ENTRY, seed)
        for k in range(n):
            diagonal[k] *= root
        if tridiagonal:
            negative = _tridiagonal_index(n, variance, diagonal, net, seed)
        else:
            _fill(matrix, wishart, columns, scale, diagonal, row, net, seed)
            eigenvalues = np.linalg.eigvalsh(matrix)
            band = n * EPSILON * max(-eigenvalues[0], eigenvalues[n - 1])
            negative = np.searchsorted(eigenvalues, -band)
        counts[negative] += 1


@functools.cache
def count_index() -> Any:
    """Return the compiled count: it adds one to ``counts[index]`` for each matrix ``first`` .. ``last - 1``."""
    signature = void(int64, int64, int64, float64, float64, int64, uint64, int64[::1])
    return kernel(signature, cache="index of random matrices")(_count)
