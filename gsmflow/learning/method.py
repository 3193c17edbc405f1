"""The description of a method: everything that the rest of the package needs to know about it."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from gsmflow.learning.contract import Classifying, Model, Trainable
from gsmflow.learning.search import SearchRange

__all__ = ["Method", "MethodKind", "PresetName", "method_of"]

MethodKind: TypeAlias = Literal["generative", "compatibility", "probabilistic"]
PresetName: TypeAlias = Literal["published", "short"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Method:
    """A method. Each method's file ends with one, named ``METHOD``.

    Settings go by the names of their flags, with underscores. Those of the method's configuration
    are its fields; those of other parts of a recipe are named as there (``epochs``,
    ``classifier_lr``, ``feature_scaling``).

    Attributes
    ----------
    name
        The value of ``--model``.
    label
        The name in tables.
    paper
        The publication, and whether this implementation follows its code or its text.
    kind
        ``generative``: it synthesizes features of unseen classes, or models their density;
        ``compatibility``: it learns a score of features and semantics; ``probabilistic``: it
        combines the posteriors of seen classes or of attributes.
    config
        A frozen dataclass of its settings. If it has a field ``samples_per_class``, that is the
        number of rows that the model synthesizes for each unseen class.
    model
        The torch module, which implements `gsmflow.learning.contract.Model`.
    published
        Settings that differ from the defaults, by dataset. Key ``""`` applies to every dataset,
        ``"CUB"`` to a dataset, ``"CUB/resnet_logits"`` to a dataset's features; later ones win.
    short
        Settings of ``--preset short``, over the published ones, by dataset in the same way. With
        them a run takes at most ten minutes on two CPU cores at FLO's size.
    variants
        The ablations of the paper: name to the settings that change.
    depends_on_seed
        Whether its figures may depend on the seed; False for closed forms that draw nothing.
    validation_draws
        Draws of validation classes that the calibration factor is chosen on, where the user names
        no number; None: five for a model that is fitted in one go, one for a trained one.
    search
        The ranges of the method's settings that ``tune`` searches; those of training and classifier
        are in `gsmflow.tuning.space`.
    """

    name: str
    label: str
    paper: str
    kind: MethodKind
    config: type[Any]
    model: type[Model]
    published: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    short: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    variants: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    search: Mapping[str, SearchRange] = field(default_factory=dict)
    depends_on_seed: bool = True
    validation_draws: int | None = None

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
        return _settings_of(self.published, dataset, features)

    def shortened(self, dataset: str, features: str) -> dict[str, Any]:
        """The settings that ``--preset short`` changes for a dataset and its features."""
        return _settings_of(self.short, dataset, features)


def _settings_of(
    by_dataset: Mapping[str, Mapping[str, Any]], dataset: str, features: str
) -> dict[str, Any]:
    keys = ("", dataset, f"{dataset}/{features}")
    return {name: value for key in keys for name, value in by_dataset.get(key, {}).items()}


def method_of(config: Any) -> Method:
    """The method of a configuration: the ``METHOD`` of the module that defines its class."""
    method = sys.modules[type(config).__module__].METHOD
    assert isinstance(method, Method)
    return method
