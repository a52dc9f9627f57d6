"""How wide text is."""

from __future__ import annotations

import shutil

WIDEST = 100  # columns of a paragraph


def columns() -> int:
    """Return how many characters a line has: as many as the terminal, up to ``WIDEST``."""
    return min(WIDEST, shutil.get_terminal_size((WIDEST, 24)).columns)
