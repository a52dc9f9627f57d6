"""What is simulated: an ensemble of random nets, as a frozen, validated value with a content hash."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from itertools import groupby, pairwise
from numbers import Integral
from typing import TYPE_CHECKING, Any

from stabsim import checks, names
from stabsim.initializers import Initializer, initializer

if TYPE_CHECKING:
    from stabsim.activations import Activation

NORMALIZATIONS = ("batch", "layer", "rms")
CELLS = ("feedforward", "rnn", "lstm", "gru")


@dataclass(frozen=True)
class Skip:
    """Residual connection: shortcut * input + branch * layer(input).

    Parameters
    ----------
    branch, shortcut : float
        Finite factors, 1 unless told.

    Raises
    ------
    TypeError, ValueError
        If a factor is not a finite number.

    Examples
    --------
    >>> Skip(branch=0.1)
    Skip(branch=0.1, shortcut=1.0)
    """

    branch: float = 1.0
    shortcut: float = 1.0

    def __post_init__(self) -> None:
        for field in ("branch", "shortcut"):
            object.__setattr__(self, field, checks.number(field, getattr(self, field)))


@dataclass(frozen=True, init=False, repr=False)
class Network:
    """An ensemble of randomly initialized nets: everything that its law depends on.

    This version simulates feedforward nets without normalization and without skip connections, and refuses others.

    Parameters
    ----------
    widths : sequence of int
        Units in each layer, input first, so there is one layer less than widths.
    activation : str or Activation
        A name of the registry, with or without parameters, or the user's own.
    weights : str or Initializer
        A name of the registry, with or without parameters, or the user's own.
    bias_std : float
        Standard deviation of the biases, 0 unless told.
    normalization : None, "batch", "layer" or "rms"
        Normalization of the pre-activations.
    skip : Skip or None
        Residual connection around each layer.
    cell : str
        "feedforward", "rnn", "lstm" or "gru".

    Raises
    ------
    TypeError, ValueError
        If an argument is not allowed, or not supported by this version.

    Examples
    --------
    >>> network = Network(widths=(512,) * 51, activation="tanh", weights="xavier_normal")
    >>> network
    Network(widths=(512,) * 51, activation='tanh', weights='glorot_normal', bias_std=0.0)
    >>> network.depth
    50
    >>> Network.from_json(network.to_json()) == network
    True
    """

    widths: tuple[int, ...]
    activation: Activation
    weights: Initializer
    bias_std: float
    normalization: str | None
    skip: Skip | None
    cell: str

    def __init__(
        self,
        widths: Sequence[int],
        activation: str | Activation,
        weights: str | Initializer,
        bias_std: float = 0.0,
        normalization: str | None = None,
        skip: Skip | None = None,
        cell: str = "feedforward",
    ) -> None:
        from stabsim.activations import activation as resolve

        weights = initializer(weights)
        given: dict[str, object] = {
            "widths": _widths(widths),
            "activation": resolve(activation),
            "weights": weights,
            "bias_std": _bias_std(bias_std, weights),
            **_structure(normalization, skip, cell),
        }
        for field, value in given.items():
            object.__setattr__(self, field, value)

    def __repr__(self) -> str:
        """Return the call that makes this network, without the arguments that this version does not vary."""
        return (
            f"Network(widths={_collapsed(self.widths)}, activation={str(self.activation)!r}, "
            f"weights={str(self.weights)!r}, bias_std={self.bias_std!r})"
        )

    @property
    def depth(self) -> int:
        """Number of layers."""
        return len(self.widths) - 1

    @property
    def fans(self) -> tuple[tuple[int, int], ...]:
        """(fan_in, fan_out) of each layer."""
        return tuple(pairwise(self.widths))

    @property
    def plain(self) -> bool:
        """Whether it is a feedforward net without normalization and skip connections.

        Laws and samplers are written for those, unless they say otherwise.
        """
        return (self.normalization, self.skip, self.cell) == (None, None, "feedforward")

    def to_json(self) -> str:
        """Return canonical JSON: sorted keys, no spaces, floats as hexadecimal strings, which are exact."""
        from stabsim.activations import fingerprint

        document = {field.name: getattr(self, field.name) for field in fields(self)}
        document |= {
            "activation": fingerprint(self.activation),
            "weights": _hexadecimal(asdict(self.weights)),
            "bias_std": self.bias_std.hex(),
            "skip": self.skip and _hexadecimal(asdict(self.skip)),
        }
        return json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Network:
        """Return the network of which `to_json` wrote the text.

        Raises
        ------
        ValueError
            If `to_json` cannot have written the text, or if the activation is a user's own: that is code, which
            JSON does not hold.
        """
        try:
            document = json.loads(text)
            expected = sorted(field.name for field in fields(cls))
            if sorted(document) != expected:
                raise ValueError(f"its keys are {sorted(document)}, not {expected}")
            document["activation"] = _registered(document["activation"])
            document["weights"] = Initializer(**_decimal(document["weights"]))
            document["bias_std"] = float.fromhex(document["bias_std"])
            document["skip"] = document["skip"] and Skip(**_decimal(document["skip"]))
            return cls(**document)
        except (AttributeError, TypeError, ValueError) as error:
            raise ValueError(f"cannot restore a Network from JSON: {error}") from error

    @property
    def content_hash(self) -> str:
        """SHA-256 of `to_json`, in hexadecimal: the identity of the network."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()


def _widths(widths: Sequence[int]) -> tuple[int, ...]:
    if isinstance(widths, str | bytes) or not hasattr(widths, "__getitem__") or not hasattr(widths, "__len__"):
        raise TypeError(f"widths must be a sequence of integers, input width first, not {widths!r}")
    for width in widths:
        if isinstance(width, bool) or not isinstance(width, Integral):
            raise TypeError(f"widths must be integers >= 1, not {width!r}")
        if width < 1:
            raise ValueError(f"widths must be integers >= 1, not {int(width)}")
    if len(widths) < 2:
        raise ValueError(f"widths must hold at least two widths, input and output, not {tuple(widths)!r}")
    return tuple(int(width) for width in widths)


def _bias_std(bias_std: float, weights: Initializer) -> float:
    number = checks.number("bias_std", bias_std, 0.0)
    if number > 0 and weights.bias_gain is not None:
        raise ValueError(f"bias_std must be 0 with weights={str(weights)!r}, which set biases, not {number!r}")
    return number


def _structure(normalization: object, skip: object, cell: object) -> dict[str, object]:
    """Check what this version knows by name, then refuse what it does not simulate."""
    if normalization is not None and normalization not in NORMALIZATIONS:
        raise names.unknown("normalization", normalization, ["None", *NORMALIZATIONS])
    if skip is not None and not isinstance(skip, Skip):
        raise TypeError(f"skip must be None or a stabsim.Skip, not {skip!r}")
    if cell not in CELLS:
        raise names.unknown("cell", cell, CELLS)
    for argument, value, supported in (
        ("normalization", normalization, None),
        ("skip", skip, None),
        ("cell", cell, "feedforward"),
    ):
        if value != supported:
            raise ValueError(f"{argument}={value!r} is not simulated by this version, only {argument}={supported!r}")
    return {"normalization": normalization, "skip": skip, "cell": cell}


def _collapsed(widths: tuple[int, ...]) -> str:
    """Write equal neighbours once: (784, *(512,) * 50, 10)."""
    runs = [(width, len(tuple(run))) for width, run in groupby(widths)]
    written = [f"*({width},) * {count}" if count > 2 else ", ".join([str(width)] * count) for width, count in runs]
    return written[0][1:] if len(runs) == 1 and runs[0][1] > 2 else f"({', '.join(written)})"


def _registered(fingerprint: str) -> Activation:
    from stabsim.activations import activation

    try:
        return activation(fingerprint)
    except ValueError as error:
        raise ValueError(f"a user's own activation is code, which JSON does not hold: {error}") from error


def _hexadecimal(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value.hex() if isinstance(value, float) else value for key, value in values.items()}


def _decimal(values: dict[str, Any]) -> dict[str, Any]:
    names_of_floats = {"gain", "bias_gain", "branch", "shortcut"}
    return {key: float.fromhex(value) if key in names_of_floats and value else value for key, value in values.items()}
