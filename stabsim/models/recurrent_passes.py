"""The passes of a given recurrent net through time and back: the equations of PyTorch with their two biases."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import expit

from stabsim.models.layers import Floats, Recurrent
from stabsim.models.passes import ModelTrace, evaluate


@dataclass
class _Step:
    """What a time step keeps for the way back."""

    s: list[Floats]  # by gate
    opened: list[Floats]
    h: Floats
    c: Floats
    derivative: Floats  # f' of the candidate
    hidden: Floats  # of an LSTM f(c), of a GRU's candidate h W + b
    slope: Floats  # f'(c)


class _Net:
    """A recurrent layer with its matrices in one precision."""

    def __init__(self, layer: Recurrent, kind: Any) -> None:
        self.kind, self.activation, self.gates = layer.kind, layer.activation, len(layer.gates)
        self.v, self.w = ([np.asarray(m, kind) for m in each] for each in (layer.weight, layer.recurrent_weight))
        nothing = (np.zeros(layer.fans[1], kind),) * self.gates
        given = (layer.bias or nothing, layer.recurrent_bias or nothing)
        self.b, self.b_state = ([np.asarray(m, kind) for m in each] for each in given)

    def step(self, x: Floats, h: Floats, c: Floats) -> _Step:
        of_input = [x @ v + b for v, b in zip(self.v, self.b, strict=True)]
        of_state = [h @ w + b for w, b in zip(self.w, self.b_state, strict=True)]
        return {"rnn": self._rnn, "lstm": self._lstm, "gru": self._gru}[self.kind](of_input, of_state, h, c)

    def _rnn(self, of_input: list[Floats], of_state: list[Floats], h: Floats, c: Floats) -> _Step:
        s = of_input[0] + of_state[0]
        z, d = evaluate(self.activation, s)
        return _Step([s], [z], z, c, d, z, d)

    def _lstm(self, of_input: list[Floats], of_state: list[Floats], h: Floats, c: Floats) -> _Step:
        s = [a + b for a, b in zip(of_input, of_state, strict=True)]
        candidate, d = evaluate(self.activation, s[2])
        i, f, o = (expit(s[gate]) for gate in (0, 1, 3))
        c = f * c + i * candidate
        hidden, slope = evaluate(self.activation, c)
        return _Step(s, [i, f, candidate, o], o * hidden, c, d, hidden, slope)

    def _gru(self, of_input: list[Floats], of_state: list[Floats], h: Floats, c: Floats) -> _Step:
        r, z = (expit(of_input[gate] + of_state[gate]) for gate in (0, 1))
        s = [of_input[0] + of_state[0], of_input[1] + of_state[1], of_input[2] + r * of_state[2]]
        n, d = evaluate(self.activation, s[2])
        return _Step(s, [r, z, n], (1 - z) * n + z * h, c, d, of_state[2], d)

    def back(self, step: _Step, before: tuple[Floats, Floats], dh: Floats, dc: Floats) -> tuple[Any, ...]:
        """Return ds and da by gate, the part of dh that goes past the weights, dc of the step and of that before."""
        h, c = before
        if self.kind == "rnn":
            ds = [dh * step.derivative]
            return ds, ds, 0, dc, dc
        if self.kind == "lstm":
            i, f, g, o = step.opened
            dc = dc + dh * o * step.slope
            ds = [dc * g * i * (1 - i), dc * c * f * (1 - f), dc * i * step.derivative, dh * step.hidden * o * (1 - o)]
            return ds, ds, 0, dc, dc * f
        r, z, n = step.opened
        by_candidate = dh * (1 - z) * step.derivative
        ds = [by_candidate * step.hidden * r * (1 - r), dh * (h - n) * z * (1 - z), by_candidate]
        return ds, [ds[0], ds[1], by_candidate * r], dh * z, dc, dc


def run(layer: Recurrent, inputs: Floats, gradient: Floats) -> ModelTrace:
    """Run a net on inputs (batch, steps, inputs), with the gradient by the last state."""
    net = _Net(layer, inputs.dtype)
    x = [np.ascontiguousarray(inputs[:, t]) for t in range(inputs.shape[1])]
    with np.errstate(all="ignore"):
        h, c = [np.zeros_like(gradient)], [np.zeros_like(gradient)]
        steps = []
        for each in x:
            steps.append(net.step(each, h[-1], c[-1]))
            h.append(steps[-1].h)
            c.append(steps[-1].c)
        return _trace(layer, net, x, (h, c), steps, _back(net, x, (h, c), steps, gradient))


@dataclass
class _Gradients:
    """What the way back collects: by gate of the weights and biases, by time step of all else, the last step first."""

    weight: list[Floats]
    recurrent_weight: list[Floats]
    bias: list[Floats]
    recurrent_bias: list[Floats]
    h: list[Floats]
    c: list[Floats]
    s: list[Floats]
    input: list[Floats]


def _back(net: _Net, x: list[Floats], states: Any, steps: list[_Step], gradient: Floats) -> _Gradients:
    h, c = states
    dv, dw, db, db_state = ([np.zeros_like(m) for m in each] for each in (net.v, net.w, net.b, net.b_state))
    found = _Gradients(dv, dw, db, db_state, [gradient], [], [], [])
    dc = np.zeros_like(gradient)
    for t in reversed(range(len(steps))):
        ds, da, past, here, dc = net.back(steps[t], (h[t], c[t]), found.h[-1], dc)
        for gate, (by_input, by_state) in enumerate(zip(ds, da, strict=True)):
            found.weight[gate] += x[t].T @ by_input
            found.recurrent_weight[gate] += h[t].T @ by_state
            found.bias[gate] += by_input.sum(axis=0)
            found.recurrent_bias[gate] += by_state.sum(axis=0)
        found.input.append(sum(each @ v.T for each, v in zip(ds, net.v, strict=True)))
        found.h.append(past + sum(each @ w.T for each, w in zip(da, net.w, strict=True)))
        found.c.append(here)
        found.s.append(np.hstack(ds))
    found.c.append(dc)
    return found


def _trace(layer: Recurrent, net: _Net, x: list[Floats], states: Any, steps: list[_Step], by: _Gradients) -> ModelTrace:
    lstm, rnn = net.kind == "lstm", net.kind == "rnn"
    h, c = states
    return ModelTrace(
        activation=_wide_all(h),
        preactivation=[None, *(_wide(np.hstack(step.s)) for step in steps)],
        derivative=[None, *(_wide(step.derivative) if rnn else None for step in steps)],
        activation_gradient=_wide_all(by.h[::-1]),
        preactivation_gradient=[None, *_wide_all(by.s[::-1])],
        weight=_wide_all(net.v),
        bias=_wide_all(net.b),
        weight_gradient=_wide_all(by.weight),
        recurrent_weight=_wide_all(net.w),
        recurrent_weight_gradient=_wide_all(by.recurrent_weight),
        bias_gradient=_wide_all(by.bias),
        input=[None, *_wide_all(x)],
        input_gradient=[None, *_wide_all(by.input[::-1])],
        cell_state=_wide_all(c) if lstm else [],
        cell_state_gradient=_wide_all(by.c[::-1]) if lstm else [],
        activations=[layer.activation] * len(h),
        seen=[None, *(_wide(step.s[0]) for step in steps)] if rnn else [],
        value=[None, *(_wide(step.opened[0]) for step in steps)] if rnn else [],
        gates=[_wide_all(step.opened) for step in steps],
        recurrent_bias=_wide_all(net.b_state),
        recurrent_bias_gradient=_wide_all(by.recurrent_bias),
        beside={layer.kind: f"{layer.kind.upper()} at {layer.place}"},
    )


def _wide(values: Floats) -> Floats:
    return values.astype(np.float64)


def _wide_all(values: Any) -> list[Any]:
    return [_wide(each) for each in values]
