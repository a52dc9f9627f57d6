"""Where each sampler keeps the vectors and matrices of one net."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stabsim.cost import keeps_all
from stabsim.kernels import batch, dense, frames, matrix_free, matrix_free_batch
from stabsim.kernels import record as r
from stabsim.task import Task

Integers = NDArray[np.int64]

CACHE_LINE = 64  # bytes; layers start at multiples of as many numbers


@dataclass(frozen=True)
class Layout:
    """Sizes and offsets of each layer's part of each buffer, (buffers, depth + 1), in numbers."""

    sizes: Integers
    offsets: Integers

    @property
    def lengths(self) -> list[int]:
        """Return how long each buffer has to be."""
        return [int(length) for length in (self.offsets + self.sizes).max(axis=1)]


def side_by_side(sizes: Integers, buffers: Sequence[np.int64]) -> Integers:
    """Return offsets that keep all layers of these buffers; those of the others share one place."""
    offsets = np.zeros_like(sizes)
    steps = -(-sizes[list(buffers)] // CACHE_LINE) * CACHE_LINE
    offsets[list(buffers), 1:] = np.cumsum(steps, axis=1)[:, :-1]
    return offsets


def layout(task: Task) -> Layout:
    """Return the layout of a task's sampler."""
    return _LAYOUTS[task.sampler, task.batch == 1](task)


def dense_sizes(task: Task) -> Integers:
    """Return the sizes of the dense sampler's buffers."""
    units = np.array(task.network.widths, np.int64)
    weights = np.concatenate([[0], units[:-1] * units[1:]])
    sizes = np.zeros((dense.BUFFERS, len(units)), np.int64)
    sizes[[dense.Z, dense.D, dense.S, dense.DZ, dense.DS]] = task.batch * units
    sizes[dense.W] = weights
    sizes[dense.B] = units
    if task.wanted[r.WEIGHT_GRADIENT + r.M2] or task.wanted[r.WEIGHT_GRADIENT_ZERO]:
        sizes[dense.DW] = weights
    sizes[dense.EXTREMES] = 2 * units
    return sizes


def _dense(task: Task) -> Layout:
    sizes = dense_sizes(task)
    return Layout(sizes, side_by_side(sizes, [dense.Z, dense.D, dense.W] if keeps_all(task) else [dense.Z, dense.D]))


def _matrix_free(task: Task) -> Layout:
    units = np.array(task.network.widths, np.int64)
    blocks = np.minimum(units, matrix_free.BLOCK)
    sizes = np.tile(blocks, (matrix_free.BUFFERS, 1))
    keep = keeps_all(task)
    if keep:
        sizes[list(matrix_free.KEPT)] = units
    return Layout(sizes, side_by_side(sizes, matrix_free.KEPT if keep else ()))


def _matrix_free_batch(task: Task) -> Layout:
    b = matrix_free_batch
    samples = task.batch
    units = np.array(task.network.widths, np.int64)
    orthogonal = task.network.weights.law == "orthogonal"
    weight_gradients = task.wanted[r.WEIGHT_GRADIENT + r.M2] or task.wanted[r.WEIGHT_GRADIENT_ZERO]
    # Frames of z and ds take their places where nobody asks for them again: 7% faster at width 2048 and batch 8.
    in_place = not (orthogonal or weight_gradients)
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
    if keeps_all(task):
        z = [batch.Z] if weight_gradients or in_place else []
        return Layout(sizes, side_by_side(sizes, [*z, batch.D, b.U, b.G, b.C]))
    offsets = side_by_side(sizes, [b.C])
    for buffer in (batch.D, b.G):  # of the layer in hand and of the one below
        offsets[buffer, 1::2] = sizes[buffer].max()
    return Layout(sizes, offsets)


_LAYOUTS = {
    ("dense", True): _dense,
    ("dense", False): _dense,
    ("matrix_free", True): _matrix_free,
    ("matrix_free", False): _matrix_free_batch,
}
