"""The first layer at which number formats fail, against nets in which every number is a known power of the gain."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm

from stabsim.diagnosis import diagnose
from stabsim.diagnosis.formats import FormatLimit
from stabsim.network import Network
from stabsim.number_formats import FLOAT32, FORMATS

WIDTH = 8


def limits(gain: float, depth: int, **more: Any) -> dict[tuple[str, str], FormatLimit]:
    """Return what fails in nets whose weights are the gain on the diagonal: z_l = gain^l, inputs being 1."""
    network = Network((WIDTH,) * (depth + 1), "linear", f"identity(gain={gain!r})", **more)
    found = diagnose(network, inputs=np.ones((1, WIDTH)), seed=1, nets=128, repair=False)
    return {(each.format, each.of): each for each in found.formats}


def exact(name: str, gain: float) -> int:
    """Return the first layer at which gain^l is infinite, or 0 after rounding."""
    form = FORMATS[name]
    layer = 1
    while form.flush_threshold < gain**layer < form.overflow_threshold:
        layer += 1
    return layer


@pytest.mark.parametrize(("gain", "what"), [(4.0, "overflow"), (0.25, "zeros")])
def test_signals_leave_each_format_at_the_exact_layer(gain: float, what: str) -> None:
    """Powers of 4 are numbers of every format, until they are none."""
    found = limits(gain, 70)
    for name in FORMATS:
        each = found[name, "signal"]
        assert (each.layer, each.what, each.by) == (exact(name, gain), what, "simulated"), name
        assert each.earliest == each.latest == each.layer
    assert exact("float16", gain) == {4.0: 8, 0.25: 13}[gain]  # 4^8 > 65504; 4^-12 is the smallest number


def test_a_gain_that_is_5_percent_less_would_be_seen() -> None:
    found = limits(4.0 * 0.95, 70)
    assert found["float16", "signal"].layer != exact("float16", 4.0)
    assert found["bfloat16", "signal"].layer != exact("bfloat16", 4.0)


def test_digits_are_lost_below_the_smallest_normal_number() -> None:
    found = limits(0.25, 70)
    for name, form in FORMATS.items():
        first = math.floor(math.log(form.smallest_normal) / math.log(0.25) + 1e-9) + 1
        assert found[name, "signal"].subnormal == first, name
    assert found["float16", "signal"].subnormal == 8  # 4^-7 is the smallest normal number


def test_gradients_leave_it_on_their_way_down() -> None:
    """They begin as standard normal numbers at the last layer; the largest of 8 is 1.4 in half of the nets."""
    largest = norm.isf(0.5 * (1 - 0.5 ** (1 / WIDTH)))
    depth = 70
    found = limits(0.25, depth)
    for name, form in FORMATS.items():
        layers = math.log(form.flush_threshold / largest) / math.log(0.25)
        each = found[name, "gradient"]
        assert each.what == "zeros" and each.layer is not None and abs(depth - each.layer - layers) <= 1.0, name
        assert each.earliest is not None and each.latest is not None and each.earliest >= each.layer >= each.latest


def test_float32_is_predicted_by_the_range_of_its_exponent() -> None:
    """Half of the nets have a number beyond it where 8 normal numbers of that size have one with probability 1/2."""
    for gain in (4.0, 0.25):
        each = limits(gain, 90)["float32", "signal"]
        level = FLOAT32.overflow_threshold if gain > 1 else FLOAT32.flush_threshold
        largest = norm.isf(0.5 * (1 - 0.5 ** (1 / WIDTH)))
        expected = math.ceil(math.log(level / largest) / math.log(gain))
        assert (each.layer, each.by, each.what) == (expected, "predicted", "overflow" if gain > 1 else "zeros")


def test_predictions_are_those_of_simulated_nets() -> None:
    """Where structures refuse simulated formats; here a gain, so that both are there."""
    plain = Network((64,) * 51, "linear", "lecun_normal(gain=2)")
    found = diagnose(plain, seed=1, repair=False)
    from stabsim.diagnosis.formats import limits as limits_of

    predicted = {(each.format, each.of): each for each in limits_of(found.result, None)}
    for each in found.formats:
        other = predicted[each.format, each.of]
        if each.layer is None:
            assert other.layer is None or max(other.layer, 51 - other.layer) >= 48
        else:
            assert other.layer is not None and abs(other.layer - each.layer) <= 2, each
    assert found.formats[2].by == "simulated" and other.by == "predicted"


def test_nets_that_are_dead_have_failed_where_they_are_predicted_too() -> None:
    """A sample comes through a layer of 2 ReLUs with probability 3/4: half of the nets are dead from layer 3 on."""
    network = Network((2,) * 101, "relu", "he_normal")
    first = math.ceil(math.log(0.5) / math.log(0.75))
    found = {(each.format, each.of): each for each in diagnose(network, batch=1, seed=1, repair=False).formats}
    for name in ("float32", "float16"):
        signal, gradient = found[name, "signal"], found[name, "gradient"]
        assert (signal.what, gradient.what) == ("zeros", "zeros")
        assert signal.earliest is not None and signal.latest is not None
        assert signal.earliest <= first <= signal.latest and signal.latest - signal.earliest < 10
        assert gradient.layer is not None and gradient.layer >= 97
    assert (found["float32", "signal"].by, found["float16", "signal"].by) == ("predicted", "simulated")
    pair = diagnose(network, batch=2, seed=1, repair=False)
    assert "float32      signal is all 0 at layer" in repr(pair) and "holds" not in repr(pair)


def test_structures_are_predicted_and_say_so() -> None:
    found = diagnose(Network((16,) * 31, "relu", "he_normal", normalization="batch"), seed=1, repair=False)
    assert {each.by for each in found.formats} == {"predicted"} and "(predicted)" in repr(found)


def test_a_verdict_in_a_format_is_that_of_nets_in_it() -> None:
    """0.7^25 is 10^-3.9: a tolerance of 10^6 bears that in float32, while an 8-bit format has nothing left."""
    network = Network((32,) * 26, "tanh", "lecun_normal(gain=0.7)")
    fine = diagnose(network, seed=1, formats=False, tolerance=1e6)
    coarse = diagnose(network, seed=1, formats=False, tolerance=1e6, format="float8_e4m3", repair=False)
    assert fine.stable and coarse.verdict.kind == "vanishing" and "float8_e4m3" in coarse.verdict.sentence
    over = diagnose(Network((32,) * 21, "relu", "he_normal(gain=4)"), seed=1, format="float16")
    assert (over.verdict.kind, over.verdict.of) == ("exploding", "signal") and over.repair is not None
    assert over.repair.verdict.kind == "stable"


def test_gradients_that_are_0_since_signals_overflow_say_so() -> None:
    """3.5^l of layer l: beyond 65504 from layer 9 on, so that f' has no more to say."""
    network = Network((64,) * 31, "relu", "lecun_normal(gain=5)")
    found = diagnose(network, seed=1, format="float16", formats=False, repair=False)
    assert (found.verdict.kind, found.verdict.of, found.gradient.kind) == ("exploding", "signal", "dead")
    assert found.gradient.sentence.endswith("where signals overflow") and "overflow" in repr(found)


def test_what_is_dead_in_every_format_is_dead_in_a_narrow_one() -> None:
    """Zeros that come of units which are off, and not of rounding."""
    found = diagnose(Network((4,) * 31, "relu", "he_normal"), seed=1, format="float16", formats=False, repair=False)
    assert found.verdict.kind == "dead" and "overflow" not in found.gradient.sentence


def test_a_format_that_a_structure_refuses_is_bad_usage() -> None:
    network = Network((8,) * 4, "relu", "he_normal", normalization="batch")
    with pytest.raises(ValueError, match=r"precision='float16' does not go with normalization='batch"):
        diagnose(network, format="float16")
