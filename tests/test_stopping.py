"""What stops samples and nets: quantities against each other, exact laws, and rows of data/reference_values.csv."""

from __future__ import annotations

import itertools
import re
from typing import Any

import numpy as np
import pytest

import stabsim
from stabsim import Network, Result, stops
from stabsim.quantities import PLAIN
from stabsim.theory import stopping, zeros
from tests import naive_stopping
from tests.checks import LIMIT, WRONG, assert_agrees, must_fail
from tests.test_naive import assert_same_quantity
from tests.test_reference_values import rows

STOPS = (*stopping.LAWS, "preactivation_gradient_dead_unit_fraction")
NETS = 100_000
NARROW = (3, 2, 4, 2, 3)
RNG = np.random.default_rng(9)
GRADIENT = RNG.normal(size=(3, 3)) + 2.0


# Nets whose values leave the range of float64 when squared: the oracle of these quantities does not square them.
@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.parametrize("std", [1e4, 1e-4])
def test_quantities_of_exploding_and_vanishing_nets(std: float, precision: str) -> None:
    network, nets = Network((3,) * 40, "relu", f"normal(std={std})"), 5
    names = [
        name
        for name in PLAIN
        if name in naive_stopping.quantities(stabsim.trace(Network((1, 1), "relu", "zeros")), 1e-16)
    ]
    names = [name for name in names if "rank" not in name]  # of which NumPy squares values
    assert len(names) == 13
    result = stabsim.simulate(
        network, nets=nets, batch=3, quantities=names, samples=names, sampler="dense", precision=precision
    )
    for net in range(nets):
        seen = stabsim.trace(network, net=net, batch=3, precision=precision)
        expected = naive_stopping.quantities(seen, float(np.finfo(precision).eps))
        for name in names:
            for layer in range(40):
                found = result.samples[name][net, layer]
                assert_same_quantity(name, found, expected[name][layer], None, (net, layer))


CASES: dict[str, tuple[Network, dict[str, Any]]] = {
    "one sample": (Network(NARROW, "relu", "he_normal"), {}),
    "one sample, uniform": (Network(NARROW, "relu", "he_uniform"), {}),
    "one sample, wide": (Network((3, 20, 3, 20), "relu", "he_normal"), {}),
    "three samples": (Network(NARROW, "relu", "he_normal"), {"batch": 3}),
    "a given sample": (Network(NARROW, "relu", "he_normal"), {"inputs": np.array([[1.0, -2.0, 0.5]])}),
    "given samples, orthogonal": (Network(NARROW, "relu", "he_normal"), {"inputs": np.eye(3), "batch": 3}),
    "given samples, opposite": (Network((1, 3, 2), "relu", "he_normal"), {"inputs": np.array([[1.0], [-1.0]])}),
    "given gradient": (Network(NARROW, "relu", "he_normal"), {"output_gradient": GRADIENT[:1]}),
    "given gradients": (Network(NARROW, "relu", "he_normal"), {"output_gradient": GRADIENT, "batch": 3}),
    "linear": (Network(NARROW, "linear(alpha=0.5)", "he_normal"), {}),
    "linear, given gradients": (
        Network(NARROW, "linear(alpha=-2)", "he_normal"), {"output_gradient": GRADIENT, "batch": 3}
    ),
}  # fmt: skip


SAMPLED = [("dense", case) for case in CASES]
SAMPLED += [("matrix_free", case) for case, (network, _) in CASES.items() if network.weights.law != "uniform"]


@pytest.mark.parametrize(("sampler", "case"), SAMPLED)
def test_exact_laws(sampler: str, case: str) -> None:
    network, options = CASES[case]
    result = stabsim.simulate(network, nets=NETS, quantities=STOPS, seed=6, sampler=sampler, **options)
    sharp = 0
    for name in STOPS:
        found = result.table[(result.table["quantity"] == name) & np.isfinite(result.table["theory"])]
        if found.empty:
            continue
        estimate, law, std_error = (found[column].to_numpy() for column in ("estimate", "theory", "std_error"))
        # Of a share whose truth is as rare as a few nets the interval knows more than the standard error.
        error = np.maximum(std_error, np.sqrt(np.abs(law) / NETS) if "fraction" in name else 0.0)
        close = np.abs(estimate - law) < 1e-12
        assert_agrees(np.where(close, law, estimate), law, error)
        if np.any(np.abs(law) * (WRONG - 1) > 2 * LIMIT * error):
            must_fail(assert_agrees, estimate, WRONG * law, error)
            sharp += 1
    assert sharp >= (1 if network.activation.name == "linear" else 4)


# Of the table of reference values. What is said of infinite widths is measured where it is close to its limit.
@pytest.mark.parametrize("width", [4, 10, 100])
def test_rows_of_dead_samples_and_zeros(width: int) -> None:
    wanted = {name: row for name, row in rows().items() if re.match(rf"5\.(dead|zero)\..*\.?n{width}(\.|$)", name)}
    deepest = max(int(depth[1]) for name in (*wanted, "L1") if (depth := re.search(r"L(\d+)", name)))
    names = ("activation_zero_fraction", "activation_dead_net_fraction", "preactivation_gradient_zero_fraction")
    nets = 20_000 if width == 100 else 600_000
    result = stabsim.simulate(
        Network((width,) * (deepest + 1), "relu", "he_normal"), nets=nets, quantities=names, seed=3
    )
    measured = {"row": (names[1], 1), "cum": (names[1], deepest), "f": (names[0], deepest), "g": (names[2], 1)}
    assert wanted
    for name, row in wanted.items():
        quantity, layer = measured[name.split(".")[2]]
        found = result.estimates(quantity)
        law = float(row.value)
        error = max(found.std_error[layer], np.sqrt(law * (1 - law) / nets) if "dead" in quantity else 0.0)
        assert_agrees(found.estimate[layer], law, error)
        if law > 0.01:  # a share of 2^-10 or 2^-100 is too rare for 5% of it to be seen
            must_fail(assert_agrees, found.estimate[layer], WRONG * law, error)


def equal_angles(cosine: float, samples: int, width: int) -> Any:
    """Return so many rows of length 1 whose cosines are all the same."""
    common = np.sqrt(cosine) * np.eye(width)[samples]
    return common + np.sqrt(1 - cosine) * np.eye(width)[:samples]


def assert_dead_units(inputs: Any, layer: int, expected: float, nets: int, width: int) -> Result:
    network = Network((inputs.shape[1], *(width,) * layer), "relu", "he_normal")
    names = ("activation_dead_unit_fraction", "derivative_dead_unit_fraction")
    result = stabsim.simulate(network, nets=nets, batch=len(inputs), inputs=inputs, quantities=names, seed=5)
    for name in names:
        found = result.estimates(name)
        assert_agrees(found.estimate[layer], expected, found.std_error[layer])
        must_fail(assert_agrees, found.estimate[layer], WRONG * expected, found.std_error[layer])
    return result


UNIT_DEAD = [name for name in rows() if name.startswith("5.unitdead")]


@pytest.mark.parametrize("name", [name for name in UNIT_DEAD if ".l" not in name])
def test_rows_of_dead_units_of_one_layer(name: str) -> None:
    cosine, samples = (0.0 if "orth" in name else 0.5), int(name.rpartition("m")[2])
    expected = float(rows()[name].value)
    result = assert_dead_units(equal_angles(cosine, samples, 12), 1, expected, 2000, 500)
    assert result.table["theory"].to_numpy()[1] == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("name", [name for name in UNIT_DEAD if ".l" in name])
def test_rows_of_dead_units_in_wide_nets(name: str) -> None:
    found = re.fullmatch(r"5\.unitdead\.(pair|m10)\.l(\d+)", name)
    assert found is not None
    samples, layer = 2 if found[1] == "pair" else 10, int(found[2])
    inputs = equal_angles(0.0, samples, 12)
    # What the width changes is 1% of the share at width 512, falling with it: below the standard error of so few nets.
    assert_dead_units(inputs, layer, float(rows()[name].value), 200, 2048)


BORN = {(2, 5): 200_000, (2, 10): 200_000, (3, 5): 200_000, (4, 10): 200_000}


@pytest.mark.parametrize(("width", "depth"), BORN)
def test_rows_of_nets_that_are_born_dead(width: int, depth: int) -> None:
    """Inputs on the line are two rays: a net is dead for all of them if it is for 1 and -1."""
    network, nets = Network((1, *(width,) * depth), "relu", "he_normal"), BORN[width, depth]
    name = "activation_dead_net_fraction"
    result = stabsim.simulate(
        network, nets=nets, batch=2, inputs=np.array([[1.0], [-1.0]]), quantities=(name,), seed=8, sampler="dense"
    )
    found = result.estimates(name)
    share, error = found.estimate[depth], found.std_error[depth]
    for kind in ("mc", "lb", "ub"):
        row = rows().get(f"5.born.{kind}.n{width}.L{depth}")
        if row is None:
            continue
        value = float(row.value)
        if kind == "mc":  # a Monte Carlo of 300 000 nets itself
            both = float(np.hypot(error, np.sqrt(value * (1 - value) / 3e5)))
            assert_agrees(share, value, both)
            must_fail(assert_agrees, share, WRONG * value, both)
        elif kind == "lb":
            assert share > value - LIMIT * error
        else:
            assert share < value + LIMIT * error


@pytest.mark.parametrize("activation", ["relu", "hard_tanh"])
@pytest.mark.parametrize("bias_std", [0.0, 0.5])
def test_what_stops_is_what_the_oracle_says(activation: str, bias_std: float) -> None:
    network = Network((2,) * 7, activation, "normal(std=2)", bias_std)
    causes = set()
    for net in range(60):
        seen = stabsim.trace(network, net=net, batch=5)
        found = stabsim.what_stops(seen)
        expected = naive_stopping.causes(seen)
        assert {i: layer for i, layer in enumerate(found.layer) if layer >= 0} == {
            i: at for i, (_, at) in expected.items()
        }
        assert np.array_equal(
            found.idle.mean(axis=0)[1:],
            naive_stopping.quantities(seen, 1e-16)["weight_gradient_idle_sample_fraction"][1:],
        )
        for layer in range(1, 7):
            by = naive_stopping.blocked(seen, layer)
            for code, cause in ((stops.Cause.BY_DERIVATIVE, "derivative"), (stops.Cause.BY_ACTIVATION, "activation")):
                assert set(np.flatnonzero(found.cause[:, layer] == code)) == by[cause]
            causes |= set(found.cause[:, layer])
    assert {stops.Cause.NOTHING, stops.Cause.BY_DERIVATIVE} <= causes
    assert (stops.Cause.BY_ACTIVATION in causes) == (activation == "relu")


def test_what_stops_knows_what_lacks_a_gradient_by_elements() -> None:
    gradient = np.array([[0.0, 0.0], [1.0, 1.0]])
    found = stabsim.what_stops(
        stabsim.trace(Network((2, 2, 2), "tanh", "he_normal"), batch=2, output_gradient=gradient)
    )
    assert found.cause.tolist() == [[0, stops.Cause.BY_ELEMENTS, stops.Cause.BY_ELEMENTS], [0, 0, 0]]
    assert found.layer.tolist() == [-1, -1]
    lines = ["sample 0: stopped by zeros of elements: no gradient at layers 1 to 2", "sample 1: not stopped"]
    assert repr(found) == str(found) == "\n".join(lines)


def test_an_input_row_of_zeros_stops_a_sample_at_layer_0() -> None:
    inputs = np.zeros((30, 2))
    found = stabsim.what_stops(stabsim.trace(Network((2, 2, 2), "relu", "he_normal"), batch=30, inputs=inputs))
    assert found.layer.tolist() == [0] * 30
    assert found.cause.tolist() == [[stops.Cause.NOTHING, stops.Cause.BY_ACTIVATION, stops.Cause.BY_ACTIVATION]] * 30
    lines = str(found).splitlines()
    by = "an input row of zeros: no gradient at layers 1 to 2, where z = 0 below"
    assert lines[0] == f"sample 0: stopped at layer 0 by {by}" and lines[20:] == ["and 10 more samples"]


def test_what_stops_refuses_what_it_is_not_defined_for() -> None:
    with pytest.raises(TypeError, match=r"^seen must be a Trace from stabsim.trace\(...\), not a list$"):
        stabsim.what_stops([3] * 1000)  # type: ignore[arg-type]  # what is refused
    refused: tuple[dict[str, Any], ...] = ({"normalization": "batch(epsilon=1)"}, {"skip": "skip"}, {"cell": "rnn"})
    for given in refused:
        ((argument, value),) = given.items()
        seen = stabsim.trace(Network((2,) * 4, "tanh", "he_normal", **given), batch=2)
        with pytest.raises(ValueError, match=f"^seen must be .* plain layers, not of one with {argument}='") as failed:
            stabsim.what_stops(seen)
        assert value in str(failed.value)


def always_dead(inputs: int, units: int, nets: int) -> Any:
    """Return of which nets a unit behind one layer is off on all of the line or of the plane.

    What it adds up is linear between the hyperplanes where a unit of the layer turns on: so it is negative throughout
    if it is where as many of them meet as there are dimensions, and does not rise along the edges to infinity.
    """
    rng = np.random.default_rng(inputs + 10 * units)
    w, b, v = rng.normal(size=(nets, inputs, units)), rng.normal(size=(nets, units)), rng.normal(size=(nets, units))
    c = rng.normal(size=nets)

    def value(x: Any) -> Any:
        return np.sum(np.maximum(np.einsum("ni,niu->nu", x, w) + b, 0) * v, axis=1) + c

    dead = np.ones(nets, bool)
    for hit in itertools.combinations(range(units), inputs):
        corner = np.linalg.solve(w[:, :, hit].mT, -b[:, hit, None])[..., 0]
        dead &= value(corner) < 0
    for hit in itertools.combinations(range(units), inputs - 1):  # edges, all units of which stay at 0
        edge = np.ones((nets, 1)) if inputs == 1 else np.stack([-w[:, 1, hit[0]], w[:, 0, hit[0]]], axis=1)
        for way in (edge, -edge):
            rise = np.einsum("ni,niu->nu", way, w)
            rise[:, hit] = 0
            dead &= np.sum(np.maximum(rise, 0) * v, axis=1) <= 0
    return dead


@pytest.mark.parametrize(("inputs", "units"), [(1, 1), (1, 2), (2, 2), (2, 3)])
def test_units_that_are_dead_for_all_inputs(inputs: int, units: int) -> None:
    nets = 400_000
    share, law = np.mean(always_dead(inputs, units, nets)), zeros.always_dead_probability(inputs, units)
    error = np.sqrt(law * (1 - law) / nets)
    assert_agrees(share, law, error)
    must_fail(assert_agrees, share, WRONG * law, error)
    with pytest.raises(ValueError, match=f"units must be up to inputs \\+ 1 = {inputs + 1}"):
        zeros.always_dead_probability(inputs, inputs + 2)


def test_simulated_units_dead_for_all_inputs_tend_to_their_law() -> None:
    """On more and more points of the line fewer are dead, down to the law."""
    name, law = "activation_dead_unit_fraction", zeros.always_dead_probability(1, 2)
    shares = []
    for points in (3, 30, 300):
        line = np.tan(np.linspace(-1.5699, 1.5699, points))[:, None]
        network = Network((1, 2, 50), "relu", "normal(std=1)", 1.0)
        result = stabsim.simulate(network, nets=4000, batch=points, inputs=line, quantities=(name,), seed=2)
        shares.append(result.estimates(name).estimate[2])
    error = result.estimates(name).std_error[2]
    assert shares[0] > shares[1] + 5 * error and shares[1] > shares[2]
    assert law - 5 * error < shares[2] < law + 5 * error + 0.01
