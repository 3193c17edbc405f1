"""A recipe: all settings of a run, with a configuration for method, training, classifier and gate.

Each setting also has a flat name, which is that of its flag. For a field of the method or of the
training it is the field's name (``blocks``, ``epochs``); a field of the classifier or of the gate
has a prefix (``classifier_epochs``, ``gate_share``).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from gsmflow.core.precision import PrecisionName
from gsmflow.core.settings import Range, field_texts, field_types
from gsmflow.data.embedding_names import embedding_label
from gsmflow.data.scaling import FeatureScalingName
from gsmflow.evaluation.balance_names import Balance
from gsmflow.learning.contract import Density, GivesRows, Model
from gsmflow.learning.feed import FeatureStorage
from gsmflow.learning.method import Method, PresetName, method_of
from gsmflow.learning.prototypes import PrototypesConfig
from gsmflow.learning.scorers import BayesConfig
from gsmflow.learning.softmax import SoftmaxConfig, TrainedClassifierConfig
from gsmflow.learning.trainer import TrainingConfig
from gsmflow.methods.gates.registry import gate_of

__all__ = [
    "CLASSIFIERS",
    "CONFIG_PREFIXES",
    "ClassifierConfig",
    "Recipe",
    "Setting",
    "classifiers_for",
    "learning_settings",
    "setting_value",
    "settings_of",
    "used_configs",
]

ClassifierConfig: TypeAlias = SoftmaxConfig | PrototypesConfig | BayesConfig

# The classifiers by the name that ``--classifier`` takes.
CLASSIFIERS: Mapping[str, type[ClassifierConfig]] = {
    "softmax": SoftmaxConfig,
    "prototypes": PrototypesConfig,
    "bayes": BayesConfig,
}


def classifiers_for(method: Method, model: type[Model]) -> tuple[str, ...]:
    """The names of the classifiers that can be trained on rows of a method's model.

    None where the method classifies by itself; ``bayes`` needs a density.
    """
    if method.classifies or not issubclass(model, GivesRows):
        return ()
    return tuple(n for n in CLASSIFIERS if n != "bayes" or issubclass(model, Density))


# The fields of a recipe that hold a configuration, and the prefix of its settings' flat names.
CONFIG_PREFIXES: Mapping[str, str] = {
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
    """The classifier: a softmax that learns from synthesized features; prototypes, which learns
    from them to predict a prototype of each class from its semantics (docs/model.md); or bayes,
    the class under which the model's density of a row is highest."""
    gate: Any = None
    """The gate, which first decides whether a row is of a seen or of an unseen class
    (docs/gates.md): boundary (two hyperspherical VAEs), likelihood (the model's density), cosmo
    (adaptive confidence smoothing), gaussian (Gaussians of the seen classes among semantics), or
    none. The table gets a further row with the gate."""
    data: Path = Path("data")
    """Folder of datasets."""
    features: str = "res101"
    """Stem of the feature file (res101 for res101.mat); also picks the script's recipe."""
    semantics: str = "att"
    """Which semantics: att for att_splits.mat, or for a field att of a split file; a file of class
    vectors (.npy, .csv, .txt, .mat); or several joined by +, such as att+sent, each scaled to
    length 1."""
    second_semantics: str = ""
    """A second embedding of the classes, a name or a file of vectors, which replaces the first for
    some of them; empty: none."""
    mix_seen: Annotated[float, Range(min=0, max=100)] = 0.0
    """Percent of the seen classes that take their semantics from --second-semantics."""
    mix_unseen: Annotated[float, Range(min=0, max=100)] = 0.0
    """Percent of the unseen classes that take their semantics from --second-semantics."""
    class_split: Annotated[int | None, Range(min=0)] = None
    """Seed of a random split into seen and unseen classes, in place of the dataset's
    (docs/protocol.md); None: the dataset's. Such a split may call classes unseen that the backbone
    was trained on."""
    class_splits: Annotated[int, Range(min=0)] = 0
    """Number of random class splits, with seeds from --class-split (else 0) upwards; all runs are
    kept, and the table shows mean and standard deviation over splits. 0: one split."""
    split_unseen: Annotated[int, Range(min=0)] = 0
    """Unseen classes of a random class split; 0: as many as the dataset has."""
    unseen_names: tuple[str, ...] = ()
    """Names of the unseen classes of the random class split, which a run writes into its recipe;
    a split of other classes is then refused. Empty: not compared."""
    feature_scaling: FeatureScalingName = "none"
    """Scaling of the features, fitted on training rows."""
    cache: bool = True
    """Whether to keep the features in OUT/cache, so that the next run reads them faster."""
    features_in: FeatureStorage = "auto"
    """Where training features are: in memory; map: read from the cache batch by batch through a
    memory map; auto: map where they would fill half of the free memory, else memory."""
    calibrate: bool = True
    """Whether to train once more with the validation classes as unseen classes, to choose the
    calibration factor gamma and draw the validation curve; doubles the time."""
    balance: Balance = "harmonic"
    """What the calibration factor gamma is chosen for: harmonic: the harmonic mean of U and S;
    overall: the mean accuracy of all classes; none: no calibration. There is none either where
    its gain on validation classes is within its noise (docs/protocol.md)."""
    validation_draws: Annotated[int, Range(min=0, max=1000)] = 0
    """Draws of validation classes that gamma is chosen on, each with a training of its own; 0: five
    for a method that is fitted at once, one for others."""
    curve_every: Annotated[int, Range(min=0)] = 0
    """Epochs between two points of the validation curve; 0: the last epoch alone."""
    beside: tuple[str, ...] = ("eszsl", "gaussian-prototypes")
    """Methods to compare with: each gets a row in the table, with its published settings and the
    same protocol; none: the model alone."""
    classifiers_beside: tuple[str, ...] = ()
    """Other classifiers to train on the same model, such as prototypes: each gets a row in the
    table and a calibration factor gamma that is chosen for it; empty: none."""
    oracle: bool = False
    """Whether to print an upper bound: the same classifier trained on half of the real unseen
    rows."""
    shots: tuple[int, ...] = ()
    """Few-shot learning: numbers of labelled rows of each unseen class, such as 0 1 2 5 10 20. The
    rows are drawn from the test rows, trained on and not evaluated (docs/few_shot.md); empty:
    none."""
    shot_draws: Annotated[int, Range(min=1)] = 5
    """Random draws of those rows; the figures are means over the draws."""
    test_selected: bool = False
    """Whether to print, apart from the table, the best figures on test over intervals of the
    training (every --curve-every epochs, else twenty) and epochs of the classifier, as much of the
    published code does. They may be compared only with figures chosen in the same way."""
    diagnosis: bool = True
    """Whether to measure the generation shifts of the methods that synthesize features."""
    top_k: Annotated[int, Range(min=1)] = 1
    """Above 1: also the top-k accuracies, for which the right class may be among the k best."""
    reservoir_mib: Annotated[int | None, Range(min=1)] = None
    """Memory for synthesized features, MiB; if there are more, they are streamed through it. None:
    512, on a CUDA GPU a quarter of its memory."""
    precision: PrecisionName = "auto"
    """Matrix products: fp32, tf32 (GPU), bf16, or auto: bf16 where the hardware has it."""
    cuda_graphs: Literal["on", "off"] = "off"
    """on: record a step of the training and of the classifiers as a CUDA graph and repeat it, so
    that a GPU does not wait for the launch of each kernel (docs/speed.md)."""
    compile: Literal["auto", "on", "off"] = "auto"
    """Whether to compile the loss with torch.compile before training, which takes 20 seconds or
    more and, on a CPU, a C++ compiler. auto: with --cuda-graphs on, where the training is long
    enough to pay for it."""
    preset: PresetName = "published"
    """Settings to start from. published: those of the method's paper or code, or the script's for
    its own method; short: those that train within ten minutes on two CPU cores, for the methods
    that would take longer (docs/methods.md)."""
    recipe: str = ""
    """File of chosen settings, as python -m gsmflow tune writes it, which replace the script's;
    recommended: the method that does best on all datasets (docs/beyond.md) in place of the
    script's; empty: none."""
    seed: Annotated[int, Range(min=0, max=2**31 - 1)] = 0
    """Seed of every random choice of the run."""
    seeds: Annotated[int, Range(min=1)] = 1
    """Number of runs, with seeds from --seed upwards; all are kept, and the table shows their mean
    and standard deviation."""
    device: str = "auto"
    """cpu, cuda, cuda:1, mps, or auto for the fastest available."""
    devices: Annotated[int, Range(min=1)] = 1
    """Processes of distributed training on each node, each with a GPU (or on the CPU)."""
    nodes: Annotated[int, Range(min=1)] = 1
    """Nodes of distributed training, launched by torchrun."""
    executor: Literal["local", "slurm"] = "local"
    """Where runs of several seeds or class splits, of an ablation or of a sweep, and the workers of
    tune run: on this machine, or as jobs of a SLURM cluster."""
    workers: Annotated[int, Range(min=1)] = 1
    """How many of those run at the same time, each with its share of the cores; on SLURM, how many
    jobs."""
    partition: str = ""
    """SLURM's partition; empty: its default."""
    job_gpus: Annotated[int, Range(min=0)] = 0
    """GPUs of each job on SLURM."""
    job_minutes: Annotated[int, Range(min=1)] = 240
    """Minutes after which SLURM ends a job; its run goes on in a new one."""
    job_memory_gib: Annotated[int, Range(min=0)] = 0
    """Memory of each job on SLURM, GiB; 0: its default."""
    out: Path = Path("out")
    """Folder of runs; a run writes OUT/DATASET/RUN."""
    run: str = ""
    """Name of the run's folder; empty: date, time and seed."""
    resume: bool = False
    """Continue the run named by --run, or the latest unfinished one of this recipe; begin it where
    there is none yet."""

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
    def trained_classifier(self) -> TrainedClassifierConfig:
        """The settings of the classifier that is trained on rows; a softmax's if none is."""
        config = self.classifier
        return config if isinstance(config, TrainedClassifierConfig) else SoftmaxConfig()

    @property
    def semantics_label(self) -> str:
        """The semantics in tables and names of folders: of files of vectors, their names alone."""
        return embedding_label(self.semantics)

    @property
    def samples_per_class(self) -> int | None:
        """Rows to synthesize of each unseen class; None for a method without this setting."""
        count: int | None = getattr(self.method, "samples_per_class", None)
        return count

    def replace(self, **settings: Any) -> "Recipe":
        """The recipe with some settings replaced, by their flat names.

        ``method``, ``training``, ``classifier`` and ``gate`` also take a whole configuration.

        Raises
        ------
        TypeError
            If the recipe has no such setting.
        """
        configs = {name: settings.pop(name) for name in CONFIG_PREFIXES if name in settings}
        recipe = replace(self, **configs)
        known = settings_of(recipe)
        by_config: dict[str, dict[str, Any]] = {}
        for name, value in settings.items():
            if name not in known:
                raise TypeError(f"{name}: no setting of a recipe for {recipe.model}")
            by_config.setdefault(known[name].config, {})[known[name].field] = value
        changed = by_config.pop("", {})
        for config, values in by_config.items():
            changed[config] = replace(getattr(recipe, config), **values)
        return replace(recipe, **changed)


@dataclass(frozen=True)
class Setting:
    """A setting of a recipe.

    Attributes
    ----------
    config
        The recipe's field whose configuration has the setting; empty for a field of the recipe.
    field
        Its name in the configuration or the recipe.
    hint
        Its type, with its bounds.
    text
        Its help text.
    """

    config: str
    field: str
    hint: Any
    text: str

    def value_in(self, recipe: Recipe) -> Any:
        """Its value in a recipe that uses it."""
        return getattr(getattr(recipe, self.config) if self.config else recipe, self.field)


def used_configs(recipe: Recipe) -> list[str]:
    """The fields of a recipe whose configurations it uses."""
    used = {
        "method": True,
        "training": recipe.method_info.trains,
        "classifier": not recipe.method_info.classifies,
        "gate": recipe.gate is not None,
    }
    return [name for name in CONFIG_PREFIXES if used[name]]


def settings_of(recipe: Recipe) -> dict[str, Setting]:
    """All settings that a recipe uses, by their flat names."""
    hints, texts = field_types(Recipe), field_texts(Recipe)
    found = {
        name: Setting("", name, hint, texts[name])
        for name, hint in hints.items()
        if name not in CONFIG_PREFIXES
    }
    for config in used_configs(recipe):
        config_class = type(getattr(recipe, config))
        texts = field_texts(config_class)  # type: ignore[arg-type]
        for name, hint in field_types(config_class).items():  # type: ignore[arg-type]
            flat_name = CONFIG_PREFIXES[config] + name
            found[flat_name] = Setting(config, name, hint, texts.get(name, ""))
    return found


def learning_settings(recipe: Recipe) -> list[str]:
    """Flat names of the settings of learning, which are those that a recipe file may set."""
    nested = [n for n, s in settings_of(recipe).items() if s.config not in ("", "gate")]
    return [*nested, "feature_scaling"]


def setting_value(recipe: Recipe, name: str) -> Any:
    """The value of a setting by its flat name."""
    return settings_of(recipe)[name].value_in(recipe)
