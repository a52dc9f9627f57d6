"""Activations: the registry, and what a name or a user's own functions stand for.

A new entry is one file here, imported below, and its line in `ACTIVATIONS`. The file holds all about it: f, f' and f''
as scalar functions, the factory, and the Gaussian means where they are closed.

Derivatives are written so that their *relative* error stays small in the tails (tanh' = 4 e / (1 + e)^2, not
1 - tanh^2), since products of many of them are what a deep net computes. At a kink, f' takes the one-sided value
in common use (ReLU'(0) = 0). f and f' share their exponentials where both stand in one loop.

Errors, in both precisions, of f and f' above 1e-36 (float32) or 1e-306 (float64): 8 ulp. Two exceptions: where the
tails of gelu_tanh and lecun_tanh are exp(-v), they have 8 + 2 v ulp, since exp amplifies the rounding of v; and where
f' of gelu, gelu_tanh and silu goes through 0 (-3 < x < 0), ulp is that of 1/4.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable

from stabsim import checks, names
from stabsim.activations import (
    elu,
    erf,
    gelu,
    linear,
    relu,
    sigmoid,
    silu,
    sine,
    softplus,
    softsign,
    tanh,
)
from stabsim.activations.base import Activation, ClosedForm
from stabsim.own_functions import code_hash

__all__ = ["ACTIVATIONS", "Activation", "ClosedForm", "activation", "fingerprint", "is_registered"]

ACTIVATIONS: dict[str, Callable[..., Activation]] = {
    "linear": linear.linear,
    "relu": relu.relu,
    "relu6": relu.relu6,
    "leaky_relu": relu.leaky_relu,
    "elu": elu.elu,
    "selu": elu.selu,
    "gelu": gelu.gelu,
    "gelu_tanh": gelu.gelu_tanh,
    "silu": silu.silu,
    "softplus": softplus.softplus,
    "sigmoid": sigmoid.sigmoid,
    "scaled_sigmoid": sigmoid.scaled_sigmoid,
    "tanh": tanh.tanh,
    "lecun_tanh": tanh.lecun_tanh,
    "hard_tanh": tanh.hard_tanh,
    "softsign": softsign.softsign,
    "erf": erf.erf,
    "sine": sine.sine,
}


def activation(spec: str | Activation) -> Activation:
    """Return the activation of a name with parameters; an Activation is returned as it is.

    Parameters
    ----------
    spec : str or Activation
        A name of the registry, or a name with parameters: ``"leaky_relu(slope=0.2)"``.

    Raises
    ------
    TypeError, ValueError
        If the spec is neither, the name or a parameter is unknown, or a value is not a finite number.

    Examples
    --------
    >>> str(activation("linear(beta=0.5)")), activation("relu").positively_homogeneous
    ('linear(alpha=1, beta=0.5)', True)
    """
    if isinstance(spec, Activation):
        return spec
    name, parameters = names.parse(spec)
    if name not in ACTIVATIONS:
        raise names.unknown("activation", name, ACTIVATIONS)
    factory = ACTIVATIONS[name]
    known = _parameters(factory)
    if parameters and not known:
        raise ValueError(f"activation {name!r} takes no parameters, but {spec!r} gives some")
    for key, value in parameters.items():
        if key not in known:
            raise names.unknown(f"parameter of activation {name!r}:", key, known)
        parameters[key] = checks.number(f"{key} of activation {name!r}", value)
    return factory(**parameters)


def is_registered(activation: Activation) -> bool:
    """Return whether an activation is an entry of the registry, not a user's own."""
    factory = ACTIVATIONS.get(activation.name)
    if factory is None or list(activation.parameters) != _parameters(factory):
        return False
    return activation == factory(**activation.parameters)


def fingerprint(activation: Activation) -> str:
    """Return the identity in hashes: the canonical spelling and, for a user's own, the SHA-256 of its byte code.

    Another version of Python has other byte code, so there a user's own activation is another one.
    """
    if is_registered(activation):
        return str(activation)
    shape = (activation.asymptotes, activation.positively_homogeneous)  # they decide how f is evaluated far out
    return f"{activation} {shape} sha256:{code_hash(activation.f, activation.derivative)}"


def _parameters(factory: Callable[..., Activation]) -> list[str]:
    return list(inspect.signature(factory).parameters)
