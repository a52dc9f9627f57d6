"""CUDA: the same ensembles on a GPU; no library of it is imported before it is asked for."""
