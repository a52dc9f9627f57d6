"""Recurrent nets, forward and backward through time, with all samples of a batch together.

A layer of the record is a time step, 0 the initial state, which is 0. Matrices are numbered from 1: V of each gate,
which the inputs are multiplied with, then W of each gate, for the state before; a number is the layer in the counter
of random numbers, where inputs have their time step. All is drawn once, V of a gate above its W, so that a time step
forward is one product a gate, [x h] [V; W], and backward one with all transposes, one above the other.

Signals are kept near 1, as in ``batch``: what a buffer holds is ``value / 2**exponent``, an exponent a time step.

What a cell is, is for four functions to say:

- ``begin_cell(net, ask, row)`` writes and records what there is initially, but for h;
- ``pass_forward(net, ask, row, t)`` makes the state of time step t;
- ``pass_back(net, ask, row, t, exponent)`` makes ds of dh, and the dh below, whose exponent it returns;
- ``finish_back(net, ask, row, exponent)`` records what there is below the first time step, but for dh.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from stabsim.kernels import batch, blocks, inputs, layer, philox, products, statistics
from stabsim.kernels import record as r
from stabsim.kernels.compile import atom, kernel, wide_vectors
from stabsim.kernels.signature import make_ask, make_net
from stabsim.kernels.statistics import observe
from stabsim.kernels.views import borrow, flat, stretch

# Buffers, each with one part for all time steps.
BUFFERS = 19
X, S, H, DS, DH, DX, W, TRANSPOSED, B, DW, EXTREMES = (np.int64(i) for i in range(11))
BOTH = np.int64(11)  # x and h side by side, of one time step
SCRATCH = np.int64(12)
D = np.int64(13)  # f'(s) of an RNN
C, DC = np.int64(14), np.int64(15)  # the state of an LSTM's cell
A, DA = np.int64(16), np.int64(17)  # of a GRU: h W of the candidate; what W sees in place of ds
GATES = np.int64(18)  # of one time step, what gated cells work on
ALL = np.int64(0)

SMALLEST, LARGEST = -120, 120  # powers of two that float32 holds
NOTHING = np.int64(-(10**6))  # the exponent of x or h that are all 0, lest their unit matters


@atom
def rows_of(net, buffer, first, rows, width):
    """Return rows of that width from the first on."""
    return batch.part(net, buffer, ALL, first, first + rows, width)


@atom
def at(net, buffer, place, width):
    """Return the matrix (batch, width) at a place among those of a buffer."""
    return rows_of(net, buffer, place * net.batch, net.batch, width)


@atom
def inputs_of(net, t):
    """Return x of a time step."""
    return at(net, X, t - 1, net.widths[0])


@atom
def state(net, t):
    """Return h of a time step."""
    return at(net, H, t, net.widths[1])


@atom
def preactivation(net, gates, gate, t):
    """Return s of a gate at a time step."""
    return at(net, S, (t - 1) * gates + gate, net.widths[1])


@atom
def preactivation_gradient(net, buffer, gates, t):
    """Return ds of a time step, gates side by side; unless all are kept, there is one place."""
    return at(net, buffer, t - 1 if net.kept else ALL, gates * net.widths[1])


@atom
def input_gradient(net, t):
    """Return dx of a time step; unless all are kept, there is one place."""
    return at(net, DX, t - 1 if net.kept else ALL, net.widths[0])


@atom
def state_gradient(net, buffer, t):
    """Return dh, or dc, of a time step; unless all are kept, two take turns."""
    return at(net, buffer, t if net.keeps_s else t % 2, net.widths[1])


@atom
def fan_in(net):
    """Return how many numbers go into a gate: inputs and state."""
    return net.widths[0] + net.widths[1]


@atom
def matrix(net, buffer, gate):
    """Return V of a gate above its W."""
    return rows_of(net, buffer, gate * fan_in(net), fan_in(net), net.widths[1])


@atom
def bias(net, gate):
    """Return the biases of a gate."""
    return rows_of(net, B, gate, np.int64(1), net.widths[1])[0]


@atom
def biased(net, gate):
    """Return whether a gate has biases other than 0."""
    return net.bias_scale[gate + 1] != 0 or (gate < net.bias_mean.size and net.bias_mean[gate] != 0)


@kernel()
def transpose(matrix, out):
    """Write the transpose, as many columns at a time as fill a cache line."""
    rows, columns = matrix.shape
    for first in range(0, rows, philox.LANES):
        last = min(first + philox.LANES, rows)
        for j in range(columns):
            for i in range(first, last):
                out[j, i] = matrix[i, j]


@kernel()
def copy_times(values, factor, out):
    """Write the factor times values."""
    wide_vectors()
    for i in range(values.size):
        out[i] = factor * values[i]


@kernel()
def put(matrix, out, column, exponent):
    """Copy ``matrix * 2**exponent`` to columns of a wider matrix, from one on."""
    factor = matrix.dtype.type(blocks.times_power(1.0, min(max(exponent, SMALLEST), LARGEST)))
    rows, width = matrix.shape
    for i in range(rows):
        row = stretch(flat(out), i * out.shape[1] + column, width)
        copy_times(stretch(flat(matrix), i * width, width), factor, row)


@atom
def prepare(net, gates, backward):
    """Draw the weights and biases."""
    inputs, units = net.widths[0], net.widths[1]
    for gate in range(gates):
        v = rows_of(net, W, gate * fan_in(net), inputs, units)
        w = rows_of(net, W, gate * fan_in(net) + inputs, units, units)
        of_v, of_w = gate + 1, gates + gate + 1
        batch.draw(net.weights, v, net.seed, philox.WEIGHT, of_v, net.number, net.weight_scale[of_v])
        batch.draw(net.weights, w, net.seed, philox.WEIGHT, of_w, net.number, net.weight_scale[of_w])
        if backward:
            transpose(matrix(net, W, gate), rows_of(net, TRANSPOSED, gate * units, units, fan_in(net)))
        draw_bias(net, gate)


@atom
def draw_bias(net, gate):
    """Draw the biases of a gate, if it has any."""
    if biased(net, gate):
        b = rows_of(net, B, gate, np.int64(1), net.widths[1])
        batch.draw(net.bias_law, b, net.seed, philox.BIAS, gate + 1, net.number, net.bias_scale[gate + 1])
        if gate < net.bias_mean.size:
            blocks.shift(b[0], net.bias_mean[gate])


@kernel()
def add_tensor(row, tensor, wanted, matrix, exponent):
    """Record the powers of a tensor that is there whole, if they are wanted."""
    if wanted[tensor + r.M2]:
        layer.add_powers(row, tensor, wanted, flat(matrix), 0.0)
        blocks.finish_powers(row, tensor, matrix.size, exponent)


@atom
def begin(net, ask, row):
    """Write the initial state, and record it."""
    h = state(net, ALL)
    blocks.fill(flat(h), h.dtype.type(0))
    net.exponents[H, 0] = NOTHING
    layer.record_input(row, ask.wanted, h, 0.0, ALL)
    observe(net, ask, row, statistics.ACTIVATION, 0, h, ALL)


@atom
def put_together(net, t, of_inputs, of_state):
    """Return x and h side by side, each times a power of two."""
    both = at(net, BOTH, ALL, fan_in(net))
    put(inputs_of(net, t), both, ALL, of_inputs)
    put(state(net, t - 1), both, net.widths[0], of_state)
    return both


@atom
def record_state_gradient(net, ask, row, t, dh, exponent):
    """Record what is wanted of dh."""
    net.exponents[DH, t] = exponent
    layer.add_input_gradient(row, ask.wanted, dh)
    layer.finish_input_gradient(row, dh.size, exponent)
    observe(net, ask, row, statistics.ACTIVATION_GRADIENT, t, dh, exponent)


@atom
def pull_back(net, gates, ds, out):
    """Write ds W^T, summed over gates."""
    transposed = rows_of(net, TRANSPOSED, ALL, gates * net.widths[1], fan_in(net))
    products.write(ds, transposed[:, net.widths[0] :], out)


@atom
def pass_inputs_back(net, gates, ask, row, t):
    """Write dx = ds V^T, and record what is wanted of it, if anything is."""
    if not ask.wanted[r.INPUT_GRADIENT + r.M2]:
        return
    dx = input_gradient(net, t)
    transposed = rows_of(net, TRANSPOSED, ALL, gates * net.widths[1], fan_in(net))
    products.write(preactivation_gradient(net, DS, gates, t), transposed[:, : net.widths[0]], dx)
    net.exponents[DX, t] = net.exponents[DS, t] + net.weight_exponent[1]
    add_tensor(row, r.INPUT_GRADIENT, ask.wanted, dx, net.exponents[DX, t])


@kernel()
def common_exponent(of_ds, of_h, of_x):
    """Return the largest exponent of x^T ds and h^T ds over all time steps, and whether it is that of all."""
    top = NOTHING
    for t in range(1, of_ds.size):
        top = max(top, of_x[t] + of_ds[t], of_h[t - 1] + of_ds[t])
    uniform = True
    for t in range(1, of_ds.size):
        for exponent in (of_x[t], of_h[t - 1]):
            uniform = uniform and (exponent == NOTHING or exponent + of_ds[t] == top)
    return top, uniform


@atom
def weight_gradient(net, gates, by_state, row, wanted):
    """Form dW of all gates side by side, summed over all time steps, and record what is wanted of it.

    What W sees of ds is in buffer ``by_state``.
    """
    steps, inputs, units = np.int64(net.widths.size - 1), net.widths[0], net.widths[1]
    top, uniform = common_exponent(net.exponents[DS], net.exponents[H], net.exponents[X])
    net.exponents[DW, 1] = top
    dw = rows_of(net, DW, ALL, fan_in(net), gates * units)
    blocks.fill(flat(dw), dw.dtype.type(0))
    if uniform:
        rows = steps * net.batch
        ds, seen = rows_of(net, DS, ALL, rows, gates * units), rows_of(net, by_state, ALL, rows, gates * units)
        products.add_inner(rows_of(net, X, ALL, rows, inputs), ds, dw[:inputs])
        products.add_inner(rows_of(net, H, ALL, rows, units), seen, dw[inputs:])
    else:
        scaled = at(net, SCRATCH, ALL, gates * units)
        for t in range(1, steps + 1):
            shift = net.exponents[DS, t] - top
            put(preactivation_gradient(net, DS, gates, t), scaled, ALL, shift + net.exponents[X, t])
            products.add_inner(inputs_of(net, t), scaled, dw[:inputs])
            put(preactivation_gradient(net, by_state, gates, t), scaled, ALL, shift + net.exponents[H, t - 1])
            products.add_inner(state(net, t - 1), scaled, dw[inputs:])
    extremes = rows_of(net, EXTREMES, ALL, np.int64(2), gates * units)
    layer.record_formed_gradient(row, wanted, dw, top, extremes)


@atom
def nothing_at_start(net, ask, row):
    """Do nothing: the state is all there is."""


@atom
def nothing_at_end(net, ask, row, exponent):
    """Do nothing: the state's gradient is all there is."""


def sampler(
    gates: np.int64,
    by_state: np.int64,
    begin_cell: Callable[..., Any],
    pass_forward: Callable[..., Any],
    pass_back: Callable[..., Any],
    finish_back: Callable[..., Any],
    prepare: Callable[..., Any] = prepare,
    pass_inputs_back: Callable[..., Any] = pass_inputs_back,
    weight_gradient: Callable[..., Any] = weight_gradient,
) -> Callable[..., None]:
    """Return the function that `signature` describes, to be compiled; ``by_state`` has what W sees of ds.

    The last three do what else takes the weights, which are drawn, unless told.
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
                x = rows_of(net, X, ALL, last * net.batch, net.widths[0])
                inputs.choose_sequences(samples, net.batch, x, seed, net.number)
            begin(net, ask, rows[0])
            begin_cell(net, ask, rows[0])
            for t in range(1, last + 1):
                x = inputs_of(net, t)
                if samples.shape[0] == 0:
                    batch.draw(net.normal, x, seed, philox.INPUT, t, net.number, x.dtype.type(1))
                net.exponents[X, t] = NOTHING if blocks.all_zero(flat(x)) else given.input_exponent
                add_tensor(rows[t], r.INPUT, ask.wanted, x, given.input_exponent)
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
            for t in range(last, 0, -1):
                exponent = pass_back(net, ask, rows[t], t, exponent)
                pass_inputs_back(net, gates, ask, rows[t], t)
            record_state_gradient(net, ask, rows[0], ALL, state_gradient(net, DH, ALL), exponent)
            finish_back(net, ask, rows[0], exponent)
            if ask.weight_gradients:
                weight_gradient(net, gates, by_state, rows[1], ask.wanted)

    return simulate_nets
