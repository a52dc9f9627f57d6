"""How inputs are scaled: by what a training part says, and the same for every part."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stabsim.datasets.data import Data, Floats
from stabsim.names import unknown

Scaling = Callable[[NDArray[Any]], Floats]

SCALES = {
    "unit": "divided by the largest value, 255 for bytes, so that 0 stays 0 and pixels lie between 0 and 1",
    "standard": "each feature to mean 0 and variance 1, constant ones to 0",
    "raw": "as they are",
}


def scaling(scale: str, data: Data, training: NDArray[Any]) -> Scaling:
    """Return the function that scales inputs, from what the training part says alone.

    Parameters
    ----------
    scale : str
        A name in `SCALES`.
    data : Data
        What is scaled.
    training : array of shape (samples, features)
        The part of its inputs that mean, variance and, where the kind of data has none, the largest value are of.

    Raises
    ------
    ValueError
        If there is no such scale, a feature is negative ("unit"), or has no standard deviation in float64 ("standard").
    """
    if scale == "unit":
        return _unit(data, training)
    if scale == "standard":
        return _standard(data, training)
    if scale == "raw":
        return lambda inputs: inputs.astype(np.float64)
    raise unknown("scale", scale, SCALES)


def _unit(data: Data, training: NDArray[Any]) -> Scaling:
    if data.inputs.min() < 0:
        raise ValueError(
            f"scale='unit' needs features >= 0, but {data.name} has {data.inputs.min()}: give 'standard' or 'raw'"
        )
    largest = float(training.max()) if data.largest is None else data.largest
    return lambda inputs: np.asarray(inputs / (largest or 1.0), np.float64)


def _standard(data: Data, training: NDArray[Any]) -> Scaling:
    constant = training.max(axis=0) == training.min(axis=0)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        mean, deviation = training.mean(axis=0), training.std(axis=0)
    lost = ~constant & ~((deviation > 0) & (deviation < np.inf))
    if lost.any():
        feature = int(np.argmax(lost))
        raise ValueError(
            f"scale='standard': feature {feature} of {data.name}, from {training[:, feature].min():g} to "
            f"{training[:, feature].max():g}, has no standard deviation in float64"
        )

    def scaled(inputs: NDArray[Any]) -> Floats:
        found = inputs.astype(np.float64)
        found -= mean
        found /= np.where(constant, 1.0, deviation)
        found[:, constant] = 0.0  # in the test part too, where they need not be constant
        return found

    return scaled
