"""Losses as surfaces: against hyper-dual numbers, formulas, PyTorch, and relations that any loss obeys."""

from __future__ import annotations

from typing import Any

import hypothesis
import mpmath
import numpy as np
import pytest
from hypothesis import strategies as st
from numpy.typing import NDArray

from stabsim import Network
from stabsim.activations import ACTIVATIONS, Activation
from stabsim.landscape import Landscape
from stabsim.losses import LOSSES
from stabsim.training import Regression, train
from tests import naive_landscape as naive

Floats = NDArray[Any]
WIDTHS = (2, 3, 2)


def targets_of(loss: str, raw: Floats) -> Floats:
    """Make targets that a loss takes."""
    if loss == "mean_squared_error":
        return raw
    shares = np.abs(raw) + 0.1
    return np.asarray(shares / shares.sum(axis=1, keepdims=True))


def landscape_of(widths: tuple[int, ...], activation: Any, loss: str, samples: int = 5, **options: Any) -> Landscape:
    draws = np.random.default_rng(len(widths) * samples)
    inputs, raw = draws.normal(size=(samples, widths[0])), draws.normal(size=(samples, widths[-1]))
    return Landscape(Network(widths, activation, "lecun_normal"), (inputs, targets_of(loss, raw)), loss, **options)


def assert_is_the_oracle(surface: Landscape, points: Floats) -> None:
    found = surface.loss(points), surface.gradient(points), surface.hessian(points)
    for i, point in enumerate(points):
        oracle = naive.derivatives(lambda p: naive.loss_of(surface, p), point)
        for each, expected in zip(found, map(np.asarray, oracle), strict=True):
            np.testing.assert_allclose(each[i], expected, rtol=1e-10, atol=1e-12 * max(1.0, np.abs(expected).max()))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_activation_is_the_oracle(name: str) -> None:
    surface = landscape_of(WIDTHS, name, "mean_squared_error")
    assert_is_the_oracle(surface, 1.5 * surface.draw(1))


@pytest.mark.parametrize("biases", [True, False])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("widths", [(1, 1), (2, 3), (1, 2, 1, 2), (2, 2, 2, 2)])
def test_every_loss_is_the_oracle_at_any_depth(widths: tuple[int, ...], loss: str, biases: bool) -> None:
    surface = landscape_of(widths, "tanh", loss, samples=3, train_biases=biases)
    assert_is_the_oracle(surface, 1.5 * surface.draw(1))


@pytest.mark.parametrize("output", ["sigmoid", "tanh"])
def test_curved_outputs_are_the_oracle(output: str) -> None:
    surface = landscape_of(WIDTHS, "softplus", "mean_squared_error", output_activation=output)
    assert_is_the_oracle(surface, 2.0 * surface.draw(2))


def test_a_user_s_own_activation_is_the_oracle_and_needs_its_second_derivative() -> None:
    own = Activation("square", lambda x: x * x, lambda x: 2 * x, lambda x: 0 * x + 2)
    surface = landscape_of(WIDTHS, own, "mean_squared_error")
    assert_is_the_oracle(surface, surface.draw(1))
    with pytest.raises(ValueError, match="'square' has no second_derivative: give it one"):
        landscape_of(WIDTHS, Activation("square", lambda x: x * x, lambda x: 2 * x), "mean_squared_error")
    with pytest.raises(ValueError, match=r"second_derivative of activation 'square' is 3 at x = -?0.0011"):
        landscape_of(WIDTHS, Activation("square", own.f, own.derivative, lambda x: 0 * x + 3), "mean_squared_error")


def test_finite_differences_of_loss_and_gradient() -> None:
    surface = landscape_of((3, 4, 3, 2), "tanh", "softmax_cross_entropy", samples=9)
    point, step = surface.draw(1)[0], 1e-5
    moves = step * np.eye(surface.parameters)
    slopes = (surface.loss(point + moves) - surface.loss(point - moves)) / (2 * step)
    curves = (surface.gradient(point + moves) - surface.gradient(point - moves)) / (2 * step)
    np.testing.assert_allclose(surface.gradient(point), slopes, atol=1e-9)
    np.testing.assert_allclose(surface.hessian(point), curves, atol=1e-9)


def design(surface: Landscape) -> Floats:
    """Return the inputs with a 1 behind each."""
    return np.hstack([surface.inputs, np.ones((surface.samples, 1))])


def test_least_squares() -> None:
    surface = landscape_of((3, 2), "linear", "mean_squared_error", samples=7)
    x = design(surface)
    expected = np.kron(2 * x.T @ x / (7 * 2), np.eye(2))
    np.testing.assert_allclose(surface.hessian(surface.draw(3)), [expected] * 3, rtol=1e-8, atol=1e-14)


def test_logistic_regression() -> None:
    surface = landscape_of((3, 1), "linear", "logistic", samples=7)
    x, point = design(surface), surface.draw(1)[0]
    p = 1 / (1 + np.exp(-x @ point))
    np.testing.assert_allclose(surface.hessian(point), x.T @ (x * (p * (1 - p))[:, None]) / 7, rtol=1e-8)


def test_softmax_regression() -> None:
    surface = landscape_of((3, 4), "linear", "softmax_cross_entropy", samples=7)
    x, point = design(surface), surface.draw(1)[0]
    scores = np.exp(x @ point.reshape(4, 4))
    p = scores / scores.sum(axis=1, keepdims=True)
    expected = sum(np.kron(np.outer(a, a), np.diag(q) - np.outer(q, q)) for a, q in zip(x, p, strict=True)) / 7
    np.testing.assert_allclose(surface.hessian(point), expected, rtol=1e-8, atol=1e-15)


def test_losses_far_out_are_finite_and_exact() -> None:
    for loss, expected in (("logistic", 800.0), ("softmax_cross_entropy", 1600.0)):
        network, outputs = Network((1, 2), "linear", "lecun_normal"), np.array([800.0, -800.0])
        surface = Landscape(network, ([[1.0]], [[0.0, 1.0]]), loss, train_biases=False)
        assert surface.loss(outputs) == expected
        assert np.isfinite(surface.gradient(outputs)).all() and np.isfinite(surface.hessian(outputs)).all()
    assert (
        np.abs(Landscape(network, ([[1.0]], [[1.0, 0.0]]), loss, train_biases=False).gradient(outputs)).max() < 1e-300
    )


def precise(loss: str, outputs: list[float], targets: list[float]) -> list[Any]:
    """Return the loss of one sample and its derivatives by the outputs, from 700 digits."""
    with mpmath.workdps(700):
        z, y = ([mpmath.mpf(value) for value in each] for each in (outputs, targets))
        if loss == "logistic":
            shares = [1 / (1 + mpmath.exp(-value)) for value in z]
            terms = [-b * mpmath.log(p) - (1 - b) * mpmath.log(1 - p) for p, b in zip(shares, y, strict=True)]
            parts = [*terms, *(p - b for p, b in zip(shares, y, strict=True))]
            return [float(sum(terms) / len(z)), *(float(part / len(z)) for part in parts[len(z) :])]
        powers = [mpmath.exp(value) for value in z]
        shares = [power / sum(powers) for power in powers]
        total = -sum(b * mpmath.log(p) for p, b in zip(shares, y, strict=True))
        return [float(total), *(float(p - b) for p, b in zip(shares, y, strict=True))]


@pytest.mark.parametrize("loss", ["logistic", "softmax_cross_entropy"])
def test_losses_and_gradients_far_out_keep_their_digits(loss: str) -> None:
    """Where all is nearly right: at +-17 p - y is off by 4%, at +-40 it is 0.

    A difference of outputs up to 700 is rounded by 1e-13.
    """
    network = Network((1, 3), "linear", "lecun_normal")
    for far in (0.3, 5.0, 12.0, 17.0, 40.0, 150.0, 340.0):
        for outputs in ([far, -far, -0.9 * far], [-far, -0.5 * far, far], [0.0, far, 0.0], [-far, -far, 0.1]):
            for targets in ([1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.25, 0.0, 0.75]):
                surface = Landscape(network, ([[1.0]], [targets]), loss, train_biases=False)
                found = [surface.loss(outputs), *surface.gradient(outputs)]
                np.testing.assert_allclose(found, precise(loss, outputs, targets), rtol=2e-13, atol=0)


SHAPES = st.lists(st.integers(1, 4), min_size=2, max_size=5).map(tuple)


@hypothesis.settings(max_examples=40)
@hypothesis.given(SHAPES, st.sampled_from(list(LOSSES)), st.booleans(), st.integers(1, 6), st.integers(0, 99))
def test_relations(widths: tuple[int, ...], loss: str, biases: bool, samples: int, seed: int) -> None:
    surface = landscape_of(widths, "tanh", loss, samples, train_biases=biases)
    points = 1.5 * surface.draw(2, seed=seed)
    vectors = np.random.default_rng(seed).normal(size=points.shape)
    hessian, outer = surface.hessian(points), surface.gauss_newton(points)
    scale = np.abs(hessian).max() + np.abs(outer).max()
    np.testing.assert_array_equal(hessian, hessian.swapaxes(1, 2))
    for matrix, product in ((hessian, surface.hessian_vector(points, vectors)),
                            (outer, surface.hessian_vector(points, vectors, gauss_newton=True))):  # fmt: skip
        np.testing.assert_allclose(product, np.einsum("pij,pj->pi", matrix, vectors), atol=1e-13 * scale * samples)
    assert np.linalg.eigvalsh(outer).min() >= -1e-13 * scale * surface.parameters
    if len(widths) == 2:  # outputs are linear in the parameters: nothing but the Gauss-Newton part
        np.testing.assert_allclose(outer, hessian, atol=1e-15 * scale)
    np.testing.assert_array_equal(surface.loss_and_gradient(points)[0], surface.loss(points))


@hypothesis.settings(max_examples=20)
@hypothesis.given(st.permutations(range(4)), st.integers(0, 99))
def test_units_in_another_order_permute_the_hessian(order: list[int], seed: int) -> None:
    surface = landscape_of((2, 4, 2), "tanh", "logistic")
    point = surface.draw(1, seed=seed)[0]
    places = np.arange(surface.parameters)
    rows = places[:12].reshape(3, 4)[:, order]
    outgoing = places[12:20].reshape(4, 2)[order]
    moved = np.concatenate([rows.ravel(), outgoing.ravel(), places[20:]])
    np.testing.assert_allclose(surface.loss(point[moved]), surface.loss(point), rtol=1e-13)
    np.testing.assert_allclose(surface.hessian(point[moved]), surface.hessian(point)[np.ix_(moved, moved)], atol=1e-14)


def test_exact_null_spaces() -> None:
    relu = landscape_of((2, 3, 2), "relu", "mean_squared_error")
    point = relu.draw(1)[0]
    point[6:9] = [-100.0, 1.0, 1.0]  # unit 0 is dead
    dead = np.r_[0, 3, 6, 9, 10]  # what goes into it, and out of it
    assert not relu.hessian(point)[dead].any() and not relu.gradient(point)[dead].any()
    softmax = landscape_of((2, 3, 2), "tanh", "softmax_cross_entropy")
    shift = np.zeros(softmax.parameters)
    shift[-2:] = 1.0  # of all outputs together
    assert np.abs(softmax.hessian_vector(softmax.draw(3), shift)).max() < 1e-16


def test_numbers_depend_neither_on_threads_nor_on_other_points() -> None:
    surfaces = [landscape_of((3, 5, 2), "tanh", "mean_squared_error", 20, threads=threads) for threads in (1, 3)]
    points = surfaces[0].draw(7)
    vectors = points[::-1].copy()
    for method, others in (("loss", ()), ("gradient", ()), ("hessian", ()), ("hessian_vector", (vectors,))):
        one, three = (getattr(surface, method)(points, *others) for surface in surfaces)
        alone = [getattr(surfaces[0], method)(points[i], *(each[i] for each in others)) for i in range(7)]
        np.testing.assert_array_equal(one, three)
        np.testing.assert_array_equal(one, alone)


def test_leading_axes_are_kept_and_broadcast() -> None:
    surface = landscape_of(WIDTHS, "tanh", "mean_squared_error")
    points = surface.draw(6).reshape(2, 3, -1)
    size = surface.parameters
    assert surface.loss(points).shape == (2, 3) and surface.loss(points[0, 0]).shape == ()
    assert surface.hessian(points).shape == (2, 3, size, size) and surface.outputs(points).shape == (2, 3, 5, 2)
    probes = surface.hessian_vector(points[0, 0], np.eye(size))
    np.testing.assert_allclose(probes, surface.hessian(points[0, 0]), atol=1e-14)
    assert surface.weights(points, 2).shape == (2, 3, 3, 2) and surface.biases(points, 1).shape == (2, 3, 3)


def test_mini_batches_average_to_the_whole() -> None:
    surface = landscape_of((2, 3, 1), "tanh", "mean_squared_error", samples=6)
    points, batches = surface.draw(2), np.arange(6).reshape(3, 2)
    parts = [surface.gradient(points, samples=batch) for batch in batches]
    np.testing.assert_allclose(np.mean(parts, axis=0), surface.gradient(points), rtol=1e-12)
    own = surface.gradient(points, samples=batches[:2])
    np.testing.assert_array_equal(own, [parts[0][0], parts[1][1]])


def test_points_are_those_of_training() -> None:
    network = Network((3, 4, 2), "tanh", "lecun_normal", bias_std=0.3)
    data = Regression(Network((3, 2), "linear", "lecun_normal"), samples=16).draw(seed=1, net=0)
    trained = train(
        network, nets=3, steps=20, optimizer="sgd(learning_rate=0.2)", data=data, batch=16, record=(0, 20),
        quantities=("loss", "gradient_norm"), keep_weights=True, precision="float64",
    )  # fmt: skip
    surface = Landscape(network, data)
    points = surface.points(trained)
    np.testing.assert_array_equal(points[:, 0], surface.draw(3))
    np.testing.assert_allclose(surface.loss(points), trained.values("loss")[..., 0], rtol=1e-12)
    norms = np.linalg.norm(surface.gradient(points), axis=-1)
    np.testing.assert_allclose(norms, trained.values("gradient_norm")[..., 0], rtol=1e-10)
    point = points[:, 0]
    for _ in range(20):
        point = point - 0.2 * surface.gradient(point)
    np.testing.assert_allclose(point, points[:, 1], atol=1e-13)


def test_accuracy() -> None:
    network = Network((1, 2), "linear", "lecun_normal")
    surface = Landscape(network, ([[1.0], [-1.0], [2.0]], [[1, 0], [0, 1], [0, 1]]), "softmax_cross_entropy")
    assert surface.accuracy([1.0, -1.0, 0.0, 0.0]) == pytest.approx(2 / 3)
    one = Landscape(Network((1, 1), "linear", "lecun_normal"), ([[1.0], [-1.0]], [[1.0], [1.0]]), "logistic")
    assert one.accuracy([1.0, 0.0]) == 0.5


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")  # torch itself calls it
def test_pytorch_agrees() -> None:
    torch = pytest.importorskip("torch")
    surface = landscape_of((3, 4, 4, 2), "tanh", "softmax_cross_entropy", samples=8)
    x, y = (torch.tensor(side) for side in (surface.inputs, surface.targets))

    def loss(vector: Any) -> Any:
        z, start = x, 0
        for layer, (fan_in, fan_out) in enumerate(surface.network.fans, start=1):
            weights = vector[start : start + fan_in * fan_out].reshape(fan_in, fan_out)
            start += fan_in * fan_out
            z = z @ weights + vector[start : start + fan_out]
            start += fan_out
            z = torch.tanh(z) if layer < 3 else z
        return torch.nn.functional.cross_entropy(z, y)

    point = surface.draw(1)[0]
    expected = torch.func.hessian(loss)(torch.tensor(point)).numpy()
    np.testing.assert_allclose(surface.hessian(point), expected, rtol=1e-10, atol=1e-14)


NETWORK = Network((2, 3, 2), "tanh", "lecun_normal")
DATA: Any = (np.zeros((4, 2)), np.zeros((4, 2)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Landscape(NETWORK, DATA, "hinge"), "unknown loss 'hinge'"),
        (lambda: Landscape(NETWORK, DATA, 3), "loss must be one of mean_squared_error"),  # type: ignore[arg-type]  # shown
        (lambda: Landscape(NETWORK, DATA, "softmax_cross_entropy"), "targets of softmax_cross_entropy must be prob"),
        (
            lambda: Landscape(NETWORK, (DATA[0], DATA[1] + 1 / 3), "softmax_cross_entropy"),
            r"with the sum 1 \+- 1e-6 in each row, not 0.666666667 in row 0",
        ),
        (lambda: Landscape(NETWORK, DATA).loss(np.zeros((0, 17))), r"with one point at least, not \(0, 17\)"),
        (lambda: Landscape(NETWORK, (DATA[0], DATA[1] + 2), "logistic"), "must be from 0 to 1, not 2 to 2"),
        (lambda: Landscape(NETWORK, DATA, output_activation="rleu"), "output_activation: unknown activation 'rleu'"),
        (lambda: Landscape(Network((2, 2), "tanh", "he_normal", 0.1), DATA, train_biases=False), "bias_std=0.1"),
        (
            lambda: Landscape(Network((2, 2), "tanh", "he_normal", normalization="layer"), DATA),
            "must be a network of plain layers",
        ),
        (lambda: Landscape(NETWORK, (np.zeros((4, 3)), DATA[1])), "inputs must have shape"),
        (lambda: Landscape(NETWORK, DATA).loss(np.zeros(16)), r"points must have shape \(..., 17\), not \(16,\)"),
        (lambda: Landscape(NETWORK, DATA).loss(np.full(17, np.nan)), r"points must be finite, but points\[0\] is nan"),
        (lambda: Landscape(NETWORK, DATA).loss([[0.0] * 17, [0.0]]), "points must be an array of numbers"),
        (lambda: Landscape(NETWORK, DATA).loss(3.0), r"points must have shape \(..., 17\), not \(\)"),
        (lambda: Landscape(NETWORK, DATA).hessian_vector(np.zeros(17), np.zeros(3)), "vectors must have shape"),
        (lambda: Landscape(NETWORK, DATA).gradient(np.zeros(17), samples=[4]), "samples must be from 0 to 3, not 4"),
        (lambda: Landscape(NETWORK, DATA).gradient(np.zeros(17), samples=[0.5]), "samples must be whole numbers"),
        (lambda: Landscape(NETWORK, DATA).weights(np.zeros(17), 3), "layer must be an integer from 1 to 2, not 3"),
        (lambda: Landscape(NETWORK, DATA).points(np.zeros(17)), "trained must be what"),  # type: ignore[arg-type]  # shown
    ],
)
def test_errors(make: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        make()


def test_probabilities_of_float32_are_probabilities() -> None:
    thirds = np.full((4, 3), 1 / 3, np.float32)
    assert Landscape(Network((2, 3), "tanh", "lecun_normal"), (DATA[0], thirds), "softmax_cross_entropy").samples == 4
