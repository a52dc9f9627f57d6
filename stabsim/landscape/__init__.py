"""Loss landscapes: exact gradients and Hessians of many small nets, critical points, spectra, random matrices."""

from stabsim.landscape.landscape import Landscape
from stabsim.landscape.losses import LOSSES, Loss
from stabsim.landscape.matrix_ensembles import IndexCounts, index_counts
from stabsim.landscape.positive_definite import PositiveDefiniteEstimate, positive_definite_estimate
from stabsim.landscape.surface import Surface

__all__ = [
    "LOSSES",
    "IndexCounts",
    "Landscape",
    "Loss",
    "PositiveDefiniteEstimate",
    "Surface",
    "index_counts",
    "positive_definite_estimate",
]
