"""Keras' initializers as laws of the registry."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from stabsim import checks
from stabsim.initializers import Initializer
from stabsim.models.goodness import TRUNCATED_STD
from stabsim.names import check_known, unknown

VARIANCE_SCALING = {  # scale, fan, law: GlorotNormal and its kin are cut at two standard deviations, and rescaled
    "GlorotNormal": (1.0, "average", "truncated_normal"),
    "GlorotUniform": (1.0, "average", "uniform"),
    "HeNormal": (2.0, "in", "truncated_normal"),
    "HeUniform": (2.0, "in", "uniform"),
    "LecunNormal": (1.0, "in", "truncated_normal"),
    "LecunUniform": (1.0, "in", "uniform"),
}
MODES = {"fan_in": "in", "fan_out": "out", "fan_avg": "average"}
DISTRIBUTIONS = {
    "truncated_normal": "truncated_normal",
    "normal": "truncated_normal",
    "untruncated_normal": "normal",
    "uniform": "uniform",
}
KNOWN = (
    *VARIANCE_SCALING, "VarianceScaling", "RandomNormal", "TruncatedNormal", "RandomUniform", "Orthogonal",
    "OrthogonalInitializer", "Zeros", "Ones", "Constant", "Identity", "IdentityInitializer",
)  # fmt: skip


def law(
    argument: str,
    given: Any,
    shape: Sequence[int],
    gates: int = 1,
    notes: list[str] | None = None,
    zeros: bool = False,
) -> Initializer | None:
    """Return the law of an initializer, by its name or in its serialized form; None of zeros.

    Parameters
    ----------
    argument : str
        What errors call it.
    given : str or mapping
        ``"he_normal"``, or with class_name and config.
    shape : sequence of int
        Of the tensor that it draws: of a cell (inputs, gates * units), whose fans these are.
    gates : int
        Of a cell.
    notes : list of str, optional
        To which is added what the law has otherwise.
    zeros : bool
        Whether zeros are a law, too.

    Raises
    ------
    ValueError
        If it is unknown, or no law of the registry.

    Examples
    --------
    >>> law("kernel_initializer", "glorot_uniform", (3, 4)) == Initializer("uniform", 1.0, "average")
    True
    """
    options: Mapping[str, Any] = {}
    name = given
    if isinstance(given, Mapping):
        name, found = given.get("class_name"), given.get("config")
        options = found if isinstance(found, Mapping) else {}
    known = {_plain(each): each for each in KNOWN}
    if not isinstance(name, str) or _plain(name) not in known:
        raise unknown(f"{argument}:", name, KNOWN)
    name = known[_plain(name)]
    if name == "Zeros" or (name == "Constant" and not options.get("value", 0.0)):
        return Initializer("constant", 0.0, "none") if zeros else None
    found_law = _law(argument, name, options)
    return _of_gates(argument, found_law, shape, gates, notes) if gates > 1 else found_law


def _plain(name: str) -> str:
    return name.replace("_", "").lower()


def _law(argument: str, name: str, options: Mapping[str, Any]) -> Initializer:
    if name in VARIANCE_SCALING:
        scale, fan, kind = VARIANCE_SCALING[name]
        return Initializer(kind, math.sqrt(scale), fan)
    if name == "VarianceScaling":
        scale = _positive(f"scale of {argument}", options.get("scale", 1.0))
        mode, kind = options.get("mode", "fan_in"), str(options.get("distribution", "truncated_normal")).lower()
        for what, value, allowed in (("mode", mode, MODES), ("distribution", kind, DISTRIBUTIONS)):
            check_known(f"{what} of {argument}:", value, allowed)
        return Initializer(DISTRIBUTIONS[kind], math.sqrt(scale), MODES[mode])
    if name in ("RandomNormal", "TruncatedNormal"):
        if options.get("mean", 0.0):
            raise ValueError(f"mean of {argument} must be 0, not {checks.brief(options['mean'])}")
        std = _positive(f"stddev of {argument}", options.get("stddev", 0.05))
        if name == "RandomNormal":
            return Initializer("normal", std, "none")
        return Initializer("truncated_normal", TRUNCATED_STD * std, "none")  # stddev is the parent's
    if name == "RandomUniform":
        low, high = (
            checks.number(f"{end} of {argument}", options.get(end, d))
            for end, d in (("minval", -0.05), ("maxval", 0.05))
        )
        if low != -high:
            raise ValueError(f"minval of {argument} must be -maxval, not {low:g} with {high:g}")
        return Initializer("uniform", _positive(f"maxval of {argument}", high) / math.sqrt(3), "none")
    if name.startswith(("Orthogonal", "Identity")):
        gain = _positive(f"gain of {argument}", options.get("gain", 1.0))
        return Initializer("orthogonal", gain, "largest") if name[0] == "O" else Initializer("identity", gain, "none")
    value = 1.0 if name == "Ones" else checks.number(f"value of {argument}", options.get("value", 0.0))
    return Initializer("constant", value, "none")


def _positive(argument: str, value: Any) -> float:
    return checks.number(argument, value, 0.0, open_ends=True)


def _of_gates(
    argument: str, given: Initializer, shape: Sequence[int], gates: int, notes: list[str] | None
) -> Initializer:
    """Return the law of one gate's part of a matrix that holds all gates side by side."""
    std = given.weight_std(*shape)
    if given.law == "identity":
        raise ValueError(f"{argument} must be no identity, of which each gate would have another part")
    if given.law == "orthogonal":
        if notes is not None:
            notes.append(
                f"{argument}: Keras makes all gates together orthogonal, of which one gate's part is not; normal "
                f"weights of the same size stand for it"
            )
        return Initializer("normal", std, "none")
    return Initializer(given.law, math.copysign(std, given.gain), "none")
