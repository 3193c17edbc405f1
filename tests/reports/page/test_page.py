"""The page of a run, as read from its directory and as a browser shows it."""

import base64
import json
import re
import shutil
import sys
import webbrowser
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from safetensors.torch import load_file

from gsmflow.cli.main import main
from gsmflow.core.errors import InputError
from gsmflow.core.json_fields import Field
from gsmflow.core.rounding import fixed
from gsmflow.core.run_files import METRICS_FILE
from gsmflow.data.extract.record import RECORD_FILE
from gsmflow.evaluation.metrics import confusion_counts, per_class_accuracy
from gsmflow.evaluation.per_class import write_confusion, write_per_class
from gsmflow.evaluation.protocol import Outcome, evaluate
from gsmflow.learning.softmax import SoftmaxClassifier, SoftmaxPair
from gsmflow.reports import figures
from gsmflow.reports.page.document import pack, read_run
from gsmflow.reports.page.gallery import PictureSource
from gsmflow.reports.page.projection import project
from gsmflow.reports.page.render import render_page
from gsmflow.reports.page_data import (
    Answers,
    ClassShifts,
    FeatureSample,
    PageData,
    pick_answers,
    read_page_data,
    thin_curve,
    write_page_data,
)
from gsmflow.reports.tables import section_lines
from gsmflow.runs.job import Job, RunResult
from gsmflow.runs.sections import REPORTS
from gsmflow.runs.seeds import run_seeds
from tests.browser import Shown, accessibility_problems, launched_browser, pages_in
from tests.builders import always_calibrated, make_dataset, tiny_recipe, write_gbu

# Text that a page without escaping would take for markup.
NAMES = (
    "<img src=x onerror=alert(1)>",
    "</script><script>alert(2)</script>",
    "\"quoted\" & 'quoted'",
    "größe 花 {{ data }}",
    "a, b",
    "<!--",
    "&lt;b&gt;",
    "constructor",
    "__proto__",
    "plain",
)


@dataclass(frozen=True)
class Runs:
    """Two seeds of a tiny recipe: their group's folder, and each one's scores on test rows."""

    folder: Path
    outcomes: list[Outcome]


def evaluate_again(result: RunResult) -> Outcome:
    """The scores of a finished run, from the classifier that it wrote and the data."""
    kept = load_file(result.directory / "classifier.safetensors")
    problem = result.problem
    gzsl, zsl = (
        SoftmaxClassifier(kept[f"{which}.weight"], kept[f"{which}.bias"], classes)
        for which, classes in (("gzsl", problem.classes), ("zsl", problem.unseen_classes))
    )
    return evaluate(SoftmaxPair(result.fitted.scaled.scaling, gzsl, zsl), problem, result.held_out)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    root = tmp_path_factory.mktemp("runs")
    write_gbu(root / "data" / "TINY", replace(make_dataset(noise=1.0), class_names=NAMES))
    asked = {"oracle": True, "test_selected": True, "top_k": 2, "curve_every": 2}
    asked |= {"shots": (0, 1, 3), "shot_draws": 2}
    recipe = tiny_recipe(root, run="group", seeds=2, **asked)
    outcomes: list[Outcome] = []
    with pytest.MonkeyPatch.context() as patch, always_calibrated():
        patch.setattr(figures, "save_figure", lambda figure, path, dpi=120: None)
        run_seeds(
            Job(recipe),
            Console(quiet=True),
            on_result=lambda result: outcomes.append(evaluate_again(result)),
        )
    return Runs(root / "out" / "TINY" / "group", outcomes)


@pytest.fixture
def one(runs: Runs, tmp_path: Path) -> Path:
    """A run's directory that may be changed."""
    return Path(shutil.copytree(runs.folder / "seed0", tmp_path / "run"))


def unpacked(packed: dict[str, str]) -> np.ndarray:
    kinds = {"Uint16": "<u2", "Int32": "<i4", "Float32": "<f4", "Float64": "<f8"}
    return np.frombuffer(base64.b64decode(packed["data"]), kinds[packed["type"]])


def edit_json(file: Path, change: Callable[[Any], object]) -> None:
    value = json.loads(file.read_text())
    change(value)
    file.write_text(json.dumps(value))


# --- what is read --------------------------------------------------------------------------------


def test_figures_are_those_of_the_metrics(one: Path) -> None:
    metrics = json.loads((one / "metrics.json").read_text())
    document = read_run(one, REPORTS)
    rows = {row["method"]: row for row in document["rows"]}
    kinds = {name: row["kind"] for name, row in rows.items()}
    oracle = "oracle (real unseen rows)"
    expected = {"ESZSL": "baseline", "Gaussian prototypes": "baseline"}
    assert kinds == expected | {"GSMFlow": "model", oracle: "oracle"}
    sources = metrics["baselines"] | {"GSMFlow": metrics, oracle: metrics["oracle"]}
    for name, source in sources.items():
        figures = dict(zip(document["columns"], rows[name]["figures"], strict=True))
        for measure in ("T1", "U", "S", "H", "AUSUC"):
            assert figures[measure] == {"mean": 100 * source[measure], "std": None}
        for measure in ("U", "S", "H"):
            calibrated = source["calibrated"]
            expected_figure = calibrated and {"mean": 100 * calibrated[measure], "std": None}
            assert figures[f"{measure} cal."] == expected_figure
    assert document["extra"] == section_lines(Field(Path(METRICS_FILE), "", metrics), REPORTS)
    assert document["extra"][1].startswith("SELECTED ON TEST")


def test_several_seeds_are_one_document(runs: Runs) -> None:
    document = read_run(runs.folder, REPORTS)
    metrics = json.loads((runs.folder / "metrics.json").read_text())
    assert document["seeds"] == [0, 1]
    assert [part["name"] for part in document["parts"]] == ["seed 0", "seed 1"]
    model = next(row for row in document["rows"] if row["kind"] == "model")
    found = dict(zip(document["columns"], model["figures"], strict=True))["H"]
    assert found["mean"] == pytest.approx(100 * np.mean(metrics["H"]["values"]))
    assert found["std"] == pytest.approx(100 * np.std(metrics["H"]["values"], ddof=1))
    for part, folder in zip(document["parts"], ("seed0", "seed1"), strict=True):
        alone = read_run(runs.folder / folder, REPORTS)
        assert part == alone["parts"][0]
        assert part["missing"] == {}


def spread(values: list[float]) -> dict[str, float]:
    """Mean and standard deviation in percent, computed anew."""
    return {"mean": 100 * np.mean(values), "std": 100 * np.std(values, ddof=1)}


def few_shot_of(folder: Path) -> dict[str, Any]:
    metrics: dict[str, Any] = json.loads((folder / "metrics.json").read_text())
    by_k: dict[str, Any] = metrics["few_shot"]
    return by_k


def draws_of(by_k: dict[str, Any]) -> dict[str, dict[str, list[float]]]:
    """The values of the draws, for each k, by the column of the page's table."""
    return {
        k: {name: record[name]["values"] for name in ("T1", "U", "S", "H", "AUSUC")}
        | {"H cal.": record["calibrated"]["H"]["values"]}
        for k, record in by_k.items()
    }


def assert_few_shot(
    document: dict[str, Any], draws: dict[str, dict[str, list[float]]], shares: list[Any]
) -> None:
    """A table of few-shot figures equals the values of the draws."""
    assert document["columns"] == ("k", "T1", "U", "S", "H", "AUSUC", "H cal.", "real")
    assert [row[0] for row in document["rows"]] == list(draws) == ["0", "1", "3"]
    for row, of_k, share in zip(document["rows"], draws.values(), shares, strict=True):
        figures = dict(zip(document["columns"], row, strict=True))
        for name, values in of_k.items():
            assert len(values) == document["draws"]
            assert figures[name] == pytest.approx(spread(values))
        assert figures["real"] == share


def test_few_shot_figures_are_those_of_the_draws(runs: Runs) -> None:
    document = read_run(runs.folder, REPORTS)
    alone = [few_shot_of(runs.folder / f"seed{seed}") for seed in (0, 1)]
    for part, by_k in zip(document["parts"], alone, strict=True):
        shares = [{"mean": 100 * by_k[k]["share"], "std": None} for k in "13"]
        assert_few_shot(part["few_shot"], draws_of(by_k), [None, *shares])
        assert part["few_shot"]["draws"] == 2
    first, second = map(draws_of, alone)
    together = {k: {name: first[k][name] + second[k][name] for name in first[k]} for k in first}
    shares = [pytest.approx(spread([by_k[k]["share"] for by_k in alone])) for k in "13"]
    assert_few_shot(document["few_shot"], together, [None, *shares])
    assert document["few_shot"]["draws"] == 4


def test_run_without_labelled_rows_has_no_few_shot_figures(one: Path) -> None:
    edit_json(one / "metrics.json", lambda metrics: metrics.pop("few_shot"))
    document = read_run(one, REPORTS)
    assert document["few_shot"] is None
    assert document["parts"][0]["few_shot"] is None
    assert document["parts"][0]["missing"] == {}


def test_command_line_of_the_run_is_on_the_page(one: Path) -> None:
    (part,) = read_run(one, REPORTS)["parts"]
    assert part["command"]
    assert "command" not in part["environment"]
    assert part["recipe"]["dataset"] == "TINY"


@pytest.mark.parametrize(
    ("files", "missing"),
    [
        (["page_data.safetensors"], {"answers", "reliability", "map"}),
        (["page_data.safetensors", "confusion.csv"], {"answers", "reliability", "counts", "map"}),
        (["per_class.csv"], {"classes", "answers", "reliability", "counts", "map"}),
        (["history.json"], {"history"}),
        (["environment.json"], {"environment", "command"}),
    ],
)
def test_page_explains_what_an_older_run_lacks(
    one: Path, files: list[str], missing: set[str]
) -> None:
    for file in files:
        (one / file).unlink()
    (part,) = read_run(one, REPORTS)["parts"]
    assert set(part["missing"]) == missing
    for name, sentence in part["missing"].items():
        assert sentence.endswith(".")
        assert part.get(name) is None


def test_every_loss_part_has_a_column_and_an_axis(one: Path) -> None:
    records = [{"epoch": 1, "critic": -1.0, "penalty": 0.5}, {"epoch": 2, "critic": 2, "vae": 900}]
    (one / "history.json").write_text(json.dumps(records))
    (part,) = read_run(one, REPORTS)["parts"]
    assert part["history"] == {
        "epoch": [1, 2],
        "critic": [-1, 2],
        "penalty": [0.5, None],
        "vae": [None, 900],
    }
    assert part["loss_axes"] == [
        {"parts": ("critic",), "title": "critic loss", "logarithmic": False},
        {"parts": ("penalty",), "title": "penalty loss", "logarithmic": False},
        {"parts": ("vae",), "title": "vae loss", "logarithmic": False},
    ]


def test_seconds_of_the_stages_are_a_table(show: Callable[..., Shown], one: Path) -> None:
    records = [
        {"event": "stage", "stage": "few_shot", "seconds": 6},
        {
            "event": "stage",
            "stage": "final training",
            "seconds": 3,
            "epochs": 2,
            "epoch_seconds": 1,
        },
        {"event": "stage", "stage": "report", "seconds": 0.01},
        {"event": "stage", "stage": "other", "seconds": 0.99},
    ]
    (one / "log.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    (part,) = read_run(one, REPORTS)["parts"]
    assert part["stages"] == [
        {"name": "few-shot", "seconds": 6, "share": 0.6, "seconds_per_epoch": None},
        {"name": "final training", "seconds": 3, "share": 0.3, "seconds_per_epoch": 0.5},
        {"name": "other", "seconds": 1, "share": 0.1, "seconds_per_epoch": None},
    ]
    rows = show(one).page.locator("#stages tr").all_inner_texts()
    assert [row.split("\t") for row in rows] == [
        ["stage", "seconds", "percent", "seconds per epoch"],
        ["few-shot", "6.00", "60.0", ""],
        ["final training", "3.00", "30.0", "0.500"],
        ["other", "1.00", "10.0", ""],
        ["all", "10.00", "100.0", ""],
    ]


def test_run_of_an_older_version_has_no_table_of_stages(
    show: Callable[..., Shown], one: Path
) -> None:
    (one / "log.jsonl").unlink()
    (part,) = read_run(one, REPORTS)["parts"]
    assert part["stages"] is None
    assert part["missing"] == {}
    assert not show(one).page.locator("#stages-body").is_visible()


def test_run_without_validation_or_shifts_has_a_page(one: Path) -> None:
    def change(metrics: dict[str, Any]) -> None:
        metrics.update(validation=None, calibrated=None, baselines={})
        del metrics["shifts"], metrics["oracle"], metrics["test_selected"], metrics["top_k"]
        del metrics["novelty"], metrics["reliability"]

    edit_json(one / "metrics.json", change)
    file = one / "page_data.safetensors"
    write_page_data(file, replace(read_page_data(file, len(NAMES)), probabilities=None))
    document = read_run(one, REPORTS)
    (part,) = document["parts"]
    assert set(part["missing"]) == {"reliability", "validation", "shifts"}
    assert part["gamma"] is None
    assert document["extra"] == []
    assert [row["figures"][-1] for row in document["rows"]] == [None]


def test_run_that_synthesizes_nothing_has_a_page(show: Callable[..., Shown], one: Path) -> None:
    file = one / "page_data.safetensors"
    page_data = read_page_data(file, len(NAMES))
    write_page_data(file, replace(page_data, sample=None, shifts={}))
    put("shifts", {})(one)
    (one / "history.json").write_text("[]")
    (part,) = read_run(one, REPORTS)["parts"]
    assert part["missing"] == {}
    page = show(one).page
    for section in ("map", "training", "shifts"):
        assert not page.is_visible(f"#{section}")
        assert not page.is_visible(f'nav a[href="#{section}"]')
    assert page.is_visible("#stages")


def test_single_point_of_validation_is_a_table_without_a_curve(
    show: Callable[..., Shown], one: Path
) -> None:
    metrics = json.loads((one / "metrics.json").read_text())
    point = metrics["validation"]["curve"][-1]
    put("validation.curve", [point])(one)
    page = show(one).page
    assert page.is_visible("#history")
    assert not page.is_visible("#validation-chart")
    (row,) = table(page, "#validation-table")
    assert row[0] == str(point["epoch"])
    assert fixed(100 * point["H_calibrated"]) in row


def in_words(page: Any) -> list[str]:
    found: list[str] = page.locator("#says li").all_inner_texts()
    return found


def test_words_say_how_many_pictures_are_right(show: Callable[..., Shown], runs: Runs) -> None:
    outcome = runs.outcomes[0]
    folder = runs.folder / "seed0"
    gamma = json.loads((folder / "metrics.json").read_text())["calibrated"]["gamma"]
    page = show(folder).page
    point = asdict(outcome.calibrated(gamma))
    unseen, seen, extremes = in_words(page)
    for text, kind, share in ((unseen, "unseen", point["U"]), (seen, "seen", point["S"])):
        whole, right = map(int, re.findall(r"\d+", text)[:2])
        assert 0 < right < whole in (10, 100, 1000)
        assert right == round(whole * share)
        assert text.startswith(f"Of {whole} new pictures of {kind} classes, {right} ")
        assert f"({fixed(100 * share)} %)" in text
    classes, accuracy = per_class_accuracy(outcome.labels, outcome.predictions(gamma))
    by_name = {NAMES[c]: a for c, a in zip(classes, accuracy, strict=True)}
    unseen_names = [NAMES[c] for c in outcome.unseen_classes]
    best, worst = extremes.split("it knows ")[1].split(" best, and ")
    for text, pick in ((best, max), (worst, min)):
        share = pick(by_name[name] for name in unseen_names)
        assert any(text.startswith(name) for name in unseen_names if by_name[name] == share)
    page.fill("#gamma-number", "1e6")
    assert in_words(page) == [unseen, seen, extremes]


def test_frequency_is_all_or_none_only_where_it_is(show: Callable[..., Shown], runs: Runs) -> None:
    page = show(runs.folder / "seed0").page
    for share, said in (
        (0.7, ["of 10", "7"]),
        (0.04, ["of 100", "4"]),
        (0.97, ["of 100", "97"]),
        (0.999, ["of 1000", "999"]),
        (1, ["of 10", "10"]),
        (0, ["of 10", "0"]),
        (0.9999, ["of many", "nearly all"]),
        (0.0001, ["of many", "hardly any"]),
    ):
        assert page.evaluate("share => frequency(share)", share) == said


def test_research_figures_are_folded_until_they_are_asked_for(
    browser: Any, tmp_path: Path, runs: Runs
) -> None:
    with pages_in(browser, tmp_path) as show_page:
        page = show_page(render_page(read_run(runs.folder / "seed0", REPORTS))).page
        assert page.is_visible("#words")
        assert not page.is_visible("#headline")
        page.click('nav a[href="#map"]')
        assert page.is_visible("#map-canvas")
        page.evaluate("document.getElementById('research').open = false")
        assert not page.is_visible("#map-canvas")
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert page.is_visible("#headline")
        page.evaluate("dispatchEvent(new Event('afterprint'))")
        assert not page.is_visible("#headline")
        page.click("#research > summary")
        assert becomes(page, "charts.has('curve')")


def put(name: str, value: Any) -> Callable[[Path], object]:
    """A change of a field of the metrics, at a path such as ``calibrated.U``."""

    def change(metrics: Any) -> None:
        *above, last = name.split(".")
        for part in above:
            metrics = metrics[part]
        metrics[last] = value

    return lambda folder: edit_json(folder / "metrics.json", change)


def write(name: str, content: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(content)


def cut(name: str) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: len(content) // 2])

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (shutil.rmtree, "found no such folder, expected the directory of a finished run"),
        (lambda folder: (folder / "metrics.json").unlink(), "found a run that is not finished"),
        (write("ablation.json", "{}"), "found the runs of an ablation"),
        (cut("metrics.json"), "metrics.json: not readable"),
        (write("metrics.json", "[]"), "metrics.json: found list, expected an object"),
        (put("U", 1.5), "field 'U': found 1.5, expected a number at most 1"),
        (
            put("calibrated.gamma", "x"),
            "field 'calibrated.gamma': found 'x', expected a number",
        ),
        (put("baselines.ESZSL.S", None), "field 'baselines.ESZSL.S': found nothing"),
        (put("test_selected.H", {}), "field 'test_selected.H.mean': found nothing"),
        (put("validation.curve", [{"epoch": 1}]), "field 'validation.curve': found list"),
        (put("shifts.GSMFlow", 3), "field 'shifts.GSMFlow': found 3, expected an object"),
        (put("few_shot", {}), "field 'few_shot': found dict, expected the figures of a run with"),
        (put("few_shot.<b>", {}), "field 'few_shot': found dict, expected numbers of labelled"),
        (put("few_shot.1", 3), "field 'few_shot.1': found 3, expected an object"),
        (
            put("few_shot.1.T1.mean", 2),
            "field 'few_shot.1.T1.mean': found 2, expected a number at most 1",
        ),
        (put("few_shot.3.U.std", "x"), "field 'few_shot.3.U.std': found 'x', expected a number"),
        (put("few_shot.3.calibrated.H", True), "field 'few_shot.3.calibrated.H': found True"),
        (
            put("few_shot.3.share", -1),
            "field 'few_shot.3.share': found -1, expected a number at least 0",
        ),
        (put("few_shot.1.H.values", [0.5]), "field 'few_shot.1.H.values': found list, expected"),
        (put("seeds", "all"), "field 'seeds': found 'all', expected a list"),
        (put("seeds", [7]), "found no such folder"),
        (write("history.json", '[{"epoch": 1, "likelihood": "x"}]'), "field '[0].likelihood'"),
        (write("history.json", '[{"epoch": 1, "likelihood": NaN}]'), "the number NaN"),
        (write("recipe.json", "3"), "recipe.json: found 3, expected an object"),
        (write("environment.json", "{"), "environment.json: not readable"),
        (write("log.jsonl", "{\n"), "log.jsonl: not readable"),
        (cut("page_data.safetensors"), "page_data.safetensors: not readable"),
        (write("per_class.csv", ""), "per_class.csv, line 1: found ''"),
        (cut("per_class.csv"), "per_class.csv"),
    ],
)
def test_damaged_run_gives_one_sentence_and_no_page(
    one: Path,
    capsys: pytest.CaptureFixture[str],
    change: Callable[[Path], object],
    message: str,
) -> None:
    change(one)
    with pytest.raises(SystemExit) as ended:
        main(["report", str(one)])
    assert ended.value.code == 2
    text = capsys.readouterr().err
    assert text.startswith(f"error: {one}")
    assert message in text
    assert text.count("\n") == 1
    assert not (one / "report.html").exists()


def test_answers_of_another_run_are_refused(one: Path) -> None:
    file = one / "page_data.safetensors"
    page_data = read_page_data(file, len(NAMES))
    fewer = Answers(**{name: values[1:] for name, values in vars(page_data.answers).items()})
    write_page_data(file, replace(page_data, answers=fewer, right=None, probabilities=None))
    with pytest.raises(InputError, match="found other numbers of rows than in"):
        read_run(one, REPORTS)
    write_page_data(file, replace(page_data, answers=fewer))
    with pytest.raises(InputError, match="differ in length from those that are right"):
        read_run(one, REPORTS)


# --- the map -------------------------------------------------------------------------------------


def two_heaps(count: int, dimensions: int = 5) -> FeatureSample:
    rng = np.random.default_rng(0)
    labels = np.arange(count) % 2
    points = rng.normal(size=(count, dimensions)) + 20 * labels[:, None]
    return FeatureSample(
        points=points.astype(np.float32),
        labels=labels.astype(np.int32),
        real=np.arange(count) < count // 2,
        shares=np.array([0.5, 0.25, 0.1, 0.1, 0.05], dtype=np.float32)[:dimensions],
    )


def test_pca_is_the_first_two_components() -> None:
    sample = two_heaps(20)
    points, axes = project(sample, "pca")
    np.testing.assert_array_equal(points, sample.points[:, :2])
    assert axes == (
        "first principal component, 50.0 % of the variance",
        "second principal component, 25.0 % of the variance",
    )
    line, _ = project(two_heaps(20, dimensions=1), "pca")
    assert line.shape == (20, 2)


@pytest.mark.parametrize("dimensions", [1, 5])
def test_tsne_keeps_neighbours_together(dimensions: int) -> None:
    sample = two_heaps(24, dimensions)
    points, axes = project(sample, "tsne")
    assert axes == ("t-SNE 1", "t-SNE 2")
    distances = np.linalg.norm(points[:, None] - points[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    np.testing.assert_array_equal(sample.labels[distances.argmin(axis=1)], sample.labels)
    np.testing.assert_array_equal(points, project(sample, "tsne")[0])
    assert project(two_heaps(3), "tsne")[0].shape == (3, 2)


def test_umap_is_used_if_it_is_installed(
    one: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(SystemExit) as ended:
        main(["report", str(one), "--map", "umap"])
    assert ended.value.code == 2
    assert "error: --map: found umap, which needs the package umap-learn" in capsys.readouterr().err

    class Reducer:
        def __init__(self, **options: Any) -> None:
            assert options == {"n_neighbors": 15, "random_state": 0}

        def fit_transform(self, points: np.ndarray) -> np.ndarray:
            return points[:, 1:3]

    stand_in = ModuleType("umap")
    stand_in.UMAP = Reducer  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "umap", stand_in)
    points, axes = project(two_heaps(40), "umap")
    np.testing.assert_array_equal(points, two_heaps(40).points[:, 1:3])
    assert axes == ("UMAP 1", "UMAP 2")


# --- the file ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["<u2", "<i4", "<f4", "<f8", ">f8"])
def test_packed_numbers_are_unpacked_to_the_same_bits(dtype: str) -> None:
    values = np.array([0, 1, 2, 65535, 0.1 if "f" in dtype else 3]).astype(dtype)
    np.testing.assert_array_equal(unpacked(pack(values)), values)


def test_command_writes_one_page(
    one: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda address: bool(opened.append(address)))
    main(["report", str(one)])
    page = one / "report.html"
    assert capsys.readouterr().out.startswith(f"page: {page} (")
    assert opened == []
    again = tmp_path / "new" / "page.html"
    main(["report", str(one), "--into", str(again), "--open"])
    assert again.read_bytes() == page.read_bytes()
    assert opened == [again.as_uri()]
    assert "warning: found no web browser" in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        main(["report", str(one), "--into", str(tmp_path)])
    assert ended.value.code == 2
    assert f"error: --into: found {tmp_path}, which" in capsys.readouterr().err


def test_page_carries_the_licence_of_the_charts(one: Path) -> None:
    page = render_page(read_run(one, REPORTS))
    for text in ("Chart.js v4", "Permission is hereby granted", "Jukka Kurkela"):
        assert text in page
    assert "sourceMappingURL" not in page
    assert "http-equiv" in page


# --- in a browser --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with launched_browser() as browser:
        yield browser


@pytest.fixture
def show(browser: Any, tmp_path: Path) -> Iterator[Callable[..., Shown]]:
    """Shows a run's page, offline and unfolded; asserts at the end that it had no errors."""
    with pages_in(browser, tmp_path) as show_page:

        def show_unfolded(
            folder: Path, pictures: PictureSource | None = None, **options: Any
        ) -> Shown:
            document = read_run(folder, REPORTS, pictures=pictures)
            shown = show_page(render_page(document), **options)
            shown.page.evaluate("openResearch()")
            # Charts follow the size of their places with the next frame.
            shown.page.evaluate(
                "new Promise((done) => requestAnimationFrame(() => setTimeout(done)))"
            )
            return shown

        yield show_unfolded


def becomes(page: Any, condition: str) -> bool:
    """Whether a condition of the page's script holds after some frames."""
    return bool(
        page.evaluate(
            "new Promise((done) => { const look = (frames) => {"
            f"const found = {condition}; if (found || !frames) done(found);"
            "else requestAnimationFrame(() => look(frames - 1)); }; look(600); })"
        )
    )


def tiles(page: Any) -> dict[str, float]:
    return {
        name: float(page.get_attribute(f"#value-{name}", "data-value")) for name in ("U", "S", "H")
    }


def assert_at(page: Any, outcome: Outcome, gamma: float) -> None:
    """All figures of the page at a gamma equal those of the scores."""
    expected_measures = asdict(outcome.calibrated(gamma))
    found = tiles(page)
    for name, value in found.items():
        assert value == pytest.approx(expected_measures[name], rel=1e-12, abs=1e-15)
        assert page.inner_text(f"#value-{name}") == fixed(100 * expected_measures[name])
    classes, accuracy = per_class_accuracy(outcome.labels, outcome.predictions(gamma))
    expected = {NAMES[c]: fixed(100 * a) for c, a in zip(classes, accuracy, strict=True)}
    lines = page.eval_on_selector_all(
        "#class-table tbody tr",
        "all => all.map(tr => [tr.cells[0].textContent, tr.querySelector('.share').textContent])",
    )
    assert dict(lines) == expected


@pytest.mark.parametrize("digits", [0, 1, 2])
def test_numbers_are_rounded_as_in_the_terminal(
    show: Callable[..., Shown], runs: Runs, digits: int
) -> None:
    rng = np.random.default_rng(0)
    draws = [*100 * rng.random(500), *-rng.random(9)]
    values = [*np.arange(-40, 40) / 16, *draws, 100 * 0.8225, 1e6]
    page = show(runs.folder / "seed0").page
    found = page.evaluate(
        "([values, digits]) => values.map((x) => fixed(x, digits))", [values, digits]
    )
    assert found == [fixed(value, digits) for value in values]


def test_gamma_changes_the_figures(show: Callable[..., Shown], runs: Runs) -> None:
    outcome, page = runs.outcomes[0], show(runs.folder / "seed0").page
    chosen = json.loads((runs.folder / "seed0" / "metrics.json").read_text())["calibrated"]
    assert_at(page, outcome, chosen["gamma"])
    answers = pick_answers(outcome, None)
    gaps = answers.seen_scores.astype(np.float64) - answers.unseen_scores
    for gamma in (-1e6, 0.1, *gaps[:3].tolist(), np.nextafter(gaps[0], np.inf)):
        page.fill("#gamma-number", repr(float(gamma)))
        assert_at(page, outcome, float(gamma))
    assert "not to be reported" in page.inner_text("#gamma-note")
    page.click("#gamma-none")
    assert_at(page, outcome, 0.0)
    page.click("#gamma-chosen")
    assert tiles(page)["H"] == pytest.approx(chosen["H"])


def test_slider_is_moved_by_keys(show: Callable[..., Shown], runs: Runs) -> None:
    outcome, page = runs.outcomes[0], show(runs.folder / "seed0").page
    page.focus("#gamma")
    seen, before = [], None
    for key in ("Home", "PageUp", "ArrowRight", "ArrowRight", "PageUp", "End"):
        page.keyboard.press(key)
        gamma = float(page.get_attribute("#gamma", "data-gamma"))
        assert before is None or gamma > before
        assert_at(page, outcome, gamma)
        spoken = page.get_attribute("#gamma", "aria-valuetext")
        assert f"H {page.inner_text('#value-H')}" in spoken
        seen.append(tiles(page)["S"])
        before = gamma
    assert seen == sorted(seen, reverse=True)
    assert seen[0] > seen[-1]


def table(page: Any, selector: str) -> list[list[str]]:
    """The cells of a table, opened first where it is folded away."""
    page.eval_on_selector(selector, "e => { e.closest('details').open = true }")
    page.wait_for_selector(f"{selector} table")
    return cells(page, selector)


def cells(page: Any, selector: str) -> list[list[str]]:
    """The cells of a table that is open."""
    found: list[list[str]] = page.eval_on_selector(
        f"{selector} tbody", "b => [...b.rows].map(r => [...r.cells].map(c => c.textContent))"
    )
    return found


def test_reliability_is_that_of_the_calibrated_answers(
    show: Callable[..., Shown], runs: Runs
) -> None:
    folder, outcome = runs.folder / "seed0", runs.outcomes[0]
    metrics = json.loads((folder / "metrics.json").read_text())
    page = show(folder).page
    gamma = metrics["calibrated"]["gamma"]
    right = outcome.predictions(gamma) == outcome.labels
    found = table(page, "#reliability-table")
    for side, rows in (("seen", outcome.row_is_seen), ("unseen", ~outcome.row_is_seen)):
        error = metrics["reliability"][f"ECE_{side}"]
        assert page.inner_text(f"#error-{side}") == fixed(100 * error)
        of_side = [line for line in found if line[0] == side]
        assert sum(int(line[4]) for line in of_side) == rows.sum()
        mean = sum(float(line[2]) * float(line[3]) for line in of_side) / 100
        _, accuracy = per_class_accuracy(
            outcome.labels[rows], np.where(right, outcome.labels, -1)[rows]
        )
        assert mean == pytest.approx(100 * accuracy.mean(), abs=0.5)
    points = drawn_points(page, "reliability-chart")
    assert len(points["seen rows"]) + len(points["unseen rows"]) == len(found)


def test_mistakes_are_those_of_the_confusion_matrix(show: Callable[..., Shown], runs: Runs) -> None:
    outcome, page = runs.outcomes[0], show(runs.folder / "seed0").page
    for gamma in (0.0, 1.5):
        page.fill("#gamma-number", str(gamma))
        counts = confusion_counts(outcome.labels, outcome.predictions(gamma), outcome.classes)
        names = [NAMES[c] for c in outcome.classes]
        expected = {
            (names[i], names[j]): counts[i, j]
            for i in range(len(names))
            for j in range(len(names))
            if i != j and counts[i, j]
        }
        found = {(a, b): int(rows) for a, b, rows, _ in table(page, "#mistakes")}
        assert found == expected
    assert len(expected) > 3


def test_matrix_is_read_by_keys(show: Callable[..., Shown], runs: Runs) -> None:
    outcome, page = runs.outcomes[0], show(runs.folder / "seed0").page
    page.click("#gamma-none")
    counts = confusion_counts(outcome.labels, outcome.predictions(), outcome.classes)
    names, totals = [NAMES[c] for c in outcome.classes], counts.sum(axis=1)

    def expect(i: int, j: int) -> None:
        text = page.inner_text("#matrix-readout")
        assert text.startswith(f"{names[i]} (")
        verdict = "right" if i == j else names[j]
        assert f"answered {verdict}" in text
        assert f": {counts[i, j]} of {totals[i]} rows" in text

    page.focus("#matrix")
    expect(0, 0)
    last = len(names) - 1
    for key, cell in (
        ("ArrowDown", (1, 0)),
        ("ArrowRight", (1, 1)),
        ("End", (1, last)),
        ("Shift+ArrowDown", (last, last)),
        ("+", (last, last)),
        ("ArrowLeft", (last, last - 1)),
        ("Home", (last, 0)),
        ("0", (last, 0)),
    ):
        page.keyboard.press(key)
        expect(*cell)
    picture = "canvas => canvas.toDataURL()"
    whole = page.eval_on_selector("#matrix", picture)
    page.click("#matrix-in")
    assert page.eval_on_selector("#matrix", picture) != whole
    page.click("#matrix-all")
    assert page.eval_on_selector("#matrix", picture) == whole
    page.fill("#matrix-class", names[4])
    expect(4, 4)
    page.click("#matrix-unseen")
    expect(7, 7)


def test_names_are_escaped(show: Callable[..., Shown], runs: Runs) -> None:
    page = show(runs.folder).page
    found = page.eval_on_selector_all(
        "#class-table th[scope=row]", "all => all.map(th => th.textContent)"
    )
    assert sorted(found) == sorted(NAMES)
    assert page.eval_on_selector_all("script", "all => all.length") == 3
    assert page.eval_on_selector_all("img", "all => all.length") == 0
    page.fill("#class-filter", "<IMG")
    assert page.eval_on_selector_all("#class-table tbody tr", "all => all.length") == 1


def test_underscores_of_names_are_spaces_at_which_they_wrap(
    show: Callable[..., Shown], one: Path
) -> None:
    long = "_".join(["great", "northern", "crested", "and", "very", "long", "named", "flycatcher"])
    for name in ("per_class.csv", "confusion.csv"):
        file = one / name
        if file.is_file():
            file.write_text(file.read_text().replace("constructor", long))
    page = show(one, viewport={"width": 400, "height": 900}).page
    assert long.replace("_", " ") in page.inner_text("#class-table")
    for table in ("#class-table", "#headline", "#mistakes table"):
        wide, room = page.eval_on_selector(
            table, "e => [e.scrollWidth, e.closest('.scroll').clientWidth]"
        )
        assert wide <= room, table


def test_another_seed_is_chosen(show: Callable[..., Shown], runs: Runs) -> None:
    page = show(runs.folder).page
    assert "±" in page.inner_text("#headline")
    for number, outcome in enumerate(runs.outcomes):
        page.select_option("#seed", str(number))
        page.click("#gamma-none")
        assert_at(page, outcome, 0.0)


def test_every_chart_is_drawn_and_has_a_text_alternative(
    show: Callable[..., Shown], runs: Runs
) -> None:
    page = show(runs.folder / "seed0").page
    charts = ("curve", "matrix", "map-canvas", "history", "validation", "variances")
    for canvas in (*charts, "shots-one-chart"):
        used = page.eval_on_selector(
            f"#{canvas}",
            "c => new Set(new Uint32Array(c.getContext('2d')"
            ".getImageData(0, 0, c.width, c.height).data.buffer)).size",
        )
        assert used > 10, canvas
        assert len(page.get_attribute(f"#{canvas}", "aria-label")) > 10
    for table_id in ("curve-table", "map-table", "history-table", "class-shift-table"):
        assert len(table(page, f"#{table_id}")) > 1
    epochs = [row[0] for row in table(page, "#validation-table")]
    assert epochs == ["2", "4"]


def test_loss_parts_are_lines_on_axes_that_suit_them(show: Callable[..., Shown], one: Path) -> None:
    records = [
        {"epoch": e, "critic": -1 / e, "penalty": 0.5 / e, "generator": e / 9, "vae": 900 + e}
        for e in range(1, 31)
    ]
    del records[4]["generator"]
    (one / "history.json").write_text(json.dumps(records))
    page = show(one).page
    lines = page.evaluate(
        "() => charts.get('history').data.datasets.map((dataset) => {"
        "  const scale = charts.get('history').scales[dataset.yAxisID];"
        "  return [dataset.label, dataset.data.map(({ x, y }) => [x, y]), scale.type,"
        "    scale.options.position, scale.options.title.text]; })"
    )
    signed, positive = ("linear", "left", "critic loss"), ("logarithmic", "right")
    axes = {
        "critic": signed,
        "penalty": (*positive, "penalty, generator loss"),
        "generator": (*positive, "penalty, generator loss"),
        "vae": ("linear", "right", "vae loss"),
    }
    for (name, points, *axis), (expected, its_axis) in zip(lines, axes.items(), strict=True):
        assert name == expected
        assert points == [[r["epoch"], r[name]] for r in records if name in r]
        assert tuple(axis) == its_axis
    rows = table(page, "#history-table")
    assert rows[4] == ["5", "-0.20000", "0.10000", "", "905.00"]


def drawn_points(page: Any, canvas: str) -> dict[str, list[list[float]]]:
    """k, mean and standard deviation of each point of a few-shot chart, by the line's name."""
    found: dict[str, list[list[float]]] = page.evaluate(
        "id => Object.fromEntries(charts.get(id).data.datasets.map("
        "({ label, data }) => [label, data.map(({ k, y, std }) => [k, y, std])]))",
        canvas,
    )
    return found


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_few_shot_figures_are_a_chart_and_a_table(
    show: Callable[..., Shown], runs: Runs, scheme: str
) -> None:
    page = show(runs.folder / "seed1", color_scheme=scheme).page
    text = page.inner_text("#few-shot")
    assert "In each of 2 draws, k rows of each unseen class, drawn from its test rows" in text
    assert "seed 1: mean ± standard deviation over 2 draws" in text
    assert "k = 0: the run's classifier" in text
    assert not page.is_visible("#shots-all")
    draws = draws_of(few_shot_of(runs.folder / "seed1"))
    points = drawn_points(page, "shots-one-chart")
    assert list(points) == ["T1", "H", "H cal."]
    for name, drawn in points.items():
        for point, (k, values) in zip(drawn, draws.items(), strict=True):
            assert point == pytest.approx([int(k), *spread(values[name]).values()])
    columns = page.eval_on_selector(
        "#shots-one-table thead", "h => [...h.rows[0].cells].map(c => c.textContent)"
    )
    for row, of_k in zip(cells(page, "#shots-one-table"), draws.values(), strict=True):
        for name, values in of_k.items():
            mean, std = spread(values).values()
            text = row[columns.index(name)]
            assert text == (f"{fixed(mean)} ± {fixed(std)}" if std else fixed(mean))
    page.focus("#few-shot-link")
    page.keyboard.press("Enter")
    assert page.evaluate("location.hash") == "#few-shot"


def test_tooltip_of_the_few_shot_chart_has_the_standard_deviation(
    show: Callable[..., Shown], one: Path
) -> None:
    put("few_shot.1.T1", {"mean": 0.5, "std": 0.2, "values": [0.3, 0.7]})(one)
    page = show(one).page
    x, y = page.evaluate(
        "() => { const { x, y } = charts.get('shots-one-chart').getDatasetMeta(0).data[1];"
        "return [x, y]; }"
    )
    page.hover("#shots-one-chart", position={"x": x, "y": y})
    text = page.evaluate(  # the chart follows the pointer some frames later
        "new Promise((done) => { const look = (frames) => {"
        "const { opacity, body } = charts.get('shots-one-chart').tooltip;"
        "if (opacity || !frames) done((body ?? []).flatMap(({ lines }) => lines));"
        "else requestAnimationFrame(() => look(frames - 1)); }; look(600); })"
    )
    assert "T1, k = 1: 50.0 ± 20.0" in text


def test_few_shot_figures_of_several_seeds_are_beside_the_chosen_one(
    show: Callable[..., Shown], runs: Runs
) -> None:
    page = show(runs.folder).page
    text = page.inner_text("#few-shot")
    assert "In each of 2 draws of a seed" in text
    assert "2 seeds: mean ± standard deviation over 4 draws" in text
    together = cells(page, "#shots-all-table"), drawn_points(page, "shots-all-chart")
    for seed in (1, 0):
        page.select_option("#seed", str(seed))
        assert f"seed {seed}: mean ± standard deviation" in page.inner_text("#shots-one")
        draws = draws_of(few_shot_of(runs.folder / f"seed{seed}"))
        means = [point[1] for point in drawn_points(page, "shots-one-chart")["T1"]]
        assert means == pytest.approx([spread(of_k["T1"])["mean"] for of_k in draws.values()])
        shown = cells(page, "#shots-all-table"), drawn_points(page, "shots-all-chart")
        assert shown == together


def test_standard_deviations_are_drawn(show: Callable[..., Shown], one: Path) -> None:
    for k in ("0", "1", "3"):
        put(f"few_shot.{k}.T1", {"mean": 0.5, "std": 0.2, "values": [0.3, 0.7]})(one)
        put(f"few_shot.{k}.H", {"mean": 0.6, "std": None, "values": [0.6, 0.6]})(one)
    page = show(one, color_scheme="light").page
    # Along the upright through T1 at k = 1, the blue of its line.
    blue = page.eval_on_selector(
        "#shots-one-chart",
        "c => { const chart = charts.get(c.id), ratio = c.width / c.clientWidth;"
        "const { x } = chart.getDatasetMeta(0).data[1];"
        "const { data } = c.getContext('2d').getImageData(ratio * x, 0, 1, c.height);"
        "return [27, 35, 65, 73].map((value) => {"
        "const offset = 4 * Math.round(ratio * chart.scales.y.getPixelForValue(value));"
        "return data[offset + 3] > 0 && data[offset + 2] > data[offset] + 60; }); }",
    )
    assert blue == [False, True, True, False]


def test_few_shot_chart_escapes_names(show: Callable[..., Shown], one: Path) -> None:
    name = NAMES[0] + NAMES[1]
    put("model", name)(one)
    page = show(one).page
    assert page.get_attribute("#shots-one-chart", "aria-label").startswith(f"{name}, seed 0: T1, H")
    assert page.eval_on_selector_all("img", "all => all.length") == 0


def test_single_draw_has_no_standard_deviation(show: Callable[..., Shown], one: Path) -> None:
    single = {"mean": 0.5, "std": None, "values": [0.5]}
    for k in ("0", "1", "3"):
        for name in ("T1", "U", "S", "H", "AUSUC", "calibrated.H"):
            put(f"few_shot.{k}.{name}", single)(one)
    page = show(one).page
    text = page.inner_text("#few-shot")
    assert "In one draw, k rows" in text
    assert "seed 0: one draw." in text
    assert "±" not in text
    assert cells(page, "#shots-one-table")[0] == ["0", *["50.0"] * 6, "–"]


def test_page_without_few_shot_figures_has_no_few_shot_section(
    show: Callable[..., Shown], one: Path
) -> None:
    edit_json(one / "metrics.json", lambda metrics: metrics.pop("few_shot"))
    page = show(one).page
    assert not page.is_visible("#few-shot")
    assert not page.is_visible("#few-shot-link")
    assert "Few-shot" not in page.inner_text("body")
    assert page.evaluate("[...charts.keys()].filter(id => id.startsWith('shots'))") == []


def test_page_of_an_older_run_names_what_is_missing(
    show: Callable[..., Shown], one: Path, runs: Runs
) -> None:
    (one / "page_data.safetensors").unlink()
    page = show(one).page
    assert not page.is_visible("#gamma")
    assert not page.is_visible("#map-canvas")
    assert "no page_data.safetensors" in page.inner_text("#tradeoff")
    mistakes = table(page, "#mistakes")
    outcome = runs.outcomes[0]
    assert sum(int(row[2]) for row in mistakes) == (outcome.predictions() != outcome.labels).sum()
    for file in ("per_class.csv", "history.json", "environment.json"):
        (one / file).unlink()
    bare = show(one).page
    assert "no per_class.csv" in bare.inner_text("#classes")
    assert bare.is_visible("#recipe")
    assert not bare.is_visible("#matrix")


@pytest.mark.parametrize("width", [400, 1400])
def test_nothing_is_wider_than_the_window(
    show: Callable[..., Shown], runs: Runs, width: int
) -> None:
    page = show(runs.folder, viewport={"width": width, "height": 800}).page
    page.eval_on_selector_all("details", "all => all.forEach(item => { item.open = true })")
    found = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert found == [width, width]
    outside = page.evaluate(
        "[...document.querySelectorAll('main *')].filter(item => !item.closest('.scroll') && "
        "item.getBoundingClientRect().right > innerWidth + 1).map(item => item.outerHTML)"
    )
    assert outside == []


def background(page: Any) -> str:
    return str(page.evaluate("getComputedStyle(document.body).backgroundColor"))


def test_theme_follows_the_system_until_the_button_is_pressed(
    show: Callable[..., Shown], runs: Runs
) -> None:
    page = show(runs.folder / "seed0", color_scheme="light").page
    light, picture = background(page), page.eval_on_selector("#curve", "c => c.toDataURL()")
    page.emulate_media(color_scheme="dark")
    dark = background(page)
    assert dark != light
    # The page receives the change event shortly after its style has changed.
    page.wait_for_selector('#theme[aria-pressed="true"]')
    assert page.eval_on_selector("#curve", "c => c.toDataURL()") != picture
    page.focus("#theme")
    page.keyboard.press("Enter")
    assert background(page) == light
    assert page.get_attribute("#theme", "aria-pressed") == "false"
    assert page.eval_on_selector("#curve", "c => c.toDataURL()") == picture


def test_reduced_motion_disables_animation(show: Callable[..., Shown], runs: Runs) -> None:
    page = show(runs.folder / "seed0", reduced_motion="reduce").page
    assert page.evaluate("getComputedStyle(document.documentElement).scrollBehavior") == "auto"
    assert page.evaluate("Chart.defaults.animation") is False


def test_axe_finds_no_accessibility_problem(
    show: Callable[..., Shown], runs: Runs, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(runs.folder, tmp_path / "group"))
    for seed in (0, 1):
        with_pictures(folder / f"seed{seed}")
    page = show(folder, PictureSource(), color_scheme="light").page
    page.evaluate("openCell(0, 0)")
    assert accessibility_problems(page) == []


def with_pictures(run: Path) -> Path:
    """Give a run pictures of its test rows, in a folder beside it, which it names; the folder."""
    file, folder = run / "page_data.safetensors", run.parent / "pictures"
    page_data = read_page_data(file, len(NAMES))
    names = {}
    for row, label in enumerate(page_data.answers.labels.tolist()):
        names[row] = f"{label}/{row}.png"
        (folder / names[row]).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (25 * label, 100, 200)).save(folder / names[row])
    write_page_data(file, replace(page_data, pictures=names))
    (run / RECORD_FILE).write_text(json.dumps({"pictures": str(folder)}))
    return folder


def tiles_of(page: Any, selector: str) -> list[tuple[str, str]]:
    """The picture file and the alternative text of each tile of a list."""
    found = page.eval_on_selector_all(f"{selector} img", "all => all.map(i => [i.title, i.alt])")
    return [(file, text) for file, text in found]


def test_pictures_follow_gamma_and_open_from_their_cell(
    show: Callable[..., Shown], one: Path, runs: Runs
) -> None:
    outcome = runs.outcomes[0]
    labels = outcome.labels.tolist()
    folder, gone = with_pictures(one), len(labels) - 1  # a row of an unseen class
    next(folder.rglob(f"{gone}.png")).unlink()
    page = show(one, PictureSource()).page
    unseen = set(outcome.unseen_classes.tolist())
    for gamma in (0.0, 1.5):
        page.fill("#gamma-number", str(gamma))
        for button in ("#gallery-wrong-all", "#gallery-right-all"):
            if page.is_visible(button):
                page.click(button)
        said = outcome.predictions(gamma).tolist()
        expected: dict[str, set[tuple[str, str]]] = {"wrong": set(), "right": set()}
        lacking = "right" if labels[gone] == said[gone] else "wrong"
        for row, (label, answer) in enumerate(zip(labels, said, strict=True)):
            position = outcome.classes.tolist().index(label)
            if label in unseen and row != gone:
                which = "right" if label == answer else "wrong"
                text = "right" if label == answer else NAMES[answer]
                expected[which].add((f"{position}/{row}.png", f"{NAMES[label]}, answered {text}"))
        for which, tiles_expected in expected.items():
            assert set(tiles_of(page, f"#gallery-{which}")) == tiles_expected
            count = len(tiles_expected)
            number = f"{count} of {count + 1}" if which == lacking else f"{count}"
            assert page.inner_text(f"#gallery-{which}-heading").endswith(f": {number}")
    assert f"{gone} of the {gone + 1} test pictures" in page.inner_text("#gallery-note")
    # What was drawn is what is shown.
    assert page.eval_on_selector("#gallery-right img", "i => i.naturalWidth") == 8
    page.select_option("#gallery-class", label=NAMES[labels[-1]])
    assert {text.split(",")[0] for _, text in tiles_of(page, "#gallery-right")} <= {
        NAMES[labels[-1]].split(",")[0]
    }
    counts = confusion_counts(outcome.labels, outcome.predictions(1.5), outcome.classes)
    c = int(np.argmax(counts.diagonal()))
    page.fill("#matrix-class", NAMES[outcome.classes[c]])
    page.focus("#matrix")
    page.keyboard.press("Enter")
    assert len(tiles_of(page, "#cell-pictures")) == counts[c, c] > 0
    assert f"{counts[c, c]} of {counts[c, c]} pictures are here" in page.inner_text("#cell-note")
    page.click("#matrix-all")
    wide = page.eval_on_selector("#matrix", "c => c.clientWidth")
    page.click("#matrix", position={"x": wide - 5, "y": wide - 5})
    last = int(said[gone] == labels[gone] == outcome.classes[-1])
    assert len(tiles_of(page, "#cell-pictures")) == counts[-1, -1] - last
    page.fill("#gamma-number", "0")
    assert tiles_of(page, "#cell-pictures") == []
    page.set_viewport_size({"width": 400, "height": 800})
    assert becomes(page, "document.documentElement.scrollWidth === 400")


def test_seeds_share_the_pictures_of_a_page(runs: Runs, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(runs.folder, tmp_path / "group"))
    for seed in (0, 1):
        with_pictures(folder / f"seed{seed}")
    document = read_run(folder, REPORTS, pictures=PictureSource())
    files = [part["gallery"]["files"] for part in document["parts"]]
    assert set(files[0]) == set(files[1]) == set(document["thumbnails"])
    assert read_run(folder, REPORTS)["thumbnails"] == {}


def test_command_notes_where_pictures_are_not_there(
    one: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def report(*words: str) -> str:
        main(["report", str(one), *words])
        return " ".join(capsys.readouterr().out.split())

    def refusal(folder: Path) -> str:
        with pytest.raises(SystemExit) as ended:
            main(["report", str(one), "--pictures", str(folder)])
        assert ended.value.code == 2
        return capsys.readouterr().err

    assert "note:" not in report()
    assert "does not know the names of its pictures" in refusal(tmp_path)
    folder = with_pictures(one)
    assert "note:" not in report()
    assert '"gallery": {"rows"' in (one / "report.html").read_text()
    moved = folder.rename(tmp_path / "moved")
    assert f"note: no pictures on the page: found no folder {folder}" in report()
    assert '"gallery": {"rows"' not in (one / "report.html").read_text()
    assert "note:" not in report("--pictures", str(moved))
    assert refusal(folder) == (
        f"error: --pictures: found no folder {folder}, expected that of the dataset's pictures\n"
    )
    empty = tmp_path / "empty"
    empty.mkdir()
    assert f"--pictures: found none of the dataset's pictures in {empty}" in refusal(empty)
    (one / RECORD_FILE).unlink()
    assert "the run has no record of their folder" in report()


def large_run(folder: Path, like: Path) -> None:
    """A run's directory with as many classes and test rows as CUB has."""
    rng = np.random.default_rng(0)
    classes, seen = np.arange(200), np.arange(150)
    labels = np.concatenate([classes, rng.integers(0, 200, 4531)])
    scores = rng.normal(size=(len(labels), 200)).astype(np.float32)
    scores[np.arange(len(labels)), labels] += 2
    outcome = Outcome.of_scores(scores, scores[labels >= 150, 150:], labels, classes, seen)
    names = [f"{c + 1:03}.Some_{c % 7}_Long_Named_Warbler" for c in classes]
    shutil.copytree(like, folder)
    write_per_class(folder / "per_class.csv", outcome, 0.5, names)
    write_confusion(folder / "confusion.csv", outcome, names)
    points = rng.normal(size=(4000, 50)).astype(np.float32)
    shifts = ClassShifts(rng.random(50), 1 + rng.random(200))
    page_data = PageData(
        answers=pick_answers(outcome, None),
        curves={name: thin_curve(outcome.curve()) for name in ("GSMFlow", "ESZSL")},
        sample=FeatureSample(
            points=points,
            labels=np.arange(4000, dtype=np.int32) % 50,
            real=np.arange(4000) < 2000,
            shares=np.full(50, 0.02, dtype=np.float32),
        ),
        shifts={"": shifts, "GSMFlow": shifts_of(rng)},
    )
    write_page_data(folder / "page_data.safetensors", page_data)


def shifts_of(rng: np.random.Generator) -> ClassShifts:
    return ClassShifts(rng.random(50), 1 + rng.random(200))


def test_two_hundred_classes_are_below_three_megabytes_and_legible(
    show: Callable[..., Shown], runs: Runs, tmp_path: Path
) -> None:
    folder = tmp_path / "large"
    large_run(folder, runs.folder / "seed0")
    assert len(render_page(read_run(folder, REPORTS)).encode()) < 1e6
    page = show(folder).page
    assert page.eval_on_selector_all("#class-table tbody tr", "all => all.length") == 200
    # Zoomed to a class, its line and column have names: there is ink left of the cells.
    page.fill("#matrix-class", "151.Some_3_Long_Named_Warbler")
    ink = page.eval_on_selector(
        "#matrix",
        "c => c.getContext('2d').getImageData(0, 200, 60, 300).data.some(value => value > 0)",
    )
    assert ink
