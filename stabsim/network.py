"""What is simulated: an ensemble of random nets, as a frozen, validated value with a content hash."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import groupby, pairwise
from numbers import Integral
from typing import TYPE_CHECKING, Any

from stabsim import checks, structures
from stabsim.initializers import Initializer, initializer
from stabsim.structures import Cell, Gate, Normalization, Skip

if TYPE_CHECKING:
    from stabsim.activations import Activation

DEEPEST = 1_000_000  # layers


@dataclass(frozen=True, init=False, repr=False)
class Network:
    """An ensemble of randomly initialized nets: everything that its law depends on.

    Parameters
    ----------
    widths : sequence of int
        Units in each layer, input first, so there is one layer less than widths. Of a recurrent cell: of the input,
        then of the state at every time step, all the same.
    activation : str or Activation
        A name of the registry, with or without parameters, or the user's own.
    weights : str or Initializer
        A name of the registry, with or without parameters, or the user's own.
    bias_std : float
        Standard deviation of the biases, 0 unless told.
    normalization : None, str or Normalization
        Of the pre-activations, in front of f: "batch", "layer" or "rms", with or without ``epsilon``.
    skip : None, str or Skip
        Residual connections.
    cell : str or Cell
        "feedforward", "rnn", "lstm" or "gru", with or without biases of gates: ``"lstm(forget_bias=1)"``. In a gated
        cell the activation is that of the candidate and of what goes out.

    Raises
    ------
    TypeError, ValueError
        If an argument is not allowed, or does not go with the others.

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
    normalization: Normalization | None
    skip: Skip | None
    cell: Cell

    def __init__(
        self,
        widths: Sequence[int],
        activation: str | Activation,
        weights: str | Initializer,
        bias_std: float = 0.0,
        normalization: str | Normalization | None = None,
        skip: str | Skip | None = None,
        cell: str | Cell = "feedforward",
    ) -> None:
        from stabsim.activations import activation as resolve

        weights = initializer(weights)
        given: dict[str, object] = {
            "widths": _widths(widths),
            "activation": resolve(activation),
            "weights": weights,
            "bias_std": _bias_std(bias_std, weights),
            "normalization": structures.normalization(normalization),
            "skip": structures.skip(skip),
            "cell": structures.cell(cell),
        }
        for field, value in given.items():
            object.__setattr__(self, field, value)
        _check_structures(self)

    def __repr__(self) -> str:
        """Return the call that makes this network; a normalization, skip or cell only where there is one."""
        more = "".join(
            f", {name}={repr(value) if str(value) == repr(value) else repr(str(value))}"
            for name, value in (("normalization", self.normalization), ("skip", self.skip), ("cell", self.cell))
            if value not in (None, Cell())
        )
        return (
            f"Network(widths={_collapsed(self.widths)}, activation={str(self.activation)!r}, "
            f"weights={str(self.weights)!r}, bias_std={self.bias_std!r}{more})"
        )

    @property
    def depth(self) -> int:
        """Number of layers."""
        return len(self.widths) - 1

    @property
    def fans(self) -> tuple[tuple[int, int], ...]:
        """(fan_in, fan_out) of each layer; of a cell, of each matrix: of all gates on the input, then the state."""
        if not self.cell.recurrent:
            return tuple(pairwise(self.widths))
        inputs, state = self.widths[:2]
        gates = len(self.laws) // 2
        return ((inputs, state),) * gates + ((state, state),) * gates

    @property
    def laws(self) -> tuple[Initializer, ...]:
        """Laws of the weights, in the order of `fans`; of a feedforward net, one for all layers."""
        return self.cell.laws(self.weights) if self.cell.recurrent else (self.weights,)

    @property
    def structures(self) -> frozenset[str]:
        """What there is beside weights and activation: "normalization", "skip", or the name of a recurrent cell.

        Laws and samplers are written for nets without, unless they say otherwise.
        """
        return frozenset(self.arguments)

    @property
    def arguments(self) -> dict[str, str]:
        """Return, by structure (see `structures`), the argument that gives it, and its value."""
        given = {"normalization": self.normalization, "skip": self.skip}
        found = {name: f"{name}={str(value)!r}" for name, value in given.items() if value is not None}
        return found | ({self.cell.kind: f"cell={self.cell.kind!r}"} if self.cell.recurrent else {})

    @property
    def shortcuts(self) -> tuple[int, ...]:
        """Per layer, (depth + 1,), the layer below from which a shortcut arrives; -1: none does."""
        return (-1,) * len(self.widths) if self.skip is None else self.skip.starts(self.widths)

    @property
    def weight_stds(self) -> tuple[float, ...]:
        """Standard deviation of a weight of each layer, or of each matrix of a cell; in the order of `fans`."""
        if self.cell.recurrent:
            return tuple(law.weight_std(*fans) for law, fans in zip(self.laws, self.fans, strict=True))
        stds = (self.weights.weight_std(*fans) for fans in self.fans)
        return tuple(factor * std for factor, std in zip(self.weight_factors, stds, strict=True))

    @property
    def weight_factors(self) -> tuple[float, ...]:
        """Factor on the weights of each layer, (depth,): those of residual connections, else 1."""
        factors = [1.0] * self.depth
        if self.skip is not None:
            for end, start in enumerate(self.shortcuts):
                for layer in range(start + 1, end + 1) if start >= 0 else ():
                    factors[layer - 1] = self.skip.last if layer == end else self.skip.inner
        return tuple(factors)

    def to_json(self) -> str:
        """Return canonical JSON: sorted keys, no spaces, floats as hexadecimal strings, which are exact."""
        from stabsim.activations import fingerprint

        document = {field.name: getattr(self, field.name) for field in fields(self)}
        document |= {
            "activation": fingerprint(self.activation),
            "weights": _hexadecimal(asdict(self.weights)),
            "bias_std": self.bias_std.hex(),
            "normalization": self.normalization and str(self.normalization),
            "skip": self.skip and _hexadecimal(asdict(self.skip)),
            "cell": _cell_document(self.cell),
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
            document = _object("the network", document, cls)
            document["activation"] = _registered(document["activation"])
            document["weights"] = Initializer(**_decimal("weights", document["weights"], Initializer))
            document["bias_std"] = _float("bias_std", document["bias_std"])
            if document["skip"] is not None:
                document["skip"] = Skip(**_decimal("skip", document["skip"], Skip))
            document["cell"] = _cell(document["cell"])
            return cls(**document)
        except (TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"cannot restore a Network from JSON: {error}") from error

    @property
    def content_hash(self) -> str:
        """SHA-256 of `to_json`, in hexadecimal: the identity of the network."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()


def _widths(widths: Sequence[int]) -> tuple[int, ...]:
    listed = hasattr(widths, "__getitem__") and hasattr(widths, "__len__") and getattr(widths, "ndim", 1) == 1
    if not listed or isinstance(widths, str | bytes | Mapping):
        raise TypeError(f"widths must be a sequence of integers, input width first, not {checks.brief(widths)}")
    if len(widths) > DEEPEST + 1:
        raise ValueError(f"widths must hold at most {DEEPEST + 1} widths, not {len(widths)}")
    for width in widths:
        if isinstance(width, bool) or not isinstance(width, Integral):
            raise TypeError(f"widths must be integers >= 1, not {checks.brief(width)}")
        if width < 1:
            raise ValueError(f"widths must be integers >= 1, not {checks.brief(int(width))}")
        if width > checks.LARGEST_WHOLE_NUMBER:
            raise ValueError(f"widths must be at most {checks.LARGEST_WHOLE_NUMBER}, not {checks.brief(int(width))}")
    if len(widths) < 2:
        raise ValueError(f"widths must hold at least two widths, input and output, not {checks.brief(tuple(widths))}")
    return tuple(int(width) for width in widths)


def _bias_std(bias_std: float, weights: Initializer) -> float:
    number = checks.number("bias_std", bias_std, 0.0)
    if number > 0 and weights.bias_gain is not None:
        raise ValueError(f"bias_std must be 0 with weights={str(weights)!r}, which set biases, not {number!r}")
    return number


def _check_structures(network: Network) -> None:
    """Refuse what does not go together."""
    if network.skip is not None and max(network.shortcuts) < 0:
        raise ValueError(
            f"skip={str(network.skip)!r} needs {network.skip.layers} layers that end with as many units as they begin "
            f"with, and widths={_collapsed(network.widths)} have none"
        )
    if network.cell.recurrent:
        if len(set(network.widths[1:])) > 1:
            raise ValueError(
                f"cell={network.cell.kind!r} needs widths (input, state, state, ...), a state for each time step, "
                f"not {_collapsed(network.widths)}"
            )
        for argument in ("normalization", "skip"):
            if getattr(network, argument) is not None:
                raise ValueError(f"{argument}={str(getattr(network, argument))!r} does not go with a recurrent cell")


def _cell_document(cell: Cell) -> object:
    """Return what JSON holds of a cell: its name where nothing else is told."""
    if cell == Cell(cell.kind):
        return cell.kind
    return {
        "kind": cell.kind,
        "recurrent_weights": _law_document(cell.recurrent_weights),
        "gates": {
            name: [_law_document(gate.weights), _law_document(gate.recurrent_weights), gate.bias.hex()]
            for name, gate in cell.gates.items()
        },
    }


def _cell(document: Any) -> Cell:
    if isinstance(document, str):
        return Cell(document)
    document = _object("cell", document, Cell)
    if not isinstance(document["gates"], dict):
        raise ValueError(f"gates must be an object, not {checks.brief(document['gates'])}")
    gates = {name: _gate(name, values) for name, values in document["gates"].items()}
    return Cell(document["kind"], _law("recurrent_weights", document["recurrent_weights"]), gates)


def _gate(name: str, document: Any) -> Gate:
    if not isinstance(document, list) or len(document) != 3:
        raise ValueError(
            f"gate {checks.brief(name)} must be a list of two laws and a bias, not {checks.brief(document)}"
        )
    weights, recurrent, bias = document
    return Gate(
        _law("weights", weights),
        _law("recurrent_weights", recurrent),
        _float(f"bias of gate {checks.brief(name)}", bias),
    )


def _law_document(law: str | Initializer | None) -> object:
    return None if law is None else _hexadecimal(asdict(initializer(law)))


def _law(key: str, document: Any) -> Initializer | None:
    return None if document is None else Initializer(**_decimal(key, document, Initializer))


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


def _decimal(key: str, document: Any, made: type[Any]) -> dict[str, Any]:
    names_of_floats = {"gain", "bias_gain", "branch", "shortcut", "inner", "last"}
    values = _object(key, document, made)
    return {
        name: _float(f"{name} of {key}", value) if name in names_of_floats and value is not None else value
        for name, value in values.items()
    }


def _object(key: str, document: Any, made: type[Any]) -> dict[str, Any]:
    """Return a JSON object that holds exactly what something is made of."""
    expected = sorted(field.name for field in fields(made))
    if not isinstance(document, dict):
        raise ValueError(f"{key} must be an object with the keys {expected}, not {checks.brief(document)}")
    if sorted(document) != expected:
        raise ValueError(f"the keys of {key} are {checks.brief(sorted(document))}, not {expected}")
    return document


def _float(key: str, text: Any) -> float:
    try:
        return float.fromhex(text)
    except (OverflowError, TypeError, ValueError):
        raise ValueError(f"{key} must be a float as a hexadecimal string, not {checks.brief(text)}") from None
