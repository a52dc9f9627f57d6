"""Real data: by name, which comes with an installed package or from the user's files: inputs, and targets of classes.

`dataset` gives inputs alone, `classification` inputs and targets, some of them or their principal components, `split` a
training and a test part; `load` reads the user's own file. ``stabsim list datasets`` says which names there are.
"""

from stabsim.datasets.data import Data, DataError
from stabsim.datasets.files import load
from stabsim.datasets.idx import MNIST_DIRECTORY, mnist_at_hand
from stabsim.datasets.registry import DATASETS, LABELED, Source, dataset
from stabsim.datasets.scaling import SCALES
from stabsim.datasets.selection import classification
from stabsim.datasets.splitting import Split, split

__all__ = [
    "DATASETS", "LABELED", "MNIST_DIRECTORY", "SCALES", "Data", "DataError", "Source", "Split", "classification",
    "dataset", "load", "mnist_at_hand", "split",
]  # fmt: skip
