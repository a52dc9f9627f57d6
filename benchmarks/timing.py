"""Rates that can be compared: interleaved rounds, medians, nothing compiled while the clock runs."""

from __future__ import annotations

import importlib.util
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

Peer = Callable[[int, int, int, int], Any]  # (depth, width, batch, nets)


def absent(functions: Mapping[str, Peer]) -> list[str]:
    """Return the names of the functions whose library is not installed."""
    return [name for name in functions if importlib.util.find_spec(name.split("_")[0]) is None]


def enough_nets(function: Peer, depth: int, width: int, batch: int, *, seconds: float) -> int:
    """Return a number of nets that takes at least about so many seconds: a power of two, so that chunks are full.

    It is also the warm-up: the last call has the shapes of the timed ones, so nothing is compiled then.
    """
    nets, elapsed = 1, 0.0
    function(depth, width, batch, nets)
    while (elapsed := _elapsed(function, depth, width, batch, nets)) < seconds / 2:
        nets *= 2
    return nets if elapsed >= seconds else 2 * nets


def nets_per_second(
    functions: Mapping[str, Peer], depth: int, width: int, batch: int, *, seconds: float = 1.5, rounds: int = 3
) -> dict[str, float]:
    """Return the median rate of each function over interleaved rounds A B C A B C ..., so that drift hits all alike.

    Parameters
    ----------
    functions : mapping of str to callable
        Name -> function; each is warmed up first.
    depth, width, batch : int
        Layers, units a layer, samples.
    seconds : float
        The least that one measurement takes, about.
    rounds : int
        Measurements of each function.
    """
    nets = {name: enough_nets(function, depth, width, batch, seconds=seconds) for name, function in functions.items()}
    rates: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            rates[name].append(nets[name] / _elapsed(function, depth, width, batch, nets[name]))
    return {name: statistics.median(found) for name, found in rates.items()}


def _elapsed(function: Peer, depth: int, width: int, batch: int, nets: int) -> float:
    start = time.perf_counter()
    function(depth, width, batch, nets)
    return time.perf_counter() - start
