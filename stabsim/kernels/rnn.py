"""The RNN, h_t = f(x_t V + h_(t-1) W + b): W is drawn, products go through BLAS."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from stabsim.kernels import blocks, layer, products, recurrent, statistics
from stabsim.kernels.compile import atom, kernel
from stabsim.kernels.recurrent import DH, DS, SCRATCH, D, H, S, W
from stabsim.kernels.signature import signature
from stabsim.kernels.statistics import observe
from stabsim.kernels.views import flat

ONE_GATE = np.int64(1)
GATE = np.int64(0)
RECURRENT = np.int64(2)  # the number of W
NONE = np.int64(-1)


@atom
def add_state(net, s, t):
    """Add h W to s, which holds x V + b; return the exponent of the sum."""
    below = recurrent.state(net, t - 1)
    w = recurrent.weights(net, W, RECURRENT, ONE_GATE)
    exponent = net.exponents[S, t]
    of_product = net.exponents[H, t - 1] + net.weight_exponent[RECURRENT] if t > 1 else exponent
    if of_product == exponent:
        products.add(below, w, s)
        return exponent
    product = recurrent.at(net, SCRATCH, np.int64(0), recurrent.states(net))
    products.write(below, w, product)
    return add_product(s, exponent, product, of_product, 1.0)


@kernel()
def add_product(s, exponent, product, of_product, factor):
    """Add ``factor * product`` to s, each in its units; return the exponent of the sum."""
    largest = max(exponent, of_product)
    blocks.scale_by_power_of_two(flat(s), exponent - largest)
    blocks.scale_by_power_of_two(flat(product), of_product - largest)
    blocks.combine(1.0, flat(s), factor, flat(product), flat(s))
    return largest


@atom
def pass_forward(net, ask, row, t):
    """Run a time step forward, and record what is wanted of it."""
    activate(net, ask, row, t, add_state(net, recurrent.preactivation(net, GATE, t), t))


@atom
def activate(net, ask, row, t, exponent):
    """Make the state of s, which is in units of ``2**exponent``, and record what is wanted of both."""
    s, h = recurrent.preactivation(net, GATE, t), recurrent.state(net, t)
    d = recurrent.at(net, D, t - 1, recurrent.states(net))
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
    ds = recurrent.preactivation_gradient(net, DS, GATE, t)
    products.write(ds, recurrent.transposed(net, GATE), recurrent.state_gradient(net, DH, t - 1))
    return exponent + net.weight_exponent[RECURRENT]


@atom
def differentiate(net, ask, row, t, exponent):
    """Make ds of dh, which is in units of ``2**exponent``, and record what is wanted of both; return that of ds."""
    dh = recurrent.state_gradient(net, DH, t)
    ds = recurrent.preactivation_gradient(net, DS, GATE, t)
    net.exponents[DH, t] = exponent
    observe(net, ask, row, statistics.ACTIVATION_GRADIENT, t, dh, exponent)
    d = recurrent.at(net, D, t - 1, recurrent.states(net))
    exponent = layer.pass_back(row, ask.wanted, dh, d, ds, exponent)
    net.exponents[DS, t] = exponent
    observe(net, ask, row, statistics.PREACTIVATION_GRADIENT, t, ds, exponent)
    return exponent


@atom
def begin_cell(net, ask, row):
    """Do nothing: the state is all there is."""


@atom
def finish_back(net, ask, row, exponent):
    """Do nothing: the state's gradient is all there is."""


@functools.cache
def rnn_sampler(dtype: np.dtype[Any]) -> Any:
    """Return the compiled sampler of that precision; ``stabsim.plan`` makes its arguments."""
    simulate_nets = recurrent.sampler(ONE_GATE, NONE, begin_cell, pass_forward, pass_back, finish_back)
    return kernel(signature(dtype, recurrent.BUFFERS), cache=f"rnn {dtype.name}")(simulate_nets)
