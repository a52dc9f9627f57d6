"""Recurrent nets against the oracle of `tests.naive_recurrent`, against what is known of them, and in every respect."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import stabsim
from stabsim import Cell, Gate, Network, Quantity
from stabsim.initializers import Initializer
from stabsim.kernels.record import OBSERVED
from stabsim.quantities import select
from tests import naive, naive_recurrent
from tests.checks import assert_finite_differences

CELLS = ("rnn", "lstm", "gru")
TENSORS = (
    "activation", "preactivation", "activation_gradient", "preactivation_gradient", "input_gradient",
    "weight_gradient", "recurrent_weight_gradient", "bias_gradient",
)  # fmt: skip
LAWS: dict[str, Cell] = {
    "rnn": Cell("rnn", recurrent_weights="orthogonal"),
    "lstm": Cell(
        "lstm",
        "orthogonal",
        {"forget": Gate("constant(value=0.2)", "identity", 1.5), "output": Gate(recurrent_weights="he_uniform")},
    ),
    "gru": Cell("gru", None, {"update": Gate(bias=-1.0), "candidate": Gate("lecun_uniform", "identity(gain=0.5)")}),
}


def oracle(seen: Any, cell: str, formula: naive.Formula) -> naive_recurrent.RecurrentNet:
    """Run the oracle on what a trace drew."""
    v, w, b = seen.weight, seen.recurrent_weight, seen.bias
    return naive_recurrent.run(cell, formula, v, w, b, seen.input, seen.activation_gradient[-1])


def assert_same(seen: stabsim.Trace, expected: naive_recurrent.RecurrentNet, tolerance: float, what: object) -> None:
    tensors = (*TENSORS, *(("cell_state", "cell_state_gradient") if seen.cell_state else ()))
    for tensor in tensors:
        pairs = zip(getattr(seen, tensor), getattr(expected, tensor), strict=True)
        for t, (actual, wanted) in enumerate(pairs):
            assert (actual is None) == (wanted is None)
            if wanted is not None:
                assert actual.shape == wanted.shape
                error, size = np.linalg.norm(actual - wanted), np.linalg.norm(wanted)
                assert error <= tolerance * size, (what, tensor, t, error / size)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("activation", ["tanh", "relu", "gelu", "sigmoid", "linear"])
def test_tensors(cell: str, activation: str) -> None:
    formula = naive.FORMULAS[activation]()
    for steps, batch, inputs, law, bias_std in (
        (1, 1, 3, cell, 0.0),
        (3, 2, 5, LAWS[cell], 0.3),
        (6, 7, 6, cell, 0.5),
        (6, 1, 1, LAWS[cell], 0.0),
    ):
        network = Network((inputs, *(6,) * steps), activation, "lecun_normal", bias_std, cell=law)
        seen = stabsim.trace(network, batch=batch, seed=steps, precision="float64")
        assert_same(seen, oracle(seen, cell, formula), 1e-10, (steps, batch, law))
        single = stabsim.trace(network, batch=batch, seed=steps)
        assert_same(single, oracle(single, cell, formula), 2e-5, (steps, batch, law))


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("steps", [1, 3, 6])
def test_gradients_of_the_oracle_are_finite_differences(cell: str, steps: int) -> None:
    network = Network((3, *(4,) * steps), "tanh", "lecun_normal", 0.3, cell=LAWS[cell])
    seen = stabsim.trace(network, batch=2, precision="float64")
    formula, gradient = naive.tanh(), seen.activation_gradient[-1]
    net = oracle(seen, cell, formula)
    parameters: list[tuple[Any, Any]] = [(seen.input[t], net.input_gradient[t]) for t in range(1, steps + 1)]
    for gate in range(len(seen.weight)):
        parameters += [
            (seen.weight[gate], net.weight_gradient[gate]),
            (seen.recurrent_weight[gate], net.recurrent_weight_gradient[gate]),
            (seen.bias[gate], net.bias_gradient[gate]),
        ]
    assert_finite_differences(parameters, lambda: float(np.sum(oracle(seen, cell, formula).activation[-1] * gradient)))
    assert any(np.any(np.abs(derivative) > 1e-3) for _, derivative in parameters)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_every_quantity_of_every_net(cell: str, activation: str) -> None:
    network = Network((3, *(5,) * 4), activation, "lecun_normal", 0.3, cell=LAWS[cell])
    for batch in (1, 4):
        names = [q.name for q in select(None, batch, network.structures | {"recurrent"})]
        result = stabsim.simulate(network, nets=3, batch=batch, samples=names, precision="float64")
        for net in range(3):
            seen = stabsim.trace(network, net=net, batch=batch, precision="float64")
            formula = naive.FORMULAS[activation]()
            expected = naive_recurrent.quantities(cell, oracle(seen, cell, formula), seen.input, formula)
            assert set(names) <= set(expected)
            for name in names:
                assert np.allclose(result.samples[name][net], expected[name], rtol=1e-9, atol=1e-12, equal_nan=True), (
                    name
                )


def test_only_quantities_that_a_cell_has_exist() -> None:
    feedforward = {q.name for q in select(None, 2) if "recurrent" not in q.lacks}
    assert "weight_gradient_log10_gain" not in feedforward
    assert not any("gate" in name or "cell" in name or name.startswith("input") for name in feedforward)
    found = {cell: {q.name for q in select(None, 2, {cell, "recurrent"})} for cell in CELLS}
    assert found["rnn"] == feedforward | {
        "input_mean_square",
        "input_gradient_mean_square",
        "input_gradient_log10_norm",
    }
    assert "forget_gate_log_mean" in found["lstm"] - found["gru"]
    assert "reset_gate_mean" in found["gru"] - found["lstm"]
    for cell in ("lstm", "gru"):
        assert not any(name.startswith("derivative") for name in found[cell])
        network = Network((3, 4, 4), "tanh", "lecun_normal", cell=cell)
        with pytest.raises(ValueError, match=f"^quantity 'derivative_mean_square' does not exist with cell='{cell}'$"):
            stabsim.simulate(network, nets=1, quantities=["derivative_mean_square"])
        own = Quantity("derivative", "half", "value", function=lambda x: 0.5 * x)
        with pytest.raises(ValueError, match=f"^quantity 'derivative_half' does not exist with cell='{cell}'$"):
            stabsim.simulate(network, nets=1, quantities=[own])
        with pytest.raises(ValueError, match="histograms"):
            stabsim.simulate(network, nets=1, histograms={"derivative": (0.0, 1.0, 3)})


@pytest.mark.parametrize("cell", CELLS)
def test_histograms_and_own_statistics_see_all_gates(cell: str) -> None:
    network = Network((3, *(4,) * 3), "tanh", "lecun_normal", 0.3, cell=cell)
    own = [Quantity(tensor, "cube", "value", function=lambda x: x**3) for tensor in OBSERVED[:2]]
    whole = Quantity("preactivation_gradient", "corner", "value", function=lambda m: m[-1, -1], whole=True)
    tensors = ("activation", "preactivation", "activation_gradient", "preactivation_gradient")
    bins = dict.fromkeys(tensors, (-0.5, 0.5, 2))
    result = stabsim.simulate(
        network, nets=1, batch=2, precision="float64", samples=[*own, whole], histograms=bins, quantities=[own[0]]
    )
    seen = stabsim.trace(network, batch=2, precision="float64")
    for t in range(1, 4):
        for tensor in tensors:
            values = np.asarray(getattr(seen, tensor)[t])
            edges = [-np.inf, -0.5, 0.0, 0.5, np.inf]
            assert result.histograms[tensor][1][t].tolist() == np.histogram(values, edges)[0].tolist()
        for quantity in own:
            expected = np.mean(np.asarray(getattr(seen, quantity.tensor)[t]) ** 3)
            assert result.samples[quantity.name][0, t] == pytest.approx(expected)
        assert result.samples[whole.name][0, t] == np.asarray(seen.preactivation_gradient[t])[-1, -1]


@pytest.mark.parametrize("cell", CELLS)
def test_bits_do_not_depend_on_threads_or_on_what_is_asked(cell: str) -> None:
    network = Network((20, *(30,) * 5), "tanh", "lecun_normal", 0.1, cell=cell)
    names = ("activation_gradient_log10_norm", "input_gradient_mean_square")
    one, two = (stabsim.simulate(network, nets=40, batch=3, samples=names, threads=t).samples for t in (1, 2))
    few = stabsim.simulate(network, nets=40, batch=3, samples=names[:1], quantities=names[:1]).samples
    assert all(np.array_equal(one[name], two[name], equal_nan=True) for name in names)
    assert np.array_equal(one[names[0]], few[names[0]])
    assert len(set(one[names[0]][:, 0])) == 40


@pytest.mark.parametrize("cell", CELLS)
def test_given_inputs_are_drawn_by_sequence(cell: str) -> None:
    inputs = np.arange(5 * 3 * 2, dtype=float).reshape(5, 3, 2) / 30
    network = Network((2, 4, 4, 4), "tanh", "lecun_normal", cell=cell)
    for batch in (1, 3, 5):
        seen = stabsim.trace(network, batch=batch, inputs=inputs, precision="float64", net=3)
        x = np.stack([np.asarray(each) for each in seen.input[1:]], axis=1)
        rows = [int(np.argmax([np.array_equal(row, each) for each in inputs])) for row in x]
        assert np.array_equal(x, inputs[rows]) and len(set(rows)) == batch
        assert batch < 5 or rows == list(range(5))
        assert_same(seen, oracle(seen, cell, naive.tanh()), 1e-10, batch)
    for wrong in (inputs[0], inputs[:, :2], inputs[:, :, :1], "digits"):
        with pytest.raises(ValueError, match=r"^inputs must have shape \(samples, time steps, widths\[0\]\)"):
            stabsim.simulate(network, nets=1, inputs=wrong)
    inputs[1, 2, 0] = np.nan
    with pytest.raises(ValueError, match=r"^inputs must be finite, but inputs\[1, 2, 0\] is nan$"):
        stabsim.simulate(network, nets=1, inputs=inputs)


def test_laws_and_biases_are_those_of_each_gate() -> None:
    seen = stabsim.trace(Network((6, 6, 6), "tanh", "lecun_normal", cell=LAWS["lstm"]), precision="float64")
    v, w = seen.weight, seen.recurrent_weight
    assert np.all(v[1] == 0.2) and np.array_equal(w[1], np.eye(6))
    for orthogonal in (w[0], w[2]):
        assert np.allclose(orthogonal @ orthogonal.T, np.eye(6))
    assert not np.array_equal(w[0], w[2]) and np.max(np.abs(w[3])) <= 1.0
    assert [set(b.tolist()) for b in map(np.asarray, seen.bias)] == [{0.0}, {1.5}, {0.0}, {0.0}]
    shifted = stabsim.trace(Network((3, 50, 50), "tanh", "lecun_normal", 0.1, cell="gru(update_bias=2)"))
    assert [round(float(np.mean(np.asarray(b)))) for b in shifted.bias] == [0, 2, 0]
    assert all(0.05 < np.std(np.asarray(b)) < 0.2 for b in shifted.bias)


def test_a_network_with_laws_of_gates_is_restored_from_both_of_its_spellings() -> None:
    for law in LAWS.values():
        network = Network((3, 4, 4), "tanh", "lecun_normal", 0.1, cell=law)
        names = {"Network": Network, "Cell": Cell, "Gate": Gate, "Initializer": Initializer}
        assert eval(repr(network), names) == network == Network.from_json(network.to_json())


def test_scales_that_a_gate_cannot_hold_are_refused() -> None:
    for cell in ("lstm", "gru"):
        with pytest.raises(ValueError, match="outside the normal range of float32"):
            stabsim.simulate(Network((3, 4, 4), "tanh", "normal(std=1e-60)", cell=cell), nets=1)
    with pytest.raises(ValueError, match="bias of mean 1e\\+99"):
        stabsim.simulate(Network((3, 4, 4), "tanh", "lecun_normal", cell="lstm(forget_bias=1e99)"), nets=1)


@pytest.mark.parametrize("gain", [3.0, 0.05])
@pytest.mark.parametrize("activation", ["relu", "linear"])
def test_nothing_leaves_the_range_of_float32(activation: str, gain: float) -> None:
    """An RNN with identity weights: all follows gain^t, which even float64 does not hold."""
    steps, width = 700, 5
    cell = Cell("rnn", recurrent_weights=f"identity(gain={gain})")
    network = Network((width, *(width,) * steps), activation, "identity", cell=cell)
    inputs = np.zeros((1, steps, width))
    inputs[0, 0] = [1.0, 2.0, 3.0, 4.0, 5.0]
    names = ("activation_log10_norm", "activation_gradient_log10_norm", "weight_gradient_log10_norm")
    result = stabsim.simulate(network, nets=1, inputs=inputs, output_gradient=np.ones((1, width)), quantities=names)
    found = {name: result.estimates(name).estimate for name in names}
    growth = math.log10(gain) * np.arange(steps)
    norm = 0.5 * math.log10(55.0)
    assert np.allclose(found[names[0]][1:], norm + growth, rtol=1e-5, atol=1e-4)
    assert np.allclose(found[names[1]][1:], 0.5 * math.log10(5.0) + growth[::-1], rtol=1e-5, atol=1e-4)
    # dV is x_1^T ds_1, dW the sum over t = 2, 3, ... of h_(t-1)^T ds_t, each of which is dV / gain.
    expected = math.log10(math.sqrt(55 * 5)) + math.log10(math.hypot(1.0, (steps - 1) / gain)) + growth[-1]
    assert found[names[2]][1] == pytest.approx(expected, rel=1e-5)


def test_huge_and_tiny_inputs_and_gradients() -> None:
    for cell in CELLS:
        network = Network((3, *(4,) * 3), "tanh", "lecun_normal", 0.1, cell=cell)
        for size in (1e-30, 1e12):
            inputs = size * np.random.default_rng(0).normal(size=(2, 3, 3))
            seen = stabsim.trace(
                network, batch=2, inputs=inputs, output_gradient=np.full((2, 4), 1e-200), precision="float64"
            )
            assert_same(seen, oracle(seen, cell, naive.tanh()), 1e-9, (cell, size))


def written_once(forget_bias: float) -> stabsim.Trace:
    """Return an LSTM whose input gate is open at the first time step and closed at all others, and sees no state."""
    gates = {
        "input": Gate("constant(value=1)", "zeros"),
        "forget": Gate("zeros", "zeros", bias=forget_bias),
        "candidate": Gate("lecun_normal", "zeros"),
        "output": Gate("zeros", "zeros"),
    }
    inputs = np.full((2, 50, 1), -1e5)
    inputs[:, 0] = 1e5
    network = Network((1, *(6,) * 50), "tanh", "lecun_normal", cell=Cell("lstm", gates=gates))
    return stabsim.trace(network, batch=2, inputs=inputs, precision="float64")


def test_an_lstm_with_an_open_forget_gate_and_a_closed_input_gate_keeps_its_cell() -> None:
    seen = written_once(1e4)
    assert np.all(np.abs(seen.cell_state[1]) == 1.0)
    assert all(np.array_equal(c, seen.cell_state[1]) for c in seen.cell_state[2:])
    assert np.all(seen.cell_state_gradient[-1] != 0.0)
    assert all(np.array_equal(dc, seen.cell_state_gradient[-1]) for dc in seen.cell_state_gradient)


def test_an_lstm_with_a_closed_forget_gate_loses_its_cell() -> None:
    seen = written_once(-1e4)
    assert not np.any(seen.cell_state[2]) and not np.any(seen.cell_state_gradient[-2])


def test_a_gru_with_its_update_gate_at_1_keeps_its_state() -> None:
    gates = {"update": Gate("constant(value=1)", "zeros"), "reset": Gate(), "candidate": Gate()}
    inputs = np.full((2, 50, 1), 1e5)
    inputs[:, 0] = -1e5  # the gate is shut at the first time step, which writes, and 1 at all others
    network = Network((1, *(6,) * 50), "tanh", "lecun_normal", cell=Cell("gru", gates=gates))
    seen = stabsim.trace(network, batch=2, inputs=inputs, precision="float64")
    assert np.all(np.abs(seen.activation[1]) == 1.0)
    assert all(np.array_equal(h, seen.activation[1]) for h in seen.activation[2:])
    seen = stabsim.trace(Network((3, *(6,) * 50), "tanh", "lecun_normal", cell="gru(update_bias=1e4)"), batch=2)
    assert all(np.array_equal(dh, seen.activation_gradient[-1]) for dh in seen.activation_gradient)


def test_scaling_the_recurrent_weights_of_a_linear_rnn_scales_powers() -> None:
    def gradients(gain: float) -> Any:
        law = f"lecun_normal(gain={gain})"
        network = Network((3, *(5,) * 20), "linear", "lecun_normal", cell=Cell("rnn", recurrent_weights=law))
        return stabsim.trace(network, batch=2, precision="float64").activation_gradient

    for k, (one, scaled) in enumerate(zip(gradients(1.0)[::-1], gradients(4.0)[::-1], strict=True)):
        assert np.allclose(scaled, 4.0**k * one, rtol=1e-12)


@pytest.mark.parametrize("cell", CELLS)
def test_permuting_units_permutes_states_and_gradients(cell: str) -> None:
    seen = stabsim.trace(Network((3, *(5,) * 4), "tanh", "lecun_normal", 0.3, cell=cell), batch=2, precision="float64")
    order = np.array([3, 0, 4, 2, 1])
    v = [np.asarray(m)[:, order] for m in seen.weight]
    w = [np.asarray(m)[np.ix_(order, order)] for m in seen.recurrent_weight]
    b = [np.asarray(each)[order] for each in seen.bias]
    x, gradient = seen.input, seen.activation_gradient[-1][:, order]
    permuted = naive_recurrent.run(cell, naive.tanh(), v, w, b, x, gradient)
    for t in range(5):
        assert np.allclose(permuted.activation[t], seen.activation[t][:, order], rtol=1e-12)
        assert np.allclose(permuted.activation_gradient[t], seen.activation_gradient[t][:, order], rtol=1e-12)


def test_weights_are_shared_over_time_and_nets_of_more_steps_begin_alike() -> None:
    """Another number of time steps draws the same weights and the same first inputs."""
    for cell in CELLS:
        short: Any
        long: Any
        short, long = (
            stabsim.trace(Network((3, *(4,) * steps), "tanh", "lecun_normal", 0.1, cell=cell), net=5)
            for steps in (2, 6)
        )
        for one, other in (
            (short.weight, long.weight),
            (short.recurrent_weight, long.recurrent_weight),
            (short.activation, long.activation[:3]),
        ):
            assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
        assert not np.array_equal(long.input[1], long.input[2])
