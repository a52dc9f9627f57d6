"""A scalar function and its derivative as one compiled loop over a block."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numba
import numpy as np
from numba import types

from stabsim.kernels.compile import CONTRACT, kernel, wide_vectors


def compile_loop(
    f: Callable[..., Any], derivative: Callable[..., Any], values: Sequence[float], precision: str, cache: str | None
) -> Any:
    """Return the compiled loop void(s, z, d): z = f(s, *values) and d = f'(s, *values).

    Parameters
    ----------
    f, derivative : callable
        Of one number and the values, which Numba can compile.
    values : sequence of float
        Parameters of both, constants of the loop.
    precision : str
        "float32" or "float64".
    cache : str or None
        What tells the loop from all others on disk; None: it is not kept there.
    """
    number = numba.from_dtype(np.dtype(precision))
    parameters = tuple(np.dtype(precision).type(value) for value in values)

    @kernel(types.void(number[::1], number[::1], number[::1]), fastmath=CONTRACT, cache=cache)
    def loop(s, z, d):
        wide_vectors()
        for i in range(s.size):
            x = s[i]  # read once: LLVM cannot know that z is not s, and would compute their common parts twice
            z[i] = f(x, *parameters)
            d[i] = derivative(x, *parameters)

    return loop
