"""Recurrent nets, forward and backward through time, with all samples of a batch together.

A layer of the record is a time step, 0 the initial state, which is 0. Matrices are numbered from 1: V of each gate,
which the inputs are multiplied with, then W of each gate, for the state before; a number is the layer in the counter
of random numbers, where inputs have their time step. All is drawn once.

What depends on no state is done for many time steps at once: products of inputs with V before the first of them, and
gradients by inputs after the last. dW is formed at the end, over all of them.

Signals are kept near 1, as in ``batch``: what a buffer holds is ``value / 2**exponent``, an exponent a time step.

What a cell is, is for four functions to say:

- ``begin_cell(net, ask, row)`` writes and records what there is initially, but for h;
- ``pass_forward(net, ask, row, t)`` makes the state of time step t of pre-activations that hold x V + b;
- ``pass_back(net, ask, row, t, exponent)`` makes ds of dh, and the dh below, whose exponent it returns;
- ``finish_back(net, ask, row, exponent)`` records what there is below the first time step, but for dh.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from stabsim.kernels import batch, blocks, inputs, layer, philox, products, statistics
from stabsim.kernels import record as r
from stabsim.kernels.compile import atom, kernel
from stabsim.kernels.signature import make_ask, make_net
from stabsim.kernels.statistics import observe
from stabsim.kernels.views import borrow, flat

# Buffers, each with one part for all time steps; of gates, all of one before all of the next.
BUFFERS = 19
X, S, H, DS, DH, DX, W, TRANSPOSED, B, DW, EXTREMES, SCRATCH = (np.int64(i) for i in range(12))
D = np.int64(12)  # f'(s) of an RNN
C, DC = np.int64(13), np.int64(14)  # the state of an LSTM's cell
A, DA = np.int64(15), np.int64(16)  # h W of a GRU's candidate
VALUES, RESTS = np.int64(17), np.int64(18)  # gates of one time step, and what each lacks to 1; of f, f'
ALL = np.int64(0)


@atom
def states(net):
    """Return how many units the state has."""
    return net.widths[1]


@atom
def steps(net):
    """Return how many time steps there are."""
    return np.int64(net.widths.size - 1)


@atom
def at(net, buffer, place, width):
    """Return the matrix (batch, width) at a place among those of a buffer."""
    return batch.part(net, buffer, ALL, place * net.batch, (place + 1) * net.batch, width)


@atom
def stretch_of_steps(net, buffer, place, count, width):
    """Return the matrix of so many time steps, one above the other."""
    return batch.part(net, buffer, ALL, place * net.batch, (place + count) * net.batch, width)


@atom
def weights(net, buffer, matrix, gates):
    """Return a matrix by its number."""
    fan_in, fan_out = net.widths[0], net.widths[1]
    matrix = np.int64(matrix - 1)
    if matrix < gates:
        return _rows_from(net, buffer, matrix * fan_in, fan_in)
    return _rows_from(net, buffer, gates * fan_in + (matrix - gates) * fan_out, fan_out)


@atom
def _rows_from(net, buffer, first, rows):
    return batch.part(net, buffer, ALL, first, first + rows, net.widths[1])


@atom
def transposed(net, gate):
    """Return W^T of a gate."""
    return _rows_from(net, TRANSPOSED, gate * net.widths[1], net.widths[1])


@atom
def state(net, t):
    """Return h of a time step."""
    return at(net, H, t, states(net))


@atom
def preactivation(net, gate, t):
    """Return s of a gate at a time step."""
    return at(net, S, gate * steps(net) + t - 1, states(net))


@atom
def kept_steps(net):
    """Return of how many time steps ds and dx are kept: of all, or of those that are worked on at once."""
    return steps(net) if net.kept else net.ahead


@atom
def place_of(net, t):
    """Return where among them a time step is."""
    return (t - 1) % kept_steps(net)


@atom
def preactivation_gradient(net, buffer, gate, t):
    """Return ds of a gate at a time step."""
    return at(net, buffer, gate * kept_steps(net) + place_of(net, t), states(net))


@atom
def state_gradient(net, buffer, t):
    """Return dh, or dc, of a time step; unless all are kept, two take turns."""
    return at(net, buffer, t if net.keeps_s else t % 2, states(net))


@kernel()
def transpose(matrix, out):
    """Write the transpose."""
    for i in range(matrix.shape[0]):
        for j in range(matrix.shape[1]):
            out[j, i] = matrix[i, j]


@atom
def prepare(net, gates, backward):
    """Draw the weights and biases."""
    for matrix in range(1, 2 * gates + 1):
        scale = net.weight_scale[matrix]
        batch.draw(net.weights, weights(net, W, matrix, gates), net.seed, philox.WEIGHT, matrix, net.number, scale)
    for gate in range(gates):
        if backward:
            transpose(weights(net, W, gates + gate + 1, gates), transposed(net, gate))
    draw_biases(net, gates)


@atom
def draw_biases(net, gates):
    """Draw the biases of every gate."""
    for gate in range(gates):
        if biased(net, gate):
            b = _rows_from(net, B, gate, np.int64(1))
            batch.draw(net.bias_law, b, net.seed, philox.BIAS, gate + 1, net.number, net.bias_scale[gate + 1])
            if gate < net.bias_mean.size:
                blocks.shift(b[0], net.bias_mean[gate])


@atom
def biased(net, gate):
    """Return whether a gate has biases other than 0."""
    return net.bias_scale[gate + 1] != 0 or (gate < net.bias_mean.size and net.bias_mean[gate] != 0)


@atom
def draw_inputs(net, first, last):
    """Draw the inputs of time steps ``first`` .. ``last - 1``."""
    for t in range(first, last):
        x = at(net, X, t - 1, net.widths[0])
        batch.draw(net.normal, x, net.seed, philox.INPUT, t, net.number, x.dtype.type(1))


@atom
def project_inputs(net, gates, first, count, exponent):
    """Write x V + b of so many time steps, of inputs in units of ``2**exponent``; return their exponent."""
    x = stretch_of_steps(net, X, first - 1, count, net.widths[0])
    after = exponent
    for gate in range(gates):
        s = stretch_of_steps(net, S, gate * steps(net) + first - 1, count, states(net))
        products.write(x, weights(net, W, gate + 1, gates), s)
        after = exponent + net.weight_exponent[gate + 1]
        if gates > 1:  # gates are bounded, and see s as it is
            blocks.scale_by_power_of_two(flat(s), after)
            after = np.int64(0)
        if biased(net, gate):
            layer.add_bias(s, _rows_from(net, B, gate, np.int64(1))[0], after)
            after = max(after, 0)
    return after


@kernel()
def add_tensor(row, tensor, wanted, matrix, exponent):
    """Record the powers of a tensor that is there whole, if they are wanted."""
    if wanted[tensor + r.M2]:
        layer.add_powers(row, tensor, wanted, flat(matrix), 0.0)
        blocks.finish_powers(row, tensor, matrix.size, exponent)


@atom
def begin(net, ask, row):
    """Write the initial state, and record it."""
    h = state(net, np.int64(0))
    blocks.fill(flat(h), h.dtype.type(0))
    net.exponents[H, 0] = 0
    layer.record_input(row, ask.wanted, h, 0.0, np.int64(0))
    observe(net, ask, row, statistics.ACTIVATION, 0, h, np.int64(0))


@atom
def pass_inputs_back(net, gates, wanted, rows, first, count):
    """Write dx of time steps that have their ds, and record what is wanted of it."""
    place = place_of(net, first)
    dx = stretch_of_steps(net, DX, place, count, net.widths[0])
    for gate in range(gates):
        ds = stretch_of_steps(net, DS, gate * kept_steps(net) + place, count, states(net))
        v = weights(net, W, gate + 1, gates)
        if gate == 0:
            products.write(ds, v.T, dx)
        else:
            products.add(ds, v.T, dx)
    for t in range(first, first + count):
        record_input_gradient(net, wanted, rows[t], t)


@atom
def record_input_gradient(net, wanted, row, t):
    """Record what is wanted of dx of a time step."""
    exponent = net.exponents[DS, t] + net.weight_exponent[1]
    net.exponents[DX, t] = exponent
    add_tensor(row, r.INPUT_GRADIENT, wanted, at(net, DX, place_of(net, t), net.widths[0]), exponent)


@kernel()
def common_exponent(of_ds, of_h, of_x):
    """Return the largest exponent of x^T ds and h^T ds over all time steps, and whether it is that of all."""
    top = of_x + of_ds[1]
    least = top
    for t in range(1, of_ds.size):
        of_input = of_x + of_ds[t]
        of_state = of_h[t - 1] + of_ds[t] if t > 1 else of_input  # h_0 is 0, whatever its exponent
        top = max(top, of_input, of_state)
        least = min(least, of_input, of_state)
    return top, top == least


@atom
def weight_gradient(net, gates, row, wanted, input_exponent, candidate):
    """Form dW, summed over all time steps, and record what is wanted of it.

    ``candidate`` is the gate whose W sees another gradient than its V, that in DA; -1: none does.
    """
    last = steps(net)
    top, uniform = common_exponent(net.exponents[DS], net.exponents[H], input_exponent)
    fan_in, fan_out = net.widths[0], net.widths[1]
    both = fan_in + fan_out
    dw = _rows_from(net, DW, np.int64(0), gates * both)
    blocks.fill(flat(dw), dw.dtype.type(0))
    for gate in range(gates):
        by_input = _rows_from(net, DW, gate * both, fan_in)
        by_state = _rows_from(net, DW, gate * both + fan_in, fan_out)
        buffer, place = (DA, np.int64(0)) if gate == candidate else (DS, np.int64(gate))
        if uniform:
            products.add_inner(
                stretch_of_steps(net, X, np.int64(0), last, fan_in),
                stretch_of_steps(net, DS, gate * last, last, fan_out),
                by_input,
            )
            products.add_inner(
                stretch_of_steps(net, H, np.int64(0), last, fan_out),
                stretch_of_steps(net, buffer, place * last, last, fan_out),
                by_state,
            )
            continue
        for t in range(1, last + 1):
            shift = net.exponents[DS, t] - top
            scaled = at(net, SCRATCH, np.int64(0), fan_out)
            blocks.copy(flat(preactivation_gradient(net, DS, np.int64(gate), t)), flat(scaled))
            blocks.scale_by_power_of_two(flat(scaled), shift + input_exponent)
            products.add_inner(at(net, X, t - 1, fan_in), scaled, by_input)
            if t > 1:
                blocks.copy(flat(preactivation_gradient(net, buffer, place, t)), flat(scaled))
                blocks.scale_by_power_of_two(flat(scaled), shift + net.exponents[H, t - 1])
                products.add_inner(state(net, t - 1), scaled, by_state)
    net.exponents[DW, 1] = top
    _, zeros = layer.add_powers(row, r.WEIGHT_GRADIENT, wanted, flat(dw), 0.0)
    blocks.finish_powers(row, r.WEIGHT_GRADIENT, dw.size, top)
    if wanted[r.WEIGHT_GRADIENT_ZERO]:
        row[r.WEIGHT_GRADIENT_ZERO] = zeros / dw.size
        row[r.WEIGHT_GRADIENT_DEAD_ROW] = blocks.dead_rows(dw) / dw.shape[0] if zeros > 0 else 0.0
        extremes = batch.part(net, EXTREMES, ALL, np.int64(0), np.int64(2), gates * fan_out)
        for gate in range(gates):
            first = gate * fan_out
            lowest, highest = extremes[0][first : first + fan_out], extremes[1][first : first + fan_out]
            blocks.column_extremes(_rows_from(net, DW, gate * both, both), lowest, highest)
        blocks.record_column_signs(row, extremes[0], extremes[1])


def sampler(
    gates: np.int64,
    candidate: np.int64,
    begin_cell: Callable[..., Any],
    pass_forward: Callable[..., Any],
    pass_back: Callable[..., Any],
    finish_back: Callable[..., Any],
    prepare: Callable[..., Any] = prepare,
    project_inputs: Callable[..., Any] = project_inputs,
    pass_inputs_back: Callable[..., Any] = pass_inputs_back,
    weight_gradient: Callable[..., Any] = weight_gradient,
) -> Callable[..., None]:
    """Return the function that `signature` describes, to be compiled.

    The last four are what is done with the weights but for a time step's own products: here they are drawn.
    """

    def simulate_nets(first_net, seed, normal, activation, weights, bias_law, own, problem, given, memory, ask, record):
        ask = make_ask(ask)
        samples, output_gradient = borrow(given.inputs), borrow(given.output_gradient)
        last = np.int64(problem.widths.size - 1)
        for index in range(record.shape[0]):
            net = make_net(seed, first_net + index, normal, activation, weights, bias_law, own, problem, memory)
            rows = borrow(record)[index]
            blocks.copy(flat(ask.blank), flat(rows))
            prepare(net, gates, ask.backward)
            if samples.shape[0] > 0:
                x = stretch_of_steps(net, X, np.int64(0), last, net.widths[0])
                inputs.choose_sequences(samples, net.batch, x, seed, net.number)
            begin(net, ask, rows[0])
            begin_cell(net, ask, rows[0])
            for first in range(1, last + 1, net.ahead):
                count = min(net.ahead, last + 1 - first)
                if samples.shape[0] == 0:
                    draw_inputs(net, first, first + count)
                exponent = project_inputs(net, gates, first, count, given.input_exponent)
                for t in range(first, first + count):
                    net.exponents[X, t], net.exponents[S, t] = given.input_exponent, exponent
                    add_tensor(rows[t], r.INPUT, ask.wanted, at(net, X, t - 1, net.widths[0]), given.input_exponent)
                    pass_forward(net, ask, rows[t], t)
            if not ask.backward:
                continue
            dh = state_gradient(net, DH, last)
            if output_gradient.shape[0] > 0:
                blocks.copy(flat(output_gradient), flat(dh))
            else:
                draw = net.normal
                batch.draw(draw, dh, seed, philox.OUTPUT_GRADIENT, last, net.number, dh.dtype.type(1))
            exponent = given.gradient_exponent
            first = 1 + (last - 1) // net.ahead * net.ahead
            count = last + 1 - first
            while first > 0:
                for t in range(first + count - 1, first - 1, -1):
                    exponent = pass_back(net, ask, rows[t], t, exponent)
                if ask.wanted[r.INPUT_GRADIENT + r.M2]:
                    pass_inputs_back(net, gates, ask.wanted, rows, first, count)
                first, count = first - net.ahead, net.ahead
            dh = state_gradient(net, DH, np.int64(0))
            net.exponents[DH, 0] = exponent
            layer.add_input_gradient(rows[0], ask.wanted, dh)
            layer.finish_input_gradient(rows[0], dh.size, exponent)
            observe(net, ask, rows[0], statistics.ACTIVATION_GRADIENT, 0, dh, exponent)
            finish_back(net, ask, rows[0], exponent)
            if ask.weight_gradients:
                weight_gradient(net, gates, rows[1], ask.wanted, given.input_exponent, candidate)

    return simulate_nets
