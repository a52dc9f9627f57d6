"""The RNN without its weights: exact in law, cost proportional to the width and to the square of the time steps.

(But for zeros and signs of dW, as in ``outer``, and its norm, which takes the cube.)

Of a matrix is drawn only what signals and gradients ask of it, each answer given all before (Lu, *Householder Dice*,
IEEE Trans. Inf. Theory 67(12), 2021, arXiv:2101.07464), and an RNN asks the same two again and again. Forward, a signal
z = C U, U being a frame that grows by a row a sample and time step, has z W = C G with fresh rows of G. Backward,
ds = M F likewise, and what W^T makes of F is F G^T U, and fresh in the complement of U:

- Gaussian: ds W^T = ds G^T U + M H (I - U^T U), G and H being normals;
- orthogonal, the weights on the state only: ds = A G + M F and ds W^T = A U + M H, where G and F are one frame, and U
  and H another.
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
from stabsim.kernels.recurrent import ALL, DH, DS, DX, SCRATCH, H, X, rows_of
from stabsim.kernels.rnn import GATE, OF_INPUT, OF_STATE, ONE_GATE
from stabsim.kernels.signature import signature
from stabsim.kernels.structured import add_signal
from stabsim.kernels.views import as_matrix, flat, stretch

# Of W: U above H; C; G above F; H U^T. Of V: U above H; C; G; H U^T. Then M of F, or A and M; the same by time step;
# x and h side by side; and two to work in.
BUFFERS = recurrent.BUFFERS + 13
IMAGES, C, FRAME, TIES, INPUT_IMAGES, INPUT_C, INPUT_G, INPUT_TIES, M, SHARES, SIDES, LEFT, WORK = (
    np.int64(i) for i in range(recurrent.BUFFERS, BUFFERS)
)

FAR = -2000  # a power of two below which nothing is left


@atom
def rows(net):
    """Return how many inputs there are, and how many gradients: one a sample and time step."""
    return np.int64((net.widths.size - 1) * net.batch)


@atom
def asked(net):
    """Return of how many states W is asked: all but the first, which is 0, and the last."""
    return np.int64(rows(net) - net.batch)


@atom
def known(net):
    """Return how many rows the frame of the gradients has before there is one: those of G, if that is a frame."""
    return asked(net) if net.orthogonal else ALL


@atom
def unit(net):
    """Return what frames are multiplied with: an orthogonal W is a number times a rotation."""
    return net.weight_scale[OF_STATE] * math.sqrt(net.widths[1]) if net.orthogonal else 1.0


@atom
def draw(net, out, purpose, matrix):
    """Draw what is asked of a matrix: normals, of which frames are made where it is orthogonal."""
    framed = net.orthogonal and matrix == OF_STATE
    scale = out.dtype.type(1) if framed else net.weight_scale[matrix]
    batch.draw(net.normal, out, net.seed, purpose, matrix, net.number, scale)


@atom
def prepare(net, gates, backward):
    """Draw the biases, and what signals will be told of V and W."""
    recurrent.draw_bias(net, GATE)
    draw(net, rows_of(net, INPUT_G, ALL, rows(net), net.widths[1]), philox.PROJECTION, OF_INPUT)
    draw(net, rows_of(net, FRAME, ALL, asked(net), net.widths[1]), philox.PROJECTION, OF_STATE)
    for buffer, size in ((INPUT_C, rows(net)), (C, asked(net))):
        c = rows_of(net, buffer, ALL, size, size)
        blocks.fill(flat(c), c.dtype.type(0))


@kernel()
def copy_corner(matrix, first, out):
    """Copy rows from one on, as many and as long as those of ``out``."""
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            out[i, j] = matrix[first + i, j]


@kernel()
def keep_fresh(matrix, above, c, first):
    """Write zeros where a row depends on others: what is fresh must not use up dimensions for it."""
    for i in range(above + first, matrix.shape[0]):
        if c[i - above, i - above] == 0:
            blocks.scale(matrix[i], 0.0)


@atom
def extend(net, images, c, first, z):
    """Let a frame grow by the rows of z; return z in terms of it."""
    last = np.int64(first + net.batch)
    u = rows_of(net, images, ALL, last, z.shape[1])
    blocks.copy(flat(z), flat(u[first:]))
    frames.orthonormalize(u, first, c, net.buffers[WORK])
    left = rows_of(net, LEFT, ALL, net.batch, last)
    copy_corner(c, first, left)
    return left


@atom
def preactivate(net, s, t):
    """Write s = x V + h W + b; return its exponent."""
    samples, width = net.batch, net.widths[1]
    first = np.int64((t - 1) * samples)
    c = rows_of(net, INPUT_C, ALL, rows(net), rows(net))
    left = extend(net, INPUT_IMAGES, c, first, recurrent.inputs_of(net, t))
    batch.multiply(left, rows_of(net, INPUT_G, ALL, left.shape[1], width), s)
    exponent = net.exponents[X, t] + net.weight_exponent[OF_INPUT]
    if t > 1:
        last, first = first, np.int64(first - samples)
        c = rows_of(net, C, ALL, asked(net), asked(net))
        left = extend(net, IMAGES, c, first, recurrent.state(net, t - 1))
        g, product = rows_of(net, FRAME, ALL, last, width), recurrent.at(net, SCRATCH, ALL, width)
        if net.orthogonal:
            keep_fresh(g, ALL, c, first)
            frames.orthonormalize(g, first, rows_of(net, M, ALL, last, last), net.buffers[WORK])
        batch.multiply(left, g, product)
        of_state = net.exponents[H, t - 1] + net.weight_exponent[OF_STATE]
        exponent = add_signal(s, exponent, 1.0, product, of_state, unit(net))
    if exponent < recurrent.NOTHING // 2:
        exponent = np.int64(0)
    if not recurrent.biased(net, GATE):
        return exponent
    layer.add_bias(s, recurrent.bias(net, GATE), exponent)
    return max(exponent, 0)


@atom
def pass_forward(net, ask, row, t):
    """Run a time step forward, and record what is wanted of it."""
    s = recurrent.preactivation(net, ONE_GATE, GATE, t)
    rnn.activate(net, ask, row, t, s, preactivate(net, s, t))


@atom
def draw_complement(net, images, ties, above, fresh, width, matrix):
    """Draw what gradients will be told of a matrix, and how much that has in common with what signals were told."""
    both = rows_of(net, images, ALL, above + fresh, width)
    draw(net, both[above:], philox.COMPLEMENT, matrix)
    if above > 0 and not (net.orthogonal and matrix == OF_STATE):
        batch.multiply_in_groups(both[above:], both[:above].T, rows_of(net, ties, ALL, fresh, above))


@atom
def share(net, ds, shares, g, ties):
    """Return [ds G^T - M H U^T, M]: what U and H are to be multiplied with."""
    samples, above, below = net.batch, g.shape[0], shares.shape[1]
    left = rows_of(net, LEFT, ALL, samples, above + below)
    copy_corner(shares, ALL, left[:, above:])
    if above > 0:
        size = samples * above
        of_signals = as_matrix(stretch(net.buffers[WORK], ALL, size), samples, above)
        of_fresh = as_matrix(stretch(net.buffers[WORK], size, size), samples, above)
        m = as_matrix(stretch(net.buffers[WORK], 2 * size, samples * below), samples, below)
        copy_corner(shares, ALL, m)
        batch.multiply_in_groups(ds, g.T, of_signals)
        batch.multiply(m, ties, of_fresh)
        frames.subtract_matrix(of_fresh, of_signals)
        copy_corner(of_signals, ALL, left[:, :above])
    return left


@atom
def pass_back(net, ask, row, t, exponent):
    """Run a time step backward, and record what is wanted of it; return the exponent of the gradient below."""
    last_step, width, above, before = net.widths.size - 1, net.widths[1], asked(net), known(net)
    if t == last_step:
        draw_complement(net, IMAGES, TIES, above, rows(net), width, OF_STATE)
        if ask.wanted[r.INPUT_GRADIENT + r.M2]:
            fresh = before + rows(net)
            draw_complement(net, INPUT_IMAGES, INPUT_TIES, rows(net), fresh, net.widths[0], OF_INPUT)
    exponent = rnn.differentiate(net, ask, row, t, exponent)
    ds = recurrent.preactivation_gradient(net, DS, ONE_GATE, t)
    first = np.int64((last_step - t) * net.batch)
    last = first + net.batch
    frame = rows_of(net, FRAME, ALL, above + last, width)[above - before :]
    m = rows_of(net, M, ALL, before + rows(net), before + rows(net))
    blocks.copy(flat(ds), flat(frame[before + first :]))
    frames.orthonormalize(frame, before + first, m, net.buffers[WORK])
    shares = recurrent.at(net, SHARES, t - 1, before + rows(net))
    blocks.fill(flat(shares), shares.dtype.type(0))
    copy_corner(m, before + first, shares[:, : before + last])
    images = rows_of(net, IMAGES, ALL, above + last, width)
    if net.orthogonal:
        left = rows_of(net, LEFT, ALL, net.batch, above + last)
        copy_scaled(shares, ds.dtype.type(unit(net)), left)
        keep_fresh(images, ALL, m, above + first)
        frames.orthonormalize(images, above + first, m, net.buffers[WORK])
    else:
        g, ties = rows_of(net, FRAME, ALL, above, width), rows_of(net, TIES, ALL, last, above)
        left = share(net, ds, shares[:, :last], g, ties)
    batch.multiply(left, images, recurrent.state_gradient(net, DH, t - 1))
    return exponent + net.weight_exponent[OF_STATE]


@atom
def pass_inputs_back(net, gates, ask, row, t):
    """Write dx = ds V^T, and record what is wanted of it, if anything is."""
    if not ask.wanted[r.INPUT_GRADIENT + r.M2]:
        return
    dx, ds = recurrent.input_gradient(net, t), recurrent.preactivation_gradient(net, DS, ONE_GATE, t)
    samples, last = rows(net), known(net) + np.int64((net.widths.size - t) * net.batch)
    shares = recurrent.at(net, SHARES, t - 1, known(net) + samples)[:, :last]
    g = rows_of(net, INPUT_G, ALL, samples, net.widths[1])
    left = share(net, ds, shares, g, rows_of(net, INPUT_TIES, ALL, last, samples))
    batch.multiply(left, rows_of(net, INPUT_IMAGES, ALL, samples + last, net.widths[0]), dx)
    net.exponents[DX, t] = net.exponents[DS, t] + net.weight_exponent[OF_INPUT]
    recurrent.add_tensor(row, r.INPUT_GRADIENT, ask.wanted, dx, net.exponents[DX, t])


@atom
def sides(net):
    """Return inputs beside states, a row a sample and time step."""
    return rows_of(net, SIDES, ALL, rows(net), recurrent.fan_in(net))


@atom
def weight_gradient(net, gates, by_state, row, wanted):
    """Record what is wanted of dW, which is not formed."""
    samples, inputs, width = rows(net), net.widths[0], net.widths[1]
    top, _ = recurrent.common_exponent(net.exponents[DS], net.exponents[H], net.exponents[X])
    x, h = rows_of(net, X, ALL, samples, inputs), rows_of(net, H, ALL, samples, width)
    ds = rows_of(net, DS, ALL, samples, width)
    if wanted[r.WEIGHT_GRADIENT_ZERO]:
        copy_corner(x, ALL, sides(net)[:, :inputs])
        copy_corner(h, ALL, sides(net)[:, inputs:])
        outer.record_zeros(row, sides(net), ds)
    of_inputs, of_states = rows_of(net, INPUT_C, ALL, samples, samples), rows_of(net, C, ALL, asked(net), asked(net))
    total = 0.0
    for t in range(1, net.widths.size):  # all in units of the largest
        first, last = (t - 1) * net.batch, t * net.batch
        x_shift = max(net.exponents[DS, t] + net.exponents[X, t] - top, FAR)
        h_shift = max(net.exponents[DS, t] + net.exponents[H, t - 1] - top, FAR)
        for b in range(first, last):
            gradient = blocks.power_sums_2(ds[b], 0.0)[0]
            total += blocks.times_power(gradient * blocks.power_sums_2(x[b], 0.0)[0], x_shift)
            total += blocks.times_power(gradient * blocks.power_sums_2(h[b], 0.0)[0], h_shift)
        blocks.scale_by_power_of_two(flat(of_inputs[first:last]), x_shift)
        if t > 1:
            blocks.scale_by_power_of_two(flat(of_states[first - net.batch : first]), h_shift)
        if wanted[r.WEIGHT_GRADIENT_ONE_SIGNED_COLUMN]:
            copy_scaled(x[first:last], blocks.unit_of(-x_shift), sides(net)[first:last, :inputs])
            copy_scaled(h[first:last], blocks.unit_of(-h_shift), sides(net)[first:last, inputs:])
    if wanted[r.WEIGHT_GRADIENT_ONE_SIGNED_COLUMN]:
        outer.record_one_signed_columns(row, sides(net), ds)
    if wanted[r.WEIGHT_GRADIENT + r.M2]:
        shares = rows_of(net, SHARES, ALL, samples, known(net) + samples)
        squares = squared_norm(of_inputs, shares, net.buffers[LEFT])
        squares += squared_norm(of_states, shares[net.batch :], net.buffers[LEFT])
        row[r.WEIGHT_GRADIENT + r.M1] = total
        row[r.WEIGHT_GRADIENT + r.M2] = squares
        row[r.WEIGHT_GRADIENT + r.SQUARE] = squares
        blocks.finish_powers(row, r.WEIGHT_GRADIENT, recurrent.fan_in(net) * width, top)


@kernel()
def squared_norm(c, m, work):
    """Return the squared norm of C^T M, that of z^T ds, z and ds being C and M times frames."""
    if m.shape[0] == 0:
        return 0.0
    product = as_matrix(stretch(work, ALL, c.shape[1] * m.shape[1]), c.shape[1], m.shape[1])
    np.dot(c.T, m, product)
    return blocks.power_sums_2(flat(product), 0.0)[1]


@functools.cache
def matrix_free_rnn_sampler(dtype: np.dtype[Any]) -> Any:
    """Return the compiled sampler of that precision; ``stabsim.plan`` makes its arguments."""
    simulate_nets = recurrent.sampler(
        ONE_GATE, DS, recurrent.nothing_at_start, pass_forward, pass_back, recurrent.nothing_at_end, prepare,
        pass_inputs_back, weight_gradient,
    )  # fmt: skip
    return kernel(signature(dtype, BUFFERS), cache=f"matrix-free rnn {dtype.name}")(simulate_nets)
