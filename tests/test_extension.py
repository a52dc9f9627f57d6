"""What is added from outside the package, and what an addition inside it has to be told: docs/extending.md."""

from __future__ import annotations

import inspect
import math
import pickle
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numba
import numpy as np
import pytest

import stabsim
from stabsim.activations import ACTIVATIONS
from stabsim.arguments import make_task
from stabsim.cli import main
from stabsim.datasets import DATASETS
from stabsim.engines import ENGINES, Range
from stabsim.initializers import INITIALIZERS
from stabsim.kernels import statistics
from stabsim.ledger import statements
from stabsim.network import Network
from stabsim.plan import Plan
from stabsim.quantities import QUANTITIES, Quantity, select
from stabsim.samplers import NAMES, SAMPLERS, dense
from stabsim.samplers.base import Sampler
from stabsim.simulation import simulate
from tests.test_cli import Call, call

__all__ = ["call"]  # a fixture

ROOT = Path(__file__).resolve().parent.parent
RELU, TANH = (Network((40, 50, 30, 20), name, "he_normal") for name in ("relu", "tanh"))
PRECISIONS = ("float32", "float64")
WAYS = [(sampler, batch) for sampler in NAMES for batch in (1, 2, 5)]
OBSERVED = ("activation", "preactivation", "derivative", "activation_gradient", "preactivation_gradient")


def own(tensor: str = "activation", statistic: str = "own", kind: Any = "value", **options: Any) -> Quantity:
    options.setdefault("function", lambda x: abs(x))
    return Quantity(tensor, statistic, kind, **options)


def size(x: float) -> float:
    return abs(x)


# --- a statistic of one's own ------------------------------------------------------------------------

# Made once: of the same functions, what is compiled is compiled once for each precision.
COUNTED = tuple(tensor for tensor in OBSERVED if f"{tensor}_zero_fraction" in QUANTITIES)
ZEROS = [own(tensor, "is_zero", "fraction", function=lambda x: x == 0.0) for tensor in COUNTED]
SQUARES = [own(tensor, "square", function=lambda x: x * x) for tensor in OBSERVED]
SIZES = [own(tensor, "size", function=size) for tensor in OBSERVED] + [
    own(tensor, "largest", whole=True, function=lambda v: np.max(np.abs(v)))
    for tensor in OBSERVED
    if tensor != "preactivation"
]


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(("sampler", "batch"), WAYS)
def test_own_statistics_are_the_recorded_ones_net_by_net(sampler: str, batch: int, precision: str) -> None:
    recorded = [f"{tensor}_zero_fraction" for tensor in COUNTED] + [f"{tensor}_mean_square" for tensor in OBSERVED]
    result = simulate(
        RELU, nets=30, sampler=sampler, batch=batch, precision=precision, samples=(*ZEROS, *SQUARES, *recorded)
    )
    for mine, known in zip((*ZEROS, *SQUARES), recorded, strict=True):
        np.testing.assert_allclose(result.samples[mine.name], result.samples[known], rtol=1e-12, err_msg=known)
    assert 0.2 < np.nanmean(result.samples["activation_is_zero"][:, 1:]) < 0.8


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("batch", [1, 3])
def test_own_statistics_are_those_of_a_trace(batch: int, precision: str) -> None:
    options: dict[str, Any] = {"batch": batch, "precision": precision, "seed": 4}
    result = simulate(TANH, nets=3, sampler="dense", samples=SIZES, **options)
    for net in range(3):
        seen = stabsim.trace(TANH, net=net, **options)
        for quantity in SIZES:
            reduce = np.max if quantity.whole else np.mean
            expected = [math.nan if v is None else reduce(np.abs(v)) for v in getattr(seen, quantity.tensor)]
            np.testing.assert_allclose(result.samples[quantity.name][net], expected, rtol=1e-12, err_msg=quantity.name)


def test_a_function_of_a_whole_matrix_sees_what_matrix_free_batches_hold() -> None:
    largest = own(statistic="largest", whole=True, function=lambda v: np.max(np.abs(v)))
    root = own(statistic="root", whole=True, function=lambda v: np.sqrt(np.mean(v * v)))
    samples = (largest, root, "activation_mean_square")
    result = simulate(TANH, nets=20, sampler="matrix_free", batch=3, precision="float64", samples=samples)
    found = result.samples
    np.testing.assert_allclose(found["activation_root"] ** 2, found["activation_mean_square"], rtol=1e-12)
    assert np.all(found["activation_largest"] > found["activation_root"])


def test_own_statistics_are_estimated_beside_the_others() -> None:
    options: dict[str, Any] = {"nets": 200, "precision": "float64", "sampler": "dense"}
    asked = (own(kind="fraction", function=lambda x: x > 0.5), own(statistic="size"))
    result = simulate(TANH, quantities=(*asked, "activation_mean_square"), samples=asked[:1], **options)
    assert list(result.table["quantity"].unique()) == ["activation_mean_square", "activation_own", "activation_size"]
    rows = result.table[result.table["quantity"] == "activation_own"]
    assert list(rows["layer"]) == [0, 1, 2, 3] and rows[["theory", "infinite_width", "top_share"]].isna().all(axis=None)
    assert np.all((rows["ci_low"] < rows["estimate"]) & (rows["estimate"] < rows["ci_high"]))
    np.testing.assert_allclose(rows["estimate"], result.samples["activation_own"].mean(axis=0), rtol=1e-12)
    alone = simulate(TANH, quantities=("activation_mean_square",), **options)
    same = result.table[result.table["quantity"] == "activation_mean_square"]
    assert np.array_equal(same["estimate"], alone.table["estimate"])
    assert np.array_equal(same["ci_low"], alone.table["ci_low"])


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize(
    ("tensor", "statistic"),
    [("derivative", "log10_norm"), ("preactivation", "log10_norm"), ("activation_gradient", "saturated_fraction")],
)
def test_an_own_statistic_may_have_a_name_that_means_something_of_other_tensors(
    tensor: str, statistic: str, batch: int
) -> None:
    ones = own(tensor, statistic, function=lambda x: 1.0)
    result = simulate(TANH, nets=100, batch=batch, quantities=(ones,), samples=(ones,))
    estimates = result.estimates(ones.name).estimate[ones.first_layer :]
    assert np.all(estimates == 1.0) and ones.first_layer == (tensor not in ("activation", "activation_gradient"))
    assert np.all(result.samples[ones.name][:, ones.first_layer :] == 1.0)
    share = replace(ones, kind="fraction")
    assert simulate(TANH, nets=100, batch=batch, quantities=(share,), target_rel_error=0.2).reached_target
    with pytest.raises(ValueError, match="quantities whose truth may be 0 have no relative error"):
        simulate(TANH, nets=100, batch=batch, quantities=(ones,), target_rel_error=0.1)


@pytest.mark.parametrize(("sampler", "batch"), WAYS)
def test_histograms_of_derivatives_count_every_value(sampler: str, batch: int) -> None:
    result = simulate(
        RELU, nets=20, sampler=sampler, batch=batch, histograms={"derivative": (-0.5, 1.5, 2)},
        samples=("derivative_zero_fraction",),
    )  # fmt: skip
    _, counts = result.histograms["derivative"]
    values = 20 * batch * np.array(RELU.widths[1:])
    zeros = np.rint(result.samples["derivative_zero_fraction"][:, 1:].mean(axis=0) * values)
    assert np.array_equal(counts[1:], np.column_stack([0 * zeros, zeros, values - zeros, 0 * zeros]))
    assert not counts[0].any()


def many(x: float) -> object:
    return Network  # no number, and nothing that Numba knows


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: own(function=many), ValueError, "Numba cannot compile function of quantity 'activation_own': "),
        (
            lambda: own(function=math.sin),
            TypeError,
            "must be a Python function, such as lambda x: math.tanh(x), not <",
        ),
        (lambda: own(function=lambda x, y=1: x), ValueError, "must take 1 argument, not 2"),
        (lambda: own(function=np.sqrt), TypeError, "must be a Python function, such as"),
        (lambda: own(function=lambda x: None), ValueError, "must return a number or a truth value, not none"),
        (lambda: own(function=lambda x: (x, x)), ValueError, "must return a number or a truth value, not UniTuple"),
        (lambda: own(function=lambda x: x + 1j), ValueError, "must return a number or a truth value, not complex128"),
        (lambda: own(kind="fraction", function=lambda x: 5.0), ValueError, "is a fraction, from 0 to 1, but its"),
        (lambda: Quantity("activation", "own", "value", columns=(3,)), ValueError, "'activation_own' has no function"),
        (lambda: own(statistic="mean"), ValueError, "quantities: two quantities are called 'activation_mean'"),
        (lambda: own("weight"), ValueError, "unknown tensor of a quantity with a function 'weight'; known"),
        (lambda: own("weight_gradient"), ValueError, "unknown tensor of a quantity with a function 'weight_gradient'"),
        (lambda: own(kind="mean"), ValueError, "unknown kind of a quantity with a function 'mean'"),
        (lambda: own(statistic="two words"), ValueError, "two words"),
        (lambda: own("preactivation", whole=True), ValueError, "whole=True: pre-activations come in parts"),
        (lambda: own(function=None), ValueError, "quantity 'activation_own' needs a function"),
        (lambda: own(function=3), TypeError, "function of quantity 'activation_own' must be callable, not 3"),
        (
            lambda: own(whole=True, function=lambda v: v.max()),
            ValueError,
            "quantity 'activation_own' is of the whole matrix, and one sample of this network is drawn in parts",
        ),
    ],
)
def test_what_cannot_be_a_statistic_is_refused_in_one_line(
    make: Callable[[], Quantity], error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as caught:
        simulate(TANH, nets=1, sampler="matrix_free", quantities=(make(),))
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_two_functions_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="two quantities are called 'activation_own'"):
        simulate(TANH, nets=1, quantities=(own(), own(function=lambda x: 2 * x)))
    with pytest.raises(ValueError, match="two quantities are called 'activation_own'"):
        simulate(TANH, nets=1, quantities=(own(),), samples=(own(function=lambda x: 2 * x),))


def test_a_task_is_known_by_the_code_of_its_statistics() -> None:
    def identity(factor: float, **options: Any) -> str:
        return make_task(TANH, quantities=(own(function=lambda x: factor * x, **options),)).identity

    plain = make_task(TANH, quantities=("activation_mean",)).identity
    assert '"own"' not in plain and '"own"' not in make_task(TANH).identity
    assert make_task(TANH, quantities=(QUANTITIES["activation_mean"],)).identity == plain
    assert identity(2.0) == identity(2.0)
    assert len({identity(2.0), identity(3.0), identity(2.0, kind="fraction"), identity(2.0, statistic="other")}) == 4
    two = (own("activation", "gradient_size", function=size), own("activation_gradient", "size", function=size))
    assert two[0].name == two[1].name
    assert len({make_task(TANH, quantities=(each,)).identity for each in two}) == 2


FACTOR = 1.0


def times_factor(x: float) -> float:
    return FACTOR * x


def times_setting(x: float) -> float:
    scaled: float = settings.factor * x
    return scaled


settings = ModuleType("settings")


def test_what_a_function_refers_to_is_looked_at_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """A global that has changed changes the identity and the numbers, a module's too, and nobody else's."""
    monkeypatch.setattr(settings, "factor", 1.0, raising=False)
    changes: tuple[tuple[Callable[[float], float], Callable[[], None]], ...] = (
        (times_factor, lambda: monkeypatch.setitem(globals(), "FACTOR", 3.0)),
        (times_setting, lambda: monkeypatch.setattr(settings, "factor", 3.0)),
    )
    for function, change in changes:
        options: dict[str, Any] = {"quantities": (own("derivative", function=function),)}
        other = make_task(TANH, quantities=(own(function=lambda v: v * 1.0),)).identity
        before, first = make_task(TANH, **options).identity, simulate(TANH, nets=5, **options)
        change()
        after, second = make_task(TANH, **options).identity, simulate(TANH, nets=5, **options)
        assert before != after and make_task(TANH, quantities=(own(function=lambda v: v * 1.0),)).identity == other
        np.testing.assert_allclose(second.table["estimate"], 3.0 * first.table["estimate"], rtol=1e-12)


def at_least(bound: float) -> Callable[[float], bool]:
    return lambda x: x >= bound


def test_several_statistics_are_each_estimated() -> None:
    several = [own(statistic=f"at_least_{k}", kind="fraction", function=at_least(k / 9)) for k in range(9)]
    found = simulate(TANH, nets=20, quantities=several)
    shares = [found.estimates(each.name).estimate[1] for each in several]
    assert shares == sorted(shares, reverse=True) and shares[0] > 0.4 > 0.2 > shares[-1]


def test_many_statistics_are_no_deeper_than_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two by two: nested one in the other, forty went beyond what Python allows."""
    monkeypatch.setattr(statistics, "kernel", lambda *_, **__: lambda function: function)  # not compiled
    seen: list[int] = []
    levels: list[int] = []

    def part(number: int) -> Callable[..., None]:
        def see(*_: Any) -> None:
            seen.append(number)
            levels.append(len(inspect.stack(0)))

        return see

    statistics.compile_statistics([part(number) for number in range(45)], np.dtype("float64"))(*range(5))
    assert seen == list(range(45))
    assert max(levels) - len(inspect.stack(0)) == 8  # the last of 45, two by two: 6 pairs, and what is called


def test_an_index_outside_a_matrix_is_an_error() -> None:
    with pytest.raises(IndexError):
        simulate(TANH, nets=2, batch=2, quantities=[own(whole=True, function=lambda m: m[0, 10**6])])


def test_nets_without_a_finite_value_are_warned_of() -> None:
    rarely = own(function=lambda x: math.inf if x > 0.99 else 1.0)
    with pytest.warns(RuntimeWarning, match=r"^activation_own is not finite in up to \d+ of 30 nets, which are left"):
        simulate(TANH, nets=30, quantities=(rarely,))


def test_a_compiled_function_is_compiled_with_our_flags() -> None:
    given: Any = numba.njit(fastmath=True)(size)
    found, known = (simulate(TANH, nets=5, quantities=(own(function=each),)).table for each in (given, size))
    assert found.equals(known)


def test_a_plan_with_a_named_function_can_be_pickled_whatever_was_computed_of_it() -> None:
    plan = Plan(make_task(TANH, quantities=(own(function=size),)))
    (sums,) = plan.run([(0, 5)], 1)
    again = pickle.loads(pickle.dumps(Range(plan, 0, 5)))
    (same,) = again.plan.run([(0, 5)], 1)
    assert again.plan.task == plan.task
    assert {name: array.tobytes() for name, array in sums.to_arrays().items()} == {
        name: array.tobytes() for name, array in same.to_arrays().items()
    }


# --- entries of registries ---------------------------------------------------------------------------


def test_a_function_in_the_registry_is_asked_for_with_all(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    of_values = own(statistic="mean_size", meaning="mean size")
    whole = own(statistic="largest", meaning="largest size", whole=True, function=lambda v: np.max(np.abs(v)))
    for quantity in (of_values, whole):
        monkeypatch.setitem(QUANTITIES, quantity.name, quantity)
    assert "mean size" in call("list", "quantities")[1]
    assert of_values in select(None, 1) and whole not in select(None, 1) and whole in select(None, 2)
    arguments = ("simulate", "--widths", "3,3", "--activation", "relu", "--weights", "he_normal", "--nets", "4")
    for sampler in NAMES:  # one sample in parts is simulated all the same
        status, out, _ = call(*arguments, "--sampler", sampler)
        assert status == 0 and "activation_mean_size" in out and "activation_largest" not in out
    assert "activation_largest" in call(*arguments, "--batch", "2")[1]
    status, _, err = call(*arguments, "--quantities", "activation_largest")
    assert (status, err.count("\n")) == (2, 1) and "needs batch >= 2" in err


class Narrow(Sampler):
    """The dense sampler for narrow nets."""

    def refuses(self, task: Any) -> str:
        return super().refuses(task) if max(task.network.widths) <= 16 else "takes widths up to 16"


def test_another_sampler_is_one_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    narrow = Narrow(**(vars(dense.SAMPLER) | {"name": "narrow"}))
    monkeypatch.setattr("stabsim.samplers.SAMPLERS", (*SAMPLERS, narrow))
    monkeypatch.setattr("stabsim.arguments.CHOICES", ("auto", *NAMES, "narrow"))
    network = Network((16, 8), "relu", "he_normal")
    one, other = (simulate(network, nets=20, sampler=name) for name in ("narrow", "dense"))
    assert one.table.equals(other.table) and one.task != other.task
    with pytest.raises(ValueError, match="sampler='narrow' takes widths up to 16"):
        simulate(Network((17, 8), "relu", "he_normal"), nets=1, sampler="narrow")
    monkeypatch.setattr("stabsim.samplers.SAMPLERS", (replace(dense.SAMPLER, name="narrow"),))
    with pytest.raises(ValueError, match="with sampler='narrow' and precision='float32', not"):
        make_task(Network((2**20, 2**20), "relu", "he_normal"), sampler="narrow")


# --- a study of one's own ----------------------------------------------------------------------------

STUDY = '''
"""Large values with depth: a statistic and a study from outside the package."""

from stabsim.arguments import make_task
from stabsim.figures import against_depth, panels
from stabsim.network import Network
from stabsim.quantities import Quantity
from stabsim.study import Case, Drawing, Study
from stabsim.verdicts import judge, pick, select

LARGE = Quantity("activation", "share_above_one", "fraction", function=lambda x: abs(x) > 1.0)
SQUARE = "activation_mean_square"


def cases(scale):
    for weights in ("he_normal", "glorot_normal"):
        task = make_task(Network((20,) * 6, "linear", weights), quantities=(SQUARE, LARGE))
        yield Case(task, {"quick": 3000, "paper": 10_000}[scale], {"weights": weights})


def draw(collected):
    figure, axes = panels()
    table = select(collected.table, quantity=LARGE.name)
    against_depth(axes[0, 0], table, by="weights", ylabel=LARGE.name)
    yield Drawing(figure, table)


def verdicts(collected):
    row = pick(collected.table, layer=5, weights="glorot_normal", quantity=SQUARE)
    yield judge("B08", row, row.ci_low < row.theory < row.ci_high, "mean square of the last layer")


study = Study(name="large", title="Large values", cases=cases, draw=draw, claims=("B08",), verdicts=verdicts)
'''


def test_a_study_of_ones_own_is_run_drawn_and_judged(call: Call) -> None:
    Path("studies/large.py").write_text(STUDY)
    Path("studies/tiny.py").unlink()
    assert call("list", "studies")[1] == "studies:\n  large  Large values [B08]\n"
    status, out, err = call("run", "large")
    assert (
        status == 0 and "large: 2 of 2 chunks to simulate" in out and "B08  holds: " in out and "Traceback" not in err
    )
    assert {path.suffix for path in Path("figures").glob("large.*")} == {".png", ".pdf", ".svg", ".csv"}
    assert "activation_share_above_one" in Path("figures/large.csv").read_text()
    assert "nothing is simulated" in call("run", "large")[1]
    assert call("verify")[0] == 0
    status, out, _ = call("claims", "B08", "--out", ".")
    assert status == 0 and out.startswith("B08  holds  large  quick  ")
    path = Path("studies/large.py")
    path.write_text(path.read_text().replace("> 1.0)", "> 2.0)"))
    shutil.rmtree("studies/__pycache__", ignore_errors=True)  # of the same second and size
    assert "2 of 2 chunks missing" in call("run", "large", "--dry-run")[1]


# --- what is told by hand ----------------------------------------------------------------------------


def test_documents_count_what_there_is() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs" / f"{name}.md" for name in ("features", "gotchas"))]
    text = " ".join(" ".join(page.read_text().split()) for page in pages)
    for words, number in (
        (r"\*\*(\d+) quantities\*\*", len(QUANTITIES)),
        (r"with one sample there are (\d+) quantities", len(select(None, 1))),
        (r"\*\*(\d+) activations", len(ACTIVATIONS)),
        (r"limit for all (\d+) activations", len(ACTIVATIONS)),
        (r"activations, (\d+) initializers\*\*", len(INITIALIZERS)),
        (r"lists (\d+) statements", len(statements())),
    ):
        assert set(re.findall(words, text)) == {str(number)}, words


@pytest.mark.parametrize(
    "document", sorted(["README.md", *(str(page.relative_to(ROOT)) for page in (ROOT / "docs").rglob("*.md"))])
)
def test_files_that_documents_name_are_there(document: str) -> None:
    named = re.findall(r"`((?:stabsim|tests|studies|benchmarks|data|docs)/[\w./]*)`", (ROOT / document).read_text())
    assert not [path for path in named if not (ROOT / path).exists()]


@pytest.mark.parametrize("kind", ["samplers", "engines", "activations", "initializers", "quantities", "datasets"])
def test_the_list_has_every_entry(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    known = {
        "samplers": NAMES, "engines": ENGINES, "activations": ACTIVATIONS, "initializers": INITIALIZERS,
        "quantities": QUANTITIES, "datasets": DATASETS,
    }  # fmt: skip
    with pytest.raises(SystemExit):
        main(["list", kind])
    told = capsys.readouterr().out
    assert all(re.search(rf"^  {name}\b", told, re.MULTILINE) for name in known[kind])
