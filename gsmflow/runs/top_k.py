"""A section of a run: top-k accuracies, for which the right class may be among the k best."""

from dataclasses import asdict

from gsmflow.runs.section import Evaluated, Section, SectionResult

__all__ = ["SECTION"]


def _measure(evaluated: Evaluated, fitted: None) -> SectionResult:
    return SectionResult(asdict(evaluated.outcome.top_k(evaluated.run.recipe.top_k)))


SECTION = Section(key="top_k", wanted=lambda recipe: recipe.top_k > 1, measure=_measure)
