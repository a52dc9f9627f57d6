"""A user's own functions, of activations and statistics: how they are compiled, and what they are known by."""

from __future__ import annotations

import dis
import hashlib
import inspect
import itertools
from collections.abc import Callable
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np
from numba.core import types
from numba.core.dispatcher import Dispatcher

from stabsim.kernels.compile import CONTRACT, kernel

# Modules that are known by their names: what they hold does not change.
LIBRARIES = ("math", "cmath", "numpy", "numba", "stabsim")


def compile_function(function: Callable[..., Any], arguments: tuple[Any, ...], what: str) -> Any:
    """Return a function compiled for arguments of these Numba types; ``what`` is what errors call it.

    What is compiled already is compiled again, with the flags of this package. It is never cached on disk: Numba would
    not see what a user's function refers to.

    Raises
    ------
    TypeError, ValueError
        If it is no Python function, does not return a number or a truth value, or Numba cannot compile it, in Numba's
        own words.
    """
    function = getattr(function, "py_func", function)
    if not isinstance(function, FunctionType):
        raise TypeError(f"{what} must be a Python function, such as lambda x: math.tanh(x), not {function!r}")
    wanted = len(inspect.signature(function).parameters)
    if wanted != len(arguments):
        raise ValueError(
            f"{what} must take {len(arguments)} argument{'s' * (len(arguments) > 1)}, not {wanted}: "
            "let a function that knows the others return it"
        )
    compiled = kernel(fastmath=CONTRACT, checked=True)(function)
    try:
        compiled.compile(arguments)
    except Exception as error:
        raise ValueError(f"Numba cannot compile {what}: {sentence(error)}") from error
    returned = compiled.nopython_signatures[0].return_type
    if not isinstance(returned, types.Integer | types.Float | types.Boolean):
        raise ValueError(f"{what} must return a number or a truth value, not {returned}")
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
    """Closure and global variables by name, those of inner functions too; built-in names stand for themselves.

    Of a module other than `LIBRARIES`, what the function takes from it.
    """
    closure = zip(
        function.__code__.co_freevars, (cell.cell_contents for cell in function.__closure__ or ()), strict=True
    )
    names = _names(function.__code__, "LOAD_GLOBAL", "LOAD_NAME") & function.__globals__.keys()
    found = {**{name: function.__globals__[name] for name in names}, **dict(closure)}
    attributes = _names(function.__code__, "LOAD_ATTR", "LOAD_METHOD")
    for name, value in list(found.items()):
        if isinstance(value, ModuleType) and value.__name__.partition(".")[0] not in LIBRARIES:
            found |= {f"{name}.{each}": getattr(value, each) for each in attributes if hasattr(value, each)}
    return sorted(found.items())


def _names(code: CodeType, *kinds: str) -> set[str]:
    """Return the names that instructions of those kinds load, in inner functions too."""
    inner = (_names(constant, *kinds) for constant in code.co_consts if isinstance(constant, CodeType))
    return {step.argval for step in dis.get_instructions(code) if step.opname in kinds}.union(*inner)


def sentence(error: Exception) -> str:
    """Return Numba's own sentence out of the many lines of its error."""
    lines = [line.strip(" >") for line in str(error).splitlines()]
    told = [line for line in lines if line and not line.startswith("Failed in")]
    return " ".join(itertools.takewhile(lambda line: not line.startswith(("File ", "There are", "During")), told))
