"""The command ``predict``: its answers give the metrics of the run, for files of every kind."""

import csv
import io
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from rich.console import Console
from scipy.special import softmax

from gsmflow.cli.main import main
from gsmflow.core.rounding import fixed
from gsmflow.data.dataset import Dataset
from gsmflow.data.formats.files import load_dataset
from gsmflow.evaluation.metrics import mean_class_accuracy
from gsmflow.methods.gsmflow import GSMFlow
from gsmflow.reports.class_names import readable_name
from gsmflow.runs.checkpoint import open_trained
from gsmflow.runs.experiment import run_experiment
from gsmflow.runs.job import Job, RunResult
from gsmflow.runs.predict import answer_rows
from tests.builders import CADA_SMALL, always_calibrated, tiny_recipe, write_mat

pytestmark = pytest.mark.usefixtures("quick_pictures")

SETTINGS: dict[str, dict[str, Any]] = {
    "gsmflow": {"feature_scaling": "l2"},
    "cada-vae": CADA_SMALL,
    "discriminant": {"model": "discriminant"},
    "bayes": {"classifier": "bayes"},
    "prototypes": {"classifier": "prototypes", "classifier_hidden": 16},
    # It has other scores for calibrated stacking.
    "eszsl": {"model": "eszsl"},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture
def trained(folder: Path) -> Callable[[str], RunResult]:
    """Finished runs by model; each is made once."""

    def get(model: str) -> RunResult:
        if model not in RUNS:
            recipe = tiny_recipe(folder, run=model, beside=(), **SETTINGS[model])
            with always_calibrated():
                RUNS[model] = run_experiment(Job(recipe), Console(quiet=True))
        return RUNS[model]

    return get


RUNS: dict[str, RunResult] = {}


@pytest.fixture(scope="module", autouse=True)
def forget() -> Iterator[None]:
    yield
    RUNS.clear()


def dataset_of(result: RunResult) -> Dataset:
    data = result.directory.parents[2] / "data"
    return load_dataset(data, "TINY", features="res101", semantics="att")


def predict(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    """Exit code, standard output and standard error."""
    code = 0
    try:
        main(["predict", *map(str, words), "--device", "cpu"])
    except SystemExit as ended:
        code = int(ended.code or 0)
    out, err = capsys.readouterr()
    return code, out, err


def test_run_without_input_is_refused(
    trained: Callable[[str], RunResult], capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = predict(capsys, trained("eszsl").directory)
    assert (code, err.partition(",")[0]) == (2, "error: INPUT: found none")


def test_log_says_how_many_rows_are_done(
    trained: Callable[[str], RunResult],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("gsmflow.core.progress._LINE_SECONDS", 0.0)
    result = trained("eszsl")
    file = save(tmp_path / "new.npy", dataset_of(result).features[:7])
    code, out, err = predict(capsys, result.directory, file)
    assert code == 0
    assert "classifying: 7 of 7 rows" in err
    assert "classifying" not in out


def answers(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def save(path: Path, features: NDArray[Any], **others: Any) -> Path:
    """Write features in the format of the file's suffix, with other fields where it has such."""
    if path.suffix == ".npy":
        np.save(path, features)
    elif path.suffix == ".npz":
        np.savez_compressed(path, features=features, **others)
    elif path.suffix == ".pt":
        lists = {name: np.asarray(values).tolist() for name, values in others.items()}
        torch.save({"features": torch.from_numpy(features), **lists}, path)
    elif path.suffix == ".h5":
        with h5py.File(path, "w") as file:
            for name, values in {"features": features, **others}.items():
                texts = np.asarray(values).dtype.kind == "U"
                file.create_dataset(name, data=np.asarray(values).astype("O") if texts else values)
    elif path.suffix == ".mat":
        write_mat(path, {"features": features.T}, v73=path.stem == "v73")
    else:
        lines = [",".join(map(repr, row)) for row in features.tolist()]
        header = [",".join(f"f{i}" for i in range(features.shape[1]))]
        path.write_text("\n".join(header * ("header" in path.stem) + lines) + "\n")
    return path


def mean_over_classes(dataset: Dataset, rows: NDArray[Any], names: list[str]) -> float:
    """Mean accuracy over classes, from class names."""
    correct: dict[str, list[bool]] = {}
    for row, name in zip(rows, names, strict=True):
        true = dataset.class_names[dataset.labels[row]]
        correct.setdefault(true, []).append(name == true)
    return float(np.mean([np.mean(of_class) for of_class in correct.values()]))


@pytest.mark.parametrize("model", list(SETTINGS))
def test_answers_give_the_metrics_of_the_run(
    model: str,
    trained: Callable[[str], RunResult],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    result = trained(model)
    dataset, metrics = dataset_of(result), result.metrics

    def accuracy(rows: NDArray[Any], *flags: str) -> float:
        file = save(tmp_path / "rows.npy", dataset.features[rows])
        code, out, err = predict(capsys, result.directory, file, *flags)
        assert code == 0, err
        lines = answers(out)
        assert [int(line["row"]) for line in lines] == list(range(1, len(rows) + 1))
        seen = {dataset.class_names[c] for c in dataset.seen_classes}
        assert all((line["kind"] == "seen") == (line["class"] in seen) for line in lines)
        return mean_over_classes(dataset, rows, [line["class"] for line in lines])

    unseen, seen = dataset.test_unseen, dataset.test_seen
    assert accuracy(unseen, "--only", "unseen") == pytest.approx(metrics["T1"])
    assert accuracy(unseen, "--gamma", "none") == pytest.approx(metrics["U"])
    assert accuracy(seen, "--gamma", "none") == pytest.approx(metrics["S"])
    assert accuracy(unseen) == pytest.approx(metrics["calibrated"]["U"])
    assert accuracy(seen) == pytest.approx(metrics["calibrated"]["S"])
    # With a high gamma no seen class is an answer.
    assert accuracy(seen, "--gamma", "1e6") == 0
    # The run was trained without a gate.
    assert accuracy(seen, "--gate", "run") == accuracy(seen, "--gate", "none")


@pytest.mark.parametrize("model", list(SETTINGS))
def test_empty_batch_has_no_answers(model: str, trained: Callable[[str], RunResult]) -> None:
    """A batch is empty if none of its files is a picture."""
    result = trained(model)
    run = open_trained(result.directory, torch.device("cpu"))
    assert list(answer_rows(run, dataset_of(result).features[:0])) == []


def test_every_file_format_gives_the_same_answers(
    trained: Callable[[str], RunResult], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = trained("gsmflow")
    features = dataset_of(result).features[::5]
    names = (
        *("rows.npy", "rows.mat", "v73.mat", "rows.csv", "header.csv"),
        *("rows.npz", "rows.pt", "rows.h5"),
    )
    results = {n: predict(capsys, result.directory, save(tmp_path / n, features)) for n in names}
    results["double"] = predict(
        capsys, result.directory, save(tmp_path / "d.npy", features.astype(">f8"))
    )
    fortran = np.asfortranarray(features)
    results["fortran"] = predict(capsys, result.directory, save(tmp_path / "f.npy", fortran))
    semicolons = tmp_path / "semicolons.csv"
    semicolons.write_text((tmp_path / "rows.csv").read_text().replace(",", ";") + "\n\n")
    results["semicolons"] = predict(capsys, result.directory, semicolons)
    assert {code for code, _, _ in results.values()} == {0}
    assert len({out for _, out, _ in results.values()}) == 1
    assert len(answers(results["rows.npy"][1])) == len(features)


def test_rows_are_answered_by_their_names(
    trained: Callable[[str], RunResult], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = trained("eszsl")
    features = dataset_of(result).features[::20]
    names = [f"a, {number}.jpg" for number in range(len(features))]
    files = [save(tmp_path / f"rows{end}", features, names=names) for end in (".npz", ".pt", ".h5")]
    files.append(tmp_path / "named.csv")
    lines = [
        f'"{n}",' + ",".join(map(repr, r)) for n, r in zip(names, features.tolist(), strict=True)
    ]
    files[-1].write_text("\n".join(lines))
    outputs = {predict(capsys, result.directory, file)[1] for file in files}
    assert len(outputs) == 1
    assert [line["row"] for line in answers(outputs.pop())] == names


@pytest.mark.parametrize("ending", [".npz", ".pt", ".h5", ".mat", ".csv"])
@pytest.mark.parametrize("kind", ["names", "numbers"])
def test_labels_in_the_file_are_evaluated(
    ending: str,
    kind: str,
    trained: Callable[[str], RunResult],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    result = trained("eszsl")
    dataset = dataset_of(result)
    rows = np.concatenate([dataset.test_seen[::3], dataset.test_unseen[1:]])
    labels, file = dataset.labels[rows], tmp_path / f"rows{ending}"
    if ending == ".mat":
        write_mat(file, {"features": dataset.features[rows].T, "labels": labels[:, None] + 1.0})
    # Names are matched as those of folders are.
    names = [dataset.class_names[c].replace("_", " ").upper() for c in labels]
    if ending == ".csv":
        given = names if kind == "names" else labels
        columns = zip(given, dataset.features[rows].tolist(), strict=True)
        lines = [
            f'"x, {i}",{label},{",".join(map(repr, r))}' for i, (label, r) in enumerate(columns)
        ]
        file.write_text("\n".join(["file,Label,a,b,c,d,e,f", *lines]))
    elif ending != ".mat":
        save(file, dataset.features[rows], labels=names if kind == "names" else labels)
    code, out, err = predict(capsys, result.directory, file)
    assert code == 0, err
    number = {name: c for c, name in enumerate(dataset.class_names)}
    found = np.array([number[line["class"]] for line in answers(out)])
    assert f"accuracy {100 * np.mean(found == labels):.1f} % over {len(rows)} rows" in err
    mean = mean_over_classes(dataset, rows, [line["class"] for line in answers(out)])
    assert f"{100 * mean:.1f} % as the mean over the 10 classes that occur" in err
    unseen = np.isin(labels, dataset.unseen_classes)
    share = mean_class_accuracy(labels[unseen], found[unseen])
    assert f"{100 * share:.1f} % over 3 unseen" in err
    for c in np.unique(labels):
        (line,) = [one for one in err.splitlines() if one.startswith(dataset.class_names[c])]
        assert f"{100 * np.mean(found[labels == c] == c):.1f}" in line.split()
        assert str((labels == c).sum()) in line.split()


def test_only_unseen_evaluates_rows_of_unseen_classes(
    trained: Callable[[str], RunResult], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = trained("eszsl")
    dataset = dataset_of(result)
    file = save(tmp_path / "rows.npz", dataset.features, labels=dataset.labels)
    err = predict(capsys, result.directory, file, "--only", "unseen")[2]
    assert "84 rows of seen classes left out" in err
    assert f"{100 * result.metrics['T1']:.1f} % as the mean over the 3 classes that occur" in err
    seen = dataset.test_seen
    save(file, dataset.features[seen], labels=dataset.labels[seen])
    assert (
        "no row of an unseen class"
        in predict(capsys, result.directory, file, "--only", "unseen")[2]
    )


def test_samples_of_a_run_are_evaluated_by_their_class_names(
    trained: Callable[[str], RunResult], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result, file = trained("gsmflow"), tmp_path / "samples.npz"
    main(["sample", str(result.directory), "-n", "2", "-o", str(file), "--device", "cpu"])
    assert "over the 3 classes that occur" in predict(capsys, result.directory, file)[2]


def test_labels_that_the_run_does_not_know_are_refused(
    trained: Callable[[str], RunResult], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result, file = trained("eszsl"), tmp_path / "rows.npz"
    features = dataset_of(result).features[:3]
    for labels, expected in (
        (["class_0", "class_1", "fox"], "field 'labels', row 3: found fox, expected one of the 10"),
        ([0, 1, 10], "field 'labels', row 3: found class 10, expected 0 to 9"),
        ([0, 1], "field 'labels': found 2 labels, expected 3, one for each row"),
        ([0, 1, 0.5], "field 'labels': found fractions, expected whole numbers"),
    ):
        save(file, features, labels=labels)
        code, out, err = predict(capsys, result.directory, file)
        assert (code, out) == (2, "")
        assert expected in err
        assert "; --no-evaluate answers without the labels" in err
        assert err.count("\n") == 1
    assert predict(capsys, result.directory, file, "--no-evaluate")[0] == 0


def test_header_of_column_numbers_is_noted(
    trained: Callable[[str], RunResult], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "frame.csv"
    file.write_text("0,1,2,3,4,5\n" + "0.5,0.5,0.5,0.5,0.5,0.5\n" * 2)
    code, out, err = predict(capsys, trained("gsmflow").directory, file)
    assert (code, len(answers(out))) == (0, 2)
    assert "note: " in err
    assert "0 to 5 in steps of one, is taken for a header" in err


def test_answers_do_not_depend_on_the_size_of_pieces(
    trained: Callable[[str], RunResult],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    result = trained("cada-vae")
    features = dataset_of(result).features
    files = [save(tmp_path / name, features) for name in ("rows.npy", "v73.mat", "header.csv")]
    whole = [
        [line["class"] for line in answers(predict(capsys, result.directory, f)[1])] for f in files
    ]
    monkeypatch.setattr("gsmflow.core.arrays._SLAB_BYTES", 7 * 48)
    monkeypatch.setattr("gsmflow.data.text_rows._TEXT_BYTES", 500)
    for file, names in zip(files, whole, strict=True):
        lines = answers(predict(capsys, result.directory, file)[1])
        assert [line["class"] for line in lines] == names
        assert [int(line["row"]) for line in lines] == list(range(1, len(features) + 1))


def test_best_classes_are_sorted_by_score(
    trained: Callable[[str], RunResult], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = trained("gsmflow")
    dataset = dataset_of(result)
    features = dataset.features[:4]
    file, into = save(tmp_path / "rows.npy", features), tmp_path / "answers.jsonl"
    flags = ("--gamma", "2.5", "--into", into)
    code, out, err = predict(capsys, result.directory, file, "--top-k", 99, *flags)
    assert (code, out) == (0, "")
    assert f"4 rows in {into}, calibration factor gamma 2.5" in err
    records = [json.loads(line) for line in into.read_text().splitlines()]
    run = open_trained(result.directory, torch.device("cpu"))
    scores = run.scorer.gzsl_scores(features).astype(np.float64)
    scores[:, : len(dataset.seen_classes)] -= 2.5
    for row, record in enumerate(records):
        assert record["row"] == row + 1
        found = {answer["class"]: answer["score"] for answer in record["answers"]}
        expected = {
            dataset.class_names[c]: s for c, s in zip(run.classes, scores[row], strict=True)
        }
        assert found == pytest.approx(expected)
        assert list(found) == sorted(expected, key=lambda name: -expected[name])
    code, out, _ = predict(capsys, result.directory, file, "--top-k", 2)
    assert [(line["row"], line["rank"]) for line in answers(out)] == [
        (str(row), str(rank)) for row in (1, 2, 3, 4) for rank in (1, 2)
    ]


@pytest.mark.parametrize("model", list(SETTINGS))
def test_probabilities_are_the_softmax_over_the_temperature_of_the_run(
    model: str,
    trained: Callable[[str], RunResult],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    result = trained(model)
    dataset, into = dataset_of(result), tmp_path / "answers.jsonl"
    file = save(tmp_path / "rows.npy", dataset.features[:9])
    fitted = json.loads((result.directory / "validation.json").read_text())["temperatures"]
    assert result.metrics["validation"]["temperatures"] == fitted
    for only, columns in (("all", 10), ("unseen", 3)):
        flags = ("--only", only, "--top-k", 99)
        code, out, err = predict(capsys, result.directory, file, *flags)
        assert (code, "no probabilities" in err) == (0, False)
        lines = answers(out)
        scores = np.array([float(line["score"]) for line in lines]).reshape(9, columns)
        expected = softmax(scores / fitted[f"among_{only}"], axis=1)
        found = np.array([float(line["probability"]) for line in lines]).reshape(9, columns)
        np.testing.assert_allclose(found, expected, atol=1e-4)
        predict(capsys, result.directory, file, *flags, "--into", into)
        records = [json.loads(line)["answers"] for line in into.read_text().splitlines()]
        in_json = [[answer["probability"] for answer in record] for record in records]
        np.testing.assert_array_equal(in_json, found)


def test_what_has_no_probabilities_says_so(
    trained: Callable[[str], RunResult], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result, into = trained("eszsl"), tmp_path / "answers.jsonl"
    file = save(tmp_path / "rows.npy", dataset_of(result).features[:2])
    older = Path(shutil.copytree(result.directory, tmp_path / "run"))
    metrics = json.loads((older / "metrics.json").read_text())
    del metrics["validation"]["temperatures"]
    change(older / "metrics.json", validation=metrics["validation"])
    for directory, flags, expected in (
        (older, (), "note: no probabilities: the run has no temperature"),
        (result.directory, ("--gamma", "none"), "ESZSL has them only with the calibration factor"),
    ):
        code, out, err = predict(capsys, directory, file, *flags)
        assert code == 0
        assert expected in err
        assert [line["probability"] for line in answers(out)] == ["", ""]
        predict(capsys, directory, file, *flags, "--into", into)
        assert json.loads(into.read_text().splitlines()[0])["answers"][0]["probability"] is None
    change(older / "metrics.json", validation={"temperatures": {"among_all": 0}})
    code, _, err = predict(capsys, older, file)
    assert code == 2
    assert "validation.temperatures" in err


def test_rows_unlike_all_classes_are_answered_with_none_of_these(
    trained: Callable[[str], RunResult], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result, into = trained("eszsl"), tmp_path / "answers.jsonl"
    dataset = dataset_of(result)
    far = 50 * np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)
    rows = np.concatenate([dataset.features, far])
    labels = np.append(dataset.labels, [0, 0, 8, 8])
    file = save(tmp_path / "rows.npz", rows, labels=labels)
    plain = answers(predict(capsys, result.directory, file, "--top-k", 2)[1])
    code, out, err = predict(capsys, result.directory, file, "--top-k", 2, "--reject", 0.05)
    assert code == 0
    lines = answers(out)
    none = [line for line in lines if line["class"] == "none of these"]
    rejected = [int(line["row"]) - 1 for line in none]
    assert set(range(120, 124)) <= set(rejected)
    assert len(rejected) < 25
    assert all(list(line.values())[1:] == ["1", "none of these", "", "", ""] for line in none)
    # The other rows are answered as without it.
    kept = [line for line in plain if int(line["row"]) - 1 not in rejected]
    assert [line for line in lines if line["kind"]] == kept
    assert f"{len(rejected)} answered 'none of these', calibration factor" in err
    number = {name: c for c, name in enumerate(dataset.class_names)} | {"none of these": -1}
    found = np.array([number[line["class"]] for line in lines if line["rank"] == "1"])
    share = fixed(100 * float((found == labels).mean()))
    wrong = f"({len(rejected)} rejected, which count as wrong)"
    assert f"accuracy {share} % over 124 rows {wrong}" in err
    assert predict(capsys, result.directory, file, "--reject", 0.05, "--into", into)[0] == 0
    last = json.loads(into.read_text().splitlines()[-1])
    answer = {"class": "none of these", "kind": None, "score": None, "probability": None}
    assert last == {"row": 124, "answers": [answer]}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gsmflow.core.arrays._SLAB_BYTES", 7 * 48)
        assert predict(capsys, result.directory, file, "--top-k", 2, "--reject", 0.05)[1] == out


def test_run_without_numbers_of_held_out_rows_rejects_nothing(
    trained: Callable[[str], RunResult], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = trained("gsmflow")
    file = save(tmp_path / "rows.npy", dataset_of(result).features[:2])
    directory = Path(shutil.copytree(result.directory, tmp_path / "run"))
    cut(directory / "novelty.safetensors")
    assert (
        "not readable as this run's novelty" in predict(capsys, directory, file, "--reject", 0.1)[2]
    )
    (directory / "novelty.safetensors").unlink()
    assert predict(capsys, directory, file)[0] == 0
    code, out, err = predict(capsys, directory, file, "--reject", 0.1)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "--reject: found 0.1 with a run without novelty.safetensors" in err


def test_bad_flags_are_refused(
    trained: Callable[[str], RunResult], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = trained("discriminant")
    file = save(tmp_path / "rows.npy", dataset_of(result).features[:3])
    for flags, expected in (
        (("--top-k", "0"), "--top-k: found 0, expected"),
        (("--gamma", "much"), "--gamma: found much, expected run, none or a number"),
        (("--gamma", "inf"), "--gamma: found inf, expected run, none or a number"),
        (("--reject", "0"), "--reject: found 0, expected a share above 0 and below 1"),
        (("--reject", "1"), "--reject: found 1, expected a share above 0 and below 1"),
        (("--reject", "nan"), "--reject: found nan, expected a share above 0 and below 1"),
        (("--gamma", "1", "--only", "unseen"), "--gamma: found 1 with --only unseen"),
        (("--into", tmp_path), f"--into: found {tmp_path}, which cannot be written"),
    ):
        code, out, err = predict(capsys, result.directory, file, *flags)
        assert (code, out) == (2, "")
        assert err.startswith(f"error: {expected}")
        assert err.count("\n") == 1


def test_gamma_of_a_run_without_calibration_is_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tiny_recipe(folder, run="plain", model="discriminant", beside=(), calibrate=False)
    result = run_experiment(Job(recipe), Console(quiet=True))
    file = save(tmp_path / "rows.npy", dataset_of(result).features[:3])
    code, _, err = predict(capsys, result.directory, file)
    assert code == 2
    assert "--gamma: found run, with a run that chose none" in err
    assert predict(capsys, result.directory, file, "--gamma", "none")[0] == 0


BAD_FILES: dict[str, tuple[Callable[[Path, NDArray[Any]], object], str, str]] = {
    "missing": (lambda file, rows: None, ".npy", "no such file"),
    "folder": (lambda file, rows: file.mkdir(), ".npy", "found no file, expected pictures"),
    "ending": (
        lambda file, rows: file.write_text("1"),
        ".txt",
        "not a picture, expected rows of features in a .npy",
    ),
    "wide": (
        lambda f, r: np.save(f, np.ones((3, 7))),
        ".npy",
        "found shape (3, 7), expected (rows, 6)",
    ),
    "flat": (lambda f, r: np.save(f, np.ones(6)), ".npy", "found shape (6,), expected (rows, 6)"),
    "empty": (lambda f, r: np.save(f, r[:0]), ".npy", "found no rows"),
    "text": (lambda f, r: np.save(f, np.array([["a"] * 6])), ".npy", "found <U1, expected numbers"),
    "objects": (
        lambda f, r: np.save(f, np.array([[None] * 6])),
        ".npy",
        "found pickled Python objects",
    ),
    "cut": (lambda f, r: (np.save(f, r), cut(f)), ".npy", "not readable (its header asks for"),
    "npz-field": (lambda f, r: np.savez(f, x=r, y=r), ".npz", "which has fields x, y"),
    "pickled": (
        lambda f, r: torch.save({"features": r}, f),
        ".pt",
        "found pickled Python objects",
    ),
    "no-hdf5": (lambda f, r: f.write_text("x"), ".h5", "expected a complete HDF5 file"),
    "few-names": (
        lambda f, r: np.savez(f, features=r, names=np.array(["a"])),
        ".npz",
        "field 'names': found <U1 of shape (1,), expected 120 texts",
    ),
    "turned": (
        lambda f, r: write_mat(f, {"features": r}),
        ".mat",
        "field 'features': found shape (120, 6), expected (6, rows)",
    ),
    "field": (lambda f, r: write_mat(f, {"x": r}), ".mat", "field 'features': not found"),
    "nan": (lambda f, r: np.save(f, with_nan(r)), ".npy", "found nan in row 118, dimension 3"),
    "nan-mat": (
        lambda f, r: write_mat(f, {"features": with_nan(r).T}, v73=True),
        ".mat",
        "field 'features': found nan in row 118, dimension 3",
    ),
    "large": (
        lambda f, r: np.save(f, r.astype(float) * 1e300),
        ".npy",
        "inf in row 1, dimension 1",
    ),
    "nan-csv": (lambda f, r: f.write_text("9,2,nan,4,5,6\n"), ".csv", "found nan in row 1"),
    "short": (
        lambda f, r: f.write_text("a,b,c,d,e,f\n1,2,3,4,5,7\n1,2,3\n"),
        ".csv",
        ", line 3: found 3 cells, expected 6",
    ),
    "word": (
        lambda f, r: f.write_text("9,2,3,4,5,6\n\n1,2,3,x,5,6\n"),
        ".csv",
        ", line 3, column 4: found 'x', expected a number",
    ),
    "seven": (
        lambda f, r: f.write_text("a,b,c,d,e,f,g\n0,1,2,3,4,5,6\n"),
        ".csv",
        ", line 2: found 7 cells, expected 6",
    ),
    "named-short": (
        lambda f, r: f.write_text(",a,b,c,d,e,f\n0,1,2,3,4,5,6\n1,1,2\n"),
        ".csv",
        ", line 3: found 2 cells of numbers, expected 6",
    ),
    "named-word": (
        lambda f, r: f.write_text("x,1,2,3,4,5,6\ny,1,2,z,4,5,6\n"),
        ".csv",
        ", line 2, column 4: found 'z', expected a number",
    ),
    "missing-cells": (lambda f, r: f.write_text(",,,,,\n1,2,3,4,5,6\n"), ".csv", "found ''"),
    "no-label": (
        lambda f, r: f.write_text("label,a,b,c,d,e,f\nfox,1,2,3,4,5,7\n,1,2,3,4,5,7\n"),
        ".csv",
        ", line 3: found no label in column 1",
    ),
    "unnamed": (
        lambda f, r: f.write_text("x,1,2,3,4,5,6\n,1,2,3,4,5,6\n"),
        ".csv",
        ", line 2: found no name in column 1",
    ),
    "nothing": (lambda f, r: f.write_text("\n"), ".csv", "found no line"),
    "header": (lambda f, r: f.write_text("a,b,c,d,e,f\n"), ".csv", "no line below the header"),
    "latin": (lambda f, r: f.write_bytes(b"1,2,\xe4\n"), ".csv", "found bytes that are not UTF-8"),
}


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-40])


def with_nan(features: NDArray[Any]) -> NDArray[Any]:
    changed = features.copy()
    changed[117, 2] = np.nan
    return changed


def page_content(path: Path) -> dict[str, Any]:
    """The document of a page."""
    text = path.read_text().split('<script type="application/json" id="data">')[1]
    content: dict[str, Any] = json.loads(text.split("</script>")[0])
    return content


def test_page_has_the_three_best_answers_of_each_row(
    trained: Callable[[str], RunResult],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    result = trained("gsmflow")
    rows = save(tmp_path / "rows.npy", dataset_of(result).features[:5])
    page, table = tmp_path / "new" / "answers.html", tmp_path / "best.jsonl"
    words = result.directory, rows, "--into"
    assert predict(capsys, *words, table, "--top-k", 4)[0] == 0
    code, _, err = predict(capsys, *words, tmp_path / "one.csv", "--html", page)
    assert code == 0
    assert f"page: {page} (" in " ".join(err.split())
    assert [line["rank"] for line in answers((tmp_path / "one.csv").read_text())] == ["1"] * 5
    content = page_content(page)
    best = [json.loads(line) for line in table.read_text().splitlines()]
    for shown, expected in zip(content["rows"], best, strict=True):
        assert (shown["name"], shown["picture"]) == (str(expected["row"]), None)
        for record in expected["answers"]:
            record["name"] = readable_name(record.pop("class"))
        for a, record in zip(shown["answers"], expected["answers"][:3], strict=True):
            assert a["bar"] == a["probability"] == pytest.approx(record["probability"], abs=1e-6)
            assert {key: a[key] for key in ("name", "kind", "score")} == {
                key: record[key] for key in ("name", "kind", "score")
            }
    kinds = [record["answers"][0]["kind"] for record in best]
    assert (content["seen"], content["unseen"]) == (kinds.count("seen"), kinds.count("unseen"))


def test_page_needs_a_file_of_its_own(
    trained: Callable[[str], RunResult],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    result = trained("gsmflow")
    rows = save(tmp_path / "rows.npy", dataset_of(result).features[:2])
    answers_file = tmp_path / "answers.csv"
    for html, found in ((tmp_path, "a folder"), (answers_file, "the file of --into")):
        code, _, err = predict(
            capsys, result.directory, rows, "--into", answers_file, "--html", html
        )
        assert code == 2
        assert err == f"error: --html: found {html}, {found}, expected a file for the page\n"
        assert not answers_file.exists()


@pytest.mark.parametrize("fault", list(BAD_FILES))
def test_bad_file_gives_one_sentence_and_leaves_no_file(
    fault: str,
    trained: Callable[[str], RunResult],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    make, ending, expected = BAD_FILES[fault]
    result = trained("discriminant")
    file, into = tmp_path / f"rows{ending}", tmp_path / "out" / "answers.csv"
    make(file, dataset_of(result).features)
    code, out, err = predict(capsys, result.directory, file, "--into", into)
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {file}")
    assert expected in err
    assert err.count("\n") == 1
    assert not into.exists()
    assert not list(into.parent.glob(".*"))


BAD_RUNS: dict[str, tuple[Callable[[Path], object], str]] = {
    "unfinished": (lambda d: (d / "metrics.json").unlink(), "metrics.json: no such file"),
    "metrics": (
        lambda d: (d / "metrics.json").write_text("[]"),
        "metrics.json: found list",
    ),
    "json": (lambda d: (d / "metrics.json").write_text("{"), "metrics.json: not readable"),
    "seeds": (
        lambda d: change(d / "metrics.json", seeds=[0, 1]),
        "found the mean of several seeds",
    ),
    "own": (
        lambda d: change(d / "metrics.json", model="Mine"),
        "field 'model': found Mine, expected",
    ),
    "gamma": (lambda d: change(d / "metrics.json", calibrated={}), "field 'calibrated.gamma'"),
    "recipe": (
        lambda d: change(d / "recipe.json", method={"name": "gsmflow", "pi": "x"}),
        "recipe.json, field 'method', field 'pi': found \"x\"",
    ),
    "unknown": (lambda d: change(d / "recipe.json", what=1), "recipe.json: found a field 'what'"),
    "described": (
        lambda d: change(d / "model.json", config={"a": 1}),
        "model.safetensors: not readable",
    ),
    "classes": (lambda d: change(d / "model.json", unseen_classes=[7, 8, 99]), "model.safetensors"),
    "cut": (lambda d: cut(d / "model.safetensors"), "model.safetensors: not readable"),
    "lost": (
        lambda d: (d / "classifier.safetensors").unlink(),
        "classifier.safetensors: not readable",
    ),
    "fewer": (
        lambda d: change(d / "model.json", unseen_classes=[7, 8]),
        "found scores of 10 classes",
    ),
}


def change(file: Path, **fields: object) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


@pytest.mark.parametrize("fault", list(BAD_RUNS))
def test_damaged_run_is_refused(
    fault: str,
    trained: Callable[[str], RunResult],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    damage, expected = BAD_RUNS[fault]
    result = trained("gsmflow")
    file = save(tmp_path / "rows.npy", dataset_of(result).features[:3])
    directory = Path(shutil.copytree(result.directory, tmp_path / "run"))
    damage(directory)
    code, out, err = predict(capsys, directory, file)
    assert (code, out) == (2, "")
    assert expected in err
    assert err.count("\n") == 1


def test_run_of_a_custom_model_class_is_opened_with_it(
    trained: Callable[[str], RunResult], tmp_path: Path
) -> None:
    class Mine(GSMFlow):
        pass

    result = trained("gsmflow")
    directory = Path(shutil.copytree(result.directory, tmp_path / "run"))
    change(directory / "metrics.json", model="Mine")
    run = open_trained(directory, torch.device("cpu"), Mine)
    assert isinstance(run.kept.model, Mine)
    assert len(list(answer_rows(run, dataset_of(result).features[:3]))) == 3
