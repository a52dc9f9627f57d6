"""Verdicts on E08, E09 and E10: rules come out otherwise where what they look at is otherwise."""

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
from stabsim.verdicts import median_with_interval
from tests.test_saddle_escape import of


def module(name: str) -> Any:
    """Return the module of a study."""
    return sys.modules[load(files()[name]).cases.__module__]


@pytest.fixture(scope="module")
def plateau() -> Any:
    """Return the module of the study on E09 and E10."""
    return module("plateau")


@pytest.fixture(scope="module")
def zero() -> Any:
    """Return the module of the study on E08."""
    return module("zero_gradients")


def a_row(part: str, line: str, x: float, quantity: str, estimate: float, **others: Any) -> dict[str, Any]:
    """Return a row with an interval of a tenth on either side."""
    ends = {"ci_low": 0.9 * estimate, "ci_high": 1.1 * estimate}
    return {
        "part": part,
        "line": line,
        "x": x,
        "quantity": quantity,
        "estimate": estimate,
        "nets": 12,
        **ends,
        **others,
    }


def steps_made_up(plateau: Any) -> list[dict[str, Any]]:
    """Return steps of optimizers, all of which cross as gradient descent does, in 0.01 of the time off a saddle."""
    rows = []
    for name in plateau.OPTIMIZERS:
        for slope in (*plateau.FLAT, 0.0):
            steps = 100 / slope if slope else math.nan
            rows += [a_row(part, name, slope, "steps", steps, theory=steps) for part in ("rest", "memory")]
            rows.append(a_row("saddle", name, slope, "steps", 0.01 * steps))
            rows.append(a_row("noise", name, slope, "steps", 1e4, theory=1e4))
            rows.append(a_row("noise", name, slope, "never", 0.0))
        rows.append(a_row("noisy saddle", name, 0.0, "steps", 200.0))
        rows.append(a_row("nets", name, plateau.LARGE, "never", 0.5))
        rows.append(a_row("nets", name, plateau.LARGE, "loss of stuck", 0.2))
        rows.append(a_row("nets", name, plateau.LARGE, "loss of crossed", 0.01))
        rows.append(a_row("nets", name, 1, "loss", 0.002))
    return rows


def remedies_made_up(plateau: Any) -> list[dict[str, Any]]:
    """Return shares of nets that have not learned: all help, but clipping only before the plateau."""
    rows = [
        a_row("loss", f"{loss}, all", x, "not learned", share)
        for loss, x, share in (
            ("mean_squared_error", plateau.LARGE, 0.8),
            ("mean_squared_error", 1, 0.1),
            ("logistic", plateau.LARGE, 0.1),
            ("logistic", 64, 0.5),
        )
    ]
    for line, shares in (("born on a plateau", (0.8, 0.8)), ("thrown onto one", (0.9, 0.1))):
        rows += [a_row("clipping", line, x, "not learned", share) for x, share in enumerate(shares)]
    return rows + [a_row("cliff", line, 0.1, "steps", steps) for line, steps in (("free", 9798), ("clipped", 24))]


def plateau_verdicts(plateau: Any, change: Callable[[Any], None]) -> dict[str, Any]:
    """Return the verdicts on what is made up, once it is changed."""
    measured = pandas.DataFrame([*steps_made_up(plateau), *remedies_made_up(plateau)])
    change(measured)
    given = {"activation": "sigmoid", "layer": 1}
    shares = [
        {"normalization": kind, "gain": gain, "quantity": quantity, "estimate": 0.1, **given}
        for kind in plateau.NORMALIZED
        for gain in (plateau.LARGE, 64)
        for quantity in (plateau.SATURATED, plateau.GRADIENT)
    ]
    found = plateau.verdicts(SimpleNamespace(measured=measured, table=pandas.DataFrame(shares)))
    return {verdict.claim: verdict for verdict in found}


def put(chosen: Any, values: Callable[[Any], Any], columns: tuple[str, ...] = ("estimate", "ci_low", "ci_high")) -> Any:
    """Return a change of some columns of chosen rows."""

    def change(table: Any) -> None:
        rows = chosen(table)
        assert rows.any()
        for column in columns:
            table.loc[rows, column] = values(table.loc[rows, column])

    return change


def off_saddles(*names: str) -> Callable[[Any], Any]:
    """Return a function that says which rows are steps off saddles of these optimizers."""
    return lambda table: of("saddle")(table) & table["line"].isin(names)


NOISY = "holds when gradients are noisy"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda table: None, "holds$"),
        (put(off_saddles("adagrad", "rmsprop", "adam"), lambda x: 90 * x), f"{NOISY}, or .* SGD, .*, Nesterov, AdamW$"),
        (put(of("saddle"), lambda x: 90 * x), f"{NOISY}$"),  # none is dear
        (put(of("saddle", x=1e-3), lambda x: 90 * x), f"{NOISY}$"),  # none is at both slopes
        (put(of("rest", x=1e-3), lambda x: 1.05 * x, ("theory",)), "fails"),  # 5% off the closed form
        (put(of("rest", x=0.0), lambda x: 1e6, ("estimate",)), "fails"),  # without a slope it ends
        (put(of("noise", line="adam", quantity="steps"), lambda x: 1.3 * x, ("theory",)), "fails"),  # off its law
        (put(of("noise", line="adam", quantity="steps"), lambda x: 1.05 * x, ("theory",)), "holds$"),  # by chance
        (put(of("noisy saddle", line="rmsprop"), lambda x: 20 * x), "fails"),  # with noise one is not dear
        (put(of("noisy saddle", line="rmsprop"), lambda x: 1e4, ("ci_high",)), "fails"),  # or may not be
        (put(of("nets", quantity="loss of stuck"), lambda x: 0.01 * x), "fails"),  # plateaus are low
        (put(of("nets", quantity="never"), lambda x: 0 * x, ("ci_low",)), "fails"),  # all may cross
    ],
)  # fmt: skip
def test_plateaus_are_dear_where_they_are(plateau: Any, change: Callable[[Any], None], words: str) -> None:
    found = plateau_verdicts(plateau, change)["E09"]
    assert re.match(words, found.verdict), found.verdict
    assert found.estimate == 1e4


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda table: None, "holds when clipping is there before"),
        (put(of("clipping", line="born on a plateau", x=1.0), lambda x: 0.1 * x), "holds$"),
        (put(of("loss", line="logistic, all", x=16), lambda x: 8 * x), "fails"),  # the loss does not help
        (put(of("loss", line="mean_squared_error, all", x=1), lambda x: 8 * x), "fails"),  # nor the start
        (put(of("clipping", line="thrown onto one", x=1.0), lambda x: 9 * x), "fails"),  # nor clipping
        (put(of("loss", line="logistic, all", x=16), lambda x: 0.75 + 0 * x, ("ci_high",)), "fails"),  # or may not
    ],
)
def test_each_of_three_has_to_help(plateau: Any, change: Callable[[Any], None], words: str) -> None:
    found = plateau_verdicts(plateau, change)["E10"]
    assert re.match(words, found.verdict) and found.estimate == 0.8
    assert "Batch norm is not judged" in found.note


def test_a_median_lies_within_order_statistics_of_fair_coins() -> None:
    few, many = (median_with_interval(np.arange(float(n))[::-1]) for n in (3, 12))
    assert few == {"estimate": 1.0, "ci_low": -math.inf, "ci_high": math.inf, "nets": 3}
    assert many == {"estimate": 5.5, "ci_low": 2.0, "ci_high": 9.0, "nets": 12}
    below = sum(math.comb(12, k) for k in range(3)) / 2**12  # at most two of twelve are below the median
    assert below < 0.025 < below + math.comb(12, 3) / 2**12


# --- E08 ------------------------------------------------------------------------------------------------


def zero_verdict(zero: Any, change: Callable[[Any], None], law: float = 1.0) -> Any:
    """Return the verdict on nets whose components are independent, once that is changed."""
    rows = [
        {"line": line, "components": k, "theory": zero.SMALL**k}
        | zero.counted(np.arange(10**4) < 10**4 * zero.SMALL**k)
        for kind in zero.KINDS
        for line in (kind, f"{kind}, shuffled")
        for k in zero.COUNTS
    ]
    measured = pandas.DataFrame(rows)
    change(measured)
    dead = law * zero.zeros.dead_probability(zero.DEAD)
    tags = {"quantity": zero.ZERO, "layer": 1, "estimate": dead, "ci_low": 0.98 * dead, "ci_high": 1.02 * dead}
    table = pandas.DataFrame([{"samples": samples, **tags} for samples in (1, zero.SAMPLES)])
    (found,) = zero.verdicts(SimpleNamespace(measured=measured, table=table))
    return found


def line(name: str, components: int) -> Callable[[Any], Any]:
    return lambda table: (table["line"] == name) & (table["components"] == components)


@pytest.mark.parametrize(
    ("change", "law", "words", "named"),
    [
        (lambda table: None, 1.0, "holds when components are independent", "independent ones: ReLU. "),
        (lambda table: None, 1e-200, "fails", "independent ones: none. "),  # nets that hardly ever die are off the law
        (lambda table: None, 1.1, "fails", "independent ones: ReLU. "),
        (put(line("tanh", 3), lambda x: 9 * x), 1.0, "holds when", "independent ones: tanh, ReLU. "),
        (put(line("tanh, shuffled", 3), lambda x: 0.05 + x), 1.0, "fails", "independent ones: ReLU. "),
    ],
)
def test_chance_is_held_against_independent_components(
    zero: Any, change: Callable[[Any], None], law: float, words: str, named: str
) -> None:
    found = zero_verdict(zero, change, law)
    assert found.claim == "E08" and re.match(words, found.verdict) and named in found.note
