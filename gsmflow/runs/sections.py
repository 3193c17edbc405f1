"""The list of all sections of a run, in the order of their measurement."""

from gsmflow.runs import beside, few_shot, gate, oracle, selected_on_test, shifts, top_k
from gsmflow.runs.section import Section

__all__ = ["SECTIONS"]

SECTIONS: tuple[Section, ...] = (
    top_k.SECTION,
    few_shot.SECTION,
    oracle.SECTION,
    selected_on_test.SECTION,
    gate.SECTION,
    beside.SECTION,
    shifts.SECTION,
)
