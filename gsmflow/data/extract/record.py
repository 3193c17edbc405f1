"""The record of an extraction: how the features and semantics of a dataset were made."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import torch
from msgspec import Meta

from gsmflow.core.errors import InputError
from gsmflow.core.files import write_bytes, write_json
from gsmflow.core.json_records import as_record, read_record
from gsmflow.data.extract.backbones import (
    EMBEDDING,
    Backbone,
    BackboneSpec,
    DtypeName,
    lasting_name,
    load_backbone,
)
from gsmflow.data.extract.gbu import SEMANTICS

__all__ = [
    "RECORD_FILE",
    "RecordedFacts",
    "RecordedTexts",
    "copy_record",
    "features_record",
    "recorded_backbone",
    "recorded_facts",
    "recorded_texts",
    "separate_encoders",
    "write_record",
]

RECORD_FILE = "extract.json"
_FORMAT = 1


def features_record(
    spec: BackboneSpec, facts: Mapping[str, Any], pictures: Path
) -> Mapping[str, Any]:
    """How features were made, for `write_record`.

    Parameters
    ----------
    spec
        The requested backbone.
    facts
        Everything that the features depend on, and the stem of their file: `Backbone.facts`,
        ``batch_size`` and ``name``.
    pictures
        The folder of the pictures.
    """
    weights = None if spec.weights is None else str(spec.weights.resolve())
    return {
        "spec": {"backbone": lasting_name(spec.name), "weights": weights, "seed": spec.seed},
        "features": dict(facts),
        "pictures": str(pictures.resolve()),
    }


def write_record(
    folder: Path,
    features: Mapping[str, Any],
    semantics: Mapping[str, Any],
    splits: Mapping[str, Any],
) -> None:
    """Write the record of an extraction.

    Parameters
    ----------
    folder
        The dataset's folder.
    features
        `features_record` of the features, or those parts of the record of a dataset whose features
        are used again.
    semantics, splits
        Everything that the semantics and the splits depend on, JSON-ready.
    """
    write_json(
        folder / RECORD_FILE,
        {
            "format": _FORMAT,
            **features,
            "semantics": dict(semantics),
            "splits": dict(splits),
        },
    )


@dataclass(frozen=True)
class RecordedFacts:
    """What a record says, empty where it says nothing; arguments of `write_record`.

    Attributes
    ----------
    spec, features
        The parts of `features_record`.
    semantics
        Everything that the semantics depend on.
    pictures
        The folder of the pictures when the features were made; None where it was not recorded.
    """

    spec: dict[str, Any] = field(default_factory=dict)
    features: dict[str, Any] = field(default_factory=dict)
    semantics: dict[str, Any] = field(default_factory=dict)
    pictures: str | None = None


def recorded_facts(folder: Path) -> RecordedFacts:
    """What the record of a dataset, or of a run on it, says; nothing if there is none.

    Raises
    ------
    InputError
        If the file is not the record of an extraction.
    """
    file = folder / RECORD_FILE
    return read_record(file, RecordedFacts) if file.is_file() else RecordedFacts()


def separate_encoders(folder: Path, features: str, semantics: str) -> str:
    """What made a dataset's features and semantics, if it was not one image-text encoder.

    Parameters
    ----------
    folder
        The dataset's folder.
    features, semantics
        The names of its features and semantics.

    Returns
    -------
    str
        A part of a sentence; empty where they are of one encoder, where there is no record of these
        features and semantics, and where the semantics are a user's numbers for image embeddings:
        what made those is not known.

    Raises
    ------
    InputError
        If the file is not the record of an extraction.
    """
    recorded = recorded_facts(folder)
    made, described = recorded.features, recorded.semantics
    if made.get("name") != features or semantics != SEMANTICS:
        return ""
    texts = described.get("kind") == "texts"
    embeds = made.get("takes") == EMBEDDING
    if embeds and (not texts or made.get("weights_blake2b") == described.get("weights_blake2b")):
        return ""
    whence = described.get("text_encoder") if texts else described.get("file")
    return f"features of {made.get('backbone')} ({made.get('takes')}) and semantics of {whence}"


@dataclass(frozen=True)
class RecordedTexts:
    """How texts about classes became semantics.

    Attributes
    ----------
    text_encoder, templates
        As in `gsmflow.data.extract.texts.encode_classes`; a record without templates is of texts
        that were encoded as they were.
    weights_blake2b
        The digest of the encoder's weights.
    """

    text_encoder: str
    weights_blake2b: str
    templates: Annotated[tuple[str, ...], Meta(min_length=1)] = ("",)


@dataclass(frozen=True)
class _WithTexts:
    """What is read of a record whose semantics were made of texts."""

    semantics: RecordedTexts


def recorded_texts(folder: Path) -> RecordedTexts:
    """How the texts of a dataset, or of a run on it, were encoded.

    Raises
    ------
    InputError
        If the record is missing or damaged, or the semantics were not made of texts.
    """
    file = folder / RECORD_FILE
    if recorded_facts(folder).semantics.get("kind") != "texts":
        raise InputError(
            f"{file}: found no text encoder, expected that of the run's semantics: a class of this "
            "run is described by numbers, as its other classes are"
        )
    return read_record(file, _WithTexts).semantics


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

    spec: _Spec | None = None
    features: dict[str, Any] = field(default_factory=dict)


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
    if record.spec is None:
        raise InputError(
            f"{file}: found no backbone, expected that of the features; those of a dataset without "
            "a record have none when they are used again"
        )
    facts, recorded = record.features, as_record(str(file), record.features, _Features)
    found_name, batch_size = recorded.name, recorded.batch_size
    path = None if record.spec.weights is None else Path(record.spec.weights)
    spec = BackboneSpec(record.spec.backbone, path, recorded.dtype, record.spec.seed)
    if name not in (None, found_name):
        raise InputError(f"{file}: found a record of features {found_name}, expected one of {name}")
    backbone = load_backbone(_with_current_paths(spec, weights, file), device)
    for fact in ("weights_blake2b", "preprocessing", "takes"):
        found, expected = backbone.facts[fact], facts.get(fact)
        if found != expected:
            raise InputError(
                f"{backbone.facts['source']}: found {fact} {found}, expected {expected} as "
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
