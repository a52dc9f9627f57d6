"""Gains: how weights must be scaled so that an activation keeps the mean square of signals or of gradients."""

from __future__ import annotations

import math

from stabsim import activations
from stabsim.activations import Activation
from stabsim.names import unknown
from stabsim.theory.gaussian import moments

DIRECTIONS = ("forward", "backward")


def gain(activation: str | Activation, direction: str = "forward") -> float:
    """Return the gain that an activation needs: the standard deviation of a weight times the square root of the fan.

    Forward it keeps the mean square of pre-activations at 1, given fan-in: 1 / sqrt(E f(s)^2), s standard normal.
    Backward it keeps that of gradients there, given fan-out: 1 / sqrt(E f'(s)^2). Both hold for wide nets. Only where
    f is two rays from the origin are they equal, and right at every variance.

    Parameters
    ----------
    activation : str or Activation
        A name of the registry, with or without parameters, or the user's own.
    direction : str
        "forward" (unless told) or "backward".

    Returns
    -------
    float
        To 12 digits.

    Raises
    ------
    TypeError, ValueError
        If an argument is unknown, or f or f' is 0 everywhere, so that no gain will do.

    Notes
    -----
    He et al. 2015 (arXiv:1502.01852), equations 10 and 14, for any f.

    Examples
    --------
    >>> round(gain("relu"), 12), round(gain("tanh"), 10), round(gain("tanh", "backward"), 10)
    (1.414213562373, 1.5925374197, 1.4674135916)
    """
    if direction not in DIRECTIONS:
        raise unknown("direction", direction, DIRECTIONS)
    found = moments(activation)
    square = found.mean_square if direction == "forward" else found.derivative_mean_square
    if square == 0.0:
        what = "f" if direction == "forward" else "f'"
        raise ValueError(f"activation {str(activation)!r} has no {direction} gain: {what} is 0 everywhere")
    return 1.0 / math.sqrt(square)


def centered_gain(activation: str | Activation) -> float:
    """Return 1 / std f(s), s standard normal: what keeps the variance, the mean being taken off elsewhere.

    That is the gain of normalizer-free nets, whose weights are centered so that a mean of f does not count.

    Raises
    ------
    TypeError, ValueError
        If the activation is unknown, or constant.

    Notes
    -----
    Brock, De, Smith & Simonyan 2021 (arXiv:2102.06171), section 3.

    Examples
    --------
    >>> round(centered_gain("relu"), 10)  # sqrt(2 / (1 - 1 / pi))
    1.7128585504
    """
    variance = moments(activation).variance
    if variance <= 0.0:
        raise ValueError(f"activation {str(activation)!r} has no centered gain: it is constant")
    return 1.0 / math.sqrt(variance)


# torch.nn.init.calculate_gain: "Return the recommended gain value for the given nonlinearity function."
_PYTORCH = {
    "linear": 1.0,
    "sigmoid": 1.0,
    "tanh": 5.0 / 3.0,
    "relu": math.sqrt(2.0),
    "selu": 3.0 / 4.0,
}

# deepmind-research, nfnets/base.py, nonlinearities: constants that were sampled, for use as in `centered_gain`.
_NFNET = {
    "linear": 1.0,
    "elu": 1.2716004848480225,
    "gelu": 1.7015043497085571,
    "leaky_relu": 1.70590341091156,
    "relu": 1.7139588594436646,
    "relu6": 1.7131484746932983,
    "selu": 1.0008515119552612,
    "sigmoid": 4.803835391998291,
    "silu": 1.7881293296813965,
    "softplus": 1.9203323125839233,
    "softsign": 2.338853120803833,
    "tanh": 1.5939117670059204,
}

SOURCES = ("pytorch", "nfnet")


def published_gain(activation: str | Activation, source: str = "pytorch") -> float | None:
    """Return the gain that a library sets for an activation, None if it has none.

    Parameters
    ----------
    activation : str or Activation
        A name of the registry, with or without parameters.
    source : str
        "pytorch": ``torch.nn.init.calculate_gain``, meant as `gain`. "nfnet": the constants of the released code of
        normalizer-free nets (Brock et al. 2021), meant as `centered_gain`.

    Raises
    ------
    TypeError, ValueError
        If an argument is unknown.

    Examples
    --------
    >>> published_gain("selu"), published_gain("leaky_relu(slope=0.2)", "nfnet")
    (0.75, None)
    """
    chosen = activations.activation(activation)
    if source not in SOURCES:
        raise unknown("source of gains", source, SOURCES)
    if not activations.is_registered(chosen):
        return None
    if source == "pytorch" and chosen.name == "leaky_relu":
        return math.sqrt(2.0 / (1.0 + chosen.parameters["slope"] ** 2))
    default = chosen == activations.ACTIVATIONS[chosen.name]()
    return {"pytorch": _PYTORCH, "nfnet": _NFNET}[source].get(chosen.name) if default else None
