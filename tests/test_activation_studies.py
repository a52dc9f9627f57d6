"""The rules of the studies of half precision and of activations, both ways, on made-up tables."""

from __future__ import annotations

import math
import sys
from typing import Any

import pandas
import pytest

from stabsim.discovery import files, load
from stabsim.verdicts import counted


@pytest.fixture(scope="module")
def half() -> Any:
    """Return the module of the study of half precision."""
    return sys.modules[load(files()["half_precision_training"]).cases.__module__]


@pytest.fixture(scope="module")
def study() -> Any:
    """Return the module of the study of activations."""
    return sys.modules[load(files()["activation_training"]).cases.__module__]


def sure(value: float, spread: float = 0.01) -> dict[str, float]:
    return {"estimate": value, "ci_low": value - spread, "ci_high": value + spread, "nets": 8, "theory": math.nan}


def share(k: int, n: int = 12) -> dict[str, float]:
    return counted([True] * k + [False] * (n - k)) | {"theory": math.nan}


# --- half precision ------------------------------------------------------------------------------------


def rates(half: Any, *, first: str, narrow: bool, still: bool = True) -> pandas.DataFrame:
    """Return nets of which a format overflows at gain 4, that learn at three rates at gain 1 and at fewer above."""
    rows: list[dict[str, Any]] = []
    for form in half.FORMATS:
        for gain in half.OVERFLOW:
            lost = gain >= (4.0 if form.startswith(first) else 100.0)
            rows.append({"part": "overflow", "setting": form, "gain": gain, "quantity": "lost"} | share(12 * lost))
        for gain in half.GAINS:
            for rate in range(-4, 2):
                learns = -3 <= rate <= (-3 if narrow and gain == 2.0 else -1) and 1.0 <= gain <= 2.0
                found = {"learned": share(12 * learns), "diverged": share(12 * (rate == 1)),
                         "accuracy": sure(0.8 if learns or not still else 0.1), "moved": sure(1.0)}  # fmt: skip
                tags = {"part": "window", "setting": form, "gain": gain, "rate": rate}
                rows += [tags | {"quantity": name} | each for name, each in found.items()]
    return pandas.DataFrame(rows)


def test_float16_overflows_first_or_it_does_not(half: Any) -> None:
    assert half._rates(rates(half, first="float16", narrow=True)).verdict == "holds"
    assert half._rates(rates(half, first="float16", narrow=False)).verdict.startswith("holds when 'delicate' is")
    for wrong in ("", "float32", "bfloat16"):  # all at once, and others first
        assert half._rates(rates(half, first=wrong, narrow=True)).verdict == "fails"
    assert half._rates(rates(half, first="float16", narrow=True, still=False)).verdict == "fails"


def vanishing(half: Any, zeros: dict[str, list[float]], accuracy: dict[str, float]) -> pandas.DataFrame:
    """Return nets with these shares of zeros and accuracies in float16; elsewhere no zeros, and 0.8."""
    rows: list[dict[str, Any]] = []
    for net in half.VANISHING:
        for form in half.ONE_EACH:
            tags = {"part": "vanishing", "net": net, "setting": form}
            for layer, value in enumerate(zeros[net], 1):
                shares = {"zeros": sure(value if form == half.MASTER else 0.0), "zeros at the end": sure(0.0),
                          "unmoved": share(0)}  # fmt: skip
                rows += [tags | {"layer": layer, "quantity": name} | each for name, each in shares.items()]
            best = accuracy[net] if form == half.MASTER else 0.8
            rows += [tags | {"quantity": "best"} | sure(best), tags | {"quantity": "over float32"} | sure(best - 0.8)]
    return pandas.DataFrame(rows)


def test_zeros_are_judged_net_by_net(half: Any) -> None:
    names = list(half.VANISHING)
    below, every, none = (dict.fromkeys(names, zeros) for zeros in ([1.0, 0.4, 0.0], [1.0] * 3, [0.0] * 3))
    lost = dict.fromkeys(names, 0.1)
    assert half._zeros(vanishing(half, below, lost)).verdict == "holds"
    helped = lost | {"sigmoid": 0.8, "tanh": 0.5}
    found = half._zeros(vanishing(half, every, helped))
    assert found.verdict.startswith("holds when biases are not trained; then all layers, the top ones too")
    assert "learns as well as in float32; tanh" in found.note and found.estimate == 0.1
    assert half._zeros(vanishing(half, below, helped)).verdict == "holds when biases are not trained"
    assert half._zeros(vanishing(half, below, dict.fromkeys(names, 0.8))).verdict == "fails"
    assert half._zeros(vanishing(half, none, lost)).verdict == "fails"


def ranges(half: Any, learns: Any) -> pandas.DataFrame:
    """Return nets that learn if ``learns(form, gain)``; the smallest gain is below the range, the largest above."""
    rows: list[dict[str, Any]] = [{"part": "window", "rate": 1.0, "step": 100}]
    for gain in half.GAINS:
        there = {half.GAINS[0]: half.BELOW, half.GAINS[-1]: half.ABOVE}.get(gain, half.INSIDE)
        for form in half.FORMATS:
            found = {where: share(12 * (where == there)) for where in (half.INSIDE, half.BELOW, half.ABOVE)}
            found |= {f"above {level:g}": share(12 * learns(form, gain)) for level in (half.LEARNED, half.WELL)}
            tags = {"part": "range", "setting": form, "gain": gain}
            rows += [tags | {"quantity": name} | each for name, each in found.items()]
    return pandas.DataFrame(rows)


def test_the_range_of_gradients_is_blamed_where_the_format_matters(half: Any) -> None:
    low, high = half.GAINS[0], half.GAINS[-1]
    assert half._range(ranges(half, lambda form, gain: low < gain < high)).verdict == "holds"
    found = half._range(ranges(half, lambda form, gain: gain == 1.0 or (gain == high and form not in half.HALVES)))
    assert found.verdict.startswith("holds when numbers are float16") and "above 1e3 are meant" in found.verdict
    assert "below 1e-6 no format learned here" in found.verdict and "inside is not enough" in found.note
    assert half._range(ranges(half, lambda form, gain: True)).verdict == "fails"
    assert half._range(ranges(half, lambda form, gain: gain == 1.0)).verdict == "fails"  # float32 does no better


# --- activations ---------------------------------------------------------------------------------------


def paired(study: Any, wins: Any, **spread: float) -> pandas.DataFrame:
    """Return differences of accuracy ``wins(line, depth)``, and the rates at which nets learned best."""
    remedies = ("Xavier", study.NORMALIZED, "elu", "elu with He")
    starts = ("Xavier, tanh", "Xavier, relu", "Xavier, tanh more than relu", "He over Xavier, relu")
    lines = [*starts, "He over Xavier, tanh", *(f"remedy {name}" for name in remedies)]
    rows = [
        {"part": "paired", "setting": line, "start": "", "depth": depth, "quantity": "accuracy"}
        | sure(wins(line, depth), **spread)
        for line in lines for depth in study.DEPTHS
    ]  # fmt: skip
    rows += [
        {"part": "grid", "setting": "tanh", "start": "He", "depth": 3, "quantity": "accuracy", "rate": rate} | sure(0.9)
        for rate in (0.01, 0.1, 0.3)
    ]
    return pandas.DataFrame(rows)


def test_xavier_and_he_are_told_apart_by_depth(study: Any) -> None:
    found = study._right_start(paired(study, lambda line, depth: 0.3 if depth > 3 else 0.04))
    assert found.verdict == "holds" and "by more than 0.05, a margin set after first results, at 10, 20" in found.note
    found = study._right_start(paired(study, lambda line, depth: 0.3 if depth == 10 else 0.0))
    assert found.verdict == "holds when the net has 10 hidden layers, of 3, 10, 20" and found.estimate == 0.3
    assert study._right_start(paired(study, lambda line, depth: 0.0)).verdict == "fails"
    worse = paired(study, lambda line, depth: -0.3 if line.startswith("He over") and depth == 3 else 0.3)
    assert study._right_start(worse).verdict == "fails"


def test_a_remedy_is_named_with_the_depths_at_which_it_works(study: Any) -> None:
    assert study._remedies(paired(study, lambda line, depth: 0.5)).verdict == "holds"
    found = study._remedies(paired(study, lambda line, depth: 0.5 if "batch" in line and depth < 20 else 0.0))
    assert found.verdict == (
        "holds when the remedy is batch norm (3 hidden layers); batch norm (10 hidden layers); "
        "none of them (20 hidden layers)"
    )
    assert found.estimate == 0.5
    assert study._remedies(paired(study, lambda line, depth: 0.5, spread=0.45)).verdict == "fails"


def speeds(study: Any, factor: Any, end: float) -> pandas.DataFrame:
    """Return nets whose layer 3 changes ``factor(start, step)`` times as fast as layer 1, ``end`` times as far."""
    rows = [
        {"part": "speed", "setting": "sigmoid", "start": start, "step": step, "quantity": name} | sure(value)
        for start in study.SPEED_STARTS for step in study.TIMES
        for name, value in (("update", math.log10(factor(start, step))), ("distance", math.log10(end)), ("loss", 2.3))
    ]  # fmt: skip
    return pandas.DataFrame(rows)


def test_the_first_layer_is_slow_for_ever_at_first_or_not(study: Any) -> None:
    assert study._slow_layer(speeds(study, lambda start, step: 10.0, 10.0)).verdict == "holds"
    found = study._slow_layer(speeds(study, lambda start, step: 10.0 if step <= 30 else 1.0, 1.0))
    assert "up to step 30 (std 0.01, loss 2.30)" in found.verdict and "layer 3 moves 1 [" in found.verdict
    for wrong in (
        lambda start, step: 2.0,
        lambda start, step: 10.0 if step == 1 else 1.0,
        lambda start, step: 10.0 if start == "Xavier" else 1.0,
    ):
        assert study._slow_layer(speeds(study, wrong, 1.0)).verdict == "fails"


def recoveries(study: Any, *, first: int = 0, above: int = 10, leaky: int = 6) -> pandas.DataFrame:
    """Return in how many of 10 nets a dead unit recovers: of layer 1, of those above, and of leaky nets."""
    rows: list[dict[str, Any]] = []
    for setting in study.SETTINGS:
        rows.append({"setting": setting, "layer": 0, "quantity": "accuracy"} | sure(0.9))
        for layer in study.HIDDEN[:1] if setting == study.LEAKY else study.HIDDEN:
            k = leaky if setting == study.LEAKY else first if layer == 1 else above
            rows += [{"setting": setting, "layer": layer, "quantity": name} | share(k, 10)
                     for name in (study.ONCE, study.OF_NETS)]  # fmt: skip
    return pandas.DataFrame(rows).assign(part="deaths")


def test_dead_units_are_counted_by_nets(study: Any) -> None:
    assert study._dead_units(recoveries(study, above=0)).verdict == "holds"
    found = study._dead_units(recoveries(study))
    assert found.verdict.startswith("holds when the unit is in layer 1") and "layers 2, 3" in found.verdict
    for wrong in ({"first": 1}, {"leaky": 0}):
        assert study._dead_units(recoveries(study, **wrong)).verdict == "fails"
