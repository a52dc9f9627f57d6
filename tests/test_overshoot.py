"""When heavy ball crosses, turns and is carried by its momentum, against iteration in rational numbers."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stabsim.theory import overshoot, quadratic
from tests.checks import WRONG, must_fail

STEPS = 40
SIXTEENTHS = st.integers(0, 15).map(lambda n: n / 16)  # few digits: fractions stay short
PRODUCTS = st.integers(1, 160).map(lambda n: n / 40)


class Swing(NamedTuple):
    """What the first swing does within `STEPS`; None for what does not happen."""

    crossed: bool
    turned: int | None
    overshoot: Fraction
    outweighed: int | None


def naive(product: float, momentum: float) -> Swing:
    """Iterate as the algorithm is written, exactly, until x turns."""
    p, a = Fraction(product), Fraction(momentum)
    x, v, crossed, outweighed = Fraction(1), Fraction(0), False, None
    for t in range(STEPS):
        if outweighed is None and abs(a * v) > p * abs(x):
            outweighed = t
        v = a * v - p * x
        if x < 0 <= v:  # the next step goes back, or nowhere
            return Swing(True, t, -x, outweighed)
        x += v
        crossed |= x < 0
    return Swing(crossed, None, Fraction(0), outweighed)


def assert_as_iterated(product: float, momentum: float) -> None:
    swing = naive(product, momentum)
    turn = float(overshoot.turning_steps(product, momentum))
    outweighed = float(overshoot.outweighing_steps(product, momentum))
    far = float(overshoot.first_overshoot(product, momentum))
    if swing.turned is None:
        assert turn >= STEPS - 1 and (math.isfinite(turn) or (not swing.crossed and far == 0.0))
    else:
        assert turn == swing.turned and far == pytest.approx(float(swing.overshoot), rel=1e-9)
    last = STEPS - 1 if swing.turned is None else swing.turned
    assert outweighed == swing.outweighed if swing.outweighed is not None else outweighed >= last


@given(PRODUCTS, SIXTEENTHS)
def test_first_swings_are_those_of_the_iteration(product: float, momentum: float) -> None:
    if momentum in (0.0625, 0.25, 0.5625) and product in ((1 - math.sqrt(momentum)) ** 2, 1.0 - momentum):
        return  # looked at below
    assert_as_iterated(product, momentum)


@pytest.mark.parametrize("momentum", [0.0, 0.0625, 0.25, 0.5625])  # whose roots are exact
def test_double_roots_and_ends_of_the_regions(momentum: float) -> None:
    root = math.sqrt(momentum)
    for product in ((1 - root) ** 2, (1 + root) ** 2, 1 + momentum, 2 * (1 + momentum), 4.0):
        assert_as_iterated(product, momentum)
    edge = (1 - root) ** 2
    assert overshoot.turning_steps(edge, momentum) == math.inf and overshoot.first_overshoot(edge, momentum) == 0.0
    assert overshoot.turning_steps(edge * (1 + 1e-9) + 1e-12, momentum) < math.inf
    assert overshoot.largest_rate_without_crossing(4.0, momentum) == edge / 4.0
    assert overshoot.outweighing_steps(2 * (1 + momentum), momentum) == math.inf


def test_regions_are_those_that_are_stated() -> None:
    p, a = np.meshgrid(np.linspace(0.003, 3.997, 400), np.linspace(0.0, 0.99, 100))
    away = np.ones(p.shape, bool)
    for edge in ((1 - np.sqrt(a)) ** 2, 0.5 - a, 1 + a):
        away &= abs(p - edge) > 1e-6
    low = (1 - np.sqrt(a)) ** 2
    crosses, outweighs = np.isfinite(overshoot.turning_steps(p, a)), np.isfinite(overshoot.outweighing_steps(p, a))
    assert np.array_equal(crosses[away], (p > low)[away])
    assert np.array_equal((outweighs & ~crosses)[away], ((a > 0.25) & (p > 0.5 - a) & (p <= low))[away])
    large = away & (a > 0.25)
    assert np.array_equal(outweighs[large], ((p > 0.5 - a) & (p < 1 + a))[large])
    assert not np.any(outweighs[p >= (1 + np.sqrt(a)) ** 2]) and not np.any(outweighs[a == 0.0])
    some = outweighs[(a > 0) & (a < 0.25) & crosses]
    assert some.any() and not some.all()


@given(st.floats(0.01, 0.99), st.integers(2, 60))
def test_where_a_half_turn_is_whole_the_overshoot_is_a_power_and_else_above(momentum: float, steps: int) -> None:
    root = math.sqrt(momentum)

    def far(half: float) -> float:
        return float(overshoot.first_overshoot(1 + momentum - 2 * root * math.cos(math.pi / half), momentum))

    def check(factor: float) -> None:
        assert factor * far(steps) == pytest.approx(root**steps, rel=1e-6, abs=0.0)

    check(1.0)
    must_fail(check, WRONG)
    assert far(steps + 0.5) >= root ** (steps + 0.5)


def test_the_notes_bowl() -> None:
    """Momentum in x turns after 35 steps, 15% behind the minimum, and in y after 6, 71% behind it."""
    for start, curvature, turn, share in ((-7.0, 0.1, 35, 0.15316), (2.0, 2.0, 6, 0.70897)):
        found = quadratic.trajectory(start, curvature, 0.1, np.arange(60), momentum=0.9)
        relative = np.asarray(found) / start
        assert int(np.argmin(relative)) == turn == overshoot.turning_steps(0.1 * curvature, 0.9)
        assert relative.min() == pytest.approx(-share, abs=1e-5)


@pytest.mark.parametrize(
    ("call", "given_to", "message"),
    [
        (overshoot.turning_steps, (0.0, 0.5), "product must be a finite number > 0, not 0.0"),
        (overshoot.first_overshoot, (0.5, 1.0), "momentum must be a finite number >= 0 and < 1, not 1.0"),
        (overshoot.outweighing_steps, (math.nan, 0.5), "product must be a finite number > 0, not nan"),
        (overshoot.largest_rate_without_crossing, (1.0, -0.1), ">= 0 and < 1, not -0.1"),
    ],
)
def test_what_is_not_allowed_is_refused(call: Any, given_to: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(*given_to)
