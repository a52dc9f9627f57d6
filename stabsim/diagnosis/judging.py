"""``judge``: what becomes of signals and gradients in an ensemble, decided where intervals decide it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from stabsim.checks import number, whole_number
from stabsim.diagnosis.criteria import GRADIENT, SIGNAL, Criterion, criteria, quantities

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stabsim.network import Network
    from stabsim.result import Result

TOLERANCE = 1000.0
KINDS = ("dead", "saturated", "exploding", "vanishing")  # in this order where several are true
STABLE, UNDECIDED = "stable", "undecided"


@dataclass(frozen=True)
class Judgment(Criterion):
    """What becomes of the signal, the gradient or both: the criterion that it rests on, and more.

    Attributes
    ----------
    kind : str
        "stable", "dead", "saturated", "exploding" or "vanishing", or "undecided" where an interval holds a bound.
    of : str
        "signal" or "gradient": whose number it is.
    quantity : str
        Which quantity of the table the number is made from.
    layer : int
    estimate, ci_low, ci_high : float
        Of a log10 norm, log10 of how many times a typical unit has what the input (of gradients: the last layer) has;
        else a share. All intervals that the verdict rests on hold together with 95%.
    bound : float
        What the number was held against.
    theory : float
        Of the same number; NaN where no formula applies.
    law : str
        "exact" or "infinite width"; "" without theory.
    change : bool
        Whether the numbers are logarithms of a factor, and no shares.
    nets : int
    sentence : str
        It in words.
    between : tuple of str
        What an undecided one is between: "stable" and what else it may be; empty where it is decided.
    """

    sentence: str
    between: tuple[str, ...] = ()

    @property
    def decided(self) -> bool:
        """Return whether the intervals are clear of all bounds, or enough of them beyond one."""
        return self.kind != UNDECIDED


def judge(result: Result, tolerance: float = TOLERANCE, *, looks: int = 1) -> Judgment:
    """Say what becomes of signals and gradients in an ensemble: the first of these that is true.

    - "dead": more than 10% of the samples come to the last layer as zeros, or send no gradient down to the first: a
      sample in ten cannot be learned from, in the typical net. (Of recurrent nets, residual ones and number formats:
      10% of the nets lose all of a batch.)
    - "saturated": at some layer more than three quarters of the units have abs(f') < 0.01. Half of them is what any
      f with one flat side has, such as ReLU.
    - "exploding", "vanishing": at some layer, the root mean square of a unit is more than ``tolerance`` times, or less
      than 1/``tolerance`` times, that of the input; of gradients by activations, that at the last layer. It is the
      geometric mean over nets, since few nets own the mean. Nets that leave the range of floats are exploding, if
      they are more than 10%.
    - "stable": none of these.

    1000 either way is a convention: beyond it numbers about 1 come within a factor of a hundred of the ends of float16
    (6e-5 and 65504). Powers of the depth stay within it (tanh at gain 1 loses its square root), while what grows or
    decays exponentially does only if its depth scale is no shorter than a seventh of the depth: ln 1000 = 6.9.

    Parameters
    ----------
    result : Result
        With the quantities `stabsim.diagnosis.criteria.quantities` names.
    tolerance : float
        > 1.
    looks : int
        How often one looks at results with more and more nets until the verdict is decided; 1 unless told. Intervals
        are made wider for it, so that they hold together at all looks.

    Returns
    -------
    Judgment
        Where nothing is surely wrong, but an interval holds a bound, it is "undecided": more nets decide it.

    Raises
    ------
    TypeError, ValueError
        If an argument is not allowed, or a quantity is missing.

    Notes
    -----
    Pure: it looks at sums only, in a few milliseconds, most of them for theory, which is kept with the result.

    Examples
    --------
    >>> import stabsim
    >>> network = stabsim.Network((32,) * 31, "tanh", "lecun_normal(gain=0.5)")
    >>> judge(stabsim.simulate(network, nets=64, seed=1)).kind
    'vanishing'
    """
    return worse(*judge_each(result, tolerance, looks=looks))


def judge_each(result: Result, tolerance: float = TOLERANCE, *, looks: int = 1) -> tuple[Judgment, Judgment]:
    """Return what becomes of the signal, and what of the gradient; see `judge`."""
    tolerance = number("tolerance", tolerance, 1.0, open_ends=True)
    looks = whole_number("looks", looks, 1)
    known = {quantity.name for quantity in result.task.table_quantities}
    if missing := [name for name in quantities(result.task) if name not in known]:
        raise ValueError(f"result must have quantities={', '.join(missing)} to be judged")
    found = list(criteria(result, tolerance, looks))
    signal, gradient = (_decide(result, [each for each in found if each.of == of]) for of in (SIGNAL, GRADIENT))
    if gradient.kind == "dead" and signal.kind == "exploding" and _out_of_range(signal):
        gradient = replace(gradient, sentence=f"{gradient.sentence}, where signals overflow")
    return signal, gradient


def worse(signal: Judgment, gradient: Judgment) -> Judgment:
    """Return the one of two that names what to mend first: a cause before its consequences, a signal before a gradient.

    Where the signal is dead the gradient is too, saturated units shut gradients off or make them explode, and what has
    left the range of the numbers has neither f' nor gradients.
    """
    order = (*KINDS, UNDECIDED, STABLE)
    if _out_of_range(signal):
        return signal
    if signal.kind == gradient.kind == STABLE:
        return max(signal, gradient, key=lambda each: abs(each.estimate))
    return min(signal, gradient, key=lambda each: order.index(each.kind))


def _out_of_range(found: Criterion) -> bool:
    """Return whether it is that nets leave the range of the numbers."""
    return not found.change and found.kind in ("exploding", "vanishing")


def _decide(result: Result, found: Sequence[Criterion]) -> Judgment:
    """Return what the criteria of one direction say."""
    by_kind = sorted(found, key=lambda each: (not _out_of_range(each), KINDS.index(each.kind)))
    for each in by_kind:
        if each.broken:
            return _judgment(each.kind, each, _broken(result, each))
    open_ones = [each for each in by_kind if each.broken is None]
    if open_ones:
        between = (STABLE, *dict.fromkeys(each.kind for each in open_ones))
        first = open_ones[0]
        sentence = f"undecided between {_listed(between)}: {_number(result, first)}"
        return _judgment(UNDECIDED, first, sentence, between)
    nearest = max(found, key=lambda each: (each.change, abs(each.estimate)))
    return _judgment(STABLE, nearest, _kept(result, nearest))


def _judgment(kind: str, rests_on: Criterion, sentence: str, between: tuple[str, ...] = ()) -> Judgment:
    return Judgment(**{**vars(rests_on), "kind": kind}, sentence=sentence, between=between)


def _broken(result: Result, found: Criterion) -> str:
    verbs = {"dead": "die out", "exploding": "explode", "vanishing": "vanish"}
    start = "units are saturated" if found.kind == "saturated" else f"{found.of}s {verbs[found.kind]}"
    return f"{start}: {_number(result, found)}"


def _kept(result: Result, found: Criterion) -> str:
    if not found.change:
        return f"{found.of}s arrive: {_number(result, found)}"
    return f"{found.of}s keep their size: furthest from it, {_number(result, found)}"


def _number(result: Result, found: Criterion) -> str:
    """Say the number that a verdict rests on, at which layer, and its bound."""
    step = step_of(result.network)
    where = f"{step} {found.layer}"
    if found.change:
        come_in = "input" if step == "layer" else "first time step"
        against = come_in if found.of == SIGNAL else f"last {step}"
        within = "at least" if found.bound < 0 else "at most"
        return f"at {where} they are {times(found.estimate)} those of the {against} ({within} {times(found.bound)})"
    share, bound = f"{100 * found.estimate:.3g}%", f"(at most {100 * found.bound:g}%)"
    if found.kind == "saturated":
        return f"{share} of abs(f') are below {result.task.saturation:g} at {where} {bound}"
    if "sample" in found.quantity:
        return f"{share} of the samples have none at {where} {bound}"
    if found.kind == "dead":
        return f"{share} of the nets have none at {where} {bound}"
    fate = "leave the range" if found.kind == "exploding" else "lose all in the range"
    return f"{share} of the nets {fate} of {result.task.precision} by {where} {bound}"


def step_of(network: Network) -> str:
    """Return what signals go through, one after another."""
    return "time step" if network.cell.recurrent else "layer"


def times(log10: float) -> str:
    """Return a factor in words, given its log10, which may be beyond floats.

    >>> times(-2.0), times(0.3), times(3.0), times(4.5), times(-400.25), times(float("nan"))
    ('0.01 times', '2 times', '1000 times', '32000 times', '10^-400.25 times', 'nan times')
    """
    if math.isfinite(log10) and abs(log10) > 300.0:
        return f"10^{log10:.6g} times"
    return f"{float(f'{10.0**log10:.2g}'):g} times"


def _listed(kinds: Sequence[str]) -> str:
    return f"{', '.join(kinds[:-1])} and {kinds[-1]}"
