"""Sums over the nets of a record, layer by layer, reading its columns in place.

A layer's columns are copied side by side one after the other, so that each row of the record comes from memory once
and the sums run over what is in the nearest cache.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from numba import float64, int64, types, void

from stabsim.kernels.compile import REASSOCIATE, atom, kernel, wide_vectors
from stabsim.kernels.precision import power_of_two

SQUARINGS = 4
BINS_PER_OCTAVE = 1 << SQUARINGS  # of log2 of mean squares
WINDOW = 256  # bins that are counted at a time
NOWHERE = 2**62  # above every bin

SMALLEST_NORMAL = 2.0**-1022
LOWEST_NORMAL = -1022.0  # its exponent
ALL_BELOW = -5000.0  # exponent of a power of two that makes a 0 of every number
MANTISSA_BITS = 52
EXPONENT_BIAS = 1023
TO_NORMAL = 64  # octaves by which smaller numbers are raised

# What is summed of a record, a row each: the first of the columns that are summed, how many (0: the nets that are lost
# are counted only), and the columns of their exponent and of their mean square (NO_COLUMN: they have none). Those with
# a mean square, the tensors, come first.
START, NUMBERS, EXPONENT, SQUARE = range(4)
NO_COLUMN = -1


@atom
def octave(x):
    """Return the floor of log2 of a normal positive number."""
    return (np.float64(x).view(np.int64) >> np.int64(MANTISSA_BITS)) - np.int64(EXPONENT_BIAS)


@atom
def bin_of(x):
    """Return the floor of ``BINS_PER_OCTAVE`` log2 x: with x = 2^n m, 1 <= m < 2, it ends in the octave of m^16."""
    below = x < SMALLEST_NORMAL
    y = x * 2.0**TO_NORMAL if below else x
    whole = octave(y)
    power = np.int64(np.float64(y).view(np.int64) - (whole << np.int64(MANTISSA_BITS))).view(np.float64)
    for _ in range(SQUARINGS):
        power *= power
    whole -= np.int64(TO_NORMAL) if below else np.int64(0)
    return whole * np.int64(BINS_PER_OCTAVE) + octave(power)


# The numbers of a layer lie side by side in ``kept`` (numbers, nets), of which the first ``found`` nets count. Kernels
# take it with indices, since each view of an array takes a tenth of a second to compile.


@kernel()
def copy_column(record, layer, column, kept, p):
    """Copy a column of every net to row p; return how many are finite."""
    finite = np.int64(0)
    for net in range(record.shape[0]):
        x = record[net, layer, column]
        kept[p, net] = x
        finite += np.int64(1) if abs(x) < math.inf else np.int64(0)
    return finite


@kernel()
def copy_exponents(record, layer, column, units):
    """Copy the exponent of every net, NaN as 0; return whether any is not 0."""
    some = False
    for net in range(record.shape[0]):
        x = record[net, layer, column]
        units[net] = x if x == x else 0.0
        some |= units[net] != 0.0
    return some


@kernel()
def drop_not_finite(kept, numbers, units):
    """Move the nets all of whose numbers are finite to the front; return how many there are."""
    found = np.int64(0)
    for net in range(units.size):
        finite = True
        for p in range(numbers):
            finite &= abs(kept[p, net]) < math.inf
            kept[p, found] = kept[p, net]
        units[found] = units[net]
        found += np.int64(1) if finite else np.int64(0)
    return found


@kernel()
def largest_unit(kept, p, found, units, largest):
    """Return the largest of a unit and those of the numbers in row p that are not 0."""
    wide_vectors()
    for i in range(found):
        unit = units[i] if kept[p, i] != 0.0 else largest
        largest = unit if unit > largest else largest
    return largest


@kernel()
def rescale(kept, p, found, units, largest):
    """Multiply number p + 1 by ``2**((unit - largest) * (p + 1))``; units are above the largest only where it is 0."""
    wide_vectors()
    power = np.float64(p + 1)
    lowest = 0.0
    for i in range(found):
        lowest = min(lowest, (units[i] - largest) * power)
    if lowest < LOWEST_NORMAL:
        for i in range(found):
            shift = max(min(units[i] - largest, 0.0) * power, ALL_BELOW)
            kept[p, i] = math.ldexp(kept[p, i], int(shift))
    else:
        for i in range(found):
            kept[p, i] *= power_of_two(min(units[i] - largest, 0.0) * power)


@kernel(fastmath=REASSOCIATE)
def center(kept, p, found):
    """Subtract the mean of row p and return it."""
    wide_vectors()
    total = 0.0
    for i in range(found):
        total += kept[p, i]
    mean = total / max(found, 1)
    for i in range(found):
        kept[p, i] -= mean
    return mean


@kernel(fastmath=REASSOCIATE)
def product(kept, p, q, found):
    """Return the inner product of rows p and q."""
    wide_vectors()
    total = 0.0
    for i in range(found):
        total += kept[p, i] * kept[q, i]
    return total


@kernel()
def to_bins(kept, units, bins):
    """Write the bin of each number of the first row, times ``4**unit``: NOWHERE if it is not positive and finite."""
    wide_vectors()
    for net in range(bins.size):
        x = kept[0, net]
        place = bin_of(x) + np.int64(2 * BINS_PER_OCTAVE) * np.int64(units[net])
        bins[net] = place if 0.0 < x < math.inf else np.int64(NOWHERE)


@kernel()
def least_from(bins, first):
    """Return the least bin of those from ``first`` on."""
    wide_vectors()
    least = np.int64(NOWHERE)
    for net in range(bins.size):
        place = bins[net] if bins[net] >= first else np.int64(NOWHERE)
        least = place if place < least else least
    return least


@kernel()
def count_bins(bins, first, counts):
    """Count the bins from ``first`` on, as many as there are counts."""
    for net in range(bins.size):
        place = bins[net] - first
        if 0 <= place < counts.size:
            counts[place] += 1


def _sum_record(record, groups, count, mean, comoment, exponent, lost, tails, rows):
    nets, layers, _ = record.shape
    kept = np.empty((mean.shape[2], nets))
    units = np.zeros(nets)
    bins = np.empty(nets, np.int64)
    counts = np.zeros(WINDOW, np.int64)
    row_0 = np.int64(0)
    for layer in range(layers):
        for g in range(groups.shape[0]):
            start, numbers = groups[g, START], groups[g, NUMBERS]
            scaled = groups[g, EXPONENT] != NO_COLUMN and copy_exponents(record, layer, groups[g, EXPONENT], units)
            if groups[g, SQUARE] != NO_COLUMN:
                lost[g, layer] = nets - copy_column(record, layer, groups[g, SQUARE], kept, row_0)
            if numbers == 0:
                continue

            first = np.int64(NOWHERE)
            if groups[g, SQUARE] != NO_COLUMN:
                to_bins(kept, units, bins)
                first = least_from(bins, -first)
            while first < NOWHERE:
                count_bins(bins, first, counts)
                for place in range(WINDOW):
                    if counts[place] > 0:
                        row = rows[g]
                        tails[g, row, 0] = layer
                        tails[g, row, 1] = first + place
                        tails[g, row, 2] = counts[place]
                        rows[g] = row + 1
                        counts[place] = 0
                first = least_from(bins, first + np.int64(WINDOW))

            found = nets
            for p in range(numbers):
                found = min(found, copy_column(record, layer, start + p, kept, p))
            if found < nets:
                found = drop_not_finite(kept, numbers, units)
            largest = -math.inf
            if scaled:
                for p in range(numbers):
                    largest = largest_unit(kept, p, found, units, largest)
            if largest > -math.inf:
                exponent[g, layer] = np.int64(largest)
                for p in range(numbers):
                    rescale(kept, p, found, units, largest)
            for p in range(numbers):
                mean[g, layer, p] = center(kept, p, found)
                for q in range(p + 1):
                    comoment[g, layer, p, q] = product(kept, p, q, found)
                    comoment[g, layer, q, p] = comoment[g, layer, p, q]
            count[g, layer] = found


def _log2_mean_squares(squares, exponents, out):
    nets, layers = squares.shape
    for net in range(nets):
        for layer in range(layers):
            x = exponents[net, layer]
            out[net, layer] = math.log2(squares[net, layer]) + 2.0 * (x if x == x else 0.0)


@functools.cache
def sum_record() -> Any:
    """Return the compiled sums of a record."""
    return kernel(
        void(
            types.Array(float64, 3, "A", readonly=True),  # record (nets, layers, columns)
            int64[:, ::1],  # groups (groups, 4): START, NUMBERS, EXPONENT, SQUARE
            int64[:, ::1],  # out: nets whose numbers are all finite, (groups, layers)
            float64[:, :, ::1],  # out: their means (groups, layers, numbers), number p in units of 2**(exponent * p)
            float64[:, :, :, ::1],  # out: sums of products about the means (groups, layers, numbers, numbers)
            int64[:, ::1],  # out: exponent, the largest of the nets that are not 0 (groups, layers)
            int64[:, ::1],  # out: nets whose mean square is not finite (groups, layers)
            int64[:, :, ::1],  # out: tails (tensors, nets * layers, 3): layer, bin of log2 mean square, nets
            int64[::1],  # out: rows of them that are used (tensors,)
        ),
        cache="sums",
    )(_sum_record)


@functools.cache
def log2_mean_squares() -> Any:
    """Return the compiled log2 of squares (nets, layers) in units of 4**exponents."""
    matrix = types.Array(float64, 2, "A", readonly=True)
    return kernel(void(matrix, matrix, float64[:, ::1]), cache="sums")(_log2_mean_squares)
