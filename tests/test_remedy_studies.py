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


def accuracies(
    batch_norm: Any, at_400: float, at_5500: float, fast: float, *, by_steps: float = -0.01, at_1000: float = 0.8
) -> pandas.DataFrame:
    """Return what the verdict on D06 looks at, of a net with such accuracies."""
    rows, apart = [], {"steps": by_steps, "epochs": -0.1}
    for kind in batch_norm.NAMES:
        tags = {"part": "rate", "normalization": kind, "epoch": 20, "quantity": batch_norm.ACCURACY}
        for step, value in ((100, 0.8), (400, at_400), (1000, at_1000), (5500, at_5500)):
            rows.append(a_row(value, rate=batch_norm.RATE, step=step, **tags))
        rows.append(a_row(fast, rate=batch_norm.FAST, step=400, **tags))
    tags = {"rate": batch_norm.RATE, "quantity": "change", "step": 400}
    rows.append(a_row(0.01, part="rate", **tags))
    rows += [a_row(0.01, part="mode", momentum=momentum, **tags) for momentum in (0.9, 0.99)]
    rows += [a_row(value, part="fewer", quantity=f"as many {each}", step=60) for each, value in apart.items()]
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


@pytest.mark.parametrize(("at_1000", "after"), [(0.8, 5500), (0.95, 1000)])
def test_accuracy_is_good_from_where_all_later_looks_are(batch_norm: Any, at_1000: float, after: int) -> None:
    rows = accuracies(batch_norm, 0.92, 0.95, 0.8, at_1000=at_1000).query("normalization != 'none' and rate == 0.01")
    assert batch_norm._first_good(rows[(rows["part"] == "rate") & (rows["step"] != 400)]) == after
    assert batch_norm._first_good(rows[rows["quantity"] == batch_norm.ACCURACY]) == (400 if at_1000 > 0.9 else 5500)


@pytest.mark.parametrize(("by_steps", "words"), [(-0.01, "Steps count more than epochs"), (-0.09, "Whether")])
def test_steps_are_said_to_count_only_where_intervals_tell(batch_norm: Any, by_steps: float, words: str) -> None:
    assert batch_norm._steps_or_epochs(accuracies(batch_norm, 0.9, 0.9, 0.9, by_steps=by_steps)).startswith(words)


def starts(batch_norm: Any, small: int, large: int) -> pandas.DataFrame:
    """Return what verdicts on bad starts look at: how many of 8 nets learn with batch norm (negative: only without)."""
    rows = [a_row(0.01, part="rate", rate=batch_norm.RATE, quantity="change", step=400)]
    for gain, count in zip(batch_norm.GAINS, (small, large), strict=True):
        counts = {
            ("only with", batch_norm.NORMALIZED): max(count, 0),
            ("only without", batch_norm.NORMALIZED): max(-count, 0),
            ("learned", batch_norm.NORMALIZED): max(count, 0), ("learned", batch_norm.NONE): max(-count, 0),
            ("diverged", batch_norm.NORMALIZED): 0, ("diverged", batch_norm.NONE): 0,
        }  # fmt: skip
        for (quantity, kind), number in counts.items():
            tags = {"part": "start", "gain": gain, "normalization": kind, "quantity": quantity, "step": 40}
            rows.append(a_row(number / 8, **tags))
        tags = {"part": "path", "gain": gain, "quantity": batch_norm.LOSS, "step": 40}
        rows += [a_row(1.0, normalization=kind, **tags) for kind in batch_norm.NAMES]
    return pandas.DataFrame(rows)


def gradients(batch_norm: Any, normalized: float) -> pandas.DataFrame:
    """Return log10 of norms of dW of layer 1: -1 without batch norm."""
    sizes = {batch_norm.NORMALIZED: normalized, batch_norm.NONE: -1.0}
    tags = {"quantity": batch_norm.GRADIENT, "layer": 1}
    return pandas.DataFrame([
        a_row(size, normalization=kind, gain=gain, **tags)
        for kind, size in sizes.items() for gain in (1.0, *batch_norm.GAINS)
    ])  # fmt: skip


@pytest.mark.parametrize(
    ("small", "large", "verdict"),
    [
        (8, 8, "holds when the remedy is batch norm"),
        (8, -8, "holds when the remedy is batch norm and the weights are 0.01 times those of He"),
        (-8, 8, "holds when the remedy is batch norm and the weights are 10 times those of He"),
        (5, 5, "fails"),  # 5 of the 5 nets that tell anything: by chance once in 16 times
        (0, -8, "fails"),
    ],
)
def test_batch_norm_is_a_remedy_where_nets_learn_only_with_it(
    batch_norm: Any, small: int, large: int, verdict: str
) -> None:
    found = batch_norm._remedy(gradients(batch_norm, 3.0), starts(batch_norm, small, large))
    assert found.verdict == verdict


@pytest.mark.parametrize(
    ("small", "normalized", "verdict"),
    [(8, 3.0, "holds when .* weights near 0"), (5, 3.0, "fails"), (8, -1.0, "fails"), (-8, 3.0, "fails")],
)
def test_batch_norm_leaves_a_plateau_by_steeper_gradients(
    batch_norm: Any, small: int, normalized: float, verdict: str
) -> None:
    found = batch_norm._plateau(gradients(batch_norm, normalized), starts(batch_norm, small, -8))
    assert re.fullmatch(verdict, found.verdict)


def binding(clipping: Any, binds: float, equal: float) -> pandas.DataFrame:
    """Return what the verdict on D07 looks at: in which share of nets the clip binds, and which stay equal."""
    tags: dict[str, Any] = {"part": "claim", "clipping": "value", "step": 150, "layer": 0}
    values = {"binds": binds, "bit_equal": equal, clipping.ENGAGED: binds / 10}
    values |= {f"{name}_change": 0.0 for name in (clipping.ACCURACY, clipping.LOSS)}
    rows = [a_row(value, quantity=quantity, **tags) for quantity, value in values.items()]
    tags |= {"part": "bound", "bound": 0.01}
    rows += [a_row(1.0, quantity=clipping.ENGAGED, **tags), a_row(0.9, quantity=clipping.COSINE, **tags | {"step": 0})]
    rows.append(a_row(-0.1, quantity=f"{clipping.ACCURACY}_change", **tags))
    rows.append(a_row(0.2, quantity=clipping.ENGAGED, **tags | {"part": "explosion", "gain": 2.0, "rate": 0.1}))
    return pandas.DataFrame(rows)


@pytest.mark.parametrize(
    ("binds", "equal", "verdict"), [(0.0, 1.0, "fails"), (0.5, 1.0, "fails"), (0.25, 0.75, "holds")]
)
def test_a_clip_matters_where_it_binds_and_changes_weights(
    clipping: Any, binds: float, equal: float, verdict: str
) -> None:
    table = pandas.DataFrame([{"gain": 1.0, "layer": 1, "estimate": 0.0}])
    found = clipping._binding(table, binding(clipping, binds, equal))
    assert found.verdict == verdict
    assert found.estimate == binds
    assert "binds at 0.01 and below" in found.note


def explosions(clipping: Any, diverged: dict[str, float], saved: dict[str, float]) -> pandas.DataFrame:
    """Return what the verdict on D04 looks at: which shares diverge, and which a clip saves of those that do."""
    rows = []
    for kind in clipping.NAMES:
        tags = {"part": "explosion", "clipping": kind, "gain": 2.0, "rate": 0.1, "step": 50}
        rows.append(a_row(diverged.get(kind, 0.0), quantity="diverged", **tags))
        rows.append(a_row(saved.get(kind, 0.0), quantity="learned", **tags))
    for kind in clipping.KINDS:
        rows.append(a_row(saved.get(kind, 0.0), half=0.1, part="exploded", clipping=kind))
        rows.append(a_row(0.0, part="elsewhere", clipping=kind))
    return pandas.DataFrame(rows)


@pytest.mark.parametrize(
    ("diverged", "saved", "verdict"),
    [
        ({"none": 1}, {"value": 0.7, "norm": 0.9, "global_norm": 1}, "holds when .* most of those settings"),
        ({"none": 1}, {"value": 0.2, "norm": 0.9, "global_norm": 1}, "holds when .* some of those settings"),
        ({"none": 1}, {"value": 0.05, "norm": 0.05, "global_norm": 1}, "holds when .*, and clipped by global norm 1"),
        ({"none": 1}, {}, "fails"),  # none diverges any more, and none learns
        ({"none": 1, "value": 1, "norm": 1, "global_norm": 1}, {"value": 0.5}, "fails"),
    ],
)
def test_clipping_is_a_remedy_if_nets_learn_with_it(
    clipping: Any, diverged: dict[str, float], saved: dict[str, float], verdict: str
) -> None:
    found = clipping._remedy(explosions(clipping, diverged, saved))
    assert re.fullmatch(verdict, found.verdict)


def test_each_net_is_one_number_however_many_settings_it_has(clipping: Any) -> None:
    change = np.array([[1, 1, 0], [1, 0, 1], [0, 0, 1]])
    there = np.array([[True, True, False], [True, True, False], [False, True, False]])
    row = clipping.saved(change, there)  # of the nets 1 and 1/3; the third never diverges
    assert (row["estimate"], row["nets"]) == (pytest.approx(2 / 3), 2)
    assert clipping.saved(-change, there)["estimate"] == pytest.approx(-2 / 3)
    alike = clipping.saved(np.ones((2, 4), int), np.ones((2, 4), bool))
    assert (alike["estimate"], alike["ci_low"]) == (1, pytest.approx(0.398, abs=1e-3))  # no interval of length 0
    assert math.isnan(clipping.saved(change, ~there & there)["ci_low"])
