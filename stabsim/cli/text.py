"""Tables as text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import click


def echo_columns(rows: Iterable[Sequence[object]], *, indent: str = "") -> None:
    """Print rows with their columns aligned; the last column is as long as it is.

    >>> echo_columns([("tanh", 1, "a note"), ("sigmoid", 12, "b")], indent="  ")
      tanh     1   a note
      sigmoid  12  b
    """
    texts = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    for row in texts:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        click.echo(indent + "  ".join(cells).rstrip())


def counted(number: int, noun: str) -> str:
    """Return a number with its noun.

    >>> counted(1, "net"), counted(2, "net")
    ('1 net', '2 nets')
    """
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def interval(low: float, high: float) -> str:
    """Return an interval in brackets, six digits a number.

    >>> interval(0.5, 1.25)
    '[0.5, 1.25]'
    """
    return f"[{low:.6g}, {high:.6g}]"
