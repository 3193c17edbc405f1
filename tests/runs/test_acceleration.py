"""Whole runs with CUDA graphs: on a GPU, and on a CPU with tapes in their place."""

from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from gsmflow.data.checks import check_dataset
from gsmflow.data.dataset import open_held_out
from gsmflow.methods.registry import METHODS, find_method
from gsmflow.recipes.recipe import Recipe
from gsmflow.runs import experiment
from gsmflow.runs.acceleration import compiles, graphs_of
from gsmflow.runs.checkpoint import open_trained
from gsmflow.runs.experiment import run_experiment
from gsmflow.runs.job import Job, RunResult
from tests.builders import fitting_dataset, make_recipe, tiny_recipe, write_gbu
from tests.learning.test_graphs import Watched
from tests.tape import Tape

pytestmark = pytest.mark.usefixtures("quick_pictures")

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
TRAINED = [name for name in METHODS if find_method(name).trains]


def printed_run(recipe: Recipe) -> tuple[RunResult, str]:
    printed = StringIO()
    result = run_experiment(Job(recipe), Console(file=printed, width=200))
    return result, printed.getvalue()


def assert_near(found: Any, expected: Any) -> None:
    """Equal up to rounding, in every figure of a run."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            assert_near(found[key], value)
    elif isinstance(expected, list):
        for one, other in zip(found, expected, strict=True):
            assert_near(one, other)
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, abs=0.05)
    else:
        assert found == expected


@pytest.mark.parametrize(
    ("name", "schedule"),
    [*((name, "published") for name in TRAINED), ("gsmflow", "fast"), ("f-clswgan", "fast")],
)
def test_run_with_recorded_steps_has_the_figures_of_one_without(
    name: str, schedule: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"model": name, "epochs": 6, "fast_epochs": 6, "curve_every": 2, "beside": ()}
    settings |= {"schedule": schedule, "batch_size": 8, "precision": "fp32"}
    expected, _ = printed_run(tiny_recipe(tmp_path, run="eager", **settings))
    graphs = Watched(Tape)
    monkeypatch.setattr(experiment, "graphs_of", lambda *_: graphs)
    found, _ = printed_run(tiny_recipe(tmp_path, run="recorded", **settings))
    assert graphs.reasons == []
    assert graphs.replays > 20
    assert_near(found.metrics, expected.metrics)


@pytest.mark.parametrize(
    ("name", "settings"), [("gaussian-prototypes", {"samples_per_class": 1000}), ("conse", {})]
)
def test_steps_that_a_method_takes_by_itself_are_recorded(
    name: str, settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"model": name, "beside": (), **settings}
    expected, _ = printed_run(tiny_recipe(tmp_path, run="eager", **settings))
    graphs = Watched(Tape)
    monkeypatch.setattr(experiment, "graphs_of", lambda *_: graphs)
    found, _ = printed_run(tiny_recipe(tmp_path, run="recorded", **settings))
    assert graphs.reasons == []
    assert graphs.replays > 100
    assert_near(found.metrics, expected.metrics)


def test_cuda_graphs_without_a_gpu_are_a_warning(tmp_path: Path) -> None:
    settings = {"beside": (), "calibrate": False, "device": "cpu"}
    expected, _ = printed_run(tiny_recipe(tmp_path, run="off", **settings))
    found, text = printed_run(tiny_recipe(tmp_path, run="on", cuda_graphs="on", **settings))
    assert found.metrics == expected.metrics
    assert text.count("warning: --cuda-graphs: found on with device cpu") == 1


def test_reason_is_a_warning_once() -> None:
    printed = StringIO()
    recipe = make_recipe(dataset="TINY", cuda_graphs="on")
    graphs = graphs_of(recipe, CUDA, Console(file=printed, width=200))
    assert graphs is not None
    for reason in ("a driver", "a driver", "a model"):
        graphs.refuse(reason)
    assert printed.getvalue().splitlines() == [
        f"warning: --cuda-graphs: {reason}; these steps are launched kernel by kernel"
        for reason in ("a driver", "a model")
    ]


@pytest.mark.parametrize(
    ("settings", "device", "steps", "expected"),
    [
        ({"compile": "on"}, CPU, 1, True),
        ({"compile": "off", "cuda_graphs": "on"}, CUDA, 10**6, False),
        ({"cuda_graphs": "on"}, CUDA, 10**6, True),
        ({"cuda_graphs": "on"}, CUDA, 100, False),
        ({"cuda_graphs": "on"}, CPU, 10**6, False),
        ({}, CUDA, 10**6, False),
    ],
)
def test_long_trainings_in_graphs_are_compiled(
    settings: dict[str, Any], device: torch.device, steps: int, expected: bool
) -> None:
    assert compiles(make_recipe(dataset="TINY", **settings), device, steps) is expected


@pytest.mark.gpu
@pytest.mark.parametrize("cuda_graphs", ["off", "on"])
@pytest.mark.parametrize("name", METHODS)
def test_every_method_trains_on_the_card_and_predicts_as_on_the_cpu(
    name: str, cuda_graphs: Any, tmp_path: Path
) -> None:
    made = fitting_dataset(name)
    write_gbu(tmp_path / "data" / "TINY", made)
    recipe = tiny_recipe(
        tmp_path, model=name, device="cuda", precision="fp32", cuda_graphs=cuda_graphs, beside=()
    )
    result, text = printed_run(recipe)
    assert "warning: --cuda-graphs" not in text
    assert all(np.isfinite(result.metrics[key]) for key in ("T1", "U", "S", "H"))
    dataset = check_dataset(made)
    features = open_held_out(dataset, "test").unseen.features
    on_cpu, on_card = (
        open_trained(result.directory, device).scorer.gzsl_scores(features)
        for device in (CPU, CUDA)
    )
    np.testing.assert_allclose(on_card, on_cpu, rtol=1e-3, atol=1e-3)


@pytest.mark.gpu
@pytest.mark.parametrize("name", TRAINED)
def test_run_on_the_card_has_the_figures_of_one_without_graphs(name: str, tmp_path: Path) -> None:
    settings = {"model": name, "device": "cuda", "precision": "fp32", "epochs": 6, "beside": ()}
    expected, _ = printed_run(tiny_recipe(tmp_path, run="off", **settings))
    found, _ = printed_run(tiny_recipe(tmp_path, run="on", cuda_graphs="on", **settings))
    assert_near(found.metrics, expected.metrics)


@pytest.mark.gpu
def test_compiled_loss_in_a_graph_has_the_figures_of_one_without(tmp_path: Path) -> None:
    settings = {"device": "cuda", "precision": "fp32", "epochs": 6, "beside": ()}
    expected, _ = printed_run(tiny_recipe(tmp_path, run="off", **settings))
    recipe = tiny_recipe(tmp_path, run="on", cuda_graphs="on", compile="on", **settings)
    found, text = printed_run(recipe)
    assert "warning" not in text
    assert_near(found.metrics, expected.metrics)
