"""Losses: one entry each, with what its targets must be and its source."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stabsim.kernels import losses
from stabsim.names import unknown

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Loss:
    """A loss of outputs and targets: a mean over samples.

    Parameters
    ----------
    name : str
        What it is called.
    function : callable
        Of stabsim.kernels.losses.
    targets : str
        What targets must be.
    allowed : callable
        From targets (samples, outputs) to whether they are that.
    source : str
        The publication.
    """

    name: str
    function: Callable[..., Any]
    targets: str
    allowed: Callable[[Floats], bool]
    source: str

    def __str__(self) -> str:
        return self.name

    def check(self, targets: Floats) -> None:
        """Refuse targets that the loss is not for.

        Raises
        ------
        ValueError
            What they must be.
        """
        if not self.allowed(targets):
            raise ValueError(
                f"targets of {self.name} must be {self.targets}, not {targets.min():g} to {targets.max():g}"
            )


def _any(_targets: Floats) -> bool:
    return True


def _unit(targets: Floats) -> bool:
    return bool(((targets >= 0) & (targets <= 1)).all())


def _distributions(targets: Floats) -> bool:
    return bool((targets >= 0).all()) and bool(np.allclose(targets.sum(axis=1), 1.0, rtol=0, atol=1e-9))


LOSSES = {
    loss.name: loss
    for loss in (
        Loss(
            "mean_squared_error", losses.mean_squared_error, "finite", _any,
            "Legendre 1805; over samples and outputs",
        ),
        Loss(
            "softmax_cross_entropy", losses.softmax_cross_entropy, "probabilities: >= 0, with the sum 1 in each row",
            _distributions, "Bridle 1990, Neurocomputing, NATO ASI F68; over samples, in nats",
        ),
        Loss(
            "logistic", losses.logistic, "from 0 to 1", _unit,
            "Cox 1958, JRSS B 20; over samples and outputs, in nats",
        ),
    )
}  # fmt: skip


def loss_of(spec: Any) -> Loss:
    """Return the loss of a name.

    Raises
    ------
    TypeError, ValueError
        If it is no name of a loss.

    Examples
    --------
    >>> loss_of("logistic").targets
    'from 0 to 1'
    """
    if not isinstance(spec, str):
        raise TypeError(f"loss must be one of {', '.join(LOSSES)}, not {spec!r}")
    if spec not in LOSSES:
        raise unknown("loss", spec, LOSSES)
    return LOSSES[spec]
