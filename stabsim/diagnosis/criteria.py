"""The criteria that a verdict on an ensemble rests on: a number with its interval, and the bound that it must keep.

A share is of what fails: samples, units or nets. A change is log10 of how many times a typical unit's signal, or
gradient, is that where it comes in. All intervals of a verdict hold together with 95%.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from stabsim.estimates import Estimate, interval_of_mean

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stabsim.network import Network
    from stabsim.result import Result
    from stabsim.task import Task

    Floats = NDArray[np.float64]
    Layers = NDArray[np.int64]

CONFIDENCE = 0.95  # of all intervals of a verdict together
DEAD_SHARE = 0.1
SATURATED_SHARE = 0.75
FLUSHED_SHARE = 0.1  # of the numbers of a layer that become 0 by rounding, where they are those of a shrinking signal
OF_SHARES = 5  # criteria: what has failed and is dead, of signals and of gradients, and what is saturated
SIGNAL, GRADIENT = "signal", "gradient"
TENSORS = {SIGNAL: "activation", GRADIENT: "activation_gradient"}
LOOPS = frozenset({"recurrent", "number_format"})  # features whose kernels do not look at whole rows of gradients


@dataclass(frozen=True)
class Criterion:
    """What is held against a bound, at one layer.

    Attributes
    ----------
    kind : str
        What the net is where the bound is broken: "dead", "saturated", "exploding" or "vanishing".
    of : str
        "signal" or "gradient".
    quantity : str
        The quantity of the table that it is made from.
    layer : int
    estimate, ci_low, ci_high : float
        A share, or the log10 of a factor (``change``).
    bound : float
        Of a change, > 0 for exploding and < 0 for vanishing.
    theory : float
        Of the same number: exact where there is a law, else of infinite width; NaN without.
    law : str
        "exact", "infinite width" or "".
    change : bool
        Whether the numbers are logarithms of a factor.
    nets : int
        How many entered.
    """

    kind: str
    of: str
    quantity: str
    layer: int
    estimate: float
    ci_low: float
    ci_high: float
    bound: float
    theory: float
    law: str
    change: bool
    nets: int

    @property
    def broken(self) -> bool | None:
        """Return whether the bound is broken; None where the interval holds both."""
        low, high = (-self.ci_high, -self.ci_low) if self.bound < 0 else (self.ci_low, self.ci_high)
        if low > abs(self.bound):
            return True
        return False if high <= abs(self.bound) else None


def quantities(task: Task) -> tuple[str, ...]:
    """Return the quantities that a verdict on a task needs."""
    gated = task.network.cell.kind in ("lstm", "gru")
    names = ["activation_dead_sample_fraction", "activation_log10_norm"]
    names += [] if gated else ["derivative_saturated_fraction"]
    names += ["activation_gradient_log10_norm"]
    if not (task.features & LOOPS or task.network.skip):
        names += ["preactivation_gradient_dead_sample_fraction"]
    if task.number_format is not None:
        tensors = ("activation", "preactivation", "activation_gradient", "preactivation_gradient")
        names += [f"{tensor}_{flow}_fraction" for tensor in tensors for flow in ("overflow", "underflow")]
        names += [f"{tensor}_failed_fraction" for tensor in TENSORS.values()]
    return tuple(names)


def places(network: Network) -> tuple[Layers, Layers]:
    """Return the layers at which signals and gradients are looked at, and where they come in: first of each.

    Signals come in at the inputs, or, of a recurrent net, at the first time step; gradients at the last layer. The
    inside of a residual branch is left out: it is to be small where its last weights are (Fixup).
    """
    inside = np.zeros(len(network.widths), np.bool_)
    for end, start in enumerate(network.shortcuts):
        if start >= 0:
            inside[start + 1 : end] = True
    layers = np.flatnonzero(~inside)
    signal = layers[1:] if network.cell.recurrent else layers
    return signal, layers[:0:-1]


def criteria(result: Result, tolerance: float, looks: int) -> Iterator[Criterion]:
    """Yield all criteria of a result, those of what names a cause before those of its consequences."""
    signal, gradient = places(result.network)
    # Half of the risk is for the shares, half for the changes at all layers (Bonferroni).
    risk = (1.0 - CONFIDENCE) / (2 * looks)
    of_shares, of_saturation = 1.0 - risk / OF_SHARES, 1.0 - risk / (OF_SHARES * result.network.depth)
    of_changes = 1.0 - risk / (len(signal) + len(gradient))
    bound = math.log10(tolerance)
    for of, layers in ((SIGNAL, signal), (GRADIENT, gradient)):
        yield from _failed(result, of, int(layers[-1]), of_shares)
        yield from _dead(result, of, int(layers[-1]), of_shares)
        if of == SIGNAL:
            yield from _saturated(result, of_saturation)
        yield from _changes(result, of, layers, bound, of_changes)


def _failed(result: Result, of: str, layer: int, confidence: float) -> Iterator[Criterion]:
    """Yield the share of nets that have left the range of the numbers, or sunk to 0 in it."""
    tensor = TENSORS[of]
    if result.task.number_format is None:
        lost = result.sums.lost.get(tensor)
        if lost is None or not lost[layer]:
            return
        share = _of_nets(int(lost[layer]), result.nets, confidence)
        yield Criterion(
            "exploding", of, f"{tensor}_log10_norm", layer, *share, DEAD_SHARE, math.nan, "", False, result.nets
        )
        return
    over = any(_most(result, f"{each}_overflow_fraction") > 0.0 for each in (tensor, f"pre{tensor}"))
    kind = "exploding" if over else _of_zeros(result, tensor)
    yield _share(result, kind, of, f"{tensor}_failed_fraction", layer, DEAD_SHARE, confidence)


def _dead(result: Result, of: str, layer: int, confidence: float) -> Iterator[Criterion]:
    """Yield the share of samples whose signal or gradient is exactly 0, or, where only nets are told apart, of nets."""
    tensor, kind = TENSORS[of], _of_zeros(result, TENSORS[of])
    rows = f"{'activation' if of == SIGNAL else 'preactivation_gradient'}_dead_sample_fraction"
    if rows in {quantity.name for quantity in result.task.table_quantities}:
        yield _share(result, kind, of, rows, layer, DEAD_SHARE, confidence)
        return
    norm, lost = result.estimates(f"{tensor}_log10_norm"), result.sums.lost.get(tensor)
    alive = int(norm.nets[layer]) + (0 if lost is None else int(lost[layer]))
    share = _of_nets(result.nets - alive, result.nets, confidence)
    yield Criterion(kind, of, f"{tensor}_log10_norm", layer, *share, DEAD_SHARE, math.nan, "", False, result.nets)


def _of_zeros(result: Result, tensor: str) -> str:
    """Return what zeros are a sign of: in a number format, of numbers below its range, where many became 0."""
    if result.task.number_format is None:
        return "dead"
    flushed = max(_most(result, f"{each}_underflow_fraction") for each in (tensor, f"pre{tensor}"))
    return "vanishing" if flushed > FLUSHED_SHARE else "dead"


def _most(result: Result, quantity: str) -> float:
    """Return the estimate at the layer where it is largest."""
    return float(np.nan_to_num(result.estimates(quantity).estimate).max())


def _saturated(result: Result, confidence: float) -> Iterator[Criterion]:
    """Yield the share of f' near 0, at the layer where it is largest."""
    name = "derivative_saturated_fraction"
    if name in {quantity.name for quantity in result.task.table_quantities}:
        found = result.estimates(name, confidence=confidence).estimate
        if not np.isnan(found).all():
            layer = int(np.nanargmax(found))
            yield _share(result, "saturated", SIGNAL, name, layer, SATURATED_SHARE, confidence)


def _changes(result: Result, of: str, layers: Layers, bound: float, confidence: float) -> Iterator[Criterion]:
    """Yield how many times a typical unit's signal, or gradient, is that where it comes in: where most, where least."""
    name = f"{TENSORS[of]}_log10_norm"
    widths = np.array(result.network.widths)
    change, low, high = changes(result.estimates(name, confidence=confidence), widths, layers)
    if np.isnan(change[1:]).all():
        return
    exact, limit = (_relative(values, widths, layers) for values in result.theory(name))
    for kind, sign in (("exploding", 1.0), ("vanishing", -1.0)):
        place = 1 + int(np.nanargmax(sign * change[1:]))
        theory, law = _known(exact[place], limit[place])
        yield Criterion(
            kind, of, name, int(layers[place]), float(change[place]), float(low[place]), float(high[place]),
            sign * bound, theory, law, True, result.nets,
        )  # fmt: skip


def changes(found: Estimate, widths: Layers, layers: Layers) -> tuple[Floats, Floats, Floats]:
    """Return log10 of the root mean square of a unit over that at the first of some layers, with an interval.

    The interval is the sum of both, which is at least as wide as that of the difference, however they depend on each
    other. Below two nets there is none: it is infinite. Where there is no signal at the first layer, as with inputs of
    zeros, the first one that has any stands for it.
    """
    few = found.nets[layers] < 2
    low, high = np.where(few, -np.inf, found.ci_low[layers]), np.where(few, np.inf, found.ci_high[layers])
    units = 0.5 * np.log10(widths[layers])
    values = found.estimate[layers] - units
    there = np.flatnonzero(np.isfinite(values))
    if len(there) == 0:
        return values, low, high
    first = there[0]
    return values - values[first], low - units - (high - units)[first], high - units - (low - units)[first]


def _relative(known: Floats, widths: Layers, layers: Layers) -> Floats:
    """Return what theory knows of a log10 norm in the same way."""
    values = known[layers] - 0.5 * np.log10(widths[layers])
    return np.asarray(values - values[0])


def _share(result: Result, kind: str, of: str, quantity: str, layer: int, bound: float, confidence: float) -> Criterion:
    """Return a share at a layer as a criterion."""
    found = result.estimates(quantity, confidence=confidence)
    theory, law = _known(*(float(values[layer]) for values in result.theory(quantity)))
    nets = int(found.nets[layer])
    low, high = (0.0, 1.0) if nets == 0 else (float(found.ci_low[layer]), float(found.ci_high[layer]))
    return Criterion(
        kind, of, quantity, layer, float(found.estimate[layer]), low, high, bound, theory, law, False, nets
    )


def shares_of_nets(numbers: Layers, nets: int, confidence: float) -> tuple[Floats, Floats, Floats]:
    """Return shares of nets with their intervals."""
    shares = numbers / nets
    error = np.sqrt(shares * (1.0 - shares) / max(nets - 1, 1))
    low, high = interval_of_mean(shares, error, np.full(len(shares), nets), share=True, confidence=confidence)
    return shares, low, high


def _of_nets(number: int, nets: int, confidence: float) -> tuple[float, float, float]:
    """Return a share of nets with its interval."""
    share, low, high = shares_of_nets(np.array([number]), nets, confidence)
    return float(share[0]), float(low[0]), float(high[0])


def _known(exact: float, limit: float) -> tuple[float, str]:
    """Return what theory says, and as which law."""
    if math.isfinite(exact):
        return float(exact), "exact"
    return (float(limit), "infinite width") if math.isfinite(limit) else (math.nan, "")
