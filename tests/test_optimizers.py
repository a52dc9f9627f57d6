"""Optimizers against the formulas as published, closed forms on bowls, the reference table and PyTorch's."""

from __future__ import annotations

import inspect
from itertools import islice
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from stabsim.theory import quadratic
from stabsim.training import OPTIMIZERS, PRESETS, Optimizer, optimizer
from stabsim.training.optimizers import State
from tests.checks import WRONG, must_fail
from tests.naive_optimizers import ORACLES

Floats = NDArray[Any]

CURVATURES = np.array([0.1, 2.0])  # of x^2/20 + y^2
START = np.array([-7.0, 2.0])
STEPS = 60
SPECS = [
    *OPTIMIZERS,
    "sgd(learning_rate=0.95)",
    "momentum(learning_rate=0.1)",
    "momentum(learning_rate=0.3, momentum=0.5)",
    "nesterov(learning_rate=0.2, momentum=0.8)",
    "adagrad(learning_rate=1.5, epsilon=1e-7)",
    "rmsprop(learning_rate=0.1, decay=0.5, epsilon=0.01)",
    "adam(learning_rate=0.3)",
    "adam(learning_rate=0.3, beta1=0, beta2=0, epsilon=0.1)",
    "adam(learning_rate=0.3, epsilon=1e-7, epsilon_beside=uncorrected)",
    "adamw(learning_rate=0.2, beta1=0.7, beta2=0.95, epsilon=0.001, weight_decay=0.4)",
]
WITH_STATE = [name for name in OPTIMIZERS if name != "sgd"]


def path(spec: str, start: Floats, curvatures: Floats, steps: int = STEPS) -> Floats:
    """Return the points of all steps on a bowl, the start first."""
    return optimizer(spec).path(start, lambda points: curvatures.astype(points.dtype) * points, steps)


def naive_path(spec: str, start: Floats, curvatures: Floats, steps: int = STEPS) -> Floats:
    chosen = optimizer(spec)
    columns = []
    for x, curvature in zip(start.tolist(), curvatures.tolist(), strict=True):

        def gradient(x: float, curvature: float = curvature) -> float:
            return curvature * x

        columns.append([x, *islice(ORACLES[chosen.name](x, gradient, **chosen.parameters), steps)])
    return np.array(columns).T


def test_every_entry_has_an_oracle_with_its_defaults_and_a_source() -> None:
    assert list(ORACLES) == list(OPTIMIZERS)
    for name, entry in OPTIMIZERS.items():
        assert entry.source and optimizer(name).source == entry.source
        defaults = {key: each.default for key, each in list(inspect.signature(ORACLES[name]).parameters.items())[2:]}
        defaults.pop("weight_decay" if name == "adam" else "", None)
        assert optimizer(name).parameters == defaults
        assert str(optimizer(str(optimizer(name)))) == str(optimizer(name))


@pytest.mark.parametrize("spec", SPECS)
def test_steps_are_those_that_were_published(spec: str) -> None:
    expected = naive_path(spec, START, CURVATURES)

    def check(found: Floats) -> None:
        assert found == pytest.approx(expected, rel=1e-11, abs=1e-11)

    check(path(spec, START, CURVATURES))
    rate = float(optimizer(spec).parameters["learning_rate"])
    other = str(optimizer(spec)).replace(f"learning_rate={rate:g}", f"learning_rate={rate * WRONG!r}")
    must_fail(check, path(other, START, CURVATURES))
    single = path(spec, START.astype(np.float32), CURVATURES)
    assert single.dtype == np.float32
    assert single == pytest.approx(expected, rel=1e-3, abs=1e-4)


@given(
    name=st.sampled_from([name for name in OPTIMIZERS if name != "adagrad"]),  # whose steps shrink too slowly
    x=st.floats(-10, 10),
    curvature=st.floats(1e-3, 10),
    rate=st.floats(1e-4, 0.1),
)
def test_steps_are_those_that_were_published_anywhere(name: str, x: float, curvature: float, rate: float) -> None:
    spec, start, bend = f"{name}(learning_rate={rate!r})", np.array([x]), np.array([curvature])
    expected = naive_path(spec, start, bend, 20)
    assert path(spec, start, bend, 20) == pytest.approx(expected, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize(("rate", "momentum"), [(0.95, 0.0), (0.1, 0.9), (0.3, 0.7)])  # the first two: the table's
def test_steps_on_a_bowl_in_closed_form(rate: float, momentum: float) -> None:
    spec = f"momentum(learning_rate={rate}, momentum={momentum})" if momentum else f"sgd(learning_rate={rate})"
    for x, curvature in zip(START, CURVATURES, strict=True):
        expected = quadratic.trajectory(x, curvature, rate, np.arange(STEPS + 1), momentum=momentum)
        found = path(spec, np.array([x]), np.array([curvature]))[:, 0]
        assert found == pytest.approx(expected, rel=1e-10, abs=1e-12)


@pytest.mark.parametrize("spec", [spec for spec in SPECS if "uncorrected" not in spec])  # which PyTorch has not
def test_torch_takes_the_same_steps(spec: str) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is optional: its optimizers are a second oracle")
    chosen = optimizer(spec)
    given: dict[str, Any] = {"lr": chosen.parameters["learning_rate"]}
    for ours, theirs in (("epsilon", "eps"), ("decay", "alpha"), ("momentum", "momentum")):
        if ours in chosen.parameters:
            given[theirs] = chosen.parameters[ours]
    if chosen.name.startswith("adam"):
        given["betas"] = (chosen.parameters["beta1"], chosen.parameters["beta2"])
    if chosen.name == "adamw":
        given["weight_decay"] = chosen.parameters["weight_decay"]
    if chosen.name == "nesterov":
        given["nesterov"] = True
    kinds = {"adagrad": "Adagrad", "rmsprop": "RMSprop", "adam": "Adam", "adamw": "AdamW"}
    point = torch.tensor(START, requires_grad=True)
    theirs = getattr(torch.optim, kinds.get(chosen.name, "SGD"))([point], **given)
    expected = [START]
    for _ in range(STEPS):
        theirs.zero_grad()
        (0.5 * torch.tensor(CURVATURES) * point * point).sum().backward()
        theirs.step()
        expected.append(point.detach().numpy().copy())
    assert path(spec, START, CURVATURES) == pytest.approx(np.array(expected), rel=1e-11, abs=1e-11)


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_point_is_the_same_whatever_is_beside_it(name: str, dtype: str) -> None:
    random = np.random.default_rng(1)
    points, gradients = random.normal(size=(2, 7, 13)).astype(dtype)  # rows that fill no vector
    chosen = optimizer(name)
    whole = points.copy()
    state = chosen.start(whole)
    for _ in range(3):
        chosen.step(whole, gradients, state)
    for i in range(len(points)):
        one = points[i : i + 1].copy()
        state = chosen.start(one)
        for _ in range(3):
            chosen.step(one, gradients[i : i + 1], state)
        assert np.array_equal(one[0], whole[i])


@pytest.mark.parametrize("name", WITH_STATE)
def test_some_points_go_on_with_their_own_state(name: str) -> None:
    random = np.random.default_rng(2)
    points, gradients = random.normal(size=(2, 6, 4))
    chosen = optimizer(name)
    state = chosen.start(points)
    chosen.step(points, gradients, state)
    chosen_points = [1, 4]
    some, own = points[chosen_points].copy(), state.of(chosen_points)
    chosen.step(some, gradients[chosen_points], own)
    chosen.step(points, gradients, state)
    assert np.array_equal(some, points[chosen_points]) and own.steps == state.steps == 2


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_what_is_not_finite_is_passed_on_and_stays_where_it_is(name: str) -> None:
    points, gradients = np.ones((3, 2)), np.ones((3, 2))
    gradients[1, 0] = np.nan
    chosen = optimizer(name)
    chosen.step(points, gradients, chosen.start(points))
    assert np.isnan(points[1, 0]) and np.isnan(points).sum() == 1


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_gradient_of_zero_moves_nothing_but_by_decay(name: str) -> None:
    points = np.full((2, 3), 0.5)
    chosen = optimizer(name)
    state = chosen.start(points)
    for _ in range(3):
        chosen.step(points, np.zeros_like(points), state)
    assert points == pytest.approx(0.5 * (1 - 1e-5) ** 3 if name == "adamw" else 0.5, rel=1e-15)


@given(name=st.sampled_from(["adagrad", "rmsprop", "adam"]), scale=st.floats(1e-3, 1e3))
def test_adaptive_steps_do_not_know_the_scale_of_the_loss(name: str, scale: float) -> None:
    spec = f"{name}(learning_rate=0.1, epsilon=1e-300)"
    one, other = path(spec, START, CURVATURES, 10), np.array([START])
    points, chosen = START.copy(), optimizer(spec)
    state = chosen.start(points)
    for _ in range(10):
        chosen.step(points, scale * CURVATURES * points, state)
        other = np.concatenate([other, points[None]])
    assert other == pytest.approx(one, rel=1e-9, abs=1e-9)


def test_presets_are_those_of_the_book_and_may_be_changed() -> None:
    """Learning rates and epsilons of its public code; the trajectories are in the table of reference values."""
    assert {name: optimizer(spec).parameters["learning_rate"] for name, spec in PRESETS.items()} == {
        "bowl_sgd": 0.95, "bowl_momentum": 0.1, "bowl_adagrad": 1.5, "bowl_adam": 0.3,
        "mnist_sgd": 0.01, "mnist_momentum": 0.01, "mnist_adagrad": 0.01, "mnist_rmsprop": 0.01, "mnist_adam": 0.001,
    }  # fmt: skip
    for name, spec in PRESETS.items():
        made = optimizer(name)
        assert str(made) == str(optimizer(spec)) and made.name == name.partition("_")[2] and name not in OPTIMIZERS
        assert made.parameters.get("epsilon", 1e-7) == 1e-7
        assert made.parameters.get("epsilon_beside", "uncorrected") == "uncorrected"
    assert str(optimizer("bowl_momentum(momentum=0.5)")) == "momentum(learning_rate=0.1, momentum=0.5)"


def test_a_path_is_that_of_its_steps_and_leaves_the_start() -> None:
    start = np.array([START, -START])
    found = optimizer("bowl_adam").path(start, lambda x: CURVATURES * x, 3)
    assert found.shape == (4, 2, 2) and np.array_equal(found[0], start) and np.array_equal(start[0], START)
    assert np.array_equal(found[:, 0], path("bowl_adam", START, CURVATURES, 3)) and np.array_equal(
        found[1:, 1], -found[1:, 0]
    )
    assert optimizer("sgd").path(start, lambda x: x, 0).shape == (1, 2, 2)
    with pytest.raises(ValueError, match="steps must be an integer from 0"):
        optimizer("sgd").path(start, lambda x: x, -1)
    with pytest.raises(TypeError, match="gradient must be a function from points to gradients, not 5"):
        optimizer("sgd").path(start, cast(Any, 5), 3)
    with pytest.raises(TypeError, match="start must be a contiguous array of float32 or float64, not 5"):
        optimizer("sgd").path(cast(Any, 5), lambda x: x, 3)


@pytest.mark.parametrize(
    ("spec", "fragment"),
    [
        ("bowl_sdg", "unknown optimizer 'bowl_sdg'; known, nearest first: bowl_sgd"),
        ("bowl_sgd(momentum=0.9)", "unknown parameter of sgd 'momentum'"),
        ("adm", "unknown optimizer 'adm'; known, nearest first: adam"),
        ("adam(lr=0.1)", "unknown parameter of adam 'lr'; known, nearest first: learning_rate"),
        ("sgd(learning_rate=-1)", "learning_rate must be a finite number >= 0, not -1.0"),
        ("sgd(learning_rate=fast)", "learning_rate must be a finite number, not 'fast'"),
        ("momentum(momentum=1)", "momentum must be a finite number >= 0 and < 1, not 1.0"),
        ("rmsprop(decay=1.5)", "decay must be a finite number >= 0 and < 1, not 1.5"),
        ("adagrad(epsilon=0)", "epsilon must be a finite number > 0, not 0.0"),
        ("adam(beta2=-0.1)", "beta2 must be a finite number >= 0 and < 1, not -0.1"),
        ("adam(epsilon_beside=sqrt)", "unknown epsilon_beside 'sqrt'; known, nearest first: "),
        ("adamw(weight_decay=-1)", "weight_decay must be a finite number >= 0, not -1.0"),
        (0.1, "optimizer must be a name or a stabsim.training.Optimizer, not 0.1"),
    ],
)
def test_a_bad_optimizer_is_refused(spec: Any, fragment: str) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        optimizer(spec)
    assert fragment in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("points", "gradients", "fragment"),
    [
        (np.zeros((2, 3)), np.zeros((3, 2)), "gradients must have shape (2, 3) and type float64"),
        (np.zeros((2, 3)), np.zeros((2, 3), np.float32), "not (2, 3) and float32"),
        (np.zeros((2, 3)), [[0.0] * 3] * 2, "gradients must be a contiguous array of float32 or float64, not [["),
        (np.zeros((2, 3))[:, ::2], np.zeros((2, 2)), "points must be a contiguous array"),
        (np.zeros((2, 3), int), np.zeros((2, 3)), "points must be a contiguous array of float32 or float64"),
        (np.broadcast_to(np.zeros(3), (1, 3)), np.zeros((1, 3)), "points must be writable: a step changes them"),
    ],
)
def test_what_does_not_fit_is_refused(points: Any, gradients: Any, fragment: str) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        optimizer("sgd").step(points, gradients, State(0, ()))
    assert fragment in str(caught.value)


def test_a_state_of_another_optimizer_is_refused() -> None:
    points = np.zeros((2, 3))
    state = optimizer("momentum").start(points)
    with pytest.raises(TypeError, match="state must be a State, from start of adam, not None"):
        optimizer("adam").step(points, points.copy(), cast(Any, None))
    with pytest.raises(ValueError, match="state must come from start of adam, not have 1 memories"):
        optimizer("adam").step(points, points.copy(), state)
    with pytest.raises(ValueError, match=r"memories must have shape \(4, 3\)"):
        optimizer("momentum").step(np.zeros((4, 3)), np.zeros((4, 3)), state)


def test_float32_does_not_take_what_it_cannot_hold() -> None:
    with pytest.raises(ValueError, match=r"^optimizer: epsilon=1e-50 of adam: .* 0 or from 1\.18e-38 to 3\.4e\+38$"):
        optimizer("adam(epsilon=1e-50)").start(np.zeros(3, np.float32))
    with pytest.raises(ValueError, match=r"learning_rate=1e\+39 of sgd: outside the normal range of float32"):
        optimizer("sgd(learning_rate=1e39)").start(np.zeros(3, np.float32))
    assert optimizer("sgd(learning_rate=1e39)").start(np.zeros(3)).steps == 0
    assert isinstance(optimizer("adam(epsilon=1e-50)"), Optimizer)
