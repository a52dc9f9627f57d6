"""Loops over one block of numbers of one net: the parts of which the samplers are built.

Values come in the type of the simulation; sums are float64. The loops are plain so that LLVM turns them into
vector code; none of them allocates.
"""

from __future__ import annotations

import math

import numpy as np

from stabsim.kernels.compile import CONTRACT, REASSOCIATE, atom, kernel, wide_vectors
from stabsim.kernels.record import (
    EXPONENT,
    M1,
    M2,
    M3,
    M4,
    SQUARE,
)
from stabsim.kernels.views import flat

LOG10_OF_2 = math.log10(2.0)


@kernel()
def precision(itemsize):
    """Return the distance from 1 to the next number of a type of so many bytes."""
    return 2.0**-23 if itemsize == 4 else 2.0**-52


@kernel()
def times_power(value, exponent):
    """Return ``value * 2**exponent``; the exponent is mostly 0, and the C library's function is slow."""
    return value if exponent == 0 else math.ldexp(value, exponent)


@kernel()
def add_exactly(total, rest, x):
    """Return total + rest + x as two numbers, of which the second holds what rounding left of the first (Knuth).

    A kernel for its flags: with a caller's ``reassoc`` the rest would be 0.
    """
    both = total + x
    added = both - total
    return both, rest + ((total - (both - added)) + (x - added))


@kernel()
def unit_of(exponent):
    """Return 1 in units of ``2**exponent``, between 2^-120 (which float32 holds) and 2^1000.

    A term that far below the values it is added to is lost in rounding, but does not become 0.
    """
    return times_power(1.0, min(max(-exponent, -120), 1000))


@atom
def one_if(condition):
    """Return 1 or 0, in 32 bits: sums of those must be cast back to that, or Numba makes 64 of them.

    So values are to be counted in stretches of fewer than 2^31: twice as fast as in 64 bits.
    """
    return np.int32(1) if condition else np.int32(0)


@kernel(fastmath=REASSOCIATE)
def power_sums_2(values, pivot):
    """Return the sums of x and x^2, x = value - pivot, and the number of values that are exactly 0."""
    wide_vectors()
    s1 = 0.0
    s2 = 0.0
    zeros = np.int32(0)
    for i in range(values.size):
        x = np.float64(values[i]) - pivot
        s1 += x
        s2 += x * x
        zeros = np.int32(zeros + one_if(values[i] == 0))
    return s1, s2, zeros


@kernel(fastmath=REASSOCIATE)
def power_sums_3_4(values, pivot):
    """Return the sums of x^3 and x^4, x = value - pivot; apart, lest the first two depend on these being wanted."""
    wide_vectors()
    s3 = 0.0
    s4 = 0.0
    for i in range(values.size):
        x = np.float64(values[i]) - pivot
        y = x * x
        s3 += x * y
        s4 += y * y
    return s3, s4


@kernel()
def add_powers(row, tensor, wanted, values, pivot):
    """Add power sums to a tensor's columns; return the sum of squares (not about the pivot) and the number of zeros."""
    s1, s2, zeros = power_sums_2(values, pivot)
    squares = s2 if pivot == 0.0 else power_sums_2(values, 0.0)[1]
    add_known_powers(row, tensor, wanted, values, pivot, s1, s2, squares)
    return squares, zeros


@kernel()
def add_known_powers(row, tensor, wanted, values, pivot, s1, s2, squares):
    """Add power sums of which the first two are known; columns that are not wanted stay NaN."""
    row[tensor + M1] += s1
    row[tensor + M2] += s2
    row[tensor + SQUARE] += squares
    if wanted[tensor + M4]:
        s3, s4 = power_sums_3_4(values, pivot)
        row[tensor + M3] += s3
        row[tensor + M4] += s4


@kernel()
def finish_powers(row, tensor, size, exponent):
    """Turn a tensor's power sums into means, and note their unit."""
    share = 1.0 / size
    for column in range(tensor, tensor + EXPONENT):
        row[column] *= share
    row[tensor + EXPONENT] = exponent


@kernel(fastmath=REASSOCIATE)
def count_zeros(values):
    """Return how many values are exactly 0."""
    wide_vectors()
    count = np.int32(0)
    for i in range(values.size):
        count = np.int32(count + one_if(values[i] == 0))
    return count


@kernel(fastmath=REASSOCIATE)
def count_small(values, bound):
    """Return how many values are below ``bound`` in size."""
    wide_vectors()
    limit = values.dtype.type(bound)
    count = np.int32(0)
    for i in range(values.size):
        count = np.int32(count + one_if(abs(values[i]) < limit))
    return count


@kernel(fastmath=REASSOCIATE)
def count_saturated(preactivation, activation, lower, upper, bound):
    """Return how many activations are within ``bound`` of the limit of f (NaN: none) on their side of 0; 0 is low."""
    wide_vectors()
    real = activation.dtype.type
    low = real(lower)
    high = real(upper)
    limit = real(bound)
    count = np.int32(0)
    for i in range(activation.size):
        distance = activation[i] - (high if preactivation[i] > 0 else low)
        count = np.int32(count + one_if(abs(distance) < limit))
    return count


@kernel(fastmath=REASSOCIATE)
def count_signs(values):
    """Return how many values are below 0, and how many above.

    Instead of the least and the greatest: of those LLVM makes no vector code (128 float32: 230 ns).
    """
    wide_vectors()
    negative = np.int32(0)
    positive = np.int32(0)
    for i in range(values.size):
        negative = np.int32(negative + one_if(values[i] < 0))
        positive = np.int32(positive + one_if(values[i] > 0))
    return negative, positive


@kernel()
def totals(values):
    """Return the sum, the sum of squares, and how many values are 0, below 0 and above 0."""
    s1, s2, zeros = power_sums_2(values, 0.0)
    negative, positive = count_signs(values)
    return s1, s2, np.float64(zeros), np.float64(negative), np.float64(positive)


@kernel()
def no_totals():
    """Return the totals of no values."""
    return 0.0, 0.0, 0.0, 0.0, 0.0


@kernel()
def add_totals(a, b):
    """Return the totals of two blocks together."""
    return a[0] + b[0], a[1] + b[1], a[2] + b[2], a[3] + b[3], a[4] + b[4]


@kernel()
def all_zero(values):
    """Return whether nothing but 0 is there: mostly, the first number says no."""
    i = 0
    while i < values.size and values[i] == 0:
        i += 1
    return i == values.size


@kernel()
def dead_rows(matrix):
    """Return how many rows are all 0; each is left at its first other value."""
    rows, columns = matrix.shape
    dead = 0
    for i in range(rows):
        j = 0
        while j < columns and matrix[i, j] == 0:
            j += 1
        dead += j == columns
    return dead


@kernel()
def dead_columns(matrix):
    """Return how many columns are all 0: row after row is looked at until none is left."""
    sizes = np.zeros(matrix.shape[1], matrix.dtype)
    dead = sizes.size
    for i in range(matrix.shape[0]):
        add_sizes(matrix[i], sizes)
        dead = count_zeros(sizes)
        if dead == 0:
            break
    return dead


@kernel(fastmath=REASSOCIATE)
def add_sizes(values, sizes):
    """Add what values are in size."""
    wide_vectors()
    for i in range(values.size):
        sizes[i] += abs(values[i])


@kernel()
def finish_zeros(row, zero, wanted, matrix):
    """Turn a count of zeros into a fraction, and write those of all-zero rows and columns behind it."""
    zeros = row[zero]
    row[zero] = zeros / matrix.size
    if wanted[zero + 1]:
        row[zero + 1] = dead_rows(matrix) / matrix.shape[0] if zeros > 0 else 0.0
    if wanted[zero + 2]:
        row[zero + 2] = dead_columns(matrix) / matrix.shape[1] if zeros > 0 else 0.0


@kernel()
def finish_zeros_of_sample(row, zero, size):
    """Do the same for a single row, of which only the count is known."""
    row[zero] /= size
    row[zero + 1] = 1.0 if row[zero] == 1.0 else 0.0
    row[zero + 2] = row[zero]


@kernel(fastmath=REASSOCIATE)
def inner_products(x, y):
    """Return x.x, x.y and y.y."""
    wide_vectors()
    xx = 0.0
    xy = 0.0
    yy = 0.0
    for i in range(x.size):
        a = np.float64(x[i])
        b = np.float64(y[i])
        xx += a * a
        xy += a * b
        yy += b * b
    return xx, xy, yy


@kernel(fastmath=REASSOCIATE)
def dot(x, y):
    """Return x.y."""
    wide_vectors()
    xy = 0.0
    for i in range(x.size):
        xy += np.float64(x[i]) * np.float64(y[i])
    return xy


@kernel()
def mean_correlation(matrix):
    """Return the mean cosine between samples 1 and 2, 3 and 4, ...; without those that are 0 (NaN: all are)."""
    total = 0.0
    pairs = 0
    for i in range(0, matrix.shape[0] - 1, 2):
        xx, xy, yy = inner_products(matrix[i], matrix[i + 1])
        if xx > 0 and yy > 0:
            total += xy / (math.sqrt(xx) * math.sqrt(yy))
            pairs += 1
    return total / pairs if pairs > 0 else math.nan


@kernel()
def add_rows(matrix, vector, scale):
    """Add ``scale * vector`` to every row."""
    rows, columns = matrix.shape
    for i in range(rows):
        for j in range(columns):
            matrix[i, j] += scale * vector[j]


@kernel(fastmath=CONTRACT)
def combine(a, x, b, y, out):
    """Write a x + b y."""
    wide_vectors()
    p = out.dtype.type(a)
    q = out.dtype.type(b)
    for i in range(out.size):
        out[i] = p * x[i] + q * y[i]


@kernel(fastmath=CONTRACT)
def blend(a, x, b, y):
    """Write a x + b y in the place of x."""
    wide_vectors()
    p = x.dtype.type(a)
    q = x.dtype.type(b)
    for i in range(x.size):
        x[i] = p * x[i] + q * y[i]


@kernel()
def copy(values, out):
    """Copy values (an assignment of slices takes ten times as long to compile)."""
    for i in range(values.size):
        out[i] = values[i]


@kernel()
def fill(values, value):
    """Write one value everywhere."""
    for i in range(values.size):
        values[i] = value


@kernel()
def shift(values, by):
    """Add in place."""
    for i in range(values.size):
        values[i] += by


@kernel()
def scale(values, factor):
    """Multiply in place."""
    wide_vectors()
    by = values.dtype.type(factor)
    for i in range(values.size):
        values[i] *= by


@kernel(fastmath=CONTRACT)
def product(x, y, out):
    """Write x y, element by element; `multiply` sums up as well."""
    wide_vectors()
    for i in range(out.size):
        out[i] = x[i] * y[i]


@kernel()
def multiply_in_place(values, factors):
    """Multiply element by element."""
    for i in range(values.size):
        values[i] *= factors[i]


@kernel(fastmath=REASSOCIATE)
def multiply(values, factors, out):
    """Write the products element by element; return what `power_sums_2` does of the values, and of the products.

    In one pass: 59 ns for 512 float32, and 74 with a pass for each.
    """
    wide_vectors()
    value_sum = 0.0
    value_squares = 0.0
    value_zeros = np.int32(0)
    product_sum = 0.0
    product_squares = 0.0
    product_zeros = np.int32(0)
    for i in range(values.size):
        value = values[i]
        product = value * factors[i]
        out[i] = product
        x = np.float64(value)
        y = np.float64(product)
        value_sum += x
        value_squares += x * x
        value_zeros = np.int32(value_zeros + one_if(value == 0))
        product_sum += y
        product_squares += y * y
        product_zeros = np.int32(product_zeros + one_if(product == 0))
    return (value_sum, value_squares, value_zeros), (product_sum, product_squares, product_zeros)


@kernel(fastmath=REASSOCIATE)
def squares_where_zero(values, factors):
    """Return the sum of squares of the values whose factor is exactly 0."""
    wide_vectors()
    total = 0.0
    for i in range(values.size):
        x = np.float64(values[i])
        total += x * x if factors[i] == 0 else 0.0
    return total


@kernel()
def scale_by_power_of_two(values, exponent):
    """Multiply by ``2**exponent`` in place; exact but for results below the smallest normal number."""
    while exponent != 0:
        step = min(max(exponent, -60), 60)
        factor = values.dtype.type(math.ldexp(1.0, step))
        for i in range(values.size):
            values[i] *= factor
        exponent -= step


@kernel()
def piecewise_linear(s, z, d, lines, at_zero, exponent):
    """Write z and d of slope * s + offset / 2**exponent, (slope, offset) being ``lines`` below and above 0.

    At 0 itself they are ``at_zero``. Level sides count only through their offset: their s may be as large as it likes.
    """
    real = z.dtype.type
    unit = unit_of(exponent)
    slope_below, offset_below = real(lines[0, 0]), real(lines[0, 1] * unit)
    slope_above, offset_above = real(lines[1, 0]), real(lines[1, 1] * unit)
    slope_zero, offset_zero = real(at_zero[0]), real(at_zero[1] * unit)
    for i in range(s.size):
        x = s[i]
        slope = slope_below if x < 0 else (slope_above if x > 0 else slope_zero)
        offset = offset_below if x < 0 else (offset_above if x > 0 else offset_zero)
        z[i] = slope * x + offset
        d[i] = slope


@kernel(apart=True)
def add_to_histogram(counts, matrix, exponent, bins):
    """Count ``matrix * 2**exponent`` into equal bins, ``bins`` being (least value, bins a unit).

    The first counter is for what lies below (and NaN), the last for what lies above; no counters or bins, no work.
    """
    if counts.size == 0 or bins[1] == 0.0:
        return
    last = counts.size - 2
    low, per_unit = bins
    values = flat(matrix)
    factor = math.ldexp(1.0, exponent) * per_unit
    shift = low * per_unit
    for i in range(values.size):
        position = (values[i] * factor if values[i] != 0 else 0.0) - shift  # the factor may be infinite
        if position > last:
            counts[last + 1] += 1
        elif position >= 0.0:
            counts[min(1 + int(position), last)] += 1
        else:
            counts[0] += 1


@kernel(fastmath=REASSOCIATE)
def column_extremes(matrix, lowest, highest):
    """Write the least and the greatest value of each column."""
    wide_vectors()
    rows, columns = matrix.shape
    for j in range(columns):
        lowest[j] = matrix[0, j]
        highest[j] = matrix[0, j]
    for i in range(1, rows):
        for j in range(columns):
            value = matrix[i, j]
            lowest[j] = value if value < lowest[j] else lowest[j]
            highest[j] = value if value > highest[j] else highest[j]


@kernel()
def column_signs(lowest, highest):
    """Return the fraction of columns that are all 0 and, of the others, that of columns with no change of sign."""
    columns = lowest.size
    dead = 0
    one_signed = 0
    for j in range(columns):
        if lowest[j] == 0 and highest[j] == 0:
            dead += 1
        elif lowest[j] >= 0 or highest[j] <= 0:
            one_signed += 1
    return dead / columns, one_signed / (columns - dead) if dead < columns else math.nan
