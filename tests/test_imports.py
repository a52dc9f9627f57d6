"""Data flows down, imports point up: which module may import which, read from the sources."""

from __future__ import annotations

import ast

import pytest

from tests.sources import MODULES, doors, imports, reached

# From the sums over nets up: a module imports none that stands behind it.
UPWARD = (
    "stabsim.moments", "stabsim.engines", "stabsim.estimates", "stabsim.target", "stabsim.result", "stabsim.simulation",
    "stabsim.store", "stabsim.study", "stabsim.figures", "stabsim.collect", "stabsim.running", "stabsim.cli",
)  # fmt: skip

# What else a part of the package must not import: it would point down.
FORBIDDEN = {
    "stabsim.checks": ("stabsim",),
    "stabsim.versions": ("stabsim",),
    "stabsim.names": ("stabsim.kernels", "stabsim.network", "stabsim.activations", "stabsim.task"),
    "stabsim.network": UPWARD,
    "stabsim.activations": UPWARD,
    "stabsim.initializers": UPWARD,
    "stabsim.quantities": UPWARD,
    "stabsim.cuda": ("stabsim.plan", "stabsim.arguments", *UPWARD[1:]),
    "stabsim.theory": ("stabsim.kernels", "stabsim.plan", *UPWARD),
    "stabsim.figures": ("stabsim.moments", "stabsim.result", "stabsim.plan", "stabsim.kernels", "stabsim.tracing"),
    "stabsim": ("tests", "benchmarks", "studies"),
}

# What costs tenths of a second to import, and which modules may do so while they are imported themselves.
SLOW = ("pandas", "seaborn", "matplotlib", "scipy.stats", "sklearn", "rich", "jinja2", "PIL", "panel", "bokeh", "torch")


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def offenses(module: str, forbidden: tuple[str, ...]) -> list[str]:
    return sorted(name for name in imports(module) if any(within(name, package) for package in forbidden))


@pytest.mark.parametrize("part", FORBIDDEN)
def test_no_import_points_down(part: str) -> None:
    assert part in MODULES
    for module in MODULES:
        if within(module, part):
            assert not offenses(module, FORBIDDEN[part]), module


@pytest.mark.parametrize("place", range(len(UPWARD)))
def test_data_flows_one_way(place: int) -> None:
    for module in MODULES:
        if within(module, UPWARD[place]):
            assert not offenses(module, UPWARD[place + 1 :]), module


def test_no_room_imports_itself_through_others() -> None:
    """Whatever the reason: types only, or inside a function."""
    assert not {name for name in doors() if name in reached(name)}


def test_kernels_import_only_kernels() -> None:
    for module in MODULES:
        if within(module, "stabsim.kernels"):
            own = {name for name in imports(module) if within(name, "stabsim")}
            assert all(within(name, "stabsim.kernels") for name in own), (module, own)


def test_nobody_imports_the_command_line() -> None:
    for module in MODULES:
        if not within(module, "stabsim.cli"):
            assert not offenses(module, ("stabsim.cli",)), module


def test_one_module_imports_cuda() -> None:
    for module in MODULES:
        if module != "stabsim.cuda.shim":
            assert not offenses(module, ("numba.cuda", "numba_cuda", "cupy")), module


def test_nothing_of_cuda_is_imported_before_it_is_asked_for() -> None:
    for module in MODULES:
        if not within(module, "stabsim.cuda") or module == "stabsim.cuda.ensemble":
            assert not {name for name in imports(module, at_once=True) if name == "stabsim.cuda.shim"}, module


def test_one_module_calls_the_compiler() -> None:
    names = {"njit", "jit", "vectorize", "guvectorize", "stencil", "cfunc"}
    for module, path in MODULES.items():
        if module == "stabsim.kernels.compile":
            continue
        assert not {f"numba.{name}" for name in names} & imports(module), module
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "numba":
                assert node.attr not in names, f"{module} calls numba.{node.attr}"
            assert not (isinstance(node, ast.keyword) and node.arg == "fastmath" and _is_true(node.value)), module


def _is_true(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is True


@pytest.mark.parametrize("slow", SLOW)
def test_the_command_line_and_the_package_import_nothing_slow(slow: str) -> None:
    """What `import stabsim` or `stabsim --help` reaches without calling anything."""
    reached, waiting = set(), ["stabsim", "stabsim.cli"]
    while waiting:
        module = waiting.pop()
        if module in MODULES and module not in reached:
            reached.add(module)
            waiting += imports(module, at_once=True)
            assert not any(within(name, slow) for name in imports(module, at_once=True)), module


def test_the_readers_of_this_test_see_what_they_look_for() -> None:
    assert "stabsim.kernels.philox" in imports("stabsim.kernels.laws")
    assert "numba" in imports("stabsim.kernels.compile")
    assert not imports("stabsim", at_once=True) & {"stabsim.simulation", "stabsim.simulation.simulate"}
    assert "stabsim.simulation.simulate" in imports("stabsim")
