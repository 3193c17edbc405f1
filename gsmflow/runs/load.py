"""A finished run as an object in scikit-learn's manner: predictions, samples, encoded features."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gsmflow.core.arrays import FloatArray
from gsmflow.core.devices import pick_device
from gsmflow.core.errors import InputError, naming_parameters
from gsmflow.core.python_values import as_path, without_gradient
from gsmflow.core.run_files import RECIPE_FILE
from gsmflow.data.new_rows import rows_of_array
from gsmflow.evaluation.probabilities import class_probabilities
from gsmflow.learning.contract import Encoding
from gsmflow.learning.scorers import feature_map
from gsmflow.methods.gates.base import Gated
from gsmflow.recipes.recipe import Recipe
from gsmflow.reports.run_list import no_finished_run
from gsmflow.runs.checkpoint import TrainedRun, open_trained
from gsmflow.runs.directory import read_run_recipe
from gsmflow.runs.gate_checkpoint import read_gate
from gsmflow.runs.predict import score_slabs, temperature_of
from gsmflow.runs.sample import find_class, sample_class

__all__ = ["LoadedRun", "load"]


@dataclass(frozen=True, eq=False)
class LoadedRun:
    """A finished run that answers as the verb ``predict`` does.

    It answers with the run's gate, if it was trained with one, or else with the calibration factor
    gamma that it chose, if any. Features are unscaled, as in the file of the run's dataset.

    Attributes
    ----------
    trained
        The run: its model, scaling, scorer and files.
    gated
        The run's gate; None without one.
    gamma
        The calibration factor gamma, subtracted from the scores of seen classes; None without
        calibration. `dataclasses.replace` gives a run with another one.
    """

    trained: TrainedRun
    gated: Gated | None
    gamma: float | None

    @property
    def recipe(self) -> Recipe:
        """The recipe of the run."""
        return self.trained.recipe

    @property
    def metrics(self) -> dict[str, Any]:
        """The content of the run's ``metrics.json``; shares in [0, 1]."""
        return self.trained.metrics

    @property
    def classes_(self) -> NDArray[np.str_]:
        """Names of the seen and unseen classes, ascending, ``(k,)``: the columns of scores."""
        return np.sort(self._scored_names())

    @property
    def seen_classes_(self) -> NDArray[np.str_]:
        """Names of the seen classes, ascending."""
        return np.sort(np.array(self.trained.kept.class_names)[self.trained.kept.seen_classes])

    @property
    def unseen_classes_(self) -> NDArray[np.str_]:
        """Names of the unseen classes, ascending."""
        return np.sort(self._unseen_names())

    @property
    def n_features_in_(self) -> int:
        """``d``, the number of features."""
        return self.trained.feature_dim

    def decision_function(self, X: ArrayLike) -> NDArray[np.float64]:
        """Scores of rows ``(n, d)``, ``(n, k)``, columns as in `classes_`.

        They are those of the run's method, less gamma for seen classes, or those that the gate
        combines.

        Raises
        ------
        InputError
            If the rows are not finite numbers of the run's width.
        """
        return self._scores(X)[:, np.argsort(self._scored_names(), kind="stable")]

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Probabilities of all classes, ``(n, k)``; each row sums to 1.

        They are the softmax of `decision_function` over the temperature that the run fitted on its
        validation classes, as `predict` of the command line writes them. Where it has none, the
        temperature is 1: in a run without validation or one made before temperatures were fitted,
        with a gate other than `cosmo`, and of methods such as ESZSL without gamma. Then they are
        probabilities only if the scores are log-probabilities, and else order the classes.

        Raises
        ------
        InputError
            As `decision_function`.
        """
        temperature = temperature_of(self.trained, self.gamma, gated=self.gated)
        return class_probabilities(self.decision_function(X), temperature or 1.0)

    def predict(self, X: ArrayLike) -> NDArray[np.str_]:
        """The best class, seen or unseen, of each row ``(n, d)``, ``(n,)``.

        Raises
        ------
        InputError
            As `decision_function`.
        """
        return np.asarray(self._scored_names()[self._scores(X).argmax(axis=1)])

    def predict_unseen(self, X: ArrayLike) -> NDArray[np.str_]:
        """The best unseen class of each row ``(n, d)``, ``(n,)``: plain zero-shot learning.

        Raises
        ------
        InputError
            As `decision_function`.
        """
        slabs = score_slabs(self.trained, self._features(X), only="unseen")
        best = np.concatenate([scores.argmax(axis=1) for scores in slabs])
        return np.asarray(self._unseen_names()[best])

    def sample(self, label: str, n: int = 1, *, seed: int | None = None) -> FloatArray:
        """Synthesize features of a class, seen or unseen.

        Parameters
        ----------
        label
            One of `classes_`.
        n
            How many, ``>= 1``.
        seed
            Of the random numbers, ``>= 0``; None for the seed of the run.

        Returns
        -------
        array
            ``(n, d)``, unscaled as in the dataset's file; with ``feature_scaling="l2"`` of length
            about 1.

        Raises
        ------
        InputError
            If there is no such class, the model synthesizes no features, or a number is too low.
        """
        number = find_class(self.trained, label, "label")
        if n < 1:
            raise InputError(f"n: found {n}, expected a number of at least 1")
        chosen = self.recipe.seed if seed is None else seed
        if chosen < 0:
            raise InputError(f"seed: found {chosen}, expected a number of at least 0")
        return sample_class(self.trained, number, n, chosen)

    def encode(self, X: ArrayLike) -> FloatArray:
        """What the run's classifiers see of rows ``(n, d)``: the model's code of each, ``(n, r)``.

        Raises
        ------
        InputError
            As `decision_function`, or if the model encodes no features.
        """
        trained = self.trained
        if not isinstance(trained.kept.model, Encoding):
            raise InputError(
                f"{trained.directory}: found a model that encodes no features "
                f"({self.metrics['model']}), expected one that does, such as cada-vae"
            )
        encoded = feature_map(trained.kept.scaling, trained.kept.model, trained.device)
        return encoded(self._features(X))

    def _scored_names(self) -> NDArray[np.str_]:
        """Names of the classes in the order of the run's score columns: seen, then unseen."""
        return np.array(self.trained.kept.class_names)[self.trained.classes]

    def _unseen_names(self) -> NDArray[np.str_]:
        return np.array(self.trained.kept.class_names)[self.trained.kept.unseen_classes]

    def _features(self, X: ArrayLike) -> FloatArray:
        return rows_of_array("X", np.asarray(without_gradient(X)), self.n_features_in_)

    def _scores(self, X: ArrayLike) -> NDArray[np.float64]:
        slabs = score_slabs(self.trained, self._features(X), self.gamma, gated=self.gated)
        return np.concatenate([np.asarray(scores, dtype=np.float64) for scores in slabs])


def load(
    path: str | Path,
    *,
    seed: int | None = None,
    class_split: int | None = None,
    device: str = "auto",
) -> LoadedRun:
    """Read a finished run.

    Parameters
    ----------
    path
        The run directory, such as ``out/FLO/20250131-101500-seed0``.
    seed
        Of a run of several seeds, the seed to read; None for the first.
    class_split
        Of a run of several random class splits, the split to read; None for the first.
    device
        cpu, cuda, cuda:1, mps, or auto for the fastest available.

    Raises
    ------
    InputError
        If there is no finished run of this seed and split, or one of its files is missing or
        damaged.
    """
    with naming_parameters():
        place = pick_device(device)
    trained = open_trained(_directory_of_run(as_path("path", path), class_split, seed), place)
    gated = None if trained.recipe.gate_name == "none" else read_gate(trained)
    return LoadedRun(trained, gated, None if gated is not None else trained.gamma)


def _directory_of_run(directory: Path, class_split: int | None, seed: int | None) -> Path:
    """The run itself, or the run of a class split and a seed below it."""
    recipe = _recipe_in(directory)
    first = recipe.class_split or 0
    splits = range(first, first + recipe.class_splits)
    if not splits and recipe.class_split is not None:
        splits = range(first, first + 1)
    split = _one_of(splits, class_split, "class_split", directory)
    if recipe.class_splits:
        directory = directory / f"split{split}"
        recipe = _recipe_in(directory)
    chosen = _one_of(range(recipe.seed, recipe.seed + recipe.seeds), seed, "seed", directory)
    below = directory / f"seed{chosen}"
    return below if (below / RECIPE_FILE).exists() or recipe.seeds > 1 else directory


def _recipe_in(directory: Path) -> Recipe:
    if not (directory / RECIPE_FILE).exists():
        raise no_finished_run(directory, f"{directory / RECIPE_FILE}: no such file")
    return read_run_recipe(directory)


def _one_of(numbers: range, asked: int | None, name: str, directory: Path) -> int | None:
    """The number that is asked for, or the first; None if there is none at all."""
    if asked is None:
        return numbers[0] if numbers else None
    if asked not in numbers:
        expected = f"one of {numbers[0]} to {numbers[-1]}" if len(numbers) > 1 else "none"
        expected = f"{numbers[0]}" if len(numbers) == 1 else expected
        raise InputError(f"{name}: found {asked}, expected {expected}, as {directory} was run with")
    return asked
