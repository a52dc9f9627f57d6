"""One sample a net, W never formed: Gaussian and semi-orthogonal weights."""

from __future__ import annotations

import numpy as np

from stabsim.kernels import matrix_free
from stabsim.samplers.base import Layout, Prices, Sampler, Terms, side_by_side
from stabsim.task import Task

LAWS_WITHOUT_ENTRIES = ("normal", "orthogonal")  # of weights that are known by what they do to vectors
KEEP_VECTORS = 2**23  # bytes a thread: about what the third-level cache has for a core
VECTORS = 4  # a unit: z W, z, f' and h

# fmt: off
PRICES: dict[str, Prices] = {
    "gaussian sample": {
        "float32": {
            "layer": 249, "value": 0.972,
        },
        "float64": {
            "layer": 212, "value": 2.19,
        },
    },
    "orthogonal sample": {
        "float32": {
            "layer": 328, "value": 1.13,
        },
        "float64": {
            "layer": 314, "value": 2.74,
        },
    },
}
# fmt: on


def keeps(task: Task) -> bool:
    """Return whether the vectors of all layers are kept."""
    return VECTORS * sum(task.network.widths) * task.dtype.itemsize <= KEEP_VECTORS


def layout(task: Task) -> Layout:
    """Return where the kernel keeps a net."""
    units = np.array(task.network.widths, np.int64)
    sizes = np.tile(np.minimum(units, matrix_free.BLOCK), (matrix_free.BUFFERS, 1))
    if not keeps(task):
        return Layout(sizes, side_by_side(sizes, ()), kept=False)
    sizes[list(matrix_free.KEPT)] = units
    ahead = int(matrix_free.AHEAD) // max(task.network.widths)
    return Layout(sizes, side_by_side(sizes, matrix_free.KEPT), kept=True, ahead=ahead)


def terms(task: Task, _fan_in: int, fan_out: int) -> Terms:
    """Return how much of what a layer takes."""
    again = 2.0 if task.network.weights.law == "orthogonal" else 1.3  # measured; Gaussian nets draw h once all the same
    return {"layer": 1, "value": fan_out * (1 + task.backward * (1 if keeps(task) else again))}


SAMPLER = Sampler(
    name="matrix_free",
    meaning="W is never formed, one sample a net: weights of law normal or orthogonal",
    kernel=matrix_free.matrix_free_sampler,
    layout=layout,
    kind=lambda task: "orthogonal sample" if task.network.weights.law == "orthogonal" else "gaussian sample",
    prices=PRICES,
    terms=terms,
    laws=LAWS_WITHOUT_ENTRIES,
    samples=range(1, 2),
    in_parts=True,
)
