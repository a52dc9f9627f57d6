"""Reading and running given nets, without torch: stand-ins for its modules, and what its hooks once gave."""

from __future__ import annotations

import functools
import json
import math
from typing import Any

import numpy as np
import pandas
import pytest
from scipy.special import ndtri
from scipy.stats import binomtest

import stabsim
from stabsim.models.comparison import rows_of
from stabsim.models.layers import Dense, Layer, Nonlinearity, Normalizer, Recurrent
from stabsim.quantities import QUANTITIES
from tests import naive, naive_recurrent
from tests.checks import WRONG, must_fail
from tests.stand_ins import built, kind, linear, module
from tests.torch_models import FILE

FLOAT32 = 2e-5  # relative to the root mean square: some hundred roundings


@functools.cache
def fixture() -> tuple[dict[str, Any], dict[str, Any]]:
    with np.load(FILE) as file:
        arrays = dict(file)
    return json.loads(str(arrays.pop("document"))), arrays


def assert_as_hooks_saw(table: pandas.DataFrame, expected: dict[str, Any], factor: float = 1.0) -> None:
    """Fail unless every quantity is as expected, to rounding of float32; logarithms to that absolutely."""
    assert len(expected) > 8
    for quantity, values in expected.items():
        found = np.full(len(values), np.nan)
        rows = table[table.quantity == quantity]
        found[rows.layer] = rows.value * factor
        tensor = QUANTITIES[quantity].tensor if quantity in QUANTITIES else "activation"
        squares = np.asarray(expected[f"{tensor}_mean_square"])
        size = {"mean": np.sqrt(squares), "mean_square": squares, "variance": squares}.get(
            quantity.removeprefix(f"{tensor}_"), np.ones(len(values))
        )
        known = ~np.isnan(values)
        assert not np.isnan(found[known]).any(), quantity
        with np.errstate(invalid="ignore"):  # of the logarithms of 0
            same = (found == values) | (np.abs(found - values) <= FLOAT32 * size)
        assert np.all(same[known]), quantity


def expected_of(name: str, arrays: dict[str, Any]) -> dict[str, Any]:
    mine = {key.partition(":")[2]: v for key, v in arrays.items() if key.startswith(f"{name}:")}
    kurtoses = [key for key in mine if key.endswith("kurtosis")]  # 0 / 0 where values are equal but for rounding
    return {key: v for key, v in mine.items() if key not in ("inputs", "gradient", *kurtoses) and key in QUANTITIES}


def test_the_fixture_says_which_torch_made_it() -> None:
    document, _ = fixture()
    assert document["torch"][0].isdigit() and len(document["models"]) >= 10


@pytest.mark.parametrize("name", fixture()[0]["models"])
def test_statistics_are_those_that_hooks_of_pytorch_saw(name: str) -> None:
    document, arrays = fixture()
    model = stabsim.from_torch(built(document["models"][name], arrays))
    assert model.precision == "float32"
    inputs = arrays[f"{name}:inputs"]
    table = model.table(inputs, output_gradient=arrays[f"{name}:gradient"])
    expected = expected_of(name, arrays)
    if model.stages[0].then:  # the hook sees what the first layer takes, and so does the trace
        assert name == "layer_norm"
    assert_as_hooks_saw(table, expected)
    must_fail(assert_as_hooks_saw, table, expected, 1 + 1e-3)


def drawn(*layers: tuple[int, int], rng: np.random.Generator) -> list[Dense]:
    return [
        Dense(f"layer {i}", fans, rng.normal(size=fans) / math.sqrt(fans[0]), 0.1 * rng.normal(size=fans[1]))
        for i, fans in enumerate(layers)
    ]


@pytest.mark.parametrize("name", ["relu", "tanh", "sigmoid", "hard_tanh"])
@pytest.mark.parametrize("normalization", [None, "batch", "layer", "rms"])
def test_quantities_are_those_of_the_oracle(name: str, normalization: str | None) -> None:
    rng = np.random.default_rng(3)
    layers: list[Layer] = []
    dense = drawn((5, 6), (6, 4), (4, 7), rng=rng)
    for each in dense:
        norm = [Normalizer("n", normalization, each.fans[1], 1e-5)] if normalization else []
        layers += [each, *norm, Nonlinearity("f", name)]
    model = stabsim.Model(tuple(layers))
    x, gradient = 3 * rng.normal(size=(6, 5)), rng.normal(size=(6, 7))
    x[2] = 0
    formula = naive.FORMULAS[name]()
    net = naive.run(
        [None, *(each.weight for each in dense)],
        [None, *(each.bias for each in dense)],
        formula,
        x,
        gradient,
        naive.Normalization(normalization, 1e-5) if normalization else None,
    )
    expected = naive.quantities(net, formula)
    seen = [
        None,
        *(
            [
                s if normalization is None else naive.Normalization(normalization, 1e-5).forward(s)
                for s in net.preactivation[1:]
            ]
        ),
    ]
    expected["activation_saturated_fraction"] = naive.saturated_fractions(seen, net.activation, formula)
    table = model.table(x, output_gradient=gradient)
    simulated = stabsim.simulate(model.ensemble(weights="he_normal"), nets=2, batch=6, sampler="dense").table
    assert set(table.quantity) == set(simulated.quantity)
    assert list(table.columns) == ["quantity", "layer", "value"]
    for quantity, rows in table.groupby("quantity", observed=True):
        reference = np.array(expected[str(quantity)])[rows.layer]
        assert np.allclose(rows.value, reference, rtol=1e-9, atol=1e-12), quantity
        left_out = set(range(4)) - set(rows.layer)
        assert all(math.isnan(expected[str(quantity)][layer]) for layer in left_out if layer), quantity


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_quantities_of_a_cell_are_those_of_the_oracle(cell: str) -> None:
    rng = np.random.default_rng(4)
    gates = {"rnn": 1, "lstm": 4, "gru": 3}[cell]
    v, w = ([rng.normal(size=(n, 4)) / 2 for _ in range(gates)] for n in (3, 4))
    b = [rng.normal(size=4) / 3 for _ in range(gates)]
    model = stabsim.Model((Recurrent("cell", cell, "tanh", (3, 4), tuple(v), tuple(w), tuple(b)),))
    x, gradient = rng.normal(size=(5, 6, 3)), rng.normal(size=(5, 4))
    steps = [None, *np.swapaxes(x, 0, 1)]
    formula = naive.FORMULAS["tanh"]()
    net = naive_recurrent.run(cell, formula, v, w, b, steps, gradient)
    expected = naive_recurrent.quantities(cell, net, steps, formula)
    table = model.table(x, output_gradient=gradient)
    simulated = stabsim.simulate(model.ensemble(weights="he_normal", steps=6), nets=2, batch=5).table
    assert set(simulated.quantity) <= set(table.quantity)
    for quantity, rows in table.groupby("quantity", observed=True):
        if str(quantity) in expected:
            assert np.allclose(rows.value, np.array(expected[str(quantity)])[rows.layer], rtol=1e-9, atol=1e-12), (
                quantity
            )


def test_a_trace_of_the_package_run_as_a_model() -> None:
    network = stabsim.Network((4, 6, 5, 3), "gelu", "torch_default")
    seen = stabsim.trace(network, net=3, batch=4, precision="float64")
    layers: list[Layer] = []
    for layer in (1, 2, 3):
        layers += [Dense("d", network.fans[layer - 1], seen.weight[layer], seen.bias[layer]), Nonlinearity("f", "gelu")]
    again = stabsim.Model(tuple(layers)).trace(seen.activation[0], output_gradient=seen.activation_gradient[-1])
    for tensor in ("activation", "derivative", "activation_gradient", "weight_gradient"):
        for one, other in zip(getattr(seen, tensor), getattr(again, tensor), strict=True):
            assert (one is None) == (other is None)
            assert one is None or np.allclose(one, other, rtol=1e-12, atol=1e-14)


def test_what_stops_a_given_net() -> None:
    dead = Dense("d", (2, 2), np.eye(2), np.array([-9.0, -9.0]))
    model = stabsim.Model((dead, Nonlinearity("f", "relu"), Dense("e", (2, 1), np.ones((2, 1)))))
    stops = stabsim.what_stops(model.trace([[1.0, 2.0], [20.0, 0.0]]))
    assert stops.layer.tolist() == [1, -1]
    normalized = stabsim.Model((dead, Normalizer("n", "layer", 2, 1e-5)))
    with pytest.raises(ValueError, match="layer normalization at n"):
        stabsim.what_stops(normalized.trace([[1.0, 2.0]]))


def torch_like(*children: Any) -> stabsim.Model:
    return stabsim.from_torch(module("Sequential", *children))


W = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)


def test_what_is_left_out_is_said() -> None:
    model = torch_like(
        module("Flatten", start_dim=1, end_dim=-1),
        linear(W),
        module("Dropout", p=0.5),
        module("Tanh"),
        module("Softmax"),
    )
    assert [type(layer).__name__ for layer in model.layers] == ["Dense", "Nonlinearity"]
    assert len(model.notes) == 2
    assert "module[2] (dropout, p=0.5) is left out" in repr(model) and "module[4] (Softmax)" in repr(model)


BAD: dict[str, tuple[list[Any], str]] = {
    "unsupported": (
        [linear(W), module("Conv2d")],
        r"unknown torch layer at module\[1\]: 'Conv2d'; known, nearest first",
    ),
    "typing error": ([linear(W), module("Lineer")], "nearest first: Linear"),
    "widths": ([linear(W), linear(W)], r"module\[1\] takes 4 units, but module\[0\] gives 3"),
    "empty": ([], "no layer with weights"),
    "no weights": ([module("Tanh")], "no layer with weights"),
    "nan": (
        [linear(np.where(W[1, 2] == W, np.nan, W))],
        r"weight of module\[0\] must be finite, but weight\[2, 1\] is nan",
    ),
    "integers": ([linear(W.astype(np.int8))], r"weight of module\[0\] must hold floating-point numbers, not int8"),
    "vector": ([module("Linear", weight=W[0], bias=None)], r"must have shape \(out, in\)"),
    "no outputs": ([module("Linear", weight=np.zeros((0, 3), np.float32), bias=None)], r"must have shape \(out, in\)"),
    "bias": ([linear(W, np.zeros(2, np.float32))], r"bias of module\[0\] must have shape \(3,\), not \(2,\)"),
    "nested": ([module("Sequential", linear(W), module("Mish"))], r"module\[0\]\[1\]: 'Mish'"),
    "early head": ([linear(W), module("Softmax"), linear(W)], r"module\[1\] \(Softmax\) is read at the end"),
    "hardtanh": (
        [linear(W), module("Hardtanh", min_val=-2, max_val=2)],
        "from -1 to 1 or from 0 to 6, not from -2 to 2",
    ),
    "softplus": ([linear(W), module("Softplus", beta=2.0, threshold=20.0)], "beta=1"),
    "celu": ([linear(W), module("CELU", alpha=2.0)], "alpha=1"),
    "prelu": ([linear(W), module("PReLU", weight=np.arange(3.0))], "one slope for all units"),
    "flatten": ([module("Flatten", start_dim=0, end_dim=-1), linear(W)], "start_dim=1"),
    "sides": ([linear(W), module("LayerNorm", normalized_shape=(3, 3), eps=1e-5)], "must normalize one side"),
    "units": (
        [linear(W), module("LayerNorm", normalized_shape=(5,), eps=1e-5, weight=None, bias=None)],
        "takes 5 units",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_modules_are_answered_in_a_line(name: str) -> None:
    children, message = BAD[name]
    with pytest.raises(ValueError, match=message) as caught:
        torch_like(*children)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [None, "model.pt", 3, W, kind("Linear"), {}])
def test_what_is_no_module(value: Any) -> None:
    with pytest.raises(TypeError, match="module must be a torch"):
        stabsim.from_torch(value)


def test_a_forward_of_ones_own() -> None:
    own = type("Perceptron", (kind("Module"),), {"__module__": "mine", "forward": lambda self, x: x})()
    vars(own).update(
        _modules={"net": module("Sequential", linear(W))}, _parameters={}, _buffers={}, _forward_pre_hooks={}
    )
    with pytest.raises(ValueError, match=r"forward of its own.* pass a Sequential in it: module\.net"):
        stabsim.from_torch(own)
    scaled = type("Scaled", (kind("Linear"),), {"__module__": "mine", "forward": lambda self, x: x})()
    vars(scaled).update(vars(linear(W)))
    with pytest.raises(ValueError, match=r"Scaled.* has a forward of its own, not that of torch\.nn\.Linear"):
        stabsim.from_torch(scaled)


def test_hooks_of_a_container_and_a_call_of_ones_own() -> None:
    inner = module("Sequential", linear(W))
    inner._forward_pre_hooks[0] = lambda *given: None
    assert torch_like(inner).notes == ("module[0] has hooks of its own, which are not run",)
    doubled = type("Doubled", (kind("Linear"),), {"__module__": "mine", "__call__": lambda self, x: x})()
    vars(doubled).update(vars(linear(W)))
    with pytest.raises(ValueError, match=r"module\[0\] \(Doubled\) has a __call__ of its own"):
        torch_like(doubled)


def test_one_weight_in_two_layers_is_said() -> None:
    square = linear(W[:3])
    assert any("has the weights of module[0]" in note for note in torch_like(square, module("Tanh"), square).notes)


def test_bad_inputs() -> None:
    model = torch_like(
        linear(W), module("BatchNorm1d", num_features=3, eps=1e-5, weight=None, bias=None, running_mean=None)
    )
    for arguments, message in (
        ({"inputs": np.zeros((2, 5))}, r"inputs must have shape \(samples, width\)"),
        ({"inputs": [[np.nan] * 4]}, r"inputs must be finite"),
        ({"inputs": np.zeros((1, 4))}, "needs at least 2 samples"),
        ({"batch": 0}, "batch must be an integer"),
        ({"batch": 2, "seed": -1}, "seed must be an integer"),
        ({"batch": 2, "output_gradient": np.zeros((3, 3))}, "a row for each of 2 samples, not 3"),
        ({"batch": 2, "output_gradient": np.zeros((2, 2))}, "output_gradient must have shape"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            model.trace(**arguments)


def test_a_description_has_no_weights_to_run() -> None:
    model = stabsim.Model((Dense("d", (2, 2), weight_law=stabsim.Initializer("normal")),))
    for call in (model.trace, model.table, model.compare, lambda: model.fits):
        with pytest.raises(ValueError, match="laws but no weights"):
            call()


@pytest.mark.parametrize("correct", [True, False])
def test_places_in_the_ensemble_are_uniform_for_its_members(correct: bool) -> None:
    """Of 60 nets of the ensemble: ranks have the mean 1/2; of nets with weights 5% too large, they have not."""
    network = stabsim.Network((30, 30, 30, 30), "tanh", "lecun_normal")
    rng = np.random.default_rng(8)
    quantity, found = "activation_log10_norm", []
    for seed in range(60):
        layers: list[Layer] = []
        for i in range(3):
            weight = rng.normal(size=(30, 30)) / math.sqrt(30) * (1.0 if correct else WRONG)
            layers += [Dense(f"{i}", (30, 30), weight.astype(np.float32)), Nonlinearity("f", "tanh")]
        model = stabsim.Model(tuple(layers))
        table = model.compare(nets=100, network=network, seed=seed, quantities=[quantity], batch=16)
        found.append(table[table.layer == 2].percentile.item())
    z = (np.mean(found) - 0.5) / math.sqrt(1 / 12 / len(found))
    assert (abs(z) < 5) == correct


@pytest.mark.parametrize("nets", [20, 100])
def test_the_interval_of_a_percentile_holds_that_of_the_ensemble(nets: int) -> None:
    """Values are those of a known place in a normal ensemble; an interval half as wide holds fewer of them."""
    rng = np.random.default_rng(12)
    places = rng.uniform(0.02, 0.98, 1000)
    table = rows_of("activation_mean", ndtri(places), rng.normal(size=(nets, len(places))))
    middle = (table.percentile_low + table.percentile_high) / 2
    away, half = abs(places - middle), (table.percentile_high - table.percentile_low) / 2
    held, narrow = (int(np.sum(away <= width)) for width in (half, half / 2))
    assert binomtest(held, len(places), 0.95).pvalue > 1e-6 > binomtest(narrow, len(places), 0.95).pvalue
    assert ((table.percentile_low <= table.percentile) & (table.percentile <= table.percentile_high)).all()


def test_compare_leaves_the_readout_out_and_ties_in_the_middle() -> None:
    rng = np.random.default_rng(1)
    first, second, readout = drawn((20, 20), (20, 20), (20, 3), rng=rng)
    model = stabsim.Model((first, Nonlinearity("f", "relu"), second, Nonlinearity("f", "relu"), readout))
    table = model.compare(nets=50, network=stabsim.Network((20, 20, 20), "relu", "lecun_normal"), batch=4)
    assert set(table.layer) == {0, 1, 2}
    inputs = table[(table.quantity == "activation_mean_square") & (table.layer == 0)]
    assert inputs.percentile.item() == 0.5
    assert ((table.percentile >= 0) & (table.percentile <= 1) & (table.low <= table.high)).all()
    with pytest.raises(ValueError, match="network must be feedforward with the model's widths"):
        model.compare(network=stabsim.Network((20, 21, 20), "relu", "lecun_normal"))
    with pytest.raises(ValueError, match="nets must be an integer from 20"):
        model.compare(nets=3)
