"""Paths on the bowl against the table of reference values, and verdicts on C01 to C03, which can come out otherwise."""

from __future__ import annotations

import csv
import math
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest

from stabsim.discovery import files, load
from stabsim.study import Collected
from stabsim.training import optimizer
from tests.checks import WRONG, must_fail

TABLE = Path(__file__).parents[1] / "data" / "reference_values.csv"
SPECS = {
    "sgd": "bowl_sgd", "mom": "bowl_momentum", "adagrad": "bowl_adagrad", "adam": "bowl_adam",
    "adamref": "adam(learning_rate=0.3)",
}  # fmt: skip


def test_paths_from_the_notes_start_are_those_of_the_table_to_nine_digits() -> None:
    def check(factor: float) -> None:
        seen = set()
        for row in rows:
            found = re.fullmatch(r"10\.(\w+)\.([xy])(\d+)", row["id"])
            if found:
                name, axis, steps = found.groups()
                seen.add(name)
                path = optimizer(SPECS[name]).path(np.array([-7.0, 2.0]), lambda x: x * [0.1, 2.0], int(steps))
                assert abs(factor * path[-1, "xy".index(axis)] - float(row["value"])) < 1e-9, row["id"]
        assert seen == set(SPECS)

    with TABLE.open(newline="") as file:
        rows = list(csv.DictReader(file))
    check(1.0)
    must_fail(check, WRONG)


@pytest.fixture(scope="module")
def bowl() -> Any:
    """Return the module of the study."""
    return sys.modules[load(files()["optimizer_bowl"]).cases.__module__]


def test_bowls_are_turned_as_a_whole(bowl: Any) -> None:
    """Where every number is treated alike, paths turn with the bowl; elsewhere they do not."""
    angle = np.array([0.7])
    turn = np.array([[math.cos(0.7), math.sin(0.7)], [-math.sin(0.7), math.cos(0.7)]])  # rows: the axes
    start = np.array([[-7.0, 2.0]])
    plain, turned = (
        bowl.bowls(at, bowl.CURVATURES, angles) for at, angles in ((start, np.zeros(1)), (start @ turn, angle))
    )
    assert turned.gradient(turned.starts) == pytest.approx(plain.gradient(start) @ turn)
    for name, alike in (("sgd", True), ("momentum", True), ("nesterov", True), ("adagrad", False), ("adam", False)):
        ways = [optimizer(bowl.SPECS[name]).path(each.starts, each.gradient, 20) for each in (plain, turned)]
        assert (ways[1] == pytest.approx(ways[0] @ turn)) == alike
        seen = [bowl.zigzag(bowl.SPECS[name], each, 30) for each in (plain, turned)]
        assert (seen[0].flips == seen[1].flips and seen[0].length == pytest.approx(seen[1].length)) or not alike


def test_zigzag_is_what_it_is_called(bowl: Any) -> None:
    """SGD in y goes from 2 to -1.8, 1.62, ...: lengths are sums of powers of 0.9."""
    made = bowl.bowls(np.array([[0.0, 2.0]]), bowl.CURVATURES, np.zeros(1))
    found = bowl.zigzag("bowl_sgd", made, 60)
    steps = bowl.SHOWN
    assert found.flips.tolist() == [steps - 1]
    assert found.length == pytest.approx([2 * 1.9 * (1 - 0.9**steps) / (1 - 0.9) / (2 * (1 - 0.9**steps))])
    assert found.reached().tolist() == [44.0]  # 0.9^44 < 0.01 < 0.9^43
    assert bowl.zigzag("sgd(learning_rate=1.1)", made, 60).reached().tolist() == [math.inf]


@pytest.fixture(scope="module")
def measured(bowl: Any) -> pandas.DataFrame:
    """Return what is measured, a little less than at quick scale."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(bowl.EFFORT, "quick", bowl.Effort(400, 12, 4, 4000))
        table: pandas.DataFrame = bowl.measure("quick")
    return table


def verdicts(bowl: Any, measured: pandas.DataFrame, **changes: Any) -> dict[str, Any]:
    """Return verdicts, the estimates and intervals of rows with some values changed to a number."""
    table = measured.copy()
    if changes:
        value = changes.pop("to")
        chosen = np.logical_and.reduce([table[key] == each for key, each in changes.items()])
        assert chosen.any()
        table.loc[chosen, ["estimate", "ci_low", "ci_high"]] = value
    return {each.claim: each for each in bowl.verdicts(Collected((), table))}


def test_verdicts_on_what_is_measured(bowl: Any, measured: pandas.DataFrame) -> None:
    found = verdicts(bowl, measured)
    assert found["C01"].verdict.startswith(
        "holds when the optimizer is momentum or AdaGrad or Adam; RMSProp at our rate"
    )
    assert found["C02"].verdict == "holds when each learning rate is its own best"
    assert found["C03"].verdict.startswith("holds when the squares of gradients have no finite sum")
    assert "momentum 0" in found["C02"].note and "So on the notes' bowl AdaGrad is faster" in found["C02"].note


@pytest.mark.parametrize(
    ("claim", "changes", "words"),
    [
        ("C01", {"part": "aligned", "line": "sgd", "quantity": "flips", "to": 3.0}, "fails"),
        ("C01", {"part": "aligned", "line": "adam", "quantity": "less", "to": 0.5}, "fails"),
        ("C01", {"part": "gain", "line": "alternating", "to": 2.0}, "fails"),
        ("C01", {"part": "aligned", "line": "rmsprop", "quantity": "near", "to": 1.0}, "holds"),
        ("C01", {"part": "aligned", "quantity": "near", "to": 0.0}, "fails"),
        ("C01", {"part": "aligned", "line": "adam", "quantity": "near", "to": 0.0}, "fails"),  # two of four come near
        ("C02", {"part": "best", "line": "sgd", "quantity": "length", "x": 1.0, "to": 3.0}, "fails"),
        ("C02", {"part": "best", "line": "adam", "quantity": "speedup", "x": 1.0, "to": 2.0}, "fails"),
        ("C02", {"part": "best", "quantity": "speedup", "x": 20.0, "to": 0.9}, "fails"),
        ("C02", {"part": "round", "line": "sgd", "quantity": "flips", "to": 0.0}, "holds"),
        ("C03", {"part": "noisy bowl", "line": "adagrad", "quantity": "slope", "to": 0.0}, "fails"),
        ("C03", {"part": "bowl", "line": "adagrad", "quantity": "risen", "to": 0.1}, "fails"),
        ("C03", {"part": "noisy bowl", "line": "rmsprop", "quantity": "slope", "to": -0.5}, "fails"),
        ("C03", {"part": "bowl", "line": "adagrad", "quantity": "slope", "to": -0.5}, "holds"),
    ],
)
def test_a_verdict_follows_what_is_measured(
    bowl: Any, measured: pandas.DataFrame, claim: str, changes: dict[str, Any], words: str
) -> None:
    assert verdicts(bowl, measured, **changes)[claim].verdict == words


def test_a_slope_that_is_not_known_to_be_flat_does_not_stay(bowl: Any, measured: pandas.DataFrame) -> None:
    table = measured.copy()
    place = (table["part"] == "noisy bowl") & (table["line"] == "rmsprop") & (table["quantity"] == "slope")
    table.loc[place, ["estimate", "ci_low", "ci_high"]] = 0.0, -0.5, 0.5
    (verdict,) = (each for each in bowl.verdicts(Collected((), table)) if each.claim == "C03")
    assert verdict.verdict == "fails"
