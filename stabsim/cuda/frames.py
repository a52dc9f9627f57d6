"""Frames of stacks: rows that are orthonormal, or zero where they depend on the rows above, each net by a block.

The rules are those of `stabsim.kernels.frames`, and so is the decomposition, which is unique. The order is another: a
row is taken off all rows above it at once (classical Gram-Schmidt), whose sums over threads are then made together,
and once more where much was taken off, which is as good as one after the other ("twice is enough", see there).

A thread keeps to its columns in all rows, so that threads wait for each other in sums only.
"""

from __future__ import annotations

import math
from collections import namedtuple

import numpy as np
from numba import float64

from stabsim.cuda import block, shim
from stabsim.cuda.block import COLUMNS
from stabsim.cuda.shim import Array, cuda, device, kernel
from stabsim.kernels import blocks
from stabsim.kernels.compile import atom
from stabsim.kernels.frames import HALF, LITTLE, NOTHING, RANGE

PANEL = 32  # rows of random matrices that are taken off one another by a block of threads; those of others by products
SHARE = 4  # columns of a thread, at least: with fewer, there is less to do than to wait for

# Stacks of rows (nets, rows, columns); of coefficients (nets, rows, rows); and a place for a row of those (nets, rows).
Stack = namedtuple("Stack", "rows c products")


@atom
def power_of(exponent):
    """Return two factors whose product is ``2**exponent``, which may be too far from 1 for float32."""
    half = int(exponent) // 2
    return math.ldexp(1.0, half), math.ldexp(1.0, int(exponent) - half)


@device
def squares_of(row):
    """Return this thread's part of the row's sum of squares, in the type of the numbers."""
    squares = row.dtype.type(0)
    for j in range(cuda.threadIdx.x, row.size, cuda.blockDim.x):
        squares += row[j] * row[j]
    return squares


@device
def scale(row, factor):
    """Multiply this thread's part of a row."""
    by = row.dtype.type(factor)
    for j in range(cuda.threadIdx.x, row.size, cuda.blockDim.x):
        row[j] *= by


@device
def length(row):
    """Return the length of a row, divided by a power of two if its squares leave the range; and the exponent."""
    found = math.sqrt(block.total(squares_of(row)))
    if 1.0 / RANGE < found < RANGE:
        return found, np.int64(0)
    size = row.dtype.type(0)
    for j in range(cuda.threadIdx.x, row.size, cuda.blockDim.x):
        size = max(size, abs(row[j]))
    largest = block.greatest(size)
    if not 0.0 < largest < math.inf:
        return found, np.int64(0)
    exponent = np.int64(math.frexp(largest)[1])
    first, second = power_of(-exponent)
    scale(row, first)
    scale(row, second)
    return math.sqrt(block.total(squares_of(row))), exponent


@device
def multiply(rows, i, out):
    """Write the products of row i with the rows above it, as many at a time as are summed at once."""
    thread, threads = cuda.threadIdx.x, cuda.blockDim.x
    sums = cuda.shared.array(COLUMNS, float64)
    products = cuda.local.array(COLUMNS, rows.dtype)
    for first in range(0, i, COLUMNS):
        for k in range(COLUMNS):
            products[k] = 0
        for j in range(thread, rows.shape[1], threads):
            x = rows[i, j]
            for k in range(COLUMNS):
                if first + k < i:  # unsigned: signed indices may count from the end, which takes 30 more registers
                    products[k] += x * rows[np.uint64(first + k), np.uint64(j)]
        if thread < COLUMNS:
            sums[thread] = 0.0
        block.add_up(products, 0, COLUMNS, sums)
        if thread < COLUMNS and first + thread < i:
            out[first + thread] = sums[thread]
    cuda.syncthreads()


@device
def subtract(rows, i, products):
    """Take the rows above off row i, as many times each as it was found in it; return the length of what is left."""
    squares = rows.dtype.type(0)
    for j in range(cuda.threadIdx.x, rows.shape[1], cuda.blockDim.x):
        left = rows[i, j]
        for k in range(i):
            left -= products[k] * rows[k, j]
        rows[i, j] = left
        squares += left * left
    return math.sqrt(block.total(squares))


@device
def orthonormalize_row(rows, i, c, products):
    """Turn row i into what makes it, with those above, a frame, and write what it was made of."""
    row, thread, threads = rows[i], cuda.threadIdx.x, cuda.blockDim.x
    found, exponent = length(row)
    for j in range(thread, c.size, threads):
        c[j] = 0
    size, least, passes = 1.0, NOTHING * blocks.precision(row.itemsize) * found, 0
    little = LITTLE * found
    while passes == 0 or (passes == 1 and 0.0 < size < little):
        multiply(rows, i, products)
        left = subtract(rows, i, products)
        for j in range(thread, i, threads):
            c[j] += size * products[j]
        kept = left > least
        scale(row, 1.0 / left if kept else 0.0)
        size *= left if kept else 0.0
        least = HALF
        passes += 1
    first, second = power_of(exponent)
    for j in range(thread, c.size, threads):
        c[j] = (size if j == i else float64(c[j])) * first * second


@kernel
def _orthonormalize(stack, first, last, start):
    net = cuda.blockIdx.x
    rows, c, products = stack.rows[net][first:last], stack.c[net], stack.products[net]
    for i in range(start, last - first):
        orthonormalize_row(rows, i, c[i], products)


def orthonormalize(rows: Array, start: int, c: Array) -> None:
    """Turn the rows of each net into C times a frame, in place; the first ``start`` rows are one already.

    Parameters
    ----------
    rows
        Stack (nets, rows, columns), C-contiguous.
    start
        Number of rows that are a frame.
    c
        Stack (nets, rows, rows) of C, which is written from row ``start`` on.
    """
    _orthonormalize_panel(rows, 0, rows.shape[1], start, c)


def _orthonormalize_panel(rows: Array, first: int, last: int, start: int, c: Array) -> None:
    threads = block.threads_for(-(-rows.shape[2] // SHARE))
    stack = Stack(rows, c, products=shim.empty((rows.shape[0], last - first), rows.dtype))
    _orthonormalize(rows.shape[0], threads, stack, first, last, start, shared=block.shared_bytes(threads))


def orthonormalize_random(rows: Array) -> None:
    """Turn rows (nets, rows, columns), no more than columns, that no law makes dependent into frames, in place.

    Panels of rows are taken off one another by products of matrices, each twice.
    """
    nets, count, _ = rows.shape
    size = min(PANEL, count)
    c = shim.empty((nets, size, size), rows.dtype)
    for first in range(0, count, PANEL):
        last = min(first + PANEL, count)
        for _ in range(2 if first > 0 else 1):
            if first > 0:
                _project(rows, first, last)
            _orthonormalize_panel(rows, first, last, 0, c)


def _project(rows: Array, first: int, last: int) -> None:
    """Take the rows before a panel, a frame, off it."""
    nets, _, width = rows.shape
    above, panel = rows[:, :first], rows[:, first:last]
    products = shim.empty((nets, last - first, first), rows.dtype)
    taken = shim.empty((nets, last - first, width), rows.dtype)
    shim.multiply_by_transposed(panel, above, products)
    shim.multiply(products, above, taken)
    panel -= taken
