"""A section of a run: generation shifts of all methods that synthesize features."""

from functools import partial
from typing import Any

from gsmflow.core.json_fields import Field
from gsmflow.data.splits import MOST_DIAGNOSED
from gsmflow.evaluation.generation_shifts import measure_real, measure_shifts
from gsmflow.learning.feed import make_feed
from gsmflow.learning.sampling import Sampler
from gsmflow.reports.drawing import drawn
from gsmflow.reports.figures import shifts_figure
from gsmflow.reports.page_data import pick_shifts
from gsmflow.reports.section import SectionReport
from gsmflow.runs.beside import SECTION as BESIDE
from gsmflow.runs.section import Evaluated, Section, SectionResult

__all__ = ["SECTION"]

_PICTURE = "shifts.png"
# The largest number of samples per class that are measured.
_MEASURED = 200


def _measure(evaluated: Evaluated, fitted: None) -> SectionResult:
    run, scaled = evaluated.run, evaluated.fitted.scaled
    samplers: dict[str, Sampler] = {}
    if isinstance(evaluated.fitted.model, Sampler):
        samplers[run.label] = evaluated.fitted.model
    for beside in evaluated.parts.get(BESIDE.key) or ():
        sampler = beside.sampler_in(scaled.scaling)
        if sampler is not None:
            samplers[beside.label] = sampler
    if not samplers:
        return SectionResult({})
    unseen = make_feed(
        evaluated.held_out.unseen, scaled.scaling, run.device, run.recipe.features_in
    )
    real = measure_real(scaled.feed, unseen)
    count = min(run.recipe.samples_per_class or _MEASURED, _MEASURED)
    shifts = {
        name: measure_shifts(
            sampler,
            real,
            scaled.problem.semantics,
            count,
            run.generators("test").on_device("shifts"),
            precision=run.precision,
        )
        for name, sampler in samplers.items()
    }
    draw = partial(shifts_figure, run.directory / _PICTURE, shifts, scaled.problem.class_names)
    classes = {"classes": MOST_DIAGNOSED} if len(real.classes) == MOST_DIAGNOSED else {}
    return SectionResult(
        {name: {**measured.summary(), **classes} for name, measured in shifts.items()},
        class_shifts=pick_shifts(shifts, scaled.problem),
        pictures=tuple(drawn(draw, run.warn)),
    )


def _page(metrics: Field) -> list[dict[str, Any]] | None:
    """The table of generation shifts, a row for each method that synthesizes."""
    rows = []
    for name in metrics["shifts"].object():
        record = metrics["shifts"][name]
        consistency, ratio = record["consistency"], record["variance_ratio"]
        correlation = record["rank_correlation"]["unseen"]["synthesized_real"]
        rows.append(
            {
                "method": name,
                "samples": record["samples_per_class"].number(),
                **{k: consistency[k].percent() for k in ("among_all", "real_among_all")},
                "seen_ratio": _number_or_none(ratio["seen"]),
                "unseen_ratio": _number_or_none(ratio["unseen"]),
                "correlation": _number_or_none(correlation),
            }
        )
    return rows or None


def _lines(metrics: Field) -> list[str]:
    """A line that says that a sample of the classes was measured, where it was."""
    records = [metrics["shifts"][name] for name in metrics["shifts"].object()]
    if not any("classes" in record.object() for record in records):
        return []
    return [f"generation shifts: of a sample of {MOST_DIAGNOSED} classes, the same in every run"]


def _number_or_none(field: Field) -> float | None:
    return None if field.value is None else field.number()


SECTION = Section(
    report=SectionReport(key="shifts", lines=_lines, page=_page),
    wanted=lambda recipe: recipe.diagnosis,
    measure=_measure,
)
