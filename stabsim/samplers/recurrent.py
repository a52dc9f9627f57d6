"""Recurrent cells: W is drawn once and used at every time step, products go through BLAS."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from stabsim.kernels import gated, recurrent, rnn
from stabsim.samplers.base import Layout, Prices, Sampler, Terms
from stabsim.task import Task

FAR = 2**22  # bytes of weights above which they, and their transposes, are read from memory at every time step
# By hand: of an RNN and an LSTM of widths 32 to 2048, batches of 1 to 16 (within a factor of 2, mostly).
PRICES: dict[str, Prices] = {
    "recurrent": {
        "float32": {"step": 500, "value": 0.36, "product": 0.008, "weight": 0.9, "pass": 0.03, "far pass": 0.06},
        "float64": {"step": 500, "value": 0.9, "product": 0.019, "weight": 1.5, "pass": 0.06, "far pass": 0.12},
    },
}


def gates(task: Task) -> int:
    """Return how many gates the cell has; an RNN has one."""
    return len(task.network.fans) // 2


def sizes(task: Task, kept: bool, keeps_s: bool) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    """Return the sizes of the buffers, (buffers, depth + 1), each being one part for all time steps."""
    inputs, state = task.network.widths[:2]
    cell, steps, several = task.network.cell.kind, task.network.depth, gates(task)
    weights = several * (inputs + state) * state
    values = task.batch * state
    some, turns = steps if kept else 1, steps + 1 if keeps_s else 2
    lengths = {
        recurrent.X: steps * task.batch * inputs,
        recurrent.S: several * steps * values,
        recurrent.H: (steps + 1) * values,
        recurrent.DS: several * some * values,
        recurrent.DH: turns * values,
        recurrent.DX: some * task.batch * inputs,
        recurrent.W: weights,
        recurrent.TRANSPOSED: weights,
        recurrent.B: several * state,
        recurrent.DW: weights if task.weight_gradients else 0,
        recurrent.EXTREMES: 2 * several * state,
        recurrent.BOTH: task.batch * (inputs + state),
        recurrent.SCRATCH: several * values,
    }
    if cell == "rnn":
        lengths[recurrent.D] = steps * values
    else:
        lengths[recurrent.GATES] = gated.PLACES * values
    if cell == "lstm":
        lengths |= {recurrent.C: (steps + 1) * values, recurrent.DC: turns * values}
    if cell == "gru":
        lengths |= {recurrent.A: steps * values, recurrent.DA: several * some * values}
    found = np.zeros((recurrent.BUFFERS, steps + 1), np.int64)
    for buffer, length in lengths.items():
        found[buffer, 0] = length
    return found


def layout(task: Task) -> Layout:
    """Return where the kernel keeps a net: ds of all time steps only where dW, which is made last, needs them."""
    return laid_out(task, task.weight_gradients, keeps_s=False)


def laid_out(task: Task, kept: bool, keeps_s: bool) -> Layout:
    """Return where it keeps one, with ds and dx, or with every dh, of all time steps."""
    lengths = sizes(task, kept, keeps_s)
    return Layout(lengths, np.zeros_like(lengths), kept, keeps_s)


def terms(task: Task, fan_in: int, fan_out: int) -> Terms:
    """Return how much of what a matrix takes over all time steps."""
    steps, weights = task.network.depth, fan_in * fan_out
    passes = 1 + task.backward * (1 + task.weight_gradients)
    read = steps * weights * (1 + task.backward)
    everything = sum(fan_in * fan_out for fan_in, fan_out in task.network.fans) * task.dtype.itemsize
    return {
        "step": steps / len(task.network.fans),
        "weight": weights,
        "pass": read,
        "far pass": read * (everything > FAR),
        "product": steps * task.batch * weights * passes,
        "value": steps * task.batch * fan_out * (1 + task.backward),
    }


def _sampler(cell: str, kernel: Callable[[np.dtype[Any]], Callable[..., None]]) -> Sampler:
    needs = frozenset({cell, "recurrent"})
    return Sampler(
        name="dense",
        meaning=f"W is drawn once for all time steps (cell {cell}): every law of weights",
        kernel=kernel,
        layout=layout,
        kind=lambda _task: "recurrent",
        prices=PRICES,
        terms=terms,
        draws_weights=True,
        features=needs,
        needs=needs,
    )


RNN = _sampler("rnn", rnn.rnn_sampler)
LSTM = _sampler("lstm", gated.lstm_sampler)
GRU = _sampler("gru", gated.gru_sampler)
