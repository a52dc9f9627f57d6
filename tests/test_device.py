"""Devices: what a GPU does not run is refused or left to the CPU, by name; nets are the same, chunks are kept apart.

Here the CPU stands in for a GPU, or there is none; the numbers of one are for the tests of `stabsim.cuda`.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Generator, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stabsim.arguments import make_task
from stabsim.collect import collect, progress
from stabsim.costs import predict
from stabsim.cuda import ensemble
from stabsim.devices import DeviceError
from stabsim.engines import Range, local
from stabsim.moments import Sums
from stabsim.network import Network
from stabsim.plan import LARGEST_CHUNK, Plan
from stabsim.quantities import Quantity
from stabsim.running import Listener, run_study
from stabsim.simulation import simulate
from stabsim.store import Store
from stabsim.study import Case
from stabsim.threads import count_threads
from stabsim.work import Work
from tests.test_cli import STUDY, Call, call
from tests.test_store import tree
from tests.test_study import quiet, study, task

__all__ = ["call"]  # a fixture

# One net of the two that the study of `call` has is normalized.
MIXED = STUDY.replace(
    'Network((30,) * 21, "relu", weights)',
    'Network((30,) * 21, "relu", weights, normalization="layer" if weights == "glorot_normal" else None)',
)
LEFT = "1 of 2 cases is for the CPU: device='cuda' does not run nets with normalization='layer(epsilon=1e-05)'"
ABSENT = "device='cuda' needs CuPy: pip install 'stabsim[cuda]'"

Given = dict[str, Any]


def on_cpu(plan: Plan, chunks: Iterable[tuple[int, int]]) -> Generator[Sums]:
    """Do what a GPU does."""
    yield from Plan._run_on_threads(plan, chunks, 1)


def absent(_plan: Plan, _chunks: Iterable[tuple[int, int]]) -> Generator[Sums]:
    """Do what a GPU does that is not there."""
    raise DeviceError(ABSENT)
    yield


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> list[Plan]:
    """Let the CPU stand in for a GPU; return the plans that are run there."""
    plans: list[Plan] = []

    def run(plan: Plan, chunks: Iterable[tuple[int, int]]) -> Generator[Sums]:
        plans.append(plan)
        return on_cpu(plan, chunks)

    monkeypatch.setattr(ensemble, "run", run)
    return plans


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ensemble, "run", absent)


# --- tasks and plans -----------------------------------------------------------------------------------

NETWORK = Network((4, 5, 3), "tanh", "glorot_normal")
WHOLE = Quantity("activation", "largest", "value", function=np.max, whole=True)
REFUSED: list[tuple[Given, str]] = [
    (
        {"network": Network((4, 5, 3), "tanh", "glorot_normal", normalization="batch"), "batch": 4},
        "normalization='batch",
    ),
    ({"network": Network((4, 4, 4), "tanh", "glorot_normal", skip="skip")}, "skip='skip"),
    ({"network": Network((4, 3, 3), "tanh", "glorot_normal", cell="rnn")}, "cell='rnn'"),
    ({"precision": "float16"}, "precision='float16'"),
    ({"clipping": "value(bound=1)", "sampler": "dense"}, "clipping='value(bound=1)'"),
    ({"quantities": ("singular_value_mean_square",), "sampler": "dense"}, "singular_value_mean_square"),
    ({"quantities": (WHOLE,), "sampler": "dense"}, "'activation_largest'"),
]


@pytest.mark.parametrize(("given", "named"), REFUSED, ids=[named for _, named in REFUSED])
def test_what_a_device_does_not_run_is_refused_by_name(given: Given, named: str) -> None:
    network = given.pop("network", NETWORK)
    make_task(network, **given)
    with pytest.raises(ValueError, match=r"^device='cuda' does not [^\n]+$") as caught:
        make_task(network, **given, device="cuda")
    assert named in str(caught.value)


def test_the_device_is_in_the_identity_where_it_is_not_the_cpu() -> None:
    here, there = make_task(NETWORK), make_task(NETWORK, device="cuda")
    assert here == make_task(NETWORK, device="cpu") and "device" not in here.identity
    assert '"device":"cuda"' in there.identity and there == replace(here, device="cuda") != here


def test_both_devices_draw_with_the_same_sampler() -> None:
    for widths, batch in (((4, 4), 1), ((2000,) * 3, 1), ((2000,) * 3, 8), ((64,) * 3, 200)):
        network = Network(widths, "relu", "he_normal")
        samplers = {make_task(network, batch=batch, device=device).sampler for device in ("cpu", "cuda")}
        assert len(samplers) == 1


@pytest.mark.parametrize("widths", [(4, 4), (512,) * 33, (64,) * 1001, (8192,) * 101])
@pytest.mark.parametrize("sampler", ["dense", "matrix_free"])
def test_a_chunk_of_a_gpu_is_larger_and_a_power_of_two(widths: tuple[int, ...], sampler: str) -> None:
    network = Network(widths, "relu", "he_normal")
    here, there = (Plan(make_task(network, sampler=sampler, device=device)).chunk_nets for device in ("cpu", "cuda"))
    assert there & (there - 1) == 0 and here <= there <= min(LARGEST_CHUNK, 128 * here)
    assert there > here or there == LARGEST_CHUNK
    assert there * len(widths) * 60 * 8 < 2**29


def test_a_plan_of_a_device_travels() -> None:
    import pickle

    plan = Plan(make_task(NETWORK, device="cuda"))
    again = pickle.loads(pickle.dumps(plan))
    assert again == plan and again.task.device == "cuda"


# --- simulate ------------------------------------------------------------------------------------------


def test_simulate_runs_the_plan_on_the_device(gpu: list[Plan]) -> None:
    there = simulate(NETWORK, nets=5000, seed=3, device="cuda", samples=("activation_log10_norm",))
    here = simulate(NETWORK, nets=5000, seed=3, samples=("activation_log10_norm",))
    assert [plan.task.device for plan in gpu] == ["cuda"] and there.task.device == "cuda"
    assert there.table.equals(here.table)
    assert np.array_equal(there.samples["activation_log10_norm"], here.samples["activation_log10_norm"])


def test_a_target_ends_a_run_on_a_device(gpu: list[Plan]) -> None:
    options: Given = {"quantities": ("activation_log10_norm",), "target_rel_error": 0.9, "device": "cuda"}
    result = simulate(Network((4,) * 3, "tanh", "normal(std=3)"), nets=2**20, seed=1, **options)
    assert result.reached_target and result.nets < 2**20


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_are_the_cpus(threads: int) -> None:
    assert count_threads(threads) == threads
    with pytest.raises(ValueError, match=f"^threads={threads} is for device='cpu', not for device='cuda': leave it"):
        simulate(NETWORK, nets=2, device="cuda", threads=threads)


def test_an_error_of_the_device_is_one_line(no_gpu: None, call: Call) -> None:
    with pytest.raises(DeviceError, match=r"^device='cuda' needs CuPy: pip install 'stabsim\[cuda\]'$"):
        simulate(NETWORK, nets=2, device="cuda")
    options = ("--width", "4", "--depth", "3", "--activation", "relu", "--weights", "he_normal", "--nets", "9")
    assert call("simulate", *options, "--device", "cuda") == (1, "", f"stabsim simulate: {ABSENT}\n")
    status, out, err = call("simulate", *options, "--device", "cuda", "--threads", "2")
    assert (status, out) == (2, "") and err.startswith("stabsim simulate: threads=2 is for device='cpu'")
    status, out, err = call("simulate", *options, "--device", "cuda", "--normalization", "layer")
    assert (status, out) == (
        2,
        "",
    ) and "device='cuda' does not run nets with normalization='layer(epsilon=1e-05)'" in err
    status, out, err = call("simulate", *options, "--device", "gpu")
    assert (status, out, err.count("\n")) == (2, "", 1) and "'cpu', 'cuda'" in err


LOOK = """
import contextlib, sys
from stabsim import Network, simulate
from stabsim.devices import DeviceError

simulate(Network((4, 4), "relu", "he_normal"), nets=2)
assert not {"cupy", "numba.cuda", "numba_cuda"} & set(sys.modules), "a library of CUDA is imported"
try:
    simulate(Network((4, 4), "relu", "he_normal"), nets=2, device="cuda")
except DeviceError as error:
    print(error)
"""


def test_without_a_gpu_the_first_thing_that_is_missing_is_said() -> None:
    """Nothing stands in for anything here; with a GPU there is nothing to say."""
    done = subprocess.run([sys.executable, "-W", "error", "-c", LOOK], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "" or (done.stdout.startswith("device='cuda'") and done.stdout.count("\n") == 1)


# --- studies -------------------------------------------------------------------------------------------


def test_cases_have_the_seeds_that_they_have_on_the_cpu() -> None:
    cases = [Case(task(), 10, {"a": 1}), Case(task(batch=2, device="cuda"), 10, {"a": 2})]
    here, there = (study(cases).checked_cases("quick", 3, device) for device in ("cpu", "cuda"))
    assert [case.task.seed for case in here] == [case.task.seed for case in there]
    assert {case.task.device for case in here} == {"cpu"} and {case.task.device for case in there} == {"cuda"}
    with pytest.raises(ValueError, match="unknown device 'cdua'; known, nearest first: cuda, cpu"):
        study(cases).checked_cases("quick", 3, "cdua")


def test_what_the_device_does_not_run_stays_on_the_cpu() -> None:
    normalized = make_task(Network((4,) * 3, "relu", "he_normal", normalization="layer"))
    cases = [Case(normalized, 10, {"a": 1}), Case(task(), 10, {"a": 2})]
    assert [case.task.device for case in study(cases).checked_cases("quick", 0, "cuda")] == ["cpu", "cuda"]


def test_what_is_for_a_gpu_goes_first(no_gpu: None) -> None:
    here, there = (Range(Plan(task(device=device)), 0, 9) for device in ("cpu", "cuda"))
    with pytest.raises(DeviceError):
        next(local([here, there], 1))


def test_places_are_those_of_the_ranges(gpu: list[Plan]) -> None:
    plans = [Plan(task(device=device, seed=seed)) for seed, device in enumerate(("cpu", "cuda", "cpu", "cuda"))]
    ranges = [Range(plan, 0, 10 + place) for place, plan in enumerate(plans)]
    found = [(place, sums.nets) for place, sums in local(ranges, 1)]
    assert found == [(1, 11), (3, 13), (0, 10), (2, 12)]


def test_chunks_of_a_device_are_stored_apart(gpu: list[Plan], tmp_path: Path) -> None:
    declared = study([Case(task(), 9000)])
    (here,), (there,) = (declared.checked_cases("quick", 0, device) for device in ("cpu", "cuda"))
    with Store(tmp_path) as store:
        collect([here], store, 1, quiet)
        assert progress([there], store).stored == 0
        found = collect([there], store, 1, quiet)
        assert progress([here, there], store).missing == 0
        assert found.table.equals(collect([here], store, 1, quiet).table)
    devices = ['"device":"cuda"' in text for text in Store(tmp_path).tasks().values()]
    assert sorted(devices) == [False, False, True, True]  # whole chunks and a shorter last one, of each


def test_a_run_from_python_tells_where_cases_are(gpu: list[Plan], tmp_path: Path) -> None:
    told: list[str] = []
    listener = Listener(placed=lambda cases: told.extend(case.task.device for case in cases))
    run_study(study([Case(task(), 100)]), out=tmp_path, device="cuda", listener=listener)
    assert told == ["cuda"] and len(gpu) == 1


@pytest.fixture
def mixed(call: Call) -> Call:
    """Run the command line with a study of which a GPU runs one case of two."""
    Path("studies/tiny.py").write_text(MIXED)
    return call


def test_a_run_says_what_it_leaves_to_the_cpu(mixed: Call, gpu: list[Plan]) -> None:
    status, out, err = mixed("run", "tiny", "--device", "cuda", "--threads", "1")
    assert (status, err) == (0, "") and out.startswith(f"tiny: {LEFT}\ntiny: 6 of 6 chunks to simulate\n")
    assert {plan.task.device for plan in gpu} == {"cuda"}
    assert mixed("plot", "tiny", "--device", "cuda")[0] == 0
    status, _, err = mixed("plot", "tiny")
    assert status == 1 and "4 of 8 chunks are missing" in err and "--device" not in err
    assert mixed("status", "--device", "cuda")[1].splitlines()[1].split() == ["tiny", "quick", "6", "6", "0"]
    assert mixed("status")[1].splitlines()[1].split() == ["tiny", "quick", "4", "8", "0"]
    assert LEFT not in mixed("run", "tiny")[1]


def test_a_figure_that_lacks_chunks_of_a_gpu_says_how_they_are_made(call: Call) -> None:
    status, _, err = call("plot", "tiny", "--device", "cuda")
    assert status == 1 and err.endswith(": stabsim run tiny --scale quick --device cuda\n")


def test_shards_on_a_device_are_the_same_chunks(mixed: Call, gpu: list[Plan]) -> None:
    assert mixed("run", "tiny", "--device", "cuda", "--out", "whole")[0] == 0
    for number in (1, 2):
        assert mixed("run", "tiny", "--device", "cuda", "--shard", f"{number}/2", "--out", f"part{number}")[0] == 0
    assert mixed("merge", "part1", "part2", "--out", "parts")[0] == 0
    assert tree(Path("parts/results/tiny/chunks")) == tree(Path("whole/results/tiny/chunks"))


def test_a_study_without_its_gpu_is_named_and_does_not_stop_the_others(mixed: Call, no_gpu: None) -> None:
    shutil.copy("studies/tiny.py", "studies/other.py")
    Path("studies/other.py").write_text(MIXED.replace('name="tiny"', 'name="other"'))
    status, out, err = mixed("run", "--all", "--device", "cuda")
    assert (status, err) == (1, f"stabsim: other: {ABSENT}\nstabsim: tiny: {ABSENT}\n")
    assert out.count(LEFT) == 2 and not list(Path().rglob("*.npz"))
    assert mixed("run", "tiny")[0] == 0  # the same chunks of the case on the CPU


def test_a_dry_run_knows_no_time_of_a_gpu(mixed: Call) -> None:
    (whole,) = (line for line in mixed("run", "tiny", "--dry-run")[1].splitlines() if "one core of an AMD" in line)
    status, out, err = mixed("run", "tiny", "--dry-run", "--device", "cuda")
    lines = out.splitlines()
    assert (status, err) == (0, "") and "on a GPU" in lines[2] and "on a GPU" not in lines[3]
    assert lines[4:7] == [
        f"  {LEFT}",
        "  6 of 6 chunks missing, each up to about a second of one core or GPU",
        "  2 of them for a GPU, whose time is not predicted",
    ]
    assert lines[7].startswith("  about ") and lines[7].endswith(" kB of files") and lines[7] != whole


def test_what_a_gpu_makes_costs_bytes_and_no_core_time() -> None:
    here, there = (Work(Case(task(), 9000).placed(device)) for device in ("cpu", "cuda"))
    costs = [predict(work, work.chunks) for work in (here, there)]
    assert costs[0].nanoseconds > 0 == costs[1].nanoseconds and costs[1].bytes > 0


# --- verify --------------------------------------------------------------------------------------------


def test_chunks_are_simulated_again_where_they_were_made(
    mixed: Call, gpu: list[Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert mixed("run", "tiny", "--device", "cuda")[0] == 0
    gpu.clear()
    last = "11 files, all sound; 6 chunks simulated again, to the same bytes\n"
    assert mixed("verify", "--resimulate", "9") == (0, last, "")
    assert len(gpu) == 2
    monkeypatch.setattr(ensemble, "run", absent)
    status, out, err = mixed("verify", "--resimulate", "9")
    said, final = out.splitlines()
    assert (status, err, final) == (0, "", "11 files, all sound; 4 chunks simulated again, to the same bytes")
    assert said == f"tiny: chunks of a GPU are checked, not simulated again: {ABSENT}"
    assert "4 chunks simulated again" in mixed("verify", "--resimulate", "4")[1]  # others stand in for those of a GPU


def test_a_chunk_of_a_gpu_that_comes_out_otherwise_is_named(
    mixed: Call, gpu: list[Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert mixed("run", "tiny", "--device", "cuda")[0] == 0

    def other(plan: Plan, chunks: Iterable[tuple[int, int]]) -> Generator[Sums]:
        yield from Plan(replace(plan.task, seed=plan.task.seed ^ 1))._run_on_threads(chunks, 1)

    monkeypatch.setattr(ensemble, "run", other)
    status, out, err = mixed("verify", "--resimulate", "9")
    assert status == 1 and out.count("simulated again, its numbers differ") == 2
    assert err.startswith("stabsim verify: 2 of 6 chunks simulated again differ")
