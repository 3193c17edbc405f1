"""Features of new pictures for a run, with a backbone of known features."""

import io
import json
import shutil
from base64 import b64decode
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from gsmflow.cli import extract as command
from gsmflow.cli.extract import ExtractOptions, run_extract
from gsmflow.core.errors import InputError
from gsmflow.data.extract import record
from gsmflow.data.extract.backbones import Backbone, BackboneSpec
from gsmflow.data.extract.new_pictures import RecordedFeatures, open_pictures
from gsmflow.runs.checkpoint import TrainedRun, open_trained
from gsmflow.runs.experiment import run_experiment
from gsmflow.runs.job import Job, RunResult
from tests.builders import make_recipe
from tests.cli.test_predict import answers, page_content, predict
from tests.data.extract.test_store import mean_colour

pytestmark = pytest.mark.usefixtures("quick_pictures", "requested")

CPU = torch.device("cpu")
CLASSES = {
    "dark red": (90, 10, 10),
    "red": (220, 20, 20),
    "dark green": (10, 90, 10),
    "green": (20, 220, 20),
    "dark blue": (10, 10, 90),
    "blue": (20, 20, 220),
}


def backbone() -> Backbone:
    facts = {
        **mean_colour().facts,
        "source": "a test",
        "takes": "mean colour",
        "preprocessing": {},
        "dtype": "float32",
        "device": "cpu",
        "backbone": "mean",
        "random_weights": False,
    }
    return replace(mean_colour(), facts=facts)


@pytest.fixture(scope="module")
def requested() -> Iterator[list[BackboneSpec]]:
    """Replace every backbone by that of known features; the list has the requests."""
    requests: list[BackboneSpec] = []

    def load(spec: BackboneSpec, device: torch.device) -> Backbone:
        requests.append(spec)
        return backbone()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command, "load_backbone", load)
        patch.setattr(record, "load_backbone", load)
        yield requests


def recorded_of(run: TrainedRun) -> RecordedFeatures:
    return RecordedFeatures(run.directory, run.recipe.features, run.feature_dim, run.device)


def draw(file: Path, colour: tuple[int, ...], rng: np.random.Generator) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    shade = rng.integers(-8, 9, 3) + colour
    Image.new("RGB", (4, 4), tuple(int(v) for v in shade)).save(file)
    return file


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory, requested: Any) -> RunResult:
    """A run on a dataset of plain colours that has been deleted since."""
    folder, rng = tmp_path_factory.mktemp("colours"), np.random.default_rng(0)
    lines = []
    for name, colour in CLASSES.items():
        lines.append(f"{name},{','.join(map(str, colour))}")
        for number in range(8):
            draw(folder / "images" / name / f"{number}.png", colour, rng)
    (folder / "colours.csv").write_text("\n".join(lines) + "\n")
    options = ExtractOptions(
        images=folder / "images",
        semantics=folder / "colours.csv",
        out=folder / "data" / "COLOURS",
        backbone="mean",
        device="cpu",
        batch_size=3,
    )
    run_extract(options, Console(quiet=True))
    recipe = make_recipe(
        dataset="COLOURS",
        features="mean",
        model="discriminant",
        data=folder / "data",
        out=folder / "out",
        beside=(),
        device="cpu",
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "gsmflow.reports.figures.save_figure", lambda figure, path, dpi=0: path.write_bytes(b"")
        )
        made = run_experiment(Job(recipe), Console(quiet=True))
    shutil.rmtree(folder / "data")
    shutil.rmtree(folder / "images")
    return made


@pytest.fixture
def new(tmp_path: Path) -> Path:
    """New pictures by class, one of them in subfolders, and two files that are no pictures."""
    rng = np.random.default_rng(1)
    for name, colour in CLASSES.items():
        for number in range(2):
            draw(tmp_path / "new" / name / f"{number}.png", colour, rng)
    draw(tmp_path / "new" / "red" / "deep" / "er" / "ü 🦓.png", CLASSES["red"], rng)
    draw(tmp_path / "new" / "unnamed" / "x.png", CLASSES["blue"], rng)
    (tmp_path / "new" / "red" / "notes.txt").write_text("of Tuesday")
    (tmp_path / "new" / "0.png").write_bytes(b"")
    return tmp_path / "new"


def rows_of(folder: Path) -> dict[str, list[float]]:
    """The features of a folder's pictures, computed with numpy."""
    features = {}
    for file in folder.rglob("*.png"):
        if file.stat().st_size:
            mean = np.asarray(Image.open(file), dtype=np.float64).mean(axis=(0, 1))
            features[str(file.relative_to(folder))] = mean.tolist()
    return features


def test_pictures_get_the_answers_of_their_features(
    result: RunResult, new: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = predict(capsys, result.directory, new, "--top-k", 2)
    assert code == 0, err
    lines = answers(out)
    expected_rows = rows_of(new)
    assert {line["file"] for line in lines} == expected_rows.keys()
    assert len(lines) == 2 * len(expected_rows)
    files = [line["file"] for line in lines if line["rank"] == "1"]
    np.save(tmp_path / "rows.npy", [expected_rows[file] for file in files])
    _, expected, _ = predict(capsys, result.directory, tmp_path / "rows.npy", "--top-k", 2)
    for ours, theirs in zip(lines, answers(expected), strict=True):
        for name in ("rank", "class", "kind"):
            assert ours[name] == theirs[name]
        assert float(ours["score"]) == pytest.approx(float(theirs["score"]), rel=1e-4, abs=1e-4)
    in_folders = [file for file in files if file.split("/")[0] in CLASSES]
    best = {line["file"]: line["class"] for line in lines if line["rank"] == "1"}
    right = sum(best[file] == file.split("/")[0] for file in in_folders)
    assert len(in_folders) == 13
    assert f"{right} of the 13 files in folders named as classes have that class" in err
    assert right >= 10


def test_file_that_is_no_picture_is_left_out_and_listed(
    result: RunResult, new: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    into = tmp_path / "answers.jsonl"
    code, out, err = predict(capsys, result.directory, new, "--into", into)
    assert (code, out) == (0, "")
    assert "left out: 0.png: not a picture\n" in err
    assert "left out: red/notes.txt: not a picture\n" in err
    assert f"14 files in {into}, 2 left out, no calibration factor" in err
    records = [json.loads(line) for line in into.read_text().splitlines()]
    assert [one["file"] for one in records] == list(sorted_as_walked(new))
    assert {len(one["answers"]) for one in records} == {1}


def sorted_as_walked(folder: Path) -> Iterator[str]:
    """The files of a folder before those of its subfolders, each by name."""

    def walk(parent: Path) -> Iterator[Path]:
        entries = sorted(parent.iterdir())
        yield from (entry for entry in entries if entry.is_file())
        for entry in entries:
            if entry.is_dir():
                yield from walk(entry)

    for file in walk(folder):
        if str(file.relative_to(folder)) in rows_of(folder):
            yield str(file.relative_to(folder))


def test_single_picture_and_pictures_without_class_folders_get_answers(
    result: RunResult, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(2)
    drawn = draw(tmp_path / "flat" / "photo.png", CLASSES["green"], rng)
    file = drawn.rename(drawn.with_suffix(""))  # a picture needs no suffix
    code, out, err = predict(capsys, result.directory, file)
    assert code == 0, err
    (line,) = answers(out)
    assert line["file"] == str(file)
    code, out, err = predict(capsys, result.directory, tmp_path / "flat")
    assert code == 0
    assert [line["file"] for line in answers(out)] == ["photo"]
    assert "folders named as classes" not in err


def test_with_only_unseen_answers_only_folders_of_unseen_classes_count(
    result: RunResult, new: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, out, err = predict(capsys, result.directory, new, "--only", "unseen")
    (unseen,) = {line["class"] for line in answers(out)}
    count = sum(file.split("/")[0] == unseen for file in rows_of(new))
    assert f"{count} of the {count} files in folders named as classes" in err


def test_pictures_are_read_batch_by_batch(
    result: RunResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At most two batches of files are opened ahead of the consumed rows."""
    rng = np.random.default_rng(3)
    for number in range(30):
        draw(tmp_path / "many" / f"{number:02d}.png", CLASSES["red"], rng)
    opened: list[str] = []

    def count(path: Path) -> Image.Image:
        opened.append(path.name)
        with Image.open(path) as picture:
            return picture.convert("RGB")

    monkeypatch.setattr("gsmflow.data.extract.features.open_picture", count)
    rows = open_pictures(tmp_path / "many", recorded_of(open_trained(result.directory, CPU)))
    assert (rows.total, opened) == (30, [])
    consumed = 0
    for piece in rows.pieces():
        assert len(piece.names) == 3
        consumed += len(piece.names)
        assert len(opened) <= consumed + 3
    assert consumed == 30


def test_answers_need_no_dataset_and_accept_moved_weights(
    result: RunResult,
    requested: list[BackboneSpec],
    new: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = Path(shutil.copytree(result.directory, tmp_path / "elsewhere"))
    assert predict(capsys, run, new)[0] == 0
    assert requested[-1] == BackboneSpec("mean")
    assert predict(capsys, run, new, "--weights", tmp_path)[0] == 0
    assert requested[-1] == BackboneSpec("mean", tmp_path)
    # The backbone was a local folder that the user has moved.
    old = str(tmp_path / "old")
    change(run, "spec", backbone=old)
    code, _, err = predict(capsys, run, new)
    assert code == 2
    assert f"{old}: no such file or folder, expected the backbone's weights" in err
    assert "--weights names their present path" in err
    assert predict(capsys, run, new, "--weights", tmp_path)[0] == 0
    assert requested[-1] == BackboneSpec(str(tmp_path))


def change(run: Path, section: str, **fields: object) -> None:
    content = json.loads((run / "extract.json").read_text())
    content[section] |= fields
    (run / "extract.json").write_text(json.dumps(content))


BAD: dict[str, tuple[Any, str]] = {
    "no record": (
        lambda run: (run / "extract.json").unlink(),
        "extract.json: no such file, expected the run of a dataset that python -m gsmflow extract",
    ),
    "no JSON": (lambda run: (run / "extract.json").write_text("{"), "extract.json: not readable"),
    "a list": (
        lambda run: (run / "extract.json").write_text("[]"),
        "extract.json: found list, expected an object",
    ),
    "other features": (
        lambda run: change(run, "features", name="res101"),
        "extract.json: found a record of features res101, expected one of mean",
    ),
    "other weights": (
        lambda run: change(run, "features", weights_blake2b="another"),
        "a test: found weights_blake2b none, expected another as",
    ),
}


@pytest.mark.parametrize("fault", list(BAD))
def test_run_with_a_bad_record_is_refused(
    fault: str,
    result: RunResult,
    new: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    damage, expected = BAD[fault]
    run, into = Path(shutil.copytree(result.directory, tmp_path / "run")), tmp_path / "a.csv"
    damage(run)
    code, out, err = predict(capsys, run, new, "--into", into)
    assert (code, out) == (2, "")
    assert expected in err
    assert err.count("\n") == 1
    assert not into.exists()


def test_backbone_of_other_dimensions_is_refused(
    result: RunResult, new: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = open_trained(result.directory, CPU)
    wide = replace(backbone(), facts={**backbone().facts, "dimension": 5})
    monkeypatch.setattr(record, "load_backbone", lambda *_: wide)
    with pytest.raises(InputError, match="found a backbone of 5 dimensions, expected the 3 that"):
        open_pictures(new, recorded_of(run))


def test_bad_input_is_refused(
    result: RunResult, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "words.txt").write_text("no picture")
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "1.png").write_bytes(b"")
    np.save(tmp_path / "rows.npy", np.ones((2, 3)))
    into = tmp_path / "answers.csv"
    for words, expected in (
        (("nowhere",), "nowhere: no such file or folder, expected rows of features in a .npy"),
        (("words.txt",), "words.txt: not a picture, expected rows of features in a .npy"),
        (("empty",), "empty: found no file, expected pictures"),
        (("broken",), "broken: found no readable picture, expected at least one"),
        (("rows.npy", "--weights", "."), "--weights: found . with rows of features in"),
    ):
        file, *flags = words
        code, out, err = predict(capsys, result.directory, tmp_path / file, *flags, "--into", into)
        assert (code, out) == (2, "")
        assert expected in err.splitlines()[-1]
        assert not into.exists()


def test_run_on_other_features_classifies_only_rows(
    result: RunResult, new: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The record of a dataset does not describe feature files that a user added."""
    run = Path(shutil.copytree(result.directory, tmp_path / "run"))
    recipe = json.loads((run / "recipe.json").read_text()) | {"features": "res101"}
    (run / "recipe.json").write_text(json.dumps(recipe))
    code, _, err = predict(capsys, run, new)
    assert code == 2
    assert "found a record of features mean, expected one of res101" in err
    np.save(tmp_path / "rows.npy", np.ones((2, 3)))
    assert predict(capsys, run, tmp_path / "rows.npy")[0] == 0


def test_page_shows_each_picture_with_its_answers(
    result: RunResult, new: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "answers.html"
    code, out, _ = predict(capsys, result.directory, new, "--gamma", "none", "--html", page)
    assert code == 0
    content = page_content(page)
    best = {line["file"]: line["class"] for line in answers(out)}
    assert {row["name"]: row["answers"][0]["name"] for row in content["rows"]} == best
    for row in content["rows"]:
        shown = np.asarray(Image.open(io.BytesIO(b64decode(row["picture"]))), dtype=np.float64)
        picture = np.asarray(Image.open(new / row["name"]), dtype=np.float64)
        np.testing.assert_allclose(shown.mean(axis=(0, 1)), picture.mean(axis=(0, 1)), atol=4)
    assert "have that class as their answer." in content["sentences"][0]
