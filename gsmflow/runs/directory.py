"""Run directories, ``out/<dataset>/<run>/``: making and resuming them, their recipe, their log."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any

from gsmflow.core.errors import InputError, writing
from gsmflow.core.files import cut_torn_line, read_json, write_json
from gsmflow.core.folders import BusyError, locked, remove_leftovers, whole_folder
from gsmflow.core.json_records import read_record
from gsmflow.core.run_files import (
    ADDED_FILE,
    DATA_FILE,
    DESCRIPTION_FILE,
    METRICS_FILE,
    RECIPE_FILE,
)
from gsmflow.data.dataset import Dataset, fingerprint, training_problem
from gsmflow.data.digest import DataDigest
from gsmflow.recipes.files import describe_recipe, recipe_from
from gsmflow.recipes.recipe import Recipe

__all__ = [
    "STORAGE_FIELDS",
    "RunLog",
    "check_data",
    "computed_fields",
    "open_run",
    "opened_run",
    "read_digest",
    "read_run_recipe",
    "write_start",
]


# Fields of the recipe that do not change what a run computes: where it and its features are stored,
# where its settings come from, and where several runs run.
STORAGE_FIELDS = {"out", "run", "resume", "cache", "features_in", "preset", "recipe"} | {
    "executor",
    "workers",
    "partition",
    "job_gpus",
    "job_minutes",
    "job_memory_gib",
}


# Fields that say nothing at these values: recipes of before they existed compute the same, and have
# the same digest.
_SILENT: Mapping[str, Any] = {
    "class_split": None,
    "class_splits": 0,
    "split_unseen": 0,
    "unseen_names": [],
    "classifiers_beside": [],
}


@contextmanager
def opened_run(
    recipe: Recipe, dataset: Dataset | None = None, directory: Path | None = None
) -> Iterator[tuple[Path, bool]]:
    """A context in which this process alone writes to a run's directory.

    The directory is made, or found to be resumed. What a killed process left unfinished in it is
    deleted.

    Parameters
    ----------
    recipe
        The recipe of the run.
    dataset
        Its data; None for the directory of runs on several datasets.
    directory
        The directory; None for the one that the recipe names.

    Yields
    ------
    tuple
        The directory, with ``recipe.json`` and ``data.json`` in it, and whether it is resumed.

    Raises
    ------
    InputError
        If the named run exists without ``resume``, if it was started with another recipe or other
        data, or if another process writes to it.
    WriteError
        If the directory cannot be made.
    """
    digest = None if dataset is None else DataDigest.of(dataset)
    if directory is None:
        found, resumed = open_run(recipe, digest)
    else:
        found, resumed = directory, not _make(directory, recipe, digest)
        if resumed:
            _check_resumable(directory, recipe)
    with locked(found):
        if resumed and dataset is not None and digest is not None:
            check_data(found, dataset, digest)
            write_json(found / DATA_FILE, asdict(digest))  # which earlier versions did not
        remove_leftovers(found)
        yield found, resumed


def open_run(recipe: Recipe, digest: DataDigest | None = None) -> tuple[Path, bool]:
    """Make the run's directory, or find the one to resume; see `opened_run`.

    Returns
    -------
    tuple
        The directory, and whether it is resumed.
    """
    parent = recipe.out / recipe.dataset
    if recipe.resume:
        found = parent / recipe.run if recipe.run else _latest_unfinished(parent, recipe)
        # One that was interrupted before its directory was made begins anew.
        if found is not None and found.exists():
            _check_resumable(found, recipe)
            return found, True
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    last = recipe.seed + recipe.seeds - 1
    seeds = f"seed{recipe.seed}" if recipe.seeds == 1 else f"seeds{recipe.seed}-{last}"
    splits = ""
    if recipe.class_splits:
        first = recipe.class_split or 0
        splits = f"splits{first}-{first + recipe.class_splits - 1}-"
    elif recipe.class_split is not None:
        splits = f"split{recipe.class_split}-"
    name = recipe.run or f"{stamp}-{splits}{seeds}"
    for number in count(1):
        directory = parent / (name if number == 1 else f"{name}-{number}")
        if _make(directory, recipe, digest):
            break
        if recipe.run:
            raise InputError(
                f"{directory}: exists already, expected a new name; continue that run with "
                "--resume or name another with --run"
            )
    return directory, False


def _make(directory: Path, recipe: Recipe, digest: DataDigest | None) -> bool:
    """Make a run's directory with its first files, atomically; False if it exists already."""
    if directory.exists():
        return False
    try:
        with whole_folder(directory) as temporary:
            write_start(temporary, recipe, digest)
    except (BusyError, OSError):
        if directory.exists():  # another process was first
            return False
        raise
    return True


def write_start(directory: Path, recipe: Recipe, digest: DataDigest | None) -> None:
    """Write what a run's directory has from the start: its recipe and the digest of its data."""
    write_json(directory / RECIPE_FILE, describe_recipe(recipe))
    if digest is not None:
        write_json(directory / DATA_FILE, asdict(digest))


def read_digest(directory: Path) -> DataDigest | None:
    """The digest of the data that a run began with; None if it is of a version that kept none.

    Raises
    ------
    InputError
        If its file is damaged.
    """
    file = directory / DATA_FILE
    return read_record(file, DataDigest) if file.exists() else None


def check_data(directory: Path, dataset: Dataset, digest: DataDigest | None = None) -> bool:
    """Whether a run is known to have begun with a dataset.

    Parameters
    ----------
    directory
        The run's directory.
    dataset
        The dataset.
    digest
        Its digest, where it is known; None to compute it.

    Returns
    -------
    bool
        False if the run is of a version that kept no digest, and nothing was trained in it.

    Raises
    ------
    InputError
        If it began with another dataset.
    """
    description, began = directory / DESCRIPTION_FILE, read_digest(directory)
    if began is not None:
        now = asdict(digest or DataDigest.of(dataset))
        differing = [name for name, value in asdict(began).items() if value != now[name]]
    elif description.exists():
        content = read_record(description, dict[str, Any])
        if "fingerprint" not in content:
            return False
        same = content["fingerprint"] == fingerprint(training_problem(dataset, "test"))
        differing = [] if same else ["features"]
    else:
        return False
    if differing:
        where = dataset.where("trainval" if differing[0] == "splits" else differing[0])
        raise InputError(
            f"{where}: found other {' and '.join(differing)} than {directory} began with, "
            "expected the same dataset"
        )
    return True


def _latest_unfinished(parent: Path, recipe: Recipe) -> Path | None:
    candidates = []
    for file in parent.glob(f"[!.]*/{RECIPE_FILE}"):
        # A run with a damaged recipe is skipped.
        with suppress(InputError):
            if not (file.parent / METRICS_FILE).exists() and not _differences(file, recipe):
                candidates.append(file.parent)
    return max(candidates, key=lambda folder: folder.stat().st_mtime, default=None)


def _check_resumable(directory: Path, recipe: Recipe) -> None:
    """Raise `InputError` unless the directory has a run of this recipe."""
    if (directory / ADDED_FILE).exists():
        raise InputError(
            f"{directory / ADDED_FILE}: found classes that were added to another run, expected a "
            "run that was trained here, to be resumed"
        )
    _check_same_recipe(directory, recipe)


def _check_same_recipe(directory: Path, recipe: Recipe) -> None:
    file = directory / RECIPE_FILE
    if not file.exists():
        raise InputError(f"{file}: no such file, expected a run to resume in {directory}")
    differences = _differences(file, recipe)
    if differences:
        name, (found, expected) = next(iter(differences.items()))
        raise InputError(
            f"{file}, field '{name}': found {found!r}, expected {expected!r} as asked for now; "
            "a run is resumed with the recipe that it was started with"
        )


def _differences(file: Path, recipe: Recipe) -> dict[str, tuple[Any, Any]]:
    """Fields that differ: name to (value in the file, value in the recipe)."""
    stored = read_json(file)
    recipe_from(stored, str(file))  # which names what is damaged or of another form
    found, expected = _computed(stored), computed_fields(recipe)
    return {
        name: (found.get(name), expected.get(name))
        for name in [*expected, *(name for name in found if name not in expected)]
        if found.get(name) != expected.get(name)
    }


def read_run_recipe(directory: Path) -> Recipe:
    """The recipe that a run was started with; fields that its file lacks get their defaults.

    Raises
    ------
    InputError
        If its file is missing or damaged, or has unknown fields or values.
    """
    file = directory / RECIPE_FILE
    return recipe_from(read_json(file), str(file))


def computed_fields(recipe: Recipe) -> dict[str, Any]:
    """The fields that change what a run computes, JSON-ready; nested ones as ``CONFIG.FIELD``."""
    return _computed(describe_recipe(recipe))


def _computed(described: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in described.items():
        if isinstance(value, Mapping):
            flat |= {f"{name}.{inner}": v for inner, v in value.items()}
        elif name not in STORAGE_FIELDS and not (name in _SILENT and value == _SILENT[name]):
            flat[name] = value
    return flat


class RunLog:
    """The JSON-lines log of a run, with one record a line.

    A resumed run may repeat epochs that it had logged but not saved; the last record of an epoch
    counts. A line that a killed process left unfinished is dropped when the log is opened again.

    Parameters
    ----------
    path
        The log file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._begun = path.exists()
        if self._begun:
            with writing(path):
                cut_torn_line(path, b'{"time":')

    def write(self, event: str, **facts: Any) -> None:
        """Append one record.

        Raises
        ------
        WriteError
            If it cannot be written, for example because the run was deleted.
        """
        record: Mapping[str, Any] = {
            "time": datetime.now().isoformat(timespec="milliseconds"),
            "event": event,
            **facts,
        }
        line = (json.dumps(record) + "\n").encode()
        # Only the first record makes the file, so that a deleted run is noticed.
        flags = os.O_WRONLY | os.O_APPEND | (0 if self._begun else os.O_CREAT)
        with writing(self._path), os.fdopen(os.open(self._path, flags, 0o666), "wb") as file:
            file.write(line)
        self._begun = True
