"""A recipe: everything that a run depends on, nested by what it is a setting of.

Each setting also has a flat name, which is that of its flag: a field of the method or of the
training has its own, ``blocks``, ``epochs``; a field of the classifier or of the gate has the
part's name before it, ``classifier_epochs``, ``gate_share``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, TypeAlias

from gsmflow.core.precision import PrecisionName
from gsmflow.core.settings import Range, field_texts, field_types
from gsmflow.data.scaling import FeatureScalingName
from gsmflow.learning.feed import FeedPlace
from gsmflow.learning.method import Method, method_of
from gsmflow.learning.scorers import BayesConfig
from gsmflow.learning.softmax import SoftmaxConfig
from gsmflow.learning.trainer import TrainingConfig
from gsmflow.methods.gates.registry import gate_of

__all__ = [
    "CLASSIFIERS",
    "PARTS",
    "ClassifierConfig",
    "Recipe",
    "Setting",
    "learning_settings",
    "setting_value",
    "settings_of",
    "used_parts",
]

ClassifierConfig: TypeAlias = SoftmaxConfig | BayesConfig

# The classifiers by the name that ``--classifier`` takes.
CLASSIFIERS: Mapping[str, type[ClassifierConfig]] = {
    "softmax": SoftmaxConfig,
    "bayes": BayesConfig,
}

# What the flat names of a part's settings begin with.
PARTS: Mapping[str, str] = {
    "method": "",
    "training": "",
    "classifier": "classifier_",
    "gate": "gate_",
}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that a run depends on; every setting is also a flag."""

    dataset: str
    """Name of the dataset: its folder below --data; DIGITS is built in."""
    method: Any
    """Settings of the method that is trained, such as a `GSMFlowConfig`; --model names another,
    with its published settings."""
    training: TrainingConfig = field(default_factory=TrainingConfig)
    """Settings of the training loop, for a method that is trained."""
    classifier: ClassifierConfig = field(default_factory=SoftmaxConfig)
    """What tells classes apart: a softmax that learns from synthesized features, or bayes, the
    class under which the model's density of a row is highest."""
    gate: Any = None
    """What decides first whether a row is of a seen or of an unseen class (docs/gates.md): boundary
    (two hyperspherical VAEs), likelihood (the model's density), cosmo (adaptive confidence
    smoothing), or none. Its row stands in the table beside the model's."""
    data: Path = Path("data")
    """Folder of datasets."""
    features: str = "res101"
    """Stem of the feature file (res101 for res101.mat); also picks the script's recipe."""
    semantics: str = "att"
    """Which semantics: att for att_splits.mat, sent for sent_splits.mat."""
    second_semantics: str = ""
    """A second embedding of the classes, named as --semantics names the first, which describes
    some of them in place of the first; empty: none."""
    mix_seen: Annotated[float, Range(min=0, max=100)] = 0.0
    """Percent of the seen classes that --second-semantics describes."""
    mix_unseen: Annotated[float, Range(min=0, max=100)] = 0.0
    """Percent of the unseen classes that --second-semantics describes."""
    feature_scaling: FeatureScalingName = "none"
    """Scaling of the features, fitted on training rows."""
    cache: bool = True
    """Whether to keep the features as read in OUT/cache, from where the next start maps them."""
    features_in: FeedPlace = "auto"
    """Training features: in memory, taken from the cache's memory map batch by batch, or auto:
    mapped where they would fill half of the free memory."""
    calibrate: bool = True
    """Whether to train once more with the validation classes playing unseen, to choose the
    calibration factor and draw the validation curve; doubles the time."""
    curve_every: Annotated[int, Range(min=0)] = 0
    """Epochs between two points of the validation curve; 0: the last epoch alone."""
    beside: tuple[str, ...] = ("eszsl", "gaussian-prototypes")
    """Methods that stand beside the model in the table, each with its published settings and by
    the same protocol; none: the model alone."""
    oracle: bool = False
    """Whether to print the ceiling: the same classifier trained on half of the real unseen rows."""
    shots: tuple[int, ...] = ()
    """Few-shot learning: so many labelled rows of each unseen class, such as 0 1 2 5 10 20, are
    drawn from the test rows, learned from and not evaluated (docs/few_shot.md); empty: none."""
    shot_draws: Annotated[int, Range(min=1)] = 5
    """Draws of those rows; the figures are means over them."""
    test_selected: bool = False
    """Whether to print, apart from the table, the best figures on test over intervals of the
    training (every --curve-every epochs, else twenty) and epochs of the classifier, as much of the
    published code does; they may be compared with such figures alone."""
    top_k: Annotated[int, Range(min=1)] = 1
    """Above 1: also the accuracies where the right class may be among so many best answers."""
    reservoir_mib: Annotated[int, Range(min=1)] = 512
    """Synthesized features held in memory at once, MiB; more are streamed through as many."""
    precision: PrecisionName = "auto"
    """Matrix products: fp32, tf32 (GPU), bf16, or auto: bf16 where the hardware has it."""
    compile: bool = False
    """Whether to compile the coupling blocks with torch.compile before training, which takes half a
    minute or more and, on a CPU, a C++ compiler; whether steps get faster depends on the machine
    (docs/speed.md)."""
    recipe: str = ""
    """File of chosen settings, as python -m gsmflow tune writes it: they stand in for the script's
    settings; recommended: the method that does best on all datasets (docs/beyond.md) in place of
    the script's; empty: none."""
    seed: Annotated[int, Range(min=0, max=2**31 - 1)] = 0
    """Seed of every random choice of the run."""
    seeds: Annotated[int, Range(min=1)] = 1
    """Runs, with seeds from --seed upwards, each kept; the table shows their mean and standard
    deviation."""
    device: str = "auto"
    """cpu, cuda, cuda:1, mps, or auto for the fastest there is."""
    devices: Annotated[int, Range(min=1)] = 1
    """Processes that train together on each node, each on a GPU (or a CPU process)."""
    nodes: Annotated[int, Range(min=1)] = 1
    """Nodes that train together, launched by torchrun."""
    out: Path = Path("out")
    """Folder of runs; a run writes OUT/DATASET/RUN."""
    run: str = ""
    """Name of the run's folder; empty: date, time and seed."""
    resume: bool = False
    """Continue the run named by --run, or the latest unfinished one of this recipe."""

    @property
    def model(self) -> str:
        """The method's name, as ``--model`` takes it."""
        return self.method_info.name

    @property
    def method_info(self) -> Method:
        """The method that the settings are of."""
        return method_of(self.method)

    @property
    def classifier_name(self) -> str:
        """The classifier's name, as ``--classifier`` takes it."""
        return next(n for n, kind in CLASSIFIERS.items() if type(self.classifier) is kind)

    @property
    def gate_name(self) -> str:
        """The gate's name, as ``--gate`` takes it; ``"none"`` without one."""
        return "none" if self.gate is None else gate_of(self.gate).name

    @property
    def softmax(self) -> SoftmaxConfig:
        """The settings of the softmax; the defaults where another classifier is set."""
        return self.classifier if isinstance(self.classifier, SoftmaxConfig) else SoftmaxConfig()

    @property
    def samples_per_class(self) -> int | None:
        """Rows to synthesize of each unseen class; None for a method without this setting."""
        count: int | None = getattr(self.method, "samples_per_class", None)
        return count

    def replace(self, **settings: Any) -> "Recipe":
        """The recipe with some settings replaced, by their flat names.

        ``method``, ``training``, ``classifier`` and ``gate`` may be given whole, too.

        Raises
        ------
        TypeError
            If the recipe has no such setting.
        """
        parts = {name: settings.pop(name) for name in PARTS if name in settings}
        recipe = replace(self, **parts)
        known = settings_of(recipe)
        by_part: dict[str, dict[str, Any]] = {}
        for name, value in settings.items():
            if name not in known:
                raise TypeError(f"{name}: no setting of a recipe for {recipe.model}")
            by_part.setdefault(known[name].part, {})[known[name].field] = value
        changed = by_part.pop("", {})
        for part, values in by_part.items():
            changed[part] = replace(getattr(recipe, part), **values)
        return replace(recipe, **changed)


@dataclass(frozen=True)
class Setting:
    """A setting of a recipe.

    Attributes
    ----------
    part
        The recipe's field that it is nested in; empty for a field of the recipe.
    field
        Its name there.
    hint
        Its type, with its bounds.
    text
        What it is, in one line.
    """

    part: str
    field: str
    hint: Any
    text: str


def used_parts(recipe: Recipe) -> list[str]:
    """The nested parts that a recipe makes use of."""
    used = {
        "method": True,
        "training": recipe.method_info.trains,
        "classifier": not recipe.method_info.classifies,
        "gate": recipe.gate is not None,
    }
    return [part for part in PARTS if used[part]]


def settings_of(recipe: Recipe) -> dict[str, Setting]:
    """All settings that a recipe makes use of, by their flat names."""
    hints, texts = field_types(Recipe), field_texts(Recipe)
    found = {
        name: Setting("", name, hint, texts[name])
        for name, hint in hints.items()
        if name not in PARTS
    }
    for part in used_parts(recipe):
        config = type(getattr(recipe, part))
        texts = field_texts(config)  # type: ignore[arg-type]
        for name, hint in field_types(config).items():  # type: ignore[arg-type]
            found[PARTS[part] + name] = Setting(part, name, hint, texts.get(name, ""))
    return found


def learning_settings(recipe: Recipe) -> list[str]:
    """Flat names of the settings that say how to learn, which a recipe file may set."""
    nested = [n for n, s in settings_of(recipe).items() if s.part not in ("", "gate")]
    return [*nested, "feature_scaling"]


def setting_value(recipe: Recipe, name: str) -> Any:
    """The value of a setting by its flat name."""
    setting = settings_of(recipe)[name]
    return getattr(getattr(recipe, setting.part) if setting.part else recipe, setting.field)
