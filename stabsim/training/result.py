"""What is known of trained nets: what was recorded of each, and its tidy table."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stabsim.kernels.training_record import RECORDED
from stabsim.names import unknown
from stabsim.network import Network

if TYPE_CHECKING:
    import pandas

Floats = NDArray[Any]

OF_LAYERS = ("weight_gradient_one_signed_column_fraction", "weight_gradient_dead_column_fraction",
             "distinct_units", "effective_units", "unit_spread")  # fmt: skip
OF_NETS = ("loss",)


@dataclass(frozen=True, repr=False)
class Descent:
    """Nets that `stabsim.training.descend` has trained.

    Parameters
    ----------
    network : Network
        The law of the nets before training.
    steps : tuple of int
        After how many steps it was recorded.
    record : array (nets, steps, depth + 1, quantities)
        What was recorded, NaN from where a net has diverged; `values` has it by name.
    diverged_after : array of int (nets,)
        Steps after which the loss or the gradient of a net was no longer finite; -1: it stayed so.
    parameters : array (nets, steps, ...)
        Weights and biases, if they were kept: see `weights` and `biases`.
    places : array of int (depth + 1,)
        Where those of a layer start.
    told : str
        How they were trained, in words.
    """

    network: Network
    steps: tuple[int, ...]
    record: Floats
    diverged_after: NDArray[np.int64]
    parameters: Floats
    places: NDArray[np.int64]
    told: str = ""

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
            f"{f'layer {row.layer!r}' if row.layer else 'net'}"
            for row in last.itertuples()
        ]
        head = f"{len(self.record)} nets of {self.network!r}, {self.told}"
        after = f"after {self.steps[-1]} steps, of the net or the first layer, 95% intervals:"
        return "\n".join([head, after, *lines, *([f"  {self.divergence}"] if self.divergence else [])])

    def values(self, quantity: str) -> Floats:
        """Return what was recorded of each net: (nets, steps, depth + 1), the whole net in the place of layer 0.

        Raises
        ------
        ValueError
            If there is no such quantity.
        """
        if quantity not in RECORDED:
            raise unknown("quantity", quantity, RECORDED)
        return self.record[..., RECORDED.index(quantity)]

    def weights(self, layer: int) -> Floats:
        """Return W of a layer, (nets, steps, fan_in, fan_out).

        Raises
        ------
        ValueError
            If there is no such layer, or ``keep_weights`` was not set.
        """
        fan_in, fan_out, start = self._place(layer)
        return self.parameters[..., start : start + fan_in * fan_out].reshape(*self.record.shape[:2], fan_in, fan_out)

    def biases(self, layer: int) -> Floats:
        """Return b of a layer, (nets, steps, fan_out); see `weights`."""
        fan_in, fan_out, start = self._place(layer)
        return self.parameters[..., start + fan_in * fan_out : start + (fan_in + 1) * fan_out]

    def _place(self, layer: int) -> tuple[int, int, int]:
        if self.parameters.size == 0:
            raise ValueError("weights were not kept: keep_weights=True keeps them")
        if layer not in range(1, self.network.depth + 1):
            raise ValueError(f"layer must be from 1 to {self.network.depth}, not {layer!r}")
        return *self.network.fans[layer - 1], int(self.places[layer])

    @cached_property
    def table(self) -> pandas.DataFrame:
        """Return means over nets: quantity, step, layer, estimate, std_error, ci_low, ci_high, nets and diverged.

        Layer 0 is the net as a whole. Nets that have diverged by a step are in no mean: ``diverged`` says how many,
        ``nets`` how many are. Intervals of 95% are Student's.
        """
        import pandas
        from scipy.special import stdtrit

        frames = []
        diverged = [(self.diverged_after >= 0) & (self.diverged_after <= step) for step in self.steps]
        for quantity in RECORDED:
            layers = range(quantity in OF_LAYERS, 1 if quantity in OF_NETS else self.network.depth + 1)
            values = self.values(quantity)[:, :, layers.start : layers.stop]
            there = np.isfinite(values)
            nets = there.sum(axis=0)
            with np.errstate(invalid="ignore", divide="ignore"):
                mean = np.where(there, values, 0.0).sum(axis=0) / nets
                squares = np.where(there, (values - mean) ** 2, 0.0).sum(axis=0)
                error = np.sqrt(squares / (nets - 1) / nets)
                half = np.where(nets > 1, stdtrit(np.maximum(nets - 1, 1), 0.975) * error, np.nan)
            columns: dict[str, Floats] = {
                "step": np.repeat(self.steps, len(layers)), "layer": np.tile(layers, len(self.steps)),
                "estimate": mean.ravel(), "std_error": error.ravel(), "ci_low": (mean - half).ravel(),
                "ci_high": (mean + half).ravel(), "nets": nets.ravel(),
                "diverged": np.repeat([each.sum() for each in diverged], len(layers)),
            }  # fmt: skip
            frames.append(pandas.DataFrame({"quantity": quantity, **columns}))
        return pandas.concat(frames, ignore_index=True)
