"""What a net in training is made of: layers with parameters of their own, in feedforward and in recurrent nets."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from stabsim.kernels.learner import PARTS_IN_TIME
from stabsim.network import Network
from stabsim.quantities import WEIGHT_TENSORS

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Shape:
    """The sizes of what the trainer works on.

    A recurrent net has two layers with parameters: the cell, all gates side by side, whose matrix takes the inputs and
    the state, and the layer that reads the last state.

    Parameters
    ----------
    network : Network
        The network.
    outputs : int
        How many numbers a target has.

    Examples
    --------
    >>> shape = Shape(Network((3, *(8,) * 20), "tanh", "glorot_normal", cell="lstm"), outputs=2)
    >>> shape.widths, shape.fans.tolist()
    (array([60, 32,  2]), [[11, 32], [8, 2]])
    """

    network: Network
    outputs: int

    @property
    def recurrent(self) -> bool:
        """Return whether there is a recurrent cell."""
        return self.network.cell.recurrent

    @property
    def gates(self) -> int:
        """Return how many gates a cell has, an RNN 1; without a cell 0."""
        return len(self.network.laws) // 2 if self.recurrent else 0

    @cached_property
    def widths(self) -> Ints:
        """Return how many inputs there are, of all time steps, and units in each layer, of all gates: (depth + 1,)."""
        inputs, state = self.network.widths[:2]
        of_cell = (self.network.depth * inputs, self.gates * state, self.outputs)
        return np.array(of_cell if self.recurrent else self.network.widths, np.int64)

    @cached_property
    def fans(self) -> Ints:
        """Return fan_in and fan_out of each layer, (depth, 2)."""
        inputs, state = self.network.widths[:2]
        fan_in = [inputs + state, state] if self.recurrent else self.network.widths[:-1]
        return np.column_stack([np.array(fan_in, np.int64), self.widths[1:]])

    @property
    def depth(self) -> int:
        """Return how many layers have parameters of their own."""
        return len(self.fans)

    @property
    def matrices(self) -> tuple[tuple[int, int], ...]:
        """Return fan_in and fan_out of each matrix that is drawn: of a cell, those of the simulator, then the last."""
        last = int(self.fans[-1, 0]), int(self.fans[-1, 1])
        return (*(self.network.fans if self.recurrent else self.network.fans[:-1]), last)

    def sizes(self, tensors: set[str]) -> dict[str, NDArray[np.float64]]:
        """Return, per tensor of signals and layer, or time step, how many squares add up to the squared norm."""
        units = np.array(self.network.widths, np.float64)
        if self.recurrent:
            units[:] = units[1]
            return {tensor: units * (self.gates if tensor.startswith("pre") else 1) for tensor in tensors}
        weights = np.concatenate([[np.nan], units[:-1] * units[1:]])
        return {tensor: weights if tensor in WEIGHT_TENSORS else units for tensor in tensors}

    def parts_in_time(self, rows: int) -> dict[str, int]:
        """Return how long the parts are, for so many samples, that only recurrent nets have."""
        if not self.recurrent:
            return dict.fromkeys(PARTS_IN_TIME, 0)
        (inputs, state), steps, kind = self.network.widths[:2], self.network.depth, self.network.cell.kind
        states, gates = (steps + 1) * rows * state, steps * rows * self.gates * state
        values = gates + steps * rows * state * (kind == "lstm")
        return {
            "x": steps * rows * inputs, "h": states, "c": states * (kind == "lstm"), "dh": states,
            "dc": rows * state * (kind == "lstm"), "sums": gates, "gates": values * (kind != "rnn"), "slopes": values,
            "by_state": gates if kind == "gru" else gates // steps,
        }  # fmt: skip
