"""Targets: names with parameters, networks and tasks."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from stabsim import structures
from stabsim.activations import ACTIVATIONS, activation
from stabsim.arguments import CHOICES, PRECISIONS, make_task
from stabsim.clipping import KINDS, Clipping, clipping
from stabsim.initializers import ALIASES, FANS, INITIALIZERS, LAWS, Initializer, initializer
from stabsim.names import format_name, parse
from stabsim.network import Network
from stabsim.quantities import QUANTITIES, Quantity
from stabsim.structures import GATES, NORMALIZATIONS, PLACES, Cell, Gate, Normalization, Skip
from stabsim.training.optimizers import OPTIMIZERS, optimizer
from stabsim.training.presets import PRESETS
from stabsim.training.schedules import SCHEDULES, schedule
from stabsim.work import Shard
from tests.fuzzing.choices import Choices, odd, text
from tests.fuzzing.harness import Target

Arguments = dict[str, Any]

# --- names with parameters -----------------------------------------------------------------------------

ACTIVATION_NAMES = (*ACTIVATIONS, "leaky_relu(slope=0.2)", "linear(alpha=0.5, beta=0.1)", "elu(alpha=1)")
WEIGHT_NAMES = (*INITIALIZERS, *ALIASES, "normal(std=0.01)", 'he_normal(fan="out", gain=1)', "constant(value=-2)")
SKIP_NAMES = ("skip", "skip(branch=0.1, layers=2, activation=between)", "skip(inner=0.5, last=0, shortcut=1)")
CELL_NAMES = (*GATES, "lstm(forget_bias=1)", "gru(update_bias=-1, reset_bias=0.5)")
NORMALIZATION_NAMES = (*NORMALIZATIONS, "batch(epsilon=0)", "rms(epsilon=1e-3)")
CLIPPING_NAMES = (*KINDS, "value(bound=0.5)", "adaptive(bound=0.01, epsilon=1e-3)")

RESOLVERS: dict[str, tuple[Callable[[str], Any], tuple[str, ...]]] = {
    "activation": (activation, ACTIVATION_NAMES),
    "weights": (initializer, WEIGHT_NAMES),
    "normalization": (structures.normalization, NORMALIZATION_NAMES),
    "skip": (structures.skip, SKIP_NAMES),
    "cell": (structures.cell, CELL_NAMES),
    "clipping": (clipping, CLIPPING_NAMES),
    "optimizer": (optimizer, (*OPTIMIZERS, *PRESETS, "adam(beta1=0.5, epsilon_beside=uncorrected)")),
    "schedule": (schedule, (*SCHEDULES, "step(every=2, warmup=4)", "cosine(end=0.5)")),
    "shard": (Shard.of, ("1/2", "2/3", "1000000/1000000", "0/1")),
}
ALL_NAMES = tuple(name for _, known in RESOLVERS.values() for name in known)
NAME_SUBJECTS = (
    r"^cannot read |^parameter '\w+' is given twice|^a name must be|^shard=|^unknown \w+|^\w+ takes no |"
    r"^(parameter|activation|weights|recurrent_weights|normalization|epsilon|branch|shortcut|inner|last|layers|skip|cell|"
    r"bias of a gate|bound|clipping|optimizer|learning_rate|momentum|decay|beta[12]|weight_decay|schedule|warmup|every|"
    r"factor|end|gain|std|value|fan|epsilon=|\w+ of) ?"
)


def make_name(c: Choices) -> tuple[str, Any]:
    kind = c.pick(tuple(RESOLVERS))
    own = RESOLVERS[kind][1]
    return kind, odd(c) if c.chance(3) else text(c, own if c.chance(80) else ALL_NAMES)


def use_name(given: tuple[str, Any], _: Path) -> None:
    kind, name = given
    if isinstance(name, str) and kind != "shard":
        word, parameters = parse(name)
        assert parse(format_name(word, parameters)) == (word, parameters)
    resolve = RESOLVERS[kind][0]
    found = resolve(name)
    if found is not None and kind not in ("shard", "weights"):
        assert resolve(str(found)) == found


# --- objects that names stand for ----------------------------------------------------------------------

NUMBERS = (1.0, 0.5, 0.0, -1.0, 1e-3, 1e300, 5e-324)
WHOLE = (1, 2, 3, 0, -1, 10**6, 10**9)
OBJECTS: dict[Callable[..., Any], dict[str, tuple[Any, ...]]] = {
    Initializer: {
        "law": LAWS, "gain": NUMBERS, "fan": FANS, "bias_law": ("normal", "uniform"), "bias_gain": (None, 0.5)
    },
    Normalization: {"kind": NORMALIZATIONS, "epsilon": NUMBERS},
    Skip: {
        "branch": NUMBERS, "shortcut": NUMBERS, "layers": WHOLE, "activation": PLACES, "inner": NUMBERS, "last": NUMBERS
    },
    Skip.scaled: {"blocks": WHOLE, "layers": WHOLE},
    Skip.fixup: {"blocks": WHOLE, "layers": WHOLE, "activation": PLACES},
    Gate: {"weights": (None, *WEIGHT_NAMES), "recurrent_weights": (None, *WEIGHT_NAMES), "bias": NUMBERS},
    Cell: {
        "kind": tuple(GATES), "recurrent_weights": (None, *WEIGHT_NAMES),
        "gates": ({}, {"forget": Gate(bias=1.0)}, {"update": Gate("he_normal")}, {"forget": 1}, {2: Gate()},
                  {"": Gate()}),
    },
    Clipping: {"kind": KINDS, "bound": NUMBERS, "epsilon": (1e-3, *NUMBERS)},
    Quantity: {
        "tensor": ("activation", "preactivation", "derivative"), "statistic": ("above", "mean"),
        "kind": ("fraction", "value"), "function": (abs, None, math.tanh), "whole": (False, True),
    },
}  # fmt: skip
REQUIRED = {Initializer: 1, Normalization: 1, Skip.scaled: 1, Skip.fixup: 1, Clipping: 1, Quantity: 4}
OBJECT_SUBJECTS = (
    NAME_SUBJECTS
    + r"|^(law|bias_law|bias_gain|fan|kind|blocks|gates?|tensor|statistic|quantity|whole|function|epsilon) ?"
)


def arguments_of(c: Choices, known: dict[str, tuple[Any, ...]], required: int, percent: int = 40) -> Arguments:
    """Return some of a call's arguments, most of them plausible, each at times of any type."""
    found: Arguments = {}
    for place, (name, values) in enumerate(known.items()):
        if place < required or c.chance(percent):
            value = odd(c) if c.chance(12) else c.pick(values)
            found[name] = text(c, [value]) if isinstance(value, str) and c.chance(20) else value
    return found


def make_object(c: Choices) -> tuple[Callable[..., Any], Arguments]:
    made = c.pick(tuple(OBJECTS))
    return made, arguments_of(c, OBJECTS[made], REQUIRED.get(made, 0))


def use_object(given: tuple[Callable[..., Any], Arguments], _: Path) -> None:
    made, arguments = given
    found = made(**arguments)
    assert found == made(**arguments) and str(found) and repr(found)
    hash(found)


# --- networks ------------------------------------------------------------------------------------------

WIDTHS = (
    (3, 3),
    (4,) * 5,
    [2, 3, 4],
    np.array([5, 5, 5]),
    (1, 1),
    range(1, 6),
    (3, 3, 3, 3, 3, 3, 3, 2),
    (10**9, 1),
    range(1, 10**12),
)
NETWORK: dict[str, tuple[Any, ...]] = {
    "widths": WIDTHS, "activation": ACTIVATION_NAMES, "weights": (*WEIGHT_NAMES, Initializer("normal", 3.0)),
    "bias_std": NUMBERS, "normalization": (None, *NORMALIZATION_NAMES, Normalization("layer")),
    "skip": (None, *SKIP_NAMES, Skip(layers=2)), "cell": (*CELL_NAMES, Cell("rnn", "orthogonal")),
}  # fmt: skip
NETWORK_SUBJECTS = OBJECT_SUBJECTS + r"|^(widths|bias_std|skip=|cell=|normalization=)"


def make_network(c: Choices) -> Arguments:
    found = arguments_of(c, NETWORK, 3)
    if c.chance(10):
        found["widths"] = tuple(odd(c) if c.chance(30) else 1 + c.below(9) for _ in range(c.below(6)))
    return found


def use_network(given: Arguments, _: Path) -> None:
    network = Network(**given)
    assert network == Network(**given) and repr(network)
    restored = Network.from_json(network.to_json())
    assert restored == network and restored.content_hash == network.content_hash
    assert len(network.weight_stds) == len(network.fans)


NETWORKS = (
    Network((3, 3), "relu", "he_normal"),
    Network((4,) * 5, "tanh", "torch_default", normalization="batch", skip="skip(layers=2)"),
    Network((2, 3, 3), "elu", "lecun_normal", 0.5, cell=Cell("lstm", "orthogonal", {"forget": Gate(bias=1.0)})),
)
DOCUMENTS = tuple(network.to_json() for network in NETWORKS)


def make_document(c: Choices) -> str:
    """Return JSON of a network, changed as text or as a document."""
    if c.chance(50):
        return text(c, DOCUMENTS)
    document = json.loads(c.pick(DOCUMENTS))
    for _ in range(1 + c.below(3)):
        holder = document
        for _ in range(c.below(3)):
            inner = [value for value in holder.values() if isinstance(value, dict) and value]
            holder = c.pick(inner) if inner else holder
        key = c.pick([*holder, "new"])
        holder[key] = c.pick((None, "", "0x1p+0", "nan", "0x1p+9999", 1, 1.5, [], {}, [3, 3], True, "relu", "x" * 5000))
        if c.chance(20):
            del holder[key]
    return json.dumps(document)


def use_document(given: Any, _: Path) -> None:
    network = Network.from_json(given)
    assert Network.from_json(network.to_json()) == network


# --- tasks ---------------------------------------------------------------------------------------------

BASES = (
    *NETWORKS,
    Network((3,) * 4, "tanh", "orthogonal", cell="rnn"),
    Network((3,) * 4, "gelu", "glorot_normal", skip="skip"),
    Network((3,) * 4, "linear", "normal(std=1e-40)", cell="gru"),
    Network((10**5, 10**5), "relu", "he_normal"),
    Network((10**10, 3), "relu", "normal"),
    Network((3,) * 300, "relu", "constant(value=1e300)"),
)
OWN = Quantity("activation", "share_above", "fraction", function=lambda x: x > 1)
WHOLE_OWN = Quantity("derivative", "top", "value", function=lambda x: x.max(), whole=True)
ARRAYS = (
    np.ones((4, 3)), np.ones((4, 2, 2)), np.zeros((1, 3)), np.full((2, 3), np.nan), np.full((2, 4), np.inf), np.ones(3),
    np.ones((2, 3), complex), np.ones((5, 4), np.float32), np.full((3, 3), 1e300), np.full((3, 2, 2), 1e-40),
    np.ones((0, 3)), np.ones((2, 3), object), [[1, 2, 3]], [[1, 2], [3]], np.full((2, 3), 1e4000, np.longdouble),
)  # fmt: skip
NAMES = tuple(QUANTITIES)
TASK: dict[str, tuple[Any, ...]] = {
    "batch": (1, 2, 3, 4, 10**9, 2**32), "seed": (0, 1, 2**64 - 1, 2**64), "inputs": (None, *ARRAYS, "digit", "mnist"),
    "output_gradient": (None, *ARRAYS), "sampler": CHOICES, "precision": PRECISIONS, "saturation": NUMBERS,
    "quantities": (None, (), NAMES[:1], NAMES[:2], NAMES[-2:], (OWN,), (WHOLE_OWN, NAMES[3]), "activation_mean"),
    "samples": ((), NAMES[:1], (OWN,), NAMES[60:61]),
    "histograms": (
        None, {}, {"activation": (-1.0, 1.0, 4)}, {"derivative": (0, 1, 4), "activation": (0, 1, 5)}, {"x": (0, 1, 1)},
        {"activation": (1, 0, 3)}, {"activation": (0, 1)}, {3: 4}, {"singular_value": (0, 10**400, 3)},
        {"preactivation": (-1e308, 1e308, 10**6)}, {"activation": "abc"}, {"activation": (0, 5e-324, 10)},
    ),
    "clipping": (None, *CLIPPING_NAMES, Clipping("norm", 2.0)), "loss_scale": (1.0, 1024.0, 3.0, 2.0**-1074, 1e308),
    "device": ("cpu", "cuda", "gpu", None),
}  # fmt: skip
TASK_SUBJECTS = (
    NETWORK_SUBJECTS + r"|^(network|batch|seed|inputs|output_gradient|sampler|precision|saturation|quantit|samples|"
    r"histograms|bins of|clipping|loss_scale|device|biases of|weights of|a layer may|the \w+ gate's|data set|"
    r"singular_value|epsilon|bound)"
)


def make_task_arguments(c: Choices) -> tuple[Any, Arguments]:
    found = arguments_of(c, TASK, 0, 15)
    if c.chance(10):
        found["quantities"] = tuple(odd(c) if c.chance(20) else text(c, NAMES) for _ in range(1 + c.below(3)))
    if c.chance(5):
        found["histograms"] = {"activation": tuple(odd(c) for _ in range(3))}
    return odd(c) if c.chance(2) else c.pick(BASES), found


def use_task(given: tuple[Any, Arguments], _: Path) -> None:
    network, arguments = given
    task = make_task(network, **arguments)
    assert task == task and task.table_quantities and task.wanted.any() and repr(task)
    json.loads(task.identity)


ERRORS = (TypeError, ValueError)
TARGETS = {
    "names": Target(make_name, use_name, ERRORS, NAME_SUBJECTS, share=60),
    "objects": Target(make_object, use_object, ERRORS, OBJECT_SUBJECTS, share=40),
    "network": Target(make_network, use_network, ERRORS, NETWORK_SUBJECTS),
    "network_json": Target(
        make_document, use_document, (ValueError,), "^cannot restore a Network from JSON: ", share=40
    ),
    "task": Target(make_task_arguments, use_task, ERRORS, TASK_SUBJECTS),
}
