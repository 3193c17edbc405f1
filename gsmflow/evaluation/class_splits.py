"""Intervals and comparisons of methods over random class splits, by Student's t."""

from collections.abc import Mapping
from statistics import fmean

from scipy import stats

from gsmflow.core.aggregate import t_interval
from gsmflow.evaluation.bootstrap import Estimate, holm

__all__ = ["estimate_over_splits"]

# Two means that differ by less than this differ by rounding.
_ROUNDING = 1e-12


def estimate_over_splits(
    methods: Mapping[str, Mapping[str, Mapping[int, float]]],
) -> dict[str, dict[str, Estimate]]:
    """Intervals of every measure of methods on one dataset, and which methods are best.

    The best are the method with the highest mean, the first by name of several that have it, and
    all methods whose paired difference to it, over the splits that both have, has a 95% interval
    that includes 0. That is not corrected for the number of methods; `Estimate.p_holm` is.

    Parameters
    ----------
    methods
        Method to measure to its figure on each split, a fraction of 1, by the seed of the split.

    Returns
    -------
    dict
        Method to measure to what was found; nothing for a measure of a method with one split.
    """
    found: dict[str, dict[str, Estimate]] = {method: {} for method in methods}
    for measure in dict.fromkeys(name for figures in methods.values() for name in figures):
        figures = {
            method: of_method[measure]
            for method, of_method in methods.items()
            if len(of_method.get(measure, {})) > 1
        }
        for method, estimate in _estimate(figures).items():
            found[method][measure] = estimate
    return found


def _estimate(figures: Mapping[str, Mapping[int, float]]) -> dict[str, Estimate]:
    """Of one measure: the figures of methods by split."""
    if not figures:
        return {}
    means = {method: fmean(values.values()) for method, values in figures.items()}
    first = min(m for m, mean in means.items() if mean > max(means.values()) - _ROUNDING)
    behind = {
        method: [
            figures[first][split] - values[split] for split in values if split in figures[first]
        ]
        for method, values in figures.items()
    }
    p_values = {method: _p_value(behind[method]) for method in figures if method != first}
    corrected = holm(p_values)
    estimates = {}
    for method, values in figures.items():
        low, high = t_interval(list(values.values())) or (means[method], means[method])
        least = t_interval(behind[method])
        estimates[method] = Estimate(
            mean=means[method],
            low=low,
            high=high,
            best=least is None or least[0] <= _ROUNDING,
            p=p_values.get(method),
            p_holm=corrected.get(method),
        )
    return estimates


def _p_value(differences: list[float]) -> float:
    """Two-sided, that differences are of mean 0, by Student's t; 1 for less than two of them."""
    if len(differences) < 2:
        return 1.0
    if max(differences) - min(differences) < _ROUNDING:  # the test divides by their deviation
        return 1.0 if abs(differences[0]) < _ROUNDING else 0.0
    return float(stats.ttest_1samp(differences, 0.0).pvalue)
