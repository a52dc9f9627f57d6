"""The Jacobian J = dz_L/dz_0 of one sample, no weights being formed: mean square and largest of its singular values.

Golub-Kahan bidiagonalization (SIAM Journal on Numerical Analysis B 2, 1965, doi:10.1137/0702016) from a random vector,
every vector being taken off all before: each step asks J and J^T of one vector. Of each W is drawn only what it is
asked, each answer given all before (Lu, *Householder Dice*, IEEE Trans. Inf. Theory 67(12), 2021, arXiv:2101.07464).
Rows x that went forward have a frame U with images U W, rows y that went back a frame F with images F W^T; a new
direction u has

    u W = u (F W^T)^T F + g (I - F^T F),

g being fresh normals, and likewise back. |J v|^2 of the first vector v has the mean square as its mean; the largest
singular value of the bidiagonal matrix is below that of J, and tends to it.

What is no linear function of such means (the spread, the logarithm of the norm) would be wrong by about the spread over
the width, so it is not given.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from stabsim.kernels import batch, blocks, frames, layer, philox, spectrum
from stabsim.kernels import record as r
from stabsim.kernels.compile import atom, kernel
from stabsim.kernels.signature import signature
from stabsim.kernels.views import as_matrix, flat, stretch

# Of bidiagonalization, and no more than the narrowest layer has units. With three times as many, the largest singular
# value of 5 to 20 layers is found to be larger by 1e-7 (width 1000), 1e-6 (10,000) or 2e-3 (100,000).
STEPS = 32

# Of each W: frames of what went forward and back, and their images, fresh normals where nothing was asked yet. Of all
# layers: vectors of either end, and places to work in.
BUFFERS = batch.COMMON + 9
U, IMAGES, F, BACK, RIGHT, LEFT, VECTOR, ANSWER, TIES = (np.int64(i) for i in range(batch.COMMON, BUFFERS))
TOLD, TOLD_BACK = U, F  # in whose place among the exponents stands how many rows a frame has


@atom
def rows_of(net, buffer, l, count, width):
    """Return the first rows of a layer's matrix."""
    return batch.part(net, buffer, l, np.int64(0), count, width)


@kernel()
def steps_of(widths):
    """Return how many steps there are."""
    return min(np.int64(STEPS), np.min(widths))


@atom
def prepare(net, l):
    """Forget what W was asked, and draw what is fresh in its answers."""
    count = steps_of(net.widths) + 1
    net.exponents[TOLD, l] = 0
    net.exponents[TOLD_BACK, l] = 0
    forward, back = rows_of(net, IMAGES, l, count, net.widths[l]), rows_of(net, BACK, l, count, net.widths[l - 1])
    batch.draw(net.normal, forward, net.seed, philox.PROJECTION, l, net.number, net.weight_scale[l])
    batch.draw(net.normal, back, net.seed, philox.COMPLEMENT, l, net.number, net.weight_scale[l])


@kernel()
def take_off(frame, x, ties, work):
    """Take the rows of a frame off a vector; add what was taken to ``ties``."""
    if frame.shape[0] == 0:
        return
    products = stretch(work, np.int64(0), frame.shape[0])
    np.dot(frame, x, products)
    for i in range(frame.shape[0]):
        ties[i] += products[i]
        blocks.blend(1.0, x, -products[i], frame[i])


@kernel()
def size_of(x):
    """Return the length of a vector."""
    return math.sqrt(blocks.power_sums_2(x, 0.0)[1])


@kernel(apart=True)
def ask(frame, images, others, their_images, told, told_others, x, answer, work):
    """Write the answer to a row x, which is used up; return how many rows the frame has now.

    ``others`` and ``their_images`` are the frame of rows that were asked the other way, with what they were answered.
    """
    before = size_of(x)
    ties = stretch(work, np.int64(0), frame.shape[0])
    products = stretch(work, frame.shape[0], max(frame.shape[0], others.shape[0]))
    blocks.fill(ties, ties.dtype.type(0))
    take_off(frame[:told], x, ties, products)
    take_off(frame[:told], x, ties, products)
    left = size_of(x)
    blocks.fill(answer, answer.dtype.type(0))
    fresh = left > frames.NOTHING * blocks.precision(x.itemsize) * before
    if fresh:
        blocks.copy(x, frame[told])
        blocks.scale(frame[told], 1.0 / left)
        image = images[told]
        if told_others > 0:
            known = stretch(products, np.int64(0), told_others)
            blocks.fill(known, known.dtype.type(0))
            unused = stretch(work, frame.shape[0] + max(frame.shape[0], others.shape[0]), told_others)
            take_off(others[:told_others], image, known, unused)
            np.dot(their_images[:told_others], frame[told], known)
            for i in range(told_others):
                blocks.blend(1.0, image, known[i], others[i])
        blocks.blend(1.0, answer, left, image)
    for i in range(told):
        blocks.blend(1.0, answer, ties[i], images[i])
    return told + 1 if fresh else told


@atom
def ask_forward(net, l, x, answer):
    """Write x W, but for the power of two of W; x is used up."""
    count, below, width = steps_of(net.widths) + 1, net.widths[l - 1], net.widths[l]
    net.exponents[TOLD, l] = ask(
        rows_of(net, U, l, count, below), rows_of(net, IMAGES, l, count, width), rows_of(net, F, l, count, width),
        rows_of(net, BACK, l, count, below), net.exponents[TOLD, l], net.exponents[TOLD_BACK, l], x, answer,
        net.buffers[TIES],
    )  # fmt: skip


@atom
def ask_back(net, l, y, answer):
    """Write y W^T, but for the power of two of W; y is used up."""
    count, below, width = steps_of(net.widths) + 1, net.widths[l - 1], net.widths[l]
    net.exponents[TOLD_BACK, l] = ask(
        rows_of(net, F, l, count, width), rows_of(net, BACK, l, count, below), rows_of(net, U, l, count, below),
        rows_of(net, IMAGES, l, count, width), net.exponents[TOLD_BACK, l], net.exponents[TOLD, l], y, answer,
        net.buffers[TIES],
    )  # fmt: skip


@atom
def vector(net, buffer, width):
    """Return a place to work in."""
    return stretch(net.buffers[buffer], np.int64(0), width)


@atom
def factors(net, l):
    """Return 1 and z W, and the exponent of their product."""
    below, width = net.widths[l - 1], net.widths[l]
    x, answer = vector(net, VECTOR, below), vector(net, ANSWER, width)
    blocks.copy(flat(batch.whole(net, batch.Z, l - 1)), x)
    ask_forward(net, l, x, answer)
    one = as_matrix(stretch(net.buffers[TIES], np.int64(0), np.int64(1)), np.int64(1), np.int64(1))
    one[0, 0] = 1.0
    return one, as_matrix(answer, np.int64(1), width), net.exponents[batch.Z, l - 1] + net.weight_exponent[l]


@atom
def recall(net, quiet, row, given, l):
    """Do nothing: all is kept."""


@atom
def pull_back(net, l, ds, dz):
    """Write dz = ds W^T; return its exponent."""
    y = vector(net, VECTOR, net.widths[l])
    blocks.copy(flat(ds), y)
    ask_back(net, l, y, flat(dz))
    return net.exponents[batch.DS, l] + net.weight_exponent[l]


@atom
def weight_gradient(net, l, row, wanted, ds):
    """Record what is wanted of dW, which is not formed."""
    z = batch.whole(net, batch.Z, l - 1)
    exponent = net.exponents[batch.Z, l - 1] + net.exponents[batch.DS, l]
    layer.record_outer_product(row, wanted, z.size, blocks.totals(z[0]), ds.size, blocks.totals(ds[0]), exponent)


@atom
def go_forward(net, v, out):
    """Write J v; return its power of two."""
    exponent = np.int64(0)
    x = vector(net, VECTOR, v.size)
    blocks.copy(v, x)
    for l in range(1, net.widths.size):
        answer = vector(net, ANSWER, net.widths[l])
        ask_forward(net, l, x, answer)
        blocks.multiply_in_place(answer, batch.whole(net, batch.D, l)[0])
        x = vector(net, VECTOR, net.widths[l])
        blocks.copy(answer, x)
        exponent += net.weight_exponent[l] + rescale(x)
    blocks.copy(x, out)
    return exponent


@atom
def go_back(net, u, out):
    """Write J^T u; return its power of two."""
    exponent = np.int64(0)
    y = vector(net, VECTOR, u.size)
    blocks.copy(u, y)
    for l in range(net.widths.size - 1, 0, -1):
        blocks.multiply_in_place(y, batch.whole(net, batch.D, l)[0])
        answer = vector(net, ANSWER, net.widths[l - 1])
        ask_back(net, l, y, answer)
        y = vector(net, VECTOR, net.widths[l - 1])
        blocks.copy(answer, y)
        exponent += net.weight_exponent[l] + rescale(y)
    blocks.copy(y, out)
    return exponent


@kernel()
def rescale(x):
    """Bring a vector near 1 if it is far; return by which power of two it was divided."""
    squares = blocks.power_sums_2(x, 0.0)[1]
    exponent = layer.far_from_one(squares / x.size)
    blocks.scale_by_power_of_two(x, -exponent)
    return exponent


@kernel()
def orthonormalize_last(rows, count, work):
    """Take the rows before off row ``count``, and make it a unit vector; return what its length was."""
    row, ties = rows[count], stretch(work, np.int64(0), count + 1)
    before = size_of(row)
    take_off(rows[:count], row, ties, stretch(work, count + 1, count + 1))
    take_off(rows[:count], row, ties, stretch(work, count + 1, count + 1))
    left = size_of(row)
    if not left > frames.NOTHING * blocks.precision(row.itemsize) * before:
        left = 0.0
    blocks.scale(row, 1.0 / left if left > 0.0 else 0.0)
    return left


@atom
def bidiagonalize(net, diagonal, beside):
    """Fill in the bidiagonal matrix, its diagonal and what is beside it; return the power of two of J."""
    steps = diagonal.size
    right = rows_of(net, RIGHT, np.int64(0), steps, net.widths[0])
    left = rows_of(net, LEFT, np.int64(0), steps, net.widths[-1])
    first = right[:1]
    batch.draw(net.normal, first, net.seed, philox.PROJECTION, np.int64(0), net.number, first.dtype.type(1))
    blocks.scale(right[0], 1.0 / size_of(right[0]))
    unit = np.int64(0)
    for k in range(steps):
        power = go_forward(net, right[k], left[k])
        if k == 0:
            unit = power
        blocks.scale_by_power_of_two(left[k], power - unit)
        diagonal[k] = orthonormalize_last(left, k, net.buffers[TIES])
        if diagonal[k] == 0.0 or k + 1 == steps:
            break
        power = go_back(net, left[k], right[k + 1])
        blocks.scale_by_power_of_two(right[k + 1], power - unit)
        beside[k] = orthonormalize_last(right, k + 1, net.buffers[TIES])
        if beside[k] == 0.0:
            break
    return unit


@atom
def record_input(net, ask, row):
    """Record what is wanted of the singular values of J."""
    steps = steps_of(net.widths)
    if not ask.wanted[r.SINGULAR_VALUE_LOG10_LARGEST]:
        steps = np.int64(1)
    diagonal, beside = np.zeros(steps), np.zeros(steps)
    unit = bidiagonalize(net, diagonal, beside)
    matrix, values = np.zeros((steps, steps)), np.empty(steps)
    for k in range(steps):
        matrix[k, k] = diagonal[k]
        if k + 1 < steps:
            matrix[k, k + 1] = beside[k]
    spectrum.singular_values(matrix, values)
    write(row, diagonal[0] ** 2 * net.widths[0] / min(net.widths[0], net.widths[-1]), values[0], unit)


@kernel()
def write(row, mean_square, largest, unit):
    """Write both, given in units of ``2**unit``; the largest of a J that is 0 has no logarithm."""
    row[r.SINGULAR_VALUE + r.M2] += mean_square
    row[r.SINGULAR_VALUE + r.SQUARE] += mean_square
    row[r.SINGULAR_VALUE + r.EXPONENT] = unit
    row[r.SINGULAR_VALUE_LOG10_LARGEST] += math.log10(largest) + unit * blocks.LOG10_OF_2 if largest > 0.0 else math.nan


@functools.cache
def matrix_free_jacobian_sampler(dtype: np.dtype[Any]) -> Any:
    """Return the compiled sampler of that precision; ``stabsim.plan`` makes its arguments."""
    simulate_nets = batch.sampler(prepare, factors, recall, pull_back, weight_gradient, finish=record_input)
    return kernel(signature(dtype, BUFFERS), cache=f"matrix-free jacobian {dtype.name}")(simulate_nets)
