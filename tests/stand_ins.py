"""Modules that look to an inspection like those of torch, where torch is not installed."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np


class Tensor:
    """What is asked of a tensor."""

    is_meta = False

    def __init__(self, values: Any) -> None:
        self.values = np.asarray(values)
        self.dtype = f"torch.{self.values.dtype}"

    def detach(self) -> Tensor:
        return self

    def cpu(self) -> Tensor:
        return self

    def numpy(self) -> Any:
        return self.values


@functools.cache
def kind(name: str) -> type:
    """Return a class that says to be torch.nn's of that name."""
    if name == "Module":
        return type(name, (), {"__module__": "torch.nn.modules.module", "forward": lambda self: None})
    members = {"__module__": "torch.nn.modules.something", "forward": lambda self: None}
    return type(name, (kind("Module"),), members)


def module(name: str, *children: Any, **attributes: Any) -> Any:
    """Return a module of such a class: arrays among its attributes are parameters."""
    made = kind(name)()
    tensors = {key: Tensor(value) for key, value in attributes.items() if isinstance(value, np.ndarray)}
    vars(made).update({"training": True} | attributes | tensors)
    made._parameters, made._buffers, made._forward_pre_hooks = tensors, {}, {}
    made._modules = {str(number): child for number, child in enumerate(children)}
    return made


def linear(weight: Any, bias: Any = None) -> Any:
    """Return a Linear of a weight (fan_in, fan_out), as this package has it."""
    return module("Linear", weight=np.ascontiguousarray(np.transpose(weight)), bias=bias)


def built(document: dict[str, Any], arrays: Any) -> Any:
    """Return the modules that `tests.torch_models.written` wrote."""
    children = [built(child, arrays) for child in document["children"]]
    tensors = {name: arrays[key] for name, key in document["tensors"].items()}
    return module(document["name"], *children, **document["attributes"] | tensors)
