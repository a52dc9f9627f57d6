"""Loss landscapes: exact gradients and Hessians of many small nets, critical points, spectra, random matrices."""

from stabsim.landscape.landscape import Landscape
from stabsim.landscape.losses import LOSSES, Loss
from stabsim.landscape.surface import Surface

__all__ = ["LOSSES", "Landscape", "Loss", "Surface"]
