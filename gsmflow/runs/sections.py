"""All sections of a run, in the order in which they are measured."""

from gsmflow.reports.section import SectionReport
from gsmflow.runs import beside, few_shot, gate, oracle, selected_on_test, shifts, top_k
from gsmflow.runs.section import Section

__all__ = ["REPORTS", "SECTIONS"]

SECTIONS: tuple[Section, ...] = (
    top_k.SECTION,
    few_shot.SECTION,
    gate.SECTION,
    oracle.SECTION,
    selected_on_test.SECTION,
    beside.SECTION,
    shifts.SECTION,
)

# What tables, console, pictures and page show of them.
REPORTS: tuple[SectionReport, ...] = tuple(section.report for section in SECTIONS)
