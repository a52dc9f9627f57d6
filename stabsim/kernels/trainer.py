"""Training of nets, one after another: weights, mini-batches and their order all from counters."""

from __future__ import annotations

import functools
import math
from collections import namedtuple
from typing import Any

import numpy as np

from stabsim.kernels import batch, blocks, drift, inputs, philox, propagation, recurrent_propagation, updates
from stabsim.kernels import learner as k
from stabsim.kernels import training_record as t
from stabsim.kernels.compile import atom, kernel
from stabsim.kernels.learner import (
    bias_of,
    depth_of,
    doubles,
    make_learner,
    moving,
    outputs,
    part,
    scale_of,
    shift_of,
    signal,
    signature,
    weights_of,
    width_of,
)  # fmt: skip
from stabsim.kernels.propagation import learn_running, round_all, see_parameters
from stabsim.kernels.signals import record_signals
from stabsim.kernels.signature import NONE
from stabsim.kernels.training_record import cosine, squared_distance
from stabsim.kernels.views import as_matrix, borrow, flat, stretch

# Of each layer, and first of the net: squares of the gradient and products with the one before, the squares of the
# one before, how long all steps were together, their cosines and how many, by which part of W the last step moved it,
# at how many steps clipping changed anything.
Path = namedtuple("Path", "squares products last length cosines pairs ratio engaged")


@atom
def pass_forward(learner, vector, rows, evaluating):
    """Run the samples that are loaded forward."""
    if learner.problem.gates > 0:
        recurrent_propagation.pass_forward(learner, vector, rows)
    else:
        propagation.pass_forward(learner, vector, rows, evaluating)


@atom
def _draw_layer(learner, l):
    """Draw the parameters of a layer."""
    seed, number, problem = learner.seed, learner.number, learner.problem
    real = learner.memory.reals.dtype.type
    batch.draw(
        learner.weights, weights_of(learner, k.PARAMETERS, l), seed, philox.WEIGHT, l, number, problem.weight_scale[l]
    )
    bias = bias_of(learner, k.PARAMETERS, l)
    if problem.bias_scale[l] != 0:
        as_row = as_matrix(bias, np.int64(1), width_of(learner, l))
        batch.draw(learner.bias_law, as_row, seed, philox.BIAS, l, number, problem.bias_scale[l])
    else:
        blocks.fill(bias, real(0))
    if problem.layout[k.NORMALIZED, l] == 1:
        blocks.fill(scale_of(learner, k.PARAMETERS, l), real(1))
        blocks.fill(shift_of(learner, k.PARAMETERS, l), real(0))


@kernel(apart=True)
def _start(learner):
    """Draw the parameters, as the simulator does, and perturb those that move; forget all else."""
    problem = learner.problem
    seed, number = learner.seed, learner.number
    real = learner.memory.reals.dtype.type
    if problem.gates > 0:
        recurrent_propagation.draw(learner)
    for l in range(1, depth_of(learner) + 1):
        if problem.gates == 0:
            _draw_layer(learner, l)
        if problem.perturbation != 0:
            values, noise = moving(learner, k.PARAMETERS, l), moving(learner, k.GRADIENT, l)
            as_row, scale = as_matrix(noise, np.int64(1), problem.layout[k.MOVING, l]), real(problem.perturbation)
            batch.draw(learner.normal, as_row, seed, philox.PERTURBATION, l, number, scale)
            blocks.combine(1.0, values, 1.0, noise, values)
    see_parameters(learner)
    blocks.copy(part(learner, k.PARAMETERS), part(learner, k.START))
    for number in (k.BEFORE, k.FIRST, k.SECOND):
        blocks.fill(part(learner, number), real(0))
    blocks.fill(doubles(learner, k.RUNNING_MEAN), 0.0)
    blocks.fill(doubles(learner, k.RUNNING_VARIANCE), 1.0)
    blocks.fill(doubles(learner, k.DEAD), 0.0)


@kernel()
def _shuffle(order, epoch, seed, net):
    """Put the numbers of all samples in the order of an epoch, all orders being equally likely."""
    samples = order.size
    for i in range(samples):
        order[i] = i
    for i in range(samples - 1):
        j = inputs.choice(i, samples, seed, net, epoch, philox.SAMPLE_ORDER)
        order[i], order[j] = order[j], order[i]


@kernel()
def _draw(chosen, samples, step, seed, net):
    """Draw the samples of a mini-batch, each from all: a step has the counters of an epoch."""
    for b in range(chosen.size):
        word = inputs.draw(b, seed, net, step, philox.SAMPLE_ORDER)
        chosen[b] = np.int64((np.uint64(word) * np.uint64(samples)) >> np.uint64(32))


@atom
def _choose(learner, order, chosen, step):
    """Write the numbers of the samples of the mini-batch of a step."""
    course, samples = learner.course, order.size
    if course.replaced:
        _draw(chosen, samples, step, learner.seed, learner.number)
        return
    steps = samples // course.batch  # of an epoch
    if course.batch < samples and step % steps == 0:
        _shuffle(order, step // steps, learner.seed, learner.number)
    blocks.copy(stretch(order, step % steps * course.batch, course.batch), chosen)


@kernel(apart=True)
def _load(learner, x, y, chosen):
    """Take some samples as the inputs, rounded to the number format, and the targets."""
    z, aims = signal(learner, k.Z, 0, chosen.size), outputs(learner, k.TARGETS, chosen.size)
    for b in range(chosen.size):
        blocks.copy(x[chosen[b]], z[b])
        blocks.copy(y[chosen[b]], aims[b])
    round_all(flat(z), learner.problem.format)


@kernel(apart=True)
def _loss(learner, rows):
    """Return the loss of the samples at hand, and write its gradient by the outputs."""
    found, aims = outputs(learner, k.OUTPUTS, rows), outputs(learner, k.TARGETS, rows)
    blocks.copy(flat(signal(learner, k.Z, depth_of(learner), rows)), flat(found))
    return learner.loss(found, aims, outputs(learner, k.OUTPUT_GRADIENT, rows), learner.memory.no_curvature)


@kernel()
def _count_right(outputs, targets, middle):
    """Return how many samples have the largest output where the target is; of one output, on the target's side."""
    right = 0
    for b in range(outputs.shape[0]):
        if outputs.shape[1] == 1:
            right += (outputs[b, 0] > middle) == (targets[b, 0] > 0.5)
        else:
            right += np.argmax(outputs[b]) == np.argmax(targets[b])
    return right


@kernel(apart=True)
def _judge(learner, watch, x, y, numbers, noting):
    """Return loss and accuracy of all samples, as they are evaluated; note which units are alive, if asked to."""
    samples, total, right = x.shape[0], 0.0, 0
    for first in range(0, samples, learner.problem.rows):
        rows = min(learner.problem.rows, samples - first)
        for b in range(rows):
            numbers[b] = first + b
        _load(learner, x, y, stretch(numbers, np.int64(0), rows))
        pass_forward(learner, k.SEEN, rows, True)
        total += _loss(learner, rows) * rows
        if watch.classes:
            right += _count_right(outputs(learner, k.OUTPUTS, rows), outputs(learner, k.TARGETS, rows), watch.middle)
        if noting:
            t.note_alive(learner, rows)
    return total / samples, right / samples if watch.classes else math.nan


@kernel(apart=True)
def _record_losses(learner, watch, x, y, test_x, test_y, numbers, first, rows):
    """Write losses and accuracies of all samples, and what is dead on them."""
    if watch.dead:
        blocks.fill(doubles(learner, k.ALIVE), 0.0)
    if watch.whole:
        rows[0, t.LOSS], rows[0, t.ACCURACY] = _judge(learner, watch, x, y, numbers, watch.dead)
    if watch.dead:
        t.record_dead(learner, rows, first)
    if watch.test:
        rows[0, t.TEST_LOSS], rows[0, t.TEST_ACCURACY] = _judge(learner, watch, test_x, test_y, numbers, False)


@kernel(apart=True)
def _record_drift(learner, x, y, chosen, first, step, recorded, rows):
    """Write the drift from weights, batches and both; before the first step, keep what it is taken from."""
    if step == 0:
        _load(learner, x, y, first)
        pass_forward(learner, k.SEEN, first.size, False)
        drift.keep_reference(learner)
    for cause in range(3 if recorded else 0):  # as in DRIFTS
        _load(learner, x, y, first if cause == 0 else chosen)
        pass_forward(learner, k.START if cause == 1 else k.SEEN, chosen.size, False)
        drift.record_drift(learner, rows, t.DRIFT + 3 * cause)


@atom
def _pass_back(learner, to_inputs):
    """Write the gradient of the loss of the mini-batch by all parameters."""
    rows = learner.course.batch
    dz, gradient = signal(learner, k.DZ, depth_of(learner), rows), outputs(learner, k.OUTPUT_GRADIENT, rows)
    factor = math.ldexp(1.0, learner.problem.format.loss_exponent)
    for b in range(rows):
        for j in range(dz.shape[1]):
            dz[b, j] = factor * gradient[b, j]
    if learner.problem.gates > 0:
        recurrent_propagation.pass_back(learner, k.SEEN, rows)
    else:
        propagation.pass_back(learner, k.SEEN, rows, to_inputs)


@atom
def _record_signals(learner, watch, rows):
    """Write what is wanted of the signals of the mini-batch."""
    if learner.problem.gates > 0:
        recurrent_propagation.record_signals(learner, watch, rows)
    else:
        record_signals(learner, watch, k.SEEN, rows)


@atom
def _measure(learner, path, follow):
    """Write the squared norm of the gradient and its product with the one before, of all layers and the whole."""
    path.squares[0], path.products[0] = 0.0, 0.0
    for l in range(1, path.squares.size):
        gradient = moving(learner, k.GRADIENT, l)
        if follow:
            path.squares[l], path.products[l], _ = blocks.inner_products(gradient, moving(learner, k.BEFORE, l))
        else:
            path.squares[l] = blocks.dot(gradient, gradient)
        path.squares[0] += path.squares[l]
        path.products[0] += path.products[l]
    for l in range(path.squares.size if follow else 0):
        if path.last[l] > 0 and path.squares[l] > 0:
            path.cosines[l] += cosine(path.last[l], path.products[l], path.squares[l])
            path.pairs[l] += 1


@kernel(apart=True)
def _follow(learner, path):
    """Add the step that has just been taken, and keep the gradient as the one before."""
    whole, moved_squares, squares = 0.0, 0.0, 0.0
    for l in range(1, path.length.size):
        at, previous = moving(learner, k.PARAMETERS, l), moving(learner, k.PREVIOUS, l)
        step = squared_distance(at, previous)
        w, w_previous = flat(weights_of(learner, k.PARAMETERS, l)), flat(weights_of(learner, k.PREVIOUS, l))
        moved, size = squared_distance(w, w_previous), blocks.inner_products(w_previous, w_previous)[0]
        path.ratio[l] = math.sqrt(moved / size) if size > 0 else math.nan
        path.length[l] += math.sqrt(step)
        path.last[l] = path.squares[l]
        whole += step
        moved_squares += moved
        squares += size
    path.length[0] += math.sqrt(whole)
    path.ratio[0] = math.sqrt(moved_squares / squares) if squares > 0 else math.nan
    path.last[0] = path.squares[0]


@kernel(apart=True)
def _clip(learner, path, counts, rows, recorded):
    """Clip the gradient, count, and write what is recorded of it."""
    updates.clip(learner, path.squares, counts)
    blocks.fill(counts[0], 0.0)
    for l in range(1, counts.shape[0]):
        for column in range(counts.shape[1]):
            counts[0, column] += counts[l, column]
    for l in range(counts.shape[0]):
        path.engaged[l] += counts[l, updates.CLIPPED] > 0
        if recorded:
            before, after, both = counts[l, updates.BEFORE], counts[l, updates.AFTER], counts[l, updates.BOTH]
            rows[l, t.CLIP_COSINE] = cosine(before, both, after) if before > 0 and after > 0 else math.nan
            if l > 0:
                rows[l, t.CLIPPED_FRACTION] = counts[l, updates.CLIPPED] / counts[l, updates.ALL]


@kernel(apart=True)
def _finish(learner, path, counts, step, watch, rows):
    """Write what is known of the net behind its gradient."""
    for l in range(path.squares.size):
        rows[l, t.GRADIENT_NORM] = math.sqrt(path.squares[l])
        if learner.course.clip.kind != NONE:
            rows[l, t.CLIP_ENGAGEMENT] = path.engaged[l] / (step + 1)
    if watch.paths:
        t.record_path(learner, rows, path)
    if watch.units:
        t.record_units_of(learner, rows)


@atom
def _keep_running(learner, out):
    """Write running means and behind them variances."""
    size = doubles(learner, k.RUNNING_MEAN).size
    blocks.copy(doubles(learner, k.RUNNING_MEAN), stretch(out, np.int64(0), size))
    blocks.copy(doubles(learner, k.RUNNING_VARIANCE), stretch(out, np.int64(size), size))


def _train(
    first_net, seed, normal, activation, output_activation, weights, bias_law, loss, optimizer, problem, course, watch,
    memory, inputs, targets, test_inputs, test_targets, record, signals, diverged, kept, kept_running,
):  # fmt: skip
    layers = problem.layout.shape[1]
    path = Path(
        np.empty(layers), np.empty(layers), np.empty(layers), np.empty(layers), np.empty(layers), np.empty(layers),
        np.empty(layers), np.empty(layers),
    )  # fmt: skip
    counts = np.empty((layers, updates.COUNTED))
    order, numbers = np.arange(inputs.shape[1]), np.empty(problem.rows, np.int64)
    chosen, last = np.zeros(course.batch, np.int64), np.empty(course.batch, np.int64)
    first = np.empty(course.batch, np.int64)
    for index in range(record.shape[0]):
        learner = make_learner(
            seed, first_net + index, normal, activation, output_activation, weights, bias_law, loss, optimizer, problem,
            course, memory,
        )  # fmt: skip
        own = index if inputs.shape[0] > 1 else 0
        x, y = borrow(inputs)[own], borrow(targets)[own]
        _start(learner)
        for each in path:
            blocks.fill(each, 0.0)
        blocks.fill(path.ratio, math.nan)
        time = 0
        for step in range(course.steps + 1):
            recorded = time < watch.times.size and watch.times[time] == step
            rows = borrow(record)[index, time if recorded else 0]
            blocks.copy(chosen, last)
            _choose(learner, order, chosen, step)
            if step == 0:
                blocks.copy(chosen, first)
            if recorded:
                _record_losses(learner, watch, x, y, test_inputs, test_targets, numbers, time == 0, rows)
                if watch.last and step > 0:
                    _load(learner, x, y, last)
                    pass_forward(learner, k.SEEN, course.batch, False)
                    rows[0, t.LAST_BATCH_LOSS] = _loss(learner, course.batch)
            if watch.drift and (recorded or step == 0):
                _record_drift(learner, x, y, chosen, first, step, recorded, rows)
            _load(learner, x, y, chosen)
            pass_forward(learner, k.SEEN, course.batch, False)
            batch_loss = _loss(learner, course.batch)
            _pass_back(learner, recorded and watch.signals)
            _measure(learner, path, watch.paths)
            if not (math.isfinite(batch_loss) and math.isfinite(path.squares[0])):
                diverged[index] = step
                if recorded:
                    rows[:] = math.nan
                break
            if recorded:
                rows[0, t.BATCH_LOSS] = batch_loss
                if watch.signals:
                    _record_signals(learner, watch, borrow(signals)[index, time])
            if watch.paths:
                blocks.copy(part(learner, k.GRADIENT), part(learner, k.BEFORE))
            if course.clip.kind != NONE:
                _clip(learner, path, counts, rows, recorded)
            if recorded:
                _finish(learner, path, counts, step, watch, rows)
                if kept.shape[0] > 0:
                    blocks.copy(part(learner, k.PARAMETERS), kept[index, time])
                if kept_running.shape[0] > 0:
                    _keep_running(learner, kept_running[index, time])
                time += 1
            if step < course.steps:
                learn_running(learner, course.batch)
                if watch.paths:
                    blocks.copy(part(learner, k.PARAMETERS), part(learner, k.PREVIOUS))
                updates.move(learner, step)
                see_parameters(learner)
                if watch.paths:
                    _follow(learner, path)


@functools.cache
def trainer(dtype: np.dtype[Any]) -> Any:
    """Return the compiled trainer of that precision; ``stabsim.training`` makes its arguments."""
    return kernel(signature(dtype), cache=f"trainer {dtype.name}")(_train)
