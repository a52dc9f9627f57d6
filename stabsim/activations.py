"""Activations: the registry, a user's own, and their compiled blocks.

A new entry is one factory here, with its scalar functions in `stabsim/kernels/pointwise.py`, and one line in
`ACTIVATIONS`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np

from stabsim import checks, names
from stabsim.kernels import elementary as el
from stabsim.kernels import pointwise as pw
from stabsim.kernels.pointwise_block import block as block
from stabsim.kernels.pointwise_block import code_hash

Line: TypeAlias = tuple[float, float]  # slope, offset


@dataclass(frozen=True)
class Activation:
    """An activation function with its derivatives; `activation` gives those of the registry.

    Parameters
    ----------
    name : str
        A word, such as ``"swoosh"``.
    f, derivative : callable
        f(x, *parameters) and f'(x, *parameters) of one number, plain Python that Numba can compile; ``math`` is
        at hand, and the functions of `stabsim.kernels.elementary` make it faster. At a kink, f' is the one-sided
        value to be used.
    second_derivative : callable, default None
        f''(x, *parameters), likewise.
    parameters : mapping of str to float, default none
        Values by name, in the order in which they follow x.
    kinks : tuple of float, default none
        Where f or f' is not smooth.
    asymptotes : ((slope, offset), (slope, offset)), default None
        The lines slope x + offset that f approaches at -inf and at +inf; None where there are none.
    positively_homogeneous : bool, default False
        Whether f(c x) = c f(x) for every c > 0.
    source : str, default ""
        The publication.

    Raises
    ------
    TypeError, ValueError
        If the name is no word, a function is not callable or a parameter is not a finite number.

    Examples
    --------
    >>> swoosh = Activation("swoosh", f=lambda x: x * x / (1 + x * x), derivative=lambda x: 2 * x / (1 + x * x) ** 2)
    >>> str(swoosh), str(activation("leaky_relu"))
    ('swoosh', 'leaky_relu(slope=0.01)')
    """

    name: str
    f: Callable[..., Any]
    derivative: Callable[..., Any]
    second_derivative: Callable[..., Any] | None = None
    parameters: Mapping[str, float] = field(default_factory=dict, hash=False)
    kinks: tuple[float, ...] = ()
    asymptotes: tuple[Line, Line] | None = None
    positively_homogeneous: bool = False
    source: str = ""

    def __post_init__(self) -> None:
        if names.parse(self.name) != (self.name, {}):
            raise ValueError(f"activation name must be a word without parameters, not {self.name!r}")
        for role in ("f", "derivative") if self.second_derivative is None else ("f", "derivative", "second_derivative"):
            if not callable(getattr(self, role)):
                raise TypeError(f"{role} of activation {self.name!r} must be callable, not {getattr(self, role)!r}")
        if not isinstance(self.positively_homogeneous, bool):
            raise TypeError(f"positively_homogeneous must be True or False, not {self.positively_homogeneous!r}")
        checked = {key: checks.number(key, value) for key, value in self.parameters.items()}
        object.__setattr__(self, "parameters", MappingProxyType(checked))
        object.__setattr__(self, "kinks", tuple(checks.number("kink", kink) for kink in self.kinks))
        if self.asymptotes is not None:
            if np.shape(self.asymptotes) != (2, 2):
                raise ValueError(f"asymptotes must be ((slope, offset), (slope, offset)), not {self.asymptotes!r}")
            lines = (tuple(checks.number("asymptote", number) for number in line) for line in self.asymptotes)
            object.__setattr__(self, "asymptotes", tuple(lines))

    def __str__(self) -> str:
        return names.format_name(self.name, self.parameters)

    def __reduce__(self) -> Any:
        values = [getattr(self, each.name) for each in fields(self)]
        return Activation, tuple(dict(value) if isinstance(value, MappingProxyType) else value for value in values)

    @property
    def registered(self) -> bool:
        """Whether this is an entry of the registry, not a user's own."""
        factory = ACTIVATIONS.get(self.name)
        return (
            factory is not None and list(self.parameters) == _parameters(factory) and self == factory(**self.parameters)
        )

    @property
    def fingerprint(self) -> str:
        """Identity in hashes: the canonical spelling and, for a user's own, the SHA-256 of its byte code.

        Another version of Python has other byte code, so there a user's own activation is another one.
        """
        if self.registered:
            return str(self)
        shape = (self.asymptotes, self.positively_homogeneous)  # they decide how f is evaluated far out
        return f"{self} {shape} sha256:{code_hash(self.f, self.derivative)}"

    def evaluate(self, function: str, x: float) -> float:
        """Return ``"f"``, ``"derivative"`` or ``"second_derivative"`` at x, as float64 computes it.

        Examples
        --------
        >>> activation("leaky_relu").evaluate("derivative", -3)
        0.01
        """
        try:
            return float(getattr(self, function)(x, *self.parameters.values()))
        except Exception as error:
            raise ValueError(f"{function} of activation {str(self)!r} fails at x = {x}: {error}") from error


def _between(low: float, high: float) -> tuple[Line, Line]:
    return (0.0, low), (0.0, high)


_RISING: tuple[Line, Line] = ((0.0, 0.0), (1.0, 0.0))  # to 0 on the left, to x on the right


def linear(alpha: float = 1.0, beta: float = 0.0) -> Activation:
    """Return alpha x + beta."""
    functions = pw.linear, pw.linear_derivative, pw.zero
    line, source = (alpha, beta), "Saxe, McClelland and Ganguli, ICLR 2014, arXiv:1312.6120"
    return Activation("linear", *functions, {"alpha": alpha, "beta": beta}, (), (line, line), beta == 0, source)


def relu() -> Activation:
    """Return max(x, 0)."""
    functions = pw.relu, pw.relu_derivative, pw.zero
    return Activation("relu", *functions, {}, (0.0,), _RISING, True, "Nair and Hinton, ICML 2010")


def relu6() -> Activation:
    """Return min(max(x, 0), 6)."""
    functions = pw.relu6, pw.relu6_derivative, pw.zero
    return Activation("relu6", *functions, {}, (0.0, 6.0), _between(0.0, 6.0), source="Krizhevsky 2010")


def leaky_relu(slope: float = 0.01) -> Activation:
    """Return x where x > 0, slope x elsewhere."""
    functions = pw.leaky_relu, pw.leaky_relu_derivative, pw.zero
    lines, source = ((slope, 0.0), (1.0, 0.0)), "Maas, Hannun and Ng, ICML 2013"
    return Activation("leaky_relu", *functions, {"slope": slope}, (0.0,), lines, True, source)


def elu(alpha: float = 1.0) -> Activation:
    """Return x where x > 0, alpha (exp(x) - 1) elsewhere."""
    functions = pw.elu, pw.elu_derivative, pw.elu_second_derivative
    lines, source = ((0.0, -alpha), (1.0, 0.0)), "Clevert, Unterthiner and Hochreiter, ICLR 2016, arXiv:1511.07289"
    return Activation("elu", *functions, {"alpha": alpha}, (0.0,), lines, source=source)


def selu() -> Activation:
    """Return elu(alpha=1.67326) times 1.05070, which keeps mean 0 and variance 1."""
    functions = pw.selu, pw.selu_derivative, pw.selu_second_derivative
    lines = ((0.0, -pw.SELU_SCALE * pw.SELU_ALPHA), (pw.SELU_SCALE, 0.0))
    return Activation("selu", *functions, {}, (0.0,), lines, source="Klambauer et al., NeurIPS 2017, arXiv:1706.02515")


def gelu() -> Activation:
    """Return x Phi(x), Phi being the distribution function of a standard normal."""
    functions = pw.gelu, pw.gelu_derivative, pw.gelu_second_derivative
    return Activation("gelu", *functions, asymptotes=_RISING, source="Hendrycks and Gimpel 2016, arXiv:1606.08415")


def gelu_tanh() -> Activation:
    """Return x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2, which is close to gelu."""
    functions = pw.gelu_tanh, pw.gelu_tanh_derivative, pw.gelu_tanh_second_derivative
    source = "Hendrycks and Gimpel 2016, arXiv:1606.08415, section 2"
    return Activation("gelu_tanh", *functions, asymptotes=_RISING, source=source)


def silu() -> Activation:
    """Return x sigmoid(x), also called swish."""
    functions = pw.silu, pw.silu_derivative, pw.silu_second_derivative
    source = "Elfwing, Uchibe and Doya, Neural Networks 107, 2018, arXiv:1702.03118"
    return Activation("silu", *functions, asymptotes=_RISING, source=source)


def softplus() -> Activation:
    """Return log(1 + exp(x))."""
    functions = pw.softplus, pw.sigmoid, pw.sigmoid_derivative
    return Activation("softplus", *functions, asymptotes=_RISING, source="Dugas et al., NIPS 2000")


def sigmoid() -> Activation:
    """Return 1 / (1 + exp(-x))."""
    functions = pw.sigmoid, pw.sigmoid_derivative, pw.sigmoid_second_derivative
    source = "Rumelhart, Hinton and Williams, Nature 323, 1986"
    return Activation("sigmoid", *functions, asymptotes=_between(0.0, 1.0), source=source)


def scaled_sigmoid() -> Activation:
    """Return 4 sigmoid(x) - 2, which is x near 0."""
    functions = pw.scaled_sigmoid, pw.scaled_sigmoid_derivative, pw.scaled_sigmoid_second_derivative
    source = "Xu, Huang and Li 2016, arXiv:1602.05980"
    return Activation("scaled_sigmoid", *functions, asymptotes=_between(-2.0, 2.0), source=source)


def tanh() -> Activation:
    """Return tanh(x)."""
    functions = el.tanh, pw.tanh_derivative, pw.tanh_second_derivative
    source = "LeCun, Bottou, Orr and Mueller 1998, Efficient BackProp"
    return Activation("tanh", *functions, asymptotes=_between(-1.0, 1.0), source=source)


def lecun_tanh() -> Activation:
    """Return 1.7159 tanh(2 x / 3), which maps 1 to 1."""
    functions = pw.lecun_tanh, pw.lecun_tanh_derivative, pw.lecun_tanh_second_derivative
    lines, source = _between(-pw.LECUN_GAIN, pw.LECUN_GAIN), "LeCun et al. 1998, Efficient BackProp, section 4.4"
    return Activation("lecun_tanh", *functions, asymptotes=lines, source=source)


def hard_tanh() -> Activation:
    """Return x cut at -1 and 1."""
    functions = pw.hard_tanh, pw.hard_tanh_derivative, pw.zero
    return Activation("hard_tanh", *functions, {}, (-1.0, 1.0), _between(-1.0, 1.0), source="Collobert 2004")


def softsign() -> Activation:
    """Return x / (1 + |x|), which comes as slowly as 1 / x to its limits, so it has no asymptotes to rounding."""
    functions = pw.softsign, pw.softsign_derivative, pw.softsign_second_derivative
    return Activation("softsign", *functions, kinks=(0.0,), source="Bergstra et al. 2009; Glorot and Bengio 2010")


def erf() -> Activation:
    """Return the error function."""
    functions = el.erf, pw.erf_derivative, pw.erf_second_derivative
    return Activation("erf", *functions, asymptotes=_between(-1.0, 1.0), source="Williams, NIPS 1996")


def sine() -> Activation:
    """Return sin(x)."""
    functions = el.sin, el.cos, pw.negative_sine
    return Activation("sine", *functions, source="Sitzmann et al., NeurIPS 2020, arXiv:2006.09661")


ACTIVATIONS: dict[str, Callable[..., Activation]] = {
    "linear": linear,
    "relu": relu,
    "relu6": relu6,
    "leaky_relu": leaky_relu,
    "elu": elu,
    "selu": selu,
    "gelu": gelu,
    "gelu_tanh": gelu_tanh,
    "silu": silu,
    "softplus": softplus,
    "sigmoid": sigmoid,
    "scaled_sigmoid": scaled_sigmoid,
    "tanh": tanh,
    "lecun_tanh": lecun_tanh,
    "hard_tanh": hard_tanh,
    "softsign": softsign,
    "erf": erf,
    "sine": sine,
}


def _parameters(factory: Callable[..., Activation]) -> list[str]:
    return list(inspect.signature(factory).parameters)


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
