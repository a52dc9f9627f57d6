"""Training in narrow number formats, against NumPy's own float16 and ml_dtypes' bfloat16: each operation rounded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from stabsim import Network
from stabsim.training import Trained, train
from tests.checks import must_fail
from tests.naive_training import Floats
from tests.training_cases import samples

WIDTHS, RATE, STEPS = (4, 6, 5, 2), 0.125, 6
TYPES = {"float16": np.float16, "bfloat16": ml_dtypes.bfloat16}


def in_format(name: str) -> Callable[[Any], Floats]:
    """Return what rounds numbers to a format; products and sums before are exact to far more digits."""
    return lambda values: np.asarray(values, np.float32).astype(TYPES[name]).astype(np.float64)


def oracle(
    name: str,
    weights: list[Floats],
    biases: list[Floats],
    x: Floats,
    y: Floats,
    *,
    scale: float = 1.0,
    master: bool = True,
) -> Iterator[tuple[list[Floats], list[Floats], Floats]]:
    """Yield weights, biases and outputs of a ReLU net before each step of full batches of the squared loss."""
    r = in_format(name)
    while True:
        if not master:
            weights, biases = [r(w) for w in weights], [r(b) for b in biases]
        seen = [(r(w), r(b)) for w, b in zip(weights, biases, strict=True)]
        z, slopes = [r(x)], []
        for place, (w, b) in enumerate(seen):
            s = r(z[-1] @ w + b)
            last = place == len(seen) - 1
            z.append(s if last else np.maximum(s, 0.0))
            slopes.append(np.ones_like(s) if last else (s > 0).astype(float))
        yield weights, biases, z[-1]
        dz = r(scale * 2 * (z[-1] - y) / y.size)
        for place in range(len(seen) - 1, -1, -1):
            ds = r(dz * slopes[place])
            dw, db = r(z[place].T @ ds) / scale, r(ds.sum(axis=0)) / scale
            dz = r(ds @ seen[place][0].T)
            weights = [*weights[:place], (weights[place] - RATE * dw).astype(np.float32), *weights[place + 1 :]]
            biases = [*biases[:place], (biases[place] - RATE * db).astype(np.float32), *biases[place + 1 :]]


def trained_in(name: str, **given: Any) -> Trained:
    arguments: dict[str, Any] = {
        "nets": 2, "steps": STEPS, "batch": 13, "data": samples(WIDTHS, "mean_squared_error"), "precision": name,
        "optimizer": f"sgd(learning_rate={RATE})", "record": range(STEPS + 1), "quantities": ("batch_loss",),
        "keep_weights": True,
    } | given  # fmt: skip
    bias_std = arguments.pop("bias_std", 0.3)
    return train(Network(WIDTHS, "relu", "he_normal", bias_std=bias_std), **arguments)


def assert_as_in(name: str, trained: Trained, *, scale: float = 1.0, master: bool = True) -> None:
    """Fail unless 98% of parameters after each single step are those of the oracle, and most losses.

    A sum of float32 next to the middle between two numbers of the format goes either way, by its order.
    """
    x, y = samples(WIDTHS, "mean_squared_error")
    same, errors = [], []
    for time in range(STEPS):
        w, b = ([part(layer)[1, time] for layer in (1, 2, 3)] for part in (trained.weights, trained.biases))
        (*_, outputs), (weights, biases, _) = islice(oracle(name, w, b, x, y, scale=scale, master=master), 2)
        for layer in (1, 2, 3):
            pairs = ((trained.weights(layer), weights[layer - 1]), (trained.biases(layer), biases[layer - 1]))
            same += [
                (np.abs(found[1, time + 1] - known) <= (1e-6 if master else 0.0)).ravel() for found, known in pairs
            ]
        errors.append(abs(trained.values("batch_loss")[1, time, 0] / ((outputs - y) ** 2).mean() - 1))
    assert np.mean(np.concatenate(same)) > 0.98
    assert np.median(errors) < 1e-6


@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("master", [True, False])
@pytest.mark.parametrize("scale", [1.0, 2.0**10])
def test_every_operation_is_rounded(name: str, master: bool, scale: float) -> None:
    trained = trained_in(name, loss_scale=scale, master_weights=master)
    assert_as_in(name, trained, master=master, scale=scale)
    must_fail(assert_as_in, name, trained, master=not master, scale=scale)


def test_a_loss_scale_saves_small_gradients() -> None:
    """Targets of 1e-8: gradients underflow in float16 without a scale, and with one the net learns them."""
    x, _ = samples(WIDTHS, "mean_squared_error")
    given: dict[str, Any] = {"data": (x, np.full((13, 2), 1e-8)), "output_weights": "zeros", "bias_std": 0.0, "nets": 1,
                             "steps": 3, "record": (0, 3)}  # fmt: skip
    lost, saved = (
        trained_in("float16", loss_scale=scale, **given).biases(3)[0, :, 0] for scale in (1.0, 2.0**14)
    )  # fmt: skip
    assert lost[0] == lost[1] and saved[0] != saved[1]


def test_what_overflows_diverges() -> None:
    """Inputs of 1e4 in float16: activations beyond 65504; in bfloat16 they are nothing special."""
    x, y = samples(WIDTHS, "mean_squared_error")
    given: dict[str, Any] = {"data": (3e4 * x, y), "steps": 1, "record": (0, 1)}
    with pytest.warns(RuntimeWarning, match="2 of 2 nets diverged, first after step 0"):
        trained = trained_in("float16", **given)
    assert np.isnan(trained.values("batch_loss")).all() and (trained.diverged_after == 0).all()
    assert trained_in("bfloat16", optimizer="sgd(learning_rate=1e-12)", **given).divergence == ""


@pytest.mark.parametrize("master", [True, False])
def test_nothing_has_moved_before_the_first_step(master: bool) -> None:
    trained = trained_in("float16", master_weights=master, quantities=("distance", "straightness"), record=(0, 1))
    assert (trained.values("distance")[:, 0] == 0).all()
    assert (trained.values("straightness")[:, 1] < 1 + 1e-3).all()
