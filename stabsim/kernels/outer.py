"""dW = z^T ds of a batch without forming it: where it is zero, and which of its columns have one sign.

An entry of dW is a sum over samples. It is taken to be zero where no sample has both factors. Other sums vanish with
probability zero, unless both factors are from a discrete set: in the last layer, of a given output gradient such as
one of ones, and given inputs or an activation with few values.
"""

from __future__ import annotations

import math

import numpy as np

from stabsim.kernels import blocks
from stabsim.kernels import record as r
from stabsim.kernels.compile import REASSOCIATE, kernel, wide_vectors
from stabsim.kernels.views import as_matrix

WORD = 64  # samples a word
STRIP = 64  # rows of dW that are formed together


@kernel()
def supports(matrix):
    """Return, per column, which rows are not zero, as bits: (words, columns)."""
    rows, columns = matrix.shape
    bits = np.zeros((-(-rows // WORD), columns), np.uint64)
    for i in range(rows):
        bit = np.uint64(1) << np.uint64(i % WORD)
        word = bits[i // WORD]
        for j in range(columns):
            word[j] |= bit if matrix[i, j] != 0 else np.uint64(0)
    return bits


@kernel()
def disjoint(bits, others):
    """Return how many columns share no bit with any of the other columns."""
    words, columns = bits.shape
    count = 0
    union = np.zeros(words, np.uint64)
    for w in range(words):
        for j in range(others.shape[1]):
            union[w] |= others[w, j]
    for i in range(columns):
        common = np.uint64(0)
        for w in range(words):
            common |= bits[w, i] & union[w]
        count += common == 0
    return count


@kernel(fastmath=REASSOCIATE)
def share(common, bits, others):
    """Add the bits that others share with ``bits`` to those in common."""
    wide_vectors()
    for j in range(common.size):
        common[j] |= bits & others[j]


@kernel()
def disjoint_pairs(bits, others):
    """Return how many pairs of columns share no bit, looking at all of them."""
    words, columns = bits.shape
    common = np.empty(others.shape[1], np.uint64)
    count = np.int64(0)
    for i in range(columns):
        for j in range(common.size):
            common[j] = 0
        for w in range(words):
            share(common, bits[w, i], others[w])
        count += blocks.count_zeros(common)
    return count


@kernel()
def disjoint_pairs_by_table(bits, others, samples):
    """Return the same by counting the columns of each pattern, and those within each pattern: few samples."""
    patterns = 1 << samples
    within = np.zeros(patterns)
    for j in range(others.shape[1]):
        within[np.int64(others[0, j])] += 1.0
    for b in range(samples):
        bit = 1 << b
        for pattern in range(patterns):
            if pattern & bit:
                within[pattern] += within[pattern ^ bit]
    count = 0.0
    for i in range(bits.shape[1]):
        count += within[patterns - 1 - np.int64(bits[0, i])]
    return count


@kernel()
def record_zeros(row, z, ds):
    """Write the fractions of zeros and of all-zero rows of dW."""
    samples, fan_in = z.shape
    fan_out = ds.shape[1]
    below, above = supports(z), supports(ds)
    if samples <= r.TABLE_SAMPLES:
        pairs = disjoint_pairs_by_table(below, above, samples)
    else:
        pairs = np.float64(disjoint_pairs(below, above))
    row[r.WEIGHT_GRADIENT_ZERO] = pairs / (fan_in * fan_out)
    row[r.WEIGHT_GRADIENT_DEAD_ROW] = disjoint(below, above) / fan_in
    row[r.WEIGHT_GRADIENT_DEAD_COLUMN] = disjoint(above, below) / fan_out


@kernel()
def record_one_signed_columns(row, z, ds):
    """Write the fraction, of the columns of dW that are not all zero, of those without a change of sign.

    dW is formed in strips of rows; a column that has shown both signs is left out of the following ones.
    """
    samples, fan_in = z.shape
    fan_out = ds.shape[1]
    left = fan_out
    columns = ds.copy()
    lowest, highest = np.zeros(fan_out, z.dtype), np.zeros(fan_out, z.dtype)
    low, high = np.empty(fan_out, z.dtype), np.empty(fan_out, z.dtype)
    strip = np.empty((STRIP, samples), z.dtype)
    room = np.empty(STRIP * fan_out, z.dtype)
    packed = columns.reshape(columns.size)
    for first in range(0, fan_in, STRIP):
        size = min(STRIP, fan_in - first)
        for i in range(size):
            for b in range(samples):
                strip[i, b] = z[b, first + i]
        product = as_matrix(room[: size * left], size, left)
        np.dot(strip[:size], as_matrix(packed[: samples * left], samples, left), product)
        blocks.column_extremes(product, low, high)
        kept = 0
        for j in range(left):
            lowest[kept] = min(lowest[j], low[j])
            highest[kept] = max(highest[j], high[j])
            low[kept] = j
            kept += not (lowest[kept] < 0 < highest[kept])
        if kept < left:
            for b in range(samples):
                for j in range(kept):
                    packed[b * kept + j] = packed[b * left + np.int64(low[j])]
            left = kept
        if left == 0:
            break
    dead = round(row[r.WEIGHT_GRADIENT_DEAD_COLUMN] * fan_out)
    alive = fan_out - dead
    row[r.WEIGHT_GRADIENT_ONE_SIGNED_COLUMN] = (left - dead) / alive if alive > 0 else math.nan
