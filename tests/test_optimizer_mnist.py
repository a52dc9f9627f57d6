"""The rules of the study of optimizers on digits: bands of single nets, the order step by step, the notes' numbers."""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np
import pandas
import pytest

from stabsim.discovery import files, load
from tests.checks import must_fail


@pytest.fixture(scope="module")
def mnist() -> Any:
    """Return the module of the study."""
    return sys.modules[load(files()["optimizer_mnist"]).cases.__module__]


def test_the_band_of_a_single_net_holds_19_of_20(mnist: Any) -> None:
    """Of 6 values of a log-normal law, and of the next one."""
    draws = np.exp(0.7 * np.random.default_rng(0).standard_normal((4000, 7)))
    bands = np.array([mnist.single(each[:6]) for each in draws])

    def check(factor: float) -> None:
        held = (draws[:, 6] > bands[:, 0] / factor) & (draws[:, 6] < bands[:, 1] * factor)
        assert abs(held.mean() - 0.95) < 5 * math.sqrt(0.95 * 0.05 / len(held))

    check(1.0)
    must_fail(check, 1.5)
    plain = [mnist.single(each, logarithmic=False) for each in np.log(draws[:5, :6])]
    assert np.log(bands[:5]) == pytest.approx(np.array(plain))


def losses(
    mnist: Any, medians: dict[str, float], spread: float = 0.01, step: int | None = None, band: float = 1.25
) -> pandas.DataFrame:
    """Return what would be measured at a step, the notes' unless told, of such medians."""
    rows = [
        {"part": "optimizers", "line": name, "estimate": median, "ci_low": median, "ci_high": median,
         "below": 1 / band, "above": band, "samples": 4000, "nets": 8, "diverged": 0}
        for name, median in medians.items()
    ]  # fmt: skip
    for one, other in mnist._pairs():
        ratio = math.log10(medians[one] / medians[other])
        rows.append({"part": "ratio", "line": f"{one}/{other}", "estimate": ratio, "ci_low": ratio - spread,
                     "ci_high": ratio + spread})  # fmt: skip
    place = mnist.FIRST if step is None else step
    return pandas.DataFrame(rows).assign(quantity=mnist.LAST, step=place, theory=math.nan)


@pytest.mark.parametrize(
    ("changed", "wrong"),
    [
        ({}, set()),
        ({"adagrad": 0.3}, {"ahead"}),
        ({"sgd": 0.2}, {"slowest", "close"}),
        ({"sgd": 0.4}, {"close"}),
        ({"sgd": 0.7}, {"close"}),  # a factor of 2.06 from momentum, which is 2.13 from AdaGrad
        ({"momentum": 1.5}, {"close"}),
        ({"momentum": 0.08, "adam": 0.34, "sgd": 0.8}, {"close", "ahead"}),  # AdaGrad between two that are far apart
    ],
)
def test_the_order_of_the_notes_is_found_and_what_breaks_it(
    mnist: Any, changed: dict[str, float], wrong: set[str]
) -> None:
    (row,) = mnist.order_by_step(losses(mnist, mnist.NOTES | changed)).to_dict("records")
    assert {name for name in ("slowest", "close", "ahead") if not row[name]} == wrong
    unsure = mnist.order_by_step(losses(mnist, mnist.NOTES, spread=1.0)).iloc[0]
    assert not unsure["slowest"] and not unsure["close"] and not unsure["ahead"]


@pytest.mark.parametrize(
    ("first", "later", "words"),
    [
        ({}, {}, "holds"),
        ({}, {"sgd": 0.2}, "holds when the step is 101"),
        ({"sgd": 0.2}, {}, "fails"),  # what comes later does not make up for it
    ],
)
def test_the_step_of_the_notes_decides_on_their_order(
    mnist: Any, monkeypatch: pytest.MonkeyPatch, first: dict[str, float], later: dict[str, float], words: str
) -> None:
    monkeypatch.setattr(mnist, "_told_rates", lambda measured: "")
    both = [losses(mnist, dict.fromkeys(mnist.SHOWN, 0.3) | mnist.NOTES | first)]
    both += [losses(mnist, dict.fromkeys(mnist.SHOWN, 0.3) | mnist.NOTES | later, step=201)]
    assert mnist._order(pandas.concat(both)).verdict == words


def test_nets_that_diverge_are_not_left_out(mnist: Any) -> None:
    assert mnist.single(np.array([0.1, 0.2, np.inf])) == (0.0, math.inf)
    measured = losses(mnist, dict.fromkeys(mnist.SHOWN, 0.3) | mnist.NOTES)
    measured.loc[measured["line"] == "adam", "diverged"] = 2
    assert mnist._told_diverged(measured) == "; nets that diverged: 2 of 8 (Adam)"


def test_steps_are_written_as_spans(mnist: Any) -> None:
    steps = pandas.DataFrame({"step": [101, 201, 301, 401]})
    for held, words in (
        ((1, 1, 1, 1), "all"), ((0, 0, 0, 0), "none"), ((1, 1, 0, 1), "101 to 201 and 401"),
        ((0, 1, 1, 1), "201 to 401"),
    ):  # fmt: skip
        assert mnist._spans(steps, pandas.Series(held, dtype=bool)) == words


def test_the_notes_numbers_are_said_to_be_inside_or_outside(mnist: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mnist, "_told_samples", lambda measured: "")
    found = mnist._numbers(losses(mnist, mnist.NOTES))
    assert found.verdict == "holds" and "OUTSIDE" not in found.note
    found = mnist._numbers(losses(mnist, mnist.NOTES | {"adam": 0.5}))
    assert found.verdict == "holds when the optimizer is SGD or momentum or AdaGrad"
    assert (found.estimate, found.ci_low, found.ci_high, found.theory) == (0.5, 0.4, 0.625, 0.25)
    assert "Adam 0.25 OUTSIDE 0.4 to 0.625" in found.note
    assert mnist._numbers(losses(mnist, mnist.NOTES | {"adam": 0.5, "momentum": 0.7})).verdict == "fails"  # two of four
    assert mnist._numbers(losses(mnist, dict.fromkeys(mnist.NOTES, 9.0))).verdict == "fails"
    for band in (4.0, math.inf):
        wide = mnist._numbers(losses(mnist, mnist.NOTES, band=band))  # so wide that nearly every number is inside
        assert wide.verdict == "fails" and wide.note.count("untold") == len(mnist.NOTES)
