"""Few-shot figures of finished runs, in one table and one picture; and bad input."""

import io
import json
from pathlib import Path
from typing import Any

import matplotlib.image
import pytest
from matplotlib.axes import Axes
from rich.console import Console

from gsmflow.cli.few_shot import FewShotOptions, run_few_shot
from gsmflow.cli.main import main
from gsmflow.core.errors import InputError
from gsmflow.core.json_fields import Field
from gsmflow.reports import figures as report
from gsmflow.reports.few_shot import few_shot_draws, few_shot_figures
from gsmflow.reports.results import collect_runs
from gsmflow.runs.sections import REPORTS

FIGURES = {"T1": 0.5, "U": 0.25, "S": 0.75, "H": 0.375, "AUSUC": 0.3}


def over(value: float, std: float | None) -> dict[str, Any]:
    return {"mean": value, "std": std, "values": [value]}


def of_k(k: int, **changes: Any) -> dict[str, Any]:
    content = {name: over(value + k / 100, 0.02) for name, value in FIGURES.items()}
    calibrated = {"gamma": over(0.5, None), **{n: over(0.4, 0.01) for n in ("U", "S", "H")}}
    return {"share": 0.6 if k else None, **content, "calibrated": calibrated, **changes}


def put(folder: Path, **changes: Any) -> Path:
    content = {
        "model": "GSMFlow",
        "dataset": "CUB",
        "features": "res101",
        "semantics": "sent",
        "seed": 4,
        "protocol": "nothing chosen on test",
        **FIGURES,
        "calibrated": None,
        "baselines": {},
        "few_shot": {str(k): of_k(k) for k in (0, 1, 10)},
        **changes,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.json").write_text(json.dumps(content))
    return folder


def output(*runs: Path, picture: Path, width: int = 120) -> str:
    console = Console(record=True, width=width, file=io.StringIO(), markup=False, emoji=False)
    run_few_shot(FewShotOptions(runs=runs, picture=picture), console)
    return console.export_text()


def test_two_runs_are_in_one_table_and_one_picture(tmp_path: Path) -> None:
    plain = {str(k): of_k(k, share=None, calibrated=None) for k in (0, 5)}
    ours, theirs = put(tmp_path / "a"), put(tmp_path / "b", model="CADA-VAE", few_shot=plain)
    picture = tmp_path / "both.png"
    lines = output(ours, theirs, picture=picture).splitlines()
    rows = [line.split() for line in lines if line.startswith((" GSMFlow", " CADA", "GSM", "CADA"))]
    assert rows == [
        ["GSMFlow", "0", "50.0", "25.0", "75.0", "37.5", "30.0", "40.0", "-"],
        ["GSMFlow", "1", "51.0", "26.0", "76.0", "38.5", "31.0", "40.0", "60.0"],
        ["GSMFlow", "10", "60.0", "35.0", "85.0", "47.5", "40.0", "40.0", "60.0"],
        ["CADA-VAE", "0", "50.0", "25.0", "75.0", "37.5", "30.0", "-", "-"],
        ["CADA-VAE", "5", "55.0", "30.0", "80.0", "42.5", "35.0", "-", "-"],
    ]
    assert matplotlib.image.imread(picture).std() > 0.05


def test_picture_shows_means_and_bands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Axes] = []
    monkeypatch.setattr(report, "save_figure", lambda figure, path: drawn.extend(figure.axes))
    output(put(tmp_path / "a"), picture=tmp_path / "p.png")
    gzsl, zsl = drawn
    (h, h_calibrated), (t1,) = gzsl.get_lines(), zsl.get_lines()
    assert list(h.get_ydata()) == pytest.approx([37.5, 38.5, 47.5])
    assert list(h_calibrated.get_ydata()) == pytest.approx([40.0] * 3)
    assert list(t1.get_ydata()) == pytest.approx([50.0, 51.0, 60.0])
    assert [text.get_text() for text in zsl.get_xticklabels()] == ["0", "1", "10"]
    band = zsl.collections[0].get_paths()[0].get_extents()
    assert (band.ymin, band.ymax) == pytest.approx((48.0, 62.0))


def test_names_of_runs_differ(tmp_path: Path) -> None:
    runs = [put(tmp_path / "a"), put(tmp_path / "b"), put(tmp_path / "c", semantics="att")]
    text = "".join(output(*runs, picture=tmp_path / "p.png", width=240).split())
    for name in (f"GSMFlow,sent({runs[0]})", f"GSMFlow,sent({runs[1]})", "GSMFlow,att"):
        assert name in text


@pytest.mark.parametrize("width", [40, 60, 120])
def test_table_fits_its_console(tmp_path: Path, width: int) -> None:
    text = output(put(tmp_path / "a"), picture=tmp_path / "p.png", width=width)
    table = [line for line in text.splitlines() if not line.startswith("picture: ")]
    assert max(map(len, table[: table.index("") if "" in table else None])) <= max(width, 60)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"few_shot": None}, "field 'few_shot': found nothing, expected the figures of a run with"),
        ({"few_shot": {}}, "field 'few_shot': found dict, expected the figures of a run with"),
        ({"few_shot": [1]}, "field 'few_shot': found list, expected an object"),
        ({"few_shot": {"many": of_k(1)}}, "field 'few_shot': found .*, expected numbers of label"),
        (
            {"few_shot": {"1": {"T1": 2}}},
            r"field 'few_shot\.1\.T1': found 2, expected a number at most 1",
        ),
        ({"few_shot": {"1": of_k(1, H=None)}}, r"field 'few_shot\.1\.H': found nothing, expected"),
        ({"dataset": "FLO"}, "field 'dataset': found 'FLO', expected CUB, of which the first"),
    ],
)
def test_run_that_cannot_be_shown_is_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    first, second = put(tmp_path / "a"), put(tmp_path / "b", **changes)
    with pytest.raises(InputError, match=rf"b/metrics\.json, {message}"):
        output(first, second, picture=tmp_path / "p.png")
    assert not (tmp_path / "p.png").exists()


def test_command_ends_with_2_on_bad_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cases = {
        (): "RUNS: found none, expected",
        (str(tmp_path / "none"),): "metrics.json: no such file, expected the directory of a fini",
        (str(put(tmp_path / "a")), "--picture", str(tmp_path)): "which cannot be written (",
    }
    for words, message in cases.items():
        with pytest.raises(SystemExit) as end:
            main(["few-shot", *words])
        assert end.value.code == 2
        assert message in capsys.readouterr().err


def test_results_have_a_row_for_each_number_of_rows(tmp_path: Path) -> None:
    put(tmp_path / "CUB" / "a")
    put(tmp_path / "CUB" / "b")
    rows = [row for row in collect_runs(tmp_path, REPORTS).rows if row.kind == "few-shot"]
    assert [(row.run, row.shots) for row in rows] == [(r, k) for r in "ab" for k in (0, 1, 10)]
    assert rows[2].figures["T1"].mean == pytest.approx(60.0)
    assert rows[2].figures["T1"].std == pytest.approx(2.0)
    assert rows[2].figures["H_calibrated"].mean == pytest.approx(40.0)


def test_figures_are_read_from_a_single_draw() -> None:
    content = {"few_shot": {"3": {"share": None, "calibrated": None}}}
    content["few_shot"]["3"] |= {name: over(value, None) for name, value in FIGURES.items()}
    (point,) = few_shot_figures(Field(Path("m"), "", content)).values()
    assert point.figures["H"].std is None


def with_values(*of_all: Any) -> Field:
    """Metrics whose H has these values for k = 0, 1, and so on."""
    by_k = {str(k): of_k(k, H={"mean": 0.5, "values": values}) for k, values in enumerate(of_all)}
    return Field(Path("m"), "", {"few_shot": by_k})


def test_draws_are_counted() -> None:
    assert few_shot_draws(with_values([0.4, 0.5, 0.6], [0.5, 0.5, 0.5])) == 3
    assert few_shot_draws(with_values([0.5])) == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (with_values([0.5], 3), r"few_shot\.1\.H\.values': found 3, expected a list"),
        (with_values([0.5], None), r"few_shot\.1\.H\.values': found nothing, expected a list"),
        (with_values([]), r"few_shot\.0\.H\.values': found list, expected a figure of each draw"),
        (
            with_values([0.5], [0.4, 0.6]),
            r"few_shot\.1\.H\.values': found list, .* as many for each",
        ),
        (
            Field(Path("m"), "", {"few_shot": {"1": {"H": 0.5}}}),
            r"few_shot\.1\.H': found 0\.5, expect",
        ),
    ],
)
def test_damaged_draws_are_refused(content: Field, message: str) -> None:
    with pytest.raises(InputError, match=rf"m, field '{message}"):
        few_shot_draws(content)
