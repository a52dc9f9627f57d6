"""How rarely all second derivatives are positive: coins, random matrices, and Hessians of small nets."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from stabsim import figures
from stabsim.arguments import make_task
from stabsim.cli import run_script
from stabsim.counting import Rules
from stabsim.datasets import classification
from stabsim.landscape import Landscape, classify, find, index_counts, inertia, positive_definite_estimate
from stabsim.network import Network
from stabsim.study import Case, Collected, Drawing, Study, Verdict
from stabsim.theory.random_matrix import log_positive_definite_probability
from stabsim.theory.saddle_index import critical_energy, wigner_wishart_index
from stabsim.threads import single_threaded_blas
from stabsim.training import Regression
from stabsim.verdicts import LARGEST_Z, counted, judge, k_of_n, largest_z, pick, select, with_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray
    from pandas import DataFrame

PARTICLES = {"quick": 100, "paper": 2000}
MATRICES = {"quick": 200, "paper": 5000}  # whose negative eigenvalues are counted
POINTS = {"quick": (2000, 50), "paper": (400_000, 5000)}  # random ones, of few parameters and of many
FEW, TOGETHER = 20, 10_000
STARTS = {"quick": {"loss": 5, "gradient norm": 40}, "paper": {"loss": 60, "gradient norm": 300}}
SEARCHED = {"quick": (1, 2), "paper": (1, 2, 3, 4, 6)}  # widths
METHODS = {"loss": "l_bfgs", "gradient norm": "levenberg_marquardt"}
MOST_STEPS = {"quick": 200, "paper": 1000}  # of a search
WIDTHS = {"regression": (1, 2, 3, 4, 6, 9, 14, 22, 36), "digits": (1, 2, 3, 5, 8, 12, 18, 29)}
ROWS = (2, 3, 5, 8, 12, 20, 30, 40)  # of random matrices
COLUMNS = 2  # of the Wishart part, for each row
EXCESS = 2.0  # its energy, in units of the critical one
ENERGY = EXCESS * critical_energy(1 / COLUMNS)
LAWS = {
    "independent_signs": "independent signs", "wigner_wishart": "Wigner + Wishart",
    "equal_variance": "equal variances", "goe": "GOE",
}  # fmt: skip
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

    rows = []
    for law in LAWS:
        share = wigner_wishart_index(1 / COLUMNS, ENERGY) if law == "wigner_wishart" else 0.5
        for n in ROWS:
            found = positive_definite_estimate(n, ensemble(law, n), particles=PARTICLES[scale], repetitions=16)
            exact = math.nan
            if law in ("goe", "independent_signs") or (law == "equal_variance" and n <= 3):
                exact = log_positive_definite_probability(n, law)
            logs = np.array([found.log_estimate, found.log_ci_low, found.log_ci_high, exact]) / math.log(10.0)
            rows.append((law, n, "log10_probability", *logs, len(found.logs) * found.particles))
            mean, error = index_counts(n, ensemble(law, n), matrices=MATRICES[scale]).index
            ends = mean - 1.96 * error, mean + 1.96 * error
            limit = math.nan if law == "wigner_wishart" else share
            rows.append((law, n, "index", mean, *ends, limit, MATRICES[scale]))
    columns = ["law", "n", "quantity", "estimate", "ci_low", "ci_high", "theory", "nets"]
    return pandas.DataFrame(rows, columns=columns).assign(part="matrices")


def random_points(scale: str) -> Iterator[DataFrame]:
    """Yield, of nets at their starting points, the share without negative curvature, and of negative eigenvalues."""
    few, many = POINTS[scale]
    for data, widths in WIDTHS.items():
        for width in widths:
            loss = surface(data, width)
            total = few if loss.parameters <= FEW else many
            negative = [
                inertia(loss.hessian(loss.draw(min(TOGETHER, total - first), seed=first))).negative
                for first in range(0, total, TOGETHER)
            ]
            yield _signs(np.concatenate(negative), loss.parameters).assign(part="points", law=data)


def critical_points(scale: str) -> Iterator[DataFrame]:
    """Yield the same of critical points, found in two ways, and the share of searches that have ended at one."""
    import pandas

    for data in WIDTHS:
        for width in SEARCHED[scale]:
            loss = surface(data, width)
            for way, method in METHODS.items():
                ends = find(loss, loss.draw(STARTS[scale][way], seed=1), method=method, max_steps=MOST_STEPS[scale])
                tags = {"part": "critical", "law": data, "way": way}
                reached = {"n": loss.parameters, "quantity": "critical", **counted(ends.critical)}
                yield pandas.DataFrame([reached]).assign(theory=math.nan, **tags)
                if ends.critical.sum() > 1:
                    yield _signs(ends.negative[ends.critical], loss.parameters).assign(**tags)


def _signs(negative: NDArray[Any], n: int) -> DataFrame:
    """Return the share of points without negative eigenvalues, and the mean share of these."""
    import pandas

    shares = negative / n
    mean = {"estimate": shares.mean(), "std_error": shares.std(ddof=1) / math.sqrt(len(shares)), "nets": len(shares)}
    index = with_interval(pandas.DataFrame([{"quantity": "index", **mean}]))
    none = pandas.DataFrame([{"quantity": "positive_definite", **counted(negative == 0), "theory": 0.5**n}])
    return pandas.concat([none, index], ignore_index=True).assign(n=n)


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
    yield Drawing(figure, measured[measured["part"] != "saddle"])


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
             ylabel="share without negative eigenvalue")  # fmt: skip
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


def _outside(rows: DataFrame, of: str = "theory") -> Any:
    """Return which intervals do not hold what coins say."""
    return (rows[of] < rows["ci_low"]) | (rows[of] > rows["ci_high"])


def _coins(table: DataFrame, measured: DataFrame) -> Verdict:
    """E05: 0.5^n, of coins, against all that has other eigenvalues."""
    logs = select(measured, part="matrices", quantity="log10_probability").assign(coins=lambda rows: rows["n"] * COINS)
    fair = largest_z(select(logs, law="independent_signs")) < LARGEST_Z
    others = logs[logs["law"] != "independent_signs"]
    nets = select(measured, quantity="positive_definite")
    points, critical = select(nets, part="points"), select(nets, part="critical")
    off = [bool(_outside(others, "coins").any()), bool(_outside(points).any()), bool(_outside(critical).any())]
    agree = fair and not any(off)
    goe = select(logs, law="goe")
    far = "; ".join(
        f"{LAWS[law]} 10^{pick(logs, law=law, n=ROWS[-1]).estimate:.1f}" for law in LAWS if law != "independent_signs"
    )
    found = "; ".join(
        f"{row.law}, n = {row.n}: {k_of_n(row)}, coins {row.theory:.2g}"
        for row in points[points["n"] < FEW].itertuples()
    )
    ways = []
    for way in METHODS:
        rows = select(critical, way=way)
        minima, total = float((rows["estimate"] * rows["nets"]).sum()), int(rows["nets"].sum())
        ways.append(f"{minima:.0f} of {total} critical points found by minimizing the {way} are minima")
    farthest = select(critical, way="gradient norm").assign(beyond=lambda rows: rows["ci_low"] - rows["theory"])
    row = next(farthest.sort_values("beyond", kind="stable")[-1:].itertuples())
    outputs = select(table, quantity=OUTPUT, layer=2)["estimate"]
    note = (
        f"share of minima among critical points of nets of {row.n} parameters ({row.law}), found by minimizing the "
        f"norm of the gradient: {k_of_n(row)}; theory: 0.5^n. Independent signs agree with 0.5^n up to n = {ROWS[-1]} "
        f"(10^{ROWS[-1] * COINS:.1f}); there, by importance splitting, {far}. GOE estimates are within "
        f"{largest_z(goe):.1f} standard errors of the exact ones. Random points of nets (as they start: outputs have "
        f"a mean square of {outputs.min():.2f} to {outputs.max():.2f}) without negative eigenvalue: {found}; over all "
        f"n, {int(_outside(points).sum())} of {len(points)} intervals exclude 0.5^n. " + ", ".join(ways)
    )
    when = "" if agree else "the signs of eigenvalues are independent, as of diagonal matrices with independent entries"
    return judge("E05", row, fair, note, when=when)


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
