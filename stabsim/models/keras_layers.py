"""``from_keras``: a Keras model's JSON description, of Keras 2 or 3; keras itself is never imported."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from typing import Any

from stabsim import checks
from stabsim.initializers import Initializer
from stabsim.models.keras_activations import HEADS, activation_of, keras_name
from stabsim.models.keras_documents import check_chain, document_of, place_of
from stabsim.models.keras_laws import law
from stabsim.models.layers import Dense, Layer, Nonlinearity, Normalizer, Recurrent
from stabsim.models.model import Model
from stabsim.names import check_known

EPSILONS = {"batch": 1e-3, "layer": 1e-3, "rms": 1e-6}  # that Keras takes where none is told


def from_keras(description: str | os.PathLike[str] | Mapping[str, Any]) -> Model:
    """Read a Keras model's description: its layers, and the laws of its initializers; it has no weights.

    Parameters
    ----------
    description : str, path or mapping
        ``model.to_json()``, the path of a file that holds it, ending in .json, or the same as a mapping. A Sequential
        model, or a functional one that is a chain, of Dense, activations, BatchNormalization, LayerNormalization,
        Flatten and Dropout, or of SimpleRNN, LSTM or GRU.

    Returns
    -------
    Model
        With `Model.network` and `Model.ensemble`; what needs weights says that there are none.

    Raises
    ------
    TypeError, ValueError
        If it is no such description, or a layer, an initializer or an option is not read: which, and where.
    OSError
        If the file cannot be read.

    Examples
    --------
    >>> options = {"units": 64, "activation": "tanh", "kernel_initializer": "he_normal"}
    >>> dense = {"class_name": "Dense", "config": options}
    >>> inputs = {"class_name": "InputLayer", "config": {"batch_shape": [None, 32]}}
    >>> from_keras({"class_name": "Sequential", "config": {"layers": [inputs, dense, dense]}}).network.weights
    Initializer(law='truncated_normal', gain=1.4142135623730951, fan='in', bias_law='normal', bias_gain=None)
    """
    document = document_of(description)
    options = document.get("config", document) if "layers" not in document else document
    if not isinstance(options, Mapping) or not isinstance(options.get("layers"), list):
        raise ValueError(f"a Keras description has a list of layers, not {checks.brief(document)}")
    reader = _Reader()
    for number, each in enumerate(options["layers"]):
        reader.check(number, each)
    check_chain(options["layers"])
    for number, each in enumerate(options["layers"]):
        reader.read(number, each, last=number == len(options["layers"]) - 1)
    return Model(tuple(reader.layers), tuple(reader.notes))


class _Reader:
    """Layers in their order, with what the last one gives.

    Attributes
    ----------
    layers, notes : list
        Of the model.
    width : int or None
        Units that the last layer gives, once the shape of inputs is told.
    steps : int or None
        Time steps of the inputs, where they are told.
    sides : list or None
        All sides of what the last layer gives, the last of which is the width, where there are more than one.
    """

    def __init__(self) -> None:
        self.layers: list[Layer] = []
        self.notes: list[str] = []
        self.width: int | None = None
        self.steps: int | None = None
        self.sides: list[Any] | None = None

    def check(self, number: int, layer: Any) -> None:
        if not isinstance(layer, Mapping) or not isinstance(layer.get("config"), Mapping):
            raise ValueError(f"layers[{number}] must have class_name and config, not {checks.brief(layer)}")
        check_known(f"Keras layer at {place_of(number, layer)}:", layer.get("class_name"), READERS)

    def read(self, number: int, layer: Mapping[str, Any], last: bool) -> None:
        place, options = place_of(number, layer), layer["config"]
        if self.width is None and (shape := options.get("batch_input_shape")) is not None:
            self.shape(place, shape)
        if layer["class_name"] != "InputLayer" and self.width is None and (given := layer.get("build_config")):
            shape = given.get("input_shape") if isinstance(given, Mapping) else None
            if isinstance(shape, list | tuple):
                self.shape(place, shape)
        try:
            READERS[layer["class_name"]](self, place, options, last)
        except KeyError as error:
            raise ValueError(f"{place} lacks {error}, which a {layer['class_name']} has") from None

    def shape(self, place: str, shape: Any) -> None:
        """Take the shape of the inputs: (batch, width), (batch, steps, width), or more sides, to be flattened."""
        sides = list(shape)[1:] if isinstance(shape, list | tuple) else []
        if not sides or sides[-1] is None or (len(sides) > 2 and None in sides):
            raise ValueError(f"{place} must tell the shape (width) or (time steps, width) of inputs, not {sides}")
        self.width = checks.whole_number(f"width of the inputs of {place}", sides[-1])
        if len(sides) == 2 and sides[0] is not None:
            self.steps = checks.whole_number(f"time steps of {place}", sides[0])
        self.sides = sides if len(sides) > 1 else None

    def flat(self, place: str) -> None:
        """Take the units of all sides together."""
        if self.sides is not None:
            self.width = math.prod(checks.whole_number(f"sides of the inputs of {place}", side) for side in self.sides)
        self.sides = None

    def told_width(self, place: str, what: str = "inputs") -> int:
        """Return how many units the layer below gives."""
        if self.width is None:
            raise ValueError(f"{place} has an unknown number of {what}: build the model, or give it an Input(shape)")
        return self.width

    def dense(self, place: str, options: Mapping[str, Any], last: bool) -> None:
        width = self.told_width(place)
        if self.sides is not None:
            raise ValueError(f"{place} takes inputs of shape {tuple(self.sides)}: flatten them first")
        units = checks.whole_number(f"units of {place}", options["units"])
        kernel = law(
            f"kernel_initializer of {place}", options.get("kernel_initializer", "glorot_uniform"), (width, units)
        )
        if kernel is None:
            kernel = law(place, {"class_name": "Zeros"}, (width, units), zeros=True)
        bias = None
        if options.get("use_bias", True):
            bias = law(f"bias_initializer of {place}", options.get("bias_initializer", "zeros"), (units,))
        self.layers.append(Dense(place, (width, units), weight_law=kernel, bias_law=bias))
        self.width = units
        self.function(place, options.get("activation"), last)

    def function(self, place: str, given: Any, last: bool) -> None:
        """Take an activation."""
        name = keras_name(given)
        if name in HEADS and last and self.layers:
            self.notes.append(f"{place}: {name.lower()} at the end is not read: outputs are what it sees")
            return
        activation = activation_of(place, given)
        if activation != "linear":
            self.layers.append(Nonlinearity(place, activation))

    def recurrent(self, kind: str, place: str, options: Mapping[str, Any]) -> None:
        width = self.told_width(place)
        units = checks.whole_number(f"units of {place}", options["units"])
        activation = activation_of(place, options.get("activation", "tanh"))
        _check_cell(place, options)
        of_input, of_state = self._laws(kind, place, options, width, units)
        biased = bool(options.get("use_bias", True))
        for name in ("dropout", "recurrent_dropout"):
            if options.get(name):
                self.notes.append(
                    f"{place}: {name}={checks.brief(options[name])} is left out, the identity in evaluation"
                )
        self.layers.append(
            Recurrent(
                place,
                kind,
                activation,
                (width, units),
                weight_law=of_input,
                recurrent_law=of_state,
                forget_bias=float(kind == "lstm" and biased and bool(options.get("unit_forget_bias", True))),
                steps=self.steps,
            )
        )
        self.width = units
        self.sides = [self.steps, units] if options.get("return_sequences") else None

    def _laws(
        self, kind: str, place: str, options: Mapping[str, Any], width: int, units: int
    ) -> list[Initializer | None]:
        """Return the laws of a cell's weights on the input and on the state; its biases must be 0."""
        gates = {"rnn": 1, "lstm": 4, "gru": 3}[kind]
        if options.get("use_bias", True):
            bias = law(f"bias_initializer of {place}", options.get("bias_initializer", "zeros"), (gates * units,))
            if bias is not None:
                raise ValueError(f"bias_initializer of {place} must be zeros, not {bias}")
        found = []
        for name, inputs, default in (
            ("kernel_initializer", width, "glorot_uniform"),
            ("recurrent_initializer", units, "orthogonal"),
        ):
            given = law(f"{name} of {place}", options.get(name, default), (inputs, gates * units), gates, self.notes)
            found.append(given or law(place, "zeros", (1, 1), zeros=True))
        return found

    def normalizer(self, kind: str, place: str, options: Mapping[str, Any]) -> None:
        axis = options.get("axis", -1)
        axis = axis[0] if isinstance(axis, list) and len(axis) == 1 else axis
        if axis not in (-1, 1) or self.sides is not None:
            raise ValueError(
                f"{place} must normalize the units of a layer, axis=-1 of (samples, units), not {checks.brief(axis)}"
            )
        for name in ("beta", "gamma"):
            wanted = "zeros" if name == "beta" else "ones"
            given = options.get(f"{name}_initializer", wanted)
            said = given.get("class_name") if isinstance(given, Mapping) else given
            if str(said).lower() != wanted:
                raise ValueError(f"{name}_initializer of {place} must be {wanted}, not {checks.brief(said)}")
        epsilon = checks.number(f"epsilon of {place}", options.get("epsilon", EPSILONS[kind]), 0.0)
        if options.get("rms_scaling"):
            raise ValueError(f"{place} must have rms_scaling=False")
        self.layers.append(Normalizer(place, kind, self.told_width(place, "units"), epsilon))


def _check_cell(place: str, options: Mapping[str, Any]) -> None:
    """Refuse a cell that a `Network` has not."""
    for name, wanted in (("recurrent_activation", "sigmoid"), ("reset_after", True), ("go_backwards", False)):
        given = options.get(name, wanted)
        if (keras_name(given) if name == "recurrent_activation" else given) != wanted:
            raise ValueError(f"{place} must have {name}={wanted!r}, not {checks.brief(given)}")


Read = Callable[[_Reader, str, Mapping[str, Any], bool], None]


def _input(reader: _Reader, place: str, options: Mapping[str, Any], last: bool) -> None:
    shape = options.get("batch_shape", options.get("batch_input_shape"))
    if shape is None:
        raise ValueError(f"{place} must tell the shape of inputs, as batch_shape")
    reader.shape(place, shape)


def _flatten(reader: _Reader, place: str, options: Mapping[str, Any], last: bool) -> None:
    reader.flat(place)


def _dropout(reader: _Reader, place: str, options: Mapping[str, Any], last: bool) -> None:
    rate = options.get("rate", options.get("stddev", 0))
    if rate:
        reader.notes.append(f"{place}: dropout, {checks.brief(rate)}, is left out: the identity in evaluation")


def _activation(reader: _Reader, place: str, options: Mapping[str, Any], last: bool) -> None:
    reader.function(place, options["activation"], last)


def _of_class(name: str) -> Read:
    return lambda reader, place, options, last: reader.function(place, {"class_name": name, "config": options}, last)


def _of_kind(method: str, kind: str) -> Read:
    return lambda reader, place, options, last: getattr(reader, method)(kind, place, options)


READERS: dict[str, Read] = {
    "InputLayer": _input,
    "Dense": _Reader.dense,
    "Activation": _activation,
    "ReLU": _of_class("ReLU"),
    "LeakyReLU": _of_class("LeakyReLU"),
    "ELU": _of_class("ELU"),
    "Softmax": _of_class("Softmax"),
    "BatchNormalization": _of_kind("normalizer", "batch"),
    "LayerNormalization": _of_kind("normalizer", "layer"),
    "RMSNormalization": _of_kind("normalizer", "rms"),
    "Flatten": _flatten,
    "Dropout": _dropout,
    "AlphaDropout": _dropout,
    "GaussianDropout": _dropout,
    "GaussianNoise": _dropout,
    "SimpleRNN": _of_kind("recurrent", "rnn"),
    "LSTM": _of_kind("recurrent", "lstm"),
    "GRU": _of_kind("recurrent", "gru"),
}
