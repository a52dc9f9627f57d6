"""Which zeros of f and f' stop what: the rules, element by element, on small nets with zeros put where they are wanted.

A net is run sample by sample, twice: as it is, and with some values of f or of f' replaced by 0. What sample i gives
to dW of layer l is the matrix z_(l-1),i^T ds_l,i. What a rule says is 0 must be 0 exactly, and what it leaves alone
must stay what it was, to the last bit; both hold for any weights. That nothing else becomes 0 takes weights that do not
cancel: normal ones.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

import stabsim
from stabsim import stops

Floats = NDArray[Any]
VALUES = st.floats(-2, 2, width=32)


def f(s: Floats) -> Floats:
    return np.asarray(s + 0.5 * np.sin(s) + 0.1)


def derivative(s: Floats) -> Floats:
    return np.asarray(1 + 0.5 * np.cos(s))  # never 0


@dataclass(frozen=True)
class Drawn:
    """A net and its samples, and where zeros are put: at a layer, a sample and a unit."""

    weights: list[Floats]
    inputs: Floats
    gradient: Floats
    layer: int
    sample: int
    unit: int

    @property
    def depth(self) -> int:
        return len(self.weights)

    @property
    def samples(self) -> range:
        return range(len(self.inputs))

    def run(self, f_0: Any = None, derivative_0: Any = None) -> Ran:
        """Run it with f or f' of the layer 0 at an index (sample, unit)."""
        f_at = {} if f_0 is None else {self.layer: [f_0]}
        return self.run_at(f_at, {} if derivative_0 is None else {self.layer: [derivative_0]})

    def run_at(self, f_0: dict[int, list[Any]], derivative_0: dict[int, list[Any]]) -> Ran:
        z, d = [self.inputs], [np.ones_like(self.inputs)]
        for layer, w in enumerate(self.weights, start=1):
            s = np.array([row @ w for row in z[-1]])
            z.append(f(s))
            d.append(derivative(s))
            for values, where in ((z[-1], f_0), (d[-1], derivative_0)):
                for index in where.get(layer, []):
                    values[index] = 0.0
        ds = [self.gradient * d[-1]]
        for w, below in zip(self.weights[:0:-1], d[-2:0:-1], strict=True):
            ds.append(np.array([row @ w.T for row in ds[-1]]) * below)
        return Ran(z, [np.empty(0), *ds[::-1]])


@dataclass(frozen=True)
class Ran:
    z: list[Floats]
    ds: list[Floats]

    def gives(self, layer: int, sample: int) -> Floats:
        """Return what a sample gives to dW of a layer."""
        return np.outer(self.z[layer - 1][sample], self.ds[layer][sample])

    def dw(self, layer: int) -> Floats:
        return np.asarray(sum(self.gives(layer, sample) for sample in range(len(self.z[0]))))


@st.composite
def nets(draw: st.DrawFn, normal: bool = False) -> Drawn:
    widths = draw(st.lists(st.integers(2, 4), min_size=3, max_size=6))
    batch = draw(st.integers(1, 4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32))) if normal else None

    def matrix(*shape: int) -> Floats:
        found = draw(arrays(np.float64, shape, elements=VALUES)) if rng is None else rng.normal(size=shape)
        return np.asarray(found)

    weights = [matrix(*fans) for fans in itertools.pairwise(widths)]
    layer = draw(st.integers(1, len(weights)))
    return Drawn(
        weights, matrix(batch, widths[0]), matrix(batch, widths[-1]), layer,
        draw(st.integers(0, batch - 1)), draw(st.integers(0, widths[layer] - 1)),
    )  # fmt: skip


def assert_zero(values: Floats) -> None:
    assert not np.any(values)


def assert_unchanged(net: Drawn, one: Ran, other: Ran, layers: range, samples: Any = None) -> None:
    """Fail if what samples give to these layers is not what it was."""
    for layer in layers:
        for sample in net.samples if samples is None else samples:
            np.testing.assert_array_equal(one.gives(layer, sample), other.gives(layer, sample))


def others(net: Drawn) -> list[int]:
    return [sample for sample in net.samples if sample != net.sample]


def above(net: Drawn) -> range:
    return range(net.layer + 1, net.depth + 1)


def up_to(net: Drawn) -> range:
    return range(1, net.layer + 1)


@given(nets())
def test_a10_an_element_of_f_prime_takes_a_sample_from_a_column(net: Drawn) -> None:
    plain, hit = net.run(), net.run(derivative_0=(net.sample, net.unit))
    assert_zero(hit.gives(net.layer, net.sample)[:, net.unit])
    rest = np.arange(net.weights[net.layer - 1].shape[1]) != net.unit
    np.testing.assert_array_equal(
        hit.gives(net.layer, net.sample)[:, rest], plain.gives(net.layer, net.sample)[:, rest]
    )
    assert_unchanged(net, plain, hit, above(net))
    assert_unchanged(net, plain, hit, up_to(net), others(net))


@given(nets(normal=True))
def test_a10_no_zero_is_passed_on_but_values_below_change(net: Drawn) -> None:
    """Nothing direct happens to shallower layers: no zeros. Their gradients are others, of this sample only."""
    plain, hit = net.run(), net.run(derivative_0=(net.sample, net.unit))
    for layer in range(1, net.layer):
        assert np.all(hit.ds[layer])
        assert np.all(hit.ds[layer][net.sample] != plain.ds[layer][net.sample])


@given(nets())
def test_a11_a_row_of_f_prime_takes_a_sample_from_this_layer_and_all_below(net: Drawn) -> None:
    plain, hit = net.run(), net.run(derivative_0=net.sample)
    for layer in up_to(net):
        assert_zero(hit.ds[layer][net.sample])
        assert_zero(hit.gives(layer, net.sample))
    assert_unchanged(net, plain, hit, above(net))
    assert_unchanged(net, plain, hit, up_to(net), others(net))


@given(nets())
def test_a12_a_layer_of_f_prime_stops_this_layer_and_all_below(net: Drawn) -> None:
    plain, hit = net.run(), net.run(derivative_0=...)
    for layer in up_to(net):
        assert_zero(hit.dw(layer))
    assert_unchanged(net, plain, hit, above(net))


@given(nets(), st.data())
def test_a13_a_block_of_every_sample_stops_all_layers_up_to_the_shallowest_block(
    net: Drawn, data: st.DataObject
) -> None:
    layers = [data.draw(st.integers(1, net.depth)) for _ in net.samples]
    hit = net.run_at({}, {layer: [i for i, at in enumerate(layers) if at == layer] for layer in set(layers)})
    for layer in range(1, min(layers) + 1):
        assert_zero(hit.dw(layer))


@given(nets(normal=True), st.data())
def test_a13_and_no_layer_above_it(net: Drawn, data: st.DataObject) -> None:
    layers = [data.draw(st.integers(1, net.depth)) for _ in net.samples]
    hit = net.run_at({}, {layer: [i for i, at in enumerate(layers) if at == layer] for layer in set(layers)})
    for layer in range(min(layers) + 1, net.depth + 1):
        assert np.all(hit.dw(layer))


@given(nets())
def test_a14_a_column_of_f_prime_stops_a_column_of_the_weights(net: Drawn) -> None:
    plain, hit = net.run(), net.run(derivative_0=(slice(None), net.unit))
    assert_zero(hit.dw(net.layer)[:, net.unit])
    rest = np.arange(net.weights[net.layer - 1].shape[1]) != net.unit
    np.testing.assert_array_equal(hit.dw(net.layer)[:, rest], plain.dw(net.layer)[:, rest])
    assert_unchanged(net, plain, hit, above(net))


@given(nets(normal=True))
def test_a14_zeros_are_not_passed_on(net: Drawn) -> None:
    plain, hit = net.run(), net.run(derivative_0=(slice(None), net.unit))
    for layer in range(1, net.layer):
        assert np.all(hit.ds[layer]) and np.all(hit.dw(layer))
        assert np.all(hit.ds[layer] != plain.ds[layer])


@given(nets())
def test_a15_zeros_of_f_take_a_sample_from_rows_of_the_weights_above(net: Drawn) -> None:
    """Of an element, a row and a column: nothing goes to dW of the layer above, whose input f is."""
    if net.layer == net.depth:
        return
    of_element, of_row = net.run(f_0=(net.sample, net.unit)), net.run(f_0=net.sample)
    of_column = net.run(f_0=(slice(None), net.unit))
    assert_zero(of_element.gives(net.layer + 1, net.sample)[net.unit])
    assert_zero(of_row.gives(net.layer + 1, net.sample))
    assert_zero(of_column.dw(net.layer + 1)[net.unit])
    plain = net.run()
    for hit in (of_element, of_row):
        assert_unchanged(net, plain, hit, range(1, net.depth + 1), others(net))


@given(nets(normal=True))
def test_a15_but_dw_of_their_own_layer_and_of_all_others_goes_on(net: Drawn) -> None:
    """While f' is not 0: the row's own layer gets the sample's gradient, and so do those below, and above the next."""
    hit = net.run(f_0=net.sample)
    for layer in range(1, net.depth + 1):
        gives = hit.gives(layer, net.sample)
        assert not np.any(gives) if layer == net.layer + 1 else np.all(gives)


Function = Callable[[Floats], Floats]
AT_0: dict[str, tuple[Function, Function]] = {
    "relu": (lambda s: np.maximum(s, 0.0), lambda s: np.where(s > 0, 1.0, 0.0)),
    "tanh": (np.tanh, lambda s: 1 - np.tanh(s) ** 2),
    "sigmoid": (lambda s: 1 / (1 + np.exp(-s)), lambda s: np.exp(-s) / (1 + np.exp(-s)) ** 2),
}


@pytest.mark.parametrize("name", AT_0)
@given(net=nets(normal=True))
def test_a16_a_zero_row_stays_one_where_f_of_0_is_0_and_stops_gradients_where_f_prime_of_0_is(
    name: str, net: Drawn
) -> None:
    at_0, slope = AT_0[name]
    z, s = [np.zeros(net.weights[0].shape[0])], []
    for w in net.weights:
        s.append(z[-1] @ w)
        z.append(at_0(s[-1]))
    ds = [net.gradient[0] * slope(s[-1])]
    for w, below in zip(net.weights[:0:-1], s[-2::-1], strict=True):
        ds.append((ds[-1] @ w.T) * slope(below))
    assert all(not np.any(row) for row in z) if name != "sigmoid" else all(np.all(row) for row in z[1:])
    assert all(not np.any(row) for row in ds) if name == "relu" else all(np.all(row) for row in ds)


# --- the same rules of nets of the package, whose zeros come as they do ------------------------------------


@st.composite
def runs(draw: st.DrawFn) -> tuple[stabsim.Network, dict[str, Any]]:
    """Draw a narrow net of which much is 0, with samples and gradients of which rows or elements are."""
    widths = tuple(draw(st.lists(st.integers(1, 4), min_size=3, max_size=7)))
    batch = draw(st.integers(1, 4))
    activation = draw(st.sampled_from(["relu", "relu6", "hard_tanh", "leaky_relu", "tanh"]))
    network = stabsim.Network(widths, activation, "normal(std=2)", draw(st.sampled_from([0.0, 0.5])))

    def masked(width: int) -> Floats:
        values = np.random.default_rng(draw(st.integers(0, 2**32))).normal(size=(batch, width))
        rows, elements = draw(arrays(bool, (batch, 1))), draw(arrays(bool, (batch, width)))
        return np.where(rows & elements, 0.0, values)

    options = {"batch": batch, "seed": draw(st.integers(0, 2**32)), "precision": "float64"}
    return network, options | {"inputs": masked(widths[0]), "output_gradient": masked(widths[-1])}


@given(runs())
def test_nets_of_the_package_obey(drawn: tuple[stabsim.Network, dict[str, Any]]) -> None:
    network, options = drawn
    seen, depth = stabsim.trace(network, **options), network.depth
    found = stabsim.what_stops(seen)
    dead = np.zeros((options["batch"], depth + 1), bool)
    for layer in range(1, depth + 1):
        z, d = seen.activation[layer - 1], np.asarray(seen.derivative[layer])
        ds, dw = np.asarray(seen.preactivation_gradient[layer]), np.asarray(seen.weight_gradient[layer])
        shut, empty = ~d.any(axis=1), ~z.any(axis=1)
        for below in range(1, layer + 1):
            assert_zero(np.asarray(seen.preactivation_gradient[below])[shut])  # A11, A12
        assert_zero(dw[:, ~d.any(axis=0)])  # A14
        assert_zero(dw[~z.any(axis=0)])  # A15
        if (shut | empty).all():
            assert_zero(dw)  # A13, A15
        dead[:, layer] = ~ds.any(axis=1)
        assert np.array_equal(found.idle[:, layer], ~ds.any(axis=1) | empty)
    assert np.array_equal(found.cause > 0, dead)
    names = [f"preactivation_gradient_{name}_fraction" for name in ("dead_sample", "blocked_by_derivative")]
    names += ["preactivation_gradient_blocked_by_activation_fraction", "weight_gradient_idle_sample_fraction"]
    shares = stabsim.simulate(network, nets=1, sampler="dense", samples=names, quantities=names, **options).samples
    causes = [
        found.cause > 0,
        found.cause == stops.Cause.BY_DERIVATIVE,
        found.cause == stops.Cause.BY_ACTIVATION,
        found.idle,
    ]
    for name, of_samples in zip(names, causes, strict=True):
        np.testing.assert_allclose(shares[name][0][1:], of_samples.mean(axis=0)[1:], atol=1e-15, err_msg=name)
