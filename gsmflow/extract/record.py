"""The record beside a dataset's files: how its features and semantics were made."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from gsmflow.errors import InputError
from gsmflow.extract.backbones import Backbone, BackboneSpec, load_backbone
from gsmflow.util import read_json, write_json

__all__ = ["RECORD_FILE", "recorded_backbone", "write_record"]

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
        What the features depend on: `Backbone.facts` and the size of a batch.
    semantics, splits
        What those depend on, JSON-ready.
    """
    weights = None if spec.weights is None else str(spec.weights.resolve())
    write_json(
        folder / RECORD_FILE,
        {
            "format": _FORMAT,
            "spec": {"weights": weights, "seed": spec.seed},
            "features": dict(features),
            "semantics": dict(semantics),
            "splits": dict(splits),
        },
    )


def recorded_backbone(
    folder: Path, device: torch.device, weights: Path | None = None
) -> tuple[Backbone, int]:
    """Load the backbone that a dataset's features are of, to extract further images alike.

    Parameters
    ----------
    folder
        The dataset's.
    device
        Where to compute.
    weights
        Where the weights lie now; None for where they lay then.

    Returns
    -------
    tuple
        The backbone, and how many images were computed together.

    Raises
    ------
    InputError
        If the record is missing or damaged, the backbone cannot be loaded, or its weights or its
        preprocessing are others than then.
    """
    file = folder / RECORD_FILE
    record = read_json(file)
    try:
        features, then = record["features"], record["spec"]
        place = then["weights"] and Path(then["weights"])
        spec = BackboneSpec(
            features["backbone"], weights or place, features["dtype"], int(then["seed"])
        )
        batch_size = int(features["batch_size"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{file}: found no record of an extraction ({error}), expected the file that "
            "python -m gsmflow extract wrote"
        ) from error
    backbone = load_backbone(spec, device)
    for name in ("weights_blake2b", "preprocessing", "takes"):
        found, expected = backbone.facts[name], features.get(name)
        if found != expected:
            raise InputError(
                f"{backbone.facts['source']}: found {name} {found}, expected {expected} as "
                f"{file} has it: other features would mean nothing to a model trained on these"
            )
    return backbone, batch_size
