"""Simulated number formats: rounding against ml_dtypes, nets against NumPy, shares against the normal law."""

from __future__ import annotations

import math
import warnings
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

import stabsim
from stabsim import Network, Trace
from stabsim.kernels import rounded
from stabsim.kernels.compile import kernel
from stabsim.number_formats import FORMATS
from stabsim.plan import Plan
from stabsim.quantities import QUANTITIES
from tests import naive

Floats = NDArray[Any]

NAMES = tuple(FORMATS)
TYPES = {
    "float16": np.float16, "bfloat16": ml_dtypes.bfloat16, "float8_e5m2": ml_dtypes.float8_e5m2,
    "float8_e4m3": ml_dtypes.float8_e4m3fn,
}  # fmt: skip
FLOAT32 = st.floats(width=32)
SHARES = [name for name, q in QUANTITIES.items() if q.needs == ("number_format",)]
TENSORS = ("preactivation", "activation", "preactivation_gradient", "activation_gradient", "weight_gradient")


@kernel()
def _round(values: Any, form: Any) -> Any:
    return rounded.round_to(values, form)


def form_of(name: str) -> Any:
    network = Network((1, 1), "linear", "he_normal")
    return Plan(stabsim.arguments.make_task(network, precision=name)).problem.format


def round_to(values: Any, name: str) -> Floats:
    """Return what the kernel makes of float32."""
    return round_and_count(values, name)[0]


def round_and_count(values: Any, name: str) -> tuple[Floats, dict[str, int]]:
    out = np.array(values, np.float32).ravel()
    counts = _round(out, form_of(name))
    return out, dict(zip(("overflow", "underflow", "subnormal", "zero"), map(int, counts), strict=True))


def expected(values: Any, name: str) -> Floats:
    """Return what ml_dtypes makes of them, as float32."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return np.asarray(np.asarray(values).astype(TYPES[name]).astype(np.float32))


def assert_same_numbers(actual: Floats, wanted: Floats) -> None:
    """Fail unless the bits are the same, or both are NaN."""
    same = (actual.view(np.int32) == wanted.view(np.int32)) | (np.isnan(actual) & np.isnan(wanted))
    assert np.all(same), f"{actual[~same][:3]} instead of {wanted[~same][:3]}"


def every_number(name: str) -> Floats:
    """Return all finite numbers of a format, in order, as float32."""
    bits = np.arange(2 ** (8 * np.dtype(TYPES[name]).itemsize), dtype=f"u{np.dtype(TYPES[name]).itemsize}")
    numbers = bits.view(TYPES[name]).astype(np.float32)
    return np.unique(numbers[np.isfinite(numbers)])


@pytest.mark.parametrize("name", NAMES)
def test_every_number_every_tie_and_their_neighbors_round_as_in_ml_dtypes(name: str) -> None:
    numbers = every_number(name)
    assert_same_numbers(round_to(numbers, name), numbers)
    ends = np.array([FORMATS[name].overflow_threshold, np.inf, np.finfo(np.float32).max, np.nan], np.float64)
    with np.errstate(over="ignore"):
        ties = np.concatenate([(numbers[1:].astype(np.float64) + numbers[:-1]) / 2, ends, -ends]).astype(np.float32)
        near = np.concatenate([numbers, ties])
        near = np.concatenate([near, np.nextafter(near, np.float32(np.inf)), np.nextafter(near, np.float32(-np.inf))])
    assert_same_numbers(round_to(near, name), expected(near, name))


@pytest.mark.parametrize("name", NAMES)
def test_any_bits_round_as_in_ml_dtypes_and_are_counted(name: str) -> None:
    bits = np.random.default_rng(1).integers(0, 2**32, 10**6, dtype=np.uint32)
    values = np.concatenate(
        [bits.view(np.float32), np.array([0x7FFFFFFF, 0xFFFFFFFF, 1, 0], np.uint32).view(np.float32)]
    )
    actual, counts = round_and_count(values, name)
    wanted = expected(values, name)
    assert_same_numbers(actual, wanted)
    size = np.abs(wanted)
    assert counts == {
        "overflow": np.sum(~np.isfinite(wanted)),
        "underflow": np.sum((values != 0) & (wanted == 0)),
        "subnormal": np.sum((size > 0) & (size < FORMATS[name].smallest_normal)),
        "zero": np.sum(wanted == 0),
    }
    assert all(counts.values())


@given(name=st.sampled_from(NAMES), values=st.lists(FLOAT32, min_size=1, max_size=40))
def test_rounding_is_idempotent_monotone_and_odd(name: str, values: list[float]) -> None:
    once = round_to(values, name)
    assert_same_numbers(round_to(once, name), once)
    assert_same_numbers(round_to(-np.array(values, np.float32), name), -once)
    inside = [value for value in values if abs(value) < FORMATS[name].overflow_threshold]
    assert np.all(np.diff(round_to(sorted(inside), name)) >= 0)


@given(name=st.sampled_from(NAMES), value=st.floats(1, 2, width=32), power=st.integers(-6, 7))
def test_rounding_commutes_with_powers_of_two_inside_the_range(name: str, value: float, power: int) -> None:
    assert round_to([value * 2.0**power], name) == round_to([value], name) * 2.0**power


# Whole nets: each operation's result lies between the roundings of the exact result less and plus the error of sums in
# float32, which are mostly one number. Sums of two products are rounded once in any order, so they must be equal bit
# for bit (the products of numbers of every format are exact).


def float32_error(left: Floats, right: Floats) -> Floats:
    """Return the largest error that sums of products in float32 can have beside one rounding, in any order."""
    if left.shape[1] <= 2:
        return np.zeros((left.shape[0], right.shape[1]))
    with np.errstate(invalid="ignore"):
        bound = (left.shape[1] + 2) * 2.0**-24 * (np.abs(left) @ np.abs(right))
    return np.where(np.isfinite(bound), bound, 0.0)


def assert_rounded(actual: Floats, exact: Floats, error: Floats | float, name: str) -> None:
    with np.errstate(over="ignore"):
        low, high = (expected((exact + sign * error).astype(np.float32), name) for sign in (-1, 1))
    within = (low <= actual) & (actual <= high) | (np.isnan(actual) & np.isnan(exact + low + high))
    assert np.all(within), f"{actual[~within][:3]} is not between {low[~within][:3]} and {high[~within][:3]}"
    finite = np.isfinite(exact)
    assert not np.any(finite) or np.mean((low == high)[finite]) > 0.5


def oracle_counts(seen: Any, name: str, scale: float) -> dict[str, list[float]]:
    """Return the shares of every tensor at every layer from what is exact before rounding, and check the tensors."""
    form = FORMATS[name]
    shares: dict[str, list[float]] = {share: [math.nan] * len(seen.activation) for share in SHARES}

    def note(tensor: str, layer: int, before: Floats, after: Floats) -> None:
        shares[f"{tensor}_overflow_fraction"][layer] = float(np.mean(~np.isfinite(after)))
        shares[f"{tensor}_underflow_fraction"][layer] = float(np.mean((before != 0) & (after == 0)))
        small = (after != 0) & (np.abs(after) < form.smallest_normal)
        shares[f"{tensor}_subnormal_fraction"][layer] = float(np.mean(small))

    depth = len(seen.activation) - 1
    z, w, b = seen.activation, seen.weight, seen.bias
    s, d = seen.preactivation, seen.derivative
    dz: list[Any] = [scale * x for x in seen.activation_gradient]
    ds: list[Any] = [None if x is None else scale * x for x in seen.preactivation_gradient]
    dw: list[Any] = [None if x is None else scale * x for x in seen.weight_gradient]
    formula = naive.relu()
    with np.errstate(invalid="ignore", over="ignore"):
        failed = not np.all(np.isfinite(z[0])) or not np.any(z[0])
        shares["activation_failed_fraction"][0] = failed
        for layer in range(1, depth + 1):
            below, weight, above, slope = z[layer - 1], w[layer], s[layer], d[layer]
            for drawn in (weight, b[layer]):
                assert_same_numbers(round_to(drawn, name), drawn.astype(np.float32).ravel())
            exact = (below @ weight).astype(np.float32) + b[layer]
            assert_rounded(above, exact, float32_error(below, weight), name)
            note("preactivation", layer, exact, above)
            assert_same_numbers(z[layer].astype(np.float32), np.where(above < 0, 0, above).astype(np.float32))
            assert np.array_equal(slope, formula.derivative(above))
            note("activation", layer, np.where(above < 0, 0, above), z[layer])
            failed |= not (np.all(np.isfinite(above)) and np.all(np.isfinite(z[layer])) and np.any(z[layer]))
            shares["activation_failed_fraction"][layer] = failed
        failed = not np.all(np.isfinite(dz[depth])) or not np.any(dz[depth])
        shares["activation_gradient_failed_fraction"][depth] = failed
        for layer in range(depth, 0, -1):
            above, slope, weight, gradient = ds[layer], d[layer], w[layer], dw[layer]
            exact = dz[layer] * slope
            assert_same_numbers(above.astype(np.float32), expected(exact.astype(np.float32), name))
            note("preactivation_gradient", layer, exact, above)
            exact = z[layer - 1].T @ above
            assert_rounded(gradient, exact, float32_error(z[layer - 1].T, above), name)
            note("weight_gradient", layer, exact, gradient)
            exact = above @ weight.T
            assert_rounded(dz[layer - 1], exact, float32_error(above, weight.T), name)
            note("activation_gradient", layer - 1, exact, dz[layer - 1])
            failed |= not (np.all(np.isfinite(above)) and np.all(np.isfinite(dz[layer - 1])) and np.any(dz[layer - 1]))
            shares["activation_gradient_failed_fraction"][layer - 1] = failed
    return shares


def nan_to(values: Any) -> Floats:
    return np.nan_to_num(np.asarray(values, np.float64), nan=-1.0)


WIDTHS = (12, 33, 20, 40, 17, 30, 7)
CASES: dict[str, dict[str, Any]] = {
    "bit for bit": {"gain": 1.0, "batch": 2, "widths": (2,) * 9, "bias_std": 0.1},
    "bit for bit, one sample": {"gain": 0.2, "batch": 1, "widths": (2,) * 9, "loss_scale": 16.0},
    "balanced": {"gain": 1.0, "batch": 5},
    "one sample": {"gain": 1.0, "batch": 1},
    "vanishing": {"gain": 0.05, "batch": 4},
    "exploding": {"gain": 30.0, "batch": 3},
    "scaled loss": {"gain": 0.2, "batch": 3, "loss_scale": 64.0},
    "biases": {"gain": 0.5, "batch": 2, "bias_std": 0.1},
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("case", CASES)
def test_every_tensor_and_every_share_against_numpy(case: str, name: str) -> None:
    options = dict(CASES[case])
    gain, bias_std, scale = options.pop("gain"), options.pop("bias_std", 0.0), options.get("loss_scale", 1.0)
    network = Network(options.pop("widths", WIDTHS), "relu", f"he_normal(gain={gain})", bias_std)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        result = stabsim.simulate(network, nets=3, seed=5, precision=name, quantities=SHARES, samples=SHARES, **options)
    for net in range(3):
        seen = stabsim.trace(network, net=net, seed=5, precision=name, **options)
        injected = scale * seen.activation_gradient[-1].astype(np.float32)
        assert_same_numbers(round_to(injected, name), injected.astype(np.float32).ravel())
        wanted = oracle_counts(seen, name, scale)
        depth = len(network.widths) - 1
        for share, values in wanted.items():
            found = result.samples[share][net]
            inner = slice(1, depth) if "gradient" in share else slice(1, None)  # both ends: what was drawn is unknown
            np.testing.assert_allclose(nan_to(found[inner]), nan_to(values[inner]), atol=1e-12, err_msg=share)


@pytest.mark.parametrize("name", NAMES)
def test_what_goes_in_at_either_end_is_rounded_and_counted(name: str) -> None:
    form, rng = FORMATS[name], np.random.default_rng(3)
    low, high = max(math.log2(form.flush_threshold) - 3, -120), min(math.log2(form.largest) + 2, 120)  # of float32
    wide = np.exp2(rng.uniform(low, high, (2, 300)))
    wide = wide.astype(np.float32).astype(np.float64)
    names = [share for share in SHARES if share.startswith("activation")]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        result = stabsim.simulate(
            Network((300, 300), "linear", "normal(std=0.01)"), nets=1, batch=2, precision=name, loss_scale=4.0,
            inputs=wide, output_gradient=wide / 4.0, quantities=names, samples=names,
        )  # fmt: skip
    _, counts = round_and_count(wide, name)
    for tensor, layer in (("activation", 0), ("activation_gradient", 1)):
        for share in ("overflow", "underflow", "subnormal"):
            assert counts[share] > 0 or name == "bfloat16"  # whose range is that of float32
            found = result.samples[f"{tensor}_{share}_fraction"][0, layer]
            assert found == pytest.approx(counts[share] / wide.size, abs=1e-12)
        assert result.samples[f"{tensor}_failed_fraction"][0, layer] == (counts["overflow"] > 0)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("activation", ["tanh", "gelu", "sigmoid"])
def test_curved_activations_are_rounded(activation: str, name: str) -> None:
    network = Network(WIDTHS, activation, "lecun_normal", 0.3)
    seen, formula = stabsim.trace(network, batch=3, precision=name), naive.FORMULAS[activation]()
    for s, z, d in zip(seen.preactivation[1:], seen.activation[1:], seen.derivative[1:], strict=True):
        assert s is not None and d is not None
        for actual, exact in ((z, formula.f(s)), (d, formula.derivative(s))):
            assert_rounded(actual, exact, 4 * 2.0**-24 * np.maximum(np.abs(exact), 2.0**-6), name)


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("name", NAMES)
def test_every_other_quantity_is_of_the_rounded_tensors(name: str, batch: int) -> None:
    network = Network(WIDTHS, "relu", "he_normal", 0.2)
    options: dict[str, Any] = {"batch": batch, "seed": 8, "precision": name, "loss_scale": 8.0}
    plain = [each.name for each in stabsim.quantities.select(None, batch, {"number_format"}) if each.name not in SHARES]
    result = stabsim.simulate(network, nets=2, quantities=plain, samples=plain, **options)
    for net in range(2):
        seen = stabsim.trace(network, net=net, **options)
        wanted = naive.quantities(seen, naive.relu())
        for quantity in plain:
            size = 1.0 if quantity.endswith("fraction") else np.nanmax(np.abs(wanted[quantity])) + 1e-300
            np.testing.assert_allclose(
                result.samples[quantity][net] / size, np.array(wanted[quantity]) / size, atol=1e-10, err_msg=quantity
            )


def gradients(seen: Trace) -> list[Floats]:
    return [
        each
        for tensor in (seen.activation_gradient, seen.preactivation_gradient, seen.weight_gradient)
        for each in tensor
        if each is not None
    ]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("power", [5, 40])
def test_a_loss_scale_makes_up_for_a_small_gradient_exactly(name: str, power: int) -> None:
    network, gradient = Network(WIDTHS, "relu", "he_normal"), np.linspace(-1.0, 2.0, 3 * WIDTHS[-1]).reshape(3, -1)
    whole = stabsim.trace(network, batch=3, output_gradient=gradient, precision=name)
    small = stabsim.trace(
        network, batch=3, output_gradient=gradient * 2.0**-power, precision=name, loss_scale=2.0**power
    )
    for one, other in zip(gradients(whole), gradients(small), strict=True):
        assert np.array_equal(one, other * 2.0**power)


def test_a_loss_scale_changes_nothing_where_all_stay_in_range() -> None:
    network = Network(WIDTHS, "tanh", "glorot_normal", 0.1)
    one, other = (stabsim.trace(network, batch=3, precision="bfloat16", loss_scale=scale) for scale in (1.0, 2.0**20))
    assert all(np.array_equal(*pair) for pair in zip(gradients(one), gradients(other), strict=True))
    narrow = [stabsim.trace(network, batch=3, precision="float8_e5m2", loss_scale=scale) for scale in (1.0, 2.0**20)]
    assert not all(np.array_equal(*pair) for pair in zip(*map(gradients, narrow), strict=True))


@pytest.mark.parametrize("power", [-45, 45])
def test_scales_that_are_kept_apart_are_put_in_before_rounding(power: int) -> None:
    network, inputs = Network((6, 5, 4), "linear", f"normal(std={2.0**power})"), np.full((1, 6), 1.0)
    balanced: Any = stabsim.trace(Network((6, 5, 4), "linear", "normal(std=1)"), inputs=inputs, precision="bfloat16")
    seen: Any = stabsim.trace(network, inputs=inputs * 2.0**-power, precision="bfloat16")
    for layer in (1, 2):
        assert np.array_equal(seen.weight[layer], balanced.weight[layer] * 2.0**power)
        assert np.array_equal(seen.activation[layer], balanced.activation[layer] * 2.0 ** (power * (layer - 1)))


def test_histograms_and_own_statistics_see_gradients_of_the_loss_itself() -> None:
    network = Network((20, 30, 30), "tanh", "lecun_normal")
    above = stabsim.Quantity("activation_gradient", "share_above_one", "fraction", function=lambda x: x > 1.0)
    found = [
        stabsim.simulate(
            network,
            nets=5,
            batch=2,
            precision="bfloat16",
            loss_scale=scale,
            quantities=(above,),
            histograms={"activation_gradient": (-4.0, 4.0, 9)},
        )
        for scale in (1.0, 1024.0)
    ]
    for one, other in zip(*(each.histograms["activation_gradient"] for each in found), strict=True):
        assert np.array_equal(one, other)
    shares = [each.estimates(above.name).estimate for each in found]
    assert np.array_equal(shares[0], shares[1]) and np.all(shares[0] > 0)


def test_nets_that_leave_the_range_are_left_out_and_warned_of() -> None:
    network = Network((50,) * 12, "relu", "he_normal(gain=4.5)")
    with pytest.warns(RuntimeWarning, match="activation left the range of float16 in up to 60 of 60 nets") as caught:
        result = stabsim.simulate(network, nets=60, precision="float16", seed=2)
    assert len(caught) == 1
    failed = result.estimates("activation_failed_fraction").estimate
    for quantity in ("activation_mean_square", "activation_log10_norm"):
        found = result.estimates(quantity)
        whole = 60 * (1 - result.estimates("activation_failed_fraction").estimate)
        assert np.all(found.nets >= whole.round()) and found.nets[0] == 60 and found.nets[-1] == 0
        assert np.array_equal(np.isfinite(found.estimate), found.nets > 0)
    assert np.all(np.diff(failed) >= 0) and failed[0] == 0 and failed[-1] == 1
    assert np.all(np.isfinite(result.table[["estimate", "std_error"]].to_numpy()))


def test_what_vanishes_is_0_and_has_no_norm() -> None:
    network = Network((40,) * 15, "relu", "he_normal(gain=0.2)")
    result = stabsim.simulate(network, nets=20, precision="float16", seed=2)
    gone = result.estimates("activation_failed_fraction").estimate == 1
    assert gone[-1] and not gone[3]
    assert np.all(result.estimates("activation_mean_square").estimate[gone] == 0)
    assert np.all(result.estimates("activation_log10_norm").nets[gone] == 0)


def test_the_table_has_no_theory_and_other_precisions_no_shares() -> None:
    network = Network((8, 8), "relu", "he_normal")
    table = stabsim.simulate(network, nets=4, precision="bfloat16").table
    assert table["theory"].isna().all() and set(SHARES) <= set(table["quantity"])
    assert not set(SHARES) & set(stabsim.simulate(network, nets=4).table["quantity"])
    with pytest.raises(ValueError, match=r"^quantity 'weight_gradient_rank' does not exist with precision='bfloat16'$"):
        stabsim.simulate(network, nets=1, precision="bfloat16", quantities=("weight_gradient_rank",))
    with pytest.raises(ValueError, match="quantity 'activation_failed_fraction' needs a simulated number format"):
        stabsim.simulate(network, nets=4, quantities=("activation_failed_fraction",))


def test_refusals() -> None:
    network = Network((8, 8), "relu", "he_normal")
    with pytest.raises(ValueError, match="sampler='matrix_free' does not run nets with precision='float16'"):
        stabsim.simulate(network, nets=1, precision="float16", sampler="matrix_free")
    with pytest.raises(ValueError, match=r"loss_scale=2\.0 needs a precision of float16"):
        stabsim.trace(network, loss_scale=2.0)
