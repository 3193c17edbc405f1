"""The contract of every model: what a run may rely on, whatever is trained."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from torch import Tensor, nn

from gsmflow.core.errors import InputError
from gsmflow.data.checks import check_dataset
from gsmflow.data.dataset import Dataset, Problem, training_problem
from gsmflow.learning.contract import (
    ClassifierRows,
    Classifying,
    Model,
    RowsByEpoch,
    RowsRequest,
    StreamedRows,
)
from gsmflow.learning.feed import Feed, MemoryFeed, Scaled, class_means, feed_slabs, scale_problem
from gsmflow.learning.sampling import Sampler
from gsmflow.learning.scorers import feature_map
from gsmflow.learning.trainer import Trainer
from gsmflow.methods.registry import MODELS, published_settings, unused_fields
from gsmflow.recipes.recipe import Recipe, check_recipe, parse_recipe, setting_names
from gsmflow.reports.page.document import read_run
from gsmflow.runs import experiment
from gsmflow.runs import stages as fitting
from gsmflow.runs.experiment import run_experiment
from gsmflow.runs.job import Job, RunResult
from tests.builders import CADA_SMALL, make_dataset, make_recipe, seeded, tiny_recipe

pytestmark = pytest.mark.usefixtures("quick_pictures")

CPU = torch.device("cpu")


class ClosedForm(nn.Module):
    """Least squares from semantics to class means; noise, anew in each epoch; a projection."""

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
    def for_problem(
        cls, problem: Problem, feed: Feed, config: Any, generator: torch.Generator
    ) -> "ClosedForm":
        seen = torch.from_numpy(problem.seen_classes)
        # In float64: LAPACK may round in another way where memory is aligned in another.
        semantics = torch.from_numpy(problem.semantics).double()
        weights = torch.linalg.pinv(semantics[seen]) @ class_means(feed, seen).double()
        return cls((semantics @ weights).float(), generator)

    @classmethod
    def from_state(cls, description: dict[str, Any], tensors: dict[str, Tensor]) -> "ClosedForm":
        model = cls(tensors["means"], None)
        model.load_state_dict(tensors)
        return model

    def describe(self) -> dict[str, Any]:
        return {"model": "ClosedForm"}

    @property
    def encoder(self) -> nn.Module | None:
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


# Each model of the table, and one that is not trained; with what makes its runs take a second.
CASES: dict[str, tuple[type[Model] | None, dict[str, Any]]] = {
    "gsmflow": (None, {}),
    "discriminant": (None, {"model": "discriminant"}),
    "cada-vae": (None, {**CADA_SMALL}),
    "cada-vae dynamic": (None, {**CADA_SMALL, "dynamic_latents": True}),
    "closed form": (ClosedForm, {}),
}

Start = Callable[..., RunResult]


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> tuple[type[Model] | None, dict[str, Any]]:
    return CASES[request.param]


@pytest.fixture
def start(case: tuple[type[Model] | None, dict[str, Any]], tmp_path: Path) -> Start:
    def run(**changes: Any) -> RunResult:
        recipe = tiny_recipe(tmp_path, **{"beside": (), **case[1], **changes})
        check_recipe(recipe)
        return run_experiment(Job(recipe, case[0]), Console(quiet=True))

    return run


def tensors_of(result: RunResult) -> dict[str, Tensor]:
    files = ["model.safetensors"]
    if not isinstance(result.fitted.model, Classifying):
        files.append("classifier.safetensors")
    return {f + k: v for f in files for k, v in load_file(result.directory / f).items()}


def assert_same_run(a: RunResult, b: RunResult) -> None:
    assert a.metrics == b.metrics
    ours, theirs = tensors_of(a), tensors_of(b)
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        assert torch.equal(value, theirs[name]), name


def rows_of(model: Model, scaled: Scaled, **changes: Any) -> dict[str, MemoryFeed]:
    """What a model gives both classifiers in their first epoch."""
    request = RowsRequest(scaled, seeded(1), samples_per_class=6, capacity_bytes=2**20)
    rows = model.classifier_rows(replace(request, **changes))
    assert not isinstance(rows, StreamedRows)
    feeds = {"gzsl": rows.gzsl(), "zsl": rows.zsl()}
    return {
        name: MemoryFeed(feed.take(torch.arange(len(feed.labels))), feed.labels)
        for name, feed in feeds.items()
    }


def test_every_model_of_the_table_is_held_to_the_contract() -> None:
    assert MODELS.keys() <= {recipe.get("model", "gsmflow") for _, recipe in CASES.values()}


def test_it_fits_and_is_judged(start: Start) -> None:
    longer = {"classifier_epochs": 20, "classifier_lr": 0.05, "curve_every": 4}
    result = start(run="first", oracle=True, **longer)
    for part in (result.metrics, result.metrics["oracle"], result.metrics["calibrated"]):
        assert all(0 <= part[name] <= 1 for name in {"T1", "U", "S", "H"} & part.keys())
    # Classes that lie well apart: above the chance of one in ten, with next to no training.
    assert result.metrics["oracle"]["S"] > 0.1
    assert result.metrics["oracle"]["T1"] > 0.4
    log = [json.loads(line) for line in (result.directory / "log.jsonl").read_text().splitlines()]
    assert {e["split"] for e in log if e["event"] == "measures"} == {"validation"}

    (part,) = read_run(result.directory)["parts"]
    samples = isinstance(result.fitted.model, Sampler)
    missing = set() if result.fitted.history else {"history"}
    assert set(part["missing"]) == missing | (set() if samples else {"map", "shifts"})
    assert samples == bool(result.metrics["shifts"])


def test_selection_on_test_is_no_worse_than_what_was_not_selected(
    start: Start, case: tuple[type[Model] | None, dict[str, Any]]
) -> None:
    if "test_selected" in unused_fields(case[1].get("model", "gsmflow")):
        pytest.skip("there are no epochs to select from")
    result = start(run="first", test_selected=True)
    assert result.metrics["test_selected"]["H"] >= result.metrics["H"]


def test_the_same_seed_gives_the_same_run_and_another_seed_another(start: Start) -> None:
    first = start(run="first")
    assert_same_run(first, start(run="again"))
    ours, others = tensors_of(first), tensors_of(start(run="other", seed=1))
    assert any(not torch.equal(value, others[name]) for name, value in ours.items())


def test_it_resumes_to_the_same_numbers(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = start(run="whole")

    class CrashError(Exception):
        pass

    def crash(*arguments: Any, **keywords: Any) -> None:
        raise CrashError

    stages = [(experiment, "fit_final"), (experiment, "classify"), (experiment, "evaluate")]
    monkeypatch.setattr(fitting, "_SAVE_EVERY_SECONDS", 0)
    run_epoch = Trainer.run_epoch

    def crash_in_the_third(trainer: Any, *arguments: Any) -> Any:
        return crash() if trainer.epoch == 2 else run_epoch(trainer, *arguments)

    if whole.fitted.history:
        with monkeypatch.context() as patch:
            patch.setattr(Trainer, "run_epoch", crash_in_the_third)
            with pytest.raises(CrashError):
                start(run="epoch")
        assert_same_run(whole, start(run="epoch", resume=True))
    for module, stage in stages:
        with monkeypatch.context() as patch:
            patch.setattr(module, stage, crash)
            with pytest.raises(CrashError):
                start(run=stage)
        assert_same_run(whole, start(run=stage, resume=True))


def test_a_checkpoint_gives_the_model_again(start: Start) -> None:
    result = start(run="first", calibrate=False)
    fitted = result.fitted
    description = json.loads((result.directory / "model.json").read_text())
    stored = load_file(result.directory / "model.safetensors")
    own = {name: t for name, t in stored.items() if not name.startswith("scaling.")}
    again = type(fitted.model).from_state(description, own)  # type: ignore[attr-defined]
    assert again.describe() == fitted.model.describe()
    assert again.state_dict().keys() == fitted.model.state_dict().keys()
    features = result.held_out.unseen.features
    np.testing.assert_array_equal(
        feature_map(fitted.scaled.scaling, again, CPU)(features),
        feature_map(fitted.scaled.scaling, fitted.model, CPU)(features),
    )
    if isinstance(fitted.model, Classifying):
        scaled = torch.from_numpy(fitted.scaled.scaling(features))
        pairs = zip(fitted.model.class_scores(scaled), again.class_scores(scaled), strict=True)
        for ours, theirs in pairs:
            np.testing.assert_array_equal(ours, theirs)
    for name, feed in rows_of(fitted.model, fitted.scaled).items():
        other = rows_of(again, fitted.scaled)[name]
        assert torch.equal(feed.features, other.features)
        assert torch.equal(feed.labels, other.labels)


def test_the_classifiers_rows_have_the_right_classes_and_width(start: Start) -> None:
    result = start(run="first", calibrate=False)
    problem, fitted = result.problem, result.fitted
    rows = rows_of(fitted.model, fitted.scaled)
    assert set(rows["gzsl"].labels.tolist()) == set(problem.classes.tolist())
    assert set(rows["zsl"].labels.tolist()) == set(problem.unseen_classes.tolist())
    space = feature_map(fitted.scaled.scaling, fitted.model, CPU)
    width = space(result.held_out.seen.features).shape[1]
    assert {feed.feature_dim for feed in rows.values()} == {width}
    assert all(torch.isfinite(feed.features).all() for feed in rows.values())


def test_given_rows_of_unseen_classes_reach_the_classifiers(start: Start) -> None:
    result = start(run="first", calibrate=False)
    problem, fitted, unseen = result.problem, result.fitted, result.held_out.unseen
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


def test_no_test_row_reaches_it(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    clean = check_dataset(make_dataset())
    garbage = clean.features.copy()
    test = np.concatenate([clean.test_seen, clean.test_unseen])
    garbage[test] = 1000 * np.random.default_rng(1).normal(size=(len(test), garbage.shape[1]))

    def run_on(dataset: Dataset, name: str) -> RunResult:
        monkeypatch.setattr(experiment, "read_dataset", lambda recipe: dataset)
        return start(run=name)

    results = [run_on(clean, "clean"), run_on(replace(clean, features=garbage), "corrupt")]
    assert results[0].metrics["validation"] == results[1].metrics["validation"]
    for name, value in tensors_of(results[0]).items():
        assert torch.equal(value, tensors_of(results[1])[name]), name
    assert results[0].metrics["H"] != results[1].metrics["H"]


def test_streamed_rows_include_given_ones_of_unseen_classes() -> None:
    problem = training_problem(check_dataset(make_dataset()), "test")
    scaled = scale_problem(problem, "none", CPU, "memory")
    config = tiny_config("gsmflow")
    model = MODELS["gsmflow"].model_class.for_problem(problem, scaled.feed, config, seeded(0))
    labels = torch.from_numpy(problem.unseen_classes).repeat(5)
    real = MemoryFeed(torch.zeros(len(labels), scaled.feed.feature_dim), labels)
    request = RowsRequest(
        scaled, seeded(1), samples_per_class=50, capacity_bytes=600, real_unseen=real
    )
    rows = model.classifier_rows(request)
    assert isinstance(rows, StreamedRows)
    assert set(rows.real.labels.tolist()) == set(problem.classes.tolist())


def tiny_config(name: Any) -> Any:
    recipe = make_recipe(dataset="TINY", model=name, hidden=8, condition_dim=8, blocks=1)
    return recipe.part(MODELS[recipe.model].config)


@pytest.mark.parametrize("name", MODELS)
def test_published_settings_are_fields_that_the_model_uses(name: Any) -> None:
    hints = Recipe.__dataclass_fields__
    for place in MODELS[name].published:
        dataset, _, features = place.partition("/")
        settings = published_settings(name, dataset, features)
        assert settings.keys() <= hints.keys() - unused_fields(name)
        check_recipe(make_recipe(dataset=dataset or "TINY", model=name, **settings))


@pytest.mark.parametrize("name", MODELS)
def test_a_flag_of_another_model_is_refused_and_not_listed(
    name: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    recipes = {"res101": make_recipe(dataset="TINY", model=name)}

    def parse(*words: str) -> Recipe:
        return parse_recipe(recipes, words, prog="train.py", description="Train.")

    assert unused_fields(name) <= {*setting_names(), *Recipe.__dataclass_fields__}
    for field in sorted(unused_fields(name)):
        flag = "--" + field.replace("_", "-")
        for words in ([flag, "1"], [f"{flag}=1"], [flag.replace("--", "--no-")]):
            with pytest.raises(InputError, match=rf"{words[0].partition('=')[0]}: found with --mo"):
                parse(*words)
    with pytest.raises(SystemExit):
        parse("--help")
    shown = capsys.readouterr().out
    for field in unused_fields(name):
        assert f"--{field.replace('_', '-')} " not in shown
