"""W is drawn, and the result of every operation rounded to a simulated number format."""

from __future__ import annotations

from dataclasses import replace

from stabsim.kernels.rounded import rounded_sampler
from stabsim.number_formats import FORMATS
from stabsim.samplers import dense
from stabsim.samplers.base import Terms

# Set by hand from a few timings; of frames as in float32.
ROUNDED: Terms = {
    "layer": 165, "value": 0.4, "product": 0.00924, "weight": 0.3, "frame": 0.0411, "frame of a weight": 7.85,
    "frame of a layer": 639, "weight gradient": 0.2,
}  # fmt: skip

SAMPLER = replace(
    dense.SAMPLER,
    meaning="numbers are rounded to a narrow format after each operation: every law of weights",
    kernel=rounded_sampler,
    kind=lambda _task: "rounded",
    prices={"rounded": dict.fromkeys(FORMATS, ROUNDED)},
    precisions=("float32",),
    features=frozenset({"number_format"}),
    needs=frozenset({"number_format"}),
)
