"""Nets in training beside the oracle: the same arguments for both, and what both must agree in."""

from __future__ import annotations

from itertools import islice
from typing import Any

import numpy as np

from stabsim import Network
from stabsim.clipping import clipping as clipping_of
from stabsim.training import Trained, optimizer, schedule, train
from tests import naive_training as naive

Floats = naive.Floats

SEED = 2**40 + 7
NET = 2  # the one that is compared: the third
SAMPLES = 13


def samples(widths: tuple[int, ...], loss: str, *, number: int = SAMPLES, key: int = 1) -> tuple[Floats, Floats]:
    """Return inputs and targets that the loss takes."""
    rng = np.random.default_rng(key)
    x = rng.normal(size=(number, widths[0])) + 0.3
    if loss == "mean_squared_error":
        return x, rng.normal(size=(number, widths[-1]))
    if loss == "softmax_cross_entropy":
        return x, np.eye(widths[-1])[rng.integers(0, widths[-1], number)]
    return x, rng.integers(0, 2, (number, widths[-1])).astype(float)


def naive_net(network: Network, *, output: str, loss: str, normalize_output: bool) -> naive.Net:
    """Return what the oracle takes of a network."""
    normalization, skip = network.normalization, network.skip
    starts = {} if skip is None else dict(enumerate(skip.starts(network.widths)))
    starts = {layer: start for layer, start in starts.items() if start >= 0}
    bare = starts if skip is not None and skip.activation == "between" else {}
    last = network.depth + (1 if normalize_output else 0)
    layers = tuple(layer for layer in range(1, last) if layer not in bare) if normalization else ()
    more: dict[str, Any] = {}
    if normalization is not None:
        more |= {"kind": normalization.kind, "epsilon": normalization.epsilon, "normalized": layers}
    if skip is not None:
        more |= {"starts": starts, "place": skip.activation, "branch": skip.branch, "shortcut": skip.shortcut}
    return naive.Net(network.activation.name, output, loss, **more)


def parameters(trained: Trained, net: int, time: int) -> naive.Tensors:
    """Return what was kept of a net, as the oracle has it."""
    found: naive.Tensors = [{}]
    for layer in range(1, trained.network.depth + 1):
        tensors = {"W": trained.weights(layer)}
        if trained.training.normalized[layer]:
            tensors |= {"scale": trained.scales(layer)[:, :, None], "shift": trained.shifts(layer)[:, :, None]}
        tensors["b"] = trained.biases(layer)[:, :, None]
        found.append({name: values[net, time].astype(np.float64) for name, values in tensors.items()})
    return found


def both(
    network: Network, *, steps: int = 12, batch: int = 4, loss: str = "mean_squared_error",
    optimizer_name: str = "sgd(learning_rate=0.1)", net: int = NET, number: int = SAMPLES, **given: Any,
) -> tuple[Trained, naive.Net, list[naive.Moment]]:  # fmt: skip
    """Train nets and the oracle, from the same start on the same data, and record each step."""
    data = samples(network.widths, loss, number=number)
    arguments: dict[str, Any] = {
        "nets": net + 1, "steps": steps, "batch": batch, "loss": loss, "optimizer": optimizer_name, "data": data,
        "seed": SEED, "record": range(steps + 1), "quantities": ("loss", "batch_loss", "gradient_norm"),
        "keep_weights": True, "precision": "float64",
    } | given  # fmt: skip
    trained = train(network, **arguments)
    training = trained.training
    oracle = naive_net(
        network, output=training.output_activation.name, loss=loss, normalize_output=training.normalize_output
    )
    chosen, clip = optimizer(optimizer_name), clipping_of(given.get("clipping"))
    rates = chosen.settings[0] * schedule(given.get("schedule", "constant")).factors(max(steps, 1))
    moments = naive.train(
        oracle, parameters(trained, net, 0), *data,
        naive.mini_batches(number, batch, net, SEED, replaced=given.get("order") == "with_replacement"),
        rates=rates[:steps], optimizer=chosen, weight_decay=given.get("weight_decay", 0.0),
        clipping=None if clip is None else (clip.kind, clip.bound, clip.epsilon),
        momentum=given.get("running_momentum", 0.9), fixed=() if given.get("train_biases", True) else ("b",),
    )  # fmt: skip
    return trained, oracle, moments


def assert_same_path(trained: Trained, oracle: naive.Net, moments: list[naive.Moment], *, net: int = NET) -> None:
    """Fail unless all parameters, running moments, losses and gradient norms are those of the oracle at each step."""
    x, y = (side[0] for side in trained.training.data)  # type: ignore[union-attr]
    for time, moment in enumerate(moments):
        for layer, tensors in islice(enumerate(parameters(trained, net, time)), 1, None):
            for name, values in tensors.items():
                expected = moment.parameters[layer][name]
                np.testing.assert_allclose(
                    values, expected, rtol=1e-9, atol=1e-11, err_msg=f"{name} of layer {layer}, step {time}"
                )
            if layer in oracle.normalized and oracle.kind == "batch":
                for found, known in zip(trained.running_moments(layer), moment.running[layer], strict=True):
                    np.testing.assert_allclose(found[net, time], known[0], rtol=1e-10, atol=1e-12)
        known_values = {
            "loss": oracle.loss_of(moment.parameters, x, y, moment.running),
            "batch_loss": oracle.loss_of(moment.parameters, x[moment.rows], y[moment.rows]),
            "gradient_norm": naive.norm(g for layer in moment.gradient for g in layer.values()),
        }
        for quantity, value in known_values.items():
            np.testing.assert_allclose(
                trained.values(quantity)[net, time, 0], value, rtol=1e-9, err_msg=f"{quantity}, step {time}"
            )
