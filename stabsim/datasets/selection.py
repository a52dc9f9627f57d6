"""Some classes, samples or principal components of labeled data: what landscapes of small nets are of."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stabsim.checks import brief, whole_number, whole_numbers
from stabsim.datasets.data import Floats
from stabsim.datasets.registry import DATASETS, LABELED, Directory, read
from stabsim.datasets.scaling import scaling
from stabsim.names import unknown


def classification(
    name: str,
    *,
    components: int | None = None,
    classes: Sequence[int] | None = None,
    samples: int | None = None,
    directory: Directory = None,
) -> tuple[Floats, Floats]:
    """Return inputs (samples, features) and one-hot targets (samples, classes) of a labeled data set.

    Parameters
    ----------
    name : str
        "digits": each feature to mean 0 and variance 1 over all samples, whichever are kept. "mnist5k", "mnist",
        "fashion_mnist": pixels from 0 to 1, the training part first.
    components : int, optional
        As many principal components of the samples that are kept in place of the features, each to mean 0 and variance
        1 over these; at least one sample more than components.
    classes : sequence of int, optional
        The labels that are kept, in the order of the targets' columns; all unless told.
    samples : int, optional
        As many of the kept ones, the first; all unless told.
    directory : path, optional
        See `dataset`.

    Raises
    ------
    TypeError, ValueError
        If there is no such data set, class, or not so many samples or components; if the package that holds the data
        is not installed, or a file is not what it should be.

    Examples
    --------
    >>> inputs, targets = classification("digits", components=5, classes=(3, 8), samples=100)
    >>> inputs.shape, targets.shape, inputs.std(axis=0).round(12)
    ((100, 5), (100, 2), array([1., 1., 1., 1., 1.]))
    """
    if name not in LABELED:
        raise unknown("labeled data set", name, LABELED)
    data = read(name, directory)
    known = range(len(data.classes))
    chosen = tuple(known) if classes is None else whole_numbers("classes", classes, 0)
    if not set(chosen) <= set(known) or len(set(chosen)) < len(chosen):
        raise ValueError(f"classes must be different ones of {', '.join(map(str, known))}, not {brief(classes)}")
    inside = np.flatnonzero(np.isin(data.labels, chosen))
    inside = inside[: len(inside) if samples is None else whole_number("samples", samples, 1, len(inside))]
    inputs = scaling(DATASETS[name].scale, data, data.inputs)(data.inputs[inside])
    targets = data.targets[inside][:, chosen]
    if components is not None:
        if len(inputs) < 2:
            raise ValueError(f"components={brief(components)} need at least 2 samples, not {len(inputs)}")
        inputs = _principal(inputs, whole_number("components", components, 1, min(len(inputs) - 1, inputs.shape[1])))
    return np.ascontiguousarray(inputs), targets


def _principal(inputs: Floats, components: int) -> Floats:
    """Return principal components to variance 1, each with the sign that makes its largest entry positive."""
    centered = inputs - inputs.mean(axis=0)
    left, singular, axes = np.linalg.svd(centered, full_matrices=False)
    if singular[components - 1] <= len(inputs) * np.finfo(float).eps * singular[0]:
        raise ValueError(f"components must be up to the rank of the inputs, not {components}")
    signs = np.sign(axes[np.arange(components), np.abs(axes[:components]).argmax(axis=1)])
    return np.asarray(left[:, :components] * signs * np.sqrt(len(inputs)))
