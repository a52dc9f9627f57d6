"""Losses: one entry each, with what its targets must be and its source."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stabsim.checks import brief
from stabsim.kernels import losses
from stabsim.names import unknown

Floats = NDArray[np.float64]

SUMS = 1e-6  # how far from 1 sums of probabilities may be: float32 makes 3e-8 of a few of them


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
    wrong : callable
        From targets (samples, outputs) to what is wrong with them, "" if nothing.
    source : str
        The publication.
    """

    name: str
    function: Callable[..., Any]
    targets: str
    wrong: Callable[[Floats], str]
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
        if found := self.wrong(targets):
            raise ValueError(f"targets of {self.name} must be {self.targets}, not {found}")


def _any(_targets: Floats) -> str:
    return ""


def _unit(targets: Floats) -> str:
    inside = targets.min() >= 0 and targets.max() <= 1
    return "" if inside else f"{targets.min():g} to {targets.max():g}"


def _distributions(targets: Floats) -> str:
    if targets.min() < 0:
        return f"{targets.min():g} to {targets.max():g}"
    sums = targets.sum(axis=1)
    wrong = np.flatnonzero(np.abs(sums - 1) > SUMS)
    return f"{sums[wrong[0]]:.9g} in row {wrong[0]}" if len(wrong) else ""


LOSSES = {
    loss.name: loss
    for loss in (
        Loss(
            "mean_squared_error", losses.mean_squared_error, "finite", _any,
            "Legendre 1805; over samples and outputs",
        ),
        Loss(
            "softmax_cross_entropy", losses.softmax_cross_entropy,
            "probabilities: >= 0, with the sum 1 +- 1e-6 in each row", _distributions,
            "Bridle 1990, Neurocomputing, NATO ASI F68; over samples, in nats",
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
        raise TypeError(f"loss must be one of {', '.join(LOSSES)}, not {brief(spec)}")
    if spec not in LOSSES:
        raise unknown("loss", spec, LOSSES)
    return LOSSES[spec]
