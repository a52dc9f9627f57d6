"""Results and identities are those of their versions: numbers of tiny ensembles, and hashes, as they once were.

After a version has been raised,

    python -m tests.test_identity

prints what is to stand here. Numbers change with no other reason; hashes of networks never.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest

from stabsim.arguments import make_task
from stabsim.moments import Sums
from stabsim.network import Network
from stabsim.plan import Plan
from stabsim.task import Task
from stabsim.versions import RECORD_VERSION, STREAM_VERSION

Numbers = tuple[float, ...]

NETS = 64
PER_NET = ("activation_log10_norm", "activation_gradient_log10_norm")
TOLERANCE = {"float64": 1e-10, "float32": 1e-4}  # relative; processors round differently


def task(
    sampler: str, batch: int, precision: str, activation: str, weights: str, bias_std: float = 0.0, seed: int = 0
) -> Task:
    """Return a task of four widths, all quantities and the norms of every net."""
    network = Network((5, 9, 7, 6), activation, weights, bias_std)
    return make_task(network, batch=batch, seed=seed, sampler=sampler, precision=precision, samples=PER_NET)


TASKS = {
    "dense 1": task("dense", 1, "float32", "relu", "he_normal"),
    "dense 1 double": task("dense", 1, "float64", "tanh", "glorot_uniform", 0.3),
    "dense 3": task("dense", 3, "float32", "gelu", "truncated_normal(std=0.5)"),
    "dense 3 double": task("dense", 3, "float64", "relu", "orthogonal(gain=1.5)", seed=2**64 - 1),
    "matrix-free 1": task("matrix_free", 1, "float32", "tanh", "orthogonal"),
    "matrix-free 1 double": task("matrix_free", 1, "float64", "relu", "he_normal", 0.2),
    "matrix-free 3": task("matrix_free", 3, "float32", "sigmoid", "lecun_normal(gain=2)"),
    "matrix-free 3 double": task("matrix_free", 3, "float64", "elu", "orthogonal", seed=7),
}


def sums_of(task: Task) -> Sums:
    """Return the sums of the first nets."""
    (sums,) = Plan(task).run([(0, NETS)], 1)
    return sums


def nets_of(sums: Sums) -> Numbers:
    """Return the log10 norms of the last z and the first dz of two nets: these tell what was drawn."""
    forward, backward = (sums.samples[name] for name in PER_NET)
    return (*forward[:2, -1].tolist(), *backward[:2, 0].tolist())


def columns_of(sums: Sums) -> Numbers:
    """Return, of each tensor, the sum of its means of powers, and then that of all else: these tell what is summed."""
    totals: dict[str, float] = {}
    for name, group in sums.groups.items():
        powers = np.arange(1, group.mean.shape[1] + 1)
        means = np.ldexp(group.mean, group.exponent[:, None] * powers)
        kind = name if name in sums.tails else "fractions and norms"
        totals[kind] = totals.get(kind, 0.0) + float(np.abs(means[group.count > 0]).sum())
    return tuple(totals[kind] for kind in sorted(totals))


# Of the nets above: the norms of two, and the sums of all.
PINNED_AT = {"stream": 1, "record": 3}
PINNED: dict[str, tuple[Numbers, Numbers]] = {
    "dense 1": (
        (0.0690125, -0.467141, -0.178565, -0.325866),
        (54.3363, 3.4629, 2.93651, 25.3545, 81.0344, 1.07889, 1.21583),
    ),
    "dense 1 double": (
        (0.148567784061, -0.0672697740922, -0.157566199006, 0.121771304103),
        (6.26473924258, 1.83479639505, 3.82639329908, 4.07786298865, 7.20767950555, 1.01147216577, 0.339898923297),
    ),
    "dense 3": (
        (0.422211, 0.282796, 0.465651, 0.360835),
        (13.5407, 3.04781, 2.73847, 6.30876, 16.9137, 1.02489, 2.0249),
    ),
    "dense 3 double": (
        (0.420295448984, 0.45029943549, 0.364263850522, 0.320063572715),
        (29.9449470747, 3.74026994702, 2.95006613757, 23.9597085726, 33.0093458845, 1.38175411617, 3.24590760733),
    ),
    "matrix-free 1": (
        (-0.032357, -0.0492707, 0.0252655, -0.133002),
        (5.62151, 2.14229, 4.37317, 4.26486, 2.9119, 1.37583, 0.434114),
    ),
    "matrix-free 1 double": (
        (-0.0124408857431, -0.188172173508, 0.414652666022, -0.619778832768),
        (52.6905325133, 3.5727466689, 2.8970734127, 25.6287386817, 75.8292948736, 1.25928453852, 1.35211956021),
    ),
    "matrix-free 3": (
        (0.0901332, 0.0731344, -0.780719, -1.05409),
        (4.05609, 1.24607, 0.678809, 13.6754, 84.455, 0.0562686, 0.0546607),
    ),
    "matrix-free 3 double": (
        (0.0642710365115, -0.0230518953841, 0.0547842925999, -0.011149521722),
        (5.87480926197, 2.38079410099, 4.71568461739, 5.56748538307, 2.65909954299, 1.56050057697, 1.72377469214),
    ),
}


def assert_pinned(name: str, sums: Sums, precision: str) -> None:
    """Fail, and say which version is to be raised, if the sums of a task are not those of today's versions."""
    nets, columns = PINNED[name]
    again = "list it in CHANGELOG.md and pin the numbers anew: python -m tests.test_identity prints them"
    assert _same(nets_of(sums), nets, precision), (
        f"{name}: these are other nets than those of stream version {STREAM_VERSION}: "
        f"raise STREAM_VERSION in stabsim/versions.py, {again}"
    )
    assert _same(columns_of(sums), columns, precision), (
        f"{name}: the nets are the same, but not what is summed of them in record version {RECORD_VERSION}: "
        f"raise RECORD_VERSION in stabsim/versions.py, {again}"
    )


def _same(found: Numbers, expected: Numbers, precision: str) -> bool:
    return np.allclose(found, expected, rtol=TOLERANCE[precision], atol=0.0)


def test_numbers_are_pinned_for_todays_versions() -> None:
    assert PINNED_AT == {"stream": STREAM_VERSION, "record": RECORD_VERSION}, (
        "pin the numbers of the new version: python -m tests.test_identity prints them"
    )
    assert PINNED.keys() == TASKS.keys()


@pytest.mark.parametrize("name", TASKS)
def test_the_same_versions_give_the_same_numbers(name: str) -> None:
    assert_pinned(name, sums_of(TASKS[name]), TASKS[name].precision)


@pytest.mark.parametrize("name", TASKS)
def test_other_numbers_name_the_version_to_raise(name: str) -> None:
    precision, right = TASKS[name].precision, sums_of(TASKS[name])
    with pytest.raises(AssertionError, match="raise STREAM_VERSION"):
        assert_pinned(name, sums_of(replace(TASKS[name], seed=1)), precision)
    for group, moments in right.groups.items():
        wrong = replace(moments, mean=moments.mean * 1.05)
        sums = replace(right, groups=right.groups | {group: wrong})
        if not moments.mean[moments.count > 0].any():
            continue  # nothing is dead in some of these nets
        with pytest.raises(AssertionError, match="raise RECORD_VERSION"):
            assert_pinned(name, sums, precision)


# --- identities --------------------------------------------------------------------------------------

NETWORK = Network((4, 30, 2), "leaky_relu(slope=0.2)", "lecun_normal(gain=1.1)", bias_std=0.1)
NETWORK_HASH = "0e26cf8da39ce082157700ca8484430dab1c5a0fee729507f8b30945b7cdf80a"

TASK = make_task(NETWORK)
FULL_TASK = make_task(
    NETWORK, batch=2, seed=2**64 - 1, inputs=np.arange(12.0).reshape(3, 4), output_gradient=np.eye(2) / 3,
    sampler="dense", precision="float64", saturation=0.1, quantities=("activation_mean", "weight_gradient_log10_norm"),
    samples=("activation_log10_norm",), histograms={"activation": (-1 / 3, 2.0, 7)},
)  # fmt: skip
TASK_HASHES = (
    "38a902a13ebff4646f21112866bd6614e679bb446a0cb9c31fa79796ba9e9d24",
    "9324e4aa206b0ad1090588ccd81b2bc64c879cca3bf60bb5c65c533ee707b159",
)


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def test_the_identity_of_a_network_never_changes() -> None:
    assert digest(NETWORK.to_json()) == NETWORK.content_hash == NETWORK_HASH


def test_the_identity_of_a_task_changes_with_the_versions_alone() -> None:
    found = tuple(digest(each.identity) for each in (TASK, FULL_TASK))
    assert found == TASK_HASHES, "no stored chunk would be found: raise STREAM_VERSION or RECORD_VERSION if this is due"


if __name__ == "__main__":
    for name, each in TASKS.items():
        sums, digits = sums_of(each), 12 if each.precision == "float64" else 6
        print(f"    {name!r}: (")
        for numbers in (nets_of(sums), columns_of(sums)):
            print(f"        ({', '.join(f'{number:.{digits}g}' for number in numbers)}),")
        print("    ),")
    print(NETWORK.content_hash, *(digest(each.identity) for each in (TASK, FULL_TASK)), sep="\n")
