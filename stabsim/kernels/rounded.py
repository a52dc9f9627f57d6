"""Nets in a narrow number format: numbers are held as float32, and rounded to the format after each operation.

As hardware does it: what a product of matrices takes is in the format, products and their sums are float32 (tensor
cores), the bias is added to that sum, and s is rounded once; f and f' are evaluated in float32 and rounded, and so are
ds = dz f', dz = ds W^T and dW = z^T ds. Inputs, weights, biases and the injected gradient, times the loss scale, are
rounded before they are used. Accumulators of fewer bits are not simulated. Where s is NaN, f' is what the activation
makes of it: 0 for ReLU. Nothing is kept near 1 here, since what leaves the range of the format is the point:
exponents are 0, but that gradients are those of the scaled loss, so that theirs is minus that of the scale.

A net has failed, on its way forward, where anything so far was not finite, or all activations of a layer are 0; and
on its way back where any dz or ds was not finite, or all of a layer's dz are 0.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from stabsim.kernels import batch, blocks, dense, layer, philox, statistics
from stabsim.kernels import record as r
from stabsim.kernels.compile import atom, kernel, wide_vectors
from stabsim.kernels.signature import make_ask, make_net, signature
from stabsim.kernels.statistics import observe
from stabsim.kernels.views import borrow, flat

W, DW, EXTREMES = dense.W, dense.DW, dense.EXTREMES
Z, D, S, DZ, DS, B = batch.Z, batch.D, batch.S, batch.DZ, batch.DS, batch.B

PREACTIVATION = r.ROUNDED["preactivation"]
ACTIVATION = r.ROUNDED["activation"]
PREACTIVATION_GRADIENT = r.ROUNDED["preactivation_gradient"]
ACTIVATION_GRADIENT = r.ROUNDED["activation_gradient"]
WEIGHT_GRADIENT = r.ROUNDED["weight_gradient"]

FRACTION_BITS = 23  # of float32
SIGN = np.int32(-(2**31))
SIZE = np.int32(2**31 - 1)


@kernel()
def round_to(values, form):
    """Round float32 in place to the nearest number of a format, ties to even.

    Return how many are not finite now, were not 0 and are now, are subnormal, and are 0.
    """
    wide_vectors()
    spare = np.int32(FRACTION_BITS - form.fraction_bits)
    below_half = np.int32((1 << (spare - 1)) - 1)
    kept = np.int32(-(1 << spare))
    # What is added to this and rounded by it is a multiple of the smallest subnormal number.
    coarse = np.float32(math.ldexp(1.0, form.least_exponent - form.fraction_bits + FRACTION_BITS))
    smallest_normal = np.float32(math.ldexp(1.0, form.least_exponent))
    largest = np.float32(form.largest)
    beyond = np.float32(math.inf if form.infinity else math.nan)
    not_finite = np.int32(0)
    flushed = np.int32(0)
    subnormal = np.int32(0)
    zeros = np.int32(0)
    for i in range(values.size):
        bits = np.float32(values[i]).view(np.int32)
        size_bits = np.int32(bits & SIZE)
        size = np.int32(size_bits).view(np.float32)
        odd = np.int32(np.int32(size_bits >> spare) & np.int32(1))
        normal = np.int32(np.int32(np.int32(size_bits + below_half) + odd) & kept).view(np.float32)
        near_0 = np.float32(np.float32(size + coarse) - coarse)
        y = normal if size >= smallest_normal else near_0
        y = beyond if y > largest else y
        not_finite = np.int32(not_finite + (np.int32(0) if y <= largest else np.int32(1)))
        zeros = np.int32(zeros + blocks.one_if(y == 0))
        flushed = np.int32(flushed + (np.int32(1) if y == 0 and size > 0 else np.int32(0)))
        subnormal = np.int32(subnormal + (np.int32(1) if y > 0 and y < smallest_normal else np.int32(0)))
        values[i] = np.int32(np.float32(y).view(np.int32) | np.int32(bits & SIGN)).view(np.float32)
    return not_finite, flushed, subnormal, zeros


@kernel()
def round_tensor(row, column, values, form):
    """Round a matrix and add what became of it; return whether anything is not finite, and whether all is 0."""
    not_finite, flushed, subnormal, zeros = round_to(flat(values), form)
    share = 1.0 / values.size
    row[column + r.OVERFLOW] += not_finite * share
    row[column + r.UNDERFLOW] += flushed * share
    row[column + r.SUBNORMAL] += subnormal * share
    return not_finite > 0, zeros == values.size


@kernel()
def note_failure(row, column, failed):
    """Write whether a net has failed so far."""
    row[column] += 1.0 if failed else 0.0


@kernel()
def as_it_is(_s, _z, _d):
    """Stand for an activation whose values have been written."""


@atom
def prepare(net, l):
    """Draw W and round it."""
    w = dense.weights(net, l)
    batch.draw(net.weights, w, net.seed, philox.WEIGHT, l, net.number, net.weight_scale[l])
    blocks.scale_by_power_of_two(flat(w), net.weight_exponent[l])
    round_to(flat(w), net.format)


@atom
def start(net, ask, row, given, exponent):
    """Draw or copy the inputs, round them, and record what is wanted; return whether the net has failed."""
    z = batch.draw_inputs(net, given)
    blocks.scale_by_power_of_two(flat(z), exponent)
    broken, gone = round_tensor(row, ACTIVATION, z, net.format)
    layer.record_input(row, ask.wanted, z, ask.pivots[0], np.int64(0))
    observe(net, ask, row, statistics.ACTIVATION, 0, z, np.int64(0))
    note_failure(row, r.ACTIVATION_FAILED, broken or gone)
    return broken or gone


@atom
def pass_forward(net, ask, row, l, failed):
    """Run a layer forward, and record what is wanted of it; return whether the net has failed."""
    exact = np.int64(0)
    s, z, d = batch.whole(net, S, l), batch.whole(net, Z, l), batch.whole(net, D, l)
    batch.multiply(batch.whole(net, Z, l - 1), dense.weights(net, l), s)
    if net.bias_scale[l] != 0:
        b = batch.part(net, B, l, 0, 1, net.widths[l])
        batch.draw(net.bias_law, b, net.seed, philox.BIAS, l, net.number, net.bias_scale[l])
        round_to(flat(b), net.format)
        layer.add_bias(s, b[0], exact)
    broken, _ = round_tensor(row, PREACTIVATION, s, net.format)
    observe(net, ask, row, statistics.PREACTIVATION, l, s, exact)
    net.activation(flat(s), flat(z), flat(d))
    broken_z, gone = round_tensor(row, ACTIVATION, z, net.format)
    round_to(flat(d), net.format)
    layer.activate(
        row, ask.wanted, np.int64(layer.CURVE), as_it_is, net.shape, ask.saturation, ask.pivots[l], s, z, d,
        exact, exact,
    )  # fmt: skip
    layer.finish_activation(row, ask.wanted, z, d, exact, exact)
    observe(net, ask, row, statistics.ACTIVATION, l, z, exact)
    observe(net, ask, row, statistics.DERIVATIVE, l, d, exact)
    failed = failed or broken or broken_z or gone
    note_failure(row, r.ACTIVATION_FAILED, failed)
    return failed


@atom
def inject(net, row, given, exponent):
    """Draw or copy the gradient by the outputs, scale and round it; return whether the net has failed."""
    l = net.widths.size - 1
    dz = batch.whole(net, DZ, l)
    if given.shape[0] > 0:
        blocks.copy(flat(given), flat(dz))
    else:
        batch.draw(net.normal, dz, net.seed, philox.OUTPUT_GRADIENT, l, net.number, dz.dtype.type(1))
    blocks.scale_by_power_of_two(flat(dz), exponent + net.format.loss_exponent)
    return finish_gradient(net, row, l, dz, False)


@atom
def finish_gradient(net, row, l, dz, failed):
    """Round dz; return whether the net has failed."""
    net.exponents[DZ, l] = -net.format.loss_exponent
    broken, gone = round_tensor(row, ACTIVATION_GRADIENT, dz, net.format)
    failed = failed or broken or gone
    note_failure(row, r.ACTIVATION_GRADIENT_FAILED, failed)
    return failed


@kernel()
def add_gradient(row, tensor, zero, wanted, values):
    """Add what is wanted of a gradient."""
    _, zeros = layer.add_powers(row, tensor, wanted, flat(values), 0.0)
    row[zero] += zeros


@atom
def pass_back(net, ask, row, row_below, l, failed):
    """Run a layer backward, and record what is wanted of it; return whether the net has failed."""
    exponent = -net.format.loss_exponent
    dz, ds = batch.whole(net, DZ, l), batch.whole(net, DS, l)
    observe(net, ask, row, statistics.ACTIVATION_GRADIENT, l, dz, exponent)
    blocks.multiply(flat(dz), flat(batch.whole(net, D, l)), flat(ds))
    broken, _ = round_tensor(row, PREACTIVATION_GRADIENT, ds, net.format)
    add_gradient(row, r.ACTIVATION_GRADIENT, r.ACTIVATION_GRADIENT_ZERO, ask.wanted, dz)
    add_gradient(row, r.PREACTIVATION_GRADIENT, r.PREACTIVATION_GRADIENT_ZERO, ask.wanted, ds)
    layer.finish_gradients(row, dz.size, exponent)
    net.exponents[DS, l] = exponent
    observe(net, ask, row, statistics.PREACTIVATION_GRADIENT, l, ds, exponent)
    below = batch.whole(net, DZ, l - 1)
    dense.multiply_back(ds, dense.weights(net, l), below)
    if ask.weight_gradients:
        weight_gradient(net, l, row, ask.wanted, ds)
    return finish_gradient(net, row_below, l - 1, below, failed or broken)


@atom
def weight_gradient(net, l, row, wanted, ds):
    """Form dW, round it, and record what is wanted of it."""
    dw = batch.part(net, DW, l, 0, net.widths[l - 1], net.widths[l])
    np.dot(batch.whole(net, Z, l - 1).T, ds, dw)
    round_tensor(row, WEIGHT_GRADIENT, dw, net.format)
    net.exponents[DW, l] = -net.format.loss_exponent
    layer.record_formed_gradient(
        row, wanted, dw, net.exponents[DW, l], batch.part(net, EXTREMES, l, 0, 2, net.widths[l])
    )


@functools.cache
def rounded_sampler(dtype: np.dtype[Any]) -> Any:
    """Return the compiled sampler; numbers of every format are held as float32, which is the only precision."""

    def simulate_nets(first_net, seed, normal, activation, weights, bias_law, own, problem, given, memory, ask, record):
        ask = make_ask(ask)
        samples, output_gradient = borrow(given.inputs), borrow(given.output_gradient)
        depth = problem.widths.size - 1
        for index in range(record.shape[0]):
            net = make_net(seed, first_net + index, normal, activation, weights, bias_law, own, problem, memory)
            rows = borrow(record)[index]
            blocks.copy(flat(ask.blank), flat(rows))
            failed = start(net, ask, rows[0], samples, given.input_exponent)
            for l in range(1, depth + 1):
                prepare(net, l)
                failed = pass_forward(net, ask, rows[l], l, failed)
            if not ask.backward:
                continue
            failed = inject(net, rows[depth], output_gradient, given.gradient_exponent)
            for l in range(depth, 0, -1):
                if not net.kept:
                    prepare(net, l)
                failed = pass_back(net, ask, rows[l], rows[l - 1], l, failed)
            dz = batch.whole(net, DZ, 0)
            layer.add_input_gradient(rows[0], ask.wanted, dz)
            layer.finish_input_gradient(rows[0], dz.size, net.exponents[DZ, 0])
            observe(net, ask, rows[0], statistics.ACTIVATION_GRADIENT, 0, dz, net.exponents[DZ, 0])

    return kernel(signature(dtype, dense.BUFFERS), cache=f"rounded {dtype.name}")(simulate_nets)
