"""What `diagnose` finds: verdicts, shares of what is dead, where formats fail and what repairs it; as text and JSON."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from stabsim.diagnosis.formats import FormatLimit
from stabsim.diagnosis.judging import STABLE, Judgment, worse
from stabsim.diagnosis.repairing import Repair
from stabsim.network import Network
from stabsim.result import Result
from stabsim.theory.mean_field import FixedPoint

if TYPE_CHECKING:
    import pandas

SHARES = (
    "activation_dead_sample_fraction", "activation_dead_unit_fraction", "activation_zero_fraction",
    "derivative_zero_fraction", "derivative_saturated_fraction", "preactivation_gradient_dead_sample_fraction",
    "preactivation_gradient_dead_unit_fraction", "activation_gradient_zero_fraction",
)  # fmt: skip


@dataclass(frozen=True)
class Share:
    """A share at the layer where it is largest, with its 95% interval; where it first is surely more than a half."""

    quantity: str
    layer: int
    estimate: float
    ci_low: float
    ci_high: float
    theory: float
    first_above_half: int | None


@dataclass(frozen=True, repr=False)
class Diagnosis:
    """What `stabsim.diagnose` finds. Printed, it is a report of a few lines.

    Attributes
    ----------
    network : Network
    result : Result
        What was simulated: has the whole table.
    tolerance : float
    signal, gradient : Judgment
        What becomes of either.
    mean_field : FixedPoint or None
        Where wide layers end up, and the depth scales (xi_q, xi_c); None where there is no such theory.
    formats : tuple of FormatLimit
        Where each number format fails; empty if not asked for.
    tried : tuple of Repair
        Changes that were simulated; only the last one may repair the network.
    """

    network: Network
    result: Result
    tolerance: float
    signal: Judgment
    gradient: Judgment
    mean_field: FixedPoint | None
    formats: tuple[FormatLimit, ...]
    tried: tuple[Repair, ...]

    @property
    def verdict(self) -> Judgment:
        """Return which of the two names what to mend first."""
        return worse(self.signal, self.gradient)

    @property
    def stable(self) -> bool:
        """Return whether both the signal and the gradient are, for sure."""
        return self.verdict.kind == STABLE

    @property
    def repair(self) -> Repair | None:
        """Return the first change that was seen to repair the network; None if none was, or none was needed."""
        return next((each for each in self.tried if each.holds), None)

    @property
    def table(self) -> pandas.DataFrame:
        """Return the tidy table of all that was simulated of the network itself, a row a quantity and layer."""
        return self.result.table

    @property
    def shares(self) -> tuple[Share, ...]:
        """Return what is dead, zero or saturated, each at the layer where most is; layer 0, the input, is left out."""
        known = [quantity.name for quantity in self.result.task.table_quantities]
        return tuple(self._share(name) for name in SHARES if name in known)

    def _share(self, name: str) -> Share:
        found = self.result.estimates(name)
        layer = 1 + int(np.nan_to_num(found.estimate[1:], nan=-1.0).argmax())
        above = 1 + np.flatnonzero(found.ci_low[1:] > 0.5)
        if "gradient" in name:
            above = above[::-1]
        exact, limit = (float(values[layer]) for values in self.result.theory(name))
        estimate, low, high = (float(each[layer]) for each in (found.estimate, found.ci_low, found.ci_high))
        first = int(above[0]) if len(above) else None
        return Share(name, layer, estimate, low, high, limit if math.isnan(exact) else exact, first)

    def to_json(self) -> str:
        """Return one JSON document, without NaN and infinity: these are null."""
        task, repair = self.result.task, self.repair
        document = {
            "verdict": self.verdict.kind,
            "stable": self.stable,
            "sentence": self.verdict.sentence,
            "network": _network(self.network),
            "batch": task.batch,
            "nets": self.result.nets,
            "seed": task.seed,
            "format": task.precision,
            "tolerance": self.tolerance,
            "signal": asdict(self.signal),
            "gradient": asdict(self.gradient),
            "mean_field": self.mean_field and asdict(self.mean_field),
            "shares": [asdict(each) for each in self.shares],
            "formats": [asdict(each) for each in self.formats],
            "repair": repair and _repair(repair),
            "tried": [_repair(each) for each in self.tried],
        }
        return json.dumps(finite(document), indent=2, allow_nan=False)

    def __repr__(self) -> str:
        """Return a report of a few lines."""
        from stabsim.diagnosis.wording import lines

        return "\n".join(lines(self))


def _network(network: Network) -> dict[str, object]:
    """Return the arguments of a network as they are spelled."""
    given = {"normalization": network.normalization, "skip": network.skip}
    return {
        "widths": list(network.widths),
        "activation": str(network.activation),
        "weights": str(network.weights),
        "bias_std": network.bias_std,
        **{name: None if value is None else str(value) for name, value in given.items()},
        "cell": str(network.cell),
    }


def _repair(repair: Repair) -> dict[str, object]:
    return {
        "change": repair.change,
        "network": _network(repair.network),
        "verdict": asdict(repair.verdict),
        "signal": asdict(repair.signal),
        "gradient": asdict(repair.gradient),
        "seed": repair.seed,
        "nets": repair.nets,
    }


def finite(value: Any) -> Any:
    """Return what JSON holds of it: null for what is not finite."""
    if isinstance(value, dict):
        return {key: finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
