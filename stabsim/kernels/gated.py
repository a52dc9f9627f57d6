"""The steps of gated cells: LSTM and GRU, with the equations of PyTorch.

Gates are bounded, so forward there are no exponents: where f is not bounded (ReLU), states may leave the range of the
precision, and nets whose states do are left out, as those of a user's own f without asymptotes are. A gate sigma(s)
comes with what it lacks to 1, sigma(-s), so that neither tail loses digits; both are made again of s in the backward
pass, which is cheaper than to keep them.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from stabsim.kernels import blocks, layer, products, recurrent, statistics
from stabsim.kernels import record as r
from stabsim.kernels.compile import CONTRACT, atom, kernel, wide_vectors
from stabsim.kernels.elementary import exp, log1p, sigmoids
from stabsim.kernels.recurrent import ALL, DA, DC, DH, DS, GATES, A, C, H, S, W
from stabsim.kernels.signature import signature
from stabsim.kernels.statistics import observe
from stabsim.kernels.views import flat

LSTM_GATES, GRU_GATES = np.int64(4), np.int64(3)
# Gates by their places, in the order of PyTorch, and f of an LSTM's cell state behind them.
INPUT, FORGET, CANDIDATE, OUTPUT, OUT = (np.int64(i) for i in range(5))
RESET, UPDATE = np.int64(0), np.int64(1)
RESTS, GRADIENTS, PLACES = np.int64(5), np.int64(10), 14  # in the buffer of gates, behind their values


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


@kernel(fastmath=CONTRACT)
def logarithms(s, out):
    """Write ln sigma(s)."""
    wide_vectors()
    for i in range(s.size):
        x = s[i]
        out[i] = (x if x < 0 else type(x)(0)) - log1p(exp(-abs(x)))


@atom
def place(net, number):
    """Return a matrix (batch, state) that gates are worked on in."""
    return recurrent.at(net, GATES, number, net.widths[1])


@atom
def value(net, gate):
    """Return the values of a gate."""
    return flat(place(net, gate))


@atom
def rest(net, gate):
    """Return what a gate lacks to 1; of what goes through f, f'."""
    return flat(place(net, RESTS + gate))


@atom
def gradient(net, gate):
    """Return ds of a gate."""
    return flat(place(net, GRADIENTS + gate))


@atom
def add_bias(net, gate, s):
    """Add the biases of a gate to s, if it has any."""
    if recurrent.biased(net, gate):
        blocks.add_rows(s, recurrent.bias(net, gate), s.dtype.type(1))


@atom
def preactivate(net, gates, several, t):
    """Write s = x V + h W + b of so many gates, of ``gates`` that the cell has; return x and h side by side."""
    both = recurrent.put_together(net, t, net.exponents[recurrent.X, t], ALL)
    for gate in range(several):
        s = recurrent.preactivation(net, gates, gate, t)
        products.write(both, recurrent.matrix(net, W, gate), s)
        add_bias(net, gate, s)
    return both


@atom
def activate(net, s, number):
    """Write f(s) and f'(s)."""
    net.activation(flat(s), value(net, number), rest(net, number))


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
        s = recurrent.preactivation(net, gates, gate, t)
        if wanted[r.PREACTIVATION + r.M2]:
            layer.add_powers(row, r.PREACTIVATION, wanted, flat(s), 0.0)
        show(net, ask, row, statistics.PREACTIVATION, t, gates, s, np.int64(0))
        column = r.GATE + gate * r.GATE_COLUMNS
        opened = place(net, gate)
        recurrent.add_tensor(row, column, wanted, opened, np.int64(0))
        if wanted[column + r.GATE_SATURATED]:
            lower, upper = 0.0, 1.0
            if gate == CANDIDATE:
                lower = shape[layer.FAR, 0, 1] if shape[layer.FAR, 0, 0] == 0.0 else math.nan
                upper = shape[layer.FAR, 1, 1] if shape[layer.FAR, 1, 0] == 0.0 else math.nan
            count = blocks.count_saturated(flat(s), flat(opened), lower, upper, ask.saturation)
            row[column + r.GATE_SATURATED] = count / s.size
        if wanted[column + r.GATE_LOG]:
            logarithms(flat(s), gradient(net, gate))  # which is free in the forward pass
            row[column + r.GATE_LOG] = blocks.power_sums_2(gradient(net, gate), 0.0)[0] / s.size
    blocks.finish_powers(row, r.PREACTIVATION, gates * h.size, np.int64(0))
    net.exponents[S, t] = net.exponents[H, t] = 0
    layer.record_input(row, wanted, h, 0.0, np.int64(0))
    observe(net, ask, row, statistics.ACTIVATION, t, h, np.int64(0))


@atom
def record_back(net, ask, row, t, gates, exponent):
    """Put ds of all gates side by side, and record what is wanted of it."""
    wanted, units = ask.wanted, net.widths[1]
    ds = recurrent.preactivation_gradient(net, DS, gates, t)
    for gate in range(gates):
        of_gate = place(net, GRADIENTS + gate)
        recurrent.put(of_gate, ds, gate * units, ALL)
        column = r.GATE + gate * r.GATE_COLUMNS + r.GATE_GRADIENT
        recurrent.add_tensor(row, column, wanted, of_gate, exponent)
    net.exponents[DS, t] = exponent
    if wanted[r.PREACTIVATION_GRADIENT + r.M2] or wanted[r.PREACTIVATION_GRADIENT_ZERO]:
        zeros = layer.add_powers(row, r.PREACTIVATION_GRADIENT, wanted, flat(ds), 0.0)[1]
        blocks.finish_powers(row, r.PREACTIVATION_GRADIENT, ds.size, exponent)
        row[r.PREACTIVATION_GRADIENT_ZERO] += zeros / ds.size
    show(net, ask, row, statistics.PREACTIVATION_GRADIENT, t, np.int64(1), ds, exponent)
    return ds


@kernel()
def mean_square(matrix):
    """Return the mean square."""
    return blocks.power_sums_2(flat(matrix), 0.0)[1] / matrix.size


@kernel()
def rescale(one, other):
    """Bring back to about 1 the larger of two matrices, if it is far from it, and both by the same power of two."""
    by = layer.far_from_one(max(mean_square(one), mean_square(other)))
    blocks.scale_by_power_of_two(flat(one), -by)
    blocks.scale_by_power_of_two(flat(other), -by)
    return by


@atom
def open_lstm(net, t):
    """Write the gates of an LSTM at a time step."""
    for gate in (INPUT, FORGET, OUTPUT):
        s = recurrent.preactivation(net, LSTM_GATES, gate, t)
        open_gate(flat(s), value(net, gate), rest(net, gate))
    activate(net, recurrent.preactivation(net, LSTM_GATES, CANDIDATE, t), CANDIDATE)


@atom
def cell_state(net, t):
    """Return c of a time step."""
    return recurrent.at(net, C, t, net.widths[1])


@atom
def begin_lstm(net, ask, row):
    """Write the initial state of the cell, and record it."""
    c = cell_state(net, ALL)
    blocks.fill(flat(c), c.dtype.type(0))
    recurrent.add_tensor(row, r.CELL_STATE, ask.wanted, c, ALL)


@atom
def lstm_forward(net, ask, row, t):
    """Run a time step forward: c = forget * c + input * candidate, h = output * f(c)."""
    preactivate(net, LSTM_GATES, LSTM_GATES, t)
    open_lstm(net, t)
    c = cell_state(net, t)
    mix(value(net, FORGET), flat(cell_state(net, t - 1)), value(net, INPUT), value(net, CANDIDATE), flat(c))
    activate(net, c, OUT)
    blocks.product(value(net, OUTPUT), value(net, OUT), flat(recurrent.state(net, t)))
    recurrent.add_tensor(row, r.CELL_STATE, ask.wanted, c, ALL)
    record_forward(net, ask, row, t, LSTM_GATES)


@atom
def lstm_back(net, ask, row, t, exponent):
    """Run a time step backward; dh and dc have one exponent."""
    dh, dc = recurrent.state_gradient(net, DH, t), recurrent.state_gradient(net, DC, t)
    below, dc_below = recurrent.state_gradient(net, DH, t - 1), recurrent.state_gradient(net, DC, t - 1)
    recurrent.record_state_gradient(net, ask, row, t, dh, exponent)
    if t == net.widths.size - 1:
        blocks.fill(flat(dc), dc.dtype.type(0))
    open_lstm(net, t)
    activate(net, cell_state(net, t), OUT)
    add_product_3(flat(dh), value(net, OUTPUT), rest(net, OUT), flat(dc))
    net.exponents[DC, t] = exponent
    recurrent.add_tensor(row, r.CELL_STATE_GRADIENT, ask.wanted, dc, exponent)
    multiply_4(flat(dh), value(net, OUT), value(net, OUTPUT), rest(net, OUTPUT), gradient(net, OUTPUT))
    multiply_4(flat(dc), value(net, CANDIDATE), value(net, INPUT), rest(net, INPUT), gradient(net, INPUT))
    before = flat(cell_state(net, t - 1))
    multiply_4(flat(dc), before, value(net, FORGET), rest(net, FORGET), gradient(net, FORGET))
    multiply_3(flat(dc), value(net, INPUT), rest(net, CANDIDATE), gradient(net, CANDIDATE))
    blocks.product(flat(dc), value(net, FORGET), flat(dc_below))
    ds = record_back(net, ask, row, t, LSTM_GATES, exponent)
    recurrent.pull_back(net, LSTM_GATES, ds, below)
    return exponent + rescale(below, dc_below)


@atom
def finish_lstm(net, ask, row, exponent):
    """Record dc of the initial state."""
    net.exponents[DC, 0] = exponent
    dc = recurrent.state_gradient(net, DC, ALL)
    recurrent.add_tensor(row, r.CELL_STATE_GRADIENT, ask.wanted, dc, exponent)


@atom
def open_gru(net, gate, t):
    """Write a gate of a GRU at a time step."""
    open_gate(flat(recurrent.preactivation(net, GRU_GATES, gate, t)), value(net, gate), rest(net, gate))


@atom
def product_with_state(net, t):
    """Return h W of the candidate of a GRU."""
    return recurrent.at(net, A, t - 1, net.widths[1])


@atom
def gru_forward(net, ask, row, t):
    """Run a time step forward: h = (1 - update) * candidate + update * h."""
    both = preactivate(net, GRU_GATES, GRU_GATES - 1, t)
    open_gru(net, RESET, t)
    open_gru(net, UPDATE, t)
    inputs, of_candidate = net.widths[0], recurrent.matrix(net, W, CANDIDATE)
    s, a = recurrent.preactivation(net, GRU_GATES, CANDIDATE, t), product_with_state(net, t)
    products.write(both[:, :inputs], of_candidate[:inputs], s)
    products.write(both[:, inputs:], of_candidate[inputs:], a)
    add_bias(net, CANDIDATE, s)
    add_product(value(net, RESET), flat(a), flat(s))
    activate(net, s, CANDIDATE)
    before, h = flat(recurrent.state(net, t - 1)), flat(recurrent.state(net, t))
    mix(rest(net, UPDATE), value(net, CANDIDATE), value(net, UPDATE), before, h)
    record_forward(net, ask, row, t, GRU_GATES)


@atom
def gru_back(net, ask, row, t, exponent):
    """Run a time step backward."""
    dh, below = recurrent.state_gradient(net, DH, t), recurrent.state_gradient(net, DH, t - 1)
    recurrent.record_state_gradient(net, ask, row, t, dh, exponent)
    open_gru(net, RESET, t)
    open_gru(net, UPDATE, t)
    activate(net, recurrent.preactivation(net, GRU_GATES, CANDIDATE, t), CANDIDATE)
    a, before = flat(product_with_state(net, t)), flat(recurrent.state(net, t - 1))
    of_candidate, update = gradient(net, CANDIDATE), value(net, UPDATE)
    multiply_difference(flat(dh), before, value(net, CANDIDATE), update, rest(net, UPDATE), gradient(net, UPDATE))
    multiply_3(flat(dh), rest(net, UPDATE), rest(net, CANDIDATE), of_candidate)
    multiply_4(of_candidate, a, value(net, RESET), rest(net, RESET), gradient(net, RESET))
    ds = record_back(net, ask, row, t, GRU_GATES, exponent)
    seen = recurrent.preactivation_gradient(net, DA, GRU_GATES, t)
    blocks.copy(flat(ds), flat(seen))
    da = place(net, OUT)  # which a GRU does not have
    blocks.product(of_candidate, value(net, RESET), flat(da))
    recurrent.put(da, seen, CANDIDATE * net.widths[1], ALL)
    recurrent.pull_back(net, GRU_GATES, seen, below)
    add_product(flat(dh), update, flat(below))
    return exponent + layer.normalize(below, mean_square(below))


@functools.cache
def lstm_sampler(dtype: np.dtype[Any]) -> Any:
    """Return the compiled sampler of LSTMs of that precision; ``stabsim.plan`` makes its arguments."""
    simulate_nets = recurrent.sampler(LSTM_GATES, DS, begin_lstm, lstm_forward, lstm_back, finish_lstm)
    return kernel(signature(dtype, recurrent.BUFFERS), cache=f"lstm {dtype.name}")(simulate_nets)


@functools.cache
def gru_sampler(dtype: np.dtype[Any]) -> Any:
    """Return the compiled sampler of GRUs of that precision; ``stabsim.plan`` makes its arguments."""
    simulate_nets = recurrent.sampler(
        GRU_GATES, DA, recurrent.nothing_at_start, gru_forward, gru_back, recurrent.nothing_at_end
    )
    return kernel(signature(dtype, recurrent.BUFFERS), cache=f"gru {dtype.name}")(simulate_nets)
