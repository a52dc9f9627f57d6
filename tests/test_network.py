import json
import math
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given

from stabsim.activations import ACTIVATIONS, Activation
from stabsim.initializers import INITIALIZERS, Initializer
from stabsim.network import Network
from stabsim.structures import Cell, Gate, Skip
from tests import strategies

GOOD: dict[str, Any] = {"widths": (4, 3, 2), "activation": "tanh", "weights": "glorot_normal"}
FIVE: Any = 5
LISTED: Any = ["lstm"]


@given(network=strategies.networks())
def test_json_restores_the_network_exactly(network: Network) -> None:
    restored = Network.from_json(network.to_json())
    assert restored == network
    assert restored.content_hash == network.content_hash
    assert hash(restored) == hash(network)
    assert restored.to_json() == network.to_json()


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("weights", INITIALIZERS)
def test_every_pair_of_names_makes_a_network(activation: str, weights: str) -> None:
    network = Network((4, 3, 2), activation, weights)
    assert Network.from_json(network.to_json()) == network
    assert eval(repr(network)) == network


def test_json_is_canonical_and_exact() -> None:
    network = Network([3, 2], "leaky_relu(slope=0.1)", "normal(std=0.1)", bias_std=0.1)
    text = network.to_json()
    document = json.loads(text)
    assert text == json.dumps(document, sort_keys=True, separators=(",", ":"))
    assert document["bias_std"] == (0.1).hex()
    assert document["weights"] == {
        "law": "normal",
        "gain": (0.1).hex(),
        "fan": "none",
        "bias_law": "normal",
        "bias_gain": None,
    }


def test_the_content_hash_is_the_same_in_every_process_and_version() -> None:
    network = Network((4, 3, 2), "relu", "he_normal", bias_std=0.5)
    assert network.content_hash == "d6accf5f4e110df6cb71e9a863724cebbf22021efd5d9093a0f24c1ff56282e8"


@pytest.mark.parametrize(
    "widths", [[4, 3, 2], (4, 3, 2), np.array([4, 3, 2]), [np.int32(4), 3, np.uint8(2)], range(4, 1, -1)]
)
def test_widths_of_every_kind_of_integer_are_the_same_network(widths: Any) -> None:
    network = Network(**GOOD | {"widths": widths})
    assert network == Network(**GOOD)
    assert [type(width) for width in network.widths] == [int, int, int]


def test_spellings_of_one_network_have_one_hash() -> None:
    network = Network((4, 2), "leaky_relu(slope=0.2)", "xavier_normal", bias_std=0)
    same = Network([4, 2], " leaky_relu( slope=2e-1 )", Initializer("normal", 1.0, "average"), bias_std=-0.0)
    assert same == network
    assert same.content_hash == network.content_hash


@pytest.mark.parametrize(
    "change",
    [
        {"widths": (4, 3, 3)},
        {"widths": (4, 3, 2, 2)},
        {"activation": "relu"},
        {"weights": "glorot_uniform"},
        {"weights": "glorot_normal(gain=1.0000000000000002)"},
        {"bias_std": 5e-324},
    ],
)
def test_every_argument_changes_the_hash(change: dict[str, Any]) -> None:
    assert replace(Network(**GOOD), **change).content_hash != Network(**GOOD).content_hash


def test_a_network_is_a_frozen_value() -> None:
    network = Network(**GOOD)
    assert len({network, Network(**GOOD)}) == 1
    assert pickle.loads(pickle.dumps(network)) == network
    with pytest.raises(FrozenInstanceError):
        network.bias_std = 1.0  # type: ignore[misc]


def test_depth_and_fans_count_layers() -> None:
    network = Network((784, 100, 10), "relu", "he_normal")
    assert network.depth == 2
    assert network.fans == ((784, 100), (100, 10))


@pytest.mark.parametrize(
    ("widths", "written"),
    [
        ((512,) * 51, "(512,) * 51"),
        ((784, *(512,) * 50, 10), "(784, *(512,) * 50, 10)"),
        ((3, 3), "(3, 3)"),
        ((5, 4, 4, 2), "(5, 4, 4, 2)"),
    ],
)
def test_repr_writes_equal_widths_once(widths: tuple[int, ...], written: str) -> None:
    text = repr(Network(widths, "tanh", "normal(std=0.5)"))
    assert text.startswith(f"Network(widths={written}, activation='tanh', ")
    assert eval(written) == widths


@pytest.mark.parametrize(
    ("argument", "value", "fragment"),
    [
        ("widths", (4,), "widths must hold at least two widths, input and output, not (4,)"),
        ("widths", (), "at least two widths, input and output, not ()"),
        ("widths", (4, 0), "widths must be integers >= 1, not 0"),
        ("widths", (4, -3), "widths must be integers >= 1, not -3"),
        ("widths", (4, 3.5), "widths must be integers >= 1, not 3.5"),
        ("widths", (4, 3.0), "not 3.0"),
        ("widths", (4, True), "not True"),
        ("widths", (4, np.True_), "not np.True_"),
        ("widths", (4, "3"), "not '3'"),
        ("widths", (4, None), "not None"),
        ("widths", (4, math.nan), "not nan"),
        ("widths", np.array([4.0, 3.0]), "not np.float64(4.0)"),
        ("widths", "44", "widths must be a sequence of integers, input width first, not '44'"),
        ("widths", 4, "widths must be a sequence of integers, input width first, not 4"),
        ("widths", {4, 3}, "widths must be a sequence of integers"),
        ("activation", "tanhh", "'tanhh'"),
        ("activation", "tanhh", "nearest first: tanh"),
        ("activation", "leaky_relu(slope=nan)", "nan"),
        ("activation", "leaky_relu(slop=0.1)", "'slop'"),
        ("activation", "leaky_relu(0.1)", "name every parameter"),
        ("activation", 3, "3"),
        ("activation", None, "None"),
        ("weights", "glorot_norml", "unknown initializer 'glorot_norml'; known, nearest first: glorot_normal"),
        ("weights", "glorot_normal(gain=nan)", "cannot read the value 'nan'"),
        ("weights", "orthogonal(gain=0)", "gain of the orthogonal law must be a finite number > 0, not 0.0"),
        ("weights", "orthogonal(gain=-1)", "gain of the orthogonal law must be a finite number > 0, not -1.0"),
        ("weights", 0.1, "weights must be a name or a stabsim.Initializer, not 0.1"),
        ("bias_std", -0.1, "bias_std must be a finite number >= 0, not -0.1"),
        ("bias_std", math.nan, "bias_std must be a finite number >= 0, not nan"),
        ("bias_std", math.inf, "bias_std must be a finite number >= 0, not inf"),
        ("bias_std", "0.1", "bias_std must be a finite number, not '0.1'"),
        ("bias_std", False, "bias_std must be a finite number, not False"),
        ("normalization", "bach", "unknown normalization 'bach'; known, nearest first: batch"),
        ("normalization", 1, "normalization must be None, a name or a stabsim.Normalization, not 1"),
        ("normalization", "batch(eps=1)", "'eps'"),
        ("normalization", "batch(epsilon=-1)", "epsilon must be a finite number >= 0, not -1.0"),
        ("skip", 1.0, "skip must be None, a spelling such as 'skip(branch=0.1)' or a stabsim.Skip, not 1.0"),
        ("skip", "skip(layers=3)", "needs 3 layers that end with as many units as they begin with"),
        ("skip", "skip(layers=1.5)", "layers must be an integer"),
        ("cell", "lstmm", "unknown cell 'lstmm'; known, nearest first: lstm"),
        ("cell", "gru", "cell='gru' needs widths (input, state, state, ...), a state for each time step"),
        ("cell", "lstm(reset_bias=1)", "'reset_bias'"),
        ("cell", 3, "cell must be a name or a stabsim.Cell, not 3"),
    ],
)
def test_a_bad_argument_is_refused(argument: str, value: Any, fragment: str) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        Network(**GOOD | {argument: value})
    assert fragment in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("weights", ["torch_default", "keras_default"])
def test_a_bias_is_not_set_twice(weights: str) -> None:
    with pytest.raises(ValueError, match=f"bias_std must be 0 with weights='{weights}'.* not 0.1"):
        Network((4, 2), "tanh", weights, bias_std=0.1)


@pytest.mark.parametrize(
    ("argument", "value", "fragment"),
    [
        ("branch", math.nan, "branch must be a finite number, not nan"),
        ("shortcut", "1", "shortcut must be a finite number, not '1'"),
    ],
)
def test_a_bad_skip_is_refused(argument: str, value: Any, fragment: str) -> None:
    with pytest.raises((TypeError, ValueError), match=fragment):
        Skip(**{argument: value})


@pytest.mark.parametrize(
    "change",
    [
        {"widths": None},
        {"widths": [4, 0]},
        {"bias_std": 0.0},
        {"bias_std": "nan"},
        {"weights": {"law": "normal", "gain": 1.0}},
        {"weights": {"law": "normal", "sigma": (1.0).hex()}},
        {"weights": "glorot_normal"},
        {"skip": {"branch": "0x1p0"}},
        {"depth": 3},
        {"cell": "gru"},
    ],
)
def test_json_of_another_kind_is_refused(change: dict[str, Any]) -> None:
    document = json.loads(Network(**GOOD).to_json())
    with pytest.raises(ValueError, match=r"^cannot restore a Network from JSON: "):
        Network.from_json(json.dumps(document | change))


@pytest.mark.parametrize("text", ["", "[]", "3", "{}", "null", '{"widths": [4, 2]}'])
def test_other_json_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^cannot restore a Network from JSON: "):
        Network.from_json(text)


@pytest.mark.parametrize(
    ("change", "fragment"),
    [
        ({"cell": 5}, "cell must be an object with the keys ['gates', 'kind', 'recurrent_weights'], not 5"),
        ({"cell": {"kind": "gru", "recurrent_weights": None, "gates": 5}}, "gates must be an object, not 5"),
        (
            {"cell": {"kind": "gru", "recurrent_weights": None, "gates": {"reset": [1]}}},
            "gate 'reset' must be a list of two laws and a bias, not [1]",
        ),
        (
            {"cell": {"kind": "gru", "recurrent_weights": None, "gates": {"reset": [None, None, 1]}}},
            "bias of gate 'reset' must be a float as a hexadecimal string, not 1",
        ),
        (
            {"cell": {"kind": "gru", "recurrent_weights": 5, "gates": {}}},
            "recurrent_weights must be an object with the keys ['bias_gain', 'bias_law', 'fan', 'gain', 'law'], not 5",
        ),
        ({"weights": {}}, "the keys of weights are [], not ['bias_gain', "),
        ({"skip": 5}, "skip must be an object with the keys ['activation', "),
        ({"bias_std": "1.5z"}, "bias_std must be a float as a hexadecimal string, not '1.5z'"),
    ],
)
def test_json_says_what_is_wrong_with_it(change: dict[str, Any], fragment: str) -> None:
    document = json.loads(Network(**GOOD).to_json())
    with pytest.raises(ValueError, match=f"^cannot restore a Network from JSON: {re.escape(fragment)}"):
        Network.from_json(json.dumps(document | change))


def test_json_of_nothing_is_refused_in_its_own_words() -> None:
    with pytest.raises(ValueError, match=r"the network must be an object with the keys \[.*\], not None$"):
        Network.from_json("null")


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: Gate(weights="torch_default"),
            ValueError,
            "weights of a Gate 'torch_default' sets biases, which would be ignored: give bias_std or Gate.bias instead",
        ),
        (lambda: Gate(None, "keras_default"), ValueError, "recurrent_weights of a Gate 'keras_default' sets biases"),
        (
            lambda: Cell("rnn", "torch_default"),
            ValueError,
            "recurrent_weights 'torch_default' sets biases, which would",
        ),
        (lambda: Gate(FIVE), TypeError, "weights of a Gate must be a name or a stabsim.Initializer, not 5"),
        (lambda: Cell("lstm", FIVE), TypeError, "recurrent_weights must be a name or a stabsim.Initializer, not 5"),
        (lambda: Cell(FIVE), TypeError, "kind of a Cell must be a name such as 'lstm', not 5"),
        (lambda: Cell(LISTED), TypeError, "kind of a Cell must be a name such as 'lstm', not ['lstm']"),
        (lambda: Cell("rnn", gates={"forget": Gate()}), ValueError, "cell 'rnn' has no gates, not 'forget'"),
        (lambda: Skip.scaled(100, branch=2), ValueError, "unknown parameter of Skip.scaled 'branch'; known"),
        (lambda: Skip.fixup(100, foo=3), ValueError, "unknown parameter of Skip.fixup 'foo'; known"),
        (lambda: Network(**GOOD, normalization="x"), ValueError, "unknown normalization 'x'; known, nearest first: "),
        (lambda: Network(**GOOD, skip="x"), ValueError, "unknown skip 'x'; known, nearest first: skip"),
    ],
)
def test_bad_structures_are_refused_in_one_line(
    make: Callable[[], object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=f"^{re.escape(message)}") as caught:
        make()
    assert "\n" not in str(caught.value) and "None" not in str(caught.value)


def test_gates_of_a_cell_cannot_be_changed_and_are_pickled() -> None:
    gates = {"forget": Gate(bias=1.0)}
    cell = Cell("lstm", gates=gates)
    gates["forget"] = Gate(bias=2.0)
    assert cell.gates == {"forget": Gate(bias=1.0)} and pickle.loads(pickle.dumps(cell)) == cell == eval(repr(cell))
    with pytest.raises(TypeError, match="does not support item assignment"):
        cell.gates["forget"] = Gate(bias=2.0)  # type: ignore[index]  # what is refused


def test_a_users_own_activation_is_hashed_but_not_restored() -> None:
    swoosh = Activation("swoosh", f=lambda x: x * x, derivative=lambda x: 2 * x)
    other = Activation("swoosh", f=lambda x: x * x * x, derivative=lambda x: 3 * x * x)
    networks = [Network((4, 2), own, "he_normal") for own in (swoosh, other)]
    assert networks[0].content_hash != networks[1].content_hash
    with pytest.raises(ValueError, match="a user's own activation is code"):
        Network.from_json(networks[0].to_json())


OWN_ACTIVATION = """
import math
from stabsim import Activation, Network

RATE = 2.0


def f(x, shift):
    return math.tanh(RATE * x + shift)


def derivative(x, shift):
    return RATE * (1 - f(x, shift) ** 2)


print(Network((4, 2), Activation("mine", f, derivative, parameters={"shift": 0.5}), "he_normal").content_hash)
"""


def test_a_users_own_activation_has_one_hash_in_every_process(tmp_path: Path) -> None:
    hashes = set()
    for seed in "12":
        script = tmp_path / seed / "own.py"  # wherever the code lies
        script.parent.mkdir()
        script.write_text(OWN_ACTIVATION)
        environment = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(__file__).parent.parent)}
        command = [sys.executable, str(script)]
        hashes.add(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)
    assert len(hashes) == 1


@pytest.mark.parametrize(
    ("widths", "error", "message"),
    [
        (np.array(3), TypeError, r"a sequence of integers, input width first, not array\(3\)"),
        (np.ones((2, 2), int), TypeError, "a sequence of integers"),
        ({3: 1, 4: 2}, TypeError, "a sequence of integers"),
        (range(1, 10**12), ValueError, "widths must hold at most 1000001 widths, not 999999999999"),
        ((10**5000, 3), ValueError, "widths must be at most 1000000000000000, not an int of 16610 bits"),
        ((3, -(10**5000)), ValueError, "widths must be integers >= 1, not an int of"),
    ],
)
def test_widths_of_any_kind_are_refused_in_one_line(widths: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        Network(widths, "relu", "he_normal")
    assert "\n" not in str(caught.value)


def test_json_of_any_depth_or_length_is_refused_in_one_line() -> None:
    network = json.loads(Network((3, 3), "relu", "he_normal").to_json())
    texts = ["[" * 100_000, json.dumps(network | {"x" * 5000: 1}), json.dumps(network | {"cell": {"kind": "x" * 5000}})]
    for text in texts:
        with pytest.raises(ValueError, match=r"^cannot restore a Network from JSON: ") as caught:
            Network.from_json(text)
        assert len(str(caught.value)) < 500
