"""What each thread does with the units of one sample, group by group of random numbers: the parts of its steps."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numba import float64

from stabsim.cuda import draws, shim
from stabsim.cuda.block import add_up
from stabsim.cuda.drawing import ZERO, Drawing, drawing
from stabsim.cuda.one_sample import (
    ALONG,
    BEYOND,
    LENGTH,
    MORE,
    SEEN,
    SQUARED,
    Step,
    Steps,
    drawn_back,
    finish_back,
    finish_forward,
    finish_input_back,
    finish_regime,
    finish_scale,
)
from stabsim.cuda.shim import cuda, stretch
from stabsim.kernels import blocks, layer, philox, statistics
from stabsim.kernels import matrix_free as m
from stabsim.kernels import record as r
from stabsim.kernels.compile import atom
from stabsim.kernels.matrix_free import BLOCK, REGIME

TILE = philox.TILE  # positions that start a tile in both precisions are its multiples


@atom
def keep_totals(row, columns, seen):
    """Add five totals to a thread's sums."""
    for i in range(5):
        row[columns + SEEN + i] += seen[i]


@atom
def first_block(width, part, parts):
    """Return the first block of units of a part."""
    return -(-width // BLOCK) * part // parts


def _forward_steps(of: Drawing, activation: Any, observe: Any, columns: int) -> tuple[Step, Step, Step]:
    """Return the steps forward; for the arguments see `steps`."""
    real, words, groups, units_of, normals, preactivations, inputs_of, square_of_normals = of
    size_of_row = columns + MORE

    @shim.device
    def sum_more(net, part, row):
        add_up(row, columns, size_of_row, net.sums[part])

    @shim.device
    def scale_part(net, l, part, parts):
        """Sum the squares of all of g that semi-orthogonal W takes."""
        if net.problem.orthogonal:
            row = cuda.local.array(size_of_row, float64)
            for c in range(size_of_row):
                row[c] = 0.0
            longer = max(net.problem.widths[l - 1], net.problem.widths[l])
            row[columns + SQUARED] = square_of_normals(net, 0, longer, philox.PROJECTION, l, part, parts)
            sum_more(net, part, row)

    @shim.device
    def regime_part(net, l, part, parts):
        """Sum up s, where how f is evaluated depends on its size."""
        problem = net.problem
        if net.exponents[m.S, l] != 0 and not problem.homogeneous:
            row = cuda.local.array(size_of_row, float64)
            p, s, b = cuda.local.array(words, real), cuda.local.array(words, real), cuda.local.array(words, real)
            for c in range(size_of_row):
                row[c] = 0.0
            width = problem.widths[l]
            first, last = first_block(width, part, parts) * groups, first_block(width, part + 1, parts) * groups
            for group in range(first + cuda.threadIdx.x, min(last, draws.groups_of(width, words)), cuda.blockDim.x):
                size = units_of(group, width)
                preactivations(net, l, group, size, p, s, b)
                keep_totals(row, columns, blocks.totals(stretch(s, ZERO, size)))
            sum_more(net, part, row)

    @shim.device
    def forward_part(net, l, part, parts):
        """Run units forward."""
        problem, ask = net.problem, net.ask
        row = cuda.local.array(size_of_row, float64)
        tie = cuda.local.array(2, float64)
        p, s, b = cuda.local.array(words, real), cuda.local.array(words, real), cuda.local.array(words, real)
        z, d, h = cuda.local.array(words, real), cuda.local.array(words, real), cuda.local.array(words, real)
        for c in range(size_of_row):
            row[c] = 0.0
        width, back = problem.widths[l], drawn_back(net, l)
        s_exponent, z_exponent = net.exponents[m.S, l], net.exponents[m.Z, l]
        regime = np.int64(net.states[l, REGIME])
        for k in range(first_block(width, part, parts), first_block(width, part + 1, parts)):
            tie[0] = 0.0
            tie[1] = 0.0
            last = min((k + 1) * groups, draws.groups_of(width, words))
            for group in range(k * groups + cuda.threadIdx.x, last, cuda.blockDim.x):
                size = units_of(group, width)
                of_s, of_z = stretch(s, ZERO, size), stretch(z, ZERO, size)
                of_d, of_h = stretch(d, ZERO, size), stretch(h, ZERO, size)
                if l == 0:
                    inputs_of(net, group, size, z)
                    tie[0] += layer.add_input(row, ask.wanted, of_z, ask.pivots[l], z_exponent)
                else:
                    preactivations(net, l, group, size, p, s, b)
                    observe(ask, row, statistics.PREACTIVATION, l, of_s, s_exponent, width)
                    tie[0] += layer.activate(
                        row, ask.wanted, regime, activation, problem.shape, ask.saturation, ask.pivots[l], of_s, of_z,
                        of_d, s_exponent, z_exponent,
                    )  # fmt: skip
                    observe(ask, row, statistics.DERIVATIVE, l, of_d, np.int64(0), width)
                observe(ask, row, statistics.ACTIVATION, l, of_z, z_exponent, width)
                if back:
                    normals(h, group, net, philox.COMPLEMENT, l, 1.0)
                    if problem.orthogonal:
                        row[columns + ALONG] += blocks.dot(of_z, of_h)
                        row[columns + LENGTH] += blocks.dot(of_h, of_h)
                    else:
                        tie[1] += blocks.dot(of_z, of_h)
                    if ask.weight_gradients:
                        keep_totals(row, columns, blocks.totals(of_z))
            add_up(tie, 0, 2, net.ties[l, k])
        add_up(row, r.PREACTIVATION, r.ACTIVATION_GRADIENT, net.sums[part])
        add_up(row, r.ACTIVATION_ZERO, r.ACTIVATION_GRADIENT_ZERO, net.sums[part])
        add_up(row, r.COLUMNS, size_of_row, net.sums[part])

    return Step(scale_part, finish_scale), Step(regime_part, finish_regime), Step(forward_part, finish_forward)


def _back_steps(of: Drawing, activation: Any, observe: Any, columns: int) -> tuple[Step, Step]:
    """Return the steps back; for the arguments see `steps`."""
    real, words, groups, units_of, normals, preactivations, inputs_of, square_of_normals = of
    size_of_row = columns + MORE

    @shim.device
    def gradients(net, l, k, size, z, h, dz):
        """Write dz = a z + b h of some units of block k."""
        a, b = net.gradient[0], net.gradient[1]
        if not net.problem.orthogonal:
            a += b * net.ties[l, k, 0]
        blocks.combine(a, stretch(z, ZERO, size), b, stretch(h, ZERO, size), stretch(dz, ZERO, size))

    @shim.device
    def back_part(net, l, part, parts):
        """Run units back."""
        problem, ask, depth = net.problem, net.ask, net.problem.widths.size - 1
        row = cuda.local.array(size_of_row, float64)
        p, s, b = cuda.local.array(words, real), cuda.local.array(words, real), cuda.local.array(words, real)
        z, d, h = cuda.local.array(words, real), cuda.local.array(words, real), cuda.local.array(words, real)
        dz, ds = cuda.local.array(words, real), cuda.local.array(words, real)
        for c in range(size_of_row):
            row[c] = 0.0
        width, exponent = problem.widths[l], np.int64(net.gradient[2])
        regime = np.int64(net.states[l, REGIME])
        for k in range(first_block(width, part, parts), first_block(width, part + 1, parts)):
            last = min((k + 1) * groups, draws.groups_of(width, words))
            for group in range(k * groups + cuda.threadIdx.x, last, cuda.blockDim.x):
                size = units_of(group, width)
                of_dz, of_ds = stretch(dz, ZERO, size), stretch(ds, ZERO, size)
                of_d = stretch(d, ZERO, size)
                preactivations(net, l, group, size, p, s, b)
                layer.evaluate(
                    regime, activation, problem.shape, stretch(s, ZERO, size), stretch(z, ZERO, size),
                    of_d, net.exponents[m.S, l],
                )  # fmt: skip
                if l < depth:
                    normals(h, group, net, philox.COMPLEMENT, l, 1.0)
                    gradients(net, l, k, size, z, h, dz)
                elif net.given.output_gradient.shape[0] > 0:
                    for i in range(size):
                        dz[i] = net.given.output_gradient[0, draws.place_of(group, words) + i * draws.LANES]
                else:
                    normals(dz, group, net, philox.OUTPUT_GRADIENT, l, 1.0)
                observe(ask, row, statistics.ACTIVATION_GRADIENT, l, of_dz, exponent, width)
                row[columns + SQUARED] += layer.pass_part_back(row, ask.wanted, of_dz, of_d, of_ds)
                observe(ask, row, statistics.PREACTIVATION_GRADIENT, l, of_ds, exponent, width)
                row[columns + ALONG] += blocks.dot(of_ds, stretch(p, ZERO, size))
                if ask.weight_gradients:
                    keep_totals(row, columns, blocks.totals(of_ds))
        fan_in = problem.widths[l - 1]
        if problem.orthogonal and width > fan_in:
            beyond = -(-fan_in // TILE) * TILE
            last = beyond + width - fan_in
            row[columns + BEYOND] += square_of_normals(net, beyond, last, philox.COMPLEMENT, l - 1, part, parts)
        add_up(row, r.ACTIVATION_GRADIENT, r.WEIGHT_GRADIENT, net.sums[part])
        add_up(row, r.ACTIVATION_GRADIENT_ZERO, r.WEIGHT_GRADIENT_ZERO, net.sums[part])
        add_up(row, r.PREACTIVATION_GRADIENT_SHUT, r.PREACTIVATION_GRADIENT_SHUT + 1, net.sums[part])
        add_up(row, r.COLUMNS, size_of_row, net.sums[part])

    @shim.device
    def input_back_part(net, l, part, parts):
        """Sum up the gradient by the input."""
        ask, width = net.ask, net.problem.widths[0]
        row = cuda.local.array(size_of_row, float64)
        z, h, dz = cuda.local.array(words, real), cuda.local.array(words, real), cuda.local.array(words, real)
        for c in range(size_of_row):
            row[c] = 0.0
        for k in range(first_block(width, part, parts), first_block(width, part + 1, parts)):
            last = min((k + 1) * groups, draws.groups_of(width, words))
            for group in range(k * groups + cuda.threadIdx.x, last, cuda.blockDim.x):
                size = units_of(group, width)
                inputs_of(net, group, size, z)
                normals(h, group, net, philox.COMPLEMENT, 0, 1.0)
                gradients(net, 0, k, size, z, h, dz)
                of_dz = stretch(dz, ZERO, size)
                observe(ask, row, statistics.ACTIVATION_GRADIENT, 0, of_dz, np.int64(net.gradient[2]), width)
                layer.add_input_gradient(row, ask.wanted, of_dz)
        add_up(row, r.ACTIVATION_GRADIENT, r.PREACTIVATION_GRADIENT, net.sums[part])
        add_up(row, r.ACTIVATION_GRADIENT_ZERO, r.PREACTIVATION_GRADIENT_ZERO, net.sums[part])
        add_up(row, r.COLUMNS, size_of_row, net.sums[part])

    return Step(back_part, finish_back), Step(input_back_part, finish_input_back)


@functools.cache
def steps(dtype: np.dtype[Any], activation: Any, observe: Any, bias_law: str, columns: int, full: bool) -> Steps:
    """Return the steps of nets with that activation, law of biases and statistics.

    Parameters
    ----------
    dtype : dtype
        float32 or float64.
    activation
        Compiled for the CPU, as `plan.functions` has it.
    observe
        What sees values: `observe.observer`.
    bias_law : str
        Of the biases.
    columns : int
        Of the record.
    full : bool
        Whether every group of random numbers is one of units: see `drawing`.
    """
    of, activation = drawing(dtype, bias_law, full), shim.compiled(activation)
    return Steps(*_forward_steps(of, activation, observe, columns), *_back_steps(of, activation, observe, columns))
