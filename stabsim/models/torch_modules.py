"""``from_torch``: a PyTorch module, read by inspection; torch itself is never imported."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from stabsim.checks import brief
from stabsim.models.layers import Dense, Floats, Layer, Normalizer, Recurrent
from stabsim.models.model import Model
from stabsim.models.tensors import array
from stabsim.models.torch_activations import ACTIVATIONS
from stabsim.names import unknown

HEADS = ("Softmax", "LogSoftmax")  # with what a loss does to the outputs
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def from_torch(module: Any) -> Model:
    """Read a PyTorch module: its layers, and copies of its weights as they are now.

    Parameters
    ----------
    module : torch.nn.Module
        A ``torch.nn.Sequential``, nested or not, of Linear, activations, BatchNorm1d, LayerNorm, RMSNorm, Flatten,
        Dropout and Identity, or a single RNN, LSTM or GRU. Batch normalization is taken as it runs now: after
        ``module.train()`` by the moments of the batch, after ``module.eval()`` by its running ones.

    Returns
    -------
    Model

    Raises
    ------
    TypeError
        If it is no module.
    ValueError
        If a layer is not read, has no weights yet or such that are not finite, or does not fit the one below: which
        one, where it stands, and what is read.

    Examples
    --------
    >>> from_torch("model.pt")
    Traceback (most recent call last):
    TypeError: module must be a torch.nn.Module, not 'model.pt'
    """
    if isinstance(module, type) or not {"Module"} & set(_bases(type(module))):
        raise TypeError(f"module must be a torch.nn.Module, not {brief(module)}")
    notes: list[str] = []
    places = list(_unpacked(module, "module", notes))
    layers: list[Layer] = []
    for number, (place, each) in enumerate(places):
        name = _known(place, each)
        if name in HEADS and layers and number == len(places) - 1:
            notes.append(f"{place} ({name}) at the end is not read: outputs are what it sees")
            continue
        if name in HEADS:
            raise ValueError(f"{place} ({name}) is read at the end of a module only, behind a layer")
        layers += READERS[name](place, each, notes)
        _say_hooks(place, each, notes)
    notes += _shared(places)
    return Model(tuple(layers), tuple(notes))


def _bases(kind: type) -> list[str]:
    """Return the names of a class of torch.nn and of those it is made from, nearest first."""
    return [base.__name__ for base in kind.__mro__ if _of_torch(base)]


def _of_torch(kind: type) -> bool:
    return kind.__module__.startswith("torch.nn.modules.")


def _unpacked(module: Any, place: str, notes: list[str]) -> Iterator[tuple[str, Any]]:
    """Yield the single modules of nested ones, in their order, the same one as often as it stands there."""
    if "Sequential" not in _bases(type(module)):
        yield place, module
        return
    _check_forward(place, module, "Sequential")
    _say_hooks(place, module, notes)
    for name, child in module._modules.items():
        yield from _unpacked(child, f"{place}[{name}]" if str(name).isdigit() else f"{place}.{name}", notes)


def _say_hooks(place: str, module: Any, notes: list[str]) -> None:
    if any(getattr(module, name, None) for name in HOOKS):
        notes.append(f"{place} has hooks of its own, which are not run")


def _known(place: str, module: Any) -> str:
    """Return the name of the class by which a module is read."""
    bases = _bases(type(module))
    lazy = next((base for base in type(module).__mro__ if base.__name__.startswith("Lazy") and _of_torch(base)), None)
    if lazy is not None and any(type(p).__name__.startswith("Uninitialized") for p in _tensors(module)):
        raise ValueError(f"{place} ({lazy.__name__}) has no weights yet: run the module once, on any inputs")
    for name in bases:
        if name in READERS or name in HEADS:
            _check_forward(place, module, name)
            return name
    name = type(module).__name__
    inside = [f"{place}.{key}" for key, child in module._modules.items() if "Sequential" in _bases(type(child))]
    if module._modules and not _of_torch(type(module)):
        instead = f"; pass a Sequential in it: {', '.join(inside)}" if inside else ""
        raise ValueError(
            f"{place} ({name}) has a forward of its own, which cannot be inspected: from_torch reads "
            f"torch.nn.Sequential and single layers{instead}"
        )
    raise unknown(f"torch layer at {place}:", name, [*READERS, "Sequential"])


def _tensors(module: Any) -> list[Any]:
    return [*module._parameters.values(), *module._buffers.values()]


def _check_forward(place: str, module: Any, name: str) -> None:
    """Refuse a class of the user's own that computes something else, and hooks that change weights."""
    kinds = type(module).__mro__
    base: Any = next(each for each in kinds if each.__name__ == name and _of_torch(each))
    if any("__call__" in vars(each) for each in kinds[: kinds.index(base)]):
        raise ValueError(f"{place} ({type(module).__name__}) has a __call__ of its own, not that of torch.nn.{name}")
    if type(module).forward is not base.forward or "forward" in vars(module):
        raise ValueError(f"{place} ({type(module).__name__}) has a forward of its own, not that of torch.nn.{name}")
    for hook in module._forward_pre_hooks.values():
        if type(hook).__module__.startswith("torch.nn.utils."):
            raise ValueError(
                f"{place} ({name}) has weights that {type(hook).__name__} of {type(hook).__module__} makes anew in "
                f"each forward pass: remove it from the module first, which keeps the weights"
            )


def _shared(places: list[tuple[str, Any]]) -> list[str]:
    """Say which layers have one weight together."""
    first: dict[int, str] = {}
    notes = []
    for place, module in places:
        weight = module._parameters.get("weight")
        if weight is not None and id(weight) in first:
            notes.append(f"{place} has the weights of {first[id(weight)]}: their gradients are apart here, not summed")
        first.setdefault(id(weight), place)
    return notes


def _optional(place: str, module: Any, name: str) -> Floats | None:
    tensor = getattr(module, name, None)
    return None if tensor is None else array(place, name, tensor)


def _without_traces(place: str, module: Any, notes: list[str]) -> Any:
    """Return a module whose weights can be looked at: of a parametrized one a copy, since looking may change them."""
    if not hasattr(module, "parametrizations"):
        return module
    import copy

    notes.append(f"{place} is parametrized: its weights, and gradients by them, are those in effect")
    return copy.deepcopy(module).eval()


def _linear(place: str, module: Any, notes: list[str]) -> list[Layer]:
    module = _without_traces(place, module, notes)
    weight = array(place, "weight", module.weight)
    if weight.ndim != 2 or 0 in weight.shape:
        raise ValueError(f"weight of {place} must have shape (out, in), both at least 1, not {weight.shape}")
    _say_format(place, module.weight, notes)
    weight = np.ascontiguousarray(weight.T)
    bias = _optional(place, module, "bias")
    if bias is not None and bias.shape != weight.shape[1:]:
        raise ValueError(f"bias of {place} must have shape {weight.shape[1:]}, not {bias.shape}")
    return [Dense(place, (weight.shape[0], weight.shape[1]), weight, bias)]


def _say_format(place: str, tensor: Any, notes: list[str]) -> None:
    kind = str(tensor.dtype).removeprefix("torch.")
    if kind not in ("float32", "float64"):
        notes.append(f"{place} holds {kind}: it is run in float32 here")


def _nothing(place: str, module: Any, notes: list[str]) -> list[Layer]:
    return []


def _flatten(place: str, module: Any, notes: list[str]) -> list[Layer]:
    if module.start_dim != 1 or module.end_dim != -1:
        raise ValueError(
            f"{place} (Flatten) must flatten all but the samples, start_dim=1 and end_dim=-1, not "
            f"{module.start_dim} and {module.end_dim}"
        )
    return []


def _dropout(place: str, module: Any, notes: list[str]) -> list[Layer]:
    if module.p:
        now = "in training, as it is now, it is random" if module.training else "as it is now"
        notes.append(f"{place} (dropout, p={module.p:g}) is left out: the identity in evaluation, {now}")
    return []


def _batch(place: str, module: Any, notes: list[str]) -> list[Layer]:
    running = not module.training and module.running_mean is not None
    return [
        Normalizer(
            place,
            "batch",
            int(module.num_features),
            float(module.eps),
            _optional(place, module, "weight"),
            _optional(place, module, "bias"),
            _optional(place, module, "running_mean") if running else None,
            _optional(place, module, "running_var") if running else None,
        )
    ]


def _layer(place: str, module: Any, notes: list[str]) -> list[Layer]:
    return [_of_samples(place, module, "layer", float(module.eps))]


def _rms(place: str, module: Any, notes: list[str]) -> list[Layer]:
    scale = _optional(place, module, "weight")
    epsilon = np.finfo(np.float32 if scale is None else scale.dtype).eps if module.eps is None else module.eps
    return [_of_samples(place, module, "rms", float(epsilon))]


def _of_samples(place: str, module: Any, kind: str, epsilon: float) -> Normalizer:
    shape = tuple(module.normalized_shape)
    if len(shape) != 1:
        raise ValueError(f"{place} must normalize one side, the units of a layer, not normalized_shape={shape}")
    scale, shift = (_optional(place, module, name) for name in ("weight", "bias"))
    return Normalizer(place, kind, int(shape[0]), epsilon, scale, shift)


def _recurrent(kind: str) -> Callable[[str, Any, list[str]], list[Layer]]:
    def read(place: str, module: Any, notes: list[str]) -> list[Layer]:
        for argument, allowed in (("bidirectional", False), ("proj_size", 0)):
            if getattr(module, argument, allowed) != allowed:
                raise ValueError(f"{place} must have {argument}={allowed}, not {getattr(module, argument)}")
        if module.dropout and module.num_layers > 1:
            notes.append(f"{place}: dropout between layers (p={module.dropout:g}) is left out")
        return [_one_recurrent(place, module, kind, layer, notes) for layer in range(module.num_layers)]

    return read


def _one_recurrent(place: str, module: Any, kind: str, layer: int, notes: list[str]) -> Recurrent:
    number = {"rnn": 1, "lstm": 4, "gru": 3}[kind]
    here = f"{place} layer {layer}" if module.num_layers > 1 else place
    module = _without_traces(here, module, notes)
    v, w = (array(here, name, getattr(module, f"{name}_l{layer}")) for name in ("weight_ih", "weight_hh"))
    names = ("bias_ih", "bias_hh") if module.bias else ()
    b = [np.split(array(here, name, getattr(module, f"{name}_l{layer}")), number) for name in names]
    of_input, of_state = (tuple(np.ascontiguousarray(m.T) for m in np.split(each, number)) for each in (v, w))
    _say_format(here, getattr(module, f"weight_ih_l{layer}"), notes)
    return Recurrent(
        here,
        kind,
        module.nonlinearity if kind == "rnn" else "tanh",
        (v.shape[1], w.shape[1]),
        of_input,
        of_state,
        tuple(b[0]) if b else (),
        tuple(b[1]) if b else (),
    )


READERS: dict[str, Callable[[str, Any, list[str]], list[Layer]]] = {
    "Linear": _linear,
    **ACTIVATIONS,
    "Identity": _nothing,
    "BatchNorm1d": _batch,
    "LayerNorm": _layer,
    "RMSNorm": _rms,
    "Dropout": _dropout,
    "AlphaDropout": _dropout,
    "Flatten": _flatten,
    "RNN": _recurrent("rnn"),
    "LSTM": _recurrent("lstm"),
    "GRU": _recurrent("gru"),
}
