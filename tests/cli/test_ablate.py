"""Ablations: every variant is the recipe with its flag, and nothing is run twice."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from rich.console import Console

from gsmflow.cli.ablate import AblateOptions, run_ablation
from gsmflow.cli.main import main
from gsmflow.core.errors import InputError
from gsmflow.methods.registry import find_method
from gsmflow.runs.experiment import run_experiment
from gsmflow.runs.job import Job
from tests.builders import CADA_SMALL, tiny_recipe

pytestmark = pytest.mark.usefixtures("quick_pictures")

ROOT = Path(__file__).resolve().parents[2]
FLAGS = {
    "full": {},
    "condition-first": {"condition_blocks": "first"},
    "no-perturbation": {"perturbation": False},
    "no-positioning": {"relative_positioning": False},
    "no-prototypes": {"prototype_weight": 0.0},
}


def ablate(
    tmp_path: Path, *flags: str, settings: Mapping[str, Any] = MappingProxyType({})
) -> dict[str, Any]:
    tiny_recipe(tmp_path)  # writes the data
    script = tmp_path / "train_tiny.py"
    script.write_text(
        f"import sys\nsys.path.insert(0, {str(ROOT)!r})\nfrom util import run\n"
        "from tests.builders import small_recipe\n"
        f"run({{'res101': small_recipe(dataset='TINY', **{dict(settings)!r})}})\n"
    )
    paths = ["--data", str(tmp_path / "data"), "--out", str(tmp_path / "out")]
    options = AblateOptions(script=script)
    run_ablation(options, Console(quiet=True), [*paths, "--no-calibrate", *flags])
    (file,) = tmp_path.glob("out/TINY/*/ablation.json")
    ablation: dict[str, Any] = json.loads(file.read_text())
    return ablation


def test_every_variant_is_the_recipe_with_its_flag(tmp_path: Path) -> None:
    assert ["full", *find_method("gsmflow").variants] == list(FLAGS)
    ablation = ablate(tmp_path, "--seeds", "2")
    assert ablation["seeds"] == [0, 1]
    assert list(ablation["variants"]) == list(FLAGS)
    for name, changes in FLAGS.items():
        variant = ablation["variants"][name]
        settings = {"run": name, "seed": 1, "calibrate": False, "beside": (), **changes}
        alone = run_experiment(Job(tiny_recipe(tmp_path, **settings)), Console(quiet=True)).metrics
        assert variant["calibrated"] is None
        for measure in ("T1", "U", "S", "H", "AUSUC"):
            assert variant[measure]["values"][1] == alone[measure], (name, measure)


def test_second_call_reuses_finished_runs(tmp_path: Path) -> None:
    first = ablate(tmp_path)
    runs = {file: file.stat().st_mtime_ns for file in tmp_path.glob("out/TINY/*/*/seed0/*.json")}
    assert len(runs) >= 5
    assert ablate(tmp_path) == first
    assert runs == {f: f.stat().st_mtime_ns for f in tmp_path.glob("out/TINY/*/*/seed0/*.json")}


def test_variant_equal_to_the_recipe_is_left_out(tmp_path: Path) -> None:
    ablation = ablate(tmp_path, "--no-perturbation", "--prototype-weight", "0")
    assert list(ablation["variants"]) == ["full", "condition-first", "no-positioning"]


@pytest.mark.parametrize(
    ("words", "expected"), [(["none.py"], "none.py"), (["train_FLO.py", "--seeds", "0"], "--seeds")]
)
def test_bad_input_ends_with_code_2(
    words: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words[0] = str(ROOT / words[0])
    with pytest.raises(SystemExit) as ended:
        main(["ablate", *words])
    assert ended.value.code == 2
    err = capsys.readouterr().err
    assert expected in err
    assert "Traceback" not in err


def test_cada_vae_has_its_ablations(tmp_path: Path) -> None:
    settings = {**CADA_SMALL, "epochs": 2, "classifier_epochs": 1}
    ablation = ablate(tmp_path, settings=settings)
    assert ablation["model"] == "CADA-VAE"
    assert list(ablation["variants"]) == ["full", "ca-vae", "da-vae", "as-published"]
    changes = {"beside": (), "calibrate": False, "gamma": 0.0}
    alone = run_experiment(Job(tiny_recipe(tmp_path, **settings, **changes)), Console(quiet=True))
    assert ablation["variants"]["da-vae"]["H"]["values"] == [alone.metrics["H"]]


def test_method_without_ablations_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--model: found eszsl, which has no ablations"):
        ablate(tmp_path, "--model", "eszsl")
    assert not (tmp_path / "out").exists()
