"""The contract of every method: what a run may rely on.

All methods of `METHODS` are tested, with any optional features that their models have, and also a
variant of CADA-VAE and a custom model, which is in no table.
"""

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, get_args

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from gsmflow.core.errors import InputError
from gsmflow.core.rng import BatchRandom, Generators
from gsmflow.core.settings import check_value, flag_of
from gsmflow.data.checks import check_dataset
from gsmflow.data.dataset import Dataset, open_held_out, training_problem
from gsmflow.evaluation.measures import METRICS
from gsmflow.learning.contract import (
    Choosing,
    ClassifierRows,
    Classifying,
    ClassifyingCalibrated,
    Density,
    Extensible,
    GivesRows,
    LossTrained,
    Model,
    RowsByEpoch,
    RowsRequest,
    StreamedRows,
    Trainable,
    WarmedUp,
)
from gsmflow.learning.feed import MemoryFeed, Scaled, class_means, feed_slabs, scale_problem
from gsmflow.learning.method import PresetName
from gsmflow.learning.sampling import Sampler
from gsmflow.learning.scorers import feature_map
from gsmflow.learning.trainer import Trainer
from gsmflow.methods.registry import METHODS, find_method
from gsmflow.recipes.checks import check_recipe
from gsmflow.recipes.flags import parse_recipe, published_recipe, recipe_for
from gsmflow.recipes.recipe import Recipe, setting_value, settings_of
from gsmflow.reports.metric_values import mean_std_of
from gsmflow.reports.page.document import read_run
from gsmflow.runs import experiment, stages, validation
from gsmflow.runs.add_class import grow_dataset
from gsmflow.runs.checkpoint import open_trained
from gsmflow.runs.experiment import run_experiment
from gsmflow.runs.job import Job, RunResult
from gsmflow.runs.sections import REPORTS
from gsmflow.runs.variants import ablation_recipes
from gsmflow.tuning.space import space_of
from tests.builders import (
    changed,
    fitting_dataset,
    generators,
    make_dataset,
    make_recipe,
    scaled_of,
    seeded,
    small_recipe,
)

pytestmark = pytest.mark.usefixtures("quick_pictures")

CPU = torch.device("cpu")
DATASET = check_dataset(make_dataset())
# For a trained model to learn something.
LEARNING = {
    "epochs": 12,
    "batch_size": 8,
    "learning_rate": 2e-2,
    "semantics_scaling": "norm",
    "classifier_lr": 0.05,
    "classifier_epochs": 20,
    "curve_every": 6,
}


class ClosedForm(nn.Module):
    """Least squares from semantics to class means; new noise in each epoch; a projection."""

    means: Tensor
    projection: nn.Linear

    def __init__(self, means: Tensor, generator: torch.Generator | None) -> None:
        super().__init__()
        self.register_buffer("means", means)
        self.projection = nn.Linear(means.shape[1], 4)
        with torch.no_grad():
            for parameter in self.projection.parameters():
                parameter.normal_(generator=generator)

    @classmethod
    def for_problem(cls, scaled: Scaled, config: Any, generators: Generators) -> "ClosedForm":
        seen = torch.from_numpy(scaled.problem.seen_classes)
        # In float64: LAPACK may round differently for another memory alignment.
        semantics = torch.from_numpy(scaled.problem.semantics).double()
        weights = torch.linalg.pinv(semantics[seen]) @ class_means(scaled.feed, seen).double()
        return cls((semantics @ weights).float(), generators.on_cpu("projection"))

    @classmethod
    def from_state(cls, description: dict[str, Any], tensors: dict[str, Tensor]) -> "ClosedForm":
        model = cls(tensors["means"], None)
        model.load_state_dict(tensors)
        return model

    def describe(self) -> dict[str, Any]:
        return {"model": "ClosedForm"}

    @property
    def encoder(self) -> nn.Module:
        return self.projection

    @torch.no_grad()
    def classifier_rows(self, request: RowsRequest) -> ClassifierRows:
        unseen = torch.from_numpy(request.scaled.problem.unseen_classes)
        real = MemoryFeed(*map(torch.cat, zip(*feed_slabs(request.scaled.feed), strict=True)))

        def encoded(features: Tensor, labels: Tensor) -> MemoryFeed:
            return MemoryFeed(self.projection(features).detach(), labels)

        def draw() -> tuple[Tensor, Tensor]:
            labels = unseen.repeat(request.samples_per_class if request.synthesizes else 0)
            noise = torch.randn(len(labels), self.means.shape[1], generator=request.generator)
            features = self.means[labels] + 0.3 * noise
            if request.real_unseen is not None:
                given = request.real_unseen
                features = torch.cat([features, given.take(torch.arange(len(given.labels)))])
                labels = torch.cat([labels, given.labels])
            return features, labels

        def gzsl() -> MemoryFeed:
            features, labels = draw()
            both = torch.cat([real.features, features]), torch.cat([real.labels, labels])
            return encoded(*both)

        return RowsByEpoch(gzsl, lambda: encoded(*draw()))


@dataclass(frozen=True, eq=False)
class Case:
    """A method by its name, with settings of it, or a custom model instead."""

    method: str
    settings: MappingProxyType[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    model_class: type[Model] | None = None

    @property
    def dataset(self) -> Dataset:
        return check_dataset(fitting_dataset(self.method))

    @property
    def model(self) -> type[Model]:
        return self.model_class or find_method(self.method).model

    def recipe(self, folder: Path, **changes: Any) -> Recipe:
        """A small recipe with the published settings, as far as `LEARNING` does not differ."""
        published = published_recipe(make_recipe(dataset="TINY"), self.method)
        chosen = {k: v for k, v in self.settings.items() if k == "classifier"}
        published = changed(published, **chosen)
        settings: dict[str, Any] = {
            "beside": (),
            "feature_scaling": published.feature_scaling,
            "amsgrad": published.training.amsgrad,
            **LEARNING,
            **self.settings,
            **changes,
        }
        known = settings_of(published)
        known_settings = {name: value for name, value in settings.items() if name in known}
        return small_recipe(
            dataset="TINY", model=self.method, out=folder, data=folder, **known_settings, **chosen
        )

    def fit(self, scaled: Scaled, recipe: Recipe, random: Generators) -> Model:
        """The model as a run makes it, before it is trained."""
        if not issubclass(self.model, Choosing):
            return self.model.for_problem(scaled, recipe.method, random)
        problem = training_problem(self.dataset, "validation")
        held_out = open_held_out(self.dataset, "validation")
        there = scale_problem(problem, recipe.feature_scaling, CPU, "memory")
        choice = self.model.choose(there, held_out, recipe.method, random)
        return self.model.for_choice(scaled, recipe.method, choice, random)


# Their prototypes end with ReLU, as published, which cannot reach these features.
OF_ANY_SIGN = MappingProxyType({"hidden": 64, "learning_rate": 5e-3, "output_relu": False})
# Its steps are steady with batches of half of the rows: another processor ends at the same figures.
STEADY = OF_ANY_SIGN | {"hidden": 256, "learning_rate": 1e-3, "batch_size": 28}
FEW_ROWS = MappingProxyType({"penalty": 1e-2})
PROTOTYPES = MappingProxyType(
    {"classifier": "prototypes", "classifier_hidden": 32, "classifier_lr": 5e-3}
)
CASES = {
    **{name: Case(name) for name in METHODS},
    "cn-zsl": Case("cn-zsl", MappingProxyType(STEADY)),
    "dem": Case("dem", OF_ANY_SIGN),
    # A network that fits seven classes exactly says little about three others.
    **{name: Case(name, FEW_ROWS) for name in ("cmt", "cmt-star", "cmt-loop")},
    "cada-vae dynamic": Case("cada-vae", MappingProxyType({"dynamic_latents": True})),
    "closed form": Case("gsmflow", model_class=ClosedForm),
    **{f"{name} prototypes": Case(name, PROTOTYPES) for name in ("gsmflow", "cada-vae")},
}
WHOLE: dict[str, RunResult] = {}


@pytest.fixture(params=CASES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def case(name: str) -> Case:
    return CASES[name]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


def run_case(case: Case, folder: Path, dataset: Dataset | None = None, **changes: Any) -> RunResult:
    recipe = case.recipe(folder, **changes)
    check_recipe(recipe)
    job = Job(recipe, case.model_class, dataset or case.dataset)
    return run_experiment(job, Console(quiet=True))


@pytest.fixture
def whole(name: str, folder: Path) -> RunResult:
    """A finished run with all that its method has, made once."""
    if name not in WHOLE:
        model = CASES[name].model
        extras: dict[str, Any] = {
            "oracle": issubclass(model, GivesRows),
            "test_selected": not issubclass(model, Classifying),
        }
        WHOLE[name] = run_case(CASES[name], folder / name, run="whole", **extras)
    return WHOLE[name]


def tensors_of(result: RunResult) -> dict[str, Tensor]:
    files = ["model.safetensors"]
    if not isinstance(result.fitted.model, Classifying):
        files.append("classifier.safetensors")
    return {f + k: v for f in files for k, v in load_file(result.directory / f).items()}


def assert_same_tensors(a: RunResult, b: RunResult) -> None:
    ours, theirs = tensors_of(a), tensors_of(b)
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        assert torch.equal(value, theirs[name]), name


def assert_same_run(a: RunResult, b: RunResult) -> None:
    """The same except for outputs that only one of them was set to write."""
    extras = ("oracle", "test_selected")
    ours, theirs = ({k: v for k, v in r.metrics.items() if k not in extras} for r in (a, b))
    assert ours == theirs
    assert_same_tensors(a, b)


def rows_of(model: Model, scaled: Scaled, **changes: Any) -> dict[str, MemoryFeed]:
    """The rows that a model gives both classifiers in their first epoch."""
    if not isinstance(model, GivesRows):
        pytest.skip("it gives no rows")
    request = RowsRequest(scaled, seeded(1), samples_per_class=6, capacity_bytes=2**20)
    rows = model.classifier_rows(replace(request, **changes))
    assert not isinstance(rows, StreamedRows)
    feeds = {"gzsl": rows.gzsl(), "zsl": rows.zsl()}
    return {
        name: MemoryFeed(feed.take(torch.arange(len(feed.labels))), feed.labels)
        for name, feed in feeds.items()
    }


def test_measures_are_above_chance(whole: RunResult) -> None:
    metrics = whole.metrics
    for part in (metrics, metrics.get("oracle", {}), metrics["calibrated"]):
        assert all(0 <= part[name] <= 1 for name in {"T1", "U", "S", "H"} & part.keys())
    # Well separated classes: above the chance of one in ten, with very little training.
    if "oracle" in metrics:
        assert metrics["oracle"]["S"] > 0.1
        assert metrics["oracle"]["T1"] > 0.4
    else:
        assert metrics["S"] > 0.1
        assert metrics["T1"] > 0.4
    log = [json.loads(line) for line in (whole.directory / "log.jsonl").read_text().splitlines()]
    assert {e["split"] for e in log if e["event"] == "measures"} == {"validation"}


def test_page_has_the_sections_that_the_model_can_fill(whole: RunResult) -> None:
    (part,) = read_run(whole.directory, REPORTS)["parts"]
    samples = isinstance(whole.fitted.model, Sampler)
    assert part["missing"] == {}
    assert (part.get("history") is not None) == bool(whole.fitted.history)
    assert (part.get("map") is not None) == samples
    assert samples == bool(whole.metrics["shifts"])


def test_scores_are_finite_and_have_a_column_for_each_class(case: Case, whole: RunResult) -> None:
    scorer = open_trained(whole.directory, CPU, case.model_class).scorer
    features, problem = whole.held_out.seen.features, whole.problem
    for scores, classes in (
        (scorer.gzsl_scores(features), problem.classes),
        (scorer.zsl_scores(features), problem.unseen_classes),
    ):
        assert scores.shape == (len(features), len(classes))
        assert np.isfinite(scores).all()
        assert len(scorer.gzsl_scores(features[:0])) == 0
    model = whole.fitted.model
    if isinstance(model, ClassifyingCalibrated):
        rows = torch.from_numpy(whole.fitted.scaled.scaling(features))
        calibrated = model.calibrated_class_scores(rows)
        assert calibrated.shape == (len(features), len(problem.classes))
        assert np.isfinite(calibrated).all()


def test_density_is_finite_and_sampler_is_reproducible(whole: RunResult) -> None:
    model, scaled = whole.fitted.model, whole.fitted.scaled
    rows = whole.held_out.unseen
    features = torch.from_numpy(scaled.scaling(rows.features))
    if not isinstance(model, (Density, Sampler)):
        pytest.skip("it has neither")
    if isinstance(model, Density):
        density = model.log_prob(features, torch.from_numpy(rows.labels))
        assert density.shape == (len(features),)
        assert torch.isfinite(density).all()
    if isinstance(model, Sampler):
        draw = model.sampler(torch.from_numpy(whole.problem.unseen_classes))
        positions = torch.tensor([0, 2, 2, 1])
        drawn = draw(positions, seeded(3))
        assert drawn.shape == (4, features.shape[1])
        assert torch.isfinite(drawn).all()
        assert torch.equal(drawn, draw(positions, seeded(3)))
        assert not torch.equal(drawn[1], drawn[2])


def test_loss_is_finite_reproducible_and_trains_every_parameter(case: Case) -> None:
    if not issubclass(case.model, LossTrained):
        pytest.skip("it is not trained with a loss")
    recipe = case.recipe(Path("out"))
    problem = training_problem(DATASET, "test")
    scaled = scaled_of(problem, recipe.feature_scaling)
    model = case.fit(scaled, recipe, generators(0))
    assert isinstance(model, LossTrained)
    assert isinstance(model, nn.Module)
    if isinstance(model, WarmedUp):
        model.warm_up(0.99)
    batch = scaled.feed.take(torch.arange(16)), scaled.feed.labels[:16]
    losses = [model.loss(*batch, BatchRandom(seeded(2))) for _ in range(2)]
    assert torch.equal(losses[0].total, losses[1].total)
    assert losses[0].parts
    assert all(torch.isfinite(part) for part in losses[0].parts.values())
    losses[0].total.backward()  # type: ignore[no-untyped-call]
    for parameter in model.parameters():
        assert parameter.grad is not None
        assert torch.isfinite(parameter.grad).all()


def test_selection_on_test_is_no_worse_than_the_final_model(whole: RunResult) -> None:
    if isinstance(whole.fitted.model, Classifying):
        pytest.skip("there are no epochs to select from")
    assert whole.metrics["test_selected"]["H"] >= whole.metrics["H"]


class NotingGenerators(Generators):
    """Generators that record the purposes that are requested."""

    def on_cpu(self, purpose: str) -> torch.Generator:
        self.purposes().append(purpose)
        return super().on_cpu(purpose)

    def on_device(self, purpose: str) -> torch.Generator:
        self.purposes().append(purpose)
        return super().on_device(purpose)

    def purposes(self) -> list[str]:
        return PURPOSES


PURPOSES: list[str] = []


def test_same_seed_gives_the_same_run_and_another_seed_another(
    case: Case, name: str, whole: RunResult, folder: Path
) -> None:
    again = run_case(case, folder / name, run="again")
    assert_same_run(whole, again)
    assert "oracle" not in again.metrics
    PURPOSES.clear()
    recipe = case.recipe(folder)
    case.fit(whole.fitted.scaled, recipe, NotingGenerators(0, "test", CPU))
    draws = PURPOSES or whole.fitted.history or not isinstance(whole.fitted.model, Classifying)
    ours = tensors_of(whole)
    others = tensors_of(run_case(case, folder / name, run="other", seed=1))
    assert any(not torch.equal(value, others[name]) for name, value in ours.items()) == bool(draws)


class CrashError(Exception):
    """What ends a run."""


def crash(*arguments: Any, **keywords: Any) -> Any:
    raise CrashError


@contextmanager
def crashing_in(stage: str) -> Iterator[None]:
    """A context in which a stage of a run, or the third epoch of a training, crashes."""
    with pytest.MonkeyPatch.context() as patch:
        if stage != "epoch":
            patch.setattr(validation if stage == "validate" else experiment, stage, crash)
        else:
            run_epoch = Trainer.run_epoch
            patch.setattr(
                Trainer,
                "run_epoch",
                lambda trainer, *rest: (crash if trainer.epoch == 2 else run_epoch)(trainer, *rest),
            )
        yield


def test_resumes_to_the_same_numbers_after_a_crash_in_each_stage(
    case: Case, name: str, whole: RunResult, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stages, "_SAVE_EVERY_SECONDS", 0)
    epoch = ["epoch"] if whole.fitted.history else []
    crashes = ["validate", *epoch, "fit_final", *epoch, "classify", "evaluate"]
    for number, stage in enumerate(crashes):
        with crashing_in(stage), pytest.raises(CrashError):
            run_case(case, folder / name, run="crashed", resume=number > 0)
    assert not (whole.directory.parent / "crashed" / "metrics.json").exists()
    assert_same_run(whole, run_case(case, folder / name, run="crashed", resume=True))


def test_checkpoint_restores_the_model(case: Case, whole: RunResult) -> None:
    fitted = whole.fitted
    kept = open_trained(whole.directory, CPU, case.model_class).kept
    again, features = kept.model, whole.held_out.unseen.features
    assert type(again) is type(fitted.model)
    assert again.describe() == fitted.model.describe()
    assert again.state_dict().keys() == fitted.model.state_dict().keys()
    np.testing.assert_array_equal(
        feature_map(kept.scaling, again, CPU)(features),
        feature_map(fitted.scaled.scaling, fitted.model, CPU)(features),
    )
    if isinstance(fitted.model, Classifying):
        assert isinstance(again, Classifying)
        scaled = torch.from_numpy(fitted.scaled.scaling(features))
        pairs = zip(fitted.model.class_scores(scaled), again.class_scores(scaled), strict=True)
        for ours, theirs in pairs:
            np.testing.assert_array_equal(ours, theirs)
    if isinstance(fitted.model, GivesRows):
        for name, feed in rows_of(fitted.model, fitted.scaled).items():
            other = rows_of(again, fitted.scaled)[name]
            assert torch.equal(feed.features, other.features)
            assert torch.equal(feed.labels, other.labels)


def test_checkpoint_with_a_tensor_of_another_shape_is_refused(
    case: Case, whole: RunResult, tmp_path: Path
) -> None:
    directory = Path(shutil.copytree(whole.directory, tmp_path / "run"))
    file = directory / "model.safetensors"
    tensors = load_file(file)
    for name, tensor in tensors.items():
        save_file({**tensors, name: tensor[None].contiguous()}, file)
        shapes = (1, *tensor.shape), tuple(tensor.shape)
        found, expected = (re.escape(str(shape)) for shape in shapes)
        message = rf"^{file}: .*\(found tensor {name} of shape {found}, expected {expected}\)"
        with pytest.raises(InputError, match=message):
            open_trained(directory, CPU, case.model_class)


def test_classifiers_rows_have_the_right_classes_and_width(whole: RunResult) -> None:
    problem, fitted = whole.problem, whole.fitted
    rows = rows_of(fitted.model, fitted.scaled)
    assert set(rows["gzsl"].labels.tolist()) == set(problem.classes.tolist())
    assert set(rows["zsl"].labels.tolist()) == set(problem.unseen_classes.tolist())
    space = feature_map(fitted.scaled.scaling, fitted.model, CPU)
    width = space(whole.held_out.seen.features).shape[1]
    assert {feed.feature_dim for feed in rows.values()} == {width}
    assert all(torch.isfinite(feed.features).all() for feed in rows.values())


def test_given_rows_of_unseen_classes_reach_the_classifiers(whole: RunResult) -> None:
    problem, fitted, unseen = whole.problem, whole.fitted, whole.held_out.unseen
    features = torch.from_numpy(fitted.scaled.scaling(unseen.features))
    real = MemoryFeed(features, torch.from_numpy(unseen.labels))
    alone = rows_of(fitted.model, fitted.scaled, real_unseen=real, synthesizes=False)
    assert set(alone["gzsl"].labels.tolist()) == set(problem.classes.tolist())
    assert set(alone["zsl"].labels.tolist()) == set(problem.unseen_classes.tolist())
    moved = MemoryFeed(real.features + 50, real.labels)
    for synthesizes in (True, False):
        changes: dict[str, Any] = {"synthesizes": synthesizes}
        near = rows_of(fitted.model, fitted.scaled, real_unseen=real, **changes)
        far = rows_of(fitted.model, fitted.scaled, real_unseen=moved, **changes)
        for name in near:
            is_unseen = torch.isin(near[name].labels, torch.from_numpy(problem.unseen_classes))
            assert not torch.equal(near[name].features[is_unseen], far[name].features[is_unseen])


def test_streamed_rows_include_given_ones_of_unseen_classes(whole: RunResult) -> None:
    fitted = whole.fitted
    if not isinstance(fitted.model, GivesRows):
        pytest.skip("it gives no rows")
    labels = torch.from_numpy(whole.problem.unseen_classes).repeat(5)
    real = MemoryFeed(torch.zeros(len(labels), fitted.scaled.feed.feature_dim), labels)
    request = RowsRequest(
        fitted.scaled, seeded(1), samples_per_class=50, capacity_bytes=600, real_unseen=real
    )
    rows = fitted.model.classifier_rows(request)
    if not isinstance(rows, StreamedRows):
        pytest.skip("it streams no rows")
    assert set(rows.real.labels.tolist()) == set(whole.problem.classes.tolist())


def test_streaming_is_tested_with_gsmflow(folder: Path) -> None:
    """The test before this one does not skip all methods."""
    recipe = CASES["gsmflow"].recipe(folder)
    scaled = scaled_of(training_problem(DATASET, "test"))
    model = CASES["gsmflow"].fit(scaled, recipe, generators(0))
    assert isinstance(model, GivesRows)
    request = RowsRequest(scaled, seeded(1), samples_per_class=50, capacity_bytes=600)
    assert isinstance(model.classifier_rows(request), StreamedRows)


def test_training_uses_no_test_row(case: Case, name: str, whole: RunResult, folder: Path) -> None:
    dataset = case.dataset
    garbage = dataset.features.copy()
    test = np.concatenate([dataset.test_seen, dataset.test_unseen])
    garbage[test] = 1000 * np.random.default_rng(1).normal(size=(len(test), garbage.shape[1]))
    corrupt = run_case(case, folder / name, replace(dataset, features=garbage), run="corrupt")
    assert whole.metrics["validation"] == corrupt.metrics["validation"]
    assert whole.metrics.get("choices") == corrupt.metrics.get("choices")
    assert_same_tensors(whole, corrupt)
    assert whole.metrics["H"] != corrupt.metrics["H"]


def test_class_can_be_added(case: Case, whole: RunResult) -> None:
    model, dataset = whole.fitted.model, case.dataset
    if not isinstance(model, Extensible):
        pytest.skip("it takes no further classes")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    vector = np.linspace(-1, 1, dataset.semantics.shape[1], dtype=np.float32)
    grown = training_problem(grow_dataset(dataset, {"new": vector}), "test")
    new = len(dataset.class_names)
    problem = replace(grown, unseen_classes=np.append(whole.problem.unseen_classes, new))
    wider = model.with_classes(problem)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    scaled = scale_problem(problem, "none", CPU, "memory")
    scaled = replace(scaled, scaling=whole.fitted.scaled.scaling, feed=whole.fitted.scaled.feed)
    if isinstance(wider, Classifying):
        features = torch.from_numpy(scaled.scaling(whole.held_out.seen.features))
        for scores, old in zip(wider.class_scores(features), (10, 3), strict=True):
            assert scores.shape == (len(features), old + 1)
            assert np.isfinite(scores).all()
    else:
        rows = rows_of(wider, scaled)
        assert set(rows["gzsl"].labels.tolist()) == set(problem.classes.tolist())
        assert set(rows["zsl"].labels.tolist()) == set(problem.unseen_classes.tolist())


# --- what a method's file declares ---------------------------------------------------------------

each_method = pytest.mark.parametrize("method", METHODS)


@each_method
def test_method_is_found_by_its_name_and_its_settings(method: str) -> None:
    info = find_method(method)
    assert info.name == method
    assert info.label
    assert info.paper
    assert make_recipe(dataset="TINY", model=method).method_info is info
    for name, setting in settings_of(make_recipe(dataset="TINY", model=method)).items():
        assert setting.text, f"{name} has no help text"
    parts = (Trainable, GivesRows, Classifying)
    assert issubclass(info.model, Trainable) == info.trains
    assert any(issubclass(info.model, part) for part in parts[1:]), "nothing scores classes"


@each_method
def test_settings_of_each_preset_are_settings_of_the_method(method: str) -> None:
    info = find_method(method)
    presets: tuple[PresetName, ...] = get_args(PresetName)
    for preset, by_dataset in zip(presets, (info.published, info.short), strict=True):
        for key, settings in by_dataset.items():
            dataset, _, features = key.partition("/")
            bare = make_recipe(dataset=dataset or "TINY", features=features or "res101")
            bare = published_recipe(bare, method)
            recipe = recipe_for({"": bare}, bare.features, preset=preset)
            assert recipe.preset == preset
            known = settings_of(recipe)
            assert settings.keys() <= known.keys() - {"dataset", "features", "semantics", "seed"}
            for name, value in settings.items():
                check_value(name, known[name].hint, value)
                assert setting_value(recipe, name) == value
            check_recipe(recipe)


@pytest.mark.parametrize("method", [m for m in METHODS if not find_method(m).depends_on_seed])
def test_method_without_random_choices_has_the_same_figures_under_any_seed(
    method: str, tmp_path: Path
) -> None:
    figures = []
    for seed in (0, 1):
        metrics = run_case(CASES[method], tmp_path, seed=seed, run=f"seed{seed}").metrics
        figures.append({m.key: mean_std_of(metrics, m) for m in METRICS})
    assert figures[0] == figures[1]


@each_method
def test_variants_change_something_and_can_be_run(method: str) -> None:
    info = find_method(method)
    recipes = ablation_recipes(published_recipe(make_recipe(dataset="TINY"), method))
    assert list(recipes) == ["full", *info.variants]
    full = recipes.pop("full")
    for name, changes in info.variants.items():
        assert changes
        assert all(setting_value(full, n) != v for n, v in changes.items()), name
        assert recipes[name] == full.replace(beside=(), **changes)
        check_recipe(recipes[name])


@each_method
def test_search_ranges_are_of_settings_and_give_a_space(method: str) -> None:
    published = published_recipe(make_recipe(dataset="TINY"), method)
    known = settings_of(published)
    for name, found in find_method(method).search.items():
        assert name in known
        recipe = published
        if found.when is not None:
            assert found.when[0] in known
            check_value(found.when[0], known[found.when[0]].hint, found.when[1])
            recipe = published.replace(**{found.when[0]: found.when[1]})
        space = space_of(recipe)
        assert name in space.dimensions
        assert space.apply(space.recipe_params) == recipe
        distribution = space.distributions[name]
        ends = [getattr(distribution, end, None) for end in ("low", "high")]
        for drawn in getattr(distribution, "choices", ends):
            check_recipe(space.apply(space.recipe_params | {name: drawn}))


def foreign_settings(method: str) -> set[str]:
    """Settings of other methods, of their training and of their classifiers."""
    settings = {
        name: settings_of(make_recipe(dataset="TINY", model=name)).keys() for name in METHODS
    }
    return set().union(*settings.values()) - settings[method]


@each_method
def test_flag_of_another_method_is_refused_and_not_listed(
    method: str, capsys: pytest.CaptureFixture[str]
) -> None:
    recipes = {"res101": make_recipe(dataset="TINY", model=method)}

    def parse(*words: str) -> Recipe:
        return parse_recipe(recipes, words, prog="train.py", description="Train.")

    foreign = sorted(foreign_settings(method))
    some = foreign[:: max(1, len(foreign) // 12)]
    assert some
    for number, flag in enumerate(map(flag_of, some)):
        forms = [flag, "1"], [f"{flag}=1"], [flag.replace("--", "--no-")]
        words = forms[number % len(forms)]
        with pytest.raises(InputError, match=rf"{words[0].partition('=')[0]}: found with --mo"):
            parse(*words)
    with pytest.raises(SystemExit):
        parse("--help-all")
    shown = capsys.readouterr().out
    for flag in map(flag_of, foreign):
        assert f"{flag} " not in shown
    for name in settings_of(recipes["res101"]):
        assert flag_of(name) in shown
