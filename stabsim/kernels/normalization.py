"""Normalization of a matrix (batch, width), and its exact backward pass.

Of n = (s - mean) / sqrt(variance + epsilon), the mean and variance being those of count values s, the gradient is
ds = (g - mean g - n mean(g n)) / sqrt(variance + epsilon). In it g less its parts along 1 and n, what is left, has
count - 2 dimensions, and the part along n counts by the share of epsilon, epsilon / (variance + epsilon).
"""

from __future__ import annotations

import math

import numpy as np

from stabsim.kernels import blocks
from stabsim.kernels.compile import CONTRACT, REASSOCIATE, kernel, wide_vectors
from stabsim.kernels.views import stretch

STRIP = 64  # units whose statistics are taken together, a cache line of samples at a time
DOMINANT = 60  # times 2 to this, in the units of s: epsilon is large
NOTHING = 16  # times the precision of the numbers: deviations as far below the values themselves are rounding


@kernel()
def units_of(exponent, epsilon):
    """Return what to normalize ``s * 2**exponent`` with: the units of n (a power of two), of the variance, and epsilon.

    Normalized values are in units of 1, but where epsilon is so large beside s that they would be next to nothing.
    """
    scaled = blocks.times_power(epsilon, -2 * exponent)
    if scaled > 2.0**DOMINANT:
        return exponent, blocks.times_power(1.0, 2 * exponent), epsilon
    return 0, 1.0, scaled


@kernel()
def factors_of(variance, mean, unit, epsilon, itemsize):
    """Return what deviations are multiplied with, 0 where they are rounding, and 1 / sqrt(variance + epsilon)."""
    varies = variance > (NOTHING * blocks.precision(itemsize)) ** 2 * (variance + mean * mean)
    size = math.sqrt((unit * variance if varies else 0.0) + epsilon)
    scale = 1.0 / size if size > 0.0 else 0.0
    return (scale if varies else 0.0), scale


@kernel(fastmath=CONTRACT)
def add_differences(values, others, sums):
    """Add what values are above others."""
    wide_vectors()
    for j in range(sums.size):
        sums[j] += np.float64(values[j]) - np.float64(others[j])


@kernel(fastmath=CONTRACT)
def add_squared_deviations(values, pivots, means, sums):
    """Add the squares of values less pivots and means."""
    wide_vectors()
    for j in range(sums.size):
        deviation = (np.float64(values[j]) - np.float64(pivots[j])) - means[j]
        sums[j] += deviation * deviation


@kernel(fastmath=CONTRACT)
def write_deviations(values, pivots, means, factors, out):
    """Write values less pivots and means, times factors."""
    wide_vectors()
    for j in range(out.size):
        deviation = (np.float64(values[j]) - np.float64(pivots[j])) - means[j]
        out[j] = deviation * factors[j]


@kernel(apart=True)
def normalize_units(s, unit, epsilon, n, scales):
    """Normalize each unit over the samples; write 1 / sqrt(variance + epsilon) into ``scales``.

    Values are taken from the first sample's on, so that equal ones vary by exactly 0.
    """
    rows, columns = s.shape
    means, squares = np.empty(STRIP), np.empty(STRIP)
    for first in range(0, columns, STRIP):
        size = min(STRIP, columns - first)
        mean, square = stretch(means, 0, size), stretch(squares, 0, size)
        pivots = stretch(s[0], first, size)
        for j in range(size):
            mean[j] = square[j] = 0.0
        for i in range(1, rows):
            add_differences(stretch(s[i], first, size), pivots, mean)
        blocks.scale(mean, 1.0 / rows)
        for i in range(rows):
            add_squared_deviations(stretch(s[i], first, size), pivots, mean, square)
        for j in range(size):
            middle = pivots[j] + mean[j]
            square[j], scales[first + j] = factors_of(square[j] / rows, middle, unit, epsilon, s.itemsize)
        for i in range(rows):
            write_deviations(stretch(s[i], first, size), pivots, mean, square, stretch(n[i], first, size))


@kernel(fastmath=CONTRACT)
def write_scaled_deviations(values, mean, factor, out):
    """Write values less their mean, times a factor."""
    wide_vectors()
    for j in range(out.size):
        out[j] = (np.float64(values[j]) - mean) * factor


@kernel(apart=True)
def normalize_samples(s, centered, unit, epsilon, n, scales):
    """Normalize each sample over the units, about its mean or about 0; write what `normalize_units` does."""
    width = s.shape[1]
    for i in range(s.shape[0]):
        mean = 0.0
        if centered:
            pivot = np.float64(s[i, 0])
            mean = pivot + blocks.power_sums_2(s[i], pivot)[0] / width
        variance = blocks.power_sums_2(s[i], mean)[1] / width
        factor, scales[i] = factors_of(variance, mean, unit, epsilon, s.itemsize)
        write_scaled_deviations(s[i], mean, factor, n[i])


@kernel()
def shares_of(product, square, scale, epsilon, free):
    """Return how much of g less its mean, and how much of n, make ds; ``free``: whether dimensions are left."""
    if square == 0.0:
        return scale, 0.0
    kept = 1.0 if free else 0.0
    return kept * scale, (epsilon * scale * scale - kept) * scale * product / square


@kernel(fastmath=CONTRACT)
def add_products(g, n, sums, products, squares):
    """Add g, g n and n^2."""
    wide_vectors()
    for j in range(sums.size):
        x = np.float64(g[j])
        y = np.float64(n[j])
        sums[j] += x
        products[j] += x * y
        squares[j] += y * y


@kernel(fastmath=CONTRACT)
def replace_by_shares(g, n, means, of_g, of_n):
    """Write ds in the place of g."""
    wide_vectors()
    for j in range(g.size):
        g[j] = of_g[j] * (np.float64(g[j]) - means[j]) + of_n[j] * np.float64(n[j])


@kernel(apart=True)
def denormalize_units(g, n, scales, epsilon):
    """Turn g, the gradient by n, into that by s, in place."""
    rows, columns = g.shape
    sums, products, squares = np.empty(STRIP), np.empty(STRIP), np.empty(STRIP)
    for first in range(0, columns, STRIP):
        size = min(STRIP, columns - first)
        mean, product, square = stretch(sums, 0, size), stretch(products, 0, size), stretch(squares, 0, size)
        for j in range(size):
            mean[j] = product[j] = square[j] = 0.0
        for i in range(rows):
            add_products(stretch(g[i], first, size), stretch(n[i], first, size), mean, product, square)
        blocks.scale(mean, 1.0 / rows)
        for j in range(size):
            scale = np.float64(scales[first + j])
            product[j], square[j] = shares_of(product[j], square[j], scale, epsilon, rows > 2)
        for i in range(rows):
            replace_by_shares(stretch(g[i], first, size), stretch(n[i], first, size), mean, product, square)


@kernel(fastmath=REASSOCIATE)
def replace_by_equal_shares(g, n, mean, of_g, of_n):
    """Do what `replace_by_shares` does where the shares are the same everywhere."""
    wide_vectors()
    for j in range(g.size):
        g[j] = of_g * (np.float64(g[j]) - mean) + of_n * np.float64(n[j])


@kernel(apart=True)
def denormalize_samples(g, n, scales, centered, epsilon):
    """Do the same for samples."""
    width = g.shape[1]
    free = width > (2 if centered else 1)
    for i in range(g.shape[0]):
        mean = blocks.power_sums_2(g[i], 0.0)[0] / width if centered else 0.0
        square, product, _ = blocks.inner_products(n[i], g[i])
        of_g, of_n = shares_of(product, square, np.float64(scales[i]), epsilon, free)
        replace_by_equal_shares(g[i], n[i], mean, of_g, of_n)
