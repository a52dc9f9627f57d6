"""The forward pass through a layer of nets whose samples lie in the memory of the device, a block of threads a net.

A thread takes one number after the other, each with what `kernels/layer.py` does of a tile, and adds into a row of its
own; what is recorded of whole rows and matrices follows from marks and sums of the block.
"""

from __future__ import annotations

import functools
from collections import namedtuple
from typing import Any

import numpy as np
from numba import float64

from stabsim.cuda import shim
from stabsim.cuda.block import REGISTERS, add_up, total
from stabsim.cuda.draws import real_of
from stabsim.cuda.looking import finish_z, see_activation, see_derivative
from stabsim.cuda.matrices import SUMS, TOGETHER, dead_parts, scale, share_out, sum_up, write_zeros
from stabsim.cuda.shim import as_matrix, cuda
from stabsim.kernels import blocks, layer, statistics
from stabsim.kernels import record as r
from stabsim.kernels.batch import S, Z

Forward = namedtuple("Forward", "s b z d")  # of one layer (nets, samples, units); biases (nets, 1, units)


@functools.cache
def input_kernel(dtype: np.dtype[Any], observe: Any, columns: int) -> shim.Kernel:
    """Return the kernel that records what is wanted of the inputs; for the arguments see `forward_kernel`."""
    real = real_of(dtype)

    @shim.kernel
    def record_inputs(ask, place, here):
        """Record what is wanted of the inputs."""
        net, l = cuda.blockIdx.x, 0
        z, out, exponent = here.z[net], place.record[net, l], place.exponents[net, Z, l]
        own, value = cuda.local.array(columns, float64), cuda.local.array(1, real)
        for c in range(columns):
            own[c] = 0.0
        row, step, column, stride = share_out(z.shape[0], z.shape[1])
        for i in range(row, z.shape[0], step):
            for j in range(column, z.shape[1], stride):
                value[0] = z[i, j]
                layer.add_input(own, ask.wanted, value, ask.pivots[l], exponent)
                observe(ask, own, statistics.ACTIVATION, l, value, exponent, z.size)
        add_up(own, r.ACTIVATION, r.DERIVATIVE, out)
        add_up(own, r.ACTIVATION_ZERO, r.ACTIVATION_DEAD_SAMPLE, out)
        add_up(own, r.COLUMNS, columns, out)
        zeros = out[r.ACTIVATION_ZERO]
        cuda.syncthreads()
        finish_z(net, l, ask, place, z, zeros, exponent)
        if ask.looking:
            see_activation(net, l, place, z)

    return record_inputs


@functools.cache
def forward_kernel(dtype: np.dtype[Any], activation: Any, observe: Any, columns: int) -> shim.Kernel:
    """Return the kernel of nets with that activation, as `plan.functions` has it, whose values ``observe`` sees.

    ``columns`` are those of the record.
    """
    real, curve, one = real_of(dtype), np.int64(layer.CURVE), np.int64(1)
    activation = shim.compiled(activation)

    @shim.device
    def load(here, net, i, j, biased, exponent, s, b):
        """Read s, and add the bias."""
        s[0] = here.s[net, i, j]
        if biased:
            b[0] = here.b[net, 0, j]
            layer.add_bias(as_matrix(s, one, one), b, exponent)

    @shim.device
    def choose_regimes(net, problem, place, here, biased, exponent, s_exponent):
        """Write how f is evaluated on each sample, and return how it would be on all."""
        s, b = cuda.local.array(1, real), cuda.local.array(1, real)
        own, sums = cuda.local.array(SUMS, float64), place.sums[net]
        samples, width = here.s.shape[1], here.s.shape[2]
        all_squares, all_below, all_above = 0.0, 0.0, 0.0
        for c in range(SUMS):
            own[c] = 0.0
        for start in range(0, samples, TOGETHER):
            for p in range(min(TOGETHER, samples - start)):  # not unrolled, as in `mean_correlation`
                squares, below, above = 0.0, 0.0, 0.0
                for j in range(cuda.threadIdx.x, width, cuda.blockDim.x):
                    load(here, net, start + p, j, biased, exponent, s, b)
                    seen = blocks.totals(s)
                    squares += seen[1]
                    below += seen[3]
                    above += seen[4]
                own[3 * p] = squares
                own[3 * p + 1] = below
                own[3 * p + 2] = above
            sum_up(own, sums)
            for p in range(min(TOGETHER, samples - start)):
                squares, below, above = sums[3 * p], sums[3 * p + 1], sums[3 * p + 2]
                all_squares += squares
                all_below += below
                all_above += above
                if cuda.threadIdx.x == p:
                    place.regimes[net, start + p] = layer.regime_of(
                        squares / width, below, above, s.itemsize, problem.shape, s_exponent
                    )
        cuda.syncthreads()
        mean_square = all_squares / (samples * width)
        return layer.regime_of(mean_square, all_below, all_above, s.itemsize, problem.shape, s_exponent)

    def forward(l, problem, ask, place, here):
        """Run a layer forward from its products, and record what is wanted of it."""
        net = cuda.blockIdx.x
        z, d, out, wanted = here.z[net], here.d[net], place.record[net, l], ask.wanted
        exponent = place.exponents[net, Z, l - 1] + problem.weight_exponent[l]
        biased = problem.bias_scale[l] != 0
        s_exponent = max(exponent, np.int64(0)) if biased else exponent
        by_sample = s_exponent != 0 and not problem.homogeneous
        z_exponent = s_exponent
        if by_sample:
            regime_of_all = choose_regimes(net, problem, place, here, biased, exponent, s_exponent)
            z_exponent = layer.exponent_after(regime_of_all, s_exponent)
        own, of_s, of_b = cuda.local.array(columns, float64), cuda.local.array(1, real), cuda.local.array(1, real)
        of_z, of_d = cuda.local.array(1, real), cuda.local.array(1, real)
        for c in range(columns):
            own[c] = 0.0
        squares = 0.0
        row, step, column, stride = share_out(z.shape[0], z.shape[1])
        for i in range(row, z.shape[0], step):
            regime = place.regimes[net, i] if by_sample else curve
            for j in range(column, z.shape[1], stride):
                load(here, net, i, j, biased, exponent, of_s, of_b)
                observe(ask, own, statistics.PREACTIVATION, l, of_s, s_exponent, z.size)
                squares += layer.activate(
                    own, wanted, regime, activation, problem.shape, ask.saturation, ask.pivots[l], of_s, of_z, of_d,
                    s_exponent, z_exponent,
                )  # fmt: skip
                z[i, j] = of_z[0]
                d[i, j] = of_d[0]
                observe(ask, own, statistics.ACTIVATION, l, of_z, z_exponent, z.size)
                observe(ask, own, statistics.DERIVATIVE, l, of_d, np.int64(0), z.size)
        add_up(own, r.PREACTIVATION, r.ACTIVATION_GRADIENT, out)
        add_up(own, r.ACTIVATION_ZERO, r.ACTIVATION_GRADIENT_ZERO, out)
        add_up(own, r.COLUMNS, columns, out)
        zeros, zeros_of_d = out[r.ACTIVATION_ZERO], out[r.DERIVATIVE_ZERO]
        squares = total(squares)
        rows, lines = 0.0, 0.0
        if zeros_of_d > 0:
            rows, lines = dead_parts(d, place.marks[net])
        if cuda.threadIdx.x == 0:
            blocks.finish_powers(out, r.PREACTIVATION, z.size, s_exponent)
            blocks.finish_powers(out, r.DERIVATIVE, d.size, np.int64(0))
            out[r.DERIVATIVE_SATURATED] /= d.size
            out[r.ACTIVATION_SATURATED] /= z.size
            if wanted[r.DERIVATIVE_ZERO]:
                write_zeros(out, r.DERIVATIVE_ZERO, wanted, d, rows, lines)
        finish_z(net, l, ask, place, z, zeros, z_exponent)
        shift = layer.far_from_one(squares / z.size)
        if shift != 0:
            cuda.syncthreads()
            scale(z, -shift)
        if cuda.threadIdx.x == 0:
            place.exponents[net, S, l] = s_exponent
            place.exponents[net, Z, l] = z_exponent + shift
        if ask.looking:
            cuda.syncthreads()
            see_activation(net, l, place, z)
            see_derivative(net, l, place, d)

    return shim.Kernel(forward, registers=REGISTERS)
