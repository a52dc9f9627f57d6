"""W is drawn, and the singular values of Jacobians are found: all of those of every layer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from stabsim.kernels import jacobian
from stabsim.kernels import record as r
from stabsim.samplers import dense
from stabsim.samplers.base import Layout, Prices, Terms
from stabsim.task import Task

# By hand, of square layers of widths 16 to 512.
PRICES: dict[str, Prices] = {
    "jacobian": {
        precision: terms | {"jacobian": 500, "passed": 0.035, "gram": 0.033, "singular value": 900, "spectrum": 0.17}
        for precision, terms in dense.PRICES["dense"].items()
    },
}


def layout(task: Task) -> Layout:
    """Return where the kernel keeps a net."""
    plain = dense.layout(task)
    units = np.array(task.network.widths, np.int64)
    numbers = np.zeros((jacobian.BUFFERS - len(plain.sizes), len(units)), np.int64)
    lengths = {
        jacobian.JACOBIAN: task.batch * units[-1] * max(units),
        jacobian.PASSED: max(units[:-1] * units[1:]),
        jacobian.WORK: units[-1] * max(units),
        jacobian.VALUES: task.batch * units[-1],
        jacobian.POWERS: task.batch,
        jacobian.SEEN: task.batch * units[-1],
    }
    doubles = 8 // task.dtype.itemsize
    for buffer, length in lengths.items():
        numbers[buffer - len(plain.sizes), 0] = length * doubles
    sizes = np.concatenate([plain.sizes, numbers])
    return replace(plain, sizes=sizes, offsets=np.concatenate([plain.offsets, np.zeros_like(numbers)]))


def terms(task: Task, fan_in: int, fan_out: int) -> Terms:
    """Return how much of what a layer takes."""
    outputs = task.network.widths[-1]
    few, many = sorted((fan_in, outputs))
    every = task.wanted[r.EACH_SINGULAR_VALUE] or bool(task.histograms or task.functions)
    return dense.terms(task, fan_in, fan_out) | {
        "jacobian": task.batch,
        "passed": task.batch * outputs * fan_in * fan_out,
        "gram": task.batch * few * few * many * task.wanted[r.SINGULAR_VALUE_SPREAD],
        "singular value": task.batch * few * every,
        "spectrum": task.batch * few * few * many * every,
    }


SAMPLER = replace(
    dense.SAMPLER,
    meaning="W is drawn, and all singular values of the Jacobians of each sample are found: every law of weights",
    kernel=jacobian.jacobian_sampler,
    layout=layout,
    kind=lambda _task: "jacobian",
    prices=PRICES,
    terms=terms,
    features=dense.SAMPLER.features | {"jacobian", "spectrum"},
    needs=frozenset({"jacobian"}),
)
