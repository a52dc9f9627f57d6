"""Predictions for residual nets against simulation, against each other, and nowhere outside their assumptions."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

import stabsim
from stabsim import Network, Skip
from stabsim.theory.residual import residual_profile
from tests.checks import WRONG, assert_agrees, must_fail

MOMENTS = [
    f"{tensor}_{statistic}"
    for tensor in ("preactivation", "activation", "activation_gradient", "preactivation_gradient")
    for statistic in ("mean", "mean_square", "variance")
] + ["derivative_mean_square"]
PLACES = ("inside", "between", "before", "after")
WIDTHS = (60, 80, 80, 80, 80, 60, 60, 60, 70)
ROWS = np.random.default_rng(2).normal(0.5, 1.0, size=(3, 60))


def cases() -> dict[str, tuple[Network, dict[str, Any]]]:
    found: dict[str, tuple[Network, dict[str, Any]]] = {}
    for number, (place, layers) in enumerate(product(PLACES, (1, 2))):
        skip = Skip(0.7, -1.2, layers, place, inner=0.8, last=1.1)
        options: dict[str, Any] = {"batch": 3, "inputs": ROWS} if number % 2 else {"batch": 2}
        if number % 3 == 0:
            options["output_gradient"] = np.linspace(-1, 2, 70 * options["batch"]).reshape(-1, 70)
        weights = ("he_normal", "he_uniform")[number % 2]
        network = Network(WIDTHS, "linear(alpha=0.8)", weights, (0.0, 0.5)[layers - 1], skip=skip)
        found[f"linear, {place}, {layers}"] = network, options
    for activation, layers in product(("relu", "leaky_relu(slope=0.3)"), (1, 2, 3)):
        skip = Skip(0.7, -1.2, layers, "between", inner=0.8, last=1.1)
        found[f"{activation}, {layers}"] = Network(WIDTHS, activation, "he_normal", skip=skip), {"batch": 2}
    return found


CASES = cases()


@pytest.mark.parametrize("case", CASES)
def test_simulation_agrees_with_exact_laws(case: str) -> None:
    network, options = CASES[case]
    result = stabsim.simulate(network, nets=4000, seed=5, quantities=MOMENTS, sampler="dense", **options)
    seen = 0
    for name in MOMENTS:
        rows = result.table[result.table["quantity"] == name]
        layers, theory = rows["layer"].to_numpy(), rows["theory"].to_numpy()
        estimates = result.estimates(name)
        found, error = estimates.estimate[layers], estimates.std_error[layers]
        given = np.isfinite(theory) & (error <= 1e-6 * np.abs(found))  # what is told, or the same in every net
        assert np.allclose(found[given], theory[given], rtol=1e-5)
        known = np.isfinite(theory) & np.isfinite(found) & ~given
        if not known.any():
            continue
        seen += 1
        assert_agrees(found[known], theory[known], error[known])
        if name.endswith("mean_square") and not name.startswith("derivative"):
            must_fail(assert_agrees, found[known], WRONG * theory[known], error[known])
    assert seen >= (8 if "output_gradient" in options else 11)


def test_nothing_is_predicted_outside_the_assumptions() -> None:
    def theory(network: Network, name: str, **options: Any) -> Any:
        table = stabsim.simulate(network, nets=2, quantities=(name,), sampler="dense", **options).table
        return table["theory"].to_numpy()

    square, gradient = "activation_mean_square", "activation_gradient_mean_square"
    for place in ("inside", "before", "after"):
        assert np.all(
            np.isnan(theory(Network((60,) * 4, "relu", "he_normal", skip=Skip(activation=place)), square)[2:])
        )
    between = Skip(layers=2, activation="between")
    assert np.all(np.isnan(theory(Network((60,) * 5, "tanh", "he_normal", skip=between), square)[2:]))
    assert np.all(np.isnan(theory(Network((60,) * 5, "relu", "he_normal", 0.1, skip=between), square)[2:]))
    assert np.all(np.isnan(theory(Network((60,) * 5, "relu", "orthogonal", skip=between), square)))
    assert np.all(np.isnan(theory(Network((60,) * 5, "relu", "he_normal", normalization="rms", skip=between), square)))
    relu = Network((60,) * 5, "relu", "he_normal", skip=between)
    assert np.all(np.isfinite(theory(relu, gradient)))
    assert np.all(np.isnan(theory(relu, gradient, inputs=np.zeros((1, 60)))))
    assert np.all(np.isnan(theory(relu, gradient, output_gradient=np.ones((1, 60)))))
    narrow = Network((5, 5, 7, 7, 7), "relu", "he_normal", skip=between)  # the second layer may be dead
    assert narrow.shortcuts == (-1, -1, -1, -1, 4) or np.all(np.isnan(theory(narrow, gradient)))


@pytest.mark.parametrize("activation", ["tanh", "relu", "gelu"])
@pytest.mark.parametrize("skip", [Skip(0.5), Skip(0.7, 0.9, 2, "between", last=0.8), Skip(1.0, 1.0, 2)])
def test_wide_nets_tend_to_their_limit(activation: str, skip: Skip) -> None:
    names = tuple(name for name in MOMENTS if "mean_square" in name)
    network = Network((4000,) * 7, activation, "lecun_normal", 0.2, skip=skip)
    table: Any = stabsim.simulate(network, nets=60, quantities=names, seed=3).table
    table = table[np.isfinite(table["infinite_width"]) & (table["std_error"] > 0)]
    assert len(table) >= 29
    assert_agrees(table["estimate"], table["infinite_width"], table["std_error"] + 0.001 * table["estimate"])


def test_the_limit_is_the_profile_of_yang_and_schoenholz() -> None:
    network = Network((30,) * 21, "tanh", "lecun_normal", skip=Skip(0.6))
    table: Any = (
        stabsim.simulate(network, nets=2, sampler="dense").table.astype({"quantity": str}).set_index("quantity")
    )
    profile = residual_profile("tanh", 20, scale=0.6)
    assert np.allclose(table.loc["activation_mean_square", "infinite_width"], profile.mean_square, rtol=1e-12)
    gradient = table.loc["activation_gradient_mean_square", "infinite_width"].to_numpy()
    assert np.allclose(np.log(gradient[0] / gradient), profile.log_gradient_growth, rtol=1e-12)
