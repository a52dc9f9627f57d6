"""How many directions are left: ranks of dW against batch, of z against depth, and what f does to a cloud of points."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from stabsim import figures
from stabsim.activations import activation
from stabsim.arguments import make_task
from stabsim.cli import run_script
from stabsim.network import Network
from stabsim.study import Case, Collected, Drawing, Study, Verdict
from stabsim.theory.finite_width import alive_probability
from stabsim.theory.gaussian import moments
from stabsim.theory.jacobian import mean_singular_value
from stabsim.theory.mean_field import correlation_map
from stabsim.threads import single_threaded_blas
from stabsim.tracing import Trace, trace
from stabsim.verdicts import LARGEST_Z, counted, judge, k_of_n, largest_z, pick, select

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray
    from pandas import DataFrame

NETS = {"quick": {"batch": 60, "narrow": 4000, "depth": 40}, "paper": {"batch": 4000, "narrow": 400_000, "depth": 2000}}
RANK, STABLE = "weight_gradient_rank", "weight_gradient_stable_rank"
Z_RANK, Z_STABLE, DS_RANK = "activation_rank", "activation_stable_rank", "preactivation_gradient_rank"
IDLE = "weight_gradient_idle_sample_fraction"
WEIGHTS = {"tanh": "lecun_normal", "sigmoid": "lecun_normal", "relu": "he_normal"}

WIDTH, DEPTH = 32, 5
BATCHES = (1, 2, 4, 8, 16, 24, 32, 48, 64)
NARROW = (4,) * 11

WIDE, DEEP, SAMPLES = 128, 50, 16
SETTINGS = {  # activation, variance of a weight times the width, variance of a bias
    "ReLU, He": ("relu", 2.0, 0.0),
    "tanh, ordered": ("tanh", 1.0, 0.1),
    "tanh, chaotic": ("tanh", 6.0, 0.1),
    "linear": ("linear", 1.0, 0.0),
}

CHECKED = 100  # nets of which every tensor is looked at
LOOKED_AT = (12,) * 5
SPECTRA = 100  # width of the matrices whose singular values are counted
BINS, LARGEST = 27, 2.16  # 1 is the middle of a bin
TURNED, STRETCHED, AFTER_W = "rotated", "stretched", "rotated again"
STAGES = ("points", TURNED, STRETCHED, AFTER_W)


def cases(scale: str) -> Iterator[Case]:
    """Yield nets of every batch, narrow ReLU nets that may stop, and deep nets on orthogonal samples."""
    nets = NETS[scale]
    for name, weights in WEIGHTS.items():
        for batch in BATCHES:
            task = make_task(
                Network((WIDTH,) * (DEPTH + 1), name, weights), batch=batch, precision="float64", sampler="dense",
                quantities=(RANK, STABLE, Z_RANK, DS_RANK), samples=(RANK, Z_RANK, DS_RANK),
            )  # fmt: skip
            yield Case(task, nets["batch"], {"part": "batch", "setting": name, "batch": batch})
    for batch in (1, 4):
        task = make_task(
            Network(NARROW, "relu", "he_normal"), batch=batch, precision="float64", sampler="dense",
            quantities=(RANK, IDLE), samples=(RANK, IDLE),
        )  # fmt: skip
        yield Case(task, nets["narrow"], {"part": "narrow", "setting": "relu", "batch": batch})
    orthogonal = math.sqrt(WIDE) * np.eye(SAMPLES, WIDE)
    for setting, (name, weight, bias) in SETTINGS.items():
        network = Network((WIDE,) * (DEEP + 1), name, f"lecun_normal(gain={weight**0.5!r})", bias_std=bias**0.5)
        task = make_task(network, batch=SAMPLES, inputs=orthogonal, quantities=(STABLE, Z_STABLE), sampler="dense")
        yield Case(task, nets["depth"], {"part": "depth", "setting": setting, "batch": SAMPLES})


def wide_stable_ranks(setting: str) -> NDArray[np.float64]:
    """Return the stable rank of z in the limit of infinite width, (depth + 1,): N / (1 + (N - 1) c), c the cosine."""
    name, weight, bias = SETTINGS[setting]
    variance, correlation, cosines = weight + bias, bias / (weight + bias), [0.0]
    for _ in range(DEEP):
        cosines.append(float(correlation_map(name, correlation, weight, 0.0, variance)))
        following = float(correlation_map(name, correlation, weight, bias, variance))
        variance, correlation = weight * moments(activation(name), variance).mean_square + bias, following
    return np.asarray(SAMPLES / (1.0 + (SAMPLES - 1) * np.array(cosines)))


def measure(scale: str) -> DataFrame:
    """Return in how many nets rows are samples, dW a sum of outer products and points inside; spectra; a cloud."""
    import pandas

    rows = [*_rows_of_samples(), *_inside(), *_spectra(), *_cloud()]
    return pandas.DataFrame(rows)


def _every(seen: Trace) -> list[NDArray[Any]]:
    """Return z, dz and ds of all layers."""
    return [
        *seen.activation,
        *seen.activation_gradient,
        *(each for each in seen.preactivation_gradient if each is not None),
    ]


def _rows_of_samples() -> Iterator[dict[str, Any]]:
    """Yield in how many nets each row is one sample's, with and without batch norm."""
    generator = np.random.default_rng(0)
    batch, width = 6, LOOKED_AT[0]
    inputs, above = generator.standard_normal((2, batch, width))
    order = np.roll(np.arange(batch), 2)
    other = inputs.copy()
    other[0] = generator.standard_normal(width)
    for normalization in (None, "batch"):
        held: dict[str, list[bool]] = {name: [] for name in ("permuted", "alone", "projected", "summed")}
        for net in range(CHECKED):
            network = Network(LOOKED_AT, "tanh", "glorot_normal", normalization=normalization)

            places = np.argsort(_places(network, net, inputs))

            def seen(
                rows: NDArray[Any], gradient: NDArray[Any], network: Network = network, net: int = net,
                places: NDArray[np.int64] = places,
            ) -> Trace:  # fmt: skip
                return _trace(network, net, rows[places], gradient)

            plain, permuted, changed = seen(inputs, above), seen(inputs[order], above[order]), seen(other, above)
            held["permuted"].append(_all_close(_every(permuted), [each[order] for each in _every(plain)]))
            held["alone"].append(
                _all_close([each[1:] for each in _every(changed)], [each[1:] for each in _every(plain)])
            )
            held["projected"].append(_projects(plain))
            held["summed"].append(_sums(plain))
        for name, values in held.items():
            yield {"part": name, "setting": normalization or "plain", **counted(values)}


def _trace(network: Network, net: int, inputs: NDArray[Any], gradient: NDArray[Any]) -> Trace:
    batch = len(inputs)
    return trace(network, net=net, batch=batch, inputs=inputs, output_gradient=gradient, precision="float64")


def _places(network: Network, net: int, inputs: NDArray[Any]) -> NDArray[np.int64]:
    """Return which row of the inputs a net takes as its first sample, its second and so on: it draws an order."""
    drawn = _trace(network, net, inputs, np.zeros_like(inputs)).activation[0]
    return np.array([int(np.flatnonzero((inputs == row).all(axis=1))[0]) for row in drawn])


def _all_close(found: list[NDArray[Any]], wanted: list[NDArray[Any]]) -> bool:
    return all(np.allclose(a, b, rtol=0.0, atol=1e-13 * np.abs(b).max()) for a, b in zip(found, wanted, strict=True))


def _projects(seen: Trace) -> bool:
    """Return whether each row of dz is that of ds above times the transpose of W, row by row."""
    layers = zip(seen.activation_gradient, seen.preactivation_gradient[1:], seen.weight[1:], strict=False)
    return all(
        _all_close([row], [weight @ above])
        for dz, ds, weight in layers
        if ds is not None and weight is not None
        for row, above in zip(dz, ds, strict=True)
    )


def _sums(seen: Trace) -> bool:
    """Return whether dW is the sum of the outer products of the samples."""
    layers = zip(seen.activation, seen.preactivation_gradient[1:], seen.weight_gradient[1:], strict=False)
    return all(
        _all_close([dw], [np.sum([np.outer(a, b) for a, b in zip(z, ds, strict=True)], axis=0)])
        for z, ds, dw in layers
        if ds is not None and dw is not None
    )


def _inside() -> Iterator[dict[str, Any]]:
    """Yield in how many nets all points are where f puts them, with weights of two sizes."""
    for gain in (1.0, 20.0):
        for name, low, high in (("relu", -math.inf, math.inf), ("tanh", -1.0, 1.0), ("sigmoid", 0.0, 1.0)):
            network = Network(LOOKED_AT, name, f"lecun_normal(gain={gain})")
            closed, opened = [], []
            for net in range(CHECKED):
                z = np.concatenate(trace(network, net=net, batch=64, precision="float64").activation[1:])
                least = 0.0 if name == "relu" else low
                closed.append(bool((z >= least).all() and (z <= high).all()))
                opened.append(closed[-1] and (name == "relu" or bool((z > low).all() and (z < high).all())))
            yield {"part": "closed", "setting": name, "gain": gain, **counted(closed)}
            yield {"part": "open", "setting": name, "gain": gain, **counted(opened)}


def _spectra() -> Iterator[dict[str, Any]]:
    """Yield the density of singular values of W, their mean and the largest, of Gaussian and orthogonal weights."""
    for name, law in (("Gaussian", "lecun_normal"), ("orthogonal", "orthogonal")):
        network = Network((SPECTRA, SPECTRA), "linear", law)
        weights = [trace(network, net=net, precision="float64").weight[1] for net in range(CHECKED)]
        with single_threaded_blas():  # threads cost more than they give to small matrices
            values = np.linalg.svd(np.array(weights), compute_uv=False)
        density, ends = np.histogram(values, bins=BINS, range=(0.0, LARGEST), density=True)
        for x, y in zip(0.5 * (ends[1:] + ends[:-1]), density, strict=True):
            yield {"part": "density", "setting": name, "x": x, "y": y}
        for part, each in (("mean", values.mean(axis=1)), ("largest", values.max(axis=1))):
            half = 1.96 * each.std(ddof=1) / math.sqrt(CHECKED)
            found = {"estimate": each.mean(), "ci_low": each.mean() - half, "ci_high": each.mean() + half}
            yield {"part": part, "setting": name, **found, "nets": CHECKED}


def _cloud() -> Iterator[dict[str, Any]]:
    """Yield points of the plane, after each step of the singular value decomposition of a W, and after each f."""
    angles = np.linspace(0.0, 2.0 * math.pi, 48, endpoint=False)
    points = np.concatenate([r * np.column_stack([np.cos(angles), np.sin(angles)]) for r in (0.5, 1.25, 2.0)])
    left, values, right = np.linalg.svd(np.array([[1.3, 0.9], [-0.5, 0.4]]))
    if np.linalg.det(left) < 0.0:  # two mirror images are two rotations as well, W having a positive determinant
        left[:, 1] *= -1.0
        right[1] *= -1.0
    steps = {"points": points, TURNED: points @ left, STRETCHED: points @ left * values}
    steps[AFTER_W] = steps[STRETCHED] @ right
    for name in WEIGHTS:
        flat = [activation(name).evaluate("f", float(s)) for s in steps[AFTER_W].ravel()]
        steps[name] = np.reshape(flat, points.shape)
    for stage, where in steps.items():
        for number, (x, y) in enumerate(where):
            yield {"part": "cloud", "setting": stage, "number": number, "x": x, "y": y}


CAPTION = (
    f"Ranks of weight gradients and activations. (a) Rank and (b) stable rank of the third of {DEPTH} layers' gradient "
    f"of weights against the batch, nets of width {WIDTH}; dashed: the most that batch and width allow. (c) Stable "
    f"rank of activations and (d) of weight gradients against depth, width {WIDE}, {SAMPLES} orthogonal samples; "
    f"dotted with open markers: the limit of infinite width. {figures.BANDS}"
)
CAPTION_OF_CLOUD = (
    "What W and f do to a cloud of points of two units. (a) The points; (b)–(d) W, step by step: a rotation, a "
    "stretch along the axes, and a rotation; (e) tanh, (f) sigmoid and (g) ReLU of what W leaves. Colors tell from "
    f"which quarter of the plane a point comes. (h) Singular values of random matrices of {SPECTRA} rows: Gaussian and "
    f"orthogonal. {figures.LIMIT}"
)


def draw(collected: Collected) -> Iterator[Drawing]:
    """Draw ranks against batch and stable ranks against depth, then the cloud of points."""
    import pandas

    table = collected.table
    figure, axes = figures.panels(rows=2, columns=2, width=figures.PAGE, height=4.6)
    middle = select(table, part="batch", layer=3)
    parts = []
    for panel, quantity, label in ((axes[0, 0], RANK, "rank of $dW_3$"), (axes[0, 1], STABLE, "stable rank of $dW_3$")):
        rows = select(middle, quantity=quantity).assign(layer=lambda rows: rows["batch"], theory=np.nan)
        lines = figures.against_depth(panel, rows, by="setting", label=figures.spelled, xlabel="batch N", ylabel=label)
        if quantity == RANK:
            for line, size in zip(lines, (7.0, 5.0, 2.5), strict=True):  # they lie on top of each other
                line.set_markersize(size)
            panel.plot(
                BATCHES, np.minimum(BATCHES, WIDTH), color="black", linestyle="dashed", linewidth=0.8, zorder=3,
                label=f"min(N, {WIDTH})",
            )  # fmt: skip
            panel.legend(handles=panel.lines[-1:], loc="lower right")
        panel.set_ylim(0.0, None)
        parts.append(rows)
    for panel, quantity, label in (
        (axes[1, 0], Z_STABLE, "stable rank of $z_l$"),
        (axes[1, 1], STABLE, "stable rank of $dW_l$"),
    ):
        rows = depths(table, quantity)
        figures.against_depth(panel, rows.drop(columns="infinite_width"), by="setting", scale="log", ylabel=label)
        parts.append(rows)
    _draw_limits(axes[1, 0], parts[-2])
    for panel, most in ((axes[1, 0], 16), (axes[1, 1], 4)):
        ticks = [2**power for power in range(most.bit_length())]
        panel.set_yticks(ticks, labels=list(map(str, ticks)))
    figures.panel_labels(axes.flat)
    drawn = pandas.concat(parts)
    yield Drawing(figure, drawn, caption=f"{CAPTION} {figures.of_nets(drawn['nets'])}")

    figure, axes = figures.panels(rows=2, columns=4, width=figures.PAGE, height=3.7)
    cloud = select(collected.measured, part="cloud")
    for panel, stage in zip(axes.flat, (*STAGES, *WEIGHTS), strict=False):
        _draw_cloud(panel, select(cloud, setting=stage))
    density = select(collected.measured, part="density")
    _draw_spectra(axes[1, 3], density)
    for panel in (*axes[1, :3], axes[0, 3]):
        panel.set_xlabel("unit 1")
    for panel in axes[:, 0]:
        panel.set_ylabel("unit 2")
    titles = [*STAGES[:3], f"{TURNED}, $= xW$", *map(figures.spelled, WEIGHTS), "large random $W$"]
    figures.panel_labels(axes.flat, titles)
    yield Drawing(figure, pandas.concat([cloud, density]), "cloud", CAPTION_OF_CLOUD)


def _draw_limits(panel: Axes, rows: DataFrame) -> None:
    """Draw the limit of infinite width of each line in its color, with its marker, open."""
    for index, setting in enumerate(SETTINGS):
        line = select(rows, setting=setting)
        looks = figures.line(index) | {"markerfacecolor": "white", "linestyle": "dotted", "linewidth": 1.0}
        panel.plot(line["layer"], line["infinite_width"], markevery=(3 + 3 * index, 12), **looks)
    looks = {"color": "black", "linestyle": "dotted", "marker": "o", "markerfacecolor": "white"}
    panel.plot([], [], label="infinite width (open)", linewidth=1.0, **looks)
    panel.legend(handles=panel.lines[-1:], loc="center right", bbox_to_anchor=(1.0, 0.8))


def depths(table: DataFrame, quantity: str) -> DataFrame:
    """Return stable ranks of the deep nets, those of z with the limit of infinite width."""
    import pandas

    parts = []
    for setting in SETTINGS:
        rows = select(table, part="depth", setting=setting, quantity=quantity).sort_values("layer")
        parts.append(rows.assign(infinite_width=wide_stable_ranks(setting) if quantity == Z_STABLE else np.nan))
    return pandas.concat(parts)


def _draw_cloud(panel: Axes, rows: DataFrame) -> None:
    """Draw a cloud, its points told apart by the quarter of the plane that they come from."""
    for quarter in range(4):
        part = rows[rows["number"] % 48 // 12 == quarter]
        looks = figures.line(quarter) | {"linestyle": "none", "markersize": 2.2}
        panel.plot(part["x"], part["y"], **looks)
    panel.axhline(0.0, color="black", linewidth=0.4)
    panel.axvline(0.0, color="black", linewidth=0.4)
    panel.set_aspect("equal", adjustable="box")
    bounded = rows["setting"].iloc[0] in ("tanh", "sigmoid")
    reach = 1.2 if bounded else 3.4
    panel.set(xlim=(-reach, reach), ylim=(-reach, reach))
    ticks = (-1.0, 0.0, 1.0) if bounded else (-3.0, 0.0, 3.0)
    labels = [f"{tick:g}".replace("-", "\N{MINUS SIGN}") for tick in ticks]
    panel.set_xticks(ticks, labels=labels)
    panel.set_yticks(ticks, labels=labels)


def _draw_spectra(panel: Axes, density: DataFrame) -> None:
    for index, name in enumerate(("Gaussian", "orthogonal")):
        rows = select(density, setting=name)
        if index == 0:
            panel.plot(rows["x"], rows["y"], label=name, **figures.line(index) | {"linestyle": "none"})
        else:  # no density: an arrow
            looks = figures.line(index) | {"marker": "^", "markevery": [1]}
            panel.plot([1.0, 1.0], [0.0, 0.95], label=f"{name}: all 1", **looks)
    x = np.linspace(0.0, 2.0, 200)
    panel.plot(x, np.sqrt(4.0 - x * x) / math.pi, color="black", linestyle="dotted", label="infinite width")
    panel.set_ylim(0.0, 1.6)
    panel.legend(loc="upper right", handlelength=1.0)
    panel.set(xlabel="singular values", ylabel="density")


def verdicts(collected: Collected) -> Iterator[Verdict]:
    """Hold every claim against the estimates."""
    yield _rows_are_samples(collected.measured)
    yield _geometry(collected)
    yield _rank_one(collected)


def _rows_are_samples(measured: DataFrame) -> Verdict:
    """A01: permuted samples permute rows, one sample changes its own row, and W^T projects row by row."""
    rows = measured.assign(theory=1.0)
    plain = {name: pick(rows, part=name, setting="plain") for name in ("permuted", "alone", "projected")}
    normed = pick(rows, part="alone", setting="batch")
    holds = all(row.estimate == 1.0 for row in plain.values()) and normed.estimate == 0.0
    note = (
        "share of tanh nets in which another first sample changes no other row of any z, dz and ds: "
        f"{k_of_n(plain['alone'])}; permuting the samples permutes the rows in {k_of_n(plain['permuted'])}, and every "
        f"row of dz is that of ds above times W^T in {k_of_n(plain['projected'])}. With batch norm samples are "
        f"coupled: other rows stay in {k_of_n(normed)}"
    )
    return judge("A01", plain["alone"], holds, note, when="there is no batch norm")


def _geometry(collected: Collected) -> Verdict:
    """A02: where points are in every net; how much W stretches; what is left of a cloud with depth."""
    measured, table = collected.measured.assign(theory=np.nan), collected.table
    inside = {
        (name, gain): pick(measured, part="open", setting=name, gain=gain) for name in WEIGHTS for gain in (1.0, 20.0)
    }
    closed = select(measured, part="closed")
    mean, flat = (pick(measured, part="mean", setting=name) for name in ("Gaussian", "orthogonal"))
    largest = pick(measured, part="largest", setting="Gaussian")
    end = {setting: pick(table, part="depth", setting=setting, quantity=Z_STABLE, layer=DEEP) for setting in SETTINGS}
    holds = (
        all(inside[name, 1.0].estimate == 1.0 for name in WEIGHTS)
        and bool((closed["estimate"] == 1.0).all())
        and abs(mean.estimate - mean_singular_value()) < 0.01
        and abs(flat.estimate - 1.0) < 1e-12
        and 1.8 < largest.estimate < 2.1
    )
    note = (
        f"mean singular value of Gaussian W (width {SPECTRA}, variance 1/n; limit 8/(3 pi)); the largest is "
        f"{largest.estimate:.3f} (limit 2), those of an orthogonal W {flat.estimate:.3f}. All points are inside in "
        + ", ".join(f"{k_of_n(inside[name, 1.0])} ({name})" for name in WEIGHTS)
        + " nets. With weights 20 times as large sigmoid and tanh round to the walls: strictly inside in "
        + ", ".join(f"{k_of_n(inside[name, 20.0])} ({name})" for name in ("tanh", "sigmoid"))
        + f". Stable rank of z of {SAMPLES} orthogonal samples after {DEEP} layers of width {WIDE}: "
        + ", ".join(f"{setting} {row.estimate:.2f}" for setting, row in end.items())
    )
    return judge("A02", mean._replace(theory=mean_singular_value()), holds, note)


def ranks(collected: Collected) -> DataFrame:
    """Return, by activation and batch, in how many layers of nets rank(dW) is min(N, n), and within its bounds."""
    import pandas

    found = []
    for case, result in collected.results:
        if case.tags["part"] == "batch":
            dw, ds = (result.samples[name][:, 1:] for name in (RANK, DS_RANK))
            z = result.samples[Z_RANK][:, :-1]
            most = min(int(case.tags["batch"]), WIDTH)
            equal, within = dw == most, dw <= np.minimum(np.minimum(z, ds), most)
            found.append({**case.tags, "equal": int(equal.sum()), "within": int(within.sum()), "all": dw.size})
    return pandas.DataFrame(found)


def stopped(collected: Collected) -> tuple[int, int, int]:
    """Return in how many layers of narrow nets dW has rank 0, in how many all samples are idle, in how many both."""
    zero, idle, both = 0, 0, 0
    for case, result in collected.results:
        if case.tags["part"] == "narrow":
            none, still = result.samples[RANK][:, 1:] == 0.0, result.samples[IDLE][:, 1:] == 1.0
            zero, idle, both = zero + int(none.sum()), idle + int(still.sum()), both + int((none & still).sum())
    return zero, idle, both


def _rank_one(collected: Collected) -> Verdict:
    """A03: dW is a sum of a rank-1 matrix a sample; of rank 1 at N = 1, min(N, n) in general, 0 if all stopped."""
    table, found = collected.table, ranks(collected)
    summed = pick(collected.measured, part="summed", setting="plain")
    one = select(table, part="batch", batch=1, quantity=RANK)
    smooth, relu = select(found, setting=("tanh", "sigmoid")), select(found, setting="relu")
    generic = {name: select(found, setting=name)[["equal", "all"]].sum() for name in WEIGHTS}
    most = {
        name: pick(table, part="batch", setting=name, batch=BATCHES[-1], quantity=RANK, layer=DEPTH) for name in WEIGHTS
    }
    zero, idle, both = stopped(collected)
    narrow = select(table, part="narrow", batch=1, quantity=RANK).assign(theory=alive_probability(NARROW))
    z = largest_z(narrow)
    holds = (
        summed.estimate == 1.0
        and bool((one["estimate"] == 1.0).all() and (one["ci_high"] == 1.0).all())
        and bool((found["within"] == found["all"]).all() and (smooth["equal"] == smooth["all"]).all())
        and 0 < zero == idle == both
        and z < LARGEST_Z
        and most["relu"].ci_high < WIDTH
        and len(relu) > 0
    )
    note = (
        f"rank of dW of one sample, {len(one)} kinds of layers. dW is the sum of the samples' outer products in "
        f"{k_of_n(summed)} nets (the mean where the loss is one), and its rank is min(N, n) in "
        + ", ".join(f"{each['equal']} of {each['all']} ({name})" for name, each in generic.items())
        + f" layers for N from 1 to {BATCHES[-1]}, n = {WIDTH}, and never above the rank of z or ds. Units of a ReLU "
        f"that are off for all samples take rank: {most['relu'].estimate:.1f} in layer {DEPTH} at N = {BATCHES[-1]}. "
        f"In narrow ReLU nets it is 0 just where all samples are stopped: {both} of {zero} layers (one sample: a share "
        f"of (1 - 2^-n)^L has rank 1, largest |z| {z:.1f})"
    )
    row = pick(one, setting="tanh", layer=1)
    return judge("A03", row._replace(theory=1.0), holds, note, when="z below the layer and ds in it are not all 0")


study = Study(
    name="rank",
    title="Ranks of dW and z, and what W and f do to a cloud of points",
    cases=cases,
    draw=draw,
    claims=("A01", "A02", "A03"),
    verdicts=verdicts,
    measure=measure,
)

if __name__ == "__main__":
    run_script(study)
