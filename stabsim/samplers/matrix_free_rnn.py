"""RNNs, W never formed: Gaussian weights, on the state Gaussian or orthogonal ones."""

from __future__ import annotations

import numpy as np

from stabsim.kernels import frames, outer, recurrent
from stabsim.kernels import matrix_free_rnn as m
from stabsim.kernels import record as r
from stabsim.samplers import recurrent as dense
from stabsim.samplers.base import Layout, Prices, Sampler, Terms
from stabsim.samplers.matrix_free import LAWS_WITHOUT_ENTRIES
from stabsim.task import Task

# fmt: off
PRICES: dict[str, Prices] = {
    "recurrent": {
        "float32": {"step": 3000, "value": 2.0, "pair": 3.0, "product": 0.03, "norm": 0.02, "zeros": 0.15},
        "float64": {"step": 3000, "value": 4.0, "pair": 3.0, "product": 0.06, "norm": 0.04, "zeros": 0.15},
    },
}
# fmt: on


def layout(task: Task) -> Layout:
    """Return where the kernel keeps a net."""
    inputs, state = task.network.widths[:2]
    rows = task.network.depth * task.batch
    asked = rows - task.batch
    fresh = rows + (asked if task.network.laws[-1].law == "orthogonal" else 0)
    sizes = np.zeros((m.BUFFERS, task.network.depth + 1), np.int64)
    sizes[: recurrent.BUFFERS] = dense.sizes(task, kept=True, keeps_s=False)
    sizes[[recurrent.W, recurrent.TRANSPOSED, recurrent.DW, recurrent.EXTREMES]] = 0
    lengths = {
        m.IMAGES: (asked + rows) * state,
        m.C: asked**2,
        m.FRAME: (asked + rows) * state,
        m.TIES: rows * asked,
        m.INPUT_IMAGES: (rows + fresh) * inputs,
        m.INPUT_C: rows**2,
        m.INPUT_G: rows * state,
        m.INPUT_TIES: fresh * rows,
        m.M: fresh**2,
        m.SHARES: rows * fresh,
        m.SIDES: rows * (inputs + state) if task.wanted[r.WEIGHT_GRADIENT_ZERO] else 0,
        m.LEFT: max(task.batch * (rows + fresh), rows * fresh),
        m.WORK: max(frames.PANEL * (max(inputs, state) + 2 * (rows + fresh)), task.batch * (2 * rows + fresh)),
    }
    for buffer, length in lengths.items():
        sizes[buffer, 0] = length
    return Layout(sizes, np.zeros_like(sizes), kept=True)


def terms(task: Task, fan_in: int, fan_out: int) -> Terms:
    """Return how much of what a matrix takes over all time steps."""
    rows = task.network.depth * task.batch
    passes = 1 + task.backward
    matrices = len(task.network.fans)
    words = -(-rows // outer.WORD)
    return {
        "norm": rows**3 / matrices * task.wanted[r.WEIGHT_GRADIENT + r.M2],
        "zeros": fan_in * fan_out * words * task.wanted[r.WEIGHT_GRADIENT_ZERO],
        "step": task.network.depth / len(task.network.fans),
        "value": rows * (fan_in + fan_out) * passes,
        "pair": rows**2 * passes,
        "product": rows**2 * (fan_in + fan_out) * passes,
    }


NEEDS = frozenset({"rnn", "recurrent"})
SAMPLER = Sampler(
    name="matrix_free",
    meaning="W of an RNN is never formed: weights of law normal, on the state normal or orthogonal",
    kernel=m.matrix_free_rnn_sampler,
    layout=layout,
    kind=lambda _task: "recurrent",
    prices=PRICES,
    terms=terms,
    laws=("normal",),
    recurrent_laws=LAWS_WITHOUT_ENTRIES,
    features=NEEDS,
    needs=NEEDS,
)
