"""Gradient clipping against NumPy, and what clipping leaves alone."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

import stabsim
from stabsim import Clipping, Network
from stabsim.quantities import PLAIN, QUANTITIES
from tests.checks import assert_agrees, must_fail

Floats = NDArray[Any]

CLIPPED = [name for name, quantity in QUANTITIES.items() if quantity.needs == ("clipping",)]
FRACTION, SQUARE, NORM, COSINE = CLIPPED
WIDTHS = (6, 9, 5, 8, 3)


def clipped(gradients: list[Floats], weights: list[Floats], how: Clipping) -> list[tuple[float, Floats]]:
    """Return of each layer the share that is clipped, and dW after clipping, as the papers define it."""
    if how.kind == "value":
        return [(float(np.mean(np.abs(g) > how.bound)), np.clip(g, -how.bound, how.bound)) for g in gradients]
    if how.kind == "norm":
        norms = [float(np.linalg.norm(g)) for g in gradients]
    elif how.kind == "global_norm":
        norms = [math.sqrt(sum(float(np.sum(g**2)) for g in gradients))] * len(gradients)
    else:
        found = []
        for g, w in zip(gradients, weights, strict=True):
            bounds = how.bound * np.maximum(np.linalg.norm(w, axis=0), how.epsilon)
            sizes = np.linalg.norm(g, axis=0)
            over = sizes > bounds
            found.append((float(np.mean(over)), g * np.where(over, bounds / np.where(over, sizes, 1.0), 1.0)))
        return found
    return [
        (float(norm > how.bound), g * min(1.0, how.bound / norm) if norm else g)
        for g, norm in zip(gradients, norms, strict=True)
    ]


def oracle(seen: Any, how: Clipping) -> dict[str, list[float]]:
    """Return every quantity of clipping of one net by layer."""
    before = seen.weight_gradient[1:]
    after = clipped(before, seen.weight[1:], how)
    sizes = [(float(np.linalg.norm(g)), float(np.linalg.norm(c))) for g, (_, c) in zip(before, after, strict=True)]
    with np.errstate(divide="ignore", invalid="ignore"):
        return {
            FRACTION: [math.nan, *(share for share, _ in after)],
            SQUARE: [math.nan, *(float(np.mean(c**2)) for _, c in after)],
            NORM: [math.nan, *(float(np.log10(np.linalg.norm(c))) for _, c in after)],
            COSINE: [math.nan]
            + [
                float(np.sum(g * c)) / (size * left) if size else math.nan
                for g, (_, c), (size, left) in zip(before, after, sizes, strict=True)
            ],
        }


def simulated(network: Network, how: Clipping | str | None, nets: int = 3, **options: Any) -> dict[str, Floats]:
    kept = [*CLIPPED, "weight_gradient_log10_norm"]
    return stabsim.simulate(network, nets=nets, clipping=how, quantities=kept, samples=kept, **options).samples


def assert_as_in_numpy(network: Network, how: Clipping, precision: str, **options: Any) -> None:
    tolerance = {"float64": 1e-10, "float32": 2e-5}[precision]
    samples = simulated(network, how, precision=precision, **options)
    for net in range(3):
        wanted = oracle(stabsim.trace(network, net=net, precision=precision, **options), how)
        for name in CLIPPED:
            np.testing.assert_allclose(samples[name][net], wanted[name], rtol=tolerance, atol=1e-10, err_msg=name)


BOUNDS = {
    "value": (0.05, 0.5, 50.0),
    "norm": (0.3, 3.0, 300.0),
    "global_norm": (0.5, 5.0, 500.0),
    "adaptive": (0.05, 1.0, 90.0),
}


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.parametrize("kind", BOUNDS)
def test_every_kind_and_bound_against_numpy(kind: str, precision: str, batch: int) -> None:
    for activation, weights in (("relu", "he_normal"), ("tanh", "glorot_normal(gain=0.3)")):
        for bound in BOUNDS[kind]:
            network = Network(WIDTHS, activation, weights, 0.1)
            assert_as_in_numpy(network, Clipping(kind, bound), precision, batch=batch, seed=4)


@pytest.mark.parametrize("kind", BOUNDS)
@pytest.mark.parametrize("batch", [1, 5])
def test_with_normalization_and_residual_connections(kind: str, batch: int) -> None:
    network = Network((6, *(9,) * 4, 3), "gelu", "lecun_normal", normalization="layer", skip="skip(layers=2, last=0)")
    assert_as_in_numpy(network, Clipping(kind, 0.05), "float64", batch=batch)


def test_the_least_norm_of_a_unit_counts() -> None:
    network = Network(WIDTHS, "tanh", "glorot_normal(gain=0.1)")
    for epsilon in (1e-9, 0.1, 10.0):
        assert_as_in_numpy(network, Clipping("adaptive", 0.2, epsilon), "float64", batch=3)


@pytest.mark.parametrize("kind", BOUNDS)
def test_a_net_without_gradient_is_left_alone(kind: str) -> None:
    samples = simulated(Network(WIDTHS, "relu", "zeros"), Clipping(kind, 0.1), batch=2)
    assert np.all(samples[FRACTION][:, 1:] == 0) and np.all(samples[SQUARE][:, 1:] == 0)
    assert np.all(np.isnan(samples[COSINE])) and np.all(samples[NORM][:, 1:] == -np.inf)


@pytest.mark.parametrize("kind", BOUNDS)
@pytest.mark.parametrize("gain", [1e-9, 1e9])
def test_gradients_beyond_every_range_are_compared_with_the_bound(kind: str, gain: float) -> None:
    """Gradients of layer 1 are about 1e-900 and 1e+900 in size."""
    network = Network((8,) * 101, "linear", f"orthogonal(gain={gain})")
    samples = simulated(network, Clipping(kind, 0.01), batch=2, precision="float64")
    exponent = samples["weight_gradient_log10_norm"][:, 1]
    assert np.all(np.abs(exponent - 99 * math.log10(gain)) < 3)
    if gain < 1:
        assert np.all(samples[FRACTION][:, 1] == 0) and np.allclose(samples[NORM][:, 1], exponent, rtol=1e-12)
        return
    sizes = {"value": 0.01 * 8, "norm": 0.01, "adaptive": 0.01 * gain * math.sqrt(8)}
    if kind == "global_norm":  # all layers have the same norm but for the samples' correlation
        assert np.all(np.abs(np.log10(np.sum(10.0 ** (2 * samples[NORM][:, 1:]), axis=1)) / 2 + 2) < 1e-12)
    else:
        assert np.allclose(samples[NORM][:, 1], math.log10(sizes[kind]), rtol=1e-12)
    assert np.all(samples[FRACTION][:, 1] == 1)


@given(
    kind=st.sampled_from(list(BOUNDS)), bound=st.floats(1e-3, 1e3), seed=st.integers(0, 99), batch=st.integers(1, 3),
)  # fmt: skip
def test_what_clipping_keeps(kind: str, bound: float, seed: int, batch: int) -> None:
    samples = simulated(Network((4, 5, 3), "tanh", "lecun_normal"), Clipping(kind, bound), batch=batch, seed=seed)
    before, after = (10.0 ** samples[name][:, 1:] for name in ("weight_gradient_log10_norm", NORM))
    share, cosine = samples[FRACTION][:, 1:], samples[COSINE][:, 1:]
    assert np.all(after <= before * (1 + 1e-6)) and np.all((share == 0) <= np.isclose(after, before, rtol=1e-6))
    assert np.all((cosine > 0) & (cosine <= 1 + 1e-12))
    if kind in ("norm", "global_norm"):
        assert np.all(cosine == 1)
        norms = after if kind == "norm" else np.sqrt(np.sum(after**2, axis=1, keepdims=True))
        assert np.all(norms <= bound * (1 + 1e-6))
        assert np.allclose(norms[share[:, : norms.shape[1]] == 1], bound, rtol=1e-6)
    if kind == "value":
        assert np.all(after <= bound * np.sqrt(np.prod([(4, 5), (5, 3)], axis=1)) * (1 + 1e-6))


def of_gradient(gradient: Floats, how: Clipping, power: int = 0) -> dict[str, Floats]:
    """Return what is made of a dW that is given, times 2 to a power: of one linear layer with one input of 1."""
    given_, ones = 2.0**power * gradient[np.newaxis], np.ones((1, 1))
    network = Network((1, gradient.size), "linear", "normal(std=0.01)")
    return simulated(network, how, nets=1, inputs=ones, output_gradient=given_, precision="float64")


@given(bound=st.floats(1e-3, 1e3), values=st.lists(st.floats(-100, 100), min_size=1, max_size=9).filter(any))
def test_clipping_by_value_twice_is_clipping_once(bound: float, values: list[float]) -> None:
    gradient, how = np.array(values), Clipping("value", bound)
    once, twice = of_gradient(gradient, how), of_gradient(np.clip(gradient, -bound, bound), how)
    assert twice[FRACTION][0, 1] == 0
    assert np.array_equal(once[SQUARE], twice[SQUARE], equal_nan=True)


@given(
    kind=st.sampled_from(["value", "norm", "global_norm"]), bound=st.floats(1e-3, 1e3), power=st.integers(-900, 900),
    values=st.lists(st.floats(-100, 100), min_size=1, max_size=9).filter(lambda each: max(map(abs, each)) > 1e-9),
)  # fmt: skip
def test_clipping_commutes_with_scales(kind: str, bound: float, power: int, values: list[float]) -> None:
    one = of_gradient(np.array(values), Clipping(kind, bound))
    other = of_gradient(np.array(values), Clipping(kind, bound * 2.0**power), power)
    for name in (FRACTION, COSINE):
        np.testing.assert_allclose(other[name], one[name], rtol=1e-12)
    np.testing.assert_allclose(other[NORM] - one[NORM], [[np.nan, power * math.log10(2)]], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("kind", BOUNDS)
def test_all_else_is_as_without_clipping(kind: str, batch: int) -> None:
    network = Network(WIDTHS, "relu", "he_normal")
    names = [name for name, quantity in PLAIN.items() if batch >= quantity.smallest_batch]
    options: dict[str, Any] = {"nets": 5, "batch": batch, "quantities": names, "samples": names, "sampler": "dense"}
    one, other = (stabsim.simulate(network, clipping=how, **options) for how in (None, f"{kind}(bound=0.2)"))
    for name in names:
        tolerance = 1e-6 if name.startswith("weight_gradient") and batch == 1 else 0.0  # dW of one sample is formed
        np.testing.assert_allclose(one.samples[name], other.samples[name], rtol=tolerance, atol=0.0)
    assert other.table["theory"].notna().any()


def test_a_bound_that_is_never_reached_changes_nothing() -> None:
    network = Network(WIDTHS, "relu", "he_normal")
    for kind in BOUNDS:
        samples = simulated(network, Clipping(kind, 1e30), batch=3)
        np.testing.assert_allclose(samples[NORM], samples["weight_gradient_log10_norm"], rtol=1e-12)
        assert np.all(samples[FRACTION][:, 1:] == 0) and np.allclose(samples[COSINE][:, 1:], 1, rtol=1e-12)


def test_a_normal_gradient_is_clipped_as_often_as_the_normal_law_says() -> None:
    """One linear layer and one sample of inputs 1: dW = ds, standard normal."""
    result = stabsim.simulate(
        Network((1, 100), "linear", "he_normal"), nets=2000, inputs=np.ones((1, 1)), clipping="value(bound=1)",
        quantities=(FRACTION, SQUARE),
    )  # fmt: skip
    share = math.erfc(1 / math.sqrt(2))
    density = math.exp(-0.5) / math.sqrt(2 * math.pi)
    for name, expected in ((FRACTION, share), (SQUARE, (1 - share) - 2 * density + share)):
        found = result.estimates(name)
        assert_agrees(found.estimate[1], expected, found.std_error[1])
        must_fail(assert_agrees, found.estimate[1], 1.05 * expected, found.std_error[1])


def test_refusals() -> None:
    with pytest.raises(ValueError, match=r"epsilon=5\.0 of clipping: only 'adaptive' has one, not 'norm'"):
        Clipping("norm", 1, epsilon=5)
    assert Clipping("adaptive", 1, epsilon=5).epsilon == 5
    network = Network(WIDTHS, "relu", "he_normal")
    with pytest.raises(ValueError, match=r"sampler='matrix_free' does not run nets with clipping='value\(bound=1\)'$"):
        stabsim.simulate(network, nets=1, sampler="matrix_free", clipping="value")
    with pytest.raises(ValueError, match=r"^clipping='value\(bound=1\)' does not go with precision='float16'$"):
        stabsim.simulate(network, nets=1, precision="float16", clipping="value")
    with pytest.raises(ValueError, match="quantity 'clipped_gradient_cosine' needs clipping of gradients"):
        stabsim.simulate(network, nets=1, quantities=(COSINE,))
