"""The layers that a model is made of, whatever library it came from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from stabsim.initializers import Initializer
from stabsim.structures import GATES

Floats: TypeAlias = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Dense:
    """s = z W + b.

    Attributes
    ----------
    place : str
        Where it stands in what was read: ``"module[2]"``.
    fans : (int, int)
        Units below and above.
    weight : array (fan_in, fan_out) or None
        None where a description told laws alone.
    bias : array (fan_out,) or None
        None where there is none, too.
    weight_law, bias_law : Initializer or None
        As a description told them; a bias that is told as 0 or is not there has None.
    """

    place: str
    fans: tuple[int, int]
    weight: Floats | None = None
    bias: Floats | None = None
    weight_law: Initializer | None = None
    bias_law: Initializer | None = None


@dataclass(frozen=True)
class Nonlinearity:
    """f, by its name in the registry of activations: ``"leaky_relu(slope=0.2)"``."""

    place: str
    activation: str


@dataclass(frozen=True, eq=False)
class Normalizer:
    """A normalization with what is learned of it.

    Attributes
    ----------
    place : str
        Where it stands.
    kind : str
        "batch", "layer" or "rms".
    width : int
        Units.
    epsilon : float
        Added to the variance, or mean square.
    scale, shift : array (width,) or None
        By which the normalized values are multiplied, and what is added to them.
    mean, variance : array (width,) or None
        Running moments, of batch normalization in evaluation; None: those of the batch are taken.
    """

    place: str
    kind: str
    width: int
    epsilon: float
    scale: Floats | None = None
    shift: Floats | None = None
    mean: Floats | None = None
    variance: Floats | None = None

    @property
    def changed(self) -> bool:
        """Return whether scale or shift differ from 1 and 0."""
        scaled = self.scale is not None and bool(np.any(self.scale != 1))
        return scaled or (self.shift is not None and bool(np.any(self.shift != 0)))


@dataclass(frozen=True, eq=False)
class Recurrent:
    """A recurrent layer; what is listed is by gate, in the order of PyTorch.

    Attributes
    ----------
    place : str
        Where it stands.
    kind, activation : str
        "rnn", "lstm" or "gru"; f, of a gated cell that of the candidate and of what goes out.
    fans : (int, int)
        Inputs and units of the state.
    weight, recurrent_weight : tuple of arrays (inputs, state) and (state, state)
        Of each gate; empty where a description told laws alone.
    bias, recurrent_bias : tuple of arrays (state,)
        Beside the product with the input, and with the state, which are PyTorch's two; empty where there are none.
    weight_law, recurrent_law : Initializer or None
        As a description told them.
    forget_bias : float
        As a description told it.
    steps : int or None
        Time steps, where a description told them.
    """

    place: str
    kind: str
    activation: str
    fans: tuple[int, int]
    weight: tuple[Floats, ...] = ()
    recurrent_weight: tuple[Floats, ...] = ()
    bias: tuple[Floats, ...] = ()
    recurrent_bias: tuple[Floats, ...] = ()
    weight_law: Initializer | None = None
    recurrent_law: Initializer | None = None
    forget_bias: float = 0.0
    steps: int | None = None

    @property
    def gates(self) -> tuple[str, ...]:
        """Return the names of the gates; an RNN has one, without a name."""
        return GATES[self.kind] or ("",)


Layer: TypeAlias = Dense | Nonlinearity | Normalizer | Recurrent


@dataclass(frozen=True, eq=False)
class Stage:
    """A layer of a net: the weights, and all that follows them up to the next; layer 0 has no weights."""

    dense: Dense | None
    then: tuple[Nonlinearity | Normalizer, ...]

    @property
    def activations(self) -> tuple[str, ...]:
        """Return its activations in their order."""
        return tuple(each.activation for each in self.then if isinstance(each, Nonlinearity))

    @property
    def normalizers(self) -> tuple[Normalizer, ...]:
        """Return its normalizations in their order."""
        return tuple(each for each in self.then if isinstance(each, Normalizer))


def stages(layers: tuple[Layer, ...]) -> tuple[Stage, ...]:
    """Return layers 0, 1, ... of a feedforward net: 0 is what is done to the inputs, mostly nothing.

    Examples
    --------
    >>> [len(stage.then) for stage in stages((Dense("a", (3, 2)), Nonlinearity("b", "tanh"), Dense("c", (2, 1))))]
    [0, 1, 0]
    """
    found: list[tuple[Dense | None, list[Nonlinearity | Normalizer]]] = [(None, [])]
    for layer in layers:
        if isinstance(layer, Dense):
            found.append((layer, []))
        elif not isinstance(layer, Recurrent):
            found[-1][1].append(layer)
    return tuple(Stage(dense, tuple(then)) for dense, then in found)


def said(layer: Layer) -> str:
    """Return what a layer is, in a few words."""
    if isinstance(layer, Nonlinearity):
        return layer.activation
    if isinstance(layer, Normalizer):
        by = ", running moments" if layer.mean is not None else ""
        return f"{layer.kind} normalization of {layer.width} units (epsilon={layer.epsilon:g}{by})"
    law = f", {layer.weight_law}" if layer.weight_law is not None else ""
    if isinstance(layer, Dense):
        return f"{layer.fans[0]} -> {layer.fans[1]}{law}"
    return f"{layer.kind} with {layer.activation}, {layer.fans[0]} inputs, {layer.fans[1]} states{law}"
