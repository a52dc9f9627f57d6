"""Engines: where and in which order the chunks of a study are simulated. Adding one is a function and a line below."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from stabsim.names import unknown

if TYPE_CHECKING:  # names and the command line come without NumPy
    from stabsim.moments import Sums
    from stabsim.plan import Plan


class Range(NamedTuple):
    """Nets ``first`` .. ``last - 1`` of a plan."""

    plan: Plan
    first: int
    last: int


# Takes all that a study lacks and how many threads may run; yields (place in the sequence, its sums), in any order, as
# they arrive. Each range is a pure function of its plan: where it is run changes no bit. Both can be pickled, but for a
# user's own functions that cannot: lambdas, and what stands in a file that the other process does not import.
Engine = Callable[[Sequence[Range], int], Generator[tuple[int, "Sums"]]]


class EngineError(RuntimeError):
    """An engine failed: which and why, in one line."""


def local(ranges: Sequence[Range], threads: int) -> Generator[tuple[int, Sums]]:
    """Run ranges one after the other on the threads of this process; those of one plan that follow share a team."""
    for plan, group in itertools.groupby(enumerate(ranges), key=lambda each: each[1].plan):
        places, nets = zip(*((place, (first, last)) for place, (_, first, last) in group), strict=True)
        with contextlib.closing(plan.run(nets, threads)) as made:  # stops its threads
            yield from zip(places, made, strict=True)


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
