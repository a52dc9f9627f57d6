"""Gradient clipping: an option of the backward pass, of the gradients by the weights."""

from __future__ import annotations

from dataclasses import dataclass, fields

from stabsim import checks, names

KINDS = ("value", "norm", "global_norm", "adaptive")


@dataclass(frozen=True)
class Clipping:
    """How gradients by the weights are clipped, once all of them are known.

    Parameters
    ----------
    kind : str
        "value": each element of dW to -bound .. bound. "norm": each dW to a Frobenius norm of at most the bound.
        "global_norm": those of all layers together, by one factor (Pascanu et al. 2013, arXiv:1211.5063). "adaptive":
        the column of dW of each unit to at most the bound times max(norm of its weights, epsilon) (AGC, Brock et al.
        2021, arXiv:2102.06171).
    bound : float
        Greater than 0; 1 unless told.
    epsilon : float
        Of "adaptive", the least norm of a unit's weights: 1e-3 unless told, greater than 0.

    Raises
    ------
    TypeError, ValueError
        If the kind is unknown, a number is not finite or not positive, or ``epsilon`` is given to another kind.

    Examples
    --------
    >>> Clipping("adaptive", bound=0.01)
    Clipping(kind='adaptive', bound=0.01, epsilon=0.001)
    >>> clipping("value(bound=0.5)") == Clipping("value", 0.5)
    True
    """

    kind: str
    bound: float = 1.0
    epsilon: float = 1e-3

    def __post_init__(self) -> None:
        names.check_known("clipping", self.kind, KINDS)
        for each in ("bound", "epsilon"):
            value = checks.number(f"{each} of clipping", getattr(self, each), 0.0, open_ends=True)
            object.__setattr__(self, each, value)
        if self.kind != "adaptive" and self.epsilon != Clipping.epsilon:
            raise ValueError(f"epsilon={self.epsilon!r} of clipping: only 'adaptive' has one, not {self.kind!r}")

    def __str__(self) -> str:
        """Return the name with its parameters."""
        parameters = {"bound": self.bound} | ({"epsilon": self.epsilon} if self.kind == "adaptive" else {})
        return names.format_name(self.kind, parameters)


def clipping(spec: str | Clipping | None) -> Clipping | None:
    """Return the clipping of a name with parameters."""
    if spec is None or isinstance(spec, Clipping):
        return spec
    if not isinstance(spec, str):
        raise TypeError(f"clipping must be None, a name or a stabsim.Clipping, not {checks.brief(spec)}")
    name, parameters = names.parse(spec)
    names.check_known("clipping", name, KINDS)
    known = [each.name for each in fields(Clipping)][1:]
    names.check_parameters(name, parameters, known if name == "adaptive" else known[:1])
    return Clipping(name, **parameters)  # type: ignore[arg-type]  # the class checks them
