"""Number formats: the first layer at which numbers leave each of them, simulated where it can be, else predicted."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from stabsim.diagnosis.criteria import CONFIDENCE, GRADIENT, SIGNAL, TENSORS, places, shares_of_nets
from stabsim.number_formats import FLOAT32, FORMATS, NumberFormat

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stabsim.result import Result

    Floats = NDArray[np.float64]

HALF = 0.5  # of the nets have failed, in the typical one
NETS = 16  # that are simulated in each format
WIDEST_LOG10 = 300.0  # sizes beyond it count as it
SIMULATED, PREDICTED = "simulated", "predicted"
STATISTICS = ("failed_fraction", "overflow_fraction", "underflow_fraction", "subnormal_fraction", "zero_fraction")
QUANTITIES = tuple(f"{tensor}_{name}" for tensor in TENSORS.values() for name in STATISTICS)


@dataclass(frozen=True)
class FormatLimit:
    """Where the typical net leaves a number format, and how.

    Attributes
    ----------
    format : str
        "float32", "float16", "bfloat16", "float8_e5m2" or "float8_e4m3".
    of : str
        "signal" or "gradient".
    layer : int or None
        The first layer, on the way of the signal or the gradient, at which half of the nets have failed: a number was
        not finite, or all of a layer was 0. None: nowhere.
    earliest, latest : int or None
        Ends of its 95% interval, on the way; ``latest`` None: it may be nowhere.
    what : str
        "overflow" or "zeros"; "" where it does not fail.
    subnormal : int or None
        The first layer at which more than half of the numbers other than 0 are below the smallest normal number, so
        that digits are lost, or everything.
    by : str
        "simulated": nets whose every operation was rounded to it. "predicted": from the share of nets that are dead in
        float32 or float64, or out of its range, and the typical size of numbers in the others, taken to be normal.
    """

    format: str
    of: str
    layer: int | None
    earliest: int | None
    latest: int | None
    what: str
    subnormal: int | None
    by: str


def limits(result: Result, simulated: Callable[[str], Result] | None) -> Iterator[FormatLimit]:
    """Yield where each format fails, forward and back.

    Parameters
    ----------
    result : Result
        In float32 or float64.
    simulated : callable or None
        From the name of a format to the result of nets in it, with `QUANTITIES`; None where there are no such nets.
    """
    yield from _predicted(result, FLOAT32)
    for form in FORMATS.values():
        yield from _predicted(result, form) if simulated is None else _simulated(simulated(form.name))


def _simulated(result: Result) -> Iterator[FormatLimit]:
    for of, layers in zip((SIGNAL, GRADIENT), places(result.network), strict=True):
        found = {name: result.estimates(f"{TENSORS[of]}_{name}") for name in STATISTICS}
        failed = found["failed_fraction"]
        numbers = 1.0 - found["zero_fraction"].estimate + found["underflow_fraction"].estimate
        lost = found["subnormal_fraction"].estimate + found["underflow_fraction"].estimate
        with np.errstate(invalid="ignore", divide="ignore"):
            share = np.nan_to_num(lost / numbers)
        over = np.nan_to_num(found["overflow_fraction"].estimate)
        yield _limit(result, of, layers, (failed.ci_low, failed.estimate, failed.ci_high), share, over > 0.0, SIMULATED)


def _predicted(result: Result, form: NumberFormat) -> Iterator[FormatLimit]:
    """Yield what the typical size of a unit's numbers says, as if they were normal and independent.

    That is of the nets that have any: those that are dead in float32 already, or out of its range, fail for sure.
    """
    widths = np.array(result.network.widths)
    for of, layers in zip((SIGNAL, GRADIENT), places(result.network), strict=True):
        found = result.estimates(f"{TENSORS[of]}_log10_norm")
        units, count = 0.5 * np.log10(widths), result.task.batch * widths
        over, zeros, small = _chances(form, found.estimate - units, count)
        ends = [_chances(form, log10 - units, count) for log10 in (found.ci_low, found.ci_high)]
        chances = np.array([np.maximum(over, zeros), *(np.maximum(*each[:2]) for each in ends)])
        # Of all nets: those that are gone, and of the others those whose numbers leave the format.
        gone, fewest, most = shares_of_nets(result.nets - found.nets, result.nets, CONFIDENCE)
        low = fewest + (1.0 - fewest) * chances.min(axis=0)
        estimate = gone + (1.0 - gone) * chances[0]
        high = most + (1.0 - most) * chances.max(axis=0)
        lost = result.sums.lost.get(TENSORS[of], 0) / result.nets
        overflows = (lost + (1.0 - gone) * over >= gone - lost + (1.0 - gone) * zeros) & (estimate >= HALF)
        yield _limit(result, of, layers, (low, estimate, high), small, overflows, PREDICTED, form.name)


def _chances(form: NumberFormat, log10: Floats, count: NDArray[Any]) -> tuple[Floats, Floats, Floats]:
    """Return, per layer, the chance that any number overflows and that all become 0, and the share below normal ones.

    A number below the smallest normal one is so with 2 Phi(smallest_normal / size) - 1.
    """
    over, zeros, small = np.zeros((3, len(log10)))
    for layer, value in enumerate(log10):
        if not math.isfinite(value):
            continue
        std = 10.0 ** min(max(value, -WIDEST_LOG10), WIDEST_LOG10)
        over[layer] = -math.expm1(count[layer] * math.log1p(-min(form.overflowed_fraction(std), 1.0 - 1e-16)))
        zeros[layer] = form.flushed_fraction(std) ** float(count[layer])
        small[layer] = math.erf(form.smallest_normal / std / math.sqrt(2.0))
    return over, zeros, small


def _limit(
    result: Result,
    of: str,
    layers: NDArray[Any],
    failed: tuple[Floats, Floats, Floats],
    below_normal: Floats,
    over: NDArray[np.bool_],
    by: str,
    name: str | None = None,
) -> FormatLimit:
    """Return where shares first reach a half on the way through the layers."""
    low, estimate, high = (_first(values[layers] >= HALF) for values in failed)
    subnormal = _first(below_normal[layers] > HALF)
    at = [None if place is None else int(layers[place]) for place in (estimate, high, low, subnormal)]
    what = "" if estimate is None else "overflow" if over[layers[: estimate + 1]].any() else "zeros"
    earliest, latest = (at[1], at[2]) if estimate is not None else (None, None)
    return FormatLimit(name or result.task.precision, of, at[0], earliest, latest, what, at[3], by)


def _first(true: NDArray[np.bool_]) -> int | None:
    found = np.flatnonzero(true)
    return int(found[0]) if len(found) else None
