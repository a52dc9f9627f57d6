"""What can be recorded of nets in training: by name, and what must be watched for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stabsim import checks
from stabsim.kernels import record as r
from stabsim.kernels.training_record import OF_LAYERS, OF_NETS, RECORDED
from stabsim.names import unknown
from stabsim.quantities import QUANTITIES, Quantity

# What is recorded of training itself; "the mini-batch" is the one that comes next.
MEANINGS = {
    "loss": "loss over all samples, as they are evaluated",
    "accuracy": "share of all samples with the largest output where the target is, or one output on its side",
    "batch_loss": "loss of the mini-batch",
    "last_batch_loss": "loss of the mini-batch before, after its step",
    "test_loss": "loss over the samples of the test",
    "test_accuracy": "accuracy over the samples of the test",
    "gradient_norm": "norm of the gradient of the mini-batch by what is trained, before clipping",
    "distance": "distance of what is trained from where it started",
    "path_length": "length of all steps so far",
    "straightness": "distance over path length",
    "step_cosine": "mean cosine of successive gradients so far",
    "update_ratio": "norm of the last step of W over that of W",
    "clip_engagement": "share of steps so far, and the one that comes next, in which anything was clipped",
    "clip_cosine": "cosine of the angle by which clipping turns the gradient of the mini-batch",
    "clipped_fraction": "share of elements, columns or tensors, whichever are clipped, of the mini-batch",
    "distinct_units": "how many columns of W with its bias differ, compared exactly",
    "effective_units": "n^2 over the sum of squared cosines of all pairs of these columns (Leinster & Cobbold 2012)",
    "unit_spread": "root of the share of the squares of these columns that is about their mean",
    "dead_unit_fraction": "share of units whose f' is 0 on all samples",
    "died_fraction": "share of units that are dead and were not when it was last recorded, if it was",
    "recovered_fraction": "share of units that are not dead and were",
    **{
        f"{name}_{cause}": f"{meaning}, of what the layer takes against step 0: {what}"
        for cause, what in {
            "weights": "first mini-batch, net as it is",
            "batches": "mini-batch that comes next, net as it started",
            "both": "mini-batch that comes next, net as it is",
        }.items()
        for name, meaning in {
            "mean_shift": "root mean square over units of the shift of the mean, in standard deviations",
            "variance_ratio": "ratio of variances, summed over units",
            "wasserstein": "mean over units of the Wasserstein distance, in standard deviations",
        }.items()
    },
}
assert tuple(MEANINGS) == RECORDED
# Signals of a mini-batch: what `stabsim.simulate` records in passing of nets without more than layers.
SIGNALS = {
    name: quantity
    for name, quantity in QUANTITIES.items()
    if not quantity.needs and max(quantity.columns) < r.LOOKED_AT[0]
}
DEAD = ("dead_unit_fraction", "died_fraction", "recovered_fraction")
SHARES = ("accuracy", "test_accuracy", "clip_engagement", "clipped_fraction", *DEAD)
WATCHED = {  # what is watched only if one of these is asked for
    "whole": ("loss", "accuracy", *DEAD),
    "test": ("test_loss", "test_accuracy"),
    "last": ("last_batch_loss",),
    "paths": ("distance", "path_length", "straightness", "step_cosine", "update_ratio"),
    "units": ("distinct_units", "effective_units", "unit_spread"),
    "dead": DEAD,
    "drift": tuple(name for name in OF_LAYERS if name.startswith(("mean_shift", "variance_ratio", "wasserstein"))),
}
Need = tuple[Callable[[Any], bool], str]  # whether a training has it, and what it lacks
_CLIPPED: Need = (lambda training: training.clipping is not None, "it needs clipping")
_DRIFTING: Need = (
    lambda training: training.batch > 1 and not training.rounded,
    "it needs batch >= 2 and numbers that are not rounded",
)
NEEDS: dict[str, Need] = {  # what only some trainings have
    "accuracy": (lambda training: training.classes, "targets are no classes"),
    "test_loss": (lambda training: training.test is not None, "it needs test=(inputs, targets)"),
    "test_accuracy": (
        lambda training: training.classes and training.tested_classes,
        "it needs test=(inputs, targets) of classes",
    ),
    **dict.fromkeys(("clip_engagement", "clip_cosine", "clipped_fraction"), _CLIPPED),
    **dict.fromkeys(WATCHED["drift"], _DRIFTING),
    "activation_correlation": (lambda training: training.batch > 1, "it needs batch >= 2"),
    "activation_saturated_fraction": (
        lambda training: training.network.skip is None,
        "sums of residual connections have no limits",
    ),
}

IN_TIME = ("activation", "activation_gradient", "preactivation_gradient")  # of which there are signals by time step


def _goes_with_cells(name: str) -> bool:
    if name in SIGNALS:
        return SIGNALS[name].tensor in IN_TIME and name != "activation_saturated_fraction"
    return name not in (*WATCHED["dead"], *WATCHED["drift"])


def first_layer(name: str) -> int:
    """Return the first layer of a quantity: 0 stands for the input, or of what is no signal for the net as a whole."""
    return SIGNALS[name].first_layer if name in SIGNALS else int(name in OF_LAYERS)


def layers_of(name: str, depth: int) -> range:
    """Return the layers at which a quantity exists."""
    return range(first_layer(name), 1 if name in OF_NETS else depth + 1)


def chosen(given: Sequence[str] | None, training: Any) -> tuple[str, ...]:
    """Return the names of quantities, checked: all that there are, unless told.

    Raises
    ------
    TypeError, ValueError
        If they are no names of quantities, or one does not exist in that training.
    """
    there = [name for name in (*RECORDED, *SIGNALS) if not _missing(name, training)]
    if given is None:
        return tuple(there)
    if isinstance(given, str) or not isinstance(given, Sequence) or len(given) == 0:
        raise TypeError(f"quantities must be a sequence of one or more names, not {checks.brief(given)}")
    for name in given:
        if not isinstance(name, str):
            raise TypeError(f"quantities must be names, not {checks.brief(name)}")
        if name not in RECORDED and name not in SIGNALS:
            raise unknown("quantity of training", name, (*RECORDED, *SIGNALS))
        if name not in there:
            raise ValueError(f"quantity {name!r} does not exist in this training: {_missing(name, training)}")
    return tuple(dict.fromkeys(given))


def _missing(name: str, training: Any) -> str:
    """Say why a quantity does not exist in a training; nothing if it does."""
    if training.shape.recurrent and not _goes_with_cells(name):
        return f"not with {training.network.arguments[training.network.cell.kind]}"
    there, lacking = NEEDS.get(name, (lambda _: True, ""))
    return "" if there(training) else lacking


def signals_of(quantities: Sequence[str]) -> tuple[Quantity, ...]:
    """Return those that are signals."""
    return tuple(SIGNALS[name] for name in quantities if name in SIGNALS)


def wanted(quantities: Sequence[Quantity]) -> NDArray[np.bool_]:
    """Return which columns of the simulator's record they need."""
    found = np.zeros(r.COLUMNS, bool)
    for quantity in quantities:
        found[list(quantity.columns)] = True
    return found


def blank(quantities: Sequence[Quantity], layers: int) -> NDArray[np.float64]:
    """Return the record of a net before it is filled: 0 where a column is wanted, NaN elsewhere."""
    found = np.tile(np.where(wanted(quantities), 0.0, np.nan), (layers, 1))
    nowhere = {c for q in SIGNALS.values() if q.first_layer == 1 for c in q.own_columns}
    found[0, sorted(nowhere - {c for q in SIGNALS.values() if q.first_layer == 0 for c in q.own_columns})] = np.nan
    return found
