"""The models that a run can train, in one table, by the name that ``--model`` takes."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, TypeAlias

from gsmflow.learning.contract import Model
from gsmflow.learning.softmax import ClassifierConfig
from gsmflow.learning.trainer import TrainingConfig
from gsmflow.methods.cada_vae import CADAVAE, CADAConfig
from gsmflow.methods.gsmflow import GSMFlow, ModelConfig
from gsmflow.methods.prototype_discriminant import DiscriminantConfig, PrototypeDiscriminant

__all__ = [
    "MODELS",
    "RECOMMENDED_MODEL",
    "Kind",
    "ModelName",
    "published_settings",
    "unused_fields",
]

ModelName: TypeAlias = Literal["gsmflow", "cada-vae", "discriminant"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Kind:
    """A model, and what it makes of a recipe.

    Attributes
    ----------
    label
        As printed in tables.
    model_class
        The model.
    config
        What `Model.for_problem` takes, made of the recipe's fields of the same names.
    parts
        All configurations that it makes use of.
    others
        The recipe's fields that it makes use of beside those, of those that not every model does.
    published
        Its settings, by the recipe's field, for a recipe that was written for another model: those
        for every dataset under an empty name, then those of a dataset, and of a dataset's
        features (``"CUB/resnet_logits"``). A recipe that was written for this model has its own.
    """

    label: str
    model_class: type[Model]
    config: type[Any]
    parts: tuple[type[Any], ...]
    others: tuple[str, ...] = ()
    published: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def used(self) -> set[str]:
        """The fields that it makes use of, of those that not every model does."""
        return {f.name for part in self.parts for f in fields(part)} | set(self.others)


# Schönfeld et al., CVPR 2019. They have no classifier's epochs for aPY and FLO: 25 stands between
# those that they have. What digit pairs, CUB's class scores and AWA1's hand-crafted features have
# of their own is chosen on validation classes (docs/cada_vae.md): min-max scaled, the latter two
# leave so little to reconstruct that the KL term empties the latents.
_CADA_VAE: Mapping[str, Mapping[str, Any]] = {
    "": {
        "feature_scaling": "minmax",
        "epochs": 100,
        "batch_size": 50,
        "learning_rate": 1.5e-4,
        "lr_decay": 1.0,
        "weight_decay": 0.0,
        "amsgrad": True,
        "semantics_scaling": "none",
        "precision": "fp32",
        "classifier_lr": 1e-3,
        "classifier_batch_size": 32,
        "classifier_epochs": 25,
    },
    "SUN": {"classifier_epochs": 21},
    "CUB": {"classifier_epochs": 23},
    "CUB/resnet_logits": {
        "feature_scaling": "standardised",
        "semantics_scaling": "norm",
        "delta": 20.0,
    },
    "AWA1": {"classifier_epochs": 33},
    "AWA1/classic": {"feature_scaling": "centred"},
    "AWA2": {"classifier_epochs": 29},
    "DIGITS": {
        "feature_scaling": "none",  # pixels are in [0, 1]
        "latent_dim": 32,
        "image_encoder_hidden": 256,
        "semantics_encoder_hidden": 256,
        "image_decoder_hidden": 256,
        "semantics_decoder_hidden": 128,
        "epochs": 30,
        "batch_size": 128,
        "learning_rate": 3e-3,
        "classifier_lr": 1e-2,
        "classifier_batch_size": 256,
        "classifier_epochs": 10,
    },
}

MODELS: Mapping[ModelName, Kind] = {
    "gsmflow": Kind(
        label="GSMFlow",
        model_class=GSMFlow,
        config=ModelConfig,
        parts=(ModelConfig, TrainingConfig, ClassifierConfig),
        others=(
            *("samples_per_class", "reservoir_mib", "compile", "test_selected", "classifier"),
            *("shots", "shot_draws"),
        ),
    ),
    "discriminant": Kind(
        label="Prototype discriminant",
        model_class=PrototypeDiscriminant,
        config=DiscriminantConfig,
        parts=(DiscriminantConfig,),
    ),
    "cada-vae": Kind(
        label="CADA-VAE",
        model_class=CADAVAE,
        config=CADAConfig,
        parts=(CADAConfig, TrainingConfig, ClassifierConfig),
        others=("test_selected", "shots", "shot_draws"),
        published=_CADA_VAE,
    ),
}

# What did best on the validation classes of all datasets at hand (docs/beyond.md).
RECOMMENDED_MODEL: ModelName = "discriminant"


def published_settings(name: ModelName, dataset: str, features: str) -> dict[str, Any]:
    """A model's settings for a dataset, by the recipe's field; the rest keeps its defaults."""
    published = MODELS[name].published
    places = ("", dataset, f"{dataset}/{features}")
    return {field: v for place in places for field, v in published.get(place, {}).items()}


def unused_fields(name: ModelName) -> set[str]:
    """The recipe's fields that another model makes use of and this one does not."""
    return set().union(*(kind.used for kind in MODELS.values())) - MODELS[name].used
