"""New pictures as rows of features, made as those were that a run was trained on."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from gsmflow.core.errors import InputError
from gsmflow.data.extract.backbones import Backbone
from gsmflow.data.extract.features import stream_features
from gsmflow.data.extract.images import (
    PictureError,
    open_picture,
    quiet_readers,
    said_path,
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
    """The features that a run was trained on, whose record its directory has.

    Attributes
    ----------
    folder
        With the record: the run's directory.
    name, dimension
        Of the features: stem of their file, and ``d``.
    device
        Where to compute further ones.
    """

    folder: Path
    name: str
    dimension: int
    device: torch.device


def open_pictures(path: Path, recorded: RecordedFeatures, weights: Path | None = None) -> NewRows:
    """Rows of features of pictures, which are read as they are wanted.

    Parameters
    ----------
    path
        A picture, or a folder with pictures at any depth; what is no readable picture there is
        left out and told. A row's name is its file below the folder.
    recorded
        What the features must be like.
    weights
        Where the backbone's weights lie now; None for where they lay then.

    Raises
    ------
    InputError
        If there is no picture, the run keeps no record, or its backbone cannot be had as it was;
        if none of the pictures can be read, at the end.
    """
    total = _count(path)
    backbone, batch_size = _backbone(recorded, weights)

    def pieces() -> Iterator[Piece]:
        files = walk_files(path) if path.is_dir() else iter([path])
        some = False
        for batch, found in stream_features(files, backbone, batch_size=batch_size):
            names = [said_path(file.relative_to(path) if path.is_dir() else file) for file in batch]
            some = some or len(found.kept) > 0
            yield Piece(
                [names[place] for place in found.kept],
                found.features,
                tuple(f"{names[place]}: {reason}" for place, reason in found.refused),
            )
        if not some:
            raise InputError(f"{path}: found no readable picture, expected one at least")

    source = f"{backbone.name} ({backbone.facts['source']})"
    random = ", which is good for a rehearsal alone" if backbone.facts["random_weights"] else ""
    return NewRows(total, pieces, (f"features of the pictures by {source}{random}",), "file")


def _count(path: Path) -> int:
    """How many files there are; raise `InputError` where none of them can be a picture."""
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
    """The backbone of recorded features, and how many pictures it computes together."""
    record = recorded.folder / RECORD_FILE
    if not record.is_file():
        raise InputError(
            f"{record}: no such file, expected the run of a dataset that python -m gsmflow extract "
            "made; this one answers rows of features alone"
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
