"""The matrix-free sampler for one sample a net: exact in law, linear in the width, W is never formed.

Only what a sample asks of W is drawn (the principle of deferred decisions; Y. M. Lu, Householder Dice: A Matrix-Free
Algorithm for Simulating Dynamics on Gaussian and Random Orthogonal Ensembles, IEEE Trans. Inf. Theory 67(12), 2021,
arXiv:2101.07464). With u = z/|z|, and g and h fresh standard normals:

- Gaussian W of standard deviation sigma: z W = sigma |z| g, and given that, ds W^T = (ds . u W) u + sigma |ds|
  (h - (h . u) u).
- Semi-orthogonal W, a corner of sigma sqrt(N) times a Haar matrix of size N = max(fan_in, fan_out): the same with g and
  h - (h . u) u, of N numbers, scaled to length 1, and for |ds| what z W leaves of its length.

A layer is therefore two vectors, g and h, and a few scalars. Vectors are worked on in blocks that stay in the
first-level cache, and are either kept or drawn again from their counters for the backward pass, so that memory need
depend neither on the depth nor on the width. Exponents are those of ``batch``, but
that z is never rescaled: the next layer takes its length in a unit of its own.

With Gaussian W, h is drawn on the way back only, and taken off u block by block, before h . u is known. Let u_k be what
of u is in block k and t_k = h . u_k / |u_k|: standard normals, independent of each other and of the rest of h. They are
replaced by others that have the law of t given sum |u_k| t_k = 0, one after the other (`detach`).
With semi-orthogonal W the length of what is left of h is asked for too: h . u and h . h are summed on the way forward.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from stabsim.kernels import blocking, blocks, gains, inputs, layer, philox, statistics
from stabsim.kernels import record as r
from stabsim.kernels.compile import CONTRACT, atom, kernel, wide_vectors
from stabsim.kernels.signature import make_ask, make_net, signature
from stabsim.kernels.statistics import observe
from stabsim.kernels.views import as_matrix, borrow, flat, stretch

# Buffers of one net: a layer's p = z W, z, f' and h are kept or, of the others always, one block at a time. (h of
# Gaussian W is drawn on the way back, and has its place only to be drawn ahead.)
BUFFERS = 8
P, Z, D, H, S, B, DZ, DS = (np.int64(i) for i in range(BUFFERS))
KEPT = (P, Z, D, H)

BLOCK = np.int64(1024)  # units: seven buffers of float32 fit into 32 KiB
AHEAD = np.int64(4 * BLOCK)  # numbers drawn at once: with a call a layer, a net of width 128 takes a sixth more time

# What is known of a layer, in units of its z, once it has been passed forward: the scale of g, how f is evaluated,
# |z|^2 and what its rounding left, z . h and |h|^2 (of semi-orthogonal W, else 0), |z| in the unit that the next layer
# takes, which is 2^SHIFT of them, and the totals of z.
SCALE, REGIME, SQUARES, REST, INNER, COMPLEMENT, NORM, SHIFT, TOTALS = range(9)
STATE = TOTALS + 5


@atom
def part(net, buffer, l, first, size):
    """Return the block of a layer's vector that starts at unit ``first``."""
    start = net.offsets[buffer, l] + (first if net.kept else 0)
    return stretch(net.buffers[buffer], start, size)


@atom
def scratch(net, buffer, size):
    """Return a place for one block."""
    return stretch(net.buffers[buffer], np.int64(0), size)


@kernel()
def draw(law, out, first, seed, purpose, l, number, scale):
    """Fill a block that starts at position ``first``."""
    law(as_matrix(out, 1, out.size), np.uint64(first), seed, purpose, np.uint32(l), np.uint32(number), scale)


@atom
def projection_exponent(net, state, l):
    """Return the exponent of z W."""
    return net.exponents[Z, l - 1] + np.int64(state[l - 1, SHIFT]) + net.weight_exponent[l]


@kernel(fastmath=CONTRACT, apart=True)
def draw_layers(out, offsets, widths, first, last, seed, purpose, number):
    """Draw the standard normals of layers ``first`` .. ``last - 1``."""
    wide_vectors()
    one = out.dtype.type(1)
    philox.normals_of_layers(one, out, offsets, widths, first, last, seed, purpose, np.uint32(number))


@atom
def draw_ahead(net, buffer, purpose, first, last):
    """Draw g or h of layers ``first`` .. ``last - 1``, which are kept."""
    draw_layers(net.buffers[buffer], net.offsets[buffer], net.widths, first, last, net.seed, purpose, net.number)


@atom
def draw_preactivation(net, state, l, first, size):
    """Draw p = z W, unless it was drawn ahead; return it, and s = p + b."""
    p = part(net, P, l, first, size)
    if net.ahead == 0:
        scale = net.weight_scale.dtype.type(state[l, SCALE])
        draw(net.normal, p, first, net.seed, philox.PROJECTION, l, net.number, scale)
    if net.bias_scale[l] == 0:
        return p, p
    s, b = scratch(net, S, size), scratch(net, B, size)
    draw(net.bias_law, b, first, net.seed, philox.BIAS, l, net.number, net.bias_scale[l])
    blocks.copy(p, s)
    layer.add_bias(as_matrix(s, 1, size), b, projection_exponent(net, state, l))
    return p, s


@atom
def draw_complement(net, l, first, size):
    """Draw h, of as many units as z_l, unless it was drawn ahead; return it."""
    h = part(net, H, l, first, size)
    if net.ahead == 0:
        draw(net.normal, h, first, net.seed, philox.COMPLEMENT, l, net.number, h.dtype.type(1))
    return h


@atom
def draw_input(net, given, first, size):
    """Draw or copy the input."""
    z = part(net, Z, 0, first, size)
    if given.shape[0] == 0:
        draw(net.normal, z, first, net.seed, philox.INPUT, 0, net.number, z.dtype.type(1))
    else:
        sample = inputs.choice(0, given.shape[0], net.seed, net.number, 0, philox.SAMPLE_CHOICE)
        blocks.copy(given[sample, first : first + size], z)
    return z


@kernel()
def squared_norm(normal, work, first, last, seed, purpose, l, number):
    """Return the sum of squares of the standard normals at positions ``first`` (of a block) .. ``last - 1``."""
    squares = 0.0
    for start in range(first, last, BLOCK):
        block = work[: min(BLOCK, last - start)]
        draw(normal, block, start, seed, purpose, l, number, work.dtype.type(1))
        squares += blocks.power_sums_2(block, 0.0)[1]
    return squares


@atom
def start_layer(net, state, l):
    """Fix the exponents of s and z, the scale of g and how f is evaluated."""
    here, below = state[l], state[l - 1]
    exponent = projection_exponent(net, state, l)
    if net.bias_scale[l] != 0:
        exponent = max(exponent, 0)
    scale = net.weight_scale[l] * below[NORM]
    if net.orthogonal:
        longer = max(net.widths[l - 1], net.widths[l])
        work = net.buffers[S]
        scale *= math.sqrt(
            longer / squared_norm(net.normal, work, 0, longer, net.seed, philox.PROJECTION, l, net.number)
        )
    here[SCALE] = scale
    if net.ahead > 0:
        blocks.scale(part(net, P, l, 0, net.widths[l]), scale)
    here[REGIME] = layer.CURVE
    if exponent != 0 and not net.homogeneous:
        seen = blocks.no_totals()
        for first in range(0, net.widths[l], BLOCK):
            _, s = draw_preactivation(net, state, l, first, min(BLOCK, net.widths[l] - first))
            seen = blocks.add_totals(seen, blocks.totals(s))
        itemsize = net.weight_scale.itemsize
        here[REGIME] = layer.regime_of(seen[1] / net.widths[l], seen[3], seen[4], itemsize, net.shape, exponent)
    net.exponents[S, l] = exponent
    net.exponents[Z, l] = layer.exponent_after(np.int64(here[REGIME]), exponent)


@atom
def pass_forward(net, state, ask, runs, l, given, row):
    """Run one layer (0: the input) forward, block by block, and record what is wanted of it."""
    depth = net.widths.size - 1
    width = net.widths[l]
    here = state[l]
    regime = np.int64(layer.CURVE)
    if l > 0:
        start_layer(net, state, l)
        regime = np.int64(here[REGIME])
    s_exponent, z_exponent = net.exponents[S, l], net.exponents[Z, l]
    squares, rest, inner, complement = 0.0, 0.0, 0.0, 0.0
    seen = blocks.no_totals()
    dead = True
    for first in range(0, width, BLOCK):
        size = min(BLOCK, width - first)
        if l == 0:
            z = draw_input(net, given, first, size)
            of_block = layer.add_input(row, ask.wanted, z, ask.pivots[l], z_exponent)
        else:
            z, d = part(net, Z, l, first, size), part(net, D, l, first, size)
            _, s = draw_preactivation(net, state, l, first, size)
            observe(net, ask, row, statistics.PREACTIVATION, l, as_matrix(s, 1, size), s_exponent)
            of_block = layer.activate(
                row, ask.wanted, regime, net.activation, net.shape, ask.saturation, ask.pivots[l], s, z, d,
                s_exponent, z_exponent,
            )  # fmt: skip
            observe(net, ask, row, statistics.DERIVATIVE, l, as_matrix(d, 1, size), np.int64(0))
        squares, rest = blocks.add_exactly(squares, rest, of_block)
        if ask.looking:
            dead = dead and blocks.all_zero(z)  # where squares are 0, values need not be
        observe(net, ask, row, statistics.ACTIVATION, l, as_matrix(z, 1, size), z_exponent)
        if ask.backward and l < depth:
            if net.orthogonal:
                h = draw_complement(net, l, first, size)
                inner += blocks.dot(z, h)
                complement += blocks.dot(h, h)
            if ask.weight_gradients:
                seen = blocks.add_totals(seen, blocks.totals(z))
    if l > 0:
        layer.finish_sample(row, ask.wanted, width, s_exponent)
    layer.finish_sample_activation(row, ask.wanted, width, z_exponent)
    if ask.looking:
        look_forward(ask, row, runs, l, dead)
    shift = layer.far_from_one(squares / width)
    here[SHIFT] = shift
    here[NORM] = blocks.times_power(math.sqrt(squares), -shift)
    here[SQUARES], here[REST], here[INNER], here[COMPLEMENT] = squares, rest, inner, complement
    for i in range(5):
        here[TOTALS + i] = seen[i]


@atom
def look_forward(ask, row, runs, l, dead):
    """Record whether a layer's z and f' are zero, and the rank of z, which is 1 if it is not."""
    blocking.note_activation(runs, l, 0, dead)
    row[r.ACTIVATION_DEAD_NET] += dead
    row[r.DERIVATIVE_DEAD_NET] += row[r.DERIVATIVE_ZERO] == 1.0
    note_rank(row, r.ACTIVATION_RANK, ask.wanted, dead)


@atom
def look_back(ask, row, runs, stops, l, dead):
    """Record whether a layer's ds is zero, and why, and the ranks of ds and dW."""
    blocking.note_gradient(row, runs, stops, l, 0, row[r.DERIVATIVE_ZERO] == 1.0, dead)
    blocking.finish_gradient(row, 1)
    row[r.PREACTIVATION_GRADIENT_DEAD_UNIT] += row[r.PREACTIVATION_GRADIENT_ZERO]
    note_rank(row, r.PREACTIVATION_GRADIENT_RANK, ask.wanted, dead)
    note_rank(row, r.WEIGHT_GRADIENT_RANK, ask.wanted, dead or runs[l - 1, 0] != blocking.NOWHERE)


@kernel()
def note_rank(row, column, wanted, zero):
    """Write the rank and the stable rank of a matrix of a single row, or of its product with another."""
    if wanted[column]:
        row[column] = 0.0 if zero else 1.0
        row[column + 1] = math.nan if zero else 1.0


@atom
def recall(net, state, l, given, first, size):
    """Bring back p, z and f' of a block, and h where it was drawn before: they are kept, or drawn again."""
    if not net.kept:
        if l == 0:
            draw_input(net, given, first, size)
        else:
            z, d = part(net, Z, l, first, size), part(net, D, l, first, size)
            _, s = draw_preactivation(net, state, l, first, size)
            regime = np.int64(state[l, REGIME])
            layer.evaluate(regime, net.activation, net.shape, s, z, d, net.exponents[S, l])
        if net.orthogonal and l < net.widths.size - 1:
            draw_complement(net, l, first, size)


@kernel(apart=True)  # inlined, it costs a net of width 128 3% of its time
def detach(squares, product, debt, beyond):
    """Return c such that h + c z has, in all blocks together, the law of h - (h . u) u; and the debt from here on.

    Given of this block are |z_k|^2 and z_k . h_k, of those before it the debt, which is z . (h + c z), and of those
    beyond |z|^2. So the new t_k has mean -debt |z_k| / (|z_k|^2 + beyond) and variance beyond / (|z_k|^2 + beyond).
    """
    if squares == 0.0:
        return 0.0, debt
    share = beyond / (squares + beyond)
    kept = math.sqrt(share)
    return (kept - 1.0) * product / squares - debt / (squares + beyond), share * debt + kept * product


@atom
def pull_back(net, state, l, projected, squares):
    """Return (a, b) of dz = a z + b h of the layer below, given ds . z W and |ds|^2 of layer l.

    With Gaussian W, h is yet to be taken off z.
    """
    below = state[l - 1]
    norm = math.sqrt(below[SQUARES])
    alive = norm > 0
    along_h = below[INNER] / norm if alive else 0.0
    along = projected / below[NORM] if alive else 0.0
    b = net.weight_scale[l] * math.sqrt(squares)
    if net.orthogonal:
        fan_in = net.widths[l - 1]
        longer = max(fan_in, net.widths[l])
        beyond = -(-fan_in // philox.TILE) * philox.TILE
        length = below[COMPLEMENT] - along_h * along_h
        length += squared_norm(
            net.normal, net.buffers[S], beyond, beyond + longer - fan_in, net.seed, philox.COMPLEMENT, l - 1, net.number
        )
        left = max(b * b * longer - along * along, 0.0)
        b = math.sqrt(left / length) if longer > alive and length > 0 else 0.0
    return (along - b * along_h) / norm if alive else 0.0, b


@atom
def gradient(net, l, first, size, a, b, debt, beyond, rest, dz):
    """Write a block of dz = a z + b h, with Gaussian W after taking h off z; return debt, |z|^2 beyond and its rest.

    What is beyond is exact to twice the digits, or blocks far smaller than those before them would have a wrong law.
    So a block's |z|^2 has to be the number that `layer.activate` returned, which sums no more than a TILE at a time.
    """
    z, h = part(net, Z, l, first, size), part(net, H, l, first, size)
    if not net.orthogonal:
        h = draw_complement(net, l, first, size)
        squares = beyond if size == net.widths[l] else blocks.power_sums_2(z, 0.0)[1]
        beyond, rest = blocks.add_exactly(beyond, rest, -squares)
        c, debt = detach(squares, blocks.dot(z, h), debt, max(beyond + rest, 0.0))
        a += b * c
    blocks.combine(a, z, b, h, dz)
    return debt, beyond, rest


@atom
def pass_back(net, state, ask, runs, stops, l, given, output_gradient, a, b, exponent, row):
    """Run one layer backward, block by block, and record what is wanted of it; return a, b, exponent of the next.

    The gradient by its activations is a z + b h, or what is injected at the last layer.
    """
    fan_in, width = net.widths[l - 1], net.widths[l]
    squares, projected = 0.0, 0.0
    seen = blocks.no_totals()
    dead = True
    debt, beyond, rest = 0.0, state[l, SQUARES], state[l, REST]
    for first in range(0, width, BLOCK):
        size = min(BLOCK, width - first)
        recall(net, state, l, given, first, size)
        dz, ds = scratch(net, DZ, size), scratch(net, DS, size)
        if l < net.widths.size - 1:
            debt, beyond, rest = gradient(net, l, first, size, a, b, debt, beyond, rest, dz)
        elif output_gradient.shape[0] > 0:
            blocks.copy(output_gradient[0, first : first + size], dz)
        else:
            draw(net.normal, dz, first, net.seed, philox.OUTPUT_GRADIENT, l, net.number, dz.dtype.type(1))
        observe(net, ask, row, statistics.ACTIVATION_GRADIENT, l, as_matrix(dz, 1, size), exponent)
        squares += layer.pass_part_back(row, ask.wanted, dz, part(net, D, l, first, size), ds)
        observe(net, ask, row, statistics.PREACTIVATION_GRADIENT, l, as_matrix(ds, 1, size), exponent)
        projected += blocks.dot(ds, part(net, P, l, first, size))
        if ask.looking:
            dead = dead and blocks.all_zero(ds)
        if ask.weight_gradients:
            seen = blocks.add_totals(seen, blocks.totals(ds))
    layer.finish_gradients(row, width, exponent)
    if ask.looking:
        look_back(ask, row, runs, stops, l, dead)
    if ask.weight_gradients:
        t = state[l - 1, TOTALS:]
        below = (t[0], t[1], t[2], t[3], t[4])
        layer.record_outer_product(row, ask.wanted, fan_in, below, width, seen, net.exponents[Z, l - 1] + exponent)
    shift = layer.far_from_one(squares / width)
    a, b = pull_back(net, state, l, projected, squares)
    return blocks.times_power(a, -shift), blocks.times_power(b, -shift), exponent + shift + net.weight_exponent[l]


@atom
def finish_backward(net, state, ask, given, a, b, exponent, row):
    """Record what is wanted of the gradient by the input."""
    width = net.widths[0]
    debt, beyond, rest = 0.0, state[0, SQUARES], state[0, REST]
    for first in range(0, width, BLOCK):
        size = min(BLOCK, width - first)
        recall(net, state, 0, given, first, size)
        dz = scratch(net, DZ, size)
        debt, beyond, rest = gradient(net, 0, first, size, a, b, debt, beyond, rest, dz)
        observe(net, ask, row, statistics.ACTIVATION_GRADIENT, 0, as_matrix(dz, 1, size), exponent)
        layer.add_input_gradient(row, ask.wanted, dz)
    layer.finish_input_gradient(row, width, exponent)


def _simulate_nets(first_net, seed, normal, activation, weights, bias_law, own, problem, given, memory, ask, record):
    ask = make_ask(ask)
    samples, output_gradient = borrow(given.inputs), borrow(given.output_gradient)
    depth = problem.widths.size - 1
    ahead = memory.ahead
    states = np.zeros((depth + 1, STATE))
    runs, stops = np.empty((depth + 1, 1), np.int64), np.empty(1, np.int64)
    state = borrow(states)
    for index in range(record.shape[0]):
        net = make_net(seed, first_net + index, normal, activation, weights, bias_law, own, problem, memory)
        rows = borrow(record)[index]
        blocks.copy(flat(ask.blank), flat(rows))
        net.exponents[Z, 0] = given.input_exponent
        blocking.start_net(stops)
        for l in range(depth + 1):
            if ahead > 0 and l % ahead == 0:
                draw_ahead(net, P, philox.PROJECTION, max(l, 1), min(l + ahead, depth + 1))
                if ask.backward and net.orthogonal:
                    draw_ahead(net, H, philox.COMPLEMENT, l, min(l + ahead, depth))
            pass_forward(net, state, ask, runs, l, samples, rows[l])
        if ask.backward:
            a, b, exponent = 0.0, 0.0, given.gradient_exponent
            for l in range(depth, -1, -1):
                if ahead > 0 and not net.orthogonal and (l % ahead == ahead - 1 or l == depth):
                    draw_ahead(net, H, philox.COMPLEMENT, l - l % ahead, min(l + 1, depth))
                if l > 0:
                    a, b, exponent = pass_back(
                        net, state, ask, runs, stops, l, samples, output_gradient, a, b, exponent, rows[l]
                    )
            finish_backward(net, state, ask, samples, a, b, exponent, rows[0])
            if ask.looking:
                gains.record_gains(rows, ask.wanted, net.widths, np.int64(1))
    states[0, 0] = 0.0  # Numba frees an array after its last use, and would not see those of what was borrowed


@functools.cache
def matrix_free_sampler(dtype: np.dtype[Any]) -> Any:
    """Return the compiled sampler of that precision; ``stabsim.plan`` makes its arguments."""
    return kernel(signature(dtype, BUFFERS), cache=f"matrix_free {dtype.name}")(_simulate_nets)
