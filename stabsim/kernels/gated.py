"""The steps of gated cells: LSTM and GRU, with the equations of PyTorch.

Gates are bounded, so forward there are no exponents. A gate sigma(s) comes with what it lacks to 1, sigma(-s), so that
neither tail loses digits; both are made again of s in the backward pass, which is cheaper than to keep them.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from stabsim.kernels import blocks, layer, products, recurrent, statistics
from stabsim.kernels import record as r
from stabsim.kernels.compile import CONTRACT, REASSOCIATE, atom, kernel, wide_vectors
from stabsim.kernels.elementary import exp, log1p, sigmoids
from stabsim.kernels.recurrent import DA, DC, DH, DS, RESTS, VALUES, A, C, H, S, W
from stabsim.kernels.signature import signature
from stabsim.kernels.statistics import observe
from stabsim.kernels.views import flat

# Gates by their places, in the order of PyTorch, and f of an LSTM's cell state behind them.
INPUT, FORGET, CANDIDATE, OUTPUT, OUT = (np.int64(i) for i in range(5))
RESET, UPDATE = np.int64(0), np.int64(1)
LSTM_GATES, GRU_GATES = np.int64(4), np.int64(3)
NONE = np.int64(-1)


@kernel(fastmath=CONTRACT)
def open_gate(s, gate, rest):
    """Write sigma(s), and 1 less that."""
    wide_vectors()
    for i in range(s.size):
        gate[i], rest[i] = sigmoids(s[i])


@kernel(fastmath=CONTRACT)
def multiply_3(a, b, c, out):
    """Write a b c."""
    wide_vectors()
    for i in range(out.size):
        out[i] = a[i] * b[i] * c[i]


@kernel(fastmath=CONTRACT)
def multiply_4(a, b, c, d, out):
    """Write a b c d."""
    wide_vectors()
    for i in range(out.size):
        out[i] = a[i] * b[i] * (c[i] * d[i])


@kernel(fastmath=CONTRACT)
def multiply_2(a, b, out):
    """Write a b."""
    wide_vectors()
    for i in range(out.size):
        out[i] = a[i] * b[i]


@kernel(fastmath=CONTRACT)
def mix(a, x, b, y, out):
    """Write a x + b y."""
    wide_vectors()
    for i in range(out.size):
        out[i] = a[i] * x[i] + b[i] * y[i]


@kernel(fastmath=CONTRACT)
def add_product(a, b, out):
    """Add a b."""
    wide_vectors()
    for i in range(out.size):
        out[i] += a[i] * b[i]


@kernel(fastmath=CONTRACT)
def add_product_3(a, b, c, out):
    """Add a b c."""
    wide_vectors()
    for i in range(out.size):
        out[i] += a[i] * b[i] * c[i]


@kernel(fastmath=CONTRACT)
def multiply_difference(a, x, y, b, c, out):
    """Write a (x - y) b c."""
    wide_vectors()
    for i in range(out.size):
        out[i] = a[i] * (x[i] - y[i]) * (b[i] * c[i])


@kernel(fastmath=REASSOCIATE)
def sum_of_logarithms(s):
    """Return the sum of ln sigma(s)."""
    wide_vectors()
    total = 0.0
    for i in range(s.size):
        x = s[i]
        total += np.float64((x if x < 0 else type(x)(0)) - log1p(exp(-abs(x))))
    return total


@atom
def value(net, gate):
    """Return the values of a gate."""
    return flat(recurrent.at(net, VALUES, gate, recurrent.states(net)))


@atom
def rest(net, gate):
    """Return what a gate lacks to 1; of what goes through f, f'."""
    return flat(recurrent.at(net, RESTS, gate, recurrent.states(net)))


@atom
def pre(net, gate, t):
    """Return s of a gate as a vector."""
    return flat(recurrent.preactivation(net, gate, t))


@atom
def ds_of(net, gate, t):
    """Return ds of a gate as a vector."""
    return flat(recurrent.preactivation_gradient(net, DS, gate, t))


@atom
def add_states(net, gates, several, t):
    """Add h W to s of so many gates, of ``gates`` that the cell has."""
    for gate in range(several):
        w = recurrent.weights(net, W, gates + gate + 1, gates)
        products.add(recurrent.state(net, t - 1), w, recurrent.preactivation(net, gate, t))


@atom
def pull_back(net, gates, t, below):
    """Add ds W^T of all gates to dh; the W of a GRU's candidate, the last of three, sees DA."""
    for gate in range(gates):
        last = gates == GRU_GATES and gate == gates - 1
        buffer, place = (DA, np.int64(0)) if last else (DS, np.int64(gate))
        products.add(recurrent.preactivation_gradient(net, buffer, place, t), recurrent.transposed(net, gate), below)


@atom
def show(net, ask, row, tensor, t, gates, matrix, exponent):
    """Show the values of one gate of a tensor to what wants to see them."""
    if ask.observing:
        blocks.add_to_histogram(ask.counts[tensor, t], matrix, exponent, ask.bins[tensor])
        net.statistics(tensor, matrix, exponent, 1.0 / (gates * matrix.size), row)


@atom
def record_forward(net, ask, row, t, gates):
    """Record what is wanted of gates and state."""
    wanted, shape = ask.wanted, net.shape
    h = recurrent.state(net, t)
    for gate in range(gates):
        s = recurrent.preactivation(net, gate, t)
        if wanted[r.PREACTIVATION + r.M2]:
            layer.add_powers(row, r.PREACTIVATION, wanted, flat(s), 0.0)
        show(net, ask, row, statistics.PREACTIVATION, t, gates, s, np.int64(0))
        column = r.GATE + gate * r.GATE_COLUMNS
        opened = recurrent.at(net, VALUES, gate, recurrent.states(net))
        recurrent.add_tensor(row, column, wanted, opened, np.int64(0))
        if wanted[column + r.GATE_SATURATED]:
            lower, upper = 0.0, 1.0
            if gate == CANDIDATE:
                lower = shape[layer.FAR, 0, 1] if shape[layer.FAR, 0, 0] == 0.0 else math.nan
                upper = shape[layer.FAR, 1, 1] if shape[layer.FAR, 1, 0] == 0.0 else math.nan
            count = blocks.count_saturated(flat(s), flat(opened), lower, upper, ask.saturation)
            row[column + r.GATE_SATURATED] = count / s.size
        if wanted[column + r.GATE_LOG]:
            row[column + r.GATE_LOG] = sum_of_logarithms(flat(s)) / s.size
    blocks.finish_powers(row, r.PREACTIVATION, gates * h.size, np.int64(0))
    net.exponents[S, t] = net.exponents[H, t] = 0
    layer.record_input(row, wanted, h, 0.0, np.int64(0))
    observe(net, ask, row, statistics.ACTIVATION, t, h, np.int64(0))


@atom
def record_back(net, ask, row, t, gates, exponent):
    """Record what is wanted of ds."""
    wanted = ask.wanted
    net.exponents[DS, t] = exponent
    seen = wanted[r.PREACTIVATION_GRADIENT + r.M2] or wanted[r.PREACTIVATION_GRADIENT_ZERO]
    size = 0
    for gate in range(gates):
        ds = recurrent.preactivation_gradient(net, DS, gate, t)
        size += ds.size
        if seen:
            zeros = layer.add_powers(row, r.PREACTIVATION_GRADIENT, wanted, flat(ds), 0.0)[1]
            row[r.PREACTIVATION_GRADIENT_ZERO] += zeros
        show(net, ask, row, statistics.PREACTIVATION_GRADIENT, t, gates, ds, exponent)
        column = r.GATE + gate * r.GATE_COLUMNS + r.GATE_GRADIENT
        recurrent.add_tensor(row, column, wanted, ds, exponent)
    blocks.finish_powers(row, r.PREACTIVATION_GRADIENT, size, exponent)
    row[r.PREACTIVATION_GRADIENT_ZERO] /= size


@atom
def record_state_gradient(net, ask, row, t, dh, exponent):
    """Record what is wanted of dh."""
    net.exponents[DH, t] = exponent
    layer.add_input_gradient(row, ask.wanted, dh)
    layer.finish_input_gradient(row, dh.size, exponent)
    observe(net, ask, row, statistics.ACTIVATION_GRADIENT, t, dh, exponent)


@kernel()
def mean_square(matrix):
    """Return the mean square."""
    return blocks.power_sums_2(flat(matrix), 0.0)[1] / matrix.size


@atom
def open_lstm(net, t):
    """Write the gates of an LSTM at a time step."""
    for gate in (INPUT, FORGET, OUTPUT):
        open_gate(pre(net, gate, t), value(net, gate), rest(net, gate))
    net.activation(pre(net, CANDIDATE, t), value(net, CANDIDATE), rest(net, CANDIDATE))


@atom
def cell_state(net, t):
    """Return c of a time step."""
    return recurrent.at(net, C, t, recurrent.states(net))


@atom
def begin_lstm(net, ask, row):
    """Write the initial state of the cell, and record it."""
    c = cell_state(net, np.int64(0))
    blocks.fill(flat(c), c.dtype.type(0))
    recurrent.add_tensor(row, r.CELL_STATE, ask.wanted, c, np.int64(0))


@atom
def lstm_forward(net, ask, row, t):
    """Run a time step forward: c = forget * c + input * candidate, h = output * f(c)."""
    add_states(net, LSTM_GATES, LSTM_GATES, t)
    open_lstm(net, t)
    c = flat(cell_state(net, t))
    mix(value(net, FORGET), flat(cell_state(net, t - 1)), value(net, INPUT), value(net, CANDIDATE), c)
    net.activation(c, value(net, OUT), rest(net, OUT))
    multiply_2(value(net, OUTPUT), value(net, OUT), flat(recurrent.state(net, t)))
    recurrent.add_tensor(row, r.CELL_STATE, ask.wanted, cell_state(net, t), np.int64(0))
    record_forward(net, ask, row, t, LSTM_GATES)


@atom
def lstm_back(net, ask, row, t, exponent):
    """Run a time step backward; dh and dc have one exponent."""
    dh, dc = recurrent.state_gradient(net, DH, t), recurrent.state_gradient(net, DC, t)
    below, dc_below = recurrent.state_gradient(net, DH, t - 1), recurrent.state_gradient(net, DC, t - 1)
    record_state_gradient(net, ask, row, t, dh, exponent)
    if t == recurrent.steps(net):
        blocks.fill(flat(dc), dc.dtype.type(0))
    open_lstm(net, t)
    net.activation(flat(cell_state(net, t)), value(net, OUT), rest(net, OUT))
    add_product_3(flat(dh), value(net, OUTPUT), rest(net, OUT), flat(dc))
    net.exponents[DC, t] = exponent
    recurrent.add_tensor(row, r.CELL_STATE_GRADIENT, ask.wanted, dc, exponent)
    multiply_4(flat(dh), value(net, OUT), value(net, OUTPUT), rest(net, OUTPUT), ds_of(net, OUTPUT, t))
    multiply_4(flat(dc), value(net, CANDIDATE), value(net, INPUT), rest(net, INPUT), ds_of(net, INPUT, t))
    before = flat(cell_state(net, t - 1))
    multiply_4(flat(dc), before, value(net, FORGET), rest(net, FORGET), ds_of(net, FORGET, t))
    multiply_3(flat(dc), value(net, INPUT), rest(net, CANDIDATE), ds_of(net, CANDIDATE, t))
    record_back(net, ask, row, t, LSTM_GATES, exponent)
    multiply_2(flat(dc), value(net, FORGET), flat(dc_below))
    blocks.fill(flat(below), below.dtype.type(0))
    pull_back(net, LSTM_GATES, t, below)
    by = layer.far_from_one(max(mean_square(below), mean_square(dc_below)))
    blocks.scale_by_power_of_two(flat(below), -by)
    blocks.scale_by_power_of_two(flat(dc_below), -by)
    return exponent + by


@atom
def finish_lstm(net, ask, row, exponent):
    """Record dc of the initial state."""
    net.exponents[DC, 0] = exponent
    dc = recurrent.state_gradient(net, DC, np.int64(0))
    recurrent.add_tensor(row, r.CELL_STATE_GRADIENT, ask.wanted, dc, exponent)


@atom
def open_gru(net, t):
    """Write the gates of a GRU at a time step, given s of all."""
    open_gate(pre(net, RESET, t), value(net, RESET), rest(net, RESET))
    open_gate(pre(net, UPDATE, t), value(net, UPDATE), rest(net, UPDATE))
    net.activation(pre(net, CANDIDATE, t), value(net, CANDIDATE), rest(net, CANDIDATE))


@atom
def gru_forward(net, ask, row, t):
    """Run a time step forward: h = (1 - update) * candidate + update * h."""
    add_states(net, GRU_GATES, GRU_GATES - 1, t)
    below = recurrent.state(net, t - 1)
    a = recurrent.at(net, A, t - 1, recurrent.states(net))
    products.write(below, recurrent.weights(net, W, np.int64(2 * GRU_GATES), GRU_GATES), a)
    open_gate(pre(net, RESET, t), value(net, RESET), rest(net, RESET))
    add_product(value(net, RESET), flat(a), pre(net, CANDIDATE, t))
    open_gru(net, t)
    h = flat(recurrent.state(net, t))
    mix(rest(net, UPDATE), value(net, CANDIDATE), value(net, UPDATE), flat(below), h)
    record_forward(net, ask, row, t, GRU_GATES)


@atom
def gru_back(net, ask, row, t, exponent):
    """Run a time step backward."""
    dh, below = recurrent.state_gradient(net, DH, t), recurrent.state_gradient(net, DH, t - 1)
    record_state_gradient(net, ask, row, t, dh, exponent)
    open_gru(net, t)
    a, before = recurrent.at(net, A, t - 1, recurrent.states(net)), flat(recurrent.state(net, t - 1))
    da = flat(recurrent.preactivation_gradient(net, DA, np.int64(0), t))
    ds = ds_of(net, CANDIDATE, t)
    multiply_difference(
        flat(dh), before, value(net, CANDIDATE), value(net, UPDATE), rest(net, UPDATE), ds_of(net, UPDATE, t)
    )
    multiply_3(flat(dh), rest(net, UPDATE), rest(net, CANDIDATE), ds)
    multiply_2(ds, value(net, RESET), da)
    multiply_4(ds, flat(a), value(net, RESET), rest(net, RESET), ds_of(net, RESET, t))
    record_back(net, ask, row, t, GRU_GATES, exponent)
    multiply_2(flat(dh), value(net, UPDATE), flat(below))
    pull_back(net, GRU_GATES, t, below)
    by = layer.far_from_one(mean_square(below))
    blocks.scale_by_power_of_two(flat(below), -by)
    return exponent + by


@atom
def nothing_at_start(net, ask, row):
    """Do nothing: the state is all there is."""


@atom
def nothing_at_end(net, ask, row, exponent):
    """Do nothing: the state's gradient is all there is."""


@functools.cache
def lstm_sampler(dtype: np.dtype[Any]) -> Any:
    """Return the compiled sampler of LSTMs of that precision; ``stabsim.plan`` makes its arguments."""
    simulate_nets = recurrent.sampler(LSTM_GATES, NONE, begin_lstm, lstm_forward, lstm_back, finish_lstm)
    return kernel(signature(dtype, recurrent.BUFFERS), cache=f"lstm {dtype.name}")(simulate_nets)


@functools.cache
def gru_sampler(dtype: np.dtype[Any]) -> Any:
    """Return the compiled sampler of GRUs of that precision; ``stabsim.plan`` makes its arguments."""
    simulate_nets = recurrent.sampler(GRU_GATES, CANDIDATE, nothing_at_start, gru_forward, gru_back, nothing_at_end)
    return kernel(signature(dtype, recurrent.BUFFERS), cache=f"gru {dtype.name}")(simulate_nets)
