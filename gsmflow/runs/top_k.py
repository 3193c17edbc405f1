"""A section of a run: top-k accuracies, for which the right class may be among the k best."""

from dataclasses import asdict

from gsmflow.core.json_fields import Field
from gsmflow.evaluation.measures import metrics_in
from gsmflow.evaluation.protocol import evaluate_top_k
from gsmflow.reports.section import SectionReport
from gsmflow.reports.tables import figures_in_line
from gsmflow.runs.section import Evaluated, Section, SectionResult

__all__ = ["SECTION"]


def _measure(evaluated: Evaluated, fitted: None) -> SectionResult:
    k = evaluated.run.recipe.top_k
    found = evaluate_top_k(evaluated.scorer, evaluated.problem, evaluated.held_out, k)
    return SectionResult(asdict(found))


def _lines(metrics: Field) -> list[str]:
    top_k = metrics["top_k"]
    k = top_k["k"]
    k = k["mean"] if isinstance(k.value, dict) else k
    figures = figures_in_line(top_k, metrics_in("top_k"))
    return [f"right class among the first {k.number():.0f} answers:  {figures}"]


SECTION = Section(
    report=SectionReport(key="top_k", lines=_lines),
    wanted=lambda recipe: recipe.top_k > 1,
    measure=_measure,
)
