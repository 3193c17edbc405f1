"""What a page shows of a run, read from its directory into one JSON document."""

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gsmflow.core.errors import InputError
from gsmflow.core.files import read_json
from gsmflow.core.json_fields import Field
from gsmflow.core.run_files import ABLATION_FILE, METRICS_FILE, RECIPE_FILE
from gsmflow.core.tables import MeanStd
from gsmflow.evaluation.per_class import ClassAnswers, read_confusion, read_per_class
from gsmflow.reports.few_shot import few_shot_draws, few_shot_figures
from gsmflow.reports.loss_axes import loss_axes, loss_parts
from gsmflow.reports.page.projection import MapName, project
from gsmflow.reports.page_data import (
    PAGE_DATA_FILE,
    Answers,
    ClassShifts,
    FeatureSample,
    read_page_data,
)
from gsmflow.reports.tables import ORACLE_LABEL, extra_lines, few_shot_grid, gated_name

__all__ = ["pack", "read_run"]

_MEASURES = ("T1", "U", "S", "H", "AUSUC")
_CALIBRATED = ("U", "S", "H")
_CHOSEN = ("T1", "U", "S", "H")
_CURVE = ("epoch", *_CHOSEN, "H_calibrated")
# Numbers as the page's script reads them: little endian.
_PACKED = {"<u2": "Uint16", "<i4": "Int32", "<f4": "Float32", "<f8": "Float64"}


def read_run(directory: Path, method: MapName = "pca") -> dict[str, Any]:
    """Read a run, or the runs of several seeds, as a document that the page's script shows.

    Parameters
    ----------
    directory
        A run directory.
    method
        How the map of features is made.

    Returns
    -------
    dict
        JSON-ready; its ``parts`` are one run each. What a part lacks is None there, and a
        sentence in its ``missing`` says why.

    Raises
    ------
    InputError
        If there is no finished run, or one of its files is damaged.
    """
    told = _open_metrics(directory)
    seeds = told["seeds"].value
    if seeds is None:
        parts = [_read_part(directory, told, method)]
    else:
        if not isinstance(seeds, list) or not all(isinstance(seed, int) for seed in seeds):
            raise told["seeds"].refused("a list of seeds")
        folders = [directory / f"seed{seed}" for seed in seeds]
        parts = [_read_part(folder, _open_metrics(folder), method) for folder in folders]
    return {
        "run": directory.resolve().name,
        "model": told["model"].text(),
        "dataset": told["dataset"].text(),
        "features": told["features"].text(),
        "semantics": told["semantics"].text(),
        "protocol": told["protocol"].text(),
        "seeds": seeds,
        **_headline(told),
        "few_shot": None if seeds is None else _few_shot(told),  # a single run is a part alone
        "parts": parts,
    }


def _open_metrics(directory: Path) -> Field:
    """What ``metrics.json`` of a finished run holds."""
    file = directory / METRICS_FILE
    if not directory.is_dir():
        raise InputError(f"{directory}: found no such folder, expected a run directory")
    if (directory / ABLATION_FILE).is_file():
        raise InputError(
            f"{directory}: found the runs of an ablation, expected one of them, a folder below it"
        )
    if not file.is_file():
        started = (directory / RECIPE_FILE).is_file()
        found = "a run that is not finished" if started else f"no {METRICS_FILE}"
        raise InputError(f"{directory}: found {found}, expected the directory of a finished run")
    return Field(file, "", read_json(file))


def _headline(told: Field) -> dict[str, Any]:
    """Rows of the table, each a method with its figures, and the lines that stand apart."""
    baselines = told["baselines"]
    rows = [_row(name, "baseline", baselines[name]) for name in baselines.object()]
    rows.append(_row(told["model"].text(), "model", told))
    if told["gate"].value is not None:
        rows.append(_row(gated_name(told.object()), "model", told["gate"]["measures"]))
    if told["oracle"].value is not None:
        rows.append(_row(ORACLE_LABEL, "oracle", told["oracle"]))
    for part in ("top_k", "test_selected"):
        if told[part].value is not None:
            _figures(told[part], _CHOSEN)  # refuses what is damaged
    columns = [*_MEASURES, *(f"{name} pen." for name in _CALIBRATED)]
    return {"columns": columns, "rows": rows, "extra": extra_lines(told.object())}


def _row(method: str, kind: str, told: Field) -> dict[str, Any]:
    figures = _figures(told, _MEASURES)
    calibrated = told["calibrated"]
    if calibrated.value is None:
        figures += [None] * len(_CALIBRATED)
    else:
        figures += _figures(calibrated, _CALIBRATED)
    return {"method": method, "kind": kind, "figures": figures}


def _figures(told: Field, names: Sequence[str]) -> list[dict[str, Any] | None]:
    known = told.figures(names)
    return [asdict(known[name]) if name in known else None for name in names]


def _few_shot(told: Field) -> dict[str, Any] | None:
    """The table of few-shot figures, a row for each number of labelled rows."""
    if told["few_shot"].value is None:
        return None
    figures = few_shot_figures(told)
    notes = ("k = 0: the run's own classifier, without labelled rows",) if 0 in figures else ()
    grid = few_shot_grid("", {"": figures}, notes)
    rows = [row[1:] for row in grid.sections[0]]  # without the run's name
    return {
        "columns": grid.columns[1:],
        "rows": [[asdict(own) if isinstance(own, MeanStd) else own for own in row] for row in rows],
        "notes": grid.notes,
        "draws": few_shot_draws(told),
    }


def _read_part(directory: Path, told: Field, method: MapName) -> dict[str, Any]:
    """One run's side of the page."""
    part: dict[str, Any] = {
        "name": f"seed {told['seed'].number():.0f}",
        "penalty": _penalty(told),
        "points": _points(told),
        "few_shot": _few_shot(told),
        "validation": _validation(told),
        "shifts": _shift_figures(told),
        **_settings(directory),
    }
    history = directory / "history.json"
    if history.is_file():
        records = Field(history, "", read_json(history)).records()
        part["history"] = _columns(records)
        part["loss_axes"] = [asdict(axis) for axis in loss_axes(records)]
    part |= _test_rows(directory, told, method)
    reasons, judged = _MISSING, told["U"].value is not None
    if not judged:
        reasons |= dict.fromkeys(("answers", "map", "shifts"), _NOT_JUDGED)
    for name, known in (
        ("map", part.get("answers")),
        ("history", history.is_file()),
        ("shifts", judged and told["shifts"].value is not None),
    ):
        if known:
            reasons = reasons | {name: _NOTHING_TO_SHOW[name]}
    part["missing"] = {name: why for name, why in reasons.items() if part.get(name) is None}
    return part


_NOT_JUDGED = (
    "This run's dataset has no rows of unseen classes: nothing judges them, and S alone is known."
)

# What a run may have none of, by its nature.
_NOTHING_TO_SHOW = {
    "map": "This run's model synthesizes no features: there is no map of them.",
    "history": "This run's model is not trained in epochs: it has no losses.",
    "shifts": "Nothing in this run synthesizes features: there are no shifts to measure.",
}

# What a run's directory may lack: it was made before runs kept it, or without it.
_MISSING = {
    "classes": "This run's directory has no per_class.csv: it was made before runs wrote their "
    "answers class by class. Run it again to see them.",
    "answers": "This run's directory has no page_data.safetensors, in which a run keeps the scores "
    "of its test rows: the penalty cannot be moved, and there are no curves. Run it again to see "
    "them.",
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


def _penalty(told: Field) -> float | None:
    calibrated = told["calibrated"]
    return None if calibrated.value is None else calibrated["penalty"].number()


def _points(told: Field) -> list[dict[str, Any]]:
    """Where each method stands on its curve, without a penalty and with the one chosen for it."""
    methods = {told["model"].text(): told} | {
        name: told["baselines"][name] for name in told["baselines"].object()
    }
    points = []
    for name, own in methods.items():
        for chosen, place in ((False, own), (True, own["calibrated"])):
            known = {} if place.value is None else place.figures(("U", "S"))
            if "U" in known:
                shares = {side: figure.mean / 100 for side, figure in known.items()}
                points.append({"method": name, "chosen": chosen, **shares})
    return points


def _validation(told: Field) -> dict[str, list[float]] | None:
    validation = told["validation"]
    if validation.value is None:
        return None
    records = validation["curve"].records()
    if not records or any(not set(_CURVE) <= record.keys() for record in records):
        raise validation["curve"].refused(f"points with {', '.join(_CURVE)}")
    return {name: [record[name] for record in records] for name in _CURVE}


def _columns(records: list[dict[str, float]]) -> dict[str, list[float | None]] | None:
    """Epochs and loss parts as one list for each name, None where an epoch lacks a part."""
    names = ["epoch", *loss_parts(records)]
    return {name: [r.get(name) for r in records] for name in names} if records else None


def _shift_figures(told: Field) -> list[dict[str, Any]] | None:
    """The table of generation shifts, a row for each method that synthesizes."""
    if told["shifts"].value is None:
        return None
    rows = []
    for name in told["shifts"].object():
        own = told["shifts"][name]
        consistency, ratio = own["consistency"], own["variance_ratio"]
        correlation = own["rank_correlation"]["unseen"]["synthesized_real"]
        rows.append(
            {
                "method": name,
                "samples": own["samples_per_class"].number(),
                **{k: consistency[k].percent() for k in ("among_all", "real_among_all")},
                "seen_ratio": _number_or_none(ratio["seen"]),
                "unseen_ratio": _number_or_none(ratio["unseen"]),
                "correlation": _number_or_none(correlation),
            }
        )
    return rows or None


def _number_or_none(told: Field) -> float | None:
    return None if told.value is None else told.number()


def _settings(directory: Path) -> dict[str, Any]:
    """The recipe, and the environment with the command line apart."""
    recipe_file, file = directory / RECIPE_FILE, directory / "environment.json"
    recipe = Field(recipe_file, "", read_json(recipe_file)).object()
    if not file.is_file():
        return {"recipe": recipe}
    environment = dict(Field(file, "", read_json(file)).object())
    command = environment.pop("command", None)
    return {"recipe": recipe, "environment": environment, "command": command}


def _test_rows(directory: Path, told: Field, method: MapName) -> dict[str, Any]:
    """What is shown of the test split: classes, answers, curves, the map, shifts by class."""
    file = directory / "per_class.csv"
    if not file.is_file():
        return {}
    classes = read_per_class(file)
    part: dict[str, Any] = {"classes": [_describe_class(own) for own in classes]}
    page_data_file, confusion_file = directory / PAGE_DATA_FILE, directory / "confusion.csv"
    if not page_data_file.is_file():
        if confusion_file.is_file():
            counts = read_confusion(confusion_file, len(classes))
            part["counts"] = pack(counts.ravel().astype("<i4"))
        return part
    page_data = read_page_data(page_data_file, len(classes))
    rows = np.bincount(page_data.answers.labels, minlength=len(classes))
    if rows.tolist() != [own.rows for own in classes]:
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
        "areas": _areas(told, page_data.curves),
        "map": None if page_data.sample is None else _pack_map(page_data.sample, method),
        "class_shifts": [_pack_shifts(name, own) for name, own in page_data.shifts.items()],
    }


def _areas(told: Field, curves: Mapping[str, Any]) -> dict[str, float]:
    own = {name: told["baselines"][name] for name in curves if name in told["baselines"].object()}
    return {name: own.get(name, told)["AUSUC"].percent() / 100 for name in curves}


def _describe_class(own: ClassAnswers) -> dict[str, Any]:
    return {"name": own.name, "seen": own.kind == "seen", "rows": own.rows, "zsl": own.zsl}


def _pack_answers(answers: Answers, classes: int) -> dict[str, Any]:
    narrow = "<u2" if classes <= 2**16 else "<i4"
    places = {name: getattr(answers, name) for name in ("labels", "seen", "unseen")}
    scores = {name: getattr(answers, name) for name in ("seen_scores", "unseen_scores")}
    return {
        **{name: pack(values.astype(narrow)) for name, values in places.items()},
        # As the method gave them, so that the page's answers are the run's to the last tie.
        **{name: pack(values) for name, values in scores.items()},
        "range": _penalty_range(answers),
    }


def _penalty_range(answers: Answers) -> tuple[float, float]:
    """Penalties between which nearly all rows change their answer."""
    gaps = answers.seen_scores.astype(np.float64) - answers.unseen_scores
    low, high = np.quantile(gaps, [0.01, 0.99]).tolist()
    margin = 0.05 * (high - low) or 1.0
    return min(low, 0.0) - margin, max(high, 0.0) + margin


def _pack_map(sample: FeatureSample, method: MapName) -> dict[str, Any]:
    places, axes = project(sample, method)
    return {
        "method": {"pca": "PCA", "tsne": "t-SNE", "umap": "UMAP"}[method],
        "x": pack(places[:, 0].astype("<f4")),
        "y": pack(places[:, 1].astype("<f4")),
        "labels": pack(sample.labels.astype("<i4")),
        "real": int(sample.real.sum()),  # they come first
        "axes": axes,
    }


def _pack_shifts(name: str, own: ClassShifts) -> dict[str, Any]:
    return {
        "method": name,
        "consistency": pack(own.consistency.astype("<f4")),
        "variances": [v if math.isfinite(v) else None for v in own.variances.tolist()],
    }


def pack(values: NDArray[Any]) -> dict[str, str]:
    """Numbers ``(n,)`` as text that the page's script unpacks to the same bits."""
    little = np.ascontiguousarray(values.astype(values.dtype.newbyteorder("<")))
    kind = _PACKED[little.dtype.str]
    return {"type": kind, "data": base64.b64encode(little.tobytes()).decode("ascii")}
