"""The command ``add-class``: a class added later scores as one present from the start."""

import csv
import io
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from rich.console import Console
from safetensors.numpy import load_file

from gsmflow.cli.main import main
from gsmflow.data.checks import check_dataset
from gsmflow.data.dataset import Dataset, training_problem
from gsmflow.data.extract.texts import Encoded
from gsmflow.learning.contract import Extensible, why_unfit
from gsmflow.methods.linear_discriminant import discriminant, discriminant_by_factor
from gsmflow.methods.mean_regression import MeanRegression
from gsmflow.methods.registry import METHODS, find_method
from gsmflow.recipes.recipe import Recipe
from gsmflow.reports.page.document import read_run
from gsmflow.runs.checkpoint import TrainedRun, open_trained
from gsmflow.runs.experiment import run_experiment
from gsmflow.runs.job import Job, RunResult
from gsmflow.runs.load import load
from gsmflow.runs.rivals import _describe_shares, answer_shares
from gsmflow.runs.sample import sample_class
from gsmflow.runs.sections import REPORTS
from tests.builders import CADA_SMALL, changed, make_dataset, tiny_recipe, write_gbu
from tests.kills import killed_at

pytestmark = pytest.mark.usefixtures("quick_pictures")

CPU = torch.device("cpu")
LAST = "class_11"
WHOLE = make_dataset(classes=12, unseen=3, noise=0.15)
SETTINGS: dict[str, dict[str, Any]] = {
    "gsmflow": {
        "epochs": 20,
        "learning_rate": 3e-3,
        "classifier_epochs": 20,
        "classifier_lr": 0.05,
    },
    "cada-vae": {**CADA_SMALL, "semantics_scaling": "norm", "semantics_norm": 3.0, "epochs": 40},
    "discriminant": {"model": "discriminant"},
    **{
        model: {
            "model": model,
            "feature_scaling": "standardised",
            "semantics_scaling": "norm",
            "semantics_norm": 3.0,
            "epochs": 40,
            "batch_size": 8,
            "learning_rate": 1e-2,
            "classifier_lr": 0.05,
            "classifier_epochs": 20,
        }
        for model in ("cvae", "se-gzsl", "gdan", "sdgzsl", "izf")
    },
}
# They learn from the semantics of unseen classes too, so from those of a class that is there.
FROM_UNSEEN_SEMANTICS = {"se-gzsl", "izf", "gsmflow-journal"}


EXTENSIBLE = [
    name
    for name in METHODS
    if issubclass(find_method(name).model, Extensible)
    and not why_unfit(find_method(name).model, training_problem(WHOLE, "test"))
]


def without_last(dataset: Dataset) -> Dataset:
    """The dataset without its last class."""
    last = len(dataset.class_names) - 1
    rows = np.flatnonzero(dataset.labels != last)
    return replace(
        dataset,
        features=dataset.features[rows],
        labels=dataset.labels[rows],
        semantics=dataset.semantics[:last],
        class_names=dataset.class_names[:last],
        test_unseen=dataset.test_unseen[dataset.labels[dataset.test_unseen] != last],
    )


def recipe_in(folder: Path, dataset: Dataset, model: str) -> Recipe:
    write_gbu(folder / "data" / "TINY", dataset)
    return tiny_recipe(folder, run="run", beside=(), **SETTINGS.get(model, {"model": model}))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture
def before(folder: Path) -> Callable[[str], RunResult]:
    """A run without the last class, made once for each model."""

    def get(model: str) -> RunResult:
        if model not in RUNS:
            recipe = recipe_in(folder / model, without_last(WHOLE), model)
            RUNS[model] = run_experiment(Job(recipe), Console(quiet=True))
        return RUNS[model]

    return get


RUNS: dict[str, RunResult] = {}


def add(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    """Exit code, what is printed, and the error."""
    code = 0
    try:
        main(["add-class", *map(str, words), "--device", "cpu"])
    except SystemExit as ended:
        code = int(ended.code or 0)
    out, err = capsys.readouterr()
    return code, out, err


def test_class_joins_a_run_with_joined_embeddings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    further = np.random.default_rng(4).normal(size=(12, 3)).astype(np.float32)
    names, numbers = WHOLE.class_names, range(11)
    lines = [",".join([names[c], *map(str, further[c])]) for c in reversed(numbers)]
    (tmp_path / "vectors.csv").write_text("\n".join(lines))
    recipe = recipe_in(tmp_path, without_last(WHOLE), "discriminant")
    recipe = replace(recipe, semantics=f"att+{tmp_path / 'vectors.csv'}")
    run = run_experiment(Job(recipe), Console(quiet=True)).directory
    assert json.loads((run / "recipe.json").read_text())["semantics"] == recipe.semantics
    assert json.loads((run / "metrics.json").read_text())["semantics"] == "att+vectors.csv"
    raw = np.concatenate([WHOLE.semantics[-1], further[-1]])
    file = vector_file(tmp_path / "last.npy", raw)
    code, _, err = add(capsys, run, "--name", LAST, "--semantics", file, "--into", tmp_path / "new")
    assert code == 0, err
    (stored,) = json.loads((tmp_path / "new" / "added.json").read_text())["classes"].values()
    halves = np.split(raw.astype(np.float64), [WHOLE.semantics.shape[1]])
    expected = np.concatenate([half / np.sqrt((half**2).sum()) for half in halves])
    np.testing.assert_allclose(stored, expected, rtol=1e-5)
    loaded = load(tmp_path / "new", device="cpu")
    assert LAST in loaded.unseen_classes_
    assert set(loaded.predict(WHOLE.features[:3])) <= set(WHOLE.class_names)


def vector_file(path: Path, vector: NDArray[Any]) -> Path:
    np.save(path, vector)
    return path


def files_of(directory: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in directory.iterdir()}


def scores_of(run: TrainedRun, rows: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    features = check_dataset(WHOLE).features[rows]
    return run.scorer.gzsl_scores(features), run.scorer.zsl_scores(features)


@pytest.mark.parametrize("model", EXTENSIBLE)
def test_class_added_later_scores_as_one_present_from_the_start(
    model: str,
    before: Callable[[str], RunResult],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    first = before(model)
    untouched = files_of(first.directory)
    file = vector_file(tmp_path / "last.npy", WHOLE.semantics[-1])
    into = tmp_path / "grown"
    code, out, err = add(
        capsys, first.directory, "--name", LAST, "--semantics", file, "--into", into
    )
    assert code == 0, err
    assert f"{LAST} added to a trained run" in " ".join(out.split())
    assert files_of(first.directory) == untouched
    grown = open_trained(into, CPU)
    assert grown.kept.class_names == WHOLE.class_names
    start = run_experiment(Job(recipe_in(tmp_path, WHOLE, model)), Console(quiet=True))
    whole = open_trained(start.directory, CPU)
    rows = np.arange(len(WHOLE.labels))
    for ours, theirs in zip(scores_of(grown, rows), scores_of(whole, rows), strict=True):
        assert ours.shape == theirs.shape
        if model not in FROM_UNSEEN_SEMANTICS:
            # The model is trained on seen rows alone: it and all random numbers are the same.
            np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-3)
    if model not in SETTINGS:
        return  # its scores of new classes are of little use after so few epochs
    new_rows = np.flatnonzero(WHOLE.labels == len(WHOLE.class_names) - 1)
    answers = grown.kept.unseen_classes[scores_of(grown, new_rows)[1].argmax(axis=1)]
    assert (answers == len(WHOLE.class_names) - 1).mean() > 0.8


def test_class_is_added_to_a_run_with_prototypes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_gbu(tmp_path / "data" / "TINY", without_last(WHOLE))
    settings = {"classifier": "prototypes", "classifier_hidden": 64, "classifier_lr": 5e-3}
    recipe = tiny_recipe(tmp_path, run="run", beside=(), **{**SETTINGS["gsmflow"], **settings})
    first = run_experiment(Job(recipe), Console(quiet=True))
    file = vector_file(tmp_path / "last.npy", WHOLE.semantics[-1])
    into = tmp_path / "grown"
    words = ("--name", LAST, "--semantics", file, "--into", into)
    code, _, err = add(capsys, first.directory, *words)
    assert code == 0, err
    grown, new_rows = open_trained(into, CPU), np.flatnonzero(WHOLE.labels == 11)
    answers = grown.kept.unseen_classes[scores_of(grown, new_rows)[1].argmax(axis=1)]
    assert (answers == 11).mean() > 0.8


@pytest.mark.parametrize("model", EXTENSIBLE)
def test_new_run_records_its_origin_and_is_a_complete_run(
    model: str,
    before: Callable[[str], RunResult],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    first = before(model)
    directory = Path(shutil.copytree(first.directory, tmp_path / "run"))
    file = vector_file(tmp_path / "last.npy", WHOLE.semantics[-1])
    code, _, err = add(capsys, directory, "--name", "a/new one", "--semantics", file)
    assert code == 0, err
    into = tmp_path / "run-with-a_new_one"
    assert set(files_of(into)) - {"shifts.png"} == (
        set(files_of(directory)) - {"shifts.png", ".lock"} | {"added.json"}
    )
    record = json.loads((into / "added.json").read_text())
    assert record["run"] == str(directory)
    assert record["classes"] == {"a/new one": WHOLE.semantics[-1].tolist()}
    metrics, old = (json.loads((d / "metrics.json").read_text()) for d in (into, directory))
    assert metrics.keys() == old.keys()
    assert metrics["novelty"]["AUROC"] == pytest.approx(old["novelty"]["AUROC"])
    assert metrics["validation"] == old["validation"]
    # Old rows keep their answers, except where the new class is the answer. A classifier that
    # learns from more rows of unseen classes may also prefer them more, which raises U.
    for name in ("T1", "S"):
        assert metrics[name] <= old[name] + 0.15
    with (into / "per_class.csv").open() as lines:
        records = {line["name"]: line for line in csv.DictReader(lines)}
    assert records["a/new one"]["rows"] == "0"
    assert "a/new one" in json.dumps(read_run(into, REPORTS))
    # A class can be added to such a run too.
    code, _, err = add(
        capsys, into, "--name", "second", "--semantics",
        vector_file(tmp_path / "second.npy", -WHOLE.semantics[-1]),
    )  # fmt: skip
    assert code == 0, err
    twice = open_trained(tmp_path / "run-with-a_new_one-with-second", CPU)
    assert twice.kept.class_names[-2:] == ("a/new one", "second")
    assert twice.recipe.run == "run-with-a_new_one-with-second"
    features = tmp_path / "rows.npy"
    np.save(features, WHOLE.features[:3])
    main(["predict", str(twice.directory), str(features), "--top-k", "99"])
    lines = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert len(lines) == 3 * 13


def test_discriminant_keeps_the_tensors_of_old_classes(
    before: Callable[[str], RunResult], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, into = before("discriminant"), tmp_path / "grown"
    file = vector_file(tmp_path / "last.npy", WHOLE.semantics[-1])
    code, _, err = add(capsys, first.directory, "--name", LAST, "--semantics", file, "--into", into)
    assert code == 0, err
    old, new = (load_file(d / "model.safetensors") for d in (first.directory, into))
    grown = {"unseen_classes", "means", "common_weight", "common_bias"}
    for name, value in old.items():
        same = new[name][tuple(slice(0, side) for side in value.shape)]
        np.testing.assert_array_equal(same, value, err_msg=name)
        assert (new[name].shape != value.shape) == (name in grown)


def test_method_without_support_for_new_classes_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = recipe_in(tmp_path, without_last(WHOLE), "eszsl")
    first = run_experiment(Job(recipe), Console(quiet=True))
    file, into = vector_file(tmp_path / "last.npy", WHOLE.semantics[-1]), tmp_path / "grown"
    words = ("--name", LAST, "--semantics", file, "--into", into)
    code, _, err = add(capsys, first.directory, *words)
    assert code == 2
    assert "found a model that takes no further classes" in err
    assert not into.exists()


def test_class_is_added_to_a_run_without_its_gate_and_other_classifiers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = recipe_in(tmp_path, without_last(WHOLE), "gsmflow")
    more: dict[str, Any] = {"gate": "cosmo", "classifiers_beside": ("prototypes",)}
    first = run_experiment(Job(changed(recipe, epochs=4, **more)), Console(quiet=True))
    assert list(first.directory.glob("gate*"))
    file, into = vector_file(tmp_path / "last.npy", WHOLE.semantics[-1]), tmp_path / "grown"
    words = ("--name", LAST, "--semantics", file, "--into", into)
    assert add(capsys, first.directory, *words)[0] == 0
    grown = open_trained(into, CPU)
    assert (grown.recipe.gate, grown.recipe.classifiers_beside) == (None, ())
    assert "classifiers_beside" not in grown.metrics
    assert not list(into.glob("gate*"))
    rows = vector_file(tmp_path / "rows.npy", WHOLE.features[:3])
    main(["predict", str(into), str(rows), "--device", "cpu"])
    assert "as the run chose on validation classes\n" in capsys.readouterr().err


def test_run_with_an_added_class_is_not_resumed(
    before: Callable[[str], RunResult], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = before("discriminant")
    file = vector_file(tmp_path / "last.npy", WHOLE.semantics[-1])
    assert add(capsys, first.directory, "--name", LAST, "--semantics", file)[0] == 0
    into = first.directory.with_name("run-with-class_11")
    recipe = open_trained(into, CPU).recipe
    with pytest.raises(ValueError, match=r"added.json: found classes that were added"):
        run_experiment(Job(changed(recipe, resume=True)), Console(quiet=True))
    code, _, err = add(capsys, first.directory, "--name", LAST, "--semantics", file)
    assert code == 2
    assert err.startswith(f"error: {into}: exists already")


FORMS: dict[str, tuple[str, str, bool]] = {
    "line": (".csv", "1,2,3,4,5.5\n", True),
    "column": (".txt", "1\n2\n3\n4\n5.5\n", True),
    "list": (".json", "[1, 2, 3, 4, 5.5]", True),
    "named": (".csv", "new,1,2,3,4,5.5\n", False),
    "headed": (".csv", "\ufeffname;a;b;c;d;e\nnew;1;2;3;4;5.5\n\n", False),
    "several": (".csv", "other\t9\t8\t7\t6\t5\nnew\t1\t2\t3\t4\t5.5\n", False),
    "object": (".json", '{"new": [1, 2, 3, 4, 5.5], "7": [0, 0, 0, 0, 1]}', False),
}


@pytest.mark.parametrize("form", list(FORMS))
def test_every_form_of_semantics_is_read(
    form: str,
    before: Callable[[str], RunResult],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    ending, text, takes_name = FORMS[form]
    file = tmp_path / f"semantics{ending}"
    file.write_text(text)
    name = ("--name", "new") if takes_name else ()
    into = tmp_path / "grown"
    code, _, err = add(
        capsys, before("discriminant").directory, "--semantics", file, "--into", into, *name
    )
    assert code == 0, err
    semantics = json.loads((into / "added.json").read_text())["classes"]
    assert semantics["new"] == [1, 2, 3, 4, 5.5]


FAULTS: dict[str, tuple[str, str, tuple[str, ...], str]] = {
    "one": (".txt", "1", ("--name", "x"), "class x: found a vector of 1 numbers, expected 5"),
    "short": (".csv", "1,2\n", ("--name", "x"), "class x: found a vector of 2 numbers, expected 5"),
    "word": (".csv", "x,1,2,three,4,5\n", (), "line 1, column 4: found 'three' for x, expected a"),
    "cell": (
        ".csv",
        "1,2,x,4,5\n",
        ("--name", "x"),
        "line 1, column 3: found 'x', expected a finite",
    ),
    "nan": (".csv", "x,1,nan,3,4,5\n", (), "line 1, column 3: found 'nan' for x, expected a"),
    "unnamed": (".json", "[1, 2, 3, 4, 5]", (), "--name: found none with"),
    "names": (".json", '{"y": [1, 2, 3, 4, 5]}', ("--name", "x"), "--name: found x with"),
    "lines": (".csv", "x,1,2,3,4,5\ny,1,2,3,4,5\n", ("--name", "x"), "found 2 lines, expected the"),
    "twice": (".csv", "x,2,1,3,4,5\nx,2,1,3,4,5\n", (), "found the class x twice"),
    "nothing": (".csv", "\n", (), "found no line"),
    "json": (".json", "{", (), "not JSON"),
    "mixed": (".json", '{"x": [1, "a"]}', (), "class x: found something else, expected a list of"),
    "lengths": (".json", '{"x": [1], "y": [1, 2]}', (), "found vectors of 1 and of 2 numbers"),
    "known": (".csv", "1,2,3,4,5\n", ("--name", "class_3"), "--name: found class_3, which the run"),
    "texts": (".csv", "name,text\nx,Tall.\n", (), "extract.json: found no text encoder, expected"),
    "comma": (
        ".csv",
        "name,text\nx,Tall, red.\n",
        (),
        "line 2: found 3 cells, expected a name and",
    ),
    "both": (
        ".csv",
        "1,2,3,4,5\n",
        ("--name", "x", "--text", "y"),
        "--text: found both --semantics",
    ),
}


@pytest.mark.parametrize("fault", list(FAULTS))
def test_bad_semantics_give_one_sentence_and_leave_no_run(
    fault: str,
    before: Callable[[str], RunResult],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    ending, text, flags, expected = FAULTS[fault]
    file = tmp_path / f"semantics{ending}"
    file.write_text(text)
    into = tmp_path / "grown"
    run = before("discriminant").directory
    code, _, err = add(capsys, run, "--semantics", file, "--into", into, *flags)
    assert code == 2
    assert expected in err
    assert err.count("\n") == 1
    assert not into.exists()


def run_of_texts(folder: Path, run: Path, weights: str = "w") -> Path:
    """A copy of a run whose record says that its semantics were made of texts."""
    directory = Path(shutil.copytree(run, folder / "run"))
    semantics = {"kind": "texts", "text_encoder": "stub", "weights_blake2b": weights}
    record = {"format": 1, "semantics": {**semantics, "templates": ["a {}"]}}
    (directory / "extract.json").write_text(json.dumps(record))
    return directory


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts that are encoded, all to the semantics of the last class."""
    seen: list[str] = []

    def encode(texts: list[str], name: str, device: torch.device) -> Encoded:
        assert name == "stub"
        seen.extend(texts)
        vectors = WHOLE.semantics[[-1] * len(texts)]
        return Encoded(vectors, len(texts), 0, {"weights_blake2b": "w", "source": "here"})

    monkeypatch.setattr("gsmflow.data.extract.texts.encode_texts", encode)
    return seen


@pytest.mark.parametrize("form", ["--text", "csv", "folder", "json"])
def test_class_described_in_words_is_encoded_as_the_others_were(
    form: str,
    before: Callable[[str], RunResult],
    encoded: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    directory = run_of_texts(tmp_path, before("gsmflow").directory)
    file = tmp_path / f"later.{form}"
    words: tuple[object, ...] = ("--semantics", file)
    if form == "--text":
        words = ("--name", "new_one", "--text", " Tall,\nred. ")
    elif form == "csv":
        file.write_text('name,text\nnew_one,"Tall, red."\n')
    elif form == "json":
        file.write_text('{"new_one": "Tall, red."}')
    else:
        file.mkdir()
        (file / "new_one.txt").write_text("Tall, red.\n")
    into = tmp_path / "grown"
    code, out, err = add(capsys, directory, *words, "--into", into)
    assert code == 0, err
    assert encoded == ["a new one. Tall, red."]
    added = json.loads((into / "added.json").read_text())["classes"]
    assert added == {"new_one": pytest.approx(WHOLE.semantics[-1].tolist())}
    if form == "--text":
        check_rivals(into, "new_one", out)


def check_rivals(into: Path, name: str, printed: str) -> None:
    """The printed similar classes and shares, by plain loops."""
    known, new = WHOLE.semantics[:-1].astype(float), WHOLE.semantics[-1].astype(float)
    centre = known.mean(axis=0)
    cosines = [
        (row - centre)
        @ (new - centre)
        / np.linalg.norm(row - centre)
        / np.linalg.norm(new - centre)
        for row in known
    ]
    best = np.argsort(cosines)[::-1][:3]
    similar = ", ".join(f"{WHOLE.class_names[c]} ({cosines[c]:.2f})" for c in best)
    assert f"{name}: most similar to {similar}\n" in printed
    run = open_trained(into, CPU)
    rows = sample_class(run, len(run.kept.class_names) - 1, 300, run.recipe.seed)
    lowered = (run.gamma or 0.0) * np.isin(run.classes, run.kept.seen_classes)
    answers = run.classes[(run.scorer.gzsl_scores(rows) - lowered).argmax(axis=1)]
    counts = np.bincount(answers, minlength=len(run.kept.class_names)) / 3
    assert f"{name}: of its synthesized rows, {counts[-1]:.0f} % are answered with it" in printed
    assert sum(answer_shares(run, name).values()) == pytest.approx(1)
    for c in np.argsort(-counts[:-1])[:1]:
        if counts[c]:
            assert f", {counts[c]:.0f} % with {run.kept.class_names[c]}" in printed
    assert (f"warning: {name} is hardly distinguished from" in printed) == (counts[-1] < 50)


def test_words_without_the_encoder_of_the_run_are_refused(
    before: Callable[[str], RunResult],
    encoded: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    first, into = before("gsmflow").directory, tmp_path / "grown"
    words = ("--name", "new", "--text", "Tall.", "--into", into)
    assert (
        "found no text encoder, expected that of the run's semantics"
        in add(capsys, first, *words)[2]
    )
    assert not encoded
    other = run_of_texts(tmp_path, first, weights="other")
    code, _, err = add(capsys, other, *words)
    assert code == 2
    assert "here: found weights_blake2b w, expected other as" in err
    assert "--name: found none" in add(capsys, other, "--text", "Tall.")[2]
    assert "--name: found none" in add(capsys, other, "--text", "Tall.", "--name", " ")[2]
    assert "--text: found neither" in add(capsys, other)[2]
    assert not into.exists()


def test_words_for_a_run_on_other_semantics_are_refused(
    encoded: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "v.npy", WHOLE.semantics[:-1])
    recipe = recipe_in(tmp_path, without_last(WHOLE), "discriminant")
    recipe = replace(recipe, semantics=str(tmp_path / "v.npy"))
    trained = run_experiment(Job(recipe), Console(quiet=True)).directory
    run, into = run_of_texts(tmp_path, trained), tmp_path / "grown"
    code, _, err = add(capsys, run, "--name", "new", "--text", "Tall.", "--into", into)
    assert code == 2
    assert f"--text: found a text, expected a vector: the run's semantics are {tmp_path}" in err
    assert not encoded
    assert not into.exists()


def test_class_that_others_take_is_warned_about() -> None:
    lines = [*_describe_shares("new", {"old": 0.6, "new": 0.3, "odd": 0.1})]
    assert lines[0] == (
        "new: of its synthesized rows, 30 % are answered with it, 60 % with old, 10 % with odd"
    )
    assert lines[1].startswith("warning: new is hardly distinguished from old;")
    assert len([*_describe_shares("new", {"new": 1.0})]) == 1


def test_semantics_equal_to_those_of_another_class_are_refused(
    before: Callable[[str], RunResult], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = vector_file(tmp_path / "twin.npy", WHOLE.semantics[2])
    run = before("discriminant").directory
    code, _, err = add(capsys, run, "--name", "twin", "--semantics", file)
    assert code == 2
    assert "found the same vector for twin and class_2" in err


def test_missing_or_different_dataset_is_refused(
    before: Callable[[str], RunResult], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = vector_file(tmp_path / "last.npy", WHOLE.semantics[-1])
    into = tmp_path / "grown"
    words = (before("discriminant").directory, "--name", LAST, "--semantics", file, "--into", into)
    code, _, err = add(capsys, *words, "--data", tmp_path / "nowhere")
    assert code == 2
    assert "res101.mat: no such file" in err
    write_gbu(tmp_path / "TINY", make_dataset(classes=11, unseen=2, seed=1))
    code, _, err = add(capsys, *words, "--data", tmp_path)
    assert code == 2
    assert "found other features and semantics than" in err
    assert not into.exists()


def test_run_without_a_dataset_fingerprint_is_refused(
    before: Callable[[str], RunResult], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = Path(shutil.copytree(before("gsmflow").directory, tmp_path / "run"))
    description = json.loads((directory / "model.json").read_text())
    del description["fingerprint"]
    (directory / "model.json").write_text(json.dumps(description))
    (directory / "data.json").unlink()
    file = vector_file(tmp_path / "last.npy", WHOLE.semantics[-1])
    code, _, err = add(capsys, directory, "--name", LAST, "--semantics", file)
    assert code == 2
    assert "model.json: found no field 'fingerprint'" in err


def test_interruption_leaves_no_run(
    before: Callable[[str], RunResult],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupt(*arguments: Any, **keywords: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("gsmflow.runs.add_class.conclude", interrupt)
    file = vector_file(tmp_path / "last.npy", WHOLE.semantics[-1])
    words = (before("gsmflow").directory, "--name", LAST, "--semantics", file)
    assert add(capsys, *words, "--into", tmp_path / "grown")[0] == 130
    assert [path.name for path in tmp_path.iterdir()] == ["last.npy"]


def test_killed_addition_is_made_by_the_same_command(
    before: Callable[[str], RunResult], tmp_path: Path
) -> None:
    file, kills = vector_file(tmp_path / "last.npy", WHOLE.semantics[-1]), 0
    words = ("--name", LAST, "--semantics", str(file), "--device", "cpu", "--into")

    def add_into(name: str) -> dict[str, Any]:
        into = tmp_path / name
        main(["add-class", str(before("discriminant").directory), *words, str(into)])
        assert not list(tmp_path.glob(".*"))
        metrics: dict[str, Any] = json.loads((into / "metrics.json").read_text())
        return metrics

    whole = add_into("whole")
    for owner, name, step in ((os, "fsync", 3), (Path, "rename", 1)):
        number = 1
        while killed_at(owner, name, number, partial(add_into, f"{name}{number}")):
            assert not (tmp_path / f"{name}{number}").exists()
            assert add_into(f"{name}{number}") == whole
            number, kills = number + step, kills + 1
    assert kills > 3


def test_linear_map_predicts_means_of_unseen_semantics() -> None:
    rng = np.random.default_rng(0)
    means, semantics = rng.normal(size=(6, 4)), rng.normal(size=(9, 3)).astype(np.float32)
    regression = MeanRegression(means, semantics, np.arange(6), whitening=0.5)
    weight, bias = regression.linear(0.3)
    np.testing.assert_allclose(semantics @ weight + bias, regression.predict(0.3), atol=1e-12)


def test_discriminant_by_factor_equals_discriminant_by_covariance() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(30, 5))
    covariance, means, centre = rows.T @ rows / 30, rng.normal(size=(4, 5)), rng.normal(size=5)
    factor = np.linalg.cholesky(covariance + 1e-6 * np.eye(5))
    whole = discriminant(covariance, means, centre, 0.25)
    unseen = discriminant_by_factor(factor, means[2:], centre, 0.25)
    np.testing.assert_allclose(unseen.weight, whole.weight[:, 2:], rtol=1e-5)
    np.testing.assert_allclose(unseen.bias, whole.bias[2:], rtol=1e-5)
