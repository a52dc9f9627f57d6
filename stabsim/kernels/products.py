"""Products of matrices that are added to what is there: `np.dot` only writes."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic
from numba.np.arrayobj import make_array
from numba.np.linalg import check_blas_return, get_blas_kind, ll_char, ll_void_p, make_constant_slot

from stabsim.kernels.batch import group_size
from stabsim.kernels.compile import kernel


def _of(context: Any, builder: Any, kind: Any, array: Any) -> tuple[Any, Any, Any]:
    """Return the numbers of a matrix, how they go to BLAS, and the length of its rows in memory."""
    view = make_array(kind)(context, builder, array)
    rows, columns = cgutils.unpack_tuple(builder, view.shape, 2)
    turned, length = ("t", rows) if kind.layout == "F" else ("n", columns)
    return builder.bitcast(view.data, ll_void_p), ir.Constant(ll_char, ord(turned)), length


def _constants(context: Any, builder: Any, dtype: Any, add: bool) -> tuple[Any, Any, Any]:
    """Return the letter of a type, 1, and what is there times."""
    one, before = (make_constant_slot(context, builder, dtype, value) for value in (1.0, float(add)))
    kind = ir.Constant(ll_char, ord(get_blas_kind(dtype)))
    return kind, builder.bitcast(one, ll_void_p), builder.bitcast(before, ll_void_p)


def _gemm(add: bool) -> Any:
    @intrinsic
    def gemm(_context: Any, left: Any, right: Any, out: Any) -> Any:
        """Call BLAS, whose matrices are transposed: out^T = right^T left^T."""

        def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            x, y, z = (_of(context, builder, *pair) for pair in zip(signature.args, arguments, strict=True))
            rows, columns = cgutils.unpack_tuple(builder, make_array(out)(context, builder, arguments[2]).shape, 2)
            inner = cgutils.unpack_tuple(builder, make_array(left)(context, builder, arguments[0]).shape, 2)[1]
            kind, one, before = _constants(context, builder, out.dtype, add)
            parts = [
                kind, y[1], x[1], columns, rows, inner, one, y[0], y[2], x[0], x[2], before, z[0], z[2],
            ]  # fmt: skip
            function_type = ir.FunctionType(ir.IntType(32), [part.type for part in parts])
            function = cgutils.get_or_insert_function(builder.module, function_type, "numba_xxgemm")
            check_blas_return(context, builder, builder.call(function, parts))
            return context.get_dummy_value()

        return types.void(left, right, out), codegen

    return gemm


def _gemv(add: bool) -> Any:
    @intrinsic
    def gemv(_context: Any, left: Any, right: Any, out: Any) -> Any:
        """Call BLAS for a single row, of which only the first is looked at."""

        def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            x, y, z = (_of(context, builder, *pair) for pair in zip(signature.args, arguments, strict=True))
            inner, columns = cgutils.unpack_tuple(builder, make_array(right)(context, builder, arguments[1]).shape, 2)
            kind, one, before = _constants(context, builder, out.dtype, add)
            sizes = (inner, columns) if right.layout == "F" else (columns, inner)
            parts = [kind, y[1], *sizes, one, y[0], y[2], x[0], before, z[0]]
            function_type = ir.FunctionType(ir.IntType(32), [part.type for part in parts])
            function = cgutils.get_or_insert_function(builder.module, function_type, "numba_xxgemv")
            check_blas_return(context, builder, builder.call(function, parts))
            return context.get_dummy_value()

        return types.void(left, right, out), codegen

    return gemv


_write_gemm, _add_gemm, _write_gemv, _add_gemv = _gemm(False), _gemm(True), _gemv(False), _gemv(True)


@kernel()
def write(left, right, out):
    """Write the product."""
    rows = left.shape[0]
    if rows == 1:
        _write_gemv(left, right, out)
        return
    step = group_size(rows, left.shape[1], right.shape[1])
    for first in range(0, rows, step):
        last = min(first + step, rows)
        _write_gemm(left[first:last], right, out[first:last])


@kernel()
def add(left, right, out):
    """Add the product to what is there."""
    rows = left.shape[0]
    if rows == 1:
        _add_gemv(left, right, out)
        return
    step = group_size(rows, left.shape[1], right.shape[1])
    for first in range(0, rows, step):
        last = min(first + step, rows)
        _add_gemm(left[first:last], right, out[first:last])


@kernel()
def add_inner(left, right, out):
    """Add left^T right, a sum over many rows."""
    _add_gemm(left.T, right, out)
