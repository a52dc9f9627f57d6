"""The report on a diagnosis: lines of text."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING

from stabsim.diagnosis.criteria import SIGNAL
from stabsim.diagnosis.judging import Judgment, step_of
from stabsim.terminal import columns
from stabsim.theory.mean_field import FixedPoint

if TYPE_CHECKING:
    from stabsim.diagnosis.diagnosis import Diagnosis, Share
    from stabsim.diagnosis.formats import FormatLimit

Row = tuple[str, str]

WORDS = {  # of the quantities whose shares are told
    "activation_dead_sample_fraction": "dead samples",
    "activation_dead_unit_fraction": "dead units",
    "activation_zero_fraction": "zeros",
    "derivative_saturated_fraction": "abs(f') near 0",
    "preactivation_gradient_dead_unit_fraction": "units without gradient",
}


def lines(diagnosis: Diagnosis) -> Iterator[str]:
    """Yield the report: the verdict first, then what it rests on."""
    task = diagnosis.result.task
    yield from textwrap.wrap(f"{diagnosis.verdict.kind}: {diagnosis.network!r}", columns(), subsequent_indent="  ")
    nets = f"{diagnosis.result.nets} nets, batch {task.batch}, seed {task.seed}, {task.precision}"
    yield f"  {nets}; factors and shares with 95% intervals"
    rows = list(_rows(diagnosis))
    width = max(len(name) for name, _ in rows)
    for name, text in rows:
        start = f"  {name:<{width}}  "
        yield from textwrap.wrap(text, columns(), initial_indent=start, subsequent_indent=" " * len(start))


def _rows(diagnosis: Diagnosis) -> Iterator[Row]:
    step = step_of(diagnosis.network)
    for judgment in (diagnosis.signal, diagnosis.gradient):
        yield judgment.of, judgment.sentence
        yield "", rests_on(judgment)
    if diagnosis.mean_field is not None:
        yield "wide layers", _mean_field(diagnosis.mean_field)
    for place, share in enumerate(each for each in diagnosis.shares if each.quantity in WORDS and each.estimate > 0.0):
        yield "" if place else "shares", _share(share, step)
    for name in dict.fromkeys(each.format for each in diagnosis.formats):
        yield name, _format([each for each in diagnosis.formats if each.format == name], step)
    yield from _repairs(diagnosis)


def rests_on(judgment: Judgment) -> str:
    """Return the number that a verdict rests on, with its interval and theory.

    Logarithms where it is a factor: it may be beyond floats.
    """
    numbers = f"{judgment.estimate:.4g} [{judgment.ci_low:.4g}, {judgment.ci_high:.4g}]"
    known = "" if math.isnan(judgment.theory) else f", theory {judgment.theory:.4g} ({judgment.law})"
    return f"{'log10 of the factor' if judgment.change else 'share'}: {numbers}{known}"


def _mean_field(found: FixedPoint) -> str:
    """Say where theory sees wide layers end, and over which depth."""
    text = f"q* {found.variance:.4g}"
    if not math.isnan(found.chi):
        phase = "critical" if abs(found.chi - 1.0) < 1e-3 else "order" if found.chi < 1.0 else "chaos"
        text += f", chi {found.chi:.4g} ({phase}: gradients times {math.sqrt(found.chi):.4g} a layer)"
    text += f"; depth scales: {_depth(found.variance_depth)} of the variance (xi_q)"
    if not math.isnan(found.correlation_depth):
        text += f", {_depth(found.correlation_depth)} of correlations (xi_c)"
    return text


def _depth(layers: float) -> str:
    return "none (no exponential decay)" if math.isinf(layers) else f"{layers:.3g} layers"


def _share(share: Share, step: str) -> str:
    theory = "" if math.isnan(share.theory) else f", theory {share.theory:.3g}"
    way = "down" if "gradient" in share.quantity else "on"
    half = "" if share.first_above_half is None else f"; more than half from {step} {share.first_above_half} {way}"
    where = f"at {step} {share.layer}, where most are"
    interval = f"[{100 * share.ci_low:.3g}, {100 * share.ci_high:.3g}]"
    return f"{WORDS[share.quantity]}: {100 * share.estimate:.3g}% {interval} {where}{theory}{half}"


def _format(found: list[FormatLimit], step: str) -> str:
    both = "; ".join(f"{each.of} {_limit(each, step)}" for each in sorted(found, key=lambda each: each.of != SIGNAL))
    return f"{both} ({found[0].by})"


def _limit(limit: FormatLimit, step: str) -> str:
    small = "" if limit.subnormal is None else f"mostly below normal numbers from {step} {limit.subnormal}"
    if limit.layer is None:
        return small or "holds"
    last = "none" if limit.latest is None else limit.latest
    ends = "" if limit.earliest == limit.layer == limit.latest else f" [{limit.earliest}, {last}]"
    how = {"overflow": "overflows", "zeros": "is all 0"}[limit.what]
    before = f", {small}" if small and limit.subnormal != limit.layer else ""
    return f"{how} at {step} {limit.layer}{ends}{before}"


def _repairs(diagnosis: Diagnosis) -> Iterator[Row]:
    """Yield what was tried, with what it gave."""
    if not diagnosis.verdict.decided:
        yield "undecided", f"more than {diagnosis.result.nets} nets are needed: raise nets"
    repair = diagnosis.repair
    if repair is not None:
        mended = repair.signal if diagnosis.verdict.of == SIGNAL else repair.gradient  # what was wrong, as it is now
        yield "repair", repair.change
        yield "", f"simulated: {repair.verdict.kind}, {mended.sentence}"
        yield "", f"{rests_on(mended)}; {repair.nets} nets, seed {repair.seed}"
    elif diagnosis.tried:
        yield "repair", f"none of the {len(diagnosis.tried)} changes that were simulated is stable:"
    for place, tried in enumerate(each for each in diagnosis.tried if not each.holds):
        yield "" if place or repair is None else "not enough", f"{tried.change}: {tried.verdict.sentence}"
