"""The values of metrics, as ``metrics.json`` and other files of a run hold them."""

from collections.abc import Iterable, Mapping
from typing import Any

from gsmflow.core.aggregate import mean_std
from gsmflow.core.json_fields import Field
from gsmflow.core.tables import MeanStd
from gsmflow.evaluation.measures import Metric, metric_group

__all__ = ["mean_std_of", "read_metrics"]


def mean_std_of(measures: Mapping[str, Any], metric: Metric) -> MeanStd | None:
    """A metric in percent, from `Measures.as_json` or what `summarise` made of several of them."""
    if not metric.calibrated:
        return mean_std(measures.get(metric.name))
    return mean_std((measures.get("calibrated") or {}).get(metric.name))


def read_metrics(record: Field, metrics: Iterable[Metric]) -> dict[str, MeanStd]:
    """Metrics in percent, by key, from a file that may be damaged; unknown ones are left out.

    Unknown are calibrated metrics without a calibration factor, and all that need rows of seen or
    of unseen classes where there are none: these are all null in the file.

    Parameters
    ----------
    record
        Measures of one method, as for `mean_std_of`.
    metrics
        Which to read, plain ones among them.

    Raises
    ------
    InputError
        If a metric is missing or no fraction of 1.
    """
    values = record.object()
    plain, calibrated = (metric_group(metrics, calibrated=side) for side in (False, True))
    absent = _rows_absent(values, plain)
    sources = [(record, plain)]
    if calibrated and record["calibrated"].value is not None:
        sources.append((record["calibrated"], calibrated))
    return {
        metric.key: source[metric.name].mean_std()
        for source, group in sources
        for metric in group
        if metric.rows not in absent and (metric.required or source[metric.name].value is not None)
    }


def _rows_absent(values: Mapping[str, Any], plain: Iterable[Metric]) -> set[str]:
    """The kinds of rows (`Metric.rows`) that there were none of: their metrics are all null."""
    nulls: dict[str, bool] = {}
    for metric in plain:
        if metric.required:
            null = metric.name in values and values[metric.name] is None
            nulls[metric.rows] = null and nulls.get(metric.rows, True)
    absent = {rows for rows, null in nulls.items() if null}
    # Without rows of one kind there are not both kinds; without any, nothing is measured.
    return absent if "both" in absent and not {"seen", "unseen"} <= absent else set()
