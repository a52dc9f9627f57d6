"""Exact laws of what stops samples and nets, and of what f' and W leave of a gradient.

Dead samples, of ReLU-like nets without biases and with a gradient injected that is not 0 anywhere: a sample lives at
layer l with probability prod (1 - 2^-n) up to there. Its gradient is 0 everywhere if it dies anywhere, for where it
lives, ds W^T and f' are not 0 but with probability 0.

Gains, of one sample: let the signs of ds be fair coins that are independent given the layers below, as those of what is
injected are. Turned by its sign, a column of W that points to the side of z is as likely to be any other (W and -W are
equally likely). So dz = ds W^T has the law that it had if W were independent of f', given which units live; its signs
are fair coins in turn, independent of f' below. So |dz|^2 / |ds|^2 is gamma times a chi-square, and of dz a
binomial number of units is passed on, in live nets one or more.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stabsim.theory.zeros import unit_dead_probability

if TYPE_CHECKING:
    from collections.abc import Callable

    from stabsim.theory.exact import ExactLaws

Floats = NDArray[np.float64]


def _after_input(values: Floats) -> Floats:
    """Put NaN in front, for the input."""
    return np.concatenate([[np.nan], values])


def _sees_gradient(p: ExactLaws) -> bool:
    """Return whether ReLU stops samples, of which each has a gradient."""
    gradient = p.task.output_gradient
    return p.has_zeros and (gradient is None or bool(gradient.all()))


def _of_single_samples(p: ExactLaws, values: Floats) -> Floats:
    """Return what nets do if their only sample does."""
    return values if p.task.batch == 1 else p.nothing


def _dead_sample(p: ExactLaws) -> Floats:
    """Return P(z = 0 in all units), at the input too."""
    return 1.0 - p.alive if p.has_zeros else p.nothing


def _stopped(p: ExactLaws) -> Floats:
    """Return P(ds = 0 in all units), which is the same at all layers."""
    return _after_input(np.full(len(p.widths) - 1, 1.0 - p.alive[-1])) if _sees_gradient(p) else p.nothing


def _blocked_by_derivative(p: ExactLaws) -> Floats:
    """Return P(the sample dies at this layer or above)."""
    return _after_input(p.alive[:-1] - p.alive[-1]) if _sees_gradient(p) else p.nothing


def _blocked_by_activation(p: ExactLaws) -> Floats:
    """Return P(the sample dies below)."""
    return _after_input(1.0 - p.alive[:-1]) if _sees_gradient(p) else p.nothing


def _dead_unit(p: ExactLaws) -> Floats:
    """Return P(z = 0 = f' for all samples): of one sample, and at the first layer of inputs at known angles."""
    values = p.nothing.copy()
    if not p.has_zeros:
        return values
    batch, inputs = p.task.batch, p.task.inputs
    if batch == 1:
        values[1:] = 1.0 - 0.5 * p.alive[:-1]
    elif inputs is None:  # given W, signs of the samples are independent coins
        values[1] = 0.5**batch
    elif batch == len(inputs) and p.task.network.weights.law == "normal":
        cosine = equal_cosine(inputs)
        if cosine >= 0.0 or (batch == 2 and cosine >= -1.0):
            values[1] = unit_dead_probability(batch, cosine)
    return values


def equal_cosine(rows: Floats) -> float:
    """Return the cosine of any two rows, NaN if it is not the same for all pairs to rounding.

    Examples
    --------
    >>> equal_cosine(1e200 * np.eye(3)), equal_cosine(np.array([[2.0, 0.0], [1.0, 0.0], [0.0, 1.0]]))
    (0.0, nan)
    """
    unit = rows / np.abs(rows).max(axis=1, keepdims=True)  # whose squares are within range
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    cosines = (unit @ unit.T)[np.triu_indices(len(rows), 1)]
    found = float(np.clip(cosines.mean(), -1.0, 1.0))
    return found if np.abs(cosines - found).max() < 1e-12 else float("nan")


def _shut(p: ExactLaws) -> Floats:
    """Return the mean share of |dz|^2 where f' = 0, over nets with dz != 0: dz is exchangeable and knows nothing of f'.

    At the last layer of all nets, below of live ones. With given gradients only the last layer's is known.
    """
    values, gradient = p.nothing.copy(), p.task.output_gradient
    if not p.has_zeros or (gradient is not None and not gradient.any()):
        return values
    if gradient is None and p.task.batch == 1:
        values[1:] = 1.0 - 0.5 / (1.0 - 0.5 ** p.widths[1:])
    values[-1] = 1.0 - 0.5 * p.alive[-2]
    return values


def _gain_of_derivative(p: ExactLaws) -> Floats:
    """Return E log10 (|ds| / |dz|) over nets with ds != 0.

    Of a straight line it is the same for all nets but for rounding, of which nothing is known: only powers of two have
    none.
    """
    gradient = p.task.output_gradient
    if p.affine is not None:
        injected = abs(math.frexp(p.affine[0])[0]) == 0.5 and (gradient is None or bool(gradient.any()))
        return _after_input(np.full(len(p.widths) - 1, np.log10(abs(p.affine[0])))) if injected else p.nothing
    steps = p.log_chi_square
    if steps is None or gradient is not None or p.dead_inputs:
        return p.nothing
    return _after_input(0.5 * (steps - p.log_chi_square_of_all)[1:])


def _gain_of_weights(p: ExactLaws) -> Floats:
    """Return E log10 (|dz| / |ds|), ds being that of the layer above, over nets with ds != 0."""
    gradient = p.task.output_gradient
    if p.log_chi_square is None or (gradient is not None and (p.affine is None or not gradient.any())):
        return p.nothing
    if p.affine is None and p.dead_inputs:
        return p.nothing
    return np.append(0.5 * (p.log_chi_square_of_all[:-1] + np.log10(p.gamma[1:])), np.nan)


def _gain_of_activations(p: ExactLaws) -> Floats:
    """Return E log10 (|dW| / |ds|) over nets with ds != 0: of one sample it is that of |z|, which tells no more."""
    gradient = p.task.output_gradient
    if gradient is not None and not gradient.any():
        return p.nothing
    return _after_input(p.activation_norm[:-1])


LAWS: dict[str, Callable[[ExactLaws], Floats]] = {
    "activation_dead_net_fraction": lambda p: _of_single_samples(p, _dead_sample(p)),
    "activation_dead_unit_fraction": _dead_unit,
    "derivative_dead_net_fraction": lambda p: _of_single_samples(p, _after_input(_dead_sample(p)[1:])),
    "derivative_dead_unit_fraction": _dead_unit,
    "activation_gradient_log10_gain": _gain_of_weights,
    "preactivation_gradient_dead_sample_fraction": _stopped,
    "preactivation_gradient_dead_net_fraction": lambda p: _of_single_samples(p, _stopped(p)),
    "preactivation_gradient_blocked_by_derivative_fraction": _blocked_by_derivative,
    "preactivation_gradient_blocked_by_activation_fraction": _blocked_by_activation,
    "preactivation_gradient_shut_fraction": _shut,
    "preactivation_gradient_log10_gain": _gain_of_derivative,
    "weight_gradient_idle_sample_fraction": _stopped,
    "weight_gradient_dead_net_fraction": lambda p: _of_single_samples(p, _stopped(p)),
    "weight_gradient_log10_gain": _gain_of_activations,
}
