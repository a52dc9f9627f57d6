"""The passes of a given feedforward net, forward and backward: plain NumPy, in the precision of its weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from stabsim.activations import activation
from stabsim.activations.compiled import block
from stabsim.models.layers import Dense, Floats, Nonlinearity, Normalizer, Stage
from stabsim.tracing import Trace

Backward = Callable[[Floats], Floats]


@dataclass(frozen=True)
class ModelTrace(Trace):
    """All tensors of a given net, as `stabsim.Trace` lists them.

    The activation of a layer is what it hands on, and f' the product of those of all its activations, 1 without any.
    The activation of layer 0 is what the first layer takes. Of a recurrent net, biases are those beside the product
    with the input, and ``recurrent_bias`` those beside that with the state.

    Attributes
    ----------
    activations : list of str
        The last activation of each layer, "linear" where there is none.
    seen, value : list of arrays
        What it sees and what it makes of it; None at layer 0.
    gates : list of lists of arrays
        Of a recurrent net, at time steps 1, 2, ... the values of each gate.
    beside : dict of str to str
        What there is beside plain layers, by its name, and what gives it.
    """

    activations: list[str] = field(default_factory=list)
    seen: list[Any] = field(default_factory=list)
    value: list[Any] = field(default_factory=list)
    gates: list[list[Floats]] = field(default_factory=list)
    recurrent_bias: list[Any] = field(default_factory=list)
    recurrent_bias_gradient: list[Any] = field(default_factory=list)
    beside: dict[str, str] = field(default_factory=dict)

    @property
    def structures(self) -> dict[str, str]:
        """Return what there is beside plain layers."""
        return self.beside


def evaluate(name: str, s: Floats) -> tuple[Floats, Floats]:
    """Return f(s) and f'(s) by the name of an activation, in the precision of s.

    Examples
    --------
    >>> evaluate("relu", np.array([[-1.0, 2.0]]))
    (array([[0., 2.]]), array([[0., 1.]]))
    """
    s = np.ascontiguousarray(s)
    z, d = np.empty_like(s), np.empty_like(s)
    block(activation(name), s.dtype)(s.reshape(-1), z.reshape(-1), d.reshape(-1))
    return z, d


def normalize(layer: Normalizer, s: Floats) -> tuple[Floats, Backward]:
    """Return the normalized values, and the function that pulls a gradient back, through the moments as well."""
    kind = s.dtype
    scale = np.ones(layer.width, kind) if layer.scale is None else layer.scale.astype(kind)
    shift = np.zeros(layer.width, kind) if layer.shift is None else layer.shift.astype(kind)
    axis = 0 if layer.kind == "batch" else 1
    epsilon = kind.type(layer.epsilon)
    if layer.mean is not None and layer.variance is not None:
        factor = scale / np.sqrt(layer.variance.astype(kind) + epsilon)
        return (s - layer.mean.astype(kind)) * factor + shift, lambda gradient: gradient * factor
    centered = s if layer.kind == "rms" else s - s.mean(axis=axis, keepdims=True)
    inverse = 1 / np.sqrt(np.mean(centered * centered, axis=axis, keepdims=True) + epsilon)
    normal = centered * inverse

    def back(gradient: Floats) -> Floats:
        by_normal = gradient * scale
        through_mean = 0 if layer.kind == "rms" else by_normal.mean(axis=axis, keepdims=True)
        through_variance = normal * np.mean(by_normal * normal, axis=axis, keepdims=True)
        return np.asarray(inverse * (by_normal - through_mean - through_variance))

    return normal * scale + shift, back


@dataclass
class _Passed:
    """What a layer did on the way forward."""

    value: Floats  # what it hands on
    derivative: Floats
    name: str
    seen: Floats
    made: Floats
    backs: list[Backward]


def _through(stage: Stage, s: Floats) -> _Passed:
    passed = _Passed(s, np.ones_like(s), "linear", s, s, [])
    for layer in stage.then:
        if isinstance(layer, Nonlinearity):
            z, d = evaluate(layer.activation, passed.value)
            passed.derivative = passed.derivative * d
            passed.name, passed.seen, passed.made = layer.activation, passed.value, z
            passed.value = z
            passed.backs.append(_times(d))
        else:
            passed.value, back = normalize(layer, passed.value)
            passed.backs.append(back)
    return passed


def _times(d: Floats) -> Backward:
    return lambda gradient: gradient * d


def _given(dense: Dense, kind: Any) -> tuple[Floats, Floats]:
    """Return weights and biases, which there are where a net is run."""
    weight = np.asarray(dense.weight, kind)
    return weight, np.zeros(dense.fans[1], kind) if dense.bias is None else dense.bias.astype(kind)


def run(stages: tuple[Stage, ...], inputs: Floats, gradient: Floats) -> ModelTrace:
    """Run a net, all of whose weights are given, on inputs (batch, width), with the gradient by what leaves it."""
    kind = inputs.dtype
    with np.errstate(all="ignore"):
        passed = [_through(stages[0], inputs)]
        weights, biases, sums = [], [], []
        for stage in stages[1:]:
            assert stage.dense is not None  # that of layer 0 alone is
            weight, bias = _given(stage.dense, kind)
            weights.append(weight)
            biases.append(bias)
            sums.append(passed[-1].value @ weight + bias)
            passed.append(_through(stage, sums[-1]))
        dz: list[Floats] = [gradient]
        ds: list[Floats] = []
        dw: list[Floats] = []
        for layer in range(len(weights), 0, -1):
            by_s = dz[0]
            for back in reversed(passed[layer].backs):
                by_s = back(by_s)
            ds.insert(0, by_s)
            dw.insert(0, passed[layer - 1].value.T @ by_s)
            dz.insert(0, by_s @ weights[layer - 1].T)
    return ModelTrace(
        [_wide(each.value) for each in passed],
        [None, *map(_wide, sums)],
        [None, *(_wide(each.derivative) for each in passed[1:])],
        list(map(_wide, dz)),
        [None, *map(_wide, ds)],
        [None, *map(_wide, weights)],
        [None, *map(_wide, biases)],
        [None, *map(_wide, dw)],
        activations=[each.name for each in passed],
        seen=[None, *(_wide(each.seen) for each in passed[1:])],
        value=[None, *(_wide(each.made) for each in passed[1:])],
        beside=_beside(stages),
    )


def _beside(stages: tuple[Stage, ...]) -> dict[str, str]:
    """Return what there is beside plain layers."""
    found = [f"{layer.kind} normalization at {layer.place}" for stage in stages for layer in stage.normalizers]
    return {"normalization": found[0]} if found else {}


def _wide(values: Floats) -> Floats:
    return values.astype(np.float64)
