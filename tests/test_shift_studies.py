"""Verdicts on A04, A20 and A21: rules come out both ways, and what the studies calculate themselves."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pandas
import pytest
from scipy.stats import wasserstein_distance

from tests.test_plateau_studies import module

NAMES = ("tanh", "relu")


@pytest.fixture(scope="module")
def shift() -> Any:
    """Return the module of the study of covariate shift."""
    return module("covariate_shift")


@pytest.fixture(scope="module")
def weights() -> Any:
    """Return the module of the study of the weights' scale."""
    return module("weight_scale")


def a_row(part: str, quantity: str, estimate: float, half: float = 0.05, **tags: Any) -> dict[str, Any]:
    tags = {"step": -1, "layer": -1, "normalization": "none", "theory": math.nan, "nets": 8, "diverged": 0} | tags
    ends = {"ci_low": estimate - half, "ci_high": estimate + half}
    return {"part": part, "quantity": quantity, "estimate": estimate} | ends | tags


def test_distance_of_samples_is_that_of_wasserstein_by_unit(shift: Any) -> None:
    random = np.random.default_rng(0)
    one, other = random.standard_normal((2, 16, 3))
    std = np.array([1.0, 2.0, 0.0])  # what never varies is left out
    each = [wasserstein_distance(one[:, j], other[:, j]) / std[j] for j in range(2)]
    assert shift.apart(one, other, std) == pytest.approx(np.mean(each), rel=1e-12)


def test_labels_anew_tell_samples_of_one_law_from_those_of_two(shift: Any) -> None:
    random = np.random.default_rng(1)
    std = [np.ones(64)]
    both = random.standard_normal((40, 2 * shift.BATCH, 64))

    def excess(moved: float) -> float:
        found = []
        for z in both:
            other = z[shift.BATCH :] + moved
            distance = [shift.apart(z[: shift.BATCH], other, std[0])]
            found.append(shift._excess([np.concatenate([z[: shift.BATCH], other])], distance, std, random))
        return float(np.mean(found) / (np.std(found) / math.sqrt(len(found))))

    assert abs(excess(0.0)) < 5 < excess(0.1)


def test_a_level_must_be_passed_on_the_way(shift: Any) -> None:
    steps, drift = np.array([0.0, 1.0, 3.0]), np.array([0.0, 2.0, 4.0])
    assert shift._when(3.0, drift, steps) == pytest.approx(2.0)
    for level in (0.0, 5.0):
        with pytest.raises(ValueError, match=f"level must be reached after the start and by the end, not {level:g}"):
            shift._when(level, drift, steps)


@pytest.mark.parametrize(
    ("any_two", "classes", "verdict", "estimate"),
    [
        ((0.3, 0.4), (0.5, 0.5), "holds", 0.3),
        ((0.0, 0.3), (0.5, 0.6), "holds when the batches are of .* law with tanh", 0.5),
        ((0.0, 0.0), (0.0, 0.6), "holds when .* of one law with tanh or relu; and f is relu", 0.6),
        ((0.0, 0.0), (0.0, 0.0), "fails", 0.0),
    ],
)
def test_batches_must_differ_more_than_samples_of_one_law(
    shift: Any, any_two: tuple[float, float], classes: tuple[float, float], verdict: str, estimate: float
) -> None:
    rows = []
    for name, *values in zip(NAMES, any_two, classes, strict=True):
        parts = zip(
            ("excess", "excess_classes", "power", "slope", f"batch {shift.BATCH}"), (*values, -0.5, 0, 0.2), strict=True
        )
        rows += [a_row("batches", quantity, value, activation=name) for quantity, value in parts]
    found = shift._batches(pandas.DataFrame(rows))
    assert re.fullmatch(verdict, found.verdict) and found.estimate == estimate


def of_nets(shift: Any, activation: str, normalization: str, **values: float) -> list[dict[str, Any]]:
    tags = {"activation": activation, "normalization": normalization, "rate": shift.MIDDLE}
    return [a_row("net", quantity, value, 0.01, **tags) for quantity, value in values.items()]


@pytest.mark.parametrize(
    ("tanh", "relu", "verdict", "estimate"),
    [(0.2, 0.3, "holds", 0.2), (0.0, 0.3, "holds when f is relu", 0.3), (0.0, -0.3, "fails", 0.0)],
)
def test_deeper_layers_drift_more_if_slopes_are_surely_positive(
    shift: Any, tanh: float, relu: float, verdict: str, estimate: float
) -> None:
    rows = []
    for name, slope in zip(NAMES, (tanh, relu), strict=True):
        for norm in ("none", "batch"):
            rows += of_nets(shift, name, norm, slope=slope)
        for layer, value in ((2, 1.0), (shift.DEPTH, math.exp(6 * slope))):
            rows.append(
                a_row("layer", shift.BY_WEIGHTS, value, activation=name, layer=layer, rate=shift.MIDDLE)
            )  # fmt: skip
    found = shift._deeper(pandas.DataFrame(rows))
    assert (found.verdict, found.estimate) == (verdict, estimate)


@pytest.mark.parametrize(
    ("tanh", "relu", "verdict", "estimate"),
    [(0.1, 0.2, "holds", 0.1), (0.47, 0.2, "holds when f is relu", 0.2), (0.47, 0.9, "fails", 0.47)],
)
def test_batch_norm_pins_if_at_most_half_of_the_drift_is_left(
    shift: Any, tanh: float, relu: float, verdict: str, estimate: float
) -> None:
    rows = []
    for name, left in zip(NAMES, (tanh, relu), strict=True):
        rows.append(a_row("pinned", "ratio", left, activation=name, rate=shift.MIDDLE))
        for norm in ("none", "batch"):
            rows.append(a_row("curve", "drift", 1.0, activation=name, normalization=norm, rate=shift.MIDDLE, step=300))
            rows += of_nets(shift, name, norm, seen_weights=0.1, seen_batches=0.1)
    found = shift._pinned(pandas.DataFrame(rows))
    assert (found.verdict, found.estimate) == (verdict, estimate)


@pytest.mark.parametrize(
    ("start", "end", "normalized", "verdict", "estimate"),
    [
        (0.2, (0.5, 0.6), 0.1, "holds", 0.5),
        (0.2, (0.3, 0.6), 0.1, "holds when f is relu", 0.6),
        (0.2, (0.41, 0.4), 0.1, "fails", 0.41),  # grown, but not surely apart by the standard of batch norm
        (0.2, (0.5, 0.6), 0.41, "fails", 0.5),  # with batch norm as well
        (0.41, (0.5, 0.6), 0.1, "fails", 0.5),  # not equal at the start
    ],
)
def test_variances_come_apart_by_one_standard(
    shift: Any, start: float, end: tuple[float, float], normalized: float, verdict: str, estimate: float
) -> None:
    rows, table = [], []
    for name, last in zip(NAMES, end, strict=True):
        for norm, value in (("none", last), ("batch", normalized)):
            found = {"unequal_start": start, "unequal_end": value, "unequal_change": value - start}
            rows += of_nets(shift, name, norm, **found, across_start=0.0, across_end=1.0)
        table += [a_row("", shift.VARIANCE, 1.0, activation=name, layer=layer) for layer in (1, shift.DEPTH - 1)]
    judged = shift._variances(pandas.DataFrame(table), pandas.DataFrame(rows))
    assert (judged.verdict, judged.estimate) == (verdict, estimate)


@pytest.mark.parametrize(
    ("early", "end", "slower", "verdict", "estimate"),
    [
        ((-1.0, -2.0), (-0.5, -0.5), 1.0, "holds", -1.0),
        ((-1.0, -2.0), (-0.5, 0.0), 1.0, "holds when nets are still learning: .* 1 .* delayed, not avoided", -1.0),
        ((0.0, -2.0), (-0.5, -0.5), 1.0, "holds when f is relu", -2.0),
        ((0.0, 0.1), (0.0, 0.1), 1.0, "fails", 0.0),
        ((-1.0, -2.0), (-0.5, -0.5), 0.0, "fails", -1.0),  # at no price
    ],
)
def test_small_rates_delay_drift_after_as_many_steps(
    shift: Any, early: tuple[float, float], end: tuple[float, float], slower: float, verdict: str, estimate: float
) -> None:
    rows = [a_row("curve", "drift", 1.0, step=300)]
    for name, first, last in zip(NAMES, early, end, strict=True):
        values = {"drift_early": first, "drift_end": last, "later_drift": 2.0, "later_loss": slower, "drift_at_loss": 0}
        rows += [a_row("rates", quantity, value, activation=name) for quantity, value in values.items()]
    found = shift._small_rates(pandas.DataFrame(rows))
    assert re.fullmatch(verdict, found.verdict) and found.estimate == estimate


def trained(weights: Any, normalized: list[float], plain: list[float], tiny: float = 0.6) -> pandas.DataFrame:
    """Return what the verdicts on A20 look at, of nets with such accuracies, scale by scale."""
    rows = []
    settings = {weights.NORMALIZED: normalized, weights.NONE: plain, weights.FASTER: normalized, weights.TINY: [tiny]}
    for setting, accuracy in settings.items():
        for size, value in zip(weights.SCALES, accuracy, strict=False):
            values = {
                "accuracy": value, "test_accuracy": value, weights.BEHIND: value - max(accuracy), "loss": 1 - value,
                "diverged": 0.0, "dead": 0.0, "log10_first_step": -math.log10(size),
            }  # fmt: skip
            rows += [a_row("end", name, each, 0.02, setting=setting, scale=size) for name, each in values.items()]
    return pandas.DataFrame(rows)


@pytest.mark.parametrize(
    ("normalized", "verdict", "estimate"),
    [
        ([0.99] * 9, "holds", 0.0),
        ([0.2, 0.2, *[0.98, 0.99, 1.0, 1.0, 0.98], 0.6, 0.4], "holds when .* is 0.001 to 0.1", -0.02),
        ([0.2, 0.2, *[0.98, 0.99, 0.6, 1.0, 0.98], 0.99, 0.4], "holds when .* is 0.001 to 0.0032 and .*", -0.02),
        ([0.2, 0.2, 0.6, *[0.99, 1.0, 1.0, 0.98], 0.6, 0.4], "fails", -0.8),
        ([0.2, 0.2, 0.96, *[0.99, 1.0, 1.0, 0.98], 0.6, 0.4], "fails", -0.8),  # not surely as good
    ],
)
def test_half_of_the_scales_must_be_as_good(
    weights: Any, normalized: list[float], verdict: str, estimate: float
) -> None:
    found = weights._as_good(trained(weights, normalized, [0.1] * 9))
    assert re.fullmatch(verdict, found.verdict) and found.estimate == pytest.approx(estimate)


@pytest.mark.parametrize(
    ("normalized", "plain", "verdict", "told"),
    [
        ([0.2, *[0.8] * 7, 0.4], [*[0.1] * 7, 0.9, 0.9], "holds when .* is 0.00032 to 1; .* 0.00032 to 0.32 only", ""),
        ([*[0.8] * 7, 0.4, 0.2], [0.1] * 9, "holds when .* is 0.0001 to 0.32; .*", "epsilon is not sure to be why"),
        ([0.31, *[0.8] * 8], [0.1] * 9, "holds when .* is 0.00032 to 1; .*", "epsilon is part of why"),
        ([0.2, *[0.62] * 8], [0.1] * 9, "holds when .*", "epsilon is why"),
        ([0.2, *[0.8] * 8], [0.1, *[0.31] * 8], "fails", ""),  # without batch norm perhaps at as many
        ([*[0.8] * 4, *[0.1] * 5], [0.1] * 9, "fails", ""),
    ],
)
def test_nets_must_learn_at_more_scales_than_without(
    weights: Any, monkeypatch: pytest.MonkeyPatch, normalized: list[float], plain: list[float], verdict: str, told: str
) -> None:
    left = [
        a_row("start", "", size, layer=layer, scale=size) for layer in weights.MADE for size in weights.SCALES
    ]  # fmt: skip
    monkeypatch.setattr(weights, "normalized", lambda table: pandas.DataFrame(left))
    found = weights._learns(pandas.DataFrame(), trained(weights, normalized, plain))
    assert re.fullmatch(verdict, found.verdict) and told in found.note


def test_nets_are_compared_with_the_best_scale_in_pairs(weights: Any) -> None:
    accuracy = np.array([[0.2, 0.4], [0.8, 0.9], [0.7, math.nan]])
    found = list(weights._behind(accuracy))
    assert [row["estimate"] for row in found] == pytest.approx([-0.55, 0.0, -0.5])
    assert found[1]["ci_low"] == found[1]["ci_high"] == 0.0
