"""Extract features of new pictures with the backbone that a run's dataset was made with."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from gsmflow.core.errors import InputError
from gsmflow.core.files import path_text
from gsmflow.data.extract.backbones import Backbone
from gsmflow.data.extract.features import stream_features
from gsmflow.data.extract.images import (
    PictureError,
    open_picture,
    quiet_readers,
    walk_files,
)
from gsmflow.data.extract.record import RECORD_FILE, recorded_backbone
from gsmflow.data.new_rows import NewRows, Piece

__all__ = ["RecordedFeatures", "open_pictures"]

_EXPECTED = (
    "expected rows of features in a .npy, .mat or .csv file, a picture or a folder of pictures"
)


@dataclass(frozen=True)
class RecordedFeatures:
    """The features that a run was trained on.

    Attributes
    ----------
    folder
        The folder with their record: the run's directory.
    name, dimension
        Stem of the feature file, and ``d``.
    device
        The device for further features.
    """

    folder: Path
    name: str
    dimension: int
    device: torch.device


def open_pictures(path: Path, recorded: RecordedFeatures, weights: Path | None = None) -> NewRows:
    """Extract features of pictures, batch by batch as the rows are consumed.

    Parameters
    ----------
    path
        A picture, or a folder with pictures at any depth. Files there that are no readable
        pictures are left out and reported. The name of a row is its file's path below the folder.
    recorded
        The features of the run.
    weights
        Where the backbone's weights are now; None: where they were when the dataset was made.

    Raises
    ------
    InputError
        If there is no picture, if the run has no record, or if its backbone cannot be loaded or
        has changed. If none of the pictures can be read, the error is raised at the end.
    """
    total = _count(path)
    backbone, batch_size = _backbone(recorded, weights)

    def pieces() -> Iterator[Piece]:
        files = walk_files(path) if path.is_dir() else iter([path])
        any_readable = False
        for batch, found in stream_features(files, backbone, batch_size=batch_size):
            names = [path_text(file.relative_to(path) if path.is_dir() else file) for file in batch]
            any_readable = any_readable or len(found.kept) > 0
            yield Piece(
                [names[index] for index in found.kept],
                found.features,
                tuple(f"{names[index]}: {reason}" for index, reason in found.refused),
            )
        if not any_readable:
            raise InputError(f"{path}: found no readable picture, expected at least one")

    source = f"{backbone.name} ({backbone.facts['source']})"
    random = ", with random weights, for trials only" if backbone.facts["random_weights"] else ""
    return NewRows(total, pieces, (f"features of the pictures by {source}{random}",), "file")


def _count(path: Path) -> int:
    """The number of files; raise `InputError` if none of them can be a picture."""
    if path.is_dir():
        total = sum(1 for _ in walk_files(path))
        if not total:
            raise InputError(f"{path}: found no file, expected pictures")
        return total
    if not path.is_file():
        raise InputError(f"{path}: no such file or folder, {_EXPECTED}")
    try:
        with quiet_readers():
            open_picture(path)
    except PictureError as error:
        raise InputError(f"{path}: {error}, {_EXPECTED}") from error
    return 1


def _backbone(recorded: RecordedFeatures, weights: Path | None) -> tuple[Backbone, int]:
    """The backbone of the recorded features, and its batch size."""
    record = recorded.folder / RECORD_FILE
    if not record.is_file():
        raise InputError(
            f"{record}: no such file, expected the run of a dataset that python -m gsmflow extract "
            "made; this run can only classify rows of features"
        )
    backbone, batch_size = recorded_backbone(
        recorded.folder, recorded.device, weights, name=recorded.name
    )
    if backbone.dimension != recorded.dimension:
        raise InputError(
            f"{record}: found a backbone of {backbone.dimension} dimensions, expected the "
            f"{recorded.dimension} that the run was trained on"
        )
    return backbone, batch_size
