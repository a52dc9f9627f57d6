"""A user's own functions, of activations and statistics: how they are compiled, and what they are known by."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np
from numba.core.dispatcher import Dispatcher

from stabsim.kernels.compile import CONTRACT, kernel


def compile_function(function: Callable[..., Any], arguments: tuple[Any, ...], what: str) -> Any:
    """Return a function compiled for arguments of these Numba types; ``what`` is what errors call it.

    It is never cached on disk: Numba would not see what a user's function refers to.

    Raises
    ------
    TypeError, ValueError
        If it is a built-in function, or Numba cannot compile it, in Numba's own words.
    """
    if isinstance(function, BuiltinFunctionType):
        raise TypeError(
            f"{what} must be a Python function, such as lambda x: {function.__name__}(x), not the built-in itself"
        )
    compiled = function if isinstance(function, Dispatcher) else kernel(fastmath=CONTRACT)(function)
    try:
        compiled.compile(arguments)
    except Exception as error:
        raise ValueError(f"Numba cannot compile {what}: {_reason(error)}") from error
    return compiled


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
        raise TypeError(f"cannot identify {value!r} of type {type(value).__name__}, which a function refers to")
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


def _reason(error: Exception) -> str:
    """Numba's own sentence out of its many lines."""
    lines = [line.strip(" >") for line in str(error).splitlines()]
    told = [line for line in lines if line and not line.startswith("Failed in")]
    return " ".join(itertools.takewhile(lambda line: not line.startswith(("File ", "There are", "During")), told))
