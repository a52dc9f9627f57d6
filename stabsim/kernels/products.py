"""Products of a few rows with matrices that are used many times over, and sums of outer products.

Unlike `np.dot`, they take matrices whose rows are parts of longer rows, and can add to what is there. On AVX-512,
OpenBLAS multiplies without packing up to `batch.SMALL_PRODUCT` multiply-adds, which 16 samples and a wide matrix
exceed: 16 x 512 x 512 goes at 100 GFLOP/s at once, and at 198 in parts of 12 rows and 128 columns.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic
from numba.np.arrayobj import make_array
from numba.np.linalg import check_blas_return, get_blas_kind, ll_char, ll_void_p, make_constant_slot

from stabsim.kernels.batch import SMALL_PRODUCT
from stabsim.kernels.compile import kernel

ROWS = np.int64(4)  # parts have multiples of as many rows: with 15 instead of 12, a product takes a quarter more time
COLUMNS = np.int64(128)


class _Operand:
    """A matrix whose rows are contiguous, or, for layout F, whose columns are: how it goes to BLAS."""

    def __init__(self, context: Any, builder: Any, kind: Any, array: Any) -> None:
        view = make_array(kind)(context, builder, array)
        self.rows, self.columns = cgutils.unpack_tuple(builder, view.shape, 2)
        strides = cgutils.unpack_tuple(builder, view.strides, 2)
        self.turned = kind.layout == "F"
        self.data = builder.bitcast(view.data, ll_void_p)
        self.trans = ir.Constant(ll_char, ord("t" if self.turned else "n"))
        self.step = builder.sdiv(strides[1 if self.turned else 0], view.itemsize)


def _blas(name: str, add: bool) -> Any:
    @intrinsic
    def call(_context: Any, left: Any, right: Any, out: Any) -> Any:
        """Call BLAS, to which rows are columns: out^T = right^T left^T; of a single row, with a matrix and a vector."""

        def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            x, y, z = (_Operand(context, builder, *pair) for pair in zip(signature.args, arguments, strict=True))
            one, before = (
                builder.bitcast(make_constant_slot(context, builder, out.dtype, number), ll_void_p)
                for number in (1.0, float(add))
            )
            kind = ir.Constant(ll_char, ord(get_blas_kind(out.dtype)))
            if name == "gemm":
                sizes = [z.columns, z.rows, x.columns]
                parts = [kind, y.trans, x.trans, *sizes, one, y.data, y.step, x.data, x.step, before, z.data, z.step]
            else:
                sizes = [y.rows, y.columns] if y.turned else [y.columns, y.rows]
                parts = [kind, y.trans, *sizes, one, y.data, y.step, x.data, before, z.data]
            function_type = ir.FunctionType(ir.IntType(32), [part.type for part in parts])
            function = cgutils.get_or_insert_function(builder.module, function_type, f"numba_xx{name}")
            check_blas_return(context, builder, builder.call(function, parts))
            return context.get_dummy_value()

        return types.void(left, right, out), codegen

    return call


write_matrix, _add_matrix, _write_row = _blas("gemm", False), _blas("gemm", True), _blas("gemv", False)


@kernel()
def write(left, right, out):
    """Write the product of a few rows with a matrix."""
    rows, inner = left.shape
    columns = right.shape[1]
    if rows == 1:
        _write_row(left, right, out)
        return
    width, step = columns, rows
    if rows * inner * columns > SMALL_PRODUCT and ROWS * inner * COLUMNS <= SMALL_PRODUCT:
        width = min(columns, COLUMNS)
        step = min(rows, SMALL_PRODUCT // (inner * width) // ROWS * ROWS)
    for left_edge in range(0, columns, width):
        right_edge = min(left_edge + width, columns)
        for first in range(0, rows, step):
            last = min(first + step, rows)
            write_matrix(left[first:last], right[:, left_edge:right_edge], out[first:last, left_edge:right_edge])


@kernel()
def add_inner(left, right, out):
    """Add left^T right, a sum over rows."""
    _add_matrix(left.T, right, out)
