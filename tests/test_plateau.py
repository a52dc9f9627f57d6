"""Passages of optimizers across plateaus, from saddles and down cliffs: oracle, closed forms, noise."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stabsim.kernels.passages import PROFILES
from stabsim.theory import plateau as theory
from stabsim.training import OPTIMIZERS, optimizer
from stabsim.training.profiles import SHAPES, passages, shape
from tests import naive_passages
from tests.checks import WRONG, assert_agrees, must_fail


def fixed(name: str, rate: float = 0.01) -> Any:
    return optimizer(f"{name}(learning_rate={rate!r})")


def test_theory_knows_every_optimizer() -> None:
    assert list(theory.RULES) == list(OPTIMIZERS)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_crossings_are_those_of_the_oracle(name: str) -> None:
    chosen = fixed(name, 0.043)
    for start, values in ((-0.3, (0.7, 0.2, 1.0, 0.15)), (0.0, (0.7, 0.05, 2.0, 0.5)), (0.5, (1.0, 0.0, 1.0, 0.1))):
        width, slope, outside, edge = values
        spec = f"plateau(width={width}, slope={slope}, outside={outside}, edge={edge})"
        found = passages(spec, chosen, [[start]], [0.0, width], most_steps=300).steps[0].tolist()
        assert found == naive_passages.crossing(name, dict(chosen.parameters), start, values, 300)


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("slope", [1.0, 1e-3, 1e-6, 1e-9])
def test_crossings_from_rest_have_a_closed_form(name: str, slope: float) -> None:
    chosen, width = fixed(name, 0.01), 0.03 if name in ("sgd", "momentum", "nesterov") and slope < 1e-3 else 0.9
    rate = 0.01 if slope >= 1e-3 else 0.01 / slope if name in ("sgd", "momentum", "nesterov") else 0.01
    chosen = fixed(name, rate)
    expected = theory.crossing_steps(name, chosen.parameters, width, slope)
    spec = f"plateau(width={width}, slope={slope!r})"
    steps = passages(spec, chosen, [[0.0]], [width], most_steps=400_000).steps[0, 0]
    if math.isinf(expected):
        assert steps == -1
        return

    def check(value: float) -> None:
        assert abs(steps - value) <= 1 + 1e-5 * steps

    check(expected)
    if expected > 100:
        must_fail(check, WRONG * expected)


@pytest.mark.parametrize("slope", [1e-6, 1e-9])
def test_crossings_know_the_place_of_epsilon(slope: float) -> None:
    """Beside the uncorrected root it counts as 1 / sqrt(1 - beta2^t) times as much: 1581 steps, not 1100."""
    chosen = optimizer("adam(learning_rate=0.01, epsilon_beside=uncorrected)")
    expected = theory.crossing_steps("adam", chosen.parameters, 1.0, slope)
    steps = passages(f"plateau(slope={slope!r})", chosen, [[0.0]], [1.0], most_steps=10_000).steps[0, 0]
    assert 100 < steps == expected
    beside = theory.crossing_steps("adam", fixed("adam").parameters, 1.0, slope)
    assert expected > (1.2 if slope < 1e-8 else 1.0) * beside


@pytest.mark.parametrize("decay", [1e-9, 0.3, 70.0, 100.0, 150.0, 199.0, 200.0])
def test_crossings_under_any_decay_are_those_of_passages(decay: float) -> None:
    """A step keeps 1 - 0.01 decay of the way, which may be none of it, or less."""
    chosen = optimizer(f"adamw(learning_rate=0.01, weight_decay={decay!r})")
    furthest = 0.01 / (0.01 * decay)
    for width in (0.3 * furthest, 0.9 * furthest, 1.05 * furthest, 1.6 * furthest, 3.0 * furthest):
        if width > 10:
            continue
        expected = theory.crossing_steps("adamw", chosen.parameters, width, 0.5)
        found = passages(f"plateau(width={width!r}, slope=0.5)", chosen, [[0.0]], [width], most_steps=5000).steps[0, 0]
        assert found == (-1 if math.isinf(expected) else expected)


@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if name != "adamw"])  # whose start is not the origin
@pytest.mark.parametrize("slope", [0.1, 1e-3, 1e-5])
def test_crossings_with_a_memory_of_steep_slopes_have_a_closed_form(name: str, slope: float) -> None:
    chosen, before = fixed(name, 0.01), 100
    way = passages("plateau(slope=1)", chosen, [[0.0]], [1e9], most_steps=before).ends[0, 0]
    spec = f"plateau(width=0.9, slope={slope!r}, edge=1e-9)"
    first, last = passages(spec, chosen, [[1e-12 - way]], [0.0, 0.9], most_steps=2_000_000).steps[0]
    expected = theory.crossing_steps(name, chosen.parameters, 0.9, slope, outside=1.0, steps_outside=before)
    assert first == before
    assert last == -1 if expected > 2_000_000 else abs(last - first - expected) <= 1 + 1e-5 * expected


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_slope_of_0_is_never_crossed_from_rest(name: str) -> None:
    chosen = fixed(name, 1.0)
    assert math.isinf(theory.crossing_steps(name, chosen.parameters, 1.0, 0.0))
    found = passages("plateau(slope=0)", chosen, [[0.5]], [1.0], most_steps=1000)
    assert found.steps[0, 0] == -1 and found.ends[0, 0] <= 0.5
    if name != "adamw":
        assert found.ends[0, 0] == 0.5


def test_a_slope_of_0_is_crossed_as_far_as_momentum_leads() -> None:
    """A velocity of rate / (1 - momentum) leads on by momentum / (1 - momentum) times itself."""
    parameters = {"learning_rate": 0.01, "momentum": 0.9}
    for width, crossed in ((0.899, True), (0.901, False)):
        found = theory.crossing_steps("momentum", parameters, width, 0.0, outside=1.0, steps_outside=10_000)
        assert math.isfinite(found) == crossed


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_saddles_are_left_after_the_logarithm_of_the_distance(momentum: float) -> None:
    spec = f"momentum(learning_rate=0.01, momentum={momentum})"
    for start in (1e-2, 1e-8):
        expected = theory.saddle_escape_steps(start, 1.0, 2.0, 0.01, momentum)
        steps = passages("saddle", spec, [[1.0, start], [0.3, -start]], [1.0], most_steps=10_000).steps
        assert np.all(steps == steps[0, 0]) and 0 <= steps[0, 0] - expected < 1.01
    far, near = (theory.saddle_escape_steps(start, 1.0, 2.0, 0.01, momentum) for start in (1e-4, 1e-8))
    factor = np.roots([1.0, -(1.02 + momentum), momentum]).max()  # the growth of a step
    assert near - far == pytest.approx(math.log(1e4) / math.log(factor), rel=1e-9)


def test_the_escape_from_a_saddle_is_the_logarithm_without_momentum() -> None:
    for rate in (1e-3, 0.1):
        expected = math.log(1e6) / math.log1p(2 * rate)
        assert theory.saddle_escape_steps(1e-6, 1.0, 2.0, rate) == pytest.approx(expected, rel=1e-12)
    assert theory.saddle_escape_steps(2.0, 1.0, 2.0, 0.1) == 0.0


def test_a_cliff_throws_far_what_is_not_clipped() -> None:
    steep, slope, edge = 100.0, 0.5, 0.1
    spec, chosen = f"cliff(steep={steep}, slope={slope}, edge={edge})", "sgd(learning_rate=0.1)"
    x = [-0.3]
    for _ in range(50):
        x.append(x[-1] - 0.1 * naive_passages.cliff(x[-1], steep, slope, edge))
    for steps in (1, 10, 50):
        ends = passages(spec, chosen, [[-0.3]], [0.0], most_steps=steps).ends
        assert ends[0, 0] == pytest.approx(x[steps], rel=1e-12)
    free = passages(spec, chosen, [[-0.3]], [-0.1], most_steps=1000).steps[0, 0]
    bound = passages(spec, chosen, [[-0.3]], [-0.1], most_steps=1000, bound=1.0).steps[0, 0]
    assert free == next(step for step, each in enumerate(path_of(x, steep, slope, edge)) if abs(each - 1) <= 0.1)
    assert 0 < bound < 50 < free


def path_of(x: list[float], *values: float) -> list[float]:
    for _ in range(1000):
        x.append(x[-1] - 0.1 * naive_passages.cliff(x[-1], *values))
    return x


def test_noise_makes_a_random_walk_of_gradient_descent() -> None:
    runs, steps, rate, sigma, slope = 10_000, 400, 0.01, 0.5, 0.02
    spec = f"plateau(width=1e6, slope={slope})"
    ends = passages(spec, f"sgd(learning_rate={rate})", np.full((runs, 1), 5e5), [1e6], most_steps=steps, noise=sigma)
    moved = ends.ends[:, 0] - 5e5
    deviation = rate * sigma * math.sqrt(steps)
    squares = (moved - rate * slope * steps) ** 2 / deviation**2

    def check(factor: float) -> None:
        assert_agrees(moved.mean(), rate * slope * steps, deviation / math.sqrt(runs))
        assert_agrees(squares.mean(), factor, math.sqrt(2 / runs))

    check(1.0)
    must_fail(check, WRONG**2)


def test_noise_is_a_function_of_seed_and_run() -> None:
    def run(starts: Any, **given: Any) -> Any:
        arguments: dict[str, Any] = {"most_steps": 700, "noise": 1.0, "seed": 3, "threads": 1} | given
        return passages("saddle", "adam", starts, [0.5, 1.0], **arguments)

    starts = np.zeros((11, 2))
    one = run(starts)
    for other in (run(starts, threads=3), run(starts, threads=2)):
        assert np.array_equal(one.steps, other.steps) and np.array_equal(one.ends, other.ends)
    assert np.array_equal(run(starts[:4]).ends, one.ends[:4])
    assert not np.any(run(starts, seed=4).ends == one.ends)
    assert len(np.unique(one.ends)) == one.ends.size


@given(drift=st.floats(0.0, 0.3), cells=st.integers(200, 400))
def test_noisy_crossings_are_those_of_a_walk_on_a_grid(drift: float, cells: int) -> None:
    """A step up or down by 1 cell, reflected at 0: T(i) = 1 + p T(i+1) + q T(i-1), solved exactly."""
    p = 0.5 * (1 + drift / 10)
    mean = 2 * p - 1
    back = np.zeros(cells + 1)  # T(i) - T(i + 1)
    back[0] = 1.0
    for i in range(1, cells):
        back[i] = (1 + (1 - p) * back[i - 1]) / p
    found = theory.noisy_crossing_steps(cells, mean, 1.0)

    def check(value: float) -> None:
        assert value == pytest.approx(back[:cells].sum(), rel=0.02)

    check(found)
    must_fail(check, WRONG * found)


def test_noisy_crossings_at_both_ends() -> None:
    assert theory.noisy_crossing_steps(2.0, 1e-12, 0.1) == pytest.approx(400.0, rel=1e-6)
    assert theory.noisy_crossing_steps(2.0, 0.1, 1e-4) == pytest.approx(20.0, rel=1e-5)
    sides = [theory.noisy_crossing_steps(1.0, 1e-4 * factor * 0.5, 1.0) for factor in (0.999, 1.001)]
    assert sides[0] == pytest.approx(sides[1], rel=1e-6)


def test_every_profile_has_a_name_and_parameters() -> None:
    assert list(SHAPES) == list(PROFILES)
    for name in PROFILES:
        assert shape(name).name == name


@pytest.mark.parametrize(
    ("given_", "fragment"),
    [
        ({"profile": "plato"}, "unknown profile 'plato'; known, nearest first: plateau"),
        ({"profile": "plateau(length=1)"}, "unknown parameter of plateau 'length'"),
        ({"profile": "plateau(width=0)"}, "width must be a finite number > 0, not 0.0"),
        ({"starts": [0.0]}, "starts must have shape (runs, numbers) = (..., 1)"),
        ({"starts": [[math.nan]]}, "starts must be finite"),
        ({"levels": [1.0, 1.0]}, "levels must be rising numbers, not [1.0, 1.0]"),
        ({"most_steps": -1}, "most_steps must be an integer from 0"),
        ({"noise": -1.0}, "noise must be a finite number >= 0, not -1.0"),
        ({"bound": 0.0}, "bound must be a finite number > 0, not 0.0"),
        ({"seed": -1}, "seed must be an integer from 0"),
    ],
)
def test_a_bad_argument_is_refused(given_: dict[str, Any], fragment: str) -> None:
    arguments: dict[str, Any] = {"optimizer": "sgd", "starts": [[0.0]], "levels": [1.0], "most_steps": 3} | given_
    with pytest.raises((TypeError, ValueError)) as caught:
        passages(arguments.pop("profile", "plateau"), **arguments)
    assert fragment in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        (("sdg", {}, 1.0, 1.0), "unknown rule 'sdg'; known, nearest first: sgd"),
        (("sgd", {"learning_rate": 0.1}, 0.0, 1.0), "width must be a finite number > 0, not 0.0"),
        (("sgd", {"learning_rate": 0.1}, 1.0, -1.0), "slope must be a finite number >= 0, not -1.0"),
        (("sgd", {}, 1.0, 1.0), "parameters of sgd must be learning_rate: learning_rate is missing"),
        (("sgd", {"rate": 0.1}, 1.0, 1.0), "unknown parameter of sgd 'rate'; known, nearest first: learning_rate"),
        (("sgd", {"learning_rate": -1}, 1.0, 1.0), "learning_rate must be a finite number >= 0, not -1.0"),
        (("momentum", {"learning_rate": 1, "momentum": 1}, 1.0, 1.0), "momentum must be a finite number >= 0 and < 1"),
        (("adagrad", {"learning_rate": 1, "epsilon": 0}, 1.0, 1.0), "epsilon must be a finite number > 0, not 0.0"),
        (("adam", optimizer("adam").parameters | {"epsilon_beside": "g"}, 1.0, 1.0), "unknown epsilon_beside 'g'"),
        (
            ("adamw", optimizer("adamw").parameters | {"weight_decay": 3e3}, 1.0, 1.0),
            "learning_rate times weight_decay must be a finite number >= 0 and <= 2, not 3.0",
        ),
    ],
)
def test_what_theory_does_not_know_is_refused(arguments: Any, fragment: str) -> None:
    with pytest.raises(ValueError, match=re.escape(fragment)):
        theory.crossing_steps(*arguments)


def test_momentum_of_a_saddle_is_below_1() -> None:
    with pytest.raises(ValueError, match=r"momentum must be a finite number >= 0 and < 1, not 1\.0"):
        theory.saddle_escape_steps(1e-3, 1.0, 2.0, 0.1, momentum=1.0)
