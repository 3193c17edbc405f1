"""The softmax classifier and ESZSL, for scripts of your own.

``fit_softmax`` and ``SoftmaxClassifier`` live in `gsmflow.classifier`, the closed-form baseline
``ESZSLSolver`` in `gsmflow.eszsl`.
"""

from gsmflow.learning.softmax import ClassifierConfig, SoftmaxClassifier, fit_softmax
from gsmflow.methods.eszsl import ESZSLSolver

__all__ = ["ClassifierConfig", "ESZSLSolver", "SoftmaxClassifier", "fit_softmax"]
