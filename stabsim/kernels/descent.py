"""Stochastic gradient descent, one net after another: weights, mini-batches and their order all from counters.

Values are held as they are, unlike in `batch`: what underflows in an update is lost in the rounding of the weight that
it is added to long before, and what overflows has diverged, which is to be seen.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from stabsim.kernels import batch, blocks, dense, inputs, philox
from stabsim.kernels.compile import CONTRACT, atom, kernel, wide_vectors
from stabsim.kernels.learner import bias_of, make_learner, moving, signal, signature, weights_of
from stabsim.kernels.training_record import LOSS, cosine, record_gradient_and_units, record_path, squared_distance
from stabsim.kernels.views import as_matrix, borrow, flat, stretch


@atom
def _start(learner):
    """Draw the parameters, as the simulator does, and perturb those that move."""
    course, parameters = learner.course, learner.memory.parameters
    seed, number = learner.seed, learner.number
    for l in range(1, course.widths.size):
        weights = weights_of(learner, parameters, l)
        batch.draw(learner.weights, weights, seed, philox.WEIGHT, l, number, course.weight_scale[l])
        bias = bias_of(learner, parameters, l)
        if course.bias_scale[l] != 0:
            as_row = as_matrix(bias, np.int64(1), course.widths[l])
            batch.draw(learner.bias_law, as_row, seed, philox.BIAS, l, number, course.bias_scale[l])
        else:
            blocks.fill(bias, bias.dtype.type(0))
        if course.perturbation != 0:
            values, noise = moving(learner, parameters, l), moving(learner, learner.memory.gradient, l)
            as_row, scale = as_matrix(noise, np.int64(1), course.moving[l]), noise.dtype.type(course.perturbation)
            batch.draw(learner.normal, as_row, seed, philox.PERTURBATION, l, number, scale)
            blocks.combine(1.0, values, 1.0, noise, values)
        blocks.copy(moving(learner, parameters, l), moving(learner, learner.memory.start, l))
        before = moving(learner, learner.memory.before, l)
        blocks.fill(before, before.dtype.type(0))


@kernel()
def _shuffle(order, epoch, seed, net):
    """Put the numbers of all samples in the order of an epoch, all orders being equally likely."""
    samples = order.size
    for i in range(samples):
        order[i] = i
    for i in range(samples - 1):
        j = inputs.choice(i, samples, seed, net, epoch, philox.SAMPLE_ORDER)
        order[i], order[j] = order[j], order[i]


@atom
def _pass_forward(learner, rows):
    """Run the samples in z of layer 0 forward."""
    course, memory = learner.course, learner.memory
    depth = course.widths.size - 1
    for l in range(1, depth + 1):
        size = rows * course.widths[l]
        s = as_matrix(stretch(memory.s, np.int64(0), size), rows, course.widths[l])
        batch.multiply(signal(learner, memory.z, l - 1, rows), weights_of(learner, memory.parameters, l), s)
        blocks.add_rows(s, bias_of(learner, memory.parameters, l), s.dtype.type(1))
        z, d = stretch(memory.z, course.signals_at[l], size), stretch(memory.d, course.signals_at[l], size)
        if l < depth:
            learner.activation(flat(s), z, d)
        else:
            learner.output_activation(flat(s), z, d)


@kernel(fastmath=CONTRACT)
def _differ(z, y, factor, out):
    """Write the factor times what z exceeds y by."""
    wide_vectors()
    by = out.dtype.type(factor)
    for i in range(out.size):
        out[i] = by * (z[i] - y[i])


@atom
def _loss(learner, inputs, targets):
    """Return the mean squared error over all samples and outputs."""
    course, memory = learner.course, learner.memory
    samples, depth, total = inputs.shape[0], course.widths.size - 1, 0.0
    for first in range(0, samples, course.rows):
        rows = min(course.rows, samples - first)
        blocks.copy(flat(inputs[first : first + rows]), flat(signal(learner, memory.z, 0, rows)))
        _pass_forward(learner, rows)
        seen = flat(signal(learner, memory.z, depth, rows))
        total += squared_distance(seen, flat(targets[first : first + rows]))
    return total / targets.size


@kernel()
def _sum_over_samples(z, ds, dw, db):
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


@atom
def _pass_back(learner, inputs, targets, order, first):
    """Write the gradient of the loss of a mini-batch by all parameters."""
    course, memory = learner.course, learner.memory
    rows, depth = course.batch, course.widths.size - 1
    z, dz = signal(learner, memory.z, 0, rows), signal(learner, memory.dz, depth, rows)
    for b in range(rows):
        blocks.copy(inputs[order[first + b]], z[b])
    _pass_forward(learner, rows)
    z, factor = signal(learner, memory.z, depth, rows), 2.0 / (rows * course.widths[depth])
    for b in range(rows):
        _differ(z[b], targets[order[first + b]], factor, dz[b])
    for l in range(depth, 0, -1):
        ds = signal(learner, memory.dz, l, rows)
        blocks.multiply_in_place(flat(ds), flat(signal(learner, memory.d, l, rows)))
        dw, db = weights_of(learner, memory.gradient, l), bias_of(learner, memory.gradient, l)
        _sum_over_samples(signal(learner, memory.z, l - 1, rows), ds, dw, db)
        if l > 1:
            below = signal(learner, memory.dz, l - 1, rows)
            dense.multiply_back(ds, weights_of(learner, memory.parameters, l), below)


@kernel(fastmath=CONTRACT)
def _descend(parameters, gradient, before, rate):
    """Take one step, and keep the gradient as the one before."""
    wide_vectors()
    by = parameters.dtype.type(rate)
    for i in range(parameters.size):
        parameters[i] -= by * gradient[i]
        before[i] = gradient[i]


@atom
def _measure(learner, squares, products):
    """Write the squared norm of the gradient and its product with the one before, of all layers and the whole."""
    squares[0], products[0] = 0.0, 0.0
    for l in range(1, squares.size):
        gradient, before = moving(learner, learner.memory.gradient, l), moving(learner, learner.memory.before, l)
        squares[l], products[l], _ = blocks.inner_products(gradient, before)
        squares[0] += squares[l]
        products[0] += products[l]


def _train(
    first_net, seed, normal, activation, output_activation, weights, bias_law, course, memory, inputs, targets, record,
    diverged, kept,
):  # fmt: skip
    layers = course.widths.size
    squares, products, last = np.empty(layers), np.empty(layers), np.empty(layers)
    path, cosines, pairs = np.empty(layers), np.empty(layers), np.empty(layers)
    order = np.arange(inputs.shape[1])
    a_epoch = inputs.shape[1] // course.batch  # steps
    for index in range(record.shape[0]):
        learner = make_learner(
            seed, first_net + index, normal, activation, output_activation, weights, bias_law, course, memory
        )
        own = index if inputs.shape[0] > 1 else 0
        x, y = borrow(inputs)[own], borrow(targets)[own]
        rows = borrow(record)[index]
        _start(learner)
        for each in (last, path, cosines, pairs):
            blocks.fill(each, 0.0)
        time = 0
        for step in range(course.steps + 1):
            recorded = time < course.times.size and course.times[time] == step
            loss = _loss(learner, x, y) if recorded else 0.0
            if course.batch < order.size and step % a_epoch == 0:
                _shuffle(order, step // a_epoch, seed, learner.number)
            _pass_back(learner, x, y, order, step % a_epoch * course.batch)
            _measure(learner, squares, products)
            if not (math.isfinite(loss) and math.isfinite(squares[0])):
                diverged[index] = step
                break
            for l in range(layers):
                if last[l] > 0 and squares[l] > 0:
                    cosines[l] += cosine(last[l], products[l], squares[l])
                    pairs[l] += 1
            if recorded:
                rows[time, 0, LOSS] = loss
                record_gradient_and_units(learner, rows[time])
                record_path(learner, rows[time], squares, path, cosines, pairs)
                if kept.shape[0] > 0:
                    blocks.copy(learner.memory.parameters, kept[index, time])
                time += 1
            if step < course.steps:
                for l in range(layers):
                    path[l] += course.rate * math.sqrt(squares[l])
                    last[l] = squares[l]
                for l in range(1, layers):
                    _descend(
                        moving(learner, learner.memory.parameters, l), moving(learner, learner.memory.gradient, l),
                        moving(learner, learner.memory.before, l), course.rate,
                    )  # fmt: skip


@functools.cache
def trainer(dtype: np.dtype[Any]) -> Any:
    """Return the compiled trainer of that precision; ``stabsim.training`` makes its arguments."""
    return kernel(signature(dtype), cache=f"descent {dtype.name}")(_train)
