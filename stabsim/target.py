"""``target_rel_error``: how narrow intervals are to be relative to their estimates, and which is furthest from it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stabsim.checks import number
from stabsim.estimates import UNCONVERGED, Estimate
from stabsim.quantities import WEIGHT_TENSORS, Quantity
from stabsim.task import Task

Floats = NDArray[np.float64]

# Fewer nets end no search for a relative error: confidence sequences rest on the central limit theorem, and a spread
# over 100 nets is known to 7% (normal values; mean squares of narrow nets are worse).
FEWEST_NETS = 100


@dataclass(frozen=True)
class Distance:
    """How far a quantity is from a target, at the layer where it is furthest: the relative error, or why there is none.

    ``error`` is infinite where the target cannot be reached yet; ``share`` is the ``top_share`` there, 0 without one.
    """

    error: float
    share: float
    quantity: str
    layer: int
    reason: str

    def __str__(self) -> str:
        """Return it in words."""
        return f"{self.quantity} at layer {self.layer}: {self.reason}"


def check_target(target_rel_error: float, task: Task) -> float:
    """Return a checked relative error, which all quantities of the task must have.

    Raises
    ------
    TypeError, ValueError
        If it is no number between 0 and 1, or if the truth of a quantity may be 0.
    """
    target = number("target_rel_error", target_rel_error, 0.0, 1.0, open_ends=True)
    signed = [q.name for q in task.table_quantities if q.signed]
    if signed:
        raise ValueError(
            f"target_rel_error={target!r}: quantities whose truth may be 0 have no relative error; "
            f"name quantities without {', '.join(signed)}"
        )
    return target


def furthest(estimates: Iterable[tuple[Quantity, Estimate]], target: float, *, recurrent: bool = False) -> Distance:
    """Return the largest relative error of all quantities and layers; of those without, the largest top_share."""
    found = (distance(*each, target, recurrent=recurrent) for each in estimates)
    return max(found, key=lambda each: (each.error, each.share))


def distance(quantity: Quantity, found: Estimate, target: float, *, recurrent: bool = False) -> Distance:
    """Return how far a quantity is from a target, at the layers where it exists."""
    few, owned = found.nets < FEWEST_NETS, found.top_share > UNCONVERGED
    relative = relative_error(quantity, found, target)
    errors, shares = np.where(few | owned, np.inf, relative), np.nan_to_num(found.top_share)
    errors[~_exists(quantity, len(errors), recurrent)] = -np.inf
    layer = int(np.lexsort((shares, errors))[-1])
    if few[layer]:
        reason = f"{found.nets[layer]} nets, fewer than {FEWEST_NETS}"
    elif owned[layer]:
        reason = f"few nets own the mean, 1% of them {shares[layer]:.0%}"
    elif np.isinf(relative[layer]):
        reason = "no estimate with an interval"
    else:
        reason = f"{relative[layer]:.3g}"
    return Distance(float(errors[layer]), float(shares[layer]), quantity.name, layer, reason)


def _exists(quantity: Quantity, layers: int, recurrent: bool) -> NDArray[np.bool_]:
    """Return at which layers a quantity exists: the first state of a recurrent net is 0, and dW is told at layer 1."""
    exists = np.arange(layers) >= quantity.first_layer
    if recurrent and quantity.tensor in ("activation", "cell_state"):
        exists[0] = False
    if recurrent and quantity.tensor in WEIGHT_TENSORS:
        exists[2:] = False
    return exists


def relative_error(quantity: Quantity, found: Estimate, smallest_fraction: float) -> Floats:
    """Return how far the further end of each interval is from the estimate, by the estimate; inf without either.

    Of a log10 norm it is that of the norm, whose natural log moves as much. That of a fraction below
    ``smallest_fraction`` is by that: a fraction of 0 has no relative error, and one of 10^-6 none that can be reached.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        distance = np.maximum(found.ci_high - found.estimate, found.estimate - found.ci_low)
        size = np.abs(found.estimate)
        if quantity.logarithm:
            size = np.full_like(size, math.log10(math.e))
        elif quantity.kind == "fraction":
            size = np.maximum(size, smallest_fraction)
        relative = np.where(distance == 0, 0.0, distance / size)
    return np.where(np.isnan(relative), np.inf, relative)
