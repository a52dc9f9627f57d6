"""Every entry of the registry against exact values, and what a user's own activation may and may not be."""

from __future__ import annotations

import math
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mpmath
import numpy as np
import pytest
from numpy.typing import NDArray

from stabsim import names
from stabsim.activations import ACTIVATIONS, Activation, activation, fingerprint, is_registered
from stabsim.activations.compiled import block
from stabsim.activations.own import POINTS
from stabsim.kernels import elementary
from stabsim.kernels.elementary import tanh
from tests.test_elementary import ulps

SPECS = [*ACTIVATIONS, "linear(alpha=-0.3, beta=0.7)", "leaky_relu(slope=0.25)", "elu(alpha=0.7)"]
PRECISIONS = ("float32", "float64")
EPSILON = {dtype: float(np.finfo(dtype).eps) for dtype in PRECISIONS}


def mp(text: str) -> Any:
    return mpmath.mpf(text)


def sigmoid(x: Any) -> Any:
    return 1 / (1 + mpmath.exp(-x))


# f(x, *parameters) in mpmath, as the papers write it
EXACT: dict[str, Callable[..., Any]] = {
    "linear": lambda x, alpha, beta: alpha * x + beta,
    "relu": lambda x: max(x, 0),
    "relu6": lambda x: min(max(x, 0), 6),
    "leaky_relu": lambda x, slope: x if x > 0 else slope * x,
    "elu": lambda x, alpha: x if x > 0 else alpha * mpmath.expm1(x),
    "selu": lambda x: mp("1.05070098735548049342") * (x if x > 0 else mp("1.67326324235437728482") * mpmath.expm1(x)),
    "gelu": lambda x: x * mpmath.erfc(-x / mpmath.sqrt(2)) / 2,
    "gelu_tanh": lambda x: x * sigmoid(2 * mpmath.sqrt(2 / mpmath.pi) * (x + mp("0.044715") * x**3)),
    "silu": lambda x: x * sigmoid(x),
    "softplus": lambda x: mpmath.log1p(mpmath.exp(x)),
    "sigmoid": sigmoid,
    "scaled_sigmoid": lambda x: 4 * sigmoid(x) - 2,
    "tanh": mpmath.tanh,
    "lecun_tanh": lambda x: mp("1.7159") * mpmath.tanh(2 * x / 3),
    "hard_tanh": lambda x: min(max(x, -1), 1),
    "softsign": lambda x: x / (1 + abs(x)),
    "erf": mpmath.erf,
    "sine": mpmath.sin,
}


def exact(spec: str, dtype: str, x: NDArray[Any], order: int = 0) -> NDArray[Any]:
    """Return f or a derivative, the parameters rounded to the dtype, as mpmath numbers."""
    entry = activation(spec)
    parameters = [mpmath.mpf(float(np.dtype(dtype).type(value))) for value in entry.parameters.values()]
    with mpmath.workdps(200):  # far in a tail, a difference of f has to keep digits of 1 - 1e-90
        values = [mpmath.diff(lambda t: EXACT[entry.name](t, *parameters), mpmath.mpf(float(v)), order) for v in x]
    return np.array(values, dtype=object)


def points(entry: Activation, dtype: str, number: int) -> NDArray[Any]:
    """Spread points over the middle and both tails, none of them at a kink."""
    random = np.random.default_rng(6)
    x = np.concatenate(
        [
            random.uniform(-4, 4, number),
            random.uniform(-14, 14, number // 2),
            random.uniform(-80, 80, number // 4),
            np.outer([-1, 1], 10.0 ** random.uniform(-8, 0, number // 8)).ravel(),
        ]
    ).astype(dtype)
    reach = 14 if entry.name == "erf" else 80  # erf is 1 within e-85 at 14
    return np.asarray(x[~np.isin(x, entry.kinks) & (np.abs(x) <= reach)])


def apply(entry: Activation, s: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    z, d = np.full_like(s, np.nan), np.full_like(s, np.nan)
    block(entry, s.dtype)(s, z, d)
    return z, d


def each(entry: Activation, role: str, x: NDArray[Any]) -> NDArray[Any]:
    """Call a scalar function from Python, one element at a time."""
    parameters = [x.dtype.type(value) for value in entry.parameters.values()]
    return np.array([getattr(entry, role)(value, *parameters) for value in x])


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("spec", SPECS)
def test_blocks_keep_the_stated_errors(spec: str, dtype: str) -> None:
    entry = activation(spec)
    s = points(entry, dtype, 100)
    x = np.abs(s)
    exponent = {"gelu_tanh": 1.6 * x + 0.0714 * x**3, "lecun_tanh": 4 / 3 * x}.get(entry.name, 0 * x)
    allowed = 8 + 2 * exponent
    smallest = 1e-36 if dtype == "float32" else 1e-306
    through_zero = (s > -3) & (s < 0) if entry.name in ("gelu", "gelu_tanh", "silu") else np.zeros(s.size, bool)
    for order, measured in enumerate(apply(entry, s)):
        expected = exact(spec, dtype, s, order)
        error = ulps(measured, expected)
        if order == 1:
            quarter = np.spacing(s.dtype.type(0.25))
            error[through_zero] *= np.spacing(np.abs(measured[through_zero])) / quarter
        excess = (error > allowed) & (abs(expected) > smallest)
        assert not excess.any(), (s[excess], error[excess])


@pytest.mark.parametrize("spec", SPECS)
def test_second_derivatives(spec: str) -> None:
    entry = activation(spec)
    s = points(entry, "float64", 40)
    s = s[np.abs(s) < 14]
    expected = exact(spec, "float64", s, 2).astype(float)
    np.testing.assert_allclose(each(entry, "second_derivative", s), expected, rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize("spec", SPECS)
def test_python_and_block_agree(spec: str) -> None:
    entry = activation(spec)
    for dtype in PRECISIONS:
        s = points(entry, dtype, 16)
        for role, compiled in zip(("f", "derivative"), apply(entry, s), strict=True):
            called = each(entry, role, s)
            assert called.dtype == dtype
            np.testing.assert_allclose(called, compiled, rtol=2000 * EPSILON[dtype], atol=4 * EPSILON[dtype])


@pytest.mark.parametrize("spec", SPECS)
def test_single_precision_agrees_with_double(spec: str) -> None:
    entry = activation(spec)
    s = np.linspace(-6, 6, 999, dtype=np.float32)
    for single, double in zip(apply(entry, s), apply(entry, s.astype(np.float64)), strict=True):
        np.testing.assert_allclose(single, double, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("spec", SPECS)
def test_smooth_but_at_the_kinks(spec: str) -> None:
    entry = activation(spec)
    grid = np.concatenate([np.linspace(-3, 3, 601), entry.kinks])
    jump = [abs(entry.evaluate("derivative", x + 1e-9) - entry.evaluate("derivative", x - 1e-9)) for x in grid]
    bend = [abs(_bend(entry, x)) for x in grid]
    for x, first, second in zip(grid, jump, bend, strict=True):
        assert (max(first, second) > 1e-3) == (x in entry.kinks), x


def _bend(entry: Activation, x: float) -> float:
    """Return how much f'' (taken from f' on either side) changes at x."""
    f1 = [entry.evaluate("derivative", x + k * 1e-5) for k in (-2, -1, 1, 2)]
    return ((f1[3] - f1[2]) - (f1[1] - f1[0])) / 1e-5


def test_values_at_the_kinks() -> None:
    assert [activation("relu").evaluate(role, 0) for role in ("f", "derivative")] == [0, 0]
    assert activation("leaky_relu").evaluate("derivative", 0) == 0.01
    assert activation("elu(alpha=2)").evaluate("derivative", 0) == 2
    assert [activation("hard_tanh").evaluate("derivative", x) for x in (-1, 1)] == [0, 0]


@pytest.mark.parametrize("spec", SPECS)
def test_asymptotes(spec: str) -> None:
    entry = activation(spec)
    if entry.asymptotes is None:
        start, middle, end = (entry.evaluate("f", x) for x in (1.0e4, 2.0e4, 3.0e4))
        assert abs(end - 2 * middle + start) > 1e-6  # no straight line
        return
    for sign, (slope, offset) in zip((-1, 1), entry.asymptotes, strict=True):
        for x in (sign * 50.0, sign * 1e4):
            assert entry.evaluate("f", x) == pytest.approx(slope * x + offset, rel=1e-12, abs=1e-12)
            assert entry.evaluate("derivative", x) == pytest.approx(slope, rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("spec", SPECS)
def test_positive_homogeneity(spec: str) -> None:
    entry = activation(spec)
    scaled = [entry.evaluate("f", 3 * x) == pytest.approx(3 * entry.evaluate("f", x)) for x in (-2.0, -0.3, 0.1, 2.7)]
    assert all(scaled) == entry.positively_homogeneous


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("spec", SPECS)
def test_huge_numbers_and_nan(spec: str, dtype: str) -> None:
    huge = float(np.finfo(dtype).max) / 16
    s = np.array([-huge, huge, math.nan] * 9, dtype=dtype)
    z, d = apply(activation(spec), s)
    assert np.isfinite(z[:2]).all() and np.isfinite(d[:2]).all()
    assert np.isnan(z[2::3]).all()


@pytest.mark.parametrize("name", ["sigmoid", "tanh", "gelu", "gelu_tanh", "silu", "erf", "elu", "softplus"])
def test_tails_do_not_vanish_before_the_numbers_do(name: str) -> None:
    s = np.array([-3.6], dtype=np.float32) if name == "erf" else np.array([-8.5], dtype=np.float32)
    z, d = apply(activation(name), s)
    assert z[0] != 0 and d[0] != 0


def test_known_values() -> None:
    assert activation("lecun_tanh").evaluate("f", 1) == pytest.approx(1, abs=1e-4)
    assert activation("scaled_sigmoid").evaluate("derivative", 0) == 1
    assert activation("gelu").evaluate("f", 1) == pytest.approx(0.841344746068543)


@pytest.mark.parametrize("size", [0, 1, 3, 17, 4096])
def test_any_length(size: int) -> None:
    s = np.linspace(-2, 2, size, dtype=np.float32)
    z, d = apply(activation("tanh"), s)
    np.testing.assert_allclose(z, np.tanh(s), rtol=1e-6)
    np.testing.assert_allclose(d, 1 / np.cosh(s) ** 2, rtol=1e-6)


@pytest.mark.parametrize("spec", SPECS)
def test_spelling_round_trip(spec: str) -> None:
    entry = activation(spec)
    assert activation(str(entry)) == entry and activation(entry) is entry
    assert fingerprint(entry) == str(entry) and is_registered(entry)
    assert hash(pickle.loads(pickle.dumps(entry))) == hash(entry)
    assert names.parse(str(entry))[1] == dict(entry.parameters)
    assert entry.name in ACTIVATIONS and all(len(line) == 2 for line in entry.asymptotes or ())


def test_every_entry_has_a_source() -> None:
    assert all(factory().source and factory.__doc__ for factory in ACTIVATIONS.values())


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        ("rleu", ValueError, "unknown activation 'rleu'; known, nearest first: relu,"),
        ("leaky_relu(slop=0.1)", ValueError, "'slop'; known, nearest first: slope"),
        ("relu(slope=0.1)", ValueError, "takes no parameters"),
        ("leaky_relu(slope=nan)", ValueError, "nan"),
        ("leaky_relu(slope=steep)", TypeError, "slope of activation 'leaky_relu' must be a finite number, not 'steep'"),
        (3, TypeError, "3"),
        (None, TypeError, "None"),
    ],
)
def test_bad_specs(spec: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        activation(spec)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_bad_dtype() -> None:
    with pytest.raises(ValueError, match="float32 or float64, not 'float16'"):
        block(activation("relu"), "float16")


def own(f: Any, derivative: Any, name: str = "own", **others: Any) -> Activation:
    return Activation(name, f, derivative, **others)


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_own_activation_in_plain_python(dtype: str) -> None:
    mine = own(
        lambda x, rate: x / (1 + math.exp(-rate * x)) if x > -500 else 0,
        lambda x, rate: (1 + math.exp(-rate * x) * (1 + rate * x)) / (1 + math.exp(-rate * x)) ** 2,
        parameters={"rate": 1.5},
    )
    s = np.linspace(-3, 3, 101, dtype=dtype)
    z, d = apply(mine, s)
    sigma = 1 / (1 + np.exp(-1.5 * s.astype(float)))
    np.testing.assert_allclose(z, s * sigma, rtol=0, atol=8 * EPSILON[dtype])
    np.testing.assert_allclose(d, sigma * (1 + 1.5 * s * (1 - sigma)), rtol=0, atol=8 * EPSILON[dtype])
    assert str(mine) == "own(rate=1.5)" and not is_registered(mine)


def test_own_activation_from_elementary_functions() -> None:
    mine = own(lambda x: x - elementary.tanh(x), lambda x: elementary.tanh(x) ** 2)
    s = np.linspace(-3, 3, 101)
    z, d = apply(mine, s)
    np.testing.assert_allclose(z, s - np.tanh(s), atol=1e-15)
    np.testing.assert_allclose(d, np.tanh(s) ** 2, atol=1e-15)


def test_own_activation_is_compiled_once() -> None:
    mine = own(lambda x: 2 * x, lambda _: 2)
    assert block(mine, "float32") is block(mine, np.float32)


def test_a_wrong_derivative_is_refused_with_point_and_values() -> None:
    wrong = own(lambda x: x * x, lambda x: 2 * x if x < 3 else x)
    with pytest.raises(ValueError, match=r"'own' is 3.21\d* at x = 3.21\d*, but a finite difference of f is 6.4\d*"):
        block(wrong, "float64")


def test_a_derivative_may_jump_at_a_stated_kink() -> None:
    x = POINTS[40]
    assert block(own(lambda s: abs(s - x), lambda s: 1 if s > x else -1, kinks=(x,)), "float64") is not None
    with pytest.raises(ValueError, match=f"at x = {x:.6g}"):
        block(own(lambda s: abs(s - x), lambda s: 1 if s > x else -1), "float64")


@pytest.mark.parametrize(
    ("f", "derivative", "message"),
    [
        (lambda x: math.log(x), lambda x: 1 / x, "f of activation 'own' fails at x = "),
        (lambda x: x, lambda x: "one", "derivative of activation 'own' fails at x = "),
        (lambda x: mpmath.mpf(x), lambda x: 1, "Numba cannot compile f of activation 'own': Unknown attribute 'mpf'"),
        (
            lambda x: x,
            lambda x: eval("1"),
            "Numba cannot compile derivative of activation 'own': Untyped global name 'eval'",
        ),
    ],
)
def test_what_cannot_be_compiled_is_told_in_one_line(f: Any, derivative: Any, message: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        block(own(f, derivative), "float32")
    assert str(caught.value).startswith(message) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("two words", abs, abs), ValueError, "two words"),
        (("own(x=1)", abs, abs), ValueError, "word without parameters"),
        ((3, abs, abs), TypeError, "3"),
        (("own", 1, abs), TypeError, "f of activation 'own' must be callable, not 1"),
        (("own", abs, None), TypeError, "derivative of activation 'own' must be callable"),
        (("own", abs, abs, "f"), TypeError, "second_derivative"),
        (("own", abs, abs, None, {"a": math.inf}), ValueError, "a must be a finite number, not inf"),
        (("own", abs, abs, None, {}, (math.nan,)), ValueError, "kink"),
        (("own", abs, abs, None, {}, (), (0, 1)), ValueError, "asymptotes must be ((slope, offset), (slope, offset))"),
        (("own", abs, abs, None, {}, (), ((0, 1), (math.inf, 1))), ValueError, "asymptote must be a finite number"),
        (("own", abs, abs, None, {}, (), None, False, 1), TypeError, "affine must be True or False, not 1"),
        (("own", abs, abs, None, {}, (), None, False, True), ValueError, "must be one line twice, not None"),
        (
            ("own", abs, abs, None, {}, (), ((0, 1), (1, 1)), False, True),
            ValueError,
            "must be one line twice, not ((0.0",
        ),
        (
            ("own", abs, abs, None, {}, (), None, False, False, "", 1),
            TypeError,
            "gaussian_means of activation 'own' must",
        ),
    ],
)
def test_bad_activations(arguments: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        Activation(*arguments)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def scaled(factor: float) -> Activation:
    return own(lambda x: factor * x, lambda _: factor)


GLOBAL = 2.0


def test_fingerprints_tell_own_functions_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    def from_global() -> Activation:
        return own(lambda x: (lambda y: GLOBAL * y)(x), lambda _: 2.0)

    plain = [own(lambda x: x, lambda _: 1), own(lambda x: x + 1, lambda _: 1), own(lambda x: x + 2, lambda _: 1)]
    before = [fingerprint(entry) for entry in (*plain, scaled(2), scaled(3), from_global())]
    assert len(set(before)) == len(before)
    assert fingerprint(scaled(2)) == fingerprint(scaled(2))
    assert fingerprint(own(lambda x: tanh(x), lambda x: 1 - tanh(x) ** 2)) not in before
    assert fingerprint(own(lambda x: x, lambda _: 1, name="tanh")).startswith("tanh (None, False) sha256:")
    lines = ((0.0, 0.0), (1.0, 0.0))
    assert fingerprint(own(lambda x: x, lambda _: 1, asymptotes=lines)) not in before
    monkeypatch.setattr(sys.modules[__name__], "GLOBAL", 4.0)
    assert fingerprint(from_global()) not in before


def test_fingerprint_refuses_what_it_cannot_identify() -> None:
    thing = object()
    with pytest.raises(TypeError, match="cannot identify <object"):
        fingerprint(own(lambda x: (thing, x)[1], lambda _: 1))


SECOND_PROCESS = """
import numpy as np
from stabsim.activations import activation
from stabsim.activations.compiled import block
from stabsim.kernels import compile
for spec in ("tanh", "leaky_relu(slope=0.3)", "leaky_relu(slope=0.4)"):
    compiled = block(activation(spec), "float32")
    s = np.array([-1.0], np.float32)
    z, d = s.copy(), s.copy()
    compiled(s, z, d)
    print(sum(compiled.stats.cache_hits.values()), z[0])
"""


def test_a_second_process_loads_what_the_first_compiled(tmp_path: Path) -> None:
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-c", SECOND_PROCESS]
    first, second = (
        subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.split()
        for _ in range(2)
    )
    assert first[0::2] == ["0", "0", "0"] and second[0::2] == ["1", "1", "1"]
    assert first[1::2] == second[1::2] == ["-0.7615942", "-0.3", "-0.4"]


def test_what_is_said_of_a_users_function_is_held_against_it() -> None:
    def slope(x: float) -> float:
        return 1 - math.tanh(x) ** 2

    for promise, words in (
        ({"positively_homogeneous": True}, "positively_homogeneous of activation 'mine'"),
        ({"asymptotes": ((0, 0), (0, 0))}, "asymptotes of activation 'mine' say that"),
        ({"asymptotes": ((1, 0), (1, 0)), "affine": True}, "affine of activation 'mine' say that"),
    ):
        mine = Activation("mine", lambda x: math.tanh(x), slope, **promise)
        with pytest.raises(ValueError, match=words):
            block(mine, "float64")
    with pytest.raises(TypeError, match="positively_homogeneous must be True or False, not 'maybe'"):
        Activation("mine", slope, slope, positively_homogeneous="maybe")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"must be a Python function, such as .* not <built-in function tanh>"):
        block(Activation("mine", math.tanh, slope), "float64")
    with pytest.raises(ValueError, match="derivative of activation 'bent' is 1"):
        block(Activation("bent", lambda x: x if x < 20 else 2 * x - 20, lambda _: 1.0), "float64")
