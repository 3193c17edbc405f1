"""Which axes the loss parts of a training are drawn on, so that all of them can be read."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

__all__ = ["LossAxis", "loss_axes", "loss_parts"]

_UNITS = {"likelihood": "nats per dimension", "prototype": "mean squared distance"}
# The logarithm of a density: its zero means nothing, so neither do ratios of its values.
_LOG_DENSITIES = frozenset({"likelihood"})
# Parts share an axis where one is at most so many times as large as the next smaller one.
_GAP = 30
# From this ratio of the largest to the smallest value on, an axis of positive parts is logarithmic.
_DECADE = 10


@dataclass(frozen=True)
class LossAxis:
    """One vertical axis.

    Attributes
    ----------
    parts
        The loss parts on it, by name.
    title
        What stands beside it.
    logarithmic
        Whether it is; all values are positive then.
    """

    parts: tuple[str, ...]
    title: str
    logarithmic: bool


@dataclass(frozen=True)
class _Part:
    """A loss part: whether it has a logarithm, and the sizes between which its values lie."""

    name: str
    positive: bool
    low: float
    high: float

    @classmethod
    def of(cls, name: str, history: Iterable[Mapping[str, float]]) -> "_Part":
        values = [record[name] for record in history if name in record]
        if name not in _LOG_DENSITIES and min(values) > 0:
            return cls(name, True, min(values), max(values))
        size = max(abs(value) for value in values)
        return cls(name, False, size, size)


def loss_parts(history: Iterable[Mapping[str, float]]) -> list[str]:
    """Names of the loss parts of some epochs, each of which may lack some, in their order."""
    return list(dict.fromkeys(name for record in history for name in record if name != "epoch"))


def loss_axes(history: Sequence[Mapping[str, float]]) -> list[LossAxis]:
    """The axes for the loss parts of a training, each part on one of them.

    Parts whose values are all positive are apart from the others, as they can be on a logarithmic
    axis. Within both kinds, parts of very different size are on different axes.

    Parameters
    ----------
    history
        The mean loss parts of each epoch, each with its ``epoch``.

    Returns
    -------
    list
        In the order of their first parts.
    """
    parts = [_Part.of(name, history) for name in loss_parts(history)]
    clusters = [
        sorted(own, key=parts.index)
        for positive in (True, False)
        for own in _clusters([part for part in parts if part.positive == positive])
    ]
    return [
        LossAxis(
            tuple(part.name for part in own),
            "loss" if len(own) == len(parts) > 1 else _title(own),
            _is_logarithmic(own),
        )
        for own in sorted(clusters, key=lambda own: parts.index(own[0]))
    ]


def _clusters(parts: Sequence[_Part]) -> list[list[_Part]]:
    """The parts from small to large, cut where the next one is much larger than all before it."""
    clusters: list[list[_Part]] = []
    largest = 0.0
    for part in sorted(parts, key=lambda part: part.low):
        if not clusters or part.low > _GAP * largest > 0:
            clusters.append([])
        clusters[-1].append(part)
        largest = max(largest, part.high)
    return clusters


def _is_logarithmic(parts: Sequence[_Part]) -> bool:
    low, high = min(part.low for part in parts), max(part.high for part in parts)
    return all(part.positive for part in parts) and high >= _DECADE * low


def _title(parts: Sequence[_Part]) -> str:
    names = ", ".join(part.name for part in parts)
    unit = _UNITS.get(names)
    return f"{names} loss" if unit is None else f"{names} loss, {unit}"
