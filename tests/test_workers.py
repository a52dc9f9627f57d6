"""The simulation of many workers, against closed forms."""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.checks import must_fail

pytest.importorskip("simpy", reason="pip install 'stabsim[test]'")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))

from workers import Farm, Simulation, expected_efficiency, expected_seconds

ROUGH = Farm(
    20, 500, 10.0, service=0.2, dispatch=0.1, spread=0.2, stragglers=0.1, failures=1 / 200, restart=30.0, seed=3
)


def test_workers_that_nothing_hinders_lose_only_the_ragged_end() -> None:
    whole = Simulation(Farm(8, 80, 2.0)).run()
    assert (whole.efficiency, whole.steady, whole.stored[-1]) == pytest.approx((1.0, 1.0, 20.0))
    ragged = Simulation(Farm(8, 81, 2.0)).run()
    assert ragged.efficiency == pytest.approx(81 * 2.0 / (8 * 22.0))


def test_dispatch_is_paid_for_every_chunk() -> None:
    assert Simulation(Farm(8, 80, 2.0, dispatch=0.5)).run().efficiency == pytest.approx(2.0 / 2.5)


@pytest.mark.parametrize("workers", [10, 50])
def test_a_coordinator_that_is_saturated_sets_the_pace(workers: int) -> None:
    """Of ``seconds / service`` = 5 workers; more than these wait for it, however many chunks are under way."""
    for window in (1, 3):
        farm = Farm(workers, 1000, 1.0, service=0.2, window=window)
        outcome = Simulation(farm).run()
        assert outcome.stored[-1] == pytest.approx(1.0 + 1000 * 0.2)
        assert outcome.steady == pytest.approx(1.0 / (0.2 * workers)) == expected_efficiency(farm)


def test_chunks_at_hand_hide_the_coordinator_until_it_is_saturated() -> None:
    farm = Farm(4, 400, 1.0, service=0.1)
    assert Simulation(farm).run().steady == pytest.approx(1.0, abs=0.01)
    assert Simulation(replace(farm, window=1)).run().steady == pytest.approx(1 / 1.1, abs=0.02)  # each waits its turn


@pytest.mark.parametrize(("seconds", "failures", "restart"), [(1.0, 0.5, 2.0), (3.0, 0.5, 0.5), (1.0, 0.01, 50.0)])
def test_a_worker_that_fails_takes_as_long_as_renewal_theory_says(
    seconds: float, failures: float, restart: float
) -> None:
    runs, chunks = 20, 400
    farms = [Farm(1, chunks, seconds, failures=failures, restart=restart, seed=seed) for seed in range(runs)]
    means = [Simulation(farm).run().stored[-1] / chunks for farm in farms]
    expected, error = expected_seconds(seconds, failures, restart), np.std(means, ddof=1) / math.sqrt(runs)

    def holds(theory: float) -> None:
        assert abs(np.mean(means) - theory) < 5 * error

    holds(expected)
    must_fail(holds, 1.5 * expected)
    assert expected == pytest.approx(math.expm1(failures * seconds) * (1 / failures + restart))


def test_every_chunk_is_stored_exactly_once_whatever_fails() -> None:
    outcome = Simulation(ROUGH).run()
    assert sorted(outcome.order) == list(range(ROUGH.chunks)) and outcome.lost > 10
    assert np.all(np.diff(outcome.stored) >= ROUGH.service - 1e-9)  # one after the other


def test_the_seed_decides() -> None:
    first, again, other = (Simulation(replace(ROUGH, seed=seed)).run() for seed in (3, 3, 4))
    assert np.array_equal(first.stored, again.stored) and np.array_equal(first.order, again.order)
    assert not np.array_equal(first.stored, other.stored)


def test_speeds_are_log_normal_and_some_are_stragglers() -> None:
    seconds = Simulation(Farm(20_000, 1, 1.0, spread=0.3, stragglers=0.05, slowness=100.0)).seconds
    slow = seconds > 10
    assert abs(slow.mean() - 0.05) < 5 * math.sqrt(0.05 * 0.95 / 20_000)
    logs = np.log(seconds[~slow])
    assert abs(logs.mean()) < 5 * 0.3 / math.sqrt(19_000) and abs(logs.std() / 0.3 - 1) < 5 / math.sqrt(2 * 19_000)
