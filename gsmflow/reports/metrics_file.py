"""The file ``metrics.json``: what each of its fields may be, and its one reader.

A figure is a fraction of 1; of several seeds, or over draws, its mean and deviation. A metric may
be null, or missing in older runs; which ones must be there is asked where they are read.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import msgspec
from msgspec import Meta

from gsmflow.core.files import read_json
from gsmflow.core.json_fields import Field
from gsmflow.core.json_records import as_record
from gsmflow.evaluation.measures import METRICS

__all__ = ["CLASSIFIERS_BESIDE", "check_measures", "open_metrics"]

CLASSIFIERS_BESIDE = "classifiers_beside"

# Rounding may lift an area above 1.
_Share: TypeAlias = Annotated[float, Meta(ge=0, le=1 + 1e-9)]
_Deviation: TypeAlias = Annotated[float, Meta(ge=0)]
_Text: TypeAlias = Annotated[str, Meta(min_length=1)]
_Seed: TypeAlias = Annotated[int, Meta(ge=0)]


@dataclass(frozen=True)
class _Shares:
    """A figure over seeds or draws."""

    mean: _Share
    std: _Deviation | None = None
    values: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class _Numbers:
    """A number over seeds or draws."""

    mean: float
    std: _Deviation | None = None
    values: list[float] = field(default_factory=list)


_Figure: TypeAlias = _Share | _Shares | None
_Number: TypeAlias = float | _Numbers | None

_Calibrated: Any = msgspec.defstruct(
    "_Calibrated",
    [("gamma", _Number, None), *((m.name, _Figure, None) for m in METRICS if m.calibrated)],
)
_Measures: Any = msgspec.defstruct(
    "_Measures",
    [
        *((metric.name, _Figure, None) for metric in METRICS if not metric.calibrated),
        ("calibrated", _Calibrated | None, None),
    ],
)
_TopK: Any = msgspec.defstruct("_TopK", [("k", _Number, None)], bases=(_Measures,))
_FewShot: Any = msgspec.defstruct("_FewShot", [("share", _Figure, None)], bases=(_Measures,))


@dataclass(frozen=True)
class _Gate:
    """The gate's part of the file."""

    name: _Text
    measures: _Measures
    AUROC: _Figure = None
    FPR95: _Figure = None
    accepted_seen: _Figure = None
    accepted_unseen: _Figure = None


@dataclass(frozen=True)
class _Novelty:
    """How well rows of unseen and of seen classes are separated, and what shares are rejected."""

    AUROC: _Figure = None
    rejected_seen: _Figure = None
    rejected_unseen: _Figure = None


@dataclass(frozen=True)
class _Reliability:
    """How far probabilities are from accuracies; without test rows of a kind, nothing of it."""

    ECE_seen: _Figure = None
    ECE_unseen: _Figure = None


@dataclass(frozen=True)
class _Validation:
    """What the validation classes gave: of seeds without the curve."""

    gamma: _Number = None
    temperatures: dict[str, _Number] | None = None
    curve: list[dict[str, float]] = field(default_factory=list)


_Metrics: Any = msgspec.defstruct(
    "_Metrics",
    [
        *((name, _Text) for name in ("model", "dataset", "features", "semantics", "protocol")),
        ("seed", _Seed | None, None),
        ("seeds", Annotated[list[_Seed], Meta(min_length=1)] | None, None),
        ("validation", _Validation | None, None),
        ("baselines", dict[str, _Measures] | None, None),
        (CLASSIFIERS_BESIDE, dict[str, _Measures] | None, None),
        ("oracle", _Measures | None, None),
        ("gate", _Gate | None, None),
        ("novelty", _Novelty | None, None),
        ("reliability", _Reliability | None, None),
        ("top_k", _TopK | None, None),
        ("few_shot", dict[str, _FewShot] | None, None),
        ("shifts", dict[str, dict[str, Any]] | None, None),
        ("test_selected", _Measures | None, None),
    ],
    bases=(_Measures,),
    kw_only=True,
)


def check_measures(where: str, value: object) -> None:
    """Check the measures of one method, as ``metrics.json`` has them.

    Parameters
    ----------
    where
        Where they stand, for messages.
    value
        The measures.

    Raises
    ------
    InputError
        If a field has another type or is out of range.
    """
    as_record(where, value, _Measures)


def open_metrics(file: Path) -> Field:
    """What ``metrics.json`` holds, of a run or of several seeds, after a check of all its fields.

    Raises
    ------
    InputError
        If the file is missing or damaged, or a field has another type or is out of range.
    """
    value = read_json(file)
    as_record(str(file), value, _Metrics)
    metrics = Field(file, "", value)
    if metrics["seed"].value is None and metrics["seeds"].value is None:
        raise metrics["seed"].refused("a seed")
    return metrics
