"""Pointers to compiled functions as whole numbers.

Numba finds the address of each function that it is handed anew, at each call: 70 us a function, which is nothing for a
thousand nets, and more than the loss of a small one takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba.core import cgutils, types
from numba.experimental.function_type import _get_jit_address
from numba.extending import intrinsic
from numpy.typing import NDArray


def addresses(functions: Sequence[tuple[Any, Any]]) -> NDArray[np.int64]:
    """Return where compiled functions are, each given with its signature; they must be kept while it is made use of."""
    return np.array([_get_jit_address(function, signature) for function, signature in functions], np.int64)


def reader(signature: Any) -> Any:
    """Return what makes, in compiled code, a function of that signature of its address."""
    kind = types.FunctionType(signature)

    @intrinsic
    def function_at(_context: Any, address: Any) -> Any:
        def codegen(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            pointer = cgutils.create_struct_proxy(kind)(context, builder)
            null = cgutils.get_null_value(pointer.c_addr.type)
            pointer.c_addr, pointer.py_addr = null, null
            pointer.jit_addr = builder.inttoptr(arguments[0], null.type)
            return pointer._getvalue()

        return kind(types.int64), codegen

    return function_at
