"""The record beside a dataset's files: how its features and semantics were made."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from gsmflow.core.errors import InputError
from gsmflow.core.files import read_json, write_bytes, write_json
from gsmflow.data.extract.backbones import Backbone, BackboneSpec, lasting_name, load_backbone

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
    """Write how a dataset was made.

    Parameters
    ----------
    folder
        The dataset's.
    spec
        The backbone as asked for.
    features
        What the features depend on, and the name of their file: `Backbone.facts`, ``batch_size``
        and ``name``.
    semantics, splits
        What those depend on, JSON-ready.
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


def copy_record(source: Path, target: Path) -> None:
    """Copy the record from one folder to another, such as a run's; nothing where there is none."""
    file = source / RECORD_FILE
    if file.is_file():
        write_bytes(target / RECORD_FILE, file.read_bytes())


def recorded_backbone(
    folder: Path, device: torch.device, weights: Path | None = None, *, name: str | None = None
) -> tuple[Backbone, int]:
    """Load the backbone that a dataset's features are of, to extract further images alike.

    Parameters
    ----------
    folder
        The dataset's, or that of a run on it.
    device
        Where to compute.
    weights
        Where the weights lie now; None for where they lay then.
    name
        Of the features, which the record must be of; None: of any.

    Returns
    -------
    tuple
        The backbone, and how many images were computed together.

    Raises
    ------
    InputError
        If the record is missing, damaged or of other features, the backbone cannot be loaded, or
        its weights or its preprocessing are others than then.
    """
    file = folder / RECORD_FILE
    record = read_json(file)
    try:
        features, then = record["features"], record["spec"]
        found_name, batch_size = str(features["name"]), int(features["batch_size"])
        place = then["weights"] and Path(then["weights"])
        spec = BackboneSpec(then["backbone"], place, features["dtype"], int(then["seed"]))
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{file}: found no record of an extraction ({error}), expected the file that "
            "python -m gsmflow extract wrote"
        ) from error
    if name not in (None, found_name):
        raise InputError(f"{file}: found a record of features {found_name}, expected one of {name}")
    backbone = load_backbone(_as_it_lies_now(spec, weights, file), device)
    for field in ("weights_blake2b", "preprocessing", "takes"):
        found, expected = backbone.facts[field], features.get(field)
        if found != expected:
            raise InputError(
                f"{backbone.facts['source']}: found {field} {found}, expected {expected} as "
                f"{file} has it: other features would mean nothing to a model trained on these"
            )
    return backbone, batch_size


def _as_it_lies_now(spec: BackboneSpec, weights: Path | None, file: Path) -> BackboneSpec:
    """A backbone as its record has it, with local weights where they lie now."""
    by_folder = Path(spec.name).is_absolute()
    if weights is not None and by_folder:
        return replace(spec, name=str(weights if weights.is_dir() else weights.parent))
    if weights is not None:
        return replace(spec, weights=weights)
    for place in (Path(spec.name) if by_folder else None, spec.weights):
        if place is not None and not place.exists():
            raise InputError(
                f"{place}: no such file or folder, expected the backbone's weights, which lay "
                f"there as {file} has it; --weights says where they lie now"
            )
    return spec
