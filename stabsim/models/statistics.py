"""The quantities of one given net, by layer: those of `stabsim.simulate`, from the net's tensors."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from stabsim.activations import activation
from stabsim.models.layers import Floats
from stabsim.models.passes import ModelTrace
from stabsim.quantities import Quantity, select
from stabsim.stops import Cause, what_stops
from stabsim.structures import GATES

if TYPE_CHECKING:
    import pandas

BOUND = 0.01  # within which of a limit f is saturated, and below which f' is

Statistic = Callable[[Floats], float]


def table(seen: ModelTrace) -> pandas.DataFrame:
    """Return the tidy table of one net: quantity, layer, value, the rows in the order of `stabsim.simulate`."""
    import pandas

    values = by_layer(seen)
    frames = [
        pandas.DataFrame(
            {"quantity": quantity.name, "layer": np.arange(len(values[quantity.name])), "value": values[quantity.name]}
        )
        for quantity in quantities(seen)
    ]
    frame = pandas.concat(frames, ignore_index=True)
    return frame[~frame.value.isna()].reset_index(drop=True).astype({"quantity": "category"})


def quantities(seen: ModelTrace) -> tuple[Quantity, ...]:
    """Return the quantities that there are of a net."""
    features = {*seen.beside, *({"recurrent"} if seen.input else ())}
    return select(None, len(seen.activation[0]), features)


def by_layer(seen: ModelTrace) -> dict[str, Floats]:
    """Return every quantity of a net by layer, NaN where it does not exist."""
    tensors = tensors_of(seen)
    own = dict(_of_several(seen, tensors))
    found = {}
    with np.errstate(all="ignore"):
        for quantity in quantities(seen):
            if quantity.name in own:
                values = own[quantity.name]
            else:
                statistic = _statistic(quantity)
                values = [math.nan if each is None else statistic(each) for each in tensors[quantity.tensor]]
            found[quantity.name] = np.array(values, np.float64)
            found[quantity.name][: quantity.first_layer] = math.nan
    return found


def tensors_of(seen: Any) -> dict[str, list[Any]]:
    """Return tensors by their names in quantities; dW of a recurrent net is that of all gates, at step 1."""
    names = ("activation", "preactivation", "derivative", "activation_gradient", "preactivation_gradient")
    found: dict[str, list[Any]] = {name: getattr(seen, name) for name in names}
    if not seen.input:
        return found | {"weight_gradient": seen.weight_gradient}
    both = np.vstack([np.hstack(seen.weight_gradient), np.hstack(seen.recurrent_weight_gradient)])
    found |= {"weight_gradient": [None, both, *[None] * (len(seen.input) - 2)]}
    found |= {name: getattr(seen, name) for name in ("input", "input_gradient", "cell_state", "cell_state_gradient")}
    (kind,) = seen.beside
    for place, gate in enumerate(GATES[kind]):
        name = gate if gate == "candidate" else f"{gate}_gate"
        found[name] = [None, *(each[place] for each in seen.gates)]
        found[f"{name}_gradient"] = [
            None if each is None else np.split(each, len(GATES[kind]), axis=1)[place]
            for each in seen.preactivation_gradient
        ]
    return found


def _statistic(quantity: Quantity) -> Statistic:
    if quantity.tensor == "weight_gradient" and quantity.statistic == "log10_norm":
        return lambda v: log10(norm(v))
    return STATISTICS[quantity.statistic]


def norm(v: Floats) -> float:
    """Return the Frobenius norm, whatever the size of the values.

    Examples
    --------
    >>> norm(np.array([3e-300, 4e-300])) == 5e-300
    True
    """
    largest = float(np.max(np.abs(v)))
    return largest * float(np.linalg.norm(v / largest)) if 0 < largest < math.inf else largest


def log10(value: float) -> float:
    """Return the logarithm, -inf of 0."""
    return math.log10(value) if value > 0 else -math.inf if value == 0 else math.nan


def _variance(v: Floats) -> float:
    return float(np.mean((v - v.mean()) ** 2))


def _kurtosis(v: Floats) -> float:
    variance = _variance(v)
    return float(np.mean((v - v.mean()) ** 4)) / variance**2 if variance > 0 else math.nan


def _correlation(v: Floats) -> float:
    """Return the mean cosine of samples 1 and 2, 3 and 4, ... but for pairs with a zero sample."""
    one, other = v[: len(v) // 2 * 2 : 2], v[1::2]
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return (
        float(np.mean(np.sum(one * other, axis=1)[lengths > 0] / lengths[lengths > 0])) if np.any(lengths) else math.nan
    )


def _one_signed(v: Floats) -> float:
    alive = v[:, np.any(v != 0, axis=0)]
    signed = np.all(alive >= 0, axis=0) | np.all(alive <= 0, axis=0)
    return float(np.mean(signed)) if signed.size else math.nan


def _no_row(v: Floats) -> float:
    return float(np.mean(~np.any(v, axis=1)))


def _no_column(v: Floats) -> float:
    return float(np.mean(~np.any(v, axis=0)))


STATISTICS: dict[str, Statistic] = {
    "mean": lambda v: float(np.mean(v)),
    "mean_square": lambda v: float(np.mean(v * v)),
    "variance": _variance,
    "kurtosis": _kurtosis,
    "log10_norm": lambda v: log10(norm(v) / math.sqrt(len(v))),
    "zero_fraction": lambda v: float(np.mean(v == 0)),
    "dead_sample_fraction": _no_row,
    "dead_row_fraction": _no_row,
    "dead_unit_fraction": _no_column,
    "dead_column_fraction": _no_column,
    "dead_net_fraction": lambda v: float(not np.any(v)),
    "one_signed_column_fraction": _one_signed,
    "correlation": _correlation,
    "log_mean": lambda v: float(np.mean(np.log(v))),
}


def _saturated(name: str, seen: Floats, value: Floats) -> float:
    """Return the share of f within the bound of its finite limit on the side of its argument, 0 being on the left."""
    lines = activation(name).asymptotes or ((math.nan, 0.0), (math.nan, 0.0))
    low, high = (offset if slope == 0 else math.nan for slope, offset in lines)
    return float(np.mean(np.abs(value - np.where(seen > 0, high, low)) < BOUND))


def _gain(after: Floats, before: Floats) -> float:
    return log10(norm(after)) - log10(norm(before)) if np.any(before) else math.nan


def _shut(dz: Floats, d: Floats) -> float:
    return (norm(dz[d == 0]) / norm(dz)) ** 2 if np.any(dz) and np.any(d == 0) else 0.0 if np.any(dz) else math.nan


def _of_several(seen: Any, tensors: dict[str, list[Any]]) -> Iterator[tuple[str, list[float]]]:
    """Yield the quantities that more than one tensor makes."""
    if seen.seen:
        parts = list(zip(seen.activations, seen.seen, seen.value, strict=True))[1:]
        yield "activation_saturated_fraction", [math.nan, *(_saturated(*each) for each in parts)]
        small = [float(np.mean(np.abs(d) < BOUND)) for d in seen.derivative[1:]]
        yield "derivative_saturated_fraction", [math.nan, *small]
    if seen.input:
        yield from _of_gates(seen, tensors)
        return
    dz, ds = seen.activation_gradient, seen.preactivation_gradient
    d, dw = seen.derivative, seen.weight_gradient
    yield "activation_gradient_log10_gain", [*map(_gain, dz[:-1], ds[1:]), math.nan]
    yield "preactivation_gradient_log10_gain", [math.nan, *map(_gain, ds[1:], dz[1:])]
    yield "weight_gradient_log10_gain", [math.nan, *map(_gain, dw[1:], ds[1:])]
    yield "preactivation_gradient_shut_fraction", [math.nan, *map(_shut, dz[1:], d[1:])]
    pairs = list(zip(seen.activation[:-1], ds[1:], strict=True))
    idle = [float(np.mean(~(np.any(z, axis=1) & np.any(s, axis=1)))) for z, s in pairs]
    yield "weight_gradient_idle_sample_fraction", [math.nan, *idle]
    yield "weight_gradient_dead_net_fraction", [math.nan, *(float(share == 1) for share in idle)]
    if not seen.structures:
        cause = what_stops(seen).cause
        for name, number in (("derivative", Cause.BY_DERIVATIVE), ("activation", Cause.BY_ACTIVATION)):
            yield f"preactivation_gradient_blocked_by_{name}_fraction", np.mean(cause == number, axis=0).tolist()


def _of_gates(seen: Any, tensors: dict[str, list[Any]]) -> Iterator[tuple[str, list[float]]]:
    (kind,) = seen.beside
    for place, gate in enumerate(GATES[kind]):
        name, f = (gate, seen.activations[0]) if gate == "candidate" else (f"{gate}_gate", "sigmoid")
        sums = [np.split(each, len(GATES[kind]), axis=1)[place] for each in seen.preactivation[1:]]
        shares = [_saturated(f, s, value) for s, value in zip(sums, tensors[name][1:], strict=True)]
        yield f"{name}_saturated_fraction", [math.nan, *shares]
        if name == "forget_gate":
            yield "forget_gate_log_mean", [math.nan, *(float(np.mean(-np.logaddexp(0, -s))) for s in sums)]
