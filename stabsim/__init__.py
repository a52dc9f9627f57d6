"""Monte Carlo laboratory for random deep nets: the unit of work is an ensemble."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stabsim import datasets, landscape, theory, training
    from stabsim.activations import Activation
    from stabsim.arguments import make_task
    from stabsim.clipping import Clipping
    from stabsim.diagnosis import Diagnosis, diagnose
    from stabsim.initializers import Initializer
    from stabsim.models import Model, from_keras, from_torch
    from stabsim.network import Network
    from stabsim.quantities import Quantity
    from stabsim.result import Result
    from stabsim.simulation import simulate
    from stabsim.stops import Stops, what_stops
    from stabsim.structures import Cell, Gate, Normalization, Skip
    from stabsim.tracing import Trace, trace

__version__ = "0.1.0"

# Public names and the modules they live in: imported when first used, so that `import stabsim` costs nothing.
_HOMES = {
    "Activation": "stabsim.activations",
    "Cell": "stabsim.structures",
    "Clipping": "stabsim.clipping",
    "Diagnosis": "stabsim.diagnosis",
    "Gate": "stabsim.structures",
    "Initializer": "stabsim.initializers",
    "Model": "stabsim.models",
    "from_keras": "stabsim.models",
    "from_torch": "stabsim.models",
    "diagnose": "stabsim.diagnosis",
    "Network": "stabsim.network",
    "Normalization": "stabsim.structures",
    "Quantity": "stabsim.quantities",
    "Skip": "stabsim.structures",
    "Result": "stabsim.result",
    "simulate": "stabsim.simulation",
    "Stops": "stabsim.stops",
    "what_stops": "stabsim.stops",
    "Trace": "stabsim.tracing",
    "trace": "stabsim.tracing",
    "make_task": "stabsim.arguments",
    "datasets": "stabsim.datasets",
    "landscape": "stabsim.landscape",
    "theory": "stabsim.theory",
    "training": "stabsim.training",
}

__all__ = [
    "Activation", "Cell", "Clipping", "Diagnosis", "Gate", "Initializer", "Model", "Network", "Normalization",
    "Quantity", "Result", "Skip", "Stops", "Trace", "__version__", "datasets", "diagnose", "from_keras", "from_torch",
    "landscape", "make_task", "simulate", "theory", "trace", "training", "what_stops",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'stabsim' has no attribute {name!r}; it has {', '.join(__all__)}")
    home = importlib.import_module(_HOMES[name])
    return home if home.__name__ == f"stabsim.{name}" else getattr(home, name)


def __dir__() -> list[str]:
    return __all__
