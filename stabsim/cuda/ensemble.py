"""Ensembles on the device: what it does not run, and the sums of those that it does."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import Any

from stabsim.devices import DeviceError
from stabsim.moments import Sums
from stabsim.task import Task


def refuses(task: Task) -> str:
    """Return why the device does not run a task, in words; nothing if it does."""
    if task.features:
        return f"does not run nets with {' and '.join(dict.fromkeys(task.arguments.values()))}"
    whole = [q.name for q in task.functions if q.whole]
    return f"does not compute {whole[0]!r}, which is of the whole matrix" if whole else ""


def run(plan: Any, chunks: Iterable[tuple[int, int]]) -> Generator[Sums]:
    """Yield the sums of chunks in their order."""
    from stabsim.cuda import shim

    shim.require()
    raise DeviceError("device='cuda' runs nothing yet")
    yield
