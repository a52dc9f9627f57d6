"""Studies: what is declared is checked, collected whole whatever interrupts it, and found by file."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pandas
import pytest
from matplotlib.figure import Figure

from stabsim.arguments import make_task
from stabsim.chunk import StoreError
from stabsim.collect import Gathering, Report, collect, progress
from stabsim.discovery import StudyError, calling, files, load
from stabsim.measuring import cost_of_net
from stabsim.network import Network
from stabsim.outputs import measurements_file, read_measurements, save_figures, save_verdicts
from stabsim.result import Result
from stabsim.running import Listener, run_study
from stabsim.sealing import sealed_table
from stabsim.simulation import simulate
from stabsim.store import Store
from stabsim.study import Case, Collected, Drawing, Study, Verdict
from stabsim.task import Task
from stabsim.work import Work
from tests.test_store import tree

QUANTITIES = ("activation_log10_norm", "activation_mean_square")


def task(**options: object) -> Task:
    network = Network((4, 4, 4), "relu", "he_normal")
    return make_task(network, **{"quantities": QUANTITIES, **options})  # type: ignore[arg-type]


def quiet(label: str, done: int, wanted: int, current: Callable[[], Result | None]) -> None:
    assert done <= wanted


def nothing(_: Collected) -> list[Drawing]:
    return []


def study(cases: Iterable[Case] = (), **options: object) -> Study:
    return Study("tiny", "A tiny study", lambda scale: cases, nothing, **options)  # type: ignore[arg-type]


# --- declarations ------------------------------------------------------------------------------------


def test_seed_of_a_case_follows_from_the_run_and_the_task_alone() -> None:
    cases = Case(task(), 10, {"a": 1}), Case(task(batch=2), 10, {"a": 2})
    first, second = study(cases).checked_cases("quick", seed=3)
    assert study(cases[::-1]).checked_cases("quick", seed=3) == (second, first)
    more = Case(task(), 20, {"a": "another tag"})
    others = [*study(cases).checked_cases("quick", seed=4), Case(task(seed=1), 10).seeded(3)]
    seeds = {case.task.seed for case in (first, second, *others)}
    assert len(seeds) == 5 and more.seeded(3).task.seed == first.task.seed


@pytest.mark.parametrize(
    ("cases", "message"),
    [
        ([], "has no cases at scale 'quick'"),
        ([Case(task(), 1, {"a": 1}), Case(task(), 1, {"b": 1})], "must have the same tags"),
        ([Case(task(), 1, {"a": 1}), Case(task(), 2, {"a": 1})], "two cases of study 'tiny' have the tags"),
    ],
)
def test_cases_that_cannot_be_told_apart(cases: list[Case], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        study(cases).checked_cases("quick")


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="unknown scale 'big'; known"):
        study([Case(task(), 1)]).checked_cases("big")
    with pytest.raises(ValueError, match="nets must be an integer from 1 to"):
        Case(task(), 0)
    with pytest.raises(TypeError, match="task must be a Task"):
        Case(task().network, 1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="tag 'a'=None"):
        Case(task(), 1, {"a": None})  # type: ignore[dict-item]
    with pytest.raises(ValueError, match="small letters"):
        Study("No Name", "", lambda scale: [], nothing)
    with pytest.raises(TypeError, match="a sequence of ids"):
        Study("tiny", "", lambda scale: [], nothing, claims="B06")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"claim": 6}, "claim must be a str, not 6"),
        ({"note": "\udc80"}, "note must be a text that UTF-8 can hold"),
        ({"verdict": None}, "verdict must be a str, not None"),
        ({"estimate": "1"}, "estimate of a verdict must be a number, not '1'"),
        ({"ci_low": True}, "ci_low of a verdict must be a number, not True"),
        ({"theory": 10**400}, "theory of a verdict must be a number, not 1000"),
    ],
)
def test_parts_of_a_verdict_of_another_kind_are_refused(change: dict[str, Any], message: str) -> None:
    found: dict[str, Any] = {"claim": "B06", "verdict": "holds", "estimate": 1.0, "ci_low": 0.9, "ci_high": 1.1}
    with pytest.raises((TypeError, ValueError), match=message):
        Verdict(**found | change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": 3}, "name of a study must be up to 100 small letters"),
        ({"name": "x" * 101}, "name of a study must be up to 100 small letters"),
        ({"title": None}, "title must be a str"),
        ({"claims": 3}, "claims must be a sequence of ids, not 3"),
        ({"claims": (3,)}, "claims must be a sequence of ids"),
        ({"draw": None}, "draw of study 'tiny' must be callable, not None"),
        ({"cases": lambda _: None}, "cases of study 'tiny' must give each Case, not None"),
        ({"cases": lambda _: [1]}, "cases of study 'tiny': 1 is no Case"),
        ({"verdicts": lambda _: None}, "verdicts of study 'tiny' must give each Verdict, not None"),
        ({"verdicts": lambda _: ["holds"]}, "verdicts of study 'tiny': 'holds' is no Verdict"),
    ],
)
def test_what_a_study_declares_of_another_kind_is_refused(change: dict[str, Any], message: str) -> None:
    found: dict[str, Any] = {"name": "tiny", "title": "", "cases": lambda _: [Case(task(), 1)], "draw": nothing}

    def check() -> None:
        declared = Study(**found | change)
        declared.checked_cases("quick")
        declared.checked_verdicts(Collected(()))

    with pytest.raises((TypeError, ValueError), match=message):
        check()


@pytest.mark.parametrize("tags", [None, {1: "x"}, {"a": [1]}, {"a": "\udc80"}, {"a": 10**400}])
def test_tags_that_cannot_be_written_are_refused(tags: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=r"^tag"):
        Case(task(), 1, tags)


@pytest.mark.parametrize("seal", [sealed_table, bytes], ids=["sealed", "unsealed"])
@pytest.mark.parametrize("content", [b"", b"a,b\n1,2,3\n4,5\n6,7,8,9\n", b'"a\n', b"a\n\xff\n"])
def test_measurements_that_are_no_table_are_named_in_one_line(
    tmp_path: Path, content: bytes, seal: Callable[[bytes], bytes]
) -> None:
    (tmp_path / "measured_quick.csv").write_bytes(seal(content))
    with pytest.raises(StoreError, match=r"measured_quick.csv: .*: delete it to measure again") as caught:
        read_measurements(tmp_path / "measured_quick.csv")
    assert "\n" not in str(caught.value)


def test_measurements_in_a_pipe_are_never_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "measured_quick.csv")
    with pytest.raises(StoreError, match=r"cannot read .*measured_quick.csv: it is no file"):
        read_measurements(tmp_path / "measured_quick.csv")


def test_a_store_that_lacks_nets_gives_no_results(tmp_path: Path) -> None:
    cases = study([Case(task(), 9000)]).checked_cases("quick")
    with Store(tmp_path) as store:
        collect(cases, store, 1, quiet)
    next(tmp_path.glob("*/000004096-*.npz")).unlink()
    with pytest.raises(StoreError, match=r"lacks nets of case 1 of 1 \(\): run the study"):
        Gathering(map(Work, cases), Store(tmp_path)).collected()


def test_verdicts_are_spelled_and_complete() -> None:
    for spelled in ("holds", "fails", "holds when the net is wide"):
        Verdict("B06", spelled, 1.0, 0.9, 1.1)
    for wrong in ("maybe", "holds when ", "Holds", "fails when deep", ""):
        with pytest.raises(ValueError, match="verdict must be 'holds'"):
            Verdict("B06", wrong, 1.0, 0.9, 1.1)

    b07, b06 = (Verdict(claim, "holds", 1.0, 0.9, 1.1) for claim in ("B07", "B06"))
    found = Collected(())
    assert study(claims=("B06", "B07"), verdicts=lambda _: [b07, b06]).checked_verdicts(found) == [b06, b07]
    with pytest.raises(ValueError, match="no verdict on B06"):
        study(claims=("B06", "B07"), verdicts=lambda _: [b07]).checked_verdicts(found)
    with pytest.raises(ValueError, match="unknown claim of study 'tiny' 'B07'"):
        study(claims=("B06",), verdicts=lambda _: [b07]).checked_verdicts(found)


# --- collecting --------------------------------------------------------------------------------------


def test_collected_table_is_that_of_simulate_with_tags(tmp_path: Path) -> None:
    cases = study([Case(task(), 5000, {"kind": "a"}), Case(task(batch=2), 100, {"kind": "b"})]).checked_cases("quick")
    with Store(tmp_path) as store:
        collected = collect(cases, store, 1, quiet)
    table = collected.table
    assert list(table.columns[:3]) == ["kind", "quantity", "layer"]
    for case in cases:
        direct = simulate(
            case.task.network, nets=case.nets, batch=case.task.batch, seed=case.task.seed, quantities=QUANTITIES
        )
        rows = table[table["kind"] == case.tags["kind"]].drop(columns="kind").reset_index(drop=True)
        assert rows.astype({"quantity": str}).equals(direct.table.astype({"quantity": str}))
    assert Gathering(map(Work, cases), Store(tmp_path)).collected().table.equals(table)


def test_collecting_again_simulates_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cases = study([Case(task(), 10_000)]).checked_cases("quick")
    with Store(tmp_path) as store:
        collect(cases, store, 2, quiet)
    before = tree(tmp_path)
    monkeypatch.setattr("stabsim.plan.Plan.run", None)
    with Store(tmp_path) as store:
        collect(cases, store, 2, quiet)
    assert tree(tmp_path) == before


def test_more_nets_reuse_whole_chunks_and_none_is_counted_twice(tmp_path: Path) -> None:
    made = []

    def note(label: str, done: int, wanted: int, current: Callable[[], Result | None]) -> None:
        made.append(done)

    for nets, new in ((5000, 2), (9000, 2), (8192, 0), (5000, 0), (100, 1)):  # chunks of 4096
        case = Case(task(), nets).seeded(0)
        assert Work(case).plan.chunk_nets == 4096
        made.clear()
        with Store(tmp_path) as store:
            (_, result) = collect([case], store, 1, note).results[0]
            (_, fresh) = collect([case], store, 1, note).results[0]
        assert (len(made), result.nets) == (new, nets)
        direct = simulate(case.task.network, nets=nets, seed=case.task.seed, quantities=QUANTITIES)
        assert result.table.equals(direct.table) and fresh.table.equals(direct.table)
    assert all(sound for _, sound, _ in Store(tmp_path).verify())


def test_interrupted_between_chunks_and_resumed_gives_the_same_bytes(tmp_path: Path) -> None:
    cases = study([Case(task(), 9000, {"b": 1}), Case(task(batch=2), 5000, {"b": 2})]).checked_cases("quick")
    with Store(tmp_path / "whole") as store:
        collect(cases, store, 1, quiet)

    def interrupt(label: str, done: int, wanted: int, current: Callable[[], Result | None]) -> None:
        found = current()
        assert found is not None and found.nets == done
        raise KeyboardInterrupt

    stops = 0
    while progress(cases, Store(tmp_path / "pieces")).missing:
        with Store(tmp_path / "pieces") as store, pytest.raises(KeyboardInterrupt):
            collect(cases, store, 2, interrupt)
        stops += 1
    assert stops == 5 and tree(tmp_path / "pieces") == tree(tmp_path / "whole")


def test_damaged_chunk_is_set_aside_and_simulated_again(tmp_path: Path) -> None:
    cases = study([Case(task(), 9000)]).checked_cases("quick")
    with Store(tmp_path) as store:
        table = collect(cases, store, 1, quiet).table
    before = tree(tmp_path)
    middle = next(tmp_path.glob("*/000004096-*.npz"))
    middle.write_bytes(middle.read_bytes()[:-1])
    assert progress(cases, Store(tmp_path)) == dataclasses.replace(
        progress(cases, Store(tmp_path)), stored=2, damaged=1
    )
    with Store(tmp_path) as store:
        again = collect(cases, store, 1, quiet).table
        assert [path for path, _ in store.damaged] == [middle]
    assert again.equals(table)
    (aside,) = tmp_path.rglob("*.damaged")
    aside.unlink()
    assert tree(tmp_path) == before


def test_a_chunk_of_two_cases_is_simulated_and_counted_once(tmp_path: Path) -> None:
    cases = study([Case(task(), 5000, {"a": 1}), Case(task(), 4096, {"a": 2})]).checked_cases("quick")
    with Store(tmp_path) as store:
        assert progress(cases, store).missing == 2
        collect(cases, store, 1, quiet)
        assert progress(cases, store).missing == 0


# --- running ------------------------------------------------------------------------------------------


def test_a_run_tells_what_it_does_in_order_and_returns_what_it_leaves(tmp_path: Path) -> None:
    told: list[str] = []

    def note(event: str) -> Callable[..., None]:
        return lambda *_: told.append(event)

    @contextlib.contextmanager
    def simulating() -> Iterator[Report]:
        told.append("begin")
        yield note("chunk")
        told.append("end")

    listener = Listener(note("placed"), note("stored"), simulating, note("measuring"), note("drawn"), note("judged"))
    verdict = Verdict("B06", "holds", 1.0, 0.9, 1.1)
    tiny = dataclasses.replace(
        study([Case(task(), 5000)], claims=("B06",), verdicts=lambda _: [verdict]),
        draw=lambda collected: [Drawing(Figure(), collected.table)],
        measure=lambda scale: pandas.DataFrame({"seconds": [0.1]}),
    )
    first = run_study(tiny, out=tmp_path, listener=listener)
    assert told == ["placed", "stored", "begin", "chunk", "chunk", "end", "measuring", "drawn", "judged"]
    assert first.verdicts == [verdict] and len(first.figures) == 4 and all(path.exists() for path in first.figures)
    before, told[:] = tree(tmp_path), []
    again = run_study(tiny, out=tmp_path, listener=listener)
    assert told == ["placed", "stored", "begin", "end", "drawn", "judged"]
    assert again.collected.table.equals(first.collected.table) and tree(tmp_path) == before


def test_an_error_of_a_function_is_raised_as_it_is_or_named_with_the_file(tmp_path: Path) -> None:
    wrong = study([Case(task(), 10)], verdicts=lambda _: [1 / 0])
    with pytest.raises(ZeroDivisionError):
        run_study(wrong, out=tmp_path)
    with pytest.raises(StudyError, match=r"verdicts of tiny\.py: ZeroDivisionError"):
        run_study(wrong, out=tmp_path, path=Path("tiny.py"))


# --- what is written ---------------------------------------------------------------------------------


def test_what_depends_on_the_machine_is_measured_once(tmp_path: Path) -> None:
    taken = []

    def measure(scale: str) -> pandas.DataFrame:
        taken.append(scale)
        return pandas.DataFrame({"seconds": [0.1 + len(taken)]})

    with pytest.raises(ValueError, match="nothing was measured"):
        _ = Collected(()).measured
    measuring = dataclasses.replace(study([Case(task(), 10)]), measure=measure)
    for _ in range(2):
        found = run_study(measuring, out=tmp_path).collected
        assert found.measured["seconds"].tolist() == [1.1]
    assert taken == ["quick"] and measurements_file(measuring, "quick", tmp_path).exists()
    with pytest.raises(ValueError, match="nothing was measured"):
        _ = run_study(study([Case(task(), 10)]), out=tmp_path).collected.measured


def test_a_net_is_measured_in_a_process_of_its_own() -> None:
    for sampler in ("matrix_free", "dense", "numpy"):
        cost = cost_of_net(sampler, 300, 3)
        assert 0 < cost.seconds < 10 and cost.bytes >= 0
    assert cost_of_net("numpy", 600, 3).bytes > 3e6  # three matrices of 1.4 MB
    with pytest.raises(ValueError, match="slide at width 8 and depth 2 cannot be measured: KeyError"):
        cost_of_net("slide", 8, 2)


def test_figures_are_named_by_their_parts_and_are_the_same_bytes(tmp_path: Path) -> None:
    with Store(tmp_path / "chunks") as store:
        collected = collect([Case(task(), 10)], store, 1, quiet)

    def draw(parts: tuple[str, ...]) -> Study:
        drawings = [Drawing(Figure(), collected.table, part) for part in parts]
        return Study("tiny", "", lambda scale: [], lambda _: drawings)

    written = save_figures(draw(("", "tails")), collected, tmp_path / "figures")
    assert {path.name for path in written} == {
        f"{name}.{kind}" for name in ("tiny", "tiny_tails") for kind in ("png", "pdf", "svg", "csv")
    }
    before = tree(tmp_path / "figures")
    save_figures(draw(("", "tails")), collected, tmp_path / "figures")
    assert tree(tmp_path / "figures") == before
    with pytest.raises(ValueError, match="same part"):
        save_figures(draw(("a", "a")), collected, tmp_path / "figures")


def test_verdicts_are_written_as_json_that_is_strict(tmp_path: Path) -> None:
    path = tmp_path / "verdicts.json"
    save_verdicts(study(), [Verdict("B06", "fails", 1.5, -math.inf, math.inf, note="n γ")], "quick", 7, path)
    held = json.loads(path.read_text(), parse_constant=lambda text: pytest.fail(text))
    assert (held["study"], held["scale"], held["seed"]) == ("tiny", "quick", 7)
    assert held["verdicts"] == [
        {
            "claim": "B06",
            "verdict": "fails",
            "estimate": 1.5,
            "ci_low": None,
            "ci_high": None,
            "theory": None,
            "note": "n γ",
        }
    ]


# --- discovery ---------------------------------------------------------------------------------------


def test_studies_of_the_current_directory_are_added_and_come_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    bundled = files()
    (tmp_path / "studies").mkdir()
    assert files() == bundled
    replaced = next(iter(bundled))
    added = {name: Path("studies") / f"{name}.py" for name in ("b", "a", replaced)}
    for path in (*added.values(), Path("studies/_shared.py")):
        path.touch()
    assert files() == bundled | added and list(files()) == sorted(bundled | added)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import nothing_such", "line 1: ModuleNotFoundError: No module named 'nothing_such'"),
        ("\ndef f(:", "line 2: SyntaxError"),
        ("x = 1", "it declares no study"),
        ("study = 3", "study must be a stabsim.study.Study, not 3"),
        ("x = 1\nimport sys; sys.exit(3)", "line 2: SystemExit: 3"),
        ("x = 1\0", "null bytes"),
        ("from stabsim.study import Study\nstudy = Study('b', '', list, list)", "must be named 'a' like the file"),
        ("x = 1\nraise ValueError('two\\nlines')", "line 2: ValueError: two lines"),
    ],
)
def test_a_file_that_is_no_study_is_named_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "a.py"
    path.write_text(text)
    with pytest.raises(StudyError, match=message) as caught:
        load(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_errors_of_a_study_name_the_function_and_the_line(tmp_path: Path) -> None:
    path = tmp_path / "a.py"
    path.write_text(
        "from stabsim.study import Study\ndef draw(c):\n    return {}[1]\nstudy = Study('a', '', list, draw)"
    )
    with pytest.raises(StudyError, match=r"draw of .*a.py: line 3: KeyError: 1"), calling("draw", path):
        save_figures(load(path), Collected(()), tmp_path)
