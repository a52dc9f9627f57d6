"""Where nets are simulated: the processor, or a GPU."""

from __future__ import annotations

DEVICES = ("cpu", "cuda")


class DeviceError(RuntimeError):
    """A device is not there, cannot be used, or has too little memory: one line says which, and what to do."""
