"""The list of all sections of a run, in the order of their measurement."""

from gsmflow.reports.reliability import RELIABILITY
from gsmflow.reports.section import SectionReport
from gsmflow.runs import (
    beside,
    classifiers_beside,
    few_shot,
    gate,
    novelty,
    oracle,
    selected_on_test,
    shifts,
    top_k,
)
from gsmflow.runs.section import Section

__all__ = ["REPORTS", "SECTIONS"]

SECTIONS: tuple[Section, ...] = (
    top_k.SECTION,
    few_shot.SECTION,
    classifiers_beside.SECTION,
    gate.SECTION,
    oracle.SECTION,
    selected_on_test.SECTION,
    beside.SECTION,
    shifts.SECTION,
)

# What tables, console, pictures and page show of them, and of what every run measures.
REPORTS: tuple[SectionReport, ...] = (
    *(section.report for section in SECTIONS),
    novelty.REPORT,
    RELIABILITY,
)
