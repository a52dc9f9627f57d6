"""What is recorded of nets in training, each quantity against its definition in NumPy, at every step."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from stabsim import Network, simulate
from stabsim.kernels.training_record import OF_LAYERS, RECORDED
from stabsim.training import Trained, train
from stabsim.training.recorded import SIGNALS, WATCHED
from tests import naive
from tests import naive_training as oracle_of
from tests.naive_training import Moment, Net
from tests.training_cases import NET, SEED, both, samples

Floats = oracle_of.Floats
WIDTHS = (3, 6, 5, 3)
DRIFTS = ("weights", "batches", "both")
RATE = "sgd(learning_rate=0.3)"
STEPS = 8
TEST = samples(WIDTHS, "softmax_cross_entropy", number=7, key=5)


def run(quantities: tuple[str, ...], **given: Any) -> tuple[Trained, Net, list[Moment]]:
    arguments: dict[str, Any] = {
        "loss": "softmax_cross_entropy",
        "optimizer_name": RATE,
        "steps": STEPS,
        "normalization": None,
    } | given
    network = Network(WIDTHS, "relu", "he_normal", bias_std=0.2, normalization=arguments.pop("normalization"))
    return both(network, quantities=quantities, **arguments)


def check(trained: Trained, quantity: str, time: int, expected: Any, *, first: int = 0) -> None:
    found = trained.values(quantity)[NET, time, first:]
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12, err_msg=f"{quantity}, record {time}")


def right(z: Floats, y: Floats) -> float:
    return float(np.mean(z.argmax(axis=1) == y.argmax(axis=1)))


@pytest.mark.parametrize("normalization", [None, "batch"])
def test_losses_and_accuracies(normalization: str | None) -> None:
    """Evaluated: with running means and variances; of mini-batches: with those of each."""
    names = ("loss", "accuracy", "batch_loss", "last_batch_loss", "test_loss", "test_accuracy")
    trained, net, moments = run(names, normalization=normalization, test=TEST)
    x, y = samples(WIDTHS, "softmax_cross_entropy")
    for time, moment in enumerate(moments):
        at, running = moment.parameters, moment.running
        last = moments[time - 1].rows if time else []
        expected = {
            "loss": net.loss_of(at, x, y, running),
            "accuracy": right(net.forward(at, x, running).z[-1], y),
            "batch_loss": net.loss_of(at, x[moment.rows], y[moment.rows]),
            "last_batch_loss": net.loss_of(at, x[last], y[last]) if time else math.nan,
            "test_loss": net.loss_of(at, *TEST, running),
            "test_accuracy": right(net.forward(at, TEST[0], running).z[-1], TEST[1]),
        }
        for name, value in expected.items():
            check(trained, name, time, [value, *[math.nan] * 3])
    assert len(set(trained.values("accuracy")[NET, :, 0])) > 1 < len(set(trained.values("test_accuracy")[NET, :, 0]))


@pytest.mark.parametrize(("loss", "middle"), [("logistic", 0.0), ("mean_squared_error", 0.5)])
def test_one_output_has_two_classes(loss: str, middle: float) -> None:
    x, y = samples((3, 1), "logistic")
    network = Network((3, 4, 1), "tanh", "he_normal")
    trained = train(
        network, nets=5, steps=3, data=(x, y), batch=4, loss=loss, record=range(4), quantities=("accuracy",),
        optimizer="sgd(learning_rate=0.5)", keep_weights=True, precision="float64",
    )  # fmt: skip
    for net in range(5):
        for time in range(4):
            w, b = ([part(layer)[net, time] for layer in (1, 2)] for part in (trained.weights, trained.biases))
            z = np.tanh(x @ w[0] + b[0]) @ w[1] + b[1]
            assert trained.values("accuracy")[net, time, 0] == pytest.approx(np.mean((z > middle) == (y == 1)))


def flat(tensors: Any) -> list[Floats]:
    """Return vectors of what is trained, of the net and of its layers."""
    layers = [np.concatenate([values.ravel() for values in layer.values()]) for layer in tensors[1:]]
    return [np.concatenate(layers), *layers]


@pytest.mark.parametrize("normalization", [None, "batch"])
def test_paths(normalization: str | None) -> None:
    trained, _, moments = run(("gradient_norm", *WATCHED["paths"]), normalization=normalization, weight_decay=0.1)
    points = [flat(moment.parameters) for moment in moments]
    gradients = [flat(moment.gradient) for moment in moments]
    weights = [flat([{}, *[{"W": layer["W"]} for layer in moment.parameters[1:]]]) for moment in moments]
    for time in range(STEPS + 1):
        distance = np.array([np.linalg.norm(a - b) for a, b in zip(points[time], points[0], strict=True)])
        steps = [[np.linalg.norm(b - a) for a, b in zip(*pair, strict=True)] for pair in pairwise(points[: time + 1])]
        length = np.sum(steps, axis=0) if time else np.zeros(4)
        cosines = [
            [a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in zip(*pair, strict=True)]
            for pair in pairwise(gradients[: time + 1])
        ]
        check(trained, "gradient_norm", time, [np.linalg.norm(g) for g in gradients[time]])
        check(trained, "distance", time, distance)
        check(trained, "path_length", time, length)
        check(trained, "straightness", time, distance / length if time else np.full(4, math.nan))
        check(trained, "step_cosine", time, np.mean(cosines, axis=0) if time else np.full(4, math.nan))
        now, before = weights[time], weights[time - 1]
        moved = [np.linalg.norm(a - b) / np.linalg.norm(b) for a, b in zip(now, before, strict=True)]
        check(trained, "update_ratio", time, moved if time else np.full(4, math.nan))


@pytest.mark.parametrize("normalization", [None, "batch"])
@pytest.mark.parametrize(
    "clipping",
    ["value(bound=0.04)", "norm(bound=0.12)", "global_norm(bound=0.8)", "adaptive(bound=0.1, epsilon=0.3)"],
)
def test_clipping(clipping: str, normalization: str | None) -> None:
    names = ("clipped_fraction", "clip_engagement", "clip_cosine")
    trained, _, moments = run(names, normalization=normalization, clipping=clipping, record=range(0, STEPS + 1, 2))
    engaged = np.zeros(4)
    for step, moment in enumerate(moments):
        counts = moment.counts.copy()
        counts[0] = counts[1:].sum(axis=0)
        engaged += counts[:, 0] > 0
        if step % 2 == 0:
            check(trained, "clip_engagement", step // 2, engaged / (step + 1))
            check(trained, "clipped_fraction", step // 2, counts[1:, 0] / counts[1:, 1], first=1)
            both_sides = zip(flat(moment.gradient), flat(moment.used), strict=True)
            cosines = [a @ b / (np.linalg.norm(a) * np.linalg.norm(b)) for a, b in both_sides]
            check(trained, "clip_cosine", step // 2, cosines)
    assert np.isnan(trained.values("clipped_fraction")[:, :, 0]).all()
    fractions = trained.values("clipped_fraction")[..., 1:]
    assert 0 < fractions.mean() < 1


def test_units_that_die_and_recover() -> None:
    """ReLU nets at a large rate: f' = 0 on all samples, and since it was last recorded."""
    names = WATCHED["dead"]
    trained, net, moments = run(names, optimizer_name="sgd(learning_rate=0.8)", steps=40, record=range(0, 41, 4))
    x, _ = samples(WIDTHS, "softmax_cross_entropy")
    before = [np.zeros(width, bool) for width in WIDTHS[1:]]
    seen = dict.fromkeys(names, 0.0)
    for time, moment in enumerate(moments[::4]):
        slopes = net.forward(moment.parameters, x).d[1:]
        dead = [~np.any(d != 0, axis=0) for d in slopes]
        found = {
            "dead_unit_fraction": [now.mean() for now in dead],
            "died_fraction": [(now & ~old).mean() for now, old in zip(dead, before, strict=True)],
            "recovered_fraction": [(~now & old).mean() for now, old in zip(dead, before, strict=True)],
        }
        if time == 0:
            found["died_fraction"] = found["recovered_fraction"] = [math.nan] * 3  # since when?
        for name, values in found.items():
            check(trained, name, time, values, first=1)
            seen[name] += sum(values) if time else 0.0
        before = dead
    assert min(seen.values()) > 0


@pytest.mark.parametrize("normalization", [None, "batch", "layer"])
def test_drift(normalization: str | None) -> None:
    """What each layer takes against what it took of the first mini-batch before the first step, unit by unit."""
    from scipy.stats import wasserstein_distance

    trained, net, moments = run(WATCHED["drift"], normalization=normalization, record=(0, 3, 8), batch=6)
    x, _ = samples(WIDTHS, "softmax_cross_entropy")
    start, first = moments[0].parameters, moments[0].rows
    for time, step in enumerate((0, 3, 8)):
        at, rows = moments[step].parameters, moments[step].rows
        for cause, (point, chosen) in zip(DRIFTS, ((at, first), (start, rows), (at, rows)), strict=True):
            shifts, ratios, distances = [], [], []
            for layer in range(3):
                then, now = net.forward(start, x[first]).z[layer], net.forward(point, x[chosen]).z[layer]
                vary = then.std(axis=0) > 0
                then, now, std = then[:, vary], now[:, vary], then.std(axis=0)[vary]
                shifts.append(np.sqrt((((now.mean(axis=0) - then.mean(axis=0)) / std) ** 2).mean()))
                ratios.append(now.var(axis=0).sum() / then.var(axis=0).sum())
                units = zip(now.T, then.T, std, strict=True)
                distances.append(np.mean([wasserstein_distance(a, b) / size for a, b, size in units]))
            for name, values in (("mean_shift", shifts), ("variance_ratio", ratios), ("wasserstein", distances)):
                check(trained, f"{name}_{cause}", time, values, first=1)
    assert np.allclose(trained.values("wasserstein_weights")[:, 0, 1:], 0.0)
    assert (trained.values("wasserstein_both")[:, 1:, 1:] > 0).all()


def test_without_units_that_vary_there_is_no_drift() -> None:
    x, y = np.ones((4, 2)), np.ones((4, 1))
    trained = train(Network((2, 3, 1), "tanh", "he_normal"), nets=1, steps=1, batch=2, data=(x, y),
                    quantities=WATCHED["drift"])  # fmt: skip
    assert all(np.isnan(trained.values(name)).all() for name in WATCHED["drift"])


@pytest.mark.parametrize(
    ("normalization", "skip"),
    [(None, None), ("batch", None), ("rms", None), (None, "skip(branch=0.7)"), ("layer", "skip(activation=after)")],
)
def test_signals_are_those_of_the_oracle_of_simulations(normalization: str | None, skip: str | None) -> None:
    """At step 0, and without structures after some steps; every signal there is, of gradients by the mean loss."""
    network = Network((4, 4, 4, 4), "sigmoid", "he_normal", bias_std=0.3, normalization=normalization, skip=skip)
    names = tuple(name for name in SIGNALS if name != "activation_saturated_fraction" or skip is None)
    trained, net, moments = both(
        network,
        quantities=names,
        steps=5,
        record=(0, 5),
        output_activation="sigmoid",
        normalize_output=normalization is not None,
    )
    x, y = samples((4, 4, 4, 4), "mean_squared_error")
    formula = naive.FORMULAS["sigmoid"]()
    for time, step in [(0, 0), (1, 5)] if normalization is None else [(0, 0)]:
        at, rows = moments[step].parameters, moments[step].rows
        outputs = net.forward(at, x[rows]).z[-1]
        seen = naive.run(
            [None, *[layer["W"] for layer in at[1:]]], [None, *[layer["b"] for layer in at[1:]]], formula, x[rows],
            2 * (outputs - y[rows]) / outputs.size,
            naive.Normalization(network.normalization.kind, 1e-5) if network.normalization else None,
            naive.Blocks({start: end for end, start in net.starts.items()}, net.place, net.branch) if skip else None,
        )  # fmt: skip
        known = naive.quantities(seen, formula)
        known["activation_saturated_fraction"] = naive.saturated_fractions(seen.seen, seen.value, formula)
        for name in names:
            first = SIGNALS[name].first_layer
            np.testing.assert_allclose(
                trained.values(name)[NET, time, first:], known[name][first:], rtol=1e-8, atol=1e-13, err_msg=name
            )


def test_signals_are_those_of_the_simulator() -> None:
    """The same net, with the mini-batch as inputs and the gradient of the loss as that by the outputs."""
    network = Network((4, 4, 4, 4), "tanh", "he_normal", bias_std=0.3)
    x, y = samples((4, 4, 4, 4), "mean_squared_error", number=6)
    trained = train(
        network, nets=3, steps=0, batch=6, data=(x, y), output_activation="tanh", quantities=tuple(SIGNALS),
        keep_weights=True, precision="float64", seed=SEED,
    )  # fmt: skip
    for net in range(3):
        z = x
        for layer in (1, 2, 3):
            z = np.tanh(z @ trained.weights(layer)[net, 0] + trained.biases(layer)[net, 0])
        seen = simulate(
            network, nets=3, batch=6, inputs=x, output_gradient=2 * (z - y) / z.size, seed=SEED, sampler="dense",
            precision="float64", samples=tuple(SIGNALS), quantities=tuple(SIGNALS),
        )  # fmt: skip
        for name, quantity in SIGNALS.items():
            first = quantity.first_layer
            np.testing.assert_allclose(
                trained.values(name)[net, 0, first:], seen.samples[name][net, first:], rtol=1e-9, atol=1e-13,
                err_msg=name,
            )  # fmt: skip


def test_the_table_has_what_exists() -> None:
    """Each quantity from its first layer on, all of them if none are named, in their order."""
    network = Network((3, 4, 2), "relu", "he_normal")
    trained = train(
        network, nets=4, steps=3, batch=2, data=samples((3, 4, 2), "softmax_cross_entropy"), precision="float64",
        loss="softmax_cross_entropy", test=samples((3, 4, 2), "softmax_cross_entropy"), clipping="norm",
    )  # fmt: skip
    assert trained.quantities == (*RECORDED, *SIGNALS)
    table = trained.table
    assert list(dict.fromkeys(table["quantity"])) == list(trained.quantities)
    for name in trained.quantities:
        rows = table[table["quantity"] == name]
        layers = (0,) if name in RECORDED[:6] else range(1 if name in OF_LAYERS else 0, 3)
        layers = range(SIGNALS[name].first_layer, 3) if name in SIGNALS else layers
        assert list(rows["layer"]) == [*layers] * 2 and list(rows["step"]) == [s for s in (0, 3) for _ in layers]
    subset = train(
        network, nets=4, steps=3, batch=2, data=samples((3, 4, 2), "softmax_cross_entropy"), precision="float64",
        loss="softmax_cross_entropy", clipping="norm", quantities=("straightness", "loss", "activation_mean"),
    )  # fmt: skip
    for name in subset.quantities:
        np.testing.assert_array_equal(subset.values(name), trained.values(name))
