"""What is recorded of a net in training, by layer; layer 0, which has no weights, stands for the net as a whole."""

from __future__ import annotations

import math

import numpy as np

from stabsim.kernels import blocks
from stabsim.kernels import learner as k
from stabsim.kernels.compile import REASSOCIATE, kernel, wide_vectors
from stabsim.kernels.learner import bias_of, depth_of, moving, part, signal, units_of, weights_of
from stabsim.kernels.views import as_matrix, stretch

DRIFTS = ("weights", "batches", "both")  # what has changed since the start
# What is recorded, and its columns: of the whole net only, ...
OF_NETS = ("loss", "accuracy", "batch_loss", "last_batch_loss", "test_loss", "test_accuracy")
# ... of both, ...
OF_BOTH = (
    "gradient_norm", "distance", "path_length", "straightness", "step_cosine", "update_ratio", "clip_engagement",
    "clip_cosine",
)  # fmt: skip
# ... and of layers.
OF_LAYERS = (
    "clipped_fraction", "distinct_units", "effective_units", "unit_spread", "dead_unit_fraction", "died_fraction",
    "recovered_fraction",
    *(f"{name}_{cause}" for cause in DRIFTS for name in ("mean_shift", "variance_ratio", "wasserstein")),
)  # fmt: skip
RECORDED = (*OF_NETS, *OF_BOTH, *OF_LAYERS)
COLUMNS = len(RECORDED)
(
    LOSS, ACCURACY, BATCH_LOSS, LAST_BATCH_LOSS, TEST_LOSS, TEST_ACCURACY,
    GRADIENT_NORM, DISTANCE, PATH_LENGTH, STRAIGHTNESS, STEP_COSINE, UPDATE_RATIO, CLIP_ENGAGEMENT, CLIP_COSINE,
    CLIPPED_FRACTION, DISTINCT, EFFECTIVE, SPREAD, DEAD, DIED, RECOVERED, DRIFT,
) = (np.int64(i) for i in range(COLUMNS - 3 * len(DRIFTS) + 1))  # fmt: skip


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
        for other in range(j):
            same = rows_equal(units, j, other)
            new = new and not same
            _, product, size = blocks.inner_products(units[j], units[other])
            if same:
                cosines += 2.0
            elif own > 0 and size > 0:
                cosines += 2.0 * cosine(own, product, size) ** 2
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


@kernel(apart=True)
def record_units_of(learner, rows):
    """Write how different the units of every layer are: the incoming weights of each, with its bias."""
    for l in range(1, depth_of(learner) + 1):
        w, b = weights_of(learner, k.PARAMETERS, l), bias_of(learner, k.PARAMETERS, l)
        fan_in, fan_out = w.shape
        units = as_matrix(stretch(part(learner, k.UNITS), np.int64(0), fan_out * (fan_in + 1)), fan_out, fan_in + 1)
        for j in range(fan_out):
            for i in range(fan_in):
                units[j, i] = w[i, j]
            units[j, fan_in] = b[j]
        record_units(rows[l], units)


@kernel(apart=True)
def _note(d, alive):
    for b in range(d.shape[0]):
        for j in range(alive.size):
            alive[j] = 1.0 if d[b, j] != 0 else alive[j]


@kernel(apart=True)
def note_alive(learner, rows):
    """Note which units have f' other than 0 on any of the samples that have just been run forward."""
    for l in range(1, depth_of(learner) + 1):
        _note(signal(learner, k.D, l, rows), units_of(learner, k.ALIVE, l))


@kernel(apart=True)
def record_dead(learner, rows, first):
    """Write which share of units is dead, and which has died or recovered since it was last recorded, if it was."""
    for l in range(1, depth_of(learner) + 1):
        alive, dead = units_of(learner, k.ALIVE, l), units_of(learner, k.DEAD, l)
        idle, died, recovered = 0.0, 0.0, 0.0
        for j in range(alive.size):
            gone = 1.0 - alive[j]
            idle += gone
            died += gone * (1.0 - dead[j])
            recovered += alive[j] * dead[j]
            dead[j] = gone
        rows[l, DEAD] = idle / alive.size
        rows[l, DIED] = math.nan if first else died / alive.size
        rows[l, RECOVERED] = math.nan if first else recovered / alive.size


@kernel(apart=True)
def record_path(learner, rows, path):
    """Write where the path of the parameters has led so far."""
    whole = 0.0
    layers = path.length.size
    for l in range(1, layers + 1):  # the whole last
        if l < layers:
            at, start = moving(learner, k.PARAMETERS, l), moving(learner, k.START, l)
            distance = squared_distance(at, start)
            whole += distance
        else:
            distance = whole
        l %= layers
        rows[l, DISTANCE] = math.sqrt(distance)
        rows[l, PATH_LENGTH] = path.length[l]
        rows[l, STRAIGHTNESS] = math.sqrt(distance) / path.length[l] if path.length[l] > 0 else math.nan
        rows[l, STEP_COSINE] = path.cosines[l] / path.pairs[l] if path.pairs[l] > 0 else math.nan
        rows[l, UPDATE_RATIO] = path.ratio[l]
