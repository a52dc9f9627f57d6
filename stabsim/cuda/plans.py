"""What the device takes of a `stabsim.plan.Plan`, which hands itself down to it: so nothing here imports that room."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from stabsim.kernels.signature import Ask, Given, Problem
from stabsim.samplers.base import Sampler
from stabsim.task import Task

Floats = NDArray[np.float64]


class Plan(Protocol):
    """How a task is run; `stabsim.plan.Plan` says what each part is."""

    @property
    def task(self) -> Task: ...
    @property
    def sampler(self) -> Sampler: ...
    @property
    def widths(self) -> NDArray[np.int64]: ...
    @property
    def blank(self) -> Floats: ...
    @property
    def pivots(self) -> Floats: ...
    @property
    def sizes(self) -> dict[str, Floats]: ...
    @property
    def functions(self) -> tuple[Any, ...]: ...
    @property
    def problem(self) -> Problem: ...
    @property
    def given(self) -> Given: ...
    @property
    def ask(self) -> Ask: ...

    def no_counts(self) -> NDArray[np.int64]: ...
