"""The command ``sample``: the archive has what the loaded run samples, class by class."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from rich.console import Console

import gsmflow
from gsmflow.cli.main import main
from gsmflow.core.rng import make_generator
from gsmflow.learning.sampling import Sampler
from gsmflow.runs.experiment import run_experiment
from gsmflow.runs.job import Job
from tests.builders import make_dataset, tiny_recipe

DATASET = make_dataset()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


def trained(folder: Path, model: str) -> Path:
    """The directory of a run, which is made once."""
    directory = folder / "out" / "TINY" / model
    if not directory.exists():
        recipe = tiny_recipe(folder, run=model, model=model, beside=(), calibrate=False)
        run_experiment(Job(recipe), Console(quiet=True))
    return directory


@pytest.fixture
def run(folder: Path, quick_pictures: None) -> Path:
    return trained(folder, "gsmflow")


def sample(*words: object) -> None:
    main(["sample", *map(str, words), "--device", "cpu"])


def read(path: Path) -> dict[str, NDArray[Any]]:
    with np.load(path) as archive:
        return dict(archive)


def test_unseen_classes_are_sampled_as_the_model_does(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "new" / "features.npz"
    sample(run, "-n", 4, "-o", file, "--seed", 2)
    assert capsys.readouterr().out == f"12 rows of 3 classes: {file}\n"
    archive = read(file)
    assert tuple(archive["class_names"]) == DATASET.class_names
    assert archive["labels"].tolist() == [7] * 4 + [8] * 4 + [9] * 4
    assert archive["features"].dtype == np.float32
    kept = gsmflow.load(run, device="cpu").trained.kept
    assert isinstance(kept.model, Sampler)
    for number in (7, 8, 9):
        draw = kept.model.sampler(torch.tensor([number]))
        generator = make_generator(torch.device("cpu"), 2, "sample", DATASET.class_names[number])
        scaled = draw(torch.zeros(4, dtype=torch.long), generator).detach().numpy()
        found = archive["features"][archive["labels"] == number]
        np.testing.assert_allclose(found, kept.scaling.inverse(scaled), atol=1e-6)


def test_samples_depend_on_class_and_seed_alone(run: Path, tmp_path: Path) -> None:
    files = [tmp_path / f"{name}.npz" for name in ("both", "again", "one", "other")]
    classes = ("--classes", "class_8", "class_1", "class_8")
    sample(run, "--out", files[0], *classes, "--count", 3)
    sample(run, "--out", files[1], *classes, "--count", 3)
    sample(run, "--out", files[2], "--classes", "class_8", "-n", 3)
    sample(run, "--out", files[3], "--classes", "class_8", "-n", 3, "--seed", 1)
    assert files[0].read_bytes() == files[1].read_bytes()
    both, one, other = (read(files[i]) for i in (0, 2, 3))
    assert both["labels"].tolist() == [1, 1, 1, 8, 8, 8]
    np.testing.assert_array_equal(both["features"][3:], one["features"])
    assert not np.array_equal(one["features"], other["features"])
    loaded = gsmflow.load(run, device="cpu").sample("class_8", 3, seed=0)
    np.testing.assert_array_equal(one["features"], loaded)


def test_default_is_300_rows_of_each_class(run: Path, tmp_path: Path) -> None:
    sample(run, "-o", tmp_path / "features.npz")
    assert read(tmp_path / "features.npz")["features"].shape == (900, 6)


def test_mistakes_end_with_one_sentence_and_no_file(
    run: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "features.npz"
    (tmp_path / "folder.npz").mkdir()
    capsys.readouterr()
    for words, expected in (
        ((run, "-o", file, "--classes", "clas_8"), "--classes: found clas_8, expected one of the"),
        ((run, "-o", file, "-n", 0), "--count: found 0, expected"),
        ((run, "-o", file, "--seed", -1), "--seed: found -1, expected"),
        ((run, "-o", tmp_path / "features.csv"), "--out: found"),
        ((run, "-o", tmp_path / "folder.npz"), "--out: found"),
        ((tmp_path, "-o", file), f"{tmp_path / 'metrics.json'}: no such file"),
        ((trained(folder, "eszsl"), "-o", file), f"{folder / 'out' / 'TINY' / 'eszsl'}: found"),
    ):
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            sample(*words)
        printed = capsys.readouterr()
        assert ended.value.code == 2
        assert printed.err.startswith(f"error: {expected}")
        assert printed.err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["folder.npz"]
