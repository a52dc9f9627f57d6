"""Costs are predicted: shapes exactly, bytes closely, and a dry run says them of what is missing."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stabsim.arguments import make_task
from stabsim.chunk import encode
from stabsim.collect import collect, progress, stored
from stabsim.costs import Cost, bytes_of_chunk, occupied, predict, shapes_of, tail_rows
from stabsim.network import Network
from stabsim.plan import Plan
from stabsim.quantities import Quantity
from stabsim.store import Store
from stabsim.study import Case
from stabsim.work import Shard, Work
from tests.checks import must_fail
from tests.test_cli import STUDY, Call, call
from tests.test_study import quiet, study, task

__all__ = ["call"]  # a fixture

ALL: dict[str, Any] = {"quantities": None}
NORM = {"quantities": ("activation_log10_norm",)}
OWN = Quantity("activation", "share_above_one", "fraction", function=lambda x: x > 1.0)
RELU = Network((16,) * 9, "relu", "he_normal")
TANH = Network((16,) * 9, "tanh", "glorot_normal")


def rnn(kind: str) -> Network:
    return Network((4,) + (8,) * 10, "tanh", "glorot_normal", cell=kind)


# Name -> (network, options, nets): the fewer the parts of a chunk that are estimated, the closer is the prediction.
EXACT: dict[str, tuple[Network, dict[str, Any], int]] = {
    "norm": (RELU, NORM, 50),
    "samples": (RELU, NORM | {"samples": ("activation_log10_norm", "activation_zero_fraction")}, 50),
    "histograms": (RELU, NORM | {"histograms": {"activation": (-3.0, 3.0, 40), "preactivation": (-1.0, 1.0, 40)}}, 50),
    "own": (RELU, {"quantities": (OWN,)}, 50),
}
PLAIN: dict[str, tuple[Network, dict[str, Any], int]] = {
    "plain": (RELU, ALL, 500),
    "few nets": (RELU, ALL, 3),
    "tanh": (TANH, ALL, 500),
    "linear": (Network((16,) * 9, "linear", "lecun_normal"), ALL, 500),
    "dense": (RELU, ALL | {"sampler": "dense"}, 200),
    "float64": (RELU, ALL | {"precision": "float64"}, 200),
}
OTHERS: dict[str, tuple[Network, dict[str, Any], int]] = {
    "batch": (RELU, ALL | {"batch": 4}, 200),
    "given inputs": (RELU, ALL | {"batch": 2, "inputs": np.ones((2, 16)) * [[1.0], [2.0]]}, 200),
    "rnn": (rnn("rnn"), ALL | {"batch": 2}, 200),
    "lstm": (rnn("lstm"), ALL | {"batch": 2}, 200),
    "batch norm": (Network((16,) * 9, "relu", "he_normal", normalization="batch"), ALL | {"batch": 8}, 200),
    "rounded": (RELU, ALL | {"precision": "float16"}, 200),
    "clipped": (RELU, ALL | {"clipping": "value(bound=1)"}, 200),
}
EVERYTHING = EXACT | PLAIN | OTHERS


def assert_close(predicted: float, true: float, within: float) -> None:
    assert 1 / (1 + within) <= predicted / true <= 1 + within, predicted / true


@pytest.mark.parametrize("name", EVERYTHING)
def test_bytes_of_a_chunk_are_those_that_are_predicted(name: str) -> None:
    network, options, nets = EVERYTHING[name]
    plan = Plan(make_task(network, **options))
    (sums,) = plan.run([(0, nets)], 1)
    arrays = sums.to_arrays()
    assert shapes_of(plan, nets) == {key: each.shape for key, each in arrays.items() if not key.startswith("tails.")}
    assert set(tail_rows(plan, nets)) == set(sums.tails)
    true, predicted = len(encode("0" * 32, 0, nets, arrays)), bytes_of_chunk(plan, nets)
    if name in EXACT:
        assert predicted == true
    else:
        assert_close(predicted, true, 0.1 if name in PLAIN else 0.5)


def test_bins_are_counted_as_draws_of_normal_logarithms_fill_them() -> None:
    variance = np.array([1e-12, 0.01, 1.0, 10.0])
    random = np.random.default_rng(0)
    for nets in (1, 30, 2000):
        draws = np.sqrt(variance)[:, None] * random.standard_normal((50, 4, nets)) / np.log(2) * 16 + 0.5
        counted = [[len(np.unique(np.floor(row))) for row in each] for each in draws]
        assert np.allclose(occupied(variance, nets), np.mean(counted, axis=0), rtol=0.03, atol=0.1)


def test_a_study_costs_what_its_chunks_do_together(tmp_path: Path) -> None:
    (case,) = study([Case(task(), 9000)]).checked_cases("quick")
    work = Work(case)
    assert len(work.chunks) == 3
    total = predict(work, work.chunks)
    assert total.nanoseconds == pytest.approx(9000 * work.plan.sampler.nanoseconds(case.task))
    parts = sum((predict(work, Shard(number, 2).deal(work.chunks)) for number in (1, 2)), Cost())
    assert parts.nanoseconds == pytest.approx(total.nanoseconds)
    assert parts.bytes == pytest.approx(total.bytes + len(work.chunks[0].text) + 1)  # a task.json in each shard
    assert predict(work, []) == Cost(0.0, 0.0)
    with Store(tmp_path) as store:
        collect([case], store, 1, quiet)
        assert list(stored(work.chunks, store).values()) == [True] * 3
    true = sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
    assert_close(total.bytes, true, 0.3)  # nets of width 4 are further apart than wide ones
    must_fail(assert_close, 2 * total.bytes, true, 0.3)


def test_each_chunk_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cases = study([Case(task(), 5000, {"a": 1}), Case(task(), 4096, {"a": 2})]).checked_cases("quick")
    with Store(tmp_path) as store:
        collect(cases, store, 1, quiet)
    read: list[tuple[int, int]] = []
    whole = Store.read

    def note(self: Store, key: str, first: int, last: int) -> Any:
        read.append((first, last))
        return whole(self, key, first, last)

    monkeypatch.setattr(Store, "read", note)
    assert progress(cases, Store(tmp_path)).missing == 0
    assert read == [(0, 4096), (4096, 5000)]


# --- the command line ---------------------------------------------------------------------------------


def seconds(line: str) -> float:
    match = re.search(r"about ([0-9.]+) s", line)
    assert match is not None, line
    return float(match[1])


def test_a_dry_run_says_what_is_missing_and_what_it_costs(call: Call) -> None:
    status, out, err = call("run", "tiny", "--dry-run", "--threads", "4")
    assert (status, err) == (0, "") and not Path("results").exists()
    lines = out.splitlines()
    assert lines[1].split() == ["case", "nets", "chunks", "stored", "core", "time", "size"]
    assert [line.split()[:4] for line in lines[2:4]] == [
        ["he_normal", "8000", "4", "0"],
        ["glorot_normal", "8000", "4", "0"],
    ]
    assert lines[4] == "  8 of 8 chunks missing, each up to about a second of one core"
    whole = seconds(lines[5])
    assert lines[5].endswith("kB of files") and "4 threads" in lines[6] and len(lines) == 7
    assert seconds(lines[6]) == pytest.approx(whole / 4, rel=0.1)

    parts = [call("run", "tiny", "--dry-run", "--shard", f"{number}/2")[1].splitlines() for number in (1, 2)]
    assert [part[0] for part in parts] == [f"tiny: A tiny study, shard {number}/2" for number in (1, 2)]
    assert sum(seconds(part[-1]) for part in parts) == pytest.approx(whole, rel=0.1)
    assert call("run", "tiny", "--shard", "2/2")[0] == 0
    assert "  4 of 8 chunks missing" in call("run", "tiny", "--dry-run")[1]
    assert "  0 of 4 chunks missing" in call("run", "tiny", "--dry-run", "--shard", "2/2")[1]
    assert "about 0 s of one core of an AMD EPYC, 0 B of files" in call("run", "tiny", "--dry-run", "--shard", "2/2")[1]


def test_a_dry_run_says_that_what_is_measured_is_not_in_it(call: Call) -> None:
    Path("studies/tiny.py").write_text(STUDY.replace("draw=draw,", "draw=draw, measure=lambda scale: 1 / 0,"))
    said = "what the study measures beside simulating is missing, and not predicted"
    assert said in call("run", "tiny", "--dry-run")[1]
    shards = [("--shard", f"{number}/3") for number in (1, 2, 3)]  # one of them measures it
    assert sum(said in call("run", "tiny", "--dry-run", *shard)[1] for shard in shards) == 1
