"""Nets of the matrix-free sampler, which never forms W, have the law of those of the dense one, which draws it.

A test compares two independent ensembles in every quantity at every layer, and in how each two of these depend on each
other (`assert_same_law`). Where nothing is wrong, this file fails for at most one in a million choices of its seeds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np
import pytest
import scipy.stats

import stabsim
from stabsim import Initializer, Network
from stabsim.activations import ACTIVATIONS
from stabsim.quantities import PLAIN
from tests import naive
from tests.checks import WRONG, Samples, assert_same_law, law_p_values, must_fail

LAWS = ("normal", "orthogonal")
BIASES = (0.0, 0.4)
BATCHES = (1, 2, 8)
GAIN = 1.3
PRECISIONS = ("float32", "float64")
WIDTHS = (9, 5, 12, 7)  # narrow, so that it matters what W is on the samples; 8 samples span all of the second layer
NORMS = (*(name for name in PLAIN if name.endswith("log10_norm")), "activation_correlation")
NETS = 3000

RNG = np.random.default_rng(3)
ROWS = RNG.normal(size=(20, 9))
DEPENDENT = RNG.normal(size=(8, 9))
DEPENDENT[3] = DEPENDENT[2]
DEPENDENT[5] = 0.0
DEPENDENT[6] = DEPENDENT[0] - 2 * DEPENDENT[1]
NEARLY_PARALLEL = RNG.normal(size=9) + 1e-3 * RNG.normal(size=(4, 9))
FAR_APART = RNG.normal(size=(2, 9)) * np.array([[1.0], [1e-25]])
GRADIENT = np.stack([RNG.normal(size=7), np.zeros(7)])


@dataclass(frozen=True)
class Case:
    """An ensemble that both samplers can draw."""

    network: Network
    batch: int = 1
    precision: str = "float64"
    options: dict[str, Any] = field(default_factory=dict)
    quantities: tuple[str, ...] = tuple(PLAIN)
    nets: int = NETS

    def samples(self, sampler: str, seed: int) -> Samples:
        names = tuple(name for name in self.quantities if self.batch >= PLAIN[name].smallest_batch)
        result = stabsim.simulate(
            self.network, nets=self.nets, batch=self.batch, precision=self.precision, sampler=sampler, seed=seed,
            quantities=names[:1], samples=names, **self.options,
        )  # fmt: skip
        return with_gains(result.samples)


def with_gains(samples: Samples) -> Samples:
    """Add what the weights of a net make of mean squares: forward, backward, both, and in their own gradient."""
    tensors = ("activation", "preactivation", "activation_gradient", "preactivation_gradient", "weight_gradient")
    if any(f"{tensor}_mean_square" not in samples for tensor in tensors):
        return samples
    z, s, dz, ds, dw = (samples[f"{tensor}_mean_square"] for tensor in tensors)
    with np.errstate(divide="ignore", invalid="ignore"):
        forward, backward = s[:, 1:] / z[:, :-1], dz[:, :-1] / ds[:, 1:]
        gains = {
            "forward gain": forward,
            "backward gain": backward,
            "forward over backward gain": forward / backward,
            "weight gradient gain": dw[:, 1:] / (z[:, :-1] * ds[:, 1:]),
        }
    return {**samples, **gains}


def net(
    activation: str, law: str, bias_std: float = 0.0, widths: tuple[int, ...] = WIDTHS, gain: float = GAIN
) -> Network:
    return Network(widths, activation, Initializer(law, gain), bias_std)


def everything() -> Iterator[tuple[str, Case]]:
    """Yield every combination, half of them in float64."""
    axes: tuple[Any, ...] = (tuple(ACTIVATIONS), LAWS, BIASES, BATCHES)
    for index in np.ndindex(*map(len, axes)):
        activation, law, bias_std, batch = (axis[i] for axis, i in zip(axes, index, strict=True))
        case = Case(net(activation, law, bias_std), batch, PRECISIONS[sum(index) % 2])
        yield f"{activation}, {law}, bias {bias_std}, batch {batch}", case


def corners(law: str) -> dict[str, Case]:
    """Return what is rare: inputs, widths, depths, scales."""
    relu, tanh, biased, leaky = net("relu", law), net("tanh", law), net("tanh", law, 0.4), "leaky_relu(slope=0.2)"
    dying, odd, long, deep = (3, 2, 2, 2, 1), (67, 129, 33), (1100, 3, 1030, 2), (6,) * 21
    great, small = net(leaky, law, 0.0, deep, 1e9), net("erf", law, 0.0, deep, 1e-9)
    return {
        "dependent samples": Case(relu, 8, options={"inputs": DEPENDENT}),
        "dependent samples, float32": Case(relu, 8, "float32", {"inputs": DEPENDENT}),
        "dependent samples, biases": Case(biased, 8, "float32", {"inputs": DEPENDENT}),
        "nearly parallel samples": Case(tanh, 4, "float32", {"inputs": NEARLY_PARALLEL}),
        "a zero row": Case(tanh, options={"inputs": np.zeros((1, 9))}),
        "a zero row, biases": Case(biased, options={"inputs": np.zeros((1, 9))}),
        "zero rows": Case(tanh, 3, options={"inputs": np.zeros((3, 9))}),
        "zero rows, biases": Case(biased, 3, options={"inputs": np.zeros((3, 9))}),
        "a sample of some": Case(relu, options={"inputs": ROWS}),
        "samples of some": Case(relu, 3, options={"inputs": ROWS}),
        "given gradient": Case(relu, options={"output_gradient": GRADIENT[:1]}),
        "given gradient, a zero row": Case(relu, 2, options={"output_gradient": GRADIENT}),
        "no gradient": Case(relu, options={"output_gradient": GRADIENT[1:]}),
        "uniform biases": Case(Network(WIDTHS, "gelu", Initializer(law, bias_law="uniform", bias_gain=1.0)), 2),
        "dying": Case(net("relu", law, widths=dying)),
        "dying, five samples": Case(net("relu", law, widths=dying), 5),
        "width 1": Case(net("tanh", law, 0.4, (1, 1, 1))),
        "width 1, three samples": Case(net("tanh", law, 0.4, (1, 1, 1)), 3),
        "one layer": Case(net("tanh", law, widths=(3, 6)), 2),
        "one layer, three samples": Case(net("tanh", law, widths=(6, 3)), 3),
        "as many samples as units": Case(net("tanh", law, widths=(6, 6, 6)), 6),
        "more samples than units": Case(net("tanh", law, widths=(6, 6, 6)), 9),
        "many more samples than units": Case(net("tanh", law, widths=(6, 5, 6)), 40, "float32", nets=1000),
        "many samples through few units": Case(net("relu", law, widths=(30, 40, 3)), 24, "float32", nets=1000),
        "one sample far below another": Case(tanh, 2, "float32", {"inputs": FAR_APART}),
        "one gradient far below another": Case(relu, 2, "float32", {"output_gradient": FAR_APART[:, :7]}),
        "fewer samples than units": Case(net("tanh", law, widths=(20, 30, 25, 16)), 8),
        "twenty samples": Case(net("relu", law, widths=(30, 13, 40, 9)), 20, "float32", nets=1000),
        "twenty dependent samples": Case(relu, 20, options={"inputs": ROWS}, nets=1000),
        "odd ends of vectors": Case(net("relu", law, widths=odd), 1, "float32", nets=1000),
        "odd ends of vectors, seven samples": Case(net("relu", law, widths=odd), 7, "float32", nets=1000),
        "long vectors": Case(net("relu", law, widths=long), 1, "float32", nets=1000),
        "long vectors, two samples": Case(net("tanh", law, widths=long), 2, "float32", nets=1000),
        "deep": Case(net("relu", law, widths=deep), 1, "float32", quantities=NORMS),
        "deep, two samples": Case(net("relu", law, widths=deep), 2, quantities=NORMS),
        "deep, eight samples": Case(net(leaky, law, widths=(10,) * 21), 8, quantities=NORMS),
        "great weights": Case(great, 1, "float32", quantities=NORMS),
        "great weights, two samples": Case(great, 2, "float32", quantities=NORMS),
        "small weights": Case(small, 1, "float32", quantities=NORMS),
        "small weights, two samples": Case(small, 2, "float32", quantities=NORMS),
    }


CASES = dict(everything()) | {f"{name}, {law}": case for law in LAWS for name, case in corners(law).items()}
IN_NUMPY = tuple(product(LAWS, BIASES, BATCHES))
LEVEL = 1e-6 / (len(CASES) + len(IN_NUMPY))  # how often two right ensembles may fail


@pytest.mark.parametrize("case", CASES)
def test_samplers_agree_in_law(case: str) -> None:
    assert_same_law(CASES[case].samples("dense", 1), CASES[case].samples("matrix_free", 2), LEVEL)


# That the check sees what it should: an implementation in NumPy, right and wrong, and wrong ensembles of the dense one.
def numpy_samples(law: str, bias_std: float, batch: int, project: bool = True) -> Samples:
    """Return samples of tanh nets without W; ``project=False``: wrong ones."""
    rng = np.random.default_rng(4)
    fans = net("tanh", law).fans
    stds = [net("tanh", law).weights.weight_std(*each) for each in fans]
    orthogonal = law == "orthogonal"
    weights = [naive.HiddenWeights(rng, *each, orthogonal, project) for each in zip(fans, stds, strict=True)]
    biases = [bias_std * rng.normal(size=(NETS, 1, fan_out)) for _, fan_out in fans]
    inputs, gradient = (rng.normal(size=(NETS, batch, width)) for width in (WIDTHS[0], WIDTHS[-1]))
    nets = naive.run([None, *weights], [None, *biases], naive.FORMULAS["tanh"](), inputs, gradient)
    return with_gains(naive.quantities_of_many(nets))


@pytest.mark.parametrize(("law", "bias_std", "batch"), IN_NUMPY)
def test_the_algorithm_is_exact_and_needs_its_projection(law: str, bias_std: float, batch: int) -> None:
    right, wrong = (numpy_samples(law, bias_std, batch, project) for project in (True, False))
    names = tuple(name for name in right if name in PLAIN)
    dense = Case(net("tanh", law, bias_std), batch, quantities=names).samples("dense", 1)
    assert_same_law(dense, right, LEVEL)
    must_fail(assert_same_law, dense, wrong, LEVEL)


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("law", LAWS)
def test_wrong_weights_are_seen(law: str, batch: int) -> None:
    dense, wrong = (
        Case(net("tanh", law, gain=gain), batch).samples("dense", seed) for seed, gain in ((1, GAIN), (2, WRONG * GAIN))
    )
    must_fail(assert_same_law, dense, wrong, LEVEL)


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("law", LAWS)
def test_a_backward_pass_through_other_weights_is_seen(law: str, batch: int) -> None:
    case = Case(net("tanh", law), batch, quantities=("activation_log10_norm", "activation_gradient_log10_norm"))
    forward, backward = case.samples("dense", 1).items()
    other = dict([forward, (backward[0], np.roll(backward[1], 1, axis=0))])
    must_fail(assert_same_law, case.samples("dense", 2), other, LEVEL)


def test_bounds_of_p_values_hold() -> None:
    """With heavy tails, ties, and values that are not finite, no comparison is below 5% in many more than 5%."""
    rng = np.random.default_rng(5)

    def samples() -> Samples:
        common, noise = rng.normal(size=(2, 500, 4))
        heavy = np.exp(3 * common[:, :1] + noise[:, :1])
        with np.errstate(divide="ignore", invalid="ignore"):
            dead = np.log(np.maximum(common + noise, 0)) * np.where(noise > 1, np.nan, 1.0)
        return {"heavy": heavy, "counts": np.round(common), "dead": dead}

    repeats = 400
    below = [np.array(list(law_p_values(samples(), samples()).values())) < 0.05 for _ in range(repeats)]
    counts = np.sum(below, axis=0)
    assert counts.sum() > 0
    assert np.all(scipy.stats.binom.sf(counts - 1, repeats, 0.05) > 1e-5)


def test_distances_of_distributions_are_those_of_scipy() -> None:
    rng = np.random.default_rng(6)
    for steps, shift in product((1, 4, 256), (0.0, 0.25, 0.5)):
        x, y = np.round(steps * rng.normal([[[0.0]], [[shift]]], size=(2, 500, 1))) / steps
        x[:20], y[:30] = -np.inf, -np.inf
        found = law_p_values({"x": x}, {"x": y})["distribution of x[0]"]
        expected = scipy.stats.ks_2samp(x[:, 0], y[:, 0])
        assert found == pytest.approx(min(2 * np.exp(-500 * expected.statistic**2), 1.0), rel=1e-9)
        assert found >= expected.pvalue
