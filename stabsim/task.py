"""What is simulated: a network with everything that affects the answer, but for how many nets (the effort)."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stabsim.clipping import Clipping
from stabsim.devices import CPU
from stabsim.kernels import record as r
from stabsim.kernels.record import COLUMNS
from stabsim.network import Network
from stabsim.number_formats import FORMATS, NumberFormat
from stabsim.own_functions import code_hash
from stabsim.quantities import QUANTITIES, WEIGHT_TENSORS, Quantity, select
from stabsim.versions import RECORD_VERSION, STREAM_VERSION

SPECTRUM = "singular_value"
# What is known of the singular values of dz_L/dz_0 without W.
WITHOUT_SPECTRUM = tuple(f"{SPECTRUM}_{of}" for of in ("mean_square", "log10_largest"))

LARGEST_SEED = 2**64 - 1
LARGEST_NET = 2**32  # nets are numbered by one word of the random numbers' counter

Floats = NDArray[np.float64]
Bins = tuple[float, float, int]


@dataclass(frozen=True, eq=False)
class Task:
    """A network and how it is run; `stabsim.simulate` says what each argument is.

    Tasks are equal when their identities are: the canonical JSON of everything that affects the answer.
    """

    network: Network
    batch: int = 1
    seed: int = 0
    inputs: Floats | None = field(default=None, repr=False)
    output_gradient: Floats | None = field(default=None, repr=False)
    sampler: str = "auto"
    precision: str = "float32"
    saturation: float = 0.01
    quantities: tuple[Quantity, ...] | None = None
    samples: tuple[Quantity, ...] = ()
    histograms: tuple[tuple[str, Bins], ...] = ()
    clipping: Clipping | None = None
    loss_scale: float = 1.0
    device: str = CPU

    @property
    def number_format(self) -> NumberFormat | None:
        """Return the format that numbers are rounded to: None where they are float32 or float64."""
        return FORMATS.get(self.precision)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Return the type of the numbers that are simulated; those of a narrower format are held as float32."""
        return np.dtype(np.float32 if self.number_format else self.precision)

    @cached_property
    def features(self) -> frozenset[str]:
        """Return what there is beside a plain net: its structures, "recurrent", "clipping" and "number_format".

        Also "jacobian" where singular values are asked for, and "spectrum" where more than `WITHOUT_SPECTRUM`.
        """
        found = {
            "jacobian": bool(self._spectral),
            "spectrum": any(each not in WITHOUT_SPECTRUM for each in self._spectral),
            "recurrent": self.network.cell.recurrent,
            "clipping": self.clipping is not None,
            "number_format": self.number_format is not None,
        }
        return self.network.structures | {name for name, there in found.items() if there}

    @property
    def _spectral(self) -> list[str]:
        """Return what is asked for of singular values, in words."""
        asked = [*(self.quantities or ()), *self.samples]
        histograms = [f"histograms[{tensor!r}]" for tensor, _ in self.histograms if tensor == SPECTRUM]
        return [q.name for q in asked if q.tensor == SPECTRUM] + histograms

    @property
    def arguments(self) -> dict[str, str]:
        """Return, by feature, the argument that gives it, and its value."""
        given = {
            "clipping": f"clipping={str(self.clipping)!r}",
            "number_format": f"precision={self.precision!r}",
            **self.network.arguments,
            "recurrent": f"cell={self.network.cell.kind!r}",
            "jacobian": next(iter(self._spectral), ""),
            "spectrum": next((each for each in self._spectral if each not in WITHOUT_SPECTRUM), ""),
        }
        return {feature: argument for feature, argument in given.items() if feature in self.features}

    @property
    def columns(self) -> int:
        """Return how many columns the kernels record: `COLUMNS` of a plain net."""
        return max([COLUMNS, *(r.WIDTHS[feature] for feature in self.features & r.WIDTHS.keys())])

    @cached_property
    def table_quantities(self) -> tuple[Quantity, ...]:
        """Return what the table holds."""
        return self._placed(self._in_table)

    @cached_property
    def sample_quantities(self) -> tuple[Quantity, ...]:
        """Return what is kept of every net."""
        return self._placed(self.samples)

    @cached_property
    def functions(self) -> tuple[Quantity, ...]:
        """Return the quantities that are functions, each with a column behind those that the kernels record."""
        functions = dict.fromkeys(q for q in (*self._in_table, *self.samples) if q.function is not None)
        return tuple(replace(q, columns=(self.columns + place,)) for place, q in enumerate(functions))

    @property
    def _in_table(self) -> tuple[Quantity, ...]:
        return select(None, self.batch, self.features) if self.quantities is None else self.quantities

    def _placed(self, quantities: tuple[Quantity, ...]) -> tuple[Quantity, ...]:
        columns = {q.name: q for q in self.functions}
        return tuple(columns.get(q.name, q) for q in quantities)

    @cached_property
    def wanted(self) -> NDArray[np.bool_]:
        """Return which columns of the record are wanted."""
        wanted = np.zeros(self.columns + len(self.functions), np.bool_)
        for quantity in (*self.table_quantities, *self.sample_quantities):
            wanted[list(quantity.columns)] = True
        return wanted

    def wants(self, columns: tuple[int, int]) -> bool:
        """Return whether any column of the record from the first of these up to the second is wanted."""
        return bool(self.wanted[slice(*columns)].any())

    @property
    def weight_gradients(self) -> bool:
        """Return whether anything is wanted of dW."""
        return any(q.tensor in WEIGHT_TENSORS for q in (*self.table_quantities, *self.sample_quantities))

    @cached_property
    def backward(self) -> bool:
        """Return whether anything is wanted of the backward pass."""
        gradients = any(q.backward for q in (*self.table_quantities, *self.sample_quantities))
        seen = [tensor for tensor, _ in self.histograms]
        return gradients or any(tensor.endswith("gradient") or tensor == SPECTRUM for tensor in seen)

    @property
    def identity(self) -> str:
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
            "quantities": self.quantities and [q.name for q in self.quantities],
            "samples": [q.name for q in self.samples],
            "histograms": [[tensor, low.hex(), high.hex(), bins] for tensor, (low, high, bins) in self.histograms],
            "stream": STREAM_VERSION,
            "record": RECORD_VERSION,
        }
        if self.clipping is not None:
            document["clipping"] = str(self.clipping)
        if self.loss_scale != 1.0:
            document["loss_scale"] = self.loss_scale.hex()
        if self.device != CPU:  # the same nets, summed in another order: other bits
            document["device"] = self.device
        if own := [q for q in self.functions if q.name not in QUANTITIES]:  # named by what they are
            document["own"] = [
                [q.tensor, q.statistic, q.kind, q.whole, code_hash(q.function)] for q in own if q.function is not None
            ]
        return json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False)

    def __eq__(self, other: object) -> bool:
        """Compare by identity."""
        return self.identity == other.identity if isinstance(other, Task) else NotImplemented

    def __hash__(self) -> int:
        """Hash the identity."""
        return hash(self.identity)


def _digest(array: Floats | None) -> str | None:
    if array is None:
        return None
    return hashlib.sha256(repr(array.shape).encode() + array.astype("<f8").tobytes()).hexdigest()
