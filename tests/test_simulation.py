"""What `simulate` gives back: the table, theory beside it, samples, histograms, warnings."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import scipy.stats
from numpy.typing import NDArray
from sklearn.datasets import load_digits

import stabsim
from stabsim import Activation, Initializer, Network, Result
from stabsim.activations import ACTIVATIONS, activation
from stabsim.arguments import make_task
from stabsim.estimates import time_uniform
from stabsim.quantities import PLAIN
from stabsim.structures import Skip
from stabsim.target import FEWEST_NETS, relative_error
from stabsim.theory import infinite_width, residual_laws
from tests.checks import RECORDED, WRONG, assert_agrees, must_fail

Numbers = NDArray[Any]

COLUMNS = [
    "quantity", "layer", "estimate", "std_error", "ci_low", "ci_high", "theory", "infinite_width", "nets", "top_share",
]  # fmt: skip
NETWORK = Network((6, 8, 5), "relu", "he_normal", 0.1)


@pytest.fixture(scope="module")
def result() -> Result:
    return stabsim.simulate(NETWORK, nets=300, batch=4, seed=1)


def cell(result: Result, quantity: str, layer: int) -> Any:
    return result.table.set_index(["quantity", "layer"]).loc[(quantity, layer)]


# The table.
def test_the_table_is_tidy(result: Result) -> None:
    table = result.table
    assert list(table.columns) == COLUMNS
    assert list(table["quantity"].unique()) == list(PLAIN)
    assert not table.duplicated(["quantity", "layer"]).any()
    for name, rows in table.groupby("quantity", observed=True):
        last = 1 if name == "activation_gradient_log10_gain" else 2  # above the last layer there is no ds
        assert list(rows["layer"]) == list(range(PLAIN[str(name)].first_layer, last + 1)), name
    assert np.all(np.isfinite(table["estimate"])) and np.all(table["std_error"] >= 0)
    assert np.all((table["ci_low"] <= table["estimate"]) & (table["estimate"] <= table["ci_high"]))
    assert np.all(table["nets"] <= 300)
    of_squares = table["quantity"].str.contains("square|variance|kurtosis")
    assert np.all(table["top_share"][of_squares].between(0.009, 1)) and table["top_share"][~of_squares].isna().all()


def test_correlation_needs_two_samples() -> None:
    alone = stabsim.simulate(NETWORK, nets=5)
    assert set(PLAIN) - set(alone.table["quantity"]) == {"activation_correlation"}


def test_asking_for_less_gives_the_same_numbers(result: Result) -> None:
    for name in PLAIN:
        less = stabsim.simulate(NETWORK, nets=300, batch=4, seed=1, quantities=(name,)).table
        rows = result.table[result.table["quantity"] == name].reset_index(drop=True)
        assert list(less["quantity"].unique()) == [name]
        for column in COLUMNS[1:]:
            assert np.array_equal(less[column], rows[column], equal_nan=True), (name, column)


@pytest.mark.parametrize("sampler", ["dense", "matrix_free"])
@pytest.mark.parametrize("batch", [1, 3])
def test_asking_for_one_of_what_stops_gives_the_same_numbers(sampler: str, batch: int) -> None:
    """Of narrow nets, in which samples and nets die."""
    network = stabsim.Network((2,) * 6, "relu", "he_normal")
    names = [name for name, entry in RECORDED.items() if not entry.missing(batch)]
    options: dict[str, Any] = {"nets": 200, "batch": batch, "sampler": sampler}
    table = stabsim.simulate(network, quantities=names, **options).table.astype({"quantity": str})
    dead = table[table["quantity"].str.endswith("dead_net_fraction") & (table["layer"] > 1)]
    assert (dead["estimate"] > 0).all() and dead["quantity"].nunique() == 4
    for name in names:
        less = stabsim.simulate(network, quantities=(name,), **options).table.astype({"quantity": str})
        assert less.equals(table[table["quantity"] == name].reset_index(drop=True)), name


def test_asking_for_samples_does_not_change_the_table(result: Result) -> None:
    more = stabsim.simulate(
        NETWORK, nets=300, batch=4, seed=1, samples=tuple(PLAIN), histograms={"activation": (0, 1, 4)}
    )
    assert more.table.equals(result.table)
    assert result.samples == {} and result.histograms == {}
    assert {name: values.shape for name, values in more.samples.items()} == dict.fromkeys(PLAIN, (300, 3))


def test_the_same_call_gives_the_same_bits_and_another_seed_others(result: Result) -> None:
    assert stabsim.simulate(NETWORK, nets=300, batch=4, seed=1).table.equals(result.table)
    other = stabsim.simulate(NETWORK, nets=300, batch=4, seed=2)
    names = result.table["quantity"]
    random = ~names.str.endswith("_fraction") & (names != "derivative_mean_square")  # those are ratios of integers
    assert np.all(other.table["estimate"][random] != result.table["estimate"][random])


def test_the_table_survives_a_file(result: Result, tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    result.to_csv(path)
    read = pandas.read_csv(path)
    pandas.testing.assert_frame_equal(read, result.table.astype({"quantity": read["quantity"].dtype}), check_exact=True)


def test_repr_reads_well(result: Result) -> None:
    lines = repr(result).splitlines()
    assert lines[0].startswith("300 nets of Network(widths=(6, 8, 5), activation='relu', weights='he_normal'")
    assert "batch 4" in lines[0]
    assert len(lines) == 1 + len(PLAIN)
    line = next(line for line in lines if line.split()[0] == "activation_mean_square")
    row = cell(result, "activation_mean_square", 2)
    assert [float(part.strip("[],")) for part in line.split()[1:]] == pytest.approx(
        [row.estimate, row.ci_low, row.ci_high], rel=1e-5
    )


def test_progress_is_told_after_each_chunk() -> None:
    network, seen = Network((3,) * 201, "relu", "he_normal"), []
    result = stabsim.simulate(
        network,
        nets=700,
        quantities=("activation_mean",),
        progress=lambda part, wanted: seen.append((part.nets, wanted)),
    )
    step = result.plan.chunk_nets
    assert step < 700 and seen == [(min(n, 700), 700) for n in range(step, 700 + step, step)]


def test_estimates_of_an_unknown_quantity_are_refused(result: Result) -> None:
    with pytest.raises(ValueError, match="unknown quantity 'activation_meen'; known, nearest first: activation_mean,"):
        result.estimates("activation_meen")


# Theory.
def assert_theory(result: Result, like: Result | None = None) -> None:
    """Compare every row that has a prediction, that of the result itself unless told."""
    rows, theory = result.table, (like or result).table["theory"]
    # Where all nets agree, on no dead sample, say, what is rarer than they tell is within the interval.
    alike = (rows["std_error"] == 0) & (rows["ci_low"] <= theory) & (theory <= rows["ci_high"])
    known = np.isfinite(theory) & ~alike
    rounding = 1e-6 * theory.abs()
    random = known & (rows["std_error"] > 1e-6 * rounding)
    assert np.all((rows["estimate"] - theory).abs()[known & ~random] <= rounding[known & ~random])
    assert_agrees(rows["estimate"][random], theory[random], rows["std_error"][random])


WITH_A_LAW = ["linear", "linear(alpha=0.7, beta=0.4)", "relu", "leaky_relu(slope=0.3)"]


@pytest.mark.parametrize("law", ["normal", "uniform", "truncated_normal"])
@pytest.mark.parametrize("name", WITH_A_LAW)
def test_theory_matches_every_activation_that_has_one(name: str, law: str) -> None:
    widths = (40, 60, 30, 50)
    for options in ({"batch": 1}, {"batch": 3, "inputs": np.random.default_rng(1).normal(0.5, size=(9, 40))}):
        weights = Initializer(law, 1.2, "average")
        result = stabsim.simulate(Network(widths, name, weights), nets=1500, seed=5, **options)
        assert np.isfinite(result.table["theory"]).sum() >= 18
        assert_theory(result)
        weights = Initializer(law, 1.2 * WRONG, "average")
        wrong = stabsim.simulate(Network(widths, name, weights), nets=1500, seed=5, **options)
        must_fail(assert_theory, result, like=wrong)


def test_theory_of_narrow_relu_nets_knows_that_they_die() -> None:
    """Of width 2, a quarter of the live samples dies at each layer."""
    result = stabsim.simulate(Network((3, 2, 2, 2, 2), "relu", "he_normal"), nets=40_000, seed=2)
    assert_theory(result)
    zeros = result.estimates("activation_zero_fraction")
    assert_agrees(zeros.estimate[1:], 1 - 0.5 * 0.75 ** np.arange(4), zeros.std_error[1:])


def test_theory_with_biases_and_a_given_gradient() -> None:
    network = Network((30, 40, 20), "linear", "he_normal", 0.5)
    gradient = np.random.default_rng(3).normal(0.3, size=(2, 20))
    result = stabsim.simulate(network, nets=2000, batch=2, output_gradient=gradient)
    assert_theory(result)
    row = cell(result, "activation_gradient_mean_square", 2)
    assert row.estimate == pytest.approx(np.mean(gradient**2)) and row.theory == pytest.approx(np.mean(gradient**2))


def test_no_theory_where_no_law_is_known() -> None:
    for name in set(ACTIVATIONS) - {"linear", "relu", "leaky_relu"}:
        table = stabsim.simulate(Network((6, 8, 5, 4), name, "he_normal"), nets=200).table
        known = table[np.isfinite(table["theory"])]
        injected = known["quantity"].str.startswith("activation_gradient") & (known["layer"] == 3)
        forward = ~known["quantity"].str.contains("gradient") & (known["layer"] <= 1)
        second = known["quantity"].str.match("preactivation_(mean_square|variance)") & (known["layer"] == 2)
        centered = known["quantity"] == "preactivation_mean"
        assert np.all(injected | forward | second | centered), name
    for weights in ("orthogonal", "identity", "constant(value=0.1)"):
        table = stabsim.simulate(Network((6, 8, 5), "linear", weights), nets=20).table
        assert table["theory"].isna().all()


# Samples.
def test_dead_nets_are_left_out_of_norms_and_counted() -> None:
    network, name = Network((3, 2, 2, 2), "relu", "he_normal"), "activation_log10_norm"
    result = stabsim.simulate(network, nets=200, samples=(name, "activation_zero_fraction"), seed=3)
    values = result.samples[name][:, 3]
    dead = result.samples["activation_zero_fraction"][:, 3] == 1
    assert 10 < dead.sum() < 190
    assert np.array_equal(values == -math.inf, dead) and np.all(np.isfinite(values[~dead]))
    row = cell(result, name, 3)
    assert row.nets == (~dead).sum()
    assert row.estimate == pytest.approx(values[~dead].mean(), rel=1e-12)
    interval = scipy.stats.t.interval(0.95, row.nets - 1, values[~dead].mean(), scipy.stats.sem(values[~dead]))
    assert (row.ci_low, row.ci_high) == pytest.approx(interval, rel=1e-9)


def test_a_net_that_is_always_dead_has_no_norm_but_all_else() -> None:
    result = stabsim.simulate(Network((3, 2), "relu", "zeros"), nets=30, batch=2)
    table = result.table.set_index(["quantity", "layer"])
    assert ("activation_log10_norm", 1) not in table.index
    assert table.loc[("activation_zero_fraction", 1), "estimate"] == 1
    assert table.loc[("activation_mean_square", 1), "estimate"] == 0
    assert result.estimates("activation_log10_norm").nets[1] == 0
    wilson = scipy.stats.binomtest(30, 30).proportion_ci(0.95, method="wilson")
    low, high = table.loc[("activation_zero_fraction", 1), ["ci_low", "ci_high"]]
    assert (low, high) == pytest.approx((wilson.low, wilson.high))


def test_one_net_has_estimates_but_no_errors() -> None:
    table = stabsim.simulate(NETWORK, nets=1, batch=2).table
    assert np.all(np.isfinite(table["estimate"]))
    certain = table["quantity"].str.endswith("_fraction")
    assert table["std_error"].isna().all() and table["ci_low"][~certain].isna().all()


# Histograms.
TENSORS = ("activation", "preactivation", "activation_gradient", "preactivation_gradient")


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("name", ["relu", "tanh"])
def test_histograms_are_those_of_numpy(name: str, precision: str) -> None:
    network, bins = Network((6, 8, 5), name, "he_normal"), (-1.5, 2.5, 40)
    options: dict[str, Any] = {"batch": 3, "seed": 8, "precision": precision}
    result = stabsim.simulate(network, nets=20, histograms=dict.fromkeys(TENSORS, bins), **options)
    nets = [stabsim.trace(network, net=net, **options) for net in range(20)]
    for tensor in TENSORS:
        edges, counts = result.histograms[tensor]
        assert np.array_equal(edges, np.linspace(*bins[:2], 41))
        assert counts.shape == (3, 42)
        for layer in range(3):
            matrices = [getattr(net, tensor)[layer] for net in nets]
            if matrices[0] is None:
                assert not counts[layer].any()
                continue
            values = np.concatenate([matrix.reshape(-1) for matrix in matrices])
            assert np.array_equal(counts[layer, 1:-1], np.histogram(values, edges)[0])
            assert (counts[layer, 0], counts[layer, -1]) == ((values < -1.5).sum(), (values > 2.5).sum())


def test_histograms_of_signals_that_are_rescaled() -> None:
    network = Network((4,) * 61, "linear", Initializer("normal", 0.1, "in"))
    counts = stabsim.simulate(network, nets=10, histograms={"activation": (-1, 1, 2)}).histograms["activation"][1]
    assert np.all(counts.sum(axis=1) == 40) and np.all(counts[20:, 1:-1].sum(axis=1) == 40)


# Inputs.
def test_digits_are_the_real_digits() -> None:
    data = load_digits().data
    names = ("activation_mean_square",)
    network = Network((64, 10), "linear", "lecun_normal")
    raw = stabsim.simulate(network, nets=2, batch=1797, inputs="digits_raw", quantities=names)
    assert raw.estimates(names[0]).estimate[0] == pytest.approx(np.mean(data**2), rel=1e-6)
    assert np.array_equal(stabsim.trace(network, batch=1797, inputs="digits_raw").activation[0], data)
    standard = stabsim.trace(network, batch=1797, inputs="digits", precision="float64").activation[0]
    varied = data.std(axis=0) > 0
    assert np.allclose(standard[:, varied], scipy.stats.zscore(data[:, varied]), atol=1e-12)
    assert not np.any(standard[:, ~varied])


def test_inputs_are_drawn_without_replacement_and_evenly() -> None:
    inputs, network = np.arange(10.0)[:, None] + 1, Network((1, 1), "linear", "identity")
    counts = np.zeros(10)
    for net in range(400):
        drawn = stabsim.trace(network, net=net, batch=4, inputs=inputs).activation[0][:, 0]
        assert len(set(drawn)) == 4
        counts[drawn.astype(int) - 1] += 1
    assert_agrees(counts / 400, 0.4, math.sqrt(0.24 / 400))
    everything = stabsim.trace(network, net=9, batch=10, inputs=inputs).activation[0]
    assert np.array_equal(everything, inputs)


# Few nets own the mean.
def test_means_that_few_nets_own_are_named() -> None:
    deep = stabsim.simulate(Network((10,) * 61, "relu", "he_normal"), nets=2000)
    shares = deep.table[deep.table["quantity"] == "activation_mean_square"].set_index("layer")["top_share"]
    assert shares[60] > 0.5 > 0.05 > shares[0]
    assert any(line.startswith("activation_mean_square: layers") and "60" in line for line in deep.unconverged())
    assert "few nets own the mean: activation_mean_square" in repr(deep)
    wide = stabsim.simulate(Network((200,) * 7, "relu", "he_normal"), nets=300)
    assert wide.unconverged() == [] and "few nets" not in repr(wide)


# Stopping at a target.
TARGET = 0.04
NORMS = ("activation_mean_square", "activation_gradient_log10_norm", "activation_zero_fraction")
DEEP = Network((12,) * 33, "tanh", "lecun_normal")  # a few hundred nets a chunk


def relative_errors(result: Result, name: str) -> Numbers:
    target = result.target_rel_error or 0.0
    return relative_error(PLAIN[name], result.estimates(name), target)[PLAIN[name].first_layer :]


def test_nets_are_drawn_until_every_interval_is_narrow() -> None:
    seen = []
    result = stabsim.simulate(
        DEEP, nets=100_000, quantities=NORMS, target_rel_error=TARGET, progress=lambda part, _: seen.append(part)
    )
    assert result.reached_target is True and result.missed() == "" and result.unconverged() == []
    assert result.nets == len(seen) * result.plan.chunk_nets and 2 < len(seen) < 100
    assert "target_rel_error=0.04 is reached at every layer" in repr(result)
    worst = [max(np.max(relative_errors(part, name)) for name in NORMS) for part in seen]
    assert [error <= TARGET for error in worst] == [False] * (len(seen) - 1) + [True]
    assert [part.reached_target for part in seen] == [error <= TARGET for error in worst]
    row = cell(result, "activation_gradient_log10_norm", 0)
    reach = time_uniform(np.array([result.nets]))[0] * row.std_error
    assert (row.ci_low, row.ci_high) == pytest.approx((row.estimate - reach, row.estimate + reach), rel=1e-12)
    assert reach * math.log(10) <= TARGET


def test_where_it_stops_does_not_depend_on_threads_and_the_nets_are_those_of_a_fixed_number() -> None:
    one, two = (
        stabsim.simulate(DEEP, nets=100_000, quantities=NORMS, target_rel_error=TARGET, threads=threads, seed=4)
        for threads in (1, 3)
    )
    assert one.nets == two.nets < 100_000 and one.table.equals(two.table)
    fixed = stabsim.simulate(DEEP, nets=one.nets, quantities=NORMS, seed=4)
    assert fixed.reached_target is None and fixed.missed() == "" and "target" not in repr(fixed)
    assert fixed.table[["estimate", "std_error"]].equals(one.table[["estimate", "std_error"]])
    random = fixed.table["std_error"] > 0
    wider = ((one.table["ci_high"] - one.table["ci_low"]) / (fixed.table["ci_high"] - fixed.table["ci_low"]))[random]
    assert np.all(wider.between(1.4, 2.0))


def test_a_target_that_is_not_reached_is_said() -> None:
    with pytest.warns(RuntimeWarning, match="not reached by 700 nets; furthest from it is activation_mean_") as caught:
        result = stabsim.simulate(DEEP, nets=700, quantities=NORMS[:2], target_rel_error=0.001)
    assert result.reached_target is False and result.nets == 700
    assert caught[0].filename == __file__ and result.missed() == str(caught[0].message) in repr(result)
    errors = relative_errors(result, "activation_mean_square")
    assert result.missed().endswith(f"activation_mean_square at layer {np.argmax(errors)}: {np.max(errors):.3g}")


def test_a_mean_that_few_nets_own_is_never_reached() -> None:
    """Of width 10, at depth 40, the mean square is exactly 1; the estimate is far below, and so is its interval."""
    network, name = Network((10,) * 41, "relu", "he_normal"), "activation_mean_square"
    with pytest.warns(RuntimeWarning, match=f"furthest from it is {name} at layer .*: few nets own the mean"):
        deep = stabsim.simulate(network, nets=4000, quantities=(name,), target_rel_error=0.99)
    row = cell(deep, name, 40)
    assert row.theory == pytest.approx(1) and row.estimate < 0.5 and row.ci_high < 1 and row.top_share > 0.5
    assert deep.reached_target is False
    assert "few nets own the mean: activation_mean_square: layers" in repr(deep) and "is not reached" in repr(deep)
    shallow = stabsim.simulate(
        Network((10,) * 4, "relu", "he_normal"), nets=4000, quantities=(name,), target_rel_error=0.99
    )
    assert shallow.reached_target is True


def test_a_mean_that_few_nets_own_is_not_reached_however_narrow_its_interval() -> None:
    network, name = Network((8,) * 25, "relu", "he_normal"), "activation_mean_square"
    with pytest.warns(RuntimeWarning, match="few nets own the mean"):
        result = stabsim.simulate(network, nets=40_000, quantities=(name,), target_rel_error=0.9)
    assert np.max(relative_errors(result, name)) < 0.9 and result.reached_target is False


def test_fewer_than_a_hundred_nets_reach_nothing() -> None:
    network, name = Network((3, 3), "linear", "zeros"), "activation_mean_square"
    with pytest.warns(RuntimeWarning, match=f"{name} at layer 0: 99 nets, fewer than {FEWEST_NETS}"):
        assert not stabsim.simulate(network, nets=99, quantities=(name,), target_rel_error=0.9).reached_target
    assert stabsim.simulate(network, nets=100, quantities=(name,), target_rel_error=0.9).reached_target


def test_a_fraction_below_the_target_is_to_be_known_to_the_square_of_it() -> None:
    name = "activation_zero_fraction"
    result = stabsim.simulate(DEEP, nets=3000, quantities=(name,), target_rel_error=0.1)
    row = cell(result, name, 1)
    assert row.estimate == 0 and result.reached_target and 0.002 < row.ci_high <= 0.1**2
    with pytest.warns(RuntimeWarning, match=f"{name} at layer 32: 0.186"):  # 0.0093 / 0.05
        stabsim.simulate(DEEP, nets=1000, quantities=(name,), target_rel_error=0.05)
    dead = stabsim.simulate(Network((3, 3), "relu", "zeros"), nets=3000, quantities=(name,), target_rel_error=0.1)
    assert cell(dead, name, 1).estimate == 1 and dead.reached_target


def test_what_has_no_estimate_is_not_reached() -> None:
    network, name = Network((3, 3), "relu", "zeros"), "activation_log10_norm"
    with pytest.warns(RuntimeWarning, match=f"{name} at layer 1: 0 nets, fewer than"):
        stabsim.simulate(network, nets=200, quantities=(name,), target_rel_error=0.5)
    with pytest.warns(RuntimeWarning, match="activation_kurtosis at layer 1: no estimate"):
        stabsim.simulate(network, nets=200, quantities=("activation_kurtosis",), target_rel_error=0.5)


@pytest.mark.parametrize("target", [0, 1, -0.1, 2.0, math.nan, math.inf, "0.1", True, [0.1]])
def test_a_target_is_a_number_between_0_and_1(target: Any) -> None:
    with pytest.raises((ValueError, TypeError), match=r"^target_rel_error must be a (finite )?number") as caught:
        stabsim.simulate(NETWORK, nets=10, quantities=("activation_mean_square",), target_rel_error=target)
    assert str(target) in str(caught.value) and "\n" not in str(caught.value)


def test_a_target_of_what_may_be_zero_is_refused_by_name() -> None:
    for quantities in (None, ("activation_mean", "activation_mean_square")):
        with pytest.raises(ValueError, match=r"^target_rel_error=0.1: .* may be 0 have no .*activation_mean") as caught:
            stabsim.simulate(NETWORK, nets=10, quantities=quantities, target_rel_error=0.1)
        assert "mean_square" not in str(caught.value)
    with pytest.raises(ValueError, match=r"without activation_correlation$"):
        stabsim.simulate(NETWORK, nets=10, batch=2, quantities=("activation_correlation",), target_rel_error=0.1)


# A user's own activation.
@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("sampler", ["dense", "matrix_free"])
def test_a_users_own_activation_is_one_like_the_others(sampler: str, batch: int, precision: str) -> None:
    softplus = Activation(
        "mine", f=lambda x: max(x, 0) + math.log1p(math.exp(-abs(x))), derivative=lambda x: 1 / (1 + math.exp(-x)),
        asymptotes=((0, 0), (1, 0)),
    )  # fmt: skip
    options: dict[str, Any] = {"nets": 50, "batch": batch, "sampler": sampler, "precision": precision}
    own, registered = (
        stabsim.simulate(Network((6, 8, 5), each, "he_normal"), **options).table
        for each in (softplus, activation("softplus"))
    )
    assert list(own.columns) == COLUMNS and list(own["quantity"]) == list(registered["quantity"])
    relative, absolute = {"float32": (1e-4, 1e-5), "float64": (1e-9, 1e-12)}[precision]
    for column in ("estimate", "std_error"):
        np.testing.assert_allclose(own[column], registered[column], rtol=relative, atol=absolute)
    for column in ("theory", "infinite_width"):
        assert own[column].notna().any()
        np.testing.assert_allclose(own[column], registered[column], rtol=1e-9, atol=1e-12)


def test_theory_knows_a_users_own_straight_line() -> None:
    mine = Activation("mine", lambda x: 0.5 * x + 0.1, lambda _: 0.5, asymptotes=((0.5, 0.1),) * 2, affine=True)
    own, registered = (
        stabsim.simulate(Network((6, 8, 5), each, "he_normal"), nets=2).table["theory"]
        for each in (mine, "linear(alpha=0.5, beta=0.1)")
    )
    np.testing.assert_array_equal(own, registered)
    assert own.notna().sum() > 10


def test_overflow_is_said() -> None:
    cubic = Activation("cubic", f=lambda x: x * x * x, derivative=lambda x: 3 * x * x)
    network = Network((20,) * 9, cubic, Initializer("normal", 3.0, "in"))
    with pytest.warns(RuntimeWarning, match=r"left the range of float32 in up to \d+ of 100 nets, layers \d") as caught:
        result = stabsim.simulate(network, nets=100)
    assert "preactivation" in str(caught[0].message)
    assert caught[0].filename == __file__
    row = cell(result, "preactivation_mean_square", 2)
    assert row.nets == 100 and row.estimate > 0
    assert result.estimates("preactivation_mean_square").nets[8] < 100
    assert np.all(result.table["nets"] > 0)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_no_registered_activation_warns(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = stabsim.simulate(Network((10,) * 31, name, Initializer("normal", 30.0, "in"), 0.5), nets=10)
    assert result.overflowed() == [] and np.all(np.isfinite(result.table["estimate"]))


def test_theory_is_silent_where_a_promise_of_its_laws_is_broken() -> None:
    """A ray with f'(0) = 1 lets dead samples pass gradients; squares of tiny inputs are no zeros."""
    ray = Activation(
        "ray", lambda x: x if x > 0 else 0.0, lambda x: 1.0 if x >= 0 else 0.0, kinks=(0.0,),
        asymptotes=((0.0, 0.0), (1.0, 0.0)), positively_homogeneous=True,
    )  # fmt: skip
    table = stabsim.simulate(Network((6, 5, 4, 3), ray, "he_normal"), nets=50).table
    known = set(table[np.isfinite(table["theory"])]["quantity"])
    assert not {name for name in known if "zero" in name or "dead" in name}
    tiny = np.array([[1.0, -1.0, 0.5, 0.3], [1e-200] * 4])
    options: dict[str, Any] = {"nets": 500, "batch": 2, "inputs": tiny, "precision": "float64", "seed": 1}
    for name in ("relu6", "relu"):
        result = stabsim.simulate(Network((4, 5, 5), name, "lecun_normal"), **options)
        rows = result.table[result.table["quantity"] == "derivative_mean_square"]
        for column in ("theory", "infinite_width"):
            known_rows = rows[np.isfinite(rows[column])]
            assert ((known_rows["estimate"] - known_rows[column]).abs() < 5 * known_rows["std_error"] + 0.03).all()


# Inputs with a row of zeros, and injected gradients of any kind: theory is right, or says nothing.
ZERO_ROW = np.vstack([np.zeros(6), np.ones(6)])


@pytest.mark.parametrize("activation", ["linear", "relu", "leaky_relu(slope=0.5)"])
@pytest.mark.parametrize("gradient", [None, np.array([[10.0] * 5, [1.0] * 5]), np.zeros((2, 5))])
@pytest.mark.parametrize("inputs", [ZERO_ROW, np.zeros((2, 6)), np.full((2, 6), 1e200), np.full((2, 6), 1e-200)])
def test_theory_holds_or_is_silent_whatever_goes_in(activation: str, gradient: Any, inputs: Any) -> None:
    network = Network((6, 7, 5), activation, "he_normal")
    table = stabsim.simulate(
        network, nets=400, batch=2, inputs=inputs, output_gradient=gradient, precision="float64", seed=5
    ).table
    rows = table[table["theory"].notna()]
    assert np.all(np.isfinite(rows["theory"]))
    close = np.isclose(rows["estimate"], rows["theory"], rtol=1e-12, atol=0)
    assert np.all(close | (np.abs(rows["estimate"] - rows["theory"]) < 5 * rows["std_error"]))


# What does not exist by construction, and what float64 cannot hold.


@pytest.mark.parametrize("kind", ["rnn", "lstm"])
def test_a_recurrent_net_reaches_a_target_where_its_quantities_exist(kind: str) -> None:
    names = ["activation_log10_norm", "weight_gradient_log10_norm", "activation_gradient_log10_norm"]
    names += ["cell_state_log10_norm"] if kind == "lstm" else []
    network = Network((4, *(6,) * 3), "tanh", "glorot_normal", cell=kind)
    result = stabsim.simulate(network, nets=2000, quantities=names, target_rel_error=0.3)
    assert result.reached_target is True
    blank = result.estimates("activation_log10_norm").estimate
    assert np.isnan(blank[0]) and np.isfinite(blank[1:]).all()
    assert np.isfinite(result.estimates("weight_gradient_log10_norm").estimate[1])


def test_a_recurrent_net_without_an_estimate_never_reaches_a_target() -> None:
    network = Network((4, *(6,) * 3), "tanh", "zeros", cell="rnn")
    for name in ("activation_log10_norm", "weight_gradient_log10_norm"):
        with pytest.warns(RuntimeWarning, match=f"furthest from it is {name} at layer [1-3]: "):
            result = stabsim.simulate(
                network, nets=200, quantities=(name,), target_rel_error=0.9, inputs=np.zeros((1, 3, 4))
            )
        assert result.reached_target is False


@pytest.mark.parametrize("factor", ["branch", "shortcut", "inner", "last"])
@pytest.mark.parametrize("activation", ["relu", "linear"])
@pytest.mark.parametrize("place", ["inside", "between", "before", "after"])
def test_factors_whose_squares_leave_float64_have_no_theory(factor: str, activation: str, place: str) -> None:
    options: dict[str, Any] = {factor: 1e300, "layers": 2 if factor == "inner" else 1}
    network = Network((4, 4, 4), activation, "he_normal", skip=Skip(activation=place, **options))
    task = make_task(network)
    for quantity in task.table_quantities:
        for predict in (residual_laws.predict, infinite_width.predict_wide):
            values = predict(task, quantity.name)
            assert values.shape == (3,) and not np.isinf(values).any()
    assert np.isnan(residual_laws.predict(task, "activation_mean_square")[2])


def test_inputs_beyond_a_number_format_leak_no_warning_of_numpy() -> None:
    network, inputs = Network((5, 5, 5), "tanh", "he_normal"), np.full((1, 5), 1e200)
    with warnings.catch_warnings(record=True, action="always") as caught:
        table = stabsim.simulate(network, nets=40, precision="float16", inputs=inputs).table
    assert len(table) and all("left the range of float16" in str(each.message) for each in caught)
