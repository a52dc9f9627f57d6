"""What an engine is."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING, NamedTuple, Union

if TYPE_CHECKING:  # names and the command line come without NumPy
    from stabsim.moments import Sums
    from stabsim.plan import Plan


class Range(NamedTuple):
    """Nets ``first`` .. ``last - 1`` of a plan."""

    plan: Plan
    first: int
    last: int


class EngineError(RuntimeError):
    """An engine, or a range that it ran, failed: which and why, in one line."""


# Takes all that a study lacks and how many threads may run; yields (place in the sequence, its sums, or why it failed
# where the others go on), in any order, as they arrive. Each range is a pure function of its plan: where it is run
# changes no bit. Both can be pickled, but for what a study file has of its own: `elsewhere.Parcel` packs that, too.
Engine = Callable[[Sequence[Range], int], Generator[tuple[int, Union["Sums", EngineError]]]]
