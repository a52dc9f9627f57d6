"""The loss of fully connected nets as a function of their parameters, point by point: loss and gradient.

A point is the vector of all parameters: of each layer W (fan_in, fan_out), row after row, and behind it b (fan_out,),
which together are one matrix (fan_in + 1, fan_out) that acts on signals with a 1 behind them. All is float64.
"""

from __future__ import annotations

import functools
from collections import namedtuple
from typing import Any

import numpy as np
from numba import float64, int64, void

from stabsim.kernels import blocks, losses
from stabsim.kernels.compile import atom, kernel
from stabsim.kernels.pointers import reader
from stabsim.kernels.views import as_matrix, borrow, flat, stretch

# What all points have in common.
Problem = namedtuple("Problem", "widths biased activation curvature output output_curvature loss")
# The signals of one point: of all layers one after another, sample by sample.
Signals = namedtuple("Signals", "s z d c delta bend gradient curvature")

LOOP: Any = void(float64[::1], float64[::1], float64[::1])
# What makes a problem.
PROBLEM: Any = (
    int64[::1],  # widths (depth + 1,)
    int64,  # 1 where layers have biases, else 0
    int64[::1],  # addresses: of f and f' of the hidden layers, of f' and f'', of both of the last layer, of the loss
)
DATA: Any = (
    float64[:, ::1],  # inputs (samples, widths[0] + biased): with a 1 behind each
    float64[:, ::1],  # targets (samples, widths[-1])
    int64[:, ::1],  # numbers of the samples of each point (points or 1, rows)
)


_loop_at, _loss_at = reader(LOOP), reader(losses.SIGNATURE)


@atom
def make_problem(widths, biased, functions):
    """Return what all points have in common, with its array borrowed."""
    return Problem(
        borrow(widths), biased, _loop_at(functions[0]), _loop_at(functions[1]), _loop_at(functions[2]),
        _loop_at(functions[3]), _loss_at(functions[4]),
    )  # fmt: skip


@kernel()
def fans(problem, l):
    """Return rows and columns of the matrix of a layer."""
    return problem.widths[l - 1] + problem.biased, problem.widths[l]


@kernel()
def starts(problem):
    """Return where the parameters of each layer start, and behind the last where they end; layer 0 has none."""
    at = np.zeros(problem.widths.size + 1, np.int64)
    for l in range(1, problem.widths.size):
        rows, columns = fans(problem, l)
        at[l + 1] = at[l] + rows * columns
    return at


@atom
def matrix(problem, vector, at, l):
    """Return W with b below it, of a vector of parameters."""
    rows, columns = fans(problem, l)
    return as_matrix(stretch(vector, at[l], rows * columns), rows, columns)


@kernel()
def before(problem, l, wider):
    """Return how many numbers a sample has in the layers before l; with 1, those of z, which may have a 1 behind."""
    total = np.int64(0)
    for k in range(l):
        total += problem.widths[k] + problem.biased * wider
    return total


@atom
def part(problem, buffer, l, rows):
    """Return the numbers (rows, width) of a layer in a buffer."""
    width = problem.widths[l]
    return as_matrix(stretch(buffer, rows * before(problem, l, 0), rows * width), rows, width)


@atom
def inputs_of(problem, signals, l, rows):
    """Return z of a layer with the 1 behind it, (rows, width + biased): what the next layer sees."""
    width = problem.widths[l] + problem.biased
    return as_matrix(stretch(signals.z, rows * before(problem, l, 1), rows * width), rows, width)


@kernel()
def allocate(problem, rows):
    """Return buffers for so many samples."""
    layers = problem.widths.size
    size, outputs = rows * before(problem, layers, 0), problem.widths[layers - 1]
    return Signals(
        np.empty(size), np.empty(rows * before(problem, layers, 1)), np.empty(size), np.empty(size), np.empty(size),
        np.empty(size), np.empty((rows, outputs)), np.empty((rows, outputs, outputs)),
    )  # fmt: skip


@kernel()
def widen(values, out, last):
    """Copy rows, with a number behind each if there is room."""
    rows, columns = values.shape
    for b in range(rows):
        for j in range(columns):
            out[b, j] = values[b, j]
        if out.shape[1] > columns:
            out[b, columns] = last


@atom
def gather(problem, signals, inputs, targets, chosen, y):
    """Copy the samples that count: inputs to layer 0, targets to y."""
    z = inputs_of(problem, signals, 0, chosen.size)
    for b in range(chosen.size):
        blocks.copy(inputs[chosen[b]], z[b])
        blocks.copy(targets[chosen[b]], y[b])


@atom
def pass_forward(problem, signals, vector, at, rows, curved):
    """Run all samples forward: z, d = f'(s) and, if curved, c = f''(s). The outputs are left in delta."""
    depth = problem.widths.size - 1
    for l in range(1, depth + 1):
        s, z = flat(part(problem, signals.s, l, rows)), part(problem, signals.delta, l, rows)
        d, c = flat(part(problem, signals.d, l, rows)), flat(part(problem, signals.c, l, rows))
        np.dot(
            inputs_of(problem, signals, l - 1, rows), matrix(problem, vector, at, l), part(problem, signals.s, l, rows)
        )
        if l < depth:
            problem.activation(s, flat(z), d)
            if curved:
                problem.curvature(s, d, c)
            widen(z, inputs_of(problem, signals, l, rows), 1.0)
        else:
            problem.output(s, flat(z), d)
            if curved:
                problem.output_curvature(s, d, c)


@atom
def pull_back(problem, vector, at, l, ds, dz):
    """Write dz = ds W^T."""
    weights = stretch(vector, at[l], problem.widths[l - 1] * problem.widths[l])
    np.dot(ds, as_matrix(weights, problem.widths[l - 1], problem.widths[l]).T, dz)


@atom
def pass_back(problem, signals, vector, at, rows, curved):
    """Write ds = dz f'(s) of all layers and, if curved, dz f''(s), from the gradient by the outputs on."""
    depth = problem.widths.size - 1
    blocks.copy(flat(signals.gradient), flat(part(problem, signals.delta, depth, rows)))
    for l in range(depth, 0, -1):
        delta = part(problem, signals.delta, l, rows)
        if curved:
            bend = flat(part(problem, signals.bend, l, rows))
            blocks.copy(flat(delta), bend)
            blocks.multiply_in_place(bend, flat(part(problem, signals.c, l, rows)))
        blocks.multiply_in_place(flat(delta), flat(part(problem, signals.d, l, rows)))
        if l > 1:
            pull_back(problem, vector, at, l, delta, part(problem, signals.delta, l - 1, rows))


@atom
def evaluate(problem, signals, y, vector, at, curved):
    """Return the loss of the samples at hand, with its gradient and curvature by the outputs."""
    rows = y.shape[0]
    pass_forward(problem, signals, vector, at, rows, curved)
    outputs = part(problem, signals.delta, problem.widths.size - 1, rows)
    return problem.loss(outputs, y, signals.gradient, signals.curvature)


@atom
def differentiate(problem, signals, y, vector, at, whole):
    """Run forward and back with f'' too; if not whole, as if the gradient by the outputs were 0."""
    evaluate(problem, signals, y, vector, at, True)
    if not whole:
        blocks.fill(flat(signals.gradient), 0.0)
    pass_back(problem, signals, vector, at, y.shape[0], True)


def _evaluate_points(
    widths, biased, functions,
    inputs, targets, chosen, points, loss, gradient
):  # fmt: skip
    problem = make_problem(widths, biased, functions)
    at, rows = starts(problem), chosen.shape[1]
    signals, y = allocate(problem, rows), np.empty((rows, targets.shape[1]))
    for i in range(points.shape[0]):
        vector = borrow(points)[i]
        if i == 0 or chosen.shape[0] > 1:
            gather(problem, signals, inputs, targets, chosen[i], y)
        loss[i] = evaluate(problem, signals, y, vector, at, False)
        if gradient.shape[0] > 0:
            pass_back(problem, signals, vector, at, rows, False)
            for l in range(1, problem.widths.size):
                z, ds = inputs_of(problem, signals, l - 1, rows), part(problem, signals.delta, l, rows)
                np.dot(z.T, ds, matrix(problem, borrow(gradient)[i], at, l))


@functools.cache
def evaluator() -> Any:
    """Return the compiled function that writes loss (points,) and gradient (points, P), or none of it (0, 0)."""
    arguments = *PROBLEM, *DATA, float64[:, ::1], float64[::1], float64[:, ::1]
    return kernel(void(*arguments), cache="surface")(_evaluate_points)


def _outputs_of_points(
    widths, biased, functions,
    inputs, points, outputs
):  # fmt: skip
    problem = make_problem(widths, biased, functions)
    at, rows, depth = starts(problem), inputs.shape[0], problem.widths.size - 1
    signals = allocate(problem, rows)
    for i in range(points.shape[0]):
        blocks.copy(flat(inputs), flat(inputs_of(problem, signals, 0, rows)))
        pass_forward(problem, signals, borrow(points)[i], at, rows, False)
        blocks.copy(flat(part(problem, signals.delta, depth, rows)), flat(borrow(outputs)[i]))


@functools.cache
def responder() -> Any:
    """Return the compiled function that writes the outputs (points, samples, widths[-1])."""
    arguments = *PROBLEM, float64[:, ::1], float64[:, ::1], float64[:, :, ::1]
    return kernel(void(*arguments), cache="outputs")(_outputs_of_points)
