"""The engine of one process."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING

from stabsim.devices import CPU
from stabsim.engines.base import Range

if TYPE_CHECKING:
    from stabsim.moments import Sums


def local(ranges: Sequence[Range], threads: int) -> Generator[tuple[int, Sums]]:
    """Run ranges one after the other on the threads of this process; those of one plan that follow share a team.

    Those for a GPU go first: where it cannot be used, that is said at once.
    """
    ordered = sorted(enumerate(ranges), key=lambda each: each[1].plan.task.device == CPU)
    for plan, group in itertools.groupby(ordered, key=lambda each: each[1].plan):
        places, nets = zip(*((place, (first, last)) for place, (_, first, last) in group), strict=True)
        with contextlib.closing(plan.run(nets, threads)) as made:  # stops its threads
            yield from zip(places, made, strict=True)
