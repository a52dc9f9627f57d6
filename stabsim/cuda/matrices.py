"""What the threads of a block do with a matrix (samples, units) of a net that lies in the memory of the device."""

from __future__ import annotations

import math

from numba import float64

from stabsim.cuda import shim
from stabsim.cuda.block import COLUMNS, WARP, add_up, total
from stabsim.cuda.shim import cuda
from stabsim.kernels import blocks
from stabsim.kernels.compile import atom

SUMS = COLUMNS  # that are made at a time
TOGETHER = 5  # samples, or pairs of them, with three sums each

# Marks of a net (MARKS, most rows or columns): 1 where a row or a column has a number other than 0.
ROWS, LINES, MORE_ROWS = range(3)
MARKS = 3


@shim.device
def share_out(rows, width):
    """Return a thread's first row, the step from row to row, and the same of columns.

    Threads side by side take columns side by side. Those that are left over get no row.
    """
    threads, thread = cuda.blockDim.x, cuda.threadIdx.x
    columns = min(threads, (width + WARP - 1) // WARP * WARP)
    step = threads // columns
    row = thread // columns
    return row if row < step else rows, step, thread % columns, columns


@shim.device
def sum_up(own, sums):
    """Write the sums over all threads of ``own`` (SUMS,); all threads see them."""
    cuda.syncthreads()  # all have read what was there
    if cuda.threadIdx.x < SUMS:
        sums[cuda.threadIdx.x] = 0.0
    cuda.syncthreads()
    add_up(own, 0, SUMS, sums)


@shim.device
def clear(marks, size):
    """Take away the first marks."""
    cuda.syncthreads()
    for i in range(cuda.threadIdx.x, size, cuda.blockDim.x):
        marks[i] = 0
    cuda.syncthreads()


@shim.device
def mark(matrix, rows, columns):
    """Mark rows and columns that are not all 0. All threads that write a mark write the same."""
    clear(rows, matrix.shape[0])
    clear(columns, matrix.shape[1])
    row, step, column, stride = share_out(matrix.shape[0], matrix.shape[1])
    for i in range(row, matrix.shape[0], step):
        for j in range(column, matrix.shape[1], stride):
            if matrix[i, j] != 0:
                if rows[i] == 0:
                    rows[i] = 1
                if columns[j] == 0:
                    columns[j] = 1
    cuda.syncthreads()


@shim.device
def count_unmarked(marks, size):
    """Return how many of the first marks are not set."""
    count = 0.0
    for i in range(cuda.threadIdx.x, size, cuda.blockDim.x):
        count += 1.0 if marks[i] == 0 else 0.0
    return total(count)


@shim.device
def dead_parts(matrix, marks):
    """Return how many rows and how many columns are all 0."""
    mark(matrix, marks[ROWS], marks[LINES])
    return count_unmarked(marks[ROWS], matrix.shape[0]), count_unmarked(marks[LINES], matrix.shape[1])


@shim.device
def scale(matrix, exponent):
    """Multiply by a power of two."""
    row, step, column, stride = share_out(matrix.shape[0], matrix.shape[1])
    for i in range(row, matrix.shape[0], step):
        for j in range(column, matrix.shape[1], stride):
            blocks.scale_by_power_of_two(matrix[i, j : j + 1], exponent)


@shim.device
def mean_correlation(matrix, sums):
    """Do what `blocks.mean_correlation` does."""
    own = cuda.local.array(SUMS, float64)
    pairs = matrix.shape[0] // 2
    cosines, number = 0.0, 0
    for c in range(SUMS):
        own[c] = 0.0
    for start in range(0, pairs, TOGETHER):
        for p in range(min(TOGETHER, pairs - start)):  # not unrolled: kernels would become long
            xx, xy, yy = 0.0, 0.0, 0.0
            for j in range(cuda.threadIdx.x, matrix.shape[1], cuda.blockDim.x):
                x, y = float64(matrix[2 * (start + p), j]), float64(matrix[2 * (start + p) + 1, j])
                xx += x * x
                xy += x * y
                yy += y * y
            own[3 * p] = xx
            own[3 * p + 1] = xy
            own[3 * p + 2] = yy
        sum_up(own, sums)
        for p in range(min(TOGETHER, pairs - start)):
            xx, yy = sums[3 * p], sums[3 * p + 2]
            if xx > 0 and yy > 0:
                cosines += sums[3 * p + 1] / (math.sqrt(xx) * math.sqrt(yy))
                number += 1
    return cosines / number if number > 0 else math.nan


@atom
def write_zeros(row, zero, wanted, matrix, dead_rows, dead_columns):
    """Turn a count of zeros into a fraction, and write those of all-zero rows and columns behind it."""
    row[zero] /= matrix.size
    if wanted[zero + 1]:
        row[zero + 1] = dead_rows / matrix.shape[0]
    if wanted[zero + 2]:
        row[zero + 2] = dead_columns / matrix.shape[1]
