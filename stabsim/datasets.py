"""Real data by name, which comes with an installed package: inputs (samples, features), and targets of classes."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from stabsim.checks import brief, whole_number, whole_numbers
from stabsim.names import unknown

Floats = NDArray[np.float64]


@functools.cache
def _digits_and_labels() -> tuple[Floats, NDArray[np.int64]]:
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ValueError("data set 'digits' needs scikit-learn: pip install 'stabsim[data]'") from error
    found = load_digits()
    return np.asarray(found.data, np.float64), np.asarray(found.target, np.int64)


def _digits_raw() -> Floats:
    return _digits_and_labels()[0]


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


LABELED: dict[str, Callable[[], tuple[Floats, NDArray[np.int64]]]] = {
    "digits": lambda: (_digits(), _digits_and_labels()[1]),
}


def classification(
    name: str, *, components: int | None = None, classes: Sequence[int] | None = None, samples: int | None = None
) -> tuple[Floats, Floats]:
    """Return inputs (samples, features) and one-hot targets (samples, classes) of a labeled data set.

    Parameters
    ----------
    name : str
        "digits": each feature to mean 0 and variance 1 over all samples, whichever are kept.
    components : int, optional
        As many principal components of the samples that are kept in place of the features, each to mean 0 and variance
        1 over these; at least one sample more than components.
    classes : sequence of int, optional
        The labels that are kept, in the order of the targets' columns; all unless told.
    samples : int, optional
        As many of the kept ones, the first; all unless told.

    Raises
    ------
    TypeError, ValueError
        If there is no such data set, class, or not so many samples or components; if the package that holds the data
        is not installed.

    Examples
    --------
    >>> inputs, targets = classification("digits", components=5, classes=(3, 8), samples=100)
    >>> inputs.shape, targets.shape, inputs.std(axis=0).round(12)
    ((100, 5), (100, 2), array([1., 1., 1., 1., 1.]))
    """
    if name not in LABELED:
        raise unknown("labeled data set", name, LABELED)
    inputs, labels = LABELED[name]()
    known = np.unique(labels)
    chosen = tuple(known) if classes is None else whole_numbers("classes", classes, 0)
    if not set(chosen) <= set(known) or len(set(chosen)) < len(chosen):
        raise ValueError(f"classes must be different ones of {', '.join(map(str, known))}, not {brief(classes)}")
    inside = np.flatnonzero(np.isin(labels, chosen))
    inside = inside[: len(inside) if samples is None else whole_number("samples", samples, 1, len(inside))]
    inputs, targets = inputs[inside], labels[inside, np.newaxis] == np.array(chosen)
    if components is not None:
        if len(inputs) < 2:
            raise ValueError(f"components={brief(components)} need at least 2 samples, not {len(inputs)}")
        inputs = _principal(inputs, whole_number("components", components, 1, min(len(inputs) - 1, inputs.shape[1])))
    return np.ascontiguousarray(inputs), targets.astype(np.float64)


def _principal(inputs: Floats, components: int) -> Floats:
    """Return principal components to variance 1, each with the sign that makes its largest entry positive."""
    centered = inputs - inputs.mean(axis=0)
    left, singular, axes = np.linalg.svd(centered, full_matrices=False)
    if singular[components - 1] <= len(inputs) * np.finfo(float).eps * singular[0]:
        raise ValueError(f"components must be up to the rank of the inputs, not {components}")
    signs = np.sign(axes[np.arange(components), np.abs(axes[:components]).argmax(axis=1)])
    return np.asarray(left[:, :components] * signs * np.sqrt(len(inputs)))
