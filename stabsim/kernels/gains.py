"""What each layer does to the size of a gradient: how much of it f' leaves, and W, and z of that by W."""

from __future__ import annotations

import math

from stabsim.kernels import blocks
from stabsim.kernels import record as r
from stabsim.kernels.compile import kernel


@kernel()
def log10_gain(row, tensor, size, before, tensor_before, size_before):
    """Return log10 of a norm over another, from mean squares: -inf if 0 is left, NaN if there was nothing to lose."""
    square, square_before = row[tensor + r.SQUARE] * size, before[tensor_before + r.SQUARE] * size_before
    if square_before == 0.0:
        return math.nan
    if square == 0.0:
        return -math.inf
    exponent = row[tensor + r.EXPONENT] - before[tensor_before + r.EXPONENT]
    return 0.5 * (math.log10(square) - math.log10(square_before)) + blocks.LOG10_OF_2 * exponent


@kernel()
def record_gains(rows, wanted, widths, batch):
    """Write the gains of all layers of a net that has been run backward: NaN where there was nothing to lose."""
    last = widths.size - 1
    for l in range(last + 1):
        row, size = rows[l], widths[l] * batch
        if l > 0 and wanted[r.PREACTIVATION_GRADIENT_GAIN]:
            row[r.PREACTIVATION_GRADIENT_GAIN] = log10_gain(
                row, r.PREACTIVATION_GRADIENT, size, row, r.ACTIVATION_GRADIENT, size
            )
        if l > 0 and wanted[r.WEIGHT_GRADIENT_GAIN]:
            row[r.WEIGHT_GRADIENT_GAIN] = log10_gain(
                row, r.WEIGHT_GRADIENT, widths[l - 1] * widths[l], row, r.PREACTIVATION_GRADIENT, size
            )
        if l < last and wanted[r.ACTIVATION_GRADIENT_GAIN]:
            row[r.ACTIVATION_GRADIENT_GAIN] = log10_gain(
                row, r.ACTIVATION_GRADIENT, size, rows[l + 1], r.PREACTIVATION_GRADIENT, widths[l + 1] * batch
            )
    rows[last, r.ACTIVATION_GRADIENT_GAIN] = math.nan
