"""Tables, numbers and paragraphs as text."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from stabsim.study import Verdict

COLUMNS = 100  # of a paragraph


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


def number(value: float) -> str:
    """Return a number in six digits, and nothing for NaN.

    >>> number(2 / 3), number(float("nan"))
    ('0.666667', '')
    """
    return "" if value != value else f"{value:.6g}"


def rests_on(verdict: Verdict) -> str:
    """Return the number that a verdict rests on, with its interval and, where there is one, theory.

    >>> from stabsim.study import Verdict
    >>> rests_on(Verdict("B06", "holds", 1.0, 0.95, 1.05, theory=1.0))
    '1 [0.95, 1.05], theory 1'
    """
    theory = number(verdict.theory)
    return f"{verdict.estimate:.6g} {interval(verdict.ci_low, verdict.ci_high)}{theory and f', theory {theory}'}"


def echo_wrapped(text: str, start: str) -> None:
    """Print text in lines of at most ``COLUMNS`` characters, those after the first indented as far as its start."""
    for line in textwrap.wrap(text, COLUMNS, initial_indent=start, subsequent_indent=" " * len(start)):
        click.echo(line)
