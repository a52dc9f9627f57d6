"""Studies of clipping and batch normalization in training: what they calculate themselves, and their verdicts."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pandas
import pytest

from stabsim.datasets import Split, split
from tests.test_plateau_studies import module


@pytest.fixture(scope="module")
def batch_norm() -> Any:
    """Return the module of the study of batch normalization."""
    return module("batch_norm_training")


@pytest.fixture(scope="module")
def clipping() -> Any:
    """Return the module of the study of clipping."""
    return module("clipping_training")


def test_nets_normalized_by_mini_batches_have_the_loss_that_training_sees(batch_norm: Any) -> None:
    digits = split("mnist5k")
    inputs, labels = (part[: batch_norm.BATCH] for part in digits.train)  # one mini-batch, in whichever order
    few = Split((inputs, labels), digits.test, digits.classes, "")
    nets = batch_norm.trained(few, batch_norm.NORMALIZED, 1, 2, keep_weights=True)
    for place in range(len(nets.steps)):
        outputs = batch_norm.outputs_by_batches(nets, inputs[np.newaxis], (0, place))[0].astype(np.float64)
        loss = (np.log(np.exp(outputs).sum(axis=1)) - outputs[labels == 1]).mean()
        assert loss == pytest.approx(nets.values("batch_loss")[0, place, 0], rel=2e-6)
    assert batch_norm.accuracy_by_batches(nets, few.test).shape == (1, len(nets.steps))


def a_row(estimate: float, half: float = 0.005, **tags: Any) -> dict[str, Any]:
    return tags | {
        "estimate": estimate, "ci_low": estimate - half, "ci_high": estimate + half, "nets": 8, "theory": math.nan
    }  # fmt: skip


def accuracies(batch_norm: Any, at_400: float, at_5500: float, fast: float) -> pandas.DataFrame:
    """Return what the verdict on D06 looks at, of a net with such accuracies."""
    rows = []
    for kind in batch_norm.NAMES:
        tags = {"part": "rate", "normalization": kind, "epoch": 20, "quantity": batch_norm.ACCURACY}
        for step, value in ((100, 0.8), (400, at_400), (5500, at_5500)):
            rows.append(a_row(value, rate=batch_norm.RATE, step=step, **tags))
        rows.append(a_row(fast, rate=batch_norm.FAST, step=400, **tags))
    tags = {"rate": batch_norm.RATE, "quantity": "change", "step": 400}
    rows.append(a_row(0.01, part="rate", **tags))
    rows += [a_row(0.01, part="mode", momentum=momentum, **tags) for momentum in (0.9, 0.99)]
    rows.append(a_row(0.8, part="samples", quantity=batch_norm.ACCURACY, step=100))
    return pandas.DataFrame(rows)


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ((0.92, 0.95, 0.93), "holds"),
        ((0.89, 0.95, 0.93), "holds when there are 5500 steps of batch 200, .*, or the learning rate is 0.1"),
        ((0.902, 0.904, 0.93), "holds when the learning rate is 0.1"),  # their intervals end below 0.9
        ((0.89, 0.89, 0.89), "fails"),
    ],
)
def test_training_well_is_a_matter_of_accuracy(batch_norm: Any, values: tuple[float, ...], verdict: str) -> None:
    found = batch_norm._trains_well(accuracies(batch_norm, *values))
    assert re.fullmatch(verdict, found.verdict)


def explosions(clipping: Any, diverged: dict[str, int], only_with: dict[str, int], nets: int = 12) -> pandas.DataFrame:
    """Return what the verdict on D04 looks at: of one setting, how many nets diverge, and learn only when clipped."""
    rows = []
    for kind in clipping.NAMES:
        counts = {
            "diverged": diverged.get(kind, 0), "learned": only_with.get(kind, 0), "only with": only_with.get(kind, 0),
            "only without": 0,
        }  # fmt: skip
        for quantity, count in counts.items():
            row = {"part": "explosion", "clipping": kind, "quantity": quantity, "gain": 2.0, "rate": 0.1, "step": 50}
            rows.append(row | {"estimate": count / nets, "nets": nets})
    return pandas.DataFrame(rows)


@pytest.mark.parametrize(
    ("diverged", "only_with", "verdict"),
    [
        (
            {"none": 12},
            {"value": 10, "norm": 12, "global_norm": 12},
            "holds when gradients explode, from large .* rates",
        ),
        ({"none": 12}, {"value": 5, "norm": 5, "global_norm": 12}, "holds when .*, and clipped by global norm 1"),
        ({"none": 12}, {}, "fails"),  # none diverges any more, and none learns
        ({"none": 12, "value": 12}, {"norm": 12, "global_norm": 12}, "fails"),
    ],
)
def test_clipping_is_a_remedy_if_nets_learn_with_it(
    clipping: Any, diverged: dict[str, int], only_with: dict[str, int], verdict: str
) -> None:
    found = clipping._remedy(explosions(clipping, diverged, only_with))
    assert re.fullmatch(verdict, found.verdict)
