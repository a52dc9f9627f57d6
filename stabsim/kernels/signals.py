"""What is recorded of a net in training as of one that is simulated: all tensors of a mini-batch, layer by layer."""

from __future__ import annotations

import math

import numpy as np

from stabsim.kernels import blocks, layer
from stabsim.kernels import learner as k
from stabsim.kernels import record as r
from stabsim.kernels.compile import atom, kernel
from stabsim.kernels.learner import depth_of, part, scale_of, shift_of, signal, weights_of
from stabsim.kernels.propagation import scale_and_shift
from stabsim.kernels.views import as_matrix, flat, stretch


@atom
def _seen_by_f(learner, vector, l):
    """Return what f takes: s, or in its place what is normalized, scaled and shifted."""
    s = signal(learner, k.S, l, learner.course.batch)
    if learner.problem.layout[k.NORMALIZED, l] == 1:
        n = signal(learner, k.N, l, learner.course.batch)
        scale_and_shift(n, scale_of(learner, vector, l), shift_of(learner, vector, l), s)
    return flat(s)


@atom
def _record_forward(learner, watch, vector, row, l):
    batch, wanted = learner.course.batch, watch.wanted
    z, d = signal(learner, k.Z, l, batch), signal(learner, k.D, l, batch)
    if wanted[r.PREACTIVATION + r.M2]:
        layer.add_powers(row, r.PREACTIVATION, wanted, flat(signal(learner, k.S, l, batch)), 0.0)
    layer.add_derivative(row, wanted, watch.saturation, flat(d))
    if wanted[r.ACTIVATION_SATURATED]:
        ends = learner.problem.shape[1 if l == depth_of(learner) else 0, layer.FAR]
        lower = ends[0, 1] if ends[0, 0] == 0.0 else math.nan
        upper = ends[1, 1] if ends[1, 0] == 0.0 else math.nan
        saturated = blocks.count_saturated(_seen_by_f(learner, vector, l), flat(z), lower, upper, watch.saturation)
        row[r.ACTIVATION_SATURATED] += saturated
    row[r.ACTIVATION_ZERO] += layer.add_powers(row, r.ACTIVATION, wanted, flat(z), watch.pivots[l])[1]
    layer.finish_activation(row, wanted, z, d, np.int64(0), np.int64(0))


@atom
def _record_back(learner, watch, row, l):
    batch, wanted = learner.course.batch, watch.wanted
    exponent = -learner.problem.format.loss_exponent
    dz = signal(learner, k.DZ, l, batch)
    layer.record_gradient(row, r.ACTIVATION_GRADIENT, r.ACTIVATION_GRADIENT_ZERO, wanted, dz, exponent)
    if l > 0:
        ds, dw = signal(learner, k.DS, l, batch), weights_of(learner, k.GRADIENT, l)
        layer.record_gradient(row, r.PREACTIVATION_GRADIENT, r.PREACTIVATION_GRADIENT_ZERO, wanted, ds, exponent)
        columns = dw.shape[1]
        extremes = as_matrix(stretch(part(learner, k.EXTREMES), np.int64(0), 2 * columns), np.int64(2), columns)
        layer.record_formed_gradient(row, wanted, dw, np.int64(0), extremes)


@kernel(apart=True)
def record_signals(learner, watch, vector, rows):
    """Write what is wanted of the mini-batch that has just been run forward and back with these parameters."""
    for l in range(depth_of(learner) + 1):
        blocks.copy(watch.blank[l], rows[l])
        if l == 0:
            z = signal(learner, k.Z, 0, learner.course.batch)
            layer.record_input(rows[0], watch.wanted, z, watch.pivots[0], np.int64(0))
        else:
            _record_forward(learner, watch, vector, rows[l], l)
        _record_back(learner, watch, rows[l], l)
