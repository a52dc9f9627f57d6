"""Views of arrays that cost nothing: Numba's own count a reference, an atomic operation, or call a C function.

Measured on the matrix-free sampler at width 128: with Numba's own, more than half of the time goes there.
"""

from __future__ import annotations

from typing import Any

from numba.core import cgutils, types
from numba.extending import intrinsic
from numba.np.arrayobj import make_array, populate_array


@intrinsic
def borrow(_context: Any, value: Any) -> Any:
    """Return an array, or a tuple of arrays, without its reference count: the kernel's caller keeps it alive."""

    def release(context: Any, builder: Any, kind: Any, array: Any) -> Any:
        view = make_array(kind)(context, builder, array)
        view.meminfo = cgutils.get_null_value(view.meminfo.type)
        view.parent = cgutils.get_null_value(view.parent.type)
        return view._getvalue()

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = signature.args[0]
        if isinstance(kind, types.Array):
            return release(context, builder, kind, arguments[0])
        arrays = cgutils.unpack_tuple(builder, arguments[0], len(kind))
        parts = [release(context, builder, each, array) for each, array in zip(kind, arrays, strict=True)]
        return context.make_tuple(builder, kind, parts)

    return value(value), codegen


def _view(context: Any, builder: Any, kind: Any, source: Any, shape: list[Any], strides: list[Any]) -> Any:
    """Return a borrowed view of the numbers of a C-contiguous array."""
    view = make_array(kind)(context, builder)
    populate_array(view, data=source.data, shape=shape, strides=strides, itemsize=source.itemsize, meminfo=None)
    return view._getvalue()


@intrinsic
def flat(_context: Any, array: Any) -> Any:
    """Return all numbers of a C-contiguous array in one dimension, borrowed."""
    kind = array.copy(ndim=1)

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        source = make_array(signature.args[0])(context, builder, arguments[0])
        return _view(context, builder, kind, source, [source.nitems], [source.itemsize])

    return kind(array), codegen


@intrinsic
def as_doubles(_context: Any, vector: Any) -> Any:
    """Return the memory of a contiguous vector, of an even size if it is of float32, as float64, borrowed."""
    kind = vector.copy(dtype=types.float64)

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        source = make_array(signature.args[0])(context, builder, arguments[0])
        itemsize = context.get_constant(types.intp, 8)
        view = make_array(kind)(context, builder)
        size = builder.sdiv(builder.mul(source.nitems, source.itemsize), itemsize)
        data = builder.bitcast(source.data, view.data.type)
        populate_array(view, data=data, shape=[size], strides=[itemsize], itemsize=itemsize, meminfo=None)
        return view._getvalue()

    return kind(vector), codegen


@intrinsic
def as_matrix(_context: Any, vector: Any, rows: Any, columns: Any) -> Any:
    """Return a contiguous vector of ``rows * columns`` (int64) numbers as a matrix, borrowed."""
    kind = vector.copy(ndim=2)

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        source = make_array(signature.args[0])(context, builder, arguments[0])
        shape = [arguments[1], arguments[2]]
        strides = [builder.mul(shape[1], source.itemsize), source.itemsize]
        return _view(context, builder, kind, source, shape, strides)

    return kind(vector, types.int64, types.int64), codegen


@intrinsic
def stretch(_context: Any, vector: Any, first: Any, size: Any) -> Any:
    """Return ``size`` (int64) numbers of a contiguous vector from ``first`` (int64) on, borrowed, nothing checked."""
    if vector.layout != "C":
        raise TypeError(f"a stretch is of a contiguous vector, not of {vector}")
    kind = vector.copy()

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        source = make_array(signature.args[0])(context, builder, arguments[0])
        source.data = builder.gep(source.data, [arguments[1]])
        return _view(context, builder, kind, source, [arguments[2]], [source.itemsize])

    return kind(vector, types.int64, types.int64), codegen
