"""Signs of eigenvalues of random matrices by simulation: against exact laws, plain NumPy and each other."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.integrate import quad

from stabsim.kernels.positive_definite import draw_excess
from stabsim.landscape import matrix_ensembles, positive_definite
from stabsim.landscape.matrix_ensembles import IndexCounts, ensemble_of, index_counts
from stabsim.landscape.positive_definite import PositiveDefiniteEstimate, positive_definite_estimate
from stabsim.theory.random_matrix import (
    index_distribution,
    index_variance,
    log_positive_definite_probability,
    positive_definite_probability,
)
from stabsim.theory.saddle_index import critical_energy, wigner_wishart_index
from tests.checks import WRONG, assert_agrees, must_fail

Numbers = NDArray[Any]

FILE = Path(__file__).parents[1] / "data" / "reference_values.csv"


def rows_of(pattern: str) -> list[Any]:
    """Return the groups of matching ids, each with its value."""
    with FILE.open(newline="") as file:
        found = [(re.fullmatch(pattern, line[0]), line[4]) for line in csv.reader(file)]
    return [pytest.param(*match.groups(), float(value), id=match[0]) for match, value in found if match]


def assert_probability(found: PositiveDefiniteEstimate, log_expected: float) -> None:
    assert_agrees(math.exp(found.log_estimate - log_expected), 1.0, found.relative_error)


def assert_shares(found: IndexCounts, expected: Any) -> None:
    kept = np.asarray(expected) * found.matrices > 20
    errors = np.sqrt(expected * (1 - expected) / found.matrices)
    assert_agrees(found.shares[kept], expected[kept], errors[kept])


def changed_law(monkeypatch: pytest.MonkeyPatch, variance: float, diagonal_variance: float) -> None:
    monkeypatch.setitem(matrix_ensembles._PLAIN, "goe", (variance, diagonal_variance))


# Importance splitting.


@pytest.mark.parametrize("n", range(1, 11))
def test_goe(n: int) -> None:
    found, expected = positive_definite_estimate(n, particles=1500), log_positive_definite_probability(n)
    assert found.relative_error < 0.008
    assert_probability(found, expected)
    must_fail(assert_probability, found, expected + math.log(WRONG))


@pytest.mark.parametrize(("n", "particles", "repetitions", "wrong"), [(20, 1500, 32, WRONG), (40, 200, 16, 2.0)])
def test_goe_with_many_rows(n: int, particles: int, repetitions: int, wrong: float) -> None:
    """With 40 rows, P = e^-455, to a factor of 2 only: 5% would take a minute."""
    found = positive_definite_estimate(n, particles=particles, repetitions=repetitions)
    assert_probability(found, log_positive_definite_probability(n))
    must_fail(assert_probability, found, log_positive_definite_probability(n) + math.log(wrong))


PUBLISHED = rows_of(r"9\.goe\.(?:pd|lnP)\.n(\d+)")


@pytest.mark.parametrize(("n", "value"), [row for row in PUBLISHED if int(str(row.values[0])) <= 40])
def test_goe_as_published(n: str, value: float) -> None:
    """The last, of 60 rows, takes half a minute: benchmarks/positive_definite.py has it. For twins see above."""
    found = positive_definite_estimate(int(n), particles=200, repetitions=16, seed=1)
    assert_probability(found, value if value < 0 else math.log(value))


@pytest.mark.parametrize("law", [(WRONG, 2.0), (1.0, WRONG * 2.0)])
def test_variances_that_are_5_percent_off_are_found(law: tuple[float, float], monkeypatch: pytest.MonkeyPatch) -> None:
    changed_law(monkeypatch, *law)
    found = positive_definite_estimate(6, particles=500)
    must_fail(assert_probability, found, log_positive_definite_probability(6))


@pytest.mark.parametrize(("n", "value"), rows_of(r"9\.eqvar\.pd\.n(\d)(?:\.mc)?"))
def test_equal_variance_as_published(n: str, value: float) -> None:
    expected = positive_definite_probability(int(n), "equal_variance")
    assert value == pytest.approx(expected, rel=0.02)  # one is a simulation itself
    found = positive_definite_estimate(int(n), "equal_variance", particles=500)
    assert_probability(found, math.log(expected))
    must_fail(assert_probability, found, math.log(WRONG * expected))


@pytest.mark.parametrize(("n", "value"), rows_of(r"9\.sign\.n(\d+)"))
def test_independent_signs_as_published(n: str, value: float) -> None:
    found = positive_definite_estimate(int(n), "independent_signs", particles=500)
    assert_probability(found, math.log(value))
    must_fail(assert_probability, found, math.log(WRONG * value))


@pytest.mark.parametrize(
    ("n", "ensemble"),
    [
        (1, "wigner_wishart(columns=1, energy=0.5)"),
        (3, "wigner_wishart(columns=2, energy=0.1)"),
        (3, "wigner_wishart(columns=3, energy=0.2)"),
        (6, "wigner_wishart(columns=12, energy=0.1)"),
        (8, "wigner_wishart(columns=24, energy=0.05)"),
    ],
)
def test_against_plain_simulation(n: int, ensemble: str) -> None:
    found = positive_definite_estimate(n, ensemble, particles=2000)
    plain = index_counts(n, ensemble, matrices=100_000, seed=1)
    share = plain.shares[0]

    def check(factor: float) -> None:
        error = math.hypot(found.relative_error * found.estimate, math.sqrt(share * (1 - share) / plain.matrices))
        assert_agrees(found.estimate, factor * share, error)

    check(1.0)
    must_fail(check, WRONG)


def test_where_nearly_all_or_none_are_positive_definite() -> None:
    often = positive_definite_estimate(10, "wigner_wishart(columns=100000, energy=1e-9)", particles=100, repetitions=8)
    assert often.log_estimate == pytest.approx(0.0, abs=5 * often.relative_error)
    rarely = positive_definite_estimate(10, "wigner_wishart(columns=1, energy=1e9)", particles=500)
    assert_probability(rarely, log_positive_definite_probability(10))  # what is left is the GOE
    for columns, estimate in ((9, 0.0), (10, 1.0)):
        for name in (f"wishart(columns={columns})", f"wigner_wishart(columns={columns}, energy=0)"):
            known = positive_definite_estimate(10, name)
            assert known.estimate == estimate and known.interval == (estimate, estimate) and known.relative_error == 0.0


def test_intervals_cover() -> None:
    n, repetitions = 3, 600
    expected = log_positive_definite_probability(n)
    runs = [positive_definite_estimate(n, particles=20, repetitions=8, seed=seed) for seed in range(repetitions)]

    def check(scale: float) -> None:
        reach = [scale * (run.log_ci_high - run.log_estimate) for run in runs]
        hits = [abs(run.log_estimate - expected) <= far for run, far in zip(runs, reach, strict=True)]
        assert_agrees(np.mean(hits), 0.95, math.sqrt(0.95 * 0.05 / repetitions))

    check(1.0)
    must_fail(check, 0.7)
    must_fail(check, 3.0)


def test_few_particles_are_warned_of() -> None:
    with pytest.warns(RuntimeWarning, match="8 repetitions of 2 particles differ by .* more particles"):
        positive_definite_estimate(20, particles=2, repetitions=8)


def test_the_same_bits_whatever_the_threads() -> None:
    for ensemble in ("goe", "wigner_wishart(columns=3, energy=0.3)"):
        one, two = (positive_definite_estimate(5, ensemble, particles=50, threads=threads) for threads in (1, 2))
        assert one.logs.tobytes() == two.logs.tobytes()
        more = positive_definite_estimate(5, ensemble, particles=50, repetitions=40)
        assert more.logs[:32].tobytes() == one.logs.tobytes()  # of each repetition its number decides
        assert len(set(more.logs)) == 40
        assert positive_definite_estimate(5, ensemble, particles=50, seed=1).logs[0] != one.logs[0]
        counts = [index_counts(5, ensemble, matrices=1000, threads=threads).counts.tolist() for threads in (1, 2, 3)]
        assert counts[0] == counts[1] == counts[2]


@pytest.mark.parametrize(
    ("shift", "variance", "power", "gap"),
    [
        (0.0, 2.0, 0.0, 0.0), (1.0, 2.0, 0.5, 1.5), (-3.0, 2.0, 0.0, 0.0), (-1e-9, 2.0, 0.0, 0.0),
        (20.0, 1.0, 0.0, 0.0), (1.0, 2.0, 10.0, 3.0), (-10.0, 0.01, 20.0, 0.001), (-0.5, 1.0, 3.0, 1e-6),
        (-1000.0, 1.0, 0.5, 10.0),
    ],
)  # fmt: skip
def test_excess_is_drawn_with_its_weight(shift: float, variance: float, power: float, gap: float) -> None:
    least = 0.5 * max(shift, 0.0) ** 2 / variance
    draws = np.array([draw_excess((i + 0.5) / 5000, shift, variance, power, gap) for i in range(5000)])
    t, weights = draws[:, 0], np.exp(draws[:, 1] + least)
    center, reach = t.mean(), 12 * t.std()

    def density(x: float) -> float:
        log_power = power * math.log(x / (x + gap)) if gap > 0 else 0.0
        return math.exp(least - 0.5 * (x + shift) ** 2 / variance + log_power)

    low = max(center - reach, 0.0)
    for function in (lambda _x: 1.0, lambda x: x, lambda x: x * x):
        expected = quad(lambda x, f=function: f(x) * density(x), low, center + reach, points=[center], epsabs=0)[0]
        found = float(np.mean(weights * function(t)))
        assert found == pytest.approx(expected, rel=1e-3)
        assert WRONG * found != pytest.approx(expected, rel=1e-3)
    assert weights.max() < 1.2 * weights.mean()  # it is a hull, and a close one


# Counting.


@pytest.mark.parametrize("n", [1, 2, 4, 6, 20])
def test_index_of_goe(n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    matrices = 200_000
    found, expected = index_counts(n, matrices=matrices), index_distribution(n)
    assert_shares(found, expected)
    squares = (np.arange(n + 1) - n / 2) ** 2
    spread = math.sqrt((expected @ squares**2 - (expected @ squares) ** 2) / matrices)
    assert_agrees(found.shares @ squares, index_variance(n), spread)
    low, high = found.interval
    assert np.all(low <= found.shares) and np.all(found.shares <= high)
    if n > 1:
        must_fail(assert_shares, found, WRONG * expected)
    if n == 2:  # the dense way, since no tridiagonal matrix has this law
        changed_law(monkeypatch, 1.0, WRONG * 2.0)
        must_fail(assert_shares, index_counts(n, matrices=3 * matrices), expected)


def drawn(n: int, ensemble: str, matrices: int) -> Numbers:
    """Return matrices of an ensemble, in NumPy."""
    generator, law = np.random.default_rng(7), ensemble_of(ensemble, n)
    lower = np.tril(generator.standard_normal((matrices, n, n)), -1) * math.sqrt(law.variance)
    diagonal = generator.standard_normal((matrices, n)) * math.sqrt(law.diagonal_variance)
    found = lower + lower.transpose(0, 2, 1) + diagonal[:, :, None] * np.eye(n)
    if law.columns:
        x = generator.standard_normal((matrices, n, law.columns))
        found += x @ x.transpose(0, 2, 1) / law.columns
    return np.asarray(found)


@pytest.mark.parametrize(
    ("n", "ensemble"),
    [
        (3, "goe"),
        (4, "equal_variance"),
        (4, "independent_signs"),
        (5, "wigner_wishart(columns=3, energy=0.4)"),
        (5, "wigner_wishart(columns=9, energy=0.2)"),
    ],
)
def test_index_against_numpy(n: int, ensemble: str) -> None:
    matrices = 30_000
    negative = np.sum(np.linalg.eigvalsh(drawn(n, ensemble, matrices)) < 0, axis=1)
    plain, found = np.bincount(negative, minlength=n + 1) / matrices, index_counts(n, ensemble, matrices=4 * matrices)

    def check(factor: float) -> None:
        errors = np.sqrt(plain * (1 - plain) * 1.25 / matrices)
        kept = plain > 0.001
        assert_agrees(found.shares[kept], factor * plain[kept], errors[kept])
        mean, error = found.index
        assert_agrees(mean, factor * negative.mean() / n, math.hypot(error, negative.std() / n / math.sqrt(matrices)))

    check(1.0)
    must_fail(check, WRONG)


def test_wishart_has_no_negative_eigenvalues() -> None:
    for columns in (1, 5, 50):
        assert index_counts(10, f"wishart(columns={columns})", matrices=1000).counts[0] == 1000


@pytest.mark.parametrize(("ratio", "excess", "value"), rows_of(r"9\.pb\.alpha\.(0\.\d+)\.(.+)"))
def test_wigner_wishart_index_as_published(ratio: str, excess: str, value: float) -> None:
    # At n rows it is larger by about 0.16 / n, which two sizes take out.
    energy = float(excess) * critical_energy(float(ratio))

    def check(factor: float) -> None:
        sides = []
        for n in (16, 32):
            columns = round(n / float(ratio))
            sides.append(
                index_counts(n, f"wigner_wishart(columns={columns}, energy={factor * energy!r})", matrices=4000)
            )
        (small, small_error), (large, large_error) = (side.index for side in sides)
        assert_agrees(2 * large - small, value, math.hypot(2 * large_error, small_error))

    check(1.0)
    if ratio == "0.0625":
        must_fail(check, WRONG)
    assert value == pytest.approx(wigner_wishart_index(float(ratio), energy), rel=1e-9)


# Bad input.


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: positive_definite_estimate(0), ValueError, "n must .* 1 to 200, not 0"),
        (lambda: positive_definite_estimate(201), ValueError, "n must .* 1 to 200, not 201"),
        (lambda: positive_definite_estimate(2.0), TypeError, "n must .* not 2.0"),  # type: ignore[arg-type]  # shown
        (lambda: positive_definite_estimate(2, "gue"), ValueError, "unknown ensemble 'gue'; known"),
        (lambda: positive_definite_estimate(2, "goe(n=3)"), ValueError, "goe takes no parameters, not 'n'"),
        (lambda: positive_definite_estimate(2, "wishart"), ValueError, "wishart needs columns, as in"),
        (lambda: positive_definite_estimate(2, "wishart(columns=1.5)"), TypeError, "columns must .* not 1.5"),
        (lambda: positive_definite_estimate(2, "wishart(columns=0)"), ValueError, "columns must .* not 0"),
        (lambda: positive_definite_estimate(2, "wishart(rows=2)"), ValueError, "unknown parameter of wishart 'rows'"),
        (lambda: index_counts(2, "wigner_wishart(columns=2)", matrices=1), ValueError, "wigner_wishart needs energy"),
        (lambda: index_counts(2, "wigner_wishart(columns=2, energy=-1)", matrices=1), ValueError, "energy .* not -1.0"),
        (lambda: positive_definite_estimate(2, particles=1), ValueError, "particles must .* not 1"),
        (lambda: positive_definite_estimate(2, repetitions=7), ValueError, "repetitions must .* from 8 .* not 7"),
        (lambda: positive_definite_estimate(2, particles=10**9), ValueError, "particles=1000000000 of .* 4294967295"),
        (lambda: positive_definite_estimate(2, seed=-1), ValueError, "seed must .* not -1"),
        (lambda: positive_definite_estimate(2, threads=0), ValueError, "threads must .* not 0"),
        (lambda: index_counts(2, matrices=0), ValueError, "matrices must .* not 0"),
    ],
)  # fmt: skip
def test_bad_input_is_refused_in_one_line(call: Callable[[], Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_what_does_not_fit_into_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(what: str, needed: int, remedy: str) -> None:
        raise MemoryError(f"{what} {needed} {remedy}")

    monkeypatch.setattr(positive_definite, "check_memory", refuse)
    with pytest.raises(MemoryError, match=f"particles {8 * 2 * 10 * 25} particles or threads"):
        positive_definite_estimate(5, particles=10, threads=2)
