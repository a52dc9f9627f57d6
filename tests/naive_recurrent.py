"""The oracle of recurrent nets: NumPy and float64, the equations of PyTorch, nothing shared with the package."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import expit

from tests.naive import (
    STATISTICS,
    Floats,
    Formula,
    Statistics,
    log10_norm,
    mean,
    mean_square,
    saturated_fraction,
    sigmoid,
    variance,
)


@dataclass
class RecurrentNet:
    """Every tensor of one net in the names of `stabsim.Trace`; of gates, lists by gate."""

    activation: list[Any]
    preactivation: list[Any]
    activation_gradient: list[Any]
    preactivation_gradient: list[Any]
    input_gradient: list[Any]
    cell_state: list[Any]
    cell_state_gradient: list[Any]
    gates: list[Any]  # by time step: (batch, gates * state), opened
    weight_gradient: list[Any]
    recurrent_weight_gradient: list[Any]
    bias_gradient: list[Any]


def run(
    cell: str,
    formula: Formula,
    v: list[Floats],
    w: list[Floats],
    b: list[Floats],
    x: list[Any],
    gradient: Floats,
) -> RecurrentNet:
    """Run a net forward and backward; x[0] is None, and the gradient is that by the last state."""
    return {"rnn": _rnn, "lstm": _lstm, "gru": _gru}[cell](formula, v, w, b, x, gradient)


def _empty(steps: int, gates: int, v: list[Floats], w: list[Floats], b: list[Floats]) -> RecurrentNet:
    lists: list[list[Any]] = [[None] * (steps + 1) for _ in range(8)]
    return RecurrentNet(*lists, *([np.zeros_like(m) for m in given] for given in (v, w, b)))


def _rnn(formula: Formula, v: Any, w: Any, b: Any, x: Any, gradient: Floats) -> RecurrentNet:
    steps = len(x) - 1
    net = _empty(steps, 1, v, w, b)
    h, s = net.activation, net.preactivation
    h[0] = np.zeros_like(gradient)
    for t in range(1, steps + 1):
        s[t] = x[t] @ v[0] + h[t - 1] @ w[0] + b[0]
        h[t] = formula.f(s[t])
    dh = gradient
    for t in range(steps, 0, -1):
        net.activation_gradient[t] = dh
        ds = dh * formula.derivative(s[t])
        net.preactivation_gradient[t] = ds
        dh = _pull_back(net, t, [ds], [ds], v, w, x[t], h[t - 1])
    net.activation_gradient[0] = dh
    return net


def _pull_back(net: RecurrentNet, t: int, ds: Any, da: Any, v: Any, w: Any, x: Floats, h: Floats) -> Floats:
    """Add to the gradients of all gates, write dx, and return the part of dh below that goes through W."""
    for gate, (by_input, by_state) in enumerate(zip(ds, da, strict=True)):
        net.weight_gradient[gate] += x.T @ by_input
        net.recurrent_weight_gradient[gate] += h.T @ by_state
        net.bias_gradient[gate] += by_input.sum(axis=0)
    net.input_gradient[t] = sum(each @ matrix.T for each, matrix in zip(ds, v, strict=True))
    return np.asarray(sum(each @ matrix.T for each, matrix in zip(da, w, strict=True)))


def _lstm(formula: Formula, v: Any, w: Any, b: Any, x: Any, gradient: Floats) -> RecurrentNet:
    steps = len(x) - 1
    net = _empty(steps, 4, v, w, b)
    h, c = net.activation, net.cell_state
    h[0], c[0] = np.zeros_like(gradient), np.zeros_like(gradient)
    opened: list[Any] = [None] * (steps + 1)
    sums: list[Any] = [None] * (steps + 1)
    for t in range(1, steps + 1):
        s = sums[t] = [x[t] @ v[gate] + h[t - 1] @ w[gate] + b[gate] for gate in range(4)]
        i, f, g, o = opened[t] = [expit(s[0]), expit(s[1]), formula.f(s[2]), expit(s[3])]
        c[t] = f * c[t - 1] + i * g
        h[t] = o * formula.f(c[t])
        net.preactivation[t], net.gates[t] = np.hstack(s), np.hstack(opened[t])
    dh, dc = gradient, np.zeros_like(gradient)
    for t in range(steps, 0, -1):
        i, f, g, o = opened[t]
        s = sums[t]
        net.activation_gradient[t] = dh
        dc = net.cell_state_gradient[t] = dc + dh * o * formula.derivative(c[t])
        ds = [
            dc * g * i * expit(-s[0]),
            dc * c[t - 1] * f * expit(-s[1]),
            dc * i * formula.derivative(s[2]),
            dh * formula.f(c[t]) * o * expit(-s[3]),
        ]
        net.preactivation_gradient[t] = np.hstack(ds)
        dh = _pull_back(net, t, ds, ds, v, w, x[t], h[t - 1])
        dc = dc * f
    net.activation_gradient[0], net.cell_state_gradient[0] = dh, dc
    return net


def _gru(formula: Formula, v: Any, w: Any, b: Any, x: Any, gradient: Floats) -> RecurrentNet:
    steps = len(x) - 1
    net = _empty(steps, 3, v, w, b)
    h = net.activation
    h[0] = np.zeros_like(gradient)
    opened: list[Any] = [None] * (steps + 1)
    sums: list[Any] = [None] * (steps + 1)
    for t in range(1, steps + 1):
        reset, update = (x[t] @ v[gate] + h[t - 1] @ w[gate] + b[gate] for gate in (0, 1))
        candidate = x[t] @ v[2] + b[2] + expit(reset) * (h[t - 1] @ w[2])
        s = sums[t] = [reset, update, candidate]
        r, z, n = opened[t] = [expit(reset), expit(update), formula.f(candidate)]
        h[t] = expit(-update) * n + z * h[t - 1]
        net.preactivation[t], net.gates[t] = np.hstack(s), np.hstack(opened[t])
    dh = gradient
    for t in range(steps, 0, -1):
        r, z, n = opened[t]
        reset, update, candidate = sums[t]
        net.activation_gradient[t] = dh
        dn = dh * expit(-update) * formula.derivative(candidate)
        dz = dh * (h[t - 1] - n) * z * expit(-update)
        dr = dn * (h[t - 1] @ w[2]) * r * expit(-reset)
        net.preactivation_gradient[t] = np.hstack([dr, dz, dn])
        dh = dh * z + _pull_back(net, t, [dr, dz, dn], [dr, dz, dn * r], v, w, x[t], h[t - 1])
    net.activation_gradient[0] = dh
    return net


def quantities(cell: str, net: RecurrentNet, x: list[Any], formula: Formula) -> dict[str, list[float]]:
    """Return every quantity of one net by time step, NaN where it does not exist."""
    tensors: dict[str, list[Any]] = {
        "input": x,
        "input_gradient": net.input_gradient,
        "activation": net.activation,
        "activation_gradient": net.activation_gradient,
        "preactivation": net.preactivation,
        "preactivation_gradient": net.preactivation_gradient,
        "weight_gradient": [None, _side_by_side(net), *[None] * (len(x) - 2)],
    }
    if cell == "rnn":
        tensors["derivative"] = [None, *(formula.derivative(s) for s in net.preactivation[1:])]
    if cell == "lstm":
        tensors |= {"cell_state": net.cell_state, "cell_state_gradient": net.cell_state_gradient}
    for place, gate in enumerate(GATES[cell]):
        tensors[gate] = _part(net.gates, place, len(GATES[cell]))
        tensors[f"{gate}_gradient"] = _part(net.preactivation_gradient, place, len(GATES[cell]))
    found = {
        f"{tensor}_{statistic}": [math.nan if matrix is None else function(matrix) for matrix in matrices]
        for tensor, matrices in tensors.items()
        for statistic, function in STATISTICS.get(tensor, _OF_CELLS).items()
    }
    for place, gate in enumerate(GATES[cell]):
        s = _part(net.preactivation, place, len(GATES[cell]))
        limits = formula if gate == "candidate" else sigmoid()
        found[f"{gate}_saturated_fraction"] = _saturated(s, tensors[gate], limits)
        if gate == "forget_gate":
            found["forget_gate_log_mean"] = [math.nan, *(mean(-np.logaddexp(0, -each)) for each in s[1:])]
    if cell == "rnn":
        found["activation_saturated_fraction"] = _saturated(net.preactivation, net.activation, formula)
        small = [abs(each) < 0.01 for each in tensors["derivative"][1:]]
        found["derivative_saturated_fraction"] = [math.nan, *(mean(each.astype(float)) for each in small)]
    return found


GATES: dict[str, tuple[str, ...]] = {
    "rnn": (),
    "lstm": ("input_gate", "forget_gate", "candidate", "output_gate"),
    "gru": ("reset_gate", "update_gate", "candidate"),
}
_OF_CELLS: Statistics = {"mean": mean, "mean_square": mean_square, "variance": variance, "log10_norm": log10_norm}


def _side_by_side(net: RecurrentNet) -> Floats:
    """Return dW of all gates side by side, that of the input above that of the state."""
    return np.vstack([np.hstack(net.weight_gradient), np.hstack(net.recurrent_weight_gradient)])


def _part(matrices: list[Any], place: int, gates: int) -> list[Any]:
    return [None if each is None else np.split(each, gates, axis=1)[place] for each in matrices]


def _saturated(s: list[Any], values: list[Any], formula: Formula) -> list[float]:
    pairs = zip(s[1:], values[1:], strict=True)
    return [math.nan, *(saturated_fraction(x, value, formula, 0.01) for x, value in pairs)]
