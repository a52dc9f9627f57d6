"""Scalar functions for both precisions: one name, a body chosen by the type of the argument, and integers in floats.

A Python literal is float64, and one float64 in a float32 formula makes all of it float64; so constants are written
`T(0.5)` where `T = type(x)`, and tables of coefficients come in both precisions.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numba.core import types
from numba.extending import intrinsic, overload

Scalar: TypeAlias = Any  # np.float32 or np.float64, or their Numba types

_INLINE = {"forceinline": True, "error_model": "numpy"}


def by_precision(single: Callable[..., Any], double: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function that is `single` where its first argument is float32, and `double` where it is float64."""

    @functools.wraps(double)
    def choose(x: Scalar, *others: Scalar) -> Any:
        with np.errstate(all="ignore"):
            return single(x, *others) if isinstance(x, np.float32) else double(np.float64(x), *others)

    @overload(choose, jit_options=_INLINE, strict=False)
    def _typed(x: Scalar, *_others: Scalar) -> Any:
        return {types.float32: single, types.float64: double}.get(x)

    return choose


def elementary(function: Callable[..., Any]) -> Callable[..., Any]:
    """Make a function of one body for both precisions, with constants written `T(0.5)` where `T = type(x)`."""
    return by_precision(function, function)


@intrinsic
def _horner(_context: Any, x: Any, coefficients: Any) -> Any:
    """Unroll Horner's rule: LLVM gives up on loops over long tuples (measured: 14 ns instead of 0.5)."""

    def codegen(_target: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        value = builder.extract_value(arguments[1], 0)
        for k in range(1, signature.args[1].count):
            value = builder.fadd(builder.fmul(value, arguments[0]), builder.extract_value(arguments[1], k))
        return value

    return x(x, coefficients), codegen


def polynomial(single: tuple[float, ...], double: tuple[float, ...]) -> Callable[..., Any]:
    """Return the polynomial with these coefficients, highest power first, by the precision of its argument."""
    tables = {np.float32: tuple(map(np.float32, single)), np.float64: tuple(map(np.float64, double))}

    def evaluate(x: Scalar) -> Any:
        return functools.reduce(lambda value, coefficient: value * x + coefficient, tables[type(x)])

    @overload(evaluate, jit_options=_INLINE, strict=False)
    def _typed(x: Scalar) -> Any:
        table = tables[np.float32 if x == types.float32 else np.float64]
        return lambda x: _horner(x, table)

    return evaluate


# Integers in floats. Adding 1.5 * 2^23 (2^52) rounds to an integer, which then stands in the lowest bits: no
# conversion between float and integer, which AVX2 lacks for 64 bits and which NaN would make undefined.
_MAGIC_32 = np.float32(1.5 * 2**23)
_MAGIC_64 = np.float64(1.5 * 2**52)
_MAGIC_BITS_64 = _MAGIC_64.view(np.int64)


def _nearest_32(x: Scalar) -> Any:
    return (x + _MAGIC_32) - _MAGIC_32


def _nearest_64(x: Scalar) -> Any:
    return (x + _MAGIC_64) - _MAGIC_64


def _power_of_two_32(n: Scalar) -> Any:
    return np.int32(np.float32(n + np.float32(_MAGIC_32 + 127)).view(np.int32) << np.int32(23)).view(np.float32)


def _power_of_two_64(n: Scalar) -> Any:
    return np.int64(np.float64(n + (_MAGIC_64 + 1023)).view(np.int64) << np.int64(52)).view(np.float64)


def _quadrant_32(n: Scalar) -> Any:
    q = np.float32(n + _MAGIC_32).view(np.int32)
    return (q & np.int32(1)) != 0, (q & np.int32(2)) != 0, (np.int32(q + np.int32(1)) & np.int32(2)) != 0


def _quadrant_64(n: Scalar) -> Any:
    q = np.float64(n + _MAGIC_64).view(np.int64)
    return (q & 1) != 0, (q & 2) != 0, ((q + 1) & 2) != 0


def _leading_half_32(x: Scalar) -> Any:
    return np.int32(np.float32(x).view(np.int32) & np.int32(-(1 << 12))).view(np.float32)


def _leading_half_64(x: Scalar) -> Any:
    return np.int64(np.float64(x).view(np.int64) & np.int64(-(1 << 27))).view(np.float64)


_SQRT_HALF_BITS_32 = np.float32(np.sqrt(0.5)).view(np.int32)
_SQRT_HALF_BITS_64 = np.float64(np.sqrt(0.5)).view(np.int64)


def _mantissa_32(x: Scalar) -> Any:
    bits = np.float32(x).view(np.int32)
    exponent = np.int32(np.int32(bits - _SQRT_HALF_BITS_32) >> np.int32(23))
    return np.int32(bits - np.int32(exponent << np.int32(23))).view(np.float32), np.float32(exponent)


def _mantissa_64(x: Scalar) -> Any:
    bits = np.float64(x).view(np.int64)
    exponent = (bits - _SQRT_HALF_BITS_64) >> np.int64(52)
    as_float = np.int64(exponent + _MAGIC_BITS_64).view(np.float64) - _MAGIC_64
    return np.int64(bits - (exponent << np.int64(52))).view(np.float64), as_float


nearest = by_precision(_nearest_32, _nearest_64)
power_of_two = by_precision(_power_of_two_32, _power_of_two_64)
quadrant = by_precision(_quadrant_32, _quadrant_64)  # odd, sine negative, cosine negative
leading_half = by_precision(_leading_half_32, _leading_half_64)  # so that its square is exact
mantissa = by_precision(_mantissa_32, _mantissa_64)  # x = m 2^k -> m in [sqrt(1/2), sqrt(2)), k
