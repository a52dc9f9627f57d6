"""Where nets are simulated: the processor, or a GPU."""

from __future__ import annotations

CPU = "cpu"
DEVICES = (CPU, "cuda")


class DeviceError(RuntimeError):
    """A device is not there, cannot be used, or has too little memory: one line says which, and what to do."""
