"""The law of one-signed columns that the study of zigzags holds nets against."""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np
import pandas
import pytest
from scipy.special import ndtr

from stabsim.discovery import files, load
from tests.checks import LIMIT, WRONG, z_scores

NETS = 40_000


@pytest.fixture(scope="module")
def zigzag() -> Any:
    study = load(files()["zigzag"])
    return sys.modules[study.cases.__module__]


def test_a_single_sample_has_a_formula(zigzag: Any) -> None:
    for mean in (0.0, 0.7, 3.0):
        expected = ndtr(mean) ** 8 + ndtr(-mean) ** 8
        assert zigzag.share_of_inputs(mean, 1) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("batch", [2, 3, 16, 128])
def test_inputs_about_0_have_one_sign_by_chance(zigzag: Any, batch: int) -> None:
    assert zigzag.share_of_inputs(0.0, batch) == pytest.approx(2.0**-7, rel=1e-8)


@pytest.mark.parametrize("batch", [2, 5, 32])
@pytest.mark.parametrize("mean", [0.5, 1.5])
def test_columns_of_a_linear_layer_follow_the_law(zigzag: Any, batch: int, mean: float) -> None:
    """Sums over samples of inputs times independent normals, drawn in NumPy."""
    generator = np.random.default_rng([batch, round(10 * mean)])
    inputs, ds = generator.normal(mean, 1.0, (NETS, batch, 8)), generator.normal(size=(NETS, batch, 1))
    columns = (inputs * ds).sum(axis=1)
    share = float(((columns > 0).all(axis=1) | (columns < 0).all(axis=1)).mean())
    expected = zigzag.share_of_inputs(mean, batch)
    error = math.sqrt(expected * (1 - expected) / NETS)
    assert abs(z_scores(share, expected, error)) < LIMIT
    if mean == 1.5:  # rarer ones would take more nets to tell
        assert abs(z_scores(share, WRONG * expected, error)) > LIMIT


@pytest.mark.parametrize(
    ("not_negative", "tanh", "verdict"),
    [
        (1.0, 1.0, "holds"),
        (20.0, 1.0, "holds when f is about 0 (mini-batches)"),
        (20.0, 20.0, "fails"),
        (1.0, 20.0, "fails"),
    ],
)
def test_mini_batches_do_what_the_shares_say(zigzag: Any, not_negative: float, tanh: float, verdict: str) -> None:
    """Shares of one-signed columns, as multiples of that by chance."""
    times = dict.fromkeys(zigzag.NOT_NEGATIVE, not_negative) | {"tanh": tanh}
    rows = [(name, 0.0, 2, batch, by * zigzag.CHANCE) for name, by in times.items() for batch in (16, 128)]
    table = pandas.DataFrame(rows, columns=["activation", "mean", "layer", "batch", "estimate"])
    table = table.assign(ci_low=0.9 * table["estimate"], ci_high=1.1 * table["estimate"], theory=math.nan)
    nets = [("nets", zigzag.SHARE, 0, name, batch, 0.5) for name in zigzag.NAMES for batch in zigzag.TRAINED_BATCHES]
    measured = pandas.DataFrame(nets, columns=["part", "quantity", "kind", "setting", "batch", "estimate"])
    assert zigzag._mini_batches(table, measured).verdict == verdict
