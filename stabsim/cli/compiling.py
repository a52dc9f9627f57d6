"""Says that kernels are being compiled, once, when it takes a while; imported where Numba is."""

from __future__ import annotations

import functools
from threading import Timer

import click
from numba.core import event

PATIENCE = 5.0  # seconds; samplers take ten times as long, an activation or a law of weights less than one


class Teller(event.Listener):  # type: ignore[misc]  # Numba has no types
    """Waits for the first compilation that lasts; what the cache holds is not compiled."""

    def __init__(self) -> None:
        self.open = 0
        self.timer: Timer | None = None
        self.told = False

    def on_start(self, _event: object) -> None:
        """Begin to wait, unless it has been said."""
        self.open += 1
        if self.open == 1 and not self.told:
            self.timer = Timer(PATIENCE, self.tell)
            self.timer.daemon = True
            self.timer.start()

    def on_end(self, _event: object) -> None:
        """Wait no longer when the outermost function is done."""
        self.open -= 1
        if self.open == 0 and self.timer is not None:
            self.timer.cancel()

    def tell(self) -> None:
        """Say it."""
        self.told = True
        click.echo(
            "compiling, once for each kind of net: up to a minute or two (stabsim warmup does it ahead)", err=True
        )


@functools.cache
def listen() -> None:
    """Listen to Numba from now on."""
    event.register("numba:compile", Teller())
