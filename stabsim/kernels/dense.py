"""The dense sampler: W is drawn, products go through BLAS; one net after another, forward and backward.

A net is a pure function of the problem, the seed and the net's number. Signals are kept near 1: what a buffer holds
is ``value / 2**exponent``, so neither direction over- or underflows at any depth or gain. Multiplying by a power of
two is exact, and the backward pass is linear in the injected gradient, so it may be rescaled at will. The forward
pass may where f is a straight line on either side of 0: always (ReLU), or within rounding, for values far below 1
(tanh) or far above 1 (GELU).
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numba import boolean, float32, float64, int64, types, uint64, void

from stabsim.kernels import blocks, laws, layer, philox
from stabsim.kernels import record as r
from stabsim.kernels.compile import kernel

# Buffers of one net. A layer's part starts at its offset; layers share a place where one at a time is enough.
# (As np.int64, since Numba compiles a function anew for each Python integer that is a constant.)
BUFFERS = 9
Z, D, S, DZ, DS, W, B, DW, EXTREMES = (np.int64(i) for i in range(BUFFERS))


# OpenBLAS has kernels without packing for products z W below this many multiply-adds: on AVX-512, 64 samples through
# 128 x 128 units go at 106 GFLOP/s in groups of 32, and at 78 at once. (ds W^T has no such kernel that is faster.)
SMALL_PRODUCT = 10**6
LEAST_GROUP = 8


@kernel()
def group_size(batch, fan_in, fan_out):  # type: ignore[no-untyped-def]
    """Return how many samples go forward through a layer together."""
    group = SMALL_PRODUCT // (fan_in * fan_out)
    return min(batch, group) if group >= LEAST_GROUP else batch


@kernel()
def part(buffers, offsets, buffer, number, first, last, width):  # type: ignore[no-untyped-def]
    """Return rows ``first`` .. ``last - 1`` of a layer's matrix in a buffer."""
    offset = offsets[buffer, number]
    return buffers[buffer][offset + first * width : offset + last * width].reshape(last - first, width)


@kernel()
def choose_rows(inputs, out, seed, net):  # type: ignore[no-untyped-def]
    """Copy rows of ``inputs`` drawn without replacement; all of them, in order, if as many are asked for."""
    samples = inputs.shape[0]
    batch = out.shape[0]
    k0 = np.uint32(seed)
    k1 = np.uint32(seed >> np.uint64(32))
    order = np.arange(samples)
    for b in range(batch):
        if batch < samples:
            word = philox.philox(np.uint32(b), np.uint32(0), net, philox.SAMPLE_CHOICE, k0, k1)[0]
            j = b + np.int64((np.uint64(word) * np.uint64(samples - b)) >> np.uint64(32))
            order[b], order[j] = order[j], order[b]
        for i in range(out.shape[1]):
            out[b, i] = inputs[order[b], i]


@kernel()
def draw(law, out, seed, purpose, number, net, scale):  # type: ignore[no-untyped-def]
    """Fill a whole matrix of layer ``number``."""
    law(out, np.uint64(0), seed, purpose, np.uint32(number), np.uint32(net), scale)


@kernel()
def forward_product(z, w, s):  # type: ignore[no-untyped-def]
    """Write s = z W."""
    if z.shape[0] == 1:
        np.dot(z[0], w, s[0])
    else:
        np.dot(z, w, s)


@kernel()
def backward_product(ds, w, dz):  # type: ignore[no-untyped-def]
    """Write dz = ds W^T."""
    if ds.shape[0] == 1:
        np.dot(w, ds[0], dz[0])
    else:
        np.dot(ds, w.T, dz)


def _simulate_nets(  # type: ignore[no-untyped-def]
    first_net, seed, widths, batch, buffers, offsets, exponents,
    inputs, input_exponent, output_gradient, gradient_exponent, normal,
    activation, shape, homogeneous, weight_law, weight_scale, weight_exponent, bias_law, bias_scale,
    wanted, backward, saturation, pivots, bins, counts, record,
):  # fmt: skip
    depth = widths.size - 1
    real = weight_scale.dtype.type
    zero = np.int64(0)
    regenerate = depth > 1 and offsets[W, 1] == offsets[W, 2]
    weight_gradients = wanted[r.WEIGHT_GRADIENT + r.M2] or wanted[r.WEIGHT_GRADIENT_ZERO]
    keep_s = np.int64(offsets[S, 1] > 0)
    for index in range(record.shape[0]):
        net = first_net + index
        row = record[index]

        z = part(buffers, offsets, Z, zero, zero, batch, widths[0])
        if inputs.shape[0] > 0:
            choose_rows(inputs, z, seed, np.uint32(net))
        else:
            draw(normal, z, seed, philox.INPUT, zero, net, real(1))
        exponents[Z, 0] = input_exponent
        layer.record_input(row[0], wanted, z, pivots[0], input_exponent)
        blocks.add_to_histogram(counts[layer.H_ACTIVATION, 0], z, input_exponent, bins[layer.H_ACTIVATION])

        for l in range(1, depth + 1):
            fan_in, fan_out = widths[l - 1], widths[l]
            w = part(buffers, offsets, W, l, zero, fan_in, fan_out)
            b = part(buffers, offsets, B, l, zero, np.int64(1), fan_out)
            draw(weight_law, w, seed, philox.WEIGHT, l, net, weight_scale[l])
            if bias_scale[l] != 0:
                draw(bias_law, b, seed, philox.BIAS, l, net, bias_scale[l])
            exponent = exponents[Z, l - 1] + weight_exponent[l]
            s_exponent = max(exponent, 0) if bias_scale[l] != 0 else exponent
            # Where values are in units of their own and f is curved, f is evaluated by the size of each sample's s, and
            # the unit of z depends on that of all samples.
            by_sample = s_exponent != 0 and not homogeneous
            step = batch if by_sample else group_size(batch, fan_in, fan_out)
            z_exponent = s_exponent
            squares = 0.0
            for first in range(0, batch, step):
                last = min(first + step, batch)
                below = part(buffers, offsets, Z, l - 1, first, last, fan_in)
                s = part(buffers, offsets, S, l, keep_s * first, keep_s * first + last - first, fan_out)
                forward_product(below, w, s)
                if bias_scale[l] != 0:
                    layer.add_bias(s, b[0], exponent)
                blocks.add_to_histogram(counts[layer.H_PREACTIVATION, l], s, s_exponent, bins[layer.H_PREACTIVATION])
                if by_sample:
                    z_exponent = layer.exponent_after(layer.choose_regime(s, shape, s_exponent), s_exponent)
                group = np.int64(1) if by_sample else last - first
                for start in range(first, last, group):
                    kept = keep_s * first + start - first
                    s = part(buffers, offsets, S, l, kept, kept + group, fan_out)
                    d = part(buffers, offsets, D, l, start, start + group, fan_out)
                    z = part(buffers, offsets, Z, l, start, start + group, fan_out)
                    regime = layer.choose_regime(s, shape, s_exponent) if by_sample else layer.CURVE
                    squares += layer.activate(
                        row[l],
                        wanted,
                        regime,
                        activation,
                        shape,
                        saturation,
                        pivots[l],
                        s,
                        z,
                        d,
                        s_exponent,
                        z_exponent,
                    )
            z = part(buffers, offsets, Z, l, zero, batch, fan_out)
            d = part(buffers, offsets, D, l, zero, batch, fan_out)
            exponents[S, l] = s_exponent
            layer.finish_activation(row[l], wanted, z, d, s_exponent, z_exponent)
            exponents[Z, l] = z_exponent + layer.normalize(z, squares / z.size)
            blocks.add_to_histogram(counts[layer.H_ACTIVATION, l], z, exponents[Z, l], bins[layer.H_ACTIVATION])

        if not backward:
            continue

        dz = part(buffers, offsets, DZ, depth, zero, batch, widths[depth])
        if output_gradient.shape[0] > 0:
            blocks.copy(output_gradient.reshape(dz.size), dz.reshape(dz.size))
        else:
            draw(normal, dz, seed, philox.OUTPUT_GRADIENT, depth, net, real(1))
        exponent = gradient_exponent
        for l in range(depth, 0, -1):
            fan_in, fan_out = widths[l - 1], widths[l]
            w = part(buffers, offsets, W, l, zero, fan_in, fan_out)
            if regenerate:
                draw(weight_law, w, seed, philox.WEIGHT, l, net, weight_scale[l])
            d = part(buffers, offsets, D, l, zero, batch, fan_out)
            ds = part(buffers, offsets, DS, l, zero, batch, fan_out)
            exponents[DZ, l] = exponent
            blocks.add_to_histogram(
                counts[layer.H_ACTIVATION_GRADIENT, l], dz, exponent, bins[layer.H_ACTIVATION_GRADIENT]
            )
            exponent = layer.pass_back(row[l], wanted, dz, d, ds, exponent)
            exponents[DS, l] = exponent
            blocks.add_to_histogram(
                counts[layer.H_PREACTIVATION_GRADIENT, l], ds, exponent, bins[layer.H_PREACTIVATION_GRADIENT]
            )
            if weight_gradients:
                z = part(buffers, offsets, Z, l - 1, zero, batch, fan_in)
                dw = part(buffers, offsets, DW, l, zero, fan_in, fan_out)
                extremes = part(buffers, offsets, EXTREMES, l, zero, np.int64(2), fan_out)
                exponents[DW, l] = exponents[Z, l - 1] + exponent
                layer.record_weight_gradient(row[l], wanted, z, ds, exponents[DW, l], dw, extremes)
            dz = part(buffers, offsets, DZ, l - 1, zero, batch, fan_in)
            backward_product(ds, w, dz)
            exponent += weight_exponent[l]
        exponents[DZ, 0] = exponent
        layer.record_input_gradient(row[0], wanted, dz, exponent)
        blocks.add_to_histogram(counts[layer.H_ACTIVATION_GRADIENT, 0], dz, exponent, bins[layer.H_ACTIVATION_GRADIENT])


def signature(dtype: np.dtype[Any]) -> Any:
    """Return the type of the dense sampler: the arguments, in order, with what each is."""
    real = float32 if dtype == np.float32 else float64
    return void(
        int64,  # number of the first net
        uint64,  # seed
        int64[::1],  # widths (depth + 1,)
        int64,  # batch
        types.UniTuple(real[::1], BUFFERS),
        int64[:, ::1],  # offsets (BUFFERS, depth + 1): where a layer's part of a buffer starts
        int64[:, ::1],  # exponents (BUFFERS, depth + 1): left by the last net, 0 to start with
        real[:, ::1],  # inputs (samples, widths[0]); no rows: standard normals
        int64,  # ... times 2 to this
        real[:, ::1],  # gradient at the last layer (batch, widths[-1]); no rows: standard normals
        int64,  # ... times 2 to this
        laws.pointer(dtype),  # of standard normals
        types.FunctionType(void(real[::1], real[::1], real[::1])),  # activation
        float64[:, :, ::1],  # its shape (3, 2, 2): near 0, far from it, at 0; below and above; slope and offset
        boolean,  # whether nets are positively homogeneous: f is, and there is no bias
        laws.pointer(dtype),  # of weights
        real[::1],  # scale of the weights of each layer ...
        int64[::1],  # ... times 2 to this
        laws.pointer(dtype),  # of biases
        real[::1],  # scale of the biases of each layer
        boolean[::1],  # wanted columns of the record
        boolean,  # whether to run backward
        float64,  # below this f' and the distance of f to its limit are saturated
        float64[::1],  # pivots of the activations of each layer
        float64[:, ::1],  # histograms: least value and bins a unit
        int64[:, :, ::1],  # histograms: counts (tensor, layer, bins + 2)
        float64[:, :, ::1],  # record (nets, depth + 1, COLUMNS)
    )


@functools.cache
def dense_sampler(dtype: np.dtype[Any]) -> Any:
    """Return the compiled sampler of that precision; ``stabsim.plan`` makes its arguments."""
    return kernel(signature(dtype), cache=dtype.name)(_simulate_nets)
