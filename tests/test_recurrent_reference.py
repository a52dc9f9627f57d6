"""Recurrent nets against every value of section 8 of the reference table."""

from __future__ import annotations

import csv
import functools
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.sparse.linalg import svds

import stabsim
from stabsim import Cell, Gate, Network
from stabsim.theory import recurrent
from tests.checks import WRONG, assert_agrees, must_fail

with (Path(__file__).parents[1] / "data" / "reference_values.csv").open(encoding="utf-8") as file:
    VALUES = {row["id"]: float(row["value"]) for row in csv.DictReader(file) if row["id"].startswith("8.")}
GRADIENT = "activation_gradient_mean_square"
POWERS = {8: 400_000, 10: 100_000, 100: 4000}  # nets by width


def matching(pattern: str) -> list[tuple[str, tuple[str, ...]]]:
    return [(name, found.groups()) for name in VALUES if (found := re.fullmatch(pattern, name))]


@functools.cache
def powers(width: int) -> tuple[Any, Any]:
    """Return E |W^k u|^2 over k = 0, 1, ... and its standard errors: gradients of a linear RNN by the states before."""
    network = Network((1, *(width,) * 6), "linear", "zeros", cell=Cell("rnn", recurrent_weights="lecun_normal"))
    u = np.zeros((1, width))
    u[0, 0] = math.sqrt(width)
    result = stabsim.simulate(network, nets=POWERS[width], output_gradient=u, samples=[GRADIENT], quantities=[GRADIENT])
    found = result.samples[GRADIENT][:, ::-1]
    return found.mean(axis=0), found.std(axis=0) / math.sqrt(len(found))


@pytest.mark.parametrize(("name", "parts"), matching(r"8\.ginibre\.k(\d+)\.n(\d+)"))
def test_gradients_of_a_linear_rnn_are_powers_of_one_matrix(name: str, parts: tuple[str, str]) -> None:
    k, width = map(int, parts)
    mean, error = powers(width)
    assert_agrees(mean[k], VALUES[name], error[k])
    must_fail(assert_agrees, WRONG * mean[k], VALUES[name], error[k])


@pytest.mark.parametrize(("name", "parts"), matching(r"8\.ginibre\.c2\.t(\d+)"))
def test_the_leading_correction_is_in_the_gradients_of_a_small_rnn(name: str, parts: tuple[str]) -> None:
    k, width = int(parts[0]), 8
    higher = sum(
        times * width ** (exponent - k - 1.0)
        for exponent, times in enumerate(recurrent.power_polynomial(k))
        if exponent < k - 1
    )
    mean, error = powers(width)
    assert_agrees((mean[k] - 1.0 - higher) * width**2, VALUES[name], error[k] * width**2)
    must_fail(assert_agrees, (WRONG * mean[k] - 1.0 - higher) * width**2, VALUES[name], error[k] * width**2)


def test_singular_values_and_eigenvalues_of_one_matrix() -> None:
    """At width 1000 singular values are within 2%, at 500 the spectral radius within 5%, of where they tend to."""
    cell = Cell("rnn", recurrent_weights="lecun_normal")
    w, smaller = (
        stabsim.trace(Network((1, width), "linear", "zeros", cell=cell)).recurrent_weight[0] for width in (1000, 500)
    )
    for name, (power,) in matching(r"8\.power\.smax\.t(\d+)"):
        (largest,) = svds(np.linalg.matrix_power(w, int(power)), k=1, return_singular_vectors=False, rng=0)
        assert largest == pytest.approx(VALUES[name], rel=0.02)
        assert WRONG * largest != pytest.approx(VALUES[name], rel=0.02)
    assert np.max(np.abs(np.linalg.eigvals(smaller))) == pytest.approx(VALUES["8.circular"], rel=0.05)


def cell_path(bias: float, steps: int, precision: str = "float64") -> float:
    """Return log10 of the gradient by the cell's initial state over that by its last, where no weights are."""
    network = Network((1, *(3,) * steps), "tanh", "zeros", cell=Cell("lstm", gates={"forget": Gate(bias=bias)}))
    name = "cell_state_gradient_log10_norm"
    found = stabsim.simulate(network, nets=1, quantities=[name], precision=precision).estimates(name).estimate
    return float(found[0] - found[-1])


@pytest.mark.parametrize(("name", "parts"), matching(r"8\.lstm\.b(\d+)\.T(\d+)"))
def test_a_cell_passes_back_powers_of_its_forget_gate(name: str, parts: tuple[str, str]) -> None:
    bias, steps = float(parts[0]), int(parts[1])
    assert 10 ** cell_path(bias, steps) == pytest.approx(VALUES[name], rel=1e-10)
    assert cell_path(bias, steps, "float32") == pytest.approx(math.log10(VALUES[name]), rel=1e-5)


def test_memory_times() -> None:
    steps = 1 / (-math.log(10) * cell_path(0.0, 1))
    assert steps == pytest.approx(VALUES["8.lstm.tau.b0"], rel=1e-10)
    assert 10 ** cell_path(math.log(99), 100) == pytest.approx(VALUES["8.lstm.chrono"], rel=1e-10)
    assert cell_path(0.0, 5000) == pytest.approx(5000 * math.log10(0.5), rel=1e-10)  # beyond any float


@functools.cache
def random_gates(bias: float) -> stabsim.Result:
    """Run gates of normal pre-activations: each sees an input of its own, and no state."""
    forget = Gate("identity", "zeros", bias)
    network = Network((10, 10), "tanh", "zeros", cell=Cell("lstm", gates={"forget": forget}))
    names = ("forget_gate_mean", "forget_gate_mean_square", "forget_gate_log_mean")
    return stabsim.simulate(network, nets=4000, batch=4, quantities=names)


@pytest.mark.parametrize(("name", "parts"), matching(r"8\.lstm\.rand\.(Ef|Ef2|Elog)\.b(\d+)"))
def test_random_gates(name: str, parts: tuple[str, str]) -> None:
    statistic = {"Ef": "mean", "Ef2": "mean_square", "Elog": "log_mean"}[parts[0]]
    found = random_gates(float(parts[1])).estimates(f"forget_gate_{statistic}")
    assert_agrees(found.estimate[1], VALUES[name], found.std_error[1])
    must_fail(assert_agrees, WRONG * found.estimate[1], VALUES[name], found.std_error[1])


def test_every_value_is_asked_for() -> None:
    patterns = (
        r"8\.ginibre\.(k\d+\.n\d+|c2\.t\d+)", r"8\.power\.smax\.t\d+", r"8\.circular", r"8\.lstm\.b\d+\.T\d+",
        r"8\.lstm\.(tau\.b0|chrono)", r"8\.lstm\.rand\.(Ef|Ef2|Elog)\.b\d+",
    )  # fmt: skip
    assert all(any(re.fullmatch(pattern, name) for pattern in patterns) for name in VALUES)
