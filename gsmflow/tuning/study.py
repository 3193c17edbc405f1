"""The study: trials in a journal that survives kills and that several processes share.

A process claims a trial while it holds a lock. If a process dies, its trial is claimed again with
the same settings, and resumes from the state in the trial's directory. The sampler is seeded for
each trial from the number of trials before it, so that a study of one process has the same trials
however often it is killed.
"""

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

from gsmflow.core.errors import InputError, WriteError, naming_flag, one_line
from gsmflow.core.files import cut_torn_line
from gsmflow.core.folders import locked, remove_leftovers
from gsmflow.runs.directory import computed_fields
from gsmflow.runs.slurm_executor import Queue, this_job
from gsmflow.tuning.space import Space
from gsmflow.tuning.trial import Objective, StudySetup

__all__ = [
    "Study",
    "claim",
    "finished_trials",
    "give_back",
    "is_script_recipe",
    "lags_behind",
    "open_study",
    "quiet_optuna",
]

_NAME = "tune"
_IDENTITY = "identity"
_PROCESS = "process"
_JOB = "slurm_job"
# The first trials are drawn at random, before the sampler has enough to learn from. No trial is
# pruned before so many are complete.
_RANDOM_TRIALS = 10
_TRIALS_BEFORE_PRUNING = 5
# Share of the settings in which a trial differs from the best one before it.
_CHANGED_SHARE = 1 / 3
# Fields of the recipe that no trial depends on, or that the identity has elsewhere.
_NOT_COMPARED = {
    *("data", "device", "precision", "beside", "calibrate", "curve_every", "oracle", "seeds"),
    *("test_selected", "top_k", "shots", "shot_draws", "dataset", "features", "semantics"),
    "classifiers_beside",
}
# Seconds. Two processes with the same id start further apart than this.
_START_TOLERANCE = 2.0
_DONE = (TrialState.COMPLETE, TrialState.PRUNED)


@dataclass(frozen=True, eq=False)
class Study:
    """A study that is open in this process.

    Attributes
    ----------
    study
        Optuna's study.
    space
        The settings that are searched.
    objective
        The measure that is maximized.
    folder
        Its folder, which a process locks while it claims a trial.
    queue
        What SLURM says of the jobs that run trials.
    """

    study: optuna.Study
    space: Space
    objective: Objective
    folder: Path
    queue: Queue


@contextmanager
def quiet_optuna() -> Iterator[None]:
    """A context in which Optuna logs errors alone and does not warn of experimental features."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(before)


def open_study(setup: StudySetup, objective: Objective) -> Study:
    """Begin the study in the setup's folder, or join the one that is there.

    Raises
    ------
    InputError
        If the folder holds another study.
    WriteError
        If it cannot be written.
    """
    file = setup.folder / "study.log"
    identity = _identity(setup, objective)
    try:
        with naming_flag("--study", setup.folder, "a folder"):
            setup.folder.mkdir(parents=True, exist_ok=True)
        with locked(setup.folder, patience=-1):
            remove_leftovers(setup.folder)
            study = _open_journal(file)
            if setup.trains and _IDENTITY not in study.user_attrs:
                study.set_user_attr(_IDENTITY, identity)
    except (InputError, WriteError):
        raise
    except Exception as error:
        raise InputError(
            f"{file}: not readable as a study ({type(error).__name__}: {one_line(error)}), "
            "expected the file that a study wrote; name another folder with --study"
        ) from error
    found = study.user_attrs.get(_IDENTITY, identity)
    if not setup.trains:  # the jobs of a cluster may have another device
        found = {**found, **{name: identity[name] for name in ("device", "precision")}}
    _check_identity(file, found, identity)
    return Study(study, setup.space, objective, setup.folder, Queue())


def claim(study: Study, trials: int) -> Trial | None:
    """Claim the next trial, with its settings; None if all ``trials`` are finished or claimed."""
    with locked(study.folder, patience=-1):
        _release_abandoned(study)
        listed = _trials(study, *_DONE, TrialState.RUNNING, TrialState.WAITING)
        waiting = sum(trial.state == TrialState.WAITING for trial in listed)
        claimed = len(listed) - waiting
        if claimed >= trials:
            return None
        seed = np.random.SeedSequence([study.space.recipe.seed, zlib.crc32(b"tune"), claimed])
        if not any(is_script_recipe(study, trial) for trial in listed):
            study.study.enqueue_trial(study.space.recipe_params)
        elif not waiting:
            switched = _switched(study)[claimed - 1 : claimed]
            fixed = switched[0] if switched else _fixed_params(study, np.random.default_rng(seed))
            study.study.enqueue_trial(fixed)
        study.study.sampler = optuna.samplers.TPESampler(
            seed=int(seed.generate_state(1)[0]),
            n_startup_trials=_RANDOM_TRIALS,
            multivariate=True,
            constant_liar=True,
        )
        trial = study.study.ask(study.space.distributions)
        process = psutil.Process()
        job = this_job()
        if job is not None:
            trial.set_user_attr(_JOB, job)
        trial.set_user_attr(_PROCESS, [platform.node(), process.pid, process.create_time()])
        return trial


def give_back(study: Study, trial: Trial) -> None:
    """Mark a trial as failed that this process will not finish, and queue its settings again."""
    with locked(study.folder, patience=-1):
        _requeue(study, study.study.get_trials(deepcopy=False)[trial.number])


def finished_trials(study: Study) -> list[FrozenTrial]:
    """The complete and the pruned trials, in the order of their claims."""
    return _trials(study, *_DONE)


def is_script_recipe(study: Study, trial: FrozenTrial) -> bool:
    """Whether a trial's settings are those of the script's recipe."""
    return _drawn(study, trial) == study.space.recipe_params


def lags_behind(study: Study, value: float, step: int) -> bool:
    """Whether a trial's value at a step is below the median of the complete trials at that step.

    False while fewer than ``_TRIALS_BEFORE_PRUNING`` trials are complete.
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
    """All copies of the recipe's settings in which one categorical setting has another value.

    If several settings changed at once, the effect of a single switch could not be seen.
    """
    params = study.space.recipe_params
    return [
        params | {name: choice}
        for name, distribution in study.space.distributions.items()
        if isinstance(distribution, CategoricalDistribution)
        for choice in distribution.choices
        if choice != params[name]
    ]


def _fixed_params(study: Study, rng: np.random.Generator) -> dict[str, Any]:
    """The settings that the next trial takes from the best trial so far, or from the recipe.

    The sampler draws the rest. With a dozen settings and few trials, a search near the best known
    settings finds more than one of the whole space.
    """
    complete = _trials(study, TrialState.COMPLETE)
    best = max(complete, key=lambda trial: trial.value or 0.0).params if complete else {}
    base = best or study.space.recipe_params
    changed = rng.random(len(base)) < _CHANGED_SHARE
    changed[rng.integers(len(base))] = True
    return {name: base[name] for name, new in zip(base, changed, strict=True) if not new}


def _drawn(study: Study, trial: FrozenTrial) -> dict[str, Any]:
    """The drawn values of a trial, or the queued ones if it is not drawn yet."""
    if trial.params.keys() == study.space.dimensions.keys():
        return trial.params
    queued: dict[str, Any] = trial.system_attrs.get("fixed_params", {})
    return queued


def _release_abandoned(study: Study) -> None:
    """Mark the trials of dead processes as failed, and queue their settings again."""
    running = _trials(study, TrialState.RUNNING)
    jobs = [trial.user_attrs[_JOB][0] for trial in running if _JOB in trial.user_attrs]
    if jobs:
        study.queue.ask(jobs)
    for trial in running:
        # A process writes this attribute before it releases the lock.
        process = trial.user_attrs.get(_PROCESS)
        if process is None or not _is_alive(*process) or _has_lost_its_job(study, trial):
            _requeue(study, trial)


def _has_lost_its_job(study: Study, trial: FrozenTrial) -> bool:
    """Whether a trial's job of a cluster has ended, or is this one, begun again."""
    job = trial.user_attrs.get(_JOB)
    if job is None:
        return False
    ours = this_job()
    begun_again = ours is not None and job[0] == ours[0] and job[1] != ours[1]
    return begun_again or job[0] in study.queue.lost


def _requeue(study: Study, trial: FrozenTrial) -> None:
    study.study.tell(trial.number, state=TrialState.FAIL)
    drawn = _drawn(study, trial)
    if drawn.keys() == study.space.dimensions.keys():
        study.study.enqueue_trial(drawn)


def _is_alive(node: str, pid: int, start: float) -> bool:
    """Whether a process is running; one on another machine is assumed to be."""
    if node != platform.node():
        return True
    try:
        process = psutil.Process(pid)
        same = abs(process.create_time() - start) < _START_TOLERANCE
        return same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _identity(setup: StudySetup, objective: Objective) -> dict[str, Any]:
    """All that a study depends on; two processes may share a study only if these are equal."""
    recipe = computed_fields(setup.space.recipe)
    compared = {
        name: value
        for name, value in recipe.items()
        if name not in _NOT_COMPARED and not name.startswith("gate")
    }
    return {
        **{name: recipe[name] for name in ("dataset", "features", "semantics")},
        "data_digest": setup.data_digest(),
        "objective": objective,
        "class_draws": len(setup.class_draws),
        "model": setup.model_class.__name__,
        "device": setup.device.type,
        "precision": setup.precision,
        "recipe": compared,
        "search": ", ".join(setup.space.dimensions),
        "range": setup.space.describe(),
    }


def _check_identity(file: Path, found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    ours, theirs = _flat(expected), _flat(found)
    for name in [*ours, *(name for name in theirs if name not in ours)]:
        if ours.get(name) != theirs.get(name):
            raise InputError(
                f"{file}, field '{name}': found {theirs.get(name)!r}, expected "
                f"{ours.get(name)!r} as asked for now; a study goes on with the values that it was "
                "started with, and --study names another folder"
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
    """A lock on the journal that is free again if its process is killed; Optuna's locks are not.

    Acquiring it also cuts off a line that a killed process has left unfinished.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._lock = FileLock(file.with_name(".journal.lock"))

    def acquire(self) -> bool:
        self._lock.acquire()
        try:
            cut_torn_line(self._file, b'{"op_code":')
        except BaseException:
            self._lock.release()
            raise
        return True

    def release(self) -> None:
        self._lock.release()
