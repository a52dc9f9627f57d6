"""``what_stops``: which samples of one net give no gradient to which layers, and which zeros are the cause."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stabsim.tracing import Trace

SHOWN = 20  # samples, where stops are printed


class Cause(IntEnum):
    """Why the row of ds of a sample at a layer is all 0."""

    NOTHING = 0
    BY_DERIVATIVE = 1
    BY_ACTIVATION = 2
    BY_ELEMENTS = 3


@dataclass(frozen=True, repr=False)
class Stops:
    """What stops the samples of one net; printed, a line for each sample.

    Attributes
    ----------
    cause : int array (batch, depth + 1)
        Why the row of ds of a sample at a layer is all 0, as numbers of `stabsim.stops.Cause`: 0 ``NOTHING``, it is
        not, or the layer is 0, which has no ds; 1 ``BY_DERIVATIVE``, a row f' = 0 at this layer or above; 2
        ``BY_ACTIVATION``, a row z = 0 below, of which f' = 0 above is a consequence; 3 ``BY_ELEMENTS``, neither: dz
        has been 0 already, or where f' is not.
    layer : int array (batch,)
        The layer whose row of zeros stopped the sample; 0 is an input row that is all 0; -1 if no row of zeros did.
    idle : bool array (batch, depth + 1)
        Whether a sample gives nothing to dW of a layer: its row of ds is all 0, or that of z below.
    """

    cause: NDArray[np.int64]
    layer: NDArray[np.int64]
    idle: NDArray[np.bool_]

    def __repr__(self) -> str:
        """Return which layers of each sample get no gradient, and why, one line each."""
        lines = [f"sample {sample}: {self._line(sample)}" for sample in range(min(len(self.cause), SHOWN))]
        left = len(self.cause) - SHOWN
        return "\n".join([*lines, f"and {left} more samples"] if left > 0 else lines)

    def _line(self, sample: int) -> str:
        last = int(np.count_nonzero(self.cause[sample]))  # of a sample all layers from 1 on
        if not last:
            return "not stopped"
        at = int(self.layer[sample])
        if at < 0:
            return f"stopped by zeros of elements: no gradient at layers 1 to {last}"
        by = "f' = 0" if at else "an input row of zeros"
        lost = [f"1 to {at}"] * (at > 0) + [f"{at + 1} to {last}, where z = 0 below"] * (at < last)
        return f"stopped at layer {at} by {by}: no gradient at layers {', nor at '.join(lost)}"


def what_stops(seen: Trace) -> Stops:
    """Return which samples of a net are stopped, where, and by what.

    Of a row of ds that is 0 all rows below are 0. At the uppermost such layer, a row f' = 0 may be 0 because nothing
    arrived: where z below is 0, the cause is the layer at which that run of rows z = 0 began.

    Parameters
    ----------
    seen : Trace
        Of `stabsim.trace`, and of a plain net: with recurrence, normalization or residual connections rows of zeros
        go other ways.

    Returns
    -------
    Stops

    Raises
    ------
    TypeError
        If it is no trace.
    ValueError
        If it is of a network with normalization, skip or cell.

    Examples
    --------
    >>> import stabsim
    >>> network = stabsim.Network((3, 2, 2, 2, 2, 2), "relu", "he_normal")
    >>> stops = what_stops(stabsim.trace(network, net=1, batch=4))
    >>> stops.layer.tolist()
    [3, 1, 1, -1]
    >>> stops
    sample 0: stopped at layer 3 by f' = 0: no gradient at layers 1 to 3, nor at 4 to 5, where z = 0 below
    sample 1: stopped at layer 1 by f' = 0: no gradient at layers 1 to 1, nor at 2 to 5, where z = 0 below
    sample 2: stopped at layer 1 by f' = 0: no gradient at layers 1 to 1, nor at 2 to 5, where z = 0 below
    sample 3: not stopped
    >>> (stops.cause == Cause.BY_DERIVATIVE).sum(axis=0).tolist()
    [0, 3, 1, 1, 0, 0]
    """
    if not isinstance(seen, Trace):
        raise TypeError(f"seen must be a Trace from stabsim.trace(...), not a {type(seen).__name__}")
    if given := seen.structures:
        raise ValueError(
            f"seen must be a Trace of a network of plain layers, not of one with {' and '.join(given.values())}"
        )
    z, d, ds = (_zero_rows(tensor) for tensor in (seen.activation, seen.derivative, seen.preactivation_gradient))
    batch, layers = z.shape
    cause, layer = np.zeros((batch, layers), np.int64), np.full(batch, -1)
    for sample in range(batch):
        stopped = np.flatnonzero(ds[sample])
        cause[sample, stopped] = Cause.BY_ELEMENTS
        if not len(stopped) or not d[sample, stopped[-1]]:
            continue
        first = stopped[-1]
        alive = np.flatnonzero(~z[sample, :first])
        origin = int(alive[-1]) + 1 if len(alive) else 0
        layer[sample] = origin
        cause[sample, stopped] = np.where(stopped <= origin, Cause.BY_DERIVATIVE, Cause.BY_ACTIVATION)
    idle = ds.copy()
    idle[:, 1:] |= z[:, :-1]
    return Stops(cause, layer, idle)


def _zero_rows(tensor: list[Any]) -> NDArray[np.bool_]:
    """Return which rows are all 0, (batch, layers); none where there is no tensor."""
    batch = len(tensor[-1])
    return np.stack([np.zeros(batch, bool) if v is None else ~np.any(v, axis=1) for v in tensor], axis=1)
