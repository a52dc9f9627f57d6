"""The RNN without its weights: the law of the RNN with them, whose every answer must fit all answers before."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stabsim import Cell, Network, simulate
from stabsim.result import Result
from stabsim.theory.recurrent import power_squared_norm

NETS = 4000
FORWARD = ("activation_mean_square", "preactivation_kurtosis", "activation_correlation")
BACKWARD = ("activation_gradient_mean_square", "input_gradient_mean_square", "preactivation_gradient_log10_norm")
WEIGHTS = ("weight_gradient_mean_square", "weight_gradient_zero_fraction", "weight_gradient_one_signed_column_fraction")
LARGEST_Z = 5.0

CASES = {
    "tall": ((6, *(16,) * 5), 2),
    "one sample": ((20, *(24,) * 4), 1),
    "as many rows as dimensions": ((9, *(12,) * 4), 3),
    "more rows than dimensions": ((5, *(8,) * 7), 3),
    "one time step": ((7, 5), 2),
    "width 1": ((1, *(1,) * 3), 2),
}


def recurrent(widths: tuple[int, ...], activation: str = "tanh", of_states: str = "lecun_normal") -> Network:
    return Network(widths, activation, "lecun_normal", 0.3, cell=Cell("rnn", recurrent_weights=of_states))


def largest_z(one: Result, other: Result, names: tuple[str, ...]) -> float:
    """Return the largest distance of two results in their standard errors, where either varies at all."""
    worst = 0.0
    for name in names:
        a, b = one.estimates(name), other.estimates(name)
        assert np.array_equal(np.isnan(a.estimate), np.isnan(b.estimate)), name
        with np.errstate(invalid="ignore", divide="ignore"):
            z = np.abs(a.estimate - b.estimate) / np.hypot(a.std_error, b.std_error)
        same = np.isclose(a.estimate, b.estimate, rtol=1e-6)
        worst = max(worst, float(np.nanmax(np.where(same, 0.0, z), initial=0.0)))
    return worst


def both(network: Network, batch: int, **options: Any) -> tuple[Result, Result]:
    names = tuple(n for n in (*FORWARD, *BACKWARD, *WEIGHTS) if batch > 1 or n != "activation_correlation")
    dense, free = (
        simulate(network, nets=NETS, batch=batch, sampler=sampler, seed=5, quantities=names, **options)
        for sampler in ("dense", "matrix_free")
    )
    return dense, free


@pytest.mark.parametrize("of_states", ["lecun_normal", "orthogonal"])
@pytest.mark.parametrize("activation", ["tanh", "relu", "linear"])
@pytest.mark.parametrize("case", CASES)
def test_the_law_is_that_with_weights(case: str, activation: str, of_states: str) -> None:
    widths, batch = CASES[case]
    dense, free = both(recurrent(widths, activation, of_states), batch, precision="float64")
    names = tuple(q.name for q in dense.task.table_quantities)
    assert largest_z(dense, free, names) < LARGEST_Z


def test_a_wrong_scale_of_five_percent_is_seen() -> None:
    widths = (20, *(24,) * 4)
    dense, _ = both(recurrent(widths), 1)
    wrong, right = (
        simulate(
            recurrent(widths, of_states=f"lecun_normal(gain={gain})"),
            nets=NETS,
            quantities=BACKWARD,
            sampler="matrix_free",
            seed=5,
        )
        for gain in (1.05, 1.0)
    )
    assert largest_z(dense, wrong, BACKWARD) > LARGEST_Z > largest_z(dense, right, BACKWARD)


def test_powers_of_one_matrix_are_not_those_of_independent_ones() -> None:
    width, steps = 10, 6
    network = Network((3, *(width,) * steps), "linear", "lecun_normal", cell="rnn")
    name = "activation_gradient_mean_square"
    found = simulate(network, nets=200_000, sampler="matrix_free", seed=1, quantities=(name,)).estimates(name)
    expected = np.array([*(power_squared_norm(power, width) for power in range(steps, 0, -1)), 1.0])
    z = (found.estimate - expected) / found.std_error
    assert np.max(np.abs(z)) < LARGEST_Z
    assert (found.estimate[0] - 1.0) / found.std_error[0] > LARGEST_Z  # what independent layers would give
    assert np.max(np.abs((1.05 * found.estimate - expected) / found.std_error)) > LARGEST_Z


def test_an_orthogonal_matrix_keeps_lengths_both_ways() -> None:
    network = Network((4, *(32,) * 10), "linear", "lecun_normal", cell=Cell("rnn", recurrent_weights="orthogonal"))
    inputs = np.zeros((2, 10, 4))
    inputs[:, 0] = [[1.0, 2.0, 3.0, 4.0], [0.0, 1.0, 0.0, 0.0]]
    names = ("activation_log10_norm", "activation_gradient_log10_norm")
    result = simulate(
        network, nets=20, batch=2, inputs=inputs, sampler="matrix_free", precision="float64", samples=names, seed=2
    )
    states, gradients = (result.samples[name] for name in names)
    assert np.allclose(states[:, 1:], states[:, 1:2], rtol=0, atol=1e-10)
    assert np.allclose(gradients, gradients[:, :1], rtol=0, atol=1e-10)


@pytest.mark.parametrize("gain", [0.05, 20.0])
def test_nothing_over_or_underflows(gain: float) -> None:
    weights = f"lecun_normal(gain={gain})"
    network = Network((8, *(64,) * 120), "linear", "lecun_normal", cell=Cell("rnn", recurrent_weights=weights))
    result = simulate(network, nets=20, sampler="matrix_free", seed=1)
    norms = result.estimates("activation_gradient_log10_norm").estimate
    slope = np.diff(norms[:100]).mean()
    assert slope == pytest.approx(-np.log10(gain), abs=0.05)
    for name in ("activation_log10_norm", "input_gradient_log10_norm", "weight_gradient_log10_norm"):
        assert np.isfinite(result.estimates(name).estimate[1]), name


def test_threads_change_no_bit() -> None:
    network = recurrent((12, *(20,) * 6), "gelu")
    one, two = (
        simulate(network, nets=300, batch=2, sampler="matrix_free", seed=9, threads=threads).table for threads in (1, 2)
    )
    assert one.equals(two)


def test_wide_states_take_the_cheaper_way() -> None:
    wide, narrow = (Network((width,) * 51, "tanh", "lecun_normal", cell="rnn") for width in (4096, 32))
    assert simulate(wide, nets=1).task.sampler == "matrix_free"
    assert simulate(narrow, nets=1).task.sampler == "dense"


@pytest.mark.parametrize(
    ("weights", "of_states", "fragment"),
    [
        ("lecun_uniform", "orthogonal", "needs weights of law 'normal', not 'uniform'"),
        ("lecun_normal", "identity", "needs recurrent weights of law 'normal' or 'orthogonal', not 'identity'"),
    ],
)
def test_other_laws_are_refused(weights: str, of_states: str, fragment: str) -> None:
    network = Network((4, 4, 4), "tanh", weights, cell=Cell("rnn", recurrent_weights=of_states))
    with pytest.raises(ValueError, match=fragment):
        simulate(network, nets=2, sampler="matrix_free")
    assert simulate(network, nets=2, quantities=("activation_mean",)).task.sampler == "dense"


def test_inputs_of_zeros_leave_the_state_at_zero() -> None:
    network = Network((3, *(5,) * 4), "linear", "lecun_normal", cell="rnn")
    result = simulate(network, nets=5, inputs=np.zeros((1, 4, 3)), sampler="matrix_free", samples=("activation_mean",))
    assert not np.any(result.samples["activation_mean"])
    assert np.all(result.estimates("weight_gradient_zero_fraction").estimate[1] == 1.0)
    assert np.isfinite(result.estimates("input_gradient_log10_norm").estimate[1:]).all()
