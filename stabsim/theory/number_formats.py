"""Where signals leave a number format."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

from stabsim.checks import number

EXACT_DEPTH = 10_000  # up to which a power is compared exactly, so that a level that is just reached counts


@dataclass(frozen=True)
class Crossing:
    """The real depth at which a level is reached, and the first whole layer beyond."""

    depth: float
    layer: int


def depth_at(level: float, squared_factor: float, *, start: float = 1.0) -> Crossing:
    """Return where the root mean square of signals, or of gradients, reaches a level.

    Parameters
    ----------
    level : float
        > 0, such as a format's `largest` or `flush_threshold`.
    squared_factor : float
        By which the mean square changes a layer, > 0 and not 1: n gamma of a linear net, half of it for ReLU. (The
        factor of the root mean square would be rounded, and a level reached exactly be missed.)
    start : float, default 1
        The root mean square at depth 0, > 0.

    Returns
    -------
    Crossing
        The layer is the first whose root mean square is beyond the level, not at it.

    Raises
    ------
    TypeError, ValueError
        If an argument is outside, or the level lies behind the start.

    Notes
    -----
    2 ln(level / start) / ln(squared_factor), exact for mean squares that change by the same factor at every layer.

    Examples
    --------
    >>> from stabsim.number_formats import FLOAT16
    >>> depth_at(FLOAT16.smallest_subnormal, 0.125)
    Crossing(depth=16.0, layer=17)
    """
    level, start = (number(key, each, 0.0, open_ends=True) for key, each in (("level", level), ("start", start)))
    factor = number("squared_factor", squared_factor, 0.0, open_ends=True)
    if factor == 1.0 or (level < start) != (factor < 1.0) or level == start:
        raise ValueError(f"level must be ahead of start={start!r} with squared_factor={factor!r}, not {level!r}")
    depth = 2.0 * math.log(level / start) / math.log(factor)
    nearest = round(depth)
    if (
        math.isclose(depth, nearest, rel_tol=1e-12)
        and nearest <= EXACT_DEPTH
        and _reached(level, factor, start, nearest)
    ):
        return Crossing(float(nearest), nearest + 1)
    return Crossing(depth, math.floor(depth) + 1)


def _reached(level: float, factor: float, start: float, depth: int) -> bool:
    """Return whether the level is reached exactly."""
    return Fraction(factor) ** depth == (Fraction(level) / Fraction(start)) ** 2
