"""What `stabsim.kernels.outer` records of dW = z^T ds of a batch without forming it: its zeros, and where signs agree.

Which samples have a factor that is not zero is a pattern of bits, in words of 64 samples, for each unit. All counts are
sums of integers, whatever the order; the signs of sums that nearly cancel depend on it, as they do on the processor.
"""

from __future__ import annotations

import math
from collections import namedtuple

import numpy as np
from numba import int32

from stabsim.cuda import block, shim
from stabsim.cuda.shim import Array, cuda, device, kernel
from stabsim.kernels import record as r
from stabsim.kernels.outer import WORD

TABLE = 1 << r.TABLE_SAMPLES  # patterns of the most samples that are counted by a table
STRIP = 16  # rows of dW that a thread forms at a time

# Units of a layer: patterns (nets, words, units), and what all units have together (nets, words).
Side = namedtuple("Side", "values bits union")
# dW: its factors (nets, samples, units), the sides' patterns, and the record (nets, layers, columns).
Outer = namedtuple("Outer", "z ds below above below_union above_union record")


@kernel
def _support(side):
    """Write a word of each unit's pattern."""
    net, w = cuda.blockIdx.x, cuda.blockIdx.y
    values, bits = side.values[net], side.bits[net, w]
    samples = min(WORD, values.shape[0] - WORD * w)
    union = np.uint64(0)
    for j in range(cuda.threadIdx.x, bits.size, cuda.blockDim.x):
        word = np.uint64(0)
        for i in range(samples):
            bit = np.uint64(1) << np.uint64(i)
            word |= bit if values[WORD * w + i, j] != 0 else np.uint64(0)
        bits[j] = word
        union |= word
    cuda.atomic.or_(side.union, (net, w), union)


@device
def disjoint_from(union, bits, j):
    """Return whether unit j shares no bit with any of the other side."""
    common = np.uint64(0)
    for w in range(union.size):
        common |= union[w] & bits[w, j]
    return common == 0


@device
def disjoint(bits, union):
    """Return how many units share no bit with any of the other side."""
    count = np.int64(0)
    for j in range(cuda.threadIdx.x, bits.shape[1], cuda.blockDim.x):
        count += 1 if disjoint_from(union, bits, j) else 0
    return block.total(count)


@device
def disjoint_pairs(bits, others):
    """Return how many pairs of units share no bit, looking at all of them: each thread has units of one side."""
    count = np.int64(0)
    for j in range(cuda.threadIdx.x, others.shape[1], cuda.blockDim.x):
        for i in range(bits.shape[1]):
            common = np.uint64(0)
            for w in range(bits.shape[0]):
                common |= bits[w, i] & others[w, j]
            count += 1 if common == 0 else 0
    return block.total(count)


@device
def disjoint_pairs_by_table(bits, others, samples):
    """Return the same by counting the units of each pattern, and those within each pattern: few samples."""
    thread, threads = cuda.threadIdx.x, cuda.blockDim.x
    within = cuda.shared.array(TABLE, int32)
    patterns = 1 << samples
    for pattern in range(thread, patterns, threads):
        within[pattern] = 0
    cuda.syncthreads()
    for j in range(thread, others.shape[1], threads):
        cuda.atomic.add(within, np.int64(others[0, j]), 1)
    cuda.syncthreads()
    for b in range(samples):
        bit = 1 << b
        for pattern in range(thread, patterns, threads):
            if pattern & bit:
                within[pattern] += within[pattern ^ bit]
        cuda.syncthreads()
    count = np.int64(0)
    for i in range(thread, bits.shape[1], threads):
        count += within[patterns - 1 - np.int64(bits[0, i])]
    return block.total(count)


@kernel
def _record_zeros(outer, l):
    net = cuda.blockIdx.x
    below, above = outer.below[net], outer.above[net]
    samples = outer.z.shape[1]
    if samples <= r.TABLE_SAMPLES:
        pairs = disjoint_pairs_by_table(below, above, samples)
    else:
        pairs = disjoint_pairs(below, above)
    rows, columns = disjoint(below, outer.above_union[net]), disjoint(above, outer.below_union[net])
    if cuda.threadIdx.x == 0:
        row = outer.record[net, l]
        row[r.WEIGHT_GRADIENT_ZERO] = pairs / (below.shape[1] * above.shape[1])
        row[r.WEIGHT_GRADIENT_DEAD_ROW] = rows / below.shape[1]
        row[r.WEIGHT_GRADIENT_DEAD_COLUMN] = columns / above.shape[1]


@device
def has_one_sign(z, ds, j):
    """Return whether column j of dW shows no change of sign; it is formed until it does."""
    low, high = ds.dtype.type(0), ds.dtype.type(0)
    sums = cuda.local.array(STRIP, ds.dtype)
    for first in range(0, z.shape[1], STRIP):
        for k in range(STRIP):
            sums[k] = 0
        for b in range(z.shape[0]):
            factor = ds[b, j]
            for k in range(STRIP):
                if first + k < z.shape[1]:
                    sums[k] += z[b, first + k] * factor
        for k in range(STRIP):
            low, high = min(low, sums[k]), max(high, sums[k])
        if low < 0 < high:
            return False
    return True


@kernel
def _record_one_signed_columns(outer, l):
    net = cuda.blockIdx.x
    z, ds, union = outer.z[net], outer.ds[net], outer.below_union[net]
    kept, alive = np.int64(0), np.int64(0)
    for j in range(cuda.threadIdx.x, ds.shape[1], cuda.blockDim.x):
        if not disjoint_from(union, outer.above[net], j):
            alive += 1
            kept += 1 if has_one_sign(z, ds, j) else 0
    all_kept, all_alive = block.total(kept), block.total(alive)
    if cuda.threadIdx.x == 0:
        outer.record[net, l, r.WEIGHT_GRADIENT_ONE_SIGNED_COLUMN] = all_kept / all_alive if all_alive > 0 else math.nan


def _side(values: Array) -> Side:
    nets, samples, units = values.shape
    words = -(-samples // WORD)
    side = Side(values, shim.empty((nets, words, units), np.uint64), shim.zeros((nets, words), np.uint64))
    _support((nets, words), block.threads_for(units), side)
    return side


def record_zeros(z: Array, ds: Array, record: Array, l: int, one_signed: bool) -> None:
    """Write the fractions of zeros of dW, of its all-zero rows and columns and, if wanted, of one-signed columns.

    Parameters
    ----------
    z, ds
        Stacks (nets, samples, fan_in) and (nets, samples, fan_out).
    record
        Of the nets (nets, depth + 1, columns).
    l
        Layer.
    one_signed
        Whether to write the fraction, of the columns that are not all zero, of those without a change of sign.
    """
    below, above = _side(z), _side(ds)
    outer = Outer(z, ds, below.bits, above.bits, below.union, above.union, record)
    threads = block.threads_for(max(z.shape[2], ds.shape[2]))
    shared = block.shared_bytes_of_total(threads)
    _record_zeros(z.shape[0], threads, outer, l, shared=shared)
    if one_signed:
        _record_one_signed_columns(z.shape[0], threads, outer, l, shared=shared)
