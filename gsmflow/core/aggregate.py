"""Aggregate the metrics of several seeds: mean, standard deviation and single values."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from gsmflow.core.tables import MeanStd

__all__ = ["mean_std", "summarise", "summarise_seeds"]

# The fields of an aggregated number.
_AGGREGATE = {"mean", "std", "values"}


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
        if all(isinstance(v, Mapping) and v.keys() == _AGGREGATE for v in values):
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
    return summary


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
        return MeanStd(100 * value["mean"], 100 * value["std"] if value["std"] else None)
    return MeanStd(100 * value)
