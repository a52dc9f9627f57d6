"""Which law given weights fit: found, with p-values that are uniform and intervals that hold what they should."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import ndtr, ndtri
from scipy.stats import binomtest, kstest

import stabsim
from stabsim.models import goodness
from stabsim.models.fits import LEVEL, SURE, UNCLEAR, Fit
from stabsim.models.layers import Dense, Layer, Nonlinearity, Normalizer
from stabsim.models.one_law import one_law
from tests.checks import WRONG

MATRICES, FANS = 300, (60, 70)
LIMIT = 1e-6  # p-values of the checks themselves


def drawn(law: str, shape: tuple[int, ...], rng: np.random.Generator) -> Any:
    """Return values of mean 0 and variance 1."""
    if law == "uniform":
        return rng.uniform(-math.sqrt(3), math.sqrt(3), shape)
    if law == "truncated_normal":
        low = ndtr(-2.0)
        values = ndtri(low + (1 - 2 * low) * rng.uniform(size=shape))
        return values / math.sqrt(1 - 4 * math.exp(-2) / math.sqrt(2 * math.pi) / (1 - 2 * low))
    return rng.normal(size=shape)


def fit(values: Any, tensor: str = "weight") -> Fit:
    return Fit("place", tensor, "", (len(values), values.shape[-1]), values)


@functools.cache
def fits(law: str) -> list[Fit]:
    rng = np.random.default_rng(11)
    std = math.sqrt(2 / FANS[0])
    return [fit((std * drawn(law, FANS, rng)).astype(np.float32)) for _ in range(MATRICES)]


@pytest.mark.parametrize("law", goodness.FAMILIES)
def test_the_right_law_is_found_in_nearly_all_matrices(law: str) -> None:
    wrong = sum(each.law != law for each in fits(law))
    assert binomtest(wrong, MATRICES, 0.004, alternative="greater").pvalue > LIMIT
    named = {each.nearest[0] for each in fits(law) if each.law == law}
    expected = {"normal": {"he_normal"}, "uniform": {"he_uniform"}, "truncated_normal": {"truncated_normal"}}
    assert named == expected[law]


@pytest.mark.parametrize("law", goodness.FAMILIES)
def test_p_values_are_uniform_under_the_law_and_under_no_other(law: str) -> None:
    for kind in ("p_values", "p_spectra", "p_scales"):
        values = [getattr(each, kind)[law] for each in fits(law)]
        assert kstest(values, "uniform").pvalue > LIMIT, kind
    for other in set(goodness.FAMILIES) - {law}:
        assert kstest([each.p_values[other] for each in fits(law)], "uniform").pvalue < LIMIT


@pytest.mark.parametrize("number", [8, 16, 32, 64])
@pytest.mark.parametrize("law", goodness.FAMILIES)
def test_the_law_of_few_values_is_right_or_unclear(law: str, number: int) -> None:
    """Another one is named where this one is rejected, or another one `SURE` times as likely: each of two by chance."""
    rng = np.random.default_rng(number)
    vectors = [fit(drawn(law, (number,), rng)) for _ in range(400)]
    most = LEVEL + 2 / SURE
    wrong = sum(each.law not in (law, UNCLEAR) for each in vectors)
    assert binomtest(wrong, len(vectors), most, alternative="greater").pvalue > LIMIT
    if law == "normal":  # the likeliest one, sure or not
        wrong = sum(max(each.evidence, key=each.evidence.__getitem__) != law for each in vectors)
        assert binomtest(wrong, len(vectors), most, alternative="greater").pvalue < LIMIT


@pytest.mark.parametrize("law", goodness.FAMILIES)
def test_the_law_of_many_values_is_clear(law: str) -> None:
    rng = np.random.default_rng(9)
    unclear = sum(fit(drawn(law, (1024,), rng)).law == UNCLEAR for _ in range(100))
    assert binomtest(unclear, 100, 0.01, alternative="greater").pvalue > LIMIT


def at_scale(law: str, values: Any, scale: float) -> float:
    """Return the likelihood of values at the most natural scale of a law: a parent's, or the end."""
    x = values / scale
    if law == "uniform":
        return float(np.prod((np.abs(x) <= 1) / 2 / scale))
    inside = (np.abs(x) <= 2) / (1 - 2 * ndtr(-2.0)) if law == "truncated_normal" else 1.0
    return float(np.prod(inside * np.exp(-x * x / 2) / math.sqrt(2 * math.pi) / scale))


@pytest.mark.parametrize("law", goodness.FAMILIES)
def test_the_evidence_is_the_likelihood_over_all_scales(law: str) -> None:
    values = drawn("uniform", (9,), np.random.default_rng(0))
    start = math.log(np.max(np.abs(values))) - {"uniform": 0.0, "truncated_normal": math.log(2), "normal": 5.0}[law]
    whole, _ = quad(lambda t: at_scale(law, values, math.exp(t)), start, start + 10, limit=500)
    assert goodness.FAMILIES[law].evidence(values) == pytest.approx(math.log(whole), abs=1e-6)
    family = goodness.FAMILIES[law]
    assert family.evidence(7 * values) == pytest.approx(family.evidence(values) - 9 * math.log(7), abs=1e-9)


def test_the_evidence_of_many_values_is_finite() -> None:
    values = drawn("truncated_normal", (300_000,), np.random.default_rng(0))
    normal, cut = (goodness.FAMILIES[law].evidence(values) for law in ("normal", "truncated_normal"))
    square = float(np.mean(values**2)) * goodness.TRUNCATED_STD**2
    by_value = math.log(1 - 2 * ndtr(-2.0)) - (math.log(square) + 1 - square) / 2  # at the most likely scales
    assert (normal - cut) / len(values) == pytest.approx(by_value, abs=1e-4)


@pytest.mark.parametrize("law", goodness.FAMILIES)
def test_small_matrices_tell_their_law_together(law: str) -> None:
    rng = np.random.default_rng(4)
    matrices = [fit(drawn(law, (6, 6), rng) / math.sqrt(6)) for _ in range(40)]
    assert sum(each.law == UNCLEAR for each in matrices) > 20
    assert one_law(matrices).law == law
    with pytest.raises(ValueError, match="too few weights to tell their law"):
        one_law(matrices[:1])


def test_a_deep_net_that_was_never_trained_is_not_refused() -> None:
    """Of 100 layers some single one is mostly rejected at the level of one; layers 5% off are seen in all together."""
    rng, found = np.random.default_rng(7), []
    for _ in range(20):
        layers = [fit((rng.normal(size=(32, 32)) / math.sqrt(32)).astype(np.float32)) for _ in range(100)]
        found.append(_refused(layers))
    assert binomtest(sum(found), len(found), 2 * LEVEL, alternative="greater").pvalue > LIMIT
    wrong = [fit(each.values * (WRONG if number % 2 else 1.0)) for number, each in enumerate(layers)]
    assert _refused(wrong)
    learned = fit(layers[50].values + 0.9 * np.outer(*rng.normal(size=(2, 32))) / 4)
    assert _refused([*layers[:50], learned, *layers[51:]])


def _refused(layers: list[Fit]) -> bool:
    try:
        one_law(layers)
    except ValueError:
        return True
    return False


@pytest.mark.parametrize("number", [10, 100])
@pytest.mark.parametrize("law", goodness.FAMILIES)
def test_p_values_of_short_vectors(law: str, number: int) -> None:
    rng = np.random.default_rng(5)
    values = [goodness.p_value(law, drawn(law, (number,), rng)) for _ in range(1000)]
    for level in (0.01, 0.05, 0.25):
        below = int(np.sum(np.array(values) < level))
        assert binomtest(below, len(values), level).pvalue > LIMIT


@pytest.mark.parametrize("law", goodness.FAMILIES)
def test_the_interval_holds_the_gain_and_not_one_that_is_5_percent_wrong(law: str) -> None:
    rows: list[Any] = [each.row() for each in fits(law) if each.law == law]

    def held(gain: float) -> int:
        return sum(bool(row["gain_low"] <= gain <= row["gain_high"]) for row in rows)

    assert binomtest(held(math.sqrt(2)), len(rows), 0.95).pvalue > LIMIT
    assert held(WRONG * math.sqrt(2)) < 0.05 * len(rows)
    assert binomtest(held(WRONG * math.sqrt(2)), len(rows), 0.95).pvalue < LIMIT


@pytest.mark.parametrize("shape", [(50, 50), (30, 70), (70, 30)])
def test_orthogonal_matrices(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(2)
    q = np.linalg.qr(rng.normal(size=(70, 70)))[0][: shape[0], : shape[1]]
    assert fit(q).law == ("orthogonal" if 70 in shape else "none")
    whole = np.linalg.qr(rng.normal(size=(max(shape), min(shape))))[0]
    whole = 1.5 * (whole if shape[0] >= shape[1] else whole.T)
    found = fit(whole.astype(np.float32))
    assert (found.law, found.nearest[0]) == ("orthogonal", "orthogonal")
    assert found.nearest[1] == pytest.approx(1.5, rel=1e-6)
    assert fit(whole + 0.01 * rng.normal(size=shape)).law == "none"


def test_weights_without_chance() -> None:
    for values, law, name in (
        (np.zeros((4, 4)), "constant", "zeros"),
        (np.full((4, 4), -0.5), "constant", "constant"),
        (2 * np.eye(4, 6), "identity", "identity"),
    ):
        assert (fit(values).law, fit(values).nearest[0]) == (law, name)
    assert fit(np.array([[1.0, 2.0]])).law == "unclear"
    sparse = np.where(np.random.default_rng(0).uniform(size=(40, 40)) < 0.1, 1.0, 0.0)
    assert fit(sparse).law == "none"


def test_what_training_adds_is_seen() -> None:
    """A direction, rows of other sizes, or a heavy tail on normal weights: each is seen by another test."""
    rng = np.random.default_rng(6)
    w = rng.normal(size=(64, 64))
    direction = 25 * np.outer(*rng.normal(size=(2, 64)) / 8)
    scales = np.linspace(0.8, 1.2, 64)[:, None]
    assert fit(w).law == "normal"
    assert fit(w + direction).p_spectra["normal"] < 0.001 <= fit(w + direction).p_values["normal"]
    assert fit(w * scales).p_scales["normal"] < 0.001 <= fit(w * scales).p_values["normal"]
    assert fit(rng.standard_t(4, size=(64, 64))).p_values["normal"] < 0.001
    assert {fit(w + direction).law, fit(w * scales).law} == {"none"}


def model(law: str, gain: float, activation: str = "tanh", fan: str = "in", **options: Any) -> stabsim.Model:
    """Return a net of four layers and a readout, drawn by the package itself."""
    widths = (24, 48, 48, 32, 64)
    weights = stabsim.Initializer(law, gain, fan, **options)
    seen = stabsim.trace(stabsim.Network((*widths, 5), activation, weights), net=5)
    layers: list[Layer] = []
    for i in range(1, 6):
        w, b = seen.weight[i], seen.bias[i]
        assert w is not None and b is not None
        layers.append(Dense(f"d{i}", w.shape, w, b))
        layers += [Nonlinearity(f"f{i}", activation)] if i < 5 else []
    return stabsim.Model(tuple(layers))


@pytest.mark.parametrize(
    "name",
    [
        "he_normal",
        "glorot_uniform",
        "lecun_normal",
        "lecun_uniform",
        "torch_default",
        "orthogonal",
        "glorot_normal",
        "zeros",
    ],
)
def test_the_initializer_of_a_whole_net_is_named(name: str) -> None:
    law = stabsim.initializers.initializer(name)
    options: dict[str, Any] = {"bias_law": law.bias_law, "bias_gain": law.bias_gain}
    read = model(law.law, law.gain or 1.0, fan=law.fan, **options) if law.gain else None
    if read is None:
        zero = Dense("d", (3, 3), np.zeros((3, 3)))
        read = stabsim.Model((zero, Nonlinearity("f", "tanh"), zero))
    network = read.network
    assert str(network.weights) == name
    assert network.depth == len(read.widths) - 2 and "the last layer" in read.left_out[0]


@pytest.mark.parametrize("gain", [5 / 3, 1.1])
def test_the_gain_of_a_whole_net(gain: float) -> None:
    found = model("normal", gain).network.weights
    assert found.law == "normal" and found.fan == "in"
    assert found.gain == (gain if gain == 5 / 3 else pytest.approx(gain, rel=0.04))
    assert found.gain != pytest.approx(WRONG * gain, rel=0.02)


def test_the_network_has_what_the_model_has() -> None:
    rng = np.random.default_rng(0)

    def dense(fan_in: int, std: float = 1.0) -> Dense:
        return Dense(f"dense{fan_in}", (fan_in, 30), std * rng.normal(size=(fan_in, 30)) / math.sqrt(fan_in))

    f = Nonlinearity("f", "relu")
    norm = Normalizer("n", "batch", 30, 1e-3)
    network = stabsim.Model((dense(20), norm, f, dense(30), norm, f)).network
    assert network == stabsim.Network((20, 30, 30), "relu", "lecun_normal", normalization="batch(epsilon=0.001)")
    assert stabsim.Model((dense(20), dense(30))).network.activation.name == "linear"
    g, ones = Nonlinearity("g", "tanh"), np.ones(30)
    for layers, message in (
        ((dense(20), f, dense(30), g, dense(30)), "one activation and normalization in all layers but the last"),
        ((dense(20), f, norm, dense(30), f, norm), "in front of the activation, unlike n"),
        ((dense(20), Normalizer("n", "batch", 30, 1e-3, mean=ones, variance=ones), f), r"after module\.train"),
        ((dense(20), Normalizer("n", "layer", 30, 1e-3, scale=2 * ones), f), "no learned scale and shift"),
        ((dense(20), f, g), "one activation a layer"),
        ((dense(20), f, dense(30, 2.0), f), "one gain in all layers but the last"),
    ):
        with pytest.raises(ValueError, match=message):
            stabsim.Model(layers).network  # noqa: B018  # raises
    with pytest.raises(ValueError, match="too few weights to tell their law"):
        stabsim.Model((Dense("one", (1, 1), np.ones((1, 1)), np.ones(1)), f)).network  # noqa: B018  # raises
    with pytest.raises(ValueError, match="no time steps"):
        stabsim.Model((dense(20), f)).ensemble(steps=3)
    with pytest.raises(ValueError, match="unknown initializer"):
        stabsim.Model((dense(20), f)).ensemble(weights="he_norml")
