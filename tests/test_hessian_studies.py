"""The verdicts on E05 and E06: the rules come out otherwise where what they look at is otherwise."""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas
import pytest

from stabsim.discovery import files, load
from stabsim.landscape import Landscape

Change = Callable[[pandas.DataFrame], pandas.DataFrame]


def module(name: str) -> Any:
    return sys.modules[load(files()[name]).cases.__module__]


@pytest.fixture(scope="module")
def index() -> Any:
    """Return the module of the study of critical points against loss."""
    return module("hessian_index")


@pytest.fixture(scope="module")
def probability() -> Any:
    """Return the module of the study of 0.5^n."""
    return module("saddle_probability")


# --- critical points of nets on digits ------------------------------------------------------------------


def ends(minimizes: str, saddles: int, minima: int, degenerate: int = 0) -> pandas.DataFrame:
    """Return critical points of these kinds, and one end that is not critical."""
    negative = np.repeat([3.0, 0.0, 0.0, math.nan], [saddles, minima, degenerate, 1])
    zero = np.repeat([0.0, 0.0, 2.0, math.nan], [saddles, minima, degenerate, 1])
    kind = np.where(np.isnan(zero), "receding", "critical")
    loss = 0.1 + 0.01 * np.arange(len(kind))
    columns = {"kind": kind, "negative": negative, "zero": zero, "index": negative / 31, "loss": loss}
    return pandas.DataFrame({**columns, "part": "nets", "minimizes": minimizes})


def spectra(share: tuple[float, ...] = (0.5, 0.51), spread: float = 0.04) -> pandas.DataFrame:
    """Return what starts of nets have, with intervals of 0.01 and of 10% to either side."""
    rows = [
        {"quantity": "negative", "estimate": x, "ci_low": x - 0.01, "ci_high": x + 0.01, "theory": 0.5} for x in share
    ]
    rows.append({
        "quantity": "spread", "estimate": spread, "ci_low": 0.9 * spread, "ci_high": 1.1 * spread, "theory": 0.04,
    })  # fmt: skip
    return pandas.DataFrame(rows).assign(part="spectra")


def index_verdicts(index: Any, searched: Any, trained: Any, starts: pandas.DataFrame) -> tuple[Any, Any]:
    nets = pandas.concat([ends("gradient_norm", *searched), ends("loss", *trained)], ignore_index=True)
    measured = pandas.concat([nets, starts, index.shares(nets)], ignore_index=True)
    signs, descent = index.verdicts(SimpleNamespace(measured=measured))
    assert (signs.claim, descent.claim) == ("E05", "E06")
    return signs, descent


@pytest.mark.parametrize(
    ("searched", "starts", "verdict"),
    [
        ((200, 0), spectra(), "holds"),
        ((200, 0, 300), spectra(), "holds"),  # degenerate points are no minima
        ((200, 0), spectra(share=(0.45, 0.55)), "holds when {the share of negative signs before training}"),
        ((200, 0), spectra(spread=0.02), "holds when {their spread over nets}"),
        ((199, 1), spectra(), "holds when {the share of saddles}"),  # one minimum is too many for 0.5^31
        ((199, 1), spectra(share=(0.4,), spread=0.02),
         "holds when {the share of saddles, the share of negative signs before training, their spread over nets}"),
        ((20, 0), spectra(), "fails"),  # too few to be sure
        ((150, 50), spectra(), "fails"),
        ((0, 0, 5), spectra(), "fails"),
        ((0, 0, 0), spectra(), "fails"),
    ],
)  # fmt: skip
def test_signs_are_independent_where_shares_and_spreads_are(
    index: Any, searched: Any, starts: pandas.DataFrame, verdict: str
) -> None:
    found, _ = index_verdicts(index, searched, (10, 10), starts)
    words = "it says no more than 'almost surely': {} are not those of independent signs"
    head, _, off = verdict.rstrip("}").partition("{")
    assert found.verdict == (head + words.format(off) if off else verdict)


@pytest.mark.parametrize(
    ("trained", "verdict"),
    [((100, 0), "holds"), ((100, 0, 50), "holds"), ((80, 20), "fails"), ((0, 100), "fails"), ((0, 0, 7), "fails")],
)
def test_descent_finds_saddles_where_it_does(index: Any, trained: Any, verdict: str) -> None:
    for searched in ((100, 0), (0, 100)):  # it is not what small gradients find that decides
        _, found = index_verdicts(index, searched, trained, spectra())
        assert found.verdict == verdict
    assert f"; {(*trained, 0)[2]} and 0 degenerate critical points" in found.note


def test_no_start_serves_two_searches(index: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seeds = []

    def draw(surface: Landscape, nets: int, seed: int) -> Any:
        seeds.append(seed)
        return np.full((nets, surface.parameters), float(seed))

    def found(_: Any, points: Any, **more: Any) -> Any:
        return SimpleNamespace(points=points, table=pandas.DataFrame({"start": np.abs(points).max(axis=1)}))

    monkeypatch.setattr(Landscape, "draw", draw)
    monkeypatch.setattr(index, "find", found)
    monkeypatch.setattr(index, "gradient_descent", lambda _, points, settings: (points, settings))
    rows = list(index.searches("quick"))
    assert seeds == list(range(1, 15))
    assert [len(each) // index.NETS["quick"] for each in rows] == [1, 1, 1, 2, 6, 3]


def test_the_interval_of_a_spread_covers_as_often_as_it_says(index: Any) -> None:
    rows = [index.spread_with_interval(each) for each in np.random.default_rng(0).normal(size=(4000, 50))]
    low, high = (np.array([row[name] for row in rows]) for name in ("ci_low", "ci_high"))
    near = 5 * math.sqrt(0.025 * 0.975 / 4000)
    assert abs(np.mean(low > 1.0) - 0.025) < near and abs(np.mean(high < 1.0) - 0.025) < near
    assert abs(np.mean(high < 1.05) - 0.025) > near and abs(np.mean(low > 0.95) - 0.025) > near  # 5% are found


# --- nets beside 0.5^n ----------------------------------------------------------------------------------


def as_coins(probability: Any, n: int, minima: int, saddles: int, degenerate: int = 0) -> pandas.DataFrame:
    negative, zero = (np.repeat(kinds, [minima, saddles, degenerate]) for kinds in ((0, 2, 0), (0, 0, 1)))
    table: pandas.DataFrame = probability.shares_of(negative, zero, n)
    return table


def made_up(probability: Any, minima: int = 10, degenerate: int = 0, matrices: float = 0.0) -> pandas.DataFrame:
    """Return nets of 5 and 9 parameters as coins would have them, but for critical points of the smallest one."""
    rows = []
    for law in probability.WIDTHS:
        for n, count in ((5, 1000), (9, 1000)):
            rows.append(as_coins(probability, n, round(count / 2**n), count).assign(part="points", law=law))
            for way in probability.METHODS:
                decisive = {"law": law, "way": way, "n": n} == probability.DECISIVE
                kinds = (minima, 320 - minima, degenerate) if decisive else (round(320 / 2**n), 320)
                rows.append(as_coins(probability, n, *kinds).assign(part="critical", law=law, way=way))
    for law, n in itertools.product(probability.LAWS, probability.ROWS):
        theory = probability.COINS * n * (1 if law == "independent_signs" else n)
        estimate = theory + (matrices if law == "independent_signs" else 0.0)
        ends = {"estimate": estimate, "ci_low": estimate - 0.1, "ci_high": estimate + 0.1, "theory": theory}
        row = {"part": "matrices", "law": law, "n": n, "quantity": "log10_probability", **ends}
        rows.append(pandas.DataFrame([row]))
    saddles = {"part": "saddle", "law": "a net of two weights: 0", "nets": 5, "theory": 1.0}
    rows.append(pandas.DataFrame([{**saddles, "estimate": 1.0, "ci_low": 0.5, "ci_high": 1.0}] * 2))
    return pandas.concat(rows, ignore_index=True)


@pytest.mark.parametrize(
    ("measured", "verdict"),
    [
        ({}, "holds"),  # whatever matrices do that are no coins
        ({"minima": 20}, "holds"),  # twice 0.5^5 of 320, at 2.8 standard errors: one of many counts
        ({"degenerate": 100}, "holds"),
        ({"minima": 60}, "holds when signs of eigenvalues are independent; they are not at: regression, min. gradient "
         "norm"),
        ({"minima": 0, "matrices": 0.4}, "fails"),
    ],
)  # fmt: skip
def test_coins_are_held_against_nets(probability: Any, measured: dict[str, Any], verdict: str) -> None:
    table = pandas.DataFrame({"quantity": [probability.OUTPUT], "layer": 2, "estimate": 0.2})
    _, found = probability.verdicts(SimpleNamespace(measured=made_up(probability, **measured), table=table))
    assert (found.claim, found.verdict) == ("E05", verdict)
    assert found.estimate == measured.get("minima", 10) / 320 and found.theory == 0.5**5
    assert f"minimizing the gradient norm are minima, {measured.get('degenerate', 0)} degenerate" in found.note


def test_one_row_of_nets_decides_whatever_the_others_are(probability: Any) -> None:
    measured = made_up(probability)
    for name in ("points", "critical"):
        chosen = (measured["part"] == name) & (measured["quantity"] == "positive_definite") & (measured["n"] == 9)
        wrong = measured.copy()
        wrong.loc[chosen, "estimate"] = 0.5
        table = pandas.DataFrame({"quantity": [probability.OUTPUT], "layer": 2, "estimate": 0.2})
        _, found = probability.verdicts(SimpleNamespace(measured=wrong, table=table))
        assert found.verdict.startswith("holds when") and found.estimate == 10 / 320
        assert ("random points" in found.verdict) == (name == "points")
        assert ("min. loss" in found.verdict) == (name == "critical")
