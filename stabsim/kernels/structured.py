"""A layer forward and backward, with normalization and residual connections around blocks of layers.

With x the signal at a block's start and F = z W + b at its end, where f stands (``structure.place``) says what z is:
inside: shortcut x + branch f(n(F)); between: shortcut x + branch F; after: f(shortcut x + branch n(F)); before:
f(n(shortcut x + branch F)), x being s of the start (the input itself, at the input). n is the normalization, if there
is one. "preactivation" is what goes into n, or into f without one; its gradient is that by F, so that dW = z^T ds.

One shortcut is open at a time, so one place is enough for the gradient that waits for the block's start.
"""

from __future__ import annotations

import math

import numpy as np

from stabsim.kernels import batch, blocks, layer, normalization, philox, statistics
from stabsim.kernels import record as r
from stabsim.kernels.compile import atom, kernel
from stabsim.kernels.signature import AFTER, BATCH, BEFORE, BETWEEN, INSIDE, LAYER, NONE
from stabsim.kernels.statistics import observe
from stabsim.kernels.views import flat, stretch

# A factor is apart from its power of two, so that it fits the type, if it is not within 2^-MODERATE .. 2^MODERATE.
MODERATE = 20


@kernel()
def split(factor):
    """Return a factor as a number near 1 and a power of two."""
    part, exponent = math.frexp(factor)
    return (factor, 0) if abs(exponent) <= MODERATE else (part, exponent)


@kernel()
def multiply_by(values, factor):
    """Multiply in place; return by which power of two more."""
    part, exponent = split(factor)
    if part != 1.0:
        blocks.scale(flat(values), part)
    return exponent


@kernel()
def add_signal(x, exponent, factor, y, y_exponent, y_factor):
    """Write factor x + y_factor y in the place of x, each in its units; return the exponent of the sum.

    It is the larger, but for signals that are 0: their exponents say nothing.
    """
    part, more = split(factor)
    y_part, y_more = split(y_factor)
    exponent, y_exponent = exponent + more, y_exponent + y_more
    if y_part == 0.0 or blocks.all_zero(flat(y)):
        y_exponent = exponent
    elif part == 0.0 or blocks.all_zero(flat(x)):
        exponent = y_exponent
    larger = max(exponent, y_exponent)
    unit, y_unit = blocks.unit_of(larger - exponent), blocks.unit_of(larger - y_exponent)
    blocks.blend(part * unit, flat(x), y_part * y_unit, flat(y))
    return larger


@atom
def form_preactivation(factors, net, l, s):
    """Write z W + b; return its exponent."""
    width = net.widths[l]
    biased = net.bias_scale[l] != 0
    b = batch.part(net, batch.B, l, 0, 1, width)
    if biased:
        batch.draw(net.bias_law, b, net.seed, philox.BIAS, l, net.number, net.bias_scale[l])
    left, right, exponent = factors(net, l)
    step = batch.group_size(net.batch, left.shape[1], width)
    for first in range(0, net.batch, step):
        last = min(first + step, net.batch)
        batch.multiply(left[first:last], right, batch.part(net, batch.S, l, first, last, width))
    if biased:
        layer.add_bias(s, b[0], exponent)
        exponent = max(exponent, 0)
    return exponent


@atom
def stream(net, l):
    """Return the signal at a block's start that a shortcut takes from there, and its exponent."""
    before = net.structure.place == BEFORE and l > 0
    buffer = batch.S if before else batch.Z
    return batch.whole(net, buffer, l), net.exponents[buffer, l]


@atom
def add_shortcut(net, l, branch, exponent):
    """Write shortcut x + branch F in the place of F, given its exponent; return that of the sum."""
    x, x_exponent = stream(net, net.structure.starts[l])
    return add_signal(branch, exponent, net.structure.branch, x, x_exponent, net.structure.shortcut)


@atom
def scales(net, l):
    """Return where 1 / sqrt(variance + epsilon) is kept, of each unit or sample."""
    size = net.widths[l] if net.structure.normalization == BATCH else net.batch
    return batch.part(net, batch.SCALES, l, 0, 1, size)[0]


@atom
def normalize(net, l, s, n, exponent):
    """Write the normalized values of ``s * 2**exponent``; return their exponent."""
    kind = net.structure.normalization
    n_exponent, unit, epsilon = normalization.units_of(exponent, net.structure.epsilon)
    if kind == BATCH:
        normalization.normalize_units(s, unit, epsilon, n, scales(net, l))
    else:
        normalization.normalize_samples(s, kind == LAYER, unit, epsilon, n, scales(net, l))
    return n_exponent


@atom
def denormalize(net, l, g, n, exponent):
    """Turn g, the gradient by n in units of ``2**exponent``, into that by s; return its exponent."""
    kind, s_exponent = net.structure.normalization, net.exponents[batch.S, l]
    n_exponent, _, epsilon = normalization.units_of(s_exponent, net.structure.epsilon)
    if kind == BATCH:
        normalization.denormalize_units(g, n, scales(net, l), epsilon)
    else:
        normalization.denormalize_samples(g, n, scales(net, l), kind == LAYER, epsilon)
    return exponent + n_exponent - s_exponent


@atom
def activate(net, ask, row, s, exponent, z, d):
    """Write f and f' of ``s * 2**exponent`` and add what is wanted of f'; return the exponent of f.

    In units other than 1 a curved f is evaluated by the size of each sample's s, as in `batch.pass_forward`.
    """
    by_sample = exponent != 0 and not net.homogeneous
    z_exponent, rows = exponent, net.batch
    if by_sample:
        z_exponent, rows = layer.exponent_after(layer.choose_regime(s, net.shape, exponent), exponent), np.int64(1)
    for first in range(0, net.batch, rows):
        last = first + rows
        part = s[first:last]
        regime = layer.choose_regime(part, net.shape, exponent) if by_sample else np.int64(layer.CURVE)
        flat_s, flat_z, flat_d = flat(part), flat(z[first:last]), flat(d[first:last])
        for start in range(0, flat_s.size, layer.TILE):
            size = min(layer.TILE, flat_s.size - start)
            layer.apply(
                row, ask.wanted, regime, net.activation, net.shape, ask.saturation, stretch(flat_s, start, size),
                stretch(flat_z, start, size), stretch(flat_d, start, size), exponent, z_exponent,
            )  # fmt: skip
    return z_exponent


@atom
def pass_on(ask, row, s, z, d):
    """Write z = s and f' = 1 where a branch ends without f."""
    flat_s, flat_z, flat_d = flat(s), flat(z), flat(d)
    for start in range(0, flat_s.size, layer.TILE):
        size = min(layer.TILE, flat_s.size - start)
        tile_d = stretch(flat_d, start, size)
        blocks.copy(stretch(flat_s, start, size), stretch(flat_z, start, size))
        for i in range(size):
            tile_d[i] = 1
        layer.add_derivative(row, ask.wanted, ask.saturation, tile_d)


@atom
def has_f(net, l):
    """Return whether there is f, and the normalization in front of it, at a layer."""
    return net.structure.place != BETWEEN or net.structure.starts[l] < 0


@atom
def pass_forward(factors, net, ask, row, l):
    """Run a layer forward, and record what is wanted of it."""
    structure, wanted = net.structure, ask.wanted
    place, ends_block = structure.place, structure.starts[l] >= 0
    curved = has_f(net, l)
    normalized = curved and structure.normalization != NONE
    s, z, d = batch.whole(net, batch.S, l), batch.whole(net, batch.Z, l), batch.whole(net, batch.D, l)
    exponent = form_preactivation(factors, net, l, s)
    if ends_block and (place == BEFORE or (place == AFTER and not normalized)):
        exponent = add_shortcut(net, l, s, exponent)
    net.exponents[batch.S, l] = s_exponent = exponent
    observe(net, ask, row, statistics.PREACTIVATION, l, s, exponent)
    if wanted[r.PREACTIVATION + r.M2]:
        layer.add_powers(row, r.PREACTIVATION, wanted, flat(s), 0.0)
    seen = s
    if normalized:
        seen = batch.whole(net, batch.NORMALIZED, l)
        exponent = normalize(net, l, s, seen, exponent)
        if ends_block and place == AFTER:
            n, seen = seen, batch.whole(net, batch.SUM, l)
            blocks.copy(flat(n), flat(seen))
            exponent = add_shortcut(net, l, seen, exponent)
    if curved:
        exponent = activate(net, ask, row, seen, exponent, z, d)
    else:
        pass_on(ask, row, seen, z, d)
    if ends_block and place in (INSIDE, BETWEEN):
        exponent = add_shortcut(net, l, z, exponent)
    pivot = ask.pivots[l] * blocks.unit_of(exponent)
    squares, zeros = layer.add_powers(row, r.ACTIVATION, wanted, flat(z), pivot)
    row[r.ACTIVATION_ZERO] += zeros
    layer.finish_activation(row, wanted, z, d, s_exponent, exponent)
    net.exponents[batch.Z, l] = exponent + layer.normalize(z, squares / z.size)
    observe(net, ask, row, statistics.ACTIVATION, l, z, net.exponents[batch.Z, l])
    observe(net, ask, row, statistics.DERIVATIVE, l, d, np.int64(0))


@atom
def keep_waiting(net, l, gradient, exponent):
    """Keep a gradient for the start of the block that ends at layer l."""
    start = net.structure.starts[l]
    waiting = batch.whole(net, batch.WAITING, start)
    blocks.copy(flat(gradient), flat(waiting))
    squares = blocks.power_sums_2(flat(waiting), 0.0)[1]
    net.exponents[batch.WAITING, start] = exponent + layer.normalize(waiting, squares / waiting.size)


@atom
def add_waiting(net, l, gradient, exponent):
    """Add what has waited for layer l, times the shortcut's factor; return the exponent of the sum."""
    waiting = batch.whole(net, batch.WAITING, l)
    waiting_exponent = net.exponents[batch.WAITING, l]
    return add_signal(gradient, exponent, 1.0, waiting, waiting_exponent, net.structure.shortcut)


@atom
def pass_back(pull_back, weight_gradient, net, ask, row, l, exponent):
    """Run a layer backward, and record what is wanted of it; return the exponent of the gradient below."""
    structure, wanted = net.structure, ask.wanted
    place, ends_block = structure.place, structure.starts[l] >= 0
    dz, ds = batch.whole(net, batch.DZ, l), batch.whole(net, batch.DS, l)
    net.exponents[batch.DZ, l] = exponent
    observe(net, ask, row, statistics.ACTIVATION_GRADIENT, l, dz, exponent)
    if wanted[r.PREACTIVATION_GRADIENT_SHUT]:
        row[r.PREACTIVATION_GRADIENT_SHUT] = blocks.squares_where_zero(flat(dz), flat(batch.whole(net, batch.D, l)))
        layer.finish_shut(row, blocks.power_sums_2(flat(dz), 0.0)[1])
    layer.record_gradient(row, r.ACTIVATION_GRADIENT, r.ACTIVATION_GRADIENT_ZERO, wanted, dz, exponent)
    if ends_block and place in (INSIDE, BETWEEN):
        keep_waiting(net, l, dz, exponent)
    blocks.multiply(flat(dz), flat(batch.whole(net, batch.D, l)), flat(ds))
    if ends_block and place == AFTER:
        keep_waiting(net, l, ds, exponent)
    if ends_block and place != BEFORE:
        exponent += multiply_by(ds, structure.branch)
    if structure.normalization != NONE and has_f(net, l):
        exponent = denormalize(net, l, ds, batch.whole(net, batch.NORMALIZED, l), exponent)
    if place == BEFORE and structure.ends[l] >= 0:
        exponent = add_waiting(net, l, ds, exponent)
    if place == BEFORE and ends_block:
        keep_waiting(net, l, ds, exponent)
        exponent += multiply_by(ds, structure.branch)
    squares = layer.record_gradient(row, r.PREACTIVATION_GRADIENT, r.PREACTIVATION_GRADIENT_ZERO, wanted, ds, exponent)
    exponent += layer.normalize(ds, squares / ds.size)
    net.exponents[batch.DS, l] = exponent
    observe(net, ask, row, statistics.PREACTIVATION_GRADIENT, l, ds, exponent)
    below = batch.whole(net, batch.DZ, l - 1)
    exponent = pull_back(net, l, ds, below)
    if ask.weight_gradients:
        weight_gradient(net, l, row, wanted, ds)
    if structure.ends[l - 1] >= 0 and (place != BEFORE or l == 1):
        exponent = add_waiting(net, l - 1, below, exponent)
    return exponent
