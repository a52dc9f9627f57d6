"""Laws of the weights and biases: one entry each, with its source.

Whatever the law, weights have standard deviation ``gain / sqrt(fan)``.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass

from stabsim import checks, names

LAWS = ("normal", "uniform", "truncated_normal", "orthogonal", "constant", "identity")
FANS = ("in", "out", "average", "largest", "none")
BIAS_LAWS = ("normal", "uniform")


@dataclass(frozen=True)
class Initializer:
    """Law of the weights and biases of every layer.

    Parameters
    ----------
    law : str
        "normal"; "uniform" (symmetric); "truncated_normal" (cut at two standard deviations of the parent, then
        rescaled); "orthogonal" (Haar, semi-orthogonal where rectangular); "constant" (every weight is
        gain / sqrt(fan), of any sign); "identity" (gain / sqrt(fan) on the diagonal, 0 elsewhere).
    gain : float
        Standard deviation of a weight times sqrt(fan).
    fan : str
        "in", "out", "average" of both, "largest" of both, or "none": 1, so that `gain` is the standard deviation.
    bias_law : str
        "normal" or "uniform".
    bias_gain : float or None
        Biases have standard deviation bias_gain / sqrt(fan_in), or, for None, the network's ``bias_std``.

    Raises
    ------
    TypeError, ValueError
        If a name is unknown, or a gain is not finite, or (but for constant weights) not positive.

    Examples
    --------
    >>> Initializer("normal", gain=3.0, fan="in").weight_std(fan_in=9, fan_out=4)
    1.0
    """

    law: str
    gain: float = 1.0
    fan: str = "in"
    bias_law: str = "normal"
    bias_gain: float | None = None

    def __post_init__(self) -> None:
        for field, known in (("law", LAWS), ("fan", FANS), ("bias_law", BIAS_LAWS)):
            names.check_known(field, getattr(self, field), known)
        least = -math.inf if self.law == "constant" else 0.0
        gain = checks.number(f"gain of the {self.law} law", self.gain, least, open_ends=True)
        object.__setattr__(self, "gain", gain)
        if self.bias_gain is not None:
            object.__setattr__(self, "bias_gain", checks.number("bias_gain", self.bias_gain, 0.0))

    def __str__(self) -> str:
        """Return the registry's name of these values, where there is one."""
        return next((name for name, entry in INITIALIZERS.items() if entry.make() == self), repr(self))

    def weight_std(self, fan_in: int, fan_out: int) -> float:
        """Return gain / sqrt(fan): the standard deviation of a weight (constant, identity: the weight itself)."""
        return self.gain / math.sqrt(self._fan(fan_in, fan_out))

    def weight_variance(self, fan_in: int, fan_out: int) -> float:
        """Return gain^2 / fan, the square of `weight_std`."""
        return self.gain * self.gain / self._fan(fan_in, fan_out)

    def bias_std(self, fan_in: int, network_bias_std: float) -> float:
        """Return the standard deviation of a bias, where the network's ``bias_std`` is as given."""
        return network_bias_std if self.bias_gain is None else self.bias_gain / math.sqrt(fan_in)

    def _fan(self, fan_in: int, fan_out: int) -> float:
        return {
            "in": fan_in,
            "out": fan_out,
            "average": (fan_in + fan_out) / 2,
            "largest": max(fan_in, fan_out),
            "none": 1,
        }[self.fan]


def initializer(spec: str | Initializer) -> Initializer:
    """Return the initializer of a name with parameters.

    Parameters
    ----------
    spec : str or Initializer
        A name of `INITIALIZERS` or `ALIASES` with or without parameters; an `Initializer` is returned as it is.

    Raises
    ------
    TypeError, ValueError
        If the name or a parameter is unknown, or a value is not allowed.

    Examples
    --------
    >>> initializer("kaiming_normal(fan=out)") == initializer("he_normal(fan=out)")
    True
    >>> initializer("normal(std=0.01)").weight_std(fan_in=512, fan_out=512)
    0.01
    """
    if isinstance(spec, Initializer):
        return spec
    if not isinstance(spec, str):
        raise TypeError(f"weights must be a name or a stabsim.Initializer, not {checks.brief(spec)}")
    name, parameters = names.parse(spec)
    entry = INITIALIZERS.get(ALIASES.get(name, name))
    if entry is None:
        raise names.unknown("initializer", name, [*INITIALIZERS, *ALIASES])
    names.check_parameters(name, parameters, inspect.signature(entry.make).parameters)
    return entry.make(**parameters)


def _positive(argument: str, value: object) -> float:
    return checks.number(argument, value, 0.0, open_ends=True)


def _normal(std: float = 0.01) -> Initializer:
    return Initializer("normal", _positive("std", std), "none")


def _uniform(bound: float = 0.05) -> Initializer:
    return Initializer("uniform", _positive("bound", bound) / math.sqrt(3), "none")


def _truncated_normal(std: float = 0.02) -> Initializer:
    return Initializer("truncated_normal", _positive("std", std), "none")


def _glorot_normal(gain: float = 1.0) -> Initializer:
    return Initializer("normal", gain, "average")


def _glorot_uniform(gain: float = 1.0) -> Initializer:
    return Initializer("uniform", gain, "average")


def _he_normal(gain: float = math.sqrt(2), fan: str = "in") -> Initializer:
    return Initializer("normal", gain, _one_fan(fan))


def _he_uniform(gain: float = math.sqrt(2), fan: str = "in") -> Initializer:
    return Initializer("uniform", gain, _one_fan(fan))


def _lecun_normal(gain: float = 1.0) -> Initializer:
    return Initializer("normal", gain, "in")


def _lecun_uniform(gain: float = 1.0) -> Initializer:
    return Initializer("uniform", gain, "in")


def _orthogonal(gain: float = 1.0) -> Initializer:
    return Initializer("orthogonal", gain, "largest")


def _zeros() -> Initializer:
    return Initializer("constant", 0.0, "none")


def _constant(value: float = 1.0) -> Initializer:
    return Initializer("constant", checks.number("value", value), "none")


def _identity(gain: float = 1.0) -> Initializer:
    return Initializer("identity", gain, "none")


def _torch_default() -> Initializer:
    return Initializer("uniform", 1 / math.sqrt(3), "in", bias_law="uniform", bias_gain=1 / math.sqrt(3))


def _keras_default() -> Initializer:
    return Initializer("uniform", 1.0, "average", bias_gain=0.0)


def _one_fan(fan: str) -> str:
    if fan not in ("in", "out"):
        raise names.unknown("fan", fan, ("in", "out"))
    return fan


@dataclass(frozen=True)
class Entry:
    """A named initializer: the function of its parameters, and where it comes from."""

    make: Callable[..., Initializer]
    source: str


INITIALIZERS = {
    "normal": Entry(_normal, "Krizhevsky, Sutskever & Hinton 2012, section 5 (std 0.01)"),
    "uniform": Entry(_uniform, "keras.initializers.RandomUniform (bound 0.05)"),
    "truncated_normal": Entry(_truncated_normal, "Devlin et al. 2019, arXiv:1810.04805, released code (std 0.02)"),
    "glorot_normal": Entry(_glorot_normal, "Glorot & Bengio 2010, equation 12"),
    "glorot_uniform": Entry(_glorot_uniform, "Glorot & Bengio 2010, equation 16"),
    "he_normal": Entry(_he_normal, "He et al. 2015, arXiv:1502.01852, equations 10 (fan in) and 14 (fan out)"),
    "he_uniform": Entry(_he_uniform, "He et al. 2015, arXiv:1502.01852, equations 10 (fan in) and 14 (fan out)"),
    "lecun_normal": Entry(_lecun_normal, "LeCun, Bottou, Orr & Müller 1998, Efficient BackProp, equation 16"),
    "lecun_uniform": Entry(_lecun_uniform, "LeCun, Bottou, Orr & Müller 1998, Efficient BackProp, equation 16"),
    "orthogonal": Entry(_orthogonal, "Saxe, McClelland & Ganguli 2014, arXiv:1312.6120; torch.nn.init.orthogonal_"),
    "zeros": Entry(_zeros, "torch.nn.init.zeros_"),
    "constant": Entry(_constant, "torch.nn.init.constant_"),
    "identity": Entry(_identity, "Le, Jaitly & Hinton 2015, arXiv:1504.00941, section 3; torch.nn.init.eye_"),
    "torch_default": Entry(_torch_default, "torch.nn.Linear.reset_parameters: uniform on ±1/sqrt(fan_in), biases too"),
    "keras_default": Entry(_keras_default, "keras.layers.Dense: glorot_uniform, zero biases"),
}

ALIASES = {
    "xavier_normal": "glorot_normal",
    "xavier_uniform": "glorot_uniform",
    "kaiming_normal": "he_normal",
    "kaiming_uniform": "he_uniform",
}
