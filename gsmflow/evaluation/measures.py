"""The table of metrics: what each is called, where it is shown, and what computes it.

A metric is a function of an `Outcome` and an entry of `METRICS`. Tables, pictures, the page and
``metrics.json`` take names and columns from there. All metrics are fractions of 1, and are shown in
percent with one decimal (`gsmflow.core.tables.MeanStd`).
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from gsmflow.evaluation.protocol import Outcome

__all__ = [
    "METRICS",
    "Measures",
    "Metric",
    "View",
    "measure",
    "metric_group",
    "metrics_in",
    "validation_point",
]

View: TypeAlias = Literal[
    "table",  # of a run, of an ablation, and of the page
    "results",
    "published",
    "few_shot",
    "few_shot_chart",
    "sweep",
    "sweep_chart",
    "sweep_over_several",  # the chart of a sweep over more than one field
    "sweep_validation",
    "validation",  # the curve on validation classes
    "top_k",
    "selected_on_test",
    "objective",  # of a search
]


@dataclass(frozen=True)
class Metric:
    """An entry of the table.

    Attributes
    ----------
    name
        Its key in ``metrics.json``, below ``calibrated`` if it is calibrated.
    label
        Heading of its column, name of its line.
    description
        A few words for somebody who sees the label for the first time.
    compute
        A fraction of 1. A calibrated metric is computed from `Outcome.shifted`.
    views
        Where it is shown.
    rows
        The held-out rows that it needs. U, which means nothing without S, needs both: plain
        zero-shot learning, without test rows of seen classes, measures T1.
    calibrated
        Whether it is measured with the calibration factor gamma that was chosen on validation
        classes (calibrated stacking; Chao et al., ECCV 2016).
    required
        Whether ``metrics.json`` of every run has it. One that was added later is not in older
        runs, and is blank there.
    """

    name: str
    label: str
    description: str
    compute: Callable[[Outcome], float]
    views: frozenset[View]
    rows: Literal["seen", "unseen", "both"] = "both"
    calibrated: bool = False
    required: bool = False

    @property
    def key(self) -> str:
        """Its name where plain and calibrated metrics stand side by side, as in a CSV file."""
        return f"{self.name}_calibrated" if self.calibrated else self.name


def _zsl_accuracy(outcome: Outcome) -> float:
    return outcome.t1


def _unseen_accuracy(outcome: Outcome) -> float:
    return outcome.unseen_accuracy


def _seen_accuracy(outcome: Outcome) -> float:
    return outcome.seen_accuracy


def _harmonic_mean(outcome: Outcome) -> float:
    return outcome.harmonic_mean


def _area(outcome: Outcome) -> float:
    return outcome.curve().area


_ONE_LINE: frozenset[View] = frozenset({"table", "results", "few_shot", "sweep"})
_ALSO_PUBLISHED: frozenset[View] = frozenset({"published", "top_k", "selected_on_test"})
_CURVES: frozenset[View] = frozenset({"validation", "sweep_chart"})
_IN_THE_TABLE: frozenset[View] = frozenset({"table"})

METRICS: tuple[Metric, ...] = (
    Metric(
        name="T1",
        label="T1",
        description="unseen rows, answers among the unseen classes",
        compute=_zsl_accuracy,
        views=_ONE_LINE | _ALSO_PUBLISHED | _CURVES | {"few_shot_chart", "objective"},
        rows="unseen",
        required=True,
    ),
    Metric(
        name="U",
        label="U",
        description="unseen rows, answers among all classes",
        compute=_unseen_accuracy,
        views=_ONE_LINE | _ALSO_PUBLISHED | _CURVES,
        required=True,
    ),
    Metric(
        name="S",
        label="S",
        description="seen rows, answers among all classes",
        compute=_seen_accuracy,
        views=_ONE_LINE | _ALSO_PUBLISHED | _CURVES,
        rows="seen",
        required=True,
    ),
    Metric(
        name="H",
        label="H",
        description="harmonic mean of U and S",
        compute=_harmonic_mean,
        views=_ONE_LINE
        | _ALSO_PUBLISHED
        | _CURVES
        | {"few_shot_chart", "sweep_over_several", "sweep_validation", "objective"},
        required=True,
    ),
    Metric(
        name="AUSUC",
        label="AUSUC",
        description="area under the curve of S over U",
        compute=_area,
        views=_ONE_LINE | {"objective"},
        required=True,
    ),
    Metric(
        name="U",
        label="U cal.",
        description="U with calibrated stacking",
        compute=_unseen_accuracy,
        views=_IN_THE_TABLE,
        calibrated=True,
        required=True,
    ),
    Metric(
        name="S",
        label="S cal.",
        description="S with calibrated stacking",
        compute=_seen_accuracy,
        views=_IN_THE_TABLE,
        rows="seen",
        calibrated=True,
        required=True,
    ),
    Metric(
        name="H",
        label="H cal.",
        description="H with calibrated stacking",
        compute=_harmonic_mean,
        views=_ONE_LINE | _CURVES | {"few_shot_chart", "sweep_validation", "objective"},
        calibrated=True,
        required=True,
    ),
)


def metrics_in(view: View) -> tuple[Metric, ...]:
    """The metrics that a view shows, in their order."""
    return tuple(metric for metric in METRICS if view in metric.views)


def metric_group(metrics: Iterable[Metric], *, calibrated: bool) -> tuple[Metric, ...]:
    """Those that are calibrated, or those that are not."""
    return tuple(metric for metric in metrics if metric.calibrated == calibrated)


@dataclass(frozen=True)
class Measures:
    """All metrics of an outcome, by their names; fractions of 1.

    None where there are no rows to measure on.

    Attributes
    ----------
    plain
        Without calibration.
    gamma
        The calibration factor; None where none was chosen on validation classes.
    calibrated
        With it; empty without one.
    """

    plain: Mapping[str, float | None]
    gamma: float | None
    calibrated: Mapping[str, float | None]

    def as_json(self) -> dict[str, Any]:
        """As ``metrics.json`` holds them: ``T1``, ``U``, ..., and ``calibrated`` or None."""
        known = None if self.gamma is None else {"gamma": self.gamma, **self.calibrated}
        return {**self.plain, "calibrated": known}


def measure(outcome: Outcome, gamma: float | None = None) -> Measures:
    """Compute all metrics.

    Parameters
    ----------
    outcome
        A method's scores on held-out rows, of seen or unseen classes at least.
    gamma
        The calibration factor that was chosen on validation classes, if any.
    """
    plain, calibrated = (metric_group(METRICS, calibrated=side) for side in (False, True))
    if gamma is None:
        return Measures(_compute(plain, outcome), None, {})
    return Measures(_compute(plain, outcome), gamma, _compute(calibrated, outcome.shifted(gamma)))


def _compute(metrics: Iterable[Metric], outcome: Outcome) -> dict[str, float | None]:
    seen = outcome.row_is_seen
    known = {"seen"} if seen.all() else {"seen", "unseen", "both"} if seen.any() else {"unseen"}
    return {m.name: m.compute(outcome) if m.rows in known else None for m in metrics}


def validation_point(outcome: Outcome) -> dict[str, float]:
    """All metrics by key, and the ``gamma`` of best H on these very rows.

    For validation classes alone: gamma is chosen here, and taken to the test rows as it is.
    """
    gamma = outcome.curve().best_gamma()
    shifted = outcome.shifted(gamma)
    plain, calibrated = (metric_group(METRICS, calibrated=side) for side in (False, True))
    return {
        **{metric.key: metric.compute(outcome) for metric in plain},
        "gamma": gamma,
        **{metric.key: metric.compute(shifted) for metric in calibrated},
    }
