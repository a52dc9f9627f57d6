"""Singular values of Jacobians: against NumPy, and against exact and limiting laws."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import stabsim
from stabsim.arguments import make_task
from stabsim.network import Network
from stabsim.quantities import PLAIN, QUANTITIES, Quantity
from tests import naive

NAMES = tuple(name for name, q in QUANTITIES.items() if q.tensor == "singular_value")
ROUNDING = 2.0**-52
SHAPES = ((6, 9, 4, 7), (9, 5, 5), (1, 1, 3), (40, 33, 35))


def jacobians(seen: stabsim.Trace, formula: naive.Formula) -> list[Any]:
    """Return, by layer, dz_L/dz_l of each sample (batch, n_L, n_l)."""
    slopes = naive.run(seen.weight, seen.bias, formula, seen.activation[0], seen.activation_gradient[-1]).derivative
    batch, width = seen.activation[-1].shape
    found = [np.broadcast_to(np.eye(width), (batch, width, width))]
    for weight, slope in zip(seen.weight[:0:-1], slopes[:0:-1], strict=True):
        found.append(np.einsum("bij,bj,kj->bik", found[-1], slope, weight))
    return found[::-1]


def of_net(matrices: Any) -> dict[str, float]:
    """Return every quantity of the Jacobians of one layer of one net."""
    values = np.linalg.svd(matrices, compute_uv=False)
    squares = np.square(values)
    alive = values[values[:, 0] > 0]
    full = values[values[:, -1] > max(matrices.shape[1:]) * ROUNDING * values[:, 0]]
    with np.errstate(divide="ignore", invalid="ignore"):
        return {
            "mean": values.mean(),
            "mean_square": squares.mean(),
            "variance": values.var(),
            "log10_norm": 0.5 * np.log10(squares.sum(axis=1).mean()),
            "log10_largest": np.log10(alive[:, 0]).mean() if len(alive) else math.nan,
            "log10_smallest": np.log10(full[:, -1]).mean() if len(full) else math.nan,
            "log10_condition": np.log10(full[:, 0] / full[:, -1]).mean() if len(full) else math.nan,
            "spread": ((alive**4).mean(axis=1) / (alive**2).mean(axis=1) ** 2 - 1).mean() if len(alive) else math.nan,
            "zero_fraction": np.mean(values <= max(matrices.shape[1:]) * ROUNDING * values[:, :1]),
        }


def simulated(network: Network, nets: int = 3, **options: Any) -> stabsim.Result:
    options = {
        "quantities": NAMES,
        "samples": NAMES,
        "sampler": "dense",
        "precision": "float64",
        "threads": 1,
    } | options
    return stabsim.simulate(network, nets=nets, **options)


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("activation", ["linear", "relu", "leaky_relu(slope=0.2)", "tanh", "sigmoid", "gelu", "sine"])
def test_are_those_of_numpy(activation: str, batch: int) -> None:
    name, parameters = stabsim.names.parse(activation)
    formula = naive.FORMULAS[name](*parameters.values())
    for widths in SHAPES:
        for weights, bias_std in (("he_normal", 0.0), ("orthogonal", 0.3)):
            network = Network(widths, activation, weights, bias_std)
            result = simulated(network, batch=batch, seed=5, histograms={"singular_value": (0.0, 2.0, 5)})
            counts = np.zeros_like(result.histograms["singular_value"][1])
            for net in range(result.nets):
                seen = stabsim.trace(network, net=net, batch=batch, seed=5, precision="float64")
                matrices = jacobians(seen, formula)
                for layer, held in enumerate(matrices):
                    gradient = np.einsum("bij,bi->bj", held, seen.activation_gradient[-1])
                    np.testing.assert_allclose(gradient, seen.activation_gradient[layer], rtol=1e-9, atol=1e-12)
                    expected = of_net(held)
                    for statistic, value in expected.items():
                        of_smallest = statistic in ("log10_smallest", "log10_condition")  # rounding is of the largest
                        tolerance = 10.0 ** (expected["log10_condition"] - 12) if of_smallest else 1e-10
                        found = result.samples[f"singular_value_{statistic}"][net, layer]
                        assert found == pytest.approx(value, rel=tolerance, abs=tolerance, nan_ok=True), statistic
                    values = np.linalg.svd(held, compute_uv=False)
                    counts[layer] += np.histogram(values, [-np.inf, 0.0, 0.4, 0.8, 1.2, 1.6, 2.0, np.inf])[0]
            np.testing.assert_array_equal(counts, result.histograms["singular_value"][1])
