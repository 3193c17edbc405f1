import csv
import io
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from gsmflow.cli.main import main
from gsmflow.cli.results import ResultsOptions, run_results
from gsmflow.core.errors import InputError
from gsmflow.core.tables import MeanStd
from gsmflow.reports.results import Row, collect_runs, render_csv
from gsmflow.runs.sections import REPORTS

PUBLISHED = Path(__file__).resolve().parents[2] / "gsmflow" / "reports" / "published.csv"
MODEL = {"T1": 0.6012, "U": 0.5023, "S": 0.7034, "H": 0.5861, "AUSUC": 0.4456}
CALIBRATED = {"gamma": 1.5, "U": 0.5511, "S": 0.6622, "H": 0.6016}
ESZSL = {"T1": 0.5512, "U": 0.1023, "S": 0.8034, "H": 0.1815, "AUSUC": 0.3966}
CEILING = {"T1": 0.9012, "U": 0.8123, "S": 0.7534, "H": 0.7817, "AUSUC": 0.7}
BEST = {"T1": 0.6512, "U": 0.5523, "S": 0.7534, "H": 0.6374}
PERCENT = {name: 100 * value for name, value in MODEL.items()} | {"H_calibrated": 60.16}


def metrics_of(**changes: Any) -> dict[str, Any]:
    """What a single run's ``metrics.json`` holds."""
    return {
        "model": "GSMFlow",
        "dataset": "CUB",
        "features": "res101",
        "semantics": "sent",
        "seed": 4,
        "protocol": "last epoch; nothing chosen on test",
        **MODEL,
        "calibrated": CALIBRATED,
        "baselines": {"ESZSL": {**ESZSL, "calibrated": CALIBRATED, "choices": {"T1": {"lam": 1}}}},
        "validation": None,
        **changes,
    }


def over_seeds(value: Any, std: float) -> Any:
    """The same where every number is one over three seeds."""
    if isinstance(value, dict):
        return {name: over_seeds(part, std) for name, part in value.items()}
    if isinstance(value, float):
        return {"mean": value, "std": std, "values": [value - std, value, value + std]}
    return value


def metrics_of_seeds(std: float = 0.02, **changes: Any) -> dict[str, Any]:
    one = metrics_of(**changes)
    baselines = over_seeds(one["baselines"], 0.0)
    del one["seed"]
    return {**over_seeds(one, std), "baselines": baselines, "seeds": [0, 1, 2]}


def put(folder: Path, content: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / "metrics.json").write_text(text, encoding="latin-1")


def rows_of(folder: Path, kind: str) -> list[Row]:
    collection = collect_runs(folder, REPORTS)
    assert not collection.warnings
    return [row for row in collection.rows if row.kind == kind]


def means(row: Row) -> dict[str, float]:
    return {name: round(figure.mean, 6) for name, figure in row.figures.items()}


def output(folder: Path, width: int = 120, **options: Any) -> str:
    console = Console(record=True, width=width, file=io.StringIO(), markup=False, emoji=False)
    run_results(ResultsOptions(folder=folder, **options), console)
    return console.export_text()


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def read_markdown(path: Path) -> list[dict[str, str]]:
    lines = [line for line in path.read_text().splitlines() if line.startswith("|")]
    header, _, *rows = ([c.strip() for c in line.split(" | ")] for line in lines)
    names = [name.strip("| ") for name in header]
    return [dict(zip(names, [c.strip("| ") for c in row], strict=True)) for row in rows]


def test_run_is_a_row_in_percent(tmp_path: Path) -> None:
    put(tmp_path / "CUB" / "first", metrics_of())
    (row,) = rows_of(tmp_path, "run")
    assert means(row) == {name: pytest.approx(value) for name, value in PERCENT.items()}
    assert all(figure.std is None for figure in row.figures.values())
    assert (row.method, row.run, row.dataset, row.seeds) == ("GSMFlow", "first", "CUB", 1)
    assert (row.features, row.semantics) == ("res101", "sent")
    assert row.protocol == "last epoch; nothing chosen on test"
    assert row.source == str(tmp_path / "CUB" / "first" / "metrics.json")


def test_run_without_unseen_test_rows_has_blanks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unknown = dict.fromkeys(("T1", "U", "H", "AUSUC"))
    seen_only = metrics_of(
        **unknown, calibrated={**CALIBRATED, "U": None, "H": None}, baselines={}, shifts={}
    )
    put(tmp_path / "CUB" / "first", seen_only)
    seeds = {"seeds": [0, 1], "S": {"mean": 0.5, "std": 0.1, "values": [0.4, 0.6]}}
    put(tmp_path / "CUB" / "seeds", seen_only | seeds)
    main(["results", str(tmp_path), "--no-published", "--into", str(tmp_path / "tables")])
    assert "warning" not in capsys.readouterr().out
    first, other = csv.DictReader((tmp_path / "tables" / "CUB.csv").read_text().splitlines())
    assert (first["S"], other["S"], other["S_std"]) == ("70.34", "50.0", "10.0")
    for row in (first, other):
        assert {row[name] for name in (*unknown, "H_calibrated", "T1_std")} == {""}
    put(tmp_path / "CUB" / "first", seen_only | {"U": 0.5})
    (warning,) = collect_runs(tmp_path, REPORTS).warnings
    assert "field 'T1': found nothing" in warning


def test_run_without_calibration_has_no_calibrated_figure(tmp_path: Path) -> None:
    put(tmp_path / "CUB" / "first", metrics_of(calibrated=None))
    (row,) = rows_of(tmp_path, "run")
    assert "H_calibrated" not in row.figures


@pytest.mark.parametrize(
    ("below", "name"),
    [
        ("", "old/first"),
        ("old", "first"),
        ("old/CUB", "first"),
        ("old/CUB/first", "first"),
    ],
)
def test_run_is_found_from_any_folder_above_it(tmp_path: Path, below: str, name: str) -> None:
    put(tmp_path / "old" / "CUB" / "first", metrics_of())
    assert [row.run for row in rows_of(tmp_path / below, "run")] == [name]


def test_unfinished_runs_and_hidden_folders_are_not_listed(tmp_path: Path) -> None:
    put(tmp_path / "CUB" / "first", metrics_of())
    put(tmp_path / "CUB" / ".second.17.part", metrics_of())
    (tmp_path / "CUB" / "third").mkdir()
    assert [row.run for row in rows_of(tmp_path, "run")] == ["first"]


def test_several_seeds_are_one_row_and_single_runs_below_are_not_listed(tmp_path: Path) -> None:
    put(tmp_path / "CUB" / "three", metrics_of_seeds())
    for seed in range(3):
        put(tmp_path / "CUB" / "three" / f"seed{seed}", metrics_of(seed=seed))
    (row,) = rows_of(tmp_path, "run")
    assert (row.run, row.seeds) == ("three", 3)
    assert means(row) == {name: pytest.approx(value) for name, value in PERCENT.items()}
    assert {round(figure.std or 0, 6) for figure in row.figures.values()} == {2.0}


def test_single_runs_of_an_unfinished_run_of_several_seeds_are_rows(tmp_path: Path) -> None:
    put(tmp_path / "CUB" / "three" / "seed0", metrics_of())
    assert [row.run for row in rows_of(tmp_path, "run")] == ["three/seed0"]


def test_one_seed_has_no_deviation(tmp_path: Path) -> None:
    put(tmp_path / "CUB" / "one", metrics_of_seeds(0.0) | {"seeds": [7]})
    (row,) = rows_of(tmp_path, "run")
    assert row.seeds == 1
    assert all(figure.std is None for figure in row.figures.values())


@pytest.mark.parametrize("with_metrics", [False, True])
def test_every_variant_of_an_ablation_is_a_row(tmp_path: Path, with_metrics: bool) -> None:
    study = tmp_path / "CUB" / "study"
    for variant in ("full", "no_perturbation"):
        put(study / variant, metrics_of_seeds())
        put(study / variant / "seed0", metrics_of())
    (study / "ablation.json").write_text("{}")
    if with_metrics:
        put(study, metrics_of())
    rows = rows_of(tmp_path, "run")
    assert [(row.run, row.seeds) for row in rows] == [
        ("study/full", 3),
        ("study/no_perturbation", 3),
    ]


def test_baseline_that_is_equal_in_all_runs_has_one_row(tmp_path: Path) -> None:
    put(tmp_path / "CUB" / "first", metrics_of())
    put(tmp_path / "CUB" / "second", metrics_of(T1=0.7, seed=5))
    put(tmp_path / "CUB" / "three", metrics_of_seeds())
    (row,) = rows_of(tmp_path, "baseline")
    assert (row.method, row.run, row.seeds) == ("ESZSL", "", None)
    assert means(row)["H"] == 18.15
    assert means(row)["H_calibrated"] == 60.16
    assert all(figure.std is None for figure in row.figures.values())


def test_baseline_that_differs_has_a_row_for_each_run(tmp_path: Path) -> None:
    gaussian = {**ESZSL, "T1": 0.4, "calibrated": None}
    put(tmp_path / "CUB" / "first", metrics_of())
    put(tmp_path / "CUB" / "second", metrics_of(baselines={"ESZSL": {**ESZSL, "H": 0.2}}))
    put(tmp_path / "CUB" / "third", metrics_of(baselines={"Gaussian prototypes": gaussian}))
    rows = rows_of(tmp_path, "baseline")
    assert [(row.method, row.run, means(row)["H"]) for row in rows] == [
        ("ESZSL", "first", 18.15),
        ("ESZSL", "second", 20.0),
        ("Gaussian prototypes", "", 18.15),
    ]


@pytest.mark.parametrize("changed", ["features", "semantics", "dataset"])
def test_baseline_has_a_row_for_each_input(tmp_path: Path, changed: str) -> None:
    put(tmp_path / "CUB" / "first", metrics_of())
    put(tmp_path / "CUB" / "second", metrics_of(**{changed: "OTHER"}))
    rows = rows_of(tmp_path, "baseline")
    assert [getattr(row, changed) for row in rows] == [getattr(rows[0], changed), "OTHER"]


def test_oracle_is_merged_in_the_same_way(tmp_path: Path) -> None:
    put(tmp_path / "CUB" / "first", metrics_of(oracle={**CEILING, "calibrated": None}))
    put(tmp_path / "CUB" / "second", metrics_of(oracle=None))
    put(tmp_path / "CUB" / "third", metrics_of(oracle={**CEILING, "calibrated": None}))
    (row,) = rows_of(tmp_path, "oracle")
    assert (row.run, means(row)["T1"]) == ("", 90.12)
    put(tmp_path / "CUB" / "third", metrics_of(oracle={**CEILING, "T1": 0.89, "calibrated": None}))
    rows = rows_of(tmp_path, "oracle")
    assert [(row.run, means(row)["T1"]) for row in rows] == [("first", 90.12), ("third", 89.0)]


def test_figures_selected_on_test_have_separate_rows(tmp_path: Path) -> None:
    put(tmp_path / "CUB" / "first", metrics_of(test_selected={**BEST, "epoch": 3, "curve": []}))
    put(tmp_path / "CUB" / "three", metrics_of_seeds(test_selected=BEST))
    comparable = rows_of(tmp_path, "run")
    assert [means(row)["H"] for row in comparable] == [58.61, 58.61]
    rows = rows_of(tmp_path, "selected on test")
    assert [(row.run, row.seeds) for row in rows] == [("first", 1), ("three", 3)]
    for row in rows:
        assert means(row) == {"T1": 65.12, "U": 55.23, "S": 75.34, "H": 63.74}
        assert row.protocol.startswith("selected on test")
    assert {figure.std for figure in rows[1].figures.values()} == {2.0}


def test_table_has_separate_sections_for_selected_on_test_and_published(tmp_path: Path) -> None:
    put(tmp_path / "CUB" / "first", metrics_of(test_selected=BEST))
    text = output(tmp_path)
    sections = text.split("─" * 100)
    assert "58.6" in sections[1]
    assert "63.7" not in sections[1]
    assert "selected on" in sections[2]
    assert "63.7" in sections[2]
    assert "58.6" not in sections[2]
    assert "CADA-VAE" in sections[3]
    assert "selected on test" in text.split("1: ")[1], "the protocol stands among the notes"


DAMAGED: dict[str, tuple[Any, str]] = {
    "empty": ("", "not readable"),
    "torn": ('{"model": "GSMFlow",', "not readable"),
    "binary": ("\xff\xfe", "not readable"),
    "list": ([], "list"),
    "null": ("null", "nothing"),
    "foreign": ({"accuracy": 0.9}, "'model'"),
    "no model": ({k: v for k, v in metrics_of().items() if k != "model"}, "'model'"),
    "no seed": ({k: v for k, v in metrics_of().items() if k != "seed"}, "'seed'"),
    "text": (metrics_of(H="0.5"), "'H': found '0.5', expected a number"),
    "truth": (metrics_of(H=True), "'H': found True"),
    "percent": (metrics_of(U=50.2), "'U': found 50.2"),
    "negative": (metrics_of(S=-0.1), "'S'"),
    "nan": (metrics_of(T1=float("nan")), "the number NaN"),
    "null figure": (metrics_of(AUSUC=None), "'AUSUC': found nothing"),
    "list figure": (metrics_of(AUSUC=[0.1]), "'AUSUC': found list"),
    "no mean": (metrics_of(T1={"std": 0.1}), "'T1.mean'"),
    "wild std": (metrics_of(T1={"mean": 0.5, "std": "big"}), "'T1.std'"),
    "name": (metrics_of(features=7), "'features': found 7"),
    "blank": (metrics_of(semantics=" "), "'semantics'"),
    "path": (metrics_of(dataset="../CUB"), "'dataset'"),
    "up": (metrics_of(dataset=".."), "'dataset'"),
    "seed": (metrics_of(seed="0"), "'seed'"),
    "seeds": (metrics_of(seeds=3), "'seeds'"),
    "no seeds": (metrics_of(seeds=[]), "'seeds'"),
    "calibrated": (metrics_of(calibrated=0.5), "'calibrated': found 0.5"),
    "calibrated H": (metrics_of(calibrated={"gamma": 1.0}), "'calibrated.H'"),
    "baselines": (metrics_of(baselines=[]), "'baselines': found list"),
    "baseline": (metrics_of(baselines={"ESZSL": {**ESZSL, "H": None}}), "'baselines.ESZSL.H'"),
    "oracle": (metrics_of(oracle={"T1": 0.5}), "'oracle.U'"),
    "selected": (metrics_of(test_selected={"T1": 0.5, "U": 0.1, "S": 2}), "'test_selected.S'"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damaged_file_is_left_out_with_a_sentence(tmp_path: Path, case: str) -> None:
    content, word = DAMAGED[case]
    put(tmp_path / "CUB" / "bad", content)
    put(tmp_path / "CUB" / "good", metrics_of())
    collection = collect_runs(tmp_path, REPORTS)
    assert {row.run for row in collection.rows if row.kind == "run"} == {"good"}
    (warning,) = collection.warnings
    assert warning.startswith(str(tmp_path / "CUB" / "bad" / "metrics.json"))
    assert word in warning
    assert "expected" in warning
    lines = output(tmp_path, published=False).splitlines()
    assert lines[0] == f"warning: {warning}; left out"
    assert any("good" in line for line in lines)


def test_unrelated_file_above_the_runs_does_not_hide_them(tmp_path: Path) -> None:
    put(tmp_path, {"loss": 0.1})
    put(tmp_path / "CUB" / "first", metrics_of())
    collection = collect_runs(tmp_path, REPORTS)
    assert [row.run for row in collection.rows if row.kind == "run"] == ["first"]
    assert len(collection.warnings) == 1


def test_area_that_rounds_up_is_accepted(tmp_path: Path) -> None:
    put(tmp_path / "CUB" / "first", metrics_of(AUSUC=1.0000000000000002))
    assert len(rows_of(tmp_path, "run")) == 1


@pytest.mark.parametrize("content", [None, "{"])
def test_folder_without_a_finished_run_is_refused(tmp_path: Path, content: str | None) -> None:
    (tmp_path / "CUB").mkdir()
    if content is not None:
        put(tmp_path / "CUB" / "bad", content)
    with pytest.raises(InputError, match=f"^{tmp_path}: found no finished run"):
        run_results(ResultsOptions(folder=tmp_path), Console(quiet=True))


def test_table_for_each_dataset_that_is_asked_for(tmp_path: Path) -> None:
    for name in ("CUB", "DIGITS", "SUN"):
        put(tmp_path / name / "first", metrics_of(dataset=name))
    titles = [line.split(" ·")[0] for line in output(tmp_path).splitlines() if " · " in line]
    assert titles == ["CUB", "DIGITS", "SUN"]
    text = output(tmp_path, datasets="SUN, CUB")
    titles = [line.split(" ·")[0] for line in text.splitlines() if " · " in line]
    assert titles == ["SUN", "CUB"]
    with pytest.raises(InputError, match="--datasets: found 'FLO', expected one or more of CUB,"):
        output(tmp_path, datasets="FLO")


def test_published_figures_are_of_the_same_dataset_and_can_be_left_out(tmp_path: Path) -> None:
    put(tmp_path / "CUB" / "first", metrics_of())
    put(tmp_path / "DIGITS" / "first", metrics_of(dataset="DIGITS"))
    run_results(ResultsOptions(folder=tmp_path, into=tmp_path / "all"), Console(quiet=True))
    options = ResultsOptions(folder=tmp_path, published=False, into=tmp_path / "runs")
    run_results(options, Console(quiet=True))
    rows = {
        (folder, name): read_csv(tmp_path / folder / f"{name}.csv")
        for folder in ("all", "runs")
        for name in ("CUB", "DIGITS")
    }
    published = [row for row in rows["all", "CUB"] if row["kind"] == "published"]
    source = [row for row in read_csv(PUBLISHED) if row["dataset"] == "CUB"]
    assert len(published) == len(source) > 0
    for ours, theirs in zip(published, source, strict=True):
        for name in ("method", "dataset", "features", "semantics", "source"):
            assert ours[name] == theirs[name]
        for name in ("T1", "U", "S", "H"):
            assert ours[name] == (str(round(float(theirs[name]), 2)) if theirs[name] else "")
        assert ours["venue"] == f"{theirs['venue']} {theirs['year']}".strip()
        assert theirs["figures"] in ours["protocol"]
        assert "best on test" in ours["protocol"]
    for folder, name in [("all", "DIGITS"), ("runs", "CUB"), ("runs", "DIGITS")]:
        assert {row["kind"] for row in rows[folder, name]} == {"run", "baseline"}


def test_all_figures_fit_100_columns(tmp_path: Path) -> None:
    put(tmp_path / "CUB" / "20260102-030405-seed0", metrics_of(features="resnet_logits"))
    put(tmp_path / "CUB" / "three", metrics_of_seeds(0.12, features="resnet_logits", S=1.0))
    text = {width: output(tmp_path, width) for width in (100, 200)}
    assert max(map(len, text[100].splitlines())) <= 100
    count = {width: Counter(text[width].split()) for width in text}
    for word in ("58.6", "±12.0", "100.0", "60.2", "unstated", "resnet_logits"):
        assert count[100][word] == count[200][word] > 0
    assert "…" not in text[100]


def test_files_hold_the_table(tmp_path: Path) -> None:
    put(tmp_path / "out" / "CUB" / "a_run_", metrics_of(test_selected=BEST))
    put(tmp_path / "out" / "CUB" / "three", metrics_of_seeds())
    into = tmp_path / "new" / "tables"
    for _ in range(2):  # a second time over the existing files
        text = output(tmp_path / "out", published=False, into=into)
    assert str(into) in text
    assert sorted(file.name for file in into.iterdir()) == ["CUB.csv", "CUB.md", "CUB.tex"]

    table = {(row["kind"], row["run"]): row for row in read_csv(into / "CUB.csv")}
    assert set(table) == {
        ("baseline", ""),
        ("run", "a_run_"),
        ("run", "three"),
        ("selected on test", "a_run_"),
    }
    row = table["run", "three"]
    assert (row["method"], row["seeds"], row["H"], row["H_std"]) == ("GSMFlow", "3", "58.61", "2.0")
    assert row["protocol"] == "last epoch; nothing chosen on test"
    row = table["run", "a_run_"]
    assert (row["seeds"], row["H_calibrated"], row["H_calibrated_std"]) == ("1", "60.16", "")
    assert table["selected on test", "a_run_"]["AUSUC"] == ""

    rows = read_markdown(into / "CUB.md")
    assert [(row["method"], row["run or venue"], row["H"], row["note"]) for row in rows] == [
        ("ESZSL", "", "18.1", "1"),
        ("GSMFlow", r"a_run\_", "58.6", "2"),
        ("GSMFlow", "three (3 seeds)", "58.6 ± 2.0", "2"),
        ("", "", "", ""),
        ("GSMFlow (selected on test)", r"a_run\_", "63.7", "3"),
    ]
    notes = [line for line in (into / "CUB.md").read_text().splitlines() if line.startswith("- ")]
    assert notes[1] == "- 2: last epoch; nothing chosen on test"
    assert notes[2].startswith("- 3: selected on test")
    assert notes[3] == "- ±: standard deviation over seeds"

    lines = (into / "CUB.tex").read_text().splitlines()
    assert sum(line == r"\midrule" for line in lines) == 2
    (line,) = [line for line in lines if "three" in line]
    assert r"& $58.6 \pm 2.0$ &" in line


def test_csv_quotes_special_characters() -> None:
    row = Row("run", "D", "f", "s", 'a, "b"\nc', "p", {"T1": MeanStd(50.0)})
    header, line = csv.reader(io.StringIO(render_csv([row])))
    assert dict(zip(header, line, strict=True))["method"] == 'a, "b"\nc'


def test_output_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    put(tmp_path / "CUB" / "first", metrics_of())
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=f"--into: found {tmp_path / 'file'}"):
        output(tmp_path, into=tmp_path / "file")


def test_command_prints_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(tmp_path / "CUB" / "first", metrics_of())
    main(["results", str(tmp_path), "--no-published"])
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "first" in line]
    words = ["GSMFlow", "first", "res101", "sent", "60.1", "50.2", "70.3", "58.6", "44.6", "60.2"]
    assert line.split() == [*words, "2"]


@pytest.mark.parametrize("folder", ["empty", "missing"])
def test_command_ends_with_code_2_without_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], folder: str
) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(SystemExit) as ended:
        main(["results", str(tmp_path / folder)])
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith(f"error: {tmp_path / folder}: ")


def test_help_lists_the_flags(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["results", "--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    for flag in ("--datasets", "--no-published", "--into"):
        assert flag in text
