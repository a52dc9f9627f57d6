"""The dense sampler: W is drawn, products go through BLAS."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from stabsim.kernels import batch, clipping, layer, philox, structured
from stabsim.kernels.compile import atom, kernel
from stabsim.kernels.signature import NONE, signature

BUFFERS = batch.COMMON + 3
W, DW, EXTREMES = (np.int64(i) for i in range(batch.COMMON, BUFFERS))
Z, D, S, DZ, DS, B = batch.Z, batch.D, batch.S, batch.DZ, batch.DS, batch.B


@atom
def weights(net, l):
    """Return W (fan_in, fan_out)."""
    return batch.part(net, W, l, 0, net.widths[l - 1], net.widths[l])


@atom
def prepare(net, l):
    """Draw W."""
    net.exponents[W, l] = net.weight_exponent[l]
    batch.draw(net.weights, weights(net, l), net.seed, philox.WEIGHT, l, net.number, net.weight_scale[l])


@atom
def factors(net, l):
    """Return z and W, and the exponent of their product."""
    return batch.whole(net, Z, l - 1), weights(net, l), net.exponents[Z, l - 1] + net.weight_exponent[l]


@atom
def recall(net, quiet, row, given, l):
    """Draw W again, unless all are kept."""
    if not net.kept:
        prepare(net, l)


@kernel()
def multiply_back(ds, w, dz):
    """Write dz = ds W^T."""
    if ds.shape[0] == 1:
        np.dot(w, ds[0], dz[0])
    else:
        np.dot(ds, w.T, dz)


@atom
def pull_back(net, l, ds, dz):
    """Write dz = ds W^T; return its exponent."""
    multiply_back(ds, weights(net, l), dz)
    return net.exponents[DS, l] + net.weight_exponent[l]


@atom
def weight_gradient(net, l, row, wanted, ds):
    """Form dW, record what is wanted of it, and of what clipping makes of it."""
    fan_in, fan_out = net.widths[l - 1], net.widths[l]
    dw = batch.part(net, DW, l, 0, fan_in, fan_out)
    net.exponents[DW, l] = net.exponents[Z, l - 1] + net.exponents[DS, l]
    extremes = batch.part(net, EXTREMES, l, 0, 2, fan_out)
    clipped = net.clip.kind != NONE
    z = batch.whole(net, Z, l - 1)
    layer.record_weight_gradient(row, wanted, z, ds, net.exponents[DW, l], dw, extremes, clipped)
    if clipped:
        clipping.clip(net.clip, row, dw, net.exponents[DW, l], weights(net, l), net.weight_exponent[l])


@functools.cache
def dense_sampler(dtype: np.dtype[Any]) -> Any:
    """Return the compiled sampler of that precision; ``stabsim.plan`` makes its arguments."""
    simulate_nets = batch.sampler(prepare, factors, recall, pull_back, weight_gradient)
    return kernel(signature(dtype, BUFFERS), cache=f"dense {dtype.name}")(simulate_nets)


@functools.cache
def structured_dense_sampler(dtype: np.dtype[Any]) -> Any:
    """Return the same for nets with normalization or residual connections."""
    passes = (structured.pass_forward, structured.pass_back)
    simulate_nets = batch.sampler(prepare, factors, recall, pull_back, weight_gradient, *passes)
    return kernel(signature(dtype, BUFFERS), cache=f"structured dense {dtype.name}")(simulate_nets)
