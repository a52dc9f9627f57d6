"""Real inputs by name: arrays (samples, features) that come with an installed package."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from stabsim.names import unknown

Floats = NDArray[np.float64]


@functools.cache
def _digits_raw() -> Floats:
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ValueError("inputs='digits' needs scikit-learn: pip install 'stabsim[data]'") from error
    return np.asarray(load_digits().data, np.float64)


def _digits() -> Floats:
    raw = _digits_raw()
    spread = raw.std(axis=0)
    return np.asarray((raw - raw.mean(axis=0)) / np.where(spread > 0, spread, 1.0))


DATASETS: dict[str, tuple[Callable[[], Floats], str]] = {
    "digits": (_digits, "1,797 handwritten digits, 8 x 8, each pixel to mean 0 and variance 1 (constant ones to 0)"),
    "digits_raw": (_digits_raw, "1,797 handwritten digits, 8 x 8, pixels 0 to 16 (Alpaydin & Kaynak 1998, UCI)"),
}


def dataset(name: str) -> Floats:
    """Return a data set by name, (samples, features).

    Raises
    ------
    ValueError
        If the name is unknown, or the package that holds the data is not installed.

    Examples
    --------
    >>> dataset("digits").shape
    (1797, 64)
    """
    if name not in DATASETS:
        raise unknown("data set", name, DATASETS)
    return DATASETS[name][0]()
