"""The softmax classifier, for the ``train_*.py`` recipes and scripts of your own.

``SoftmaxConfig``, ``fit_softmax`` and ``SoftmaxClassifier`` live in `gsmflow.learning.softmax`.
"""

from gsmflow.core.console import importing

with importing():
    from gsmflow.learning.softmax import SoftmaxClassifier, SoftmaxConfig, fit_softmax

__all__ = ["SoftmaxClassifier", "SoftmaxConfig", "fit_softmax"]
