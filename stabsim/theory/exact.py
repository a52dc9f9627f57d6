"""Laws that hold exactly for nets of finite width with independent, centered weights.

Mean squares: E s_l^2 = fan_in gamma E z_(l-1)^2 + var(b) (He et al. 2015, arXiv:1502.01852, section 2.2), and back
E dz_(l-1)^2 = fan_out gamma E ds_l^2. They close for linear f, and for ReLU-like f with symmetric weights and no
bias, since s is then symmetric: E f(s)^2 is the mean of the squared slopes times E s^2. Norms of Gaussian linear nets
are products of independent chi variables (Hanin & Nica 2018, arXiv:1812.05994). The first layer of Gaussian weights is
known for every f (`first_layer`), and with it E s_2^2.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stabsim.activations import Activation
from stabsim.network import Network
from stabsim.task import Task
from stabsim.theory.finite_width import log_step
from stabsim.theory.first_layer import FirstLayer, first_layer

Floats = NDArray[np.float64]

HARMLESS = frozenset({"clipping", "jacobian", "spectrum"})  # features that leave all that laws are about as it is
_SYMMETRIC = ("normal", "uniform", "truncated_normal")  # independent, centered, symmetric entries
LN_10 = float(np.log(10.0))


class ExactLaws:
    """A task in the letters of the formulas; layer 0 is the input."""

    @np.errstate(over="ignore", under="ignore", divide="ignore", invalid="ignore")
    def __init__(self, task: Task) -> None:
        network = task.network
        self.task = task
        self.widths = np.array(network.widths)
        self.nothing = np.full(len(self.widths), np.nan)
        self.gamma, biases = layer_scales(network)
        self.bias_variance = biases**2
        self.affine = _affine(network.activation)
        self.slopes = None if biases[1:].any() else _slopes(network.activation)
        inputs = task.inputs
        self.input_squares = None if inputs is None else np.square(inputs).sum(axis=1)
        self.input_log10_squares = None if inputs is None else _log10_squares(inputs)
        self.dead_inputs = inputs is not None and not inputs.any(axis=1).all()

    @np.errstate(over="ignore", under="ignore", divide="ignore", invalid="ignore")
    def predict(self, quantity: str) -> Floats:
        """Return the prediction of a quantity at every layer, (depth + 1,); NaN where no law is known."""
        law = _LAWS.get(quantity)
        if law is None or self.task.features - HARMLESS or self.task.network.weights.law not in _SYMMETRIC:
            return self.nothing.copy()
        return np.array(law(self), np.float64)

    @property
    def passed(self) -> float:
        """Return the mean of f'^2: NaN where it is not the same at every layer."""
        if self.affine is not None:
            return self.affine[0] ** 2
        return math.nan if self.slopes is None else 0.5 * (self.slopes[0] ** 2 + self.slopes[1] ** 2)

    @functools.cached_property
    def forward(self) -> tuple[Floats, Floats]:
        """Return the mean squares of s and of z."""
        return _forward(self)

    @functools.cached_property
    def backward(self) -> tuple[Floats, Floats]:
        """Return the mean squares of ds and of dz."""
        return _backward(self)

    @functools.cached_property
    def alive(self) -> Floats:
        """Return the probability that a sample's z is not all 0: each unit of a ReLU is off with probability 1/2."""
        alive = np.ones(len(self.widths))
        if self.slopes is not None and 0.0 in self.slopes:
            alive[1:] = 1.0 - 0.5 ** self.widths[1:]
        return np.asarray(np.cumprod(alive))

    @functools.cached_property
    def first(self) -> FirstLayer | None:
        """Return what is known of the first layer, whatever the activation."""
        return first_layer(self.task)

    @property
    def symmetric(self) -> bool:
        """Return whether signs of s are a fair coin at every live sample: samples of zeros have s = 0 throughout."""
        return self.affine is not None or (self.slopes is not None and not self.dead_inputs)


def layer_scales(network: Network) -> tuple[Floats, Floats]:
    """Return the variance of a weight and the standard deviation of a bias, (depth + 1,) each; NaN for the input."""
    variances = (network.weights.weight_variance(*fans) for fans in network.fans)
    weights = [factor * factor * variance for factor, variance in zip(network.weight_factors, variances, strict=True)]
    biases = [network.weights.bias_std(fan_in, network.bias_std) for fan_in, _ in network.fans]
    return np.array([np.nan, *weights]), np.array([np.nan, *biases])


def zero_where(known: Floats) -> Floats:
    """Return 0 where something is known, NaN elsewhere."""
    return np.where(np.isfinite(known), 0.0, np.nan)


def _log10_squares(rows: Floats) -> Floats:
    """Return log10 of the squared norm of each row, whatever its size."""
    largest = np.abs(rows).max(axis=1, keepdims=True)
    squares = np.square(rows / np.where(largest > 0, largest, 1.0)).sum(axis=1)
    return np.asarray(2 * np.log10(largest[:, 0]) + np.log10(squares))


def _slopes(activation: Activation) -> tuple[float, float] | None:
    """Return the slopes of f below and above 0, if f is two rays from the origin."""
    if not activation.positively_homogeneous or activation.asymptotes is None:
        return None
    (below, _), (above, _) = activation.asymptotes
    # A dead sample has s = 0: the laws of ReLU take f'(0) to be 0.
    if 0.0 in (below, above) and activation.evaluate("derivative", 0.0) != 0.0:
        return None
    return below, above


def _affine(activation: Activation) -> tuple[float, float] | None:
    """Return (alpha, beta) if f(x) = alpha x + beta."""
    return activation.asymptotes[1] if activation.affine and activation.asymptotes else None


def _forward(p: ExactLaws) -> tuple[Floats, Floats]:
    """Return the mean squares of s and of z."""
    s, z = p.nothing.copy(), p.nothing.copy()
    z[0] = 1.0 if p.input_squares is None else p.input_squares.mean() / p.widths[0]
    offset = p.affine[1] if p.affine else 0.0
    for layer in range(1, len(s)):
        s[layer] = p.widths[layer - 1] * p.gamma[layer] * z[layer - 1] + p.bias_variance[layer]
        z[layer] = p.passed * s[layer] + offset**2
        if layer == 1 and np.isnan(z[1]) and p.first is not None:
            z[1] = p.first.mean_square
    return s, z


def _backward(p: ExactLaws) -> tuple[Floats, Floats]:
    """Return the mean squares of ds and of dz.

    Where z_(l-1) is not 0, the signs of W and -W are equally likely, so half of f' is passed on whatever happens
    above; where it is 0, nothing is. That takes an injected gradient of random signs: W and f' of a ReLU are
    correlated, and with a given gradient their products add up.
    """
    gradient = p.task.output_gradient
    if p.affine is None and gradient is not None:
        return p.nothing.copy(), p.nothing.copy()
    return _squares_back(p, 1.0 if gradient is None else float(np.mean(np.square(gradient))))


def _squares_back(p: ExactLaws, start: float) -> tuple[Floats, Floats]:
    ds, dz = p.nothing.copy(), p.nothing.copy()
    if not p.symmetric:
        return ds, dz
    dz[-1] = start
    for layer in range(len(ds) - 1, 0, -1):
        ds[layer] = p.passed * dz[layer]
        dz[layer - 1] = p.widths[layer] * p.gamma[layer] * ds[layer]
    ds[1:] *= p.alive[:-1]
    dz[:-1] *= p.alive[:-1]
    return ds, dz


def _log_chi_square(p: ExactLaws) -> Floats | None:
    """Return, per layer, E log10 of |f(s_l)|^2 / (gamma |z_(l-1)|^2) for Gaussian weights and live nets.

    Given z, s is Gaussian, so |s|^2 is gamma |z|^2 times a chi-square; ReLU keeps a binomial number of its terms.
    """
    if p.task.network.weights.law != "normal" or p.task.batch > 1 or p.bias_variance[1:].any():
        return None
    if p.affine is not None and p.affine[1] == 0:
        return np.asarray(2 * np.log10(abs(p.affine[0])) + _mean_log10_chi_square(p.widths))
    if p.slopes is None or p.slopes[0] != 0 or p.slopes[1] == 0:
        return None
    return np.asarray(2 * math.log10(abs(p.slopes[1])) + _mean_log10_chi_square(p.widths, "relu"))


def _mean_log10_chi_square(widths: NDArray[Any], activation: str = "linear") -> Floats:
    """Return E log10 of the chi-square of a layer: of a live ReLU layer, of as many degrees as units are on."""
    share = {"linear": 1.0, "relu": 0.5}[activation]
    return np.array([(log_step(int(width), activation)[0] + math.log(share * width)) / LN_10 for width in widths])


def _activation_norm(p: ExactLaws) -> Floats:
    steps = _log_chi_square(p)
    if steps is None:
        return p.nothing
    if p.input_squares is None:
        start = _mean_log10_chi_square(p.widths[:1])[0]
    elif p.dead_inputs or p.input_log10_squares is None:
        return p.nothing
    else:
        start = p.input_log10_squares.mean()
    return 0.5 * np.cumsum(np.concatenate([[start], steps[1:] + np.log10(p.gamma[1:])]))


def _gradient_norms(p: ExactLaws) -> tuple[Floats, Floats]:
    """Return E log10 of |ds_l| and |dz_l|, linear nets only: f' of a ReLU net is not independent of its weights."""
    if _log_chi_square(p) is None or p.affine is None:
        return p.nothing, p.nothing
    gradient = p.task.output_gradient
    chi = _mean_log10_chi_square(p.widths)
    if gradient is not None and not gradient.any():
        return p.nothing, p.nothing
    start = chi[-1] if gradient is None else _log10_squares(gradient)[0]
    slope = 2 * np.log10(abs(p.affine[0]))
    steps = (chi[:-1] + np.log10(p.gamma[1:]) + slope)[::-1]
    dz = 0.5 * np.cumsum(np.concatenate([[start], steps]))[::-1]
    ds = dz + 0.5 * slope
    ds[0] = np.nan
    return ds, dz


def _weight_gradient_norm(p: ExactLaws) -> Floats:
    z, (ds, _) = _activation_norm(p), _gradient_norms(p)
    return np.concatenate([[np.nan], z[:-1] + ds[1:]])


def _zero_fraction(p: ExactLaws) -> Floats:
    """Return P(z = 0) = P(f' = 0) = 1 - P(z_(l-1) is not 0) / 2 for ReLU."""
    if not _has_zeros(p):
        return p.nothing
    return np.concatenate([[np.nan], 1.0 - 0.5 * p.alive[:-1]])


def _dead_sample_fraction(p: ExactLaws) -> Floats:
    """Return P(z = 0 in all units) = P(f' = 0 in all units) for ReLU."""
    if not _has_zeros(p):
        return p.nothing
    return np.concatenate([[np.nan], 1.0 - p.alive[1:]])


def _gradient_zero_fractions(p: ExactLaws) -> tuple[Floats, Floats]:
    """Return P(ds = 0) and P(dz = 0) for ReLU and an injected gradient without zeros.

    Below the last layer a row of dz is 0 if the sample is dead anywhere, and then everywhere; else a unit of a live
    layer of n is on with probability 1 / (2 (1 - 2^-n)).
    """
    if not _has_zeros(p) or p.task.output_gradient is not None:
        return p.nothing, p.nothing
    last = p.alive[-1]
    ds = np.concatenate([[np.nan], 1.0 - 0.5 * last / (1.0 - 0.5 ** p.widths[1:])])
    dz = np.append(np.full(len(p.widths) - 1, 1.0 - last), 0.0)
    return ds, dz


def _has_zeros(p: ExactLaws) -> bool:
    """Return whether f is a ray on the right, 0 on the left, and no given sample is 0."""
    return p.slopes is not None and p.slopes[0] == 0 and p.slopes[1] != 0 and not p.dead_inputs


def _centered(p: ExactLaws, values: Floats) -> Floats:
    """Return what holds where the mean is 0: s always is, gradients are if the injected one is."""
    return values if p.task.output_gradient is None else p.nothing


def _activation_mean(p: ExactLaws) -> Floats:
    """Return the input's mean, then beta for affine f: s is centered whatever comes before."""
    means = p.nothing.copy()
    means[0] = 0.0 if p.task.inputs is None else p.task.inputs.mean()
    if p.affine is not None:
        means[1:] = p.affine[1]
    elif p.first is not None:
        means[1] = p.first.mean
    return means


def _derivative_mean_square(p: ExactLaws) -> Floats:
    if p.symmetric:
        return np.concatenate([[np.nan], p.passed * p.alive[:-1]])
    return p.nothing if p.first is None else _at_first(p, p.first.derivative_mean_square)


def _at_first(p: ExactLaws, value: float) -> Floats:
    values = p.nothing.copy()
    values[1] = value
    return values


def _preactivation_mean(p: ExactLaws) -> Floats:
    """Return 0: weights are centered, and independent of what they are applied to."""
    return np.concatenate([[np.nan], np.zeros(len(p.widths) - 1)])


def _singular_value_mean_square(p: ExactLaws) -> Floats:
    """Return E |dz_L/dz_l|^2 over the number of singular values: of dz_L of random signs, it is that of dz_l."""
    units = p.widths.astype(np.float64)
    return np.asarray(_squares_back(p, 1.0)[1] * units / np.minimum(units, units[-1]))


_LAWS: dict[str, Callable[[ExactLaws], Floats]] = {
    "preactivation_mean": _preactivation_mean,
    "preactivation_mean_square": lambda p: p.forward[0],
    "preactivation_variance": lambda p: p.forward[0],
    "preactivation_kurtosis": lambda p: p.nothing if p.first is None else _at_first(p, p.first.kurtosis),
    "activation_mean": _activation_mean,
    "activation_mean_square": lambda p: p.forward[1],
    "activation_variance": lambda p: p.forward[1] - _activation_mean(p) ** 2,
    "activation_zero_fraction": _zero_fraction,
    "activation_dead_sample_fraction": _dead_sample_fraction,
    "activation_log10_norm": _activation_norm,
    "derivative_zero_fraction": _zero_fraction,
    "derivative_dead_sample_fraction": _dead_sample_fraction,
    "derivative_mean_square": _derivative_mean_square,
    "activation_gradient_mean": lambda p: _centered(p, zero_where(p.backward[1])),
    "activation_gradient_mean_square": lambda p: p.backward[1],
    "activation_gradient_variance": lambda p: _centered(p, p.backward[1]),
    "activation_gradient_zero_fraction": lambda p: _gradient_zero_fractions(p)[1],
    "activation_gradient_log10_norm": lambda p: _gradient_norms(p)[1],
    "preactivation_gradient_mean": lambda p: _centered(p, zero_where(p.backward[0])),
    "preactivation_gradient_mean_square": lambda p: p.backward[0],
    "preactivation_gradient_variance": lambda p: _centered(p, p.backward[0]),
    "preactivation_gradient_zero_fraction": lambda p: _gradient_zero_fractions(p)[0],
    "preactivation_gradient_log10_norm": lambda p: _gradient_norms(p)[0],
    "weight_gradient_log10_norm": _weight_gradient_norm,
    "singular_value_mean_square": _singular_value_mean_square,
}
