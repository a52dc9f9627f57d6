"""Signs of eigenvalues of random matrices, spectra, and critical points of linear nets, against independent ways."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.integrate import quad

from stabsim.theory import pfaffians, random_matrix
from stabsim.theory.landscape import autoencoder_critical_point, chain_eigenvalues, chain_hessian
from stabsim.theory.random_matrix import (
    GOE_SERIES,
    PositiveDefiniteSeries,
    index_distribution,
    index_variance,
    log_positive_definite_probability,
    positive_definite_probability,
    positive_definite_series,
)
from stabsim.theory.saddle_index import (
    bray_dean_energy,
    bray_dean_index,
    critical_energy,
    wigner_wishart_density,
    wigner_wishart_index,
)
from stabsim.theory.spectra import (
    marchenko_pastur,
    marchenko_pastur_edges,
    marchenko_pastur_zero_mass,
    semicircle,
    semicircle_radius,
)
from tests.checks import WRONG, assert_agrees, must_fail

Numbers = NDArray[Any]

ROOT_2 = math.sqrt(2.0)


def assert_close(found: float, expected: float, relative: float = 1e-13) -> None:
    assert found == pytest.approx(expected, rel=relative, abs=0)


def assert_shares(hits: Numbers, expected: Any) -> None:
    """Compare shares of independent trials, (trials, ...), with probabilities."""
    assert_agrees(hits.mean(axis=0), expected, hits.std(axis=0) / math.sqrt(len(hits)))


def goe(generator: np.random.Generator, matrices: int, n: int) -> Numbers:
    entries = generator.standard_normal((matrices, n, n))
    return np.asarray((entries + entries.transpose(0, 2, 1)) / 2)


# Positive definite matrices and the index.


@pytest.mark.parametrize(
    ("n", "expected"),
    [
        (1, 1 / 2),
        (2, (2 - ROOT_2) / 4),
        (3, (math.pi - 2 * ROOT_2) / (4 * math.pi)),
        (4, (4 - ROOT_2 - 8 / math.pi) / 16),
        (5, (3 - (8 + ROOT_2) / math.pi) / 24),
    ],
)
def test_goe_closed_forms(n: int, expected: float) -> None:
    found = positive_definite_probability(n)
    assert_close(found, expected, 3e-13)  # the closed forms cancel
    must_fail(assert_close, WRONG * found, expected, 3e-13)


@pytest.mark.parametrize("n", [2, 3, 4])
def test_goe_index_against_simulation(n: int) -> None:
    negative = np.sum(np.linalg.eigvalsh(goe(np.random.default_rng(n), 200_000, n)) < 0, axis=1)
    hits = negative[:, None] == np.arange(n + 1)
    assert_shares(hits, index_distribution(n))
    must_fail(assert_shares, hits, WRONG * index_distribution(n))
    squares = (negative - n / 2) ** 2
    assert_shares(squares, index_variance(n))
    must_fail(assert_shares, squares, WRONG * index_variance(n))


@pytest.mark.parametrize("n", [1, 2, 7, 12, 25])
def test_index_distribution_agrees_with_itself(n: int) -> None:
    found = index_distribution(n)
    assert_close(float(found.sum()), 1.0)
    np.testing.assert_array_equal(found, found[::-1])
    assert_close(math.log(found[0]), log_positive_definite_probability(n), 1e-14)


def test_more_digits_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    logs, index = pfaffians.log_positive_definite_probabilities(60), pfaffians.index_distribution(16)
    monkeypatch.setattr(pfaffians, "_digits", lambda n: 100 + 3 * n)
    assert pfaffians.log_positive_definite_probabilities.__wrapped__(60) == logs
    assert pfaffians.index_distribution(16) == index
    monkeypatch.setattr(pfaffians, "_digits", lambda n: 20 + n)  # too few
    assert pfaffians.log_positive_definite_probabilities.__wrapped__(60) != logs


def test_series_joins_exact_logs() -> None:
    for n in (50, 55, 60):
        assert abs(positive_definite_series(n, 5) - log_positive_definite_probability(n)) < 1e-12
    difference = log_positive_definite_probability(61) - log_positive_definite_probability(60)
    assert_close(difference, positive_definite_series(61, 5) - positive_definite_series(60, 5), 1e-13)


def varied_series() -> list[PositiveDefiniteSeries]:
    """Return the series with one coefficient 5% wrong each."""
    names = ("square", "linear", "logarithm", "constant")
    series = [GOE_SERIES._replace(**{name: WRONG * getattr(GOE_SERIES, name)}) for name in names]
    for k, coefficient in enumerate(GOE_SERIES.inverse):
        inverse = (*GOE_SERIES.inverse[:k], WRONG * coefficient, *GOE_SERIES.inverse[k + 1 :])
        series.append(GOE_SERIES._replace(inverse=inverse))
    return series


def test_every_coefficient_of_the_series_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    def check() -> None:
        assert abs(positive_definite_series(30, 5) - log_positive_definite_probability(30)) < 2e-11

    check()
    for wrong in varied_series():
        monkeypatch.setattr(random_matrix, "GOE_SERIES", wrong)
        must_fail(check)


def test_constants_of_the_series() -> None:
    with mpmath.workdps(30):
        derivative = mpmath.zeta(-1, derivative=1)
        expected = derivative / 2 - mpmath.log(2) / 12 - 3 * mpmath.log(3) / 16 + mpmath.log(2 + mpmath.sqrt(3)) / 4
    assert_close(GOE_SERIES.constant, float(expected), 1e-14)
    must_fail(assert_close, WRONG * GOE_SERIES.constant, float(expected), 1e-14)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_equal_variance_against_simulation(n: int) -> None:
    entries = np.random.default_rng(5).standard_normal((6, 2_000_000))
    (a, b, c), (x, y, z) = entries[:3], entries[3:]
    minors = (a, a * b - x * x, a * b * c + 2 * x * y * z - a * z * z - b * y * y - c * x * x)
    hits = np.all(np.array(minors[:n]) > 0, axis=0)
    assert_shares(hits, positive_definite_probability(n, "equal_variance"))
    must_fail(assert_shares, hits, WRONG * positive_definite_probability(n, "equal_variance"))


def test_equal_variance_of_two_rows_as_an_elliptic_integral() -> None:
    # 1/2 - sqrt 2 / pi times the integral of sqrt((1 + s^2) / (2 + s^2)) over a quarter of the circle, s = sin
    mean = quad(lambda angle: math.sqrt((1 + math.sin(angle) ** 2) / (2 + math.sin(angle) ** 2)), 0, math.pi / 2)[0]
    assert_close(positive_definite_probability(2, "equal_variance"), 0.5 - mean / math.pi)


def test_independent_signs() -> None:
    assert positive_definite_probability(10, "independent_signs") == 2.0**-10
    assert_close(log_positive_definite_probability(5000, "independent_signs"), -5000 * math.log(2), 1e-15)
    assert log_positive_definite_probability(3, "equal_variance") == math.log(
        positive_definite_probability(3, "equal_variance")
    )


# Spectra.


@pytest.mark.parametrize("radius", [0.5, 2.0])
def test_semicircle_moments(radius: float) -> None:
    for power, expected in ((0, 1.0), (2, radius**2 / 4), (4, radius**4 / 8)):
        found = quad(lambda x, k=power: x**k * float(semicircle(x, radius)), -radius, radius, epsabs=1e-13)[0]
        assert_close(found, expected, 1e-9)
        must_fail(assert_close, WRONG * found, expected, 1e-9)
    assert semicircle([-2 * radius, 2 * radius], radius).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("ratio", [0.25, 1.0, 4.0])
def test_marchenko_pastur_moments(ratio: float) -> None:
    low, high = marchenko_pastur_edges(ratio)
    center, half = (low + high) / 2, (high - low) / 2

    def moment(power: int) -> float:  # x = center - half cos(angle): smooth at both edges
        def integrand(angle: float) -> float:
            x = center - half * math.cos(angle)
            return x**power * float(marchenko_pastur(x, ratio)) * half * math.sin(angle)

        return float(quad(integrand, 0, math.pi, epsabs=1e-13)[0])

    for power, expected in ((0, 1 - marchenko_pastur_zero_mass(ratio)), (1, 1.0), (2, 1 + ratio)):
        assert_close(moment(power), expected, 1e-9)
        must_fail(assert_close, WRONG * moment(power), expected, 1e-9)
    assert marchenko_pastur([low - 0.1, high + 0.1], ratio).tolist() == [0.0, 0.0]


def test_marchenko_pastur_at_a_hard_edge() -> None:
    assert marchenko_pastur(0.0, 1.0) == np.inf
    assert marchenko_pastur(0.0, 0.5) == marchenko_pastur(0.0, 2.0) == 0.0


def share(density: Callable[[float], Any], low: float, high: float) -> float:
    return float(quad(lambda x: float(density(x)), low, high, limit=200)[0])


def assert_spectrum(eigenvalues: Numbers, low: float, high: float, expected: float) -> None:
    """Compare the share of eigenvalues, (matrices, n), in an interval: of 200 rows, so 1/n is below its error."""
    assert_shares(np.mean((low < eigenvalues) & (eigenvalues < high), axis=1), expected)


def test_spectra_against_simulation() -> None:
    generator = np.random.default_rng(9)
    n, matrices, energy = 200, 24, 0.3
    wigner = goe(generator, matrices, n)
    radius = semicircle_radius(n, 0.5)
    rows = generator.standard_normal((matrices, n, 2 * n))
    wishart = rows @ rows.transpose(0, 2, 1) / (2 * n)
    both = np.linalg.eigvalsh(wishart + wigner * math.sqrt(2 * energy / (n * 0.5)))
    center = share(lambda x: wigner_wishart_density(x, 0.5, energy), 0.5, 1.5)
    for eigenvalues, low, high, expected in (
        (np.linalg.eigvalsh(wigner), -radius / 2, radius / 2, 1 / 3 + math.sqrt(3) / (2 * math.pi)),
        (np.linalg.eigvalsh(wishart), 0.5, 1.5, share(lambda x: marchenko_pastur(x, 0.5), 0.5, 1.5)),
        (both, 0.5, 1.5, center),
        (both, -np.inf, 0.0, wigner_wishart_index(0.5, energy)),
    ):
        assert_spectrum(eigenvalues, low, high, expected)
        must_fail(assert_spectrum, eigenvalues, low, high, WRONG * expected)


@pytest.mark.parametrize(("ratio", "energy"), [(0.25, 0.05), (1.0, 0.1), (3.0, 0.01), (0.01, 0.2)])
def test_wigner_wishart_moments(ratio: float, energy: float) -> None:
    x = np.linspace(-4, 16, 200_001)
    density = wigner_wishart_density(x, ratio, energy)
    for power, expected in ((0, 1.0), (1, 1.0), (2, 1 + ratio + 2 * energy)):
        found = float(np.trapezoid(x**power * density, x))
        assert_close(found, expected, 1e-5)
        must_fail(assert_close, WRONG * found, expected, 1e-5)
    negative = x <= 0
    assert_close(float(np.trapezoid(density[negative], x[negative])), wigner_wishart_index(ratio, energy), 1e-4)


def precise_index(ratio: float, energy: float) -> float:
    """Return the integral of the resolvent from its cubic at z = 0, in 50 digits."""
    with mpmath.workdps(50):
        phi, epsilon = mpmath.mpf(ratio), mpmath.mpf(energy)
        start = max(np.roots([2 * energy * ratio, -2 * energy, ratio - 1, -1]), key=np.imag)
        g = mpmath.findroot(lambda g: 2 * epsilon * g**2 * (phi * g - 1) + (phi - 1) * g - 1, mpmath.mpc(start))
        primitive = mpmath.log(1 - phi * g) / phi - epsilon * g**2 - mpmath.log(-g)
        return float(abs(mpmath.im(primitive)) / mpmath.pi)


@pytest.mark.parametrize("ratio", [0.01, 0.25, 0.9])
@pytest.mark.parametrize("excess", [1e-3, 0.01, 0.5, 10.0])
def test_wigner_wishart_index_is_precise(ratio: float, excess: float) -> None:
    energy = critical_energy(ratio) * (1 + excess)
    found, tolerance = wigner_wishart_index(ratio, energy), 1e-14 * (1 + 1 / excess)
    assert_close(found, precise_index(ratio, energy), tolerance)
    must_fail(assert_close, WRONG * found, precise_index(ratio, energy), tolerance)


def test_wigner_wishart_index_at_its_limits() -> None:
    for ratio in (0.1, 0.5):
        assert wigner_wishart_index(ratio, critical_energy(ratio) * (1 - 1e-9)) == 0.0
        assert wigner_wishart_index(ratio, critical_energy(ratio) * (1 + 1e-9)) > 0.0
    assert wigner_wishart_index(0.5, 0.0) == 0.0
    assert wigner_wishart_index(4.0, 1e-14) == pytest.approx(marchenko_pastur_zero_mass(4.0) / 2, abs=1e-7)
    assert wigner_wishart_index(1e-9, 1.0) == pytest.approx(bray_dean_index(-1 / math.sqrt(8.0)), abs=1e-8)


@pytest.mark.parametrize("ratio", [0.0, 1e-9, 0.0625, 0.5, 0.999])
def test_critical_energy_as_published(ratio: float) -> None:
    with mpmath.workdps(40):
        phi = mpmath.mpf(ratio)
        published = float((1 - 20 * phi - 8 * phi**2 + (1 + 8 * phi) ** 1.5) / 16)
    assert_close(critical_energy(ratio), published)
    must_fail(assert_close, WRONG * critical_energy(ratio), published)


@pytest.mark.parametrize("x", [-0.9999999, -0.93, -0.5, 0.3, 1.0])
def test_bray_dean_as_published_and_back(x: float) -> None:
    with mpmath.workdps(40):
        energy = mpmath.mpf(x)
        published = float(mpmath.mpf(1) / 2 + (energy * mpmath.sqrt(1 - energy**2) + mpmath.asin(energy)) / mpmath.pi)
    index = bray_dean_index(x)
    assert_close(index, published)
    must_fail(assert_close, WRONG * index, published)
    assert bray_dean_energy(index) == pytest.approx(x, abs=1e-14)


def test_bray_dean_at_its_ends() -> None:
    assert [bray_dean_energy(index) for index in (0.0, 0.5, 1.0)] == [-1.0, 0.0, 1.0]
    assert [bray_dean_index(energy) for energy in (-1.0, 1.0)] == [0.0, 1.0]


# Linear nets.


class Autoencoder:
    """A critical point in turned coordinates, and the loss as a function of all weights."""

    def __init__(self, eigenvalues: tuple[float, ...], hidden: int, kept: tuple[int, ...]) -> None:
        generator = np.random.default_rng(3)
        n = len(eigenvalues)
        frame = np.linalg.qr(generator.standard_normal((n, n)))[0]
        self.covariance = frame @ np.diag(eigenvalues) @ frame.T
        mixed = np.eye(len(kept)) + 0.3 * generator.standard_normal((len(kept), len(kept)))
        self.encoder, self.decoder = np.zeros((hidden, n)), np.zeros((n, hidden))
        self.decoder[:, : len(kept)] = frame[:, list(kept)] @ mixed
        self.encoder[: len(kept)] = np.linalg.inv(mixed) @ frame[:, list(kept)].T

    def loss(self, change: Numbers) -> float:
        size = self.decoder.size
        decoder = self.decoder + change[:size].reshape(self.decoder.shape)
        encoder = self.encoder + change[size:].reshape(self.encoder.shape)
        left = np.eye(len(self.covariance)) - decoder @ encoder
        return 0.5 * float(np.trace(left @ self.covariance @ left.T))

    def hessian(self, step: float = 1e-3) -> Numbers:
        moves = step * np.eye(2 * self.decoder.size)
        return np.array([
            [
                (self.loss(a + b) - self.loss(a - b) - self.loss(b - a) + self.loss(-a - b)) / (4 * step**2)
                for b in moves
            ]
            for a in moves
        ])  # fmt: skip

    def gradient(self, step: float = 1e-5) -> Numbers:
        moves = step * np.eye(2 * self.decoder.size)
        return np.array([(self.loss(a) - self.loss(-a)) / (2 * step) for a in moves])


@pytest.mark.parametrize(
    ("eigenvalues", "hidden", "kept"),
    [
        ((4.0, 3.0, 2.0, 1.0), 2, ()),
        ((4.0, 3.0, 2.0, 1.0), 2, (1,)),
        ((4.0, 3.0, 2.0, 1.0), 2, (0, 3)),
        ((1.0, 4.0, 2.0), 2, (2, 0)),
        ((1.0, 4.0, 2.0), 3, (1,)),
        ((2.0, 2.0, 1.0), 2, (0,)),  # equal eigenvalues
        ((2.0, 1.0, 0.0), 2, (2,)),  # a direction without data
        ((2.0, 0.0, 0.0), 2, (0, 1)),
        ((3.0,), 1, (0,)),
    ],
)
def test_autoencoder_against_numerical_hessian(
    eigenvalues: tuple[float, ...], hidden: int, kept: tuple[int, ...]
) -> None:
    network, expected = Autoencoder(eigenvalues, hidden, kept), autoencoder_critical_point(eigenvalues, hidden, kept)
    spectrum = np.linalg.eigvalsh(network.hessian())
    assert np.max(np.abs(network.gradient())) < 1e-8
    assert np.sum(spectrum < -1e-3) == expected.negative
    assert np.sum(spectrum > 1e-3) == expected.positive
    assert np.sum(np.abs(spectrum) < 1e-4) == expected.zero
    loss = network.loss(np.zeros(2 * network.decoder.size))
    assert loss == pytest.approx(expected.loss, rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("weights", [(0.7,), (0.3, -1.2), (0.0, 0.0, 2.0), (1.1, 0.0, -0.4, 0.9), (0.5,) * 6])
def test_chain_hessian_against_differences(weights: tuple[float, ...]) -> None:
    w, target, signal = np.array(weights), 0.8, 1.5

    def loss(change: Numbers) -> float:
        return 0.5 * float(target - signal * np.prod(w + change)) ** 2

    def check(hessian: Numbers) -> None:
        assert np.allclose(hessian, differences, rtol=1e-10, atol=1e-10)

    # The loss is quadratic in each weight, so differences are exact at any step; one weight with itself takes half.
    moves = np.eye(len(w))
    differences = np.array(
        [[(loss(a + b) - loss(a - b) - loss(b - a) + loss(-a - b)) / 4 for b in moves] for a in moves]
    )
    check(chain_hessian(w, target, signal))
    must_fail(check, WRONG * chain_hessian(w, target, signal))
    assert chain_eigenvalues(w, target, signal) == pytest.approx(np.linalg.eigvalsh(differences), abs=1e-9)


def test_chain_at_the_origin_and_at_a_minimum() -> None:
    assert not chain_hessian(np.zeros(4), 3.0).any()
    np.testing.assert_array_equal(chain_eigenvalues([0.0, 0.0], 3.0), [-3.0, 3.0])
    found = chain_eigenvalues([2.0, 0.5, 3.0], 3.0)  # one direction matters: the gradient of the product
    assert found == pytest.approx([0.0, 0.0, 1.5**2 + 6**2 + 1], abs=1e-12)


# Bad input.


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: positive_definite_probability(0), ValueError, "n must .* not 0"),
        (lambda: positive_definite_probability(2.5), TypeError, "n must .* not 2.5"),  # type: ignore[arg-type]
        (lambda: positive_definite_probability(4, "equal_variance"), ValueError, "1 to 3 .* not 4: simulate"),
        (lambda: positive_definite_probability(4, "gue"), ValueError, "unknown ensemble 'gue'"),
        (lambda: log_positive_definite_probability(4, "gue"), ValueError, "unknown ensemble 'gue'"),
        (lambda: positive_definite_series(4, 6), ValueError, "inverse_powers must .* 0 to 5, not 6"),
        (lambda: index_distribution(61), ValueError, "n must .* 1 to 60, not 61"),
        (lambda: semicircle(0.0, 0.0), ValueError, "radius must .* not 0.0"),
        (lambda: semicircle(math.nan, 1.0), ValueError, "x must be a finite number"),
        (lambda: semicircle_radius(10, -1.0), ValueError, "offdiagonal_variance must .* not -1.0"),
        (lambda: marchenko_pastur(1.0, -0.5), ValueError, "ratio must .* not -0.5"),
        (lambda: wigner_wishart_density(0.0, 0.5, 0.0), ValueError, "energy must .* not 0.0"),
        (lambda: wigner_wishart_index(0.0, 0.5), ValueError, "ratio must .* not 0.0"),
        (lambda: critical_energy(1.5), ValueError, "ratio must .* not 1.5"),
        (lambda: bray_dean_index(-1.01), ValueError, "energy must .* not -1.01"),
        (lambda: bray_dean_energy(1.5), ValueError, "index must .* not 1.5"),
        (lambda: autoencoder_critical_point([[1.0]], 1, ()), ValueError, "eigenvalues must have one dimension"),
        (lambda: autoencoder_critical_point([1.0, -1.0], 1, ()), ValueError, "eigenvalues must .* not -1.0"),
        (lambda: autoencoder_critical_point([2.0, 1.0], 1, (0, 1)), ValueError, "kept must .* hidden=1 different"),
        (lambda: autoencoder_critical_point([2.0, 1.0], 2, (0, 0)), ValueError, "different positions"),
        (lambda: autoencoder_critical_point([2.0, 1.0], 2, (2,)), ValueError, "kept must .* 0 to 1, not 2"),
        (lambda: autoencoder_critical_point([2.0, 1.0], 2, 1), TypeError, "kept must .* not 1"),  # type: ignore[arg-type]
        (lambda: chain_hessian([], 1.0), TypeError, r"weights must be a number or an array of numbers, not \[\]"),
        (lambda: chain_hessian([math.inf], 1.0), ValueError, "weights must be a finite number"),
    ],
)  # fmt: skip
def test_bad_input_is_refused_in_one_line(call: Callable[[], Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text) as caught:
        call()
    assert "\n" not in str(caught.value)
