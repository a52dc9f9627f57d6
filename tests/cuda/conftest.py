from __future__ import annotations

import sys
import threading
from typing import Any

import numba

# What runs in the simulator has a process of its own: test_simulator.py starts it.
collect_ignore_glob = [] if numba.config.ENABLE_CUDASIM else ["simulated_*.py"]


class Shared(dict[Any, Any]):
    """Shared memory by the place that asks for it: who finds none is to set it before another one looks."""

    def __init__(self) -> None:
        self._looking = threading.Lock()

    def get(self, place: Any, default: Any = None) -> Any:
        self._looking.acquire()
        if place in self:
            self._looking.release()
        return super().get(place, default)

    def __setitem__(self, place: Any, memory: Any) -> None:
        super().__setitem__(place, memory)
        self._looking.release()


if numba.config.ENABLE_CUDASIM:
    # Its threads wait for one another, and for one that asks them over and over: with Python's 5 ms a turn, nets take
    # five times as long (17 s instead of 3).
    sys.setswitchinterval(2e-4)

    from numba.cuda.simulator import kernelapi

    _start = kernelapi.FakeCUDAShared.__init__

    def _one_at_a_time(shared: Any, *arguments: Any) -> None:
        """Mend the simulator, whose threads may each allocate what they are to share (seen: a wrong sum)."""
        _start(shared, *arguments)
        shared._allocations = Shared()

    kernelapi.FakeCUDAShared.__init__ = _one_at_a_time
