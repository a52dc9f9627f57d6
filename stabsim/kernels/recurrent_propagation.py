"""A recurrent net in training forward and back through time: an RNN, an LSTM or a GRU, and a layer that reads its end.

The equations are those of `rnn` and `gated`. Values are held as they are, as in `propagation`. All gates are made at
once: the inputs of all time steps by one product, the state by one a time step, and likewise dW.
"""

from __future__ import annotations

import numpy as np

from stabsim.kernels import batch, blocks, dense, layer, philox, propagation
from stabsim.kernels import learner as k
from stabsim.kernels import record as r
from stabsim.kernels.compile import CONTRACT, atom, kernel, wide_vectors
from stabsim.kernels.elementary import sigmoids
from stabsim.kernels.gated import (
    CANDIDATE,
    FORGET,
    GRU_GATES,
    INPUT,
    LSTM_GATES,
    OUT,
    OUTPUT,
    RESET,
    UPDATE,
    add_product,
    mix,
)  # fmt: skip
from stabsim.kernels.learner import bias_of, fan_in_of, part, signal, weights_of, width_of
from stabsim.kernels.views import as_matrix, flat, stretch

CELL, READOUT = np.int64(1), np.int64(2)  # layers
ALL, ONE = np.int64(0), np.int64(1)


@atom
def inputs_of(learner):
    """Return how many inputs there are at a time step."""
    return fan_in_of(learner, CELL) - fan_in_of(learner, READOUT)


@atom
def steps_of(learner):
    """Return how many time steps there are."""
    return width_of(learner, 0) // inputs_of(learner)


@atom
def at(learner, number, t, rows, width):
    """Return the matrix (rows, width) of a place in time, the first being 0."""
    return as_matrix(stretch(part(learner, number), t * rows * width, rows * width), rows, width)


@atom
def state(learner, t, rows):
    """Return h of a time step."""
    return at(learner, k.H, t, rows, fan_in_of(learner, READOUT))


@atom
def rows_of(matrix, first, rows):
    """Return some rows of a matrix."""
    width = matrix.shape[1]
    return as_matrix(stretch(flat(matrix), first * width, rows * width), rows, width)


@atom
def _of_gate(matrix, b, gate, units):
    """Return the numbers of one gate of one sample, of a matrix that has all gates side by side."""
    return stretch(flat(matrix), b * matrix.shape[1] + gate * units, units)


@atom
def _places(learner):
    """Return for how many gates values are kept: of an LSTM for f of its cell's state, too."""
    gates = learner.problem.gates
    return gates + 1 if gates == LSTM_GATES else gates


@kernel(apart=True)
def draw(learner):
    """Draw the parameters: those of the cell are the simulator's, the layer behind it has the number after them."""
    problem, seed, net = learner.problem, learner.seed, learner.number
    gates, inputs, units = problem.gates, inputs_of(learner), fan_in_of(learner, READOUT)
    w, b = weights_of(learner, k.PARAMETERS, CELL), bias_of(learner, k.PARAMETERS, CELL)
    for number in range(1, 2 * gates + 1):
        gate, first = (number - 1) % gates, ALL if number <= gates else inputs
        rows = inputs if number <= gates else units
        drawn = at(learner, k.GRADIENT, ALL, rows, units)
        batch.draw(learner.weights, drawn, seed, philox.WEIGHT, number, net, problem.weight_scale[number])
        for i in range(rows):
            blocks.copy(drawn[i], _of_gate(w, first + i, gate, units))
        if number <= gates:
            here = stretch(b, gate * units, units)
            _draw_bias(learner, here, number)
            if gate < problem.bias_mean.size:
                blocks.shift(here, problem.bias_mean[gate])
    last = 2 * gates + 1
    readout = weights_of(learner, k.PARAMETERS, READOUT)
    batch.draw(learner.weights, readout, seed, philox.WEIGHT, last, net, problem.weight_scale[last])
    _draw_bias(learner, bias_of(learner, k.PARAMETERS, READOUT), last)


@atom
def _draw_bias(learner, b, number):
    scale = learner.problem.bias_scale[number]
    blocks.fill(b, b.dtype.type(0))
    if scale != 0:
        as_row = as_matrix(b, ONE, np.int64(b.size))
        batch.draw(learner.bias_law, as_row, learner.seed, philox.BIAS, number, learner.number, scale)


@kernel(apart=True)
def _order_by_time(samples, x):
    """Write the inputs of each sample, time steps side by side, one time step below the other."""
    rows, inputs = samples.shape[0], x.shape[1]
    for t in range(x.shape[0] // rows):
        for b in range(rows):
            blocks.copy(stretch(flat(samples), b * samples.shape[1] + t * inputs, inputs), x[t * rows + b])


@kernel(fastmath=CONTRACT)
def _open(s, gate, slope):
    """Write sigma(s) and its derivative."""
    wide_vectors()
    for i in range(s.size):
        gate[i], rest = sigmoids(s[i])
        slope[i] = gate[i] * rest


@kernel(fastmath=CONTRACT)
def _interpolate(update, candidate, before, h):
    """Write (1 - update) candidate + update before."""
    wide_vectors()
    for i in range(h.size):
        h[i] = candidate[i] + update[i] * (before[i] - candidate[i])


@kernel(apart=True)
def _lstm_forward(learner, s, gates, slopes, before, c, h):
    """Run the samples through an LSTM: c = forget * c + input * candidate, h = output * f(c)."""
    units = h.shape[1]
    for b in range(s.shape[0]):
        for gate in (INPUT, FORGET, OUTPUT):
            _open(_of_gate(s, b, gate, units), _of_gate(gates, b, gate, units), _of_gate(slopes, b, gate, units))
        candidate = _of_gate(gates, b, CANDIDATE, units)
        learner.activation(_of_gate(s, b, CANDIDATE, units), candidate, _of_gate(slopes, b, CANDIDATE, units))
        of_input, forget = _of_gate(gates, b, INPUT, units), _of_gate(gates, b, FORGET, units)
        mix(forget, before[b], of_input, candidate, c[b])
        out = _of_gate(gates, b, OUT, units)
        learner.activation(c[b], out, _of_gate(slopes, b, OUT, units))
        blocks.product(_of_gate(gates, b, OUTPUT, units), out, h[b])


@kernel(fastmath=CONTRACT)
def _lstm_back(units, gates, slopes, before, dh, dc, ds):
    """Write ds of one sample, and dc of the time step before in the place of dc."""
    wide_vectors()
    for i in range(units):
        f, g, o = FORGET * units + i, CANDIDATE * units + i, OUTPUT * units + i
        out = OUT * units + i
        of_state = dc[i] + dh[i] * gates[o] * slopes[out]
        ds[o] = dh[i] * gates[out] * slopes[o]
        ds[i] = of_state * gates[g] * slopes[i]
        ds[f] = of_state * before[i] * slopes[f]
        ds[g] = of_state * gates[i] * slopes[g]
        dc[i] = of_state * gates[f]


@kernel(apart=True)
def _gru_forward(learner, s, by_state, gates, slopes, before, h):
    """Run the samples through a GRU: h = (1 - update) * candidate + update * h."""
    units = h.shape[1]
    for b in range(s.shape[0]):
        for gate in (RESET, UPDATE):
            here = _of_gate(s, b, gate, units)
            blocks.blend(1.0, here, 1.0, _of_gate(by_state, b, gate, units))
            _open(here, _of_gate(gates, b, gate, units), _of_gate(slopes, b, gate, units))
        here, candidate = _of_gate(s, b, CANDIDATE, units), _of_gate(gates, b, CANDIDATE, units)
        add_product(_of_gate(gates, b, RESET, units), _of_gate(by_state, b, CANDIDATE, units), here)
        learner.activation(here, candidate, _of_gate(slopes, b, CANDIDATE, units))
        _interpolate(_of_gate(gates, b, UPDATE, units), candidate, before[b], h[b])


@kernel(fastmath=CONTRACT)
def _gru_back(units, gates, slopes, before, dh, by_state, ds):
    """Write ds of one sample, and what W sees of it in the place of h W."""
    wide_vectors()
    for i in range(units):
        z, n = UPDATE * units + i, CANDIDATE * units + i
        of_candidate = dh[i] * (slopes.dtype.type(1) - gates[z]) * slopes[n]
        ds[i] = of_candidate * by_state[n] * slopes[i]
        ds[z] = dh[i] * (before[i] - gates[n]) * slopes[z]
        ds[n] = of_candidate
        by_state[i] = ds[i]
        by_state[z] = ds[z]
        by_state[n] = of_candidate * gates[i]


@kernel(apart=True)
def pass_forward(learner, vector, rows):
    """Run the samples in z of layer 0 forward."""
    problem = learner.problem
    gates, inputs, steps, units = problem.gates, inputs_of(learner), steps_of(learner), fan_in_of(learner, READOUT)
    w, width = weights_of(learner, vector, CELL), gates * units
    x, sums = at(learner, k.X, ALL, steps * rows, inputs), at(learner, k.SUMS, ALL, steps * rows, width)
    _order_by_time(signal(learner, k.Z, ALL, rows), x)
    batch.multiply(x, rows_of(w, ALL, inputs), sums)
    blocks.add_rows(sums, bias_of(learner, vector, CELL), sums.dtype.type(1))
    zero = sums.dtype.type(0)
    blocks.fill(flat(state(learner, ALL, rows)), zero)
    if gates == LSTM_GATES:
        blocks.fill(flat(at(learner, k.C, ALL, rows, units)), zero)
    for t in range(steps):
        s, before, h = at(learner, k.SUMS, t, rows, width), state(learner, t, rows), state(learner, t + 1, rows)
        by_state = at(learner, k.BY_STATE, t if gates == GRU_GATES else ALL, rows, width)
        values = at(learner, k.GATES, t, rows, _places(learner) * units)
        slopes = at(learner, k.SLOPES, t, rows, _places(learner) * units)
        batch.multiply(before, rows_of(w, inputs, units), by_state)
        if gates == GRU_GATES:
            _gru_forward(learner, s, by_state, values, slopes, before, h)
            continue
        blocks.blend(1.0, flat(s), 1.0, flat(by_state))
        if gates == LSTM_GATES:
            c, c_before = at(learner, k.C, t + 1, rows, units), at(learner, k.C, t, rows, units)
            _lstm_forward(learner, s, values, slopes, c_before, c, h)
        else:
            learner.activation(flat(s), flat(h), flat(slopes))
    s, z = signal(learner, k.S, READOUT, rows), signal(learner, k.Z, READOUT, rows)
    batch.multiply(state(learner, steps, rows), weights_of(learner, vector, READOUT), s)
    blocks.add_rows(s, bias_of(learner, vector, READOUT), s.dtype.type(1))
    learner.output_activation(flat(s), flat(z), flat(signal(learner, k.D, READOUT, rows)))


@kernel(apart=True)
def pass_back(learner, vector, rows):
    """Write the gradient by all parameters, given that by the outputs in dz of the last layer."""
    gates, inputs, steps = learner.problem.gates, inputs_of(learner), steps_of(learner)
    units, width = fan_in_of(learner, READOUT), gates * fan_in_of(learner, READOUT)
    ds = signal(learner, k.DS, READOUT, rows)
    blocks.product(flat(signal(learner, k.DZ, READOUT, rows)), flat(signal(learner, k.D, READOUT, rows)), flat(ds))
    dw, db = weights_of(learner, k.GRADIENT, READOUT), bias_of(learner, k.GRADIENT, READOUT)
    propagation.sum_over_samples(state(learner, steps, rows), ds, dw, db)
    dense.multiply_back(ds, weights_of(learner, vector, READOUT), at(learner, k.DH, steps, rows, units))
    w = rows_of(weights_of(learner, vector, CELL), inputs, units)
    if gates == LSTM_GATES:
        dc = at(learner, k.DC, ALL, rows, units)
        blocks.fill(flat(dc), dc.dtype.type(0))
    for t in range(steps - 1, -1, -1):
        _step_back(learner, t, rows, w)
    dw = weights_of(learner, k.GRADIENT, CELL)
    x, sums = at(learner, k.X, ALL, steps * rows, inputs), at(learner, k.SUMS, ALL, steps * rows, width)
    seen = at(learner, k.BY_STATE if gates == GRU_GATES else k.SUMS, ALL, steps * rows, width)
    propagation.sum_over_samples(x, sums, rows_of(dw, ALL, inputs), bias_of(learner, k.GRADIENT, CELL))
    np.dot(at(learner, k.H, ALL, steps * rows, units).T, seen, rows_of(dw, inputs, units))


@atom
def _step_back(learner, t, rows, w):
    """Turn the sums of a time step, the first being 0, into the gradient by them; write dh of the one before."""
    gates, units, places = learner.problem.gates, fan_in_of(learner, READOUT), _places(learner)
    s, dh = at(learner, k.SUMS, t, rows, gates * units), at(learner, k.DH, t + 1, rows, units)
    values, slopes = at(learner, k.GATES, t, rows, places * units), at(learner, k.SLOPES, t, rows, places * units)
    below = at(learner, k.DH, t, rows, units)
    if gates == GRU_GATES:
        by_state, before = at(learner, k.BY_STATE, t, rows, gates * units), state(learner, t, rows)
        for b in range(rows):
            _gru_back(units, values[b], slopes[b], before[b], dh[b], by_state[b], s[b])
        dense.multiply_back(by_state, w, below)
        for b in range(rows):
            add_product(dh[b], _of_gate(values, b, UPDATE, units), below[b])
        return
    if gates == LSTM_GATES:
        before, dc = at(learner, k.C, t, rows, units), at(learner, k.DC, ALL, rows, units)
        for b in range(rows):
            _lstm_back(units, values[b], slopes[b], before[b], dh[b], dc[b], s[b])
    else:
        blocks.product(flat(dh), flat(slopes), flat(s))
    dense.multiply_back(s, w, below)


@kernel(apart=True)
def record_signals(learner, watch, rows):
    """Write what is wanted, by time step, of the mini-batch that has just been run forward and back."""
    samples, units, wanted = learner.course.batch, fan_in_of(learner, READOUT), watch.wanted
    for t in range(rows.shape[0]):
        blocks.copy(watch.blank[t], rows[t])
        dh = at(learner, k.DH, t, samples, units)
        layer.record_input(rows[t], wanted, state(learner, t, samples), watch.pivots[t], ALL)
        layer.record_gradient(rows[t], r.ACTIVATION_GRADIENT, r.ACTIVATION_GRADIENT_ZERO, wanted, dh, ALL)
        if t > 0:
            ds = at(learner, k.SUMS, t - 1, samples, learner.problem.gates * units)
            layer.record_gradient(
                rows[t], r.PREACTIVATION_GRADIENT, r.PREACTIVATION_GRADIENT_ZERO, wanted, ds, ALL
            )  # fmt: skip
