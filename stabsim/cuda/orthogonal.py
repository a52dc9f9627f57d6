"""Semi-orthogonal weights by the law of Haar, of the numbers that the processor's `stabsim.kernels.laws` draws."""

from __future__ import annotations

import math
from collections import namedtuple

from stabsim.cuda import block, frames, shim
from stabsim.cuda.shim import Array, cuda, kernel

Pair = namedtuple("Pair", "source out")


@kernel
def _transpose(pair, scale):
    net = cuda.blockIdx.x
    source, out = pair.source[net], pair.out[net]
    by = source.dtype.type(scale)
    for i in range(cuda.blockIdx.y, source.shape[0], cuda.gridDim.y):
        for j in range(cuda.threadIdx.x, source.shape[1], cuda.blockDim.x):
            out[j, i] = by * source[i, j]


@kernel
def _scale(pair, scale):
    net = cuda.blockIdx.x
    out = pair.out[net]
    for i in range(cuda.blockIdx.y, out.shape[0], cuda.gridDim.y):
        frames.scale(out[i], scale)


def make_semi_orthogonal(weights: Array, scale: float) -> None:
    """Turn standard normals into semi-orthogonal weights, in place.

    The law is that of Q in the QR decomposition of a Gaussian matrix with no more columns than rows, the diagonal of R
    being positive; a matrix with more columns than rows is the transpose of one.

    Parameters
    ----------
    weights
        Stack (nets, fan_in, fan_out), C-contiguous, of numbers drawn one after the other.
    scale
        Standard deviation of the weights.
    """
    nets, fan_in, fan_out = weights.shape
    longer, shorter = max(fan_in, fan_out), min(fan_in, fan_out)
    unit = float(weights.dtype.type(scale) * weights.dtype.type(math.sqrt(longer)))
    normals = weights.reshape(nets, longer, shorter)
    if fan_in >= fan_out:
        rows = shim.empty((nets, shorter, longer), weights.dtype)
        _transpose(block.of_rows(nets, longer), block.threads_for(shorter), Pair(normals, rows), 1.0)
        frames.orthonormalize_random(rows)
        _transpose(block.of_rows(nets, shorter), block.threads_for(longer), Pair(rows, weights), unit)
    else:
        drawn = shim.empty(normals.shape, weights.dtype)
        drawn[...] = normals
        _transpose(block.of_rows(nets, longer), block.threads_for(shorter), Pair(drawn, weights), 1.0)
        frames.orthonormalize_random(weights)
        _scale(block.of_rows(nets, shorter), block.threads_for(longer), Pair(weights, weights), unit)
