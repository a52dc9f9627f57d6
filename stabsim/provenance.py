"""Where results come from: the command that makes them, the parameters of their cases and the versions in use."""

from __future__ import annotations

import platform
import shlex
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from stabsim import __version__
from stabsim.devices import CPU
from stabsim.initializers import Initializer
from stabsim.names import format_name
from stabsim.study import Case
from stabsim.task import Task
from stabsim.versions import CHUNK_VERSION, RECORD_VERSION, STREAM_VERSION


def command(study: str, scale: str, seed: int = 0, device: str = CPU) -> str:
    """Return the command that makes a study's results; what is not given on it is at its default.

    Examples
    --------
    >>> command("gains", "paper", seed=3)
    'stabsim run gains --scale paper --seed 3'
    """
    words = ["stabsim", "run", study, "--scale", scale]
    words += ["--seed", str(seed)] if seed else []
    words += ["--device", device] if device != CPU else []
    return shlex.join(words)


def parsed_command(text: str) -> dict[str, str] | None:
    """Return study, scale, seed and device of a text of `command`, and None of any other text.

    Examples
    --------
    >>> parsed_command("stabsim run gains --scale paper --seed 3")
    {'study': 'gains', 'scale': 'paper', 'seed': '3', 'device': 'cpu'}
    """
    words = text.split(" ")
    found = {"study": words[2] if len(words) > 2 else "", "scale": "", "seed": "0", "device": CPU}
    options = dict(zip(words[3::2], words[4::2], strict=False))
    found |= {name.removeprefix("--"): value for name, value in options.items() if name.startswith("--")}
    made = {"study", "scale", "seed", "device"} == found.keys() and found["seed"].isdecimal()
    return (
        found if made and command(found["study"], found["scale"], int(found["seed"]), found["device"]) == text else None
    )


def versions() -> dict[str, Any]:
    """Return the versions that decide what a run computes: of packages, of Python, and of random numbers and sums."""
    import numba
    import numpy

    return {
        "stabsim": __version__,
        "python": platform.python_version(),
        "numba": numba.__version__,
        "numpy": numpy.__version__,
        "stream": STREAM_VERSION,
        "record": RECORD_VERSION,
        "chunk": CHUNK_VERSION,
    }


def parameters(cases: Sequence[Case]) -> dict[str, Any]:
    """Return what the cases of a run are, each parameter with all values that it takes, sorted.

    Examples
    --------
    >>> from stabsim import Network, make_task
    >>> found = parameters([Case(make_task(Network((n, n, n), "relu", "he_normal")), 100) for n in (8, 4)])
    >>> found["cases"], found["nets"], found["widths"], found["activations"]
    (2, 200, [4, 8], ['relu'])
    """
    tasks = [case.task for case in cases]
    found: dict[str, Any] = {"cases": len(cases), "nets": sum(case.nets for case in cases)}
    found["nets_of_a_case"] = _each(case.nets for case in cases)
    for name, values_of in _PARAMETERS.items():
        found[name] = _each(value for task in tasks for value in values_of(task))
    return {name: values for name, values in found.items() if values != ["none"]}


_PARAMETERS: dict[str, Callable[[Task], Sequence[Any]]] = {
    "depths": lambda task: [task.network.depth],
    "widths": lambda task: task.network.widths,
    "activations": lambda task: [str(task.network.activation)],
    "weights": lambda task: [_spelled(task.network.weights)],
    "bias_stds": lambda task: [task.network.bias_std],
    "cells": lambda task: [str(task.network.cell)],
    "normalizations": lambda task: [_or_none(task.network.normalization)],
    "skips": lambda task: [_or_none(task.network.skip)],
    "batches": lambda task: [task.batch],
    "samplers": lambda task: [task.sampler],
    "precisions": lambda task: [task.precision],
    "clippings": lambda task: [_or_none(task.clipping)],
    "loss_scales": lambda task: [task.loss_scale],
    "devices": lambda task: [task.device],
}


def _spelled(weights: Initializer) -> str:
    """Return the registry's name of an initializer, or its values where it has none."""
    name = str(weights)
    if name != repr(weights):
        return name
    values: dict[str, float | str] = {"gain": weights.gain, "fan": weights.fan}
    if weights.bias_gain is not None:
        values |= {"bias_gain": weights.bias_gain, "bias_law": weights.bias_law}
    return format_name(weights.law, values)


def _or_none(value: object) -> str:
    return "none" if value is None else str(value)


def _each(values: Iterable[Any]) -> list[Any]:
    return sorted(set(values))
