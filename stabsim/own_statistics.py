"""Quantities that are functions, compiled for the kernels."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numba import float64

from stabsim.kernels import record as r
from stabsim.kernels import statistics
from stabsim.own_functions import code_hash, compile_function
from stabsim.quantities import Quantity


def compiled(quantities: tuple[Quantity, ...], dtype: np.dtype[Any]) -> Any:
    """Return the function that shows a tensor to all of them.

    Raises
    ------
    TypeError, ValueError
        If Numba cannot compile the function of one of them.
    """
    code = code_hash(*(quantity.function for quantity in quantities if quantity.function is not None))
    return _compiled(quantities, code, dtype)


@functools.lru_cache(maxsize=64)  # by the code, too: what a user's function refers to may have changed
def _compiled(quantities: tuple[Quantity, ...], _code: str, dtype: np.dtype[Any]) -> Any:
    parts = []
    for quantity in quantities:
        build, argument = (
            (statistics.of_matrices, float64[:, ::1]) if quantity.whole else (statistics.of_values, float64)
        )
        assert quantity.function is not None
        function = compile_function(quantity.function, (argument,), f"function of quantity {quantity.name!r}")
        parts.append(build(function, r.OBSERVED.index(quantity.tensor), quantity.columns[0]))
    return statistics.compile_statistics(parts, dtype)
