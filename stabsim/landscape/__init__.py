"""Loss landscapes: exact gradients and Hessians of many small nets, critical points, spectra, random matrices."""

from stabsim.landscape.critical_points import METHODS, find
from stabsim.landscape.ends import Ends, Kind, classify
from stabsim.landscape.extremes import Extremes, extreme_eigenvalues
from stabsim.landscape.inertia import Inertia, inertia
from stabsim.landscape.landscape import Landscape
from stabsim.landscape.matrix_ensembles import IndexCounts, index_counts
from stabsim.landscape.positive_definite import PositiveDefiniteEstimate, positive_definite_estimate
from stabsim.landscape.random_fields import GaussianField
from stabsim.landscape.slices import Plane, directions, line, plane, principal_curvatures
from stabsim.landscape.spectra import SpectralDensity, spectral_density
from stabsim.landscape.surface import Surface

__all__ = [
    "METHODS",
    "Ends",
    "Extremes",
    "GaussianField",
    "IndexCounts",
    "Inertia",
    "Kind",
    "Landscape",
    "Plane",
    "PositiveDefiniteEstimate",
    "SpectralDensity",
    "Surface",
    "classify",
    "directions",
    "extreme_eigenvalues",
    "find",
    "index_counts",
    "inertia",
    "line",
    "plane",
    "positive_definite_estimate",
    "principal_curvatures",
    "spectral_density",
]
