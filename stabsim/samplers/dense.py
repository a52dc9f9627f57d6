"""W is drawn, and products go through BLAS: for every law of weights, and for batches that are not small."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from stabsim.kernels import dense
from stabsim.kernels import record as r
from stabsim.samplers import structures
from stabsim.samplers.base import KEEP_WEIGHTS, Layout, Prices, Sampler, Terms, side_by_side
from stabsim.task import Task

# fmt: off
PRICES: dict[str, Prices] = {
    "dense": {
        "float32": {
            "layer": 165, "value": 0.307, "product": 0.00924, "weight": 0.255, "frame": 0.0411,
            "frame of a weight": 7.85, "frame of a layer": 639, "weight gradient": 0.119,
        },
        "float64": {
            "layer": 44.8, "value": 0.447, "product": 0.0217, "weight": 0.635, "frame": 0.0641,
            "frame of a weight": 9.53, "frame of a layer": 0, "weight gradient": 0.139,
        },
    },
}
# fmt: on


def keeps(task: Task) -> bool:
    """Return whether the weights of all layers are kept."""
    size = sum(fan_in * fan_out for fan_in, fan_out in task.network.fans) * task.dtype.itemsize
    return task.network.depth == 1 or size <= KEEP_WEIGHTS


def forms_weight_gradients(task: Task) -> bool:
    """Return whether dW is formed: that of one sample need not be, unless something is done to its elements."""
    return task.weight_gradients and (task.batch > 1 or bool({"clipping", "number_format"} & task.features))


def sizes(task: Task) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    """Return the sizes of the buffers, (buffers, depth + 1)."""
    units = np.array(task.network.widths, np.int64)
    weights = np.concatenate([[0], units[:-1] * units[1:]])
    sizes = np.zeros((dense.BUFFERS, len(units)), np.int64)
    sizes[[dense.Z, dense.D, dense.S, dense.DZ, dense.DS]] = task.batch * units
    sizes[dense.W] = weights
    sizes[dense.B] = units
    if task.weight_gradients:
        sizes[dense.DW] = weights
    sizes[dense.EXTREMES] = 2 * units
    structures.add_sizes(task, sizes)
    return sizes


def layout(task: Task) -> Layout:
    """Return where the kernel keeps a net."""
    kept = keeps(task)
    buffers = [dense.Z, dense.D, *([dense.W] if kept else []), *structures.kept(task)]
    return Layout(
        sizes(task), side_by_side(sizes(task), buffers), kept, keeps_s=bool(task.features & structures.FEATURES)
    )


def terms(task: Task, fan_in: int, fan_out: int) -> Terms:
    """Return how much of what a layer takes."""
    passes = 1 + task.backward
    weights, values = fan_in * fan_out, task.batch * fan_out
    frame = task.network.weights.law == "orthogonal"
    formed = forms_weight_gradients(task)
    zeros = formed and task.wanted[r.WEIGHT_GRADIENT_ZERO]
    squares = formed and task.wanted[r.WEIGHT_GRADIENT + r.M2]
    return {
        "layer": 1,
        "frame": frame * weights * min(fan_in, fan_out),
        "frame of a layer": frame,
        "frame of a weight": frame * weights,
        "weight": weights * passes,
        "product": task.batch * weights * (passes + formed),
        "value": values * passes,
        "weight gradient": weights * (2 * zeros + squares),
    }


SAMPLER = Sampler(
    name="dense",
    meaning="W is drawn: every law of weights",
    kernel=dense.dense_sampler,
    layout=layout,
    kind=lambda _task: "dense",
    prices=PRICES,
    terms=terms,
    draws_weights=True,
    features=frozenset({"clipping"}),
)

STRUCTURED = replace(
    SAMPLER,
    meaning="W is drawn: every law of weights, with normalization and residual connections",
    kernel=dense.structured_dense_sampler,
    terms=lambda task, fan_in, fan_out: structures.add_terms(task, fan_out, terms(task, fan_in, fan_out)),
    features=structures.FEATURES | SAMPLER.features,
)
