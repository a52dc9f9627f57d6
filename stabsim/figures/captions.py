"""What captions say alike: how theory and intervals look in a figure."""

from __future__ import annotations

from collections.abc import Iterable

THEORY = "Dashed: exact theory."
LIMIT = "Dotted: the limit of infinite width."
BANDS = "Bands: 95% intervals."
BARS = "Bars: 95% intervals."
BANDS_AND_BARS = "Bands and bars: 95% intervals."


def of_nets(nets: Iterable[float]) -> str:
    """Return a sentence on how many nets estimates are of.

    >>> of_nets([40, 2000, 0]), of_nets([400])
    ('Estimates are of 40 to 2,000 nets.', 'Estimates are of 400 nets.')
    """
    found = sorted({int(each) for each in nets if each > 0}) or [0]  # none, or NaN, where there is no estimate
    ends = dict.fromkeys((found[0], found[-1]))
    return f"Estimates are of {' to '.join(f'{each:,}' for each in ends)} nets."
