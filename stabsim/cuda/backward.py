"""The backward pass through a layer of nets whose samples lie in the memory of the device, a block of threads a net."""

from __future__ import annotations

import functools
from collections import namedtuple
from typing import Any

import numpy as np
from numba import float64

from stabsim.cuda import shim
from stabsim.cuda.block import REGISTERS, add_up, total
from stabsim.cuda.draws import real_of
from stabsim.cuda.looking import see_gradient
from stabsim.cuda.matrices import scale, share_out
from stabsim.cuda.shim import cuda
from stabsim.kernels import gains, layer, statistics
from stabsim.kernels import record as r
from stabsim.kernels.batch import DS, DZ

Back = namedtuple("Back", "dz d ds")  # of one layer (nets, samples, units)
Gradient = namedtuple("Gradient", "dz")


@functools.cache
def backward_kernel(dtype: np.dtype[Any], observe: Any, columns: int) -> shim.Kernel:
    """Return the kernel of nets whose values ``observe`` sees (`observe.observer`); ``columns`` are the record's."""
    real = real_of(dtype)

    def backward(l, problem, ask, place, here):
        """Write ds = dz f'(s), and record what is wanted of both."""
        net = cuda.blockIdx.x
        dz, d, ds, out = here.dz[net], here.d[net], here.ds[net], place.record[net, l]
        exponent = place.exponents[net, DZ, l]
        own, of_dz = cuda.local.array(columns, float64), cuda.local.array(1, real)
        of_d, of_ds = cuda.local.array(1, real), cuda.local.array(1, real)
        for c in range(columns):
            own[c] = 0.0
        squares = 0.0
        row, step, column, stride = share_out(dz.shape[0], dz.shape[1])
        for i in range(row, dz.shape[0], step):
            for j in range(column, dz.shape[1], stride):
                of_dz[0] = dz[i, j]
                of_d[0] = d[i, j]
                observe(ask, own, statistics.ACTIVATION_GRADIENT, l, of_dz, exponent, dz.size)
                squares += layer.pass_part_back(own, ask.wanted, of_dz, of_d, of_ds)
                ds[i, j] = of_ds[0]
                observe(ask, own, statistics.PREACTIVATION_GRADIENT, l, of_ds, exponent, dz.size)
        add_up(own, r.ACTIVATION_GRADIENT, r.WEIGHT_GRADIENT, out)
        add_up(own, r.ACTIVATION_GRADIENT_ZERO, r.WEIGHT_GRADIENT_ZERO, out)
        add_up(own, r.PREACTIVATION_GRADIENT_SHUT, r.PREACTIVATION_GRADIENT_DEAD_SAMPLE, out)
        add_up(own, r.COLUMNS, columns, out)
        shift = layer.far_from_one(total(squares) / dz.size)
        if shift != 0:
            scale(ds, -shift)
        if cuda.threadIdx.x == 0:
            layer.finish_gradients(out, dz.size, exponent)
            place.exponents[net, DS, l] = exponent + shift
            place.exponents[net, DZ, l - 1] = exponent + shift + problem.weight_exponent[l]
        if ask.looking:
            cuda.syncthreads()
            see_gradient(net, l, ask, place, d, ds, own)

    return shim.Kernel(backward, registers=REGISTERS)


@functools.cache
def input_gradient_kernel(dtype: np.dtype[Any], observe: Any, columns: int) -> shim.Kernel:
    """Return the kernel that records what is wanted of the gradient by the input; the arguments are the same."""
    real = real_of(dtype)

    @shim.kernel
    def record_input_gradient(ask, place, here):
        """Record what is wanted of the gradient by the input."""
        net, l = cuda.blockIdx.x, 0
        dz, out, exponent = here.dz[net], place.record[net, l], place.exponents[net, DZ, l]
        own, value = cuda.local.array(columns, float64), cuda.local.array(1, real)
        for c in range(columns):
            own[c] = 0.0
        row, step, column, stride = share_out(dz.shape[0], dz.shape[1])
        for i in range(row, dz.shape[0], step):
            for j in range(column, dz.shape[1], stride):
                value[0] = dz[i, j]
                layer.add_input_gradient(own, ask.wanted, value)
                observe(ask, own, statistics.ACTIVATION_GRADIENT, l, value, exponent, dz.size)
        add_up(own, r.ACTIVATION_GRADIENT, r.PREACTIVATION_GRADIENT, out)
        add_up(own, r.ACTIVATION_GRADIENT_ZERO, r.PREACTIVATION_GRADIENT_ZERO, out)
        add_up(own, r.COLUMNS, columns, out)
        if cuda.threadIdx.x == 0:
            layer.finish_input_gradient(out, dz.size, exponent)

    return record_input_gradient


@shim.kernel
def record_gains(problem, ask, place):
    """Record the gains, a net in each thread."""
    net = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x
    if net < place.record.shape[0]:
        gains.record_gains(place.record[net], ask.wanted, problem.widths, problem.batch)
