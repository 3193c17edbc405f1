"""Methods beside a run's model: which, their figures, their files, and resuming."""

import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from gsmflow.core.errors import InputError
from gsmflow.learning.contract import Choosing
from gsmflow.methods.registry import METHODS, find_method
from gsmflow.recipes.flags import published_recipe
from gsmflow.recipes.recipe import Recipe, settings_of
from gsmflow.runs import beside, validation
from gsmflow.runs.beside import beside_recipe
from gsmflow.runs.experiment import run_experiment
from gsmflow.runs.job import Job, RunResult
from tests.builders import SMALL_OF_ANY, changed, make_recipe, tiny_recipe

pytestmark = pytest.mark.usefixtures("quick_pictures", "small_methods")

# One more needs features and semantics of one space.
FITTING = tuple(name for name in METHODS if name != "clip-prompts")
MEASURES = ("T1", "U", "S", "H", "AUSUC")


def small_published(recipe: Recipe, name: str) -> Recipe:
    """Small settings in place of the published ones, which take minutes."""
    published = published_recipe(recipe, name)
    return changed(
        published, **{n: v for n, v in SMALL_OF_ANY.items() if n in settings_of(published)}
    )


@pytest.fixture
def small_methods(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beside, "published_recipe", small_published)


def run(folder: Path, **changes: Any) -> RunResult:
    return run_experiment(Job(tiny_recipe(folder, **changes)), Console(quiet=True))


def label_of(name: str) -> str:
    return find_method(name).label


def test_method_beside_another_has_the_figures_of_a_separate_run(tmp_path: Path) -> None:
    together = run(tmp_path, model="discriminant", run="together", beside=FITTING)
    found = together.metrics["baselines"]
    others = [name for name in FITTING if name != "discriminant"]
    assert list(found) == [label_of(name) for name in others]
    for name in others:
        recipe = small_published(changed(tiny_recipe(tmp_path), run=name, beside=()), name)
        alone = run_experiment(Job(recipe), Console(quiet=True))
        measures = found[label_of(name)]
        assert {m: measures[m] for m in MEASURES} == {m: alone.metrics[m] for m in MEASURES}
        if name != "eszsl":
            assert measures["calibrated"] == alone.metrics["calibrated"]
        assert measures["choices"] == alone.metrics.get("choices")
        folder = together.directory / "beside" / name
        files = {"validation.json", "model.json", "model.safetensors", "history.json"}
        for file in files:
            ours, theirs = (folder / file).read_bytes(), (alone.directory / file).read_bytes()
            assert ours == theirs, (name, file)
    chosen = {p.parent.name for p in together.directory.glob("beside/*/choice.json")}
    assert chosen == {name for name in others if issubclass(find_method(name).model, Choosing)}


def test_method_that_does_not_fit_the_data_is_refused_before_anything_is_trained(
    tmp_path: Path,
) -> None:
    for settings in ({"beside": ("clip-prompts",)}, {"model": "clip-prompts"}):
        with pytest.raises(InputError, match="semantics of 5, expected those of one image-text"):
            run(tmp_path, **settings)
    assert not (tmp_path / "out" / "TINY").exists()


@pytest.mark.parametrize("names", [("gsmflow",), ("gsmflow", "eszsl"), ()])
def test_method_itself_is_left_out(tmp_path: Path, names: tuple[str, ...]) -> None:
    result = run(tmp_path, calibrate=False, beside=names)
    others = [name for name in names if name != "gsmflow"]
    assert list(result.metrics["baselines"]) == [label_of(name) for name in others]
    folder = result.directory / "beside"
    assert [p.name for p in folder.iterdir()] == others if others else not folder.exists()


def test_methods_beside_do_not_change_the_figures_of_the_model(tmp_path: Path) -> None:
    with_them = run(tmp_path, run="with", beside=("eszsl", "cada-vae")).metrics
    without = run(tmp_path, run="without", beside=()).metrics
    assert without["baselines"] == {}
    names = (*MEASURES, "calibrated", "validation")
    assert {n: with_them[n] for n in names} == {n: without[n] for n in names}


def test_method_beside_has_its_published_settings_on_the_same_data(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(beside, "published_recipe", published_recipe)
    recipe = make_recipe(
        dataset="FLO", features="densenet169", gate="boundary", seed=3, epochs=2, curve_every=1
    )
    recipe = recipe.replace(calibrate=False, compile="on", classifier_lr=0.5)
    for name in METHODS:
        recipe_beside = beside_recipe(recipe, name)
        plain = published_recipe(make_recipe(dataset="FLO", features="densenet169"), name)
        assert recipe_beside == plain.replace(seed=3, calibrate=False, beside=())


def test_run_resumes_to_the_same_numbers_from_any_stage_of_a_method_beside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    methods = ("cada-vae", "gaussian-prototypes")
    whole = run(tmp_path, run="whole", beside=methods)
    stages = (
        (validation, "choose"),
        (validation, "validate"),
        (beside, "fit_final"),
        (beside, "classify"),
    )
    for module, stage in stages:
        for stop_at in methods:
            real = getattr(module, stage)

            def fail(
                setup: Any, *rest: Any, stop_at: str = stop_at, real: Any = real, **kw: Any
            ) -> Any:
                if setup.directory.name == stop_at:
                    raise RuntimeError("a stand-in for a crash")
                return real(setup, *rest, **kw)

            with monkeypatch.context() as patch:
                patch.setattr(module, stage, fail)
                resume = (tmp_path / "out" / "TINY" / "broken").exists()
                with pytest.raises(RuntimeError):
                    run(tmp_path, run="broken", beside=methods, resume=resume)
    resumed = run(tmp_path, run="broken", beside=methods, resume=True)
    assert resumed.metrics == whole.metrics
    for file in whole.directory.rglob("*.json"):
        if file.name not in ("environment.json", "recipe.json"):
            other = resumed.directory / file.relative_to(whole.directory)
            assert json.loads(other.read_text()) == json.loads(file.read_text())
