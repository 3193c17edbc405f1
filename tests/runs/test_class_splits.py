"""Runs on several random class splits: single runs, their summary, joining, and resuming."""

import csv
import json
from collections.abc import Mapping
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from scipy import stats

import gsmflow
from gsmflow.cli.main import main
from gsmflow.cli.results import ResultsOptions, run_results
from gsmflow.core.errors import InputError
from gsmflow.data.checks import check_dataset
from gsmflow.data.class_splits import draw_class_split
from gsmflow.recipes.recipe import Recipe
from gsmflow.runs import class_splits as module
from gsmflow.runs import seeds
from gsmflow.runs.class_splits import run_splits
from gsmflow.runs.directory import computed_fields
from gsmflow.runs.experiment import run_experiment
from gsmflow.runs.job import Job
from gsmflow.runs.script import Script, ignore_result, run_job
from gsmflow.runs.variants import run_variants
from tests.builders import make_dataset, tiny_recipe

pytestmark = pytest.mark.usefixtures("quick_pictures")

QUIET = Console(quiet=True)
KEYS = ("T1", "U", "S", "H", "AUSUC")


def recipe_for(folder: Path, **changes: Any) -> Recipe:
    """A closed form, which is quick."""
    return tiny_recipe(folder, **{"model": "eszsl", "beside": (), "class_splits": 3, **changes})


def stored(file: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(file.read_text())
    return content


@pytest.fixture
def run(tmp_path: Path) -> Path:
    run_splits(Job(recipe_for(tmp_path, run="all")), QUIET)
    return tmp_path / "out" / "TINY" / "all"


def test_summary_is_over_runs_of_single_splits(run: Path, tmp_path: Path) -> None:
    summary = stored(run / "metrics.json")
    assert (summary["class_splits"], summary["seeds"]) == ([0, 1, 2], [0])
    values: dict[str, list[float]] = {key: [] for key in KEYS}
    for split in range(3):
        recipe = recipe_for(tmp_path, run=f"alone{split}", class_splits=0, class_split=split)
        alone = run_experiment(Job(recipe), QUIET).metrics
        assert stored(run / f"split{split}" / "seed0" / "metrics.json") == alone
        for key in KEYS:
            values[key].append(alone[key])
    for key in KEYS:
        found = summary[key]
        assert found["values"] == values[key]
        assert found["mean"] == pytest.approx(np.mean(values[key]))
        assert found["std"] == pytest.approx(np.std(values[key], ddof=1))
        low, high = stats.t.interval(
            0.95, 2, loc=np.mean(values[key]), scale=stats.sem(values[key])
        )
        assert found["interval"] == pytest.approx([low, high])


def test_run_records_its_split(run: Path) -> None:
    folder = run / "split2" / "seed0"
    metrics, recipe = stored(folder / "metrics.json"), stored(folder / "recipe.json")
    drawn = draw_class_split(check_dataset(make_dataset()), 2)
    names = [drawn.class_names[c] for c in drawn.unseen_classes]
    assert metrics["class_split"]["seed"] == recipe["class_split"] == 2
    assert metrics["class_split"]["unseen"] == recipe["unseen_names"] == names
    assert len(metrics["class_split"]["validation"]) == 2
    assert len(metrics["class_split"]["seen"]) == 7
    assert "3 of 10 classes unseen: the backbone may have been trained on" in metrics["protocol"]
    loaded = gsmflow.load(run, class_split=2, device="cpu")
    assert sorted(loaded.unseen_classes_) == sorted(names)
    assert loaded.trained.directory == folder
    assert gsmflow.load(run / "split2", device="cpu").trained.directory == folder
    with pytest.raises(InputError, match=r"^class_split: found 3, expected one of 0 to 2"):
        gsmflow.load(run, class_split=3)
    with pytest.raises(InputError, match=r"^class_split: found 1, expected none"):
        gsmflow.load(run.parent / "own", class_split=1)


@pytest.fixture(autouse=True)
def own(tmp_path: Path) -> None:
    """A run on the dataset's own split."""
    run_experiment(Job(recipe_for(tmp_path, run="own", class_splits=0)), QUIET)


def test_predict_and_report_work_on_a_run(run: Path, tmp_path: Path) -> None:
    folder = run / "split1" / "seed0"
    np.save(tmp_path / "rows.npy", make_dataset().features[:7])
    into = tmp_path / "answers.csv"
    main(["predict", str(folder), str(tmp_path / "rows.npy"), "--into", str(into)])
    assert len(into.read_text().splitlines()) == 8
    for directory in (folder, run):
        main(["report", str(directory)])
        assert (directory / "report.html").is_file()
    text = (run / "report.html").read_text()
    assert "3 random class splits" in text
    assert "class split 1, seed 0" in text


def test_finished_splits_are_not_run_again(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = stored(run / "metrics.json")
    (run / "metrics.json").unlink()
    (run / "split1" / "metrics.json").unlink()
    begun: list[int | None] = []
    once = module.run_seeds

    def watched(job: Job, *arguments: Any, **more: Any) -> Any:
        begun.append(job.recipe.class_split)
        return once(job, *arguments, **more)

    monkeypatch.setattr(module, "run_seeds", watched)
    recipe = recipe_for(tmp_path, run="all", resume=True)
    assert run_splits(Job(recipe), QUIET) == whole
    assert begun == [1]
    with pytest.raises(InputError, match="'split_unseen': found None, expected 4"):
        run_splits(Job(replace(recipe, split_unseen=4)), QUIET)


def test_splits_at_the_same_time_are_those_one_after_the_other(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The runs of all splits are handed over at once; `test_parallel` runs them in processes."""
    handed: list[int] = []

    def one_by_one(jobs: Mapping[Path, Job], recipe: Recipe, folder: Path, *more: Any) -> None:
        left = {path: job for path, job in jobs.items() if not (path / "metrics.json").exists()}
        handed.append(len(left))
        for path, job in left.items():
            run_experiment(job, QUIET, directory=path)

    monkeypatch.setattr(seeds, "run_in_parallel", one_by_one)
    run_splits(Job(recipe_for(tmp_path, run="together", workers=2)), QUIET)
    assert handed == [3, 0, 0, 0]
    assert stored(run.parent / "together" / "metrics.json") == stored(run / "metrics.json")


def test_several_seeds_are_averaged_before_the_spread_over_splits(tmp_path: Path) -> None:
    few = {"model": "ale", "epochs": 1, "calibrate": False, "class_splits": 2, "seeds": 2}
    recipe = recipe_for(tmp_path, run="both", **few)
    summary = run_splits(Job(recipe), QUIET)
    folder = tmp_path / "out" / "TINY" / "both"
    means = [
        np.mean([stored(folder / f"split{k}/seed{s}/metrics.json")["H"] for s in (0, 1)])
        for k in (0, 1)
    ]
    assert summary["H"]["values"] == pytest.approx(means)
    assert summary["H"]["std"] == pytest.approx(np.std(means, ddof=1))
    assert summary["seeds"] == [0, 1]


def rows_of(folder: Path, **options: Any) -> list[dict[str, str]]:
    """Rows of runs in the CSV file of ``results``, and what it prints, as the last one."""
    console = Console(record=True, width=200, file=StringIO())
    into = folder / "tables"
    run_results(
        ResultsOptions(folder=folder / "out", into=into, published=False, **options), console
    )
    with (into / "TINY.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["kind"] == "run"]
    return [*rows, {"printed": console.export_text()}]


def test_results_join_splits_over_folders(run: Path, tmp_path: Path) -> None:
    whole = stored(run / "metrics.json")
    # The runs of the splits lie in folders of their own, as several machines leave them.
    for split in range(3):
        (run / f"split{split}" / "seed0").rename(tmp_path / "out" / "TINY" / f"machine{split}")
        for file in (run / f"split{split}").iterdir():
            file.unlink()
        (run / f"split{split}").rmdir()
    (run / "metrics.json").unlink()
    other = recipe_for(tmp_path, run="other", class_splits=0, class_split=3, split_unseen=4)
    run_experiment(Job(other), QUIET)
    apart = rows_of(tmp_path)[:-1]
    assert sorted(row["splits"] for row in apart) == ["", "0", "1", "2", "3"]
    *joined, printed = rows_of(tmp_path, over="class-split")
    assert sorted(row["splits"] for row in joined) == ["", "0 1 2", "3"]
    (row,) = (row for row in joined if row["splits"] == "0 1 2")
    for key in KEYS:
        numbers = [whole[key]["mean"], whole[key]["std"], *whole[key]["interval"]]
        found = [float(row[f"{key}{end}"]) for end in ("", "_std", "_low", "_high")]
        assert found == pytest.approx([100 * number for number in numbers], abs=0.006)
    assert "machine0 and 2 more (3 class splits)" in printed["printed"]
    assert "95% (Student's t)" in printed["printed"]


def test_run_of_all_splits_is_a_row_with_its_interval(run: Path, tmp_path: Path) -> None:
    whole = stored(run / "metrics.json")
    rows = rows_of(tmp_path)[:-1]
    assert [row["splits"] for row in rows] == ["0 1 2", ""]
    assert float(rows[0]["H_low"]) == pytest.approx(100 * whole["H"]["interval"][0], abs=0.006)
    # Joined, its single splits give the same row.
    joined = rows_of(tmp_path, over="class-split")[:-1]
    (again,) = (row for row in joined if row["splits"])
    names = [f"{key}{end}" for key in KEYS for end in ("", "_std", "_low", "_high")]
    assert [again[name] for name in names] == [rows[0][name] for name in names]


def test_repeated_split_is_left_out_with_a_warning(run: Path, tmp_path: Path) -> None:
    again = recipe_for(tmp_path, run="again", class_splits=0, class_split=1)
    run_experiment(Job(again), QUIET)
    *joined, printed = rows_of(tmp_path, over="class-split")
    assert sorted(row["splits"] for row in joined) == ["", "0 1 2"]
    text = " ".join(printed["printed"].split())
    assert "found the class split and the seed of" in text
    assert "; left out" in text


def test_split_of_other_classes_is_refused(run: Path, tmp_path: Path) -> None:
    recipe = recipe_for(tmp_path, run="x", class_splits=0, class_split=1, unseen_names=("class_0",))
    with pytest.raises(InputError, match="--class-split: found that 'class_"):
        run_experiment(Job(recipe), QUIET)


def test_recipe_without_random_splits_has_the_digest_of_earlier_ones(tmp_path: Path) -> None:
    computed = computed_fields(recipe_for(tmp_path, class_splits=0))
    assert not [name for name in computed if "split" in name or name == "unseen_names"]
    assert computed_fields(recipe_for(tmp_path, class_splits=0, class_split=0))["class_split"] == 0


def test_several_splits_of_a_verb_with_one_are_refused(tmp_path: Path) -> None:
    recipe = recipe_for(tmp_path)
    script = Script({"": recipe}, None, ignore_result, None, "", Path("train.py"))
    with pytest.raises(InputError, match="--class-splits: found 3 with ablate or sweep"):
        run_variants(script, recipe, {"full": recipe}, tmp_path / "x", QUIET)


def test_splits_are_run_by_scripts_and_verbs(tmp_path: Path) -> None:
    run_job(Job(recipe_for(tmp_path, class_splits=2, class_split=4)), ignore_result, QUIET)
    (folder,) = (tmp_path / "out" / "TINY").glob("*-splits4-5-seed0")
    assert stored(folder / "metrics.json")["class_splits"] == [4, 5]
