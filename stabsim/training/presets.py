"""Optimizers with hyperparameters that others have published, by a name of their own."""

from __future__ import annotations

# Saito 2016, Deep Learning from Scratch, chapter 6, whose epsilon stands beside the root of what is not corrected.
# bowl: x^2/20 + y^2 from (-7, 2), 30 steps. mnist: the comparison on MNIST, with the defaults of the book's code.
PRESETS = {
    "bowl_sgd": "sgd(learning_rate=0.95)",
    "bowl_momentum": "momentum(learning_rate=0.1, momentum=0.9)",
    "bowl_adagrad": "adagrad(learning_rate=1.5, epsilon=1e-07)",
    "bowl_adam": "adam(learning_rate=0.3, epsilon=1e-07, epsilon_beside=uncorrected)",
    "mnist_sgd": "sgd(learning_rate=0.01)",
    "mnist_momentum": "momentum(learning_rate=0.01, momentum=0.9)",
    "mnist_adagrad": "adagrad(learning_rate=0.01, epsilon=1e-07)",
    "mnist_rmsprop": "rmsprop(learning_rate=0.01, decay=0.99, epsilon=1e-07)",
    "mnist_adam": "adam(learning_rate=0.001, epsilon=1e-07, epsilon_beside=uncorrected)",
}
