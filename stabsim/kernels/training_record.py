"""What is recorded of a net in training, by layer; layer 0, which has no weights, stands for the net as a whole."""

from __future__ import annotations

import math

import numpy as np

from stabsim.kernels import blocks
from stabsim.kernels.compile import REASSOCIATE, atom, kernel, wide_vectors
from stabsim.kernels.learner import bias_of, moving, weights_of
from stabsim.kernels.views import as_matrix, stretch

# What is recorded, and its columns.
RECORDED = (
    "loss", "gradient_norm", "weight_gradient_one_signed_column_fraction", "weight_gradient_dead_column_fraction",
    "distance", "path_length", "straightness", "step_cosine", "distinct_units", "effective_units", "unit_spread",
)  # fmt: skip
COLUMNS = len(RECORDED)
(
    LOSS, GRADIENT_NORM, ONE_SIGNED, DEAD_COLUMN, DISTANCE, PATH_LENGTH, STRAIGHTNESS, STEP_COSINE, DISTINCT, EFFECTIVE,
    SPREAD,
) = (np.int64(i) for i in range(COLUMNS))  # fmt: skip


@kernel(fastmath=REASSOCIATE)
def squared_distance(x, y):
    """Return the sum of squares of differences."""
    wide_vectors()
    total = 0.0
    for i in range(x.size):
        difference = np.float64(x[i]) - np.float64(y[i])
        total += difference * difference
    return total


@kernel()
def cosine(xx, xy, yy):
    """Return x.y by the lengths of both."""
    return xy / (math.sqrt(xx) * math.sqrt(yy))


@kernel()
def rows_equal(matrix, j, k):
    """Return whether two rows are equal, number by number."""
    i = 0
    while i < matrix.shape[1] and matrix[j, i] == matrix[k, i]:
        i += 1
    return i == matrix.shape[1]


@kernel()
def record_units(row, units):
    """Write how different units are, each a row of incoming weights and its bias.

    ``distinct_units``: how many different rows there are, compared number by number, exactly. ``effective_units``: n^2
    over the sum of all squared cosines. ``unit_spread``: the root of their share of squares that is about their mean.
    """
    number, fan_in = units.shape
    distinct, cosines = 0, 0.0
    squares, about_first, sums = 0.0, 0.0, np.zeros(fan_in)
    for j in range(number):
        new = True
        own = blocks.inner_products(units[j], units[j])[0]
        for k in range(j):
            same = rows_equal(units, j, k)
            new = new and not same
            _, product, other = blocks.inner_products(units[j], units[k])
            if same:
                cosines += 2.0
            elif own > 0 and other > 0:
                cosines += 2.0 * cosine(own, product, other) ** 2
        distinct += new
        squares += own
        for i in range(fan_in):
            difference = np.float64(units[j, i]) - np.float64(units[0, i])
            about_first += difference * difference
            sums[i] += difference
    about_mean = about_first - blocks.dot(sums, sums) / number
    row[DISTINCT] = distinct
    row[EFFECTIVE] = number * number / (number + cosines)
    row[SPREAD] = math.sqrt(max(about_mean, 0.0) / squares) if squares > 0 else 0.0


@atom
def _units(learner, l):
    """Return the incoming weights of each unit of a layer, with its bias: (fan_out, fan_in + 1)."""
    w, b = weights_of(learner, learner.memory.parameters, l), bias_of(learner, learner.memory.parameters, l)
    fan_in, fan_out = w.shape
    units = as_matrix(stretch(learner.memory.units, np.int64(0), fan_out * (fan_in + 1)), fan_out, fan_in + 1)
    for j in range(fan_out):
        for i in range(fan_in):
            units[j, i] = w[i, j]
        units[j, fan_in] = b[j]
    return units


@atom
def record_gradient_and_units(learner, rows):
    """Write what is recorded of dW and of the units of every layer."""
    for l in range(1, learner.course.widths.size):
        dw = weights_of(learner, learner.memory.gradient, l)
        extremes = as_matrix(stretch(learner.memory.extremes, np.int64(0), 2 * dw.shape[1]), np.int64(2), dw.shape[1])
        blocks.column_extremes(dw, extremes[0], extremes[1])
        rows[l, DEAD_COLUMN], rows[l, ONE_SIGNED] = blocks.column_signs(extremes[0], extremes[1])
        record_units(rows[l], _units(learner, l))


@atom
def record_path(learner, rows, squares, path, cosines, pairs):
    """Write where the path of the parameters has led so far."""
    whole = 0.0
    for l in range(1, path.size + 1):  # the whole last
        if l < path.size:
            at, start = moving(learner, learner.memory.parameters, l), moving(learner, learner.memory.start, l)
            distance = squared_distance(at, start)
            whole += distance
        else:
            distance = whole
        l %= path.size
        rows[l, GRADIENT_NORM] = math.sqrt(squares[l])
        rows[l, DISTANCE] = math.sqrt(distance)
        rows[l, PATH_LENGTH] = path[l]
        rows[l, STRAIGHTNESS] = math.sqrt(distance) / path[l] if path[l] > 0 else math.nan
        rows[l, STEP_COSINE] = cosines[l] / pairs[l] if pairs[l] > 0 else math.nan
