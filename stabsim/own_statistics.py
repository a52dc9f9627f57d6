"""Quantities that are functions, compiled for the kernels."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from stabsim.kernels import record as r
from stabsim.kernels import statistics
from stabsim.quantities import Quantity


@functools.lru_cache(maxsize=64)
def compiled(quantities: tuple[Quantity, ...], dtype: np.dtype[Any]) -> Any:
    """Return the function that shows a tensor to all of them.

    Raises
    ------
    ValueError
        If Numba cannot compile the function of one of them.
    """
    parts = []
    for quantity in quantities:
        build = statistics.of_matrices if quantity.whole else statistics.of_values
        parts.append(build(quantity.function, r.OBSERVED.index(quantity.tensor), quantity.columns[0]))
    return statistics.compile_statistics(parts, dtype)
