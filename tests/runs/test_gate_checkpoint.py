"""A gate read from the run directory gives the answers that the run evaluated."""

import csv
import io
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from scipy.special import log_expit, log_softmax

import gsmflow
from gsmflow.core.arrays import row_slices
from gsmflow.core.errors import InputError
from gsmflow.runs import gate
from gsmflow.runs.checkpoint import open_trained
from gsmflow.runs.gate_checkpoint import read_gate
from gsmflow.runs.job import RunResult
from gsmflow.runs.predict import answer_rows
from tests.builders import always_calibrated
from tests.cli.test_predict import (
    answers,
    change,
    cut,
    dataset_of,
    mean_over_classes,
    predict,
    save,
)
from tests.runs.test_gate import CASES, start

pytestmark = pytest.mark.usefixtures("quick_pictures")

CPU = torch.device("cpu")
RUNS: dict[str, RunResult] = {}
# So that rows are routed both ways, and both experts are right at times.
BALANCED = {"classifier_lr": 0.05, "classifier_epochs": 20}
WITHOUT_SOFTMAX = ("likelihood bayes", "boundary discriminant")
# COSMO learns its gate from a few held-out rows here, and with most seeds no row of an unseen class
# is classified correctly. With these, many are, on every instruction set of the processor.
COSMO: dict[str, dict[str, Any]] = {
    "cosmo": {"seed": 6},
    "cosmo cada-vae": {"seed": 14, "classifier_epochs": 60},
    "cosmo prototypes": {"seed": 1},
}
GATES = ("likelihood", "boundary", "gaussian", "cosmo")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture
def trained(folder: Path) -> Callable[[str], RunResult]:
    """A finished run with a gate, made once."""

    def get(case: str) -> RunResult:
        if case not in RUNS:
            changes = {"gate_share": 0.6} | CASES[case] | COSMO.get(case, {})
            if case not in WITHOUT_SOFTMAX:
                changes = BALANCED | changes
            with always_calibrated():
                RUNS[case] = start(folder, run=case.replace(" ", "-"), **changes)
        return RUNS[case]

    return get


@pytest.fixture(scope="module", autouse=True)
def forget() -> Iterator[None]:
    yield
    RUNS.clear()


def copied(result: RunResult, tmp_path: Path) -> Path:
    """A copy of the run's directory alone."""
    return Path(shutil.copytree(result.directory, tmp_path / "elsewhere"))


@pytest.mark.parametrize("case", CASES)
def test_answers_with_the_gate_give_the_figures_of_the_run(
    case: str,
    trained: Callable[[str], RunResult],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    result = trained(case)
    dataset, metrics = dataset_of(result), result.metrics
    directory = copied(result, tmp_path)
    gate, measures = metrics["gate"], metrics["gate"]["measures"]

    def accuracy(rows: NDArray[Any], note: str, *flags: str) -> float:
        file = save(tmp_path / "rows.npy", dataset.features[rows])
        code, out, err = predict(capsys, directory, file, *flags)
        assert code == 0, err
        lines = err.splitlines()
        assert lines.pop() == f"{len(rows)} rows, {note}"
        # Only the combined scores of `cosmo` are logarithms of probabilities.
        routed = note.startswith("with the run's gate") and "(cosmo)" not in note
        bare = metrics["calibrated"] is None and not note.startswith("with the run's gate")
        assert [line.partition(":")[0] for line in lines] == ["note"] * (routed or bare)
        known = {bool(line["probability"]) for line in csv.DictReader(io.StringIO(out))}
        assert known == {not (routed or bare)}
        return mean_over_classes(dataset, rows, [line["class"] for line in answers(out)])

    unseen, seen = dataset.test_unseen, dataset.test_seen
    note = f"with the run's gate ({gate['name']}), threshold {gate['threshold']:.6g}"
    assert accuracy(unseen, note) == pytest.approx(measures["U"])
    assert accuracy(seen, note) == pytest.approx(measures["S"])
    u, s = measures["U"], measures["S"]
    assert 0 < u < 1
    assert 0 < s < 1
    assert (u, s) != (metrics["U"], metrics["S"])
    assert measures["H"] == pytest.approx(2 * u * s / (u + s) if u + s else 0)
    assert accuracy(seen, note, "--gate", "run", "--gamma", "none") == pytest.approx(s)
    among = "answers among the unseen classes"
    assert accuracy(unseen, among, "--only", "unseen") == pytest.approx(measures["T1"])

    without = f", without the run's gate ({gate['name']})"
    plain = ("--gate", "none", "--gamma", "none")
    note = f"no calibration factor{without}"
    assert accuracy(unseen, note, *plain) == pytest.approx(metrics["U"])
    assert accuracy(seen, note, *plain) == pytest.approx(metrics["S"])
    calibrated = metrics["calibrated"]
    if calibrated is not None:
        chosen = ", as the run chose on validation classes"
        note = f"calibration factor gamma {calibrated['gamma']:.6g}{chosen}{without}"
        assert accuracy(unseen, note, "--gate", "none") == pytest.approx(calibrated["U"])
        assert accuracy(seen, note, "--gate", "none") == pytest.approx(calibrated["S"])


def linear(kept: dict[str, NDArray[Any]], name: str, rows: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(rows @ kept[f"{name}.weight"].T + kept[f"{name}.bias"], dtype=np.float64)


def experts(directory: Path, features: NDArray[Any]) -> list[NDArray[Any]]:
    """Both experts' scores by hand, of a run whose features are not scaled."""
    of_seen = load_file(directory / "gate-classifier.safetensors")
    of_unseen = load_file(directory / "classifier.safetensors")
    return [linear(of_seen, "seen", features), linear(of_unseen, "zsl", features)]


def scores_of_answers(directory: Path, features: NDArray[Any]) -> NDArray[Any]:
    """Scores of all classes from the answers, in the order of the classes."""
    run = open_trained(directory, CPU)
    names = [run.kept.class_names[c] for c in run.classes]
    answered = answer_rows(run, features, top_k=len(names), gated=read_gate(run))
    by_name = [{answer.name: answer.score for answer in row} for row in answered]
    return np.array([[row[name] for name in names] for row in by_name])


def test_scores_of_the_boundary_gate_follow_from_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = start(tmp_path, feature_scaling="none", **CASES["boundary"])
    features = dataset_of(result).features
    kept = load_file(result.directory / "gate.safetensors")

    def directions(encoder: str, inputs: NDArray[Any]) -> NDArray[Any]:
        inputs = inputs / np.linalg.norm(inputs, axis=1, keepdims=True)
        found = linear(
            kept, f"{encoder}.direction", np.maximum(linear(kept, f"{encoder}.hidden", inputs), 0)
        )
        return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True))

    cosines = directions("image_encoder", features) @ (
        directions("semantics_encoder", result.problem.semantics[result.problem.seen_classes]).T
    )
    threshold = json.loads((result.directory / "gate.json").read_text())["threshold"]
    raised = -cosines.max(axis=1) - threshold
    seen, unseen = (s - s.max(axis=1, keepdims=True) for s in experts(result.directory, features))
    expected = np.concatenate([seen, unseen + raised[:, None]], axis=1)
    np.testing.assert_allclose(scores_of_answers(result.directory, features), expected, atol=1e-4)
    # In small pieces, as of a file that is larger than memory.
    monkeypatch.setattr("gsmflow.core.arrays._SLAB_BYTES", 7 * 48)
    assert len(list(row_slices(len(features), 48))) > 1
    np.testing.assert_allclose(scores_of_answers(result.directory, features), expected, atol=1e-4)


def test_scores_of_cosmo_follow_from_its_files(tmp_path: Path) -> None:
    result = start(tmp_path, feature_scaling="none", **CASES["cosmo"])
    features = dataset_of(result).features
    smoothing = json.loads((result.directory / "gate.json").read_text())["smoothing"]
    seen, unseen = experts(result.directory, features)
    odds = (
        smoothing["seen_weight"] * seen.max(axis=1, keepdims=True)
        + smoothing["unseen_weight"] * unseen.max(axis=1, keepdims=True)
        + smoothing["bias"]
    )
    parts = []
    for scores, name, sign in ((seen, "seen", -1), (unseen, "unseen", 1)):
        domain = np.exp(log_expit(sign * odds))
        within = np.exp(log_softmax(smoothing[f"{name}_temperature"] * scores, axis=1))
        parts.append(np.log(domain * (domain * within + (1 - domain) / scores.shape[1])))
    expected = np.concatenate(parts, axis=1)
    np.testing.assert_allclose(scores_of_answers(result.directory, features), expected, atol=1e-4)
    run = open_trained(result.directory, CPU)
    found = [best.probability for (best,) in answer_rows(run, features, gated=read_gate(run))]
    powers = np.exp(expected)
    np.testing.assert_allclose(found, powers.max(axis=1) / powers.sum(axis=1), atol=1e-4)


def test_scores_equal_those_of_the_run_bit_for_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows are scored in the same batches; the run's evaluations are recorded."""
    gated_evaluations: list[Any] = []

    def watch(gated: Any, held_out: Any, outcome: Any) -> Any:
        gated_evaluations.append(gated)
        return evaluate(gated, held_out, outcome)

    evaluate = gate.evaluate_gate
    monkeypatch.setattr(gate, "evaluate_gate", watch)
    for case in GATES:
        result = start(tmp_path, run=case, **CASES[case])
        features = dataset_of(result).features
        again = read_gate(open_trained(result.directory, CPU))
        assert again.gate.threshold == gated_evaluations[-1].gate.threshold
        for mine, theirs in zip(
            again.numbers_and_scores(features),
            gated_evaluations[-1].numbers_and_scores(features),
            strict=True,
        ):
            np.testing.assert_array_equal(mine, theirs)


def test_another_process_answers_with_the_gate(
    trained: Callable[[str], RunResult], tmp_path: Path
) -> None:
    result = trained("likelihood")
    dataset, directory = dataset_of(result), copied(result, tmp_path)
    file = save(tmp_path / "rows.npy", dataset.features[dataset.test_seen])
    words = ("-m", "gsmflow", "predict", directory, file, "--device", "cpu")
    done = subprocess.run(
        [sys.executable, *map(str, words)],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    names = [line["class"] for line in answers(done.stdout)]
    measured = result.metrics["gate"]["measures"]["S"]
    assert mean_over_classes(dataset, dataset.test_seen, names) == pytest.approx(measured)
    assert "with the run's gate (likelihood), threshold" in done.stderr


@pytest.mark.parametrize("case", GATES)
def test_gamma_with_a_gate_is_refused(
    case: str,
    trained: Callable[[str], RunResult],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    result = trained(case)
    file = save(tmp_path / "rows.npy", dataset_of(result).features[:3])
    code, out, err = predict(capsys, result.directory, file, "--gamma", "0.5")
    assert (code, out) == (2, "")
    assert err.startswith(f"error: --gamma: found 0.5 with the run's gate ({case}), expected none")
    assert err.count("\n") == 1
    printed = predict(capsys, result.directory, file, "--gamma", "0.5", "--gate", "none")
    assert printed[0] == 0
    assert f"calibration factor gamma 0.5, without the run's gate ({case})" in printed[2]


def as_before_gates_were_kept(directory: Path) -> None:
    """Keep only the files of a run that saved the model of its gate and no more."""
    for name in ("gate.json", "gate-classifier.safetensors"):
        (directory / name).unlink(missing_ok=True)
    file = directory / "gate.safetensors"
    if file.exists():
        tensors = {n: t for n, t in load_file(file).items() if not n.startswith("scaling.")}
        save_file(tensors, file)


@pytest.mark.parametrize("case", GATES)
def test_run_without_a_gate_checkpoint_is_refused_and_gets_one_by_resuming(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = start(tmp_path, run="old", **CASES[case])
    file = save(tmp_path / "rows.npy", dataset_of(result).features)
    whole = predict(capsys, result.directory, file)
    assert whole[0] == 0
    as_before_gates_were_kept(result.directory)
    code, out, err = predict(capsys, result.directory, file)
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {result.directory / 'gate.json'}: no such file, expected")
    assert "which a resumed training writes; --gate none answers without it" in err
    with pytest.raises(InputError) as refused:
        gsmflow.load(result.directory, device="cpu")
    assert str(refused.value).startswith(f"{result.directory / 'gate.json'}: no such file")
    assert "--" not in str(refused.value).removeprefix(str(result.directory))
    assert err.count("\n") == 1
    flags = ("--gate", "none", "--gamma", "none")
    assert predict(capsys, result.directory, file, *flags)[0] == 0
    assert predict(capsys, result.directory, file, "--only", "unseen")[0] == 0
    again = start(tmp_path, run="old", **CASES[case], resume=True)
    assert again.metrics == result.metrics
    assert predict(capsys, result.directory, file) == whole


def with_tensors(file: Path, **changed: NDArray[Any]) -> None:
    save_file(load_file(file) | changed, file)


DAMAGES: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "json": ("cosmo", lambda d: cut(d / "gate.json"), "gate.json: not readable"),
    "list": (
        "cosmo",
        lambda d: (d / "gate.json").write_text("[]"),
        "gate.json: found list, expected an object",
    ),
    "name": (
        "cosmo",
        lambda d: change(d / "gate.json", name="boundary"),
        "gate.json, field 'name': found 'boundary', expected cosmo, as recipe.json has it",
    ),
    "threshold": (
        "boundary",
        lambda d: change(d / "gate.json", threshold=None),
        "gate.json, field 'threshold': found nothing, expected a number",
    ),
    "nan": (
        "likelihood",
        lambda d: change(d / "gate.json", threshold=float("nan")),
        "gate.json: not readable (the number NaN)",
    ),
    "smoothing": (
        "cosmo",
        lambda d: change(d / "gate.json", smoothing={"seen_weight": 1.0}),
        "gate.json, field 'smoothing.unseen_weight': found nothing, expected one that a run wrote",
    ),
    "model": (
        "boundary",
        lambda d: change(d / "gate.json", model=3),
        "gate.json, field 'model': found 3, expected an object",
    ),
    "config": (
        "likelihood",
        lambda d: change(d / "gate.json", model={"config": {"a": 1}}),
        "gate.safetensors: not readable as this run's gate",
    ),
    "lost model": (
        "likelihood",
        lambda d: (d / "gate.safetensors").unlink(),
        "gate.safetensors: not readable as this run's gate",
    ),
    "cut model": (
        "boundary",
        lambda d: cut(d / "gate.safetensors"),
        "gate.safetensors: not readable as this run's gate",
    ),
    "unscaled": (
        "boundary",
        lambda d: save_file(load_file(d / "model.safetensors"), d / "gate.safetensors"),
        "gate.safetensors: not readable as this run's gate",
    ),
    "wide": (
        "likelihood",
        lambda d: with_tensors(
            d / "gate.safetensors",
            **{f"scaling.{name}": np.ones(7, np.float32) for name in ("shift", "spread")},
        ),
        "(found tensor scaling.shift of shape (7,), expected (6,))",
    ),
    "lost expert": (
        "cosmo",
        lambda d: (d / "gate-classifier.safetensors").unlink(),
        "gate-classifier.safetensors: not readable as this run's classifier of the seen classes",
    ),
    "cut expert": (
        "likelihood",
        lambda d: cut(d / "gate-classifier.safetensors"),
        "gate-classifier.safetensors: not readable as this run's classifier of the seen classes",
    ),
    "other classes": (
        "boundary",
        lambda d: with_tensors(
            d / "gate-classifier.safetensors", **{"seen.classes": np.arange(1, 8)}
        ),
        "(classes other than the 7 seen ones)",
    ),
    "one score": (
        "boundary",
        lambda d: with_tensors(
            d / "gate-classifier.safetensors",
            **{
                "seen.weight": np.ones((1, 6), np.float32),
                "seen.bias": np.ones(1, np.float32),
            },
        ),
        "(scores of 1 classes, 7 are seen)",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_gate_gives_one_sentence(
    damage: str,
    trained: Callable[[str], RunResult],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    case, harm, expected = DAMAGES[damage]
    result = trained(case)
    directory = copied(result, tmp_path)
    file = save(tmp_path / "rows.npy", dataset_of(result).features[:3])
    harm(directory)
    code, out, err = predict(capsys, directory, file)
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {directory}")
    assert expected in err
    assert err.count("\n") == 1
    assert predict(capsys, directory, file, "--gate", "none", "--gamma", "none")[0] == 0


def test_gate_gives_no_answers_for_no_rows(trained: Callable[[str], RunResult]) -> None:
    for case in GATES:
        result = trained(case)
        run = open_trained(result.directory, CPU)
        rows = dataset_of(result).features[:0]
        assert list(answer_rows(run, rows, gated=read_gate(run))) == []
        assert read_gate(run).scores(rows).shape == (0, len(run.classes))
