"""Every row of the reference table on float16, by simulation of the nets that it is about."""

from __future__ import annotations

import csv
import functools
import math
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.special import ndtr

import stabsim
from stabsim import Network
from stabsim.number_formats import FLOAT16
from tests.checks import assert_agrees, must_fail
from tests.test_number_formats import Floats, round_and_count, round_to

FILE = Path(__file__).parents[1] / "data" / "reference_values.csv"
with FILE.open(newline="") as opened:
    ROWS = {row["id"]: row for row in csv.DictReader(opened) if row["area"] == "11 fp16"}


def first_where(holds: Callable[[float, dict[str, int]], bool]) -> float:
    """Return the smallest float32 > 0 whose rounding to float16, with what is counted of it, has a property."""
    low, high = 0, int(np.float32(np.inf).view(np.int32))
    while high - low > 1:
        middle = (low + high) // 2
        (value,), counts = round_and_count(np.array([middle], np.int32).view(np.float32), "float16")
        low, high = (low, middle) if holds(float(value), counts) else (middle, high)
    return float(np.array([high], np.int32).view(np.float32)[0])


def rounded_to(x: float) -> float:
    return float(round_to([x], "float16")[0])


def before(x: float) -> float:
    return float(np.nextafter(np.float32(x), np.float32(0)))


CONSTANTS: dict[str, Callable[[], float]] = {
    "11.min_sub": lambda: rounded_to(first_where(lambda value, _: value > 0)),
    "11.min_norm": lambda: rounded_to(first_where(lambda value, n: value > 0 and n["subnormal"] == 0)),
    "11.max": lambda: rounded_to(before(first_where(lambda _, n: n["overflow"] > 0))),
    "11.ovf": lambda: first_where(lambda _, n: n["overflow"] > 0),
    "11.unf": lambda: before(first_where(lambda value, _: value > 0)),
    "11.eps": lambda: rounded_to(first_where(lambda value, _: value > 1.0)) - 1.0,
}
# Of each setting the width, the activation, the weights and how many nets are drawn.
SETTINGS: dict[str, tuple[int, str, str, int]] = {
    "ReLU_n_100_w_N_0_1_rms_x": (100, "relu", "normal(std=1)", 5000),
    "ReLU_n_100_w_N_0_0.05_2_r": (100, "relu", "normal(std=0.05)", 2000),
    "ReLU_Xavier_nVar_1_rms_x_sq": (100, "relu", "glorot_normal", 1000),
    "ReLU_n_100_std_0.01_rms_x": (100, "relu", "normal(std=0.01)", 5000),
    "linear_nVar_1_3_std_x_0.577": (100, "linear", f"lecun_normal(gain={3**-0.5})", 2000),
    "ReLU_n_1000_w_N_0_1_rms_x": (1000, "relu", "normal(std=1)", 60),
    "ReLU_nVar_4_2x_He_rms_x_s": (100, "relu", "lecun_normal(gain=2)", 3000),
}
DEPTH_ROWS = [id_ for id_ in ROWS if id_.startswith("11.depth.")]
LEVELS = {
    "ovf": FLOAT16.largest,
    "min_sub": FLOAT16.smallest_subnormal,
    "flush_2": FLOAT16.flush_threshold,
    "min_nor": FLOAT16.smallest_normal,
}
# Which share of the pre-activations a level decides.
SHARE = {"ovf": "overflow", "min_sub": "subnormal", "flush_2": "underflow", "min_nor": "subnormal"}


def depth_row(id_: str) -> tuple[str, str, float]:
    """Return the level, the setting and the real depth of a row."""
    _, _, level, setting = id_.split(".", 3)
    return level, setting, float(ROWS[id_]["value"])


@functools.cache
def simulated(setting: str, precision: str) -> stabsim.Result:
    """Return nets of a setting, from inputs that are all 1, four layers beyond the deepest row of it."""
    width, activation, weights, nets = SETTINGS[setting]
    depth = max(math.floor(depth_row(id_)[2]) for id_ in DEPTH_ROWS if depth_row(id_)[1] == setting) + 5
    network = Network((width,) * (depth + 1), activation, weights)
    seen = ("activation_mean_square", "activation_log10_norm")
    kept: list[str] = []
    if precision == "float16":
        kept = [f"preactivation_{share}_fraction" for share in ("overflow", "underflow", "subnormal")]
        kept += ["activation_log10_norm", "activation_failed_fraction"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return stabsim.simulate(
            network, nets=nets, seed=11, inputs=np.ones((1, width)), precision=precision, samples=kept,
            quantities=(*seen, *kept),
        )  # fmt: skip


def test_every_row_on_float16_is_tested() -> None:
    tested = [*CONSTANTS, *DEPTH_ROWS, *(id_ for id_ in ROWS if id_.startswith(("11.flushfrac.", "11.ovffrac.")))]
    assert sorted(tested) == sorted(ROWS)
    assert {depth_row(id_)[1] for id_ in DEPTH_ROWS} == set(SETTINGS)


@pytest.mark.parametrize("id_", CONSTANTS)
def test_constants_of_float16(id_: str) -> None:
    assert CONSTANTS[id_]() == pytest.approx(float(ROWS[id_]["value"]), rel=1e-13)


@pytest.mark.parametrize("id_", DEPTH_ROWS)
def test_the_root_mean_square_reaches_a_level_at_the_depth_of_the_table(id_: str) -> None:
    level, setting, depth = depth_row(id_)
    found = simulated(setting, "float32").estimates("activation_mean_square")
    layers = [math.floor(depth), math.floor(depth) + 1]
    logarithm = np.log(found.estimate[layers])
    slope = logarithm[1] - logarithm[0]
    crossing = layers[0] + (2 * math.log(LEVELS[level]) - logarithm[0]) / slope
    error = np.max(found.std_error[layers] / found.estimate[layers]) / abs(slope)
    assert_agrees(crossing, depth, error)
    must_fail(assert_agrees, crossing, 1.05 * depth, error)


def normal_shares(std: Floats, wrong: float = 1.0) -> dict[str, Floats]:
    """Return the shares of N(0, std^2) that overflow, become 0 and become subnormal; thresholds times ``wrong``."""
    with np.errstate(divide="ignore", over="ignore"):
        beyond = 2 * ndtr(-wrong * FLOAT16.overflow_threshold / std)
        gone = 1 - 2 * ndtr(-wrong * FLOAT16.flush_threshold / std)
        small = 1 - 2 * ndtr(-wrong * (FLOAT16.smallest_normal - FLOAT16.flush_threshold) / std)
    return {"overflow": beyond, "underflow": gone, "subnormal": small - gone}


def stds(setting: str) -> Floats:
    """Return the standard deviation of the pre-activations of every net and layer given the activations before."""
    result = simulated(setting, "float16")
    weights = [math.nan, *result.network.weight_stds]
    norms = 10.0 ** result.samples["activation_log10_norm"]
    return np.asarray(np.concatenate([np.full((len(norms), 1), np.nan), norms[:, :-1]], axis=1) * weights)


@pytest.mark.parametrize("id_", DEPTH_ROWS)
def test_shares_at_the_depths_of_the_table_are_those_of_a_normal_law(id_: str) -> None:
    level, setting, depth = depth_row(id_)
    result, share = simulated(setting, "float16"), SHARE[level]
    layers = slice(
        max(math.floor(depth) - 5, 1), math.floor(depth) + 2
    )  # before, since most nets have overflown at the last
    std = stds(setting)[:, layers]
    alive = (std > 0) & (std < np.inf)
    p = normal_shares(std[alive])[share]
    found = result.samples[f"preactivation_{share}_fraction"][:, layers][alive]
    error = np.sqrt(np.sum(p * (1 - p)) / result.network.widths[1])
    assert_agrees(np.sum(found), np.sum(p), error)
    must_fail(assert_agrees, np.sum(found), 1.05 * np.sum(p), error)


@pytest.mark.parametrize("setting", [each for each, (width, *_) in SETTINGS.items() if width == 100])
def test_the_first_layer_that_fails_has_the_law_of_the_normal_shares(setting: str) -> None:
    width, activation, _, _ = SETTINGS[setting]
    failed = simulated(setting, "float16").samples["activation_failed_fraction"]

    def check(wrong: float) -> None:
        shares = normal_shares(stds(setting)[:, 1:], wrong)
        one_gone = shares["underflow"] if activation == "linear" else (1 + shares["underflow"]) / 2
        chance = 1 - (1 - shares["overflow"]) ** width + one_gone**width
        at_stake = failed[:, :-1] == 0
        expected_failures, happened = chance[at_stake], failed[:, 1:][at_stake]
        error = math.sqrt(np.sum(expected_failures * (1 - expected_failures)))
        assert_agrees(np.sum(happened), np.sum(expected_failures), error)

    check(1.0)
    must_fail(check, 1.05)


@pytest.mark.parametrize("id_", [id_ for id_ in DEPTH_ROWS if ".min_nor." not in id_])
def test_nets_fail_near_the_depths_of_the_table(id_: str) -> None:
    _, setting, depth = depth_row(id_)
    failed = simulated(setting, "float16").estimates("activation_failed_fraction").estimate
    median = int(np.argmax(failed >= 0.5))
    assert np.all(failed[: math.floor(0.5 * depth)] == 0) and np.all(np.diff(failed) >= 0)
    assert depth - 3 < median < depth + 5


@functools.cache
def normal_preactivations(std: float) -> tuple[Floats, Floats, int]:
    """Return, per net, the shares of pre-activations N(0, std^2) that overflow and that become 0; and of how many."""
    scale = 2.0 ** round(math.log2(std) / 2)
    network = Network((4, 4096), "linear", f"normal(std={std / scale / 2})")
    kept = ("preactivation_overflow_fraction", "preactivation_underflow_fraction")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        samples = stabsim.simulate(
            network,
            nets=10_000,
            seed=3,
            inputs=np.full((1, 4), scale),
            precision="float16",
            quantities=kept,
            samples=kept,
        ).samples
    return samples[kept[0]][:, 1], samples[kept[1]][:, 1], 4096 * 10_000


@pytest.mark.parametrize("id_", [id_ for id_ in ROWS if id_.startswith(("11.flushfrac.", "11.ovffrac."))])
def test_shares_of_normal_numbers(id_: str) -> None:
    wanted, std = float(ROWS[id_]["value"]), eval(ROWS[id_]["setting"].removeprefix("s=").replace("^", "**"))
    overflow, underflow, number = normal_preactivations(float(std))
    share = float(np.mean(overflow if "ovf" in id_ else underflow))
    error = math.sqrt(wanted * (1 - wanted) / number)
    assert_agrees(share, wanted, error)
    if wanted * number > 1e4:
        must_fail(assert_agrees, share, 1.05 * wanted, error)
        return
    # Too few to be seen: the share beyond the threshold that is found.
    found = 2 * ndtr(-CONSTANTS["11.ovf"]() / std)
    assert found == pytest.approx(wanted, rel=1e-9)
    assert share == 0
