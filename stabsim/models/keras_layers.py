"""``from_keras``: a Keras model's JSON description, of Keras 2 or 3; keras itself is never imported."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from stabsim import checks
from stabsim.models.keras_documents import check_chain, document_of, place_of
from stabsim.models.keras_laws import law
from stabsim.models.layers import Dense, Layer, Nonlinearity, Normalizer, Recurrent
from stabsim.models.model import Model
from stabsim.names import check_known, format_name

FUNCTIONS = {  # Keras' names of activations, and the registry's
    "linear": "linear",
    "relu": "relu",
    "relu6": "relu6",
    "leaky_relu": "leaky_relu(slope=0.2)",
    "elu": "elu(alpha=1)",
    "selu": "selu",
    "gelu": "gelu",
    "silu": "silu",
    "swish": "silu",
    "softplus": "softplus",
    "sigmoid": "sigmoid",
    "tanh": "tanh",
    "hard_tanh": "hard_tanh",
    "softsign": "softsign",
}
HEADS = ("softmax", "log_softmax")  # what a loss does to outputs


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
    """Layers in their order, with how many units the last one has."""

    def __init__(self) -> None:
        self.layers: list[Layer] = []
        self.notes: list[str] = []
        self.width: int | None = None
        self.steps: int | None = None

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
        """Take the shape of the inputs: (batch, width) or (batch, steps, width)."""
        sides = list(shape)[1:] if isinstance(shape, list | tuple) else []
        if len(sides) not in (1, 2) or sides[-1] is None:
            self.pending(place, sides)
            return
        self.width = checks.whole_number(f"width of the inputs of {place}", sides[-1])
        if len(sides) == 2:
            self.steps = None if sides[0] is None else checks.whole_number(f"time steps of {place}", sides[0])
            self.sides = sides

    sides: list[Any] | None = None

    def pending(self, place: str, sides: list[Any]) -> None:
        if len(sides) < 3 or any(side is None for side in sides):
            raise ValueError(f"{place} must tell the shape (width) or (time steps, width) of inputs, not {sides}")
        self.sides = sides
        self.width = checks.whole_number(f"width of the inputs of {place}", sides[-1])

    def flat(self) -> None:
        """Take the units of all sides together."""
        if self.sides is not None and not self.layers:
            self.width = 1
            for side in self.sides:
                self.width *= checks.whole_number("side of the inputs that are flattened", side)
        self.sides = None

    def dense(self, place: str, options: Mapping[str, Any], last: bool) -> None:
        if self.width is None:
            raise ValueError(f"{place} has an unknown number of inputs: build the model, or give it an Input(shape)")
        if self.sides is not None and len(self.sides) > 1:
            raise ValueError(f"{place} takes inputs of shape {tuple(self.sides)}: flatten them first")
        units = checks.whole_number(f"units of {place}", options["units"])
        kernel = law(
            f"kernel_initializer of {place}", options.get("kernel_initializer", "glorot_uniform"), (self.width, units)
        )
        if kernel is None:
            kernel = law(place, {"class_name": "Zeros"}, (self.width, units), zeros=True)
        bias = None
        if options.get("use_bias", True):
            bias = law(f"bias_initializer of {place}", options.get("bias_initializer", "zeros"), (units,))
        self.layers.append(Dense(place, (self.width, units), weight_law=kernel, bias_law=bias))
        self.width = units
        self.function(place, options.get("activation", "linear"), last)

    def function(self, place: str, given: Any, last: bool) -> None:
        """Take an activation by its name, or by its serialized form."""
        name = given
        if isinstance(given, Mapping):
            options = given.get("config")
            name = options if isinstance(options, str) else given.get("class_name")
            if isinstance(options, Mapping) and name in READERS:
                READERS[name](self, place, options, last)
                return
        if name is None or name == "linear":
            return
        if isinstance(name, str) and name in HEADS and last and self.layers:
            self.notes.append(f"{place}: {name} at the end is not read: outputs are what it sees")
            return
        check_known(f"activation of {place}:", name, FUNCTIONS)
        self.layers.append(Nonlinearity(place, FUNCTIONS[name]))

    def recurrent(self, kind: str, place: str, options: Mapping[str, Any]) -> None:
        if self.width is None:
            raise ValueError(f"{place} has an unknown number of inputs: build the model, or give it an Input(shape)")
        units = checks.whole_number(f"units of {place}", options["units"])
        gates = {"rnn": 1, "lstm": 4, "gru": 3}[kind]
        activation = options.get("activation", "tanh")
        check_known(f"activation of {place}:", activation, FUNCTIONS)
        for name, wanted in (("recurrent_activation", "sigmoid"), ("reset_after", True), ("go_backwards", False)):
            if options.get(name, wanted) != wanted:
                raise ValueError(f"{place} must have {name}={wanted!r}, not {checks.brief(options[name])}")
        laws = []
        for name, inputs, default in (
            ("kernel_initializer", self.width, "glorot_uniform"),
            ("recurrent_initializer", units, "orthogonal"),
        ):
            given = law(f"{name} of {place}", options.get(name, default), (inputs, gates * units), gates, self.notes)
            laws.append(given or law(place, "zeros", (1, 1), zeros=True))
        if options.get("use_bias", True):
            bias = law(f"bias_initializer of {place}", options.get("bias_initializer", "zeros"), (gates * units,))
            if bias is not None:
                raise ValueError(f"bias_initializer of {place} must be zeros, not {bias}")
        forget = float(
            kind == "lstm" and bool(options.get("use_bias", True)) and bool(options.get("unit_forget_bias", True))
        )
        for name in ("dropout", "recurrent_dropout"):
            if options.get(name):
                self.notes.append(
                    f"{place}: {name}={checks.brief(options[name])} is left out, the identity in evaluation"
                )
        self.layers.append(
            Recurrent(
                place,
                kind,
                FUNCTIONS[activation],
                (self.width, units),
                weight_law=laws[0],
                recurrent_law=laws[1],
                forget_bias=forget,
                steps=self.steps,
            )
        )
        self.width = units
        self.sides = [self.steps, units] if options.get("return_sequences") else None

    def normalizer(self, kind: str, place: str, options: Mapping[str, Any]) -> None:
        axis = options.get("axis", -1)
        axis = axis[0] if isinstance(axis, list) and len(axis) == 1 else axis
        if axis not in (-1, 1) or (self.sides is not None and len(self.sides) > 1):
            raise ValueError(f"{place} must normalize the units of a layer, axis=-1 of (samples, units), not {axis}")
        for name in ("beta", "gamma"):
            wanted = "zeros" if name == "beta" else "ones"
            given = options.get(f"{name}_initializer", wanted)
            said = given.get("class_name") if isinstance(given, Mapping) else given
            if str(said).lower() != wanted:
                raise ValueError(f"{name}_initializer of {place} must be {wanted}, not {checks.brief(said)}")
        if self.width is None:
            raise ValueError(f"{place} has an unknown number of units: build the model, or give it an Input(shape)")
        epsilon = checks.number(f"epsilon of {place}", options.get("epsilon", 1e-3), 0.0)
        if options.get("rms_scaling"):
            raise ValueError(f"{place} must have rms_scaling=False")
        self.layers.append(Normalizer(place, kind, self.width, epsilon))


Read = Callable[[_Reader, str, Mapping[str, Any], bool], None]


def _input(reader: _Reader, place: str, options: Mapping[str, Any], last: bool) -> None:
    shape = options.get("batch_shape", options.get("batch_input_shape"))
    if shape is None:
        raise ValueError(f"{place} must tell the shape of inputs, as batch_shape")
    reader.shape(place, shape)


def _flatten(reader: _Reader, place: str, options: Mapping[str, Any], last: bool) -> None:
    reader.flat()


def _dropout(reader: _Reader, place: str, options: Mapping[str, Any], last: bool) -> None:
    rate = options.get("rate", options.get("stddev", 0))
    if rate:
        reader.notes.append(f"{place}: dropout, {checks.brief(rate)}, is left out: the identity in evaluation")


def _activation(reader: _Reader, place: str, options: Mapping[str, Any], last: bool) -> None:
    reader.function(place, options["activation"], last)


def _softmax(reader: _Reader, place: str, options: Mapping[str, Any], last: bool) -> None:
    reader.function(place, "softmax", last)


def _relu(reader: _Reader, place: str, options: Mapping[str, Any], last: bool) -> None:
    slope, most = options.get("negative_slope") or 0.0, options.get("max_value")
    if options.get("threshold") or most not in (None, 6) or (most and slope):
        raise ValueError(
            f"{place} (ReLU) must have threshold=0 and max_value=None or 6, not {checks.brief(dict(options))}"
        )
    name = format_name("leaky_relu", {"slope": float(slope)}) if slope else "relu6" if most else "relu"
    reader.layers.append(Nonlinearity(place, name))


def _leaky_relu(reader: _Reader, place: str, options: Mapping[str, Any], last: bool) -> None:
    slope = checks.number(f"slope of {place}", options.get("negative_slope", options.get("alpha", 0.3)))
    reader.layers.append(Nonlinearity(place, format_name("leaky_relu", {"slope": slope})))


def _elu(reader: _Reader, place: str, options: Mapping[str, Any], last: bool) -> None:
    alpha = checks.number(f"alpha of {place}", options.get("alpha", 1.0))
    reader.layers.append(Nonlinearity(place, format_name("elu", {"alpha": alpha})))


def _of_kind(method: str, kind: str) -> Read:
    return lambda reader, place, options, last: getattr(reader, method)(kind, place, options)


READERS: dict[str, Read] = {
    "InputLayer": _input,
    "Dense": _Reader.dense,
    "Activation": _activation,
    "ReLU": _relu,
    "LeakyReLU": _leaky_relu,
    "ELU": _elu,
    "Softmax": _softmax,
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
