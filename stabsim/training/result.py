"""What is known of trained nets: what was recorded of each, and its tidy table."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stabsim.estimates import estimate, interval_of_mean
from stabsim.kernels.learner import UNITS_AT, WEIGHTS_AT
from stabsim.kernels.training_record import RECORDED
from stabsim.moments import per_net, summarize
from stabsim.names import unknown
from stabsim.network import Network
from stabsim.training.recorded import SHARES, SIGNALS, blank, layers_of, signals_of

if TYPE_CHECKING:
    import pandas

    from stabsim.quantities import Quantity
    from stabsim.training.training import Training

Floats = NDArray[Any]


@dataclass(frozen=True, repr=False)
class Trained:
    """Nets that `stabsim.training.train` has trained.

    Parameters
    ----------
    training : Training
        How they were.
    quantities : tuple of str
        What was recorded, by name.
    record : array (nets, steps, depth + 1, columns)
        What was recorded of training, NaN from where a net has diverged; `values` has it by name.
    signals : array (nets, steps, depth + 1, columns)
        What was recorded of signals, as a simulation records them; no columns if none were asked for.
    diverged_after : array of int (nets,)
        Steps after which the loss or the gradient of a net was no longer finite; -1: it stayed so.
    parameters : array (nets, steps, ...)
        Weights, biases, scales and shifts, if they were kept: see `weights` and `biases`.
    running : array (nets, steps, ...)
        Running means and variances of batch normalization, likewise: see `running_moments`.
    """

    training: Training
    quantities: tuple[str, ...]
    record: Floats
    signals: Floats
    diverged_after: NDArray[np.int64]
    parameters: Floats
    running: Floats

    @property
    def network(self) -> Network:
        """Return the law of the nets before training."""
        return self.training.network

    @property
    def steps(self) -> tuple[int, ...]:
        """Return after how many steps it was recorded."""
        return self.training.record

    @property
    def divergence(self) -> str:
        """Say how many nets diverged; nothing if none did."""
        after = self.diverged_after[self.diverged_after >= 0]
        return f"{len(after)} of {len(self.record)} nets diverged, first after step {after.min()}" if len(after) else ""

    def __repr__(self) -> str:
        """Return how nets were trained, and after the last steps the estimates of each quantity, one line each."""
        last = self.table[self.table["step"] == self.steps[-1]]
        last = last[last["layer"] == last.groupby("quantity")["layer"].transform("min")]
        width = max(len(name) for name in last["quantity"])
        lines = [
            f"  {row.quantity:<{width}}  {row.estimate: .6g}  [{row.ci_low:.6g}, {row.ci_high:.6g}]  "
            f"{f'layer {row.layer!r}' if row.layer else 'input' if row.quantity in SIGNALS else 'net'}"
            for row in last.itertuples()
        ]
        head = f"{len(self.record)} nets of {self.network!r}, {self.training.told}"
        after = f"after {self.steps[-1]} steps, of the net or the first layer, 95% intervals:"
        return "\n".join([head, after, *lines, *([f"  {self.divergence}"] if self.divergence else [])])

    def values(self, quantity: str) -> Floats:
        """Return what was recorded of each net: (nets, steps, depth + 1).

        Layer 0 is the input for signals, and the whole net for all else. Signals of a recurrent net are by time step,
        (nets, steps, time steps + 1), all else by layer: see `weights`.

        Raises
        ------
        ValueError
            If there is no such quantity, or it was not recorded.
        """
        if quantity not in self.quantities:
            raise unknown("quantity", quantity, self.quantities)
        if quantity in RECORDED:
            return self.record[..., RECORDED.index(quantity)]
        times = range(len(self.steps))
        found = [
            per_net(SIGNALS[quantity], self.signals[:, time], sizes=self._sizes, pivots=self.training.pivots)
            for time in times
        ]
        return np.stack(found, axis=1)

    def weights(self, layer: int) -> Floats:
        """Return W of a layer, (nets, steps, fan_in, fan_out).

        Of a recurrent net, layer 1 is the cell: all gates side by side, those of the inputs above those of the state;
        layer 2 reads the last state.

        Raises
        ------
        ValueError
            If there is no such layer, or ``keep_weights`` was not set.
        """
        fan_in, fan_out = self._fans(layer)
        return self._part(layer, 0, fan_in * fan_out).reshape(*self.record.shape[:2], fan_in, fan_out)

    def biases(self, layer: int) -> Floats:
        """Return b of a layer, (nets, steps, fan_out); see `weights`."""
        fan_in, fan_out = self._fans(layer)
        return self._part(layer, (fan_in + 2 * int(self.training.normalized[layer])) * fan_out, fan_out)

    def scales(self, layer: int) -> Floats:
        """Return by what the normalized values of a layer are multiplied, (nets, steps, fan_out); see `weights`."""
        fan_in, fan_out = self._fans(layer, normalized=True)
        return self._part(layer, fan_in * fan_out, fan_out)

    def shifts(self, layer: int) -> Floats:
        """Return what is added to them, likewise."""
        fan_in, fan_out = self._fans(layer, normalized=True)
        return self._part(layer, (fan_in + 1) * fan_out, fan_out)

    def running_moments(self, layer: int) -> tuple[Floats, Floats]:
        """Return the running means and variances of a layer, (nets, steps, fan_out) each; see `weights`."""
        _, fan_out = self._fans(layer, normalized=True)
        if self.running.size == 0:
            raise ValueError(f"layer {layer} has no running moments: only batch normalization has")
        half, start = self.running.shape[-1] // 2, int(self.training.problem.layout[UNITS_AT, layer])
        return self.running[..., start : start + fan_out], self.running[..., half + start : half + start + fan_out]

    def _fans(self, layer: int, *, normalized: bool = False) -> tuple[int, int]:
        if self.parameters.size == 0:
            raise ValueError("weights were not kept: keep_weights=True keeps them")
        depth = self.training.shape.depth
        if layer not in range(1, depth + 1):
            raise ValueError(f"layer must be from 1 to {depth}, not {layer!r}")
        if normalized and not self.training.normalized[layer]:
            raise ValueError(f"layer {layer} is not normalized")
        fan_in, fan_out = self.training.shape.fans[layer - 1]
        return int(fan_in), int(fan_out)

    def _part(self, layer: int, offset: int, size: int) -> Floats:
        start = int(self.training.problem.layout[WEIGHTS_AT, layer]) + offset
        return self.parameters[..., start : start + size]

    @property
    def _sizes(self) -> dict[str, Floats]:
        """Return, per tensor and layer, how many squares add up to the squared norm."""
        return self.training.shape.sizes({quantity.tensor for quantity in SIGNALS.values()})

    @cached_property
    def table(self) -> pandas.DataFrame:
        """Return means over nets: quantity, step, layer, estimate, std_error, ci_low, ci_high, nets and diverged.

        Layer 0 is the input for signals, and the whole net for all else. Nets that have diverged by a step are in no
        mean: ``diverged`` says how many, ``nets`` how many are. Intervals of 95% are Student's, of shares Wilson's
        with the spread over nets, and of signals those of `stabsim.simulate`.
        """
        import pandas

        frames = [self._rows(quantity) for quantity in self.quantities if quantity in RECORDED]
        if signals := signals_of(self.quantities):
            frames += [self._signal_rows(signals, time) for time in range(len(self.steps))]
        table = pandas.concat(frames, ignore_index=True)
        places = {quantity: place for place, quantity in enumerate(self.quantities)}
        return table.sort_values("quantity", key=lambda names: names.map(places), kind="stable", ignore_index=True)

    def _diverged(self, step: int) -> int:
        return int(((self.diverged_after >= 0) & (self.diverged_after <= step)).sum())

    def _rows(self, quantity: str) -> pandas.DataFrame:
        import pandas

        layers = layers_of(quantity, self.training.shape.depth)
        values = self.values(quantity)[:, :, layers.start : layers.stop]
        there = np.isfinite(values)
        nets = there.sum(axis=0)
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = np.where(there, values, 0.0).sum(axis=0) / nets
            squares = np.where(there, (values - mean) ** 2, 0.0).sum(axis=0)
            error = np.sqrt(squares / (nets - 1) / nets)
        low, high = interval_of_mean(mean, error, nets, share=quantity in SHARES)
        columns: dict[str, Any] = {
            "quantity": quantity, "step": np.repeat(self.steps, len(layers)),
            "layer": np.tile(layers, len(self.steps)), "estimate": mean.ravel(), "std_error": error.ravel(),
            "ci_low": low.ravel(), "ci_high": high.ravel(), "nets": nets.ravel(),
            "diverged": np.repeat([self._diverged(step) for step in self.steps], len(layers)),
        }  # fmt: skip
        return pandas.DataFrame(columns)

    def _signal_rows(self, signals: tuple[Quantity, ...], time: int) -> pandas.DataFrame:
        import pandas

        training, layers = self.training, self.network.depth + 1
        sums = summarize(
            self.signals[:, time], signals, sizes=self._sizes, pivots=training.pivots, blank=blank(signals, layers)
        )
        frames = []
        for quantity in signals:
            found = estimate(quantity, sums, training.pivots)
            columns: dict[str, Any] = {
                "quantity": quantity.name, "step": self.steps[time], "layer": np.arange(layers),
                "estimate": found.estimate, "std_error": found.std_error, "ci_low": found.ci_low,
                "ci_high": found.ci_high, "nets": found.nets, "diverged": self._diverged(self.steps[time]),
            }  # fmt: skip
            frames.append(pandas.DataFrame(columns)[quantity.first_layer :])
        return pandas.concat(frames, ignore_index=True)
