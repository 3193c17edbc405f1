"""One frozen dataclass is the configuration, the inline hyperparameters and the command line."""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, make_dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, cast, get_args, get_origin, get_type_hints

import tyro

from gsmflow.core.errors import InputError, one_line
from gsmflow.core.files import write_json
from gsmflow.core.precision import PrecisionName
from gsmflow.data.scaling import FeatureScalingName
from gsmflow.learning.contract import Classifying, Density, Model
from gsmflow.learning.feed import FeedPlace
from gsmflow.learning.softmax import ClassifierConfig
from gsmflow.learning.trainer import TrainingConfig
from gsmflow.methods.cada_vae import CADAConfig
from gsmflow.methods.gates.base import GateName
from gsmflow.methods.gates.boundary import BoundaryConfig
from gsmflow.methods.gsmflow import ModelConfig
from gsmflow.methods.prototype_discriminant import DiscriminantConfig
from gsmflow.methods.registry import (
    MODELS,
    RECOMMENDED_MODEL,
    ModelName,
    published_settings,
    unused_fields,
)

__all__ = [
    "Recipe",
    "RecipeFile",
    "check_model_class",
    "check_recipe",
    "check_value",
    "parse_recipe",
    "read_recipe_file",
    "recipe_flags",
    "recipe_for",
    "recipe_from",
    "setting_names",
    "write_recipe_file",
]

_Part = TypeVar("_Part")

# Lowest and highest value of each numeric field, None for no bound; a strict lower bound of zero
# is written as the smallest positive float.
_RECOMMENDED = "recommended"
_POSITIVE = 5e-324
_BOUNDS: dict[str, tuple[float, float | None]] = {
    "blocks": (1, None),
    "hidden": (1, None),
    "condition_dim": (1, None),
    "semantics_norm": (_POSITIVE, None),
    "pi": (0, None),
    "perturbation_dropout": (0, 1),
    "semantics_noise": (0, None),
    "prototype_weight": (0, None),
    "prototype_classes": (1, None),
    "latent_dim": (1, None),
    "image_encoder_hidden": (1, None),
    "semantics_encoder_hidden": (1, None),
    "image_decoder_hidden": (1, None),
    "semantics_decoder_hidden": (1, None),
    "beta": (0, None),
    "gamma": (0, None),
    "delta": (0, None),
    "latents_seen": (1, None),
    "latents_unseen": (1, None),
    "latents_zsl": (1, None),
    "latents_few_shot": (1, None),
    "epochs": (1, None),
    "batch_size": (1, None),
    "learning_rate": (_POSITIVE, None),
    "weight_decay": (0, None),
    "lr_decay": (_POSITIVE, 1),
    "lr_decay_every": (1, None),
    "fast_epochs": (1, None),
    "fast_learning_rate": (_POSITIVE, None),
    "averaging": (0, 1),
    "classifier_lr": (_POSITIVE, None),
    "classifier_batch_size": (1, None),
    "classifier_epochs": (1, None),
    "classifier_weight_decay": (0, None),
    "length_exponent": (0, 1),
    "gate_share": (_POSITIVE, 1),
    "boundary_latent_dim": (2, None),
    "boundary_hidden": (1, None),
    "boundary_epochs": (1, None),
    "boundary_batch_size": (1, None),
    "boundary_learning_rate": (_POSITIVE, None),
    "mix_seen": (0, 100),
    "mix_unseen": (0, 100),
    "samples_per_class": (1, None),
    "shot_draws": (1, None),
    "curve_every": (0, None),
    "reservoir_mib": (1, None),
    "devices": (1, None),
    "nodes": (1, None),
    "top_k": (1, None),
    "seed": (0, 2**31 - 1),
    "seeds": (1, None),
}

_NUMBERS = tuple[int, ...]
_KINDS: dict[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    _NUMBERS: "a list of whole numbers",
    float: "a number",
    str: "a text",
    Path: "a path",
}

# The gates that make use of a field, of those fields that not every gate does.
_GATES_USING: dict[str, tuple[GateName, ...]] = {
    "gate_share": ("boundary", "likelihood", "cosmo"),
    **{f.name: ("boundary",) for f in fields(BoundaryConfig)},
}

# Fields that name what a recipe file's settings were chosen for.
_BELONGING = ("dataset", "features", "semantics", "model")


@dataclass(frozen=True, kw_only=True)
class Recipe(
    ClassifierConfig, TrainingConfig, ModelConfig, CADAConfig, DiscriminantConfig, BoundaryConfig
):
    """Everything that a run depends on; every field is also a flag."""

    dataset: str
    """Name of the dataset: its folder below --data; DIGITS is built in."""
    model: ModelName = "gsmflow"
    """What is trained. Each model has settings of its own, which --model NAME --help lists, and
    defaults of its own where the script's recipe was written for another."""
    data: Path = Path("data")
    """Folder of datasets."""
    features: str = "res101"
    """Stem of the feature file (res101 for res101.mat); also picks the script's recipe."""
    semantics: str = "att"
    """Which semantics: att for att_splits.mat, sent for sent_splits.mat."""
    second_semantics: str = ""
    """A second embedding of the classes, named as --semantics names the first, which describes
    some of them in place of the first; empty: none."""
    mix_seen: float = 0.0
    """Percent of the seen classes that --second-semantics describes."""
    mix_unseen: float = 0.0
    """Percent of the unseen classes that --second-semantics describes."""
    feature_scaling: FeatureScalingName = "none"
    """Scaling of the features, fitted on training rows."""
    cache: bool = True
    """Whether to keep the features as read in OUT/cache, from where the next start maps them."""
    features_in: FeedPlace = "auto"
    """Training features: in memory, taken from the cache's memory map batch by batch, or auto:
    mapped where they would fill half of the free memory."""
    samples_per_class: int = 300
    """Synthesized features per unseen class."""
    calibrate: bool = True
    """Whether to train once more with the validation classes playing unseen, to choose the
    penalty on seen classes and draw the validation curve; doubles the time."""
    classifier: Literal["softmax", "bayes"] = "softmax"
    """What tells classes apart: a softmax that learns from synthesized features, or bayes, the
    class under which the flow's density of a row is highest."""
    gate: GateName = "none"
    """What decides first whether a row is of a seen or of an unseen class (docs/gates.md): boundary
    (two hyperspherical VAEs), likelihood (the flow's own density), cosmo (adaptive confidence
    smoothing), or none. Its row stands in the table beside the model's."""
    gate_share: float = 0.95
    """Share of held-out seen rows that the gate's threshold accepts."""
    curve_every: int = 0
    """Epochs between two points of the validation curve; 0: the last epoch alone."""
    baselines: bool = True
    """Whether to run the simple baselines too, which stand in the table beside the model."""
    oracle: bool = False
    """Whether to print the ceiling: the same classifier trained on half of the real unseen rows."""
    shots: tuple[int, ...] = ()
    """Few-shot learning: so many labelled rows of each unseen class, such as 0 1 2 5 10 20, are
    drawn from the test rows, learned from and not judged (docs/few_shot.md); empty: none."""
    shot_draws: int = 5
    """Draws of those rows; the figures are means over them."""
    test_selected: bool = False
    """Whether to print, apart from the table, the best figures on test over intervals of the
    training (every --curve-every epochs, else twenty) and epochs of the classifier, as much of the
    published code does; they may be compared with such figures alone."""
    top_k: int = 1
    """Above 1: also the accuracies where the right class may be among so many best answers."""
    reservoir_mib: int = 512
    """Synthesized features held in memory at once, MiB; more are streamed through as many."""
    precision: PrecisionName = "auto"
    """Matrix products: fp32, tf32 (GPU), bf16, or auto: bf16 where the hardware has it."""
    compile: bool = False
    """Whether to compile the coupling blocks with torch.compile before training, which takes half a
    minute or more and, on a CPU, a C++ compiler; whether steps get faster depends on the machine
    (docs/speed.md)."""
    recipe: str = ""
    """File of chosen settings, as python -m gsmflow tune writes it: they stand in for the script's
    own; recommended: the method that does best on all datasets (docs/beyond.md) in place of the
    script's; empty: none."""
    seed: int = 0
    """Seed of every random choice of the run."""
    seeds: int = 1
    """Runs, with seeds from --seed upwards, each kept; the table shows their mean and standard
    deviation."""
    device: str = "auto"
    """cpu, cuda, cuda:1, mps, or auto for the fastest there is."""
    devices: int = 1
    """Processes that train together on each node, each on a GPU (or a CPU process) of its own."""
    nodes: int = 1
    """Nodes that train together, launched by torchrun."""
    out: Path = Path("out")
    """Folder of runs; a run writes OUT/DATASET/RUN."""
    run: str = ""
    """Name of the run's folder; empty: date, time and seed."""
    resume: bool = False
    """Continue the run named by --run, or the latest unfinished one of this recipe."""

    @property
    def variant(self) -> tuple[str, ...]:
        """What names a model other than GSMFlow in a folder's name."""
        return () if self.model == "gsmflow" else (self.model,)

    @property
    def synthesized_per_class(self) -> int | None:
        """Rows to synthesize of each unseen class; None for a model that has its own numbers."""
        used = "samples_per_class" in MODELS[self.model].used
        return self.samples_per_class if used else None

    def part(self, kind: type[_Part]) -> _Part:
        """The fields of one of the configurations that a recipe is made of."""
        names = (f.name for f in fields(kind))  # type: ignore[arg-type]
        return kind(**{name: getattr(self, name) for name in names})

    def describe(self) -> dict[str, Any]:
        """All fields, as JSON has them."""
        return {k: _as_json(v) for k, v in asdict(self).items()}


def parse_recipe(
    recipes: Mapping[str, Recipe], argv: Sequence[str], *, prog: str, description: str
) -> Recipe:
    """The recipe for a command line.

    Parameters
    ----------
    recipes
        Recipes by the stem of the feature file that they were made for; ``--features`` picks
        one, and the first serves all other features.
    argv
        Command-line words; ``--recipe`` names a file of settings that override the recipe's, and
        a field's flag overrides both.
    prog, description
        For the help text.

    Raises
    ------
    InputError
        If a value is out of range, the model or the gate makes no use of a flag, or the recipe file
        is faulty or of other features. An unknown flag or a wrong type ends the program with exit
        code 2 and a message.
    """
    first = next(iter(recipes.values()))
    early = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    early.add_argument("--features", default=first.features, nargs="?")
    early.add_argument("--model", nargs="?")
    early.add_argument("--recipe", default="", nargs="?")
    chosen, _ = early.parse_known_args(argv)
    recommended = chosen.recipe == _RECOMMENDED
    if recommended and chosen.model not in (None, RECOMMENDED_MODEL):
        raise InputError(
            f"--model: found {chosen.model} with --recipe {_RECOMMENDED}, expected "
            f"{RECOMMENDED_MODEL} or none"
        )
    usual = RECOMMENDED_MODEL if recommended else first.model
    default = recipe_for(recipes, chosen.features, chosen.model or usual)
    named = chosen.recipe and not recommended
    file = read_recipe_file(Path(chosen.recipe)) if named else None
    if file is not None:
        default = replace(default, **file.settings)
    _check_used(default.model, argv)
    recipe = _parse_flags(default, argv, prog=prog, description=description)
    check_recipe(recipe)
    _check_used_by_gate(recipe.gate, argv)
    if file is not None:
        for name in _BELONGING:
            found, expected = getattr(file, name), getattr(recipe, name)
            if found != expected:
                raise InputError(
                    f"{recipe.recipe}, field '{name}': found {found!r}, expected {expected!r}, "
                    "as this run has it; settings were chosen for one of them"
                )
    return recipe


def recipe_for(recipes: Mapping[str, Recipe], features: str, model: str | None = None) -> Recipe:
    """The recipe that was made for features, or the first one, which serves all others.

    For a model that it was not written for, it has that model's own settings in place of its
    own; for a model that there is not, it is as it was.
    """
    recipe = recipes.get(features, next(iter(recipes.values())))
    if model == recipe.model or model not in MODELS:
        return recipe
    other = cast(ModelName, model)
    plain = Recipe(dataset=recipe.dataset)
    settings = {name: getattr(plain, name) for name in setting_names()}
    settings |= published_settings(other, recipe.dataset, recipe.features)
    return replace(recipe, model=other, **settings)


def _check_used(model: ModelName, argv: Sequence[str]) -> None:
    """Raise `InputError` where a flag is given that a model makes no use of."""
    for name in sorted(unused_fields(model)):
        users = [other for other, kind in MODELS.items() if name in kind.used]
        _refuse_flag(name, argv, "--model", model, users)


def _check_used_by_gate(gate: GateName, argv: Sequence[str]) -> None:
    """Raise `InputError` where a flag is given that a gate makes no use of."""
    for name, users in _GATES_USING.items():
        if gate not in users:
            _refuse_flag(name, argv, "--gate", gate, users)


def _refuse_flag(
    name: str, argv: Sequence[str], chooser: str, chosen: str, users: Sequence[str]
) -> None:
    """Raise `InputError` where a field's flag is given, which other choices alone make use of."""
    given = {word.partition("=")[0].replace("_", "-") for word in argv}
    found = given & {_flag(name), _flag(f"no_{name}")}
    if found:
        raise InputError(
            f"{found.pop()}: found with {chooser} {chosen}, which makes no use of it, expected "
            f"{chooser} {' or '.join(users)}"
        )


def _parse_flags(default: Recipe, argv: Sequence[str], *, prog: str, description: str) -> Recipe:
    """The recipe with the flags of a command line, which are those that its model makes use of."""
    hints = get_type_hints(Recipe)
    hidden = [
        (name, Annotated[hints[name], tyro.conf.Suppress], field(default=getattr(default, name)))
        for name in sorted(unused_fields(default.model))
    ]
    shown: Any = make_dataclass("Recipe", hidden, bases=(Recipe,), frozen=True, kw_only=True)
    values = {f.name: getattr(default, f.name) for f in fields(Recipe)}
    start = shown(**values)
    parsed = tyro.cli(shown, args=list(argv), default=start, prog=prog, description=description)
    return Recipe(**{name: getattr(parsed, name) for name in values})


def recipe_flags(recipe: Recipe, default: Recipe) -> list[str]:
    """Words of a command line that turn one recipe into another: the inverse of `parse_recipe`."""
    words: list[str] = []
    for name in (f.name for f in fields(Recipe)):
        value = getattr(recipe, name)
        if value == getattr(default, name):
            continue
        if isinstance(value, bool):
            words.append(_flag(name) if value else _flag(f"no_{name}"))
        elif isinstance(value, tuple):
            words += [_flag(name), *map(str, value)]
        else:
            words += [_flag(name), str(value)]
    return words


def check_recipe(recipe: Recipe) -> None:
    """Raise `InputError` if a value is out of range or a name cannot be a file's."""
    for name in _BOUNDS:
        _check_range(_flag(name), name, getattr(recipe, name))
    check_model_class(recipe, MODELS[recipe.model].model_class)
    _check_gate(recipe)
    _check_shots(recipe)
    processes = recipe.devices * recipe.nodes
    if recipe.batch_size % processes:
        raise InputError(
            f"--batch-size: found {recipe.batch_size}, expected a multiple of {processes}, the "
            "number of processes that share a batch"
        )
    for name in ("mix_seen", "mix_unseen"):
        if getattr(recipe, name) and not recipe.second_semantics:
            raise InputError(
                f"{_flag(name)}: found {getattr(recipe, name):g} without --second-semantics, "
                "expected the embedding that describes so many"
            )
    optional = ("run", "second_semantics")
    for name in ("dataset", "features", "semantics", *optional):
        value = getattr(recipe, name)
        if (not value and name not in optional) or Path(value).name != value or value == "..":
            raise InputError(f"{_flag(name)}: found {value!r}, expected a plain file name")


def check_model_class(recipe: Recipe, model_class: type[Model]) -> None:
    """Raise `InputError` if a flag asks for what a model cannot: a density, learning from rows."""
    if recipe.shots and issubclass(model_class, Classifying):
        raise InputError(
            f"--shots: found with a model that classifies by itself ({model_class.__name__}) and "
            "learns from no labelled row of an unseen class, expected gsmflow or cada-vae"
        )
    for flag, found, others in (
        ("--gate", recipe.gate if recipe.gate == "likelihood" else "", "boundary, cosmo or none"),
        ("--classifier", recipe.classifier if recipe.classifier == "bayes" else "", "softmax"),
    ):
        if found and not issubclass(model_class, Density):
            raise InputError(
                f"{flag}: found {found} with a model without a density "
                f"({model_class.__name__}), expected {others}"
            )


def _check_gate(recipe: Recipe) -> None:
    if recipe.gate == "cosmo" and not recipe.calibrate:
        raise InputError(
            "--gate: found cosmo with --no-calibrate, expected --calibrate, the training on "
            "validation classes that this gate learns from"
        )
    if recipe.classifier == "bayes" and recipe.test_selected:
        raise InputError(
            "--test-selected: found with --classifier bayes, which has no epochs to select from, "
            "expected --classifier softmax"
        )


def _check_shots(recipe: Recipe) -> None:
    """Raise `InputError` if rows are asked for in no order, or of what cannot learn from them."""
    shots = recipe.shots
    if not shots:
        return
    if min(shots) < 0 or any(a >= b for a, b in pairwise(shots)):
        raise InputError(
            f"--shots: found {' '.join(map(str, shots))}, expected whole numbers of at least 0, "
            "ascending, each once"
        )
    if recipe.classifier == "bayes":
        raise InputError(
            "--shots: found with --classifier bayes, which learns from no labelled row, expected "
            "--classifier softmax"
        )
    if recipe.gate != "none":
        raise InputError(
            f"--shots: found with --gate {recipe.gate}, which tells apart classes without labelled "
            "rows, expected --gate none"
        )
    if max(shots) and recipe.synthesized_per_class is not None and not recipe.calibrate:
        raise InputError(
            "--shots: found with --no-calibrate, expected --calibrate, the training on validation "
            "classes, where the weight of labelled rows beside synthesized ones is chosen"
        )


def _check_range(where: str, name: str, value: float) -> None:
    low, high = _BOUNDS[name]
    if not value >= low or (high is not None and value > high) or value == float("inf"):
        bound = "a number above 0" if low == _POSITIVE else f"a number of at least {low}"
        limit = "" if high is None else f" and at most {high}"
        raise InputError(f"{where}: found {value}, expected {bound}{limit}")


@dataclass(frozen=True, kw_only=True)
class RecipeFile:
    """What a recipe file holds: settings that were chosen for one dataset and its features.

    Attributes
    ----------
    settings
        Values by the recipe's field, of those that `setting_names` names.
    dataset, features, semantics, model
        What they were chosen for, as `Recipe` has them.
    chosen
        How they were chosen, for readers.
    """

    settings: Mapping[str, Any]
    dataset: str
    features: str
    semantics: str
    model: str = "gsmflow"
    chosen: Mapping[str, Any] = field(default_factory=dict)


def setting_names() -> list[str]:
    """The recipe's fields that say how to learn, which a recipe file may set."""
    parts = dict.fromkeys(part for kind in MODELS.values() for part in kind.parts)
    names = dict.fromkeys(f.name for part in parts for f in fields(part))
    return [*names, "feature_scaling", "samples_per_class"]


def write_recipe_file(path: Path, file: RecipeFile) -> None:
    """Write a recipe file as JSON, atomically."""
    content = asdict(file)
    write_json(path, {"recipe": content.pop("settings"), **content})


def read_recipe_file(path: Path) -> RecipeFile:
    """Read the JSON file that `write_recipe_file` wrote, or one like it by hand.

    Raises
    ------
    InputError
        If it is missing or damaged, or a field is unknown, of a wrong type or out of range.
    """
    try:
        content = json.loads(path.read_text())
    except OSError as error:
        raise InputError(
            f"{path}: not readable ({error.strerror}), expected a recipe file"
        ) from error
    except ValueError as error:
        raise InputError(f"{path}: not JSON ({one_line(error)}), expected a recipe file") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: found {_said(content)}, expected a recipe file's fields")
    kinds = {"recipe": dict, **dict.fromkeys(_BELONGING, str), "chosen": dict}
    for name in content.keys() - kinds.keys():
        raise InputError(
            f"{path}, field '{name}': found a field of this name, expected {', '.join(kinds)}"
        )
    content = {"chosen": {}, "model": "gsmflow", **content}
    for name, kind in kinds.items():
        if not isinstance(content.get(name), kind):
            expected = "a text" if kind is str else "values by name"
            found = _said(content[name]) if name in content else "nothing"
            raise InputError(f"{path}, field '{name}': found {found}, expected {expected}")
    settings = {
        name: _check_setting(f"{path}, field 'recipe.{name}'", name, value)
        for name, value in content.pop("recipe").items()
    }
    return RecipeFile(settings=settings, **content)


def _check_setting(where: str, name: str, value: Any) -> Any:
    """The value of a setting out of a JSON file, or an `InputError`."""
    if name not in setting_names():
        raise InputError(
            f"{where}: found a field of this name, expected those of the recipe that say how to "
            "learn, such as pi or epochs"
        )
    return check_value(where, name, value)


def check_value(where: str, name: str, value: Any) -> Any:
    """The value of a recipe's field, as JSON has it, in the field's type.

    Parameters
    ----------
    where
        Its place, for messages.
    name
        Of the field.
    value
        What was found there.

    Raises
    ------
    InputError
        If it is of another type or out of range.
    """
    hint = get_type_hints(Recipe)[name]
    if get_origin(hint) is Literal:
        fits, expected = value in get_args(hint), f"one of {', '.join(get_args(hint))}"
    else:
        # JSON has one kind of number, and Python counts a truth value as a whole one.
        kinds = {float: (int, float), Path: (str,), _NUMBERS: (list,)}.get(hint, (hint,))
        fits = isinstance(value, kinds) and (hint is bool or not isinstance(value, bool))
        if fits and hint == _NUMBERS:
            fits = all(isinstance(v, int) and not isinstance(v, bool) for v in value)
        expected = _KINDS[hint]
    if not fits:
        raise InputError(f"{where}: found {_said(value)}, expected {expected}")
    if name in _BOUNDS:
        _check_range(where, name, value)
    if hint == _NUMBERS:
        return tuple(value)
    return hint(value) if hint in (float, Path) else value


def recipe_from(stored: Mapping[str, Any], where: str) -> Recipe:
    """The recipe that `Recipe.describe` told; fields that are not there keep their defaults.

    Parameters
    ----------
    stored
        Values by field, as JSON has them.
    where
        The place of them, for messages.

    Raises
    ------
    InputError
        If a field is unknown, or a value of another type or out of range.
    """
    known = {f.name for f in fields(Recipe)}
    for name in stored:
        if name not in known:
            raise InputError(f"{where}: found a field '{name}', expected those of a recipe")
    if "dataset" not in stored:
        raise InputError(f"{where}, field 'dataset': found nothing, expected a name")
    return Recipe(**{k: check_value(f"{where}, field '{k}'", k, v) for k, v in stored.items()})


def _as_json(value: Any) -> Any:
    """A field's value as JSON has it."""
    if isinstance(value, tuple):
        return list(value)
    return str(value) if isinstance(value, Path) else value


def _said(value: Any) -> str:
    """A value as a JSON file has it, cut short."""
    text = json.dumps(value, default=repr)
    return text if len(text) <= 40 else f"{text[:40]}..."


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
