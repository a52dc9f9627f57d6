"""What is recorded of dW = z^T ds: of one that has been formed, and of a single sample's, which need not be."""

from __future__ import annotations

import functools
from collections import namedtuple
from typing import Any

import numpy as np
from numba import float64

from stabsim.cuda import shim
from stabsim.cuda.block import add_up, total
from stabsim.cuda.draws import real_of
from stabsim.cuda.matrices import LINES, MORE_ROWS, ROWS, SUMS, clear, count_unmarked, share_out, sum_up
from stabsim.cuda.shim import cuda
from stabsim.kernels import blocks, layer
from stabsim.kernels import record as r
from stabsim.kernels.batch import DS, Z

Formed = namedtuple("Formed", "dw")  # (nets, fan_in, fan_out)
Factors = namedtuple("Factors", "z ds")  # (nets, 1, fan_in), (nets, 1, fan_out)

COLUMNS = r.COLUMNS  # a constant for the compiler

# Columns of dW are marked by what signs they have; those of all 0 by neither.
BELOW, ABOVE = LINES, MORE_ROWS


@shim.device
def mark_signs(dw, marks):
    """Mark rows that are not all 0, and columns by their signs; a NaN in the first row counts as both."""
    for kind in range(ROWS, ABOVE + 1):
        clear(marks[kind], max(dw.shape[0], dw.shape[1]))
    row, step, column, stride = share_out(dw.shape[0], dw.shape[1])
    for j in range(column, dw.shape[1], stride):
        below, above = False, False
        for i in range(row, dw.shape[0], step):
            value = dw[i, j]
            if value != 0 and marks[ROWS, i] == 0:
                marks[ROWS, i] = 1
            unordered = i == 0 and value != value
            below |= value < 0 or unordered
            above |= value > 0 or unordered
        if below:
            marks[BELOW, j] = 1
        if above:
            marks[ABOVE, j] = 1
    cuda.syncthreads()


@shim.device
def write_signs(out, dw, zeros, marks, sums):
    """Write the shares of zeros, of rows and columns of nothing else, and of columns of one sign."""
    mark_signs(dw, marks)
    rows = count_unmarked(marks[ROWS], dw.shape[0])
    own = cuda.local.array(SUMS, float64)
    for c in range(SUMS):
        own[c] = 0.0
    for j in range(cuda.threadIdx.x, dw.shape[1], cuda.blockDim.x):
        seen = marks[BELOW, j] + marks[ABOVE, j]
        own[0] += 1.0 if seen == 0 else 0.0
        own[1] += 1.0 if seen == 1 else 0.0
    sum_up(own, sums)
    if cuda.threadIdx.x == 0:
        columns = dw.shape[1]
        dead, one_signed = sums[0], sums[1]
        out[r.WEIGHT_GRADIENT_ZERO] = zeros / dw.size
        out[r.WEIGHT_GRADIENT_DEAD_ROW] = rows / dw.shape[0]
        out[r.WEIGHT_GRADIENT_DEAD_COLUMN] = dead / columns
        out[r.WEIGHT_GRADIENT_ONE_SIGNED_COLUMN] = one_signed / (columns - dead) if dead < columns else np.nan


@functools.cache
def record_formed(dtype: np.dtype[Any]) -> shim.Kernel:
    """Return the kernel that records what is wanted of a dW that has been formed."""
    real = real_of(dtype)

    def record_formed_gradient(l, ask, place, formed):
        net = cuda.blockIdx.x
        dw, out = formed.dw[net], place.record[net, l]
        own, value = cuda.local.array(COLUMNS, float64), cuda.local.array(1, real)
        for c in range(COLUMNS):
            own[c] = 0.0
        zeros = 0.0
        row, step, column, stride = share_out(dw.shape[0], dw.shape[1])
        for i in range(row, dw.shape[0], step):
            for j in range(column, dw.shape[1], stride):
                value[0] = dw[i, j]
                zeros += blocks.add_powers(own, r.WEIGHT_GRADIENT, ask.wanted, value, 0.0)[1]
        add_up(own, r.WEIGHT_GRADIENT, r.ACTIVATION_ZERO, out)
        zeros = total(zeros)
        if cuda.threadIdx.x == 0:
            exponent = place.exponents[net, Z, l - 1] + place.exponents[net, DS, l]
            blocks.finish_powers(out, r.WEIGHT_GRADIENT, dw.size, exponent)
        if ask.wanted[r.WEIGHT_GRADIENT_ZERO]:
            write_signs(out, dw, zeros, place.marks[net], place.sums[net])

    return shim.kernel(record_formed_gradient)


@functools.cache
def record_of_one_sample(dtype: np.dtype[Any]) -> shim.Kernel:
    """Return the kernel that records what is wanted of the dW of a single sample, from its factors."""
    real = real_of(dtype)

    @shim.device
    def add_totals(vector, value, own, first):
        for j in range(cuda.threadIdx.x, vector.shape[0], cuda.blockDim.x):
            value[0] = vector[j]
            seen = blocks.totals(value)
            for i in range(5):
                own[first + i] += seen[i]

    def record_outer_product(l, ask, place, factors):
        net = cuda.blockIdx.x
        z, ds, sums = factors.z[net, 0], factors.ds[net, 0], place.sums[net]
        own, value = cuda.local.array(SUMS, float64), cuda.local.array(1, real)
        for c in range(SUMS):
            own[c] = 0.0
        add_totals(z, value, own, 0)
        add_totals(ds, value, own, 5)
        sum_up(own, sums)
        if cuda.threadIdx.x == 0:
            exponent = place.exponents[net, Z, l - 1] + place.exponents[net, DS, l]
            of_z = sums[0], sums[1], sums[2], sums[3], sums[4]
            of_ds = sums[5], sums[6], sums[7], sums[8], sums[9]
            layer.record_outer_product(
                place.record[net, l], ask.wanted, z.shape[0], of_z, ds.shape[0], of_ds, exponent
            )  # fmt: skip

    return shim.kernel(record_outer_product)
