"""The checks of an argument's value."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from stabsim import checks


@pytest.mark.parametrize("value", [1, 2.5, np.int64(1), np.float32(0.5), np.float16(0.5), Fraction(1, 2)])
def test_real_numbers_of_every_kind_are_numbers(value: Any) -> None:
    number = checks.number("gain", value)
    assert type(number) is float
    assert number == value


@pytest.mark.parametrize("value", [True, np.True_, "1", None, 1j, [1.0], np.ones(1)])
def test_what_is_no_number_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match="gain must be a finite number, not"):
        checks.number("gain", value)


@pytest.mark.parametrize("value", [-0.1, 1.0, 1.1, math.nan, math.inf])
def test_a_factor_is_refused_by_one_message(value: float) -> None:
    message = rf"momentum must be a finite number >= 0 and < 1, not {value}$"
    with pytest.raises(ValueError, match=message):
        checks.factor("momentum", value)
    with pytest.raises(ValueError, match=message):
        checks.array("momentum", [0.0, value], 0.0, 1.0, open_high=True)
    assert checks.factor("momentum", 0) == 0.0 and checks.array("momentum", 0.9, 0.0, 1.0, open_high=True) == 0.9


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, np.float32("nan"), 10**400])
def test_numbers_that_are_not_finite_are_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="gain must be a finite number, not") as caught:
        checks.number("gain", value)
    assert str(value)[:60] in str(caught.value)


class Unspoken:
    def __repr__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    ("value", "spelled"),
    [
        (10**5000, "an int of 16610 bits"),
        (-(10**5000), "an int of 16610 bits"),
        (Unspoken(), "a Unspoken"),
        ("a\nb", r"'a\nb'"),
        (np.zeros((2, 2)), "array([[0., 0.], [0., 0.]])"),
        ("x" * 99, "'" + "x" * 76 + "..."),
    ],
    ids=lambda value: type(value).__name__,
)
def test_any_value_is_brief(value: object, spelled: str) -> None:
    assert checks.brief(value) == spelled
    with pytest.raises(TypeError, match=r"^width must be an integer from 1 to 9, not") as caught:
        checks.whole_number("width", value if not isinstance(value, int) else [value], 1, 9)
    assert "\n" not in str(caught.value)


def test_whole_numbers_that_python_does_not_spell_are_refused_by_name() -> None:
    for check in (checks.number, checks.whole_number):
        with pytest.raises(ValueError, match=r"gain must be .*, not an int of 16610 bits"):
            check("gain", 10**5000)


def test_texts_can_be_written() -> None:
    assert checks.text("note", "\U0001f600 a\nb") == "\U0001f600 a\nb"
    with pytest.raises(ValueError, match=r"note must be a text that UTF-8 can hold, not '\\udc80'"):
        checks.text("note", "\udc80")
    with pytest.raises(TypeError, match="note must be a str, not b'a'"):
        checks.text("note", b"a")


def test_longer_floats_that_are_no_numbers_are_refused_without_a_warning() -> None:
    for value in (np.longdouble("nan"), np.longdouble("1e4000")):
        with pytest.raises(ValueError, match="inputs must be finite"):
            checks.rows("inputs", np.full((2, 3), value), "(samples, features)", (3,))
