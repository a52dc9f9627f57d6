"""The verdict on E07: the rule comes out otherwise where what it looks at is otherwise."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas
import pytest

from stabsim.discovery import files, load


@pytest.fixture(scope="module")
def escape() -> Any:
    """Return the module of the study."""
    return sys.modules[load(files()["saddle_escape"]).cases.__module__]


def made_up(escape: Any) -> pandas.DataFrame:
    """Return measurements as the linear law has them."""
    shares: pandas.DataFrame = escape.ideal(0.25, 300)
    rows = []
    for saddle in range(3):
        for batch in (1, 16):
            time = (100 + 10 * saddle) * (1 + 0.2 * math.log(batch))
            tags = {"part": "net_time", "saddle": saddle, "batch": batch, "learning_rate": escape.NET_RATE}
            rows.append({**tags, "estimate": time, "ci_low": time - 2, "ci_high": time + 2, "theory": time})
        rows.append({"part": "plain", "saddle": saddle, "estimate": 900.0 if saddle else math.nan, "step": 1000})
    for setting, share in (("mini-batches", 0.0), ("normal noise", 1.0)):
        ends = {"estimate": share, "ci_low": 0.9 * share, "ci_high": 0.1 + 0.9 * share}
        rows.append({"part": "symmetric", "setting": setting, "noise": 1e-16, "nets": 50, **ends})
    return pandas.concat([shares, pandas.DataFrame(rows)], ignore_index=True)


def verdict(escape: Any, measured: pandas.DataFrame) -> Any:
    batches = np.array([1.0, 4.0, 16.0])
    table = pandas.DataFrame({"batch": batches, "quantity": escape.NOISE, "layer": 1, "estimate": batches})
    (found,) = escape.verdicts(SimpleNamespace(measured=measured, table=table))
    return found


def of(part: str, **values: Any) -> Callable[[pandas.DataFrame], pandas.Series[bool]]:
    def rows(table: pandas.DataFrame) -> pandas.Series[bool]:
        chosen = table["part"] == part
        for name, value in values.items():
            chosen &= table[name] == value
        return chosen

    return rows


@pytest.mark.parametrize(
    ("rows", "column", "change", "words"),
    [
        (of("net_time"), "theory", lambda x: x, "holds when"),
        (of("net_time"), "theory", lambda x: 2 * x, "fails"),  # batches matter half as much as the law says
        (of("net_time", saddle=0, batch=16), "theory", lambda x: 1.3 * x, "fails"),  # saddles differ too much to say
        (of("net_time", batch=16), "theory", lambda x: 1.05 * x, "holds when"),
        (of("plain"), "estimate", lambda x: 0.01 * x, "fails"),  # without noise it leaves sooner
        (of("share"), "theory", lambda x: 0.9 * x, "fails"),  # walkers off the exact law
        (of("net_time", batch=16), "ci_low", lambda x: 0.5 * x, "fails"),  # the batch may not matter
        (of("symmetric", setting="mini-batches"), "estimate", lambda x: x + 0.9, "holds$"),  # all saddles are left
    ],
)
def test_the_verdict_follows_from_what_was_measured(
    escape: Any, rows: Any, column: str, change: Callable[[Any], Any], words: str
) -> None:
    measured = made_up(escape)
    chosen = rows(measured)
    assert chosen.any()
    measured.loc[chosen, column] = change(measured.loc[chosen, column])
    found = verdict(escape, measured)
    assert found.claim == "E07" and re.match(words, found.verdict)


def test_a_time_is_where_shares_reach_a_level(escape: Any) -> None:
    steps, shares = np.array([0, 10, 20, 30]), np.array([0.0, 0.25, 0.75, 0.5])
    assert escape.crossing(steps, shares, 0.5) == 15.0
    assert math.isnan(escape.crossing(steps, shares, 0.8))
    (row,) = escape.time_row(steps, shares, 400, shares).itertuples()
    assert row.ci_low < row.estimate == row.theory < row.ci_high


def linear(escape: Any, steps: list[int], noise: float = 1e-2, curvature: float = 2.0, rate: float = 0.05) -> Any:
    """Return the linear law at x1^2 - x2^2."""
    saddle = escape.Saddle(np.zeros(2), 0.0, curvature * np.array([-1.0, 1.0]), np.eye(2), noise**2 * np.eye(2))
    return escape.linear_law(saddle, rate, 1, steps)


def test_the_linear_law_is_the_exact_one_of_two_parameters(escape: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(escape, "DRAWS", 40_000)
    steps = [40, 50, 60]
    exact = escape.escape_probability(steps, 0.05, 1e-2, drop=escape.NET_DROP)
    error = np.sqrt(exact * (1 - exact) / escape.DRAWS)
    assert exact[0] < 0.5 < exact[-1]
    assert (np.abs(linear(escape, steps) - exact) < 5 * error).all()
    for wrong in ({"noise": 1.05e-2}, {"curvature": 2.1}, {"rate": 0.0525}):
        assert (np.abs(linear(escape, steps, **wrong) - exact) > 5 * error).any(), wrong


def test_a_doubled_unit_makes_a_saddle_that_noise_does_not_see(escape: Any) -> None:
    surface = escape.Landscape(escape.NETWORK, escape.data(), threads=1)
    kinds = []
    for each, kind, saddle in escape.symmetric_saddles(surface):
        assert np.linalg.norm(each.gradient(saddle.point)) < 1e-10
        assert saddle.values[0] < escape.STEEP and math.sqrt(max(saddle.noise[0, 0], 0.0)) < 1e-12
        assert np.trace(saddle.noise) > 1e-3
        kinds.append(kind)
    assert kinds[0] == "all weights 0" and kinds.count("a doubled unit") >= 2
