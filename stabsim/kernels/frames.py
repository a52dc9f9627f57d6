"""Frames: rows that are orthonormal, or zero where what they came from depends on the rows above.

Rows are taken off one another, not their products (no Cholesky factor of Z Z^T), so that nearly parallel rows, whose
difference is all that matters, keep it; and once more where much was taken off ("twice is enough": Giraud, Langou,
Rozložník & van den Eshof, Numerische Mathematik 101, 2005, doi:10.1007/s00211-005-0615-4).
"""

from __future__ import annotations

import math

import numpy as np

from stabsim.kernels import blocks
from stabsim.kernels.compile import CONTRACT, REASSOCIATE, kernel, wide_vectors
from stabsim.kernels.views import as_matrix, stretch

PANEL = 8  # rows that are taken off one another by loops; those of other panels by products
STRETCH = 1024
LITTLE = 0.1  # of a row that is left: below, rounding would show, so it is done once more
NOTHING = 16  # times the precision of the numbers: what is left of a row that depends on others
HALF = 0.5  # of a row that is left the second time: below, the row was rounding, and would not be orthogonal after all
RANGE = 2.0**40  # of lengths whose squares, and those of a row 2^-20 times as long, stay normal numbers


@kernel(fastmath=REASSOCIATE)
def dot_of_stretch(x, y):
    """Return x.y, summed in the type of the numbers, as products of matrices are."""
    wide_vectors()
    total = x.dtype.type(0)
    for i in range(x.size):
        total += x[i] * y[i]
    return total


@kernel()
def dot(x, y):
    """Return x.y."""
    total = 0.0
    for first in range(0, x.size, STRETCH):
        size = min(STRETCH, x.size - first)
        total += dot_of_stretch(stretch(x, first, size), stretch(y, first, size))
    return total


@kernel(fastmath=REASSOCIATE)
def subtract_from_stretch(factor, row, out, other):
    """Subtract ``factor * row``, and return what is left times another row."""
    wide_vectors()
    total = out.dtype.type(0)
    for i in range(out.size):
        left = out[i] - factor * row[i]
        out[i] = left
        total += left * other[i]
    return total


@kernel(fastmath=REASSOCIATE)
def subtract_from_stretch_and_square(factor, row, out):
    """Subtract ``factor * row``, and return what is left times itself.

    The same with ``out`` as the other row would take LLVM's way for arrays that overlap, one number at a time.
    """
    wide_vectors()
    total = out.dtype.type(0)
    for i in range(out.size):
        left = out[i] - factor * row[i]
        out[i] = left
        total += left * left
    return total


@kernel()
def subtract(factor, rows, j, out, last):
    """Subtract ``factor`` times row j; return what is left times row j + 1, after the last row times itself.

    At once, since rows are read from the second-level cache: a net of width 2048 with 8 samples takes 5% less time.
    """
    total = 0.0
    for first in range(0, out.size, STRETCH):
        size = min(STRETCH, out.size - first)
        row, part = stretch(rows[j], first, size), stretch(out, first, size)
        if j < last:
            total += subtract_from_stretch(factor, row, part, stretch(rows[j + 1], first, size))
        else:
            total += subtract_from_stretch_and_square(factor, row, part)
    return total


@kernel(fastmath=CONTRACT)
def subtract_matrix(matrix, out):
    """Subtract a matrix."""
    wide_vectors()
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            out[i, j] -= matrix[i, j]


@kernel()
def length(row):
    """Return the length of a row, divided by a power of two if its squares leave the range; and the exponent."""
    found = math.sqrt(dot(row, row))
    if 1.0 / RANGE < found < RANGE:
        return found, np.int64(0)
    greatest = np.float64(max(np.max(row), -np.min(row)))
    if not 0.0 < greatest < math.inf:
        return found, np.int64(0)
    exponent = np.int64(math.frexp(greatest)[1])
    blocks.scale_by_power_of_two(row, -exponent)
    return math.sqrt(dot(row, row)), exponent


@kernel()
def orthonormalize_panel(panel, lengths, nothing, r):
    """Turn few rows into R times a frame, in place; return the least share of the rows' lengths that was left.

    Rows of whose length no more than the share ``nothing`` is left become 0.
    """
    least = 1.0
    for i in range(panel.shape[0]):
        row = panel[i]
        for j in range(r.shape[1]):
            r[i, j] = 0
        product = dot(panel[0], row)
        for j in range(i):
            r[i, j] = product
            product = subtract(r[i, j], panel, j, row, i - 1)
        left = math.sqrt(product)
        if left > nothing * lengths[i]:
            r[i, i] = left
            blocks.scale(row, 1.0 / left)
            least = min(least, left / lengths[i])
        else:
            blocks.scale(row, 0.0)
    return least


@kernel(apart=True)
def orthonormalize(rows, start, c, work):
    """Turn rows into C times a frame, in place; the first ``start`` rows are one already.

    ``c`` (rows, rows) is written from row ``start`` on; ``work`` has room for ``PANEL`` rows of the longer side.
    """
    count = rows.shape[0]
    nothing = NOTHING * blocks.precision(rows.itemsize)
    lengths = np.empty(PANEL)
    exponents = np.empty(PANEL, np.int64)
    r = np.empty((PANEL, PANEL), rows.dtype)
    r_again = np.empty((PANEL, PANEL), rows.dtype)
    t_again = np.empty((PANEL, count), rows.dtype)
    for first in range(start, count, PANEL):
        last = min(first + PANEL, count)
        size = last - first
        panel = rows[first:last]
        for i in range(size):
            lengths[i], exponents[i] = length(panel[i])
            for j in range(count):
                c[first + i, j] = 0
        project(panel, rows[:first], c[first:last], work)
        least = orthonormalize_panel(panel, lengths, nothing, r)
        if least < LITTLE:
            for i in range(size):
                lengths[i] = 1.0 if r[i, i] > 0 else 0.0
                for j in range(count):
                    t_again[i, j] = 0
            project(panel, rows[:first], t_again, work)
            orthonormalize_panel(panel, lengths, HALF, r_again)
            for i in range(size):
                for j in range(first):
                    for k in range(i + 1):
                        c[first + i, j] += r[i, k] * t_again[k, j]
                for j in range(size):
                    total = 0.0
                    for k in range(j, i + 1):
                        total += np.float64(r[i, k]) * np.float64(r_again[k, j])
                    c[first + i, first + j] = total
        else:
            for i in range(size):
                for j in range(size):
                    c[first + i, first + j] = r[i, j]
        for i in range(size):
            blocks.scale_by_power_of_two(c[first + i], exponents[i])


@kernel()
def project(panel, frame, t, work):
    """Take the rows of a frame off a panel; write what was taken into the columns of ``t``."""
    size, width = panel.shape
    count = frame.shape[0]
    if count == 0:
        return
    products = as_matrix(work[: size * count], size, count)
    np.dot(panel, frame.T, products)
    for i in range(size):
        for j in range(count):
            t[i, j] = products[i, j]
    taken = as_matrix(work[size * count : size * (count + width)], size, width)
    np.dot(products, frame, taken)
    subtract_matrix(taken, panel)
