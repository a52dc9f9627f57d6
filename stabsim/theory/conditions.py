"""Checks that arguments lie where a formula holds; errors say the argument, its value and what is allowed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stabsim import names
from stabsim.task import whole_number

Floats = NDArray[np.float64]

_LARGEST = 10**15  # whole numbers beyond are not exact in float64 sums


def count(argument: str, value: Any, least: int = 1) -> int:
    """Return a whole number of at least ``least``.

    Examples
    --------
    >>> count("width", 100)
    100
    """
    return whole_number(argument, value, least, _LARGEST)


def counts(argument: str, values: Any, least: int = 1) -> tuple[int, ...]:
    """Return whole numbers of at least ``least``, one or more.

    Examples
    --------
    >>> counts("widths", (100, 50))
    (100, 50)
    """
    listed = isinstance(values, Sequence | np.ndarray) and not isinstance(values, str | bytes)
    found = np.atleast_1d(np.asarray(values if listed else [], object))
    if len(found) == 0:
        raise TypeError(f"{argument} must be a sequence of whole numbers >= {least}, not {_shown(values)}")
    return tuple(count(argument, value, least) for value in found)


def number(argument: str, value: Any, low: float = -np.inf, high: float = np.inf, *, open_ends: bool = False) -> float:
    """Return a finite number between two ends, which are allowed themselves unless the ends are open.

    Examples
    --------
    >>> number("correlation", 1, -1, 1)
    1.0
    """
    return float(array(argument, names.finite_number(argument, value), low, high, open_ends=open_ends))


def array(
    argument: str, values: ArrayLike, low: float = -np.inf, high: float = np.inf, *, open_ends: bool = False
) -> Floats:
    """Return finite numbers between two ends, at least one, as an array of any shape.

    Examples
    --------
    >>> array("variance", [0.0, 2.0], 0.0)
    array([0., 2.])
    """
    try:
        given = np.asarray(values)
    except ValueError:  # lists of different lengths
        given = np.empty(0, object)
    if given.dtype.kind not in "iuf" or given.size == 0 or isinstance(values, np.ma.MaskedArray):
        raise TypeError(f"{argument} must be a number or an array of numbers, not {_shown(values)}")
    with np.errstate(over="ignore"):  # of longer floats, which are then not finite
        checked = given.astype(np.float64)
    inside = (low < checked) & (checked < high) if open_ends else (low <= checked) & (checked <= high)
    inside &= np.isfinite(checked)
    if not np.all(inside):
        wrong = float(checked[~inside].flat[0])
        raise ValueError(f"{argument} must be {_range(low, high, open_ends)}, not {wrong!r}")
    return checked


def _shown(value: object) -> str:
    """Return a value for a message: one line, not endless."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else f"{text[:77]}..."


def _range(low: float, high: float, open_ends: bool) -> str:
    more, less = (">", "<") if open_ends else (">=", "<=")
    ends = [f"{sign} {end:g}" for sign, end in ((more, low), (less, high)) if np.isfinite(end)]
    return " ".join(["finite", *(["and"] if ends else []), " and ".join(ends)]).strip()
