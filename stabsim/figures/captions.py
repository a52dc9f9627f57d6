"""What captions say alike: how theory and intervals look in a figure."""

from __future__ import annotations

THEORY = "Dashed: exact theory."
LIMIT = "Dotted: the limit of infinite width."
BANDS = "Bands: 95% intervals."
BARS = "Bars: 95% intervals."
