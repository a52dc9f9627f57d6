"""Sums over the nets of a record on the device: a block of threads for each layer and group of columns.

What is summed is said in ``kernels/sums.py``, which does the same on the processor. Threads stride over the nets, and
read the record where it lies, once for each pass. Counts, units and bins are integers, so that threads may add them up
in any order; numbers are added up in one that depends on nothing but how many nets there are.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numba import float64, int32, int64

from stabsim.cuda import block, shim
from stabsim.cuda.shim import cuda
from stabsim.kernels.blocks import LOG10_OF_2
from stabsim.kernels.compile import kernel
from stabsim.kernels.precision import power_of_two
from stabsim.kernels.sums import (
    ALL_BELOW,
    BINS_PER_OCTAVE,
    EXPONENT,
    LOWEST_NORMAL,
    NO_COLUMN,
    NOWHERE,
    NUMBERS,
    SQUARE,
    START,
    WINDOW,
    bin_of,
)

MOST = 4  # numbers of a net in a group
PAIRS = MOST * (MOST + 1) // 2  # of two of them: (0, 0), (1, 0), (1, 1), (2, 0), ...
FOUND, LOST, UNIT, COUNTS = range(4)  # what is counted of nets


class Work(NamedTuple):
    """A record (nets, layers, columns), the groups to be summed (groups, 4), and where their sums are written.

    Shapes: counts (COUNTS, groups, layers), the nets whose numbers are all finite, those that are lost, and the largest
    exponent; mean (groups, layers, MOST); products about the means (groups, layers, PAIRS).
    """

    record: Any
    groups: Any
    counts: Any
    mean: Any
    products: Any


class Tails(NamedTuple):
    """A record and its tensors as in `Work`; where the rows of each tensor's layers begin, and how many there are.

    Shapes: first and rows (tensors, layers), table (rows of all, 3).
    """

    record: Any
    groups: Any
    first: Any
    rows: Any
    table: Any


class Norms(NamedTuple):
    """A record, its tensors, log2 of their sizes (tensors, layers) and logarithms of norms (nets, layers, tensors)."""

    record: Any
    groups: Any
    log2_sizes: Any
    out: Any


# Of one net. A processor's functions: the simulator runs them compiled, too.


@kernel()
def unit_of(record, net, layer, column):
    """Return the exponent of a net: 0 where it is NaN, or where there is no column of it."""
    x = record[net, layer, column] if column != NO_COLUMN else 0.0
    return x if x == x else 0.0


@kernel()
def all_finite(record, net, layer, start, numbers):
    """Return whether all numbers of a net are finite."""
    finite = True
    for p in range(numbers):
        finite &= abs(record[net, layer, start + p]) < math.inf
    return finite


@kernel()
def some_not_zero(record, net, layer, start, numbers):
    """Return whether any number of a net is not 0."""
    some = False
    for p in range(numbers):
        some |= record[net, layer, start + p] != 0.0
    return some


@kernel()
def in_unit(x, unit, largest, power):
    """Multiply by ``2**((unit - largest) * power)``, in one rounding; a unit is above the largest only where x is 0."""
    shift = min(unit - largest, 0.0) * power
    if shift < LOWEST_NORMAL:
        return math.ldexp(x, int(max(shift, ALL_BELOW)))
    return x * power_of_two(shift)


@kernel()
def place_of(record, net, layer, square, exponent):
    """Return the bin of a net's mean square: NOWHERE if it is not positive and finite."""
    x = record[net, layer, square]
    place = bin_of(x) + np.int64(2 * BINS_PER_OCTAVE) * np.int64(unit_of(record, net, layer, exponent))
    return place if 0.0 < x < math.inf else np.int64(NOWHERE)


@kernel()
def log10_norm(record, net, layer, square, exponent, log2_size):
    """Return log10 of the norm of a net's tensor: -inf where it is 0, NaN where it was not recorded."""
    log2 = math.log2(record[net, layer, square]) + 2.0 * unit_of(record, net, layer, exponent)
    return 0.5 * LOG10_OF_2 * (log2 + log2_size)


# Of all nets of a layer, by a block of threads.


@shim.device
def look(work, g, layer, seen):
    """Count the nets that are found and lost, and see the largest unit of those found that are not 0."""
    start, numbers = work.groups[g, START], work.groups[g, NUMBERS]
    exponent, square = work.groups[g, EXPONENT], work.groups[g, SQUARE]
    found, lost, largest = int64(0), int64(0), int64(-NOWHERE)
    for net in range(cuda.threadIdx.x, work.record.shape[0], cuda.blockDim.x):
        if square != NO_COLUMN and not all_finite(work.record, net, layer, square, 1):
            lost += int64(1)
        if all_finite(work.record, net, layer, start, numbers):
            found += int64(1)
            if some_not_zero(work.record, net, layer, start, numbers):
                largest = max(largest, int64(unit_of(work.record, net, layer, exponent)))
    cuda.atomic.add(seen, FOUND, found)
    cuda.atomic.add(seen, LOST, lost)
    cuda.atomic.max(seen, UNIT, largest)


@shim.device
def add_numbers(work, g, layer, largest, sums):
    """Add a thread's nets to ``sums``."""
    start, numbers, exponent = work.groups[g, START], work.groups[g, NUMBERS], work.groups[g, EXPONENT]
    for net in range(cuda.threadIdx.x, work.record.shape[0], cuda.blockDim.x):
        if all_finite(work.record, net, layer, start, numbers):
            unit = unit_of(work.record, net, layer, exponent)
            for p in range(MOST):
                if p < numbers:
                    sums[p] += in_unit(work.record[net, layer, start + p], unit, largest, float64(p + 1))


@shim.device
def add_products(work, g, layer, largest, mean, sums):
    """Add to ``sums`` the products of the numbers of a thread's nets about their means."""
    start, numbers, exponent = work.groups[g, START], work.groups[g, NUMBERS], work.groups[g, EXPONENT]
    apart = cuda.local.array(MOST, float64)
    for net in range(cuda.threadIdx.x, work.record.shape[0], cuda.blockDim.x):
        if all_finite(work.record, net, layer, start, numbers):
            unit = unit_of(work.record, net, layer, exponent)
            for p in range(MOST):
                apart[p] = 0.0
                if p < numbers:
                    apart[p] = in_unit(work.record[net, layer, start + p], unit, largest, float64(p + 1)) - mean[p]
            for p in range(MOST):
                for q in range(p + 1):
                    sums[p * (p + 1) // 2 + q] += apart[p] * apart[q]


@shim.device
def sum_found(work, g, layer, found, largest):
    """Write the means of numbers in the largest unit, and the sums of their products about them."""
    mean = cuda.shared.array(MOST, float64)
    sums, products = cuda.local.array(MOST, float64), cuda.local.array(PAIRS, float64)
    for p in range(MOST):
        sums[p] = mean[p] = 0.0
    add_numbers(work, g, layer, largest, sums)
    block.add_up(sums, 0, MOST, mean)
    for p in range(MOST):
        sums[p] = mean[p] / max(found, 1)
        if cuda.threadIdx.x == 0:
            work.mean[g, layer, p] = sums[p]
    for k in range(PAIRS):
        products[k] = 0.0
    add_products(work, g, layer, largest, sums, products)
    block.add_up(products, 0, PAIRS, work.products[g, layer])


@shim.kernel
def sum_nets(work):
    """Sum a group at a layer: blocks are (layers, groups), groups side by side, since they read the same rows."""
    g, layer = cuda.blockIdx.x % work.groups.shape[0], cuda.blockIdx.x // work.groups.shape[0]
    seen = cuda.shared.array(COUNTS, int64)
    if cuda.threadIdx.x == 0:
        seen[FOUND] = seen[LOST] = 0
        seen[UNIT] = -NOWHERE
    cuda.syncthreads()
    look(work, g, layer, seen)
    cuda.syncthreads()
    unit = seen[UNIT] if seen[UNIT] > -NOWHERE else int64(0)
    if cuda.threadIdx.x == 0:
        work.counts[LOST, g, layer] = seen[LOST]
    if work.groups[g, NUMBERS] > 0:
        if cuda.threadIdx.x == 0:
            work.counts[FOUND, g, layer], work.counts[UNIT, g, layer] = seen[FOUND], unit
        sum_found(work, g, layer, seen[FOUND], float64(unit))


@shim.device
def count_window(tails, g, layer, first, counts, following):
    """Count the nets in each bin from ``first`` on, and see the least bin behind them."""
    least = int64(NOWHERE)
    for net in range(cuda.threadIdx.x, tails.record.shape[0], cuda.blockDim.x):
        place = place_of(tails.record, net, layer, tails.groups[g, SQUARE], tails.groups[g, EXPONENT])
        if first <= place < first + WINDOW:
            cuda.atomic.add(counts, place - first, int32(1))
        elif place >= first:
            least = min(least, place)
    cuda.atomic.min(following, 0, least)


@shim.kernel
def count_tails(tails, written):
    """Count the bins of a tensor's layer that hold nets, from the least on; write them once their place is known."""
    g, layer = cuda.blockIdx.x % tails.groups.shape[0], cuda.blockIdx.x // tails.groups.shape[0]
    counts = cuda.shared.array(WINDOW, int32)
    following = cuda.shared.array(1, int64)
    first, row = int64(-NOWHERE), int64(0)
    while first < NOWHERE:
        for place in range(cuda.threadIdx.x, WINDOW, cuda.blockDim.x):
            counts[place] = 0
        if cuda.threadIdx.x == 0:
            following[0] = NOWHERE
        cuda.syncthreads()
        count_window(tails, g, layer, first, counts, following)
        cuda.syncthreads()
        if cuda.threadIdx.x == 0:
            for place in range(WINDOW):
                if counts[place] > 0:
                    if written:
                        at = tails.first[g, layer] + row
                        tails.table[at, 0] = layer
                        tails.table[at, 1] = first + place
                        tails.table[at, 2] = counts[place]
                    row += 1
        first = following[0]
        cuda.syncthreads()
    if cuda.threadIdx.x == 0:
        tails.rows[g, layer] = row


@shim.kernel
def write_norms(norms):
    """Write log10 of the norms of all tensors of a layer."""
    layer = cuda.blockIdx.x
    for net in range(cuda.threadIdx.x, norms.record.shape[0], cuda.blockDim.x):
        for g in range(norms.groups.shape[0]):
            square, exponent = norms.groups[g, SQUARE], norms.groups[g, EXPONENT]
            norms.out[net, layer, g] = log10_norm(
                norms.record, net, layer, square, exponent, norms.log2_sizes[g, layer]
            )
