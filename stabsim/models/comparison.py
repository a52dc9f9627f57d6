"""Where one given net stands within its ensemble."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from stabsim import checks
from stabsim.estimates import interval_of_mean
from stabsim.models import ensemble, passes, recurrent_passes, samples, statistics
from stabsim.models.layers import Floats, Recurrent
from stabsim.models.model import Model
from stabsim.network import Network
from stabsim.quantities import select
from stabsim.simulation import simulate

if TYPE_CHECKING:
    import pandas

COLUMNS = (
    "quantity", "layer", "value", "low", "median", "high", "percentile", "percentile_low", "percentile_high", "nets"
)  # fmt: skip
SAME = 2.0**-16  # relative difference up to which values in float32 are the same number
FEWEST = 20  # nets of an ensemble in which a net has a place


def compare(
    model: Model,
    nets: int,
    network: Network | None,
    inputs: Any,
    batch: int,
    steps: int | None,
    seed: int,
    quantities: Sequence[str] | None,
) -> pandas.DataFrame:
    """Return the table of `stabsim.Model.compare`."""
    import pandas

    nets = checks.whole_number("nets", nets, FEWEST)
    x = samples.inputs_of(model, inputs, batch, steps, seed)
    if network is None:
        network = ensemble.read(model, steps=x.shape[1] if model.recurrent else None).network
    depth = x.shape[1] if model.recurrent else network.depth
    _check(model, network, depth)
    gradient = np.random.default_rng([seed, 1]).standard_normal((len(x), network.widths[-1]))
    gradient = gradient.astype(x.dtype)
    seen = _run(model, x, gradient, depth)
    features = {*seen.beside, *network.structures, *({"recurrent"} if model.recurrent else ())}
    names = [quantity.name for quantity in select(quantities, len(x), features)]
    drawn = simulate(
        network,
        nets=nets,
        batch=len(x),
        seed=seed,
        inputs=x,
        output_gradient=gradient,
        precision=str(x.dtype),
        quantities=names,
        samples=names,
    )
    values = statistics.by_layer(seen)
    frames = [rows_of(name, values[name], drawn.samples[name]) for name in names if name in values]
    return pandas.concat(frames, ignore_index=True).astype({"quantity": "category"})


def _run(model: Model, x: Floats, gradient: Floats, depth: int) -> passes.ModelTrace:
    """Run as many layers of the model as the ensemble has."""
    if model.recurrent:
        layer = model.layers[0]
        assert isinstance(layer, Recurrent)
        return recurrent_passes.run(layer, x, gradient)
    first, *others = model.stages[: depth + 1]
    return passes.run((replace(first, then=()), *others), x, gradient)


def _check(model: Model, network: Network, depth: int) -> None:
    """Refuse an ensemble of nets of another shape."""
    first = model.layers[0]
    kind = first.kind if isinstance(first, Recurrent) else "feedforward"
    widths = (model.widths[0], *(model.widths[1],) * depth) if model.recurrent else model.widths[: depth + 1]
    if network.cell.kind != kind or network.widths != widths:
        raise ValueError(
            f"network must be {kind} with the model's widths {checks.brief(widths)}, or fewer of them from below, not "
            f"{checks.brief(network)}"
        )


def rows_of(name: str, values: Floats, of_nets: Floats) -> pandas.DataFrame:
    """Return the rows of a quantity, where the net or its ensemble has it."""
    import pandas

    layers = [
        layer for layer in range(len(values)) if np.isfinite(values[layer]) and ~np.isnan(of_nets[:, layer]).all()
    ]
    rows = []
    for layer in layers:
        drawn = of_nets[~np.isnan(of_nets[:, layer]), layer]
        low, median, high = np.quantile(drawn, [0.025, 0.5, 0.975], method="nearest")
        ties = np.abs(drawn - values[layer]) <= SAME * np.abs(values[layer])
        below = np.mean(ties / 2 + (~ties & (drawn < values[layer])))
        error, nets = np.sqrt(below * (1 - below) / len(drawn)), len(drawn)
        interval = interval_of_mean(below, error, np.asarray(nets), share=True)
        rows.append((name, layer, values[layer], low, median, high, below, *map(float, interval), nets))
    return pandas.DataFrame(rows, columns=COLUMNS)
