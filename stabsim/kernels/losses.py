"""Losses of a batch: each writes, with the gradient and the Hessian by the outputs, sample by sample.

A loss reaches the kernels as a function pointer. All are means over samples. Those of shares keep their digits where
nearly all is right, down to underflow: there the gradient must fall as the curvature does. The curvature is left out
if there is no place for it.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

from numba import float64

from stabsim.kernels import blocks
from stabsim.kernels.compile import kernel
from stabsim.kernels.views import flat

# float64 (outputs (B, k), targets (B, k), gradient (B, k), curvature (B, k, k)): the loss
SIGNATURE: Any = float64(float64[:, ::1], float64[:, ::1], float64[:, ::1], float64[:, :, ::1])


def mean_squared_error(z, y, gradient, curvature):
    """Mean of (z - y)^2 over samples and outputs."""
    share = 1.0 / z.size
    total = 0.0
    blocks.fill(flat(curvature), 0.0)
    for b in range(z.shape[0]):
        for j in range(z.shape[1]):
            difference = z[b, j] - y[b, j]
            total += difference * difference
            gradient[b, j] = 2 * share * difference
            if curvature.size > 0:
                curvature[b, j, j] = 2 * share
    return share * total


def softmax_cross_entropy(z, y, gradient, curvature):
    """Mean over samples of -sum y log softmax(z), y being probabilities."""
    share = 1.0 / z.shape[0]
    total = 0.0
    for b in range(z.shape[0]):
        most = 0
        for j in range(1, z.shape[1]):
            most = j if z[b, j] > z[b, most] else most
        rest, whole = 0.0, 0.0  # the others by the largest, and all targets
        for j in range(z.shape[1]):
            gradient[b, j] = 1.0 if j == most else math.exp(z[b, j] - z[b, most])
            rest += 0.0 if j == most else gradient[b, j]
            whole += y[b, j]
        log_rest = math.log1p(rest)
        for j in range(z.shape[1]):
            total += y[b, j] * ((z[b, most] - z[b, j]) + log_rest)
            gradient[b, j] /= 1 + rest
        if curvature.size > 0:
            for i in range(z.shape[1]):
                for j in range(z.shape[1]):
                    curvature[b, i, j] = -share * whole * gradient[b, i] * gradient[b, j]
        for j in range(z.shape[1]):
            p = gradient[b, j]
            others = rest / (1 + rest) if j == most else 1 - p  # of the others p is at most 1/2
            gradient[b, j] = share * (p * (whole - y[b, j]) - y[b, j] * others)
            if curvature.size > 0:
                curvature[b, j, j] = share * whole * p * others
    return share * total


def logistic(z, y, gradient, curvature):
    """Mean over samples and outputs of -y log s(z) - (1 - y) log(1 - s(z)), s being the sigmoid and y from 0 to 1."""
    share = 1.0 / z.size
    total = 0.0
    blocks.fill(flat(curvature), 0.0)
    for b in range(z.shape[0]):
        for j in range(z.shape[1]):
            tail = math.exp(-abs(z[b, j]))
            less = tail / (1 + tail)  # of s(z) and 1 - s(z)
            if z[b, j] > 0:
                total += math.log1p(tail) + (1 - y[b, j]) * z[b, j]
                gradient[b, j] = share * ((1 - y[b, j]) - less)
            else:
                total += math.log1p(tail) - y[b, j] * z[b, j]
                gradient[b, j] = share * (less - y[b, j])
            if curvature.size > 0:
                curvature[b, j, j] = share * less * (1 - less)
    return share * total


@functools.cache
def compiled(loss: Callable[..., Any]) -> Any:
    """Return the pointer to one of these functions."""
    return kernel(SIGNATURE, cache=f"loss {loss.__name__}")(loss)
