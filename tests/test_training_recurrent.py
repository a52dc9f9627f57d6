"""Training of recurrent cells through time: against NumPy, against differences of the loss, and what it learns."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from stabsim import Cell, Gate, Network, trace
from stabsim.training import Regression, Trained, train
from tests import naive, naive_recurrent
from tests.checks import LIMIT, WRONG
from tests.naive_training import epoch_order
from tests.test_training import SEED

Floats = NDArray[np.float64]

CELLS = {
    "rnn": Cell("rnn", "orthogonal"),
    "lstm": Cell("lstm", "orthogonal", {"forget": Gate(bias=1.0), "output": Gate("he_normal", "normal(std=0.1)")}),
    "gru": Cell("gru", None, {"update": Gate(bias=-0.5)}),
}
INPUTS, STATE, STEPS, OUTPUTS, SAMPLES = 3, 6, 5, 2, 12


def data(inputs: int = INPUTS, steps: int = STEPS, outputs: int = OUTPUTS, seed: int = 1) -> tuple[Floats, Floats]:
    numbers = np.random.Generator(np.random.Philox(seed))
    return numbers.normal(size=(SAMPLES, steps, inputs)), numbers.normal(size=(SAMPLES, outputs))


def network(kind: str, inputs: int = INPUTS, state: int = STATE, steps: int = STEPS) -> Network:
    return Network((inputs, *(state,) * steps), "tanh", "glorot_normal", bias_std=0.2, cell=CELLS[kind])


@dataclass
class Oracle:
    """A net in NumPy: the parameters as the trainer has them, W and b of the cell, then of what reads it."""

    kind: str
    parameters: list[Floats]

    def run(self, x: Floats, y: Floats) -> tuple[float, list[Floats], naive_recurrent.RecurrentNet]:
        """Return the loss, its gradient by each tensor, and all signals."""
        w, b, readout, shift = self.parameters
        inputs, gates, formula = x.shape[2], w.shape[1] // readout.shape[0], naive.tanh()
        by_input, by_state = np.split(w[:inputs], gates, axis=1), np.split(w[inputs:], gates, axis=1)
        times = [None, *(x[:, t] for t in range(x.shape[1]))]
        zero = np.zeros((len(x), len(readout)))
        h = naive_recurrent.run(self.kind, formula, by_input, by_state, np.split(b, gates), times, zero).activation[-1]
        outputs = h @ readout + shift
        ds = 2 * (outputs - y) / y.size
        net = naive_recurrent.run(self.kind, formula, by_input, by_state, np.split(b, gates), times, ds @ readout.T)
        dw = np.vstack([np.hstack(net.weight_gradient), np.hstack(net.recurrent_weight_gradient)])
        gradient = [dw, np.hstack(net.bias_gradient), h.T @ ds, ds.sum(axis=0)]
        return float(np.mean((outputs - y) ** 2)), gradient, net


def parameters(trained: Trained, net: int, time: int) -> list[Floats]:
    """Return W and b of both layers."""
    both = (1, 2)
    return [part(layer)[net, time].copy() for layer in both for part in (trained.weights, trained.biases)]


@pytest.mark.parametrize("kind", CELLS)
def test_the_oracle_has_the_gradient_of_its_loss(kind: str) -> None:
    numbers = np.random.Generator(np.random.Philox(7))
    gates = {"rnn": 1, "lstm": 4, "gru": 3}[kind]
    shapes = [(INPUTS + STATE, gates * STATE), (gates * STATE,), (STATE, OUTPUTS), (OUTPUTS,)]
    oracle = Oracle(kind, [numbers.normal(size=shape) for shape in shapes])
    x, y = data()
    for tensor, gradient in zip(oracle.parameters, oracle.run(x, y)[1], strict=True):
        for _ in range(8):
            place = tuple(numbers.integers(side) for side in tensor.shape)
            kept, losses = tensor[place], []
            for step in (1e-5, -1e-5):
                tensor[place] = kept + step
                losses.append(oracle.run(x, y)[0])
            tensor[place] = kept
            assert (losses[0] - losses[1]) / 2e-5 == pytest.approx(gradient[place], rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.parametrize(
    ("inputs", "state", "steps", "batch"), [(INPUTS, STATE, STEPS, 5), (1, 1, 1, 1), (2, 3, 2, 12)]
)
def test_training_is_that_of_a_loop_in_numpy(kind: str, inputs: int, state: int, steps: int, batch: int) -> None:
    """Adam with clipping of each tensor by its norm: all weights, and what is recorded, after each of 10 steps."""
    number, rate, bound = 2, 0.05, 0.3
    x, y = data(inputs, steps)
    trained = train(
        network(kind, inputs, state, steps), nets=3, steps=10, data=(x, y), batch=batch, seed=SEED, record=range(11),
        optimizer=f"adam(learning_rate={rate})", clipping=f"norm(bound={bound})", keep_weights=True,
        precision="float64",
    )  # fmt: skip
    oracle = Oracle(kind, parameters(trained, number, 0))
    first, second = ([np.zeros_like(each) for each in oracle.parameters] for _ in range(2))
    for step in range(11):
        epoch, place = divmod(step, SAMPLES // batch)
        order = epoch_order(SAMPLES, epoch, number, SEED) if batch < SAMPLES else list(range(SAMPLES))
        rows = order[place * batch : (place + 1) * batch]
        _, gradient, net = oracle.run(x[rows], y[rows])
        norms = np.array([np.linalg.norm(each) for each in gradient])
        of_layers = [np.hypot(*norms[:2]), np.hypot(*norms[2:])]
        seen = {name: trained.values(name)[number, step] for name in trained.quantities}
        assert seen["loss"][0] == pytest.approx(oracle.run(x, y)[0], rel=1e-10)
        np.testing.assert_allclose(seen["gradient_norm"], [np.linalg.norm(norms), *of_layers], rtol=1e-10)
        np.testing.assert_allclose(seen["clipped_fraction"][1:], (norms > bound).reshape(2, 2).mean(axis=1))
        for tensor in ("activation", "activation_gradient", "preactivation_gradient"):
            values = [each for each in getattr(net, tensor) if each is not None]
            for name, function in (("mean_square", naive.mean_square), ("log10_norm", naive.log10_norm)):
                if f"{tensor}_{name}" in seen:
                    of_times = seen[f"{tensor}_{name}"][-len(values) :]
                    np.testing.assert_allclose(
                        of_times, [function(each) for each in values], rtol=1e-9, atol=1e-12, err_msg=f"{tensor} {name}"
                    )
        for found, known in zip(parameters(trained, number, step), oracle.parameters, strict=True):
            np.testing.assert_allclose(found, known, rtol=1e-10, atol=1e-12, err_msg=f"after {step} steps")
        for i, each in enumerate(gradient):
            clipped = each * min(1.0, bound / norms[i])
            first[i] = 0.9 * first[i] + 0.1 * clipped
            second[i] = 0.999 * second[i] + 0.001 * clipped**2
            m, v = first[i] / (1 - 0.9 ** (step + 1)), second[i] / (1 - 0.999 ** (step + 1))
            oracle.parameters[i] = oracle.parameters[i] - rate * m / (np.sqrt(v) + 1e-8)


def gates(parts: Any) -> Floats:
    """Return what a trace has of each gate, side by side."""
    return np.hstack(parts)


@pytest.mark.parametrize("kind", CELLS)
def test_nets_start_as_those_of_the_simulator(kind: str) -> None:
    trained = train(network(kind), nets=4, steps=0, data=data(), seed=SEED, quantities=("loss",), keep_weights=True)
    seen = trace(network(kind), net=3, seed=SEED)
    w = np.vstack([gates(seen.weight), gates(seen.recurrent_weight)])
    assert np.array_equal(trained.weights(1)[3, 0], w)
    assert np.array_equal(trained.biases(1)[3, 0], gates(seen.bias))


def test_what_reads_the_state_has_the_law_that_is_told() -> None:
    """The variance of its weights, 1 / fan_in, from numbers of its own; a variance wrong by 5% is found."""
    given: dict[str, Any] = {
        "nets": 1500, "steps": 0, "data": data(outputs=5), "quantities": ("loss",), "keep_weights": True,
    }  # fmt: skip
    trained = train(network("gru", state=8), output_weights="lecun_normal", **given)
    squares = trained.weights(2)[:, 0].astype(float).ravel() ** 2
    error = squares.std() / np.sqrt(squares.size)
    assert abs(squares.mean() - 1 / 8) < LIMIT * error
    assert abs(squares.mean() - WRONG / 8) > LIMIT * error
    of_cell = trained.weights(1)[:, 0].reshape(1500, -1)[:, :40]
    assert abs(np.corrcoef(of_cell.ravel(), trained.weights(2)[:, 0].ravel())[0, 1]) < LIMIT / np.sqrt(squares.size)


def test_threads_and_other_nets_change_no_bit() -> None:
    given: dict[str, Any] = {"steps": 20, "data": data(), "batch": 4, "optimizer": "momentum", "keep_weights": True}
    for kind in CELLS:
        alone, others = (train(network(kind), nets=n, threads=k, seed=SEED, **given) for n, k in ((5, 1), (23, 3)))
        assert np.array_equal(alone.parameters, others.parameters[:5])
        assert np.array_equal(alone.record, others.record[:5], equal_nan=True)
        assert np.array_equal(alone.signals, others.signals[:5], equal_nan=True)
        assert not np.array_equal(alone.parameters, train(network(kind), nets=5, seed=SEED + 1, **given).parameters)


def test_samples_in_more_than_one_part_have_the_same_loss() -> None:
    """The loss of all is computed of 128 samples at a time; a test set may be larger than the data."""
    x, y = data()
    test = np.tile(x, (25, 1, 1)), np.tile(y, (25, 1))
    for kind in CELLS:
        trained = train(network(kind), nets=2, steps=3, data=(x, y), test=test, batch=SAMPLES, precision="float64")
        np.testing.assert_allclose(trained.values("test_loss")[:, :, 0], trained.values("loss")[:, :, 0], rtol=1e-12)


def test_what_is_not_trained_stays() -> None:
    trained = train(
        network("lstm"), nets=2, steps=5, data=data(), seed=SEED, train_biases=False, perturbation=0.1,
        keep_weights=True,
    )  # fmt: skip
    for layer in (1, 2):
        assert np.array_equal(trained.biases(layer)[:, 0], trained.biases(layer)[:, 1])
        assert not np.array_equal(trained.weights(layer)[:, 0], trained.weights(layer)[:, 1])
    seen = trace(network("lstm"), net=1, seed=SEED)
    assert np.array_equal(trained.biases(1)[1, 0], gates(seen.bias))
    assert 0.05 < np.std(trained.weights(1)[1, 0][:INPUTS] - gates(seen.weight)) < 0.2


def first_bit(steps: int, samples: int = 128) -> tuple[Floats, Floats]:
    """Return noise behind a first input of -1 or 1, and which of them it was."""
    numbers = np.random.Generator(np.random.Philox(steps))
    x, bit = 0.3 * numbers.normal(size=(samples, steps, 1)), numbers.integers(0, 2, samples)
    x[:, 0, 0] = 2 * bit - 1
    return x, bit[:, np.newaxis].astype(float)


def remembering(network: Network, nets: int, optimizer: str, clipping: str | None) -> Trained:
    return train(
        network, nets=nets, steps=300, data=first_bit(network.depth), batch=32, loss="logistic", optimizer=optimizer,
        clipping=clipping, seed=SEED, quantities=("loss", "accuracy", "gradient_norm"),
    )  # fmt: skip


@pytest.mark.parametrize("cell", ["rnn", "lstm(forget_bias=2)", "gru(update_bias=2)"])
def test_the_first_input_is_remembered(cell: str) -> None:
    """Over 20 time steps, by all nets, which know nothing of it before training."""
    trained = remembering(
        Network((1, *(16,) * 20), "tanh", "glorot_normal", cell=cell), 4, "adam(learning_rate=0.01)", "global_norm"
    )
    start, end = np.moveaxis(trained.values("loss")[:, :, 0], 1, 0)
    assert start.mean() > 0.5
    assert (end < 0.1 * start).all()
    assert (trained.values("accuracy")[:, 1, 0] > 0.99).all()


def test_clipping_saves_what_explodes() -> None:
    """States that grow by 1.2 a time step (Le et al. 2015, arXiv:1504.00941, begin at 1), for 40 of them: 1500 times.

    Without clipping, all nets diverge or learn nothing; with it, all learn (Pascanu et al. 2013, arXiv:1211.5063).
    """
    network = Network((1, *(16,) * 40), "relu", "glorot_normal", cell=Cell("rnn", "identity(gain=1.2)"))
    clipped = remembering(network, 8, "sgd(learning_rate=0.03)", "global_norm(bound=1)")
    with pytest.warns(RuntimeWarning, match="of 8 nets diverged"):
        free = remembering(network, 8, "sgd(learning_rate=0.03)", None)
    assert np.median(clipped.values("gradient_norm")[:, 0, 0]) > 1000
    assert np.array_equal(clipped.values("gradient_norm")[:, 0], free.values("gradient_norm")[:, 0], equal_nan=True)
    assert (clipped.values("accuracy")[:, 1, 0] > 0.9).all()
    assert not (free.values("accuracy")[:, 1, 0] > 0.9).any()
    assert (free.diverged_after >= 0).sum() >= 6


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"data": (np.zeros((12, 3)), np.zeros((12, 2)))},
         "inputs must have shape (samples, time steps, widths[0]) = (..., 5, 3), not (12, 3)"),
        ({"data": (np.zeros((12, 4, 3)), np.zeros((12, 2)))},
         "inputs must have shape (samples, time steps, widths[0]) = (..., 5, 3), not (12, 4, 3)"),
        ({"data": (np.zeros((12, 5, 3)), np.zeros(12))},
         "targets must have shape (samples, outputs) = (..., 1), not (12,)"),
        ({"data": (np.zeros((12, 5, 3)), np.zeros((12, 0)))},
         "targets must have shape (samples, outputs) = (..., 1), not (12, 0)"),
        ({"data": (np.zeros((12, 5, 3)), np.zeros((11, 2)))},
         "inputs and targets must have as many samples, not 12 and 11"),
        ({"data": (np.full((12, 5, 3), np.nan), np.zeros((12, 2)))},
         "inputs must be finite, but inputs[0, 0, 0] is nan"),
        ({"data": (np.zeros((12, 5, 3)), [[1.0], [1.0, 2.0]])},
         "targets must be an array of numbers (samples, outputs), not [[1.0], [1.0, 2.0]]"),
        ({"data": 3}, "data must be a pair (inputs, targets) of arrays, not 3"),
        ({"data": Regression(Network((3, 2), "linear", "lecun_normal"))},
         "data must be a pair (inputs, targets) of arrays with cell='lstm'"),
        ({"test": (np.zeros((12, 5, 3)), np.zeros((12, 3)))},
         "targets of test must have shape (samples, outputs) = (..., 2), not (12, 3)"),
        ({"precision": "float16"}, "precision must be 'float32' or 'float64' with cell='lstm', not 'float16'"),
        ({"normalize_output": True}, "normalize_output=True does not go with cell='lstm'"),
        ({"quantities": ("dead_unit_fraction",)},
         "quantity 'dead_unit_fraction' does not exist in this training: not with cell='lstm'"),
        ({"quantities": ("mean_shift_both",)},
         "quantity 'mean_shift_both' does not exist in this training: not with cell='lstm'"),
        ({"quantities": ("weight_gradient_log10_norm",)},
         "quantity 'weight_gradient_log10_norm' does not exist in this training: not with cell='lstm'"),
        ({"quantities": ("clip_cosine",)},
         "quantity 'clip_cosine' does not exist in this training: it needs clipping"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_one_line(given: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {"nets": 1, "steps": 1, "data": data()} | given
    with pytest.raises((TypeError, ValueError), match=f"^{re.escape(message)}") as error:
        train(network("lstm"), **arguments)
    assert "\n" not in str(error.value)


def test_there_is_no_layer_behind_the_one_that_reads() -> None:
    trained = train(network("rnn"), nets=1, steps=0, data=data(), quantities=("loss",), keep_weights=True)
    with pytest.raises(ValueError, match=re.escape("layer must be from 1 to 2, not 3")):
        trained.weights(3)
