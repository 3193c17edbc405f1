import io
import itertools
import re
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich.console import Console

from gsmflow.core.json_fields import Field
from gsmflow.core.rounding import fixed
from gsmflow.core.run_files import METRICS_FILE
from gsmflow.evaluation.generation_shifts import ClassMoments, Consistency, RealClasses, Shifts
from gsmflow.evaluation.metrics import per_class_accuracy
from gsmflow.evaluation.per_class import ClassAnswers, answers_by_class
from gsmflow.evaluation.protocol import Outcome
from gsmflow.reports import figures as report
from gsmflow.reports.figures import image_grid, run_figure, shifts_figure
from gsmflow.reports.tables import result_table
from gsmflow.runs.sections import REPORTS

PLAIN = {"T1": 0.6012, "U": 0.5023, "S": 0.7034, "H": 0.5861, "AUSUC": 0.4456}
CALIBRATED = {"gamma": 1.5, "U": 0.5511, "S": 0.6622, "H": 0.6016}


def metrics(*, calibrated: bool, oracle: bool) -> dict[str, Any]:
    baseline = {"T1": 0.5512, "U": 0.1023, "S": 0.8034, "H": 0.1815, "AUSUC": 0.3966}
    calibrated_baseline = {"gamma": 0.1, "U": 0.4499, "S": 0.5588, "H": 0.4985}
    content = {
        "model": "GSMFlow",
        "dataset": "CUB",
        "features": "res101",
        "semantics": "sent",
        "seed": 4,
        "protocol": "last epoch; nothing chosen on test",
        **PLAIN,
        "calibrated": CALIBRATED if calibrated else None,
        "baselines": {"ESZSL": {**baseline, "calibrated": calibrated_baseline}},
    }
    if oracle:
        ceiling = {"T1": 0.9012, "U": 0.8123, "S": 0.7534, "H": 1.0, "AUSUC": 0.0}
        content["oracle"] = {**ceiling, "calibrated": None}
    return content


def printed(content: dict[str, Any], width: int = 120) -> str:
    console = Console(record=True, width=width, file=io.StringIO())
    console.print(result_table(Field(Path(METRICS_FILE), "", content), REPORTS))
    return console.export_text()


def cells(text: str) -> dict[str, list[str]]:
    """Rows of the table by their first cell."""
    rows = [line.split("│")[1:-1] for line in text.splitlines() if line.count("│") > 2]
    return {row[0].strip(): [cell.strip() for cell in row[1:]] for row in rows}


def test_table_shows_percent_of_every_method() -> None:
    text = printed(metrics(calibrated=True, oracle=True))
    assert cells(text) == {
        "ESZSL": ["55.1", "10.2", "80.3", "18.2", "39.7", "45.0", "55.9", "49.9"],
        "GSMFlow": ["60.1", "50.2", "70.3", "58.6", "44.6", "55.1", "66.2", "60.2"],
        "oracle (real unseen rows)": ["90.1", "81.2", "75.3", "100.0", "0.0", "-", "-", "-"],
    }
    for word in ("CUB", "res101", "sent", "seed 4", "percent", "nothing chosen on test"):
        assert word in text


def test_table_without_calibration_and_without_an_oracle() -> None:
    rows = cells(printed(metrics(calibrated=False, oracle=False)))
    assert list(rows) == ["ESZSL", "GSMFlow"]
    assert rows["GSMFlow"] == ["60.1", "50.2", "70.3", "58.6", "44.6", "-", "-", "-"]
    assert rows["ESZSL"][5:] == ["45.0", "55.9", "49.9"]


def test_table_header_names_the_columns() -> None:
    text = printed(metrics(calibrated=True, oracle=False))
    header = next(line for line in text.splitlines() if "method" in line)
    names = ["method", "T1", "U", "S", "H", "AUSUC", "U cal.", "S cal.", "H cal."]
    assert [cell.strip() for cell in header.split("┃")[1:-1]] == names


def test_table_fits_a_terminal_of_80_columns() -> None:
    content = metrics(calibrated=True, oracle=True)
    figures = [re.findall(r"\d+\.\d", printed(content, width=width)) for width in (80, 200)]
    assert figures[0] == figures[1]


def outcome(seed: int, lead: float) -> Outcome:
    """Scores of 8 seen and 4 unseen classes that lean towards the seen ones."""
    rng = np.random.default_rng(seed)
    classes, labels = np.arange(12), rng.integers(0, 12, 600)
    scores = rng.normal(size=(600, 12)) + lead * (labels[:, None] == classes)
    scores[:, :8] += 1
    return Outcome.of_scores(scores, scores[labels >= 8, 8:], labels, classes, classes[:8])


def history(epochs: int, *, prototype: bool) -> list[dict[str, float]]:
    steps = np.arange(1, epochs + 1)
    records = [{"epoch": int(e), "likelihood": float(3 * np.exp(-e / 9) - 2)} for e in steps]
    if prototype:
        for record in records:
            record["prototype"] = float(np.exp(-record["epoch"] / 5) + 1e-3)
    return records


def curve(epochs: tuple[int, ...]) -> list[dict[str, float]]:
    shares = {"T1": 0.6, "U": 0.2, "S": 0.7, "H": 0.31, "H_calibrated": 0.5, "AUSUC": 0.4}
    return [
        {"epoch": e, **{k: v * (1 - np.exp(-e / 8)) for k, v in shares.items()}} for e in epochs
    ]


def read_png(path: Path) -> NDArray[Any]:
    assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    pixels = np.asarray(matplotlib.image.imread(path))
    assert pixels.std() > 0.01, "an empty picture"
    return pixels


def ink(pixels: NDArray[Any], colour: tuple[int, int, int]) -> int:
    """Number of pixels of one of matplotlib's colours."""
    return int((np.abs(pixels[..., :3] * 255 - colour) < 2).all(axis=-1).sum())


BLUE, ORANGE = (31, 119, 180), (255, 127, 14)


@pytest.mark.parametrize(
    ("epochs", "prototype"), [((), True), ((20, 40), False), ((5, 10, 20, 40), True)]
)
def test_run_figure_is_a_png(tmp_path: Path, epochs: tuple[int, ...], prototype: bool) -> None:
    run_figure(
        tmp_path / "run.png",
        history=history(40, prototype=prototype),
        curve=curve(epochs),
        outcomes={"GSMFlow": (outcome(0, 2.0), 1.5), "ESZSL": (outcome(1, 1.5), None)},
    )
    pixels = read_png(tmp_path / "run.png")
    # 13 by 4 inches at 120 dots an inch, give or take the trimmed margins
    np.testing.assert_allclose(pixels.shape[:2], (480, 1560), atol=30)
    # The methods' curves start at the left of the last of three or of two panels.
    start = slice(1130, 1300) if epochs else slice(850, 1050)
    assert ink(pixels[:, start], BLUE) > 100
    assert ink(pixels[:, start], ORANGE) > 100


@pytest.mark.parametrize(
    ("epochs", "trained", "titles"),
    [
        ((40,), True, ["training losses", "accuracy of each unseen class", "S over U"]),
        ((), True, ["training losses", "accuracy of each unseen class", "S over U"]),
        ((0,), False, ["accuracy of each unseen class", "S over U"]),
        ((20, 40), True, ["training losses", "validation classes", "S over U"]),
    ],
)
def test_accuracies_of_unseen_classes_stand_where_there_is_no_validation_curve(
    monkeypatch: pytest.MonkeyPatch,
    epochs: tuple[int, ...],
    trained: bool,
    titles: list[str],
) -> None:
    figures: list[Figure] = []
    monkeypatch.setattr(report, "save_figure", lambda figure, path: figures.append(figure))
    model, names = outcome(0, 2.0), [f"class_{c}" for c in range(12)]
    run_figure(
        Path("run.png"),
        history=history(40, prototype=False) if trained else [],
        curve=curve(epochs),
        outcomes={"GSMFlow": (model, 1.5)},
        classes=answers_by_class(model, 1.5, names),
    )
    panels = figures[0].axes
    assert all(part in panel.get_title() for part, panel in zip(titles, panels, strict=True))
    if "accuracy of each unseen class" not in titles:
        return
    panel = panels[-2]
    classes, accuracy = per_class_accuracy(model.labels, model.predictions(1.5))
    expected = {f"class {c}": 100 * a for c, a in zip(classes, accuracy, strict=True) if c >= 8}
    shown = [text.get_text() for text in panel.get_yticklabels()]
    widths = [bar.get_width() for bar in panel.patches]
    assert dict(zip(shown, widths, strict=True)) == pytest.approx(expected)
    assert widths == sorted(widths, reverse=True)
    assert panel.get_xlabel().endswith(f"mean, U cal. {fixed(100 * model.calibrated(1.5).U)}")


def test_many_unseen_classes_have_bars_without_names(monkeypatch: pytest.MonkeyPatch) -> None:
    figures: list[Figure] = []
    monkeypatch.setattr(report, "save_figure", lambda figure, path: figures.append(figure))
    classes = [ClassAnswers(f"c{i}", "unseen", 5, i / 50, None, 0.5, None, None) for i in range(40)]
    none = ClassAnswers("without rows", "unseen", 0, None, None, None, None, None)
    run_figure(Path("run.png"), history=[], curve=[], outcomes={}, classes=[*classes, none])
    panel = figures[0].axes[0]
    assert panel.get_yticklabels() == []
    assert len(panel.patches) == 40
    assert panel.get_xlabel().endswith("mean, U 39.0")


def test_prototype_loss_has_a_separate_line(tmp_path: Path) -> None:
    orange = {}
    for prototype in (True, False):
        path = tmp_path / f"{prototype}.png"
        run_figure(path, history=history(40, prototype=prototype), curve=[], outcomes={})
        orange[prototype] = ink(read_png(path), ORANGE)
    assert orange[True] > 100 > orange[False]


GREEN, RED = (44, 160, 44), (214, 39, 40)


def test_every_loss_part_is_drawn_for_any_name(tmp_path: Path) -> None:
    records: list[dict[str, float]] = [
        {"epoch": e, "critic": -2 / e, "vae": 900 - 9.0 * e, "generator": e / 9 - 2, "mmd": 1 / e}
        for e in range(1, 30)
    ]
    for record in records[:10]:
        del record["generator"]
    path = tmp_path / "run.png"
    run_figure(path, history=records, curve=[], outcomes={})
    panel = read_png(path)[:, :650]
    for colour in (BLUE, ORANGE, GREEN, RED):
        # More than the line of the legend, which is 20 points long.
        assert ink(panel, colour) > 250, colour


def test_labels_of_several_axes_of_losses_lie_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    figures: list[Figure] = []
    monkeypatch.setattr(report, "save_figure", lambda figure, path: figures.append(figure))
    records = [
        {"epoch": e, "critic": -2 / e, "penalty": 0.04 / e**0.9, "vae": 9e3 - e, "long": 9.0 + e}
        for e in range(1, 30)
    ]
    run_figure(Path("run.png"), history=records, curve=[], outcomes={})
    (figure,) = figures
    figure.draw_without_rendering()
    losses = [panel for panel in figure.axes if "loss" in panel.get_ylabel()]
    boxes = [panel.yaxis.get_tightbbox() for panel in losses]
    assert len(boxes) == 4
    for left, right in itertools.pairwise(sorted(boxes, key=lambda box: box.x0)):
        assert left.x1 < right.x0


def test_run_of_one_epoch_still_shows_its_losses(tmp_path: Path) -> None:
    path = tmp_path / "run.png"
    run_figure(path, history=history(1, prototype=False), curve=[], outcomes={})
    # A single point lies in the middle of its panel, away from the legend.
    assert ink(read_png(path)[160:320, 250:500], BLUE) > 0


def digits(seed: int, count: int) -> NDArray[Any]:
    return np.random.default_rng(seed).random((count, 8, 16)).astype(np.float32)


@pytest.mark.parametrize(("real", "synthesized"), [(2, 3), (1, 1)])
def test_image_grid_is_a_png_in_a_new_folder(tmp_path: Path, real: int, synthesized: int) -> None:
    path = tmp_path / "new" / "grid.png"
    image_grid(path, {f"{i:02d}": (digits(i, real), digits(9 - i, synthesized)) for i in range(2)})
    read_png(path)
    assert [file.name for file in path.parent.iterdir()] == ["grid.png"]


def test_real_images_are_on_the_left_and_one_is_black(tmp_path: Path) -> None:
    black, white = np.ones((2, 8, 16), np.float32), np.zeros((2, 8, 16), np.float32)
    image_grid(tmp_path / "grid.png", {"0": (black, white), "1": (white, black)})
    dark = read_png(tmp_path / "grid.png")[..., :3].max(axis=-1) < 0.1
    height, width = dark.shape
    top_left, top_right = np.hsplit(dark[: height // 2, : width // 2 * 2], 2)
    bottom_left, bottom_right = np.hsplit(dark[height // 2 :, : width // 2 * 2], 2)
    assert top_left.sum() > 3 * top_right.sum()
    assert bottom_right.sum() > 3 * bottom_left.sum()


def make_shifts(seen: int, unseen: int, *, methods: int = 2, same: bool = False) -> dict[str, Any]:
    """Random shifts, or none at all; names of classes hold signs that formulae are made of."""
    rng = np.random.default_rng(seen + unseen)
    k = seen + unseen

    def moments() -> ClassMoments:
        return ClassMoments(rng.normal(size=(k, 5)), np.exp(rng.normal(size=k)))

    def consistency() -> Consistency:
        return Consistency(rng.random(unseen), rng.random(unseen))

    real = RealClasses(np.arange(unseen, k), np.arange(unseen), moments(), consistency())
    semantics = rng.normal(size=(k, 4)).astype(np.float32)
    shifts = {
        name: Shifts(
            real,
            20,
            real.moments if same else moments(),
            real.consistency if same else consistency(),
            semantics,
        )
        for name in ("GSMFlow", "Gaussian")[:methods]
    }
    names = tuple(f"{c:03d}.a_b_${c}" for c in range(k))
    return {"shifts": shifts, "class_names": names}


SHIFTS_BLUE, SHIFTS_ORANGE = (0, 114, 178), (230, 159, 0)


# Two unseen classes have one distance; beyond a hundred they are drawn without their names.
@pytest.mark.parametrize("unseen", [2, 10, 60, 120])
def test_shifts_figure_is_a_png_of_one_or_two_methods(tmp_path: Path, unseen: int) -> None:
    inks = []
    for methods in (1, 2):
        path = tmp_path / f"{methods}.png"
        shifts_figure(path, **make_shifts(unseen + 5, unseen, methods=methods))
        pixels = read_png(path)
        inks.append([ink(pixels, colour) for colour in (SHIFTS_BLUE, SHIFTS_ORANGE)])
        # A page's width at 200 dots an inch, and not higher than a page.
        np.testing.assert_allclose(pixels.shape[1], 1440, atol=80)
        assert pixels.shape[0] < 2250
    assert min(inks[0][0], *inks[1]) > 100 > inks[0][1]


def drawn_panels(monkeypatch: pytest.MonkeyPatch, **arguments: Any) -> list[Axes]:
    figures: list[Figure] = []
    monkeypatch.setattr(report, "save_figure", lambda figure, path, dpi: figures.append(figure))
    shifts_figure(Path("unused"), **arguments)
    return figures[0].axes


def points(panel: Axes, label: str) -> NDArray[Any]:
    """Where the points are whose name in the legend starts so, ``(n, 2)``."""
    (line,) = (line for line in panel.lines if str(line.get_label()).startswith(label))
    return np.asarray(line.get_xydata())


def legend(panel: Axes) -> list[str]:
    box = panel.get_legend()
    assert box is not None
    return [text.get_text() for text in box.get_texts()]


def test_consistency_of_each_class_is_beside_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = make_shifts(12, 7)
    panel = drawn_panels(monkeypatch, **arguments)[0]
    rows = [int(label.get_text()[:3]) for label in panel.get_yticklabels()]
    first = points(panel, "GSMFlow")
    assert sorted(rows) == list(range(7))
    assert first[:, 0].tolist() == sorted(first[:, 0], reverse=True)
    for method, shift in arguments["shifts"].items():
        found = points(panel, method)
        np.testing.assert_allclose(found[:, 0], 100 * shift.consistency.among_all[rows])
        np.testing.assert_array_equal(found[:, 1].round(), range(7))
    real = arguments["shifts"]["GSMFlow"].real.consistency.among_all
    np.testing.assert_allclose(points(panel, "real")[:, 0], 100 * real[rows])
    assert legend(panel)[0] == f"real rows, mean {fixed(100 * real.mean())}"


def test_variances_and_distances_are_plotted_against_the_real_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    arguments = make_shifts(12, 7)
    _, variances, distances = drawn_panels(monkeypatch, **arguments)
    for method, shift in arguments["shifts"].items():
        real, synthesized = shift.real.moments, shift.moments
        both = np.stack([real.variances, synthesized.variances], axis=1)
        np.testing.assert_array_equal(points(variances, f"{method}, seen"), both[:12])
        np.testing.assert_array_equal(points(variances, f"{method}, unseen"), both[12:])
        means = (real.means[12:], synthesized.means[12:])
        pairs = [[np.linalg.norm(m[a] - m[b]) for m in means] for a in range(7) for b in range(a)]
        found = points(distances, method)
        np.testing.assert_allclose(np.sort(found, axis=0), np.sort(pairs, axis=0))
    for panel in (variances, distances):
        assert panel.get_xlim() == panel.get_ylim()
        assert panel.get_xticks().tolist() == panel.get_yticks().tolist()


def test_legends_of_methods_with_zero_shift(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _, variances, distances = drawn_panels(monkeypatch, **make_shifts(6, 4, same=True))
    assert legend(variances)[:2] == ["GSMFlow, seen: ratio 1.00", "GSMFlow, unseen: ratio 1.00"]
    assert legend(distances)[1] == "Gaussian: rank correlation 1.00"
    *_, distances = drawn_panels(monkeypatch, **make_shifts(6, 2, same=True))
    assert legend(distances)[0] == "GSMFlow: rank correlation –"
