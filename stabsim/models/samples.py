"""The samples on which a model is run: checked as they are given, or drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from stabsim import checks
from stabsim.models.layers import Floats, Normalizer, Recurrent

if TYPE_CHECKING:
    from stabsim.models.model import Model


def inputs_of(model: Model, inputs: Any, batch: int, steps: int | None, seed: int) -> Floats:
    """Return inputs as `Model.trace` takes them, checked or drawn, in the precision of the weights."""
    recurrent = [layer for layer in model.layers if isinstance(layer, Recurrent)]
    if len(recurrent) > 1 or (recurrent and len(model.layers) > 1):
        raise ValueError(
            f"{model.layers[1].place} follows the recurrent layer {model.layers[0].place}: one recurrent layer "
            f"alone is run"
        )
    seed = checks.whole_number("seed", seed, 0, 2**64 - 1)
    if inputs is None:
        shape = [checks.whole_number("batch", batch), model.widths[0]]
        if recurrent:
            if steps is None:
                raise ValueError("steps must say how many time steps there are, where inputs are not given")
            shape.insert(1, checks.whole_number("steps", steps))
        x = np.random.default_rng([seed, 0]).standard_normal(shape)
    else:
        x = _rows(inputs, model.widths[0], bool(recurrent))
    _check_number(model, len(x))
    with np.errstate(over="ignore"):
        return x.astype(model.precision)


def gradient_of(model: Model, given: Any, samples: int, seed: int) -> Floats:
    """Return the gradient at the end, in the precision of the weights, drawn unless given."""
    if given is None:
        gradient = np.random.default_rng([seed, 1]).standard_normal((samples, model.widths[-1]))
    else:
        gradient = checks.rows("output_gradient", _plain(given), "(samples, width)", model.widths[-1:])
    if len(gradient) != samples:
        raise ValueError(f"output_gradient must have a row for each of {samples} samples, not {len(gradient)}")
    with np.errstate(over="ignore"):
        return gradient.astype(model.precision)


def _check_number(model: Model, samples: int) -> None:
    for layer in model.layers:
        if samples < 2 and isinstance(layer, Normalizer) and layer.kind == "batch" and layer.mean is None:
            raise ValueError(f"{layer.place} normalizes by the batch: it needs at least 2 samples, not {samples}")


def _plain(values: Any) -> Any:
    """Return the values of a tensor of another library, and anything else as it is."""
    return values.detach().cpu().numpy() if hasattr(values, "detach") else values


def _rows(inputs: Any, width: int, recurrent: bool) -> Floats:
    """Return inputs (samples, width) or (samples, steps, width)."""
    if isinstance(inputs, str):
        from stabsim.datasets import dataset

        inputs = dataset(inputs)
    inputs = _plain(inputs)
    if not recurrent:
        return checks.rows("inputs", inputs, "(samples, width)", (width,))
    steps = np.shape(inputs)[1] if np.ndim(inputs) == 3 and np.shape(inputs)[1] else 1
    return checks.rows("inputs", inputs, "(samples, time steps, inputs)", (steps, width))
