"""Sweeps: every point is the recipe with its values, nothing is run twice, and bad input."""

import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from gsmflow.cli.sweep import SweepOptions, run_sweep
from gsmflow.core.errors import InputError
from gsmflow.core.tables import MeanStd
from gsmflow.reports.figures import sweep_figure
from gsmflow.reports.tables import sweep_grid
from gsmflow.runs.experiment import run_experiment
from gsmflow.runs.job import Job
from tests.builders import CADA_SMALL, tiny_recipe

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = {**CADA_SMALL, "epochs": 2, "classifier_epochs": 1}


def sweep(
    tmp_path: Path, *over: tuple[str, ...], flags: tuple[str, ...] = ("--no-calibrate",)
) -> dict[str, Any]:
    tiny_recipe(tmp_path)  # writes the data
    script = tmp_path / "train_tiny.py"
    script.write_text(
        f"import sys\nsys.path.insert(0, {str(ROOT)!r})\nfrom util import run\n"
        "from tests.builders import small_recipe\n"
        f"run({{'res101': small_recipe(dataset='TINY', beside=(), **{SETTINGS!r})}})\n"
    )
    paths = ["--data", str(tmp_path / "data"), "--out", str(tmp_path / "out")]
    options = SweepOptions(script=script, over=over)
    run_sweep(options, Console(quiet=True), [*paths, *flags])
    (file,) = tmp_path.glob("out/TINY/*/sweep.json")
    assert (file.parent / "sweep.png").read_bytes()
    record: dict[str, Any] = json.loads(file.read_text())
    return record


@pytest.mark.usefixtures("quick_pictures")
def test_every_point_is_the_recipe_with_its_values(tmp_path: Path) -> None:
    over = (("latent_dim", "2", "4"), ("dynamic-latents", "true", "false"))
    record = sweep(tmp_path, *over)
    assert record["over"] == {"latent_dim": ["2", "4"], "dynamic_latents": ["true", "false"]}
    assert len(record["points"]) == 4
    for point in record["points"]:
        assert point["validation"] is None
    last = record["points"][-1]
    assert last["values"] == {"latent_dim": "4", "dynamic_latents": "false"}
    changes = {**SETTINGS, "latent_dim": 4, "calibrate": False, "beside": ()}
    alone = run_experiment(Job(tiny_recipe(tmp_path, **changes)), Console(quiet=True)).metrics
    for name in ("T1", "U", "S", "H", "AUSUC"):
        assert last[name]["values"] == [alone[name]]
    runs = {f: f.stat().st_mtime_ns for f in tmp_path.glob("out/TINY/sweep*/*/seed0/*.json")}
    assert len(runs) >= 4
    assert sweep(tmp_path, *over) == record
    assert runs == {f: f.stat().st_mtime_ns for f in runs}


@pytest.mark.usefixtures("quick_pictures")
def test_gate_is_swept_over_by_name(tmp_path: Path) -> None:
    flags = ("--no-calibrate", "--gate", "boundary", "--gate-epochs", "1")
    record = sweep(tmp_path, ("gate", "boundary"), flags=flags)
    assert [point["values"] for point in record["points"]] == [{"gate": "boundary"}]


def test_method_is_swept_over_by_name(tmp_path: Path) -> None:
    record = sweep(tmp_path, ("model", "eszsl", "discriminant"))
    assert record["model"] == "several methods"
    assert len({point["T1"]["mean"] for point in record["points"]}) == 2


def test_h_on_the_validation_classes_is_recorded(tmp_path: Path) -> None:
    record = sweep(tmp_path, ("latent_dim", "4"), flags=("--seeds", "2"))
    (point,) = record["points"]
    files = tmp_path.glob("out/TINY/*/latent_dim=4/seed*/validation.json")
    ends = [json.loads(file.read_text())["curve"][-1]["H"] for file in files]
    assert len(ends) == 2
    assert point["validation"]["H"] == pytest.approx(sum(ends) / 2)


@pytest.mark.parametrize(
    ("over", "message"),
    [
        ((), "--over: found nothing"),
        ((("latentdim", "3"),), "--over: found 'latentdim', expected a field"),
        ((("seed", "3"),), "--over: found 'seed'"),
        ((("beta",),), "--over: found beta without a value"),
        ((("latent_dim", "2"), ("latent-dim", "4")), "--over: found twice"),
        ((("dynamic_latents", "yes"),), "--over dynamic_latents: found 'yes', expected true or"),
        ((("latent_dim", "0"),), "--latent-dim: found 0"),
        ((("pi", "0.1"),), "--over: found 'pi', expected a field"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(
    tmp_path: Path, over: tuple[tuple[str, ...], ...], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        sweep(tmp_path, *over)
    assert not (tmp_path / "out").exists()


def made_up(over: dict[str, list[str]]) -> dict[str, Any]:
    def several(mean: float) -> dict[str, Any]:
        return {"mean": mean, "std": 0.02, "values": []}

    names = list(over)
    points = [
        {
            "values": dict(zip(names, values, strict=True)),
            **{n: several(0.1 * i + 0.05 * j) for j, n in enumerate(("T1", "U", "S", "H"))},
            "AUSUC": several(0.3),
            "calibrated": {n: several(0.4) for n in ("U", "S", "H")},
            "validation": {"H": 0.25, "H_calibrated": 0.5},
        }
        for i, values in enumerate(
            [(a, b) for a in over[names[0]] for b in over[names[1]]]
            if len(names) > 1
            else [(a,) for a in over[names[0]]]
        )
    ]
    head = {"dataset": "CUB", "features": "f", "semantics": "att", "model": "CADA-VAE"}
    return {**head, "seeds": [0, 1, 2], "protocol": "last epoch", "over": over, "points": points}


@pytest.mark.parametrize(
    "over",
    [{"latent_dim": ["16", "64", "256"]}, {"semantics": ["att", "sent"], "beta": ["0", "1"]}],
)
def test_table_and_the_picture_show_every_point(tmp_path: Path, over: dict[str, list[str]]) -> None:
    record = made_up(over)
    grid = sweep_grid(record)
    (rows,) = grid.sections
    assert [list(row[: len(over)]) for row in rows] == [
        list(point["values"].values()) for point in record["points"]
    ]
    columns = dict(zip(grid.columns, zip(*rows, strict=True), strict=True))
    assert list(columns)[: len(over)] == list(over)
    assert columns["val. H"] == (MeanStd(25.0),) * len(rows)
    assert columns["H"] == tuple(MeanStd(pytest.approx(10 * i + 15), 2.0) for i in range(len(rows)))
    picture = tmp_path / "sweep.png"
    sweep_figure(picture, record)
    assert picture.read_bytes().startswith(b"\x89PNG")
