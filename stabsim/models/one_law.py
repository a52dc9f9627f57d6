"""The one initializer of weights and biases of all layers, which a `Network` has, from the fits of single matrices."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np
from scipy.special import gammaincc

from stabsim.initializers import INITIALIZERS, Initializer
from stabsim.models.fits import EXACT_LAWS, LEVEL, UNCLEAR, Fit, most_likely
from stabsim.models.goodness import FAMILIES, FEWEST

FANS = ("in", "none", "average", "largest", "out")  # in the order in which they are taken, where several fit
TORCH = 1 / math.sqrt(3)  # gain of PyTorch's uniform weights and biases
GAINS = (1.0, math.sqrt(2), 5 / 3, 3 / 4)  # of torch.nn.init.calculate_gain, without parameters


def one_law(fits: Sequence[Fit], more: Iterable[Initializer] = ()) -> Initializer:
    """Return the initializer that all matrices fit: a named one if any does, else one with the gain that they have.

    Raises
    ------
    ValueError
        If they fit no law, or no single gain by any fan.
    """
    law = _pooled(fits)
    named = [entry.make() for entry in INITIALIZERS.values()]
    agreeing = {}
    for candidate in (*named, *more):
        wrong = [_deviation(fit, abs(candidate.weight_std(*fit.fans))) for fit in fits] if candidate.law == law else []
        if wrong and _agree(wrong, fits):
            agreeing[replace(candidate, bias_law="normal", bias_gain=None)] = round(sum(z * z for z in wrong), 6)
    if agreeing:
        return min(agreeing, key=agreeing.__getitem__)
    if law == "constant":
        values = {float(fit.values.flat[0]) for fit in fits}
        if len(values) > 1:
            raise ValueError(f"constant weights differ between layers, where a Network has one value: {sorted(values)}")
        return Initializer(law, values.pop(), "none")
    for fan in sorted(FANS, key=("largest" if law == "orthogonal" else "in").__ne__):
        unit = Initializer(law, 1.0, fan)
        estimate = _mean_gain([fit.scale / unit.weight_std(*fit.fans) for fit in fits], fits)
        for gain in (*GAINS, estimate):
            wrong = [_deviation(fit, gain * unit.weight_std(*fit.fans)) for fit in fits]
            if _agree(wrong, fits, lost=int(gain == estimate)):
                return Initializer(law, gain, fan)
    gains = ", ".join(f"{fit.gain:.3g} of {fit.place}" for fit in fits[:6])
    raise ValueError(f"a Network has one gain in all layers but the last, weights have std * sqrt(fan_in) = {gains}")


def _pooled(fits: Sequence[Fit]) -> str:
    """Return the law that all matrices fit together, by all their values."""
    laws = {fit.law for fit in fits if fit.law != UNCLEAR or fit.values.size >= FEWEST}
    exact = laws & set(EXACT_LAWS)
    if exact and len(laws) > 1:
        listed = ", ".join(f"{fit.law} of {fit.place}" for fit in fits[:6])
        raise ValueError(f"a Network has one law of weights in all layers but the last, these fit {listed}")
    if exact:
        return exact.pop()
    kept = _kept(fits, LEVEL / len(fits))
    law = most_likely(kept, {law: sum(fit.evidence[law] for fit in fits) for law in kept})
    if law == UNCLEAR:
        raise ValueError(
            f"{fits[0].place} has too few weights to tell their law, with all layers that there are: name it, "
            f"model.ensemble(weights='he_normal'), say"
        )
    return law


def _kept(fits: Sequence[Fit], level: float) -> list[str]:
    """Return the laws that all matrices fit, each of them tested at a level."""
    of_each = [{law for law in FAMILIES if fit.fits(law, level)} for fit in fits]
    for fit, laws in zip(fits, of_each, strict=True):
        if not laws:
            largest = max(fit.p_values.values())
            why = f"p = {largest:.2g}" if largest < level else "their values depend on each other"
            raise ValueError(
                f"weights of {fit.place} fit no law of the registry ({why}), as where a net is trained: name the law "
                f"of the ensemble, model.ensemble(weights='he_normal'), say"
            )
    kept = [law for law in FAMILIES if all(law in laws for laws in of_each)]
    if not kept:
        raise ValueError("weights of different layers fit different laws, where a Network has one in all but the last")
    return kept


def _deviation(fit: Fit, std: float) -> float:
    """Return by how many standard errors a scale is off, in its logarithm."""
    if fit.scale == 0 or std == 0:
        return 0.0 if fit.scale == std else math.inf
    return math.log(fit.scale / std) / fit.relative_error


def _agree(deviations: Sequence[float], fits: Sequence[Fit], lost: int = 0) -> bool:
    """Return whether deviations are those of standard normals, by the sum of their squares."""
    freedom = len(fits) - lost
    square = sum(each * each for each in deviations)
    return freedom < 1 or bool(gammaincc(freedom / 2, square / 2) >= LEVEL)


def _mean_gain(gains: Sequence[float], fits: Sequence[Fit]) -> float:
    """Return the mean of gains in their logarithms, weighted by what is known of each."""
    precisions = [fit.relative_error**-2 for fit in fits]
    return math.exp(float(np.average(np.log(gains), weights=precisions)))


def with_biases(weights: Initializer, fits: Sequence[Fit]) -> tuple[Initializer, float]:
    """Return the law with that of the biases: PyTorch's, normal ones of one size, or such with a gain by fan_in."""
    if any(fit.std == 0 or fit.law == "constant" for fit in fits if len(fit.values) > 1):
        raise ValueError("a Network has random biases or none, in all layers but the last: give bias_std to ensemble")
    fans = [math.sqrt(fit.fans[0]) for fit in fits]

    def allowed(law: str) -> bool:
        return all(not fit.p_values[law] < LEVEL / len(fits) for fit in fits)

    def agrees(std: Callable[[float], float], lost: int = 0) -> bool:
        return _agree([_deviation(fit, std(fan)) for fit, fan in zip(fits, fans, strict=True)], fits, lost)

    if allowed("uniform") and agrees(lambda fan: TORCH / fan):
        return replace(weights, bias_law="uniform", bias_gain=TORCH), 0.0
    common = _mean_gain([fit.scale for fit in fits], fits)
    if allowed("normal") and agrees(lambda fan: common, lost=1):
        return weights, common
    gain = _mean_gain([fit.scale * fan for fit, fan in zip(fits, fans, strict=True)], fits)
    for law in ("uniform", "normal"):
        if allowed(law) and agrees(lambda fan: gain / fan, lost=1):
            return replace(weights, bias_law=law, bias_gain=gain), 0.0
    raise ValueError("biases fit no law that a Network has in all layers: give bias_std to ensemble")
