"""Figures of several seeds as one: mean, standard deviation, and the figures themselves."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from gsmflow.core.tables import MeanStd

__all__ = ["mean_std", "summarise"]


_SPREAD = {"mean", "std", "values"}


def summarise(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The metrics of several runs in the shape of one run's.

    Parameters
    ----------
    runs
        What ``metrics.json`` of each holds, one run or more.

    Returns
    -------
    dict
        What all runs have: in place of a number its ``mean``, its sample standard deviation
        ``std`` (None for a single run) and the ``values`` of the runs; other values where they
        are equal. Lists and what differs are left out. Of what is such a mean in each run, over
        draws, all runs' values count.
    """
    first, *others = runs
    summary: dict[str, Any] = {}
    for name, value in first.items():
        if not all(name in other for other in others):
            continue
        values = [run[name] for run in runs]
        if all(isinstance(v, Mapping) and v.keys() == _SPREAD for v in values):
            summary[name] = _spread([number for v in values for number in v["values"]])
        elif all(isinstance(v, Mapping) for v in values):
            summary[name] = summarise(values)
        elif all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
            summary[name] = _spread(values)
        elif not isinstance(value, list) and all(v == value for v in values):
            summary[name] = value
    return summary


def _spread(values: Sequence[float]) -> dict[str, Any]:
    return {
        "mean": statistics.fmean(values),
        "std": statistics.stdev(values) if len(values) > 1 else None,
        "values": values,
    }


def mean_std(value: float | Mapping[str, Any] | None) -> MeanStd | None:
    """A fraction of 1, or what `summarise` made of several, in percent; None for None.

    A standard deviation of 0, as that of a closed form, is left out.
    """
    if value is None:
        return None
    if isinstance(value, Mapping):
        return MeanStd(100 * value["mean"], 100 * value["std"] if value["std"] else None)
    return MeanStd(100 * value)
