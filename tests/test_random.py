"""Random numbers: known answers, where each draw comes from, and whether they follow their laws."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import scipy.special
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from stabsim.kernels import laws, philox
from tests.checks import WRONG, assert_agrees, must_fail

Numbers = NDArray[Any]
Words = tuple[int, ...]

PRECISIONS = ("float32", "float64")
INDEPENDENT = ("normal", "uniform", "truncated_normal")
MASK = 2**32 - 1
WORDS = st.integers(0, MASK)
ROUNDING = {"float32": 3e-6, "float64": 1e-14}


def draw(law: str, precision: str, size: int | tuple[int, int], **where: int) -> Numbers:
    """Draw numbers of variance 1 (a matrix, for a pair of sizes) at a place given by words of the counter."""
    dtype = np.dtype(precision)
    shape = (1, size) if isinstance(size, int) else size
    out = np.empty(shape, dtype)
    address = {"first": 0, "seed": 7, "purpose": 1, "layer": 2, "net": 3} | where
    first, seed = (np.uint64(address[word]) for word in ("first", "seed"))
    purpose, layer, net = (np.uint32(address[word]) for word in ("purpose", "layer", "net"))
    laws.law(law, dtype)(out, first, seed, purpose, layer, net, dtype.type(1))
    return out[0] if isinstance(size, int) else out


def reference_philox(counter: Words, key: Words) -> Words:
    """Philox4x32-10 as in figure 2 of the paper, in Python's integers."""
    left_0, right_0, left_1, right_1 = counter[1], counter[0], counter[3], counter[2]
    key_0, key_1 = key
    for _ in range(10):
        product_0, product_1 = 0xD2511F53 * right_0, 0xCD9E8D57 * right_1
        left_0, right_0, left_1, right_1 = (
            product_1 & MASK, (product_1 >> 32) ^ left_0 ^ key_0,
            product_0 & MASK, (product_0 >> 32) ^ left_1 ^ key_1,
        )  # fmt: skip
        key_0, key_1 = (key_0 + 0x9E3779B9) & MASK, (key_1 + 0xBB67AE85) & MASK
    return right_0, left_0, right_1, left_1


def place(position: int, precision: str) -> tuple[int, int]:
    """Return the group of a draw, and its number within the group."""
    tile = 64 if precision == "float32" else 32
    return position // tile * 16 + position % 16, position % tile // 16


def reference_draw(law: str, precision: str, position: int, seed: int, purpose: int, layer: int, net: int) -> float:
    """Compute one draw from its counter by the textbook's formulas."""
    group, number = place(position, precision)
    words = reference_philox((group, layer, net, purpose), (seed & MASK, seed >> 32))
    if precision == "float32":
        centered = ((words[number] >> 8) - 8388607.5) * 2.0**-23
        high, low = words[number // 2 * 2 : number // 2 * 2 + 2]
        radius_uniform, angle_uniform = ((high >> 1) + 0.5) * 2.0**-31, (low >> 8) * 2.0**-24
    else:
        pairs = [(words[i] >> 6) * 2**27 + (words[i + 1] >> 5) + 0.5 for i in (0, 2)]
        centered = 2 * (pairs[number] * 2.0**-53) - 1
        radius_uniform, angle_uniform = (pair * 2.0**-53 for pair in pairs)
    if law == "uniform":
        return math.sqrt(3) * centered
    if law == "truncated_normal":
        return math.sqrt(2) * float(scipy.special.erfinv(centered * MASS)) / TRUNCATED_STD
    wave = math.sin if number % 2 else math.cos
    return math.sqrt(-2 * math.log(radius_uniform)) * wave(2 * math.pi * angle_uniform)


KNOWN_ANSWERS = [
    ("0 0 0 0", "0 0", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


def hexadecimal(text: str) -> Words:
    return tuple(int(word, 16) for word in text.split())


def package_philox(counter: Words, key: Words) -> Words:
    with np.errstate(over="ignore"):
        return tuple(int(word) for word in philox.philox(*map(np.uint32, counter + key)))


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN_ANSWERS)
def test_known_answers(counter: str, key: str, answer: str) -> None:
    assert reference_philox(hexadecimal(counter), hexadecimal(key)) == hexadecimal(answer)
    assert package_philox(hexadecimal(counter), hexadecimal(key)) == hexadecimal(answer)


@given(counter=st.tuples(WORDS, WORDS, WORDS, WORDS), key=st.tuples(WORDS, WORDS))
def test_words_are_those_of_the_reference(counter: Words, key: Words) -> None:
    assert package_philox(counter, key) == reference_philox(counter, key)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("law", INDEPENDENT)
@pytest.mark.parametrize("size", [1, 31, 32, 33, 63, 64, 65, 1000])
def test_every_draw_comes_from_its_counter(law: str, size: int, precision: str) -> None:
    where = {"seed": 2**63 + 5, "purpose": 2, "layer": 4, "net": 2**32 - 1}
    expected = [reference_draw(law, precision, position, **where) for position in range(size)]
    found = draw(law, precision, size, **where)
    assert found == pytest.approx(expected, rel=ROUNDING[precision], abs=ROUNDING[precision])


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("law", INDEPENDENT)
def test_a_part_of_the_draws_is_drawn_alike(law: str, precision: str) -> None:
    whole = draw(law, precision, 1000)
    assert np.array_equal(whole, draw(law, precision, (40, 25)).reshape(-1))
    for first in (64, 128, 960):
        for size in (1, 17, 40):
            assert np.array_equal(whole[first : first + size], draw(law, precision, size, first=first))


PURPOSES = [
    int(purpose)
    for purpose in (
        philox.INPUT, philox.WEIGHT, philox.BIAS, philox.OUTPUT_GRADIENT, philox.SAMPLE_CHOICE, philox.PROJECTION,
        philox.COMPLEMENT, philox.SAMPLE_ORDER, philox.PERTURBATION, philox.TEACHER_WEIGHT, philox.TEACHER_BIAS,
        philox.NOISE,
    )
]  # fmt: skip
ADDRESSES = st.fixed_dictionaries(
    {"position": st.integers(0, 2**34 - 1), "purpose": st.sampled_from(PURPOSES), "layer": WORDS, "net": WORDS}
)


@given(precision=st.sampled_from(PRECISIONS), one=ADDRESSES, other=ADDRESSES, data=st.data())
def test_no_two_draws_share_a_counter(
    precision: str, one: dict[str, int], other: dict[str, int], data: st.DataObject
) -> None:
    def counter(position: int, **words: int) -> Any:
        return place(position, precision), words

    other = other | {word: one[word] for word in data.draw(st.sets(st.sampled_from(list(one))))}
    limit = 2**34 if precision == "float32" else 2**33  # positions that 2^32 groups give
    one, other = one | {"position": one["position"] % limit}, other | {"position": other["position"] % limit}
    assert (counter(**one) == counter(**other)) == (one == other)
    assert place(one["position"], precision)[0] < 2**32
    seed = data.draw(st.integers(0, 2**64 - 1))
    first = one["position"] // 64 * 64
    found = draw("uniform", precision, one["position"] - first + 1, **{**one, "seed": seed, "first": first})[-1]
    assert found == pytest.approx(reference_draw("uniform", precision, seed=seed, **one), abs=ROUNDING[precision])


def test_purposes_differ() -> None:
    assert len(set(PURPOSES)) == len(PURPOSES)


# The laws. A sample is a million draws; where the law is right, so are all powers, up to standard errors.
MASS = math.erf(math.sqrt(2))  # of a standard normal within two standard deviations
TRUNCATED_STD = math.sqrt(1 - 4 * math.exp(-2) / math.sqrt(2 * math.pi) / MASS)
DISTRIBUTIONS: dict[str, Callable[[Numbers], Numbers]] = {
    "normal": scipy.special.ndtr,
    "uniform": lambda x: (x / math.sqrt(3) + 1) / 2,
    "truncated_normal": lambda x: (scipy.special.ndtr(x * TRUNCATED_STD) - 0.5) / MASS + 0.5,
}
LAWS: dict[str, Any] = {
    "normal": scipy.stats.norm(),
    "uniform": scipy.stats.uniform(-math.sqrt(3), 2 * math.sqrt(3)),
    "truncated_normal": scipy.stats.truncnorm(-2, 2, scale=1 / TRUNCATED_STD),
}
BOUNDS = {"normal": math.inf, "uniform": math.sqrt(3), "truncated_normal": 2 / TRUNCATED_STD}
MOMENTS = {law: np.array([float(LAWS[law].moment(k)) for k in range(9)]) for law in INDEPENDENT}


class Checked:
    """Sums over many draws: powers, a histogram of the distribution function, products of paired draws."""

    LAGS = (1, 2, 3, 4, 15, 16, 17, 32, 48, 64, 1000)
    BINS = 1000

    def __init__(self, law: str) -> None:
        self.law, self.count = law, 0
        self.powers, self.histogram = np.zeros(5), np.zeros(self.BINS)
        self.products: dict[str, Numbers] = {}

    def add(self, draws: Numbers) -> None:
        x = draws.astype(np.float64)
        self.count += x.size
        squares = x * x
        self.powers += [x.size, x.sum(), squares.sum(), np.dot(x, squares), np.dot(squares, squares)]
        self.histogram += np.histogram(DISTRIBUTIONS[self.law](x), self.BINS, (0, 1))[0]

    def add_pairs(self, draws: Numbers, pairs: dict[str, Numbers]) -> None:
        """Add products with the draws that follow, and with others that must be independent."""
        x = draws.astype(np.float64)
        for lag in self.LAGS:
            self._pair(f"lag {lag}", x[:-lag], x[lag:])
        for name, other in pairs.items():
            self._pair(name, x, other.astype(np.float64))

    def _pair(self, name: str, x: Numbers, y: Numbers) -> None:
        sums = [x.size, np.dot(x, y), np.dot(x * x - 1, y * y - 1)]
        self.products[name] = self.products.get(name, np.zeros(3)) + sums

    def assert_follows_the_law(self) -> None:
        exact = MOMENTS[self.law]
        orders = np.arange(1, 5)
        errors = np.sqrt((exact[2 * orders] - exact[orders] ** 2) / self.count)
        assert_agrees(self.powers[orders] / self.count, exact[orders], errors)
        chi_square = float(np.sum((self.histogram - self.count / self.BINS) ** 2) / (self.count / self.BINS))
        assert 1e-6 < scipy.stats.chi2.sf(chi_square, self.BINS - 1) < 1 - 1e-6

    def assert_independent(self) -> None:
        count, product, of_squares = np.array(list(self.products.values())).T
        assert_agrees(product / count, 0, 1 / np.sqrt(count))
        assert_agrees(of_squares / count, 0, (MOMENTS[self.law][4] - 1) / np.sqrt(count))


NEIGHBORS = {"net": {"net": 4}, "layer": {"layer": 3}, "purpose": {"purpose": 2}, "seed": {"seed": 8},
             "high word of the seed": {"seed": 7 + 2**32}, "layer and net": {"layer": 3, "net": 2}}  # fmt: skip


def samples(law: str, precision: str, times: int) -> Iterator[tuple[Numbers, dict[str, Numbers]]]:
    for i in range(times):
        apart = 1000 * i
        yield (
            draw(law, precision, 1_000_000, net=3 + apart),
            {
                name: draw(law, precision, 1_000_000, **{"net": 3 + apart, **words, **_shifted(words, apart)})
                for name, words in NEIGHBORS.items()
            },
        )


def _shifted(words: dict[str, int], apart: int) -> dict[str, int]:
    return {"net": words["net"] + apart} if "net" in words else {}


@pytest.fixture(scope="module", params=[(law, precision) for law in INDEPENDENT for precision in PRECISIONS])
def million(request: pytest.FixtureRequest) -> tuple[str, Numbers, dict[str, Numbers]]:
    law, precision = request.param
    return law, *next(samples(law, precision, 1))


def assert_follows_the_law(law: str, draws: Numbers) -> None:
    checked = Checked(law)
    checked.add(draws)
    checked.assert_follows_the_law()


def assert_independent(law: str, draws: Numbers, pairs: dict[str, Numbers]) -> None:
    checked = Checked(law)
    checked.add_pairs(draws, pairs)
    checked.assert_independent()


def assert_kolmogorov_smirnov(law: str, draws: Numbers) -> None:
    assert scipy.stats.kstest(draws, DISTRIBUTIONS[law], method="asymp").pvalue > 1e-6


def test_a_million_draws_follow_their_law(million: tuple[str, Numbers, dict[str, Numbers]]) -> None:
    law, draws, _ = million
    for assert_right in (assert_follows_the_law, assert_kolmogorov_smirnov):
        assert_right(law, draws)
        must_fail(assert_right, law, draws * np.float32(WRONG))
        must_fail(assert_right, law, draws + np.float32(0.05))


def test_a_million_draws_are_independent_of_others(million: tuple[str, Numbers, dict[str, Numbers]]) -> None:
    law, draws, pairs = million
    assert_independent(law, draws, pairs)
    must_fail(assert_independent, law, draws[:-16] + 0.05 * draws[16:], {})
    must_fail(assert_independent, law, draws, {"alike": draws})
    must_fail(assert_independent, law, draws, {"of the same size": np.abs(draws)})


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("law", INDEPENDENT)
def test_extremes_stay_inside_the_law(law: str, precision: str) -> None:
    bound = BOUNDS[law]
    draws = draw(law, precision, 4_000_000)
    assert np.all(np.isfinite(draws))
    assert np.max(np.abs(draws)) <= np.dtype(precision).type(bound)
    assert np.max(draws) > min(0.999 * bound, 4.5) and np.min(draws) < -min(0.999 * bound, 4.5)


@pytest.mark.slow
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("law", INDEPENDENT)
def test_a_hundred_million_draws(law: str, precision: str) -> None:
    checked = Checked(law)
    for draws, pairs in samples(law, precision, 100):
        checked.add(draws)
        checked.add_pairs(draws, pairs)
    assert checked.count >= 10**8
    checked.assert_follows_the_law()
    checked.assert_independent()


# The orthogonal law.
def frames(shape: tuple[int, int], precision: str = "float64", count: int = 20_000) -> Numbers:
    return np.array([draw("orthogonal", precision, shape, net=net) for net in range(count)])


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (5, 1), (4, 4), (20, 7), (7, 20), (65, 64)])
def test_orthogonal_matrices_are_orthogonal(shape: tuple[int, int], precision: str) -> None:
    q = draw("orthogonal", precision, shape)
    longer, shorter = max(shape), min(shape)
    product = q.T @ q if shape[0] >= shape[1] else q @ q.T
    assert product == pytest.approx(longer * np.eye(shorter), abs=longer * 100 * float(np.finfo(precision).eps))


def assert_haar(q: Numbers) -> None:
    """Check entries, their products and, of square matrices, the trace and the determinant, in units of variance 1."""
    n = max(q.shape[1:])
    fourth = 3 * n / (n + 2)
    cross = -n / ((n - 1) * (n + 2))  # of four entries at the corners of a rectangle
    for power, expected in ((1, 0.0), (2, 1.0), (3, 0.0), (4, fourth)):
        agrees(q[:, 0, 0] ** power, expected)
        agrees(q[:, 1, -1] ** power, expected)
    agrees(q[:, 0, 0] * q[:, 0, 1], 0.0)
    agrees(q[:, 0, 0] * q[:, 1, 0], 0.0)
    agrees(q[:, 0, 0] * q[:, 0, 1] * q[:, 1, 0] * q[:, 1, 1], cross)
    agrees((0.6 * q[:, 0, 0] + 0.8 * q[:, 0, 1]) ** 4, fourth)  # turned from either side, it is the same
    agrees((0.6 * q[:, 0, 0] + 0.8 * q[:, 1, 0]) ** 4, fourth)
    if q.shape[1] == q.shape[2]:
        trace = np.trace(q, axis1=1, axis2=2) / math.sqrt(n)
        for power, expected in ((1, 0.0), (2, 1.0), (3, 0.0)):
            agrees(trace**power, expected)
        agrees(np.linalg.det(q / math.sqrt(n)), 0.0)


def agrees(values: Numbers, expected: float) -> None:
    assert_agrees(values.mean(), expected, values.std(ddof=1) / math.sqrt(len(values)))


@pytest.mark.parametrize("shape", [(4, 4), (5, 3), (3, 5)])
def test_orthogonal_matrices_follow_haar(shape: tuple[int, int]) -> None:
    q = frames(shape)
    assert_haar(q)
    must_fail(assert_haar, q * WRONG)
    must_fail(assert_haar, q * np.sign(q[:, :1, :1]))  # as if the signs of R had been left alone


SCALED: list[tuple[str, Callable[[Numbers], bool]]] = [
    ("constant", lambda matrix: bool(np.all(matrix == 0.25))),
    ("identity", lambda matrix: np.array_equal(matrix, 0.25 * np.eye(3, 5))),
    ("normal", lambda matrix: np.array_equal(matrix, 0.25 * draw("normal", str(matrix.dtype), (3, 5)))),
    ("uniform", lambda matrix: np.array_equal(matrix, 0.25 * draw("uniform", str(matrix.dtype), (3, 5)))),
]


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(("law", "expected"), SCALED)
def test_laws_take_a_scale(law: str, expected: Callable[[Numbers], bool], precision: str) -> None:
    out, real = np.empty((3, 5), precision), np.dtype(precision).type
    place_words = (np.uint64(0), np.uint64(7), np.uint32(1), np.uint32(2), np.uint32(3))
    laws.law(law, np.dtype(precision))(out, *place_words, real(0.25))
    assert expected(out)
