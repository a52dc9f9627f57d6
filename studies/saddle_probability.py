"""How rarely all second derivatives are positive: coins, random matrices, and Hessians of small nets."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from stabsim import figures
from stabsim.arguments import make_task
from stabsim.cli import run_script
from stabsim.counting import Rules, exact_z
from stabsim.datasets import classification
from stabsim.landscape import Landscape, classify, find, index_counts, inertia, positive_definite_estimate
from stabsim.network import Network
from stabsim.study import Case, Collected, Drawing, Study, Verdict
from stabsim.theory.random_matrix import log_positive_definite_probability
from stabsim.theory.saddle_index import critical_energy, wigner_wishart_index
from stabsim.threads import single_threaded_blas
from stabsim.training import Regression
from stabsim.verdicts import (
    LARGEST_Z,
    counted,
    judge,
    k_of_n,
    largest_z,
    mean_with_interval,
    pick,
    select,
    with_interval,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray
    from pandas import DataFrame

PARTICLES = {"quick": 100, "paper": 2000}
MATRICES = {"quick": 200, "paper": 5000}  # whose negative eigenvalues are counted
POINTS = {"quick": (2000, 50), "paper": (200_000, 2000)}  # random ones, of few parameters and of many
FEW, TOGETHER = 20, 10_000
STARTS = {"quick": {"loss": 5, "gradient norm": 40}, "paper": {"loss": 60, "gradient norm": 200}}
SEARCHED = {"quick": (1, 2), "paper": (1, 2, 3, 4, 6)}  # widths
METHODS = {"loss": "l_bfgs", "gradient norm": "levenberg_marquardt"}
MOST_STEPS = {"quick": 200, "paper": 500}  # of a search
WIDTHS = {"regression": (1, 2, 3, 4, 6, 9, 14, 22, 36), "digits": (1, 2, 3, 5, 8, 12, 18, 29)}
ROWS = (2, 3, 5, 8, 12, 20, 30, 40)  # of random matrices
COLUMNS = 2  # of the Wishart part, for each row
EXCESS = 2.0  # its energy, in units of the critical one
ENERGY = EXCESS * critical_energy(1 / COLUMNS)
LAWS = {
    "independent_signs": "independent signs", "wigner_wishart": "Wigner + Wishart",
    "equal_variance": "equal variances", "goe": "GOE",
}  # fmt: skip
DECISIVE = {"law": "regression", "way": "gradient norm", "n": 5}  # the smallest net
COINS = -math.log10(2.0)
SADDLES = 200
OUTPUT = "activation_mean_square"


def cases(scale: str) -> Iterator[Case]:
    """Yield the nets at whose starting points Hessians are taken: how large their outputs are."""
    for data, widths in WIDTHS.items():
        for width in (widths[0], widths[-1]):
            yield Case(make_task(network(data, width), quantities=(OUTPUT,)), 1000, {"data": data, "width": width})


def network(data: str, width: int) -> Network:
    """Return nets of one hidden layer and one output."""
    return Network((2 if data == "regression" else 3, width, 1), "tanh", "lecun_normal")


def surface(data: str, width: int) -> Landscape:
    """Return the mean squared error of a regression, or of telling two digits apart by three principal components."""
    if data == "regression":
        teacher = Network((2, 8, 1), "tanh", "lecun_normal")
        return Landscape(network(data, width), Regression(teacher, samples=64))
    inputs, targets = classification("digits", components=3, classes=(3, 8), samples=128)
    return Landscape(network(data, width), (inputs, targets[:, 1:]))


def measure(scale: str) -> DataFrame:
    """Return probabilities and shares of negative eigenvalues, of matrices and of nets, and checks of saddles."""
    import pandas

    with single_threaded_blas():  # once, not at each step of a search
        parts = [matrices(scale), *random_points(scale), *critical_points(scale), saddles()]
    return pandas.concat(parts, ignore_index=True)


def ensemble(law: str, n: int) -> str:
    """Return the name with parameters of matrices of n rows."""
    return f"wigner_wishart(columns={COLUMNS * n}, energy={ENERGY!r})" if law == "wigner_wishart" else law


def matrices(scale: str) -> DataFrame:
    """Estimate how rarely random matrices are positive definite, and which share of their eigenvalues is negative."""
    import pandas

    logs, means = [], []
    for law in LAWS:
        share = math.nan if law == "wigner_wishart" else 0.5
        for n in ROWS:
            found = positive_definite_estimate(n, ensemble(law, n), particles=PARTICLES[scale], repetitions=16)
            exact = math.nan
            if law in ("goe", "independent_signs") or (law == "equal_variance" and n <= 3):
                exact = log_positive_definite_probability(n, law)
            numbers = np.array([found.log_estimate, found.log_ci_low, found.log_ci_high, exact]) / math.log(10.0)
            logs.append((law, n, "log10_probability", *numbers, len(found.logs) * found.particles))
            counts = index_counts(n, ensemble(law, n), matrices=MATRICES[scale])
            means.append((law, n, "index", *counts.index, share, counts.matrices))
    tags = ["law", "n", "quantity", "estimate"]
    table = pandas.DataFrame(logs, columns=[*tags, "ci_low", "ci_high", "theory", "nets"])
    index = with_interval(pandas.DataFrame(means, columns=[*tags, "std_error", "theory", "nets"]))
    return pandas.concat([table, index], ignore_index=True).assign(part="matrices")


def random_points(scale: str) -> Iterator[DataFrame]:
    """Yield, of nets as they start, the share with positive curvature only, and the share of negative eigenvalues."""
    few, many = POINTS[scale]
    for data, widths in WIDTHS.items():
        for width in widths:
            loss = surface(data, width)
            total = few if loss.parameters <= FEW else many
            found = [
                inertia(loss.hessian(loss.draw(min(TOGETHER, total - first), seed=first)))
                for first in range(0, total, TOGETHER)
            ]
            negative, zero = (np.concatenate([getattr(each, name) for each in found]) for name in ("negative", "zero"))
            yield shares_of(negative, zero, loss.parameters).assign(part="points", law=data)


def critical_points(scale: str) -> Iterator[DataFrame]:
    """Yield the same of critical points, found in two ways, and the share of searches that have ended at one."""
    import pandas

    for data in WIDTHS:
        for width in SEARCHED[scale]:
            loss = surface(data, width)
            for seed, (way, method) in enumerate(METHODS.items()):
                ends = find(loss, loss.draw(STARTS[scale][way], seed=seed), method=method, max_steps=MOST_STEPS[scale])
                tags = {"part": "critical", "law": data, "way": way}
                reached = {"n": loss.parameters, "quantity": "critical", **counted(ends.critical)}
                yield pandas.DataFrame([reached]).assign(theory=math.nan, **tags)
                if ends.critical.any():
                    signs = ends.negative[ends.critical], ends.zero[ends.critical]
                    yield shares_of(*signs, loss.parameters).assign(**tags)


def shares_of(negative: NDArray[Any], zero: NDArray[Any], n: int) -> DataFrame:
    """Return the share of points with positive eigenvalues only, and the mean share of negative ones.

    Degenerate points, with none negative and some 0, are told apart: they are in neither part of the first share.
    """
    import pandas

    degenerate = (negative == 0) & (zero > 0)
    rows = [
        {"quantity": "degenerate", **counted(degenerate)},
        {"quantity": "index", **mean_with_interval(negative / n)},
    ]
    if not degenerate.all():
        rows.append({"quantity": "positive_definite", **counted(negative[~degenerate] == 0), "theory": 0.5**n})
    return pandas.DataFrame(rows).assign(n=n)


class Saddle:
    """x1^2 - x2^2 in coordinates that a matrix makes; its Hessian comes from differences of its values."""

    parameters = 2

    def __init__(self, turn: NDArray[np.float64]) -> None:
        self.turn = turn

    def loss(self, points: Any) -> Any:
        """Return the values (...)."""
        x = np.asarray(points) @ self.turn.T
        return x[..., 0] ** 2 - x[..., 1] ** 2

    def gradient(self, points: Any) -> Any:
        """Return central differences, which are exact for a quadratic function but for rounding."""
        return np.stack([self.loss(points + e) - self.loss(points - e) for e in np.eye(2)], axis=-1) / 2

    def hessian(self, points: Any) -> Any:
        """Return second differences, exact as well."""
        lines = [
            [
                self.loss(points + a + b) - self.loss(points + a - b) - self.loss(points - a + b)
                + self.loss(points - a - b)
                for b in np.eye(2)
            ]
            for a in np.eye(2)
        ]  # fmt: skip
        return np.moveaxis(np.array(lines), (0, 1), (-2, -1)) / 4

    def hessian_vector(self, points: Any, vectors: Any) -> Any:
        """Return Hessians times vectors."""
        return (self.hessian(points) @ vectors[..., None])[..., 0]


def saddles() -> DataFrame:
    """Check the saddle at 0: as it stands, in other coordinates, and as the loss of a net of two weights."""
    rules, generator = Rules(), np.random.default_rng(4)
    _check(rules, "x1^2 - x2^2", Saddle(np.eye(2)))
    for _ in range(SADDLES):
        _check(rules, "in random coordinates", Saddle(generator.normal(size=(2, 2))))
        signal, target = generator.normal(size=(2, 1, 1))
        chain = Network((1, 1, 1), "linear", "lecun_normal")
        _check(rules, "a net of two weights", Landscape(chain, (signal, target), train_biases=False))
    table = rules.table()
    names = table["part"] + ": " + table["rule"]
    return table.assign(part="saddle", law=names, quantity="rule", n=2, nets=table["checks"])


def _check(rules: Rules, part: str, loss: Any) -> None:
    found = classify(loss, np.zeros((1, 2)))
    rules.add("E04", part, "0 is critical, one eigenvalue is positive and one is negative",
              found.critical & (found.negative == 1) & (found.positive == 1))  # fmt: skip
    _, vectors = np.linalg.eigh(loss.hessian(np.zeros(2)))
    at, down, up = (float(loss.loss(point)) for point in (np.zeros(2), 1e-3 * vectors[:, 0], 1e-3 * vectors[:, 1]))
    rules.add("E04", part, "one of its directions leads down and the other up", down < at < up)


# --- figures and verdicts -------------------------------------------------------------------------------


CAPTION = (
    "How rarely no second derivative is negative. (a) Probability that a random symmetric matrix has no negative "
    f"eigenvalue, by its law: independent signs, a Wigner plus a Wishart matrix of {COLUMNS} columns a row at "
    f"{EXCESS:g} times the critical energy, entries of equal variances, and the Gaussian orthogonal ensemble (GOE). "
    "(b) Share of points with positive eigenvalues only on the loss of small tanh nets: random points and critical "
    "ones, found by minimizing the loss or the norm of the gradient. Arrows: none was found, and the 95% bound. (c) "
    f"Mean share of negative eigenvalues at the same points. {figures.THEORY} Dotted: GOE in (b), Wigner plus Wishart "
    f"in (c). {figures.BARS}"
)


def draw(collected: Collected) -> Iterator[Drawing]:
    """Draw probabilities of no negative eigenvalue and shares of these, against the number of rows or parameters."""
    measured = collected.measured
    figure, axes = figures.panels(rows=1, columns=3, width=figures.PAGE, height=3.0)
    rows = select(measured, part="matrices", quantity="log10_probability")
    figures.against_depth(
        axes[0, 0], rows.assign(layer=rows["n"]), by="law", order=list(LAWS), label=LAWS.__getitem__, scale="exponent",
        xlabel="rows n", ylabel="P(no negative eigenvalue)",
    )  # fmt: skip
    axes[0, 0].get_legend().set_loc("lower left")
    _draw_nets(axes[0, 1], measured)
    _draw_index(axes[0, 2], measured)
    figures.panel_labels(axes.flat, ["random matrices", "nets: colors as in (c)", "index"])
    yield Drawing(figure, measured[measured["part"] != "saddle"], caption=CAPTION)


def _settings(measured: DataFrame, quantity: str) -> Iterator[tuple[str, DataFrame]]:
    """Yield names and rows of nets: random points and critical ones."""
    for data in WIDTHS:
        yield f"{data}, random points", select(measured, part="points", law=data, quantity=quantity)
    for way in METHODS:
        for data in WIDTHS:
            yield f"{data}, min. {way}", select(measured, part="critical", law=data, way=way, quantity=quantity)


def _draw_nets(axes: Axes, measured: DataFrame) -> None:
    """Draw shares of points, or how large they may be where there is none among all."""
    for place, (_, rows) in enumerate(_settings(measured, "positive_definite")):
        looks = figures.line(place)
        some, none = rows[rows["estimate"] > 0], rows[rows["estimate"] == 0]
        ends = [some["estimate"] - some["ci_low"], some["ci_high"] - some["estimate"]]
        axes.errorbar(some["n"], some["estimate"], yerr=ends, linewidth=0.8, **looks)
        axes.errorbar(
            none["n"], none["ci_high"], yerr=0.4 * none["ci_high"], uplims=True, linestyle="none", elinewidth=0.8,
            color=looks["color"], capsize=2,
        )  # fmt: skip
    n = np.arange(1, 150)
    axes.plot(n, 0.5**n, color="black", linestyle="--", linewidth=0.8)
    goe = np.exp([log_positive_definite_probability(int(each)) for each in n[:12]])
    axes.plot(n[:12], goe, color="black", linestyle=":", linewidth=1.0)
    axes.set(xscale="log", yscale="log", xlim=(4, 170), ylim=(1e-6, 2), xlabel="parameters n",
             ylabel="share with positive eigenvalues only")  # fmt: skip
    axes.text(20, 3e-6, "$0.5^n$", fontsize=7)
    axes.text(6.6, 3e-6, "GOE", fontsize=7)


def _draw_index(axes: Axes, measured: DataFrame) -> None:
    for place, (name, rows) in enumerate(_settings(measured, "index")):
        ends = [rows["estimate"] - rows["ci_low"], rows["ci_high"] - rows["estimate"]]
        axes.errorbar(rows["n"], rows["estimate"], yerr=ends, linewidth=0.8, label=name, **figures.line(place))
    axes.axhline(0.5, color="black", linestyle="--", linewidth=0.8)
    axes.text(5, 0.51, "coins, GOE", fontsize=6, verticalalignment="bottom")
    share = wigner_wishart_index(1 / COLUMNS, ENERGY)
    axes.axhline(share, color="black", linestyle=":", linewidth=1.0)
    axes.text(
        160, share + 0.005, "Wigner + Wishart", fontsize=6, verticalalignment="bottom", horizontalalignment="right"
    )
    axes.set(xscale="log", xlim=(4, 170), ylim=(-0.02, 0.85), xlabel="parameters n",
             ylabel="mean share of negative eigenvalues")  # fmt: skip
    axes.legend(fontsize=5.5, loc="upper left", handlelength=1.2, borderaxespad=0.1)


def verdicts(collected: Collected) -> Iterator[Verdict]:
    """Hold both claims against what was counted and estimated."""
    measured = collected.measured
    yield _saddle(measured)
    yield _coins(collected.table, measured)


def _saddle(measured: DataFrame) -> Verdict:
    """E04: one positive and one negative eigenvalue, however it is looked at."""
    checks = select(measured, part="saddle")
    holds = bool((checks["estimate"] == 1.0).all())
    told = ", ".join(f"{str(row.law).partition(':')[0]} in {k_of_n(row)}" for row in checks[::2].itertuples())
    note = (
        "share of nets of two weights, loss (y - w1 w2 x)^2, of which 0 is critical with one eigenvalue of each sign; "
        f"0 is such a point of {told}; one eigenvector leads down and the other up in "
        + ", ".join(k_of_n(row) for row in checks[1::2].itertuples())
        + ". The Hessian of the net is a multiple of that of x1^2 - x2^2, turned by 45 degrees: x1 and x2 are "
        "(w1 + w2) and (w1 - w2)"
    )
    return judge("E04", next(checks[checks["law"].str.startswith("a net")].itertuples()), holds, note)


def _distance(rows: DataFrame) -> float:
    """Return the largest |z| of counts from 0.5^n, by exact tails: intervals end near any tiny probability."""
    return float(np.max(exact_z((rows["estimate"] * rows["nets"]).round(), rows["nets"], rows["theory"])))


def _coins(table: DataFrame, measured: DataFrame) -> Verdict:
    """E05: 0.5^n, which is arithmetic where signs are independent, against nets; the row is of the smallest net."""
    logs = select(measured, part="matrices", quantity="log10_probability")
    coins, goe = (largest_z(select(logs, law=law)) for law in ("independent_signs", "goe"))
    distances = {name: _distance(rows) for name, rows in _settings(measured, "positive_definite") if len(rows)}
    off = [name for name, z in distances.items() if not z < LARGEST_Z]
    when = f"signs of eigenvalues are independent; they are not at: {'; '.join(off)}" if off else ""
    points = select(measured, part="points", quantity="positive_definite")
    critical = select(measured, part="critical")
    row = pick(critical, quantity="positive_definite", **DECISIVE)
    far = "; ".join(
        f"{LAWS[law]} 10^{pick(logs, law=law, n=ROWS[-1]).estimate:.1f}" for law in LAWS if law != "independent_signs"
    )
    found = "; ".join(
        f"{each.law}, n = {each.n}: {k_of_n(each)}, coins {each.theory:.2g}"
        for each in points[points["n"] < FEW].itertuples()
    )
    outputs = select(table, quantity=OUTPUT, layer=2)["estimate"]
    note = (
        f"share of minima among saddles and minima of nets of {row.n} parameters ({row.law}), found by minimizing the "
        f"{row.way}: {k_of_n(row)}; theory: 0.5^n. Largest |z| of counts in nets: "
        + ", ".join(f"{name} {z:.1f}" for name, z in distances.items())
        + f". Independent signs give 0.5^n by arithmetic, and by importance splitting up to n = {ROWS[-1]} "
        f"(|z| < {coins:.1f}; of GOE, beside its exact law, {goe:.1f}); there, at 10^{ROWS[-1] * COINS:.1f}, {far}. "
        f"Random points of nets (as they start: outputs have a mean square of {outputs.min():.2f} to "
        f"{outputs.max():.2f}) with positive eigenvalues only: {found}. "
        + ", ".join(_minima(select(critical, way=way), way) for way in METHODS)
    )
    return judge("E05", row, coins < LARGEST_Z, note, when=when)


def _minima(rows: DataFrame, way: str) -> str:
    """Write how many critical points are minima, and how many are degenerate."""
    kinds = (select(rows, quantity=name) for name in ("positive_definite", "degenerate"))
    minima, degenerate = (float((each["estimate"] * each["nets"]).sum()) for each in kinds)
    total = select(rows, quantity="index")["nets"].sum()
    told = f"{minima:.0f} of {total:.0f} critical points found by minimizing the {way} are minima"
    return f"{told}, {degenerate:.0f} degenerate"


study = Study(
    name="saddle_probability",
    title="How rarely all eigenvalues of a Hessian are positive: coins, random matrices, nets",
    cases=cases,
    draw=draw,
    claims=("E04", "E05"),
    verdicts=verdicts,
    measure=measure,
)

if __name__ == "__main__":
    run_script(study)
