"""The oracle of what stops, of gains and of ranks: definitions in NumPy and float64, for any net with the tensors."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[Any]
Rows = list[set[int]]  # by layer

DERIVATIVE, ACTIVATION = "derivative", "activation"  # causes


def zero_rows(tensor: list[Any]) -> Rows:
    """Return which samples' rows are all 0, by layer; none where there is no tensor."""
    return [set() if v is None else {i for i, row in enumerate(v) if not np.any(row)} for v in tensor]


def causes(net: Any) -> dict[int, tuple[str, int]]:
    """Return what stopped each sample whose gradient a row f' = 0 shut off, and at which layer.

    Where z below such a row is 0, the cause is z = 0 of the deepest layer from which on all rows up to it are 0.
    """
    z, d, ds = (zero_rows(v) for v in (net.activation, net.derivative, net.preactivation_gradient))
    found: dict[int, tuple[str, int]] = {}
    for sample in range(len(net.activation[0])):
        stopped = [layer for layer in range(1, len(ds)) if sample in ds[layer]]
        if not stopped or sample not in d[stopped[-1]]:
            continue
        alive = [layer for layer in range(stopped[-1]) if sample not in z[layer]]
        first = alive[-1] + 1 if alive else 0
        found[sample] = (DERIVATIVE, stopped[-1]) if first == stopped[-1] else (ACTIVATION, first)
    return found


def blocked(net: Any, layer: int) -> dict[str, set[int]]:
    """Return the samples with ds = 0 at a layer that each cause has stopped.

    Of what z = 0 at some layer stopped, the layers above lack z; at itself and below f' = 0 stops what comes down.
    """
    dead = zero_rows(net.preactivation_gradient)[layer]
    by: dict[str, set[int]] = {DERIVATIVE: set(), ACTIVATION: set()}
    for sample, (cause, at) in causes(net).items():
        if sample in dead:
            by[ACTIVATION if cause == ACTIVATION and at < layer else DERIVATIVE].add(sample)
    return by


def norm(v: Floats) -> float:
    """Return the Frobenius norm, whatever the size of the values."""
    largest = float(np.max(np.abs(v)))
    return largest * math.sqrt(math.fsum((x / largest) ** 2 for x in v.flat)) if largest else 0.0


def log10_gain(after: Floats, before: Floats) -> float:
    """Return log10 of the norm after over that before: -inf where nothing is left, NaN where there was nothing."""
    if not np.any(before):
        return math.nan
    return math.log10(norm(after)) - math.log10(norm(before)) if np.any(after) else -math.inf


def shut_fraction(dz: Floats, d: Floats) -> float:
    """Return the share of the squared norm of dz where f' = 0."""
    if not np.any(dz):
        return math.nan
    largest = np.max(np.abs(dz))
    return math.fsum((x / largest) ** 2 for x in dz[d == 0]) / math.fsum((x / largest) ** 2 for x in dz.flat)


def rank(v: Floats, unit: float) -> float:
    """Return the rank, as NumPy has it, of numbers of a precision."""
    return float(np.linalg.matrix_rank(v, tol=max(v.shape) * unit * np.linalg.norm(v, 2)))


def stable_rank(v: Floats) -> float:
    return float((np.linalg.norm(v) / np.linalg.norm(v, 2)) ** 2) if np.any(v) else math.nan


def quantities(net: Any, unit: float) -> dict[str, list[float]]:
    """Return every quantity of one net by layer, from its tensors; NaN where it does not exist."""
    z, d, dz, ds = net.activation, net.derivative, net.activation_gradient, net.preactivation_gradient
    layers, batch = range(1, len(z)), len(z[0])
    no_z, no_ds = zero_rows(z), zero_rows(ds)

    def shares(rows: list[set[int]]) -> list[float]:
        return [math.nan, *(len(each) / batch for each in rows)]

    products = [z[layer - 1].T @ ds[layer] for layer in layers]
    idle = shares([no_z[layer - 1] | no_ds[layer] for layer in layers])
    return {
        "activation_dead_net_fraction": [float(not np.any(v)) for v in z],
        "derivative_dead_net_fraction": [math.nan, *(float(not np.any(v)) for v in d[1:])],
        "activation_gradient_log10_gain": [*(log10_gain(dz[layer - 1], ds[layer]) for layer in layers), math.nan],
        "preactivation_gradient_dead_sample_fraction": shares(no_ds[1:]),
        "preactivation_gradient_dead_unit_fraction": [
            math.nan, *(float(np.mean([not np.any(column) for column in v.T])) for v in ds[1:])
        ],
        "preactivation_gradient_dead_net_fraction": [math.nan, *(float(not np.any(v)) for v in ds[1:])],
        "preactivation_gradient_blocked_by_derivative_fraction": shares(
            [blocked(net, layer)[DERIVATIVE] for layer in layers]
        ),
        "preactivation_gradient_blocked_by_activation_fraction": shares(
            [blocked(net, layer)[ACTIVATION] for layer in layers]
        ),
        "preactivation_gradient_shut_fraction": [math.nan, *map(shut_fraction, dz[1:], d[1:])],
        "preactivation_gradient_log10_gain": [math.nan, *map(log10_gain, ds[1:], dz[1:])],
        "weight_gradient_idle_sample_fraction": idle,
        "weight_gradient_dead_net_fraction": [math.nan, *(float(share == 1) for share in idle[1:])],
        "weight_gradient_log10_gain": [math.nan, *map(log10_gain, net.weight_gradient[1:], ds[1:])],
        "activation_rank": [rank(v, unit) for v in z],
        "activation_stable_rank": [stable_rank(v) for v in z],
        "preactivation_gradient_rank": [math.nan, *(rank(v, unit) for v in ds[1:])],
        "preactivation_gradient_stable_rank": [math.nan, *map(stable_rank, ds[1:])],
        "weight_gradient_rank": [math.nan, *(rank(v, unit) for v in products)],
        "weight_gradient_stable_rank": [math.nan, *map(stable_rank, products)],
    }  # fmt: skip
