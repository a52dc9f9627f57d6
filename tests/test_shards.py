"""Shards: whoever simulates which chunks, together they leave what one run leaves."""

from __future__ import annotations

import os
import re
import subprocess
import time
from pathlib import Path

import pytest

from stabsim.store import Store
from tests.test_cli import STUDY, Call, call, start
from tests.test_store import tree

__all__ = ["call"]  # a fixture

MEASURING = (
    STUDY.replace('"tiny"', '"timed"').replace("8000", "100").replace("draw=draw", "draw=lambda _: [], measure=measure")
).replace(
    "def draw(",
    """def measure(scale):
    import pandas

    return pandas.DataFrame({"what": ["a # b", "c"], "seconds": [0.1, 0.2]})


def draw(""",
)


def test_threads_shards_kills_and_rivals_leave_the_same_results(call: Call) -> None:
    Path("studies/timed.py").write_text(MEASURING)
    assert call("run", "--all", "--threads", "1", "--out", "one")[0] == 0
    whole = tree(Path("one"))

    with start("run", "tiny", "timed", "--threads", "2", "--out", "two") as other:
        wait_for_chunk(Path("two"))
        status, _, err = call("run", "tiny", "--out", "two")
        assert (status, err.count("\n")) == (1, 1) and f"is in use by process {other.pid} on " in err
        _, err = other.communicate(timeout=120)
    assert (other.returncode, err) == (0, "") and tree(Path("two")) == whole

    with start("run", "tiny", "--threads", "1", "--shard", "2/3", "--out", "shard2") as killed:
        wait_for_chunk(Path("shard2"))
        killed.kill()
    for shard, threads in ((3, "2"), (1, "1"), (2, "2")):
        status, out, err = call("run", "--all", "--shard", f"{shard}/3", "--threads", threads, "--out", f"shard{shard}")
        assert (status, err) == (0, "") and f"tiny, shard {shard}/3: " in out and "X01" not in out
        assert out.splitlines()[-1].startswith(f"shard {shard}/3 is done; stabsim merge FOLDER ... puts the")
    assert len(list(Path().glob("shard*/results/timed/measured_quick.csv"))) == 1
    assert not list(Path().glob("shard*/figures")) and not list(Path().rglob("shard*/**/verdicts.json"))

    status, out, err = call("merge", "shard3", "shard1", "shard2", "--out", "merged")
    assert (status, err) == (0, "") and out.splitlines() == [
        "timed: 3 files copied, 0 there already",
        "tiny: 8 files copied, 0 there already",
        "verdicts and figures are made anew, with the --scale, --seed and --device of the sources, by: "
        "stabsim run timed tiny --out merged",
    ]
    status, out, _ = call("run", "timed", "tiny", "--out", "merged")
    assert status == 0 and out.count("nothing is simulated") == 2 and "measuring" not in out
    assert tree(Path("merged")) == whole
    assert call("merge", "shard1", "shard2", "shard3", "one", "--out", "merged")[0] == 0
    assert tree(Path("merged")) == whole


def wait_for_chunk(out: Path) -> None:
    for _ in range(6000):
        if list(out.rglob("*.npz")):
            return
        time.sleep(0.01)
    pytest.fail("no chunk within a minute")


def test_a_shard_without_chunks_is_merged_like_any_other(call: Call, tmp_path: Path) -> None:
    status, out, _ = call("run", "tiny", "--shard", "10/10", "--out", "last")
    assert status == 0 and "tiny, shard 10/10: it has none of the chunks\n" in out
    assert not list(Path("last").rglob("*.npz"))
    status, out, _ = call("merge", "last", "--out", "merged")
    assert status == 0 and "tiny: 0 files copied, 0 there already" in out
    assert Store("merged/results/tiny/chunks").tasks() == Store("last/results/tiny/chunks").tasks() != {}


def test_the_recipe_for_a_batch_queue_leaves_what_one_run_does(call: Call, tmp_path: Path) -> None:
    page = (Path(__file__).parents[1] / "docs" / "cluster.md").read_text()
    array, rest = re.findall(r"```slurm\n(.*?)```\n\n```bash\n(.*?)```", page, re.DOTALL)[0]
    assert "--array=1-100\n" in array and '_ID/100"' in array
    # What stabsim is called with is said, and then done here; the queue does nothing.
    for name, text in (("stabsim", 'echo "$@"'), ("sbatch", ":")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)

    def do(script: str, **environment: str) -> None:
        text = script.replace("/100", "/2").replace("paper", "quick")
        path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(
            ["bash", "-c", text], env=environment | {"PATH": path}, capture_output=True, text=True, check=True
        )
        for line in done.stdout.splitlines():
            assert call(*line.split())[0] == 0, line

    assert call("run", "tiny", "--out", "whole")[0] == 0
    for shard in "21":
        do(array, SLURM_ARRAY_TASK_ID=shard, SLURM_CPUS_PER_TASK="2")
    do(rest)
    assert tree(Path("results")) == tree(Path("whole/results"))
    assert tree(Path("figures")) == tree(Path("whole/figures"))


@pytest.mark.parametrize(
    ("shard", "message"),
    [
        ("0/3", "shard='0/3' must be I/N, such as 1/8: 1 <= I <= N <= 1000000"),
        ("4/3", "shard='4/3' must be I/N"),
        ("1/1000001", "shard='1/1000001' must be I/N"),
        ("1", "shard='1' must be I/N"),
    ],
)
def test_shards_that_make_no_sense_are_refused_in_one_line(call: Call, shard: str, message: str) -> None:
    status, out, err = call("run", "tiny", "--shard", shard)
    assert (status, out, err.count("\n")) == (2, "", 1) and message in err
    assert not Path("results").exists()
