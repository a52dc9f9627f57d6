"""Training by gradient descent: against a loop in NumPy, against least squares, and what is recorded of it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from stabsim import Network, trace
from stabsim.initializers import INITIALIZERS
from stabsim.kernels import philox
from stabsim.kernels.training_record import COLUMNS, RECORDED, record_units
from stabsim.training import Regression, Trained, train
from stabsim.verdicts import pick
from tests import naive
from tests.checks import LIMIT, WRONG, z_scores
from tests.test_random import reference_philox

Floats = NDArray[np.float64]

SEED = 2**40 + 7
LINEAR = Regression(Network((4, 2), "linear", "lecun_normal"), samples=24, input_mean=0.5, noise=0.1)
FAST = "sgd(learning_rate=0.1)"


def epoch_order(samples: int, epoch: int, net: int) -> list[int]:
    """Return the order of an epoch: Fisher and Yates' shuffle, a draw of Philox for each place."""
    order = list(range(samples))
    key = (SEED & 0xFFFFFFFF, SEED >> 32)
    for place in range(samples - 1):
        word = reference_philox((place, epoch, net, int(philox.SAMPLE_ORDER)), key)[0]
        other = place + (word * (samples - place) >> 32)
        order[place], order[other] = order[other], order[place]
    return order


@dataclass
class Oracle:
    """A net in NumPy, trained line by line."""

    weights: list[Floats]
    biases: list[Floats]
    formula: naive.Formula

    def forward(self, x: Floats) -> tuple[list[Floats], list[Floats]]:
        signals, slopes = [x], []
        for layer, (w, b) in enumerate(zip(self.weights, self.biases, strict=True)):
            s = signals[-1] @ w + b
            inner = layer < len(self.weights) - 1
            signals.append(self.formula.f(s) if inner else s)
            slopes.append(self.formula.derivative(s) if inner else np.ones_like(s))
        return signals, slopes

    def loss(self, x: Floats, y: Floats) -> float:
        return float(np.mean((self.forward(x)[0][-1] - y) ** 2))

    def gradients(self, x: Floats, y: Floats) -> list[tuple[Floats, Floats]]:
        signals, slopes = self.forward(x)
        dz, found = 2 * (signals[-1] - y) / y.size, []
        for layer in range(len(self.weights) - 1, -1, -1):
            ds = dz * slopes[layer]
            found.append((signals[layer].T @ ds, ds.sum(axis=0)))
            dz = ds @ self.weights[layer].T
        return found[::-1]


@pytest.mark.parametrize(
    ("activation", "batch", "bias_std", "train_biases"),
    [
        ("tanh", 1, 0.0, True),
        ("relu", 1, 0.3, True),
        ("sigmoid", 5, 0.3, True),
        ("leaky_relu", 24, 0.0, False),
        ("gelu", 7, 0.3, False),
        ("elu", 24, 0.2, True),
    ],
)
def test_training_is_that_of_a_loop_in_numpy(activation: str, batch: int, bias_std: float, train_biases: bool) -> None:
    """Weights after each of 20 steps, everything that is recorded, and the start of the simulator."""
    network, number, steps, rate = Network((4, 6, 5, 2), activation, "he_normal", bias_std=bias_std), 2, 20, 0.1
    trained = train(
        network, nets=3, steps=steps, optimizer=f"sgd(learning_rate={rate})", data=LINEAR, batch=batch, seed=SEED,
        record=range(steps + 1), train_biases=train_biases, keep_weights=True, precision="float64",
    )  # fmt: skip
    start = trace(network, net=number, seed=SEED, precision="float64")
    oracle = Oracle(
        [np.array(w) for w in start.weight[1:]], [np.array(b) for b in start.bias[1:]], naive.FORMULAS[activation]()
    )
    x, y = LINEAR.draw(SEED, number)
    an_epoch, path, before = 24 // batch, np.zeros(4), None
    first: list[Floats] = []
    cosines: list[Floats] = []
    for step in range(steps + 1):
        epoch, place = divmod(step, an_epoch)
        order = epoch_order(24, epoch, number) if batch < 24 else list(range(24))
        rows = order[place * batch : (place + 1) * batch]
        gradients = oracle.gradients(x[rows], y[rows])
        moved = [np.concatenate([dw.ravel(), db * train_biases]) for dw, db in gradients]
        moved = [np.concatenate(moved), *moved]
        at = [np.concatenate([w.ravel(), b]) for w, b in zip(oracle.weights, oracle.biases, strict=True)]
        at = [np.concatenate(at), *at]
        first = first or at
        if before is not None:
            with np.errstate(invalid="ignore"):  # where nothing moves there is no cosine
                pairs = zip(moved, before, strict=True)
                cosines.append(np.array([a @ b / (np.linalg.norm(a) * np.linalg.norm(b)) for a, b in pairs]))
        before = moved
        distance = [np.linalg.norm(a - b) for a, b in zip(at, first, strict=True)]
        expected = {
            "gradient_norm": [np.linalg.norm(each) for each in moved],
            "distance": distance,
            "path_length": path,
            "step_cosine": np.nanmean(cosines, axis=0) if cosines else np.full(4, np.nan),
            "straightness": distance / path if step else np.full(4, np.nan),
        }
        seen = {name: trained.values(name)[number, step] for name in (*expected, "loss")}
        assert seen["loss"][0] == pytest.approx(oracle.loss(x, y), rel=1e-10)
        for name, values in expected.items():
            np.testing.assert_allclose(seen[name], values, rtol=1e-9, atol=1e-12, err_msg=f"{name} after {step}")
        for layer, (w, b) in enumerate(zip(oracle.weights, oracle.biases, strict=True), start=1):
            np.testing.assert_allclose(trained.weights(layer)[number, step], w, rtol=1e-10, atol=1e-13)
            np.testing.assert_allclose(trained.biases(layer)[number, step], b, rtol=1e-10, atol=1e-13)
            dw = gradients[layer - 1][0]
            for kind, known in (
                ("one_signed_column_fraction", naive.one_signed_column_fraction),
                ("dead_column_fraction", naive.dead_column_fraction),
            ):
                np.testing.assert_allclose(trained.values(f"weight_gradient_{kind}")[number, step, layer], known(dw))
        path = path + rate * np.array(expected["gradient_norm"])
        for layer, (dw, db) in enumerate(gradients):
            oracle.weights[layer] -= rate * dw
            oracle.biases[layer] -= rate * db * train_biases


@pytest.mark.parametrize("activation", naive.FORMULAS)
def test_every_activation_is_trained(activation: str) -> None:
    """Three steps of one net; the twin's learning rate is wrong by one part in a million."""
    x, y = LINEAR.draw(SEED, 0)
    network, errors = Network((4, 6, 2), activation, "lecun_normal", bias_std=0.3), []
    for factor in (1.0, 1.0 + 1e-6):
        trained = train(
            network, nets=1, steps=3, optimizer=f"sgd(learning_rate={0.1 * factor!r})", data=(x, y), batch=24,
            seed=SEED, quantities=("loss",), keep_weights=True, precision="float64",
        )  # fmt: skip
        first = [(trained.weights(layer)[0, 0].copy(), trained.biases(layer)[0, 0].copy()) for layer in (1, 2)]
        oracle = Oracle([w for w, _ in first], [b for _, b in first], naive.FORMULAS[activation]())
        for _ in range(3):
            for layer, (dw, db) in enumerate(oracle.gradients(x, y)):
                oracle.weights[layer] -= 0.1 * dw
                oracle.biases[layer] -= 0.1 * db
        errors.append(max(np.abs(trained.weights(layer)[0, 1] - oracle.weights[layer - 1]).max() for layer in (1, 2)))
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
    pairs = ((one.record, other.record), (one.parameters, other.parameters))
    return all(np.array_equal(a, b, equal_nan=True) for a, b in pairs)


def several(threads: int, nets: int = 37, **given: Any) -> Trained:
    arguments: dict[str, Any] = {
        "steps": 60, "optimizer": FAST, "batch": 4, "seed": SEED, "record": (0, 13, 60), "keep_weights": True,
    } | given  # fmt: skip
    return train(Network((4, 9, 7, 2), "tanh", "he_normal"), nets=nets, data=LINEAR, threads=threads, **arguments)


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_threads_and_other_nets_change_no_bit(precision: str) -> None:
    alone = several(1, precision=precision)
    assert same(alone, several(3, precision=precision))
    fewer = several(2, nets=5, precision=precision)
    assert np.array_equal(fewer.parameters, alone.parameters[:5])
    assert not same(alone, several(1, precision=precision, seed=SEED + 1))


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
    x, y = LINEAR.draw(SEED, 0)
    own, shared = several(1, nets=3), train(
        Network((4, 9, 7, 2), "tanh", "he_normal"), nets=3, data=(x, y), steps=60, optimizer=FAST, batch=4,
        seed=SEED, record=(0, 13, 60), keep_weights=True,
    )  # fmt: skip
    assert np.array_equal(own.parameters[0], shared.parameters[0])
    assert not np.array_equal(own.parameters[1], shared.parameters[1])


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
        )  # fmt: skip
    assert str(warned[0].message) == trained.divergence and repr(trained).endswith(trained.divergence)
    assert "sgd(learning_rate=0.12)" in repr(trained) and len(repr(trained).splitlines()) == 14
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


WRONG_TEACHER: Any = 3
PLAIN = Network((4, 3, 2), "tanh", "lecun_normal")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"network": 3}, "network must be a stabsim.Network, not 3"),
        (
            {"network": Network((4, 2, 2), "tanh", "lecun_normal", cell="rnn")},
            "data must be a pair (inputs, targets) of arrays with cell='rnn', not Regression(",
        ),
        ({"network": Network((3, 2), "tanh", "lecun_normal")}, "the teacher of data has 4 inputs and 2 outputs"),
        ({"nets": 0}, "nets must be an integer from 1"),
        ({"steps": -1}, "steps must be an integer from 0"),
        ({"optimizer": "sgd(learning_rate=-0.1)"}, "optimizer: learning_rate must be a finite number >= 0, not -0.1"),
        ({"batch": 25}, "batch must be an integer from 1 to 24, not 25"),
        ({"seed": -1}, "seed must be an integer"),
        ({"record": (0, 11)}, "record must be one or more numbers of steps from 0 to steps=10, not (0, 11)"),
        ({"record": ()}, "record must be one or more numbers of steps from 0 to steps=10, not ()"),
        ({"record": (-1,)}, "record must be one or more numbers of steps from 0 to steps=10, not (-1,)"),
        ({"output_weights": 3}, "output_weights must be a name or a stabsim Initializer, not 3"),
        ({"output_activation": None}, "output_activation must be a name or a stabsim Activation, not None"),
        ({"keep_weights": 1}, "keep_weights must be True or False, not 1"),
        ({"data": (np.full((5, 4), 1e300), np.ones((5, 2)))}, "inputs must be up to 3.4e+38, what float32 holds, not"),
        ({"data": (np.empty((0, 4)), np.empty((0, 2)))}, "at least one row, not (0, 4)"),
        ({"data": (np.ones((5, 4), bool), np.ones((5, 2)))}, "inputs must be an array of numbers"),
        ({"data": (np.ones((5, 4)), 1j * np.ones((5, 2)))}, "not of complex128"),
        ({"nets": 2**32}, "records of all nets need 2"),
        ({"network": Network((4, 10**6, 10**6, 2), "tanh", "lecun_normal"), "threads": 1}, "1 nets at a time need"),
        ({"data": Regression(Network((4, 2), "linear", "lecun_normal"), samples=10**12)}, "nets at a time need"),
        ({"output_activation": "rlu"}, "output_activation: unknown activation 'rlu'"),
        ({"output_weights": "he"}, "output_weights: unknown initializer 'he'"),
        ({"perturbation": -1.0}, "perturbation must be a finite number >= 0, not -1.0"),
        ({"perturbation": 1e-60}, "perturbation 1e-60: outside the normal range of float32"),
        ({"precision": "float8"}, "unknown precision 'float8'"),
        ({"train_biases": 1}, "train_biases must be True or False, not 1"),
        ({"threads": 0}, "threads must be an integer from 1"),
        ({"data": 3}, "data must be a Regression or a pair (inputs, targets) of arrays, not 3"),
        ({"data": (np.ones((5, 3)), np.ones((5, 2)))}, "inputs must have shape (samples, widths[0]) = (..., 4)"),
        ({"data": (np.ones((5, 4)), np.ones((4, 2)))}, "inputs and targets must have as many samples, not 5 and 4"),
        ({"data": (np.full((5, 4), np.inf), np.ones((5, 2)))}, "inputs must be finite, but inputs[0, 0] is inf"),
    ],
)
def test_bad_arguments_are_refused_in_one_line(given: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {"network": PLAIN, "nets": 2, "steps": 10, "optimizer": FAST, "data": LINEAR}
    with pytest.raises((TypeError, ValueError, MemoryError), match=re.escape(message)) as caught:
        train(**(arguments | given))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Regression(teacher=WRONG_TEACHER), "teacher must be a stabsim.Network, not 3"),
        (lambda: Regression(PLAIN, samples=0), "samples must be an integer from 1"),
        (lambda: Regression(PLAIN, noise=-1), "noise must be a finite number >= 0, not -1.0"),
        (lambda: several(1).values("los"), "unknown quantity 'los'"),
        (lambda: several(1).weights(4), "layer must be from 1 to 3, not 4"),
        (lambda: several(1, keep_weights=False).weights(1), "weights were not kept: keep_weights=True keeps them"),
    ],
)  # fmt: skip
def test_other_bad_arguments_are_refused(call: Callable[[], Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=re.escape(message)):
        call()
