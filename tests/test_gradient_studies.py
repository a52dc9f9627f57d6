"""Verdicts on gradients, ranks and chains: the rules fail where what they look at is wrong."""

from __future__ import annotations

import math
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas
import pytest

from stabsim.discovery import files, load
from stabsim.verdicts import counted


def module(name: str) -> Any:
    """Return the module of a study."""
    return sys.modules[load(files()[name]).cases.__module__]


def test_counted_is_the_exact_interval() -> None:
    from scipy.stats import binomtest

    for held, n in ((0, 7), (3, 7), (7, 7), (1, 1)):
        found = counted(np.arange(n) < held)
        wanted = binomtest(held, n).proportion_ci(0.95, "exact")
        assert found["estimate"] == held / n and found["nets"] == n
        assert (found["ci_low"], found["ci_high"]) == pytest.approx((wanted.low, wanted.high), abs=1e-12)


# --- gradient_causes -----------------------------------------------------------------------------------


def chain_of_gains(causes: Any) -> tuple[dict[str, Any], Any]:
    """Return samples of two nets whose norms are those that their gains make, and what is collected of them."""
    generator = np.random.default_rng(0)
    nets, layers = 2, causes.DEPTH + 1
    derivative, weights, z = generator.normal(size=(3, nets, layers))
    derivative[:, 0] = weights[:, -1] = np.nan
    steps = derivative[:, 1:] + weights[:, :-1]
    dz = 1.5 + np.append(np.cumsum(steps[:, ::-1], axis=1)[:, ::-1], np.zeros((nets, 1)), axis=1)
    dw = np.append(np.full((nets, 1), np.nan), dz[:, 1:] + derivative[:, 1:] + z[:, :-1], axis=1)
    samples = {
        causes.OF_DERIVATIVE: derivative,
        causes.OF_WEIGHTS: weights,
        causes.NORM: z,
        causes.GRADIENT: dz,
        causes.WEIGHT_GRADIENT: dw,
        causes.SHUT: np.zeros((nets, layers)),
    }
    return samples, SimpleNamespace(results=((SimpleNamespace(tags={}), SimpleNamespace(samples=samples)),))


def test_a_gradient_that_changes_by_more_than_its_causes_is_found() -> None:
    causes = module("gradient_causes")
    samples, collected = chain_of_gains(causes)
    assert all(part.all() and part.size == 2 for part in causes.telescoping(collected))
    samples[causes.OF_WEIGHTS][1, 7] += 0.001
    assert [part.tolist() for part in causes.telescoping(collected)] == [[True, False], [True, False]]
    samples[causes.OF_WEIGHTS][1, 7] -= 0.001
    samples[causes.NORM][0, 0] += 0.001  # of dW only
    assert [part.tolist() for part in causes.telescoping(collected)] == [[True, True], [False, True]]


def test_zeros_and_the_rest_of_the_derivative_are_told_apart() -> None:
    causes = module("gradient_causes")
    samples, _ = chain_of_gains(causes)
    samples[causes.SHUT][:] = 0.75
    samples[causes.OF_DERIVATIVE][:, 1:] = math.log10(0.5) - 0.2
    found = causes.split(samples)
    np.testing.assert_allclose(found[causes.ZERO], math.log10(0.5), rtol=1e-12)
    np.testing.assert_allclose(found[causes.BELOW], -0.2, rtol=1e-12)


@pytest.mark.parametrize(
    ("shares", "correlated", "verdict"),
    [
        ((1.0, 0.0, 0.0), 0.1, "holds when each W is cut to the units that are on"),
        ((0.995, 0.0, 0.0), 0.1, "fails"),
        ((1.0, 0.01, 0.0), 0.1, "fails"),
    ],
)
def test_one_jacobian_that_differs_is_enough(shares: tuple[float, ...], correlated: float, verdict: str) -> None:
    causes = module("gradient_causes")
    rows = pandas.DataFrame({"activation": ["relu", "leaky_relu", "tanh"], "estimate": shares})
    rows = rows.assign(ci_low=0.98, ci_high=1.0, nets=200, correlation=correlated)
    assert causes._jacobian(SimpleNamespace(measured=rows)).verdict == verdict


# --- layer_speeds --------------------------------------------------------------------------------------


def speeds_table(factor: float) -> pandas.DataFrame:
    """Return log10 norms that grow by a factor a layer, of dW as of ds."""
    study = module("layer_speeds")
    rows = [
        (activation, start, quantity, layer, layer * math.log10(factor))
        for activation in study.ACTIVATIONS
        for start in study.STARTS
        for quantity in (study.DELTA, study.WEIGHT_GRADIENT)
        for layer in (1, 2, 3, 4)
    ]
    table = pandas.DataFrame(rows, columns=["activation", "weights", "quantity", "layer", "estimate"])
    return table.assign(part="normal", std_error=0.01)


@pytest.mark.parametrize(("factor", "verdict"), [(2.0, "holds"), (1.2, "fails"), (0.5, "fails")])
def test_a_layer_is_far_slower_by_a_factor_of_three(factor: float, verdict: str) -> None:
    # Root mean squares: dW_1 has more rows than dW_3, which makes sqrt(64 / 30) of the same norm.
    found = module("layer_speeds")._slow_layer(speeds_table(factor))
    assert found.verdict.startswith(verdict) and ("by a factor of 3" in found.verdict) == (verdict == "holds")
    assert found.estimate == pytest.approx(2 * math.log10(factor) + 0.5 * math.log10(64 / 30))


def test_only_starts_whose_layer_is_far_ahead_are_named() -> None:
    study = module("layer_speeds")
    table = speeds_table(2.0)
    wild = table["weights"] == "N(0, 1)"
    table.loc[wild, "estimate"] = 0.0
    verdict = study._slow_layer(table).verdict
    assert verdict.endswith("by a factor of 3: Xavier (5.8) and He (5.8)")


def moved_table(factors: dict[str, tuple[float, ...]]) -> pandas.DataFrame:
    """Return by which factors layer 3 has gone further than layer 1, from every start."""
    study = module("layer_speeds")
    rows = [
        (start, quantity, step, math.log10(factor))
        for start, each in factors.items()
        for quantity in (*study.MOVED, "loss")
        for step, factor in zip(study.RECORDED, each, strict=True)
    ]
    table = pandas.DataFrame(rows, columns=["weights", "quantity", "step", "estimate"]).assign(std_error=0.01)
    found: pandas.DataFrame = study.with_interval(table)
    return found.assign(part="digits", theory=math.nan)


def test_trained_layers_are_far_apart_for_as_long_as_it_is_so() -> None:
    study = module("layer_speeds")
    steps = len(study.RECORDED)
    fast, even = (20.0,) * steps, (1.1,) * steps
    factor = 'holds when "far more slowly" is by a factor of 3'

    def verdict(**starts: tuple[float, ...]) -> str:
        table = moved_table(dict.fromkeys(study.STARTS, even) | starts)
        return str(study._trained_layers(table).verdict)

    assert verdict() == "fails"
    assert verdict(**dict.fromkeys(study.STARTS, fast)) == factor
    late = (9.0, 5.0, 2.0, *(20.0,) * (steps - 3))  # from the first step on, not once more
    assert verdict(He=late) == f"{factor}: in training up to step {study.RECORDED[1]} (He; there by a factor of 5)"


# --- jacobian_spectrum ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("quantity", "estimate", "verdict"),
    [
        ("nets", 0.0, "holds"),
        ("rate - radius", 0.01, "fails"),
        ("farther from rms", -0.1, "fails"),
        ("farther from largest", -0.1, "fails"),
        ("vanishes", 0.5, "fails"),
        ("explodes", 0.5, "fails"),
    ],
)
def test_gradients_of_one_matrix_go_by_its_radius(quantity: str, estimate: float, verdict: str) -> None:
    study = module("jacobian_spectrum")
    good = {"rate - radius": 0.0, "farther from rms": 0.1, "farther from largest": 0.7, "vanishes": 1, "explodes": 1}
    rows = [(name, value, 0.001, 100) for name, value in (good | {quantity: estimate}).items()]
    table = study.with_interval(pandas.DataFrame(rows, columns=["quantity", "estimate", "std_error", "nets"]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(study, "_rate", lambda *_, **__: 0.0)
        found = study._one_matrix(pandas.DataFrame(), table.assign(theory=0.0, least=-0.5, most=0.5))
    assert found.verdict.startswith(verdict)


# --- rank ----------------------------------------------------------------------------------------------


def ranks_of(rank: Any, batch: int, dw: float, z: float, ds: float) -> pandas.DataFrame:
    layers = rank.DEPTH + 1
    samples = {rank.RANK: dw, rank.Z_RANK: z, rank.DS_RANK: ds}
    result = SimpleNamespace(samples={name: np.full((3, layers), value) for name, value in samples.items()})
    case = SimpleNamespace(tags={"part": "batch", "setting": "relu", "batch": batch})
    found: pandas.DataFrame = rank.ranks(SimpleNamespace(results=((case, result),)))
    return found


def test_ranks_are_counted_against_the_batch_the_width_and_both_factors() -> None:
    rank = module("rank")
    all_layers = 3 * rank.DEPTH
    for batch, dw, z, ds, equal, within in (
        (8, 8, 8, 8, all_layers, all_layers),
        (8, 7, 7, 8, 0, all_layers),
        (8, 8, 7, 8, all_layers, 0),
        (8, 9, 9, 9, 0, 0),
        (64, rank.WIDTH, rank.WIDTH, rank.WIDTH, all_layers, all_layers),
    ):
        row = ranks_of(rank, batch, dw, z, ds).iloc[0]
        assert (row["equal"], row["within"], row["all"]) == (equal, within, all_layers)


def test_rank_0_and_idle_samples_are_counted_apart() -> None:
    rank = module("rank")
    values = {rank.RANK: np.array([[np.nan, 0, 0, 1, 2]]), rank.IDLE: np.array([[np.nan, 1, 0.75, 1, 0]])}
    case = SimpleNamespace(tags={"part": "narrow", "setting": "relu", "batch": 4})
    assert rank.stopped(SimpleNamespace(results=((case, SimpleNamespace(samples=values)),))) == (2, 2, 1)


def test_stable_ranks_of_infinite_width_keep_linear_nets_and_collapse_others() -> None:
    rank = module("rank")
    np.testing.assert_allclose(rank.wide_stable_ranks("linear"), rank.SAMPLES)
    relu = rank.wide_stable_ranks("ReLU, He")
    # Orthogonal samples have the cosine 1/pi after one ReLU (Cho & Saul 2009).
    assert relu[1] == pytest.approx(rank.SAMPLES / (1 + (rank.SAMPLES - 1) / math.pi))
    assert (np.diff(relu) < 0).all() and relu[-1] < 1.02 < 4 < rank.wide_stable_ranks("tanh, chaotic")[-1]


@pytest.mark.parametrize("name", ["permuted", "alone", "projected", "batch"])
def test_one_net_whose_rows_are_no_samples_is_enough(name: str) -> None:
    rank = module("rank")
    rows = pandas.DataFrame(
        [("permuted", "plain", 1.0), ("alone", "plain", 1.0), ("projected", "plain", 1.0), ("alone", "batch", 0.0)],
        columns=["part", "setting", "estimate"],
    ).assign(ci_low=0.9, ci_high=1.0, nets=100)
    assert rank._rows_are_samples(rows).verdict == "holds when there is no batch norm"
    wrong = (rows["setting"] == "batch") if name == "batch" else (rows["part"] == name) & (rows["setting"] == "plain")
    assert rank._rows_are_samples(rows.assign(estimate=rows["estimate"].where(~wrong, 0.99))).verdict == "fails"


def test_other_rows_are_seen_to_change() -> None:
    rank = module("rank")
    a, b = np.random.default_rng(0).standard_normal((2, 5, 3))
    assert rank._all_close([a, b], [a + 1e-15, b]) and not rank._all_close([a, b], [a, b + 1e-9])


# --- scalar_chain --------------------------------------------------------------------------------------


def test_factors_of_chains_that_stopped_are_not_counted() -> None:
    chains = module("scalar_chain")
    slopes = np.array([[np.nan, np.nan, -np.inf, 0.0], [np.nan, -0.5, 0.0, 0.0]])
    weights = np.array([[np.nan, np.nan, 0.3, np.nan], [0.6, -0.2, 0.3, np.nan]])
    found = chains._log_factors({chains.OF_DERIVATIVE: slopes, chains.OF_WEIGHT: weights})
    np.testing.assert_allclose(found, [[np.nan, -np.inf, 0.3], [0.1, -0.2, 0.3]], atol=1e-15)


@pytest.mark.parametrize(
    ("factor", "power", "right"), [(1.5, 100, True), (0.8, 99, False), (5.0, 30, True), (0.2, 29, False)]
)
def test_powers_are_held_to_the_digit_that_is_given(factor: float, power: int, right: bool) -> None:
    assert module("scalar_chain")._matches(factor, factor**power) is right


def test_the_ends_of_the_interval_are_where_theory_has_them() -> None:
    chains = module("scalar_chain")
    for weight in (3.0, 4.0, 4.01, 6.89, 12.0):
        width = float(chains.steep_width(weight, "sigmoid"))
        assert chains._between_ends(weight)["estimate"] == pytest.approx(width, rel=1e-10, abs=1e-12)


@pytest.mark.parametrize(("change", "verdict"), [(1.0, "holds"), (1.05, "fails"), (0.0, "fails")])
def test_an_interval_of_another_width_is_found(change: float, verdict: str) -> None:
    chains = module("scalar_chain")
    rows = [
        {"part": "steep", "setting": name, "weight": weight, "estimate": float(chains.steep_width(weight, name))}
        for name in ("sigmoid", "tanh")
        for weight in chains.WEIGHTS
    ]
    rows += [chains._between_ends(weight) for weight in chains.FINE[::10]]
    steep = pandas.DataFrame(rows).assign(ci_low=0.4, ci_high=0.5)
    steep["estimate"] *= change
    shares = [
        {
            "setting": name,
            "depth": 30,
            "layer": layer,
            "estimate": 0.1,
            "ci_low": 0.05,
            "ci_high": 0.2,
            "theory": theory,
        }
        for name in chains.CHAINS
        for layer, theory in ((0, math.nan), (1, 0.11), (30, math.nan))
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chains, "factors", lambda _: pandas.DataFrame(shares))
        assert chains._narrow(SimpleNamespace(measured=steep)).verdict == verdict
