"""Batches, W never formed: Gaussian and semi-orthogonal weights."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from stabsim.kernels import batch, frames
from stabsim.kernels import matrix_free_batch as b
from stabsim.kernels import record as r
from stabsim.samplers import structures
from stabsim.samplers.base import KEEP_WEIGHTS, Layout, Prices, Sampler, Terms, side_by_side
from stabsim.samplers.matrix_free import LAWS_WITHOUT_ENTRIES
from stabsim.task import Task

NEAR = 2**17  # bytes of a matrix of samples: several that are larger do not fit into the second-level cache
VECTORS = 4  # a unit and sample: about the shares of z W, z, f' and the frames

# fmt: off
PRICES: dict[str, Prices] = {
    "gaussian batch": {
        "float32": {
            "layer": 721, "pair": 2.31, "value": 0.835, "product": 0.0125, "far product": 0.00919,
            "crowded product": 0.00182, "weight gradient": 0.00128, "zeros of a layer": 1900,
            "zeros of a value": 1.27, "zeros of a pair": 0.113,
        },
        "float64": {
            "layer": 630, "pair": 2.73, "value": 1.93, "product": 0.0234, "far product": 0.0163,
            "crowded product": 0.00552, "weight gradient": 0.00203, "zeros of a layer": 1480,
            "zeros of a value": 2.45, "zeros of a pair": 0.11,
        },
    },
    "orthogonal batch": {
        "float32": {
            "layer": 1110, "pair": 2.74, "value": 1.13, "product": 0.0205, "far product": 0.0208,
            "crowded product": 0.0204, "weight gradient": 4.75e-05, "zeros of a layer": 1550,
            "zeros of a value": 2.13, "zeros of a pair": 0.0649,
        },
        "float64": {
            "layer": 1120, "pair": 2.36, "value": 2.43, "product": 0.0436, "far product": 0.0255,
            "crowded product": 0.0278, "weight gradient": 0.00215, "zeros of a layer": 1320,
            "zeros of a value": 3.34, "zeros of a pair": 0,
        },
    },
}
# fmt: on


def keeps(task: Task) -> bool:
    """Return whether the matrices of all layers are kept: always where a layer needs others than the one below."""
    if task.features & structures.FEATURES:
        return True
    size = VECTORS * task.batch * sum(task.network.widths) * task.dtype.itemsize
    return task.network.depth == 1 or size <= KEEP_WEIGHTS


def layout(task: Task) -> Layout:
    """Return where the kernel keeps a net."""
    samples = task.batch
    units = np.array(task.network.widths, np.int64)
    orthogonal = task.network.weights.law == "orthogonal"
    structured = bool(task.features & structures.FEATURES)
    # Frames of z and ds take their places where nobody asks for them again: 7% faster at width 2048 and batch 8.
    in_place = not (orthogonal or task.weight_gradients or structured or task.wants(r.LOOKED_AT))
    longer = np.concatenate([[0], np.maximum(units[:-1], units[1:])])
    below = np.concatenate([[0], units[:-1]])
    sizes = np.zeros((b.BUFFERS, len(units)), np.int64)
    sizes[[batch.Z, batch.D, batch.S, batch.DZ, batch.DS]] = samples * units
    sizes[batch.B] = units
    sizes[b.UH] = 2 * samples * (longer if orthogonal else below)
    sizes[b.G] = samples * (longer if orthogonal else units)
    sizes[b.U] = 0 if in_place else sizes[b.UH] // 2
    sizes[b.GV] = 2 * sizes[b.G] * orthogonal
    sizes[b.C] = samples**2
    sizes[b.R] = np.maximum(samples * longer, samples**2)
    sizes[b.V] = 0 if in_place else np.maximum(samples * longer, 4 * samples**2)
    sizes[b.K] = sizes[b.M] = 2 * samples**2
    sizes[b.WORK] = np.maximum(frames.PANEL * (longer + 2 * samples), 2 * samples**2)
    structures.add_sizes(task, sizes)
    if keeps(task):
        z = [batch.Z] if task.weight_gradients or in_place or structured else []
        buffers = [*z, batch.D, b.U, b.G, b.C, *structures.kept(task)]
        return Layout(sizes, side_by_side(sizes, buffers), kept=True, keeps_s=structured)
    offsets = side_by_side(sizes, [b.C])
    for buffer in (batch.D, b.G):  # of the layer in hand and of the one below
        offsets[buffer, 1::2] = sizes[buffer].max()
    return Layout(sizes, offsets, kept=False)


def terms(task: Task, fan_in: int, fan_out: int) -> Terms:
    """Return how much of what a layer takes."""
    samples = task.batch
    passes = 1 + task.backward * (1 if keeps(task) else 1.5)
    product = samples**2 * (fan_in + fan_out) * passes
    zeros = bool(task.wanted[r.WEIGHT_GRADIENT_ZERO])  # with NumPy's, large numbers would overflow
    return {
        "layer": 1,
        "pair": samples**2 * passes,
        "value": samples * fan_out * passes,
        "product": product,
        "far product": product * (samples * max(fan_in, fan_out) * task.dtype.itemsize >= NEAR),
        "crowded product": product * (2 * samples > min(fan_in, fan_out)),  # rows are nearly dependent
        "weight gradient": samples * fan_in * fan_out * zeros,
        "zeros of a layer": zeros,
        "zeros of a value": samples * (fan_in + fan_out) * zeros,
        "zeros of a pair": (samples << samples if samples <= r.TABLE_SAMPLES else fan_in * fan_out) * zeros,
    }


SAMPLER = Sampler(
    name="matrix_free",
    meaning="W is never formed, batches: weights of law normal or orthogonal",
    kernel=b.matrix_free_batch_sampler,
    layout=layout,
    kind=lambda task: "orthogonal batch" if task.network.weights.law == "orthogonal" else "gaussian batch",
    prices=PRICES,
    terms=terms,
    laws=LAWS_WITHOUT_ENTRIES,
    samples=range(2, 2**32),
)

STRUCTURED = replace(
    SAMPLER,
    meaning="W is never formed, with normalization and residual connections: weights of law normal or orthogonal",
    kernel=b.structured_matrix_free_sampler,
    terms=lambda task, fan_in, fan_out: structures.add_terms(task, fan_out, terms(task, fan_in, fan_out)),
    samples=range(1, 2**32),
    features=structures.FEATURES,
)
