"""Live progress on stderr: a bar with the current estimate on a terminal, otherwise a line a minute."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self

import click

from stabsim.cli.text import counted

if TYPE_CHECKING:
    from stabsim.result import Result

# What best tells signals that live from those that die, with the end where they have come through every layer.
HEADLINES = ("activation_gradient_log10_norm", "activation_log10_norm")


def attended() -> bool:
    """Return whether stderr is a terminal on which what is printed can be replaced, and no file or log."""
    return sys.stderr.isatty() and os.environ.get("TERM", "dumb") not in ("", "dumb", "unknown")


class LiveProgress:
    """Shows how many nets are done, and one estimate with its interval."""

    def __init__(self) -> None:
        self.terminal = attended()
        self.seconds = 0.25 if self.terminal else 60.0
        self.shown = time.monotonic()

    def __enter__(self) -> Self:
        if self.terminal:
            from rich.console import Console, Group
            from rich.live import Live
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
            from rich.text import Text

            label = TextColumn("{task.description}", markup=False)
            self.bar = Progress(label, BarColumn(20), MofNCompleteColumn(), TimeRemainingColumn())
            self.task = self.bar.add_task("", total=None)
            self.estimate = Text()
            self.live = Live(Group(self.bar, self.estimate), console=Console(stderr=True), transient=True)
            self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.terminal:
            self.live.stop()

    def __call__(self, label: str, done: int, wanted: int, current: Callable[[], Result | None]) -> None:
        """Show that so many nets are done; ``current`` is called if it is time for an estimate."""
        if self.terminal:
            self.bar.update(self.task, description=label, completed=done, total=wanted)
        if time.monotonic() - self.shown < self.seconds:
            return
        if self.terminal:
            self.estimate.plain = headline(current())
        else:
            estimate = headline(current())
            click.echo(f"{label}: {done} of {counted(wanted, 'net')}{estimate and '; '}{estimate}", err=True)
        self.shown = time.monotonic()


class Counter:
    """Counts things in a line on a terminal, until all are done; says nothing elsewhere or within a second."""

    def __init__(self, noun: str) -> None:
        self.noun = noun
        self.number = 0
        self.terminal = attended()
        self.shown = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.terminal:
            click.echo("\r\033[K", nl=False, err=True)

    def __call__(self) -> None:
        """Count one more."""
        self.number += 1
        if self.terminal and time.monotonic() - self.shown > 1:
            click.echo(f"\r{counted(self.number, self.noun)} ...", nl=False, err=True)
            self.shown = time.monotonic()


def headline(result: Result | None) -> str:
    """Return one estimate with its interval: of the gradient at the input or, without one, of another quantity."""
    if result is None:
        return ""
    from stabsim.quantities import QUANTITIES

    names = [quantity.name for quantity in result.task.table_quantities]
    name = next((name for name in HEADLINES if name in names), names[0])
    layer = QUANTITIES[name].first_layer if QUANTITIES[name].backward else result.network.depth
    found = result.estimates(name)
    low, high = found.ci_low[layer], found.ci_high[layer]
    return f"{name} at layer {layer}: {found.estimate[layer]:.4g} [{low:.4g}, {high:.4g}]"
