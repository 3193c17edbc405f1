"""Aggregate the metrics of several seeds: mean, standard deviation and single values."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from scipy import stats

from gsmflow.core.tables import MeanStd

__all__ = ["mean_std", "summarise", "summarise_seeds", "summarise_splits", "t_interval"]

# The fields of an aggregated number.
_AGGREGATE = {"mean", "std", "values"}
_CONFIDENCE = 0.95


def summarise(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Aggregate the metrics of several runs into one record of the same shape.

    Parameters
    ----------
    runs
        The content of each run's ``metrics.json``; one run or more.

    Returns
    -------
    dict
        The fields that all runs have. A number becomes its ``mean``, its sample standard
        deviation ``std`` (None for a single run) and the ``values`` of the runs. A number that
        is already aggregated in each run, over draws, is aggregated over the values of all runs.
        Any other value stays if it is equal in all runs. Lists and values that differ are left
        out.
    """
    first, *others = runs
    summary: dict[str, Any] = {}
    for name, value in first.items():
        if not all(name in other for other in others):
            continue
        values = [run[name] for run in runs]
        if all(map(_is_aggregate, values)):
            summary[name] = _aggregate([number for v in values for number in v["values"]])
        elif all(isinstance(v, Mapping) for v in values):
            summary[name] = summarise(values)
        elif all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
            summary[name] = _aggregate(values)
        elif not isinstance(value, list) and all(v == value for v in values):
            summary[name] = value
    return summary


def summarise_seeds(runs: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    """Aggregate the metrics of the runs of several seeds, by seed, with the list of the seeds."""
    summary = {**summarise(list(runs.values())), "seeds": list(runs)}
    summary.pop("seed", None)
    first = next(iter(runs.values()))
    if "class_split" in first:
        summary["class_split"] = first["class_split"]
    return summary


def summarise_splits(splits: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    """Aggregate the metrics of several class splits into one record of the same shape.

    Parameters
    ----------
    splits
        What `summarise_seeds` made of the runs of each split, by the seed of the split.

    Returns
    -------
    dict
        As of `summarise`, over the means of the splits. Each number also has an ``interval``: the
        ends of the 95% interval of its mean by Student's t; None for a single split.
    """
    means = [
        _means({name: value for name, value in split.items() if name != "class_split"})
        for split in splits.values()
    ]
    first = next(iter(splits.values()))
    summary: dict[str, Any] = _with_intervals(summarise(means))
    return {**summary, "seeds": first["seeds"], "class_splits": list(splits)}


def t_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """The 95% interval of a mean by Student's t, ``(low, high)``; None for a single value."""
    if len(values) < 2:
        return None
    reach = stats.t.ppf((1 + _CONFIDENCE) / 2, len(values) - 1) * stats.sem(values)
    mean = statistics.fmean(values)
    return mean - float(reach), mean + float(reach)


def _is_aggregate(value: Any) -> bool:
    return isinstance(value, Mapping) and value.keys() == _AGGREGATE


def _means(value: Any) -> Any:
    """A record with the mean in place of each aggregated number."""
    if _is_aggregate(value):
        return value["mean"]
    if isinstance(value, Mapping):
        return {name: _means(inner) for name, inner in value.items()}
    return value


def _with_intervals(value: Any) -> Any:
    """A record with an interval beside each aggregated number's mean."""
    if _is_aggregate(value):
        ends = t_interval(value["values"])
        return {**value, "interval": None if ends is None else list(ends)}
    if isinstance(value, Mapping):
        return {name: _with_intervals(inner) for name, inner in value.items()}
    return value


def _aggregate(values: Sequence[float]) -> dict[str, Any]:
    return {
        "mean": statistics.fmean(values),
        "std": statistics.stdev(values) if len(values) > 1 else None,
        "values": values,
    }


def mean_std(value: float | Mapping[str, Any] | None) -> MeanStd | None:
    """Convert a fraction, or an aggregate of `summarise`, to percent; None stays None.

    A standard deviation of 0, as a closed-form method has it, is left out.
    """
    if value is None:
        return None
    if isinstance(value, Mapping):
        ends = value.get("interval")
        return MeanStd(
            100 * value["mean"],
            100 * value["std"] if value["std"] else None,
            None if ends is None else (100 * ends[0], 100 * ends[1]),
        )
    return MeanStd(100 * value)
