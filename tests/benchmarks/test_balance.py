"""The benchmark of the choice of gamma, on runs of small data."""

from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks import balance
from gsmflow.core.errors import InputError
from gsmflow.runs.experiment import run_experiment
from gsmflow.runs.job import Job, RunResult
from tests.builders import always_calibrated, tiny_recipe

QUIET = Console(quiet=True)


@pytest.mark.usefixtures("quick_pictures")
def test_figures_are_those_of_the_runs(tmp_path: Path) -> None:
    results: dict[str, RunResult] = {}
    for name in ("ale", "gfzsl"):
        with always_calibrated():
            recipe = tiny_recipe(tmp_path, run=name, model=name, beside=())
            results[name] = run_experiment(Job(recipe), QUIET)
    plain = tiny_recipe(tmp_path, run="plain", model="ale", balance="none", beside=())
    results["plain"] = run_experiment(Job(plain), QUIET)
    for result in results.values():
        (figures,) = balance.read_runs([result.directory])
        metrics = result.metrics
        assert (figures.plain, figures.chosen) == (metrics["H"], metrics["calibrated"]["H"])
        assert figures.calibrated == (metrics["calibrated"]["gamma"] != 0)
        assert figures.best >= max(figures.plain, figures.chosen, figures.one_draw) - 1e-9
        if figures.calibrated:  # on one draw, the best gamma was chosen
            assert figures.one_draw == pytest.approx(figures.chosen)
        else:
            assert figures.chosen == figures.plain
    printed = StringIO()
    options = balance.Options((tmp_path / "out",))
    balance.main(options, Console(file=printed, width=120))
    (row,) = [line for line in printed.getvalue().splitlines() if "ALE" in line]
    cells = [cell.strip() for cell in row.strip("│ ").split("│")]
    assert cells[:3] == ["ALE", "2", "1"]
    ale = [results[name].metrics["H"] for name in ("ale", "plain")]
    assert cells[3] == f"{100 * sum(ale) / 2:.1f}"


def test_folders_without_runs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"found no page_data\.safetensors, expected finished"):
        list(balance.read_runs([tmp_path]))
