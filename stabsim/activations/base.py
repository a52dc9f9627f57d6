"""What an entry is made of: `Activation`, `ClosedForm` and what several entries share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from stabsim import checks, names
from stabsim.kernels.precision import Scalar, elementary

Floats: TypeAlias = NDArray[np.float64]
Line: TypeAlias = tuple[float, float]  # slope, offset


@dataclass(frozen=True)
class ClosedForm:
    """Means over normal u and v of mean 0, variances p and q and correlation c, as functions of arrays.

    Parameters
    ----------
    product, derivative_product : callable
        E f(u) f(v) and E f'(u) f'(v) of p, q and c, arrays of one shape.
    mean, derivative_mean : callable
        E f(v) and E f'(v) of q.
    slope : callable
        d E f(v)^2 / d q of q.
    largest_variance : float, default 1e12
        Up to which they hold, to 12 digits.

    Examples
    --------
    >>> means = ClosedForm(
    ...     product=lambda p, q, c: p * q * (1 + 2 * c * c),
    ...     derivative_product=lambda p, q, c: 4 * c * np.sqrt(p * q),
    ...     mean=lambda q: q,
    ...     derivative_mean=np.zeros_like,
    ...     slope=lambda q: 6 * q,
    ... )
    >>> square = Activation("square", lambda x: x * x, lambda x: 2 * x, gaussian_means=lambda: means)
    """

    product: Callable[[Floats, Floats, Floats], Floats]
    derivative_product: Callable[[Floats, Floats, Floats], Floats]
    mean: Callable[[Floats], Floats]
    derivative_mean: Callable[[Floats], Floats]
    slope: Callable[[Floats], Floats]
    largest_variance: float = 1e12


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
    affine : bool, default False
        Whether f is one straight line, its asymptote on both sides.
    source : str, default ""
        The publication.
    gaussian_means : callable, default None
        gaussian_means(*parameters) returns the `ClosedForm` that theory uses; without one it integrates, or knows that
        f is two rays from the origin. No part of the activation's identity.

    Raises
    ------
    TypeError, ValueError
        If the name is no word, a function is not callable, a parameter is not a finite number, or the asymptotes of an
        affine activation are not one line.

    Examples
    --------
    >>> from stabsim.activations import activation
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
    affine: bool = False
    source: str = ""
    gaussian_means: Callable[..., ClosedForm] | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        if names.parse(self.name) != (self.name, {}):
            raise ValueError(f"activation name must be a word without parameters, not {self.name!r}")
        optional = [role for role in ("second_derivative", "gaussian_means") if getattr(self, role) is not None]
        for role in ("f", "derivative", *optional):
            if not callable(getattr(self, role)):
                raise TypeError(f"{role} of activation {self.name!r} must be callable, not {getattr(self, role)!r}")
        for promise in ("positively_homogeneous", "affine"):
            if not isinstance(getattr(self, promise), bool):
                raise TypeError(f"{promise} must be True or False, not {getattr(self, promise)!r}")
        checked = {key: checks.number(key, value) for key, value in self.parameters.items()}
        object.__setattr__(self, "parameters", MappingProxyType(checked))
        object.__setattr__(self, "kinks", tuple(checks.number("kink", kink) for kink in self.kinks))
        if self.asymptotes is not None:
            if np.shape(self.asymptotes) != (2, 2):
                raise ValueError(f"asymptotes must be ((slope, offset), (slope, offset)), not {self.asymptotes!r}")
            lines = (tuple(checks.number("asymptote", number) for number in line) for line in self.asymptotes)
            object.__setattr__(self, "asymptotes", tuple(lines))
        if self.affine and (self.asymptotes is None or self.asymptotes[0] != self.asymptotes[1]):
            raise ValueError(f"asymptotes of an affine activation must be one line twice, not {self.asymptotes!r}")

    def __str__(self) -> str:
        return names.format_name(self.name, self.parameters)

    def __reduce__(self) -> Any:
        values = [getattr(self, each.name) for each in fields(self)]
        return Activation, tuple(dict(value) if isinstance(value, MappingProxyType) else value for value in values)

    def evaluate(self, function: str, x: float) -> float:
        """Return ``"f"``, ``"derivative"`` or ``"second_derivative"`` at x, as float64 computes it.

        Examples
        --------
        >>> from stabsim.activations import activation
        >>> activation("leaky_relu").evaluate("derivative", -3)
        0.01
        """
        try:
            return float(getattr(self, function)(x, *self.parameters.values()))
        except Exception as error:
            raise ValueError(f"{function} of activation {str(self)!r} fails at x = {x}: {error}") from error


def between(low: float, high: float) -> tuple[Line, Line]:
    """Return the asymptotes of an f that goes from one constant to another."""
    return (0.0, low), (0.0, high)


RISING: tuple[Line, Line] = ((0.0, 0.0), (1.0, 0.0))  # to 0 on the left, to x on the right


@elementary
def zero(x: Scalar, *_parameters: Scalar) -> Any:
    """Return f'' of pieces of straight lines."""
    return type(x)(0)
