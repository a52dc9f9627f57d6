"""What befalls the workers of `tests/test_dask.py`: they import this file, which is quick."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any
from unittest import mock

import distributed

from stabsim.engines import elsewhere

CODE = elsewhere.code()


class Fate(distributed.WorkerPlugin):  # type: ignore[misc]  # dask has no types here
    """Does to a worker what the name of a file in a folder says, when it begins with the range that this ends in."""

    name = "fate"

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def setup(self, worker: Any) -> None:
        self.worker = worker

    def transition(self, key: str, start: str, finish: str, **_: Any) -> None:
        if finish == "executing":
            for order in self.directory.glob("*"):
                what, how_often, range_ = order.name.split(" ")
                if str(key).removesuffix("-alone").endswith(range_):
                    if how_often == "once":
                        order.unlink()
                    self.do(what)

    def do(self, what: str) -> None:
        if what == "exit":
            os._exit(1)
        self.memory = b"x" * self.worker.memory_manager.memory_limit  # which the nanny ends
        time.sleep(20)


def other_code() -> None:
    mock.patch.object(elsewhere, "code", return_value={**CODE, "numpy": "1.0"}).start()


def same_code() -> None:
    mock.patch.stopall()


def without_our_code() -> None:
    sys.modules["stabsim.engines.elsewhere"] = None  # type: ignore[assignment]  # importing it raises ImportError then


def with_our_code() -> None:
    sys.modules["stabsim.engines.elsewhere"] = elsewhere


def value_of_parcel(data: bytes) -> float:
    """Return what the plan's own statistic makes of 2."""
    import pickle

    (quantity,) = pickle.loads(data).task.functions
    return float(quantity.function(2.0))
