"""Activations as compiled loops over a block."""

from __future__ import annotations

import functools
import itertools
from types import BuiltinFunctionType
from typing import Any

import numba
import numpy as np
from numba.core.dispatcher import Dispatcher

from stabsim.activations import Activation, is_registered
from stabsim.activations.own import check_functions
from stabsim.kernels.compile import CONTRACT, kernel
from stabsim.kernels.pointwise import compile_loop


def block(activation: Activation, dtype: Any) -> Any:
    """Return the compiled loop void(s, z, d): z = f(s) and d = f'(s), for contiguous arrays of one length.

    Parameters
    ----------
    activation : Activation
        Of the registry, or a user's own, whose derivative is checked first.
    dtype : dtype
        float32 or float64.

    Raises
    ------
    ValueError
        If the dtype is another one, f' does not match f, or Numba cannot compile a function.

    Examples
    --------
    >>> from stabsim.activations import activation
    >>> s, z, d = np.array([-1.0, 2.0]), np.empty(2), np.empty(2)
    >>> block(activation("relu"), "float64")(s, z, d)
    >>> z, d
    (array([0., 2.]), array([0., 1.]))
    """
    precision = np.dtype(dtype).name
    if precision not in ("float32", "float64"):
        raise ValueError(f"dtype must be float32 or float64, not {dtype!r}")
    return _block(activation, precision)


@functools.cache
def _block(activation: Activation, precision: str) -> Any:
    parameters = tuple(activation.parameters.values())
    if is_registered(activation):
        return compile_loop(activation.f, activation.derivative, parameters, precision, f"{activation} {precision}")
    check_functions(activation)
    number = numba.from_dtype(np.dtype(precision))
    atoms = []
    for role in ("f", "derivative"):
        function = getattr(activation, role)
        if isinstance(function, BuiltinFunctionType):
            raise TypeError(
                f"{role} of activation {str(activation)!r} must be a Python function, such as "
                f"lambda x: {function.__name__}(x), not the built-in itself"
            )
        atom = function if isinstance(function, Dispatcher) else kernel(fastmath=CONTRACT)(function)
        try:
            atom.compile((number,) * (1 + len(parameters)))
        except Exception as error:
            raise ValueError(
                f"Numba cannot compile {role} of activation {str(activation)!r}: {_reason(error)}"
            ) from error
        atoms.append(atom)
    # Never cached on disk: Numba would not see what the user's functions refer to.
    return compile_loop(atoms[0], atoms[1], parameters, precision, cache=None)


def _reason(error: Exception) -> str:
    """Numba's own sentence out of its many lines."""
    lines = [line.strip(" >") for line in str(error).splitlines()]
    told = [line for line in lines if line and not line.startswith("Failed in")]
    return " ".join(itertools.takewhile(lambda line: not line.startswith(("File ", "There are", "During")), told))
