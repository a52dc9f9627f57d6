"""Engines: where and in which order the chunks of a study are simulated; adding one is a file and a line below."""

from __future__ import annotations

import functools

from stabsim.engines.base import Engine, EngineError, Range
from stabsim.engines.dask import checked_address, dask
from stabsim.engines.local import local
from stabsim.names import check_known

__all__ = ["ENGINES", "Engine", "EngineError", "Range", "dask", "engine", "local"]

ENGINES: dict[str, Engine] = {"local": local, "dask": dask}


def engine(name: str, scheduler: str | None = None) -> Engine:
    """Return an engine by name.

    Parameters
    ----------
    name : str
        Which one.
    scheduler : str, optional
        Address of the Dask cluster that is to do the work; of engine "dask" only, which starts one unless told.

    Raises
    ------
    ValueError
        If the name is unknown, or the address is none, or not of this engine.

    Examples
    --------
    >>> engine("locale")
    Traceback (most recent call last):
    ValueError: unknown engine 'locale'; known, nearest first: local, dask
    """
    check_known("engine", name, ENGINES)
    if scheduler is None:
        return ENGINES[name]
    if ENGINES[name] is not dask:
        raise ValueError(f"scheduler={scheduler!r} is for engine 'dask', and the engine is {name!r}")
    return functools.partial(dask, scheduler=checked_address(scheduler))
