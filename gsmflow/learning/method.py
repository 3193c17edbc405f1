"""A method: one object that holds all that the rest of the package asks of it."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gsmflow.learning.contract import Classifying, Model, Trainable
from gsmflow.learning.search import SearchRange

__all__ = ["Method", "method_of"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Method:
    """A method, at the end of its file as ``METHOD``.

    Settings are named as their flags are, with underscores: those of the configuration by their
    fields, those of other parts of a recipe as there (``epochs``, ``classifier_lr``,
    ``feature_scaling``).

    Attributes
    ----------
    name
        What ``--model`` takes.
    label
        As printed in tables.
    paper
        Where it was published, and how far this is after code or after a description.
    config
        A frozen dataclass of its settings; a field ``samples_per_class`` says how many rows the
        model synthesizes of each unseen class, where that is a setting.
    model
        The torch module with the methods of `gsmflow.learning.contract.Model`.
    published
        Settings where they differ from the defaults: for every dataset under an empty name, then
        for a dataset, then for a dataset's features (``"CUB/resnet_logits"``).
    variants
        The ablations that the paper makes: name to the settings that change.
    search
        Range of each setting that ``tune`` may search, beside those of training and classifier.
    """

    name: str
    label: str
    paper: str
    config: type[Any]
    model: type[Model]
    published: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    variants: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    search: Mapping[str, SearchRange] = field(default_factory=dict)

    @property
    def trains(self) -> bool:
        """Whether the model is trained epoch by epoch."""
        return issubclass(self.model, Trainable)

    @property
    def classifies(self) -> bool:
        """Whether the model scores classes by itself, so that no classifier is trained."""
        return issubclass(self.model, Classifying)

    def settings_for(self, dataset: str, features: str) -> dict[str, Any]:
        """The published settings for a dataset and its features; others keep their defaults."""
        keys = ("", dataset, f"{dataset}/{features}")
        return {name: v for key in keys for name, v in self.published.get(key, {}).items()}


def method_of(config: Any) -> Method:
    """The method that a configuration is of: the ``METHOD`` of the file that defines its class."""
    method = sys.modules[type(config).__module__].METHOD
    assert isinstance(method, Method)
    return method
