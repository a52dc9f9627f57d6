"""Keras' descriptions: those that Keras 3.15 wrote (data/keras), and the format of Keras 2 by its documentation."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import stabsim
from stabsim import Cell, Gate, Initializer, Network
from stabsim.models.keras_laws import law
from stabsim.models.layers import Recurrent

FOLDER = Path(__file__).parent / "data" / "keras"
HE = Initializer("truncated_normal", math.sqrt(2), "in")  # Keras cuts its normal laws
SCALED = Initializer("uniform", math.sqrt(0.5), "out")
GATES = {
    "gru": (Initializer("uniform", math.sqrt(2 / (5 + 48)), "none"), Initializer("normal", 1 / math.sqrt(48), "none"))
}
GATES["lstm"] = (Initializer("uniform", math.sqrt(2 / (5 + 64)), "none"), Initializer("normal", 1 / 8, "none"))

NETWORKS = {
    "mlp": Network((784, 64, 64), "relu", HE),
    "norm": Network((20, 32, 32), "gelu", "glorot_uniform", normalization="batch(epsilon=0.001)"),
    "leaky": Network((20, 32, 32), "leaky_relu(slope=0.1)", "orthogonal(gain=1.3)"),
    "vs": Network((20, 32, 32), "selu", SCALED, bias_std=0.1),
    "rnn": Network((5, *(16,) * 12), "relu", "glorot_uniform", cell=Cell("rnn", "identity")),
    "lstm": Network(
        (5, *(16,) * 12), "tanh", GATES["lstm"][0], cell=Cell("lstm", GATES["lstm"][1], {"forget": Gate(bias=1)})
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_networks(name: str) -> None:
    expected = NETWORKS[name]
    for given in (FOLDER / f"{name}.json", str(FOLDER / f"{name}.json"), (FOLDER / f"{name}.json").read_text()):
        network = stabsim.from_keras(given).network
        assert network.widths == expected.widths and network.activation == expected.activation
        assert network.normalization == expected.normalization and network.cell.gates == expected.cell.gates
        assert network.bias_std == expected.bias_std
        for mine, theirs in zip(network.laws, expected.laws, strict=True):
            assert (mine.law, mine.fan) == (theirs.law, theirs.fan)
            assert mine.gain == pytest.approx(theirs.gain, rel=1e-12)
    assert stabsim.from_keras(json.loads(FOLDER.joinpath(f"{name}.json").read_text())).network == network
    stabsim.simulate(network, nets=2, batch=2)


def test_time_steps_that_are_not_told() -> None:
    model = stabsim.from_keras(FOLDER / "gru.json")
    with pytest.raises(ValueError, match=r"how many time steps layers\[1\] \(gru\) has is not told"):
        model.network  # noqa: B018  # raises
    network = model.ensemble(steps=7)
    assert network.widths == (5, *(16,) * 7)
    for mine, theirs in zip((network.laws[0], network.laws[-1]), GATES["gru"], strict=True):
        assert mine.gain == pytest.approx(theirs.gain, rel=1e-12) and mine.law == theirs.law
    assert any("makes all gates together orthogonal" in note for note in model.notes)


def test_chains_and_what_is_none() -> None:
    model = stabsim.from_keras(FOLDER / "functional.json")
    assert model.widths == (8, 16, 16)
    with pytest.raises(ValueError, match="in front of the activation, unlike"):
        model.network  # noqa: B018  # raises
    with pytest.raises(ValueError, match=r"unknown Keras layer at layers\[3\] \(add\): 'Add'"):
        stabsim.from_keras(FOLDER / "skip.json")
    document = json.loads((FOLDER / "functional.json").read_text())
    layers = document["config"]["layers"]
    layers[3]["inbound_nodes"] = layers[2]["inbound_nodes"]
    with pytest.raises(
        ValueError, match=r"layers must be a chain: layers\[3\] .* takes dense_\d+, not the layer before it"
    ):
        stabsim.from_keras(document)
    stack = stabsim.from_keras(FOLDER / "stack.json")
    assert [type(layer) for layer in stack.layers] == [Recurrent, Recurrent]


def keras_2(*layers: dict[str, Any], functional: bool = False) -> dict[str, Any]:
    """Return a description as Keras 2 wrote it: the shape of inputs stands in the first layer."""
    found = []
    for number, each in enumerate(layers):
        name = f"layer_{number}"
        options = {"name": name, "trainable": True, "dtype": "float32", **each["config"]}
        if not number:
            options["batch_input_shape"] = [None, 6]
        nodes = {"name": name, "inbound_nodes": [[[f"layer_{number - 1}", 0, 0, {}]]] if number else []}
        found.append({"class_name": each["class_name"], "config": options, **(nodes if functional else {})})
    kind = "Functional" if functional else "Sequential"
    return {
        "class_name": kind,
        "config": {"name": "m", "layers": found},
        "keras_version": "2.13.1",
        "backend": "tensorflow",
    }


def dense(units: int, initializer: Any = "he_normal", **options: Any) -> dict[str, Any]:
    if isinstance(initializer, str):
        initializer = {"class_name": initializer, "config": {"seed": None}}
    return {
        "class_name": "Dense",
        "config": {"units": units, "kernel_initializer": initializer, "use_bias": True, **options},
    }


@pytest.mark.parametrize("functional", [False, True])
def test_keras_2(functional: bool) -> None:
    leaky = {"class_name": "LeakyReLU", "config": {"alpha": 0.25}}
    layers = [dense(8, "HeUniform", activation="linear"), leaky, dense(8, "HeUniform"), leaky, dense(2)]
    if functional:
        layers = [{"class_name": "InputLayer", "config": {"sparse": False}}, *layers]
    network = stabsim.from_keras(keras_2(*layers, functional=functional)).network
    assert network == Network((6, 8, 8), "leaky_relu(slope=0.25)", "he_uniform")


@pytest.mark.parametrize(
    ("given", "std", "kind"),
    [
        ("glorot_normal", math.sqrt(2 / 30), "truncated_normal"),
        ("lecun_uniform", math.sqrt(1 / 10), "uniform"),
        ({"class_name": "VarianceScaling", "config": {"scale": 3.0, "mode": "fan_out", "distribution": "normal"}},
         math.sqrt(3 / 20), "truncated_normal"),
        ({"class_name": "RandomNormal", "config": {"mean": 0.0, "stddev": 0.2}}, 0.2, "normal"),
        ({"class_name": "TruncatedNormal", "config": {"stddev": 0.2}}, 0.2 * 0.87962566103423978, "truncated_normal"),
        ({"class_name": "RandomUniform", "config": {"minval": -0.3, "maxval": 0.3}}, 0.3 / math.sqrt(3), "uniform"),
        ({"class_name": "Orthogonal", "config": {"gain": 2.0}}, 2 / math.sqrt(20), "orthogonal"),
        ({"class_name": "Constant", "config": {"value": 0.5}}, 0.5, "constant"),
    ],
)  # fmt: skip
def test_initializers(given: Any, std: float, kind: str) -> None:
    found = law("kernel_initializer", given, (10, 20))
    assert found is not None and found.law == kind
    assert found.weight_std(10, 20) == pytest.approx(std, rel=1e-12)
    assert law("bias_initializer", "zeros", (20,)) is None


FORMS = [  # in which Keras writes an activation, and the registry's name of it
    ("relu", "relu"),
    (None, "linear"),
    ({"class_name": "function", "config": "relu", "registered_name": "relu"}, "relu"),
    ({"class_name": "ReLU", "config": {"negative_slope": 0.0, "max_value": 6.0, "threshold": 0.0}}, "relu6"),
    ({"class_name": "LeakyReLU", "config": {"negative_slope": 0.2}}, "leaky_relu(slope=0.2)"),
]


@pytest.mark.parametrize(("given", "name"), FORMS)
def test_activations_are_read_the_same_way_in_all_layers(given: Any, name: str) -> None:
    expected = Network((1, 1), name, "he_normal").activation
    assert stabsim.from_keras(keras_2(*[dense(4, activation=given)] * 2)).network.activation == expected
    layers = [
        each for _ in range(2) for each in (dense(4), {"class_name": "Activation", "config": {"activation": given}})
    ]
    assert stabsim.from_keras(keras_2(*layers)).network.activation == expected
    sigmoid = {"class_name": "function", "config": "sigmoid"}
    for kind, options in (("SimpleRNN", {}), ("LSTM", {}), ("GRU", {"recurrent_activation": sigmoid})):
        cell = {"class_name": kind, "config": {"units": 3, "activation": given, **options}}
        (layer,) = stabsim.from_keras(keras_2(cell)).layers
        assert isinstance(layer, Recurrent) and Network((1, 1), layer.activation, "he_normal").activation == expected


@pytest.mark.parametrize(
    ("kind", "epsilon"), [("BatchNormalization", 1e-3), ("LayerNormalization", 1e-3), ("RMSNormalization", 1e-6)]
)
def test_epsilons_that_are_not_told(kind: str, epsilon: float) -> None:
    layers = [dense(4, activation=None), {"class_name": kind, "config": {}}, {"class_name": "ReLU", "config": {}}]
    normalization = stabsim.from_keras(keras_2(*layers)).network.normalization
    assert normalization is not None and normalization.epsilon == epsilon


@pytest.mark.parametrize("slope", ["x", [1], True, math.inf])
def test_a_slope_that_is_no_number(slope: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=r"negative_slope of layers\[1\].* must be a finite number"):
        stabsim.from_keras(keras_2(dense(3), {"class_name": "ReLU", "config": {"negative_slope": slope}}))


def unlike(**options: Any) -> dict[str, Any]:
    return keras_2({"class_name": "LSTM", "config": {"units": 3, **options}})


SEQUENCES = [
    {"class_name": "InputLayer", "config": {"batch_shape": [None, 2, 5]}},
    {"class_name": "GRU", "config": {"units": 3, "return_sequences": True}},
    {"class_name": "Flatten", "config": {}},
    dense(4),
]
BAD: dict[str, tuple[Any, str]] = {
    "no JSON": ('{"class_name": ', "description must be JSON"),
    "a list": ("[1, 2]", "must be a JSON object"),
    "no layers": ({"class_name": "Sequential", "config": {}}, "has a list of layers"),
    "a number in layers": ({"config": {"layers": [3]}}, r"layers\[0\] must have class_name and config"),
    "empty": ({"config": {"layers": []}}, "no layer with weights"),
    "unsupported": (keras_2(dense(3), {"class_name": "Densee", "config": {}}), "nearest first: Dense"),
    "shape": ({"config": {"layers": [dense(3)]}}, "unknown number of inputs"),
    "units": (keras_2(dense(0)), "units of layers.* must be an integer from 1"),
    "no units": (keras_2({"class_name": "Dense", "config": {}}), r"lacks 'units', which a Dense has"),
    "activation": (keras_2(dense(3, activation="mish")), "unknown activation of .*'mish'; known, nearest first"),
    "early softmax": (keras_2(dense(3, activation="softmax"), dense(3)), "'softmax'"),
    "initializer": (keras_2(dense(3, "HeNorml")), "'HeNorml'; known, nearest first: HeNormal"),
    "mean": (keras_2(dense(3, {"class_name": "RandomNormal", "config": {"mean": 1.0}})), "mean of kernel_initializer"),
    "one side": (
        keras_2(dense(3, {"class_name": "RandomUniform", "config": {"minval": 0.0, "maxval": 1.0}})),
        "-maxval",
    ),
    "mode": (keras_2(dense(3, {"class_name": "VarianceScaling", "config": {"mode": "in"}})), "nearest first: fan_in"),
    "gate": (unlike(recurrent_activation="hard_sigmoid"), "recurrent_activation='sigmoid', not 'hard_sigmoid'"),
    "flat sequences": ({"config": {"layers": SEQUENCES}}, r"layers\[3\] takes 6 units, but layers\[1\] gives 3"),
    "flat without steps": (
        keras_2(SEQUENCES[1], SEQUENCES[2], dense(3)),
        r"sides of the inputs of layers\[1\].* must be an integer",
    ),
    "recurrent behind": (
        keras_2({"class_name": "ReLU", "config": {}}, {"class_name": "GRU", "config": {"units": 3}}),
        r"layers\[1\].* is recurrent behind layers\[0\]",
    ),
    "a long text": ("{ " + "x" * 5000, "must be JSON"),
    "a text that is no path": ("x" * 5000, "description must be JSON, .* or the path of a file"),
    "a long name": (keras_2({"class_name": "Dense", "config": {"name": "x" * 5000, "units": 0}}), r"x\.\.\.\) must be"),
    "no activation": (keras_2(dense(3, activation={})), "unknown activation of .*{}"),
    "backwards": (unlike(go_backwards=True), "go_backwards=False, not True"),
    "clipped": (keras_2(dense(3), {"class_name": "ReLU", "config": {"max_value": 3.0}}), "max_value=None or 6"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_descriptions_are_answered_in_a_line(name: str) -> None:
    given, message = BAD[name]
    with pytest.raises((TypeError, ValueError), match=message) as caught:
        stabsim.from_keras(given)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


def test_what_is_no_description(tmp_path: Path) -> None:
    for value in (None, 3, np.zeros(3), [1]):
        with pytest.raises(TypeError, match="description must be the text of model"):
            stabsim.from_keras(value)  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError):
        stabsim.from_keras(tmp_path / "missing.json")
    archive = tmp_path / "model.keras"
    archive.write_bytes(b"PK\x03\x04\xff\xfe")
    with pytest.raises(ValueError, match=r"is no text: of a \.keras or \.h5 file, save model\.to_json"):
        stabsim.from_keras(archive)
