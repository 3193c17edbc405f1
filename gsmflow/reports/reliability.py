"""What a run reports of its probabilities: how far they are from the accuracies on test rows."""

from gsmflow.core.json_fields import Field
from gsmflow.reports.section import SectionReport

__all__ = ["RELIABILITY"]


def _lines(metrics: Field) -> list[str]:
    found = metrics["reliability"]
    known = [(side, found[f"ECE_{side}"]) for side in ("seen", "unseen")]
    figures = [f"{side} {of.mean_std().text(' ±')}" for side, of in known if of.value is not None]
    return [f"expected calibration error of the probabilities, of test rows:  {'  '.join(figures)}"]


RELIABILITY = SectionReport(key="reliability", lines=_lines)
