"""The RNN without its weights: exact in law, cost proportional to the width and to the square of the time steps.

Of the weights is drawn only what states and gradients ask of them, each answer given all before (Lu, *Householder
Dice*, IEEE Trans. Inf. Theory 67(12), 2021, arXiv:2101.07464). W is asked again and again. Forward, a state h = C U,
U being a frame that grows by a row a sample and time step, has h W = C G with fresh rows of G. Backward, ds = M F
likewise, and what F W^T is beside G^T U is fresh in the complement of U:

- Gaussian W: ds W^T = ds G^T U + M H (I - U^T U), G and H being normals;
- orthogonal W: ds = A G + M F and ds W^T = A U + M H, where G and F are one frame, and U and H another.

V, which is Gaussian, is asked for all inputs at once, and for all gradients at once, as in ``matrix_free_batch``.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from stabsim.kernels import batch, blocks, frames, layer, outer, philox, recurrent, rnn
from stabsim.kernels import record as r
from stabsim.kernels.compile import atom, kernel
from stabsim.kernels.matrix_free_batch import copy_scaled
from stabsim.kernels.recurrent import ALL, DS, SCRATCH, B, H, S, X
from stabsim.kernels.signature import signature
from stabsim.kernels.views import as_matrix, flat, stretch

# U above H; G above F; C; M, or A and M; the latter by time step; H U^T; and to work in.
BUFFERS = recurrent.BUFFERS + 13
IMAGES, FRAME, C, M, SHARES, TIES, LEFT, WORK = (np.int64(i) for i in range(recurrent.BUFFERS, recurrent.BUFFERS + 8))
# The same of V: U above H, C, G and H U^T; and inputs beside states, where zeros of dW are looked for.
INPUT_IMAGES, INPUT_C, INPUT_G, INPUT_TIES, SIDE_BY_SIDE = (np.int64(i) for i in range(recurrent.BUFFERS + 8, BUFFERS))
OF_INPUTS, OF_STATES = np.int64(1), np.int64(2)  # numbers of V and W
NOTHING = np.int64(0)


@atom
def top_rows(net, buffer, last, columns):
    """Return the first rows of a matrix with so many columns."""
    return batch.part(net, buffer, ALL, NOTHING, last, columns)


@atom
def asked(net):
    """Return how many states W is asked for: all but the first, which is 0, and the last."""
    return np.int64((recurrent.steps(net) - 1) * net.batch)


@atom
def rows(net):
    """Return how many inputs there are, and how many gradients: one a sample and time step."""
    return np.int64(recurrent.steps(net) * net.batch)


@atom
def known(net):
    """Return how many rows the frame that gradients are made of has before the first of them."""
    return asked(net) if net.orthogonal else NOTHING


@atom
def unit(net):
    """Return what frames are multiplied with: an orthogonal W is a number times a rotation."""
    return net.weight_scale[OF_STATES] * math.sqrt(recurrent.states(net)) if net.orthogonal else 1.0


@atom
def draw(net, out, purpose, matrix, scale):
    """Draw what is asked of a matrix."""
    batch.draw(net.normal, out, net.seed, purpose, matrix, net.number, out.dtype.type(scale))


@atom
def prepare(net, gates, backward):
    """Draw the biases, and what states will be told of W."""
    recurrent.draw_biases(net, gates)
    c = top_rows(net, C, asked(net), asked(net))
    blocks.fill(flat(c), c.dtype.type(0))
    g = top_rows(net, FRAME, asked(net), recurrent.states(net))
    draw(net, g, philox.PROJECTION, OF_STATES, 1.0 if net.orthogonal else net.weight_scale[OF_STATES])


@atom
def project_inputs(net, gates, first, count, exponent):
    """Write x V + b of all time steps, of inputs in units of ``2**exponent``; return their exponent."""
    samples, fan_in, fan_out = rows(net), net.widths[0], recurrent.states(net)
    u, c = top_rows(net, INPUT_IMAGES, samples, fan_in), top_rows(net, INPUT_C, samples, samples)
    g, s = top_rows(net, INPUT_G, samples, fan_out), top_rows(net, S, samples, fan_out)
    blocks.copy(flat(top_rows(net, X, samples, fan_in)), flat(u))
    frames.orthonormalize(u, 0, c, net.buffers[WORK])
    draw(net, g, philox.PROJECTION, OF_INPUTS, net.weight_scale[OF_INPUTS])
    np.dot(c, g, s)
    after = exponent + net.weight_exponent[OF_INPUTS]
    if recurrent.biased(net, NOTHING):
        layer.add_bias(s, top_rows(net, B, np.int64(1), fan_out)[0], after)
        after = max(after, 0)
    return after


@kernel()
def copy_corner(matrix, first, out):
    """Copy rows from ``first`` on, as many and as long as those of ``out``."""
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            out[i, j] = matrix[first + i, j]


@kernel()
def keep_fresh(matrix, above, c, first):
    """Write zeros where a row depends on others: what is fresh must not use up dimensions for it."""
    for i in range(above + first, matrix.shape[0]):
        if c[i, i] == 0:
            blocks.scale(matrix[i], 0.0)


@atom
def pass_forward(net, ask, row, t):
    """Run a time step forward, and record what is wanted of it."""
    exponent = net.exponents[S, t]
    if t > 1:
        width, last = recurrent.states(net), np.int64((t - 1) * net.batch)
        first = last - net.batch
        u, c = top_rows(net, IMAGES, last, width), top_rows(net, C, asked(net), asked(net))
        blocks.copy(flat(recurrent.state(net, t - 1)), flat(u[first:]))
        frames.orthonormalize(u, first, c, net.buffers[WORK])
        g = top_rows(net, FRAME, last, width)
        if net.orthogonal:
            keep_fresh(g, NOTHING, c, first)
            frames.orthonormalize(g, first, top_rows(net, M, last, last), net.buffers[WORK])
        left, product = top_rows(net, LEFT, net.batch, last), recurrent.at(net, SCRATCH, NOTHING, width)
        copy_corner(c, first, left)
        batch.multiply(left, g, product)
        of_product = net.exponents[H, t - 1] + net.weight_exponent[OF_STATES]
        exponent = rnn.add_product(recurrent.preactivation(net, rnn.GATE, t), exponent, product, of_product, unit(net))
    rnn.activate(net, ask, row, t, exponent)


@atom
def begin_back(net):
    """Draw what gradients will be told of W beside what states were, and take off it what those were."""
    last, width = asked(net), recurrent.states(net)
    images = top_rows(net, IMAGES, last + rows(net), width)
    draw(net, images[last:], philox.COMPLEMENT, OF_STATES, 1.0 if net.orthogonal else net.weight_scale[OF_STATES])
    if not net.orthogonal and last > 0:
        batch.multiply_in_groups(images[last:], images[:last].T, top_rows(net, TIES, rows(net), last))


@atom
def pass_back(net, ask, row, t, exponent):
    """Run a time step backward, and record what is wanted of it; return the exponent of the gradient below."""
    if t == recurrent.steps(net):
        begin_back(net)
    exponent = rnn.differentiate(net, ask, row, t, exponent)
    width, above, work = recurrent.states(net), asked(net), net.buffers[WORK]
    first = np.int64((recurrent.steps(net) - t) * net.batch)
    last = first + net.batch
    before = known(net)
    ds = recurrent.preactivation_gradient(net, DS, rnn.GATE, t)
    frame = top_rows(net, FRAME, above + last, width)[above - before :]
    blocks.copy(flat(ds), flat(frame[before + first :]))
    m = top_rows(net, M, before + rows(net), before + rows(net))
    frames.orthonormalize(frame, before + first, m, work)
    shares = recurrent.at(net, SHARES, t - 1, before + rows(net))
    blocks.fill(flat(shares), shares.dtype.type(0))
    copy_corner(m, before + first, shares[:, : before + last])
    left, images = top_rows(net, LEFT, net.batch, above + last), top_rows(net, IMAGES, above + last, width)
    if net.orthogonal:
        copy_corner(shares, NOTHING, left)
        blocks.scale(flat(left), unit(net))
        keep_fresh(images, above, m, first)
        frames.orthonormalize(images, above + first, m, work)
    else:
        beside_states(net, ds, shares, left, last)
    batch.multiply(left, images, recurrent.state_gradient(net, recurrent.DH, t - 1))
    return exponent + net.weight_exponent[OF_STATES]


@atom
def beside_states(net, ds, shares, left, last):
    """Write [ds G^T - M H U^T, M]: with what multiplies U and H."""
    above = asked(net)
    if above > 0:
        width, size = recurrent.states(net), net.batch * above
        of_states = as_matrix(stretch(net.buffers[WORK], NOTHING, size), net.batch, above)
        of_fresh = as_matrix(stretch(net.buffers[WORK], size, size), net.batch, above)
        m = as_matrix(stretch(net.buffers[WORK], 2 * size, net.batch * last), net.batch, last)
        copy_corner(shares, NOTHING, m)
        batch.multiply_in_groups(ds, top_rows(net, FRAME, above, width).T, of_states)
        batch.multiply(m, top_rows(net, TIES, last, above), of_fresh)
        frames.subtract_matrix(of_fresh, of_states)
        copy_corner(of_states, NOTHING, left[:, :above])
    copy_corner(shares, NOTHING, left[:, above:])


@atom
def pass_inputs_back(net, gates, wanted, record, first, count):
    """Write dx of all time steps, and record what is wanted of it."""
    samples, fan_in, fan_out = rows(net), net.widths[0], recurrent.states(net)
    fresh = known(net) + samples
    images = top_rows(net, INPUT_IMAGES, samples + fresh, fan_in)
    draw(net, images[samples:], philox.COMPLEMENT, OF_INPUTS, net.weight_scale[OF_INPUTS])
    ties = top_rows(net, INPUT_TIES, fresh, samples)
    batch.multiply_in_groups(images[samples:], images[:samples].T, ties)
    size = samples * samples
    of_inputs = as_matrix(stretch(net.buffers[WORK], NOTHING, size), samples, samples)
    of_fresh = as_matrix(stretch(net.buffers[WORK], size, size), samples, samples)
    shares, left = top_rows(net, SHARES, samples, fresh), top_rows(net, LEFT, samples, samples + fresh)
    batch.multiply_in_groups(top_rows(net, DS, samples, fan_out), top_rows(net, INPUT_G, samples, fan_out).T, of_inputs)
    batch.multiply_in_groups(shares, ties, of_fresh)
    frames.subtract_matrix(of_fresh, of_inputs)
    copy_corner(of_inputs, NOTHING, left[:, :samples])
    copy_corner(shares, NOTHING, left[:, samples:])
    batch.multiply_in_groups(left, images, top_rows(net, recurrent.DX, samples, fan_in))
    for t in range(1, recurrent.steps(net) + 1):
        recurrent.record_input_gradient(net, wanted, record[t], t)


@atom
def weight_gradient(net, gates, row, wanted, input_exponent, candidate):
    """Record what is wanted of dW, which is not formed: inputs and states are C, gradients M, times frames."""
    top, _ = recurrent.common_exponent(net.exponents[DS], net.exponents[H], input_exponent)
    samples, fan_in, fan_out = rows(net), net.widths[0], recurrent.states(net)
    x, h = top_rows(net, X, samples, fan_in), top_rows(net, H, samples, fan_out)
    ds, shares = top_rows(net, DS, samples, fan_out), top_rows(net, SHARES, samples, known(net) + samples)
    if wanted[r.WEIGHT_GRADIENT_ZERO]:
        both = top_rows(net, SIDE_BY_SIDE, samples, fan_in + fan_out)
        copy_corner(x, NOTHING, both[:, :fan_in])
        copy_corner(h, NOTHING, both[:, fan_in:])
        outer.record_zeros(row, both, ds)
    to_inputs = top_rows(net, INPUT_C, samples, samples)
    to_states = top_rows(net, C, asked(net), asked(net))
    size, total = net.batch, 0.0
    for t in range(1, recurrent.steps(net) + 1):
        first, last = (t - 1) * size, t * size
        shift = net.exponents[DS, t] - top
        of_inputs, of_states = shift + input_exponent, shift + net.exponents[H, t - 1]
        for b in range(first, last):
            gradient = blocks.power_sums_2(ds[b], 0.0)[0]
            total += blocks.times_power(gradient * blocks.power_sums_2(x[b], 0.0)[0], of_inputs)
            total += blocks.times_power(gradient * blocks.power_sums_2(h[b], 0.0)[0], of_states)
        blocks.scale_by_power_of_two(flat(to_inputs[first:last]), of_inputs)
        if t > 1:
            blocks.scale_by_power_of_two(flat(to_states[first - size : last - size]), of_states)
        if wanted[r.WEIGHT_GRADIENT_ONE_SIGNED_COLUMN]:
            both = top_rows(net, SIDE_BY_SIDE, samples, fan_in + fan_out)
            copy_scaled(x[first:last], blocks.unit_of(-of_inputs), both[first:last, :fan_in])
            copy_scaled(h[first:last], blocks.unit_of(-of_states), both[first:last, fan_in:])
    if wanted[r.WEIGHT_GRADIENT_ONE_SIGNED_COLUMN]:
        outer.record_one_signed_columns(row, top_rows(net, SIDE_BY_SIDE, samples, fan_in + fan_out), ds)
    squares = 0.0
    if wanted[r.WEIGHT_GRADIENT + r.M2]:
        squares = squared_norm(to_inputs, shares, net.buffers[LEFT])
        squares += squared_norm(to_states, shares[size:], net.buffers[LEFT])
        row[r.WEIGHT_GRADIENT + r.M1] = total
        row[r.WEIGHT_GRADIENT + r.M2] = squares
        row[r.WEIGHT_GRADIENT + r.SQUARE] = squares
        blocks.finish_powers(row, r.WEIGHT_GRADIENT, (fan_in + fan_out) * fan_out, top)


@kernel()
def squared_norm(c, m, work):
    """Return the squared norm of C^T M; ``work`` has room for it."""
    if m.shape[0] == 0:
        return 0.0
    product = as_matrix(stretch(work, 0, m.size), c.shape[1], m.shape[1])
    np.dot(c.T, m, product)
    return blocks.power_sums_2(flat(product), 0.0)[1]


@functools.cache
def matrix_free_rnn_sampler(dtype: np.dtype[Any]) -> Any:
    """Return the compiled sampler of that precision; ``stabsim.plan`` makes its arguments."""
    simulate_nets = recurrent.sampler(
        rnn.ONE_GATE, rnn.NONE, rnn.begin_cell, pass_forward, pass_back, rnn.finish_back, prepare, project_inputs,
        pass_inputs_back, weight_gradient,
    )  # fmt: skip
    return kernel(signature(dtype, BUFFERS), cache=f"matrix-free rnn {dtype.name}")(simulate_nets)
