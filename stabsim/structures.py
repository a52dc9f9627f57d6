"""What a net is beside its weights and activation: normalization, residual connections, recurrent cells."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from stabsim import checks, names
from stabsim.initializers import Initializer, initializer

NORMALIZATIONS = ("batch", "layer", "rms")
PLACES = ("inside", "between", "before", "after")
GATES: dict[str, tuple[str, ...]] = {  # of each cell, in the order of PyTorch
    "feedforward": (),
    "rnn": (),
    "lstm": ("input", "forget", "candidate", "output"),
    "gru": ("reset", "update", "candidate"),
}


@dataclass(frozen=True)
class Normalization:
    """Normalization of the pre-activations, in front of the activation.

    Parameters
    ----------
    kind : str
        "batch": each unit less its mean over the batch, over its standard deviation (Ioffe & Szegedy 2015,
        arXiv:1502.03167, as in training). "layer": each sample less its mean over the units, over its standard
        deviation (Ba et al. 2016, arXiv:1607.06450). "rms": each sample over its root mean square (Zhang & Sennrich
        2019, arXiv:1910.07467).
    epsilon : float
        Added to the variance, or mean square: 1e-5 unless told, at least 0. Where both are 0 to within rounding, the
        result is 0.

    Notes
    -----
    "preactivation" is what is normalized, z W + b; f, f' and "derivative" are at the normalized values. The backward
    pass goes through the mean and the variance as well.

    Raises
    ------
    TypeError, ValueError
        If the kind is unknown, or epsilon is negative or not finite.

    Examples
    --------
    >>> str(Normalization("batch", epsilon=0.0))
    'batch(epsilon=0)'
    """

    kind: str
    epsilon: float = 1e-5

    def __post_init__(self) -> None:
        names.check_known("normalization", self.kind, NORMALIZATIONS)
        object.__setattr__(self, "epsilon", checks.number("epsilon", self.epsilon, 0.0))

    def __str__(self) -> str:
        """Return the name with its parameter."""
        return names.format_name(self.kind, {"epsilon": self.epsilon})


@dataclass(frozen=True)
class Skip:
    """Residual connections: shortcut * x + branch * F(x) around every block of layers.

    A block is ``layers`` consecutive layers that end with as many units as they begin with; going up from the input,
    a layer at which none begins has no residual connection around it, so that a net may have a first and a last layer
    of other widths.

    Parameters
    ----------
    branch, shortcut : float
        Finite factors, 1 unless told.
    layers : int
        Layers in a branch, 1 unless told.
    activation : str
        Where the activation f stands; with two layers of weights V and W: "inside" every layer of the branch,
        x + f(f(x V) W); "between" them only, x + f(x V) W; "before" each (pre-activation, He et al. 2016,
        arXiv:1603.05027), x + f(f(x) V) W; "after" the sum (He et al. 2015, arXiv:1512.03385), f(x + f(x V) W).
        A normalization n stands in front of each f, but of an f after the sum within the branch, as He et al. have
        it: f(x + n(f(n(x V)) W)).
    inner, last : float
        Factors on the weights of a branch, of those in front of its last layer and of that; at least 0, 1 unless told.

    Notes
    -----
    "activation" is what a layer hands on: after "inside" and "between" the sum. "preactivation" is what is normalized,
    or else what f sees, so that it is the sum with f "before", and "after" without normalization; where a branch ends
    without f it is z W + b, and f' is 1. Biases are part of the branch. The gradient by it is that by z W + b, whose
    factor ``branch`` it has, so that dW = z^T ds everywhere. With f "before", layer 1 takes the inputs as they are, and
    what leaves the net is f of the sum.

    Raises
    ------
    TypeError, ValueError
        If a factor is not a finite number, or ``layers`` or ``activation`` is not allowed.

    Examples
    --------
    >>> Skip(branch=0.1)
    Skip(branch=0.1, shortcut=1.0, layers=1, activation='inside', inner=1.0, last=1.0)
    >>> str(Skip.fixup(blocks=100, layers=2))
    'skip(layers=2, activation=between, inner=0.1, last=0)'
    """

    branch: float = 1.0
    shortcut: float = 1.0
    layers: int = 1
    activation: str = "inside"
    inner: float = 1.0
    last: float = 1.0

    def __post_init__(self) -> None:
        for factor in ("branch", "shortcut"):
            object.__setattr__(self, factor, checks.number(factor, getattr(self, factor)))
        for factor in ("inner", "last"):
            object.__setattr__(self, factor, checks.number(factor, getattr(self, factor), 0.0))
        object.__setattr__(self, "layers", checks.whole_number("layers", self.layers, 1, 1_000_000))
        names.check_known("activation of a Skip", self.activation, PLACES)

    def __str__(self) -> str:
        """Return the spelling that `skip` reads back: what differs from the defaults."""
        given = {
            each.name: getattr(self, each.name) for each in fields(self) if getattr(self, each.name) != each.default
        }
        return names.format_name("skip", given)

    @classmethod
    def scaled(cls, blocks: int, **options: Any) -> Skip:
        """Return branches scaled by 1 / sqrt(blocks) (Hayou et al. 2021, arXiv:2010.12859).

        Raises
        ------
        TypeError, ValueError
            If ``blocks`` is not a whole number of at least 1, or an option is none of the others of a Skip.

        Examples
        --------
        >>> Skip.scaled(100).branch
        0.1
        """
        names.check_parameters("Skip.scaled", options, [each.name for each in fields(cls) if each.name != "branch"])
        return cls(branch=checks.whole_number("blocks", blocks, 1, 10**9) ** -0.5, **options)

    @classmethod
    def fixup(cls, blocks: int, layers: int = 2, **options: Any) -> Skip:
        """Return branches as Fixup initializes them (Zhang et al. 2019, arXiv:1901.09321).

        The last weights are 0, those in front are scaled by blocks^(-1 / (2 layers - 2)).

        Raises
        ------
        TypeError, ValueError
            If a number is not whole, ``blocks`` is below 1 or ``layers`` below 2, or an option is none of a Skip.

        Examples
        --------
        >>> Skip.fixup(blocks=100).inner
        0.1
        """
        names.check_parameters("Skip.fixup", options, [each.name for each in fields(cls)])
        blocks = checks.whole_number("blocks", blocks, 1, 10**9)
        layers = checks.whole_number("layers", layers, 2, 1_000_000)
        given = {"activation": "between", "inner": blocks ** (-1 / (2 * layers - 2)), "last": 0.0}
        return cls(layers=layers, **(given | options))

    def starts(self, widths: tuple[int, ...]) -> tuple[int, ...]:
        """Return, per layer, the layer below from which a shortcut arrives; -1: none does."""
        starts = [-1] * len(widths)
        below = 0
        while below + self.layers < len(widths):
            end = below + self.layers
            if widths[below] == widths[end]:
                starts[end], below = below, end
            else:
                below += 1
        return tuple(starts)


@dataclass(frozen=True)
class Gate:
    """The law of one gate of a cell, where it differs from that of the others.

    Parameters
    ----------
    weights, recurrent_weights : str, Initializer or None
        Of its weights on the input and on the state before, none that sets biases; None: as in the whole cell.
    bias : float
        Mean of its biases, 0 unless told.

    Raises
    ------
    TypeError, ValueError
        If an initializer is unknown or sets biases, or the bias is not finite.

    Examples
    --------
    >>> Gate(bias=1)
    Gate(weights=None, recurrent_weights=None, bias=1.0)
    """

    weights: str | Initializer | None = None
    recurrent_weights: str | Initializer | None = None
    bias: float = 0.0

    def __post_init__(self) -> None:
        for law in ("weights", "recurrent_weights"):
            object.__setattr__(self, law, _law(f"{law} of a Gate", getattr(self, law)))
        object.__setattr__(self, "bias", checks.number("bias of a gate", self.bias))


def _law(argument: str, spec: str | Initializer | None) -> Initializer | None:
    """Return a law of weights alone: biases are told elsewhere."""
    if spec is None:
        return None
    if not isinstance(spec, str | Initializer):
        raise TypeError(f"{argument} must be a name or a stabsim.Initializer, not {checks.brief(spec)}")
    law = initializer(spec)
    if law.bias_gain is not None:
        raise ValueError(
            f"{argument} {str(law)!r} sets biases, which would be ignored: give bias_std or Gate.bias instead"
        )
    return law


class _Gates(Mapping[str, Gate]):
    """A mapping that cannot be changed, and is pickled."""

    def __init__(self, gates: Mapping[str, Gate]) -> None:
        self._gates = dict(gates)

    def __getitem__(self, name: str) -> Gate:
        return self._gates[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._gates)

    def __len__(self) -> int:
        return len(self._gates)

    def __repr__(self) -> str:
        return repr(self._gates)


@dataclass(frozen=True)
class Cell:
    """What a layer is: one of a feedforward net, or one time step of a recurrent net.

    Parameters
    ----------
    kind : str
        "feedforward"; "rnn" (Elman 1990): h_t = f(x_t V + h_(t-1) W + b); "lstm" (Hochreiter & Schmidhuber 1997; Gers
        et al. 2000) and "gru" (Cho et al. 2014, arXiv:1406.1078), with PyTorch's equations but for one bias a gate:
        that of a GRU's candidate stands outside the reset gate, f(x_t V + b + r * (h_(t-1) W)).
    recurrent_weights : str, Initializer or None
        Law of the weights on the state before, none that sets biases; None: the network's ``weights``, which are those
        on the input.
    gates : mapping of str to Gate
        What differs in a gate: "input", "forget", "candidate", "output" of an LSTM, "reset", "update", "candidate" of
        a GRU. What is kept of it cannot be changed.

    Raises
    ------
    TypeError, ValueError
        If a name is unknown, the cell has nothing of the kind, or a law sets biases.

    Examples
    --------
    >>> Cell("lstm", gates={"forget": Gate(bias=1.0)}) == cell("lstm(forget_bias=1)")
    True
    """

    kind: str = "feedforward"
    recurrent_weights: str | Initializer | None = None
    gates: Mapping[str, Gate] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if not isinstance(self.kind, str):
            raise TypeError(f"kind of a Cell must be a name such as 'lstm', not {checks.brief(self.kind)}")
        if self.kind not in GATES:
            raise names.unknown("cell", self.kind, GATES)
        if self.recurrent_weights is not None:
            if self.kind == "feedforward":
                raise ValueError(
                    f"recurrent_weights={checks.brief(self.recurrent_weights)}: a feedforward net has none"
                )
            object.__setattr__(self, "recurrent_weights", _law("recurrent_weights", self.recurrent_weights))
        if not isinstance(self.gates, Mapping):
            raise TypeError(f"gates must map names of gates to stabsim.Gate, not {checks.brief(self.gates)}")
        for name, gate in self.gates.items():
            if not GATES[self.kind]:
                raise ValueError(f"cell {self.kind!r} has no gates, not {checks.brief(name)}")
            names.check_known(f"gate of {self.kind}", name, GATES[self.kind])
            if not isinstance(gate, Gate):
                raise TypeError(f"gates[{name!r}] must be a stabsim.Gate, not {checks.brief(gate)}")
        kept = {name: self.gates[name] for name in GATES[self.kind] if self.gates.get(name, Gate()) != Gate()}
        object.__setattr__(self, "gates", _Gates(kept))

    @property
    def recurrent(self) -> bool:
        """Return whether layers are time steps."""
        return self.kind != "feedforward"

    def laws(self, weights: Initializer) -> tuple[Initializer, ...]:
        """Return the laws of all matrices: those of each gate on the input, then on the state.

        The network's law is ``weights``. An RNN has one gate.
        """
        gates = [self.gates.get(name, Gate()) for name in GATES[self.kind] or ("",)]
        state = self.recurrent_weights or weights
        both = [gate.weights or weights for gate in gates], [gate.recurrent_weights or state for gate in gates]
        return tuple(initializer(law) for laws in both for law in laws)

    def __str__(self) -> str:
        """Return the spelling that `cell` reads back, or, where laws differ, the call."""
        if self.recurrent_weights is None and all(gate == Gate(bias=gate.bias) for gate in self.gates.values()):
            return names.format_name(self.kind, {f"{name}_bias": gate.bias for name, gate in self.gates.items()})
        return repr(self)


def normalization(spec: str | Normalization | None) -> Normalization | None:
    """Return the normalization of a name with parameters: ``"batch(epsilon=0)"``."""
    if spec is None or isinstance(spec, Normalization):
        return spec
    if not isinstance(spec, str):
        raise TypeError(f"normalization must be None, a name or a stabsim.Normalization, not {checks.brief(spec)}")
    name, parameters = names.parse(spec)
    names.check_known("normalization", name, NORMALIZATIONS)
    names.check_parameters(name, parameters, ["epsilon"])
    return Normalization(name, **parameters)  # type: ignore[arg-type]  # the class checks them


def skip(spec: str | Skip | None) -> Skip | None:
    """Return the residual connections of a name with parameters: ``"skip(branch=0.1, layers=2)"``."""
    if spec is None or isinstance(spec, Skip):
        return spec
    if not isinstance(spec, str):
        raise TypeError(
            f"skip must be None, a spelling such as 'skip(branch=0.1)' or a stabsim.Skip, not {checks.brief(spec)}"
        )
    name, parameters = names.parse(spec)
    if name != "skip":
        raise names.unknown("skip", name, ["skip"])
    names.check_parameters(name, parameters, [each.name for each in fields(Skip)])
    layers = parameters.get("layers")
    if isinstance(layers, float) and layers.is_integer():
        parameters["layers"] = int(layers)
    return Skip(**parameters)  # type: ignore[arg-type]  # the class checks them


def cell(spec: str | Cell) -> Cell:
    """Return the cell of a name with the biases of its gates: ``"lstm(forget_bias=1)"``."""
    if isinstance(spec, Cell):
        return spec
    if not isinstance(spec, str):
        raise TypeError(f"cell must be a name or a stabsim.Cell, not {checks.brief(spec)}")
    name, parameters = names.parse(spec)
    if name not in GATES:
        raise names.unknown("cell", name, GATES)
    biases = [f"{gate}_bias" for gate in GATES[name]]
    names.check_parameters(name, [key for key in parameters if key != "recurrent_weights"], biases)
    recurrent = parameters.pop("recurrent_weights", None)
    gates = {key.removesuffix("_bias"): Gate(bias=value) for key, value in parameters.items()}  # type: ignore[arg-type]
    return Cell(name, recurrent, gates)  # type: ignore[arg-type]  # both classes check them
