"""How many directions there are in a matrix: its rank to rounding, and its stable rank.

Singular values are those of a matrix of at most (batch, batch): with Z = C U and dS = M V, U and V frames, they are
those of C and M, and those of dW = Z^T dS those of C^T M.
"""

from __future__ import annotations

import math

import numpy as np

from stabsim.kernels import blocks, frames, spectrum
from stabsim.kernels import record as r
from stabsim.kernels.compile import kernel
from stabsim.kernels.views import flat


@kernel(apart=True)
def doubled(matrix):
    """Return a copy in float64."""
    copy = np.empty(matrix.shape)
    blocks.copy(flat(matrix), flat(copy))
    return copy


@kernel(apart=True)
def core(matrix):
    """Return C (rows, rows) of a matrix C U; the matrix itself where that is no smaller."""
    rows, columns = matrix.shape
    u = doubled(matrix)
    if columns <= rows:
        return u
    c = np.zeros((rows, rows))
    frames.orthonormalize(u, 0, c, np.empty(frames.PANEL * (columns + 2 * rows)))
    return c


@kernel(apart=True)
def write_ranks(row, column, matrix, longer, unit):
    """Write the rank and the stable rank of what has the singular values of a matrix, which is overwritten.

    Those up to ``longer * unit`` times the largest are 0, ``longer`` being the longer side of the matrix that it
    stands for, as numpy.linalg.matrix_rank has it.
    """
    values = np.empty(min(matrix.shape[0], matrix.shape[1]))
    spectrum.singular_values(matrix, values)
    squares, rank = 0.0, 0
    for i in range(values.size):
        squares += values[i] * values[i]
        rank += values[i] > longer * unit * values[0]
    row[column] = rank
    row[column + 1] = squares / (values[0] * values[0]) if values[0] > 0.0 else math.nan


@kernel()
def record_ranks(row, column, matrix):
    """Write the rank and the stable rank of a matrix."""
    write_ranks(row, column, core(matrix), max(matrix.shape[0], matrix.shape[1]), blocks.precision(matrix.itemsize))


@kernel(apart=True)
def record_weight_gradient(row, z, ds):
    """Write the rank and the stable rank of dW = z^T ds."""
    shape = z.shape[1], ds.shape[1]
    fewer = z.shape[0] < min(shape)
    product = np.dot(core(z).T, core(ds)) if fewer else np.dot(doubled(z).T, doubled(ds))
    write_ranks(row, r.WEIGHT_GRADIENT_RANK, product, max(shape), blocks.precision(z.itemsize))
