"""Every elementary function keeps the error bound in its docstring, and its loops are vector code."""

from __future__ import annotations

import functools
import inspect
import math
import platform
import re
from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest
from numba import from_dtype, types
from numpy.typing import NDArray

from stabsim.kernels import elementary
from stabsim.kernels.compile import CONTRACT, atom, kernel, wide_vectors

mpmath.mp.dps = 30
SINGLE, DOUBLE = np.dtype(np.float32), np.dtype(np.float64)
PRECISIONS = (SINGLE, DOUBLE)

Range = tuple[float, float]


def truncated_normal_quantile(v: Any) -> Any:
    mass = mpmath.erf(mpmath.sqrt(2))
    density = mpmath.exp(-2) / mpmath.sqrt(2 * mpmath.pi)
    return mpmath.sqrt(2) * mpmath.erfinv(v * mass) / mpmath.sqrt(1 - 4 * density / mass)


# name: the exact function, and where it is tested in float32 and in float64
EXACT: dict[str, tuple[Callable[[Any], Any], Range, Range]] = {
    "exp": (mpmath.exp, (-104, 88.7), (-746, 709.7)),
    "expm1": (mpmath.expm1, (-104, 88.7), (-746, 709.7)),
    "gaussian": (lambda x: mpmath.exp(-x * x / 2), (-15, 15), (-39, 39)),
    "exp_minus_square": (lambda x: mpmath.exp(-x * x), (-11, 11), (-28, 28)),
    "log": (mpmath.log, (2.0**-126, 3e38), (2.0**-1022, 1e308)),
    "log1p": (mpmath.log1p, (0, 1), (0, 1)),
    "tanh": (mpmath.tanh, (-10, 10), (-20, 20)),
    "sigmoids[0]": (lambda x: 1 / (1 + mpmath.exp(-x)), (-103, 20), (-745, 40)),
    "sigmoids[1]": (lambda x: 1 / (1 + mpmath.exp(x)), (-20, 103), (-40, 745)),
    "sin": (mpmath.sin, (-8192, 8192), (-1e7, 1e7)),
    "cos": (mpmath.cos, (-8192, 8192), (-1e7, 1e7)),
    "sincos_turn[0]": (lambda u: mpmath.sinpi(2 * u), (0, 1), (0, 1)),
    "sincos_turn[1]": (lambda u: mpmath.cospi(2 * u), (0, 1), (0, 1)),
    "erf": (mpmath.erf, (-4.5, 4.5), (-6.5, 6.5)),
    "normal_cdf": (mpmath.ncdf, (-14.3, 6), (-38.4, 9)),
    "inverse_erf": (mpmath.erfinv, (-0.955, 0.955), (-0.955, 0.955)),
    "truncated_normal_quantile": (truncated_normal_quantile, (-1, 1), (-1, 1)),
}
FUNCTIONS = sorted({name.partition("[")[0] for name in EXACT})


def scalar(name: str) -> Callable[..., Any]:
    function = getattr(elementary, name.partition("[")[0])
    if "[" not in name:
        return function  # type: ignore[no-any-return]
    k = int(name[-2])
    return atom(lambda x: function(x)[k])  # type: ignore[no-any-return]


@functools.cache
def loop(name: str, dtype: np.dtype[Any]) -> Any:
    number, function = from_dtype(dtype), scalar(name)

    @kernel(types.void(number[::1], number[::1]), fastmath=CONTRACT)
    def compiled(x, y):  # type: ignore[no-untyped-def]
        wide_vectors()
        for i in range(x.size):
            y[i] = function(x[i])

    return compiled


def apply(name: str, x: NDArray[Any]) -> NDArray[Any]:
    y = np.empty_like(x)
    loop(name, x.dtype)(x, y)
    return y


def bound(name: str, dtype: np.dtype[Any]) -> float:
    """Read the stated bound, so that it stands in one place."""
    stated = re.search(r"Error: ([0-9.]+), ([0-9.]+) ulp", str(getattr(elementary, name.partition("[")[0]).__doc__))
    assert stated is not None, f"{name} states no error"
    return float(stated[1 + PRECISIONS.index(dtype)])


def points(name: str, dtype: np.dtype[Any], number: int) -> NDArray[Any]:
    """Spread points over the range, linearly and in magnitude, with its ends, 0 and every power of two."""
    _, single, double = EXACT[name]
    low, high = single if dtype == SINGLE else double
    random = np.random.default_rng(20)
    info = np.finfo(dtype)
    magnitudes = np.exp2(random.uniform(info.minexp, info.maxexp, number))
    powers = np.exp2(np.arange(info.minexp, info.maxexp, max(1, info.maxexp // number), dtype=float))
    near = random.uniform(max(low, -4), min(high, 4), number)
    every = [np.linspace(low, high, number), random.uniform(low, high, number), near, magnitudes, -magnitudes]
    x = np.concatenate([*every, powers, -powers, [0.0, 0.5, 0.25, 0.75]]).astype(dtype)
    return x[(x >= low) & (x <= high)]


def ulps(measured: NDArray[Any], exact: NDArray[Any]) -> NDArray[Any]:
    """Return the distances in spacings of the measured precision at the exact values (numbers or mpmath numbers)."""
    dtype = measured.dtype
    rounded = np.maximum(np.abs(exact.astype(np.float64)).astype(dtype), np.finfo(dtype).tiny)
    return np.asarray(abs(measured.astype(exact.dtype) - exact) / np.spacing(rounded).astype(np.float64)).astype(
        np.float64
    )


@pytest.mark.parametrize("name", EXACT)
def test_double_precision_keeps_its_bound_against_exact_values(name: str) -> None:
    x = points(name, DOUBLE, 300)
    exact = np.array([EXACT[name][0](mpmath.mpf(float(value))) for value in x], dtype=object)
    assert ulps(apply(name, x), exact).max() <= bound(name, DOUBLE)


@pytest.mark.parametrize("name", EXACT)
def test_single_precision_keeps_its_bound_against_double(name: str) -> None:
    x = points(name, SINGLE, 100_000)
    assert ulps(apply(name, x), apply(name, x.astype(np.float64))).max() <= bound(name, SINGLE)


@pytest.mark.parametrize("dtype", PRECISIONS, ids=str)
@pytest.mark.parametrize("name", EXACT)
def test_plain_python_gives_the_same_up_to_fused_multiplication(name: str, dtype: np.dtype[Any]) -> None:
    x = points(name, dtype, 40)
    called = np.array([scalar(name)(value) for value in x])
    assert called.dtype == dtype
    np.testing.assert_array_compare(
        lambda a, b: ulps(a, b) <= 2 * bound(name, dtype), called, apply(name, x), "plain Python against compiled"
    )


def test_other_numbers_are_taken_as_double() -> None:
    assert elementary.exp(1) == elementary.exp(np.float16(1)) == elementary.exp(1.0)
    assert isinstance(elementary.exp(1), np.float64)


INFINITIES = {
    "exp": (0, math.inf),
    "expm1": (-1, math.inf),
    "gaussian": (0, 0),
    "exp_minus_square": (0, 0),
    "tanh": (-1, 1),
    "sigmoids[0]": (0, 1),
    "sigmoids[1]": (1, 0),
    "sin": (math.nan, math.nan),
    "cos": (math.nan, math.nan),
    "erf": (-1, 1),
    "normal_cdf": (0, 1),
}


@pytest.mark.parametrize("dtype", PRECISIONS, ids=str)
@pytest.mark.parametrize("name", INFINITIES)
def test_infinity_and_nan(name: str, dtype: np.dtype[Any]) -> None:
    x = np.array([-math.inf, math.inf, math.nan] * 11, dtype=dtype)  # vectors and the loop's remainder
    np.testing.assert_array_equal(apply(name, x), np.array([*INFINITIES[name], math.nan] * 11, dtype=dtype))


@pytest.mark.parametrize("dtype", PRECISIONS, ids=str)
@pytest.mark.parametrize("name", INFINITIES)
def test_huge_arguments_reach_the_limit(name: str, dtype: np.dtype[Any]) -> None:
    x = np.array([-np.finfo(dtype).max, -1e30, 1e30, np.finfo(dtype).max], dtype=dtype)
    y = apply(name, x)
    if name in ("sin", "cos"):
        assert (np.abs(y) <= 1).all()
    else:
        np.testing.assert_array_equal(y, np.repeat(np.array(INFINITIES[name], dtype=dtype), 2))


@pytest.mark.parametrize("dtype", PRECISIONS, ids=str)
def test_sines_stay_in_range_everywhere(dtype: np.dtype[Any]) -> None:
    x = np.exp2(np.random.default_rng(3).uniform(-20, np.finfo(dtype).maxexp, 100_000)).astype(dtype)
    for name in ("sin", "cos"):
        assert np.abs(apply(name, x)).max() <= 1


@pytest.mark.parametrize("dtype", PRECISIONS, ids=str)
def test_exp_of_large_negative_numbers_is_denormal_then_zero(dtype: np.dtype[Any]) -> None:
    info = np.finfo(dtype)
    edge = math.log(float(info.smallest_subnormal)) if dtype == DOUBLE else math.log(2.0**-149)
    smallest, zero = apply("exp", np.array([edge, edge - 0.7], dtype=dtype))
    assert (smallest, zero) == (info.smallest_subnormal, 0)


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="reads x86-64 assembly")
@pytest.mark.parametrize("dtype", PRECISIONS, ids=str)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_loops_are_vector_code_without_calls(name: str, dtype: np.dtype[Any]) -> None:
    case = name if name in EXACT else f"{name}[0]"
    assembly = assembly_of(loop(case, dtype))
    assert packed_operations(assembly, dtype) > 5
    assert not library_calls(assembly)


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="reads x86-64 assembly")
def test_a_call_would_be_seen() -> None:
    @kernel(types.void(types.float64[::1]), fastmath=CONTRACT)
    def called(x):  # type: ignore[no-untyped-def]
        for i in range(x.size):
            x[i] = math.exp(x[i])

    assert library_calls(assembly_of(called)) == {"exp"}
    assert packed_operations(assembly_of(called), DOUBLE) == 0


def assembly_of(compiled: Any) -> str:
    (assembly,) = compiled.inspect_asm().values()
    return str(assembly)


def packed_operations(assembly: str, dtype: np.dtype[Any]) -> int:
    suffix = "ps" if dtype == SINGLE else "pd"
    return len(re.findall(rf"\bv?(?:add|mul|fn?madd\d+|fn?msub\d+){suffix}\b", assembly))


def library_calls(assembly: str) -> set[str]:
    return set(
        re.findall(r"\b(expm1|exp|log1p|log|tanh|sincos|sin|cos|erfc|erf|pow)f?\b(?=,|$|@)", assembly, re.MULTILINE)
    )


def scaled_erfc(center: float) -> Callable[[Any], Any]:
    def function(t: Any) -> Any:
        x = center * (1 + t) / (1 - t)
        return (x + center) * mpmath.exp(x * x) * mpmath.erfc(x)

    return function


def odd_part(function: Callable[[Any], Any], power: int, subtracted: int) -> Callable[[Any], Any]:
    """Return (f(x) - subtracted x) / x^power as a function of x^2."""
    return lambda y: (function(mpmath.sqrt(y)) - subtracted * mpmath.sqrt(y)) / mpmath.sqrt(y) ** power


def inverse_erf_of_logarithm(w: Any) -> Any:
    x = mpmath.sqrt(-mpmath.expm1(-w))
    return mpmath.erfinv(x) / x


HALF_LOG2, EIGHTH_TURN = 1.01 * math.log(2) / 2, (math.pi / 4) ** 2
# table: the function that it interpolates and the interval, once for both precisions or for each
TABLES: dict[str, list[tuple[Callable[[Any], Any], float, float]]] = {
    "_exp_polynomial": [(lambda r: (mpmath.expm1(r) - r) / r**2, -HALF_LOG2, HALF_LOG2)],
    "_log_single": [(lambda f: (mpmath.log1p(f) - f + f * f / 2) / f**3, math.sqrt(0.5) - 1, math.sqrt(2) - 1)],
    "_log_double": [(odd_part(lambda s: 2 * mpmath.atanh(s), 3, 2), 0, (3 - math.sqrt(8)) ** 2)],
    "_sin_polynomial": [(odd_part(mpmath.sin, 3, 1), 0, EIGHTH_TURN)],
    "_cos_polynomial": [(lambda y: (mpmath.cos(mpmath.sqrt(y)) - 1 + y / 2) / y**2, 0, EIGHTH_TURN)],
    "_tanh_polynomial": [(odd_part(mpmath.tanh, 3, 1), 0, 0.625**2)],
    "_erf_polynomial": [(odd_part(mpmath.erf, 1, 1), 0, 1)],
    "_scaled_erfc_polynomial": [(scaled_erfc(3.0), -1, 7.2 / 13.2), (scaled_erfc(3.5), -1, 24 / 31)],
    "_inverse_erf_polynomial": [(inverse_erf_of_logarithm, 0, 2.5)],
}


@pytest.mark.parametrize("name", TABLES)
def test_tables_interpolate_at_chebyshev_nodes(name: str) -> None:
    tables = inspect.getclosurevars(getattr(elementary, name)).nonlocals["tables"]
    for k, coefficients in enumerate(tables.values()):
        function, low, high = TABLES[name][min(k, len(TABLES[name]) - 1)]
        if coefficients:
            expected = interpolation(function, low, high, len(coefficients))
            np.testing.assert_allclose(coefficients, expected, rtol=(1e-6, 1e-9)[k], atol=0)


def interpolation(function: Callable[[Any], Any], low: float, high: float, number: int) -> list[float]:
    """Return the coefficients, highest power first, of the polynomial through the function at Chebyshev nodes."""
    with mpmath.workdps(60):
        nodes = [
            (low + high + (high - low) * mpmath.cospi(mpmath.mpf(2 * k + 1) / (2 * number))) / 2 for k in range(number)
        ]
        nodes = [node if abs(node) > 1e-20 else mpmath.mpf(1e-20) for node in nodes]
        powers = mpmath.matrix([[node ** (number - 1 - k) for k in range(number)] for node in nodes])
        return [float(c) for c in mpmath.lu_solve(powers, mpmath.matrix([function(node) for node in nodes]))]
