"""``what_stops``: which samples of one net give no gradient to which layers, and which zeros are the cause."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stabsim.tracing import Trace

NOTHING, BY_DERIVATIVE, BY_ACTIVATION, BY_ELEMENTS = range(4)


@dataclass(frozen=True)
class Stops:
    """What stops the samples of one net.

    Attributes
    ----------
    cause : int array (batch, depth + 1)
        Why the row of ds of a sample at a layer is all 0: ``BY_DERIVATIVE``, a row f' = 0 at this layer or above;
        ``BY_ACTIVATION``, a row z = 0 below, of which f' = 0 above is a consequence; ``BY_ELEMENTS``, neither: dz has
        been 0 already, or where f' is not. ``NOTHING`` where it is not all 0, and at layer 0, which has no ds.
    layer : int array (batch,)
        The layer whose row of zeros stopped the sample; -1 if none did.
    idle : bool array (batch, depth + 1)
        Whether a sample gives nothing to dW of a layer: its row of ds is all 0, or that of z below.
    """

    cause: NDArray[np.int64]
    layer: NDArray[np.int64]
    idle: NDArray[np.bool_]


def what_stops(seen: Trace) -> Stops:
    """Return which samples of a net are stopped, where, and by what.

    Of a row of ds that is 0 all rows below are 0. At the uppermost such layer, a row f' = 0 may be 0 because nothing
    arrived: where z below is 0, the cause is the layer at which that run of rows z = 0 began.

    Parameters
    ----------
    seen : Trace
        Of `stabsim.trace`: a plain net, without recurrence, normalization or residual connections, where rows of
        zeros go other ways.

    Returns
    -------
    Stops

    Raises
    ------
    TypeError
        If it is no trace.
    ValueError
        If it is of a recurrent net.

    Examples
    --------
    >>> import stabsim
    >>> network = stabsim.Network((3, 2, 2, 2, 2, 2), "relu", "he_normal")
    >>> stops = what_stops(stabsim.trace(network, net=1, batch=4))
    >>> stops.layer.tolist()
    [3, 1, 1, -1]
    """
    if not isinstance(seen, Trace):
        raise TypeError(f"seen must be a Trace from stabsim.trace(...), not {seen!r}")
    if seen.recurrent_weight:
        raise ValueError("seen: what stops samples is defined layer by layer, not for recurrent nets")
    z, d, ds = (_zero_rows(tensor) for tensor in (seen.activation, seen.derivative, seen.preactivation_gradient))
    batch, layers = z.shape
    cause, layer = np.zeros((batch, layers), np.int64), np.full(batch, -1)
    for sample in range(batch):
        stopped = np.flatnonzero(ds[sample])
        cause[sample, stopped] = BY_ELEMENTS
        if not len(stopped) or not d[sample, stopped[-1]]:
            continue
        first = stopped[-1]
        alive = np.flatnonzero(~z[sample, :first])
        origin = int(alive[-1]) + 1 if len(alive) else 0
        layer[sample] = origin
        cause[sample, stopped] = np.where(stopped <= origin, BY_DERIVATIVE, BY_ACTIVATION)
    idle = ds.copy()
    idle[:, 1:] |= z[:, :-1]
    return Stops(cause, layer, idle)


def _zero_rows(tensor: list[Any]) -> NDArray[np.bool_]:
    """Return which rows are all 0, (batch, layers); none where there is no tensor."""
    batch = len(tensor[-1])
    return np.stack([np.zeros(batch, bool) if v is None else ~np.any(v, axis=1) for v in tensor], axis=1)
