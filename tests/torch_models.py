"""Models as users of PyTorch write them, and what PyTorch's own hooks see in them.

``python -m tests.torch_models`` writes data/torch_models.npz: their weights and statistics, for where torch is missing.
"""

from __future__ import annotations

import importlib
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tests.naive import STATISTICS, Floats

FILE = Path(__file__).parent / "data" / "torch_models.npz"
SAMPLES, STEPS = 8, 6

Tensors = dict[str, list[Any]]  # by layer, in the names of `stabsim.Trace`


def models() -> dict[str, Callable[[], Any]]:
    """Return what makes each model."""
    torch: Any = importlib.import_module("torch")
    nn = torch.nn

    class Scaled(nn.Linear):  # type: ignore[misc, name-defined]  # of a module that types do not know
        """A user's own layer that computes what its parent does."""

        def reset_parameters(self) -> None:
            nn.init.orthogonal_(self.weight, math.sqrt(2))
            nn.init.zeros_(self.bias)

    def initialized(model: Any, law: Callable[..., Any], **options: Any) -> Any:
        for layer in model.modules():
            if isinstance(layer, nn.Linear):
                law(layer.weight, **options)
                nn.init.zeros_(layer.bias)
        return model

    def tanh() -> Any:
        model = nn.Sequential(
            nn.Linear(10, 12), nn.Tanh(), nn.Linear(12, 12), nn.Tanh(), nn.Linear(12, 12), nn.Tanh(), nn.Linear(12, 3)
        )
        return initialized(model, nn.init.xavier_normal_, gain=5 / 3)

    def relu() -> Any:
        layers: list[Any] = []
        for fan_in in (10, 14, 14, 14):
            layers += [nn.Linear(fan_in, 14), nn.ReLU()]
        return initialized(nn.Sequential(*layers), nn.init.kaiming_normal_, nonlinearity="relu")

    def default() -> Any:
        return nn.Sequential(
            nn.Flatten(), nn.Linear(10, 12), nn.Sigmoid(), nn.Linear(12, 8), nn.Sigmoid(), nn.Linear(8, 4)
        )

    def selu() -> Any:
        model = nn.Sequential(nn.Linear(10, 16), nn.SELU(), nn.AlphaDropout(0.1), nn.Linear(16, 16), nn.SELU())
        return initialized(model, nn.init.kaiming_normal_, nonlinearity="linear").eval()

    def batch_norm() -> Any:
        return nn.Sequential(
            nn.Linear(10, 12, bias=False), nn.BatchNorm1d(12), nn.ReLU(),
            nn.Linear(12, 12, bias=False), nn.BatchNorm1d(12), nn.ReLU(), nn.Linear(12, 2),
        )  # fmt: skip

    def batch_norm_in_evaluation() -> Any:
        model = batch_norm()
        for _ in range(5):
            model(2 * torch.randn(32, 10) + 1)
        with torch.no_grad():
            for layer in (model[1], model[4]):
                layer.weight.uniform_(0.5, 2)
                layer.bias.normal_()
        return model.eval()

    def layer_norm() -> Any:
        return nn.Sequential(
            nn.LayerNorm(10), nn.Linear(10, 12), nn.LayerNorm(12), nn.SiLU(), nn.Linear(12, 12), nn.SiLU()
        )

    def leaky() -> Any:
        model = nn.Sequential(
            nn.Linear(10, 12), nn.LeakyReLU(0.2), nn.Linear(12, 12), nn.LeakyReLU(0.2), nn.Linear(12, 1)
        )
        return initialized(model, nn.init.kaiming_uniform_, a=0.2)

    def gelu() -> Any:
        return nn.Sequential(Scaled(10, 12), nn.GELU(), Scaled(12, 12), nn.GELU(), Scaled(12, 3), nn.LogSoftmax(dim=1))

    def without_biases() -> Any:
        blocks = [
            nn.Sequential(nn.Linear(12, 12, bias=False), nn.GELU(approximate="tanh"), nn.Identity()) for _ in range(4)
        ]
        return nn.Sequential(*blocks)

    def mixed() -> Any:
        return nn.Sequential(
            nn.Linear(10, 12), nn.ELU(), nn.Linear(12, 9), nn.Softplus(), nn.Linear(9, 9), nn.Hardtanh(),
            nn.Linear(9, 9), nn.ReLU6(), nn.Linear(9, 7), nn.PReLU(), nn.RMSNorm(7), nn.Linear(7, 7), nn.Softsign(),
            nn.Linear(7, 2), nn.CELU(),
        )  # fmt: skip

    made = (
        tanh, relu, default, selu, batch_norm, batch_norm_in_evaluation, layer_norm, leaky, gelu, without_biases, mixed,
    )  # fmt: skip
    return {
        **{each.__name__: each for each in made},
        "rnn": lambda: nn.RNN(5, 7, nonlinearity="relu", batch_first=True),
        "lstm": lambda: nn.LSTM(5, 7),
        "gru": lambda: nn.GRU(5, 7),
        "gru_without_biases": lambda: nn.Sequential(nn.GRU(5, 7, bias=False)),
    }


def made(name: str) -> tuple[Any, Any, Any]:
    """Return a model, its inputs and the gradient by what leaves it, always the same."""
    torch: Any = importlib.import_module("torch")

    torch.manual_seed(17)
    model = models()[name]()
    first = next(each for each in model.modules() if not list(each.children()) and list(each.parameters()))
    recurrent = hasattr(first, "hidden_size")
    if recurrent:
        return model, torch.randn(SAMPLES, STEPS, first.input_size), torch.randn(SAMPLES, first.hidden_size)
    linear = [each for each in model.modules() if isinstance(each, torch.nn.Linear)]
    return model, torch.randn(SAMPLES, linear[0].in_features), torch.randn(SAMPLES, linear[-1].out_features)


def hooked(model: Any, inputs: Any, gradient: Any) -> Tensors:
    """Return the tensors of a model as PyTorch's hooks see them."""
    torch: Any = importlib.import_module("torch")

    recurrent = next((each for each in model.modules() if isinstance(each, torch.nn.RNNBase)), None)
    seen = _through_time(recurrent, inputs, gradient) if recurrent is not None else _layers(model, inputs, gradient)
    return {
        name: [None if each is None else each.detach().double().numpy() for each in tensors]
        for name, tensors in seen.items()
    }


def _layers(model: Any, inputs: Any, gradient: Any) -> Tensors:
    """Hook every Linear: what it takes, gives, and the gradients by both."""
    torch: Any = importlib.import_module("torch")

    body = model[:-1] if isinstance(model[-1], torch.nn.LogSoftmax) else model
    layers = [each for each in body.modules() if isinstance(each, torch.nn.Linear)]
    z, s, dz, ds = ({} for _ in range(4))

    def forward(module: Any, given: Any, output: Any) -> None:
        z[layers.index(module)], s[layers.index(module)] = given[0], output

    def backward(module: Any, by_input: Any, by_output: Any) -> None:
        dz[layers.index(module)], ds[layers.index(module)] = by_input[0], by_output[0]

    handles = [each.register_forward_hook(forward) for each in layers]
    handles += [each.register_full_backward_hook(backward) for each in layers]
    model.zero_grad()
    output = body(inputs.clone().requires_grad_())
    output.backward(gradient)
    for handle in handles:
        handle.remove()
    numbers = range(len(layers))
    return {
        "activation": [*(z[i] for i in numbers), output],
        "preactivation": [None, *(s[i] for i in numbers)],
        "activation_gradient": [*(dz[i] for i in numbers), gradient],
        "preactivation_gradient": [None, *(ds[i] for i in numbers)],
        "weight_gradient": [None, *(each.weight.grad.T for each in layers)],
    }


def _through_time(model: Any, inputs: Any, gradient: Any) -> Tensors:
    """Call a recurrent layer step by step, and hook its states and inputs."""
    torch: Any = importlib.import_module("torch")

    lstm = isinstance(model, torch.nn.LSTM)
    zeros = torch.zeros(1, len(inputs), model.hidden_size, dtype=inputs.dtype)
    h, c = [zeros.clone().requires_grad_()], [zeros.clone().requires_grad_()]
    dh: dict[int, Any] = {}
    dc: dict[int, Any] = {}
    dx: dict[int, Any] = {}
    h[0].register_hook(lambda by: dh.__setitem__(0, by[0]))
    c[0].register_hook(lambda by: dc.__setitem__(0, by[0]))
    model.zero_grad()
    for t in range(inputs.shape[1]):
        x = inputs[:, t].clone().requires_grad_()
        x.register_hook(lambda by, t=t + 1: dx.__setitem__(t, by))
        given = x[:, None] if model.batch_first else x[None]
        _, state = model(given, (h[-1], c[-1]) if lstm else h[-1])
        h.append(state[0] if lstm else state)
        h[-1].register_hook(lambda by, t=t + 1: dh.__setitem__(t, by[0]))
        if lstm:
            c.append(state[1])
            c[-1].register_hook(lambda by, t=t + 1: dc.__setitem__(t, by[0]))
    h[-1].backward(gradient[None])
    steps = range(inputs.shape[1] + 1)
    both = torch.cat([model.weight_ih_l0.grad.T, model.weight_hh_l0.grad.T])
    seen = {
        "activation": [each[0] for each in h],
        "activation_gradient": [dh[t] for t in steps],
        "input_gradient": [None, *(dx[t] for t in steps[1:])],
        "weight_gradient": [None, both, *[None] * (len(h) - 2)],
    }
    # Of later states, PyTorch's hook sees the part of the gradient alone that does not go through h.
    cell = (
        {"cell_state": [each[0] for each in c], "cell_state_gradient": [dc[0], *[None] * (len(h) - 1)]} if lstm else {}
    )
    return seen | cell


OF_CELLS = ("mean", "mean_square", "variance", "log10_norm")


def statistics(tensors: Tensors) -> dict[str, Floats]:
    """Return the quantities of tensors by layer, by the definitions of the oracle; NaN where there is no tensor."""
    found = {}
    for tensor, matrices in tensors.items():
        functions = STATISTICS.get(tensor) or {name: STATISTICS["activation"][name] for name in OF_CELLS}
        for name, function in functions.items():
            found[f"{tensor}_{name}"] = np.array([math.nan if v is None else function(v) for v in matrices])
    return found


def written(module: Any, key: str, arrays: dict[str, Any]) -> dict[str, Any]:
    """Return what an inspection sees of a module, its tensors being put into ``arrays``."""
    tensors = {}
    for name, tensor in [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]:
        tensors[name] = f"{key}.{name}"
        arrays[tensors[name]] = tensor.detach().numpy()
    base = next(each for each in type(module).__mro__ if each.__module__.startswith("torch.nn.modules."))
    simple = {
        k: v
        for k, v in vars(module).items()
        if not k.startswith("_") and isinstance(v, int | float | str | tuple | None)
    }
    children = [written(child, f"{key}.{name}", arrays) for name, child in module.named_children()]
    absent = {name: None for name, value in module._parameters.items() if value is None}
    return {"name": base.__name__, "attributes": simple | absent, "tensors": tensors, "children": children}


def write() -> None:
    """Write the file."""
    torch: Any = importlib.import_module("torch")

    arrays: dict[str, Any] = {}
    documents = {}
    for name in models():
        model, inputs, gradient = made(name)
        documents[name] = written(model, name, arrays)
        arrays |= {f"{name}:inputs": inputs.numpy(), f"{name}:gradient": gradient.numpy()}
        for quantity, values in statistics(hooked(model, inputs, gradient)).items():
            arrays[f"{name}:{quantity}"] = values
    text = json.dumps({"torch": torch.__version__, "models": documents})
    np.savez_compressed(FILE, document=np.array(text), **arrays)


if __name__ == "__main__":
    write()
