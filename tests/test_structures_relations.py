"""What must hold between nets with normalization and residual connections: scales, permutations, depth, bits."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import stabsim
from stabsim import Initializer, Network, Normalization, Skip
from tests.strategies import seeds
from tests.test_naive import TENSORS
from tests.test_structures import NORMALIZATIONS, PLACES

ACTIVATIONS = st.sampled_from(["tanh", "relu", "gelu", "linear", "sigmoid"])
KINDS = st.sampled_from([kind for kind in NORMALIZATIONS if kind])
WIDTHS = st.lists(st.integers(3, 9), min_size=3, max_size=6).map(tuple)
FACTORS = st.floats(1e-3, 1e3)
SAMPLERS = ("dense", "matrix_free")
EXAMPLES = settings(max_examples=25, deadline=None)


def trace(network: Network, **options: Any) -> Any:
    return stabsim.trace(network, precision="float64", **options)


def assert_close(actual: Any, expected: Any, tolerance: float = 1e-9) -> None:
    assert np.linalg.norm(actual - expected) <= tolerance * np.linalg.norm(expected)


@EXAMPLES
@given(WIDTHS, ACTIVATIONS, KINDS, FACTORS, seeds)
def test_the_size_of_weights_does_not_matter(
    widths: tuple[int, ...], activation: str, kind: str, factor: float, seed: int
) -> None:
    """Outputs stay, and gradients by W are divided by the factor (claim A20 made exact)."""
    one, other = (
        trace(
            Network(widths, activation, Initializer("normal", c), 0.3 * c, Normalization(kind, 0.0)), batch=5, seed=seed
        )
        for c in (1.0, factor)
    )
    for layer in range(1, len(widths)):
        assert_close(other.activation[layer], one.activation[layer])
        assert_close(other.preactivation[layer], factor * one.preactivation[layer])
        assert_close(other.weight_gradient[layer], one.weight_gradient[layer] / factor, 1e-7)
    assert_close(other.activation_gradient[0], one.activation_gradient[0], 1e-7)


def test_the_size_of_weights_does_matter_with_epsilon() -> None:
    one, other = (trace(Network((5, 6), "tanh", f"normal(std={c})", normalization="batch"), batch=5) for c in (1, 1e-3))
    assert np.linalg.norm(other.activation[1] - one.activation[1]) > 0.1 * np.linalg.norm(one.activation[1])


@EXAMPLES
@given(WIDTHS, ACTIVATIONS, st.sampled_from(NORMALIZATIONS), st.sampled_from(PLACES), seeds)
def test_the_order_of_samples_does_not_matter(
    widths: tuple[int, ...], activation: str, kind: str | None, place: str, seed: int
) -> None:
    widths = (*widths, widths[-1])
    network = Network(widths, activation, "lecun_normal", 0.3, kind, Skip(activation=place))
    rng = np.random.default_rng(seed)
    inputs, gradient, order = rng.normal(size=(4, widths[0])), rng.normal(size=(4, widths[-1])), rng.permutation(4)
    one = trace(network, batch=4, seed=seed, inputs=inputs, output_gradient=gradient)
    other = trace(network, batch=4, seed=seed, inputs=inputs[order], output_gradient=gradient[order])
    for tensor in TENSORS:
        for before, after in zip(getattr(one, tensor), getattr(other, tensor), strict=True):
            if before is not None:
                assert_close(after, before if tensor == "weight_gradient" else before[order], 1e-8)


@EXAMPLES
@given(WIDTHS, ACTIVATIONS, st.sampled_from(["layer", "rms"]), st.sampled_from(PLACES), seeds)
def test_samples_know_nothing_of_each_other_but_through_batch_normalization(
    widths: tuple[int, ...], activation: str, kind: str, place: str, seed: int
) -> None:
    widths = (*widths, widths[-1])
    inputs = np.random.default_rng(seed).normal(size=(4, widths[0]))

    def outputs(kind: str, rows: Any) -> Any:
        network = Network(widths, activation, "lecun_normal", 0.3, kind, Skip(activation=place))
        return trace(network, batch=len(rows), seed=seed, inputs=rows).activation[-1]

    assert_close(outputs(kind, inputs[1:3]), outputs(kind, inputs)[1:3])
    if place != "between":
        assert not np.allclose(outputs("batch", inputs[1:3]), outputs("batch", inputs)[1:3], rtol=1e-3)


@EXAMPLES
@given(st.integers(2, 9), ACTIVATIONS, st.sampled_from(NORMALIZATIONS), st.sampled_from(["inside", "between"]), seeds)
def test_a_branch_of_0_is_the_identity(width: int, activation: str, kind: str | None, place: str, seed: int) -> None:
    """Exactly: by the factor 0, or by last weights of 0 (Fixup)."""
    for layers, shortcut in ((1, 1.0), (2, -0.5)):
        for branch, last in ((0.0, 1.0), (1.0, 0.0)):
            if last == 0.0 and place == "inside" and activation == "sigmoid":
                continue  # f(0) is not 0
            skip = Skip(branch, shortcut, layers, place, last=last)
            seen = trace(Network((width,) * 7, activation, "lecun_normal", 0.0, kind, skip), batch=3, seed=seed)
            for block in range(6 // layers + 1):
                assert np.array_equal(seen.activation[block * layers], shortcut**block * seen.activation[0])
                back = seen.activation_gradient[6 - block * layers]
                if branch == 0.0:
                    assert np.array_equal(back, shortcut**block * seen.activation_gradient[-1])


@EXAMPLES
@given(WIDTHS, ACTIVATIONS, st.sampled_from(NORMALIZATIONS), st.sampled_from(PLACES), seeds)
def test_a_shortcut_of_0_is_a_net_without(
    widths: tuple[int, ...], activation: str, kind: str | None, place: str, seed: int
) -> None:
    """Where f is in the branch "between" layers, but for the last layer of every branch, where it is linear."""
    widths = (*widths, widths[-1])
    skip = Skip(1.0, 0.0, activation=place)
    if place == "between":
        activation, kind = "linear", None
    one, other = (
        trace(Network(widths, activation, "lecun_normal", 0.3, kind, s), batch=4, seed=seed) for s in (skip, None)
    )
    for tensor in TENSORS:
        for actual, expected in zip(getattr(one, tensor), getattr(other, tensor), strict=True):
            if expected is not None:
                assert_close(actual, expected, 1e-8)


# Range: signals grow or shrink by a factor a block that is put into the factors of branch and shortcut.
DEPTH = 2000
NORMS = ("activation_log10_norm", "activation_gradient_log10_norm")


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("place", ["inside", "between"])
def test_deep_residual_nets_neither_overflow_nor_underflow(place: str, sampler: str, precision: str) -> None:
    def norms(factor: float) -> list[Any]:
        skip = Skip(0.1 * factor, factor, 2, place)
        network = Network((8,) * (DEPTH + 1), "leaky_relu(slope=0.5)", "lecun_normal", skip=skip)
        result = stabsim.simulate(network, nets=3, batch=2, sampler=sampler, precision=precision, samples=NORMS)
        return [result.samples[name] for name in NORMS]

    plain = norms(1.0)
    blocks = np.arange(DEPTH // 2 + 1)
    for factor in (0.125, 8.0):  # powers of 2: not even rounding differs
        steps = math.log10(factor) * blocks
        forward, backward = norms(factor)
        assert np.allclose(forward[:, ::2], plain[0][:, ::2] + steps, rtol=0, atol=1e-9)
        assert np.allclose(backward[:, ::2], plain[1][:, ::2] + steps[::-1], rtol=0, atol=1e-9)


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("kind", [kind for kind in NORMALIZATIONS if kind])
def test_deep_normalized_nets_neither_overflow_nor_underflow(kind: str, sampler: str) -> None:
    """Gradients grow by 2 a layer at batch 4 and more; with an epsilon far above the variance signals die out."""
    names = ("activation_log10_norm", "activation_gradient_log10_norm", "weight_gradient_log10_norm")
    for activation, place, gain, epsilon in (
        ("tanh", None, 10.0, 0.0),
        ("relu", None, 0.1, 0.0),
        ("tanh", None, 0.1, 1.0),
        ("relu", None, 1e-3, 1e-5),
        ("relu", "before", 10.0, 0.0),
        ("gelu", "after", 0.1, 1e-5),
    ):
        skip = place and Skip(activation=place, layers=2)
        network = Network(
            (16,) * 1001, activation, Initializer("normal", gain), 0.0, Normalization(kind, epsilon), skip
        )
        result = stabsim.simulate(network, nets=2, batch=4, sampler=sampler, samples=names)
        for name in names:
            values = result.samples[name][:, 1 if name.startswith("weight") else 0 :]
            assert np.all(np.isfinite(values)), (activation, place, name)
            assert np.all(np.abs(np.diff(values)) < 5), (activation, place, name)
        if gain == 1e-3:  # n = s / sqrt(epsilon): |z| shrinks by gain / sqrt(2 epsilon) a layer
            expected = 1000 * math.log10(gain / math.sqrt(2 * epsilon))
            assert np.allclose(result.samples[names[0]][:, -1], expected, rtol=0.2)


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("batch", [1, 5])
def test_threads_and_engines_change_no_bit(batch: int, sampler: str) -> None:
    for kind, place in (("batch", "before"), ("layer", "after"), (None, "inside")):
        network = Network((9, 5, 5, 70, 70, 8), "gelu", "lecun_normal", 0.3, kind, place and Skip(activation=place))
        options: dict[str, Any] = {"nets": 70, "batch": batch, "sampler": sampler, "seed": 3}
        tables = [stabsim.simulate(network, threads=threads, **options).table for threads in (1, 2, 3)]
        assert tables[0].equals(tables[1]) and tables[0].equals(tables[2])


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("place", PLACES)
def test_asking_for_less_gives_the_same_numbers(place: str, sampler: str) -> None:
    network = Network((9, 5, 5, 70, 70, 8), "relu", "orthogonal", 0.2, "batch", Skip(activation=place))
    table = stabsim.simulate(network, nets=20, batch=4, sampler=sampler).table.astype({"quantity": str})
    for names in (("activation_gradient_mean_square",), ("activation_zero_fraction", "preactivation_variance")):
        few = stabsim.simulate(network, nets=20, batch=4, sampler=sampler, quantities=names).table
        kept = table[table["quantity"].isin(names)].reset_index(drop=True)
        assert few.astype({"quantity": str}).equals(kept)
