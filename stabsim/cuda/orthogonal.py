"""Semi-orthogonal weights by the law of Haar, of the numbers that the processor's `stabsim.kernels.laws` draws."""

from __future__ import annotations

import math
from typing import Any

from stabsim.cuda import frames, shim
from stabsim.cuda.shim import Array


def make_semi_orthogonal(weights: Array, scale: Any) -> None:
    """Turn standard normals into semi-orthogonal weights, in place.

    The law is that of Q in the QR decomposition of a Gaussian matrix with no more columns than rows, the diagonal of R
    being positive; a matrix with more columns than rows is the transpose of one.

    Parameters
    ----------
    weights : array of the device
        Stack (nets, fan_in, fan_out), C-contiguous, of numbers drawn one after the other.
    scale : number
        Standard deviation of the weights.
    """
    nets, fan_in, fan_out = weights.shape
    longer, shorter, real = max(fan_in, fan_out), min(fan_in, fan_out), weights.dtype.type
    tall = fan_in >= fan_out
    turned = weights.reshape(nets, longer, shorter).transpose(0, 2, 1)
    rows = shim.empty((nets, shorter, longer), weights.dtype)
    rows[...] = turned
    frames.orthonormalize_random(rows)
    rows *= real(scale) * real(math.sqrt(longer))
    weights[...] = rows.transpose(0, 2, 1) if tall else rows
