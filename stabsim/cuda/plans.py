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
    def task(self) -> Task: ...  # noqa: D102
    @property
    def sampler(self) -> Sampler: ...  # noqa: D102
    @property
    def widths(self) -> NDArray[np.int64]: ...  # noqa: D102
    @property
    def blank(self) -> Floats: ...  # noqa: D102
    @property
    def pivots(self) -> Floats: ...  # noqa: D102
    @property
    def sizes(self) -> dict[str, Floats]: ...  # noqa: D102
    @property
    def functions(self) -> tuple[Any, ...]: ...  # noqa: D102
    @property
    def problem(self) -> Problem: ...  # noqa: D102
    @property
    def given(self) -> Given: ...  # noqa: D102
    @property
    def ask(self) -> Ask: ...  # noqa: D102

    def no_counts(self) -> NDArray[np.int64]: ...  # noqa: D102
