"""What a page shows of a run, read from its directory into one JSON document."""

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from gsmflow.core.errors import InputError
from gsmflow.core.files import read_json
from gsmflow.core.json_fields import Field
from gsmflow.core.json_records import as_record, read_record
from gsmflow.core.run_files import (
    ABLATION_FILE,
    ENVIRONMENT_FILE,
    LOG_FILE,
    METRICS_FILE,
    RECIPE_FILE,
)
from gsmflow.evaluation.balance import GammaChoice
from gsmflow.evaluation.measures import metrics_in
from gsmflow.evaluation.per_class import ClassAnswers, read_confusion, read_per_class
from gsmflow.evaluation.probabilities import calibration_error, reliability_bins
from gsmflow.reports.class_names import readable_name
from gsmflow.reports.loss_axes import loss_axes, loss_parts
from gsmflow.reports.metric_values import read_metrics
from gsmflow.reports.metrics_file import open_metrics
from gsmflow.reports.page.gallery import PictureSource, make_gallery
from gsmflow.reports.page.projection import MapName, project
from gsmflow.reports.page_data import (
    PAGE_DATA_FILE,
    Answers,
    ClassShifts,
    FeatureSample,
    PageData,
    read_page_data,
)
from gsmflow.reports.run_list import no_finished_run
from gsmflow.reports.section import SectionReport, table_rows
from gsmflow.reports.stage_seconds import fold_stages, read_stages
from gsmflow.reports.tables import section_lines

__all__ = ["pack", "read_run"]

# Numbers as the page's script reads them: little endian.
_PACKED = {"<u2": "Uint16", "<i4": "Int32", "<f4": "Float32", "<f8": "Float64"}


def read_run(
    directory: Path,
    reports: Sequence[SectionReport],
    method: MapName = "pca",
    pictures: PictureSource | None = None,
) -> dict[str, Any]:
    """Read a run, or the runs of several seeds or class splits, as a document of the page's script.

    Parameters
    ----------
    directory
        A run directory.
    reports
        Of the sections that the page shows.
    method
        How the map of features is made.
    pictures
        Where the test pictures are; None for a page without them.

    Returns
    -------
    dict
        JSON-ready; its ``parts`` are one run each. What a part has none of is None there. A
        sentence in its ``missing`` says why, unless such a run has none by its nature.

    Raises
    ------
    InputError
        If there is no finished run, one of its files is damaged, or the folder of pictures has
        none of them.
    """
    metrics = _open_metrics(directory)
    seeds, splits = _numbers(metrics["seeds"]), _numbers(metrics["class_splits"])
    folders = [directory]
    if seeds is not None:
        # Of each class split the first seed alone: a page of all runs would be too large to open.
        folders = (
            [directory / f"seed{seed}" for seed in seeds]
            if splits is None
            else [_first_run(directory / f"split{split}") for split in splits]
        )
    parts = [_read_part(folder, _open_metrics(folder), method, reports) for folder in folders]
    thumbnails = {} if pictures is None else _add_pictures(folders, parts, pictures)
    over = f"{len(seeds)} seeds" if seeds is not None else None
    over_seeds = [report for report in reports if report.page_of_seeds]
    return {
        "run": directory.resolve().name,
        "model": metrics["model"].text(),
        "dataset": metrics["dataset"].text(),
        "features": metrics["features"].text(),
        "semantics": metrics["semantics"].text(),
        "protocol": metrics["protocol"].text(),
        "seeds": seeds,
        "over": over if splits is None else f"{len(splits)} random class splits",
        **_headline(metrics, reports),
        # A single run is a part alone.
        **(dict.fromkeys([r.key for r in over_seeds]) if seeds is None else {}),
        **({} if seeds is None else _sections(metrics, over_seeds)),
        "thumbnails": thumbnails,
        "parts": parts,
    }


def _add_pictures(
    folders: Sequence[Path], parts: Sequence[dict[str, Any]], source: PictureSource
) -> Mapping[str, str]:
    """Put the pictures of each part into it; their thumbnails by name."""
    pictures = [
        read_page_data(folder / PAGE_DATA_FILE, len(part["classes"])).pictures
        if part.get("answers") is not None
        else {}
        for folder, part in zip(folders, parts, strict=True)
    ]
    gallery = make_gallery(folders, pictures, source)
    if gallery is None:
        return {}
    for part, names, rows in zip(parts, pictures, gallery.rows, strict=True):
        part["gallery"] = {"rows": rows, "files": [names[row] for row in rows]} if rows else None
    return gallery.texts


def _first_run(directory: Path) -> Path:
    """The run of the first seed on a class split."""
    seeds = _numbers(_open_metrics(directory)["seeds"])
    return directory / f"seed{seeds[0]}" if seeds else directory


def _numbers(field: Field) -> list[int] | None:
    """The seeds of runs or of class splits; None where there is one run."""
    values = field.value
    if values is None:
        return None
    if not isinstance(values, list) or not all(isinstance(value, int) for value in values):
        raise field.refused("a list of seeds")
    return values


def _open_metrics(directory: Path) -> Field:
    """What ``metrics.json`` of a finished run holds."""
    file = directory / METRICS_FILE
    if not directory.is_dir():
        raise no_finished_run(directory, f"{directory}: found no such folder")
    if (directory / ABLATION_FILE).is_file():
        raise InputError(
            f"{directory}: found the runs of an ablation, expected one of them, a folder below it"
        )
    if not file.exists():
        started = (directory / RECIPE_FILE).exists()
        found = "a run that is not finished" if started else f"no {METRICS_FILE}"
        raise no_finished_run(directory, f"{directory}: found {found}")
    return open_metrics(file)


def _headline(metrics: Field, reports: Sequence[SectionReport]) -> dict[str, Any]:
    """Rows of the table, each a method with its figures, and the lines that stand apart."""
    kinds = {"run": "model"}
    return {
        "glossary": _glossary(),
        "columns": [metric.label for metric in metrics_in("table")],
        "rows": [
            _row(row.method, kinds.get(row.kind, row.kind), row.measures)
            for row in table_rows(metrics, reports)
        ],
        "extra": section_lines(metrics, reports),
    }


def _glossary() -> str:
    """What each column is; metrics that are described alike share a sentence."""
    shown = metrics_in("table")
    sentences = [f"{m.label}: {m.description}" for m in shown if not m.calibrated]
    labels = [metric.label for metric in shown if metric.calibrated]
    if labels:
        sentences.append(
            f"{', '.join(labels)}: the same with calibrated stacking, whose gamma was chosen on "
            "validation classes"
        )
    return ". ".join(sentences) + "."


def _row(method: str, kind: str, record: Field) -> dict[str, Any]:
    shown = metrics_in("table")
    known = read_metrics(record, shown)
    figures = [known[metric.key].as_json() if metric.key in known else None for metric in shown]
    return {"method": method, "kind": kind, "figures": figures}


def _sections(metrics: Field, reports: Sequence[SectionReport]) -> dict[str, Any]:
    """What each section shows on the page, by its key; None where it was not measured."""
    return {
        report.key: report.page(metrics) if metrics[report.key].value is not None else None
        for report in reports
        if report.page is not None
    }


def _read_part(
    directory: Path, metrics: Field, method: MapName, reports: Sequence[SectionReport]
) -> dict[str, Any]:
    """One run's side of the page."""
    split, name = metrics["class_split"], f"seed {metrics['seed'].number():.0f}"
    if split.value is not None:
        name = f"class split {split['seed'].number():.0f}, {name}"
    part: dict[str, Any] = {
        "name": name,
        "gamma": _gamma(metrics),
        "choice": _gamma_choice(metrics),
        "points": _points(metrics, reports),
        "validation": _validation(metrics),
        "stages": _stages(directory),
        **_sections(metrics, reports),
        **_settings(directory),
    }
    history = directory / "history.json"
    if history.exists():
        records = Field(history, "", read_json(history)).records()
        part["history"] = _columns(records)
        part["loss_axes"] = [asdict(axis) for axis in loss_axes(records)]
    part |= _test_rows(directory, metrics, method, reports)
    one_sided = metrics["U"].value is None
    # What a run has none of by its nature, such as losses without epochs, is not missing.
    absent = {
        "map": one_sided or part.get("answers"),
        "history": history.exists(),
        "shifts": one_sided or metrics["shifts"].value is not None,
    }
    reasons = _MISSING
    if one_sided:
        why = _NO_SEEN_ROWS if metrics["S"].value is None else _NO_UNSEEN_ROWS
        reasons = reasons | dict.fromkeys(("answers", "reliability"), why)
    part["missing"] = {
        name: why
        for name, why in reasons.items()
        if part.get(name) is None and not absent.get(name)
    }
    return part


_NO_UNSEEN_ROWS = "This run's dataset has no test rows of unseen classes: S is its only figure."
_NO_SEEN_ROWS = "This run's dataset has no test rows of seen classes: T1 is its only figure."

# What a run's directory may lack: it was made before runs kept it, or without it.
_MISSING = {
    "classes": "This run's directory has no per_class.csv: it was made before runs wrote their "
    "answers class by class. Run it again to see them.",
    "answers": "This run's directory has no page_data.safetensors, in which a run keeps the scores "
    "of its test rows: gamma cannot be moved, and there are no curves. Run it again to see them.",
    "reliability": "This run kept no probabilities of its answers: it was made before runs fitted "
    "temperatures, or with --no-calibrate.",
    "counts": "This run's directory has neither page_data.safetensors nor confusion.csv: its "
    "confusion matrix is not known. Run it again to see it.",
    "map": "This run's directory has no page_data.safetensors, in which a run keeps a sample of "
    "its features: there is no map of them. Run it again to see it.",
    "history": "This run's directory has no history.json: its losses are not known.",
    "validation": "This run chose nothing on validation classes (--no-calibrate): there is no "
    "validation curve.",
    "shifts": "This run was made before runs measured the generation shifts. Run it again to see "
    "them.",
    "environment": "This run's directory has no environment.json.",
    "command": "The command line was not recorded; the recipe above has every setting.",
}


def _gamma(metrics: Field) -> float | None:
    calibrated = metrics["calibrated"]
    return None if calibrated.value is None else calibrated["gamma"].number()


def _gamma_choice(metrics: Field) -> str:
    """How gamma was chosen, in one sentence; empty for a run that did not cross-validate it."""
    validation = metrics["validation"]
    if validation.value is None or validation["balance"].value is None:
        return ""
    where = f"{metrics.file}, field 'validation.balance'"
    return as_record(where, validation["balance"].value, GammaChoice).sentence()


def _points(metrics: Field, reports: Sequence[SectionReport]) -> list[dict[str, Any]]:
    """U and S of the model and of the baselines, without calibration and with it."""
    rows = table_rows(metrics, reports)
    methods = {row.method: row.measures for row in rows if row.kind in ("baseline", "run")}
    methods = {metrics["model"].text(): metrics} | methods
    points = []
    for name, record in methods.items():
        known = read_metrics(record, metrics_in("table"))
        for calibrated, keys in ((False, ("U", "S")), (True, ("U_calibrated", "S_calibrated"))):
            if all(key in known for key in keys):
                u, s = (known[key].mean / 100 for key in keys)
                points.append({"method": name, "calibrated": calibrated, "U": u, "S": s})
    return points


def _validation(metrics: Field) -> dict[str, list[float]] | None:
    """The validation curve: the epochs, and each metric's values by its label."""
    if metrics["validation"].value is None:
        return None
    curve = metrics["validation"]["curve"]
    records = curve.records()
    shown = [m for m in metrics_in("validation") if m.required or m.key in (*records, {})[0]]
    keys = {"epoch": "epoch"} | {metric.label: metric.key for metric in shown}
    if not records or any(not set(keys.values()) <= record.keys() for record in records):
        raise curve.refused(f"points with {', '.join(keys.values())}")
    return {label: [record[key] for record in records] for label, key in keys.items()}


def _stages(directory: Path) -> list[dict[str, Any]] | None:
    """The seconds of the run's stages; None for a run that was made before its log had them."""
    stages = read_stages(directory / LOG_FILE)
    if not stages:
        return None
    total = sum(stage.seconds for stage in stages)
    return [
        {
            "name": stage.label,
            "seconds": stage.seconds,
            "share": stage.seconds / total if total else 0.0,
            "seconds_per_epoch": stage.seconds_per_epoch,
        }
        for stage in fold_stages(stages)
    ]


def _columns(records: list[dict[str, float]]) -> dict[str, list[float | None]] | None:
    """Epochs and loss parts as one list for each name, None where an epoch lacks a part."""
    names = ["epoch", *loss_parts(records)]
    return {name: [r.get(name) for r in records] for name in names} if records else None


def _settings(directory: Path) -> dict[str, Any]:
    """The recipe, and the environment with the command line apart."""
    recipe_file, file = directory / RECIPE_FILE, directory / ENVIRONMENT_FILE
    recipe = read_record(recipe_file, dict[str, Any])
    if not file.exists():
        return {"recipe": recipe}
    environment = read_record(file, dict[str, Any])
    command = environment.pop("command", None)
    return {"recipe": recipe, "environment": environment, "command": command}


def _test_rows(
    directory: Path, metrics: Field, method: MapName, reports: Sequence[SectionReport]
) -> dict[str, Any]:
    """What is shown of the test split: classes, answers, curves, the map, shifts by class."""
    file = directory / "per_class.csv"
    if not file.exists():
        return {}
    classes = read_per_class(file)
    part: dict[str, Any] = {"classes": [_describe_class(answers) for answers in classes]}
    page_data_file, confusion_file = directory / PAGE_DATA_FILE, directory / "confusion.csv"
    if not page_data_file.exists():
        if confusion_file.exists():
            counts = read_confusion(confusion_file, len(classes))
            part["counts"] = _pack_counts(counts)
        return part
    page_data = read_page_data(page_data_file, len(classes))
    rows = np.bincount(page_data.answers.labels, minlength=len(classes))
    if rows.tolist() != [answers.rows for answers in classes]:
        raise InputError(
            f"{page_data_file}: found other numbers of rows than in {file.name}, expected both of "
            "one run"
        )
    curves = [
        {"method": name, "U": pack(unseen.astype("<f4")), "S": pack(seen.astype("<f4"))}
        for name, (unseen, seen) in page_data.curves.items()
    ]
    return part | {
        "answers": _pack_answers(page_data.answers, len(classes)),
        "counts": True,
        "curves": curves,
        "areas": _areas(metrics, page_data.curves, reports),
        "reliability": _reliability(page_data, np.array([item.kind == "seen" for item in classes])),
        "map": None if page_data.sample is None else _pack_map(page_data.sample, method),
        "class_shifts": [_pack_shifts(name, shifts) for name, shifts in page_data.shifts.items()],
    }


def _reliability(
    page_data: PageData, class_is_seen: NDArray[np.bool_]
) -> list[dict[str, Any]] | None:
    """The bins of seen and of unseen rows, and their error; None without probabilities."""
    known, right, labels = page_data.probabilities, page_data.right, page_data.answers.labels
    if known is None or right is None or right.gzsl_calibrated is None:
        return None
    sides = []
    for name, seen in (("seen", True), ("unseen", False)):
        rows = class_is_seen[labels] == seen
        bins = reliability_bins(known.answer[rows], right.gzsl_calibrated[rows], labels[rows])
        error = calibration_error(bins)
        sides.append({"name": name, "error": error, "bins": [asdict(part) for part in bins]})
    return sides


def _areas(
    metrics: Field, curves: Mapping[str, Any], reports: Sequence[SectionReport]
) -> dict[str, float]:
    """The area under each method's curve, as its row of the table has it."""
    records = {row.method: row.measures for row in table_rows(metrics, reports)}
    return {name: records.get(name, metrics)["AUSUC"].percent() / 100 for name in curves}


def _describe_class(answers: ClassAnswers) -> dict[str, Any]:
    return {
        "name": readable_name(answers.name),
        "seen": answers.kind == "seen",
        "rows": answers.rows,
        "zsl": answers.zsl,
    }


def _pack_answers(answers: Answers, classes: int) -> dict[str, Any]:
    narrow = "<u2" if classes <= 2**16 else "<i4"
    columns = {name: getattr(answers, name) for name in ("labels", "seen", "unseen")}
    scores = {name: getattr(answers, name) for name in ("seen_scores", "unseen_scores")}
    return {
        **{name: pack(values.astype(narrow)) for name, values in columns.items()},
        # As the method gave them, so that the page's answers are the run's to the last tie.
        **{name: pack(values) for name, values in scores.items()},
        "range": _gamma_range(answers),
    }


def _pack_counts(counts: csr_array) -> dict[str, Any]:
    """The pairs that occur: true class times the number of classes plus answer, and their rows."""
    entries = counts.tocoo()
    cells = counts.shape[1] * entries.row.astype(np.int64) + entries.col
    occur = entries.data > 0
    numbers = {"cells": cells[occur], "rows": entries.data[occur]}
    return {name: pack(values.astype("<i4")) for name, values in numbers.items()}


def _gamma_range(answers: Answers) -> tuple[float, float]:
    """Values of gamma between which nearly all rows change their answer."""
    gaps = answers.seen_scores.astype(np.float64) - answers.unseen_scores
    low, high = np.quantile(gaps, [0.01, 0.99]).tolist()
    margin = 0.05 * (high - low) or 1.0
    return min(low, 0.0) - margin, max(high, 0.0) + margin


def _pack_map(sample: FeatureSample, method: MapName) -> dict[str, Any]:
    points, axes = project(sample, method)
    return {
        "sampled": sample.classes if sample.is_of_some else None,
        "method": {"pca": "PCA", "tsne": "t-SNE", "umap": "UMAP"}[method],
        "x": pack(points[:, 0].astype("<f4")),
        "y": pack(points[:, 1].astype("<f4")),
        "labels": pack(sample.labels.astype("<i4")),
        "real": int(sample.real.sum()),  # they come first
        "axes": axes,
    }


def _pack_shifts(name: str, shifts: ClassShifts) -> dict[str, Any]:
    return {
        "method": name,
        "consistency": pack(shifts.consistency.astype("<f4")),
        "variances": [v if math.isfinite(v) else None for v in shifts.variances.tolist()],
    }


def pack(values: NDArray[Any]) -> dict[str, str]:
    """Numbers ``(n,)`` as text that the page's script unpacks to the same bits."""
    little = np.ascontiguousarray(values.astype(values.dtype.newbyteorder("<")))
    kind = _PACKED[little.dtype.str]
    return {"type": kind, "data": base64.b64encode(little.tobytes()).decode("ascii")}
