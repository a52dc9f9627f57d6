"""Training with normalization and residual connections against the oracle and PyTorch."""

from __future__ import annotations

from itertools import islice, product
from typing import Any

import numpy as np
import pytest

from stabsim import Network, trace
from stabsim.structures import NORMALIZATIONS, PLACES
from stabsim.training import train
from tests import naive_training as naive
from tests.checks import assert_finite_differences, must_fail
from tests.training_cases import NET, SEED, assert_same_path, both, parameters, samples

EPSILON = {"batch": 0.01, "layer": 0.03, "rms": 0.02}
NARROW_ENDS, EQUAL = (3, 4, 4, 4, 4, 2), (4, 4, 4, 4)  # of these a block begins with the input and one ends the net


def network(kind: str, place: str, layers: int, widths: tuple[int, ...] = NARROW_ENDS, activation: str = "tanh") -> Any:
    """Return a net with biases; without a kind or a place it has no such structure."""
    return Network(
        widths, activation, "he_normal", bias_std=0.3,
        normalization=f"{kind}(epsilon={EPSILON[kind]})" if kind else None,
        skip=f"skip(activation={place}, layers={layers}, branch=0.7, shortcut=0.9, last=0.8)" if place else None,
    )  # fmt: skip


CASES = [
    (kind, place, layers, NARROW_ENDS if (i + layers) % 2 else EQUAL)
    for i, (kind, place, layers) in enumerate(product(("", *NORMALIZATIONS), PLACES, (1, 2)))
]


@pytest.mark.parametrize(("kind", "place", "layers", "widths"), CASES)
def test_residual_connections(kind: str, place: str, layers: int, widths: tuple[int, ...]) -> None:
    given: dict[str, Any] = {
        "steps": 5,
        "optimizer_name": "momentum(learning_rate=0.1)",
        "normalize_output": bool(kind),
    }
    assert_same_path(*both(network(kind, place, layers, widths), **given))


@pytest.mark.parametrize("kind", NORMALIZATIONS)
@pytest.mark.parametrize(
    "given",
    [
        {"activation": "relu", "optimizer_name": "adam(epsilon=1e-4)", "loss": "softmax_cross_entropy"},
        {"running_momentum": 0.5, "clipping": "adaptive(bound=0.05)", "weight_decay": 0.1, "batch": 13},
        {"clipping": "norm(bound=0.1)", "normalize_output": True, "train_biases": False, "batch": 2},
        {"clipping": "value(bound=0.02)", "output_activation": "sigmoid", "running_momentum": 0.0, "perturbation": 0.1},
    ],
)
def test_normalization(kind: str, given: dict[str, Any]) -> None:
    own = {name: value for name, value in given.items() if kind == "batch" or name != "running_momentum"}
    assert_same_path(*both(network(kind, "", 1, (3, 5, 4, 2), own.pop("activation", "tanh")), **own))


def test_what_is_wrong_by_a_millionth_is_found() -> None:
    """Epsilon, momentum of the running moments, and the factors of branch and shortcut."""
    trained, oracle, moments = both(network("batch", "inside", 1), steps=3, running_momentum=0.8)
    assert_same_path(trained, oracle, moments)
    start, data = parameters(trained, NET, 0), samples(NARROW_ENDS, "mean_squared_error")
    for name in ("momentum", "epsilon", "branch", "shortcut"):
        wrong = dict(vars(oracle)) | ({} if name == "momentum" else {name: getattr(oracle, name) * (1 + 1e-6)})
        again = naive.train(
            naive.Net(**wrong), start, *data, naive.mini_batches(13, 4, NET, SEED), rates=np.full(3, 0.1),
            optimizer=trained.training.optimizer, momentum=0.8 * (1 + 1e-6) if name == "momentum" else 0.8,
        )  # fmt: skip
        must_fail(assert_same_path, trained, oracle, again)


@pytest.mark.parametrize(("kind", "place"), [("batch", "after"), ("layer", "before"), ("rms", "between")])
def test_the_oracle_has_its_gradient(kind: str, place: str) -> None:
    """Central differences of its loss, which is all that it is told."""
    _, oracle, moments = both(network(kind, place, 2, EQUAL), steps=1)
    at, (x, y) = moments[1].parameters, samples(EQUAL, "mean_squared_error")
    gradient = oracle.gradient(at, x, y)
    pairs = [(at[layer][name], g) for layer, tensors in enumerate(gradient) for name, g in tensors.items()]
    assert_finite_differences(pairs, lambda: float(oracle.loss_of(at, x, y)))


@pytest.mark.parametrize(("kind", "place"), [("batch", "inside"), ("", "between"), ("rms", "before")])
def test_nets_start_as_those_of_the_simulator(kind: str, place: str) -> None:
    net = network(kind, place, 2)
    trained = train(net, nets=2, steps=0, batch=2, data=samples(NARROW_ENDS, ""), seed=SEED, quantities=("loss",),
                    keep_weights=True, precision="float64")  # fmt: skip
    seen = trace(net, net=1, batch=2, seed=SEED, precision="float64")
    for layer in range(1, net.depth + 1):
        assert np.array_equal(trained.weights(layer)[1, 0], np.array(seen.weight[layer]))
        assert np.array_equal(trained.biases(layer)[1, 0], np.array(seen.bias[layer]))
        if trained.training.normalized[layer]:
            assert (trained.scales(layer) == 1).all() and not trained.shifts(layer).any()


def test_units_that_do_not_vary_are_normalized_to_their_shift() -> None:
    """Inputs that are all the same: a batch has no variance, and the net is its shifts, with the right gradients."""
    x, y = np.ones((6, 3)), samples((3, 4, 2), "mean_squared_error", number=6)[1]
    trained = train(
        Network((3, 4, 2), "tanh", "he_normal", normalization="batch"), nets=1, steps=5, batch=3, data=(x, y),
        record=range(6), quantities=("loss", "batch_loss"), keep_weights=True, precision="float64",
    )  # fmt: skip
    np.testing.assert_allclose(trained.weights(1)[0, 0], trained.weights(1)[0, -1], rtol=0, atol=1e-14)
    assert np.array_equal(trained.scales(1)[0, -1], np.ones(4))
    assert (trained.shifts(1)[0, -1] != 0).all()
    for time, rows in enumerate(islice(naive.mini_batches(6, 3, 0, 0), 6)):
        z = np.tanh(trained.shifts(1)[0, time]) @ trained.weights(2)[0, time] + trained.biases(2)[0, time]
        loss = ((z - y[rows]) ** 2).mean()
        np.testing.assert_allclose(trained.values("batch_loss")[0, time, 0], loss, rtol=1e-12)
    mean, variance = (each[0] for each in trained.running_moments(1))
    s = trained.weights(1)[0, 0].sum(axis=0)
    np.testing.assert_allclose(variance[-1], 0.9**5, rtol=1e-12)
    np.testing.assert_allclose(mean[-1], (1 - 0.9**5) * s, rtol=1e-12)


def test_torch_trains_the_same_net() -> None:
    """Batch norm, cross-entropy and Adam, with evaluation by running moments, whose share of new ones is 1 - ours."""
    torch = pytest.importorskip("torch", reason="PyTorch is optional: its layers are a second oracle")
    widths, loss, steps = (3, 6, 5, 3), "softmax_cross_entropy", 10
    x, y = samples(widths, loss)
    trained = train(
        Network(widths, "relu", "he_normal", normalization="batch(epsilon=0.001)"), nets=1, steps=steps, batch=13,
        loss=loss, optimizer="adam(learning_rate=0.02, epsilon=1e-3)", data=(x, y), running_momentum=0.8,
        weight_decay=0.05, record=range(steps + 1), quantities=("loss", "batch_loss"), keep_weights=True,
        precision="float64",
    )  # fmt: skip
    layers: list[Any] = []
    for layer, (fan_in, fan_out) in enumerate(trained.network.fans, start=1):
        linear = torch.nn.Linear(fan_in, fan_out, dtype=torch.float64)
        with torch.no_grad():
            linear.weight.copy_(torch.tensor(trained.weights(layer)[0, 0].T))
            linear.bias.copy_(torch.tensor(trained.biases(layer)[0, 0]))
        layers.append(linear)
        if layer < 3:
            layers += [torch.nn.BatchNorm1d(fan_out, eps=1e-3, momentum=0.2, dtype=torch.float64), torch.nn.ReLU()]
    net = torch.nn.Sequential(*layers)
    weights = [each.weight for each in layers if isinstance(each, torch.nn.Linear)]
    others = [each for each in net.parameters() if all(each is not weight for weight in weights)]
    groups = [{"params": weights, "weight_decay": 0.05}, {"params": others}]
    theirs = torch.optim.Adam(groups, lr=0.02, eps=1e-3)
    for step in range(steps + 1):
        for layer in (1, 2):
            norm = layers[3 * layer - 2]
            ours = (trained.scales(layer), trained.shifts(layer), *trained.running_moments(layer))
            for a, b in zip(ours, (norm.weight, norm.bias, norm.running_mean, norm.running_var), strict=True):
                np.testing.assert_allclose(a[0, step], b.detach().numpy(), rtol=1e-9, atol=1e-11)
        net.eval()
        evaluated = torch.nn.functional.cross_entropy(net(torch.tensor(x)), torch.tensor(y))
        net.train()
        value = torch.nn.functional.cross_entropy(net(torch.tensor(x)), torch.tensor(y))
        found = [trained.values(name)[0, step, 0] for name in ("loss", "batch_loss")]
        np.testing.assert_allclose(found, [evaluated.item(), value.item()], rtol=1e-9)
        theirs.zero_grad()
        value.backward()
        theirs.step()


def test_evaluating_a_net_before_its_first_step_is_no_divergence() -> None:
    """Running moments of 0 and 1 leave a deep net of large weights without normalization: it overflows, and learns."""
    x, y = np.random.default_rng(2).normal(size=(2, 40, 8))
    deep = Network((8, *(64,) * 60, 8), "relu", "normal(std=4)", normalization="batch")
    given: dict[str, Any] = {"data": (x, y), "nets": 1, "steps": 3, "batch": 20, "record": (0, 3)}
    seen, unseen = (train(deep, quantities=names, **given) for names in (("loss", "batch_loss"), ("batch_loss",)))
    assert seen.divergence == "" and not np.isfinite(seen.values("loss")[0, 0, 0])
    assert np.array_equal(seen.values("batch_loss"), unseen.values("batch_loss"), equal_nan=True)


def test_only_batches_have_running_moments() -> None:
    given: dict[str, Any] = {"nets": 1, "steps": 1, "batch": 4, "data": samples(NARROW_ENDS, "mean_squared_error")}
    for kind in ("batch", "layer"):
        trained = train(network(kind, "", 1, NARROW_ENDS), keep_weights=True, **given)
        if kind == "batch":
            assert trained.running_moments(1)[0].any()
        else:
            with pytest.raises(ValueError, match="layer 1 has no running moments: only batch normalization has"):
                trained.running_moments(1)
