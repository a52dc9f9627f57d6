"""The ensemble of which a model is a member, as far as a `Network` expresses it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from stabsim import checks
from stabsim.initializers import Initializer, initializer
from stabsim.models.fits import of_layer
from stabsim.models.layers import Dense, Recurrent, Stage
from stabsim.models.one_law import TORCH, one_law, with_biases
from stabsim.network import Network
from stabsim.structures import Cell, Gate, Normalization

if TYPE_CHECKING:
    from stabsim.models.model import Model

FAR = 5.0  # standard errors, from which on the mean of a gate's biases is not 0


@dataclass(frozen=True)
class Reading:
    """A model as an ensemble: the network, how many of the model's layers it has, and what it has otherwise."""

    network: Network
    depth: int
    notes: tuple[str, ...]


def read(
    model: Model,
    weights: str | Initializer | None = None,
    bias_std: float | None = None,
    steps: int | None = None,
) -> Reading:
    """Return the ensemble of a model; see `stabsim.Model.ensemble`."""
    if weights is not None:
        weights = initializer(weights)
    if model.recurrent:
        return _recurrent(model, weights, bias_std, steps)
    if steps is not None:
        raise ValueError(f"steps={checks.brief(steps)}: a model without recurrent layers has no time steps")
    return _feedforward(model, weights, bias_std)


def _feedforward(model: Model, weights: Initializer | None, bias_std: float | None) -> Reading:
    notes: list[str] = []
    if model.stages[0].then:
        notes.append(f"{model.stages[0].then[0].place} is left out: inputs are those of {_place(model.stages[1])}")
    given = model.stages[1:]
    depth = next((number for number, stage in enumerate(given) if _kind(stage) != _kind(given[0])), len(given))
    if depth < len(given) - 1:
        raise ValueError(
            f"a Network has one activation and normalization in all layers but the last: {_place(given[depth])} has "
            f"{_in_words(given[depth])}, {_place(given[0])} {_in_words(given[0])}"
        )
    if depth < len(given):
        notes.append(f"{_place(given[-1])} is left out, the last layer: {_in_words(given[-1])} follows it")
    kept = given[:depth]
    activation = kept[0].activations[0] if kept[0].activations else "linear"
    normalization = _normalization(kept, notes)
    if weights is None:
        weights, found = _laws([stage.dense for stage in kept if stage.dense is not None], bias_std is None)
        bias_std = found if bias_std is None else bias_std
    widths = model.widths[: depth + 1]
    return Reading(Network(widths, activation, weights, bias_std or 0.0, normalization), depth, tuple(notes))


def _place(stage: Stage) -> str:
    return stage.dense.place if stage.dense is not None else "the input"


def _kind(stage: Stage) -> tuple[object, ...]:
    """Return what must be the same in all layers."""
    return tuple(
        (layer.kind, layer.epsilon) if layer in stage.normalizers else layer.activation  # type: ignore[union-attr]
        for layer in stage.then
    )


def _in_words(stage: Stage) -> str:
    kinds = [each.activation if hasattr(each, "activation") else f"{each.kind} normalization" for each in stage.then]
    return " and then ".join(kinds) or "no activation"


def _normalization(kept: Sequence[Stage], notes: list[str]) -> Normalization | None:
    """Return the normalization in front of f, or refuse what stands elsewhere or has learned."""
    for stage in kept:
        if len(stage.activations) > 1:
            raise ValueError(f"a Network has one activation a layer: {_place(stage)} has {_in_words(stage)}")
        for layer in stage.normalizers:
            if len(stage.normalizers) > 1 or (stage.activations and stage.then[0] is not layer):
                raise ValueError(f"a Network normalizes once, in front of the activation, unlike {layer.place}")
            if layer.mean is not None:
                raise ValueError(
                    f"a Network normalizes by the moments of the batch, {layer.place} by running ones: read the module "
                    f"after module.train()"
                )
            if layer.changed:
                raise ValueError(f"a Network has no learned scale and shift of a normalization, {layer.place} has")
    if not kept[0].normalizers:
        return None
    first = kept[0].normalizers[0]
    return Normalization(first.kind, first.epsilon)


def _laws(layers: Sequence[Dense], biased: bool) -> tuple[Initializer, float]:
    """Return the one law of the weights of all layers, and the standard deviation of biases that it does not set."""
    told = [layer.weight_law for layer in layers if layer.weight_law is not None]
    if told:
        return _told(layers)
    fits = [fit for layer in layers for fit in of_layer(layer)]
    weights = one_law([fit for fit in fits if fit.tensor == "weight"])
    biases = [fit for fit in fits if fit.tensor == "bias"]
    if not biased or all(fit.std == 0 for fit in biases):
        return weights, 0.0
    return with_biases(weights, biases)


def _told(layers: Sequence[Dense]) -> tuple[Initializer, float]:
    """Return the law that a description told of all layers."""
    first = layers[0]
    for layer in layers:
        for tensor in ("weight", "bias"):
            one, other = getattr(layer, f"{tensor}_law"), getattr(first, f"{tensor}_law")
            if one != other:
                raise ValueError(
                    f"a Network has one law of each in all layers but the last: {tensor} of {layer.place} has "
                    f"{one or 'zeros'}, of {first.place} {other or 'zeros'}"
                )
    assert first.weight_law is not None
    bias = first.bias_law
    if bias is None:
        return first.weight_law, 0.0
    if bias.law == "normal" and bias.fan == "none":
        return first.weight_law, bias.gain
    if bias.law in ("normal", "uniform") and bias.fan == "in":
        return replace(first.weight_law, bias_law=bias.law, bias_gain=bias.gain), 0.0
    raise ValueError(f"a Network has normal biases, or such with a gain by fan_in: {first.place} has {bias}")


def _recurrent(model: Model, weights: Initializer | None, bias_std: float | None, steps: int | None) -> Reading:
    layer = model.layers[0]
    assert isinstance(layer, Recurrent)
    notes = []
    if any(isinstance(other, Recurrent) for other in model.layers[1:]):
        raise ValueError(f"a Network has one recurrent layer: {model.layers[1].place} is another one")
    if len(model.layers) > 1:
        notes.append(f"{model.layers[1].place} is left out: the ensemble ends with the last state")
    if steps is None and layer.steps is None:
        raise ValueError(f"how many time steps {layer.place} has is not told: say it, model.ensemble(steps=100)")
    steps = checks.whole_number("steps", layer.steps if steps is None else steps)
    cell, law, found = Cell(layer.kind), weights, 0.0
    if weights is None:
        law, cell, found = _cell(layer, notes)
    assert law is not None
    widths = (layer.fans[0], *(layer.fans[1],) * steps)
    given = found if bias_std is None else bias_std
    return Reading(Network(widths, layer.activation, law, given, cell=cell), steps, tuple(notes))


def _cell(layer: Recurrent, notes: list[str]) -> tuple[Initializer, Cell, float]:
    """Return the law of the weights on the input, the cell with that on the state, and the size of biases."""
    if layer.weight_law is not None:
        gates = {"forget": Gate(bias=layer.forget_bias)} if layer.forget_bias else {}
        return layer.weight_law, Cell(layer.kind, layer.recurrent_law, gates), 0.0
    fits = of_layer(layer)
    state = math.sqrt(layer.fans[1])
    laws = [
        one_law([fit for fit in fits if fit.tensor == tensor], [Initializer("uniform", TORCH, fan)])
        for tensor, fan in (("weight", "out"), ("recurrent_weight", "in"))
    ]
    gates, std = _biases(layer, state, notes)
    return laws[0], Cell(layer.kind, laws[1], gates), std


def _biases(layer: Recurrent, state: float, notes: list[str]) -> tuple[dict[str, Gate], float]:
    """Return gates with biases around another mean than 0, and the standard deviation around it.

    A Network has one bias a gate, a normal one, in place of PyTorch's sum of two uniform ones.
    """
    if not layer.bias:
        return {}, 0.0
    sums = [a + b for a, b in zip(layer.bias, layer.recurrent_bias or layer.bias, strict=True)]
    if not layer.recurrent_bias:
        sums = list(layer.bias)
    elif layer.kind == "gru":
        sums[2] = layer.bias[2]
        if np.any(layer.recurrent_bias[2]):
            notes.append(f"{layer.place}: the bias of the candidate inside the reset gate is left out")
    gates, centered = {}, []
    for name, values in zip(layer.gates, sums, strict=True):
        mean, spread = float(np.mean(values)), float(np.std(values)) / math.sqrt(len(values))
        shifted = bool(name) and abs(mean) > FAR * spread
        if shifted and mean:
            gates[name] = Gate(bias=mean)
        centered.append(values - (mean if shifted else 0.0))
    std = math.sqrt(float(np.mean(np.square(centered))))
    if std:
        notes.append(f"{layer.place}: biases of the ensemble are normal, one for each gate, with std {std:.3g}")
    return gates, std
