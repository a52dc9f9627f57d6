"""Equal units: whether they stay equal in training, what tells them apart, and how long that takes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from stabsim import figures
from stabsim.arguments import make_task
from stabsim.cli import run_script
from stabsim.network import Network
from stabsim.study import Case, Collected, Drawing, Study, Verdict
from stabsim.training import Regression, Trained, counting_divergence, train
from stabsim.verdicts import judge, pick, select, with_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray
    from pandas import DataFrame

NETS = {"quick": 40, "paper": 500}
INPUTS, WIDTH, UNEVEN = 8, 16, 13  # a width that fills vector registers, and one that leaves a rest
HIDDEN = (1, 2)
STEPS, EVERY, RATE, BATCH = 3000, 50, 0.1, 8
ACTIVATIONS = ("tanh", "relu", "sigmoid")
EQUAL = "constant(value=0.1)"
STARTS: dict[str, dict[str, Any]] = {  # weights and biases at the start
    "zero": {"weights": "zeros"},
    "equal": {"weights": EQUAL},
    "equal, last layer random": {"weights": EQUAL, "output_weights": "lecun_normal"},
    "equal, biases random": {"weights": EQUAL, "bias_std": 0.1},
    "random": {"weights": "lecun_normal"},
}
PERTURBATIONS = (1e-8, 1e-6, 1e-4, 1e-2, 1.0)
ONE = 1.0 + 1e-3  # effective units up to which they are taken for one
APART = math.log10(0.5)  # log10 of the spread from which units are taken for different
ZERO = "weight_gradient_zero_fraction"
QUANTITIES = ("loss", "distance", "distinct_units", "effective_units", "unit_spread")


def cases(scale: str) -> Iterator[Case]:
    """Yield nets of zero, equal and random weights before training: which gradients are 0."""
    for name in (*ACTIVATIONS, "softplus", "gelu"):
        for start in ("zero", "equal", "random"):
            network = Network((WIDTH,) * 4, name, STARTS[start]["weights"])
            task = make_task(network, batch=BATCH, quantities=(ZERO,), sampler="dense")
            yield Case(task, NETS[scale], {"activation": name, "start": start})


def trained(
    scale: str, activation: str, weights: str, *, width: int = WIDTH, bias_std: float = 0.0, **given: Any
) -> Trained:
    """Return trained nets: a regression whose teacher has one hidden layer."""
    data = Regression(Network((INPUTS, 16, 1), "tanh", "lecun_normal"), samples=128, input_mean=0.5)
    arguments: dict[str, Any] = {"precision": "float64"} | given
    with counting_divergence():
        return train(
            Network((INPUTS, width, width, 1), activation, weights, bias_std=bias_std), nets=NETS[scale], steps=STEPS,
            optimizer=f"sgd(learning_rate={RATE})", batch=BATCH, data=data, seed=1, record=range(0, STEPS + 1, EVERY),
            quantities=QUANTITIES, **arguments,
        )  # fmt: skip


def measure(scale: str) -> DataFrame:
    """Train nets from every start, and from equal weights with every perturbation."""
    import pandas

    parts = []
    for activation in ACTIVATIONS:
        for start, given in STARTS.items():
            for precision in ("float64", "float32") if start in ("zero", "equal") else ("float64",):
                tags = {"part": "start", "activation": activation, "start": start, "precision": precision}
                parts.append(
                    _summary(trained(scale, activation, precision=precision, **given), perturbation=0.0, **tags)
                )
        tags = {"part": "uneven", "activation": activation, "start": "equal", "precision": "float64"}
        parts.append(_summary(trained(scale, activation, EQUAL, width=UNEVEN), perturbation=0.0, **tags))
        for size in PERTURBATIONS:
            tags = {"part": "perturbed", "activation": activation, "start": "equal", "precision": "float64"}
            parts.append(_summary(trained(scale, activation, EQUAL, perturbation=size), perturbation=size, **tags))
    return pandas.concat(parts, ignore_index=True)


def _summary(found: Trained, **tags: Any) -> DataFrame:
    """Return means over nets, with shares of nets that have one unit: to the bit, and nearly; those that stay 0."""
    import pandas

    spread = found.values("unit_spread")
    with np.errstate(divide="ignore"):
        logarithm = np.where(spread > 0, np.log10(spread), np.nan)
    seen = {
        "loss": (found.values("loss"), (0,)),
        "effective_units": (found.values("effective_units"), HIDDEN),
        "log10_spread": (logarithm, HIDDEN),
        "bit_equal_fraction": (found.values("distinct_units") == 1, HIDDEN),
        "one_unit_fraction": (found.values("effective_units") < ONE, HIDDEN),
        "unmoved_fraction": (found.values("distance") == 0, HIDDEN),
    }
    rows = []
    for quantity, (values, layers) in seen.items():
        for layer in layers:
            for place, step in enumerate(found.steps):
                mean, error, nets = _mean(values[:, place, layer].astype(float))
                rows.append((quantity, layer, step, mean, error, nets))
    frame = pandas.DataFrame(rows, columns=["quantity", "layer", "step", "estimate", "std_error", "nets"])
    lost = int((found.diverged_after >= 0).sum())
    return with_interval(frame).assign(diverged=lost, theory=math.nan, **tags)


def _mean(values: NDArray[np.float64]) -> tuple[float, float, int]:
    there = values[np.isfinite(values)]
    if len(there) < 2:
        return math.nan, math.nan, len(there)
    return float(there.mean()), float(there.std(ddof=1)) / math.sqrt(len(there)), len(there)


def breaking(measured: DataFrame) -> DataFrame:
    """Return after how many steps the units of a hidden layer have come apart, by perturbation; NaN where not."""
    import pandas

    rows = []
    for activation in ACTIVATIONS:
        for size in PERTURBATIONS:
            lines = select(
                measured, part="perturbed", activation=activation, perturbation=size, quantity="log10_spread"
            )
            apart = lines[lines["estimate"] > APART]["step"]
            rows.append((activation, size, float(apart.min()) if len(apart) else math.nan))
    return pandas.DataFrame(rows, columns=["activation", "perturbation", "estimate"])


CAPTION = (
    f"Units that start equal, in training: nets of {len(HIDDEN)} hidden layers of {WIDTH} units, {INPUTS} inputs, "
    f"mini-batches of {BATCH}. (a) Effective number of different units in layer 1 and (b) loss against steps, by the "
    "start of weights and biases; 1: all units are one. (c) Spread of the units about their mean, from equal weights "
    f"that are perturbed or only rounded. (d) Effective units after {STEPS:,} steps against the size of the "
    f"perturbation. {figures.BANDS}"
)


def draw(collected: Collected) -> Iterator[Drawing]:
    """Draw units and loss against steps from every start, and how small differences grow."""
    import pandas

    measured = collected.measured
    figure, axes = figures.panels(rows=2, columns=2, width=figures.PAGE, height=4.8)
    starts = select(measured, part="start", activation="tanh", precision="float64")
    units, loss = select(starts, quantity="effective_units", layer=1), select(starts, quantity="loss")
    order = list(STARTS)
    _against_steps(
        axes[0, 0], units, by="start", order=order, ylabel="effective units of layer 1, tanh", scale="linear"
    )
    _against_steps(axes[0, 1], loss, by="start", order=order, ylabel="loss, tanh", scale="log")
    grown = select(measured, quantity="log10_spread", layer=1, activation="tanh", start="equal")
    grown = grown[(grown["part"] == "perturbed") | (grown["precision"] == "float32")]
    powers = np.log10(grown["perturbation"].where(grown["perturbation"] > 0))
    names = ["rounding, float32" if np.isnan(power) else f"perturbed by $10^{{{power:.0f}}}$" for power in powers]
    _against_steps(
        axes[1, 0], grown.assign(line=names), by="line", ylabel="spread of units of layer 1, tanh", scale="exponent"
    )
    last = select(measured, part="perturbed", quantity="effective_units", layer=1, step=STEPS)
    figures.against_depth(
        axes[1, 1], last.assign(layer=np.log10(last["perturbation"])), by="activation", label=figures.spelled,
        xlabel="log10 of the perturbation",
        ylabel=f"effective units of layer 1,\n{STEPS} steps",
    )  # fmt: skip
    axes[1, 1].set_xticks(np.log10(PERTURBATIONS))
    figures.panel_labels(axes.flat)
    drawn = pandas.concat([units, loss, grown, last])
    yield Drawing(figure, drawn, caption=f"{CAPTION} {figures.of_nets(drawn['nets'])}")


def _against_steps(axes: Axes, rows: DataFrame, **looks: Any) -> None:
    figures.against_depth(axes, rows.assign(layer=rows["step"]), xlabel="steps", **looks)


def verdicts(collected: Collected) -> Iterator[Verdict]:
    """Hold both claims against counts of nets."""
    measured = collected.measured
    yield _layer_is_one_unit(collected.table, measured)
    yield _for_ever(measured)


def _last(measured: DataFrame, quantity: str, **values: Any) -> DataFrame:
    return select(measured, quantity=quantity, step=STEPS, **values)


def _count(rows: DataFrame) -> str:
    """Write in how many of the nets of all rows something holds; each has as many nets."""
    nets = rows["nets"].to_numpy()
    return f"{round(float((rows['estimate'].to_numpy() * nets).sum()))} of {int(nets.sum())}"


def _layer_is_one_unit(table: DataFrame, measured: DataFrame) -> Verdict:
    """C06: zero or equal weights: a layer acts as one unit, if the layer behind has equal weights too."""
    starts = select(measured, part="start", precision="float64")
    one = {name: _last(starts, "one_unit_fraction", start=name) for name in STARTS}
    loss = {name: _last(starts, "loss", start=name, activation="tanh")["estimate"].item() for name in STARTS}
    unmoved = {name: _last(starts, "unmoved_fraction", start="zero", activation=name) for name in ACTIVATIONS}
    zeros = {
        name: select(table, activation=name, start="zero", quantity=ZERO, layer=(1, 2, 3))["estimate"].to_numpy()
        for name in (*ACTIVATIONS, "softplus", "gelu")
    }
    still = [name for name in zeros if (zeros[name] == 1.0).all()]
    moving = [name for name in zeros if name not in still]
    stay = all(bool((one[name]["estimate"] == 1.0).all()) for name in ("zero", "equal"))
    same = {name: _last(starts, "bit_equal_fraction", start=name) for name in STARTS}
    mixed = same["equal, last layer random"]
    last_apart = bool((select(mixed, layer=2)["estimate"] == 0.0).all())
    holds = stay and last_apart
    note = (
        f"effective units of layer 2 of {WIDTH}, tanh, equal weights, {STEPS} steps. Units act as one (below {ONE:g}) "
        f"in {_count(one['equal'])} hidden layers that start equal and {_count(one['zero'])} that start from 0. With "
        "random weights in the last layer only, they are equal to the bit in "
        f"{_count(select(mixed, layer=1))} of layer 1 and {_count(select(mixed, layer=2))} of layer 2, with random "
        f"biases in {_count(same['equal, biases random'])}: of a layer and the next one all weights and biases must "
        f"be equal. All gradients of zero nets are exactly 0 with {', '.join(still)}, not with {', '.join(moving)}; "
        "hidden layers never moved in "
        + ", ".join(f"{_count(rows)} ({name})" for name, rows in unmoved.items())
        + f". Loss with tanh: zero {loss['zero']:.3f}, equal {loss['equal']:.3f}, random {loss['random']:.4f}"
    )
    row = pick(_last(starts, "effective_units", start="equal", activation="tanh", layer=2))
    return judge(
        "C06", row, holds, note, when="the weights and biases of a layer and the weights of the next are all equal"
    )


def _for_ever(measured: DataFrame) -> Verdict:
    """E03: equal for ever: exactly, as far as rounding is the same for all units; and what breaks it."""
    starts = select(measured, part="start", start="equal")
    exact = {
        precision: _last(starts, "bit_equal_fraction", precision=precision) for precision in ("float64", "float32")
    }
    nearly = {precision: _last(starts, "one_unit_fraction", precision=precision) for precision in exact}
    perturbed = select(measured, part="perturbed", activation="tanh", quantity="log10_spread", layer=1)
    begin, end = (pick(perturbed, perturbation=1e-8, step=step).estimate for step in (0, STEPS))
    proportional = pick(perturbed, perturbation=1e-6, step=STEPS).estimate - end
    times = select(breaking(measured), activation="tanh")
    broken = ", ".join(
        f"{size:g}: {f'more than {STEPS}' if math.isnan(steps) else f'{steps:.0f}'}"
        for size, steps in zip(times["perturbation"], times["estimate"], strict=True)
    )
    random = select(measured, part="start", start="random", quantity="bit_equal_fraction")
    holds = bool((nearly["float64"]["estimate"] == 1.0).all() and (random["estimate"] == 0.0).all())
    bits = bool(all((rows["estimate"] == 1.0).all() for rows in exact.values()))
    uneven = _last(select(measured, part="uneven"), "bit_equal_fraction")
    rounded = (
        "Equal as one and not to the bit: sums of one unit are rounded otherwise than those of its equals. "
        if holds and not bits
        else ""
    )
    note = (
        f"share of nets whose units of layer 2 are one, tanh, float64, {STEPS} steps. Equal to the bit: "
        + ", ".join(f"{_count(rows)} hidden layers in {precision}" for precision, rows in exact.items())
        + f", {_count(uneven)} in float64 with {UNEVEN} units instead of {WIDTH}; as one: "
        + ", ".join(f"{_count(rows)} in {precision}" for precision, rows in nearly.items())
        + f". {rounded}Perturbed by 1e-8, the spread of layer 1 goes from 10^{begin:.1f} to 10^{end:.1f}; perturbed by "
        f"a hundred times as much, it ends 10^{proportional:.1f} times as large. Steps until it is half: {broken}"
    )
    row = pick(_last(starts, "one_unit_fraction", precision="float64", activation="tanh", layer=2))
    when = "" if bits else "rounding treats all units alike"
    return judge("E03", row, holds, note, when=when)


study = Study(
    name="symmetry",
    title="Equal units in training: whether they stay equal, what tells them apart, how long it takes",
    cases=cases,
    draw=draw,
    claims=("C06", "E03"),
    verdicts=verdicts,
    measure=measure,
)

if __name__ == "__main__":
    run_script(study)
