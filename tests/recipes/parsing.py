"""What the tests of recipes share: two recipes of a script, and its command line."""

from dataclasses import fields
from typing import Any

from gsmflow.recipes.flags import parse_recipe
from gsmflow.recipes.recipe import Recipe
from tests.builders import make_recipe

RES101 = make_recipe(dataset="CUB", epochs=11, pi=0.2, second_semantics="sent", gate="boundary")
VIT = make_recipe(dataset="CUB", features="vit", epochs=22, perturbation=False)
RECIPES = {"res101": RES101, "vit": VIT}
PREFIXES = {"method": "", "training": "", "classifier": "classifier_", "gate": "gate_"}
SELF_CLASSIFYING = (
    "discriminant",
    "gaussian-prototypes",
    "eszsl",
    "sae",
    "gfzsl",
    "conse",
    "costa",
    "dap",
    "iap",
)


def parse(*words: str) -> Recipe:
    """The recipe of a script that has both, under these words."""
    return parse_recipe(RECIPES, words, prog="train.py", description="Train a thing.")


def parse_from(recipe: Recipe, *words: str) -> Recipe:
    """The recipe of a script that has one, under these words."""
    return parse_recipe({"": recipe}, words, prog="train.py", description="Train a thing.")


def flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def configurations(recipe: Recipe) -> dict[str, Any]:
    """The nested configurations that a recipe uses, by their field."""
    parts = {"method": recipe.method}
    if recipe.model not in SELF_CLASSIFYING:
        parts |= {"training": recipe.training, "classifier": recipe.classifier}
    if recipe.gate is not None:
        parts["gate"] = recipe.gate
    return parts


def flat_names(recipe: Recipe) -> list[str]:
    """The flat name of every field of a recipe and of its configurations, one by one."""
    names = [field.name for field in fields(Recipe) if field.name not in PREFIXES]
    for part, config in configurations(recipe).items():
        names += [PREFIXES[part] + field.name for field in fields(config)]
    return names
