"""One net after another, forward and backward, with all samples of a batch together.

A net is a pure function of the problem, the seed and the net's number. Signals are kept near 1: what a buffer holds
is ``value / 2**exponent``, so neither direction over- or underflows at any depth or gain. Multiplying by a power of
two is exact, and the backward pass is linear in the injected gradient, so it may be rescaled at will. The forward
pass may where f is a straight line on either side of 0: always (ReLU), or within rounding, for values far below 1
(tanh) or far above 1 (GELU).

How weights are drawn and applied is for the samplers to say, in five functions:

- ``prepare(net, l)`` makes ready what z W of layer l takes;
- ``factors(net, l)`` returns two matrices whose product is z W, and its exponent;
- ``recall(net, quiet, row, given, l)`` brings back, where it was not kept, what the backward pass through layer l
  takes, given a request and a record for nothing;
- ``pull_back(net, l, ds, dz)`` writes dz = ds W^T, and returns its exponent;
- ``weight_gradient(net, l, row, wanted, ds)`` records dW = z^T ds.

What is done with these in a layer, ``pass_forward`` and ``pass_back``, is here for plain nets, in `structured` for
nets with normalization or residual connections; ``finish(net, ask, row)`` is called when the gradient by the input is
known.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from stabsim.kernels import blocking, blocks, clipping, gains, inputs, layer, philox, ranks, statistics
from stabsim.kernels import record as r
from stabsim.kernels.compile import atom, kernel
from stabsim.kernels.signature import GLOBAL_NORM, Ask, make_ask, make_net
from stabsim.kernels.statistics import observe
from stabsim.kernels.views import as_matrix, borrow, flat

# Buffers that every sampler of batches has: a layer's part starts at its offset; layers share a place where one at a
# time is enough. (As np.int64, since Numba compiles a function anew for each Python integer that is a constant.)
# The last four are for `structured` nets only.
COMMON = 10
Z, D, S, DZ, DS, B, NORMALIZED, SCALES, SUM, WAITING = (np.int64(i) for i in range(COMMON))

# OpenBLAS has kernels without packing for products z W below this many multiply-adds: on AVX-512, 64 samples through
# 128 x 128 units go at 106 GFLOP/s in groups of 32, and at 78 at once. (ds W^T has no such kernel that is faster.)
SMALL_PRODUCT = 10**6
LEAST_GROUP = 8


@kernel()
def group_size(batch, inner, outer):
    """Return how many rows of a product with an ``inner`` x ``outer`` matrix are made together."""
    group = SMALL_PRODUCT // (inner * outer)
    return min(batch, group) if group >= LEAST_GROUP else batch


@atom
def part(net, buffer, l, first, last, width):
    """Return rows ``first`` .. ``last - 1`` of a layer's matrix in a buffer."""
    offset = net.offsets[buffer, l]
    return as_matrix(net.buffers[buffer][offset + first * width : offset + last * width], last - first, width)


@atom
def whole(net, buffer, l):
    """Return a layer's matrix (batch, width) in a buffer."""
    return part(net, buffer, l, 0, net.batch, net.widths[l])


@kernel()
def draw(law, out, seed, purpose, l, number, scale):
    """Fill a whole matrix of layer l."""
    law(out, np.uint64(0), seed, purpose, np.uint32(l), np.uint32(number), scale)


@atom
def draw_inputs(net, given):
    """Draw or copy the inputs."""
    z = whole(net, Z, 0)
    if given.shape[0] > 0:
        inputs.choose_rows(given, z, net.seed, net.number)
    else:
        draw(net.normal, z, net.seed, philox.INPUT, 0, net.number, z.dtype.type(1))
    return z


@atom
def start(net, ask, row, given, input_exponent):
    """Draw or copy the inputs, and record what is wanted of them."""
    z = draw_inputs(net, given)
    net.exponents[Z, 0] = input_exponent
    layer.record_input(row, ask.wanted, z, ask.pivots[0], input_exponent)
    observe(net, ask, row, statistics.ACTIVATION, 0, z, input_exponent)


@atom
def pass_forward(factors, net, ask, row, l):
    """Run a layer forward, and record what is wanted of it."""
    batch, width = net.batch, net.widths[l]
    biased = net.bias_scale[l] != 0
    b = part(net, B, l, 0, 1, width)
    if biased:
        draw(net.bias_law, b, net.seed, philox.BIAS, l, net.number, net.bias_scale[l])
    left, right, exponent = factors(net, l)
    s_exponent = max(exponent, 0) if biased else exponent
    # Where values are in units of their own and f is curved, f is evaluated by the size of each sample's s, and
    # the unit of z depends on that of all samples.
    by_sample = s_exponent != 0 and not net.homogeneous
    step = batch if by_sample else group_size(batch, left.shape[1], width)
    keep_s = np.int64(net.keeps_s)
    z_exponent = s_exponent
    squares = 0.0
    for first in range(0, batch, step):
        last = min(first + step, batch)
        s = part(net, S, l, keep_s * first, keep_s * first + last - first, width)
        multiply(left[first:last], right, s)
        if biased:
            layer.add_bias(s, b[0], exponent)
        observe(net, ask, row, statistics.PREACTIVATION, l, s, s_exponent)
        if by_sample:
            z_exponent = layer.exponent_after(layer.choose_regime(s, net.shape, s_exponent), s_exponent)
        group = np.int64(1) if by_sample else last - first
        for top in range(first, last, group):
            kept = keep_s * first + top - first
            s = part(net, S, l, kept, kept + group, width)
            regime = layer.choose_regime(s, net.shape, s_exponent) if by_sample else np.int64(layer.CURVE)
            squares += layer.activate(
                row, ask.wanted, regime, net.activation, net.shape, ask.saturation, ask.pivots[l], s,
                part(net, Z, l, top, top + group, width), part(net, D, l, top, top + group, width),
                s_exponent, z_exponent,
            )  # fmt: skip
    z = whole(net, Z, l)
    net.exponents[S, l] = s_exponent
    layer.finish_activation(row, ask.wanted, z, whole(net, D, l), s_exponent, z_exponent)
    net.exponents[Z, l] = z_exponent + layer.normalize(z, squares / z.size)
    observe(net, ask, row, statistics.ACTIVATION, l, z, net.exponents[Z, l])
    observe(net, ask, row, statistics.DERIVATIVE, l, whole(net, D, l), np.int64(0))


@kernel()
def multiply(left, right, out):
    """Write the product."""
    if left.shape[0] == 1:
        np.dot(left[0], right, out[0])
    else:
        np.dot(left, right, out)


@kernel()
def multiply_in_groups(left, right, out):
    """Write the product, some rows at a time."""
    rows = left.shape[0]
    step = group_size(rows, left.shape[1], right.shape[1])
    for first in range(0, rows, step):
        last = min(first + step, rows)
        np.dot(left[first:last], right, out[first:last])


@atom
def pass_back(pull_back, weight_gradient, net, ask, row, l, exponent):
    """Run a layer backward, and record what is wanted of it; return the exponent of the gradient below."""
    wanted = ask.wanted
    dz, ds = whole(net, DZ, l), whole(net, DS, l)
    net.exponents[DZ, l] = exponent
    observe(net, ask, row, statistics.ACTIVATION_GRADIENT, l, dz, exponent)
    exponent = layer.pass_back(row, wanted, dz, whole(net, D, l), ds, exponent)
    net.exponents[DS, l] = exponent
    observe(net, ask, row, statistics.PREACTIVATION_GRADIENT, l, ds, exponent)
    exponent_below = pull_back(net, l, ds, whole(net, DZ, l - 1))
    if ask.weight_gradients:
        weight_gradient(net, l, row, wanted, ds)
    return exponent_below


@atom
def look_forward(net, ask, row, runs, l):
    """Record what is wanted of a layer's z and f' as whole matrices."""
    z = whole(net, Z, l)
    blocking.see_activation(row, runs, l, z)
    if l > 0:
        blocking.see_derivative(row, whole(net, D, l))
    if ask.wanted[r.ACTIVATION_RANK]:
        ranks.record_ranks(row, r.ACTIVATION_RANK, z)


@atom
def look_back(net, ask, row, runs, stops, l):
    """Record what is wanted of a layer's gradients as whole matrices."""
    ds = whole(net, DS, l)
    blocking.see_gradient(row, ask.wanted, runs, stops, l, whole(net, D, l), ds)
    if ask.wanted[r.PREACTIVATION_GRADIENT_RANK]:
        ranks.record_ranks(row, r.PREACTIVATION_GRADIENT_RANK, ds)
    if ask.wanted[r.WEIGHT_GRADIENT_RANK]:
        ranks.record_weight_gradient(row, whole(net, Z, l - 1), ds)


@atom
def nothing_at_end(net, ask, row):
    """Do nothing more with the input."""


def sampler(
    prepare: Callable[..., Any],
    factors: Callable[..., Any],
    recall: Callable[..., Any],
    pull_back: Callable[..., Any],
    weight_gradient: Callable[..., Any],
    pass_forward: Callable[..., Any] = pass_forward,
    pass_back: Callable[..., Any] = pass_back,
    finish: Callable[..., Any] = nothing_at_end,
) -> Callable[..., None]:
    """Return the function that `signature` describes, to be compiled."""

    def simulate_nets(first_net, seed, normal, activation, weights, bias_law, own, problem, given, memory, ask, record):
        ask = make_ask(ask)
        samples, output_gradient = borrow(given.inputs), borrow(given.output_gradient)
        depth = problem.widths.size - 1
        no_row, no_counts = np.zeros(ask.blank.shape[1]), np.empty((ask.counts.shape[0], depth + 1, 0), np.int64)
        nothing = np.zeros(ask.wanted.size, np.bool_)
        runs = np.empty((depth + 1, problem.batch), np.int64)
        stops = np.empty(problem.batch, np.int64)
        quiet = Ask(
            wanted=nothing, weight_gradients=False, backward=False, looking=False, saturation=ask.saturation,
            pivots=ask.pivots, observing=False, bins=ask.bins, counts=no_counts, blank=ask.blank,
        )  # fmt: skip
        for index in range(record.shape[0]):
            net = make_net(seed, first_net + index, normal, activation, weights, bias_law, own, problem, memory)
            rows = borrow(record)[index]
            blocks.copy(flat(ask.blank), flat(rows))
            start(net, ask, rows[0], samples, given.input_exponent)
            blocking.start_net(stops)
            if ask.looking:
                look_forward(net, ask, rows[0], runs, 0)
            for l in range(1, depth + 1):
                prepare(net, l)
                pass_forward(factors, net, ask, rows[l], l)
                if ask.looking:
                    look_forward(net, ask, rows[l], runs, l)
            if not ask.backward:
                continue
            dz = whole(net, DZ, depth)
            if output_gradient.shape[0] > 0:
                blocks.copy(flat(output_gradient), flat(dz))
            else:
                draw(net.normal, dz, seed, philox.OUTPUT_GRADIENT, depth, net.number, dz.dtype.type(1))
            exponent = given.gradient_exponent
            for l in range(depth, 0, -1):
                recall(net, quiet, no_row, samples, l)
                exponent = pass_back(pull_back, weight_gradient, net, ask, rows[l], l, exponent)
                if ask.looking:
                    look_back(net, ask, rows[l], runs, stops, l)
            dz = whole(net, DZ, 0)
            net.exponents[DZ, 0] = exponent
            layer.add_input_gradient(rows[0], ask.wanted, dz)
            layer.finish_input_gradient(rows[0], dz.size, exponent)
            observe(net, ask, rows[0], statistics.ACTIVATION_GRADIENT, 0, dz, exponent)
            if ask.looking:
                gains.record_gains(rows, ask.wanted, net.widths, net.batch)
            finish(net, ask, rows[0])
            if net.clip.kind == GLOBAL_NORM and ask.weight_gradients:
                clipping.finish_global_norm(net.clip, rows, net.widths)

    return simulate_nets
