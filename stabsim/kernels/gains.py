"""What each layer does to the size of a gradient: how much of it f' leaves, and W, and z of that by W."""

from __future__ import annotations

import math

from stabsim.kernels import record as r
from stabsim.kernels.compile import kernel

LOG10_OF_2 = math.log10(2.0)


@kernel()
def log10_norm(row, tensor, size):
    """Return log10 of the norm of a tensor of so many values; -inf if it is 0, NaN if it is not wanted."""
    square = row[tensor + r.SQUARE] * size
    return 0.5 * math.log10(square) + LOG10_OF_2 * row[tensor + r.EXPONENT] if square != 0.0 else -math.inf


@kernel()
def record_gains(rows, wanted, widths, batch):
    """Write the gains of all layers of a net that has been run backward: NaN where there was nothing to lose."""
    for l in range(widths.size):
        row, size = rows[l], widths[l] * batch
        dz = log10_norm(row, r.ACTIVATION_GRADIENT, size)
        if l > 0:
            ds = log10_norm(row, r.PREACTIVATION_GRADIENT, size)
            if wanted[r.PREACTIVATION_GRADIENT_GAIN]:
                row[r.PREACTIVATION_GRADIENT_GAIN] = ds - dz
            if wanted[r.WEIGHT_GRADIENT_GAIN]:
                dw = log10_norm(row, r.WEIGHT_GRADIENT, widths[l - 1] * widths[l])
                row[r.WEIGHT_GRADIENT_GAIN] = dw - ds
        if wanted[r.ACTIVATION_GRADIENT_GAIN]:
            above = math.nan
            if l + 1 < widths.size:
                above = log10_norm(rows[l + 1], r.PREACTIVATION_GRADIENT, widths[l + 1] * batch)
            row[r.ACTIVATION_GRADIENT_GAIN] = dz - above
