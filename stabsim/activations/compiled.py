"""Activations as compiled loops over a block."""

from __future__ import annotations

import functools
from typing import Any

import numba
import numpy as np

from stabsim.activations import Activation, fingerprint, is_registered
from stabsim.activations.own import check_functions
from stabsim.kernels.pointwise import compile_loop
from stabsim.own_functions import compile_function

ROLES = ("f", "derivative", "second_derivative")


def block(activation: Activation, dtype: Any, order: int = 0) -> Any:
    """Return the compiled loop void(s, z, d): z = f(s) and d = f'(s), for contiguous arrays of one length.

    Parameters
    ----------
    activation : Activation
        Of the registry, or a user's own, whose derivative is checked first.
    dtype : dtype
        float32 or float64.
    order : int, default 0
        1: the loop writes f' and f'' instead of f and f'.

    Raises
    ------
    ValueError
        If the dtype is another one, f' does not match f (or f'' not f'), there is no f'', or Numba cannot compile a
        function.

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
    roles = ROLES[order : order + 2]
    for role in roles:
        if getattr(activation, role) is None:
            raise ValueError(f"activation {str(activation)!r} has no {role}: give it one")
    return _block(activation, fingerprint(activation), precision, roles)


@functools.cache  # by the fingerprint, too: what a user's function refers to may have changed
def _block(activation: Activation, _fingerprint: str, precision: str, roles: tuple[str, str]) -> Any:
    parameters = tuple(activation.parameters.values())
    if is_registered(activation):
        name = f"{activation} {precision}" + (f" {roles[0]}" if roles[0] != "f" else "")
        f, derivative = (getattr(activation, role) for role in roles)
        return compile_loop(f, derivative, parameters, precision, name)
    check_functions(activation)
    number = numba.from_dtype(np.dtype(precision))
    arguments = (number,) * (1 + len(parameters))
    f, derivative = (
        compile_function(getattr(activation, role), arguments, f"{role} of activation {str(activation)!r}")
        for role in roles
    )
    return compile_loop(f, derivative, parameters, precision, cache=None)
