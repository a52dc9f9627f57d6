"""Engines: where and in which order the chunks of a study are simulated; adding one is a file and a line below."""

from __future__ import annotations

from stabsim.engines.base import Engine, EngineError, Range
from stabsim.engines.local import local
from stabsim.names import unknown

__all__ = ["ENGINES", "Engine", "EngineError", "Range", "engine", "local"]

ENGINES: dict[str, Engine] = {"local": local}


def engine(name: str) -> Engine:
    """Return an engine by name.

    Raises
    ------
    ValueError
        If the name is unknown.

    Examples
    --------
    >>> engine("locale")
    Traceback (most recent call last):
    ValueError: unknown engine 'locale'; known, nearest first: local...
    """
    if name not in ENGINES:
        raise unknown("engine", name, ENGINES)
    return ENGINES[name]
