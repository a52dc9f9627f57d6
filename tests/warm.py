"""Everything that a study needs, imported, loaded and called once: what `tests.forked` forks."""

import tempfile

import matplotlib
from matplotlib.figure import Figure

matplotlib.use("Agg")

import stabsim.cli.run  # noqa: F401
from stabsim.arguments import make_task
from stabsim.network import Network
from stabsim.running import run_study
from stabsim.study import Case, Drawing, Study

TASK = make_task(Network((4, 4, 4), "relu", "he_normal"), quantities=("activation_log10_norm",))


def _drawings(collected):  # type: ignore[no-untyped-def]
    yield Drawing(Figure((1, 1)), collected.table)


with tempfile.TemporaryDirectory() as folder:
    for _ in range(2):  # what is simulated is read, too
        run_study(Study("warm", "", lambda _: [Case(TASK, 8192)], _drawings), out=folder, threads=1)
