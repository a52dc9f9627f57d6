"""PyTorch's activations by their modules, where the registry has truly the same formula."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from stabsim.checks import brief
from stabsim.models.layers import Layer, Nonlinearity
from stabsim.models.tensors import array
from stabsim.names import format_name

LEAST_THRESHOLD = 17.0  # from which on softplus(x) is x in float32


def _elementwise(name: str, **parameters: str) -> Callable[[str, Any, list[str]], list[Layer]]:
    """Return the reader of an activation whose parameters are attributes of the module."""

    def read(place: str, module: Any, notes: list[str]) -> list[Layer]:
        given = {key: float(getattr(module, attribute)) for key, attribute in parameters.items()}
        return [Nonlinearity(place, format_name(name, given))]

    return read


def _gelu(place: str, module: Any, notes: list[str]) -> list[Layer]:
    return [Nonlinearity(place, "gelu_tanh" if module.approximate == "tanh" else "gelu")]


def _hardtanh(place: str, module: Any, notes: list[str]) -> list[Layer]:
    known = {(-1.0, 1.0): "hard_tanh", (0.0, 6.0): "relu6"}
    ends = (float(module.min_val), float(module.max_val))
    if ends not in known:
        raise ValueError(f"{place} (Hardtanh) must go from -1 to 1 or from 0 to 6, not from {ends[0]:g} to {ends[1]:g}")
    return [Nonlinearity(place, known[ends])]


def _softplus(place: str, module: Any, notes: list[str]) -> list[Layer]:
    if module.beta != 1 or module.threshold < LEAST_THRESHOLD:
        raise ValueError(
            f"{place} (Softplus) must have beta=1 and a threshold >= {LEAST_THRESHOLD:g}, where it makes no "
            f"difference, not {module.beta:g} and {module.threshold:g}"
        )
    return [Nonlinearity(place, "softplus")]


def _celu(place: str, module: Any, notes: list[str]) -> list[Layer]:
    if module.alpha != 1:
        raise ValueError(f"{place} (CELU) must have alpha=1, where it is ELU, not {module.alpha:g}")
    return [Nonlinearity(place, "elu(alpha=1)")]


def _prelu(place: str, module: Any, notes: list[str]) -> list[Layer]:
    slope = array(place, "weight", module.weight)
    if np.any(slope != slope.flat[0]):
        raise ValueError(f"{place} (PReLU) must have one slope for all units, not {brief(slope.tolist())}")
    notes.append(f"{place} (PReLU) is read with the slope that it has now")
    return [Nonlinearity(place, format_name("leaky_relu", {"slope": float(slope.flat[0])}))]


ACTIVATIONS: dict[str, Callable[[str, Any, list[str]], list[Layer]]] = {
    "Tanh": _elementwise("tanh"),
    "ReLU": _elementwise("relu"),
    "ReLU6": _elementwise("relu6"),
    "LeakyReLU": _elementwise("leaky_relu", slope="negative_slope"),
    "PReLU": _prelu,
    "ELU": _elementwise("elu", alpha="alpha"),
    "CELU": _celu,
    "SELU": _elementwise("selu"),
    "GELU": _gelu,
    "SiLU": _elementwise("silu"),
    "Softplus": _softplus,
    "Sigmoid": _elementwise("sigmoid"),
    "Hardtanh": _hardtanh,
    "Softsign": _elementwise("softsign"),
}
