"""Training: ensembles of nets that follow the gradient, a net a thread, each a function of the seed and its number."""

from stabsim.training.data import Regression
from stabsim.training.optimizers import OPTIMIZERS, Optimizer, optimizer
from stabsim.training.presets import PRESETS
from stabsim.training.profiles import passages
from stabsim.training.result import Trained
from stabsim.training.schedules import SCHEDULES, Schedule, schedule
from stabsim.training.trainer import counting_divergence, train

__all__ = [
    "OPTIMIZERS",
    "PRESETS",
    "SCHEDULES",
    "Optimizer",
    "Regression",
    "Schedule",
    "Trained",
    "counting_divergence",
    "optimizer",
    "passages",
    "schedule",
    "train",
]
