"""Target: descriptions of Keras models, as texts and as mappings."""

from __future__ import annotations

import copy
import functools
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import stabsim
from tests.fuzzing.choices import Choices, text
from tests.fuzzing.harness import Target

FOLDER = Path(__file__).parent.parent / "data" / "keras"
VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, 2, 5, -1, 0.5, -0.0, math.nan, math.inf, 1e308, 2**31, 10**16, 10**400, "", "relu", "tanh",
    "softmax", "sigmoid", "function", "zeros", "he_normal", "HeNormal", "orthogonal", "fan_in", "Dense", "LSTM", "ReLU",
    "LeakyReLU", "Flatten", "InputLayer", "a\nb", "x" * 5000, [], [1], [None, 3], [None, 4, 3], [None, None, 3],
    [None, 2, 2, 2], ["relu"], [[]], {}, {"class_name": "function", "config": "relu"}, {"class_name": None},
    {"class_name": "ReLU", "config": {"negative_slope": 0.5}}, {"class_name": "Constant", "config": {"value": 2.0}},
    {"class_name": "VarianceScaling", "config": {"scale": -1.0, "mode": "fan_in"}}, {"class_name": [], "config": 3},
)  # fmt: skip
NAMES = (
    "class_name", "config", "units", "activation", "recurrent_activation", "kernel_initializer", "bias_initializer",
    "recurrent_initializer", "epsilon", "axis", "negative_slope", "max_value", "threshold", "alpha", "batch_shape",
    "batch_input_shape", "build_config", "inbound_nodes", "return_sequences", "dropout", "rate", "use_bias", "name",
    "gamma_initializer", "rms_scaling", "reset_after", "stddev", "mean", "minval", "maxval", "mode", "scale", "gain",
)  # fmt: skip
SUBJECTS = r"layers|description|inputs|weights|model\.ensemble|Network|initializer|Errno"


@functools.cache
def texts() -> tuple[str, ...]:
    """Return descriptions that Keras wrote."""
    return tuple(path.read_text() for path in sorted(FOLDER.glob("*.json")))


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield all mappings and lists of a document that hold something, with the keys at which they do."""
    for key in list(value) if isinstance(value, dict) else range(len(value)):
        yield value, key
        if isinstance(value[key], dict | list):
            yield from places(value[key])


def make_description(c: Choices) -> Any:
    if c.chance(30):
        return text(c, texts())
    document = json.loads(c.pick(texts()))
    for _ in range(c.below(4)):
        found = list(places(document))
        holder, key = c.pick(found) if found else (document, "config")
        kind = c.below(4)
        if kind == 0 and found:
            del holder[key]
        elif kind == 1 and isinstance(holder, dict):
            holder[c.pick(NAMES)] = copy.deepcopy(c.pick(VALUES))
        elif kind == 2 and found:
            other, place = c.pick(found)
            holder[key] = copy.deepcopy(other[place])
        else:
            holder[key] = copy.deepcopy(c.pick(VALUES))
    return document


def use_description(given: Any, folder: Path) -> None:
    model = stabsim.from_keras(given)
    repr(model).encode()
    network = model.ensemble(steps=3) if model.recurrent else model.network
    repr(network).encode()


TARGETS = {"keras": Target(make_description, use_description, (TypeError, ValueError, OSError), SUBJECTS)}
