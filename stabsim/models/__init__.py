"""Real models: PyTorch modules and Keras descriptions, read, run with their own weights, next to their ensemble."""

from __future__ import annotations

from stabsim.models.keras_layers import from_keras
from stabsim.models.model import Model
from stabsim.models.torch_modules import from_torch

__all__ = ["Model", "from_keras", "from_torch"]
