"""A user's own functions: what is checked of them, and their hash."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np
from numba.core.dispatcher import Dispatcher

from stabsim.activations.base import Activation

# Where a user's functions are tried: at sizes from 0.001 to 50, on both sides of 0.
POINTS = tuple(float(sign * size) for size in np.geomspace(1.1e-3, 49.7, 48) for sign in (-1, 1))


def check_functions(activation: Activation) -> None:
    """Hold f' against central differences of f, and what is said of f against f, at many points; not at kinks.

    Raises
    ------
    ValueError
        If f or f' fails or they do not match, or f is not as its asymptotes, homogeneity or affinity say, with the
        point and both values.
    """
    for x in POINTS:
        step = 1e-5 * max(1.0, abs(x))
        if any(abs(x - kink) <= step for kink in activation.kinks):
            continue
        try:
            below, above = (activation.evaluate("f", y) for y in (x - step, x + step))
            derivative = activation.evaluate("derivative", x)
        except ValueError as error:
            if isinstance(
                error.__cause__, OverflowError
            ):  # such as math.exp: it is only warned of where nets get there
                continue
            raise
        difference = (above - below) / (2 * step)
        tolerance = 1e-4 * max(abs(difference), abs(derivative)) + 1e-8 * max(1.0, abs(above))
        if not abs(difference - derivative) <= tolerance:
            raise ValueError(
                f"derivative of activation {str(activation)!r} is {derivative:.6g} at x = {x:.6g}, "
                f"but a finite difference of f is {difference:.6g}"
            )
        if activation.positively_homogeneous:
            _hold(activation, 1024 * x, 1024 * activation.evaluate("f", x), "positively_homogeneous")
        if activation.affine and activation.asymptotes is not None:
            slope, offset = activation.asymptotes[0]
            _hold(activation, x, slope * x + offset, "affine")
    for sign, (slope, offset) in zip((-1, 1), activation.asymptotes or (), strict=False):
        _hold(activation, sign * 2.0**30, slope * sign * 2.0**30 + offset, "asymptotes")


def _hold(activation: Activation, x: float, expected: float, promise: str) -> None:
    found = activation.evaluate("f", x)
    if not abs(found - expected) <= 1e-6 * max(1.0, abs(expected)):
        raise ValueError(
            f"{promise} of activation {str(activation)!r} say that f({x:.6g}) is {expected:.6g}, but it is {found:.6g}"
        )


def code_hash(*functions: Callable[..., Any]) -> str:
    """Return the SHA-256 of the functions' code and of the values it refers to: constants, globals, closures, defaults.

    Raises
    ------
    TypeError
        If code refers to a value other than numbers, strings, arrays, tuples, functions, types and modules.
    """
    digest = hashlib.sha256()
    for function in functions:
        _feed(digest.update, function, set())
    return digest.hexdigest()


def _feed(update: Callable[[bytes], None], value: Any, seen: set[int]) -> None:
    """Add a value to a digest, with its type and an end mark so that no two values read the same."""
    update(f"<{type(value).__name__} ".encode())
    if isinstance(value, Dispatcher):
        _feed(update, value.py_func, seen)
    elif isinstance(value, FunctionType):
        if id(value) not in seen:  # a function may refer to itself
            parts = (value.__code__, value.__defaults__, value.__kwdefaults__, _referenced(value))
            _feed(update, parts, seen | {id(value)})
    elif isinstance(value, CodeType):
        _feed(update, (value.co_code, value.co_consts, value.co_names, value.co_varnames, value.co_freevars), seen)
    elif isinstance(value, tuple | list):
        for item in value:
            _feed(update, item, seen)
    elif isinstance(value, frozenset | dict):
        _feed(update, sorted(value.items() if isinstance(value, dict) else value, key=repr), seen)
    elif isinstance(value, np.ndarray | np.generic):
        update(value.dtype.str.encode() + repr(value.shape).encode() + value.tobytes())
    elif isinstance(value, ModuleType | BuiltinFunctionType | np.ufunc | type):
        update(f"{getattr(value, '__module__', '')}.{value.__name__}".encode())
    elif value is None or value is ... or isinstance(value, bool | int | float | complex | str | bytes):
        update(repr(value).encode())
    else:
        raise TypeError(f"cannot identify {value!r} of type {type(value).__name__}, which an activation refers to")
    update(b">")


def _referenced(function: FunctionType) -> list[tuple[str, Any]]:
    """Closure and global variables by name, those of inner functions too; built-in names stand for themselves."""
    closure = zip(
        function.__code__.co_freevars, (cell.cell_contents for cell in function.__closure__ or ()), strict=True
    )
    names = _names(function.__code__) & function.__globals__.keys()
    return sorted({**{name: function.__globals__[name] for name in names}, **dict(closure)}.items())


def _names(code: CodeType) -> set[str]:
    inner = (_names(constant) for constant in code.co_consts if isinstance(constant, CodeType))
    return set(code.co_names).union(*inner)
