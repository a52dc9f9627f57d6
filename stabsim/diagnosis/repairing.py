"""What would repair a network: changes that theory proposes, least first, each simulated before it is told."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from stabsim import theory
from stabsim.diagnosis.judging import STABLE, Judgment, worse
from stabsim.initializers import ALIASES, INITIALIZERS, Initializer, initializer
from stabsim.network import Network
from stabsim.structures import Cell, Gate, Skip

WIDER = (2, 4, 8)
WIDEST = 1024  # units, of a wider net that is tried
NAMES = {  # of the registry, of which the gain is a parameter
    ("normal", "average"): "glorot_normal",
    ("uniform", "average"): "glorot_uniform",
    ("normal", "in"): "lecun_normal",
    ("uniform", "in"): "lecun_uniform",
    ("orthogonal", "largest"): "orthogonal",
}


@dataclass(frozen=True)
class Repair:
    """A change, the network with it, and what became of that.

    Attributes
    ----------
    change : str
        The arguments to change: "weights='he_normal'".
    network : Network
    signal, gradient : Judgment
        Of nets of the changed network that were drawn with a seed of their own.
    seed : int
    nets : int
    """

    change: str
    network: Network
    signal: Judgment
    gradient: Judgment
    seed: int
    nets: int

    @property
    def verdict(self) -> Judgment:
        """The worse of the two."""
        return worse(self.signal, self.gradient)

    @property
    def holds(self) -> bool:
        """Return whether it repairs the network."""
        return self.verdict.kind == STABLE


@dataclass(frozen=True)
class Candidate:
    """A change of the network that may repair it."""

    change: str
    network: Network


def candidates(network: Network, verdict: Judgment) -> Iterator[Candidate]:
    """Yield changes in the order in which they change a net less: each network once, none of them the network itself.

    Gains, laws of the weights, biases, and gates of recurrent nets first; then wider layers, where theory says that
    wide nets are stable, or they are dead; then normalization, and residual connections; then these together.
    """
    seen = {network}
    for spelled, changes in _changes(network, verdict):
        with contextlib.suppress(ValueError, OverflowError):  # which do not go with the rest of the network
            changed = replace(network, **changes)  # type: ignore[arg-type]  # the class checks them
            if changed not in seen:
                seen.add(changed)
                yield Candidate(spelled, changed)


Change = tuple[str, dict[str, object]]


def _changes(network: Network, verdict: Judgment) -> Iterator[Change]:
    proposed = [gain for gain in _gains(network, _bias_variance(network)) if _new(network, gain)]
    gains = [_with_gain(network.weights, gain) for gain in proposed]
    gainful: list[dict[str, object]] = [{"weights": weights} for weights in gains]
    yield from map(_spelled, gainful)
    if network.cell.recurrent:
        yield from _of_cells(network)
        return
    for weights in _laws(network):
        yield _spelled({"weights": weights})
    if _bias_variance(network) > 0.0:
        for gain in _gains(network, 0.0):
            weights = replace(_with_gain(network.weights, gain), bias_gain=None)
            yield _spelled({"weights": weights, "bias_std": 0.0})
    yield from _wider(network, verdict, gains)
    best: list[dict[str, object]] = [{}, *gainful[:1]]
    yield from _structured(network, best)


def _structured(network: Network, best: list[dict[str, object]]) -> Iterator[Change]:
    """Yield normalization and residual connections, with the weights as they are and with the first gain."""
    kinds = [None] if network.normalization else []
    for kind in (*kinds, "layer", "batch"):
        for also in best:
            yield _spelled({"normalization": kind, **also})
    blocks = network.depth if network.skip is None else sum(start >= 0 for start in network.shortcuts)
    skip = replace(network.skip or Skip(), branch=float(f"{Skip.scaled(blocks).branch:.4g}"))
    for also in best:
        yield _spelled({"skip": skip, **also})
    yield _spelled({"normalization": "layer", "skip": skip})


def _of_cells(network: Network) -> Iterator[Change]:
    """Yield an orthogonal matrix on the state, and gates that keep it."""
    cell = network.cell
    for gain in (1.0, *_gains(network, 0.0)):
        law = initializer(f"orthogonal(gain={gain!r})")
        yield _spelled({"cell": replace(cell, recurrent_weights=law)})
    gate = {"lstm": "forget", "gru": "update"}.get(cell.kind)
    if gate is not None:
        for bias in (1.0, round(math.log(max(network.depth, 3)), 1), round(math.log(max(network.depth, 3)) + 2.0, 1)):
            gates = {**cell.gates, gate: replace(cell.gates.get(gate, Gate()), bias=bias)}
            yield _spelled({"cell": replace(cell, gates=gates)})
            law = initializer("orthogonal")
            yield _spelled({"cell": replace(cell, gates=gates, recurrent_weights=law)})


def _wider(network: Network, verdict: Judgment, gains: list[Initializer]) -> Iterator[Change]:
    """Yield wider hidden layers, with the weights as they are and with the first gain."""
    of_width = verdict.law == "infinite width" and abs(verdict.theory) < abs(verdict.bound)
    if not (of_width or verdict.kind == "dead"):
        return
    for factor in WIDER:
        hidden = tuple(factor * width for width in network.widths[1:-1])
        widths = (network.widths[0], *hidden, network.widths[-1])
        if hidden and max(widths) <= WIDEST:
            for also in ({}, *({"weights": weights} for weights in gains[:1])):
                yield _spelled({"widths": widths, **also})


def _gains(network: Network, bias_variance: float) -> list[float]:
    """Return gains that theory proposes, to four digits: critical, then what keeps signals, then gradients."""
    found: list[float] = []
    with contextlib.suppress(ValueError, OverflowError):
        found.append(math.sqrt(theory.critical_weight_variance(network.activation, bias_variance)))
    for direction in ("forward", "backward"):
        with contextlib.suppress(ValueError, OverflowError):
            found.append(theory.gain(network.activation, direction))
    return list(dict.fromkeys(float(f"{gain:.4g}") for gain in found))


def _new(network: Network, gain: float) -> bool:
    """Return whether the weights do not have that gain already, to 1%."""
    return not math.isclose(_with_gain(network.weights, gain).gain, network.weights.gain, rel_tol=0.01)


def _laws(network: Network) -> Iterator[Initializer]:
    """Yield initializers by name for the activation, then orthogonal matrices."""
    if network.activation.positively_homogeneous:
        yield initializer("he_normal")
    yield initializer("lecun_normal")
    for gain in _gains(network, _bias_variance(network)):
        yield initializer(f"orthogonal(gain={gain!r})")


def _with_gain(weights: Initializer, gain: float) -> Initializer:
    """Return weights of that gain by their fan; of constants, and where there is no fan, normal ones by fan-in."""
    if weights.law in ("constant", "identity") or weights.fan == "none":
        law = weights.law if weights.law in ("uniform", "truncated_normal", "orthogonal") else "normal"
        weights = replace(weights, law=law, fan="largest" if law == "orthogonal" else "in", gain=1.0)
    return replace(weights, gain=gain)


def _bias_variance(network: Network) -> float:
    return float(network.weights.bias_std(network.fans[-1][0], network.bias_std)) ** 2


def _spelled(changes: dict[str, object]) -> Change:
    """Return changes with the arguments that make them."""
    return ", ".join(f"{name}={_value(value)}" for name, value in changes.items()), changes


def _value(value: object) -> str:
    if isinstance(value, Initializer):
        return spelled(value)
    if isinstance(value, tuple):
        return repr(value) if len(value) < 6 else f"({value[0]}, *({value[1]},) * {len(value) - 2}, {value[-1]})"
    if isinstance(value, Cell) and value.recurrent_weights is not None:
        return _cell(value)
    if isinstance(value, Skip | Cell):
        return repr(str(value)) if str(value) != repr(value) else repr(value)
    return repr(value)


def _cell(cell: Cell) -> str:
    """Return the call that makes a cell whose state has weights of its own."""
    gates = f", gates={dict(cell.gates)!r}" if cell.gates else ""
    return f"Cell({cell.kind!r}, {spelled(initializer(cell.recurrent_weights or ''))}{gates})"


def spelled(weights: Initializer) -> str:
    """Return the name of the registry with its gain, or the call that makes the weights.

    >>> spelled(initializer("orthogonal(gain=1.5)")), spelled(initializer("xavier_normal"))
    ("'orthogonal(gain=1.5)'", "'glorot_normal'")
    """
    if str(weights) in INITIALIZERS or str(weights) in ALIASES:
        return repr(str(weights))
    name = NAMES.get((weights.law, weights.fan)) if weights.bias_gain is None else None
    if name is None or initializer(named := f"{name}(gain={weights.gain!r})") != weights:
        return repr(weights)
    return repr(named)
