"""The matrix-free sampler for batches: exact in law, W is never formed.

A layer takes time proportional to its width and to the square of the batch, but for zeros and signs of dW (``outer``).

Only what a batch asks of W is drawn; see ``matrix_free`` for the source. With Z = C U, U a frame (orthonormal or zero
rows, as many as samples), dS = M V likewise, and G, H fresh standard normals:

- Gaussian W of standard deviation sigma: Z W = sigma C G and, given that, dS W^T = sigma (dS G^T U + M H (I - U^T U)).
- Semi-orthogonal W, a corner of sigma sqrt(N) times a Haar matrix of size N = max(fan_in, fan_out), all padded with
  zeros to N columns: the same with G a random frame, dS = A G + M V with V orthogonal to G, and for H (I - U^T U)
  a random frame orthogonal to U.

A row of U that is zero has a zero column of C beside it, so samples that repeat or depend on others need no care but
one: frames that are random must be zero in the rows that nothing refers to, which would use up dimensions.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from stabsim.kernels import batch, blocks, frames, layer, outer, philox, structured
from stabsim.kernels import record as r
from stabsim.kernels.compile import atom, kernel
from stabsim.kernels.signature import signature
from stabsim.kernels.views import as_matrix, flat

# Buffers beside the common ones: U (empty where it takes the place of z), G and C of each layer; one place for U above
# H, one for G above dS, and others to work in.
BUFFERS = batch.COMMON + 10
U, G, C, UH, GV, R, V, K, M, WORK = (np.int64(i) for i in range(batch.COMMON, BUFFERS))


@atom
def span(net, l, width):
    """Return how many columns a frame has beside vectors of ``width``."""
    return max(net.widths[l - 1], net.widths[l]) if net.orthogonal else width


@atom
def place(net, buffer, rows, columns):
    """Return a matrix of a buffer to work in."""
    return as_matrix(net.buffers[buffer][: rows * columns], rows, columns)


@kernel()
def copy_padded(matrix, out):
    """Copy into the first columns; write zeros into the others."""
    width = matrix.shape[1]
    for i in range(matrix.shape[0]):
        for j in range(width):
            out[i, j] = matrix[i, j]
        for j in range(width, out.shape[1]):
            out[i, j] = 0


@kernel()
def copy_scaled(matrix, scale, out):
    """Copy the first columns times ``scale``."""
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            out[i, j] = scale * matrix[i, j]


@kernel()
def keep_rows(matrix, diagonal_of):
    """Write zeros into the rows where the other matrix has one on its diagonal."""
    for i in range(matrix.shape[0]):
        if diagonal_of[i, i] == 0:
            blocks.scale(matrix[i], 0.0)


@atom
def frame(net, l):
    """Return U; where it has no buffer, it takes the place of z."""
    if net.buffers[U].size > 0:
        return batch.part(net, U, l, 0, net.batch, span(net, l, net.widths[l - 1]))
    return batch.whole(net, batch.Z, l - 1)


@atom
def make_frame(net, l):
    """Make U and C of z."""
    u = frame(net, l)
    if net.buffers[U].size > 0:
        copy_padded(batch.whole(net, batch.Z, l - 1), u)
    frames.orthonormalize(u, 0, batch.part(net, C, l, 0, net.batch, net.batch), net.buffers[WORK])


@atom
def draw_projection(net, l):
    """Draw G."""
    rows, fan_out = net.batch, net.widths[l]
    scale = net.weight_scale[l]
    g = batch.part(net, G, l, 0, rows, span(net, l, fan_out))
    unit = g.dtype.type(1) if net.orthogonal else scale
    batch.draw(net.normal, g, net.seed, philox.PROJECTION, l, net.number, unit)
    if net.orthogonal:
        keep_rows(g, batch.part(net, C, l, 0, rows, rows))
        frames.orthonormalize(g, 0, place(net, K, rows, rows), net.buffers[WORK])
        copy_scaled(g, g.dtype.type(scale * math.sqrt(g.shape[1])), place(net, R, rows, fan_out))


@atom
def prepare(net, l):
    """Make U and C of z, and draw G."""
    make_frame(net, l)
    draw_projection(net, l)


@atom
def factors(net, l):
    """Return C and, times the scale of W, G; and the exponent of their product."""
    fan_out = net.widths[l]
    c = batch.part(net, C, l, 0, net.batch, net.batch)
    g = place(net, R, net.batch, fan_out) if net.orthogonal else batch.part(net, G, l, 0, net.batch, fan_out)
    return c, g, net.exponents[batch.Z, l - 1] + net.weight_exponent[l]


@atom
def recall(net, quiet, row, given, l):
    """Run the layer below forward again for its z and f', and make U of them, unless all are kept."""
    if not net.kept:
        if l == 1:
            batch.draw_inputs(net, given)
        else:
            draw_projection(net, l - 1)
            batch.pass_forward(factors, net, quiet, row, l - 1)
        make_frame(net, l)


@kernel(apart=True)
def gaussian_back(v, g, uh, k, m, t, work):
    """Make a frame of dS = M V, and write k = [M (V G^T - H U^T), M], so that dZ = k [U; H]."""
    rows = v.shape[0]
    u, h = uh[:rows], uh[rows:]
    frames.orthonormalize(v, 0, m, work)
    batch.multiply_in_groups(v, g.T, t)
    known = as_matrix(work[: rows * rows], rows, rows)
    batch.multiply_in_groups(h, u.T, known)
    frames.subtract_matrix(known, t)
    np.dot(m, t, known)
    for i in range(rows):
        for j in range(rows):
            k[i, j] = known[i, j]
            k[i, rows + j] = m[i, j]


@kernel(apart=True)
def orthogonal_back(ds, gv, uh, unit, k, m, coefficients, work):
    """Write k = unit [A, M], and make a frame of h."""
    rows = ds.shape[0]
    copy_padded(ds, gv[rows:])
    frames.orthonormalize(gv, rows, coefficients, work)
    for i in range(rows):
        for j in range(2 * rows):
            k[i, j] = unit * coefficients[rows + i, j]
        for j in range(rows):
            m[i, j] = coefficients[rows + i, rows + j]
    keep_rows(uh[rows:], m)
    frames.orthonormalize(uh, rows, coefficients, work)


@atom
def pull_back(net, l, ds, dz):
    """Write dz = ds W^T; return its exponent."""
    rows, work = net.batch, net.buffers[WORK]
    fan_in, fan_out = net.widths[l - 1], net.widths[l]
    columns, columns_out = span(net, l, fan_in), span(net, l, fan_out)
    uh = place(net, UH, 2 * rows, columns)
    blocks.copy(flat(frame(net, l)), flat(uh[:rows]))
    k, m = place(net, K, rows, 2 * rows), place(net, M, rows, rows)
    scale = net.weight_scale[l]
    size = uh.dtype.type(1) if net.orthogonal else scale
    batch.draw(net.normal, uh[rows:], net.seed, philox.COMPLEMENT, l - 1, net.number, size)
    if net.orthogonal:
        gv = place(net, GV, 2 * rows, columns_out)
        blocks.copy(flat(batch.part(net, G, l, 0, rows, columns_out)), flat(gv[:rows]))
        unit = uh.dtype.type(unit_of_frames(scale, columns))
        orthogonal_back(ds, gv, uh, unit, k, m, place(net, V, 2 * rows, 2 * rows), work)
    else:
        g = batch.part(net, G, l, 0, rows, fan_out)
        t = place(net, R, rows, rows)
        v = ds
        if net.buffers[V].size > 0:
            v = place(net, V, rows, fan_out)
            copy_padded(ds, v)
        gaussian_back(v, g, uh, k, m, t, work)
    if columns == fan_in:
        batch.multiply_in_groups(k, uh, dz)
    else:
        padded = place(net, R, rows, columns)
        batch.multiply_in_groups(k, uh, padded)
        copy_scaled(padded, uh.dtype.type(1), dz)
    if scale == 0.0:
        blocks.scale(flat(dz), 0.0)
    return net.exponents[batch.DS, l] + net.weight_exponent[l]


@kernel()
def unit_of_frames(scale, columns):
    """Return what semi-orthogonal W multiplies lengths with; 1 for W = 0, so that what is divided by it is known."""
    return scale * math.sqrt(columns) if scale != 0.0 else 1.0


@kernel()
def record_norm(row, z, ds, c, m, unit, exponent, work):
    """Record the mean square of dW = Z^T dS; its norm is that of C^T M, Z and dS being C and M times frames."""
    squares, total = 0.0, 0.0
    product = as_matrix(work[: m.size], m.shape[0], m.shape[1])
    np.dot(c.T, m, product)
    squares = blocks.power_sums_2(flat(product), 0.0)[1] / unit**2
    for b in range(z.shape[0]):
        total += blocks.power_sums_2(z[b], 0.0)[0] * blocks.power_sums_2(ds[b], 0.0)[0]
    row[r.WEIGHT_GRADIENT + r.M1] = total
    row[r.WEIGHT_GRADIENT + r.M2] = squares
    row[r.WEIGHT_GRADIENT + r.SQUARE] = squares
    blocks.finish_powers(row, r.WEIGHT_GRADIENT, z.shape[1] * ds.shape[1], exponent)


@atom
def weight_gradient(net, l, row, wanted, ds):
    """Record what is wanted of dW, which is not formed."""
    rows = net.batch
    z = batch.whole(net, batch.Z, l - 1)
    exponent = net.exponents[batch.Z, l - 1] + net.exponents[batch.DS, l]
    if rows == 1:
        of_z, of_ds = blocks.totals(z[0]), blocks.totals(ds[0])
        layer.record_outer_product(row, wanted, z.size, of_z, ds.size, of_ds, exponent)
        return
    if wanted[r.WEIGHT_GRADIENT + r.M2]:
        c = batch.part(net, C, l, 0, rows, rows)
        work = net.buffers[WORK]
        if net.orthogonal:
            unit = unit_of_frames(net.weight_scale[l], span(net, l, net.widths[l]))
            record_norm(row, z, ds, c, place(net, K, rows, 2 * rows), unit, exponent, work)
        else:
            record_norm(row, z, ds, c, place(net, M, rows, rows), 1.0, exponent, work)
    if wanted[r.WEIGHT_GRADIENT_ZERO]:
        outer.record_zeros(row, z, ds)
        if wanted[r.WEIGHT_GRADIENT_ONE_SIGNED_COLUMN]:
            outer.record_one_signed_columns(row, z, ds)


@functools.cache
def matrix_free_batch_sampler(dtype: np.dtype[Any]) -> Any:
    """Return the compiled sampler of that precision; ``stabsim.plan`` makes its arguments."""
    simulate_nets = batch.sampler(prepare, factors, recall, pull_back, weight_gradient)
    return kernel(signature(dtype, BUFFERS), cache=f"matrix_free_batch {dtype.name}")(simulate_nets)


@atom
def recall_nothing(net, quiet, row, given, l):
    """Do nothing: all is kept."""


@functools.cache
def structured_matrix_free_sampler(dtype: np.dtype[Any]) -> Any:
    """Return the same for nets with normalization or residual connections, of which all is kept."""
    passes = (structured.pass_forward, structured.pass_back)
    simulate_nets = batch.sampler(prepare, factors, recall_nothing, pull_back, weight_gradient, *passes)
    return kernel(signature(dtype, BUFFERS), cache=f"structured matrix_free {dtype.name}")(simulate_nets)
