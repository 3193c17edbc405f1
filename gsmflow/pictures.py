"""New pictures as rows of features, made as those were that a run was trained on."""

from collections.abc import Iterator
from pathlib import Path

from gsmflow.errors import InputError
from gsmflow.extract.backbones import Backbone
from gsmflow.extract.features import stream_features
from gsmflow.extract.images import PictureError, open_picture, quiet_readers, said_path, walk_files
from gsmflow.extract.record import RECORD_FILE, recorded_backbone
from gsmflow.inputs import NewRows, Piece
from gsmflow.trained import TrainedRun

__all__ = ["open_pictures"]

_EXPECTED = (
    "expected rows of features in a .npy, .mat or .csv file, a picture or a folder of pictures"
)


def open_pictures(path: Path, run: TrainedRun, weights: Path | None = None) -> NewRows:
    """Rows of features of pictures, which are read as they are wanted.

    Parameters
    ----------
    path
        A picture, or a folder with pictures at any depth; what is no readable picture there is
        left out and told. A row's name is its file below the folder.
    run
        A run on a dataset that was extracted from pictures, whose record it keeps.
    weights
        Where the backbone's weights lie now; None for where they lay then.

    Raises
    ------
    InputError
        If there is no picture, the run keeps no record, or its backbone cannot be had as it was;
        if none of the pictures can be read, at the end.
    """
    total = _count(path)
    backbone, batch_size = _backbone(run, weights)

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


def _backbone(run: TrainedRun, weights: Path | None) -> tuple[Backbone, int]:
    """The backbone of a run's features, and how many pictures it computes together."""
    record = run.directory / RECORD_FILE
    if not record.is_file():
        raise InputError(
            f"{record}: no such file, expected the run of a dataset that python -m gsmflow extract "
            "made; this one answers rows of features alone"
        )
    backbone, batch_size = recorded_backbone(
        run.directory, run.device, weights, name=run.recipe.features
    )
    if backbone.dimension != run.feature_dim:
        raise InputError(
            f"{record}: found a backbone of {backbone.dimension} dimensions, expected the "
            f"{run.feature_dim} that the run was trained on"
        )
    return backbone, batch_size
