"""``simulate``: a network and a number of nets in, a table of estimates with intervals out."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stabsim.arguments import make_task
from stabsim.checks import number, whole_number
from stabsim.estimates import Estimate, Looks, estimate, relative_error
from stabsim.moments import Sums
from stabsim.names import unknown
from stabsim.network import Network
from stabsim.plan import Plan
from stabsim.quantities import Quantity
from stabsim.task import LARGEST_NET, Bins, Task
from stabsim.theory.exact import ExactLaws
from stabsim.theory.infinite_width import WideLimit
from stabsim.threads import available

if TYPE_CHECKING:
    import pandas

Floats = NDArray[np.float64]
Progress = Callable[["Result", int], None]

# Where the top 1% of nets hold more than this share of the sum of mean squares, the plain mean has not converged.
UNCONVERGED = 0.2

# Fewer nets end no search for a relative error: confidence sequences rest on the central limit theorem, and a spread
# over 100 nets is known to 7% (normal values; mean squares of narrow nets are worse).
FEWEST_NETS = 100


def simulate(
    network: Network,
    *,
    nets: int,
    batch: int = 1,
    seed: int = 0,
    inputs: str | NDArray[Any] | None = None,
    output_gradient: NDArray[Any] | None = None,
    sampler: str = "auto",
    precision: str = "float32",
    threads: int | None = None,
    device: str = "cpu",
    samples: Sequence[str] = (),
    progress: Progress | None = None,
    quantities: Sequence[str] | None = None,
    histograms: Mapping[str, Bins] | None = None,
    saturation: float = 0.01,
    target_rel_error: float | None = None,
) -> Result:
    """Run an ensemble of randomly initialized nets forward and backward, and estimate how signals travel.

    Parameters
    ----------
    network : Network
        The law of one net.
    nets : int
        How many independent nets to draw.
    batch : int
        Samples that go through each net together; 1 unless told.
    seed : int
        From 0 to 2**64 - 1. A net is a function of the seed and its number alone: the same arguments give the same
        bits, whatever the number of threads.
    inputs : None, str or array (samples, widths[0])
        None: standard normal, new for each net. A name: a real data set (``"digits"``, ``"digits_raw"``). Each net
        draws ``batch`` of the samples without replacement; all of them, in order, if there are as many.
    output_gradient : None or array (batch, widths[-1])
        The gradient of the loss by the last activations. None: standard normal, new for each net.
    sampler : str
        "dense" forms W. "matrix_free" draws only what samples and gradients ask of W, which is exact in law and linear
        in the width, but for zeros and signs of the dW of a batch. (Zeros of dW are those of generic values: sums that
        cancel exactly, as with inputs and an output gradient of whole numbers, do not count.) It needs weights of law
        "normal" or "orthogonal", and draws other nets than "dense" with the same seed. "auto" takes the cheaper one
        for the network, batch and precision; which that was is ``result.task.sampler``.
    precision : str
        "float32" or "float64"; sums over values are float64 in both.
    threads : int, optional
        As many as there are processors, unless told.
    device : str
        "cpu".
    samples : sequence of str
        Quantities to keep for every net, in ``result.samples``.
    progress : callable, optional
        Called after each chunk with the result so far and the number of nets asked for.
    quantities : sequence of str, optional
        Quantities to estimate; all of them unless told. What is not asked for is not computed.
    histograms : mapping of str to (low, high, bins), optional
        Tensors ("activation", "preactivation", "activation_gradient", "preactivation_gradient") whose values are
        counted in equal bins, the same number for all.
    saturation : float
        Below this, f' and the distance of f to its limit count as saturated.
    target_rel_error : float, optional
        Between 0 and 1. Nets are drawn, a chunk at a time, until both ends of the interval of each of the
        ``quantities`` at each layer are within this much of its estimate, or until there are ``nets`` of them:
        ``result.reached_target`` says which. Intervals are then a confidence sequence, which holds the truth with 95%
        whenever one stops; they are 1.5 to 2.5 times as wide as those of as many nets fixed ahead. Of a log10 norm it
        is the error of the norm; of a fraction below the target, it is by the target in place of the estimate. Never
        reached: with fewer than 100 nets, by quantities without an estimate, and where few nets own the mean
        (``top_share`` above 0.2).
        Quantities whose truth may be 0 (means, correlation) have no relative error: name ``quantities`` without them.

    Returns
    -------
    Result
        With ``table``, ``samples`` and ``histograms``.

    Raises
    ------
    TypeError, ValueError
        If an argument is not allowed: its name, its value and what is allowed.
    MemoryError
        If one net does not fit into memory.

    Warns
    -----
    RuntimeWarning
        If nets overflow, which only an activation without known asymptotes can make them do. If ``target_rel_error``
        is not reached: which quantity, at which layer, is furthest from it.

    Examples
    --------
    >>> network = Network(widths=(64,) * 11, activation="relu", weights="he_normal")
    >>> result = simulate(network, nets=500, seed=1)
    >>> row = result.table.set_index(["quantity", "layer"]).loc[("activation_mean_square", 10)]
    >>> bool(row.ci_low < row.theory < row.ci_high)
    True
    """
    task = make_task(
        network, batch=batch, seed=seed, inputs=inputs, output_gradient=output_gradient, sampler=sampler,
        precision=precision, saturation=saturation, quantities=quantities, samples=samples, histograms=histograms,
    )  # fmt: skip
    nets = whole_number("nets", nets, 1, LARGEST_NET)
    if device != "cpu":
        raise ValueError(f"device must be 'cpu' in this version, not {device!r}")
    if progress is not None and not callable(progress):
        raise TypeError(f"progress must be None or a function of a Result and the number of nets, not {progress!r}")
    target = None if target_rel_error is None else check_target(target_rel_error, task)
    plan = Plan(task)
    result: Result | None = None
    with contextlib.closing(plan.run(plan.chunks(nets), count_threads(threads))) as chunks:
        for sums in chunks:
            result = Result(plan, sums if result is None else result.sums.merge(sums), target)
            if progress is not None:
                progress(result, nets)
            if result.reached_target:
                break  # what is being simulated beyond is dropped
    assert result is not None
    for problem in ("; ".join(result.overflowed()), result.missed()):
        if problem:
            warnings.warn(problem, RuntimeWarning, stacklevel=2)
    return result


def check_target(target_rel_error: float, task: Task) -> float:
    """Return a checked relative error, which all quantities of the task must have.

    Raises
    ------
    TypeError, ValueError
        If it is no number between 0 and 1, or if the truth of a quantity may be 0.
    """
    target = number("target_rel_error", target_rel_error, 0.0, 1.0, open_ends=True)
    signed = [q.name for q in task.table_quantities if q.kind == "mean" or q.statistic == "correlation"]
    if signed:
        raise ValueError(
            f"target_rel_error={target!r}: quantities whose truth may be 0 have no relative error; "
            f"name quantities without {', '.join(signed)}"
        )
    return target


def count_threads(threads: int | None) -> int:
    """Return a checked number of threads; None: one per processor."""
    return available() if threads is None else whole_number("threads", threads, 1, 1024)


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
        return estimate(known[quantity], self.sums, self.plan.pivots, confidence=confidence, looks=self._looks)

    @property
    def _looks(self) -> Looks:
        return "one" if self.target_rel_error is None else "every"

    @cached_property
    def _exact(self) -> ExactLaws:
        return ExactLaws(self.task)

    @cached_property
    def _limit(self) -> WideLimit:
        return WideLimit(self.task)

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
        columns = {
            "quantity": quantity.name,
            "layer": layers,
            "estimate": found.estimate,
            "std_error": found.std_error,
            "ci_low": found.ci_low,
            "ci_high": found.ci_high,
            "theory": self._exact.predict(quantity.name),
            "infinite_width": self._limit.predict(quantity.name),
            "nets": found.nets,
            "top_share": found.top_share,
        }
        return pandas.DataFrame(columns)[(layers >= quantity.first_layer) & np.isfinite(found.estimate)]

    def overflowed(self) -> list[str]:
        """Say where nets left the range of the precision, one line a tensor that did."""
        lines = []
        for name, lost in self.sums.lost.items():
            if lost.any():
                layers = np.nonzero(lost)[0]
                lines.append(
                    f"{name} left the range of {self.task.precision} in up to {lost.max()} of {self.nets} nets, "
                    f"layers {layers[0]} to {layers[-1]}"
                )
        return lines

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
        worst = self._furthest
        return (
            f"target_rel_error={self.target_rel_error!r} is not reached by {self.nets} nets; "
            f"furthest from it is {worst.quantity} at layer {worst.layer}: {worst.reason}"
        )

    @cached_property
    def _furthest(self) -> _Distance:
        """Return the largest relative error of all quantities and layers; of those without, the largest top_share."""
        return max((self._distance(q) for q in self.task.table_quantities), key=lambda d: (d.error, d.share))

    def _distance(self, quantity: Quantity) -> _Distance:
        found = self.estimates(quantity.name)
        few, owned = found.nets < FEWEST_NETS, found.top_share > UNCONVERGED
        relative = relative_error(quantity, found, self.target_rel_error or 0.0)
        errors, shares = np.where(few | owned, np.inf, relative), np.nan_to_num(found.top_share)
        errors[: quantity.first_layer] = -np.inf
        layer = int(np.lexsort((shares, errors))[-1])
        if few[layer]:
            reason = f"{found.nets[layer]} nets, fewer than {FEWEST_NETS}"
        elif owned[layer]:
            reason = f"few nets own the mean, 1% of them {shares[layer]:.0%}"
        elif np.isinf(relative[layer]):
            reason = "no estimate with an interval"
        else:
            reason = f"{relative[layer]:.3g}"
        return _Distance(float(errors[layer]), float(shares[layer]), quantity.name, layer, reason)

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


@dataclass(frozen=True)
class _Distance:
    """How far a quantity is from a target, at the layer where it is furthest, and what that is in words."""

    error: float
    share: float
    quantity: str
    layer: int
    reason: str
