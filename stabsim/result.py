"""What is known of an ensemble: its tidy table of estimates, next to theory, and what else was asked for."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stabsim.estimates import UNCONVERGED, Estimate, Looks, estimate
from stabsim.moments import Sums
from stabsim.names import unknown
from stabsim.network import Network
from stabsim.plan import Plan
from stabsim.quantities import Quantity
from stabsim.target import Distance, furthest
from stabsim.task import Task
from stabsim.theory.exact import ExactLaws
from stabsim.theory.infinite_width import WideLimit
from stabsim.theory.residual_laws import ResidualLaws, laws_of

if TYPE_CHECKING:
    import pandas

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Result:
    """What is known of an ensemble: a table of estimates, and what else was asked for."""

    plan: Plan
    sums: Sums
    target_rel_error: float | None = None

    @property
    def task(self) -> Task:
        """Return what was simulated."""
        return self.plan.task

    @property
    def network(self) -> Network:
        """Return the law of the nets."""
        return self.task.network

    @property
    def nets(self) -> int:
        """Return how many nets were drawn."""
        return self.sums.nets

    @property
    def samples(self) -> dict[str, Floats]:
        """Return values per net, (nets, depth + 1), by quantity; NaN at layers where it does not exist."""
        return self.sums.samples

    @cached_property
    def histograms(self) -> dict[str, tuple[Floats, NDArray[np.int64]]]:
        """Return (edges, counts) by tensor; counts (depth + 1, bins + 2) begin and end with what lies outside."""
        return {
            tensor: (np.linspace(low, high, number + 1), self.sums.histograms[tensor])
            for tensor, (low, high, number) in self.task.histograms
        }

    def estimates(self, quantity: str, *, confidence: float = 0.95) -> Estimate:
        """Return the estimates of one quantity of the table at every layer as arrays (depth + 1,)."""
        known = {q.name: q for q in self.task.table_quantities}
        if quantity not in known:
            raise unknown("quantity", quantity, known)
        looks: Looks = "one" if self.target_rel_error is None else "every"
        return estimate(known[quantity], self.sums, self.plan.pivots, confidence=confidence, looks=looks)

    @cached_property
    def _exact(self) -> ExactLaws | ResidualLaws:
        return laws_of(self.task)

    @cached_property
    def _limit(self) -> WideLimit:
        return WideLimit(self.task)

    def theory(self, quantity: str) -> tuple[Floats, Floats]:
        """Return the exact law and the limit of a quantity at every layer; none is known of recurrent nets."""
        if self.network.cell.recurrent:
            nothing = np.full(len(self.network.widths), np.nan)
            return nothing, nothing
        return self._exact.predict(quantity), self._limit.predict(quantity)

    @cached_property
    def table(self) -> pandas.DataFrame:
        """Return the tidy table, a row a quantity and layer.

        Its columns are quantity, layer, estimate, std_error, ci_low, ci_high, theory, infinite_width, nets, top_share.
        Intervals are 95%, with a target whenever one stops. ``theory`` is exact for these nets, and ``infinite_width``
        what the quantity tends to as all widths grow; both are NaN where no formula applies. ``top_share`` (of mean
        squares, variances and kurtoses) is the share of the sum of mean squares that the top 1% of nets, at least one,
        hold. A value that float64 cannot hold has no row: ``log10_norm`` has.
        """
        import pandas

        frame = pandas.concat([self._rows(q) for q in self.task.table_quantities], ignore_index=True)
        return frame.astype({"quantity": "category"})

    def _rows(self, quantity: Quantity) -> pandas.DataFrame:
        import pandas

        found = self.estimates(quantity.name)
        layers = np.arange(len(found.estimate))
        theory, infinite_width = self.theory(quantity.name)
        columns = {
            "quantity": quantity.name,
            "layer": layers,
            "estimate": found.estimate,
            "std_error": found.std_error,
            "ci_low": found.ci_low,
            "ci_high": found.ci_high,
            "theory": theory,
            "infinite_width": infinite_width,
            "nets": found.nets,
            "top_share": found.top_share,
        }
        return pandas.DataFrame(columns)[(layers >= quantity.first_layer) & np.isfinite(found.estimate)]

    def overflowed(self) -> list[str]:
        """Say where nets left the range of the precision, or have no value of a user's own, one line each."""
        lines: list[str] = []
        for quantity in self.task.functions:
            if quantity.name in self.sums.groups:
                left_out = self.nets - self.sums.groups[quantity.name].count
                left_out[: quantity.first_layer] = 0
                lines += self._where(left_out, f"{quantity.name} is not finite", ", which are left out")
        for name, lost in self.sums.lost.items():
            lines += self._where(lost, f"{name} left the range of {self.task.precision}")
        return lines

    def _where(self, counts: NDArray[np.int64], what: str, then: str = "") -> list[str]:
        """Say in how many nets, and at which layers, something happened; nothing if it did not."""
        if not counts.any():
            return []
        layers = np.nonzero(counts)[0]
        return [f"{what} in up to {counts.max()} of {self.nets} nets{then}, layers {layers[0]} to {layers[-1]}"]

    def unconverged(self) -> list[str]:
        """Name the quantities whose mean squares few nets own, with the layers where the top 1% hold over a fifth."""
        rows = self.table[self.table["top_share"] > UNCONVERGED]
        firsts = rows.groupby("quantity", observed=True)["layer"]
        return [f"{name}: layers {low} to {high}" for name, low, high in zip(
            firsts.min().index, firsts.min(), firsts.max(), strict=True
        )]  # fmt: skip

    @property
    def reached_target(self) -> bool | None:
        """Return whether every quantity at every layer has ``target_rel_error``; None without one."""
        return None if self.target_rel_error is None else self._furthest.error <= self.target_rel_error

    def missed(self) -> str:
        """Say what is furthest from the target, in one line; nothing if it is reached, or there is none."""
        if self.reached_target is not False:
            return ""
        return (
            f"target_rel_error={self.target_rel_error!r} is not reached by {self.nets} nets; "
            f"furthest from it is {self._furthest}"
        )

    @cached_property
    def _furthest(self) -> Distance:
        assert self.target_rel_error is not None
        estimates = ((quantity, self.estimates(quantity.name)) for quantity in self.task.table_quantities)
        return furthest(estimates, self.target_rel_error, recurrent=self.task.network.cell.recurrent)

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write the table as CSV, floats in full."""
        self.table.to_csv(path, index=False)

    def __repr__(self) -> str:
        """Return the network and the last layer's estimates, one line each."""
        table = self.table
        last = table[table["layer"] == table.groupby("quantity", observed=True)["layer"].transform("max")]
        width = max((len(name) for name in last["quantity"]), default=0)
        lines = [
            f"  {row.quantity:<{width}}  {row.estimate: .6g}  [{row.ci_low:.6g}, {row.ci_high:.6g}]"
            for row in last.itertuples()
        ]
        head = f"{self.nets} nets of {self.network!r}, batch {self.task.batch}; last layer, 95% intervals:"
        tail = [f"  few nets own the mean: {line}" for line in self.unconverged()]
        if self.reached_target is not None:
            tail.append(f"  {self.missed() or f'target_rel_error={self.target_rel_error!r} is reached at every layer'}")
        return "\n".join([head, *lines, *tail])


def growing(
    plan: Plan,
    chunks: Iterable[tuple[int, int]],
    threads: int,
    *,
    before: Result | None = None,
    target: float | None = None,
) -> Generator[Result]:
    """Yield results of more and more nets, a chunk at a time, beside those of ``before``.

    Whoever stops early closes it; what is being simulated beyond is dropped.
    """
    result = before
    with contextlib.closing(plan.run(chunks, threads)) as found:
        for sums in found:
            result = Result(plan, sums if result is None else result.sums.merge(sums), target)
            yield result
