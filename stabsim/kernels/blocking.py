"""Where samples stop: rows of z and of the gradient that are all zero, and what has stopped them.

A row of ds that is zero stays so in all layers below. The row of f' that shut it off may itself be zero because
nothing arrived: where z below was zero, the cause is the layer at which that run of zero rows of z began. So there is
one layer that stopped a sample: at layers above it f = 0 is the cause, at itself and below f' = 0. What neither stopped
lacked an injected gradient, or lost it element by element.
"""

from __future__ import annotations

import numpy as np

from stabsim.kernels import blocks
from stabsim.kernels import record as r
from stabsim.kernels.compile import kernel

NOWHERE = np.int64(-1)


@kernel()
def start_net(stops):
    """Forget the net before."""
    for i in range(stops.size):
        stops[i] = NOWHERE


@kernel()
def note_activation(runs, l, i, zero):
    """Note whether a row of z is zero: where the run of such rows began that reaches layer l."""
    goes_on = l > 0 and runs[l - 1, i] != NOWHERE
    runs[l, i] = NOWHERE if not zero else (runs[l - 1, i] if goes_on else l)


@kernel()
def note_gradient(row, runs, stops, l, i, shut, stopped):
    """Note whether a row of f' is zero (shut), and whether one of ds is, and add the causes to the record."""
    below = runs[l - 1, i]
    if stopped and stops[i] == NOWHERE:
        origin = below if below != NOWHERE else l
        stops[i] = origin if shut else runs.shape[0]  # the last is above every layer: neither cause
    row[r.PREACTIVATION_GRADIENT_DEAD_SAMPLE] += stopped
    row[r.BLOCKED_BY_ACTIVATION] += stopped and stops[i] < l
    row[r.BLOCKED_BY_DERIVATIVE] += stopped and l <= stops[i] < runs.shape[0]
    row[r.WEIGHT_GRADIENT_IDLE_SAMPLE] += stopped or below != NOWHERE


@kernel()
def finish_gradient(row, batch):
    """Turn what `note_gradient` added over all rows into shares; a net is dead if all samples are."""
    for column in (
        r.PREACTIVATION_GRADIENT_DEAD_SAMPLE, r.BLOCKED_BY_ACTIVATION, r.BLOCKED_BY_DERIVATIVE,
        r.WEIGHT_GRADIENT_IDLE_SAMPLE,
    ):  # fmt: skip
        row[column] /= batch
    row[r.PREACTIVATION_GRADIENT_DEAD_NET] += row[r.PREACTIVATION_GRADIENT_DEAD_SAMPLE] == 1.0
    row[r.WEIGHT_GRADIENT_DEAD_NET] += row[r.WEIGHT_GRADIENT_IDLE_SAMPLE] == 1.0


@kernel()
def see_activation(row, runs, l, z):
    """Record what a layer's z has lost."""
    dead = True
    for i in range(z.shape[0]):
        zero = blocks.all_zero(z[i])
        note_activation(runs, l, i, zero)
        dead &= zero
    row[r.ACTIVATION_DEAD_NET] += dead


@kernel()
def see_derivative(row, d):
    """Record whether a layer's f' is zero everywhere."""
    row[r.DERIVATIVE_DEAD_NET] += blocks.dead_rows(d) == d.shape[0]


@kernel()
def see_gradient(row, wanted, runs, stops, l, d, ds):
    """Record what a layer's ds has lost, and why."""
    for i in range(ds.shape[0]):
        note_gradient(row, runs, stops, l, i, blocks.all_zero(d[i]), blocks.all_zero(ds[i]))
    finish_gradient(row, ds.shape[0])
    if wanted[r.PREACTIVATION_GRADIENT_DEAD_UNIT]:
        row[r.PREACTIVATION_GRADIENT_DEAD_UNIT] = blocks.dead_columns(ds) / ds.shape[1]
