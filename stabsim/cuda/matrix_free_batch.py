"""The matrix-free sampler of batches on the device: what `kernels/matrix_free_batch.py` does net by net.

W is never formed: see there for the source, and for what is drawn of it. Frames are made by a block of threads a net,
products by the library. Frames and projections of all layers are kept.
"""

from __future__ import annotations

import math
from collections import namedtuple
from typing import Any

import numpy as np
from numba import float64

from stabsim.cuda import frames, outer, shim
from stabsim.cuda.batch import Batches, Wave
from stabsim.cuda.block import total
from stabsim.cuda.matrices import SUMS, sum_up
from stabsim.cuda.plans import Plan
from stabsim.cuda.shim import Array, cuda
from stabsim.cuda.weight_gradients import Factors, record_of_one_sample
from stabsim.kernels import blocks, philox
from stabsim.kernels import record as r
from stabsim.kernels.batch import DS, Z
from stabsim.kernels.matrix_free_batch import unit_of_frames
from stabsim.kernels.outer import WORD
from stabsim.task import Task

TOGETHER = SUMS // 2  # samples, with two sums each

# z and ds (nets, samples, units), and C^T M, of which C and M are those of z and ds.
Norm = namedtuple("Norm", "z ds product")


@shim.device
def squares_of(matrix):
    """Return this thread's part of the sum of squares."""
    squares = 0.0
    size = matrix.shape[0] * matrix.shape[1]
    for i in range(cuda.threadIdx.x, size, cuda.blockDim.x):
        x = float64(matrix[i // matrix.shape[1], i % matrix.shape[1]])
        squares += x * x
    return squares


@shim.device
def total_of(z, ds, sums):
    """Return the sum of all of dW: over samples, of the products of the sums of z and ds."""
    own = cuda.local.array(SUMS, float64)
    found = 0.0
    for start in range(0, z.shape[0], TOGETHER):
        for p in range(TOGETHER):
            of_z, of_ds = 0.0, 0.0
            if start + p < z.shape[0]:
                for j in range(cuda.threadIdx.x, z.shape[1], cuda.blockDim.x):
                    of_z += z[start + p, j]
                for j in range(cuda.threadIdx.x, ds.shape[1], cuda.blockDim.x):
                    of_ds += ds[start + p, j]
            own[2 * p] = of_z
            own[2 * p + 1] = of_ds
        sum_up(own, sums)
        for p in range(TOGETHER):
            found += sums[2 * p] * sums[2 * p + 1]
    return found


@shim.kernel
def record_norm(l, place, norm):
    """Record the mean square of dW = z^T ds; its norm is that of C^T M, z and ds being C and M times frames."""
    net = cuda.blockIdx.x
    z, ds, out, sums = norm.z[net], norm.ds[net], place.record[net, l], place.sums[net]
    squares = total(squares_of(norm.product[net]))
    mean = total_of(z, ds, sums)
    if cuda.threadIdx.x == 0:
        out[r.WEIGHT_GRADIENT + r.M1] = mean
        out[r.WEIGHT_GRADIENT + r.M2] = squares
        out[r.WEIGHT_GRADIENT + r.SQUARE] = squares
        exponent = place.exponents[net, Z, l - 1] + place.exponents[net, DS, l]
        blocks.finish_powers(out, r.WEIGHT_GRADIENT, z.shape[1] * ds.shape[1], exponent)


def in_place(task: Task) -> bool:
    """Return whether frames take the places of z and ds: where nobody asks for them again."""
    return not (orthogonal(task) or task.weight_gradients or task.wants(r.LOOKED_AT))


def orthogonal(task: Task) -> bool:
    """Return whether weights are semi-orthogonal."""
    return bool(task.network.laws[-1].law == "orthogonal")


def spans(task: Task) -> list[tuple[int, int]]:
    """Return how many columns the frames of z and of ds have in layers 1, 2, ..."""
    fans = task.network.fans
    return [(max(fan), max(fan)) if orthogonal(task) else (fan[0], fan[1]) for fan in fans]


def keep_rows(matrix: Array, diagonal_of: Array) -> None:
    """Write zeros into the rows where the other matrices have one on their diagonals."""
    matrix *= (diagonal_of.diagonal(0, 1, 2) != 0)[:, :, None]


def copy_padded(matrix: Array, out: Array) -> None:
    """Copy into the first columns; write zeros into the others."""
    width = matrix.shape[2]
    out[:, :, :width] = matrix
    out[:, :, width:] = 0


class MatrixFreeWeights:
    """The weights of a wave: of each layer U, C and G."""

    def __init__(self, wave: Wave) -> None:
        task = wave.plan.task
        self._wave, self._samples, self._spans = wave, task.batch, spans(task)
        self._scales, self._replaced = wave.plan.problem.weight_scale, in_place(task)
        self._u = wave.z[:-1] if self._replaced else [self._matrices(below) for below, _ in self._spans]
        self._c = [self._matrices(task.batch) for _ in self._spans]
        self._g = [self._matrices(above) for _, above in self._spans]
        most = max(map(max, self._spans))
        self._uh = shim.empty(wave.nets * 2 * task.batch * most, task.dtype)
        self._padded = shim.empty(wave.nets * task.batch * most, task.dtype)
        self._k = self._matrices(2 * task.batch)
        self._of_ds = self._c[0]  # what ds is times a frame

    def _matrices(self, columns: int, rows_a_sample: int = 1) -> Array:
        """Return a new stack (nets, rows, columns)."""
        return shim.empty((self._wave.nets, rows_a_sample * self._samples, columns), self._wave.plan.task.dtype)

    def prepare(self, l: int) -> None:
        """Make U and C of z, and draw G."""
        u = self._u[l - 1]
        if not self._replaced:
            copy_padded(self._wave.z[l - 1], u)
        frames.orthonormalize(u, 0, self._c[l - 1])
        self._draw_projection(l, self._g[l - 1])

    def recall(self, l: int) -> None:
        """Do nothing: all is kept."""

    def _draw_projection(self, l: int, g: Array) -> None:
        """Draw G: each law in its own way."""
        raise NotImplementedError

    def _make_complement(self, l: int, scale: Any) -> Array:
        """Return U above H, which is drawn."""
        below, _ = self._spans[l - 1]
        uh = self._wave.part(self._uh, 2 * self._samples, below)
        uh[:, : self._samples] = self._u[l - 1]
        self._wave.draw("normal", uh[:, self._samples :], philox.COMPLEMENT, l - 1, scale)
        return uh

    def weight_gradient(self, l: int, ds: Array) -> None:
        """Record what is wanted of dW, which is not formed."""
        wave, wanted, z = self._wave, self._wave.plan.task.wanted, self._wave.z[l - 1]
        units = max(z.shape[2], ds.shape[2])
        if self._samples == 1:
            kernel = record_of_one_sample(wave.plan.task.dtype)
            wave.launch(kernel, units, np.int64(l), wave.ask, wave.place, Factors(z, ds))
            return
        if wanted[r.WEIGHT_GRADIENT + r.M2]:
            product = self._matrices(self._of_ds.shape[2])
            shim.multiply(self._c[l - 1].transpose(0, 2, 1), self._of_ds, product)
            wave.launch(record_norm, units, np.int64(l), wave.place, Norm(z, ds, product))
        if wanted[r.WEIGHT_GRADIENT_ZERO]:
            one_signed = bool(wanted[r.WEIGHT_GRADIENT_ONE_SIGNED_COLUMN])
            outer.record_zeros(z, ds, wave.place.record, l, one_signed)


class GaussianWeights(MatrixFreeWeights):
    """Gaussian weights: G and H have their standard deviation."""

    def __init__(self, wave: Wave) -> None:
        super().__init__(wave)
        self._m, self._t, self._known = (self._matrices(self._samples) for _ in range(3))
        self._of_ds = self._m

    def _draw_projection(self, l: int, g: Array) -> None:
        self._wave.draw("normal", g, philox.PROJECTION, l, self._scales[l])

    def factors(self, l: int) -> tuple[Array, Array]:
        """Return C and G."""
        return self._c[l - 1], self._g[l - 1]

    def pull_back(self, l: int, ds: Array, dz: Array) -> None:
        """Write dz = [M (V G^T - H U^T), M] [U; H], ds being M V."""
        samples, uh = self._samples, self._make_complement(l, self._scales[l])
        v = ds
        if not self._replaced:
            v = self._wave.part(self._padded, samples, ds.shape[2])
            v[...] = ds
        frames.orthonormalize(v, 0, self._m)
        shim.multiply_by_transposed(v, self._g[l - 1], self._t)
        shim.multiply_by_transposed(uh[:, samples:], self._u[l - 1], self._known)
        self._t -= self._known
        shim.multiply(self._m, self._t, self._known)
        self._k[:, :, :samples] = self._known
        self._k[:, :, samples:] = self._m
        shim.multiply(self._k, uh, dz)
        if self._scales[l] == 0:
            dz[...] = 0


class OrthogonalWeights(MatrixFreeWeights):
    """Semi-orthogonal weights: G and H are frames, and what is not of them is zero."""

    def __init__(self, wave: Wave) -> None:
        super().__init__(wave)
        task, most = wave.plan.task, max(map(max, self._spans))
        self._gv = shim.empty(wave.nets * 2 * task.batch * most, task.dtype)
        self._coefficients = self._matrices(2 * task.batch, 2)
        self._of_complement = self._matrices(2 * task.batch, 2)
        self._of_ds = self._coefficients[:, self._samples :]

    def _draw_projection(self, l: int, g: Array) -> None:
        self._wave.draw("normal", g, philox.PROJECTION, l, 1)
        keep_rows(g, self._c[l - 1])
        frames.orthonormalize(g, 0, self._matrices(self._samples))

    def factors(self, l: int) -> tuple[Array, Array]:
        """Return C, and the part of G that there are units for, times what W multiplies lengths with."""
        g, width = self._g[l - 1], int(self._wave.plan.widths[l])
        scaled = self._wave.part(self._padded, self._samples, width)
        scaled[...] = g[:, :, :width]
        scaled *= g.dtype.type(self._scales[l] * math.sqrt(g.shape[2]))
        return self._c[l - 1], scaled

    def pull_back(self, l: int, ds: Array, dz: Array) -> None:
        """Write dz = [A, M] [U; H], ds being [A, M] times G and what is beside it, all times what W multiplies with."""
        samples, scale, g = self._samples, self._scales[l], self._g[l - 1]
        uh, gv = self._make_complement(l, 1), self._wave.part(self._gv, 2 * samples, g.shape[2])
        gv[:, :samples] = g
        copy_padded(ds, gv[:, samples:])
        frames.orthonormalize(gv, samples, self._coefficients)
        keep_rows(uh[:, samples:], self._of_ds[:, :, samples:])
        frames.orthonormalize(uh, samples, self._of_complement)
        padded = self._wave.part(self._padded, samples, uh.shape[2])
        self._k[...] = self._of_ds
        self._k *= g.dtype.type(unit_of_frames(float(scale), uh.shape[2]))
        shim.multiply(self._k, uh, padded)
        dz[...] = padded[:, :, : dz.shape[2]]
        if scale == 0:
            dz[...] = 0


def bytes_of_weights(plan: Plan) -> int:
    """Return what a net's U, C and G take, and the places to work in."""
    task = plan.task
    samples, columns, kinds = task.batch, spans(task), 1 + orthogonal(task)
    kept = sum(0 if in_place(task) else below for below, _ in columns) + sum(above for _, above in columns)
    room = (1 + 2 * kinds) * max(map(max, columns)) + samples * (len(columns) + 8 * kinds)
    of_zeros = 8 * (-(-samples // WORD)) * max(map(sum, columns)) if task.wanted[r.WEIGHT_GRADIENT_ZERO] else 0
    return task.dtype.itemsize * samples * (kept + room) + of_zeros


class MatrixFreeBatch(Batches):
    """Nets of a plan, W never formed.

    Parameters
    ----------
    plan : Plan
        Of a task that the CPU's matrix-free sampler of batches runs, without features.
    """

    def __init__(self, plan: Plan) -> None:
        weights = OrthogonalWeights if orthogonal(plan.task) else GaussianWeights
        super().__init__(plan, weights, bytes_of_weights(plan))
