"""Tables, numbers and paragraphs as text."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import click

from stabsim.terminal import columns

if TYPE_CHECKING:
    from stabsim.study import Verdict


def examples(*lines: str) -> str:
    r"""Return the end of a help text: commands to copy, which are not wrapped.

    >>> examples("stabsim list", "stabsim claims A17")
    '\x08\nExamples:\n  stabsim list\n  stabsim claims A17'
    """
    return "\n  ".join(("\b\nExamples:", *lines))


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


def spelled_seconds(seconds: float) -> str:
    """Return a time in the unit that it is read in, two digits or more.

    >>> spelled_seconds(0.0123), spelled_seconds(95.2), spelled_seconds(600), spelled_seconds(1e7), spelled_seconds(0)
    ('0.012 s', '95 s', '10 min', '2778 h', '0 s')
    """
    for unit, size, most in (("s", 1.0, 120.0), ("min", 60.0, 7200.0)):
        if seconds < most:
            return _two_digits(seconds / size, unit)
    return _two_digits(seconds / 3600, "h")


def spelled_bytes(size: float) -> str:
    """Return a number of bytes in the unit that it is read in, two digits or more.

    >>> spelled_bytes(0), spelled_bytes(2345), spelled_bytes(1.23e8), spelled_bytes(4e12)
    ('0 B', '2.3 kB', '123 MB', '4000 GB')
    """
    for unit, each in (("B", 1.0), ("kB", 1e3), ("MB", 1e6)):
        if size < 1000 * each:
            return _two_digits(size / each, unit)
    return _two_digits(size / 1e9, "GB")


def _two_digits(value: float, unit: str) -> str:
    return f"{value:.0f} {unit}" if value >= 10 or value == 0 else f"{value:.2g} {unit}"


def rests_on(verdict: Verdict) -> str:
    """Return the number that a verdict rests on, with its interval and, where there is one, theory.

    >>> from stabsim.study import Verdict
    >>> rests_on(Verdict("B06", "holds", 1.0, 0.95, 1.05, theory=1.0))
    '1 [0.95, 1.05], theory 1'
    """
    theory = number(verdict.theory)
    return f"{verdict.estimate:.6g} {interval(verdict.ci_low, verdict.ci_high)}{theory and f', theory {theory}'}"


def echo_wrapped(text: str, start: str) -> None:
    """Print text in lines that fit the terminal, those after the first indented as far as its start."""
    for line in textwrap.wrap(text, columns(), initial_indent=start, subsequent_indent=" " * len(start)):
        click.echo(line)
