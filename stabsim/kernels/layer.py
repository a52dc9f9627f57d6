"""What happens to one layer of one net once its products are known, and what is recorded of it.

Buffers hold ``value / 2**exponent``; see ``record`` for the columns.
"""

from __future__ import annotations

import math

import numpy as np

from stabsim.kernels import blocks
from stabsim.kernels import record as r
from stabsim.kernels.compile import kernel
from stabsim.kernels.views import flat, stretch

# Numbers that are worked on together, so that they stay in the first-level cache from one statistic to the next.
TILE = 2048

ALL = 1.0 - 2.0**-40  # a share above this is 1 but for rounding

# The activation's shape: (slope, offset) below and above 0, close to 0 and far from it, NaN where it is not so; and
# (slope, offset) at 0 itself, twice.
NEAR, FAR, AT_ZERO = range(3)

# How f is evaluated: as it is, after multiplying s by its power of two, or as the straight lines of its shape,
# which are level where f is bounded on every side that there is.
CURVE, CURVE_OF_SCALED, LINE_NEAR, LINE_FAR, LEVEL_FAR = range(5)

# Mean squares outside 2^-RESCALE .. 2^RESCALE are brought back to about 1.
RESCALE = 40


@kernel()
def far_from_one(mean_square):
    """Return the power of two by which values of that mean square are to be divided: 0 unless it is far from 1."""
    if not 0.0 < mean_square < math.inf:
        return 0
    exponent = math.frexp(mean_square)[1]
    return exponent // 2 if abs(exponent) > RESCALE else 0


@kernel()
def normalize(values, mean_square):
    """Divide values whose mean square is far from 1 by a power of two that brings it there; return the power."""
    exponent = far_from_one(mean_square)
    blocks.scale_by_power_of_two(flat(values), -exponent)
    return exponent


@kernel()
def add_bias(s, b, exponent):
    """Add the bias to every sample of ``s * 2**exponent``, which becomes ``s * 2**max(exponent, 0)``."""
    if exponent < 0:
        blocks.scale_by_power_of_two(flat(s), exponent)
        exponent = 0
    blocks.add_rows(s, b, s.dtype.type(blocks.unit_of(exponent)))


@kernel()
def choose_regime(s, shape, exponent):
    """Return how f is evaluated on ``s * 2**exponent``, the exponent being other than 0."""
    seen = blocks.totals(flat(s))
    return regime_of(seen[1] / s.size, seen[3], seen[4], s.itemsize, shape, exponent)


@kernel()
def regime_of(mean_square, negative, positive, itemsize, shape, exponent):
    """Return the same from the mean square of s, and how many of it are below 0 and above."""
    if mean_square == 0.0:
        return CURVE_OF_SCALED
    level = exponent + math.frexp(mean_square)[1] // 2
    # Beyond these sizes (powers of 2) f is a straight line to within rounding.
    small, large = (-40, 30) if itemsize == 4 else (-60, 60)
    if level > large and not math.isnan(shape[FAR, 0, 0]):
        below_is_level = shape[FAR, 0, 0] == 0.0 or negative == 0
        above_is_level = shape[FAR, 1, 0] == 0.0 or positive == 0
        return LEVEL_FAR if below_is_level and above_is_level else LINE_FAR
    if level < small and not math.isnan(shape[NEAR, 0, 0]):
        return LINE_NEAR
    return CURVE_OF_SCALED


@kernel()
def evaluate(regime, activation, shape, s, z, d, exponent):
    """Write f and f' of ``s * 2**exponent``."""
    if regime == LINE_FAR:
        blocks.piecewise_linear(s, z, d, shape[FAR], shape[AT_ZERO, 0], exponent)
    elif regime == LEVEL_FAR:
        blocks.piecewise_linear(s, z, d, shape[FAR], shape[AT_ZERO, 0], np.int64(0))
    elif regime == LINE_NEAR:
        blocks.piecewise_linear(s, z, d, shape[NEAR], shape[AT_ZERO, 0], exponent)
    else:
        if regime == CURVE_OF_SCALED:
            blocks.copy(s, z)
            blocks.scale_by_power_of_two(z, exponent)
            activation(z, z, d)
        else:
            activation(s, z, d)


@kernel()
def exponent_after(regime, exponent):
    """Return the exponent of f, given that of s."""
    return np.int64(0) if regime in (CURVE_OF_SCALED, LEVEL_FAR) else exponent


@kernel()
def record_input(row, wanted, z, pivot, exponent):
    """Write what is wanted of the input."""
    add_input(row, wanted, flat(z), pivot, exponent)
    _finish_z(row, wanted, z, exponent)


@kernel()
def add_input(row, wanted, z, pivot, exponent):
    """Add what is wanted of some values of the input; return the sum of their squares."""
    squares, zeros = add_powers(row, r.ACTIVATION, wanted, z, blocks.times_power(pivot, -exponent))
    row[r.ACTIVATION_ZERO] += zeros
    return squares


@kernel()
def add_powers(row, tensor, wanted, values, pivot):
    """Do what `blocks.add_powers` does of a tile with all tiles of as many values as there may be."""
    squares, zeros = 0.0, 0
    for first in range(0, values.size, TILE):
        tile = stretch(values, first, min(TILE, values.size - first))
        tile_squares, tile_zeros = blocks.add_powers(row, tensor, wanted, tile, pivot)
        squares += tile_squares
        zeros += tile_zeros
    return squares, zeros


@kernel()
def activate(row, wanted, regime, activation, shape, bound, pivot, s, z, d, exponent, z_exponent):
    """Write z = f(s) and d = f'(s) of some samples, add what is wanted of all three; return the sum of squares of z.

    ``s`` is in units of ``2**exponent``, ``z`` is to be in units of ``2**z_exponent``.

    All is done tile by tile, while a tile is in the first-level cache.
    """
    size = s.size
    flat_s, flat_z, flat_d = flat(s), flat(z), flat(d)
    unit = blocks.unit_of(z_exponent)
    squares = 0.0
    for first in range(0, size, TILE):
        length = min(TILE, size - first)
        tile_s, tile_z = stretch(flat_s, first, length), stretch(flat_z, first, length)
        tile_d = stretch(flat_d, first, length)
        if wanted[r.PREACTIVATION + r.M2]:
            blocks.add_powers(row, r.PREACTIVATION, wanted, tile_s, 0.0)
        apply(row, wanted, regime, activation, shape, bound, tile_s, tile_z, tile_d, exponent, z_exponent)
        tile_squares, zeros = blocks.add_powers(row, r.ACTIVATION, wanted, tile_z, pivot * unit)
        row[r.ACTIVATION_ZERO] += zeros
        squares += tile_squares
    return squares


@kernel()
def apply(row, wanted, regime, activation, shape, bound, s, z, d, exponent, z_exponent):
    """Write z = f(s) and d = f'(s) of a tile, and add what is wanted of d and of how near z is to a limit of f."""
    unit = blocks.unit_of(z_exponent)
    lower = shape[FAR, 0, 1] * unit if shape[FAR, 0, 0] == 0.0 else math.nan
    upper = shape[FAR, 1, 1] * unit if shape[FAR, 1, 0] == 0.0 else math.nan
    evaluate(regime, activation, shape, s, z, d, exponent)
    blocks.scale_by_power_of_two(z, exponent_after(regime, exponent) - z_exponent)
    add_derivative(row, wanted, bound, d)
    if wanted[r.ACTIVATION_SATURATED]:
        row[r.ACTIVATION_SATURATED] += blocks.count_saturated(s, z, lower, upper, bound * unit)


@kernel()
def add_derivative(row, wanted, bound, d):
    """Add what is wanted of a tile of f'."""
    if wanted[r.DERIVATIVE + r.M2] or wanted[r.DERIVATIVE_ZERO]:
        row[r.DERIVATIVE_ZERO] += blocks.add_powers(row, r.DERIVATIVE, wanted, d, 0.0)[1]
    if wanted[r.DERIVATIVE_SATURATED]:
        row[r.DERIVATIVE_SATURATED] += blocks.count_small(d, bound)


@kernel()
def finish_activation(row, wanted, z, d, exponent, z_exponent):
    """Turn what `activate` added over all samples into means and fractions."""
    blocks.finish_powers(row, r.PREACTIVATION, z.size, exponent)
    blocks.finish_powers(row, r.DERIVATIVE, d.size, np.int64(0))
    row[r.DERIVATIVE_SATURATED] /= d.size
    row[r.ACTIVATION_SATURATED] /= z.size
    if wanted[r.DERIVATIVE_ZERO]:
        blocks.finish_zeros(row, r.DERIVATIVE_ZERO, wanted, d)
    _finish_z(row, wanted, z, z_exponent)


@kernel()
def finish_sample(row, wanted, size, exponent):
    """Do the same for a single sample, but for its z."""
    blocks.finish_powers(row, r.PREACTIVATION, size, exponent)
    blocks.finish_powers(row, r.DERIVATIVE, size, np.int64(0))
    row[r.DERIVATIVE_SATURATED] /= size
    row[r.ACTIVATION_SATURATED] /= size
    if wanted[r.DERIVATIVE_ZERO]:
        blocks.finish_zeros_of_sample(row, r.DERIVATIVE_ZERO, size)


@kernel()
def finish_sample_activation(row, wanted, size, exponent):
    """Do the same for the z of a single sample."""
    blocks.finish_powers(row, r.ACTIVATION, size, exponent)
    if wanted[r.ACTIVATION_ZERO]:
        blocks.finish_zeros_of_sample(row, r.ACTIVATION_ZERO, size)


@kernel()
def _finish_z(row, wanted, z, exponent):
    blocks.finish_powers(row, r.ACTIVATION, z.size, exponent)
    if wanted[r.ACTIVATION_ZERO]:
        blocks.finish_zeros(row, r.ACTIVATION_ZERO, wanted, z)
    if wanted[r.ACTIVATION_CORRELATION] and z.shape[0] > 1:
        row[r.ACTIVATION_CORRELATION] = blocks.mean_correlation(z)


@kernel()
def _add_gradient(row, tensor, zero, wanted, gradient, sums):
    s1, squares, zeros = sums
    blocks.add_known_powers(row, tensor, wanted, gradient, 0.0, s1, squares, squares)
    row[zero] += zeros


@kernel()
def pass_back(row, wanted, dz, d, ds, exponent):
    """Write ds = dz f'(s) and what is wanted of both; return the exponent of ds."""
    squares = pass_part_back(row, wanted, dz, d, ds)
    finish_gradients(row, dz.size, exponent)
    return exponent + normalize(ds, squares / dz.size)


@kernel()
def record_gradient(row, tensor, zero, wanted, gradient, exponent):
    """Write what is wanted of the gradient by s or z, which is at hand as a whole; return the sum of squares."""
    squares, zeros = add_powers(row, tensor, wanted, flat(gradient), 0.0)
    row[zero] += zeros
    _finish_gradient(row, tensor, zero, gradient.size, exponent)
    return squares


@kernel()
def pass_part_back(row, wanted, dz, d, ds):
    """Write ds = dz f'(s), add what is wanted of both, tile by tile; return the sum of squares of ds."""
    size = dz.size
    flat_dz, flat_d, flat_ds = flat(dz), flat(d), flat(ds)
    squares = 0.0
    for first in range(0, size, TILE):
        length = min(TILE, size - first)
        tile_dz, tile_ds = stretch(flat_dz, first, length), stretch(flat_ds, first, length)
        tile_d = stretch(flat_d, first, length)
        of_dz, of_ds = blocks.multiply(tile_dz, tile_d, tile_ds)
        if wanted[r.PREACTIVATION_GRADIENT_SHUT]:
            row[r.PREACTIVATION_GRADIENT_SHUT] += blocks.squares_where_zero(tile_dz, tile_d)
        _add_gradient(row, r.ACTIVATION_GRADIENT, r.ACTIVATION_GRADIENT_ZERO, wanted, tile_dz, of_dz)
        _add_gradient(row, r.PREACTIVATION_GRADIENT, r.PREACTIVATION_GRADIENT_ZERO, wanted, tile_ds, of_ds)
        squares += of_ds[1]
    return squares


@kernel()
def finish_shut(row, squares):
    """Turn the sum of squares of dz where f' is 0 into its share of all, which is rounded in another order."""
    shut = row[r.PREACTIVATION_GRADIENT_SHUT] / squares
    row[r.PREACTIVATION_GRADIENT_SHUT] = 1.0 if shut > ALL else shut


@kernel()
def finish_gradients(row, size, exponent):
    """Turn what `pass_part_back` added over all parts into means and fractions."""
    finish_shut(row, row[r.ACTIVATION_GRADIENT + r.SQUARE])  # a sum still
    _finish_gradient(row, r.ACTIVATION_GRADIENT, r.ACTIVATION_GRADIENT_ZERO, size, exponent)
    _finish_gradient(row, r.PREACTIVATION_GRADIENT, r.PREACTIVATION_GRADIENT_ZERO, size, exponent)


@kernel()
def _finish_gradient(row, tensor, zero, size, exponent):
    blocks.finish_powers(row, tensor, size, exponent)
    row[zero] /= size


@kernel()
def add_input_gradient(row, wanted, dz):
    """Add what is wanted of the gradient by the input."""
    _, zeros = add_powers(row, r.ACTIVATION_GRADIENT, wanted, flat(dz), 0.0)
    row[r.ACTIVATION_GRADIENT_ZERO] += zeros


@kernel()
def finish_input_gradient(row, size, exponent):
    """Turn what `add_input_gradient` added over all parts into means and fractions."""
    _finish_gradient(row, r.ACTIVATION_GRADIENT, r.ACTIVATION_GRADIENT_ZERO, size, exponent)


@kernel()
def record_weight_gradient(row, wanted, z, ds, exponent, dw, extremes, formed):
    """Write what is wanted of dW = z^T ds; ``dw`` and ``extremes`` (2, fan_out) are places to work in.

    That of a single sample is formed if ``formed`` says so.
    """
    if z.shape[0] == 1 and not formed:
        record_outer_product(row, wanted, z.size, blocks.totals(z[0]), ds.size, blocks.totals(ds[0]), exponent)
        return
    np.dot(z.T, ds, dw)
    record_formed_gradient(row, wanted, dw, exponent, extremes)


@kernel()
def record_formed_gradient(row, wanted, dw, exponent, extremes):
    """Write what is wanted of a dW that has been formed."""
    _, zeros = add_powers(row, r.WEIGHT_GRADIENT, wanted, flat(dw), 0.0)
    blocks.finish_powers(row, r.WEIGHT_GRADIENT, dw.size, exponent)
    if wanted[r.WEIGHT_GRADIENT_ZERO]:
        row[r.WEIGHT_GRADIENT_ZERO] = zeros / dw.size
        row[r.WEIGHT_GRADIENT_DEAD_ROW] = blocks.dead_rows(dw) / dw.shape[0] if zeros > 0 else 0.0
        blocks.column_extremes(dw, extremes[0], extremes[1])
        dead, one_signed = blocks.column_signs(extremes[0], extremes[1])
        row[r.WEIGHT_GRADIENT_DEAD_COLUMN] = dead
        row[r.WEIGHT_GRADIENT_ONE_SIGNED_COLUMN] = one_signed


@kernel()
def record_outer_product(row, wanted, fan_in, z, fan_out, ds, exponent):
    """Write the same for a single sample, whose dW need not be formed, from the totals of z and ds."""
    z_sum, z_squares, z_zeros, z_negative, z_positive = z
    ds_sum, ds_squares, ds_zeros, _, _ = ds
    if wanted[r.WEIGHT_GRADIENT + r.M2]:
        row[r.WEIGHT_GRADIENT + r.M1] = z_sum * ds_sum
        row[r.WEIGHT_GRADIENT + r.M2] = z_squares * ds_squares
        row[r.WEIGHT_GRADIENT + r.SQUARE] = z_squares * ds_squares
        blocks.finish_powers(row, r.WEIGHT_GRADIENT, fan_in * fan_out, exponent)
    if wanted[r.WEIGHT_GRADIENT_ZERO]:
        rows = z_zeros / fan_in
        columns = ds_zeros / fan_out
        alive = rows < 1.0 and columns < 1.0
        row[r.WEIGHT_GRADIENT_ZERO] = 1.0 - (1.0 - rows) * (1.0 - columns)
        row[r.WEIGHT_GRADIENT_DEAD_ROW] = rows if alive else 1.0
        row[r.WEIGHT_GRADIENT_DEAD_COLUMN] = columns if alive else 1.0
        one_signed = 1.0 if (z_negative == 0 or z_positive == 0) and not math.isnan(z_squares) else 0.0
        row[r.WEIGHT_GRADIENT_ONE_SIGNED_COLUMN] = one_signed if alive else math.nan
