"""Figures of several seeds as one: mean, standard deviation, and the figures themselves."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["percent", "summarise"]


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
        are equal. Lists and what differs are left out.
    """
    first, *others = runs
    summary: dict[str, Any] = {}
    for name, value in first.items():
        if not all(name in other for other in others):
            continue
        values = [run[name] for run in runs]
        if all(isinstance(v, Mapping) for v in values):
            summary[name] = summarise(values)
        elif all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
            summary[name] = {
                "mean": statistics.fmean(values),
                "std": statistics.stdev(values) if others else None,
                "values": values,
            }
        elif not isinstance(value, list) and all(v == value for v in values):
            summary[name] = value
    return summary


def percent(value: float | Mapping[str, Any] | None) -> str:
    """A fraction of 1 in percent, ``51.5``; of several seeds ``51.5 ±2.1``; ``-`` for None."""
    if value is None:
        return "-"
    if isinstance(value, Mapping):
        spread = "" if value["std"] is None else f" ±{100 * value['std']:.1f}"
        return f"{100 * value['mean']:.1f}{spread}"
    return f"{100 * value:.1f}"
