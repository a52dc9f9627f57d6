"""What the benchmarks time is the same work: every contestant finds the statistics that this package does."""

from __future__ import annotations

import functools
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import stabsim
from stabsim.training import train
from tests.checks import WRONG, assert_agrees, must_fail

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))

import recurrent_peers
import training_peers
from contestants import ORTHOGONAL, OURS, PEERS, QUANTITIES

Numbers = NDArray[np.float64]

CONTESTANTS = {**PEERS, **OURS, **ORTHOGONAL}
DEPTH, WIDTH = 3, 16
NETS = 2**14  # standard errors to 0.6%; a multiple of all chunk sizes, so that nothing is compiled twice
LAYERS = (slice(1, None), slice(1, None), slice(DEPTH), slice(1, None))  # of z, z, dz and ds: dz begins at the input


@functools.cache
def reference(weights: str, batch: int) -> stabsim.Result:
    """Return many more nets of this package, other ones than its contestants draw."""
    network = stabsim.Network((WIDTH,) * (DEPTH + 1), "relu", weights)
    return stabsim.simulate(network, nets=10 * NETS, batch=batch, seed=1, quantities=QUANTITIES, samples=QUANTITIES)


def of_all(result: stabsim.Result) -> tuple[Numbers, Numbers]:
    """Return the four statistics of an ensemble and their standard errors, each (layers, 4)."""
    found = [result.estimates(name) for name in QUANTITIES]
    estimates = [each.estimate[layers] for each, layers in zip(found, LAYERS, strict=True)]
    errors = [each.std_error[layers] for each, layers in zip(found, LAYERS, strict=True)]
    return np.stack(estimates, axis=-1), np.stack(errors, axis=-1)


def of_each(statistics: Any) -> tuple[Numbers, Numbers]:
    """Return the mean over nets of statistics (nets, layers, 4), and its standard error."""
    values = np.asarray(statistics, np.float64)
    assert values.shape[1:] == (DEPTH, len(QUANTITIES))
    return values.mean(axis=0), values.std(axis=0, ddof=1) / math.sqrt(len(values))


def assert_the_same_work(found: tuple[Numbers, Numbers], expected: tuple[Numbers, Numbers]) -> None:
    assert_agrees(found[0], expected[0], np.hypot(found[1], expected[1]))


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("name", CONTESTANTS)
def test_every_contestant_computes_the_same_four_statistics(name: str, batch: int) -> None:
    library = pytest.importorskip(name.split("_")[0])
    if library.__name__ == "torch":
        library.set_num_threads(1)  # two took up to 300 times as long over nets as small as these on busy cores
        library.manual_seed(0)
    many = reference(f"orthogonal(gain={math.sqrt(2)})" if name in ORTHOGONAL else "he_normal", batch)
    result = CONTESTANTS[name](DEPTH, WIDTH, batch, NETS)
    if isinstance(result, stabsim.Result):
        found, expected = of_all(result), of_all(many)
    else:  # peers return each net's: the variance within the net, as the samples of this package are
        samples = [many.samples[name][:, layers] for name, layers in zip(QUANTITIES, LAYERS, strict=True)]
        found, expected = of_each(result), of_each(np.stack(samples, axis=-1))
    assert_the_same_work(found, expected)
    for statistic in np.eye(len(QUANTITIES)):
        must_fail(assert_the_same_work, (found[0] * WRONG**statistic, found[1]), expected)


@pytest.mark.parametrize("cell", recurrent_peers.GATES)
def test_every_recurrent_contestant_computes_the_same_statistic(cell: str) -> None:
    quantity = "input_gradient_mean_square"
    network = stabsim.Network((WIDTH,) * (DEPTH + 1), "tanh", "lecun_normal", cell=cell)
    expected = stabsim.simulate(network, nets=NETS, batch=2, seed=1, quantities=(quantity,)).estimates(quantity)
    pytest.importorskip("torch")
    for name, function in recurrent_peers.contestants(cell, WIDTH).items():
        if name.startswith("torch") and (name == "torch_loop" or name.endswith("_64")):
            nets = NETS if name.endswith("_64") else NETS // 8
            found = function(DEPTH, WIDTH, 2, nets)
            assert found.shape == (nets, DEPTH)
            error = np.hypot(found.std(axis=0) / math.sqrt(nets), expected.std_error[1:])
            assert_agrees(found.mean(axis=0), expected.estimate[1:], error)
            must_fail(assert_agrees, WRONG * WRONG * found.mean(axis=0), expected.estimate[1:], error)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_every_trainer_of_the_benchmark_reaches_the_same_losses(optimizer: str) -> None:
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    draws = np.random.default_rng(0)
    inputs, labels = draws.normal(size=(64, 8)).astype(np.float32), draws.integers(0, 3, 64)
    widths, batch, steps, nets = (8, 16, 16, 3), 16, 40, 64
    ours = train(
        stabsim.Network(widths, "relu", "he_normal"), nets=nets, steps=steps, data=(inputs, np.eye(3)[labels]),
        batch=batch, order="with_replacement", loss="softmax_cross_entropy", record=(steps,),
        optimizer=optimizer, quantities=("last_batch_loss",),
    ).values("last_batch_loss")[:, 0, 0]  # fmt: skip
    training_peers.prepare(1, inputs, labels)
    for kind in ("modules", "func of 16", "bmm of 16"):
        work = training_peers.Work(kind, optimizer, widths, batch)
        runs = nets // training_peers.TORCH[kind]
        found = np.array([loss for _ in range(runs) for loss in training_peers.run_torch(work, steps)])
        error = math.hypot(found.std(), ours.std()) / math.sqrt(nets)
        assert_agrees(found.mean(), ours.mean(), error)
        must_fail(assert_agrees, found.mean() * 1.2, ours.mean(), error)
