"""The RNN, h_t = f(x_t V + h_(t-1) W + b): W is drawn, products go through BLAS."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from stabsim.kernels import layer, products, recurrent, statistics
from stabsim.kernels.compile import atom, kernel
from stabsim.kernels.recurrent import DH, DS, D, H, S, W
from stabsim.kernels.signature import signature
from stabsim.kernels.statistics import observe

ONE_GATE, GATE = np.int64(1), np.int64(0)
OF_INPUT, OF_STATE = 1, 2  # numbers of V and W


@atom
def preactivate(net, s, t):
    """Write s = x V + h W + b; return its exponent."""
    of_inputs = net.exponents[recurrent.X, t] + net.weight_exponent[OF_INPUT]
    of_state = net.exponents[H, t - 1] + net.weight_exponent[OF_STATE]
    exponent = max(of_inputs, of_state)
    if exponent < recurrent.NOTHING // 2:
        exponent = np.int64(0)
    both = recurrent.put_together(net, t, of_inputs - exponent, of_state - exponent)
    products.write(both, recurrent.matrix(net, W, GATE), s)
    if not recurrent.biased(net, GATE):
        return exponent
    layer.add_bias(s, recurrent.bias(net, GATE), exponent)
    return max(exponent, 0)


@atom
def pass_forward(net, ask, row, t):
    """Run a time step forward, and record what is wanted of it."""
    s = recurrent.preactivation(net, ONE_GATE, GATE, t)
    activate(net, ask, row, t, s, preactivate(net, s, t))


@atom
def activate(net, ask, row, t, s, exponent):
    """Make the state of s, which is in units of ``2**exponent``, and record what is wanted of both."""
    h, d = recurrent.state(net, t), recurrent.at(net, D, t - 1, net.widths[1])
    net.exponents[S, t] = exponent
    observe(net, ask, row, statistics.PREACTIVATION, t, s, exponent)
    # As in ``batch.pass_forward``: where units are not 1 and f is curved, it is evaluated by the size of each sample.
    by_sample = exponent != 0 and not net.homogeneous
    h_exponent = exponent
    if by_sample:
        h_exponent = layer.exponent_after(layer.choose_regime(s, net.shape, exponent), exponent)
    step = np.int64(1) if by_sample else net.batch
    squares = 0.0
    for first in range(0, net.batch, step):
        part = s[first : first + step]
        regime = layer.choose_regime(part, net.shape, exponent) if by_sample else np.int64(layer.CURVE)
        squares += layer.activate(
            row, ask.wanted, regime, net.activation, net.shape, ask.saturation, ask.pivots[t], part,
            h[first : first + step], d[first : first + step], exponent, h_exponent,
        )  # fmt: skip
    layer.finish_activation(row, ask.wanted, h, d, exponent, h_exponent)
    net.exponents[H, t] = h_exponent + layer.normalize(h, squares / h.size)
    observe(net, ask, row, statistics.ACTIVATION, t, h, net.exponents[H, t])
    observe(net, ask, row, statistics.DERIVATIVE, t, d, np.int64(0))


@atom
def pass_back(net, ask, row, t, exponent):
    """Run a time step backward, and record what is wanted of it; return the exponent of the gradient below."""
    exponent = differentiate(net, ask, row, t, exponent)
    ds = recurrent.preactivation_gradient(net, DS, ONE_GATE, t)
    recurrent.pull_back(net, ONE_GATE, ds, recurrent.state_gradient(net, DH, t - 1))
    return exponent + net.weight_exponent[OF_STATE]


@atom
def differentiate(net, ask, row, t, exponent):
    """Make ds of dh, which is in units of ``2**exponent``, and record what is wanted of both; return that of ds."""
    dh = recurrent.state_gradient(net, DH, t)
    ds = recurrent.preactivation_gradient(net, DS, ONE_GATE, t)
    net.exponents[DH, t] = exponent
    observe(net, ask, row, statistics.ACTIVATION_GRADIENT, t, dh, exponent)
    exponent = layer.pass_back(row, ask.wanted, dh, recurrent.at(net, D, t - 1, net.widths[1]), ds, exponent)
    net.exponents[DS, t] = exponent
    observe(net, ask, row, statistics.PREACTIVATION_GRADIENT, t, ds, exponent)
    return exponent


@functools.cache
def rnn_sampler(dtype: np.dtype[Any]) -> Any:
    """Return the compiled sampler of that precision; ``stabsim.plan`` makes its arguments."""
    simulate_nets = recurrent.sampler(
        ONE_GATE, DS, recurrent.nothing_at_start, pass_forward, pass_back, recurrent.nothing_at_end
    )
    return kernel(signature(dtype, recurrent.BUFFERS), cache=f"rnn {dtype.name}")(simulate_nets)
