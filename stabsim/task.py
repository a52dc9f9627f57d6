"""What is simulated: a network with everything that affects the answer, but for how many nets (the effort)."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stabsim.kernels.record import COLUMNS
from stabsim.network import Network
from stabsim.quantities import QUANTITIES, Quantity, select
from stabsim.versions import RECORD_VERSION, STREAM_VERSION

SAMPLERS = ("auto", "dense", "matrix_free")
PRECISIONS = ("float32", "float64")
LARGEST_SEED = 2**64 - 1
LARGEST_NET = 2**32  # nets are numbered by one word of the random numbers' counter
LARGEST_GROUP = 2**32  # and groups of numbers within a layer by another
NUMBERS_A_GROUP = {"float32": 4, "float64": 2}

Floats = NDArray[np.float64]
Bins = tuple[float, float, int]


@dataclass(frozen=True, eq=False)
class Task:
    """A network and how it is run; `stabsim.simulate` says what each argument is.

    Tasks are equal when their keys are: the canonical JSON of everything that affects the answer.
    """

    network: Network
    batch: int = 1
    seed: int = 0
    inputs: Floats | None = field(default=None, repr=False)
    output_gradient: Floats | None = field(default=None, repr=False)
    sampler: str = "auto"
    precision: str = "float32"
    saturation: float = 0.01
    quantities: tuple[str, ...] | None = None
    samples: tuple[str, ...] = ()
    histograms: tuple[tuple[str, Bins], ...] = ()

    @property
    def dtype(self) -> np.dtype[Any]:
        """Return the type of the numbers that are simulated."""
        return np.dtype(self.precision)

    @cached_property
    def table_quantities(self) -> tuple[Quantity, ...]:
        """Return what the table holds."""
        return select(self.quantities, self.batch)

    @cached_property
    def sample_quantities(self) -> tuple[Quantity, ...]:
        """Return what is kept of every net."""
        return tuple(QUANTITIES[name] for name in self.samples)

    @cached_property
    def wanted(self) -> NDArray[np.bool_]:
        """Return which columns of the record are wanted."""
        wanted = np.zeros(COLUMNS, np.bool_)
        for quantity in (*self.table_quantities, *self.sample_quantities):
            wanted[list(quantity.columns)] = True
        return wanted

    @cached_property
    def backward(self) -> bool:
        """Return whether anything is wanted of the backward pass."""
        gradients = any(q.backward for q in (*self.table_quantities, *self.sample_quantities))
        return gradients or any(tensor.endswith("gradient") for tensor, _ in self.histograms)

    @property
    def key(self) -> str:
        """Return canonical JSON of all that affects the answer, arrays by their SHA-256."""
        document = {
            "network": json.loads(self.network.to_json()),
            "batch": self.batch,
            "seed": self.seed,
            "inputs": _digest(self.inputs),
            "output_gradient": _digest(self.output_gradient),
            "sampler": self.sampler,
            "precision": self.precision,
            "saturation": self.saturation.hex(),
            "quantities": self.quantities,
            "samples": self.samples,
            "histograms": [[tensor, low.hex(), high.hex(), bins] for tensor, (low, high, bins) in self.histograms],
            "stream": STREAM_VERSION,
            "record": RECORD_VERSION,
        }
        return json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False)

    def __eq__(self, other: object) -> bool:
        """Compare by key."""
        return self.key == other.key if isinstance(other, Task) else NotImplemented

    def __hash__(self) -> int:
        """Hash the key."""
        return hash(self.key)


def _digest(array: Floats | None) -> str | None:
    if array is None:
        return None
    return hashlib.sha256(repr(array.shape).encode() + array.astype("<f8").tobytes()).hexdigest()
