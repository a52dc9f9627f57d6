"""A net in training forward and backward: layers with normalization and residual connections, in a number format.

Where f, the normalization and the shortcuts stand is what `structured` says. Values are held as they are, unlike there:
what underflows in an update is lost in the rounding of the weight that it is added to long before, and what overflows
has diverged, which is to be seen.
"""

from __future__ import annotations

import math

import numpy as np

from stabsim.kernels import batch, blocks, dense, normalization, rounded
from stabsim.kernels import learner as k
from stabsim.kernels.compile import CONTRACT, atom, kernel, wide_vectors
from stabsim.kernels.learner import (
    bias_of,
    depth_of,
    doubles,
    part,
    scale_of,
    shift_of,
    signal,
    units_of,
    weights_of,
    width_of,
)  # fmt: skip
from stabsim.kernels.signature import AFTER, BATCH, BEFORE, BETWEEN, INSIDE, LAYER
from stabsim.kernels.views import flat, stretch


@kernel(apart=True)
def round_all(values, form):
    """Round to the number format, if one is simulated."""
    if form.fraction_bits > 0:
        rounded.round_to(values, form)


@atom
def see_parameters(learner):
    """Round the parameters to what the passes see of them, and themselves, unless they are kept as they are."""
    if learner.problem.format.fraction_bits > 0:
        if not learner.problem.master:
            round_all(part(learner, k.PARAMETERS), learner.problem.format)
        blocks.copy(part(learner, k.PARAMETERS), part(learner, k.SEEN))
        round_all(part(learner, k.SEEN), learner.problem.format)


@atom
def has_f(learner, l):
    """Return whether there is f at a layer: not where a branch ends without."""
    return learner.problem.structure.place != BETWEEN or learner.problem.structure.starts[l] < 0


@atom
def _add_shortcut(learner, l, rows, branch):
    """Write shortcut x + branch F in the place of F, x being what its block starts from."""
    structure = learner.problem.structure
    start = structure.starts[l]
    before = structure.place == BEFORE and start > 0
    x = signal(learner, k.S if before else k.Z, start, rows)
    blocks.blend(structure.branch, flat(branch), structure.shortcut, flat(x))


@kernel(apart=True)
def column_moments(s, mean, variance):
    """Write mean and variance of each column, from the first row's values on, so that equal ones vary by exactly 0."""
    rows = s.shape[0]
    blocks.fill(mean, 0.0)
    blocks.fill(variance, 0.0)
    for b in range(1, rows):
        normalization.add_differences(s[b], s[0], mean)
    blocks.scale(mean, 1.0 / rows)
    for b in range(rows):
        normalization.add_squared_deviations(s[b], s[0], mean, variance)
    blocks.scale(variance, 1.0 / rows)
    for j in range(mean.size):
        mean[j] += s[0, j]


@kernel(fastmath=CONTRACT)
def _standardize(s, mean, factor, n):
    wide_vectors()
    for j in range(n.size):
        n[j] = (np.float64(s[j]) - mean[j]) * factor[j]


@kernel(apart=True)
def standardize_units(s, mean, variance, epsilon, scales, n):
    """Write s less the mean over sqrt(variance + epsilon), which is kept in ``scales``."""
    factor = np.empty(mean.size)
    for j in range(mean.size):
        factor[j], scales[j] = normalization.factors_of(variance[j], mean[j], 1.0, epsilon, s.itemsize)
    for b in range(s.shape[0]):
        _standardize(s[b], mean, factor, n[b])


@kernel(apart=True)
def scale_and_shift(n, scale, shift, out):
    """Write scale n + shift, unit by unit."""
    for b in range(n.shape[0]):
        for j in range(scale.size):
            out[b, j] = n[b, j] * scale[j] + shift[j]


@atom
def _scales(learner, l, rows):
    """Return where 1 / sqrt(variance + epsilon) is kept, of each unit or sample."""
    problem = learner.problem
    size = width_of(learner, l) if problem.structure.normalization == BATCH else rows
    return stretch(doubles(learner, k.SCALES), learner.problem.layout[k.UNITS_AT, l], size)


@atom
def _normalize(learner, vector, l, rows, evaluating):
    """Write what is normalized into n, and its scaled and shifted values into z, where f takes them."""
    structure = learner.problem.structure
    s, n, z = signal(learner, k.S, l, rows), signal(learner, k.N, l, rows), signal(learner, k.Z, l, rows)
    scales = _scales(learner, l, rows)
    if structure.normalization == BATCH:
        mean = units_of(learner, k.RUNNING_MEAN if evaluating else k.MEAN, l)
        variance = units_of(learner, k.RUNNING_VARIANCE if evaluating else k.VARIANCE, l)
        if not evaluating:
            column_moments(s, mean, variance)
        standardize_units(s, mean, variance, structure.epsilon, scales, n)
    else:
        normalization.normalize_samples(s, structure.normalization == LAYER, 1.0, structure.epsilon, n, scales)
    scale_and_shift(n, scale_of(learner, vector, l), shift_of(learner, vector, l), z)


@kernel(apart=True)
def pass_forward(learner, vector, rows, evaluating):
    """Run the samples in z of layer 0 forward; evaluating, batches are normalized by what is known of earlier ones."""
    problem = learner.problem
    structure, depth = problem.structure, depth_of(learner)
    for l in range(1, depth + 1):
        s, z = signal(learner, k.S, l, rows), signal(learner, k.Z, l, rows)
        d, seen = flat(signal(learner, k.D, l, rows)), flat(s)
        batch.multiply(signal(learner, k.Z, l - 1, rows), weights_of(learner, vector, l), s)
        blocks.add_rows(s, bias_of(learner, vector, l), s.dtype.type(1))
        ends_block, normalized = structure.starts[l] >= 0, problem.layout[k.NORMALIZED, l] == 1
        if ends_block and (structure.place == BEFORE or (structure.place == AFTER and not normalized)):
            _add_shortcut(learner, l, rows, s)
        round_all(flat(s), problem.format)
        if normalized:
            _normalize(learner, vector, l, rows, evaluating)
            if ends_block and structure.place == AFTER:
                _add_shortcut(learner, l, rows, z)
            seen = flat(z)
            round_all(seen, problem.format)
        if not has_f(learner, l):
            blocks.copy(seen, flat(z))
            blocks.fill(d, d.dtype.type(1))
        elif l < depth:
            learner.activation(seen, flat(z), d)
        else:
            learner.output_activation(seen, flat(z), d)
        if ends_block and structure.place in (INSIDE, BETWEEN):
            _add_shortcut(learner, l, rows, z)
        round_all(flat(z), problem.format)
        round_all(d, problem.format)


@kernel(apart=True)
def learn_running(learner, rows):
    """Move the running means and variances towards those of the mini-batch, the variance without bias."""
    problem = learner.problem
    if problem.structure.normalization == BATCH:
        for l in range(1, depth_of(learner) + 1):
            if problem.layout[k.NORMALIZED, l] == 1:
                mean, variance = units_of(learner, k.MEAN, l), units_of(learner, k.VARIANCE, l)
                running, spread = units_of(learner, k.RUNNING_MEAN, l), units_of(learner, k.RUNNING_VARIANCE, l)
                unbiased, kept = rows / (rows - 1.0), problem.running_momentum
                for j in range(mean.size):
                    running[j] = kept * running[j] + (1.0 - kept) * mean[j]
                    spread[j] = kept * spread[j] + (1.0 - kept) * unbiased * variance[j]


@kernel()
def sum_over_samples(z, ds, dw, db):
    """Write dW = z^T ds and db, the sum of ds."""
    if z.shape[0] == 1:
        for i in range(dw.shape[0]):
            x = z[0, i]
            for j in range(dw.shape[1]):
                dw[i, j] = x * ds[0, j]
    else:
        np.dot(z.T, ds, dw)
    blocks.copy(ds[0], db)
    for b in range(1, ds.shape[0]):
        for j in range(db.size):
            db[j] += ds[b, j]


@kernel(apart=True)
def _unscale(ds, n, scale, dscale, dshift):
    """Write the gradients by scale and shift, and in the place of that by their result that by n."""
    blocks.fill(dscale, dscale.dtype.type(0))
    blocks.fill(dshift, dshift.dtype.type(0))
    for b in range(ds.shape[0]):
        for j in range(scale.size):
            dscale[j] += ds[b, j] * n[b, j]
            dshift[j] += ds[b, j]
            ds[b, j] *= scale[j]


@atom
def _denormalize(learner, vector, l, rows, ds):
    structure, n = learner.problem.structure, signal(learner, k.N, l, rows)
    of_scale, of_shift = scale_of(learner, k.GRADIENT, l), shift_of(learner, k.GRADIENT, l)
    _unscale(ds, n, scale_of(learner, vector, l), of_scale, of_shift)
    scales = _scales(learner, l, rows)
    if structure.normalization == BATCH:
        normalization.denormalize_units(ds, n, scales, structure.epsilon)
    else:
        normalization.denormalize_samples(ds, n, scales, structure.normalization == LAYER, structure.epsilon)


@atom
def _waiting(learner, l, rows):
    """Return the gradient that waits for the block that ends at layer l to begin, or that has waited for layer l."""
    return stretch(part(learner, k.WAITING), np.int64(0), rows * width_of(learner, l))


@kernel(apart=True)
def pass_back(learner, vector, rows, to_inputs):
    """Write the gradient by all parameters, given that by the outputs in dz of the last layer."""
    problem = learner.problem
    structure = problem.structure
    for l in range(depth_of(learner), 0, -1):
        dz, ds = signal(learner, k.DZ, l, rows), signal(learner, k.DS, l, rows)
        ends_block, place = structure.starts[l] >= 0, structure.place
        round_all(flat(dz), problem.format)
        if ends_block and place in (INSIDE, BETWEEN):
            blocks.copy(flat(dz), _waiting(learner, l, rows))
        blocks.product(flat(dz), flat(signal(learner, k.D, l, rows)), flat(ds))
        if ends_block and place == AFTER:
            blocks.copy(flat(ds), _waiting(learner, l, rows))
        if ends_block and place != BEFORE and structure.branch != 1.0:
            blocks.scale(flat(ds), structure.branch)
        if problem.layout[k.NORMALIZED, l] == 1:
            _denormalize(learner, vector, l, rows, ds)
        if place == BEFORE and structure.ends[l] >= 0:
            blocks.blend(1.0, flat(ds), structure.shortcut, _waiting(learner, l, rows))
        if place == BEFORE and ends_block:
            blocks.copy(flat(ds), _waiting(learner, l, rows))
            if structure.branch != 1.0:
                blocks.scale(flat(ds), structure.branch)
        round_all(flat(ds), problem.format)
        dw, db = weights_of(learner, k.GRADIENT, l), bias_of(learner, k.GRADIENT, l)
        sum_over_samples(signal(learner, k.Z, l - 1, rows), ds, dw, db)
        if l > 1 or to_inputs:
            below = signal(learner, k.DZ, l - 1, rows)
            dense.multiply_back(ds, weights_of(learner, vector, l), below)
            if structure.ends[l - 1] >= 0 and (place != BEFORE or l == 1):
                blocks.blend(1.0, flat(below), structure.shortcut, _waiting(learner, l - 1, rows))
    if to_inputs:
        round_all(flat(signal(learner, k.DZ, 0, rows)), problem.format)
    round_all(part(learner, k.GRADIENT), problem.format)
    if problem.format.loss_exponent != 0:
        blocks.scale(part(learner, k.GRADIENT), math.ldexp(1.0, -problem.format.loss_exponent))
