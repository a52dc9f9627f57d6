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
