"""Stochastic gradient descent, one net after another: weights, mini-batches and their order all from counters.

Values are held as they are, unlike in `batch`: what underflows in an update is lost in the rounding of the weight that
it is added to long before, and what overflows has diverged, which is to be seen.

A net is one vector of parameters: of each layer W (fan_in, fan_out) and behind it b (fan_out,), which are the first so
many numbers of the vector that move. Of what is recorded (times, depth + 1, columns), layer 0, which has no weights,
stands for the net as a whole.
"""

from __future__ import annotations

import functools
import math
from collections import namedtuple
from typing import Any

import numpy as np
from numba import float32, float64, int64, types, uint64, void

from stabsim.kernels import batch, blocks, dense, laws, philox
from stabsim.kernels import record as r
from stabsim.kernels.compile import CONTRACT, REASSOCIATE, atom, kernel, wide_vectors
from stabsim.kernels.views import as_matrix, borrow, flat, stretch

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

# How nets are trained.
Course = namedtuple(
    "Course", "widths batch rows steps rate times weights_at moving weight_scale bias_scale perturbation signals_at"
)
# Where a net is kept.
Memory = namedtuple("Memory", "parameters start gradient before s z d dz units extremes")


def signature(dtype: np.dtype[Any]) -> Any:
    """Return the type of the trainer: its arguments, in order, with what each is."""
    real = float32 if dtype == np.float32 else float64
    loop = types.FunctionType(void(real[::1], real[::1], real[::1]))
    law = laws.pointer(dtype)
    course = {
        "widths": int64[::1],  # (depth + 1,)
        "batch": int64,
        "rows": int64,  # samples that there is room for, at least the batch
        "steps": int64,
        "rate": float64,
        "times": int64[::1],  # numbers of steps after which to record, rising
        "weights_at": int64[::1],  # (depth + 1,): where the parameters of a layer start
        "moving": int64[::1],  # (depth + 1,): how many of them move
        "weight_scale": real[::1],
        "bias_scale": real[::1],
        "perturbation": float64,  # standard deviation of what is added to every weight and bias that moves
        "signals_at": int64[::1],  # (depth + 1,): where the signals of a layer start
    }
    assert tuple(course) == Course._fields
    return void(
        int64,  # number of the first net
        uint64,  # seed
        law,  # of standard normals
        loop,  # activation
        loop,  # activation of the last layer
        law,  # of weights
        law,  # of biases
        types.NamedTuple(tuple(course.values()), Course),
        types.NamedUniTuple(real[::1], len(Memory._fields), Memory),
        real[:, :, ::1],  # inputs (1: of all nets, or nets; samples, widths[0])
        real[:, :, ::1],  # targets (likewise; samples, widths[-1])
        float64[:, :, :, ::1],  # record (nets, times, depth + 1, COLUMNS): NaN to start with
        int64[::1],  # (nets,): steps before a net diverged, -1 to start with
        real[:, :, ::1],  # parameters (nets, times, all of them), or (0, 0, 0): not kept
    )


Learner = namedtuple("Learner", "seed number normal activation output_activation weights bias_law course memory")


@atom
def _make_learner(seed, number, normal, activation, output_activation, weights, bias_law, course, memory):
    return Learner(
        seed=seed,
        number=number,
        normal=normal,
        activation=activation,
        output_activation=output_activation,
        weights=weights,
        bias_law=bias_law,
        course=Course(
            widths=borrow(course.widths), batch=course.batch, rows=course.rows, steps=course.steps, rate=course.rate,
            times=borrow(course.times), weights_at=borrow(course.weights_at), moving=borrow(course.moving),
            weight_scale=borrow(course.weight_scale), bias_scale=borrow(course.bias_scale),
            perturbation=course.perturbation, signals_at=borrow(course.signals_at),
        ),
        memory=Memory(
            parameters=borrow(memory.parameters), start=borrow(memory.start), gradient=borrow(memory.gradient),
            before=borrow(memory.before), s=borrow(memory.s), z=borrow(memory.z), d=borrow(memory.d),
            dz=borrow(memory.dz), units=borrow(memory.units), extremes=borrow(memory.extremes),
        ),
    )  # fmt: skip


@atom
def _weights(learner, vector, l):
    """Return W, or dW, of a layer of a vector of parameters."""
    fan_in, fan_out = learner.course.widths[l - 1], learner.course.widths[l]
    return as_matrix(stretch(vector, learner.course.weights_at[l], fan_in * fan_out), fan_in, fan_out)


@atom
def _bias(learner, vector, l):
    """Return b, or db, likewise."""
    fan_in, fan_out = learner.course.widths[l - 1], learner.course.widths[l]
    return stretch(vector, learner.course.weights_at[l] + fan_in * fan_out, fan_out)


@atom
def _moving(learner, vector, l):
    """Return what moves of a layer."""
    return stretch(vector, learner.course.weights_at[l], learner.course.moving[l])


@atom
def _signal(learner, vector, l, rows):
    """Return the signals of a layer."""
    width = learner.course.widths[l]
    return as_matrix(stretch(vector, learner.course.signals_at[l], rows * width), rows, width)


@kernel()
def _draw(law, out, seed, purpose, l, number, scale):
    law(out, np.uint64(0), seed, purpose, np.uint32(l), np.uint32(number), scale)


@atom
def _start(learner):
    """Draw the parameters, as the simulator does, and perturb those that move."""
    course, parameters = learner.course, learner.memory.parameters
    seed, number = learner.seed, learner.number
    for l in range(1, course.widths.size):
        weights = _weights(learner, parameters, l)
        _draw(learner.weights, weights, seed, philox.WEIGHT, l, number, course.weight_scale[l])
        bias = _bias(learner, parameters, l)
        if course.bias_scale[l] != 0:
            as_row = as_matrix(bias, np.int64(1), course.widths[l])
            _draw(learner.bias_law, as_row, seed, philox.BIAS, l, number, course.bias_scale[l])
        else:
            blocks.fill(bias, bias.dtype.type(0))
        if course.perturbation != 0:
            moving, noise = _moving(learner, parameters, l), _moving(learner, learner.memory.gradient, l)
            as_row = as_matrix(noise, np.int64(1), course.moving[l])
            _draw(learner.normal, as_row, seed, philox.PERTURBATION, l, number, noise.dtype.type(course.perturbation))
            blocks.combine(1.0, moving, 1.0, noise, moving)
        blocks.copy(_moving(learner, parameters, l), _moving(learner, learner.memory.start, l))
        before = _moving(learner, learner.memory.before, l)
        blocks.fill(before, before.dtype.type(0))


@kernel()
def _shuffle(order, epoch, seed, net):
    """Put the numbers of all samples in the order of an epoch, all orders being equally likely (Fisher & Yates)."""
    k0 = np.uint32(seed)
    k1 = np.uint32(seed >> np.uint64(32))
    samples = order.size
    for i in range(samples):
        order[i] = i
    for i in range(samples - 1):
        word = philox.philox(np.uint32(i), np.uint32(epoch), np.uint32(net), philox.SAMPLE_ORDER, k0, k1)[0]
        j = i + np.int64((np.uint64(word) * np.uint64(samples - i)) >> np.uint64(32))
        order[i], order[j] = order[j], order[i]


@atom
def _pass_forward(learner, rows):
    """Run the samples in z of layer 0 forward."""
    course, memory = learner.course, learner.memory
    depth = course.widths.size - 1
    for l in range(1, depth + 1):
        size = rows * course.widths[l]
        s = as_matrix(stretch(memory.s, np.int64(0), size), rows, course.widths[l])
        batch.multiply(_signal(learner, memory.z, l - 1, rows), _weights(learner, memory.parameters, l), s)
        blocks.add_rows(s, _bias(learner, memory.parameters, l), s.dtype.type(1))
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


@kernel(fastmath=REASSOCIATE)
def _squared_distance(x, y):
    """Return the sum of squares of differences."""
    wide_vectors()
    total = 0.0
    for i in range(x.size):
        difference = np.float64(x[i]) - np.float64(y[i])
        total += difference * difference
    return total


@atom
def _loss(learner, inputs, targets):
    """Return the mean squared error over all samples and outputs."""
    course, memory = learner.course, learner.memory
    samples, depth, total = inputs.shape[0], course.widths.size - 1, 0.0
    for first in range(0, samples, course.rows):
        rows = min(course.rows, samples - first)
        blocks.copy(flat(inputs[first : first + rows]), flat(_signal(learner, memory.z, 0, rows)))
        _pass_forward(learner, rows)
        seen = flat(_signal(learner, memory.z, depth, rows))
        total += _squared_distance(seen, flat(targets[first : first + rows]))
    return total / targets.size


@kernel()
def _times(values, factors):
    for i in range(values.size):
        values[i] *= factors[i]


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
    z, dz = _signal(learner, memory.z, 0, rows), _signal(learner, memory.dz, depth, rows)
    for b in range(rows):
        blocks.copy(inputs[order[first + b]], z[b])
    _pass_forward(learner, rows)
    z, factor = _signal(learner, memory.z, depth, rows), 2.0 / (rows * course.widths[depth])
    for b in range(rows):
        _differ(z[b], targets[order[first + b]], factor, dz[b])
    for l in range(depth, 0, -1):
        ds = _signal(learner, memory.dz, l, rows)
        _times(flat(ds), flat(_signal(learner, memory.d, l, rows)))
        dw, db = _weights(learner, memory.gradient, l), _bias(learner, memory.gradient, l)
        _sum_over_samples(_signal(learner, memory.z, l - 1, rows), ds, dw, db)
        if l > 1:
            below = _signal(learner, memory.dz, l - 1, rows)
            dense.multiply_back(ds, _weights(learner, memory.parameters, l), below)


@kernel(fastmath=CONTRACT)
def _descend(parameters, gradient, before, rate):
    """Take one step, and keep the gradient as the one before."""
    wide_vectors()
    by = parameters.dtype.type(rate)
    for i in range(parameters.size):
        parameters[i] -= by * gradient[i]
        before[i] = gradient[i]


@kernel()
def _cosine(xx, xy, yy):
    return xy / (math.sqrt(xx) * math.sqrt(yy))


@kernel()
def _pairs_equal(matrix, j, k):
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
            same = _pairs_equal(units, j, k)
            new = new and not same
            _, product, other = blocks.inner_products(units[j], units[k])
            if same:
                cosines += 2.0
            elif own > 0 and other > 0:
                cosines += 2.0 * _cosine(own, product, other) ** 2
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
    w, b = _weights(learner, learner.memory.parameters, l), _bias(learner, learner.memory.parameters, l)
    fan_in, fan_out = w.shape
    units = as_matrix(stretch(learner.memory.units, np.int64(0), fan_out * (fan_in + 1)), fan_out, fan_in + 1)
    for j in range(fan_out):
        for i in range(fan_in):
            units[j, i] = w[i, j]
        units[j, fan_in] = b[j]
    return units


@atom
def _record_gradient_and_units(learner, rows):
    """Write what is recorded of dW and of the units of every layer."""
    signs = np.empty(r.COLUMNS)
    for l in range(1, learner.course.widths.size):
        dw = _weights(learner, learner.memory.gradient, l)
        extremes = as_matrix(stretch(learner.memory.extremes, np.int64(0), 2 * dw.shape[1]), np.int64(2), dw.shape[1])
        blocks.column_extremes(dw, extremes[0], extremes[1])
        blocks.record_column_signs(signs, extremes[0], extremes[1])
        rows[l, ONE_SIGNED] = signs[r.WEIGHT_GRADIENT_ONE_SIGNED_COLUMN]
        rows[l, DEAD_COLUMN] = signs[r.WEIGHT_GRADIENT_DEAD_COLUMN]
        record_units(rows[l], _units(learner, l))


@atom
def _record_path(learner, rows, squares, path, cosines, pairs):
    """Write where the path of the parameters has led so far."""
    whole = 0.0
    for l in range(1, path.size + 1):  # the whole last
        if l < path.size:
            at, start = _moving(learner, learner.memory.parameters, l), _moving(learner, learner.memory.start, l)
            distance = _squared_distance(at, start)
            whole += distance
        else:
            distance = whole
        l %= path.size
        rows[l, GRADIENT_NORM] = math.sqrt(squares[l])
        rows[l, DISTANCE] = math.sqrt(distance)
        rows[l, PATH_LENGTH] = path[l]
        rows[l, STRAIGHTNESS] = math.sqrt(distance) / path[l] if path[l] > 0 else math.nan
        rows[l, STEP_COSINE] = cosines[l] / pairs[l] if pairs[l] > 0 else math.nan


@atom
def _measure(learner, squares, products):
    """Write the squared norm of the gradient and its product with the one before, of all layers and the whole."""
    squares[0], products[0] = 0.0, 0.0
    for l in range(1, squares.size):
        gradient, before = _moving(learner, learner.memory.gradient, l), _moving(learner, learner.memory.before, l)
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
        learner = _make_learner(
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
                    cosines[l] += _cosine(last[l], products[l], squares[l])
                    pairs[l] += 1
            if recorded:
                rows[time, 0, LOSS] = loss
                _record_gradient_and_units(learner, rows[time])
                _record_path(learner, rows[time], squares, path, cosines, pairs)
                if kept.shape[0] > 0:
                    blocks.copy(learner.memory.parameters, kept[index, time])
                time += 1
            if step < course.steps:
                for l in range(layers):
                    path[l] += course.rate * math.sqrt(squares[l])
                    last[l] = squares[l]
                for l in range(1, layers):
                    _descend(
                        _moving(learner, learner.memory.parameters, l), _moving(learner, learner.memory.gradient, l),
                        _moving(learner, learner.memory.before, l), course.rate,
                    )  # fmt: skip


@functools.cache
def trainer(dtype: np.dtype[Any]) -> Any:
    """Return the compiled trainer of that precision; ``stabsim.training`` makes its arguments."""
    return kernel(signature(dtype), cache=f"descent {dtype.name}")(_train)
