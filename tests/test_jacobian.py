"""Singular values of Jacobians: against NumPy, and against exact and limiting laws."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy.stats import ks_2samp

import stabsim
from stabsim.arguments import make_task
from stabsim.network import Network
from stabsim.quantities import PLAIN, QUANTITIES, Quantity
from stabsim.theory import finite_width, jacobian, jacobian_spectrum
from tests import naive
from tests.checks import LIMIT, WRONG, assert_agrees, must_fail

NAMES = tuple(name for name, q in QUANTITIES.items() if q.tensor == "singular_value")
ROUNDING = 2.0**-52
SHAPES = ((6, 9, 4, 7), (9, 5, 5), (1, 1, 3), (40, 33, 35))


def jacobians(seen: stabsim.Trace, formula: naive.Formula) -> list[Any]:
    """Return, by layer, dz_L/dz_l of each sample (batch, n_L, n_l)."""
    net: Any = naive.run(seen.weight, seen.bias, formula, seen.activation[0], seen.activation_gradient[-1])
    batch, width = seen.activation[-1].shape
    found: list[Any] = [np.broadcast_to(np.eye(width), (batch, width, width))]
    for weight, slope in zip(net.weight[:0:-1], net.derivative[:0:-1], strict=True):
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
            "log10_smallest": np.log10(full[:, -1]).mean() if len(full) == len(values) else -math.inf,
            "log10_condition": np.log10(full[:, 0] / full[:, -1]).mean() if len(full) == len(values) else math.inf,
            "spread": ((alive**4).mean(axis=1) / (alive**2).mean(axis=1) ** 2 - 1).mean() if len(alive) else math.nan,
            "zero_fraction": np.mean(values <= max(matrices.shape[1:]) * ROUNDING * values[:, :1]),
        }


def simulated(network: Network, nets: int = 2, **options: Any) -> stabsim.Result:
    given: dict[str, Any] = {"quantities": NAMES, "samples": NAMES, "sampler": "dense", "precision": "float64"}
    given["threads"] = 1
    return stabsim.simulate(network, nets=nets, **(given | options))


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("activation", ["linear", "relu", "leaky_relu(slope=0.2)", "tanh", "sigmoid", "gelu"])
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
                        of_smallest = statistic in ("log10_smallest", "log10_condition") and math.isfinite(value)
                        # Rounding is of the largest.
                        tolerance = 10.0 ** (expected["log10_condition"] - 12) if of_smallest else 1e-10
                        found = result.samples[f"singular_value_{statistic}"][net, layer]
                        assert found == pytest.approx(value, rel=tolerance, abs=tolerance, nan_ok=True), statistic
                    values = np.linalg.svd(held, compute_uv=False)
                    counts[layer] += np.histogram(values, [-np.inf, 0.0, 0.4, 0.8, 1.2, 1.6, 2.0, np.inf])[0]
            np.testing.assert_array_equal(counts, result.histograms["singular_value"][1])


def test_are_float64_with_weights_of_float32() -> None:
    network = Network((8, 12, 9), "tanh", "he_normal")
    result = simulated(network, precision="float32", batch=2)
    matrices = jacobians(stabsim.trace(network, batch=2), naive.FORMULAS["tanh"]())
    for layer, held in enumerate(matrices):
        for statistic, value in of_net(held).items():
            assert result.samples[f"singular_value_{statistic}"][0, layer] == pytest.approx(value, abs=2e-6), statistic


def test_do_not_leave_float64() -> None:
    for gain in (1e-9, 1e9):
        result = simulated(Network((6,) * 61, "linear", f"orthogonal(gain={gain})"), quantities=NAMES)
        powers = np.arange(60, -1, -1) * math.log10(gain)
        for name in ("log10_largest", "log10_smallest"):
            found = result.estimates(f"singular_value_{name}").estimate
            np.testing.assert_allclose(found, powers, rtol=1e-12)
        np.testing.assert_allclose(result.estimates("singular_value_spread").estimate, 0.0, atol=1e-12)
        norm = result.estimates("singular_value_log10_norm").estimate
        np.testing.assert_allclose(norm, powers + 0.5 * math.log10(6.0), rtol=1e-12)


def test_of_dead_nets_are_zero_and_left_out() -> None:
    result = simulated(Network((3, 1, 3), "relu", "he_normal"), nets=40, inputs=np.ones((1, 3)))
    dead = np.isneginf(result.samples["singular_value_log10_norm"][:, 0])
    assert 0 < dead.sum() < 40
    assert np.all(result.samples["singular_value_zero_fraction"][dead, 0] == 1.0)
    for statistic in ("log10_norm", "log10_largest", "spread"):
        assert result.estimates(f"singular_value_{statistic}").nets[0] == 40 - dead.sum()
    assert result.estimates("singular_value_log10_smallest").nets[0] == 0  # of rank 1


def test_what_needs_no_decomposition_is_the_same_with_one() -> None:
    network = Network((7, 9, 7), "tanh", "he_normal")
    every = simulated(network, batch=2)
    for name in ("mean_square", "log10_norm", "spread"):
        alone = simulated(network, batch=2, quantities=(f"singular_value_{name}",), samples=())
        found, expected = (each.estimates(f"singular_value_{name}").estimate for each in (alone, every))
        np.testing.assert_array_equal(found, expected)


def test_are_asked_for_by_name() -> None:
    network = Network((5, 6), "tanh", "he_normal")
    task = make_task(network)
    assert not set(NAMES) & ({q.name for q in task.table_quantities} | set(PLAIN))
    assert task.features == frozenset() and "jacobian" in make_task(network, quantities=NAMES).features
    assert make_task(network, samples=NAMES[:1]).features >= {"jacobian"}
    assert make_task(network, histograms={"singular_value": (0, 1, 2)}).features >= {"jacobian"}
    assert make_task(network, quantities=NAMES, batch=3).sampler == "dense"


def test_go_with_everything_else_that_dense_nets_have() -> None:
    network = Network((5, 8, 6), "tanh", "he_normal")
    options: dict[str, Any] = {"batch": 3, "sampler": "dense", "threads": 1, "nets": 20}
    plain = stabsim.simulate(network, quantities=tuple(PLAIN), **options, clipping="norm")
    both = stabsim.simulate(network, quantities=(*PLAIN, *NAMES), **options, clipping="norm")
    for name in PLAIN:
        np.testing.assert_array_equal(plain.estimates(name).estimate, both.estimates(name).estimate)


def test_are_seen_by_functions() -> None:
    own = [
        Quantity("singular_value", "cube", "value", function=lambda x: x**3),
        Quantity("singular_value", "first", "value", function=lambda matrix: matrix[:, 0].mean(), whole=True),
    ]
    network = Network((5, 8, 6), "tanh", "he_normal")
    result = simulated(network, quantities=own, samples=own, batch=2)
    for net in range(result.nets):
        seen = stabsim.trace(network, net=net, batch=2, precision="float64")
        for layer, held in enumerate(jacobians(seen, naive.FORMULAS["tanh"]())):
            values = np.linalg.svd(held, compute_uv=False)
            assert result.samples["singular_value_cube"][net, layer] == pytest.approx((values**3).mean(), rel=1e-10)
            assert result.samples["singular_value_first"][net, layer] == pytest.approx(values[:, 0].mean(), rel=1e-10)


NORM, SPREAD = "singular_value_log10_norm", "singular_value_spread"
PLAIN_NETWORK = Network((4, 4), "tanh", "he_normal")


@pytest.mark.parametrize(
    ("network", "options", "message"),
    [
        (Network((4, 4, 4), "tanh", "he_normal", cell="rnn"), {}, "cell='rnn' does not go with singular_value_spread"),
        (Network((4, 4), "relu", "he_normal", normalization="layer"), {},
         "normalization='layer.*' does not go with singular_value_spread"),
        (Network((4, 4, 4), "relu", "he_normal", skip="skip(layers=1)"), {},
         r"skip='.*' does not go with singular_value_spread"),
        (PLAIN_NETWORK, {"precision": "float16"}, "precision='float16' does not go with singular_value_spread"),
        (PLAIN_NETWORK, {"quantities": ("singular_value",)}, "unknown quantity 'singular_value'"),
    ],
)  # fmt: skip
def test_refused(network: Network, options: Any, message: str) -> None:
    options = {"quantities": (SPREAD,)} | options
    with pytest.raises(ValueError, match=message):
        make_task(network, **options)


@pytest.mark.parametrize(
    ("activation", "weights", "widths"),
    [
        ("linear", "lecun_uniform", (16, 24, 12, 16)),
        ("relu", "he_normal", (16,) * 6),
        ("relu", "he_normal", (6, 4, 9, 3)),
        ("leaky_relu(slope=0.5)", "truncated_normal", (12, 20, 8)),
    ],
)
def test_mean_square_is_exact(activation: str, weights: str, widths: tuple[int, ...]) -> None:
    network = Network(widths, activation, weights)
    name = "singular_value_mean_square"
    rows = simulated(network, nets=16000, quantities=(name,), samples=(), precision="float32").table
    rows = rows[(rows["layer"] < network.depth)]
    check = (rows["estimate"], rows["theory"], rows["std_error"])
    assert_agrees(*check)
    must_fail(assert_agrees, check[0], check[1] * WRONG, check[2])


KNOWN = ("singular_value_mean_square", "singular_value_log10_largest")
TWO = "singular values it gives singular_value_mean_square and singular_value_log10_largest$"


@pytest.mark.parametrize(
    ("network", "precision"),
    [
        (Network((40, 64, 80, 48), "tanh", "he_normal", 0.3), "float32"),
        (Network((20,) * 4, "relu", "he_normal"), "float64"),  # as many steps as units
        (Network((48, 40, 64), "linear", "lecun_normal(gain=1e9)"), "float32"),
    ],
)
def test_without_weights_have_the_law_of_those_with(network: Network, precision: str) -> None:
    options: dict[str, Any] = {"quantities": KNOWN, "precision": precision, "threads": 2}
    dense = simulated(network, nets=3000, seed=1, samples=KNOWN, **options)
    free = simulated(network, nets=3000, seed=2, samples=KNOWN, sampler="matrix_free", **options)
    assert list(free.table["layer"]) == [0, 0]
    assert not free.overflowed()
    for name in KNOWN:
        one, two = (result.estimates(name) for result in (dense, free))
        check = (one.estimate[:1], two.estimate[:1], np.hypot(one.std_error, two.std_error)[:1])
        assert_agrees(*check)
        wrong = two.estimate[:1] * 1.3 if name == KNOWN[0] else two.estimate[:1] + math.log10(WRONG)
        must_fail(assert_agrees, check[0], wrong, check[2])
    values = [result.samples[KNOWN[1]][:, 0] for result in (dense, free)]
    assert ks_2samp(*values).pvalue > 1e-6
    assert ks_2samp(values[0], values[1] + math.log10(WRONG)).pvalue < 1e-6


def test_without_weights_tend_to_their_limit() -> None:
    network = Network((4000,) * 6, "relu", "he_normal")
    name = "singular_value_log10_largest"
    row = simulated(network, nets=20, quantities=(name,), samples=(), sampler="matrix_free").table.iloc[0]
    assert -0.01 < row["estimate"] - row["infinite_width"] < 0.002


def test_without_weights_only_some_are_known() -> None:
    network = Network((8, 8), "tanh", "he_normal")
    assert make_task(network, quantities=KNOWN).sampler == "dense"
    for names, batch, weights, message in (
        ((SPREAD,), 1, "he_normal", f"sampler='matrix_free' does not run nets with {SPREAD}: of {TWO}"),
        (KNOWN, 2, "he_normal", r"sampler='matrix_free' takes one sample \(batch=1\), not batch=2"),
        (KNOWN, 1, "orthogonal", "sampler='matrix_free' needs weights of law 'normal', not 'orthogonal'"),
    ):
        with pytest.raises(ValueError, match=message):
            make_task(Network((8, 8), "tanh", weights), quantities=names, batch=batch, sampler="matrix_free")


def test_auto_finds_all_singular_values_of_narrow_nets_and_the_largest_of_wide_ones() -> None:
    free = {"quantities": KNOWN}
    for widths, weights, options, sampler in (
        ((512, 512), "he_normal", free, "dense"),
        ((8, 513, 8), "he_normal", free, "matrix_free"),
        ((10_000,) * 3, "he_normal", free | {"quantities": KNOWN[1:]}, "matrix_free"),
        ((513, 8), "he_normal", {"samples": KNOWN}, "matrix_free"),
        ((8, 513), "he_normal", free | {"batch": 2}, "dense"),
        ((8, 513), "orthogonal", free, "dense"),
        ((8, 513), "he_normal", free | {"quantities": (SPREAD,)}, "dense"),
        ((8, 513), "he_normal", free | {"histograms": {"singular_value": (0, 1, 2)}}, "dense"),
    ):
        assert make_task(Network(widths, "tanh", weights), **options).sampler == sampler, (widths, options)


@pytest.mark.parametrize("activation", ["linear", "relu"])
def test_fourth_powers_are_exact(activation: str) -> None:
    widths = (24, 30, 20, 24)
    own = Quantity("singular_value", "fourth_power", "value", function=lambda x: x**4)
    weights = "lecun_normal" if activation == "linear" else "he_normal"
    result = simulated(Network(widths, activation, weights), nets=8000, quantities=(own,), samples=())
    found = result.estimates(own.name)
    count = min(widths[0], widths[-1])
    expected = finite_width.jacobian_moments(widths, activation).trace_of_square * widths[-1] / count
    assert_agrees(found.estimate[:1], [expected], found.std_error[:1])
    must_fail(assert_agrees, found.estimate[:1], [expected * WRONG], found.std_error[:1])


@pytest.mark.parametrize(
    ("activation", "weights", "widths"),
    [
        ("linear", "lecun_normal", (160,) * 4),
        ("relu", "he_normal", (160,) * 4),
        ("tanh", "lecun_normal", (160,) * 4),
        ("relu", "orthogonal", (160,) * 4),
        ("linear", "orthogonal", (160, 240, 80, 200)),
        ("tanh", "lecun_uniform", (160, 240, 80, 200)),
    ],
)
def test_tend_to_their_limits(activation: str, weights: str, widths: tuple[int, ...]) -> None:
    names = ("singular_value_mean_square", SPREAD, NORM)
    rows = simulated(Network(widths, activation, weights), nets=400, quantities=names, samples=(), threads=2).table
    for name in names:
        row = rows[(rows["quantity"] == name) & (rows["layer"] == 0)].iloc[0]
        error = row["std_error"] + 0.015 * abs(row["infinite_width"]) / LIMIT  # about depth / width
        assert_agrees(row["estimate"], row["infinite_width"], error)
        must_fail(assert_agrees, row["estimate"], 1.1 * row["infinite_width"], error)


def test_largest_tends_to_its_limit() -> None:
    for activation, weights in (("linear", "lecun_normal"), ("relu", "he_normal"), ("relu", "orthogonal")):
        name = "singular_value_log10_largest"
        gaps = []
        for width in (30, 240):
            network = Network((width,) * 4, activation, weights)
            rows = simulated(network, nets=20, quantities=(name,), samples=()).table.iloc[:3]
            gaps.append(rows["infinite_width"] - rows["estimate"])
        assert np.all(gaps[1] > -1e-9) and np.all(gaps[1] < 0.3 * gaps[0] + 1e-9)  # falls as width^(-2/3)


def test_mean_singular_value_of_one_layer() -> None:
    name = "singular_value_mean"
    for gain in (1.0, 3**-0.5):
        network = Network((300, 300), "linear", f"lecun_normal(gain={gain})")
        found = simulated(network, nets=20, quantities=(name,), samples=()).estimates(name).estimate[0]
        assert found == pytest.approx(jacobian.mean_singular_value(gain), rel=1e-3)


LAWS = [("linear", "lecun_normal", "normal", 0.005), ("relu", "he_normal", "normal", 0.013),
        ("relu", f"orthogonal(gain={2**0.5})", "orthogonal", 0.016)]  # fmt: skip


@pytest.mark.parametrize(("activation", "weights", "kind", "tolerance"), LAWS)
def test_spectra_are_those_of_free_probability(activation: str, weights: str, kind: str, tolerance: float) -> None:
    top = 1.2 * math.sqrt(jacobian_spectrum.squared_singular_value_edge(3, activation, kind))
    network = Network((300,) * 4, activation, weights)
    bins = {"singular_value": (0.0, top, 60)}
    result = simulated(network, nets=20, quantities=(NORM,), samples=(), histograms=bins, threads=2)
    edges, counts = result.histograms["singular_value"]
    found = np.cumsum(counts[0, 2:-1]) / counts[0, 2:-1].sum()  # above the first bin: how many are 0 is another matter

    def check(scale: float) -> None:
        law = jacobian_spectrum.squared_singular_value_distribution((scale * edges[1:]) ** 2, 3, activation, kind)
        assert np.abs((law[1:] - law[0]) / (law[-1] - law[0]) - found).max() < tolerance

    check(1.0)
    must_fail(check, WRONG)


CONTINUOUS = [("linear", "normal", 1), ("linear", "normal", 7), ("relu", "normal", 1), ("relu", "normal", 6),
              ("relu", "orthogonal", 2), ("relu", "orthogonal", 3), ("relu", "orthogonal", 9)]  # fmt: skip


@pytest.mark.parametrize(("activation", "weights", "depth"), CONTINUOUS)
def test_densities_have_their_moments(activation: str, weights: str, depth: int) -> None:
    law = (depth, activation, weights)
    edge = jacobian_spectrum.squared_singular_value_edge(*law)
    half = edge * 1e-40 ** np.linspace(0.0, 1.0, 1500) ** 2  # dense at the edge and at 0
    x = half[::-1]
    share = np.diff(jacobian_spectrum.squared_singular_value_distribution(x, *law))
    middle = 0.5 * (x[1:] + x[:-1])
    assert share.min() > -1e-12
    variance = jacobian.squared_singular_value_variance(activation, depth, weights=weights)
    for power, moment in ((1, 1.0), (2, 1.0 + variance)):
        assert share @ middle**power == pytest.approx(moment, rel=1e-4)
    inner = edge * np.array([0.02, 0.1, 0.5, 0.9])
    density = jacobian_spectrum.squared_singular_value_density(inner, *law)
    ends = [jacobian_spectrum.squared_singular_value_distribution(inner * (1 + h), *law) for h in (-1e-5, 1e-5)]
    np.testing.assert_allclose(density, (ends[1] - ends[0]) / (2e-5 * inner), rtol=1e-6, atol=1e-9)
    outside = jacobian_spectrum.squared_singular_value_density([-1.0, 0.0, 1.001 * edge], *law)
    np.testing.assert_array_equal(outside, [0.0, 0.0, 0.0])
    for wrong in ("a", np.nan):
        with pytest.raises((TypeError, ValueError), match=r"^x must be a"):
            jacobian_spectrum.squared_singular_value_density(wrong, *law)


def test_closed_laws_are_special_cases() -> None:
    x = np.array([0.3, 1.7, 3.9])
    density = jacobian_spectrum.squared_singular_value_density
    np.testing.assert_allclose(density(x, 1), np.sqrt(4 / x - 1) / (2 * math.pi), rtol=1e-12)
    np.testing.assert_allclose(density(x, 1), stabsim.theory.spectra.marchenko_pastur(x, 1.0), rtol=1e-12)
    np.testing.assert_allclose(density(x, 2, "relu", "orthogonal"), 0.5 / (math.pi * np.sqrt(x * (4 - x))), rtol=1e-12)
    for depth in (1, 2, 30):
        edge = jacobian_spectrum.squared_singular_value_edge(depth)
        assert edge == pytest.approx(jacobian.largest_squared_singular_value(depth), rel=1e-12)
    assert jacobian_spectrum.squared_singular_value_edge(1, "relu") == pytest.approx((1 + 2**0.5) ** 2, rel=1e-12)
    assert jacobian_spectrum.squared_singular_value_edge(1, "relu", "orthogonal") == 2.0
    assert jacobian_spectrum.squared_singular_value_edge(5, "linear", "orthogonal") == 1.0


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((0,), ValueError, "depth"),
        ((2.5,), TypeError, "depth"),
        ((1, "tanh"), ValueError, "unknown activation of a spectrum 'tanh'"),
        ((1, "relu", "uniform"), ValueError, "unknown weights of a spectrum 'uniform'"),
        ((4, "linear", "orthogonal"), ValueError, "depth=4 .*: all squared singular values are 1"),
        ((1, "relu", "orthogonal"), ValueError, "depth=1 .*: all squared singular values are 0 or 2"),
    ],
)
def test_densities_refuse(arguments: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        jacobian_spectrum.squared_singular_value_density(1.0, *arguments)
