"""Learning-rate schedules against their formulas, step by step, and PyTorch's."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stabsim.training import SCHEDULES, schedule


def naive(name: str, t: int, steps: int, *, every: int = 500, factor: float = 0.1, end: float = 0.0) -> float:
    if name == "step":
        for _ in range(t // every):
            end = end or 1.0
            end *= factor
        return end or 1.0
    return 1.0 if name == "constant" else end + 0.5 * (1.0 - end) * (1.0 + math.cos(math.pi * t / steps))


@given(
    name=st.sampled_from(sorted(SCHEDULES)),
    steps=st.integers(1, 60),
    warmup=st.integers(0, 70),
    every=st.integers(1, 70),
    value=st.floats(0.01, 1.0),
)
def test_factors_are_those_of_the_formulas_behind_a_line(
    name: str, steps: int, warmup: int, every: int, value: float
) -> None:
    own: dict[str, Any] = {"constant": {}, "step": {"every": every, "factor": value}, "cosine": {"end": value}}[name]
    text = ", ".join(f"{key}={each!r}" for key, each in (own | {"warmup": warmup}).items())
    found = schedule(f"{name}({text})").factors(steps)
    expected = [
        (t + 1) / warmup if t < warmup else naive(name, t - warmup, steps - warmup, **own) for t in range(steps)
    ]
    assert found.dtype == np.float64 and found == pytest.approx(expected, rel=1e-12)


def test_every_schedule_begins_with_the_whole_rate_has_a_source_and_is_read_back() -> None:
    for name, entry in SCHEDULES.items():
        made = schedule(name)
        assert made.factors(1).tolist() == made.factors(1000)[:1].tolist() == [1.0]
        assert entry.source == made.source and made.parameters["warmup"] == 0.0
        again = schedule(str(made))
        assert again == made and schedule(again) is again
        assert np.array_equal(schedule(f"{name}(warmup=1)").factors(9)[1:], made.factors(8))
        assert schedule(f"{name}(warmup=8)").factors(4).tolist() == [0.125, 0.25, 0.375, 0.5]


def test_ends_of_parameters() -> None:
    assert schedule("cosine(end=1)").factors(7).tolist() == [1.0] * 7
    assert schedule("cosine").factors(2).tolist() == pytest.approx([1.0, 0.5])
    assert schedule("step(every=1, factor=0)").factors(3).tolist() == [1.0, 0.0, 0.0]
    assert schedule("step(every=1, factor=0.5)").factors(2000)[-1] == 0.0  # below every float64


@pytest.mark.parametrize(
    ("spec", "fragment"),
    [
        ("cos", "unknown schedule 'cos'; known, nearest first: co"),
        ("cosine(start=1)", "unknown parameter of cosine 'start'; known, nearest first: "),
        ("cosine(end=1.5)", "end must be a finite number >= 0 and <= 1, not 1.5"),
        ("step(factor=-0.1)", "factor must be a finite number >= 0 and <= 1, not -0.1"),
        ("step(every=2.5)", "every must be an integer from 1 to 1000000000000000, not 2.5"),
        ("step(every=0)", "every must be an integer from 1 to 1000000000000000, not 0"),
        ("constant(warmup=-1)", "warmup must be an integer from 0 to 1000000000000000, not -1"),
        ("constant(warmup=soon)", "warmup must be an integer from 0 to 1000000000000000, not 'soon'"),
        ("constant(t=1)", "unknown parameter of constant 't'"),
        (0.1, "schedule must be a name or a stabsim.training.Schedule, not 0.1"),
    ],
)
def test_a_bad_schedule_is_refused(spec: Any, fragment: str) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        schedule(spec)
    assert fragment in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("steps", [0, -1, 2.0, True, "10"])
def test_steps_are_a_whole_number(steps: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="steps must be an integer from 1 to"):
        schedule("cosine").factors(steps)


@pytest.mark.parametrize("spec", ["step(every=7, factor=0.3)", "cosine(end=0.05)", "cosine", "constant(warmup=9)"])
def test_torch_has_the_same_factors(spec: str) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is optional: its schedulers are a second oracle")
    made, steps, rate = schedule(spec), 40, 0.2
    descent = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=rate)
    given, kinds = made.parameters, torch.optim.lr_scheduler
    if made.name == "step":
        theirs = kinds.StepLR(descent, int(given["every"]), given["factor"])
    elif made.name == "cosine":
        theirs = kinds.CosineAnnealingLR(descent, steps, eta_min=given["end"] * rate)
    else:
        theirs = kinds.LinearLR(descent, 1 / given["warmup"], total_iters=int(given["warmup"]) - 1)
    found = []
    for _ in range(steps):
        found.append(theirs.get_last_lr()[0] / rate)
        descent.step()
        theirs.step()
    assert made.factors(steps) == pytest.approx(found, rel=1e-9)
