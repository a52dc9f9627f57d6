"""Every block of docs/cluster.md, run here: with stand-ins for the machines that it wants."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.test_cli import Call, call
from tests.test_store import tree

yaml = pytest.importorskip("yaml")

__all__ = ["call"]  # a fixture

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "cluster.md").read_text()

STAND_INS = {
    "hostname": "echo 127.0.0.1",
    "ssh": 'shift; exec sh -c "$*"',
    "scancel": ":",
    "stabsim": f'exec {shlex.quote(sys.executable)} -m stabsim "$@"',
    # Runs the script in the background, as the queue would.
    "sbatch": 'echo "Submitted batch job 1"; cp "$1" job.sh; bash job.sh > /dev/null 2>&1 &',
}


def block(language: str, number: int = 0) -> str:
    """Return a block of the page, for the study of eight chunks at quick scale."""
    text = re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)[number]
    return str(text).replace("mean_field", "tiny").replace(" --scale paper", "").replace('"paper"', '"quick"')


Run = Callable[[list[str]], str]


@pytest.fixture
def run(call: Call, tmp_path: Path) -> Iterator[Run]:
    """Run a command in the folder of the study with stand-ins; what it leaves running ends with the test."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, text in STAND_INS.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(stat.S_IRWXU)
    path = os.pathsep.join([str(folder), str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)}
    started = []

    def do(command: list[str]) -> str:
        process = subprocess.Popen(
            command,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        started.append(process.pid)
        out, _ = process.communicate(timeout=240)
        assert process.returncode == 0, out
        return out

    yield do
    for each in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(each, signal.SIGKILL)


def same_as_here(call: Call) -> bool:
    """Return whether the results are those of a plain run."""
    assert call("run", "tiny", "--out", "here")[0] == 0
    return all(tree(Path(folder)) == tree(Path("here") / folder) for folder in ("results", "figures"))


def free_port() -> str:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return str(found.getsockname()[1])


@pytest.mark.slow
def test_one_machine(call: Call, run: Run) -> None:
    run(["bash", "-ec", block("bash").replace("--engine dask", "--engine dask --threads 2")])
    assert same_as_here(call)


@pytest.mark.slow
def test_ssh(call: Call, run: Run) -> None:
    run(["bash", "-ec", block("bash", 1).replace("8786", free_port())])
    assert same_as_here(call)


@pytest.mark.slow
def test_jobs_of_dask_jobqueue(call: Call, run: Run) -> None:
    pytest.importorskip("dask_jobqueue", reason="pip install dask-jobqueue")
    text = block("python").replace("16", "2").replace("32GB", "4GB").replace("jobs=4", "jobs=1")
    Path("jobs.py").write_text(text)
    run([sys.executable, "jobs.py"])
    assert same_as_here(call)


def container(document: dict[str, Any]) -> dict[str, Any]:
    """Return the one container of a Job or a Deployment."""
    (found,) = document["spec"]["template"]["spec"]["containers"]
    return dict(found)


@pytest.mark.slow
def test_an_indexed_job_of_kubernetes(call: Call, run: Run) -> None:
    job = yaml.safe_load(block("yaml"))
    assert (job["apiVersion"], job["kind"], job["spec"]["completionMode"]) == ("batch/v1", "Job", "Indexed")
    shard, spec = container(job), job["spec"]["template"]["spec"]
    assert {each["name"] for each in shard["volumeMounts"]} == {each["name"] for each in spec["volumes"]}
    (text,) = shard["args"]
    assert f"/{job['spec']['completions']}" in text
    for index in range(job["spec"]["completions"]):
        here = text.replace("/data", "data").replace("--threads 4", "--threads 1")
        run(["env", f"JOB_COMPLETION_INDEX={index}", *shard["command"], here])
    run(["bash", "-ec", "stabsim merge data/shards/* --out . && stabsim run tiny"])
    assert same_as_here(call)


@pytest.mark.slow
def test_deployments_of_kubernetes(call: Call, run: Run) -> None:
    service, *deployments = yaml.safe_load_all(block("yaml", 1))
    for each in deployments:
        labels = each["spec"]["template"]["metadata"]["labels"]
        assert each["kind"] == "Deployment" and each["spec"]["selector"]["matchLabels"] == labels
    assert service["spec"]["selector"] == deployments[0]["spec"]["selector"]["matchLabels"]
    commands = [shlex.join(container(each)["command"]) + " &" for each in deployments]
    coordinator = re.findall(r"`(stabsim run tiny --engine dask --scheduler .*?)`", PAGE.replace("mean_field", "tiny"))[
        0
    ]
    text = "\n".join(["trap 'kill $(jobs -p)' EXIT", *commands, coordinator])
    run(["bash", "-ec", text.replace("stabsim-scheduler", "127.0.0.1").replace("8786", free_port())])
    assert same_as_here(call)


@pytest.mark.slow
def test_a_worker_a_card(call: Call, run: Run) -> None:
    """The block of docs/gpu.md for several cards: its workers find none here, and simulate on the CPU."""
    page = (ROOT / "docs" / "gpu.md").read_text()
    (text,) = re.findall(r"^```bash\n(CUDA_VISIBLE_DEVICES.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert "--device cuda" in text
    text = text.replace("mean_field", "tiny").replace(" --scale paper", "").replace(" --device cuda", "")
    scheduler = "trap 'kill $(jobs -p)' EXIT\ndask scheduler --host node1 --port 8786 --no-dashboard &\n"
    run(["bash", "-ec", (scheduler + text).replace("node1", "127.0.0.1").replace("8786", free_port())])
    assert same_as_here(call)


def test_every_block_of_the_page_is_run() -> None:
    assert re.findall(r"^```(\w+)$", PAGE, re.MULTILINE) == ["bash", "bash", "slurm", "bash", "python", "yaml", "yaml"]
