"""The ledger of claims: what is read is checked, what is written is read back, and no verdict is typed in."""

from __future__ import annotations

import ast
import dataclasses
import json
import math
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import hypothesis
import hypothesis.strategies as st
import pandas
import pytest

from stabsim import ledger
from stabsim.activations import Activation
from stabsim.cli import main
from stabsim.cli.warmup import STUDIED
from stabsim.collect import collect
from stabsim.discovery import files, load
from stabsim.figures import panel_labels, panels, style
from stabsim.ledger import (
    COLUMNS,
    NOT_TESTED,
    Entry,
    LedgerError,
    by_claim,
    check_claims,
    of_runs,
    read_ledger,
    read_verdicts,
    shipped,
    statements,
    table,
    write_ledger,
)
from stabsim.measuring import Cost
from stabsim.outputs import save_verdicts
from stabsim.samplers import sampler_of
from stabsim.store import Store
from stabsim.study import Collected, Drawing, Study, Verdict
from tests.test_cli import start

ROOT = Path(__file__).parent.parent
COMMITTED = ROOT / "data" / "claims.csv"
STUDIES = sorted((ROOT / "studies").glob("[!_]*.py"))

A17 = Verdict("A17", "holds when the net is narrow", 0.875, 0.1 + 0.2, 1 - 1e-16, 0.88134765625, 'share "of" zeros, α')
B06 = Verdict("B06", "holds", 1.0, 0.95, 1.05, 1.0, "mean square")
FAILS = Verdict("B06", "fails", -5e-324, math.nan, 1e300, note="two\nlines")


def save(out: Path, study: str, verdicts: Iterable[Verdict], scale: str = "quick") -> Path:
    path = out / "results" / study / "verdicts.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    save_verdicts(Study(study, "", lambda scale: [], lambda _: []), verdicts, scale, 0, path)
    return path


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Return an output folder with the verdicts of two studies."""
    save(tmp_path, "zeros", [A17, B06])
    save(tmp_path, "chains", [FAILS], "paper")
    return tmp_path


Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """Run ``stabsim claims``; return exit status, output and errors."""

    def run(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as caught:
            main(["claims", *map(str, arguments)])
        captured = capsys.readouterr()
        return int(caught.value.code or 0), captured.out, captured.err

    return run


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Pretend that the package is elsewhere, without a ledger; return where its ledger would be."""
    statements()  # kept from now on
    (tmp_path / "package" / "data").mkdir(parents=True)
    monkeypatch.setattr(ledger, "_PACKAGE", tmp_path / "package")
    return tmp_path / "package" / "data" / "claims.csv"


# --- statements and the claims of studies -------------------------------------------------------------


def test_statements_are_numbered_without_gaps_and_plain() -> None:
    letters = Counter(claim[0] for claim in statements())
    assert list(letters) == sorted(letters)
    assert list(statements()) == [f"{letter}{n:02d}" for letter, most in letters.items() for n in range(1, most + 1)]
    for statement in statements().values():
        assert statement == " ".join(statement.split()) and not re.search(r"[`|]|\*\*", statement)
    assert len(set(statements().values())) == len(statements())


def test_an_unknown_claim_is_one_line_with_the_nearest_first() -> None:
    check_claims(statements())
    with pytest.raises(ValueError, match=r"^unknown claim 'B6'; known, nearest first: B06, [^\n]*$"):
        check_claims(["A01", "B6"])
    with pytest.raises(ValueError, match="unknown claim 'F01'"):
        Entry("tiny", "quick", dataclasses.replace(B06, claim="F01"))
    with pytest.raises(ValueError, match="unknown scale 'big'"):
        Entry("tiny", "big", B06)


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_claims_of_a_study_are_statements_and_named_once(path: Path) -> None:
    claims = list(load(path).claims)
    check_claims(claims)
    assert len(set(claims)) == len(claims)


# --- verdicts that are read ----------------------------------------------------------------------------


def test_every_claim_has_a_row_and_every_verdict(out: Path) -> None:
    found = table(of_runs(out))
    assert tuple(found.columns) == COLUMNS
    assert list(found["claim"]) == sorted([*statements(), "B06"])
    assert list(found["statement"]) == [statements()[claim] for claim in found["claim"]]
    tested = found[found["verdict"] != NOT_TESTED]
    assert list(zip(tested["claim"], tested["study"], tested["scale"], tested["verdict"], strict=True)) == [
        ("A17", "zeros", "quick", "holds when the net is narrow"),
        ("B06", "chains", "paper", "fails"),
        ("B06", "zeros", "quick", "holds"),
    ]
    assert tested["estimate"].tolist() == [0.875, -5e-324, 1.0] and tested["note"].iloc[1] == FAILS.note
    untested = found[found["verdict"] == NOT_TESTED]
    assert len(untested) == len(statements()) - 2
    assert (untested[["study", "scale", "note"]] == "").all(axis=None)
    assert untested[["estimate", "ci_low", "ci_high", "theory"]].isna().all(axis=None)


Change = Callable[[dict[str, Any]], Any]


def _first(**values: Any) -> Change:
    return lambda held: held | {"verdicts": [held["verdicts"][0] | values]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_first(claim="X01"), "unknown claim 'X01'; known, nearest first: "),
        (_first(claim=["A17"]), r"claim must be a text, not \['A17'\]"),
        (_first(verdict="perhaps"), "verdict must be 'holds', 'holds when ...' or 'fails', not 'perhaps'"),
        (_first(estimate="1.0"), "estimate must be a number or null, not '1.0'"),
        (_first(theory=True), "theory must be a number or null, not True"),
        (lambda held: held | {"verdicts": [{"claim": "A17"}]}, "verdict, estimate, ci_low, .* is missing"),
        (lambda held: held | {"verdicts": ["A17"]}, "an object with claim, .* is wanted, not 'A17'"),
        (lambda held: held | {"verdicts": {}}, "its verdicts are no list"),
        (lambda held: held | {"scale": "huge"}, "unknown scale 'huge'"),
        (lambda held: held | {"study": "chains"}, "it is of study 'chains'"),
        (lambda held: {"verdicts": held["verdicts"]}, "study, scale is missing"),
        (lambda held: [held], "an object with study, scale, verdicts is wanted"),
    ],
)
def test_verdicts_of_another_version_are_named_in_one_line(out: Path, call: Call, change: Change, message: str) -> None:
    path = out / "results" / "zeros" / "verdicts.json"
    assert len(read_verdicts(path)) == 2
    held = json.loads(path.read_text())
    del held["sha256"]
    path.write_text(json.dumps(change(held)))
    with pytest.raises(LedgerError, match=message) as caught:
        read_verdicts(path)
    status, printed, err = call("--out", out)
    assert (status, printed, err) == (1, "", f"stabsim claims: {caught.value}\n") and str(path) in err


def test_an_edited_number_of_sealed_verdicts_is_named(out: Path) -> None:
    path = out / "results" / "zeros" / "verdicts.json"
    path.write_text(path.read_text().replace("0.875", "0.876"))
    assert "zeros/verdicts.json cannot be used: damaged or edited" in _problem(path)


@hypothesis.given(st.data())
def test_damaged_verdicts_are_named_in_one_line_or_still_valid(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = save(tmp_path_factory.getbasetemp() / "damaged", "zeros", [A17, FAILS])
    whole = path.read_bytes()
    first = data.draw(st.integers(0, len(whole) - 1))
    path.write_bytes(whole[:first] + data.draw(st.binary(max_size=3)) + whole[first + data.draw(st.integers(0, 50)) :])
    assert _problem(path).count("\n") == 0


def _problem(path: Path) -> str:
    """Return what is said of a file of verdicts; any other error is raised."""
    try:
        read_verdicts(path)
    except LedgerError as error:
        return str(error)
    return ""


def test_verdicts_of_any_depth_or_length_are_named_in_a_short_line(out: Path) -> None:
    path = next(iter(sorted(out.glob("results/*/verdicts.json"))))
    document = json.loads(path.read_text())
    long = [
        {"study": "x" * 5000},
        {"verdicts": [{"claim": "x" * 5000}]},
        {"verdicts": [document["verdicts"][0] | {"note": [1] * 5000}]},
    ]
    for text in ("[" * 100_000, *(json.dumps(document | change) for change in long)):
        path.write_text(text)
        with pytest.raises(LedgerError, match=r"verdicts\.json cannot be used") as caught:
            read_verdicts(path)
        assert len(str(caught.value)) < 500 and "\n" not in str(caught.value)


def test_a_folder_without_verdicts_is_named(tmp_path: Path, call: Call) -> None:
    status, printed, err = call("--out", tmp_path)
    assert (status, printed) == (1, "") and err.count("\n") == 1
    assert f"there is no {tmp_path}/results/*/verdicts.json: stabsim run writes them" in err
    (tmp_path / "results" / "zeros" / "verdicts.json").mkdir(parents=True)
    assert "verdicts.json cannot be read: Is a directory" in call("--out", tmp_path)[2]


# --- the ledger as a file ------------------------------------------------------------------------------


def test_a_written_ledger_is_read_back_exactly_and_has_the_same_bytes(tmp_path: Path) -> None:
    odd = dataclasses.replace(FAILS, note="\u2028 two\nlines\r\n\x0b")
    entries = [Entry("zeros", "quick", A17), Entry("chains", "paper", odd), Entry("zeros", "paper", B06)]
    write_ledger(by_claim(entries), tmp_path / "claims.csv")
    held = read_ledger(tmp_path / "claims.csv")
    assert repr(held) == repr(entries)  # to the last bit; nan is like nan
    written = (tmp_path / "claims.csv").read_bytes()
    assert b"0.30000000000000004,0.9999999999999999," in written
    write_ledger(by_claim(held[::-1]), tmp_path / "again.csv")
    assert (tmp_path / "again.csv").read_bytes() == written


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("claim,", "claims,", "line 1: its columns must be claim, statement, study"),
        ("\nA02,", "\nA02,,", "line 3: 10 fields are wanted"),
        (",0.875,", ",", "line 18: 10 fields are wanted"),
        (",0.875,", ",0.8.7,", "line 18: could not convert string to float: '0.8.7'"),
        (",holds when", ",seldom when", "line 18: verdict must be 'holds'"),
        ("\nA17,", "\na17,", "line 18: unknown claim 'a17'; known, nearest first: A17,"),
        (",quick,", ",huge,", "line 18: unknown scale 'huge'"),
        ('"share', 'share"" "', "line 18: "),
    ],
)
def test_a_damaged_ledger_is_named_with_the_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = tmp_path / "claims.csv"
    write_ledger(by_claim([Entry("zeros", "quick", A17)]), path)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(LedgerError, match=re.escape(f"{path} cannot be used: {message}")) as caught:
        read_ledger(path)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(not COMMITTED.exists(), reason="no ledger of paper-scale runs is committed yet: make ledger")
def test_the_committed_ledger_is_of_paper_scale_and_of_claims_that_the_studies_test(tmp_path: Path) -> None:
    entries = read_ledger(COMMITTED)
    assert entries and {entry.scale for entry in entries} == {"paper"}
    claims = {path.stem: load(path).claims for path in STUDIES}
    for entry in entries:
        assert entry.verdict.claim in claims.get(entry.study, ()), entry
    write_ledger(by_claim(entries), tmp_path / "claims.csv")
    assert (tmp_path / "claims.csv").read_bytes() == COMMITTED.read_bytes()


# --- the command ---------------------------------------------------------------------------------------


def test_claims_are_printed_with_verdicts_numbers_statements_and_notes(out: Path, call: Call) -> None:
    status, printed, err = call("B06", "A17", "A03", "--out", out)
    assert (status, err) == (0, "")
    assert printed.splitlines() == [
        "A03  not tested yet",
        "     dW is the mean of N rank-1 matrices; with N = 1 its rank is 1.",
        "A17  holds when the net is narrow",
        "            zeros   quick  0.875 [0.3, 1], theory 0.881348",
        "     In ReLU nets the share of zeros in f grows with depth; after 6 layers more than half are 0.",
        '       zeros: share "of" zeros, α',
        "B06  fails  chains  paper  -4.94066e-324 [nan, 1e+300]",
        "     holds  zeros   quick  1 [0.95, 1.05], theory 1",
        "     Forward, linear layer: E h = 0, Var h_t = n_(t-1) gamma_t Var h_(t-1); constant iff n_(t-1)",
        "     gamma_t = 1.",
        "       chains: two lines",
        "       zeros: mean square",
        "3 claims, 3 verdicts: 1 holds, 1 holds when, 1 fails; 1 not tested yet",
    ]


def test_letters_and_untested_choose_claims(out: Path, call: Call) -> None:
    def ids(*arguments: str) -> list[str]:
        status, printed, _ = call(*arguments, "--out", out)
        assert status == 0 and all(len(line) <= 100 for line in printed.splitlines())
        return [line[:3] for line in printed.splitlines()[:-1] if line[0] != " "]

    assert ids() == list(statements())
    assert ids("B", "A17", "B06") == ["A17", *(claim for claim in statements() if claim[0] == "B")]
    assert ids("--untested") == [claim for claim in statements() if claim not in {"A17", "B06"}]
    assert ids("--untested", "A17") == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a17"], "unknown claim 'a17'; known, nearest first: A17,"),
        (["F"], "unknown claim 'F'; known, nearest first: "),
        (["--out", "nowhere"], "'--out': Directory 'nowhere' does not exist"),
        (["--scale", "huge"], "'huge' is not one of 'quick', 'paper'"),
        (["--csv", "/"], "File '/' is a directory"),
        (["--untestd"], "unknown option '--untestd'; known, nearest first: --untested"),
    ],
)
def test_bad_usage_is_one_line_and_status_2(call: Call, arguments: list[str], message: str) -> None:
    status, printed, err = call(*arguments)
    assert (status, printed, err.count("\n")) == (2, "", 1)
    assert message in err and err.startswith("stabsim claims: ")


def test_the_table_is_written_and_scales_are_not_mixed(out: Path, call: Call) -> None:
    path = out / "claims.csv"
    status, printed, _ = call("B06", "--out", out, "--csv", path)
    assert status == 0 and printed.endswith(f"the table is in {path}\n")
    assert pandas.read_csv(path)["study"].tolist() == ["chains", "zeros"]
    path.unlink()
    refused = call("--out", out, "--csv", path, "--scale", "paper")
    assert refused == (
        1,
        "",
        "stabsim claims: not of scale paper: zeros; stabsim run NAME --scale paper makes them so\n",
    )
    assert not path.exists()
    save(out, "zeros", [A17], "paper")
    assert call("--out", out, "--csv", path, "--scale", "paper")[0] == 0
    assert {entry.scale for entry in read_ledger(path)} == {"paper"}
    status, _, err = call("--out", out, "--csv", out / "no" / "claims.csv")
    assert status == 1 and f"--csv={out}/no/claims.csv cannot be written: " in err and err.count("\n") == 1


def test_without_out_the_ledger_of_the_package_is_shown(
    package: Path, out: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(out)
    status, printed, err = call()
    assert (status, printed) == (1, "") and err.count("\n") == 1
    assert f"there is no {package}: this version comes without a ledger of its own" in err
    write_ledger(by_claim([Entry("widths", "paper", B06)]), package)
    assert shipped()["B06"] == [Entry("widths", "paper", B06)]
    assert "widths  paper" in call("B06")[1] and "chains  paper" not in call("B06")[1]
    before = package.read_bytes()
    assert call("--scale", "paper", "--csv", package)[0] == 0 and package.read_bytes() == before


def test_output_that_nobody_reads_is_no_error(out: Path) -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    with os.fdopen(theirs, "w") as pipe, start("claims", "--out", str(out), stdout=pipe) as process:
        _, err = process.communicate()
    assert (process.returncode, err) == (1, "")


# --- every study draws, and its verdicts are computed, never typed in -----------------------------------

# Nets a case, as many as the rules of the study need to tell right from wrong.
NETS = {
    "activation_histograms": 8,
    "activation_training": 8,
    "batch_norm": 4,
    "covariate_shift": 8,
    "batch_norm_training": 8,
    "clipping_training": 8,
    "dying_relu": 1000,
    "finite_width": 1000,
    "float_formats": 8,
    "gains": 64,
    "gradient_causes": 24,
    "gradient_clipping": 24,
    "half_precision_training": 8,
    "hessian_index": 8,
    "information_blocking": 64,
    "initializers": 8,
    "layer_speeds": 64,
    "loss_surface": 8,
    "jacobian_spectrum": 8,
    "mean_field": 8,
    "momentum_overshoot": 64,
    "optimizer_bowl": 64,
    "optimizer_mnist": 6,
    "plateau": 64,
    "rank": 24,
    "recurrent": 64,
    "residual": 64,
    "saddle_escape": 1000,
    "saddle_probability": 8,
    "scalar_chain": 1000,
    "symmetry": 8,
    "variance_propagation": 1000,
    "weight_scale": 8,
    "width_scaling": 64,
    "zero_fractions": 64,
    "zero_gradients": 5000,
    "zigzag": 100,
}
# Less of what a study measures, where its rules can do with less: what is else at quick scale in a table of its module,
# or fields and keys of that.
LESS: dict[str, dict[str, Any]] = {
    "activation_training": {"GRID": (2, 20, (0.03, 0.3)), "SPEED": (4, 40), "DEATHS": (8, 120, 4)},
    "batch_norm_training": {"EFFORT": {"samples": 2500}},
    "clipping_training": {
        "EFFORT": {"samples": 1000, "nets": 2, "steps": 20, "bounded": 2, "until": 10, "saved": 2, "few": 10}
    },
    "dying_relu": {"TRACED": 60},
    "half_precision_training": {"WINDOW": (6, 100, (-5, -3, -2, -1, 1)), "VANISHED": (4, 200)},
    "hessian_index": {
        "FIELDS": 10,
        "STEPS": 75,
        "MINIMIZING": {"gradient_descent": 250, "l_bfgs": 500, "newton_cg": 100},
    },
    "information_blocking": {"CONSTRUCTED": 200, "TRACED": 100},
    "jacobian_spectrum": {"NETS": {"wide": 2, "one": 60}, "WIDTHS": 80},
    "loss_surface": {"PLANES": 4, "RESOLUTION": 9, "SAMPLES": 64},
    "momentum_overshoot": {"EFFORT": {"nets": 50, "momenta": 20}},
    "optimizer_mnist": {"EFFORT": {"steps": 201, "others": 2}},
    "symmetry": {"NETS": 8},
    "weight_scale": {"NETS": {"trained": 2}},
    "zigzag": {"TRAINED": 30, "SETS": 6},
}
NONSENSE: tuple[Callable[[Any], Any], ...] = (lambda x: 3 * x + 1, lambda x: 2 - 3 * x)


def falsified(collected: Collected, change: Callable[[Any], Any]) -> Collected:
    """Change every estimate and its interval, those that were measured too."""

    def changed(found: pandas.DataFrame) -> pandas.DataFrame:
        ends = change(found[["ci_low", "ci_high"]])
        return found.assign(estimate=change(found["estimate"]), ci_low=ends.min(axis=1), ci_high=ends.max(axis=1))

    measured = collected.measurements
    estimated = measured is not None and "estimate" in measured  # costs are not
    copy = dataclasses.replace(collected, measurements=changed(collected.measured) if estimated else measured)
    vars(copy)["table"] = changed(collected.table)  # in place of the cached property
    return copy


def typed_in(study: Study, collected: Collected) -> list[str]:
    """Return the claims whose verdicts say the same, but for numbers, whatever estimates and values of activations are.

    Numbers in conditions are not compared, since these change in verdicts that are typed in, too.
    """
    honest = study.checked_verdicts(collected)
    unchanged = set(range(len(honest)))
    evaluate = Activation.evaluate
    for change in NONSENSE:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Activation, "evaluate", lambda *given, change=change: change(evaluate(*given)))
            wrong = study.checked_verdicts(falsified(collected, change))
        same = (words(a.verdict) == words(b.verdict) for a, b in zip(honest, wrong, strict=True))
        unchanged &= {place for place, alike in enumerate(same) if alike}
    return [honest[place].claim for place in sorted(unchanged)]


def words(verdict: str) -> list[str]:
    """Return a verdict without its numbers."""
    return [word for word in verdict.split() if not any(letter.isdigit() for letter in word)]


def test_every_study_is_run_here() -> None:
    assert NETS.keys() == files().keys()


def small_run(name: str, folder: Path) -> tuple[Study, Collected]:
    """Return a study with what is collected of few nets; what it measures of this machine is made up."""
    study = load(files()[name])
    module = vars(sys.modules[study.cases.__module__])
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(module, "cost_of_net", lambda _, *size: Cost(*map(float, size)))
        for table, less in LESS.get(name, {}).items():
            patch.setitem(module[table], "quick", _less(module[table]["quick"], less))
        cases = [dataclasses.replace(case, nets=min(case.nets, NETS[name])) for case in study.checked_cases("quick")]
        for case in cases:
            assert sampler_of(case.task).kernel.__name__ in STUDIED[case.task.dtype.name]
        with Store(folder) as store:
            collected = collect(cases, store, 2, lambda *_: None)
        if study.measure is not None:
            collected = dataclasses.replace(collected, measurements=study.measure("quick"))
    return study, collected


def _less(effort: Any, less: Any) -> Any:
    """Return an effort with less: all of it, or some fields or keys."""
    if not isinstance(less, dict):
        return less
    assert less.keys() <= (effort.keys() if isinstance(effort, dict) else set(effort._fields))
    return effort | less if isinstance(effort, dict) else effort._replace(**less)


def faults_of_caption(drawing: Drawing) -> list[str]:
    """Return what the caption of a figure lacks or has too much of: words, an end, plain text, panels."""
    caption = drawing.caption
    axes = [panel for panel in drawing.figure.axes if panel.get_title(loc="left").startswith(r"$\bf{(")]
    labels = [panel.get_title(loc="left").removeprefix(r"$\bf{(")[0] for panel in axes]
    named = set(re.findall(r"\(([a-l])\)", caption))
    for first, last in re.findall(r"\(([a-l])\)–\(([a-l])\)", caption):
        named |= {chr(code) for code in range(ord(first), ord(last) + 1)}
    found = {
        "length": 20 <= len(caption.split()) <= 160,
        "end": caption.endswith("."),
        "plain text": not re.search(r"[$<>{}\\\n]|  |\bnan\b", caption),
        "panels": named == set(labels),
    }
    return [fault for fault, well in found.items() if not well]


def test_faults_of_captions_are_found() -> None:
    with style():
        figure, axes = panels(columns=3)
        panel_labels(axes.flat, ["x", "y", "z"])
    words = "Norms of signals, and of gradients, against depth, by activation, of nets as wide as they are deep: "
    faults = {
        words + "(a) x, (b) y, (c) z.": [],
        words + "(a)–(c) x, y, z.": [],
        words + "(a) x, (c) z.": ["panels"],
        words + "(a)–(c) x, y, z, (d) none.": ["panels"],
        words + "(a) $x$, (b) y, (c) z": ["end", "plain text"],
        "(a) x, (b) y, (c) z.": ["length"],
        "": ["length", "end", "panels"],
    }
    for caption, expected in faults.items():
        assert faults_of_caption(Drawing(figure, pandas.DataFrame(), caption=caption)) == expected


def assert_draws(study: Study, collected: Collected) -> None:
    """Fail unless the study has figures, each with rows and a layout, under names of their own."""
    with style():
        drawings = list(study.draw(collected))
        for drawing in drawings:
            drawing.figure.draw_without_rendering()  # a third of the time that its files take
            assert len(drawing.table) > 0
            assert faults_of_caption(drawing) == []
    assert len({drawing.part for drawing in drawings}) == len(drawings) > 0


@pytest.mark.parametrize("name", NETS)
def test_every_study_draws_and_its_verdicts_change_with_what_they_are_told(name: str, tmp_path: Path) -> None:
    study, collected = small_run(name, tmp_path)
    assert_draws(study, collected)
    assert typed_in(study, collected) == []


def test_a_typed_in_verdict_is_found() -> None:
    collected = Collected(())
    vars(collected)["table"] = pandas.DataFrame({"estimate": [1.0], "ci_low": [0.9], "ci_high": [1.1]})

    def verdicts(found: Collected) -> Iterable[Verdict]:
        row: Any = next(found.table.itertuples())
        numbers = row.estimate, row.ci_low, row.ci_high
        yield Verdict("B06", "holds" if row.ci_low < 1 < row.ci_high else "fails", *numbers)
        yield Verdict("B07", "holds", *numbers)
        yield Verdict("B08", f"holds when it is {row.estimate}", *numbers)

    made = Study("tiny", "", lambda scale: [], lambda _: [], ("B06", "B07", "B08"), verdicts)
    assert typed_in(made, collected) == ["B07", "B08"]


def typed_in_lines(source: str) -> list[int]:
    """Return the lines of calls of Verdict or judge that are told what to say: no name is in what decides."""
    lines = []
    for node in ast.walk(ast.parse(source)):
        place = {"Verdict": (1, "verdict"), "judge": (2, "holds")}.get(_called(node))
        if place is not None:
            assert isinstance(node, ast.Call)
            named = [keyword.value for keyword in node.keywords if keyword.arg == place[1]]
            (decides,) = named or node.args[place[0] : place[0] + 1]
            if not any(isinstance(each, ast.Name) for each in ast.walk(decides)):
                lines.append(node.lineno)
    return lines


def _called(node: ast.AST) -> str:
    return node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_no_study_types_a_verdict_in(path: Path) -> None:
    assert typed_in_lines(path.read_text()) == []


@pytest.mark.parametrize(
    ("call", "found"),
    [
        ("Verdict(claim, 'holds', 1.0, low, high)", [1]),
        ("Verdict(claim, estimate=x, verdict='fails')", [1]),
        ("Verdict(claim, 'holds' if 2 > 1 else 'fails', 1.0, low, high)", [1]),
        ("Verdict(claim, 'holds' if x > 1 else 'fails', 1.0, low, high)", []),
        ("judge(claim, row, True, note)", [1]),
        ("judge(claim, row, note=note, holds=not False)", [1]),
        ("judge(claim, row, z < 5 and right, note)", []),
        ("judges(claim, row, True, note)", []),
    ],
)
def test_typed_in_lines_are_found(call: str, found: list[int]) -> None:
    assert typed_in_lines(call) == found
