"""Keras' activations as names of the registry: of a name, of nothing, or of a function or layer in serialized form."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from stabsim import checks
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
HEADS = ("softmax", "log_softmax", "Softmax")  # what a loss does to outputs


def keras_name(given: Any) -> Any:
    """Return what Keras calls an activation, or what is given, if that is none.

    Examples
    --------
    >>> keras_name("relu"), keras_name(None), keras_name({"class_name": "function", "config": "tanh"})
    ('relu', 'linear', 'tanh')
    """
    if isinstance(given, Mapping):
        options = given.get("config")
        return options if isinstance(options, str) else given.get("class_name") or given
    return "linear" if given is None else given


def activation_of(place: str, given: Any) -> str:
    """Return the registry's name of the activation at a place.

    Raises
    ------
    TypeError, ValueError
        If it is not known, or an option of it not allowed.

    Examples
    --------
    >>> activation_of("layers[1]", {"class_name": "LeakyReLU", "config": {"negative_slope": 0.25}})
    'leaky_relu(slope=0.25)'
    """
    name = keras_name(given)
    options = given.get("config") if isinstance(given, Mapping) else None
    if isinstance(options, Mapping) and isinstance(name, str) and name in LAYERS:
        return LAYERS[name](place, options)
    check_known(f"activation of {place}:", name, FUNCTIONS)
    return FUNCTIONS[name]


def _relu(place: str, options: Mapping[str, Any]) -> str:
    slope, most = options.get("negative_slope"), options.get("max_value")
    slope = 0.0 if slope is None else checks.number(f"negative_slope of {place}", slope)
    if options.get("threshold") or most not in (None, 6) or (most and slope):
        raise ValueError(
            f"{place} (ReLU) must have threshold=0 and max_value=None or 6, not {checks.brief(dict(options))}"
        )
    return format_name("leaky_relu", {"slope": slope}) if slope else "relu6" if most else "relu"


def _leaky_relu(place: str, options: Mapping[str, Any]) -> str:
    slope = checks.number(f"slope of {place}", options.get("negative_slope", options.get("alpha", 0.3)))
    return format_name("leaky_relu", {"slope": slope})


def _elu(place: str, options: Mapping[str, Any]) -> str:
    return format_name("elu", {"alpha": checks.number(f"alpha of {place}", options.get("alpha", 1.0))})


LAYERS: dict[str, Callable[[str, Mapping[str, Any]], str]] = {"ReLU": _relu, "LeakyReLU": _leaky_relu, "ELU": _elu}
