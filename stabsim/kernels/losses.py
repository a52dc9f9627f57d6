"""Losses of a batch: each writes, with the gradient and the Hessian by the outputs, sample by sample.

A loss reaches the kernels as a function pointer. All are means over samples; ``rows`` says how many there are in all,
of which a call may see a part.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

from numba import float64, int64

from stabsim.kernels import blocks
from stabsim.kernels.compile import kernel
from stabsim.kernels.views import flat

# float64 (outputs (B, k), targets (B, k), rows, gradient (B, k), curvature (B, k, k)): the loss
SIGNATURE: Any = float64(float64[:, ::1], float64[:, ::1], int64, float64[:, ::1], float64[:, :, ::1])


def mean_squared_error(z, y, rows, gradient, curvature):
    """Mean of (z - y)^2 over samples and outputs."""
    share = 1.0 / (rows * z.shape[1])
    total = 0.0
    blocks.fill(flat(curvature), 0.0)
    for b in range(z.shape[0]):
        for j in range(z.shape[1]):
            difference = z[b, j] - y[b, j]
            total += difference * difference
            gradient[b, j] = 2 * share * difference
            curvature[b, j, j] = 2 * share
    return share * total


def softmax_cross_entropy(z, y, rows, gradient, curvature):
    """Mean over samples of -sum y log softmax(z), y being probabilities."""
    share = 1.0 / rows
    total = 0.0
    for b in range(z.shape[0]):
        highest = z[b, 0]
        for j in range(1, z.shape[1]):
            highest = max(highest, z[b, j])
        partition, whole = 0.0, 0.0
        for j in range(z.shape[1]):
            gradient[b, j] = math.exp(z[b, j] - highest)
            partition += gradient[b, j]
            whole += y[b, j]
        level = highest + math.log(partition)
        for j in range(z.shape[1]):
            total += y[b, j] * (level - z[b, j])
            gradient[b, j] /= partition
        for i in range(z.shape[1]):
            for j in range(z.shape[1]):
                curvature[b, i, j] = -share * whole * gradient[b, i] * gradient[b, j]
            others = 0.0  # 1 - p, without cancellation
            for j in range(z.shape[1]):
                others += gradient[b, j] if j != i else 0.0
            curvature[b, i, i] = share * whole * gradient[b, i] * others
        for j in range(z.shape[1]):
            gradient[b, j] = share * (whole * gradient[b, j] - y[b, j])
    return share * total


def logistic(z, y, rows, gradient, curvature):
    """Mean over samples and outputs of -y log s(z) - (1 - y) log(1 - s(z)), s being the sigmoid and y from 0 to 1."""
    share = 1.0 / (rows * z.shape[1])
    total = 0.0
    blocks.fill(flat(curvature), 0.0)
    for b in range(z.shape[0]):
        for j in range(z.shape[1]):
            tail = math.exp(-abs(z[b, j]))
            less = tail / (1 + tail)  # of s(z) and 1 - s(z)
            total += math.log1p(tail) + (max(z[b, j], 0.0) - y[b, j] * z[b, j])
            gradient[b, j] = share * ((1 - less if z[b, j] > 0 else less) - y[b, j])
            curvature[b, j, j] = share * less * (1 - less)
    return share * total


@functools.cache
def compiled(loss: Callable[..., Any]) -> Any:
    """Return the pointer to one of these functions."""
    return kernel(SIGNATURE, cache=f"loss {loss.__name__}")(loss)
