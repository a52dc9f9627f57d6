"""What normalization and residual connections take beside a plain net, whatever draws the weights."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stabsim.kernels import batch
from stabsim.samplers.base import Terms
from stabsim.task import Task

FEATURES = frozenset({"normalization", "skip"})


def add_sizes(task: Task, sizes: NDArray[np.int64]) -> None:
    """Write the sizes of the buffers that only these nets have, (buffers, depth + 1)."""
    norm, skip = task.network.normalization, task.network.skip
    units = np.array(task.network.widths, np.int64)
    values = task.batch * units
    if norm is not None:
        sizes[batch.NORMALIZED] = values
        sizes[batch.SCALES] = units if norm.kind == "batch" else task.batch
    if skip is not None:
        sizes[batch.WAITING] = values
    if norm is not None and skip is not None and skip.activation == "after":
        sizes[batch.SUM] = values


def kept(task: Task) -> list[np.int64]:
    """Return the buffers of which all layers are kept for the backward pass, or for a shortcut."""
    skip = task.network.skip
    buffers = [batch.NORMALIZED, batch.SCALES] if task.network.normalization is not None else []
    return [*buffers, batch.S] if skip is not None and skip.activation == "before" else buffers


def add_terms(task: Task, fan_out: int, plain: Terms) -> Terms:
    """Return what a layer takes, given what a plain one does: values pass by once more for each of the two."""
    times = len(task.network.structures) * (1 + task.backward)
    return plain | {"value": plain["value"] + times * task.batch * fan_out}
