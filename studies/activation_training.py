"""What activation, initialization and depth do to training: accuracy, speed of layers, and units that die and recover.

All nets learn to tell handwritten digits of 8 x 8 pixels apart, by mini-batches of real data, without momentum unless
told. Nets that are compared start from the same random numbers and see the same mini-batches.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from stabsim import figures
from stabsim.arguments import make_task
from stabsim.cli import run_script
from stabsim.counting import exact_interval
from stabsim.datasets import split
from stabsim.network import Network
from stabsim.study import Case, Collected, Drawing, Study, Verdict
from stabsim.training import Trained, counting_divergence, train
from stabsim.verdicts import judge, k_of_n, mean_with_interval, pick, select

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray
    from pandas import DataFrame

NETS = {"quick": 100, "paper": 2000}  # before training
WIDTH, PIXELS, CLASSES, BATCH = 32, 64, 10, 32
LOSS = "softmax_cross_entropy"
ACTIVATIONS = ("sigmoid", "tanh", "relu", "leaky_relu", "elu", "selu")
SMALL, NORMALIZED = "std 0.01", "0.01, batch norm"
STARTS = {
    SMALL: "normal(std=0.01)", "Xavier": "glorot_normal", "He": "he_normal", "LeCun": "lecun_normal",
    NORMALIZED: "normal(std=0.01)",
}  # fmt: skip
COMPARED = {  # with which starts: what the rules read, and all that is trained at quick scale
    "sigmoid": (SMALL, "Xavier", "He", NORMALIZED), "tanh": (SMALL, "Xavier", "He"), "relu": (SMALL, "Xavier", "He"),
}  # fmt: skip
DEPTHS = (3, 10, 20)  # hidden layers
GRID = {  # nets, steps and learning rates
    "quick": (4, 200, (0.01, 0.03, 0.3)), "paper": (12, 500, (0.003, 0.01, 0.03, 0.1, 0.3)),
}  # fmt: skip
WORKS = 0.1  # of accuracy: what a remedy has to win; set after first results, as are the next and FAR
NOTICED = 0.05  # what one start has to win over another to be noticed

SPEED = {"quick": (12, 1000), "paper": (60, 3000)}  # nets and steps
BRIEF = 10  # steps of nets that are no sigmoid nets
RATES = {"sigmoid": 1.0, "tanh": 0.1, "relu": 0.1}
SPEED_STARTS: dict[str, tuple[str, float]] = {SMALL: ("normal(std=0.01)", 0.0), "N(0, 1)": ("normal(std=1)", 1.0)} | {
    name: (STARTS[name], 0.0) for name in ("Xavier", "He")
}
TIMES = (1, 3, 10, 30, 100, 300, 1000, 3000)
NEXT_TO_INPUT, NEXT_TO_OUTPUT = 1, 3
FAR = 3.0  # "far more slowly": by this factor

DEATHS = {"quick": (10, 200, 4), "paper": (60, 400, 2)}  # nets, steps, and how often units are looked at
PLAIN, LEAKY, DECAYED = "SGD 0.3", "leaky ReLU, SGD 0.3", "weight decay, biases"
SETTINGS: dict[str, dict[str, Any]] = {
    PLAIN: {"optimizer": "sgd(learning_rate=0.3)"},
    "SGD 1.0": {"optimizer": "sgd(learning_rate=1.0)"},
    "Momentum 0.1": {"optimizer": "momentum(learning_rate=0.1)"},
    "Adam 0.03": {"optimizer": "adam(learning_rate=0.03)"},
    DECAYED: {"optimizer": "sgd(learning_rate=0.3)", "weight_decay": 0.03, "bias_std": 1.0},
    LEAKY: {"optimizer": "sgd(learning_rate=0.3)", "activation": "leaky_relu"},
}
HIDDEN = (1, 2, 3)
ONCE, A_NET, OF_NETS = "recovered", "recovered of a net", "nets with a recovery"


def cases(scale: str) -> Iterator[Case]:
    """Yield the gradients of untrained nets of every depth, with Xavier's and He's weights."""
    for name in ("tanh", "relu"):
        for start in ("Xavier", "He"):
            for depth in DEPTHS:
                task = make_task(
                    Network(widths(depth), name, STARTS[start]), batch=4, quantities=("weight_gradient_log10_norm",)
                )
                yield Case(task, NETS[scale], {"activation": name, "start": start, "depth": depth})


def widths(depth: int) -> tuple[int, ...]:
    """Return the widths of a net with that many hidden layers."""
    return (PIXELS, *(WIDTH,) * depth, CLASSES)


def trained(network: Network, *, nets: int, steps: int, record: tuple[int, ...] | None = None, **given: Any) -> Trained:
    """Return nets that were trained on digits."""
    data = split("digits")
    with counting_divergence():
        return train(
            network, nets=nets, steps=steps, data=data.train, test=data.test, batch=BATCH, loss=LOSS, seed=1,
            record=record or (steps,), **given,
        )  # fmt: skip


def measure(scale: str) -> DataFrame:
    """Train nets of every activation, start and depth; follow the speed of layers; and count deaths of units."""
    import pandas

    parts = [_grid(scale), _speeds(scale), *(_deaths(scale, setting) for setting in SETTINGS)]
    return pandas.concat(parts, ignore_index=True).assign(theory=math.nan)


# --- accuracy after training ---------------------------------------------------------------------------


def kinds(scale: str) -> Iterator[tuple[str, str]]:
    """Yield what is trained: LeCun's weights with SELU alone, for which they are meant."""
    for name in ACTIVATIONS:
        for start in STARTS if scale == "paper" else COMPARED.get(name, (SMALL, "He")):
            if start != "LeCun" or name == "selu":
                yield name, start


def _grid(scale: str) -> DataFrame:
    """Return test accuracy and loss at the learning rate that trains best, and differences, net by net."""
    import pandas

    nets, steps, rates = GRID[scale]
    rows: list[dict[str, Any]] = []
    for depth in DEPTHS:
        accuracy = {}
        for name, start in kinds(scale):
            network = Network(
                widths(depth), name, STARTS[start], normalization="batch" if start == NORMALIZED else None
            )
            best = max(
                (_outcome(network, rate, nets=nets, steps=steps) for rate in rates), key=lambda found: found["train"]
            )
            accuracy[name, start] = best["accuracy"]
            tags = {"part": "grid", "setting": name, "start": start, "depth": depth, "rate": best["rate"]}
            rows += [tags | {"quantity": key} | mean_with_interval(best[key]) for key in ("accuracy", "loss")]
        for line, values in _differences(accuracy).items():
            tags = {"part": "paired", "setting": line, "start": "", "depth": depth}
            rows.append(tags | {"quantity": "accuracy"} | mean_with_interval(values))
    return pandas.DataFrame(rows)


def _outcome(network: Network, rate: float, *, nets: int, steps: int) -> dict[str, Any]:
    """Return what nets have come to; one that has diverged guesses."""
    names = {"train": "accuracy", "accuracy": "test_accuracy", "loss": "test_loss"}
    found = trained(
        network, nets=nets, steps=steps, optimizer=f"sgd(learning_rate={rate})", quantities=tuple(names.values())
    )
    lost = {"train": 1 / CLASSES, "accuracy": 1 / CLASSES, "loss": math.log(CLASSES)}
    values = {key: np.nan_to_num(found.values(name)[:, 0, 0], nan=lost[key]) for key, name in names.items()}
    return values | {"train": float(values["train"].mean()), "rate": rate}


def _differences(accuracy: dict[tuple[str, str], NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Return what is compared: what Xavier and He do for tanh and ReLU, and what each remedy does for a sigmoid net."""
    helps = {name: accuracy[name, "Xavier"] - accuracy[name, SMALL] for name in ("tanh", "relu")}
    found = {f"Xavier, {name}": values for name, values in helps.items()}
    found["Xavier, tanh more than relu"] = helps["tanh"] - helps["relu"]
    found |= {f"He over Xavier, {name}": accuracy[name, "He"] - accuracy[name, "Xavier"] for name in ("tanh", "relu")}
    bad = accuracy["sigmoid", SMALL]
    found |= {f"remedy {start}": accuracy["sigmoid", start] - bad for start in ("Xavier", "He", NORMALIZED)}
    found |= {f"remedy {name}": accuracy[name, SMALL] - bad for name in ACTIVATIONS[2:]}
    found |= {f"remedy {name} with He": accuracy[name, "He"] - bad for name in ACTIVATIONS[2:]}
    return found


# --- the speed of layers -------------------------------------------------------------------------------


def _speeds(scale: str) -> DataFrame:
    """Return log10 of how much faster hidden layer 3 changes than layer 1, each relative to its weights, and losses.

    "update" is the last step by the norm of W, "distance" all that W has moved by the norm that it had at the start.
    """
    import pandas

    nets, longest = SPEED[scale]
    rows = []
    for name, rate in RATES.items():
        steps = longest if name == "sigmoid" else BRIEF
        record = (0, *(time for time in TIMES if time <= steps))
        for start, (weights, bias_std) in SPEED_STARTS.items():
            if name != "sigmoid" and start not in ("Xavier", "He"):
                continue
            found = trained(
                Network(widths(NEXT_TO_OUTPUT), name, weights, bias_std=bias_std), nets=nets, steps=steps,
                record=record, optimizer=f"sgd(learning_rate={rate})", quantities=("loss", "update_ratio"),
                keep_weights=True,
            )  # fmt: skip
            update = found.values("update_ratio")[:, 1:]
            with np.errstate(divide="ignore", invalid="ignore"):
                values = {
                    "update": np.log10(update[:, :, NEXT_TO_OUTPUT] / update[:, :, NEXT_TO_INPUT]),
                    "distance": np.log10(_moved(found, NEXT_TO_OUTPUT) / _moved(found, NEXT_TO_INPUT)),
                    "loss": found.values("loss")[:, 1:, 0],
                }
            for quantity, each in values.items():
                for place, step in enumerate(record[1:]):
                    tags = {"part": "speed", "setting": name, "start": start, "step": step, "quantity": quantity}
                    rows.append(tags | mean_with_interval(each[np.isfinite(each[:, place]), place]))
    return pandas.DataFrame(rows)


def _moved(found: Trained, layer: int) -> NDArray[Any]:
    """Return by how much of its norm W has moved: (nets, times)."""
    w = found.weights(layer).astype(np.float64)
    norm = np.sqrt((w[:, :1] ** 2).sum(axis=(2, 3)))
    distance: NDArray[Any] = np.sqrt(((w[:, 1:] - w[:, :1]) ** 2).sum(axis=(2, 3))) / norm
    return distance


# --- units that die ------------------------------------------------------------------------------------


def _deaths(scale: str, setting: str) -> DataFrame:
    """Return how many dead units there are by step, and how often one that is dead comes back, by layer.

    An episode starts where a unit is seen dead for the first time, or again; it ends where it is seen alive. Of leaky
    nets it is the units of layer 1 that are negative for all samples, as f' is 0 nowhere.
    """
    import pandas

    nets, steps, every = DEATHS[scale]
    given: dict[str, Any] = {"activation": "relu", "bias_std": 0.0, "weight_decay": 0.0} | SETTINGS[setting]
    leaky = given["activation"] == "leaky_relu"
    found = trained(
        Network(widths(len(HIDDEN)), given["activation"], "he_normal", bias_std=given["bias_std"]), nets=nets,
        steps=steps, record=tuple(range(0, steps + 1, every)), optimizer=given["optimizer"],
        weight_decay=given["weight_decay"], keep_weights=leaky,
        quantities=("loss", "test_accuracy", "dead_unit_fraction", "died_fraction", "recovered_fraction"),
    )  # fmt: skip
    rows = []
    for layer in HIDDEN[:1] if leaky else HIDDEN:
        dead, died, recovered = _off(found) if leaky else _counts(found, layer)
        tags = {"part": "deaths", "setting": setting, "layer": layer}
        for place in range(0, dead.shape[1], max(1, dead.shape[1] // 25)):
            there = dead[np.isfinite(dead[:, place]), place] / WIDTH
            rows.append(tags | {"quantity": "dead", "step": place * every} | mean_with_interval(there))
        episodes, back = np.nansum(died), np.nansum(recovered)
        rows.append(tags | {"quantity": ONCE} | _share(back, episodes))
        deaths, revived = (np.nansum(each, axis=1) for each in (died, recovered))
        struck = deaths > 0
        rows.append(tags | {"quantity": A_NET} | mean_with_interval(revived[struck] / deaths[struck]))
        rows.append(tags | {"quantity": OF_NETS} | _share((revived[struck] > 0).sum(), struck.sum()))
    accuracy = np.nan_to_num(found.values("test_accuracy")[:, -1, 0], nan=1 / CLASSES)
    tags = {"part": "deaths", "setting": setting, "layer": 0, "quantity": "accuracy"}
    rows.append(tags | mean_with_interval(accuracy))
    return pandas.DataFrame(rows)


def _counts(found: Trained, layer: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return how many units are dead, have died and have recovered, (nets, times) each."""
    names = ("dead_unit_fraction", "died_fraction", "recovered_fraction")
    dead, died, recovered = (np.round(found.values(name)[:, :, layer] * WIDTH) for name in names)
    died[:, 0], recovered[:, 0] = dead[:, 0], 0.0  # units that start dead
    return dead, died, recovered


def _off(found: Trained) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return the same of the units of layer 1 that are negative for all samples that nets are trained on."""
    inputs = split("digits").train[0].astype(np.float32)
    w, b = found.weights(1), found.biases(1)
    nets, times = w.shape[:2]
    off = np.empty((nets, times, WIDTH))
    for net in range(nets):
        largest = (inputs @ w[net].transpose(1, 0, 2).reshape(PIXELS, -1)).max(axis=0)
        off[net] = np.where(np.isfinite(b[net]), largest.reshape(times, WIDTH) + b[net] <= 0, np.nan)
    before, after = off[:, :-1], off[:, 1:]
    died = np.concatenate([off[:, :1], after * (1 - before)], axis=1)
    recovered = np.concatenate([np.zeros_like(off[:, :1]), before * (1 - after)], axis=1)
    return off.sum(axis=2), died.sum(axis=2), recovered.sum(axis=2)


def _share(held: Any, all_of: Any) -> dict[str, float]:
    """Return a share with its exact interval, and of how many; NaN of none."""
    k, n = int(held), int(all_of)
    if n == 0:
        return {"estimate": math.nan, "ci_low": math.nan, "ci_high": math.nan, "nets": 0}
    low, high = exact_interval(k, n)
    return {"estimate": k / n, "ci_low": float(low), "ci_high": float(high), "nets": n}


# --- figures -------------------------------------------------------------------------------------------


DIGITS = f"handwritten digits of {PIXELS} pixels, {WIDTH} units a hidden layer, mini-batches of {BATCH}"
CAPTION = (
    f"Test accuracy of nets after training on {DIGITS}, by activation (rows), start of the weights (columns) and "
    "number of hidden layers (blocks): means over nets, each at the learning rate that fits the training data best. "
    f"Chance is {1 / CLASSES:g}. Batch normalization is tried on weights of {SMALL}; a dash: not trained."
)
CAPTION_OF_SPEEDS = (
    f"The speed of layers in training of sigmoid nets with {NEXT_TO_OUTPUT} hidden layers, by the start of their "
    f"weights: {DIGITS}, learning rate {RATES['sigmoid']:g}. (a) Relative change of the weights by a step in the "
    "hidden layer next to the output, divided by that in the one next to the input: above 1 (line) the layer near the "
    f"input is the slower one. (b) Training loss. {figures.BANDS}"
)
CAPTION_OF_DEATHS = (
    f"Units of ReLU nets that are off for all digits, and whether they come back, in training on {DIGITS}, "
    f"{len(HIDDEN)} hidden layers. (a) Share of units that are dead, by layer, with {PLAIN}. (b) Share of the dead "
    "units that recover, mean over nets, by optimizer; with weight decay and random biases; and with leaky ReLU, "
    f"whose units count as dead while they are below 0 for all digits. {figures.BANDS_AND_BARS}"
)


def draw(collected: Collected) -> Iterator[Drawing]:
    """Draw accuracy by activation, start and depth, the speed of layers, and deaths and recoveries."""
    import pandas

    measured = collected.measured
    figure, axes = figures.panels(rows=1, columns=1, width=figures.PAGE, height=2.9)
    grid = _draw_grid(axes[0, 0], select(measured, part="grid", quantity="accuracy"))
    yield Drawing(figure, grid, caption=f"{CAPTION} {figures.of_nets(grid['nets'])}")

    figure, axes = figures.panels(rows=1, columns=2, width=figures.PAGE, height=2.6)
    speed = select(measured, part="speed", setting="sigmoid")
    ratio, loss = select(speed, quantity="update"), select(speed, quantity="loss")
    _against_steps(
        axes[0, 0], ratio, order=list(SPEED_STARTS), scale="exponent",
        ylabel="relative change a step,\nhidden layer 3 / layer 1",
    )  # fmt: skip
    axes[0, 0].axhline(0.0, color="black", linewidth=0.6)
    _against_steps(axes[0, 1], loss, order=list(SPEED_STARTS), ylabel="loss, sigmoid")
    figures.panel_labels(axes.flat)
    drawn = pandas.concat([ratio, loss])
    yield Drawing(figure, drawn, "speeds", f"{CAPTION_OF_SPEEDS} {figures.of_nets(drawn['nets'])}")

    figure, axes = figures.panels(rows=1, columns=2, width=figures.PAGE, height=2.6)
    deaths = select(measured, part="deaths")
    curve = select(deaths, setting=PLAIN, quantity="dead").assign(
        line=lambda rows: "layer " + rows["layer"].astype(int).astype(str)
    )
    figures.against_depth(
        axes[0, 0], curve.assign(layer=curve["step"]), by="line", xlabel="steps",
        ylabel=f"share of units dead\non all digits (ReLU, {PLAIN})",
    )  # fmt: skip
    back = select(deaths, quantity=A_NET).dropna(subset="estimate")
    back = back.assign(line="layer " + back["layer"].astype(int).astype(str))
    figures.dot_plot(
        axes[0, 1],
        back.drop(columns="theory"),
        rows="setting",
        by="line",
        xlabel="share that recovers, mean of nets",
    )
    axes[0, 0].set_ylim(bottom=0.0)
    axes[0, 1].legend(loc="center left", bbox_to_anchor=(0.12, 0.5), handlelength=1.0)
    figures.panel_labels(axes.flat)
    drawn = pandas.concat([curve, back])
    yield Drawing(figure, drawn, "deaths", f"{CAPTION_OF_DEATHS} {figures.of_nets(drawn['nets'])}")


def _draw_grid(axes: Axes, rows: DataFrame) -> DataFrame:
    """Draw accuracies as cells, the depths side by side; return their rows."""
    import pandas

    starts = [start for start in STARTS if start in set(rows["start"])]
    columns = [(depth, start) for depth in DEPTHS for start in starts]
    places = [columns.index(key) for key in zip(rows["depth"].astype(int), rows["start"], strict=True)]
    names = [figures.spelled(name) for name in rows["setting"]]
    rows = rows.assign(name=names, place=places)
    order = [figures.spelled(name) for name in ACTIVATIONS]
    missing = sorted(set(range(len(columns))) - set(rows[rows["name"] == order[0]]["place"]))
    blank = pandas.DataFrame({"name": order[0], "place": missing, "estimate": math.nan})
    cells = pandas.concat([rows, blank]).sort_values("place", kind="stable")
    cells = cells.sort_values("name", key=lambda each: each.map(order.index), kind="stable")
    figures.heat_map(
        axes, cells, rows="name", columns="place", limits=(0.0, 1.0), digits=2, annotate=True,
        label="test accuracy at the best\nlearning rate (\N{EN DASH}: not trained)",
    )  # fmt: skip
    axes.set_xticks(np.arange(len(columns)) + 0.5, labels=[start for _, start in columns])
    for text in axes.get_xticklabels():
        text.set(rotation=45, horizontalalignment="right", rotation_mode="anchor")
    for number, depth in enumerate(DEPTHS):
        left = number * len(starts)
        axes.text(left + len(starts) / 2, -0.15, f"{depth} hidden layers", ha="center", va="bottom", fontsize=8)
        axes.axvline(left, color="white", linewidth=3)
    axes.set(xlabel="", ylabel="")
    return rows


def _against_steps(axes: Axes, rows: DataFrame, *, order: list[str], ylabel: str, scale: str = "linear") -> None:
    axes.set_xscale("log")
    figures.against_depth(
        axes, rows.assign(layer=rows["step"]), by="start", order=order, xlabel="steps", ylabel=ylabel, scale=scale
    )
    axes.set_xticks([10.0**power for power in range(math.floor(math.log10(rows["step"].max())) + 1)])
    axes.minorticks_off()


# --- verdicts ------------------------------------------------------------------------------------------


def verdicts(collected: Collected) -> Iterator[Verdict]:
    """Hold every claim against the trained nets."""
    measured = collected.measured
    yield _right_start(measured)
    yield _slow_layer(measured)
    yield _remedies(measured)
    yield _dead_units(measured)


def _right_start(measured: DataFrame) -> Verdict:
    """A19: Xavier helps tanh more than ReLU, and He is right for ReLU: at which depths, and by how much."""
    paired = select(measured, part="paired")
    found = {(row.setting, int(row.depth)): row for row in _rows(paired)}
    more, right = "Xavier, tanh more than relu", "He over Xavier, relu"

    def both(margin: float) -> list[int]:
        return [depth for depth in DEPTHS if min(found[more, depth].ci_low, found[right, depth].ci_low) > margin]

    beyond, noticed = both(0.0), both(NOTICED)
    never_worse = all(found[right, depth].ci_high > 0 for depth in DEPTHS)
    row = found[more, (beyond or list(DEPTHS))[0]]
    note = (
        f"test accuracy that Xavier (over std 0.01) wins for tanh more than for ReLU, {row.depth:.0f} hidden layers of "
        f"{WIDTH}, digits, SGD, each at the best of a few learning rates. By depth: "
        + "; ".join(
            f"{depth}: Xavier wins {_of(found['Xavier, tanh', depth])} with tanh, "
            f"{_of(found['Xavier, relu', depth])} with ReLU, more by {_of(found[more, depth])}; He over Xavier "
            f"{_of(found[right, depth])} with ReLU, {_of(found['He over Xavier, tanh', depth])} with tanh"
            for depth in DEPTHS
        )
        + f". Both beyond chance alone at depths {_list(beyond)}; both by more than {NOTICED:g}, a margin set after "
        f"first results, at {_list(noticed)}. Best rates at an end of those tried: {_at_an_end(measured)}"
    )
    when = "" if len(beyond) == len(DEPTHS) else f"the net has {_list(beyond)} hidden layers, of {_list(DEPTHS)}"
    return judge("A19", row, bool(beyond) and never_worse, note, when=when)


def _at_an_end(measured: DataFrame) -> str:
    """Write where tanh and ReLU nets with Xavier's or He's weights learn best at the smallest or largest rate."""
    grid = select(measured, part="grid", quantity="accuracy")
    ends = (grid["rate"].min(), grid["rate"].max())
    rows = select(grid, setting=("tanh", "relu"), start=("Xavier", "He"), rate=ends)
    return ", ".join(f"{row.setting} {row.start} {row.depth:.0f}: {row.rate:g}" for row in _rows(rows)) or "none"


def _slow_layer(measured: DataFrame) -> Verdict:
    """D01: from which starts, and up to which step, hidden layer 3 changes far faster than layer 1."""
    speed = select(measured, part="speed")
    sigmoid = select(speed, setting="sigmoid")
    times = sorted(set(sigmoid["step"].astype(int)))
    looked = times[2]
    updates = {
        (start, step): pick(sigmoid, start=start, quantity="update", step=step)
        for start in SPEED_STARTS for step in times
    }  # fmt: skip
    losses = {key: pick(sigmoid, start=key[0], quantity="loss", step=key[1]).estimate for key in updates}
    ends = {start: pick(sigmoid, start=start, quantity="distance", step=times[-1]) for start in SPEED_STARTS}
    until = {start: _until([updates[start, step] for step in times], times) for start in SPEED_STARTS}
    usual = [start for start in ("Xavier", "He") if until[start] >= looked]
    always = all(step == times[-1] for step in until.values()) and all(
        r.ci_low > math.log10(FAR) for r in ends.values()
    )
    row = updates[(usual or ["Xavier"])[0], looked]
    others = select(speed, setting=("tanh", "relu"), quantity="update", step=looked)
    note = (
        f"log10 of the relative change (a step of W by its norm) of hidden layer 3 over layer 1, step {looked}, "
        f"sigmoid, {row.start}, digits. Factors at steps {_list(times)} (loss; guessing has {math.log(CLASSES):.2f}): "
        + "; ".join(
            f"{start} "
            + ", ".join(f"{10 ** updates[start, step].estimate:.2g} ({losses[start, step]:.2f})" for step in times)
            for start in SPEED_STARTS
        )
        + ". All that W has moved by its norm, at the end: "
        + ", ".join(f"{start} {_factor(end)}" for start, end in ends.items())
        + f". At step {looked}: "
        + ", ".join(f"{each.setting}, {each.start} {10**each.estimate:.2g}" for each in _rows(others))
        + f'. "Far" is a factor of {FAR:g}, set after first results'
    )
    early = ", ".join(f"{step} ({start}, loss {losses[start, step]:.2f})" for start, step in until.items() if step)
    level = [start for start, end in ends.items() if end.ci_high < math.log10(FAR)]
    when = f"training has just begun: by a factor above {FAR:g} up to step {early}" + (
        f"; over {times[-1]} steps layer 3 moves " + ", ".join(f"{_factor(ends[s])} ({s})" for s in level)
        + " times as far as layer 1" if level else ""
    )  # fmt: skip
    return judge("D01", row, len(usual) == 2, note, when="" if always else when)


def _until(rows: list[Any], times: list[int]) -> int:
    """Return the last step up to which layer 3 is surely far faster at all times, 0 if it never is."""
    far = next((place for place, row in enumerate(rows) if not row.ci_low > math.log10(FAR)), len(rows))
    return times[far - 1] if far else 0


def _factor(row: Any) -> str:
    return f"{10**row.estimate:.2g} [{10**row.ci_low:.2g}, {10**row.ci_high:.2g}]"


def _remedies(measured: DataFrame) -> Verdict:
    """D04: which remedies make a sigmoid net with weights of std 0.01 learn, alone and together, at each depth."""
    paired = select(measured, part="paired")
    paired = paired[paired["setting"].str.startswith("remedy ")]
    remedies = list(dict.fromkeys(paired["setting"]))
    found = {(row.setting, int(row.depth)): row for row in _rows(paired)}
    works = {depth: [name for name in remedies if found[name, depth].ci_low > WORKS] for depth in DEPTHS}
    alone = [name for name in remedies if " with " not in name]
    always = all(name in works[depth] for name in alone for depth in DEPTHS)
    shown = max(remedies, key=lambda name: (sum(name in works[depth] for depth in DEPTHS), name in alone))
    row = found[shown, max((depth for depth in DEPTHS if shown in works[depth]), default=DEPTHS[0])]
    note = (
        f"test accuracy that {_remedy(shown)} wins for a sigmoid net of {row.depth:.0f} hidden layers with weights of "
        "std 0.01, digits, SGD, each at the best of a few learning rates; 'with He' is both at once, all else is one "
        "change alone. "
        + "; ".join(
            f"{depth} hidden layers: " + ", ".join(f"{_remedy(name)} {_of(found[name, depth])}" for name in remedies)
            for depth in DEPTHS
        )
        + f'. "Works" is to win surely more than {WORKS:g}, set after first results, in each of {len(found)} '
        "comparisons. Clipping has its own study"
    )
    words = "the remedy is " + "; ".join(
        f"{', '.join(map(_remedy, works[depth])) or 'none of them'} ({depth} hidden layers)" for depth in DEPTHS
    )
    return judge("D04", row, any(name in works[depth] for name in alone for depth in DEPTHS[:1]), note,
                 when="" if always else words)  # fmt: skip


def _remedy(name: str) -> str:
    words = name.removeprefix("remedy ")
    if words == NORMALIZED:
        return "batch norm"
    first, _, rest = words.partition(" with ")
    return (figures.spelled(first) if first in ACTIVATIONS else first) + (f" with {rest}" if rest else "")


def _dead_units(measured: DataFrame) -> Verdict:
    """D05: in no net does a dead unit of layer 1 recover by its gradient; those above do, as their inputs move."""
    deaths = select(measured, part="deaths")
    found = {(row.setting, int(row.layer)): row for row in _rows(select(deaths, quantity=ONCE))}
    nets = {(row.setting, int(row.layer)): row for row in _rows(select(deaths, quantity=OF_NETS))}
    first, leaky, decayed = nets[PLAIN, 1], nets[LEAKY, 1], nets[DECAYED, 1]
    never = all(nets[name, 1].estimate == 0.0 and nets[name, 1].ci_high < 0.5 for name in (PLAIN, "SGD 1.0"))
    moved = [layer for layer in HIDDEN[1:] if nets[PLAIN, layer].ci_low > 0]
    note = (
        f"share of nets in which a dead unit of layer 1 recovers, of those that have any, ReLU, {PLAIN}, dead on all "
        "digits that it learns from. Nets, and in brackets units (those of one net are not independent), by layers 1, "
        "2, 3: "
        + "; ".join(
            f"{name} "
            + ", ".join(
                f"{_counted(nets[name, layer])} ({_counted(found[name, layer])})"
                for layer in HIDDEN if (name, layer) in found
            )
            + f", accuracy {pick(deaths, setting=name, quantity='accuracy').estimate:.2f}"
            for name in SETTINGS
        )
        + ". Leaky: units of layer 1 that are negative for every input. "
        + (
            f"Decay of W can revive a unit without a gradient: in {_counted(decayed)} nets"
            if decayed.estimate > 0
            else "No unit was revived by decay of W"
        )
    )  # fmt: skip
    when = (
        "the unit is in layer 1, whose inputs do not move, and only its gradient moves it; dead units of layers "
        f"{_list(moved)} do recover"
        if moved
        else ""
    )
    return judge("D05", first, never and leaky.ci_low > 0, note, when=when)


def _counted(row: Any) -> str:
    return k_of_n(row) if row.nets else "0 of 0"


def _of(row: Any) -> str:
    return f"{row.estimate:.2f} [{row.ci_low:.2f}, {row.ci_high:.2f}]"


def _list(values: Any) -> str:
    return ", ".join(map(str, values)) or "none"


def _rows(table: DataFrame) -> list[Any]:
    return list(table.itertuples())


study = Study(
    name="activation_training",
    title="Activations, initialization and depth in training: accuracy, the speed of layers, dead units",
    cases=cases,
    draw=draw,
    claims=("A19", "D01", "D04", "D05"),
    verdicts=verdicts,
    measure=measure,
)

if __name__ == "__main__":
    run_script(study)
