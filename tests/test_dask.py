"""The engine `dask`: the same bytes; workers that die, differ or run out of memory; schedulers that are lost."""

from __future__ import annotations

import contextlib
import importlib
import logging
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import stabsim
from stabsim.arguments import make_task
from stabsim.collect import collect, progress
from stabsim.devices import DeviceError
from stabsim.discovery import load
from stabsim.engines import EngineError, Range, elsewhere, engine
from stabsim.engines.cluster import NO_DASHBOARD, NOT_UNDERSTOOD
from stabsim.network import Network
from stabsim.plan import Plan
from stabsim.store import Store
from tests.forked import PRELOADED
from tests.test_cli import STUDY, Call, call
from tests.test_engines import CASES, whole
from tests.test_store import tree
from tests.test_study import quiet, task

dask = pytest.importorskip("dask")
distributed = pytest.importorskip("distributed")
fates = pytest.importorskip("tests.fates")

__all__ = ["call", "whole"]  # fixtures

ROOT = Path(__file__).parent.parent
SECOND = "-4096-8192"  # ends the key of the second chunk of the first case

# Dask's own: sockets that its processes leave to the collector when they are killed.
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Any, Path]]:
    """Return an address, a client and the folder of fates."""
    orders = tmp_path_factory.mktemp("orders")
    multiprocessing.set_forkserver_preload(PRELOADED)  # a worker starts in a fifth of the time
    with (
        dask.config.set({"distributed.worker.multiprocessing-method": "forkserver"}),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=logging.CRITICAL + 1,
            scheduler_kwargs={**NO_DASHBOARD, "allowed_failures": 1}, memory_limit="900MB",
        ) as local,
        distributed.Client(local, set_as_default=False) as client,
    ):  # fmt: skip
        client.register_plugin(fates.Fate(orders))
        yield local.scheduler_address, client, orders


# --- the same bytes ----------------------------------------------------------------------------------


def test_two_workers_leave_the_bytes_of_one_process(call: Call, cluster: Any) -> None:
    address, client, _ = cluster
    assert call("run", "tiny", "--out", "here", "--threads", "1")[0] == 0
    status, out, err = call("run", "tiny", "--out", "there", "--engine", "dask", "--scheduler", address)
    assert (status, err) == (0, "") and "8 of 8 chunks to simulate" in out
    for folder in ("results", "figures"):
        assert tree(Path("there") / folder) == tree(Path("here") / folder)
    assert not client.run_on_scheduler(lambda dask_scheduler: set(dask_scheduler.tasks))


def test_functions_of_a_study_go_to_workers_that_do_not_have_its_file(cluster: Any, tmp_path: Path) -> None:
    path = tmp_path / "own.py"
    path.write_text(
        "from stabsim.quantities import Quantity\nfrom stabsim.study import Study\nSIZE = 3.0\n"
        "LARGE = Quantity('activation', 'large', 'value', function=lambda x: x * SIZE)\n"
        "study = Study('own', '', list, list)"
    )
    load(path)
    module = sys.modules["stabsim_study_own"]
    parcel = elsewhere.Parcel.of(Plan(task(quantities=(module.LARGE,))))
    assert list(cluster[1].run(fates.value_of_parcel, parcel.data).values()) == [6.0, 6.0]


@pytest.mark.slow
def test_a_study_with_functions_of_its_own_leaves_the_same_bytes(call: Call, cluster: Any) -> None:
    own = 'LARGE = Quantity("activation", "large", "fraction", function=lambda x: x > SIZE)\nSIZE = 1.0\nNORM ='
    text = STUDY.replace("quantities=(NORM,)", "quantities=(NORM, LARGE)").replace("NORM =", own)
    text = text.replace("collected.table, by", "collected.table.query('quantity == @NORM'), by")
    Path("studies/tiny.py").write_text("from stabsim.quantities import Quantity\n" + text)
    assert call("run", "tiny", "--out", "here")[0] == 0
    status, _, err = call("run", "tiny", "--out", "there", "--engine", "dask", "--scheduler", cluster[0])
    assert (status, err) == (0, "") and tree(Path("there/results")) == tree(Path("here/results"))


def test_a_parcel_is_the_same_work_for_the_same_plan() -> None:
    plan, other = Plan(task()), Plan(task(batch=2))
    one, same, another = (elsewhere.Parcel.of(each) for each in (plan, Plan(task()), other))
    assert one == same and one.key != another.key
    (direct,) = plan.run([(0, 50)], 1)
    sums = one.run(0, 50)
    assert {name: array.tobytes() for name, array in sums.to_arrays().items()} == {
        name: array.tobytes() for name, array in direct.to_arrays().items()
    }


def test_workers_without_a_gpu_are_one_line(call: Call, cluster: Any) -> None:
    with contextlib.suppress(DeviceError):
        importlib.import_module("stabsim.cuda.shim").require()
        pytest.skip("there is a GPU")
    status, _, err = call("run", "tiny", "--engine", "dask", "--scheduler", cluster[0], "--device", "cuda")
    assert (status, err.count("\n")) == (1, 1) and not list(Path("results").rglob("*.npz"))
    first = "nets 0 to 4095 of case 1 of 2 (he_normal): DeviceError: device='cuda'"
    assert err.startswith(f"stabsim: tiny: 4 of 4 chunks failed: {first}")


# --- workers that die --------------------------------------------------------------------------------


def test_a_worker_that_dies_costs_a_chunk_that_is_run_again(cluster: Any, tmp_path: Path, whole: Path) -> None:
    address, _, orders = cluster
    (orders / f"exit once {SECOND}").touch()
    with Store(tmp_path) as store:
        collect(CASES, store, 1, quiet, engine("dask", address))
    assert not list(orders.iterdir()) and tree(tmp_path) == tree(whole)


def test_a_chunk_that_kills_its_workers_is_named_and_the_rest_completes(
    cluster: Any, tmp_path: Path, whole: Path
) -> None:
    address, _, orders = cluster
    order = orders / f"exit always {SECOND}"
    order.touch()
    named = r"^1 of 5 chunks failed: nets 4096 to 8191 of case 1 of 2 \(1\): it killed 2 workers, one after the other$"
    with Store(tmp_path) as store:
        with pytest.raises(EngineError, match=named):
            collect(CASES, store, 1, quiet, engine("dask", address))
        order.unlink()
        assert progress(CASES, store).stored == 4
        collect(CASES, store, 1, quiet, engine("dask", address))
    assert tree(tmp_path) == tree(whole)


def test_a_worker_that_is_killed_is_replaced(cluster: Any, tmp_path: Path, whole: Path) -> None:
    address, client, _ = cluster

    def kill(label: str, done: int, wanted: int, current: Any) -> None:
        if not killed:
            killed.extend(client.run(os.getpid).values())
            os.kill(killed[0], signal.SIGKILL)

    killed: list[int] = []
    with Store(tmp_path) as store:
        collect(CASES, store, 1, kill, engine("dask", address))
    assert tree(tmp_path) == tree(whole)


@pytest.mark.slow
def test_what_takes_too_much_memory_is_named(cluster: Any, tmp_path: Path) -> None:
    """The nanny ends a worker that is near its limit: once is run again, always is named."""
    address, _, orders = cluster
    (orders / f"hog once {SECOND}").touch()
    order = orders / "hog always -0-4096"
    with Store(tmp_path) as store:
        collect(CASES[:1], store, 1, quiet, engine("dask", address))
        order.touch()
        with pytest.raises(EngineError, match=r"nets 0 to 4095 of case 1 of 1 \(2\): it killed 2 workers"):
            collect(CASES[1:], store, 1, quiet, engine("dask", address))
    order.unlink()
    assert not list(orders.iterdir())


# --- what a worker raises ----------------------------------------------------------------------------


def test_what_a_worker_raises_is_the_outcome_of_its_range_alone(cluster: Any) -> None:
    network = Network((100_000,) * 200, "relu", "he_normal")  # 7 TiB
    huge = Plan(make_task(network, sampler="dense", quantities=("activation_mean",)))
    found = dict(engine("dask", cluster[0])([Range(huge, 0, 1), Range(Plan(task()), 0, 9)], 1))
    failed, sums = found[0], found[1]
    assert isinstance(failed, EngineError) and str(failed).startswith("MemoryError: 1 nets at a time need ")
    assert not isinstance(sums, EngineError) and sums.nets == 9


def test_workers_of_other_code_are_refused_with_what_differs(cluster: Any, tmp_path: Path) -> None:
    address, client, _ = cluster
    client.run(fates.other_code)
    try:
        with Store(tmp_path) as store, pytest.raises(EngineError) as caught:
            collect(CASES, store, 1, quiet, engine("dask", address))
    finally:
        client.run(fates.same_code)
    told = str(caught.value)
    assert told.startswith("worker tcp://127.0.0.1:") and told.endswith(
        f" runs other code: numpy 1.0 there, {fates.CODE['numpy']} here"
    )


def test_workers_without_this_code_are_refused(cluster: Any) -> None:
    address, client, _ = cluster
    client.run(fates.without_our_code)
    try:
        with pytest.raises(EngineError, match=r"^a worker runs other code: .*stabsim\.engines\.elsewhere"):
            next(engine("dask", address)([Range(Plan(task()), 0, 9)], 1))
    finally:
        client.run(fates.with_our_code)


def test_ranges_that_all_kill_their_workers_end_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    module = sys.modules["stabsim.engines.dask"]
    flight = module._Flight(None, distributed.KilledWorker, [None] * 30, "here")
    killed = distributed.KilledWorker("task", None, 2)
    monkeypatch.setattr(flight, "_run", lambda places, alone=False: ((place, killed) for place in places))
    with pytest.raises(EngineError, match="10 ranges in a row killed their workers, so the rest is not tried"):
        list(flight.outcomes())


def test_code_is_known_by_versions_and_sources() -> None:
    assert fates.CODE["stabsim"] == stabsim.__version__ and fates.CODE["version of stream"] == "1"
    assert {"python", "numba", "numpy", "scipy", "sources of stabsim"} < fates.CODE.keys()


# --- the end of a run --------------------------------------------------------------------------------


def test_closing_early_leaves_nothing_behind(cluster: Any) -> None:
    address, client, _ = cluster
    plan = Plan(task())
    with contextlib.closing(engine("dask", address)([Range(plan, i, i + 1) for i in range(100)], 1)) as arriving:
        next(arriving)
        under_way = client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks))
        assert 1 <= under_way <= 6  # three for each of two threads
    deadline = time.monotonic() + 20
    while client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks)) == 0
    assert list(engine("dask", address)([], 1)) == []


def test_a_cluster_of_its_own_starts_quietly_and_ends_on_an_interrupt(call: Call) -> None:
    heed = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    run = [sys.executable, "-c", f"{heed}; from stabsim.cli import main; main()", "run", "tiny", "--engine", "dask"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [*run, "--threads", "2"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment,
        start_new_session=True,
    )  # fmt: skip
    while len(list(Path("results").rglob("*.npz"))) < 1 and process.poll() is None:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert is_gone(process.pid)
    told = "stabsim run: interrupted; all chunks done so far are kept, and the same command goes on\n"
    assert (process.returncode, err) == (130, told)
    assert call("verify")[0] == 0


def is_gone(group: int) -> bool:
    """Return whether all processes of a group end: Python's tracker of semaphores does so a moment after the others."""
    with contextlib.suppress(ProcessLookupError):
        for _ in range(500):
            os.killpg(group, 0)
            time.sleep(0.01)
        return False
    return True


def program(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "distributed.cli.dask_" + arguments[0], *arguments[1:], "--no-dashboard"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True, env=environment)


def test_a_scheduler_that_is_lost_is_one_line_and_nothing_stored_is(call: Call, tmp_path: Path, free_port: int) -> None:
    address = f"tcp://127.0.0.1:{free_port}"
    run = ("run", "tiny", "--engine", "dask", "--scheduler", address)
    with (
        program("scheduler", "--host", "127.0.0.1", "--port", str(free_port)) as scheduler,
        program("worker", address, "--no-nanny", "--nthreads", "1") as worker,
        contextlib.ExitStack() as stack,
    ):
        stack.callback(worker.kill)
        stack.callback(scheduler.kill)

        def lose(self: Any, chunk: Any, sums: Any, report: Any) -> None:
            chunk.write(self.store, sums)
            scheduler.kill()

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("stabsim.collect.Gathering.add", lose)
            started = time.monotonic()
            status, _, err = call(*run)
        assert time.monotonic() - started < 30
    assert status == 1 and err == (
        f"stabsim: tiny: the scheduler {address} is lost: what had arrived is stored, and the rest is not done\n"
    )
    stored = len(list(Path("results").rglob("*.npz")))
    assert 1 <= stored < 8
    assert f"{8 - stored} of 8 chunks to simulate" in call("run", "tiny")[1]


@pytest.fixture
def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n"], ids=["nothing", "HTTP"])
def test_what_listens_and_is_no_scheduler_is_one_line(call: Call, monkeypatch: pytest.MonkeyPatch, said: bytes) -> None:
    monkeypatch.setattr("stabsim.engines.cluster.CONNECT_SECONDS", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        answered: list[socket.socket] = []

        def answer() -> None:
            answered.append(server.accept()[0])
            answered[0].sendall(said)

        answering = threading.Thread(target=answer)
        answering.start()
        status, _, err = call("run", "tiny", "--engine", "dask", "--scheduler", address)
        answering.join()
        answered[0].close()
    assert (status, err) == (1, f"stabsim: tiny: no scheduler answers at {address}: {NOT_UNDERSTOOD}\n")


def test_a_scheduler_that_wants_certificates_is_one_line(call: Call) -> None:
    status, _, err = call("run", "tiny", "--engine", "dask", "--scheduler", "tls://127.0.0.1:1")
    assert (status, err.count("\n")) == (1, 1) and "under distributed.comm.tls" in err


def test_an_address_without_a_scheduler_or_without_workers_is_one_line(
    call: Call, monkeypatch: pytest.MonkeyPatch, free_port: int
) -> None:
    monkeypatch.setattr("stabsim.engines.cluster.CONNECT_SECONDS", 1.0)
    monkeypatch.setattr(sys.modules["stabsim.engines.dask"], "WORKERLESS_SECONDS", 1.0)
    run = ("run", "tiny", "--engine", "dask", "--scheduler")
    address = f"127.0.0.1:{free_port}"
    status, _, err = call(*run, address)
    assert (status, err.count("\n")) == (1, 1)
    assert err.startswith(f"stabsim: tiny: no scheduler answers at {address}: ")
    with distributed.LocalCluster(
        n_workers=0, dashboard_address=None, silence_logs=logging.CRITICAL, scheduler_kwargs=NO_DASHBOARD
    ) as empty:
        status, _, err = call(*run, empty.scheduler_address)
    assert (status, err) == (
        1, f"stabsim: tiny: {empty.scheduler_address} has had no worker for 1 seconds: start some\n"
    )  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--scheduler", "127.0.0.1:8786"],
            "scheduler='127.0.0.1:8786' is for engine 'dask', and the engine is 'local'",
        ),
        (["--engine", "dask", "--scheduler", "node1"], "scheduler='node1' must be HOST:PORT or tcp://HOST:PORT"),
        (["--engine", "dask", "--scheduler", "node1:99999"], "scheduler='node1:99999' must be HOST:PORT or tcp://"),
        (["--engine", "dask", "--scheduler", "http://node1:80"], "scheduler='http://node1:80' must be HOST:PORT"),
        (["--engine", "dask", "--scheduler", "node1:1", "--threads", "2"], "--threads and --scheduler are both given"),
    ],
)
def test_bad_usage_is_one_line_and_status_2(call: Call, arguments: list[str], message: str) -> None:
    status, out, err = call("run", "tiny", *arguments)
    assert (status, out, err.count("\n")) == (2, "", 1) and message in err


def test_without_dask_one_line_says_how_to_install_it(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    status, _, err = call("run", "tiny", "--engine", "dask")
    assert (status, err) == (1, "stabsim: tiny: engine 'dask' needs dask: pip install 'stabsim[dask]'\n")
