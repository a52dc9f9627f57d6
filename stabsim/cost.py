"""What a net costs: about how many nanoseconds one core takes for it, by sampler; ``sampler="auto"`` takes the cheaper.

Terms count what is done, prices say how long it takes. ``benchmarks/samplers.py`` measures both samplers over a grid,
holds this model against them and, with ``--fit``, fits the prices. They are numbers of the package, not of the machine
it runs on, so that a task means the same nets everywhere.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING

from stabsim.kernels import record as r

if TYPE_CHECKING:
    from stabsim.task import Task

MATRIX_FREE_LAWS = ("normal", "orthogonal")

# Bytes a thread: what is drawn for the forward pass is kept up to this, and drawn again for the backward pass above.
KEEP_WEIGHTS = 2**27
KEEP_VECTORS = 2**23  # of a single sample: about what the third-level cache has for a core
NEAR = 2**17  # bytes of a matrix of samples: several that are larger do not fit into the second-level cache
VECTORS = 4  # a unit and sample: about the shares of z W, z, f' and the frames

# Nanoseconds of each term, by kind of sampler and precision: fitted on one core of an AMD EPYC (Zen 5).
# fmt: off
PRICES: dict[str, dict[str, dict[str, float]]] = {
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
    "gaussian sample": {
        "float32": {
            "layer": 249, "value": 0.972,
        },
        "float64": {
            "layer": 212, "value": 2.19,
        },
    },
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
    "orthogonal sample": {
        "float32": {
            "layer": 328, "value": 1.13,
        },
        "float64": {
            "layer": 314, "value": 2.74,
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


def kind(task: Task) -> str:
    """Return which prices hold for a task."""
    if task.sampler == "dense":
        return "dense"
    law = "orthogonal" if task.network.weights.law == "orthogonal" else "gaussian"
    return f"{law} {'batch' if task.batch > 1 else 'sample'}"


def nanoseconds(task: Task) -> float:
    """Return about how long one net of a task takes on one core, its sampler being named."""
    prices = PRICES[kind(task)][task.precision]
    return sum(prices[name] * number for name, number in terms(task).items())


def choose(task: Task) -> str:
    """Return the name of the cheaper sampler: by the geometric mean of all quantities and of few.

    What is asked for must not change what is drawn, so it does not count.
    """
    if task.network.weights.law not in MATRIX_FREE_LAWS:
        return "dense"

    def squared_mean(sampler: str) -> float:
        asked = (None, ("activation_gradient_mean_square",))
        tasks = [replace(task, sampler=sampler, quantities=names, samples=(), histograms=()) for names in asked]
        return math.prod(nanoseconds(each) for each in tasks)

    return min(("dense", "matrix_free"), key=squared_mean)


def keeps_all(task: Task) -> bool:
    """Return whether what is drawn for the forward pass is kept for the backward pass."""
    if task.sampler == "dense":
        return sum(fan_in * fan_out for fan_in, fan_out in task.network.fans) * task.dtype.itemsize <= KEEP_WEIGHTS
    size = VECTORS * task.batch * sum(task.network.widths) * task.dtype.itemsize
    if task.batch == 1:
        return size <= KEEP_VECTORS
    return task.network.depth == 1 or size <= KEEP_WEIGHTS


def terms(task: Task) -> dict[str, float]:
    """Return how much of what one net of a task takes, its sampler being named."""
    count = _dense if task.sampler == "dense" else _matrix_free_batch if task.batch > 1 else _matrix_free_sample
    total: dict[str, float] = defaultdict(float)
    for (fan_in, fan_out), layers in Counter(task.network.fans).items():
        for name, number in count(task, fan_in, fan_out).items():
            total[name] += layers * number
    return total


def _dense(task: Task, fan_in: int, fan_out: int) -> dict[str, float]:
    passes = 1 + task.backward
    weights, values = fan_in * fan_out, task.batch * fan_out
    frame = task.network.weights.law == "orthogonal"
    zeros = task.batch > 1 and task.wanted[r.WEIGHT_GRADIENT_ZERO]
    squares = task.batch > 1 and task.wanted[r.WEIGHT_GRADIENT + r.M2]
    return {
        "layer": 1,
        "frame": frame * weights * min(fan_in, fan_out),
        "frame of a layer": frame,
        "frame of a weight": frame * weights,
        "weight": weights * passes,
        "product": task.batch * weights * (passes + (zeros or squares)),
        "value": values * passes,
        "weight gradient": weights * (2 * zeros + squares),
    }


def _matrix_free_sample(task: Task, fan_in: int, fan_out: int) -> dict[str, float]:
    again = 2.0 if task.network.weights.law == "orthogonal" else 1.3  # measured; Gaussian nets draw h once all the same
    return {"layer": 1, "value": fan_out * (1 + task.backward * (1 if keeps_all(task) else again))}


def _matrix_free_batch(task: Task, fan_in: int, fan_out: int) -> dict[str, float]:
    batch = task.batch
    passes = 1 + task.backward * (1 if keeps_all(task) else 1.5)
    product = batch**2 * (fan_in + fan_out) * passes
    zeros = task.wanted[r.WEIGHT_GRADIENT_ZERO]
    return {
        "layer": 1,
        "pair": batch**2 * passes,
        "value": batch * fan_out * passes,
        "product": product,
        "far product": product * (batch * max(fan_in, fan_out) * task.dtype.itemsize >= NEAR),
        "crowded product": product * (2 * batch > min(fan_in, fan_out)),  # rows are nearly dependent
        "weight gradient": batch * fan_in * fan_out * zeros,
        "zeros of a layer": zeros,
        "zeros of a value": batch * (fan_in + fan_out) * zeros,
        "zeros of a pair": (batch << batch if batch <= r.TABLE_SAMPLES else fan_in * fan_out) * zeros,
    }
