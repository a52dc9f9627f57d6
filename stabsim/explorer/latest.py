"""A thread that works on the latest of what it is asked for; each request cancels the one before."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Generic, TypeVar

Request = TypeVar("Request")


class Latest(Generic[Request]):
    """Calls ``work(request, stop)`` on a thread of its own; requests that are overtaken are never begun.

    Parameters
    ----------
    work : callable
        Takes a request, and a function that says whether to stop: a later request has come, or the end.

    Examples
    --------
    >>> done, seen = threading.Event(), []
    >>> def work(request, stop):
    ...     seen.append(request)
    ...     done.set()
    >>> latest = Latest(work)
    >>> latest.ask(1)
    >>> done.wait(10), seen
    (True, [1])
    >>> latest.close()
    """

    def __init__(self, work: Callable[[Request, Callable[[], bool]], None]) -> None:
        self._work = work
        self._changed = threading.Condition()
        self._number = 0
        self._waiting: list[Request] = []
        self._closed = False
        threading.Thread(target=self._run, name="stabsim-explore", daemon=True).start()

    def ask(self, request: Request) -> None:
        """Ask for something else."""
        with self._changed:
            self._number += 1
            self._waiting = [request]
            self._changed.notify()

    def cancel(self) -> None:
        """Ask for nothing."""
        with self._changed:
            self._number += 1
            self._waiting = []

    def close(self) -> None:
        """Cancel, and end the thread."""
        with self._changed:
            self._closed = True
            self._number += 1
            self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._waiting)
                if self._closed:
                    return
                number, request = self._number, self._waiting.pop()
            self._work(request, partial(self._outdated, number))

    def _outdated(self, number: int) -> bool:
        return self._number != number
