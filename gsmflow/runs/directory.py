"""Run directories, ``out/<dataset>/<run>/``: making and resuming them, their recipe, their log."""

import json
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any

from gsmflow.core.errors import InputError
from gsmflow.core.files import cut_torn_line, read_json, write_json
from gsmflow.core.run_files import ADDED_FILE, METRICS_FILE, RECIPE_FILE
from gsmflow.recipes.files import describe_recipe, recipe_from
from gsmflow.recipes.recipe import Recipe

__all__ = [
    "STORAGE_FIELDS",
    "RunLog",
    "computed_fields",
    "enter_run",
    "make_run_directory",
    "open_run",
    "read_run_recipe",
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
}


def open_run(recipe: Recipe) -> tuple[Path, bool]:
    """Make the run's directory, or find the one to resume.

    Returns
    -------
    tuple
        The directory, with ``recipe.json`` in it, and whether it is resumed.

    Raises
    ------
    InputError
        If the named run exists without ``resume``, does not exist with it, or was started with
        another recipe.
    """
    parent = recipe.out / recipe.dataset
    if recipe.resume:
        found = parent / recipe.run if recipe.run else _latest_unfinished(parent, recipe)
        if found is not None:
            _resume(found, recipe)
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
        if make_run_directory(directory, recipe):
            break
        if recipe.run:
            raise InputError(
                f"{directory}: exists already, expected a new name; continue that run with "
                "--resume or name another with --run"
            )
    return directory, False


def enter_run(directory: Path, recipe: Recipe) -> bool:
    """Make a run's directory at a given path, or resume the run in it.

    Returns
    -------
    bool
        Whether a run is resumed.

    Raises
    ------
    InputError
        If the run was started with another recipe, or the directory cannot be made.
    """
    if make_run_directory(directory, recipe):
        return False
    _resume(directory, recipe)
    return True


def make_run_directory(directory: Path, recipe: Recipe) -> bool:
    """Make the directory and write its recipe, atomically; False if it exists already."""
    if directory.exists():
        return False
    temporary = directory.with_name(f".{directory.name}.{os.getpid()}.part")
    try:
        temporary.mkdir(parents=True)
        write_json(temporary / RECIPE_FILE, describe_recipe(recipe))
        temporary.rename(directory)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        if directory.exists():  # another process was first
            return False
        raise InputError(f"{directory}: cannot be made ({error.strerror})") from error
    return True


def _latest_unfinished(parent: Path, recipe: Recipe) -> Path | None:
    candidates = []
    for file in parent.glob(f"[!.]*/{RECIPE_FILE}"):
        # A run with a damaged recipe is skipped.
        with suppress(InputError):
            if not (file.parent / METRICS_FILE).exists() and not _differences(file, recipe):
                candidates.append(file.parent)
    return max(candidates, key=lambda folder: folder.stat().st_mtime, default=None)


def _resume(directory: Path, recipe: Recipe) -> None:
    """Check that the run has this recipe, and delete files that a killed process left behind."""
    if (directory / ADDED_FILE).exists():
        raise InputError(
            f"{directory / ADDED_FILE}: found classes that were added to another run, expected a "
            "run that was trained here, to be resumed"
        )
    _check_same_recipe(directory, recipe)
    for unfinished in directory.rglob(".*.part"):
        unfinished.unlink(missing_ok=True)


def _check_same_recipe(directory: Path, recipe: Recipe) -> None:
    file = directory / RECIPE_FILE
    if not file.is_file():
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
        if path.exists():
            cut_torn_line(path, b'{"time":')

    def write(self, event: str, **facts: Any) -> None:
        """Append one record."""
        record: Mapping[str, Any] = {
            "time": datetime.now().isoformat(timespec="milliseconds"),
            "event": event,
            **facts,
        }
        with self._path.open("a") as file:
            file.write(json.dumps(record) + "\n")
