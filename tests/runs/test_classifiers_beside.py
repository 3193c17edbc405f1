"""Other classifiers on a run's model have the figures of runs that have them alone."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from gsmflow.recipes.flags import with_choices
from gsmflow.recipes.recipe import Recipe
from gsmflow.reports.page_data import PAGE_DATA_FILE, PageData, read_page_data
from gsmflow.reports.results import collect_runs
from gsmflow.runs import classifiers_beside, stages
from gsmflow.runs.experiment import run_experiment
from gsmflow.runs.grid import DataChoice, MethodChoice, make_cells, open_data
from gsmflow.runs.job import Job, RunResult
from gsmflow.runs.sections import REPORTS
from gsmflow.runs.seeds import run_seeds
from tests.builders import tiny_recipe

pytestmark = pytest.mark.usefixtures("quick_pictures")

QUIET = Console(quiet=True)
ALL = ("softmax", "prototypes", "bayes")


def metrics_of(recipe: Recipe) -> dict[str, Any]:
    return run_experiment(Job(recipe), QUIET).metrics


def kept_of(recipe: Recipe) -> tuple[dict[str, Any], PageData]:
    """The metrics of a run, and what it kept of its test split."""
    result = run_experiment(Job(recipe), QUIET)
    file = result.directory / PAGE_DATA_FILE
    return result.metrics, read_page_data(file, len(result.problem.classes))


def measures_in(metrics: dict[str, Any]) -> dict[str, Any]:
    return {name: metrics[name] for name in ("T1", "U", "S", "H", "AUSUC", "calibrated")}


@pytest.mark.parametrize(
    ("model", "others"),
    [
        ("gsmflow", ("prototypes", "bayes")),
        ("cvae", ("prototypes",)),  # synthesizes seen classes too
        ("tf-vaegan", ("prototypes",)),  # encodes the classifiers' rows
    ],
)
def test_each_classifier_has_the_figures_of_a_run_with_it_alone(
    tmp_path: Path, model: str, others: tuple[str, ...]
) -> None:
    plain = tiny_recipe(tmp_path, model=model, beside=())
    together, kept = kept_of(plain.replace(classifiers_beside=("softmax", *others)))
    assert list(together["classifiers_beside"]) == list(kept.right_beside) == list(others)
    for name in others:
        alone, kept_alone = kept_of(with_choices(plain, name, None))
        assert measures_in(together["classifiers_beside"][name]) == measures_in(alone)
        assert kept_alone.right is not None
        for kind, flags in vars(kept_alone.right).items():
            np.testing.assert_array_equal(getattr(kept.right_beside[name], kind), flags)
    assert measures_in(together) == measures_in(metrics_of(plain))


def test_without_calibration_each_has_figures_but_no_gamma(tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path, classifiers_beside=("bayes",), beside=(), calibrate=False)
    assert metrics_of(recipe)["classifiers_beside"]["bayes"]["calibrated"] is None


def test_run_that_fails_behind_the_validation_resumes_to_the_same_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings: dict[str, Any] = {"classifiers_beside": ("prototypes",), "beside": ()}
    whole = metrics_of(tiny_recipe(tmp_path, run="whole", **settings))
    with monkeypatch.context() as patched:
        patched.setattr(classifiers_beside, "evaluate", _fail_on_test(classifiers_beside.evaluate))
        with pytest.raises(RuntimeError, match="interrupted"):
            metrics_of(tiny_recipe(tmp_path, run="cut", **settings))
    monkeypatch.setattr(stages, "train_module", _not_again)
    again = metrics_of(tiny_recipe(tmp_path, run="cut", resume=True, **settings))
    assert again["classifiers_beside"] == whole["classifiers_beside"]


def _fail_on_test(evaluate: Any) -> Any:
    def failing(scorer: Any, problem: Any, held_out: Any) -> Any:
        if problem.split == "test":
            raise RuntimeError("interrupted")
        return evaluate(scorer, problem, held_out)

    return failing


def _not_again(*arguments: Any, **keywords: Any) -> None:
    raise AssertionError("trained again")


def test_seeds_and_results_have_each_classifier_as_a_method(tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path, run="both", classifiers_beside=ALL, beside=(), seeds=2)
    of_seeds: list[RunResult] = []
    summary = run_seeds(Job(recipe), QUIET, on_result=of_seeds.append)
    for name in ("prototypes", "bayes"):
        values = [result.metrics["classifiers_beside"][name]["H"] for result in of_seeds]
        assert summary["classifiers_beside"][name]["H"]["values"] == values
    rows = collect_runs(tmp_path / "out", REPORTS).rows
    expected = ["GSMFlow", "GSMFlow, prototypes", "GSMFlow, bayes"]
    assert [(row.method, row.seeds) for row in rows] == [(name, 2) for name in expected]


def test_cell_of_a_grid_is_the_same_with_other_classifiers(tmp_path: Path) -> None:
    data = tiny_recipe(tmp_path).data / "TINY"
    method, common = MethodChoice("cvae"), ["--device", "cpu"]
    opened = open_data(DataChoice(data), method, common, "benchmark")

    def folder(*flags: str) -> Path:
        words = [*common, *flags]
        (cell,) = make_cells([method], [opened], (0,), "short", words, tmp_path, "benchmark")
        return cell.folder

    assert folder("--classifiers-beside", "prototypes") == folder()
    assert folder("--classifier", "prototypes") != folder()
