"""The study: trials in a journal that survives kills and that several processes share.

One process at a time claims a trial, under a lock. A trial that a dead process has left is claimed
again with the same settings, and its directory says how far it had come. The sampler is seeded
anew for each trial from the number of trials before it, so that a study of one process has the
same trials whatever kills happen.
"""

import os
import platform
import warnings
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import psutil
from filelock import FileLock
from optuna.distributions import CategoricalDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, Trial, TrialState

from gsmflow.core.errors import InputError, one_line
from gsmflow.runs.directory import computed_fields
from gsmflow.tuning.space import Space
from gsmflow.tuning.trial import Objective, Place

__all__ = [
    "Study",
    "claim",
    "finished_trials",
    "give_back",
    "is_own",
    "lags_behind",
    "open_study",
    "quiet_optuna",
]

_NAME = "tune"
_IDENTITY = "identity"
_PROCESS = "process"
# Trials that are drawn at random before there is enough to learn from, and complete ones before
# there is enough to compare a trial with that is half-way.
_RANDOM_TRIALS = 10
_TRIALS_BEFORE_PRUNING = 5
# Share of the settings in which a trial differs from the best one before it.
_CHANGED_SHARE = 1 / 3
# Fields that no trial depends on, or that other facts say better.
_NOT_COMPARED = {
    *("data", "device", "precision", "beside", "calibrate", "curve_every", "oracle", "seeds"),
    *("test_selected", "top_k", "shots", "shot_draws", "dataset", "features", "semantics"),
}
# The starts of two processes of the same number lie further apart.
_START_TOLERANCE = 2.0
_DONE = (TrialState.COMPLETE, TrialState.PRUNED)


@dataclass(frozen=True, eq=False)
class Study:
    """A study that is open in this process.

    Attributes
    ----------
    study
        Optuna's.
    space
        What is searched.
    objective
        What is made as high as possible.
    lock
        Held by the process that claims a trial.
    """

    study: optuna.Study
    space: Space
    objective: Objective
    lock: FileLock


@contextmanager
def quiet_optuna() -> Iterator[None]:
    """A context in which Optuna logs errors alone and does not warn of what is experimental."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(before)


def open_study(place: Place, objective: Objective) -> Study:
    """Begin the study in a place's folder, or join the one that is there.

    Raises
    ------
    InputError
        If the folder holds a study of something else, or cannot be used.
    """
    file = place.folder / "study.log"
    identity = _identity(place, objective)
    lock = FileLock(place.folder / ".study.lock")
    try:
        place.folder.mkdir(parents=True, exist_ok=True)
        with lock:
            study = _open_journal(file)
            if _IDENTITY not in study.user_attrs:
                study.set_user_attr(_IDENTITY, identity)
    except OSError as error:
        raise InputError(
            f"{place.folder}: cannot be used ({error.strerror or one_line(error)}), expected a "
            "folder for the study; name another with --study"
        ) from error
    except Exception as error:
        raise InputError(
            f"{file}: not readable as a study ({type(error).__name__}: {one_line(error)}), "
            "expected the file that a study wrote; name another folder with --study"
        ) from error
    _check_identity(file, study.user_attrs[_IDENTITY], identity)
    return Study(study, place.space, objective, lock)


def claim(study: Study, trials: int) -> Trial | None:
    """The next trial, with its settings; None where so many are finished or claimed already."""
    with study.lock:
        _release_abandoned(study)
        there = _trials(study, *_DONE, TrialState.RUNNING, TrialState.WAITING)
        waiting = sum(trial.state == TrialState.WAITING for trial in there)
        claimed = len(there) - waiting
        if claimed >= trials:
            return None
        seed = np.random.SeedSequence([study.space.recipe.seed, zlib.crc32(b"tune"), claimed])
        if not any(is_own(study, trial) for trial in there):
            study.study.enqueue_trial(study.space.own)
        elif not waiting:
            switched = _switched(study)[claimed - 1 : claimed]
            kept = switched[0] if switched else _kept(study, np.random.default_rng(seed))
            study.study.enqueue_trial(kept)
        study.study.sampler = optuna.samplers.TPESampler(
            seed=int(seed.generate_state(1)[0]),
            n_startup_trials=_RANDOM_TRIALS,
            multivariate=True,
            constant_liar=True,
        )
        trial = study.study.ask(study.space.distributions)
        process = psutil.Process()
        trial.set_user_attr(_PROCESS, [platform.node(), process.pid, process.create_time()])
        return trial


def give_back(study: Study, trial: Trial) -> None:
    """Fail a trial that this process will not finish, and queue its settings again."""
    with study.lock:
        _requeue(study, study.study.get_trials(deepcopy=False)[trial.number])


def finished_trials(study: Study) -> list[FrozenTrial]:
    """The complete and the pruned trials, in the order of their claims."""
    return _trials(study, *_DONE)


def is_own(study: Study, trial: FrozenTrial) -> bool:
    """Whether a trial's settings are the script's own."""
    return _drawn(study, trial) == study.space.own


def lags_behind(study: Study, value: float, step: int) -> bool:
    """Whether a trial's value at a step is below the median of the complete trials' there.

    Never, as long as few are complete.
    """
    values = [
        trial.intermediate_values[step]
        for trial in _trials(study, TrialState.COMPLETE)
        if step in trial.intermediate_values
    ]
    return len(values) >= _TRIALS_BEFORE_PRUNING and value < float(np.median(values))


def _open_journal(file: Path) -> optuna.Study:
    lock: Any = _JournalLock(file)
    storage = JournalStorage(JournalFileBackend(str(file), lock))
    if _NAME in optuna.get_all_study_names(storage):
        return optuna.load_study(study_name=_NAME, storage=storage)
    return optuna.create_study(study_name=_NAME, storage=storage, direction="maximize")


def _trials(study: Study, *states: TrialState) -> list[FrozenTrial]:
    return study.study.get_trials(deepcopy=False, states=states)


def _switched(study: Study) -> list[dict[str, Any]]:
    """The recipe's own settings with one that is no number, or one of few, another; all of those.

    Where several change at once, what a switch is worth drowns in what the others do.
    """
    own = study.space.own
    return [
        own | {name: choice}
        for name, distribution in study.space.distributions.items()
        if isinstance(distribution, CategoricalDistribution)
        for choice in distribution.choices
        if choice != own[name]
    ]


def _kept(study: Study, rng: np.random.Generator) -> dict[str, Any]:
    """What the next trial has from the best one so far, or from the recipe before there is one.

    Few trials of a dozen settings find more around what is known to be good than anywhere.
    """
    complete = _trials(study, TrialState.COMPLETE)
    best = max(complete, key=lambda trial: trial.value or 0.0).params if complete else {}
    base = best or study.space.own
    changed = rng.random(len(base)) < _CHANGED_SHARE
    changed[rng.integers(len(base))] = True
    return {name: base[name] for name, new in zip(base, changed, strict=True) if not new}


def _drawn(study: Study, trial: FrozenTrial) -> dict[str, Any]:
    """What was drawn for a trial, or what was asked for where that is not yet done."""
    if trial.params.keys() == study.space.dimensions.keys():
        return trial.params
    queued: dict[str, Any] = trial.system_attrs.get("fixed_params", {})
    return queued


def _release_abandoned(study: Study) -> None:
    """Fail the trials of dead processes, and queue their settings again."""
    for trial in _trials(study, TrialState.RUNNING):
        # A process writes this down before it lets go of the lock.
        process = trial.user_attrs.get(_PROCESS)
        if process is None or not _is_alive(*process):
            _requeue(study, trial)


def _requeue(study: Study, trial: FrozenTrial) -> None:
    study.study.tell(trial.number, state=TrialState.FAIL)
    drawn = _drawn(study, trial)
    if drawn.keys() == study.space.dimensions.keys():
        study.study.enqueue_trial(drawn)


def _is_alive(node: str, pid: int, start: float) -> bool:
    """Whether a process is there; one on another machine is taken to be."""
    if node != platform.node():
        return True
    try:
        process = psutil.Process(pid)
        same = abs(process.create_time() - start) < _START_TOLERANCE
        return same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _identity(place: Place, objective: Objective) -> dict[str, Any]:
    """What a study is of; two processes that agree on it may share one."""
    recipe = computed_fields(place.space.recipe)
    compared = {
        name: value
        for name, value in recipe.items()
        if name not in _NOT_COMPARED and not name.startswith("gate")
    }
    return {
        **{name: recipe[name] for name in ("dataset", "features", "semantics")},
        "data_digest": place.data_digest(),
        "objective": objective,
        "class_draws": len(place.class_draws),
        "model": place.model_class.__name__,
        "device": place.device.type,
        "precision": place.precision,
        "recipe": compared,
        "search": ", ".join(place.space.dimensions),
        "range": place.space.describe(),
    }


def _check_identity(file: Path, found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    ours, theirs = _flat(expected), _flat(found)
    for name in [*ours, *(name for name in theirs if name not in ours)]:
        if ours.get(name) != theirs.get(name):
            raise InputError(
                f"{file}, field '{name}': found {theirs.get(name)!r}, expected "
                f"{ours.get(name)!r} as asked for now; a study goes on with what it was started "
                "with, and --study names another folder"
            )


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= {f"{name}.{inner}": v for inner, v in value.items()}
        else:
            flat[name] = value
    return flat


class _JournalLock:
    """A lock on the journal that no killed process keeps, as Optuna's own kinds would be kept.

    Whoever takes it cuts off a line that a kill has left unfinished.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._lock = FileLock(file.with_name(".journal.lock"))

    def acquire(self) -> bool:
        self._lock.acquire()
        with self._file.open("rb+") as journal:
            if journal.seek(0, os.SEEK_END) > 0:
                journal.seek(-1, os.SEEK_END)
                if journal.read() != b"\n":
                    journal.seek(0)
                    journal.truncate(journal.read().rfind(b"\n") + 1)
        return True

    def release(self) -> None:
        self._lock.release()
