"""Models as users of PyTorch write them: the tensors are those that PyTorch's own hooks see on the same weights."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest

torch: Any = pytest.importorskip("torch", reason="torch is not installed: PyTorch's hooks have nothing to hook")

import stabsim  # noqa: E402
from stabsim.models.statistics import tensors_of  # noqa: E402
from stabsim.quantities import QUANTITIES  # noqa: E402
from tests.test_models import FLOAT32, assert_as_hooks_saw  # noqa: E402
from tests.torch_models import hooked, made, models, statistics  # noqa: E402

nn = torch.nn
UNIT = {"float32": 2.0**-24, "float64": 2.0**-53}
ROUNDINGS = 32  # units of the largest value of a tensor: what two orders of summation may differ by


def assert_same_tensors(found: dict[str, list[Any]], expected: dict[str, list[Any]], unit: float) -> None:
    """Fail unless all tensors agree, to some roundings of their largest value."""
    for name, tensors in expected.items():
        for mine, theirs in zip(found[name], tensors, strict=True):
            if theirs is not None:
                assert np.max(np.abs(mine - theirs)) <= ROUNDINGS * unit * np.max(np.abs(theirs)), name


def weight_of(model: Any) -> Any:
    return model.layers[0].weight


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("name", models())
def test_tensors_are_those_of_pytorch(name: str, precision: str) -> None:
    model, x, gradient = made(name)
    if precision == "float64":
        model, x, gradient = model.double(), x.double(), gradient.double()
    expected = hooked(model, x, gradient)
    read = stabsim.from_torch(model)
    assert read.precision == precision
    seen = tensors_of(read.trace(x, output_gradient=gradient))
    assert_same_tensors(seen, expected, UNIT[precision])
    wrong = {key: [v if v is None else v * (1 + 1e-4) for v in tensors] for key, tensors in seen.items()}
    with pytest.raises(AssertionError):
        assert_same_tensors(wrong, expected, UNIT[precision])


@pytest.mark.parametrize("name", models())
def test_statistics_are_those_of_pytorch(name: str) -> None:
    model, x, gradient = made(name)
    expected = {k: v for k, v in statistics(hooked(model, x, gradient)).items() if not k.endswith("kurtosis")}
    known = {k: v for k, v in expected.items() if k in QUANTITIES}
    assert_as_hooks_saw(stabsim.from_torch(model).table(x, output_gradient=gradient), known)


def test_both_biases_of_a_cell_have_their_gradients() -> None:
    torch.manual_seed(0)
    for cell in (nn.RNN(3, 4), nn.LSTM(3, 4), nn.GRU(3, 4)):
        x, gradient = torch.randn(6, 5, 3), torch.randn(5, 4)
        cell(x)[0][-1].backward(gradient)
        seen = stabsim.from_torch(cell).trace(x.transpose(0, 1), output_gradient=gradient)
        for mine, theirs in ((seen.bias_gradient, cell.bias_ih_l0), (seen.recurrent_bias_gradient, cell.bias_hh_l0)):
            assert np.allclose(np.hstack(mine), theirs.grad, rtol=FLOAT32, atol=FLOAT32)


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_small_formats_are_read_as_they_are(kind: str) -> None:
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh()).to(getattr(torch, kind))
    read = stabsim.from_torch(model)
    assert np.array_equal(weight_of(read), model[0].weight.detach().float().T)
    assert any(kind in note for note in read.notes)


def test_the_weights_are_copies() -> None:
    model = nn.Sequential(nn.Linear(4, 5))
    read = stabsim.from_torch(model)
    before = read.trace(batch=2).activation[1]
    with torch.no_grad():
        model[0].weight.fill_(3)
    assert np.array_equal(read.trace(batch=2).activation[1], before)


def test_hooks_are_not_run_and_said_to_be_there() -> None:
    model = nn.Sequential(nn.Linear(4, 5))
    model[0].register_forward_hook(lambda module, given, output: 2 * output)
    assert stabsim.from_torch(model).notes == ("module[0] has hooks of its own, which are not run",)


@pytest.mark.parametrize("kind", ["forward", "forward_pre", "full_backward", "full_backward_pre"])
def test_hooks_of_containers_are_said_to_be_there(kind: str) -> None:
    model = nn.Sequential(nn.Linear(4, 5), nn.Sequential(nn.Tanh()))
    getattr(model[1], f"register_{kind}_hook")(lambda *given: None)
    assert stabsim.from_torch(model).notes == ("module[1] has hooks of its own, which are not run",)
    getattr(model, f"register_{kind}_hook")(lambda *given: None)
    assert stabsim.from_torch(model).notes[0] == "module has hooks of its own, which are not run"


def test_a_call_of_ones_own_is_refused() -> None:
    twice = {"__call__": lambda self, x: 2 * self.forward(x)}
    for kind, arguments in ((nn.Linear, (4, 5)), (nn.Sequential, (nn.Linear(4, 5),))):
        own = type("Twice", (kind,), twice)(*arguments)
        with pytest.raises(ValueError, match=rf"Twice\) has a __call__ of its own, .* torch.nn.{kind.__name__}"):
            stabsim.from_torch(nn.Sequential(own))


def test_lazy_layers() -> None:
    model = nn.Sequential(nn.LazyLinear(5), nn.LazyBatchNorm1d(), nn.ReLU())
    with pytest.raises(ValueError, match=r"module\[0\] \(LazyLinear\) has no weights yet: run the module once"):
        stabsim.from_torch(model)
    model(torch.randn(4, 3))
    assert stabsim.from_torch(model).widths == (3, 5)


def test_the_meta_device() -> None:
    with pytest.raises(ValueError, match=r"weight of module\[0\] is on the meta device"):
        stabsim.from_torch(nn.Sequential(nn.Linear(3, 4, device="meta")))


def test_parametrized_weights_are_those_in_effect_and_left_as_they_are() -> None:
    from torch.nn.utils import parametrizations

    model = nn.Sequential(
        parametrizations.weight_norm(nn.Linear(4, 5)), nn.Tanh(), parametrizations.spectral_norm(nn.Linear(5, 5))
    )
    before = {key: value.clone() for key, value in model.state_dict().items()}
    read = stabsim.from_torch(model)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    x = torch.randn(3, 4)
    assert np.allclose(read.trace(x).activation[-1], model.eval()(x).detach(), rtol=1e-5, atol=1e-6)
    assert sum("is parametrized" in note for note in read.notes) == 2


def test_weights_that_hooks_make_are_refused() -> None:
    prune: Any = importlib.import_module("torch.nn.utils.prune")

    model = nn.Sequential(nn.Linear(4, 5))
    prune.random_unstructured(model[0], "weight", 0.5)
    with pytest.raises(ValueError, match=r"module\[0\] \(Linear\) has weights that RandomUnstructured .* makes anew"):
        stabsim.from_torch(model)
    prune.remove(model[0], "weight")
    assert np.mean(weight_of(stabsim.from_torch(model)) == 0) == 0.5


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.LSTM(3, 4, bidirectional=True), "bidirectional=False, not True"),
        (lambda: nn.LSTM(3, 4, proj_size=2), "proj_size=0, not 2"),
        (lambda: nn.Sequential(nn.Conv2d(1, 2, 3)), "unknown torch layer"),
        (
            lambda: nn.Sequential(nn.Linear(3, 4), nn.Sequential(nn.Linear(4, 4), nn.Mish())),
            r"module\[1\]\[1\]: 'Mish'",
        ),
        (lambda: nn.MultiheadAttention(8, 2), "unknown torch layer at module: 'MultiheadAttention'"),
        (lambda: nn.Sequential(nn.Linear(3, 4), nn.GRU(4, 4)), "recurrent behind"),
    ],
)
def test_what_is_not_read(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        stabsim.from_torch(make())


def test_two_recurrent_layers_are_fitted_but_not_run() -> None:
    model = stabsim.from_torch(nn.LSTM(3, 16, num_layers=2))
    assert len(model.layers) == 2 and len(model.fits) == 32
    with pytest.raises(ValueError, match="one recurrent layer alone is run"):
        model.trace(batch=2, steps=3)
    with pytest.raises(ValueError, match="a Network has one recurrent layer"):
        model.ensemble(steps=3)


def trained(steps: int) -> Any:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(20, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    x = torch.randn(256, 20)
    targets = torch.stack([torch.sin(3 * x[:, 0]), x[:, 1] * x[:, 2]], dim=1)
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.mse_loss(model(x), targets).backward()
        optimizer.step()
    return model


def test_a_trained_net_fits_no_law() -> None:
    assert str(stabsim.from_torch(trained(0)).network.weights) == "torch_default"
    read = stabsim.from_torch(trained(100))
    assert "none" in list(read.fits.law[read.fits.tensor == "weight"])
    with pytest.raises(ValueError, match="fit no law of the registry"):
        read.network  # noqa: B018  # raises
    assert read.ensemble(weights="torch_default").widths == (20, 64, 64)
