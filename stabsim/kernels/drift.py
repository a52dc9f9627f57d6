"""Drift: how far what each layer sees has moved from what it saw of the first mini-batch, before the first step.

Each unit's values over a mini-batch are compared with those at the start: their mean, in units of the standard
deviation at the start (root mean square over units); their variance, as a ratio (of sums over units); and both
distributions, by the first Wasserstein distance, in the same units (mean over units). Units that did not vary at the
start have no unit of their own, and are left out.
"""

from __future__ import annotations

import math

import numpy as np

from stabsim.kernels import blocks
from stabsim.kernels import learner as k
from stabsim.kernels.compile import atom, kernel
from stabsim.kernels.learner import depth_of, part, signal, width_of
from stabsim.kernels.views import as_matrix, flat, stretch


@kernel()
def _column(z, j, out):
    """Copy a column, in order of size."""
    for b in range(z.shape[0]):
        out[b] = z[b, j]
    out.sort()


@kernel()
def _moments(values):
    """Return mean and variance of values in order: equal ones vary by exactly 0."""
    mean = values[0] + blocks.power_sums_2(values, values[0])[0] / values.size
    if values[0] == values[-1]:
        return mean, 0.0
    return mean, blocks.power_sums_2(values, mean)[1] / values.size


@kernel(apart=True)
def keep_columns(z, out):
    """Write all columns in order of size, (width, rows)."""
    for j in range(z.shape[1]):
        _column(z, j, out[j])


@kernel(apart=True)
def compare(z, reference, column, row):
    """Write shift of the mean, ratio of variances and Wasserstein distance of columns from those kept."""
    units, shifts, distances = 0, 0.0, 0.0
    now, then = 0.0, 0.0
    for j in range(z.shape[1]):
        mean_then, variance_then = _moments(reference[j])
        if variance_then > 0.0:
            _column(z, j, column)
            mean_now, variance_now = _moments(column)
            shifts += (mean_now - mean_then) ** 2 / variance_then
            distance = 0.0
            for b in range(column.size):
                distance += abs(np.float64(column[b]) - np.float64(reference[j, b]))
            distances += distance / column.size / math.sqrt(variance_then)
            now += variance_now
            then += variance_then
            units += 1
    row[0] = math.sqrt(shifts / units) if units > 0 else math.nan
    row[1] = now / then if units > 0 else math.nan
    row[2] = distances / units if units > 0 else math.nan


@atom
def _reference(learner, l):
    """Return what is kept of the signals of a layer."""
    rows, width = learner.course.batch, width_of(learner, l)
    kept = stretch(part(learner, k.REFERENCE), learner.problem.layout[k.SIGNALS_AT, l], rows * width)
    return as_matrix(kept, width, rows)


@kernel(apart=True)
def keep_reference(learner):
    """Keep the signals of the mini-batch that has just been run forward."""
    for l in range(depth_of(learner)):
        keep_columns(signal(learner, k.Z, l, learner.course.batch), _reference(learner, l))


@kernel(apart=True)
def record_drift(learner, rows, first):
    """Write, from that column on, how far the signals of a mini-batch are: at layer l, those that it takes."""
    batch = learner.course.batch
    column = stretch(part(learner, k.COLUMN), np.int64(0), batch)
    for l in range(1, depth_of(learner) + 1):
        z = signal(learner, k.Z, l - 1, batch)
        compare(z, _reference(learner, l - 1), column, stretch(flat(rows[l]), first, np.int64(3)))
