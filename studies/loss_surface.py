"""Slices of loss surfaces, and what they do not show: curvatures of the whole Hessian beside those of the slice."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from stabsim import figures
from stabsim.arguments import make_task
from stabsim.cli import run_script
from stabsim.datasets import classification
from stabsim.initializers import Initializer
from stabsim.landscape import (
    Landscape,
    directions,
    extreme_eigenvalues,
    find,
    line,
    plane,
    principal_curvatures,
    spectral_density,
)
from stabsim.network import Network
from stabsim.study import Case, Collected, Drawing, Study
from stabsim.training import train
from stabsim.verdicts import select

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray
    from pandas import DataFrame

    Floats = NDArray[np.float64]

NETS = {"quick": 2, "paper": 20}
SAMPLES = {"quick": 128, "paper": 1000}
RESOLUTION = {"quick": 25, "paper": 61}
PLANES = {"quick": 8, "paper": 50}
MAP = {"quick": 3, "paper": 11}
LARGE = {"quick": 32, "paper": 100}  # width of a net whose Hessian is not formed
SEARCHES = {"quick": 10, "paper": 60}
STEPS, RATE, BATCH = 3000, 0.2, 32
PIXELS, WIDTH, CLASSES = 64, 16, 10
DEPTHS = (2, 8)
LAWS: dict[str, tuple[str, Any]] = {  # activation and weights at the start
    "tanh": ("tanh", "lecun_normal"),
    "ReLU": ("relu", "he_normal"),
    "sigmoid": ("sigmoid", "glorot_normal"),
    "tanh, gain 3": ("tanh", Initializer("normal", gain=3.0, fan="in")),
}
POINTS = ("start", "trained")
SURFACES = (("tanh", 2), ("tanh", 8), ("tanh, gain 3", 8))  # laws and depths that are drawn as surfaces
GRADIENT = "activation_gradient_log10_norm"
SADDLE_NET = Network((6, 4, 3), "tanh", "lecun_normal")
WIDEST = 1.5  # reach of planes through saddles, in parameters
LEAST = 1e-3  # density that is drawn
KERNEL = 0.01  # of densities, relative to the largest eigenvalue


def network(law: str, depth: int, width: int = WIDTH) -> Network:
    """Return the law of nets of one start and depth."""
    name, weights = LAWS[law]
    return Network((PIXELS, *(width,) * (depth - 1), CLASSES), name, weights)


def data(samples: int, components: int | None = None, classes: int = CLASSES) -> tuple[Floats, Floats]:
    """Return digits, as pixels or principal components."""
    return classification("digits", components=components, classes=range(classes), samples=samples)


def cases(scale: str) -> Iterator[Case]:
    """Yield the deeper nets as they are drawn: whether gradients reach the first layer."""
    for law in LAWS:
        task = make_task(network(law, DEPTHS[-1]), batch=64, inputs=data(64)[0], quantities=(GRADIENT,))
        yield Case(task, 50 * NETS[scale], {"law": law})


# --- measuring ------------------------------------------------------------------------------------------


def measure(scale: str) -> DataFrame:
    """Return slices, curvatures, lines and spectra of nets before and after training, and planes through saddles."""
    import pandas

    parts = []
    for law in LAWS:
        for depth in DEPTHS:
            surface, points = trained(law, depth, scale)
            parts.append(slices(surface, points[0], scale).assign(law=law, depth=depth))
            parts.append(curvatures(surface, points, scale).assign(law=law, depth=depth))
            if law == "tanh" and depth == DEPTHS[0]:
                parts.append(ratios(surface, points[0, -1], MAP[scale]).assign(law=law, depth=depth))
                parts.append(spectrum(surface, points[0], exact=True).assign(law=law, depth=depth))
    surface, points = trained("tanh", DEPTHS[0] + 1, scale, LARGE[scale])
    parts.append(spectrum(surface, points[0], exact=False).assign(law="tanh", depth=DEPTHS[0] + 1))
    parts.append(saddles(scale))
    return pandas.concat(parts, ignore_index=True)


def trained(law: str, depth: int, scale: str, width: int = WIDTH) -> tuple[Landscape, Floats]:
    """Return the loss of nets, and where they were before and after training: (nets, 2, parameters)."""
    law_of_nets, samples = network(law, depth, width), data(SAMPLES[scale])
    found = train(
        law_of_nets, nets=NETS[scale], steps=STEPS, optimizer=f"sgd(learning_rate={RATE})", batch=BATCH,
        data=samples, seed=3, quantities=("loss",), precision="float64", keep_weights=True,
    )  # fmt: skip
    surface = Landscape(law_of_nets, samples)
    return surface, surface.points(found)


def slices(surface: Landscape, points: Floats, scale: str) -> DataFrame:
    """Return losses on a filter-normalized plane through both points, and on the line between them."""
    import pandas

    parts = []
    for name, point in zip(POINTS, points, strict=True):
        first, second = directions(surface, point, seed=1)
        found = plane(surface, point, first, second, resolution=RESOLUTION[scale])
        parts.append(_grid(found.first, found.second, found.losses).assign(part="slice", point=name))
    places, losses = line(surface, *points, low=-0.25, high=1.5, resolution=71)
    parts.append(pandas.DataFrame({"part": "line", "x": places, "estimate": losses}))
    return pandas.concat(parts, ignore_index=True)


def _grid(x: Floats, y: Floats, values: Floats) -> DataFrame:
    import pandas

    across, up = np.meshgrid(x, y)
    return pandas.DataFrame({"x": across.ravel(), "y": up.ravel(), "estimate": values.ravel()})


def curvatures(surface: Landscape, points: Floats, scale: str) -> DataFrame:
    """Return, of each net, both ends and the mean of the spectrum, and the lowest curvature of random slices."""
    import pandas

    rows = []
    for net, pair in enumerate(points):
        for name, point in zip(POINTS, pair, strict=True):
            ends = extreme_eigenvalues(surface, point, tolerance=1e-4)
            mean = spectral_density(surface, point, probes=20, steps=1).moment(1).estimate
            random = directions(surface, point, number=2 * PLANES[scale], seed=net + 2).reshape(PLANES[scale], 2, -1)
            bent = np.array([principal_curvatures(surface, point, *each) for each in random])
            found = {
                "lowest eigenvalue": ends.lowest[0] / ends.highest[0],
                "mean eigenvalue": mean / ends.highest[0],
                "lowest curvature of slices": bent.min() / ends.highest[0],
            }
            rows += [(net, name, quantity, float(value)) for quantity, value in found.items()]
    return pandas.DataFrame(rows, columns=["net", "point", "quantity", "estimate"]).assign(part="curvature")


def ratios(surface: Landscape, point: Floats, resolution: int) -> DataFrame:
    """Return the lowest over the highest eigenvalue on a slice, as Li et al. 2018 have it, and the slice's own."""
    import pandas

    first, second = directions(surface, point, seed=1)
    steps = np.linspace(-1.0, 1.0, resolution)
    whole, own = np.empty((2, resolution, resolution))
    for i, j in np.ndindex(resolution, resolution):
        there = point + steps[j] * first + steps[i] * second
        ends = extreme_eigenvalues(surface, there, tolerance=1e-4)
        whole[i, j] = ends.lowest[0] / ends.highest[0]
        own[i, j] = principal_curvatures(surface, there, first, second)[0] / ends.highest[0]
    grids = {"whole": whole, "slice": own}
    return pandas.concat([_grid(steps, steps, grid).assign(part="map", quantity=name) for name, grid in grids.items()])


def spectrum(surface: Landscape, points: Floats, *, exact: bool) -> DataFrame:
    """Return densities of both points by stochastic Lanczos quadrature, with the exact ones where they can be had."""
    import pandas

    parts = []
    for name, point in zip(POINTS, points, strict=True):
        found = spectral_density(surface, point, probes=10)
        low, high = found.nodes.min(), found.nodes.max()
        width = KERNEL * high
        grid = np.linspace(low - 3 * width, high + 3 * width, 400)
        density = found.density(grid, width)
        law = np.full(len(grid), math.nan)
        if exact:
            values = np.linalg.eigvalsh(surface.hessian(point))
            law = np.exp(-0.5 * ((grid[:, None] - values) / width) ** 2).mean(axis=1) / (width * math.sqrt(2 * math.pi))
        columns = {"x": grid, "estimate": density.estimate, "ci_low": density.ci_low, "ci_high": density.ci_high}
        tags: Any = {"part": "spectrum", "point": name, "parameters": surface.parameters, "quantity": "density"}
        parts.append(pandas.DataFrame({**columns, "theory": law}).assign(**tags))
    return pandas.concat(parts, ignore_index=True)


def saddles(scale: str) -> DataFrame:
    """Return planes through two critical points of high index, along the lowest and the highest eigenvector."""
    import pandas

    surface = Landscape(SADDLE_NET, data(128, SADDLE_NET.widths[0], SADDLE_NET.widths[-1]))
    ends = find(surface, surface.draw(SEARCHES[scale], seed=1), max_steps=200)
    order = np.argsort(-np.where(ends.critical, ends.negative, -1), kind="stable")[:2]
    parts = []
    for number, at in enumerate(order[ends.negative[order] > 0]):
        values, vectors = np.linalg.eigh(surface.hessian(ends.points[at]))
        found = plane(
            surface, ends.points[at], vectors[:, 0], vectors[:, -1], reach=WIDEST, resolution=RESOLUTION[scale]
        )
        reach = f"\N{MINUS SIGN}{-values[0]:.2f} to {values[-1]:.2f}"
        told = f"index {ends.negative[at]} of {surface.parameters}, eigenvalues {reach}"
        parts.append(_grid(found.first, found.second, found.losses).assign(part="saddle", net=number, quantity=told))
    return pandas.concat(parts, ignore_index=True) if parts else pandas.DataFrame()


# --- figures --------------------------------------------------------------------------------------------


PLANE = (
    f"two random, filter-normalized directions (1: as long as the weights), through one net of {WIDTH} units a layer "
    "on digits"
)
CAPTION = (
    f"Loss along {PLANE}, after training: (a)–(d) {DEPTHS[0]} layers, (e)–(h) {DEPTHS[1]} layers, from left to right "
    f"{'; '.join(LAWS)}. Lines of equal loss are evenly apart in its logarithm; crosses mark where training ended."
)
CAPTION_OF_SURFACES = (
    f"Loss as a surface over {PLANE}: (a)–(c) at the start and (d)–(f) after training, from left to right "
    + "; ".join(f"{law}, {depth} layers" for law, depth in SURFACES)
    + "."
)
CAPTION_OF_CURVATURES = (
    "Curvatures of the whole Hessian beside those that a slice shows, relative to the highest eigenvalue. (a) After "
    "training and (b) at the start: lowest eigenvalue, mean eigenvalue, and lowest curvature of random slices, by law "
    "and number of layers; median of nets, with lines from the lowest to the highest. (c) Lowest over highest "
    "eigenvalue on one slice, and (d) its own lowest curvature over the highest eigenvalue."
)
CAPTION_OF_LINES = (
    f"Nets of {DEPTHS[-1]} layers, {WIDTH} units each. (a) Training loss on the straight line from the start (0) to "
    "the end of training (1) and beyond it, of one net of each law. (b) Norm of the gradient (geometric mean) by "
    f"layer at the start. {figures.BANDS}"
)
CAPTION_OF_SPECTRA = (
    "Density of the eigenvalues of the Hessian of one tanh net at the start and after training, by stochastic Lanczos "
    "quadrature; in panels, by number of parameters, {panels}. Dashed: from all eigenvalues, where these can be had. "
) + figures.BANDS
CAPTION_OF_SADDLES = (
    f"Planes through critical points of high index of tanh nets of widths {', '.join(map(str, SADDLE_NET.widths))}, "
    "along the eigenvectors of the lowest and the highest eigenvalue. {planes} Lines of equal loss, in white that of "
    "the critical point itself. {surface} The first of the planes as a surface."
)


def draw(collected: Collected) -> Iterator[Drawing]:
    """Draw slices as contours and as surfaces, planes through saddles, and curvatures of slices beside the whole."""
    measured = collected.measured
    flat = select(measured, part="slice", point="trained")
    figure, axes = figures.panels(rows=len(DEPTHS), columns=len(LAWS), width=figures.PAGE, height=3.6)
    for depth, row in zip(DEPTHS, axes, strict=True):
        row[0].set_ylabel(f"{depth} layers\nsecond direction")
        for law, panel in zip(LAWS, row, strict=True):
            contours(panel, select(flat, law=law, depth=depth))
    for panel in axes[-1]:
        panel.set_xlabel("first direction")
    figures.panel_labels(axes.flat, [law for _ in DEPTHS for law in LAWS])
    yield Drawing(figure, flat, caption=CAPTION)
    yield draw_surfaces(select(measured, part="slice"))
    rows = select(measured, part="saddle")
    if len(rows):
        letters = [f"({letter})" for letter in "abc"[: rows["net"].nunique() + 1]]
        caption = CAPTION_OF_SADDLES.format(planes=", ".join(letters[:-1]), surface=letters[-1])
        yield Drawing(draw_saddles(rows), rows, "saddles", caption)
    yield draw_curvatures(select(measured, part=("curvature", "map")))
    yield draw_lines(collected.table, select(measured, part="line", depth=DEPTHS[-1]))
    yield draw_spectra(select(measured, part="spectrum"))


def draw_surfaces(rows: DataFrame) -> Drawing:
    """Draw slices as surfaces, before and after training."""
    figure, axes = figures.panels(
        rows=2, columns=len(SURFACES), width=figures.PAGE, height=4.6,
        subplot_kw={"projection": "3d", "computed_zorder": False},
    )  # fmt: skip
    for point, panels in zip(POINTS, axes, strict=True):
        for (law, depth), panel in zip(SURFACES, panels, strict=True):
            surface_of(panel, select(rows, law=law, depth=depth, point=point), ("first", "second"))
    figures.panel_labels(axes.flat, [f"{law}, {depth} layers, {point}" for point in POINTS for law, depth in SURFACES])
    return Drawing(figure, rows, "3d", CAPTION_OF_SURFACES)


def _square(rows: DataFrame) -> tuple[Floats, Floats, Floats]:
    cells = rows.pivot(index="y", columns="x", values="estimate")
    return cells.columns.to_numpy(float), cells.index.to_numpy(float), cells.to_numpy(float)


def contours(axes: Axes, rows: DataFrame, *, logarithmic: bool = True) -> None:
    """Draw lines of equal loss, some of which carry it, and the middle; else the line of its loss too, in white."""
    x, y, losses = _square(rows)
    low, high = losses.min(), losses.max()
    levels = np.geomspace(low, high, 11) if logarithmic else np.linspace(low, high, 13)
    shown, places = (np.log(losses), np.log(levels)) if logarithmic else (losses, levels)
    axes.contourf(x, y, shown, levels=places, cmap=figures.SEQUENTIAL)
    drawn = axes.contour(x, y, shown, levels=places[1:-1], colors="black", linewidths=0.4, linestyles="solid")
    texts = {
        place: f"{level:.2g}" if level < 100 else f"{level:.0f}" for place, level in zip(places, levels, strict=True)
    }
    for text in axes.clabel(drawn, places[2:-1:3], fmt=texts, fontsize=5, inline_spacing=1):
        text.set_bbox({"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 0.3})
    if not logarithmic:
        middle = losses[len(y) // 2, len(x) // 2]
        axes.contour(x, y, losses, levels=[middle], colors="white", linewidths=1.0, linestyles="solid")
    axes.plot(0.0, 0.0, marker="+", color="white", markersize=6)
    axes.set_aspect("equal")


def surface_of(axes: Any, rows: DataFrame, names: tuple[str, str]) -> None:
    """Draw losses as a surface over two named directions."""
    x, y, losses = _square(rows)
    across, up = np.meshgrid(x, y)
    axes.plot_surface(
        across, up, losses, cmap=figures.SEQUENTIAL, rcount=31, ccount=31, linewidth=0.1, edgecolor="black"
    )
    axes.set(xticks=[-1, 0, 1], yticks=[-1, 0, 1], xlabel=names[0], ylabel=names[1])
    axes.xaxis.labelpad = axes.yaxis.labelpad = -9
    axes.zaxis.set_major_locator(_few())
    axes.tick_params(pad=-3, labelsize=6)
    axes.text2D(0.9, 0.86, "loss", transform=axes.transAxes)
    axes.view_init(elev=28, azim=-55)


def _few() -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(4)


def draw_saddles(rows: DataFrame) -> Any:
    """Draw planes through saddles: contours, and the first one as a surface."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(figures.PAGE, 2.5), layout="constrained")
    nets = sorted(rows["net"].unique())
    panels = []
    for place, net in enumerate(nets, start=1):
        panel = figure.add_subplot(1, len(nets) + 1, place)
        each = select(rows, net=net)
        contours(panel, each, logarithmic=False)
        panel.set(xlabel="along the lowest eigenvector", ylabel="along the highest" if place == 1 else "")
        panel.text(0.5, 1.12, each["quantity"].iloc[0], transform=panel.transAxes, ha="center", fontsize=6)
        panels.append(panel)
    panel = figure.add_subplot(1, len(nets) + 1, len(nets) + 1, projection="3d", computed_zorder=False)
    surface_of(panel, select(rows, net=nets[0]), ("lowest", "highest"))
    figures.panel_labels([*panels, panel])
    return figure


def draw_curvatures(rows: DataFrame) -> Drawing:
    """Draw both ends of spectra beside curvatures of slices, and maps of both on one slice."""
    figure, axes = figures.panels(rows=2, columns=2, width=figures.PAGE, height=5.0)
    bent = select(rows, part="curvature")
    for point, panel in zip(POINTS[::-1], axes[0], strict=True):
        draw_ends(panel, select(bent, point=point), point)
    axes[0, 1].set_yticklabels([])
    axes[0, 1].get_legend().remove()
    maps = select(rows, part="map")
    labels = {"whole": "lowest / highest eigenvalue", "slice": "lowest curvature in the slice\n/ highest eigenvalue"}
    for panel, (quantity, label) in zip(axes[1], labels.items(), strict=True):
        x, y, values = _square(select(maps, quantity=quantity))
        mesh = panel.pcolormesh(x, y, values, cmap=figures.SEQUENTIAL)
        panel.set(xlabel="first direction", ylabel="second direction", xticks=[-1, 0, 1], yticks=[-1, 0, 1])
        figure.colorbar(mesh, ax=panel, label=label, aspect=25).locator = _few()
    figures.panel_labels(axes.flat)
    return Drawing(figure, rows, "curvature", CAPTION_OF_CURVATURES)


def draw_ends(axes: Any, rows: DataFrame, point: str) -> None:
    """Draw, relative to the highest eigenvalue, the lowest, the mean and the lowest curvature of random slices.

    Lines are no intervals: they reach from the lowest to the highest of the nets, the median of which is marked.
    """
    names = rows["law"] + ", " + rows["depth"].astype(int).astype(str)
    seen = ("lowest eigenvalue", "lowest curvature of slices", "mean eigenvalue")
    table = select(rows.assign(name=names), quantity=seen)
    grouped = table.groupby(["name", "quantity"], sort=False)["estimate"]
    dots = grouped.median().reset_index()
    dots = dots.assign(ci_low=grouped.min().to_numpy(), ci_high=grouped.max().to_numpy())
    figures.dot_plot(
        axes, dots, rows="name", by="quantity", order=seen,
        xlabel=rf"$\lambda / \lambda_{{\max}}$, {point} (median and range of nets)",
    )  # fmt: skip
    axes.set_xscale("symlog", linthresh=1e-2, linscale=1.0)
    far = 10.0 if dots["ci_low"].min() < -1 else 0.1
    axes.set_xticks([-far, -0.01, 0, 0.01, far], labels=[f"\N{MINUS SIGN}{far:g}", "", "0", "", f"{far:g}"])
    axes.minorticks_off()
    axes.axvline(0.0, color="black", linewidth=0.4)
    axes.legend(loc="lower center", bbox_to_anchor=(0.4, 1.08), fontsize=6, handlelength=1.0)


def draw_lines(start: DataFrame, rows: DataFrame) -> Drawing:
    """Draw losses from the start (0) to where training ended (1), and the gradients that reach layers at the start."""
    import pandas

    figure, axes = figures.panels(columns=2, width=figures.PAGE, height=2.4)
    table = rows.assign(layer=rows["x"], ci_low=rows["estimate"], ci_high=rows["estimate"], theory=math.nan)
    figures.against_depth(
        axes[0, 0], table, by="law", scale="log", xlabel="from the start (0) to the end (1)",
        ylabel=f"loss, {DEPTHS[-1]} layers",
    )  # fmt: skip
    gradients = select(start, quantity=GRADIENT)
    figures.against_depth(axes[0, 1], gradients, by="law", scale="exponent", ylabel="norm of the gradient at the start")
    figures.panel_labels(axes.flat)
    return Drawing(figure, pandas.concat([rows, gradients]), "lines", CAPTION_OF_LINES)


def draw_spectra(rows: DataFrame) -> Drawing:
    """Draw densities of eigenvalues before and after training, exact ones dashed."""
    sizes = sorted(rows["parameters"].unique())
    figure, axes = figures.panels(columns=len(sizes), width=figures.PAGE, height=2.4)
    for parameters, panel in zip(sizes, axes[0], strict=True):
        for index, point in enumerate(POINTS):
            each = select(rows, parameters=parameters, point=point)
            looks = figures.line(3 * index) | {"marker": "none"}
            panel.plot(each["x"], each["estimate"], label=point, **looks)
            low = each["ci_low"].clip(lower=LEAST)
            panel.fill_between(each["x"], low, each["ci_high"], color=looks["color"], alpha=0.3, linewidth=0)
            panel.plot(each["x"], each["theory"], color="black", linestyle="dashed", linewidth=0.8)
        if np.isfinite(select(rows, parameters=parameters)["theory"]).any():
            panel.plot([], [], color="black", linestyle="dashed", linewidth=0.8, label="exact")
        panel.set(yscale="log", ylim=(LEAST, 3 * rows["estimate"].max()), xlabel="eigenvalue", ylabel="density")
        panel.legend(loc="upper right")
    figures.panel_labels(axes.flat, [f"{parameters:.0f} parameters" for parameters in sizes])
    panels = ", ".join(f"({letter}) {size:,.0f}" for letter, size in zip("ab", sizes, strict=True))
    return Drawing(figure, rows, "spectrum", CAPTION_OF_SPECTRA.format(panels=panels))


study = Study(
    name="loss_surface",
    title="Slices of loss surfaces, with the curvatures that they do not show",
    cases=cases,
    draw=draw,
    measure=measure,
)

if __name__ == "__main__":
    run_script(study)
