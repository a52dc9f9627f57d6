"""Recurrent nets against the oracle of `tests.naive_recurrent`, against what is known of them, and in every respect."""

from __future__ import annotations

import numpy as np
import pytest

import stabsim
from stabsim import Cell, Gate, Network
from tests import naive, naive_recurrent

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


def oracle(seen: stabsim.Trace, cell: str, formula: naive.Formula) -> naive_recurrent.RecurrentNet:
    """Run the oracle on what a trace drew."""
    v, w, b = seen.weight, seen.recurrent_weight, seen.bias
    return naive_recurrent.run(cell, formula, v, w, b, seen.input, seen.activation_gradient[-1])  # type: ignore[arg-type]


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
