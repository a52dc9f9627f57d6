"""First swings of momentum in random bowls as theory says, and the verdict on C04, which can come out otherwise."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pandas
import pytest

from stabsim.discovery import files, load
from stabsim.study import Collected
from tests.checks import WRONG


@pytest.fixture(scope="module")
def swings() -> Any:
    """Return the module of the study."""
    return sys.modules[load(files()["momentum_overshoot"]).cases.__module__]


@pytest.fixture(scope="module")
def measured(swings: Any) -> pandas.DataFrame:
    """Return what is measured at quick scale."""
    table: pandas.DataFrame = swings.measure("quick")
    return table


def verdict(swings: Any, table: pandas.DataFrame) -> Any:
    """Return the only verdict."""
    (found,) = swings.verdicts(Collected((), table))
    return found


def test_the_verdict_on_what_is_measured(swings: Any, measured: pandas.DataFrame) -> None:
    found = verdict(swings, measured)
    assert found.verdict.startswith("holds when (1 - sqrt(momentum))^2 < rate x curvature < 1 + momentum")
    assert "x 15.3% after 35 steps (theory 15.3%), y 70.9% after 6 (theory 70.9%)" in found.note


@pytest.mark.parametrize("quantity", ["as theory", "largest error"])
def test_one_bowl_that_is_not_as_theory_says_is_enough_to_fail(
    swings: Any, measured: pandas.DataFrame, quantity: str
) -> None:
    table = measured.copy()
    first = table.index[table["quantity"] == quantity][0]
    table.loc[first, ["estimate", "ci_low", "ci_high"]] = 0.99
    assert verdict(swings, table).verdict == "fails"


def test_what_theory_says_wrongly_is_found(swings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    law = swings.overshoot.turning_steps
    monkeypatch.setattr(swings.overshoot, "turning_steps", lambda p, a: law(np.asarray(p) * WRONG, a))
    rows = list(swings.swings(np.random.Generator(np.random.Philox(60)), swings.EFFORT["quick"]))
    assert min(row.estimate for row in rows if row.quantity == "as theory") < 1.0
