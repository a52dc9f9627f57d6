"""The oracle of passages: slopes as written down, one run at a time, with the optimizers of `naive_optimizers`."""

from __future__ import annotations

import numpy as np

from tests.naive_optimizers import ORACLES


def rise(t: float) -> float:
    """Return the integral of 30 s^2 (1 - s)^2 up to t, from 0 to 1."""
    s = np.polynomial.Polynomial([0, 0, 30, -60, 30]).integ()
    return float(s(min(max(t, 0.0), 1.0)))


def plateau(x: float, width: float, slope: float, outside: float, edge: float) -> float:
    away = -x if x < 0 else x - width if x > width else 0.0
    return -slope - (outside - slope) * rise(away / edge)


def cliff(x: float, steep: float, slope: float, edge: float) -> float:
    if x < 0:
        return (x - 1) * (1 - rise(-x / edge)) - steep * rise(-x / edge)
    return (x - 1) * (1 - rise((x - 2) / edge)) + slope * rise((x - 2) / edge)


def crossing(rule: str, parameters: dict[str, float], start: float, shape: tuple[float, ...], most: int) -> list[int]:
    """Return the steps after which 0 and the width are reached first, -1 where not."""
    found = [-1, -1]
    path = ORACLES[rule](start, lambda x: plateau(x, *shape), **parameters)
    x = start
    for step in range(most + 1):
        for place, level in enumerate((0.0, shape[0])):
            if found[place] < 0 and x >= level:
                found[place] = step
        x = next(path)
    return found
