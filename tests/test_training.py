"""Training: how it starts, what it is a function of, where it leads, and what is recorded of units."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from stabsim import Network, trace
from stabsim.initializers import INITIALIZERS
from stabsim.kernels.training_record import COLUMNS, RECORDED, record_units
from stabsim.training import Regression, Trained, train
from stabsim.verdicts import pick
from tests import naive
from tests.checks import LIMIT, WRONG, z_scores

Floats = NDArray[np.float64]

SEED = 2**40 + 7
LINEAR = Regression(Network((4, 2), "linear", "lecun_normal"), samples=24, input_mean=0.5, noise=0.1)
FAST = "sgd(learning_rate=0.1)"


@pytest.mark.parametrize("activation", naive.FORMULAS)
def test_every_activation_is_trained(activation: str) -> None:
    """Three steps of one net; the twin's learning rate is wrong by one part in a million."""
    x, y = LINEAR.draw(SEED, 0)
    network, errors = Network((4, 6, 2), activation, "lecun_normal", bias_std=0.3), []
    for factor in (1.0, 1.0 + 1e-6):
        trained = train(
            network, nets=1, steps=3, optimizer=f"sgd(learning_rate={0.1 * factor!r})", data=(x, y), batch=24,
            seed=SEED, output_activation=activation, quantities=("loss",), keep_weights=True, precision="float64",
        )  # fmt: skip
        weights, biases = (
            [None, *[part(layer)[0, 0].copy() for layer in (1, 2)]] for part in (trained.weights, trained.biases)
        )
        formula = naive.FORMULAS[activation]()
        for _ in range(3):
            outputs = naive.run(weights, biases, formula, x, y).activation[-1]
            seen = naive.run(weights, biases, formula, x, 2 * (outputs - y) / y.size)
            for layer in (1, 2):
                weights[layer] -= 0.1 * seen.weight_gradient[layer]
                biases[layer] -= 0.1 * seen.preactivation_gradient[layer].sum(axis=0)
        errors.append(max(np.abs(trained.weights(layer)[0, 1] - weights[layer]).max() for layer in (1, 2)))
    assert errors[0] < 1e-12 < errors[1]


@pytest.mark.parametrize("weights", INITIALIZERS)
@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_nets_start_as_those_of_the_simulator(weights: str, precision: str) -> None:
    network = Network((4, 6, 5, 2), "tanh", weights)
    trained = train(
        network, nets=4, steps=0, data=LINEAR, seed=SEED, quantities=("loss",), keep_weights=True, precision=precision
    )
    seen = trace(network, net=3, seed=SEED, precision=precision)
    for layer in (1, 2, 3):
        assert np.array_equal(trained.weights(layer)[3, 0], np.array(seen.weight[layer]))
        assert np.array_equal(trained.biases(layer)[3, 0], np.array(seen.bias[layer]))


def same(one: Trained, other: Trained) -> bool:
    parts = ("record", "signals", "parameters", "running", "diverged_after")
    return all(np.array_equal(getattr(one, part), getattr(other, part), equal_nan=True) for part in parts)


def several(threads: int, nets: int = 37, **given: Any) -> Trained:
    structure = {name: given.pop(name, None) for name in ("normalization", "skip")}
    arguments: dict[str, Any] = {
        "steps": 60, "optimizer": FAST, "batch": 4, "seed": SEED, "record": (0, 13, 60), "keep_weights": True,
        "data": LINEAR,
    } | given  # fmt: skip
    network = Network((4, 9, 9, 2), "tanh", "he_normal", **structure)
    return train(network, nets=nets, threads=threads, **arguments)


@pytest.mark.parametrize(
    ("precision", "given"),
    [
        ("float32", {}),
        ("float64", {"normalization": "batch", "clipping": "global_norm(bound=0.5)", "optimizer": "adam"}),
        ("float32", {"normalization": "layer", "skip": "skip", "clipping": "adaptive", "optimizer": "nesterov"}),
        ("float32", {"normalization": "batch", "weight_decay": 0.1, "clipping": "value", "optimizer": "adagrad"}),
        ("float16", {"clipping": "norm", "loss_scale": 256.0, "order": "with_replacement", "optimizer": "rmsprop"}),
    ],
)
def test_threads_and_other_nets_change_no_bit(precision: str, given: dict[str, Any]) -> None:
    alone = several(1, precision=precision, **given)
    assert same(alone, several(3, precision=precision, **given))
    fewer = several(2, nets=5, precision=precision, **given)
    for one, other in ((fewer.record, alone.record), (fewer.signals, alone.signals), (fewer.running, alone.running)):
        assert np.array_equal(one, other[:5], equal_nan=True)
    assert np.array_equal(fewer.parameters, alone.parameters[:5])
    assert not same(alone, several(1, precision=precision, **given | {"seed": SEED + 1}))


@pytest.mark.parametrize("factor", [1.95, 2.1])
def test_the_loss_falls_at_every_step_where_the_rate_is_below_2_by_the_curvature(factor: float) -> None:
    """Logistic regression, each input in both classes: the curvature is at most, and at the minimum, X^T X / 4n."""
    half = np.random.default_rng(3).normal(size=(10, 3))
    x, y = np.concatenate([half, half]), np.repeat([[0.0], [1.0]], 10, axis=0)
    design = np.column_stack([x, np.ones(20)])
    curvature = np.linalg.eigvalsh(design.T @ design / 80)[-1]
    trained = train(
        Network((3, 1), "linear", "zeros"), nets=5, steps=100, perturbation=0.01, batch=20,
        data=(x, y), loss="logistic", seed=SEED,
        optimizer=f"sgd(learning_rate={factor / float(curvature)!r})", record=range(101), quantities=("loss",),
        precision="float64",
    )  # fmt: skip
    falls = np.diff(trained.values("loss")[:, :, 0], axis=1) < 0
    assert falls.all() if factor < 2 else not falls.all(axis=1).any()


def test_a_linear_net_finds_the_least_squares() -> None:
    """Gradient descent on a convex loss: it falls at every step, to where NumPy solves it."""
    data = Regression(Network((4, 2), "linear", "lecun_normal"), samples=60, noise=0.5, input_mean=1.0)
    trained = train(
        Network((4, 2), "linear", "lecun_normal"), nets=6, steps=4000, optimizer="sgd(learning_rate=0.2)", batch=60,
        data=data, seed=SEED, record=[*range(0, 200, 10), 4000], quantities=("loss",), keep_weights=True,
        precision="float64",
    )  # fmt: skip
    loss = trained.values("loss")[:, :, 0]
    assert (np.diff(loss, axis=1) < 0).all()
    for net in range(6):
        x, y = data.draw(SEED, net)
        solution = np.linalg.lstsq(np.column_stack([x, np.ones(60)]), y, rcond=None)[0]
        np.testing.assert_allclose(trained.weights(1)[net, -1], solution[:4], rtol=1e-6, atol=1e-8)
        np.testing.assert_allclose(trained.biases(1)[net, -1], solution[4], rtol=1e-6, atol=1e-8)


def test_arrays_are_shared_by_all_nets() -> None:
    own = several(1, nets=3)
    for net in range(3):
        shared = several(1, nets=3, data=LINEAR.draw(SEED, net))
        assert np.array_equal(own.parameters[net], shared.parameters[net])
        assert not np.array_equal(own.parameters[(net + 1) % 3], shared.parameters[(net + 1) % 3])


def test_every_sample_comes_once_an_epoch() -> None:
    """A net without hidden layers, one sample a step: each step moves W along a sample of its own."""
    x, y = np.eye(6), np.ones((6, 1))
    trained = train(
        Network((6, 1), "linear", "zeros"), nets=40, steps=6, optimizer=FAST, data=(x, y), seed=SEED,
        record=range(7), quantities=("loss",), train_biases=False, keep_weights=True,
    )  # fmt: skip
    weights = trained.weights(1)[..., 0]
    assert (np.count_nonzero(weights, axis=2) == np.arange(7)).all()
    firsts = np.argmax(weights[:, 1], axis=1)
    assert len(set(firsts)) == 6  # not one of 40 nets in the order of another


@pytest.mark.parametrize("bias_std", [0.0, 0.5])
def test_a_perturbation_is_normal_and_added(bias_std: float) -> None:
    given: dict[str, Any] = {
        "nets": 200, "steps": 0, "data": LINEAR, "quantities": ("loss",), "keep_weights": True,
    }  # fmt: skip
    network = Network((4, 9, 2), "tanh", "constant(value=0.25)", bias_std=bias_std)
    plain, moved = train(network, **given), train(network, perturbation=0.01, **given)
    added = np.concatenate(
        [moved.weights(1) - plain.weights(1), (moved.biases(1) - plain.biases(1))[:, :, np.newaxis]], axis=2
    )
    error = 0.01 / math.sqrt(2 * added.size)
    assert abs(z_scores(added.std(), 0.01, error)) < LIMIT < abs(z_scores(added.std(), 0.01 * WRONG, error))
    assert abs(z_scores(added.mean(), 0.0, 0.01 / math.sqrt(added.size))) < LIMIT
    fixed = train(network, perturbation=0.01, train_biases=False, **given)
    assert np.array_equal(fixed.biases(1), plain.biases(1))


def units_of(columns: Floats, bias: Floats | None = None) -> dict[str, float]:
    """Return what is recorded of units with these incoming weights."""
    bias = np.zeros(columns.shape[1]) if bias is None else bias
    row = np.full(COLUMNS, np.nan)
    record_units(row, np.ascontiguousarray(np.vstack([columns, bias]).T))
    return {name: row[RECORDED.index(name)] for name in ("distinct_units", "effective_units", "unit_spread")}


def test_units_are_counted_as_in_cases_made_by_hand() -> None:
    one = np.array([0.1, -0.7, 0.3])
    equal = np.tile(one[:, np.newaxis], 5)
    assert units_of(equal) == {"distinct_units": 1.0, "effective_units": 1.0, "unit_spread": 0.0}
    assert units_of(np.zeros((3, 5))) == {"distinct_units": 1.0, "effective_units": 1.0, "unit_spread": 0.0}
    assert units_of(equal, np.array([0.0, 0.0, 1.0, 0.0, 0.0]))["distinct_units"] == 2.0
    assert units_of(np.eye(4))["effective_units"] == pytest.approx(4.0)
    two_kinds = np.repeat(np.eye(2), 3, axis=1)
    found = units_of(two_kinds)
    assert found["distinct_units"] == 2.0
    assert found["effective_units"] == pytest.approx(2.0)
    assert found["unit_spread"] == pytest.approx(math.sqrt(0.5))
    barely = equal.copy()
    barely[0, 4] = np.nextafter(0.1, 1.0)
    assert units_of(barely)["distinct_units"] == 2.0
    assert 0.0 < units_of(barely)["unit_spread"] < 1e-15
    assert 1.0 <= units_of(barely)["effective_units"] < 1.0 + 1e-12


@pytest.mark.parametrize("wrong", [False, True])
def test_units_of_random_weights_are_as_many_as_expected(wrong: bool) -> None:
    """The mean of the sum of squared cosines is n + n (n - 1) / m, m being fan_in + 1; the twin has another m."""
    trained = train(
        Network((7, 12, 2), "tanh", "lecun_normal", bias_std=7**-0.5), nets=400, steps=0,
        data=Regression(Network((7, 2), "linear", "lecun_normal"), samples=2),
    )  # fmt: skip
    cosines = 12**2 / trained.values("effective_units")[:, 0, 1]
    expected = 12 + 12 * 11 / (7.6 if wrong else 8)
    z = z_scores(cosines.mean(), expected, cosines.std() / 20)
    assert (abs(z) < LIMIT) != wrong
    assert (trained.values("distinct_units")[:, 0, 1] == 12).all()


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_equal_units_stay_equal_where_all_weights_are(precision: str) -> None:
    given: dict[str, Any] = {"nets": 8, "steps": 50, "optimizer": FAST, "batch": 4, "precision": precision}
    network = Network((4, 8, 8, 2), "tanh", "constant(value=0.2)")
    equal = train(network, data=LINEAR, **given)
    assert (equal.values("effective_units")[:, :, 1:3] < 1 + 1e-6).all()
    assert (equal.values("loss")[:, 1, 0] < equal.values("loss")[:, 0, 0]).any()
    broken = train(network, data=LINEAR, output_weights="lecun_normal", **given)
    assert (broken.values("distinct_units")[:, 1, 2] == 8).all()
    assert (broken.values("effective_units")[:, 1, 1] < 1 + 1e-6).all()


def test_a_net_without_weights_moves_only_where_a_gradient_is() -> None:
    for activation, moves in (("tanh", False), ("relu", False), ("sigmoid", True)):
        trained = train(
            Network((4, 8, 2), activation, "zeros"), nets=4, steps=20, optimizer=FAST, data=LINEAR, batch=2,
            quantities=("loss",), keep_weights=True,
        )  # fmt: skip
        assert trained.weights(1)[:, 1].any() == moves
        assert trained.weights(2)[:, 1].any() == moves
        assert trained.biases(2)[:, 1].all()


def test_what_diverges_is_counted_and_left_out() -> None:
    """Rates beyond 2 over the largest curvature: some nets are lost, which the table says."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(40, 4))
    with pytest.warns(RuntimeWarning, match="of 30 nets diverged, first after step") as warned:
        trained = train(
            Network((4, 16, 1), "relu", "he_normal"), nets=30, steps=400, optimizer="sgd(learning_rate=0.12)",
            data=(x, x[:, :1]), batch=1, record=(0, 200, 400),
            quantities=("loss", "gradient_norm", "activation_mean"),
        )  # fmt: skip
    assert str(warned[0].message) == trained.divergence and repr(trained).endswith(trained.divergence)
    assert "sgd(learning_rate=0.12)" in repr(trained) and len(repr(trained).splitlines()) == 6
    lost = trained.diverged_after >= 0
    assert 0 < lost.sum() < 30
    loss = trained.values("loss")[:, :, 0]
    assert np.isfinite(loss[~lost]).all()
    for net in np.flatnonzero(lost):
        assert (np.isfinite(loss[net]) == (np.array(trained.steps) < trained.diverged_after[net])).all()
    last = pick(trained.table, quantity="loss", step=400)
    assert last.diverged == lost.sum() == 30 - last.nets
    assert last.estimate == pytest.approx(loss[~lost, 2].mean())
    assert last.std_error == pytest.approx(loss[~lost, 2].std(ddof=1) / math.sqrt((~lost).sum()))


def test_targets_are_what_the_teacher_says() -> None:
    teacher = Network((3, 5, 2), "tanh", "lecun_normal", bias_std=0.2)
    x, y = Regression(teacher, samples=4000, input_mean=2.0).draw(SEED, 1)
    assert x.mean() == pytest.approx(2.0, abs=LIMIT / math.sqrt(x.size))
    near = Regression(teacher, samples=4000, input_mean=2.0, noise=0.5).draw(SEED, 1)[1]
    assert (near - y).std() == pytest.approx(0.5, abs=LIMIT * 0.5 / math.sqrt(2 * y.size))
    assert not np.allclose(y, Regression(teacher, samples=4000, input_mean=2.0).draw(SEED, 2)[1])
    linear = Regression(Network((3, 2), "tanh", "lecun_normal"), samples=50).draw(SEED, 0)
    rest = np.linalg.lstsq(*linear, rcond=None)[1]
    assert rest.max() < 1e-20
