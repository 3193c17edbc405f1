"""The record of an extraction: how the features and semantics of a dataset were made."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import torch
from msgspec import Meta

from gsmflow.core.errors import InputError
from gsmflow.core.files import write_bytes, write_json
from gsmflow.core.json_records import as_record, read_record
from gsmflow.data.extract.backbones import (
    Backbone,
    BackboneSpec,
    DtypeName,
    lasting_name,
    load_backbone,
)

__all__ = ["RECORD_FILE", "copy_record", "recorded_backbone", "write_record"]

RECORD_FILE = "extract.json"
_FORMAT = 1


def write_record(
    folder: Path,
    spec: BackboneSpec,
    features: Mapping[str, Any],
    semantics: Mapping[str, Any],
    splits: Mapping[str, Any],
) -> None:
    """Write the record of an extraction.

    Parameters
    ----------
    folder
        The dataset's folder.
    spec
        The requested backbone.
    features
        Everything that the features depend on, and the stem of their file: `Backbone.facts`,
        ``batch_size`` and ``name``.
    semantics, splits
        Everything that the semantics and the splits depend on, JSON-ready.
    """
    weights = None if spec.weights is None else str(spec.weights.resolve())
    write_json(
        folder / RECORD_FILE,
        {
            "format": _FORMAT,
            "spec": {"backbone": lasting_name(spec.name), "weights": weights, "seed": spec.seed},
            "features": dict(features),
            "semantics": dict(semantics),
            "splits": dict(splits),
        },
    )


@dataclass(frozen=True)
class _Spec:
    """Which backbone made the features."""

    backbone: str
    weights: str | None
    seed: Annotated[int, Meta(ge=0)]


@dataclass(frozen=True)
class _Features:
    """What is read of the facts of the features; the others are compared as they are."""

    name: str
    batch_size: Annotated[int, Meta(ge=1)]
    dtype: DtypeName


@dataclass(frozen=True)
class _Record:
    """What is read of the file."""

    spec: _Spec
    features: dict[str, Any]


def copy_record(source: Path, target: Path) -> None:
    """Copy the record to another folder, such as a run directory, if there is one."""
    file = source / RECORD_FILE
    if file.is_file():
        write_bytes(target / RECORD_FILE, file.read_bytes())


def recorded_backbone(
    folder: Path, device: torch.device, weights: Path | None = None, *, name: str | None = None
) -> tuple[Backbone, int]:
    """Load the backbone of a dataset's features, to extract further images in the same way.

    Parameters
    ----------
    folder
        The dataset's folder, or the directory of a run on it.
    device
        Where to compute.
    weights
        Where the weights are now; None: where they were when the dataset was made.
    name
        Stem of the feature file that the record must describe; None for any.

    Returns
    -------
    tuple
        The backbone and the batch size of the extraction.

    Raises
    ------
    InputError
        If the record is missing, damaged or of other features, if the backbone cannot be loaded,
        or if its weights or its preprocessing have changed.
    """
    file = folder / RECORD_FILE
    record = read_record(file, _Record)
    facts, recorded = record.features, as_record(str(file), record.features, _Features)
    found_name, batch_size = recorded.name, recorded.batch_size
    path = None if record.spec.weights is None else Path(record.spec.weights)
    spec = BackboneSpec(record.spec.backbone, path, recorded.dtype, record.spec.seed)
    if name not in (None, found_name):
        raise InputError(f"{file}: found a record of features {found_name}, expected one of {name}")
    backbone = load_backbone(_with_current_paths(spec, weights, file), device)
    for field in ("weights_blake2b", "preprocessing", "takes"):
        found, expected = backbone.facts[field], facts.get(field)
        if found != expected:
            raise InputError(
                f"{backbone.facts['source']}: found {field} {found}, expected {expected} as "
                f"{file} has it: a model trained on these features cannot use others"
            )
    return backbone, batch_size


def _with_current_paths(spec: BackboneSpec, weights: Path | None, file: Path) -> BackboneSpec:
    """A recorded backbone, with local weights at their current path."""
    by_folder = Path(spec.name).is_absolute()
    if weights is not None and by_folder:
        return replace(spec, name=str(weights if weights.is_dir() else weights.parent))
    if weights is not None:
        return replace(spec, weights=weights)
    for path in (Path(spec.name) if by_folder else None, spec.weights):
        if path is not None and not path.exists():
            raise InputError(
                f"{path}: no such file or folder, expected the backbone's weights, which were "
                f"there according to {file}; --weights names their present path"
            )
    return spec
