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
VECTORS = 4  # a unit and sample: about the shares of z W, z, f' and the frames

# Nanoseconds of each term, by kind of sampler and precision: fitted on one core of an AMD EPYC (Zen 5).
# fmt: off
PRICES: dict[str, dict[str, dict[str, float]]] = {
    "dense": {
        "float32": {
            "layer": 168, "value": 0.297, "product": 0.00972, "weight": 0.254, "frame": 0.0414,
            "frame of a weight": 8.33, "frame of a layer": 684, "weight gradient": 0.119,
        },
        "float64": {
            "layer": 50.6, "value": 0.436, "product": 0.0222, "weight": 0.646, "frame": 0.0662,
            "frame of a weight": 9.58, "frame of a layer": 0, "weight gradient": 0.15,
        },
    },
    "gaussian sample": {
        "float32": {
            "layer": 237, "value": 0.98,
        },
        "float64": {
            "layer": 218, "value": 2.16,
        },
    },
    "gaussian batch": {
        "float32": {
            "layer": 725, "pair": 1.5, "value": 0.711, "product": 0.0214, "crowded product": 0.00285,
            "weight gradient": 0.00155, "zeros of a layer": 1800, "zeros of a value": 1.32,
            "zeros of a pair": 0.109,
        },
        "float64": {
            "layer": 641, "pair": 1.5, "value": 1.73, "product": 0.042, "crowded product": 0.00789,
            "weight gradient": 0.00313, "zeros of a layer": 1770, "zeros of a value": 2.07,
            "zeros of a pair": 0.105,
        },
    },
    "orthogonal sample": {
        "float32": {
            "layer": 359, "value": 1.16,
        },
        "float64": {
            "layer": 317, "value": 2.77,
        },
    },
    "orthogonal batch": {
        "float32": {
            "layer": 1310, "pair": 1.32, "value": 0.913, "product": 0.0363, "crowded product": 0.0255,
            "weight gradient": 0.000114, "zeros of a layer": 1610, "zeros of a value": 2.07,
            "zeros of a pair": 0.0632,
        },
        "float64": {
            "layer": 1150, "pair": 0.28, "value": 2.22, "product": 0.0718, "crowded product": 0.0355,
            "weight gradient": 0.00244, "zeros of a layer": 1530, "zeros of a value": 2.99,
            "zeros of a pair": 0.0166,
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
        "crowded product": product * (2 * batch > min(fan_in, fan_out)),  # rows are nearly dependent
        "weight gradient": batch * fan_in * fan_out * zeros,
        "zeros of a layer": zeros,
        "zeros of a value": batch * (fan_in + fan_out) * zeros,
        "zeros of a pair": (batch << batch if batch <= r.TABLE_SAMPLES else fan_in * fan_out) * zeros,
    }
